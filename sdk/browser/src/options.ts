// What an app says to the client, and what it is told.

import type { PasserbyError } from './error.js';
import type { Data, Mode, User } from './types.js';

/** How a client is made. */
export interface ClientOptions {
  /** The client's id on the server. */
  clientId: string;
  /** The server (the issuer), with a path if it has one. Default: the page's origin. */
  baseUrl?: string;
  /** Tokens are bound to the device key, so that a copied one is of no use. Default: true. */
  bindTokens?: boolean;
  /** A name for this device in lists of keys, sessions and requests: at most 64 characters. */
  device?: string;
  /** Which audience the APIs want, by the prefix of their URLs; for {@link Client.fetch}. */
  apis?: Record<string, string | TokenOptions>;
  /** Milliseconds after which one attempt is given up. Default: 15000. */
  timeout?: number;
}

/** Which access token. */
export interface TokenOptions {
  /** The API it is for (RFC 8707). Default: the server itself. */
  audience?: string | undefined;
  /** Its scopes, separated by spaces. */
  scope?: string | undefined;
}

/** What {@link Client.guest} takes. */
export interface GuestOptions {
  /** The first data of a new guest. */
  data?: Data;
  /** Where a new guest came in, for the operator's funnel: at most 64 characters. */
  entry?: string;
  /** Forgets the guest that is here, living or ended, and makes a new one. */
  fresh?: boolean;
  /** Ends the waiting; whatever is on its way goes on. */
  signal?: AbortSignal;
}

/** What is known now. Never changed: a new one takes its place. */
export interface State {
  status: 'loading' | 'nobody' | 'guest' | 'ended';
  /** Known once the storage was looked at. */
  mode?: Mode;
  /** The guest; its data shows what is on its way, too. */
  user?: User;
  /** Changes that the server has not confirmed. */
  pending: number;
  /** Why the guest is no more. */
  ended?: PasserbyError;
}
