//! `/v1/me/sessions` and `POST /v1/logout`: the caller's sessions.

use axum::{
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use http::StatusCode;
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
};

use crate::{
    device_keys::Force,
    me::gone,
    schema::{self, ProblemDetails},
    view,
};

/// List one's sessions
///
/// The living ones, newest first.
#[utoipa::path(
    get,
    path = "/v1/me/sessions",
    operation_id = "listSessions",
    tag = "Me",
    responses(
        (status = 200, description = "The caller's living sessions", body = schema::Sessions),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let sessions = app.core().my_sessions(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(32 + sessions.len() * 320);
    out.raw("{\"items\":[");
    for (n, session) in sessions.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        view::session(&mut out, session);
    }
    // all of them: a user has few
    out.raw("],\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// End one of one's sessions
#[utoipa::path(
    delete,
    path = "/v1/me/sessions/{id}",
    operation_id = "endSession",
    tag = "Me",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 204, description = "Ended; its tokens are refused"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's sessions", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn end(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    // a path that is not UTF-8 names no session; whoever has no credential does not learn that either
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    app.core().end_my_session(&visit.caller(&app, &parts), &access, &id).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Sign out everywhere
///
/// Ends every session, the caller's too, and voids every token at once. Device keys and the recovery code still open the
/// guest; without either it would be lost, which needs `force`.
#[utoipa::path(
    delete,
    path = "/v1/me/sessions",
    operation_id = "endAllSessions",
    tag = "Me",
    params(("force" = Option<bool>, Query, description = "Even where no lasting way in is left")),
    responses(
        (status = 204, description = "Ended; a cookie is cleared"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`last_way_in`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn end_all(
    State(app): State<App>,
    visit: Visit,
    force: Result<Query<Force>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let force = Force::read(force)?;
    app.core().revoke_all(&visit.caller(&app, &parts), &access, force).await?;
    Ok(gone(&app, visit, access.cookie.is_some()))
}

/// Log out
///
/// Ends the session whose credential is shown.
#[utoipa::path(
    post,
    path = "/v1/logout",
    operation_id = "logout",
    tag = "Me",
    responses(
        (status = 204, description = "Ended; a cookie is cleared"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn logout(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    app.core().logout(&visit.caller(&app, &parts), &access).await?;
    Ok(gone(&app, visit, access.cookie.is_some()))
}
