// The demo page: counts the views of a video for a guest nobody asked to register.
//
// Two rules carry it. A look makes nobody: the page only asks `GET /v1/me` until somebody acts. And a press counts once:
// each carries its own idempotency key and is sent again, under that key, until the server has answered.

import { call, decode, keepTrying, Problem, randomKey, wire } from './wire.js';

const clientId = document.querySelector('meta[name="passerby-client-id"]').content;
const at = (id) => document.getElementById(id);

/** Held by whatever makes or ends the guest, so that of two tabs pressing first only one makes it. */
const LOCK = 'passerby-demo-guest';
const tabs = new BroadcastChannel('passerby-demo');
/** A key of creation is remembered for ten minutes (a public client); an older one is not offered again. */
const KEY_LIFE = 9 * 60_000;
const CALLS_SHOWN = 6;

/** The user object, null when there is nobody, undefined before the first look. */
let user;
let etag = null;
let session = null;
/** Rises whenever somebody comes or goes: an answer asked for before that is out of date. */
let age = 0;
/** Presses not counted yet, oldest first: `{ key, guest }`, guest being the id of whoever pressed, if anybody was. */
const queue = [];
let delivering = false;
let creation = null;
/** Whose sessions and claims are on the page. */
let detailed = null;

// ---- what the server knows ------------------------------------------------------------------------------------------

function alone(work) {
  // Locks are missing where a phone opens the page over plain http; there a tab guards only itself.
  return navigator.locks ? navigator.locks.request(LOCK, work) : work();
}

const tellTabs = () => tabs.postMessage('changed');

/** Takes over what the server said about the user; what is older than what we have is passed over. */
function meet(found, tag) {
  if (user && user.id === found.id && found.version < user.version) return;
  if (user?.id !== found.id) {
    if (user) part();
    age += 1;
  }
  user = found;
  etag = tag ?? `"${found.version}"`;
  render();
}

function part() {
  if (user) {
    abandon(user.id);
    age += 1;
  }
  [user, etag, session, detailed] = [null, null, null, null];
  at('claims-body').replaceChildren();
  render();
}

/** A press belongs to whoever pressed: it is not counted for the next one. */
function abandon(guest) {
  const left = queue.filter((press) => press.guest !== guest);
  queue.splice(0, queue.length, ...left);
}

/** Asks who is there. Makes nobody. */
async function look() {
  const asked = age;
  try {
    const { body, headers } = await call('GET', '/v1/me');
    if (asked !== age) return;
    meet(body, headers.get('ETag'));
    await detail();
  } catch (problem) {
    if (asked !== age) return;
    if (problem.status === 401) part();
    else complain(problem);
  }
}

/** The guest, made if there is none. Called only for somebody who acts. */
function ensure() {
  return alone(async () => {
    try {
      const { body, headers } = await call('GET', '/v1/me');
      meet(body, headers.get('ETag'));
      return;
    } catch (problem) {
      if (problem.status !== 401) throw problem;
    }
    if (!creation || Date.now() - creation.at > KEY_LIFE) creation = { key: randomKey(), at: Date.now() };
    try {
      const { body } = await call('POST', '/v1/guests', {
        body: { client_id: clientId, session_type: 'cookie', entry: 'demo' },
        headers: { 'Idempotency-Key': creation.key },
      });
      creation = null;
      meet(body.user);
      session = body.session ?? null;
      say('Hello. You are a guest now, and nobody asked you to register.');
    } catch (problem) {
      if (!problem.passing) creation = null;
      throw problem;
    }
  });
}

// ---- counting -------------------------------------------------------------------------------------------------------

function press() {
  queue.push({ key: randomKey(), guest: user?.id ?? null });
  roll();
  render();
  deliver();
}

async function deliver() {
  if (delivering) return;
  delivering = true;
  while (queue.length > 0) {
    const [next] = queue;
    const still = () => queue[0] === next;
    try {
      await keepTrying(() => count(next), { still, waiting });
    } catch (problem) {
      // A press that is out of the queue left with its guest, which was said already.
      if (still()) {
        if (problem.status === 401) part();
        complain(problem, 'Not counted: ');
      }
    }
    if (still()) queue.shift();
    render();
  }
  delivering = false;
  detail();
}

