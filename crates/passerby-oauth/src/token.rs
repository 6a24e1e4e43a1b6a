//! `POST /oauth2/token`: the grants `refresh_token` and `client_credentials` (RFC 6749 sections 4.4 and 6).

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use passerby_core::{Code, Error, renew::RefreshRequest, token::Tokens};
use passerby_http::{App, Visit, answer::Out};
use utoipa::ToSchema;

use crate::{Claim, ErrorBody, OAuthError, TokenRequest, read_body};

const PATH: &str = "/oauth2/token";

/// The grants that are taken, as discovery names them.
pub(crate) const GRANT_TYPES: [&str; 2] = ["refresh_token", "client_credentials"];

/// A token request, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct TokenForm {
    /// `refresh_token` or `client_credentials`.
    grant_type: String,
    /// Needed unless HTTP Basic or an assertion names the client.
    client_id: Option<String>,
    /// A confidential client's secret, when it is not in the header.
    client_secret: Option<String>,
    /// RFC 7523: the client's signed JWT in place of a secret.
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// Of the grant `refresh_token`.
    refresh_token: Option<String>,
    /// The API that the access token is for; without one the tenant's default.
    audience: Option<String>,
    /// Synonym of `audience` (RFC 8707).
    resource: Option<String>,
    /// Space-separated; without it all that may be had.
    scope: Option<String>,
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
    /// Rotated at each use.
    refresh_token: Option<String>,
    /// What the session also continues with.
    session_token: Option<String>,
    /// What was granted.
    scope: Option<String>,
}

/// Renews a session's tokens, or gives a confidential client a token of its own.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    tag = "OAuth",
    security((), ("client" = [])),
    request_body(content((TokenForm = "application/x-www-form-urlencoded"), (TokenForm = "application/json"))),
    responses(
        (status = 200, description = "Tokens.", body = TokenAnswer),
        (status = 400, description = "`invalid_request`, `invalid_grant`, `unauthorized_client`, `unsupported_grant_type`, `invalid_scope`, `invalid_target`, `invalid_dpop_proof`, and `use_dpop_nonce` with `DPoP-Nonce`.", body = ErrorBody),
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
    let payload = read_body(app, &parts.headers, body).await?;
    let read = payload.read()?;
    let request = read.request()?;
    let caller = visit.caller(app, &parts);
    let client = claim.with(request.client, PATH);
    let TokenRequest { audience, scope, .. } = request;
    let outcome = match request.grant_type {
        None => Err(Error::at(Code::InvalidRequest, "grant_type", "grant_type is missing.")),
        Some("refresh_token") => match request.refresh_token {
            None => Err(Error::at(Code::InvalidRequest, "refresh_token", "refresh_token is missing.")),
            Some(refresh_token) => {
                // who shows a proof gets tokens that are bound to its key (RFC 9449 section 5)
                let bind_tokens = caller.proof.is_some();
                let request = RefreshRequest { refresh_token, audience, scope, bind_tokens };
                app.core().refresh(&caller, client, request).await.and_then(|ensured| {
                    ensured.tokens.ok_or_else(|| Error::new(Code::InvalidRefreshToken, "The session has no tokens."))
                })
            }
        },
        Some("client_credentials") => app.core().client_credentials(&caller, client, audience, scope).await,
        Some(_) => Err(Error::at(Code::UnsupportedGrantType, "grant_type", "This grant type is not taken here.")),
    };
    match outcome {
        Ok(tokens) => Ok(dress(&tokens)),
        Err(e) => Err(OAuthError::from(e).by_basic(claim.is_basic())),
    }
}

fn dress(tokens: &Tokens) -> Response {
    let long = [Some(&tokens.access_token), tokens.refresh_token.as_ref(), tokens.session_token.as_ref()];
    let mut out = Out::with_capacity(256 + long.into_iter().flatten().map(String::len).sum::<usize>());
    out.raw("{\"access_token\":").string(&tokens.access_token);
    out.raw(",\"token_type\":").string(tokens.token_type);
    out.raw(",\"expires_in\":").integer(tokens.expires_in as i64);
    if let Some(token) = &tokens.refresh_token {
        out.raw(",\"refresh_token\":").string(token);
    }
    if let Some(token) = &tokens.session_token {
        out.raw(",\"session_token\":").string(token);
    }
    if let Some(scope) = &tokens.scope {
        out.raw(",\"scope\":").string(scope);
    }
    out.raw("}");
    out.answer(StatusCode::OK)
}
