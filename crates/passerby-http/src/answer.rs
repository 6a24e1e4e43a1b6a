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

/// A JSON text under construction. Members are written with their punctuation by [`Out::raw`]; values by the others.
#[derive(Debug)]
pub struct Out(Vec<u8>);

impl Out {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Text that is JSON already: punctuation and member names, or compact JSON that the core gave.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A string, quoted and escaped.
    pub fn string(&mut self, text: &str) -> &mut Self {
        // nearly everything is plain: ids, tokens, client ids
        if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
            self.0.reserve(text.len() + 2);
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        } else {
            // writing a string to a vector cannot fail
            let _ = serde_json::to_writer(&mut self.0, text);
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
        let _ = write!(self.0, "\"{value}\"");
        self
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) -> &mut Self {
        let _ = write!(self.0, "{n}");
        self
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, yes: bool) -> &mut Self {
        self.raw(if yes { "true" } else { "false" })
    }

    /// A moment as RFC 3339 in UTC with milliseconds, quoted.
    pub fn time(&mut self, at: Timestamp) -> &mut Self {
        let text = rfc_3339(at);
        self.0.push(b'"');
        self.0.extend_from_slice(&text);
        self.0.push(b'"');
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
        self.0
    }

    /// The text as an answer.
    pub fn answer(self, status: StatusCode) -> Response {
        json(status, self.0)
    }
}

/// `2026-09-21T14:13:20.123Z`. By hand, since five of them stand in every answer about a guest; the date library's
/// formatter is the reference in the test.
fn rfc_3339(at: Timestamp) -> [u8; 24] {
    let ms = at.millis();
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // civil date from days, counted in 400-year eras that begin on 1 March
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);

    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |from: usize, digits: usize, mut n: i64| {
        for i in (from..from + digits).rev() {
            text[i] = b'0' + (n % 10) as u8;
            n /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3_600_000);
    put(14, 2, of_day / 60_000 % 60);
    put(17, 2, of_day / 1_000 % 60);
    put(20, 3, of_day % 1_000);
    text
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
        fn times_are_those_of_the_date_library(ms in 0..=Timestamp::MAX.millis()) {
            let at = Timestamp::from_millis(ms);
            prop_assert_eq!(String::from_utf8(rfc_3339(at).to_vec()).unwrap(), at.to_string());
        }
    }

    #[test]
    fn times_at_the_edges() {
        for day in ["1970-01-01", "1999-12-31", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "2024-12-31"] {
            let at: jiff::Timestamp = format!("{day}T23:59:59.999Z").parse().unwrap();
            let at = Timestamp::from_millis(at.as_millisecond());
            assert_eq!(rfc_3339(at), at.to_string().as_bytes());
        }
        assert_eq!(rfc_3339(Timestamp::MAX), Timestamp::MAX.to_string().as_bytes());
    }
}
