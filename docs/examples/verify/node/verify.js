// Checks Passerby's access tokens in an API on Node, with jose.
//
//   const verifier = await createVerifier({ issuer: 'https://id.example.com', audience: 'https://api.example.com', address: 'https://api.example.com' });
//   const claims = await verifier.check(request, { holder: 'member', scopes: ['write:cart'] }); // throws Refused

import { createHash } from 'node:crypto';

import { EmbeddedJWK, calculateJwkThumbprint, createRemoteJWKSet, errors, jwtVerify } from 'jose';

const ALGORITHMS = ['ES256', 'EdDSA', 'RS256'];
const LEEWAY = 10; // seconds by which the clocks of issuer and API may differ
const PROOF_AGE = 60; // seconds that a DPoP proof may be old, and the clock of a device ahead
const PROOFS = 100_000; // proofs remembered; more at a time are refused

/** Why a request is refused: the status, and the challenge for `WWW-Authenticate` where one is due. */
export class Refused extends Error {
  constructor(status, challenge, message) {
    super(message);
    Object.assign(this, { status, challenge });
  }
}

/**
 * @param {{ issuer: string, audience: string, address: string, epochs?: Epochs }} options `issuer` as it writes itself, a
 *   trailing slash counts; `address`: where clients reach this API, which DPoP proofs must name.
 */
export async function createVerifier({ issuer, audience, address, epochs }) {
  const response = await fetch(`${issuer.replace(/\/+$/, '')}/.well-known/openid-configuration`, { redirect: 'error' });
  const metadata = await response.json();
  if (metadata.issuer !== issuer) throw new Error(`the metadata is of another issuer: ${metadata.issuer}`);
  // fetched again after five minutes, and when a token names a key that is not held, at most every five seconds
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { cacheMaxAge: 300_000, cooldownDuration: 5_000 });
  const used = new Map();

  async function readToken(token, scheme) {
    const { payload: claims, protectedHeader } = await jwtVerify(token, keys, {
      issuer,
      audience,
      typ: 'at+jwt',
      algorithms: ALGORITHMS,
      clockTolerance: LEEWAY,
      maxTokenAge: '1d', // no token lives longer; with this jose refuses an `iat` in the future too
      requiredClaims: ['iss', 'sub', 'aud', 'exp', 'iat', 'jti', 'client_id'],
    }).catch((e) => {
      // an issuer that is away is no fault of the token
      const away = !(e instanceof errors.JOSEError) || ['ERR_JWKS_TIMEOUT', 'ERR_JOSE_GENERIC'].includes(e.code);
      throw away ? new Refused(503, undefined, 'the keys cannot be had') : new Refused(401, `${scheme} error="invalid_token"`, e.message);
    });
    // jose takes application/at+jwt too
    if (protectedHeader.typ !== 'at+jwt') throw new Refused(401, `${scheme} error="invalid_token"`, 'the token is no access token');
    return claims;
  }

  /** RFC 9449 section 4.3. */
  async function checkProof(request, token, thumbprint) {
    const refuse = (message) => {
      throw new Refused(401, `DPoP error="invalid_dpop_proof", algs="${ALGORITHMS.join(' ')}"`, message);
    };
    const proofs = request.headersDistinct.dpop ?? [];
    if (proofs.length !== 1) refuse('there must be one DPoP proof');
    const { payload: proof, protectedHeader } = await jwtVerify(proofs[0], EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ALGORITHMS,
      requiredClaims: ['jti', 'htm', 'htu', 'iat', 'ath'],
    }).catch((e) => refuse(e.message));
    if (protectedHeader.typ !== 'dpop+jwt') refuse('the DPoP proof is of another type');
    if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== thumbprint) refuse('the DPoP proof is of another key');
    if (proof.htm !== request.method) refuse('the DPoP proof is for another method');
    if (withoutQuery(proof.htu) !== withoutQuery(`${address}${request.url}`)) refuse('the DPoP proof is for another address');
    if (proof.ath !== createHash('sha256').update(token).digest('base64url')) refuse('the DPoP proof is for another token');
    const now = Date.now() / 1000;
    if (proof.iat < now - PROOF_AGE || proof.iat > now + PROOF_AGE) refuse('the DPoP proof is too old, or of the future');
    if (typeof proof.jti !== 'string' || !proof.jti || proof.jti.length > 256) refuse('the DPoP proof has no usable jti');
    // each is remembered for as long as it could be used; a Map keeps their order
    for (const [id, until] of used) {
      if (until >= now) break;
      used.delete(id);
    }
    const id = `${thumbprint} ${proof.jti}`;
    if (used.has(id)) refuse('the DPoP proof was used before');
    if (used.size >= PROOFS) throw new Refused(503, undefined, 'too many proofs at a time');
    used.set(id, now + 2 * PROOF_AGE + 1);
  }

  return {
    /**
     * The claims of a good token.
     *
     * @param {import('node:http').IncomingMessage} request
     * @param {{ holder?: 'user' | 'guest' | 'member', scopes?: string[] }} require whose token it must be, and its scopes
     */
    async check(request, { holder = 'user', scopes = [] } = {}) {
      const shown = request.headersDistinct.authorization ?? [];
      const [, name = '', token = ''] = /^(bearer|dpop) +(.*)$/i.exec(shown[0] ?? '') ?? [];
      if (!name) throw new Refused(401, `Bearer, DPoP algs="${ALGORITHMS.join(' ')}"`, 'an access token is needed');
      if (shown.length !== 1) throw new Refused(400, 'Bearer error="invalid_request"', 'there must be one Authorization header');
      const scheme = name.toLowerCase() === 'dpop' ? 'DPoP' : 'Bearer';
      const refuse = (status, error, message) => {
        throw new Refused(status, `${scheme} error="${error}"`, message);
      };

      const claims = await readToken(token, scheme);
      // a token that is bound to a key is good with that key's proof only, and no other token passes for one
      if (claims.cnf !== undefined || scheme === 'DPoP') {
        const bound = claims.cnf?.jkt;
        if (typeof bound !== 'string') refuse(401, 'invalid_token', 'the token is not bound to a key');
        if (scheme !== 'DPoP') throw new Refused(401, 'DPoP error="invalid_token"', 'the token is bound to a key');
        await checkProof(request, token, bound);
      }
      if (epochs?.isDead(claims)) refuse(401, 'invalid_token', 'the token was revoked');

      // without the mark it is neither a guest's nor a member's
      const held = { true: 'guest', false: 'member' }[typeof claims.is_anonymous === 'boolean' ? claims.is_anonymous : ''];
      if (!held || (holder !== 'user' && holder !== held)) refuse(403, 'insufficient_scope', `this is for a ${holder}`);
      const granted = typeof claims.scope === 'string' ? claims.scope.split(' ') : [];
      if (!scopes.every((scope) => granted.includes(scope))) refuse(403, 'insufficient_scope', 'a scope is missing');
      return claims;
    },
  };
}

