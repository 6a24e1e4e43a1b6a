// The guest of a device, and whatever may not cost it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Browser, Clock } from './support/browser.mjs';
import { answer, Server } from './support/server.mjs';

function world(features) {
  const clock = new Clock();
  const server = new Server(clock);
  return { clock, server, browser: new Browser(clock, server, features) };
}

const DAY = 86_400_000;

test('a guest is made at the first need, and only then', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  assert.equal(await clock.settle(tab.current()), null);
  assert.equal(await clock.settle(tab.refresh()), null);
  assert.deepEqual(await clock.settle(tab.data.get()), {});
  assert.equal(server.log.length, 0);
  assert.equal(tab.state.status, 'nobody');
  const guest = await clock.settle(tab.guest({ entry: 'landing', data: { cart: [] } }));
  assert.equal(server.created, 1);
  assert.deepEqual(guest.data, { cart: [] });
  assert.equal(server.users.get(guest.id).entry, 'landing');
  assert.equal(tab.state.status, 'guest');
  assert.equal(tab.state.mode, 'device-key');
  assert.equal((await clock.settle(tab.current())).id, guest.id);
});

test('the device key cannot be read, and tokens are bound to it', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  const { key, account } = await browser.facts();
  assert.equal(key.privateKey.extractable, false);
  await assert.rejects(crypto.subtle.exportKey('jwk', key.privateKey));
  assert.deepEqual(Object.keys(key.jwk).sort(), ['crv', 'kty', 'x', 'y']);
  assert.equal(Object.values(account.tokens)[0].type, 'DPoP');
  assert.equal([...server.sessions.values()][0].jkt, key.thumbprint);
  const stolen = await clock.settle(tab.token());
  const refused = await server.handle(
    new Request(`${server.origin}/v1/me`, { headers: { Authorization: `Bearer ${stolen}` } }),
    new Map(),
  );
  assert.equal(refused.status, 401);
});

test('tokens are not bound where the app wants it so', async () => {
  const { clock, browser } = world();
  const tab = browser.tab({ bindTokens: false });
  const { id } = await clock.settle(tab.guest());
  assert.equal(Object.values((await browser.facts()).account.tokens)[0].type, 'Bearer');
  assert.equal((await clock.settle(tab.refresh())).id, id);
});

test('line_05 many calls and tabs at once make one guest', async () => {
  for (const features of [{}, { locks: false }, { locks: false, channel: false }]) {
    const { clock, server, browser } = world(features);
    const tabs = Array.from({ length: 5 }, () => browser.tab());
    const guests = await clock.settle(Promise.all([...tabs, ...tabs].map((tab) => tab.guest())));
    assert.equal(new Set(guests.map(({ id }) => id)).size, 1);
    assert.equal(server.created, 1, JSON.stringify(features));
    assert.equal(server.keys.size, 1);
  }
});

test('a reload, another day, another tab: the same guest, without a call', async () => {
  const { clock, server, browser } = world();
  const { id } = await clock.settle(browser.tab().guest());
  const calls = server.log.length;
  assert.equal((await clock.settle(browser.tab().guest())).id, id);
  assert.equal((await clock.settle(browser.tab().current())).id, id);
  assert.equal(server.log.length, calls);
});

test('line_18 lost answers: the same guest is asked for again', async () => {
  for (const fault of ['lost', 'cut', 'hung']) {
    const { clock, server, browser } = world();
    const tab = browser.tab();
    let left = 5;
    // The nonce comes through, so that it is the creation whose answers are lost.
    server.fault = () => (server.nonces.size > 0 && left-- > 0 ? fault : undefined);
    const guest = await clock.settle(tab.guest());
    assert.equal(server.created, 1, fault);
    assert.equal(server.users.size, 1);
    assert.ok(server.users.has(guest.id));
    assert.ok(tab.events.filter(([name]) => name === 'retry').length >= 4);
  }
});

