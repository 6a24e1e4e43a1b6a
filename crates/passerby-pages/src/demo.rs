//! The demo page (`/demo`): a video whose views are counted for a guest nobody asked to register.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

const PAGE: &str = include_str!("../assets/demo/index.html");
const SCRIPT: &str = include_str!("../assets/demo/app.js");
const WIRE: &str = include_str!("../assets/demo/wire.js");
const STYLE: &str = include_str!("../assets/demo/style.css");
const ICON: &str = include_str!("../assets/demo/icon.svg");

/// Stands in the page where the client's id goes.
const CLIENT_ID: &str = "{{client_id}}";

/// Nothing but our own files: no inline script or style, no frame around the page, no form that leaves it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Both names of the session cookie (`design/api.md`, Callers). A browser refuses the `__Host-` one over plain http,
/// which does no harm: it cannot hold it there either.
const CLEARED: [&str; 2] = [
    "passerby_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
    "__Host-passerby_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure",
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The routes of the demo page, for development only.
///
/// `client_id` is the client in whose name the page makes guests. Served are `GET /demo` with its script, style and
/// icon below `/demo/`, and `POST /demo/forget`, which clears the session cookie as a visitor who clears the browser's
/// data does: the session itself lives on. As the cookie is out of a script's reach, the server has to do that; it
/// answers 204, or 403 `cross_site` where the browser does not say that the page itself asked.
pub fn demo<S: Clone + Send + Sync + 'static>(client_id: &str) -> Router<S> {
    let page = PAGE.replace(CLIENT_ID, &escape(client_id));
    let files = [
        ("/demo", "text/html; charset=utf-8", page),
        ("/demo/app.js", "text/javascript; charset=utf-8", SCRIPT.to_owned()),
        ("/demo/wire.js", "text/javascript; charset=utf-8", WIRE.to_owned()),
        ("/demo/style.css", "text/css; charset=utf-8", STYLE.to_owned()),
        ("/demo/icon.svg", "image/svg+xml", ICON.to_owned()),
    ];
    files
        .into_iter()
        .map(|(path, kind, body)| (path, Asset::new(kind, body)))
        .fold(Router::new(), |router, (path, asset)| {
            router.route(path, get(move |headers: HeaderMap| std::future::ready(asset.answer(&headers))))
        })
        .route("/demo/forget", post(forget))
}

/// One embedded file, ready to be sent.
#[derive(Clone)]
struct Asset {
    kind: &'static str,
    tag: HeaderValue,
    body: axum::body::Bytes,
}

