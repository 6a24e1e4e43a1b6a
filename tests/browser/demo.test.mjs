// The demo page in Chromium, against the real program: PASSERBY_BIN=… [CHROMIUM=…] [SCREENSHOTS=…] npm test

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { chromium } from 'playwright-core';

import { Server } from './server.mjs';

const PHONE = { width: 375, height: 812 };
const DESKTOP = { width: 1280, height: 800 };
const COOKIES = ['passerby_session', '__Host-passerby_session'];

let folder;
let shots;
let server;
let browser;
let axe;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'passerby-browser-'));
  shots = process.env.SCREENSHOTS ?? (await mkdtemp(join(tmpdir(), 'passerby-screenshots-')));
  await mkdir(shots, { recursive: true });
  console.log(`screenshots: ${shots}`);
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  server = new Server(folder);
  await server.start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/**
 * A visitor: a browser profile of their own, and all that went wrong in it. Whatever the page logs as an error, throws
 * or has refused by its policy fails the test, but for the refusals that the test is about (`expected`: status codes,
 * 0 for no answer) and the 401 that tells the page that nobody is there.
 */
async function visitor(t, { expected = [], ...options } = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, acceptDownloads: true, ...options });
  context.setDefaultTimeout(15_000);
  const seen = { wrong: [], posts: [], cookies: [], created: 0 };
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`policy: ${event.violatedDirective} refused ${event.blockedURI}`),
    );
  });
  context.on('weberror', (error) => seen.wrong.push(String(error.error())));
  context.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    const text = message.text();
    const { pathname } = new URL(message.location().url || 'none:');
    const status = Number(/^Failed to load resource: .*status of (\d+)/.exec(text)?.[1] ?? (/net::ERR_/.test(text) ? 0 : -1));
    if (expected.includes(status) || (status === 401 && pathname === '/v1/me')) return;
    seen.wrong.push(`${text} (${message.location().url})`);
  });
  context.on('response', async (response) => {
    const request = response.request();
    if (response.status() >= 500) seen.wrong.push(`${request.method()} ${request.url()}: ${response.status()}`);
    if (request.method() !== 'GET') seen.posts.push(`${request.method()} ${new URL(request.url()).pathname}`);
    const headers = await response.headersArray().catch(() => []);
    seen.cookies.push(...headers.filter(({ name }) => name.toLowerCase() === 'set-cookie').map(({ value }) => value));
    if (response.status() === 201 && request.url().endsWith('/v1/guests')) seen.created += 1;
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(seen.wrong, [], 'nothing goes wrong in the page');
  });
  return { context, seen };
}

async function open(context) {
  const page = await context.newPage();
  await page.goto(`${server.origin}/demo`);
  await page.locator('body[data-who]').waitFor();
  await page.waitForFunction(() => document.querySelector('#who-text').textContent !== 'Looking…');
  return page;
}

const text = (page, id) => page.locator(`#${id}`).innerText();
const views = (page, count) =>
  page.waitForFunction((wanted) => document.querySelector('#views').value === wanted, String(count));
const nobody = (page) => page.locator('#nobody').waitFor();

/** Opens the page and presses play once; gives the page when all of the guest is shown, and the guest's id. */
async function guest(context) {
  const page = await open(context);
  await page.locator('#play').click();
  await views(page, 1);
  await page.locator('#claims-body tr').first().waitFor();
  await page.locator('#sessions li').first().waitFor();
  return { page, id: await text(page, 'guest-id') };
}

/** What `GET /v1/me` says to the visitor's cookie, asked beside the page. */
const me = (context) => context.request.get(`${server.origin}/v1/me`);
const sessionCookie = async (context) => (await context.cookies()).find(({ name }) => COOKIES.includes(name));

test('a look makes nobody', async (t) => {
  const { context, seen } = await visitor(t);
  const page = await open(context);
  await nobody(page);
  await page.reload();
  await nobody(page);
  assert.equal(await text(page, 'views'), '0');
  assert.deepEqual(seen.posts, []);
  assert.deepEqual(seen.cookies, []);
  assert.deepEqual(await context.cookies(), []);
  assert.equal((await me(context)).status(), 401);
});

