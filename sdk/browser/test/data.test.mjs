// Changes: shown at once, in order, exactly once.

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
const only = (server) => [...server.users.values()][0];

test('a change shows at once and is confirmed later; reading makes nobody', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const seen = [];
  tab.on('data', (data) => seen.push(data.views));
  const change = tab.data.increment('/views');
  assert.equal(tab.data.peek('/views'), 1, 'before anything else happens');
  assert.equal(tab.state.pending, 1);
  assert.deepEqual(await clock.settle(change), { data: { views: 1 }, version: 2 });
  assert.equal(tab.state.pending, 0);
  assert.deepEqual(seen, [1]);
  assert.equal(await clock.settle(tab.data.get('/views')), 1);
  assert.equal(only(server).data.views, 1);
  assert.deepEqual(await browser.queue(), []);
});

test('the data of a state stays the same object until it changes', async () => {
  const { clock, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.data.set('/a', { b: [1] }));
  const before = tab.data.peek('/a');
  await clock.settle(tab.data.set('/a', { b: [1] }));
  await clock.settle(tab.refresh());
  assert.equal(tab.data.peek('/a'), before);
});

test('changes go in their order, each under its own key', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(Promise.all(Array.from({ length: 20 }, (_, index) => tab.data.append('/log', index))));
  assert.deepEqual(
    only(server).data.log,
    Array.from({ length: 20 }, (_, index) => index),
  );
  const keys = server.calls('POST', '/v1/me/data/operations').map(({ headers }) => headers['idempotency-key']);
  assert.equal(new Set(keys).size, 20);
  assert.ok(keys.every((key) => key.length >= 22));
});

test('answers that are lost: counted once', async () => {
  for (const fault of ['cut', 'lost', 'hung']) {
    const { clock, server, browser } = world();
    const tab = browser.tab();
    await clock.settle(tab.guest());
    let left = 6;
    server.fault = ({ url }) => (url.endsWith('/operations') && left-- > 0 ? fault : undefined);
    await clock.settle(
      Promise.all(
        [1, 2, 3].map((value) =>
          tab.data.apply([
            { op: 'append', path: '/log', value },
            { op: 'increment', path: '/n', by: 1 },
          ]),
        ),
      ),
    );
    assert.deepEqual(only(server).data, { log: [1, 2, 3], n: 3 });
  }
});

test('429 and 503 for a minute: counted once, in order, and nobody has to press again', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  const until = clock.now() + 60_000;
  server.fault = () =>
    clock.now() < until ? answer(clock.now() % 2 ? 429 : 503, { code: 'x', retryAfter: 3 }) : undefined;
  await clock.settle(Promise.all([1, 2, 3].map((value) => tab.data.append('/log', value))));
  assert.deepEqual(only(server).data.log, [1, 2, 3]);
});

test('offline over a reload: replayed once, whichever tab is left', async () => {
  const { clock, server, browser } = world();
  await clock.settle(browser.tab().guest());
  browser.goOnline(false);
  const first = browser.tab();
  for (const value of [1, 2, 3]) first.data.append('/log', value);
  await clock.pass(1_000);
  first.kill();
  const second = browser.tab();
  assert.deepEqual(await clock.settle(second.data.get('/log')), [1, 2, 3], 'the queue shows in the next page');
  second.data.append('/log', 4);
  await clock.pass(60_000);
  browser.goOnline(true);
  await clock.settle(second.data.flush());
  assert.deepEqual(only(server).data.log, [1, 2, 3, 4]);
  assert.deepEqual(await browser.queue(), []);
});

test('a tab that dies after the server has answered: the next one does not count again', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  server.fault = ({ url }) => (url.endsWith('/operations') ? 'cut' : undefined);
  tab.data.increment('/views');
  await clock.rest();
  assert.equal(only(server).data.views, 1);
  tab.kill();
  server.fault = () => undefined;
  const next = browser.tab();
  await clock.settle(next.guest());
  await clock.settle(next.data.flush());
  assert.equal(only(server).data.views, 1);
  assert.equal(next.data.peek('/views'), 1);
});

