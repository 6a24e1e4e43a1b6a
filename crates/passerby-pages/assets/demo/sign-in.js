// Signing in to an account that was there before, by password, code or link.

import { client, isMember, me } from './client.js';
import { at, blame, once, onSubmit, remembered, reveal, say } from './page.js';
import { offer } from './merge.js';
import { prove } from './prove.js';
import { called } from './watch.js';

/** What goes on after a reload, in this tab only: the claim of a sign-in by code. It is worth nothing without the message. */
const KEPT = 'passerby-demo-sign-in';

const pairs = [['sign-in-email', 'sign-in-email-error'], ['sign-in-password', 'sign-in-password-error']];

function clear() {
  for (const [field, error] of pairs) blame(field, error);
  at('sign-in-told').hidden = true;
}

function tell(text) {
  at('sign-in-told').textContent = text;
  at('sign-in-told').hidden = false;
}

/** Leads to the form for an address. */
export function ask(email, text) {
  clear();
  at('sign-in').open = true;
  at('sign-in-email').value = email;
  tell(text);
  reveal('sign-in');
  at('sign-in-password').focus({ preventScroll: true });
}

/** The address that was typed; undefined when the field is blamed. */
function typed() {
  clear();
  const email = at('sign-in-email').value.trim();
  if (email) return email;
  blame('sign-in-email', 'sign-in-email-error', 'Type the e-mail address of your account.');
}

/** The account is here. */
async function arrived(signed) {
  remembered('sessionStorage', KEPT, null);
  at('sign-in-form').reset();
  clear();
  say(`You are ${called()} here, too: the same counter.`);
  if (signed.merge_ticket) offer(signed);
  else reveal('member');
}

/** Says at the field what is wrong with it. */
function refuse(error) {
  const why = error.detail || error.message;
  if (error.code === 'invalid_credentials') return blame('sign-in-password', 'sign-in-password-error', 'The address or the password is not right.');
  if (error.code === 'no_account') return blame('sign-in-email', 'sign-in-email-error', 'Nobody has an account with this address.');
  if (error.status !== 400 && error.status !== 422) throw error;
  if (error.field === '/password') blame('sign-in-password', 'sign-in-password-error', why);
  else blame('sign-in-email', 'sign-in-email-error', why);
}

async function byPassword() {
  const email = typed();
  if (!email) return;
  const password = at('sign-in-password').value;
  if (!password) return blame('sign-in-password', 'sign-in-password-error', 'Type the password, or have a code sent.');
  try {
    await arrived(await me.signIn({ email, password }));
  } catch (error) {
    refuse(error);
  }
}

function step(signing) {
  remembered('sessionStorage', KEPT, JSON.stringify(signing.claim));
  prove({
    claim: signing.claim,
    title: 'Sign in by a code',
    yes: 'Sign in',
    from: at('sign-in-email'),
    verify: ({ code }) => signing.verify(code),
    confirmed: signing.confirmed,
    cancel: async () => remembered('sessionStorage', KEPT, null),
    still: (user) => user?.kind !== 'regular',
    done: arrived,
    unknown(error) {
      remembered('sessionStorage', KEPT, null);
      at('sign-in').open = true;
      at('sign-in-email').value = signing.claim.value;
      refuse(error);
    },
  });
}

async function byCode() {
  const email = typed();
  if (!email) return;
  try {
    step(await me.signIn({ email }));
  } catch (error) {
    refuse(error);
  }
}

/** The answer is the same whether or not there is an account. */
async function forgot() {
  const email = typed();
  if (!email) return;
  try {
    await me.forgotPassword({ email });
    tell(`If ${email} has an account, a link to set a password is on its way.`);
  } catch (error) {
    refuse(error);
  }
}

/** A sign-in from before this page was loaded goes on. */
export function resume() {
  const kept = remembered('sessionStorage', KEPT);
  if (kept === null) return;
  const claim = JSON.parse(kept);
  if (isMember() || Date.parse(claim.expires_at) < Date.now()) remembered('sessionStorage', KEPT, null);
  else step(me.signingIn(claim));
}

export function signIn() {
  onSubmit('sign-in-form', 'sign-in-go', byPassword);
  once('sign-in-code', byCode);
  once('sign-in-forgot', forgot);
  let before = null;
  client.onChange(() => {
    const { status } = client.state;
    // At hand for nobody, and out of the way of a guest.
    if (before !== status) at('sign-in').open = status !== 'guest';
    before = status;
    at('sign-in').hidden = status === 'loading' || isMember();
  });
}
