//! `/v1/users/{id}/sessions` and `POST /v1/users/{id}/revoke-all`: a user's sessions, for back ends.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_http::{
    App, Problem, Visit,
    answer::{self, Out},
};

use crate::{
    manager::{in_path, manager},
    schema::{self, ProblemDetails},
    schema_manage::EpochFromNowOn,
    view,
};

/// List a user's sessions
///
/// The living ones, newest first; none is `current`. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}/sessions",
    operation_id = "listUserSessions",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user's living sessions", body = schema::Sessions),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn list(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sessions = app.core().sessions_of(&by, &in_path(id)).await?;
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

/// End one of a user's sessions
///
/// Needs `sessions:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/sessions/{session}",
    operation_id = "endUserSession",
    tag = "Users",
    params(
        ("id" = String, Path, description = "The user's id"),
        ("session" = String, Path, description = "The session's id"),
    ),
    responses(
        (status = 204, description = "Ended; its tokens are refused"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant, or none of its sessions", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn end(
    State(app): State<App>,
    visit: Visit,
    ids: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let (id, session) = in_path(ids);
    app.core().end_session_of(&by, &id, &session).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Sign a user out everywhere
///
/// Ends every session and voids every token of the user, wherever it is shown: its epoch rises. Device keys and the
/// recovery code still open the user. Needs `sessions:write`.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/revoke-all",
    operation_id = "revokeAllOfUser",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The epoch from now on", body = EpochFromNowOn),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn revoke_all(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let epoch = app.core().revoke_all_of(&by, &in_path(id)).await?;
    let mut out = Out::with_capacity(24);
    out.raw("{\"epoch\":").integer(epoch.into()).raw("}");
    Ok(out.answer(StatusCode::OK))
}
