// Started by ../auth0.test.js with a server, its certificate and a client's key in the environment.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { AnonymousSessionError, AuthClient } from '@auth0/auth0-auth-js';
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose';

import { API, WEB_SECRET } from '../server.js';

const domain = process.env.AUTH0_DOMAIN;
const issuer = `https://${domain}/`;
const open = (clientId, more) => new AuthClient({ domain, clientId, ...more });
const is = (code) => (e) => e instanceof AnonymousSessionError && e.code === code;

async function claims(token, audience = issuer) {
  const { payload } = await jwtVerify(token, createRemoteJWKSet(new URL('.well-known/jwks.json', issuer)), { issuer, audience });
  return payload;
}

for (const clientId of ['demo-spa', 'demo-game']) {
  test(`create and continue: ${clientId}`, async () => {
    const { anonymous } = open(clientId);
    const made = await anonymous.createSession({ metadata: { language: 'en', cart: { items: [{ sku: 'A1', qty: 2 }] } } });
    const first = await claims(made.accessToken);
    assert.match(first.sub, /^anon@[0-9a-f-]{36}$/);
    assert.equal(first[`${issuer}user_type`], 'anonymous');
    assert.ok(made.sessionTokenExpiresAt > made.expiresAt);

    for (const options of [{}, { audience: API, scope: 'read:cart' }, { audience: API }]) {
      const more = await anonymous.getAccessToken({ sessionToken: made.sessionToken, ...options });
      assert.equal(more.sessionReplaced, false);
      const then = await claims(more.accessToken, options.audience);
      assert.deepEqual([then.sub, then.sid], [first.sub, first.sid]);
      assert.equal(more.scope, options.audience && (options.scope ?? 'read:cart write:cart'));
    }
  });
}

test('a broken session token makes another guest', async () => {
  const { anonymous } = open('demo-spa');
  const made = await anonymous.createSession();
  for (const sessionToken of ['nonsense', `${made.sessionToken}x`, made.accessToken]) {
    const other = await anonymous.getAccessToken({ sessionToken });
    assert.equal(other.sessionReplaced, true);
    assert.notEqual(decodeJwt(other.accessToken).sub, decodeJwt(made.accessToken).sub);
  }
  const foreign = await open('demo-game').anonymous.getAccessToken({ sessionToken: made.sessionToken });
  assert.equal(foreign.sessionReplaced, true, "another client's session");
});

test('a wrong wish never costs the guest', async () => {
  const { anonymous } = open('demo-spa');
  const { sessionToken } = await anonymous.createSession();
  await assert.rejects(anonymous.getAccessToken({ sessionToken, audience: 'https://nowhere.example' }), is('invalid_target'));
  await assert.rejects(anonymous.getAccessToken({ sessionToken, audience: API, scope: 'all' }), is('invalid_scope'));
  assert.equal((await anonymous.getAccessToken({ sessionToken })).sessionReplaced, false);
});

test('refusals', async () => {
  await assert.rejects(open('nobody').anonymous.createSession(), is('invalid_client'));
  await assert.rejects(open('demo-web').anonymous.createSession(), is('invalid_client'));
  await assert.rejects(open('demo-web', { clientSecret: 'wrong' }).anonymous.createSession(), is('invalid_client'));
  await assert.rejects(open('demo-spa').anonymous.createSession({ metadata: { text: 'x'.repeat(1024) } }), is('invalid_request'));
  await assert.rejects(open('demo-spa').anonymous.createSession({ metadata: ['a'] }), is('invalid_request'));
});

test('clients that authenticate', async () => {
  const bySecret = open('demo-web', { clientSecret: WEB_SECRET }).anonymous;
  const byKey = open('demo-key', { clientAssertionSigningKey: process.env.CLIENT_KEY }).anonymous;
  for (const anonymous of [bySecret, byKey]) {
    const made = await anonymous.createSession({ audience: API });
    await claims(made.accessToken, API);
    const more = await anonymous.getAccessToken({ sessionToken: made.sessionToken });
    assert.equal(more.sessionReplaced, false);
    assert.equal(typeof (await anonymous.mintTransferToken(made.sessionToken)), 'string');
  }
});

test('a transfer ticket is opaque', async () => {
  const { anonymous } = open('demo-spa');
  const made = await anonymous.createSession();
  const ticket = await anonymous.mintTransferToken(made.sessionToken);
  assert.equal(ticket.split('.').length, 5);
  assert.equal(await anonymous.mintTransferToken('nonsense'), null);
  const used = await anonymous.getAccessToken({ sessionToken: ticket });
  assert.equal(used.sessionReplaced, true, 'a ticket is no session token');
});

test('the browser SDK', async () => {
  // what it touches of a browser before it asks the network
  globalThis.window = globalThis;
  globalThis.location ??= new URL('https://app.example/');
  globalThis.document ??= { cookie: '' };
  globalThis.addEventListener ??= () => {};
  globalThis.removeEventListener ??= () => {};
  const kept = new Map();
  globalThis.localStorage ??= {
    get length() { return kept.size; },
    key: (n) => [...kept.keys()][n] ?? null,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, String(value)),
    removeItem: (key) => void kept.delete(key),
    clear: () => kept.clear(),
  };
  const { Auth0Client } = await import('@auth0/auth0-spa-js');
  const auth0 = new Auth0Client({ domain, clientId: 'demo-spa', anonymousSessionsCacheMode: 'memory', cacheLocation: 'memory' });
  const made = await auth0.anonymous.createSession({ metadata: { language: 'en' } });
  assert.equal(auth0.anonymous.hasSession(), true);
  const more = await auth0.anonymous.getTokenSilently({ audience: API });
  assert.equal((await claims(more.accessToken, API)).sub, (await claims(made.accessToken)).sub);
});
