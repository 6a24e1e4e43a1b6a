// Leaving, starting over, and what the browser itself takes away.

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

test('logout forgets guest and key, here and on the server; the next guest is another', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const other = browser.tab();
  const { id } = await clock.settle(tab.guest());
  await clock.settle(tab.data.increment('/views'));
  assert.equal(await clock.settle(tab.logout()), true);
  await clock.rest();
  assert.equal(server.keys.size, 0);
  assert.ok([...server.sessions.values()].every((session) => session.ended));
  assert.deepEqual(await browser.facts(), {});
  for (const client of [tab, other]) {
    assert.equal(client.state.status, 'nobody');
    assert.deepEqual(client.events.filter(([name]) => name === 'guest').at(-1), ['guest', null]);
    assert.equal(client.data.peek('/views'), undefined);
  }
  const next = await clock.settle(other.guest());
  assert.notEqual(next.id, id);
});

test('a guest who came by a reload leaves every tab', async () => {
  for (const features of [{}, { crypto: false }]) {
    const { clock, browser } = world(features);
    const first = browser.tab();
    await clock.settle(first.guest());
    first.close();
    const tabs = [browser.tab(), browser.tab()];
    for (const tab of tabs) assert.ok(await clock.settle(tab.current()));
    await clock.settle(tabs[0].logout());
    await clock.rest();
    assert.deepEqual(
      tabs.map((tab) => tab.state.status),
      ['nobody', 'nobody'],
    );
  }
});

test('logout sends what is queued first, and forgets also without the server', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  const counted = tab.data.increment('/views');
  assert.equal(await clock.settle(tab.logout()), true);
  await clock.settle(counted);
  assert.equal(server.users.get(id).data.views, 1);
  await clock.settle(tab.guest());
  browser.goOnline(false);
  const lost = clock.outcome(tab.data.increment('/views'));
  assert.equal(await clock.settle(tab.logout()), false);
  assert.equal((await lost).error.code, 'left');
  assert.equal(tab.state.status, 'nobody');
  assert.deepEqual(await browser.facts(), {});
});

test('erase is done on the server before anything is forgotten, also when its answer is lost', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  browser.goOnline(false);
  await assert.rejects(clock.settle(tab.erase()), { code: 'unreachable', temporary: true });
  assert.equal(tab.state.user.id, id);
  browser.goOnline(true);
  let cut = 1;
  server.fault = ({ method }) => (method === 'DELETE' && cut-- > 0 ? 'cut' : undefined);
  await clock.settle(tab.erase());
  assert.ok(server.ended.has(id));
  assert.equal(tab.state.status, 'nobody');
  assert.equal(server.created, 1);
});

test('what somebody waits for is given up after half a minute, and names what is wrong', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  server.fault = () => answer(503, { code: 'unavailable' });
  const start = clock.now();
  await assert.rejects(clock.settle(tab.deviceKeys.list()), { status: 503, code: 'unavailable', temporary: true });
  assert.ok(clock.now() - start <= 30_000);
});

test('device keys are listed; the last way in needs force', async () => {
  const { clock, browser } = world();
  const tab = browser.tab();
  await assert.rejects(clock.settle(tab.deviceKeys.list()), { code: 'nobody' });
  await clock.settle(tab.guest());
  const [{ thumbprint, current }] = await clock.settle(tab.deviceKeys.list());
  assert.equal(current, true);
  assert.equal(thumbprint, (await browser.facts()).key.thumbprint);
  await assert.rejects(clock.settle(tab.deviceKeys.remove(thumbprint)), { code: 'last_way_in' });
  await clock.settle(tab.deviceKeys.remove(thumbprint, { force: true }));
  await assert.rejects(clock.settle(tab.refresh()), { ended: true });
});

test('a storage that fails later is told, and is not taken for a first visit', async () => {
  const { clock, server, browser } = world();
  const { id } = await clock.settle(browser.tab().guest());
  const broken = new Proxy(browser.indexedDB, {
    get: () => () => {
      throw new DOMException('Internal error opening backing store', 'UnknownError');
    },
  });
  browser.features.brokenDatabase = broken;
  const tab = browser.tab();
  await assert.rejects(clock.settle(tab.current()), { code: 'storage_failed', temporary: true });
  const waiting = tab.guest();
  await clock.pass(10_000);
  assert.equal(server.created, 1);
  assert.equal(tab.state.mode, undefined, 'no cookie instead');
  waiting.catch(() => {});
  tab.close();
  browser.features.brokenDatabase = undefined;
  assert.equal((await clock.settle(browser.tab().guest())).id, id);
});

