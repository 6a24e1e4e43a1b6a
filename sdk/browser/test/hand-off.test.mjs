// To a second device, and back by words.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Browser, Clock } from './support/browser.mjs';
import { answer, Server } from './support/server.mjs';

async function world() {
  const clock = new Clock();
  const server = new Server(clock);
  const one = new Browser(clock, server);
  const two = new Browser(clock, server);
  const first = one.tab({ device: 'Laptop' });
  const { id } = await clock.settle(first.guest());
  return { clock, server, one, two, first, second: two.tab({ device: 'Phone' }), id };
}

const DAY = 86_400_000;

test('shared: both devices have the guest', async () => {
  const { clock, server, first, second, id, two } = await world();
  const offer = await clock.settle(first.handOff.create());
  assert.deepEqual(await clock.settle(first.handOff.list()), []);
  const asked = clock.outcome(offer.asked());
  assert.equal(second.handOff.codeIn(offer.url), offer.code);
  assert.equal(second.handOff.codeIn('https://id.test/elsewhere'), null);
  const taking = await clock.settle(second.handOff.take(` ${offer.code.toLowerCase()} `));
  assert.equal(taking.check, '42');
  const { value: request } = await asked;
  assert.equal(request.check, taking.check);
  assert.equal(request.device, 'Phone');
  await clock.settle(first.handOff.confirm(request.id));
  assert.equal((await clock.settle(taking.done)).id, id);
  assert.equal(second.state.user.id, id);
  await clock.settle(second.data.set('/from', 'two'));
  assert.equal(await clock.settle(first.data.get('/from', { fresh: true })), 'two');
  assert.equal(server.created, 1);
  assert.equal(server.keys.size, 2);
  const facts = await two.facts();
  assert.equal(facts.incoming, undefined);
  assert.equal(server.keys.get(facts.key.thumbprint), id);
  // It comes back by its own key.
  server.endSessions(id);
  assert.equal((await clock.settle(second.refresh())).id, id);
});

test('moved: the first device is signed out, explicitly', async () => {
  const { clock, server, first, second, id } = await world();
  const offer = await clock.settle(first.handOff.create({ mode: 'move' }));
  const taking = await clock.settle(second.handOff.take(offer.code));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  assert.equal((await clock.settle(taking.done)).id, id);
  await assert.rejects(clock.settle(first.refresh()), { ended: true });
  await assert.rejects(clock.settle(first.guest()), { ended: true });
  assert.equal(server.created, 1);
});

test('line_18 a device that has a guest keeps it, unless it is told otherwise', async () => {
  const { clock, server, first, second, id, two } = await world();
  const own = await clock.settle(second.guest());
  const offer = await clock.settle(first.handOff.create());
  await assert.rejects(clock.settle(second.handOff.take(offer.code)), { code: 'has_guest' });
  await assert.rejects(clock.settle(second.recover('any words')), { code: 'has_guest' });
  await two.tamper((facts) => delete facts.account);
  const reloaded = two.tab();
  await assert.rejects(clock.settle(reloaded.handOff.take(offer.code)), { code: 'has_guest' }, 'its key speaks for it');
  assert.equal((await clock.settle(reloaded.guest())).id, own.id);
  const taking = await clock.settle(reloaded.handOff.take(offer.code, { replace: true }));
  assert.equal(reloaded.state.user.id, own.id, 'until it is confirmed, nothing changes');
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  assert.equal((await clock.settle(taking.done)).id, id);
  await clock.rest();
  assert.equal([...server.keys.values()].includes(own.id), false, 'the one left behind has no key any more');
  assert.deepEqual(new Set(server.keys.values()), new Set([id]));
});

test('a wrong code, and a third party: told, and the device keeps what it has', async () => {
  const { clock, server, first, second } = await world();
  await assert.rejects(clock.settle(second.handOff.take('AAAA-AAAA')), { code: 'invalid_code', field: '/code' });
  const offer = await clock.settle(first.handOff.create());
  const taking = await clock.settle(second.handOff.take(offer.code));
  const third = new Browser(clock, server).tab();
  await assert.rejects(clock.settle(third.handOff.take(offer.code)), { code: 'hand_off_cancelled' });
  await assert.rejects(clock.settle(taking.done), { code: 'invalid_code' });
  assert.equal(second.state.status, 'nobody');
  assert.equal(third.state.status, 'nobody');
  assert.equal(server.created, 1);
  assert.notEqual((await clock.settle(second.guest())).id, undefined);
});

test('too many wrong codes are told at once; while the other device is waited for, a failure is waited out', async () => {
  const { clock, server, first, second, id } = await world();
  const offer = await clock.settle(first.handOff.create());
  server.fault = () => answer(429, { code: 'too_many_requests', retryAfter: 600 });
  const start = clock.now();
  await assert.rejects(clock.settle(second.handOff.take(offer.code)), { status: 429, retryAfter: 600_000 });
  await assert.rejects(clock.settle(second.recover('any words')), { status: 429, retryAfter: 600_000 });
  assert.equal(clock.now(), start);
  server.fault = () => undefined;
  const taking = await clock.settle(second.handOff.take(offer.code));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  server.fault = () => answer(503, { code: 'unavailable' });
  await clock.pass(60_000);
  server.fault = () => undefined;
  assert.equal((await clock.settle(taking.done)).id, id);
});

