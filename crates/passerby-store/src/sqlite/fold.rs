//! Folding the write-ahead log into the file, beside the writer: a commit that did it itself would hold up its whole
//! group, and everybody behind it, for the time that some thousand pages take to reach the disk.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OpenFlags};

use super::migrate::every_connection;

/// The log is looked at after so many groups: some thousand pages under load, and seldom otherwise.
const GROUPS: u32 = 128;

/// While commits go on, the log can only begin anew when the writer folds in its last pages itself; it does so once
/// the log has this many (16 MiB). Nearly all of them are in the file by then.
const LONG: i64 = 4000;

/// The writer's end of it.
pub(super) struct Folder {
    groups: u32,
    wake: Option<SyncSender<()>>,
    long: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Folder {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        every_connection(&db)?;
        db.execute_batch("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-256")?;
        let (wake, woken) = mpsc::sync_channel(1);
        let long = Arc::new(AtomicBool::new(false));
        let told = long.clone();
        let thread = std::thread::Builder::new()
            .name("passerby-folder".into())
            .spawn(move || {
                while woken.recv() == Ok(()) {
                    told.store(fold(&db) >= LONG, Ordering::Relaxed);
                }
            })
            .ok();
        Ok(Self { groups: 0, wake: Some(wake), long, thread })
    }

    /// To be called by the writer after each group was answered.
    pub(super) fn after_group(&mut self, writer: &Connection) {
        if self.long.swap(false, Ordering::Relaxed) {
            fold(writer);
            self.groups = 0;
            return;
        }
        self.groups += 1;
        if self.groups >= GROUPS {
            self.groups = 0;
            if let Some(wake) = &self.wake {
                // it is at work already, or will be
                let _ = wake.try_send(());
            }
        }
    }

    /// Ends the thread, so that the writer has the log for itself.
    pub(super) fn stop(mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves what is in the log into the file without waiting for anybody. How many pages the log had.
fn fold(db: &Connection) -> i64 {
    match db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get::<_, i64>(1)) {
        Ok(pages) => pages,
        Err(e) => {
            // a full disk, say: the log keeps everything, and the next turn tries again
            tracing::warn!(error = %e, "the write-ahead log was not folded in");
            0
        }
    }
}
