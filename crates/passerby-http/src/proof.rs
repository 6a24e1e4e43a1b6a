//! DPoP at the door (RFC 9449): the proof and the request that it must name, the server's nonce, and the challenge for
//! who shows a token under that scheme. A request without `DPoP` or `Authorization: DPoP` costs two look-ups in its
//! headers. What a proof must say is for the core.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{AUTHORIZATION, CACHE_CONTROL, FORWARDED, WWW_AUTHENTICATE},
    request::Parts,
    uri::PathAndQuery,
};
use passerby_core::caller::ProofClaim;

use crate::{App, Challenge, address::is_trusted_peer, answer::NO_STORE, header, tenant::host_of, visit::peer};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request with a proof was sent, before the tenant's prefix is taken off: an extension of such requests.
#[derive(Debug, Clone)]
struct Asked {
    target: Option<PathAndQuery>,
    peer: IpAddr,
}

/// What a request shows of RFC 9449.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// A proof, or an access token under the scheme.
    any: bool,
    /// An access token under the scheme.
    scheme: bool,
}

impl Shown {
    /// Looks at the headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let scheme = headers.get_all(AUTHORIZATION).iter().any(|value| is_scheme(value.as_bytes()));
        Self { any: scheme || headers.contains_key(DPOP), scheme }
    }

    /// Keeps where the request was sent. To be called before its path is cut.
    pub(crate) fn keep_target<B>(self, peer: IpAddr, request: &mut http::Request<B>) {
        if self.any {
            let target = request.uri().path_and_query().cloned();
            request.extensions_mut().insert(Asked { target, peer });
        }
    }

    /// Gives the next proof its nonce, whatever the status, and lets no cache keep it (RFC 9449 section 8.2). Who used
    /// the scheme is asked to use it again, whichever door refused the token (section 7.1).
    pub(crate) fn answer(self, app: &App, status: StatusCode, headers: &mut HeaderMap) {
        if !self.any {
            return;
        }
        // base64url, so it always is a header's value
        if let Ok(nonce) = HeaderValue::try_from(app.core().dpop_nonce()) {
            headers.insert(DPOP_NONCE, nonce);
            headers.insert(CACHE_CONTROL, NO_STORE);
        }
        if self.scheme
            && status == StatusCode::UNAUTHORIZED
            && headers.get(WWW_AUTHENTICATE) == Some(&Challenge::InvalidToken.value())
        {
            headers.insert(WWW_AUTHENTICATE, Challenge::DPoPToken.value());
        }
    }
}

/// Whether a value of `Authorization` names the scheme, in any case of letters.
fn is_scheme(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    value.split_first_chunk::<4>().is_some_and(|(scheme, rest)| {
        scheme.eq_ignore_ascii_case(b"dpop") && rest.first().is_none_or(u8::is_ascii_whitespace)
    })
}

/// The proof of a request, with what it must be for.
pub(crate) fn claim<'a>(app: &App, parts: &'a Parts) -> Option<ProofClaim<'a>> {
    let mut proofs = parts.headers.get_all(DPOP).iter();
    let first = proofs.next()?;
    let jwt = if proofs.next().is_none() { first.to_str().ok() } else { None };
    // without the outer service (tests) nothing was cut off
    let (path, peer) = match parts.extensions.get::<Asked>() {
        Some(asked) => (asked.target.as_ref().map_or("/", PathAndQuery::path), asked.peer),
        None => (parts.uri.path(), peer(&parts.extensions)),
    };
    let own_origin = own_origin(app, peer, &parts.uri, &parts.headers);
    Some(ProofClaim { jwt, method: parts.method.as_str(), path, own_origin })
}

/// In development: scheme and host that the request itself names. Elsewhere they are the issuer's, whatever a header says.
fn own_origin<'a>(app: &App, peer: IpAddr, uri: &'a Uri, headers: &'a HeaderMap) -> Option<(&'static str, &'a str)> {
    if !app.http().dev {
        return None;
    }
    let forwarded = if is_trusted_peer(peer, &app.http().trusted_proxies) {
        Forwarded::read(headers).ok()?
    } else {
        Forwarded::default()
    };
    let scheme = match forwarded.scheme.or(uri.scheme_str()) {
        Some(scheme) => ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?,
        None if app.http().tls => "https",
        None => "http",
    };
    let host = forwarded.host.or_else(|| host_of(uri, headers))?;
    // a name and a port: nothing that could end the origin and begin something else
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/\\?#@\"<>^`{|}%".contains(&b));
    (plain && !host.contains("://")).then_some((scheme, host))
}

