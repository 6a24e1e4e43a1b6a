//! What the server has stored, read behind its back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use passerby_testkit::postgres::connect;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::process::parent;

const COUNT: &str = "SELECT count(*) FROM users";

/// A database of the server that is measured.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file in the server's folder.
    Sqlite(PathBuf),
    /// With the number of PostgreSQL's first process, when it runs on this machine.
    Postgres { url: String, pid: Option<u32> },
}

impl Database {
    /// A new file in a folder.
    pub(crate) fn file(folder: &TempDir) -> Self {
        Self::Sqlite(folder.path().join("passerby.db"))
    }

    /// One that exists.
    pub(crate) async fn postgres(url: String) -> anyhow::Result<Self> {
        let client = connect(&url).await.context("the database does not answer")?;
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await?;
        let back_end = row.get::<_, i32>(0).unsigned_abs();
        // a server elsewhere may have the number of any process of ours
        let name = fs::read_to_string(format!("/proc/{back_end}/comm")).unwrap_or_default();
        let pid = if name.trim().starts_with("postgres") { parent(back_end) } else { None };
        Ok(Self::Postgres { url, pid })
    }

    /// As `--database` wants it.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres { pid, .. } => *pid,
        }
    }

    /// Stored users, and bytes on the disk with the log folded in.
    pub(crate) async fn stored(&self) -> anyhow::Result<(u64, u64)> {
        match self {
            Self::Sqlite(path) => file(path),
            Self::Postgres { url, .. } => {
                let client = connect(url).await?;
                let number = |row: &tokio_postgres::Row| row.get::<_, i64>(0).unsigned_abs();
                let rows = number(&client.query_one(COUNT, &[]).await?);
                let bytes = number(&client.query_one("SELECT pg_database_size(current_database())", &[]).await?);
                Ok((rows, bytes))
            }
        }
    }
}

fn file(path: &Path) -> anyhow::Result<(u64, u64)> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(20))?;
    let rows = db.query_row(COUNT, [], |r| r.get::<_, i64>(0))?.unsigned_abs();
    let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0))?;
    ensure!(busy == 0, "the log cannot be folded into the database: somebody reads or writes");
    Ok((rows, fs::metadata(path)?.len()))
}
