//! `POST /oauth2/revoke` (RFC 7009): a refresh or session token ends its session, an access token is refused by its
//! `jti`. A token that is unknown or another client's is answered alike.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use passerby_http::{App, Visit, answer};
use utoipa::ToSchema;

use crate::{Claim, ErrorBody, OAuthError, read_body};

const PATH: &str = "/oauth2/revoke";

/// The request, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct RevocationForm {
    /// An access, refresh or session token.
    token: String,
    /// Taken and not needed.
    token_type_hint: Option<String>,
    /// The client whose token it is.
    client_id: Option<String>,
    /// Its secret.
    client_secret: Option<String>,
    /// Or its assertion.
    client_assertion: Option<String>,
    /// With this type.
    client_assertion_type: Option<String>,
}

/// Makes a token void.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    tag = "OAuth",
    security((), ("client" = [])),
    request_body(content((RevocationForm = "application/x-www-form-urlencoded"), (RevocationForm = "application/json"))),
    responses(
        (status = 200, description = "Done, or there was nothing to do."),
        (status = 400, description = "`invalid_request`.", body = ErrorBody),
        (status = 401, description = "`invalid_client`.", body = ErrorBody),
        (status = 503, description = "`temporarily_unavailable`, with `Retry-After`: the token still lives.", body = ErrorBody),
    )
)]
pub(crate) async fn revoke(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    handle(&app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn handle(app: &App, visit: Visit, request: Request<Body>) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let claim = Claim::read(&parts.headers)?;
    let payload = read_body(app, &parts.headers, body).await?;
    let read = payload.read()?;
    let request = read.request()?;
    let Some(token) = request.token else {
        return Err(OAuthError::invalid_request("token is missing."));
    };
    let caller = visit.caller(app, &parts);
    let client = claim.with(request.client, PATH);
    match app.core().revoke(&caller, client, token).await {
        Ok(()) => Ok(answer::empty(StatusCode::OK)),
        Err(e) => Err(OAuthError::from(e).by_basic(claim.is_basic())),
    }
}