test('a database whose connection is lost is opened again', async () => {
  const { clock, browser } = world();
  const connections = [];
  browser.features.brokenDatabase = {
    open(...values) {
      const request = browser.indexedDB.open(...values);
      request.addEventListener('success', () => connections.push(request.result));
      return request;
    },
  };
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  connections.at(-1).close();
  await clock.settle(tab.data.set('/name', 'Ada'));
  assert.equal(connections.length, 2);
  assert.equal(tab.state.user.id, id);
});

test('site data that is cleared under an open page', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  await clock.settle(tab.guest());
  await clock.settle(
    new Promise((resolve, reject) => {
      const request = browser.indexedDB.deleteDatabase(`passerby demo-spa ${server.origin}`);
      request.onsuccess = resolve;
      request.onerror = reject;
    }),
  );
  await assert.rejects(clock.settle(tab.data.set('/name', 'Ada')), { code: 'left' });
  assert.equal(tab.state.status, 'nobody');
  assert.equal(server.created, 1);
  await clock.settle(tab.data.set('/name', 'Ada'));
  assert.equal(server.created, 2, 'the next change is the next visitor’s');
});

test('calls are told, for whoever watches', async () => {
  const { clock, browser } = world();
  const tab = browser.tab();
  const calls = [];
  tab.on('call', (call) => calls.push(call));
  await clock.settle(tab.guest());
  assert.deepEqual(
    calls.map(({ method, url, status }) => [method, new URL(url).pathname, status]),
    [['POST', '/v1/guests', 201]],
  );
});

test('line_18 what is on its way when somebody leaves makes nobody else, and ends nobody', async () => {
  for (const features of [{}, { crypto: false }]) {
    const { clock, server, browser } = world(features);
    const tab = browser.tab();
    await clock.settle(tab.guest());
    // The question waits on the wire until the guest has left.
    let go;
    const gate = new Promise((resolve) => (go = resolve));
    const handle = server.handle.bind(server);
    server.handle = async (request, jar) => {
      if (request.method === 'GET') await gate;
      return handle(request, jar);
    };
    const asked = tab.refresh();
    // The clock believes that there is work under way, and so it is: turns are given by hand.
    const turns = async (count) => {
      for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    };
    await turns(100);
    const left = tab.logout();
    while (![...server.sessions.values()].every((session) => session.ended)) await turns(1);
    go();
    await assert.rejects(clock.settle(asked), { code: 'left', ended: false });
    await clock.settle(left);
    await clock.rest();
    assert.equal(tab.state.status, 'nobody', JSON.stringify(features));
    assert.equal(server.created, 1);
  }
});

test('line_18 a renewal that waited while somebody left makes nobody else', async () => {
  const { clock, server, browser } = world();
  const [tab, other] = [browser.tab(), browser.tab()];
  await clock.settle(Promise.all([tab.guest(), other.guest()]));
  clock.skip(20 * 60_000);
  const free = await browser.hold('guest');
  const left = clock.outcome(other.logout());
  await clock.rest();
  const asked = clock.outcome(tab.refresh());
  await clock.rest();
  free();
  assert.equal((await asked).error.code, 'left');
  await left;
  assert.equal(server.created, 1);
});

test('two tabs that start over at once get one new guest', async () => {
  // With channels they go along; without, the second one does not know yet that the first has started over.
  for (const features of [{}, { channel: false }]) {
    const { clock, server, browser } = world(features);
    const tabs = [browser.tab(), browser.tab()];
    const [{ id }] = await clock.settle(Promise.all(tabs.map((tab) => tab.guest())));
    server.erase(id);
    for (const tab of features.channel === false ? tabs : [tabs[0]]) {
      await assert.rejects(clock.settle(tab.refresh()), { ended: true });
    }
    await clock.rest();
    const first = await clock.settle(tabs[0].guest({ fresh: true }));
    await clock.rest();
    const both = await clock.settle(Promise.all(tabs.map((tab) => tab.guest(tab === tabs[1] ? { fresh: true } : {}))));
    if (features.channel === false) {
      assert.deepEqual(
        both.map((guest) => guest.id),
        [first.id, first.id],
      );
      assert.equal(server.created, 2);
    } else assert.equal(server.created, 3, 'whoever knows of the new one and starts over means it');
  }
});

test('flush says when the guest has ended', async () => {
  const { clock, server, browser } = world();
  const tab = browser.tab();
  const { id } = await clock.settle(tab.guest());
  server.erase(id);
  tab.data.increment('/views');
  await assert.rejects(clock.settle(tab.data.flush()), { ended: true });
});
