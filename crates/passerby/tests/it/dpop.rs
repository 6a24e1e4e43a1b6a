//! Every check of RFC 9449 sections 4.3 and 8 as a negative of its own, at every place where a proof is taken.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
    },
};
use passerby_jose::{MacKey, b64};
use serde_json::{Value, json};

use crate::{
    keys::DeviceKey,
    on_both,
    places::{House, INVALID, NONCE, Place, refused, with, without},
};

type Bad = (String, Vec<String>, &'static str);

fn unsigned(header: &str, claims: &Value) -> String {
    format!("{}.{}", b64::encode(header.as_bytes()), b64::encode(claims.to_string().as_bytes()))
}

/// What is no single, well-formed, signed JWT.
fn shapes(house: &House, place: Place) -> Vec<Bad> {
    let one = || house.proof(place);
    let (good, signed) = (one(), one());
    let parts: Vec<&str> = signed.split('.').collect();
    let (head, body, tail) = (parts[0], parts[1], parts[2]);
    let other = one();
    let mut bad: Vec<Bad> = vec![
        ("two headers".into(), vec![one(), one()], INVALID),
        ("the same twice".into(), vec![good.clone(), good], INVALID),
        ("a list in one header".into(), vec![format!("{},{}", one(), one())], INVALID),
        ("a good one and an empty one".into(), vec![one(), String::new()], INVALID),
    ];
    for (what, text) in [
        ("empty", String::new()),
        ("blank", " ".into()),
        ("not text", "a.b.\u{e9}".into()),
        ("words", "proof".into()),
        ("dots", "..".into()),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{signed}.{tail}")),
        ("five parts", format!("{head}.{body}.{tail}.{body}.{tail}")),
        ("a dot behind", format!("{signed}.")),
        ("no signature", format!("{head}.{body}.")),
        ("no claims", format!("{head}..{tail}")),
        ("no header", format!(".{body}.{tail}")),
        ("padded", format!("{head}.{body}.{tail}==")),
        ("a space inside", format!("{head} .{body}.{tail}")),
        ("a signature that lacks its end", signed[..signed.len() - 4].into()),
        ("another proof's signature", format!("{head}.{body}.{}", other.rsplit_once('.').unwrap().1)),
        ("another proof's claims", format!("{head}.{}.{tail}", other.split('.').nth(1).unwrap())),
        ("a signature of zeros", format!("{head}.{body}.{}", b64::encode(&[0; 64]))),
        ("an access token", house.guest.access.clone()),
        ("a session token", house.guest.session_token.clone()),
        ("a refresh token", house.guest.refresh.clone()),
        ("in quotes", format!("\"{signed}\"")),
        ("with a scheme", format!("DPoP {signed}")),
        ("JSON", json!({"payload": body, "protected": head, "signature": tail}).to_string()),
        ("too long", house.key.sign(&house.key.header(), &with(house.claims(place), "x", json!("y".repeat(5000))))),
    ] {
        bad.push((what.into(), vec![text], INVALID));
    }
    bad
}

/// What its header may not say.
fn headers(house: &House, place: Place, foreign: &Foreign) -> Vec<Bad> {
    let (key, claims) = (house.key(place), house.claims(place));
    let good = key.header();
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut say = |what: &str, header: &Value| texts.push((what.into(), key.sign(header, &claims)));
    for name in ["typ", "alg", "jwk"] {
        say(&format!("{name} missing"), &without(good.clone(), name));
        for value in [Value::Null, json!(""), json!(1), json!([good[name]]), json!({})] {
            say(&format!("{name} {value}"), &with(good.clone(), name, value));
        }
    }
    for typ in ["JWT", "jwt", "at+jwt", "DPoP+JWT", "dpop", "application/dpop+jwt", "dpop+jwt "] {
        say(&format!("typ {typ}"), &with(good.clone(), "typ", typ.into()));
    }
    for alg in
        ["none", "None", "HS256", "PS256", "ES384", "ES512", "ES256K", "RS256", "RS512", "EdDSA", "Ed25519", "es256"]
    {
        say(&format!("alg {alg}"), &with(good.clone(), "alg", alg.into()));
    }
    for (name, value) in [
        ("jku", json!("https://example.com/jwks")),
        ("x5u", json!("https://example.com/x")),
        ("x5c", json!(["AA"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        say(name, &with(good.clone(), name, value));
    }
    let jwk = |name: &str, value: Value| with(good.clone(), "jwk", with(key.jwk.clone(), name, value));
    for private in ["d", "k", "p", "q", "dp", "dq", "qi", "oth"] {
        say(&format!("private member {private}"), &jwk(private, "AAAA".into()));
    }
    say("kty oct", &with(good.clone(), "jwk", json!({"kty": "oct", "k": "AAAA"})));
    say("kty of another kind", &jwk("kty", "RSA".into()));
    say("another curve", &jwk("crv", "P-384".into()));
    say("x too short", &jwk("x", "AAAA".into()));
    say("no y", &with(good.clone(), "jwk", without(key.jwk.clone(), "y")));
    say("a point that is on no curve", &jwk("y", key.jwk["x"].clone()));
    say("a URL for a key", &with(good.clone(), "jwk", "https://example.com/key".into()));
    say("a key id for a key", &with(without(good.clone(), "jwk"), "kid", key.thumbprint().into()));
    let other = DeviceKey::new();
    say("the key of somebody else", &other.header());
    texts.push(("somebody else's signature".into(), other.sign(&good, &claims)));
    texts.push((
        "jwk in the claims".into(),
        key.sign(&without(good.clone(), "jwk"), &with(claims.clone(), "jwk", key.jwk.clone())),
    ));
    for name in ["typ", "alg", "jwk"] {
        let text = good.to_string();
        let twice = format!("{},\"{name}\":{}}}", &text[..text.len() - 1], good[name]);
        texts.push((format!("{name} twice"), key.sign_text(&twice, &claims.to_string())));
    }
    texts.push(("a header that is no object".into(), key.sign_text("[]", &claims.to_string())));
    texts.push(("a header that goes on".into(), key.sign_text(&format!("{good}{{}}"), &claims.to_string())));
    for alg in ["none", "None", "NONE", ""] {
        let header = with(good.clone(), "alg", alg.into()).to_string();
        texts.push((format!("unsigned {alg:?}"), format!("{}.", unsigned(&header, &claims))));
    }
    for secret in [key.jwk.to_string(), key.jwk["x"].as_str().unwrap().into(), String::new()] {
        let input = unsigned(&with(good.clone(), "alg", "HS256".into()).to_string(), &claims);
        let mac = MacKey::new(secret.as_bytes()).mac(&[input.as_bytes()]);
        texts.push(("the public key as a shared secret".into(), format!("{input}.{}", b64::encode(&mac))));
        let oct =
            json!({"typ": "dpop+jwt", "alg": "HS256", "jwk": {"kty": "oct", "k": b64::encode(secret.as_bytes())}});
        let input = unsigned(&oct.to_string(), &claims);
        let mac = MacKey::new(secret.as_bytes()).mac(&[input.as_bytes()]);
        texts.push(("a shared secret".into(), format!("{input}.{}", b64::encode(&mac))));
    }
    texts.extend(foreign.proofs(&claims));
    texts.into_iter().map(|(what, text)| (what, vec![text], INVALID)).collect()
}

/// Good signatures by algorithms that are not taken.
struct Foreign {
    p384: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Foreign {
    fn new() -> Self {
        Self {
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn proofs(&self, claims: &Value) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let point = self.p384.public_key().as_ref();
        let jwk = json!({"kty": "EC", "crv": "P-384", "x": b64::encode(&point[1..49]), "y": b64::encode(&point[49..])});
        let input = unsigned(&json!({"typ": "dpop+jwt", "alg": "ES384", "jwk": jwk}).to_string(), claims);
        let signature = self.p384.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        all.push(("a true ES384".to_owned(), format!("{input}.{}", b64::encode(signature.as_ref()))));
        let der = self.rsa.public_key().as_ref();
        let jwk = json!({"kty": "RSA", "n": b64::encode(&der[9..265]), "e": "AQAB"});
        let schemes: [(&str, &dyn RsaEncoding); 2] = [("PS256", &RSA_PSS_SHA256), ("RS512", &RSA_PKCS1_SHA512)];
        for (alg, scheme) in schemes {
            for said in [alg, "RS256"] {
                let input = unsigned(&json!({"typ": "dpop+jwt", "alg": said, "jwk": jwk}).to_string(), claims);
                let mut out = vec![0; 256];
                self.rsa.sign(scheme, &SystemRandom::new(), input.as_bytes(), &mut out).unwrap();
                all.push((format!("a true {alg} called {said}"), format!("{input}.{}", b64::encode(&out))));
            }
        }
        let weak = json!({"kty": "RSA", "n": b64::encode(&[0xff; 128]), "e": "AQAB"});
        let input = unsigned(&json!({"typ": "dpop+jwt", "alg": "RS256", "jwk": weak}).to_string(), claims);
        all.push(("a short RSA key".into(), format!("{input}.{}", b64::encode(&[1; 128]))));
        all
    }
}

/// What its claims may not say.
fn claims(house: &House, place: Place) -> Vec<Bad> {
    let key = house.key(place);
    let good = || house.claims(place);
    let mut bad: Vec<(String, Value, &'static str)> = Vec::new();
    let mut say = |what: String, claims: Value, code: &'static str| bad.push((what, claims, code));
    let now = house.app.now();
    for name in ["jti", "htm", "htu", "iat"] {
        say(format!("{name} missing"), without(good(), name), INVALID);
        for value in [Value::Null, json!([]), json!({}), json!(true), json!(""), json!([good()[name]])] {
            say(format!("{name} {value}"), with(good(), name, value), INVALID);
        }
    }
    say("jti a number".into(), with(good(), "jti", json!(7)), INVALID);
    say("jti too long".into(), with(good(), "jti", json!("j".repeat(256))), INVALID);
    let (method, path) = place.target();
    let other = if method == "GET" { "POST" } else { "GET" };
    let (lower, spaced, twice) = (method.to_lowercase(), format!("{method} "), format!("{method},{method}"));
    for htm in [other, &lower, "PUT", "HEAD", "OPTIONS", " ", &spaced, &twice] {
        say(format!("htm {htm:?}"), with(good(), "htm", json!(htm)), INVALID);
    }
    for htu in htus_of_others(path) {
        say(format!("htu {htu:?}"), with(good(), "htu", json!(htu)), INVALID);
    }
    for iat in [now - 301, now + 61, 0, -1, i64::MIN, i64::MAX, now * 1000] {
        say(format!("iat {iat}"), with(good(), "iat", json!(iat)), INVALID);
    }
    say("iat a text".into(), with(good(), "iat", json!(now.to_string())), INVALID);
    say("iat with a fraction, too old".into(), with(good(), "iat", json!(now as f64 - 300.5)), INVALID);
    let fresh = house.app.core.dpop_nonce();
    let mut bent = fresh.clone().into_bytes();
    bent[9] = if bent[9] == b'A' { b'B' } else { b'A' };
    say("no nonce".into(), without(good(), "nonce"), NONCE);
    say("nonce null".into(), with(good(), "nonce", Value::Null), NONCE);
    for nonce in [
        "",
        "x",
        &fresh[1..],
        &format!("{fresh}A"),
        &format!(" {fresh}"),
        &String::from_utf8(bent).unwrap(),
        &b64::encode(&[0; 16]),
        &b64::encode(&[7; 16]),
        &"n".repeat(600),
    ] {
        say(format!("nonce {nonce:?}"), with(good(), "nonce", json!(nonce)), NONCE);
    }
    for nonce in [json!(1), json!([fresh]), json!({}), json!(false)] {
        say(format!("nonce {nonce}"), with(good(), "nonce", nonce), INVALID);
    }
    if place.by_scheme() {
        let of = |text: &str| b64::encode(&passerby_jose::sha256(text.as_bytes()));
        let right = of(&house.guest.access);
        say("no ath".into(), without(good(), "ath"), INVALID);
        for ath in [
            json!(of(&house.loose.access)),
            json!(of("")),
            json!(""),
            json!(null),
            json!(1),
            json!([right]),
            json!(format!("{right}=")),
            json!(right.to_uppercase()),
            json!(house.guest.access),
            json!(of(&house.guest.session_token)),
        ] {
            say(format!("ath {ath}"), with(good(), "ath", ath), INVALID);
        }
    }
    let mut all: Vec<Bad> =
        bad.into_iter().map(|(what, claims, code)| (what, vec![key.sign(&key.header(), &claims)], code)).collect();
    let mut raw =
        |what: String, text: &str| all.push((what, vec![key.sign_text(&key.header().to_string(), text)], INVALID));
    for name in ["jti", "htm", "htu", "iat", "nonce", "ath"] {
        let claims = with(good(), "ath", json!(b64::encode(&passerby_jose::sha256(house.guest.access.as_bytes()))));
        let text = claims.to_string();
        raw(format!("{name} twice"), &format!("{},\"{name}\":{}}}", &text[..text.len() - 1], claims[name]));
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        raw(
            format!("{name} twice, once in escapes"),
            &format!("{},\"{escaped}\":{}}}", &text[..text.len() - 1], claims[name]),
        );
    }
    let text = good().to_string();
    let c = good();
    raw(
        "a list with the values in order".into(),
        &json!([c["jti"], c["htm"], c["htu"], c["iat"], c["nonce"], c["ath"]]).to_string(),
    );
    for (what, text) in [
        ("an empty object", "{}".to_owned()),
        ("a list", "[]".into()),
        ("a text", "\"x\"".into()),
        ("null", "null".into()),
        ("nothing", String::new()),
        ("an object in a list", format!("[{text}]")),
        ("an object and more", format!("{text} x")),
        ("two objects", format!("{text}{text}")),
        ("a mark before it", format!("\u{feff}{text}")),
        ("iat beyond all numbers", text.replacen("\"iat\":", "\"iat\":1e999,\"was\":", 1)),
        ("iat no number", text.replacen("\"iat\":", "\"iat\":NaN,\"was\":", 1)),
        ("half a surrogate", text.replacen("\"jti\":\"", "\"jti\":\"\\ud800", 1)),
    ] {
        raw(what.into(), &text);
    }
    all
}

/// Addresses that are not the one that was asked.
fn htus_of_others(path: &str) -> Vec<String> {
    let at = |origin: &str| format!("{origin}{path}");
    let here = "http://localhost:9011";
    let mut all = vec![
        path.to_owned(),
        format!("//localhost:9011{path}"),
        at("localhost:9011"),
        at("http://localhost"),
        at("http://localhost:9012"),
        at("http://localhost:80"),
        at("https://localhost:9011"),
        at("http://127.0.0.1:9011"),
        at("http://localhost.:9011"),
        at("http://localhost:9011.example.com"),
        at("http://evil.example"),
        at("http://evil.example:9011"),
        at("http://someone@localhost:9011"),
        at("http://someone:secret@localhost:9011"),
        at("http://:secret@localhost:9011"),
        at("http://localhost:9011@evil.example"),
        at("http://evil.example#@localhost:9011"),
        at("ftp://localhost:9011"),
        at("ws://localhost:9011"),
        at("http:localhost:9011"),
        at("http:/localhost:9011"),
        at("http:///localhost:9011"),
        at("http:\\\\localhost:9011"),
        format!("{here}{}", path.replace('/', "\\")),
        format!(" {here}{path}"),
        format!("{here}{path} "),
        format!("{here}{path}\n"),
        format!("{here}\t{path}"),
        format!("{here}{}", path.replacen('/', "/\n", 1)),
        format!("{here}{path}\u{0}"),
        format!("{here}{path}/"),
        format!("{here}/{path}"),
        format!("{here}{path};v=1"),
        format!("{here}{path}%00"),
        format!("{here}{path}%2F"),
        format!("{here}{path}x"),
        format!("{here}{}", path.to_uppercase()),
        format!("{here}{}", &path[..path.len() - 1]),
        format!("{here}/%2F{}", &path[1..]),
        format!("{here}/%252e{path}"),
        format!("{here}/t/11111111-1111-4111-8111-111111111111{path}"),
        format!("{here}/x{path}"),
        format!("{here}/../x{path}"),
        here.to_owned(),
        format!("{here}/"),
        "about:blank".into(),
        "javascript:1".into(),
        "http://[::1".into(),
    ];
    all.extend(
        ["/v1/guests", "/v1/me", "/v1/refresh", "/oauth2/token", "/oauth2/userinfo"]
            .into_iter()
            .filter(|p| *p != path)
            .map(|p| format!("{here}{p}")),
    );
    all
}

/// How else the address that was asked may be written (RFC 3986 sections 6.2.2 and 6.2.3; query and fragment are left
/// aside, RFC 9449 section 4.3).
fn htus_of_ours(path: &str) -> Vec<String> {
    let here = "http://localhost:9011";
    let first = path.as_bytes()[1];
    vec![
        format!("{here}{path}"),
        format!("{here}{path}?"),
        format!("{here}{path}?a=b&c=%2F"),
        format!("{here}{path}#"),
        format!("{here}{path}#top"),
        format!("{here}{path}?a#b"),
        format!("HTTP://LOCALHOST:9011{path}"),
        format!("Http://LocalHost:9011{path}"),
        format!("{here}/.{path}"),
        format!("{here}/x/..{path}"),
        format!("{here}/%{first:02x}{}", &path[2..]),
        format!("{here}/%{first:02X}{}?x", &path[2..]),
        format!("http://%6Cocalhost:9011{path}"),
    ]
}

on_both! {
    async fn line_17_what_is_no_proof_is_refused_everywhere(engine) {
        let house = House::new(engine).await;
        let users = house.app.users().await;
        for place in Place::ALL {
            for (what, proofs, code) in shapes(&house, place) {
                refused(&house.ask(place, &proofs).await, place, code, &what);
            }
        }
        assert_eq!(house.app.users().await, users, "nothing was made");
        still_good(&house).await;
    }

    async fn line_17_headers_of_proofs(engine) {
        let (house, foreign) = (House::new(engine).await, Foreign::new());
        let users = house.app.users().await;
        for place in Place::ALL {
            for (what, proofs, code) in headers(&house, place, &foreign) {
                refused(&house.ask(place, &proofs).await, place, code, &what);
            }
        }
        assert_eq!(house.app.users().await, users, "nothing was made");
        still_good(&house).await;
    }

    async fn line_17_claims_of_proofs(engine) {
        let house = House::new(engine).await;
        let users = house.app.users().await;
        for place in Place::ALL {
            for (what, proofs, code) in claims(&house, place) {
                refused(&house.ask(place, &proofs).await, place, code, &what);
            }
        }
        assert_eq!(house.app.users().await, users, "nothing was made");
        still_good(&house).await;
    }

    async fn the_address_may_be_written_in_other_ways(engine) {
        let house = House::new(engine).await;
        for place in Place::ALL {
            // each is asked with a code that is wrong
            if matches!(place, Place::HandOff | Place::Recover) { continue; }
            for htu in htus_of_ours(place.target().1) {
                let key = house.key(place);
                let proof = key.sign(&key.header(), &with(house.claims(place), "htu", json!(htu)));
                house.takes(place, &proof, &htu).await;
            }
        }
    }

    async fn what_a_good_proof_may_say_besides(engine) {
        let house = House::new(engine).await;
        let now = house.app.now();
        for place in Place::ALL {
            if matches!(place, Place::HandOff | Place::Recover) { continue; }
            let key = house.key(place);
            for (what, header, claims) in [
                ("more members", with(with(key.header(), "kid", json!("k")), "jwk", with(key.jwk.clone(), "kid", json!("x"))), with(with(house.claims(place), "iss", json!("app")), "exp", json!(now + 60))),
                ("the longest jti", key.header(), with(house.claims(place), "jti", json!("j".repeat(239) + &now.to_string() + &house.app.core.dpop_nonce()[..6]))),
                ("iat as old as may be", key.header(), with(house.claims(place), "iat", json!(now - 300))),
                ("iat as new as may be", key.header(), with(house.claims(place), "iat", json!(now + 60))),
                ("iat with a fraction", key.header(), with(house.claims(place), "iat", json!(now as f64 + 0.25))),
            ] {
                // one length for all, and a jti of its own for each place
                let claims = if what == "the longest jti" { with(claims, "jti", json!(format!("{:0>255}", format!("{place:?}")))) } else { claims };
                house.takes(place, &key.sign(&header, &claims), what).await;
            }
        }
    }

    async fn line_17_a_missing_proof(engine) {
        let house = House::new(engine).await;
        for place in [Place::Resume, Place::Refresh, Place::Dialect, Place::Token, Place::Account, Place::Me, Place::UserInfo, Place::UserInfoByPost, Place::AddKeyBound] {
            let answer = house.bare(place).send().await;
            if place.by_scheme() {
                refused(&answer, place, INVALID, "no proof");
            } else {
                answer.expect(400);
                let body = answer.json();
                assert_eq!(body[if place.is_oauth() { "error" } else { "code" }], INVALID, "{place:?}: {body}");
                assert_eq!(answer.header("dpop-nonce"), "", "{place:?}: no proof, no scheme, no nonce");
            }
        }
        let none = house.bare(Place::AddKey).send().await;
        none.refused(401, INVALID);
        assert!(none.header("www-authenticate").starts_with("DPoP error=\"invalid_dpop_proof\""), "{}", none.header("www-authenticate"));
        still_good(&house).await;
    }
}

/// Nothing was spent or ended by what was refused.
async fn still_good(house: &House) {
    for place in Place::ALL {
        if !matches!(place, Place::HandOff | Place::Recover) {
            house.takes(place, &house.proof(place), "after all that").await;
        }
    }
}
