// The step that proves an address: by the code in a message, or by the link that is in it, too.

import { client } from './client.js';
import { at, blame, complain, once, onSubmit, reveal, warn } from './page.js';

/** The step that is shown. */
let step = null;

/** What is over once the link was confirmed. */
const PARTS = ['prove-code-part', 'prove-waiting'];

/**
 * Shows the step for a claim. `verify({ code, password })` proves it, without a code once `confirmed(options)` has
 * resolved; where that gives an answer, the link was all it took. `done` gets the answer. `still` says whether the step
 * is for whoever is here now; `unknown` says that the address, though proven, is nobody's.
 */
export function prove(asked) {
  close();
  const mine = { ...asked, stop: new AbortController(), linked: false };
  step = mine;
  at('prove-title').textContent = asked.title;
  at('prove-to').textContent = asked.claim.value;
  at('prove-mailbox').href = `/dev/mailbox?to=${encodeURIComponent(asked.claim.value)}`;
  at('prove-check').value = asked.claim.check;
  at('prove-go').textContent = asked.yes;
  at('prove-password-part').hidden = !asked.password;
  for (const part of PARTS) at(part).hidden = false;
  at('prove-linked').hidden = true;
  reveal('prove');
  at('prove-code').focus({ preventScroll: true });
  follow(mine);
}

/** Takes the step away; what was typed goes with it. */
function close() {
  step?.stop.abort();
  step = null;
  at('prove').hidden = true;
  at('prove-form').reset();
  blame('prove-code', 'prove-error');
  blame('prove-password', 'prove-password-error');
}

/** Waits for the link. */
async function follow(mine) {
  try {
    const answer = await mine.confirmed({ signal: mine.stop.signal });
    if (step !== mine) return;
    if (answer) return await finish(mine, answer);
    mine.linked = true;
    blame('prove-code', 'prove-error');
    for (const part of PARTS) at(part).hidden = true;
    at('prove-linked').hidden = false;
    if (mine.password) return reveal('prove');
    await finish(mine, await mine.verify({}));
  } catch (error) {
    if (step === mine) fail(mine, error);
  }
}

function fail(mine, error) {
  if (error.code === 'aborted' || error.ended) return;
  if (error.code === 'no_account') {
    close();
    return mine.unknown(error);
  }
  // The claim is over: by its time, by a newer one, or by what was proven in another tab.
  if (error.code === 'not_found' || error.code === 'expired') {
    close();
    return warn('That took too long.', 'The code and the link are over. Ask for new ones.');
  }
  complain(error);
}

async function finish(mine, answer) {
  if (step === mine) close();
  await mine.done(answer);
}

async function submit() {
  const mine = step;
  blame('prove-code', 'prove-error');
  blame('prove-password', 'prove-password-error');
  const code = at('prove-code').value.replace(/\D/g, '');
  const password = mine.password ? at('prove-password').value : '';
  if (!mine.linked && !code) return blame('prove-code', 'prove-error', 'Type the six digits of the message.');
  try {
    const proof = { ...(!mine.linked && { code }), ...(password && { password }) };
    await finish(mine, await mine.verify(proof));
  } catch (error) {
    if (error.code === 'invalid_code') return blame('prove-code', 'prove-error', error.detail || error.message);
    if (error.field === '/password') return blame('prove-password', 'prove-password-error', error.detail || error.message);
    if (step !== mine) throw error;
    fail(mine, error);
  }
}

async function cancel() {
  const mine = step;
  close();
  mine.from.focus({ preventScroll: true });
  await mine.cancel();
}

export function proving() {
  onSubmit('prove-form', 'prove-go', submit);
  once('prove-cancel', cancel);
  client.onChange(() => step && !step.still(client.state.user) && close());
}
