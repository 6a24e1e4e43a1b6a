//! `POST /v1/guests`: create or resume. Any number of calls with the same credential or key give the same guest, and
//! exactly one of them says that it was created.

use std::time::Duration;

use crate::{
    Code, Error, Timestamp,
    caller::{AccessToken, Caller, ClientClaim},
    client::{Grant, KnownClient, grant},
    device::{TRIES, checked_name},
    dpop::Thumbprint,
    hold::{Claimed, Held, Proven, Row, Stored, decide},
    id::{SessionId, UserId},
    me::{SessionView, UserView},
    mint::Grade,
    model::{Kind, Session, SessionKind},
    passerby::{Passerby, count},
    port::{Act, CommitError},
    profile::parse_object,
    secret::Sealed,
    token::{Dress, Tokens},
};

use super::create::{CreateError, Creation, Device};

/// What a creation may say, as it came.
#[derive(Clone, Copy)]
pub struct EnsureGuest<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// An access token of a living guest session.
    pub token: Option<AccessToken<'a>>,
    /// The session cookie.
    pub cookie: Option<&'a str>,
    /// A session token.
    pub session_token: Option<&'a str>,
    /// What the answer carries.
    pub session_type: SessionKind,
    /// The raw JSON text of `data`.
    pub data: Option<&'a [u8]>,
    /// Whether a row is made now.
    pub persist: Option<bool>,
    /// An id that the caller chooses.
    pub user_id: Option<&'a str>,
    /// Where the guest came in: at most 64 characters.
    pub entry: Option<&'a str>,
    /// The access token's audience; absent: the tenant's default.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// Names the device and its key: at most 64 characters.
    pub device: Option<&'a str>,
    /// Bind the tokens to the key whose proof comes along.
    pub bind_tokens: bool,
    /// Make a guest where the credentials have none; without it that is [`Code::GuestEnded`].
    pub create: bool,
    /// `Idempotency-Key`, as sent.
    pub idempotency_key: Option<&'a str>,
    /// The whole body, which the key is bound to.
    pub body: &'a [u8],
}

/// A cookie to be set.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its value.
    pub value: String,
    /// Never longer than the session.
    pub max_age: Duration,
    /// The issuer is https: the name is `__Host-passerby_session`.
    pub secure: bool,
}

/// The guest, made or found.
#[derive(Debug, Clone)]
pub struct Ensured {
    /// Made by this call.
    pub created: bool,
    /// The guest.
    pub user: UserView,
    /// Its session.
    pub session: SessionView,
    /// Tokens; `None` for a cookie session.
    pub tokens: Option<Tokens>,
    /// A cookie to set.
    pub cookie: Option<Cookie>,
    /// The cookie that was sent is ended or not ours.
    pub clear_cookie: bool,
}

