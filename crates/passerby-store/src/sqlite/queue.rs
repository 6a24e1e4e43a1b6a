//! The queue before the writer, and the task that closes groups and wakes those who wait.
//!
//! Measured: one hand-over a group each way costs 28 µs of CPU a durable guest, one message a change 40. Waiters are
//! woken on the runtime's own thread, since waking it from outside is a system call each.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use passerby_core::{
    id::TenantNo,
    model::{Item, LookUp, NewGuest, Session, User},
    port::{Act, Change, CommitError, Committed, ItemChange, RecordChange, StoreError, Turn, Wait},
};
use tokio::{
    sync::{Notify, mpsc as signal, oneshot},
    task::yield_now,
    time::Instant,
};

use super::error::closed;
use crate::open::Grouping;

/// No group has more changes, however many wait.
const LARGEST: usize = 512;
/// No group is heavier, but for one change that is heavier by itself.
const HEAVIEST: usize = 4 << 20;
/// What may wait in all; beyond it, callers are told to come back.
const FULL_QUEUE: usize = 64 << 20;

/// What the writer answers to one piece of work.
pub(super) type Outcome = Result<Committed, CommitError>;

/// One piece of work for the writer.
#[derive(Debug)]
pub(super) enum Work {
    /// A change of the port; not to be begun after the moment.
    Change(TenantNo, Change, Option<Instant>),
    /// Numbers a tenant, unless it has a number.
    Tenant([u8; 16]),
    /// Numbers a client, unless it has a number.
    Client(TenantNo, Box<str>),
}

impl Work {
    /// Bytes that it holds, roughly.
    fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let user = |u: &User| 200 + u.data.len() + text(&u.server_data) + text(&u.chosen_id);
        let session = |s: &Session| 200 + text(&s.metadata);
        let item = |i: &Item| 100 + i.body.len();
        let guest = |g: &NewGuest| user(&g.user) + session(&g.session) + g.items.iter().map(item).sum::<usize>();
        let look_ups = |all: &[LookUp]| mem::size_of_val(all);
        let put = |c: &ItemChange| if let ItemChange::Put { item: i, .. } = c { item(i) } else { 100 };
        let record =
            |c: &RecordChange| 100 + if let RecordChange::Put { record: r, .. } = c { r.body.len() } else { 0 };
        let turn = |turn: &Turn| {
            turn.open.as_deref().map_or(0, session)
                + turn.items.iter().map(put).sum::<usize>()
                + look_ups(&turn.look_ups)
                + turn.write.as_ref().map_or(0, |write| 100 + text(&write.data))
                + turn.records.iter().map(record).sum::<usize>()
        };
        let Self::Change(_, change, _) = self else { return 200 };
        let act = match &change.act {
            Act::Create(g, rows) | Act::CreateChosen(g, rows) => guest(g) + look_ups(rows),
            Act::AddUser(u) => user(&u.user) + u.items.iter().map(item).sum::<usize>() + look_ups(&u.look_ups),
            Act::OpenSession { session: s, .. } => session(s),
            Act::Turn(one) => turn(one),
            Act::Turns(all) => all.iter().map(turn).sum(),
            Act::Records(changes) => changes.iter().map(record).sum(),
            Act::Settle(all) => all.iter().map(|s| 150 + s.body.as_ref().map_or(0, |body| body.len())).sum(),
            // the edit's own text is not known here: as large as a usual profile
            Act::Edit(_) | Act::Manage(_) => 4096,
            Act::Touch(touches) => mem::size_of_val(&touches[..]),
            Act::PutApiKey { key, .. } => 200 + key.grants.len(),
            Act::TouchApiKeys(touches) => mem::size_of_val(&touches[..]),
            Act::SetMeta(_, value) | Act::InitMeta(_, value) => value.len(),
            _ => 0,
        };
        let out = change.out.iter().map(|row| 200 + row.body.len()).sum::<usize>();
        200 + act + out + change.keep.as_ref().map_or(0, |g| guest(g))
    }
}

/// What goes to the writer and comes back with the answers; the buffers are used again.
#[derive(Default)]
pub(super) struct Group {
    pub(super) work: Vec<Work>,
    pub(super) outcomes: Vec<Outcome>,
}

#[derive(Default)]
struct Waiting {
    work: Vec<Work>,
    tell: Vec<oneshot::Sender<Outcome>>,
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

    /// Puts work into the queue at once; only the answer waits.
    pub(super) fn submit(&self, work: Work) -> Wait<'static, Outcome> {
        let refuse = |e: StoreError| -> Wait<'static, Outcome> { Box::pin(std::future::ready(Err(e.into()))) };
        let (tell, told) = oneshot::channel();
        let weight = work.weight();
        let first = {
            let mut waiting = self.lock();
            if waiting.closing {
                return refuse(closed());
            }
            if waiting.weight > FULL_QUEUE {
                return refuse(StoreError::Unavailable("too many changes wait for the disk".into()));
            }
            waiting.weight += weight;
            waiting.work.push(work);
            waiting.tell.push(tell);
            waiting.work.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(closed().into())) })
    }

    /// Takes no more work; what is there is still written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Whether work is still taken.
    pub(super) fn is_open(&self) -> bool {
        !self.lock().closing
    }

    /// Takes the next group out, whole where it is within bounds.
    fn take(&self, work: &mut Vec<Work>, tell: &mut Vec<oneshot::Sender<Outcome>>) {
        let mut waiting = self.lock();
        if waiting.work.len() <= LARGEST && waiting.weight <= HEAVIEST {
            mem::swap(&mut waiting.work, work);
            mem::swap(&mut waiting.tell, tell);
            waiting.weight = 0;
            return;
        }
        let (mut n, mut weight) = (0, 0);
        for w in waiting.work.iter().take(LARGEST) {
            let more = weight + w.weight();
            if n > 0 && more > HEAVIEST {
                break;
            }
            (n, weight) = (n + 1, more);
        }
        waiting.weight -= weight;
        work.extend(waiting.work.drain(..n));
        tell.extend(waiting.tell.drain(..n));
    }
}

