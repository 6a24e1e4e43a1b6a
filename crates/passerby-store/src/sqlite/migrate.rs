//! Making the file and bringing its tables up to date.

use std::{path::Path, time::Duration};

use refinery::Migration;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::open::OpenError;

/// The numbers and names are those of the other engine's folder.
const FILES: &[(&str, &str)] = &[
    ("V1__guests", include_str!("../../migrations/sqlite/V1__guests.sql")),
    ("V2__coming_back", include_str!("../../migrations/sqlite/V2__coming_back.sql")),
    ("V3__accounts", include_str!("../../migrations/sqlite/V3__accounts.sql")),
];

/// "PsBy": tells our files from those of other programs.
const APPLICATION_ID: i64 = 0x5073_4279;

/// How long a statement waits for another process before it answers busy.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// A failed attempt: busy may be tried again, anything else is final.
pub(super) enum Attempt {
    Busy,
    Final(OpenError),
}

impl Attempt {
    fn from_engine(path: &Path, e: &rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase) => Self::Final(OpenError::NotOurs(path.into())),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::Final(OpenError::Unwritable { path: path.into(), reason: e.to_string() })
            }
            _ => Self::Final(OpenError::Failed(e.to_string())),
        }
    }
}

impl From<OpenError> for Attempt {
    fn from(e: OpenError) -> Self {
        Self::Final(e)
    }
}

/// Settings that every connection needs.
pub(super) fn every_connection(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    // The bundled SQLite has STAT4: without this promise a statement is planned anew whenever a parameter of its WHERE
    // was bound, which costs more than the read itself.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(128);
    db.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0")
}

/// Opens the writer's connection, makes the file where there is none, and migrates.
pub(super) fn writer(path: &Path, max_pages: Option<u32>) -> Result<Connection, Attempt> {
    let engine = |e: rusqlite::Error| Attempt::from_engine(path, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(engine)?;
    every_connection(&db).map_err(engine)?;
    // page size and auto_vacuum hold only when they come before the first page is written, here by the switch to WAL
    db.execute_batch("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL").map_err(engine)?;
    refuse_foreign(&db, path)?;
    db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).map_err(engine)?;
    db.execute_batch("PRAGMA synchronous=FULL; PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864")
        .map_err(engine)?;
    migrate(&db, path, &migrations()?)?;
    if let Some(pages) = max_pages {
        db.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(())).map_err(engine)?;
    }
    Ok(db)
}

fn migrations() -> Result<Vec<Migration>, OpenError> {
    FILES
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql).map_err(|e| OpenError::Failed(e.to_string())))
        .collect()
}

/// A file with tables of another program stays as it is.
fn refuse_foreign(db: &Connection, path: &Path) -> Result<(), Attempt> {
    let engine = |e: rusqlite::Error| Attempt::from_engine(path, &e);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(engine)?;
    let id: i64 = db.query_row("PRAGMA application_id", [], |r| r.get(0)).map_err(engine)?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(OpenError::NotOurs(path.into()).into());
    }
    Ok(())
}

/// Applies what is missing, in one exclusive transaction, so that of two processes that start at once the second waits
/// and finds everything done.
///
/// refinery's own runner opens a transaction for each of its steps and cannot be put inside ours; its parsing, order
/// and checksums are used, the steps themselves are these.
fn migrate(db: &Connection, path: &Path, known: &[Migration]) -> Result<(), Attempt> {
    let engine = |e: rusqlite::Error| Attempt::from_engine(path, &e);
    db.execute_batch("BEGIN EXCLUSIVE").map_err(engine)?;
    let done = apply(db, path, known);
    match &done {
        Ok(()) => db.execute_batch("COMMIT").map_err(engine)?,
        // the first error is the one to tell; a failed rollback ends with the connection
        Err(_) => drop(db.execute_batch("ROLLBACK")),
    }
    done
}

fn apply(db: &Connection, path: &Path, known: &[Migration]) -> Result<(), Attempt> {
    let engine = |e: rusqlite::Error| Attempt::from_engine(path, &e);
    // again, now under the lock
    refuse_foreign(db, path)?;
    let fresh: bool = db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0)).map_err(engine)?;
    if fresh {
        db.execute_batch(&format!(
            "PRAGMA application_id={APPLICATION_ID};
             CREATE TABLE schema_history(version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT"
        ))
        .map_err(engine)?;
    }
    let applied: Vec<(i32, String, String)> = db
        .prepare("SELECT version, name, checksum FROM schema_history ORDER BY version")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect())
        .map_err(engine)?;
    let newest = known.iter().map(Migration::version).max().unwrap_or(0);
    if let Some(&(found, ..)) = applied.last()
        && found > newest
    {
        return Err(OpenError::Newer { found, known: newest }.into());
    }
    for (version, name, checksum) in &applied {
        let same =
            known.iter().any(|m| m.version() == *version && m.name() == name && m.checksum().to_string() == *checksum);
        if !same {
            return Err(OpenError::Changed(format!("V{version}__{name}")).into());
        }
    }
    let mut missing: Vec<&Migration> = known.iter().filter(|m| !applied.iter().any(|a| a.0 == m.version())).collect();
    missing.sort();
    for m in missing {
        db.execute_batch(m.sql().unwrap_or_default()).map_err(engine)?;
        db.execute("INSERT INTO schema_history VALUES(?1, ?2, ?3)", (m.version(), m.name(), m.checksum().to_string()))
            .map_err(engine)?;
    }
    Ok(())
}
