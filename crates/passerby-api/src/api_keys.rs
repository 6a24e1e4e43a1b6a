//! `/v1/api-keys`: keys for back ends, by API key.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{
    api_key::{ApiKeyPatch, ApiKeyView, MadeKey, NewApiKey, NewPermission},
    settings::ApiScope,
};
use passerby_http::{
    App, MediaType, Problem, Visit,
    answer::{self, Out},
    form, json,
};
use serde::Deserialize;

use crate::{
    manager::{body, in_path, manager, page, present},
    schema::ProblemDetails,
    schema_manage as schema,
};

type Id = Result<Path<String>, PathRejection>;

/// The key without its closing brace.
fn members(out: &mut Out, key: &ApiKeyView) {
    out.raw("{\"id\":").plain(key.id);
    out.raw(",\"name\":").string(&key.name);
    out.raw(",\"prefix\":").string(&key.prefix);
    out.raw(",\"scopes\":");
    if let Some(list) = &key.grants.scopes {
        comma_list(out, list, |out, scope| {
            out.string(scope.as_str());
        });
    } else {
        out.raw("null");
    }
    out.raw(",\"permissions\":");
    if let Some(list) = &key.grants.permissions {
        comma_list(out, list, |out, (path, methods)| {
            // the root is kept as what stands before every path
            out.raw("{\"path\":").string(if path.is_empty() { "/" } else { path }).raw(",\"methods\":");
            comma_list(out, methods, |out, method| {
                out.string(method);
            });
            out.raw("}");
        });
    } else {
        out.raw("null");
    }
    out.raw(",\"created_at\":").time(key.created_at);
    out.raw(",\"expires_at\":").time_or_null(key.expires_at);
    out.raw(",\"last_used_at\":").time_or_null(key.last_used_at);
    out.raw(",\"previous_expires_at\":").time_or_null(key.previous_expires_at);
}

fn comma_list<T>(out: &mut Out, list: &[T], mut put: impl FnMut(&mut Out, &T)) {
    out.raw("[");
    for (n, item) in list.iter().enumerate() {
        if n > 0 {
            out.raw(",");
        }
        put(out, item);
    }
    out.raw("]");
}

fn shown(key: &ApiKeyView) -> Response {
    let mut out = Out::with_capacity(512);
    members(&mut out, key);
    out.raw("}");
    out.answer(StatusCode::OK)
}

