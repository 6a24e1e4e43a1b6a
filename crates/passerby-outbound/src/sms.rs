//! Short messages, by one signed call to a service of the operator.
//!
//! There is no common way to send a short message, so there is none here: Passerby posts
//!
//! ```json
//! {"id": "0190…", "to": "+491701234567", "text": "123456 is your code for Shop.", "purpose": "sign_in"}
//! ```
//!
//! to a URL of the operator's choice, with the headers of Standard Webhooks (`webhook-id`, `webhook-timestamp`,
//! `webhook-signature`), which libraries check in every language. What stands there, a dozen lines before a provider's
//! own API, answers 2xx as soon as it has taken the message, and drops an `id` that it has taken before.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::{
    guard::Blocked,
    web::{Call, WebClient, WebFault},
};

/// Longest text, in characters: about ten parts.
const TEXT: usize = 1000;
/// Longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// A short message to one number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ShortMessage {
    /// 1 to 128 letters, digits, `-`, `_`: the same for each try of one row of the outbox.
    pub id: String,
    /// E.164: `+` and 7 to 15 digits.
    pub to: String,
    /// 1 to 1000 characters.
    pub text: String,
    /// Why it is sent, such as `sign_in`: 1 to 64 small letters and `_`.
    pub purpose: String,
}

impl std::fmt::Debug for ShortMessage {
    /// Without number and text: the text holds a code.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShortMessage").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a message was not accepted. The text is for logs: it holds no secret and nothing of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmsFault {
    /// It is no message that could be sent: the field.
    #[error("the field {0} of the message is out of range")]
    Message(&'static str),
    /// The service refused it for good.
    #[error("the service refused the message with {0}")]
    Refused(StatusCode),
    /// The service could not take it now.
    #[error("the service could not take the message: {status}")]
    Busy {
        /// What it answered.
        status: StatusCode,
        /// When it asks to be called again; at most a day.
        retry_after: Option<Duration>,
    },
    /// There was no answer.
    #[error("{0}")]
    Call(#[from] WebFault),
}

impl SmsFault {
    /// Whether trying again may help. A call that the guard refuses counts: the operator mends the settings, and the
    /// message waits for it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Call(_))
    }

    /// Whether the message may have been taken all the same.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Call(WebFault::Network(_) | WebFault::Late | WebFault::Long))
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmsSetUpFault {
    /// The URL.
    #[error("the URL of the message service: {0}")]
    Url(#[from] Blocked),
    /// A secret.
    #[error("the secret of the message service must be `whsec_` and the base64 of 24 to 64 bytes; there may be two")]
    Secret,
}

/// Sends short messages through the operator's service.
pub struct SmsSender {
    client: WebClient,
    url: String,
    keys: Vec<Webhook>,
}

impl std::fmt::Debug for SmsSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmsSender").finish_non_exhaustive()
    }
}

impl SmsSender {
    /// `secrets`: one or, while it is changed, the new one and the old one; each signs.
    pub fn new(client: WebClient, url: &str, secrets: &[String]) -> Result<Self, SmsSetUpFault> {
        let url = client.guard().check(url)?.to_string();
        let keys: Option<Vec<_>> = secrets.iter().map(|secret| key(secret)).collect();
        let keys = keys.filter(|keys| (1..=2).contains(&keys.len())).ok_or(SmsSetUpFault::Secret)?;
        Ok(Self { client, url, keys })
    }

    /// Hands one message to the service. `now`: seconds since 1970-01-01 UTC, which are signed.
    pub async fn send(&self, message: &ShortMessage, now: u64) -> Result<(), SmsFault> {
        check(message)?;
        let body = serde_json::to_vec(message).map_err(|_| SmsFault::Message("text"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HEADER_WEBHOOK_TIMESTAMP, HeaderValue::from(now));
        let text = |value: &str| HeaderValue::from_str(value).map_err(|_| SmsFault::Message("id"));
        headers.insert(HEADER_WEBHOOK_ID, text(&message.id)?);
        headers.insert(HEADER_WEBHOOK_SIGNATURE, text(&self.sign(&message.id, now, &body)?)?);
        let call = Call { method: Method::POST, url: self.url.clone(), headers, body: body.into() };
        let answer = self.client.call(call).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(busy(answer.status, &answer.headers, now))
            }
            status if status.is_client_error() => Err(SmsFault::Refused(status)),
            status => Err(busy(status, &answer.headers, now)),
        }
    }

