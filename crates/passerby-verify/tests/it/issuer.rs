//! An issuer on a port of its own, whose keys, epochs and moods the test decides, and a clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::get,
};
use passerby_verify::{Builder, Clock, Error, Require, Verified, Verifier};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::signer::Key;

pub const API: &str = "https://api.example.com";
/// When the tests play.
pub const NOW: i64 = 1_800_000_000;

/// A clock moved by hand.
#[derive(Clone, Default)]
pub struct Hand {
    wall: Arc<AtomicI64>,
    passed: Arc<AtomicI64>,
}

impl Hand {
    pub fn pass(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
        self.passed.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> i64 {
        NOW + self.wall.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1_000 + self.passed.load(Ordering::SeqCst) as u64)
    }
}

pub struct World {
    pub url: String,
    /// Its first key, `e`.
    pub key: Key,
    pub clock: Hand,
    pub state: Arc<Issuer>,
}

/// What the issuer answers, and what it was asked.
pub struct Issuer {
    pub keys: Mutex<Value>,
    pub metadata: Mutex<Value>,
    /// A page, or pages by their cursor under `pages`.
    pub feed: Mutex<Value>,
    pub down: AtomicBool,
    pub metadata_asked: AtomicUsize,
    pub keys_asked: AtomicUsize,
    /// `Authorization` and `since` of each poll.
    pub polls: Mutex<Vec<(String, Option<String>)>>,
    pub feed_status: Mutex<StatusCode>,
    /// How many of them were answered by 304.
    pub unchanged: AtomicUsize,
    /// A permit is taken for each answer with keys.
    pub gate: Semaphore,
}

impl Issuer {
    pub fn set_keys(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() });
    }

    pub fn fetches(&self) -> usize {
        assert_eq!(self.metadata_asked.load(Ordering::SeqCst), self.keys_asked.load(Ordering::SeqCst));
        self.keys_asked.load(Ordering::SeqCst)
    }

    fn answer(&self, body: &Mutex<Value>) -> Response {
        if self.down.load(Ordering::SeqCst) {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Json(body.lock().unwrap().clone()).into_response()
    }
}

async fn metadata(State(issuer): State<Arc<Issuer>>) -> Response {
    issuer.metadata_asked.fetch_add(1, Ordering::SeqCst);
    if issuer.down.load(Ordering::SeqCst) {
        issuer.keys_asked.fetch_add(1, Ordering::SeqCst);
    }
    issuer.answer(&issuer.metadata)
}

async fn keys(State(issuer): State<Arc<Issuer>>) -> Response {
    issuer.keys_asked.fetch_add(1, Ordering::SeqCst);
    issuer.gate.acquire().await.unwrap().forget();
    issuer.answer(&issuer.keys)
}

#[derive(serde::Deserialize)]
struct Since {
    since: Option<String>,
}

async fn feed(State(issuer): State<Arc<Issuer>>, Query(query): Query<Since>, headers: HeaderMap) -> Response {
    let who = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    issuer.polls.lock().unwrap().push((who, query.since.clone()));
    let status = *issuer.feed_status.lock().unwrap();
    if status != StatusCode::OK {
        return status.into_response();
    }
    if issuer.down.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let feed = issuer.feed.lock().unwrap().clone();
    let page = feed.get("pages").map_or(&feed, |pages| &pages[query.since.as_deref().unwrap_or_default()]);
    let tag = format!("\"{}\"", crate::signer::hash(&page.to_string()));
    if headers.get("if-none-match").is_some_and(|known| *known == *tag) {
        issuer.unchanged.fetch_add(1, Ordering::SeqCst);
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([("etag", tag)], Json(page.clone())).into_response()
}

impl World {
    /// An issuer with one key.
    pub async fn new() -> Self {
        let key = Key::es256("e");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Issuer {
            keys: Mutex::default(),
            metadata: Mutex::new(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") })),
            feed: Mutex::new(json!({ "epochs": [], "cursor": "0" })),
            down: AtomicBool::new(false),
            metadata_asked: AtomicUsize::new(0),
            keys_asked: AtomicUsize::new(0),
            polls: Mutex::default(),
            feed_status: Mutex::new(StatusCode::OK),
            unchanged: AtomicUsize::new(0),
            gate: Semaphore::new(1 << 20),
        });
        state.set_keys(&[&key]);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/v1/epochs", get(feed))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, key, clock: Hand::default(), state }
    }

    pub fn builder(&self) -> Builder {
        Verifier::builder(&self.url, API).clock(self.clock.clone()).address(API)
    }

    pub fn verifier(&self) -> Verifier {
        self.builder().build().unwrap()
    }

    /// What a guest's token for the API says.
    pub fn claims(&self) -> Value {
        let now = self.clock.now();
        json!({
            "iss": self.url, "sub": "0190a1f0-0000-7000-8000-000000000001", "aud": API, "iat": now, "exp": now + 900,
            "jti": "AAAAAAAAAAAAAAAAAAAAAA", "client_id": "shop", "scope": "read:cart write:cart",
            "sid": "0190a1f0-0000-7000-8000-000000000002", "is_anonymous": true, "epoch": 0,
        })
    }

    /// The same with other members; `null` takes one away.
    pub fn claims_with(&self, change: Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    pub fn token(&self) -> String {
        self.key.token(&self.claims())
    }

    pub fn token_with(&self, change: Value) -> String {
        self.key.token(&self.claims_with(change))
    }
}

/// `GET /cart` with these headers.
pub async fn ask(verifier: &Verifier, headers: &[(&'static str, &str)], require: &Require) -> Result<Verified, Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    verifier.check(&Method::GET, &Uri::from_static("/cart?page=2"), &map, require).await
}

/// The same with a token as `Bearer`, of a guest or member.
pub async fn bearer(verifier: &Verifier, token: &str) -> Result<Verified, Error> {
    ask(verifier, &[("authorization", &format!("Bearer {token}"))], &Require::user()).await
}
