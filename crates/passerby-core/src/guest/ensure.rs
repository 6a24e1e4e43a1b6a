//! `POST /v1/guests`: create or resume. Any number of calls with the same credential or key give the same guest, and
//! exactly one of them says that it was created.

use std::time::Duration;

use crate::{
    Code, Error, Timestamp,
    caller::{AccessToken, Caller, ClientClaim},
    client::{Grant, KnownClient, grant},
    device::{AttachError, DeviceKey, TRIES, checked_name, read_body},
    dpop::Thumbprint,
    hold::{Claimed, Held, Proven, Row, Stored, decide},
    id::{ClientNo, SessionId, UserId},
    me::{SessionView, UserView},
    mint::Grade,
    model::{Item, ItemKind, Kind, LookUpKind, Session, SessionKind},
    passerby::{Passerby, count},
    port::{Act, CommitError, Found, ItemChange, StoreError, Turn},
    profile::parse_object,
    secret::Sealed,
    token::{Dress, Tokens},
};

use super::create::{CreateError, Creation, CreationKey, Device};

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
        if let Some((mut held, grade)) = resumed {
            self.same_id(&known, &request, &held)?;
            if let Some(key) = &key {
                held = self.with_key(held, grade, key, bind.is_some(), device, now).await?;
            }
            return self.resume(&request, held, &grant, grade, false, clear_cookie, now).await;
        }
        let creation_key = request.idempotency_key.map(|k| self.creation_key(&known, k, request.body)).transpose()?;
        let ids = self.ids.fresh(now, self.random.as_ref());
        let mut tries = 0;
        loop {
            tries += 1;
            if let Some(held) = self
                .remembered(&known, creation_key.as_ref(), key.as_ref(), device.clone(), bind.is_some(), now)
                .await?
            {
                self.same_id(&known, &request, &held)?;
                // rows of our own: their commit's answer was lost on the way
                let created = held.session == ids.session && held.user == ids.user;
                // by an idempotency key tokens are made anew, never kept
                let grade = if creation_key.is_none() { Grade::DeviceKey } else { Grade::Session };
                return self.resume(&request, held, &grant, grade, created, clear_cookie, now).await;
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
            let keyed = creation_key.is_some() || key.is_some();
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
                Err(CreateError::Taken | CreateError::Unknown(_)) if keyed && tries < TRIES => {}
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

    /// The session that an `Idempotency-Key` or a device key opens.
    async fn remembered(
        &self,
        known: &KnownClient,
        creation_key: Option<&CreationKey>,
        key: Option<&Thumbprint>,
        device: Option<Box<str>>,
        bind: bool,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let proven = Proven::Key(key.copied());
        let by_request = match creation_key {
            Some(creation_key) => self.held_by_key(known, creation_key, proven, now).await?,
            None => None,
        };
        let Some(key) = key else { return Ok(by_request) };
        match by_request {
            Some(held) => self.with_key(held, Grade::Session, key, bind, device, now).await.map(Some),
            None => self.held_by_device(known, key, bind, now).await,
        }
    }

    /// The guest that a device key opens: the key's living session for this client, else a new one. One key, one guest:
    /// callers that race for a new session change the same row of the key, and the losers find the winner's.
    async fn held_by_device(
        &self,
        known: &KnownClient,
        key: &Thumbprint,
        bind: bool,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let hash = self.device_key_hash(known.tenant.no, key)?;
        let proven = Proven::Key(Some(*key));
        let mut seen: Option<Item> = None;
        for _ in 0..2 * TRIES {
            let found = self.store.found(known.tenant.no, LookUpKind::DeviceKey, hash).await?;
            let Some(Found { look_up, standing }) = found.filter(|f| f.look_up.ends_at > now) else { return Ok(None) };
            let Some(user) = &standing.user else { return Err(guest_ended()) };
            let (user_id, epoch) = (user.id, user.epoch);
            let living = |s: &&Session| {
                s.ended_at.is_none()
                    && s.client == known.client.no
                    && s.key.as_ref() == Some(key)
                    && known.client.rules.ends(s.created_at, s.active_at).idle > now
            };
            // the first of them: the one that everybody else finds too
            let session = standing.sessions.iter().filter(living).map(|s| s.id).min();
            if let Some(session) = session {
                let claimed = Claimed::stored(user_id, session, epoch, &known.client, proven, now);
                let held = decide(&known.tenant, &claimed, standing, now)?;
                only_guests(&held)?;
                self.touch(&held, now);
                if bind && held.bound_to().is_none() {
                    match self.bind(&held, key, None, now).await {
                        Ok(()) => return self.hold_bound(&held, key, now).await.map(Some),
                        Err(AttachError::Race) => continue,
                        Err(AttachError::Refused(e)) => return Err(e),
                    }
                }
                return Ok(Some(held));
            }
            // the key's row is read before the sessions are looked at for the last time: whoever opened one since has
            // changed it
            let Some(item) = seen.take() else {
                let items = self.store.items(known.tenant.no, user_id, Some(ItemKind::DeviceKey)).await?;
                seen = items.into_iter().find(|i| i.id == hash);
                continue;
            };
            match self.open_by_device(known, user_id, epoch, item, key, bind, now).await {
                Ok(session) => {
                    return self.read_again(&known.tenant, look_up.user, session, proven, now).await.map(Some);
                }
                Err(AttachError::Race) => {}
                Err(AttachError::Refused(e)) => return Err(e),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Opens a session by a device key. The key's row counts it.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact")]
    async fn open_by_device(
        &self,
        known: &KnownClient,
        user: UserId,
        epoch: i32,
        item: Item,
        key: &Thumbprint,
        bind: bool,
        now: Timestamp,
    ) -> Result<SessionId, AttachError> {
        let kept: DeviceKey = read_body(&item)?;
        let theirs = known.tenant.clients_by_no.get(&ClientNo(kept.client));
        if theirs.is_none_or(|c| c.no != known.client.no && !(c.first_party && known.client.first_party)) {
            let detail = "Only first-party clients share a device key's guest.";
            return Err(Error::at(Code::UnauthorizedClient, "client_id", detail).into());
        }
        let session = self.new_session(known, Some(*key), bind, SessionKind::Tokens, now);
        let id = session.id;
        let mut turn = Turn::of(user, epoch);
        turn.open = Some(Box::new(session));
        turn.items.push(ItemChange::Put {
            was: Some(item.revision),
            item: Item { revision: item.revision.wrapping_add(1), ..item },
        });
        match self.commit(known.tenant.no, None, Act::Turn(Box::new(turn))).await {
            Ok(_) => Ok(id),
            // somebody was faster, or our own answer was lost: look again
            Err(CommitError::Moved | CommitError::Store(StoreError::Unavailable(_))) => Err(AttachError::Race),
            Err(CommitError::Gone) => Err(guest_ended().into()),
            Err(e) => Err(Error::from(e).into()),
        }
    }

    /// A session that begins now.
    pub(crate) fn new_session(
        &self,
        known: &KnownClient,
        key: Option<Thumbprint>,
        bound: bool,
        kind: SessionKind,
        now: Timestamp,
    ) -> Session {
        Session {
            id: self.ids.fresh(now, self.random.as_ref()).session,
            client: known.client.no,
            kind,
            created_at: now,
            active_at: now,
            ended_at: None,
            generation: 0,
            rotated_at: None,
            late_generation: None,
            has_denied_tokens: false,
            metadata: None,
            parent: None,
            key,
            bound,
        }
    }

    /// A session that was shown together with a key: the key must be its guest's. A session-grade credential adds an
    /// unknown one; an access token does not, since a key outlives it.
    pub(super) async fn with_key(
        &self,
        mut held: Held,
        grade: Grade,
        key: &Thumbprint,
        bind: bool,
        device: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<Held, Error> {
        for _ in 0..TRIES {
            let owner = self.owner_of_key(held.tenant.no, key, now).await?;
            if owner.is_some_and(|owner| owner != held.user) {
                return Err(Error::at(Code::CredentialConflict, "DPoP", "The key is another guest's."));
            }
            let bound = held.bound_to().is_some();
            if !grade.is_session() || (owner.is_some() && (bound || !bind)) {
                return Ok(held);
            }
            let done = if bind && !bound {
                self.bind(&held, key, device.clone(), now).await
            } else {
                self.attach_key(&held, key, device.clone(), false, now).await.map(drop)
            };
            match done {
                Ok(()) => return self.hold_bound(&held, key, now).await,
                Err(AttachError::Race) => held = self.hold_bound(&held, key, now).await?,
                Err(AttachError::Refused(e)) => return Err(e),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Binds the tokens of a held session to a key, which becomes a device key of the guest; older tokens of the session
    /// die.
    pub(crate) async fn bind(
        &self,
        held: &Held,
        key: &Thumbprint,
        device: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<(), AttachError> {
        match self.owner_of_key(held.tenant.no, key, now).await? {
            None => self.attach_key(held, key, device, true, now).await.map(drop),
            Some(owner) if owner == held.user => {
                let mut turn = Turn::of(held.user, held.epoch);
                turn.by = Some(held.session);
                turn.bind = Some((held.session, Some(*key), true));
                match self.turn(held, turn, now).await {
                    Ok(()) => Ok(()),
                    Err(CommitError::Moved) => Err(AttachError::Race),
                    Err(e) => Err(Error::from(e).into()),
                }
            }
            Some(_) => Err(Error::at(Code::CredentialConflict, "DPoP", "The key is another guest's.").into()),
        }
    }

    /// Reads a session again that was just bound to a key.
    pub(crate) async fn hold_bound(&self, held: &Held, key: &Thumbprint, now: Timestamp) -> Result<Held, Error> {
        self.read_again(&held.tenant, held.user, held.session, Proven::Key(Some(*key)), now).await
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
                Code::Unavailable | Code::Internal | Code::StorageFull => Err(e),
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

fn guest_ended() -> Error {
    Error::at(Code::GuestEnded, "DPoP", "The guest of this key has ended; use a new key for a new one.")
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
