// Where there is no IndexedDB or no WebCrypto.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Browser, Clock } from './support/browser.mjs';
import { answer, Server } from './support/server.mjs';

function world(features) {
  const clock = new Clock();
  const server = new Server(clock);
  return { clock, server, browser: new Browser(clock, server, features) };
}

const POORER = {
  'no IndexedDB': { indexedDB: false },
  'no WebCrypto': { crypto: false, locks: false },
  'neither, and nothing else': { indexedDB: false, crypto: false, locks: false, localStorage: false },
  'nor channels': { indexedDB: false, crypto: false, locks: false, channel: false },
};

test('the cookie takes the key’s place, and the client says so once', async () => {
  for (const [name, features] of Object.entries(POORER)) {
    const { clock, server, browser } = world(features);
    const tab = browser.tab();
    assert.equal(await clock.settle(tab.current()), null);
    assert.equal(tab.state.mode, 'cookie', name);
    const [, told] = tab.events.find(([event]) => event === 'mode');
    assert.match(told.reason, features.indexedDB === false ? /IndexedDB/ : /WebCrypto/);
    assert.equal(browser.informed.length, 1);
    const { id } = await clock.settle(tab.guest());
    await clock.settle(tab.data.increment('/views'));
    assert.equal(server.created, 1);
    assert.ok(server.log.every(({ headers }) => !headers.authorization && !headers.dpop));
    tab.kill();
    const next = browser.tab();
    assert.equal((await clock.settle(next.current())).id, id, 'after a reload');
    assert.equal(await clock.settle(next.data.get('/views', { fresh: true })), 1);
    assert.equal((await clock.settle(next.guest())).id, id);
    assert.equal(server.created, 1);
  }
});

test('a database that keeps no keys', async () => {
  const { clock, server, browser } = world();
  const { prototype } = await clock.settle(
    new Promise((resolve) => {
      const opened = browser.indexedDB.open('probe');
      opened.onupgradeneeded = () => opened.result.createObjectStore('any');
      opened.onsuccess = () => resolve(opened.result.transaction('any', 'readwrite').objectStore('any').constructor);
    }),
  );
  const { put } = prototype;
  prototype.put = function (value, key) {
    if (value?.key?.privateKey) throw new DOMException('It cannot be cloned', 'DataCloneError');
    return put.call(this, value, key);
  };
  try {
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    assert.equal(tab.state.mode, 'cookie');
    assert.equal((await clock.settle(browser.tab().guest())).id, id);
    assert.equal(server.created, 1);
    // One tab finds it out, the other hears of it.
    await clock.settle(tab.logout());
    const tabs = [browser.tab(), browser.tab()];
    await clock.settle(Promise.all(tabs.map((tab) => tab.guest())));
    assert.deepEqual(tabs.map(({ state }) => state.mode), ['cookie', 'cookie']);
    assert.equal(server.created, 2);
  } finally {
    prototype.put = put;
  }
});

test('line_18 lost answers and parallel tabs: one guest by cookie, too', async () => {
  for (const features of [{ indexedDB: false }, { crypto: false }, { crypto: false, locks: false }]) {
    const { clock, server, browser } = world(features);
    let left = 3;
    server.fault = ({ method }) => (method === 'POST' && left-- > 0 ? 'cut' : undefined);
    const tabs = [browser.tab(), browser.tab()];
    const guests = await clock.settle(Promise.all(tabs.map((tab) => tab.guest())));
    assert.equal(new Set(guests.map(({ id }) => id)).size, 1, JSON.stringify(features));
    assert.equal(server.created, 1, JSON.stringify(features));
  }
});

test('line_18 429, 5xx and a proxy’s 401: the same guest', async () => {
  for (const fault of [
    () => answer(429, { code: 'too_many_requests', retryAfter: 5 }),
    () => answer(503, { code: 'unavailable' }),
    () => answer(401, { html: 'who?' }),
  ]) {
    const { clock, server, browser } = world({ indexedDB: false });
    const until = clock.now() + 60_000;
    server.fault = () => (clock.now() < until ? fault() : undefined);
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    await clock.settle(tab.data.increment('/views'));
    assert.equal(server.created, 1);
    assert.equal(tab.state.user.id, id);
  }
});

