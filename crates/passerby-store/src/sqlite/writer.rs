//! The one thread that writes: group after group, each one transaction.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
};

use passerby_core::{
    id::UserId,
    port::{Act, CommitError, Committed, StoreError},
};
use rusqlite::Connection;
use tokio::{sync::mpsc as signal, time::Instant};

use super::{
    acts,
    creations::Creations,
    error::{Refused, store_error},
    fold::Folder,
    queue::{Group, Outcome, Work},
};

/// Freed pages given back to the file system after a sweep; some milliseconds.
const VACUUM_PAGES: i64 = 256;

/// Writes what comes until nobody can send any more, then folds the log into the file.
pub(super) fn run(
    db: Connection,
    mut folder: Folder,
    groups: &mpsc::Receiver<Group>,
    written: &signal::UnboundedSender<Group>,
) {
    while let Ok(mut group) = groups.recv() {
        group.outcomes.clear();
        group.outcomes.resize_with(group.work.len(), || Ok(Committed::Done));
        let done = catch_unwind(AssertUnwindSafe(|| write(&db, &group.work, &mut group.outcomes)))
            .unwrap_or_else(|_| Err(panicked()));
        if let Err(e) = done {
            tracing::error!(error = %e, changes = group.work.len(), "a group of changes was not written");
            roll_back(&db);
            group.outcomes.clear();
            group.outcomes.resize_with(group.work.len(), || Err(CommitError::Store(e.clone())));
        }
        let swept = group.work.iter().any(|w| matches!(w, Work::Change(_, c, _) if matches!(c.act, Act::Sweep { .. })));
        if written.send(group).is_err() {
            break;
        }
        if swept {
            shrink(&db);
        }
        folder.after_group(&db);
    }
    folder.stop();
    if let Err(e) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(error = %e, "the write-ahead log was not folded in; the next start does it");
    }
    if let Err((_, e)) = db.close() {
        tracing::warn!(error = %e, "the database was not closed in order");
    }
}

fn panicked() -> StoreError {
    StoreError::Unavailable("the change made the writer fail".into())
}

fn roll_back(db: &Connection) {
    // the engine has often rolled back by itself
    if !db.is_autocommit()
        && let Err(e) = db.execute_batch("ROLLBACK")
    {
        tracing::error!(error = %e, "a transaction could not be rolled back");
    }
}

fn shrink(db: &Connection) {
    let count = |pragma: &str| db.query_row(pragma, [], |r| r.get::<_, i64>(0)).unwrap_or(0);
    let free = count("PRAGMA freelist_count");
    if free > VACUUM_PAGES && free > count("PRAGMA page_count") / 8 {
        // `execute_batch` runs it to its end: it frees one page a step
        if let Err(e) = db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})")) {
            tracing::warn!(error = %e, "free pages were not given back");
        }
    }
}

