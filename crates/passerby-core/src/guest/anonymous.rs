//! `POST /anonymous/token`: the Auth0 dialect's three modes and the plain way in (`reference/auth0.md` sections 1–3).
//! The same rules as everywhere; the order of checks is the dialect's: client, feature, client enabled, session token,
//! audience, scope, metadata.

use crate::{
    Code, Error, Timestamp,
    caller::{Caller, ClientClaim},
    client::{KnownClient, grant},
    hold::{Held, Proven, Row},
    mint::Grade,
    model::{Kind, SessionKind},
    passerby::{Passerby, count},
    port::Half,
    profile::{Edit, Fault, Limits},
    secret::Sealed,
    token::{Dress, Tokens},
};

use super::create::{Creation, Device};

/// The audience that asks for a transfer ticket.
const TRANSFER: &str = "urn:auth0:anon_transfer";

/// A ticket lives so many seconds (`reference/auth0.md` 1.4).
const TICKET_SECONDS: i64 = 30;

/// The request, as it came.
#[derive(Clone, Copy)]
pub struct AnonymousToken<'a> {
    /// The client.
    pub client: ClientClaim<'a>,
    /// Continue this session.
    pub session_token: Option<&'a str>,
    /// An id that the caller chooses, on creation only.
    pub user_id: Option<&'a str>,
    /// The raw JSON text of `metadata`.
    pub metadata: Option<&'a [u8]>,
    /// The access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
}

/// The answer.
#[derive(Clone)]
pub enum AnonymousAnswer {
    /// A session, made or continued.
    Session {
        /// Access and session token; never a refresh token.
        tokens: Tokens,
        /// Seconds left of the session; continuing does not extend it.
        session_expires_in: u64,
    },
    /// A transfer ticket.
    Transfer {
        /// Opaque; to be spent once, at the authorization endpoint, which is not there yet.
        ticket: String,
        /// Seconds that it lives.
        expires_in: u64,
    },
}

impl Passerby {
    /// Creates a guest, continues its session (with new metadata, if sent), or gives a transfer ticket.
    ///
    /// # Errors
    /// In the dialect's order; [`Code::InvalidSessionToken`] and [`Code::SessionExpired`] only for what the session
    /// token itself is at fault for, since SDKs drop the guest on them.
    pub async fn anonymous_token(
        &self,
        caller: &Caller<'_>,
        request: AnonymousToken<'_>,
    ) -> Result<AnonymousAnswer, Error> {
        let now = self.now();
        let known = self.known_client(caller, &request.client, now).await?;
        known.may_make_guests()?;
        known.origin_allowed(caller)?;
        let dress_tenant = known.tenant.clone();
        let dress = Dress::of_dialect(&dress_tenant);
        let Some(token) = request.session_token else {
            if request.audience == Some(TRANSFER) {
                return Err(Error::at(
                    Code::InvalidRequest,
                    "session_token",
                    "A transfer ticket needs the session token.",
                ));
            }
            return self.anonymous_create(caller, &known, &request, dress, now).await;
        };
        let key = self.proven(caller, &known.tenant, None, now).await?;
        let bind = known.binding(false, key, SessionKind::Tokens)?;
        let mut held = self.anonymous_hold(caller, &known, token, Proven::Key(key), now).await?;
        if let Some(key) = &bind {
            held = self.with_key(held, Grade::Session, key, true, None, now).await?;
        }
        if request.audience == Some(TRANSFER) {
            let subject = dress.shown(held.user, held.chosen_id());
            return self.ticket(&known, &held, &subject, now);
        }
        let grant = grant(&known.tenant, &known.client, request.audience, request.scope, true)?;
        if let Some(id) = request.user_id
            && self.secrets_of(known.tenant.no)?.key_of(id) != held.user
        {
            return Err(Error::at(Code::InvalidRequest, "user_id", "user_id is another than the session's."));
        }
        let held = match request.metadata {
            None => held,
            Some(metadata) => self.anonymous_update(&known, held, metadata, now).await?,
        };
        count(&self.counts().resumed);
        let tokens = self.mint(&held, &grant, dress, Grade::Session, None, now)?;
        Ok(answer(tokens, &held, now))
    }

    async fn anonymous_create(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        request: &AnonymousToken<'_>,
        dress: Dress<'_>,
        now: Timestamp,
    ) -> Result<AnonymousAnswer, Error> {
        let key = self.proven(caller, &known.tenant, None, now).await?;
        let bind = known.binding(false, key, SessionKind::Tokens)?;
        let grant = grant(&known.tenant, &known.client, request.audience, request.scope, true)?;
        let data = match request.metadata {
            None => "{}".into(),
            Some(metadata) => Self::checked_data(known, metadata, "metadata", Some(metadata_limit(known)))?,
        };
        let creation = Creation {
            kind: SessionKind::Tokens,
            data,
            persist: None,
            user_id: request.user_id,
            entry: None,
            key: None,
            device: bind.as_ref().map(|key| Device { key, name: None, bound: true }),
            ids: self.ids.fresh(now, self.random.as_ref()),
        };
        self.limit_creation(known.tenant.no, known.client.no, caller.address)?;
        let created = self.create(known, creation, now).await.map_err(super::create::CreateError::into_error)?;
        let tokens = self.mint(&created.held, &grant, dress, Grade::Session, Some(created.ids.token), now);
        if let Some(commit) = created.commit {
            commit.await?;
        }
        Ok(answer(tokens?, &created.held, now))
    }