function withoutQuery(text) {
  try {
    const { origin, pathname, username, password } = new URL(text);
    return username || password ? undefined : origin + pathname;
  } catch {
    return undefined;
  }
}

/** Follows the issuer's epoch feed: whose older tokens are dead. */
export class Epochs {
  #raised = new Map();

  /** @param {{ issuer: string, apiKey: string, interval?: number }} options seconds from one poll to the next */
  constructor({ issuer, apiKey, interval = 2 }) {
    const url = `${issuer.replace(/\/+$/, '')}/v1/epochs`;
    let cursor;
    const poll = async () => {
      const response = await fetch(cursor ? `${url}?since=${encodeURIComponent(cursor)}` : url, {
        headers: { accept: 'application/json', authorization: `Bearer ${apiKey}` },
        redirect: 'error',
        signal: AbortSignal.timeout(5_000),
      });
      if (!response.ok) {
        if (response.status === 400) cursor = undefined; // a cursor that is not known any more: from the beginning
        throw new Error(`the feed answers ${response.status}`);
      }
      const { epochs, cursor: next, more } = await response.json();
      // entries come out of order, and more than once; what is older than any token can be is forgotten
      for (const { user_id, epoch, at } of epochs) {
        const held = this.#raised.get(user_id)?.epoch ?? 0;
        this.#raised.set(user_id, { epoch: Math.max(epoch, held), at: Date.parse(at) });
      }
      for (const [user, { at }] of this.#raised) if (at < Date.now() - 86_520_000) this.#raised.delete(user);
      const moved = cursor !== next;
      cursor = next;
      if (more && moved) await poll(); // a page that was cut
    };
    // while the feed is away, tokens live as long as without it: to their `exp`
    const round = () => poll().catch((e) => console.error(`epochs: ${e.message}`)).finally(() => setTimeout(round, interval * 1000).unref());
    this.ready = round();
  }

  /** Whether the token was issued under an epoch that has ended. */
  isDead({ sub, sid, epoch = 0 }) {
    if (sid === undefined) return false; // a client's own token: its sub is no user's
    return [sub, sub.replace(/^anon[@|]/, '')].some((user) => epoch < (this.#raised.get(user)?.epoch ?? 0));
  }
}
