//! DPoP proofs at a resource server (RFC 9449 sections 4.3 and 7.1).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, Method, Uri, uri::Scheme};
use serde_json::Value;

use crate::{
    Error, Lack, ProofFault,
    jws::Jws,
    key::{Algorithm, PublicKey, sha256_text},
    replay::{Replay, Spent},
};

/// `DPoP`.
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// So far ahead of our clock may a device's be, in seconds.
pub(crate) const AHEAD: i64 = 60;

/// Longest `jti`, in bytes.
const MAX_JTI: usize = 256;

/// What proofs are held against.
pub(crate) struct Proofs {
    /// Where clients reach this API.
    pub(crate) addresses: Box<[Address]>,
    /// How old a proof may be, in seconds.
    pub(crate) age: i64,
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) replay: Replay,
}

impl Proofs {
    /// Checks the one proof of a request that shows an access token bound to the key `jkt`.
    pub(crate) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        token: &str,
        jkt: &[u8],
        now: i64,
    ) -> Result<(), Error> {
        let mut shown = headers.get_all(DPOP).iter();
        let proof = shown.next().ok_or(ProofFault::Missing)?;
        if shown.next().is_some() {
            return Err(ProofFault::Several.into());
        }
        let proof = proof.to_str().ok().and_then(Jws::read).ok_or(ProofFault::Malformed)?;
        if proof.text("typ") != Some("dpop+jwt") {
            return Err(ProofFault::Type.into());
        }
        let alg = proof.text("alg").and_then(|alg| self.algorithms.iter().find(|a| a.as_str() == alg));
        let alg = *alg.ok_or(ProofFault::Algorithm)?;
        let jwk = proof.header.get("jwk").and_then(Value::as_object).ok_or(ProofFault::Malformed)?;
        let key = PublicKey::from_jwk(jwk).ok_or(ProofFault::Malformed)?;
        if key.algorithm() != alg {
            return Err(ProofFault::Algorithm.into());
        }
        if key.thumbprint() != jkt {
            return Err(ProofFault::Key.into());
        }
        if !key.verify(&proof) {
            return Err(ProofFault::Signature.into());
        }
        let claims = proof.claims().ok_or(ProofFault::Malformed)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if text("htm") != Some(method.as_str()) {
            return Err(ProofFault::Method.into());
        }
        let named = text("htu").and_then(Address::read).ok_or(ProofFault::Address)?;
        if !self.addresses.iter().any(|base| base.with_path(uri.path()) == named) {
            return Err(ProofFault::Address.into());
        }
        if text("ath") != Some(&sha256_text(token.as_bytes())) {
            return Err(ProofFault::AccessToken.into());
        }
        let issued_at = claims.get("iat").and_then(Value::as_i64).ok_or(ProofFault::Time)?;
        if issued_at > now.saturating_add(AHEAD) || issued_at < now.saturating_sub(self.age) {
            return Err(ProofFault::Time.into());
        }
        let jti = text("jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_JTI).ok_or(ProofFault::Id)?;
        match self.replay.spend(key.thumbprint(), jti, now) {
            Spent::Now => Ok(()),
            Spent::Before => Err(ProofFault::Replayed.into()),
            Spent::NoRoom => Err(Error::Unavailable(Lack::Proofs)),
        }
    }
}

/// An address in the form in which two are compared: without query and fragment, host in lower case, the scheme's own
/// port left out, percent escapes in upper case and only where needed (RFC 3986 sections 6.2.2 and 6.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    origin: String,
    path: String,
}

impl Address {
    /// An absolute http or https URL without user and password.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, authority) = (uri.scheme()?, uri.authority()?);
        if (*scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) || authority.as_str().contains('@') {
            return None;
        }
        let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = authority.host().to_ascii_lowercase();
        // a port that is no number is not the scheme's own
        let origin = match (authority.port_u16(), authority.as_str().len() > authority.host().len()) {
            (None, false) => format!("{scheme}://{host}"),
            (Some(port), _) if port == default => format!("{scheme}://{host}"),
            (Some(port), _) => format!("{scheme}://{host}:{port}"),
            (None, true) => return None,
        };
        Some(Self { origin, path: normal(uri.path()) })
    }

    /// This address as a base, with a request's path behind it.
    fn with_path(&self, path: &str) -> Self {
        Self { origin: self.origin.clone(), path: format!("{}{}", self.path.trim_end_matches('/'), normal(path)) }
    }
}

/// A path with its escapes in one spelling.
fn normal(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok())
            .flatten()
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            Some(b) => {
                let _ = write!(out, "%{b:02X}");
            }
            None => out.push(char::from(byte)),
        }
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_compare_in_their_normal_form() {
        let base = Address::read("https://API.example.com:443/").unwrap();
        let same = |htu: &str, path: &str| Address::read(htu).is_some_and(|a| a == base.with_path(path));
        assert!(same("https://api.example.com/cart", "/cart"));
        assert!(same("HTTPS://api.EXAMPLE.com:443/cart?x=1#y", "/cart"));
        assert!(same("https://api.example.com/%7euser/%2fx", "/~user/%2Fx"));
        assert!(same("https://api.example.com", "/"));
        assert!(same("https://api.example.com/100%", "/100%"));
        for other in [
            "http://api.example.com/cart",
            "https://api.example.com:8443/cart",
            "https://api.example.com/cart/",
            "https://api.example.com/Cart",
            "https://api.example.com.evil.example/cart",
            "https://api.example.com@evil.example/cart",
            "https://user@api.example.com/cart",
            "https://api.example.com:/cart",
            "/cart",
            "api.example.com/cart",
            "ftp://api.example.com/cart",
            "",
        ] {
            assert!(!same(other, "/cart"), "{other}");
        }
        assert!(!same("https://api.example.com/a/b", "/a%2Fb"), "an escaped slash is not a slash");
        let below = Address::read("http://127.0.0.1:9012/api/").unwrap();
        assert_eq!(Some(below.with_path("/cart")), Address::read("http://127.0.0.1:9012/api/cart"));
        assert_ne!(Some(below.with_path("/cart")), Address::read("http://127.0.0.1/api/cart"));
    }
}
