// Signing in to an account, what comes along into it, and what is taken back.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { account } from '../dist/account.js';
import { Browser } from './support/browser.mjs';
import { both, cut, EMAIL, keysOf, MODES, world } from './support/worlds.mjs';

test('a sign-in that failed for a guest is another one for the next guest', async () => {
  const { clock, server, tab, me, guest, signIn } = await both();
  server.fault = ({ url }) => (url.endsWith('/sign-in') ? 'lost' : undefined);
  await assert.rejects(clock.settle(me.signIn(signIn)), { temporary: true });
  server.fault = () => undefined;
  await clock.settle(tab.logout());
  const next = await clock.settle(tab.guest());
  const { preview } = await clock.settle(me.signIn(signIn));
  assert.equal(preview.guest.id, next.id);
  assert.notEqual(next.id, guest);
  assert.equal(server.log.filter(({ code }) => code === 'session_ended').length, 0, 'the first one is not shown again');
});

test('line_18 an account whose session has ended is ended, not replaced; signing in goes on', async () => {
  for (const [name, features] of Object.entries(MODES)) {
    const { clock, server, tab, me, owner, signIn } = await both(features);
    await clock.settle(tab.logout());
    await clock.settle(me.signIn(signIn));
    if (features.indexedDB === false) {
      await assert.rejects(clock.settle(tab.token()), { code: 'not_a_guest', ended: false }, 'no tokens by cookie');
      assert.equal(tab.state.status, 'guest');
    }
    server.endSessions(owner.id);
    const asked = server.calls('POST', '/v1/guests').length;
    await assert.rejects(
      clock.settle(tab.guest().then(() => tab.refresh())),
      { ended: true, code: features.indexedDB === false ? 'unauthenticated' : 'session_ended' },
      name,
    );
    await assert.rejects(clock.settle(tab.guest()), { ended: true });
    assert.equal(server.calls('POST', '/v1/guests').length, asked, 'nobody asks by key for an account');
    assert.equal((await clock.settle(me.signIn(signIn))).user.id, owner.id);
    assert.equal((await clock.settle(tab.refresh())).id, owner.id);
    assert.equal(server.created, 1);
  }
});

test('the address has an account: merge_required, and sign_in_required', async () => {
  const { clock, server, browser, tab, me, guest, owner } = await both();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  assert.deepEqual(await clock.settle(verify({ code: server.mail[0].code })), { outcome: 'sign_in_required' });
  assert.equal(tab.state.user.id, guest);
  owner.password = undefined;
  const again = await clock.settle(me.keep({ email: EMAIL }));
  const { outcome, merge_ticket, preview } = await clock.settle(again.verify({ code: server.mail[1].code }));
  assert.equal(outcome, 'merge_required');
  assert.equal(preview.data.views, 5);
  assert.equal(tab.state.user.id, guest, 'until they say so, they are the guest');
  const before = await browser.facts();
  assert.deepEqual(await clock.settle(me.preview(merge_ticket)), { preview, merge_ticket });
  const { receipt, transfer, user } = await clock.settle(me.merge(merge_ticket));
  assert.ok(receipt);
  assert.equal(transfer.state, 'done');
  assert.equal(user.id, owner.id);
  assert.equal(tab.state.user.id, owner.id);
  assert.equal(tab.data.peek('/views'), 5);
  const after = await browser.facts();
  assert.equal(after.key.thumbprint, before.key.thumbprint, 'the proof was a sign-in by this key');
  assert.equal(after.account.tokens[' '].type, 'DPoP');
  await clock.settle(tab.data.increment('/views'));
  assert.equal(owner.data.views, 6);
  assert.equal(server.created, 1);
});

