//! `POST /v1/sign-in`: a session of an account, by password, code or link; with an offer to take a guest's things along.

use axum::{
    extract::{Request, State},
    response::Response,
};
use passerby_core::{
    Code, Error,
    account::{SignIn, SignInAnswer, SignInBy},
};
use passerby_http::{App, Authorization, Problem, Visit, idempotency_key, json};
use serde::Deserialize;

use crate::{
    client::{Named, audience, refusal, session_type},
    identifiers::Names,
    schema::ProblemDetails,
    schema_account as schema, view_account,
};

/// The path, which client assertions may name as their audience.
const PATH: &str = "/v1/sign-in";

#[derive(Default, Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    client_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    method: Option<json::Text<'a>>,
    #[serde(borrow)]
    email: Option<json::Text<'a>>,
    #[serde(borrow)]
    phone: Option<json::Text<'a>>,
    #[serde(borrow)]
    username: Option<json::Text<'a>>,
    #[serde(borrow)]
    password: Option<json::Text<'a>>,
    #[serde(borrow)]
    claim: Option<json::Text<'a>>,
    #[serde(borrow)]
    code: Option<json::Text<'a>>,
    #[serde(borrow)]
    redirect_uri: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_token: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    device: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
    #[serde(borrow)]
    proof: Option<json::Text<'a>>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
}

impl Wanted<'_> {
    fn names(&self) -> Names<'_> {
        Names {
            email: self.email.as_deref(),
            phone: self.phone.as_deref(),
            username: self.username.as_deref(),
            external_id: None,
        }
    }

    /// The step that is asked for.
    ///
    /// # Errors
    /// 400 for what is missing, and for another method.
    fn by(&self) -> Result<SignInBy<'_>, Problem> {
        let missing = |field, detail| Problem::from(Error::at(Code::InvalidRequest, field, detail));
        match (self.method.as_deref(), self.claim.as_deref()) {
            (Some("password"), _) => {
                let what = self.names().one()?;
                let password = self.password.as_deref().ok_or_else(|| missing("/password", "password is missing."))?;
                Ok(SignInBy::Password { what, password })
            }
            (Some("code" | "link"), Some(claim)) => Ok(SignInBy::Finish { claim, code: self.code.as_deref() }),
            (Some(method @ ("code" | "link")), None) => Ok(SignInBy::Begin {
                what: self.names().one()?,
                by_link: method == "link",
                redirect_uri: self.redirect_uri.as_deref(),
            }),
            (Some(_), _) => Err(Problem::invalid_value("/method", "Expected \"password\", \"code\" or \"link\".")),
            (None, _) => Err(missing("/method", "method is missing.")),
        }
    }
}

/// Sign in
///
/// By `password` at once. By `code` or `link` in two steps: with the address alone, which is answered by a claim; then with
/// `claim` and the `code`, or without a code once the link was confirmed. A guest that comes along (as bearer, by cookie or
/// `session_token`) stays what it is; the answer has a ticket and a preview of its merge into the account. Nobody is told
/// whether an address has an account until the address is proven.
#[utoipa::path(
    post,
    path = "/v1/sign-in",
    operation_id = "signIn",
    tag = "Becoming somebody",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "22 to 255 characters; a repeat with the same body gives the same session"),
        ("DPoP" = Option<String>, Header, description = "A proof; its key is the new session's"),
    ),
    request_body = schema::SignInRequest,
    responses(
        (status = 200, description = "The account. With `session_type: cookie` the cookie is set and no token is given", body = schema::SignInAnswer),
        (status = 202, description = "A code or a link is on its way, if the address has an account", body = schema::ClaimAnswer),
        (status = 400, description = "`invalid_code`; the request cannot be read, or a value is not allowed; `use_dpop_nonce`, `invalid_dpop_proof`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 401, description = "`invalid_credentials`, the same for an unknown name and a wrong password; unknown client; a broken or ended credential of the guest", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "`method_not_enabled`, an origin that is not registered, or by cookie from another site", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "`no_account`: told only once the address is proven; no such claim", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "`claim_pending`: the link was not confirmed yet; `credential_conflict`; `device_key_taken`", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too many tries or messages", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "Too many passwords are being hashed, or the store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    ),
    security((), ("bearer" = []), ("dpop" = []), ("cookie" = []), ("client" = []))
)]
pub(crate) async fn sign_in(State(app): State<App>, visit: Visit, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let authorization = Authorization::read(&parts.headers)?;
    let idempotency_key = idempotency_key(&parts.headers)?;
    let body = app.json_body(&parts.headers, body).await?;
    let wanted: Wanted<'_> = json::parse(&body)?;
    let named = Named {
        id: wanted.client_id.as_deref(),
        secret: wanted.client_secret.as_deref(),
        assertion: wanted.client_assertion.as_deref(),
        assertion_type: wanted.client_assertion_type.as_deref(),
    };
    let request = SignIn {
        client: named.claim(&authorization, PATH),
        by: wanted.by()?,
        token: authorization.access_token(),
        cookie: visit.cookie(&app, &parts.headers),
        session_token: wanted.session_token.as_deref(),
        session_type: session_type(wanted.session_type.as_ref())?,
        bind_tokens: wanted.bind_tokens == Some(true),
        proof: wanted.proof.as_deref(),
        audience: audience(wanted.audience.as_ref(), wanted.resource.as_ref())?,
        scope: wanted.scope.as_deref(),
        device: wanted.device.as_deref(),
        idempotency_key,
        body: &body,
    };
    let answer = app.core().sign_in(&visit.caller(&app, &parts), request).await;
    match answer.map_err(|e| refusal(e, &authorization))? {
        SignInAnswer::Claim(claim) => Ok(view_account::claim(&claim)),
        SignInAnswer::Done { ensured, offer } => Ok(view_account::signed_in(
            &ensured,
            visit.secure(&app),
            |_| {},
            |out| {
                if let Some(offer) = &offer {
                    view_account::offer(out, offer, "ticket_expires_in");
                }
            },
        )),
    }
}
