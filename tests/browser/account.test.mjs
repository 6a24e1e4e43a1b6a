// Becoming somebody on the demo page, in Chromium: PASSERBY_BIN=… CART_BIN=… [CHROMIUM=…] [PASSERBY_SCREENSHOTS=…] npm test

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { check, guest, launch, LOOKS, nobody, open, press, quiet, saved, says, shown, sure, text, views, visitor as visit, world as makeWorld } from './visitor.mjs';

const PASSWORD = 'a walk by the canal';
const OTHER = 'two swans and a heron';

let world;
let browser;

before(async () => {
  [world, browser] = await Promise.all([makeWorld(), launch()]);
});

after(async () => {
  await browser?.close();
  await world?.close();
});

/** 401: whoever asks while a new session is being bound to the device's key is told to ask again. */
const visitor = async (t, { expected = [], ...options } = {}) =>
  (await visit(t, browser, { expected: [401, ...expected], ...options })).context;

/** An address that nobody else in these tests has. */
let people = 0;
const address = () => `ada.${(people += 1)}@example.com`;

/** Messages that were read, by their ids. */
const read = new Set();

/** The next message to an address that asks for something: its code and its link. */
async function message(to) {
  for (let tries = 0; tries < 200; tries += 1) {
    const answer = await fetch(`${world.origin}/dev/mailbox/messages?${new URLSearchParams({ to })}`);
    const unread = (await answer.json()).filter(({ id, links }) => !read.has(id) && links.length > 0).at(-1);
    if (unread) {
      read.add(unread.id);
      assert.ok(unread.links[0].startsWith(`${world.origin}/ui/`));
      return { code: unread.codes[0], link: unread.links[0] };
    }
    await pause(50);
  }
  return assert.fail(`no message came to ${to}`);
}

const wrong = (code) => (code === '000000' ? '000001' : '000000');
const blamed = async (page, field, words) => {
  await page.locator(`#${field}[aria-invalid=true]`).waitFor();
  const error = await page.locator(`#${field}`).getAttribute('aria-describedby');
  assert.match(await text(page, error), words);
  assert.equal(await page.evaluate(() => document.activeElement.id), field, 'the field that is to blame has the focus');
};
const hidden = (page, id) => page.locator(`#${id}`).waitFor({ state: 'hidden' });
/** Waits until the page has asked for all that it shows of somebody. */
const settled = (page) => page.locator('#sessions li').first().waitFor();

/** A guest who pressed so many times. */
async function pressed(context, count) {
  const { page, id } = await guest(context, world);
  for (let n = 2; n <= count; n += 1) {
    await press(page, 'play');
    await views(page, n);
  }
  await saved(page);
  return { page, id };
}

/** Claims the address on the page, up to the code. */
async function claim(page, email) {
  await page.locator('#keep-email').fill(email);
  await press(page, 'keep-go');
  await shown(page, 'prove');
  return message(email);
}

async function prove(page, code, password = '') {
  await page.locator('#prove-code').fill(code);
  if (password) await page.locator('#prove-password').fill(password);
  await press(page, 'prove-go');
}

/** An account with three views, on a page of its own. */
async function member(t, password = PASSWORD, options) {
  const email = address();
  const context = await visitor(t, options);
  const { page, id } = await pressed(context, 3);
  const { code } = await claim(page, email);
  await prove(page, code, password);
  await says(page, `You are ${email} now`);
  await page.locator('#identifiers li').waitFor();
  return { context, page, id, email };
}

/** Signs in by password. */
async function signIn(page, email, password = PASSWORD) {
  const form = page.locator('#sign-in');
  if ((await form.getAttribute('open')) === null) await form.locator('summary').click();
  await page.locator('#sign-in-email').fill(email);
  await page.locator('#sign-in-password').fill(password);
  await press(page, 'sign-in-go');
}

/** The rows of the preview, as texts. */
const preview = async (page) => {
  const rows = await page.locator('#preview-body tr').all();
  return Promise.all(rows.map((row) => row.locator('th code, td').allInnerTexts()));
};

