// Keeping: a guest becomes somebody, and somebody has one more address.

import { client, isGuest, isMember, me } from './client.js';
import { at, blame, onSubmit, reveal, say } from './page.js';
import { offer } from './merge.js';
import { loadMember } from './member.js';
import { prove } from './prove.js';
import { ask as askToSignIn } from './sign-in.js';

/** Shows the step that proves what was claimed for whoever is here. */
function step(keeping) {
  const { id, kind } = client.state.user;
  const guest = kind === 'anonymous';
  prove({
    ...keeping,
    title: guest ? 'Is this address yours?' : 'Is this address yours, too?',
    yes: guest ? 'Keep my progress' : 'Add the address',
    password: guest,
    from: at(guest ? 'keep-email' : 'add-email'),
    still: (user) => user?.id === id && user.kind === kind,
    done: (kept) => become(kept, keeping.claim.value),
  });
}

async function become(kept, email) {
  at('keep-form').reset();
  at('add-form').reset();
  if (kept.outcome === 'merge_required') return offer(kept);
  if (kept.outcome === 'sign_in_required') return askToSignIn(email, 'This address has an account, which asks for more than a code.');
  await loadMember();
  reveal('member');
  if (kept.outcome === 'added') say(`${email} is yours, too.`);
  else say(`You are ${email} now: the same id, the same counter.`);
}

/** Claims the address in one of the two forms. */
async function claim(field, error) {
  blame(field, error);
  const email = at(field).value.trim();
  if (!email) return blame(field, error, 'Type an e-mail address.');
  try {
    step(await me.keep({ email }));
  } catch (refused) {
    if (refused.status !== 400 && refused.status !== 422) throw refused;
    blame(field, error, refused.detail || refused.message);
  }
}

/** A claim from before this page was loaded goes on. */
export async function loadClaims() {
  if (!isGuest()) return;
  const { id } = client.state.user;
  const { claims } = await me.identifiers();
  if (client.state.user?.id !== id || claims.length === 0 || !at('prove').hidden) return;
  step(await me.keeping(claims[0]));
}

export function keep() {
  onSubmit('keep-form', 'keep-go', () => claim('keep-email', 'keep-error'));
  onSubmit('add-form', 'add-go', () => claim('add-email', 'add-error'));
  client.onChange(() => {
    at('account').hidden = !isGuest();
    at('keep').hidden = isMember();
  });
}
