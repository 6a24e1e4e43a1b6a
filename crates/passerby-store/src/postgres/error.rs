//! What the server and the driver say, in the words of the port.

use std::{error::Error as _, io};

use deadpool_postgres::PoolError;
use passerby_core::port::{CommitError, StoreError};
use tokio_postgres::Error;

/// Why a change was not made: a decision of the port, or the server.
#[derive(Debug)]
pub(super) enum Refused {
    /// The answer.
    Commit(CommitError),
    /// The server or the way to it.
    Engine(Error),
}

impl From<CommitError> for Refused {
    fn from(e: CommitError) -> Self {
        Self::Commit(e)
    }
}

impl From<Error> for Refused {
    fn from(e: Error) -> Self {
        Self::Engine(e)
    }
}

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone; whether a commit under way was made is not known.
    Lost,
    /// Rolled back for the sake of another transaction: the same again may well succeed.
    Again,
    /// The outbox's next number of a user was taken by somebody else: the same again may well succeed.
    Numbered,
    /// A row that must be unique is there already.
    Taken,
    /// One row's contents cannot be stored; others can.
    Row,
    /// Not just now.
    Unavailable,
    /// No room.
    Full,
    /// A fault of ours.
    Bug,
}

/// Sorts an error of the driver. Codes: appendix A of PostgreSQL's manual.
pub(super) fn trouble(e: &Error) -> Trouble {
    let Some(db) = e.as_db_error() else {
        let io = e.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
        // the driver's own time-out has neither a cause nor a question of its own
        let timed_out = e.source().is_none() && e.to_string().starts_with("timeout");
        return if e.is_closed() || io || timed_out { Trouble::Lost } else { Trouble::Bug };
    };
    let code = db.code().code();
    match (code, &code[..2]) {
        ("40001" | "40P01", _) => Trouble::Again,
        ("23505", _) if db.constraint() == Some("outbox_pkey") => Trouble::Numbered,
        ("23505", _) => Trouble::Taken,
        ("53100", _) => Trouble::Full,
        // shut down, crashed, starting up, idle for too long in a transaction; CockroachDB's "result is ambiguous"
        ("57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "40003", _) | (_, "08") => Trouble::Lost,
        // cancelled by a time-out, a lock not given in time, read-only after a failover; a statement that was prepared
        // before the tables changed or behind a pooler that forgot it: gone with its connection
        ("57014" | "55P03" | "25006" | "26000" | "3D000", _) | (_, "53" | "58" | "28") => Trouble::Unavailable,
        ("0A000", _) if db.message().starts_with("cached plan") => Trouble::Unavailable,
        // bytes that text cannot hold, numbers out of range, a value that is too large
        (_, "22" | "54") => Trouble::Row,
        _ => Trouble::Bug,
    }
}

/// One line for the log and the operator. The details of the server's errors hold values of rows, so they stay out.
pub(super) fn describe(e: &Error) -> String {
    match (e.as_db_error(), e.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(cause)) => format!("{e}: {cause}"),
        (None, None) => e.to_string(),
    }
}

/// The port's word for an error.
pub(super) fn store_error(e: &Error) -> StoreError {
    match trouble(e) {
        Trouble::Full => StoreError::Full,
        Trouble::Lost | Trouble::Again | Trouble::Numbered | Trouble::Unavailable => {
            StoreError::Unavailable(describe(e))
        }
        Trouble::Taken | Trouble::Row | Trouble::Bug => StoreError::Bug(describe(e)),
    }
}

/// The port's word for a pool that gave no connection.
pub(super) fn pool_error(e: &PoolError) -> StoreError {
    match e {
        PoolError::Backend(e) => StoreError::Unavailable(describe(e)),
        PoolError::Closed => closed(),
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// The answer of a store that was closed.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

/// The answer when the server keeps silent.
pub(super) fn silent() -> StoreError {
    StoreError::Unavailable("the database server did not answer in time".into())
}
