// The way to the server: proofs, nonces and the server's clock, one call, and trying again.

import type { Environment } from './environment.js';
import { PasserbyError, problem, type Failure } from './error.js';
import type { Emitter } from './events.js';
import { prove, type DeviceKey } from './key.js';

/** Milliseconds of the first and of the longest pause between two tries, unless the server asks for more. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;
/** The longest that the server may ask for: one hour. */
const LONGEST_WISH = 3_600_000;
/** Milliseconds by which the clocks may differ before it is minded: `Date` has whole seconds, and answers take time. */
const SKEW = 5_000;
/**
 * How often one request is sent with a new proof: for the nonce, for the clock, and for browsers that repeat a request
 * by themselves when an old connection drops, whereby its proof is spent.
 */
const PROOFS = 5;

/** What one call sends. */
export interface Sent {
  /** JSON. */
  body?: unknown;
  headers?: Record<string, string>;
  key?: DeviceKey | undefined;
  token?: { value: string; type: string } | undefined;
  /** With the cookie. */
  cookie?: boolean;
  signal?: AbortSignal | undefined;
}

/** How long to try. */
export interface Patience {
  signal?: AbortSignal | undefined;
  /** Milliseconds of pauses and time-outs after which it is given up; without end by default. */
  patience?: number;
  /** Tries again whatever the server says. */
  stubborn?: boolean;
  /** Told of every failure. */
  failed?: (error: PasserbyError) => void;
}

/** `Retry-After` in milliseconds from now, from either of its two forms (RFC 9110, section 10.2.3). */
function retryAfter(headers: Headers, now: number): number | null {
  const value = headers.get('Retry-After')?.trim();
  if (!value) return null;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return ms >= 0 ? Math.min(ms, LONGEST_WISH) : null;
}

/** Runs `work` when one of the signals says so, or has said so; gives back what ends that. */
export function linked(signals: (AbortSignal | undefined)[], work: () => void): () => void {
  for (const signal of signals) {
    if (signal?.aborted) work();
    signal?.addEventListener('abort', work);
  }
  return () => signals.forEach((signal) => signal?.removeEventListener('abort', work));
}

/** All requests go through here. */
export class Wire {
  /** What must be added to the device's clock to get the server's. */
  #offset = 0;
  #nonces = new Map<string, string>();
  readonly #env: Environment;
  readonly #base: string;
  readonly #timeout: number;
  readonly #emitter: Emitter;
  readonly #closed: AbortSignal;

  constructor(env: Environment, base: string, timeout: number, emitter: Emitter, closed: AbortSignal) {
    this.#env = env;
    this.#base = base;
    this.#timeout = timeout;
    this.#emitter = emitter;
    this.#closed = closed;
  }

  /** Milliseconds since 1970 by the server's clock, as far as it is known. */
  now(): number {
    return this.#env.now() + this.#offset;
  }

  /** Whether this URL is the server's. */
  ours(url: string): boolean {
    return url.startsWith(`${this.#base}/`);
  }