test('kept: e-mail, code, password; the same id, the same counter, and so on a second browser', async (t) => {
  const email = address();
  const context = await visitor(t, { expected: [400] });
  const { page, id } = await pressed(context, 3);
  const tab = await open(context, world);
  await views(tab, 3);
  await press(page, 'keep-go');
  await blamed(page, 'keep-email', /Type an e-mail/);
  await page.locator('#keep-email').fill('ada at home');
  await press(page, 'keep-go');
  await blamed(page, 'keep-email', /\w/);

  const { code } = await claim(page, email);
  assert.match(await text(page, 'prove-check'), /^\d\d$/);
  const mailbox = await page.locator('#prove-mailbox').getAttribute('href');
  assert.equal(mailbox, `/dev/mailbox?to=${encodeURIComponent(email)}`);
  await press(page, 'prove-go');
  await blamed(page, 'prove-code', /six digits/);
  await prove(page, wrong(code));
  await blamed(page, 'prove-code', /wrong/);
  await prove(page, code, '12345678');
  await blamed(page, 'prove-password', /common/);
  assert.equal((await world.user(id)).kind, 'anonymous', 'until it is proven, a guest');
  await prove(page, `${code.slice(0, 3)} ${code.slice(3)}`, PASSWORD);
  await says(page, `You are ${email} now: the same id, the same counter`);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'member');
  await hidden(page, 'keep');
  await hidden(page, 'prove');
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal(await text(page, 'guest-kind'), 'regular');
  assert.equal(await text(page, 'views'), '3');
  await tab.locator('#who-text', { hasText: email }).waitFor();
  assert.equal(await text(tab, 'guest-id'), id, 'the other tab knows');
  await shown(tab, 'member');

  const second = await open(await visitor(t), world);
  await nobody(second);
  await signIn(second, email.toUpperCase());
  await views(second, 3);
  assert.equal(await text(second, 'guest-id'), id);
  await says(second, email);
  await second.locator('#who-text', { hasText: email }).waitFor();
  assert.ok(!(await second.locator('#aside').isVisible()), 'nobody was here before');
  await press(second, 'play');
  await views(second, 4);
  await saved(second);
  await page.reload();
  await views(page, 4);
  assert.equal((await world.user(id)).data.views, 4);
});

test('a reload in the middle of a claim: it goes on, with the same digits; cancelled, it is over', async (t) => {
  const email = address();
  const { page, id } = await pressed(await visitor(t), 2);
  const { code } = await claim(page, email);
  const digits = await text(page, 'prove-check');
  await page.reload();
  await shown(page, 'prove');
  assert.equal(await text(page, 'prove-check'), digits);
  assert.equal(await text(page, 'prove-to'), email);
  await press(page, 'prove-cancel');
  await hidden(page, 'prove');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'keep-email');
  await settled(page);
  await page.reload();
  await settled(page);
  assert.ok(!(await page.locator('#prove').isVisible()));

  const { code: next } = await claim(page, email);
  assert.notEqual(`${digits} ${code}`, `${await text(page, 'prove-check')} ${next}`);
  await page.reload();
  await shown(page, 'prove');
  await prove(page, next);
  await says(page, `You are ${email} now`);
  assert.equal(await text(page, 'guest-id'), id);
  await page.reload();
  await shown(page, 'member');
  await views(page, 2);
});

test('kept by the link, opened on another device: the same digits there, and no code here', async (t) => {
  const email = address();
  const { page, id } = await pressed(await visitor(t), 2);
  const { link } = await claim(page, email);
  const context = await visitor(t);
  const phone = await context.newPage();
  await phone.goto(link);
  assert.equal(await phone.locator('.digits').innerText(), await text(page, 'prove-check'));
  assert.ok(await page.locator('#prove-code').isVisible(), 'a look confirms nothing');
  await phone.locator('button[value=confirm]').click();
  await phone.locator('h1', { hasText: 'Confirmed' }).waitFor();
  assert.deepEqual(await context.cookies(), [], 'nobody is signed in there');
  await shown(page, 'prove-linked');
  await hidden(page, 'prove-code');
  await press(page, 'prove-go');
  await says(page, `You are ${email} now`);
  assert.equal(await text(page, 'guest-id'), id);
});

