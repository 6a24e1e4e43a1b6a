// The client as the app sees it.

import { Core, PATIENCE } from './core.js';
import { dataSide, type DataClient } from './data.js';
import type { Environment } from './environment.js';
import { problem, type PasserbyError } from './error.js';
import type { Events } from './events.js';
import { ways, type HandOff, type Recovery, type RecoveryCode, type TakeOptions } from './hand-off.js';
import type { ClientOptions, GuestOptions, State, TokenOptions } from './options.js';
import type { DeviceKeyInfo, User } from './types.js';
import { linked } from './wire.js';

/** The keys by which the guest's devices come back. */
export interface DeviceKeys {
  list(): Promise<DeviceKeyInfo[]>;
  rename(thumbprint: string, name: string): Promise<DeviceKeyInfo>;
  /** Removes a key and ends its sessions. The last way in is only removed with `force`. */
  remove(thumbprint: string, options?: { force?: boolean }): Promise<void>;
}

/** {@link Client.fetch} takes what `fetch` takes, and which token. */
export type FetchOptions = RequestInit & TokenOptions;

/** A guest of this browser, on any tab and day. */
export interface Client {
  /** @internal */
  readonly core: Core;
  /** What is known now. */
  readonly state: State;
  /** The guest's data. */
  readonly data: DataClient;
  /** To a second device. */
  readonly handOff: HandOff;
  /** The words by which the guest comes back without any device. */
  readonly recoveryCode: RecoveryCode;
  /** The keys by which the guest's devices come back. */
  readonly deviceKeys: DeviceKeys;
  /**
   * The guest of this device, made if there is none: once over all tabs. Waits out every failure that may pass; no
   * failure makes another guest. Rejects with `error.ended` when the guest is no more, until `fresh` asks for a new
   * one.
   */
  guest(options?: GuestOptions): Promise<User>;
  /** Who is here, as known on this device, or null. Makes nobody. */
  current(): Promise<User | null>;
  /** The same, asked of the server. Makes nobody. */
  refresh(): Promise<User | null>;
  /**
   * An access token that lives long enough to be used; bound to the device key, unless `bindTokens` is off. Makes the
   * guest if needed.
   */
  token(options?: TokenOptions): Promise<string>;
  /**
   * `fetch` as the guest: for the server (a path is relative to it), for the APIs of the options, and for any URL with
   * `audience`. Renews tokens and answers nonce challenges; all else is as the API answers. Throws `foreign_url` for
   * anybody else's URL. Makes the guest if needed.
   */
  fetch(input: string | URL | Request, init?: FetchOptions): Promise<Response>;
  /** Brings back the guest of a recovery code. */
  recover(words: string, options?: TakeOptions): Promise<Recovery>;
  /**
   * Sends what is on its way, ends the session and forgets the guest and its key on this device. True when the server
   * agreed: without it, the session is of no use to anybody, but still listed. By cookie the server must agree:
   * rejects when it cannot be reached.
   */
  logout(): Promise<boolean>;
  /** Removes the guest with all its data from the server, then from this device. */
  erase(): Promise<void>;
  /** Listens to an event; gives back what ends that. */
  on<Name extends keyof Events>(event: Name, listener: (event: Events[Name]) => void): () => void;
  /** Listens to every change of `state`; gives back what ends that. */
  onChange(listener: (state: State) => void): () => void;
  /** Ends listening, sending and waiting. What is queued stays queued. */
  close(): void;
}

/** The promise, or `aborted` when the signal comes first. */
function until<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const unlink = linked([signal], () => reject(problem('aborted')));
    promise.then(resolve, reject).finally(unlink);
  });
}

/**
 * Makes a client. One for each server and client id is enough; it is made without a call and works the same in every
 * tab.
 *
 * ```js
 * const passerby = createClient({ clientId: 'demo-spa', baseUrl: 'https://id.example.com' });
 * await passerby.data.increment('/views');
 * ```
 *
 * `environment` is for tests: what it names takes the browser's place.
 */
export function createClient(options: ClientOptions, environment?: Partial<Environment>): Client {
  const core = new Core(options, environment);
  const { wire, emitter } = core;
  const data = dataSide(core);
  const keys = '/v1/me/device-keys';
  const apis = Object.entries(options.apis ?? {}).map(([prefix, spec]) => {
    const url = new URL(prefix, core.base).href;
    return { prefix: url.endsWith('/') ? url : `${url}/`, spec: typeof spec === 'string' ? { audience: spec } : spec };
  });
  const leave = async () => {
    await core.ready();
    const seen = core.rows.account;
    await core.drain().catch(() => {});
    return wire.keepTrying(() => core.leave(seen), { patience: PATIENCE });
  };

  return {
    core,
    get state() {
      return core.state;
    },
    data: data.client,
    ...ways(core),
    deviceKeys: {
      list: async () => (await core.patiently<{ items: DeviceKeyInfo[] }>('GET', keys, {}, true)).items,
      rename: (thumbprint, name) =>
        core.patiently('PATCH', `${keys}/${encodeURIComponent(thumbprint)}`, { body: { name } }, true),
      remove: (thumbprint, { force } = {}) =>
        core.patiently('DELETE', `${keys}/${encodeURIComponent(thumbprint)}${force ? '?force=true' : ''}`, {}, true),
    },

    guest({ fresh, signal, ...first } = {}) {
      const make = async () => {
        if (fresh) await core.ready().then(() => (core.rows.account || core.rows.ended) && leave());
        await wire.keepTrying(() => core.ensure(first), { signal });
        return core.state.user!;
      };
      return until(make(), signal);
    },
    async current() {
      await core.known();
      return core.state.user ?? null;
    },
    refresh: data.refresh,
    async token(spec) {
      return (await wire.keepTrying(() => core.token(spec), { patience: PATIENCE })).value;
    },
    async fetch(input, { audience, scope, ...init } = {}) {
      const path = typeof input === 'string' && /^\/(?!\/)/.test(input);
      const request = new Request(path ? core.base + input : input, init);
      const api = apis.find(({ prefix }) => request.url.startsWith(prefix) || `${request.url}/` === prefix);
      const spec = audience ? { audience, scope } : (api?.spec ?? { scope });
      if (!spec.audience && !wire.ours(request.url)) throw problem('foreign_url', request.url);
      await core.known();
      if (core.mode === 'cookie') {
        await wire.keepTrying(() => core.ensure(), { signal: request.signal, patience: PATIENCE });
        if (!spec.audience) return wire.send(new Request(request, { credentials: 'include' }));
      }
      const send = async (stale?: string): Promise<Response> => {
        const token = await wire.keepTrying(() => core.token(spec, stale), {
          signal: request.signal,
          patience: PATIENCE,
        });
        const answer = await wire.send(request.clone(), token.type === 'DPoP' ? core.rows.key : undefined, token);
        return answer.status === 401 && !stale ? send(token.value) : answer;
      };
      return send();
    },
    logout: leave,
    async erase() {
      await core.patiently('DELETE', '/v1/me', {}, true).catch((error: PasserbyError) => {
        // An answer that was lost: the guest is gone all the same.
        if (error.code !== 'guest_ended') throw error;
      });
      await core.forget();
    },
    on: (event, listener) => emitter.on(event, listener),
    onChange: (listener) => emitter.on('change', () => listener(core.state)),
    close: () => core.close(),
  };
}