test('line_18 an ended session by cookie: an explicit end, also for the next page', async () => {
  for (const features of [{ indexedDB: false }, { crypto: false }]) {
    const { clock, server, browser } = world(features);
    const tab = browser.tab();
    const { id } = await clock.settle(tab.guest());
    server.endSessions(id);
    await assert.rejects(clock.settle(tab.data.increment('/views')), { ended: true });
    assert.equal(tab.state.status, 'ended');
    tab.kill();
    const next = browser.tab();
    await assert.rejects(clock.settle(next.guest()), { ended: true });
    assert.equal(server.created, 1);
    const fresh = await clock.settle(next.guest({ fresh: true }));
    assert.notEqual(fresh.id, id);
    assert.equal(server.created, 2);
    assert.equal(next.state.status, 'guest');
  }
});

test('a browser that keeps no cookies is told, and makes no guest a second time', async () => {
  const { clock, server, browser } = world({ indexedDB: false });
  server.keepsCookies = false;
  const tab = browser.tab();
  await assert.rejects(clock.settle(tab.guest()), { code: 'cookies_blocked' });
  await assert.rejects(clock.settle(tab.guest()), { code: 'cookies_blocked' });
  assert.equal(server.created, 1);
});

test('a browser that began with the cookie stays with its guest when it learns more', async () => {
  const { clock, server, browser } = world({ indexedDB: false });
  const { id } = await clock.settle(browser.tab().guest());
  browser.features.indexedDB = true;
  const tab = browser.tab();
  assert.equal((await clock.settle(tab.guest())).id, id);
  assert.equal(tab.state.mode, 'cookie');
  assert.equal(server.created, 1);
});

test('tokens for an API come by the cookie, and nothing that lives as long as it is kept beside it', async () => {
  const { clock, server, browser } = world({ crypto: false });
  const tab = browser.tab();
  await clock.settle(tab.guest());
  const token = await clock.settle(tab.token({ audience: 'https://api.test' }));
  assert.equal(server.accessTokens.get(token).audience, 'https://api.test');
  assert.equal(await clock.settle(tab.token({ audience: 'https://api.test' })), token);
  assert.equal(server.created, 1);
  assert.ok([...server.refreshTokens.keys()].length > 0);
  for (const refresh of server.refreshTokens.keys())
    assert.ok(!JSON.stringify(await browser.facts()).includes(refresh));
});

test('logout by cookie is the server’s to do', async () => {
  const { clock, server, browser } = world({ indexedDB: false });
  const tab = browser.tab();
  const other = browser.tab();
  const { id } = await clock.settle(tab.guest());
  await clock.settle(other.guest());
  browser.goOnline(false);
  await assert.rejects(clock.settle(tab.logout()), { code: 'unreachable' });
  assert.equal(tab.state.user.id, id, 'nobody believes to be gone who is not');
  browser.goOnline(true);
  assert.equal(await clock.settle(tab.logout()), true);
  await clock.rest();
  assert.equal(tab.state.status, 'nobody');
  assert.equal(other.state.status, 'nobody');
  assert.ok([...server.sessions.values()].every((session) => session.ended));
});

test('a hand-off and a recovery by cookie', async () => {
  const { clock, server, browser } = world();
  const first = browser.tab();
  const { id } = await clock.settle(first.guest());
  const second = new Browser(clock, server, { indexedDB: false }).tab();
  const offer = await clock.settle(first.handOff.create());
  const taking = await clock.settle(second.handOff.take(offer.code));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  assert.equal((await clock.settle(taking.done)).id, id);
  assert.equal(second.state.mode, 'cookie');
  await clock.settle(second.data.set('/from', 'two'));
  const words = await clock.settle(second.recoveryCode.create());
  const third = new Browser(clock, server, { crypto: false }).tab();
  assert.equal((await clock.settle(third.recover(words))).user.id, id);
  assert.equal((await clock.settle(third.refresh())).id, id);
});

test('line_18 a creation whose answer is lost whole is repeated before another tab has its turn', async () => {
  const { clock, server, browser } = world({ indexedDB: false });
  let left = 3;
  server.fault = ({ method }) => (method === 'POST' && left-- > 0 ? 'swallowed' : undefined);
  const tabs = [browser.tab(), browser.tab()];
  const guests = await clock.settle(Promise.all(tabs.map((tab) => tab.guest())));
  assert.equal(new Set(guests.map(({ id }) => id)).size, 1);
  assert.equal(server.created, 1);
});
