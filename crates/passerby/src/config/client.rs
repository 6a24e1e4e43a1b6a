//! `[[tenants.clients]]`: the applications of a tenant.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::jwk::JwkSet;
use passerby_core::settings::{ClientType, CustomUserId, Persistence, SessionTokenFormat};

use super::{
    At, Secret, kind,
    merge::{self, MergeSettings},
    read::Section,
    rules::{CUSTOM_USER_ID, PERSISTENCE, RuleSettings, SESSION_TOKEN, access_token_lifetime, recovery_wait, span},
};

/// One application.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `client_id`, unique over all tenants.
    pub id: At<Box<str>>,
    /// For people; the id when it is not given.
    pub name: Box<str>,
    /// What it is.
    pub kind: At<ClientType>,
    /// By which it authenticates.
    pub secret: Option<At<Secret>>,
    /// A file with a JWK set of its public keys.
    pub jwks_file: Option<At<PathBuf>>,
    /// What was read from it.
    pub keys: Option<Arc<JwkSet>>,
    /// Shares the tenant's cookie guest.
    pub first_party: bool,
    /// It gets tokens only with a DPoP proof, bound to its key.
    pub dpop_bound_access_tokens: bool,
    /// The page to which a hand-off's link leads; `None`: the built-in one.
    pub hand_off_uri: Option<At<Box<str>>>,
    /// Where it may have people sent to.
    pub redirect_uris: Vec<At<Box<str>>>,
    /// Origins of its pages.
    pub origins: Vec<At<Box<str>>>,
    /// Resource servers that it may ask tokens for.
    pub audiences: Vec<At<Box<str>>>,
    /// Its own policies of merging.
    pub merge: MergeSettings,
    /// What it sets otherwise than its tenant.
    pub rules: RuleSettings,
}

const TYPES: &[(&str, ClientType)] = &[
    ("spa", ClientType::Spa),
    ("native", ClientType::Native),
    ("web", ClientType::Web),
    ("machine", ClientType::Machine),
];

pub(super) fn read(s: &mut Section<'_, '_>) -> ClientSettings {
    let id = s.parsed("id", "1 to 255 printable characters without spaces", kind::token);
    let id = s.need("id", "the client_id", id);
    let name = s.parsed("name", kind::NAME, kind::name).map_or_else(|| id.value.clone(), |name| name.value);
    let client_type = s.choice("type", TYPES);
    let type_is_there = client_type.is_some();
    let client_type =
        s.need("type", "one of \"spa\", \"native\", \"web\", \"machine\"", client_type.map(|t| t.map(Some)));
    let client_type = client_type.map(|t| t.unwrap_or(ClientType::Native));
    let secret = s.secret("secret", "at least 16 characters", 16);
    let jwks_file = s.parsed("jwks_file", kind::FILE, path);
    if type_is_there {
        match client_type.value {
            ClientType::Web | ClientType::Machine if secret.is_none() && jwks_file.is_none() => {
                s.miss("secret", "a secret (or jwks_file): a client of this type authenticates");
            }
            ClientType::Spa => {
                let why = "a client of type \"spa\" runs where anybody can read it: it can keep no secret; remove this";
                for place in
                    [secret.as_ref().map(|x| &x.place), jwks_file.as_ref().map(|x| &x.place)].into_iter().flatten()
                {
                    s.report(place.problem(why));
                }
            }
            _ => {}
        }
    }
    ClientSettings {
        first_party: s.flag("first_party").map_or(client_type.value != ClientType::Machine, |x| x.value),
        dpop_bound_access_tokens: s.flag("dpop_bound_access_tokens").is_some_and(|x| x.value),
        hand_off_uri: s.parsed("hand_off_uri", kind::REDIRECT, kind::hand_off_uri),
        redirect_uris: s.list("redirect_uris", kind::REDIRECT, kind::redirect_uri).unwrap_or_default(),
        origins: s.list("origins", kind::ORIGIN, kind::origin).unwrap_or_default(),
        audiences: s.list("audiences", "the identifier of a resource server", kind::token).unwrap_or_default(),
        merge: s.table("merge", merge::of_client).unwrap_or_default(),
        rules: RuleSettings {
            enabled: s.flag("enabled").map(|x| x.value),
            persistence: s.choice::<Persistence>("persistence", PERSISTENCE).map(|x| x.value),
            idle_timeout: span(s, "idle_timeout"),
            lifetime: span(s, "lifetime"),
            custom_user_id: s.choice::<CustomUserId>("custom_user_id", CUSTOM_USER_ID).map(|x| x.value),
            access_token_lifetime: access_token_lifetime(s),
            session_token: s.choice::<SessionTokenFormat>("session_token", SESSION_TOKEN).map(|x| x.value),
            recovery_wait: recovery_wait(s),
        },
        id,
        name,
        kind: client_type,
        secret,
        jwks_file,
        keys: None,
    }
}

/// The path of a file as written; whether it is there is asked later.
pub(super) fn path(text: &str) -> Result<PathBuf, super::read::Fault> {
    if text.is_empty() || text.contains('\0') { Err(super::read::Fault::Other) } else { Ok(text.into()) }
}

/// The longest that a span of a session may be.
pub(super) const LONGEST: Duration = Duration::from_hours(36_500 * 24);
