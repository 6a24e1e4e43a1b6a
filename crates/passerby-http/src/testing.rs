//! What the tests of this crate and of the native doors share: three tenants, two clients of the first (`game` is
//! public, `web` has the secret `s3cret`), and an application over a store that keeps nothing but its signing keys and
//! the proofs that were used.
//! Floating guests live all the same.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use passerby_core::{
    Passerby, Ports, Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{
        ApiKeyRow, EpochRow, Item, ItemKind, KeptRow, LookUp, LookUpKind, Record, RecordKind, SigningKeyRow, Standing,
        Target,
    },
    port::{Act, Change, CommitError, Committed, Found, OutQuery, Store, StoreError, Wait},
    secret::MasterKey,
    settings::{Client, ClientType, EventRules, RateLimits, Rules, Settings, SignIn, Tenant, TenantMail},
    testing::{ManualClock, Pigeonhole, SeededRandom, quick_passwords},
};
use uuid::Uuid;

use crate::{App, HttpSettings};

pub(crate) const FIRST: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const SECOND: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const THIRD: &str = "33333333-3333-4333-8333-333333333333";

/// The first on `https://first.example`, the second below it by path, the third on its own host.
pub(crate) fn settings() -> Settings {
    let second = format!("https://first.example/t/{SECOND}");
    let mut first = tenant(1, FIRST, "https://first.example", &["https://app.first.example"]);
    for client in [client(1, "game", None), client(2, "web", Some("s3cret"))] {
        first.clients_by_no.insert(client.no, client.clone());
        first.clients.insert(client.id.clone(), client);
    }
    let first = Arc::new(first);
    let tenants = vec![
        first.clone(),
        Arc::new(tenant(2, SECOND, &second, &["https://app.second.example"])),
        Arc::new(tenant(3, THIRD, "https://third.example", &["https://app.third.example"])),
    ];
    let clients = first.clients.iter().map(|(id, client)| (id.clone(), (first.clone(), client.clone()))).collect();
    Settings { dev: false, tenants, clients, api_keys: HashMap::new() }
}

fn client(no: i32, id: &str, secret: Option<&str>) -> Arc<Client> {
    Arc::new(Client {
        no: ClientNo(no),
        tenant: TenantNo(1),
        id: id.into(),
        name: id.into(),
        kind: if secret.is_some() { ClientType::Web } else { ClientType::Native },
        secret: secret.map(|s| passerby_jose::sha256(s.as_bytes())),
        keys: None,
        first_party: true,
        redirect_uris: Vec::new(),
        origins: ["https://app.first.example".into()].into(),
        audiences: std::collections::HashSet::new(),
        rules: Rules::default(),
        merge: Arc::default(),
        dpop_bound_access_tokens: false,
        hand_off_uri: None,
        id_json: format!("\"{id}\"").into(),
    })
}

fn tenant(no: i32, id: &str, issuer: &str, origins: &[&str]) -> Tenant {
    Tenant {
        no: TenantNo(no),
        id: Uuid::try_parse(id).unwrap(),
        name: "test".into(),
        issuer: issuer.into(),
        issuer_json: format!("\"{issuer}\"").into(),
        default_audience: None,
        rules: Rules::default(),
        signing_algorithm: passerby_jose::Algorithm::Es256,
        key_rotation: None,
        key_lead: std::time::Duration::ZERO,
        longest_signed: std::time::Duration::from_hours(24),
        keys: Vec::new(),
        resource_servers: HashMap::new(),
        sign_in: SignIn::default(),
        merge: Arc::default(),
        events: EventRules::default(),
        mail: TenantMail::default(),
        limits: RateLimits::default(),
        data_limits: Arc::default(),
        schema: None,
        auth0: None,
        clients: HashMap::new(),
        clients_by_no: HashMap::new(),
        origins: origins.iter().map(|o| (*o).into()).collect(),
    }
}

