//! The queue of new guests, and the task that closes groups and hands them to a free writer.
//!
//! Measured at 64 callers on one core: a transaction costs the server as much as some ten rows, so few large groups are
//! cheapest; they come about by closing a group only when a turn of the event loop brought nothing more.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use passerby_core::{
    id::TenantNo,
    model::NewGuest,
    port::{CommitError, Committed, StoreError, Wait},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::yield_now,
    time::sleep,
};

use super::{creations::Writer, error::closed};
use crate::open::Grouping;

/// No group has more rows, however many wait.
const LARGEST: usize = 1000;
/// No group is heavier, but for one row that is heavier by itself.
const HEAVIEST: usize = 4 << 20;
/// What may wait in all; beyond it, callers are told to come back.
const FULL_QUEUE: usize = 64 << 20;
/// So many rows are worth a second transaction beside the one under way.
const WORTH_ANOTHER: usize = 128;
/// Fewer rows take the second writer all the same when the first one has been busy for so long.
const LONG: Duration = Duration::from_millis(20);

/// What is answered to one creation.
pub(super) type Outcome = Result<Committed, CommitError>;

/// A guest to be written, and who waits for it.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) tenant: TenantNo,
    pub(super) guest: Box<NewGuest>,
    pub(super) tell: oneshot::Sender<Outcome>,
}

fn weight(guest: &NewGuest) -> usize {
    400 + guest.user.data.len()
}

#[derive(Default)]
struct Waiting {
    rows: Vec<Creation>,
    weight: usize,
    closing: bool,
}

/// The queue that callers see.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // nothing that can panic runs under it
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a guest into the queue at once; only the answer waits.
    pub(super) fn submit(&self, tenant: TenantNo, guest: Box<NewGuest>) -> Wait<'static, Outcome> {
        let refuse = |e: StoreError| -> Wait<'static, Outcome> { Box::pin(std::future::ready(Err(e.into()))) };
        let (tell, told) = oneshot::channel();
        let rows = {
            let mut waiting = self.lock();
            if waiting.closing {
                return refuse(closed());
            }
            if waiting.weight > FULL_QUEUE {
                return refuse(StoreError::Unavailable("too many guests wait for the database".into()));
            }
            waiting.weight += weight(&guest);
            waiting.rows.push(Creation { tenant, guest, tell });
            waiting.rows.len()
        };
        if rows == 1 || rows == WORTH_ANOTHER {
            self.arrived.notify_one();
        }
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(closed().into())) })
    }

    /// Takes no more; what is there is still written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Whether guests are still taken.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closing
    }

    /// Takes the next group out, whole where it is within bounds.
    fn take(&self) -> Vec<Creation> {
        let mut waiting = self.lock();
        if waiting.rows.len() <= LARGEST && waiting.weight <= HEAVIEST {
            waiting.weight = 0;
            let room = Vec::with_capacity(waiting.rows.len());
            return mem::replace(&mut waiting.rows, room);
        }
        let (mut n, mut taken) = (0, 0);
        for row in waiting.rows.iter().take(LARGEST) {
            let more = taken + weight(&row.guest);
            if n > 0 && more > HEAVIEST {
                break;
            }
            (n, taken) = (n + 1, more);
        }
        waiting.weight -= taken;
        waiting.rows.drain(..n).collect()
    }
}

/// When the gathering ends, also because its runtime does, nobody is left waiting.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closing = true;
        waiting.rows.clear();
    }
}

/// A writer at work; however the work ends, even by a panic, the writer is back afterwards.
struct AtWork {
    writer: Option<Writer>,
    back: mpsc::UnboundedSender<Writer>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // nobody takes it when the store is gone
            let _ = self.back.send(writer);
        }
    }
}

/// Closes group after group and has each written by a free writer. Ends when the queue is closed and all is written.
pub(super) async fn gather(queue: Arc<Queue>, grouping: Grouping, writers: Vec<Writer>) {
    let ending = Ending(queue);
    let queue = &ending.0;
    let all = writers.len();
    let mut free = writers;
    let (back, mut coming) = mpsc::unbounded_channel();
    let (mut seen, mut long) = (0, false);
    loop {
        while let Ok(writer) = coming.try_recv() {
            free.push(writer);
            long = false;
        }
        let (rows, weight, closing) = {
            let waiting = queue.lock();
            (waiting.rows.len(), waiting.weight, waiting.closing)
        };
        if rows == 0 {
            seen = 0;
            if closing && free.len() == all {
                return;
            }
            tokio::select! {
                () = queue.arrived.notified() => {}
                Some(writer) = coming.recv() => free.push(writer),
            }
            continue;
        }
        let bounded = rows >= LARGEST || weight >= HEAVIEST;
        if grouping == Grouping::WhenIdle && rows != seen && !bounded {
            seen = rows;
            yield_now().await;
            continue;
        }
        let idle = free.len() == all;
        let may_go = idle || (!free.is_empty() && (grouping == Grouping::WhenFree || rows >= WORTH_ANOTHER || long));
        let Some(mut writer) = may_go.then(|| free.pop()).flatten() else {
            seen = 0;
            tokio::select! {
                Some(writer) = coming.recv() => {
                    free.push(writer);
                    long = false;
                }
                () = queue.arrived.notified(), if !free.is_empty() => {}
                () = sleep(LONG), if !free.is_empty() => long = true,
            }
            continue;
        };
        (seen, long) = (0, false);
        let group = queue.take();
        writer.begin(group);
        let mut at_work = AtWork { writer: Some(writer), back: back.clone() };
        tokio::spawn(async move {
            if let Some(writer) = &mut at_work.writer {
                writer.write().await;
            }
        });
    }
}
