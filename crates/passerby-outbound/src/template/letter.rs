//! What a message says: the values of its variables.

use std::time::Duration;

use serde_json::{Map, Value, json};
use url::Url;

use super::kind::Kind;

/// Longest value of text, in characters; what is longer is cut.
const TEXT: usize = 512;
/// Deepest value of `state`; what is deeper is left out.
const DEPTH: usize = 16;

/// A message to one person, before a template gives it words.
///
/// Every text is made one line of at most 512 characters, without control characters and without marks that turn the
/// direction of writing, when a template gets it: so it cannot end a subject, feign a further line or hide a name.
#[derive(Clone, PartialEq)]
pub struct Letter {
    /// The name of the application.
    pub app_name: String,
    /// Its address.
    pub app_url: Option<Link>,
    /// Whom the message goes to: address or number.
    pub to: String,
    /// What it is about.
    pub about: About,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

/// What a message is about; one for each [`Kind`]. No `Debug`: it holds codes and links.
#[derive(Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are told in the table of variables")]
pub enum About {
    /// [`Kind::CodeByEmail`].
    CodeByEmail { code: String, link: Option<Link>, valid_for: Duration, purpose: Purpose },
    /// [`Kind::LinkByEmail`].
    LinkByEmail { link: Link, valid_for: Duration, purpose: Purpose },
    /// [`Kind::CodeBySms`].
    CodeBySms { code: String, valid_for: Duration, purpose: Purpose },
    /// [`Kind::SetPassword`].
    SetPassword { link: Link, valid_for: Duration, state: Map<String, Value> },
    /// [`Kind::PasswordChanged`].
    PasswordChanged { seen: Seen },
    /// [`Kind::IdentifierChanged`].
    IdentifierChanged { identifier: String, identifier_kind: String, change: Change, seen: Seen },
    /// [`Kind::AddressTried`].
    AddressTried { seen: Seen },
    /// [`Kind::CameBack`].
    CameBack { by: ReturnBy, seen: Seen },
}

/// When and with what something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// RFC 3339, UTC.
    pub at: String,
    /// The device, as the browser describes itself.
    pub device: Option<String>,
}

/// What a code or link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The address or number is to be added.
    Verify,
    /// Signing in.
    SignIn,
    /// Setting a password anew.
    ResetPassword,
    /// Confirming something else.
    Confirm,
}

impl Purpose {
    /// Its name, as templates and message services see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::SignIn => "sign_in",
            Self::ResetPassword => "reset_password",
            Self::Confirm => "confirm",
        }
    }
}

/// What happened to an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was added.
    Added,
    /// It was removed.
    Removed,
}

/// How somebody came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnBy {
    /// By a recovery code.
    RecoveryCode,
    /// From another device.
    HandOff,
}

/// An http or https URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(String);

/// Not an absolute http or https URL, longer than 4096 bytes, or with a user or password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a link must be an http or https URL of at most 4096 bytes, without user and password")]
pub struct LinkFault;

impl Link {
    /// Reads a link; what comes out is the URL standard's spelling, without spaces and line breaks.
    pub fn new(text: &str) -> Result<Self, LinkFault> {
        let url = Url::parse(text).map_err(|_| LinkFault)?;
        let plain = url.username().is_empty() && url.password().is_none();
        let short = text.len() <= 4096 && url.as_str().len() <= 4096;
        if matches!(url.scheme(), "http" | "https") && plain && short { Ok(Self(url.into())) } else { Err(LinkFault) }
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Link {
    /// Host alone: the rest may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = Url::parse(&self.0).ok().and_then(|url| url.host_str().map(str::to_owned));
        f.debug_tuple("Link").field(&host).finish()
    }
}

impl Letter {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.about {
            About::CodeByEmail { .. } => Kind::CodeByEmail,
            About::LinkByEmail { .. } => Kind::LinkByEmail,
            About::CodeBySms { .. } => Kind::CodeBySms,
            About::SetPassword { .. } => Kind::SetPassword,
            About::PasswordChanged { .. } => Kind::PasswordChanged,
            About::IdentifierChanged { .. } => Kind::IdentifierChanged,
            About::AddressTried { .. } => Kind::AddressTried,
            About::CameBack { .. } => Kind::CameBack,
        }
    }

