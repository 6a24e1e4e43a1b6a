//! API keys: what back ends show. A text is looked for among the keys of the configuration, then in the store, which
//! keeps its SHA-256 alone: a text that we made has 256 random bits and needs no slow hash.

mod grants;
mod manage;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use passerby_jose::{b64, fill_random, sha256};
use quick_cache::sync::Cache;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Code, Error, Timestamp,
    caller::Caller,
    id::TenantNo,
    model::ApiKeyRow,
    passerby::Passerby,
    port::Act,
    settings::{ApiKey, ApiScope, Grants, Tenant},
};

pub use self::{
    grants::{METHODS, permission_path},
    manage::{ApiKeyPatch, ApiKeyView, LONGEST_OVERLAP, MadeKey, NewApiKey, NewPermission, OVERLAP},
};

/// What the text of every key that we make begins with.
const START: &str = "pbk_";

/// `pbk_`, eight characters that are shown, `_`, 43 that are secret.
const LENGTH: usize = 56;

/// Characters of a text that are shown, so that people can tell keys apart.
const SHOWN: usize = 12;

/// A key that was read from the store is taken for so long without asking again: so long a key that another process
/// revoked is still taken here.
const FRESH_MS: i64 = 2_000;

/// So many keys are remembered; only good ones ever are.
const REMEMBERED: usize = 10_000;

/// An API key as it was shown, and what it was shown for.
#[derive(Clone, Copy)]
pub struct KeyClaim<'a> {
    /// Its text; `None`: no credential at all.
    pub text: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, without a tenant's prefix.
    pub path: &'a str,
}

/// Who manages.
#[derive(Debug, Clone, Copy)]
pub enum Manager<'a> {
    /// Whoever shows this API key.
    Key(&'a Caller<'a>, KeyClaim<'a>),
    /// Whoever has the configuration and the master key: may do everything in this tenant.
    Operator(TenantNo),
}

/// The text of a key, shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is shown of it.
    fn prefix(&self) -> &str {
        &self.0[..SHOWN]
    }

    fn hash(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }

    /// A new one.
    fn fresh() -> Result<Self, Error> {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let failed = |_| Error::new(Code::Internal, "The server failed; this is its fault.");
        let (mut shown, mut secret) = ([0u8; 8], Zeroizing::new([0u8; 32]));
        fill_random(&mut shown).map_err(failed)?;
        fill_random(secret.as_mut()).map_err(failed)?;
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(START);
        text.extend(shown.map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])));
        text.push('_');
        text.push_str(&Zeroizing::new(b64::encode(secret.as_ref())));
        Ok(Self(text))
    }
}

/// Whether a text can be one that we made: only then the store is asked.
fn looks_like_ours(text: &str) -> bool {
    text.len() == LENGTH
        && text.starts_with(START)
        && text.as_bytes()[SHOWN] == b'_'
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A stored key as it was read for one of its two texts.
#[derive(Debug, Clone)]
struct Known {
    id: Uuid,
    key: Arc<ApiKey>,
    /// From here on this text is not taken any more.
    ends_at: Option<Timestamp>,
    /// When it was read, on the monotonic clock.
    read_at: i64,
    /// [`ApiKeys::changes`] before it was read.
    changes: u64,
}

/// What is remembered of stored API keys.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    known: Cache<[u8; 32], Known>,
    /// Rises with every change of a key that is made here: what was read before counts no more.
    changes: AtomicU64,
    /// Uses that are not written yet.
    used: Mutex<HashMap<(TenantNo, Uuid), Timestamp>>,
}

impl Default for ApiKeys {
    fn default() -> Self {
        Self { known: Cache::new(REMEMBERED), changes: AtomicU64::new(0), used: Mutex::default() }
    }
}

fn unknown() -> Error {
    Error::new(Code::InvalidToken, "There is no such API key.")
}