    /// The session that a session token names, in the dialect's two words for what can be wrong with it.
    async fn anonymous_hold(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        token: &str,
        proven: Proven,
        now: Timestamp,
    ) -> Result<Held, Error> {
        let invalid = || Error::at(Code::InvalidSessionToken, "session_token", "The session token is not valid.");
        let held = self
            .hold_session(caller, Sealed::Session, token, known.tenant.auth0.is_none(), proven, now)
            .await
            .map_err(|e| match e.code {
            Code::SessionExpired => Error::at(Code::SessionExpired, "session_token", "The session has expired."),
            Code::Unavailable | Code::Internal | Code::StorageFull | Code::InvalidDpopProof | Code::UseDpopNonce => e,
            _ => invalid(),
        })?;
        if held.tenant.no != known.tenant.no || held.client.no != known.client.no || held.kind != Kind::Anonymous {
            return Err(invalid());
        }
        Ok(held)
    }

    /// Merges metadata by top-level key, `null` removes; stores a floating guest with it.
    async fn anonymous_update(
        &self,
        known: &KnownClient,
        held: Held,
        metadata: &[u8],
        now: Timestamp,
    ) -> Result<Held, Error> {
        if known.tenant.auth0.as_ref().is_some_and(|d| !d.metadata_update) {
            return Err(Error::at(Code::InvalidRequest, "metadata", "Metadata is set once, at creation."));
        }
        let edit = Edit::shallow_merge(metadata, "metadata", &known.tenant.data_limits)?;
        if let Row::Floating(floating) = &held.row {
            // a refusal stores nobody
            edit.apply(&floating.metadata, &limits_of(known), None).map_err(too_large)?;
        }
        let half = match &held.row {
            Row::Stored(stored) if stored.session.metadata.is_some() => Half::SessionMetadata,
            Row::Floating(floating) if floating.chosen_by_client => self.half_of_floating(&held, now).await?,
            _ => Half::Data,
        };
        self.apply_edit(&held, edit, half, Some(metadata_limit(known)), None, None, now).await.map_err(too_large)?;
        self.hold_again(&held, now).await
    }

    /// A floating session of an id that its client chose: its metadata becomes the guest's data when it is the first to
    /// be stored, and its own when another was.
    async fn half_of_floating(&self, held: &Held, now: Timestamp) -> Result<Half, Error> {
        self.commit(held.tenant.no, held.to_keep(now), crate::port::Act::Keep).await?;
        let standing = self.store.standing(held.tenant.no, held.user, held.session).await?;
        Ok(match standing.session(held.session).and_then(|s| s.metadata.as_ref()) {
            Some(_) => Half::SessionMetadata,
            None => Half::Data,
        })
    }

    fn ticket(
        &self,
        known: &KnownClient,
        held: &Held,
        subject: &str,
        now: Timestamp,
    ) -> Result<AnonymousAnswer, Error> {
        let fault = || Error::new(Code::Internal, "A transfer ticket could not be made.");
        let jti = crate::id::token_id(self.random.as_ref());
        let claims = serde_json::json!({
            "iss": known.tenant.issuer, "aud": known.tenant.issuer, "sub": subject, "key": held.user.to_string(),
            "sid": held.session.to_string(), "client_id": known.client.id, "iat": now.seconds(),
            "exp": now.seconds() + TICKET_SECONDS, "jti": passerby_jose::b64::encode(&jti), "epoch": held.epoch,
        });
        let secrets = self.secrets_of(known.tenant.no)?;
        let ticket = secrets.seal(Sealed::Transfer, claims.to_string().as_bytes(), now).ok_or_else(fault)?;
        Ok(AnonymousAnswer::Transfer { ticket, expires_in: TICKET_SECONDS as u64 })
    }
}

fn too_large(e: impl Into<Error>) -> Error {
    let e = e.into();
    match e.fault {
        Some(Fault::TooLarge) => Error::at(Code::InvalidRequest, "metadata", "The metadata is too large."),
        _ => e,
    }
}

fn limits_of(known: &KnownClient) -> Limits {
    let mut limits = (*known.tenant.data_limits).clone();
    limits.max_bytes = limits.max_bytes.min(metadata_limit(known));
    limits
}

fn metadata_limit(known: &KnownClient) -> usize {
    known.tenant.auth0.as_ref().map_or(crate::token::session::MOST_CARRIED, |d| d.metadata_limit)
}

fn answer(mut tokens: Tokens, held: &Held, now: Timestamp) -> AnonymousAnswer {
    tokens.refresh_token = None;
    let left = held.ends.absolute.seconds() - now.seconds();
    AnonymousAnswer::Session { tokens, session_expires_in: left.max(0) as u64 }
}

opaque_debug!(AnonymousToken<'_>, AnonymousAnswer);
