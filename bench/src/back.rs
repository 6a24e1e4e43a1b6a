//! Coming back by a device key: each request carries a proof of its own (RFC 9449).

use anyhow::Context as _;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use passerby_jose::b64;
use serde_json::json;

use crate::client::{Answer, Connection, Source};

/// Keys whose guests come back in turn.
const KEYS: usize = 16;

struct Key {
    pair: EcdsaKeyPair,
    /// The header, encoded, with its full stop.
    header: String,
}

impl Key {
    fn new() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let point = pair.public_key().as_ref();
        let (x, y) = (b64::encode(&point[1..33]), b64::encode(&point[33..]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}).to_string();
        Ok(Self { pair, header: b64::encode(header.as_bytes()) + "." })
    }

    #[expect(clippy::disallowed_methods, reason = "the load generator is a client with a clock of its own")]
    fn proof(&self, nonce: Option<&str>, number: u64) -> anyhow::Result<String> {
        let iat = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let mut claims = json!({
            "jti": format!("bench-{number:016x}"), "htm": "POST", "htu": "http://localhost:9011/v1/guests", "iat": iat,
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let input = format!("{}{}", self.header, b64::encode(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes())?;
        Ok(format!("{input}.{}", b64::encode(signature.as_ref())))
    }
}

/// Guests that come back by their keys.
pub(crate) struct Back {
    keys: Vec<Key>,
    nonce: Option<String>,
    sent: u64,
}

impl Back {
    /// Makes the guests.
    pub(crate) async fn new(connection: &mut Connection) -> anyhow::Result<Self> {
        let keys = (0..KEYS).map(|_| Key::new()).collect::<anyhow::Result<_>>()?;
        let mut back = Self { keys, nonce: None, sent: 0 };
        // the first proof has no nonce: it is refused, and its answer brings one
        let answer = connection.ask(&back.request()?).await?;
        answer.expect(400)?;
        back.learn(&answer)?;
        back.sent = 0;
        for _ in 0..KEYS {
            let answer = connection.ask(&back.request()?).await?;
            answer.expect(201)?;
            back.learn(&answer)?;
        }
        Ok(back)
    }

    /// How many guests it has.
    pub(crate) fn guests(&self) -> u64 {
        self.keys.len() as u64
    }

    fn request(&mut self) -> anyhow::Result<Vec<u8>> {
        let body = r#"{"client_id":"demo-spa","session_type":"tokens"}"#;
        let key = &self.keys[self.sent as usize % KEYS];
        self.sent += 1;
        let proof = key.proof(self.nonce.as_deref(), self.sent + u64::from(self.nonce.is_none()) * (1 << 60))?;
        Ok(format!(
            "POST /v1/guests HTTP/1.1\r\nhost: localhost\r\ndpop: {proof}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes())
    }

    fn learn(&mut self, answer: &Answer<'_>) -> anyhow::Result<()> {
        let nonce = answer.header("dpop-nonce").context("the answer has no DPoP-Nonce")?;
        if self.nonce.as_deref() != Some(nonce) {
            self.nonce = Some(nonce.to_owned());
        }
        Ok(())
    }
}

impl Source for Back {
    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        match self.request() {
            Ok(request) => {
                out.extend_from_slice(&request);
                true
            }
            Err(_) => false,
        }
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        answer.expect(200)?;
        self.learn(answer)
    }
}