test('line_35 a lost answer to the merge: the same key, one transfer, the account is here', async () => {
  for (const fault of ['cut', 'hung', 'lost']) {
    const { clock, server, tab, me, owner } = await both();
    owner.password = undefined;
    const { verify } = await clock.settle(me.keep({ email: EMAIL }));
    const { merge_ticket } = await clock.settle(verify({ code: server.mail[0].code }));
    cut(server, '/me/merge', fault === 'hung' ? 1 : 3, fault);
    const merged = await clock.settle(me.merge(merge_ticket));
    assert.equal(merged.user.id, owner.id);
    assert.equal(new Set(keysOf(server, '/me/merge')).size, 1);
    assert.equal(server.transfers.size, 1);
    assert.equal(tab.state.user.data.views, 5);
    const again = await clock.settle(me.merge(merge_ticket));
    assert.equal(again.receipt, merged.receipt, 'repeated by the account: the same');
    assert.equal(owner.data.views, 5);
    assert.ok(tab.events.every(([event]) => event !== 'ended'));
  }
});

test('without bound tokens, an account gets a key of its own by a merge, too', async () => {
  const { clock, server, browser, owner } = await both();
  owner.password = undefined;
  const tab = browser.tab({ bindTokens: false });
  server.sessions.forEach((session) => (session.bound = false));
  await browser.tamper((facts) => (facts.account.tokens = {}));
  const me = account(tab);
  const { key } = await browser.facts();
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { merge_ticket } = await clock.settle(verify({ code: server.mail[0].code }));
  await clock.settle(me.merge(merge_ticket));
  assert.notEqual((await browser.facts()).key.thumbprint, key.thumbprint);
  assert.equal((await clock.settle(tab.refresh())).id, owner.id);
});

test('what is pressed while the guest moves is the account’s, exactly once', async () => {
  const { clock, server, tab, me, owner } = await both();
  owner.password = undefined;
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { merge_ticket } = await clock.settle(verify({ code: server.mail[0].code }));
  cut(server, '/me/merge', 2);
  const merged = me.merge(merge_ticket);
  while (server.transfers.size === 0) await new Promise((resolve) => setImmediate(resolve));
  const pressed = tab.data.increment('/views');
  await clock.settle(merged);
  await clock.settle(pressed);
  assert.equal(owner.data.views, 6);
  assert.equal(tab.data.peek('/views'), 6);
  assert.ok(tab.events.every(([event]) => event !== 'refused'));
});

test('signing in: the account is here, the guest is set aside and comes along', async () => {
  for (const [name, features] of Object.entries(MODES)) {
    for (const tokensAtMerge of [true, false]) {
      const { clock, server, browser, tab, me, guest, owner, signIn } = await both(features);
      server.tokensAtMerge = tokensAtMerge;
      const key = features.indexedDB === false ? undefined : (await browser.facts()).key.thumbprint;
      const signed = await clock.settle(me.signIn(signIn));
      assert.equal(signed.user.id, owner.id, name);
      assert.equal(signed.preview.data.views, 5);
      assert.doesNotMatch(JSON.stringify(signed), /access_token|refresh_token/);
      assert.equal(tab.state.user.id, owner.id);
      assert.equal(tab.data.peek('/views'), 3);
      const aside = await clock.settle(me.aside());
      assert.equal(aside.user.id, guest);
      assert.equal(aside.merge_ticket, signed.merge_ticket);
      if (key) {
        assert.equal(server.keys.get(key), guest, 'the guest keeps the key');
        const facts = await browser.facts();
        assert.equal(server.keys.get(facts.key.thumbprint), owner.id, 'and the account has another one');
        assert.equal(facts.account.tokens[' '].type, 'DPoP');
      }
      await clock.settle(me.merge(signed.merge_ticket));
      assert.equal(tab.data.peek('/views'), 5);
      assert.equal(await clock.settle(me.aside()), null);
      assert.equal((await clock.settle(tab.refresh())).id, owner.id);
      assert.equal(server.created, 1);
    }
  }
});

