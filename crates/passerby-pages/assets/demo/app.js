// The demo page: counts the views of a video for a guest nobody asked to register.
//
// A look makes nobody: the client makes the guest when somebody acts. All that has to do with tabs, lost lines, keys and
// tokens is the client's business; these files show what it does.

import { arrive, bring } from './bring.js';
import { calls, client } from './client.js';
import { devices, loadDevices } from './devices.js';
import { handOff, loadRequests } from './hand-off.js';
import { keep, loadClaims } from './keep.js';
import { leave } from './leave.js';
import { loadMember, member } from './member.js';
import { loadAside, merge } from './merge.js';
import { at, complain, element, once, tick } from './page.js';
import { profile } from './profile.js';
import { proving } from './prove.js';
import { loadRecovery, recovery } from './recovery.js';
import { loadCart, shop } from './shop.js';
import { resume, signIn } from './sign-in.js';
import { token } from './token.js';
import { watch } from './watch.js';

const CALLS_SHOWN = 8;
/** Whose details are on the page, or on their way to it. */
let shown = null;

function renderCall({ method, url, status, ms }) {
  const { origin, pathname, search, host } = new URL(url);
  // Ids are cut short: that of a hand-off is a secret of the device that asks.
  const path = pathname.replace(/[^/]{20,}/g, (id) => `${id.slice(0, 6)}…`);
  const place = `${origin === location.origin ? '' : host}${path}${search}`;
  const mark = element('span', status === 0 ? 'no answer' : String(status));
  mark.className = `status-${status === 0 ? 'none' : Math.floor(status / 100)}`;
  const line = element('li', element('code', `${method} ${place}`), ' ', mark, ' ', element('small', `${Math.round(ms)} ms`));
  const text = `${method} ${place} ${status}`;
  const newest = at('wire').firstElementChild;
  // What is asked again and again stands in one line.
  const times = newest?.dataset.call === text ? Number(newest.dataset.times) + 1 : 1;
  Object.assign(line.dataset, { call: text, times });
  if (times > 1) {
    line.firstChild.append(' ', element('small', `× ${times}`));
    newest.remove();
  }
  at('wire').prepend(line);
  while (at('wire').children.length > CALLS_SHOWN) at('wire').lastChild.remove();
}

/** Fills in what is asked for once a guest is here. One after the other, so that the wire can be read. */
async function details() {
  const who = ({ user } = client.state) => user && `${user.kind} ${user.id}`;
  const now = who();
  if (!now || now === shown) return;
  shown = now;
  for (const load of [loadMember, loadAside, loadClaims, loadDevices, loadRecovery, loadRequests, loadCart]) {
    if (who() !== now) return;
    await load().catch(complain);
  }
}

/** Asks the server who is here. Makes nobody. */
async function look() {
  try {
    await client.refresh();
    at('storage').hidden = true;
  } catch (error) {
    if (error.code === 'storage_failed') {
      at('storage').hidden = false;
      at('storage-why').textContent = error.detail;
    } else if (!error.ended) {
      complain(error);
    }
  }
}

client.on('call', renderCall);
calls.addEventListener('call', ({ detail }) => renderCall(detail));
client.on('guest', (user) => {
  if (!user) shown = null;
});
// Also when a guest becomes somebody, which is no other one.
client.onChange(details);
addEventListener('hashchange', () => arrive().catch(complain));
addEventListener('pageshow', (event) => event.persisted && look());
// Whoever comes back to the page also sees whether somebody uses the recovery words meanwhile.
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') look().then(loadRecovery).catch(complain);
});
setInterval(tick, 15_000);

watch();
for (const part of [keep, proving, merge, signIn, member, profile, devices, handOff, recovery, shop, token, bring, leave]) part();
once('storage-again', look);
await look();
await arrive();
resume();
details();
