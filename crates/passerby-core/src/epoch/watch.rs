//! Who follows raised epochs, and the streams that are kept open for it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use zeroize::Zeroizing;

use super::{Cursor, Epochs, Page, STALE, log::News};
use crate::{
    Code, Error,
    caller::{Caller, ClientClaim, Site},
    id::TenantNo,
    passerby::Passerby,
    settings::ApiScope,
};

/// So many streams may be open at once.
const STREAMS: usize = 10_000;

/// Who follows.
#[derive(Clone, Copy)]
pub enum Follower<'a> {
    /// Whoever shows this API key.
    ApiKey(&'a str),
    /// A confidential client and its secret.
    Client(&'a str, &'a str),
}

/// The same, kept as long as a stream is open.
#[derive(Clone)]
pub struct KeptFollower {
    id: Option<Box<str>>,
    secret: Zeroizing<String>,
}

impl Follower<'_> {
    /// For asking again later.
    pub fn keep(self) -> KeptFollower {
        match self {
            Self::ApiKey(text) => KeptFollower { id: None, secret: Zeroizing::new(text.to_owned()) },
            Self::Client(id, secret) => KeptFollower { id: Some(id.into()), secret: Zeroizing::new(secret.to_owned()) },
        }
    }
}

impl KeptFollower {
    /// For asking.
    pub fn lend(&self) -> Follower<'_> {
        match &self.id {
            None => Follower::ApiKey(&self.secret),
            Some(id) => Follower::Client(id, &self.secret),
        }
    }
}

/// A stream's place among what is learnt. It is one of the streams that may be open until it is dropped.
pub struct EpochWatch {
    epochs: Arc<Epochs>,
    pub(super) tenant: TenantNo,
    id: u64,
    place: u64,
    /// How many raises were learnt, and how often the store had been asked, when it began.
    pub(super) head: u64,
    pub(super) read: u64,
    waker: Arc<AtomicWaker>,
}

impl Drop for EpochWatch {
    fn drop(&mut self) {
        self.epochs.log().leave(self.tenant, self.id);
        self.epochs.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a stream is to do.
#[derive(Debug)]
pub enum Watched {
    /// Tell this.
    Page(Arc<Page>),
    /// Go on from its cursor by [`Passerby::epochs_for`]: it was too slow.
    Behind,
    /// Look again in a moment, or when woken.
    Soon(Duration),
    /// End.
    Ended,
}

opaque_debug!(Follower<'_>, KeptFollower, EpochWatch);

impl Passerby {
    /// The tenant whose epochs this follower may know. `tenant`: the one that the request names.
    ///
    /// # Errors
    /// [`Code::InvalidToken`], [`Code::InsufficientScope`], [`Code::InvalidClient`]; the store's faults.
    pub async fn may_follow_epochs(&self, tenant: Option<TenantNo>, who: Follower<'_>) -> Result<TenantNo, Error> {
        match who {
            Follower::ApiKey(text) => {
                let key = self.api_key(text, Some(ApiScope::EpochsRead), "GET", "/v1/epochs").await?;
                if tenant.is_some_and(|no| no != key.tenant) {
                    return Err(Error::new(Code::InvalidToken, "The API key belongs to another tenant."));
                }
                Ok(key.tenant)
            }
            Follower::Client(id, secret) => {
                let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let caller = Caller { tenant, address, site: Site::Unknown, proof: None };
                let claim = ClientClaim {
                    id: None,
                    basic: Some((id, secret)),
                    secret: None,
                    assertion: None,
                    assertion_type: None,
                    endpoint: "/v1/epochs",
                };
                let known = self.known_client(&caller, &claim, self.now()).await?;
                if !known.authenticated {
                    return Err(Error::new(Code::InvalidClient, "Only a client that authenticates follows epochs."));
                }
                Ok(known.tenant.no)
            }
        }
    }

    /// Opens a stream: it is told what is learnt from here on. What is there already, it asks for by [`Passerby::epochs_for`]
    /// afterwards; what comes up between is told twice.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when as many are open as may be, and while the process stops.
    pub fn watch_epochs(&self, tenant: TenantNo) -> Result<EpochWatch, Error> {
        let epochs = self.epochs.clone();
        let wait = Duration::from_secs(5);
        if epochs.ended.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Unavailable, "This process is about to stop.").after(wait));
        }
        if epochs.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS {
            epochs.streams.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(Code::Unavailable, "As many streams are open as may be.").after(wait));
        }
        let id = epochs.next_stream.fetch_add(1, Ordering::Relaxed);
        let waker = Arc::new(AtomicWaker::new());
        let (place, head) = {
            let mut log = epochs.log();
            (log.join(tenant, id, waker.clone()), log.state(tenant).head)
        };
        let read = epochs.reads.load(Ordering::SeqCst);
        Ok(EpochWatch { epochs, tenant, id, place, head, read, waker })
    }

    /// What a stream is to do next; when that is nothing yet, its task is woken.
    pub fn poll_epochs(&self, watch: &mut EpochWatch, cx: &mut Context<'_>) -> Poll<Watched> {
        watch.waker.register(cx.waker());
        if self.epochs.ended.load(Ordering::Relaxed) {
            return Poll::Ready(Watched::Ended);
        }
        let (news, head) = {
            let mut log = self.epochs.log();
            let news = log.news(watch.tenant, watch.place, self.clock.monotonic_millis());
            (news, log.state(watch.tenant).head)
        };
        match news {
            News::Part(page, place) => {
                watch.place = place;
                Poll::Ready(Watched::Page(page))
            }
            News::Lost(place) => {
                watch.place = place;
                watch.head = head;
                watch.read = self.epochs.reads.load(Ordering::SeqCst);
                Poll::Ready(Watched::Behind)
            }
            News::Soon(ms) => Poll::Ready(Watched::Soon(Duration::from_millis(ms.unsigned_abs()))),
            News::Nothing => Poll::Pending,
        }
    }

    /// Where a stream that has nothing to tell stands: everything before the cursor was told. `None` when something is
    /// about to be told.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the store was not read for long: the stream must not pretend that all is well.
    pub async fn epochs_stand(&self, watch: &EpochWatch) -> Result<Option<Cursor>, Error> {
        self.read_epochs_if_due().await;
        let now = self.clock.monotonic_millis();
        let log = self.epochs.log();
        let state = log.state(watch.tenant);
        if state.read_at.is_none_or(|at| now - at > STALE) {
            return Err(Error::new(Code::Unavailable, "Raised epochs cannot be read just now."));
        }
        let idle = log.is_idle(watch.tenant, watch.place);
        Ok(idle.then_some(Cursor(state.safe)))
    }

    /// Ends all streams, and lets none begin: the process stops.
    pub fn end_epoch_streams(&self) {
        self.epochs.ended.store(true, Ordering::Relaxed);
        self.epochs.log().wake_all();
    }

    /// How many streams are open.
    pub fn epoch_streams(&self) -> usize {
        self.epochs.streams.load(Ordering::Relaxed)
    }
}
