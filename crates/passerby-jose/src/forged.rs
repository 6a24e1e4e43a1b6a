//! Forged and mutated tokens against every reader of the crate. [`survives`] is the fuzz target: a plain function that
//! holds for any text at all.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::{
    Algorithm, JoseError, KeySet, MAX_TOKEN, SealingKey, SigningKey, VerifyingKey, b64, mac, parse_jws, peek_jwe,
};

struct Keys {
    signing: Vec<SigningKey>,
    set: KeySet,
    sealing: SealingKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let signing: Vec<SigningKey> = Algorithm::ALL
        .into_iter()
        .map(|a| SigningKey::from_pkcs8(a, &format!("k-{a}"), &SigningKey::generate(a).unwrap()).unwrap())
        .collect();
    let set = signing.iter().map(SigningKey::verifying_key).collect();
    Keys { signing, set, sealing: SealingKey::new(&[3; 32], "1.1", "s") }
});

const CLAIMS: &[u8] = b"{\"sub\":\"x\"}";

/// A genuine token of each key, the sealed one last.
fn genuine() -> Vec<String> {
    let mut tokens: Vec<Vec<u8>> = KEYS.signing.iter().map(|key| sign(key, "t")).collect();
    let mut sealed = Vec::new();
    KEYS.sealing.seal_into(CLAIMS, &mut sealed).unwrap();
    tokens.push(sealed);
    tokens.into_iter().map(|t| String::from_utf8(t).unwrap()).collect()
}

fn sign(key: &SigningKey, typ: &str) -> Vec<u8> {
    let mut out = Vec::new();
    key.sign_into(&key.header(typ), CLAIMS, &mut out).unwrap();
    out
}

/// What a server would believe of a token.
fn believe(text: &str) -> Option<Vec<u8>> {
    if let Ok(claims) = KEYS.sealing.open(text) {
        return Some(claims);
    }
    let token = parse_jws(text).ok()?;
    KEYS.set.verify(&token).ok()?;
    token.claims().ok()
}

/// Fuzz target: no reader panics, and what they say of one text agrees.
fn survives(text: &str) {
    let peeked = peek_jwe(text);
    let opened = KEYS.sealing.open(text);
    if opened.is_ok() {
        assert_eq!(peeked.as_ref().map(|h| (&*h.kid, &*h.typ)), Ok(("1.1", "s")));
    }
    if let Ok(token) = parse_jws(text) {
        assert!(peeked.is_err(), "a text is one kind of token");
        assert!(token.claims().is_ok() && !token.kid.is_empty() && !token.typ.is_empty() && text.len() <= MAX_TOKEN);
        for key in &KEYS.set {
            let _ = key.verify(&token);
        }
    }
    let _ = b64::decode(text);
    let _ = text.parse::<Algorithm>();
}

/// A header of one's own before the payload of a genuine token.
fn with_header(header: &str, token: &str) -> String {
    b64::encode(header.as_bytes()) + &token[token.find('.').unwrap()..]
}

#[test]
fn genuine_tokens_are_believed() {
    for token in genuine() {
        assert_eq!(believe(&token).unwrap(), CLAIMS);
        survives(&token);
    }
}

