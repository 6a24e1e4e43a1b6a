//! `[[tenants]]` and the sections below it, but for the clients.

use std::{path::PathBuf, time::Duration};

use passerby_core::{
    Timestamp,
    api_key::{METHODS, permission_path},
    profile::Schema,
    settings::{ApiScope, EventRules, Grants, Rate},
};
use passerby_jose::Algorithm;
use uuid::Uuid;

use super::{
    At, Secret,
    client::{self, ClientSettings, LONGEST, path},
    kind,
    mail::{self, TenantMailSettings},
    merge::{self, MergeSettings},
    read::{Fault, Section},
    rules::{CUSTOM_USER_ID, PERSISTENCE, RuleSettings, SESSION_TOKEN, access_token_lifetime, recovery_wait, span},
    sign_in::{self, SignInSettings},
};

/// A pool of users.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// Its id.
    pub id: At<Uuid>,
    /// For people.
    pub name: Box<str>,
    /// Its own issuer; the first tenant has the one of the whole file.
    pub issuer: Option<At<String>>,
    /// The audience of requests that name none.
    pub default_audience: Option<At<Box<str>>>,
    /// `[tenants.guests]` and what `[tenants.tokens]` shares with clients.
    pub rules: RuleSettings,
    /// Bytes of profile data.
    pub data_limit: Option<usize>,
    /// A JSON Schema that profile data keeps to.
    pub data_schema_file: Option<At<PathBuf>>,
    /// What was read from it.
    pub data_schema: Option<Schema>,
    /// The rest of `[tenants.tokens]`.
    pub tokens: TokenSettings,
    /// `[tenants.limits]`.
    pub limits: LimitSettings,
    /// `[tenants.sign_in]`.
    pub sign_in: SignInSettings,
    /// `[tenants.merge]`.
    pub merge: MergeSettings,
    /// `[tenants.events]`.
    pub events: EventRules,
    /// `[tenants.mail]`.
    pub mail: TenantMailSettings,
    /// `[[tenants.keys]]`.
    pub keys: Vec<KeySettings>,
    /// `[[tenants.resource_servers]]`.
    pub resource_servers: Vec<ResourceServerSettings>,
    /// `[[tenants.clients]]`.
    pub clients: Vec<ClientSettings>,
    /// `[[tenants.api_keys]]`.
    pub api_keys: Vec<ApiKeySettings>,
}

/// How tokens are signed.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The algorithm of the tenant's own key.
    pub signing_algorithm: Option<Algorithm>,
    /// A key signs this long; `None`: until it is rotated by command.
    pub key_rotation: Option<Duration>,
    /// A key is published this long before it signs.
    pub key_lead: Duration,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            signing_algorithm: None,
            key_rotation: Some(Duration::from_hours(90 * 24)),
            key_lead: Duration::from_hours(1),
        }
    }
}

/// Limits by rate: outer `None`: not given; inner `None`: off.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitSettings {
    /// Creations from one address.
    pub creations_per_address: Option<Option<Rate>>,
    /// Creations for one client.
    pub creations_per_client: Option<Option<Rate>>,
    /// Sign-ins from one address.
    pub sign_ins_per_address: Option<Option<Rate>>,
    /// Sign-ins to one account.
    pub sign_ins_per_account: Option<Option<Rate>>,
    /// Messages that one address has sent.
    pub messages_per_address: Option<Option<Rate>>,
    /// Messages to one recipient.
    pub messages_per_recipient: Option<Option<Rate>>,
}

/// A key for vending.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Its `kid`, unique over all tenants.
    pub id: At<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// Its algorithm.
    pub algorithm: Option<Algorithm>,
}

/// An API that tokens may be for.
#[derive(Debug, Clone)]
pub struct ResourceServerSettings {
    /// Its `aud`.
    pub identifier: At<Box<str>>,
    /// Scopes it knows.
    pub scopes: Vec<At<Box<str>>>,
    /// Scopes that guests may have.
    pub guest_scopes: Vec<At<Box<str>>>,
}

/// A key for the management API.
#[derive(Debug, Clone)]
pub struct ApiKeySettings {
    /// For people.
    pub name: Box<str>,
    /// The key itself.
    pub key: At<Secret>,
    /// What it may do.
    pub grants: Grants,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
}

