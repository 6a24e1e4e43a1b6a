// The demo page in Chromium, against the real programs: PASSERBY_BIN=… CART_BIN=… [CHROMIUM=…] [PASSERBY_SCREENSHOTS=…] npm test

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { check, guest, launch, LOOKS, nobody, open, press, quiet, saved, says, shot, shown, sure, text, views, visitor as visit, world as makeWorld } from './visitor.mjs';

let world;
let browser;

before(async () => {
  [world, browser] = await Promise.all([makeWorld(), launch()]);
});

after(async () => {
  await browser?.close();
  await world?.close();
});

const visitor = (t, options) => visit(t, browser, options);

/** All that a page could leave in the browser but its databases. */
const kept = (page) => page.evaluate(() => ({ local: { ...localStorage }, session: { ...sessionStorage }, cookies: document.cookie }));

/** The facts in the client's database. */
const facts = (page) =>
  page.evaluate(async () => {
    const [{ name }] = await indexedDB.databases();
    const done = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const db = await done(indexedDB.open(name));
    const rows = (await done(db.transaction('facts').objectStore('facts').get(0))) ?? {};
    db.close();
    const isKey = (value) => value instanceof CryptoKey;
    const secret = Object.values(rows.key ?? {}).flatMap((value) => (isKey(value) ? [value] : Object.values(value).filter(isKey)));
    return {
      rows: Object.keys(rows),
      keys: secret.map(({ type, extractable }) => ({ type, extractable })),
      tokens: Object.values(rows.account?.tokens ?? {}).map(({ type }) => type),
    };
  });

test('a look makes nobody', async (t) => {
  const { context, seen } = await visitor(t);
  const before = await world.users();
  const page = await open(context, world);
  await nobody(page);
  await page.reload();
  await nobody(page);
  await shown(page, 'nobody');
  assert.equal(await text(page, 'views'), '0');
  assert.deepEqual(seen.posts, []);
  assert.deepEqual(seen.cookies, []);
  assert.deepEqual(await context.cookies(), []);
  assert.deepEqual(await kept(page), { local: {}, session: {}, cookies: '' });
  assert.deepEqual((await facts(page)).rows, [], 'not even a key is made');
  assert.equal(await world.users(), before);
});

test('the first press makes a guest and counts', async (t) => {
  const { context, seen } = await visitor(t);
  const { page, id } = await guest(context, world);
  await says(page, 'You are a guest now');
  assert.equal(seen.created, 1);
  assert.match(id, /^[0-9a-f-]{36}$/);
  assert.equal(await text(page, 'guest-kind'), 'anonymous');
  assert.match(await text(page, 'guest-stored'), /yes/);
  assert.match(await text(page, 'guest-proof'), /device key/);
  assert.match(await text(page, 'session-ends'), /in \d+ days/);
  assert.match(await text(page, 'keys'), /this device/);
  assert.match(await text(page, 'sessions'), /By tokens\s*this browser/);
  for (const count of [2, 3]) {
    await press(page, 'play');
    await views(page, count);
  }
  await saved(page);
  const user = await world.user(id);
  assert.equal(user.data.views, 3);
  assert.equal(user.entry, 'demo');
});

test('no script can read the key, tokens are bound to it, and there is no cookie', async (t) => {
  const { context, seen } = await visitor(t);
  const { page, id } = await guest(context, world);
  const found = await facts(page);
  assert.deepEqual(found.keys.filter(({ type }) => type === 'private'), [{ type: 'private', extractable: false }]);
  assert.deepEqual([...new Set(found.tokens)], ['DPoP']);
  assert.deepEqual(seen.cookies, []);
  const { local, session, cookies } = await kept(page);
  assert.deepEqual([Object.values(local), session, cookies], [['device-key'], {}, ''], 'beside the database there is only a mark');

  await press(page, 'claims-again');
  await page.locator('#claims-body tr').first().waitFor();
  const claims = await text(page, 'claims');
  assert.ok(claims.includes(id), 'the token is about the guest');
  assert.match(claims, /is_anonymous[\s\S]*true/);
  assert.match(claims, /cnf[\s\S]*jkt/);
  assert.match(claims, /exp[\s\S]*in \d+ (minutes|seconds)/);
  assert.match(await text(page, 'claims-bound'), /of no use to anybody/);
});

