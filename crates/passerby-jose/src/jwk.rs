//! Public keys: which ones are taken, as JSON (RFC 7517) and by thumbprint (RFC 7638).

use std::{borrow::Cow, fmt};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{
    Algorithm, JoseError, b64,
    header::{Member, Text, read_members},
    secret::sha256,
};

/// Longest RSA modulus, in bytes (4096 bits): bounds signatures, and the time that one takes.
pub(crate) const MAX_RSA: usize = 512;
/// Shortest (2048 bits, RFC 7518 section 3.3).
const MIN_RSA: usize = 256;
/// Longest RSA exponent, in bytes. The customary one, 65537, has three; the time of a check grows with it.
const MAX_EXPONENT: usize = 4;

/// Members of private and of shared keys (RFC 7518 section 6, RFC 8037 section 2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The parts of a public key, checked for their sizes. That a point is on its curve shows when it is parsed.
pub(crate) enum PublicKey {
    /// P-256: 4, x, y.
    Es256([u8; 65]),
    /// Ed25519.
    EdDsa([u8; 32]),
    /// RSA: modulus and exponent without leading zeros.
    Rs256 { n: Vec<u8>, e: Vec<u8> },
}

impl PublicKey {
    /// From a JWK of this algorithm's kind.
    ///
    /// # Errors
    /// [`JoseError::Key`] for another kind or curve, and for a part that is missing, of another size or spelling.
    pub(crate) fn from_jwk(algorithm: Algorithm, jwk: &RawJwk<'_>) -> Result<Self, JoseError> {
        let kind = match algorithm {
            Algorithm::Es256 => ("EC", Some("P-256")),
            Algorithm::EdDsa => ("OKP", Some("Ed25519")),
            Algorithm::Rs256 => ("RSA", None),
        };
        if jwk.kty.as_deref() != Some(kind.0) || jwk.crv.as_deref() != kind.1 {
            return Err(JoseError::Key);
        }
        let coordinate = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(b64::decode_array::<32>);
        match algorithm {
            Algorithm::Es256 => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&coordinate(&jwk.x).ok_or(JoseError::Key)?);
                point[33..].copy_from_slice(&coordinate(&jwk.y).ok_or(JoseError::Key)?);
                Ok(Self::Es256(point))
            }
            Algorithm::EdDsa => coordinate(&jwk.x).map(Self::EdDsa).ok_or(JoseError::Key),
            Algorithm::Rs256 => {
                let number = |text: &Option<Cow<'_, str>>| text.as_deref().and_then(b64::decode);
                Self::rsa(number(&jwk.n).ok_or(JoseError::Key)?, number(&jwk.e).ok_or(JoseError::Key)?)
            }
        }
    }

    /// From the raw public key: the uncompressed point, the 32 bytes, or the `RSAPublicKey` of RFC 8017.
    ///
    /// # Errors
    /// [`JoseError::Key`] for anything else.
    pub(crate) fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Result<Self, JoseError> {
        match algorithm {
            Algorithm::Es256 => {
                raw.try_into().ok().filter(|p: &[u8; 65]| p[0] == 4).map(Self::Es256).ok_or(JoseError::Key)
            }
            Algorithm::EdDsa => raw.try_into().map(Self::EdDsa).map_err(|_| JoseError::Key),
            Algorithm::Rs256 => {
                let (n, e) = rsa_components(raw).ok_or(JoseError::Key)?;
                Self::rsa(n.to_vec(), e.to_vec())
            }
        }
    }

    /// 2048 to 4096 bits, both numbers odd and without leading zeros, the exponent above one.
    fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, JoseError> {
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let long_enough = n.len() > MIN_RSA || n.len() == MIN_RSA && n[0] >= 0x80;
        let leading_zero = n.first() == Some(&0) || e.first() == Some(&0);
        if !long_enough
            || n.len() > MAX_RSA
            || e.len() > MAX_EXPONENT
            || leading_zero
            || !odd(&n)
            || !odd(&e)
            || e == [1]
        {
            return Err(JoseError::Key);
        }
        Ok(Self::Rs256 { n, e })
    }

    /// What it checks.
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Rs256 { .. } => Algorithm::Rs256,
        }
    }

    /// How long its signatures are, in bytes.
    pub(crate) fn signature_len(&self) -> usize {
        match self {
            Self::Es256(_) | Self::EdDsa(_) => 64,
            Self::Rs256 { n, .. } => n.len(),
        }
    }

    /// Ready to check signatures.
    ///
    /// # Errors
    /// [`JoseError::Key`] when the library refuses it: a point that is not on the curve.
    pub(crate) fn parse(&self) -> Result<ParsedPublicKey, JoseError> {
        match self {
            Self::Es256(point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Self::EdDsa(point) => ParsedPublicKey::new(&ED25519, point),
            Self::Rs256 { n, e } => RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256),
        }
        .map_err(|_| JoseError::Key)
    }

    /// The members that make up the key, in the order of their names (RFC 7638 section 3.2).
    pub(crate) fn members(&self) -> Vec<(&'static str, Cow<'static, str>)> {
        let bytes = |bytes: &[u8]| b64::encode(bytes).into();
        match self {
            Self::Es256(point) => vec![
                ("crv", "P-256".into()),
                ("kty", "EC".into()),
                ("x", bytes(&point[1..33])),
                ("y", bytes(&point[33..])),
            ],
            Self::EdDsa(point) => vec![("crv", "Ed25519".into()), ("kty", "OKP".into()), ("x", bytes(point))],
            Self::Rs256 { n, e } => vec![("e", bytes(e)), ("kty", "RSA".into()), ("n", bytes(n))],
        }
    }

    /// The SHA-256 thumbprint (RFC 7638). No member has a character that JSON would escape.
    pub(crate) fn thumbprint(&self) -> [u8; 32] {
        let mut json = String::with_capacity(192);
        let mut before = "{\"";
        for (name, value) in self.members() {
            for part in [before, name, "\":\"", &value] {
                json.push_str(part);
            }
            before = "\",\"";
        }
        json.push_str("\"}");
        sha256(json.as_bytes())
    }
}

