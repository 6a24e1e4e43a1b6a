//! OAuth's own form of a refusal: `{"error", "error_description"}` (RFC 6749 section 5.2, RFC 6750 section 3).

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use passerby_core::{Code, Error};
use passerby_http::{Challenge, Malformed, Refusal, answer::Out, status_of};
use utoipa::ToSchema;

/// The body of an error, for the document.
#[derive(Debug, ToSchema)]
#[schema(as = OAuthError)]
pub struct ErrorBody {
    /// A word of the RFC's list, or of the dialect's.
    pub error: String,
    /// A sentence for a developer.
    pub error_description: String,
}

/// A refusal on its way to the caller: JSON, `Cache-Control: no-store`, on 401 `WWW-Authenticate`, on 429 and 503
/// `Retry-After` in whole seconds.
#[derive(Debug, Clone)]
pub struct OAuthError {
    /// The status.
    pub status: StatusCode,
    /// The word.
    pub error: &'static str,
    /// A sentence for a developer.
    pub description: Cow<'static, str>,
    /// How long to wait before asking again; at least a second is told.
    pub wait: Option<Duration>,
    /// What a 401 asks for.
    pub challenge: Challenge,
}

impl OAuthError {
    /// A status, a word and a sentence.
    pub fn new(status: StatusCode, error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error, description: description.into(), wait: None, challenge: Challenge::Client }
    }

    /// 400 `invalid_request`.
    pub fn invalid_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// 401 `invalid_client`.
    pub fn invalid_client(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    /// 401 `invalid_token` (RFC 6750 section 3.1).
    pub fn invalid_token(description: impl Into<Cow<'static, str>>) -> Self {
        Self { challenge: Challenge::InvalidToken, ..Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description) }
    }

    /// The same with what its 401 asks for.
    #[must_use]
    pub fn asking(self, challenge: Challenge) -> Self {
        Self { challenge, ..self }
    }

    /// For a client that used HTTP Basic (`yes`): its refused authentication is answered by a `Basic` challenge.
    #[must_use]
    pub fn by_basic(self, yes: bool) -> Self {
        if yes && self.challenge == Challenge::Client { self.asking(Challenge::Basic) } else { self }
    }

    /// A core error under another word and status: sentence, culprit and wait stay.
    pub fn of(status: StatusCode, error: &'static str, core: Error) -> Self {
        let description = match (core.code, core.field) {
            // where many places can be to blame, the sentence alone does not say which
            (Code::Data, Some(field)) => format!("{field}: {}", core.detail).into(),
            _ => core.detail,
        };
        Self { wait: core.wait, ..Self::new(status, error, description) }
    }
}

/// The one place where an outcome of the core gets its word and status on the OAuth wire. Exhaustive on purpose.
impl From<Error> for OAuthError {
    fn from(e: Error) -> Self {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        let (status, word) = match e.code {
            Code::InvalidRequest
            | Code::InvalidValue
            | Code::Data
            | Code::NotAGuest
            | Code::CredentialConflict
            | Code::IdempotencyMismatch
            | Code::UserIdTaken
            | Code::UserIdNotAllowed
            | Code::DeviceKeyTaken
            | Code::TooManyDeviceKeys
            | Code::LastWayIn
            | Code::HandOffCancelled
            | Code::RecoveryPending
            | Code::IdentifierTaken
            | Code::PreviewOutdated
            | Code::TransferState
            | Code::PreconditionFailed
            | Code::NotFound => (BAD, "invalid_request"),
            Code::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Code::UnauthorizedClient | Code::FeatureNotEnabled | Code::MethodNotEnabled => (BAD, "unauthorized_client"),
            Code::OriginNotAllowed | Code::CrossSite => (StatusCode::FORBIDDEN, "access_denied"),
            Code::Unauthenticated | Code::InvalidToken | Code::TokenExpired => {
                (StatusCode::UNAUTHORIZED, "invalid_token")
            }
            Code::InvalidRefreshToken
            | Code::TokenReuse
            | Code::SessionEnded
            | Code::InvalidSessionToken
            | Code::SessionExpired
            | Code::InvalidCode
            | Code::GuestEnded
            | Code::GuestConverted
            | Code::GuestMerged
            | Code::GuestFrozen
            | Code::InvalidCredentials
            | Code::NoAccount
            | Code::ReauthenticationRequired
            | Code::InvalidMergeTicket
            | Code::MergeRefused => (BAD, "invalid_grant"),
            // the word for "ask again" (RFC 8628 section 3.5)
            Code::ClaimPending => (BAD, "authorization_pending"),
            // at the token endpoint 400 (RFC 9449 section 5), beside an access token 401 (section 7.1)
            Code::UseDpopNonce => (status_of(&e), "use_dpop_nonce"),
            Code::InvalidDpopProof => (status_of(&e), "invalid_dpop_proof"),
            Code::InsufficientScope => (StatusCode::FORBIDDEN, "insufficient_scope"),
            Code::InvalidTarget => (BAD, "invalid_target"),
            Code::InvalidScope => (BAD, "invalid_scope"),
            Code::UnsupportedGrantType => (BAD, "unsupported_grant_type"),
            Code::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            Code::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "temporarily_unavailable"),
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        let challenge = Challenge::of(&e);
        Self::of(status, word, e).asking(challenge)
    }
}

impl From<Refusal> for OAuthError {
    /// `invalid_request`, whatever cannot be read; the status is the native one where HTTP has its own, otherwise 400.
    fn from(r: Refusal) -> Self {
        let status = match r.status() {
            own
            @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT | StatusCode::UNSUPPORTED_MEDIA_TYPE) => own,
            _ => StatusCode::BAD_REQUEST,
        };
        let description = match r.field() {
            Some(field) => format!("{}: {}", field.trim_start_matches('/'), r.detail()).into(),
            None => Cow::Owned(r.detail().into_owned()),
        };
        Self::new(status, "invalid_request", description)
    }
}

