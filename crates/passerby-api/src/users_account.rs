//! What back ends do with the accounts of users: identifiers, passwords, links to set one.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{
    Code, Error,
    account::{ClaimWhat, NewIdentifier, NewPassword, PasswordLink},
    model::Kind,
    settings::ApiScope,
};
use passerby_http::{
    App, MediaType, Problem, Visit,
    answer::{self, Out},
    json,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    identifiers::Names,
    manager::{body, in_path, manager},
    schema::ProblemDetails,
    schema_account as schema,
    schema_manage::ManagedUser,
    users::answer_user,
};

type Id = Result<Path<String>, PathRejection>;

/// An identifier in the list of a user that is to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed<'a> {
    #[serde(borrow)]
    kind: Option<json::Text<'a>>,
    #[serde(borrow)]
    value: Option<json::Text<'a>>,
    verified: Option<bool>,
}

/// The list as the core takes it.
///
/// # Errors
/// 400 at the member that is missing or not one of the kinds.
pub(crate) fn identifiers<'a>(list: &'a [Listed<'_>]) -> Result<Vec<NewIdentifier<'a>>, Problem> {
    let one = |(n, listed): (usize, &'a Listed<'_>)| {
        let at = |code, member: &str, detail: &'static str| {
            Problem::from(Error::at(code, format!("/identifiers/{n}/{member}"), detail))
        };
        let missing = |member: &str| at(Code::InvalidRequest, member, "An identifier has a kind and a value.");
        let value = listed.value.as_deref().ok_or_else(|| missing("value"))?;
        let what = match listed.kind.as_deref().ok_or_else(|| missing("kind"))? {
            "email" => ClaimWhat::Email(value),
            "phone" => ClaimWhat::Phone(value),
            "username" => ClaimWhat::Username(value),
            "external_id" => ClaimWhat::ExternalId(value),
            _ => {
                let detail = "Expected \"email\", \"phone\", \"username\" or \"external_id\".";
                return Err(at(Code::InvalidValue, "kind", detail));
            }
        };
        Ok(NewIdentifier { what, verified: listed.verified == Some(true) })
    };
    list.iter().enumerate().map(one).collect()
}

/// A password in clear, or the hash that another system made of it.
///
/// # Errors
/// 400 for both.
pub(crate) fn password<'a>(
    clear: Option<&'a json::Text<'_>>,
    hash: Option<&'a json::Text<'_>>,
) -> Result<Option<NewPassword<'a>>, Problem> {
    match (clear, hash) {
        (Some(_), Some(_)) => Err(Problem::invalid_value("/password_hash", "Give a password or a hash, not both.")),
        (Some(clear), None) => Ok(Some(NewPassword::Clear(clear))),
        (None, hash) => Ok(hash.map(|hash| NewPassword::Hash(hash))),
    }
}

