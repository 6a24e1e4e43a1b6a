//! The closed list of what can go wrong, in the core's own words. Each door has one function that dresses it.

use std::{borrow::Cow, time::Duration};

use crate::{
    port::{CommitError, StoreError},
    profile::EditError,
};

/// What went wrong: stable, `snake_case` on the wire. A door matches it exhaustively, so a new one does not compile
/// until every door has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request cannot be read.
    InvalidRequest,
    /// A value is of the right type, but not one that is allowed.
    InvalidValue,
    /// The profile refused an edit; [`Error::fault`] says why.
    Data,
    /// Unknown client, or its authentication failed.
    InvalidClient,
    /// The client is known, but not for this.
    UnauthorizedClient,
    /// Guests are switched off for the tenant.
    FeatureNotEnabled,
    /// The browser origin is not on the client's list.
    OriginNotAllowed,
    /// A change by cookie from another site.
    CrossSite,
    /// No credential where one is needed.
    Unauthenticated,
    /// The credential is not one of ours, is broken, or is of another kind.
    InvalidToken,
    /// The credential's own life is over.
    TokenExpired,
    /// The session behind the credential has ended.
    SessionEnded,
    /// The session token is broken, foreign or of another kind.
    InvalidSessionToken,
    /// The session token is past its end.
    SessionExpired,
    /// The refresh token is broken, foreign or unknown.
    InvalidRefreshToken,
    /// An old refresh token was used again: its session was ended.
    TokenReuse,
    /// The session or the id of an idempotency key has ended.
    GuestEnded,
    /// A regular user's credential where only guests go.
    NotAGuest,
    /// Two credentials of two guests.
    CredentialConflict,
    /// The idempotency key came with another body.
    IdempotencyMismatch,
    /// The id that the caller chose is not to be had.
    UserIdTaken,
    /// This client may not choose ids.
    UserIdNotAllowed,
    /// The audience is unknown, or not for this client or for guests.
    InvalidTarget,
    /// The scope is not granted.
    InvalidScope,
    /// The grant type is not known here.
    UnsupportedGrantType,
    /// The proof names no nonce of ours, or one that is too old (RFC 9449 section 8): ask again with the one that comes
    /// along.
    UseDpopNonce,
    /// The proof is missing, broken, of another request or key, or was used before (RFC 9449 section 4.3).
    InvalidDpopProof,
    /// The device key is another guest's.
    DeviceKeyTaken,
    /// The user has as many device keys as may be.
    TooManyDeviceKeys,
    /// The last way in is not removed by accident.
    LastWayIn,
    /// The hand-off or recovery code is wrong, used, cancelled or over.
    InvalidCode,
    /// Two devices asked with one code.
    HandOffCancelled,
    /// Another device waits with this code already.
    RecoveryPending,
    /// The identifier is another's.
    IdentifierTaken,
    /// The guest became a regular user meanwhile: sign in.
    GuestConverted,
    /// The guest was merged into an account.
    GuestMerged,
    /// A merge of the guest waits for the application's word; nothing of it can be written.
    GuestFrozen,
    /// Unknown identifier or wrong password: which of both nobody is told.
    InvalidCredentials,
    /// The link of the claim was not confirmed yet.
    ClaimPending,
    /// The tenant does not let people sign in this way.
    MethodNotEnabled,
    /// The address is proven, and no account has it.
    NoAccount,
    /// The sign-in is too long ago for this.
    ReauthenticationRequired,
    /// The merge ticket is broken, over, or names others than the caller.
    InvalidMergeTicket,
    /// The tenant's policy refuses merges.
    MergeRefused,
    /// The policy changed since the preview: look at the new one.
    PreviewOutdated,
    /// The guest was merged into another account, or the transfer is not in the state that this needs.
    TransferState,
    /// The API key is good, but not for this.
    InsufficientScope,
    /// `If-Match` names another version.
    PreconditionFailed,
    /// There is no such thing.
    NotFound,
    /// Asked too often; [`Error::wait`] says how long to wait.
    TooManyRequests,
    /// The store is not available, or the threads that hash passwords have more to do than they can.
    Unavailable,
    /// The store has no room for a write.
    StorageFull,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// The stable word of the native wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidValue => "invalid_value",
            Self::Data => "invalid_data",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::FeatureNotEnabled => "feature_not_enabled",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::CrossSite => "cross_site",
            Self::Unauthenticated => "unauthenticated",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::SessionEnded | Self::TokenReuse => "session_ended",
            Self::InvalidSessionToken => "invalid_session_token",
            Self::SessionExpired => "session_expired",
            Self::InvalidRefreshToken => "invalid_refresh_token",
            Self::GuestEnded => "guest_ended",
            Self::NotAGuest => "not_a_guest",
            Self::CredentialConflict => "credential_conflict",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::UserIdTaken => "user_id_taken",
            Self::UserIdNotAllowed => "user_id_not_allowed",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::InvalidDpopProof => "invalid_dpop_proof",
            Self::DeviceKeyTaken => "device_key_taken",
            Self::TooManyDeviceKeys => "too_many_device_keys",
            Self::LastWayIn => "last_way_in",
            Self::InvalidCode => "invalid_code",
            Self::HandOffCancelled => "hand_off_cancelled",
            Self::RecoveryPending => "recovery_pending",
            Self::IdentifierTaken => "identifier_taken",
            Self::GuestConverted => "guest_converted",
            Self::GuestMerged => "guest_merged",
            Self::GuestFrozen => "guest_frozen",
            Self::InvalidCredentials => "invalid_credentials",
            Self::ClaimPending => "claim_pending",
            Self::MethodNotEnabled => "method_not_enabled",
            Self::NoAccount => "no_account",
            Self::ReauthenticationRequired => "reauthentication_required",
            Self::InvalidMergeTicket => "invalid_merge_ticket",
            Self::MergeRefused => "merge_refused",
            Self::PreviewOutdated => "preview_outdated",
            Self::TransferState => "transfer_state",
            Self::InsufficientScope => "insufficient_scope",
            Self::PreconditionFailed => "precondition_failed",
            Self::NotFound => "not_found",
            Self::TooManyRequests => "too_many_requests",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage_full",
            Self::Internal => "internal",
        }
    }
}

