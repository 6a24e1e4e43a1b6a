//! Delivery: one runner at a time, at least once, in order to each receiver, never in a request's way.
//!
//! A row that is taken is under way until what became of it is on disk: within one process no second pass takes it, and
//! no other process overwrites what this one settled ([`Settled::was`]). So a message goes out twice only when the
//! process dies between the receiver's word and the disk's, or sleeps through its lease; its id is the same then, and
//! receivers drop the repeat.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered, task::AtomicWaker};
use serde::Deserialize;

use super::{
    lease::Lease,
    places::{Place, Places},
    shown_id,
};
use crate::{
    Error, Timestamp,
    account::LINK_LIFE,
    id::TenantNo,
    message::{Delivery, Message, Parcel},
    model::{KeptRow, OutState, Target},
    passerby::{Passerby, count},
    port::{Act, Settled},
};

/// What goes somewhere. Each way has its own places, so that a mail server that hangs holds up no short message.
const WAYS: [Target; 3] = [Target::Mail, Target::Sms, Target::Timer];
/// So many rows of a way are looked at: those under way, and more than there are places for.
const LOOKED_AT: u32 = 32;
/// First wait after a failed try; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// No wait takes more than this part of a row's life, or a code would be over after a few.
const PART_OF_LIFE: u32 = 10;
/// What could not be delivered is kept so long for an operator.
const DEAD_STAY: Duration = Duration::from_hours(30 * 24);
/// In development, what was delivered can be read in the mailbox for so long.
const MAILBOX_STAY: Duration = Duration::from_hours(72);

/// The runner's part of the handle.
pub(crate) struct Outbox {
    pub(super) lease: Lease,
    places: Places,
    /// What became of rows and could not be written yet.
    unwritten: Mutex<Vec<(Settled, Place)>>,
    call: Arc<Call>,
}

/// Tells the runner that something is due.
#[derive(Default)]
pub(crate) struct Call {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Call {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Outbox {
    /// `boot` tells this start from others.
    pub(crate) fn new(boot: [u8; 16]) -> Self {
        Self { lease: Lease::new(boot), places: Places::default(), unwritten: Mutex::default(), call: Arc::default() }
    }