test('line_18 a tab that dies before the answer: the next one gets the guest that was made', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  server.fault = () => (server.nonces.size > 0 ? 'cut' : undefined);
  tab.guest().catch(() => {});
  await clock.rest();
  assert.equal(server.created, 1);
  tab.kill();
  server.fault = () => undefined;
  const guest = await clock.settle(browser.tab().guest());
  assert.equal(server.created, 1);
  assert.ok(server.users.has(guest.id));
});

test('line_18 429, 5xx and what is not the server for a minute: the same guest', async () => {
  const faults = {
    429: () => answer(429, { code: 'too_many_requests', retryAfter: 7 }),
    503: () => answer(503, { code: 'unavailable', retryAfter: 1 }),
    500: () => answer(500, { code: 'internal' }),
    502: () => answer(502, { html: '<h1>Bad gateway</h1>' }),
    'a login page': () => new Response('<h1>Welcome to the hotel</h1>', { headers: { 'Content-Type': 'text/html' } }),
    'a firewall': () => answer(403, { html: '<h1>Forbidden</h1>' }),
    'a proxy': () => answer(401, { html: '<h1>Who are you?</h1>' }),
    'a wrong path': () => answer(404, { html: '<h1>Not found</h1>' }),
  };
  for (const [name, fault] of Object.entries(faults)) {
    const { clock, server, browser } = world();
    // Before there is a guest …
    let until = clock.now() + 60_000;
    server.fault = () => (clock.now() < until ? fault() : undefined);
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    assert.equal(server.created, 1, name);
    // … and when its tokens have to be renewed, in a new tab.
    clock.skip(DAY);
    until = clock.now() + 60_000;
    const other = browser.tab();
    await clock.settle(other.data.increment('/views'));
    assert.equal(other.state.user.id, id, name);
    assert.equal(server.created, 1, name);
    assert.equal(server.users.get(id).data.views, 1);
    assert.equal(
      tab.events.concat(other.events).some(([event]) => event === 'ended'),
      false,
    );
  }
});

test('Retry-After is obeyed, and pauses grow without it', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  let left = 1;
  server.fault = () => (left-- > 0 ? answer(429, { code: 'too_many_requests', retryAfter: 90 }) : undefined);
  const start = clock.now();
  await clock.settle(tab.guest());
  assert.ok(clock.now() - start >= 90_000);
  const date = world();
  left = 1;
  date.server.fault = () => {
    const refused = answer(503, { code: 'unavailable' });
    refused.headers.set('Retry-After', new Date(date.clock.now() + 40_000).toUTCString());
    return left-- > 0 ? refused : undefined;
  };
  date.browser.skew = DAY;
  const begun = date.clock.now();
  await date.clock.settle(date.browser.tab().guest());
  assert.ok(
    date.clock.now() - begun >= 39_000 && date.clock.now() - begun < 60_000,
    'a date is read by the server’s clock',
  );
  const growing = world();
  left = 9;
  growing.server.fault = () => (left-- > 0 ? 'lost' : undefined);
  const third = growing.browser.tab();
  await growing.clock.settle(third.guest());
  const pauses = third.events.filter(([name]) => name === 'retry').map(([, { ms }]) => ms);
  assert.equal(pauses.length, 9);
  assert.ok(pauses[0] >= 250 && pauses[0] <= 500);
  assert.ok(pauses.at(-1) >= 15_000 && pauses.at(-1) <= 30_000);
});

test('line_18 a clock that is a day off, to either side, and that jumps: the same guest', async () => {
  for (const skew of [DAY, -DAY, 400_000, -400_000]) {
    const { clock, server, browser } = world();
    browser.skew = skew;
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    assert.equal(tab.events.filter(([name]) => name === 'retry').length, 0, 'no failure that anybody sees');
    await clock.settle(tab.data.increment('/views'));
    // The clock is set right while the page is open, and wrong again.
    for (const next of [0, -skew, skew]) {
      browser.skew = next;
      await clock.settle(tab.data.increment('/views'));
    }
    // A new page does not know yet how wrong it is.
    const other = browser.tab();
    await clock.settle(other.data.increment('/views'));
    clock.skip(20 * 60_000);
    await clock.settle(other.refresh());
    assert.equal(server.created, 1);
    assert.equal(server.users.get(id).data.views, 5);
    assert.equal(other.state.user.id, id);
  }
});

