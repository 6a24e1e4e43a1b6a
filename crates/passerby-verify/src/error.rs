//! Why a request is refused.

use http::StatusCode;

/// Why a request is refused. Closed: a `match` over it need not guess.
///
/// Each has a status, an `error` of RFC 6750 or RFC 9449 where those have one, and a code for machines; none holds
/// anything of the token. [`Verifier::refusal`](crate::Verifier::refusal) makes the whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No access token came along. 401 without an `error`, as RFC 6750 section 3.1 has it.
    #[error("an access token is needed")]
    NoToken,
    /// The request shows its token in no way that can be understood. 400 `invalid_request`.
    #[error("{0}")]
    Request(RequestFault),
    /// The token is not good here. 401 `invalid_token`.
    #[error("{0}")]
    Token(TokenFault),
    /// The token is bound to a key, and the proof of that key is not good. 401 `invalid_dpop_proof`.
    #[error("{0}")]
    Proof(ProofFault),
    /// The token is good, but not of the kind of user asked for. 403 `insufficient_scope`.
    #[error("{0}")]
    Holder(HolderFault),
    /// The token is good, but lacks one of the scopes asked for: all of those, separated by spaces. 403
    /// `insufficient_scope`.
    #[error("a scope is missing; needed: {0}")]
    Scope(Box<str>),
    /// It cannot be told at the moment whether the token is good. 503.
    #[error("{0}")]
    Unavailable(Lack),
}

/// What is wrong with the way in which the token is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// More than one `Authorization` header, or one that is not text.
    #[error("there must be one Authorization header")]
    Authorization,
}

/// What is wrong with an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not a signed token in its only spelling, longer than 16 KiB, or with header members that would let it say how it
    /// is to be checked (`crit`, `jku`, `jwk`, `x5u`, `x5c`, `b64`, `zip`).
    #[error("the access token is malformed")]
    Malformed,
    /// Not of type `at+jwt` (RFC 9068 section 2.1).
    #[error("the token is no access token")]
    Type,
    /// An algorithm that is not accepted, or not its key's.
    #[error("the algorithm of the access token is not accepted")]
    Algorithm,
    /// It names no key of the issuer.
    #[error("the key of the access token is not known")]
    Key,
    /// The signature does not belong to it.
    #[error("the signature of the access token is wrong")]
    Signature,
    /// A claim that RFC 9068 wants is missing or of another type.
    #[error("the access token lacks a claim")]
    Claims,
    /// Another issuer. Compared as written: a trailing slash counts.
    #[error("the access token is of another issuer")]
    Issuer,
    /// For another API.
    #[error("the access token is for another audience")]
    Audience,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
    /// Its time has not begun.
    #[error("the access token is not valid yet")]
    NotYet,
    /// The user's epoch has risen since it was issued: signed out everywhere, recovered, converted, merged.
    #[error("the access token was revoked")]
    Revoked,
    /// It is bound to a key (`cnf.jkt`), and came as `Bearer`.
    #[error("the access token is bound to a key: it needs the scheme DPoP and a proof")]
    Bound,
    /// It came as `DPoP`, and is bound to no key.
    #[error("the access token is not bound to a key")]
    Unbound,
    /// It is bound to a key, and this API takes no such tokens: its address was not given to the builder.
    #[error("access tokens that are bound to a key are not accepted here")]
    BindingUnsupported,
}

/// What is wrong with a DPoP proof (RFC 9449 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// None came along.
    #[error("a DPoP proof is needed")]
    Missing,
    /// More than one came along.
    #[error("there must be one DPoP proof")]
    Several,
    /// Not a signed token in its only spelling, or without a usable public key in its header.
    #[error("the DPoP proof is malformed")]
    Malformed,
    /// Not of type `dpop+jwt`.
    #[error("the DPoP proof is of another type")]
    Type,
    /// An algorithm that is not accepted, or not its key's.
    #[error("the algorithm of the DPoP proof is not accepted")]
    Algorithm,
    /// The signature is not of the key in its header.
    #[error("the signature of the DPoP proof is wrong")]
    Signature,
    /// The key is not the one that the access token is bound to.
    #[error("the DPoP proof is of another key")]
    Key,
    /// `htm` is another method.
    #[error("the DPoP proof is for another method")]
    Method,
    /// `htu` is another address.
    #[error("the DPoP proof is for another address")]
    Address,
    /// `ath` is missing, or the hash of another access token.
    #[error("the DPoP proof is for another access token")]
    AccessToken,
    /// `iat` is missing, too long ago or in the future.
    #[error("the DPoP proof is too old, or of the future")]
    Time,
    /// `jti` is missing, empty or longer than 256 bytes.
    #[error("the DPoP proof has no usable jti")]
    Id,
    /// It was used before.
    #[error("the DPoP proof was used before")]
    Replayed,
}

/// Whose token would be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HolderFault {
    /// A guest's or a member's; the token does not say that it is of either.
    #[error("this is for guests and members")]
    User,
    /// A guest's.
    #[error("this is for guests")]
    Guest,
    /// A member's.
    #[error("this is for members")]
    Member,
}

/// What is lacking to judge a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The issuer's keys cannot be fetched, and none are held that are fresh enough.
    #[error("the issuer's keys cannot be had")]
    Keys,
    /// The epoch feed is further behind than the settings allow.
    #[error("the issuer's epochs cannot be had")]
    Epochs,
    /// More proofs came within their life than are remembered.
    #[error("too many proofs at a time")]
    Proofs,
}

impl Error {
    /// The HTTP status: 400, 401, 403 or 503.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::NoToken | Self::Token(_) | Self::Proof(_) => StatusCode::UNAUTHORIZED,
            Self::Holder(_) | Self::Scope(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A stable name in snake_case: the `code` of the answer's body.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "token_needed",
            Self::Request(_) => "invalid_request",
            Self::Token(TokenFault::Expired) => "token_expired",
            Self::Token(_) => "invalid_token",
            Self::Proof(_) => "invalid_dpop_proof",
            Self::Holder(HolderFault::User) => "user_needed",
            Self::Holder(HolderFault::Guest) => "guest_needed",
            Self::Holder(HolderFault::Member) => "member_needed",
            Self::Scope(_) => "insufficient_scope",
            Self::Unavailable(_) => "temporarily_unavailable",
        }
    }

    /// The `error` of a challenge; `None`: none is due.
    pub(crate) fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoToken | Self::Unavailable(_) => None,
            Self::Request(_) => Some("invalid_request"),
            Self::Token(_) => Some("invalid_token"),
            Self::Proof(_) => Some("invalid_dpop_proof"),
            Self::Holder(_) | Self::Scope(_) => Some("insufficient_scope"),
        }
    }
}

impl From<TokenFault> for Error {
    fn from(fault: TokenFault) -> Self {
        Self::Token(fault)
    }
}

impl From<ProofFault> for Error {
    fn from(fault: ProofFault) -> Self {
        Self::Proof(fault)
    }
}
