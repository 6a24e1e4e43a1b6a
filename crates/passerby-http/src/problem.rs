//! Problems (RFC 9457): how the native doors, and the router for all doors, say that something did not go.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use passerby_core::{Code, Error, profile::Fault};

use crate::{
    Challenge,
    answer::{self, Out},
};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A problem on its way to the caller: `application/problem+json` with `type`, `title`, `status`, `detail`, `code` and,
/// where one is to blame, `field`. Carries `Cache-Control: no-store`, on 401 `WWW-Authenticate`, on 429 and 503
/// `Retry-After`.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    wait: Option<Duration>,
    challenge: Challenge,
    /// Further members, JSON.
    more: Option<Box<[u8]>>,
}

impl Problem {
    /// A status, a stable `snake_case` word and a sentence for a developer.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        Self { status, code, detail, field: None, wait: None, challenge: Challenge::Bearer, more: None }
    }

    /// The same with the culprit: a JSON pointer, or the name of a parameter or header.
    #[must_use]
    pub fn at(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same with further members (RFC 9457 section 3.2): JSON without the braces.
    #[must_use]
    pub fn telling(self, members: Out) -> Self {
        Self { more: Some(members.into_vec().into()), ..self }
    }

    /// 401 `invalid_token`: a credential was shown and is none of ours.
    pub fn invalid_token(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { challenge: Challenge::InvalidToken, ..Self::new(StatusCode::UNAUTHORIZED, "invalid_token", detail) }
    }

    /// 400 `invalid_value` at a JSON pointer.
    pub fn invalid_value(field: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", detail).at(field)
    }

    /// 404 `not_found`.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NotFound.as_str(), "There is nothing here.")
    }

    /// 405 `method_not_allowed`; the router adds `Allow`.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not take this method.")
    }

    /// 403 `origin_not_allowed`: a preflight of an origin that no client registered.
    pub fn origin_not_allowed() -> Self {
        let detail = "No client has registered this origin.";
        Self::new(StatusCode::FORBIDDEN, Code::OriginNotAllowed.as_str(), detail).at("Origin")
    }

    /// 500 `internal`, without a word about why.
    pub fn internal() -> Self {
        let detail = "The server failed; this is its fault.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.as_str(), detail)
    }

    /// For a client that authenticated by HTTP Basic: its 401 challenges by Basic.
    #[must_use]
    pub fn asked_by_basic(self) -> Self {
        if self.challenge == Challenge::Client { Self { challenge: Challenge::Basic, ..self } } else { self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable word.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The culprit.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

/// The one place where an outcome of the core gets its HTTP status on the native wire. Exhaustive on purpose.
pub fn status_of(error: &Error) -> StatusCode {
    match error.code {
        Code::InvalidRequest
        | Code::InvalidValue
        | Code::InvalidTarget
        | Code::InvalidScope
        | Code::UnsupportedGrantType
        | Code::InvalidCode
        | Code::InvalidMergeTicket => StatusCode::BAD_REQUEST,
        Code::UseDpopNonce | Code::InvalidDpopProof => {
            if error.token_shown {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::BAD_REQUEST
            }
        }
        Code::Data => error.fault.map_or(StatusCode::BAD_REQUEST, status_of_fault),
        Code::InvalidClient
        | Code::Unauthenticated
        | Code::InvalidToken
        | Code::TokenExpired
        | Code::SessionEnded
        | Code::InvalidSessionToken
        | Code::SessionExpired
        | Code::InvalidRefreshToken
        | Code::TokenReuse
        | Code::InvalidCredentials => StatusCode::UNAUTHORIZED,
        Code::UnauthorizedClient
        | Code::FeatureNotEnabled
        | Code::OriginNotAllowed
        | Code::CrossSite
        | Code::UserIdNotAllowed
        | Code::InsufficientScope
        | Code::MethodNotEnabled
        | Code::ReauthenticationRequired => StatusCode::FORBIDDEN,
        Code::GuestEnded
        | Code::NotAGuest
        | Code::CredentialConflict
        | Code::UserIdTaken
        | Code::DeviceKeyTaken
        | Code::TooManyDeviceKeys
        | Code::LastWayIn
        | Code::HandOffCancelled
        | Code::RecoveryPending
        | Code::IdentifierTaken
        | Code::GuestConverted
        | Code::GuestMerged
        | Code::GuestFrozen
        | Code::ClaimPending
        | Code::MergeRefused
        | Code::PreviewOutdated
        | Code::TransferState => StatusCode::CONFLICT,
        Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Code::NotFound | Code::NoAccount => StatusCode::NOT_FOUND,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What a profile refused: 400 where the request itself is broken, 422 where its content breaks a limit, 409 where the
/// profile as it stands is in the way.
fn status_of_fault(fault: Fault) -> StatusCode {
    match fault {
        Fault::Malformed
        | Fault::DuplicateMember
        | Fault::NotAnObject
        | Fault::InvalidOperation
        | Fault::InvalidPath
        | Fault::TooManyOperations => StatusCode::BAD_REQUEST,
        Fault::NumberOutOfRange | Fault::NulCharacter | Fault::ReservedKey | Fault::TooDeep | Fault::Schema => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::TypeMismatch | Fault::TestFailed | Fault::PathNotFound => StatusCode::CONFLICT,
    }
}

impl From<Error> for Problem {
    fn from(e: Error) -> Self {
        let challenge = Challenge::of(&e);
        let (status, code) = (status_of(&e), e.word().into());
        Self { status, code, detail: e.detail, field: e.field, wait: e.wait, challenge, more: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut out = Out::with_capacity(160 + self.detail.len());
        out.raw("{\"type\":\"about:blank\",\"title\":").string(title);
        out.raw(",\"status\":").raw(self.status.as_str());
        out.raw(",\"detail\":").string(&self.detail).raw(",\"code\":").string(&self.code);
        if let Some(field) = &self.field {
            out.raw(",\"field\":").string(field);
        }
        if let Some(more) = self.more.as_deref().and_then(|more| std::str::from_utf8(more).ok()) {
            out.raw(",").raw(more);
        }
        out.raw("}");
        let mut response = answer::of(self.status, PROBLEM_JSON, out.into_vec());
        if let Some(challenge) = self.challenge.for_status(self.status) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // whole seconds, rounded up: who comes a moment early is refused again
            let wait = self.wait.unwrap_or(Duration::from_secs(1));
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn read(problem: Problem) -> (StatusCode, http::HeaderMap, serde_json::Value) {
        let (parts, body) = problem.into_response().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn shape() {
        let error = Error::at(Code::InvalidValue, "/session_type", "Say \"tokens\" or \"cookie\".");
        let (status, headers, body) = read(error.into()).await;
        assert_eq!(status, 400);
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank", "title": "Bad Request", "status": 400, "code": "invalid_value",
                "detail": "Say \"tokens\" or \"cookie\".", "field": "/session_type"
            })
        );
    }

    #[tokio::test]
    async fn every_401_challenges() {
        for (problem, challenge) in [
            (Error::new(Code::Unauthenticated, "x").into(), "Bearer realm=\"passerby\""),
            (Error::new(Code::InvalidCredentials, "x").into(), "Bearer realm=\"passerby\""),
            (Error::new(Code::SessionEnded, "x").into(), "Bearer realm=\"passerby\", error=\"invalid_token\""),
            (Error::new(Code::InvalidClient, "x").into(), "Bearer realm=\"passerby\", error=\"invalid_client\""),
            (
                Problem::from(Error::new(Code::InvalidClient, "x")).asked_by_basic(),
                "Basic realm=\"passerby\", charset=\"UTF-8\"",
            ),
            (
                Problem::from(Error::new(Code::TokenExpired, "x")).asked_by_basic(),
                "Bearer realm=\"passerby\", error=\"invalid_token\"",
            ),
            (Problem::invalid_token("x"), "Bearer realm=\"passerby\", error=\"invalid_token\""),
            (
                Error::at(Code::InvalidToken, "DPoP", "x").into(),
                "DPoP error=\"invalid_token\", algs=\"ES256 EdDSA RS256\"",
            ),
            (
                Error { token_shown: true, ..Error::new(Code::UseDpopNonce, "x") }.into(),
                "DPoP error=\"use_dpop_nonce\", algs=\"ES256 EdDSA RS256\"",
            ),
            (
                Error { token_shown: true, ..Error::at(Code::InvalidDpopProof, "DPoP", "x") }.into(),
                "DPoP error=\"invalid_dpop_proof\", algs=\"ES256 EdDSA RS256\"",
            ),
        ] {
            let (status, headers, _) = read(problem).await;
            assert_eq!((status.as_u16(), headers["www-authenticate"].to_str().unwrap()), (401, challenge));
        }
    }

    #[tokio::test]
    async fn a_proof_without_a_token_is_part_of_the_request() {
        for (code, word) in [(Code::UseDpopNonce, "use_dpop_nonce"), (Code::InvalidDpopProof, "invalid_dpop_proof")] {
            let (status, headers, body) = read(Error::at(code, "DPoP", "x").into()).await;
            assert_eq!((status.as_u16(), &body["code"], &body["field"]), (400, &word.into(), &"DPoP".into()));
            assert!(!headers.contains_key("www-authenticate"));
        }
    }

    #[tokio::test]
    async fn a_scope_that_is_missing_is_named() {
        let (status, headers, _) = read(Error::new(Code::InsufficientScope, "x").into()).await;
        assert_eq!(status, 403);
        assert_eq!(headers["www-authenticate"], "Bearer realm=\"passerby\", error=\"insufficient_scope\"");
        let (status, headers, _) = read(Error::new(Code::OriginNotAllowed, "x").into()).await;
        assert!(status == 403 && !headers.contains_key("www-authenticate"));
    }

    #[tokio::test]
    async fn waits_are_whole_seconds_and_at_least_one() {
        for (wait, header) in
            [(None, "1"), (Some(0), "1"), (Some(1), "1"), (Some(1000), "1"), (Some(1001), "2"), (Some(59_500), "60")]
        {
            for code in [Code::TooManyRequests, Code::Unavailable] {
                let error = Error { wait: wait.map(Duration::from_millis), ..Error::new(code, "x") };
                let (_, headers, _) = read(error.into()).await;
                assert_eq!(headers["retry-after"], header);
            }
        }
        let (_, headers, _) = read(Error::new(Code::NotFound, "x").into()).await;
        assert!(!headers.contains_key("retry-after") && !headers.contains_key("www-authenticate"));
    }
}