test('signed in by a code, over a reload; a wrong one is said at its field', async (t) => {
  const { id, email } = await member(t, '');
  const page = await open(await visitor(t, { expected: [400, 409] }), world);
  await page.locator('#sign-in-email').fill(email);
  await press(page, 'sign-in-code');
  await shown(page, 'prove');
  const digits = await text(page, 'prove-check');
  assert.ok(!(await page.locator('#prove-password').isVisible()));
  const { code } = await message(email);
  await prove(page, wrong(code));
  await blamed(page, 'prove-code', /wrong/);
  await page.reload();
  await shown(page, 'prove');
  assert.equal(await text(page, 'prove-check'), digits);
  await prove(page, code);
  await views(page, 3);
  assert.equal(await text(page, 'guest-id'), id);
  await page.reload();
  await shown(page, 'member');
  assert.ok(!(await page.locator('#prove').isVisible()), 'what was signed in with is not asked for again');
});

test('signed in by the link of the message: the device that began goes on by itself', async (t) => {
  const { id, email } = await member(t, '');
  const page = await open(await visitor(t, { expected: [409] }), world);
  await page.locator('#sign-in-email').fill(email);
  await press(page, 'sign-in-code');
  await shown(page, 'prove');
  const { link } = await message(email);
  const phone = await (await visitor(t)).newPage();
  await phone.goto(link);
  assert.equal(await phone.locator('.digits').innerText(), await text(page, 'prove-check'));
  await phone.locator('button[value=confirm]').click();
  await phone.locator('h1', { hasText: 'Confirmed' }).waitFor();
  await shown(page, 'member');
  await views(page, 3);
  assert.equal(await text(page, 'guest-id'), id);
});

test('the guest’s two views come along: 3 and 2 are 5; undone they are 3 and 2 again', async (t) => {
  const { id, email } = await member(t);
  const { page, id: other } = await pressed(await visitor(t, { expected: [409] }), 2);
  await page.locator('#display-name').fill('Zoë');
  await press(page, 'profile-save');
  await saved(page);
  await signIn(page, email);
  await shown(page, 'aside');
  await views(page, 3);
  assert.deepEqual((await preview(page)).sort(), [['display_name', 'Zoë', '–', 'Zoë'], ['views', '2', '3', '5']]);
  assert.match(await text(page, 'preview-body'), /both count/);
  await page.locator('#who-text', { hasText: email }).waitFor();
  await settled(page);
  await page.reload();
  await shown(page, 'aside-merge');
  assert.deepEqual((await preview(page)).length, 2, 'after a reload it is offered still');
  await press(page, 'aside-merge');
  await views(page, 5);
  await shown(page, 'moved');
  await says(page, '5 views now');
  await hidden(page, 'aside');
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal((await world.user(id)).data.views, 5);
  assert.equal((await world.user(other)).id, id, 'the guest’s id leads to the account');

  await page.reload();
  await shown(page, 'moved');
  await press(page, 'undo');
  await views(page, 3);
  await shown(page, 'aside');
  await hidden(page, 'moved');
  assert.match(await text(page, 'aside-text'), /a guest with 2 views/);
  assert.ok(!(await page.locator('#aside-merge').isVisible()), 'there is no ticket any more');
  assert.deepEqual((await world.user(id)).data, { views: 3 });
  assert.deepEqual((await world.user(other)).data, { views: 2, display_name: 'Zoë' });

  await press(page, 'aside-return');
  await views(page, 2);
  assert.equal(await text(page, 'guest-id'), other);
  await shown(page, 'keep');
  await press(page, 'play');
  await views(page, 3);
  await saved(page);
  await signIn(page, email);
  await shown(page, 'aside-merge');
  await press(page, 'aside-merge');
  await views(page, 6);
  assert.equal((await world.user(id)).data.views, 6);
});

