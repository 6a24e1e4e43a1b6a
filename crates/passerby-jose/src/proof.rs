//! DPoP proofs (RFC 9449): the shape, the key inside and its signature. What the claims say is for those who know the
//! request.

use std::fmt;

use crate::{
    Algorithm, JoseError,
    header::{self, RawHeader},
    jwk::PublicKey,
    sign::Parts,
};

/// Longest proof that is read, in bytes (4 KiB): with a key and a signature of 4096-bit RSA, 2 KiB are left for claims.
pub const MAX_PROOF: usize = 4 * 1024;

/// What a proof says it is (RFC 9449 section 4.2).
const TYP: &str = "dpop+jwt";

/// A DPoP proof (RFC 9449 section 4.2) whose shape was checked and whose signature was *not* yet: see
/// [`Proof::verify`].
pub struct Proof<'a> {
    /// What it is signed with; the key inside is of its kind.
    pub alg: Algorithm,
    key: PublicKey,
    parts: Parts<'a>,
}

/// Reads the header of a proof and the public key in it, and checks their shape.
///
/// # Errors
/// - [`JoseError::Malformed`]: longer than [`MAX_PROOF`], or what [`crate::parse_jws`] calls so, but for `jwk`; a `jwk`
///   that is not an object of texts, that names a member twice, or that has a member of a private or shared key;
/// - [`JoseError::Algorithm`]: `alg` missing or not on the list;
/// - [`JoseError::Type`]: `typ` is not `dpop+jwt`;
/// - [`JoseError::Key`]: no `jwk`, or one of another kind or curve than `alg` needs, with a part that is missing, of
///   another length or spelling, or RSA outside of 2048 to 4096 bits or with an exponent that is even, 1, or longer than
///   4 bytes.
pub fn parse_proof(token: &str) -> Result<Proof<'_>, JoseError> {
    let parts = Parts::split(token, MAX_PROOF)?;
    let header = header::decode(parts.header)?;
    let header = RawHeader::read_with_key(&header)?;
    let alg = header.alg()?.parse()?;
    if header.typ()? != TYP {
        return Err(JoseError::Type);
    }
    Ok(Proof { alg, key: PublicKey::from_jwk(alg, header.jwk()?)?, parts })
}

