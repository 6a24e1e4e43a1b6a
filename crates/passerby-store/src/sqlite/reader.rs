//! Reads by key on the thread that asks: each thread has its own read-only connection of each store.
//!
//! A read of two rows that lie in the cache is cheaper than handing it to another thread and back.

use std::{
    cell::RefCell,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use passerby_core::port::StoreError;
use rusqlite::{Connection, OpenFlags};

use super::{
    error::{closed, store_error},
    migrate::every_connection,
};

/// A connection of one thread. The store can take it away when it closes; the lock is otherwise never contended.
type Slot = Mutex<Option<Connection>>;

thread_local! {
    static SLOTS: RefCell<Vec<(u64, Arc<Slot>)>> = const { RefCell::new(Vec::new()) };
}

/// The read-only connections of one store, over all threads.
pub(super) struct Readers {
    no: u64,
    path: PathBuf,
    all: Mutex<Vec<Weak<Slot>>>,
    closed: AtomicBool,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let no = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { no, path, all: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Runs `f` with this thread's connection.
    pub(super) fn read<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        SLOTS.with_borrow_mut(|slots| {
            let at = match slots.iter().position(|(no, _)| *no == self.no) {
                Some(at) => at,
                None => self.connect(slots)?,
            };
            let slot = slots[at].1.lock().unwrap_or_else(PoisonError::into_inner);
            let db = slot.as_ref().ok_or_else(closed)?;
            f(db).map_err(|e| store_error(&e))
        })
    }

    fn connect(&self, slots: &mut Vec<(u64, Arc<Slot>)>) -> Result<usize, StoreError> {
        // the places of stores that were closed meanwhile
        slots.retain(|(_, slot)| slot.lock().unwrap_or_else(PoisonError::into_inner).is_some());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open_with_flags(&self.path, flags)?;
            every_connection(&db)?;
            // in WAL nobody blocks a reader for long, and a waiting read holds its thread
            db.busy_timeout(Duration::from_secs(1))?;
            db.execute_batch("PRAGMA query_only=ON; PRAGMA cache_size=-4096")?;
            Ok(db)
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // under the lock that `close` takes, so that none is opened behind its back
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let slot = Arc::new(Mutex::new(Some(open().map_err(|e| store_error(&e))?)));
        all.retain(|s| s.strong_count() > 0);
        all.push(Arc::downgrade(&slot));
        slots.push((self.no, slot));
        Ok(slots.len() - 1)
    }

    /// Closes the connections of all threads.
    pub(super) fn close(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        for slot in all.drain(..).filter_map(|s| s.upgrade()) {
            slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}
