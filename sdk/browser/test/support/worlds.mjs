// What the tests of accounts begin with.

import { account } from '../../dist/account.js';
import { AccountServer } from './accounts.mjs';
import { Browser, Clock } from './browser.mjs';

export const EMAIL = 'ada@example.org';
export const MODES = { 'by key': {}, 'by cookie': { indexedDB: false } };

/** A browser with one tab, and what its account entry gives. */
export function world(features) {
  const clock = new Clock();
  const server = new AccountServer(clock);
  const browser = new Browser(clock, server, features);
  const tab = browser.tab();
  return { clock, server, browser, tab, me: account(tab) };
}

/** A guest with two views, and an account with three. */
export async function both(features) {
  const made = world(features);
  const { clock, server, tab } = made;
  await clock.settle(tab.data.increment('/views', 2));
  const guest = tab.state.user.id;
  const owner = server.register(EMAIL, { password: 'correct horse', data: { views: 3, own: true } });
  return { ...made, guest, owner, signIn: { email: EMAIL, password: 'correct horse' } };
}

/** The next `count` answers to these calls never arrive. */
export function cut(server, path, count = 1, fault = 'cut') {
  let left = count;
  server.fault = ({ url, method }) => (method === 'POST' && url.endsWith(path) && left-- > 0 ? fault : undefined);
}

/** The idempotency keys of the calls to this path, in their order. */
export const keysOf = (server, path) =>
  server.log.filter((entry) => entry.path.endsWith(path)).map((entry) => entry.headers['idempotency-key']);
