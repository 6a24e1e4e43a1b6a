//! Recovery codes: `/v1/me/recovery-code` and `/v1/me/recovery` in a session, `/v1/guests/recover` without one.

use axum::{
    extract::{Query, Request, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::recovery::{RecoveryAnswer, RecoveryState};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    idempotency_key, json,
};

use crate::{
    asking::Wanted,
    client::refusal,
    device_keys::Force,
    schema::{Asking, ProblemDetails, RecoveredGuest, Recovery, RecoveryCode, WaitingRecovery},
    view,
};

/// The path, which client assertions may name as their audience.
const PATH: &str = "/v1/guests/recover";

/// Make a recovery code
///
/// Twelve words, shown this once and kept as a hash. A new code replaces the old one. The other sessions are told.
#[utoipa::path(
    post,
    path = "/v1/me/recovery-code",
    operation_id = "makeRecoveryCode",
    tag = "Ways in",
    responses(
        (status = 201, description = "The code", body = RecoveryCode),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`not_a_guest`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn make(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let code = app.core().make_recovery_code(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(128);
    out.raw("{\"code\":").string(&code).raw("}");
    Ok(out.answer(StatusCode::CREATED))
}

/// See how recovery stands
///
/// Whether there is a code, and whether a device waits to come in by it.
#[utoipa::path(
    get,
    path = "/v1/me/recovery",
    operation_id = "getRecovery",
    tag = "Ways in",
    responses(
        (status = 200, description = "How it stands", body = Recovery),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn get(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let state = app.core().my_recovery(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(256);
    write(&mut out, &state);
    Ok(out.answer(StatusCode::OK))
}

/// Cancel a recovery, or remove the code
///
/// A recovery that waits ends, and its code with it: whoever began it knows the code. A code that nobody uses and that is
/// the guest's last lasting way in stays without `force`.
#[utoipa::path(
    delete,
    path = "/v1/me/recovery",
    operation_id = "cancelRecovery",
    tag = "Ways in",
    params(("force" = Option<bool>, Query, description = "Remove it even where it is the last lasting way in")),
    responses(
        (status = 204, description = "There is no code any more"),
        (status = 400, description = "`force` is neither true nor false", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`last_way_in`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    visit: Visit,
    force: Result<Query<Force>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let force = Force::read(force)?;
    app.core().cancel_recovery(&visit.caller(&app, &parts), &access, force).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Come in by a recovery code
///
/// Brings the guest to a device that has nothing else of it. All other sessions end, all other device keys go, every older
/// token is void; the used code is spent and `recovery_code` is its successor. Where the operator lets recoveries wait and
/// a session of the guest lives, ask again (with the same DPoP key, or with `id` beside the code) when `ready_at` has come.
#[utoipa::path(
    post,
    path = "/v1/guests/recover",
    operation_id = "recover",
    tag = "Guests",
    params(
        ("DPoP" = Option<String>, Header, description = "A proof; its key becomes the guest's only device key"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body gives the same session, and another successor of the code"),
    ),
    request_body = Asking,
    responses(
        (status = 200, description = "The guest", body = RecoveredGuest),
        (status = 202, description = "Ask again later", body = WaitingRecovery),
        (status = 400, description = "`invalid_code`; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "Unknown client, or its authentication failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "Not a first-party client, or an origin that is not registered", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`recovery_pending`, `device_key_taken`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong codes from this address", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("client" = []))
)]
pub(crate) async fn recover(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let asking = wanted.asking(&authorization, idempotency_key(&parts.headers)?, &body, PATH)?;
    let answer = app.core().recover(&visit.caller(&app, &parts), asking).await;
    match answer.map_err(|e| refusal(e, &authorization))? {
        RecoveryAnswer::Waiting { id, ready_at } => {
            let mut out = Out::with_capacity(128);
            out.raw("{\"id\":").string(&id);
            out.raw(",\"status\":\"waiting\",\"ready_at\":").time(ready_at).raw("}");
            Ok(out.answer(StatusCode::ACCEPTED))
        }
        RecoveryAnswer::Done { ensured, code } => Ok(view::recovered(&ensured, code.as_deref())),
    }
}

/// How recovery stands.
pub(crate) fn write(out: &mut Out, state: &RecoveryState) {
    out.raw("{\"created_at\":").time_or_null(state.created_at).raw(",\"pending\":");
    match &state.pending {
        None => out.raw("null"),
        Some(pending) => {
            out.raw("{\"id\":").string(&pending.id);
            out.raw(",\"device\":").string_or_null(pending.device.as_deref());
            out.raw(",\"asked_at\":").time(pending.asked_at);
            out.raw(",\"ready_at\":").time(pending.ready_at).raw("}")
        }
    };
    out.raw("}");
}
