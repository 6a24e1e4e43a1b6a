//! `POST /oauth2/token`: the grants `refresh_token` and `client_credentials` (RFC 6749 sections 4.4 and 6), those of ours
//! that make and convert a guest (`grants`), and the token exchange that merges one (`exchange`).

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use passerby_core::{Code, Error, guest::Ensured, renew::RefreshRequest, token::Tokens};
use passerby_http::{App, Visit, answer::Out, idempotency_key};
use utoipa::ToSchema;

use crate::{
    Claim, ErrorBody, OAuthError, TokenRequest,
    exchange::{self, TOKEN_EXCHANGE},
    grants::{self, Asked, CLAIM, GUEST},
    read_body,
};

const PATH: &str = "/oauth2/token";

/// The grants that are taken, as discovery names them.
pub(crate) const GRANT_TYPES: [&str; 5] = ["refresh_token", "client_credentials", GUEST, CLAIM, TOKEN_EXCHANGE];

/// A token request, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct TokenForm {
    /// `refresh_token`, `client_credentials`, `urn:passerby:params:oauth:grant-type:guest`,
    /// `urn:passerby:params:oauth:grant-type:claim` or `urn:ietf:params:oauth:grant-type:token-exchange`.
    grant_type: String,
    /// Needed unless HTTP Basic or an assertion names the client.
    client_id: Option<String>,
    /// A confidential client's secret, when it is not in the header.
    client_secret: Option<String>,
    /// RFC 7523: the client's signed JWT in place of a secret.
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// Of the grant `refresh_token`: a refresh token, or a guest's session token.
    refresh_token: Option<String>,
    /// The API that the access token is for; without one the tenant's default.
    audience: Option<String>,
    /// Synonym of `audience` (RFC 8707).
    resource: Option<String>,
    /// Space-separated; without it all that may be had.
    scope: Option<String>,
    /// Of the grant `guest`: whether a row is made now.
    persist: Option<bool>,
    /// Of the grant `guest`: a JSON object (in a form its text).
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// Of the grant `guest`: where the guest came in, at most 64 characters.
    entry: Option<String>,
    /// Of the grant `claim`: the id that `POST /v1/me/identifiers` or `POST /v1/sign-in` gave.
    claim: Option<String>,
    /// Of the grant `claim`: the code; without it the link must have been confirmed.
    code: Option<String>,
    /// Of the grant `claim`, with a guest's token: the password that the account gets.
    password: Option<String>,
    /// Of the grant `claim`: the guest's access token, to convert it; without it somebody signs in. Of the token exchange: the
    /// account's token (or the guest's, with the account's as actor).
    subject_token: Option<String>,
    /// `urn:ietf:params:oauth:token-type:access_token` or `…:jwt`; in the token exchange also
    /// `urn:passerby:params:oauth:token-type:session-token`.
    subject_token_type: Option<String>,
    /// Of the token exchange: the other one's token.
    actor_token: Option<String>,
    /// As `subject_token_type`.
    actor_token_type: Option<String>,
    /// Of the token exchange: nothing but an access token is given.
    requested_token_type: Option<String>,
}

/// The answer, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct TokenAnswer {
    /// JWT of RFC 9068.
    access_token: String,
    /// `Bearer`, or `DPoP` where the tokens are bound to a key.
    token_type: String,
    /// Seconds.
    expires_in: u64,
    /// Rotated at each use. A floating guest's is its session token.
    refresh_token: Option<String>,
    /// What the session also continues with.
    session_token: Option<String>,
    /// What was granted.
    scope: Option<String>,
    /// Of the token exchange (RFC 8693 section 2.2.1).
    issued_token_type: Option<String>,
    /// Of the token exchange: the merge's receipt, a signed JWT.
    receipt: Option<String>,
    /// Of the token exchange: the merge.
    transfer: Option<TransferAnswer>,
}

/// A merge, for the document.
#[derive(Debug, ToSchema)]
#[schema(as = TokenTransfer)]
#[expect(dead_code, reason = "only described")]
struct TransferAnswer {
    /// For `/v1/transfers/{id}`.
    id: String,
    /// `pending` until the application confirms, `done`, `undone`.
    state: String,
    /// The guest's id as shown.
    guest_id: String,
    /// The account's id as shown.
    account_id: String,
    /// RFC 3339.
    created_at: String,
    /// Until when it can be undone; `null`: not at all.
    undo_until: Option<String>,
}

