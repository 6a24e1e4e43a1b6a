//! Which tokens pass: the claims, the marks, and a corpus of forgeries.

use passerby_verify::{Algorithm, Error, Holder, HolderFault, RequestFault, Require, TokenFault};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    issuer::{API, NOW, World, ask, bearer},
    signer::{Key, b64, hs256},
};

#[expect(clippy::unnecessary_wraps, reason = "it is what `err` gives")]
fn token(fault: TokenFault) -> Option<Error> {
    Some(Error::Token(fault))
}

#[tokio::test]
async fn a_good_token_of_each_algorithm() {
    let world = World::new().await;
    let keys = Key::all();
    world.state.set_keys(&keys.each_ref());
    let verifier = world.verifier();
    for key in &keys {
        let seen = bearer(&verifier, &key.token(&world.claims())).await.unwrap();
        assert_eq!(seen.subject(), "0190a1f0-0000-7000-8000-000000000001");
        assert_eq!((seen.client_id(), seen.id()), ("shop", "AAAAAAAAAAAAAAAAAAAAAA"));
        assert_eq!(seen.session(), Some("0190a1f0-0000-7000-8000-000000000002"));
        assert_eq!((seen.issued_at(), seen.expires_at(), seen.epoch()), (NOW, NOW + 900, 0));
        assert!(seen.is_guest() && !seen.is_member() && !seen.is_floating() && seen.key_thumbprint().is_none());
        assert_eq!(seen.scopes().collect::<Vec<_>>(), ["read:cart", "write:cart"]);
        assert_eq!(seen.claim("aud"), Some(&json!(API)));
    }
    assert_eq!(world.state.fetches(), 1);
    let floating = world.token_with(json!({ "floating": true, "state": "x" }));
    world.state.set_keys(&[&world.key]);
    assert!(bearer(&world.verifier(), &floating).await.unwrap().is_floating());
}

#[tokio::test]
async fn line_10_issuer_audience_and_times_are_checked_exactly() {
    let world = World::new().await;
    let verifier = world.verifier();
    let url = &world.url;
    for (change, fault) in [
        (json!({ "iss": format!("{url}/") }), TokenFault::Issuer),
        (json!({ "iss": url.to_uppercase() }), TokenFault::Issuer),
        (json!({ "iss": "https://other.example.com" }), TokenFault::Issuer),
        (json!({ "iss": [url] }), TokenFault::Claims),
        (json!({ "aud": format!("{API}/") }), TokenFault::Audience),
        (json!({ "aud": "https://API.example.com" }), TokenFault::Audience),
        (json!({ "aud": url }), TokenFault::Audience),
        (json!({ "aud": [] }), TokenFault::Audience),
        (json!({ "aud": [[API]] }), TokenFault::Audience),
        (json!({ "aud": { API: true } }), TokenFault::Claims),
        (json!({ "exp": NOW - 10 }), TokenFault::Expired),
        (json!({ "exp": 0 }), TokenFault::Expired),
        (json!({ "exp": NOW.to_string() }), TokenFault::Claims),
        (json!({ "exp": NOW as f64 + 900.5 }), TokenFault::Claims),
        (json!({ "exp": 1e300 }), TokenFault::Claims),
        (json!({ "exp": u64::MAX }), TokenFault::Claims),
        (json!({ "exp": i64::MAX }), TokenFault::Claims),
        (json!({ "iat": -1 }), TokenFault::Claims),
        (json!({ "iat": NOW + 11 }), TokenFault::NotYet),
        (json!({ "nbf": NOW + 11 }), TokenFault::NotYet),
        (json!({ "nbf": "never" }), TokenFault::Claims),
        (json!({ "cnf": {} }), TokenFault::Claims),
        (json!({ "cnf": { "x5t#S256": "AAAA" } }), TokenFault::Claims),
        (json!({ "cnf": { "jkt": 1 } }), TokenFault::Claims),
    ] {
        assert_eq!(bearer(&verifier, &world.token_with(change.clone())).await.err(), token(fault), "{change}");
    }
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"] {
        assert_eq!(
            bearer(&verifier, &world.token_with(json!({ name: null }))).await.err(),
            token(TokenFault::Claims),
            "{name}"
        );
    }
    for name in ["sub", "jti", "client_id"] {
        for empty in [json!(""), json!(7), json!(["x"])] {
            assert_eq!(
                bearer(&verifier, &world.token_with(json!({ name: empty }))).await.err(),
                token(TokenFault::Claims),
                "{name}"
            );
        }
    }
    for change in [
        json!({ "aud": [API] }),
        json!({ "aud": ["https://other.example.com", API] }),
        json!({ "exp": NOW - 9 }),
        json!({ "iat": NOW + 10 }),
        json!({ "nbf": NOW + 10 }),
        json!({ "nbf": NOW - 10 }),
    ] {
        assert!(bearer(&verifier, &world.token_with(change.clone())).await.is_ok(), "{change}");
    }
    let exact = world.builder().leeway(std::time::Duration::ZERO).build().unwrap();
    assert_eq!(bearer(&exact, &world.token_with(json!({ "exp": NOW }))).await.err(), token(TokenFault::Expired));
    assert!(bearer(&exact, &world.token_with(json!({ "exp": NOW + 1 }))).await.is_ok());
    let kept = bearer(&exact, &world.token()).await.unwrap();
    assert_eq!(exact.check_again(&kept), Ok(()));
    world.clock.pass(900);
    assert_eq!(exact.check_again(&kept).err(), token(TokenFault::Expired));
}

