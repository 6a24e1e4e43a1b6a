//! Hand-off: `/v1/me/hand-off` on the first device, `/v1/guests/hand-off` on the second.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::hand_off::{HandOffAnswer, HandOffMode};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    idempotency_key, json,
};
use serde::Deserialize;

use crate::{
    asking::Wanted,
    client::refusal,
    qr,
    schema::{Asking, Confirmed, HandOff, HandOffRequest, ProblemDetails, WaitingDevices, WaitingOrGuest},
    view,
};

/// The path, which client assertions may name as their audience.
const PATH: &str = "/v1/guests/hand-off";

#[derive(Default, Deserialize)]
struct Make<'a> {
    #[serde(borrow)]
    mode: Option<json::Text<'a>>,
}

/// Begin a hand-off
///
/// Gives a code for a second device, as text, as a link and as a QR code. It lives five minutes and is used once; a newer
/// one replaces it. With `mode: move` this device is signed out when the other is in.
#[utoipa::path(
    post,
    path = "/v1/me/hand-off",
    operation_id = "beginHandOff",
    tag = "Ways in",
    request_body(content = HandOffRequest, description = "May be left out"),
    responses(
        (status = 201, description = "The code", body = HandOff),
        (status = 400, description = "The request cannot be read", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`not_a_guest`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn begin(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.optional_json_body(&parts.headers, body).await?;
    let make: Make<'_> = if body.is_empty() { Make::default() } else { json::parse(&body)? };
    let mode = match make.mode.as_deref() {
        None | Some("share") => HandOffMode::Share,
        Some("move") => HandOffMode::Move,
        Some(_) => return Err(Problem::invalid_value("/mode", "Expected \"share\" or \"move\".")),
    };
    let made = app.core().make_hand_off(&visit.caller(&app, &parts), &access, mode).await?;
    let picture = qr::svg(&made.url).unwrap_or_default();
    let mut out = Out::with_capacity(256 + picture.len() + made.url.len());
    out.raw("{\"code\":").string(&made.code);
    out.raw(",\"url\":").string(&made.url);
    out.raw(",\"mode\":").string(made.mode.as_str());
    out.raw(",\"expires_at\":").time(made.expires_at);
    out.raw(",\"qr\":").string(&picture).raw("}");
    Ok(out.answer(StatusCode::CREATED))
}

/// List devices that wait
///
/// Only for the session that made the code. Show `check`: the waiting device shows the same two digits.
#[utoipa::path(
    get,
    path = "/v1/me/hand-off",
    operation_id = "listHandOffs",
    tag = "Ways in",
    responses(
        (status = 200, description = "One device, or none", body = WaitingDevices),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let devices = app.core().my_hand_offs(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(32 + devices.len() * 240);
    out.raw("{\"items\":[");
    for (n, device) in devices.iter().enumerate() {
        out.raw(if n > 0 { "," } else { "" }).raw("{\"id\":").string(&device.id);
        out.raw(",\"device\":").string_or_null(device.device.as_deref());
        out.raw(",\"check\":").string(&device.check);
        out.raw(",\"asked_at\":").time(device.asked_at);
        out.raw(",\"mode\":").string(device.mode.as_str());
        out.raw(",\"expires_at\":").time(device.expires_at).raw("}");
    }
    out.raw("],\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// Withdraw the code
///
/// A device that waits gets nothing.
#[utoipa::path(
    delete,
    path = "/v1/me/hand-off",
    operation_id = "withdrawHandOff",
    tag = "Ways in",
    responses(
        (status = 204, description = "There is no code any more"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn withdraw(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    app.core().withdraw_hand_off(&visit.caller(&app, &parts), &access).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Let the waiting device in
#[utoipa::path(
    post,
    path = "/v1/me/hand-off/{id}/confirm",
    operation_id = "confirmHandOff",
    tag = "Ways in",
    params(("id" = String, Path, description = "The waiting device's")),
    responses(
        (status = 200, description = "It may come in", body = Confirmed),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No device waits under this id", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn confirm(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    app.core().confirm_hand_off(&visit.caller(&app, &parts), &access, &id).await?;
    let mut out = Out::with_capacity(64);
    out.raw("{\"id\":").string(&id).raw(",\"status\":\"confirmed\"}");
    Ok(out.answer(StatusCode::OK))
}

/// Come in by a hand-off code
///
/// The second device asks, shows the two digits of `check`, and asks again (with the same DPoP key, or with `id` beside
/// the code) until the first device has confirmed; then the answer is the guest with its tokens, once. Another device that
/// asks with the same code cancels the hand-off.
#[utoipa::path(
    post,
    path = "/v1/guests/hand-off",
    operation_id = "takeHandOff",
    tag = "Guests",
    params(
        ("DPoP" = Option<String>, Header, description = "A proof; its key becomes a device key of the guest"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body gives the same session"),
    ),
    request_body = Asking,
    responses(
        (status = 200, description = "`status: waiting`, or the guest", body = WaitingOrGuest),
        (status = 400, description = "`invalid_code`; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "Unknown client, or its authentication failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "Not a first-party client, or an origin that is not registered", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`hand_off_cancelled`, `device_key_taken`, `too_many_device_keys`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong codes from this address", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("client" = []))
)]
pub(crate) async fn take(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let asking = wanted.asking(&authorization, idempotency_key(&parts.headers)?, &body, PATH)?;
    let taken = app.core().take_hand_off(&visit.caller(&app, &parts), asking).await;
    match taken.map_err(|e| refusal(e, &authorization))? {
        HandOffAnswer::Waiting { id, check, expires_at } => {
            let mut out = Out::with_capacity(160);
            out.raw("{\"id\":").string(&id);
            out.raw(",\"status\":\"waiting\",\"check\":").string(&check);
            out.raw(",\"expires_at\":").time(expires_at).raw("}");
            Ok(out.answer(StatusCode::OK))
        }
        HandOffAnswer::Done(ensured) => Ok(view::ensured(&ensured, false)),
    }
}