test('line_18 cleared tokens: the key brings the guest back', async () => {
  const { clock, server, browser } = world();
  const { id } = await clock.settle(browser.tab().guest());
  for (const ask of ['guest', 'current', 'refresh']) {
    await browser.tamper((facts) => delete facts.account);
    assert.equal((await clock.settle(browser.tab()[ask]())).id, id, ask);
  }
  assert.equal(server.created, 1);
  // A key that the server never heard of is nobody's: to look makes nobody.
  const other = new Browser(clock, server);
  await clock.settle(other.tab().guest());
  await other.tamper((facts) => delete facts.account);
  server.keys.delete((await other.facts()).key.thumbprint);
  const tab = other.tab();
  assert.equal(await clock.settle(tab.current()), null);
  assert.equal(tab.state.status, 'nobody');
  assert.equal(server.created, 2);
});

test('line_18 an expired or ended session: the key brings the guest back', async () => {
  for (const end of ['expired', 'ended']) {
    const { clock, server, browser } = world();
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    if (end === 'expired') clock.skip(40 * DAY);
    else server.endSessions(id);
    await clock.settle(tab.data.increment('/views'));
    assert.equal(tab.state.user.id, id);
    assert.equal(server.created, 1);
    assert.equal(server.sessions.size, 2);
    assert.equal(server.users.get(id).data.views, 1);
  }
});

test('line_18 a server that restarts has forgotten its nonces: one more round, nothing else', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  await clock.settle(tab.refresh());
  server.restart();
  assert.equal((await clock.settle(tab.refresh())).id, id);
  assert.equal(server.log.at(-2).code, 'use_dpop_nonce');
  assert.equal(tab.events.filter(([name]) => name === 'retry').length, 0);
});

test('line_18 offline and back', async () => {
  const { clock, server, browser } = world();
  browser.goOnline(false);
  const tab = browser.tab();
  const guest = tab.guest();
  const counted = tab.data.increment('/views');
  await clock.pass(60_000);
  assert.equal(server.log.length, 0);
  assert.equal(tab.data.peek('/views'), 1, 'shown all the same');
  assert.equal(tab.state.pending, 1);
  browser.goOnline(true);
  await clock.rest();
  await clock.settle(Promise.all([guest, counted]));
  assert.equal(server.created, 1);
  assert.equal([...server.users.values()][0].data.views, 1);
});

test('line_18 an erased guest: an explicit end, told in every tab, and no other guest until it is asked for', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const second = browser.tab();
  const { id } = await clock.settle(tab.guest());
  await clock.rest();
  server.erase(id);
  await assert.rejects(clock.settle(tab.refresh()), { ended: true, code: 'guest_ended' });
  await clock.rest();
  for (const [name, client] of Object.entries({ tab, second, later: browser.tab() })) {
    await assert.rejects(clock.settle(client.guest()), { ended: true, code: 'guest_ended' }, name);
    await assert.rejects(clock.settle(client.data.increment('/views')), { ended: true }, name);
    assert.equal(client.state.status, 'ended');
    assert.equal(client.events.filter(([event]) => event === 'ended').length, 1, name);
    assert.equal(await clock.settle(client.current()), null);
  }
  assert.equal(server.created, 1);
  const fresh = await clock.settle(second.guest({ fresh: true }));
  assert.notEqual(fresh.id, id);
  assert.equal(server.created, 2);
  await clock.rest();
  assert.equal((await clock.settle(tab.guest())).id, fresh.id, 'the other tab goes along');
  assert.equal(tab.state.status, 'guest');
});