const ALGORITHMS: &str = "one of \"ES256\", \"EdDSA\", \"RS256\"";

pub(super) fn read(s: &mut Section<'_, '_>) -> TenantSettings {
    let id = s.parsed("id", kind::UUID, kind::uuid);
    let mut tenant = TenantSettings {
        id: s.need("id", kind::UUID, id),
        name: s.parsed("name", kind::NAME, kind::name).map_or_else(|| "default".into(), |x| x.value),
        issuer: s.parsed("issuer", kind::URL, kind::issuer),
        default_audience: s.parsed("default_audience", "the identifier of a resource server", kind::token),
        rules: RuleSettings::default(),
        data_limit: None,
        data_schema_file: None,
        data_schema: None,
        tokens: TokenSettings::default(),
        limits: s.table("limits", limits).unwrap_or_default(),
        sign_in: s.table("sign_in", sign_in::read).unwrap_or_default(),
        merge: s.table("merge", merge::of_tenant).unwrap_or_default(),
        events: s.table("events", events).unwrap_or_default(),
        mail: s.table("mail", mail::of_tenant).unwrap_or_default(),
        keys: s.tables("keys", key).unwrap_or_default(),
        resource_servers: s.tables("resource_servers", resource_server).unwrap_or_default(),
        clients: s.tables("clients", client::read).unwrap_or_default(),
        api_keys: s.tables("api_keys", api_key).unwrap_or_default(),
    };
    s.table("guests", |s| {
        let rules = &mut tenant.rules;
        rules.enabled = s.flag("enabled").map(|x| x.value);
        rules.persistence = s.choice("persistence", PERSISTENCE).map(|x| x.value);
        rules.idle_timeout = span(s, "idle_timeout");
        rules.lifetime = span(s, "lifetime");
        rules.custom_user_id = s.choice("custom_user_id", CUSTOM_USER_ID).map(|x| x.value);
        rules.recovery_wait = recovery_wait(s);
        let limit = s.parsed("data_limit", kind::SIZE, |text| kind::size(text, 256, 1024 * 1024));
        tenant.data_limit = limit.map(|x| x.value);
        tenant.data_schema_file = s.parsed("data_schema_file", kind::FILE, path);
    });
    s.table("tokens", |s| {
        tenant.rules.access_token_lifetime = access_token_lifetime(s);
        tenant.rules.session_token = s.choice("session_token", SESSION_TOKEN).map(|x| x.value);
        tokens(s, &mut tenant.tokens);
    });
    tenant
}

fn algorithm(text: &str) -> Result<Algorithm, Fault> {
    match text {
        "ES256" => Ok(Algorithm::Es256),
        "EdDSA" => Ok(Algorithm::EdDsa),
        "RS256" => Ok(Algorithm::Rs256),
        _ => Err(Fault::Other),
    }
}

fn tokens(s: &mut Section<'_, '_>, tokens: &mut TokenSettings) {
    tokens.signing_algorithm = s.parsed("signing_algorithm", ALGORITHMS, algorithm).map(|x| x.value);
    let minute = Duration::from_mins(1);
    let rotation = s.parsed("key_rotation", "a span such as \"90d\", or \"off\"", |text| {
        if text == "off" { Ok(None) } else { kind::span(text, minute, LONGEST).map(Some) }
    });
    let lead = s.parsed("key_lead", kind::SPAN, |text| kind::span(text, Duration::from_secs(1), LONGEST));
    if let Some(lead) = &lead {
        tokens.key_lead = lead.value;
    }
    if let Some(rotation) = rotation {
        if rotation.value.is_some_and(|r| r <= tokens.key_lead) {
            let lead = kind::words(tokens.key_lead);
            s.report(rotation.problem(format!(
                "expected a span longer than key_lead ({lead}): a key is published first, then signs"
            )));
        }
        tokens.key_rotation = rotation.value;
    }
}

fn events(s: &mut Section<'_, '_>) -> EventRules {
    let rules = EventRules::default();
    let keep = |text: &str| kind::span(text, Duration::from_hours(1), Duration::from_hours(90 * 24));
    EventRules {
        all: s.flag("all").map_or(rules.all, |x| x.value),
        keep: s.parsed("keep", kind::SPAN, keep).map_or(rules.keep, |x| x.value),
    }
}