test('a sign-in after a reload still has its guest aside, who may return or be left', async () => {
  const { clock, server, browser, tab, me, guest, owner, signIn } = await both();
  await clock.settle(me.signIn(signIn));
  tab.kill();
  const next = browser.tab();
  const again = account(next);
  clock.skip(11 * 60_000);
  const late = await clock.settle(again.aside());
  assert.equal(late.user.id, guest);
  assert.equal(late.merge_ticket, undefined, 'the ticket is over');
  assert.equal((await clock.settle(again.returnToGuest())).id, guest);
  await clock.rest();
  assert.equal(next.state.user.kind, 'anonymous');
  assert.ok([...server.sessions.values()].filter(({ user }) => user === owner.id).every(({ ended }) => ended));
  await clock.settle(next.data.increment('/views'));
  assert.equal(server.users.get(guest).data.views, 3);
  await assert.rejects(clock.settle(again.returnToGuest()), { code: 'nobody' });
  await clock.settle(again.signIn(signIn));
  await clock.settle(again.leaveGuest());
  assert.equal(await clock.settle(again.aside()), null);
  assert.deepEqual(new Set(server.keys.values()), new Set([owner.id]));
  assert.equal(next.state.user.id, owner.id);
  assert.equal(server.created, 1);
});

test('a wrong password is tried once, and changes nothing', async () => {
  const { clock, server, tab, me, guest } = await both();
  await assert.rejects(clock.settle(me.signIn({ email: EMAIL, password: 'wrong' })), { code: 'invalid_credentials' });
  await assert.rejects(clock.settle(me.signIn({ email: 'no@example.org', password: 'x' })), {
    code: 'invalid_credentials',
  });
  assert.equal(server.log.filter(({ code }) => code === 'invalid_credentials').length, 2);
  assert.equal(tab.state.user.id, guest);
});

test('signing in by code, by link, and without a guest', async () => {
  const { clock, server, browser, tab, me, owner } = await both();
  await clock.settle(tab.logout());
  const byCode = await clock.settle(me.signIn({ email: EMAIL }));
  assert.equal(tab.state.status, 'nobody');
  await assert.rejects(clock.settle(byCode.verify('000000')), { code: 'invalid_code' });
  const signed = await clock.settle(byCode.verify(server.mail.at(-1).code));
  assert.equal(signed.merge_ticket, undefined);
  assert.equal(tab.state.user.id, owner.id);
  const { key, account: kept, aside } = await browser.facts();
  assert.equal(aside, undefined);
  assert.equal(kept.tokens[' '].type, 'DPoP');
  assert.ok([...server.sessions.values()].some(({ user, jkt }) => user === owner.id && jkt === key.thumbprint));
  assert.equal(await clock.settle(tab.logout()), true);
  assert.ok(
    [...server.sessions.values()].every(({ ended }) => ended),
    'a bound session of an account, too',
  );
  const byLink = await clock.settle(me.signIn({ email: EMAIL, link: true }));
  const waiting = clock.outcome(me.signingIn(byLink.claim, { link: true }).confirmed());
  await clock.rest();
  server.confirmLink();
  assert.equal((await waiting).value.user.id, owner.id);
  assert.equal(server.created, 1);
});

test('an address without an account says so only after the proof', async () => {
  const { clock, server, tab, me } = world();
  const { verify } = await clock.settle(me.signIn({ email: 'new@example.org' }));
  await assert.rejects(clock.settle(verify(server.mail[0].code)), { code: 'no_account', status: 404 });
  assert.equal(tab.state.status, 'nobody');
});

test('another account takes the first one’s place, which is signed out', async () => {
  const { clock, server, browser, tab, me, guest, owner, signIn } = await both();
  const second = server.register('second@example.org', { password: 'correct horse' });
  const { merge_ticket } = await clock.settle(me.signIn(signIn));
  await clock.settle(me.merge(merge_ticket));
  assert.equal((await browser.facts()).merged, guest);
  await clock.settle(me.signIn({ ...signIn, email: 'second@example.org' }));
  await clock.rest();
  assert.equal(tab.state.user.id, second.id);
  assert.ok([...server.sessions.values()].filter(({ user }) => user === owner.id).every(({ ended }) => ended));
  assert.equal(await clock.settle(me.aside()), null);
  assert.equal((await browser.facts()).merged, undefined);
});