    /// The values for the template: one for each variable of the kind, `null` for what is missing.
    pub(super) fn values(&self) -> Value {
        let mut values = match &self.about {
            About::CodeByEmail { code, link, valid_for, purpose } => merge(
                json!({"code": line(code), "link": link.as_ref().map(Link::as_str), "purpose": purpose.name()}),
                validity(*valid_for),
            ),
            About::LinkByEmail { link, valid_for, purpose } => {
                merge(json!({"link": link.as_str(), "purpose": purpose.name()}), validity(*valid_for))
            }
            About::CodeBySms { code, valid_for, purpose } => {
                merge(json!({"code": line(code), "purpose": purpose.name()}), validity(*valid_for))
            }
            About::SetPassword { link, valid_for, state } => {
                let state: Map<_, _> = state.iter().map(|(key, value)| (line(key), tame(value, DEPTH))).collect();
                merge(json!({"link": link.as_str(), "state": state}), validity(*valid_for))
            }
            About::PasswordChanged { seen } | About::AddressTried { seen } => sight(seen),
            About::IdentifierChanged { identifier, identifier_kind, change, seen } => {
                let change = match change {
                    Change::Added => "added",
                    Change::Removed => "removed",
                };
                let own =
                    json!({"identifier": line(identifier), "identifier_kind": line(identifier_kind), "change": change});
                merge(own, sight(seen))
            }
            About::CameBack { by, seen } => {
                let by = match by {
                    ReturnBy::RecoveryCode => "recovery_code",
                    ReturnBy::HandOff => "hand_off",
                };
                merge(json!({"method": by}), sight(seen))
            }
        };
        values["app_name"] = line(&self.app_name).into();
        values["app_url"] = self.app_url.as_ref().map(Link::as_str).into();
        values["to"] = line(&self.to).into();
        values
    }

    /// With a value for every variable.
    pub(super) fn sample(kind: Kind) -> Self {
        let link = || Link("https://shop.example/link#c=Zm9vYmFy".to_owned());
        let seen = Seen { at: "2026-01-31T12:00:00Z".to_owned(), device: Some("Firefox on Linux".to_owned()) };
        let (code, valid_for, purpose) = ("482913".to_owned(), Duration::from_mins(10), Purpose::SignIn);
        let about = match kind {
            Kind::CodeByEmail => About::CodeByEmail { code, link: Some(link()), valid_for, purpose },
            Kind::LinkByEmail => About::LinkByEmail { link: link(), valid_for, purpose },
            Kind::CodeBySms => About::CodeBySms { code, valid_for, purpose },
            Kind::SetPassword => {
                let state = json!({"name": "Ada", "plan": {"name": "basic"}, "items": ["tea", "bread"]});
                let state = state.as_object().cloned().unwrap_or_default();
                About::SetPassword { link: link(), valid_for: Duration::from_hours(24), state }
            }
            Kind::PasswordChanged => About::PasswordChanged { seen },
            Kind::IdentifierChanged => About::IdentifierChanged {
                identifier: "ada@work.example".to_owned(),
                identifier_kind: "email".to_owned(),
                change: Change::Added,
                seen,
            },
            Kind::AddressTried => About::AddressTried { seen },
            Kind::CameBack => About::CameBack { by: ReturnBy::RecoveryCode, seen },
        };
        let to = if kind == Kind::CodeBySms { "+491701234567" } else { "ada@example.com" };
        let app_url = Some(Link("https://shop.example/".to_owned()));
        Self { app_name: "Shop".to_owned(), app_url, to: to.to_owned(), about }
    }

