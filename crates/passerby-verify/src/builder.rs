//! Settings of a verifier.

use std::{sync::Arc, time::Duration};

use http::Uri;

use crate::{
    Algorithm, Clock, EpochFeed, Fetch, SystemClock, Verifier,
    dpop::{AHEAD, Address, Proofs},
    epochs::Epochs,
    issuer::{Issuer, KeyTimes},
    replay::Replay,
    verifier::Parts,
};

/// Most that clocks may differ by.
const MAX_LEEWAY: Duration = Duration::from_mins(1);
/// Oldest proof that a setting may allow.
const MAX_PROOF_AGE: Duration = Duration::from_mins(5);

/// Makes a [`Verifier`]. Everything but issuer and audience has a default.
#[derive(Clone)]
#[must_use = "nothing is checked before `build`"]
pub struct Builder {
    issuer: Box<str>,
    audience: Box<str>,
    addresses: Vec<Box<str>>,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    proof_age: Duration,
    proofs: usize,
    keys: KeyTimes,
    epochs: Option<EpochFeed>,
    plain_http: bool,
    fetch: Option<Arc<dyn Fetch>>,
    clock: Arc<dyn Clock>,
}

/// Why a verifier cannot be made. Closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The issuer is no https URL without query and fragment (http counts for a loopback host only).
    #[error("the issuer must be an https URL without query and fragment; http only on a loopback host")]
    Issuer,
    /// The audience is empty.
    #[error("the audience must not be empty")]
    Audience,
    /// An address is no http or https URL.
    #[error("an address must be an http or https URL without user and password")]
    Address,
    /// No algorithm is accepted.
    #[error("there must be an algorithm")]
    Algorithms,
    /// A leeway of more than a minute.
    #[error("the leeway must be a minute at most")]
    Leeway,
    /// Proofs of no age, or older than five minutes; or fewer than 16 are remembered.
    #[error("proofs may be 1 second to 5 minutes old, and at least 16 must be remembered")]
    Proofs,
    /// Keys are used no longer than they are fresh, or are fetched without a pause.
    #[error("keys must be fetched a second apart or more, and be used longer than they are fresh")]
    Keys,
    /// The credential of the epoch feed holds what no header can carry.
    #[error("the credential of the epoch feed cannot be written in a header")]
    Credential,
    /// The epoch feed is polled more often than each second, or less than each hour.
    #[error("the epoch feed must be polled every second to every hour")]
    Interval,
    /// The epoch feed would remember too little.
    #[error("tokens live a second or more, and at least 1024 epochs must be remembered")]
    Memory,
    /// There is nothing to fetch with.
    #[error("there is no HTTP client: {0}")]
    Fetch(Box<str>),
    /// The epoch feed is followed by a task, and there is no tokio runtime to run it.
    #[error("an epoch feed needs a tokio runtime")]
    Runtime,
}

