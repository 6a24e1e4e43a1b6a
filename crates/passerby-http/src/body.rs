//! Bodies: so long, of that media type, in time.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use crate::{App, Refusal};

/// The media type of a body, as far as any door cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`.
    Json,
    /// `application/merge-patch+json` (RFC 7396).
    MergePatch,
    /// `application/json-patch+json` (RFC 6902).
    JsonPatch,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything else, nothing, or a charset other than UTF-8.
    Other,
}

impl MediaType {
    /// What the headers say.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Self::Other };
        if value.as_bytes() == b"application/json" {
            return if is_plain(headers) { Self::Json } else { Self::Other };
        }
        let Ok(text) = value.to_str() else { return Self::Other };
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        if !is_plain(headers) || !parameters.split(';').all(is_utf_8) {
            return Self::Other;
        }
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/json" => Self::Json,
            "application/merge-patch+json" => Self::MergePatch,
            "application/json-patch+json" => Self::JsonPatch,
            "application/x-www-form-urlencoded" => Self::Form,
            _ => Self::Other,
        }
    }
}

/// One content type, and the body is as it is: compressed ones are not taken.
fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_TYPE).iter().nth(1).is_none()
        && headers.get(CONTENT_ENCODING).is_none_or(|v| v.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Any parameter but a charset that is not UTF-8.
fn is_utf_8(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    }
}

impl App {
    /// Collects a body within the limits of [`HttpSettings`](crate::HttpSettings).
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`], [`Refusal::RequestTimeout`], [`Refusal::BodyBroken`].
    pub async fn body(&self, body: Body) -> Result<Bytes, Refusal> {
        collect(body, self.http().body_limit, self.http().body_timeout).await
    }

    /// The same, of `application/json` only.
    ///
    /// # Errors
    /// Besides those, [`Refusal::UnsupportedMediaType`].
    pub async fn json_body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
        match MediaType::of(headers) {
            MediaType::Json => self.body(body).await,
            _ => Err(Refusal::UnsupportedMediaType("application/json")),
        }
    }

    /// The same where the body may be left out: empty then, whatever its media type.
    ///
    /// # Errors
    /// As for [`App::json_body`].
    pub async fn optional_json_body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
        let body = self.body(body).await?;
        if !body.is_empty() && MediaType::of(headers) != MediaType::Json {
            return Err(Refusal::UnsupportedMediaType("application/json"));
        }
        Ok(body)
    }
}

/// A body that has arrived whole costs no timer and no copy.
async fn collect(mut body: Body, limit: usize, timeout: Duration) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::BodyTooLarge(limit));
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut timer: Option<Pin<Box<tokio::time::Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            if body.is_end_stream() {
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Refusal::BodyBroken)),
                Poll::Ready(Some(Ok(frame))) => {
                    // trailers are not ours to read
                    let Ok(data) = frame.into_data() else { continue };
                    if first.len() + more.len() + data.len() > limit {
                        return Poll::Ready(Err(Refusal::BodyTooLarge(limit)));
                    }
                    if first.is_empty() && more.is_empty() {
                        first = data;
                    } else {
                        if more.is_empty() {
                            more.extend_from_slice(&std::mem::take(&mut first));
                        }
                        more.extend_from_slice(&data);
                    }
                }
                Poll::Pending => {
                    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                    return timer.as_mut().poll(cx).map(|()| Err(Refusal::RequestTimeout));
                }
            }
        }
    })
    .await?;
    Ok(if more.is_empty() { first } else { more.freeze() })
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;
    use http::HeaderValue;

    use super::*;

    fn chunks(chunks: Vec<io::Result<&'static str>>) -> Body {
        Body::from_stream(stream::iter(chunks))
    }

    async fn read(body: Body) -> Result<Bytes, Refusal> {
        collect(body, 8, Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn lengths() {
        assert_eq!(read(Body::empty()).await.unwrap(), "");
        assert_eq!(read(Body::from("12345678")).await.unwrap(), "12345678");
        assert_eq!(read(Body::from("123456789")).await, Err(Refusal::BodyTooLarge(8)));
        assert_eq!(read(chunks(vec![Ok("1234"), Ok(""), Ok("56"), Ok("78")])).await.unwrap(), "12345678");
        assert_eq!(read(chunks(vec![Ok("1234"), Ok("5678"), Ok("9")])).await, Err(Refusal::BodyTooLarge(8)));
        assert_eq!(read(chunks(vec![Ok("1234"), Err(io::Error::other("cut"))])).await, Err(Refusal::BodyBroken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let endless = Body::from_stream(stream::pending::<io::Result<&'static str>>());
        assert_eq!(read(endless).await, Err(Refusal::RequestTimeout));
    }

    #[test]
    fn media_types() {
        for (value, expected) in [
            ("application/json", MediaType::Json),
            ("Application/JSON; charset=UTF-8", MediaType::Json),
            ("application/json;charset=\"utf-8\"; version=1", MediaType::Json),
            ("application/json; charset=latin1", MediaType::Other),
            ("application/merge-patch+json", MediaType::MergePatch),
            ("application/json-patch+json; charset=utf-8", MediaType::JsonPatch),
            ("application/x-www-form-urlencoded", MediaType::Form),
            ("application/vnd.api+json", MediaType::Other),
            ("text/plain", MediaType::Other),
            ("text/json", MediaType::Other),
            ("application/jsonp", MediaType::Other),
            ("", MediaType::Other),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(MediaType::of(&headers), expected, "{value}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(MediaType::of(&headers), MediaType::Other);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(MediaType::of(&headers), MediaType::Other, "compressed bodies are not taken");
        headers.remove(CONTENT_ENCODING);
        headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(MediaType::of(&headers), MediaType::Other);
    }
}