impl From<Malformed> for OAuthError {
    /// A client tried to authenticate by header (RFC 6749 section 5.2: 401 with the scheme that is taken).
    fn from(_: Malformed) -> Self {
        Self::invalid_client("The Authorization header must be Basic with a client's id and secret.")
            .asking(Challenge::Basic)
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let mut out = Out::with_capacity(64 + self.description.len());
        plain_refusal(&mut out, self.error, &self.description);
        out.raw("}");
        let mut response = out.answer(self.status);
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

/// Word and sentence, and no closing brace: some have more to say.
pub(crate) fn plain_refusal(out: &mut Out, error: &str, description: &str) {
    out.raw("{\"error\":").string(error);
    out.raw(",\"error_description\":").string(&plain(description));
}

/// The characters that RFC 6749 section 5.2 allows in a description: printable ASCII without `"` and `\`.
fn plain(text: &str) -> Cow<'_, str> {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    if text.chars().all(allowed) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| {
            if allowed(c) {
                c
            } else if c == '"' {
                '\''
            } else {
                '?'
            }
        })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dressed(code: Code) -> (u16, &'static str) {
        let e = OAuthError::from(Error::new(code, "x"));
        (e.status.as_u16(), e.error)
    }

    #[test]
    fn core_errors() {
        for (code, status, word) in [
            (Code::InvalidRefreshToken, 400, "invalid_grant"),
            (Code::SessionEnded, 400, "invalid_grant"),
            (Code::TokenReuse, 400, "invalid_grant"),
            (Code::InvalidCredentials, 400, "invalid_grant"),
            (Code::GuestConverted, 400, "invalid_grant"),
            (Code::ReauthenticationRequired, 400, "invalid_grant"),
            (Code::MergeRefused, 400, "invalid_grant"),
            (Code::ClaimPending, 400, "authorization_pending"),
            (Code::MethodNotEnabled, 400, "unauthorized_client"),
            (Code::InvalidClient, 401, "invalid_client"),
            (Code::UnauthorizedClient, 400, "unauthorized_client"),
            (Code::InvalidTarget, 400, "invalid_target"),
            (Code::InvalidScope, 400, "invalid_scope"),
            (Code::UnsupportedGrantType, 400, "unsupported_grant_type"),
            (Code::OriginNotAllowed, 403, "access_denied"),
            (Code::UseDpopNonce, 400, "use_dpop_nonce"),
            (Code::InvalidDpopProof, 400, "invalid_dpop_proof"),
            (Code::InsufficientScope, 403, "insufficient_scope"),
            (Code::TooManyRequests, 429, "too_many_requests"),
            (Code::Unavailable, 503, "temporarily_unavailable"),
            (Code::StorageFull, 507, "temporarily_unavailable"),
            (Code::Internal, 500, "server_error"),
        ] {
            assert_eq!(dressed(code), (status, word), "{code:?}");
        }
    }

    #[test]
    fn headers() {
        let told = |e: OAuthError, name| {
            e.into_response().headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let client = || OAuthError::from(Error::new(Code::InvalidClient, "x"));
        assert_eq!(told(client(), WWW_AUTHENTICATE), "Bearer realm=\"passerby\", error=\"invalid_client\"");
        assert!(told(client().by_basic(true), WWW_AUTHENTICATE).starts_with("Basic "));
        let token = || OAuthError::from(Error::new(Code::InvalidToken, "x"));
        assert!(told(token().by_basic(true), WWW_AUTHENTICATE).contains("invalid_token"));
        assert!(told(Malformed::Basic.into(), WWW_AUTHENTICATE).starts_with("Basic "));
        let proof = |token_shown| OAuthError::from(Error { token_shown, ..Error::at(Code::UseDpopNonce, "DPoP", "x") });
        assert_eq!((proof(true).status.as_u16(), proof(true).error), (401, "use_dpop_nonce"));
        assert!(told(proof(true).by_basic(true), WWW_AUTHENTICATE).starts_with("DPoP error=\"use_dpop_nonce\""));
        assert_eq!(told(proof(false), WWW_AUTHENTICATE), "");
        let scope = OAuthError::from(Error::new(Code::InsufficientScope, "x"));
        assert!(told(scope, WWW_AUTHENTICATE).contains("insufficient_scope"));
        let slow = Error::new(Code::TooManyRequests, "x").after(Duration::from_millis(2100));
        assert_eq!(told(slow.into(), RETRY_AFTER), "3");
        assert_eq!(told(Error::new(Code::Unavailable, "x").into(), RETRY_AFTER), "1");
        assert_eq!(told(client(), http::header::CACHE_CONTROL), "no-store");
    }

    #[test]
    fn refusals_of_the_reader() {
        let e = OAuthError::from(Refusal::DuplicateParameter("scope".into()));
        assert_eq!((e.status.as_u16(), e.error), (400, "invalid_request"));
        assert!(e.description.starts_with("scope: "));
        assert_eq!(OAuthError::from(Refusal::NulCharacter(None)).status, StatusCode::BAD_REQUEST);
        assert_eq!(OAuthError::from(Refusal::BodyTooLarge(8)).status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(OAuthError::from(Refusal::UnsupportedMediaType("x")).status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn descriptions_hold_only_what_the_rfc_allows() {
        assert_eq!(plain("say \"a\\b\" ü\n"), "say 'a?b' ??");
        assert!(matches!(plain("plain"), Cow::Borrowed(_)));
    }
}
