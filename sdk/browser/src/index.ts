/**
 * Guests in the browser: made at the first need, kept by a device key, never replaced by a failure.
 *
 * @packageDocumentation
 */
export { createClient } from './client.js';
export type { Client, DeviceKeys, FetchOptions } from './client.js';
export type { DataClient } from './data.js';
export type { Environment } from './environment.js';
export { PasserbyError } from './error.js';
export type { Failure } from './error.js';
export type { Events } from './events.js';
export type { HandOff, Offer, Recovery, RecoveryCode, TakeOptions, Taking } from './hand-off.js';
export type { ClientOptions, GuestOptions, State, TokenOptions } from './options.js';
export type {
  Address,
  Data,
  DeviceKeyInfo,
  HandOffRequest,
  Identifier,
  IdentifierKind,
  Json,
  Mode,
  Operation,
  RecoveryStatus,
  Saved,
  Session,
  User,
} from './types.js';
