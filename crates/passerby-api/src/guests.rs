//! `POST /v1/guests`: create a guest, or resume the one whose credential comes along.

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use passerby_core::guest::EnsureGuest;
use passerby_http::{App, Authorization, Problem, Visit, idempotency_key, json};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    client::{Named, audience, refusal, session_type},
    schema::{self, ProblemDetails},
    view,
};

/// The path, which client assertions may name as their audience.
const PATH: &str = "/v1/guests";

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
    session_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_token: Option<json::Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    persist: Option<bool>,
    #[serde(borrow)]
    user_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    entry: Option<json::Text<'a>>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
    #[serde(borrow)]
    device: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
    create: Option<bool>,
}

/// Create or resume a guest
///
/// Creates a guest, or answers with the guest whose session token, access token, cookie, device key or
/// `Idempotency-Key` comes along. Any number of repeated or parallel calls with the same one give the same guest; exactly one says
/// `"created": true`.
#[utoipa::path(
    post,
    path = "/v1/guests",
    operation_id = "createGuest",
    tag = "Guests",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body answers with the same guest"),
        ("DPoP" = Option<String>, Header,
            description = "A proof (RFC 9449); its key becomes the guest's device key, which brings the guest back"),
    ),
    request_body = schema::GuestRequest,
    responses(
        (status = 201, description = "A new guest. With `session_type: cookie` the cookie is set and no token is given", body = schema::GuestAnswer),
        (status = 200, description = "The guest that was there", body = schema::GuestAnswer),
        (status = 400, description = "The request cannot be read, or a value is not allowed; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "Unknown client, failed authentication, or a broken or ended credential", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "Guests are off, the origin is not registered, or the id may not be chosen", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "A regular user's credential, two guests' credentials, a taken id, or an ended guest", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "The data breaks a limit, or the key came with another body", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many creations; `Retry-After` says when to ask again", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("bearer" = []), ("dpop" = []), ("cookie" = []), ("client" = []))
)]
pub(crate) async fn post_guest(State(app): State<App>, visit: Visit, request: Request) -> Response {
    create_guest(&app, visit, request).await
}

/// `POST /v1/guests`, also called past the router.
pub async fn create_guest(app: &App, visit: Visit, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    answer(app, visit, &parts, body).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, visit: Visit, parts: &http::request::Parts, body: Body) -> Result<Response, Problem> {
    let authorization = Authorization::read(&parts.headers)?;
    let idempotency_key = idempotency_key(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let named = Named {
        id: wanted.client_id.as_deref(),
        secret: wanted.client_secret.as_deref(),
        assertion: wanted.client_assertion.as_deref(),
        assertion_type: wanted.client_assertion_type.as_deref(),
    };
    let request = EnsureGuest {
        client: named.claim(&authorization, PATH),
        token: authorization.access_token(),
        cookie: visit.cookie(app, &parts.headers),
        session_token: wanted.session_token.as_deref(),
        session_type: session_type(wanted.session_type.as_ref())?,
        device: wanted.device.as_deref(),
        bind_tokens: wanted.bind_tokens == Some(true),
        create: wanted.create != Some(false),
        data: json::raw(wanted.data),
        persist: wanted.persist,
        user_id: wanted.user_id.as_deref(),
        entry: wanted.entry.as_deref(),
        audience: audience(wanted.audience.as_ref(), wanted.resource.as_ref())?,
        scope: wanted.scope.as_deref(),
        idempotency_key,
        body: &body,
    };
    let ensured = app.core().ensure_guest(&visit.caller(app, parts), request).await;
    let ensured = ensured.map_err(|e| refusal(e, &authorization))?;
    Ok(view::ensured(&ensured, ensured.clear_cookie && visit.secure(app)))
}