test('the counter survives a reload, a restart of the server and a press while it is down', async (t) => {
  const { context, seen } = await visitor(t, { expected: [0] });
  const { page, id } = await guest(context, world);
  await page.reload();
  await views(page, 1);
  assert.equal(await text(page, 'guest-id'), id);

  await world.server.stop();
  t.after(() => world.server.start());
  await press(page, 'play');
  await says(page, 'cannot be reached');
  assert.equal(await text(page, 'pending'), '1 on the way');
  assert.equal(await text(page, 'views'), '2', 'the press shows at once');
  await shot(page, 'demo-unreachable');
  await page.reload().catch(() => {});
  await world.server.start();
  await page.goto(`${world.origin}/demo`);
  await views(page, 2);
  await saved(page);
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal((await world.user(id)).data.views, 2);
  assert.equal(seen.created, 1);
});

test('a lost answer makes no second guest and counts no second view', async (t) => {
  const { context } = await visitor(t, { expected: [0] });
  const page = await open(context, world);
  const before = await world.users();
  const answers = { '/v1/guests': [], '/v1/me/data/operations': [] };
  for (const [path, list] of Object.entries(answers)) {
    await page.route(`**${path}`, async (route) => {
      const answer = await route.fetch();
      if (!answer.ok()) return route.fulfill({ response: answer });
      list.push({ key: route.request().headers()['idempotency-key'], content: await answer.json() });
      return list.length === 1 ? route.abort('connectionreset') : route.fulfill({ response: answer });
    });
  }
  await press(page, 'play');
  await views(page, 1);
  await page.locator('#sessions li').first().waitFor();
  await saved(page);
  const [lost, again] = answers['/v1/guests'];
  assert.deepEqual([lost.content.created, again.content.created], [true, false]);
  assert.equal(lost.content.user.id, again.content.user.id);
  assert.equal(await text(page, 'guest-id'), lost.content.user.id);
  const [first, second] = answers['/v1/me/data/operations'];
  assert.ok(first.key && first.key === second.key, 'the press keeps its key');
  assert.equal((await world.user(lost.content.user.id)).data.views, 1);
  assert.equal(await world.users(), before + 1);
});

test('a second tab is the same guest, and both count into one counter', async (t) => {
  const { context, seen } = await visitor(t);
  const { page: one, id } = await guest(context, world);
  const two = await open(context, world);
  await views(two, 1);
  assert.equal(await text(two, 'guest-id'), id);
  await press(two, 'play');
  await Promise.all([views(two, 2), views(one, 2)]);
  await press(one, 'play');
  await Promise.all([views(two, 3), views(one, 3)]);
  await Promise.all([press(one, 'play'), press(two, 'play')]);
  await Promise.all([views(two, 5), views(one, 5)]);
  await Promise.all([saved(one), saved(two)]);
  assert.equal((await world.user(id)).data.views, 5);
  await press(one, 'logout');
  await Promise.all([nobody(one), nobody(two)]);
  assert.equal(seen.created, 1);
});

test('two tabs that press first at the same time make one guest', async (t) => {
  for (let round = 0; round < 3; round += 1) {
    const { context, seen } = await visitor(t);
    // Held up, the creation of one tab would overlap the other's, did nothing keep them apart.
    await context.route('**/v1/guests', async (route) => {
      await pause(200);
      await route.continue();
    });
    const tabs = await Promise.all([open(context, world), open(context, world)]);
    await Promise.all(tabs.map((tab) => tab.evaluate(() => document.querySelector('#play').click())));
    await Promise.all(tabs.map((tab) => views(tab, 2)));
    await Promise.all(tabs.map((tab) => saved(tab)));
    const [one, two] = await Promise.all(tabs.map((tab) => text(tab, 'guest-id')));
    assert.equal(one, two);
    assert.equal(seen.created, 1);
    assert.equal((await world.user(one)).data.views, 2);
  }
});

