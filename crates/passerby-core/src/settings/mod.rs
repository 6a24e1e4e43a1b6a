//! Typed settings and their cascade: an immutable snapshot that cannot be invalid. The program builds it from its
//! configuration; the core only reads it.

mod api_key;
mod becoming;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

pub(crate) use api_key::covers;
pub use api_key::{ApiKey, ApiScope, Grants, Permission};
pub use becoming::{EventRules, MergeRules, SignIn, SignInMethod, TenantMail};
use passerby_jose::Algorithm;
use uuid::Uuid;

use crate::{
    id::{ClientNo, TenantNo},
    profile::{Limits, Schema},
    time::Timestamp,
};

/// When a guest gets a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// At creation.
    Eager,
    /// When something must outlive the token; until then it floats.
    Lazy,
}

/// Who may choose a guest's id at creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomUserId {
    /// Nobody.
    Deny,
    /// A client that authenticated.
    Confidential,
    /// Anybody: whoever knows an id can then ask a token for it while nothing is stored. The operator's risk.
    Any,
}

/// The form of session tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTokenFormat {
    /// Sealed (`dir`, `A256GCM`): only the issuer reads it.
    Jwe,
    /// Signed with the tenant's key: anybody reads it.
    Jws,
}

/// Marks stay at least so long, whatever the lifetimes are now.
const OLDEST_FLOATING: Duration = Duration::from_hours(400 * 24);

/// What the cascade organization → client → tenant → defaults gave for one client.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Guests are made at all.
    pub enabled: bool,
    /// Floating or stored.
    pub persistence: Persistence,
    /// A session ends this long after its last use.
    pub idle_timeout: Duration,
    /// A session ends this long after it was opened.
    pub lifetime: Duration,
    /// Who may choose ids.
    pub custom_user_id: CustomUserId,
    /// The longest life of an access token; it never outlives its session.
    pub access_token_lifetime: Duration,
    /// Form of session tokens.
    pub session_token: SessionTokenFormat,
    /// A recovery waits so long while a session of the guest lives, which may cancel it; zero: at once.
    pub recovery_wait: Duration,
}

impl Default for Rules {
    /// The built-in defaults of `domain.md`.
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            enabled: true,
            persistence: Persistence::Lazy,
            idle_timeout: 30 * day,
            lifetime: 365 * day,
            custom_user_id: CustomUserId::Confidential,
            access_token_lifetime: Duration::from_mins(15),
            session_token: SessionTokenFormat::Jwe,
            recovery_wait: Duration::ZERO,
        }
    }
}

impl Rules {
    /// How often last activity is written at most: a hundredth of the idle timeout, at least a second.
    pub fn touch_step(&self) -> Duration {
        (self.idle_timeout / 100).max(Duration::from_secs(1))
    }

    /// When a session that was opened and last used then ends: by idling, and at all.
    pub fn ends(&self, created_at: Timestamp, active_at: Timestamp) -> Ends {
        let absolute = created_at.plus(self.lifetime);
        Ends { idle: active_at.plus(self.idle_timeout).min(absolute), absolute }
    }
}

/// The two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// If it is not used again.
    pub idle: Timestamp,
    /// However much it is used.
    pub absolute: Timestamp,
}

/// A client's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientType {
    /// A browser application.
    Spa,
    /// An application on a device.
    Native,
    /// A web server.
    Web,
    /// A back end without a person.
    Machine,
}

