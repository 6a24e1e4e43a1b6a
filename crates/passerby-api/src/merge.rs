//! `/v1/me/merge` and `/v1/transfers`: a guest's things come into an account, and back.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{
    Code, Error,
    merge::{Left, MergeAnswer, MergeRequest, Preview, TransferView, UndoneMerge},
};
use passerby_http::{App, Authorization, Problem, Visit, answer::Out, idempotency_key, json};
use serde::Deserialize;

use crate::{
    client::{audience, own_session_type},
    manager::{in_path, manager},
    schema::ProblemDetails,
    schema_account as schema, view, view_account,
};

type Id = Result<Path<String>, PathRejection>;

#[derive(Default, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    merge_ticket: Option<json::Text<'a>>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    session_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
}

fn transfer(out: &mut Out, transfer: &TransferView) {
    out.raw("\"transfer\":{\"id\":").string(&transfer.id);
    out.raw(",\"state\":\"").raw(transfer.state.as_str());
    out.raw("\",\"guest_id\":").string(&transfer.guest_id);
    out.raw(",\"account_id\":").string(&transfer.account_id);
    out.raw(",\"created_at\":").time(transfer.created_at);
    out.raw(",\"undo_until\":").time_or_null(transfer.undo_until);
    out.raw(",\"receipt\":").string(&transfer.receipt).raw("}");
}

fn shown(view: &TransferView) -> Response {
    let mut out = Out::with_capacity(384 + view.receipt.len());
    out.raw("{");
    transfer(&mut out, view);
    out.raw("}");
    out.answer(StatusCode::OK)
}

/// Merge a guest into an account
///
/// By the guest or by the account, with the session that the ticket was made for; both are looked at again. The guest's id
/// leads to the account from then on, and its sessions are over. Asked again by the account the answer has the same
/// receipt. Where the application confirms merges the transfer is `pending`, and the guest is frozen until it has its word.
/// With `dry_run` nothing is changed.
#[utoipa::path(
    post,
    path = "/v1/me/merge",
    operation_id = "merge",
    tag = "Becoming somebody",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; the guest, whose token dies of the merge, asks by it for a lost answer"),
        ("DPoP" = Option<String>, Header, description = "A proof, with a token that is bound to a key"),
    ),
    request_body = schema::MergeRequest,
    responses(
        (status = 200, description = "The merge, or with `dry_run` its preview", body = schema::MergeAnswer),
        (status = 400, description = "`invalid_merge_ticket`: broken, over, or made for others than the caller; the request cannot be read", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`reauthentication_required`: the account's session is over; by cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`guest_merged`, `guest_converted`, also with the guest's old token; `guest_frozen`, `merge_refused`; `preview_outdated`, with the new `preview` and `merge_ticket`", body = schema::OutdatedPreview, content_type = "application/problem+json"),
        (status = 413, description = "The outcome would be too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "The outcome would break a limit or the tenant's schema", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn merge(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let missing = || Error::at(Code::InvalidRequest, "/merge_ticket", "merge_ticket is missing.");
    let request = MergeRequest {
        ticket: wanted.merge_ticket.as_deref().ok_or_else(missing)?,
        dry_run: wanted.dry_run == Some(true),
        session_type: own_session_type(wanted.session_type.as_ref())?,
        audience: audience(wanted.audience.as_ref(), wanted.resource.as_ref())?,
        scope: wanted.scope.as_deref(),
        idempotency_key: idempotency_key(&parts.headers)?,
        body: &body,
    };
    let caller = visit.caller(&app, &parts);
    match app.core().merge_guest(&caller, &access, request).await {
        Ok(MergeAnswer::Preview { preview, ticket }) => {
            let mut out = Out::with_capacity(512 + view_account::length(&preview));
            out.raw("{");
            previewed(&mut out, &preview, ticket.as_deref());
            out.raw("}");
            Ok(out.answer(StatusCode::OK))
        }
        Ok(MergeAnswer::Done(merged)) => Ok(view_account::signed_in(
            &merged.ensured,
            visit.secure(&app),
            |out| {
                out.raw("\"receipt\":").string(&merged.receipt).raw(",");
                transfer(out, &merged.transfer);
                out.raw(",");
            },
            |_| {},
        )),
        // what it would come to by now, and the ticket for that
        Err(e) if e.code == Code::PreviewOutdated => {
            let looked = app.core().merge_guest(&caller, &access, MergeRequest { dry_run: true, ..request }).await;
            let Ok(MergeAnswer::Preview { preview, ticket }) = looked else { return Err(e.into()) };
            let mut out = Out::with_capacity(512 + view_account::length(&preview));
            previewed(&mut out, &preview, ticket.as_deref());
            Err(Problem::from(e).telling(out))
        }
        Err(e) => Err(e.into()),
    }
}

fn previewed(out: &mut Out, preview: &Preview, ticket: Option<&str>) {
    out.raw("\"preview\":");
    view_account::preview(out, preview);
    if let Some(ticket) = ticket {
        out.raw(",\"merge_ticket\":").string(ticket);
    }
}

/// Whether a credential is an API key: access tokens are JWTs, of three parts.
fn is_api_key(authorization: &Authorization<'_>) -> bool {
    matches!(authorization, Authorization::Bearer(text) if text.matches('.').count() != 2)
}

/// Look at a transfer
///
/// By the account that the guest came into, or by API key (`transfers:read`).
#[utoipa::path(
    get,
    path = "/v1/transfers/{id}",
    operation_id = "getTransfer",
    tag = "Becoming somebody",
    params(("id" = String, Path, description = "The transfer's id")),
    responses(
        (status = 200, description = "The transfer", body = schema::TransferAnswer),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []), ("api_key" = []))
)]
pub(crate) async fn look(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let caller = visit.caller(&app, &parts);
    if is_api_key(&authorization) {
        let by = manager(&caller, &parts)?;
        return Ok(shown(&app.core().transfer_of(&by, &in_path(id)).await?));
    }
    let access = visit.access(&app, &parts, &authorization)?;
    Ok(shown(&app.core().transfer(&caller, &access, &in_path(id)).await?))
}