test('what was written after a merge stays when it is undone, and the page says so', async (t) => {
  const { id, email } = await member(t);
  const { page } = await pressed(await visitor(t), 2);
  await signIn(page, email);
  await press(page, 'aside-merge');
  await shown(page, 'moved');
  await press(page, 'play');
  await views(page, 6);
  await saved(page);
  await press(page, 'undo');
  await says(page, 'Written since');
  await shown(page, 'aside');
  assert.match(await text(page, 'status'), /\/views/);
  assert.equal((await world.user(id)).data.views, Number(await text(page, 'views')));
});

test('keeping under an address that has an account: the proof offers to bring everything along', async (t) => {
  const { id, email } = await member(t);
  const { page, id: other } = await pressed(await visitor(t), 2);
  const { code } = await claim(page, email);
  await prove(page, code);
  await shown(page, 'aside');
  assert.match(await text(page, 'aside-text'), /has an account already/);
  assert.deepEqual(await preview(page), [['views', '2', '3', '5']]);
  assert.equal(await text(page, 'guest-id'), other, 'until they say so, they are the guest');
  assert.ok(!(await page.locator('#aside-leave').isVisible()));
  await press(page, 'aside-return');
  await hidden(page, 'aside');
  await shown(page, 'keep');
  assert.equal(await text(page, 'views'), '2');

  const { code: next } = await claim(page, email);
  await prove(page, next);
  await press(page, 'aside-merge');
  await views(page, 5);
  assert.equal(await text(page, 'guest-id'), id);
  await page.locator('#who-text', { hasText: email }).waitFor();
  assert.equal((await world.user(id)).data.views, 5);
});

test('a guest is left behind only by saying so, also when signing out', async (t) => {
  const { id, email } = await member(t);
  const { page, id: other } = await pressed(await visitor(t, { expected: [409] }), 2);
  await signIn(page, email);
  await shown(page, 'aside');
  await settled(page);
  await press(page, 'sign-out');
  await sure(page, 'Sign out, and leave the guest?', 'no');
  assert.equal(await text(page, 'guest-id'), id);
  await press(page, 'aside-return');
  await views(page, 2);
  assert.equal(await text(page, 'guest-id'), other);

  await signIn(page, email);
  await shown(page, 'aside');
  await press(page, 'aside-leave');
  await sure(page, 'Leave the guest behind?');
  await says(page, 'Left behind');
  await hidden(page, 'aside');
  await press(page, 'sign-out');
  await says(page, 'Signed out');
  await nobody(page);
  assert.equal(await text(page, 'views'), '0');
  await shown(page, 'sign-in-form');
  await press(page, 'play');
  await views(page, 1);
  await settled(page);
  assert.ok(![id, other].includes(await text(page, 'guest-id')), 'somebody new');
});

test('members: addresses are added and removed, but for the last', async (t) => {
  const { page, email } = await member(t, PASSWORD, { expected: [400, 409] });
  const second = address();
  const remove = async (value) => {
    await page.getByRole('button', { name: `Remove ${value}`, exact: true }).click();
    await sure(page, `Remove ${value}?`);
  };
  await remove(email);
  await says(page, 'last way in');
  await page.locator('#add-email').fill('nonsense');
  await press(page, 'add-go');
  await blamed(page, 'add-email', /\w/);
  await page.locator('#add-email').fill(second);
  await press(page, 'add-go');
  await shown(page, 'prove');
  assert.ok(!(await page.locator('#prove-password').isVisible()));
  const { code } = await message(second);
  await prove(page, code);
  await says(page, `${second} is yours, too`);
  await page.locator('#identifiers li').nth(1).waitFor();
  await remove(email);
  await says(page, 'Removed');
  await page.locator('#who-text', { hasText: second }).waitFor();
  assert.equal(await page.locator('#identifiers li').count(), 1);

  const other = await open(await visitor(t), world);
  await signIn(other, email);
  await blamed(other, 'sign-in-password', /not right/);
  await signIn(other, second);
  await views(other, 3);
});

