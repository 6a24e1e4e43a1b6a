// What goes wrong, in the server's words (RFC 9457) or in ours.

/** The members of a {@link PasserbyError}, as plain data that can be stored and sent to other tabs. */
export interface Failure {
  /** One line for a person. */
  message: string;
  /** The HTTP status; 0 when there was no answer. */
  status?: number;
  /** The server's stable word, or one of ours. */
  code?: string;
  /** What the server adds to the message. */
  detail?: string;
  /** The member or header to blame, as the server names it. */
  field?: string;
  /** Milliseconds that the server asks to wait. */
  retryAfter?: number | null;
  /** The guest of this device is no more. */
  ended?: boolean;
}

/** Ours that may pass; with the server's it is the status that tells. */
const PASSING = ['unreachable', 'timeout', 'storage_failed'];

/** The one error of this package. */
export class PasserbyError extends Error {
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /**
   * The server's stable word (`too_many_requests`, …), or `unreachable`, `timeout`, `aborted`, `storage_failed`,
   * `nobody`, `left`, `has_guest`, `cookies_blocked`, `expired`, `foreign_url`, `invalid_operation`,
   * `outcome_unknown`; empty when whatever answered was not the server.
   */
  readonly code: string;
  /** What the server adds to the message; may be empty. */
  readonly detail: string;
  /** The member or header to blame; may be empty. */
  readonly field: string;
  /** Milliseconds that the server asks to wait, or null. */
  readonly retryAfter: number | null;
  /** The guest of this device is no more: only `guest({ fresh: true })` or `logout()` goes on from here. */
  readonly ended: boolean;

  constructor(failure: Failure) {
    super(failure.message);
    this.name = 'PasserbyError';
    this.status = failure.status ?? 0;
    this.code = failure.code ?? '';
    this.detail = failure.detail ?? '';
    this.field = failure.field ?? '';
    this.retryAfter = failure.retryAfter ?? null;
    this.ended = failure.ended ?? false;
  }

  /** The same request may fare better in a while. */
  get temporary(): boolean {
    const { status, code } = this;
    // An answer without a code is not the server's: a hotel's login page, a proxy, a firewall. It decides nothing.
    return status === 0 ? PASSING.includes(code) : !code || status === 408 || status === 429 || status >= 500;
  }
}

/** The error's members, as plain data. */
export function plain(error: PasserbyError): Failure {
  const { message, status, code, detail, field, ended } = error;
  return { message, status, code, detail, field, ended };
}

/** Whatever the server knows nothing of any more is gone. */
export function gone(error: PasserbyError): void {
  if (error.status !== 401 && error.status !== 404) throw error;
}

/** One of ours. */
export function problem(code: string, detail = ''): PasserbyError {
  return new PasserbyError({ code, message: `Passerby: ${code}`, detail });
}
