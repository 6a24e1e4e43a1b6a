//! The strict reader of token headers, shared by JWS and JWE.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use crate::{JoseError, MAX_HEADER, b64};

/// Members that would let a token say how it is to be checked: an extension, a compression, another payload encoding,
/// or a key of its own (RFC 7515 section 4.1, RFC 7797, RFC 8725 sections 3.9 and 3.10).
const REFUSED: [&str; 7] = ["crit", "zip", "b64", "jku", "x5u", "jwk", "x5c"];

/// More members than any header of ours has; bounds the search for duplicates.
const MAX_MEMBERS: usize = 16;

/// The members that are read; each at most once, others may be there.
#[derive(Debug, Default)]
pub(crate) struct RawHeader {
    alg: Option<String>,
    enc: Option<String>,
    kid: Option<String>,
    typ: Option<String>,
}

impl RawHeader {
    /// Reads an encoded header.
    pub(crate) fn read(encoded: &str) -> Result<Self, JoseError> {
        if encoded.len() > b64::encoded_len(MAX_HEADER) {
            return Err(JoseError::Malformed);
        }
        let bytes = b64::decode(encoded).ok_or(JoseError::Malformed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| JoseError::Malformed)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let header = reader.deserialize_map(HeaderVisitor).map_err(|_| JoseError::Malformed)?;
        reader.end().map_err(|_| JoseError::Malformed)?;
        Ok(header)
    }

    /// `alg`; without one there is no algorithm to accept.
    pub(crate) fn alg(&self) -> Result<&str, JoseError> {
        self.alg.as_deref().ok_or(JoseError::Algorithm)
    }

    /// `enc`, the same.
    pub(crate) fn enc(&self) -> Result<&str, JoseError> {
        self.enc.as_deref().ok_or(JoseError::Algorithm)
    }

    /// `kid` and `typ`, neither missing nor empty.
    pub(crate) fn kid_and_typ(self) -> Result<(String, String), JoseError> {
        let kid = self.kid.filter(|k| !k.is_empty()).ok_or(JoseError::Key)?;
        let typ = self.typ.filter(|t| !t.is_empty()).ok_or(JoseError::Type)?;
        Ok((kid, typ))
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(4);
        while let Some(Name(name)) = map.next_key()? {
            if seen.len() == MAX_MEMBERS || seen.contains(&name) || REFUSED.contains(&&*name) {
                return Err(A::Error::custom("member"));
            }
            let place = match &*name {
                "alg" => Some(&mut header.alg),
                "enc" => Some(&mut header.enc),
                "kid" => Some(&mut header.kid),
                "typ" => Some(&mut header.typ),
                _ => None,
            };
            match place {
                Some(place) => *place = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            seen.push(name);
        }
        Ok(header)
    }
}

/// A member's name, borrowed where it has no escapes (serde alone would copy a `Cow`).
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RawHeader, JoseError> {
        RawHeader::read(&b64::encode(json.as_bytes()))
    }

    #[test]
    fn reads_what_it_needs_and_skips_the_rest() {
        let h = read(r#" {"alg":"ES256","x":{"deep":[1,2]},"kid":"a\u0062","typ":"t","cty":"x"} "#).unwrap();
        assert_eq!(h.alg(), Ok("ES256"));
        assert_eq!(h.enc(), Err(JoseError::Algorithm));
        assert_eq!(h.kid_and_typ(), Ok(("ab".into(), "t".into())));
    }

    #[test]
    fn refuses() {
        for json in [
            "",
            "{",
            "[]",
            "null",
            "\"alg\"",
            "{} {}",
            "{}x",
            r#"{"alg":1}"#,
            r#"{"kid":null}"#,
            r#"{"typ":["t"]}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"ES256","\u0061lg":"none"}"#,
            r#"{"x":1,"x":2}"#,
            r#"{"\u0063rit":[]}"#,
            r#"{"alg":"\ud800"}"#,
        ] {
            assert_eq!(read(json).err(), Some(JoseError::Malformed), "{json}");
        }
        for name in REFUSED {
            assert_eq!(
                read(&format!(r#"{{"alg":"ES256","{name}":null}}"#)).err(),
                Some(JoseError::Malformed),
                "{name}"
            );
        }
        assert!(RawHeader::read(&b64::encode(b"{\"alg\":\"\xff\"}")).is_err());
        assert!(RawHeader::read(&b64::encode(b"\xef\xbb\xbf{}")).is_err(), "byte order mark");
        let many: Vec<_> = (0..=MAX_MEMBERS).map(|i| format!("\"m{i}\":1")).collect();
        assert!(read(&format!("{{{}}}", many[1..].join(","))).is_ok());
        assert!(read(&format!("{{{}}}", many.join(","))).is_err());
        assert!(read(&format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_HEADER - 8))).is_ok());
        assert!(read(&format!("{{\"x\":\"{}\"}}", "y".repeat(MAX_HEADER - 7))).is_err());
        assert!(read(&"[".repeat(1000)).is_err());
        assert!(read(&format!("{{\"x\":{}", "[".repeat(900))).is_err());
    }

    #[test]
    fn kid_and_typ_must_be_there() {
        assert_eq!(read(r#"{"typ":"t"}"#).unwrap().kid_and_typ(), Err(JoseError::Key));
        assert_eq!(read(r#"{"typ":"t","kid":""}"#).unwrap().kid_and_typ(), Err(JoseError::Key));
        assert_eq!(read(r#"{"kid":"k"}"#).unwrap().kid_and_typ(), Err(JoseError::Type));
        assert_eq!(read(r#"{"kid":"k","typ":""}"#).unwrap().kid_and_typ(), Err(JoseError::Type));
    }
}