    /// With values for those variables alone that are always there.
    pub(super) fn bare_sample(kind: Kind) -> Self {
        let mut letter = Self { app_url: None, ..Self::sample(kind) };
        match &mut letter.about {
            About::CodeByEmail { link, .. } => *link = None,
            About::SetPassword { state, .. } => state.clear(),
            About::PasswordChanged { seen }
            | About::IdentifierChanged { seen, .. }
            | About::AddressTried { seen }
            | About::CameBack { seen, .. } => seen.device = None,
            About::LinkByEmail { .. } | About::CodeBySms { .. } => {}
        }
        letter
    }
}

fn merge(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

fn sight(seen: &Seen) -> Value {
    json!({"at": line(&seen.at), "device": seen.device.as_deref().map(line)})
}

fn validity(valid_for: Duration) -> Value {
    let minutes = valid_for.as_secs().div_ceil(60).max(1);
    json!({"valid_for": spell(minutes), "valid_minutes": minutes})
}

/// Minutes in words, in the largest unit that has no rest.
fn spell(minutes: u64) -> String {
    let (number, unit) = match minutes {
        m if m % 1440 == 0 && m > 1440 => (m / 1440, "day"),
        m if m % 60 == 0 => (m / 60, "hour"),
        m => (m, "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// One line: no controls, no line or paragraph separators, no marks that turn the direction, no invisible marks.
fn line(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{61c}');
    let whole = |c: char| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
    text.chars().filter(|&c| !turns(c)).map(whole).take(TEXT).collect()
}

fn tame(value: &Value, depth: usize) -> Value {
    match value {
        Value::String(text) => line(text).into(),
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::Null,
        Value::Array(items) => items.iter().map(|item| tame(item, depth - 1)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(key, value)| (line(key), tame(value, depth - 1))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_exactly_the_variables_of_its_table() {
        for kind in Kind::ALL {
            let mut table: Vec<_> = kind.variables().iter().map(|variable| variable.name).collect();
            table.sort_unstable();
            for (letter, bare) in [(Letter::sample(kind), false), (Letter::bare_sample(kind), true)] {
                assert_eq!(letter.kind(), kind);
                let values = letter.values();
                let mut names: Vec<_> = values.as_object().unwrap().keys().map(String::as_str).collect();
                names.sort_unstable();
                assert_eq!(names, table, "{kind:?}");
                for variable in kind.variables() {
                    let missing = values[variable.name].is_null();
                    assert_eq!(missing, bare && variable.optional, "{kind:?} {}", variable.name);
                }
            }
        }
    }

    #[test]
    fn links_are_http_or_https() {
        for text in ["https://shop.example/a?b=c#d", "http://localhost:9011/x", "HTTPS://SHOP.example"] {
            assert!(Link::new(text).is_ok(), "{text}");
        }
        let long = format!("https://shop.example/{}", "a".repeat(4096));
        for text in [
            "",
            "/x",
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://shop.example/",
            "https://",
            "https://u@shop.example",
            &long,
        ] {
            assert_eq!(Link::new(text), Err(LinkFault), "{text}");
        }
        let odd = Link::new("https://shop.example/a b\r\n\"<c>").unwrap();
        assert!(!odd.as_str().contains([' ', '\r', '\n', '"', '<', '>']), "{}", odd.as_str());
    }

    #[test]
    fn times_are_spelled_in_words() {
        for (minutes, words) in [
            (1, "1 minute"),
            (10, "10 minutes"),
            (60, "1 hour"),
            (90, "90 minutes"),
            (1440, "24 hours"),
            (4320, "3 days"),
        ] {
            assert_eq!(spell(minutes), words);
        }
        assert_eq!(validity(Duration::from_secs(61))["valid_minutes"], 2);
        assert_eq!(validity(Duration::ZERO)["valid_minutes"], 1);
    }

    #[test]
    fn a_value_is_one_bounded_line() {
        assert_eq!(line("a\r\nb\u{2028}c\0d\u{202e}e\u{feff}"), "a  b c de");
        assert_eq!(line(&"ü".repeat(1000)).chars().count(), TEXT);
    }
}