test('the first press makes a guest and counts', async (t) => {
  const { context, seen } = await visitor(t);
  const { page, id } = await guest(context);
  assert.equal(seen.created, 1);
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(await text(page, 'guest-kind'), 'anonymous');
  assert.match(await text(page, 'session-ends'), /in \d+ days/);
  assert.match(await text(page, 'sessions'), /This browser/);
  const claims = await text(page, 'claims');
  assert.ok(claims.includes(id), 'the token is about the guest');
  assert.match(claims, /is_anonymous[\s\S]*true/);
  assert.match(claims, /exp[\s\S]*in \d+ (minutes|seconds)/);
  const cookie = await sessionCookie(context);
  assert.ok(cookie.httpOnly, 'no script can read the cookie');
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.equal(kept, '[{},{},""]', 'the page keeps nothing itself');
  for (const count of [2, 3]) {
    await page.locator('#play').click();
    await views(page, count);
  }
  const user = await (await me(context)).json();
  assert.equal(user.id, id);
  assert.equal(user.data.views, 3);
  assert.equal(user.stored, true);
});

test('the counter survives a reload, a restart of the server and a press while it is down', async (t) => {
  const { context, seen } = await visitor(t, { expected: [0] });
  const { page, id } = await guest(context);
  await page.reload();
  await views(page, 1);
  assert.equal(await text(page, 'guest-id'), id);

  await server.stop();
  t.after(() => server.start());
  await page.locator('#play').click();
  await page.locator('#status', { hasText: 'cannot be reached' }).waitFor();
  assert.equal(await text(page, 'pending'), '+1 on the way');
  assert.equal(await text(page, 'views'), '1');
  await server.start();
  await views(page, 2);
  await page.locator('#pending').waitFor({ state: 'hidden' });
  await page.reload();
  await views(page, 2);
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal(seen.created, 1);
});

test('a lost answer makes no second guest and counts no second view', async (t) => {
  const { context } = await visitor(t, { expected: [0] });
  const page = await open(context);
  const lost = new Map();
  for (const path of ['/v1/guests', '/v1/me/data/operations']) {
    await page.route(`**${path}`, async (route) => {
      const key = route.request().headers()['idempotency-key'];
      const keys = lost.get(path) ?? [];
      lost.set(path, [...keys, key]);
      if (keys.length > 0) return route.continue();
      const answer = await route.fetch();
      assert.ok(answer.ok(), `${path}: ${answer.status()}`);
      lost.set(`${path} first`, await answer.json());
      if (path === '/v1/guests') await context.clearCookies();
      return route.abort('connectionreset');
    });
  }
  await page.locator('#play').click();
  await views(page, 1);
  assert.equal(await text(page, 'guest-id'), lost.get('/v1/guests first').user.id);
  const [first, second] = lost.get('/v1/me/data/operations');
  assert.ok(first && first === second, 'the press keeps its key');
  assert.equal((await (await me(context)).json()).data.views, 1);
});

test('a second tab is the same guest, and both count into one counter', async (t) => {
  const { context, seen } = await visitor(t);
  const { page: one, id } = await guest(context);
  const two = await open(context);
  await views(two, 1);
  assert.equal(await text(two, 'guest-id'), id);
  await two.locator('#play').click();
  await Promise.all([views(two, 2), views(one, 2)]);
  await one.locator('#play').click();
  await Promise.all([views(two, 3), views(one, 3)]);
  await Promise.all([one.locator('#play').click(), two.locator('#play').click()]);
  await Promise.all([views(two, 5), views(one, 5)]);
  await one.locator('#logout').click();
  await Promise.all([nobody(one), nobody(two)]);
  assert.equal(seen.created, 1);
});

test('two tabs that press first at the same time make one guest', async (t) => {
  for (let round = 0; round < 3; round += 1) {
    const { context, seen } = await visitor(t);
    // Held up, the creation of one tab would overlap the other's, did nothing keep them apart.
    await context.route('**/v1/guests', async (route) => {
      await pause(300);
      await route.continue();
    });
    const tabs = await Promise.all([open(context), open(context)]);
    await Promise.all(tabs.map((tab) => tab.evaluate(() => document.querySelector('#play').click())));
    await Promise.all(tabs.map((tab) => views(tab, 2)));
    const [one, two] = await Promise.all(tabs.map((tab) => text(tab, 'guest-id')));
    assert.equal(one, two);
    assert.equal(seen.created, 1);
  }
});

