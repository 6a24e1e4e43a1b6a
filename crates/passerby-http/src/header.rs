//! Single headers and entity tags.

use http::{HeaderMap, HeaderName, HeaderValue, header::IF_NONE_MATCH};

use crate::Refusal;

/// A header that may stand there once; `None` when it does not.
///
/// # Errors
/// [`Refusal::BadHeader`] when it stands there twice or is not visible ASCII; it names `called`, the header as
/// documents write it.
pub fn one<'a>(headers: &'a HeaderMap, name: &HeaderName, called: &'static str) -> Result<Option<&'a str>, Refusal> {
    let Some(first) = headers.get(name) else { return Ok(None) };
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Refusal::BadHeader(called));
    }
    first.to_str().map(Some).map_err(|_| Refusal::BadHeader(called))
}

/// The `Idempotency-Key` header.
///
/// # Errors
/// As [`one`].
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    const NAME: HeaderName = HeaderName::from_static("idempotency-key");
    one(headers, &NAME, "Idempotency-Key")
}

/// A version as an entity tag: `"7"`.
pub fn etag(version: i64) -> HeaderValue {
    if version == 1 {
        return HeaderValue::from_static("\"1\"");
    }
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Whether `If-None-Match` names `tag` (or anything): weak comparison, RFC 9110 section 13.1.2.
pub fn if_none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == "*" || known.as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        assert_eq!(etag(1), "\"1\"");
        assert_eq!(etag(123), "\"123\"");
        let mut headers = HeaderMap::new();
        assert!(!if_none_match(&headers, &etag(1)));
        for (sent, same) in
            [("\"1\"", true), ("W/\"1\"", true), ("\"2\", \"1\"", true), ("*", true), ("\"2\"", false), ("1", false)]
        {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(sent));
            assert_eq!(if_none_match(&headers, &etag(1)), same, "{sent}");
        }
    }

    #[test]
    fn once_only() {
        let mut headers = HeaderMap::new();
        assert_eq!(idempotency_key(&headers), Ok(None));
        headers.append("idempotency-key", HeaderValue::from_static("a"));
        assert_eq!(idempotency_key(&headers), Ok(Some("a")));
        headers.append("idempotency-key", HeaderValue::from_static("b"));
        assert_eq!(idempotency_key(&headers), Err(Refusal::BadHeader("Idempotency-Key")));
        headers.insert("idempotency-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(idempotency_key(&headers).is_err());
    }
}
