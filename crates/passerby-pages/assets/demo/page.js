// The page itself: finding and making elements, saying what happened, asking whether somebody is sure.

export const at = (id) => document.getElementById(id);

export function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

/** An element with a class. */
export function styled(name, className, ...children) {
  const made = element(name, ...children);
  made.className = className;
  return made;
}

/** A button for a row of a list; `label` says to a screen reader what it is about. */
export function button(text, label, act, className = 'button small') {
  const made = styled('button', className, text);
  made.type = 'button';
  made.setAttribute('aria-label', label);
  made.addEventListener('click', busily(made, act));
  return made;
}

/** One run at a time, and the button says so. What fails is said. */
function busily(button, act) {
  return async () => {
    if (button.hasAttribute('aria-busy')) return;
    button.setAttribute('aria-busy', 'true');
    try {
      await act();
    } catch (error) {
      complain(error);
    } finally {
      button.removeAttribute('aria-busy');
    }
  };
}

/** The same for a button that is in the page. */
export function once(id, act) {
  at(id).addEventListener('click', busily(at(id), act));
}

/** The same for a form, whose button is the one with this id. */
export function onSubmit(form, id, act) {
  const run = busily(at(id), act);
  at(form).addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
}

/** Marks the field that is to blame and moves there; without `text` clears the mark. */
export function blame(field, error, text = '') {
  if (text) {
    at(field).setAttribute('aria-invalid', 'true');
    at(field).focus();
  } else {
    at(field).removeAttribute('aria-invalid');
  }
  at(error).textContent = text;
}

/** Moves to a part of the page that has just appeared, so that nobody has to look for it. */
export function reveal(id) {
  const part = at(id);
  part.hidden = false;
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
  part.scrollIntoView({ block: 'nearest' });
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say('Copied.');
  } catch {
    warn('The browser does not let this page copy.', 'Mark the text and copy it by hand.');
  }
}

/** What a storage remembers under a name: set to `value`, removed with null, read without. Some browsers forbid it. */
export function remembered(storage, name, value) {
  try {
    const area = window[storage];
    if (value === null) area.removeItem(name);
    else if (value !== undefined) area.setItem(name, value);
    return area.getItem(name);
  } catch {
    return null;
  }
}

// ---- times ----------------------------------------------------------------------------------------------------------

const absolute = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short', hourCycle: 'h23' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const UNITS = [['day', 86_400], ['hour', 3600], ['minute', 60], ['second', 1]];

function distance(date) {
  const seconds = (date - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

/** A moment as a person says it; its distance from now is kept current by `tick`. */
export function moment(value) {
  if (value === null || value === undefined) return 'never';
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return String(value);
  const time = element('time', absolute.format(date), ' ', element('small', distance(date)));
  time.dateTime = date.toISOString();
  return time;
}

export function tick() {
  for (const time of document.querySelectorAll('time')) {
    time.querySelector('small').textContent = distance(new Date(time.dateTime));
  }
}

/** The end of a session: whichever of its two comes first. */
export function end(session) {
  const ends = [session?.idle_expires_at, session?.expires_at].filter(Boolean).map((text) => Date.parse(text));
  return ends.length > 0 ? Math.min(...ends) : null;
}

/** The end of an id, not to be torn from its dots at the end of a line. */
export const short = (id) => (id.length > 10 ? `…\u2060${id.slice(-6)}` : id);

// ---- words ----------------------------------------------------------------------------------------------------------

let silence;

function announce(kind, lines) {
  clearTimeout(silence);
  const status = at('status');
  status.dataset.kind = kind;
  status.replaceChildren(...lines.filter(Boolean).map((line) => element('p', line)));
  at('status-close').hidden = false;
}

export function say(text) {
  announce('good', [text]);
  silence = setTimeout(quiet, 6000);
}

/** Says what did not come to be, though nothing failed. */
export function warn(...lines) {
  announce('bad', lines);
}

/** What the client itself finds, said to a person; the server brings words of its own. */
const FOUND = {
  unreachable: 'The server cannot be reached. Is it running, and are you online?',
  timeout: 'The server takes too long.',
  storage_failed: 'The browser’s storage fails.',
  nobody: 'There is no guest here.',
  left: 'The guest who did this is not here any more.',
  cookies_blocked: 'The browser keeps no cookie of the server.',
  expired: 'The code is over: no device has asked.',
  guest_ended: 'This device does not open the guest any more: it was recovered or moved elsewhere, or erased.',
  outcome_unknown: 'It was sent too long ago to be sent again; it may have been counted.',
};

/** What went wrong: the sentence, and what may be added to it. */
export function words({ message, detail, code, field, status, retryAfter }) {
  const found = FOUND[code];
  const wait = retryAfter ? `Retry after ${Math.ceil(retryAfter / 1000)} s.` : '';
  const facts = [status || '', code, field && `field ${field}`].filter(Boolean).join(' · ');
  return [found ?? message, found ? '' : detail, wait, facts];
}

/** Says what went wrong. What is no `PasserbyError` is a fault of this page and goes to the console. */
export function complain(error, before = '') {
  if (error?.name !== 'PasserbyError') throw error;
  // That the guest has ended stands in the page.
  if (error.code === 'aborted' || error.ended) return;
  const [title, ...rest] = words(error);
  announce('bad', [before + title, ...rest]);
}

/** Something that passes is in the way; said until `passed` is. */
export function hold(error, ms) {
  const [title, , , facts] = words(error);
  announce('waiting', [title, facts, `Trying again in ${Math.max(1, Math.round(ms / 1000))} s. Nothing is lost, and nothing is counted twice.`]);
}

export function passed() {
  if (at('status').dataset.kind === 'waiting') quiet();
}

function quiet() {
  clearTimeout(silence);
  at('status').replaceChildren();
  delete at('status').dataset.kind;
  at('status-close').hidden = true;
}

let before = null;
at('status-close').addEventListener('focus', (event) => (before = event.relatedTarget ?? before));
at('status-close').addEventListener('click', () => {
  quiet();
  (before?.isConnected ? before : at('play')).focus({ preventScroll: true });
});

// ---- being sure -----------------------------------------------------------------------------------------------------

/** Asks in a dialog; the harmless answer comes first. */
export function sure({ title, text, yes, no }) {
  const dialog = at('ask');
  at('ask-title').textContent = title;
  at('ask-text').textContent = text;
  at('ask-yes').textContent = yes;
  at('ask-no').textContent = no;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}

at('ask-yes').addEventListener('click', () => at('ask').close('yes'));
at('ask-no').addEventListener('click', () => at('ask').close());