impl Verifier {
    /// Begins a verifier of one issuer's tokens for one API.
    ///
    /// `issuer` is compared as written: a trailing slash counts. `audience` is this API's identifier, as the issuer's
    /// configuration names it; a token must be for it exactly.
    pub fn builder(issuer: &str, audience: &str) -> Builder {
        Builder {
            issuer: issuer.into(),
            audience: audience.into(),
            addresses: Vec::new(),
            algorithms: Algorithm::ALL.to_vec(),
            leeway: Duration::from_secs(10),
            proof_age: Duration::from_mins(1),
            proofs: 1 << 18,
            keys: KeyTimes {
                refresh_after: Duration::from_mins(5),
                stale_after: Duration::from_hours(1),
                fetch_interval: Duration::from_secs(5),
            },
            epochs: None,
            plain_http: false,
            fetch: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

impl Builder {
    /// Where clients reach this API, such as `https://api.example.com` or `https://example.com/api`: DPoP proofs must name
    /// it with the request's path behind it. May be given more than once. Without one, tokens that are bound to a key
    /// are refused: the `Host` of a request is the client's word, and a proof made for another server could be shown
    /// here.
    pub fn address(mut self, base: &str) -> Self {
        self.addresses.push(base.into());
        self
    }

    /// The algorithms that tokens and proofs may be signed with; all of [`Algorithm::ALL`] by default. Which of them a
    /// token is signed with is the key's to say, never the token's.
    pub fn algorithms(mut self, algorithms: &[Algorithm]) -> Self {
        self.algorithms = algorithms.to_vec();
        self
    }

    /// How far the clocks of issuer and verifier may differ: 10 seconds by default, at most a minute.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How old a DPoP proof may be: a minute by default, at most five. It may always be a minute ahead.
    pub fn proof_age(mut self, age: Duration) -> Self {
        self.proof_age = age;
        self
    }

    /// How many proofs are remembered for each proof age and a minute, at least 16 and 262,144 by default (about 5 MB for
    /// each of two generations when full). One key may have a sixteenth of them. More are refused with 503, as a proof
    /// that is not remembered could be used twice.
    pub fn proofs(mut self, capacity: usize) -> Self {
        self.proofs = capacity;
        self
    }

    /// Keys that are older are fetched again, in the background: 5 minutes by default. So long a key that the issuer has
    /// withdrawn goes on being accepted.
    pub fn refresh_keys_after(mut self, age: Duration) -> Self {
        self.keys.refresh_after = age;
        self
    }

    /// While the issuer cannot be reached, keys are used up to this age: an hour by default. Then every token is refused
    /// with 503.
    pub fn stale_keys_after(mut self, age: Duration) -> Self {
        self.keys.stale_after = age;
        self
    }

    /// Keys are fetched at most once in this time, however many tokens name unknown ones: 5 seconds by default.
    pub fn fetch_keys_at_most_every(mut self, interval: Duration) -> Self {
        self.keys.fetch_interval = interval;
        self
    }

    /// Follow the epoch feed, so that tokens die within seconds of their user's epoch being raised.
    pub fn epochs(mut self, feed: EpochFeed) -> Self {
        self.epochs = Some(feed);
        self
    }

    /// Take an issuer on plain http that is not on this machine, for networks that nobody else is on: who can change
    /// what is on the wire chooses the keys.
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Fetch with this rather than with [`ReqwestFetch`](crate::ReqwestFetch).
    pub fn fetch(mut self, fetch: impl Fetch) -> Self {
        self.fetch = Some(Arc::new(fetch));
        self
    }

    /// Take the time from this rather than from the system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the verifier. Nothing is fetched before the first token is checked, but for the epoch feed, which is followed
    /// by a task from here on until the last copy of the verifier is dropped.
    ///
    /// # Errors
    /// [`BuildError`], for a setting that cannot be.
    pub fn build(self) -> Result<Verifier, BuildError> {
        if !is_issuer(&self.issuer, self.plain_http) {
            return Err(BuildError::Issuer);
        }
        if self.audience.is_empty() {
            return Err(BuildError::Audience);
        }
        if self.algorithms.is_empty() {
            return Err(BuildError::Algorithms);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(BuildError::Leeway);
        }
        let second = Duration::from_secs(1);
        if !(second..=MAX_PROOF_AGE).contains(&self.proof_age) || self.proofs < 16 {
            return Err(BuildError::Proofs);
        }
        if self.keys.fetch_interval < second || self.keys.stale_after <= self.keys.refresh_after {
            return Err(BuildError::Keys);
        }
        if let Some(fault) = self.epochs.as_ref().and_then(EpochFeed::fault) {
            return Err(fault);
        }
        let addresses: Option<Box<[Address]>> = self.addresses.iter().map(|text| Address::read(text)).collect();
        let addresses = addresses.ok_or(BuildError::Address)?;
        let fetch = match self.fetch {
            Some(fetch) => fetch,
            None => default_fetch()?,
        };
        let age = self.proof_age.as_secs() as i64;
        let algorithms: Box<[Algorithm]> = self.algorithms.into();
        let proofs = (!addresses.is_empty()).then(|| Proofs {
            addresses,
            age,
            algorithms: algorithms.clone(),
            // one second more, as both ends are whole seconds and count
            replay: Replay::new(age + AHEAD + 1, self.proofs),
        });
        let epochs = match self.epochs {
            Some(feed) => {
                let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::Runtime)?;
                let epochs = Arc::new(Epochs::new(&self.issuer, feed, fetch.clone(), self.clock.clone()));
                epochs.follow(&runtime);
                Some(epochs)
            }
            None => None,
        };
        let issuer = Issuer::new(self.issuer, algorithms.clone(), self.keys, fetch, self.clock.clone());
        Ok(Verifier::new(Parts {
            issuer: Arc::new(issuer),
            audience: self.audience,
            algorithms,
            leeway: self.leeway.as_secs() as i64,
            clock: self.clock,
            proofs,
            epochs,
        }))
    }
}

fn is_issuer(text: &str, plain_http: bool) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let scheme = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => loopback || plain_http,
        _ => false,
    };
    scheme && !host.is_empty() && !text.contains(['?', '#', '@'])
}

