// What goes over the wire, under the names it has there.

/** Anything that JSON can say. Integers beyond 2^53 lose digits in JavaScript, although the server keeps them. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A guest's data: one object. */
export type Data = { [name: string]: Json };

/** The user object of the server; more members may come. */
export interface User {
  id: string;
  kind: 'anonymous' | 'regular';
  /** What the guest keeps; in what the client hands out, with the changes that are still on their way. */
  data: Data;
  version: number;
  created_at: string;
  last_active_at: string;
  expires_at: string | null;
  stored: boolean;
}

/** A session of the guest, as the server tells it. */
export interface Session {
  id: string;
  idle_expires_at: string;
  expires_at: string;
}

/** How this browser proves who it is. */
export type Mode = 'device-key' | 'cookie';

/** One change, as it is sent. `path` is a JSON pointer (RFC 6901). */
export type Operation =
  | { op: 'set' | 'add_to_set' | 'remove_from_set' | 'append' | 'test'; path: string; value: Json }
  | { op: 'min' | 'max'; path: string; value: number }
  | { op: 'increment'; path: string; by: number }
  | { op: 'unset'; path: string };

/** The data as the server has it after a change. */
export interface Saved {
  data: Data;
  version: number;
}

/** A device that asked with a hand-off code. */
export interface HandOffRequest {
  id: string;
  /** The name that the device gave itself, if any. */
  device: string | null;
  /** Two digits that both devices show. */
  check: string;
  asked_at: string;
  mode: 'share' | 'move';
  expires_at: string;
}

/** A device key of the guest. */
export interface DeviceKeyInfo {
  thumbprint: string;
  name: string | null;
  created_at: string;
  last_used_at: string | null;
  client_id: string;
  /** It is the key of this device. */
  current: boolean;
}

/** What is known of the guest's recovery code. */
export interface RecoveryStatus {
  /** When the code was made; null when there is none. */
  created_at: string | null;
  /** Somebody used the code and waits; `recoveryCode.cancel()` stops them. */
  pending: { id: string; device: string | null; asked_at: string; ready_at: string } | null;
}

/** The answer to whatever makes, resumes or refreshes. */
export interface GuestAnswer {
  created: boolean;
  user: User;
  session: Session;
  access_token?: string;
  token_type?: 'Bearer' | 'DPoP';
  expires_in?: number;
  refresh_token?: string | undefined;
  recovery_code?: string;
}