test('withdrawn, given up, over', async () => {
  const { clock, first, second } = await world();
  const offer = await clock.settle(first.handOff.create());
  const taking = await clock.settle(second.handOff.take(offer.code));
  await clock.settle(first.handOff.withdraw());
  await assert.rejects(clock.settle(taking.done), { code: 'invalid_code' });
  const again = await clock.settle(first.handOff.create());
  const given = await clock.settle(second.handOff.take(again.code));
  given.cancel();
  await assert.rejects(clock.settle(given.done), { code: 'aborted' });
  const last = await clock.settle(first.handOff.create());
  const start = clock.now();
  await assert.rejects(clock.settle(last.asked()), { code: 'expired' });
  assert.ok(clock.now() - start < 310_000);
  const stop = new AbortController();
  const asked = clock.outcome((await clock.settle(first.handOff.create())).asked({ signal: stop.signal }));
  stop.abort();
  assert.equal((await asked).error.code, 'aborted');
});

test('line_18 answers that are lost on the way to the second device', async () => {
  const { clock, server, first, second, id } = await world();
  const offer = await clock.settle(first.handOff.create());
  let left = 2;
  server.fault = ({ url }) =>
    url.endsWith('/guests/hand-off') && server.nonces.size && left-- > 0 ? 'cut' : undefined;
  const taking = await clock.settle(second.handOff.take(offer.code));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  // The answer that carries the tokens is given once, and this one is lost.
  left = 1;
  assert.equal((await clock.settle(taking.done)).id, id);
  assert.equal(server.created, 1);
});

test('a reload in the middle goes on with the same key', async () => {
  const { clock, first, second, two, id } = await world();
  const offer = await clock.settle(first.handOff.create());
  await clock.settle(second.handOff.take(offer.code));
  second.kill();
  const next = two.tab();
  const taking = await clock.settle(next.handOff.take(offer.code));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  assert.equal((await clock.settle(taking.done)).id, id);
});

test('what was pressed before the guest came is the guest’s; what another guest pressed is not', async () => {
  const { clock, server, first, second, id } = await world();
  await clock.settle(second.guest());
  server.fault = ({ url }) => (url.endsWith('/operations') ? 'lost' : undefined);
  const change = clock.outcome(second.data.set('/whose', 'own'));
  const offer = await clock.settle(first.handOff.create());
  const taking = await clock.settle(second.handOff.take(offer.code, { replace: true }));
  await clock.settle(first.handOff.confirm((await clock.settle(offer.asked())).id));
  await clock.settle(taking.done);
  server.fault = () => undefined;
  assert.equal((await change).error.code, 'left');
  assert.deepEqual(server.users.get(id).data, {});
});

test('words bring the guest back; they are spent and replaced', async () => {
  const { clock, server, first, second, id } = await world();
  assert.deepEqual(await clock.settle(first.recoveryCode.status()), { created_at: null, pending: null });
  const words = await clock.settle(first.recoveryCode.create());
  assert.equal(words.split(' ').length, 12);
  assert.notEqual((await clock.settle(first.recoveryCode.status())).created_at, null);
  const outcome = await clock.settle(second.recover(`  ${words.toUpperCase().replace(' ', '\n')} `));
  assert.equal(outcome.status, 'done');
  assert.equal(outcome.user.id, id);
  assert.notEqual(outcome.recovery_code, words);
  assert.equal((await clock.settle(second.refresh())).id, id);
  await assert.rejects(clock.settle(first.refresh()), { ended: true }, 'the other device was signed out');
  assert.equal(server.created, 1);
  await clock.settle(second.recoveryCode.cancel());
  await assert.rejects(clock.settle(new Browser(clock, server).tab().recover(outcome.recovery_code)), {
    code: 'invalid_code',
  });
});

test('a recovery that has to wait goes on with the same words, also after a reload; it can be stopped', async () => {
  const { clock, server, first, second, two, id } = await world();
  server.recoveryWait = DAY;
  const words = await clock.settle(first.recoveryCode.create());
  const waiting = await clock.settle(second.recover(words));
  assert.equal(waiting.status, 'waiting');
  assert.ok(Date.parse(waiting.ready_at) > clock.now());
  assert.equal((await clock.settle(first.recoveryCode.status())).pending.device, 'Phone');
  second.kill();
  clock.skip(DAY + 1_000);
  const outcome = await clock.settle(two.tab().recover(words));
  assert.equal(outcome.user.id, id);
  const third = new Browser(clock, server).tab();
  const { status } = await clock.settle(third.recover(outcome.recovery_code));
  assert.equal(status, 'waiting');
  await clock.settle(two.tab().recoveryCode.cancel());
  await assert.rejects(clock.settle(third.recover(outcome.recovery_code)), { code: 'invalid_code' });
});

test('line_18 an answer to a recovery that is lost: the guest is here, with new words', async () => {
  const { clock, server, first, second, id } = await world();
  const words = await clock.settle(first.recoveryCode.create());
  let left = 1;
  server.fault = ({ url, headers }) =>
    url.endsWith('/recover') && headers.get('DPoP') && server.nonces.size > 0 && left-- > 0 ? 'cut' : undefined;
  const outcome = await clock.settle(second.recover(words));
  assert.equal(outcome.user.id, id);
  assert.equal(outcome.recovery_code, server.users.get(id).recovery);
  assert.equal(server.created, 1);
});

test('an ended guest may be followed by one that is taken over', async () => {
  const { clock, server, first, second, id } = await world();
  const own = await clock.settle(second.guest());
  server.erase(own.id);
  await assert.rejects(clock.settle(second.refresh()), { ended: true });
  const words = await clock.settle(first.recoveryCode.create());
  assert.equal((await clock.settle(second.recover(words))).user.id, id);
  assert.equal(second.state.status, 'guest');
  assert.equal(second.state.ended, undefined);
});
