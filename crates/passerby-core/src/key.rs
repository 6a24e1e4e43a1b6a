//! Signing keys: which one signs now, which ones are published, rotation.
//!
//! Everything is computed from the rows and the time: the newest key whose `activates_at` has come signs; a key stays
//! published until the last thing that it may have signed is dead. So a wrong clock that comes right again changes
//! nothing, and replicas agree without talking.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use passerby_jose::{Algorithm, Header, JoseError, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::{
    Code, Error, Timestamp,
    id::TenantNo,
    model::{KeyPurpose, SigningKeyRow},
    passerby::Passerby,
    port::{Act, CommitError},
    secret::{MasterKey, short_kid},
    settings::{Settings, Tenant},
};

/// `typ` of an access token (RFC 9068 section 2.1).
pub(crate) const ACCESS_TYP: &str = "at+jwt";
/// `typ` of a signed session token (`reference/auth0.md` 2.1).
pub(crate) const SESSION_TYP: &str = "anon-session+jwt";

/// One key in memory, parsed once.
pub(crate) struct Key {
    pub(crate) tenant: TenantNo,
    pub(crate) purpose: KeyPurpose,
    pub(crate) created_at: Timestamp,
    pub(crate) activates_at: Timestamp,
    pub(crate) signing: SigningKey,
    pub(crate) verifying: VerifyingKey,
    pub(crate) access_header: Header,
    pub(crate) session_header: Header,
    generation: i32,
    name: Box<str>,
}

/// All keys that were read from the store, newest first within a tenant.
#[derive(Default)]
pub(crate) struct KeyRing {
    keys: Vec<Arc<Key>>,
    by_kid: HashMap<Box<str>, Arc<Key>>,
}

impl KeyRing {
    pub(crate) fn open(rows: &[SigningKeyRow], master: &MasterKey) -> Result<Self, String> {
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let fail = || {
                format!(
                    "signing key {} cannot be opened: it was sealed with another master key, or is damaged",
                    row.kid
                )
            };
            let algorithm: Algorithm = row.algorithm.parse().map_err(|_| fail())?;
            let pkcs8 = master.open_key(row.tenant, &row.kid, &row.sealed).ok_or_else(fail)?;
            let signing = SigningKey::from_pkcs8(algorithm, &row.kid, &pkcs8).map_err(|_| fail())?;
            keys.push(Arc::new(Key {
                tenant: row.tenant,
                purpose: row.purpose,
                created_at: row.created_at,
                activates_at: row.activates_at,
                verifying: signing.verifying_key(),
                access_header: signing.header(ACCESS_TYP),
                session_header: signing.header(SESSION_TYP),
                signing,
                generation: row.generation,
                name: row.name.clone(),
            }));
        }
        keys.sort_by_key(|k| (k.tenant, std::cmp::Reverse((k.activates_at, k.created_at))));
        let by_kid = keys.iter().map(|k| (Box::from(k.signing.kid()), k.clone())).collect();
        Ok(Self { keys, by_kid })
    }

    fn tokens_of(&self, tenant: TenantNo) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter().filter(move |k| k.tenant == tenant && k.purpose == KeyPurpose::Tokens)
    }

    /// The key that signs a tenant's tokens at `now`: the newest whose time has come, of whatever algorithm (a changed
    /// one is published before it signs); before any has: the oldest, so that a clock that is behind stops nobody.
    pub(crate) fn active(&self, tenant: &Tenant, now: Timestamp) -> Option<&Arc<Key>> {
        let mut last = None;
        for key in self.tokens_of(tenant.no) {
            if key.activates_at <= now {
                return Some(key);
            }
            last = Some(key);
        }
        last
    }

    /// Whether what `key` signed may still be alive at `now`: until its successor has signed for as long as the
    /// longest-lived thing lives.
    fn alive(&self, key: &Key, tenant: &Tenant, now: Timestamp) -> bool {
        if key.purpose == KeyPurpose::Vend {
            return tenant.keys.iter().any(|d| *d.kid == *key.signing.kid());
        }
        let successor = self
            .tokens_of(tenant.no)
            .filter(|k| (k.activates_at, k.created_at) > (key.activates_at, key.created_at))
            .map(|k| k.activates_at)
            .min();
        successor.is_none_or(|at| at.plus(tenant.longest_signed) > now)
    }

    /// The key that may have signed a token of ours.
    pub(crate) fn find(&self, kid: &str, settings: &Settings, now: Timestamp) -> Option<&Arc<Key>> {
        let key = self.by_kid.get(kid).filter(|k| k.purpose == KeyPurpose::Tokens)?;
        let tenant = settings.tenant(key.tenant)?;
        self.alive(key, tenant, now).then_some(key)
    }

    /// The public halves of all living keys: what signs, what will, what has.
    pub(crate) fn jwks(&self, tenant: &Tenant, now: Timestamp) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .filter(|k| k.tenant == tenant.no && self.alive(k, tenant, now))
            .map(|k| k.verifying.jwk())
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

