//! The PostgreSQL engine: plain SQL of version 13 that Citus, YugabyteDB and CockroachDB accept as well.
//!
//! New guests are written in groups by two connections of their own; every other change is a transaction of its own on a
//! pooled connection, and so is every read. Any number of processes share a database; nothing is kept between requests.
//! While the server is away all calls answer `Unavailable` within some seconds, and go on by themselves when it is back.

mod acts;
mod connect;
mod creations;
mod error;
mod inserts;
mod keep;
mod lists;
mod manage;
mod migrate;
mod outbox;
mod queue;
mod records;
mod rows;
mod spend;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;

use std::{sync::Arc, time::Duration};

use deadpool_postgres::Pool;
use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{
        ApiKeyRow, EpochRow, Item, ItemKind, KeptRow, LookUp, LookUpKind, Record, RecordKind, SigningKeyRow, Standing,
        Target,
    },
    port::{Act, Change, CommitError, Committed, Found, OutQuery, Store, StoreError, Wait},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

use self::{
    connect::{Connector, Held, LIMIT, WRITERS},
    creations::Writer,
    error::{Refused, Trouble, closed, describe, silent, store_error, trouble},
    queue::Queue,
    spend::Spending,
};
use crate::{
    open::{OpenError, OpenOptions},
    plan::{EPOCHS, raises_an_epoch},
};

/// Changes that may be under way at once, waiting for a connection included; beyond it, callers are told to come back.
const CHANGES: u32 = 20_000;

/// How often a change that was rolled back for another transaction's sake is made again.
const TRIES: u32 = 8;

struct Postgres {
    pool: Pool,
    queue: Arc<Queue>,
    spending: Arc<Spending>,
    /// A permit for each change under way.
    changes: Arc<Semaphore>,
    runtime: Handle,
    /// Its other end is dropped when the last group is written.
    gathering: watch::Receiver<()>,
}

/// Opens a store on a server; see [`crate::open`].
pub(crate) async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    let connector = Arc::new(Connector::from_url(url)?);
    migrate::run(&connector).await?;
    let pool = connector.pool()?;
    let queue = Arc::new(Queue::default());
    let writers = (0..WRITERS).map(|_| Writer::new(connector.clone())).collect();
    let gather = queue::gather(queue.clone(), options.close_groups, writers);
    let (end, gathering) = watch::channel(());
    tokio::spawn(async move {
        gather.await;
        drop(end);
    });
    let changes = Arc::new(Semaphore::new(CHANGES as usize));
    Ok(Arc::new(Postgres { pool, queue, spending: Arc::default(), changes, runtime: Handle::current(), gathering }))
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // without it the gathering would outlive the last caller
        self.queue.close();
    }
}

/// Makes a change in a transaction of its own.
async fn change(pool: &Pool, tenant: TenantNo, change: &Change) -> Result<Committed, CommitError> {
    let mut tries = 0;
    loop {
        let held = Held::of(pool).await?;
        let e = match timeout(LIMIT, acts::apply(held.db()?, tenant, change)).await {
            Ok(Ok(done)) => {
                held.release();
                return Ok(done);
            }
            Ok(Err(Refused::Commit(refusal))) => {
                if !acts::is_transaction(change) || rolled_back(&held).await {
                    held.release();
                }
                return Err(refusal);
            }
            Ok(Err(Refused::Engine(e))) => e,
            Err(_) => return Err(silent().into()),
        };
        match trouble(&e) {
            Trouble::Again | Trouble::Numbered if tries < TRIES => {
                if rolled_back(&held).await {
                    held.release();
                }
                // grows, and differs between those who met: they began at different moments
                tries += 1;
                sleep(Duration::from_millis(u64::from(tries * tries))).await;
            }
            Trouble::Numbered => return Err(CommitError::Moved),
            trouble => {
                if matches!(trouble, Trouble::Bug | Trouble::Row | Trouble::Taken) {
                    tracing::error!(error = describe(&e), "a change was not made");
                }
                return Err(store_error(&e).into());
            }
        }
    }
}

/// Ends the open transaction, so that its connection can be used again.
async fn rolled_back(held: &Held) -> bool {
    let Ok(db) = held.db() else { return false };
    matches!(timeout(LIMIT, db.batch_execute("ROLLBACK")).await, Ok(Ok(())))
}

impl Postgres {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.queue.is_open() { Ok(()) } else { Err(closed()) }
    }
}

