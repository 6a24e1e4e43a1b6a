//! How a user gets in and goes: turns and erasing. Two round trips each, a third where others may hold a look-up: what is
//! there under the user's lock, then what follows from it, statements in the order of locks.

use std::collections::BTreeSet;

use futures_util::future::{Either, ready, try_join_all, try_join3, try_join4};
use passerby_core::{
    Timestamp,
    id::{SessionId, UserId},
    model::{EpochRow, USER_MARK},
    port::{CommitError, Committed, ENDED_STAY, Turn},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    acts::{Done, Scene},
    error::{Refused, Trouble, trouble},
    inserts::{self, Sent},
    lists::item_kind,
    rows::{Param, bytes},
};
use crate::plan::{self, Before, ItemKey, Plan, Stay, whole_second};

/// The sessions that a turn may change, locked in the order of their keys.
const SESSIONS: &str = "SELECT id, ended_at, key FROM sessions
    WHERE tenant=$1 AND user_id=$2 AND (id = ANY($3) OR (ended_at IS NULL AND ($4 OR key = $5))) ORDER BY id FOR UPDATE";

/// A user's items: under the user's lock nobody but a sweep changes them.
const ITEMS: &str = "SELECT kind, id, revision, ends_at FROM items WHERE tenant=$1 AND user_id=$2";

fn item_key(row: &Row) -> Result<ItemKey, CommitError> {
    Ok((item_kind(row, 0)?, bytes(row, 1)?))
}

