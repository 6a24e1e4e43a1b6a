//! `GET /v1/me` and `DELETE /v1/me`: who the caller is, and the end of it.

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header::ETAG, request::Parts};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    cookies, etag, if_none_match,
};

use crate::{
    schema::{self, ProblemDetails},
    view,
};

/// Look at oneself
///
/// The user object of the caller. `ETag` is the version of `data`.
#[utoipa::path(
    get,
    path = "/v1/me",
    operation_id = "getMe",
    tag = "Me",
    params(("If-None-Match" = Option<String>, Header, description = "A version that is known already")),
    responses(
        (status = 200, description = "The caller", body = schema::User, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 304, description = "Nothing has changed since the version that is known"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn get(State(app): State<App>, visit: Visit, request: Request) -> Response {
    get_me(&app, visit, request).await
}

/// `GET /v1/me`, also called past the router.
pub async fn get_me(app: &App, visit: Visit, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    look(app, visit, &parts).await.unwrap_or_else(IntoResponse::into_response)
}

async fn look(app: &App, visit: Visit, parts: &Parts) -> Result<Response, Problem> {
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(app, parts, &authorization)?;
    let me = app.core().me(&visit.caller(app, parts), &access).await?;
    let tag = etag(me.user.version);
    // what an account signs in with changes without the version
    let mut response = if me.user.account.is_none() && if_none_match(&parts.headers, &tag) {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut out = Out::with_capacity(256 + me.user.id.len() + me.user.data.len());
        view::user(&mut out, &me.user);
        out.answer(StatusCode::OK)
    };
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

/// Erase oneself
///
/// Everything that is kept about the caller is removed; all its credentials are refused from here on.
#[utoipa::path(
    delete,
    path = "/v1/me",
    operation_id = "eraseMe",
    tag = "Me",
    responses(
        (status = 204, description = "Gone"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn erase(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    app.core().erase_me(&visit.caller(&app, &parts), &access).await?;
    Ok(gone(&app, visit, access.cookie.is_some()))
}

/// 204 after the caller's own session has ended; takes the cookie away when it was the cookie's.
pub(crate) fn gone(app: &App, visit: Visit, by_cookie: bool) -> Response {
    let mut response = answer::empty(StatusCode::NO_CONTENT);
    if by_cookie {
        cookies::clear(response.headers_mut(), visit.secure(app));
    }
    response
}
