//! The `Authorization` header: `Bearer` and `DPoP` are a session, `Basic` a client.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use passerby_core::{
    Code, Error,
    caller::{AccessToken, Scheme},
};

use crate::{Problem, form::percent_decode};

/// What the `Authorization` header says.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Authorization<'a> {
    /// No such header.
    #[default]
    None,
    /// A token (RFC 6750).
    Bearer(&'a str),
    /// A token that is bound to a key, whose proof comes beside it (RFC 9449 section 7.1).
    DPoP(&'a str),
    /// A client and its secret (RFC 7617), percent-decoded as RFC 6749 section 2.3.1 asks. A `+` stays one: clients
    /// that do not encode have it in their secrets far oftener than others have a space.
    Basic {
        /// `client_id`.
        id: String,
        /// The secret.
        secret: String,
    },
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(..)",
            Self::DPoP(_) => "DPoP(..)",
            Self::Basic { .. } => "Basic(..)",
        })
    }
}

/// Why the header cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Twice, not text, or no token behind the scheme.
    Header,
    /// A scheme that is not taken here.
    Scheme,
    /// `Basic`, but not base64 of `id:secret`.
    Basic,
}

impl<'a> Authorization<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Malformed`]; a header that is there and cannot be read never counts as absent.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, Malformed> {
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(Self::None) };
        if headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Malformed::Header);
        }
        let text = header.to_str().map_err(|_| Malformed::Header)?.trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim_start_matches(' ');
        let token = || Some(rest).filter(|t| !t.is_empty() && !t.contains([' ', '\t', ','])).ok_or(Malformed::Header);
        if scheme.eq_ignore_ascii_case("bearer") {
            return token().map(Self::Bearer);
        }
        if scheme.eq_ignore_ascii_case("dpop") {
            return token().map(Self::DPoP);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return read_basic(rest).ok_or(Malformed::Basic);
        }
        Err(Malformed::Scheme)
    }

    /// An access token, under either scheme.
    pub fn access_token(&self) -> Option<AccessToken<'a>> {
        match self {
            Self::Bearer(text) => Some(AccessToken { text, scheme: Scheme::Bearer }),
            Self::DPoP(text) => Some(AccessToken { text, scheme: Scheme::DPoP }),
            Self::None | Self::Basic { .. } => None,
        }
    }

    /// The token of a `Bearer`: where something goes that no key is bound to.
    pub fn bearer(&self) -> Option<&'a str> {
        if let Self::Bearer(token) = self { Some(token) } else { None }
    }

    /// Client and secret.
    pub fn basic(&self) -> Option<(&str, &str)> {
        if let Self::Basic { id, secret } = self { Some((id, secret)) } else { None }
    }
}

fn read_basic<'a>(encoded: &str) -> Option<Authorization<'a>> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let read = |text: &str| String::from_utf8(percent_decode(text.as_bytes())).ok();
    Some(Authorization::Basic { id: read(id)?, secret: read(secret)? })
}

impl From<Malformed> for Problem {
    fn from(m: Malformed) -> Self {
        match m {
            Malformed::Header => Self::invalid_token("The Authorization header cannot be read."),
            Malformed::Scheme => Self::invalid_token("This scheme of authorization is not taken here."),
            Malformed::Basic => {
                let detail = "Basic authorization must be base64 of a client's id and secret.";
                Self::from(Error::new(Code::InvalidClient, detail)).asked_by_basic()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Result<String, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        }
        Authorization::read(&headers).map(|a| match a {
            Authorization::None => "none".into(),
            Authorization::Bearer(t) => format!("bearer {t}"),
            Authorization::DPoP(t) => format!("dpop {t}"),
            Authorization::Basic { id, secret } => format!("basic {id} {secret}"),
        })
    }

    fn basic(pair: &str) -> Result<String, Malformed> {
        read(&[&format!("Basic {}", STANDARD.encode(pair))])
    }

    #[test]
    fn good() {
        assert_eq!(read(&[]), Ok("none".into()));
        assert_eq!(read(&["Bearer a.b-c_d"]), Ok("bearer a.b-c_d".into()));
        assert_eq!(read(&["bEARER  abc="]), Ok("bearer abc=".into()));
        assert_eq!(read(&["DPoP a.b-c_d"]), Ok("dpop a.b-c_d".into()));
        assert_eq!(read(&["dpop  abc"]), Ok("dpop abc".into()));
        assert_eq!(basic("demo-web:s3cret"), Ok("basic demo-web s3cret".into()));
        assert_eq!(basic("demo%3Aweb:a%25b+c:d"), Ok("basic demo:web a%b+c:d".into()));
        assert_eq!(basic("id:"), Ok("basic id ".into()));
    }

    #[test]
    fn malformed() {
        for line in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "DPoP", "DPoP ", "DPoP a b", "DPoP a,b", ""] {
            let expected = if line.is_empty() { Malformed::Scheme } else { Malformed::Header };
            assert_eq!(read(&[line]), Err(expected), "{line:?}");
        }
        assert_eq!(read(&["Bearer a", "Bearer b"]), Err(Malformed::Header));
        assert_eq!(read(&["Bearer a", "DPoP a"]), Err(Malformed::Header));
        for line in ["DPoPabc", "Digest x=y", "abc", "Token abc"] {
            assert_eq!(read(&[line]), Err(Malformed::Scheme), "{line}");
        }
        for line in ["Basic", "Basic %%%", "Basic bm9jb2xvbg==", "Basic //8="] {
            assert_eq!(read(&[line]), Err(Malformed::Basic), "{line}");
        }
        assert_eq!(Problem::from(Malformed::Scheme).code(), "invalid_token");
        assert_eq!(Problem::from(Malformed::Basic).code(), "invalid_client");
    }

    #[test]
    fn tokens_and_their_schemes() {
        let shown =
            |a: &Authorization<'_>| (a.access_token().map(|t| (t.text.to_owned(), t.scheme)), a.bearer().is_some());
        assert_eq!(shown(&Authorization::Bearer("a")), (Some(("a".into(), Scheme::Bearer)), true));
        assert_eq!(shown(&Authorization::DPoP("a")), (Some(("a".into(), Scheme::DPoP)), false));
        assert_eq!(shown(&Authorization::None), (None, false));
        let basic = Authorization::Basic { id: "a".into(), secret: "b".into() };
        assert_eq!(shown(&basic), (None, false));
        assert_eq!(
            format!("{:?}{:?}{basic:?}", Authorization::Bearer("x"), Authorization::DPoP("x")),
            "Bearer(..)DPoP(..)Basic(..)"
        );
    }
}
