// To a second device, and back by a recovery code: both take over a guest with a key of its own, which becomes this
// device's key only when the guest is here.

import { PATIENCE, type Core } from './core.js';
import { problem, type PasserbyError } from './error.js';
import { makeKey, random } from './key.js';
import type { Incoming, Rows } from './store.js';
import type { GuestAnswer, HandOffRequest, RecoveryStatus, User } from './types.js';
import { linked } from './wire.js';

/** Milliseconds between two looks at whether the other device has done its part. */
const POLL = 2_000;

/** A hand-off that this device offers. */
export interface Offer {
  /** To be typed on the other device. */
  code: string;
  /** To be opened on the other device; what a QR code shows. */
  url: string;
  /** The QR code of `url`, as SVG text. */
  qr: string;
  mode: 'share' | 'move';
  expires_at: string;
  /** Polls until a device has asked. Rejects with `aborted` by the signal, with `expired` when the code is over. */
  asked(options?: { signal?: AbortSignal }): Promise<HandOffRequest>;
}

/** A hand-off that this device takes. */
export interface Taking {
  /** Two digits that the other device shows, too; empty when it was confirmed already. */
  check: string;
  expires_at: string;
  /** The guest, once the other device has confirmed. Rejects when it is cancelled or over. */
  done: Promise<User>;
  /** Stops asking. */
  cancel(): void;
}

/** What {@link HandOff.take} and {@link Client.recover} take. */
export interface TakeOptions {
  /** The guest that is here may be left behind. Without it a device that has one rejects with `has_guest`. */
  replace?: boolean;
  /** Ends the waiting. */
  signal?: AbortSignal;
}

/** To a second device. */
export interface HandOff {
  /** Device one: offers the guest. Replaces an older offer. Makes the guest if there is none. */
  create(options?: { mode?: 'share' | 'move' }): Promise<Offer>;
  /** Device one: who has asked. */
  list(): Promise<HandOffRequest[]>;
  /** Device one: the person has compared the digits. `id` is the request's. */
  confirm(id: string): Promise<void>;
  /** Device one: takes the offer back. */
  withdraw(): Promise<void>;
  /** Device two: asks for the guest. After a reload, the same code goes on where it was. */
  take(code: string, options?: TakeOptions): Promise<Taking>;
  /** Device two: the code in an offer's URL, or null. */
  codeIn(url: string | URL): string | null;
}

/** The outcome of {@link Client.recover}. */
export type Recovery =
  | { status: 'done'; user: User; /** The words are spent; these are the new ones. */ recovery_code: string }
  | { status: 'waiting'; /** From then on the same words bring the guest. */ ready_at: string };

/** The guest's recovery code. */
export interface RecoveryCode {
  /** Makes a code and gives its words, to be shown once. Replaces the older one. Makes the guest if there is none. */
  create(): Promise<string>;
  /** What is known of the code, and who uses it. */
  status(): Promise<RecoveryStatus>;
  /** Stops a pending recovery (the code dies with it); with none pending, removes the code. */
  cancel(): Promise<void>;
}

interface Waiting {
  id: string;
  status: 'waiting';
  check: string;
  expires_at: string;
  ready_at: string;
}

const isHere = (answer: GuestAnswer | Waiting): answer is GuestAnswer => 'user' in answer;

/** The three of the client's members that bring a guest here or elsewhere. */
export interface Ways {
  handOff: HandOff;
  recoveryCode: RecoveryCode;
  recover(words: string, options?: TakeOptions): Promise<Recovery>;
}

