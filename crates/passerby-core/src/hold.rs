//! Honouring a credential: one read by key, then a pure decision. Every door comes through here.

use std::{sync::Arc, time::Duration};

use crate::{
    Code, Error, Timestamp,
    caller::{Access, AccessToken, Caller, Scheme},
    dpop::Thumbprint,
    id::{SessionId, UserId},
    model::{Kind, NewGuest, Session, SessionKind, Standing, USER_MARK, User},
    passerby::Passerby,
    secret::Sealed,
    settings::{Client, Ends, Tenant},
    token::{
        access::{Seen, SeenPerson},
        session::{Floating, MOST_CARRIED, SeenSession},
    },
};

/// So long a sign-in counts as one of just now: for what takes an account over, and for a merge.
pub(crate) const FRESH: Duration = Duration::from_mins(10);

/// A live session that a credential named.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) tenant: Arc<Tenant>,
    /// The session's client.
    pub(crate) client: Arc<Client>,
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    /// The user's epoch.
    pub(crate) epoch: i32,
    pub(crate) kind: Kind,
    pub(crate) created_at: Timestamp,
    pub(crate) active_at: Timestamp,
    pub(crate) ends: Ends,
    pub(crate) row: Row,
}

/// Whether there is a row.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    /// User and session are stored.
    Stored(Box<Stored>),
    /// The guest lives in its token.
    Floating(Box<Floating>),
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) user: User,
    pub(crate) session: Session,
    /// All sessions that were read, living and ended.
    pub(crate) sessions: Vec<Session>,
}

/// What a credential says about the key that it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It names the key, or says by naming none that there is none: the session must say the same.
    Says(Option<Thumbprint>),
    /// It says nothing: the session alone knows.
    Silent,
}

/// Whose proof came along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proven {
    /// Nobody shows the credential as their own: introspection.
    Unasked,
    /// This key's; `None`: no proof.
    Key(Option<Thumbprint>),
}

/// What a credential says about the session behind it.
pub(crate) struct Claimed<'a> {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) epoch: i32,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) floating: Option<&'a Floating>,
    pub(crate) issued_at: Timestamp,
    /// A floating session token's end is final.
    pub(crate) absolute: Option<Timestamp>,
    pub(crate) jti: Option<[u8; 16]>,
    /// Idle time counts for a floating session (the Auth0 dialect counts the lifetime only).
    pub(crate) idles: bool,
    pub(crate) binding: Binding,
    pub(crate) proven: Proven,
}

impl<'a> Claimed<'a> {
    /// A stored session, named by something that says nothing else.
    pub(crate) fn stored(
        user: UserId,
        session: SessionId,
        epoch: i32,
        client: &'a Arc<Client>,
        proven: Proven,
        now: Timestamp,
    ) -> Self {
        Self {
            user,
            session,
            epoch,
            client,
            floating: None,
            issued_at: now,
            absolute: None,
            jti: None,
            idles: true,
            binding: Binding::Silent,
            proven,
        }
    }
}

fn ended() -> Error {
    Error::new(Code::SessionEnded, "The session has ended.")
}

fn expired() -> Error {
    Error::new(Code::SessionExpired, "The session is past its end.")
}

fn unproven() -> Error {
    Error::at(Code::InvalidDpopProof, "DPoP", "The credential is bound to a key; show that key's proof beside it.")
}

fn denied() -> Error {
    Error::new(Code::InvalidToken, "The access token was revoked.")
}

