//! New guests, a whole group in one transaction and one round trip.
//!
//! Both inserts in one statement (a data-modifying `WITH`, no `BEGIN`, no `COMMIT`) were measured: 5.3 against 5.9 µs of
//! the server's CPU a row in groups of 64. Citus refuses such a statement on distributed tables; it is not worth that.

use std::{mem, sync::Arc, time::Duration};

use deadpool_postgres::ClientWrapper;
use futures_util::future::{try_join, try_join3, try_join4};
use passerby_core::{
    Timestamp,
    model::NewGuest,
    port::{CommitError, Committed, StoreError},
};
use tokio::time::{sleep, timeout};
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    acts::{Scene, create},
    connect::{Connector, LIMIT},
    error::{Refused, Trouble, describe, silent, store_error, trouble},
    inserts,
    queue::{Creation, Outcome},
};

/// How often a group that was rolled back for another transaction's sake is sent again.
const TRIES: u32 = 5;

const USERS: &str = "INSERT INTO users(tenant, user_id, client, created_at, data, entry)
    SELECT * FROM unnest($1::int4[], $2::uuid[], $3::int4[], $4::int8[], $5::text[], $6::text[])";
const SESSIONS: &str = "INSERT INTO sessions(tenant, user_id, id, client, kind, created_at)
    SELECT * FROM unnest($1::int4[], $2::uuid[], $3::uuid[], $4::int4[], $5::int2[], $6::int8[])";
const USERS_UNLESS_THERE: &str = "INSERT INTO users(tenant, user_id, client, created_at, data, entry)
    SELECT * FROM unnest($1::int4[], $2::uuid[], $3::int4[], $4::int8[], $5::text[], $6::text[])
    ON CONFLICT (tenant, user_id) DO NOTHING";
const SESSIONS_UNLESS_THERE: &str = "INSERT INTO sessions(tenant, user_id, id, client, kind, created_at)
    SELECT * FROM unnest($1::int4[], $2::uuid[], $3::uuid[], $4::int4[], $5::int2[], $6::int8[])
    ON CONFLICT (tenant, user_id, id) DO NOTHING";

/// A group's rows by columns.
struct Columns<'a> {
    tenants: Vec<i32>,
    users: Vec<Uuid>,
    clients: Vec<i32>,
    times: Vec<i64>,
    data: Vec<&'a str>,
    entries: Vec<Option<&'a str>>,
    sessions: Vec<Uuid>,
    session_clients: Vec<i32>,
    kinds: Vec<i16>,
    session_times: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a [Creation]) -> Self {
        fn column<'a, T>(rows: &'a [Creation], f: impl Fn(&'a NewGuest) -> T) -> Vec<T> {
            rows.iter().map(|row| f(&row.guest)).collect()
        }
        Self {
            tenants: rows.iter().map(|row| row.tenant.0).collect(),
            users: column(rows, |g| g.user.id.uuid()),
            clients: column(rows, |g| g.user.client.0),
            times: column(rows, |g| g.user.created_at.millis()),
            data: column(rows, |g| &*g.user.data),
            entries: column(rows, |g| g.user.entry.as_deref()),
            sessions: column(rows, |g| g.session.id.uuid()),
            session_clients: column(rows, |g| g.session.client.0),
            kinds: column(rows, |g| g.session.kind.number()),
            session_times: column(rows, |g| g.session.created_at.millis()),
        }
    }

    async fn users(&self, db: &ClientWrapper, sql: &tokio_postgres::Statement) -> Result<u64, Error> {
        db.execute(sql, &[&self.tenants, &self.users, &self.clients, &self.times, &self.data, &self.entries]).await
    }

    async fn sessions(&self, db: &ClientWrapper, sql: &tokio_postgres::Statement) -> Result<u64, Error> {
        db.execute(
            sql,
            &[&self.tenants, &self.users, &self.sessions, &self.session_clients, &self.kinds, &self.session_times],
        )
        .await
    }

    /// All at once. An error anywhere makes the server roll back at the `COMMIT` that is already on its way, so only an
    /// answer without any error means that the group is stored.
    async fn write(&self, db: &ClientWrapper) -> Result<(), Error> {
        let (users, sessions) = try_join(db.prepare_cached(USERS), db.prepare_cached(SESSIONS)).await?;
        try_join4(
            inserts::begin(db, false),
            self.users(db, &users),
            self.sessions(db, &sessions),
            inserts::commit(db, true),
        )
        .await
        .map(drop)
    }

    /// The same after an attempt whose outcome is not known: all rows are there or none is, unless one was refused.
    /// Whether the group is stored now. (Waits for the earlier attempt if the server is still at it.)
    async fn write_again(&self, db: &ClientWrapper) -> Result<bool, Error> {
        let (users, sessions) =
            try_join(db.prepare_cached(USERS_UNLESS_THERE), db.prepare_cached(SESSIONS_UNLESS_THERE)).await?;
        let ((), users, sessions) =
            try_join3(inserts::begin(db, false), self.users(db, &users), self.sessions(db, &sessions)).await?;
        let all = self.users.len() as u64;
        let stored = users == sessions && (users == all || users == 0);
        db.batch_execute(if stored { "COMMIT" } else { "ROLLBACK" }).await?;
        Ok(stored)
    }
}