fn limits(s: &mut Section<'_, '_>) -> LimitSettings {
    let mut rate = |key| s.parsed(key, kind::RATE, kind::rate).map(|x| x.value);
    LimitSettings {
        creations_per_address: rate("creations_per_address"),
        creations_per_client: rate("creations_per_client"),
        sign_ins_per_address: rate("sign_ins_per_address"),
        sign_ins_per_account: rate("sign_ins_per_account"),
        messages_per_address: rate("messages_per_address"),
        messages_per_recipient: rate("messages_per_recipient"),
    }
}

fn key(s: &mut Section<'_, '_>) -> KeySettings {
    let expected = "an id of 1 to 64 letters, digits, \".\", \"_\" or \"-\"";
    let id: Option<At<Box<str>>> = s.parsed("id", expected, |text| {
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits && (1..=64).contains(&text.len()) { Ok(text.into()) } else { Err(Fault::Other) }
    });
    let id = s.need("id", expected, id);
    let algorithm = s.parsed("algorithm", ALGORITHMS, algorithm).map(|x| x.map(Some));
    KeySettings {
        name: s.parsed("name", kind::NAME, kind::name).map_or_else(|| id.value.clone(), |x| x.value),
        algorithm: s.need("algorithm", ALGORITHMS, algorithm).value,
        id,
    }
}

fn resource_server(s: &mut Section<'_, '_>) -> ResourceServerSettings {
    let expected = "what tokens for it have as \"aud\", such as \"https://api.example.com\"";
    let identifier = s.parsed("identifier", expected, kind::token);
    let identifier = s.need("identifier", expected, identifier);
    let scopes = s.list("scopes", "a scope without spaces", kind::scope).unwrap_or_default();
    let guest_scopes = s.list("guest_scopes", "a scope without spaces", kind::scope).unwrap_or_default();
    for scope in &guest_scopes {
        if !scopes.iter().any(|s| s.value == scope.value) {
            let known: Vec<&str> = scopes.iter().map(|s| &*s.value).collect();
            s.report(scope.problem(format!(
                "expected one of this server's scopes ({}), found {:?}",
                known.join(", "),
                scope.value
            )));
        }
    }
    ResourceServerSettings { identifier, scopes, guest_scopes }
}

fn api_key(s: &mut Section<'_, '_>) -> ApiKeySettings {
    let name = s.parsed("name", kind::NAME, kind::name).map(|x| x.map(Some));
    let name = s.need("name", kind::NAME, name).value.unwrap_or_else(|| "".into());
    let expected = "at least 32 characters";
    let key = s.secret("key", expected, 32);
    if let Some(key) = &key
        && !key.expose().bytes().all(|b| b.is_ascii_graphic())
    {
        s.report(key.problem("it travels in a header: only printable ASCII characters, no spaces"));
    }
    let key = key.map(|k| k.map(Some));
    let key = s.need("key", expected, key).map(|k| k.unwrap_or_else(|| Secret::new("")));
    let permissions = s.tables("permissions", |s| {
        let expected = "a path such as \"/api/user\"";
        let path = s.parsed("path", expected, |text| permission_path(text).map(Some).ok_or(Fault::Other));
        let path: Box<str> = s.need("path", expected, path).value.unwrap_or_default();
        let expected = format!("one of {METHODS:?}").replace(['[', ']'], "");
        let method = |text: &str| if METHODS.contains(&text) { Ok(text.into()) } else { Err(Fault::Other) };
        let methods = s.list("methods", &expected, method);
        if methods.is_none() {
            s.miss("methods", "a list such as [\"GET\", \"POST\"]");
        }
        (path, methods.unwrap_or_default().into_iter().map(|m| m.value).collect())
    });
    let words = ApiScope::ALL.map(ApiScope::as_str).join(", ");
    let scope = |text: &str| ApiScope::parse(text).ok_or(Fault::Other);
    let scopes = s.list("scopes", &format!("one of {words}"), scope);
    let scopes = scopes.map(|list| list.into_iter().map(|x| x.value).collect());
    let expires_at = s.moment("expires_at").map(|x| x.value);
    ApiKeySettings { name, key, grants: Grants { permissions, scopes }, expires_at }
}
