// The guest's data: shown at once, queued while the line is down, sent in order and exactly once.

import type { Core } from './core.js';
import { PasserbyError, plain, problem } from './error.js';
import { random } from './key.js';
import { checked, find } from './operations.js';
import type { Account, Item } from './store.js';
import type { Json, Operation, Saved, User } from './types.js';

/** The server remembers for seven days what it did; an hour of it is left to clocks. */
const MEMORY = 7 * 86_400_000 - 3_600_000;
/** Statuses by which the server refuses the change itself. */
const REFUSALS = [400, 404, 409, 412, 413, 415, 422];

/** The guest's profile data. Places are JSON pointers (RFC 6901). */
export interface DataClient {
  /**
   * The value at `path`, or all of it, with the changes that are on their way; undefined where nothing is. `fresh`
   * asks the server first.
   */
  get(path?: string, options?: { fresh?: boolean }): Promise<Json | undefined>;
  /** The same at once, from what is known; makes no call. */
  peek(path?: string): Json | undefined;
  /**
   * Changes, all or nothing. They show at once; the promise resolves when the server has them and rejects when it
   * refuses them. It need not be awaited. Makes the guest if there is none.
   */
  apply(operations: Operation[]): Promise<Saved>;
  set(path: string, value: Json): Promise<Saved>;
  unset(path: string): Promise<Saved>;
  /** Adds `by`, 1 by default; what is missing starts at 0. */
  increment(path: string, by?: number): Promise<Saved>;
  /** Lowers the number to `value`, if it is larger. */
  min(path: string, value: number): Promise<Saved>;
  /** Raises the number to `value`, if it is smaller. */
  max(path: string, value: number): Promise<Saved>;
  append(path: string, value: Json): Promise<Saved>;
  addToSet(path: string, value: Json): Promise<Saved>;
  removeFromSet(path: string, value: Json): Promise<Saved>;
  /** Resolves when the server has everything; rejects when the guest has ended. */
  flush(): Promise<void>;
}

/** The data, and what the rest of the client needs of it. */
export interface DataSide {
  client: DataClient;
  /** Asks the server who is here. Makes nobody. */
  refresh(): Promise<User | null>;
}

interface Waiter {
  item: Item;
  resolve(saved: Saved): void;
  reject(error: PasserbyError): void;
}

/** The change is of a guest who is not here any more. */
const left = () => problem('left');
const nothing = () => {};