fn say(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

/// One transaction. New guests are collected and written together; any other change is made in its turn, after the
/// collected ones where it concerns one of them. An error is everybody's.
fn write(db: &Connection, work: &[Work], outcomes: &mut [Outcome]) -> Result<(), StoreError> {
    let engine = |e: rusqlite::Error| store_error(&e);
    roll_back(db);
    say(db, "BEGIN IMMEDIATE").map_err(engine)?;
    let mut creations = Creations::default();
    for (i, w) in work.iter().enumerate() {
        if let Work::Change(tenant, change, _) = w
            && creations.take(i, *tenant, change)
        {
            continue;
        }
        if concerns(w, &creations) {
            creations.write(db, outcomes).map_err(engine)?;
        }
        outcomes[i] = one(db, w).map_err(engine)?;
    }
    creations.write(db, outcomes).map_err(engine)?;
    say(db, "COMMIT").map_err(engine)
}

/// Whether the work may see or change one of the collected guests.
fn concerns(work: &Work, creations: &Creations<'_>) -> bool {
    let Work::Change(_, change, _) = work else { return false };
    let has = |user: UserId| creations.has(user);
    change.keep.as_ref().is_some_and(|g| has(g.user.id))
        || match &change.act {
            Act::Create(g, _) | Act::CreateChosen(g, _) => has(g.user.id),
            Act::OpenSession { user, .. }
            | Act::EndSession { user, .. }
            | Act::Rotate { user, .. }
            | Act::Erase { user, .. }
            | Act::DenyToken { user, .. } => has(*user),
            Act::AddUser(new) => has(new.user.id),
            Act::Manage(change) => has(change.user),
            Act::Turn(turn) => has(turn.user),
            Act::Turns(turns) => turns.iter().any(|turn| has(turn.user)),
            Act::Edit(edit) => has(edit.user),
            Act::Touch(touches) => touches.iter().any(|t| has(t.user)),
            // rows of the outbox lean on no user's row
            Act::Keep
            | Act::Records(_)
            | Act::Settle(_)
            | Act::Remember(_)
            | Act::AddSigningKey(_)
            | Act::RemoveSigningKey(_)
            | Act::PutApiKey { .. }
            | Act::RemoveApiKey(_)
            | Act::TouchApiKeys(_)
            | Act::SetMeta(..)
            | Act::InitMeta(..)
            | Act::Sweep { .. } => false,
        }
}

/// One piece of work, in a savepoint where it has several steps, so that a refusal sinks nobody else. An error is one
/// that sinks the group.
fn one(db: &Connection, work: &Work) -> rusqlite::Result<Outcome> {
    if matches!(work, Work::Change(_, _, Some(due)) if Instant::now() > *due) {
        return Ok(Err(StoreError::Unavailable("the disk is too slow".into()).into()));
    }
    let guarded = matches!(work, Work::Change(_, change, _) if acts::has_several_steps(change));
    if guarded {
        say(db, "SAVEPOINT change")?;
    }
    // an edit runs the core's code: should it panic, its neighbours are still written
    let answer = catch_unwind(AssertUnwindSafe(|| match work {
        Work::Change(tenant, change, _) => acts::apply(db, *tenant, change),
        Work::Tenant(id) => acts::number_tenant(db, id),
        Work::Client(tenant, client_id) => acts::number_client(db, *tenant, client_id),
    }))
    .unwrap_or_else(|_| Err(CommitError::Store(panicked()).into()));
    let refused = match answer {
        Ok(done) => {
            if guarded {
                say(db, "RELEASE change")?;
            }
            return Ok(Ok(done));
        }
        // no room, no disk, or the engine has ended the transaction already
        Err(Refused::Engine(e))
            if db.is_autocommit() || matches!(store_error(&e), StoreError::Full | StoreError::Unavailable(_)) =>
        {
            return Err(e);
        }
        Err(Refused::Engine(e)) => CommitError::Store(store_error(&e)),
        Err(Refused::Commit(e)) => e,
    };
    if guarded {
        say(db, "ROLLBACK TO change")?;
        say(db, "RELEASE change")?;
    }
    Ok(Err(refused))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use passerby_core::{
        Timestamp,
        id::{TenantNo, UserId},
        port::Change,
    };

    use super::*;

    #[test]
    fn what_was_due_before_its_turn_came_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let Ok(db) = super::super::migrate::writer(&folder.path().join("due.db"), None) else { panic!("not opened") };
        let now = Instant::now();
        let erase = |due| {
            let act = Act::Erase {
                user: UserId::from_bytes([due; 16]),
                chosen_id: None,
                mark_until: Timestamp::MAX,
                epoch: None,
            };
            let due =
                [None, Some(now - Duration::from_millis(1)), Some(now + Duration::from_hours(1))][usize::from(due)];
            Work::Change(TenantNo(1), Change { at: Timestamp::MAX, keep: None, act, out: Vec::new() }, due)
        };
        let work = [erase(0), erase(1), erase(2)];
        let mut outcomes = [const { Ok(Committed::Done) }; 3];
        write(&db, &work, &mut outcomes).unwrap();
        let late = matches!(outcomes[1], Err(CommitError::Store(StoreError::Unavailable(_))));
        assert!(outcomes[0].is_ok() && late && outcomes[2].is_ok(), "{outcomes:?}");
        let erased: Vec<u8> = db
            .prepare("SELECT user_id FROM epochs ORDER BY user_id")
            .and_then(|mut s| s.query_map([], |r| r.get::<_, [u8; 16]>(0).map(|id| id[0]))?.collect())
            .unwrap();
        assert_eq!(erased, [0, 2]);
    }
}
