// What the guest writes: a name and a note, kept by the same queue as the counter.

import { client } from './client.js';
import { at, blame, onSubmit, say } from './page.js';

const FIELDS = { 'display-name': '/display_name', note: '/note' };

/** Shows what is kept, but in a field that somebody has changed. */
function render() {
  for (const [id, path] of Object.entries(FIELDS)) {
    const kept = client.data.peek(path);
    const field = at(id);
    if (field.value === field.defaultValue) field.value = typeof kept === 'string' ? kept : '';
    field.defaultValue = typeof kept === 'string' ? kept : '';
  }
}

async function keep() {
  blame('note', 'profile-error');
  blame('display-name', 'profile-error');
  const changed = Object.entries(FIELDS).filter(([id]) => at(id).value !== at(id).defaultValue);
  if (changed.length === 0) return say('That is kept already.');
  const typed = new Map(changed.map(([id]) => [id, at(id).value]));
  const operations = changed.map(([id, path]) => {
    const value = typed.get(id);
    return value === '' ? { op: 'unset', path } : { op: 'set', path, value };
  });
  const saving = client.data.apply(operations);
  render();
  try {
    const { version } = await saving;
    say(`Kept: version ${version}.`);
  } catch (error) {
    if (error.status !== 400 && error.status !== 422) throw error;
    // What was typed is not lost by being refused.
    for (const [id, value] of typed) at(id).value = value;
    const [guilty] = changed.find(([, path]) => error.field.endsWith(path)) ?? changed[0];
    blame(guilty, 'profile-error', error.detail || error.message);
  }
}

export function profile() {
  client.onChange(render);
  onSubmit('profile-form', 'profile-save', keep);
}
