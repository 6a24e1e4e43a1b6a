// The server of the tests, with accounts: identifiers, sign-ins and merges, as the plan of the native wire has them.

import { randomUUID } from 'node:crypto';

import { MINUTE, refuse, Server, text } from './server.mjs';

/** Calls whose answer is given again to the same `Idempotency-Key`. */
const REPEATED = /^\/v1\/(me\/identifiers(\/[^/]+\/verify)?|sign-in|me\/merge|me\/password|transfers\/[^/]+\/undo)$/;

const addressIn = (body) =>
  ['email', 'phone', 'username']
    .filter((kind) => body[kind] !== undefined)
    .map((kind) => ({ kind, value: body[kind] }))[0] ?? refuse(400, 'invalid_request');

const sum = (guest, account) => {
  const data = { ...guest, ...account };
  for (const [name, value] of Object.entries(guest))
    if (typeof account[name] === 'number') data[name] = account[name] + value;
  return data;
};

export class AccountServer extends Server {
  /** `kind:value` → user id. */
  addresses = new Map();
  claims = new Map();
  tickets = new Map();
  transfers = new Map();
  /** Messages that were sent: `{ to, code, claim }` or `{ to, token }`. */
  mail = [];
  /** Every token is bound to the key that is shown, asked for or not. */
  alwaysBinds = false;
  /** A merge that the account asks for is answered with tokens, too. */
  tokensAtMerge = true;
  /** Milliseconds. */
  claimLife = 10 * MINUTE;
  /** A merge is answered again to the same `Idempotency-Key`. */
  repeatsMerges = true;
  /** The version of the policies. */
  policy = '1';
  #answers = new Map();

  /** Somebody who has an account. */
  register(email, { password, data = {} } = {}) {
    const user = { id: randomUUID(), kind: 'regular', data, version: 1, created: this.now(), password };
    this.users.set(user.id, user);
    this.addresses.set(`email:${email}`, user.id);
    return user;
  }

  /** The link in the last message is opened and confirmed, wherever. */
  confirmLink() {
    this.claims.get(this.mail.at(-1).claim).proven = true;
  }