test('a guest who floats, made by another page of the same host, is stored by the first press', async (t) => {
  const { context } = await visitor(t);
  const page = await open(context);
  const clientId = await page.locator('meta[name=passerby-client-id]').getAttribute('content');
  const made = await context.request.post(`${server.origin}/v1/guests`, {
    headers: { Origin: server.origin },
    data: { client_id: clientId, session_type: 'cookie', persist: false },
  });
  assert.equal(made.status(), 201);
  const { user } = await made.json();
  assert.equal(user.stored, false);
  await page.reload();
  await page.locator('#claims-body tr').first().waitFor();
  assert.equal(await text(page, 'guest-id'), user.id);
  assert.match(await text(page, 'guest-stored'), /no, it floats/);
  assert.match(await text(page, 'claims'), /floating/);
  assert.equal((await (await me(context)).json()).stored, false, 'a look at the token stores nothing');
  await page.locator('#play').click();
  await views(page, 1);
  await page.locator('#guest-stored', { hasText: 'yes' }).waitFor();
  assert.equal(await text(page, 'guest-id'), user.id);
});

test('forgetting the cookie: nobody, and somebody new at the next press only', async (t) => {
  const { context, seen } = await visitor(t);
  const { page, id } = await guest(context);
  const cookie = await sessionCookie(context);
  await page.locator('#forget').click();
  await nobody(page);
  await page.locator('#status', { hasText: 'Cookie forgotten' }).waitFor();
  assert.equal(await sessionCookie(context), undefined);
  await page.reload();
  await nobody(page);
  assert.equal(seen.created, 1);
  await page.locator('#play').click();
  await views(page, 1);
  assert.notEqual(await text(page, 'guest-id'), id);
  assert.equal(seen.created, 2);

  await context.clearCookies();
  await context.addCookies([cookie]);
  assert.equal((await (await me(context)).json()).id, id, 'the session itself lived on');
});

test('forgetting is for the page alone', async () => {
  for (const headers of [{}, { 'Sec-Fetch-Site': 'cross-site' }, { Origin: 'https://example.com' }]) {
    const answer = await fetch(`${server.origin}/demo/forget`, { method: 'POST', headers });
    assert.equal(answer.status, 403);
    assert.equal((await answer.json()).code, 'cross_site');
    assert.equal(answer.headers.get('set-cookie'), null);
  }
});

test('log out ends the session, erase the guest', async (t) => {
  const leave = {
    logout: (page) => page.locator('#logout').click(),
    erase: async (page) => {
      await page.locator('#erase').click();
      await page.locator('#erase-confirm').click();
    },
  };
  for (const [name, act] of Object.entries(leave)) {
    const { context, seen } = await visitor(t);
    const { page, id } = await guest(context);
    const cookie = await sessionCookie(context);
    await act(page);
    await nobody(page);
    await context.addCookies([cookie]);
    assert.equal((await me(context)).status(), 401, `${name}: the cookie is worth nothing any more`);
    await page.reload();
    await nobody(page);
    assert.equal(seen.created, 1, name);
    await page.locator('#play').click();
    await views(page, 1);
    assert.notEqual(await text(page, 'guest-id'), id, name);
  }
});

test('a session that ended elsewhere counts for nobody else', async (t) => {
  const { context, seen } = await visitor(t, { expected: [401] });
  const { page } = await guest(context);
  const headers = { Origin: server.origin, 'Content-Type': 'application/json' };
  const answer = await context.request.post(`${server.origin}/v1/logout`, { headers, data: {} });
  assert.equal(answer.status(), 204);
  await page.locator('#play').click();
  await nobody(page);
  await page.locator('#status', { hasText: 'Not counted' }).waitFor();
  assert.equal(seen.created, 1, 'a failure makes nobody');
});

test('the profile is edited, and a refusal names its field', async (t) => {
  const { context } = await visitor(t, { expected: [412, 422] });
  const { page } = await guest(context);
  await page.locator('#display-name').fill('Zoë <b>');
  assert.deepEqual(JSON.parse(await page.locator('#profile').inputValue()), { display_name: 'Zoë <b>' });
  await page.locator('#profile-save').click();
  await page.locator('#who-text', { hasText: 'Zoë <b>' }).waitFor();
  await page.locator('#profile').fill('{"favourite": {"colour": "marigold"}}');
  await page.locator('#profile-save').click();
  await page.locator('#data', { hasText: 'marigold' }).waitFor();
  await page.reload();
  await page.locator('#data', { hasText: 'marigold' }).waitFor();
  assert.equal(await page.locator('#display-name').inputValue(), 'Zoë <b>');

  await page.locator('#profile').fill('{"half": ');
  await page.locator('#profile-save').click();
  assert.match(await text(page, 'profile-error'), /Not JSON/);

  await page.locator('#profile').fill(String.raw`{"note": "\u0000"}`);
  await page.locator('#profile-save').click();
  await page.locator('#status', { hasText: '422' }).waitFor();
  assert.equal(await page.locator('#profile').getAttribute('aria-invalid'), 'true');
  assert.notEqual(await text(page, 'profile-error'), '');

  const elsewhere = await context.request.patch(`${server.origin}/v1/me/data`, {
    headers: { Origin: server.origin, 'Content-Type': 'application/merge-patch+json' },
    data: '{"favourite": {"colour": "teal"}}',
  });
  assert.equal(elsewhere.status(), 200);
  await page.locator('#profile').fill('{"favourite": null}');
  await page.locator('#profile-save').click();
  await page.locator('#status', { hasText: '412' }).waitFor();
  await page.locator('#data', { hasText: 'teal' }).waitFor();
  await page.locator('#profile-save').click();
  await page.locator('#status', { hasText: 'Saved' }).waitFor();
  const { data } = await (await me(context)).json();
  assert.deepEqual(data, { views: 1, display_name: 'Zoë <b>' });
});