    fn sign(&self, id: &str, now: u64, body: &[u8]) -> Result<String, SmsFault> {
        let now = i64::try_from(now).map_err(|_| SmsFault::Message("id"))?;
        let signatures: Result<Vec<_>, _> = self.keys.iter().map(|key| key.sign(id, now, body)).collect();
        Ok(signatures.map_err(|_| SmsFault::Message("text"))?.join(" "))
    }
}

fn busy(status: StatusCode, headers: &HeaderMap, now: u64) -> SmsFault {
    SmsFault::Busy { status, retry_after: headers.get(header::RETRY_AFTER).and_then(|value| wait(value, now)) }
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn wait(value: &HeaderValue, now: u64) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let then = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        then.saturating_sub(Duration::from_secs(now))
    };
    Some(wait.min(LONGEST_WAIT))
}

fn key(secret: &str) -> Option<Webhook> {
    // base64 of 24 to 64 bytes, as the specification has it; a hasty one-word secret is no key
    let encoded = secret.strip_prefix("whsec_")?;
    (32..=88).contains(&encoded.len()).then(|| Webhook::new(secret).ok()).flatten()
}

fn check(message: &ShortMessage) -> Result<(), SmsFault> {
    let within = |text: &str, most, good: fn(u8) -> bool| (1..=most).contains(&text.len()) && text.bytes().all(good);
    let number = message.to.strip_prefix('+').unwrap_or_default();
    let fields = [
        ("id", within(&message.id, 128, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))),
        ("to", number.len() >= 7 && !number.starts_with('0') && within(number, 15, |b| b.is_ascii_digit())),
        ("text", (1..=TEXT).contains(&message.text.chars().count())),
        ("purpose", within(&message.purpose, 64, |b| b.is_ascii_lowercase() || b == b'_')),
    ];
    match fields.into_iter().find(|(_, good)| !good) {
        Some((field, _)) => Err(SmsFault::Message(field)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> ShortMessage {
        ShortMessage {
            id: "row-7".to_owned(),
            to: "+491701234567".to_owned(),
            text: "123456 is your code".to_owned(),
            purpose: "sign_in".to_owned(),
        }
    }

    #[test]
    fn fields_out_of_range_are_named() {
        assert_eq!(check(&message()), Ok(()));
        let long = "x".repeat(TEXT + 1);
        for (field, broken) in [
            ("id", ShortMessage { id: "a.b".to_owned(), ..message() }),
            ("id", ShortMessage { id: "a\r\nx: y".to_owned(), ..message() }),
            ("id", ShortMessage { id: String::new(), ..message() }),
            ("to", ShortMessage { to: "491701234567".to_owned(), ..message() }),
            ("to", ShortMessage { to: "+0491701234567".to_owned(), ..message() }),
            ("to", ShortMessage { to: "+49 170 1234567".to_owned(), ..message() }),
            ("to", ShortMessage { to: "+1234567890123456".to_owned(), ..message() }),
            ("text", ShortMessage { text: String::new(), ..message() }),
            ("text", ShortMessage { text: long, ..message() }),
            ("purpose", ShortMessage { purpose: "Sign in".to_owned(), ..message() }),
        ] {
            assert_eq!(check(&broken), Err(SmsFault::Message(field)));
        }
    }

    #[test]
    fn waits_are_read_and_bounded() {
        let wait = |text: &'static str| wait(&HeaderValue::from_static(text), 784_111_700);
        assert_eq!(wait("120"), Some(Duration::from_mins(2)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(77)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:40:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999"), Some(LONGEST_WAIT));
        for odd in ["soon", "-1", "1.5", "", "99999999999999999999999"] {
            assert_eq!(wait(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_real_secrets_are_keys() {
        assert!(key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_some());
        for weak in
            ["", "whsec_", "whsec_c2VjcmV0", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2Lö"]
        {
            assert!(key(weak).is_none(), "{weak}");
        }
    }
}