/// Confirm a transfer
///
/// The application has moved its own rows: a pending transfer is done, the guest lives on as a pointer to the account.
/// Confirming again changes nothing. Needs `transfers:write`.
#[utoipa::path(
    post,
    path = "/v1/transfers/{id}/confirm",
    operation_id = "confirmTransfer",
    tag = "Becoming somebody",
    params(("id" = String, Path, description = "The transfer's id")),
    responses(
        (status = 200, description = "The transfer", body = schema::TransferAnswer),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No transfer of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`transfer_state`: it was undone", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn confirm(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    Ok(shown(&app.core().confirm_merge(&by, &in_path(id)).await?))
}

/// Undo a transfer
///
/// The guest is a guest again, with its data as it was. The account's data goes back where nothing was written since; the
/// rest is told by `conflicts` and stays. By the account, which gets a new session of the guest; or by API key
/// (`transfers:write`), which gets a hand-off code that lets one device in.
#[utoipa::path(
    post,
    path = "/v1/transfers/{id}/undo",
    operation_id = "undoTransfer",
    tag = "Becoming somebody",
    params(("id" = String, Path, description = "The transfer's id")),
    responses(
        (status = 200, description = "Undone", body = schema::Undone),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`; by cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`transfer_state`: the window is over, or it was undone already", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []), ("api_key" = []))
)]
pub(crate) async fn undo(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let caller = visit.caller(&app, &parts);
    if is_api_key(&authorization) {
        let by = manager(&caller, &parts)?;
        return Ok(undone(&app.core().undo_merge_of(&by, &in_path(id)).await?));
    }
    let access = visit.access(&app, &parts, &authorization)?;
    Ok(undone(&app.core().undo_merge(&caller, &access, &in_path(id)).await?))
}

fn undone(undone: &UndoneMerge) -> Response {
    let long: usize =
        undone.left.iter().map(|l| 64 + l.path.len() + length(l.before.as_deref()) + length(l.now.as_deref())).sum();
    let guest = undone.guest.as_ref().map_or(0, |guest| 640 + view::length(guest));
    let mut out = Out::with_capacity(512 + undone.transfer.receipt.len() + long + guest);
    out.raw("{");
    transfer(&mut out, &undone.transfer);
    out.raw(",\"conflicts\":");
    view_account::list(&mut out, &undone.left, left);
    out.raw(",\"more\":").boolean(undone.more);
    if let Some(guest) = &undone.guest {
        out.raw(",\"guest\":{");
        view::guest_members(&mut out, guest);
        out.raw("}");
    }
    if let Some(code) = &undone.code {
        out.raw(",\"code\":").string(code);
    }
    out.raw("}");
    out.answer(StatusCode::OK)
}

fn length(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

/// Values are JSON of the core's already.
fn left(out: &mut Out, left: &Left) {
    out.raw("{\"path\":").string(&left.path);
    if let Some(before) = &left.before {
        out.raw(",\"before\":").raw(before);
    }
    if let Some(now) = &left.now {
        out.raw(",\"now\":").raw(now);
    }
    out.raw("}");
}
