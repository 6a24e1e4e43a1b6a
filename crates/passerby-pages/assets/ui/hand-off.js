// The second device of a hand-off: asks with the code, shows two digits, and waits until the first device has confirmed.
// What it gets is the session cookie. Nothing is asked before somebody presses a button.

/** Milliseconds between two looks, of the first and the longest pause when something fails, and for one answer. */
const POLL = 2_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 15_000;
const PATIENCE = 15_000;
/** What goes on after a reload: in this tab only. */
const KEPT = 'passerby-hand-off';

const at = (id) => document.getElementById(id);
const PARTS = ['offered', 'typed', 'waiting', 'asking', 'done', 'failed', 'links-only'];
/** The issuer with a slash, also where it has a path or a tenant. */
const base = new URL('..', location.href);
const usual = document.querySelector('meta[name="passerby-client-id"]').content;

/** What is asked with: `{ client_id, code, id }`, and by `request` the same request when it is repeated. */
let asking = null;
/** Rises when it is given up, so that what was on its way is passed over. */
let turn = 0;

function show(part) {
  for (const id of PARTS) at(id).hidden = id !== part;
  const heading = at(part).querySelector('h1');
  document.title = heading.textContent;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

/** The tab's storage, which some browsers forbid. */
function kept(value) {
  try {
    if (value === null) sessionStorage.removeItem(KEPT);
    else if (value) sessionStorage.setItem(KEPT, JSON.stringify(value));
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

async function call(method, path, body, request) {
  const answer = await fetch(new URL(path, base), {
    method,
    credentials: 'same-origin',
    cache: 'no-store',
    redirect: 'error',
    signal: AbortSignal.timeout(PATIENCE),
    headers: { Accept: 'application/json', ...(body && { 'Content-Type': 'application/json' }), ...(request && { 'Idempotency-Key': request }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const json = /[/+]json/.test(answer.headers.get('Content-Type') ?? '');
  return { status: answer.status, headers: answer.headers, content: json ? await answer.json() : null };
}

function deviceName() {
  const agent = navigator.userAgent;
  const find = (list) => list.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = find([[/Edg/, 'Edge'], [/OPR/, 'Opera'], [/Firefox/, 'Firefox'], [/Chrom/, 'Chrome'], [/Safari/, 'Safari']]);
  const system = find([[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS/, 'macOS'], [/Linux/, 'Linux']]);
  return `${browser ?? 'A browser'} on ${system ?? 'something'}`;
}

// ---- asking ---------------------------------------------------------------------------------------------------------

/** A pause that ends early when the browser is online again. */
function pause(ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener('online', done);
  });
}

/** What to say where an answer is final. */
function verdict({ status, content }, waited, lost) {
  const code = content?.code;
  if (code === 'invalid_code' && lost) {
    return ['The answer got lost', 'The code was used, but the line dropped before this device had its answer. Make a new code on the other device.'];
  }
  if (code === 'invalid_code' && waited) {
    return ['Not let in', 'The other device withdrew the code, or its five minutes are over. Make a new code there.'];
  }
  if (code === 'invalid_code') {
    return ['This code does not work', 'It is mistyped, was used already, or its five minutes are over. Compare it with the other device, or make a new one there.'];
  }
  if (code === 'hand_off_cancelled') {
    return ['Cancelled, to be safe', 'More than one device asked with this code, so nobody gets in. That may also be this one, if the line dropped while it asked. Make a new code on the other device.'];
  }
  if (code === 'origin_not_allowed') {
    return ['Wrong address', 'The server does not know itself by the address in the address bar. Open the link as the other device shows it.'];
  }
  if (status === 401 || status === 403) {
    return ['This link is not for here', 'The server does not know the app that the link names, or it may not be used this way. Make a new code in the app.'];
  }
  return ['The server refused', [content?.title, content?.detail].filter(Boolean).join('. ') || `It said ${status}.`];
}

function later(headers) {
  const value = headers.get('Retry-After');
  return value && /^\d+$/.test(value) ? Number(value) * 1000 : null;
}

/** How long, as a person says it. */
function span(ms) {
  const seconds = Math.ceil(ms / 1000);
  if (seconds === 1) return 'a second';
  return seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
}

/** Says that something passes is in the way, beside the digits if there are some. */
function hold(text) {
  const part = asking.id ? 'waiting' : 'asking';
  at(asking.id ? 'waiting-for' : 'asking-why').textContent = text;
  if (at(part).hidden) show(part);
}

/** Asks until there is a verdict. */
async function ask() {
  const mine = (turn += 1);
  // No answer came to what may have been heard.
  let lost = false;
  let failures = 0;
  // An answer that gets lost is given again to who asks as before.
  asking.request ??= Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  hold(asking.id ? 'Waiting for the other device…' : 'One moment.');
  for (;;) {
    let answer = null;
    try {
      const { client_id, code, id, request } = asking;
      const body = { client_id, code, id, device: deviceName(), session_type: 'cookie' };
      answer = await call('POST', 'v1/guests/hand-off', body, request);
    } catch {
      // Without an answer, as below.
    }
    if (mine !== turn) return;
    const { status, content, headers } = answer ?? { status: 0 };
    if (status === 200 && content?.status === 'waiting') {
      failures = 0;
      asking.id = content.id;
      kept(asking);
      at('check').value = content.check;
      at('waiting-for').textContent = 'Waiting for the other device…';
      if (at('waiting').hidden) show('waiting');
      await pause(POLL);
    } else if (status === 200 && content?.user) {
      return arrived(mine);
    } else if (status === 0 || status >= 500 || (status === 429 && asking.id)) {
      lost ||= status === 0;
      const ms = Math.max(Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures), (headers && later(headers)) ?? 0);
      failures += 1;
      hold(`${status === 0 ? 'The server cannot be reached' : 'The server is busy'}; trying again in ${span(ms)}.`);
      await pause(ms);
    } else if (status === 429) {
      return fail('Too many wrong codes', `Somebody in your network typed too many. Try again in ${span(later(headers) ?? 600_000)}.`);
    } else {
      if (lost && asking.id && content?.code === 'invalid_code' && (await whoIsHere()) !== asking.before) return arrived(mine);
      if (mine !== turn) return;
      const verdicts = verdict(answer, !!asking.id, lost && !!asking.id);
      // An app that the server does not know is not asked for again.
      if (status === 401 || status === 403) asking.client_id = usual;
      return fail(...verdicts);
    }
    if (mine !== turn) return;
  }
}

/** The guest's answer is here; whether its cookie stayed shows only when it is used. */
async function arrived(mine) {
  const { status } = await call('GET', 'v1/me').catch(() => ({ status: 0 }));
  if (mine !== turn) return;
  kept(null);
  if (status === 401) return fail('This browser keeps no cookies', 'It was let in, but the browser threw the session away. Allow cookies for this address, then make a new code.');
  asking = null;
  show('done');
}

function fail(title, why) {
  turn += 1;
  kept(null);
  at('failed-title').textContent = title;
  at('failed-why').textContent = why;
  at('again').textContent = clientId() ? 'Type a code' : 'Start again';
  show('failed');
}

// ---- beginning ------------------------------------------------------------------------------------------------------

const clientId = () => asking?.client_id || usual;

/** The id of whoever is signed in here; null for nobody, undefined where the server did not say. */
async function whoIsHere() {
  const { status, content } = await call('GET', 'v1/me').catch(() => ({ status: 0 }));
  return status === 200 ? content.id : status === 401 ? null : undefined;
}

/** Somebody who would be left behind is named before anything is asked. */
async function warn(part) {
  const here = await whoIsHere();
  if (asking) asking.before = here;
  at(part).hidden = !here;
  at(part).textContent = here ? `This browser is signed in as somebody already (…\u2060${here.slice(-6)}), who would be left behind here.` : '';
}

function begin() {
  const { code, client_id: client } = asking;
  at('code').value = code ?? '';
  at('code-error').textContent = '';
  at('code').removeAttribute('aria-invalid');
  if (code && client) {
    at('offered-code').textContent = code;
    show('offered');
    warn('offered-replaces');
  } else if (client) {
    show('typed');
    warn('typed-replaces');
  } else {
    show('links-only');
  }
}

/** Takes what the link says and removes it from the address bar. */
function read() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(null, '', location.pathname + location.search);
  const before = kept();
  turn += 1;
  if (!link.has('code') && before?.id) {
    asking = before;
    ask();
    return;
  }
  kept(null);
  asking = { client_id: link.get('client_id') || usual, code: link.get('code')?.trim().slice(0, 64) || undefined };
  begin();
}

/** Back to the beginning, with the code typed by hand. */
function restart() {
  turn += 1;
  kept(null);
  asking = { client_id: clientId() };
  begin();
}

at('offered-go').addEventListener('click', ask);
at('again').addEventListener('click', restart);
at('cancel').addEventListener('click', restart);
at('asking-cancel').addEventListener('click', restart);
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const code = at('code').value.trim();
  if (!code) {
    at('code-error').textContent = 'Type the code that the other device shows.';
    at('code').setAttribute('aria-invalid', 'true');
    at('code').focus();
    return;
  }
  asking.code = code;
  ask();
});
addEventListener('hashchange', () => location.hash && read());
read();