#[tokio::test]
async fn a_slash_at_the_issuers_end_is_kept() {
    let world = World::new().await;
    let name = format!("{}/", world.url);
    world.state.metadata.lock().unwrap()["issuer"] = json!(name);
    let verifier = passerby_verify::Verifier::builder(&name, API).clock(world.clock.clone()).build().unwrap();
    assert!(bearer(&verifier, &world.token_with(json!({ "iss": name }))).await.is_ok());
    assert_eq!(bearer(&verifier, &world.token()).await.err(), token(TokenFault::Issuer));
}

#[tokio::test]
async fn line_11_what_is_not_marked_is_neither_guest_nor_member() {
    let world = World::new().await;
    let verifier = world.verifier();
    let is_anonymous = |mark: Value| world.token_with(json!({ "is_anonymous": mark }));
    let (guest, member) = (is_anonymous(json!(true)), is_anonymous(json!(false)));
    let unmarked: Vec<String> =
        [json!(null), json!("false"), json!("true"), json!(0), json!([]), json!({})].map(is_anonymous).into();
    let rules = [
        (Require::user(), HolderFault::User, [true, true]),
        (Require::guest(), HolderFault::Guest, [true, false]),
        (Require::member(), HolderFault::Member, [false, true]),
    ];
    assert_eq!(Require::default(), Require::user());
    for (require, fault, passes) in &rules {
        let check = async |token: &str| verifier.check_bearer(token, require).await.err();
        for (token, passes) in [&guest, &member].into_iter().zip(passes) {
            assert_eq!(check(token).await, (!passes).then_some(Error::Holder(*fault)));
        }
        for token in &unmarked {
            assert_eq!(check(token).await, Some(Error::Holder(*fault)));
        }
    }
    for token in &unmarked {
        let seen = verifier.check_bearer(token, &Require::anyone()).await.unwrap();
        assert_eq!(seen.holder(), Holder::Unmarked);
        assert!(!seen.is_guest() && !seen.is_member());
        assert_eq!(seen.require(&Require::member()), Err(Error::Holder(HolderFault::Member)));
    }
    let machine = world.token_with(json!({ "sub": "shop", "sid": null, "is_anonymous": null, "epoch": null }));
    assert!(bearer(&verifier, &machine).await.is_err());
    assert_eq!(verifier.check_bearer(&machine, &Require::anyone()).await.unwrap().session(), None);
}

#[tokio::test]
async fn line_12_scopes() {
    let world = World::new().await;
    let verifier = world.verifier();
    let both = Require::user().scope("read:cart").scope("write:cart");
    for (scope, passes) in [
        (json!("read:cart write:cart"), true),
        (json!("write:cart  x read:cart"), true),
        (json!("read:cart"), false),
        (json!("read:carts write:cart"), false),
        (json!("READ:CART write:cart"), false),
        (json!("read:cart,write:cart"), false),
        (json!(""), false),
        (json!(null), false),
        (json!(["read:cart", "write:cart"]), false),
    ] {
        let seen = verifier.check_bearer(&world.token_with(json!({ "scope": scope })), &both).await;
        assert_eq!(seen.err(), (!passes).then(|| Error::Scope("read:cart write:cart".into())), "{scope}");
    }
}

