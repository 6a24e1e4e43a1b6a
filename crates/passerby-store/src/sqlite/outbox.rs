//! The outbox: rows that changes add, what becomes of them, and how they are found.

use std::fmt::Write;

use passerby_core::{
    Timestamp,
    id::{TenantNo, UserId},
    model::{KeptRow, OutRow, OutState, Target},
    port::{OutQuery, Settled},
};
use rusqlite::{
    Connection, Row, params, params_from_iter,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::rows::{strange, text, time};
use crate::plan::{first_state, waits_until};

/// Adds rows, each as its user's next.
pub(super) fn add(db: &Connection, tenant: TenantNo, rows: &[OutRow]) -> rusqlite::Result<()> {
    for row in rows {
        db.prepare_cached(
            "INSERT INTO outbox(tenant,user_id,seq,id,name,at,target,lane,due_at,ends_at,tries,state,body)
             VALUES(?1,?2,(SELECT coalesce(max(seq),0)+1 FROM outbox WHERE tenant=?1 AND user_id=?2),
               ?3,?4,?5,?6,?7,?8,?9,0,?10,?11)",
        )?
        .execute(params![
            tenant.0,
            row.user.as_bytes(),
            row.id,
            row.name,
            row.at.millis(),
            row.target.number(),
            row.lane,
            row.due_at.map(Timestamp::millis),
            row.ends_at.millis(),
            first_state(row).number(),
            row.body,
        ])?;
    }
    Ok(())
}

/// Writes what became of rows; those that are gone or were settled by others are passed over.
pub(super) fn settle(db: &Connection, all: &[Settled]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE outbox SET state=?5, due_at=?6, ends_at=?7, tries=?8, body=coalesce(?9, body)
         WHERE tenant=?1 AND user_id=?2 AND seq=?3 AND id=?4 AND state=?10 AND tries=?11",
    )?;
    for settled in all {
        // an empty slice is an empty BLOB and not the absence of one
        let body = settled.body.as_deref().map(|body| ToSqlOutput::Borrowed(ValueRef::Blob(body)));
        statement.execute(params![
            settled.tenant.0,
            settled.user.as_bytes(),
            settled.seq,
            settled.id,
            settled.state.number(),
            waits_until(settled).map(Timestamp::millis),
            settled.ends_at.millis(),
            settled.tries,
            body,
            settled.was.0.number(),
            settled.was.1,
        ])?;
    }
    Ok(())
}

/// The columns of [`kept`], in its order.
macro_rules! columns {
    () => {
        "o.tenant, o.user_id, o.seq, o.id, o.name, o.at, o.target, o.lane, o.due_at, o.ends_at, o.tries, o.state, o.body"
    };
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptRow> {
    Ok(KeptRow {
        tenant: TenantNo(row.get(0)?),
        seq: row.get(2)?,
        row: OutRow {
            id: row.get(3)?,
            user: UserId::from_bytes(row.get(1)?),
            name: text(row, 4)?,
            at: time(row.get(5)?),
            target: Target::from_number(row.get(6)?).ok_or_else(|| strange(6, "target"))?,
            lane: row.get(7)?,
            due_at: row.get::<_, Option<i64>>(8)?.map(time),
            ends_at: time(row.get(9)?),
            body: row.get_ref(12)?.as_blob()?.into(),
        },
        tries: row.get(10)?,
        state: OutState::from_number(row.get(11)?).ok_or_else(|| strange(11, "state"))?,
    })
}

/// What is to be delivered now; see [`Store::outbox_due`](passerby_core::port::Store::outbox_due).
pub(super) fn due(db: &Connection, now: Timestamp, target: Target, limit: u32) -> rusqlite::Result<Vec<KeptRow>> {
    db.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM outbox o WHERE o.due_at <= ?1 AND o.target = ?3 AND (o.ends_at <= ?1 OR NOT EXISTS(
            SELECT 1 FROM outbox e INDEXED BY outbox_lane
            WHERE e.tenant=o.tenant AND e.user_id=o.user_id AND e.lane=o.lane AND e.seq < o.seq AND e.due_at IS NOT NULL AND e.ends_at > ?1))
          ORDER BY o.due_at, o.tenant, o.user_id, o.seq LIMIT ?2"
    ))?
    .query_map((now.millis(), limit, target.number()), kept)?
    .collect()
}

/// Rows, newest first.
pub(super) fn list(db: &Connection, query: &OutQuery<'_>) -> rusqlite::Result<Vec<KeptRow>> {
    let mut params = Vec::new();
    // without statistics the planner takes the index of all rows for the few dead, and for one user's
    let index = if query.state == Some(OutState::Dead) { " INDEXED BY outbox_dead" } else { "" };
    let sorted = if query.user.is_some() { "+" } else { "" };
    let mut sql = format!(concat!("SELECT ", columns!(), " FROM outbox o{} WHERE 1"), index);
    let mut given = |condition: &str, values: Vec<Value>| {
        sql.push_str(" AND ");
        sql.push_str(condition);
        params.extend(values);
    };
    if let Some(tenant) = query.tenant {
        given("o.tenant=?", vec![Value::from(tenant.0)]);
    }
    if let Some(user) = query.user {
        given("o.user_id=?", vec![Value::from(user.as_bytes().to_vec())]);
    }
    if let Some(lane) = query.lane {
        given("o.lane=?", vec![Value::from(lane.to_vec())]);
    }
    if let Some(id) = query.id {
        given("o.id=?", vec![Value::from(id.to_vec())]);
    }
    if let Some((at, id)) = query.before {
        given("(o.at, o.id) < (?, ?)", vec![Value::from(at.millis()), Value::from(id.to_vec())]);
    }
    // as words, so that the index of the dead is found
    if let Some(state) = query.state {
        given(&format!("o.state={}", state.number()), Vec::new());
    }
    if !query.targets.is_empty() {
        let numbers: Vec<String> = query.targets.iter().map(|t| t.number().to_string()).collect();
        given(&format!("o.target IN ({})", numbers.join(",")), Vec::new());
    }
    let _ = write!(sql, " ORDER BY {sorted}o.at DESC, o.id DESC LIMIT ?");
    params.push(Value::from(query.limit));
    db.prepare_cached(&sql)?.query_map(params_from_iter(params), kept)?.collect()
}
