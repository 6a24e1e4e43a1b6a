// What the tests of the pages have in common: the programs, the browser, visitors, and what holds for every page.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { API_KEY, Cart, freePort, Server } from './server.mjs';

export const PHONE = { width: 375, height: 812 };
export const DESKTOP = { width: 1280, height: 800 };
/** Every form in which the pages are looked at. */
export const LOOKS = ['light', 'dark'].flatMap((colorScheme) =>
  Object.entries({ phone: PHONE, desktop: DESKTOP, narrow: { width: 320, height: 640 } }).map(([device, viewport]) => {
    const phone = device !== 'desktop';
    const options = { viewport, colorScheme, isMobile: phone, hasTouch: phone, deviceScaleFactor: phone ? 2 : 1 };
    return { name: `${device}-${colorScheme}`, options };
  }),
);

/** Where screenshots go; without it none are made. */
const SHOTS = process.env.PASSERBY_SCREENSHOTS;
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}

/** A server with its cart. `config` is the text of its configuration; by default that of development. */
export async function world({ config } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'passerby-browser-'));
  if (config) await writeFile(join(folder, 'passerby.toml'), config);
  const port = await freePort();
  const server = new Server(folder, { PASSERBY_DEMO_CART: `http://127.0.0.1:${port}` });
  await server.start();
  const cart = new Cart(port, server.origin);
  await cart.start();
  const { origin } = server;

  /** A call of an operator. */
  const operator = async (path) => {
    const answer = await fetch(origin + path, { headers: { Authorization: `Bearer ${API_KEY}` } });
    return { status: answer.status, content: await answer.json() };
  };

  return {
    server,
    cart,
    origin,
    /** The user as the server knows it, asked beside the pages; null when there is none. */
    async user(id) {
      const { status, content } = await operator(`/v1/users/${encodeURIComponent(id)}`);
      assert.ok(status === 200 || status === 404, `asking for a user: ${status}`);
      return status === 200 ? content : null;
    },
    /** How many users there are. */
    async users() {
      const { content } = await operator('/v1/users?limit=100');
      return content.items.length;
    },
    async close() {
      await cart.stop();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** An answer that only asks for the proof to be made again, with the nonce that it brings. */
async function isChallenge(response) {
  if (response.status() !== 400 && response.status() !== 401) return false;
  const told = (await response.allHeaders())['www-authenticate'] ?? (await response.text().catch(() => ''));
  return told.includes('use_dpop_nonce');
}

/**
 * A visitor: a browser profile of their own, and all that went wrong in it. Whatever a page logs as an error, throws or
 * has refused by its policy fails the test, but for the refusals that the test is about (`expected`: status codes, 0 for
 * no answer), challenges for a nonce, and the 401 that tells a page that nobody is there.
 */
export async function visitor(t, browser, { expected = [], viewport = DESKTOP, ...options } = {}) {
  const context = await browser.newContext({ viewport, acceptDownloads: true, ...options });
  context.setDefaultTimeout(15_000);
  const seen = { wrong: [], posts: [], cookies: [], created: 0 };
  /** Failed loads that the console told of, and the challenges among all answers, by URL and status. */
  const failed = [];
  const challenges = [];
  const looking = new Set();
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`policy: ${event.violatedDirective} refused ${event.blockedURI}`),
    );
  });
  context.on('weberror', (error) => seen.wrong.push(String(error.error())));
  context.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    const text = message.text();
    const { url } = message.location();
    const status = Number(/^Failed to load resource: .*status of (\d+)/.exec(text)?.[1] ?? (/net::ERR_/.test(text) ? 0 : -1));
    if (status >= 0) failed.push({ name: `${status} ${url}`, status, url });
    else seen.wrong.push(`${text} (${url})`);
  });
  const note = async (response) => {
    const request = response.request();
    const { pathname } = new URL(request.url());
    if (response.status() >= 500 && !expected.includes(response.status())) {
      seen.wrong.push(`${request.method()} ${request.url()}: ${response.status()}`);
    }
    if (request.method() === 'POST') seen.posts.push(pathname);
    if (await isChallenge(response)) challenges.push(`${response.status()} ${request.url()}`);
    const headers = await response.headersArray().catch(() => []);
    seen.cookies.push(...headers.filter(({ name }) => name.toLowerCase() === 'set-cookie').map(({ value }) => value));
    if (response.status() === 201 && pathname === '/v1/guests') seen.created += 1;
  };
  context.on('response', (response) => {
    const noting = note(response).catch(() => {});
    looking.add(noting);
    noting.finally(() => looking.delete(noting));
  });
  t.after(async () => {
    await Promise.all(looking);
    await context.close();
    const unexplained = failed.filter(({ name, status, url }) => {
      if (expected.includes(status) || (status === 401 && new URL(url).pathname === '/v1/me')) return false;
      const found = challenges.indexOf(name);
      if (found >= 0) challenges.splice(found, 1);
      return found < 0;
    });
    assert.deepEqual([...seen.wrong, ...unexplained.map(({ name }) => name)], [], 'nothing goes wrong in the page');
  });
  return { context, seen };
}

/** Opens the demo page and waits until it knows who is here. */
export async function open(context, { origin }, path = '/demo') {
  const page = await context.newPage();
  await page.goto(origin + path);
  await page.locator('body[data-who]:not([data-who=loading])').waitFor();
  return page;
}

export const text = (page, id) => page.locator(`#${id}`).innerText();
export const press = (page, id) => page.locator(`#${id}`).click();
export const shown = (page, id) => page.locator(`#${id}`).waitFor();
export const views = (page, count) =>
  page.waitForFunction((wanted) => document.querySelector('#views').value === wanted, String(count));
export const saved = (page) => page.locator('#pending').waitFor({ state: 'hidden' });
export const nobody = (page) => page.locator('body[data-who=nobody]').waitFor();
export const says = (page, words) => page.locator('#status', { hasText: words }).waitFor();
/** Takes the message away, if it has not gone by itself. */
export const quiet = (page) => page.evaluate(() => document.querySelector('#status-close').click());
/** Answers the dialog that asks whether somebody is sure. */
export async function sure(page, title, answer = 'yes') {
  await page.locator('dialog[open] h2', { hasText: title }).waitFor();
  await press(page, `ask-${answer}`);
}

/** Opens the demo page and presses play once; gives the page when all of the guest is shown, and the guest's id. */
export async function guest(context, world) {
  const page = await open(context, world);
  await press(page, 'play');
  await views(page, 1);
  await saved(page);
  await page.locator('#sessions li').first().waitFor();
  return { page, id: await text(page, 'guest-id') };
}

/** Makes a screenshot, where they are wanted. */
export async function shot(page, name, options = {}) {
  if (!SHOTS) return;
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), ...options });
}

/** What holds for every page in every state: accessible, a finger hits every target, nothing sticks out to the side. */
export async function check(page, name, options) {
  await shot(page, name, options);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(found, [], `${name}: axe finds nothing`);
  const small = await page.evaluate(() => {
    // What is in a label is hit by way of it; a link within a sentence is as high as the sentence.
    const targets = [...document.querySelectorAll('button, input:not(label input), textarea, summary, label:has(input), nav a')];
    const sizes = targets.filter((one) => one.checkVisibility()).map((one) => [one.id || one.textContent, one.getBoundingClientRect()]);
    return sizes.filter(([, { width, height }]) => width < 44 || height < 44).map(([id]) => id);
  });
  assert.deepEqual(small, [], `${name}: a finger hits every target`);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wider <= 0, `${name}: nothing sticks out to the side`);
}
