// To a second device and back by recovery words, in Chromium: PASSERBY_BIN=… CART_BIN=… [CHROMIUM=…] [PASSERBY_SCREENSHOTS=…] npm test

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { API_KEY } from './server.mjs';
import { check, guest, launch, LOOKS, nobody, open, press, quiet, saved, says, shot, shown, sure, text, views, visitor as visit, world as makeWorld } from './visitor.mjs';

const CLIENT = 'passerby-demo';
/** As in development, but that recovery waits. */
const WAITING = `
dev = true
[[tenants]]
id = "de7e10b0-0000-4000-8000-000000000001"
name = "development"
[tenants.guests]
recovery_wait = "3s"
[[tenants.api_keys]]
name = "development"
key = "${API_KEY}"
`;

let world;
let waiting;
let browser;

before(async () => {
  [world, waiting, browser] = await Promise.all([makeWorld(), makeWorld({ config: WAITING }), launch()]);
});

after(async () => {
  await browser?.close();
  await Promise.all([world?.close(), waiting?.close()]);
});

const visitor = async (t, options) => (await visit(t, browser, options)).context;

/** A guest with their page. */
async function host(t, options) {
  const context = await visitor(t, options);
  return { context, ...(await guest(context, world)) };
}

/** Makes a code on the guest's page. */
async function offer(page, mode = 'share') {
  await page.locator(`input[name=mode][value=${mode}]`).check();
  await press(page, 'hand-off-make');
  await shown(page, 'hand-off-offer');
  const code = await text(page, 'hand-off-code');
  assert.match(code, /^[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$/);
  return { code, url: await page.locator('#hand-off-link').getAttribute('href'), ui: `/ui/hand-off#code=${code}&client_id=${CLIENT}` };
}

/** What a device asks that is no browser: `POST /v1/guests/{path}`. */
async function ask(path, body, { origin } = world) {
  const answer = await fetch(`${origin}/v1/guests/${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ client_id: CLIENT, ...body }),
  });
  return { ...(await answer.json()), status: answer.status, headers: answer.headers };
}

/** Types a code on the demo page of a second device. */
async function type(page, code) {
  await page.locator('#code').fill(code);
  await press(page, 'code-take');
}

/** Types recovery words there. */
async function recover(page, words) {
  await page.locator('#recovery-words').fill(words);
  await press(page, 'words-use');
}

/** The words that the page shows, once they are there. */
async function newWords(page) {
  await shown(page, 'new-words');
  const words = await page.locator('#words li').allInnerTexts();
  assert.equal(words.length, 12);
  return words.join(' ');
}

/** Waits until both devices show digits, and that they are the same; `id` is where the second one shows them. */
async function compare(first, second, id) {
  await Promise.all([shown(first, 'hand-off-asked'), shown(second, id)]);
  const digits = await text(first, 'hand-off-check');
  assert.match(digits, /^\d\d$/);
  assert.equal(await text(second, id), digits);
}

/** Whose session cookie a browser has; null for nobody's. */
async function cookieOf(context) {
  const answer = await context.request.get(`${world.origin}/v1/me`);
  return answer.status() === 200 ? (await answer.json()).id : null;
}

/** Wrong codes are counted by address, here everybody's: what was counted is forgotten with the process. */
async function forgive() {
  await world.server.stop();
  await world.server.start();
}

test('shared by a typed code: both devices show the same digits, and then have the same guest', async (t) => {
  const { page: first, id } = await host(t);
  const second = await open(await visitor(t), world);
  const { code, url } = await offer(first);
  assert.equal(url, `${world.origin}/demo#code=${code}&client_id=${CLIENT}`);
  await type(second, code.toLowerCase().replace('-', ' '));
  await compare(first, second, 'taking-check');
  assert.match(await text(first, 'hand-off-device'), /Chrome on Linux/);
  assert.match(await text(first, 'hand-off-means'), /both devices have the guest/);
  await nobody(second);
  await press(first, 'hand-off-confirm');
  await says(second, 'This device is in');
  await views(second, 1);
  assert.equal(await text(second, 'guest-id'), id);
  await press(second, 'play');
  await views(second, 2);
  await saved(second);
  await first.locator('#keys li').nth(1).waitFor();
  await first.locator('#notices', { hasText: 'A second device came in' }).waitFor();
  await shot(first, 'hand-off-two-keys', { fullPage: true });
  assert.equal((await world.user(id)).data.views, 2);
  await first.reload();
  await views(first, 2);

  await first.locator('#keys li', { hasNotText: 'this device' }).locator('button', { hasText: 'Remove' }).click();
  await sure(first, 'Remove Chrome on Linux?');
  await says(first, 'Removed');
  await first.locator('#keys li').nth(1).waitFor({ state: 'detached' });
});

test('moved: the first device is signed out, and says why', async (t) => {
  const { page: first, id } = await host(t, { expected: [401, 409] });
  const second = await open(await visitor(t), world);
  const before = await world.users();
  const { code } = await offer(first, 'move');
  await type(second, code);
  await compare(first, second, 'taking-check');
  assert.match(await text(first, 'hand-off-means'), /this device is signed out/);
  await press(first, 'hand-off-confirm');
  await views(second, 1);
  assert.equal(await text(second, 'guest-id'), id);
  await shown(first, 'ended');
  assert.match(await text(first, 'ended-why'), /went to your other device/);
  await shot(first, 'hand-off-moved');
  assert.equal(await second.locator('#keys li').count(), 1);
  assert.equal(await world.users(), before, 'nobody takes its place');
});

test('a link on a device that has a guest: who would be left behind is said first, and nothing is done unasked', async (t) => {
  const { page: first, id } = await host(t);
  const { context, page: second, id: own } = await host(t);
  const { url } = await offer(first);
  const link = await context.newPage();
  await link.goto(url);
  await shown(link, 'arrived');
  assert.match(await text(link, 'arrived-replaces'), /has a guest already .* one view.* left behind/);
  assert.equal(new URL(link.url()).hash, '', 'the code leaves the address bar');
  await check(link, 'hand-off-arrived');
  await press(link, 'arrived-not');
  await link.locator('#arrived').waitFor({ state: 'hidden' });
  assert.equal(await text(link, 'guest-id'), own);
  assert.ok(await first.locator('#hand-off-offer').isVisible(), 'nobody has asked');

  await link.goto('about:blank');
  await link.goto(url);
  await press(link, 'arrived-take');
  await compare(first, link, 'taking-check');
  assert.equal(await text(link, 'guest-id'), own, 'until it is confirmed, nothing changes');
  await press(first, 'hand-off-confirm');
  await says(link, 'This device is in');
  await Promise.all([link, second].map((page) => page.waitForFunction((wanted) => document.querySelector('#guest-id').textContent === wanted, id)));
});

test('a device that has a guest is asked when a code is typed, too', async (t) => {
  const { page: first } = await host(t);
  const { page: second, id: own } = await host(t);
  const { code } = await offer(first);
  await second.locator('#bring summary').click();
  await type(second, code);
  await sure(second, 'Leave this guest behind?', 'no');
  await second.locator('#code-take:not([aria-busy])').waitFor();
  assert.equal(await text(second, 'guest-id'), own);
  assert.ok(await first.locator('#hand-off-offer').isVisible(), 'nobody has asked');
});

test('a reload while the other device is waited for goes on where it was', async (t) => {
  const { page: first, id } = await host(t);
  const second = await open(await visitor(t), world);
  const { code } = await offer(first);
  await type(second, code);
  await compare(first, second, 'taking-check');
  await second.reload();
  await compare(first, second, 'taking-check');
  await first.reload();
  await compare(first, second, 'taking-check');
  await press(first, 'hand-off-confirm');
  await views(second, 1);
  assert.equal(await text(second, 'guest-id'), id);
});

test('a third party that saw the code gets nothing without the confirmation', async (t) => {
  const { page: first, id } = await host(t, { expected: [400] });
  const { code } = await offer(first);
  const asked = await ask('hand-off', { code, device: 'A thief' });
  assert.deepEqual([asked.status, asked.user, asked.access_token], [200, undefined, undefined]);
  await shown(first, 'hand-off-asked');
  assert.match(await text(first, 'hand-off-device'), /A thief/);
  const again = await ask('hand-off', { code, id: asked.id });
  assert.equal(again.user, undefined, 'it waits still');
  await press(first, 'hand-off-refuse');
  await says(first, 'Withdrawn');
  const refused = await ask('hand-off', { code, id: asked.id });
  assert.deepEqual([refused.status, refused.code, refused.field], [400, 'invalid_code', '/code']);
  await first.reload();
  await views(first, 1);
  assert.equal(await text(first, 'guest-id'), id);
  await first.locator('#keys li').first().waitFor();
  assert.equal(await first.locator('#keys li').count(), 1);
});

test('a second asker cancels it for both, and both are told', async (t) => {
  const { page: first } = await host(t, { expected: [400, 404, 409] });
  const second = await open(await visitor(t, { expected: [400, 401, 409] }), world);
  const before = await world.users();
  const { code } = await offer(first);
  await type(second, code);
  await compare(first, second, 'taking-check');
  const third = await ask('hand-off', { code });
  assert.deepEqual([third.status, third.code], [409, 'hand_off_cancelled']);
  await says(second, 'Not in');
  await nobody(second);
  assert.ok(!(await second.locator('#taking').isVisible()));
  await says(first, 'Nobody was let in');
  await shown(first, 'hand-off-begin');
  await shot(first, 'hand-off-cancelled');
  assert.equal(await world.users(), before);
});

test('withdrawn on the first device, given up on the second', async (t) => {
  const { page: first } = await host(t);
  // 409: a code that is refused may have been heard before, so the key is asked whether it has a guest by now.
  const second = await open(await visitor(t, { expected: [400, 401, 409] }), world);
  const { code } = await offer(first);
  await press(first, 'hand-off-withdraw');
  await says(first, 'Withdrawn');
  await type(second, code);
  await second.locator('#code[aria-invalid=true]').waitFor();
  assert.notEqual(await text(second, 'code-error'), '');

  const { code: next } = await offer(first);
  await type(second, next);
  await compare(first, second, 'taking-check');
  await press(second, 'taking-cancel');
  await second.locator('#taking').waitFor({ state: 'hidden' });
  await nobody(second);
  await press(first, 'hand-off-refuse');
  await shown(first, 'hand-off-begin');
});

test('the right code used many times at once gives one success', async (t) => {
  await forgive();
  const { page: first, id } = await host(t);
  const { code } = await offer(first);
  const { id: asker } = await ask('hand-off', { code });
  await shown(first, 'hand-off-asked');
  await press(first, 'hand-off-confirm');
  await says(first, 'Confirmed');
  const answers = await Promise.all(Array.from({ length: 8 }, () => ask('hand-off', { code, id: asker })));
  const [winner, ...none] = answers.filter(({ status }) => status === 200);
  assert.equal(none.length, 0);
  assert.equal(winner.user.id, id);
  assert.deepEqual([...new Set(answers.filter((answer) => answer !== winner).map((answer) => answer.code))], ['invalid_code']);
});

test('recovery: the words bring the guest back, once, and end every other device', async (t) => {
  await forgive();
  const { page: first, id } = await host(t, { expected: [401, 409] });
  await press(first, 'recovery-make');
  const words = await newWords(first);
  await press(first, 'words-done');
  await first.locator('#recovery-status', { hasText: 'Words were made' }).waitFor();
  assert.equal(await first.locator('#words li').count(), 0, 'shown once');
  assert.ok(!(await first.content()).includes(words.split(' ').slice(0, 3).join(' ')));

  const context = await visitor(t, { expected: [400, 409] });
  const second = await open(context, world);
  await recover(second, 'twelve words that nobody was ever given in this whole wide world');
  await second.locator('#recovery-words[aria-invalid=true]').waitFor();
  assert.notEqual(await text(second, 'words-error'), '');
  await recover(second, `  ${words.toUpperCase().replaceAll(' ', '  ')} `);
  const next = await newWords(second);
  assert.notEqual(next, words);
  await says(second, 'Welcome back');
  await views(second, 1);
  assert.equal(await text(second, 'guest-id'), id);
  await shot(second, 'recovery-recovered', { fullPage: true });
  await press(first, 'devices-again');
  await shown(first, 'ended');
  assert.match(await text(first, 'ended-why'), /recovered or moved elsewhere/);

  const spent = await ask('recover', { code: words });
  assert.deepEqual([spent.status, spent.code], [400, 'invalid_code']);
  const answers = await Promise.all(Array.from({ length: 6 }, () => ask('recover', { code: next })));
  assert.equal(answers.filter(({ status }) => status === 200).length, 1, 'the right words used many times at once');
  assert.equal(answers.find(({ status }) => status === 200).user.id, id);
});

test('a recovery that waits: shown to whoever is signed in, who can stop it', async (t) => {
  const context = await visitor(t);
  const { page: first, id } = await guest(context, waiting);
  await press(first, 'recovery-make');
  const words = await newWords(first);
  await press(first, 'words-done');
  const second = await open(await visitor(t, { expected: [400, 409] }), waiting);
  await recover(second, words);
  await second.locator('#words-told', { hasText: 'Ask again then' }).waitFor();
  await nobody(second);
  await shot(second, 'recovery-waiting', { fullPage: true });
  await first.reload();
  await first.locator('#recovery-status', { hasText: 'uses your words' }).waitFor();
  await first.locator('#notices', { hasText: 'Somebody began to use the recovery words' }).waitFor();
  await first.locator('#recovery').scrollIntoViewIfNeeded();
  await check(first, 'recovery-pending', { fullPage: true });
  await first.locator('#recovery-status button').click();
  await says(first, 'Stopped');
  await first.locator('#recovery-status', { hasText: 'There are none' }).waitFor();
  await recover(second, words);
  await second.locator('#recovery-words[aria-invalid=true]').waitFor();
  await nobody(second);
  await first.reload();
  await views(first, 1);
  assert.equal(await text(first, 'guest-id'), id);
});

test('a recovery that waits and is not stopped: the same words bring the guest when the time is over', async (t) => {
  const context = await visitor(t, { expected: [401, 409] });
  const { page: first, id } = await guest(context, waiting);
  await press(first, 'recovery-make');
  const words = await newWords(first);
  const second = await open(await visitor(t), waiting);
  await recover(second, words);
  const told = second.locator('#words-told', { hasText: 'Ask again then' });
  await told.waitFor();
  const other = await ask('recover', { code: words }, waiting);
  assert.deepEqual([other.status, other.code], [409, 'recovery_pending'], 'nobody else comes in by them meanwhile');
  const done = second.locator('#new-words');
  for (let tries = 0; tries < 100 && !(await done.isVisible()); tries += 1) {
    await recover(second, words);
    await second.locator('#words-use:not([aria-busy])').waitFor({ state: 'attached' });
    await second.waitForTimeout(250);
  }
  await newWords(second);
  assert.equal(await text(second, 'guest-id'), id);
  await press(first, 'devices-again');
  await shown(first, 'ended');
});

test('the hosted page by its link: digits, confirmation, signed in', async (t) => {
  await forgive();
  const { page: first, id } = await host(t);
  const { ui } = await offer(first);
  const context = await visitor(t);
  const page = await context.newPage();
  await page.goto(world.origin + ui);
  await shown(page, 'offered');
  assert.equal(new URL(page.url()).hash, '', 'the code leaves the address bar');
  assert.ok(!(await page.locator('#offered-replaces').isVisible()));
  assert.ok(await first.locator('#hand-off-offer').isVisible(), 'a look asks nothing');
  await press(page, 'offered-go');
  await compare(first, page, 'check');
  await page.reload();
  await compare(first, page, 'check');
  assert.equal(await cookieOf(context), null);
  await press(first, 'hand-off-confirm');
  await shown(page, 'done');
  assert.equal(await cookieOf(context), id);
  const [cookie] = await context.cookies();
  assert.ok(cookie.httpOnly, 'no script can read the cookie');
  await first.locator('#sessions', { hasText: 'By cookie' }).waitFor();
});

test('the hosted page when answers get lost: asked for again, they are given again', async (t) => {
  await forgive();
  const { page: first, id } = await host(t);
  const { ui } = await offer(first);
  const context = await visitor(t, { expected: [0] });
  const page = await context.newPage();
  const lost = new Set();
  await page.route('**/v1/guests/hand-off', async (route) => {
    const answer = await route.fetch();
    const what = (await answer.json()).status ?? 'done';
    if (lost.has(what)) return route.fulfill({ response: answer });
    lost.add(what);
    return route.abort();
  });
  await page.goto(world.origin + ui);
  await press(page, 'offered-go');
  await compare(first, page, 'check');
  await press(first, 'hand-off-confirm');
  await shown(page, 'done');
  assert.deepEqual([...lost], ['waiting', 'done']);
  assert.equal(await cookieOf(context), id);
});

test('the hosted page on a device that has a guest: named first, and kept until the confirmation', async (t) => {
  const { page: first, id } = await host(t);
  const context = await visitor(t);
  const made = await context.request.post(`${world.origin}/v1/guests`, {
    headers: { Origin: world.origin },
    data: { client_id: CLIENT, session_type: 'cookie' },
  });
  assert.equal(made.status(), 201);
  const { user } = await made.json();
  const page = await context.newPage();
  const { code, ui } = await offer(first);
  await page.goto(world.origin + ui);
  await shown(page, 'offered-replaces');
  assert.ok((await text(page, 'offered-replaces')).includes(user.id.slice(-6)));
  await check(page, 'ui-hand-off-replaces');
  assert.equal(await cookieOf(context), user.id);
  assert.ok(await first.locator('#hand-off-offer').isVisible(), 'a look asks nothing');

  await page.goto(`${world.origin}/ui/hand-off`);
  await shown(page, 'typed-replaces');
  await page.locator('#code').fill(code);
  await page.keyboard.press('Enter');
  await compare(first, page, 'check');
  assert.equal(await cookieOf(context), user.id, 'until it is confirmed, nothing changes');
  await press(first, 'hand-off-confirm');
  await shown(page, 'done');
  assert.equal(await cookieOf(context), id);
});

test('the hosted page says what became of a code', async (t) => {
  const { page: first } = await host(t);
  const page = await (await visitor(t, { expected: [400, 401, 403, 409] })).newPage();
  const fails = (title) => page.locator('#failed h1', { hasText: title }).waitFor();
  await page.goto(`${world.origin}/ui/hand-off`);
  await press(page, 'go');
  await page.locator('#code[aria-invalid=true]').waitFor();
  await page.locator('#code').fill('AAAA-AAAA');
  await press(page, 'go');
  await fails('This code does not work');
  await check(page, 'ui-hand-off-wrong');

  const { ui } = await offer(first);
  await page.goto(world.origin + ui);
  await press(page, 'offered-go');
  await compare(first, page, 'check');
  await press(first, 'hand-off-refuse');
  await fails('Not let in');

  const { code, ui: next } = await offer(first);
  await ask('hand-off', { code });
  await page.goto('about:blank');
  await page.goto(world.origin + next);
  await press(page, 'offered-go');
  await fails('Cancelled, to be safe');

  await page.goto('about:blank');
  await page.goto(`${world.origin}/ui/hand-off#code=${code}&client_id=unknown`);
  await press(page, 'offered-go');
  await fails('This link is not for here');
  await press(page, 'again');
  await shown(page, 'typed');
});

// The demo page is looked at in all of them elsewhere.
for (const { name, options } of LOOKS.filter((look) => !['phone-light', 'narrow-dark'].includes(look.name))) {
  test(`accessible and in its frame: ${name}`, async (t) => {
    const { page: first } = await host(t, options);
    await quiet(first);
    const context = await visitor(t, options);
    const second = await context.newPage();
    const { code, ui } = await offer(first);
    await second.goto(`${world.origin}/ui/hand-off`);
    await shown(second, 'typed');
    await check(second, `ui-hand-off-${name}-typed`);
    await second.goto(world.origin + ui);
    await shown(second, 'offered');
    await check(second, `ui-hand-off-${name}-offered`);
    await press(second, 'offered-go');
    await compare(first, second, 'check');
    await check(second, `ui-hand-off-${name}-waiting`);
    await check(first, `hand-off-${name}-asked`);
    await press(first, 'hand-off-confirm');
    await shown(second, 'done');
    await check(second, `ui-hand-off-${name}-done`);

    const third = await open(await visitor(t, options), world);
    const { code: next, url } = await offer(first);
    assert.notEqual(next, code);
    await third.goto(url);
    await shown(third, 'arrived');
    await check(third, `hand-off-${name}-arrived`);
    await press(third, 'arrived-take');
    await compare(first, third, 'taking-check');
    await check(third, `hand-off-${name}-taking`);
  });
}

test('wrong codes are limited, and the pages say so and for how long', async (t) => {
  await forgive();
  t.after(forgive);
  const { page: first } = await host(t, { expected: [0] });
  const { code } = await offer(first);
  const second = await open(await visitor(t, { expected: [400, 409, 429] }), world);
  await type(second, 'AAAA-AAAA');
  await second.locator('#code[aria-invalid=true]').waitFor();
  let last;
  for (let guess = 0; guess < 20 && last?.status !== 429; guess += 1) {
    last = await ask('hand-off', { code: `BBBB-BB${guess % 10}${guess % 7}` });
    assert.ok(last.status === 429 || (last.status === 400 && guess < 9), `guess ${guess}: ${last.status}`);
  }
  assert.deepEqual([last.status, last.code], [429, 'too_many_requests']);
  assert.ok(Number(last.headers.get('retry-after')) > 0);
  await type(second, code);
  await says(second, 'Too many wrong codes');
  assert.match(await text(second, 'status'), /Retry after \d+ s/);
  await shot(second, 'hand-off-too-many');
  const words = await ask('recover', { code: 'twelve words that nobody was ever given in this whole wide world' });
  assert.equal(words.status, 429);
  await second.goto(`${world.origin}/ui/hand-off#code=${code}&client_id=${CLIENT}`);
  await press(second, 'offered-go');
  await second.locator('#failed h1', { hasText: 'Too many wrong codes' }).waitFor();
  assert.match(await text(second, 'failed-why'), /Try again in \d+ (minutes|seconds)/);
  await check(second, 'ui-hand-off-too-many');
  assert.ok(await first.locator('#hand-off-offer').isVisible(), 'even the right code was not heard');
});