/// What every use case answers when it cannot.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    /// What.
    pub code: Code,
    /// JSON pointer or parameter name of the culprit, when there is one.
    pub field: Option<Cow<'static, str>>,
    /// A sentence for a developer. Holds no credential and nothing of other people.
    pub detail: Cow<'static, str>,
    /// How long to wait before asking again.
    pub wait: Option<Duration>,
    /// Why a profile refused an edit ([`Code::Data`]).
    pub fault: Option<crate::profile::Fault>,
    /// An access token was shown: a refusal of its proof is a 401 (RFC 9449 section 9), where it is a 400 else.
    pub token_shown: bool,
}

impl Error {
    /// A code with its sentence.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, field: None, detail: detail.into(), wait: None, fault: None, token_shown: false }
    }

    /// The same with the culprit's name.
    pub fn at(code: Code, field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::new(code, detail) }
    }

    /// The same with a wait.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// The stable word: of the profile's fault where that is the cause.
    pub fn word(&self) -> &'static str {
        self.fault.map_or_else(|| self.code.as_str(), crate::profile::Fault::code)
    }
}

impl From<StoreError> for Error {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "the store is not available");
                Self::new(Code::Unavailable, "The store cannot be reached just now.").after(Duration::from_secs(1))
            }
            StoreError::Full => Self::new(Code::StorageFull, "There is no room to write this."),
            StoreError::Bug(why) => {
                tracing::error!(%why, "the store failed");
                Self::new(Code::Internal, "The server failed; this is its fault.")
            }
        }
    }
}

impl From<EditError> for Error {
    fn from(e: EditError) -> Self {
        let field = (!e.field.is_empty()).then(|| e.field.into());
        Self { code: Code::Data, field, detail: e.detail.into(), wait: None, fault: Some(e.fault), token_shown: false }
    }
}

impl From<CommitError> for Error {
    /// What no use case met by itself: races that a second decision did not settle.
    fn from(e: CommitError) -> Self {
        match e {
            CommitError::Store(e) => e.into(),
            CommitError::Edit(e) => e.into(),
            CommitError::Version(v) => Self::at(
                Code::PreconditionFailed,
                "If-Match",
                format!("The version is {v}; read it again and repeat the change."),
            ),
            CommitError::KeyReused => Self::at(
                Code::IdempotencyMismatch,
                "Idempotency-Key",
                "This Idempotency-Key came with another body before.",
            ),
            CommitError::Frozen => Self::new(
                Code::GuestFrozen,
                "A merge of this guest waits for the application's word; until then nothing of it can be changed.",
            ),
            CommitError::Gone | CommitError::Marked => Self::new(Code::SessionEnded, "The session has ended."),
            CommitError::Moved | CommitError::Taken => {
                Self::new(Code::Unavailable, "Others changed the same thing at the same moment; ask again.")
                    .after(Duration::from_secs(1))
            }
        }
    }
}
