//! The strict reader of token headers, shared by JWS, JWE and proofs.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use crate::{JoseError, MAX_HEADER, b64, jwk::RawJwk};

/// Members that would let a token say how it is to be checked: an extension, a compression, another payload encoding,
/// or a key from elsewhere (RFC 7515 section 4.1, RFC 7797, RFC 8725 sections 3.9 and 3.10). So is `jwk`, but in a proof,
/// whose key is what it is about.
const REFUSED: [&str; 6] = ["crit", "zip", "b64", "jku", "x5u", "x5c"];

/// More members than any object here has; bounds the search for duplicates.
const MAX_MEMBERS: usize = 16;

/// The members that are read; each at most once, others may be there.
#[derive(Debug, Default)]
pub(crate) struct RawHeader<'a> {
    alg: Option<Cow<'a, str>>,
    enc: Option<Cow<'a, str>>,
    kid: Option<Cow<'a, str>>,
    typ: Option<Cow<'a, str>>,
    jwk: Option<RawJwk<'a>>,
}

/// The bytes of an encoded header.
pub(crate) fn decode(encoded: &str) -> Result<Vec<u8>, JoseError> {
    if encoded.len() > b64::encoded_len(MAX_HEADER) {
        return Err(JoseError::Malformed);
    }
    b64::decode(encoded).ok_or(JoseError::Malformed)
}

impl<'a> RawHeader<'a> {
    /// Reads a decoded header that brings no key.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, JoseError> {
        read(bytes, HeaderVisitor { with_key: false })
    }

    /// Reads a decoded header that may bring a public key.
    pub(crate) fn read_with_key(bytes: &'a [u8]) -> Result<Self, JoseError> {
        read(bytes, HeaderVisitor { with_key: true })
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
        Ok((kid.into_owned(), typ.into_owned()))
    }

    /// `typ`, which must be there.
    pub(crate) fn typ(&self) -> Result<&str, JoseError> {
        self.typ.as_deref().ok_or(JoseError::Type)
    }

    /// `jwk`, which must be there.
    pub(crate) fn jwk(&self) -> Result<&RawJwk<'a>, JoseError> {
        self.jwk.as_ref().ok_or(JoseError::Key)
    }
}

fn read(bytes: &[u8], visitor: HeaderVisitor) -> Result<RawHeader<'_>, JoseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JoseError::Malformed)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let header = reader.deserialize_map(visitor).map_err(|_| JoseError::Malformed)?;
    reader.end().map_err(|_| JoseError::Malformed)?;
    Ok(header)
}

struct HeaderVisitor {
    with_key: bool,
}

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token header")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawHeader<'de>, A::Error> {
        let mut header = RawHeader::default();
        read_members(map, |name, map| {
            let place = match name {
                "alg" => &mut header.alg,
                "enc" => &mut header.enc,
                "kid" => &mut header.kid,
                "typ" => &mut header.typ,
                "jwk" if self.with_key => {
                    header.jwk = Some(map.next_value()?);
                    return Ok(Member::Read);
                }
                "jwk" => return Ok(Member::Refused),
                _ if REFUSED.contains(&name) => return Ok(Member::Refused),
                _ => return Ok(Member::Other),
            };
            *place = Some(map.next_value::<Text<'_>>()?.0);
            Ok(Member::Read)
        })?;
        Ok(header)
    }
}

/// What a reader does with a member of some name.
pub(crate) enum Member {
    /// It has read the value.
    Read,
    /// It does not know the name; the value is skipped.
    Other,
    /// The name may not be there.
    Refused,
}

/// Hands each name of an object to `take`; fails for a name that comes twice, that is refused, or that is one too many.
pub(crate) fn read_members<'de, A: MapAccess<'de>>(
    mut map: A,
    mut take: impl FnMut(&str, &mut A) -> Result<Member, A::Error>,
) -> Result<(), A::Error> {
    let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(8);
    while let Some(Text(name)) = map.next_key()? {
        if seen.len() == MAX_MEMBERS || seen.contains(&name) {
            return Err(A::Error::custom("member"));
        }
        match take(&name, &mut map)? {
            Member::Read => {}
            Member::Other => drop(map.next_value::<IgnoredAny>()?),
            Member::Refused => return Err(A::Error::custom("member")),
        }
        seen.push(name);
    }
    Ok(())
}

/// A text, borrowed where it has no escapes (serde alone would copy a `Cow`).
#[derive(serde::Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    /// As a token's header, kept for as long as the tests run.
    fn read(json: &str) -> Result<RawHeader<'static>, JoseError> {
        RawHeader::read(decode(&b64::encode(json.as_bytes()))?.leak())
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
        for name in REFUSED.into_iter().chain(["jwk"]) {
            assert_eq!(
                read(&format!(r#"{{"alg":"ES256","{name}":null}}"#)).err(),
                Some(JoseError::Malformed),
                "{name}"
            );
        }
        assert!(RawHeader::read(b"{\"alg\":\"\xff\"}").is_err());
        assert!(RawHeader::read(b"\xef\xbb\xbf{}").is_err(), "byte order mark");
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
