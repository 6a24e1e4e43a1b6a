//! `WWW-Authenticate`: what a refused caller is asked for.

use http::{HeaderValue, StatusCode};
use passerby_core::{Code, Error};

/// What a 401 asks for (RFC 9110 section 11.6.1: every 401 says it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// No token was shown (RFC 6750 section 3: then no error is named).
    Bearer,
    /// A token was shown, and refused.
    InvalidToken,
    /// The same for a token that is bound to a key, or was shown as if it were (RFC 9449 section 7.1).
    DPoPToken,
    /// The proof beside a token was refused.
    DPoPProof,
    /// The proof beside a token needs the server's nonce (RFC 9449 section 9).
    DPoPNonce,
    /// A good token, but not for this (RFC 6750 section 3.1): a 403 asks for more too.
    Scope,
    /// A client authenticates, in whichever way. Not `Basic`: a browser would open its own dialog.
    Client,
    /// A client authenticated by HTTP Basic, and failed (RFC 6749 section 5.2).
    Basic,
}

impl Challenge {
    /// What a 401 (or 403) of this error asks for.
    pub fn of(error: &Error) -> Self {
        match error.code {
            Code::InvalidClient => Self::Client,
            // a sign-in that was refused showed no token
            Code::Unauthenticated | Code::InvalidCredentials => Self::Bearer,
            Code::UseDpopNonce => Self::DPoPNonce,
            Code::InvalidDpopProof => Self::DPoPProof,
            // a bound token that came without its proof, as a bearer's
            Code::InvalidToken if error.field.as_deref() == Some("DPoP") => Self::DPoPToken,
            Code::InsufficientScope => Self::Scope,
            _ => Self::InvalidToken,
        }
    }

    /// The header's value.
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Bearer => "Bearer realm=\"passerby\"",
            Self::InvalidToken => "Bearer realm=\"passerby\", error=\"invalid_token\"",
            Self::DPoPToken => "DPoP error=\"invalid_token\", algs=\"ES256 EdDSA RS256\"",
            Self::DPoPProof => "DPoP error=\"invalid_dpop_proof\", algs=\"ES256 EdDSA RS256\"",
            Self::DPoPNonce => "DPoP error=\"use_dpop_nonce\", algs=\"ES256 EdDSA RS256\"",
            Self::Scope => "Bearer realm=\"passerby\", error=\"insufficient_scope\"",
            Self::Client => "Bearer realm=\"passerby\", error=\"invalid_client\"",
            Self::Basic => "Basic realm=\"passerby\", charset=\"UTF-8\"",
        })
    }

    /// What an answer of this status carries.
    pub fn for_status(self, status: StatusCode) -> Option<HeaderValue> {
        let asks = match status {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN => self == Self::Scope,
            _ => false,
        };
        asks.then(|| self.value())
    }
}

#[cfg(test)]
mod tests {
    use passerby_jose::Algorithm;

    use super::*;

    #[test]
    fn every_algorithm_of_proofs_is_named() {
        let all = format!("algs=\"{}\"", Algorithm::ALL.map(Algorithm::as_str).join(" "));
        for challenge in [Challenge::DPoPToken, Challenge::DPoPProof, Challenge::DPoPNonce] {
            assert!(challenge.value().to_str().unwrap().ends_with(&all), "{challenge:?}");
        }
    }

    #[test]
    fn only_a_401_and_a_missing_scope_ask() {
        assert!(Challenge::Bearer.for_status(StatusCode::UNAUTHORIZED).is_some());
        assert!(Challenge::Bearer.for_status(StatusCode::FORBIDDEN).is_none());
        assert!(Challenge::Scope.for_status(StatusCode::FORBIDDEN).is_some());
        assert!(Challenge::DPoPProof.for_status(StatusCode::BAD_REQUEST).is_none());
    }
}
