// The one client of this page, and calls that the client has no method for.

import { account } from './passerby-account.js';
import { createClient, PasserbyError } from './passerby.js';

const told = (name) => document.querySelector(`meta[name="passerby-${name}"]`).content;

/** The cart's origin, and for whom its tokens are. */
export const CART = told('cart');
export const CART_AUDIENCE = 'https://api.example.com';

/** Milliseconds after which an answer is no longer waited for. */
const PATIENCE = 15_000;

/** What this device is called in lists: enough for somebody to tell their own apart. */
function deviceName() {
  const agent = navigator.userAgent;
  const find = (list) => list.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = find([[/Edg/, 'Edge'], [/OPR/, 'Opera'], [/Firefox/, 'Firefox'], [/Chrom/, 'Chrome'], [/Safari/, 'Safari']]);
  const system = find([[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS/, 'macOS'], [/Linux/, 'Linux']]);
  return `${browser ?? 'A browser'} on ${system ?? 'something'}`;
}

export const client = createClient({ clientId: told('client-id'), device: deviceName() });

/** What makes a guest somebody. */
export const me = account(client);

/** Tells of the calls that `ask` makes, as the client's event `call` does of its own. */
export const calls = new EventTarget();

/** `Retry-After` of whole seconds, in milliseconds. */
function retryAfter(headers) {
  const value = headers.get('Retry-After');
  return value && /^\d+$/.test(value) ? Number(value) * 1000 : null;
}

/** Whether somebody is here, a guest or with an account; whoever only looks asks before, as a call would make a guest. */
export const isGuest = () => client.state.status === 'guest';
export const isMember = () => client.state.user?.kind === 'regular';

/**
 * One call as the guest. `path` is the server's, or a whole URL with `audience`. Gives what the answer's JSON says, null
 * where there is none; rejects with a `PasserbyError` for anything but a success.
 */
export async function ask(method, path, { body, ...more } = {}) {
  const started = performance.now();
  const url = new URL(path, location.origin);
  let status = 0;
  try {
    const answer = await client.fetch(url, {
      method,
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE),
      headers: { Accept: 'application/json', ...(body && { 'Content-Type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
      ...more,
    });
    status = answer.status;
    const text = await answer.text();
    const json = text && /[/+]json/.test(answer.headers.get('Content-Type') ?? '') ? JSON.parse(text) : null;
    if (answer.ok) return json;
    throw new PasserbyError({
      message: json?.title ?? `The server said ${status}`,
      detail: json?.detail,
      code: json?.code,
      field: json?.field,
      status,
      retryAfter: retryAfter(answer.headers),
    });
  } catch (error) {
    if (error instanceof PasserbyError) throw error;
    const late = error.name === 'TimeoutError';
    throw new PasserbyError({
      message: late ? `${url.host} takes too long` : `${url.host} cannot be reached`,
      code: late ? 'timeout' : 'unreachable',
    });
  } finally {
    const ms = performance.now() - started;
    calls.dispatchEvent(new CustomEvent('call', { detail: { method, url: url.href, status, ms } }));
  }
}
