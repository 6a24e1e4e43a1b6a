//! How a client names itself and authenticates: by HTTP Basic, in the body, by an assertion, or by its id alone
//! (RFC 6749 section 2.3, RFC 7523 section 2.2). That it does so in one way only is for the core to say.

use http::HeaderMap;
use passerby_core::caller::ClientClaim;
use passerby_http::{Authorization, Malformed};

use crate::OAuthError;

/// What the body says about the client.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimFields<'a> {
    /// `client_id`.
    pub id: Option<&'a str>,
    /// `client_secret`.
    pub secret: Option<&'a str>,
    /// `client_assertion`.
    pub assertion: Option<&'a str>,
    /// `client_assertion_type`.
    pub assertion_type: Option<&'a str>,
}

/// What the `Authorization` header says, at an endpoint where only clients authenticate.
#[derive(Debug)]
pub struct Claim<'a>(Authorization<'a>);

impl<'a> Claim<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// 401 `invalid_client` with a `Basic` challenge for anything that is not `Basic` or not readable: a header that is
    /// there never counts as absent.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, OAuthError> {
        match Authorization::read(headers)? {
            Authorization::Bearer(_) | Authorization::DPoP(_) => Err(Malformed::Scheme.into()),
            taken => Ok(Self(taken)),
        }
    }

    /// Of a header that was read already.
    pub fn of(authorization: Authorization<'a>) -> Self {
        Self(authorization)
    }

    /// The client authenticates by HTTP Basic.
    pub fn is_basic(&self) -> bool {
        self.0.basic().is_some()
    }

    /// The whole claim, at the endpoint with this path.
    pub fn with<'c>(&'c self, fields: ClaimFields<'c>, endpoint: &'c str) -> ClientClaim<'c> {
        let ClaimFields { id, secret, assertion, assertion_type } = fields;
        ClientClaim { id, basic: self.0.basic(), secret, assertion, assertion_type, endpoint }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::AUTHORIZATION};

    use passerby_http::Challenge;

    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn basic_and_body() {
        let with = headers("Basic ZGVtbyUzQXdlYjpzJTI1Kw==");
        let claim = Claim::read(&with).unwrap();
        assert!(claim.is_basic());
        let fields = ClaimFields { id: Some("demo:web"), ..ClaimFields::default() };
        let whole = claim.with(fields, "/oauth2/token");
        assert_eq!(whole.basic, Some(("demo:web", "s%+")));
        assert_eq!((whole.id, whole.endpoint), (Some("demo:web"), "/oauth2/token"));
        let without = HeaderMap::new();
        assert!(!Claim::read(&without).unwrap().is_basic());
    }

    #[test]
    fn other_schemes_are_refused() {
        for value in ["Bearer abc", "DPoP abc", "Basic", "Basic %%", "Basic bm9jb2xvbg=="] {
            let refused = Claim::read(&headers(value)).unwrap_err();
            assert_eq!((refused.error, refused.challenge), ("invalid_client", Challenge::Basic), "{value}");
        }
    }
}