    pub(crate) fn call(&self) -> Arc<Call> {
        self.call.clone()
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<(Settled, Place)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after the try with this number, from 1, before jitter.
fn wait_after(tries: i32, life: Duration) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).clamp(0, 20));
    doubled.min(LONGEST_WAIT).min((life / PART_OF_LIFE).max(FIRST_WAIT))
}

#[derive(Deserialize)]
struct Timer {
    transfer: Box<str>,
}

impl Passerby {
    /// Waits until this process has committed something that is due at once. For one waiter: the program's runner.
    pub async fn outbox_called(&self) {
        let call = self.outbox.call();
        poll_fn(|cx| {
            call.waker.register(cx.waker());
            if call.raised.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// One pass: delivers what is due and settles it, until nothing is. The program begins one each second and whenever
    /// it is called, whether or not the one before has ended: a pass may wait minutes for a server that hangs. Faults
    /// are logged and met again at the next pass.
    pub async fn run_outbox(&self) {
        let mut under_way = FuturesUnordered::new();
        let mut taking = true;
        loop {
            if taking {
                match self.take_due().await {
                    Ok(rows) => under_way.extend(rows.into_iter().map(|(row, place)| self.carry(row, place))),
                    Err(e) => {
                        tracing::warn!(error = %e, "the outbox will be looked at again");
                        taking = false;
                    }
                }
            }
            let Some(first) = under_way.next().await else { return };
            let mut done = vec![first];
            // whatever else has ended goes into the same commit
            while let Some(Some(more)) = under_way.next().now_or_never() {
                done.push(more);
            }
            self.outbox.unwritten().extend(done);
            if let Err(e) = self.write_settled().await {
                tracing::warn!(error = %e, "what became of messages will be written at the next pass");
                taking = false;
            }
        }
    }

    /// Rows that are due and not under way yet, with their places; none where another process runs the outbox.
    async fn take_due(&self) -> Result<Vec<(KeptRow, Place)>, Error> {
        // first: what is not settled on disk looks due
        self.write_settled().await?;
        let mut taken = Vec::new();
        loop {
            let Some(reading) = self.outbox.places.read() else { return Ok(taken) };
            let now = self.now();
            let mut due = Vec::new();
            for way in WAYS {
                if reading.free(way) > 0 {
                    due.extend(self.store.outbox_due(now, way, LOOKED_AT).await?);
                }
            }
            self.counts().outbox_waiting.store(reading.waiting(&due) as u64, Ordering::Relaxed);
            if !due.is_empty() && self.holds_outbox(now).await? {
                taken.extend(reading.take(due));
            }
            if !reading.end() {
                return Ok(taken);
            }
        }
    }

    /// Writes what became of rows. What cannot be written keeps its place, and is not sent again by this process.
    async fn write_settled(&self) -> Result<(), Error> {
        let all = std::mem::take(&mut *self.outbox.unwritten());
        if all.is_empty() {
            return Ok(());
        }
        let settled = all.iter().map(|(settled, _)| settled.clone()).collect();
        self.commit(TenantNo(0), None, Act::Settle(settled)).await.map(drop).map_err(|e| {
            self.outbox.unwritten().extend(all);
            e.into()
        })
    }

    async fn carry(&self, kept: KeptRow, place: Place) -> (Settled, Place) {
        let message = self.open_letter(kept.tenant, &kept.row);
        let delivery = self.attempt(&kept, message.as_ref()).await;
        (self.settled(&kept, message.as_ref(), delivery), place)
    }

    async fn attempt(&self, kept: &KeptRow, message: Option<&Message>) -> Delivery {
        let now = self.now();
        if kept.row.ends_at <= now {
            return Delivery::Never("it is over".into());
        }
        if kept.row.target == Target::Timer {
            let Ok(timer) = serde_json::from_slice::<Timer>(&kept.row.body) else {
                return Delivery::Never("it cannot be read".into());
            };
            return match self.undo_unconfirmed(kept.tenant, &timer.transfer).await {
                Ok(()) => Delivery::Done,
                Err(e) => Delivery::Later(e.detail.into_owned(), None),
            };
        }
        if self.secrets(kept.tenant).is_none() {
            return Delivery::Later("its tenant is not configured".into(), None);
        }
        let Some(message) = message else { return Delivery::Never("it cannot be opened".into()) };
        let template = match self.kept_template(kept.tenant, message.kind).await {
            Ok(kept) => kept.map(|(wording, _)| wording),
            Err(e) => return Delivery::Later(e.detail.into_owned(), None),
        };
        let parcel = Parcel { id: shown_id(&kept.row.id), at: kept.row.at, now, message: message.clone(), template };
        self.post.deliver(&parcel).await
    }

    /// What becomes of the row after a try.
    fn settled(&self, kept: &KeptRow, message: Option<&Message>, delivery: Delivery) -> Settled {
        let (now, row) = (self.now(), &kept.row);
        let tries = kept.tries.saturating_add(1);
        let mut settled = Settled {
            tenant: kept.tenant,
            user: row.user,
            seq: kept.seq,
            id: row.id,
            was: (kept.state, kept.tries),
            state: OutState::Done,
            due_at: None,
            ends_at: now.plus(MAILBOX_STAY),
            tries,
            body: None,
        };
        let (why, wait) = match delivery {
            Delivery::Done => {
                if row.target != Target::Timer {
                    count(&self.counts().messages_delivered);
                }
                if !self.settings().dev {
                    let settings = self.settings();
                    settled.ends_at = now.plus(settings.tenant(kept.tenant).map_or(MAILBOX_STAY, |t| t.events.keep));
                    settled.body = Some(Box::default());
                }
                return settled;
            }
            Delivery::Later(why, asked) => {
                let whole = row.ends_at.since(row.at);
                let life = message.and_then(|m| m.valid_seconds).map_or(whole, |s| whole.min(Duration::from_secs(s)));
                let wait = self.jittered(wait_after(tries, life)).max(asked.unwrap_or_default());
                // the last tries come closer together, rather than one that comes too late
                let wait = wait.min(row.ends_at.since(now) / 2);
                (why, Some(wait).filter(|wait| *wait >= FIRST_WAIT / 2))
            }
            Delivery::Never(why) => (why, None),
        };
        let (id, kind) = (shown_id(&row.id), message.map_or("", |message| message.kind.as_str()));
        if let Some(wait) = wait {
            count(&self.counts().messages_failed);
            tracing::warn!(%id, name = %row.name, kind, tries, %why, again_in = ?wait, "not delivered");
            settled.state = OutState::Waiting;
            settled.due_at = Some(now.plus(wait));
            settled.ends_at = row.ends_at;
            return settled;
        }
        count(&self.counts().messages_dead);
        tracing::error!(%id, name = %row.name, kind, tries, %why, "not delivered, and not tried again");
        settled.state = OutState::Dead;
        settled.ends_at = now.plus(DEAD_STAY);
        if message.is_some_and(|message| message.is_over(row.at, now)) {
            settled.body = Some(Box::default());
        }
        settled
    }

    /// Up to a quarter more or less.
    fn jittered(&self, wait: Duration) -> Duration {
        let mut byte = [0];
        self.random.fill(&mut byte);
        wait * 3 / 4 + wait * u32::from(byte[0]) / 510
    }
}

impl Message {
    /// From when on nothing in it is of use, if it was written then; `None`: what has neither code nor link is never over.
    pub(super) fn end(&self, written: Timestamp) -> Option<Timestamp> {
        let said = Duration::from_secs(self.valid_seconds.unwrap_or_default());
        // beside a code a link lives on
        let life = if self.link.is_some() { said.max(LINK_LIFE) } else { said };
        (self.code.is_some() || self.link.is_some()).then(|| written.plus(life))
    }

    pub(super) fn is_over(&self, written: Timestamp, now: Timestamp) -> bool {
        self.end(written).is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_a_tenth_of_a_life() {
        let three_days = Duration::from_hours(72);
        let waits: Vec<u64> = (1..=14).map(|n| wait_after(n, three_days).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]);
        assert_eq!(wait_after(i32::MAX, three_days), LONGEST_WAIT);
        let ten_minutes = Duration::from_mins(10);
        assert_eq!(wait_after(9, ten_minutes), Duration::from_mins(1));
        assert_eq!(wait_after(9, Duration::from_secs(5)), FIRST_WAIT);
    }
}
