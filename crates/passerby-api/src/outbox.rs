//! `/v1/outbox`: what could not be delivered, by API key.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{message::MessageKind, settings::ApiScope};
use passerby_http::{
    App, Problem, Visit,
    answer::{self, Out},
    form,
};

use crate::{
    manager::{in_path, manager, page},
    schema::ProblemDetails,
    schema_outbox as schema,
};

/// List dead letters
///
/// Messages that were given up, the newest first; kept for thirty days. No address is told. Needs `events:read`.
#[utoipa::path(
    get,
    path = "/v1/outbox/dead",
    operation_id = "listDeadLetters",
    tag = "Messages",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
        ("limit" = Option<u8>, Query, description = "1 to 100; 25 unless given"),
    ),
    responses(
        (status = 200, description = "A page", body = schema::DeadLetters),
        (status = 400, description = "`cursor` or `limit` is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn dead(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    app.core().may_manage(&by, ApiScope::EventsRead).await?;
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let letters = app.core().dead_letters(&by, &page(&params)).await?;
    let mut out = Out::with_capacity(64 + 320 * letters.items.len());
    out.raw("{\"items\":[");
    for (n, letter) in letters.items.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        out.raw("{\"id\":").plain(&letter.id);
        out.raw(",\"name\":").string(&letter.name);
        out.raw(",\"kind\":").string_or_null(letter.kind.map(MessageKind::as_str));
        out.raw(",\"user_id\":").string(&letter.user_id);
        out.raw(",\"at\":").time(letter.at);
        out.raw(",\"tries\":").integer(letter.tries.into());
        out.raw(",\"replayable\":").boolean(letter.replayable).raw("}");
    }
    out.raw("],\"cursor\":").string_or_null(letters.cursor.as_deref()).raw("}");
    Ok(out.answer(StatusCode::OK))
}

/// Send a dead letter again
///
/// As if it were written now. Receivers tell a repeat by its id, which stays. Needs `events:write`.
#[utoipa::path(
    post,
    path = "/v1/outbox/{id}/replay",
    operation_id = "replayDeadLetter",
    tag = "Messages",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses(
        (status = 202, description = "It is on its way"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No dead letter of the tenant, or one whose code or link is over", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn replay(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    app.core().replay(&by, &in_path(id)).await?;
    Ok(answer::empty(StatusCode::ACCEPTED))
}