test('line_18 a key that was taken away: an end, not another guest', async () => {
  // The key is nobody's, or by now another guest's.
  for (const others of [false, true]) {
    const { clock, server, browser } = world();
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    const [thumbprint] = server.keys.keys();
    server.removeKey(thumbprint);
    if (others) {
      const stranger = await clock.settle(new Browser(clock, server).tab().guest());
      server.keys.set(thumbprint, stranger.id);
    }
    await assert.rejects(clock.settle(tab.data.increment('/views')), { ended: true });
    assert.equal(tab.state.status, 'ended');
    assert.equal(server.created, others ? 2 : 1);
    assert.ok(server.users.has(id));
  }
});

test('line_18 whatever else the server says to a resume ends nobody', async () => {
  for (const refused of [
    answer(401, { code: 'invalid_client' }),
    answer(403, { code: 'feature_not_enabled' }),
    answer(400, { code: 'invalid_request' }),
    answer(409, { html: 'no' }),
  ]) {
    const { clock, server, browser } = world();
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    server.endSessions(id);
    server.fault = ({ url }) => (url.endsWith('/v1/guests') ? refused.clone() : undefined);
    await assert.rejects(clock.settle(tab.refresh()), { ended: false });
    server.fault = () => undefined;
    assert.equal((await clock.settle(tab.refresh())).id, id);
    assert.equal(server.created, 1);
  }
});

test('a mistake of the app is told at once', async () => {
  const { clock, browser } = world();
  await assert.rejects(clock.settle(browser.tab({ clientId: 'unknown' }).guest()), {
    status: 401,
    code: 'invalid_client',
    temporary: false,
  });
  await assert.rejects(clock.settle(browser.tab({ clientId: 'unknown' }).data.increment('/views')), {
    code: 'invalid_client',
  });
  assert.throws(() => browser.tab({ clientId: '' }), TypeError);
  assert.throws(() => browser.tab({ baseUrl: 'id.test' }), TypeError);
});

test('waiting can be given up, and goes on elsewhere', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  browser.goOnline(false);
  const stop = new AbortController();
  const given = tab.guest({ signal: stop.signal });
  const kept = tab.guest();
  await clock.pass(5_000);
  stop.abort();
  await assert.rejects(clock.settle(given), { code: 'aborted' });
  browser.goOnline(true);
  await clock.settle(kept);
  assert.equal(server.created, 1);
});

test('tokens are renewed before they end, once over all tabs', async () => {
  const { clock, server, browser } = world();
  const tabs = [browser.tab(), browser.tab(), browser.tab()];
  await clock.settle(Promise.all(tabs.map((tab) => tab.guest())));
  const first = await clock.settle(tabs[0].token());
  // Two thirds are over: the old one is still given out while its successor is fetched.
  clock.skip(11 * 60_000);
  assert.equal(await clock.settle(tabs[0].token()), first);
  await clock.rest();
  const second = await clock.settle(tabs[0].token());
  assert.notEqual(second, first);
  // All of it is over: everybody waits for one renewal.
  clock.skip(16 * 60_000);
  const next = await clock.settle(Promise.all([...tabs, ...tabs].map((tab) => tab.token())));
  assert.equal(new Set(next).size, 1);
  assert.notEqual(next[0], second);
  assert.equal(server.calls('POST', '/v1/refresh').filter(({ status }) => status === 200).length, 2);
  assert.equal(
    server.log.some(({ code }) => code === 'token_expired'),
    false,
  );
});

test('line_15 an answer to a renewal that was lost is asked for again', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  clock.skip(20 * 60_000);
  let cut = 2;
  server.fault = ({ url }) => (url.endsWith('/v1/refresh') && cut-- > 0 ? 'cut' : undefined);
  assert.equal((await clock.settle(tab.refresh())).id, id);
  assert.equal(server.sessions.size, 1, 'the session lives on');
});

test('a token that is refused is renewed once, then told', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  server.accessTokens.clear();
  assert.equal((await clock.settle(tab.refresh())).id, id);
  server.fault = ({ url }) => (url.endsWith('/v1/me') ? answer(401, { code: 'invalid_token' }) : undefined);
  await assert.rejects(clock.settle(tab.refresh()), { code: 'invalid_token', ended: false });
  assert.equal(tab.state.status, 'guest');
});
