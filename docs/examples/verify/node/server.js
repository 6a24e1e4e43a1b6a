// A small API: GET /cart for guests and members with read:cart, GET /orders for members.

import { createServer } from 'node:http';

import { Epochs, Refused, createVerifier } from './verify.js';

const { ISSUER, AUDIENCE, ADDRESS, EPOCHS_KEY, LISTEN = '127.0.0.1:8090' } = process.env;
const [host, port] = LISTEN.split(':');

const epochs = EPOCHS_KEY ? new Epochs({ issuer: ISSUER, apiKey: EPOCHS_KEY }) : undefined;
await epochs?.ready;
const verifier = await createVerifier({ issuer: ISSUER, audience: AUDIENCE, address: ADDRESS ?? `http://${LISTEN}`, epochs });

const routes = {
  '/cart': { holder: 'user', scopes: ['read:cart'] },
  '/orders': { holder: 'member', scopes: ['read:cart'] },
};

createServer(async (request, response) => {
  const answer = (status, headers, body) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  try {
    const rule = routes[request.url.split('?')[0]];
    if (!rule || request.method !== 'GET') return answer(404, {}, {});
    const { sub, is_anonymous } = await verifier.check(request, rule);
    answer(200, {}, { subject: sub, guest: is_anonymous });
  } catch (e) {
    if (!(e instanceof Refused)) {
      console.error(e);
      return answer(500, {}, {});
    }
    answer(e.status, e.challenge ? { 'www-authenticate': e.challenge } : {}, { detail: e.message });
  }
}).listen(Number(port), host);