/// What a user is to be.
///
/// # Errors
/// 400 for another word.
pub(crate) fn kind(word: Option<&json::Text<'_>>) -> Result<Option<Kind>, Problem> {
    match word.map(|w| &**w) {
        None => Ok(None),
        Some("anonymous") => Ok(Some(Kind::Anonymous)),
        Some("regular") => Ok(Some(Kind::Regular)),
        Some(_) => Err(Problem::invalid_value("/kind", "Expected \"anonymous\" or \"regular\".")),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted<'a> {
    #[serde(borrow)]
    email: Option<json::Text<'a>>,
    #[serde(borrow)]
    phone: Option<json::Text<'a>>,
    #[serde(borrow)]
    username: Option<json::Text<'a>>,
    #[serde(borrow)]
    external_id: Option<json::Text<'a>>,
    verified: Option<bool>,
}

/// Give a user an identifier
///
/// With `verified: true` it is the user's at once, whose guest becomes a regular user by it as by a proof of its own;
/// else it is a claim, which the user proves by a link to set a password. Needs `users:write`.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/identifiers",
    operation_id = "addUserIdentifier",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    request_body = schema::NewIdentifier,
    responses(
        (status = 201, description = "The user", body = ManagedUser, headers(("ETag" = String, description = "The version, quoted"))),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`identifier_taken`, `guest_frozen`, `guest_merged`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn add(State(app): State<App>, visit: Visit, id: Id, request: Request) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::UsersWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wanted: Wanted<'_> = json::parse(&sent)?;
    let names = Names {
        email: wanted.email.as_deref(),
        phone: wanted.phone.as_deref(),
        username: wanted.username.as_deref(),
        external_id: wanted.external_id.as_deref(),
    };
    let new = NewIdentifier { what: names.one()?, verified: wanted.verified == Some(true) };
    let user = app.core().add_identifier_of(&by, &in_path(id), new).await?;
    Ok(answer_user(StatusCode::CREATED, &user))
}

/// Take an identifier from a user
///
/// The last way in of a regular user stays. Needs `users:write`.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/identifiers/{identifier}",
    operation_id = "removeUserIdentifier",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id"), ("identifier" = String, Path, description = "Of the identifier or claim")),
    responses(
        (status = 204, description = "Gone"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant, or none of its identifiers", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`last_way_in`, `guest_frozen`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    visit: Visit,
    ids: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let (id, identifier) = in_path(ids);
    app.core().remove_identifier_of(&by, &id, &identifier).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Passworded<'a> {
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
    #[serde(borrow)]
    password_hash: Option<json::Text<'a>>,
}

/// Set a user's password
///
/// In clear, or as the hash that another system made; everything older is dead. Needs `users:write`.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/password",
    operation_id = "setUserPassword",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    request_body = schema::PasswordOf,
    responses(
        (status = 204, description = "Set"),
        (status = 400, description = "The password is too weak, or the hash of no kind that is taken", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`guest_frozen`, `guest_merged`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "Too many passwords are being hashed, or the store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn set_password(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::UsersWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wanted: Passworded<'_> = json::parse(&sent)?;
    let missing = || Error::at(Code::InvalidRequest, "/password", "password or password_hash is missing.");
    let new = password(wanted.password.as_ref(), wanted.password_hash.as_ref())?.ok_or_else(missing)?;
    app.core().set_password_of(&by, &in_path(id), new).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Link<'a> {
    #[serde(borrow)]
    client_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    redirect_uri: Option<json::Text<'a>>,
    send: Option<bool>,
}

/// Make a link to set a password
///
/// Mailed to the user (`send: true`), or in the answer. Who sets a password by it is a regular user from then on, by the
/// identifiers that were claimed for it. Needs `users:write`.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/password-link",
    operation_id = "makePasswordLink",
    tag = "Users",
    params(("id" = String, Path, description = "The user's id")),
    request_body = schema::PasswordLinkRequest,
    responses(
        (status = 201, description = "The link, unless it was sent", body = schema::PasswordLink),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No API key, or one that is unknown, expired or another tenant's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`insufficient_scope`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No stored user of the tenant", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`guest_frozen`, `guest_merged`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("api_key" = []))
)]
pub(crate) async fn password_link(
    State(app): State<App>,
    visit: Visit,
    id: Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, sent) = request.into_parts();
    let caller = visit.caller(&app, &parts);
    let by = manager(&caller, &parts)?;
    let sent = body(&app, &by, ApiScope::UsersWrite, &parts.headers, sent, &[MediaType::Json]).await?;
    let wanted: Link<'_> = json::parse(&sent)?;
    let missing = || Error::at(Code::InvalidRequest, "/client_id", "client_id is missing.");
    let link = PasswordLink {
        client_id: wanted.client_id.as_deref().ok_or_else(missing)?,
        state: wanted.state,
        redirect_uri: wanted.redirect_uri.as_deref(),
        send: wanted.send == Some(true),
    };
    let (url, expires_at) = app.core().password_link(&by, &in_path(id), link).await?;
    let mut out = Out::with_capacity(256);
    out.raw("{");
    if let Some(url) = &url {
        out.raw("\"url\":").string(url).raw(",");
    }
    out.raw("\"expires_at\":").time(expires_at).raw("}");
    Ok(out.answer(StatusCode::CREATED))
}
