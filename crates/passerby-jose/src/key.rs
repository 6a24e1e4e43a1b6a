//! Signing and verifying keys, parsed once.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    Algorithm, JoseError, b64,
    jwk::{MAX_RSA, PublicKey},
    sign::Jws,
};

enum Private {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// A private key with its `kid`, parsed once; may be used by many threads at a time.
pub struct SigningKey {
    private: Private,
    public: VerifyingKey,
}

/// A token header, encoded once with its full stop; belongs to the key that made it.
#[derive(Debug, Clone)]
pub struct Header {
    algorithm: Algorithm,
    kid: Arc<str>,
    encoded: Box<[u8]>,
}

impl SigningKey {
    /// A new private key as PKCS#8 (RFC 5208); an RSA key has 2048 bits and takes some 0.1 s.
    ///
    /// # Errors
    /// [`JoseError::Key`] when the library cannot make one.
    pub fn generate(algorithm: Algorithm) -> Result<Zeroizing<Vec<u8>>, JoseError> {
        let rng = SystemRandom::new();
        let key = |_| JoseError::Key;
        let bytes = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).map_err(key)?.as_ref().to_vec()
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&rng).map_err(key)?.as_ref().to_vec(),
            Algorithm::Rs256 => {
                let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(key)?;
                pair.as_der().map_err(key)?.as_ref().to_vec()
            }
        };
        Ok(Zeroizing::new(bytes))
    }

    /// Reads a private key in PKCS#8; `kid` is what tokens and the key set call it.
    ///
    /// # Errors
    /// [`JoseError::Key`] for what is not a key of that algorithm (P-256; Ed25519; RSA of 2048 to 4096 bits), and for
    /// an empty `kid`.
    pub fn from_pkcs8(algorithm: Algorithm, kid: &str, pkcs8: &[u8]) -> Result<Self, JoseError> {
        let key = |_| JoseError::Key;
        let (private, public) = match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(key)?;
                let public = pair.public_key().as_ref().to_vec();
                (Private::Es256(pair), public)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(key)?;
                let public = pair.public_key().as_ref().to_vec();
                (Private::EdDsa(pair), public)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(key)?;
                let public = pair.public_key().as_ref().to_vec();
                (Private::Rs256(pair), public)
            }
        };
        Ok(Self { private, public: VerifyingKey::new(algorithm, kid, &public)? })
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The header `{"alg","kid","typ"}` of this key's tokens of one type (RFC 8725 section 3.11), encoded once.
    pub fn header(&self, typ: &str) -> Header {
        let json = serde_json::json!({ "alg": self.algorithm(), "kid": self.kid(), "typ": typ }).to_string();
        let mut encoded = Vec::with_capacity(b64::encoded_len(json.len()) + 1);
        b64::encode_into(json.as_bytes(), &mut encoded);
        encoded.push(b'.');
        Header { algorithm: self.algorithm(), kid: self.public.0.kid.clone(), encoded: encoded.into() }
    }

    /// Appends a whole compact JWS (RFC 7515 section 7.1) to `out`. `claims` is signed as it is: bytes of one JSON
    /// object, as a rule.
    ///
    /// # Errors
    /// [`JoseError::Key`] for a header that another key made, [`JoseError::Signature`] when the library cannot sign;
    /// `out` is then as it was.
    pub fn sign_into(&self, header: &Header, claims: &[u8], out: &mut Vec<u8>) -> Result<(), JoseError> {
        if header.algorithm != self.algorithm() || *header.kid != *self.kid() {
            return Err(JoseError::Key);
        }
        let start = out.len();
        let signature = self.public.0.parts.signature_len();
        out.reserve(header.encoded.len() + b64::encoded_len(claims.len()) + 1 + b64::encoded_len(signature));
        out.extend_from_slice(&header.encoded);
        b64::encode_into(claims, out);
        let signed = self.sign_tail(start, out);
        if signed.is_err() {
            out.truncate(start);
        }
        signed
    }

    /// Signs what `out` holds from `start` on and appends the signature.
    fn sign_tail(&self, start: usize, out: &mut Vec<u8>) -> Result<(), JoseError> {
        let fail = |_| JoseError::Signature;
        match &self.private {
            Private::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), &out[start..]).map_err(fail)?;
                out.push(b'.');
                b64::encode_into(signature.as_ref(), out);
            }
            Private::EdDsa(pair) => {
                let signature = pair.try_sign(&out[start..]).map_err(fail)?;
                out.push(b'.');
                b64::encode_into(signature.as_ref(), out);
            }
            Private::Rs256(pair) => {
                let mut buffer = [0; MAX_RSA];
                let signature = buffer.get_mut(..self.public.0.parts.signature_len()).ok_or(JoseError::Key)?;
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &out[start..], signature).map_err(fail)?;
                out.push(b'.');
                b64::encode_into(signature, out);
            }
        }
        Ok(())
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }
}

