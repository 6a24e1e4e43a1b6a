//! The threads that hash. There are few and their queue is short: what does not fit is refused at once, so that sign-ins
//! can neither starve the rest of the server nor wait without end. Threads of its own, as hashing must not hold up
//! whatever else a runtime's blocking threads do, and the core has no runtime.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures_channel::oneshot;

use crate::{Code, Error};

/// How long those who are refused are told to wait. A queue of the usual length is done by then.
const BUSY: Duration = Duration::from_secs(1);

/// How much may be hashed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    threads: usize,
    queue: usize,
}

impl PoolSettings {
    /// For a machine with so many cores: half of them hash at most, at least one. `queue` (1 to 10,000) is how many may
    /// wait; times the duration of a hash, divided by the threads, it is the longest wait: 32 are half a second on two
    /// cores. Memory: threads times [`super::HashSettings::memory`], for imported hashes up to 128 MiB each.
    ///
    /// # Errors
    /// A sentence that says the bounds.
    pub fn new(cores: usize, queue: usize) -> Result<Self, &'static str> {
        if !(1..=10_000).contains(&queue) {
            return Err("the queue must have 1 to 10000 places");
        }
        Ok(Self { threads: (cores / 2).max(1), queue })
    }

    /// How many hash at once.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// A job with its answer's way back.