/// The decision: is what the credential claims alive, given what is stored? Pure.
pub(crate) fn decide(
    tenant: &Arc<Tenant>,
    claimed: &Claimed<'_>,
    standing: Standing,
    now: Timestamp,
) -> Result<Held, Error> {
    let rules = tenant.rules_of(claimed.client.no);
    let floats = |floating: &Floating, standing: &Standing, epoch, kind| {
        if [&USER_MARK, claimed.session.as_bytes()].into_iter().any(|id| standing.marked(id, now)) {
            return Err(ended());
        }
        if claimed.jti.is_some_and(|jti| standing.marked(&jti, now)) {
            return Err(denied());
        }
        let mut ends = rules.ends(floating.created_at, claimed.issued_at);
        if let Some(last) = claimed.absolute {
            ends.absolute = last;
        }
        if !claimed.idles {
            ends.idle = ends.absolute;
        }
        ends.idle = ends.idle.min(ends.absolute);
        if ends.idle <= now {
            return Err(expired());
        }
        Ok(Held {
            tenant: tenant.clone(),
            client: claimed.client.clone(),
            user: claimed.user,
            session: claimed.session,
            epoch,
            kind,
            created_at: floating.created_at,
            active_at: claimed.issued_at.max(floating.created_at),
            ends,
            row: Row::Floating(Box::new(floating.clone())),
        })
    };
    let Some(user) = &standing.user else {
        // only what was minted floating may stand without a row
        return floats(claimed.floating.ok_or_else(ended)?, &standing, 0, Kind::Anonymous);
    };
    // a merged guest lives on as a pointer alone
    if claimed.epoch < user.epoch || user.merged_into.is_some() {
        return Err(ended());
    }
    let Some(session) = standing.session(claimed.session) else {
        // a further session, still floating, of an id that its authenticated client chose
        return match claimed.floating {
            Some(f) if f.chosen_by_client && user.chosen_by == Some(claimed.client.no) => {
                floats(f, &standing, user.epoch, user.kind)
            }
            _ => Err(ended()),
        };
    };
    if session.ended_at.is_some() {
        return Err(ended());
    }
    if session.client != claimed.client.no {
        return Err(Error::new(Code::InvalidToken, "The session belongs to another client."));
    }
    // a session that was opened from a cookie's ends with it
    if session.parent.is_some_and(|p| standing.session(p).is_none_or(|p| p.ended_at.is_some())) {
        return Err(ended());
    }
    if matches!(claimed.binding, Binding::Says(key) if key.as_ref() != session.bound_to()) {
        return Err(ended());
    }
    let ends = rules.ends(session.created_at, session.active_at);
    if ends.idle <= now {
        return Err(expired());
    }
    // last: to somebody without the key an ended session and a living one look different only by their end
    if let (Proven::Key(key), Some(bound)) = (claimed.proven, session.bound_to())
        && key.as_ref() != Some(bound)
    {
        return Err(unproven());
    }
    if session.has_denied_tokens && claimed.jti.is_some_and(|jti| standing.marked(&jti, now)) {
        return Err(denied());
    }
    let Standing { user, sessions, .. } = standing;
    let (Some(user), Some(session)) = (user, sessions.iter().find(|s| s.id == claimed.session).cloned()) else {
        return Err(ended());
    };
    Ok(Held {
        tenant: tenant.clone(),
        client: claimed.client.clone(),
        user: user.id,
        session: session.id,
        epoch: user.epoch,
        kind: user.kind,
        created_at: session.created_at,
        active_at: session.active_at,
        ends,
        row: Row::Stored(Box::new(Stored { user, session, sessions })),
    })
}

impl Held {
    /// The rows of a floating guest; `None` for a stored one.
    pub(crate) fn to_keep(&self, now: Timestamp) -> Option<Box<NewGuest>> {
        let Row::Floating(floating) = &self.row else { return None };
        let user = User {
            chosen_id: floating.chosen_id.clone(),
            chosen_by: floating.chosen_by_client.then_some(self.client.no),
            data: floating.metadata.clone(),
            entry: floating.entry.clone(),
            ..User::guest(self.user, self.client.no, floating.created_at)
        };
        let session = Session {
            id: self.session,
            client: self.client.no,
            kind: SessionKind::Tokens,
            created_at: floating.created_at,
            active_at: now.max(floating.created_at),
            ended_at: None,
            generation: 0,
            rotated_at: None,
            late_generation: None,
            has_denied_tokens: false,
            metadata: None,
            parent: None,
            key: None,
            bound: false,
        };
        Some(Box::new(NewGuest { user, session, items: Vec::new() }))
    }

    /// Until when an ended session must stay marked: no floating token of it lives longer. A stored session needs no
    /// mark, since its user's row refuses what is not among its sessions; but for an id that its client chose, where
    /// a further session may float beside the row.
    pub(crate) fn mark_until(&self) -> Option<Timestamp> {
        match &self.row {
            Row::Stored(stored) if stored.user.chosen_by.is_none() => None,
            _ => Some(self.ends.absolute.max(self.created_at.plus(self.tenant.longest_lifetime()))),
        }
    }

