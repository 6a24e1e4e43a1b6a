//! The refresh grant: rotation with forgiveness and reuse detection, for the native API and `/oauth2/token` alike.

use crate::{
    Code, Error,
    caller::{Caller, ClientClaim},
    client::grant,
    device::AttachError,
    guest::Ensured,
    hold::{Claimed, Proven, Row, decide},
    mint::Grade,
    model::{Kind, SessionKind},
    passerby::{Passerby, count},
    port::{Act, CommitError},
    token::{
        Dress,
        refresh::{Decision, RefreshToken},
    },
};

/// So often a lost race is decided anew; each time another process made progress.
const TRIES: usize = 8;

/// A refresh, as it came.
#[derive(Clone, Copy)]
pub struct RefreshRequest<'a> {
    /// The refresh token.
    pub refresh_token: &'a str,
    /// The new access token's audience.
    pub audience: Option<&'a str>,
    /// Its scopes.
    pub scope: Option<&'a str>,
    /// Bind the session's tokens to the key whose proof comes along.
    pub bind_tokens: bool,
}

impl Passerby {
    /// Renews a stored session's tokens.
    ///
    /// # Errors
    /// [`Code::InvalidRefreshToken`] for a broken or foreign token, [`Code::SessionEnded`] for a session that is no
    /// more, [`Code::TokenReuse`] when an old token was used again, which ends the session.
    pub async fn refresh(
        &self,
        caller: &Caller<'_>,
        client: ClientClaim<'_>,
        request: RefreshRequest<'_>,
    ) -> Result<Ensured, Error> {
        let now = self.now();
        let known = self.known_client(caller, &client, now).await?;
        known.origin_allowed(caller)?;
        let invalid = || Error::at(Code::InvalidRefreshToken, "refresh_token", "The refresh token is not valid.");
        let ended = || Error::at(Code::SessionEnded, "refresh_token", "The session has ended.");
        let secrets = self.secrets_of(known.tenant.no)?;
        let token = RefreshToken::read(request.refresh_token, &secrets.refresh).ok_or_else(invalid)?;
        let key = self.proven(caller, &known.tenant, None, now).await?;
        let bind = known.binding(request.bind_tokens, key, SessionKind::Tokens)?;
        for _ in 0..TRIES {
            let standing = self.store.standing(known.tenant.no, token.user, token.session).await?;
            // another client's use is refused and ends nothing
            if standing.session(token.session).is_some_and(|s| s.client != known.client.no) {
                return Err(invalid());
            }
            let claimed = Claimed::stored(token.user, token.session, token.epoch, &known.client, Proven::Key(key), now);
            let mut held = decide(&known.tenant, &claimed, standing, now).map_err(|e| match e.code {
                Code::InvalidDpopProof => e,
                _ => ended(),
            })?;
            let guest = held.kind == Kind::Anonymous;
            let grant = grant(&known.tenant, &known.client, request.audience, request.scope, guest)?;
            if let Some(key) = bind
                && held.bound_to().is_none()
            {
                match self.bind(&held, &key, None, now).await {
                    Ok(()) | Err(AttachError::Race) => continue,
                    Err(AttachError::Refused(e)) => return Err(e),
                }
            }
            let Row::Stored(stored) = &mut held.row else { return Err(ended()) };
            // a thief of a bound token has no use of it: its owner may always ask again for a lost answer
            let bound = stored.session.bound_to().is_some();
            let from = stored.session.generation;
            let to = match crate::token::refresh::decide(&stored.session, token.generation, now) {
                Decision::Same => None,
                Decision::Rotate => Some(from.saturating_add(1)),
                Decision::Late => Some(from),
                Decision::Reuse if bound && token.generation == from.saturating_sub(1) => Some(from),
                Decision::Reuse => {
                    tracing::warn!(
                        event = "token.reuse_detected",
                        tenant = %known.tenant.id,
                        client_id = %known.client.id,
                        session = %held.session,
                        "an old refresh token was used again; its session was ended"
                    );
                    count(&self.counts().reused);
                    let session = held.session;
                    let told = self.reuse_event(&known.tenant, held.user, session, now);
                    self.end_with(&held, session, vec![told]).await?;
                    return Err(Error::at(
                        Code::TokenReuse,
                        "refresh_token",
                        "An old refresh token was used again; the session was ended.",
                    ));
                }
            };
            if let Some(to) = to {
                let act = Act::Rotate { user: token.user, session: token.session, from, to };
                match self.commit(known.tenant.no, None, act).await {
                    Ok(_) => {}
                    Err(CommitError::Moved) => continue,
                    Err(CommitError::Gone | CommitError::Marked) => return Err(ended()),
                    Err(e) => return Err(e.into()),
                }
                count(&self.counts().refreshed);
                stored.session.generation = to;
                stored.session.active_at = stored.session.active_at.max(now);
                held.active_at = held.active_at.max(now);
                held.ends = known.client.rules.ends(held.created_at, held.active_at);
                if let Some(own) = stored.sessions.iter_mut().find(|s| s.id == token.session) {
                    own.active_at = held.active_at;
                }
            } else {
                self.touch(&held, now);
            }
            let dress = Dress::default();
            let tokens = self.mint(&held, &grant, dress, Grade::Session, None, now)?;
            return Ok(Ensured {
                created: false,
                user: held.user_view(dress),
                session: held.session_view(),
                tokens: Some(tokens),
                cookie: None,
                clear_cookie: false,
            });
        }
        Err(CommitError::Moved.into())
    }
}

opaque_debug!(RefreshRequest<'_>);
