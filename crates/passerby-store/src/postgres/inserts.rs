//! Statements that several acts share. Each waits for nothing before its first poll sends it, so that those polled
//! together travel together.

use std::{future::ready, pin::Pin};

use deadpool_postgres::ClientWrapper;
use futures_util::future::Either;
use passerby_core::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{EpochRow, Item, LookUp, NewGuest, Session, User},
};
use tokio_postgres::{Error, Statement};
use uuid::Uuid;

/// `NULL` where `time` is what it stands for.
fn unless(time: Timestamp, default: Timestamp) -> Option<i64> {
    (time != default).then(|| time.millis())
}

/// A statement that is sent when it is first polled: how many rows it changed.
pub(super) type Sent<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// Says `BEGIN`, unless that was said.
pub(super) fn begin(db: &ClientWrapper, begun: bool) -> impl Future<Output = Result<(), Error>> {
    if begun { Either::Left(ready(Ok(()))) } else { Either::Right(db.batch_execute("BEGIN")) }
}

/// Says `COMMIT`, where a transaction was begun.
pub(super) fn commit(db: &ClientWrapper, begun: bool) -> impl Future<Output = Result<(), Error>> {
    if begun { Either::Right(db.batch_execute("COMMIT")) } else { Either::Left(ready(Ok(()))) }
}

/// A user's row; refused with a unique violation when it is there.
pub(super) const USER: &str =
    "INSERT INTO users(tenant, user_id, client, created_at, version, epoch, kind, data, entry,
    updated_at, chosen_by, chosen_id, server_data, held, converted_at, merged_into, frozen)
    VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
/// A user's row, unless it is there.
pub(super) const USER_UNLESS_THERE: &str =
    "INSERT INTO users(tenant, user_id, client, created_at, version, epoch, kind, data,
    entry, updated_at, chosen_by, chosen_id, server_data, held, converted_at, merged_into, frozen)
    VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ON CONFLICT (tenant, user_id) DO NOTHING";

/// Runs [`USER`] or [`USER_UNLESS_THERE`].
pub(super) async fn user(db: &ClientWrapper, sql: &Statement, tenant: TenantNo, user: &User) -> Result<u64, Error> {
    db.execute(
        sql,
        &[
            &tenant.0,
            &user.id.uuid(),
            &user.client.0,
            &user.created_at.millis(),
            &user.version,
            &user.epoch,
            &user.kind.number(),
            &&*user.data,
            &user.entry.as_deref(),
            &unless(user.updated_at, user.created_at),
            &user.chosen_by.map(|c| c.0),
            &user.chosen_id.as_deref(),
            &user.server_data.as_deref(),
            &user.held.then_some(true),
            &user.converted_at.map(Timestamp::millis),
            &user.merged_into.map(UserId::uuid),
            &user.frozen.then_some(true),
        ],
    )
    .await
}

/// A session's row; refused with a unique violation when it is there.
pub(super) const SESSION: &str = "INSERT INTO sessions(tenant, user_id, id, client, created_at, generation, kind,
    has_denied_tokens, active_at, rotated_at, ended_at, late_generation, parent, metadata, key, bound)
    VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
/// A session's row, unless it is there.
pub(super) const SESSION_UNLESS_THERE: &str =
    "INSERT INTO sessions(tenant, user_id, id, client, created_at, generation, kind,
    has_denied_tokens, active_at, rotated_at, ended_at, late_generation, parent, metadata, key, bound)
    VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT (tenant, user_id, id) DO NOTHING";

/// Runs [`SESSION`] or [`SESSION_UNLESS_THERE`].
pub(super) async fn session(
    db: &ClientWrapper,
    sql: &Statement,
    tenant: TenantNo,
    user: UserId,
    session: &Session,
) -> Result<u64, Error> {
    db.execute(
        sql,
        &[
            &tenant.0,
            &user.uuid(),
            &session.id.uuid(),
            &session.client.0,
            &session.created_at.millis(),
            &session.generation,
            &session.kind.number(),
            &session.has_denied_tokens,
            &unless(session.active_at, session.created_at),
            &session.rotated_at.map(Timestamp::millis),
            &session.ended_at.map(Timestamp::millis),
            &session.late_generation,
            &session.parent.map(SessionId::uuid),
            &session.metadata.as_deref(),
            &session.key.as_ref().map(|key| &key[..]),
            &session.bound.then_some(true),
        ],
    )
    .await
}

/// A look-up row; refused with a unique violation when one is there, dead or alive.
pub(super) const LOOK_UP: &str =
    "INSERT INTO look_ups(tenant, kind, hash, user_id, session_id, body, ends_at) VALUES($1, $2, $3, $4, $5, $6, $7)";
