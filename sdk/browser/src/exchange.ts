// Calls that may change who is here: one at a time over all tabs, asked again under the same key until they are
// answered, and what they bring takes the old one's place in one step.

import { PATIENCE, type Core } from './core.js';
import type { PasserbyError } from './error.js';
import { makeKey, random, type DeviceKey } from './key.js';
import type { Account, Rows, Token } from './store.js';
import type { GuestAnswer, User } from './types.js';
import type { Sent } from './wire.js';

/** Refusals of the token that was shown; its successor may fare better. */
const STALE = /^(invalid_token|token_expired|session_ended|unauthenticated)$/;
/** What the guest's own token meets when the guest is one no more. */
const GONE = /^guest_(converted|merged)$/;
/** The name of the token for the server itself among an account's. */
const OWN = ' ';

/** What is asked. */
export interface Ask {
  path: string;
  body: object;
  /** Somebody must be here; without it, only a guest is shown. */
  here?: boolean;
  /** The session that the answer opens is bound to the key that is shown, which so lives on. */
  bind?: boolean;
  /** Whose it is; somebody else's call it never becomes. */
  of?: User | undefined;
  /** What is done to the facts along with the answer; `before` are those that it was asked with. */
  edit?(rows: Rows, before: Rows, answer: Answer): void;
}

/** What may be answered; tokens only where somebody comes. */
export type Answer = Partial<GuestAnswer> & Record<string, unknown>;

/** Whom the asking showed. */
interface Shown {
  user?: User;
  token?: Token | undefined;
  key?: DeviceKey | undefined;
}

/** An asking whose outcome is not known. */
interface Open {
  /** `Idempotency-Key`. */
  key: string;
  /** The same is shown each time: a lost answer may have ended it, and then nothing else is heard. */
  shown?: Shown | undefined;
  /** The key of whoever comes, where nobody was shown. */
  fresh?: DeviceKey;
}

/** The account that an answer opens. */
export function accountOf(core: Core, answer: GuestAnswer): Account {
  const { user, session, refresh_token: refresh, access_token: value, token_type: type = 'Bearer' } = answer;
  const life = (answer.expires_in ?? 0) * 1000;
  const token: Token | undefined = value ? { value, type, life, end: core.wire.now() + life } : undefined;
  return { user, session, refresh, tokens: token ? { [OWN]: token } : {} };
}