  route(context) {
    const { method, url, body, headers, jar, written } = context;
    const key = headers.get('Idempotency-Key');
    const repeated = REPEATED.test(url.pathname) && (this.repeatsMerges || !/merge|undo/.test(url.pathname));
    if (method !== 'POST' || !key || !repeated) return this.#account(context) ?? super.route(context);
    const name = `${url.pathname} ${key}`;
    const known = this.#answers.get(name);
    if (known) {
      if (known.written !== written) refuse(422, 'idempotency_mismatch');
      // Whoever shows another key or token is somebody else.
      if (known.jkt !== context.jkt || known.authorization !== headers.get('Authorization'))
        refuse(401, 'session_ended');
      for (const [cookie, value] of known.cookies) jar.set(cookie, value);
      return known.answer;
    }
    const answer = this.#account(context) ?? super.route(context);
    const cookies = body.session_type === 'cookie' ? [...jar] : [];
    this.#answers.set(name, {
      written,
      answer,
      cookies,
      jkt: context.jkt,
      authorization: headers.get('Authorization'),
    });
    return answer;
  }

  #account(context) {
    const { method, url, body } = context;
    const [first, second, id, last] = url.pathname.split('/').slice(2).map(decodeURIComponent);
    switch (`${method} ${url.pathname}`) {
      case 'POST /v1/sign-in':
        return this.#signIn(context);
      case 'POST /v1/password/forgot': {
        const { kind, value } = addressIn(body);
        const user = this.users.get(this.addresses.get(`${kind}:${value}`));
        if (user) this.mail.push({ to: value, token: (user.reset = text()) });
        return [202, {}];
      }
      case 'POST /v1/password/reset': {
        const user =
          [...this.users.values()].find(({ reset }) => reset && reset === body.token) ?? refuse(400, 'invalid_code');
        Object.assign(user, { password: body.password, reset: undefined });
        this.endSessions(user.id);
        return [204];
      }
      case 'POST /v1/me/merge':
        return this.#merge(context);
      case 'POST /v1/me/identifiers': {
        const session = this.caller(context);
        return [202, { claim: this.#claim(addressIn(body), session.user) }];
      }
      case 'GET /v1/me/identifiers': {
        const { user } = this.caller(context);
        const claims = [...this.claims.values()].filter((claim) => claim.user === user);
        const items = this.#identifiers(user);
        return [200, { items, claims: claims.map(shown), password: !!this.users.get(user).password, cursor: null }];
      }
      case 'POST /v1/me/password': {
        const session = this.caller(context);
        const user = this.users.get(session.user);
        if (user.password && user.password !== body.current_password) refuse(401, 'invalid_credentials');
        user.password = body.password;
        this.endSessions(user.id);
        return [200, this.tokens(this.#enter(user, context), context)];
      }
    }
    if (first === 'me' && second === 'identifiers') {
      if (last === 'verify') return this.#verify(context, id);
      const { user } = this.caller(context);
      const claim = this.claims.get(id);
      if (claim?.user === user) {
        if (method === 'DELETE') this.claims.delete(id);
        return method === 'DELETE' ? [204] : [200, shown(claim)];
      }
      const found = this.#identifiers(user).find((item) => item.id === id) ?? refuse(404, 'not_found');
      if (method !== 'DELETE') return [200, found];
      if (this.#identifiers(user).length === 1) refuse(409, 'last_way_in');
      this.addresses.delete(`${found.kind}:${found.value}`);
      return [204];
    }
    if (first === 'transfers') {
      const session = this.caller(context);
      const transfer = this.transfers.get(second);
      if (transfer?.account_id !== session.user) refuse(404, 'not_found');
      return id === 'undo' ? this.#undo(transfer, context) : [200, { transfer: shownTransfer(transfer) }];
    }
    return undefined;
  }

  #identifiers(user) {
    return [...this.addresses]
      .filter(([, id]) => id === user)
      .map(([name]) => {
        const [kind, value] = name.split(':');
        return { id: name, kind, value, verified_at: new Date(this.now()).toISOString() };
      });
  }

  #claim({ kind, value }, user) {
    const id = randomUUID();
    const code = String(100_000 + this.mail.length);
    const expires_at = new Date(this.now() + this.claimLife).toISOString();
    this.claims.set(id, { id, kind, value, user, code, proven: false, check: '37', expires_at });
    if (kind !== 'username') this.mail.push({ to: value, code, claim: id });
    return shown(this.claims.get(id));
  }

  /** The claim, proven. */
  #prove(claim, body) {
    if (!claim || Date.parse(claim.expires_at) < this.now()) refuse(404, 'not_found');
    if (body.code === undefined && claim.kind !== 'username' && !claim.proven) refuse(409, 'claim_pending');
    if (body.code !== undefined && body.code !== claim.code) refuse(400, 'invalid_code', { field: '/code' });
  }

  /** A session for whoever has proven to be this user; bound where that is asked for, and no key is two people's. */
  #enter(user, { body, jkt }) {
    const bound = !!jkt && (this.alwaysBinds || !!body.bind_tokens);
    if (body.bind_tokens && !jkt) refuse(400, 'invalid_dpop_proof');
    if (bound && (this.keys.get(jkt) ?? user.id) !== user.id) refuse(409, 'device_key_taken');
    return this.open(user, bound ? jkt : undefined, bound);
  }

  /** The token that is shown, whether or not its session lives. */
  #shown({ headers }) {
    return this.accessTokens.get((headers.get('Authorization') ?? '').split(' ')[1]);
  }

  #verify(context, id) {
    const { body, jkt } = context;
    if (this.#shown(context)?.session.converted) refuse(409, 'guest_converted');
    const session = this.caller(context);
    const user = this.users.get(session.user);
    const claim = this.claims.get(id);
    if (claim?.user !== user.id) refuse(404, 'not_found');
    this.#prove(claim, body);
    const name = `${claim.kind}:${claim.value}`;
    const owner = this.users.get(this.addresses.get(name));
    if (owner && owner !== user) {
      if (owner.password) return [200, { outcome: 'sign_in_required' }];
      // The proof is a sign-in, whose session is bound as the guest's is.
      const opened = this.open(owner, session.bound ? jkt : undefined, session.bound);
      this.claims.delete(id);
      return [200, { outcome: 'merge_required', ...this.#ticket(user, owner, opened), expires_in: 600 }];
    }
    this.claims.delete(id);
    this.addresses.set(name, user.id);
    if (user.kind === 'regular') {
      const identifier = this.#identifiers(user.id).find((item) => item.id === name);
      return [200, { outcome: 'added', user: this.view(user), identifier }];
    }
    this.convert(user, body.password);
    for (const [thumbprint, whose] of this.keys)
      if (whose === user.id && thumbprint !== jkt) this.keys.delete(thumbprint);
    // Keys of operations die with the guest.
    this.done.clear();
    return [200, { outcome: 'converted', ...this.tokens(this.#enter(user, context), context) }];
  }

  /** The guest is one no more, and everything older is dead. */
  convert(user, password) {
    Object.assign(user, { kind: 'regular', password });
    for (const other of this.sessions.values()) if (other.user === user.id) other.converted = other.ended = true;
  }

  #signIn(context) {
    const { body, headers, jar } = context;
    if (!this.clients.has(body.client_id)) refuse(401, 'invalid_client');
    // As at a creation, a cookie that is over is nobody's.
    const byCookie = this.sessions.get(this.cookies.get(jar.get('passerby_session')));
    const shows = headers.get('Authorization') || this.lives(byCookie);
    const guest = shows ? this.users.get(this.caller(context).user) : undefined;
    const claim = body.claim && this.claims.get(body.claim);
    const address = claim ?? addressIn(body);
    const user = this.users.get(this.addresses.get(`${address.kind}:${address.value}`));
    if (body.method === 'password') {
      if (!user?.password || user.password !== body.password) refuse(401, 'invalid_credentials');
    } else {
      if (!body.claim) return [202, { claim: this.#claim(address, null) }];
      this.#prove(claim, body);
      this.claims.delete(body.claim);
      user ?? refuse(404, 'no_account');
    }
    const opened = this.#enter(user, context);
    const ticket = guest && guest.kind !== 'regular' ? this.#ticket(guest, user, opened) : {};
    const more = ticket.merge_ticket ? { ...ticket, ticket_expires_in: 600 } : {};
    return [200, { ...this.tokens(opened, context), ...more }];
  }

  #ticket(guest, account, session) {
    const ticket = text();
    this.tickets.set(ticket, { guest, account, session, ends: this.now() + 10 * MINUTE, policy: this.policy });
    return { merge_ticket: ticket, preview: this.#preview(guest, account) };
  }

  #preview(guest, account) {
    const conflicts = Object.keys(guest.data)
      .filter((name) => name in account.data)
      .map((name) => ({ path: `/${name}`, guest: guest.data[name], account: account.data[name], kept: 'both' }));
    const of = ({ id, data }) => ({ id, data });
    return {
      guest: of(guest),
      account: of(account),
      data: sum(guest.data, account.data),
      conflicts,
      more: false,
      policy: this.policy,
    };
  }

  #merge(context) {
    const { body } = context;
    if (this.users.get(this.#shown(context)?.session.user)?.merged) refuse(409, 'guest_merged');
    const session = this.caller(context);
    const {
      guest,
      account,
      session: opened,
      ends,
      policy,
    } = this.tickets.get(body.merge_ticket) ?? refuse(400, 'invalid_merge_ticket');
    if (![guest.id, account.id].includes(session.user) || ends < this.now()) refuse(400, 'invalid_merge_ticket');
    if (body.dry_run) {
      const newer = policy === this.policy ? {} : this.#ticket(guest, account, opened);
      return [200, { preview: this.#preview(guest, account), ...newer }];
    }
    if (policy !== this.policy) refuse(409, 'preview_outdated');
    const alive = [...this.sessions.values()].some((other) => other.user === guest.id && this.lives(other));
    if (!guest.merged && !alive) refuse(400, 'invalid_merge_ticket');
    let transfer = [...this.transfers.values()].find((other) => other.guest_id === guest.id && other.state === 'done');
    if (!transfer) {
      transfer = { id: randomUUID(), state: 'done', guest_id: guest.id, account_id: account.id, before: account.data };
      this.transfers.set(transfer.id, transfer);
      account.data = sum(guest.data, account.data);
      account.version += 1;
      guest.merged = account.id;
      this.endSessions(guest.id);
      this.done.clear();
    }
    const answer = {
      receipt: `receipt of ${transfer.id}`,
      transfer: shownTransfer(transfer),
      user: this.view(account),
    };
    if (session.user !== account.id) return [200, { ...answer, ...this.tokens(opened, context) }];
    if (!this.tokensAtMerge) return [200, answer];
    // An access token yields nothing that outlives it.
    return [200, { ...this.tokens(session, context), ...answer, refresh_token: undefined }];
  }

  #undo(transfer, context) {
    if (transfer.state !== 'done') refuse(409, 'transfer_state');
    transfer.state = 'undone';
    const guest = this.users.get(transfer.guest_id);
    const account = this.users.get(transfer.account_id);
    account.data = transfer.before;
    account.version += 1;
    guest.merged = undefined;
    const { jkt, bound } = this.caller(context);
    const session = this.open(guest, bound ? jkt : undefined, bound);
    const session_token = text();
    this.sessionTokens.set(session_token, session);
    const tokens = this.tokens(session, { body: {}, jar: new Map() });
    return [
      200,
      { transfer: shownTransfer(transfer), conflicts: [], more: false, guest: { ...tokens, session_token } },
    ];
  }
}

const shown = ({ id, kind, value, expires_at, check, proven }) => ({ id, kind, value, expires_at, check, proven });
const shownTransfer = ({ id, state, guest_id, account_id }) => ({ id, state, guest_id, account_id });
