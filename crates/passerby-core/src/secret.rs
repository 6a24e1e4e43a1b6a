//! What is derived from the master key: sealing keys, the refresh tokens' key, keyed hashes. Nothing of it is stored,
//! so a stolen database signs in nowhere, and every replica with the same master key has the same ones.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use passerby_jose::{BlobKey, MacKey, SealingKey, b64, derive, open_blob, seal_blob};
use zeroize::Zeroizing;

use crate::{
    id::{TenantNo, UserId},
    time::Timestamp,
};

/// A sealing key is used for this long: far fewer than the 2^32 tokens that random GCM nonces allow (NIST SP 800-38D).
const SEAL_PERIOD_MS: i64 = 30 * 86_400_000;

/// 32 bytes from which every other secret is derived; signing keys at rest are sealed under it.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From base64url without padding, as environment and file have it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(b64::decode(text.trim())?);
        Some(Self::new(bytes.as_slice().try_into().ok()?))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// What a store keeps to tell whether this is the key that its contents were sealed with.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        derive(self.0.as_ref(), &[b"passerby/v1/fingerprint"]).to_vec()
    }

    pub(crate) fn seal_key(&self, tenant: TenantNo, kid: &str, pkcs8: &[u8]) -> Option<Vec<u8>> {
        seal_blob(&self.at_rest(tenant), kid.as_bytes(), pkcs8).ok()
    }

    pub(crate) fn open_key(&self, tenant: TenantNo, kid: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        open_blob(&self.at_rest(tenant), kid.as_bytes(), sealed).ok()
    }

    fn at_rest(&self, tenant: TenantNo) -> Zeroizing<[u8; 32]> {
        derive(self.0.as_ref(), &[b"passerby/v1/signing-keys", &tenant.0.to_be_bytes()])
    }
}

/// What a sealed text is for; each has a key and a `typ` of its own, so that none passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// A session token.
    Session,
    /// The value of the session cookie.
    Cookie,
    /// An Auth0 transfer ticket.
    Transfer,
    /// A merge ticket.
    Merge,
}

impl Sealed {
    pub(crate) fn typ(self) -> &'static str {
        match self {
            Self::Session => "anon-session+jwt",
            Self::Cookie => "passerby-cookie+jwt",
            Self::Transfer => "anon-transfer+jwt",
            Self::Merge => "passerby-merge+jwt",
        }
    }
}

struct Seals {
    month: i64,
    session: SealingKey,
    cookie: SealingKey,
    transfer: SealingKey,
    merge: SealingKey,
    state: BlobKey,
}

/// The derived secrets of one tenant.
pub(crate) struct TenantSecrets {
    tenant: TenantNo,
    master: MasterKey,
    seals: ArcSwap<Seals>,
    pub(crate) refresh: MacKey,
    ids: MacKey,
    pub(crate) look_ups: MacKey,
    /// Seals messages at rest.
    pub(crate) outbox: BlobKey,
}

impl TenantSecrets {
    pub(crate) fn new(master: &MasterKey, tenant: TenantNo, now: Timestamp) -> Self {
        let mac = |what: &[u8]| MacKey::new(derive(master.0.as_ref(), &[what, &tenant.0.to_be_bytes()]).as_ref());
        Self {
            tenant,
            master: master.clone(),
            seals: ArcSwap::from_pointee(Self::derive_seals(master, tenant, month(now))),
            refresh: mac(b"passerby/v1/refresh"),
            ids: mac(b"passerby/v1/chosen-ids"),
            look_ups: mac(b"passerby/v1/look-ups"),
            outbox: BlobKey::new(&derive(master.0.as_ref(), &[b"passerby/v1/outbox", &tenant.0.to_be_bytes()])),
        }
    }

    fn derive_seals(master: &MasterKey, tenant: TenantNo, month: i64) -> Seals {
        let secret = |what: &str| {
            derive(
                master.0.as_ref(),
                &[b"passerby/v1/seal", what.as_bytes(), &tenant.0.to_be_bytes(), &month.to_be_bytes()],
            )
        };
        let kid = format!("{}.{month}", tenant.0);
        let key = |s: Sealed| SealingKey::new(&secret(s.typ()), &kid, s.typ());
        Seals {
            month,
            session: key(Sealed::Session),
            cookie: key(Sealed::Cookie),
            transfer: key(Sealed::Transfer),
            merge: key(Sealed::Merge),
            state: BlobKey::new(&secret("state")),
        }
    }

    fn seals(&self, month: i64) -> Arc<Seals> {
        let current = self.seals.load_full();
        if current.month == month { current } else { Arc::new(Self::derive_seals(&self.master, self.tenant, month)) }
    }

    fn current(&self, now: Timestamp) -> arc_swap::Guard<Arc<Seals>> {
        if self.seals.load().month != month(now) {
            self.seals.store(Arc::new(Self::derive_seals(&self.master, self.tenant, month(now))));
        }
        self.seals.load()
    }

