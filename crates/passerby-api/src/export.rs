//! `GET /v1/me/export`: everything that is kept about the caller.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use passerby_http::{App, Authorization, Problem, Visit, answer::Out};

use crate::{
    device_keys, recovery,
    schema::{self, ProblemDetails},
    view,
};

/// Export oneself
///
/// Everything that is kept about the caller.
#[utoipa::path(
    get,
    path = "/v1/me/export",
    operation_id = "exportMe",
    tag = "Me",
    responses(
        (status = 200, description = "Everything", body = schema::Export),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn get(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let export = app.core().export_me(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(512 + export.user.data.len() + export.sessions.len() * 400);
    out.raw("{\"user\":");
    view::user(&mut out, &export.user);
    out.raw(",\"server_data\":").raw(export.server_data.as_deref().unwrap_or("null"));
    out.raw(",\"entry\":").string_or_null(export.entry.as_deref());
    out.raw(",\"client_id\":").string(&export.client_id);
    out.raw(",\"epoch\":").integer(export.epoch.into());
    out.raw(",\"sessions\":[");
    for (n, session) in export.sessions.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        view::session_members(&mut out, &session.view);
        out.raw(",\"ended_at\":").time_or_null(session.ended_at);
        out.raw(",\"metadata\":").raw(session.metadata.as_deref().unwrap_or("null")).raw("}");
    }
    out.raw("],\"device_keys\":");
    device_keys::write_list(&mut out, &export.device_keys);
    out.raw(",\"recovery\":");
    recovery::write(&mut out, &export.recovery);
    out.raw(",\"notices\":");
    device_keys::write_notices(&mut out, &export.notices);
    out.raw("}");
    Ok(out.answer(StatusCode::OK))
}
