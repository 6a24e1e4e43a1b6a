//! Opening a store by its URL.

use std::{path::PathBuf, sync::Arc};

use passerby_core::port::Store;

/// When a group of waiting changes is closed and handed to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// When one turn of the event loop brought nothing more *and* the last group is on the disk: large groups and few
    /// commits, which is cheapest where one core does everything. A lone change waits for two turns, microseconds.
    #[default]
    WhenIdle,
    /// As soon as the last group is on the disk: shortest waits, where cores are to spare.
    WhenFree,
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// When a group is closed.
    pub close_groups: Grouping,
    /// SQLite: the file may grow to so many pages of 4 KiB, then writes answer `Full`. `None`: as large as the disk.
    /// Tests fill a disk with it.
    pub max_pages: Option<u32>,
}

/// Why a store could not be opened. Each is one sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The URL names no engine, or names it wrongly.
    #[error("the store's URL is wrong: {0}")]
    Url(String),
    /// Written by a newer program; going back would lose what it added.
    #[error("database is at version {found}, this program knows up to {known}; use a newer program")]
    Newer {
        /// The version of the database.
        found: i32,
        /// The newest version that this program can make.
        known: i32,
    },
    /// A migration that was applied is another one than this program has under the same number.
    #[error("migration {0} of the database differs from this program's; it was made by another build")]
    Changed(String),
    /// The file is something else.
    #[error("{} is not a database of this program", .0.display())]
    NotOurs(PathBuf),
    /// Somebody held the database for longer than was waited.
    #[error("{0} is locked by another process")]
    Locked(String),
    /// The folder is missing or may not be written.
    #[error("{} cannot be opened for writing: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The server did not answer, or refused us.
    #[error("the database server cannot be reached: {0}")]
    Unreachable(String),
    /// Anything else that the engine said.
    #[error("the store cannot be opened: {0}")]
    Failed(String),
}

/// Opens a store and brings its tables up to date; several processes may do so at once, one of them migrates.
///
/// - `sqlite:PATH` (also `sqlite://PATH`): a file, relative to the working directory. In memory is refused: what is
///   acknowledged must be on a disk.
/// - `postgres://…`, `postgresql://…`: a server that speaks PostgreSQL's protocol.
///
/// Must be called within a tokio runtime, on which the store's own task then runs.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") {
            return Err(OpenError::Url("a SQLite store is a file, for example \"sqlite:data/passerby.db\"".into()));
        }
        return crate::sqlite::open(PathBuf::from(path), options).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return crate::postgres::open(url, options).await;
    }
    // not echoed whole: it may hold a password
    let scheme = url.split(':').next().unwrap_or_default();
    Err(OpenError::Url(format!("{scheme:?} is no engine; write \"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\"")))
}
