//! Passwords of the caller's own: set and changed, forgotten, set by a link.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use passerby_core::{
    Code, Error,
    account::{ChangePassword, ForgotPassword},
};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    idempotency_key, json,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    client::{Named, audience, own_session_type, refusal},
    identifiers::Names,
    schema::ProblemDetails,
    schema_account as schema, view_account,
};

/// The path, which client assertions may name as their audience.
const FORGOT: &str = "/v1/password/forgot";

#[derive(Default, Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    current_password: Option<json::Text<'a>>,
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_type: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
}

fn password_of<'a>(password: Option<&'a json::Text<'_>>) -> Result<&'a str, Problem> {
    let missing = || Error::at(Code::InvalidRequest, "/password", "password is missing.");
    Ok(password.ok_or_else(missing)?)
}

/// Set or change one's password
///
/// Everything older is dead: sessions, refresh tokens, codes and links. The answer is a new session.
#[utoipa::path(
    post,
    path = "/v1/me/password",
    operation_id = "changePassword",
    tag = "Becoming somebody",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body gives the same session, also by the old credential"),
        ("DPoP" = Option<String>, Header, description = "A proof of the key that the new session is bound to"),
    ),
    request_body = schema::PasswordChange,
    responses(
        (status = 200, description = "The new session", body = schema::SignedIn),
        (status = 400, description = "The password is too weak, the caller is a guest, or the request cannot be read; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one; `invalid_credentials`: the current password is wrong", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`reauthentication_required`: there was no password, and the sign-in is too long ago; `method_not_enabled`; by cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`device_key_taken`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many tries", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "Too many passwords are being hashed, or the store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn change(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Change<'_> = json::parse(&body)?;
    let request = ChangePassword {
        current: wanted.current_password.as_deref(),
        password: password_of(wanted.password.as_ref())?,
        session_type: own_session_type(wanted.session_type.as_ref())?,
        bind_tokens: wanted.bind_tokens == Some(true),
        audience: audience(wanted.audience.as_ref(), wanted.resource.as_ref())?,
        scope: wanted.scope.as_deref(),
        idempotency_key: idempotency_key(&parts.headers)?,
        body: &body,
    };
    let ensured = app.core().change_password(&visit.caller(&app, &parts), &access, request).await?;
    Ok(view_account::signed_in(&ensured, visit.secure(&app), |_| {}, |_| {}))
}

#[derive(Default, Deserialize)]
struct Forgotten<'a> {
    #[serde(borrow)]
    client_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    email: Option<json::Text<'a>>,
    #[serde(borrow)]
    phone: Option<json::Text<'a>>,
    #[serde(borrow)]
    username: Option<json::Text<'a>>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    redirect_uri: Option<json::Text<'a>>,
}

/// Ask for a link to set a password
///
/// The same answer, and the same work, whether or not there is such an account.
#[utoipa::path(
    post,
    path = "/v1/password/forgot",
    operation_id = "forgotPassword",
    tag = "Becoming somebody",
    request_body = schema::Forgotten,
    responses(
        (status = 202, description = "A link is on its way, if there is an account. An empty object"),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "Unknown client, or its authentication failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`method_not_enabled`, or an origin that is not registered", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many messages", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("client" = []))
)]
pub(crate) async fn forgot(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Forgotten<'_> = json::parse(&body)?;
    let named = Named {
        id: wanted.client_id.as_deref(),
        secret: wanted.client_secret.as_deref(),
        assertion: wanted.client_assertion.as_deref(),
        assertion_type: wanted.client_assertion_type.as_deref(),
    };
    let names = Names {
        email: wanted.email.as_deref(),
        phone: wanted.phone.as_deref(),
        username: wanted.username.as_deref(),
        external_id: None,
    };
    let request = ForgotPassword {
        client: named.claim(&authorization, FORGOT),
        what: names.one()?,
        state: wanted.state,
        redirect_uri: wanted.redirect_uri.as_deref(),
    };
    let asked = app.core().forgot_password(&visit.caller(&app, &parts), request).await;
    asked.map_err(|e| refusal(e, &authorization))?;
    let mut out = Out::with_capacity(2);
    out.raw("{}");
    Ok(out.answer(StatusCode::ACCEPTED))
}

#[derive(Default, Deserialize)]
struct Reset<'a> {
    #[serde(borrow)]
    token: Option<json::Text<'a>>,
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
}

/// Set a password by a link's token
///
/// Spends the link. Everything older is dead; nobody is signed in. A password that is too weak spends nothing.
#[utoipa::path(
    post,
    path = "/v1/password/reset",
    operation_id = "resetPassword",
    tag = "Becoming somebody",
    request_body = schema::Reset,
    responses(
        (status = 204, description = "Set"),
        (status = 400, description = "`invalid_code`: the link is wrong, used or over; the password is too weak", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many tries", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "Too many passwords are being hashed, or the store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(())
)]
pub(crate) async fn reset(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Reset<'_> = json::parse(&body)?;
    let missing = || Error::at(Code::InvalidRequest, "/token", "token is missing.");
    let token = wanted.token.as_deref().ok_or_else(missing)?;
    let password = password_of(wanted.password.as_ref())?;
    app.core().reset_password(&visit.caller(&app, &parts), token, password).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
