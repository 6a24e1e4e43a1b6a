//! The epoch feed: whose older tokens are dead.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, ETAG, IF_NONE_MATCH},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::sync::Mutex;

use crate::{BuildError, Clock, Fetch, FetchError, Verified};

/// Longest answer that is read, in bytes: half a million entries.
const MAX_FEED: usize = 64 * 1024 * 1024;
/// Answers that are read at a time; the next poll goes on from there.
const MAX_PAGES: usize = 1_000;
/// So many entries are taken over at a time; checks go on in between.
const CHUNK: usize = 4096;
/// What the Auth0 dialect may put before an id in `sub`.
const DRESS: [&str; 2] = ["anon@", "anon|"];
/// Entries are kept for so much longer than the longest token, in seconds: the clocks of issuer and verifier differ.
const SLACK: i64 = 120;

/// How to follow the issuer's epoch feed (`GET /v1/epochs`), by which tokens die within seconds of a sign-out everywhere, a
/// recovery or a conversion rather than at their end.
#[derive(Clone)]
pub struct EpochFeed {
    /// `None`: it cannot be written in a header, which the builder then tells.
    authorization: Option<HeaderValue>,
    pub(crate) interval: Duration,
    pub(crate) longest_token: Duration,
    pub(crate) behind: Option<Duration>,
    pub(crate) capacity: usize,
}

impl fmt::Debug for EpochFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochFeed").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl EpochFeed {
    /// As an API key with the permission `epochs:read`.
    pub fn api_key(key: &str) -> Self {
        Self::by(&format!("Bearer {key}"))
    }

    /// As a confidential client of the issuer (`client_secret_basic`, RFC 6749 section 2.3.1).
    pub fn client(id: &str, secret: &str) -> Self {
        Self::by(&format!("Basic {}", STANDARD.encode(format!("{}:{}", form(id), form(secret)))))
    }

    fn by(authorization: &str) -> Self {
        let mut authorization = HeaderValue::from_str(authorization).ok();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Self {
            authorization,
            interval: Duration::from_secs(2),
            longest_token: Duration::from_hours(24),
            behind: None,
            capacity: 1 << 20,
        }
    }

    /// Time from one poll to the next, one second to one hour; two seconds by default. With the feed's own lag it is
    /// the bound within which a dead token is refused.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The longest life of an access token of the issuer (its `access_token_lifetime`), a day by default, which is the
    /// most that it can be. What is older cannot matter and is forgotten; a token that is older is refused.
    #[must_use]
    pub fn longest_token(mut self, lifetime: Duration) -> Self {
        self.longest_token = lifetime;
        self
    }

    /// When no poll has succeeded for so long, refuse every token with 503, as a dead one could not be told from a good
    /// one. By default they are accepted: then a dead token lives no longer than its `exp`, as with a verifier that
    /// follows no feed.
    #[must_use]
    pub fn refuse_when_behind(mut self, after: Duration) -> Self {
        self.behind = Some(after);
        self
    }

    /// How many raised epochs are remembered: 1,048,576 by default, at least 1,024; about 50 bytes each. Should more users be raised within
    /// the life of a token, the oldest are forgotten, and every token that is as old as those is refused: its holder
    /// renews it.
    #[must_use]
    pub fn capacity(mut self, users: usize) -> Self {
        self.capacity = users;
        self
    }

    /// Which setting cannot be.
    pub(crate) fn fault(&self) -> Option<BuildError> {
        let second = Duration::from_secs(1);
        match () {
            () if self.authorization.is_none() => Some(BuildError::Credential),
            () if !(second..=Duration::from_hours(1)).contains(&self.interval) => Some(BuildError::Interval),
            () if self.longest_token < second || self.capacity < 1024 => Some(BuildError::Memory),
            () => None,
        }
    }
}

