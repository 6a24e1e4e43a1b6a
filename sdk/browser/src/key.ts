// The device key and its proofs (RFC 9449).

/** A key pair that stays in this browser: the private half cannot be exported. */
export interface DeviceKey {
  privateKey: CryptoKey;
  jwk: { kty: string; crv: string; x: string; y: string };
  /** RFC 7638, by which the server knows the key. */
  thumbprint: string;
}

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' };

function base64url(bytes: ArrayBuffer | Uint8Array): string {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}

const utf8 = (text: string) => new TextEncoder().encode(text);

async function sha256(crypto: Crypto, text: string): Promise<string> {
  return base64url(await crypto.subtle.digest('SHA-256', utf8(text)));
}

/** Chance as text: `bytes` times eight bits. */
export function random(crypto: Crypto | undefined, bytes = 18): string {
  // Whatever runs this has it; `crypto` is only missing where a test takes it away.
  return base64url((crypto ?? globalThis.crypto).getRandomValues(new Uint8Array(bytes)));
}

/** A new key. */
export async function makeKey(crypto: Crypto): Promise<DeviceKey> {
  const pair = await crypto.subtle.generateKey(CURVE, false, ['sign', 'verify']);
  const { kty, crv, x, y } = (await crypto.subtle.exportKey('jwk', pair.publicKey)) as DeviceKey['jwk'];
  // The members in the order that RFC 7638 wants.
  const thumbprint = await sha256(crypto, JSON.stringify({ crv, kty, x, y }));
  return { privateKey: pair.privateKey, jwk: { kty, crv, x, y }, thumbprint };
}

/** What a proof is for. */
export interface Proof {
  method: string;
  url: string;
  /** Seconds since 1970, by the server's clock. */
  iat: number;
  nonce?: string | undefined;
  /** The access token that is shown along with it. */
  token?: string | undefined;
}

/** The text of the `DPoP` header. */
export async function prove(crypto: Crypto, key: DeviceKey, proof: Proof): Promise<string> {
  const part = (value: object) => base64url(utf8(JSON.stringify(value)));
  const { origin, pathname } = new URL(proof.url);
  const text = `${part({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.jwk })}.${part({
    jti: random(crypto),
    htm: proof.method,
    htu: origin + pathname,
    iat: proof.iat,
    nonce: proof.nonce,
    ath: proof.token && (await sha256(crypto, proof.token)),
  })}`;
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key.privateKey, utf8(text));
  return `${text}.${base64url(signature)}`;
}
