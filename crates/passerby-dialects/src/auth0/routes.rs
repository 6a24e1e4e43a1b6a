//! `POST /anonymous/token`: read, call the use case, dress.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, request::Parts};
use passerby_core::guest::AnonymousToken;
use passerby_http::{App, Visit, form, json};
use passerby_oauth::{Claim, ErrorBody, OAuthError, Payload, read_body};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error::dress,
    wire::{self, AnonymousTokenAnswer, AnonymousTokenRequest, Members, TransferAnswer},
};

pub(super) const PATH: &str = "/anonymous/token";

/// The dialect's routes.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(by_router))
}

/// Makes a guest, continues its session, or gives a transfer ticket.
#[utoipa::path(
    post,
    operation_id = "anonymous_token",
    path = "/anonymous/token",
    tag = "Auth0",
    security((), ("client" = [])),
    request_body(content((AnonymousTokenRequest = "application/json"), (AnonymousTokenRequest = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "A session, or with the audience `urn:auth0:anon_transfer` a ticket.", content((AnonymousTokenAnswer = "application/json"), (TransferAnswer = "application/json"))),
        (status = 400, description = "`invalid_request`, `session_expired`, `invalid_session_token`, `invalid_target`, `invalid_scope`.", body = ErrorBody),
        (status = 401, description = "`invalid_client`.", body = ErrorBody),
        (status = 403, description = "`unauthorized_client`, `feature_not_enabled`, `access_denied`.", body = ErrorBody),
        (status = 429, description = "`too_many_requests`, with `Retry-After`.", body = ErrorBody),
        (status = 503, description = "`temporarily_unavailable`, with `Retry-After`.", body = ErrorBody),
    )
)]
async fn by_router(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    anonymous_token(&app, visit, request).await
}

/// Answers `POST /anonymous/token`. Public, so that the outer service can call it without routing.
pub async fn anonymous_token(app: &App, visit: Visit, request: Request<Body>) -> Response {
    answer(app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, visit: Visit, request: Request<Body>) -> Result<Response, OAuthError> {
    let (parts, body) = request.into_parts();
    let claim = Claim::read(&parts.headers)?;
    match read_body(app, &parts.headers, body).await? {
        Payload::Json(bytes) => {
            let members: Members<'_> = json::parse(&bytes)?;
            ask(app, visit, &parts, &claim, members.request(&claim)?).await
        }
        Payload::Form(bytes) => {
            let params = form::parse(&bytes)?;
            ask(app, visit, &parts, &claim, wire::of_form(&params, &claim)?).await
        }
    }
}

async fn ask(
    app: &App,
    visit: Visit,
    parts: &Parts,
    claim: &Claim<'_>,
    request: AnonymousToken<'_>,
) -> Result<Response, OAuthError> {
    let caller = visit.caller(app, parts);
    match app.core().anonymous_token(&caller, request).await {
        Ok(answer) => Ok(wire::answer(&answer)),
        Err(e) => Err(dress(e).by_basic(claim.is_basic())),
    }
}
