// What an account has: what it is signed in with, its password, and the way out.

import { client, isMember, me } from './client.js';
import { loadDevices } from './devices.js';
import { at, blame, button, element, moment, once, onSubmit, say, styled, sure } from './page.js';

/** Whether there is a password; without one the first is set. */
let hasPassword = false;

/** Asks what the account is signed in with and shows it. */
export async function loadMember() {
  if (!isMember()) return;
  const { items, password } = await me.identifiers();
  if (!isMember()) return;
  hasPassword = password;
  at('identifiers').replaceChildren(...items.map(row));
  at('password-title').textContent = password ? 'Change the password' : 'Set a password';
  at('password-current-part').hidden = !password;
}

function row({ id, value, verified_at: since }) {
  const facts = styled('span', 'soft', 'yours since ', moment(since));
  const buttons = styled('div', 'buttons', button('Remove', `Remove ${value}`, () => remove(id, value), 'button small danger'));
  return element('li', element('div', styled('span', 'name', value), facts), buttons);
}

async function remove(id, value) {
  if (!(await sure({ title: `Remove ${value}?`, text: 'Nobody signs in with it any more.', yes: 'Remove', no: 'Keep it' }))) return;
  await me.removeIdentifier(id);
  await client.refresh();
  await loadMember();
  say('Removed.');
}

async function change() {
  blame('password-new', 'password-new-error');
  blame('password-current', 'password-current-error');
  const current = hasPassword ? at('password-current').value : undefined;
  const fresh = at('password-new').value;
  if (current === '') return blame('password-current', 'password-current-error', 'Type the password that you have.');
  if (!fresh) return blame('password-new', 'password-new-error', 'Type the new password.');
  try {
    await me.changePassword({ current, new: fresh });
  } catch (error) {
    const why = error.detail || error.message;
    if (error.code === 'invalid_credentials') return blame('password-current', 'password-current-error', 'This is not the password.');
    if (error.code === 'reauthentication_required') {
      return blame('password-new', 'password-new-error', 'You signed in a while ago. Sign out and in again, then set a password.');
    }
    if (error.status !== 400 && error.status !== 422) throw error;
    return blame('password-new', 'password-new-error', why);
  }
  at('password-form').reset();
  at('password').open = false;
  at('password').querySelector('summary').focus();
  say('The password is set. Every other session has ended.');
  await loadMember();
  await loadDevices();
}

/** To nobody: who was a guest here before is only come back to by the button that says so. */
async function signOut() {
  if (await me.aside()) {
    const text = 'The guest who is set aside here is left behind. To go on as that guest, use “Back to the guest”.';
    if (!(await sure({ title: 'Sign out, and leave the guest?', text, yes: 'Sign out', no: 'Stay' }))) return;
  }
  const agreed = await client.logout();
  at('play').focus({ preventScroll: true });
  say(agreed ? 'Signed out. Nobody is here now.' : 'Signed out on this device. The server could not be told.');
}

export function member() {
  onSubmit('password-form', 'password-go', change);
  once('sign-out', signOut);
  client.onChange(() => {
    const { user } = client.state;
    at('member').hidden = !isMember();
    if (isMember()) at('member-name').textContent = user.identifiers?.[0]?.value ?? user.id;
  });
  client.on('guest', () => {
    at('password-form').reset();
    at('password').open = false;
  });
}