impl Passerby {
    /// Creates or resumes.
    ///
    /// # Errors
    /// Everything that can be wrong with client, credential, audience, scope, data, key or chosen id; limits.
    pub async fn ensure_guest(&self, caller: &Caller<'_>, request: EnsureGuest<'_>) -> Result<Ensured, Error> {
        let now = self.now();
        let known = self.known_client(caller, &request.client, now).await?;
        known.may_make_guests()?;
        let key = self.proven(caller, &known.tenant, request.token, now).await?;
        let bind = known.binding(request.bind_tokens, key, request.session_type)?;
        let device = checked_name(request.device, "/device")?;
        let (resumed, clear_cookie) = self.presented(caller, &known, &request, key, now).await?;
        // the cookie's own rule let its request pass; anything else comes from the client's own pages
        if resumed.is_none() || request.token.is_some() || request.session_token.is_some() {
            known.origin_allowed(caller)?;
        }
        let grant = grant(&known.tenant, &known.client, request.audience, request.scope, true)?;
        if let Some(entry) = request.entry
            && (entry.chars().count() > 64 || entry.chars().any(char::is_control))
        {
            return Err(Error::at(Code::InvalidValue, "/entry", "Expected at most 64 printable characters."));
        }
        let data = match request.data {
            None => "{}".into(),
            Some(data) => Self::checked_data(&known, data, "/data", None)?,
        };
        let creation_key =
            request.idempotency_key.map(|k| self.creation_key(&known, "creation", k, request.body)).transpose()?;
        if let Some((mut held, grade)) = resumed {
            self.same_id(&known, &request, &held)?;
            if bind.is_some() && request.token.is_none() && request.session_token.is_none() {
                // the cookie would be dead from here on, and the next request with it would make another guest
                let detail = "The session came by its cookie, which cannot prove a key.";
                return Err(Error::at(Code::InvalidValue, "/bind_tokens", detail));
            }
            if let Some(key) = &key {
                held = self.with_key(held, grade, key, bind.is_some(), device, now).await?;
            }
            if let Some(creation_key) = creation_key.filter(|_| grade.is_session()) {
                self.remember_key(&known, &creation_key, &held, now).await?;
            }
            return self.resume(&request, held, &grant, grade, false, clear_cookie, now).await;
        }
        let ids = self.ids.fresh(now, self.random.as_ref());
        let keyed = creation_key.is_some() || key.is_some();
        // the answer of a commit of ours was lost, of a new user's or not; the id that was asked for was taken, perhaps by
        // the key's winner
        let (mut lost, mut taken) = (None, false);
        let mut tries = 0;
        loop {
            tries += 1;
            let found =
                self.remembered(&known, creation_key.as_ref(), key.as_ref(), device.clone(), bind.is_some(), now).await;
            let found = match found {
                Err(e) if lost.is_some() && e.code == Code::Unavailable && tries < TRIES => continue,
                found => found?,
            };
            if let Some(held) = found {
                self.same_id(&known, &request, &held)?;
                let created = held.session == ids.session && lost == Some(true);
                // by an idempotency key tokens are made anew, never kept
                let grade = if creation_key.is_none() { Grade::DeviceKey } else { Grade::Session };
                return self.resume(&request, held, &grant, grade, created, clear_cookie, now).await;
            }
            if !request.create {
                return Err(Error::new(
                    Code::GuestEnded,
                    "Nobody comes back by this, and a new guest was not asked for.",
                ));
            }
            if tries == 1 {
                self.limit_creation(known.tenant.no, known.client.no, caller.address)?;
            }
            let creation = Creation {
                kind: request.session_type,
                data: data.clone(),
                persist: request.persist,
                user_id: request.user_id,
                entry: request.entry,
                key: creation_key,
                device: key.as_ref().map(|key| Device { key, name: device.as_deref(), bound: bind.is_some() }),
                ids,
            };
            match self.create(&known, creation, now).await {
                Ok(created) => {
                    let answer = self.dress(
                        request.session_type,
                        &created.held,
                        &grant,
                        Grade::Session,
                        created.new_user,
                        Some(created.ids.token),
                        now,
                    );
                    if let Some(commit) = created.commit {
                        commit.await?;
                    }
                    return Ok(Ensured { clear_cookie, ..answer? });
                }
                // the loser of a race for the key reads the winner; whose answer was lost, perhaps itself
                Err(CreateError::Taken) if keyed && tries < TRIES => {}
                Err(CreateError::Unknown { new_user, .. }) if keyed && tries < TRIES => lost = Some(new_user),
                Err(CreateError::Refused(e)) if keyed && e.code == Code::UserIdTaken && !taken => taken = true,
                Err(e) => return Err(e.into_error()),
            }
        }
    }

    /// An id that the caller chose must be the found guest's.
    fn same_id(&self, known: &KnownClient, request: &EnsureGuest<'_>, held: &Held) -> Result<(), Error> {
        match request.user_id {
            Some(id) if self.secrets_of(known.tenant.no)?.key_of(id) != held.user => {
                Err(Error::at(Code::CredentialConflict, "/user_id", "The credential is another guest's."))
            }
            _ => Ok(()),
        }
    }

