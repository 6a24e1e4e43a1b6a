/**
 * Becoming somebody: a guest keeps what they have under an address, or takes it along into the account that they have.
 *
 * @packageDocumentation
 */
import type { Client } from './client.js';
import { PATIENCE } from './core.js';
import { gone, type PasserbyError } from './error.js';
import { accountOf, exchange, type Answer } from './exchange.js';
import { makeKey, random } from './key.js';
import type { Aside, Rows } from './store.js';
import type {
  Address,
  Claim,
  GuestAnswer,
  Identifier,
  Identifiers,
  Merged,
  MergePreview,
  Transfer,
  Undone,
  User,
} from './types.js';

export type {
  Address,
  Claim,
  Identifier,
  Identifiers,
  IdentifierKind,
  Merged,
  MergeConflict,
  MergePreview,
  Transfer,
  Undone,
} from './types.js';

/** Milliseconds between two looks at whether a link was confirmed. */
const POLL = 2_000;

/** What a proven claim led to. */
export type Kept =
  /** The guest is a regular user now: the same id, the same data. */
  | { outcome: 'converted'; user: User }
  /** A regular user has the identifier, too. */
  | { outcome: 'added'; user: User; identifier: Identifier }
  /** The address has an account, which the proof opens: the guest can come along by {@link AccountClient.merge}. */
  | { outcome: 'merge_required'; merge_ticket: string; preview: MergePreview; expires_in: number }
  /** The address has an account, which wants more than the proof: {@link AccountClient.signIn}. */
  | { outcome: 'sign_in_required' };

/** A claim on its way. */
export interface Keeping {
  readonly claim: Claim;
  /** Resolves when the link in the message was confirmed, wherever it was opened; then `verify` needs no code. */
  confirmed(options?: { signal?: AbortSignal }): Promise<void>;
  /**
   * Proves the claim: by the code, or without one after `confirmed`; a username by the password. May be called again
   * after a failure: with the same proof it is the same asking.
   */
  verify(proof?: { code?: string; password?: string }): Promise<Kept>;
  /** Drops the claim. */
  cancel(): Promise<void>;
}

/** Somebody has signed in: the account is here. */
export interface SignedIn {
  user: User;
  /** Where a guest was here, who is set aside until they come along by {@link AccountClient.merge}, or are left. */
  merge_ticket?: string;
  preview?: MergePreview;
  /** Seconds that the ticket lives. */
  ticket_expires_in?: number;
}

/** A sign-in by code or link on its way. */
export interface SigningIn {
  readonly claim: Claim;
  /** By the code. */
  verify(code: string): Promise<SignedIn>;
  /** Resolves when the link in the message was confirmed, wherever it was opened. */
  confirmed(options?: { signal?: AbortSignal }): Promise<SignedIn>;
}

/** What a merge would make, and the ticket by which it is made. */
export interface Previewed {
  preview: MergePreview;
  merge_ticket: string;
}

/** A guest beside the account that is here. */
export interface AsideGuest {
  user: User;
  /** By which they come along, as long as it lives. */
  merge_ticket?: string;
  expires_at?: string;
}

