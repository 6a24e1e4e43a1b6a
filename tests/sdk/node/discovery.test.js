// Libraries that know nothing but the issuer.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import * as client from 'openid-client';

import { API, ROOT_KEY, WEB_SECRET, anonymous, guest, start } from './server.js';

let server, as;
const http = { [oauth.allowInsecureRequests]: true };
const spa = { client_id: 'demo-spa' };
const web = { client_id: 'demo-web' };

before(async () => {
  server = await start();
  const issuer = new URL(server.issuer);
  as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, http));
});
after(() => server?.stop());

test('both documents are one, and may be kept', async () => {
  const issuer = new URL(server.issuer);
  const other = await oauth.discoveryRequest(issuer, { ...http, algorithm: 'oauth2' });
  assert.match(other.headers.get('cache-control'), /max-age=300/);
  assert.deepEqual(await oauth.processDiscoveryResponse(issuer, other), as);
  assert.equal(as.issuer, server.issuer);

  const keys = await fetch(as.jwks_uri);
  assert.equal(keys.headers.get('content-type'), 'application/json');
  const again = await fetch(as.jwks_uri, { headers: { 'if-none-match': keys.headers.get('etag') } });
  assert.equal(again.status, 304);
  for (const key of (await keys.json()).keys) {
    assert.ok(key.kid && key.use === 'sig' && key.alg);
    assert.equal(key.d, undefined);
  }
});

test('every endpoint that is named exists', async () => {
  for (const [name, url] of Object.entries(as).filter(([name]) => /_(endpoint|uri)$/.test(name))) {
    const response = await fetch(url, { method: name === 'jwks_uri' || name === 'userinfo_endpoint' ? 'GET' : 'POST' });
    assert.notEqual(response.status, 404, name);
    assert.notEqual(response.status, 405, name);
    assert.ok(response.status < 500, name);
  }
});

test('jose verifies an access token', async () => {
  const { status, body } = await guest(server.origin, { client_id: 'demo-spa' });
  assert.equal(status, 201);
  const { payload, protectedHeader } = await jwtVerify(body.access_token, createRemoteJWKSet(new URL(as.jwks_uri)), {
    issuer: as.issuer,
    audience: as.issuer,
    typ: 'at+jwt',
    algorithms: as.id_token_signing_alg_values_supported,
    requiredClaims: ['sub', 'client_id', 'jti', 'iat', 'exp', 'sid', 'epoch'],
  });
  assert.equal(payload.sub, body.user.id);
  assert.equal(payload.is_anonymous, true);
  assert.equal(payload.client_id, 'demo-spa');
  assert.ok(protectedHeader.kid);
});

test('a resource server by RFC 9068', async () => {
  for (const [client_id, floating] of [['demo-spa', undefined], ['demo-game', true]]) {
    const { status, body } = await anonymous(server.origin, { client_id, audience: API, scope: 'read:cart' });
    assert.equal(status, 200);
    assert.equal(body.scope, 'read:cart');
    const request = new Request(`${API}/cart`, { headers: { authorization: `Bearer ${body.access_token}` } });
    const claims = await oauth.validateJwtAccessToken(as, request, API, http);
    assert.equal(claims.scope, 'read:cart');
    assert.equal(claims.client_id, client_id);
    assert.equal(claims.floating, floating);
    await assert.rejects(oauth.validateJwtAccessToken(as, request, 'https://other.example.com', http));
  }
});

test('refresh rotates, forgives a lost answer, and an old token ends the session', async () => {
  const { body } = await guest(server.origin, { client_id: 'demo-spa' });
  const refresh = async (token) =>
    oauth.processRefreshTokenResponse(as, spa, await oauth.refreshTokenGrantRequest(as, spa, oauth.None(), token, http));
  const second = await refresh(body.refresh_token);
  assert.notEqual(second.refresh_token, body.refresh_token);
  assert.equal(second.token_type, 'bearer');
  assert.equal(decodeJwt(second.access_token).sub, body.user.id);
  assert.equal((await refresh(body.refresh_token)).refresh_token, second.refresh_token, 'the answer was lost: the newest again');
  const third = await refresh(second.refresh_token);
  const fourth = await refresh(third.refresh_token);
  // three generations behind: forgiven by no rule
  await assert.rejects(refresh(body.refresh_token), { error: 'invalid_grant', status: 400 });
  await assert.rejects(refresh(fourth.refresh_token), { error: 'invalid_grant', status: 400 });
  await assert.rejects(refresh('nonsense'), { error: 'invalid_grant' });
});

test('client credentials, by header and by body', async () => {
  for (const way of [oauth.ClientSecretBasic(WEB_SECRET), oauth.ClientSecretPost(WEB_SECRET)]) {
    const response = await oauth.clientCredentialsGrantRequest(as, web, way, { audience: API, scope: 'read:cart' }, http);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    const tokens = await oauth.processClientCredentialsResponse(as, web, response);
    const claims = decodeJwt(tokens.access_token);
    assert.deepEqual([claims.sub, claims.aud, claims.is_anonymous], ['demo-web', API, undefined]);
    assert.equal(tokens.refresh_token, undefined);
    assert.equal(decodeProtectedHeader(tokens.access_token).typ, 'at+jwt');
  }
  const wrong = await oauth.clientCredentialsGrantRequest(as, web, oauth.ClientSecretBasic('wrong'), {}, http);
  assert.equal(wrong.status, 401);
  assert.match(wrong.headers.get('www-authenticate'), /^Basic /);
  const open = await oauth.clientCredentialsGrantRequest(as, spa, oauth.None(), {}, http);
  assert.equal((await open.json()).error, 'unauthorized_client');
});

