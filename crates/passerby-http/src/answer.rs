//! Answers written straight into one buffer. What comes from outside goes through [`Out::string`], never by hand.

use std::io::Write as _;

use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use passerby_core::Timestamp;

/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// `no-store`: what an answer with anything personal carries.
pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A JSON answer that nobody may keep.
pub fn json(status: StatusCode, body: Vec<u8>) -> Response {
    of(status, JSON, body)
}

/// An answer of a media type that nobody may keep.
pub fn of(status: StatusCode, media_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, media_type);
    headers.insert(CACHE_CONTROL, NO_STORE);
    with_headers(status, headers, body.into())
}

/// 204, or another status without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CACHE_CONTROL, NO_STORE);
    with_headers(status, headers, Body::empty())
}

fn with_headers(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// No place in a text.
const NOWHERE: usize = usize::MAX;

/// Bytes of a quoted moment: `"2026-09-21T14:13:20.123Z"`.
const TIME: usize = 26;

/// A JSON text under construction. Members are written with their punctuation by [`Out::raw`]; values by the others.
#[derive(Debug)]
pub struct Out {
    text: Vec<u8>,
    /// Moments that stand in the text already, and where: an answer about a new guest names the same two moments
    /// seven times, and printing one costs more than copying it.
    times: [(Timestamp, usize); 2],
}

impl Out {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), times: [(Timestamp::default(), NOWHERE); 2] }
    }

    /// Text that is JSON already: punctuation and member names, or compact JSON that the core gave.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.text.extend_from_slice(text.as_bytes());
        self
    }

    /// A string, quoted and escaped.
    pub fn string(&mut self, text: &str) -> &mut Self {
        // nearly everything is plain: ids, tokens, client ids
        // counted to the end rather than left at the first, which lets the compiler look at many bytes at once
        let special = text.bytes().filter(|b| *b < 0x20 || *b == b'"' || *b == b'\\').count();
        if special == 0 {
            self.text.reserve(text.len() + 2);
            self.text.push(b'"');
            self.text.extend_from_slice(text.as_bytes());
            self.text.push(b'"');
        } else {
            // writing a string to a vector cannot fail
            let _ = serde_json::to_writer(&mut self.text, text);
        }
        self
    }

    /// A string, or `null`.
    pub fn string_or_null(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.string(text),
            None => self.raw("null"),
        }
    }

    /// A UUID or anything else whose printed form needs no escaping.
    pub fn plain(&mut self, value: impl std::fmt::Display) -> &mut Self {
        let _ = write!(self.text, "\"{value}\"");
        self
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) -> &mut Self {
        let _ = write!(self.text, "{n}");
        self
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, yes: bool) -> &mut Self {
        self.raw(if yes { "true" } else { "false" })
    }

    /// A moment as RFC 3339 in UTC with milliseconds, quoted.
    pub fn time(&mut self, at: Timestamp) -> &mut Self {
        let here = self.text.len();
        if let Some((_, there)) = self.times.iter().find(|(known, place)| *known == at && *place != NOWHERE) {
            self.text.extend_from_within(*there..*there + TIME);
        } else {
            let _ = write!(self.text, "\"{at}\"");
            debug_assert_eq!(self.text.len() - here, TIME);
            self.times = [(at, here), self.times[0]];
        }
        self
    }

    /// A moment, or `null`.
    pub fn time_or_null(&mut self, at: Option<Timestamp>) -> &mut Self {
        match at {
            Some(at) => self.time(at),
            None => self.raw("null"),
        }
    }

    /// The text.
    pub fn into_vec(self) -> Vec<u8> {
        self.text
    }

    /// The text as an answer.
    pub fn answer(self, status: StatusCode) -> Response {
        json(status, self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_escaped() {
        for text in ["", "plain", "quote\"", "back\\slash", "line\nfeed", "\u{1f600} ü", "</script>"] {
            let mut out = Out::with_capacity(8);
            out.string(text);
            assert_eq!(serde_json::from_slice::<String>(&out.into_vec()).unwrap(), text);
        }
    }

    #[test]
    fn an_object() {
        let mut out = Out::with_capacity(64);
        out.raw("{\"a\":").string_or_null(None).raw(",\"b\":").integer(-7).raw(",\"c\":").boolean(true);
        out.raw(",\"d\":").plain(5).raw(",\"e\":").time_or_null(Some(Timestamp::from_seconds(0))).raw("}");
        assert_eq!(out.into_vec(), br#"{"a":null,"b":-7,"c":true,"d":"5","e":"1970-01-01T00:00:00.000Z"}"#);
    }

    proptest! {
        #[test]
        fn times_are_those_of_the_core(list in prop::collection::vec(0..=Timestamp::MAX.millis(), 1..6), order in prop::collection::vec(0usize..6, 1..20)) {
            let (mut out, mut expected) = (Out::with_capacity(8), String::new());
            for i in order {
                let at = Timestamp::from_millis(list[i % list.len()]);
                out.time(at).raw(",");
                expected.extend(["\"", &at.to_string(), "\","]);
            }
            prop_assert_eq!(String::from_utf8(out.into_vec()).unwrap(), expected);
        }
    }
}