/** Changes and their way to the server. */
export function dataSide(core: Core): DataSide {
  const waiters = new Map<string, Waiter>();
  let delivering: Promise<void> | undefined;

  core.drain = async () => {
    while (await head());
  };
  core.queueChanged = () => {
    settle();
    if (core.queue.length && !core.rows.ended) void deliver();
  };

  async function refresh(): Promise<User | null> {
    await core.known();
    if (!core.rows.account) return null;
    const user = await core.patiently<User>('GET', '/v1/me', {}, true);
    await core.change((rows) => {
      const { account } = rows;
      // What was asked for before a later change is older than what is known.
      // So is a guest who is a regular user by now.
      if (account?.user.id === user.id && account.user.version <= user.version && account.user.kind <= user.kind)
        rows.account = { ...account, user };
    });
    return core.state.user ?? null;
  }

  const peek = (path = '') => find(core.data, path);

  function apply(operations: Operation[]): Promise<Saved> {
    let item: Item;
    try {
      item = { key: random(core.env.crypto), operations: checked(operations) };
    } catch (error) {
      return Promise.reject(error);
    }
    const { key } = item;
    const done = new Promise<Saved>((resolve, reject) => waiters.set(key, { item, resolve, reject }));
    // Nobody has to listen; the event `refused` tells all the same.
    done.catch(nothing);
    core.unsaved.push(item);
    core.publish();
    keep(item).catch((error) => {
      core.unsaved = core.unsaved.filter((other) => other !== item);
      waiters.get(key)?.reject(error);
      waiters.delete(key);
      core.publish();
    });
    return done;
  }

  async function keep(item: Item): Promise<void> {
    await core.ready();
    if (core.rows.ended) throw new PasserbyError(core.rows.ended);
    item.guest = core.rows.account?.user.id;
    await core.change(nothing, { add: item });
  }

  /** Sends what is queued, until nothing is left, the guest has ended or the client is closed. */
  function deliver(): Promise<void> {
    return (delivering ??= (async () => {
      let more = true;
      try {
        // Tries, pauses and all, are counted anew for each change.
        while (more) more = await core.wire.keepTrying(head, { stubborn: true });
      } catch {
        // Whoever waits is told by `settle`.
      }
      delivering = undefined;
      settle();
      // Something may have come after the last look.
      if (!more && core.queue.length) void deliver();
    })());
  }

  /** Sends the oldest change. False when there is none. */
  function head(): Promise<boolean> {
    return core.alone('queue', async () => {
      await core.ready();
      const { rows, queue } = await core.read();
      const [item] = queue;
      if (!item) {
        // Another tab has sent what this one believes to be waiting.
        if (core.queue.length) await core.sync();
        return false;
      }
      const account = rows.account ?? (await maker(item, !!rows.key || !!rows.ended));
      if (account) await send(item, account.user.id);
      return true;
    });
  }

  /** Whose change this becomes when nobody is here; undefined when nobody's, and it is refused. */
  async function maker(item: Item, known: boolean): Promise<Account | undefined> {
    // Somebody's change makes nobody else: without a key there is nothing by which they could come back.
    if (item.guest && !known && core.mode === 'device-key') return refuse(item, left());
    try {
      return await core.ensure();
    } catch (error) {
      const { temporary, ended, code } = error as PasserbyError;
      if (item.guest || temporary !== false || ended || code === 'aborted') throw error;
      // Nobody is made for this change, so that it has no place to go.
      return refuse(item, error as PasserbyError);
    }
  }

  async function send(item: Item, guest: string): Promise<void> {
    const { operations, key, id, sent } = item;
    if (!core.ours(item)) return refuse(item, left());
    // Kept before it goes, so that whoever finds it later knows that it may have arrived, and for whom.
    if (sent === undefined) await core.change(nothing, { put: { ...item, guest, sent: core.wire.now() } });
    else if (await tooOld(sent, guest)) return refuse(item, problem('outcome_unknown'));
    let saved: Saved;
    try {
      saved = await core.ask<Saved>(
        'POST',
        '/v1/me/data/operations',
        { body: { operations }, headers: { 'Idempotency-Key': key } },
        guest,
      );
    } catch (error) {
      const { status, code, ended } = error as PasserbyError;
      // Not a word about the change: a proof was refused, and the next one may not be.
      if (!code || !REFUSALS.includes(status) || ended || /dpop/.test(code)) throw error;
      return refuse(item, error as PasserbyError);
    }
    const { data, version } = saved;
    await core.change(
      (rows) => {
        const { account } = rows;
        if (account?.user.id !== guest || account.user.version > version) return;
        rows.account = { ...account, user: { ...account.user, data, version, stored: true } };
      },
      { remove: id },
    );
  }

  async function tooOld(sent: number, guest: string): Promise<boolean> {
    const old = () => Math.abs(core.wire.now() - sent) > MEMORY;
    // Any answer tells what time it is; the device's clock alone decides nothing.
    if (old()) await core.ask('GET', '/v1/me', {}, guest);
    return old();
  }

  async function refuse({ operations, key, id }: Item, error: PasserbyError): Promise<undefined> {
    const failure = plain(error);
    await core.change(
      (rows) => (rows.refused = Object.fromEntries([...Object.entries(rows.refused ?? {}), [key, failure]].slice(-50))),
      { remove: id },
      { refused: { operations, failure } },
    );
    core.emitter.emit('refused', { operations, error });
  }

  /** Tells whoever waits what became of their changes. */
  function settle(): void {
    const { account, ended, refused } = core.rows;
    const waiting = new Set([...core.unsaved, ...core.queue].map(({ key }) => key));
    for (const [key, { item, resolve, reject }] of waiters) {
      if (waiting.has(key) && !ended) continue;
      waiters.delete(key);
      const failure = ended ?? refused?.[key];
      if (failure) reject(new PasserbyError(failure));
      else if (account && core.ours(item)) resolve({ data: account.user.data, version: account.user.version });
      else reject(left());
    }
  }

  async function flush(): Promise<void> {
    await core.ready();
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        const { ended, pending } = core.state;
        if (pending && !ended) return;
        stop();
        if (ended) reject(ended);
        else resolve();
      };
      const stop = core.emitter.on('change', look);
      look();
    });
  }

  return {
    refresh,
    client: {
      async get(path, { fresh } = {}) {
        await (fresh ? refresh() : core.known());
        return peek(path);
      },
      peek,
      apply,
      set: (path, value) => apply([{ op: 'set', path, value }]),
      unset: (path) => apply([{ op: 'unset', path }]),
      increment: (path, by = 1) => apply([{ op: 'increment', path, by }]),
      min: (path, value) => apply([{ op: 'min', path, value }]),
      max: (path, value) => apply([{ op: 'max', path, value }]),
      append: (path, value) => apply([{ op: 'append', path, value }]),
      addToSet: (path, value) => apply([{ op: 'add_to_set', path, value }]),
      removeFromSet: (path, value) => apply([{ op: 'remove_from_set', path, value }]),
      flush,
    },
  };
}
