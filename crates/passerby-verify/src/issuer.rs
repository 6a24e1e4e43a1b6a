//! The issuer's keys: found by discovery, kept, and fetched again when they are old or a token names one that is not held.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use http::{Request, StatusCode, header::ACCEPT};
use tokio::sync::watch;

use crate::{
    Clock, Error, Fetch, FetchError, Lack, TokenFault,
    jws::object,
    key::{Algorithm, KeySet, PublicKey},
};

/// Longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// When keys are fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyTimes {
    /// Older ones are fetched again, while they go on being used.
    pub(crate) refresh_after: Duration,
    /// Older ones are not used.
    pub(crate) stale_after: Duration,
    /// No two fetches begin within this time.
    pub(crate) fetch_interval: Duration,
}

/// The keys of one issuer.
pub(crate) struct Issuer {
    name: Box<str>,
    algorithms: Box<[Algorithm]>,
    times: KeyTimes,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    held: RwLock<Option<Held>>,
    flight: Mutex<Flight>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    since: Duration,
}

/// The one fetch that may be under way.
#[derive(Default)]
struct Flight {
    began: Option<Duration>,
    failed: bool,
    /// Closed when the fetch has ended, in whatever way.
    running: Option<watch::Receiver<()>>,
}

impl Issuer {
    pub(crate) fn new(
        name: Box<str>,
        algorithms: Box<[Algorithm]>,
        times: KeyTimes,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { name, algorithms, times, fetch, clock, held: RwLock::default(), flight: Mutex::default() }
    }

    /// `iss`, as written.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key that a token names. Waits for a fetch where the answer hangs on one, and never for more than one.
    pub(crate) async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<PublicKey>, Error> {
        if let Some(held) = self.held()
            && let Some(key) = held.keys.find(kid)
        {
            if self.clock.monotonic().saturating_sub(held.since) >= self.times.refresh_after {
                drop(self.begin());
            }
            return Ok(key);
        }
        if let Some(mut running) = self.begin() {
            // ends by the sender being dropped
            let _ = running.changed().await;
        }
        // while the issuer cannot be asked, a name that is not known may still be a new key's
        let down = self.flight.lock().unwrap_or_else(PoisonError::into_inner).failed;
        match self.held() {
            Some(held) => match held.keys.find(kid) {
                Some(key) => Ok(key),
                None if down => Err(Error::Unavailable(Lack::Keys)),
                None => Err(TokenFault::Key.into()),
            },
            None => Err(Error::Unavailable(Lack::Keys)),
        }
    }

    /// The keys held, unless they are too old.
    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        (self.clock.monotonic().saturating_sub(held.since) < self.times.stale_after).then_some(held)
    }

    /// Joins the fetch that is under way or begins one; `None` when the last began too short a time ago.
    ///
    /// The fetch is a task of its own: a caller who goes away ends nobody else's.
    fn begin(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let now = self.clock.monotonic();
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = flight.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Some(running.clone());
        }
        if flight.began.is_some_and(|began| now.saturating_sub(began) < self.times.fetch_interval) {
            return None;
        }
        let (ended, running) = watch::channel(());
        flight.began = Some(now);
        flight.running = Some(running.clone());
        drop(flight);
        let issuer = self.clone();
        tokio::spawn(async move {
            let loaded = issuer.load().await;
            let mut flight = issuer.flight.lock().unwrap_or_else(PoisonError::into_inner);
            flight.failed = loaded.is_err();
            match loaded {
                Ok(keys) => {
                    let held = Held { keys: Arc::new(keys), since: issuer.clock.monotonic() };
                    *issuer.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
                }
                Err(e) => tracing::warn!(issuer = &*issuer.name, "the issuer's keys cannot be fetched: {e}"),
            }
            drop(flight);
            drop(ended);
        });
        Some(running)
    }

    async fn load(&self) -> Result<KeySet, FetchError> {
        let base = self.name.trim_end_matches('/');
        let metadata = self.document(&format!("{base}/.well-known/openid-configuration")).await?;
        let metadata = object(&metadata).ok_or_else(|| FetchError::new("the metadata is no JSON object"))?;
        if metadata.get("issuer").and_then(|i| i.as_str()) != Some(&self.name) {
            return Err(FetchError::new("the metadata is of another issuer"));
        }
        let keys = metadata.get("jwks_uri").and_then(|uri| uri.as_str());
        let keys = keys.ok_or_else(|| FetchError::new("the metadata names no jwks_uri"))?;
        // an issuer on https must not send us to keys that anybody on the way can change
        if !keys.starts_with("https://") && self.name.starts_with("https://") {
            return Err(FetchError::new("the jwks_uri is not https"));
        }
        let set = self.document(keys).await?;
        KeySet::read(&set, &self.algorithms).ok_or_else(|| FetchError::new("there is no usable key in the key set"))
    }

    async fn document(&self, url: &str) -> Result<bytes::Bytes, FetchError> {
        let request = Request::get(url).header(ACCEPT, "application/json").body(()).map_err(FetchError::new)?;
        let answer = self.fetch.fetch(request, MAX_DOCUMENT).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(FetchError::new(format_args!("{url} answers {status}"))),
        }
    }
}
