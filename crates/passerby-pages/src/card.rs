//! Pages that are one card, written by the server for one person: they work without script, and nobody keeps them.

use axum::response::Response;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, RETRY_AFTER},
};
use passerby_core::{Code, Error};
use passerby_http::{answer, status_of};
use serde_json::value::RawValue;

use crate::asset::{HTML, escape};

const PAGE: &str = include_str!("../assets/ui/card.html");

const TICK: &str = "<svg class=\"tick\" viewBox=\"0 0 48 48\" aria-hidden=\"true\"><circle cx=\"24\" cy=\"24\" r=\"22\"/>\
                    <path d=\"M14 25l7 7 14-15\"/></svg>\n    ";

/// How a card looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Plain,
    Done,
    Alarm,
}

/// A card on its way. `body` is HTML already; all that came from outside in it was escaped.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    pub(crate) status: StatusCode,
    pub(crate) mood: Mood,
    pub(crate) brand: &'a str,
    pub(crate) title: &'a str,
    pub(crate) body: String,
    /// Where its form leads in the end, besides to us.
    pub(crate) leads_to: Option<&'a str>,
}

impl Card<'_> {
    /// The answer.
    pub(crate) fn answer(self) -> Response {
        let (mood, tick) = match self.mood {
            Mood::Plain => ("", ""),
            Mood::Done => ("", TICK),
            Mood::Alarm => (" alarm", ""),
        };
        // the body last: what stands in it is looked at no more
        let page = PAGE
            .replace("{{title}}", &escape(self.title))
            .replace("{{mood}}", mood)
            .replace("{{tick}}", tick)
            .replace("{{brand}}", &escape(&self.brand.replace(['{', '}'], "")))
            .replace("{{body}}", &self.body);
        let mut response = answer::of(self.status, HeaderValue::from_static(HTML), page);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy(self.leads_to));
        // not `no-referrer`: under it browsers call a form's origin `null`. No path and no token is in what is sent
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
        response
    }
}

/// No script at all, our own style, and a form that goes to us and, by our redirect, to where it leads: Chromium asks
/// `form-action` about redirects, too.
fn policy(leads_to: Option<&str>) -> HeaderValue {
    let also = leads_to.and_then(source_of).map_or_else(String::new, |source| format!(" {source}"));
    let text = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'{also}; \
         frame-ancestors 'none'"
    );
    let own = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; \
               frame-ancestors 'none'";
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(own))
}

/// The origin of a web address, the scheme of another one.
fn source_of(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let end = match rest.strip_prefix("//") {
        Some(rest) if matches!(scheme, "http" | "https") => {
            scheme.len() + 3 + rest.find(['/', '?', '#']).unwrap_or(rest.len())
        }
        _ => scheme.len() + 1,
    };
    let source = &uri[..end];
    // what ends a source or a directive
    (!source.contains([' ', ';', ',', '\'', '"', '*'])).then_some(source)
}

/// The page for a refusal. Of a link it is not told why it is none.
pub(crate) fn refused(error: &Error, brand: &str) -> Response {
    let (title, body) = match error.code {
        Code::InvalidCode | Code::NotFound | Code::SessionEnded | Code::InvalidRequest => (
            "This link is of no use any more",
            "    <p>It was used already, is too old, or another took its place. Go back to where you began, and ask for a \
             new one.</p>\n",
        ),
        Code::CrossSite => (
            "This did not come from our page",
            "    <p>Open the link of the message again, and press the button there.</p>\n",
        ),
        Code::GuestFrozen => {
            ("Not now", "    <p>Something else is under way with what you keep here. Try again in a while.</p>\n")
        }
        Code::TooManyRequests => ("Too often", "    <p>Wait a little, then try again.</p>\n"),
        Code::Unavailable | Code::StorageFull | Code::Internal => (
            "Something is wrong on our side",
            "    <p>Nothing was changed. Try again in a moment: the link still works.</p>\n",
        ),
        _ => (
            "This cannot be done any more",
            "    <p>Things have changed since the message was sent. Go back to where you began.</p>\n",
        ),
    };
    let status = status_of(error);
    let card = Card { status, mood: Mood::Alarm, brand, title, body: body.to_owned(), leads_to: None };
    let mut response = card.answer();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let wait = error.wait.unwrap_or_default();
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// A redirect to where a link leads, with the application's state as the parameter `state`. `None`: it cannot be said in
/// a header.
pub(crate) fn lead_on(uri: &str, state: Option<&RawValue>) -> Option<Response> {
    let (base, fragment) = uri.split_once('#').map_or((uri, None), |(base, fragment)| (base, Some(fragment)));
    let mut location = base.to_owned();
    if let Some(state) = state {
        location.push_str(if base.contains('?') { "&state=" } else { "?state=" });
        encode(&mut location, state.get());
    }
    if let Some(fragment) = fragment {
        location.push('#');
        location.push_str(fragment);
    }
    let location = HeaderValue::try_from(location).ok()?;
    let mut response = answer::empty(StatusCode::SEE_OTHER);
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn encode(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // writing to a string cannot fail
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn sources() {
        for (uri, source) in [
            ("https://app.example/cb?x=1", Some("https://app.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("com.example.app:/cb", Some("com.example.app:")),
            ("com.example.app://cb", Some("com.example.app:")),
            ("https://a;b/", None),
            ("nothing", None),
        ] {
            assert_eq!(source_of(uri), source, "{uri}");
        }
        assert!(
            policy(Some("https://app.example/cb"))
                .to_str()
                .unwrap()
                .contains("form-action 'self' https://app.example;")
        );
        assert!(policy(None).to_str().unwrap().contains("form-action 'self';"));
    }

    #[test]
    fn where_a_link_leads() {
        let state = RawValue::from_string(r#"{"a":"b&c","ü":1}"#.into()).unwrap();
        let led = |uri: &str, state| {
            let answer = lead_on(uri, state).unwrap();
            assert_eq!(answer.status(), StatusCode::SEE_OTHER);
            assert_eq!(answer.headers()["cache-control"], "no-store");
            answer.headers()[LOCATION].to_str().unwrap().to_owned()
        };
        let encoded = "state=%7B%22a%22%3A%22b%26c%22%2C%22%C3%BC%22%3A1%7D";
        assert_eq!(led("https://app.example/cb", Some(&*state)), format!("https://app.example/cb?{encoded}"));
        assert_eq!(
            led("https://app.example/cb?x=1#y", Some(&*state)),
            format!("https://app.example/cb?x=1&{encoded}#y")
        );
        assert_eq!(led("com.example.app:/cb", None), "com.example.app:/cb");
        assert!(lead_on("https://app.example/\n", None).is_none());
    }

    #[tokio::test]
    async fn what_comes_from_outside_is_escaped_and_fills_no_placeholder() {
        let card = Card {
            status: StatusCode::OK,
            mood: Mood::Plain,
            brand: "<b>{{body}}",
            title: "\"T\"",
            body: "<p>{{brand}}</p>".to_owned(),
            leads_to: None,
        };
        let (parts, body) = card.answer().into_parts();
        let page = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(page.contains("&lt;b&gt;body") && page.contains("&quot;T&quot;") && page.contains("<p>{{brand}}</p>"));
        assert_eq!(page.matches("<p>{{brand}}</p>").count(), 1);
        assert_eq!(parts.headers["cache-control"], "no-store");
        assert_eq!(parts.headers["referrer-policy"], "strict-origin");
        assert!(!page.contains("<script") && !page.contains(" style="));
    }
}