/// When the gathering ends, also because its runtime does, nobody is left waiting.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closing = true;
        waiting.tell.clear();
        waiting.work.clear();
    }
}

/// Closes group after group, has each written, and wakes those who wait for it. Ends when the queue is closed and empty
/// and the writer is gone, or when the writer died.
pub(super) async fn gather(
    queue: Arc<Queue>,
    grouping: Grouping,
    writer: mpsc::Sender<Group>,
    mut written: signal::UnboundedReceiver<Group>,
) {
    let ending = Ending(queue);
    let queue = &ending.0;
    let (mut spare, mut tell) = (Group::default(), Vec::new());
    loop {
        let mut seen = 0;
        loop {
            let (now, weight, closing) = {
                let waiting = queue.lock();
                (waiting.work.len(), waiting.weight, waiting.closing)
            };
            if now == 0 {
                if closing {
                    drop(writer);
                    // the writer ends its connection, then its end of the channel
                    while written.recv().await.is_some() {}
                    return;
                }
                queue.arrived.notified().await;
            } else if grouping == Grouping::WhenFree || now == seen || now >= LARGEST || weight >= HEAVIEST {
                break;
            } else {
                seen = now;
                yield_now().await;
            }
        }
        let mut group = mem::take(&mut spare);
        queue.take(&mut group.work, &mut tell);
        if writer.send(group).is_err() {
            return;
        }
        let Some(back) = written.recv().await else { return };
        spare = back;
        for (tell, outcome) in tell.drain(..).zip(spare.outcomes.drain(..)) {
            // who stopped waiting is told nothing
            let _ = tell.send(outcome);
        }
        // freed here, where it was allocated
        spare.work.clear();
    }
}

#[cfg(test)]
mod tests {
    use passerby_core::Timestamp;

    use super::*;

    fn work(bytes: usize) -> Work {
        let act = Act::SetMeta("x", vec![0; bytes]);
        Work::Change(TenantNo(1), Change { at: Timestamp::default(), keep: None, act, out: Vec::new() }, None)
    }

    fn is_unavailable(outcome: &Outcome) -> bool {
        matches!(outcome, Err(CommitError::Store(StoreError::Unavailable(_))))
    }

    #[tokio::test]
    async fn a_dead_writer_leaves_nobody_waiting() {
        for grouping in [Grouping::WhenIdle, Grouping::WhenFree] {
            let queue = Arc::new(Queue::default());
            let (to_writer, groups) = mpsc::channel::<Group>();
            let (back, written) = signal::unbounded_channel();
            let gathering = tokio::spawn(gather(queue.clone(), grouping, to_writer, written));
            let (first, second) = (queue.submit(work(1)), queue.submit(work(1)));
            // it dies with a group in its hands
            let died = std::thread::spawn(move || {
                let group = groups.recv().expect("a group");
                drop((group, back, groups));
            });
            assert!(is_unavailable(&first.await) && is_unavailable(&second.await));
            assert!(is_unavailable(&queue.submit(work(1)).await), "and nobody waits for it later");
            assert!(!queue.is_open());
            gathering.await.unwrap();
            died.join().unwrap();
        }
    }

    #[tokio::test]
    async fn the_end_of_the_task_leaves_nobody_waiting() {
        let queue = Arc::new(Queue::default());
        let (to_writer, _groups) = mpsc::channel::<Group>();
        let (_back, written) = signal::unbounded_channel::<Group>();
        let gathering = tokio::spawn(gather(queue.clone(), Grouping::WhenIdle, to_writer, written));
        let waiting = queue.submit(work(1));
        while queue.lock().work.len() == 1 {
            yield_now().await;
        }
        let behind = queue.submit(work(1));
        gathering.abort();
        assert!(is_unavailable(&waiting.await) && is_unavailable(&behind.await));
    }

    #[test]
    fn a_group_ends_by_number_and_by_weight() {
        let queue = Queue::default();
        let take = || {
            let (mut work, mut tell) = (Vec::new(), Vec::new());
            queue.take(&mut work, &mut tell);
            assert_eq!(work.len(), tell.len());
            work.len()
        };
        let waits: Vec<_> = (0..LARGEST + 3).map(|_| queue.submit(work(1))).collect();
        assert_eq!((take(), take(), take()), (LARGEST, 3, 0));
        drop(waits);
        let waits: Vec<_> = [1, HEAVIEST / 2, HEAVIEST, HEAVIEST * 2, 1].map(|n| queue.submit(work(n))).into();
        assert_eq!((take(), take(), take(), take(), take()), (2, 1, 1, 1, 0));
        assert_eq!(queue.lock().weight, 0);
        drop(waits);
    }

    #[tokio::test]
    async fn a_queue_has_its_bounds() {
        let queue = Queue::default();
        let _waits: Vec<_> = (0..17).map(|_| queue.submit(work(HEAVIEST))).collect();
        let refused = queue.submit(work(1)).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
}