/// Makes a key on a thread of its own: an RSA key takes a tenth of a second and more, which no request shall wait for.
async fn generate_apart(algorithm: Algorithm) -> Result<Zeroizing<Vec<u8>>, JoseError> {
    type Made = Result<Zeroizing<Vec<u8>>, JoseError>;
    let place: Arc<(Mutex<Option<Made>>, AtomicWaker)> = Arc::default();
    let there = place.clone();
    std::thread::spawn(move || {
        let made = SigningKey::generate(algorithm);
        *there.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        there.1.wake();
    });
    poll_fn(|cx| {
        place.1.register(cx.waker());
        place.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// A signing key as an operator sees it.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Whose.
    pub tenant: TenantNo,
    /// Its `kid`.
    pub kid: Box<str>,
    /// Its name, for vending keys.
    pub name: Box<str>,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs.
    pub activates_at: Timestamp,
    /// Signs now.
    pub active: bool,
    /// Is in the JWKS.
    pub published: bool,
}

impl Passerby {
    /// The JWK set of a tenant (RFC 7517): public halves only.
    ///
    /// # Errors
    /// [`Code::NotFound`] for an unknown tenant.
    pub fn jwks(&self, tenant: TenantNo) -> Result<serde_json::Value, Error> {
        let settings = self.settings();
        let tenant = settings.tenant(tenant).ok_or_else(|| Error::new(Code::NotFound, "There is no such tenant."))?;
        Ok(self.keys.load().jwks(tenant, self.clock.now()))
    }

    /// All signing keys that are known, newest first.
    pub fn signing_keys(&self) -> Vec<KeyInfo> {
        let (settings, ring, now) = (self.settings(), self.keys.load_full(), self.clock.now());
        ring.keys
            .iter()
            .filter_map(|k| {
                let tenant = settings.tenant(k.tenant)?;
                Some(KeyInfo {
                    tenant: k.tenant,
                    kid: k.signing.kid().into(),
                    name: k.name.clone(),
                    algorithm: k.signing.algorithm(),
                    created_at: k.created_at,
                    activates_at: k.activates_at,
                    active: ring.active(tenant, now).is_some_and(|a| Arc::ptr_eq(a, k)),
                    published: ring.alive(k, tenant, now),
                })
            })
            .collect()
    }

    /// Makes the next token key of a tenant. It is published at once and signs after the tenant's lead, or with
    /// `immediately` from now on (verifiers that cached the key set will refuse tokens until they fetch it again).
    ///
    /// # Errors
    /// What the store says. When another process rotated at the same moment, its key is the next one.
    pub async fn rotate_signing_key(&self, tenant: TenantNo, immediately: bool) -> Result<(), Error> {
        let settings = self.settings();
        let tenant = settings.tenant(tenant).ok_or_else(|| Error::new(Code::NotFound, "There is no such tenant."))?;
        let now = self.clock.now();
        self.reload_keys().await?;
        let at = if immediately { now } else { now.plus(tenant.key_lead) };
        self.add_key(tenant, KeyPurpose::Tokens, tenant.signing_algorithm, None, at).await?;
        self.reload_keys().await
    }

    /// Reads the keys of the store again: another process may have rotated.
    pub(crate) async fn reload_keys(&self) -> Result<(), Error> {
        let rows = self.store.signing_keys().await?;
        let ring = KeyRing::open(&rows, &self.master).map_err(|why| {
            tracing::error!(%why, "signing keys");
            Error::new(Code::Internal, "The server's signing keys cannot be opened.")
        })?;
        self.keys.store(Arc::new(ring));
        Ok(())
    }

    /// At start: every tenant has a key of its algorithm.
    pub(crate) async fn ensure_keys(&self) -> Result<(), Error> {
        self.reload_keys().await?;
        let (settings, now) = (self.settings(), self.clock.now());
        let mut made = false;
        for tenant in &settings.tenants {
            let ring = self.keys.load_full();
            let newest = ring.tokens_of(tenant.no).next();
            if newest.is_none_or(|k| k.signing.algorithm() != tenant.signing_algorithm) {
                made = true;
                // the first key of all signs at once; one of a changed algorithm is published before it signs
                let at = newest.map_or(now, |_| now.plus(tenant.key_lead));
                self.add_key(tenant, KeyPurpose::Tokens, tenant.signing_algorithm, None, at).await?;
            }
        }
        if made { self.reload_keys().await } else { Ok(()) }
    }

    /// By the first job: the keys that the settings declare. An RSA key takes long to make, and nothing that a guest
    /// needs waits for it.
    pub(crate) async fn ensure_declared_keys(&self) -> Result<(), Error> {
        let (settings, now) = (self.settings(), self.clock.now());
        for tenant in &settings.tenants {
            for key in &tenant.keys {
                if !self.keys.load().by_kid.contains_key(&key.kid) {
                    self.add_key(tenant, KeyPurpose::Vend, key.algorithm, Some((&key.kid, &key.name)), now).await?;
                    self.reload_keys().await?;
                }
            }
        }
        Ok(())
    }

    async fn add_key(
        &self,
        tenant: &Tenant,
        purpose: KeyPurpose,
        algorithm: Algorithm,
        declared: Option<(&str, &str)>,
        activates_at: Timestamp,
    ) -> Result<(), Error> {
        let fault = |_| Error::new(Code::Internal, "A signing key could not be made.");
        let pkcs8 = generate_apart(algorithm).await.map_err(fault)?;
        let name = declared.map_or("", |d| d.1);
        let generation = self
            .keys
            .load()
            .keys
            .iter()
            .filter(|k| {
                k.tenant == tenant.no && k.purpose == purpose && k.signing.algorithm() == algorithm && &*k.name == name
            })
            .map(|k| k.generation + 1)
            .max()
            .unwrap_or(0);
        let kid: Box<str> = if let Some((kid, _)) = declared {
            kid.into()
        } else {
            let mut bytes = [0u8; 16];
            self.random.fill(&mut bytes);
            short_kid(&bytes).into()
        };
        let sealed = self
            .master
            .seal_key(tenant.no, &kid, &pkcs8)
            .ok_or_else(|| Error::new(Code::Internal, "A signing key could not be sealed."))?;
        let row = SigningKeyRow {
            tenant: tenant.no,
            purpose,
            algorithm: algorithm.as_str().into(),
            name: name.into(),
            generation,
            kid,
            created_at: self.clock.now(),
            activates_at,
            sealed,
        };
        match self.commit(tenant.no, None, Act::AddSigningKey(Box::new(row))).await {
            // another process made the same generation: its key is as good
            Ok(_) | Err(CommitError::Taken) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Rotation by schedule and removal of keys whose last token is dead. Only while the clock is trusted: a key that was
    /// made a year ahead would be the newest for a year.
    pub(crate) async fn rotate_due(&self) -> Result<(), Error> {
        let (settings, now) = (self.settings(), self.clock.now());
        for tenant in &settings.tenants {
            let ring = self.keys.load_full();
            let newest = ring.tokens_of(tenant.no).next();
            if let (Some(newest), Some(period)) = (newest, tenant.key_rotation) {
                let next = newest.activates_at.plus(period.max(Duration::from_mins(1)));
                if now >= next.minus(tenant.key_lead) {
                    let at = next.max(now.plus(tenant.key_lead));
                    self.add_key(tenant, KeyPurpose::Tokens, tenant.signing_algorithm, None, at).await?;
                    tracing::info!(tenant = %tenant.id, activates_at = %at, "made the next signing key");
                    self.reload_keys().await?;
                }
            }
            let day = Duration::from_hours(24);
            for key in ring.tokens_of(tenant.no).filter(|k| !ring.alive(k, tenant, now.minus(day))) {
                self.commit(tenant.no, None, Act::RemoveSigningKey(key.signing.kid().into())).await?;
                tracing::info!(tenant = %tenant.id, kid = key.signing.kid(), "removed a signing key whose last token is dead");
            }
        }
        Ok(())
    }
}
