//! Tokens: access tokens (RFC 9068), session tokens and cookies (sealed or signed), refresh tokens (computed).

pub(crate) mod access;
pub(crate) mod current;
pub(crate) mod refresh;
pub(crate) mod session;

use std::io::Write;

use passerby_jose::b64;
use serde::{Deserialize, Deserializer};

use crate::{
    dpop::Thumbprint,
    id::UserId,
    settings::{Auth0, Tenant},
};

/// What a use case hands out.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The access token.
    pub access_token: String,
    /// `Bearer`, or `DPoP` where it is bound to a key.
    pub token_type: &'static str,
    /// Seconds that the access token lives.
    pub expires_in: u64,
    /// A stored session's refresh token.
    pub refresh_token: Option<String>,
    /// What the session continues with.
    pub session_token: Option<String>,
    /// What was granted, when something was.
    pub scope: Option<Box<str>>,
}

/// How a door dresses ids, and whether its tokens carry the Auth0 dialect's further claims.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dress<'a> {
    pub(crate) auth0: Option<&'a Auth0>,
}

impl<'a> Dress<'a> {
    /// The dress of the tenant's Auth0 dialect; bare while that is off.
    pub(crate) fn of_dialect(tenant: &'a Tenant) -> Self {
        Self { auth0: tenant.auth0.as_ref() }
    }

    /// The id as it is shown: verbatim when the caller chose it.
    pub(crate) fn shown(self, id: UserId, chosen: Option<&str>) -> String {
        match (chosen, self.auth0) {
            (Some(chosen), _) => chosen.to_owned(),
            (None, Some(dialect)) => format!("{}{id}", dialect.user_id_prefix),
            (None, None) => id.to_string(),
        }
    }
}

/// The `cnf` claim (RFC 7800) with the thumbprint of a key (RFC 9449 section 6.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cnf(pub(crate) Thumbprint);

impl<'de> Deserialize<'de> for Cnf {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Jkt {
            jkt: Box<str>,
        }
        let text = Jkt::deserialize(reader)?.jkt;
        let bytes = b64::decode(&text).and_then(|b| b.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("jkt"))
    }
}

/// Appends the `cnf` claim, where there is a key.
pub(crate) fn put_cnf(out: &mut Vec<u8>, key: Option<&Thumbprint>) {
    if let Some(key) = key {
        out.extend_from_slice(b",\"cnf\":{\"jkt\":\"");
        b64::encode_into(key, out);
        out.extend_from_slice(b"\"}");
    }
}

/// How tokens of a session are named to the client.
pub(crate) fn token_type(key: Option<&Thumbprint>) -> &'static str {
    if key.is_some() { "DPoP" } else { "Bearer" }
}

/// Appends a string as JSON.
pub(crate) fn json_string(out: &mut Vec<u8>, text: &str) {
    // writing to a Vec does not fail
    let _ = serde_json::to_writer(&mut *out, text);
}

/// Appends formatted text.
pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Appends a number in decimal: the formatting machinery costs more than the digits.
pub(crate) fn put_number(out: &mut Vec<u8>, mut n: i64) {
    if n < 0 {
        out.push(b'-');
        n = n.saturating_neg();
    }
    let (mut digits, mut at) = ([0u8; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

opaque_debug!(Tokens);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_decimal() {
        for n in [0, 7, 10, 1_790_000_000, -42, i64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, n);
            assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }
    }
}
