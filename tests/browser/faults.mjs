// What goes wrong between a page and the server, and inside a browser: written once, run in each engine. Whatever
// happens, the visitor stays the same guest, who was made once, and each change is made exactly once.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { API_KEY, CHANGE, CREATE, REFRESH, Story, until } from './faults-story.mjs';
import { Proxy, servePage } from './proxy.mjs';
import { Server } from './server.mjs';

const MINUTE = 60_000;
const DAY = 86_400_000;
/** What a scenario says that has made its own reckoning. */
const OVER = 'over';

const configuration = (page) => `
dev = true

[[tenants]]
id   = "fa017000-0000-4000-8000-000000000001"
name = "faults"

[[tenants.clients]]
id      = "app"
type    = "spa"
origins = ["${page}"]

# Whose sessions are over in no time.
[[tenants.clients]]
id       = "brief"
type     = "spa"
origins  = ["${page}"]
lifetime = "1s"

[[tenants.api_keys]]
name = "operator"
key  = "${API_KEY}"
`;

/**
 * Runs the faults in a browser. `launch` starts it and gives `{ version, visitor(), lasting?(), close() }`; a visitor is a
 * profile of its own: `{ open(url), offline?(off), restart?(), close() }`; a tab is `{ run(work, ...args), reload(),
 * close() }`. `restarts`: it has visitors by `lasting()`, whose profile outlives a restart of the browser.
 */