test('the data can be taken along', async (t) => {
  const { context } = await visitor(t);
  const { page, id } = await guest(context);
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#export').click()]);
  assert.equal(download.suggestedFilename(), `passerby-${id}.json`);
  const exported = await readFile(await download.path(), 'utf8');
  assert.ok(exported.includes(id));
  assert.match(exported, /"views": 1/);
  JSON.parse(exported);
});

test('everything by keyboard', async (t) => {
  const { context } = await visitor(t);
  const page = await open(context);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let steps = 0; steps < 40 && (await focused()) !== id; steps += 1) await page.keyboard.press('Tab');
    assert.equal(await focused(), id);
    const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(ring, 'none', `${id} shows its focus`);
  };
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'play', 'the first stop skips to the video');
  await page.keyboard.press('Enter');
  await views(page, 1);
  await page.keyboard.press('Space');
  await views(page, 2);
  await page.locator('#sessions li').first().waitFor();
  await tabTo('display-name');
  await page.keyboard.type('Ada');
  await tabTo('profile-save');
  await page.keyboard.press('Enter');
  await page.locator('#who-text', { hasText: 'Ada' }).waitFor();
  await tabTo('erase');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'erase-cancel', 'the harmless answer comes first');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'erase');
  await page.keyboard.press('Enter');
  await tabTo('erase-confirm');
  await page.keyboard.press('Enter');
  await nobody(page);
  await page.waitForFunction(() => document.activeElement.id === 'play');
  await page.keyboard.press('Enter');
  await views(page, 1);
});

for (const colorScheme of ['light', 'dark']) {
  for (const [device, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP, narrow: { width: 320, height: 640 } })) {
    test(`accessible and in its frame: ${device}, ${colorScheme}`, async (t) => {
      const phone = device !== 'desktop';
      const { context } = await visitor(t, {
        viewport, colorScheme, isMobile: phone, hasTouch: phone, deviceScaleFactor: phone ? 2 : 1,
      });
      const page = await open(context);
      const check = async (state) => {
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => window.axe.run());
        const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
        const found = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
        assert.deepEqual(found, [], `${state}: axe finds nothing serious`);
        const small = await page.evaluate(() => {
          const targets = [...document.querySelectorAll('button, input, textarea')].filter((one) => one.checkVisibility());
          const sizes = targets.map((one) => [one.id, one.getBoundingClientRect()]);
          return sizes.filter(([, { width, height }]) => width < 44 || height < 44).map(([id]) => id);
        });
        assert.deepEqual(small, [], `${state}: a finger hits every target`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${state}: nothing sticks out to the side`);
        await page.screenshot({ path: join(shots, `demo-${device}-${colorScheme}-${state}.png`), fullPage: state === 'whole' });
      };
      await nobody(page);
      await check('nobody');
      await page.locator('#play').click();
      await page.locator('#sessions li').first().waitFor();
      await check('guest');
      await page.locator('#status-close').click();
      await check('whole');
      await page.locator('#profile').fill('{"half": ');
      await page.locator('#profile-save').click();
      await check('refused');
      await page.locator('#erase').click();
      await check('erase');
    });
  }
}

test('motion is reduced where that is asked for', async (t) => {
  const { context } = await visitor(t, { reducedMotion: 'reduce' });
  const { page } = await guest(context);
  const moving = await page.evaluate(() =>
    document.getAnimations().filter(({ playState }) => playState === 'running').map(({ effect }) => effect.target.id),
  );
  assert.deepEqual(moving, ['fill'], 'only the progress of the film is shown');
});
