// Device one: a code for another device, and the confirmation.

import { ask, client, isGuest, isMember } from './client.js';
import { loadDevices } from './devices.js';
import { at, complain, moment, once, reveal, say, warn } from './page.js';
import { partWith } from './watch.js';

/** Milliseconds between two looks at whether the other device is in. */
const POLL = 2_000;
/** Ends the waiting for the offer that is shown. */
let stop = new AbortController();
/** Who asks. */
let request = null;

function show(part) {
  at('hand-off-begin').hidden = part !== 'begin';
  at('hand-off-offer').hidden = part !== 'offer';
  at('hand-off-asked').hidden = part !== 'asked';
}

function reset() {
  stop.abort();
  request = null;
  show('begin');
}

/** The picture as the server drew it: rectangles and paths, no more. */
function picture(svg) {
  const drawn = new DOMParser().parseFromString(svg ?? '', 'image/svg+xml').documentElement;
  if (drawn.localName !== 'svg') return [];
  drawn.setAttribute('role', 'img');
  drawn.setAttribute('aria-label', 'The link as a QR code');
  return [document.adoptNode(drawn)];
}

async function make() {
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  const mode = document.querySelector('input[name=mode]:checked').value;
  const offer = await client.handOff.create({ mode });
  at('hand-off-qr').replaceChildren(...picture(offer.qr));
  at('hand-off-code').textContent = offer.code;
  at('hand-off-link').textContent = offer.url;
  at('hand-off-link').href = offer.url;
  at('hand-off-ends').replaceChildren(moment(offer.expires_at));
  show('offer');
  reveal('hand-off-offer');
  waitFor(offer, signal);
}

async function waitFor(offer, signal) {
  try {
    askedBy(await offer.asked({ signal }));
  } catch (error) {
    if (error.code === 'aborted' || error.ended) return;
    reset();
    complain(error);
  }
}

/** Looks until the asking is over without an answer from here: by its time, or by another device that asked, too. */
async function follow(found, signal) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (signal.aborted || request !== found || !isGuest()) return;
    const waiting = await client.handOff.list().catch((error) => {
      if (!error.ended && !error.temporary) throw error;
      return null;
    });
    if (signal.aborted || request !== found || !waiting) continue;
    if (waiting.some(({ id }) => id === found.id)) continue;
    reset();
    return warn('Nobody was let in.', 'The code is over, or more than one device asked with it. Make a new one.');
  }
}

function askedBy(found) {
  request = found;
  stop.abort();
  stop = new AbortController();
  follow(found, stop.signal).catch(complain);
  at('hand-off-device').textContent = found.device ?? 'A device without a name';
  at('hand-off-check').value = found.check;
  at('hand-off-means').textContent =
    found.mode === 'move' ? 'If you let it in, this device is signed out.' : 'If you let it in, both devices have the guest.';
  show('asked');
  reveal('hand-off-asked');
}

async function confirm() {
  const { id, mode, expires_at: until } = request;
  stop.abort();
  const before = new Set(await sessions());
  try {
    await client.handOff.confirm(id);
  } catch (error) {
    // It is over; where the server could not be asked, it can be tried again.
    if (!error.temporary) reset();
    throw error;
  }
  reset();
  say('Confirmed. The other device comes in.');
  if (mode === 'move') partWith('The guest went to your other device, as you wanted.');
  stop = new AbortController();
  await arrival(before, Date.parse(until), stop.signal);
}

/** The ids of all sessions: whoever comes in has one, by a key or by a cookie. */
const sessions = async () => (await ask('GET', '/v1/me/sessions')).items.map(({ id }) => id);

/** Looks until the other device is in, so that the lists show it; a guest that moved has ended here by then. */
async function arrival(before, until, signal) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    if (signal.aborted || !isGuest() || Date.now() > until) return;
    const now = await sessions().catch((error) => {
      if (!error.ended && !error.temporary) throw error;
      return null;
    });
    if (now?.some((id) => !before.has(id))) return loadDevices();
  }
}

async function withdraw() {
  reset();
  await client.handOff.withdraw();
  say('Withdrawn. The code is worth nothing any more.');
}

/** Whoever asked before this page was loaded waits still. */
export async function loadRequests() {
  if (!isGuest() || isMember() || request) return;
  const [waiting] = await client.handOff.list();
  if (waiting) askedBy(waiting);
}

export function handOff() {
  client.on('guest', reset);
  client.on('ended', reset);
  once('hand-off-make', make);
  once('hand-off-withdraw', withdraw);
  once('hand-off-refuse', withdraw);
  once('hand-off-confirm', confirm);
}
