//! Errors as HTTP answers: challenges of RFC 6750 section 3 and RFC 9449 section 7.1, the body of RFC 9457.

use std::fmt::Write as _;

use http::{
    HeaderMap, HeaderValue, Response,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;

use crate::{
    Error, TokenFault, Verifier,
    verifier::{Scheme, scheme},
};

/// When to ask again while something is lacking, in seconds.
const WAIT: HeaderValue = HeaderValue::from_static("5");

impl Verifier {
    /// The whole answer to a request with these headers: status, challenge, and a body of `application/problem+json`
    /// with a `code`.
    pub fn refusal<B: From<String>>(&self, error: &Error, request: &HeaderMap) -> Response<B> {
        let status = error.status();
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "code": error.code(), "detail": error.to_string(),
        });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Error::Unavailable(_) = error {
            headers.insert(RETRY_AFTER, WAIT);
        }
        for challenge in self.challenges(error, request) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// Without a token every scheme that is taken here; else the one that is to be used with it.
    fn challenges(&self, error: &Error, request: &HeaderMap) -> Vec<HeaderValue> {
        let Some(name) = error.challenge() else {
            return match error {
                Error::NoToken if self.dpop_algorithms().is_some() => {
                    self.challenge(Scheme::Bearer, "").into_iter().chain(self.challenge(Scheme::DPoP, "")).collect()
                }
                Error::NoToken => self.challenge(Scheme::Bearer, "").into_iter().collect(),
                _ => Vec::new(),
            };
        };
        let mut told = format!("error=\"{name}\"");
        match error {
            Error::Scope(scopes) => {
                // RFC 6749 section 3.3; what is written otherwise would break the header
                if scopes.bytes().all(|b| matches!(b, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
                    let _ = write!(told, ", scope=\"{scopes}\"");
                }
            }
            // none of these has a character that would need an escape
            other => {
                let _ = write!(told, ", error_description=\"{other}\"");
            }
        }
        let shown = request.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|text| scheme(text.split(' ').next().unwrap_or_default())).unwrap_or(Scheme::Bearer);
        let wanted = match error {
            Error::Token(TokenFault::Bound) if self.dpop_algorithms().is_some() => Scheme::DPoP,
            Error::Token(TokenFault::Unbound | TokenFault::BindingUnsupported) => Scheme::Bearer,
            _ => shown,
        };
        self.challenge(wanted, &told).into_iter().collect()
    }

    fn challenge(&self, scheme: Scheme, told: &str) -> Option<HeaderValue> {
        let mut text = match scheme {
            Scheme::Bearer => "Bearer".to_owned(),
            Scheme::DPoP => "DPoP".to_owned(),
        };
        let mut separator = " ";
        if !told.is_empty() {
            let _ = write!(text, " {told}");
            separator = ", ";
        }
        if let (Scheme::DPoP, Some(algorithms)) = (scheme, self.dpop_algorithms()) {
            let names: Vec<&str> = algorithms.iter().map(|a| a.as_str()).collect();
            let _ = write!(text, "{separator}algs=\"{}\"", names.join(" "));
        }
        HeaderValue::from_str(&text).ok()
    }
}
