//! The house over a store that writes down what it is asked, and over a hashing thread that a test can hold: what a
//! request costs, in calls and not in time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use passerby::config::{Config, Given, Overrides, Secret};
use passerby_core::{
    Ports,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{
        ApiKeyRow, EpochRow, Item, ItemKind, KeptRow, LookUp, LookUpKind, Record, RecordKind, SigningKeyRow, Standing,
        Target,
    },
    password::{HashPool, HashSettings, Passwords, PoolSettings},
    port::{Act, Change, CommitError, Committed, Found, OutQuery, Store, StoreError, Wait},
    secret::MasterKey,
    testing::SeededRandom,
};
use serde_json::Value;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::app::{TestApp, contract};

/// What was asked, in order.
type Notes = Arc<Mutex<Vec<String>>>;

/// A store that notes its calls and passes them on.
struct Counting {
    store: Arc<dyn Store>,
    notes: Notes,
}

impl Counting {
    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }
}

/// A change in words: what it does, to how many rows, and what it tells whom.
fn in_words(change: &Change) -> String {
    let act = match &change.act {
        Act::Turn(turn) => format!("turn of {} items, {} records", turn.items.len(), turn.records.len()),
        Act::Turns(turns) => format!("{} turns", turns.len()),
        Act::Records(records) => format!("{} records", records.len()),
        other => format!("{other:?}").split(['(', '{', ' ']).next().unwrap_or_default().to_owned(),
    };
    let out: Vec<_> = change.out.iter().map(|row| format!("{} {:?}", row.name, row.target)).collect();
    format!("commit {act}, tells {out:?}, stores a floating guest: {}", change.keep.is_some())
}

impl Store for Counting {
    fn ready(&self) -> Wait<'_, Result<(), StoreError>> {
        self.note("ready".into());
        self.store.ready()
    }

    fn number_tenant(&self, id: uuid::Uuid) -> Wait<'_, Result<TenantNo, StoreError>> {
        self.store.number_tenant(id)
    }

    fn number_client<'a>(&'a self, tenant: TenantNo, client_id: &'a str) -> Wait<'a, Result<ClientNo, StoreError>> {
        self.store.number_client(tenant, client_id)
    }

    fn standing(&self, tenant: TenantNo, user: UserId, session: SessionId) -> Wait<'_, Result<Standing, StoreError>> {
        self.note("standing".into());
        self.store.standing(tenant, user, session)
    }

    fn look_up(
        &self,
        tenant: TenantNo,
        kind: LookUpKind,
        hash: [u8; 32],
    ) -> Wait<'_, Result<Option<LookUp>, StoreError>> {
        self.note(format!("look_up {kind:?}"));
        self.store.look_up(tenant, kind, hash)
    }

    fn found(&self, tenant: TenantNo, kind: LookUpKind, hash: [u8; 32]) -> Wait<'_, Result<Option<Found>, StoreError>> {
        self.note(format!("found {kind:?}"));
        self.store.found(tenant, kind, hash)
    }

    fn items(&self, tenant: TenantNo, user: UserId, kind: Option<ItemKind>) -> Wait<'_, Result<Vec<Item>, StoreError>> {
        self.note(format!("items {kind:?}"));
        self.store.items(tenant, user, kind)
    }

    fn users(
        &self,
        tenant: TenantNo,
        before: Option<UserId>,
        limit: u32,
    ) -> Wait<'_, Result<Vec<Standing>, StoreError>> {
        self.note("users".into());
        self.store.users(tenant, before, limit)
    }

    fn epochs(&self, from: passerby_core::Timestamp, limit: u32) -> Wait<'_, Result<Vec<EpochRow>, StoreError>> {
        self.note("epochs".into());
        self.store.epochs(from, limit)
    }

    fn spend(
        &self,
        tenant: TenantNo,
        proof: [u8; 32],
        ends_at: passerby_core::Timestamp,
    ) -> Wait<'_, Result<bool, StoreError>> {
        self.note("spend".into());
        self.store.spend(tenant, proof, ends_at)
    }

    fn shares_spent(&self) -> bool {
        self.store.shares_spent()
    }

    fn api_key(&self, hash: [u8; 32]) -> Wait<'_, Result<Option<ApiKeyRow>, StoreError>> {
        self.note("api_key".into());
        self.store.api_key(hash)
    }

    fn record(&self, tenant: TenantNo, kind: RecordKind, id: [u8; 32]) -> Wait<'_, Result<Option<Record>, StoreError>> {
        self.note(format!("record {kind:?}"));
        self.store.record(tenant, kind, id)
    }

    fn records(&self, tenant: TenantNo, kind: RecordKind) -> Wait<'_, Result<Vec<Record>, StoreError>> {
        self.note(format!("records {kind:?}"));
        self.store.records(tenant, kind)
    }

    fn outbox_due(
        &self,
        now: passerby_core::Timestamp,
        target: Target,
        limit: u32,
    ) -> Wait<'_, Result<Vec<KeptRow>, StoreError>> {
        self.note("outbox_due".into());
        self.store.outbox_due(now, target, limit)
    }

    fn outbox<'a>(&'a self, query: OutQuery<'a>) -> Wait<'a, Result<Vec<KeptRow>, StoreError>> {
        self.note("outbox".into());
        self.store.outbox(query)
    }

    fn api_keys(&self, tenant: TenantNo) -> Wait<'_, Result<Vec<ApiKeyRow>, StoreError>> {
        self.note("api_keys".into());
        self.store.api_keys(tenant)
    }

    fn signing_keys(&self) -> Wait<'_, Result<Vec<SigningKeyRow>, StoreError>> {
        self.store.signing_keys()
    }

    fn meta(&self, name: &'static str) -> Wait<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.store.meta(name)
    }

    fn commit(&self, tenant: TenantNo, change: Change) -> Wait<'static, Result<Committed, CommitError>> {
        self.note(in_words(&change));
        self.store.commit(tenant, change)
    }

    fn close(&self) -> Wait<'_, ()> {
        self.store.close()
    }
}

