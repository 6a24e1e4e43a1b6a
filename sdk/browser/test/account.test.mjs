// A guest becomes somebody: claims, their proofs, and answers that are lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { account } from '../dist/account.js';
import { PasserbyError } from '../dist/index.js';
import { answer } from './support/server.mjs';
import { both, cut, EMAIL, keysOf, MODES, world } from './support/worlds.mjs';

test('line_20 kept: the same guest is a regular user, in every tab, by the same key', async () => {
  for (const [name, features] of Object.entries(MODES)) {
    const { clock, server, browser, tab, me } = world(features);
    const other = browser.tab();
    await clock.settle(tab.data.increment('/views'));
    await clock.settle(other.current());
    const { id } = tab.state.user;
    const before = features.indexedDB === false ? undefined : await browser.facts();
    const keeping = await clock.settle(me.keep({ email: EMAIL }));
    assert.equal(keeping.claim.check, '37', name);
    const outcome = await clock.settle(keeping.verify({ code: server.mail[0].code, password: 'correct horse' }));
    assert.equal(outcome.outcome, 'converted');
    assert.equal(outcome.user.id, id);
    assert.doesNotMatch(JSON.stringify(outcome), /_token/, 'tokens are the client’s');
    await clock.rest();
    for (const client of features.indexedDB === false ? [tab] : [tab, other]) {
      assert.equal(client.state.status, 'guest');
      assert.equal(client.state.user.kind, 'regular');
      assert.equal(client.state.user.id, id);
      await clock.settle(client.data.increment('/views'));
    }
    assert.equal(server.users.get(id).data.views, features.indexedDB === false ? 2 : 3);
    assert.equal(server.created, 1);
    if (features.indexedDB === false) continue;
    const { key, account: kept } = await browser.facts();
    assert.equal(key.thumbprint, before.key.thumbprint);
    assert.equal(kept.tokens[' '].type, 'DPoP');
    assert.notEqual(kept.session.id, before.account.session.id);
    assert.ok(tab.events.concat(other.events).every(([event]) => event !== 'ended'));
    assert.equal(server.log.find(({ path }) => path.endsWith('/verify')).body.bind_tokens, true);
  }
});