test('two tabs that count: shown in both, each counted once, each told', async () => {
  for (const features of [{}, { locks: false }, { channel: false }, { locks: false, channel: false }]) {
    const { clock, server, browser } = world(features);
    const tabs = [browser.tab(), browser.tab()];
    const saved = await clock.settle(
      Promise.all(Array.from({ length: 20 }, (_, index) => tabs[index % 2].data.increment('/views'))),
    );
    assert.equal(server.created, 1);
    assert.equal(only(server).data.views, 20, JSON.stringify(features));
    assert.ok(saved.every(({ data }) => data.views >= 1 && data.views <= 20));
    await clock.rest();
    if (features.channel !== false)
      assert.deepEqual(
        tabs.map((tab) => tab.data.peek('/views')),
        [20, 20],
      );
    assert.deepEqual(await browser.queue(), []);
  }
});

test('what one tab queues shows in the other, and is sent by it when the first dies', async () => {
  const { clock, server, browser } = world();
  const first = browser.tab();
  const second = browser.tab();
  await clock.settle(first.guest());
  browser.goOnline(false);
  first.data.set('/name', 'Ada');
  await clock.rest();
  assert.equal(second.data.peek('/name'), 'Ada');
  assert.equal(second.state.pending, 1);
  first.kill();
  browser.goOnline(true);
  await clock.settle(second.data.flush());
  assert.equal(only(server).data.name, 'Ada');
});

test('a refused change is taken back and told, in every tab; the others go on', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const other = browser.tab();
  await clock.settle(tab.data.set('/name', 'Ada'));
  const refused = clock.outcome(tab.data.increment('/name'));
  const set = tab.data.set('/after', true);
  assert.equal(tab.data.peek('/name'), 'Ada', 'what cannot be is not shown');
  const { error } = await refused;
  assert.equal(error.code, 'type_mismatch');
  assert.equal(error.field, '/operations/0');
  assert.equal(error.status, 409);
  await clock.settle(set);
  assert.deepEqual(only(server).data, { name: 'Ada', after: true });
  await clock.rest();
  for (const { events } of [tab, other]) {
    const told = events.filter(([name]) => name === 'refused');
    assert.equal(told.length, 1);
    assert.deepEqual(told[0][1].operations, [{ op: 'increment', path: '/name', by: 1 }]);
    assert.equal(told[0][1].error.code, 'type_mismatch');
  }
  const test = tab.data.apply([
    { op: 'test', path: '/name', value: 'Grace' },
    { op: 'set', path: '/name', value: 'X' },
  ]);
  await assert.rejects(clock.settle(test), { code: 'test_failed' });
  assert.equal(tab.data.peek('/name'), 'Ada');
});

test('the tab that asked learns of a refusal that another tab got', async () => {
  const { clock, browser } = world();
  const first = browser.tab();
  const second = browser.tab();
  await clock.settle(first.data.set('/name', 'Ada'));
  await clock.rest();
  browser.goOnline(false);
  // The first holds the queue's lock again and again; whoever is quicker sends both.
  const results = [
    clock.outcome(first.data.increment('/name')),
    clock.outcome(second.data.increment('/name')),
    clock.outcome(second.data.increment('/n')),
  ];
  await clock.rest();
  browser.goOnline(true);
  const [a, b, c] = await Promise.all(results);
  assert.equal(a.error.code, 'type_mismatch');
  assert.equal(b.error.code, 'type_mismatch');
  assert.equal(c.value.data.n, 1);
});

test('nonsense is refused on the spot', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { data } = tab;
  for (const change of [
    () => data.set('name', 1),
    () => data.set('', 1),
    () => data.set('/a', undefined),
    () => data.set('/__proto__/x', 1),
    () => data.unset('/a/constructor'),
    () => data.increment('/a', NaN),
    () => data.increment('/a', '1'),
    () => data.max('/a', Infinity),
  ]) {
    await assert.rejects(clock.settle(change()), { code: 'invalid_operation', temporary: false }, String(change));
  }
  assert.equal(server.log.length, 0);
  assert.deepEqual(data.peek(), {});
  assert.equal({}.x, undefined);
});