/** Makes the function that asks. */
export function exchange(core: Core): <T>(ask: Ask, signal?: AbortSignal) => Promise<T & Answer> {
  const { wire, env } = core;
  const open = new Map<string, Open>();
  const byKey = () => core.mode === 'device-key';

  /** One asking; nobody else renews, sends or leaves meanwhile. Undefined where a change is under way. */
  async function turn(ask: Ask, asking: Open, signal?: AbortSignal): Promise<Answer | undefined> {
    const { rows, queue } = await core.read();
    const { account } = rows;
    // Its key dies with the guest, and nobody could tell whether it had arrived.
    if (account && queue[0]?.sent !== undefined) return undefined;
    const { of } = ask;
    if (!asking.shown) {
      if (ask.here && !account) throw Object.assign(core.problem('nobody'), rows.ended);
      if (of && account?.user.id !== of.id) throw core.problem('left');
      // Another tab was here first.
      if (of?.kind === 'anonymous' && account!.user.kind === 'regular')
        return { outcome: 'converted', user: account!.user };
      const shows = account && (ask.here || account.user.kind === 'anonymous');
      asking.shown = shows ? { user: account.user, token: account.tokens[OWN], key: rows.key } : {};
    }
    const { user, token } = asking.shown;
    let key = asking.shown.key ?? asking.fresh;
    if (!key && byKey()) {
      // The first key of a browser may turn out to be one that cannot be kept.
      const first = !rows.key && (await core.ownKey());
      if (byKey()) key = asking.fresh = first || (await makeKey(env.crypto!));
    }
    const sent: Sent = {
      // Whoever else comes gets a key of their own.
      body: { ...core.body(ask.bind || !user ? {} : { bind_tokens: undefined }), ...ask.body },
      headers: { 'Idempotency-Key': asking.key },
      key,
      token,
      cookie: !key,
      signal,
    };
    let answer: Answer;
    try {
      const attempt = () => wire.call<Answer>('POST', ask.path, sent);
      answer = await wire.keepTrying(attempt, { patience: PATIENCE, signal });
    } catch (caught) {
      const error = caught as PasserbyError;
      const now = (await core.read()).rows.account;
      if (user && now?.user.id === user.id && (GONE.test(error.code) || (!key && STALE.test(error.code)))) {
        // Without locks another tab may have been quicker.
        if (of && now.user.kind !== user.kind) return { outcome: 'converted', user: now.user };
        if (now.user.kind === 'anonymous' || !key) await core.end(error);
      }
      throw error;
    }
    if (answer.session) await adopt(ask, answer as Answer & GuestAnswer, rows, asking.shown, key);
    else if (ask.edit) await core.change((next) => ask.edit!(next, rows, answer));
    return answer;
  }

  /** Whoever was answered with is here: tokens, key and all in one step. */
  async function adopt(
    ask: Ask,
    answer: Answer & GuestAnswer,
    before: Rows,
    shown: Shown,
    key?: DeviceKey,
  ): Promise<void> {
    const same = answer.user.id === shown.user?.id;
    const own = same || !shown.key || answer.token_type === 'DPoP';
    const next = key && !own ? await makeKey(env.crypto!) : key;
    await core.take(answer, {}, (rows) => {
      delete rows.ended;
      delete rows.creation;
      if (!same) delete rows.merged;
      rows.key = next;
      ask.edit?.(rows, before, answer);
    });
    core.mark();
    // An account that makes room for another one, or for a newer session, is signed out.
    if (!shown.user && before.account?.user.kind === 'regular') void core.farewell(before);
  }

  return async <T>(ask: Ask, signal?: AbortSignal) => {
    await core.known();
    const patience = { patience: PATIENCE, signal };
    const name = JSON.stringify([ask.path, ask.body]);
    const id = core.rows.account?.user.id;
    const known = open.get(name);
    const other = id && known?.shown && known.shown.user?.id !== id;
    let asking: Open = known && !other ? known : { key: random(env.crypto) };
    open.set(name, asking);
    let stale: string | undefined;
    for (;;) {
      try {
        // Unsent changes are those of whoever is here.
        if (core.rows.account) await wire.keepTrying(core.drain, patience);
        if (core.rows.account && byKey() && !asking.shown) await wire.keepTrying(() => core.token({}, stale), patience);
        const answer = await core.alone('queue', () => core.alone('guest', () => turn(ask, asking, signal)));
        if (!answer) continue;
        open.delete(name);
        const { access_token, token_type } = answer;
        // Bound as soon as the account is kept; where that fails, the next renewal does it.
        if (access_token && byKey() && token_type !== 'DPoP' && core.options.bindTokens !== false)
          await core.token({}, access_token).catch(() => {});
        return answer as T & Answer;
      } catch (caught) {
        const error = caught as PasserbyError;
        const shown = asking.shown?.token?.value;
        if (shown && !ask.here && error.code === 'device_key_taken') {
          // A client whose tokens are always bound: the guest cannot be shown, as only one key can.
          asking = { key: random(env.crypto), shown: {} };
          open.set(name, asking);
          continue;
        }
        if (shown && !stale && STALE.test(error.code)) {
          stale = shown;
          asking.shown = undefined;
          continue;
        }
        // What may have been carried out is asked for again, as the same, by whoever asks again.
        if (!error.temporary && error.code !== 'aborted') open.delete(name);
        throw error;
      }
    }
  };
}
