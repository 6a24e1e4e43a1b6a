//! `/v1/users`: what back ends do with users.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::{
    StatusCode,
    header::{ETAG, IF_MATCH},
};
use passerby_core::{
    manage::{ManagedUser, NewUser, UserPatch},
    settings::ApiScope,
};
use passerby_http::{
    App, MediaType, Problem, Visit,
    answer::{self, Out},
    etag, form, json, one,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    manager::{body, in_path, manager, page, present},
    schema::ProblemDetails,
    schema_manage as schema,
    users_account::{self, Listed},
    view, view_account,
};

type Id = Result<Path<String>, PathRejection>;

pub(crate) fn user(out: &mut Out, managed: &ManagedUser) {
    view::user_members(out, &managed.user);
    if let Some(account) = &managed.account {
        view_account::account(out, account);
    }
    if let Some(asked) = &managed.resolved_from {
        out.raw(",\"resolved_from\":").string(asked);
    }
    out.raw(",\"server_data\":").raw(&managed.server_data);
    out.raw(",\"held\":").boolean(managed.held);
    out.raw(",\"epoch\":").integer(managed.epoch.into());
    out.raw(",\"entry\":").string_or_null(managed.entry.as_deref());
    out.raw(",\"client_id\":").string_or_null(managed.client_id.as_deref()).raw("}");
}

pub(crate) fn answer_user(status: StatusCode, managed: &ManagedUser) -> Response {
    let mut out = Out::with_capacity(512 + managed.user.data.len() + managed.server_data.len());
    user(&mut out, managed);
    let mut response = out.answer(status);
    response.headers_mut().insert(ETAG, etag(managed.user.version));
    response
}

/// List users
///
/// Stored users, the newest first: by descending id, which says nothing about the age of one that a caller chose.
/// Users that are made or removed meanwhile neither double nor hide others. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/v1/users",
    operation_id = "listUsers",
    tag = "Users",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
        ("limit" = Option<u8>, Query, description = "1 to 100; 25 unless given"),
    ),
    responses(
        (status = 200, description = "A page", body = schema::ManagedUsers),
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
    app.core().may_manage(&by, ApiScope::UsersRead).await?;
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let users = app.core().list_users(&by, &page(&params)).await?;
    let long = users.items.iter().map(|u| 512 + u.user.data.len() + u.server_data.len()).sum::<usize>();
    let mut out = Out::with_capacity(64 + long);
    out.raw("{\"items\":[");
    for (n, managed) in users.items.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        user(&mut out, managed);
    }
    out.raw("],\"cursor\":").string_or_null(users.cursor.as_deref()).raw("}");
    Ok(out.answer(StatusCode::OK))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted<'a> {
    #[serde(borrow)]
    id: Option<json::Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    server_data: Option<&'a RawValue>,
    #[serde(borrow)]
    entry: Option<json::Text<'a>>,
    #[serde(borrow)]
    kind: Option<json::Text<'a>>,
    #[serde(borrow, default)]
    identifiers: Vec<Listed<'a>>,
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
    #[serde(borrow)]
    password_hash: Option<json::Text<'a>>,
}

/// Make a user
///
/// A guest that nobody has a session of yet; or, with an identifier by which one can sign in, a regular user. Needs
/// `users:write`.
#[utoipa::path(
    post,
    path = "/v1/users",
    operation_id = "createUser",
    tag = "Users",
    request_body = schema::NewUser,
    responses(
        (status = 201, description = "The user", body = schema::ManagedUser, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`user_id_taken`: the id belongs, or belonged, to somebody; `identifier_taken`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "An object would be too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "An object breaks a limit or the tenant's schema", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn create(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::UsersWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wanted: Wanted<'_> = if sent.is_empty() { Wanted::default() } else { json::parse(&sent)? };
    let identifiers = users_account::identifiers(&wanted.identifiers)?;
    let new = NewUser {
        id: wanted.id.as_deref(),
        data: json::raw(wanted.data),
        server_data: json::raw(wanted.server_data),
        entry: wanted.entry.as_deref(),
        kind: users_account::kind(wanted.kind.as_ref())?,
        identifiers: &identifiers,
        password: users_account::password(wanted.password.as_ref(), wanted.password_hash.as_ref())?,
    };
    Ok(answer_user(StatusCode::CREATED, &app.core().add_user(&by, new).await?))
}

/// Look at a user
///
/// By the id as it is shown anywhere, also with the prefix of a dialect, or as its caller chose it. `ETag` is the
/// version, which either half of the profile raises. A guest that was merged is answered by its account, with
/// `resolved_from`. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    operation_id = "getUser",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = schema::ManagedUser, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn look(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    Ok(answer_user(StatusCode::OK, &app.core().show_user(&by, &in_path(id)).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
struct Changed<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    server_data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    held: Option<Option<bool>>,
}

/// Change a user
///
/// A merge patch (RFC 7396) over `data`, `server_data` and `held`, all or nothing; `null` empties an object, or lets go.
/// Needs `users:write`.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}",
    operation_id = "patchUser",
    tag = "Users",
    params(
        ("id" = String, Path, description = "The user's id"),
        ("If-Match" = Option<String>, Header, description = "The version that must be there, quoted"),
    ),
    request_body(content(
        (schema::UserPatch = "application/merge-patch+json"),
        (schema::UserPatch = "application/json"),
    )),
    responses(
        (status = 200, description = "The user after the change", body = schema::ManagedUser, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 400, description = "The patch cannot be read, or names another member", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "The version is another one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "An object would be too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "An object would break a limit or the tenant's schema", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn patch(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let types = [MediaType::MergePatch, MediaType::Json];
    let sent = body(&app, &by, ApiScope::UsersWrite, &parts.headers, sent, &types).await?;
    let changed: Changed<'_> = json::parse(&sent)?;
    let patch = UserPatch {
        data: json::raw(changed.data),
        server_data: json::raw(changed.server_data),
        held: changed.held.map(|held| held == Some(true)),
        if_match: one(&parts.headers, &IF_MATCH, "If-Match")?,
    };
    Ok(answer_user(StatusCode::OK, &app.core().change_user(&by, &in_path(id), patch).await?))
}

/// Remove a user
///
/// With everything that is kept about it; all its credentials are refused from here on. Needs `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    operation_id = "deleteUser",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn erase(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    app.core().erase_user(&by, &in_path(id)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Hold a user
///
/// A held user is never culled. Needs `users:write`.
#[utoipa::path(
    put,
    path = "/v1/users/{id}/hold",
    operation_id = "holdUser",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = schema::ManagedUser),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn hold(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    set_held(&app, visit, id, request, true).await
}

/// Let a user go
///
/// Ends a hold. Needs `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/hold",
    operation_id = "releaseUser",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = schema::ManagedUser),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn release(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    set_held(&app, visit, id, request, false).await
}

async fn set_held(app: &App, visit: Visit, id: Id, request: Request, held: bool) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(app, &parts);
    let by = manager(&caller, &parts)?;
    let patch = UserPatch { held: Some(held), ..UserPatch::default() };
    Ok(answer_user(StatusCode::OK, &app.core().change_user(&by, &in_path(id), patch).await?))
}
