//! The access tokens that sessions have: a device that comes back by its key gets the one that its session was given
//! last (`domain.md`, Ensure), and no signature is made for it. In memory only, a bounded number; what is not found here
//! is signed anew.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::{
    Timestamp,
    client::Grant,
    dpop::Thumbprint,
    hold::{Held, Row},
    id::{SessionId, TenantNo, UserId},
    model::Kind,
};

/// So many sessions' tokens are kept; each takes some 900 bytes.
const KEPT: usize = 10_000;

/// An access token with all that its text depends on but the session.
struct Current {
    user: UserId,
    epoch: i32,
    anonymous: bool,
    cnf: Option<Thumbprint>,
    audience: Option<Box<str>>,
    scope: Option<Box<str>>,
    kid: Box<str>,
    expires_at: Timestamp,
    text: Box<str>,
}

impl Current {
    fn is_for(&self, held: &Held, grant: &Grant, kid: &str) -> bool {
        self.user == held.user
            && self.epoch == held.epoch
            && self.anonymous == (held.kind == Kind::Anonymous)
            && self.cnf.as_ref() == held.bound_to()
            && self.audience == grant.audience
            && self.scope == grant.scope
            && *self.kid == *kid
    }

    /// Worth handing out again: as a new one it would end at `fresh`; more than half of that is left, and no more.
    fn is_young(&self, now: Timestamp, fresh: Timestamp) -> bool {
        self.expires_at <= fresh && 2 * self.expires_at.since(now) > fresh.since(now)
    }
}

/// The newest access token of each session that came back by its key lately.
pub(crate) struct CurrentTokens(Cache<(TenantNo, SessionId), Arc<Current>>);

impl Default for CurrentTokens {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl CurrentTokens {
    /// The session's access token and its end, while it is worth handing out. `fresh`: when a new one would end. A
    /// session with a revoked token always gets new ones: nothing here says which it was.
    pub(crate) fn find(
        &self,
        held: &Held,
        grant: &Grant,
        kid: &str,
        now: Timestamp,
        fresh: Timestamp,
    ) -> Option<(String, Timestamp)> {
        let Row::Stored(stored) = &held.row else { return None };
        if stored.session.has_denied_tokens {
            return None;
        }
        let current = self.0.get(&(held.tenant.no, held.session))?;
        (current.is_for(held, grant, kid) && current.is_young(now, fresh))
            .then(|| (current.text.to_string(), current.expires_at))
    }

    /// Keeps a token that was just signed.
    pub(crate) fn keep(&self, held: &Held, grant: &Grant, kid: &str, text: &str, expires_at: Timestamp) {
        let current = Current {
            user: held.user,
            epoch: held.epoch,
            anonymous: held.kind == Kind::Anonymous,
            cnf: held.bound_to().copied(),
            audience: grant.audience.clone(),
            scope: grant.scope.clone(),
            kid: kid.into(),
            expires_at,
            text: text.into(),
        };
        self.0.insert((held.tenant.no, held.session), Arc::new(current));
    }
}