async function count(next) {
  if (!user) await ensure();
  next.guest = user.id;
  const asked = age;
  const { body, headers } = await call('POST', '/v1/me/data/operations', {
    body: { operations: [{ op: 'increment', path: '/views', by: 1 }] },
    headers: { 'Idempotency-Key': next.key },
  });
  tellTabs();
  if (asked === age) await learn(body, headers.get('ETag'));
  if (at('status').dataset.kind === 'waiting') quiet();
}

/** Takes over `{ data, version }`, the answer to every change. The first one may be what stored the guest. */
async function learn({ data, version }, tag) {
  if (!user) return;
  const floated = !user.stored;
  meet({ ...user, data, version }, tag);
  if (floated) await look();
}

function waiting(problem, ms) {
  const seconds = Math.max(1, Math.round(ms / 1000));
  complain(problem, '', `Trying again in ${seconds} s; nothing is counted twice.`);
  at('status').dataset.kind = 'waiting';
}

// ---- sessions and claims --------------------------------------------------------------------------------------------

async function detail() {
  if (!user || detailed === user.id) return;
  detailed = user.id;
  // In this order: the answer with the token says which of the sessions is this browser's.
  await loadClaims();
  await loadSessions();
}

async function loadSessions() {
  try {
    const { body } = await call('GET', '/v1/me/sessions');
    if (!user) return;
    session ??= body.items.length === 1 ? body.items[0] : null;
    renderSessions(body.items);
    render();
  } catch (problem) {
    if (problem.status !== 401) complain(problem);
  }
}

/**
 * The cookie is shown and tokens are asked for: the same guest answers. Should the session have ended this very
 * moment, `persist: false` sees to it that a look still keeps nobody.
 */
async function loadClaims() {
  try {
    const { body } = await alone(() =>
      call('POST', '/v1/guests', { body: { client_id: clientId, session_type: 'tokens', persist: false } }),
    );
    if (body.created) return void look();
    if (body.user.id !== user?.id) return;
    const claims = decode(body.access_token);
    session = body.session ?? session;
    renderClaims(claims);
    render();
  } catch (problem) {
    if (problem.code === 'not_a_guest') renderClaims({ sub: user.id, is_anonymous: false });
    else if (problem.status !== 401) complain(problem);
  }
}

// ---- changing and leaving -------------------------------------------------------------------------------------------

async function save(event) {
  event.preventDefault();
  blame();
  const patch = at('profile').value.trim();
  if (patch === '') return blame('profile', 'Nothing to send yet: type a name or write a patch.');
  try {
    JSON.parse(patch);
  } catch (error) {
    return blame('profile', `Not JSON yet: ${error.message}`);
  }
  try {
    // The text goes as it was typed: numbers beyond what a script can hold are for the server to judge.
    const { body, headers } = await call('PATCH', '/v1/me/data', {
      body: patch,
      type: 'application/merge-patch+json',
      headers: { 'If-Match': etag },
    });
    tellTabs();
    at('profile').value = '';
    await learn(body, headers.get('ETag'));
    showName();
    say(`Saved: version ${body.version}.`);
  } catch (problem) {
    if (problem.status === 401) part();
    if (problem.status === 400 || problem.status === 409 || problem.status === 422) {
      blame(problem.field.startsWith('/display_name') ? 'display-name' : 'profile', problem.detail || problem.title);
    }
    if (problem.status === 412) await look();
    complain(problem, '', problem.status === 412 ? 'What is kept now is shown; save again if you still want to.' : '');
  }
}

/** Marks the field that is to blame and moves there; with no argument clears the marks. */
function blame(id, text = '') {
  for (const field of ['display-name', 'profile']) {
    const guilty = field === id;
    at(field).toggleAttribute('aria-invalid', guilty);
    if (guilty) at(field).setAttribute('aria-invalid', 'true');
    at(`${field}-error`).textContent = guilty ? text : '';
  }
  if (id) at(id).focus();
}

/** The name field writes its member into the patch, and reads it back when the patch is written by hand. */
function nameToPatch() {
  let patch = {};
  try {
    patch = JSON.parse(at('profile').value || '{}');
  } catch {
    return;
  }
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return;
  patch.display_name = at('display-name').value || null;
  at('profile').value = JSON.stringify(patch, null, 2);
  blame();
}

function patchToName() {
  blame();
  try {
    const name = JSON.parse(at('profile').value)?.display_name;
    if (typeof name === 'string' || name === null) at('display-name').value = name ?? '';
  } catch {
    // Half-typed JSON says nothing about the name.
  }
}

