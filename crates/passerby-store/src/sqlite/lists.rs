//! Reads beside the hot path: items, raised epochs, API keys.

use passerby_core::{
    Timestamp,
    id::{TenantNo, UserId},
    model::{ApiKeyRow, EpochRow, Item, ItemKind},
};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::rows::{optional_text, strange, text, time};

/// Reads the kind of an item.
pub(super) fn item_kind(row: &Row<'_>, column: usize) -> rusqlite::Result<ItemKind> {
    ItemKind::from_number(row.get(column)?).ok_or_else(|| strange(column, "kind of item"))
}

/// A user's items, dead or alive.
pub(super) fn items(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    kind: Option<ItemKind>,
) -> rusqlite::Result<Vec<Item>> {
    // numbers of kinds begin at 1
    let (first, last) = kind.map_or((0, i16::MAX), |k| (k.number(), k.number()));
    db.prepare_cached(
        "SELECT kind, id, revision, ends_at, body FROM items
         WHERE tenant=?1 AND user_id=?2 AND kind BETWEEN ?3 AND ?4 ORDER BY kind, id",
    )?
    .query_map((tenant.0, user.as_bytes(), first, last), |row| {
        Ok(Item {
            kind: item_kind(row, 0)?,
            id: row.get(1)?,
            revision: row.get(2)?,
            ends_at: time(row.get(3)?),
            body: text(row, 4)?,
        })
    })?
    .collect()
}

/// Raised epochs of all tenants, oldest first; all of the last second.
pub(super) fn epochs(db: &Connection, from: Timestamp, limit: u32) -> rusqlite::Result<Vec<EpochRow>> {
    db.prepare_cached(
        "SELECT tenant, at, user_id, epoch, chosen_id FROM epochs
         WHERE at >= ?1 AND at <= coalesce((SELECT at FROM epochs WHERE at >= ?1 ORDER BY at LIMIT 1 OFFSET ?2), ?3)
         ORDER BY at, tenant, user_id",
    )?
    .query_map((from.millis(), limit.max(1) - 1, Timestamp::MAX.millis()), |row| {
        Ok(EpochRow {
            tenant: TenantNo(row.get(0)?),
            at: time(row.get(1)?),
            user: UserId::from_bytes(row.get(2)?),
            epoch: row.get(3)?,
            chosen_id: optional_text(row, 4)?,
        })
    })?
    .collect()
}

macro_rules! api_key_columns {
    () => {
        "tenant, id, revision, hash, previous_hash, previous_until, prefix, name, grants, created_at, expires_at, last_used_at"
    };
}

fn api_key_row(row: &Row<'_>) -> rusqlite::Result<ApiKeyRow> {
    let optional_time = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(time));
    Ok(ApiKeyRow {
        tenant: TenantNo(row.get(0)?),
        id: Uuid::from_bytes(row.get(1)?),
        revision: row.get(2)?,
        hash: row.get(3)?,
        previous: row.get::<_, Option<[u8; 32]>>(4)?.zip(optional_time(5)?),
        prefix: text(row, 6)?,
        name: text(row, 7)?,
        grants: text(row, 8)?,
        created_at: time(row.get(9)?),
        expires_at: optional_time(10)?,
        last_used_at: optional_time(11)?,
    })
}

/// The API key whose text has this hash; else one whose earlier text had it.
pub(super) fn api_key(db: &Connection, hash: &[u8; 32]) -> rusqlite::Result<Option<ApiKeyRow>> {
    db.prepare_cached(concat!(
        "SELECT ",
        api_key_columns!(),
        " FROM api_keys WHERE hash=?1 OR previous_hash=?1 ORDER BY hash=?1 DESC LIMIT 1"
    ))?
    .query_row([hash], api_key_row)
    .optional()
}

/// All API keys of a tenant, newest first.
pub(super) fn api_keys(db: &Connection, tenant: TenantNo) -> rusqlite::Result<Vec<ApiKeyRow>> {
    db.prepare_cached(concat!(
        "SELECT ",
        api_key_columns!(),
        " FROM api_keys WHERE tenant=?1 ORDER BY created_at DESC, id DESC"
    ))?
    .query_map([tenant.0], api_key_row)?
    .collect()
}
