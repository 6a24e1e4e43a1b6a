// The way to the server: one call, what can go wrong with it, and trying again.

/** Milliseconds after which an answer is no longer waited for. */
const PATIENCE = 15_000;
/** Milliseconds of the first and of the longest pause between two tries. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** Tells of every call that ended: event `call` with `{ method, path, status, ms }`, status 0 for no answer. */
export const wire = new EventTarget();

/** What went wrong, in the server's words (RFC 9457), or in ours when nothing came back. */
export class Problem extends Error {
  constructor({ title, detail, status = 0, code, field, retryAfter = null }) {
    super(title);
    Object.assign(this, { title, detail: detail ?? '', status, code: code ?? '', field: field ?? '', retryAfter });
  }

  /** Whether the same request may fare better in a while. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

/** `Retry-After` in milliseconds from now, from either of its two forms (RFC 9110, section 10.2.3). */
function retryAfter(headers) {
  const value = headers.get('Retry-After');
  if (value === null) return null;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

/**
 * One request with the visitor's cookie. `body` is a value, or text that is sent as it stands.
 * Gives `{ status, headers, body }` of a success; throws a `Problem` for anything else.
 */
export async function call(method, path, { body, type = 'application/json', headers = {} } = {}) {
  const started = performance.now();
  const told = (status) =>
    wire.dispatchEvent(new CustomEvent('call', { detail: { method, path, status, ms: performance.now() - started } }));
  const request = {
    method,
    credentials: 'same-origin',
    cache: 'no-store',
    redirect: 'error',
    signal: AbortSignal.timeout(PATIENCE),
    headers: { Accept: 'application/json', ...headers },
  };
  if (body !== undefined) {
    request.headers['Content-Type'] = type;
    request.body = typeof body === 'string' ? body : JSON.stringify(body);
  }
  let answer;
  let content = null;
  try {
    answer = await fetch(path, request);
    const text = await answer.text();
    if (text && /json/.test(answer.headers.get('Content-Type') ?? '')) content = JSON.parse(text);
  } catch (error) {
    told(0);
    const late = error.name === 'TimeoutError';
    throw new Problem({
      title: late ? 'The server takes too long' : 'The server cannot be reached',
      detail: late ? `No answer within ${PATIENCE / 1000} seconds.` : 'Is it running, and are you online?',
    });
  }
  told(answer.status);
  if (answer.ok) return { status: answer.status, headers: answer.headers, body: content };
  throw new Problem({
    title: content?.title ?? `The server said ${answer.status}`,
    detail: content?.detail,
    status: answer.status,
    code: content?.code,
    field: content?.field,
    retryAfter: retryAfter(answer.headers),
  });
}

/** Exponential with half of it by chance, so that many tabs do not come back in step; never before the server asked. */
function pause(tries, wanted) {
  const whole = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** tries);
  return Math.max(whole / 2 + (Math.random() * whole) / 2, wanted ?? 0);
}

/** Waits, and ends early when the browser is online again, unless the server itself asked for the pause. */
function wait(ms, firm) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (!firm) addEventListener('online', done);
  });
}

/**
 * Tries until it works, as long as the problem is a passing one and `still()` wants it.
 * The attempt must be safe to repeat: each carries its own idempotency key.
 */
export async function keepTrying(attempt, { still, waiting }) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await attempt();
    } catch (problem) {
      if (!problem.passing || !still()) throw problem;
      const ms = pause(tries, problem.retryAfter);
      waiting(problem, ms);
      await wait(ms, problem.retryAfter !== null);
      if (!still()) throw problem;
    }
  }
}

/** 128 bits of chance in hexadecimal. (`randomUUID` is missing where a phone opens the page over plain http.) */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The payload of a signed token, to be looked at: nothing is verified, that is the business of who receives it. */
export function decode(token) {
  const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
  const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}
