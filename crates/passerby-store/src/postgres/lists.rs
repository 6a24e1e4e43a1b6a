//! Reads beside the hot path: items, lists of users, raised epochs, API keys.

use std::collections::HashMap;

use deadpool_postgres::Pool;
use passerby_core::{
    Timestamp,
    id::{TenantNo, UserId},
    model::{ApiKeyRow, EpochRow, Item, ItemKind, Standing, User},
    port::StoreError,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::{ask, bytes, get, optional_bytes, optional_time, session, strange, text, time, user};

/// Reads the kind of an item.
pub(super) fn item_kind(row: &Row, column: usize) -> Result<ItemKind, StoreError> {
    ItemKind::from_number(get::<i16>(row, column)?.into()).ok_or_else(|| strange("kind of item"))
}

/// A user's items, dead or alive.
pub(super) async fn items(
    pool: &Pool,
    tenant: TenantNo,
    id: UserId,
    kind: Option<ItemKind>,
) -> Result<Vec<Item>, StoreError> {
    // numbers of kinds begin at 1
    let (first, last) = kind.map_or((0, i16::MAX), |k| (k.number(), k.number()));
    let sql = "SELECT kind, id, revision, ends_at, body FROM items
               WHERE tenant=$1 AND user_id=$2 AND kind BETWEEN $3 AND $4 ORDER BY kind, id";
    let item = |row: &Row| {
        Ok(Item {
            kind: item_kind(row, 0)?,
            id: bytes(row, 1)?,
            revision: get(row, 2)?,
            ends_at: time(get(row, 3)?),
            body: get::<&str>(row, 4)?.into(),
        })
    };
    ask(pool, sql, &[&tenant.0, &id.uuid(), &first, &last]).await?.iter().map(item).collect()
}

/// The columns are those of [`user`] and [`session`].
const USERS: &str =
    "SELECT 0::int2, user_id, client, kind, created_at, updated_at, version, epoch, converted_at, NULL::int8,
      held IS TRUE, data, entry, server_data, chosen_id, chosen_by, merged_into, NULL::bytea, frozen IS TRUE
    FROM users WHERE tenant=$1 AND user_id <= $2 ORDER BY user_id DESC LIMIT $3";
const SESSIONS: &str = "SELECT 1::int2, id, client, kind, created_at, active_at, generation::int8, late_generation,
      rotated_at, ended_at, has_denied_tokens, metadata, NULL::text, NULL::text, NULL::text, NULL::int4, parent, key,
      bound IS TRUE, user_id
    FROM (SELECT s.*, row_number() OVER (PARTITION BY user_id ORDER BY id DESC) AS n
          FROM sessions s WHERE tenant=$1 AND user_id = ANY($2)) s
    WHERE n <= 100 ORDER BY user_id, id DESC";
/// The column of [`SESSIONS`] that says whose one is.
const OWNER: usize = 19;

/// Users with their sessions, by descending id.
pub(super) async fn users(
    pool: &Pool,
    tenant: TenantNo,
    before: Option<UserId>,
    limit: u32,
) -> Result<Vec<Standing>, StoreError> {
    let first = match before.map(|id| id.uuid().as_u128().checked_sub(1)) {
        None => Uuid::max(),
        Some(Some(first)) => Uuid::from_u128(first),
        // nothing is below it
        Some(None) => return Ok(Vec::new()),
    };
    let rows = ask(pool, USERS, &[&tenant.0, &first, &i64::from(limit)]).await?;
    let users = rows.iter().map(user).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<Uuid> = users.iter().map(|u| u.id.uuid()).collect();
    let mut sessions: HashMap<UserId, Vec<_>> = HashMap::new();
    for row in ask(pool, SESSIONS, &[&tenant.0, &ids]).await? {
        sessions.entry(get::<Uuid>(&row, OWNER)?.into()).or_default().push(session(&row)?);
    }
    let standing = |user: User| Standing {
        sessions: sessions.remove(&user.id).unwrap_or_default(),
        user: Some(user),
        marks: Vec::new(),
    };
    Ok(users.into_iter().map(standing).collect())
}

/// Raised epochs of all tenants, oldest first; all of the last second.
pub(super) async fn epochs(pool: &Pool, from: Timestamp, limit: u32) -> Result<Vec<EpochRow>, StoreError> {
    let sql = "SELECT tenant, at, user_id, epoch, chosen_id FROM epochs
               WHERE at >= $1 AND at <= coalesce((SELECT at FROM epochs WHERE at >= $1 ORDER BY at LIMIT 1 OFFSET $2), $3)
               ORDER BY at, tenant, user_id";
    let epoch = |row: &Row| {
        Ok(EpochRow {
            tenant: TenantNo(get(row, 0)?),
            at: time(get(row, 1)?),
            user: get::<Uuid>(row, 2)?.into(),
            epoch: get(row, 3)?,
            chosen_id: text(row, 4)?,
        })
    };
    let (skipped, end) = (i64::from(limit.max(1) - 1), Timestamp::MAX.millis());
    ask(pool, sql, &[&from.millis(), &skipped, &end]).await?.iter().map(epoch).collect()
}

macro_rules! api_key_columns {
    () => {
        "tenant, id, revision, hash, previous_hash, previous_until, prefix, name, grants, created_at, expires_at, last_used_at"
    };
}

fn api_key_row(row: &Row) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        tenant: TenantNo(get(row, 0)?),
        id: get(row, 1)?,
        revision: get(row, 2)?,
        hash: bytes(row, 3)?,
        previous: optional_bytes(row, 4)?.zip(optional_time(row, 5)?),
        prefix: get::<&str>(row, 6)?.into(),
        name: get::<&str>(row, 7)?.into(),
        grants: get::<&str>(row, 8)?.into(),
        created_at: time(get(row, 9)?),
        expires_at: optional_time(row, 10)?,
        last_used_at: optional_time(row, 11)?,
    })
}

/// The API key whose text has this hash; else one whose earlier text had it.
pub(super) async fn api_key(pool: &Pool, hash: [u8; 32]) -> Result<Option<ApiKeyRow>, StoreError> {
    let sql = concat!(
        "SELECT ",
        api_key_columns!(),
        " FROM api_keys WHERE hash=$1 OR previous_hash=$1 ORDER BY hash=$1 DESC LIMIT 1"
    );
    ask(pool, sql, &[&&hash[..]]).await?.first().map(api_key_row).transpose()
}

/// All API keys of a tenant, newest first.
pub(super) async fn api_keys(pool: &Pool, tenant: TenantNo) -> Result<Vec<ApiKeyRow>, StoreError> {
    let sql =
        concat!("SELECT ", api_key_columns!(), " FROM api_keys WHERE tenant=$1 ORDER BY created_at DESC, id DESC");
    ask(pool, sql, &[&tenant.0]).await?.iter().map(api_key_row).collect()
}
