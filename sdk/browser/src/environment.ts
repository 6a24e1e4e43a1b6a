// The browser, passed in: tests bring a clock, a network and a storage of their own.

/** What the client needs of its surroundings. */
export interface Environment {
  fetch(request: Request): Promise<Response>;
  /** Milliseconds since 1970 by the device's clock, right or wrong. */
  now(): number;
  setTimeout(work: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 up to 1. */
  random(): number;
  crypto?: Crypto;
  indexedDB?: IDBFactory;
  localStorage?: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
  locks?: Pick<LockManager, 'request'>;
  BroadcastChannel?: new (name: string) => BroadcastChannel;
  /** Told when the browser is online again; gives back what ends that. */
  online(listener: () => void): () => void;
  /** Something that only a person at the console needs to know. */
  inform(message: string): void;
  /** There is a page, so that the storage is looked at before anybody asks. */
  page: boolean;
}

/** Some of these throw at a mere look where storage is forbidden. */
function look<T>(read: () => T): T | undefined {
  try {
    return read() ?? undefined;
  } catch {
    return undefined;
  }
}

/** The browser as it is. */
export function browser(): Environment {
  return {
    fetch: (request) => fetch(request),
    now: () => Date.now(),
    setTimeout: (work, ms) => setTimeout(work, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    random: () => Math.random(),
    crypto: look(() => crypto),
    indexedDB: look(() => indexedDB),
    localStorage: look(() => localStorage),
    locks: look(() => navigator.locks),
    BroadcastChannel: look(() => BroadcastChannel),
    online(listener) {
      if (typeof addEventListener !== 'function') return () => {};
      addEventListener('online', listener);
      return () => removeEventListener('online', listener);
    },
    inform: (message) => console.info(message),
    page: typeof document !== 'undefined',
  };
}