fn made(made: &MadeKey) -> Response {
    let mut out = Out::with_capacity(576);
    members(&mut out, &made.key);
    out.raw(",\"key\":").string(made.text.expose()).raw("}");
    out.answer(StatusCode::CREATED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permission<'a> {
    #[serde(borrow)]
    path: Option<json::Text<'a>>,
    #[serde(borrow)]
    methods: Option<Vec<json::Text<'a>>>,
}

fn texts<'a>(list: &'a [json::Text<'_>]) -> Vec<&'a str> {
    list.iter().map(|text| &**text).collect()
}

/// What is missing is empty here, and refused by the core.
fn permissions<'a>(list: &'a [Permission<'_>]) -> Vec<NewPermission<'a>> {
    let one = |p: &'a Permission<'_>| NewPermission {
        path: p.path.as_deref().unwrap_or_default(),
        methods: p.methods.as_deref().map(texts).unwrap_or_default(),
    };
    list.iter().map(one).collect()
}

/// List API keys
///
/// The tenant's, newest first; never their texts, and without those that the configuration declares. Needs `keys:read`.
#[utoipa::path(
    get,
    path = "/v1/api-keys",
    operation_id = "listApiKeys",
    tag = "API keys",
    params(
        ("cursor" = Option<String>, Query, description = "Where the page before ended"),
        ("limit" = Option<u8>, Query, description = "1 to 100; 25 unless given"),
    ),
    responses(
        (status = 200, description = "A page", body = schema::ApiKeys),
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
    app.core().may_manage(&by, ApiScope::KeysRead).await?;
    let params = form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let keys = app.core().list_api_keys(&by, &page(&params)).await?;
    let mut out = Out::with_capacity(64 + keys.items.len() * 512);
    out.raw("{\"items\":");
    comma_list(&mut out, &keys.items, |out, key| {
        members(out, key);
        out.raw("}");
    });
    out.raw(",\"cursor\":").string_or_null(keys.cursor.as_deref()).raw("}");
    Ok(out.answer(StatusCode::OK))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted<'a> {
    #[serde(borrow)]
    name: Option<json::Text<'a>>,
    #[serde(borrow)]
    scopes: Option<Vec<json::Text<'a>>>,
    #[serde(borrow)]
    permissions: Option<Vec<Permission<'a>>>,
    #[serde(borrow)]
    expires_at: Option<json::Text<'a>>,
}

/// Make an API key
///
/// Its text is in this answer and nowhere else. It may do what its scopes or its permissions allow; with neither of the
/// two, everything. It may do no more, and lives no longer, than the key that is shown. Needs `keys:write`.
#[utoipa::path(
    post,
    path = "/v1/api-keys",
    operation_id = "createApiKey",
    tag = "API keys",
    request_body = schema::NewApiKey,
    responses(
        (status = 201, description = "The key with its text", body = schema::MadeApiKey),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`; with `field`: the new key would do more than the one that is shown", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn create(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::KeysWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wanted: Wanted<'_> = if sent.is_empty() { Wanted::default() } else { json::parse(&sent)? };
    let new = NewApiKey {
        // the core refuses an empty one
        name: wanted.name.as_deref().unwrap_or_default(),
        scopes: wanted.scopes.as_deref().map(texts),
        permissions: wanted.permissions.as_deref().map(permissions),
        expires_at: wanted.expires_at.as_deref(),
    };
    Ok(made(&app.core().make_api_key(&by, &new).await?))
}

/// Look at an API key
///
/// Needs `keys:read`.
#[utoipa::path(
    get,
    path = "/v1/api-keys/{id}",
    operation_id = "getApiKey",
    tag = "API keys",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 200, description = "The key", body = schema::ApiKey),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored key of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn look(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    Ok(shown(&app.core().show_api_key(&by, &in_path(id)).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
struct Changed<'a> {
    #[serde(borrow)]
    name: Option<json::Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    scopes: Option<Option<Vec<json::Text<'a>>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    permissions: Option<Option<Vec<Permission<'a>>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    expires_at: Option<Option<json::Text<'a>>>,
}

/// Change an API key
///
/// A merge patch (RFC 7396) over `name`, `scopes`, `permissions` and `expires_at`. Neither the key as it was nor as it
/// becomes may do more than the one that is shown. Needs `keys:write`.
#[utoipa::path(
    patch,
    path = "/v1/api-keys/{id}",
    operation_id = "patchApiKey",
    tag = "API keys",
    params(("id" = String, Path, description = "The key's id")),
    request_body(content(
        (schema::ApiKeyPatch = "application/merge-patch+json"),
        (schema::ApiKeyPatch = "application/json"),
    )),
    responses(
        (status = 200, description = "The key after the change", body = schema::ApiKey),
        (status = 400, description = "The patch cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`; with `field`: more than the key that is shown may do", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored key of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn patch(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let types = [MediaType::MergePatch, MediaType::Json];
    let sent = body(&app, &by, ApiScope::KeysWrite, &parts.headers, sent, &types).await?;
    let changed: Changed<'_> = json::parse(&sent)?;
    let patch = ApiKeyPatch {
        name: changed.name.as_deref(),
        scopes: changed.scopes.as_ref().map(|list| list.as_deref().map(texts)),
        permissions: changed.permissions.as_ref().map(|list| list.as_deref().map(permissions)),
        expires_at: changed.expires_at.as_ref().map(Option::as_deref),
    };
    Ok(shown(&app.core().change_api_key(&by, &in_path(id), &patch).await?))
}

/// Remove an API key
///
/// Refused from here on: at once by this process, within two seconds by others. Needs `keys:write`.
#[utoipa::path(
    delete,
    path = "/v1/api-keys/{id}",
    operation_id = "deleteApiKey",
    tag = "API keys",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`; with `field`: it may do more than the key that is shown", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored key of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    app.core().remove_api_key(&by, &in_path(id)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation<'a> {
    #[serde(borrow)]
    overlap: Option<json::Text<'a>>,
}

/// Rotate an API key
///
/// Gives it a new text, which is in this answer and nowhere else. The text before is taken for `overlap`; one from a
/// rotation before that is dead at once. Needs `keys:write`.
#[utoipa::path(
    post,
    path = "/v1/api-keys/{id}/rotate",
    operation_id = "rotateApiKey",
    tag = "API keys",
    params(("id" = String, Path, description = "The key's id")),
    request_body = Option<schema::Rotation>,
    responses(
        (status = 201, description = "The key with its new text", body = schema::MadeApiKey),
        (status = 400, description = "The request cannot be read, or the span is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`; with `field`: it may do more, or lives longer, than the key that is shown", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored key of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn rotate(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::KeysWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let rotation: Rotation<'_> = if sent.is_empty() { Rotation::default() } else { json::parse(&sent)? };
    Ok(made(&app.core().rotate_api_key(&by, &in_path(id), rotation.overlap.as_deref()).await?))
}
