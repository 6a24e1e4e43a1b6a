//! How users get in and go: turns and erasing. Two round trips each, a third where others may hold a look-up or a record:
//! what is there under the users' locks, then what follows from it, statements in the order of locks.

use std::collections::BTreeSet;

use futures_util::future::{Either, ready, try_join, try_join_all, try_join3, try_join4};
use passerby_core::{
    Timestamp,
    id::{SessionId, UserId},
    model::{EpochRow, Kind, LookUpKind, USER_MARK},
    port::{CommitError, Committed, ENDED_STAY, Turn},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    acts::{Done, Scene},
    error::{Refused, Trouble, trouble},
    inserts::{self, Sent},
    lists::item_kind,
    records,
    rows::{Param, bytes, strange},
};
use crate::plan::{self, Before, Concerned, ItemKey, Plan, Plans, Stay, UserRow, whole_second};

/// The user's row, locked.
const USER: &str =
    "SELECT epoch, version, kind, frozen IS TRUE, chosen_id FROM users WHERE tenant=$1 AND user_id=$2 FOR UPDATE";

/// The sessions that a turn may change, locked in the order of their keys.
const SESSIONS: &str = "SELECT id, ended_at, key FROM sessions
    WHERE tenant=$1 AND user_id=$2 AND (id = ANY($3) OR (ended_at IS NULL AND ($4 OR key = $5))) ORDER BY id FOR UPDATE";

/// A user's items: under the user's lock nobody but a sweep changes them.
const ITEMS: &str = "SELECT kind, id, revision, ends_at FROM items WHERE tenant=$1 AND user_id=$2";

/// A look-up goes, unless it leads to somebody else by now.
const FORGET: &str = "DELETE FROM look_ups WHERE tenant=$1 AND kind=$2 AND hash=$3 AND user_id=$4";

fn item_key(row: &Row) -> Result<ItemKey, CommitError> {
    Ok((item_kind(row, 0)?, bytes(row, 1)?))
}