#[cfg(test)]
impl SigningKey {
    /// A token with a header that this crate would not write.
    pub(crate) fn sign_raw_for_tests(&self, header: &str, claims: &[u8]) -> String {
        let encoded = (b64::encode(header.as_bytes()) + ".").into_bytes().into();
        let header = Header { algorithm: self.algorithm(), kid: self.kid().into(), encoded };
        let mut out = Vec::new();
        self.sign_into(&header, claims, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {:?})", self.algorithm(), self.kid())
    }
}

/// A public key with its `kid`, parsed once; cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Public>);

struct Public {
    kid: Arc<str>,
    parts: PublicKey,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// From the raw public key: the uncompressed point, the 32 bytes, or the `RSAPublicKey` of RFC 8017.
    pub(crate) fn new(algorithm: Algorithm, kid: &str, public: &[u8]) -> Result<Self, JoseError> {
        if kid.is_empty() {
            return Err(JoseError::Key);
        }
        let parts = PublicKey::from_raw(algorithm, public)?;
        let key = parts.parse()?;
        Ok(Self(Arc::new(Public { kid: kid.into(), parts, key })))
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.0.kid
    }

    /// What it checks; no token has a say in it.
    pub fn algorithm(&self) -> Algorithm {
        self.0.parts.algorithm()
    }

    /// The public JWK (RFC 7517; RFC 7518 section 6, RFC 8037 section 2) with `kid`, `use` and `alg`.
    pub fn jwk(&self) -> Value {
        let more = [("kid", self.kid()), ("use", "sig"), ("alg", self.algorithm().as_str())];
        let own = self.0.parts.members().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Value::Object(own.chain(more.map(|(name, value)| (name.to_owned(), value.into()))).collect())
    }

    /// The SHA-256 thumbprint of the JWK (RFC 7638), base64url: 43 characters.
    pub fn thumbprint(&self) -> String {
        b64::encode(&self.0.parts.thumbprint())
    }

    /// Checks the signature of a token that [`crate::parse_jws`] read. What its claims say is the caller's to check.
    ///
    /// ECDSA signatures have a second valid form, so the text of a token must never serve as its identity.
    ///
    /// # Errors
    /// [`JoseError::Algorithm`] or [`JoseError::Key`] when the header names another algorithm or `kid` than this
    /// key's, [`JoseError::Signature`] when the signature is wrong.
    pub fn verify(&self, token: &Jws<'_>) -> Result<(), JoseError> {
        if token.alg != self.algorithm() {
            return Err(JoseError::Algorithm);
        }
        if *token.kid != *self.kid() {
            return Err(JoseError::Key);
        }
        self.verify_raw(token.signing_input().as_bytes(), token.signature())
    }

