// Taking one's data along, and leaving.

import { ask, client, isMember } from './client.js';
import { at, element, once, say, sure } from './page.js';

async function exportAll() {
  const { id } = client.state.user;
  const all = await ask('GET', '/v1/me/export');
  const url = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], { type: 'application/json' }));
  const link = element('a');
  link.href = url;
  link.download = `passerby-${id.replace(/[^\w.-]/g, '_')}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  say(`Exported as ${link.download}.`);
}

/** After whoever was here has gone. */
function gone(words) {
  at('play').focus({ preventScroll: true });
  scrollTo({ top: 0 });
  say(words);
}

async function logout() {
  const agreed = await client.logout();
  gone(agreed ? 'Logged out. This device knows nobody any more.' : 'Forgotten on this device. The server could not be told; nobody can use what it has.');
}

async function erase() {
  const text = 'The counter, the note, every key and session go at once. There is no undo.';
  const title = isMember() ? 'Erase this account?' : 'Erase this guest?';
  if (!(await sure({ title, text, yes: 'Erase me', no: 'Keep everything' }))) return;
  await client.erase();
  gone('Erased. Nothing is kept.');
}

/** Nobody is made: that is for whoever presses play. */
async function startOver() {
  await client.logout();
  gone('Forgotten. Press play to be somebody new.');
}

export function leave() {
  once('export', exportAll);
  once('logout', logout);
  once('erase', erase);
  once('start-over', startOver);
}
