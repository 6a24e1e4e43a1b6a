//! `GET|POST /oauth2/userinfo` (OpenID Connect Core section 5.3), errors as RFC 6750 section 3 has them. Guests are
//! answered too.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use passerby_core::{caller::Access, model::Kind};
use passerby_http::{App, Authorization, Challenge, Visit, answer::Out};
use utoipa::ToSchema;

use crate::{ErrorBody, OAuthError};

/// The answer, for the document.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only described")]
struct UserInfo {
    /// The user's id.
    sub: String,
    /// A guest.
    is_anonymous: bool,
    /// The session of the token.
    sid: String,
    /// There and true while nothing of the guest is stored.
    floating: Option<bool>,
}

/// Who the bearer of an access token is.
#[utoipa::path(
    get,
    path = "/oauth2/userinfo",
    tag = "OAuth",
    security(("bearer" = []), ("dpop" = [])),
    responses(
        (status = 200, description = "The bearer.", body = UserInfo),
        (status = 401, description = "`invalid_token`, with `WWW-Authenticate: Bearer`; for a token that is bound to a key `DPoP`, with `invalid_token`, `invalid_dpop_proof` or `use_dpop_nonce`.", body = ErrorBody),
    )
)]
pub(crate) async fn userinfo(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    answer(&app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// The same by POST; a body is not read.
#[utoipa::path(
    post,
    path = "/oauth2/userinfo",
    tag = "OAuth",
    security(("bearer" = []), ("dpop" = [])),
    responses(
        (status = 200, description = "The bearer.", body = UserInfo),
        (status = 401, description = "`invalid_token`, with `WWW-Authenticate: Bearer`; for a token that is bound to a key `DPoP`, with `invalid_token`, `invalid_dpop_proof` or `use_dpop_nonce`.", body = ErrorBody),
    )
)]
pub(crate) async fn userinfo_by_post(State(app): State<App>, visit: Visit, request: Request<Body>) -> Response {
    answer(&app, visit, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, visit: Visit, request: Request<Body>) -> Result<Response, OAuthError> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers).ok();
    let Some(token) = authorization.as_ref().and_then(Authorization::access_token) else {
        return Err(if matches!(authorization, Some(Authorization::None)) {
            OAuthError::invalid_token("This needs an access token.").asking(Challenge::Bearer)
        } else {
            OAuthError::invalid_token("The Authorization header must be Bearer or DPoP with an access token.")
        });
    };
    let caller = visit.caller(app, &parts);
    // nothing is changed, and the cookie is not asked
    let access = Access { token: Some(token), cookie: None, change: false };
    let me = app.core().userinfo(&caller, &access).await.map_err(of_core)?;
    let mut out = Out::with_capacity(192);
    out.raw("{\"sub\":").string(&me.user.id);
    out.raw(",\"is_anonymous\":").boolean(me.user.kind == Kind::Anonymous);
    out.raw(",\"sid\":").plain(me.session.id);
    if !me.user.stored {
        out.raw(",\"floating\":true");
    }
    out.raw("}");
    Ok(out.answer(StatusCode::OK))
}

/// To the bearer of a token its session's end is the token's (RFC 6750 section 3.1 knows one word for both).
fn of_core(e: passerby_core::Error) -> OAuthError {
    use passerby_core::Code;
    match e.code {
        Code::SessionEnded | Code::SessionExpired | Code::GuestEnded | Code::InvalidSessionToken => {
            OAuthError::invalid_token(e.detail)
        }
        _ => e.into(),
    }
}