test('an ended session, and signing out everywhere: the key brings the same guest back', async (t) => {
  const { context, seen } = await visitor(t, { expected: [401, 409] });
  const { page, id } = await guest(context, world);
  await page.locator('#sessions button', { hasText: 'End' }).click();
  await says(page, 'opened anew by the device key');
  assert.equal(await text(page, 'guest-id'), id);

  await press(page, 'everywhere');
  await sure(page, 'Sign out everywhere?');
  await says(page, 'came back by its key');
  await page.locator('#notices', { hasText: 'Everybody was signed out' }).waitFor();
  assert.equal(await text(page, 'guest-id'), id);
  await press(page, 'play');
  await views(page, 2);
  await saved(page);
  assert.equal((await world.user(id)).data.views, 2);
  assert.equal(seen.created, 1);
});

test('device keys: renamed, and the last way in is removed by nobody’s accident', async (t) => {
  const { context, seen } = await visitor(t, { expected: [401, 409] });
  const { page, id } = await guest(context, world);
  await page.locator('#keys button', { hasText: 'Rename' }).click();
  await page.locator('#keys input').fill('Kitchen <b>');
  await shot(page, 'demo-rename', { fullPage: true });
  await page.keyboard.press('Enter');
  await page.locator('#keys .name', { hasText: 'Kitchen <b>' }).waitFor();
  await says(page, 'Renamed');

  await page.locator('#keys button', { hasText: 'Remove' }).click();
  await sure(page, 'Remove Kitchen <b>?', 'no');
  await page.locator('#keys button', { hasText: 'Remove' }).click();
  await sure(page, 'Remove Kitchen <b>?');
  await page.locator('dialog[open] h2', { hasText: 'Remove the last way in?' }).waitFor();
  await shot(page, 'demo-last-way-in');
  await press(page, 'ask-no');
  assert.match(await text(page, 'keys'), /this device/, 'it is there still');

  await page.locator('#keys button', { hasText: 'Remove' }).click();
  await sure(page, 'Remove Kitchen <b>?');
  await sure(page, 'Remove the last way in?');
  await page.waitForFunction(() => document.activeElement.id === 'ended');
  await check(page, 'demo-ended');
  await press(page, 'play');
  await page.waitForFunction(() => document.activeElement.id === 'start-over');
  assert.equal(seen.created, 1, 'nobody takes the place of a guest that ended');
  await page.reload();
  await shown(page, 'ended');
  await press(page, 'start-over');
  await nobody(page);
  assert.equal(seen.created, 1);
  await press(page, 'play');
  await views(page, 1);
  await page.locator('#sessions li').first().waitFor();
  assert.notEqual(await text(page, 'guest-id'), id);
});

test('log out ends the session and the key, erase the guest', async (t) => {
  const leave = {
    logout: (page) => press(page, 'logout'),
    erase: async (page) => {
      await press(page, 'erase');
      await sure(page, 'Erase this guest?');
    },
  };
  for (const [name, act] of Object.entries(leave)) {
    const { context, seen } = await visitor(t);
    const { page, id } = await guest(context, world);
    await act(page);
    await nobody(page);
    await says(page, name === 'logout' ? 'Logged out' : 'Erased');
    assert.deepEqual(await kept(page), { local: {}, session: {}, cookies: '' }, name);
    assert.deepEqual((await facts(page)).rows, [], name);
    assert.equal((await world.user(id)) === null, name === 'erase', name);
    await page.reload();
    await nobody(page);
    assert.equal(seen.created, 1, name);
    await press(page, 'play');
    await views(page, 1);
    await page.locator('#sessions li').first().waitFor();
    assert.notEqual(await text(page, 'guest-id'), id, name);
  }
});