/// Changes how a user gets in.
pub(super) async fn turn(scene: Scene<'_>, turn: &Turn) -> Done {
    let Scene { db, tenant, at, begun } = scene;
    let id = turn.user.uuid();
    let [lock, sessions, items] = scene
        .prepare(["SELECT epoch, chosen_id FROM users WHERE tenant=$1 AND user_id=$2 FOR UPDATE", SESSIONS, ITEMS])
        .await?;
    let plan::Concerned { named, all, by_key } = plan::sessions_of(turn);
    let named: Vec<Uuid> = named.into_iter().map(SessionId::uuid).collect();
    let by_key = by_key.map(|key| &key[..]);
    let key: [Param<'_>; 2] = [&tenant.0, &id];
    let asking: [Param<'_>; 5] = [&tenant.0, &id, &named, &all, &by_key];
    let sessions = if all || by_key.is_some() || !named.is_empty() {
        Either::Left(db.query(&sessions, &asking))
    } else {
        Either::Right(ready(Ok(Vec::new())))
    };
    let items = if plan::asks_items(turn) {
        Either::Left(db.query(&items, &key))
    } else {
        Either::Right(ready(Ok(Vec::new())))
    };
    let ((), user, sessions, items) =
        try_join4(inserts::begin(db, begun), db.query_opt(&lock, &key), sessions, items).await?;
    let (mut before, mut chosen_id) = (Before::default(), None);
    if let Some(row) = &user {
        before.epoch = Some(row.try_get(0)?);
        chosen_id = row.try_get::<_, Option<&str>>(1)?.map(Into::into);
    }
    for row in &sessions {
        let ended_at = row.try_get::<_, Option<i64>>(1)?.map(Timestamp::from_millis);
        let key = row.try_get::<_, Option<&[u8]>>(2)?.and_then(|key| key.try_into().ok());
        before.sessions.insert(row.try_get::<_, Uuid>(0)?.into(), Stay { ended_at, key });
    }
    for row in &items {
        before.items.insert(item_key(row)?, (row.try_get(2)?, Timestamp::from_millis(row.try_get(3)?)));
    }
    let plan = plan::turn(turn, at, before)?;
    write(Scene { begun: true, ..scene }, turn.user, &plan, chosen_id).await
}

async fn write(scene: Scene<'_>, user: UserId, plan: &Plan<'_>, chosen_id: Option<Box<str>>) -> Done {
    let Scene { db, tenant, at, .. } = scene;
    let [raise, end, clean, open, bind, remove] = &scene
        .prepare([
            "UPDATE users SET epoch=$3 WHERE tenant=$1 AND user_id=$2",
            "UPDATE sessions SET ended_at=$4 WHERE tenant=$1 AND user_id=$2 AND id = ANY($3)",
            "DELETE FROM sessions WHERE tenant=$1 AND user_id=$2 AND ended_at < $3",
            inserts::SESSION,
            "UPDATE sessions SET key=$4, bound=$5 WHERE tenant=$1 AND user_id=$2 AND id=$3",
            "DELETE FROM items WHERE tenant=$1 AND user_id=$2 AND kind=$3 AND id=$4",
        ])
        .await?;
    let [put, forget, remember, mark, epoch] = &scene
        .prepare([
            inserts::ITEM,
            "DELETE FROM look_ups WHERE tenant=$1 AND kind=$2 AND hash=$3 AND user_id=$4",
            inserts::LOOK_UP_UNLESS_ALIVE,
            inserts::MARK,
            inserts::EPOCH,
        ])
        .await?;
    let (t, id, now, old) = (&tenant.0, &user.uuid(), &at.millis(), &at.minus(ENDED_STAY).millis());
    let ended: &Vec<Uuid> = &plan.end.iter().map(|id| id.uuid()).collect();
    let raised = &plan.epoch.map(|epoch| EpochRow { tenant, at: whole_second(at), user, epoch, chosen_id });
    let mut sent: Vec<Sent<'_>> = Vec::new();
    if let Some(row) = raised {
        sent.push(Box::pin(async move { db.execute(raise, &[t, id, &row.epoch]).await }));
    }
    if !ended.is_empty() {
        sent.push(Box::pin(async move { db.execute(end, &[t, id, ended, now]).await }));
    }
    if let Some(session) = plan.open {
        sent.push(Box::pin(async move { db.execute(clean, &[t, id, old]).await }));
        sent.push(Box::pin(inserts::session(db, open, tenant, user, session)));
    }
    if let Some((session, key, bound)) = &plan.bind {
        sent.push(Box::pin(async move {
            let (session, key, bound) = (session.uuid(), key.as_ref().map(|k| &k[..]), bound.then_some(true));
            db.execute(bind, &[t, id, &session, &key, &bound]).await
        }));
    }
    for ((kind, item_id), item) in &plan.items {
        sent.push(match item {
            Some(item) => Box::pin(inserts::item(db, put, tenant, user, item)),
            None => Box::pin(async move { db.execute(remove, &[t, id, &kind.number(), &&item_id[..]]).await }),
        });
    }
    let mut adds = Vec::new();
    for ((kind, hash), step) in &plan.look_ups {
        if step.remove {
            sent.push(Box::pin(async move { db.execute(forget, &[t, kind, &&hash[..], id]).await }));
        }
        if let Some(row) = step.add {
            adds.push(sent.len());
            sent.push(Box::pin(inserts::look_up(db, remember, tenant, row, Some(at))));
        }
    }
    for (session, until) in &plan.marks {
        sent.push(Box::pin(inserts::mark(db, mark, tenant, user, *session.as_bytes(), *until)));
    }
    if let Some(row) = raised {
        sent.push(Box::pin(inserts::epoch(db, epoch, row)));
    }
    if adds.is_empty() {
        // nobody else has a say: the end goes along
        sent.push(last(scene));
    }
    let changed = try_join_all(sent).await.map_err(|e| match trouble(&e) {
        // the session that is opened is there
        Trouble::Taken => Refused::Commit(CommitError::Moved),
        _ => e.into(),
    })?;
    if adds.is_empty() {
        return Ok(Committed::Done);
    }
    let added = adds.iter().filter_map(|add| changed.get(*add)).copied().min();
    scene.end_if(added.unwrap_or_default(), CommitError::Taken).await
}

/// `COMMIT` among statements.
fn last(scene: Scene<'_>) -> Sent<'_> {
    Box::pin(async move { inserts::commit(scene.db, true).await.map(|()| 0) })
}

/// Removes a user with all that it had, but what must outlive it for a while. The first statement locks the user, and
/// meets whoever is just storing it; see [`acts`](super::acts).
pub(super) async fn erase(scene: Scene<'_>, user: UserId, chosen_id: Option<&str>, mark_until: Timestamp) -> Done {
    let Scene { db, tenant, at, begun } = scene;
    let [lock, items] = scene
        .prepare([
            "INSERT INTO users(tenant, user_id, client, created_at, data) VALUES($1, $2, 0, 0, '{}')
             ON CONFLICT (tenant, user_id) DO UPDATE SET epoch = users.epoch RETURNING epoch, chosen_id",
            ITEMS,
        ])
        .await?;
    let by_user = scene
        .prepare([
            "DELETE FROM sessions WHERE tenant=$1 AND user_id=$2",
            "DELETE FROM operation_keys WHERE tenant=$1 AND user_id=$2",
            "DELETE FROM items WHERE tenant=$1 AND user_id=$2",
            "DELETE FROM users WHERE tenant=$1 AND user_id=$2",
        ])
        .await?;
    let [shorten, others, mark, epoch] = &scene
        .prepare([
            "UPDATE look_ups SET ends_at = least(ends_at, $5) WHERE tenant=$1 AND kind=$2 AND hash=$3 AND user_id=$4",
            "DELETE FROM marks WHERE tenant=$1 AND user_id=$2 AND id<>$3",
            inserts::MARK,
            inserts::EPOCH,
        ])
        .await?;
    let (t, id) = (&tenant.0, &user.uuid());
    let key: [Param<'_>; 2] = [t, id];
    let ((), row, items) =
        try_join3(inserts::begin(db, begun), db.query_one(&lock, &key), db.query(&items, &key)).await?;
    let raised = EpochRow {
        tenant,
        at: whole_second(at),
        user,
        epoch: row.try_get::<_, i32>(0)?.saturating_add(1),
        chosen_id: row.try_get::<_, Option<&str>>(1)?.or(chosen_id).map(Into::into),
    };
    // in the order in which all changes lock them
    let mut look_ups = BTreeSet::new();
    for row in &items {
        let (kind, hash) = item_key(row)?;
        look_ups.extend(kind.look_up().map(|kind| (kind.number(), hash)));
    }
    let (until, user_mark) = (&mark_until.millis(), &Uuid::from_bytes(USER_MARK));
    let mut sent: Vec<Sent<'_>> = Vec::new();
    for sql in &by_user {
        sent.push(Box::pin(async move { db.execute(sql, &[t, id]).await }));
    }
    for (kind, hash) in &look_ups {
        sent.push(Box::pin(async move { db.execute(shorten, &[t, kind, &&hash[..], id, until]).await }));
    }
    sent.push(Box::pin(async move { db.execute(others, &[t, id, user_mark]).await }));
    sent.push(Box::pin(inserts::mark(db, mark, tenant, user, USER_MARK, mark_until)));
    sent.push(Box::pin(inserts::epoch(db, epoch, &raised)));
    sent.push(last(scene));
    try_join_all(sent).await?;
    Ok(Committed::Done)
}