/// Begins a transaction that holds the users of these turns.
pub(super) async fn lock(scene: Scene<'_>, turns: &[Turn]) -> Result<(), Refused> {
    let Scene { db, tenant, begun, .. } = scene;
    let [lock] = &scene.prepare([USER]).await?;
    let all = plan::by_user(turns).into_iter().map(|turn| async move {
        let key: [Param<'_>; 2] = [&tenant.0, &turn.user.uuid()];
        db.query_opt(lock, &key).await
    });
    try_join(inserts::begin(db, begun), try_join_all(all)).await?;
    Ok(())
}

/// Changes how users get in.
pub(super) async fn turns(scene: Scene<'_>, turns: &[Turn]) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let turns = plan::by_user(turns);
    let [lock, sessions, items] = &scene.prepare([USER, SESSIONS, ITEMS]).await?;
    let users = turns.iter().map(|turn| async move {
        let key: [Param<'_>; 2] = [&tenant.0, &turn.user.uuid()];
        db.query_opt(lock, &key).await
    });
    let sessions = turns.iter().map(|turn| {
        let Concerned { named, all, by_key } = plan::sessions_of(turn);
        if !all && by_key.is_none() && named.is_empty() {
            return Either::Right(ready(Ok(Vec::new())));
        }
        Either::Left(async move {
            let named: Vec<Uuid> = named.into_iter().map(SessionId::uuid).collect();
            let by_key = by_key.map(|key| &key[..]);
            let asking: [Param<'_>; 5] = [&tenant.0, &turn.user.uuid(), &named, &all, &by_key];
            db.query(sessions, &asking).await
        })
    });
    let items = turns.iter().map(|turn| {
        if !plan::asks_items(turn) {
            return Either::Right(ready(Ok(Vec::new())));
        }
        Either::Left(async move {
            let key: [Param<'_>; 2] = [&tenant.0, &turn.user.uuid()];
            db.query(items, &key).await
        })
    });
    let ((), users, sessions, items) =
        try_join4(inserts::begin(db, begun), try_join_all(users), try_join_all(sessions), try_join_all(items)).await?;
    let mut before = Vec::with_capacity(turns.len());
    for ((user, sessions), items) in users.iter().zip(&sessions).zip(&items) {
        before.push(was(user.as_ref(), sessions, items)?);
    }
    let plans = plan::turns(turns.into_iter().zip(before), at)?;
    write(Scene { begun: true, ..scene }, &plans).await
}

fn was(user: Option<&Row>, sessions: &[Row], items: &[Row]) -> Result<Before, Refused> {
    let mut before = Before::default();
    if let Some(row) = user {
        before.user = Some(UserRow {
            epoch: row.try_get(0)?,
            version: row.try_get(1)?,
            kind: Kind::from_number(row.try_get::<_, i16>(2)?.into())
                .ok_or_else(|| CommitError::from(strange("kind of user")))?,
            frozen: row.try_get(3)?,
            chosen_id: row.try_get::<_, Option<&str>>(4)?.map(Into::into),
        });
    }
    for row in sessions {
        let ended_at = row.try_get::<_, Option<i64>>(1)?.map(Timestamp::from_millis);
        let key = row.try_get::<_, Option<&[u8]>>(2)?.and_then(|key| key.try_into().ok());
        before.sessions.insert(row.try_get::<_, Uuid>(0)?.into(), Stay { ended_at, key });
    }
    for row in items {
        before.items.insert(item_key(row)?, (row.try_get(2)?, Timestamp::from_millis(row.try_get(3)?)));
    }
    Ok(before)
}

async fn write(scene: Scene<'_>, plans: &Plans<'_>) -> Done {
    let Scene { db, tenant, at, .. } = scene;
    let [raise, change, end, clean, open, bind] = &scene
        .prepare([
            "UPDATE users SET epoch=$3 WHERE tenant=$1 AND user_id=$2",
            "UPDATE users SET epoch=coalesce($3, epoch), kind=$4, converted_at=coalesce(converted_at, $5),
               merged_into=$6, frozen=$7, data=coalesce($8, data),
               version = CASE WHEN $8::text IS NULL THEN version ELSE version + 1 END,
               updated_at = CASE WHEN $8::text IS NULL THEN updated_at ELSE $9 END
             WHERE tenant=$1 AND user_id=$2",
            "UPDATE sessions SET ended_at=$4 WHERE tenant=$1 AND user_id=$2 AND id = ANY($3)",
            "DELETE FROM sessions WHERE tenant=$1 AND user_id=$2 AND ended_at < $3",
            inserts::SESSION,
            "UPDATE sessions SET key=$4, bound=$5 WHERE tenant=$1 AND user_id=$2 AND id=$3",
        ])
        .await?;
    let [put, remove, forget, remember, mark, epoch] = &scene
        .prepare([
            inserts::ITEM,
            "DELETE FROM items WHERE tenant=$1 AND user_id=$2 AND kind=$3 AND id=$4",
            FORGET,
            inserts::LOOK_UP_UNLESS_ALIVE,
            inserts::MARK,
            inserts::EPOCH,
        ])
        .await?;
    let recording = &if plans.records.is_empty() { None } else { Some(records::Statements::of(scene).await?) };
    let (t, now, old) = (&tenant.0, &at.millis(), &at.minus(ENDED_STAY).millis());
    let mut sent: Vec<Sent<'_>> = Vec::new();
    for plan in &plans.users {
        let user = plan.user;
        if let Some(write) = plan.write {
            sent.push(Box::pin(async move {
                let params: [Param<'_>; 9] = [
                    t,
                    &user.uuid(),
                    &plan.epoch,
                    &write.kind.number(),
                    &write.converted_at.map(Timestamp::millis),
                    &write.merged_into.map(UserId::uuid),
                    &write.frozen.then_some(true),
                    &write.data.as_deref(),
                    now,
                ];
                db.execute(change, &params).await
            }));
        } else if let Some(epoch) = plan.epoch {
            sent.push(Box::pin(async move { db.execute(raise, &[t, &user.uuid(), &epoch]).await }));
        }
    }
    for plan in &plans.users {
        let user = plan.user;
        if !plan.end.is_empty() {
            let ended: Vec<Uuid> = plan.end.iter().map(|id| id.uuid()).collect();
            sent.push(Box::pin(async move { db.execute(end, &[t, &user.uuid(), &ended, now]).await }));
        }
        if let Some(session) = plan.open {
            sent.push(Box::pin(async move { db.execute(clean, &[t, &user.uuid(), old]).await }));
            sent.push(Box::pin(inserts::session(db, open, tenant, user, session)));
        }
        if let Some((session, key, bound)) = &plan.bind {
            sent.push(Box::pin(async move {
                let (session, key, bound) = (session.uuid(), key.as_ref().map(|k| &k[..]), bound.then_some(true));
                db.execute(bind, &[t, &user.uuid(), &session, &key, &bound]).await
            }));
        }
    }
    for plan in &plans.users {
        let user = plan.user;
        for ((kind, id), item) in &plan.items {
            sent.push(match item {
                Some(item) => Box::pin(inserts::item(db, put, tenant, user, item)),
                None => Box::pin(async move { db.execute(remove, &[t, &user.uuid(), &kind.number(), &&id[..]]).await }),
            });
        }
    }
    // others have a say in these: whether each changed a row, and what it means where it did not
    let mut asked = Vec::new();
    for ((kind, hash), step) in &plans.look_ups {
        for user in &step.remove {
            sent.push(Box::pin(async move { db.execute(forget, &[t, kind, &&hash[..], &user.uuid()]).await }));
        }
        if let Some(row) = step.add {
            asked.push((sent.len(), CommitError::Taken));
            sent.push(Box::pin(inserts::look_up(db, remember, tenant, row, Some(at))));
        }
    }
    for (statements, record) in recording.iter().flat_map(|s| plans.records.iter().map(move |record| (s, *record))) {
        asked.push((sent.len(), CommitError::Moved));
        sent.push(Box::pin(statements.change(db, tenant, record, at)));
    }
    for Plan { user, marks, .. } in &plans.users {
        for (session, until) in marks {
            sent.push(Box::pin(inserts::mark(db, mark, tenant, *user, *session.as_bytes(), *until)));
        }
    }
    for plan in &plans.users {
        if let Some(raised) = plan.epoch {
            sent.push(Box::pin(async move {
                let chosen_id = plan.chosen_id.clone();
                let row = EpochRow { tenant, at: whole_second(at), user: plan.user, epoch: raised, chosen_id };
                inserts::epoch(db, epoch, &row).await
            }));
        }
    }
    if asked.is_empty() {
        // the end goes along
        sent.push(last(scene));
    }
    let changed = try_join_all(sent).await.map_err(|e| match trouble(&e) {
        // the session that is opened is there
        Trouble::Taken => Refused::Commit(CommitError::Moved),
        _ => e.into(),
    })?;
    if asked.is_empty() {
        return Ok(Committed::Done);
    }
    match asked.into_iter().find(|(nth, _)| changed.get(*nth) == Some(&0)) {
        Some((_, refusal)) => Err(refusal.into()),
        None => scene.end().await,
    }
}

/// The end among statements.
fn last(scene: Scene<'_>) -> Sent<'_> {
    Box::pin(async move { scene.finish(true).await.map(|()| 0) })
}

/// Removes a user with all that it had, but what must outlive it for a while. The first statement locks the user, and
/// meets whoever is just storing it; see [`acts`](super::acts).
pub(super) async fn erase(
    scene: Scene<'_>,
    (user, only): (UserId, Option<i32>),
    chosen_id: Option<&str>,
    mark_until: Timestamp,
) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
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
    let [forget, shorten, others, mark, epoch, outbox] = &scene
        .prepare([
            FORGET,
            "UPDATE look_ups SET ends_at = least(ends_at, $5) WHERE tenant=$1 AND kind=$2 AND hash=$3 AND user_id=$4",
            "DELETE FROM marks WHERE tenant=$1 AND user_id=$2 AND id<>$3",
            inserts::MARK,
            inserts::EPOCH,
            "DELETE FROM outbox WHERE tenant=$1 AND user_id=$2",
        ])
        .await?;
    let (t, id) = (&tenant.0, &user.uuid());
    let key: [Param<'_>; 2] = [t, id];
    let ((), row, items) =
        try_join3(inserts::begin(db, begun), db.query_one(&lock, &key), db.query(&items, &key)).await?;
    let was: i32 = row.try_get(0)?;
    if only.is_some_and(|only| only != was) {
        return Err(CommitError::Gone.into());
    }
    let raised = EpochRow {
        tenant,
        at: whole_second(at),
        user,
        epoch: was.saturating_add(1),
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
        sent.push(if *kind == LookUpKind::Identifier.number() {
            // others may have the address at once
            Box::pin(async move { db.execute(forget, &[t, kind, &&hash[..], id]).await })
        } else {
            Box::pin(async move { db.execute(shorten, &[t, kind, &&hash[..], id, until]).await })
        });
    }
    sent.push(Box::pin(async move { db.execute(others, &[t, id, user_mark]).await }));
    sent.push(Box::pin(inserts::mark(db, mark, tenant, user, USER_MARK, mark_until)));
    sent.push(Box::pin(inserts::epoch(db, epoch, &raised)));
    sent.push(Box::pin(async move { db.execute(outbox, &[t, id]).await }));
    sent.push(last(scene));
    try_join_all(sent).await?;
    Ok(Committed::Done)
}
