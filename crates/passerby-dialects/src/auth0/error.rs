//! The dialect's words and statuses (`reference/auth0.md` 1.6).

use http::StatusCode;
use passerby_core::{Code, Error};
use passerby_oauth::OAuthError;

/// The one place where an outcome of the core gets its word and status in this dialect. Exhaustive on purpose.
///
/// `session_expired` and `invalid_session_token` make the SDKs drop the guest and make another one: nothing that is not
/// the session token's own fault may be called so.
pub(super) fn dress(e: Error) -> OAuthError {
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;
    let (status, word) = match e.code {
        Code::InvalidRequest
        | Code::InvalidValue
        | Code::Data
        | Code::CredentialConflict
        | Code::IdempotencyMismatch
        | Code::UserIdTaken
        | Code::UserIdNotAllowed
        | Code::DeviceKeyTaken
        | Code::TooManyDeviceKeys
        | Code::LastWayIn
        | Code::InvalidCode
        | Code::HandOffCancelled
        | Code::RecoveryPending
        | Code::IdentifierTaken
        | Code::GuestFrozen
        | Code::InvalidCredentials
        | Code::ClaimPending
        | Code::NoAccount
        | Code::ReauthenticationRequired
        | Code::InvalidMergeTicket
        | Code::MergeRefused
        | Code::PreviewOutdated
        | Code::TransferState
        | Code::Unauthenticated
        | Code::InvalidRefreshToken
        | Code::TokenReuse
        | Code::UnsupportedGrantType
        | Code::PreconditionFailed
        | Code::NotFound => (BAD, "invalid_request"),
        Code::SessionExpired | Code::TokenExpired => (BAD, "session_expired"),
        Code::InvalidSessionToken
        | Code::InvalidToken
        | Code::SessionEnded
        | Code::GuestEnded
        | Code::GuestConverted
        | Code::GuestMerged
        | Code::NotAGuest => (BAD, "invalid_session_token"),
        Code::InvalidTarget => (BAD, "invalid_target"),
        Code::InvalidScope => (BAD, "invalid_scope"),
        Code::UseDpopNonce => (BAD, "use_dpop_nonce"),
        Code::InvalidDpopProof => (BAD, "invalid_dpop_proof"),
        Code::InsufficientScope => (FORBIDDEN, "insufficient_scope"),
        Code::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Code::UnauthorizedClient => (FORBIDDEN, "unauthorized_client"),
        Code::FeatureNotEnabled | Code::MethodNotEnabled => (FORBIDDEN, "feature_not_enabled"),
        Code::OriginNotAllowed | Code::CrossSite => (FORBIDDEN, "access_denied"),
        Code::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        Code::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "temporarily_unavailable"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    };
    OAuthError::of(status, word, e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_reference() {
        for (code, status, word) in [
            (Code::InvalidRequest, 400, "invalid_request"),
            (Code::Data, 400, "invalid_request"),
            (Code::UserIdTaken, 400, "invalid_request"),
            (Code::UserIdNotAllowed, 400, "invalid_request"),
            (Code::SessionExpired, 400, "session_expired"),
            (Code::InvalidSessionToken, 400, "invalid_session_token"),
            (Code::SessionEnded, 400, "invalid_session_token"),
            (Code::InvalidTarget, 400, "invalid_target"),
            (Code::InvalidScope, 400, "invalid_scope"),
            (Code::InvalidClient, 401, "invalid_client"),
            (Code::UnauthorizedClient, 403, "unauthorized_client"),
            (Code::FeatureNotEnabled, 403, "feature_not_enabled"),
            (Code::TooManyRequests, 429, "too_many_requests"),
            (Code::UseDpopNonce, 400, "use_dpop_nonce"),
            (Code::InvalidDpopProof, 400, "invalid_dpop_proof"),
            (Code::Unavailable, 503, "temporarily_unavailable"),
            (Code::Internal, 500, "server_error"),
        ] {
            let e = dress(Error::new(code, "x"));
            assert_eq!((e.status.as_u16(), e.error), (status, word), "{code:?}");
        }
    }

    #[test]
    fn a_temporary_fault_never_costs_the_guest() {
        for code in [
            Code::TooManyRequests,
            Code::Unavailable,
            Code::StorageFull,
            Code::Internal,
            Code::InvalidTarget,
            Code::InvalidScope,
            Code::OriginNotAllowed,
            Code::InvalidClient,
            Code::Data,
            Code::UseDpopNonce,
            Code::InvalidDpopProof,
            Code::InvalidCode,
            Code::GuestFrozen,
            Code::InvalidCredentials,
            Code::ReauthenticationRequired,
        ] {
            let word = dress(Error::new(code, "x")).error;
            assert!(!["session_expired", "invalid_session_token"].contains(&word), "{code:?}");
        }
    }
}
