//! How a user gets in and goes: turns, erasing, and the rows that only these write.

use std::collections::BTreeMap;

use passerby_core::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{Item, Kind, LookUp, LookUpKind, USER_MARK},
    port::{CommitError, Committed, ENDED_STAY, Turn},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    acts::{Done, insert_session, mark, remember},
    error::Refused,
    lists::item_kind,
    records,
    rows::strange,
};
use crate::plan::{self, Before, ItemKey, Plan, Plans, Stay, UserRow, whole_second};

/// A look-up goes, unless it leads to somebody else by now.
const FORGET: &str = "DELETE FROM look_ups WHERE tenant=?1 AND kind=?2 AND hash=?3 AND user_id=?4";

/// Reads what the users have, decides, writes.
pub(super) fn turns(db: &Connection, tenant: TenantNo, all: &[Turn], at: Timestamp) -> Done {
    let all = plan::by_user(all);
    let before = all.iter().map(|turn| before(db, tenant, turn)).collect::<rusqlite::Result<Vec<_>>>()?;
    let Plans { users, look_ups, records } = plan::turns(all.into_iter().zip(before), at)?;
    for plan in &users {
        write(db, tenant, plan, at)?;
    }
    for ((kind, hash), step) in &look_ups {
        for user in &step.remove {
            db.prepare_cached(FORGET)?.execute((tenant.0, kind, hash, user.as_bytes()))?;
        }
        if let Some(row) = step.add {
            remember(db, tenant, row, at)?;
        }
    }
    records::change(db, tenant, records, at)?;
    Ok(Committed::Done)
}

fn before(db: &Connection, tenant: TenantNo, turn: &Turn) -> rusqlite::Result<Before> {
    let key = (tenant.0, turn.user.as_bytes());
    let user = db
        .prepare_cached(
            "SELECT epoch, version, kind, frozen IS TRUE, chosen_id FROM users WHERE tenant=?1 AND user_id=?2",
        )?
        .query_row(key, |r| {
            let kind = Kind::from_number(r.get(2)?).ok_or_else(|| strange(2, "kind of user"))?;
            let (epoch, version, frozen, chosen_id) = (r.get(0)?, r.get(1)?, r.get(3)?, r.get(4)?);
            Ok(UserRow { epoch, version, kind, frozen, chosen_id })
        })
        .optional()?;
    let sessions = db
        .prepare_cached("SELECT id, ended_at, key FROM sessions WHERE tenant=?1 AND user_id=?2")?
        .query_map(key, |r| {
            let ended_at = r.get::<_, Option<i64>>(1)?.map(Timestamp::from_millis);
            Ok((SessionId::from_bytes(r.get(0)?), Stay { ended_at, key: r.get(2)? }))
        })?
        .collect::<Result<_, _>>()?;
    let items = if plan::asks_items(turn) { items_of(db, tenant, turn.user)? } else { BTreeMap::new() };
    Ok(Before { user, sessions, items })
}

/// Revisions and ends of a user's items.
fn items_of(db: &Connection, tenant: TenantNo, user: UserId) -> rusqlite::Result<BTreeMap<ItemKey, (i32, Timestamp)>> {
    db.prepare_cached("SELECT kind, id, revision, ends_at FROM items WHERE tenant=?1 AND user_id=?2")?
        .query_map((tenant.0, user.as_bytes()), |r| {
            Ok(((item_kind(r, 0)?, r.get(1)?), (r.get(2)?, Timestamp::from_millis(r.get(3)?))))
        })?
        .collect()
}

/// Writes what is the user's own.
fn write(db: &Connection, tenant: TenantNo, plan: &Plan<'_>, at: Timestamp) -> Result<(), Refused> {
    let user = plan.user;
    let (t, id) = (tenant.0, user.as_bytes());
    if let Some(epoch) = plan.epoch {
        db.prepare_cached("UPDATE users SET epoch=?3 WHERE tenant=?1 AND user_id=?2")?.execute((t, id, epoch))?;
        insert_epoch(db, tenant, user, epoch, plan.chosen_id.as_deref(), at)?;
    }
    if let Some(write) = plan.write {
        db.prepare_cached(
            "UPDATE users SET kind=?3, converted_at=coalesce(converted_at, ?4), merged_into=?5, frozen=?6,
               data=coalesce(?7, data), version=version + (?7 IS NOT NULL),
               updated_at=CASE WHEN ?7 IS NULL THEN updated_at ELSE ?8 END
             WHERE tenant=?1 AND user_id=?2",
        )?
        .execute(params![
            t,
            id,
            write.kind.number(),
            write.converted_at.map(Timestamp::millis),
            write.merged_into.as_ref().map(UserId::as_bytes),
            write.frozen.then_some(true),
            write.data,
            at.millis(),
        ])?;
    }
    for session in &plan.end {
        db.prepare_cached("UPDATE sessions SET ended_at=?4 WHERE tenant=?1 AND user_id=?2 AND id=?3")?.execute((
            t,
            id,
            session.as_bytes(),
            at.millis(),
        ))?;
    }
    for (session, until) in &plan.marks {
        mark(db, tenant, user, session.as_bytes(), *until)?;
    }
    if let Some(session) = plan.open {
        db.prepare_cached("DELETE FROM sessions WHERE tenant=?1 AND user_id=?2 AND ended_at < ?3")?.execute((
            t,
            id,
            at.minus(ENDED_STAY).millis(),
        ))?;
        insert_session(db, tenant, user, session)?;
    }
    if let Some((session, key, bound)) = plan.bind {
        db.prepare_cached("UPDATE sessions SET key=?4, bound=?5 WHERE tenant=?1 AND user_id=?2 AND id=?3")?
            .execute(params![t, id, session.as_bytes(), key, bound.then_some(true)])?;
    }
    for ((kind, item_id), item) in &plan.items {
        match item {
            Some(item) => put_item(db, tenant, user, item)?,
            None => {
                db.prepare_cached("DELETE FROM items WHERE tenant=?1 AND user_id=?2 AND kind=?3 AND id=?4")?
                    .execute((t, id, kind.number(), item_id))?;
            }
        }
    }
    Ok(())
}