    /// How its credential travels.
    pub(crate) fn session_kind(&self) -> SessionKind {
        match &self.row {
            Row::Stored(stored) => stored.session.kind,
            Row::Floating(_) => SessionKind::Tokens,
        }
    }

    /// Whether it was opened so lately that whoever holds it has just proven who they are.
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.created_at.plus(FRESH) > now
    }

    /// The device key that the session hangs on.
    pub(crate) fn device_key(&self) -> Option<&Thumbprint> {
        match &self.row {
            Row::Stored(stored) => stored.session.key.as_ref(),
            Row::Floating(_) => None,
        }
    }

    /// The key that the session's tokens are bound to.
    pub(crate) fn bound_to(&self) -> Option<&Thumbprint> {
        match &self.row {
            Row::Stored(stored) => stored.session.bound_to(),
            Row::Floating(_) => None,
        }
    }

    /// The id as the caller chose it.
    pub(crate) fn chosen_id(&self) -> Option<&str> {
        match &self.row {
            Row::Stored(stored) => stored.user.chosen_id.as_deref(),
            Row::Floating(floating) => floating.chosen_id.as_deref(),
        }
    }

    /// What of the metadata a session token carries: too large a one is left out.
    pub(crate) fn carried_metadata(&self) -> &str {
        Some(self.metadata()).filter(|m| m.len() <= MOST_CARRIED).unwrap_or("{}")
    }

    /// The metadata that a session token snapshots: the session's own, else the guest's data.
    pub(crate) fn metadata(&self) -> &str {
        match &self.row {
            Row::Stored(stored) => stored.session.metadata.as_deref().unwrap_or(&stored.user.data),
            Row::Floating(floating) => &floating.metadata,
        }
    }
}

impl Passerby {
    /// Reads what a claimed session stands on and decides; notes the use.
    pub(crate) async fn hold(
        &self,
        tenant: &Arc<Tenant>,
        claimed: &Claimed<'_>,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let standing = self.store.standing(tenant.no, claimed.user, claimed.session).await?;
        let held = decide(tenant, claimed, standing, now)?;
        self.touch(&held, now);
        Ok(held)
    }

    /// Notes that a stored session was used: at most once per step, written later, never in the request's way.
    pub(crate) fn touch(&self, held: &Held, now: Timestamp) {
        if matches!(held.row, Row::Stored(_))
            && now.since(held.active_at) >= held.tenant.rules_of(held.client.no).touch_step()
        {
            let mut touches = self.touches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let at = touches.entry((held.tenant.no, held.user, held.session)).or_insert(now);
            *at = (*at).max(now);
        }
    }

    /// Holds what an access token names, without asking whom it is for.
    pub(crate) async fn hold_seen(
        &self,
        seen: &Seen,
        person: &SeenPerson,
        proven: Proven,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let settings = self.settings();
        let tenant = settings.tenant(seen.tenant).ok_or_else(ended)?;
        let claimed = Claimed {
            user: person.user,
            session: person.session,
            epoch: person.epoch,
            client: &seen.client,
            floating: person.floating.as_ref(),
            issued_at: seen.issued_at,
            absolute: None,
            jti: Some(seen.jti),
            idles: true,
            binding: Binding::Says(seen.cnf),
            proven,
        };
        let held = self.hold(tenant, &claimed, now).await.map_err(|e| match e.code {
            // to a bearer an idle session has simply ended
            Code::SessionExpired => ended(),
            _ => e,
        })?;
        // a guest's token made regular is void by its epoch; the mark must agree besides
        if person.anonymous != (held.kind == Kind::Anonymous) {
            return Err(ended());
        }
        Ok(held)
    }

    /// An access token for our own endpoints, with its session; with its proof where it is bound.
    pub(crate) async fn hold_access(
        &self,
        caller: &Caller<'_>,
        token: AccessToken<'_>,
        now: Timestamp,
    ) -> Result<(Arc<Seen>, Held), Error> {
        let seen = self.read_own(caller, token, now)?;
        let key = match token.scheme {
            Scheme::Bearer => None,
            Scheme::DPoP | Scheme::Body => {
                let settings = self.settings();
                let tenant = settings.tenant(seen.tenant).ok_or_else(ended)?;
                self.proven(caller, tenant, Some(token), now).await?
            }
        };
        self.hold_proven(seen, key, now).await
    }

