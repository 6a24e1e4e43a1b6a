//! Tokens for a held session.

use crate::{
    Error, Timestamp,
    client::Grant,
    hold::{Held, Row},
    id::token_id,
    model::Kind,
    passerby::Passerby,
    secret::Sealed,
    token::{
        Dress, Tokens,
        access::{AccessClaims, Person},
        current::Texts,
        refresh::RefreshToken,
        session::SessionClaims,
        token_type,
    },
};

/// What the credential that was shown may yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// A session-grade one (session token, cookie, key, creation): everything.
    Session,
    /// The session's device key: everything, and the access token that the session has while it is worth it.
    DeviceKey,
    /// An access token: another access token that does not outlive it.
    Access {
        /// The shown token's end.
        until: Timestamp,
    },
}

impl Grade {
    /// Everything, not only another access token.
    pub(crate) fn is_session(self) -> bool {
        matches!(self, Self::Session | Self::DeviceKey)
    }
}

impl Passerby {
    /// Makes tokens. `jti`: drawn already, on the creating path.
    pub(crate) fn mint(
        &self,
        held: &Held,
        grant: &Grant,
        dress: Dress<'_>,
        grade: Grade,
        jti: Option<[u8; 16]>,
        now: Timestamp,
    ) -> Result<Tokens, Error> {
        let rules = &held.client.rules;
        let secrets = self.secrets_of(held.tenant.no)?;
        let subject = dress.shown(held.user, held.chosen_id());
        // never past its session's end, counted from this use
        let ends = rules.ends(held.created_at, now);
        let mut expires_at = now.plus(rules.access_token_lifetime).min(ends.idle).min(held.ends.absolute);
        if let Grade::Access { until } = grade {
            expires_at = expires_at.min(until);
        }
        let kept = (grade == Grade::DeviceKey).then(|| self.signing_key(&held.tenant, now)).transpose()?;
        let current = kept.as_ref().and_then(|key| self.current.find(held, grant, key.signing.kid(), now, expires_at));
        let (access_token, refresh_token, session_token) = if let Some((texts, end)) = current {
            expires_at = end;
            (texts.access, texts.refresh, Some(texts.session))
        } else {
            let state = match &held.row {
                Row::Floating(floating) => secrets.seal_state(&floating.state(), now),
                Row::Stored(_) => None,
            };
            let access = self.write_access_token(&AccessClaims {
                tenant: &held.tenant,
                client: &held.client,
                subject: &subject,
                audience: grant.audience.as_deref(),
                scope: grant.scope.as_deref(),
                issued_at: now,
                expires_at,
                jti: jti.unwrap_or_else(|| token_id(self.random.as_ref())),
                cnf: held.bound_to(),
                person: Some(Person {
                    session: held.session,
                    anonymous: held.kind == Kind::Anonymous,
                    epoch: held.epoch,
                    floating: state.as_deref(),
                    auth0: dress.auth0.is_some(),
                }),
            })?;
            let session = grade.is_session().then(|| self.session_text(Sealed::Session, held, &subject, now));
            let session = session.transpose()?;
            let refresh = match &held.row {
                Row::Stored(stored) if grade.is_session() => {
                    let (user, epoch, generation) = (held.user, held.epoch, stored.session.generation);
                    let token = RefreshToken { user, session: held.session, epoch, generation };
                    Some(token.write(&secrets.refresh))
                }
                _ => None,
            };
            if let (Some(key), Some(session)) = (kept, &session) {
                let texts = Texts { access: access.clone(), refresh: refresh.clone(), session: session.clone() };
                self.current.keep(held, grant, key.signing.kid(), texts, expires_at);
            }
            (access, refresh, session)
        };
        Ok(Tokens {
            access_token,
            token_type: token_type(held.bound_to()),
            expires_in: (expires_at.seconds() - now.seconds()).max(0) as u64,
            refresh_token,
            session_token,
            scope: grant.scope.clone(),
        })
    }

    /// A session token, or a cookie's value.
    pub(crate) fn session_text(
        &self,
        what: Sealed,
        held: &Held,
        subject: &str,
        now: Timestamp,
    ) -> Result<String, Error> {
        self.write_session_token(
            what,
            &SessionClaims {
                tenant: &held.tenant,
                client: &held.client,
                subject,
                user: held.user,
                session: held.session,
                created_at: held.created_at,
                issued_at: now,
                expires_at: held.ends.absolute,
                metadata: held.carried_metadata(),
                epoch: held.epoch,
                cnf: held.bound_to(),
                floating: match &held.row {
                    Row::Floating(floating) => Some(floating),
                    Row::Stored(_) => None,
                },
            },
        )
    }
}
