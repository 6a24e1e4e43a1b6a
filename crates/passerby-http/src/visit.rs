//! Who asks and from where, as the outer service found it before routing.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{CONTENT_TYPE, ORIGIN},
    request::Parts,
};
use passerby_core::{
    caller::{Access, Caller, Site},
    id::TenantNo,
};

use crate::{
    App, Authorization, MediaType, Problem, Refusal, address::client_address, cookies, proof, tenant::host_of,
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// One request's visitor: an extension of the request, put there by the outer service; handlers take it as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The true client address.
    pub address: IpAddr,
    /// The tenant that path or host names.
    pub tenant: Option<TenantNo>,
}

impl Visit {
    /// For a router that is asked without the outer service (tests): the peer of the connection, no tenant.
    pub(crate) fn bare(app: &App, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let address = client_address(peer(extensions), headers, &app.http().trusted_proxies);
        Self { address, tenant: None }
    }

    /// The caller as use cases take it.
    pub fn caller<'a>(&self, app: &App, parts: &'a Parts) -> Caller<'a> {
        let site = site(parts, |origin| {
            origin == app.tables().own_origin(self.tenant)
                || (app.http().dev && is_own_host(origin, &parts.uri, &parts.headers))
        });
        Caller { tenant: self.tenant, address: self.address, site, proof: proof::claim(app, parts) }
    }

    /// Whether the tenant's issuer is https: then its cookie is Secure and bears the `__Host-` name.
    pub fn secure(&self, app: &App) -> bool {
        app.tables().secure(self.tenant)
    }

    /// The session cookie of the tenant's host, when there is one.
    pub fn cookie<'a>(&self, app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
        cookies::read(headers, || self.secure(app))
    }

    /// Access token and cookie of a request to the caller's own things; a method other than GET and HEAD changes.
    ///
    /// # Errors
    /// 401 `invalid_token` for `Basic`: it names a client, and here a session is asked; 415 for a change by cookie whose
    /// body is not JSON.
    pub fn access<'a>(
        &self,
        app: &App,
        parts: &'a Parts,
        authorization: &Authorization<'a>,
    ) -> Result<Access<'a>, Problem> {
        if authorization.basic().is_some() {
            return Err(Problem::invalid_token("A session's access token goes here."));
        }
        let token = authorization.access_token();
        // another credential wins over the cookie
        let cookie = if token.is_some() { None } else { self.cookie(app, &parts.headers) };
        let change = !is_safe(&parts.method);
        // what a foreign page's form can send is not JSON
        if change && cookie.is_some() && parts.headers.contains_key(CONTENT_TYPE) {
            match MediaType::of(&parts.headers) {
                MediaType::Json | MediaType::MergePatch | MediaType::JsonPatch => {}
                MediaType::Form | MediaType::Other => {
                    return Err(Refusal::UnsupportedMediaType("application/json").into());
                }
            }
        }
        Ok(Access { token, cookie, change })
    }
}

impl FromRequestParts<App> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let visit = parts.extensions.get::<Self>().copied();
        Ok(visit.unwrap_or_else(|| Self::bare(app, &parts.headers, &parts.extensions)))
    }
}

/// The peer of the connection; without one (tests) the loopback.
pub(crate) fn peer(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| address.ip())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Where a request comes from, as browsers tell. `Origin` is believed before `Sec-Fetch-Site`.
fn site(parts: &Parts, is_ours: impl FnOnce(&str) -> bool) -> Site<'_> {
    let headers = &parts.headers;
    let mut origins = headers.get_all(ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let Ok(origin) = origin.to_str() else { return Site::Cross };
        if origins.next().is_some() {
            return Site::Cross;
        }
        return if is_ours(origin) { Site::Same } else { Site::Origin(origin) };
    }
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        None => Site::Unknown,
        Some(b"same-origin") => Site::Same,
        // typed into the address bar
        Some(b"none") if is_safe(&parts.method) => Site::Unknown,
        Some(_) => Site::Cross,
    }
}

fn is_own_host(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let bare = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    bare.is_some() && bare == host_of(uri, headers)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{app::Tables, testing::settings};

    fn ask(method: Method, dev: bool, tenant: Option<i32>, headers: &[(&'static str, &'static str)]) -> String {
        let mut request = Request::builder().method(method).uri("/v1/me").header("host", "dev.example:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let tables = Tables::new(&settings().into());
        let own = tables.own_origin(tenant.map(TenantNo));
        let ours = |origin: &str| origin == own || (dev && is_own_host(origin, &parts.uri, &parts.headers));
        format!("{:?}", site(&parts, ours))
    }

    #[test]
    fn origins() {
        let post = |tenant, dev, origin| ask(Method::POST, dev, tenant, &[("origin", origin)]);
        assert_eq!(post(None, false, "https://first.example"), "Same");
        assert_eq!(post(Some(2), false, "https://first.example"), "Same", "the second lives on the first one's host");
        assert_eq!(post(Some(3), false, "https://first.example"), "Origin(\"https://first.example\")");
        assert_eq!(post(Some(3), false, "https://third.example"), "Same");
        assert_eq!(post(None, false, "https://third.example"), "Origin(\"https://third.example\")");
        for origin in [
            "null",
            "http://first.example",
            "https://first.example:444",
            "https://first.example.evil",
            "https://app.first.example",
        ] {
            assert_eq!(post(None, false, origin), format!("Origin({origin:?})"));
        }
        assert_eq!(post(None, true, "http://dev.example:8080"), "Same");
        assert_eq!(post(None, false, "http://dev.example:8080"), "Origin(\"http://dev.example:8080\")");
        assert_eq!(post(None, true, "http://dev.example:8081"), "Origin(\"http://dev.example:8081\")");
        assert_eq!(post(None, true, "dev.example:8080"), "Origin(\"dev.example:8080\")");
        let two = [("origin", "https://first.example"), ("origin", "https://evil.example")];
        assert_eq!(ask(Method::POST, false, None, &two), "Cross");
        let lie = [("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(ask(Method::POST, false, None, &lie), "Origin(\"https://evil.example\")");
    }

    #[test]
    fn fetch_metadata() {
        for (method, value, expected) in [
            (Method::POST, "same-origin", "Same"),
            (Method::GET, "same-origin", "Same"),
            (Method::GET, "none", "Unknown"),
            (Method::POST, "none", "Cross"),
            (Method::POST, "same-site", "Cross"),
            (Method::GET, "cross-site", "Cross"),
            (Method::POST, "nonsense", "Cross"),
        ] {
            assert_eq!(ask(method, false, None, &[("sec-fetch-site", value)]), expected, "{value}");
        }
        assert_eq!(ask(Method::POST, false, None, &[]), "Unknown");
    }
}
