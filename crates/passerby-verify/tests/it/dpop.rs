//! Tokens that are bound to a key (RFC 9449): each negative case of section 4.3, and both schemes.

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use passerby_verify::{Error, Lack, ProofFault, Require, TokenFault, Verifier};
use serde_json::{Value, json};

use crate::{
    issuer::{NOW, World, ask},
    signer::{Key, b64, hash, hs256},
};

struct Bound {
    world: World,
    verifier: Verifier,
    device: Key,
    token: String,
    used: std::cell::Cell<u32>,
}

impl Bound {
    async fn new() -> Self {
        Self::with(Key::es256("")).await
    }

    async fn with(device: Key) -> Self {
        let world = World::new().await;
        let token = world.token_with(json!({ "cnf": { "jkt": device.thumbprint() } }));
        Self { verifier: world.verifier(), world, device, token, used: std::cell::Cell::new(0) }
    }

    /// What a proof for `GET /cart` says, with a `jti` of its own.
    fn claims(&self) -> Value {
        self.used.set(self.used.get() + 1);
        let now = NOW;
        json!({ "jti": format!("proof-{}", self.used.get()), "htm": "GET", "htu": "https://api.example.com/cart", "iat": now, "ath": hash(&self.token) })
    }

    fn with_change(&self, change: Value) -> String {
        let mut claims = self.claims();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        self.device.proof(&claims)
    }

    fn proof(&self) -> String {
        self.with_change(json!({}))
    }

    async fn show(&self, proof: &str) -> Result<(), Error> {
        let scheme = format!("DPoP {}", self.token);
        ask(&self.verifier, &[("authorization", &scheme), ("dpop", proof)], &Require::user()).await.map(drop)
    }
}

fn proof(fault: ProofFault) -> Result<(), Error> {
    Err(Error::Proof(fault))
}

#[tokio::test]
async fn a_bound_token_with_its_proof() {
    for device in Key::all() {
        let bound = Bound::with(device).await;
        let scheme = format!("dpop {}", bound.token);
        let headers = [("authorization", &*scheme), ("dpop", &bound.proof())];
        let seen = ask(&bound.verifier, &headers, &Require::guest()).await.unwrap();
        assert_eq!(seen.key_thumbprint(), Some(&*bound.device.thumbprint()));
        for _ in 0..10 {
            assert_eq!(bound.show(&bound.proof()).await, Ok(()), "any number of proofs");
        }
    }
}

#[tokio::test]
async fn line_17_a_bound_token_is_of_no_use_without_its_key() {
    let bound = Bound::new().await;
    let any = Require::user();
    let as_bearer = format!("Bearer {}", bound.token);
    for headers in
        [vec![("authorization", &*as_bearer)], vec![("authorization", &*as_bearer), ("dpop", &bound.proof())]]
    {
        assert_eq!(ask(&bound.verifier, &headers, &any).await.err(), Some(Error::Token(TokenFault::Bound)));
    }
    assert_eq!(bound.verifier.check_bearer(&bound.token, &any).await.err(), Some(Error::Token(TokenFault::Bound)));
    let scheme = format!("DPoP {}", bound.token);
    let bare = ask(&bound.verifier, &[("authorization", &scheme)], &any).await;
    assert_eq!(bare.map(drop), proof(ProofFault::Missing));

    // a thief's own key, for which he makes perfect proofs
    let thief = Key::es256("");
    assert_eq!(bound.show(&thief.proof(&bound.claims())).await, proof(ProofFault::Key));
    // his signature under the owner's key
    let header = json!({ "alg": "ES256", "jwk": bound.device.public(), "typ": "dpop+jwt" }).to_string();
    assert_eq!(bound.show(&thief.sign_text(&header, &bound.claims().to_string())).await, proof(ProofFault::Signature));

    // an unbound token is not made better by a proof under the scheme of bound ones
    let plain = format!("DPoP {}", bound.world.token());
    let seen = ask(&bound.verifier, &[("authorization", &plain), ("dpop", &bound.proof())], &any).await;
    assert_eq!(seen.err(), Some(Error::Token(TokenFault::Unbound)));
    // beside `Bearer` a proof means nothing and is not looked at
    let plain = format!("Bearer {}", bound.world.token());
    assert!(ask(&bound.verifier, &[("authorization", &plain), ("dpop", "nonsense")], &any).await.is_ok());

    // an API that was not told its address cannot judge a proof
    let deaf =
        Verifier::builder(&bound.world.url, crate::issuer::API).clock(bound.world.clock.clone()).build().unwrap();
    let seen = ask(&deaf, &[("authorization", &scheme), ("dpop", &bound.proof())], &any).await;
    assert_eq!(seen.err(), Some(Error::Token(TokenFault::BindingUnsupported)));
}

