// An app of few words: it has a client, changes the guest's data and keeps a record of what it is told. Everything is
// global, for the test to reach. The address says `api` (the server), `client`, `timeout`, and with `time=hand` that the
// client's timers run when the test moves its clock.

import { createClient } from './passerby.js';

const { api, client, timeout, time } = Object.fromEntries(asked);

const hand = { ahead: 0, last: 0, timers: new Map() };
const handTime = {
  now: () => Date.now() + hand.ahead,
  setTimeout(work, ms) {
    hand.timers.set((hand.last += 1), { work, at: handTime.now() + ms });
    return hand.last;
  },
  clearTimeout: (timer) => hand.timers.delete(timer),
};

/** Moves the clock of `time=hand` and runs what is due. */
window.advance = (ms) => {
  hand.ahead += ms;
  for (const [timer, { work, at }] of [...hand.timers].sort(([, a], [, b]) => a.at - b.at)) {
    if (at <= handTime.now() && hand.timers.delete(timer)) work();
  }
};

window.seen = { wrong: [], refused: [], ended: [], modes: [], retries: [], saved: [] };
addEventListener('error', ({ message }) => seen.wrong.push(message));
addEventListener('unhandledrejection', ({ reason }) => seen.wrong.push(String(reason)));

window.passerby = createClient(
  { clientId: client, baseUrl: api, ...(timeout && { timeout: Number(timeout) }) },
  time === 'hand' ? handTime : {},
);
passerby.on('refused', ({ error }) => seen.refused.push(error.code));
passerby.on('ended', (error) => seen.ended.push(error.code));
passerby.on('mode', (mode) => seen.modes.push(mode));
passerby.on('retry', ({ error, ms }) => seen.retries.push({ status: error.status, code: error.code, ms }));

/** Asks for the guest; what becomes of it is in `came`. */
window.come = () => {
  window.came = null;
  passerby.guest().then(
    ({ id }) => (window.came = id),
    (error) => (window.came = `${error.code}: ${error.message}`),
  );
};

/** One press: a counter and a list, so that neither a loss nor a double can hide. */
window.press = (name) => {
  passerby.data.increment('/presses').then(
    () => seen.saved.push(name),
    (error) => seen.wrong.push(`${name}: ${error.code}`),
  );
  passerby.data.append('/log', name);
};

/** Works in the client's database, behind its back. */
const inside = (store, mode, work) =>
  new Promise((resolve, reject) => {
    const opening = indexedDB.open(`passerby ${client} ${api}`);
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const transaction = database.transaction(store, mode);
      const outcome = work(transaction.objectStore(store));
      transaction.onabort = () => reject(transaction.error);
      transaction.oncomplete = () => {
        database.close();
        resolve(outcome());
      };
    };
  });

/** Changes the facts that the client keeps; gives what `edit` gives. */
window.tamper = (edit) =>
  inside('facts', 'readwrite', (facts) => {
    const found = facts.get(0);
    let outcome;
    found.onsuccess = () => {
      outcome = edit(found.result);
      facts.put(found.result, 0);
    };
    return () => outcome;
  });

/** How many changes are kept until the server has them. */
window.kept = () =>
  inside('queue', 'readonly', (queue) => {
    const counted = queue.count();
    return () => counted.result;
  });