impl Passerby {
    /// The API key with this text, if it may call `method` on `path`, which needs `scope` where it is one of our own.
    ///
    /// # Errors
    /// [`Code::InvalidToken`] for one that is unknown, expired or revoked, and for anything else that is no API key;
    /// [`Code::InsufficientScope`] for one without the permission.
    pub async fn api_key(
        &self,
        text: &str,
        scope: Option<ApiScope>,
        method: &str,
        path: &str,
    ) -> Result<ApiKey, Error> {
        let now = self.now();
        let hash = sha256(text.as_bytes());
        let declared = self.settings().api_keys.get(&hash).cloned();
        let key = match declared {
            Some(key) => key,
            None if looks_like_ours(text) => self.stored_key(hash, now).await?,
            None => return Err(unknown()),
        };
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::new(Code::InvalidToken, "The API key has expired."));
        }
        // HEAD tells less than GET
        let may = key.grants.may(scope, method, path) || (method == "HEAD" && key.grants.may(scope, "GET", path));
        if !may {
            let needed = scope.map_or(String::new(), |s| format!(": it needs the scope {}", s.as_str()));
            return Err(Error::new(
                Code::InsufficientScope,
                format!("The API key has no permission for this{needed}."),
            ));
        }
        Ok(key)
    }

    async fn stored_key(&self, hash: [u8; 32], now: Timestamp) -> Result<ApiKey, Error> {
        let read_at = self.clock.monotonic_millis();
        let changes = self.api_keys.changes.load(Ordering::Acquire);
        let fresh = |k: &Known| k.changes == changes && (0..FRESH_MS).contains(&(read_at - k.read_at));
        let remembered = self.api_keys.known.get(&hash).filter(fresh);
        let known = if let Some(known) = remembered {
            known
        } else {
            let Some(row) = self.store.api_key(hash).await? else {
                self.api_keys.known.remove(&hash);
                return Err(unknown());
            };
            let known = Known::of(&row, &hash, read_at, changes);
            self.api_keys.known.insert(hash, known.clone());
            known
        };
        let key = ApiKey::clone(&known.key);
        // the tenant may have left the configuration
        if known.ends_at.is_some_and(|end| end <= now) || self.settings().tenant(key.tenant).is_none() {
            return Err(unknown());
        }
        let mut used = self.api_keys.used.lock().unwrap_or_else(PoisonError::into_inner);
        let at = used.entry((key.tenant, known.id)).or_insert(now);
        *at = (*at).max(now);
        Ok(key)
    }

    /// A key was changed here: no process-local memory of it counts from now on.
    fn keys_changed(&self) {
        self.api_keys.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Who manages which tenant with what rights: what every management call begins with.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without a credential; as [`Passerby::api_key`]; [`Code::InvalidToken`] for a key of
    /// another tenant than the one that path or host name.
    pub(crate) async fn manager(&self, by: &Manager<'_>, scope: ApiScope) -> Result<(Arc<Tenant>, ApiKey), Error> {
        let key = match by {
            Manager::Key(caller, claim) => {
                let text = claim.text.ok_or_else(|| Error::new(Code::Unauthenticated, "This needs an API key."))?;
                let key = self.api_key(text, Some(scope), claim.method, claim.path).await?;
                if caller.tenant.is_some_and(|no| no != key.tenant) {
                    return Err(Error::new(Code::InvalidToken, "The API key is another tenant's."));
                }
                key
            }
            Manager::Operator(tenant) => {
                ApiKey { name: "operator".into(), tenant: *tenant, grants: Grants::default(), expires_at: None }
            }
        };
        let settings = self.settings();
        let tenant = settings.tenant(key.tenant).cloned().ok_or_else(unknown)?;
        Ok((tenant, key))
    }

    /// Whether somebody may do what needs `scope`: for doors that must know before they read a body. The use case itself
    /// asks again.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::Unauthenticated`] without a credential.
    pub async fn may_manage(&self, by: &Manager<'_>, scope: ApiScope) -> Result<(), Error> {
        self.manager(by, scope).await.map(drop)
    }

    /// Writes when keys were last used, since the last pass.
    pub(crate) async fn flush_key_uses(&self) -> Result<(), Error> {
        let pending = std::mem::take(&mut *self.api_keys.used.lock().unwrap_or_else(PoisonError::into_inner));
        let mut list: Vec<(TenantNo, Uuid, Timestamp)> =
            pending.into_iter().map(|((tenant, id), at)| (tenant, id, at)).collect();
        // rows are locked in key order
        list.sort_unstable();
        let mut batches = list.chunks(1000);
        while let Some(batch) = batches.next() {
            if let Err(e) = self.commit(TenantNo(0), None, Act::TouchApiKeys(batch.to_vec())).await {
                let mut used = self.api_keys.used.lock().unwrap_or_else(PoisonError::into_inner);
                for (tenant, id, at) in batch.iter().chain(batches.flatten()) {
                    let kept = used.entry((*tenant, *id)).or_insert(*at);
                    *kept = (*kept).max(*at);
                }
                return Err(e.into());
            }
        }
        Ok(())
    }
}

