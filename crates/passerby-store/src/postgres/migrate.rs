//! Bringing the tables up to date, one process at a time.

use std::time::Duration;

use refinery::{Migration, Runner, error::Kind};
use tokio::time::timeout;
use tokio_postgres::{Client, error::SqlState};

use super::{
    connect::Connector,
    error::{Trouble, describe, silent, trouble},
};
use crate::open::OpenError;

/// The numbers and names are those of the other engine's folder.
const FILES: &[(&str, &str)] = &[
    ("V1__guests", include_str!("../../migrations/postgres/V1__guests.sql")),
    ("V2__coming_back", include_str!("../../migrations/postgres/V2__coming_back.sql")),
    ("V3__accounts", include_str!("../../migrations/postgres/V3__accounts.sql")),
];

/// "passerby" in ASCII: whoever migrates holds this advisory lock.
const LOCK: i64 = 0x7061_7373_6572_6279;

/// How long one waits for another process that migrates.
const PATIENCE: &str = "60s";

/// The oldest version that the statements are written for.
const OLDEST: i32 = 130_000;

const REACH: Duration = Duration::from_secs(10);

/// Makes and changes tables as far as it is needed.
pub(super) async fn run(connector: &Connector) -> Result<(), OpenError> {
    let (mut db, connection) = match timeout(REACH, connector.bare()).await {
        Ok(Ok(made)) => made,
        Ok(Err(e)) => return Err(OpenError::Unreachable(describe(&e))),
        Err(_) => return Err(OpenError::Unreachable(silent().to_string())),
    };
    let migrated = locked(&mut db).await;
    // the lock goes with the connection
    drop(db);
    let _ = connection.await;
    migrated
}

fn failed(e: &tokio_postgres::Error) -> OpenError {
    match trouble(e) {
        Trouble::Lost => OpenError::Unreachable(describe(e)),
        _ => OpenError::Failed(describe(e)),
    }
}

async fn locked(db: &mut Client) -> Result<(), OpenError> {
    look_at(db).await?;
    db.batch_execute(&format!("SET statement_timeout = 0; SET lock_timeout = '{PATIENCE}'"))
        .await
        .map_err(|e| failed(&e))?;
    match db.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await {
        Ok(_) => {}
        Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            return Err(OpenError::Locked("the database".into()));
        }
        Err(e) if matches!(e.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED | &SqlState::UNDEFINED_FUNCTION)) => {
            tracing::warn!("this engine has no advisory locks: start one process alone after each new version");
        }
        Err(e) => return Err(failed(&e)),
    }
    apply(db, &migrations()?).await
}

/// Looks whether what is acknowledged will be on a disk.
async fn look_at(db: &Client) -> Result<(), OpenError> {
    let version: String = db.query_one("SHOW server_version_num", &[]).await.map_err(|e| failed(&e))?.get(0);
    if version.parse::<i32>().is_ok_and(|v| v < OLDEST) {
        return Err(OpenError::Failed(format!("the server is older than PostgreSQL 13 ({version})")));
    }
    for setting in ["fsync", "synchronous_commit"] {
        // engines that only speak the protocol may not have it
        let Ok(row) = db.query_one(&format!("SHOW {setting}"), &[]).await else { continue };
        if row.try_get::<_, String>(0).is_ok_and(|value| value == "off") {
            tracing::warn!(
                setting,
                "is off on the database server: what is acknowledged may be lost when its machine fails"
            );
        }
    }
    Ok(())
}

fn migrations() -> Result<Vec<Migration>, OpenError> {
    FILES
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql).map_err(|e| OpenError::Failed(e.to_string())))
        .collect()
}

async fn apply(db: &mut Client, known: &[Migration]) -> Result<(), OpenError> {
    let newest = known.iter().map(Migration::version).max().unwrap_or(0);
    let runner = Runner::new(known);
    let Err(e) = runner.run_async(db).await else { return Ok(()) };
    Err(match e.kind() {
        // another one may be higher still
        Kind::MissingVersion(m) if m.version() > newest => {
            let last = runner.get_last_applied_migration_async(db).await.ok().flatten();
            OpenError::Newer { found: last.map_or(m.version(), |m| m.version()), known: newest }
        }
        Kind::MissingVersion(m) | Kind::DivergentVersion(m, _) => OpenError::Changed(m.to_string()),
        Kind::Connection(what, cause) => match cause.downcast_ref::<tokio_postgres::Error>() {
            Some(e) => OpenError::Failed(format!("{what}: {}", describe(e))),
            None => OpenError::Failed(format!("{what}: {cause}")),
        },
        other => OpenError::Failed(other.to_string()),
    })
}