test('the profile is edited, and a refusal names its field and is taken back', async (t) => {
  const { context } = await visitor(t, { expected: [400, 422] });
  const { page, id } = await guest(context, world);
  await page.locator('#display-name').fill('Zoë <b>');
  await page.locator('#note').fill('Likes marigolds');
  await press(page, 'profile-save');
  await says(page, 'Kept: version');
  assert.equal(await text(page, 'who-text'), 'Zoë <b>');
  await page.reload();
  await page.locator('#data', { hasText: 'marigolds' }).waitFor();
  assert.equal(await page.locator('#display-name').inputValue(), 'Zoë <b>');

  await page.locator('#note').fill('a\u0000b');
  await press(page, 'profile-save');
  await page.locator('#note[aria-invalid=true]').waitFor();
  assert.notEqual(await text(page, 'profile-error'), '');
  await shot(page, 'demo-refused', { fullPage: true });
  assert.match(await text(page, 'data'), /marigolds/, 'what was refused is not shown as kept');
  assert.equal(await page.locator('#note').inputValue(), 'a\u0000b', 'but what was typed is there still');
  await page.locator('#note').fill('');
  await press(page, 'profile-save');
  await page.locator('#data', { hasText: 'marigolds' }).waitFor({ state: 'detached' });
  await saved(page);
  assert.deepEqual((await world.user(id)).data, { views: 1, display_name: 'Zoë <b>' });
});

test('a shop on another server knows the guest by the token, and each guest has a cart of their own', async (t) => {
  const { context } = await visitor(t, { expected: [0] });
  const { page } = await guest(context, world);
  await page.locator('[data-sku=tea]').click();
  await page.locator('#shop-status', { hasText: 'a guest with one thing' }).waitFor();
  await page.locator('[data-sku=tea]').click();
  await page.locator('[data-sku=umbrella]').click();
  await page.locator('#shop-status', { hasText: '3 things' }).waitFor();
  await page.reload();
  await page.locator('#cart li', { hasText: 'tea' }).locator('strong', { hasText: '× 2' }).waitFor();

  const { context: other } = await visitor(t);
  const { page: stranger } = await guest(other, world);
  await press(stranger, 'shop-look');
  await stranger.locator('#shop-status', { hasText: '0 things' }).waitFor();

  await world.cart.stop();
  t.after(() => world.cart.start());
  await press(page, 'shop-look');
  await page.locator('#shop-status', { hasText: 'does not answer' }).waitFor();
  await shot(page, 'demo-no-shop', { fullPage: true });
});

test('the data can be taken along', async (t) => {
  const { context } = await visitor(t);
  const { page, id } = await guest(context, world);
  const [download] = await Promise.all([page.waitForEvent('download'), press(page, 'export')]);
  assert.equal(download.suggestedFilename(), `passerby-${id}.json`);
  const exported = await readFile(await download.path(), 'utf8');
  assert.ok(exported.includes(id));
  assert.match(exported, /"views": 1/);
  JSON.parse(exported);
});

test('where the storage fails, nobody takes the guest’s place', async (t) => {
  const { context, seen } = await visitor(t);
  const { page, id } = await guest(context, world);
  await page.addInitScript(() => {
    if (!sessionStorage.getItem('works')) IDBFactory.prototype.open = () => { throw new DOMException('no more space', 'UnknownError'); };
  });
  await page.reload();
  await shown(page, 'storage');
  await press(page, 'play');
  await says(page, 'storage fails');
  await check(page, 'demo-storage');
  assert.equal(seen.created, 1);
  await page.evaluate(() => sessionStorage.setItem('works', 'again'));
  await page.reload();
  await page.locator('body[data-who=guest]').waitFor();
  assert.equal(await text(page, 'guest-id'), id);
});