#[tokio::test]
async fn how_a_token_is_shown() {
    let world = World::new().await;
    let verifier = world.verifier();
    let good = world.token();
    let any = Require::user();
    for name in ["Bearer", "bearer", "BEARER"] {
        assert!(ask(&verifier, &[("authorization", &format!("{name} {good}"))], &any).await.is_ok());
    }
    for value in ["", "Basic abc", &good, &format!("Token {good}"), &format!("Bearer\t{good}")] {
        assert_eq!(ask(&verifier, &[("authorization", value)], &any).await.err(), Some(Error::NoToken), "{value}");
    }
    assert_eq!(ask(&verifier, &[], &any).await.err(), Some(Error::NoToken));
    assert_eq!(ask(&verifier, &[("cookie", &format!("access_token={good}"))], &any).await.err(), Some(Error::NoToken));
    for value in ["Bearer", "Bearer ", "Bearer x y", &format!("Bearer {good} x"), &format!("Bearer {good},")] {
        assert_eq!(
            ask(&verifier, &[("authorization", value)], &any).await.err(),
            token(TokenFault::Malformed),
            "{value}"
        );
    }
    let shown = format!("Bearer {good}");
    for second in [&*shown, "Basic abc"] {
        let twice = ask(&verifier, &[("authorization", &shown), ("authorization", second)], &any).await;
        assert_eq!(twice.err(), Some(Error::Request(RequestFault::Authorization)));
    }
    let dpop = ask(&verifier, &[("authorization", &format!("DPoP {good}"))], &any).await;
    assert_eq!(dpop.err(), token(TokenFault::Unbound));
}