test('a client whose tokens are always bound shows no guest at a sign-in, and loses none', async () => {
  const { clock, server, browser, tab, me, guest, owner, signIn } = await both();
  server.alwaysBinds = true;
  const { key } = await browser.facts();
  const { user, merge_ticket } = await clock.settle(me.signIn(signIn));
  assert.equal(user.id, owner.id);
  assert.equal(merge_ticket, undefined, 'one request shows one key');
  assert.notEqual((await browser.facts()).key.thumbprint, key.thumbprint);
  assert.equal((await clock.settle(me.returnToGuest())).id, guest);
  assert.equal((await clock.settle(tab.refresh())).id, guest);
  const { verify } = await clock.settle(me.keep({ email: 'second@example.org' }));
  assert.equal((await clock.settle(verify({ code: server.mail[0].code }))).outcome, 'converted');
  assert.equal(await clock.settle(tab.logout()), true);
  assert.ok([...server.sessions.values()].every(({ ended }) => ended));
});

test('tokens that are not to be bound stay so', async () => {
  const { clock, server, browser, guest, owner, signIn } = await both();
  const tab = browser.tab({ bindTokens: false });
  assert.equal((await clock.settle(tab.current())).id, guest);
  const me = account(tab);
  const { merge_ticket } = await clock.settle(me.signIn(signIn));
  await clock.settle(me.merge(merge_ticket));
  assert.equal((await browser.facts()).account.tokens[' '].type, 'Bearer');
  clock.skip(20 * 60_000);
  assert.equal((await clock.settle(tab.refresh())).id, owner.id);
  assert.equal(owner.data.views, 5);
  assert.equal(server.created, 1);
});

test('policies that changed since the preview: a newer one, with a newer ticket', async () => {
  const { clock, server, tab, me, owner, signIn } = await both();
  const { merge_ticket } = await clock.settle(me.signIn(signIn));
  server.policy = '2';
  await assert.rejects(clock.settle(me.merge(merge_ticket)), { code: 'preview_outdated' });
  assert.equal(tab.data.peek('/views'), 3);
  const newer = await clock.settle(me.preview(merge_ticket));
  assert.equal(newer.preview.policy, '2');
  assert.notEqual(newer.merge_ticket, merge_ticket);
  assert.equal((await clock.settle(me.aside())).merge_ticket, newer.merge_ticket);
  await clock.settle(me.merge(newer.merge_ticket));
  assert.equal(owner.data.views, 5);
  assert.equal(await clock.settle(me.aside()), null);
});

test('undone: the account has its own again, and the guest is aside with their own key', async () => {
  for (const [name, features] of Object.entries(MODES)) {
    for (const fault of [undefined, 'hung', 'cut']) {
      const { clock, server, browser, tab, me, guest, owner, signIn } = await both(features);
      const byKey = features.indexedDB !== false;
      const { key } = byKey ? await browser.facts() : {};
      const { merge_ticket } = await clock.settle(me.signIn(signIn));
      const { transfer } = await clock.settle(me.merge(merge_ticket));
      assert.equal((await clock.settle(me.transfer(transfer.id))).state, 'done');
      assert.equal(await clock.settle(me.aside()), null, 'nobody, as long as it stands');
      await assert.rejects(clock.settle(me.returnToGuest()), { code: 'nobody' });
      if (fault) cut(server, '/undo', 1, fault);
      // By key, the guest comes back also where the answer is not given twice.
      server.repeatsMerges = !byKey;
      const undone = await clock.settle(me.undo(transfer.id));
      assert.equal(undone.transfer.state, 'undone', name);
      assert.doesNotMatch(JSON.stringify(undone), /_token/);
      assert.equal(tab.state.user.id, owner.id);
      assert.equal(tab.data.peek('/views'), 3);
      assert.equal((await clock.settle(me.aside())).user.id, guest);
      if (byKey) {
        const { aside, merged } = await browser.facts();
        assert.equal(aside.key.thumbprint, key.thumbprint);
        assert.equal(merged, undefined, 'their changes are the account’s no more');
      }
      assert.equal((await clock.settle(me.undo(transfer.id))).transfer.state, 'undone', 'twice is the same');
      assert.equal((await clock.settle(me.returnToGuest())).id, guest);
      await clock.settle(tab.data.increment('/views'));
      assert.equal(server.users.get(guest).data.views, 3);
      assert.equal(owner.data.views, 3);
      assert.equal(server.created, 1);
    }
  }
});