    /// Seals a text as a compact JWE.
    pub(crate) fn seal(&self, what: Sealed, payload: &[u8], now: Timestamp) -> Option<String> {
        let seals = self.current(now);
        let mut out = Vec::with_capacity(128 + payload.len() * 4 / 3 + 64);
        pick(&seals, what).seal_into(payload, &mut out).ok()?;
        String::from_utf8(out).ok()
    }

    /// Opens a compact JWE of that kind whose `kid` names this month's key.
    pub(crate) fn open(&self, what: Sealed, token: &str, month: i64) -> Option<Vec<u8>> {
        pick(&self.seals(month), what).open(token).ok()
    }

    /// Seals the state of a floating guest for its access token: no credential by itself.
    pub(crate) fn seal_state(&self, state: &[u8], now: Timestamp) -> Option<String> {
        let seals = self.current(now);
        let blob = seals.state.seal(b"floating", state).ok()?;
        Some(format!("{}.{}", seals.month, b64::encode(&blob)))
    }

    /// Opens what [`Self::seal_state`] sealed.
    pub(crate) fn open_state(&self, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let (month, blob) = text.split_once('.')?;
        let seals = self.seals(month.parse().ok()?);
        seals.state.open(b"floating", &b64::decode(blob)?).ok()
    }

    /// The key of a user whose id the caller chose: a UUID is itself (in any dialect's dress), any other string the
    /// UUID of its keyed hash (version 8, RFC 9562).
    pub(crate) fn key_of(&self, shown: &str) -> UserId {
        let bare = shown.strip_prefix("anon@").or_else(|| shown.strip_prefix("anon|")).unwrap_or(shown);
        if let Some(id) = UserId::parse(bare).filter(|id| !id.uuid().is_nil()) {
            return id;
        }
        let hash = self.ids.mac(&[shown.as_bytes()]);
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().into()
    }

    /// The keyed hash under which a look-up row is found.
    pub(crate) fn look_up_hash(&self, what: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut all: Vec<&[u8]> = vec![what.as_bytes(), b"\0"];
        for part in parts {
            all.extend([*part, b"\0"]);
        }
        self.look_ups.mac(&all)
    }
}

fn pick(seals: &Seals, what: Sealed) -> &SealingKey {
    match what {
        Sealed::Session => &seals.session,
        Sealed::Cookie => &seals.cookie,
        Sealed::Transfer => &seals.transfer,
        Sealed::Merge => &seals.merge,
    }
}

fn month(now: Timestamp) -> i64 {
    now.millis() / SEAL_PERIOD_MS
}

/// Tenant and month that a sealing `kid` names.
pub(crate) fn read_seal_kid(kid: &str) -> Option<(TenantNo, i64)> {
    let (tenant, month) = kid.split_once('.')?;
    Some((TenantNo(tenant.parse().ok()?), month.parse().ok()?))
}

/// A `kid`: 72 random bits are unique enough for names.
pub(crate) fn short_kid(random: &[u8; 16]) -> String {
    b64::encode(&random[..9])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(master: u8, tenant: i32) -> TenantSecrets {
        TenantSecrets::new(&MasterKey::new([master; 32]), TenantNo(tenant), Timestamp::from_seconds(1_790_000_000))
    }

    #[test]
    fn each_kind_tenant_and_master_key_opens_its_own_only() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let s = secrets(1, 1);
        let token = s.seal(Sealed::Session, b"{}", now).unwrap();
        let (_, m) = read_seal_kid(&passerby_jose::peek_jwe(&token).unwrap().kid).unwrap();
        assert_eq!(s.open(Sealed::Session, &token, m).unwrap(), b"{}");
        assert!(s.open(Sealed::Cookie, &token, m).is_none());
        assert!(s.open(Sealed::Session, &token, m - 1).is_none());
        assert!(secrets(1, 2).open(Sealed::Session, &token, m).is_none());
        assert!(secrets(2, 1).open(Sealed::Session, &token, m).is_none());
        let later = Timestamp::from_seconds(1_790_000_000 + 90 * 86_400);
        assert!(s.seal(Sealed::Session, b"x", later).is_some());
        assert_eq!(s.open(Sealed::Session, &token, m).unwrap(), b"{}", "an older month's key still opens");
    }

    #[test]
    fn chosen_ids() {
        let s = secrets(1, 1);
        let id = "1f0c7c1e-6d0e-4a55-9a52-0e6d1b1a2c3d";
        assert_eq!(s.key_of(id).to_string(), id);
        assert_eq!(s.key_of(&format!("anon@{id}")), s.key_of(id));
        assert_eq!(s.key_of(&format!("anon|{id}")), s.key_of(id));
        assert_eq!(s.key_of("player one"), s.key_of("player one"));
        assert_ne!(s.key_of("player one"), s.key_of("player two"));
        assert_ne!(s.key_of("player one"), secrets(1, 2).key_of("player one"));
        assert_eq!(s.key_of("x").uuid().get_version_num(), 8);
        assert!(!s.key_of("00000000-0000-0000-0000-000000000000").uuid().is_nil());
    }
}