impl Asset {
    fn new(kind: &'static str, body: String) -> Self {
        // The keys of this hasher are fixed, so that replicas of one build agree; a tag need not withstand an attacker.
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let tag =
            HeaderValue::from_str(&format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits are ASCII");
        Self { kind, tag, body: body.into() }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let common = [
            (ETAG, self.tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if self.is_known_to(request) {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(CONTENT_TYPE, self.kind)], self.body.clone()).into_response()
    }

    /// Weak comparison, as RFC 9110 section 13.1.2 asks for `If-None-Match`.
    fn is_known_to(&self, request: &HeaderMap) -> bool {
        request
            .get_all(IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag.as_bytes() == self.tag.as_bytes())
    }
}

async fn forget(uri: Uri, headers: HeaderMap) -> Response {
    if !is_same_origin(&uri, &headers) {
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": "Forbidden",
            "status": 403,
            "detail": "Only the demo page itself may forget its cookie.",
            "code": "cross_site",
        });
        let headers = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        return (StatusCode::FORBIDDEN, headers, problem.to_string()).into_response();
    }
    let mut answer = (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response();
    for cookie in CLEARED {
        answer.headers_mut().append(SET_COOKIE, HeaderValue::from_static(cookie));
    }
    answer
}

/// Whether the browser says that a page of this very host asked.
///
/// `Sec-Fetch-Site` decides where it is sent, as no script can set it and no proxy on the way disturbs it. Browsers
/// leave it out over plain http to anything but localhost (a phone in the same network); there `Origin` must name the
/// host that was asked.
fn is_same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    // HTTP/2 carries the host in the URI.
    let host = uri.authority().map(http::uri::Authority::as_str).or_else(|| headers.get(HOST)?.to_str().ok());
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let origin = origin.and_then(|value| value.strip_prefix("https://").or_else(|| value.strip_prefix("http://")));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Text for an attribute value of HTML in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::ALLOW;
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        ask_of("demo-spa", method, path, headers).await
    }

    async fn ask_of(
        client_id: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:9011");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let (parts, body) = demo::<()>(client_id).oneshot(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
    }

    const PATHS: [(&str, &str); 5] = [
        ("/demo", "text/html; charset=utf-8"),
        ("/demo/app.js", "text/javascript; charset=utf-8"),
        ("/demo/wire.js", "text/javascript; charset=utf-8"),
        ("/demo/style.css", "text/css; charset=utf-8"),
        ("/demo/icon.svg", "image/svg+xml"),
    ];

    #[tokio::test]
    async fn every_file_is_served_with_its_kind_and_the_strict_headers() {
        for (path, kind) in PATHS {
            let (status, headers, body) = ask(Method::GET, path, &[]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert_eq!(headers[CONTENT_TYPE], kind, "{path}");
            assert_eq!(headers[CONTENT_SECURITY_POLICY], POLICY, "{path}");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer", "{path}");
            assert_eq!(headers[CACHE_CONTROL], "no-cache", "{path}");
            assert!(!headers.contains_key(SET_COOKIE), "a look at {path} leaves no cookie");
            assert!(!body.is_empty(), "{path}");

            let (status, headers, body) = ask(Method::HEAD, path, &[]).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "{path}");
            assert_eq!(headers[CONTENT_TYPE], kind, "{path}");
        }
    }

    #[tokio::test]
    async fn a_known_tag_answers_304_without_a_body() {
        for (path, _) in PATHS {
            let (_, headers, _) = ask(Method::GET, path, &[]).await;
            let tag = headers[ETAG].to_str().expect("a tag").to_owned();
            for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
                let (status, headers, body) = ask(Method::GET, path, &[("if-none-match", &known)]).await;
                assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known}");
                assert_eq!(headers[ETAG], tag.as_str(), "{path}");
            }
            let (status, ..) = ask(Method::GET, path, &[("if-none-match", "\"other\"")]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }

    #[tokio::test]
    async fn the_client_id_reaches_the_page_escaped_and_changes_its_tag() {
        let (_, plain, body) = ask(Method::GET, "/demo", &[]).await;
        assert!(body.contains(r#"<meta name="passerby-client-id" content="demo-spa">"#));
        assert!(!body.contains("{{"));

        let (_, odd, body) = ask_of(r#""><script>'&"#, Method::GET, "/demo", &[]).await;
        assert!(body.contains(r#"content="&quot;&gt;&lt;script&gt;&#39;&amp;">"#));
        assert_ne!(plain[ETAG], odd[ETAG]);
    }

    #[tokio::test]
    async fn the_page_has_nothing_inline_that_the_policy_would_refuse() {
        for (path, _) in PATHS {
            let (.., body) = ask(Method::GET, path, &[]).await;
            assert!(!body.contains("{{"), "{path}: a placeholder is left");
            for outside in ["http:", "https:"] {
                let found = body.replace("http://www.w3.org/2000/svg", "");
                assert!(!found.contains(outside), "{path} reaches out by {outside}");
            }
        }
        for inline in [" style=", "<style", "<script>", " onclick=", " onload=", "javascript:"] {
            assert!(!PAGE.contains(inline), "inline {inline}");
        }
    }

    #[tokio::test]
    async fn forget_clears_both_cookies_for_the_page_itself() {
        for headers in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "http://localhost:9011")],
            &[("origin", "https://LOCALHOST:9011")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://public.example.com")],
        ] {
            let (status, answer, body) = ask(Method::POST, "/demo/forget", headers).await;
            assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""), "{headers:?}");
            let cookies: Vec<_> = answer.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(cookies, CLEARED, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn forget_is_refused_to_everybody_else() {
        for headers in [
            &[][..],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:9011")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null")],
            &[("origin", "http://localhost:9012")],
            &[("origin", "http://evil.example")],
            &[("origin", "localhost:9011")],
        ] {
            let (status, answer, body) = ask(Method::POST, "/demo/forget", headers).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
            assert_eq!(answer[CONTENT_TYPE], "application/problem+json");
            assert!(!answer.contains_key(SET_COOKIE), "{headers:?}");
            let problem: serde_json::Value = serde_json::from_str(&body).expect("a problem");
            assert_eq!(problem["code"], "cross_site");
        }
        let (status, answer, _) = ask(Method::GET, "/demo/forget", &[("sec-fetch-site", "same-origin")]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer[ALLOW], "POST");
    }
}
