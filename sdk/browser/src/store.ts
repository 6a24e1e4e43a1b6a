// What a browser keeps, shared by its tabs: one record of facts and the queue of changes.

import { problem, type Failure } from './error.js';
import type { DeviceKey } from './key.js';
import type { Operation, Session, User } from './types.js';

/** An access token. */
export interface Token {
  value: string;
  type: 'Bearer' | 'DPoP';
  /** Milliseconds it had when it came, and its end by the server's clock. */
  life: number;
  end: number;
}

/** The guest of this device. */
export interface Account {
  user: User;
  session?: Session | undefined;
  refresh?: string | undefined;
  /** By audience and scope. */
  tokens: Record<string, Token>;
}

/** A guest that is being taken over from another device, or recovered: with a key of its own until it is here. */
export interface Incoming {
  code: string;
  key?: DeviceKey | undefined;
  /** Without a key: the asking by which a lost answer is given again. */
  request?: string;
  /** The server's name for the asking; there once it has answered. */
  id?: string;
}

/** A guest beside the account that is here. */
export interface Aside {
  key?: DeviceKey | undefined;
  account: Account;
  /** The transfer by which they came along: nobody, unless it is undone. */
  merged?: string | undefined;
  /** What the guest is entered by, where there is no key that does it. */
  token?: string | undefined;
  /** The merge ticket, and its end by the server's clock. */
  ticket?: string | undefined;
  end?: number | undefined;
}

/** Every fact but the queue. */
export interface Rows {
  key?: DeviceKey | undefined;
  account?: Account | undefined;
  ended?: Failure | undefined;
  incoming?: Incoming | undefined;
  /** A guest that was left for an account and may still come along, or that came back out of one. */
  aside?: Aside | undefined;
  /** The guest that came along into the account: their changes are the account's. */
  merged?: string | undefined;
  /** A creation by cookie that may have been carried out: asked again with the same key and body. */
  creation?: { key: string; at: number; body: string } | undefined;
  /** Refused changes, so that the tab that made one learns it from the tab that sent it. */
  refused?: Record<string, Failure>;
}

/** Forgets every fact. */
export function clearRows(rows: Rows): void {
  for (const name of Object.keys(rows) as (keyof Rows)[]) delete rows[name];
}

/** A change on its way. */
export interface Item {
  /** Its place in the queue; given by the store. */
  id?: number;
  /** `Idempotency-Key`. */
  key: string;
  operations: Operation[];
  /** Whose change it is; nobody's yet when there was no guest. */
  guest?: string | undefined;
  /** When it was first sent, by the device's clock. */
  sent?: number;
}

/** What happens to the queue along with a change of the facts. */
export interface QueueEdit {
  add?: Item;
  put?: Item;
  remove?: number | undefined;
  clear?: boolean;
}

/** A change is all or nothing, and one at a time over all tabs. */
export interface Store {
  /** It outlives the page, and other tabs see it. */
  readonly lasting: boolean;
  /** The facts, and the first `limit` changes. */
  read(limit?: number): Promise<{ rows: Rows; queue: Item[] }>;
  /** `edit` changes the facts in place and must not wait for anything. */
  change(edit: (rows: Rows) => void, queue?: QueueEdit): Promise<Rows>;
}

/** For where there is no other. */
export function memoryStore(): Store {
  let rows: Rows = {};
  let queue: Item[] = [];
  let last = 0;
  return {
    lasting: false,
    read: async (limit) => ({ rows, queue: queue.slice(0, limit) }),
    async change(edit, { add, put, remove, clear } = {}) {
      const next = { ...rows };
      edit(next);
      rows = next;
      if (clear) queue = [];
      if (add) queue.push(Object.assign(add, { id: ++last }));
      queue = queue.map((item) => (item.id === put?.id ? put! : item)).filter((item) => item.id !== remove);
      return rows;
    },
  };
}

type Work<T> = (facts: IDBObjectStore, queue: IDBObjectStore, fail: (error: unknown) => void) => () => T;

/** Milliseconds after which a database that does not open is taken for missing. */
const PATIENCE = 10_000;
const FACTS = 'facts';
const QUEUE = 'queue';

/**
 * Opens the database `name`. Rejects where there is none, or when it does not open. Should it be closed later (site
 * data cleared, a crash), it is opened anew.
 */
export async function openStore(
  factory: IDBFactory | undefined,
  name: string,
  timer: (work: () => void, ms: number) => unknown,
): Promise<Store> {
  let db: Promise<IDBDatabase> | undefined;
  const open = () =>
    (db ??= new Promise<IDBDatabase>((resolve, reject) => {
      if (!factory) throw Error('there is none');
      const request = factory.open(name, 1);
      timer(() => reject(Error('it hangs')), PATIENCE);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(FACTS);
        request.result.createObjectStore(QUEUE, { keyPath: 'id', autoIncrement: true });
      };
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        request.result.onversionchange = () => {
          request.result.close();
          db = undefined;
        };
        request.result.onclose = () => (db = undefined);
        resolve(request.result);
      };
    }).catch((error) => {
      db = undefined;
      throw error;
    }));

  /** Runs `work` in a transaction and gives what its outcome says once that is done. */
  async function once<T>(mode: IDBTransactionMode, durability: IDBTransactionDurability, work: Work<T>): Promise<T> {
    const connection = await open();
    return new Promise<T>((resolve, reject) => {
      const transaction = connection.transaction([FACTS, QUEUE], mode, { durability });
      let cause: unknown;
      const outcome = work(transaction.objectStore(FACTS), transaction.objectStore(QUEUE), (error) => {
        cause = error;
        transaction.abort();
      });
      transaction.onabort = () => reject(cause ?? transaction.error);
      transaction.oncomplete = () => resolve(outcome());
    }).catch((error) => {
      db = undefined;
      connection.close();
      throw error;
    });
  }

  async function run<T>(mode: IDBTransactionMode, durability: IDBTransactionDurability, work: Work<T>): Promise<T> {
    try {
      // A connection that was closed under us shows only when it is used.
      return await once(mode, durability, work).catch((error) => {
        if (error?.name !== 'InvalidStateError') throw error;
        return once(mode, durability, work);
      });
    } catch (cause) {
      throw Object.assign(problem('storage_failed', String(cause)), { cause });
    }
  }

  await open();
  return {
    lasting: true,
    read: (limit) =>
      run('readonly', 'default', (facts, changes) => {
        const rows = facts.get(0);
        const queue = changes.getAll(null, limit);
        return () => ({ rows: rows.result ?? {}, queue: queue.result });
      }),
    change: (edit, queue) =>
      // The key must be on disk before the server hears of it; a change is also safe in the server's hands soon.
      run('readwrite', queue ? 'default' : 'strict', (facts, changes, fail) => {
        let rows: Rows = {};
        const found = facts.get(0);
        found.onsuccess = () => {
          try {
            rows = found.result ?? {};
            edit(rows);
            facts.put(rows, 0);
          } catch (error) {
            fail(error);
          }
        };
        if (queue?.clear) changes.clear();
        if (queue?.remove !== undefined) changes.delete(queue.remove);
        if (queue?.put) changes.put(queue.put);
        if (queue?.add) {
          const { add } = queue;
          const added = changes.add(add);
          added.onsuccess = () => (add.id = added.result as number);
        }
        return () => rows;
      }),
  };
}
