//! `GET /v1/events`: what happened to users, by API key.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::StatusCode;
use passerby_core::settings::ApiScope;
use passerby_http::{App, Problem, Visit, answer::Out, form};

use crate::{
    manager::{manager, page},
    schema::ProblemDetails,
    schema_outbox as schema,
};

/// List events
///
/// The newest first, kept as long as `events.keep` says. Every event is written in the transaction of what it tells of.
/// Needs `events:read`.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "Messages",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
        ("limit" = Option<u8>, Query, description = "1 to 100; 25 unless given"),
    ),
    responses(
        (status = 200, description = "A page", body = schema::Events),
        (status = 400, description = "`cursor` or `limit` is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    app.core().may_manage(&by, ApiScope::EventsRead).await?;
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let events = app.core().event_log(&by, &page(&params)).await?;
    let mut out = Out::with_capacity(64 + events.items.iter().map(|e| 256 + e.data.len()).sum::<usize>());
    out.raw("{\"items\":[");
    for (n, event) in events.items.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        out.raw("{\"id\":").plain(&event.id);
        out.raw(",\"name\":").string(&event.name);
        out.raw(",\"user_id\":").string(&event.user_id);
        out.raw(",\"at\":").time(event.at);
        out.raw(",\"number\":").integer(event.number);
        out.raw(",\"data\":").raw(&event.data).raw("}");
    }
    out.raw("],\"cursor\":").string_or_null(events.cursor.as_deref()).raw("}");
    Ok(out.answer(StatusCode::OK))
}