/// An application whose store takes everything and finds nothing again but its signing keys and used proofs.
pub(crate) async fn app(http: HttpSettings) -> App {
    let ports = Ports {
        store: Arc::new(AlmostEmpty::default()),
        clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1_790_000_000))),
        random: Arc::new(SeededRandom::new(1)),
        post: Arc::new(Pigeonhole::default()),
        passwords: quick_passwords(),
    };
    App::new(Passerby::start(ports, settings(), &MasterKey::new([7; 32])).await.unwrap(), http)
}

#[derive(Default)]
struct AlmostEmpty {
    keys: Mutex<Vec<SigningKeyRow>>,
    spent: Mutex<HashSet<[u8; 32]>>,
}

fn ready<'a, T: Send + 'a>(value: T) -> Wait<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Store for AlmostEmpty {
    fn ready(&self) -> Wait<'_, Result<(), StoreError>> {
        ready(Ok(()))
    }

    fn number_tenant(&self, _: Uuid) -> Wait<'_, Result<TenantNo, StoreError>> {
        ready(Ok(TenantNo(1)))
    }

    fn number_client<'a>(&'a self, _: TenantNo, _: &'a str) -> Wait<'a, Result<ClientNo, StoreError>> {
        ready(Ok(ClientNo(1)))
    }

    fn standing(&self, _: TenantNo, _: UserId, _: SessionId) -> Wait<'_, Result<Standing, StoreError>> {
        ready(Ok(Standing::default()))
    }

    fn look_up(&self, _: TenantNo, _: LookUpKind, _: [u8; 32]) -> Wait<'_, Result<Option<LookUp>, StoreError>> {
        ready(Ok(None))
    }

    fn found(&self, _: TenantNo, _: LookUpKind, _: [u8; 32]) -> Wait<'_, Result<Option<Found>, StoreError>> {
        ready(Ok(None))
    }

    fn items(&self, _: TenantNo, _: UserId, _: Option<ItemKind>) -> Wait<'_, Result<Vec<Item>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn users(&self, _: TenantNo, _: Option<UserId>, _: u32) -> Wait<'_, Result<Vec<Standing>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn epochs(&self, _: Timestamp, _: u32) -> Wait<'_, Result<Vec<EpochRow>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn spend(&self, _: TenantNo, proof: [u8; 32], _: Timestamp) -> Wait<'_, Result<bool, StoreError>> {
        ready(Ok(self.spent.lock().unwrap().insert(proof)))
    }

    fn shares_spent(&self) -> bool {
        false
    }

    fn api_key(&self, _: [u8; 32]) -> Wait<'_, Result<Option<ApiKeyRow>, StoreError>> {
        ready(Ok(None))
    }

    fn record(&self, _: TenantNo, _: RecordKind, _: [u8; 32]) -> Wait<'_, Result<Option<Record>, StoreError>> {
        ready(Ok(None))
    }

    fn records(&self, _: TenantNo, _: RecordKind) -> Wait<'_, Result<Vec<Record>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn outbox_due(&self, _: Timestamp, _: Target, _: u32) -> Wait<'_, Result<Vec<KeptRow>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn outbox<'a>(&'a self, _: OutQuery<'a>) -> Wait<'a, Result<Vec<KeptRow>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn api_keys(&self, _: TenantNo) -> Wait<'_, Result<Vec<ApiKeyRow>, StoreError>> {
        ready(Ok(Vec::new()))
    }

    fn signing_keys(&self) -> Wait<'_, Result<Vec<SigningKeyRow>, StoreError>> {
        ready(Ok(self.keys.lock().unwrap().clone()))
    }

    fn meta(&self, _: &'static str) -> Wait<'_, Result<Option<Vec<u8>>, StoreError>> {
        ready(Ok(None))
    }

    fn commit(&self, _: TenantNo, change: Change) -> Wait<'static, Result<Committed, CommitError>> {
        if let Act::AddSigningKey(key) = change.act {
            self.keys.lock().unwrap().push(*key);
        }
        ready(Ok(Committed::Done))
    }

    fn close(&self) -> Wait<'_, ()> {
        ready(())
    }
}
