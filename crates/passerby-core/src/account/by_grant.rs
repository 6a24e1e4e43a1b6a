//! What the token endpoint gives an app that has only an OAuth library: a session continued by whatever the library keeps
//! as its refresh token, and a claim proven by a guest's token in the body of a token request.

use crate::{
    Code, Error, Timestamp,
    caller::{Access, AccessToken, Caller, ClientClaim, Scheme},
    client::KnownClient,
    guest::{EnsureGuest, Ensured},
    model::SessionKind,
    passerby::Passerby,
    renew::RefreshRequest,
    token::refresh::RefreshToken,
};

use super::{Verified, VerifyClaim};

impl Passerby {
    /// Continues a session: by a refresh token, which is rotated, or by a guest's session token, as creations resume. A
    /// floating guest has nothing but the latter, and a plain library keeps it as its refresh token.
    ///
    /// # Errors
    /// As for [`Passerby::refresh`], whichever of the two it was.
    pub async fn continue_session(
        &self,
        caller: &Caller<'_>,
        client: ClientClaim<'_>,
        request: RefreshRequest<'_>,
    ) -> Result<Ensured, Error> {
        let RefreshRequest { refresh_token, audience, scope, bind_tokens } = request;
        if RefreshToken::looks_like(refresh_token) {
            return self.refresh(caller, client, request).await;
        }
        let by_session_token = EnsureGuest {
            client,
            token: None,
            cookie: None,
            session_token: Some(refresh_token),
            session_type: SessionKind::Tokens,
            data: None,
            persist: None,
            user_id: None,
            entry: None,
            audience,
            scope,
            device: None,
            bind_tokens,
            create: false,
            idempotency_key: None,
            body: &[],
        };
        self.ensure_guest(caller, by_session_token).await.map_err(|e| match e.code {
            // broken, another client's, or a regular user's, who has a refresh token
            Code::InvalidSessionToken | Code::InvalidToken | Code::NotAGuest => {
                Error::at(Code::InvalidRefreshToken, "refresh_token", "The refresh token is not valid.")
            }
            _ => e,
        })
    }

    /// Proves a claim of the guest whose access token stands in the body of a token request of its own client.
    ///
    /// # Errors
    /// [`Code::InvalidToken`] for a token of another client or of nobody; [`Code::NotAGuest`] for a regular user's, who
    /// adds an identifier by the native API; as for [`Passerby::verify_claim`] and for the client.
    pub async fn verify_claim_by_grant(
        &self,
        caller: &Caller<'_>,
        client: ClientClaim<'_>,
        subject_token: &str,
        request: VerifyClaim<'_>,
    ) -> Result<Verified, Error> {
        let now = self.now();
        let known = self.known_client(caller, &client, now).await?;
        known.origin_allowed(caller)?;
        let token = AccessToken { text: subject_token, scheme: Scheme::Body };
        if !self.is_guest_token(caller, &known, token, now)? {
            return Err(Error::at(
                Code::NotAGuest,
                "subject_token",
                "The token is a regular user's; they add an identifier at /v1/me/identifiers.",
            ));
        }
        self.verify_claim(caller, &Access { token: Some(token), cookie: None, change: true }, request).await
    }

    /// Whether an access token of this client's is a guest's; else it is a regular user's.
    ///
    /// # Errors
    /// [`Code::InvalidToken`] for another client's, or a client's own; as for every access token.
    fn is_guest_token(
        &self,
        caller: &Caller<'_>,
        known: &KnownClient,
        token: AccessToken<'_>,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let seen = self.read_own(caller, token, now)?;
        let wrong = |detail| Err(Error::at(Code::InvalidToken, "subject_token", detail));
        if seen.tenant != known.tenant.no || seen.client.no != known.client.no {
            return wrong("The token belongs to another client.");
        }
        match &seen.person {
            Some(person) => Ok(person.anonymous),
            None => wrong("The token is a client's own, not a person's."),
        }
    }
}