    /// The guest whose credential was sent along, and whether the cookie must be cleared. Other credentials win over
    /// the cookie; a broken cookie locks nobody out, any other broken credential is refused and creates nothing.
    async fn presented(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        request: &EnsureGuest<'_>,
        key: Option<Thumbprint>,
        now: Timestamp,
    ) -> Result<(Option<(Held, Grade)>, bool), Error> {
        let mut found: Option<(Held, Grade)> = None;
        if let Some(token) = request.token {
            let seen = self.read_own(caller, token, now)?;
            let (seen, held) = self.hold_proven(seen, key, now).await?;
            found = Some((held, Grade::Access { until: seen.expires_at }));
        }
        if let Some(token) = request.session_token {
            let held = self.hold_session(caller, Sealed::Session, token, true, Proven::Key(key), now).await?;
            if found.as_ref().is_some_and(|(other, _)| other.user != held.user) {
                return Err(Error::at(Code::CredentialConflict, "/session_token", "The credentials are two guests'."));
            }
            found = Some((held, Grade::Session));
        }
        if let Some((held, _)) = &found {
            if held.tenant.no != known.tenant.no || held.client.no != known.client.no {
                return Err(Error::new(Code::InvalidToken, "The credential belongs to another client."));
            }
            only_guests(held)?;
            return Ok((found, false));
        }
        let Some(cookie) = request.cookie else { return Ok((None, false)) };
        match self.hold_session(caller, Sealed::Cookie, cookie, true, Proven::Key(key), now).await {
            Ok(held) => {
                caller.site.may_change_by_cookie(&held.tenant)?;
                only_guests(&held)?;
                if held.tenant.no != known.tenant.no {
                    return Ok((None, false));
                }
                let held = self.for_client(known, held, request.session_type, now).await?;
                Ok((Some((held, Grade::Session)), false))
            }
            Err(e) => match e.code {
                // the last: it lives, and is bound to a key by now; nobody takes its place
                Code::Unavailable | Code::Internal | Code::StorageFull | Code::InvalidDpopProof => Err(e),
                // another tenant of the same host may go on with it
                _ => {
                    let seen = self.read_session_token(Sealed::Cookie, cookie, now);
                    Ok((None, seen.is_none_or(|seen| seen.tenant == known.tenant.no)))
                }
            },
        }
    }

    /// The cookie belongs to the tenant's host: first-party clients share its guest. Another client than the cookie's
    /// gets a session of its own beside it, always the same one.
    async fn for_client(
        &self,
        known: &KnownClient,
        held: Held,
        kind: SessionKind,
        now: Timestamp,
    ) -> Result<Held, Error> {
        if held.client.no == known.client.no {
            return Ok(held);
        }
        if !(known.client.first_party && held.client.first_party) {
            return Err(Error::at(
                Code::UnauthorizedClient,
                "client_id",
                "Only first-party clients share the cookie's guest.",
            ));
        }
        // all of a cookie's sessions hang on the first one, whichever of them is shown
        let root = match &held.row {
            Row::Stored(stored) => stored.session.parent.unwrap_or(held.session),
            Row::Floating(_) => held.session,
        };
        let living =
            |s: &&Session| s.ended_at.is_none() && known.client.rules.ends(s.created_at, s.active_at).idle > now;
        if let Row::Stored(stored) = &held.row
            && let Some(session) = stored
                .sessions
                .iter()
                .filter(living)
                .find(|s| s.client == known.client.no && (s.id == root || s.parent == Some(root)))
        {
            return Ok(sibling(known, &held, stored, session.clone()));
        }
        let ids = self.ids.fresh(now, self.random.as_ref());
        let session = Session {
            id: ids.session,
            client: known.client.no,
            kind,
            // it lives no longer than the session that opened it
            created_at: held.created_at,
            active_at: now.max(held.created_at),
            ended_at: None,
            generation: 0,
            rotated_at: None,
            late_generation: None,
            has_denied_tokens: false,
            metadata: None,
            parent: Some(root),
            key: None,
            bound: false,
        };
        let keep = held.to_keep(now);
        let act = Act::OpenSession { user: held.user, epoch: held.epoch, session: Box::new(session.clone()) };
        self.commit(held.tenant.no, keep, act).await?;
        let held = self.read_again(&known.tenant, held.user, session.id, Proven::Key(None), now).await?;
        Ok(held)
    }

