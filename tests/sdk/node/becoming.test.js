// A guest's whole life by a plain OAuth library: made, renewed, converted, signed in and merged at the token endpoint. The only
// other requests are those that the library itself sends with an access token, and the sending of a code.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { decodeJwt } from 'jose';
import * as oauth from 'oauth4webapi';
import * as client from 'openid-client';

import { API, WEB_SECRET, start } from './server.js';

const GUEST = 'urn:passerby:params:oauth:grant-type:guest';
const CLAIM = 'urn:passerby:params:oauth:grant-type:claim';
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS = 'urn:ietf:params:oauth:token-type:access_token';

let server;
before(async () => (server = await start()));
after(() => server?.stop());

/** The newest code that was sent to an address: the person looks into their mail. */
async function code(to) {
  const answer = await fetch(`${server.origin}/dev/mailbox/messages?to=${encodeURIComponent(to)}`);
  const [newest] = await answer.json();
  return newest.codes[0];
}

/** An app on one of the two libraries. */
const apps = {
  async oauth4webapi(clientId, secret) {
    const issuer = new URL(server.issuer);
    const http = { [oauth.allowInsecureRequests]: true };
    const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, http));
    const app = { client_id: clientId };
    const way = secret ? oauth.ClientSecretBasic(secret) : oauth.None();
    return {
      grants: as.grant_types_supported,
      grant: async (type, parameters = {}, more = {}) =>
        oauth.processGenericTokenEndpointResponse(
          as, app, await oauth.genericTokenEndpointRequest(as, app, way, type, parameters, { ...http, ...more })),
      renew: async (token) =>
        oauth.processRefreshTokenResponse(as, app, await oauth.refreshTokenGrantRequest(as, app, way, token, http)),
      call: (token, method, path, body) =>
        oauth.protectedResourceRequest(
          token, method, new URL(path, server.origin), new Headers({ 'content-type': 'application/json' }),
          body === undefined ? undefined : JSON.stringify(body), http),
      refused: (error) => ({ error, status: 400 }),
    };
  },
  async 'openid-client'(clientId, secret) {
    const config = await client.discovery(
      new URL(server.issuer), clientId, undefined, secret ? client.ClientSecretPost(secret) : client.None(),
      { execute: [client.allowInsecureRequests] });
    return {
      grants: config.serverMetadata().grant_types_supported,
      grant: (type, parameters = {}) => client.genericGrantRequest(config, type, parameters),
      renew: (token) => client.refreshTokenGrant(config, token),
      call: (token, method, path, body) =>
        client.fetchProtectedResource(
          config, token, new URL(path, server.origin), method, body === undefined ? undefined : JSON.stringify(body),
          new Headers({ 'content-type': 'application/json' })),
      refused: (error) => ({ error, status: 400 }),
    };
  },
};

async function claimed(app, tokens, email) {
  const answer = await app.call(tokens.access_token, 'POST', '/v1/me/identifiers', { email });
  assert.equal(answer.status, 202);
  return (await answer.json()).claim.id;
}

