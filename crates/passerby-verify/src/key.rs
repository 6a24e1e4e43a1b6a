//! Public keys (RFC 7517, RFC 8037): parsed once; the key fixes the algorithm.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};
use serde_json::Value;

use crate::jws::{Jws, Object, decode, encode, object};

/// Sizes of RSA moduli that are taken, in bytes: 2048 to 4096 bits. The upper end bounds the time of a check.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// More keys than an issuer publishes.
const MAX_KEYS: usize = 64;

/// Members that only a private or a symmetric key has.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A signature algorithm. There is no other: neither `none` nor a symmetric one has a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 4096 bits.
    Rs256,
}

impl Algorithm {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The name in `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A public key, parsed once.
pub(crate) struct PublicKey {
    algorithm: Algorithm,
    parsed: ParsedPublicKey,
    thumbprint: [u8; 32],
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.algorithm)
    }
}

impl PublicKey {
    /// From a JWK; `None` for one that is private, of another kind, or not in the only spelling that a thumbprint can be
    /// taken of.
    pub(crate) fn from_jwk(jwk: &Object) -> Option<Self> {
        if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
            return None;
        }
        let text = |name: &str| jwk.get(name)?.as_str();
        let (algorithm, parsed, canonical) = match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) => {
                let (x, y) = (text("x")?, text("y")?);
                let (left, right) = (decode(x)?, decode(y)?);
                if left.len() != 32 || right.len() != 32 {
                    return None;
                }
                let point = [&[4][..], &left, &right].concat();
                let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
                (Algorithm::Es256, key, format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#))
            }
            ("OKP", Some("Ed25519")) => {
                let x = text("x")?;
                let key = ParsedPublicKey::new(&ED25519, decode(x)?).ok()?;
                (Algorithm::EdDsa, key, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
            }
            ("RSA", None) => {
                let (modulus, exponent) = (text("n")?, text("e")?);
                let (n, e) = (decode(modulus)?, decode(exponent)?);
                // no leading zeros (RFC 7518 section 2, Base64urlUInt): a thumbprint has one spelling
                if !RSA_BYTES.contains(&n.len()) || n[0] == 0 || e.first().is_none_or(|b| *b == 0) || e.len() > 4 {
                    return None;
                }
                let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?;
                (Algorithm::Rs256, key, format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#))
            }
            _ => return None,
        };
        if jwk.get("alg").is_some_and(|alg| alg != algorithm.as_str()) {
            return None;
        }
        Some(Self { algorithm, parsed, thumbprint: sha256(canonical.as_bytes()) })
    }

    /// What it is used with.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// RFC 7638, by SHA-256.
    pub(crate) fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// Whether the signature is of this key. That the header agrees on the algorithm is the caller's to check.
    pub(crate) fn verify(&self, jws: &Jws<'_>) -> bool {
        self.parsed.verify_sig(jws.input.as_bytes(), &jws.signature).is_ok()
    }
}

/// The keys of an issuer, by `kid`.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<(Box<str>, Arc<PublicKey>)>);

impl KeySet {
    /// From a JWK set. Keys that cannot be used are passed over: for encryption, without a `kid`, of an algorithm that
    /// is not on the list. `None` when none is left, as an answer without a key is no set to trade the old one for.
    pub(crate) fn read(json: &[u8], algorithms: &[Algorithm]) -> Option<Self> {
        let set = object(json)?;
        let mut keys: Vec<(Box<str>, Arc<PublicKey>)> = Vec::new();
        for jwk in set.get("keys")?.as_array()?.iter().filter_map(Value::as_object) {
            let kid = jwk.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty());
            let signs = jwk.get("use").is_none_or(|purpose| purpose == "sig");
            let verifies =
                jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|o| o.iter().any(|o| o == "verify")));
            let (Some(kid), true, true) = (kid, signs, verifies) else { continue };
            let Some(key) = PublicKey::from_jwk(jwk).filter(|key| algorithms.contains(&key.algorithm())) else {
                continue;
            };
            if keys.len() < MAX_KEYS && !keys.iter().any(|(held, _)| **held == *kid) {
                keys.push((kid.into(), Arc::new(key)));
            }
        }
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The key of that name.
    pub(crate) fn find(&self, kid: &str) -> Option<Arc<PublicKey>> {
        self.0.iter().find(|(held, _)| **held == *kid).map(|(_, key)| key.clone())
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 as base64url, as `ath` and `jkt` have it.
pub(crate) fn sha256_text(bytes: &[u8]) -> String {
    encode(&sha256(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(jwk: &Value) -> Option<PublicKey> {
        PublicKey::from_jwk(jwk.as_object().unwrap())
    }

    /// The key of RFC 7638 section 3.1.
    fn rsa() -> Value {
        json!({ "kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw" })
    }

    fn ed25519() -> Value {
        // RFC 8037 appendix A.2
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
    }

    fn p256() -> Value {
        // RFC 7515 appendix A.3
        json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" })
    }

    #[test]
    fn thumbprints_of_the_rfcs() {
        assert_eq!(encode(key(&rsa()).unwrap().thumbprint()), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        assert_eq!(encode(key(&ed25519()).unwrap().thumbprint()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn signatures_of_the_rfcs() {
        // RFC 7515 A.3 and RFC 8037 A.4
        let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        for (jwk, text) in [(p256(), es256), (ed25519(), eddsa)] {
            let key = key(&jwk).unwrap();
            assert!(key.verify(&Jws::read(text).unwrap()));
            let changed = text.replacen(".e", ".f", 1).replacen(".R", ".S", 1);
            assert!(!key.verify(&Jws::read(&changed).unwrap()));
        }
    }

    #[test]
    fn refuses_other_keys() {
        let change = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            key(&jwk).is_none()
        };
        for private in PRIVATE {
            for jwk in [rsa(), ed25519(), p256()] {
                assert!(change(jwk, private, json!("AQ")), "{private}");
            }
        }
        for alg in ["HS256", "none", "ES384", "PS256"] {
            for jwk in [rsa(), ed25519(), p256()] {
                assert!(change(jwk, "alg", json!(alg)), "{alg}");
            }
        }
        assert!(change(p256(), "crv", json!("P-384")));
        assert!(change(p256(), "x", json!("AAAA")));
        assert!(change(p256(), "y", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), "not on the curve");
        assert!(change(ed25519(), "x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp")), "another spelling");
        assert!(change(ed25519(), "kty", json!("oct")));
        assert!(change(rsa(), "n", json!(encode(&[0xff; 128]))), "1024 bits");
        assert!(change(rsa(), "n", json!(encode(&[0xff; 513]))), "too long");
        assert!(change(rsa(), "n", json!(encode(&[&[0][..], &[0xff; 256]].concat()))), "leading zero");
        assert!(change(rsa(), "e", json!("")));
    }

    #[test]
    fn sets() {
        let read = |set: &Value| KeySet::read(set.to_string().as_bytes(), &[Algorithm::Rs256, Algorithm::Es256]);
        let mut p = p256();
        p["kid"] = json!("p");
        let mut twin = rsa();
        twin["kid"] = json!("p");
        let mut sealing = p.clone();
        sealing["use"] = json!("enc");
        sealing["kid"] = json!("s");
        let mut wrapping = p.clone();
        wrapping["key_ops"] = json!(["wrapKey"]);
        wrapping["kid"] = json!("w");
        let mut other = ed25519();
        other["kid"] = json!("e");
        let set = read(&json!({ "keys": [1, {}, p256(), rsa(), p, twin, sealing, wrapping, other] })).unwrap();
        assert_eq!(set.0.iter().map(|(kid, _)| &**kid).collect::<Vec<_>>(), ["2011-04-29", "p"]);
        assert_eq!(set.find("p").unwrap().algorithm(), Algorithm::Es256, "the first of a name");
        for none in [
            json!({}),
            json!({ "keys": [] }),
            json!({ "keys": {} }),
            json!({ "keys": [{ "kty": "oct", "k": "AQ", "kid": "a" }] }),
            json!([]),
        ] {
            assert!(read(&none).is_none(), "{none}");
        }
        let many: Vec<Value> = (0..100)
            .map(|i| {
                let mut k = p256();
                k["kid"] = json!(i.to_string());
                k
            })
            .collect();
        assert_eq!(read(&json!({ "keys": many })).unwrap().0.len(), MAX_KEYS);
    }
}