/** To other devices, and back. */
export function ways(core: Core): Ways {
  const { wire } = core;
  const path = '/v1/me/hand-off';

  /** Sets out, or goes on with the same code: the key is kept before the server hears of it. */
  async function start(code: string, replace?: boolean): Promise<Incoming> {
    await core.known();
    const { account, key, ended, incoming } = core.rows;
    // A key without a guest is one whose tokens were lost, or who is being made: it speaks for somebody, too.
    if ((account || key) && !ended && !replace) throw problem('has_guest');
    if (incoming?.code === code) return incoming;
    const fresh: Incoming = { code };
    if (core.mode === 'device-key') fresh.key = await makeKey(core.env.crypto!);
    else fresh.request = random(core.env.crypto);
    await core.change((rows) => (rows.incoming = fresh));
    return fresh;
  }

  /** Asks until there is an answer. One that was lost on its way is made good: the key speaks for itself by then. */
  async function ask(
    to: string,
    incoming: Incoming,
    signal?: AbortSignal,
    patience = PATIENCE,
  ): Promise<GuestAnswer | Waiting> {
    const { code, id, key, request } = incoming;
    try {
      const headers: Record<string, string> = request ? { 'Idempotency-Key': request } : {};
      const sent = { body: core.body({ code, id }), headers, key, cookie: !key, signal };
      const attempt = () => wire.call<GuestAnswer | Waiting>('POST', to, sent);
      const answer = await wire.keepTrying(attempt, { signal, patience });
      if (!isHere(answer) && !id) {
        incoming.id = answer.id;
        await core.change((rows) => (rows.incoming = incoming));
      }
      return answer;
    } catch (error) {
      const { temporary, code: said } = error as PasserbyError;
      if (temporary !== false || said === 'aborted') throw error;
      // It may have been heard before, and the answer lost: by this tab, one before it, or the browser itself.
      const found = key && (await wire.keepTrying(() => core.resumed(key), { signal }).catch(() => null));
      if (found) return found;
      await core.change((rows) => delete rows.incoming);
      throw error;
    }
  }

  /** The guest is here: its key becomes the device's, in one step with all else. */
  async function adopt(answer: GuestAnswer, { key }: Incoming): Promise<User> {
    const old = await core.alone('guest', async () => {
      const { rows } = await core.read();
      await core.take(answer, {}, (next: Rows) => {
        next.key = key;
        delete next.incoming;
        delete next.ended;
        delete next.account;
      });
      core.mark();
      return rows;
    });
    if (key) void core.farewell(old);
    return core.state.user!;
  }

  async function take(code: string, { replace, signal }: TakeOptions = {}): Promise<Taking> {
    const to = '/v1/guests/hand-off';
    // As the server reads it: however it was typed, it is the same code.
    const incoming = await start(code.toUpperCase().replace(/[^0-9A-Z]/g, ''), replace);
    const stop = new AbortController();
    const cancel = () => stop.abort();
    const unlink = linked([signal], cancel);
    let answer = await ask(to, incoming, stop.signal);
    const { check, expires_at } = isHere(answer) ? { check: '', expires_at: '' } : answer;
    const wait = async () => {
      try {
        while (!isHere(answer)) {
          await wire.pause(POLL, stop.signal);
          answer = await ask(to, incoming, stop.signal, Infinity);
        }
        return await adopt(answer, incoming);
      } finally {
        unlink();
      }
    };
    const done = wait();
    done.catch(() => {});
    return { check, expires_at, done, cancel };
  }

  const list = async (signal?: AbortSignal) =>
    (await core.patiently<{ items: HandOffRequest[] }>('GET', path, { signal }, true)).items;

  const recoveryCode: RecoveryCode = {
    create: async () => (await core.patiently<{ code: string }>('POST', '/v1/me/recovery-code', { body: {} })).code,
    status: () => core.patiently('GET', '/v1/me/recovery', {}, true),
    cancel: () => core.patiently('DELETE', '/v1/me/recovery', {}, true),
  };

  return {
    recoveryCode,
    handOff: {
      async create({ mode } = {}) {
        const offer = await core.patiently<Omit<Offer, 'asked'>>('POST', path, { body: { mode } });
        const asked: Offer['asked'] = async ({ signal } = {}) => {
          for (;;) {
            const [request] = await list(signal);
            if (request) return request;
            if (signal?.aborted) throw problem('aborted');
            if (Date.parse(offer.expires_at) < wire.now()) throw problem('expired');
            await wire.pause(POLL, signal);
          }
        };
        return { ...offer, asked };
      },
      list: () => list(),
      confirm: (id) => core.patiently('POST', `${path}/${encodeURIComponent(id)}/confirm`, { body: {} }, true),
      withdraw: () => core.patiently('DELETE', path, {}, true),
      take,
      codeIn: (url) => new URLSearchParams(new URL(url).hash.slice(1)).get('code'),
    },

    async recover(code, { replace, signal } = {}) {
      const incoming = await start(code.trim().toLowerCase().replace(/\s+/g, ' '), replace);
      const answer = await ask('/v1/guests/recover', incoming, signal);
      if (!isHere(answer)) return { status: 'waiting', ready_at: answer.ready_at };
      const user = await adopt(answer, incoming);
      // Where the answer with the new words was lost, there are newer ones.
      return { status: 'done', user, recovery_code: answer.recovery_code ?? (await recoveryCode.create()) };
    },
  };
}