/// An application of a tenant.
pub struct Client {
    /// Its number in the store.
    pub no: ClientNo,
    /// Its tenant's number.
    pub tenant: TenantNo,
    /// `client_id`, unique over all tenants.
    pub id: Box<str>,
    /// For people.
    pub name: Box<str>,
    /// What it is.
    pub kind: ClientType,
    /// SHA-256 of its secret; a client with a secret or keys is confidential.
    pub secret: Option<[u8; 32]>,
    /// Public keys for `private_key_jwt` (JWK set), by which it authenticates.
    pub keys: Option<Arc<jsonwebtoken::jwk::JwkSet>>,
    /// Shares the tenant's cookie guest.
    pub first_party: bool,
    /// Gets tokens only with a DPoP proof, bound to its key (RFC 9449 section 5.2).
    pub dpop_bound_access_tokens: bool,
    /// The page to which a hand-off's link leads; `None`: the built-in one.
    pub hand_off_uri: Option<Box<str>>,
    /// Registered redirect targets, compared exactly.
    pub redirect_uris: Vec<Box<str>>,
    /// Registered browser origins.
    pub origins: HashSet<Box<str>>,
    /// Audiences that it may ask for.
    pub audiences: HashSet<Box<str>>,
    /// The cascade's outcome for it.
    pub rules: Rules,
    /// How guests that come by it become part of accounts: its own policies, or the tenant's.
    pub merge: Arc<MergeRules>,
    /// `client_id` as a JSON string, made once.
    pub id_json: Box<str>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Client {
    /// Whether it must authenticate.
    pub fn confidential(&self) -> bool {
        self.secret.is_some() || self.keys.is_some()
    }
}

/// An API that tokens may be for.
#[derive(Debug, Clone)]
pub struct ResourceServer {
    /// Its `aud`.
    pub identifier: Box<str>,
    /// Scopes it knows.
    pub scopes: Vec<Box<str>>,
    /// Scopes that guests may have; empty: no guest gets a token for it.
    pub guest_scopes: Vec<Box<str>>,
    /// All guest scopes in one string: what a request without `scope` gets.
    pub guest_scope_text: Box<str>,
}

/// A key for vending that the configuration declares.
#[derive(Debug, Clone)]
pub struct DeclaredKey {
    /// Its `kid`.
    pub kid: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its algorithm.
    pub algorithm: Algorithm,
}

/// So many in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// Limits of a tenant; `None` is off.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    /// Creations from one address (an IPv6 /64 is one).
    pub creations_per_address: Option<Rate>,
    /// Creations for one client.
    pub creations_per_client: Option<Rate>,
    /// Tries to sign in from one address.
    pub sign_ins_per_address: Option<Rate>,
    /// Tries to sign in to one account, or to what would be one.
    pub sign_ins_per_account: Option<Rate>,
    /// Messages that one address has sent.
    pub messages_per_address: Option<Rate>,
    /// Messages to one recipient.
    pub messages_per_recipient: Option<Rate>,
}

/// The dress of the Auth0 dialect.
#[derive(Debug, Clone)]
pub struct Auth0 {
    /// Before a guest's id: `anon@` (newest SDKs), `anon|` or nothing.
    pub user_id_prefix: Box<str>,
    /// Metadata may be updated through a running session.
    pub metadata_update: bool,
    /// Bytes of metadata that the dialect takes.
    pub metadata_limit: usize,
}

impl Default for Auth0 {
    fn default() -> Self {
        Self { user_id_prefix: "anon@".into(), metadata_update: true, metadata_limit: 1024 }
    }
}

