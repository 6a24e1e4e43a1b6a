//! What SQLite says, in the words of the port.

use passerby_core::port::{CommitError, StoreError};
use rusqlite::{Error, ErrorCode, ffi};

/// Why one change of a group was not made: a decision of the port, or the engine itself.
#[derive(Debug)]
pub(super) enum Refused {
    /// Answered to this change alone.
    Commit(CommitError),
    /// The engine; whether it sinks the group depends on what it said.
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

/// A row that must be unique is there already.
pub(super) fn is_taken(e: &Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::ConstraintViolation))
        && matches!(
            e.sqlite_error().map(|e| e.extended_code),
            Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_ROWID)
        )
}

/// The port's word for an error of the engine.
pub(super) fn store_error(e: &Error) -> StoreError {
    let extended = e.sqlite_error().map_or(0, |e| e.extended_code);
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        // the engine itself turns ENOSPC into `DiskFull`; a quota reached, or no room for the log's index, comes as these
        Some(ErrorCode::SystemIoFailure) if matches!(extended, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) => {
            StoreError::Full
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreError::Unavailable(e.to_string()),
        _ => StoreError::Bug(e.to_string()),
    }
}

/// The answer of a store that was closed, or whose writer is gone.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