    /// Reads a session of ours again after a commit.
    pub(crate) async fn read_again(
        &self,
        tenant: &std::sync::Arc<crate::settings::Tenant>,
        user: UserId,
        session: SessionId,
        proven: Proven,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let gone = || Error::new(Code::SessionEnded, "The session has ended.");
        let standing = self.store.standing(tenant.no, user, session).await?;
        let client_no = standing.session(session).ok_or_else(gone)?.client;
        let client = tenant.clients_by_no.get(&client_no).ok_or_else(gone)?;
        let epoch = standing.user.as_ref().map_or(0, |u| u.epoch);
        let claimed = Claimed::stored(user, session, epoch, client, proven, now);
        decide(tenant, &claimed, standing, now)
    }

    /// Answers with the session that is there: rotates nothing, opens nothing; stores it when asked to.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact of the answer")]
    async fn resume(
        &self,
        request: &EnsureGuest<'_>,
        mut held: Held,
        grant: &Grant,
        grade: Grade,
        created: bool,
        clear_cookie: bool,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        if request.persist == Some(true)
            && let Some(rows) = held.to_keep(now)
        {
            match self.commit(held.tenant.no, Some(rows), Act::Keep).await {
                Ok(_) => count(&self.counts().kept),
                Err(CommitError::Gone | CommitError::Marked) => {
                    return Err(Error::new(Code::SessionEnded, "The session has ended."));
                }
                Err(e) => return Err(e.into()),
            }
            held = self.hold_again(&held, now).await?;
        }
        count(if created { &self.counts().stored } else { &self.counts().resumed });
        let answer = self.dress(request.session_type, &held, grant, grade, created, None, now)?;
        Ok(Ensured { clear_cookie, ..answer })
    }

    /// The answer with tokens or cookie.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact of the answer")]
    pub(crate) fn dress(
        &self,
        kind: SessionKind,
        held: &Held,
        grant: &Grant,
        grade: Grade,
        created: bool,
        jti: Option<[u8; 16]>,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let dress = Dress::default();
        let (mut tokens, mut cookie) = (None, None);
        if kind == SessionKind::Cookie && held.bound_to().is_some() {
            let detail = "The session is bound to a key, which a cookie cannot prove.";
            return Err(Error::at(Code::InvalidValue, "/session_type", detail));
        }
        if kind == SessionKind::Cookie && grade.is_session() {
            let subject = dress.shown(held.user, held.chosen_id());
            cookie = Some(Cookie {
                value: self.session_text(Sealed::Cookie, held, &subject, now)?,
                max_age: held.ends.absolute.since(now),
                secure: held.tenant.issuer.starts_with("https:"),
            });
        } else {
            tokens = Some(self.mint(held, grant, dress, grade, jti, now)?);
        }
        Ok(Ensured {
            created,
            user: held.user_view(dress),
            session: held.session_view(),
            tokens,
            cookie,
            clear_cookie: false,
        })
    }

    /// Checks an object that came from outside: form, limits and the tenant's schema.
    pub(super) fn checked_data(
        known: &KnownClient,
        data: &[u8],
        base: &str,
        most: Option<usize>,
    ) -> Result<Box<str>, Error> {
        let text = match most {
            None => parse_object(data, base, &known.tenant.data_limits)?,
            Some(most) => {
                let mut limits = (*known.tenant.data_limits).clone();
                limits.max_bytes = limits.max_bytes.min(most);
                parse_object(data, base, &limits)?
            }
        };
        if let Some(schema) = &known.tenant.schema {
            schema.check_text(&text, base)?;
        }
        Ok(text)
    }
}

pub(crate) fn only_guests(held: &Held) -> Result<(), Error> {
    if held.kind == Kind::Anonymous {
        return Ok(());
    }
    Err(Error::new(Code::NotAGuest, "The credential is a regular user's; guests are made without it."))
}

fn sibling(known: &KnownClient, held: &Held, stored: &Stored, session: Session) -> Held {
    Held {
        tenant: held.tenant.clone(),
        client: known.client.clone(),
        user: held.user,
        session: session.id,
        epoch: held.epoch,
        kind: held.kind,
        created_at: session.created_at,
        active_at: session.active_at,
        ends: known.client.rules.ends(session.created_at, session.active_at),
        row: Row::Stored(Box::new(Stored { session, ..stored.clone() })),
    }
}

opaque_debug!(EnsureGuest<'_>, Cookie);