test('a browser without IndexedDB works by cookie and says so', async (t) => {
  const { context, seen } = await visitor(t);
  await context.addInitScript(() => Object.defineProperty(window, 'indexedDB', { value: undefined }));
  const { page, id } = await guest(context, world);
  assert.match(await text(page, 'guest-proof'), /session cookie/);
  assert.match(await text(page, 'keys'), /None/);
  const [cookie] = await context.cookies();
  assert.ok(cookie.httpOnly, 'no script can read the cookie');
  await shot(page, 'demo-cookie', { fullPage: true });
  await page.locator('[data-sku=tea]').click();
  await page.locator('#shop-status', { hasText: 'a guest with one thing' }).waitFor();
  await press(page, 'claims-again');
  await page.locator('#claims-bound', { hasText: 'bound to no key' }).waitFor();
  await page.reload();
  await views(page, 1);
  assert.equal(await text(page, 'guest-id'), id);
  assert.equal(seen.created, 1);
  await press(page, 'logout');
  await nobody(page);
});

test('everything by keyboard', async (t) => {
  const { context } = await visitor(t);
  const page = await open(context, world);
  const focused = () => page.evaluate(() => document.activeElement.id);
  const tabTo = async (id) => {
    for (let steps = 0; steps < 60 && (await focused()) !== id; steps += 1) await page.keyboard.press('Tab');
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

  await tabTo('hand-off-make');
  await page.keyboard.press('Enter');
  await shown(page, 'hand-off-offer');
  await page.waitForFunction(() => document.activeElement.id === 'hand-off-offer');
  await tabTo('hand-off-withdraw');
  await page.keyboard.press('Enter');
  await shown(page, 'hand-off-begin');

  await tabTo('recovery-make');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'new-words');
  await tabTo('words-done');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'recovery-make');

  await tabTo('erase');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'ask-no', 'the harmless answer comes first');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'erase');
  await page.locator('#erase:not([aria-busy])').waitFor();
  await page.keyboard.press('Enter');
  await tabTo('ask-yes');
  await page.keyboard.press('Enter');
  await nobody(page);
  await page.waitForFunction(() => document.activeElement.id === 'play');
  await page.keyboard.press('Enter');
  await views(page, 1);
});

for (const { name, options } of LOOKS) {
  test(`accessible and in its frame: ${name}`, async (t) => {
    const { context } = await visitor(t, options);
    const page = await open(context, world);
    const look = (state, more) => check(page, `demo-${name}-${state}`, more);
    await nobody(page);
    await look('nobody', { fullPage: true });
    await press(page, 'play');
    await page.locator('#sessions li').first().waitFor();
    await look('guest');
    await quiet(page);
    await page.locator('[data-sku=postcard]').click();
    await page.locator('#cart li').first().waitFor();
    await press(page, 'hand-off-make');
    await shown(page, 'hand-off-offer');
    await press(page, 'recovery-make');
    await shown(page, 'new-words');
    await press(page, 'claims-again');
    await page.locator('#claims-body tr').first().waitFor();
    await page.locator('#bring summary').click();
    await look('whole', { fullPage: true });
    await press(page, 'erase');
    await look('erase');
    await press(page, 'ask-no');
    await page.locator('#code').fill('AAAA');
    await press(page, 'code-take');
    await page.locator('dialog[open] h2', { hasText: 'Leave this guest behind?' }).waitFor();
    await look('leave-behind');
  });
}

test('motion is reduced where that is asked for', async (t) => {
  const { context } = await visitor(t, { reducedMotion: 'reduce' });
  const { page } = await guest(context, world);
  await press(page, 'play');
  const moving = await page.evaluate(() =>
    document.getAnimations().filter(({ playState }) => playState === 'running').map(({ effect }) => effect.target.id),
  );
  assert.deepEqual(moving, ['fill'], 'only the progress of the film is shown');
});

test('the pages run nothing inline, and nobody frames them', async () => {
  for (const path of ['/demo', '/ui/hand-off']) {
    const answer = await fetch(world.origin + path);
    const policy = answer.headers.get('content-security-policy');
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self'/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
  }
});
