//! `/v1/me/identifiers`: what the caller is known by and signs in with. An identifier is claimed, then proven; by that a
//! guest becomes a regular user.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::StatusCode;
use passerby_core::{
    Code, Error,
    account::{ClaimRequest, ClaimWhat, Verified, VerifyClaim},
};
use passerby_http::{
    App, Authorization, Problem, Visit,
    answer::{self, Out},
    idempotency_key, json,
};
use serde::Deserialize;

use crate::{
    client::{audience, own_session_type},
    manager::in_path,
    schema::ProblemDetails,
    schema_account as schema, view, view_account,
};

/// The members that name somebody, in the order of the document.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    pub(crate) email: Option<&'a str>,
    pub(crate) phone: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    /// Only for back ends.
    pub(crate) external_id: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// The one that is there.
    ///
    /// # Errors
    /// 400 for none, and for a second one.
    pub(crate) fn one(self) -> Result<ClaimWhat<'a>, Problem> {
        let all = [
            ("/email", self.email.map(ClaimWhat::Email)),
            ("/phone", self.phone.map(ClaimWhat::Phone)),
            ("/username", self.username.map(ClaimWhat::Username)),
            ("/external_id", self.external_id.map(ClaimWhat::ExternalId)),
        ];
        let mut there = all.into_iter().filter_map(|(field, what)| Some((field, what?)));
        let Some((_, what)) = there.next() else {
            let detail = "One of email, phone and username is missing.";
            return Err(Error::at(Code::InvalidRequest, "/email", detail).into());
        };
        match there.next() {
            None => Ok(what),
            Some((field, _)) => Err(Problem::invalid_value(field, "Name one identifier only.")),
        }
    }
}

#[derive(Default, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    email: Option<json::Text<'a>>,
    #[serde(borrow)]
    phone: Option<json::Text<'a>>,
    #[serde(borrow)]
    username: Option<json::Text<'a>>,
    #[serde(borrow)]
    redirect_uri: Option<json::Text<'a>>,
}

/// Claim an identifier
///
/// The first step from guest to regular user, and the way to one more identifier. A code and a link are sent to an
/// address; a user name needs no proof, but a password. The answer is the same whether or not somebody has the
/// identifier. A claim grants nothing until it is proven, stops nobody, and takes the place of an earlier one.
#[utoipa::path(
    post,
    path = "/v1/me/identifiers",
    operation_id = "claimIdentifier",
    tag = "Becoming somebody",
    request_body = schema::ClaimRequest,
    responses(
        (status = 202, description = "The claim", body = schema::ClaimAnswer),
        (status = 400, description = "The request cannot be read, or a value is not allowed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site; `reauthentication_required`: an account whose sign-in is more than ten minutes ago", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`guest_frozen`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many messages, or too many wrong codes for this address", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn claim(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let names = Names {
        email: wanted.email.as_deref(),
        phone: wanted.phone.as_deref(),
        username: wanted.username.as_deref(),
        external_id: None,
    };
    let request = ClaimRequest { what: names.one()?, redirect_uri: wanted.redirect_uri.as_deref() };
    let claim = app.core().claim_identifier(&visit.caller(&app, &parts), &access, request).await?;
    Ok(view_account::claim(&claim))
}

