// A server for tests that speaks the native wire as its documents write it: proofs are verified, a nonce is demanded,
// a `jti`
// works once, refresh tokens rotate, operations are done once per key. It can be told to fail.

import { createHash, createPublicKey, randomBytes, randomUUID, verify } from 'node:crypto';

export const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

export const text = (bytes = 24) => randomBytes(bytes).toString('base64url');
const sha256 = (value) => createHash('sha256').update(value).digest('base64url');

/** A refusal. */
class Refused extends Error {
  constructor(status, code, more = {}) {
    super(code);
    Object.assign(this, { status, code, more });
  }
}

export const refuse = (status, code, more) => {
  throw new Refused(status, code, more);
};

/** What the operations do; written apart from the client's, so that one can be held to the other. */
function operate(data, operations) {
  const next = structuredClone(data);
  operations.forEach(({ op, path, value, by }, index) => {
    const names = path.slice(1).split('/');
    const last = names.pop();
    let at = next;
    for (const name of names) at = at[name] ??= {};
    const field = `/operations/${index}`;
    const typed = (ok) => ok || refuse(409, 'type_mismatch', { field });
    typed(typeof at === 'object' && at !== null);
    if (op === 'set') at[last] = value;
    else if (op === 'unset') delete at[last];
    else if (op === 'increment') {
      typed(typeof (at[last] ?? 0) === 'number');
      at[last] = (at[last] ?? 0) + by;
    } else if (op === 'append') {
      typed(Array.isArray(at[last] ?? []));
      at[last] = [...(at[last] ?? []), value];
    } else if (op === 'test')
      JSON.stringify(at[last] ?? null) === JSON.stringify(value) || refuse(409, 'test_failed', { field });
    else refuse(400, 'invalid_operation', { field });
  });
  return next;
}

export class Server {
  origin = 'https://id.test';
  clients = new Set(['demo-spa']);
  users = new Map();
  sessions = new Map();
  /** Thumbprint → user id. */
  keys = new Map();
  accessTokens = new Map();
  refreshTokens = new Map();
  nonces = new Map();
  jtis = new Set();
  done = new Map();
  creations = new Map();
  handOffs = [];
  recoveries = new Map();
  cookies = new Map();
  /** Ids of guests that were erased. */
  ended = new Set();
  /** Value → session; where a test hands one out. */
  sessionTokens = new Map();
  /** Milliseconds. */
  accessLife = 15 * MINUTE;
  sessionLife = 30 * DAY;
  recoveryWait = 0;
  keepsCookies = true;
  /**
   * `(request) => …`: what happens to a request. `'lost'`: it never arrives; `'cut'`: its answer does not, but for a
   * cookie; `'swallowed'`: nothing of its answer does; `'hung'`: nothing comes; `'twice'`: the browser repeats it by
   * itself, and the second answer arrives; or an answer.
   */
  fault = () => undefined;
  /** What was answered: `{ method, path, status, code, body, headers }`. */
  log = [];
  created = 0;

  constructor(clock) {
    this.clock = clock;
  }

  now() {
    return this.clock.now();
  }

  /** Forgets what a process keeps in memory. */
  restart() {
    this.nonces.clear();
  }

  calls(method, path) {
    return this.log.filter((entry) => entry.method === method && entry.path === path);
  }

  async handle(request, jar) {
    const fault = this.fault(request);
    if (fault === 'lost') throw TypeError('fetch failed');
    if (fault === 'hung') return undefined;
    if (fault instanceof Response) {
      fault.headers.set('Date', new Date(this.now()).toUTCString());
      this.log.push({ method: request.method, path: new URL(request.url).pathname, status: fault.status });
      return fault;
    }
    if (fault === 'twice') await this.#answer(request.clone(), new Map(jar));
    const answer = await this.#answer(request, fault === 'swallowed' ? new Map(jar) : jar);
    if (fault === 'cut' || fault === 'swallowed') throw TypeError('fetch failed');
    return answer;
  }