/// Percent escapes as in a form (RFC 6749 appendix B).
fn form(text: &str) -> String {
    let escape = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => char::from(b).to_string(),
        b' ' => "+".to_owned(),
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[derive(Deserialize)]
struct Page {
    epochs: Vec<Entry>,
    cursor: Box<str>,
    /// There is more already: it is to be asked for at once.
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Entry {
    user_id: Box<str>,
    epoch: i64,
    #[serde(deserialize_with = "seconds")]
    at: i64,
}

/// A time of RFC 3339 as seconds since 1970-01-01 UTC.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    text.parse().map(jiff::Timestamp::as_second).map_err(D::Error::custom)
}

/// Follows the feed.
pub(crate) struct Epochs {
    feed: EpochFeed,
    url: Box<str>,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    hasher: RandomState,
    raised: RwLock<Raised>,
    /// Held while a poll is under way, so that there is one at a time.
    place: Mutex<Place>,
}

/// Where the next question begins.
#[derive(Default)]
struct Place {
    cursor: Option<Box<str>>,
    /// Of the last answer, when the next question is the same.
    tag: Option<HeaderValue>,
}

/// Users by a keyed hash of their id. Two users whose hashes meet by chance share the higher epoch, which refuses a good
/// token until it is renewed, and never lets a dead one pass.
#[derive(Default)]
struct Raised {
    users: HashMap<u64, (i64, i64)>,
    /// What was raised at this second or before is forgotten, in part.
    floor: Option<i64>,
    /// When what cannot matter was last forgotten.
    trimmed: i64,
    /// When the last poll that succeeded began.
    synced: Option<Duration>,
}

impl Epochs {
    pub(crate) fn new(issuer: &str, feed: EpochFeed, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        let url = format!("{}/v1/epochs", issuer.trim_end_matches('/')).into();
        Self { feed, url, fetch, clock, hasher: RandomState::new(), raised: RwLock::default(), place: Mutex::default() }
    }

    /// Polls until nobody holds the verifier any more.
    pub(crate) fn follow(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        let follower = Arc::downgrade(self);
        let interval = self.feed.interval;
        runtime.spawn(async move {
            let mut failing = false;
            while let Some(epochs) = follower.upgrade() {
                let polled = epochs.poll().await;
                match &polled {
                    Err(e) if !failing => tracing::warn!(url = &*epochs.url, "the epoch feed cannot be read: {e}"),
                    Ok(()) if failing => tracing::info!(url = &*epochs.url, "the epoch feed is read again"),
                    _ => {}
                }
                failing = polled.is_err();
                drop(epochs);
                tokio::time::sleep(interval).await;
            }
        });
    }

    /// Asks for what is new, to its end.
    pub(crate) async fn poll(&self) -> Result<(), FetchError> {
        let mut place = self.place.lock().await;
        let began = self.clock.monotonic();
        for _ in 0..MAX_PAGES {
            let Some(page) = self.ask(&mut place).await? else {
                self.caught_up(began);
                return Ok(());
            };
            for entries in page.epochs.chunks(CHUNK) {
                self.take(entries);
            }
            self.trim();
            let moved = place.cursor.as_ref() != Some(&page.cursor);
            if moved {
                // a tag belongs to the question that it answered
                *place = Place { cursor: Some(page.cursor), tag: None };
            }
            if !page.more {
                self.caught_up(began);
                return Ok(());
            }
            if !moved {
                return Err(FetchError::new("the feed has more and does not say where"));
            }
        }
        Err(FetchError::new("the feed is longer than can be read at a time"))
    }

    fn caught_up(&self, began: Duration) {
        self.raised.write().unwrap_or_else(PoisonError::into_inner).synced = Some(began);
    }

    /// The page at a place; `None` when it is the one that was answered before.
    async fn ask(&self, place: &mut Place) -> Result<Option<Page>, FetchError> {
        let url = match &place.cursor {
            Some(since) => format!("{}?since={}", self.url, form(since)),
            None => self.url.to_string(),
        };
        let mut request = Request::get(url).header(ACCEPT, "application/json").body(()).map_err(FetchError::new)?;
        let headers = request.headers_mut();
        headers.extend(self.feed.authorization.clone().map(|value| (AUTHORIZATION, value)));
        headers.extend(place.tag.clone().map(|tag| (IF_NONE_MATCH, tag)));
        let answer = self.fetch.fetch(request, MAX_FEED).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if place.tag.is_some() => return Ok(None),
            status => {
                // a cursor that the issuer does not know (any more): from the beginning
                if matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE) {
                    *place = Place::default();
                }
                return Err(FetchError::new(format_args!("{} answers {status}", self.url)));
            }
        }
        let page = serde_json::from_slice(answer.body()).map_err(|e| FetchError::new(format_args!("the feed: {e}")))?;
        place.tag = answer.headers().get(ETAG).cloned();
        Ok(Some(page))
    }

    fn horizon(&self) -> i64 {
        self.clock.now() - self.feed.longest_token.as_secs() as i64 - SLACK
    }

    fn take(&self, entries: &[Entry]) {
        let horizon = self.horizon();
        let mut raised = self.raised.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            if entry.at < horizon {
                continue;
            }
            let user = self.hasher.hash_one(&*entry.user_id);
            let held = raised.users.entry(user).or_insert((entry.epoch, entry.at));
            *held = (held.0.max(entry.epoch), held.1.max(entry.at));
        }
    }

    /// Forgets what cannot matter, and beyond the capacity the oldest, for which the floor then stands.
    fn trim(&self) {
        let (now, horizon, capacity) = (self.clock.now(), self.horizon(), self.feed.capacity);
        let mut raised = self.raised.write().unwrap_or_else(PoisonError::into_inner);
        let due = (now - raised.trimmed).unsigned_abs() >= self.feed.longest_token.as_secs() / 16;
        if !due && raised.users.len() <= capacity {
            return;
        }
        raised.trimmed = now;
        raised.users.retain(|_, (_, at)| *at >= horizon);
        if raised.users.len() > capacity {
            let mut times: Vec<i64> = raised.users.values().map(|(_, at)| *at).collect();
            // down to three quarters, so that it is not done at every poll
            let drop = times.len() - capacity * 3 / 4;
            let (_, floor, _) = times.select_nth_unstable(drop - 1);
            let floor = *floor;
            raised.users.retain(|_, (_, at)| *at > floor);
            raised.floor = raised.floor.max(Some(floor));
            tracing::warn!("more epochs rose than are remembered: tokens issued until {floor} are refused");
        }
        if raised.users.capacity() > 2 * raised.users.len() + CHUNK {
            raised.users.shrink_to_fit();
        }
    }

    /// Whether the token's user was raised beyond it, as far as is known.
    pub(crate) fn is_dead(&self, token: &Verified) -> bool {
        if token.session().is_none() {
            // a client's own token: its `sub` is the client, and a user may bear the same name
            return false;
        }
        let raised = self.raised.read().unwrap_or_else(PoisonError::into_inner);
        let forgotten = raised.floor.unwrap_or(i64::MIN).max(self.horizon());
        if token.issued_at() <= forgotten {
            return true;
        }
        let subject = token.subject();
        let bare = DRESS.iter().filter_map(|prefix| subject.strip_prefix(prefix));
        std::iter::once(subject)
            .chain(bare)
            .filter_map(|id| raised.users.get(&self.hasher.hash_one(id)))
            .any(|(epoch, _)| token.epoch() < *epoch)
    }

    /// How long ago the last poll that succeeded began; `None`: none has.
    pub(crate) fn lag(&self) -> Option<Duration> {
        let synced = self.raised.read().unwrap_or_else(PoisonError::into_inner).synced?;
        Some(self.clock.monotonic().saturating_sub(synced))
    }

    /// Whether tokens must be refused for want of news.
    pub(crate) fn is_too_far_behind(&self) -> bool {
        self.feed.behind.is_some_and(|after| self.lag().is_none_or(|lag| lag > after))
    }
}
