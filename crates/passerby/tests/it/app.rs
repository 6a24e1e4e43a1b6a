//! The whole house in one process: real router, real store, a clock that is moved by hand, seeded randomness.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{body::Body, extract::ConnectInfo};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use passerby::config::{Config, Given, Overrides, Secret};
use passerby_core::{
    Passerby, Ports, Timestamp,
    port::Post,
    secret::MasterKey,
    testing::{ManualClock, Pigeonhole, SeededRandom, quick_passwords},
};
use serde_json::Value;
use tower::ServiceExt;

/// 2026-11-21T00:00:00Z.
pub const START: i64 = 1_795_219_200;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// Expands a test for both stores.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($engine:ident) $body:block)+) => {
        $(mod $name {
            use super::*;
            $(#[$meta])*
            async fn run($engine: $crate::app::Engine) $body
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() { run($crate::app::Engine::Sqlite).await; }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() { run($crate::app::Engine::Postgres).await; }
        })+
    };
}

pub fn contract() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/contract/passerby.toml");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{} must be there: {e}", path.display()))
}

/// Where the data lies, until the last app on it is gone.
struct Place {
    folder: tempfile::TempDir,
    _postgres: Option<passerby_testkit::postgres::TestDatabase>,
}

pub struct TestApp {
    pub clock: Arc<ManualClock>,
    pub core: Arc<Passerby>,
    pub database: String,
    config: String,
    door: axum::Router,
    folder: Arc<Place>,
    seed: u64,
    post: Option<Arc<Pigeonhole>>,
}

impl TestApp {
    /// The contract's configuration.
    pub async fn new(engine: Engine) -> Self {
        Self::with(engine, |text| text).await
    }

    /// The contract's configuration, changed.
    pub async fn with(engine: Engine, change: impl FnOnce(String) -> String) -> Self {
        Self::begin(engine, change, None).await
    }

    /// The same with a post that keeps what it is given, instead of the way out.
    pub async fn with_post(engine: Engine, change: impl FnOnce(String) -> String) -> (Self, Arc<Pigeonhole>) {
        let post = Arc::new(Pigeonhole::default());
        (Self::begin(engine, change, Some(post.clone())).await, post)
    }