/** Becoming somebody, signing in, and what an account has. */
export interface AccountClient {
  /** Claims an address for whoever is here; a code and a link are sent. Makes the guest if there is none. */
  keep(address: Address, options?: { redirectUri?: string; signal?: AbortSignal }): Promise<Keeping>;
  /** Goes on with a claim, after a reload: one of {@link AccountClient.identifiers}. */
  keeping(claim: Claim): Promise<Keeping>;
  /** Signs in with a password. */
  signIn(how: Address & { password: string }, options?: { signal?: AbortSignal }): Promise<SignedIn>;
  /** Signs in by a code, or with `link` by a link, that is sent to the address. */
  signIn(
    how: Exclude<Address, { username: string }> & { password?: undefined; link?: boolean; redirectUri?: string },
    options?: { signal?: AbortSignal },
  ): Promise<SigningIn>;
  /** Goes on with a sign-in, after a reload: `claim` as it was. */
  signingIn(claim: Claim, options?: { link?: boolean }): SigningIn;
  /**
   * What a merge would make; changes nothing. Where the server's policies have changed meanwhile, a merge by the old
   * ticket is refused (`preview_outdated`), and `merge_ticket` is a newer one.
   */
  preview(ticket: string): Promise<Previewed>;
  /** The guest's things go along into the account, which is here from then on. */
  merge(ticket: string): Promise<Merged>;
  transfer(id: string): Promise<Transfer>;
  /** Takes a merge back, within its time. The account stays; the guest, who is again, is set aside. */
  undo(transferId: string): Promise<Undone>;
  /** The guest that is set aside, or null. */
  aside(): Promise<AsideGuest | null>;
  /** Signs out of the account: the guest that is set aside is here again. Rejects with `nobody` where none can be. */
  returnToGuest(): Promise<User>;
  /** Leaves the guest that is set aside for good. */
  leaveGuest(): Promise<void>;
  identifiers(): Promise<Identifiers>;
  /** Removes an identifier or a claim. The last way in of a regular user stays (`last_way_in`). */
  removeIdentifier(id: string): Promise<void>;
  /** Sets a password; every older session ends but this device's. Without a `current` one: the first. */
  changePassword(password: { current?: string; new: string }): Promise<User>;
  /** Sends a link by which the password is set, if the address has an account: nobody is told whether it has. */
  forgotPassword(address: Address, options?: { redirectUri?: string; state?: object }): Promise<void>;
  /** Sets a password by the link's token; for pages of your own. Signs nobody in. */
  resetPassword(token: string, password: string): Promise<void>;
}

/**
 * What makes a guest somebody. `client` is what `createClient` gave.
 *
 * ```js
 * const me = account(passerby);
 * const { verify } = await me.keep({ email });
 * const { outcome } = await verify({ code });
 * ```
 */
