// A browser for tests: a clock that is moved by hand, tabs that share a storage, locks and channels, and that can be
// killed.

import { IDBFactory, IDBKeyRange } from 'fake-indexeddb';

import { createClient } from '../../dist/index.js';

globalThis.IDBKeyRange ??= IDBKeyRange;

/** So many turns of the event loop without work under way, and the world is at rest. */
const REST = 60;

/** Timers and the true time. `settle` moves it, from timer to timer, and only when nothing else is under way. */
export class Clock {
  #now = Date.parse('2026-03-01T12:00:00Z');
  #timers = new Map();
  #last = 0;
  #busy = 0;

  now() {
    return this.#now;
  }

  /** Moves the time on without running what was due: as a closed laptop does. */
  skip(ms) {
    this.#now += ms;
  }

  setTimeout = (work, ms) => {
    this.#timers.set((this.#last += 1), { work, at: this.#now + ms });
    return this.#last;
  };

  clearTimeout = (timer) => void this.#timers.delete(timer);

  /** Work that the event loop does not show by itself. */
  async busy(work) {
    this.#busy += 1;
    try {
      return await work();
    } finally {
      this.#busy -= 1;
    }
  }

  /** Waits until nothing happens any more but timers. */
  async rest(done = () => false) {
    for (let quiet = 0; quiet < REST && !done(); quiet = this.#busy > 0 ? 0 : quiet + 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Runs the next timer. False when there is none, or none before `end`. */
  #step(end = Infinity) {
    const [timer, next] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
    if (!next || next.at > end) return false;
    this.#timers.delete(timer);
    this.#now = Math.max(this.#now, next.at);
    next.work();
    return true;
  }

  /** The promise's outcome, with as many timers run as it takes: `{ value }` or `{ error }`. */
  async outcome(promise) {
    let outcome;
    promise.then(
      (value) => (outcome = { value }),
      (error) => (outcome = { error }),
    );
    // A long row of transactions looks like rest, too: without a timer it is given some more turns.
    for (let idle = 0, steps = 0; idle < 50 && steps < 2_000; steps += 1) {
      await this.rest(() => outcome);
      if (outcome) return outcome;
      idle = this.#step() ? 0 : idle + 1;
    }
    throw Error('it never settles');
  }

  async settle(promise) {
    const { value, error } = await this.outcome(promise);
    if (error) throw error;
    return value;
  }

  /** Lets so many milliseconds go by, with all that is due in them. */
  async pass(ms) {
    const end = this.#now + ms;
    await this.rest();
    while (this.#step(end)) await this.rest();
    this.#now = end;
  }
}

/** Web Locks of one browser; a tab's are released when it dies. */
class Locks {
  #queues = new Map();

  request(tab, name, work) {
    return new Promise((resolve, reject) => {
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      const entry = { tab, work, resolve, reject, held: false };
      queue.push(entry);
      this.#next(name);
    });
  }

  #next(name) {
    const queue = this.#queues.get(name);
    const [entry] = queue;
    if (!entry || entry.held) return;
    entry.held = true;
    queueMicrotask(async () => {
      const done = () => {
        const at = queue.indexOf(entry);
        if (at >= 0) queue.splice(at, 1);
        this.#next(name);
      };
      try {
        const value = await entry.work();
        done();
        entry.resolve(value);
      } catch (error) {
        done();
        entry.reject(error);
      }
    });
  }

  release(tab) {
    for (const [name, queue] of this.#queues) {
      const left = queue.filter((entry) => entry.tab !== tab);
      queue.splice(0, queue.length, ...left);
      this.#next(name);
    }
  }
}

/** One browser of one person: what it keeps outlives its tabs. */
export class Browser {
  indexedDB = new IDBFactory();
  cookies = new Map();
  kept = new Map();
  /** Milliseconds by which the device's clock is wrong. */
  skew = 0;
  /** What a request meets on its way: see `Server.handle`. */
  online = true;
  informed = [];
  /** The features that this browser has. */
  features;
  #locks = new Locks();
  #channels = new Set();
  #onlineListeners = new Set();
  #random = 0;

  constructor(clock, server, features = {}) {
    this.clock = clock;
    this.server = server;
    this.features = { indexedDB: true, crypto: true, locks: true, channel: true, localStorage: true, ...features };
  }

