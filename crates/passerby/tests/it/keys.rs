//! A device with a key of its own: makes DPoP proofs (RFC 9449), good ones and, member by member, bad ones.

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use passerby_jose::{b64, sha256};
use serde_json::{Value, json};

use crate::app::{Answer, Call, TestApp};

#[derive(Clone)]
enum Pair {
    Es256(Arc<EcdsaKeyPair>),
    EdDsa(Arc<Ed25519KeyPair>),
    Rs256(Arc<RsaKeyPair>),
}

/// A device key.
#[derive(Clone)]
pub struct DeviceKey {
    pair: Pair,
    /// The public JWK.
    pub jwk: Value,
}

impl DeviceKey {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": b64::encode(&point[1..33]), "y": b64::encode(&point[33..])});
        Self { pair: Pair::Es256(Arc::new(pair)), jwk }
    }

    pub fn eddsa() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64::encode(pair.public_key().as_ref())});
        Self { pair: Pair::EdDsa(Arc::new(pair)), jwk }
    }

    pub fn rs256() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // RSAPublicKey of 2048 bits and exponent 65537: the modulus without its leading zero, from byte 9
        let der = pair.public_key().as_ref();
        let jwk = json!({"kty": "RSA", "n": b64::encode(&der[9..265]), "e": "AQAB"});
        Self { pair: Pair::Rs256(Arc::new(pair)), jwk }
    }

    pub fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
            Pair::Rs256(_) => "RS256",
        }
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        let m = |name: &str| self.jwk[name].as_str().unwrap();
        let text = match self.pair {
            Pair::Es256(_) => format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, m("x"), m("y")),
            Pair::EdDsa(_) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, m("x")),
            Pair::Rs256(_) => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, m("e"), m("n")),
        };
        b64::encode(&sha256(text.as_bytes()))
    }

    /// Signs any header and claims.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs any two texts, even such as no JSON value can say.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64::encode(header.as_bytes()), b64::encode(claims.as_bytes()));
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut out = vec![0; 256];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut out).unwrap();
                out
            }
        };
        format!("{input}.{}", b64::encode(&signature))
    }

    /// The header of a good proof.
    pub fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "alg": self.alg(), "jwk": self.jwk})
    }

    /// The claims of a good proof for this server.
    pub fn claims(app: &TestApp, method: &str, path: &str, token: Option<&str>) -> Value {
        let path = path.split('?').next().unwrap();
        let mut jti = [0u8; 16];
        passerby_jose::fill_random(&mut jti).unwrap();
        let mut claims = json!({
            "jti": b64::encode(&jti), "htm": method, "htu": format!("http://localhost:9011{path}"),
            "iat": app.now(), "nonce": app.core.dpop_nonce(),
        });
        if let Some(token) = token {
            claims["ath"] = b64::encode(&sha256(token.as_bytes())).into();
        }
        claims
    }

    /// A good proof.
    pub fn proof(&self, app: &TestApp, method: &str, path: &str, token: Option<&str>) -> String {
        self.sign(&self.header(), &Self::claims(app, method, path, token))
    }

    /// A call with a proof of this key.
    pub fn call(&self, app: &TestApp, method: &str, path: &str) -> Call {
        app.call(method, path).header("dpop", &self.proof(app, method, path, None))
    }

    /// `POST` of JSON with a proof.
    pub fn post(&self, app: &TestApp, path: &str, body: &Value) -> Call {
        self.call(app, "POST", path).json(body)
    }

    /// A call with a bound access token.
    pub fn with_token(&self, app: &TestApp, method: &str, path: &str, token: &str) -> Call {
        app.call(method, path)
            .header("authorization", &format!("DPoP {token}"))
            .header("dpop", &self.proof(app, method, path, Some(token)))
    }

    /// `POST /v1/guests` of the SPA client with this key.
    pub async fn ensure(&self, app: &TestApp) -> Answer {
        self.post(app, "/v1/guests", &json!({"client_id": "demo-spa"})).send().await
    }
}
