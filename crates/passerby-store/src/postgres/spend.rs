//! Spent proofs: those that come while a batch is under way share the next one, one round trip and no wait for the disk.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Pool};
use futures_util::future::try_join3;
use passerby_core::{
    Timestamp,
    id::TenantNo,
    port::{StoreError, Wait},
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_postgres::{Error, Row};

use super::{
    connect::{Held, LIMIT},
    error::{Trouble, closed, describe, silent, store_error, trouble},
    inserts,
};

/// No batch has more proofs.
const LARGEST: usize = 1000;
/// So many may wait; beyond it, callers are told to come back.
const FULL_QUEUE: usize = 20_000;
/// How often a batch that was rolled back for another transaction's sake is sent again.
const TRIES: u32 = 5;

/// In the order of their keys, so that two processes with the same proofs wait for each other in one direction only.
const INSERT: &str = "INSERT INTO spent_proofs(tenant, hash, ends_at)
    SELECT * FROM unnest($1::int4[], $2::bytea[], $3::int8[]) ON CONFLICT DO NOTHING RETURNING tenant, hash";

type Key = (i32, [u8; 32]);
type Tell = oneshot::Sender<Result<bool, StoreError>>;

struct Proof {
    key: Key,
    ends_at: Timestamp,
    tell: Tell,
}

#[derive(Default)]
struct Waiting {
    proofs: Vec<Proof>,
    under_way: bool,
}

/// What waits to be spent.
#[derive(Default)]
pub(super) struct Spending(Mutex<Waiting>);

impl Spending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // nothing that can panic runs under it
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a proof into the next batch. Whether the caller has to have batches written now ([`Spending::write`]).
    pub(super) fn submit(
        &self,
        tenant: TenantNo,
        proof: [u8; 32],
        ends_at: Timestamp,
    ) -> (Wait<'static, Result<bool, StoreError>>, bool) {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.proofs.len() >= FULL_QUEUE {
            let refused = StoreError::Unavailable("too many proofs wait for the database".into());
            return (Box::pin(std::future::ready(Err(refused))), false);
        }
        waiting.proofs.push(Proof { key: (tenant.0, proof), ends_at, tell });
        let begin = !mem::replace(&mut waiting.under_way, true);
        (Box::pin(async move { told.await.unwrap_or_else(|_| Err(closed())) }), begin)
    }

    /// Writes batch after batch until nothing waits.
    pub(super) fn write(self: &Arc<Self>, pool: Pool) -> impl Future<Output = ()> + Send + 'static {
        let mut at_work = AtWork { spending: self.clone(), done: false };
        async move {
            while let Some(proofs) = at_work.next() {
                write(&pool, proofs).await;
            }
        }
    }
}

/// However the work ends, even before it begins since its runtime did, nobody is left waiting.
struct AtWork {
    spending: Arc<Spending>,
    done: bool,
}

impl AtWork {
    /// Takes the next batch out; where there is none, the work is over.
    fn next(&mut self) -> Option<Vec<Proof>> {
        let mut waiting = self.spending.lock();
        if waiting.proofs.is_empty() {
            waiting.under_way = false;
            self.done = true;
            return None;
        }
        let n = waiting.proofs.len().min(LARGEST);
        let rest = waiting.proofs.split_off(n);
        Some(mem::replace(&mut waiting.proofs, rest))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if !self.done {
            let mut waiting = self.spending.lock();
            waiting.under_way = false;
            waiting.proofs.clear();
        }
    }
}

/// Spends a batch and tells all who wait. Of one proof that came twice the first caller has it.
async fn write(pool: &Pool, proofs: Vec<Proof>) {
    let mut batch: BTreeMap<Key, (Timestamp, Tell)> = BTreeMap::new();
    for Proof { key, ends_at, tell } in proofs {
        match batch.get_mut(&key) {
            None => drop(batch.insert(key, (ends_at, tell))),
            Some((longest, _)) => {
                *longest = ends_at.max(*longest);
                // who stopped waiting is told nothing
                let _ = tell.send(Ok(false));
            }
        }
    }
    let columns = Columns::of(&batch);
    let stored = columns.store(pool).await;
    if let Err(e) = &stored {
        tracing::warn!(error = %e, proofs = batch.len(), "proofs were not noted as used");
    }
    for (key, (_, tell)) in batch {
        let _ = tell.send(match &stored {
            Err(e) => Err(e.clone()),
            Ok((new, _)) if new.contains(&key) => Ok(true),
            Ok((_, Sure::Yes)) => Ok(false),
            // perhaps by the attempt that was lost, perhaps by somebody else
            Ok((_, Sure::No)) => Err(StoreError::Unavailable("a connection to the database was lost".into())),
        });
    }
}

/// Whether what was there before was so before the first attempt.
enum Sure {
    Yes,
    No,
}

/// A batch by columns.
struct Columns<'a> {
    tenants: Vec<i32>,
    hashes: Vec<&'a [u8]>,
    ends: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a BTreeMap<Key, (Timestamp, Tell)>) -> Self {
        Self {
            tenants: batch.keys().map(|(tenant, _)| *tenant).collect(),
            hashes: batch.keys().map(|(_, hash)| &hash[..]).collect(),
            ends: batch.values().map(|(ends_at, _)| ends_at.millis()).collect(),
        }
    }

    /// Those that were not spent before. A connection that is lost is replaced once.
    async fn store(&self, pool: &Pool) -> Result<(HashSet<Key>, Sure), StoreError> {
        let (mut sure, mut tries) = (Sure::Yes, 0);
        loop {
            let held = Held::of(pool).await?;
            let e = match timeout(LIMIT, self.insert(held.db()?)).await {
                Ok(Ok(new)) => {
                    held.release();
                    return Ok((new, sure));
                }
                Ok(Err(e)) => e,
                Err(_) => return Err(silent()),
            };
            match (trouble(&e), &sure) {
                (Trouble::Lost, Sure::Yes) => sure = Sure::No,
                (Trouble::Again, _) if tries < TRIES => {
                    tries += 1;
                    sleep(Duration::from_millis(u64::from(tries * tries))).await;
                }
                _ => {
                    tracing::debug!(error = describe(&e), "a batch of proofs failed");
                    return Err(store_error(&e));
                }
            }
        }
    }

    /// One round trip. Nobody waits for the disk: should the server's machine fail, the last few are forgotten.
    async fn insert(&self, db: &ClientWrapper) -> Result<HashSet<Key>, Error> {
        let insert = db.prepare_cached(INSERT).await?;
        let ((), rows, ()) = try_join3(
            db.batch_execute("BEGIN; SET LOCAL synchronous_commit = off"),
            db.query(&insert, &[&self.tenants, &self.hashes, &self.ends]),
            inserts::commit(db, true),
        )
        .await?;
        // all are of 32 bytes, as they were sent
        let key = |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, &[u8]>(1)?.try_into().unwrap_or_default()));
        rows.iter().map(key).collect()
    }
}