#[test]
fn no_signature() {
    for token in genuine() {
        for alg in ["none", "None", "NONE", "nOnE", "", "HS256"] {
            let header = format!(r#"{{"alg":"{alg}","kid":"k-ES256","typ":"t"}}"#);
            let forged = with_header(&header, &token);
            assert!(believe(&forged).is_none());
            assert!(believe(&forged[..=forged.rfind('.').unwrap()]).is_none());
        }
        assert!(believe(&token[..=token.rfind('.').unwrap()]).is_none());
        assert!(believe(&token[..token.rfind('.').unwrap()]).is_none());
    }
    for zeros in [1, 32, 63, 64, 65, 256] {
        for a in Algorithm::ALL {
            let header = b64::encode(format!(r#"{{"alg":"{a}","kid":"k-{a}","typ":"t"}}"#).as_bytes());
            let forged = format!("{header}.{}.{}", b64::encode(CLAIMS), b64::encode(&vec![0; zeros]));
            let token = parse_jws(&forged).unwrap();
            assert_eq!(KEYS.set.verify(&token).err(), Some(JoseError::Signature), "{a} with {zeros} zeros");
        }
    }
}

#[test]
fn public_key_as_shared_secret() {
    for key in &KEYS.set {
        let jwk = key.jwk();
        let mut secrets = vec![jwk.to_string().into_bytes(), KEYS.set.jwks().to_string().into_bytes()];
        secrets.extend(["x", "n"].iter().filter_map(|m| b64::decode(jwk.get(m)?.as_str()?)));
        for secret in secrets {
            for alg in ["HS256", key.algorithm().as_str()] {
                let header = format!(r#"{{"alg":"{alg}","kid":"{}","typ":"t"}}"#, key.kid());
                let input = format!("{}.{}", b64::encode(header.as_bytes()), b64::encode(CLAIMS));
                let forged = format!("{input}.{}", b64::encode(&mac(&secret, &[input.as_bytes()])));
                assert!(believe(&forged).is_none());
            }
        }
    }
}

#[test]
fn swapped_kid_algorithm_and_typ() {
    let other =
        SigningKey::from_pkcs8(Algorithm::Es256, "k-other", &SigningKey::generate(Algorithm::Es256).unwrap()).unwrap();
    let both = KeySet::new(vec![KEYS.signing[0].verifying_key(), other.verifying_key()]);
    let theirs = String::from_utf8(sign(&other, "t")).unwrap();
    assert!(both.verify(&parse_jws(&theirs).unwrap()).is_ok());
    // signed by one key, naming the other
    let swapped = with_header(r#"{"alg":"ES256","kid":"k-ES256","typ":"t"}"#, &theirs);
    assert_eq!(both.verify(&parse_jws(&swapped).unwrap()).err(), Some(JoseError::Signature));
    let mut impostor = Vec::new();
    let pkcs8 = SigningKey::generate(Algorithm::Es256).unwrap();
    let thief = SigningKey::from_pkcs8(Algorithm::Es256, "k-ES256", &pkcs8).unwrap();
    thief.sign_into(&thief.header("t"), CLAIMS, &mut impostor).unwrap();
    assert!(believe(std::str::from_utf8(&impostor).unwrap()).is_none());
    for kid in ["k-none", "K-ES256", "k-ES256 ", "../k-ES256", "k-ES256\\u0000"] {
        let forged = with_header(&format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"t"}}"#), &theirs);
        assert_eq!(KEYS.set.verify(&parse_jws(&forged).unwrap()).err(), Some(JoseError::Key), "{kid}");
    }
    // an algorithm that is on the list, but not the key's
    for key in &KEYS.set {
        for alg in Algorithm::ALL.into_iter().filter(|a| *a != key.algorithm()) {
            let forged = with_header(&format!(r#"{{"alg":"{alg}","kid":"{}","typ":"t"}}"#, key.kid()), &theirs);
            assert_eq!(key.verify(&parse_jws(&forged).unwrap()), Err(JoseError::Algorithm));
        }
    }
    // a signature covers `typ`, so one type cannot be dressed as another
    for key in &KEYS.signing {
        let token = String::from_utf8(sign(key, "a")).unwrap();
        let header = |typ| format!(r#"{{"alg":"{}","kid":"{}","typ":"{typ}"}}"#, key.algorithm(), key.kid());
        assert_eq!(with_header(&header("a"), &token), token);
        let forged = with_header(&header("b"), &token);
        assert_eq!(KEYS.set.verify(&parse_jws(&forged).unwrap()).err(), Some(JoseError::Signature));
    }
}

#[test]
fn refused_members_even_with_a_true_signature() {
    let key = &KEYS.signing[0];
    for more in [
        r#""crit":["b64"]"#,
        r#""crit":[]"#,
        r#""zip":"DEF""#,
        r#""b64":false"#,
        r#""jku":"https://example.com/jwks""#,
        r#""x5u":"https://example.com/x""#,
        r#""jwk":{"kty":"oct"}"#,
        r#""x5c":["AA"]"#,
        r#""alg":"ES256""#,
        r#""kid":"k-ES256""#,
        r#""t\u0079p":"t""#,
        r#""\u006aku":"x""#,
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"k-ES256","typ":"t",{more}}}"#);
        let token = key.sign_raw_for_tests(&header, CLAIMS);
        assert_eq!(parse_jws(&token).err(), Some(JoseError::Malformed), "{more}");
    }
    let harmless = key.sign_raw_for_tests(r#"{"alg":"ES256","kid":"k-ES256","typ":"t","cty":"x"}"#, CLAIMS);
    assert_eq!(believe(&harmless).unwrap(), CLAIMS);
}

#[test]
fn every_changed_bit_and_every_cut() {
    for token in genuine() {
        for bit in 0..token.len() * 8 {
            let mut changed = token.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(text) = String::from_utf8(changed) {
                survives(&text);
                assert!(believe(&text).is_none(), "bit {bit} of {token}");
            }
        }
        for at in 0..token.len() {
            assert!(believe(&token[..at]).is_none() && believe(&token[at + 1..]).is_none());
            let mut shorter = token.clone();
            let c = shorter.remove(at);
            assert!(believe(&shorter).is_none());
            for extra in [c, 'A', '=', ' ', '\n', '.', '\0', 'é'] {
                let mut longer = token.clone();
                longer.insert(at, extra);
                assert!(believe(&longer).is_none(), "{extra:?} at {at}");
            }
        }
        for tail in ["=", "==", " ", "\r\n", "\t", ".", "A", "AAAA", "\u{feff}"] {
            assert!(believe(&format!("{token}{tail}")).is_none());
            assert!(believe(&format!("{tail}{token}")).is_none());
        }
    }
}

#[test]
fn parts_of_two_tokens_do_not_mix() {
    let (one, two) = (genuine(), genuine());
    for (a, b) in one.iter().zip(&two).filter(|(a, b)| a != b) {
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
        for i in 0..a.len() {
            let mut mixed = a.clone();
            mixed[i] = b[i];
            // the claims are equal, so a JWS with the other's whole signature is genuine
            let mixed = mixed.join(".");
            assert_eq!(believe(&mixed).is_some(), a.len() == 3 || mixed == a.join("."));
        }
    }
}

#[test]
fn a_verifying_key_has_no_secret() {
    fn debug(key: &VerifyingKey) -> String {
        format!("{key:?}")
    }
    assert_eq!(debug(KEYS.set.get("k-ES256").unwrap()), "VerifyingKey(ES256, \"k-ES256\")");
    assert_eq!(format!("{:?}", KEYS.sealing), "SealingKey(\"1.1\")");
}

proptest! {
    #[test]
    fn arbitrary_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn arbitrary_parts(parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..7)) {
        survives(&parts.join("."));
    }

    #[test]
    fn arbitrary_headers(json in r#"(\{|\[|\}|"|:|,|alg|kid|typ|enc|dir|ES256|\\u00|[0-9a-f]| |\\){0,40}"#, rest in "[A-Za-z0-9_.-]{0,60}") {
        survives(&format!("{}.{rest}", b64::encode(json.as_bytes())));
    }

    #[test]
    fn header_values(alg: String, kid: String, typ: String) {
        let header = serde_json::json!({ "alg": alg, "enc": "A256GCM", "kid": kid, "typ": typ }).to_string();
        survives(&format!("{}.e30.AAAA", b64::encode(header.as_bytes())));
        survives(&format!("{}..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA", b64::encode(header.as_bytes())));
    }

    #[test]
    fn mutated(which in 0_usize..4, edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<char>()), 1..6)) {
        let token = &genuine()[which];
        let mut chars: Vec<char> = token.chars().collect();
        for (at, what, c) in edits {
            let at = at.index(chars.len());
            match what {
                0 => chars[at] = c,
                1 => chars.insert(at, c),
                _ => drop(chars.remove(at)),
            }
        }
        let text: String = chars.into_iter().collect();
        survives(&text);
        prop_assert!(text == *token || believe(&text).is_none());
    }
}
