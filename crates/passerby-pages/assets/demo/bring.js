// Device two, and coming back by words: a guest is brought to this device.

import { client } from './client.js';
import { at, blame, complain, moment, once, onSubmit, remembered, reveal, say, sure } from './page.js';
import { showWords } from './recovery.js';
import { called } from './watch.js';

/** The code of the link by which somebody came. */
let offered = null;
/** What goes on after a reload: the code, in this tab only. */
const KEPT = 'passerby-demo-code';
/** The hand-off that is being taken. */
let taking = null;

/** Who would be left behind, in words; empty when nobody is here. */
function inTheWay() {
  if (client.state.status !== 'guest') return '';
  const views = client.data.peek('/views') ?? 0;
  return `This device has a guest already (${called()}, ${views === 1 ? 'one view' : `${views} views`}). It would be left behind.`;
}

/** Tries; where a guest is in the way, asks whether it may be left behind. Undefined: it may not. */
async function replacing(act) {
  try {
    return await act({});
  } catch (error) {
    if (error.code !== 'has_guest') throw error;
    const text = inTheWay() || 'This device has a guest already, who would be left behind.';
    const leave = await sure({ title: 'Leave this guest behind?', text, yes: 'Leave it behind', no: 'Keep it' });
    return leave ? act({ replace: true }) : undefined;
  }
}

async function take(code, options = null) {
  taking?.cancel();
  const act = (more) => client.handOff.take(code, more);
  taking = await (options ? act(options) : replacing(act));
  if (!taking) return;
  remembered('sessionStorage', KEPT, code);
  at('taking-check').value = taking.check;
  at('arrived').hidden = true;
  if (taking.check) reveal('taking');
  finish(taking);
}

async function finish(mine) {
  try {
    await mine.done;
    if (taking === mine) say('This device is in: the same guest, the same data.');
  } catch (error) {
    if (taking === mine) complain(error, 'Not in: ');
  }
  if (taking !== mine) return;
  taking = null;
  remembered('sessionStorage', KEPT, null);
  at('taking').hidden = true;
  at('code').value = '';
}

async function takeTyped() {
  blame('code', 'code-error');
  const code = at('code').value.trim();
  if (!code) return blame('code', 'code-error', 'Type the code that the other device shows.');
  try {
    await take(code);
  } catch (error) {
    if (error.code !== 'invalid_code') throw error;
    blame('code', 'code-error', error.detail || error.message);
  }
}

async function recover() {
  blame('recovery-words', 'words-error');
  at('words-told').hidden = true;
  const words = at('recovery-words').value.trim();
  if (!words) return blame('recovery-words', 'words-error', 'Type the twelve words.');
  try {
    const outcome = await replacing((options) => client.recover(words, options));
    if (!outcome) return;
    if (outcome.status === 'waiting') {
      at('words-told').hidden = false;
      at('words-told').replaceChildren('Understood. Devices that are signed in may object until ', moment(outcome.ready_at), '. Ask again then, with the same words.');
      return;
    }
    at('recovery-words').value = '';
    showWords(outcome.recovery_code, 'The words you used are spent. These are the new ones.');
    say('Welcome back. All other devices were signed out.');
  } catch (error) {
    if (error.code !== 'invalid_code') throw error;
    blame('recovery-words', 'words-error', error.detail || error.message);
  }
}

function stop() {
  const mine = taking;
  taking = null;
  mine?.cancel();
  remembered('sessionStorage', KEPT, null);
  at('taking').hidden = true;
}

/** Came by a link, or by a reload while waiting. The code leaves the address bar; nothing is done without a press. */
export async function arrive() {
  const code = client.handOff.codeIn(location.href);
  if (code !== null) {
    history.replaceState(null, '', location.pathname + location.search);
    at('arrived-code').textContent = code;
    at('arrived-replaces').textContent = inTheWay();
    at('arrived-replaces').hidden = !inTheWay();
    offered = code;
    reveal('arrived');
    return;
  }
  const kept = remembered('sessionStorage', KEPT);
  // What was begun was wanted: it goes on without being asked again.
  if (kept !== null) await take(kept, { replace: true }).catch((error) => {
    remembered('sessionStorage', KEPT, null);
    complain(error);
  });
}

export function bring() {
  onSubmit('code-form', 'code-take', takeTyped);
  onSubmit('words-form', 'words-use', recover);
  // What would be left behind is said above the button.
  once('arrived-take', () => take(offered, { replace: true }));
  once('arrived-not', async () => (at('arrived').hidden = true));
  once('taking-cancel', async () => stop());
}