test('introspect, revoke, introspect', async () => {
  const { body } = await guest(server.origin, { client_id: 'demo-spa' });
  const ask = async (token) =>
    oauth.processIntrospectionResponse(
      as, web, await oauth.introspectionRequest(as, web, oauth.ClientSecretBasic(WEB_SECRET), token, http));
  const revoke = async (token) =>
    oauth.processRevocationResponse(await oauth.revocationRequest(as, spa, oauth.None(), token, http));

  const access = await ask(body.access_token);
  assert.deepEqual(
    [access.active, access.sub, access.client_id, access.iss, access.aud, access.token_type, access.is_anonymous],
    [true, body.user.id, 'demo-spa', as.issuer, as.issuer, 'Bearer', true]);
  assert.equal(access.jti, decodeJwt(body.access_token).jti);
  assert.equal((await ask(body.refresh_token)).active, true);

  await revoke(body.access_token);
  assert.deepEqual(await ask(body.access_token), { active: false });
  assert.equal((await ask(body.refresh_token)).active, true);
  await revoke(body.refresh_token);
  assert.deepEqual(await ask(body.refresh_token), { active: false });
  await revoke('nonsense');

  const byKey = (key) =>
    fetch(as.introspection_endpoint, {
      method: 'POST', headers: { authorization: `Bearer ${key}` }, body: new URLSearchParams({ token: 'nonsense' }) });
  assert.deepEqual(await (await byKey(ROOT_KEY)).json(), { active: false });
  const refused = await byKey('no-such-key');
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('www-authenticate'), /invalid_token/);
});

test('userinfo answers guests', async () => {
  const { body } = await guest(server.origin, { client_id: 'demo-spa' });
  const info = await oauth.processUserInfoResponse(
    as, spa, body.user.id, await oauth.userInfoRequest(as, spa, body.access_token, http));
  assert.equal(info.is_anonymous, true);
  const none = await fetch(as.userinfo_endpoint);
  assert.equal(none.status, 401);
  assert.doesNotMatch(none.headers.get('www-authenticate'), /error=/);
  const broken = await fetch(as.userinfo_endpoint, { headers: { authorization: 'Bearer nonsense' } });
  assert.equal(broken.status, 401);
  assert.match(broken.headers.get('www-authenticate'), /^Bearer .*error="invalid_token"/);
});

test('openid-client, from discovery to revocation', async () => {
  const execute = [client.allowInsecureRequests];
  const config = await client.discovery(new URL(server.issuer), 'demo-spa', undefined, client.None(), { execute });
  const { body } = await guest(server.origin, { client_id: 'demo-spa' });
  const tokens = await client.refreshTokenGrant(config, body.refresh_token, { resource: API });
  assert.equal(decodeJwt(tokens.access_token).aud, API);
  const info = await client.fetchUserInfo(config, body.access_token, body.user.id);
  assert.equal(info.sub, body.user.id);
  await client.tokenRevocation(config, tokens.refresh_token);
  await assert.rejects(client.refreshTokenGrant(config, tokens.refresh_token), { error: 'invalid_grant' });

  const own = await client.discovery(new URL(server.issuer), 'demo-web', WEB_SECRET, undefined, { execute });
  const granted = await client.clientCredentialsGrant(own, { audience: API });
  const active = await client.tokenIntrospection(own, granted.access_token);
  assert.deepEqual([active.active, active.aud, active.sub], [true, API, 'demo-web']);
});

test('refusals in the form of RFC 6749', async () => {
  const ask = async (text, type = 'application/x-www-form-urlencoded') => {
    const response = await fetch(as.token_endpoint, { method: 'POST', headers: { 'content-type': type }, body: text });
    const { error, error_description } = await response.json();
    assert.equal(typeof error_description, 'string');
    assert.equal(response.headers.get('cache-control'), 'no-store');
    return [response.status, error];
  };
  assert.deepEqual(await ask('client_id=demo-spa'), [400, 'invalid_request']);
  assert.deepEqual(await ask('client_id=demo-spa&grant_type=password'), [400, 'unsupported_grant_type']);
  assert.deepEqual(await ask('grant_type=refresh_token&client_id=demo-spa'), [400, 'invalid_request']);
  assert.deepEqual(await ask('grant_type=refresh_token&grant_type=refresh_token'), [400, 'invalid_request']);
  assert.deepEqual(await ask('grant_type=client_credentials&client_id=nobody'), [401, 'invalid_client']);
  assert.deepEqual(await ask('{"grant_type":"client_credentials","client_id":"demo-web"}', 'application/json'), [401, 'invalid_client']);
  assert.deepEqual(await ask('{', 'application/json'), [400, 'invalid_request']);
  assert.deepEqual(await ask(`grant_type=client_credentials&client_id=demo-web&client_secret=${WEB_SECRET}&audience=https://nowhere.example`), [400, 'invalid_target']);
  assert.deepEqual(await ask(`grant_type=client_credentials&client_id=demo-web&client_secret=${WEB_SECRET}&audience=${API}&scope=all`), [400, 'invalid_scope']);
});