trait Job: Send {
    /// Whether nobody waits for it any more.
    fn forgotten(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Asked<F, T> {
    work: F,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Asked<F, T> {
    fn forgotten(&self) -> bool {
        self.answer.is_canceled()
    }

    fn run(self: Box<Self>) {
        let Self { work, answer } = *self;
        let done = catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
            tracing::error!("a job of the hashing threads panicked");
            Error::new(Code::Internal, "The server failed; this is its fault.")
        });
        // nobody may wait any more
        let _ = answer.send(done);
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // jobs run outside of the lock: nothing that panics leaves the queue half changed
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job that somebody waits for; `None` when the pool is gone.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) if job.forgotten() => {}
                Some(job) => return Some(job),
                None => queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The pool. Dropping it forgets what waits and ends its threads after the jobs that they are at.
pub struct HashPool {
    shared: Arc<Shared>,
    places: usize,
}

opaque_debug!(HashPool);

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(settings: PoolSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), more: Condvar::new() });
        let pool = Self { shared, places: settings.queue };
        for i in 0..settings.threads {
            let shared = pool.shared.clone();
            // an error drops the pool, and with it the threads before this one
            thread::Builder::new().name(format!("hash-{i}")).spawn(move || {
                while let Some(job) = shared.next() {
                    job.run();
                }
            })?;
        }
        Ok(pool)
    }

    /// Has `work` done by one of the threads. It takes its place in the queue now, not when the future is first polled;
    /// dropping the future gives the place back and, if the work was not begun, spares it.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with a wait when the queue is full or the server stops; [`Code::Internal`] when the work
    /// panicked.
    pub fn run<T, F>(&self, work: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, asker) = oneshot::channel();
        let asked = self.enqueue(Box::new(Asked { work, answer }));
        async move {
            asked?;
            asker.await.unwrap_or_else(|_| Err(Error::new(Code::Unavailable, "The server is stopping.").after(BUSY)))
        }
    }

    fn enqueue(&self, job: Box<dyn Job>) -> Result<(), Error> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= self.places {
            queue.jobs.retain(|waiting| !waiting.forgotten());
        }
        if queue.jobs.len() >= self.places {
            let detail = "The server is busy with other sign-ins; ask again in a moment.";
            return Err(Error::new(Code::Unavailable, detail).after(BUSY));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.more.notify_one();
        Ok(())
    }

    /// How many wait: for metrics.
    pub fn waiting(&self) -> usize {
        self.shared.lock().jobs.len()
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        // dropping a job wakes its asker, which may do anything: not under the lock
        let forgotten = std::mem::take(&mut queue.jobs);
        drop(queue);
        self.shared.more.notify_all();
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        task::{Context, Poll, Wake, Waker},
    };

    use super::*;

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(value) => return value,
                Poll::Pending => thread::park(),
            }
        }
    }

    fn pool(cores: usize, queue: usize) -> HashPool {
        HashPool::new(PoolSettings::new(cores, queue).unwrap()).unwrap()
    }

    /// Has the one thread of `pool` wait until the sender is used or dropped; the future is of the job that waits.
    fn hold(pool: &HashPool) -> (mpsc::Sender<()>, impl Future<Output = Result<(), Error>> + use<>) {
        let (begun, has_begun) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let held = pool.run(move || {
            begun.send(()).unwrap();
            let _ = gate.recv();
        });
        has_begun.recv().unwrap();
        (open, held)
    }

    #[test]
    fn work_comes_back() {
        let pool = pool(2, 4);
        assert_eq!(block_on(pool.run(|| 6 * 7)).unwrap(), 42);
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn half_the_cores_hash_at_once_and_no_more() {
        assert_eq!([1, 2, 3, 4, 16].map(|cores| PoolSettings::new(cores, 1).unwrap().threads()), [1, 1, 1, 2, 8]);
        assert!(PoolSettings::new(2, 0).is_err() && PoolSettings::new(2, 10_001).is_err());
        let pool = pool(4, 6);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // two must be at work for any to end
        let barrier = Arc::new(Barrier::new(2));
        let jobs: Vec<_> = (0..6)
            .map(|_| {
                let (running, most, barrier) = (running.clone(), most.clone(), barrier.clone());
                pool.run(move || {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    barrier.wait();
                    running.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        for job in jobs {
            block_on(job).unwrap();
        }
        assert_eq!(most.load(SeqCst), 2);
    }

    #[test]
    fn a_full_queue_refuses_at_once_with_a_wait() {
        let pool = pool(2, 2);
        let (open, held) = hold(&pool);
        let waiting = [1, 2].map(|n| pool.run(move || n));
        assert_eq!(pool.waiting(), 2);
        let e = block_on(pool.run(|| 3)).unwrap_err();
        assert_eq!((e.code, e.wait), (Code::Unavailable, Some(BUSY)));
        open.send(()).unwrap();
        block_on(held).unwrap();
        assert_eq!(waiting.map(|job| block_on(job).unwrap()), [1, 2]);
        assert_eq!(block_on(pool.run(|| 4)).unwrap(), 4);
    }

    /// `places` in the queue: with one, room must be made for the next; with more, the thread meets what nobody waits for.
    fn forget_two_of_three(places: usize) {
        let pool = pool(2, places);
        let (open, held) = hold(&pool);
        let done = Arc::new(AtomicUsize::new(0));
        let count = |n: usize| {
            let done = done.clone();
            move || done.fetch_add(n, SeqCst)
        };
        drop(pool.run(count(1)));
        drop(pool.run(count(10)));
        let last = pool.run(count(100));
        open.send(()).unwrap();
        block_on(held).unwrap();
        block_on(last).unwrap();
        assert_eq!(done.load(SeqCst), 100);
    }

    #[test]
    fn work_that_nobody_waits_for_is_not_done() {
        forget_two_of_three(8);
    }

    #[test]
    fn work_that_nobody_waits_for_holds_no_place() {
        forget_two_of_three(1);
    }

    #[test]
    fn a_panic_is_its_asker_s_alone() {
        let pool = pool(2, 4);
        let e = block_on(pool.run(|| -> i32 { panic!("on purpose") })).unwrap_err();
        assert_eq!(e.code, Code::Internal);
        assert_eq!(block_on(pool.run(|| 1)).unwrap(), 1);
    }

    #[test]
    fn when_the_pool_goes_nobody_waits_for_ever() {
        let pool = pool(2, 4);
        let (open, held) = hold(&pool);
        let waiting = pool.run(|| 1);
        drop(pool);
        let e = block_on(waiting).unwrap_err();
        assert_eq!(e.code, Code::Unavailable);
        open.send(()).unwrap();
        block_on(held).unwrap();
    }
}
