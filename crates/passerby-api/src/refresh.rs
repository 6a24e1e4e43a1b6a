//! `POST /v1/refresh`: new tokens for a stored session.

use axum::{
    extract::{Request, State},
    response::Response,
};
use passerby_core::{Code, Error, renew::RefreshRequest};
use passerby_http::{App, Authorization, Problem, Visit, json};
use serde::Deserialize;

use crate::{
    client::{Named, audience, refusal},
    schema::{self, ProblemDetails},
    view,
};

/// The path, which client assertions may name as their audience.
const PATH: &str = "/v1/refresh";

#[derive(Default, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    client_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    refresh_token: Option<json::Text<'a>>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
}

/// Refresh a session's tokens
///
/// The refresh token is rotated. For ten seconds after that any of the last three tokens yields the newest; a lost
/// answer can be asked for again; an older token ends the session.
#[utoipa::path(
    post,
    path = "/v1/refresh",
    operation_id = "refresh",
    tag = "Guests",
    params(("DPoP" = Option<String>, Header, description = "A proof of the key that the tokens are, or are to be, bound to")),
    request_body = schema::RefreshBody,
    responses(
        (status = 200, description = "New tokens", body = schema::GuestAnswer),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_refresh_token`, `session_ended`, or the client's authentication failed", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("client" = []))
)]
pub(crate) async fn post_refresh(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let named = Named {
        id: wanted.client_id.as_deref(),
        secret: wanted.client_secret.as_deref(),
        assertion: wanted.client_assertion.as_deref(),
        assertion_type: wanted.client_assertion_type.as_deref(),
    };
    let refresh_token = wanted
        .refresh_token
        .as_deref()
        .ok_or_else(|| Error::at(Code::InvalidRequest, "refresh_token", "refresh_token is missing."))?;
    let request = RefreshRequest {
        refresh_token,
        audience: audience(wanted.audience.as_ref(), wanted.resource.as_ref())?,
        scope: wanted.scope.as_deref(),
        bind_tokens: wanted.bind_tokens == Some(true),
    };
    let client = named.claim(&authorization, PATH);
    let renewed = app.core().refresh(&visit.caller(&app, &parts), client, request).await;
    Ok(view::ensured(&renewed.map_err(|e| refusal(e, &authorization))?, false))
}
