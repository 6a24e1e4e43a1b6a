//! The handle: ports and a snapshot of the settings. Use cases are its methods, each in its topic's file.

use std::{
    collections::HashMap,
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;

use crate::{
    Code, Error, Timestamp,
    api_key::ApiKeys,
    dpop::Nonces,
    id::{ClientNo, IdMaker, SessionId, TenantNo, UserId},
    identifier::Identifier,
    key::KeyRing,
    limit::{Limits, TenantLimits, WrongCodes},
    model::{NewGuest, OutRow},
    password::Passwords,
    port::{Act, Change, Clock, CommitError, Committed, Post, Random, Store, Wait},
    secret::{MasterKey, TenantSecrets},
    settings::Settings,
    token::{access::Seen, current::CurrentTokens},
};

/// So many checked access tokens are remembered; each takes some 300 bytes.
const REMEMBERED_TOKENS: usize = 50_000;

/// What the core asks of the world.
pub struct Ports {
    /// The storage engine.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes for ids.
    pub random: Arc<dyn Random>,
    /// What carries messages to people.
    pub post: Arc<dyn Post>,
    /// How passwords are hashed, and where.
    pub passwords: Passwords,
}

/// How often things happened since the start; read by the metrics door.
#[derive(Debug, Default)]
pub struct Counts {
    /// Guests made with a row.
    pub stored: AtomicU64,
    /// Guests made floating.
    pub floating: AtomicU64,
    /// Floating guests that got their row.
    pub kept: AtomicU64,
    /// Creations that were answered with the guest that was there.
    pub resumed: AtomicU64,
    /// Refresh tokens rotated.
    pub refreshed: AtomicU64,
    /// Sessions ended because an old refresh token was used again.
    pub reused: AtomicU64,
    /// Creations refused by a limit.
    pub limited: AtomicU64,
    /// Edits of profile data.
    pub edits: AtomicU64,
    /// Users erased.
    pub erased: AtomicU64,
    /// Sign-ins to accounts.
    pub sign_ins: AtomicU64,
    /// Sign-ins refused: unknown identifier, wrong password or wrong code.
    pub sign_ins_refused: AtomicU64,
    /// Messages that arrived.
    pub messages_delivered: AtomicU64,
    /// Tries to deliver a message that failed and are made again.
    pub messages_failed: AtomicU64,
    /// Messages that were given up.
    pub messages_dead: AtomicU64,
    /// Messages that were due when the runner last looked, as far as it looked.
    pub outbox_waiting: AtomicU64,
    /// 1 while deleting jobs hold still because the clock is not trusted.
    pub clock_distrusted: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Passerby: everything that doors call.
pub struct Passerby {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) post: Arc<dyn Post>,
    pub(crate) passwords: Passwords,
    pub(crate) master: MasterKey,
    pub(crate) ids: IdMaker,
    pub(crate) nonces: Nonces,
    pub(crate) keys: ArcSwap<KeyRing>,
    pub(crate) seen: Cache<[u8; 32], Arc<Seen>>,
    pub(crate) current: CurrentTokens,
    pub(crate) touches: Mutex<HashMap<(TenantNo, UserId, SessionId), Timestamp>>,
    pub(crate) api_keys: ApiKeys,
    pub(crate) epochs: Arc<crate::epoch::Epochs>,
    pub(crate) jobs: crate::job::Jobs,
    pub(crate) outbox: crate::outbox::Outbox,
    settings: ArcSwap<Settings>,
    secrets: HashMap<TenantNo, TenantSecrets>,
    limits: TenantLimits,
    pub(crate) wrong_codes: WrongCodes,
    counts: Counts,
}

impl std::fmt::Debug for Passerby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passerby")
    }
}

impl Passerby {
    /// Opens the house: holds the master key against the store, makes the keys that are missing.
    ///
    /// # Errors
    /// A sentence for the operator: another master key than the store was begun with, keys that cannot be opened, or a
    /// store that does not answer.
    pub async fn start(ports: Ports, settings: Settings, master: &MasterKey) -> Result<Arc<Self>, String> {
        let now = ports.clock.now();
        let secrets = settings.tenants.iter().map(|t| (t.no, TenantSecrets::new(master, t.no, now))).collect();
        let limits = settings.tenants.iter().map(|t| (t.no, Limits::new(&t.limits, &ports.clock))).collect();
        let mut boot = [0u8; 16];
        passerby_jose::fill_random(&mut boot).map_err(|e| e.to_string())?;
        let nonces = Nonces::new(master, (!ports.store.shares_spent()).then_some(&boot));
        let passerby = Self {
            jobs: crate::job::Jobs::new(ports.clock.as_ref()),
            outbox: crate::outbox::Outbox::new(boot),
            store: ports.store,
            clock: ports.clock,
            random: ports.random,
            post: ports.post,
            passwords: ports.passwords,
            master: master.clone(),
            ids: IdMaker::default(),
            nonces,
            keys: ArcSwap::default(),
            seen: Cache::new(REMEMBERED_TOKENS),
            current: CurrentTokens::default(),
            touches: Mutex::default(),
            api_keys: ApiKeys::default(),
            epochs: Arc::default(),
            settings: ArcSwap::from_pointee(settings),
            secrets,
            limits,
            wrong_codes: WrongCodes::default(),
            counts: Counts::default(),
        };
        passerby.check_master().await?;
        passerby.look_at_heartbeat().await.map_err(|e| e.to_string())?;
        passerby.ensure_keys().await.map_err(|e| e.detail.into_owned())?;
        Ok(Arc::new(passerby))
    }