#[cfg(feature = "reqwest")]
fn default_fetch() -> Result<Arc<dyn Fetch>, BuildError> {
    let fetch = crate::ReqwestFetch::new().map_err(|e| BuildError::Fetch(e.to_string().into()))?;
    Ok(Arc::new(fetch))
}

#[cfg(not(feature = "reqwest"))]
fn default_fetch() -> Result<Arc<dyn Fetch>, BuildError> {
    Err(BuildError::Fetch("give the builder a `Fetch`, or switch the feature `reqwest` on".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchError, FetchFuture};

    struct Nothing;

    impl Fetch for Nothing {
        fn fetch(&self, _: http::Request<()>, _: usize) -> FetchFuture<'_> {
            Box::pin(std::future::ready(Err(FetchError::new("nothing"))))
        }
    }

    fn builder() -> Builder {
        Verifier::builder("https://id.example.com/", "https://api.example.com").fetch(Nothing)
    }

    #[test]
    fn settings_that_cannot_be() {
        assert!(builder().build().is_ok());
        let made = |builder: Builder| builder.build().err();
        for issuer in [
            "",
            "id.example.com",
            "http://id.example.com",
            "ftp://id.example.com",
            "https://id.example.com/?x",
            "https://id.example.com/#x",
            "https://u@id.example.com",
            "http://localhost.example.com",
        ] {
            assert_eq!(made(Verifier::builder(issuer, "a").fetch(Nothing)), Some(BuildError::Issuer), "{issuer}");
        }
        for issuer in
            ["http://localhost:9011", "http://127.0.0.1:9011/t/x", "http://[::1]:9011", "https://id.example.com/t/x"]
        {
            assert_eq!(made(Verifier::builder(issuer, "a").fetch(Nothing)), None, "{issuer}");
        }
        assert_eq!(made(Verifier::builder("http://passerby:9011", "a").fetch(Nothing).allow_plain_http()), None);
        assert_eq!(made(Verifier::builder("https://id.example.com", "").fetch(Nothing)), Some(BuildError::Audience));
        assert_eq!(made(builder().algorithms(&[])), Some(BuildError::Algorithms));
        assert_eq!(made(builder().leeway(Duration::from_secs(61))), Some(BuildError::Leeway));
        assert_eq!(made(builder().leeway(Duration::from_mins(1))), None);
        assert_eq!(made(builder().proof_age(Duration::from_secs(301))), Some(BuildError::Proofs));
        assert_eq!(made(builder().proof_age(Duration::ZERO)), Some(BuildError::Proofs));
        assert_eq!(made(builder().proofs(15)), Some(BuildError::Proofs));
        assert_eq!(made(builder().fetch_keys_at_most_every(Duration::ZERO)), Some(BuildError::Keys));
        assert_eq!(made(builder().stale_keys_after(Duration::from_mins(5))), Some(BuildError::Keys));
        assert_eq!(made(builder().address("api.example.com")), Some(BuildError::Address));
        let feed = || EpochFeed::api_key("k");
        assert_eq!(made(builder().epochs(EpochFeed::api_key("a\nb"))), Some(BuildError::Credential));
        assert_eq!(made(builder().epochs(feed().interval(Duration::from_millis(999)))), Some(BuildError::Interval));
        assert_eq!(made(builder().epochs(feed().capacity(10))), Some(BuildError::Memory));
        assert_eq!(made(builder().epochs(feed())), Some(BuildError::Runtime), "there is none here");
    }
}