test('undone on another device of the account: the guest is aside there, by the tokens that come along', async () => {
  for (const options of [{}, { bindTokens: false }]) {
    const { clock, server, me, guest, owner, signIn } = await both();
    const { transfer } = await clock.settle(me.merge((await clock.settle(me.signIn(signIn))).merge_ticket));
    const browser = new Browser(clock, server);
    const tab = browser.tab(options);
    const there = account(tab);
    await clock.settle(there.signIn(signIn));
    const undone = await clock.settle(there.undo(transfer.id));
    assert.equal(undone.guest.user.id, guest);
    const { aside, key } = await browser.facts();
    assert.equal(aside.token, undefined, 'nothing that anybody could use');
    assert.equal(aside.key.thumbprint === key.thumbprint, options.bindTokens !== false);
    assert.equal((await clock.settle(there.returnToGuest())).id, guest);
    clock.skip(20 * 60_000);
    assert.equal((await clock.settle(tab.refresh())).id, guest);
    assert.equal(owner.data.views, 3);
    assert.equal(server.created, 1);
  }
});

test('line_18 a merge whose answer is given once only: told, and signing in goes on', async () => {
  const { clock, server, tab, me, owner } = await both();
  owner.password = undefined;
  server.repeatsMerges = false;
  const { verify } = await clock.settle(me.keep({ email: EMAIL }));
  const { merge_ticket } = await clock.settle(verify({ code: server.mail[0].code }));
  cut(server, '/me/merge', 2);
  await assert.rejects(clock.settle(me.merge(merge_ticket)), { code: 'guest_merged', ended: true });
  assert.equal(tab.state.status, 'ended');
  const signing = await clock.settle(me.signIn({ email: EMAIL }));
  await clock.settle(signing.verify(server.mail.at(-1).code));
  assert.equal(tab.state.user.id, owner.id);
  assert.equal(tab.data.peek('/views'), 5, 'nothing is lost');
  assert.equal(server.created, 1);
});

test('a password is changed, forgotten and reset', async () => {
  const { clock, server, browser, tab, me, owner, signIn } = await both();
  const other = new Browser(clock, server).tab();
  await clock.settle(account(other).signIn(signIn));
  await clock.settle(tab.logout());
  await clock.settle(me.signIn(signIn));
  await assert.rejects(clock.settle(me.changePassword({ current: 'wrong', new: 'x' })), {
    code: 'invalid_credentials',
  });
  assert.equal(server.calls('POST', '/v1/me/password').length, 1);
  cut(server, '/me/password');
  const { key } = await browser.facts();
  assert.equal((await clock.settle(me.changePassword({ current: signIn.password, new: 'a new one' }))).id, owner.id);
  assert.equal((await browser.facts()).key.thumbprint, key.thumbprint);
  assert.equal((await clock.settle(tab.refresh())).id, owner.id);
  await assert.rejects(clock.settle(other.refresh()), { ended: true, code: 'session_ended' });
  await clock.settle(me.forgotPassword({ email: EMAIL }));
  await clock.settle(me.forgotPassword({ email: 'nobody@example.org' }));
  await clock.settle(me.resetPassword(server.mail.at(-1).token, 'the newest'));
  assert.equal(owner.password, 'the newest');
  await assert.rejects(clock.settle(tab.refresh()), { ended: true });
  assert.equal((await clock.settle(me.signIn({ email: EMAIL, password: 'the newest' }))).user.id, owner.id);
});
