// What is in an access token.

import { client } from './client.js';
import { at, element, moment, once } from './page.js';

const MEANING = {
  iss: 'who issued it', sub: 'whom it is about', aud: 'for whom it is', client_id: 'which app asked', sid: 'its session',
  iat: 'issued', nbf: 'not before', exp: 'expires', auth_time: 'signed in', jti: 'its own id', scope: 'what it allows',
  is_anonymous: 'a guest or not', epoch: 'older ones are dead', floating: 'nothing is stored', cnf: 'bound to a key',
};
const TIMES = ['iat', 'nbf', 'exp', 'auth_time'];

/** The payload of a signed token, to be looked at: nothing is verified, that is the business of who receives it. */
function decode(token) {
  const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
  const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

async function look() {
  const claims = decode(await client.token());
  const row = ([claim, value]) => {
    const head = element('th', element('code', claim), element('small', MEANING[claim] ?? ''));
    head.scope = 'row';
    const time = TIMES.includes(claim) && typeof value === 'number';
    const text = value === '' ? 'none' : typeof value === 'string' ? value : JSON.stringify(value);
    return element('tr', head, element('td', element('code', text), ...(time ? [moment(value * 1000)] : [])));
  };
  at('claims-body').replaceChildren(...Object.entries(claims).map(row));
  at('claims').hidden = false;
  at('claims-again').textContent = 'Look again';
  at('claims-bound').textContent = claims.cnf
    ? 'It is bound to this device’s key: copied, it is of no use to anybody.'
    : 'It is bound to no key, as this browser has none.';
}

export function token() {
  once('claims-again', look);
  client.on('guest', () => {
    at('claims').hidden = true;
    at('claims-bound').textContent = '';
    at('claims-body').replaceChildren();
  });
}
