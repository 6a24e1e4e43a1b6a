// What the client tells.

import type { PasserbyError } from './error.js';
import type { Data, Mode, Operation, User } from './types.js';

/** The events by name, with what their listeners get. */
export interface Events {
  /** Somebody came (the guest), or left (null). */
  guest: User | null;
  /** The data after a change, here or in another tab. */
  data: Data;
  /** The guest is no more. */
  ended: PasserbyError;
  /** The server refused a change that was queued; it is taken back. */
  refused: { operations: Operation[]; error: PasserbyError };
  /** Something failed that may pass, and is tried again after `ms`. */
  retry: { error: PasserbyError; ms: number };
  /** How this browser proves who it is; `reason` says why it is not by key. */
  mode: { mode: Mode; reason?: string };
  /** A request to the server ended; status 0: without an answer. */
  call: { method: string; url: string; status: number; ms: number };
  /** What is known changed; {@link Client.onChange} is the way to it. */
  change: void;
}

/** Hands out events; a listener that throws disturbs nobody else. */
export class Emitter {
  #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(event as never);
      } catch (error) {
        // As a listener of the platform's would: reported, and nobody's failure but its own.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