  /**
   * Sends a request, with a proof if there is a key. A refused proof is made again with what the answer taught: the
   * nonce that is wanted, and what time it is. Such an answer says that nothing was done, so that any request may be
   * repeated.
   */
  async send(request: Request, key?: DeviceKey, token?: { value: string; type: string }): Promise<Response> {
    const { url, method } = request;
    const { origin } = new URL(url);
    if (token) request.headers.set('Authorization', `${token.type} ${token.value}`);
    for (let tries = 1; ; tries += 1) {
      // A body can be sent once, so that what goes out is a copy.
      const copy = request.clone();
      if (key) {
        const iat = Math.floor(this.now() / 1000);
        const proof = { method, url, iat, nonce: this.#nonces.get(origin), token: token?.value };
        copy.headers.set('DPoP', await prove(this.#env.crypto!, key, proof));
      }
      const answer = await this.#env.fetch(copy);
      const nonce = answer.headers.get('DPoP-Nonce');
      if (nonce) this.#nonces.set(origin, nonce);
      if (this.ours(url)) this.#learnTime(answer.headers);
      if (!key || tries === PROOFS || (answer.status !== 400 && answer.status !== 401)) return answer;
      const said = answer.headers.get('WWW-Authenticate') + (await answer.clone().text());
      if (!/use_dpop_nonce|invalid_dpop_proof/.test(said)) return answer;
    }
  }

  #learnTime(headers: Headers): void {
    const offset = Date.parse(headers.get('Date') ?? '') - this.#env.now();
    if (Math.abs(offset - this.#offset) > SKEW) this.#offset = offset;
  }

  /** One call. Throws a {@link PasserbyError} for anything but a success. */
  async call<T>(method: string, path: string, sent: Sent = {}): Promise<T> {
    const { body, headers, key, token, cookie, signal } = sent;
    const url = this.#base + path;
    const started = this.#env.now();
    const ended = new AbortController();
    let late = false;
    const timer = this.#env.setTimeout(() => {
      late = true;
      ended.abort();
    }, this.#timeout);
    const unlink = linked([signal, this.#closed], () => ended.abort());
    let status = 0;
    try {
      const request = new Request(url, {
        method,
        headers: {
          Accept: 'application/json',
          ...(body !== undefined && { 'Content-Type': 'application/json' }),
          ...headers,
        },
        body: typeof body === 'string' || body === undefined ? body : JSON.stringify(body),
        cache: 'no-store',
        credentials: cookie ? 'include' : 'omit',
        redirect: 'error',
        signal: ended.signal,
      });
      // Not every `fetch` that a page has listens to its signal.
      const over = new Promise<never>((_, reject) => linked([ended.signal], () => reject(ended.signal)));
      const answer = await Promise.race([this.send(request, key, token), over]);
      const text = await Promise.race([answer.text(), over]);
      status = answer.status;
      const json = /[/+]json/.test(answer.headers.get('Content-Type') ?? '');
      const content = json && text ? JSON.parse(text) : undefined;
      if (answer.ok && (content || status === 204)) return content as T;
      // 200 from something that is not the server is no answer.
      const told = answer.ok ? undefined : (content as (Partial<Failure> & { title?: string }) | undefined);
      throw new PasserbyError({
        message: told?.title ?? `The server said ${status}`,
        detail: told?.detail,
        code: told?.code,
        field: told?.field,
        status,
        retryAfter: retryAfter(answer.headers, this.now()),
      });
    } catch (error) {
      if (error instanceof PasserbyError) throw error;
      throw Object.assign(problem(late ? 'timeout' : ended.signal.aborted ? 'aborted' : 'unreachable'), {
        cause: error,
      });
    } finally {
      this.#env.clearTimeout(timer);
      unlink();
      this.#emitter.emit('call', { method, url, status, ms: this.#env.now() - started });
    }
  }

  /** Tries until it works, as long as what fails may pass. What is tried must be safe to repeat. */
  async keepTrying<T>(attempt: () => Promise<T>, options: Patience = {}): Promise<T> {
    const { signal, patience = Infinity, stubborn, failed } = options;
    let waited = 0;
    for (let tries = 0; ; tries += 1) {
      if (signal?.aborted || this.#closed.aborted) throw problem('aborted');
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof PasserbyError) || error.ended || error.code === 'aborted') throw error;
        failed?.(error);
        if (!error.temporary && !stubborn) throw error;
        // Exponential with half of it by chance, so that many tabs do not come back in step; never before the server
        // asked.
        const whole = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** tries);
        const ms = Math.max((whole * (1 + this.#env.random())) / 2, error.retryAfter ?? 0);
        waited += ms + (error.code === 'timeout' ? this.#timeout : 0);
        if (waited > patience) throw error;
        this.#emitter.emit('retry', { error, ms });
        await this.pause(ms, signal, error.retryAfter === null);
      }
    }
  }

  /** Waits; ends early when it is given up, and with `eager` also when the browser is online again. */
  pause(ms: number, signal?: AbortSignal, eager?: boolean): Promise<void> {
    return new Promise((resolve) => {
      let ends: (() => void)[] = [];
      const done = () => {
        this.#env.clearTimeout(timer);
        for (const end of ends) end();
        resolve();
      };
      const timer = this.#env.setTimeout(done, ms);
      ends = [linked([signal, this.#closed], done), eager ? this.#env.online(done) : () => {}];
    });
  }
}