    async fn check_master(&self) -> Result<(), String> {
        let mine = self.master.fingerprint();
        let tenant = TenantNo(0);
        match self.commit(tenant, None, Act::InitMeta("master_key", mine.clone())).await {
            Ok(_) => Ok(()),
            Err(CommitError::Taken) => match self.store.meta("master_key").await {
                Ok(Some(theirs)) if passerby_jose::same(&theirs, &mine) => Ok(()),
                Ok(_) => Err(
                    "this database was begun with another master key; all its replicas and restarts must share one \
                              (PASSERBY_MASTER_KEY, master_key_file, or passerby.key in development)"
                        .into(),
                ),
                Err(e) => Err(e.to_string()),
            },
            Err(e) => Err(e.to_string()),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// How often things happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`Code::Unavailable`].
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.store.ready().await?)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn secrets(&self, tenant: TenantNo) -> Option<&TenantSecrets> {
        self.secrets.get(&tenant)
    }

    /// The secrets of a tenant that the settings name.
    pub(crate) fn secrets_of(&self, tenant: TenantNo) -> Result<&TenantSecrets, Error> {
        self.secrets(tenant).ok_or_else(|| Error::new(Code::Internal, "The tenant has no secrets."))
    }

    pub(crate) fn limit_creation(&self, tenant: TenantNo, client: ClientNo, address: IpAddr) -> Result<(), Error> {
        let Some(limits) = self.limits.get(&tenant) else { return Ok(()) };
        limits.creation(address, client).inspect_err(|_| count(&self.counts.limited))
    }

    /// Asked before a message goes to an address.
    ///
    /// # Errors
    /// [`Code::TooManyRequests`] with the wait.
    pub(crate) fn limit_message(&self, tenant: TenantNo, by: IpAddr, to: &Identifier) -> Result<(), Error> {
        let Some(limits) = self.limits.get(&tenant) else { return Ok(()) };
        limits.message(by, self.number_of(tenant, to)?).inspect_err(|_| count(&self.counts.limited))
    }

    /// Asked before a password or code is looked at.
    ///
    /// # Errors
    /// [`Code::TooManyRequests`] with the wait.
    pub(crate) fn limit_sign_in(&self, tenant: TenantNo, by: IpAddr, to: &Identifier) -> Result<(), Error> {
        let Some(limits) = self.limits.get(&tenant) else { return Ok(()) };
        limits.sign_in(by, self.number_of(tenant, to)?).inspect_err(|_| count(&self.counts.limited))
    }

    /// A number that stands for an identifier.
    fn number_of(&self, tenant: TenantNo, identifier: &Identifier) -> Result<u64, Error> {
        let hash = self.identifier_hash(tenant, identifier)?;
        Ok(hash.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    pub(crate) fn tidy_limits(&self) {
        for limits in self.limits.values() {
            limits.tidy();
        }
        self.wrong_codes.tidy(self.clock.monotonic_millis());
    }

    /// Hands one change to the store; it is queued when this is called.
    pub(crate) fn commit(
        &self,
        tenant: TenantNo,
        keep: Option<Box<NewGuest>>,
        act: Act,
    ) -> Wait<'static, Result<Committed, CommitError>> {
        self.commit_with(tenant, keep, act, Vec::new())
    }

    /// The same with rows of the outbox, which are written with it or not at all.
    pub(crate) fn commit_with(
        &self,
        tenant: TenantNo,
        keep: Option<Box<NewGuest>>,
        act: Act,
        out: Vec<OutRow>,
    ) -> Wait<'static, Result<Committed, CommitError>> {
        let at = self.clock.now();
        let call = out.iter().any(|row| row.due_at.is_some()).then(|| self.outbox.call());
        let mut all = self.events_of(tenant, keep.as_deref(), &act, at);
        all.extend(out);
        let commit = self.store.commit(tenant, Change { at, keep, act, out: all });
        let Some(call) = call else { return commit };
        Box::pin(async move {
            let committed = commit.await;
            if committed.is_ok() {
                call.raise();
            }
            committed
        })
    }
}

/// Lets everything else that is ready run once: the rows of other requests are queued before this one signs, so that
/// signing runs while the disk works.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            Poll::Ready(())
        } else {
            yielded = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
