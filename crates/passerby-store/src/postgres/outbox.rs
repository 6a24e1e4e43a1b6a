//! The outbox: rows that changes add, what becomes of them, and how they are found.

use std::fmt::Write;

use deadpool_postgres::{ClientWrapper, Pool};
use futures_util::future::{try_join, try_join_all, try_join3};
use passerby_core::{
    Timestamp,
    id::{TenantNo, UserId},
    model::{KeptRow, OutRow, OutState, Target},
    port::{Act, Change, Committed, OutQuery, Settled, StoreError},
};
use tokio_postgres::{Error, Row, Statement, types::ToSql};
use uuid::Uuid;

use super::{
    acts::{Done, Scene},
    error::Refused,
    inserts,
    rows::{Param, ask, get, optional_time, strange, time},
};
use crate::plan::{first_state, waits_until};

/// A row under its user's next number. Who holds the user's row meets nobody there, or hardly anybody: then the change is
/// made again.
const NEXT: &str =
    "INSERT INTO outbox(tenant, user_id, seq, id, lane, at, ends_at, due_at, tries, target, state, name, body)
    SELECT $1, $2, coalesce(max(seq), 0) + 1, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11
    FROM outbox WHERE tenant=$1 AND user_id=$2";
/// The same, unless somebody took that number meanwhile.
const NEXT_UNLESS_TAKEN: &str =
    "INSERT INTO outbox(tenant, user_id, seq, id, lane, at, ends_at, due_at, tries, target, state, name, body)
    SELECT $1, $2, coalesce(max(seq), 0) + 1, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11
    FROM outbox WHERE tenant=$1 AND user_id=$2 ON CONFLICT (tenant, user_id, seq) DO NOTHING";

/// The rows that a change adds.
pub(super) struct Adding<'a> {
    /// By their users: this order is the one in which all changes write them.
    rows: Vec<&'a OutRow>,
    /// Others may be adding rows of the same users just now.
    shared: bool,
    next: Statement,
}

impl<'a> Adding<'a> {
    /// `None` where the change adds nothing.
    pub(super) async fn of(db: &ClientWrapper, change: &'a Change) -> Result<Option<Self>, Refused> {
        if change.out.is_empty() {
            return Ok(None);
        }
        let mut rows: Vec<_> = change.out.iter().collect();
        rows.sort_by_key(|row| row.user);
        let shared = rows.iter().any(|row| !locks(&change.act, row.user));
        let next = db.prepare_cached(if shared { NEXT_UNLESS_TAKEN } else { NEXT }).await?;
        Ok(Some(Self { rows, shared, next }))
    }

    /// Whether the commit is sent together with the rows, waiting for no answer.
    pub(super) fn is_sent_at_once(&self) -> bool {
        !self.shared
    }

    /// Adds them and commits: in one go where nobody else can have a say.
    pub(super) async fn commit(&self, db: &ClientWrapper, tenant: TenantNo) -> Result<(), Error> {
        if self.shared {
            for row in &self.rows {
                // whoever was first has committed by now: the next number is seen
                while self.add(db, tenant, row).await? == 0 {}
            }
            return inserts::commit(db, true).await;
        }
        let all = self.rows.iter().map(|row| self.add(db, tenant, row));
        try_join(try_join_all(all), inserts::commit(db, true)).await.map(drop)
    }

    async fn add(&self, db: &ClientWrapper, tenant: TenantNo, row: &OutRow) -> Result<u64, Error> {
        db.execute(
            &self.next,
            &[
                &tenant.0,
                &row.user.uuid(),
                &Uuid::from_bytes(row.id),
                &Uuid::from_bytes(row.lane),
                &row.at.millis(),
                &row.ends_at.millis(),
                &row.due_at.map(Timestamp::millis),
                &row.target.number(),
                &first_state(row).number(),
                &&*row.name,
                &&*row.body,
            ],
        )
        .await
    }
}

/// Whether the act holds this user's row until it is committed.
fn locks(act: &Act, user: UserId) -> bool {
    match act {
        Act::Create(guest, _) | Act::CreateChosen(guest, _) => guest.user.id == user,
        Act::AddUser(new) => new.user.id == user,
        Act::Manage(change) => change.user == user,
        Act::Turn(turn) => turn.user == user,
        Act::Turns(turns) => turns.iter().any(|turn| turn.user == user),
        Act::Edit(edit) => edit.user == user,
        Act::OpenSession { user: u, .. } | Act::Erase { user: u, .. } => *u == user,
        _ => false,
    }
}