#[tokio::test]
async fn line_08_forged_tokens() {
    let world = World::new().await;
    let keys = Key::all();
    world.state.set_keys(&keys.each_ref());
    let verifier = world.verifier();
    let refuse = async |text: &str, fault: TokenFault| {
        assert_eq!(bearer(&verifier, text).await.err(), token(fault), "{text}");
    };
    let claims = world.claims().to_string();
    let thief = Key::es256("e");
    refuse(&thief.token(&world.claims()), TokenFault::Signature).await;
    refuse(&Key::es256("x").token(&world.claims()), TokenFault::Key).await;

    let [e, d, r] = &keys;
    let genuine = e.token(&world.claims());
    let (header, rest) = genuine.split_once('.').unwrap();
    let payload = rest.split_once('.').unwrap().0;
    // no signature
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let naked = format!("{}.{payload}", b64(json!({ "alg": alg, "kid": "e", "typ": "at+jwt" }).to_string()));
        refuse(&format!("{naked}."), TokenFault::Algorithm).await;
        refuse(&format!("{naked}.AAAA"), TokenFault::Algorithm).await;
        refuse(&naked, TokenFault::Malformed).await;
    }
    for zeros in [0, 1, 63, 64, 65, 256] {
        for key in &keys {
            let header = b64(json!({ "alg": key.alg(), "kid": key.kid, "typ": "at+jwt" }).to_string());
            refuse(&format!("{header}.{payload}.{}", b64(vec![0; zeros])), TokenFault::Signature).await;
        }
    }
    refuse(&format!("{header}.{payload}"), TokenFault::Malformed).await;
    // the public key as a shared secret
    for key in &keys {
        let (jwk, set) = (key.jwk().to_string(), world.state.keys.lock().unwrap().to_string());
        for secret in [jwk, set, key.public().to_string()] {
            for alg in ["HS256", "HS384", "HS512"] {
                let header = json!({ "alg": alg, "kid": key.kid, "typ": "at+jwt" }).to_string();
                refuse(&hs256(secret.as_bytes(), &header, &claims), TokenFault::Algorithm).await;
            }
            let header = json!({ "alg": key.alg(), "kid": key.kid, "typ": "at+jwt" }).to_string();
            refuse(&hs256(secret.as_bytes(), &header, &claims), TokenFault::Signature).await;
        }
    }
    // an algorithm of another key, or of none
    for (key, alg) in
        [(e, "EdDSA"), (e, "RS256"), (d, "ES256"), (r, "ES256"), (r, "PS256"), (r, "RS512"), (e, "ES384"), (e, "es256")]
    {
        let header = json!({ "alg": alg, "kid": key.kid, "typ": "at+jwt" }).to_string();
        refuse(&key.sign_text(&header, &claims), TokenFault::Algorithm).await;
    }
    for header in [json!({ "kid": "e", "typ": "at+jwt" }), json!({ "alg": 1, "kid": "e", "typ": "at+jwt" })] {
        refuse(&e.sign_text(&header.to_string(), &claims), TokenFault::Algorithm).await;
    }
    // another kind of token, signed by a true key
    for typ in ["JWT", "at+JWT", "AT+JWT", "application/at+jwt", "dpop+jwt", "receipt+jwt", " at+jwt", ""] {
        let header = json!({ "alg": "ES256", "kid": "e", "typ": typ }).to_string();
        refuse(&e.sign_text(&header, &claims), TokenFault::Type).await;
    }
    refuse(&e.sign_text(r#"{"alg":"ES256","kid":"e"}"#, &claims), TokenFault::Type).await;
    // another name, or none
    for kid in [json!("E"), json!("e "), json!("../e"), json!("e\u{0}")] {
        let header = json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" }).to_string();
        refuse(&e.sign_text(&header, &claims), TokenFault::Key).await;
    }
    for kid in [json!(""), json!(null), json!(["e"])] {
        let header = json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" }).to_string();
        refuse(&e.sign_text(&header, &claims), TokenFault::Key).await;
    }
    let swapped = d.sign_text(r#"{"alg":"ES256","kid":"e","typ":"at+jwt"}"#, &claims);
    refuse(&swapped, TokenFault::Signature).await;
    // what would say how to check, by the thief and by the true key
    let fetches = world.state.fetches();
    for more in [
        format!(r#""jku":"{}/keys""#, world.url),
        r#""x5u":"https://thief.example/x""#.into(),
        format!(r#""jwk":{}"#, thief.public()),
        r#""x5c":["AAAA"]"#.into(),
        r#""crit":["exp"]"#.into(),
        r#""b64":false"#.into(),
        r#""zip":"DEF""#.into(),
        r#""alg":"ES256""#.into(),
        r#""kid":"e""#.into(),
        r#""t\u0079p":"at+jwt""#.into(),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"e","typ":"at+jwt",{more}}}"#);
        refuse(&thief.sign_text(&header, &claims), TokenFault::Malformed).await;
        refuse(&e.sign_text(&header, &claims), TokenFault::Malformed).await;
    }
    assert_eq!(world.state.fetches(), fetches, "nothing is fetched for a header's sake");
    // claims that two readers may read differently
    let double = claims.replacen('{', r#"{"sub":"somebody-else","#, 1);
    let header = r#"{"alg":"ES256","kid":"e","typ":"at+jwt"}"#;
    for text in [&*double, "[]", "null", "", "{", "{} {}", "\u{feff}{}"] {
        refuse(&e.sign_text(header, text), TokenFault::Malformed).await;
    }
    assert!(bearer(&verifier, &e.sign_text(header, &claims)).await.is_ok(), "the control");
}

#[tokio::test]
async fn every_changed_bit_and_every_cut() {
    let world = World::new().await;
    let verifier = world.verifier();
    let good = world.token();
    assert!(verifier.check_bearer(&good, &Require::user()).await.is_ok());
    for bit in 0..good.len() * 8 {
        let mut changed = good.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(text) = String::from_utf8(changed) {
            assert!(verifier.check_bearer(&text, &Require::anyone()).await.is_err(), "bit {bit} of {good}");
        }
    }
    for at in 0..good.len() {
        assert!(verifier.check_bearer(&good[..at], &Require::anyone()).await.is_err());
        for extra in ["A", "=", ".", " ", "\n", "\0", "é"] {
            let longer = format!("{}{extra}{}", &good[..at], &good[at..]);
            assert!(verifier.check_bearer(&longer, &Require::anyone()).await.is_err(), "{extra:?} at {at}");
        }
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_on_the_list() {
    let world = World::new().await;
    let keys = Key::all();
    world.state.set_keys(&keys.each_ref());
    let verifier = world.builder().algorithms(&[Algorithm::EdDsa]).build().unwrap();
    for key in &keys {
        let seen = bearer(&verifier, &key.token(&world.claims())).await.err();
        assert_eq!(seen, (key.alg() != "EdDSA").then_some(Error::Token(TokenFault::Algorithm)));
    }
}

#[tokio::test]
async fn nothing_of_a_token_is_told() {
    let world = World::new().await;
    let verifier = world.verifier();
    let seen = bearer(&verifier, &world.token()).await.unwrap();
    let told = format!("{seen:?} {verifier:?}");
    assert!(!told.contains(seen.subject()) && !told.contains(seen.id()) && told.contains("Guest"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_panics(text in "\\PC{0,80}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,60}", 0..5), scheme in "(Bearer|DPoP|Basic|)[ ]{0,2}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let verifier = world.verifier();
            for text in [text, parts.join(".")] {
                let Ok(value) = axum::http::HeaderValue::from_str(&format!("{scheme}{text}")) else { continue };
                let headers = [("authorization".parse().unwrap(), value.clone()), ("dpop".parse().unwrap(), value)].into_iter().collect();
                let seen = verifier.check(&axum::http::Method::GET, &"/".parse().unwrap(), &headers, &Require::anyone()).await;
                assert!(seen.is_err());
            }
        });
    }
}
