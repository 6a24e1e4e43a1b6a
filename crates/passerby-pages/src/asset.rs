//! Embedded files and how they are answered.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    body::Bytes,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(crate) const STYLE: &str = "text/css; charset=utf-8";
pub(crate) const PICTURE: &str = "image/svg+xml";

/// Nothing but our own files: no inline script or style, no frame around the page, no form that leaves it. `also` is
/// one more origin that scripts may call.
pub(crate) fn policy(also: Option<&str>) -> HeaderValue {
    let (space, also) = also.map_or(("", ""), |origin| (" ", origin));
    let text = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{space}{also}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(text).expect("an origin is plain ASCII")
}

/// One file, ready to be sent.
#[derive(Clone)]
pub(crate) struct Asset {
    kind: &'static str,
    policy: HeaderValue,
    tag: HeaderValue,
    body: Bytes,
}

impl Asset {
    pub(crate) fn new(kind: &'static str, policy: &HeaderValue, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        // The keys of this hasher are fixed, so that replicas of one build agree; a tag need not withstand an attacker.
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("hexadecimal digits are ASCII");
        Self { kind, policy: policy.clone(), tag, body }
    }

    /// The file, or 304 to whoever has it. It may be kept, and must be asked for each time.
    pub(crate) fn answer(&self, request: &HeaderMap) -> Response {
        let common = [
            (ETAG, self.tag.clone()),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, self.policy.clone()),
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

/// Text for an attribute value of HTML in double quotes.
pub(crate) fn escape(text: &str) -> String {
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
pub(crate) mod tests {
    use axum::{Router, body::Body};
    use http::{Method, Request, header::SET_COOKIE};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    /// One request to a router.
    pub(crate) async fn ask(
        router: Router,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:9011");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let (parts, body) = router.oneshot(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// What holds for every file that a router serves, named with its kind.
    pub(crate) async fn check(router: Router, files: &[(&str, &str)], policy: &HeaderValue) {
        for (path, kind) in files {
            let (status, headers, body) = ask(router.clone(), Method::GET, path, &[]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert_eq!(headers[CONTENT_TYPE], kind, "{path}");
            assert_eq!(headers[CONTENT_SECURITY_POLICY], policy, "{path}");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer", "{path}");
            assert_eq!(headers[CACHE_CONTROL], "no-cache", "{path}");
            assert!(!headers.contains_key(SET_COOKIE), "a look at {path} leaves no cookie");
            assert!(!body.is_empty() && !body.contains("{{"), "{path}: a placeholder is left");
            if *kind == HTML {
                for inline in [" style=", "<style", "<script>", " onclick=", " onload=", "javascript:"] {
                    assert!(!body.contains(inline), "{path}: inline {inline}");
                }
            }

            let (status, headers, body) = ask(router.clone(), Method::HEAD, path, &[]).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "{path}");
            assert_eq!(headers[CONTENT_TYPE], kind, "{path}");

            let tag = headers[ETAG].to_str().expect("a tag").to_owned();
            for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
                let known = [("if-none-match", known.as_str())];
                let (status, headers, body) = ask(router.clone(), Method::GET, path, &known).await;
                assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known:?}");
                assert_eq!(headers[ETAG], tag.as_str(), "{path}");
            }
            let (status, ..) = ask(router.clone(), Method::GET, path, &[("if-none-match", "\"other\"")]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            let (status, ..) = ask(router.clone(), Method::POST, path, &[]).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }

    #[test]
    fn a_policy_lets_out_to_one_more_origin_at_most() {
        let own = policy(None);
        assert!(own.to_str().unwrap().contains("connect-src 'self';"));
        let also = policy(Some("http://127.0.0.1:9012"));
        assert!(also.to_str().unwrap().contains("connect-src 'self' http://127.0.0.1:9012;"));
        for text in [own.to_str().unwrap(), also.to_str().unwrap()] {
            assert!(text.starts_with("default-src 'none'; script-src 'self';") && !text.contains("unsafe"));
        }
    }

    #[test]
    fn escaped_for_an_attribute() {
        assert_eq!(escape(r#""><script>'&é"#), "&quot;&gt;&lt;script&gt;&#39;&amp;é");
    }
}