export function account(client: Client): AccountClient {
  const { core } = client;
  const { wire, env } = core;
  const ask = exchange(core);
  const identifiers = '/v1/me/identifiers';
  const at = (folder: string, id: string, more = '') => `${folder}/${encodeURIComponent(id)}${more}`;
  const mine = <T>(method: string, path: string, body?: object) => core.patiently<T>(method, path, { body }, true);
  const anybody = <T>(path: string, body: object) =>
    wire.keepTrying(() => wire.call<T>('POST', path, { body: { client_id: core.options.clientId, ...body } }), {
      patience: PATIENCE,
    });
  const alone = <T>(work: () => Promise<T>) => core.alone('queue', () => core.alone('guest', work));

  /** Looks until there is something, as long as the claim lives. */
  async function poll<T>({ expires_at }: Claim, look: () => Promise<T | undefined>, signal?: AbortSignal): Promise<T> {
    for (;;) {
      const found = await wire.keepTrying(look, { signal });
      if (found) return found;
      if (Date.parse(expires_at) < wire.now()) throw core.problem('expired');
      await wire.pause(POLL, signal);
      if (signal?.aborted) throw core.problem('aborted');
    }
  }

  async function keeping(claim: Claim): Promise<Keeping> {
    await core.known();
    const of = core.rows.account?.user;
    const path = at(identifiers, claim.id);
    return {
      claim,
      async confirmed({ signal } = {}) {
        const look = async () => (await core.ask<Claim>('GET', path, { signal }, of?.id)).proven;
        await poll(claim, look, signal);
      },
      async verify({ code, password } = {}) {
        const asked = { path: `${path}/verify`, body: { code, password }, here: true, bind: true, of };
        const answer = await ask<Kept>(asked);
        if (answer.outcome === 'added' && !answer.session) await client.refresh().catch(() => {});
        return told(answer) as Kept;
      },
      cancel: () => mine('DELETE', path),
    };
  }

  /** Of a guest who was here before the account, with the ticket that the answer brings. */
  function setAside(rows: Rows, { key, account: left }: Rows, answer: Answer): void {
    const { merge_ticket: ticket, ticket_expires_in: life = 0 } = answer as unknown as SignedIn;
    if (!answer.session || left?.user.kind !== 'anonymous') return;
    rows.aside = { key, account: left, ticket, end: wire.now() + life * 1000 };
  }

  function signingIn(claim: Claim, { link }: { link?: boolean } = {}): SigningIn {
    const body = { method: link ? 'link' : 'code', claim: claim.id };
    const enter = (code?: string, signal?: AbortSignal) =>
      ask<SignedIn>({ path: '/v1/sign-in', body: { ...body, code }, edit: setAside }, signal).then(told);
    return {
      claim,
      verify: (code) => enter(code),
      confirmed({ signal } = {}) {
        const look = () =>
          enter(undefined, signal).catch((error: PasserbyError) => {
            if (error.code !== 'claim_pending') throw error;
            return undefined;
          });
        return poll(claim, look, signal);
      },
    };
  }

  async function signIn(
    { link, redirectUri, ...how }: Address & { password?: string | undefined; link?: boolean; redirectUri?: string },
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<SignedIn | SigningIn> {
    const method = how.password === undefined ? (link ? 'link' : 'code') : 'password';
    const body = { method, ...how, redirect_uri: redirectUri };
    const answer = await ask<SignedIn & { claim?: Claim }>({ path: '/v1/sign-in', body, edit: setAside }, signal);
    return answer.claim ? signingIn(answer.claim, { link: method === 'link' }) : told(answer);
  }

  /** Enters a guest that came back with tokens of nobody's key: by the key that is kept for them, or the cookie. */
  async function enter(aside: Aside): Promise<Aside> {
    const { key, token } = aside;
    if (!token) return aside;
    const sent = { body: core.body({ create: false, session_token: token }), key, cookie: !key };
    const answer = await wire.keepTrying(() => wire.call<GuestAnswer>('POST', '/v1/guests', sent), {
      patience: PATIENCE,
    });
    return { key, account: accountOf(core, answer) };
  }

  const transfer = async (id: string) => (await mine<{ transfer: Transfer }>('GET', at('/v1/transfers', id))).transfer;

  async function undo(id: string): Promise<Undone> {
    const fresh = core.mode === 'device-key' ? await makeKey(env.crypto!) : undefined;
    const back = (rows: Rows, guest?: GuestAnswer & { session_token?: string }) => {
      const { aside } = rows;
      delete rows.merged;
      if (aside?.merged === id && aside.key) {
        // Their own key brings them back, with new tokens.
        const { user, session } = guest ?? aside.account;
        rows.aside = { key: aside.key, account: { user, session, tokens: {} } };
      } else if (guest) {
        // Bound tokens are bound to the key that asked.
        const bound = guest.token_type === 'DPoP';
        const token = bound ? undefined : guest.session_token;
        rows.aside = { key: bound ? rows.key : fresh, account: accountOf(core, guest), token };
      }
    };
    const answer = await ask<Undone>({
      path: at('/v1/transfers', id, '/undo'),
      body: {},
      here: true,
      edit: (rows, _, { guest }) => back(rows, guest as GuestAnswer | undefined),
    }).catch(async (error: PasserbyError) => {
      // It was done before, and the answer was lost.
      const found = error.status === 409 && (await transfer(id));
      if (!found || found.state !== 'undone') throw error;
      await core.change((rows) => back(rows));
      return { transfer: found, conflicts: [], more: false } as Undone;
    });
    const bind = async () => {
      const { aside } = (await core.read()).rows;
      if (!aside?.key) return;
      const bound = await enter(aside);
      await core.change((rows) => (rows.aside = bound));
    };
    // What fails here is done when the guest returns.
    await alone(bind).catch(() => {});
    await client.refresh().catch(() => {});
    const { guest, ...rest } = told(answer);
    return { ...rest, guest: guest && told(guest as object) } as Undone;
  }

  async function merge(ticket: string): Promise<Merged> {
    const answer = await ask<Merged>({
      path: '/v1/me/merge',
      body: { merge_ticket: ticket },
      here: true,
      edit(rows, before, { transfer }) {
        const { account: caller, aside } = before;
        const guest =
          caller?.user.kind === 'anonymous' ? caller : aside?.ticket === ticket ? aside?.account : undefined;
        if (!guest) return;
        rows.merged = guest.user.id;
        // Kept for an undo; until then the server knows no such guest.
        const key = guest === caller ? before.key : aside?.key;
        rows.aside = { key, account: guest, merged: (transfer as Transfer).id };
      },
    });
    // Where the account was here already, its data are others now.
    if (!answer.session) await client.refresh();
    return told(answer);
  }

  return {
    async keep(address, { redirectUri, signal } = {}) {
      const sent = {
        body: { ...address, redirect_uri: redirectUri },
        headers: { 'Idempotency-Key': random(env.crypto) },
        signal,
      };
      return keeping((await core.patiently<{ claim: Claim }>('POST', identifiers, sent)).claim);
    },
    keeping,
    signIn: signIn as AccountClient['signIn'],
    signingIn,
    async preview(ticket) {
      const body = { merge_ticket: ticket, dry_run: true };
      const { preview, merge_ticket = ticket } = await mine<Partial<Previewed>>('POST', '/v1/me/merge', body);
      if (merge_ticket !== ticket) {
        await core.change(({ aside }) => {
          if (aside?.ticket === ticket) aside.ticket = merge_ticket;
        });
      }
      return { preview: preview!, merge_ticket };
    },
    merge,
    transfer,
    undo,

    async aside() {
      await core.ready();
      const { aside } = (await core.read()).rows;
      if (!aside || aside.merged) return null;
      const { account: guest, ticket, end = 0 } = aside;
      return {
        user: guest.user,
        ...(ticket && end > wire.now() && { merge_ticket: ticket, expires_at: new Date(end).toISOString() }),
      };
    },
    async returnToGuest() {
      await core.ready();
      const byKey = core.mode === 'device-key';
      await core.drain().catch(() => {});
      const old = await alone(async () => {
        const { rows } = await core.read();
        const { aside } = rows;
        // By cookie only one can be here, and the account's took the place of the guest's.
        if (!aside || aside.merged || !(aside.key || aside.token)) throw core.problem('nobody');
        if (!byKey && rows.account) {
          await wire.call('POST', '/v1/logout', { body: {}, cookie: true }).catch(gone);
        }
        const back = await enter(aside);
        await core.change((next) => {
          next.key = back.key;
          next.account = back.account;
          delete next.aside;
          delete next.ended;
          delete next.merged;
        });
        core.mark();
        return rows;
      });
      void core.farewell(old);
      return core.state.user!;
    },
    async leaveGuest() {
      await core.ready();
      const left = await alone(async () => {
        const { aside } = (await core.read()).rows;
        await core.change((rows) => delete rows.aside);
        return aside;
      });
      // Its key goes, so that nobody comes back by it.
      if (left && !left.merged) await core.farewell({ key: left.key, account: left.account });
    },

    async identifiers() {
      const { items, claims, password } = await mine<Identifiers>('GET', identifiers);
      return { items, claims, password };
    },
    removeIdentifier: (id) => mine('DELETE', at(identifiers, id)),
    async changePassword({ current, new: password }) {
      const body = { current_password: current, password };
      await ask({ path: '/v1/me/password', body, here: true, bind: true });
      return core.state.user!;
    },
    async forgotPassword(address, { redirectUri, state } = {}) {
      await anybody('/v1/password/forgot', { ...address, redirect_uri: redirectUri, state });
    },
    async resetPassword(token, password) {
      await anybody('/v1/password/reset', { token, password });
    },
  };
}

/** An answer without what is nobody's but the client's. */
function told<T extends object>(answer: T): T {
  const {
    access_token: _a,
    refresh_token: _r,
    session_token: _s,
    token_type: _t,
    created: _c,
    ...rest
  } = answer as Record<string, unknown>;
  return rest as T;
}