#[tokio::test]
async fn line_17_negative_cases_of_section_4_3() {
    let bound = Bound::new().await;
    let device = &bound.device;
    let scheme = format!("DPoP {}", bound.token);
    // 1: one header
    let two = [("authorization", &*scheme), ("dpop", &bound.proof()), ("dpop", &bound.proof())];
    assert_eq!(ask(&bound.verifier, &two, &Require::user()).await.map(drop), proof(ProofFault::Several));
    let joined = format!("{}, {}", bound.proof(), bound.proof());
    assert_eq!(bound.show(&joined).await, proof(ProofFault::Malformed));
    // 2: a well-formed JWT
    for text in ["", "x", "a.b.c", "e30.e30.", &format!("{}=", bound.proof()), &format!("{}.x", bound.proof())] {
        assert!(bound.show(text).await.is_err(), "{text}");
    }
    assert_eq!(bound.show("x").await, proof(ProofFault::Malformed));
    let header = |change: Value| {
        let mut header = json!({ "alg": "ES256", "jwk": device.public(), "typ": "dpop+jwt" });
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        device.sign_text(&header.to_string(), &bound.claims().to_string())
    };
    assert_eq!(bound.show(&header(json!({}))).await, Ok(()), "the control");
    // 3: all claims
    for (name, fault) in [
        ("jti", ProofFault::Id),
        ("htm", ProofFault::Method),
        ("htu", ProofFault::Address),
        ("iat", ProofFault::Time),
        ("ath", ProofFault::AccessToken),
    ] {
        assert_eq!(bound.show(&bound.with_change(json!({ name: null }))).await, proof(fault), "{name}");
        assert_eq!(bound.show(&bound.with_change(json!({ name: [] }))).await, proof(fault), "{name}");
    }
    for jti in [json!(""), json!(7), json!("x".repeat(257))] {
        assert_eq!(bound.show(&bound.with_change(json!({ "jti": jti }))).await, proof(ProofFault::Id));
    }
    // 4: the type
    for typ in ["dpop+JWT", "JWT", "at+jwt", "application/dpop+jwt", ""] {
        assert_eq!(bound.show(&header(json!({ "typ": typ }))).await, proof(ProofFault::Type), "{typ}");
    }
    // 5: an asymmetric algorithm, the key's
    for alg in ["none", "HS256", "RS256", "EdDSA", "ES384"] {
        assert_eq!(bound.show(&header(json!({ "alg": alg }))).await, proof(ProofFault::Algorithm), "{alg}");
    }
    let shared = json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" }, "typ": "dpop+jwt" }).to_string();
    assert_eq!(bound.show(&hs256(&[0; 3], &shared, &bound.claims().to_string())).await, proof(ProofFault::Algorithm));
    // 6: the signature
    let good = bound.proof();
    let (input, signature) = good.rsplit_once('.').unwrap();
    let mut raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    raw[0] ^= 1;
    for signature in [b64(&raw), b64([0; 64]), String::new()] {
        assert_eq!(bound.show(&format!("{input}.{signature}")).await, proof(ProofFault::Signature));
    }
    // 7: no private key
    let mut private = device.public();
    private["d"] = json!("AAAA");
    for jwk in [private, json!({ "kty": "oct", "k": "AAAA" }), json!({}), json!("x"), json!(null)] {
        assert_eq!(bound.show(&header(json!({ "jwk": jwk }))).await, proof(ProofFault::Malformed));
    }
    // 8: the method
    for htm in ["POST", "get", "GET ", ""] {
        assert_eq!(bound.show(&bound.with_change(json!({ "htm": htm }))).await, proof(ProofFault::Method), "{htm}");
    }
    // 9: the address
    for htu in [
        "https://api.example.com/carts",
        "https://api.example.com/cart/",
        "http://api.example.com/cart",
        "https://api.example.com:8443/cart",
        "https://other.example.com/cart",
        "https://api.example.com@other.example.com/cart",
        "/cart",
        "",
        "*",
    ] {
        assert_eq!(bound.show(&bound.with_change(json!({ "htu": htu }))).await, proof(ProofFault::Address), "{htu}");
    }
    for htu in
        ["https://api.example.com/cart?page=9#x", "HTTPS://API.example.com:443/cart", "https://api.example.com/%63art"]
    {
        assert_eq!(bound.show(&bound.with_change(json!({ "htu": htu }))).await, Ok(()), "{htu}");
    }
    // 11: the time
    for iat in [NOW - 61, NOW + 61, 0, -1, i64::MAX, i64::MIN] {
        assert_eq!(bound.show(&bound.with_change(json!({ "iat": iat }))).await, proof(ProofFault::Time), "{iat}");
    }
    for iat in [json!("now"), json!(1.5), json!(true)] {
        assert_eq!(bound.show(&bound.with_change(json!({ "iat": iat }))).await, proof(ProofFault::Time), "{iat}");
    }
    for iat in [NOW - 60, NOW + 60] {
        assert_eq!(bound.show(&bound.with_change(json!({ "iat": iat }))).await, Ok(()), "{iat}");
    }
    // 12: the access token
    for ath in [hash("x"), hash(&bound.world.token()), String::new()] {
        assert_eq!(bound.show(&bound.with_change(json!({ "ath": ath }))).await, proof(ProofFault::AccessToken));
    }
    // extensions that are not understood, and members named twice
    for change in [
        json!({ "crit": ["x"] }),
        json!({ "jku": "https://thief.example" }),
        json!({ "x5c": [] }),
        json!({ "b64": false }),
    ] {
        assert_eq!(bound.show(&header(change)).await, proof(ProofFault::Malformed));
    }
    let doubled = bound.claims().to_string().replacen('{', r#"{"htm":"POST","#, 1);
    let text =
        device.sign_text(&json!({ "alg": "ES256", "jwk": device.public(), "typ": "dpop+jwt" }).to_string(), &doubled);
    assert_eq!(bound.show(&text).await, proof(ProofFault::Malformed));
}

#[tokio::test]
async fn line_17_a_proof_works_once() {
    let bound = Bound::new().await;
    // made as far ahead as may be: it lives longest
    let ahead = bound.with_change(json!({ "iat": NOW + 60 }));
    assert_eq!(bound.show(&ahead).await, Ok(()));
    for _ in 0..120 {
        assert_eq!(bound.show(&ahead).await, proof(ProofFault::Replayed));
        bound.world.clock.pass(1);
    }
    assert_eq!(bound.show(&ahead).await, proof(ProofFault::Replayed));
    bound.world.clock.pass(1);
    assert_eq!(bound.show(&ahead).await, proof(ProofFault::Time));
    // a proof that was refused is not spent
    let early = bound.with_change(json!({ "iat": NOW + 182, "jti": "early" }));
    assert_eq!(bound.show(&early).await, proof(ProofFault::Time));
    bound.world.clock.pass(1);
    assert_eq!(bound.show(&early).await, Ok(()));
    // the same `jti` with other content is the same proof
    let again = bound.with_change(json!({ "iat": NOW + 122, "jti": "early" }));
    assert_eq!(bound.show(&again).await, proof(ProofFault::Replayed));
}

#[tokio::test]
async fn what_cannot_be_remembered_is_not_taken() {
    let mut bound = Bound::new().await;
    bound.verifier = bound.world.builder().proofs(32).build().unwrap();
    for _ in 0..2 {
        assert_eq!(bound.show(&bound.proof()).await, Ok(()));
    }
    assert_eq!(bound.show(&bound.proof()).await, Err(Error::Unavailable(Lack::Proofs)), "one key has a sixteenth");
}

#[tokio::test]
async fn behind_a_prefix_and_with_another_method() {
    let bound = Bound::new().await;
    let verifier = bound.world.builder().address("https://shop.example/api/").build().unwrap();
    let check = async |htm: &str, htu: &str, method: Method, path: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("DPoP {}", bound.token)).unwrap());
        let proof = bound.with_change(json!({ "htm": htm, "htu": htu }));
        headers.insert("dpop", HeaderValue::from_str(&proof).unwrap());
        verifier.check(&method, &Uri::from_static(path), &headers, &Require::user()).await.map(drop)
    };
    assert_eq!(check("POST", "https://shop.example/api/cart/items", Method::POST, "/cart/items").await, Ok(()));
    assert_eq!(check("POST", "https://api.example.com/cart/items", Method::POST, "/cart/items").await, Ok(()));
    assert_eq!(
        check("POST", "https://shop.example/cart/items", Method::POST, "/cart/items").await,
        proof(ProofFault::Address)
    );
    assert_eq!(
        check("POST", "https://shop.example/api/cart/items", Method::PUT, "/cart/items").await,
        proof(ProofFault::Method)
    );
    assert_eq!(check("PATCH", "https://shop.example/api", Method::PATCH, "/").await, proof(ProofFault::Address));
    assert_eq!(check("PATCH", "https://shop.example/api/", Method::PATCH, "/").await, Ok(()));
}
