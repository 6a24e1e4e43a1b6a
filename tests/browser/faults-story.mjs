// One visitor of the faults: what they do, what the operator sees of it, and the reckoning.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

/** The operator's. */
export const API_KEY = 'faults-api-key-0123456789abcdef0123456789';
export const CREATE = 'POST /v1/guests';
export const REFRESH = 'POST /v1/refresh';
export const CHANGE = 'POST /v1/me/data/operations';

/** Waits until `look` gives something true. How long that takes decides nothing; that it never comes does. */
export async function until(what, look) {
  let last;
  for (const end = Date.now() + 30_000; Date.now() < end; await pause(25)) {
    last = await look();
    if (last) return last;
  }
  assert.fail(`it never came to this: ${what}`);
}

/** One visitor from their first look to the reckoning. */
export class Story {
  tabs = [];
  pressed = [];
  id = null;
  /** What the visitor's browser proves itself by. */
  mode = 'device-key';
  #world;
  #visitor;
  #before;

  constructor(world, visitor) {
    this.#world = world;
    this.#visitor = visitor;
  }

  async begin() {
    this.#before = await this.guests();
  }

  /** Guests that the server has and did not have at the beginning. */
  async made() {
    return (await this.guests()).filter((id) => !this.#before.includes(id));
  }

  get proxy() {
    return this.#world.proxy;
  }

  get server() {
    return this.#world.server;
  }

  /** A tab with the page; `asked` is what before.js and page.js are told. */
  async open(asked = {}) {
    const { page, proxy } = this.#world;
    const query = new URLSearchParams({ api: proxy.origin, client: 'app', ...asked });
    const tab = await this.#visitor.open(`${page.origin}/?${query}`);
    await ready(tab);
    this.tabs.push(tab);
    return tab;
  }

  async reload(tab) {
    await tab.reload();
    await ready(tab);
  }

  async close(tab) {
    this.tabs = this.tabs.filter((other) => other !== tab);
    await tab.close();
  }

  /** Closes the browser with all its tabs and starts it again. */
  async restart() {
    this.tabs = [];
    await this.#visitor.restart();
  }

  /** Asks for the guest and waits; it is the same one each time. */
  async come(tab) {
    await tab.run(() => come());
    await this.came(tab);
  }

  async came(tab) {
    const id = await until('the guest comes', () => tab.run(() => came));
    assert.match(id, /^[0-9a-f-]{36}$/);
    this.id ??= id;
    assert.equal(id, this.id, 'the same guest');
  }

  /** Changes something; what becomes of it shows later. */
  async press(tab, times = 1) {
    for (let press = 0; press < times; press += 1) {
      const name = `press ${this.pressed.length + 1}`;
      this.pressed.push(name);
      await tab.run((name) => press(name), name);
    }
  }

  /** Waits until all that was pressed is in the storage: what is not, is lost with its tab. */
  async kept(tab) {
    await until('all is kept', () => tab.run(async () => (await kept()) >= passerby.state.pending));
  }

  /** Waits until nothing is on its way. */
  async sent(tab) {
    await until('all is sent', () => tab.run(() => passerby.state.status === 'guest' && passerby.state.pending === 0));
  }

  async offline(off) {
    if (this.#visitor.offline) await this.#visitor.offline(off);
    else if (off) await this.proxy.refuse();
    else await this.proxy.start();
  }

  /** Asks as the operator. */
  async operator(method, path) {
    const headers = { Authorization: `Bearer ${API_KEY}` };
    const answer = await fetch(`${this.server.origin}${path}`, { method, headers });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
    return answer.status === 204 ? null : answer.json();
  }

  /** Ids of all guests that the server has. */
  async guests() {
    const ids = [];
    let cursor = '';
    do {
      const { items, cursor: next } = await this.operator('GET', `/v1/users?limit=100${cursor}`);
      ids.push(...items.map(({ id }) => id));
      cursor = next && `&cursor=${encodeURIComponent(next)}`;
    } while (cursor);
    return ids;
  }

  async sessions() {
    return (await this.operator('GET', `/v1/users/${this.id}/sessions`)).items;
  }

  /** What is known, for whoever looks for the cause of a failure. */
  async tell() {
    const look = () => JSON.stringify({ seen, state: passerby.state });
    const tabs = await Promise.all(this.tabs.map((tab) => tab.run(look).catch(String)));
    const passed = this.proxy.passed.map(({ what, status, json }) => `${what}: ${status} ${json?.code ?? json?.created ?? ''}`);
    return [...tabs, ...passed.slice(-30)].join('\n');
  }

  /** The reckoning: by the server's books, by the record of what it answered, and by what each tab has seen. */
  async end() {
    for (const tab of this.tabs) {
      await this.sent(tab);
      const { state, seen } = await tab.run(() => ({ state: passerby.state, seen }));
      this.id ??= state.user.id;
      assert.equal(state.user.id, this.id);
      assert.equal(state.mode, this.mode);
      assert.deepEqual({ wrong: seen.wrong, refused: seen.refused, ended: seen.ended }, { wrong: [], refused: [], ended: [] });
      assert.equal(state.user.data.presses ?? 0, this.pressed.length, 'what the tab shows');
    }
    assert.deepEqual(await this.made(), [this.id], 'one guest is in the books');
    assert.equal(this.proxy.count(CREATE, ({ json }) => json?.created === true), 1, 'exactly one answer says created');
    const { data } = await this.operator('GET', `/v1/users/${this.id}`);
    assert.deepEqual([...(data.log ?? [])].sort(), [...this.pressed].sort(), 'each change once');
    assert.equal(data.presses ?? 0, this.pressed.length);
  }
}

async function ready(tab) {
  await until('the page is there', () => tab.run(() => typeof press === 'function'));
}
