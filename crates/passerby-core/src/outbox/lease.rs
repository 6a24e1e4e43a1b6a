//! Who runs the outbox: one process at a time, by a lease that lies in the store.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use passerby_jose::sha256;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Timestamp,
    id::TenantNo,
    model::{Record, RecordKind},
    passerby::Passerby,
    port::{Act, CommitError, RecordChange},
};

/// How long a lease is good. Whoever dies with it holds up messages for so long.
const LEASE: Duration = Duration::from_secs(30);
/// It is renewed when it is good for no longer than this.
const RENEW: Duration = Duration::from_secs(20);
/// Those who have it not ask again after so long.
const ASK_AGAIN_MS: i64 = 3_000;
/// Leases belong to no tenant.
const NOBODY: TenantNo = TenantNo(0);

#[derive(Serialize, Deserialize)]
struct Body {
    owner: String,
}

/// What this process knows of the lease.
pub(super) struct Lease {
    owner: String,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    /// Ours, with this revision, until then.
    ours: Option<(i32, Timestamp)>,
    /// Another's: not before this moment of the monotonic clock it is asked for again.
    not_before: i64,
}

impl Lease {
    pub(super) fn new(boot: [u8; 16]) -> Self {
        let owner = format!("{:032x}", u128::from_be_bytes(boot));
        Self { owner, known: Mutex::new(Known { ours: None, not_before: i64::MIN }) }
    }

    fn known(&self) -> Known {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

fn lease_id() -> [u8; 32] {
    sha256(b"passerby/v1/lease/outbox")
}

impl Passerby {
    /// Whether this process runs the outbox; takes the lease where nobody has it, and renews it in time.
    pub(super) async fn holds_outbox(&self, now: Timestamp) -> Result<bool, Error> {
        let lease = &self.outbox.lease;
        let known = lease.known();
        match known.ours {
            Some((_, ends_at)) if ends_at.since(now) > RENEW => return Ok(true),
            None if self.clock.monotonic_millis() < known.not_before => return Ok(false),
            _ => {}
        }
        let there = self.store.record(NOBODY, RecordKind::Lease, lease_id()).await?;
        let alive = there.as_ref().filter(|record| record.ends_at > now);
        let ours = |record: &&Record| serde_json::from_str(&record.body).is_ok_and(|b: Body| b.owner == lease.owner);
        let was = match alive {
            Some(record) if !ours(&record) => {
                lease.know(Known { ours: None, not_before: self.clock.monotonic_millis() + ASK_AGAIN_MS });
                return Ok(false);
            }
            alive => alive.map(|record| record.revision),
        };
        let revision = there.map_or(1, |record| record.revision.wrapping_add(1));
        let ends_at = now.plus(LEASE);
        match self.put_lease(revision, was, ends_at).await {
            Ok(()) => {
                lease.know(Known { ours: Some((revision, ends_at)), not_before: i64::MIN });
                Ok(true)
            }
            // another was quicker
            Err(CommitError::Moved) => {
                lease.know(Known { ours: None, not_before: self.clock.monotonic_millis() + ASK_AGAIN_MS });
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Gives the lease back, so that another process goes on at once.
    pub(crate) async fn leave_outbox(&self) {
        let lease = &self.outbox.lease;
        let Some((was, _)) = lease.known().ours else { return };
        lease.know(Known { ours: None, not_before: i64::MAX });
        match self.put_lease(was.wrapping_add(1), Some(was), self.now()).await {
            // it was another's already
            Ok(()) | Err(CommitError::Moved) => {}
            Err(e) => {
                tracing::warn!(error = %e, "the outbox was not given over; another process takes it when the lease ends");
            }
        }
    }

    async fn put_lease(&self, revision: i32, was: Option<i32>, ends_at: Timestamp) -> Result<(), CommitError> {
        let body = serde_json::to_string(&Body { owner: self.outbox.lease.owner.clone() }).unwrap_or_default();
        let record = Record { kind: RecordKind::Lease, id: lease_id(), revision, ends_at, body: body.into() };
        let change = RecordChange::Put { record, was };
        self.commit(NOBODY, None, Act::Records(vec![change])).await.map(drop)
    }
}