/// Another process on a test's database, with everything that it asks of store and hashing thread in sight.
pub struct Counted {
    door: axum::Router,
    notes: Notes,
    pool: Arc<HashPool>,
    _folder: tempfile::TempDir,
}

/// The hashing thread at our disposal, until it is dropped.
struct Hold {
    _release: mpsc::Sender<()>,
    begins: oneshot::Receiver<()>,
}

/// An answer with what it cost.
#[derive(Debug, PartialEq, Eq)]
pub struct Cost {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// What the store was asked.
    pub store: Vec<String>,
    /// How many jobs were handed to the hashing thread.
    pub hashed: usize,
}

impl Counted {
    pub async fn beside(app: &TestApp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.toml");
        std::fs::write(&file, contract()).unwrap();
        let given = Given { value: Secret::new(app.database.clone()), from: "--database" };
        let config = Config::load(Some(&file), &Overrides { database: Some(given), ..Overrides::default() });
        let config = config.unwrap_or_else(|e| panic!("{e}"));
        let notes = Notes::default();
        let store = passerby_store::open(&app.database, &passerby_store::OpenOptions::default()).await.unwrap();
        // one thread: what waits for it can be counted
        let pool = Arc::new(HashPool::new(PoolSettings::new(1, 100).unwrap()).unwrap());
        let ports = Ports {
            store: Arc::new(Counting { store, notes: notes.clone() }),
            clock: app.clock.clone(),
            random: Arc::new(SeededRandom::new(77)),
            post: Arc::new(passerby::post::Outbound::new(&config).unwrap()),
            passwords: Passwords { settings: HashSettings::FOR_TESTS, pool: pool.clone() },
        };
        let built = passerby::wiring::build(&config, ports, &MasterKey::new([7; 32])).await.unwrap();
        Self { door: built.door.into_router(), notes, pool, _folder: folder }
    }

    fn hold(&self) -> Hold {
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        tokio::spawn(self.pool.run(move || {
            let _ = begun.send(());
            // an error: it is dropped
            let _ = held.recv();
        }));
        Hold { _release: release, begins }
    }

    /// A request, with the hashing thread held until all that it asks of it has been counted.
    pub async fn ask(&self, path: &str, bearer: Option<&str>, body: &Value) -> Cost {
        self.notes.lock().unwrap().clear();
        let mut request = Request::post(path)
            .header("host", "localhost:9011")
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        if let Some(token) = bearer {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4711))));
        // the thread is held by a job of ours from before the request to its end: another that waits is the request's
        let mut hold = self.hold();
        (&mut hold.begins).await.unwrap();
        let mut running = tokio::spawn(self.door.clone().oneshot(request));
        let mut hashed = 0;
        let response = loop {
            if running.is_finished() {
                drop(hold);
                break (&mut running).await.unwrap().unwrap();
            }
            let waiting = self.pool.waiting();
            if waiting == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            // the next hold stands behind what waits, before that may run
            hashed += waiting;
            let next = self.hold();
            drop(std::mem::replace(&mut hold, next));
            (&mut hold.begins).await.unwrap();
        };
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let store = std::mem::take(&mut *self.notes.lock().unwrap());
        Cost { status: parts.status, headers: parts.headers, body, store, hashed }
    }
}