for (const [library, open] of Object.entries(apps)) {
  for (const [clientId, secret] of [['demo-spa'], ['demo-game'], ['demo-web', WEB_SECRET]]) {
    test(`${library}, ${clientId}: from nobody to an account, and a guest along`, async () => {
      const app = await open(clientId, secret);
      for (const grant of [GUEST, CLAIM, EXCHANGE]) assert.ok(app.grants.includes(grant));
      const email = `${clientId}.${library}@example.com`;
      const sub = (tokens) => decodeJwt(tokens.access_token).sub;
      const me = async (tokens) => (await app.call(tokens.access_token, 'GET', '/v1/me')).json();

      // made and renewed, floating or stored
      const made = await app.grant(GUEST, { data: JSON.stringify({ level: 3 }), entry: 'shop' });
      assert.equal(decodeJwt(made.access_token).is_anonymous, true);
      assert.equal(decodeJwt(made.access_token).floating, clientId === 'demo-spa' ? undefined : true);
      const renewed = await app.renew(made.refresh_token);
      assert.equal(sub(renewed), sub(made));
      assert.deepEqual((await me(renewed)).data, { level: 3 });

      // converted
      const claim = await claimed(app, renewed, email);
      const proof = { subject_token: renewed.access_token, subject_token_type: ACCESS, claim, password: 'correct horse battery' };
      await assert.rejects(app.grant(CLAIM, proof), app.refused('authorization_pending'));
      const right = await code(email);
      const wrong = String((Number(right) + 1) % 1e6).padStart(6, '0');
      await assert.rejects(app.grant(CLAIM, { ...proof, code: wrong }), app.refused('invalid_grant'));
      const account = await app.grant(CLAIM, { ...proof, code: right });
      assert.equal(sub(account), sub(made), 'the id never changes');
      assert.equal(decodeJwt(account.access_token).is_anonymous, false);
      assert.deepEqual((await me(account)).data, { level: 3 });
      await assert.rejects(app.renew(renewed.refresh_token), app.refused('invalid_grant'));
      assert.equal(sub(await app.renew(account.refresh_token)), sub(made));

      // signed in anew, and what a guest has comes along
      const begun = await fetch(`${server.origin}/v1/sign-in`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(secret && { authorization: `Basic ${btoa(`${clientId}:${secret}`)}` }),
        },
        body: JSON.stringify({ client_id: clientId, method: 'code', email }),
      });
      assert.equal(begun.status, 202);
      const signIn = (await begun.json()).claim.id;
      const signedIn = await app.grant(CLAIM, { claim: signIn, code: await code(email) });
      assert.equal(sub(signedIn), sub(made));
      const guest = await app.grant(GUEST, { data: JSON.stringify({ hat: 'red' }) });
      const both = (subject, actor) => ({
        subject_token: subject.access_token, subject_token_type: ACCESS, actor_token: actor.access_token, actor_token_type: ACCESS,
      });
      await assert.rejects(app.grant(EXCHANGE, both(signedIn, signedIn)), app.refused('invalid_request'));
      await assert.rejects(app.grant(EXCHANGE, both(guest, guest)), app.refused('invalid_request'));
      const merged = await app.grant(EXCHANGE, { ...both(signedIn, guest), requested_token_type: ACCESS });
      assert.equal(merged.issued_token_type, ACCESS);
      assert.equal(sub(merged), sub(made));
      assert.equal(decodeJwt(merged.receipt).guest_id, sub(guest));
      assert.deepEqual((await me(merged)).data, { level: 3, hat: 'red' });
      assert.equal((await app.grant(EXCHANGE, both(guest, signedIn))).receipt, merged.receipt, 'the other way round, and again');
      await assert.rejects(app.renew(guest.refresh_token), app.refused('invalid_grant'));

      // an address that has an account
      const late = await app.grant(GUEST, { persist: 'true', data: JSON.stringify({ shoes: 2 }) });
      const taken = await claimed(app, late, email);
      const refusal = await app.grant(CLAIM, { subject_token: late.access_token, claim: taken, code: await code(email) })
        .then(() => assert.fail('it is taken'), (error) => error);
      assert.equal(refusal.error, 'merge_required');
      const answer = await app.call(late.access_token, 'POST', '/v1/me/merge', { merge_ticket: refusal.cause.merge_ticket });
      assert.deepEqual((await answer.json()).user.data, { level: 3, hat: 'red', shoes: 2 });
    });
  }
}

test('a guest of a key, and tokens for an API', async () => {
  const app = await apps.oauth4webapi('demo-spa');
  const keys = await oauth.generateKeyPair('ES256');
  const DPoP = oauth.DPoP({ client_id: 'demo-spa' }, keys);
  const asked = async (parameters) => {
    try {
      return await app.grant(GUEST, parameters, { DPoP });
    } catch (error) {
      // the first proof has no nonce yet
      if (!oauth.isDPoPNonceError(error)) throw error;
      return app.grant(GUEST, parameters, { DPoP });
    }
  };
  const first = await asked({});
  assert.equal(first.token_type, 'dpop');
  const second = await asked({ resource: API, scope: 'read:cart' });
  assert.equal(decodeJwt(second.access_token).sub, decodeJwt(first.access_token).sub);
  assert.equal(decodeJwt(second.access_token).aud, API);
  assert.equal(second.scope, 'read:cart');
});