/// Headers that name several values, cannot be read, or disagree: nobody knows which one is the proxy's and which the
/// visitor's.
#[derive(Debug)]
struct Ambiguous;

/// What a proxy says about the request that it got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Forwarded<'a> {
    scheme: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    /// `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` (RFC 7239).
    fn read(headers: &'a HeaderMap) -> Result<Self, Ambiguous> {
        let mut said = Self { scheme: one(headers, &X_FORWARDED_PROTO)?, host: one(headers, &X_FORWARDED_HOST)? };
        for pair in one(headers, &FORWARDED)?.into_iter().flat_map(|element| element.split(';')) {
            let (name, value) = pair.split_once('=').ok_or(Ambiguous)?;
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            let place = match name.trim() {
                name if name.eq_ignore_ascii_case("proto") => &mut said.scheme,
                name if name.eq_ignore_ascii_case("host") => &mut said.host,
                _ => continue,
            };
            if place.replace(value).is_some_and(|before| !before.eq_ignore_ascii_case(value)) {
                return Err(Ambiguous);
            }
        }
        Ok(said)
    }
}

/// The one value of a header that may hold a list.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Ambiguous> {
    let Some(value) = header::one(headers, name, "").map_err(|_| Ambiguous)?.map(str::trim) else { return Ok(None) };
    if value.is_empty() || value.contains(',') { Err(Ambiguous) } else { Ok(Some(value)) }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, request::Builder};

    use super::*;
    use crate::{HttpSettings, testing::app};

    const PROXY: &str = "10.0.0.1";
    const STRANGER: &str = "192.0.2.1";

    async fn dev(tls: bool) -> App {
        app(HttpSettings {
            dev: true,
            tls,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..HttpSettings::default()
        })
        .await
    }

    fn asked(path: &str) -> Builder {
        Request::builder().uri(path).header("host", "dev.example:8080").header("dpop", "p")
    }

    /// What a handler would see of the proof, past the outer service.
    fn see(app: &App, peer: &str, request: Builder) -> (Option<String>, String, Option<String>) {
        let mut request = request.body(Body::empty()).unwrap();
        Shown::of(request.headers()).keep_target(peer.parse().unwrap(), &mut request);
        let (mut parts, _) = request.into_parts();
        // as the tenant's prefix is taken off
        let mut cut = parts.uri.into_parts();
        cut.path_and_query = Some("/v1/me?x=1".parse().unwrap());
        parts.uri = Uri::from_parts(cut).unwrap();
        let claim = claim(app, &parts).unwrap();
        assert_eq!(claim.method, "GET");
        (
            claim.jwt.map(Into::into),
            claim.path.into(),
            claim.own_origin.map(|(scheme, host)| format!("{scheme}://{host}")),
        )
    }

    fn origin(app: &App, peer: &str, lines: &[(&str, &str)]) -> Option<String> {
        see(app, peer, lines.iter().fold(asked("/v1/me"), |r, (name, value)| r.header(*name, *value))).2
    }

    #[tokio::test]
    async fn the_path_is_the_one_that_was_asked_for() {
        let app = app(HttpSettings::default()).await;
        for (uri, path) in [
            ("/t/1/v1/me?x=1", "/t/1/v1/me"),
            ("/v1/me", "/v1/me"),
            ("https://h.example/t/1/v1/me?", "/t/1/v1/me"),
            ("/v1/me%2Fx", "/v1/me%2Fx"),
        ] {
            assert_eq!(see(&app, STRANGER, asked(uri)), (Some("p".into()), path.into(), None), "{uri}");
        }
    }

    #[tokio::test]
    async fn one_proof_that_is_text() {
        let app = app(HttpSettings::default()).await;
        assert_eq!(see(&app, STRANGER, asked("/").header("dpop", "p")).0, None, "two, though they are equal");
        let bytes = Request::builder().header("dpop", HeaderValue::from_bytes(b"a\xffb").unwrap());
        assert_eq!(see(&app, STRANGER, bytes).0, None);
        assert_eq!(see(&app, STRANGER, Request::builder().header("dpop", "")).0.as_deref(), Some(""));
        let (parts, ()) = Request::new(()).into_parts();
        assert!(claim(&app, &parts).is_none());
        let (bare, ()) = asked("/v1/me?x").body(()).unwrap().into_parts();
        assert_eq!(claim(&app, &bare).unwrap().path, "/v1/me", "a router that is asked without the outer service");
    }

    #[tokio::test]
    async fn own_origin_in_development_only() {
        let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example")];
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let live = app(HttpSettings { trusted_proxies, ..HttpSettings::default() }).await;
        assert_eq!(origin(&live, PROXY, &forwarded), None);
        let (dev, dev_tls) = (dev(false).await, dev(true).await);
        assert_eq!(origin(&dev, STRANGER, &[]).as_deref(), Some("http://dev.example:8080"));
        assert_eq!(origin(&dev_tls, STRANGER, &[]).as_deref(), Some("https://dev.example:8080"));
        assert_eq!(origin(&dev, PROXY, &forwarded).as_deref(), Some("https://shop.example"));
        let absolute = Request::builder().uri("https://two.example/v1/me").header("dpop", "p");
        assert_eq!(see(&dev, STRANGER, absolute).2.as_deref(), Some("https://two.example"), "HTTP/2 names both");
        assert_eq!(see(&dev, STRANGER, Request::builder().header("dpop", "p")).2, None, "no host");
        for host in ["a@b", "a/b", "a b", "a?b", "a#b", "", "http://a", "a\\b"] {
            let request = Request::builder().header("dpop", "p").header("host", host);
            assert_eq!(see(&dev, STRANGER, request).2, None, "{host:?}");
        }
    }

    /// Security checklist 3 and 36: forwarding headers count from configured proxies only.
    #[tokio::test]
    async fn forwarded_host_and_scheme_of_strangers_do_not_count() {
        let dev = dev(false).await;
        let own = Some("http://dev.example:8080");
        for lines in [
            &[("x-forwarded-host", "evil.example")][..],
            &[("x-forwarded-proto", "https")],
            &[("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")],
            &[("forwarded", "host=evil.example;proto=https")],
        ] {
            assert_eq!(origin(&dev, STRANGER, lines).as_deref(), own, "{lines:?}");
            assert_ne!(origin(&dev, PROXY, lines).as_deref(), own, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn forms_of_forwarding() {
        let dev = dev(false).await;
        for (lines, expected) in [
            (&[("x-forwarded-proto", "HTTPS")][..], Some("https://dev.example:8080")),
            (&[("x-forwarded-host", "a.example:8443")], Some("http://a.example:8443")),
            (&[("forwarded", "for=192.0.2.7;Proto=https;Host=\"a.example:8443\"")], Some("https://a.example:8443")),
            (&[("forwarded", "for=192.0.2.7")], Some("http://dev.example:8080")),
            (&[("forwarded", "proto=https"), ("x-forwarded-proto", "https")], Some("https://dev.example:8080")),
            (&[("forwarded", "proto=http"), ("x-forwarded-proto", "https")], None),
            (&[("forwarded", "host=a.example"), ("x-forwarded-host", "b.example")], None),
            (&[("forwarded", "host=a.example, host=b.example")], None),
            (&[("forwarded", "host=a.example;host=b.example")], None),
            (&[("forwarded", "nonsense")], None),
            (&[("x-forwarded-host", "a.example, b.example")], None),
            (&[("x-forwarded-host", "a.example"), ("x-forwarded-host", "a.example")], None),
            (&[("x-forwarded-host", "")], None),
            (&[("x-forwarded-host", "a@b")], None),
            (&[("x-forwarded-proto", "ftp")], None),
        ] {
            assert_eq!(origin(&dev, PROXY, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_scheme_in_any_case() {
        for value in ["DPoP x", "dpop x", "DPOP", " DPoP x", "DPoP\tx"] {
            assert!(is_scheme(value.as_bytes()), "{value:?}");
        }
        for value in ["", "DPo", "DPoPx", "DPoP-x y", "Bearer DPoP x", "Basic x"] {
            assert!(!is_scheme(value.as_bytes()), "{value:?}");
        }
    }
}
