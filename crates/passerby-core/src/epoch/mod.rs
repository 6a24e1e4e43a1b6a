//! Raised epochs, told to everybody who checks tokens without asking for each: tokens of the user with a lower epoch are
//! dead.
//!
//! Commits finish out of order and replicas' clocks differ, so whoever has been told everything up to a moment may still
//! have missed what was decided before it. The cursor therefore lies [`LAG`] behind the moment at which the store was
//! last read to its end, and what is younger is told again.

mod log;
mod page;
mod watch;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use futures_util::lock::Mutex as AsyncMutex;
use quick_cache::sync::Cache;

use self::{
    log::Log,
    page::{Basis, Block, Weigh, cursor_after},
};
use crate::{
    Error, Timestamp,
    id::{TenantNo, UserId},
    passerby::{Passerby, yield_once},
};

pub use self::{
    page::{Cursor, Dressed, Entry, Page},
    watch::{EpochWatch, Follower, KeptFollower, Watched},
};

/// So far a cursor lies behind the moment at which the store was read: the longest transaction (8 s, which the stores
/// hold to), clocks of replicas that differ (5 s at most), and what waits before its transaction begins. Seconds.
pub const LAG: i64 = 15;

/// A cursor so many seconds further ahead than ours was given by a clock that was wrong, and says nothing.
const AHEAD: i64 = 10;

/// Somebody who asks reads the store, where nobody has for so long. Milliseconds.
const DUE: i64 = 2_000;

/// What was not read for so long is no longer answered from memory. Milliseconds.
const STALE: i64 = 15_000;

/// Rows of one read of the store. An engine may read on the thread that serves requests: none shall wait long for it.
const ROWS: u32 = 1_000;

/// Raises in one answer, but all of a second, and all that may still change.
const PAGE: usize = 10_000;

/// Reads of the store for one answer: of many tenants, one may have raised little.
const READS: u32 = 40;

/// So many bytes of answers are remembered.
const ANSWERS: u64 = 64 << 20;