    async fn begin(engine: Engine, change: impl FnOnce(String) -> String, post: Option<Arc<Pigeonhole>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (database, postgres) = match engine {
            Engine::Sqlite => (format!("sqlite:{}", folder.path().join("p.db").display()), None),
            Engine::Postgres => {
                let database = passerby_testkit::postgres::fresh_database().await;
                (database.url.clone(), Some(database))
            }
        };
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(START)));
        let place = Arc::new(Place { folder, _postgres: postgres });
        let options = passerby_store::OpenOptions::default();
        Self::open_all(change(contract()), database, clock, place, 1, options, post).await
    }

    /// On a disk with room for so many pages of 4 KiB.
    pub async fn on_a_small_disk(pages: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("p.db").display());
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(START)));
        let place = Arc::new(Place { folder, _postgres: None });
        let options = passerby_store::OpenOptions { max_pages: Some(pages), ..Default::default() };
        Self::open_with(contract(), database, clock, place, 1, options).await
    }

    async fn open(config: String, database: String, clock: Arc<ManualClock>, folder: Arc<Place>, seed: u64) -> Self {
        Self::open_with(config, database, clock, folder, seed, passerby_store::OpenOptions::default()).await
    }

    async fn open_with(
        config: String,
        database: String,
        clock: Arc<ManualClock>,
        folder: Arc<Place>,
        seed: u64,
        options: passerby_store::OpenOptions,
    ) -> Self {
        Self::open_all(config, database, clock, folder, seed, options, None).await
    }

    async fn open_all(
        config: String,
        database: String,
        clock: Arc<ManualClock>,
        folder: Arc<Place>,
        seed: u64,
        options: passerby_store::OpenOptions,
        post: Option<Arc<Pigeonhole>>,
    ) -> Self {
        let given = Given { value: Secret::new(database.clone()), from: "--database" };
        let file = folder.folder.path().join("test.toml");
        std::fs::write(&file, &config).unwrap();
        let overrides = Overrides { database: Some(given), ..Overrides::default() };
        let loaded = Config::load(Some(&file), &overrides).unwrap_or_else(|e| panic!("{e}"));
        let store = passerby_store::open(&database, &options).await.unwrap();
        let way_out: Arc<dyn Post> = match &post {
            Some(post) => post.clone(),
            None => Arc::new(passerby::post::Outbound::new(&loaded).unwrap()),
        };
        let ports = Ports {
            store,
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(seed)),
            post: way_out,
            passwords: quick_passwords(),
        };
        let app = passerby::wiring::build(&loaded, ports, &MasterKey::new([7; 32])).await.unwrap();
        let (core, door) = (app.core, app.door.into_router());
        Self { clock, core, database, config, door, folder, seed, post }
    }

    /// Stops and starts again on the same database, as after a deploy.
    pub async fn restart(self) -> Self {
        self.core.stop().await;
        let options = passerby_store::OpenOptions::default();
        let seed = self.seed + 1;
        Self::open_all(self.config, self.database, self.clock, self.folder, seed, options, self.post).await
    }

    /// The same with another configuration, from the next restart on.
    pub fn with_config(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.config = change(self.config);
        self
    }

    /// Another process on the same database.
    pub async fn replica(&self) -> Self {
        let (config, database, options) =
            (self.config.clone(), self.database.clone(), passerby_store::OpenOptions::default());
        let (clock, folder, post) = (self.clock.clone(), self.folder.clone(), self.post.clone());
        Self::open_all(config, database, clock, folder, self.seed + 100, options, post).await
    }

    /// The same, its clock off by so many milliseconds; that clock moves only by hand.
    pub async fn replica_off(&self, ms: i64) -> Self {
        use passerby_core::port::Clock as _;
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(self.clock.now().millis() + ms)));
        Self::open(self.config.clone(), self.database.clone(), clock, self.folder.clone(), self.seed + 200).await
    }

    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Now, in seconds.
    pub fn now(&self) -> i64 {
        use passerby_core::port::Clock as _;
        self.clock.now().seconds()
    }

    pub fn call(&self, method: &str, path: &str) -> Call {
        Call {
            door: self.door.clone(),
            method: method.parse().unwrap(),
            path: path.into(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            peer: "127.0.0.1".into(),
        }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.call("POST", path).json(body)
    }

    /// An eager guest of the SPA client.
    pub async fn guest(&self) -> Guest {
        self.guest_of("demo-spa").await
    }

    pub async fn guest_of(&self, client: &str) -> Guest {
        let answer = self.post("/v1/guests", &serde_json::json!({"client_id": client})).send().await;
        answer.expect(201);
        Guest::of(&answer.json())
    }

    /// The metadata of one of the bearer's sessions as the export tells it: its own, or the guest's data.
    pub async fn metadata(&self, access: &str, session: &str) -> Value {
        let export = self.get("/v1/me/export").bearer(access).send().await.expect(200).json();
        let own =
            export["sessions"].as_array().unwrap().iter().find(|s| s["id"] == session).unwrap()["metadata"].clone();
        if own.is_null() { export["user"]["data"].clone() } else { own }
    }

    /// How many users have a row.
    pub async fn users(&self) -> u64 {
        if let Some(path) = self.database.strip_prefix("sqlite:") {
            let db = rusqlite::Connection::open(path).unwrap();
            return db.query_row("select count(*) from users", [], |r| r.get::<_, i64>(0)).unwrap() as u64;
        }
        let (client, connection) = tokio_postgres::connect(&self.database, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one("select count(*) from users", &[]).await.unwrap().get::<_, i64>(0) as u64
    }
}

/// What a creation answered.
#[derive(Debug, Clone)]
pub struct Guest {
    pub id: String,
    pub session: String,
    pub access: String,
    pub refresh: String,
    pub session_token: String,
    pub body: Value,
}

impl Guest {
    pub fn of(body: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        Self {
            id: text(&body["user"]["id"]),
            session: text(&body["session"]["id"]),
            access: text(&body["access_token"]),
            refresh: text(&body["refresh_token"]),
            session_token: text(&body["session_token"]),
            body: body.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Call {
    door: axum::Router,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    peer: String,
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(
            header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            header::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn cookie(self, value: &str) -> Self {
        self.header("cookie", &format!("passerby_session={value}"))
    }

    pub fn basic(self, id: &str, secret: &str) -> Self {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}"));
        self.header("authorization", &format!("Basic {text}"))
    }

    pub fn peer(mut self, address: &str) -> Self {
        self.peer = address.into();
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw(body.to_string().into_bytes(), "application/json")
    }

    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in pairs {
            text.append_pair(name, value);
        }
        self.raw(text.finish().into_bytes(), "application/x-www-form-urlencoded")
    }

    pub fn raw(mut self, body: Vec<u8>, media_type: &str) -> Self {
        self.body = body;
        self.headers.remove("content-type");
        self.header("content-type", media_type)
    }

    pub async fn send(self) -> Answer {
        let path = self.path.clone();
        let (parts, body) = self.open().await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { path, status: parts.status, headers: parts.headers, body }
    }

    /// The answer with its body still to be read.
    pub async fn open(self) -> http::Response<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path).body(Body::from(self.body)).unwrap();
        *request.headers_mut() = self.headers;
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", "localhost:9011".parse().unwrap());
        }
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(self.peer.parse().unwrap(), 4711)));
        self.door.oneshot(request).await.unwrap()
    }
}

#[derive(Debug, Clone)]
pub struct Answer {
    path: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{}: {e}: {}", self.path, self.text()))
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{} answered {}", self.path, self.text());
        self
    }

    /// The status and the stable code of a problem.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text());
        let body = self.json();
        assert_eq!(body["code"], code, "{}", self.text());
        assert_eq!(body["status"], status);
        body
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn cookies(&self) -> HashMap<String, String> {
        self.headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|v| v.to_str().ok()?.split(';').next()?.split_once('='))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    }
}

/// The claims of a JWT, unchecked.
pub fn claims(token: &str) -> Value {
    let payload = passerby_jose::b64::decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// The header of a JWT or JWE.
pub fn head(token: &str) -> Value {
    let header = passerby_jose::b64::decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice(&header).unwrap()
}
