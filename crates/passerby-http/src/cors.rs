//! CORS (Fetch standard): which origins may read answers. Nothing is done for requests without `Origin`.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use passerby_core::id::TenantNo;

use crate::{Problem, app::Tables};

const ANY: HeaderValue = HeaderValue::from_static("*");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, dpop, idempotency-key, if-match, if-none-match, last-event-id, auth0-client, \
     x-requested-with",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("ETag, DPoP-Nonce, Retry-After, Date, WWW-Authenticate, Location");

/// What an answer says about who may read it.
#[derive(Debug, Clone)]
pub(crate) enum Grant {
    /// No `Origin`, and the document is not for everybody: nothing.
    Unasked,
    /// A document for everybody: keys, discovery, the API's description.
    Public,
    /// An origin that a client registered.
    Origin(HeaderValue),
    /// An origin that nobody registered, asking for something that is not public.
    Refused,
}

impl Grant {
    /// Decides by origin, path (without a tenant's prefix) and the tenant that path or host names.
    pub(crate) fn of(tables: &Tables, tenant: Option<TenantNo>, request: &Request<Body>) -> Self {
        let public = is_public(request.uri().path());
        let Some(origin) = request.headers().get(ORIGIN) else {
            return if public { Self::Public } else { Self::Unasked };
        };
        match origin.to_str() {
            Ok(text) if tables.registered(text, tenant) => Self::Origin(origin.clone()),
            _ if public => Self::Public,
            _ => Self::Refused,
        }
    }

    /// The answer to a preflight; `None` when the request is none.
    pub(crate) fn preflight(&self, request: &Request<Body>) -> Option<Response> {
        if request.method() != Method::OPTIONS
            || !request.headers().contains_key(ORIGIN)
            || !request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        if matches!(self, Self::Refused | Self::Unasked) {
            return Some(Problem::origin_not_allowed().into_response());
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(response)
    }

    /// Writes the decision into an answer, whatever its status.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        match self {
            Self::Unasked => {}
            Self::Refused => {
                headers.append(VARY, VARY_ORIGIN);
            }
            Self::Public => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
                headers.append(VARY, VARY_ORIGIN);
            }
            Self::Origin(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
                headers.append(VARY, VARY_ORIGIN);
            }
        }
    }
}

fn is_public(path: &str) -> bool {
    path.starts_with("/.well-known/") || path == "/openapi.json"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;

    fn ask(
        method: &str,
        path: &str,
        tenant: Option<i32>,
        origin: Option<&str>,
        preflight: bool,
    ) -> (Option<u16>, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        if preflight {
            request = request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        }
        let request = request.body(Body::empty()).unwrap();
        let grant = Grant::of(&Tables::new(&settings().into()), tenant.map(TenantNo), &request);
        let status = grant.preflight(&request).map(|r| r.status().as_u16());
        let mut headers = HeaderMap::new();
        grant.write(&mut headers);
        let text = |name| headers.get(name).map_or("-", |v: &HeaderValue| v.to_str().unwrap());
        (
            status,
            format!("{} {} {}", text(ACCESS_CONTROL_ALLOW_ORIGIN), text(ACCESS_CONTROL_ALLOW_CREDENTIALS), text(VARY)),
        )
    }

    #[test]
    fn matrix() {
        let app = Some("https://app.first.example");
        let other = Some("https://app.third.example");
        let evil = Some("https://evil.example");
        let read = |path, tenant, origin| ask("POST", path, tenant, origin, false).1;
        assert_eq!(read("/v1/guests", None, None), "- - -");
        assert_eq!(read("/v1/guests", None, app), "https://app.first.example true origin");
        assert_eq!(read("/v1/guests", None, other), "https://app.third.example true origin");
        assert_eq!(read("/v1/guests", Some(1), app), "https://app.first.example true origin");
        assert_eq!(read("/v1/guests", Some(3), app), "- - origin");
        assert_eq!(read("/v1/guests", None, evil), "- - origin");
        assert_eq!(read("/v1/guests", None, Some("null")), "- - origin");
        assert_eq!(read("/.well-known/jwks.json", None, None), "* - origin");
        assert_eq!(read("/.well-known/jwks.json", None, evil), "* - origin");
        assert_eq!(read("/openapi.json", None, app), "https://app.first.example true origin");
    }

    #[test]
    fn preflights() {
        let app = Some("https://app.first.example");
        assert_eq!(ask("OPTIONS", "/v1/guests", None, app, true).0, Some(204));
        assert_eq!(ask("OPTIONS", "/v1/guests", Some(3), app, true).0, Some(403));
        let evil = ask("OPTIONS", "/v1/guests", None, Some("https://evil.example"), true);
        assert_eq!(evil, (Some(403), "- - origin".into()));
        assert_eq!(ask("OPTIONS", "/.well-known/jwks.json", None, Some("https://evil.example"), true).0, Some(204));
        assert_eq!(ask("OPTIONS", "/v1/guests", None, app, false).0, None);
        assert_eq!(ask("OPTIONS", "/v1/guests", None, None, true).0, None);
        assert_eq!(ask("POST", "/v1/guests", None, app, true).0, None);
    }
}
