//! `POST /v1/guests`: create or resume. Any number of calls with the same credential or key give the same guest, and
//! exactly one of them says that it was created.

use std::time::Duration;

use crate::{
    Code, Error, Timestamp,
    caller::{Caller, ClientClaim},
    client::{Grant, KnownClient, grant},
    hold::{Held, Row, Stored},
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

use super::create::{CreateError, Creation};

/// What a creation may say, as it came.
#[derive(Clone, Copy)]
pub struct EnsureGuest<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// An access token of a living guest session.
    pub bearer: Option<&'a str>,
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
        let (resumed, clear_cookie) = self.presented(caller, &known, &request, now).await?;
        // the cookie's own rule let its request pass; anything else comes from the client's own pages
        if resumed.is_none() || request.bearer.is_some() || request.session_token.is_some() {
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
        if let Some((held, grade)) = resumed {
            if let Some(id) = request.user_id
                && self.secrets_of(known.tenant.no)?.key_of(id) != held.user
            {
                return Err(Error::at(Code::CredentialConflict, "/user_id", "The credential is another guest's."));
            }
            return self.resume(&request, held, &grant, grade, clear_cookie, now).await;
        }
        let key = request.idempotency_key.map(|key| self.creation_key(&known, key, request.body)).transpose()?;
        let mut tries = 0;
        loop {
            if let Some(key) = &key
                && let Some(held) = self.held_by_key(&known, key, now).await?
            {
                return self.resume(&request, held, &grant, Grade::Session, clear_cookie, now).await;
            }
            let creation = Creation {
                kind: request.session_type,
                data: data.clone(),
                persist: request.persist,
                user_id: request.user_id,
                entry: request.entry,
                key,
            };
            match self.create(caller, &known, creation, now).await {
                Ok(created) => {
                    let answer = self.dress(
                        &request,
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
                // the loser of a race for the key reads the winner
                Err(CreateError::Taken) if key.is_some() && tries < 3 => tries += 1,
                Err(e) => return Err(e.into_error()),
            }
        }
    }

    /// The guest whose credential was sent along, and whether the cookie must be cleared. Other credentials win over
    /// the cookie; a broken cookie locks nobody out, any other broken credential is refused and creates nothing.
    async fn presented(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        request: &EnsureGuest<'_>,
        now: Timestamp,
    ) -> Result<(Option<(Held, Grade)>, bool), Error> {
        let mut found: Option<(Held, Grade)> = None;
        if let Some(token) = request.bearer {
            let (seen, held) = self.hold_bearer(caller, token, now).await?;
            found = Some((held, Grade::Access { until: seen.expires_at }));
        }
        if let Some(token) = request.session_token {
            let held = self.hold_session(caller, Sealed::Session, token, true, now).await?;
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
        match self.hold_session(caller, Sealed::Cookie, cookie, true, now).await {
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
        };
        let keep = held.to_keep(now);
        let act = Act::OpenSession { user: held.user, epoch: held.epoch, session: Box::new(session.clone()) };
        self.commit(held.tenant.no, keep, act).await?;
        let held = self.read_again(&known.tenant, held.user, session.id, now).await?;
        Ok(held)
    }

    /// Reads a session of ours again after a commit.
    pub(super) async fn read_again(
        &self,
        tenant: &std::sync::Arc<crate::settings::Tenant>,
        user: UserId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let gone = || Error::new(Code::SessionEnded, "The session has ended.");
        let standing = self.store.standing(tenant.no, user, session).await?;
        let client_no = standing.session(session).ok_or_else(gone)?.client;
        let client = tenant.clients_by_no.get(&client_no).ok_or_else(gone)?;
        let epoch = standing.user.as_ref().map_or(0, |u| u.epoch);
        let claimed = crate::hold::Claimed {
            user,
            session,
            epoch,
            client,
            floating: None,
            issued_at: now,
            absolute: None,
            jti: None,
            idles: true,
        };
        crate::hold::decide(tenant, &claimed, standing, now)
    }

    /// Answers with the session that is there: rotates nothing, opens nothing; stores it when asked to.
    async fn resume(
        &self,
        request: &EnsureGuest<'_>,
        mut held: Held,
        grant: &Grant,
        grade: Grade,
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
            held = self.read_again(&held.tenant, held.user, held.session, now).await?;
        }
        count(&self.counts().resumed);
        let answer = self.dress(request, &held, grant, grade, false, None, now)?;
        Ok(Ensured { clear_cookie, ..answer })
    }

    #[expect(clippy::too_many_arguments, reason = "each is one independent fact of the answer")]
    fn dress(
        &self,
        request: &EnsureGuest<'_>,
        held: &Held,
        grant: &Grant,
        grade: Grade,
        created: bool,
        jti: Option<[u8; 16]>,
        now: Timestamp,
    ) -> Result<Ensured, Error> {
        let dress = Dress::default();
        let (mut tokens, mut cookie) = (None, None);
        if request.session_type == SessionKind::Cookie && grade == Grade::Session {
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

fn only_guests(held: &Held) -> Result<(), Error> {
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
