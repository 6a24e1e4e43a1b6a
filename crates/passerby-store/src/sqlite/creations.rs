//! New guests, sixteen rows a statement: a fifth of the writer's work is saved.

use std::{fmt::Write, sync::LazyLock};

use passerby_core::{
    id::{TenantNo, UserId},
    model::NewGuest,
    port::{Act, Change, CommitError},
};
use rusqlite::Connection;

use super::{error::is_taken, queue::Outcome};

/// Statements for so many rows each; what is left over takes the next smaller one.
const SIZES: [usize; 3] = [16, 4, 1];

/// Parameters a row of either table.
const COLUMNS: usize = 6;

struct Statements {
    rows: usize,
    users: String,
    sessions: String,
}

static STATEMENTS: LazyLock<[Statements; SIZES.len()]> = LazyLock::new(|| {
    SIZES.map(|rows| {
        let mut values = String::new();
        for row in 0..rows {
            let p = row * COLUMNS;
            let comma = if row == 0 { "" } else { "," };
            let _ = write!(values, "{comma}(?{},?{},?{},?{},?{},?{})", p + 1, p + 2, p + 3, p + 4, p + 5, p + 6);
        }
        Statements {
            rows,
            users: format!("INSERT INTO users(tenant,user_id,client,created_at,data,entry) VALUES {values}"),
            sessions: format!("INSERT INTO sessions(tenant,user_id,id,client,kind,created_at) VALUES {values}"),
        }
    })
});

struct Creation<'a> {
    /// Its place in the group.
    at: usize,
    tenant: TenantNo,
    guest: &'a NewGuest,
}

/// The new guests of a group that are not written yet.
#[derive(Default)]
pub(super) struct Creations<'a> {
    rows: Vec<Creation<'a>>,
    /// Their ids side by side: what other changes concern is searched among them.
    users: Vec<UserId>,
}

impl<'a> Creations<'a> {
    /// Takes a change that only makes a new guest under an id of ours.
    pub(super) fn take(&mut self, at: usize, tenant: TenantNo, change: &'a Change) -> bool {
        match change {
            Change { keep: None, act: Act::Create(guest, look_ups), out, .. }
                if look_ups.is_empty() && out.is_empty() && guest.is_plain() =>
            {
                self.users.push(guest.user.id);
                self.rows.push(Creation { at, tenant, guest });
                true
            }
            _ => false,
        }
    }

    /// Whether this user is among them.
    pub(super) fn has(&self, user: UserId) -> bool {
        self.users.contains(&user)
    }

    /// Writes them all. A row that is there already is answered `Taken`, to its change alone.
    pub(super) fn write(&mut self, db: &Connection, outcomes: &mut [Outcome]) -> rusqlite::Result<()> {
        let mut left = &self.rows[..];
        for statements in &*STATEMENTS {
            while left.len() >= statements.rows {
                let (rows, rest) = left.split_at(statements.rows);
                insert(db, statements, rows, outcomes)?;
                left = rest;
            }
        }
        self.rows.clear();
        self.users.clear();
        Ok(())
    }
}

fn insert(db: &Connection, all: &Statements, rows: &[Creation<'_>], outcomes: &mut [Outcome]) -> rusqlite::Result<()> {
    let inserted = insert_users(db, all, rows).and_then(|()| {
        insert_sessions(db, all, rows).inspect_err(|e| {
            if is_taken(e) {
                remove_users(db, rows);
            }
        })
    });
    match inserted {
        Err(e) if is_taken(&e) => {
            if let [one] = rows {
                outcomes[one.at] = Err(CommitError::Taken);
                return Ok(());
            }
            // a refused statement has changed nothing: again row by row, to see whose it was
            let single = &STATEMENTS[SIZES.len() - 1];
            rows.chunks(1).try_for_each(|row| insert(db, single, row, outcomes))
        }
        other => other,
    }
}

fn insert_users(db: &Connection, all: &Statements, rows: &[Creation<'_>]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(&all.users)?;
    for (row, Creation { tenant, guest, .. }) in rows.iter().enumerate() {
        let (p, user) = (row * COLUMNS, &guest.user);
        statement.raw_bind_parameter(p + 1, tenant.0)?;
        statement.raw_bind_parameter(p + 2, user.id.as_bytes())?;
        statement.raw_bind_parameter(p + 3, user.client.0)?;
        statement.raw_bind_parameter(p + 4, user.created_at.millis())?;
        statement.raw_bind_parameter(p + 5, &*user.data)?;
        statement.raw_bind_parameter(p + 6, user.entry.as_deref())?;
    }
    statement.raw_execute().map(drop)
}

fn insert_sessions(db: &Connection, all: &Statements, rows: &[Creation<'_>]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(&all.sessions)?;
    for (row, Creation { tenant, guest, .. }) in rows.iter().enumerate() {
        let (p, session) = (row * COLUMNS, &guest.session);
        statement.raw_bind_parameter(p + 1, tenant.0)?;
        statement.raw_bind_parameter(p + 2, guest.user.id.as_bytes())?;
        statement.raw_bind_parameter(p + 3, session.id.as_bytes())?;
        statement.raw_bind_parameter(p + 4, session.client.0)?;
        statement.raw_bind_parameter(p + 5, session.kind.number())?;
        statement.raw_bind_parameter(p + 6, session.created_at.millis())?;
    }
    statement.raw_execute().map(drop)
}

/// Takes back user rows whose sessions could not be written.
fn remove_users(db: &Connection, rows: &[Creation<'_>]) {
    for Creation { tenant, guest, .. } in rows {
        let removed = db
            .prepare_cached("DELETE FROM users WHERE tenant=?1 AND user_id=?2")
            .and_then(|mut s| s.execute((tenant.0, guest.user.id.as_bytes())));
        if let Err(e) = removed {
            tracing::error!(error = %e, "a user row was not taken back");
        }
    }
}
