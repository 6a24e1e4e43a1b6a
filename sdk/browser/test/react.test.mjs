// The hooks, in React itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { act, createElement as h } from 'react';
import { create } from 'react-test-renderer';

import { PasserbyProvider, useAccount, useData, useGuest, useHandOff, usePasserby } from '../dist/react.js';
import { AccountServer } from './support/accounts.mjs';
import { Browser, Clock } from './support/browser.mjs';
import { Server } from './support/server.mjs';

globalThis.IS_REACT_ACT_ENVIRONMENT = true;
const { error } = console;
// The renderer says of itself that it is not to be used for new tests of what a page looks like; there is no page here.
console.error = (...said) => /react-test-renderer is deprecated/.test(said[0]) || error(...said);

function world() {
  const clock = new Clock();
  const server = new Server(clock);
  return { clock, server, browser: new Browser(clock, server) };
}

/** A component that shows what a hook gives, and what it showed last. */
function shown(client, hook) {
  const seen = { renders: 0 };
  function Component() {
    seen.renders += 1;
    seen.now = hook();
    return null;
  }
  act(() => {
    seen.root = create(h(PasserbyProvider, { client }, h(Component)));
  });
  return seen;
}

/** Runs what a hook began to its end, and the rendering with it. */
const run = (clock, work) => act(async () => void (await clock.outcome(Promise.resolve(work()))));

test('useGuest shows who is here, and makes a guest only when it is told to', async () => {
  const { clock, server, browser } = world();
  const client = browser.tab();
  const seen = shown(client, () => useGuest());
  assert.equal(seen.now.status, 'loading');
  await run(clock, () => client.current());
  assert.equal(seen.now.status, 'nobody');
  assert.equal(server.created, 0);
  await run(clock, () => seen.now.start());
  assert.equal(seen.now.status, 'guest');
  assert.equal(seen.now.user.id, [...server.users.keys()][0]);
  await run(clock, () => client.logout());
  assert.equal(seen.now.status, 'nobody');
});

test('useGuest({ ensure: true }) makes one when the component appears, and none in an ended one’s place', async () => {
  const { clock, server, browser } = world();
  const client = browser.tab();
  const seen = shown(client, () => useGuest({ ensure: true }));
  await act(() => clock.pass(1_000));
  assert.equal(seen.now.status, 'guest');
  assert.equal(server.created, 1);
  server.erase(seen.now.user.id);
  await run(clock, () => client.refresh());
  await act(() => clock.pass(60_000));
  assert.equal(seen.now.status, 'ended');
  assert.equal(seen.now.ended.code, 'guest_ended');
  assert.equal(server.created, 1);
  await run(clock, () => seen.now.start({ fresh: true }));
  assert.equal(seen.now.status, 'guest');
});

test('useGuest gives up waiting with its component', async () => {
  const { clock, browser } = world();
  browser.goOnline(false);
  const seen = shown(browser.tab(), () => useGuest({ ensure: true }));
  await act(() => clock.pass(1_000));
  act(() => seen.root.unmount());
  await clock.pass(60_000);
  assert.equal(seen.now.status, 'nobody');
});

test('useData shows a value at once, and renders only when it changes', async () => {
  const { clock, browser } = world();
  const client = browser.tab();
  const seen = shown(client, () => useData('/views'));
  const whole = shown(client, () => useData());
  assert.deepEqual(whole.now[0], {});
  await run(clock, () => client.guest());
  const before = seen.renders;
  await run(clock, () => client.data.set('/other', { a: 1 }));
  assert.equal(seen.renders, before);
  act(() => void seen.now[1].increment('/views'));
  assert.equal(seen.now[0], 1);
  await run(clock, () => client.data.flush());
  assert.equal(seen.now[0], 1);
  assert.deepEqual(whole.now[0], { other: { a: 1 }, views: 1 });
});

test('useAccount: who is here, and what makes them somebody', async () => {
  const clock = new Clock();
  const server = new AccountServer(clock);
  const client = new Browser(clock, server).tab();
  await clock.settle(client.guest());
  const seen = shown(client, () => useAccount());
  assert.equal(seen.now.signedIn, false);
  const { id } = seen.now.user;
  await run(clock, async () => {
    const { verify } = await seen.now.keep({ email: 'ada@example.org' });
    await verify({ code: server.mail[0].code });
  });
  assert.equal(seen.now.signedIn, true);
  assert.equal(seen.now.user.id, id);
});

test('useHandOff: both sides', async () => {
  const { clock, server, browser } = world();
  const one = browser.tab();
  const two = new Browser(clock, server).tab();
  const { id } = await clock.settle(one.guest());
  const first = shown(one, () => useHandOff());
  const second = shown(two, () => useHandOff());
  assert.equal(first.now.status, 'idle');
  act(() => void first.now.create());
  await act(() => clock.rest());
  assert.equal(first.now.status, 'offered');
  act(() => void second.now.take(first.now.offer.code));
  await act(() => clock.pass(3_000));
  assert.equal(second.now.status, 'taking');
  assert.equal(first.now.status, 'asked');
  assert.equal(first.now.request.check, second.now.taking.check);
  await run(clock, () => first.now.confirm());
  assert.equal(first.now.status, 'confirmed');
  await act(() => clock.pass(3_000));
  assert.equal(second.now.status, 'taken');
  assert.equal(two.state.user.id, id);
});

test('useHandOff: cancelled, failed', async () => {
  const { clock, server, browser } = world();
  const one = browser.tab();
  const two = new Browser(clock, server).tab();
  await clock.settle(one.guest());
  const first = shown(one, () => useHandOff());
  const second = shown(two, () => useHandOff());
  await run(clock, () => second.now.take('AAAA-AAAA'));
  assert.equal(second.now.status, 'failed');
  assert.equal(second.now.error.code, 'invalid_code');
  act(() => void first.now.create());
  await act(() => clock.rest());
  act(() => void second.now.take(first.now.offer.code));
  await act(() => clock.rest());
  await run(clock, () => first.now.cancel());
  assert.equal(first.now.status, 'idle');
  assert.equal(server.handOffs.length, 0);
  await act(() => clock.pass(3_000));
  assert.equal(second.now.status, 'failed');
  assert.equal(first.now.status, 'idle', 'the side that was given up says nothing more');
});

test('a hook outside a provider says so', () => {
  console.error = () => {};
  assert.throws(() => act(() => void create(h(() => usePasserby()))), /PasserbyProvider/);
  console.error = error;
});