    pub(crate) fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), JoseError> {
        if signature.len() != self.0.parts.signature_len() {
            return Err(JoseError::Signature);
        }
        self.0.key.verify_sig(message, signature).map_err(|_| JoseError::Signature)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}, {:?})", self.algorithm(), self.kid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeySet, parse_jws};

    /// Public keys as the RFCs print them: members of a JWK.
    fn ec(x: &str, y: &str) -> Vec<u8> {
        [vec![4], b64::decode(x).unwrap(), b64::decode(y).unwrap()].concat()
    }

    fn rsa(n: &str) -> Vec<u8> {
        let n = b64::decode(n).unwrap();
        assert_eq!(n.len(), 256);
        // SEQUENCE of 266, INTEGER of 257 with a leading zero, INTEGER 65537
        [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0], &n[..], &[2, 3, 1, 0, 1]].concat()
    }

    fn check(key: &VerifyingKey, token: &str) -> Result<(), JoseError> {
        let (input, signature) = token.rsplit_once('.').unwrap();
        key.verify_raw(input.as_bytes(), &b64::decode(signature).unwrap())
    }

    #[test]
    fn rfc_7515_a3_es256() {
        let public = ec("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let key = VerifyingKey::new(Algorithm::Es256, "k", &public).unwrap();
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290\
            Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert_eq!(check(&key, token), Ok(()));
        assert_eq!(check(&key, &token.replacen("Ijp0", "Ijp1", 1)), Err(JoseError::Signature));
        assert_eq!(parse_jws(token).err(), Some(JoseError::Key), "it names no key");
        let jwk = key.jwk();
        assert_eq!(jwk["x"], "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        assert_eq!(jwk["y"], "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    }

    #[test]
    fn rfc_7515_a2_rs256() {
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pC\
            gNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmt\
            dVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290\
            Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9\
            CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j\
            zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let key = VerifyingKey::new(Algorithm::Rs256, "k", &rsa(n)).unwrap();
        assert_eq!(check(&key, token), Ok(()));
        assert_eq!(check(&key, &token.replacen("Ijp0", "Ijp1", 1)), Err(JoseError::Signature));
        assert_eq!(key.jwk()["n"], n);
        assert_eq!(key.jwk()["e"], "AQAB");
    }

    #[test]
    fn rfc_7638_thumbprint() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj\
            hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5ha\
            jrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let key = VerifyingKey::new(Algorithm::Rs256, "2011-04-29", &rsa(n)).unwrap();
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn rfc_8037_ed25519() {
        // appendix A.1 as PKCS#8 (RFC 8410 section 7): a fixed frame around the seed
        let seed = b64::decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let frame = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let key = SigningKey::from_pkcs8(Algorithm::EdDsa, "k", &[&frame[..], &seed].concat()).unwrap();
        assert_eq!(key.verifying_key().jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.verifying_key().thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        // appendix A.4: its header has no `kid`, so it is put in the place of ours
        let header =
            Header { algorithm: Algorithm::EdDsa, kid: "k".into(), encoded: (*b"eyJhbGciOiJFZERTQSJ9.").into() };
        let mut token = Vec::new();
        key.sign_into(&header, b"Example of Ed25519 signing", &mut token).unwrap();
        let token = String::from_utf8(token).unwrap();
        assert_eq!(
            token,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4\
             iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert_eq!(check(&key.verifying_key(), &token), Ok(()));
    }

    #[test]
    fn round_trip_of_every_algorithm() {
        let keys: Vec<SigningKey> = Algorithm::ALL
            .into_iter()
            .map(|a| SigningKey::from_pkcs8(a, a.as_str(), &SigningKey::generate(a).unwrap()).unwrap())
            .collect();
        let set: KeySet = keys.iter().map(SigningKey::verifying_key).collect();
        for key in &keys {
            let header = key.header("at+jwt");
            for claims in [&b""[..], b"{}", b"{\"sub\":\"x\"}", &[0xff; 3000]] {
                let mut out = b"before ".to_vec();
                key.sign_into(&header, claims, &mut out).unwrap();
                let text = std::str::from_utf8(&out).unwrap().strip_prefix("before ").unwrap();
                let token = parse_jws(text).unwrap();
                assert_eq!((token.alg, &*token.kid, &*token.typ), (key.algorithm(), key.kid(), "at+jwt"));
                assert_eq!(set.verify(&token).unwrap().kid(), key.kid());
                assert_eq!(token.claims().unwrap(), claims);
                for other in &keys {
                    assert_eq!(other.verifying_key().verify(&token).is_ok(), other.kid() == key.kid());
                    assert_eq!(other.sign_into(&header, claims, &mut Vec::new()).is_ok(), other.kid() == key.kid());
                }
                assert_eq!(KeySet::default().verify(&token).err(), Some(JoseError::Key));
            }
            let jwk = key.verifying_key().jwk();
            assert_eq!((&jwk["use"], &jwk["alg"], &jwk["kid"]), (&"sig".into(), &key.kid().into(), &key.kid().into()));
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(jwk.get(private).is_none());
            }
            assert_eq!(set.jwks()["keys"].as_array().unwrap().len(), 3);
            assert!(format!("{key:?}{:?}", key.verifying_key()).len() < 60, "no key material");
        }
        assert_eq!(set.get("RS256").unwrap().jwk()["kty"], "RSA");
        assert_eq!(set.get("ES256").unwrap().jwk()["crv"], "P-256");
        assert_eq!(set.get("EdDSA").unwrap().jwk()["crv"], "Ed25519");
        assert!(set.get("none").is_none());
    }

    #[test]
    fn a_header_escapes_what_it_holds() {
        let key = SigningKey::generate(Algorithm::EdDsa).unwrap();
        let kid = "a\"},\u{1}\u{e9}";
        let key = SigningKey::from_pkcs8(Algorithm::EdDsa, kid, &key).unwrap();
        let mut out = Vec::new();
        key.sign_into(&key.header("\\"), b"{}", &mut out).unwrap();
        let token = parse_jws(std::str::from_utf8(&out).unwrap()).unwrap();
        assert_eq!((&*token.kid, &*token.typ), (kid, "\\"));
        assert_eq!(key.verifying_key().verify(&token), Ok(()));
    }

    #[test]
    fn refuses_keys_that_do_not_fit() {
        let made: Vec<_> = Algorithm::ALL.into_iter().map(|a| (a, SigningKey::generate(a).unwrap())).collect();
        for (made_for, pkcs8) in &made {
            for wanted in Algorithm::ALL {
                assert_eq!(SigningKey::from_pkcs8(wanted, "k", pkcs8).is_ok(), wanted == *made_for);
            }
            assert_eq!(SigningKey::from_pkcs8(*made_for, "", pkcs8).err(), Some(JoseError::Key));
            for end in (0..pkcs8.len()).step_by(7) {
                assert!(SigningKey::from_pkcs8(*made_for, "k", &pkcs8[..end]).is_err());
            }
            assert_ne!(**pkcs8, *SigningKey::generate(*made_for).unwrap());
        }
        for wrong in [&[4; 65][..], &[4; 64], &[2; 33], &[], &[0; 65]] {
            assert_eq!(VerifyingKey::new(Algorithm::Es256, "k", wrong).err(), Some(JoseError::Key), "not on the curve");
        }
        for wrong in [&[][..], &[0; 31], &[0; 33]] {
            assert_eq!(VerifyingKey::new(Algorithm::EdDsa, "k", wrong).err(), Some(JoseError::Key));
        }
    }

    #[test]
    fn may_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<SigningKey>();
        shared::<VerifyingKey>();
        shared::<crate::SealingKey>();
        shared::<crate::MacKey>();
    }
}