/// One connection that writes groups.
pub(super) struct Writer {
    connector: Arc<Connector>,
    db: Option<ClientWrapper>,
    group: Vec<Creation>,
    /// The last group was not written: said once, and once again when it is over.
    failing: bool,
}

impl Writer {
    /// Connects when it is first used.
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, db: None, group: Vec::new(), failing: false }
    }

    /// Takes a group to [`Writer::write`].
    pub(super) fn begin(&mut self, group: Vec<Creation>) {
        self.group = group;
    }

    /// Writes the group and tells all who wait.
    pub(super) async fn write(&mut self) {
        let group = mem::take(&mut self.group);
        let stored = self.store(&group).await;
        match (mem::replace(&mut self.failing, stored.is_err()), &stored) {
            (false, Err(e)) => tracing::error!(error = %e, "new guests are not written"),
            (true, Ok(_)) => tracing::info!("new guests are written again"),
            _ => {}
        }
        match stored {
            Ok(None) => {
                for row in group {
                    // who stopped waiting is told nothing
                    let _ = row.tell.send(Ok(Committed::Done));
                }
            }
            Ok(Some(outcomes)) => {
                for (row, outcome) in group.into_iter().zip(outcomes) {
                    let _ = row.tell.send(outcome);
                }
            }
            Err(e) => {
                self.db = None;
                for row in group {
                    let _ = row.tell.send(Err(CommitError::Store(e.clone())));
                }
            }
        }
    }

    async fn db(&mut self) -> Result<&ClientWrapper, StoreError> {
        let db = match self.db.take().filter(|db| !db.is_closed()) {
            Some(db) => db,
            None => self.connector.own().await?,
        };
        Ok(self.db.insert(db))
    }

    /// `None`: all are stored.
    async fn store(&mut self, rows: &[Creation]) -> Result<Option<Vec<Outcome>>, StoreError> {
        let columns = Columns::of(rows);
        let (mut unsure, mut tries) = (false, 0);
        loop {
            let db = self.db().await?;
            let sent = timeout(LIMIT, async {
                if unsure { columns.write_again(db).await } else { columns.write(db).await.map(|()| true) }
            });
            let e = match sent.await {
                Ok(Ok(true)) => return Ok(None),
                Ok(Ok(false)) => return self.one_by_one(rows).await.map(Some),
                Ok(Err(e)) => Some(e),
                Err(_) => None,
            };
            match e.as_ref().map_or(Trouble::Lost, trouble) {
                // ids are fresh and nobody can guess them: what is found under them was written by the first attempt
                Trouble::Lost if !unsure => {
                    self.db = None;
                    unsure = true;
                }
                Trouble::Again if tries < TRIES => {
                    tries += 1;
                    sleep(Duration::from_millis(u64::from(tries * tries))).await;
                }
                Trouble::Taken | Trouble::Row => return self.one_by_one(rows).await.map(Some),
                _ => return Err(e.map_or_else(silent, |e| store_error(&e))),
            }
        }
    }

    /// Each in a transaction of its own, to see whose row it was that was refused.
    async fn one_by_one(&mut self, rows: &[Creation]) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut dead: Option<StoreError> = None;
        for Creation { tenant, guest, .. } in rows {
            if let Some(e) = &dead {
                outcomes.push(Err(CommitError::Store(e.clone())));
                continue;
            }
            let db = self.db().await?;
            // the moment is asked for look-ups only
            let scene = Scene { db, tenant: *tenant, at: Timestamp::default(), begun: false, out: None };
            let failed = match timeout(LIMIT, create(scene, guest, &[])).await {
                Ok(Ok(done)) => {
                    outcomes.push(Ok(done));
                    continue;
                }
                Ok(Err(Refused::Commit(e))) => {
                    outcomes.push(Err(e));
                    continue;
                }
                Ok(Err(Refused::Engine(e))) if trouble(&e) == Trouble::Row => {
                    tracing::error!(error = describe(&e), "a new guest cannot be stored");
                    outcomes.push(Err(CommitError::Store(store_error(&e))));
                    continue;
                }
                Ok(Err(Refused::Engine(e))) => store_error(&e),
                Err(_) => silent(),
            };
            // those before it are stored, so the error is not everybody's
            self.db = None;
            outcomes.push(Err(CommitError::Store(failed.clone())));
            dead = Some(failed);
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::tests::{Place, guest};

    fn creations(place: &Place, n: usize) -> Vec<Creation> {
        (0..n)
            .map(|_| Creation { tenant: place.tenant, guest: guest(place), tell: tokio::sync::oneshot::channel().0 })
            .collect()
    }

    async fn count(place: &Place) -> (i64, i64) {
        let db = passerby_testkit::postgres::connect(&place.url).await.unwrap();
        let sql = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM sessions)";
        let row = db.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }

    #[tokio::test]
    async fn one_conflict_sinks_only_itself() {
        let place = Place::new().await;
        let mut writer = Writer::new(place.connector());
        let first = creations(&place, 1);
        assert!(writer.store(&first).await.unwrap().is_none());
        let mut rows = creations(&place, 40);
        rows[7].guest.user.id = first[0].guest.user.id;
        // bytes that text cannot hold: refused by the server, and only this row
        rows[9].guest.user.entry = Some("a\0b".into());
        let outcomes = writer.store(&rows).await.unwrap().unwrap();
        for (i, outcome) in outcomes.iter().enumerate() {
            match i {
                7 => assert!(matches!(outcome, Err(CommitError::Taken)), "{outcome:?}"),
                9 => assert!(matches!(outcome, Err(CommitError::Store(StoreError::Bug(_)))), "{outcome:?}"),
                _ => assert!(outcome.is_ok(), "{i}: {outcome:?}"),
            }
        }
        assert_eq!(count(&place).await, (39, 39));
        // the connection is as good as before
        assert!(writer.store(&creations(&place, 2)).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_attempt_whose_outcome_is_unknown_is_repeated_without_harm() {
        let place = Place::new().await;
        let db = place.connector().own().await.unwrap();
        let rows = creations(&place, 10);
        let columns = Columns::of(&rows);
        // not made the first time, then made
        assert!(columns.write_again(&db).await.unwrap());
        assert!(columns.write_again(&db).await.unwrap());
        assert_eq!(count(&place).await, (10, 10));
        // one id was there before: the first attempt cannot have been made
        let mut mixed = creations(&place, 5);
        mixed[2].guest.user.id = rows[0].guest.user.id;
        assert!(!Columns::of(&mixed).write_again(&db).await.unwrap());
        assert_eq!(count(&place).await, (10, 10));
    }

    #[tokio::test]
    async fn a_connection_lost_between_groups_costs_nobody_an_error() {
        let place = Place::new().await;
        let mut writer = Writer::new(place.connector());
        assert!(writer.store(&creations(&place, 3)).await.unwrap().is_none());
        let db = passerby_testkit::postgres::connect(&place.url).await.unwrap();
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'passerby'";
        assert!(!db.query(sql, &[]).await.unwrap().is_empty());
        assert!(writer.store(&creations(&place, 3)).await.unwrap().is_none());
        assert_eq!(count(&place).await, (6, 6));
    }
}
