//! Records of a tenant that belong to no user.

use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::{Record, RecordKind},
    port::{CommitError, RecordChange},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    error::Refused,
    rows::{text, time},
};

/// Makes changes one after the other; the first that does not fit refuses them all.
pub(super) fn change<'a>(
    db: &Connection,
    tenant: TenantNo,
    changes: impl IntoIterator<Item = &'a RecordChange>,
    at: Timestamp,
) -> Result<(), Refused> {
    for change in changes {
        if one(db, tenant, change, at)? == 0 {
            return Err(CommitError::Moved.into());
        }
    }
    Ok(())
}

/// How many rows it changed.
fn one(db: &Connection, tenant: TenantNo, change: &RecordChange, at: Timestamp) -> rusqlite::Result<usize> {
    match change {
        RecordChange::Put { record: Record { kind, id, revision, ends_at, body }, was: None } => db
            .prepare_cached(
                "INSERT INTO records(tenant,kind,id,revision,ends_at,body) VALUES(?1,?2,?3,?4,?5,?6)
                 ON CONFLICT(tenant,kind,id) DO UPDATE SET
                   revision=excluded.revision, ends_at=excluded.ends_at, body=excluded.body WHERE ends_at <= ?7",
            )?
            .execute(params![tenant.0, kind.number(), id, revision, ends_at.millis(), body, at.millis()]),
        RecordChange::Put { record: Record { kind, id, revision, ends_at, body }, was: Some(was) } => db
            .prepare_cached(
                "UPDATE records SET revision=?4, ends_at=?5, body=?6 WHERE tenant=?1 AND kind=?2 AND id=?3 AND revision=?7",
            )?
            .execute(params![tenant.0, kind.number(), id, revision, ends_at.millis(), body, was]),
        RecordChange::Remove { kind, id, was } => db
            .prepare_cached("DELETE FROM records WHERE tenant=?1 AND kind=?2 AND id=?3 AND revision=?4")?
            .execute((tenant.0, kind.number(), id, was)),
    }
}

fn row(row: &Row<'_>, kind: RecordKind) -> rusqlite::Result<Record> {
    Ok(Record { kind, id: row.get(0)?, revision: row.get(1)?, ends_at: time(row.get(2)?), body: text(row, 3)? })
}

/// A record, dead or alive.
pub(super) fn record(
    db: &Connection,
    tenant: TenantNo,
    kind: RecordKind,
    id: &[u8; 32],
) -> rusqlite::Result<Option<Record>> {
    db.prepare_cached("SELECT id, revision, ends_at, body FROM records WHERE tenant=?1 AND kind=?2 AND id=?3")?
        .query_row((tenant.0, kind.number(), id), |r| row(r, kind))
        .optional()
}

/// All records of a kind, by id.
pub(super) fn records(db: &Connection, tenant: TenantNo, kind: RecordKind) -> rusqlite::Result<Vec<Record>> {
    db.prepare_cached("SELECT id, revision, ends_at, body FROM records WHERE tenant=?1 AND kind=?2 ORDER BY id")?
        .query_map((tenant.0, kind.number()), |r| row(r, kind))?
        .collect()
}