/// Renews a session's tokens, gives a confidential client a token of its own, makes, converts and merges guests.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    tag = "OAuth",
    security((), ("client" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "22 to 255 characters; of the grants `guest` and `claim`: a repeat gives the same guest, the same conversion, the same sign-in"),
        ("DPoP" = Option<String>, Header, description = "A proof (RFC 9449): the tokens are bound to its key"),
    ),
    request_body(content((TokenForm = "application/x-www-form-urlencoded"), (TokenForm = "application/json"))),
    responses(
        (status = 200, description = "Tokens.", body = TokenAnswer),
        (status = 400, description = "`invalid_request`, `invalid_grant`, `unauthorized_client`, `unsupported_grant_type`, `invalid_scope`, `invalid_target`, `invalid_dpop_proof`, and `use_dpop_nonce` with `DPoP-Nonce`; of the grant `claim` also `authorization_pending` (the link is not confirmed yet), `sign_in_required` and, with `merge_ticket` and `expires_in`, `merge_required`.", body = ErrorBody),
        (status = 401, description = "`invalid_client`.", body = ErrorBody),
        (status = 403, description = "`access_denied`: the origin is not the client's.", body = ErrorBody),
        (status = 429, description = "`too_many_requests`, with `Retry-After`.", body = ErrorBody),
        (status = 503, description = "`temporarily_unavailable`, with `Retry-After`.", body = ErrorBody),
    )
)]
pub(crate) async fn token(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    answer(&app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, visit: Visit, request: Request<Body>) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let claim = Claim::read(&parts.headers)?;
    let idempotency_key = idempotency_key(&parts.headers)?;
    let payload = read_body(app, &parts.headers, body).await?;
    let read = payload.read()?;
    let request = read.request()?;
    let caller = &visit.caller(app, &parts);
    let client = claim.with(request.client, PATH);
    let asked = &Asked { app, caller, client, request, idempotency_key };
    let outcome = match request.grant_type {
        None => Err(Error::at(Code::InvalidRequest, "grant_type", "grant_type is missing.").into()),
        Some("refresh_token") => refresh(asked).await,
        Some("client_credentials") => client_credentials(asked).await,
        Some(GUEST) => grants::guest(asked).await,
        Some(CLAIM) => grants::claim(asked).await,
        Some(TOKEN_EXCHANGE) => exchange::exchange(asked).await,
        Some(_) => {
            Err(Error::at(Code::UnsupportedGrantType, "grant_type", "This grant type is not taken here.").into())
        }
    };
    outcome.map_err(|e| e.by_basic(claim.is_basic()))
}

async fn refresh(asked: &Asked<'_>) -> Result<Response, OAuthError> {
    let TokenRequest { audience, scope, .. } = asked.request;
    let Some(refresh_token) = asked.request.refresh_token else {
        return Err(Error::at(Code::InvalidRequest, "refresh_token", "refresh_token is missing.").into());
    };
    let request = RefreshRequest { refresh_token, audience, scope, bind_tokens: asked.bind_tokens() };
    let ensured = asked.app.core().continue_session(asked.caller, asked.client, request).await.map_err(refused)?;
    Ok(dress(&tokens_of(ensured)?))
}

async fn client_credentials(asked: &Asked<'_>) -> Result<Response, OAuthError> {
    let TokenRequest { audience, scope, .. } = asked.request;
    Ok(dress(&asked.app.core().client_credentials(asked.caller, asked.client, audience, scope).await?))
}

/// What the core refuses, at this endpoint: a token in the body is what is granted by, and was shown under no scheme.
pub(crate) fn refused(e: Error) -> OAuthError {
    let e = Error { token_shown: false, ..e };
    match e.code {
        Code::InvalidToken | Code::TokenExpired | Code::Unauthenticated => {
            OAuthError::of(StatusCode::BAD_REQUEST, "invalid_grant", e)
        }
        _ => e.into(),
    }
}

/// The tokens of an answer that was asked for with tokens.
pub(crate) fn tokens_of(ensured: Ensured) -> Result<Tokens, Error> {
    ensured.tokens.ok_or_else(|| Error::new(Code::InvalidRefreshToken, "The session has no tokens."))
}

/// The answer of RFC 6749 section 5.1.
pub(crate) fn dress(tokens: &Tokens) -> Response {
    let mut out = members(tokens, 0);
    out.raw("}");
    out.answer(StatusCode::OK)
}

/// The same without its closing brace, with room for more.
pub(crate) fn members(tokens: &Tokens, more: usize) -> Out {
    let session = tokens.session_token.as_ref();
    // a floating guest is renewed by its session token alone, and libraries know one name for what they renew by
    let refresh = tokens.refresh_token.as_ref().or(session);
    let long = [Some(&tokens.access_token), refresh, session];
    let mut out = Out::with_capacity(256 + more + long.into_iter().flatten().map(String::len).sum::<usize>());
    out.raw("{\"access_token\":").string(&tokens.access_token);
    out.raw(",\"token_type\":").string(tokens.token_type);
    out.raw(",\"expires_in\":").integer(tokens.expires_in as i64);
    if let Some(token) = refresh {
        out.raw(",\"refresh_token\":").string(token);
    }
    if let Some(token) = session {
        out.raw(",\"session_token\":").string(token);
    }
    if let Some(scope) = &tokens.scope {
        out.raw(",\"scope\":").string(scope);
    }
    out
}
