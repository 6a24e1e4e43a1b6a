//! `/v1/me/device-keys` and `/v1/me/notices`: the keys that the caller comes back by, and what its sessions are told.

use axum::{
    extract::{Path, Query, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{device::DeviceKeyView, notice::Notice};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    json,
};
use serde::Deserialize;

use crate::{
    manager::present,
    schema::{DeviceKey, DeviceKeyName, DeviceKeys, NewDeviceKey, Notices, ProblemDetails},
};

#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Option<json::Text<'a>>,
    #[serde(borrow)]
    proof: Option<json::Text<'a>>,
}

#[derive(Deserialize)]
#[expect(clippy::option_option, reason = "absent leaves the name, null takes it away")]
struct Renamed<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<Option<json::Text<'a>>>,
}

/// Whether the last way in may go.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Force {
    force: Option<String>,
}

impl Force {
    /// # Errors
    /// 400 for anything but `true` and `false`.
    pub(crate) fn read(query: Result<Query<Self>, axum::extract::rejection::QueryRejection>) -> Result<bool, Problem> {
        let bad = || Problem::invalid_value("force", "Expected true or false.");
        match query.map_err(|_| bad())?.0.force.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad()),
        }
    }
}

/// List one's device keys
///
/// Each of them brings this guest back; newest first.
#[utoipa::path(
    get,
    path = "/v1/me/device-keys",
    operation_id = "listDeviceKeys",
    tag = "Ways in",
    responses(
        (status = 200, description = "The caller's device keys", body = DeviceKeys),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let keys = app.core().my_device_keys(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(32 + keys.len() * 240);
    out.raw("{\"items\":");
    write_list(&mut out, &keys);
    // all of them: a guest has twenty at most
    out.raw(",\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// Add a device key
///
/// The key whose DPoP proof comes along brings this guest back from here on. The other sessions are told.
#[utoipa::path(
    post,
    path = "/v1/me/device-keys",
    operation_id = "addDeviceKey",
    tag = "Ways in",
    params(("DPoP" = String, Header, description = "A proof (RFC 9449) made with the key to be added; with a token that is bound to another key: that key's proof, and the new key's as `proof` in the body")),
    request_body(content = NewDeviceKey, description = "May be left out"),
    responses(
        (status = 201, description = "Added", body = DeviceKey),
        (status = 200, description = "It was there", body = DeviceKey),
        (status = 400, description = "`use_dpop_nonce` or `invalid_dpop_proof` beside a cookie; the request cannot be read", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`device_key_taken`, `too_many_device_keys`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn add(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.optional_json_body(&parts.headers, body).await?;
    let named: Named<'_> = if body.is_empty() { Named::default() } else { json::parse(&body)? };
    let (name, proof) = (named.name.as_deref(), named.proof.as_deref());
    let added = app.core().add_device_key(&visit.caller(&app, &parts), &access, name, proof).await?;
    let mut out = Out::with_capacity(240);
    write(&mut out, &added.key);
    Ok(out.answer(if added.added { StatusCode::CREATED } else { StatusCode::OK }))
}

/// Name a device key
#[utoipa::path(
    patch,
    path = "/v1/me/device-keys/{thumbprint}",
    operation_id = "nameDeviceKey",
    tag = "Ways in",
    params(("thumbprint" = String, Path, description = "RFC 7638, base64url")),
    request_body = DeviceKeyName,
    responses(
        (status = 200, description = "The key", body = DeviceKey),
        (status = 400, description = "The name is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's keys", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn name(
    State(app): State<App>,
    visit: Visit,
    thumbprint: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.json_body(&parts.headers, body).await?;
    let renamed: Renamed<'_> = json::parse(&body)?;
    let name = renamed.name.as_ref().map(Option::as_deref);
    let thumbprint = thumbprint.map_or_else(|_| String::new(), |Path(t)| t);
    let caller = visit.caller(&app, &parts);
    let key = app.core().name_device_key(&caller, &access, &thumbprint, name).await?;
    let mut out = Out::with_capacity(240);
    write(&mut out, &key);
    Ok(out.answer(StatusCode::OK))
}

/// Remove a device key
///
/// Ends the sessions that hang on it, but for the caller's own where its tokens are not bound to the key.
#[utoipa::path(
    delete,
    path = "/v1/me/device-keys/{thumbprint}",
    operation_id = "removeDeviceKey",
    tag = "Ways in",
    params(
        ("thumbprint" = String, Path, description = "RFC 7638, base64url"),
        ("force" = Option<bool>, Query, description = "Remove it even where it is the last lasting way in"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's keys", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`last_way_in`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    visit: Visit,
    thumbprint: Result<Path<String>, PathRejection>,
    force: Result<Query<Force>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let force = Force::read(force)?;
    let thumbprint = thumbprint.map_or_else(|_| String::new(), |Path(t)| t);
    app.core().remove_device_key(&visit.caller(&app, &parts), &access, &thumbprint, force).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// See what one's sessions are told
///
/// Every new way in and every one that is gone, of the last 30 days; newest first.
#[utoipa::path(
    get,
    path = "/v1/me/notices",
    operation_id = "listNotices",
    tag = "Ways in",
    responses(
        (status = 200, description = "At most fifty", body = Notices),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn notices(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let notices = app.core().my_notices(&visit.caller(&app, &parts), &access).await?;
    let mut out = Out::with_capacity(32 + notices.len() * 160);
    out.raw("{\"items\":");
    write_notices(&mut out, &notices);
    out.raw(",\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// Notices as a list.
pub(crate) fn write_notices(out: &mut Out, notices: &[Notice]) {
    out.raw("[");
    for (n, notice) in notices.iter().enumerate() {
        out.raw(if n > 0 { "," } else { "" }).raw("{\"id\":").string(&notice.id);
        out.raw(",\"kind\":").string(notice.kind.as_str());
        out.raw(",\"at\":").time(notice.at);
        out.raw(",\"device\":").string_or_null(notice.device.as_deref()).raw("}");
    }
    out.raw("]");
}

/// Device keys as a list.
pub(crate) fn write_list(out: &mut Out, keys: &[DeviceKeyView]) {
    out.raw("[");
    for (n, key) in keys.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        write(out, key);
    }
    out.raw("]");
}

fn write(out: &mut Out, key: &DeviceKeyView) {
    out.raw("{\"thumbprint\":").string(&key.thumbprint);
    out.raw(",\"name\":").string_or_null(key.name.as_deref());
    out.raw(",\"client_id\":").string(&key.client_id);
    out.raw(",\"created_at\":").time(key.created_at);
    out.raw(",\"last_used_at\":").time(key.last_used_at);
    out.raw(",\"current\":").boolean(key.current).raw("}");
}