/** The display name, if the profile has one. */
function name() {
  const kept = user?.data?.display_name;
  return typeof kept === 'string' && kept !== '' ? kept : null;
}

/** Shows the kept name in its field, unless somebody is writing a patch. */
function showName() {
  if (document.activeElement !== at('display-name') && at('profile').value === '') at('display-name').value = name() ?? '';
}

async function leave(method, path, body, goodbye) {
  const lost = queue.length;
  try {
    await alone(async () => {
      await call(method, path, body === undefined ? {} : { body });
      part();
    });
  } catch (problem) {
    if (problem.status === 401) part();
    complain(problem);
    return;
  }
  tellTabs();
  at('play').focus({ preventScroll: true });
  scrollTo({ top: 0 });
  say(lost > 0 ? `${goodbye} Presses that had not been counted went with it: ${lost}.` : goodbye);
}

async function exportAll() {
  try {
    const { body } = await call('GET', '/v1/me/export');
    const url = URL.createObjectURL(new Blob([JSON.stringify(body, null, 2)], { type: 'application/json' }));
    const link = document.createElement('a');
    link.href = url;
    link.download = `passerby-${user.id.replace(/[^\w.-]/g, '_')}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    say(`Exported as ${link.download}.`);
  } catch (problem) {
    if (problem.status === 401) part();
    complain(problem);
  }
}

// ---- words ----------------------------------------------------------------------------------------------------------

let silence;

function announce(kind, lines) {
  clearTimeout(silence);
  const status = at('status');
  status.dataset.kind = kind;
  status.replaceChildren(...lines.filter(Boolean).map((line) => element('p', line)));
  at('status-close').hidden = false;
}

function say(text) {
  announce('good', [text]);
  silence = setTimeout(quiet, 6000);
}

function words({ title, detail, code, field, status, retryAfter }) {
  const wait = retryAfter === null ? '' : `Retry after ${Math.ceil(retryAfter / 1000)} s.`;
  const facts = [status || '', code, field && `field ${field}`].filter(Boolean).join(' · ');
  return [title, detail, wait, facts].filter(Boolean);
}

function complain(problem, before = '', after = '') {
  if (!(problem instanceof Problem)) throw problem;
  const [title, ...rest] = words(problem);
  announce('bad', [before + title, ...rest, after]);
}

function quiet() {
  clearTimeout(silence);
  at('status').replaceChildren();
  delete at('status').dataset.kind;
  at('status-close').hidden = true;
}

// ---- showing --------------------------------------------------------------------------------------------------------

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

const absolute = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short', hourCycle: 'h23' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const UNITS = [['day', 86_400], ['hour', 3600], ['minute', 60], ['second', 1]];

function distance(date) {
  const seconds = (date - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

/** A moment as a person says it; its distance from now is kept current by `tick`. */
function moment(value) {
  if (value === null || value === undefined) return 'never';
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return String(value);
  const time = element('time', absolute.format(date), ' ', element('small', distance(date)));
  time.dateTime = date.toISOString();
  return time;
}

function tick() {
  for (const time of document.querySelectorAll('time')) {
    time.querySelector('small').textContent = distance(new Date(time.dateTime));
  }
}

/** The end of a session: whichever of its two comes first. */
function end(of) {
  const ends = [of?.idle_expires_at, of?.expires_at].filter(Boolean).map((text) => Date.parse(text));
  return ends.length > 0 ? Math.min(...ends) : null;
}

const short = (id) => (id.length > 10 ? `…${id.slice(-6)}` : id);

function render() {
  const views = Number(user?.data?.views ?? 0);
  const named = name();
  const called = named ?? (user && `${user.kind === 'regular' ? 'User' : 'Guest'} ${short(user.id)}`);
  document.body.dataset.who = user ? 'somebody' : 'nobody';
  at('nobody').hidden = user !== null;
  at('somebody').hidden = !user;
  at('who-text').textContent = user === undefined ? 'Looking…' : (called ?? 'Nobody yet');
  at('tag').textContent = user ? (named ?? short(user.id)) : '?';
  if (at('views').value !== String(views)) at('views').value = String(views);
  at('views-word').textContent = views === 1 ? 'view' : 'views';
  at('views-whose').textContent = user ? `kept for ${called}` : 'by nobody yet: press play to be somebody';
  at('pending').hidden = queue.length === 0;
  at('pending').textContent = `+${queue.length} on the way`;
  if (!user) return;
  at('guest-id').textContent = user.id;
  at('guest-kind').textContent = user.kind;
  at('guest-stored').textContent = user.stored ? 'yes, it has a row' : 'no, it floats in its token';
  at('session-ends').replaceChildren(session ? moment(end(session)) : '…');
  at('guest-expires').replaceChildren(moment(user.expires_at));
  at('guest-created').replaceChildren(moment(user.created_at));
  at('guest-active').replaceChildren(moment(user.last_active_at));
  at('version').textContent = user.version;
  at('data').textContent = JSON.stringify(user.data ?? {}, null, 2);
  showName();
}

function renderSessions(items) {
  const here = session?.id;
  at('sessions').replaceChildren(
    ...items.map((item) => {
      const label = item.id === here ? 'This browser' : 'Session';
      const until = element('span', 'ends ', moment(end(item)));
      return element('li', element('strong', label), ' ', element('code', short(item.id)), ' ', until);
    }),
  );
}

const MEANING = {
  iss: 'who issued it', sub: 'whom it is about', aud: 'for whom it is', client_id: 'which app asked', sid: 'its session',
  iat: 'issued', nbf: 'not before', exp: 'expires', auth_time: 'signed in', jti: 'its own id', scope: 'what it allows',
  is_anonymous: 'a guest or not', epoch: 'older ones are dead', floating: 'nothing is stored', cnf: 'bound to a key',
};

function renderClaims(claims) {
  const row = ([claim, value]) => {
    const head = element('th', element('code', claim), element('small', MEANING[claim] ?? ''));
    head.scope = 'row';
    const time = ['iat', 'nbf', 'exp', 'auth_time'].includes(claim) && typeof value === 'number';
    const text = value === '' ? 'none' : typeof value === 'string' ? value : JSON.stringify(value);
    return element('tr', head, element('td', element('code', text), ...(time ? [moment(value * 1000)] : [])));
  };
  at('claims-body').replaceChildren(...Object.entries(claims).map(row));
}

function renderCall({ detail: { method, path, status, ms } }) {
  const mark = element('span', status === 0 ? 'no answer' : String(status));
  mark.className = `status-${status === 0 ? 'none' : Math.floor(status / 100)}`;
  const line = element('li', element('code', `${method} ${path}`), ' ', mark, ' ', element('small', `${Math.round(ms)} ms`));
  at('wire').prepend(line);
  while (at('wire').children.length > CALLS_SHOWN) at('wire').lastChild.remove();
}

/** Runs the film from its beginning. */
function roll() {
  const stage = at('stage');
  stage.classList.remove('playing');
  void stage.offsetWidth; // Without a layout in between, the animation would go on where it was.
  stage.classList.add('playing');
}

// ---- wiring ---------------------------------------------------------------------------------------------------------

/** One run at a time for a button that must not be pressed twice. */
function once(id, work) {
  let running = false;
  at(id).addEventListener('click', async () => {
    if (running) return;
    running = true;
    at(id).setAttribute('aria-busy', 'true');
    await work();
    at(id).removeAttribute('aria-busy');
    running = false;
  });
}

wire.addEventListener('call', renderCall);
tabs.addEventListener('message', look);
addEventListener('online', look);
addEventListener('pageshow', (event) => event.persisted && look());
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && look());
setInterval(tick, 15_000);

at('play').addEventListener('click', press);
at('fill').addEventListener('animationend', () => at('stage').classList.remove('playing'));
at('profile-form').addEventListener('submit', save);
at('display-name').addEventListener('input', nameToPatch);
at('profile').addEventListener('input', patchToName);
let before = null;
at('status-close').addEventListener('focus', (event) => (before = event.relatedTarget ?? before));
at('status-close').addEventListener('click', () => {
  quiet();
  (before?.isConnected ? before : at('play')).focus({ preventScroll: true });
});
once('claims-again', loadClaims);
once('export', exportAll);
once('forget', () => leave('POST', '/demo/forget', undefined, 'Cookie forgotten. To the server you are nobody again; the guest lives on until its time runs out.'));
once('logout', () => leave('POST', '/v1/logout', {}, 'Logged out. The session has ended.'));
at('erase').addEventListener('click', () => at('erase-dialog').showModal());
at('erase-cancel').addEventListener('click', () => at('erase-dialog').close());
once('erase-confirm', async () => {
  at('erase-dialog').close();
  await leave('DELETE', '/v1/me', undefined, 'Erased. Nothing about that guest is kept.');
});

render();
look();