/// Modulus and exponent of `RSAPublicKey ::= SEQUENCE { INTEGER, INTEGER }` (RFC 8017 appendix A.1.1), without leading
/// zeros. The text comes from the library, which checks the numbers; it offers no other way to them without `ring-io`.
fn rsa_components(der: &[u8]) -> Option<(&[u8], &[u8])> {
    fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
        let (&[found, first], rest) = der.split_first_chunk()?;
        if found != tag {
            return None;
        }
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(n, rest)| (usize::from(*n), rest))?,
            0x82 => rest.split_first_chunk().map(|(n, rest)| (usize::from(u16::from_be_bytes(*n)), rest))?,
            _ => return None,
        };
        rest.split_at_checked(len)
    }
    fn positive(number: &[u8]) -> Option<&[u8]> {
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        (*number.first()? != 0).then_some(number)
    }
    let (sequence, rest) = element(0x30, der)?;
    let (n, tail) = element(0x02, sequence)?;
    let (e, tail) = element(0x02, tail)?;
    (rest.is_empty() && tail.is_empty()).then_some((positive(n)?, positive(e)?))
}

/// A JWK as it came: the members that are read, each at most once and a text; no private one is there.
#[derive(Debug, Default)]
pub(crate) struct RawJwk<'a> {
    kty: Option<Cow<'a, str>>,
    crv: Option<Cow<'a, str>>,
    x: Option<Cow<'a, str>>,
    y: Option<Cow<'a, str>>,
    n: Option<Cow<'a, str>>,
    e: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for RawJwk<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JwkVisitor)
    }
}

struct JwkVisitor;

impl<'de> Visitor<'de> for JwkVisitor {
    type Value = RawJwk<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a public key")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawJwk<'de>, A::Error> {
        let mut jwk = RawJwk::default();
        read_members(map, |name, map| {
            let place = match name {
                "kty" => &mut jwk.kty,
                "crv" => &mut jwk.crv,
                "x" => &mut jwk.x,
                "y" => &mut jwk.y,
                "n" => &mut jwk.n,
                "e" => &mut jwk.e,
                _ if PRIVATE.contains(&name) => return Ok(Member::Refused),
                _ => return Ok(Member::Other),
            };
            *place = Some(map.next_value::<Text<'_>>()?.0);
            Ok(Member::Read)
        })?;
        Ok(jwk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_in_der() {
        let short = [&[0x30, 0x81, 0x89, 2, 0x81, 0x81, 0][..], &[0xff; 128], &[2, 3, 1, 0, 1]].concat();
        assert_eq!(rsa_components(&short).map(|(n, e)| (n.len(), e.len())), Some((128, 3)));
        assert_eq!(PublicKey::from_raw(Algorithm::Rs256, &short).err(), Some(JoseError::Key), "1024 bits");
        for end in 0..short.len() {
            assert_eq!(rsa_components(&short[..end]), None);
        }
    }

    #[test]
    fn raw_keys() {
        for wrong in [&[4; 64][..], &[4; 66], &[2; 33], &[], &[0; 65]] {
            assert_eq!(PublicKey::from_raw(Algorithm::Es256, wrong).err(), Some(JoseError::Key));
        }
        let off = PublicKey::from_raw(Algorithm::Es256, &[4; 65]).unwrap();
        assert_eq!(off.parse().err(), Some(JoseError::Key), "not on the curve");
        assert_eq!((off.algorithm(), off.signature_len()), (Algorithm::Es256, 64));
        for wrong in [&[][..], &[0; 31], &[0; 33]] {
            assert_eq!(PublicKey::from_raw(Algorithm::EdDsa, wrong).err(), Some(JoseError::Key));
        }
    }
}
