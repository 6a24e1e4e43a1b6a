//! Connections that wait for the next mail.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::{client::AsyncSmtpConnection, commands::Rset};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// How long a connection waits for the next mail; servers hang up after five minutes (RFC 5321 section 4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(30);

struct Parked {
    connection: AsyncSmtpConnection,
    since: Instant,
}

pub(super) struct Pool {
    idle: Arc<Mutex<Vec<Parked>>>,
    slots: Arc<Semaphore>,
    patience: Duration,
}

/// The right to use one connection.
pub(super) struct Slot<'a> {
    pool: &'a Pool,
    // never closed, so there is always one; an Option because tokio's type says so
    _permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(super) fn new(connections: usize, patience: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { idle: Arc::default(), slots, patience }
    }

    /// Waits until fewer connections than allowed are in use.
    pub(super) async fn slot(&self) -> Slot<'_> {
        Slot { pool: self, _permit: Arc::clone(&self.slots).acquire_owned().await.ok() }
    }

    fn take(&self) -> Option<Parked> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Slot<'_> {
    /// A connection that still answers; each that does not is dropped.
    pub(super) async fn idle(&self) -> Option<AsyncSmtpConnection> {
        while let Some(Parked { mut connection, since }) = self.pool.take() {
            let alive = since.elapsed() < IDLE
                && matches!(timeout(self.pool.patience, connection.command(Rset)).await, Ok(Ok(_)));
            if alive {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next mail: only one whose dialogue has ended well.
    pub(super) fn give_back(self, connection: AsyncSmtpConnection) {
        let parked = Parked { connection, since: Instant::now() };
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(parked);
    }
}
