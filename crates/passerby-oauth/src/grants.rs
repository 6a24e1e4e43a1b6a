//! The grants by which an app that has only an OAuth library makes a guest, turns it into an account and signs in. Their
//! names are ours (RFC 6749 section 4.5: an absolute URI); what they do is what the native API does.

use axum::response::Response;
use http::StatusCode;
use passerby_core::{
    Code, Error,
    account::{SignIn, SignInAnswer, SignInBy, Verified, VerifyClaim},
    caller::{Caller, ClientClaim},
    guest::EnsureGuest,
    merge::Offer,
    model::SessionKind,
};
use passerby_http::{App, answer::Out};

use crate::{
    OAuthError, TokenRequest,
    error::plain_refusal,
    exchange::{ACCESS_TOKEN, JWT},
    token::{dress, refused, tokens_of},
};

/// Makes a guest, or resumes the one of the key that comes along.
pub(crate) const GUEST: &str = "urn:passerby:params:oauth:grant-type:guest";
/// Proves a claim: of a guest's, or of a sign-in.
pub(crate) const CLAIM: &str = "urn:passerby:params:oauth:grant-type:claim";

/// One token request, read as far as every grant needs it.
pub(crate) struct Asked<'a> {
    pub(crate) app: &'a App,
    pub(crate) caller: &'a Caller<'a>,
    pub(crate) client: ClientClaim<'a>,
    pub(crate) request: TokenRequest<'a>,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl Asked<'_> {
    /// Who shows a proof gets tokens that are bound to its key (RFC 9449 section 5).
    pub(crate) fn bind_tokens(&self) -> bool {
        self.caller.proof.is_some()
    }

    /// What an idempotency key is bound to: everything that is asked for, but not how the client authenticates, since a
    /// library signs a new assertion for every try.
    fn wish(&self) -> Vec<u8> {
        let TokenRequest { grant_type, audience, scope, guest, proof, .. } = self.request;
        let wish = [grant_type, audience, scope, guest.persist, guest.data, guest.entry, proof.claim, proof.code];
        // a list of texts has nothing that could fail
        serde_json::to_vec(&(wish, proof.password)).unwrap_or_default()
    }
}

/// [`GUEST`].
pub(crate) async fn guest(asked: &Asked<'_>) -> Result<Response, OAuthError> {
    let TokenRequest { audience, scope, guest, .. } = asked.request;
    let persist = match guest.persist {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Error::at(Code::InvalidRequest, "persist", "persist is true or false.").into()),
    };
    let wish = asked.wish();
    let ensured = asked.app.core().ensure_guest(
        asked.caller,
        EnsureGuest {
            client: asked.client,
            token: None,
            cookie: None,
            session_token: None,
            session_type: SessionKind::Tokens,
            data: guest.data.map(str::as_bytes),
            persist,
            user_id: None,
            entry: guest.entry,
            audience,
            scope,
            device: None,
            bind_tokens: asked.bind_tokens(),
            create: true,
            idempotency_key: asked.idempotency_key,
            body: &wish,
        },
    );
    Ok(dress(&tokens_of(ensured.await.map_err(refused)?)?))
}

/// [`CLAIM`].
pub(crate) async fn claim(asked: &Asked<'_>) -> Result<Response, OAuthError> {
    let TokenRequest { audience, scope, proof, tokens, .. } = asked.request;
    let Some(claim) = proof.claim else { return Err(OAuthError::invalid_request("claim is missing.")) };
    if tokens.actor.is_some() || tokens.actor_type.is_some() {
        return Err(OAuthError::invalid_request("actor_token is for the token exchange."));
    }
    match (tokens.subject, tokens.subject_type) {
        (None, Some(_)) => return Err(OAuthError::invalid_request("subject_token_type comes without subject_token.")),
        (Some(_), Some(kind)) if kind != ACCESS_TOKEN && kind != JWT => {
            return Err(OAuthError::invalid_request("subject_token_type is that of an access token here."));
        }
        _ => {}
    }
    let wish = asked.wish();
    let refused = |e: Error| match e.code {
        // claim and code are what is granted by
        Code::NotFound => refused(Error { code: Code::InvalidCode, ..e }),
        _ => refused(e),
    };
    let Some(subject_token) = tokens.subject else {
        if proof.password.is_some() {
            return Err(OAuthError::invalid_request("password is set with a guest's subject_token only."));
        }
        let by = SignInBy::Finish { claim, code: proof.code };
        let request = SignIn {
            client: asked.client,
            by,
            token: None,
            cookie: None,
            session_token: None,
            session_type: SessionKind::Tokens,
            bind_tokens: asked.bind_tokens(),
            proof: None,
            audience,
            scope,
            device: None,
            idempotency_key: asked.idempotency_key,
            body: &wish,
        };
        return match asked.app.core().sign_in(asked.caller, request).await.map_err(refused)? {
            SignInAnswer::Done { ensured, .. } => Ok(dress(&tokens_of(*ensured)?)),
            SignInAnswer::Claim(_) => Err(OAuthError::invalid_request("The sign-in has begun; prove its claim.")),
        };
    };
    let request = VerifyClaim {
        claim,
        code: proof.code,
        password: proof.password,
        session_type: Some(SessionKind::Tokens),
        bind_tokens: asked.bind_tokens(),
        audience,
        scope,
        idempotency_key: asked.idempotency_key,
        body: &wish,
    };
    let core = asked.app.core();
    let verified = core.verify_claim_by_grant(asked.caller, asked.client, subject_token, request).await;
    match verified.map_err(refused)? {
        Verified::Converted(ensured) => Ok(dress(&tokens_of(*ensured)?)),
        Verified::MergeRequired(offer) => Ok(merge_required(&offer)),
        Verified::SignInRequired => Err(OAuthError::new(
            StatusCode::BAD_REQUEST,
            "sign_in_required",
            "The address has an account; sign in to it, then exchange its token with the guest's.",
        )),
        // the core lets a guest's token in alone
        Verified::Added { .. } => Err(OAuthError::invalid_request("The token is a regular user's.")),
    }
}

/// 400 `merge_required`, with the ticket beside the error.
fn merge_required(offer: &Offer) -> Response {
    let mut out = Out::with_capacity(256 + offer.ticket.len());
    plain_refusal(
        &mut out,
        "merge_required",
        "The address has an account, which this proof signed in to; take the guest along by the ticket, at /v1/me/merge.",
    );
    out.raw(",\"merge_ticket\":").string(&offer.ticket);
    out.raw(",\"expires_in\":").integer(i64::try_from(offer.expires_in).unwrap_or(i64::MAX));
    out.raw("}");
    out.answer(StatusCode::BAD_REQUEST)
}
