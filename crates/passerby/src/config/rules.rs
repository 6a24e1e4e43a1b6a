//! What tenants and clients both may set: the cascade client → tenant → defaults.

use std::time::Duration;

use passerby_core::settings::{CustomUserId, Persistence, Rules, SessionTokenFormat};

use super::{client::LONGEST, kind, read::Section};

pub(super) const PERSISTENCE: &[(&str, Persistence)] = &[("eager", Persistence::Eager), ("lazy", Persistence::Lazy)];

pub(super) const CUSTOM_USER_ID: &[(&str, CustomUserId)] =
    &[("deny", CustomUserId::Deny), ("confidential", CustomUserId::Confidential), ("any", CustomUserId::Any)];

pub(super) const SESSION_TOKEN: &[(&str, SessionTokenFormat)] =
    &[("jwe", SessionTokenFormat::Jwe), ("jws", SessionTokenFormat::Jws)];

/// What was set here; `None`: what the next wider level says.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuleSettings {
    /// Guests are made at all.
    pub enabled: Option<bool>,
    /// Floating or stored.
    pub persistence: Option<Persistence>,
    /// A session ends this long after its last use.
    pub idle_timeout: Option<Duration>,
    /// A session ends this long after it was opened.
    pub lifetime: Option<Duration>,
    /// Who may choose ids.
    pub custom_user_id: Option<CustomUserId>,
    /// The longest life of an access token.
    pub access_token_lifetime: Option<Duration>,
    /// Form of session tokens.
    pub session_token: Option<SessionTokenFormat>,
    /// A recovery waits so long while a session of the guest lives.
    pub recovery_wait: Option<Duration>,
}

impl RuleSettings {
    /// What holds when `wider` holds around it.
    pub fn within(&self, wider: &Rules) -> Rules {
        Rules {
            enabled: self.enabled.unwrap_or(wider.enabled),
            persistence: self.persistence.unwrap_or(wider.persistence),
            idle_timeout: self.idle_timeout.unwrap_or(wider.idle_timeout),
            lifetime: self.lifetime.unwrap_or(wider.lifetime),
            custom_user_id: self.custom_user_id.unwrap_or(wider.custom_user_id),
            access_token_lifetime: self.access_token_lifetime.unwrap_or(wider.access_token_lifetime),
            session_token: self.session_token.unwrap_or(wider.session_token),
            recovery_wait: self.recovery_wait.unwrap_or(wider.recovery_wait),
        }
    }
}

/// A span of a session.
pub(super) fn span(s: &mut Section<'_, '_>, key: &'static str) -> Option<Duration> {
    s.parsed(key, kind::SPAN, |text| kind::span(text, Duration::from_secs(1), LONGEST)).map(|x| x.value)
}

/// None to thirty days: whoever waits longer has lost the guest.
pub(super) fn recovery_wait(s: &mut Section<'_, '_>) -> Option<Duration> {
    let most = Duration::from_hours(30 * 24);
    s.parsed("recovery_wait", kind::SPAN, |text| kind::span(text, Duration::ZERO, most)).map(|x| x.value)
}

/// Ten seconds to a day: shorter ones are dead on arrival, longer ones cannot be called back.
pub(super) fn access_token_lifetime(s: &mut Section<'_, '_>) -> Option<Duration> {
    let (least, most) = (Duration::from_secs(10), Duration::from_hours(24));
    s.parsed("access_token_lifetime", kind::SPAN, |text| kind::span(text, least, most)).map(|x| x.value)
}