/// What this process remembers of raised epochs, and who is told.
pub(crate) struct Epochs {
    log: Mutex<Log>,
    pages: Cache<(TenantNo, i64), Arc<Page>, Weigh>,
    /// Somebody reads the store.
    reading: AtomicBool,
    /// Held by the one who asks the store for what memory no longer has.
    asking: AsyncMutex<()>,
    /// How often the store was asked so.
    reads: AtomicU64,
    streams: AtomicUsize,
    next_stream: AtomicU64,
    ended: AtomicBool,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            // for so few, it is not divided: a long answer must fit
            pages: Cache::with_weighter(32, ANSWERS, Weigh),
            reading: AtomicBool::new(false),
            asking: AsyncMutex::new(()),
            reads: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            next_stream: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

impl Epochs {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

opaque_debug!(Epochs);

/// Reading, as long as it lives.
struct Reading<'a>(&'a AtomicBool);

impl<'a> Reading<'a> {
    fn begin(flag: &'a AtomicBool) -> Option<Self> {
        (!flag.swap(true, Ordering::Acquire)).then_some(Self(flag))
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Passerby {
    /// What a tenant raised since a cursor; without one, everything that can still matter. The same page for all who ask
    /// for the same at about the same time.
    ///
    /// # Errors
    /// The store's faults, once memory is no longer fresh.
    pub async fn epochs(&self, tenant: TenantNo, since: Option<Cursor>) -> Result<Arc<Page>, Error> {
        self.epoch_page(tenant, since, None).await
    }

    /// The same for a stream: with all that was learnt before it began. `None`: ask again in a moment.
    ///
    /// # Errors
    /// As [`Passerby::epochs`].
    pub async fn epochs_for(&self, watch: &EpochWatch, since: Option<Cursor>) -> Result<Option<Arc<Page>>, Error> {
        let page = self.epoch_page(watch.tenant, since, Some(watch)).await?;
        // a long one is not made again for each stream that begins while many rise
        Ok(page.covers(watch).then_some(page))
    }

    async fn epoch_page(
        &self,
        tenant: TenantNo,
        since: Option<Cursor>,
        watch: Option<&EpochWatch>,
    ) -> Result<Arc<Page>, Error> {
        self.read_epochs_if_due().await;
        let (now, monotonic) = (self.now().seconds(), self.clock.monotonic_millis());
        let floor = self.epoch_floor(now);
        let since = since.filter(|c| c.0 <= now - LAG + AHEAD).map_or(floor, |c| c.0.max(floor));
        {
            let log = self.epochs.log();
            let state = log.state(tenant);
            let from = since.min(state.safe);
            if state.read_at.is_some_and(|at| monotonic - at <= STALE) && from >= state.whole_from {
                let key = (tenant, from);
                let fits = |p: &Arc<Page>| !matches!(p.basis, Basis::Present(..)) && p.holds(state, monotonic);
                if let Some(page) = self.epochs.pages.get(&key).filter(fits) {
                    return Ok(page);
                }
                let (blocks, next) = log.since(tenant, from, PAGE);
                let cursor = next.map_or_else(|| cursor_after(blocks.is_empty(), from, state.safe), Cursor);
                let page = Page::new(blocks, cursor, next.is_some()).on(Basis::Memory(state, monotonic));
                self.epochs.pages.insert(key, page.clone());
                return Ok(page);
            }
        }
        self.stored_epochs(tenant, since, watch).await
    }

    /// The same from the store, one after the other.
    async fn stored_epochs(&self, tenant: TenantNo, from: i64, watch: Option<&EpochWatch>) -> Result<Arc<Page>, Error> {
        let _alone = self.epochs.asking.lock().await;
        let (safe, monotonic) = (self.now().seconds() - LAG, self.clock.monotonic_millis());
        let from = from.min(safe);
        let key = (tenant, from);
        let state = self.epochs.log().state(tenant);
        let fits = |p: &Arc<Page>| {
            matches!(p.basis, Basis::Present(..) | Basis::Settled)
                && p.holds(state, monotonic)
                && watch.is_none_or(|w| p.covers(w))
        };
        if let Some(page) = self.epochs.pages.get(&key).filter(fits) {
            return Ok(page);
        }
        let number = self.epochs.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let mut entries = Vec::new();
        let mut at = from;
        let mut next = None;
        for read in 1.. {
            let rows = self.store.epochs(Timestamp::from_seconds(at), ROWS).await?;
            let whole = rows.len() < ROWS as usize;
            at = rows.last().map_or(at, |last| last.at.seconds() + 1);
            entries.extend(rows.into_iter().filter(|row| row.tenant == tenant).map(Entry::from));
            if whole {
                break;
            }
            if at <= safe && (entries.len() >= PAGE || read >= READS) {
                next = Some(at);
                break;
            }
            yield_once().await;
        }
        let cursor = next.map_or_else(|| cursor_after(entries.is_empty(), from, safe), Cursor);
        let basis = if next.is_some() { Basis::Settled } else { Basis::Present(monotonic, number) };
        let page = Page::new(vec![Block::new(entries)], cursor, next.is_some()).on(basis);
        self.epochs.pages.insert(key, page.clone());
        Ok(page)
    }

    /// Before this second nothing was raised that can still matter; moves by the minute, so that those who ask for
    /// everything share an answer.
    fn epoch_floor(&self, now: i64) -> i64 {
        let longest = i64::try_from(self.settings().longest_access_token().as_secs()).unwrap_or(i64::MAX);
        let floor = now.saturating_sub(longest).saturating_sub(60).max(0);
        floor - floor % 60
    }

    async fn read_epochs_if_due(&self) {
        let due = {
            let read_at = self.epochs.log().state(TenantNo(0)).read_at;
            read_at.is_none_or(|at| !(0..=DUE).contains(&(self.clock.monotonic_millis() - at)))
        };
        if due && let Err(e) = self.follow_epochs().await {
            tracing::debug!(error = %e, "raised epochs were not read");
        }
    }

    /// Learns from the store what was raised anywhere. The program calls it each second, apart from the other jobs, which
    /// may take longer; it does nothing while another call of it runs.
    ///
    /// # Errors
    /// The store's faults; the next call makes good for it.
    pub async fn follow_epochs(&self) -> Result<(), Error> {
        let Some(_reading) = Reading::begin(&self.epochs.reading) else { return Ok(()) };
        let (now, monotonic) = (self.now().seconds(), self.clock.monotonic_millis());
        let (floor, safe) = (self.epoch_floor(now), now - LAG);
        let state = self.epochs.log().state(TenantNo(0));
        // what was young then is read again; a clock that went back takes the reading with it
        let from = state.read_at.map_or(floor, |_| state.safe.min(safe).max(floor));
        let mut at = from;
        loop {
            let rows = self.store.epochs(Timestamp::from_seconds(at), ROWS).await?;
            let whole = rows.len() < ROWS as usize;
            at = rows.last().map_or(at, |last| last.at.seconds() + 1);
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                let mut log = self.epochs.log();
                for row in rows.by_ref().take(500) {
                    log.learn(row.tenant, Entry::from(row));
                }
            }
            if whole {
                break;
            }
            yield_once().await;
        }
        let mut log = self.epochs.log();
        log.was_read(from, safe, monotonic);
        log.forget_before(floor - 60);
        Ok(())
    }

    /// Learns at once of a raise that this process committed at `at`, or of the end of a user (the epoch after its last).
    pub(crate) fn note_epoch(
        &self,
        tenant: TenantNo,
        user: UserId,
        epoch: i32,
        chosen_id: Option<&str>,
        at: Timestamp,
    ) {
        let at = Timestamp::from_seconds(at.seconds());
        self.epochs.log().learn(tenant, Entry { at, user, epoch, chosen_id: chosen_id.map(Into::into) });
    }
}
