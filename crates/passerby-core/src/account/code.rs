//! One-time codes and links: six digits that a person types, and 128 bits that a link carries. Both are kept as hashes.

use std::time::Duration;

use passerby_jose::{b64, same};
use serde::{Deserialize, Serialize};

use crate::{Code, Error, Timestamp, code::random, id::TenantNo, passerby::Passerby};

/// A code lives so long.
pub(super) const CODE_LIFE: Duration = Duration::from_mins(10);

/// A link lives so long.
pub(crate) const LINK_LIFE: Duration = Duration::from_hours(1);

/// So many wrong codes, then the flow is dead.
pub(super) const MOST_TRIES: u8 = 5;

/// What a one-time value is for: part of its hash, so that none works elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Use {
    /// Proving an identifier that a user claimed.
    Claim,
    /// Signing in.
    SignIn,
    /// Setting a password.
    Password,
}

impl Use {
    fn word(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::SignIn => "sign in",
            Self::Password => "password",
        }
    }

    /// Before a link's token: tells which flow to look for.
    fn letter(self) -> char {
        match self {
            Self::Claim => 'c',
            Self::SignIn => 's',
            Self::Password => 'p',
        }
    }
}

/// A code and a link that were sent, as they are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OneTime {
    /// The code's hash, base64url; absent: there is none.
    pub(crate) code: Option<Box<str>>,
    /// The code's end: milliseconds.
    pub(crate) code_ends: i64,
    /// Wrong codes so far.
    pub(crate) tries: u8,
    /// The hash of the link's secret.
    pub(crate) link: Option<Box<str>>,
    /// The link's end: milliseconds.
    pub(crate) link_ends: i64,
    /// A person confirmed the link.
    pub(crate) proven: bool,
}

/// A code and a link in clear, for the one message that says them.
pub(crate) struct Sent {
    pub(crate) code: String,
    /// The link's token.
    pub(crate) token: String,
    pub(crate) kept: OneTime,
}

/// What a link's token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkToken {
    pub(crate) of: Use,
    /// Where the flow is: the user's id of a claim, zeros else.
    pub(crate) place: [u8; 16],
    /// The flow's id.
    pub(crate) flow: [u8; 16],
    pub(crate) secret: [u8; 16],
}

impl LinkToken {
    /// Reads a token; whether it is right is for its flow to say.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (letter, rest) = text.split_once('.')?;
        let of = [Use::Claim, Use::SignIn, Use::Password].into_iter().find(|u| letter.chars().eq([u.letter()]))?;
        let bytes: [u8; 48] = b64::decode(rest)?.try_into().ok()?;
        let part = |n: usize| {
            let mut out = [0u8; 16];
            out.copy_from_slice(&bytes[16 * n..16 * (n + 1)]);
            out
        };
        Some(Self { of, place: part(0), flow: part(1), secret: part(2) })
    }

    fn write(&self) -> String {
        let bytes = [&self.place[..], &self.flow[..], &self.secret[..]].concat();
        format!("{}.{}", self.of.letter(), b64::encode(&bytes))
    }
}

/// Six digits, each equally likely.
fn digits() -> Result<String, Error> {
    loop {
        let mut bytes = [0u8; 4];
        random(&mut bytes)?;
        let n = u32::from_be_bytes(bytes);
        // the part of the range that a million divides
        if n < 4_294_000_000 {
            return Ok(format!("{:06}", n % 1_000_000));
        }
    }
}

/// The digits of a code as it was typed, with spaces or dashes between.
fn typed(code: &str) -> Option<String> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '.')).take(7).collect();
    (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(digits)
}

pub(crate) fn wrong_code() -> Error {
    Error::at(Code::InvalidCode, "/code", "The code is wrong, was used, or is over.")
}

impl Passerby {
    fn one_time_hash(&self, tenant: TenantNo, of: Use, flow: &[u8; 16], secret: &[u8]) -> Result<String, Error> {
        Ok(b64::encode(&self.secrets_of(tenant)?.look_up_hash("one time", &[of.word().as_bytes(), flow, secret])))
    }

    /// A new code and a new link for a flow.
    pub(crate) fn one_time(
        &self,
        tenant: TenantNo,
        of: Use,
        place: [u8; 16],
        flow: [u8; 16],
        now: Timestamp,
    ) -> Result<Sent, Error> {
        let code = digits()?;
        let mut secret = [0u8; 16];
        random(&mut secret)?;
        let token = LinkToken { of, place, flow, secret };
        let kept = OneTime {
            code: Some(self.one_time_hash(tenant, of, &flow, code.as_bytes())?.into()),
            code_ends: now.plus(CODE_LIFE).millis(),
            tries: 0,
            link: Some(self.one_time_hash(tenant, of, &flow, &secret)?.into()),
            link_ends: now.plus(LINK_LIFE).millis(),
            proven: false,
        };
        Ok(Sent { code, token: token.write(), kept })
    }

    /// Whether the code is right. A flow that is dead has no right code.
    pub(crate) fn code_is_right(
        &self,
        tenant: TenantNo,
        of: Use,
        flow: &[u8; 16],
        kept: &OneTime,
        code: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let hash = match typed(code) {
            Some(digits) => self.one_time_hash(tenant, of, flow, digits.as_bytes())?,
            None => String::new(),
        };
        let alive = kept.tries < MOST_TRIES && kept.code_ends > now.millis();
        Ok(alive && kept.code.as_deref().is_some_and(|code| same(code.as_bytes(), hash.as_bytes())))
    }

    /// Whether the link is right and not over.
    pub(crate) fn link_is_right(
        &self,
        tenant: TenantNo,
        token: &LinkToken,
        kept: &OneTime,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let hash = self.one_time_hash(tenant, token.of, &token.flow, &token.secret)?;
        let alive = kept.link_ends > now.millis();
        Ok(alive && kept.link.as_deref().is_some_and(|link| same(link.as_bytes(), hash.as_bytes())))
    }

    /// Two digits that the app and the link's page both show, so that nobody confirms what another began.
    pub(crate) fn check_of(&self, tenant: TenantNo, flow: &[u8; 16]) -> Result<String, Error> {
        let hash = self.secrets_of(tenant)?.look_up_hash("check", &[flow]);
        Ok(format!("{:02}", u16::from_be_bytes([hash[0], hash[1]]) % 100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        for text in ["123456", " 123 456 ", "123-456", "12.34.56"] {
            assert_eq!(typed(text).as_deref(), Some("123456"), "{text}");
        }
        for text in ["", "12345", "1234567", "12345a", "\u{661}23456", "1234567890123456789"] {
            assert_eq!(typed(text), None, "{text}");
        }
        assert_eq!(digits().unwrap().len(), 6);
    }

    #[test]
    fn a_token_is_read_back_and_anything_else_is_none() {
        let token = LinkToken { of: Use::SignIn, place: [1; 16], flow: [2; 16], secret: [3; 16] };
        assert_eq!(LinkToken::parse(&token.write()), Some(token.clone()));
        for text in ["", "s.", "x.AAAA", "c", "s.!!", &token.write()[..40], &format!("{}A", token.write())] {
            assert_eq!(LinkToken::parse(text), None, "{text}");
        }
    }
}
