//! Records of a tenant that belong to no user.

use deadpool_postgres::{ClientWrapper, Pool};
use futures_util::future::{try_join, try_join_all};
use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::{Record, RecordKind},
    port::{CommitError, RecordChange, StoreError},
};
use tokio_postgres::{Error, Row, Statement};

use super::{
    acts::{Done, Scene, least},
    error::Refused,
    inserts,
    rows::{ask, bytes, get, time},
};
use crate::plan::in_order;

/// The statements that change records; each changes one row, or none where it does not fit.
pub(super) struct Statements {
    put_new: Statement,
    put: Statement,
    remove: Statement,
}

impl Statements {
    pub(super) async fn of(scene: Scene<'_>) -> Result<Self, Refused> {
        let [put_new, put, remove] = scene
            .prepare([
                "INSERT INTO records(tenant, kind, id, revision, ends_at, body) VALUES($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (tenant, kind, id) DO UPDATE SET
                   revision = excluded.revision, ends_at = excluded.ends_at, body = excluded.body
                 WHERE records.ends_at <= $7",
                "UPDATE records SET revision=$4, ends_at=$5, body=$6 WHERE tenant=$1 AND kind=$2 AND id=$3 AND revision=$7",
                "DELETE FROM records WHERE tenant=$1 AND kind=$2 AND id=$3 AND revision=$4",
            ])
            .await?;
        Ok(Self { put_new, put, remove })
    }

    /// How many rows it changed.
    pub(super) async fn change(
        &self,
        db: &ClientWrapper,
        tenant: TenantNo,
        change: &RecordChange,
        at: Timestamp,
    ) -> Result<u64, Error> {
        let t = &tenant.0;
        match change {
            RecordChange::Put { record: Record { kind, id, revision, ends_at, body }, was } => {
                let (kind, id, ends_at, body, at) =
                    (&kind.number(), &&id[..], &ends_at.millis(), &&**body, &at.millis());
                match was {
                    None => db.execute(&self.put_new, &[t, kind, id, revision, ends_at, body, at]).await,
                    Some(was) => db.execute(&self.put, &[t, kind, id, revision, ends_at, body, was]).await,
                }
            }
            RecordChange::Remove { kind, id, was } => {
                db.execute(&self.remove, &[t, &kind.number(), &&id[..], was]).await
            }
        }
    }
}

/// Changes records alone: one statement where it is one and nothing goes along, else two round trips.
pub(super) async fn change(scene: Scene<'_>, changes: &[RecordChange]) -> Done {
    let Scene { db, tenant, at, begun, out } = scene;
    let statements = &Statements::of(scene).await?;
    let all = in_order(changes).into_iter().map(|change| statements.change(db, tenant, change, at));
    let alone = changes.len() == 1 && !begun && out.is_none();
    let ((), changed) = try_join(inserts::begin(db, begun || alone), try_join_all(all)).await?;
    Scene { begun: !alone, ..scene }.end_if(least(&changed), CommitError::Moved).await
}

fn row(row: &Row, kind: RecordKind) -> Result<Record, StoreError> {
    Ok(Record {
        kind,
        id: bytes(row, 0)?,
        revision: get(row, 1)?,
        ends_at: time(get(row, 2)?),
        body: get::<&str>(row, 3)?.into(),
    })
}

/// A record, dead or alive.
pub(super) async fn record(
    pool: &Pool,
    tenant: TenantNo,
    kind: RecordKind,
    id: [u8; 32],
) -> Result<Option<Record>, StoreError> {
    let sql = "SELECT id, revision, ends_at, body FROM records WHERE tenant=$1 AND kind=$2 AND id=$3";
    let rows = ask(pool, sql, &[&tenant.0, &kind.number(), &&id[..]]).await?;
    rows.first().map(|r| row(r, kind)).transpose()
}

/// All records of a kind, by id.
pub(super) async fn records(pool: &Pool, tenant: TenantNo, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
    let sql = "SELECT id, revision, ends_at, body FROM records WHERE tenant=$1 AND kind=$2 ORDER BY id";
    ask(pool, sql, &[&tenant.0, &kind.number()]).await?.iter().map(|r| row(r, kind)).collect()
}
