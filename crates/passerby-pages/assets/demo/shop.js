// A cart on another server, which knows the guest by nothing but the access token.

import { ask, CART, CART_AUDIENCE, client, isGuest } from './client.js';
import { at, complain, element, remembered } from './page.js';

/** The cart answered here before; then it is looked into without being asked. */
const KNOWN = 'passerby-demo-cart';
const SCOPE = 'read:cart write:cart';

function render({ holder, items }) {
  at('cart').replaceChildren(...items.map(({ sku, quantity }) => element('li', element('span', sku), element('strong', `× ${quantity}`))));
  const things = items.reduce((sum, { quantity }) => sum + quantity, 0);
  at('shop-status').textContent = `The shop sees a ${holder} with ${things === 1 ? 'one thing' : `${things} things`} in the cart.`;
  remembered('localStorage', KNOWN, CART);
}

/** What it means when it does not work, in words. */
function explain(error) {
  if (error.code !== 'unreachable') throw error;
  remembered('localStorage', KNOWN, null);
  at('cart').replaceChildren();
  at('shop-status').replaceChildren(
    `The shop at ${CART} does not answer: is it running, and may this page call it? Start it with `,
    element('code', `cargo run -p passerby-cart -- --issuer ${location.origin}`),
    ', or with ',
    element('code', './dev'),
    ', which does.',
  );
}

const call = (method, path, body) =>
  ask(method, CART + path, { audience: CART_AUDIENCE, scope: SCOPE, ...(body && { body }) });

async function look() {
  try {
    render(await call('GET', '/cart'));
  } catch (error) {
    explain(error);
  }
}

async function put(sku) {
  try {
    render(await call('POST', '/cart/items', { sku, quantity: 1 }));
  } catch (error) {
    explain(error);
  }
}

export async function loadCart() {
  if (isGuest() && remembered('localStorage', KNOWN) === CART) await look();
}

export function shop() {
  at('shop-address').textContent = CART;
  const run = async (button, act) => {
    if (button.hasAttribute('aria-busy')) return;
    button.setAttribute('aria-busy', 'true');
    await act().catch(complain).finally(() => button.removeAttribute('aria-busy'));
  };
  for (const button of document.querySelectorAll('[data-sku]')) {
    button.addEventListener('click', () => run(button, () => put(button.dataset.sku)));
  }
  at('shop-look').addEventListener('click', () => run(at('shop-look'), look));
  client.on('guest', (user) => user || at('cart').replaceChildren());
}
