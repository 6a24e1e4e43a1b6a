//! `PATCH /v1/me/data` and `POST /v1/me/data/operations`: changes of the caller's profile.

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{
    StatusCode,
    header::{ETAG, IF_MATCH},
    request::Parts,
};
use passerby_core::me::{EditKind, EditRequest};
use passerby_http::{App, Authorization, MediaType, Problem, Refusal, Visit, answer::Out, etag, idempotency_key, one};

use crate::schema::{self, ProblemDetails};

/// Patch the profile
///
/// By a merge patch (RFC 7396) or a JSON patch (RFC 6902), all or nothing. A floating guest is stored with it.
#[utoipa::path(
    patch,
    path = "/v1/me/data",
    operation_id = "patchData",
    tag = "Me",
    params(
        ("If-Match" = Option<String>, Header, description = "The version that must be there, quoted"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same body changes nothing"),
    ),
    request_body(content(
        (schema::MergePatch = "application/merge-patch+json"),
        (schema::JsonPatch = "application/json-patch+json"),
    )),
    responses(
        (status = 200, description = "The profile after the change", body = schema::Profile),
        (status = 400, description = "The patch cannot be read", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "A test failed, or a value has another type", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "The version is another one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "The profile would be too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, description = "Neither of the two media types", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "The result breaks a limit or the tenant's schema", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn patch(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = match MediaType::of(&parts.headers) {
        MediaType::MergePatch => EditKind::MergePatch,
        MediaType::JsonPatch => EditKind::JsonPatch,
        _ => {
            let expected = "application/merge-patch+json or application/json-patch+json";
            return Err(Refusal::UnsupportedMediaType(expected).into());
        }
    };
    let body = app.body(body).await?;
    edit(&app, visit, &parts, kind, &body).await
}

/// Apply operations to the profile
///
/// `set`, `unset`, `increment`, `min`, `max`, `add_to_set`, `remove_from_set`, `append`, `test`: atomic, all or
/// nothing. A floating guest is stored with them.
#[utoipa::path(
    post,
    path = "/v1/me/data/operations",
    operation_id = "applyOperations",
    tag = "Me",
    params(
        ("If-Match" = Option<String>, Header, description = "The version that must be there, quoted"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same body changes nothing"),
    ),
    request_body = schema::Operations,
    responses(
        (status = 200, description = "The profile after the change", body = schema::Profile),
        (status = 400, description = "The operations cannot be read", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`test_failed` or `type_mismatch`; `field` names the operation", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 412, description = "The version is another one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "The result breaks a limit, or the key came with another body", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn operations(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = app.json_body(&parts.headers, body).await?;
    edit(&app, visit, &parts, EditKind::Operations, &body).await
}

async fn edit(app: &App, visit: Visit, parts: &Parts, kind: EditKind, body: &Bytes) -> Result<Response, Problem> {
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(app, parts, &authorization)?;
    let request = EditRequest {
        kind,
        body,
        if_match: one(&parts.headers, &IF_MATCH, "If-Match")?,
        idempotency_key: idempotency_key(&parts.headers)?,
    };
    let profile = app.core().edit_profile(&visit.caller(app, parts), &access, request).await?;
    let mut out = Out::with_capacity(48 + profile.data.len());
    out.raw("{\"data\":").raw(&profile.data).raw(",\"version\":").integer(profile.version).raw("}");
    let mut response = out.answer(StatusCode::OK);
    response.headers_mut().insert(ETAG, etag(profile.version));
    Ok(response)
}
