//! Fuzz targets for every parser of hostile input, as plain functions: a target panics when a promise is broken, and
//! says nothing otherwise. `cargo test` runs them over generated and mutated input on stable; `fuzz/libfuzzer` runs
//! the same ones under a coverage-guided fuzzer.

use passerby::config::{Config, Overrides};
use passerby_core::profile::{Edit, Limits, parse_object};
use passerby_jose::{Algorithm, MAX_PROOF, SealingKey, SigningKey, parse_jws, parse_proof, peek_jwe};

/// A target.
pub type Target = fn(&[u8]);

/// All of them by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("tokens", tokens),
    ("proofs", proofs),
    ("objects", objects),
    ("edits", edits),
    ("bodies", bodies),
    ("configuration", configuration),
];

/// Compact JWS and JWE: whatever is read was signed or sealed by us.
///
/// # Panics
/// When something that this key never made is taken.
pub fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = peek_jwe(text);
    if let Ok(jws) = parse_jws(text)
        && let Ok(pkcs8) = SigningKey::generate(Algorithm::EdDsa)
        && let Ok(key) = SigningKey::from_pkcs8(Algorithm::EdDsa, "k", &pkcs8)
    {
        assert!(key.verifying_key().verify(&jws).is_err(), "a fresh key signed nothing");
    }
    assert!(SealingKey::new(&[1; 32], "k", "t").open(text).is_err(), "nobody sealed this");
}

/// DPoP proofs: what is read is within its limits, is no token of ours, and names the same key each time. A fuzzer holds
/// no private key, so the one good proof that it meets is the one it was given.
///
/// # Panics
/// When it is not so.
pub fn proofs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = parse_proof(text) else { return };
    assert!(text.len() <= MAX_PROOF && parse_jws(text).is_err());
    assert_eq!(proof.thumbprint(), proof.thumbprint());
    assert!(proof.claims().is_ok());
    // of the other two algorithms there are keys with which anybody signs: who uses one has given it away
    if proof.verify().is_ok() && proof.alg == Algorithm::Es256 {
        assert!(text == PROOF, "nobody signed this");
    }
}

/// The proof of RFC 9449 section 4.1, whose private key nobody has.
const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpD\
    a0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.\
    eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0Ijox\
    NTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

/// Profile data: what is accepted is within the limits, and reading it again gives the same text.
///
/// # Panics
/// When it is not.
pub fn objects(data: &[u8]) {
    let limits = Limits::default();
    if let Ok(text) = parse_object(data, "/data", &limits) {
        assert!(text.len() <= limits.max_bytes);
        let again = parse_object(text.as_bytes(), "", &limits).map_err(|e| e.detail);
        assert_eq!(again.as_deref(), Ok(&*text));
    }
}

/// Edits: what an edit leaves behind is profile data again. The input is the edit and the profile, parted by a zero.
///
/// # Panics
/// When it is not.
pub fn edits(data: &[u8]) {
    let limits = Limits::default();
    let (edit, profile) = data.split_at(data.iter().position(|b| *b == 0).unwrap_or(data.len()));
    let profile = parse_object(profile.get(1..).unwrap_or_default(), "", &limits).unwrap_or_else(|_| "{}".into());
    let all = [
        Edit::merge_patch(edit, &limits),
        Edit::json_patch(edit, &limits),
        Edit::operations(edit, &limits),
        Edit::shallow_merge(edit, "metadata", &limits),
    ];
    for edit in all.into_iter().flatten() {
        if let Ok(outcome) = edit.apply(&profile, &limits, None) {
            objects(outcome.as_bytes());
            assert!(parse_object(outcome.as_bytes(), "", &limits).is_ok());
        }
    }
}

/// Request bodies: JSON objects and forms.
pub fn bodies(data: &[u8]) {
    let _ = passerby_http::form::parse(data);
    let _ = passerby_http::json::parse::<Members<'_>>(data);
}

/// Configuration files: every text is either taken or refused with a sentence.
///
/// # Panics
/// When a refusal says nothing.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(problems) = Config::parse("fuzz.toml", text, &Overrides::default()) {
        assert!(!problems.to_string().is_empty());
    }
}

#[derive(serde::Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    _client_id: Option<passerby_http::json::Text<'a>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Well-formed input to mutate, so that the generator gets past the first byte.
    const SEEDS: &[&str] = &[
        r#"{"client_id":"demo-spa","data":{"a":[1,2.5,"x",null,true]},"persist":true}"#,
        r#"{"operations":[{"op":"increment","path":"/a/b","by":1},{"op":"append","path":"/l","value":[1]},{"op":"test","path":"/a","value":{}}]}"#,
        r#"[{"op":"move","from":"/a","path":"/b"},{"op":"copy","from":"/b","path":"/c/-"},{"op":"test","path":"","value":{}}]"#,
        "{\"a\":{\"b\":null}}\u{0}{\"a\":{\"b\":1,\"l\":[1,2,3]}}",
        "grant_type=refresh_token&refresh_token=pbr_AAAA&client_id=demo-spa&x=%ff%00",
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImsiLCJ0eXAiOiJhdCtqd3QifQ.e30.AAAA",
        PROOF,
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwia2lkIjoiayIsInR5cCI6InQifQ..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA",
        "listen = \"127.0.0.1:1\"\n[[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\"\n[tenants.guests]\nidle_timeout = \"30d\"\n",
    ];

    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let edit = (
            any::<prop::sample::Index>(),
            prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:0\\./-e\x00".to_vec())],
            0u8..3,
        );
        (prop::sample::select(SEEDS), prop::collection::vec(edit, 0..8)).prop_map(|(seed, edits)| {
            let mut text = seed.as_bytes().to_vec();
            for (at, byte, how) in edits {
                let at = at.index(text.len().max(1)).min(text.len());
                match how {
                    0 if at < text.len() => text[at] = byte,
                    1 if at < text.len() => drop(text.remove(at)),
                    _ => text.insert(at, byte),
                }
            }
            text
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn every_target_stands(data in prop_oneof![mutated(), prop::collection::vec(any::<u8>(), 0..300), ".{0,200}".prop_map(String::into_bytes)]) {
            for (_, target) in TARGETS {
                target(&data);
            }
        }
    }
}
