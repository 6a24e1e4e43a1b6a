//! Which tenant a request names by its path (`/t/<id>/…`, and the form of RFC 8414 section 3.1) or by its host.
//!
//! A prefix is taken off before routing, so every door answers under it without knowing.

use axum::body::Body;
use http::{Request, Uri, header::HOST, uri::PathAndQuery};
use passerby_core::id::TenantNo;

use crate::app::Tables;

/// The path names a tenant that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownTenant;

/// Well-known documents that put the issuer's path behind their own name.
const SUFFIXED: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// Finds the tenant and takes its prefix off the path.
pub(crate) fn take_tenant(tables: &Tables, request: &mut Request<Body>) -> Result<Option<TenantNo>, UnknownTenant> {
    let path = request.uri().path();
    if let Some(rest) = path.strip_prefix("/t/") {
        let (id, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let tenant = tables.tenant_by_id(id).ok_or(UnknownTenant)?;
        let path = if rest.is_empty() { "/" } else { rest }.to_owned();
        set_path(request, &path)?;
        return Ok(Some(tenant));
    }
    if path.starts_with("/.well-known/")
        && let Some((document, id)) =
            SUFFIXED.iter().find_map(|d| Some((*d, path.strip_prefix(d)?.strip_prefix("/t/")?)))
    {
        let tenant = tables.tenant_by_id(id.strip_suffix('/').unwrap_or(id)).ok_or(UnknownTenant)?;
        set_path(request, document)?;
        return Ok(Some(tenant));
    }
    if tables.has_hosts() {
        return Ok(host(request).and_then(|host| tables.tenant_by_host(host)));
    }
    Ok(None)
}

/// The host that a request was sent to, as written: of the request line (HTTP/2), or the `Host` header.
pub(crate) fn host(request: &Request<Body>) -> Option<&str> {
    host_of(request.uri(), request.headers())
}

/// The same of its parts.
pub(crate) fn host_of<'a>(uri: &'a Uri, headers: &'a http::HeaderMap) -> Option<&'a str> {
    uri.authority().map(http::uri::Authority::as_str).or_else(|| headers.get(HOST)?.to_str().ok())
}

fn set_path(request: &mut Request<Body>, path: &str) -> Result<(), UnknownTenant> {
    let text = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| UnknownTenant)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| UnknownTenant)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FIRST, SECOND, THIRD, settings};

    fn take(uri: &str, host: Option<&'static str>) -> Result<(Option<i32>, String), UnknownTenant> {
        let tables = Tables::new(&settings().into());
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let tenant = take_tenant(&tables, &mut request)?;
        Ok((tenant.map(|t| t.0), request.uri().to_string()))
    }

    #[test]
    fn by_path() {
        assert_eq!(take("/v1/guests?x=1", None), Ok((None, "/v1/guests?x=1".into())));
        assert_eq!(take(&format!("/t/{SECOND}/v1/guests?x=1"), None), Ok((Some(2), "/v1/guests?x=1".into())));
        assert_eq!(take(&format!("/t/{FIRST}/v1/me"), None), Ok((Some(1), "/v1/me".into())));
        assert_eq!(take(&format!("/t/{SECOND}"), None), Ok((Some(2), "/".into())));
        assert_eq!(take(&format!("/t/{SECOND}/"), None), Ok((Some(2), "/".into())));
        assert_eq!(take(&format!("/t/{SECOND}/t/{FIRST}/v1/me"), None), Ok((Some(2), format!("/t/{FIRST}/v1/me"))));
        assert_eq!(
            take(&format!("http://h.example/t/{SECOND}/v1/me"), None),
            Ok((Some(2), "http://h.example/v1/me".into()))
        );
        for path in [
            "/t/",
            "/t/x/v1/me",
            "/t/44444444-4444-4444-8444-444444444444/v1/me",
            &format!("/t/{}/v1/me", SECOND.replace('-', "")),
        ] {
            assert_eq!(take(path, None), Err(UnknownTenant), "{path}");
        }
    }

    #[test]
    fn well_known_documents() {
        for document in SUFFIXED {
            assert_eq!(take(&format!("{document}/t/{SECOND}"), None), Ok((Some(2), document.into())));
            assert_eq!(take(document, None), Ok((None, document.into())));
            assert_eq!(take(&format!("{document}/t/unknown"), None), Err(UnknownTenant));
        }
        let jwks = format!("/.well-known/jwks.json/t/{SECOND}");
        assert_eq!(take(&jwks, None), Ok((None, jwks.clone())), "only the two of RFC 8414 and its kin");
    }

    #[test]
    fn by_host() {
        assert_eq!(take("/v1/me", Some("third.example")), Ok((Some(3), "/v1/me".into())));
        assert_eq!(take("/v1/me", Some("Third.Example:443")), Ok((Some(3), "/v1/me".into())));
        assert_eq!(take("https://third.example/v1/me", None), Ok((Some(3), "https://third.example/v1/me".into())));
        assert_eq!(take("/v1/me", Some("first.example")), Ok((None, "/v1/me".into())));
        assert_eq!(take("/v1/me", Some("other.example")), Ok((None, "/v1/me".into())));
        assert_eq!(
            take(&format!("/t/{SECOND}/v1/me"), Some("third.example")),
            Ok((Some(2), "/v1/me".into())),
            "the path is nearer"
        );
        assert_eq!(take(&format!("/t/{THIRD}/v1/me"), Some("first.example")), Ok((Some(3), "/v1/me".into())));
    }
}