test('members: the password is changed, and all other sessions end; forgotten, it is set by a link', async (t) => {
  const { page, id, email } = await member(t, PASSWORD, { expected: [400] });
  const other = await open(await visitor(t), world);
  await signIn(other, email);
  await views(other, 3);
  await settled(other);

  const change = async (current, fresh) => {
    await page.locator('#password-current').fill(current);
    await page.locator('#password-new').fill(fresh);
    await press(page, 'password-go');
  };
  await page.locator('#password summary').click();
  await change(OTHER, OTHER);
  await blamed(page, 'password-current', /not the password/);
  await change(PASSWORD, 'password');
  await blamed(page, 'password-new', /common/);
  await change(PASSWORD, OTHER);
  await says(page, 'The password is set');
  assert.equal(await text(page, 'guest-id'), id);
  await press(page, 'play');
  await views(page, 4);
  await saved(page);

  await press(other, 'devices-again');
  await shown(other, 'ended');
  assert.match(await text(other, 'ended-title'), /signed out/);
  await signIn(other, email);
  await blamed(other, 'sign-in-password', /not right/);
  await signIn(other, email, OTHER);
  await views(other, 4);

  const third = await open(await visitor(t), world);
  await third.locator('#sign-in-email').fill(email);
  await press(third, 'sign-in-forgot');
  await third.locator('#sign-in-told', { hasText: 'is on its way' }).waitFor();
  const { link } = await message(email);
  const form = await (await visitor(t)).newPage();
  await form.goto(link);
  await form.locator('#password').fill(PASSWORD);
  await form.locator('#again').fill(PASSWORD);
  await form.locator('button').click();
  await form.locator('h1', { hasText: 'Your password is set' }).waitFor();
  await signIn(third, email);
  await views(third, 4);
});

test('a sign-in that leads nowhere says why at its field, and the guest is not touched', async (t) => {
  const { page, id } = await pressed(await visitor(t, { expected: [400, 404, 409] }), 2);
  const stranger = address();
  await page.locator('#sign-in summary').click();
  await press(page, 'sign-in-go');
  await blamed(page, 'sign-in-email', /Type the e-mail/);
  await page.locator('#sign-in-email').fill(stranger);
  await press(page, 'sign-in-go');
  await blamed(page, 'sign-in-password', /Type the password/);
  await signIn(page, stranger);
  await blamed(page, 'sign-in-password', /not right/);
  await press(page, 'sign-in-code');
  await shown(page, 'prove');
  const { code } = await message(stranger);
  await prove(page, code);
  await blamed(page, 'sign-in-email', /Nobody has an account/);
  assert.equal(await page.locator('#sign-in-email').inputValue(), stranger);
  await press(page, 'play');
  await views(page, 3);
  await saved(page);
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal((await world.user(id)).data.views, 3);
});

test('a second device of the guest learns that it became an account, and signs in', async (t) => {
  const email = address();
  const { page, id } = await pressed(await visitor(t), 2);
  await press(page, 'hand-off-make');
  await shown(page, 'hand-off-offer');
  const code = await text(page, 'hand-off-code');
  const second = await open(await visitor(t, { expected: [409] }), world);
  await second.locator('#code').fill(code);
  await press(second, 'code-take');
  await shown(page, 'hand-off-asked');
  await press(page, 'hand-off-confirm');
  await views(second, 2);
  await settled(second);

  const { code: proof } = await claim(page, email);
  await prove(page, proof, PASSWORD);
  await says(page, `You are ${email} now`);
  await hidden(page, 'hand-off');
  await press(second, 'devices-again');
  await shown(second, 'ended');
  assert.match(await text(second, 'ended-title'), /is an account now/);
  await signIn(second, email);
  await views(second, 2);
  assert.equal(await text(second, 'guest-id'), id);
});