  async #answer(request, jar) {
    const { method, headers } = request;
    const url = new URL(request.url);
    const written = await request.text();
    const out = new Headers({ 'Content-Type': 'application/json', Date: new Date(this.now()).toUTCString() });
    const proof = headers.get('DPoP');
    if (proof || headers.get('Authorization')?.startsWith('DPoP ')) out.set('DPoP-Nonce', this.#nonce());
    const entry = { method, path: url.pathname, headers: Object.fromEntries(headers) };
    let status;
    let content;
    try {
      entry.body = written ? JSON.parse(written) : undefined;
      const context = { method, url, body: entry.body ?? {}, written, headers, jar, out };
      if (proof) context.jkt = this.#prove(proof, context);
      [status, content] = this.route(context);
    } catch (refused) {
      if (!(refused instanceof Refused)) throw refused;
      status = refused.status;
      content = { type: 'about:blank', title: refused.code, status, code: refused.code, ...refused.more };
      out.set('Content-Type', 'application/problem+json');
      if (status === 401) out.set('WWW-Authenticate', `DPoP error="${refused.code}"`);
      if (refused.more.retryAfter !== undefined) out.set('Retry-After', String(refused.more.retryAfter));
    }
    this.log.push(Object.assign(entry, { status, code: content?.code, answer: content }));
    return new Response(status === 204 ? null : JSON.stringify(content), { status, headers: out });
  }