/// Writes what became of rows, in the order of their keys; those that are gone or were settled by others are passed
/// over.
pub(super) async fn settle(scene: Scene<'_>, settled: &[Settled]) -> Done {
    let Scene { db, begun, .. } = scene;
    let [update] = &scene
        .prepare(["UPDATE outbox SET state=$5, due_at=$6, ends_at=$7, tries=$8, body=coalesce($9, body)
             WHERE tenant=$1 AND user_id=$2 AND seq=$3 AND id=$4 AND state=$10 AND tries=$11"])
        .await?;
    let mut all: Vec<_> = settled.iter().collect();
    all.sort_by_key(|s| (s.tenant.0, s.user, s.seq));
    let writing = all.into_iter().map(|s| async move {
        let params: [Param<'_>; 11] = [
            &s.tenant.0,
            &s.user.uuid(),
            &s.seq,
            &Uuid::from_bytes(s.id),
            &s.state.number(),
            &waits_until(s).map(Timestamp::millis),
            &s.ends_at.millis(),
            &s.tries,
            &s.body.as_deref(),
            &s.was.0.number(),
            &s.was.1,
        ];
        db.execute(update, &params).await
    });
    try_join3(inserts::begin(db, begun), try_join_all(writing), scene.finish(true)).await?;
    Ok(Committed::Done)
}

/// The columns of [`kept`], in its order.
macro_rules! columns {
    () => {
        "o.tenant, o.user_id, o.seq, o.id, o.name, o.at, o.target, o.lane, o.due_at, o.ends_at, o.tries, o.state, o.body"
    };
}

fn kept(row: &Row) -> Result<KeptRow, StoreError> {
    Ok(KeptRow {
        tenant: TenantNo(get(row, 0)?),
        seq: get(row, 2)?,
        row: OutRow {
            id: get::<Uuid>(row, 3)?.into_bytes(),
            user: get::<Uuid>(row, 1)?.into(),
            name: get::<&str>(row, 4)?.into(),
            at: time(get(row, 5)?),
            target: Target::from_number(get::<i16>(row, 6)?.into()).ok_or_else(|| strange("target"))?,
            lane: get::<Uuid>(row, 7)?.into_bytes(),
            due_at: optional_time(row, 8)?,
            ends_at: time(get(row, 9)?),
            body: get::<&[u8]>(row, 12)?.into(),
        },
        tries: get(row, 10)?,
        state: OutState::from_number(get::<i16>(row, 11)?.into()).ok_or_else(|| strange("state"))?,
    })
}

/// What is to be delivered now; see [`Store::outbox_due`](passerby_core::port::Store::outbox_due).
pub(super) async fn due(pool: &Pool, now: Timestamp, target: Target, limit: u32) -> Result<Vec<KeptRow>, StoreError> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM outbox o WHERE o.due_at <= $1 AND o.target = $3 AND (o.ends_at <= $1 OR NOT EXISTS(
            SELECT 1 FROM outbox e WHERE e.tenant=o.tenant AND e.user_id=o.user_id AND e.lane=o.lane AND e.seq < o.seq
              AND e.due_at IS NOT NULL AND e.ends_at > $1))
          ORDER BY o.due_at, o.tenant, o.user_id, o.seq LIMIT $2"
    );
    ask(pool, sql, &[&now.millis(), &i64::from(limit), &target.number()]).await?.iter().map(kept).collect()
}

/// Rows, newest first.
pub(super) async fn list(pool: &Pool, query: OutQuery<'_>) -> Result<Vec<KeptRow>, StoreError> {
    let mut params: Vec<Box<dyn ToSql + Sync + Send>> = Vec::new();
    let mut sql = String::from(concat!("SELECT ", columns!(), " FROM outbox o WHERE true"));
    if let Some(tenant) = query.tenant {
        params.push(Box::new(tenant.0));
        let _ = write!(sql, " AND o.tenant=${}", params.len());
    }
    if let Some(user) = query.user {
        params.push(Box::new(user.uuid()));
        let _ = write!(sql, " AND o.user_id=${}", params.len());
    }
    if let Some(lane) = query.lane {
        params.push(Box::new(Uuid::from_bytes(lane)));
        let _ = write!(sql, " AND o.lane=${}", params.len());
    }
    if let Some(id) = query.id {
        params.push(Box::new(Uuid::from_bytes(id)));
        let _ = write!(sql, " AND o.id=${}", params.len());
    }
    if let Some((at, id)) = query.before {
        params.extend([Box::new(at.millis()) as _, Box::new(Uuid::from_bytes(id)) as _]);
        let _ = write!(sql, " AND (o.at, o.id) < (${}, ${})", params.len() - 1, params.len());
    }
    // as words, so that the index of the dead is found
    if let Some(state) = query.state {
        let _ = write!(sql, " AND o.state={}", state.number());
    }
    if !query.targets.is_empty() {
        let numbers: Vec<String> = query.targets.iter().map(|t| t.number().to_string()).collect();
        let _ = write!(sql, " AND o.target IN ({})", numbers.join(","));
    }
    params.push(Box::new(i64::from(query.limit)));
    let _ = write!(sql, " ORDER BY o.at DESC, o.id DESC LIMIT ${}", params.len());
    let params: Vec<Param<'_>> = params.iter().map(|p| &**p as Param<'_>).collect();
    ask(pool, &sql, &params).await?.iter().map(kept).collect()
}
