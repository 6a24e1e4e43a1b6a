// The video, its counter, and who is here: the main thing.

import { client, isMember } from './client.js';
import { at, complain, element, hold, moment, passed, reveal, say, short, styled, words } from './page.js';

/** Pressed here, so that only this tab greets. */
let pressed = false;
/** Why there is no device key, if there is none. */
let reason = '';
/** Why the guest ended, where this page knows better than the server. */
let farewell = '';

/** What it is called, and why, where those who ended are somewhere still. */
const ENDED = {
  session_ended: ['You are signed out here', 'The session of your account is over. Sign in to go on.'],
  guest_converted: ['This guest is an account now', 'It was kept on another device. Sign in to go on here.'],
  guest_merged: ['This guest came along into an account', 'That was on another device. Sign in to go on here.'],
};

/** The display name, if one is kept. */
function name() {
  const kept = client.data.peek('/display_name');
  return typeof kept === 'string' && kept !== '' ? kept : null;
}

/** What people are called: an account by its address, a guest by name, else by the end of the id. */
export function called(user = client.state.user) {
  if (user?.kind === 'regular') return user.identifiers?.[0]?.value ?? name() ?? `User ${short(user.id)}`;
  return name() ?? (user && `Guest ${short(user.id)}`);
}

/** Sets what is said when the guest ends by something that was done here. */
export function partWith(text) {
  farewell = text;
}

/** Shows all that follows from the client's state. */
export function render() {
  const { status, mode, user, pending, ended } = client.state;
  const views = Number(client.data.peek('/views') ?? 0);
  const text = { loading: 'Looking…', nobody: 'Nobody yet', ended: 'A guest that ended' };
  // The forms for codes and words are at hand for nobody, and out of the way of somebody.
  const before = document.body.dataset.who;
  if (before !== status) at('bring').open = status !== 'guest';
  document.body.dataset.who = status;
  for (const [id, shown] of [
    ['nobody', status === 'nobody'],
    ['somebody', status === 'guest'],
    ['ended', status === 'ended'],
    ['bring', status !== 'loading' && !isMember()],
    ['leave', status === 'guest'],
  ]) {
    at(id).hidden = !shown;
  }
  at('who-text').textContent = user ? called(user) : text[status];
  at('tag').textContent = user ? (name() ?? short(user.id)) : '?';
  if (at('views').value !== String(views)) at('views').value = String(views);
  at('views-word').textContent = views === 1 ? 'view' : 'views';
  at('views-whose').textContent = whose(status, user, pending);
  at('pending').hidden = pending === 0;
  at('pending').textContent = `${pending} on the way`;
  if (ended) {
    const [title, why] = ENDED[ended.code] ?? ['This guest has ended here', words(ended).slice(0, 2).filter(Boolean).join(' ')];
    at('ended-title').textContent = title;
    at('ended-why').textContent = farewell || why;
    // It ends under somebody's eyes, who may have scrolled elsewhere.
    if (before === 'guest') reveal('ended');
  }
  for (const part of document.querySelectorAll('[data-guest]')) part.hidden = isMember();
  if (!user) return;
  at('guest-id').textContent = user.id;
  at('guest-kind').textContent = user.kind;
  at('guest-stored').textContent = user.stored ? 'yes, it has a row' : 'no, it floats in its token';
  at('guest-proof').replaceChildren(...proof(mode));
  at('guest-expires').replaceChildren(moment(user.expires_at));
  at('guest-created').replaceChildren(moment(user.created_at));
  at('guest-active').replaceChildren(moment(user.last_active_at));
  at('version').textContent = user.version;
  at('data').textContent = JSON.stringify(user.data, null, 2);
}

function whose(status, user, pending) {
  if (user) return `kept for ${called(user)}`;
  if (status === 'ended') return 'kept for nobody any more';
  return pending > 0 ? 'kept in this browser until the server can be reached' : 'by nobody yet: press play to be somebody';
}

function proof(mode) {
  if (mode === 'device-key') {
    return ['a ', element('strong', 'device key'), ' in this browser that no script can read; tokens are bound to it'];
  }
  return ['the ', element('strong', 'session cookie'), ', as this browser keeps no key. ', styled('span', 'help', reason)];
}

/** Runs the film from its beginning. */
function roll() {
  const stage = at('stage');
  stage.classList.remove('playing');
  void stage.offsetWidth; // Without a layout in between, the animation would go on where it was.
  stage.classList.add('playing');
}

function press() {
  roll();
  if (client.state.status === 'ended') return at('start-over').focus();
  if (client.state.status !== 'guest') {
    pressed = true;
    // First of all, so that a guest who is made says where it came in. Where this fails, the change below tells.
    client.guest({ entry: 'demo' }).catch(() => {});
  }
  client.data.increment('/views').catch(complain);
}

/** Begins to show; gives back nothing and makes nobody. */
export function watch() {
  client.onChange(render);
  client.on('mode', (event) => (reason = event.reason ?? ''));
  client.on('retry', ({ error, ms }) => hold(error, ms));
  client.on('call', ({ status }) => status > 0 && status < 500 && status !== 429 && passed());
  client.on('guest', (user) => {
    farewell = '';
    if (user && pressed) say('Hello. You are a guest now, and nobody asked you to register.');
    if (user) pressed = false;
  });
  at('play').addEventListener('click', press);
  at('fill').addEventListener('animationend', () => at('stage').classList.remove('playing'));
  render();
}
