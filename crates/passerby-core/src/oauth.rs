//! What OAuth clients and resource servers ask: the client-credentials grant, introspection (RFC 7662), revocation
//! (RFC 7009).

use crate::{
    Code, Error, Timestamp,
    caller::{Caller, ClientClaim},
    client::{KnownClient, grant},
    hold::{Claimed, Held, Proven, decide},
    id::{SessionId, TenantNo, UserId, token_id},
    model::{Kind, SessionKind},
    passerby::Passerby,
    port::Act,
    secret::Sealed,
    settings::ApiScope,
    token::{
        Tokens,
        access::{AccessClaims, Seen},
        refresh::RefreshToken,
        token_type,
    },
};

/// Who asks for an introspection.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    /// A confidential client.
    Client(ClientClaim<'a>),
    /// An API key.
    ApiKey(&'a str),
}

/// The answer of RFC 7662 section 2.2; nothing but `active` when that is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introspection {
    /// Unknown, broken, ended, revoked, another tenant's.
    Inactive,
    /// Alive.
    Active(Box<ActiveToken>),
}

/// A living token's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveToken {
    /// `access_token`, `refresh_token` or `session_token`.
    pub kind: &'static str,
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`.
    pub subject: String,
    /// `client_id`.
    pub client_id: Box<str>,
    /// `aud`.
    pub audience: Box<str>,
    /// `scope`.
    pub scope: Option<Box<str>>,
    /// `iat`.
    pub issued_at: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `jti`.
    pub jti: Option<[u8; 16]>,
    /// `sid`.
    pub session: Option<crate::id::SessionId>,
    /// `is_anonymous`, for a person's token.
    pub is_anonymous: Option<bool>,
    /// `epoch`, for a person's token.
    pub epoch: Option<i32>,
    /// `floating`.
    pub floating: bool,
    /// `cnf.jkt`: the key that it is bound to.
    pub bound_to: Option<[u8; 32]>,
}

impl Passerby {
    /// A confidential client's own token: no person, no session.
    ///
    /// # Errors
    /// [`Code::InvalidClient`], [`Code::UnauthorizedClient`] for a public one, [`Code::InvalidTarget`],
    /// [`Code::InvalidScope`].
    pub async fn client_credentials(
        &self,
        caller: &Caller<'_>,
        client: ClientClaim<'_>,
        audience: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Tokens, Error> {
        let now = self.now();
        let known = self.known_client(caller, &client, now).await?;
        known.origin_allowed(caller)?;
        if !known.authenticated {
            return Err(Error::at(
                Code::UnauthorizedClient,
                "client_id",
                "Only a client that authenticates gets a token of its own (RFC 6749 section 4.4).",
            ));
        }
        let key = self.proven(caller, &known.tenant, None, now).await?;
        known.binding(false, key, SessionKind::Tokens)?;
        let grant = grant(&known.tenant, &known.client, audience, scope, false)?;
        let expires_at = now.plus(known.client.rules.access_token_lifetime);
        let access_token = self.write_access_token(&AccessClaims {
            tenant: &known.tenant,
            client: &known.client,
            subject: &known.client.id,
            audience: grant.audience.as_deref(),
            scope: grant.scope.as_deref(),
            issued_at: now,
            expires_at,
            jti: token_id(self.random.as_ref()),
            cnf: key.as_ref(),
            person: None,
        })?;
        Ok(Tokens {
            access_token,
            token_type: token_type(key.as_ref()),
            expires_in: (expires_at.seconds() - now.seconds()).max(0) as u64,
            refresh_token: None,
            session_token: None,
            scope: grant.scope,
        })
    }

    /// Tells whether a token is alive, its session read now.
    ///
    /// # Errors
    /// What is wrong with the asker; the store's faults. Nothing about the token is an error.
    pub async fn introspect(&self, caller: &Caller<'_>, asker: Asker<'_>, token: &str) -> Result<Introspection, Error> {
        let now = self.now();
        let tenant = match asker {
            Asker::Client(claim) => {
                let known = self.known_client(caller, &claim, now).await?;
                if !known.authenticated {
                    return Err(Error::at(
                        Code::InvalidClient,
                        "client_id",
                        "Introspection needs a client that authenticates.",
                    ));
                }
                known.tenant.no
            }
            Asker::ApiKey(text) => {
                self.api_key(text, Some(ApiScope::TokensIntrospect), "POST", "/oauth2/introspect").await?.tenant
            }
        };
        if caller.tenant.is_some_and(|no| no != tenant) {
            return Err(Error::new(Code::InvalidClient, "The asker belongs to another tenant."));
        }
        let found = self.look_into(caller, tenant, token, now).await;
        match found {
            Ok(Some(active)) => Ok(Introspection::Active(Box::new(active))),
            Err(e) if matches!(e.code, Code::Unavailable | Code::Internal | Code::StorageFull) => Err(e),
            Ok(None) | Err(_) => Ok(Introspection::Inactive),
        }
    }

    async fn look_into(
        &self,
        caller: &Caller<'_>,
        tenant: TenantNo,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<ActiveToken>, Error> {
        if RefreshToken::looks_like(token) {
            let Some(held) = self.hold_refresh(tenant, token, now).await? else { return Ok(None) };
            return Ok(Some(of_session(&held, "refresh_token")));
        }
        if let Ok(seen) = self.read_access_token(token, now) {
            if seen.tenant != tenant {
                return Ok(None);
            }
            if let Some(person) = &seen.person {
                self.hold_seen(&seen, person, Proven::Unasked, now).await?;
            } else {
                let (user, session) = self.own_key(tenant, &seen.client.id)?;
                if self.store.standing(tenant, user, session).await?.marked(&seen.jti, now) {
                    return Ok(None);
                }
            }
            return Ok(Some(self.of_access(&seen)));
        }
        let subject = self.read_session_token(Sealed::Session, token, now).map(|seen| seen.subject.into_string());
        // alive where it can be continued: the dialect counts the lifetime only
        let idles = self.settings().tenant(tenant).is_none_or(|t| t.auth0.is_none());
        let held = self.hold_session(caller, Sealed::Session, token, idles, Proven::Unasked, now).await?;
        Ok((held.tenant.no == tenant).then(|| {
            let active = of_session(&held, "session_token");
            ActiveToken { subject: subject.unwrap_or_default(), ..active }
        }))
    }

    /// The session of a refresh token that would be taken: the newest, or one that would be forgiven.
    async fn hold_refresh(&self, tenant: TenantNo, token: &str, now: Timestamp) -> Result<Option<Held>, Error> {
        let secrets = self.secrets_of(tenant)?;
        let settings = self.settings();
        let (Some(token), Some(tenant)) = (RefreshToken::read(token, &secrets.refresh), settings.tenant(tenant)) else {
            return Ok(None);
        };
        let standing = self.store.standing(tenant.no, token.user, token.session).await?;
        let Some(session) = standing.session(token.session) else { return Ok(None) };
        if crate::token::refresh::decide(session, token.generation, now) == crate::token::refresh::Decision::Reuse {
            return Ok(None);
        }
        let Some(client) = tenant.clients_by_no.get(&session.client) else { return Ok(None) };
        let claimed = Claimed::stored(token.user, token.session, token.epoch, client, Proven::Unasked, now);
        Ok(decide(tenant, &claimed, standing, now).ok())
    }

    fn of_access(&self, seen: &Seen) -> ActiveToken {
        let person = seen.person.as_ref();
        let settings = self.settings();
        ActiveToken {
            kind: "access_token",
            issuer: settings.tenant(seen.tenant).map(|t| t.issuer.clone()).unwrap_or_default(),
            subject: seen.subject.to_string(),
            client_id: seen.client.id.clone(),
            audience: seen.audience.clone(),
            scope: seen.scope.clone(),
            issued_at: Some(seen.issued_at),
            expires_at: seen.expires_at,
            jti: Some(seen.jti),
            session: person.map(|p| p.session),
            is_anonymous: person.map(|p| p.anonymous),
            epoch: person.map(|p| p.epoch),
            floating: person.is_some_and(|p| p.floating.is_some()),
            bound_to: seen.cnf,
        }
    }

    /// Revokes a token of the asking client: a refresh or session token ends its session, an access token is refused
    /// by its `jti` until it would have ended. Unknown tokens and other clients' are passed over, as RFC 7009 says.
    ///
    /// # Errors
    /// What is wrong with the client; the store's faults.
    pub async fn revoke(&self, caller: &Caller<'_>, client: ClientClaim<'_>, token: &str) -> Result<(), Error> {
        let now = self.now();
        let known = self.known_client(caller, &client, now).await?;
        known.origin_allowed(caller)?;
        let mine = |held: &Held| held.tenant.no == known.tenant.no && held.client.no == known.client.no;
        if RefreshToken::looks_like(token) {
            // an old token of the family is enough: whoever holds it may end the session, never use it
            let secrets = self.secrets_of(known.tenant.no)?;
            let Some(token) = RefreshToken::read(token, &secrets.refresh) else { return Ok(()) };
            let standing = self.store.standing(known.tenant.no, token.user, token.session).await?;
            if let Some(session) = standing.session(token.session).filter(|s| s.client == known.client.no) {
                let mark_until = session.created_at.plus(known.tenant.longest_lifetime());
                let act = Act::EndSession { user: token.user, session: token.session, mark_until: Some(mark_until) };
                self.commit(known.tenant.no, None, act).await?;
            }
            return Ok(());
        }
        if let Ok(seen) = self.read_access_token(token, now) {
            if seen.tenant == known.tenant.no && seen.client.no == known.client.no {
                self.deny(&known, &seen).await?;
            }
            return Ok(());
        }
        // whatever can still be continued somewhere can be revoked
        match self.hold_session(caller, Sealed::Session, token, false, Proven::Unasked, now).await {
            Ok(held) if mine(&held) => self.end(&held, held.session).await,
            Err(e) if matches!(e.code, Code::Unavailable | Code::Internal | Code::StorageFull) => Err(e),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// So many access tokens of one user are refused one by one; each is read with every request of theirs.
const MOST_DENIED: usize = 64;

impl Passerby {
    /// Refuses one access token until it would have ended; beyond [`MOST_DENIED`] of a user, its whole session.
    async fn deny(&self, known: &KnownClient, seen: &Seen) -> Result<(), Error> {
        let (user, session) = match &seen.person {
            Some(person) => (person.user, person.session),
            None => self.own_key(known.tenant.no, &known.client.id)?,
        };
        let standing = self.store.standing(known.tenant.no, user, session).await?;
        let act = if standing.marks.len() < MOST_DENIED || seen.person.is_none() {
            Act::DenyToken { user, session, jti: seen.jti, until: seen.expires_at }
        } else {
            let mark_until = Some(seen.issued_at.plus(known.tenant.longest_lifetime()));
            Act::EndSession { user, session, mark_until }
        };
        self.commit(known.tenant.no, None, act).await?;
        Ok(())
    }

    /// Under which key marks of a client's own tokens lie: no user has it.
    fn own_key(&self, tenant: TenantNo, client_id: &str) -> Result<(UserId, SessionId), Error> {
        let hash = self.secrets_of(tenant)?.look_up_hash("own tokens", &[client_id.as_bytes()]);
        let mut id = [0u8; 16];
        id.copy_from_slice(&hash[..16]);
        Ok((UserId::from_bytes(id), SessionId::from_bytes([0; 16])))
    }
}

fn of_session(held: &Held, kind: &'static str) -> ActiveToken {
    ActiveToken {
        kind,
        issuer: held.tenant.issuer.clone(),
        subject: crate::token::Dress::default().shown(held.user, held.chosen_id()),
        client_id: held.client.id.clone(),
        audience: held.tenant.issuer.clone(),
        scope: None,
        issued_at: None,
        expires_at: held.ends.idle,
        jti: None,
        session: Some(held.session),
        is_anonymous: Some(held.kind == Kind::Anonymous),
        epoch: Some(held.epoch),
        floating: matches!(held.row, crate::hold::Row::Floating(_)),
        bound_to: held.bound_to().copied(),
    }
}

opaque_debug!(Asker<'_>);
