//! The tokens that sessions have: a device that comes back by its key gets those that its session was given last
//! (`domain.md`, Ensure), and no signature, seal or MAC is made for it. In memory only, a bounded number; what is not found
//! here is made anew.

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

/// So many sessions' tokens are kept; each set takes some 2 KiB, with much metadata up to 5.
const KEPT: usize = 5_000;

/// A session's tokens with all that their texts depend on but the session.
struct Current {
    user: UserId,
    epoch: i32,
    anonymous: bool,
    cnf: Option<Thumbprint>,
    audience: Option<Box<str>>,
    scope: Option<Box<str>>,
    kid: Box<str>,
    /// The refresh token's.
    generation: i32,
    /// The session token's: what it snapshots, and its end.
    metadata: Box<str>,
    ends_at: Timestamp,
    /// The access token's end.
    expires_at: Timestamp,
    tokens: Texts,
}

/// The texts of a session's tokens.
#[derive(Clone)]
pub(crate) struct Texts {
    pub(crate) access: String,
    pub(crate) refresh: Option<String>,
    pub(crate) session: String,
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
            && self.generation == generation(held)
            && self.ends_at == held.ends.absolute
            && *self.metadata == *held.carried_metadata()
    }

    /// Worth handing out again: as a new one it would end at `fresh`; more than half of that is left, and no more.
    fn is_young(&self, now: Timestamp, fresh: Timestamp) -> bool {
        self.expires_at <= fresh && 2 * self.expires_at.since(now) > fresh.since(now)
    }
}

fn generation(held: &Held) -> i32 {
    match &held.row {
        Row::Stored(stored) => stored.session.generation,
        Row::Floating(_) => 0,
    }
}

/// The tokens of each session that came back by its key lately.
pub(crate) struct CurrentTokens(Cache<(TenantNo, SessionId), Arc<Current>>);

impl Default for CurrentTokens {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl CurrentTokens {
    /// The session's tokens and the access token's end, while it is worth handing out. `fresh`: when a new one would end. A
    /// session with a revoked token always gets new ones: nothing here says which it was.
    pub(crate) fn find(
        &self,
        held: &Held,
        grant: &Grant,
        kid: &str,
        now: Timestamp,
        fresh: Timestamp,
    ) -> Option<(Texts, Timestamp)> {
        let Row::Stored(stored) = &held.row else { return None };
        if stored.session.has_denied_tokens {
            return None;
        }
        let current = self.0.get(&(held.tenant.no, held.session))?;
        (current.is_for(held, grant, kid) && current.is_young(now, fresh))
            .then(|| (current.tokens.clone(), current.expires_at))
    }

    /// Keeps tokens that were just made.
    pub(crate) fn keep(&self, held: &Held, grant: &Grant, kid: &str, tokens: Texts, expires_at: Timestamp) {
        let current = Current {
            user: held.user,
            epoch: held.epoch,
            anonymous: held.kind == Kind::Anonymous,
            cnf: held.bound_to().copied(),
            audience: grant.audience.clone(),
            scope: grant.scope.clone(),
            kid: kid.into(),
            generation: generation(held),
            metadata: held.carried_metadata().into(),
            ends_at: held.ends.absolute,
            expires_at,
            tokens,
        };
        self.0.insert((held.tenant.no, held.session), Arc::new(current));
    }
}