/// Writes an item, whatever is there.
pub(super) fn put_item(db: &Connection, tenant: TenantNo, user: UserId, item: &Item) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO items(tenant,user_id,kind,id,revision,ends_at,body) VALUES(?1,?2,?3,?4,?5,?6,?7)
         ON CONFLICT(tenant,user_id,kind,id) DO UPDATE SET
           revision=excluded.revision, ends_at=excluded.ends_at, body=excluded.body",
    )?
    .execute(params![
        tenant.0,
        user.as_bytes(),
        item.kind.number(),
        item.id,
        item.revision,
        item.ends_at.millis(),
        item.body,
    ])
    .map(drop)
}

/// Writes the items and look-ups that come with a new guest.
pub(super) fn belongings(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    items: &[Item],
    look_ups: &[LookUp],
    at: Timestamp,
) -> Result<(), Refused> {
    for row in look_ups {
        remember(db, tenant, row, at)?;
    }
    for item in items {
        put_item(db, tenant, user, item)?;
    }
    Ok(())
}

/// Of two in one second the greater one counts.
fn insert_epoch(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    epoch: i32,
    chosen_id: Option<&str>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO epochs(tenant,at,user_id,epoch,chosen_id) VALUES(?1,?2,?3,?4,?5)
         ON CONFLICT(tenant,at,user_id) DO UPDATE SET epoch=max(epoch, excluded.epoch)",
    )?
    .execute(params![tenant.0, whole_second(at).millis(), user.as_bytes(), epoch, chosen_id])
    .map(drop)
}

/// Removes a user with all that it had, but what must outlive it for a while.
pub(super) fn erase(
    db: &Connection,
    tenant: TenantNo,
    (user, only): (UserId, Option<i32>),
    chosen_id: Option<&str>,
    mark_until: Timestamp,
    at: Timestamp,
) -> Done {
    let key = (tenant.0, user.as_bytes());
    let there: Option<(i32, Option<Box<str>>)> = db
        .prepare_cached("DELETE FROM users WHERE tenant=?1 AND user_id=?2 RETURNING epoch, chosen_id")?
        .query_row(key, |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    if only.is_some_and(|only| only != there.as_ref().map_or(0, |(epoch, _)| *epoch)) {
        return Err(CommitError::Gone.into());
    }
    for (kind, hash) in items_of(db, tenant, user)?.keys() {
        match kind.look_up() {
            // others may have the address at once
            Some(kind @ LookUpKind::Identifier) => {
                db.prepare_cached(FORGET)?.execute((key.0, kind.number(), hash, key.1))?;
            }
            Some(kind) => {
                db.prepare_cached(
                    "UPDATE look_ups SET ends_at=min(ends_at, ?5) WHERE tenant=?1 AND kind=?2 AND hash=?3 AND user_id=?4",
                )?
                .execute((key.0, kind.number(), hash, key.1, mark_until.millis()))?;
            }
            None => {}
        }
    }
    for sql in [
        "DELETE FROM sessions WHERE tenant=?1 AND user_id=?2",
        "DELETE FROM operation_keys WHERE tenant=?1 AND user_id=?2",
        "DELETE FROM items WHERE tenant=?1 AND user_id=?2",
        "DELETE FROM marks WHERE tenant=?1 AND user_id=?2 AND id<>zeroblob(16)",
        "DELETE FROM outbox WHERE tenant=?1 AND user_id=?2",
    ] {
        db.prepare_cached(sql)?.execute(key)?;
    }
    mark(db, tenant, user, &USER_MARK, mark_until)?;
    let (epoch, own_id) = there.unwrap_or_default();
    insert_epoch(db, tenant, user, epoch.saturating_add(1), own_id.as_deref().or(chosen_id), at)?;
    Ok(Committed::Done)
}
