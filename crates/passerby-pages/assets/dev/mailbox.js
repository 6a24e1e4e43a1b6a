// The mailbox of development: asks for the messages every two seconds while the page is seen, and shows those that are new.
// What a message says is put in as text, never as HTML.

const POLL = 2_000;
const PATIENCE = 10_000;

const at = (id) => document.getElementById(id);
const letters = at('letters');
const when = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** Messages that are shown, by id: they never change. */
const shown = new Map();
let asked = 0;
let timer;

function card(message) {
  const item = at('letter').content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(name);
  part('h2').textContent = message.subject || 'Short message';
  part('.channel').textContent = message.channel === 'sms' ? 'short message' : 'mail';
  part('.to').textContent = message.to;
  part('time').dateTime = message.at;
  part('time').textContent = when.format(new Date(message.at));
  part('.text').textContent = message.text;
  for (const code of message.codes) {
    const output = document.createElement('output');
    output.textContent = code;
    const copy = document.createElement('button');
    copy.type = 'button';
    copy.className = 'button small';
    copy.textContent = 'Copy the code';
    copy.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(code);
        copy.textContent = 'Copied';
      } catch {
        copy.textContent = 'Your browser does not let this page copy';
      }
    });
    part('.codes').append(output, copy);
    part('.codes').hidden = false;
  }
  for (const link of message.links) {
    const anchor = document.createElement('a');
    anchor.textContent = link;
    // nothing but a page is opened from here
    if (/^https?:/.test(link)) anchor.href = link;
    part('.links').append(anchor);
    part('.links').hidden = false;
  }
  if (message.html) {
    part('.html').textContent = message.html;
    part('details').hidden = false;
  }
  return item;
}

function show(messages) {
  const ids = new Set(messages.map((message) => message.id));
  for (const [id, item] of shown) {
    if (ids.has(id)) continue;
    item.remove();
    shown.delete(id);
  }
  messages.forEach((message, n) => {
    const item = shown.get(message.id) ?? card(message);
    shown.set(message.id, item);
    if (letters.children[n] !== item) letters.insertBefore(item, letters.children[n] ?? null);
  });
}

function say(text) {
  if (at('state').textContent !== text) at('state').textContent = text;
}

async function look() {
  clearTimeout(timer);
  const turn = ++asked;
  const to = at('to').value.trim();
  try {
    const query = to ? `?${new URLSearchParams({ to })}` : '';
    const answer = await fetch(`mailbox/messages${query}`, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const messages = await answer.json();
    if (turn !== asked) return;
    show(messages);
    const count = messages.length === 1 ? 'One message' : `${messages.length} messages`;
    say(messages.length ? `${count}${to ? ` to ${to}` : ''}.` : `Nothing yet${to ? ` to ${to}` : ''}. This page looks again by itself.`);
  } catch (error) {
    if (turn !== asked) return;
    say(`The messages could not be read: ${error.message}. This page tries again.`);
  }
  timer = setTimeout(look, POLL);
}

at('to').value = new URLSearchParams(location.search).get('to') ?? '';
at('to').addEventListener('input', look);
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  look();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    clearTimeout(timer);
    asked += 1;
  } else look();
});
look();