test('without IndexedDB, by cookie: kept, and the guest comes along', async (t) => {
  const cookie = async (options) => {
    const context = await visitor(t, options);
    await context.addInitScript(() => Object.defineProperty(window, 'indexedDB', { value: undefined }));
    return context;
  };
  const email = address();
  const { page, id } = await pressed(await cookie(), 3);
  const { code } = await claim(page, email);
  await prove(page, code, PASSWORD);
  await says(page, `You are ${email} now`);
  assert.equal(await text(page, 'guest-id'), id);
  await page.reload();
  await shown(page, 'member');
  await views(page, 3);

  const { page: other } = await pressed(await cookie(), 2);
  await signIn(other, email);
  await shown(other, 'aside');
  assert.ok(!(await other.locator('#aside-return').isVisible()), 'the account’s cookie took the place of the guest’s');
  await press(other, 'aside-merge');
  await views(other, 5);
  assert.equal(await text(other, 'guest-id'), id);
});

test('everything by keyboard', async (t) => {
  const email = address();
  const { page } = await pressed(await visitor(t), 1);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let steps = 0; steps < 60 && (await focused()) !== id; steps += 1) await page.keyboard.press('Tab');
    assert.equal(await focused(), id);
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none', `${id} shows its focus`);
  };
  await tabTo('keep-email');
  await page.keyboard.type(email);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'prove-code');
  const { code } = await message(email);
  await page.keyboard.type(code);
  await tabTo('prove-password');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'member');
  await tabTo('sign-out');
  await page.keyboard.press('Enter');
  await nobody(page);
  await page.waitForFunction(() => document.activeElement.id === 'play');
  await page.keyboard.press('Enter');
  await views(page, 1);
  await settled(page);
  await page.locator('#sign-in summary').focus();
  await page.keyboard.press('Enter');
  await tabTo('sign-in-email');
  await page.keyboard.type(email);
  await tabTo('sign-in-password');
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'aside');
  await tabTo('aside-merge');
  await page.keyboard.press('Enter');
  await views(page, 2);
  await page.waitForFunction(() => document.activeElement.id === 'moved');
  await tabTo('undo');
  await page.keyboard.press('Enter');
  await views(page, 1);
  await page.waitForFunction(() => document.activeElement.id === 'aside');
});

// The demo page is looked at in all of them elsewhere.
for (const { name, options } of LOOKS.filter((look) => !['phone-dark', 'narrow-light'].includes(look.name))) {
  test(`accessible and in its frame: ${name}`, async (t) => {
    const email = address();
    const { page } = await pressed(await visitor(t, { ...options, expected: [400] }), 3);
    const look = (state, more) => check(page, `account-${name}-${state}`, more);
    await quiet(page);
    await page.locator('#sign-in summary').click();
    await look('keep', { fullPage: true });
    const { code } = await claim(page, email);
    await look('prove');
    await prove(page, wrong(code));
    await blamed(page, 'prove-code', /wrong/);
    await look('wrong');
    await prove(page, code, PASSWORD);
    await says(page, 'now');
    await page.locator('#identifiers li').waitFor();
    await page.locator('#password summary').click();
    await look('member');
    await quiet(page);
    await press(page, 'sign-out');
    await nobody(page);
    await look('nobody', { fullPage: true });
    for (const count of [1, 2]) {
      await press(page, 'play');
      await views(page, count);
    }
    await page.locator('#display-name').fill('Zoë, who walks by every day and never says a word');
    await press(page, 'profile-save');
    await says(page, 'Kept');
    await settled(page);
    await signIn(page, email);
    await shown(page, 'aside');
    await settled(page);
    await look('aside');
    await press(page, 'aside-merge');
    await shown(page, 'moved');
    await look('moved');
    await press(page, 'undo');
    await shown(page, 'aside');
    await look('undone');
  });
}