impl Proof<'_> {
    /// The SHA-256 thumbprint of the key inside (RFC 7638), as bytes. `jkt` is their base64url.
    pub fn thumbprint(&self) -> [u8; 32] {
        self.key.thumbprint()
    }

    /// The decoded payload. Worth nothing until the signature was checked.
    ///
    /// # Errors
    /// [`JoseError::Malformed`] when it is not base64url, which [`parse_proof`] has ruled out.
    pub fn claims(&self) -> Result<Vec<u8>, JoseError> {
        self.parts.claims()
    }

    /// Checks the signature by the key inside. It says that whoever made the proof held the key, and no more.
    ///
    /// ECDSA signatures have a second valid form, so the text of a proof must never serve as its identity.
    ///
    /// # Errors
    /// [`JoseError::Key`] for a point that is not on the curve, [`JoseError::Signature`] when the signature is wrong or
    /// of another length than the key's.
    pub fn verify(&self) -> Result<(), JoseError> {
        let signature = self.parts.signature()?;
        if signature.len() != self.key.signature_len() {
            return Err(JoseError::Signature);
        }
        let key = self.key.parse()?;
        key.verify_sig(self.parts.signing_input.as_bytes(), &signature).map_err(|_| JoseError::Signature)
    }
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({})", self.alg)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{MAX_HEADER, SigningKey, b64, mac, parse_jws};

    const CLAIMS: &[u8] = br#"{"jti":"1","htm":"POST","htu":"https://server.example.com/token","iat":1562262616}"#;

    fn key(algorithm: Algorithm) -> SigningKey {
        SigningKey::from_pkcs8(algorithm, "k", &SigningKey::generate(algorithm).unwrap()).unwrap()
    }

    /// The public key as a browser exports it.
    fn jwk(key: &SigningKey) -> Value {
        let mut jwk = key.verifying_key().jwk();
        jwk.as_object_mut().unwrap().retain(|name, _| !["kid", "use", "alg"].contains(&name.as_str()));
        jwk["ext"] = true.into();
        jwk["key_ops"] = json!(["verify"]);
        jwk
    }

    fn header(alg: &str, jwk: &Value) -> String {
        json!({ "typ": "dpop+jwt", "alg": alg, "jwk": jwk }).to_string()
    }

    /// A proof whose header is a text of one's own, with a true signature.
    fn proof_with(key: &SigningKey, header: &str) -> String {
        key.sign_raw_for_tests(header, CLAIMS)
    }

    fn proof(key: &SigningKey) -> String {
        proof_with(key, &header(key.algorithm().as_str(), &jwk(key)))
    }

    /// Whether a server would take it.
    fn takes(token: &str) -> Result<(), JoseError> {
        parse_proof(token)?.verify()
    }

    /// A proof that nobody signed.
    fn unsigned(header: &str) -> String {
        format!("{}.e30.{}", b64::encode(header.as_bytes()), b64::encode(&[1; 64]))
    }

    const RFC_JWK: &str = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;

    /// RFC 9449 section 4.1, the proof of a token request.
    const RFC_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ\
        OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.\
        eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYy\
        MjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    #[test]
    fn rfc_9449_token_request() {
        let proof = parse_proof(RFC_PROOF).unwrap();
        assert_eq!(proof.alg, Algorithm::Es256);
        assert_eq!(proof.verify(), Ok(()));
        // section 6.1 names the same key by its thumbprint
        assert_eq!(b64::encode(&proof.thumbprint()), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        let claims: Value = serde_json::from_slice(&proof.claims().unwrap()).unwrap();
        assert_eq!(
            claims,
            json!({ "jti": "-BwC3ESc6acc2lTc", "htm": "POST", "htu": "https://server.example.com/token", "iat": 1_562_262_616 })
        );
        assert_eq!(format!("{proof:?}"), "Proof(ES256)");
        assert_eq!(parse_jws(RFC_PROOF).err(), Some(JoseError::Malformed), "no token of ours brings a key");
    }

    #[test]
    fn rfc_9449_resource_request() {
        // section 7.1: the same key
        let head = &RFC_PROOF[..RFC_PROOF.find('.').unwrap()];
        let token = format!(
            "{head}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvd\
            XJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L\
            -Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
        );
        let proof = parse_proof(&token).unwrap();
        assert_eq!(proof.verify(), Ok(()));
        let claims: Value = serde_json::from_slice(&proof.claims().unwrap()).unwrap();
        assert_eq!(claims["ath"], "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
        let mixed = format!("{}{}", &token[..token.rfind('.').unwrap()], &RFC_PROOF[RFC_PROOF.rfind('.').unwrap()..]);
        assert_eq!(takes(&mixed), Err(JoseError::Signature), "the other's signature");
    }

    #[test]
    fn every_algorithm() {
        for algorithm in Algorithm::ALL {
            let (key, other) = (key(algorithm), key(algorithm));
            let token = proof(&key);
            let proof = parse_proof(&token).unwrap();
            assert_eq!((proof.alg, proof.verify()), (algorithm, Ok(())));
            assert_eq!(b64::encode(&proof.thumbprint()), key.verifying_key().thumbprint());
            assert_eq!(proof.claims().unwrap(), CLAIMS);
            // the members' order and what else is there do not make another key
            let mut turned = key.verifying_key().jwk();
            turned.as_object_mut().unwrap().sort_keys();
            let again = proof_with(&key, &header(algorithm.as_str(), &turned));
            let again = parse_proof(&again).unwrap();
            assert_eq!((again.thumbprint(), again.verify()), (proof.thumbprint(), Ok(())));
            // a key that one does not hold
            let stolen = proof_with(&other, &header(algorithm.as_str(), &jwk(&key)));
            assert_eq!(takes(&stolen), Err(JoseError::Signature));
            let (input, signature) = token.rsplit_once('.').unwrap();
            let signature = b64::decode(signature).unwrap();
            for other in [&signature[1..], &signature[..signature.len() - 1], &[&signature[..], &[0]].concat()] {
                let token = format!("{input}.{}", b64::encode(other));
                assert_eq!(takes(&token), Err(JoseError::Signature), "another length");
            }
        }
    }

    #[test]
    fn another_algorithm() {
        let keys = Algorithm::ALL.map(key);
        for key in &keys {
            for alg in ["none", "None", "", "HS256", "HS512", "ES384", "ES256K", "PS256", "RS512", "Ed25519", "es256"] {
                let token = proof_with(key, &header(alg, &jwk(key)));
                assert_eq!(takes(&token), Err(JoseError::Algorithm), "{alg}");
                assert!(takes(&token[..=token.rfind('.').unwrap()]).is_err(), "{alg} unsigned");
            }
            for other in Algorithm::ALL.into_iter().filter(|a| *a != key.algorithm()) {
                let token = proof_with(key, &header(other.as_str(), &jwk(key)));
                assert_eq!(takes(&token), Err(JoseError::Key), "{other} with a key of {}", key.algorithm());
            }
            // the public key as a shared secret
            for alg in ["HS256", key.algorithm().as_str()] {
                let input = format!("{}.e30", b64::encode(header(alg, &jwk(key)).as_bytes()));
                let forged =
                    format!("{input}.{}", b64::encode(&mac(jwk(key).to_string().as_bytes(), &[input.as_bytes()])));
                assert!(takes(&forged).is_err());
            }
            let header = json!({ "typ": "dpop+jwt", "jwk": jwk(key) }).to_string();
            assert_eq!(takes(&proof_with(key, &header)), Err(JoseError::Algorithm));
        }
    }

    #[test]
    fn another_type() {
        let key = key(Algorithm::Es256);
        for typ in ["", "JWT", "jwt", "at+jwt", "DPoP+JWT", "dpop+jwt ", "application/dpop+jwt", "dpop"] {
            let token = proof_with(&key, &json!({ "typ": typ, "alg": "ES256", "jwk": jwk(&key) }).to_string());
            assert_eq!(takes(&token), Err(JoseError::Type), "{typ}");
        }
        let token = proof_with(&key, &json!({ "alg": "ES256", "jwk": jwk(&key) }).to_string());
        assert_eq!(takes(&token), Err(JoseError::Type));
        let token = proof_with(&key, r#"{"alg":"ES256","typ":"dpop+jwt","kid":"k"}"#);
        assert_eq!(takes(&token), Err(JoseError::Key), "no key");
        // a token of ours is no proof, whatever its type says
        let mut token = Vec::new();
        key.sign_into(&key.header("dpop+jwt"), CLAIMS, &mut token).unwrap();
        assert_eq!(takes(std::str::from_utf8(&token).unwrap()), Err(JoseError::Key));
    }

    #[test]
    fn refused_members_even_with_a_true_signature() {
        let key = key(Algorithm::Es256);
        let public = jwk(&key);
        let with = |more: &str| format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{public},{more}}}"#);
        assert_eq!(takes(&proof_with(&key, &with(r#""kid":"x","cty":"y","x":[{}]"#))), Ok(()));
        for more in [
            r#""crit":["b64"]"#,
            r#""crit":[]"#,
            r#""zip":"DEF""#,
            r#""b64":false"#,
            r#""jku":"https://example.com/jwks""#,
            r#""x5u":"https://example.com/x""#,
            r#""x5c":["AA"]"#,
            r#""\u006aku":"x""#,
            r#""alg":"ES256""#,
            r#""typ":"dpop+jwt""#,
            r#""t\u0079p":"dpop+jwt""#,
            &format!(r#""jwk":{public}"#),
            &format!(r#""\u006awk":{public}"#),
        ] {
            assert_eq!(takes(&proof_with(&key, &with(more))), Err(JoseError::Malformed), "{more}");
        }
        let inside = |more: &str| {
            let (open, _) = RFC_JWK.rsplit_once('}').unwrap();
            unsigned(&format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{open},{more}}}}}"#))
        };
        assert!(parse_proof(&inside(r#""use":"sig","key_ops":["verify"],"ext":true,"alg":"ES256","kid":"x""#)).is_ok());
        for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "\\u0064"] {
            for value in ["\"AA\"", "\"\"", "null", "[]"] {
                let token = inside(&format!(r#""{name}":{value}"#));
                assert_eq!(parse_proof(&token).err(), Some(JoseError::Malformed), "{name} {value}");
            }
        }
        for more in [
            r#""x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs""#,
            r#""\u0078":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs""#,
            r#""kty":"EC""#,
            r#""unknown":1,"unknown":1"#,
            r#""n":1"#,
        ] {
            assert_eq!(parse_proof(&inside(more)).err(), Some(JoseError::Malformed), "{more}");
        }
        for public in ["null", "[]", "\"x\"", "1", "true", &format!("[{RFC_JWK}]"), &"{\"x\":".repeat(40)] {
            let token = unsigned(&format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{public}}}"#));
            assert_eq!(parse_proof(&token).err(), Some(JoseError::Malformed), "{public}");
        }
    }

    #[test]
    fn keys_that_do_not_fit() {
        let good: Value = serde_json::from_str(RFC_JWK).unwrap();
        let with = |name: &str, value: Value| {
            let mut jwk = good.clone();
            jwk[name] = value;
            parse_proof(&unsigned(&header("ES256", &jwk))).err()
        };
        assert_eq!(with("kid", "k".into()), None);
        for value in ["", "ec", "OKP", "RSA", "oct", "EC "] {
            assert_eq!(with("kty", value.into()), Some(JoseError::Key), "{value}");
        }
        for value in ["", "P-384", "secp256k1", "Ed25519", "p-256", "X25519"] {
            assert_eq!(with("crv", value.into()), Some(JoseError::Key), "{value}");
        }
        let x = good["x"].as_str().unwrap();
        for value in [
            String::new(),
            "AA".to_owned(),
            format!("{x}A"),
            format!("{x}="),
            format!(" {x}"),
            x[1..].to_owned(),
            // trailing bits, and the other alphabet
            x.replace("BFs", "BFt"),
            x.replace('-', "+"),
            b64::encode(&[0; 31]),
            b64::encode(&[0; 33]),
        ] {
            assert_eq!(with("x", value.as_str().into()), Some(JoseError::Key), "{value}");
            assert_eq!(with("y", value.as_str().into()), Some(JoseError::Key), "{value}");
        }
        for name in ["kty", "crv", "x", "y"] {
            assert_eq!(with(name, 1.into()), Some(JoseError::Malformed));
            assert_eq!(with(name, Value::Null), Some(JoseError::Malformed));
            let mut jwk = good.clone();
            jwk.as_object_mut().unwrap().remove(name);
            assert_eq!(parse_proof(&unsigned(&header("ES256", &jwk))).err(), Some(JoseError::Key), "without {name}");
        }
        let ed = json!({ "kty": "OKP", "crv": "X25519", "x": b64::encode(&[9; 32]) });
        assert_eq!(parse_proof(&unsigned(&header("EdDSA", &ed))).err(), Some(JoseError::Key), "for agreement only");
    }

    #[test]
    fn points_off_the_curve() {
        let good: Value = serde_json::from_str(RFC_JWK).unwrap();
        let zero = b64::encode(&[0; 32]);
        let p = b64::encode(
            b"\xff\xff\xff\xff\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        );
        let (x, y) = (good["x"].as_str().unwrap(), good["y"].as_str().unwrap());
        let same = |text: &str| text.to_owned();
        for (x, y) in [
            (same(y), same(x)),
            (same(x), same(x)),
            (zero.clone(), zero.clone()),
            (same(x), zero),
            (same(x), p.clone()),
            (p, same(y)),
        ] {
            let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
            let token = format!("{}.e30.{}", b64::encode(header("ES256", &jwk).as_bytes()), b64::encode(&[0; 64]));
            assert_eq!(takes(&token), Err(JoseError::Key), "{x} {y}");
        }
        // the signature is exactly two numbers of 32 bytes, neither zero
        let (input, signature) = RFC_PROOF.rsplit_once('.').unwrap();
        let raw = b64::decode(signature).unwrap();
        let der = [&[0x30, 0x44, 2, 0x20][..], &raw[..32], &[2, 0x20], &raw[32..]].concat();
        for wrong in
            [&der[..], &raw[..63], &[&raw[..], &[0]].concat(), &[0; 64], &[&raw[..32], &[0; 32]].concat(), &[0xff; 64]]
        {
            assert_eq!(takes(&format!("{input}.{}", b64::encode(wrong))), Err(JoseError::Signature));
        }
    }

    #[test]
    fn sizes_of_rsa() {
        let number = |bytes: usize, first: u8, last: u8| {
            let mut n = vec![0x55; bytes];
            (n[0], n[bytes - 1]) = (first, last);
            n
        };
        let rsa = |n: &[u8], e: &[u8]| {
            let jwk = json!({ "kty": "RSA", "n": b64::encode(n), "e": b64::encode(e) });
            format!("{}.e30.{}", b64::encode(header("RS256", &jwk).as_bytes()), b64::encode(&vec![1; n.len().max(1)]))
        };
        let e = [1, 0, 1];
        for n in [number(256, 0x80, 1), number(384, 1, 1), number(512, 0xff, 0xff)] {
            assert_eq!(takes(&rsa(&n, &e)), Err(JoseError::Signature), "{} bytes are as they should be", n.len());
        }
        for (n, why) in [
            (number(64, 0xff, 1), "512 bits"),
            (number(128, 0xff, 1), "1024 bits"),
            (number(256, 0x7f, 1), "2047 bits"),
            (number(257, 0, 1), "a leading zero"),
            (number(513, 1, 1), "4097 bits"),
            (number(600, 0xff, 1), "4800 bits"),
            (number(256, 0xff, 2), "even"),
            (vec![], "nothing"),
        ] {
            assert_eq!(parse_proof(&rsa(&n, &e)).err(), Some(JoseError::Key), "{why}");
        }
        let n = number(256, 0xff, 0xff);
        for e in [&[3][..], &[17], &[1, 0, 1], &[0xff, 0xff, 0xff, 0xff]] {
            assert!(parse_proof(&rsa(&n, e)).is_ok(), "{e:?}");
        }
        for e in [&[][..], &[0], &[1], &[2], &[0, 3], &[1, 0, 0], &[1, 0, 0, 0, 1], &n] {
            assert!(parse_proof(&rsa(&n, e)).is_err(), "{e:?}");
        }
        // what does not fit into a header at all
        assert_eq!(parse_proof(&rsa(&number(1024, 0xff, 1), &e)).err(), Some(JoseError::Malformed));
    }

    #[test]
    fn long_proofs() {
        let key = key(Algorithm::EdDsa);
        let sign = |claims: usize| key.sign_raw_for_tests(&header("EdDSA", &jwk(&key)), &vec![b' '; claims]);
        let room = (MAX_PROOF - sign(0).len()) / 4 * 3;
        assert_eq!(takes(&sign(room)), Ok(()));
        assert_eq!(takes(&sign(room + 4)), Err(JoseError::Malformed));
        let padded =
            |n: usize| header("EdDSA", &jwk(&key)).replace("\"ext\"", &format!("\"{}\":1,\"ext\"", "p".repeat(n)));
        let fill = MAX_HEADER - padded(0).len();
        assert_eq!(takes(&proof_with(&key, &padded(fill))), Ok(()));
        assert_eq!(takes(&proof_with(&key, &padded(fill + 1))), Err(JoseError::Malformed));
        // as many claims as a proof needs stand beside the largest key
        let jwk = json!({ "kty": "RSA", "n": b64::encode(&[0xff; 512]), "e": "AQAB" });
        let parts = [header("RS256", &jwk).into_bytes(), vec![b' '; 1024], vec![1; 512]];
        assert!(parse_proof(&parts.map(|p| b64::encode(&p)).join(".")).is_ok());
    }

    #[test]
    fn every_changed_bit_and_every_cut() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let token = proof(&key(algorithm));
            for bit in 0..token.len() * 8 {
                let mut changed = token.clone().into_bytes();
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Ok(text) = String::from_utf8(changed) {
                    assert!(takes(&text).is_err(), "bit {bit} of {token}");
                }
            }
            for at in 0..token.len() {
                assert!(takes(&token[..at]).is_err() && takes(&token[at + 1..]).is_err());
                for extra in ['A', '=', ' ', '\n', '.', '\0', 'é'] {
                    let mut longer = token.clone();
                    longer.insert(at, extra);
                    assert!(takes(&longer).is_err(), "{extra:?} at {at}");
                }
            }
            for tail in ["=", "==", " ", "\r\n", ".", "A", "AAAA", ",", &format!(", {token}")] {
                assert!(takes(&format!("{token}{tail}")).is_err(), "{tail}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text(text in any::<String>()) {
            prop_assert!(takes(&text).is_err());
        }

        #[test]
        fn arbitrary_headers(json in r#"(\{|\[|\}|"|:|,|alg|jwk|typ|dpop\+jwt|kty|EC|P-256|x|y|n|e|AQAB|ES256|\\u00|[0-9a-f]| |\\){0,40}"#) {
            prop_assert!(takes(&unsigned(&json)).is_err());
        }

        #[test]
        fn arbitrary_keys(alg in prop::sample::select(vec!["ES256", "EdDSA", "RS256"]), members in prop::collection::hash_map(
            prop::sample::select(vec!["kty", "crv", "x", "y", "n", "e", "d", "alg"]), prop::sample::select(vec![
                "EC", "OKP", "RSA", "P-256", "Ed25519", "AQAB", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", ""]), 0..8)) {
            prop_assert!(takes(&unsigned(&header(alg, &json!(members)))).is_err());
        }
    }
}