/// A look-up row, unless there is one alive at `$8`.
pub(super) const LOOK_UP_UNLESS_ALIVE: &str =
    "INSERT INTO look_ups(tenant, kind, hash, user_id, session_id, body, ends_at) VALUES($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (tenant, kind, hash) DO UPDATE SET user_id = excluded.user_id, session_id = excluded.session_id,
    body = excluded.body, ends_at = excluded.ends_at WHERE look_ups.ends_at <= $8";

/// Runs [`LOOK_UP`], or [`LOOK_UP_UNLESS_ALIVE`] when a moment is given.
pub(super) async fn look_up(
    db: &ClientWrapper,
    sql: &Statement,
    tenant: TenantNo,
    row: &LookUp,
    at: Option<Timestamp>,
) -> Result<u64, Error> {
    let at = at.map(Timestamp::millis);
    let (user, session): (Uuid, Uuid) = (row.user.uuid(), row.session.uuid());
    let (kind, ends_at) = (row.kind.number(), row.ends_at.millis());
    let (hash, body) = (&row.hash[..], &row.body[..]);
    match &at {
        None => db.execute(sql, &[&tenant.0, &kind, &hash, &user, &session, &body, &ends_at]).await,
        Some(at) => db.execute(sql, &[&tenant.0, &kind, &hash, &user, &session, &body, &ends_at, at]).await,
    }
}

/// Marks an id; an earlier mark is only ever made longer.
pub(super) const MARK: &str = "INSERT INTO marks(tenant, user_id, id, ends_at) VALUES($1, $2, $3, $4)
    ON CONFLICT (tenant, user_id, id) DO UPDATE SET ends_at = greatest(marks.ends_at, excluded.ends_at)";

/// Runs [`MARK`].
pub(super) async fn mark(
    db: &ClientWrapper,
    sql: &Statement,
    tenant: TenantNo,
    user: UserId,
    id: [u8; 16],
    until: Timestamp,
) -> Result<u64, Error> {
    db.execute(sql, &[&tenant.0, &user.uuid(), &Uuid::from_bytes(id), &until.millis()]).await
}

/// An item, whatever is there.
pub(super) const ITEM: &str = "INSERT INTO items(tenant, user_id, ends_at, revision, kind, id, body)
    VALUES($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, user_id, kind, id) DO UPDATE SET
    ends_at = excluded.ends_at, revision = excluded.revision, body = excluded.body";

/// Runs [`ITEM`].
pub(super) async fn item(
    db: &ClientWrapper,
    sql: &Statement,
    tenant: TenantNo,
    user: UserId,
    item: &Item,
) -> Result<u64, Error> {
    let (kind, id, body) = (item.kind.number(), &item.id[..], &*item.body);
    db.execute(sql, &[&tenant.0, &user.uuid(), &item.ends_at.millis(), &item.revision, &kind, &id, &body]).await
}

/// A raised epoch; of two in one second the greater one counts.
pub(super) const EPOCH: &str = "INSERT INTO epochs(tenant, at, user_id, epoch, chosen_id) VALUES($1, $2, $3, $4, $5)
    ON CONFLICT (tenant, at, user_id) DO UPDATE SET epoch = greatest(epochs.epoch, excluded.epoch)";

/// Runs [`EPOCH`].
pub(super) async fn epoch(db: &ClientWrapper, sql: &Statement, row: &EpochRow) -> Result<u64, Error> {
    let (at, user) = (row.at.millis(), row.user.uuid());
    db.execute(sql, &[&row.tenant.0, &at, &user, &row.epoch, &row.chosen_id.as_deref()]).await
}

/// The statements of a new guest's own rows.
pub(super) struct NewRows {
    pub(super) user: Statement,
    pub(super) session: Statement,
    pub(super) item: Statement,
}

impl NewRows {
    /// User, session and items, in this order.
    pub(super) fn of<'a>(&'a self, db: &'a ClientWrapper, tenant: TenantNo, guest: &'a NewGuest) -> Vec<Sent<'a>> {
        let id = guest.user.id;
        let mut rows: Vec<Sent<'a>> = Vec::with_capacity(2 + guest.items.len());
        rows.push(Box::pin(user(db, &self.user, tenant, &guest.user)));
        rows.push(Box::pin(session(db, &self.session, tenant, id, &guest.session)));
        for row in &guest.items {
            rows.push(Box::pin(item(db, &self.item, tenant, id, row)));
        }
        rows
    }
}