/// A pool of users with its own issuer, settings and keys.
#[derive(Debug)]
pub struct Tenant {
    /// Its number in the store.
    pub no: TenantNo,
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: Box<str>,
    /// `iss`, compared as written.
    pub issuer: Box<str>,
    /// The issuer as a JSON string, made once.
    pub issuer_json: Box<str>,
    /// The audience of requests that name none; `None`: the issuer.
    pub default_audience: Option<Box<str>>,
    /// What holds where a client says nothing.
    pub rules: Rules,
    /// The algorithm of its tokens.
    pub signing_algorithm: Algorithm,
    /// A token key signs this long; `None`: until rotated by command.
    pub key_rotation: Option<Duration>,
    /// A key is published this long before it signs.
    pub key_lead: Duration,
    /// The longest life of anything its keys sign: how long an old key stays published.
    pub longest_signed: Duration,
    /// Keys for vending.
    pub keys: Vec<DeclaredKey>,
    /// APIs by identifier.
    pub resource_servers: HashMap<Box<str>, ResourceServer>,
    /// How people sign in.
    pub sign_in: SignIn,
    /// How guests become part of accounts, where a client says nothing.
    pub merge: Arc<MergeRules>,
    /// What is written into the event log.
    pub events: EventRules,
    /// What messages say of the application.
    pub mail: TenantMail,
    /// Limits by rate.
    pub limits: RateLimits,
    /// Limits of profile data.
    pub data_limits: Arc<Limits>,
    /// What profile data must keep to.
    pub schema: Option<Schema>,
    /// The Auth0 dialect, when it is on.
    pub auth0: Option<Auth0>,
    /// Its clients by `client_id`.
    pub clients: HashMap<Box<str>, Arc<Client>>,
    /// Its clients by number.
    pub clients_by_no: HashMap<ClientNo, Arc<Client>>,
    /// All origins of its clients.
    pub origins: HashSet<Box<str>>,
}

impl Tenant {
    /// The rules of a client by number; those of the tenant when it is no longer declared.
    pub fn rules_of(&self, client: ClientNo) -> &Rules {
        self.clients_by_no.get(&client).map_or(&self.rules, |c| &c.rules)
    }

    /// The rules of merging of a client by number; those of the tenant when it is no longer declared.
    pub fn merge_of(&self, client: ClientNo) -> &Arc<MergeRules> {
        self.clients_by_no.get(&client).map_or(&self.merge, |c| &c.merge)
    }

    /// The longest that a floating token may live: the longest lifetime of any client's sessions, and not less than
    /// 400 days, since tokens may be about from before a lifetime was lowered.
    pub fn longest_lifetime(&self) -> Duration {
        self.clients.values().map(|c| c.rules.lifetime).fold(self.rules.lifetime.max(OLDEST_FLOATING), Duration::max)
    }

    /// `client_id` of a number; empty when it is no longer declared.
    pub fn client_id(&self, client: ClientNo) -> &str {
        self.clients_by_no.get(&client).map_or("", |c| &c.id)
    }
}

/// The whole snapshot.
#[derive(Debug)]
pub struct Settings {
    /// Development: loopback origins of the request's own host count as ours, `/demo` is there.
    pub dev: bool,
    /// Tenants in the order of the configuration; the first has the configured issuer.
    pub tenants: Vec<Arc<Tenant>>,
    /// Clients of all tenants by `client_id`.
    pub clients: HashMap<Box<str>, (Arc<Tenant>, Arc<Client>)>,
    /// API keys by SHA-256.
    pub api_keys: HashMap<[u8; 32], ApiKey>,
}

impl Settings {
    /// The longest life of an access token of any client.
    pub fn longest_access_token(&self) -> Duration {
        let of_tenant = |t: &Arc<Tenant>| {
            t.clients.values().map(|c| c.rules.access_token_lifetime).fold(t.rules.access_token_lifetime, Duration::max)
        };
        self.tenants.iter().map(of_tenant).max().unwrap_or_default()
    }

    /// A tenant by its number.
    pub fn tenant(&self, no: TenantNo) -> Option<&Arc<Tenant>> {
        self.tenants.iter().find(|t| t.no == no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_at_the_earlier_of_both() {
        let rules =
            Rules { idle_timeout: Duration::from_secs(10), lifetime: Duration::from_secs(100), ..Rules::default() };
        let at = |s| Timestamp::from_seconds(s);
        assert_eq!(rules.ends(at(0), at(5)), Ends { idle: at(15), absolute: at(100) });
        assert_eq!(rules.ends(at(0), at(95)), Ends { idle: at(100), absolute: at(100) });
        assert_eq!(rules.touch_step(), Duration::from_secs(1));
        assert_eq!(Rules::default().touch_step(), Duration::from_mins(432));
    }
}