    /// The same, where the request's proof was checked already.
    pub(crate) async fn hold_proven(
        &self,
        seen: Arc<Seen>,
        key: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<(Arc<Seen>, Held), Error> {
        let Some(person) = &seen.person else {
            return Err(Error::new(Code::InvalidToken, "The access token is a client's own, not a person's."));
        };
        if seen.cnf.is_some() && seen.cnf != key {
            return Err(Error { token_shown: true, ..unproven() });
        }
        let held = self.hold_seen(&seen, person, Proven::Key(seen.cnf), now).await?;
        Ok((seen, held))
    }

    /// Reads an access token that was shown to us: for this server, of this tenant, under its own scheme (RFC 9449
    /// section 7.1: a bound token is none to a bearer).
    pub(crate) fn read_own(
        &self,
        caller: &Caller<'_>,
        token: AccessToken<'_>,
        now: Timestamp,
    ) -> Result<Arc<Seen>, Error> {
        let seen = self.read_access_token(token.text, now)?;
        let wrong = |detail| Err(Error::new(Code::InvalidToken, detail));
        if caller.tenant.is_some_and(|no| no != seen.tenant) {
            return wrong("The access token is another tenant's.");
        }
        if !seen.for_issuer {
            return wrong("The access token is for an API, not for this server.");
        }
        match (token.scheme, seen.cnf) {
            // the culprit's name makes a door ask for the scheme
            (Scheme::Bearer, Some(_)) => Err(Error::at(
                Code::InvalidToken,
                "DPoP",
                "The access token is bound to a key: show it as DPoP, with a proof.",
            )),
            (Scheme::DPoP, None) => wrong("The access token is bound to no key: show it as Bearer."),
            _ => Ok(seen),
        }
    }

    /// Holds what a session token or a cookie names. The session's client is found by the token.
    pub(crate) async fn hold_session(
        &self,
        caller: &Caller<'_>,
        what: Sealed,
        token: &str,
        idles: bool,
        proven: Proven,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let broken = || Error::at(Code::InvalidSessionToken, "session_token", "The session token is not valid.");
        let seen: SeenSession = self.read_session_token(what, token, now).ok_or_else(broken)?;
        if caller.tenant.is_some_and(|no| no != seen.tenant) {
            return Err(broken());
        }
        if seen.expires_at <= now && seen.floating.is_some() {
            return Err(expired());
        }
        let settings = self.settings();
        let tenant = settings.tenant(seen.tenant).ok_or_else(broken)?;
        let client = tenant.clients.get(&seen.client_id).ok_or_else(broken)?;
        let claimed = Claimed {
            user: seen.user,
            session: seen.session,
            epoch: seen.epoch,
            client,
            floating: seen.floating.as_ref(),
            issued_at: seen.issued_at,
            absolute: Some(seen.expires_at),
            jti: None,
            idles,
            // a cookie knows no key. Its session may have been bound since: then it needs the proof, and is not over
            binding: if what == Sealed::Cookie { Binding::Silent } else { Binding::Says(seen.cnf) },
            proven,
        };
        self.hold(tenant, &claimed, now).await
    }

    /// The caller's own session, by bearer token or cookie: what every `/v1/me` call begins with.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without a credential; what the credential's check says; [`Code::CrossSite`] for a
    /// change by cookie from elsewhere.
    pub(crate) async fn hold_caller(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        now: Timestamp,
    ) -> Result<Held, Error> {
        if let Some(token) = access.token {
            return Ok(self.hold_access(caller, token, now).await?.1);
        }
        let Some(cookie) = access.cookie else {
            return Err(Error::new(Code::Unauthenticated, "This needs an access token or the session cookie."));
        };
        let held = self.hold_session(caller, Sealed::Cookie, cookie, true, Proven::Key(None), now).await.map_err(
            |e| match e.code {
                Code::InvalidSessionToken | Code::SessionExpired => ended(),
                _ => e,
            },
        )?;
        if access.change {
            caller.site.may_change_by_cookie(&held.tenant)?;
        } else {
            caller.site.may_read_by_cookie(&held.tenant)?;
        }
        Ok(held)
    }
}
