// What a guest has comes along into the account, or stays aside; and the way back.

import { client, isMember, me } from './client.js';
import { at, element, moment, once, remembered, reveal, say, sure, warn } from './page.js';

/** The last merge of this browser, for its undo: the transfer's id and the account's. */
const MOVED = 'passerby-demo-moved';
const ROWS_SHOWN = 12;
const LONGEST = 24;
const KEPT = { guest: 'the guest’s is taken', account: 'the account’s stays', both: 'both count' };

/** By which somebody may come along now. */
let ticket = null;
/** Counts what was shown, so that an answer that comes late shows nothing any more. */
let turn = 0;

const views = (data) => (data.views === 1 ? 'one view' : `${data.views ?? 0} views`);

function plain(value) {
  if (value === undefined) return '–';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** One row for each thing that either has. */
function render({ guest, account, data, conflicts }) {
  const names = [...new Set([guest, account, { data }].flatMap((side) => Object.keys(side.data)))];
  const rows = names.slice(0, ROWS_SHOWN).map((name) => {
    const place = `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    const met = conflicts.filter(({ path }) => path === place || path.startsWith(`${place}/`));
    const head = element('th', element('code', name));
    if (met.length > 0) head.append(' ', element('small', [...new Set(met.map(({ kept }) => KEPT[kept]))].join('; ')));
    head.scope = 'row';
    return element('tr', head, ...[guest.data, account.data, data].map((side) => element('td', plain(side[name]))));
  });
  at('preview-body').replaceChildren(...rows);
  const left = names.length - rows.length;
  at('preview-more').textContent = left > 0 ? `… and ${left} more.` : '';
}

function show({ title, text, preview, back }) {
  turn += 1;
  at('aside-title').textContent = title;
  at('aside-text').textContent = text;
  at('preview').hidden = !preview;
  if (preview) render(preview);
  at('aside-merge').hidden = !ticket;
  at('aside-return').textContent = back;
  at('aside-return').hidden = client.state.mode !== 'device-key' && isMember();
  at('aside-leave').hidden = !isMember();
  at('aside').hidden = false;
}

function hide() {
  turn += 1;
  ticket = null;
  at('aside').hidden = true;
}

function showOffer(preview) {
  const guest = isMember() ? 'The guest who was here before you signed in has' : 'This address has an account already. As a guest you have';
  show({
    title: isMember() ? 'Bring the guest along?' : 'Bring everything along?',
    text: `${guest} ${views(preview.guest.data)}, the account has ${views(preview.account.data)}.`,
    preview,
    back: isMember() ? 'Back to the guest' : 'Stay the guest',
  });
}

/** Shows what a merge would make, by the ticket that came with a proof. */
export function offer(proven) {
  ticket = proven.merge_ticket;
  showOffer(proven.preview);
  reveal('aside');
}

function unlessTemporary(error) {
  if (error.temporary) throw error;
  return null;
}

/** The guest who is set aside, and the merge that can be taken back; both may be from before this page was loaded. */
export async function loadAside() {
  await loadMoved();
  if (ticket) return;
  const mine = turn;
  const aside = isMember() ? await me.aside() : null;
  // Where the ticket is over, it is as if there were none.
  const previewed = aside?.merge_ticket ? await me.preview(aside.merge_ticket).catch(unlessTemporary) : null;
  if (turn !== mine) return;
  if (!aside) return hide();
  ticket = previewed?.merge_ticket ?? null;
  if (previewed) return showOffer(previewed.preview);
  show({
    title: 'A guest is set aside',
    text: `In this browser there is a guest with ${views(aside.user.data)} as well. To bring it along, go back to the guest and sign in from there.`,
    back: 'Back to the guest',
  });
}

async function bring() {
  try {
    const { transfer, user } = await me.merge(ticket);
    remembered('localStorage', MOVED, JSON.stringify({ id: transfer.id, account: user.id }));
    hide();
    await loadMoved();
    reveal('moved');
    say(`The guest came along: ${views(user.data)} now.`);
  } catch (error) {
    if (error.code === 'preview_outdated') {
      const previewed = await me.preview(ticket);
      ticket = previewed.merge_ticket;
      showOffer(previewed.preview);
      return warn('Something has changed meanwhile.', 'Look at what would come of it now.');
    }
    if (error.code !== 'invalid_merge_ticket') throw error;
    ticket = null;
    await loadAside();
    warn('That took too long, and nothing was moved.', 'Sign in again to bring the guest along.');
  }
}

async function back() {
  if (!isMember()) return hide();
  const { data } = await me.returnToGuest();
  hide();
  at('play').focus({ preventScroll: true });
  say(`You are the guest again, with ${views(data)}. The account is signed out.`);
}

async function leave() {
  const text = 'What it has is of no use to anybody then. The account is not changed.';
  if (!(await sure({ title: 'Leave the guest behind?', text, yes: 'Leave it behind', no: 'Keep it aside' }))) return;
  await me.leaveGuest();
  hide();
  reveal('member');
  say('Left behind.');
}

async function loadMoved() {
  const kept = JSON.parse(remembered('localStorage', MOVED) ?? 'null');
  const mine = kept && client.state.user?.id === kept.account;
  const transfer = mine ? await me.transfer(kept.id) : null;
  at('moved').hidden = !transfer?.undo_until;
  if (!transfer?.undo_until) return;
  const waits = transfer.state === 'pending' ? 'The application has not confirmed yet that it moved its own things. ' : '';
  at('moved-text').replaceChildren(waits, 'It can be taken back until ', moment(transfer.undo_until), '.');
}

async function undo() {
  const { id } = JSON.parse(remembered('localStorage', MOVED));
  const { conflicts } = await me.undo(id);
  remembered('localStorage', MOVED, null);
  await loadAside();
  if (!at('aside').hidden) reveal('aside');
  const now = `The account has ${views(client.state.user.data)}, and the guest is set aside with its own.`;
  if (conflicts.length === 0) return say(`Taken back. ${now}`);
  warn(`Taken back. ${now}`, `Written since, and so left as it is: ${conflicts.map(({ path }) => path).join(', ')}`);
}

export function merge() {
  once('aside-merge', bring);
  once('aside-return', back);
  once('aside-leave', leave);
  once('undo', undo);
  client.on('guest', (user) => {
    hide();
    at('moved').hidden = true;
    if (!user) remembered('localStorage', MOVED, null);
  });
}
