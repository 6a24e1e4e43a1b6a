// Device keys, sessions, and what happened to them.

import { ask, client, isGuest } from './client.js';
import { at, button, complain, element, end, moment, once, say, short, styled, sure } from './page.js';

const HAPPENED = {
  'device_key.added': 'A device key was added',
  'device_key.removed': 'A device key was removed',
  'hand_off.completed': 'A second device came in',
  'hand_off.cancelled': 'A hand-off was cancelled: two devices asked',
  'recovery.started': 'Somebody began to use the recovery words',
  'recovery.cancelled': 'A recovery was stopped',
  'recovery.completed': 'The guest was recovered',
  'recovery_code.made': 'Recovery words were made',
  'sessions.revoked': 'Everybody was signed out',
};

/** Asks for all three lists and shows them. */
export async function loadDevices() {
  if (!isGuest()) return;
  const [keys, sessions, notices] = [
    await client.deviceKeys.list(),
    (await ask('GET', '/v1/me/sessions')).items,
    (await ask('GET', '/v1/me/notices')).items,
  ];
  if (!isGuest()) return;
  at('keys').replaceChildren(...(keys.length > 0 ? keys.map(keyRow) : [element('li', 'None: this browser works with a cookie.')]));
  at('sessions').replaceChildren(...sessions.map(sessionRow));
  const current = sessions.find((session) => session.current);
  at('session-ends').replaceChildren(current ? moment(end(current)) : '…');
  at('notices').replaceChildren(...notices.map(noticeRow));
  at('notices-part').hidden = notices.length === 0;
}

function keyRow(key) {
  const name = key.name ?? 'A device without a name';
  const line = styled('div', 'line', styled('span', 'name', name));
  if (key.current) line.append(styled('span', 'chip', 'this device'));
  const facts = styled('span', 'soft', element('code', short(key.thumbprint)), ' · last used ', moment(key.last_used_at));
  const row = element('li', element('div', line, facts));
  const buttons = styled('div', 'buttons');
  buttons.append(
    button('Rename', `Rename ${name}`, async () => rename(row, key)),
    button('Remove', `Remove ${name}`, () => remove(key, name), 'button small danger'),
  );
  row.append(buttons);
  return row;
}

function rename(row, key) {
  if (row.querySelector('form')) return;
  const input = element('input');
  input.value = key.name ?? '';
  input.maxLength = 64;
  input.id = `name-${key.thumbprint}`;
  const label = element('label', 'Name of this device key');
  label.htmlFor = input.id;
  const save = styled('button', 'button small main', 'Save');
  save.type = 'submit';
  const form = element('form', label, input, styled('p', 'buttons', save));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    try {
      await client.deviceKeys.rename(key.thumbprint, input.value);
      await loadDevices();
      say('Renamed.');
    } catch (error) {
      input.setAttribute('aria-invalid', 'true');
      complain(error);
    }
  });
  row.append(form);
  input.select();
}

/** The key goes; the last way in only when somebody insists. */
async function remove(key, name) {
  const what = key.current ? 'This very device is signed out.' : 'Whoever has it is signed out and cannot come back by it.';
  if (!(await sure({ title: `Remove ${name}?`, text: what, yes: 'Remove', no: 'Keep it' }))) return;
  try {
    await client.deviceKeys.remove(key.thumbprint);
  } catch (error) {
    if (error.code !== 'last_way_in') throw error;
    const text = 'It is the last way in, and there are no recovery words. Without it nobody can come back as this guest.';
    if (!(await sure({ title: 'Remove the last way in?', text, yes: 'Remove it all the same', no: 'Keep it' }))) return;
    await client.deviceKeys.remove(key.thumbprint, { force: true });
  }
  say('Removed.');
  await again();
}

/** After something that may have ended this very session: the client finds out, and the lists follow. */
async function again() {
  try {
    await client.refresh();
  } catch (error) {
    if (!error.ended) throw error;
  }
  await loadDevices();
}

function sessionRow(session) {
  const line = styled('div', 'line', styled('span', 'name', session.session_type === 'cookie' ? 'By cookie' : 'By tokens'));
  if (session.current) line.append(styled('span', 'chip', 'this browser'));
  const facts = styled('span', 'soft', element('code', short(session.id)), ' · ends ', moment(end(session)));
  const which = session.current ? 'this browser’s session' : `session ${short(session.id)}`;
  return element('li', element('div', line, facts), styled('div', 'buttons', button('End', `End ${which}`, () => endSession(session))));
}

async function endSession(session) {
  await ask('DELETE', `/v1/me/sessions/${encodeURIComponent(session.id)}`);
  await again();
  if (!session.current) say('Ended.');
  else if (isGuest()) say('Ended, and opened anew by the device key: the same guest.');
}

async function everywhere() {
  const text = 'Every session ends and every token is void, here and on all devices. A device that has a key comes back by it.';
  if (!(await sure({ title: 'Sign out everywhere?', text, yes: 'Sign out', no: 'Cancel' }))) return;
  try {
    await ask('DELETE', '/v1/me/sessions');
  } catch (error) {
    if (error.code !== 'last_way_in') throw error;
    const alone = 'There is neither a device key nor a recovery code: nobody could come back as this guest.';
    if (!(await sure({ title: 'Sign out for good?', text: alone, yes: 'Sign out all the same', no: 'Cancel' }))) return;
    await ask('DELETE', '/v1/me/sessions?force=true');
  }
  await again();
  if (isGuest()) say('Everybody was signed out. This device came back by its key.');
}

function noticeRow({ kind, at: when, device }) {
  return element('li', element('div', styled('span', 'name', HAPPENED[kind] ?? kind), styled('span', 'soft', device ? `${device} · ` : '', moment(when))));
}

export function devices() {
  once('devices-again', loadDevices);
  once('everywhere', everywhere);
}
