//! The strict reader of compact JWS (RFC 7515): access tokens and proofs.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// Longest token that is read, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Members that would let a token say how it is to be checked: an extension, a compression, another payload encoding, or
/// where to find a key (RFC 7515 section 4.1, RFC 7797, RFC 8725 sections 3.9 and 3.10).
const REFUSED: [&str; 6] = ["crit", "zip", "b64", "jku", "x5u", "x5c"];

/// A signed token, taken apart and not yet believed.
#[derive(Debug)]
pub(crate) struct Jws<'a> {
    /// Its header.
    pub(crate) header: Object,
    /// What the signature is over.
    pub(crate) input: &'a str,
    /// The signature.
    pub(crate) signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes a token apart; `None` for anything but three parts in their only spelling, and for a header that is no
    /// object, names a member twice, or has one of the members that no token of ours needs.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let (input, signature) = text.rsplit_once('.')?;
        let (header, payload) = input.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header = object(&decode(header)?)?;
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return None;
        }
        Some(Self { header, input, signature: decode(signature)?, payload })
    }

    /// A member of the header that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// What the token claims.
    pub(crate) fn claims(&self) -> Option<Object> {
        object(&decode(self.payload)?)
    }
}

/// The bytes of a base64url text without padding; `None` for any other spelling of them.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// As base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON object whose members are each named once; `None` for anything else.
pub(crate) fn object(json: &[u8]) -> Option<Object> {
    serde_json::from_slice::<Distinct>(json).ok().map(|distinct| distinct.0)
}

/// serde_json takes the last of two equal members in silence; what two readers may read differently is refused.
struct Distinct(Object);

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Distinct;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Distinct, A::Error> {
                let mut object = Object::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if object.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is named twice"));
                    }
                }
                Ok(Distinct(object))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_header(header: &str) -> Option<Object> {
        Jws::read(&format!("{}.e30.AAAA", encode(header.as_bytes()))).map(|jws| jws.header)
    }

    #[test]
    fn takes_apart() {
        let jws = Jws::read("eyJ0eXAiOiJ4In0.eyJhIjoxfQ.AQID").unwrap();
        assert_eq!((jws.text("typ"), jws.text("alg")), (Some("x"), None));
        assert_eq!((jws.input, &*jws.signature), ("eyJ0eXAiOiJ4In0.eyJhIjoxfQ", &[1, 2, 3][..]));
        assert_eq!(jws.claims().unwrap()["a"], 1);
    }

    #[test]
    fn has_one_spelling() {
        for text in [
            "",
            ".",
            "..",
            "e30",
            "e30.e30",
            "e30.e30.AQ.AQ",
            "e30.e30.AQ.AQ.AQ",
            "e30.e30.AR",
            "e30.e30.AQ==",
            " e30.e30.AQ",
            "e31.e30.AQ",
            "W10.e30.AQ",
        ] {
            assert!(Jws::read(text).is_none(), "{text}");
        }
        assert!(Jws::read("e30.e30.AQ").is_some());
        let long = format!("e30.{}.AQ", "A".repeat(MAX_TOKEN - 7));
        assert!(Jws::read(&long).is_some() && Jws::read(&format!("{long}A")).is_none());
    }

    #[test]
    fn refuses_what_says_how_to_check() {
        for name in REFUSED {
            assert!(with_header(&format!(r#"{{"alg":"ES256","{name}":null}}"#)).is_none(), "{name}");
        }
        for header in
            [r#"{"alg":"a","alg":"a"}"#, r#"{"alg":"a","\u0061lg":"b"}"#, r#"{"\u006aku":"x"}"#, "[]", "1", "{} {}", ""]
        {
            assert!(with_header(header).is_none(), "{header}");
        }
        assert!(with_header(r#"{"alg":"ES256","cty":"x"}"#).is_some());
        assert!(object(&b"[".repeat(5000)).is_none());
    }

    proptest! {
        #[test]
        fn never_panics(text: String, parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5), json in r#"(\{|\[|\}|"|:|,|alg|\\u00|[0-9a-f]| |\\){0,40}"#) {
            for text in [text, parts.join("."), format!("{}.e30.AQ", encode(json.as_bytes()))] {
                if let Some(jws) = Jws::read(&text) {
                    let _ = jws.claims();
                }
            }
        }
    }
}