test('keep makes a guest where there is none; a wrong code changes nothing, and the next one is another asking', async () => {
  const { clock, server, tab, me } = world();
  const { claim, verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { id } = tab.state.user;
  await assert.rejects(clock.settle(verify({ code: '000000' })), { code: 'invalid_code', field: '/code' });
  assert.equal(tab.state.user.kind, 'anonymous');
  const outcome = await clock.settle(verify({ code: server.mail[0].code }));
  assert.equal(outcome.user.id, id);
  const keys = keysOf(server, '/verify');
  assert.notEqual(keys[0], keys.at(-1));
  const calls = server.log.length;
  assert.equal((await clock.settle(verify({ code: server.mail[0].code }))).outcome, 'converted', 'twice is the same');
  assert.equal(server.log.length, calls);
  assert.equal(claim.value, EMAIL);
});

test('an error is of the one class, and names what is wrong', async () => {
  const { clock, me, tab } = world();
  const { error } = await clock.outcome(me.identifiers());
  assert.ok(error instanceof PasserbyError);
  assert.equal(error.code, 'nobody');
  assert.ok((await clock.outcome(me.merge('ticket'))).error instanceof PasserbyError);
  assert.equal(tab.state.status, 'nobody');
});

test('a link that is confirmed elsewhere, and a username by its password', async () => {
  const { clock, server, tab, me } = world();
  const keeping = await clock.settle(me.keep({ email: EMAIL }));
  await assert.rejects(clock.settle(keeping.verify()), { code: 'claim_pending' });
  const confirmed = clock.outcome(keeping.confirmed());
  await clock.rest();
  server.confirmLink();
  await confirmed;
  assert.equal((await clock.settle(keeping.verify())).outcome, 'converted');
  const named = await clock.settle(me.keep({ username: 'ada' }));
  const { outcome, identifier } = await clock.settle(named.verify({ password: 'correct horse' }));
  assert.equal(outcome, 'added');
  assert.equal(identifier.value, 'ada');
  const { items, claims } = await clock.settle(me.identifiers());
  assert.deepEqual(
    items.map(({ kind }) => kind),
    ['email', 'username'],
  );
  assert.deepEqual(claims, []);
  await clock.settle(me.removeIdentifier('username:ada'));
  await assert.rejects(clock.settle(me.removeIdentifier(`email:${EMAIL}`)), { code: 'last_way_in' });
  assert.equal(tab.state.user.kind, 'regular');
});

test('a claim goes on after a reload, ends with its time, and can be dropped', async () => {
  const { clock, server, browser, tab, me } = world();
  await clock.settle(me.keep({ email: EMAIL }));
  tab.kill();
  const again = account(browser.tab());
  const [claim] = (await clock.settle(again.identifiers())).claims;
  const keeping = await clock.settle(again.keeping(claim));
  assert.equal((await clock.settle(keeping.verify({ code: server.mail[0].code }))).outcome, 'converted');
  const late = await clock.settle(again.keep({ email: 'ada@example.com' }));
  await assert.rejects(clock.settle(late.confirmed()), { code: 'expired' });
  await clock.settle(late.cancel());
  await assert.rejects(clock.settle(late.verify({ code: server.mail[1].code })), { code: 'not_found' });
  const stop = new AbortController();
  const waiting = clock.outcome(
    (await clock.settle(again.keep({ email: 'a@b.c' }))).confirmed({ signal: stop.signal }),
  );
  stop.abort();
  assert.equal((await waiting).error.code, 'aborted');
});

test('line_18 a lost answer to the proof is asked for again under the same key', async () => {
  for (const [name, features] of Object.entries(MODES)) {
    for (const fault of ['cut', 'swallowed', 'hung', 'lost']) {
      const { clock, server, tab, me } = world(features);
      const { verify } = await clock.settle(me.keep({ email: EMAIL }));
      const { id } = tab.state.user;
      cut(server, '/verify', fault === 'hung' ? 1 : 3, fault);
      const outcome = await clock.settle(verify({ code: server.mail[0].code }));
      assert.equal(outcome.user.id, id, `${name} ${fault}`);
      assert.equal(new Set(keysOf(server, '/verify')).size, 1);
      assert.ok(tab.events.every(([event]) => event !== 'ended'));
      await clock.settle(tab.data.increment('/views'));
      assert.equal(server.users.get(id).data.views, 1);
      assert.equal(server.created, 1);
    }
  }
});

test('line_18 an answer that stays away for long: whoever proves again is the same asking, and the guest lives on', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { id } = tab.state.user;
  const { code } = server.mail[0];
  cut(server, '/verify', 1_000);
  await assert.rejects(clock.settle(verify({ code })), { code: 'unreachable', temporary: true });
  assert.equal(server.users.get(id).kind, 'regular', 'it was carried out, and nobody here knows');
  // Somebody else of this browser finds the old session dead, and makes nobody new.
  await assert.rejects(clock.settle(tab.refresh()), { ended: true });
  server.fault = () => undefined;
  const outcome = await clock.settle(verify({ code }));
  assert.equal(outcome.user.id, id);
  assert.equal(tab.state.status, 'guest');
  assert.equal(tab.state.user.kind, 'regular');
  assert.equal((await clock.settle(tab.refresh())).id, id);
  assert.equal(new Set(keysOf(server, '/verify')).size, 1);
  assert.equal(server.created, 1);
});

test('429 and 503 are waited out as told; what takes too long is handed on, and nobody changed', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { code } = server.mail[0];
  let left = 1;
  server.fault = ({ url }) =>
    url.endsWith('/verify') && left-- > 0 ? answer(503, { code: 'unavailable', retryAfter: 7 }) : undefined;
  const start = clock.now();
  assert.equal((await clock.settle(verify({ code }))).outcome, 'converted');
  assert.ok(clock.now() - start >= 7_000);
  server.fault = () => answer(429, { code: 'too_many_requests', retryAfter: 600 });
  const before = JSON.stringify(tab.state);
  await assert.rejects(clock.settle(me.signIn({ email: EMAIL, password: 'x' })), { status: 429, retryAfter: 600_000 });
  assert.equal(JSON.stringify(tab.state), before);
});

test('line_18 no failure replaces anybody: refusals, proxies, a server that is gone', async () => {
  const faults = {
    401: () => answer(401, { html: '<h1>Who are you?</h1>' }),
    403: () => answer(403, { html: '<h1>Forbidden</h1>' }),
    500: () => answer(500, { code: 'internal' }),
    200: () => new Response('<h1>Welcome to the hotel</h1>', { headers: { 'Content-Type': 'text/html' } }),
    lost: () => 'lost',
  };
  for (const [name, fault] of Object.entries(faults)) {
    const { clock, server, browser, tab, me, guest, signIn } = await both();
    const before = await browser.facts();
    server.fault = ({ url }) => (url.endsWith('/sign-in') ? fault() : undefined);
    const { error } = await clock.outcome(me.signIn(signIn));
    assert.ok(error.temporary, name);
    assert.deepEqual(await browser.facts(), before);
    server.fault = () => undefined;
    assert.equal((await clock.settle(tab.refresh())).id, guest);
    assert.equal(server.created, 1);
  }
});