export function faults(name, launch, { restarts } = {}) {
  const world = {};

  before(async () => {
    world.folder = await mkdtemp(join(tmpdir(), 'passerby-faults-'));
    world.page = await servePage();
    world.proxy = new Proxy();
    await world.proxy.start();
    await writeFile(join(world.folder, 'passerby.toml'), configuration(world.page.origin));
    world.server = new Server(world.folder, { PASSERBY_ISSUER: world.proxy.origin });
    await world.server.start();
    world.proxy.target = world.server.port;
    world.browser = await launch();
  });

  after(async () => {
    await world.browser?.close();
    await world.server?.stop();
    if (world.proxy?.listening) await world.proxy.refuse();
    world.page?.close();
    world.page?.closeAllConnections();
    if (world.folder) await rm(world.folder, { recursive: true, force: true });
  });

  const scenario = (what, play, make = 'visitor') =>
    test(`line_18 ${name}: ${what}`, { timeout: 120_000 }, async (t) => {
      // Whatever a test that failed has left behind.
      await world.server.start();
      if (!world.proxy.listening) await world.proxy.start();
      world.proxy.reset();
      const visitor = await world.browser[make]();
      t.after(() => visitor.close());
      const story = new Story(world, visitor);
      try {
        await story.begin();
        if ((await play(story)) !== OVER) await story.end();
      } catch (error) {
        t.diagnostic(await story.tell());
        throw error;
      }
    });

  scenario('the key is kept where no script can read it', async (story) => {
    const tab = await story.open();
    await story.come(tab);
    const look = () =>
      tab.run(async () => {
        const { privateKey, thumbprint } = await tamper(({ key }) => key);
        const exported = ['jwk', 'pkcs8'].map((form) =>
          crypto.subtle.exportKey(form, privateKey).then(
            () => 'exported',
            ({ name }) => name,
          ),
        );
        const { extractable } = privateKey;
        return { key: privateKey instanceof CryptoKey, extractable, exported: await Promise.all(exported), thumbprint };
      });
    const kept = await look();
    assert.deepEqual(kept, { ...kept, key: true, extractable: false, exported: Array(2).fill('InvalidAccessError') });
    await story.reload(tab);
    await story.press(tab);
    await story.sent(tab);
    assert.deepEqual(await look(), kept, 'the same key');
    const listed = await tab.run(() => passerby.deviceKeys.list());
    assert.deepEqual(listed.map(({ thumbprint }) => thumbprint), [kept.thumbprint]);
    const elsewhere = await tab.run(() => [Object.entries(localStorage).map(([, value]) => value), sessionStorage.length, document.cookie]);
    assert.deepEqual(elsewhere, [['device-key'], 0, '']);
  });

  scenario('reload, also while the guest is made and a change is on its way', async (story) => {
    const tab = await story.open();
    const creation = story.proxy.fail(CREATE, 'hang', 1);
    await tab.run(() => come());
    await until('the guest is made', () => creation.hits);
    await story.reload(tab);
    await story.come(tab);
    await story.press(tab);
    await story.sent(tab);
    await story.reload(tab);
    await story.come(tab);
    const change = story.proxy.fail(CHANGE, 'hang', 1);
    await story.press(tab, 2);
    await until('the server has done it', () => change.hits);
    await story.kept(tab);
    await story.reload(tab);
    await story.press(tab);
  });

  const restart = async (story) => {
    const tab = await story.open();
    await story.come(tab);
    story.proxy.fail(CHANGE, 'hang', 1);
    await story.press(tab, 2);
    await story.kept(tab);
    await story.restart();
    const other = await story.open();
    await story.press(other);
    await story.come(other);
  };
  if (restarts) scenario('the browser is closed and started again', restart, 'lasting');

  scenario('a second tab', async (story) => {
    const one = await story.open();
    await story.come(one);
    const two = await story.open();
    await story.come(two);
    for (const tab of [one, two, two, one]) await story.press(tab);
    await story.sent(one);
    await story.close(one);
    await story.press(two);
  });

  for (const locks of ['kept apart by Web Locks', 'without Web Locks']) {
    scenario(`two tabs begin at the same moment, ${locks}`, async (story) => {
      const asked = locks.startsWith('without') ? { locks: 'none' } : {};
      const tabs = [await story.open(asked), await story.open(asked)];
      // Held up, so that one would overlap the other, did nothing keep them apart.
      story.proxy.fail(CREATE, () => pause(500));
      await Promise.all(tabs.map((tab) => tab.run(() => come())));
      await Promise.all(tabs.map((tab) => story.press(tab)));
      await Promise.all(tabs.map((tab) => story.came(tab)));
      if (!asked.locks) assert.equal(story.proxy.count(CREATE, ({ status }) => status < 300), 1, 'one tab asks');
    });
  }

  scenario('a tab is closed while it sends, and another goes on', async (story) => {
    const one = await story.open();
    await story.come(one);
    const two = await story.open();
    const change = story.proxy.fail(CHANGE, 'hang', 1);
    await story.press(one, 2);
    await until('the server has done it', () => change.hits);
    await story.press(two);
    await story.kept(one);
    await story.close(one);
    await story.sent(two);
  });

  scenario('cleared tokens', async (story) => {
    const tab = await story.open();
    await story.come(tab);
    for (const reload of [true, false]) {
      await story.press(tab);
      await story.sent(tab);
      await tab.run(() => tamper((rows) => delete rows.account));
      if (reload) await story.reload(tab);
      await story.press(tab);
      await story.sent(tab);
    }
    assert.equal(story.proxy.count(CREATE, ({ json }) => json.created === false), 2, 'the key speaks for the guest');
  });

  scenario('corrupted tokens', async (story) => {
    const tab = await story.open();
    await story.come(tab);
    const spoil = (all) =>
      tab.run((all) => tamper(({ account }) => {
        for (const token of Object.values(account.tokens)) token.value = token.value.slice(0, -9);
        if (all) account.refresh = 'spoilt';
      }), all);
    await spoil(false);
    await story.press(tab);
    await story.sent(tab);
    assert.equal(story.proxy.count(REFRESH, ({ status }) => status === 200), 1);
    await spoil(true);
    await story.press(tab);
    await story.sent(tab);
    assert.equal(story.proxy.count(CREATE, ({ json }) => json.created === false), 1);
    await spoil(true);
    await story.reload(tab);
    await story.press(tab);
  });

  scenario('the session is over by its time', async (story) => {
    const tab = await story.open({ client: 'brief' });
    await story.come(tab);
    for (const reload of [false, true]) {
      await story.press(tab);
      await story.sent(tab);
      await until('its time is over', async () => (await story.sessions()).length === 0);
      if (reload) await story.reload(tab);
    }
    await story.press(tab);
    await story.sent(tab);
    assert.ok(story.proxy.count(CREATE, ({ json }) => json.created === false) >= 2, 'the key speaks for the guest');
  });

  scenario('the operator ends the session, then all of the guest', async (story) => {
    const tab = await story.open();
    await story.come(tab);
    const [session] = await story.sessions();
    await story.operator('DELETE', `/v1/users/${story.id}/sessions/${session.id}`);
    await story.press(tab);
    await story.sent(tab);
    await story.operator('POST', `/v1/users/${story.id}/revoke-all`);
    await story.reload(tab);
    await story.press(tab);
    await story.sent(tab);
    assert.equal(story.proxy.count(CREATE, ({ json }) => json.created === false), 2, 'the key speaks for the guest');
  });

  scenario('the guest was erased elsewhere: nobody comes in their place until the app says so', async (story) => {
    const tabs = [await story.open(), await story.open()];
    for (const tab of tabs) await story.come(tab);
    await story.operator('DELETE', `/v1/users/${story.id}`);
    await story.press(tabs[0]);
    for (const tab of tabs) {
      await until('it is told', () => tab.run(() => seen.ended.length));
      await story.reload(tab);
      await tab.run(() => come());
      assert.match(await until('it is told again', () => tab.run(() => came)), /^guest_ended/);
      assert.equal(await tab.run(() => passerby.state.status), 'ended');
    }
    assert.deepEqual(await story.made(), []);
    await tabs[0].run(() => passerby.guest({ fresh: true }));
    const [id] = await story.made();
    assert.notEqual(id, story.id);
    story.id = null;
    for (const tab of tabs) await story.come(tab);
    assert.equal(story.id, id);
    assert.deepEqual(await story.made(), [id]);
    return OVER;
  });

  scenario('tokens at their end are renewed once over all tabs', async (story) => {
    const tabs = [await story.open(), await story.open(), await story.open()];
    for (const tab of tabs) await story.come(tab);
    const life = await tabs[0].run(() => tamper(({ account }) => Object.values(account.tokens)[0].life));
    story.proxy.fail(REFRESH, () => pause(300));
    // Nine seconds are left: too few to begin anything with.
    await Promise.all(tabs.map((tab) => tab.run((ms) => { skew = ms; }, life - 9_000)));
    await Promise.all(tabs.map((tab) => tab.run(() => { passerby.token().then((token) => (window.renewed = token)); })));
    const tokens = await Promise.all(tabs.map((tab) => until('a token comes', () => tab.run(() => window.renewed))));
    assert.equal(new Set(tokens).size, 1);
    assert.equal(story.proxy.count(REFRESH, ({ status }) => status === 200), 1);
    for (const tab of tabs) await story.press(tab);
  });

  scenario('the server is killed when it has answered, and comes back', async (story) => {
    const tab = await story.open();
    const kill = async () => {
      await story.server.kill();
      return 'lose';
    };
    /** Some changes while it is away, and it is back. */
    const away = async (rule) => {
      await until('the server is killed', () => rule.hits);
      await story.press(tab, 2);
      const told = await tab.run(() => seen.retries.length);
      await until('that is noticed', () => tab.run((told) => seen.retries.length > told, told));
      await story.server.start();
    };
    const creation = story.proxy.fail(CREATE, kill, 1);
    await tab.run(() => come());
    await away(creation);
    await story.came(tab);
    await story.sent(tab);
    const change = story.proxy.fail(CHANGE, kill, 1);
    await story.press(tab, 3);
    await away(change);
    await story.kept(tab);
    await story.reload(tab);
    await story.press(tab);
  });

  scenario('offline at the first visit and later, and back', async (story) => {
    const tab = await story.open();
    for (const shown of [2, 4]) {
      await story.offline(true);
      await tab.run(() => (seen.retries.length = 0));
      await story.press(tab, 2);
      await tab.run(() => come());
      await until('that is noticed', () => tab.run(() => seen.retries.length > 0));
      assert.equal(await tab.run(() => passerby.data.peek('/presses')), shown, 'shown at once');
      await story.offline(false);
      await story.came(tab);
      await story.sent(tab);
    }
  });

  scenario('offline, the tab is closed, and another one is opened when the line is back', async (story) => {
    const one = await story.open();
    await story.come(one);
    await story.offline(true);
    await story.press(one, 3);
    await story.kept(one);
    await story.close(one);
    await story.offline(false);
    const two = await story.open();
    await story.press(two);
    await story.sent(two);
  });

  for (const [wrong, skew] of Object.entries({ fast: DAY, slow: -DAY })) {
    scenario(`the clock is a day ${wrong}, and put right`, async (story) => {
      const tab = await story.open({ skew });
      await story.come(tab);
      await story.press(tab);
      await story.kept(tab);
      await story.reload(tab);
      await story.press(tab);
      await story.sent(tab);
      for (const right of [0, -skew, 0]) {
        await tab.run((ms) => { window.skew = ms; }, right);
        await story.press(tab);
        await story.sent(tab);
      }
    });
  }

  const busy = {
    '429 with Retry-After': {
      status: 429,
      headers: { 'Retry-After': '20', 'Content-Type': 'application/problem+json' },
      body: '{"status":429,"code":"too_many_requests","title":"Too many requests"}',
    },
    503: { status: 503, headers: { 'Content-Type': 'text/html' }, body: '<p>The server is away' },
    'a login page of the network': { status: 200, headers: { 'Content-Type': 'text/html' }, body: '<p>Log in' },
  };
  for (const [what, answer] of Object.entries(busy)) {
    scenario(`${what} for a minute`, async (story) => {
      const tab = await story.open({ time: 'hand' });
      let told = 0;
      /** Nothing else comes for a minute of the page's time, which passes from one try to the next. */
      const minute = async () => {
        const rule = story.proxy.fail('/v1/', answer);
        await tab.run(() => (window.came === undefined ? come() : press('in the bad minute')));
        for (let waited = 0, tries = 1; waited < MINUTE; tries += 1) {
          const retry = await until('a failure is told', () => tab.run((told) => seen.retries[told], told));
          told += 1;
          assert.equal(retry.status, answer.status);
          assert.ok(retry.ms >= (answer.status === 429 ? 20_000 : 0), 'not before the server asked for it');
          assert.equal(rule.hits, tries, 'one request each time');
          waited += retry.ms;
          if (waited >= MINUTE) rule.end();
          await tab.run((ms) => advance(ms), retry.ms);
        }
      };
      await minute();
      await story.came(tab);
      story.pressed.push('in the bad minute');
      await minute();
      await story.press(tab);
    });
  }

  const lines = {
    drop: 'the line drops before a request arrives',
    lose: 'the line drops before an answer arrives',
    cut: 'the line drops in the middle of an answer',
    hang: 'no answer arrives in time',
  };
  for (const [how, what] of Object.entries(lines)) {
    scenario(`${what}, twice each`, async (story) => {
      const tab = await story.open({ timeout: how === 'hang' ? 1_000 : 15_000 });
      const rules = [CREATE, CHANGE, REFRESH].map((request) => story.proxy.fail(request, how, 2));
      await story.come(tab);
      await story.press(tab, 2);
      await story.sent(tab);
      await tab.run(() => tamper(({ account }) => {
        for (const token of Object.values(account.tokens)) token.value = token.value.slice(0, -9);
      }));
      await story.press(tab);
      await story.sent(tab);
      assert.deepEqual(rules.map(({ hits }) => hits), [2, 2, 2]);
    });
  }

  scenario('two tabs on a bad line', async (story) => {
    const tabs = [await story.open(), await story.open()];
    const bad = ['lose', null, 'cut', null, null];
    let requests = 0;
    const rule = story.proxy.fail('/v1/', () => bad[requests++ % bad.length]);
    for (let press = 0; press < 5; press += 1) await Promise.all(tabs.map((tab) => story.press(tab)));
    for (const tab of tabs) await story.sent(tab);
    assert.ok(rule.hits > 20);
  });

  const lacking = {
    none: 'there is no IndexedDB',
    broken: 'IndexedDB does not open',
    keyless: 'IndexedDB keeps no keys',
  };
  for (const [storage, what] of Object.entries(lacking)) {
    scenario(`by cookie where ${what}`, async (story) => {
      story.mode = 'cookie';
      const tabs = [await story.open({ storage }), await story.open({ storage })];
      // Twice, as Chromium repeats once by itself.
      const rules = [CREATE, CHANGE].map((request) => story.proxy.fail(request, 'lose', 2));
      await Promise.all(tabs.map((tab) => tab.run(() => come())));
      for (const tab of tabs) await story.came(tab);
      for (const tab of tabs) await story.press(tab, 2);
      for (const tab of tabs) await story.sent(tab);
      assert.deepEqual(rules.map(({ hits }) => hits), [2, 2]);
      const told = await Promise.all(tabs.map((tab) => tab.run(() => seen.modes.at(-1))));
      assert.deepEqual(told.map(({ mode }) => mode), ['cookie', 'cookie']);
      assert.ok(told.some(({ reason }) => /IndexedDB/.test(reason)), 'it says why');
      await story.reload(tabs[0]);
      await story.come(tabs[0]);
      await story.press(tabs[0]);
      // The other tab learns of it where there is a storage to learn from; asked anew, everywhere.
      await story.sent(tabs[0]);
      await story.reload(tabs[1]);
      await story.come(tabs[1]);
      await tabs[1].run(() => passerby.data.get('/presses', { fresh: true }));
    });
  }

  scenario('who has a key and whose IndexedDB fails is nobody else by cookie', async (story) => {
    const tab = await story.open();
    await story.come(tab);
    const failing = await story.open({ storage: 'broken' });
    await failing.run(() => come());
    assert.equal(await failing.run(() => passerby.current().catch(({ code }) => code)), 'storage_failed');
    assert.equal(await failing.run(() => passerby.state.mode ?? 'none'), 'none');
    await story.close(failing);
    await story.press(tab);
  });
}