/// List what one signs in with
///
/// A claim stands here under a name by which it can be looked at, verified with its code, and dropped. Without the code only
/// the id that its own first answer told finishes it, and only by that id `proven` is told.
#[utoipa::path(
    get,
    path = "/v1/me/identifiers",
    operation_id = "listIdentifiers",
    tag = "Becoming somebody",
    responses(
        (status = 200, description = "Identifiers and open claims", body = schema::Identifiers),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn list(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let (account, claims) = app.core().my_identifiers(&visit.caller(&app, &parts), &access, None).await?;
    let mut out = Out::with_capacity(96 + 256 * (account.identifiers.len() + claims.len()));
    out.raw("{\"items\":");
    view_account::list(&mut out, &account.identifiers, view_account::identifier);
    out.raw(",\"claims\":");
    view_account::list(&mut out, &claims, view_account::open_claim);
    out.raw(",\"password\":").boolean(account.password);
    // all of them: a user has few
    out.raw(",\"cursor\":null}");
    Ok(out.answer(StatusCode::OK))
}

/// Look at an identifier or a claim
///
/// A claim, by the id that its first answer told, says by `proven` whether its link was confirmed meanwhile.
#[utoipa::path(
    get,
    path = "/v1/me/identifiers/{id}",
    operation_id = "getIdentifier",
    tag = "Becoming somebody",
    params(("id" = String, Path, description = "Of the identifier or claim")),
    responses(
        (status = 200, description = "It", body = schema::IdentifierOrClaim),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn look(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let id = in_path(id);
    let (account, claims) = app.core().my_identifiers(&visit.caller(&app, &parts), &access, Some(&id)).await?;
    let mut out = Out::with_capacity(256);
    if let Some(claim) = claims.iter().find(|c| *c.id == *id) {
        view_account::open_claim(&mut out, claim);
    } else if let Some(identifier) = account.identifiers.iter().find(|i| *i.id == *id) {
        view_account::identifier(&mut out, identifier);
    } else {
        return Err(Error::new(Code::NotFound, "You have no such identifier or claim.").into());
    }
    Ok(out.answer(StatusCode::OK))
}

/// Drop an identifier or a claim
///
/// The last way in of a regular user stays. The owner's addresses are told.
#[utoipa::path(
    delete,
    path = "/v1/me/identifiers/{id}",
    operation_id = "removeIdentifier",
    tag = "Becoming somebody",
    params(("id" = String, Path, description = "Of the identifier or claim")),
    responses(
        (status = 204, description = "Gone"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "None of the caller's", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`last_way_in`, `guest_frozen`", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn remove(
    State(app): State<App>,
    visit: Visit,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    app.core().remove_identifier(&visit.caller(&app, &parts), &access, &in_path(id)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

#[derive(Default, Deserialize)]
struct Proof<'a> {
    #[serde(borrow)]
    code: Option<json::Text<'a>>,
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_type: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
}

/// Prove a claim
///
/// By the code, or without one after the link was confirmed. A guest becomes a regular user of the same id with the same
/// data, and every older session, token, key and code of it is dead. A regular user gets one more identifier. Where the
/// address has an account already, the answer leads to it: `merge_required` with a ticket where this proof signs in there,
/// `sign_in_required` where it does not. Five wrong codes and the code is dead; asking again gives no new tries.
#[utoipa::path(
    post,
    path = "/v1/me/identifiers/{claim}/verify",
    operation_id = "verifyClaim",
    tag = "Becoming somebody",
    params(
        ("claim" = String, Path, description = "The claim's id"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body gives the same session, also by the old credential"),
        ("DPoP" = Option<String>, Header, description = "A proof; its key stays, or becomes, the user's device key"),
    ),
    request_body(content = schema::Proof, description = "May be left out after the link was confirmed"),
    responses(
        (status = 200, description = "What came of it", body = schema::Verified),
        (status = 400, description = "`invalid_code`; a value is not allowed; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "No credential, or a broken or ended one", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "By cookie from another site; `reauthentication_required`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such claim of this session", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`claim_pending`, `identifier_taken`, `guest_converted`, `guest_merged`, `guest_frozen`, `device_key_taken`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "The key came with another body", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many wrong codes for this address", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "Too many passwords are being hashed, or the store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("dpop" = []), ("cookie" = []))
)]
pub(crate) async fn verify(
    State(app): State<App>,
    visit: Visit,
    claim: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let access = visit.access(&app, &parts, &authorization)?;
    let body = app.optional_json_body(&parts.headers, body).await?;
    let proof: Proof<'_> = if body.is_empty() { Proof::default() } else { json::parse(&body)? };
    let claim = in_path(claim);
    let request = VerifyClaim {
        claim: &claim,
        code: proof.code.as_deref(),
        password: proof.password.as_deref(),
        session_type: own_session_type(proof.session_type.as_ref())?,
        bind_tokens: proof.bind_tokens == Some(true),
        audience: audience(proof.audience.as_ref(), proof.resource.as_ref())?,
        scope: proof.scope.as_deref(),
        idempotency_key: idempotency_key(&parts.headers)?,
        body: &body,
    };
    match app.core().verify_claim(&visit.caller(&app, &parts), &access, request).await? {
        Verified::Converted(ensured) => {
            let before = |out: &mut Out| {
                out.raw("\"outcome\":\"converted\",");
            };
            Ok(view_account::signed_in(&ensured, visit.secure(&app), before, |_| {}))
        }
        Verified::Added { user, identifier } => {
            let mut out = Out::with_capacity(640 + user.data.len());
            out.raw("{\"outcome\":\"added\",\"user\":");
            view::user(&mut out, &user);
            out.raw(",\"identifier\":");
            view_account::identifier(&mut out, &identifier);
            out.raw("}");
            Ok(out.answer(StatusCode::OK))
        }
        Verified::MergeRequired(offer) => {
            let mut out = Out::with_capacity(512 + view_account::length(&offer.preview));
            out.raw("{\"outcome\":\"merge_required\"");
            view_account::offer(&mut out, &offer, "expires_in");
            out.raw("}");
            Ok(out.answer(StatusCode::OK))
        }
        Verified::SignInRequired => {
            let mut out = Out::with_capacity(32);
            out.raw("{\"outcome\":\"sign_in_required\"}");
            Ok(out.answer(StatusCode::OK))
        }
    }
}