  goOnline(online) {
    this.online = online;
    if (online) for (const listener of [...this.#onlineListeners]) listener();
  }

  /** A page with a client of its own. */
  tab(options = {}) {
    const tab = { dead: false };
    const browser = this;
    const { features, clock } = this;
    class Channel {
      onmessage = null;
      constructor(name) {
        this.name = name;
        browser.#channels.add(this);
      }
      postMessage(data) {
        if (tab.dead) return;
        const copy = structuredClone(data);
        for (const other of browser.#channels) {
          if (other !== this && other.name === this.name) setImmediate(() => other.onmessage?.({ data: copy }));
        }
      }
      close() {
        this.onmessage = null;
        browser.#channels.delete(this);
      }
    }
    const store = {
      getItem: (name) => browser.kept.get(name) ?? null,
      setItem: (name, value) => void browser.kept.set(name, value),
      removeItem: (name) => void browser.kept.delete(name),
    };
    const environment = {
      async fetch(request) {
        const never = new Promise((_, reject) =>
          request.signal.addEventListener('abort', () => reject(request.signal.reason)),
        );
        never.catch(() => {});
        if (tab.dead) return never;
        const answer = await clock.busy(() => browser.#fetch(request));
        return tab.dead || !answer ? never : answer;
      },
      now: () => clock.now() + browser.skew,
      setTimeout: (work, ms) => clock.setTimeout(() => tab.dead || work(), ms),
      clearTimeout: clock.clearTimeout,
      random: () => (browser.#random = (browser.#random + 0.37) % 1),
      crypto: features.crypto ? browser.#crypto() : { getRandomValues: (bytes) => crypto.getRandomValues(bytes) },
      indexedDB: features.indexedDB ? (features.brokenDatabase ?? browser.indexedDB) : undefined,
      localStorage: features.localStorage ? store : undefined,
      locks: features.locks ? { request: (name, work) => browser.#locks.request(tab, name, work) } : undefined,
      BroadcastChannel: features.channel ? Channel : undefined,
      online(listener) {
        browser.#onlineListeners.add(listener);
        return () => browser.#onlineListeners.delete(listener);
      },
      inform: (message) => browser.informed.push(message),
      page: true,
    };
    const client = createClient(
      { clientId: 'demo-spa', baseUrl: browser.server.origin, device: 'Test', ...options },
      environment,
    );
    tab.events = [];
    for (const name of ['guest', 'data', 'ended', 'refused', 'retry', 'mode'])
      client.on(name, (event) => tab.events.push([name, event]));
    /** As if the browser killed it: nothing of it goes on, and nothing is tidied up. */
    tab.kill = () => {
      tab.dead = true;
      browser.#locks.release(tab);
      client.close();
    };
    return Object.assign(client, { tab, events: tab.events, kill: tab.kill });
  }

  /** WebCrypto, whose work is done beside the event loop. */
  #crypto() {
    const { clock } = this;
    const subtle = new Proxy(crypto.subtle, {
      get:
        (target, name) =>
        (...values) =>
          clock.busy(() => target[name](...values)),
    });
    return { subtle, getRandomValues: (bytes) => crypto.getRandomValues(bytes) };
  }

  async #fetch(request) {
    if (!this.online) throw TypeError('fetch failed');
    return this.server.handle(request, request.credentials === 'include' ? this.cookies : new Map());
  }

  #request(mode, work) {
    return new Promise((resolve, reject) => {
      const opened = this.indexedDB.open(`passerby demo-spa ${this.server.origin}`, 1);
      opened.onerror = () => reject(opened.error);
      opened.onsuccess = () => {
        const transaction = opened.result.transaction(['facts', 'queue'], mode);
        const result = work(transaction.objectStore('facts'), transaction.objectStore('queue'));
        transaction.oncomplete = () => {
          opened.result.close();
          resolve(result?.result);
        };
      };
    });
  }

  /** Holds one of the client's locks until the function that it gives is called. */
  async hold(what) {
    let free;
    const held = new Promise((resolve) => (free = resolve));
    this.#locks.request({}, `passerby demo-spa ${this.server.origin} ${what}`, () => held);
    await this.clock.rest();
    return free;
  }

  /** What the database holds: the facts, and the queue of changes. */
  facts = () => this.clock.settle(this.#request('readonly', (facts) => facts.get(0)));
  queue = () => this.clock.settle(this.#request('readonly', (_, queue) => queue.getAll()));
  /** Changes the facts behind the client's back. */
  async tamper(edit) {
    const facts = await this.facts();
    edit(facts);
    await this.clock.settle(this.#request('readwrite', (store) => store.put(facts, 0)));
  }
}