  #nonce() {
    const nonce = text(12);
    this.nonces.set(nonce, this.now());
    return nonce;
  }

  /** RFC 9449 section 4.3. Gives the key's thumbprint. */
  #prove(proof, { method, url, headers }) {
    const authorization = headers.get('Authorization') ?? '';
    const bad = (why) => refuse(authorization.startsWith('DPoP ') ? 401 : 400, 'invalid_dpop_proof', { detail: why });
    const [head, body, signature] = proof.split('.');
    const { typ, alg, jwk } = JSON.parse(Buffer.from(head, 'base64url'));
    const claims = JSON.parse(Buffer.from(body, 'base64url'));
    if (typ !== 'dpop+jwt' || alg !== 'ES256' || jwk.d) bad('header');
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const signed = verify(
      'sha256',
      Buffer.from(`${head}.${body}`),
      { key, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    );
    if (!signed) bad('signature');
    const jkt = sha256(JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }));
    if (claims.htm !== method || claims.htu !== url.origin + url.pathname) bad('method or url');
    const age = this.now() / 1000 - claims.iat;
    if (age > 300 || age < -60) bad('iat');
    const issued = this.nonces.get(claims.nonce);
    if (issued === undefined || this.now() - issued > MINUTE) {
      refuse(authorization.startsWith('DPoP ') ? 401 : 400, 'use_dpop_nonce');
    }
    const [scheme, token] = authorization.split(' ');
    if (scheme === 'DPoP' && claims.ath !== sha256(token)) bad('ath');
    if (this.jtis.has(jkt + claims.jti)) bad('jti');
    this.jtis.add(jkt + claims.jti);
    return jkt;
  }

  route(context) {
    const { method, url, body } = context;
    switch (`${method} ${url.pathname}`) {
      case 'POST /v1/guests':
        return this.#guests(context);
      case 'POST /v1/refresh':
        return this.#refresh(context);
      case 'POST /v1/guests/hand-off':
        return this.#takeHandOff(context);
      case 'POST /v1/guests/recover':
        return this.#recover(context);
    }
    const session = this.caller(context);
    const user = this.users.get(session.user);
    switch (`${method} ${url.pathname}`) {
      case 'GET /v1/me':
        return [200, this.view(user)];
      case 'DELETE /v1/me':
        this.erase(user.id);
        return [204];
      case 'POST /v1/logout':
        session.ended = true;
        return [204];
      case 'POST /v1/me/data/operations': {
        const key = `${user.id} ${context.headers.get('Idempotency-Key')}`;
        const known = this.done.get(key);
        if (known && known !== context.written) refuse(422, 'idempotency_mismatch');
        if (!known) {
          user.data = operate(user.data, body.operations);
          user.version += 1;
          this.done.set(key, context.written);
        }
        return [200, { data: user.data, version: user.version }];
      }
      case 'GET /v1/me/device-keys':
        return [
          200,
          {
            items: [...this.keys]
              .filter(([, id]) => id === user.id)
              .map(([thumbprint]) => ({ thumbprint, name: null, current: thumbprint === context.jkt })),
            cursor: null,
          },
        ];
      case 'POST /v1/me/hand-off': {
        this.handOffs = this.handOffs.filter((offer) => offer.session !== session);
        const code = 'ABCDEFGHJKMNPQRSTVWXYZ'
          .split('')
          .sort(() => Math.random() - 0.5)
          .slice(0, 8)
          .join('');
        const offer = { session, user, code, mode: body.mode ?? 'share', expires: this.now() + 5 * MINUTE };
        this.handOffs.push(offer);
        const shown = `${code.slice(0, 4)}-${code.slice(4)}`;
        return [
          201,
          {
            id: randomUUID(),
            code: shown,
            url: `${this.origin}/ui/hand-off#code=${shown}&client_id=demo-spa`,
            mode: offer.mode,
            qr: '<svg/>',
            expires_at: new Date(offer.expires).toISOString(),
          },
        ];
      }
      case 'GET /v1/me/hand-off':
        return [
          200,
          {
            items: this.handOffs
              .filter((offer) => offer.session === session && offer.id)
              .map(({ id, device, check, mode }) => ({ id, device: device ?? null, check, mode })),
            cursor: null,
          },
        ];
      case 'DELETE /v1/me/hand-off':
        this.handOffs = this.handOffs.filter((offer) => offer.session !== session);
        return [204];
      case 'POST /v1/me/recovery-code':
        user.recovery = Array.from({ length: 12 }, () =>
          text(3)
            .toLowerCase()
            .replaceAll(/[^a-z]/g, 'x'),
        ).join(' ');
        user.recoveryAt = new Date(this.now()).toISOString();
        return [201, { code: user.recovery }];
      case 'GET /v1/me/recovery':
        return [200, { created_at: user.recoveryAt ?? null, pending: this.recoveries.get(user.id) ?? null }];
      case 'DELETE /v1/me/recovery':
        this.recoveries.delete(user.id);
        user.recovery = null;
        return [204];
    }
    const confirm = /^\/v1\/me\/hand-off\/([^/]+)\/confirm$/.exec(url.pathname);
    if (method === 'POST' && confirm) {
      const offer =
        this.handOffs.find((other) => other.session === session && other.id === confirm[1]) ?? refuse(404, 'not_found');
      offer.confirmed = true;
      return [200, { id: offer.id, status: 'confirmed' }];
    }
    const key = /^\/v1\/me\/device-keys\/([^/]+)$/.exec(url.pathname);
    if (method === 'DELETE' && key) {
      if (this.keys.get(key[1]) !== user.id) refuse(404, 'not_found');
      const last = [...this.keys.values()].filter((id) => id === user.id).length === 1;
      if (last && !user.recovery && url.searchParams.get('force') !== 'true') refuse(409, 'last_way_in');
      this.removeKey(key[1]);
      return [204];
    }
    return refuse(404, 'not_found');
  }

  // ---- guests and tokens
  // ----------------------------------------------------------------------------------------------

  view({ id, kind = 'anonymous', data, version, created }) {
    const created_at = new Date(created).toISOString();
    return {
      id,
      kind,
      data,
      version,
      created_at,
      last_active_at: created_at,
      expires_at: null,
      stored: true,
    };
  }

  #client({ client_id }) {
    if (!this.clients.has(client_id)) refuse(401, 'invalid_client');
  }

  #guests(context) {
    const { body, jkt, jar, headers, written } = context;
    this.#client(body);
    const byCookie = body.session_type === 'cookie';
    if (byCookie && body.bind_tokens) refuse(400, 'invalid_value', { field: '/bind_tokens' });
    if (body.bind_tokens && !jkt) refuse(400, 'invalid_dpop_proof', { field: 'DPoP' });
    const presented = this.sessionTokens.get(body.session_token) ?? this.#cookieSession(jar);
    const idempotent = headers.get('Idempotency-Key');
    let user;
    if (jkt && this.keys.has(jkt)) {
      user = this.users.get(this.keys.get(jkt));
      if (this.ended.has(this.keys.get(jkt))) refuse(409, 'guest_ended');
    } else if (presented) user = this.users.get(presented.user);
    else if (idempotent && this.creations.has(idempotent)) {
      const made = this.creations.get(idempotent);
      if (made.written !== written) refuse(422, 'idempotency_mismatch');
      user = this.users.get(made.id);
    } else if (body.create === false) refuse(409, 'guest_ended');
    if (user?.kind === 'regular') refuse(409, 'not_a_guest');
    if (user?.merged) refuse(409, 'guest_merged');
    const created = !user;
    if (created) {
      user = { id: randomUUID(), data: body.data ?? {}, version: 1, created: this.now(), entry: body.entry };
      this.users.set(user.id, user);
      this.created += 1;
      if (idempotent) this.creations.set(idempotent, { id: user.id, written });
    }
    if (jkt) this.keys.set(jkt, user.id);
    const living = [...this.sessions.values()].find(
      (session) => session.user === user.id && (jkt ? session.jkt === jkt : !session.jkt) && this.lives(session),
    );
    const session = living ?? this.open(user, jkt, !!body.bind_tokens);
    return [created ? 201 : 200, { created, ...this.tokens(session, context) }];
  }

  open(user, jkt, bound) {
    const session = {
      id: randomUUID(),
      user: user.id,
      jkt,
      bound,
      generation: 0,
      used: null,
      end: this.now() + this.sessionLife,
    };
    this.sessions.set(session.id, session);
    return session;
  }

  lives(session) {
    return !!session && !session.ended && session.end > this.now();
  }

  tokens(session, { body, jar }) {
    const user = this.users.get(session.user);
    const expires_at = new Date(session.end).toISOString();
    const shown = { user: this.view(user), session: { id: session.id, idle_expires_at: expires_at, expires_at } };
    if (body.session_type === 'cookie') {
      const value = text();
      this.cookies.set(value, session.id);
      if (this.keepsCookies) jar.set('passerby_session', value);
      return shown;
    }
    const access = text();
    this.accessTokens.set(access, {
      session,
      audience: body.audience ?? this.origin,
      end: this.now() + this.accessLife,
    });
    const refresh = `${session.id}.${session.generation}`;
    this.refreshTokens.set(refresh, { session, generation: session.generation });
    return {
      ...shown,
      access_token: access,
      token_type: session.bound ? 'DPoP' : 'Bearer',
      expires_in: this.accessLife / 1000,
      refresh_token: refresh,
    };
  }

  #refresh(context) {
    const { body, jkt } = context;
    this.#client(body);
    const { session, generation } = this.refreshTokens.get(body.refresh_token) ?? refuse(401, 'invalid_refresh_token');
    if (!this.lives(session)) refuse(401, 'session_ended');
    if (session.bound && session.jkt !== jkt) refuse(400, 'invalid_dpop_proof');
    if (body.bind_tokens && !session.bound) {
      if ((this.keys.get(jkt) ?? session.user) !== session.user) refuse(409, 'device_key_taken');
      this.keys.set(jkt, session.user);
      Object.assign(session, { jkt, bound: true });
    }
    if (generation === session.generation) session.generation += 1;
    else if (generation !== session.generation - 1) {
      session.ended = true;
      refuse(401, 'session_ended');
    }
    return [200, { created: false, ...this.tokens(session, context) }];
  }

  #cookieSession(jar) {
    const session = this.sessions.get(this.cookies.get(jar.get('passerby_session')));
    return this.lives(session) ? session : undefined;
  }

  caller({ headers, jkt, jar }) {
    const [scheme, value] = (headers.get('Authorization') ?? '').split(' ');
    if (!value) return this.#cookieSession(jar) ?? refuse(401, 'unauthenticated');
    const token = this.accessTokens.get(value) ?? refuse(401, 'invalid_token');
    if (token.end <= this.now()) refuse(401, 'token_expired');
    if (!this.lives(token.session)) refuse(401, 'session_ended');
    if (scheme !== (token.session.bound ? 'DPoP' : 'Bearer')) refuse(401, 'invalid_token');
    if (token.session.bound && token.session.jkt !== jkt) refuse(401, 'invalid_token');
    if (token.audience !== this.origin) refuse(401, 'invalid_token');
    return token.session;
  }

  // ---- what operators and other devices do
  // ----------------------------------------------------------------------------

  erase(id) {
    this.ended.add(id);
    this.endSessions(id);
  }

  endSessions(id) {
    for (const session of this.sessions.values()) if (session.user === id) session.ended = true;
  }

  removeKey(thumbprint) {
    this.keys.delete(thumbprint);
    for (const session of this.sessions.values()) if (session.jkt === thumbprint) session.ended = true;
  }

  // ---- to a second device, and back
  // -----------------------------------------------------------------------------------

  #takeHandOff(context) {
    const { body, jkt } = context;
    this.#client(body);
    const offer =
      this.handOffs.find(
        (other) => other.code === body.code.replaceAll('-', '') && other.expires > this.now() && !other.used,
      ) ?? refuse(400, 'invalid_code', { field: '/code' });
    if (jkt && (this.keys.get(jkt) ?? offer.user.id) !== offer.user.id) refuse(409, 'device_key_taken');
    const asker = jkt ?? body.id;
    if (!offer.id) Object.assign(offer, { id: randomUUID(), check: '42', device: body.device, asker: jkt });
    else if (asker !== offer.asker && body.id !== offer.id) {
      this.handOffs = this.handOffs.filter((other) => other !== offer);
      refuse(409, 'hand_off_cancelled');
    }
    if (!offer.confirmed)
      return [
        200,
        { id: offer.id, status: 'waiting', check: offer.check, expires_at: new Date(offer.expires).toISOString() },
      ];
    offer.used = true;
    if (offer.mode === 'move') {
      offer.session.ended = true;
      this.keys.delete(offer.session.jkt);
    }
    if (jkt) this.keys.set(jkt, offer.user.id);
    return [200, { created: false, ...this.tokens(this.open(offer.user, jkt, !!body.bind_tokens), context) }];
  }

  #recover(context) {
    const { body, jkt } = context;
    this.#client(body);
    const user =
      [...this.users.values()].find((other) => other.recovery && other.recovery === body.code) ??
      refuse(400, 'invalid_code', { field: '/code' });
    const alive = [...this.sessions.values()].some((session) => session.user === user.id && this.lives(session));
    let pending = this.recoveries.get(user.id);
    if (pending && pending.asker !== jkt) refuse(409, 'recovery_pending');
    if (!pending && this.recoveryWait && alive) {
      pending = {
        id: randomUUID(),
        asker: jkt,
        device: body.device ?? null,
        ready_at: new Date(this.now() + this.recoveryWait).toISOString(),
      };
      this.recoveries.set(user.id, pending);
    }
    if (pending && Date.parse(pending.ready_at) > this.now())
      return [202, { id: pending.id, status: 'waiting', ready_at: pending.ready_at }];
    this.recoveries.delete(user.id);
    this.endSessions(user.id);
    for (const [thumbprint, id] of this.keys) if (id === user.id) this.keys.delete(thumbprint);
    if (jkt) this.keys.set(jkt, user.id);
    user.recovery = `${user.recovery} again`;
    return [
      200,
      {
        created: false,
        ...this.tokens(this.open(user, jkt, !!body.bind_tokens), context),
        recovery_code: user.recovery,
      },
    ];
  }
}

/** An answer of the server, or of something that stands before it. */
export function answer(status, { code, retryAfter, html } = {}) {
  const headers = { 'Content-Type': html ? 'text/html' : 'application/problem+json' };
  if (retryAfter !== undefined) headers['Retry-After'] = String(retryAfter);
  return new Response(html ?? JSON.stringify({ title: code, status, code }), { status, headers });
}
