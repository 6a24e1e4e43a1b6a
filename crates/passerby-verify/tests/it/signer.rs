//! Keys that sign anything, as an issuer, a device or a forger would.

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A private key with its name.
pub struct Key {
    pub kid: String,
    private: Private,
}

enum Private {
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn hash(text: &str) -> String {
    b64(digest::digest(&digest::SHA256, text.as_bytes()))
}

impl Key {
    pub fn es256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid: kid.into(), private: Private::Es256(Box::new(pair)) }
    }

    pub fn eddsa(kid: &str) -> Self {
        Self { kid: kid.into(), private: Private::EdDsa(Ed25519KeyPair::generate().unwrap()) }
    }

    pub fn rs256(kid: &str) -> Self {
        Self { kid: kid.into(), private: Private::Rs256(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())) }
    }

    /// One of each algorithm.
    pub fn all() -> [Self; 3] {
        [Self::es256("e"), Self::eddsa("d"), Self::rs256("r")]
    }

    pub fn alg(&self) -> &'static str {
        match &self.private {
            Private::Es256(_) => "ES256",
            Private::EdDsa(_) => "EdDSA",
            Private::Rs256(_) => "RS256",
        }
    }

    /// The members that a thumbprint is taken of (RFC 7638), in their order.
    pub fn public(&self) -> Value {
        match &self.private {
            Private::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "crv": "P-256", "kty": "EC", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
            }
            Private::EdDsa(pair) => json!({ "crv": "Ed25519", "kty": "OKP", "x": b64(pair.public_key()) }),
            Private::Rs256(pair) => {
                // PKCS#1 of 2048 bits: a header of nine bytes, the modulus, then 65537 in five
                let der = pair.public_key().as_ref();
                json!({ "e": b64([1, 0, 1]), "kty": "RSA", "n": b64(&der[9..265]) })
            }
        }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = self.public();
        for (name, value) in [("kid", self.kid.as_str()), ("use", "sig"), ("alg", self.alg())] {
            jwk[name] = value.into();
        }
        jwk
    }

    pub fn thumbprint(&self) -> String {
        hash(&self.public().to_string())
    }

    /// Header and claims as given, to the letter.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        let signature = match &self.private {
            Private::Es256(pair) => pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec(),
            Private::EdDsa(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
            Private::Rs256(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut out).unwrap();
                out
            }
        };
        format!("{input}.{}", b64(signature))
    }

    /// An access token's header and these claims.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.alg(), "kid": self.kid, "typ": "at+jwt" });
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A proof's header and these claims.
    pub fn proof(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.alg(), "jwk": self.public(), "typ": "dpop+jwt" });
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

/// Signed with a shared secret.
pub fn hs256(secret: &[u8], header: &str, claims: &str) -> String {
    let input = format!("{}.{}", b64(header), b64(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    format!("{input}.{}", b64(tag))
}