impl Store for Postgres {
    fn ready(&self) -> Wait<'_, Result<(), StoreError>> {
        Box::pin(async {
            self.check_open()?;
            rows::ask(&self.pool, "SELECT 1", &[]).await.map(drop)
        })
    }

    fn number_tenant(&self, id: Uuid) -> Wait<'_, Result<TenantNo, StoreError>> {
        Box::pin(rows::number_tenant(&self.pool, id))
    }

    fn number_client<'a>(&'a self, tenant: TenantNo, client_id: &'a str) -> Wait<'a, Result<ClientNo, StoreError>> {
        Box::pin(rows::number_client(&self.pool, tenant, client_id))
    }

    fn standing(&self, tenant: TenantNo, user: UserId, session: SessionId) -> Wait<'_, Result<Standing, StoreError>> {
        Box::pin(rows::standing(&self.pool, tenant, user, session))
    }

    fn look_up(
        &self,
        tenant: TenantNo,
        kind: LookUpKind,
        hash: [u8; 32],
    ) -> Wait<'_, Result<Option<LookUp>, StoreError>> {
        Box::pin(rows::look_up(&self.pool, tenant, kind, hash))
    }

    fn found(&self, tenant: TenantNo, kind: LookUpKind, hash: [u8; 32]) -> Wait<'_, Result<Option<Found>, StoreError>> {
        Box::pin(rows::found(&self.pool, tenant, kind, hash))
    }

    fn items(&self, tenant: TenantNo, user: UserId, kind: Option<ItemKind>) -> Wait<'_, Result<Vec<Item>, StoreError>> {
        Box::pin(lists::items(&self.pool, tenant, user, kind))
    }

    fn users(
        &self,
        tenant: TenantNo,
        before: Option<UserId>,
        limit: u32,
    ) -> Wait<'_, Result<Vec<Standing>, StoreError>> {
        Box::pin(lists::users(&self.pool, tenant, before, limit))
    }

    fn epochs(&self, from: Timestamp, limit: u32) -> Wait<'_, Result<Vec<EpochRow>, StoreError>> {
        Box::pin(lists::epochs(&self.pool, from, limit))
    }

    fn spend(&self, tenant: TenantNo, proof: [u8; 32], ends_at: Timestamp) -> Wait<'_, Result<bool, StoreError>> {
        if let Err(e) = self.check_open() {
            return Box::pin(std::future::ready(Err(e)));
        }
        let (told, begin) = self.spending.submit(tenant, proof, ends_at);
        if begin {
            // it counts as a change under way, so that closing waits for it
            let permit = self.changes.clone().try_acquire_owned();
            let writing = self.spending.write(self.pool.clone());
            self.runtime.spawn(async move {
                writing.await;
                drop(permit);
            });
        }
        told
    }

    fn shares_spent(&self) -> bool {
        true
    }

    fn api_key(&self, hash: [u8; 32]) -> Wait<'_, Result<Option<ApiKeyRow>, StoreError>> {
        Box::pin(lists::api_key(&self.pool, hash))
    }

    fn record(&self, tenant: TenantNo, kind: RecordKind, id: [u8; 32]) -> Wait<'_, Result<Option<Record>, StoreError>> {
        Box::pin(records::record(&self.pool, tenant, kind, id))
    }

    fn records(&self, tenant: TenantNo, kind: RecordKind) -> Wait<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(records::records(&self.pool, tenant, kind))
    }

    fn outbox_due(&self, now: Timestamp, target: Target, limit: u32) -> Wait<'_, Result<Vec<KeptRow>, StoreError>> {
        Box::pin(outbox::due(&self.pool, now, target, limit))
    }

    fn outbox<'a>(&'a self, query: OutQuery<'a>) -> Wait<'a, Result<Vec<KeptRow>, StoreError>> {
        Box::pin(outbox::list(&self.pool, query))
    }

    fn api_keys(&self, tenant: TenantNo) -> Wait<'_, Result<Vec<ApiKeyRow>, StoreError>> {
        Box::pin(lists::api_keys(&self.pool, tenant))
    }

    fn signing_keys(&self) -> Wait<'_, Result<Vec<SigningKeyRow>, StoreError>> {
        Box::pin(rows::signing_keys(&self.pool))
    }

    fn meta(&self, name: &'static str) -> Wait<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(rows::meta(&self.pool, name))
    }

    fn commit(&self, tenant: TenantNo, change: Change) -> Wait<'static, Result<Committed, CommitError>> {
        let change = match change {
            Change { keep: None, act: Act::Create(guest, look_ups), out, .. }
                if look_ups.is_empty() && out.is_empty() && guest.is_plain() =>
            {
                return self.queue.submit(tenant, guest);
            }
            other => other,
        };
        let refuse = |e: StoreError| -> Wait<'static, _> { Box::pin(std::future::ready(Err(CommitError::Store(e)))) };
        if let Err(e) = self.check_open() {
            return refuse(e);
        }
        let Ok(permit) = self.changes.clone().try_acquire_owned() else {
            return refuse(StoreError::Unavailable("too many changes wait for the database".into()));
        };
        let pool = self.pool.clone();
        // a task of its own: it begins now, and goes on when nobody waits for it any more
        let made = self.runtime.spawn(async move {
            let making = self::change(&pool, tenant, &change);
            let answer = if raises_an_epoch(&change) {
                // given up in the middle, it goes with its connection
                timeout(EPOCHS, making).await.unwrap_or_else(|_| Err(silent().into()))
            } else {
                making.await
            };
            drop(permit);
            answer
        });
        Box::pin(async move {
            made.await.unwrap_or_else(|e| {
                let reason = if e.is_panic() { "the change made its task fail" } else { "the program is ending" };
                Err(StoreError::Unavailable(reason.into()).into())
            })
        })
    }

    fn close(&self) -> Wait<'_, ()> {
        self.queue.close();
        let mut gathering = self.gathering.clone();
        Box::pin(async move {
            while gathering.changed().await.is_ok() {}
            // all permits: no change is under way. They are never given back, so none comes after it
            if let Ok(permits) = self.changes.acquire_many(CHANGES).await {
                permits.forget();
                self.changes.close();
            }
            self.pool.close();
        })
    }
}
