// The words by which the guest comes back without any device.

import { client, isGuest, isMember } from './client.js';
import { at, button, copy, element, moment, once, reveal, say, sure } from './page.js';

const EXPLAINED = 'Write them down now: they are shown this once, and the server keeps only a hash. Whoever has them has this guest.';

/** Shows words, once. */
export function showWords(words, before = '') {
  at('new-words-text').textContent = before ? `${before} ${EXPLAINED}` : EXPLAINED;
  at('recovery-buttons').hidden = true;
  at('words').replaceChildren(...words.split(' ').map((word) => element('li', word)));
  reveal('new-words');
}

const shownWords = () => [...at('words').children].map((item) => item.textContent).join(' ');

export async function loadRecovery() {
  if (!isGuest() || isMember()) return;
  const { created_at: made, pending } = await client.recoveryCode.status();
  at('recovery-make').textContent = made ? 'Make new words' : 'Make recovery words';
  at('recovery-remove').hidden = !made || !!pending;
  const status = at('recovery-status');
  if (pending) {
    const who = pending.device ?? 'A device without a name';
    status.replaceChildren(element('strong', `${who} uses your words`), ' and would come in ', moment(pending.ready_at), '. If that is not you: ');
    status.append(button('Stop the recovery', 'Stop the recovery', stopRecovery, 'button small danger'));
  } else if (made) {
    status.replaceChildren('Words were made ', moment(made), '. New ones would end them.');
  } else {
    status.replaceChildren('There are none yet.');
  }
}

async function stopRecovery() {
  await client.recoveryCode.cancel();
  say('Stopped. Those words are worth nothing any more; make new ones.');
  await loadRecovery();
}

async function make() {
  showWords(await client.recoveryCode.create());
  await loadRecovery();
}

async function remove() {
  const text = 'The words that you wrote down are then worth nothing.';
  if (!(await sure({ title: 'Remove the recovery words?', text, yes: 'Remove', no: 'Keep them' }))) return;
  await client.recoveryCode.cancel();
  say('Removed.');
  await loadRecovery();
}

function hide() {
  at('words').replaceChildren();
  at('new-words').hidden = true;
  at('recovery-buttons').hidden = false;
}

export function recovery() {
  once('recovery-make', make);
  once('recovery-remove', remove);
  once('words-copy', () => copy(shownWords()));
  once('words-done', async () => {
    hide();
    at('recovery-make').focus({ preventScroll: true });
  });
  client.onChange(() => (!isGuest() || isMember()) && hide());
}
