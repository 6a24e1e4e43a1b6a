// The guest of this device: who it is, its tokens, and what all tabs know of it.

import { browser, type Environment } from './environment.js';
import { gone, PasserbyError, plain, problem } from './error.js';
import { Emitter } from './events.js';
import { makeKey, random, type DeviceKey } from './key.js';
import { view } from './operations.js';
import type { ClientOptions, GuestOptions, State, TokenOptions } from './options.js';
import { clearRows, memoryStore, openStore } from './store.js';
import type { Account, Item, Rows, Store, Token } from './store.js';
import type { Data, GuestAnswer, Mode, User } from './types.js';
import { Wire, type Sent } from './wire.js';

/** What tabs tell each other. Facts are read from the storage; this only says when. */
interface Told {
  left?: boolean;
  refused?: { operations: Item['operations']; failure: ReturnType<typeof plain> };
}

/** Answers to a resume that end the guest; nothing else does. */
const ENDINGS = /^(not_a_guest|guest_(ended|converted|merged))$/;
/** A creation by cookie is remembered by the server for ten minutes under its key. */
const CREATION_LIFE = 540_000;
/** Milliseconds of failures after which a call that somebody waits for is given up. */
export const PATIENCE = 30_000;

const BY_COOKIE: Sent = { body: {}, cookie: true };

const tokenName = ({ audience = '', scope = '' }: TokenOptions) => `${audience} ${scope}`;

/** The inside of a client. */
export class Core {
  readonly env: Environment;
  readonly options: ClientOptions;
  readonly base: string;
  readonly emitter = new Emitter();
  readonly wire: Wire;
  /** For entries that are bundled by themselves: their errors are of the same class. */
  readonly problem = problem;
  /** This tab's copy of what is kept; what counts is in the store. */
  rows: Rows = {};
  queue: Item[] = [];
  /** Changes that are not in the store yet. */
  unsaved: Item[] = [];
  state: State = { status: 'loading', pending: 0 };
  /** The data with all changes, also where there is no guest yet. */
  data: Data = {};
  store!: Store;
  mode: Mode | undefined;
  /** Called when the queue may have become shorter, or should be sent. */
  queueChanged: () => void = () => {};
  /** Sends what can be sent now. Rejects at the first failure. */
  drain!: () => Promise<void>;

  #name: string;
  #ready: Promise<void> | undefined;
  #channel: BroadcastChannel | undefined;
  #closed = new AbortController();
  /** There is nothing to ask the server about who is here: it was asked, or there is nothing to ask with. */
  #looked = false;
  #shown = '';
  #dataShown = '{}';
  #mutex: Record<string, Promise<unknown>> = {};
  #renewing = false;
  #informed = false;