impl Known {
    fn of(row: &ApiKeyRow, shown: &[u8; 32], read_at: i64, changes: u64) -> Self {
        let ends_at = match row.previous {
            Some((previous, until)) if &previous == shown && &row.hash != shown => Some(until),
            _ => None,
        };
        let key = ApiKey {
            name: row.name.clone(),
            tenant: row.tenant,
            grants: grants::read(&row.grants),
            // what the text before a rotation hands out lives no longer than that text
            expires_at: ends_at.map(|until| row.expires_at.map_or(until, |end| end.min(until))).or(row.expires_at),
        };
        Self { id: row.id, key: Arc::new(key), ends_at, read_at, changes }
    }
}

opaque_debug!(KeyClaim<'_>, KeyText);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ours_and_never_the_same() {
        let (one, two) = (KeyText::fresh().unwrap(), KeyText::fresh().unwrap());
        assert!(looks_like_ours(one.expose()) && one.prefix().len() == SHOWN, "{}", one.expose());
        assert_ne!(one, two);
        assert_eq!(b64::decode(&one.expose()[SHOWN + 1..]).unwrap().len(), 32);
        assert!(!format!("{one:?}").contains(&one.expose()[SHOWN..]));
        let shorter = &one.expose()[..LENGTH - 1];
        for other in ["", "pbk_", "eyJhbGciOiJFUzI1NiJ9.e30.x", shorter, &format!("{shorter}é"), &format!("{shorter}.")]
        {
            assert!(!looks_like_ours(other), "{other}");
        }
    }

    #[test]
    fn the_text_before_a_rotation_ends_with_the_overlap() {
        let until = Timestamp::from_seconds(50);
        let row = ApiKeyRow {
            tenant: TenantNo(1),
            id: Uuid::nil(),
            revision: 2,
            hash: [2; 32],
            previous: Some(([1; 32], until)),
            prefix: "pbk_aaaaaaaa".into(),
            name: "n".into(),
            grants: "{}".into(),
            created_at: Timestamp::from_seconds(1),
            expires_at: None,
            last_used_at: None,
        };
        assert_eq!(Known::of(&row, &[1; 32], 0, 0).ends_at, Some(until));
        assert_eq!(Known::of(&row, &[2; 32], 0, 0).ends_at, None);
        let end = |hash: u8, expires_at| {
            let row = ApiKeyRow { expires_at, ..row.clone() };
            Known::of(&row, &[hash; 32], 0, 0).key.expires_at
        };
        let (before, after) = (Timestamp::from_seconds(40), Timestamp::from_seconds(60));
        assert_eq!([end(1, None), end(1, Some(before)), end(1, Some(after))], [Some(until), Some(before), Some(until)]);
        assert_eq!([end(2, None), end(2, Some(after))], [None, Some(after)]);
    }
}
