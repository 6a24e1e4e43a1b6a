//! `[dialects.*]`: which other products' wire formats are spoken. Each is off unless it says `enabled = true`.

use std::path::PathBuf;

use super::{At, Secret, client::path, kind, read::Section};

/// All dialects.
#[derive(Debug, Clone, Default)]
pub struct DialectSettings {
    /// `[dialects.auth0]`; `None`: off.
    pub auth0: Option<Auth0Settings>,
    /// `[dialects.fusionauth]`; `None`: off.
    pub fusionauth: Option<FusionAuthSettings>,
    /// `[dialects.authgear]` is on.
    pub authgear: bool,
    /// `[dialects.descope]`; `None`: off.
    pub descope: Option<DescopeSettings>,
}

/// The Auth0 dialect.
#[derive(Debug, Clone)]
pub struct Auth0Settings {
    /// Before a guest's id: `anon@`, `anon|` or nothing.
    pub user_id_prefix: Box<str>,
    /// Metadata may be updated through a running session.
    pub metadata_update: bool,
}

/// The FusionAuth dialect.
#[derive(Debug, Clone)]
pub struct FusionAuthSettings {
    /// A kickstart file.
    pub kickstart: Option<At<PathBuf>>,
}

/// The Descope dialect.
#[derive(Debug, Clone)]
pub struct DescopeSettings {
    /// The project that SDKs name.
    pub project_id: At<Box<str>>,
    /// The key of its management API.
    pub management_key: Option<At<Secret>>,
}

pub(super) fn read(s: &mut Section<'_, '_>) -> DialectSettings {
    DialectSettings {
        auth0: s.table("auth0", auth0).flatten(),
        fusionauth: s.table("fusionauth", fusionauth).flatten(),
        authgear: s.table("authgear", enabled).unwrap_or(false),
        descope: s.table("descope", descope).flatten(),
    }
}

fn enabled(s: &mut Section<'_, '_>) -> bool {
    s.flag("enabled").is_some_and(|x| x.value)
}

fn auth0(s: &mut Section<'_, '_>) -> Option<Auth0Settings> {
    let on = enabled(s);
    let prefixes = ["anon@", "anon|", ""].map(|p| (p, Box::<str>::from(p)));
    let settings = Auth0Settings {
        user_id_prefix: s.choice("user_id_prefix", &prefixes).map_or_else(|| "anon@".into(), |x| x.value),
        metadata_update: s.choice("metadata_update", &[("merge", true), ("deny", false)]).is_none_or(|x| x.value),
    };
    on.then_some(settings)
}

fn fusionauth(s: &mut Section<'_, '_>) -> Option<FusionAuthSettings> {
    let on = enabled(s);
    let settings = FusionAuthSettings { kickstart: s.parsed("kickstart", kind::FILE, path) };
    on.then_some(settings)
}

fn descope(s: &mut Section<'_, '_>) -> Option<DescopeSettings> {
    let on = enabled(s);
    let project_id = s.parsed("project_id", "the project's id", kind::token);
    let management_key = s.secret("management_key", "at least 16 characters", 16);
    on.then(|| DescopeSettings { project_id: s.need("project_id", "the project's id", project_id), management_key })
}