test('two tabs prove at once: one converts, both know it', async () => {
  for (const features of [{}, { locks: false }]) {
    const { clock, server, browser, tab, me } = world(features);
    const { claim, verify } = await clock.settle(me.keep({ email: EMAIL }));
    const { id } = tab.state.user;
    const other = browser.tab();
    const second = await clock.settle(account(other).keeping(claim));
    const { code } = server.mail[0];
    const outcomes = await clock.settle(Promise.all([verify({ code }), second.verify({ code })]));
    for (const { outcome, user } of outcomes) {
      assert.equal(outcome, 'converted', JSON.stringify(features));
      assert.equal(user.id, id);
    }
    await clock.rest();
    for (const client of [tab, other]) {
      assert.equal(client.state.user.kind, 'regular');
      assert.equal((await clock.settle(client.refresh())).id, id);
    }
  }
});

test('line_18 a guest that another device has converted is told so, and nobody takes their place', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { id } = tab.state.user;
  server.convert(server.users.get(id));
  await assert.rejects(clock.settle(verify({ code: server.mail[0].code })), { code: 'guest_converted', ended: true });
  assert.equal(tab.state.status, 'ended');
  assert.equal(tab.state.ended.code, 'guest_converted');
  server.addresses.set(`email:${EMAIL}`, id);
  const signing = await clock.settle(me.signIn({ email: EMAIL }));
  const { user } = await clock.settle(signing.verify(server.mail.at(-1).code));
  assert.equal(user.id, id, 'whoever signs in is here again');
  assert.equal(tab.state.status, 'guest');
  assert.equal(server.created, 1);
});

test('a token that was refused is renewed, once, and the asking goes on', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  for (const token of server.accessTokens.values()) token.end = 0;
  assert.equal((await clock.settle(verify({ code: server.mail[0].code }))).outcome, 'converted');
  assert.equal(tab.state.user.kind, 'regular');
  assert.equal(server.calls('POST', '/v1/refresh').length, 1);
});

test('changes that are on their way arrive before the guest is one no more', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { id } = tab.state.user;
  cut(server, '/operations', 2);
  const counted = tab.data.increment('/views');
  const kept = verify({ code: server.mail[0].code });
  await clock.settle(Promise.all([counted, kept]));
  assert.equal(server.users.get(id).data.views, 1, 'exactly once');
  const order = server.log.filter(({ status }) => status === 200).map(({ path }) => path.split('/').at(-1));
  assert.ok(order.indexOf('operations') < order.indexOf('verify'));
});

test('a change that another tab has just sent is waited for, since its key dies with the guest', async () => {
  const { clock, server, browser, tab, me } = world();
  server.claimLife = 3_600_000;
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { id } = tab.state.user;
  const other = browser.tab();
  await clock.settle(other.current());
  clock.skip(server.accessLife - 5_000);
  let pressed;
  let sent = 0;
  server.fault = ({ url }) => {
    // While this tab renews its token, nothing is queued any more; then there is.
    if (url.endsWith('/refresh')) pressed ??= clock.outcome(other.data.increment('/views'));
    // The first asking learns its nonce; the second is carried out, and nobody hears of it.
    return url.endsWith('/operations') && (sent += 1) === 2 ? 'cut' : undefined;
  };
  assert.equal((await clock.settle(verify({ code: server.mail[0].code }))).outcome, 'converted');
  assert.ok((await pressed).value);
  assert.ok(sent > 2);
  assert.equal(server.users.get(id).data.views, 1);
});

test('line_18 a guest that another device took along into an account is told so', async () => {
  const { clock, server, tab } = world();
  const { id } = await clock.settle(tab.guest());
  server.users.get(id).merged = server.register(EMAIL).id;
  server.endSessions(id);
  await assert.rejects(clock.settle(tab.refresh()), { code: 'guest_merged', ended: true });
  await assert.rejects(clock.settle(tab.guest()), { ended: true });
  assert.equal(server.created, 1);
});

test('a question that was asked before the conversion does not make a guest of the account again', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const old = structuredClone(server.view(server.users.get(tab.state.user.id)));
  await clock.settle(verify({ code: server.mail[0].code }));
  server.fault = ({ method, url }) =>
    method === 'GET' && url.endsWith('/v1/me')
      ? new Response(JSON.stringify(old), { headers: { 'Content-Type': 'application/json' } })
      : undefined;
  assert.equal((await clock.settle(tab.refresh())).kind, 'regular');
});