  constructor(options: ClientOptions, environment: Partial<Environment> = {}) {
    this.env = { ...browser(), ...environment };
    this.options = options;
    this.base = (options.baseUrl ?? globalThis.location?.origin ?? '').replace(/\/+$/, '');
    if (!options.clientId || !/^https?:/.test(this.base)) throw TypeError('createClient needs clientId and baseUrl');
    this.#name = `passerby ${options.clientId} ${this.base}`;
    this.wire = new Wire(this.env, this.base, options.timeout ?? 15_000, this.emitter, this.#closed.signal);
    if (this.env.page) void this.known().catch(() => {});
  }

  close(): void {
    this.#closed.abort();
    this.#channel?.close();
  }

  // ---- what is kept -------------------------------------------------------------------------------------------------

  /** Opens the storage and finds out how this browser proves who it is. Rejects with `storage_failed`. */
  ready(): Promise<void> {
    return (this.#ready ??= this.#open().catch((error) => {
      this.#ready = undefined;
      throw error;
    }));
  }

  async #open(): Promise<void> {
    const { env } = this;
    const mark = this.#mark();
    let reason = '';
    let store: Store | undefined;
    try {
      store = await openStore(env.indexedDB, this.#name, env.setTimeout);
    } catch (error) {
      reason = `no IndexedDB: ${error}`;
    }
    if (!env.crypto?.subtle) reason ||= 'no WebCrypto: is the page served over https?';
    // The guest's key is in there: to go on by cookie would make another guest.
    if (reason && mark === 'device-key') throw problem('storage_failed', reason);
    this.store ??= store ?? memoryStore();
    const { rows } = await this.store.read(1);
    if (mark?.startsWith('cookie') || (rows.account && !rows.key)) reason ||= 'this browser began with the cookie';
    this.#setMode(reason ? 'cookie' : 'device-key', reason);
    this.#looked = !reason && !rows.key;
    if (env.BroadcastChannel) {
      this.#channel ??= new env.BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => void this.#hear(data as Told).catch(() => {});
    }
    await this.sync();
  }

  #setMode(mode: Mode, reason: string): void {
    if (this.mode === mode) return;
    this.mode = mode;
    this.emitter.emit('mode', reason ? { mode, reason } : { mode });
    if (reason && !this.#informed) this.env.inform(`Passerby works by cookie, not by device key: ${reason}`);
    this.#informed ||= !!reason;
  }

  /**
   * What this browser remembers beside the database, so that a failure of the database is not taken for a first visit:
   * `device-key`, or `cookie` with the guest's id.
   */
  #mark(value?: string | null): string | null | undefined {
    const { localStorage } = this.env;
    try {
      if (value === null) localStorage?.removeItem(this.#name);
      else if (value) localStorage?.setItem(this.#name, value);
      return localStorage?.getItem(this.#name);
    } catch {
      // Without it a failing database has nothing to be told by; all else works.
      return undefined;
    }
  }

  /** Remembers that there is a guest here. */
  mark(): void {
    this.#mark(this.mode === 'cookie' ? `cookie ${this.rows.account?.user.id}` : 'device-key');
  }

  /** Reads what is kept, as another tab may have changed it. */
  async sync(): Promise<void> {
    const { rows, queue } = await this.store.read();
    this.rows = rows;
    this.queue = queue;
    this.publish();
    this.queueChanged();
  }

  /** Reads the facts, and the oldest change. */
  async read(): Promise<{ rows: Rows; queue: Item[] }> {
    const found = await this.store.read(1);
    this.rows = found.rows;
    this.publish();
    return found;
  }

  /** Changes what is kept and tells the other tabs. */
  async change(edit: (rows: Rows) => void, queue?: Parameters<Store['change']>[1], told: Told = {}): Promise<void> {
    this.rows = await this.store.change(edit, queue);
    const { add, put, remove, clear } = queue ?? {};
    const kept = (clear ? [] : this.queue).filter((item) => item.id !== remove || item.id === undefined);
    this.queue = kept.map((item) => (item.id === put?.id && put ? put : item));
    if (add) {
      this.queue.push(add);
      this.unsaved = this.unsaved.filter((item) => item !== add);
    }
    this.publish();
    this.tell(told);
    this.queueChanged();
  }

  tell(told: Told): void {
    this.#channel?.postMessage(told);
  }

  async #hear({ left, refused }: Told): Promise<void> {
    if (refused) {
      this.emitter.emit('refused', { operations: refused.operations, error: new PasserbyError(refused.failure) });
    }
    if (left) this.#looked = true;
    if (left && !this.store.lasting) await this.store.change(clearRows, { clear: true });
    await this.sync();
  }

  /** Whether a change is of whoever is here: their own, nobody's, or of the guest that came along into the account. */
  ours({ guest }: Item): boolean {
    const { account, merged } = this.rows;
    return !guest || guest === account?.user.id || guest === merged;
  }

  /** Tells of what changed, if anything did. */
  publish(): void {
    const { account, ended } = this.rows;
    // Another tab has found out that no key can be kept.
    if (account && !this.rows.key) this.#setMode('cookie', 'this browser began with the cookie');
    const batches = [...this.queue, ...this.unsaved].filter((item) => this.ours(item));
    const data = view(
      account?.user.data ?? {},
      batches.map((item) => item.operations),
    );
    const text = JSON.stringify(data);
    // The same data stays the same object, for those who compare.
    const changed = text !== this.#dataShown;
    if (changed) this.data = data;
    this.#dataShown = text;
    const loading = !this.mode || !this.#looked;
    const next: State = {
      status: ended ? 'ended' : account ? 'guest' : loading ? 'loading' : 'nobody',
      pending: batches.length,
    };
    if (this.mode) next.mode = this.mode;
    if (account) next.user = { ...account.user, data: this.data };
    if (ended) next.ended = new PasserbyError(ended);
    const shown = JSON.stringify(next);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const was = this.state;
    this.state = next;
    this.emitter.emit('change', undefined);
    if (next.status !== 'loading' && (next.user?.id !== was.user?.id || was.status === 'loading')) {
      this.emitter.emit('guest', next.user ?? null);
    }
    if (changed) this.emitter.emit('data', this.data);
    if (next.ended && was.status !== 'ended') this.emitter.emit('ended', next.ended);
  }

  /** One at a time over all tabs; where there are no locks, over this tab: the server sorts out the rest. */
  alone<T>(what: string, work: () => Promise<T>): Promise<T> {
    const here = () => {
      const turn = (this.#mutex[what] ?? Promise.resolve()).then(work, work);
      this.#mutex[what] = turn.catch(() => {});
      return turn;
    };
    const { locks } = this.env;
    if (!locks) return here();
    let entered = false;
    const locked = locks.request(`${this.#name} ${what}`, () => {
      entered = true;
      return work();
    }) as Promise<T>;
    // Where storage is forbidden, so are locks.
    return locked.catch((error) => {
      if (entered) throw error;
      return here();
    });
  }

  // ---- who it is ----------------------------------------------------------------------------------------------------

  /** Who is here. The server is asked, once, where there is a cookie, or a key without its guest. */
  async known(): Promise<void> {
    await this.ready();
    if (!this.#looked && !this.rows.account && !this.rows.ended) {
      await this.wire.keepTrying(() => this.alone('guest', () => this.#look()), { patience: PATIENCE });
    }
  }

  /** The guest, made if there is none: one attempt. */
  async ensure(options: GuestOptions = {}): Promise<Account> {
    await this.ready();
    return this.rows.account ?? this.alone('guest', () => this.#ensureAlone(options));
  }

  /** Who is here, read anew. Rejects with why the guest has ended. */
  async #stored(): Promise<Account | undefined> {
    const { account, ended } = (await this.read()).rows;
    if (ended) throw new PasserbyError(ended);
    return account;
  }

  async #ensureAlone({ data, entry }: GuestOptions): Promise<Account> {
    const account = await this.#stored();
    if (account) return account;
    if (this.mode === 'device-key') {
      const key = await this.ownKey();
      if (key) return this.take(await this.#resume(key, { data, entry }));
    }
    return this.#createByCookie({ data, entry });
  }

  /** The key of this device, on disk before the server hears of it; undefined where it cannot be kept. */
  async ownKey(): Promise<DeviceKey | undefined> {
    if (this.rows.key) return this.rows.key;
    const fresh = await makeKey(this.env.crypto!);
    try {
      // Without locks another tab may have been quicker: the first key stays.
      await this.change((rows) => (rows.key ??= fresh));
    } catch (error) {
      if (((error as Error).cause as Error | undefined)?.name !== 'DataCloneError') throw error;
      this.#setMode('cookie', 'IndexedDB keeps no keys');
      this.#looked = false;
      return undefined;
    }
    this.mark();
    return this.rows.key;
  }

  /**
   * The guest of this key: made, or as it is. `create: false` asks for one that is there. What says that it is no more
   * ends it here; nothing else does.
   */
  async #resume(key: DeviceKey, more: object): Promise<GuestAnswer> {
    try {
      return await this.#ensureGuest(key, more);
    } catch (error) {
      if (ENDINGS.test((error as PasserbyError).code)) await this.end(error as PasserbyError);
      throw error;
    }
  }

  /** `POST /v1/guests` by key. */
  #ensureGuest(key: DeviceKey, more: object): Promise<GuestAnswer> {
    return this.wire.call('POST', '/v1/guests', { body: this.body(more), key });
  }

  /** What every asking for tokens says. */
  body(more: object): object {
    const { clientId, device, bindTokens } = this.options;
    const byKey = this.mode === 'device-key';
    return {
      client_id: clientId,
      session_type: byKey ? 'tokens' : 'cookie',
      bind_tokens: byKey && bindTokens !== false ? true : undefined,
      device,
      ...more,
    };
  }

  /** Takes over the answer to a creation, a resume or a refresh. */
  async take(answer: GuestAnswer, spec: TokenOptions = {}, edit: (rows: Rows) => void = () => {}): Promise<Account> {
    const token = this.#token(answer);
    await this.change((rows) => {
      edit(rows);
      const { account } = rows;
      const { user: known } = account?.user.id === answer.user.id ? account : ({} as Partial<Account>);
      // A renewal does not say by what an account is known.
      const user = known?.version! > answer.user.version ? known! : { ...known, ...answer.user };
      // Tokens live with their session.
      const { tokens, refresh } = account?.session?.id === answer.session.id ? account : { tokens: {} };
      rows.account = {
        user,
        session: answer.session,
        refresh: answer.refresh_token ?? refresh,
        tokens: token ? { ...tokens, [tokenName(spec)]: token } : tokens,
      };
    });
    return this.rows.account!;
  }

  #token({ access_token: value, token_type: type, expires_in = 0 }: GuestAnswer): Token | undefined {
    const life = expires_in * 1000;
    return value ? { value, type: type ?? 'Bearer', life, end: this.wire.now() + life } : undefined;
  }

  /** The guest is no more. */
  async end(error: PasserbyError): Promise<never> {
    const failure = { ...plain(error), ended: true };
    await this.change((rows) => {
      rows.ended = failure;
      delete rows.account;
    });
    throw new PasserbyError(failure);
  }

  /**
   * Forgets the guest with everything that belongs to it; `seen` says which one is meant, as another tab may have been
   * quicker. A key is of no use to anybody once it is forgotten, so that the server is told afterwards; a cookie is
   * the server's to take away, so that it is asked first. True when the server agreed.
   */
  async leave(seen: Account | undefined): Promise<boolean> {
    const left = await this.alone('guest', async () => {
      const { rows } = await this.read();
      const { account } = rows;
      if (account && account.user.id !== seen?.user.id) return {};
      if (this.mode === 'cookie' && account) await this.wire.call('POST', '/v1/logout', BY_COOKIE).catch(gone);
      await this.#forgetAlone();
      return rows;
    });
    return this.farewell(left);
  }

  /** Forgets a guest that the server knows nothing of any more. */
  forget(): Promise<void> {
    return this.alone('guest', () => this.#forgetAlone());
  }

  async #forgetAlone(): Promise<void> {
    this.#mark(null);
    // Whoever was known has left, so that there is nothing to ask; an unknown cookie may be somebody's still.
    this.#looked ||= this.mode === 'device-key' || !!this.rows.account;
    await this.change(clearRows, { clear: true }, { left: true });
  }

  /** Tells the server that a guest was left here: its key goes, and its session. True when the server agreed. */
  async farewell({ key, account }: Rows): Promise<boolean> {
    if (!account || !key) return true;
    try {
      let token = account.tokens[tokenName({})];
      if (!token || token.end < this.wire.now() + 10_000) {
        token = this.#token(await this.#refresh(account, key, {}, () => this.resumed(key)))!;
      }
      // In this order: without its session nobody could take the key away.
      await this.wire.call('DELETE', `/v1/me/device-keys/${key.thumbprint}?force=true`, { key, token }).catch(gone);
      // A guest's bound session was opened by the key, and has ended with it.
      if (token.type !== 'DPoP' || account.user.kind === 'regular')
        await this.wire.call('POST', '/v1/logout', { body: {}, key, token }).catch(gone);
      return true;
    } catch {
      return false;
    }
  }

  // ---- tokens -------------------------------------------------------------------------------------------------------

  /** An access token with some life in it; makes the guest if needed. One attempt. `stale` is one that was refused. */
  async token(spec: TokenOptions = {}, stale?: string): Promise<Token> {
    const { tokens } = await this.ensure();
    const found = tokens[tokenName(spec)];
    if (found && found.value !== stale) {
      const left = found.end - this.wire.now();
      if (left > found.life / 3) return found;
      if (left > Math.min(10_000, found.life / 6)) {
        // Good enough for now; its successor comes in the background.
        if (!this.#renewing) {
          this.#renewing = true;
          this.#renew(spec, found.value)
            .catch(() => {})
            .finally(() => (this.#renewing = false));
        }
        return found;
      }
    }
    return this.#renew(spec, stale ?? found?.value);
  }

  #renew(spec: TokenOptions, stale?: string): Promise<Token> {
    return this.alone('guest', async () => {
      const account = await this.#stored();
      // Who left meanwhile is followed by nobody.
      if (!account) throw problem('left');
      const name = tokenName(spec);
      const found = account.tokens[name];
      // Another tab was here first.
      if (found && found.value !== stale && found.end > this.wire.now()) return found;
      const { key } = this.rows;
      const answer = key
        ? await this.#refresh(account, key, spec, async (error) => {
            // A key opens no account: whoever has one signs in again.
            if (account.user.kind === 'regular') return this.end(error);
            const again = await this.#resume(key, { create: false, ...spec });
            // A key that was taken off the guest, and has another one since, replaces nobody.
            return again.user.id === account.user.id ? again : this.end(problem('guest_ended'));
          })
        : await this.#tokenByCookie(account, spec);
      return (await this.take(answer, spec)).tokens[name]!;
    });
  }

  /** New tokens for the session, or a new session by the device key when it is over. */
  async #refresh(
    { refresh }: Account,
    key: DeviceKey,
    spec: TokenOptions,
    otherwise: (error: PasserbyError) => Promise<GuestAnswer>,
  ): Promise<GuestAnswer> {
    const { bind_tokens } = this.body({}) as { bind_tokens?: true };
    const body = { client_id: this.options.clientId, refresh_token: refresh ?? '', bind_tokens, ...spec };
    try {
      return await this.wire.call<GuestAnswer>('POST', '/v1/refresh', { body, key });
    } catch (error) {
      // Only the session is over; the key speaks for the guest still.
      const { status, code } = error as PasserbyError;
      if (status !== 401 || !code) throw error;
      return otherwise(error as PasserbyError);
    }
  }

  /** The guest of a key that should have one. Rejects with `guest_ended` where it has none, and ends nobody here. */
  resumed(key: DeviceKey): Promise<GuestAnswer> {
    return this.#ensureGuest(key, { create: false });
  }

  // ---- by cookie ----------------------------------------------------------------------------------------------------

  /** Asks whose the key or the cookie is. Makes nobody. */
  async #look(): Promise<void> {
    if (this.#looked) return;
    const { rows } = await this.read();
    if (this.mode === 'device-key') {
      try {
        // The key of a creation whose answer was lost, or whose tokens were.
        if (rows.key && !rows.account) await this.take(await this.#ensureGuest(rows.key, { create: false }));
      } catch (error) {
        if ((error as PasserbyError).code !== 'guest_ended') throw error;
      }
      this.#looked = true;
      return this.publish();
    }
    try {
      const user = await this.wire.call<User>('GET', '/v1/me', { cookie: true });
      this.#looked = true;
      await this.change((rows) => (rows.account = { user, tokens: {} }));
      this.mark();
    } catch (error) {
      if (!(error instanceof PasserbyError) || error.status !== 401 || !error.code) throw error;
      this.#looked = true;
      const had = this.rows.account || this.#mark()?.startsWith('cookie ');
      if (had) await this.end(error);
      this.publish();
    }
  }

  async #createByCookie(first: { data?: Data | undefined; entry?: string | undefined }): Promise<Account> {
    await this.#look();
    if (this.rows.account) return this.rows.account;
    const fresh = { key: random(this.env.crypto), at: this.env.now(), body: JSON.stringify(this.body(first)) };
    await this.change((rows) => {
      const age = fresh.at - (rows.creation?.at ?? 0);
      if (!rows.creation || age < 0 || age > CREATION_LIFE) rows.creation = fresh;
    });
    const { key, body } = this.rows.creation!;
    const sent = { body, headers: { 'Idempotency-Key': key }, cookie: true };
    // Not left to a later turn: a tab that knows nothing of this key would make another guest meanwhile.
    const { user } = await this.wire.keepTrying(() => this.wire.call<GuestAnswer>('POST', '/v1/guests', sent), {
      patience: PATIENCE,
    });
    await this.wire.call('GET', '/v1/me', { cookie: true }).catch((error: PasserbyError) => {
      if (error.status === 401) throw problem('cookies_blocked');
      throw error;
    });
    await this.change((rows) => {
      rows.account = { user, tokens: {} };
      delete rows.creation;
    });
    this.mark();
    return this.rows.account!;
  }

  async #tokenByCookie({ user }: Account, spec: TokenOptions): Promise<GuestAnswer> {
    const cookie = true;
    const body = { client_id: this.options.clientId, session_type: 'tokens', create: false, ...spec };
    const answer = await this.wire.call<GuestAnswer>('POST', '/v1/guests', { cookie, body }).catch((error) => {
      // By cookie an account has no tokens, and does not end by that.
      if (user.kind !== 'regular' && ENDINGS.test(error.code)) return this.end(error);
      throw error;
    });
    if (answer.user.id !== user.id) return this.end(problem('guest_ended'));
    // The cookie is what the session continues with; nothing that lives as long is kept where scripts can read it.
    return { ...answer, refresh_token: undefined };
  }

  // ---- asking -------------------------------------------------------------------------------------------------------

  /**
   * A call as the guest: one attempt, with new tokens if the old ones are refused. Makes the guest if needed; with
   * `guest` it is that one's call, and rejects with `left` when they are not here any more.
   */
  async ask<T>(method: string, path: string, sent: Sent = {}, guest?: string): Promise<T> {
    const id = guest ?? (await this.ensure()).user.id;
    const here = () => {
      const { account, ended } = this.rows;
      if (account?.user.id !== id) throw ended ? new PasserbyError(ended) : problem('left');
    };
    const call = async (stale?: string): Promise<T> => {
      here();
      const token = this.mode === 'device-key' ? await this.token({}, stale) : undefined;
      here();
      const more = token ? { token, key: token.type === 'DPoP' ? this.rows.key : undefined } : { cookie: true };
      return this.wire.call<T>(method, path, { ...sent, ...more }).catch((error: PasserbyError) => {
        if (error.status !== 401 || !error.code || stale) throw error;
        if (token) return call(token.value);
        return this.alone('guest', async () => {
          await this.#stored();
          here();
          return this.end(error);
        });
      });
    };
    return call();
  }

  /** The same for somebody who waits: tried again for a while. With `there`, it makes nobody. */
  async patiently<T>(method: string, path: string, sent: Sent = {}, there = false): Promise<T> {
    await this.known();
    const { account, ended } = this.rows;
    if (there && !account) throw ended ? new PasserbyError(ended) : problem('nobody');
    return this.wire.keepTrying(() => this.ask<T>(method, path, sent, account?.user.id), {
      patience: PATIENCE,
      signal: sent.signal,
    });
  }
}
