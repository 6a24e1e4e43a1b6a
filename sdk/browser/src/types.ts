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
  /** Of a regular user: by what they are known, and when they became one. */
  identifiers?: Identifier[];
  converted_at?: string;
}

/** What somebody is known by. */
export type IdentifierKind = 'email' | 'phone' | 'username';

/** An identifier to claim or to sign in with: one of them. */
export type Address = { email: string } | { phone: string } | { username: string };

/** An identifier that is somebody's. */
export interface Identifier {
  id: string;
  kind: IdentifierKind | 'external_id';
  /** As it was typed. */
  value: string;
  /** Since when it is theirs. */
  verified_at: string;
}

/** An identifier that is not proven yet, or a sign-in by code or link. */
export interface Claim {
  id: string;
  kind: IdentifierKind;
  value: string;
  expires_at: string;
  /** Two digits that the page of the link shows, too. */
  check: string;
  created_at?: string;
  /** The link was confirmed. */
  proven?: boolean;
}

/** Identifiers and claims of whoever is here, and whether there is a password. */
export interface Identifiers {
  items: Identifier[];
  claims: Claim[];
  password: boolean;
}

/** Two values at one place. */
export interface MergeConflict {
  path: string;
  guest: Json;
  account: Json;
  kept: 'guest' | 'account' | 'both';
}

/** What a merge would make. */
export interface MergePreview {
  guest: { id: string; data: Data };
  account: { id: string; data: Data };
  /** The outcome. */
  data: Data;
  conflicts: MergeConflict[];
  /** There are more conflicts than are listed. */
  more: boolean;
  /** The version of the policies. */
  policy: string;
}

/** A guest's move into an account. */
export interface Transfer {
  id: string;
  /** `pending`: the application has not confirmed yet that it moved its own things. */
  state: 'pending' | 'done' | 'undone';
  guest_id: string;
  account_id: string;
  created_at: string;
  /** Until then it can be taken back; null: not at all. */
  undo_until: string | null;
  receipt: string;
}

/** The answer to a merge. */
export interface Merged {
  /** A signed JWT that says what was moved. */
  receipt: string;
  transfer: Transfer;
  user: User;
}

/** The answer to a merge that was taken back. */
export interface Undone {
  transfer: Transfer;
  /** What was written since and stays as it is, with what was there before the merge and what is there now. */
  conflicts: { path: string; before?: Json; now?: Json }[];
  /** There are more conflicts than are listed. */
  more: boolean;
  /** The guest, who is again. */
  guest?: { user: User };
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