test('what other devices change is seen on request, and never goes back in time', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.data.set('/a', 1));
  Object.assign(only(server), { data: { a: 1, b: 2 }, version: 7 });
  assert.equal(await clock.settle(tab.data.get('/b')), undefined);
  assert.equal(await clock.settle(tab.data.get('/b', { fresh: true })), 2);
  assert.equal(tab.state.user.version, 7);
  Object.assign(only(server), { data: {}, version: 3 });
  await clock.settle(tab.refresh());
  assert.equal(tab.state.user.version, 7);
});

test('a change whose answer was lost a week ago is not sent again', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  server.fault = ({ url }) => (url.endsWith('/operations') ? 'cut' : undefined);
  tab.data.increment('/views');
  await clock.rest();
  tab.kill();
  server.done.clear();
  clock.skip(8 * DAY);
  server.fault = () => undefined;
  const next = browser.tab();
  await clock.settle(next.guest());
  await clock.settle(next.data.flush());
  assert.equal(only(server).data.views, 1);
  assert.equal(next.events.find(([name]) => name === 'refused')[1].error.code, 'outcome_unknown');
});

test('a device whose clock says a week later sends all the same', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  server.fault = ({ url }) => (url.endsWith('/operations') ? 'lost' : undefined);
  tab.data.increment('/views');
  await clock.rest();
  tab.kill();
  server.fault = () => undefined;
  browser.skew = 30 * DAY;
  const next = browser.tab();
  await clock.settle(next.guest());
  await clock.settle(next.data.flush());
  assert.equal(only(server).data.views, 1);
});

test('what an ended guest had queued goes to nobody else', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  browser.goOnline(false);
  const change = clock.outcome(tab.data.set('/secret', 1));
  await clock.rest();
  server.erase(id);
  browser.goOnline(true);
  assert.equal((await change).error.ended, true);
  const fresh = await clock.settle(tab.guest({ fresh: true }));
  await clock.settle(tab.data.flush());
  assert.deepEqual(server.users.get(fresh.id).data, {});
  assert.deepEqual(await browser.queue(), []);
});

test('a tab that did not hear of the change of guests counts for nobody else', async () => {
  const { clock, server, browser } = world({ channel: false });
  const [tab, deaf] = [browser.tab(), browser.tab()];
  const { id } = await clock.settle(tab.guest());
  assert.equal((await clock.settle(deaf.guest())).id, id);
  const next = await clock.settle(tab.guest({ fresh: true }));
  await assert.rejects(clock.settle(deaf.data.increment('/views')), { code: 'left' });
  assert.deepEqual(server.users.get(next.id).data, {});
  assert.equal(server.created, 2);
});

test('a hundred changes offline are kept and sent', async () => {
  const { clock, server, browser } = world();
  browser.goOnline(false);
  const tab = browser.tab();
  for (let index = 0; index < 100; index += 1) tab.data.increment('/views');
  assert.equal(tab.data.peek('/views'), 100);
  await clock.pass(10_000);
  browser.goOnline(true);
  await clock.settle(tab.data.flush());
  assert.equal(only(server).data.views, 100);
  assert.equal(server.created, 1);
});

test('line_18 a browser repeats requests by itself: the spent proof costs neither the guest nor a change', async () => {
  const { clock, server, browser } = world();
  const twice = (path, times) => {
    let left = times;
    server.fault = (request) =>
      new URL(request.url).pathname === path && server.nonces.size > 0 && left-- > 0 ? 'twice' : undefined;
  };
  const tab = browser.tab();
  await clock.settle(tab.current());
  twice('/v1/guests', 3);
  const { id } = await clock.settle(tab.guest());
  twice('/v1/me/data/operations', 3);
  await clock.settle(tab.data.increment('/views'));
  // More often than a call bears; the change waits for its next turn.
  server.accessTokens.clear();
  twice('/v1/refresh', 8);
  await clock.settle(tab.data.increment('/views'));
  assert.deepEqual(only(server).data, { views: 2 });
  assert.equal(only(server).id, id);
  assert.equal(server.created, 1);
});
