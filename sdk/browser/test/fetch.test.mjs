// `fetch` as the guest: to the server, to APIs, and to nobody else.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { Browser, Clock } from './support/browser.mjs';
import { Server } from './support/server.mjs';

const API = 'https://api.test';

function world(options, features) {
  const clock = new Clock();
  const server = new Server(clock);
  const api = { requests: [], answer: () => new Response('{"ok":true}') };
  const handle = server.handle.bind(server);
  // The API stands beside the server, on the same network.
  server.handle = async (request, jar) => {
    if (new URL(request.url).origin !== API) return handle(request, jar);
    const { method, url, headers } = request;
    const seen = { method, url, headers: Object.fromEntries(headers), body: await request.text() };
    api.requests.push(seen);
    return api.answer(seen);
  };
  const browser = new Browser(clock, server, features);
  return { clock, server, api, tab: browser.tab({ apis: { [API]: API }, ...options }) };
}

const claims = (proof) => JSON.parse(Buffer.from(proof.split('.')[1], 'base64url'));

test('to the server: a path is relative to it', async () => {
  const { clock, server, tab } = world();
  const answer = await clock.settle(tab.fetch('/v1/me'));
  assert.equal(answer.status, 200);
  assert.equal((await answer.json()).id, [...server.users.keys()][0]);
  assert.equal((await clock.settle(tab.fetch(new URL('/v1/me?x=1', server.origin)))).status, 200);
  assert.equal((await clock.settle(tab.fetch('/v1/none'))).status, 404, 'its refusals are answers');
});

test('to an API: its own token, with a proof', async () => {
  const { clock, server, api, tab } = world({ apis: { [API]: { audience: API, scope: 'read:cart' } } });
  const body = JSON.stringify({ sku: 1 });
  const answer = await clock.settle(
    tab.fetch(`${API}/cart?page=2`, { method: 'POST', body, headers: { 'X-Mine': '1' } }),
  );
  assert.deepEqual(await answer.json(), { ok: true });
  const [seen] = api.requests;
  const [scheme, token] = seen.headers.authorization.split(' ');
  assert.equal(scheme, 'DPoP');
  assert.equal(server.accessTokens.get(token).audience, API);
  assert.equal(seen.body, body);
  assert.equal(seen.headers['x-mine'], '1');
  const { htm, htu, ath } = claims(seen.headers.dpop);
  assert.deepEqual({ htm, htu }, { htm: 'POST', htu: `${API}/cart` });
  assert.equal(ath, createHash('sha256').update(token).digest('base64url'));
  await clock.settle(tab.fetch(API));
  assert.equal(api.requests[1].headers.authorization, seen.headers.authorization, 'the token is used again');
  assert.notEqual(claims(api.requests[1].headers.dpop).jti, claims(seen.headers.dpop).jti);
});

test('an API’s own nonce, and a token that it refuses', async () => {
  const { clock, api, tab } = world();
  const refused = (error, headers = {}) =>
    new Response('', { status: 401, headers: { 'WWW-Authenticate': `DPoP error="${error}"`, ...headers } });
  api.answer = ({ headers }) =>
    claims(headers.dpop).nonce === 'api-nonce'
      ? new Response('ok')
      : refused('use_dpop_nonce', { 'DPoP-Nonce': 'api-nonce' });
  const answer = await clock.settle(tab.fetch(`${API}/a`, { method: 'PUT', body: 'x' }));
  assert.equal(await answer.text(), 'ok');
  assert.deepEqual(
    api.requests.map(({ body }) => body),
    ['x', 'x'],
  );
  api.requests.length = 0;
  let left = 1;
  api.answer = () => (left-- > 0 ? refused('invalid_token') : new Response('ok'));
  assert.equal((await clock.settle(tab.fetch(`${API}/b`, { method: 'PUT', body: 'y' }))).status, 200);
  assert.notEqual(
    api.requests[0].headers.authorization,
    api.requests[1].headers.authorization,
    'a new token was fetched',
  );
  assert.equal(api.requests[1].body, 'y');
  api.requests.length = 0;
  api.answer = () => refused('invalid_token');
  assert.equal((await clock.settle(tab.fetch(`${API}/c`))).status, 401);
  assert.equal(api.requests.length, 2, 'once more, and no oftener');
});

test('an API by its audience alone', async () => {
  const { clock, server, api, tab } = world({ apis: {} });
  await clock.settle(tab.fetch(`${API}/cart`, { audience: 'urn:cart' }));
  const token = api.requests[0].headers.authorization.split(' ')[1];
  assert.equal(server.accessTokens.get(token).audience, 'urn:cart');
});

test('no token for anybody else', async () => {
  const { clock, server, api, tab } = world();
  for (const url of [
    'https://evil.test/',
    'https://api.test.evil.test/',
    'https://api.test@evil.test/',
    '//evil.test/x',
    'https://id.test.evil.test/',
    'https://id.test:444/',
  ]) {
    await assert.rejects(
      clock.settle(tab.fetch(url)),
      (error) => error.code === 'foreign_url' || error instanceof TypeError,
      url,
    );
  }
  assert.equal(api.requests.length, 0);
  assert.equal(server.log.length, 0);
});

test('unbound tokens go as Bearer, without a proof', async () => {
  const { clock, api, tab } = world({ bindTokens: false });
  await clock.settle(tab.fetch(`${API}/cart`));
  assert.match(api.requests[0].headers.authorization, /^Bearer /);
  assert.equal(api.requests[0].headers.dpop, undefined);
});

test('by cookie: the server gets the cookie, an API a token', async () => {
  const { clock, server, api, tab } = world({}, { indexedDB: false });
  const answer = await clock.settle(tab.fetch('/v1/me'));
  assert.equal(answer.status, 200);
  assert.equal(server.log.at(-1).headers.authorization, undefined);
  await clock.settle(tab.fetch(`${API}/cart`));
  assert.match(api.requests[0].headers.authorization, /^Bearer /);
  assert.equal(server.created, 1);
});

test('a proof is never used twice, and says the server’s time', async () => {
  const { clock, server, tab } = world();
  await clock.settle(Promise.all(Array.from({ length: 20 }, () => tab.fetch('/v1/me'))));
  const proofs = server.log.map(({ headers }) => headers.dpop);
  assert.equal(new Set(proofs.map((proof) => claims(proof).jti)).size, proofs.length);
  assert.ok(proofs.every((proof) => Math.abs(claims(proof).iat - clock.now() / 1000) < 60));
});
