//! Proofs at the door: behind proxies, under other issuers; and the nonce that comes with every answer to one.

use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Engine, TestApp},
    keys::DeviceKey,
    on_both,
    places::{House, INVALID, NONCE, Place, refused, with, without},
};

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "192.0.2.1";

fn behind_a_proxy(text: String) -> String {
    format!("trusted_proxies = [\"10.0.0.0/8\"]\n{text}")
}

/// A house that is no development any more, in whose folder the master key lies.
async fn production(engine: Engine, issuer: &str, folder: &tempfile::TempDir) -> TestApp {
    let key = folder.path().join("key");
    std::fs::write(&key, "Xk3vT9qLw2Zr8YbN5mJc7HdPf4Gs6UaEoQi1Rt0WyVU").unwrap();
    let text = format!(
        "trusted_proxies = [\"10.0.0.0/8\"]\nlisten = \"127.0.0.1:9011\"\nissuer = \"{issuer}\"\ndev = false\nmaster_key_file = \"{}\"\n\
         [[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\"\nname = \"default\"\n\
         [[tenants.clients]]\nid = \"demo-spa\"\nname = \"App\"\ntype = \"native\"\npersistence = \"eager\"\n",
        key.display()
    );
    TestApp::with(engine, |_| text).await
}

/// `POST /v1/guests` with a proof for the address.
fn guests(app: &TestApp, key: &DeviceKey, htu: &str) -> Call {
    let claims = with(DeviceKey::claims(app, "POST", "/v1/guests", None), "htu", json!(htu));
    app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("dpop", &key.sign(&key.header(), &claims))
}

fn is_taken(answer: &Answer) -> bool {
    if answer.status.is_success() {
        return true;
    }
    answer.refused(400, INVALID);
    false
}

/// Sends what a proxy adds.
fn forwarded(call: Call, lines: &[(&str, &str)]) -> Call {
    lines.iter().fold(call, |call, (name, value)| call.header(name, value))
}

on_both! {
    async fn line_03_forwarded_host_and_scheme_count_from_the_proxy_only(engine) {
        let app = TestApp::with(engine, behind_a_proxy).await;
        let key = DeviceKey::new();
        let there = "https://shop.example/v1/guests";
        let x: &[_] = &[("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example")];
        let rfc: &[_] = &[("forwarded", "for=192.0.2.7;proto=https;host=shop.example")];
        let evil: &[_] = &[("forwarded", "for=192.0.2.7;proto=https;host=evil.example")];
        for (peer, lines, htu, taken) in [
            (PROXY, x, there, true),
            (PROXY, rfc, there, true),
            (STRANGER, x, there, false),
            (STRANGER, rfc, there, false),
            (PROXY, &[], there, false),
            (PROXY, &x[..1], there, false),
            (PROXY, &x[..1], "https://localhost:9011/v1/guests", true),
            (STRANGER, &x[..1], "https://localhost:9011/v1/guests", false),
            // the issuer's own counts always, the host that the proxy itself was asked for no more
            (PROXY, x, "http://localhost:9011/v1/guests", true),
            (PROXY, x, "https://localhost:9011/v1/guests", false),
            (PROXY, x, "http://shop.example/v1/guests", false),
            // whoever says two things says nothing
            (PROXY, &[x[0], x[1], ("x-forwarded-host", "evil.example")], there, false),
            (PROXY, &[x[0], ("x-forwarded-host", "shop.example, evil.example")], there, false),
            (PROXY, &[x[0], x[1], evil[0]], there, false),
            (PROXY, &[x[0], ("x-forwarded-host", "evil.example")], there, false),
        ] {
            let answer = forwarded(guests(&app, &key, htu).peer(peer), lines).send().await;
            assert_eq!(is_taken(&answer), taken, "{peer} {lines:?} {htu}: {}", answer.text());
        }
        // in development the request's own host counts without a proxy too
        guests(&app, &key, "http://10.1.2.3:9011/v1/guests").header("host", "10.1.2.3:9011").send().await.expect(200);
        guests(&app, &key, "http://10.1.2.3:9011/v1/guests").header("host", "10.1.2.4:9011").send().await.refused(400, INVALID);
    }

    async fn line_17_in_production_only_the_issuer_counts(engine) {
        let folder = tempfile::tempdir().unwrap();
        let app = production(engine, "https://id.example.com", &folder).await;
        let key = DeviceKey::new();
        let lines = [("x-forwarded-proto", "https"), ("x-forwarded-host", "shop.example")];
        for (htu, taken) in [
            ("https://id.example.com/v1/guests", true),
            ("https://id.example.com:443/v1/guests", true),
            ("HTTPS://ID.example.COM/v1/guests?a#b", true),
            ("http://id.example.com/v1/guests", false),
            ("https://id.example.com:80/v1/guests", false),
            ("https://id.example.com:444/v1/guests", false),
            ("https://id.example.com./v1/guests", false),
            ("https://shop.example/v1/guests", false),
            ("https://localhost:9011/v1/guests", false),
            ("http://localhost:9011/v1/guests", false),
        ] {
            for (peer, lines) in [(PROXY, &lines[..]), (PROXY, &[]), (STRANGER, &lines), (STRANGER, &[])] {
                let answer = forwarded(guests(&app, &key, htu).peer(peer), lines).send().await;
                assert_eq!(is_taken(&answer), taken, "{peer} {lines:?} {htu}: {}", answer.text());
            }
            let answer = guests(&app, &key, htu).header("host", "shop.example").send().await;
            assert_eq!(is_taken(&answer), taken, "{htu}");
        }
    }

    async fn an_issuer_as_it_is_written(engine) {
        for (issuer, good) in [
            ("https://id.example.com/", "https://id.example.com/v1/guests"),
            ("https://id.example.com/auth", "https://id.example.com/auth/v1/guests"),
            ("https://id.example.com/auth/", "https://id.example.com/auth/v1/guests"),
            ("http://localhost", "http://localhost:80/v1/guests"),
            ("http://[::1]:9011", "http://[::1]:9011/v1/guests"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let app = production(engine, issuer, &folder).await;
            let key = DeviceKey::new();
            assert!(is_taken(&guests(&app, &key, good).send().await), "{issuer}");
            for bad in [good.replace("/v1", "//v1"), good.replace("id.", "xx."), good.replace("/v1", "/v1/v1"), good.replacen("//", "//x", 1)] {
                assert!(bad == good || !is_taken(&guests(&app, &key, &bad).send().await), "{issuer} {bad}");
            }
        }
    }

    async fn the_method_is_the_one_that_was_sent(engine) {
        let house = House::new(engine).await;
        let scheme = format!("DPoP {}", house.guest.access);
        for (said, status) in [("HEAD", 200), ("GET", 401)] {
            let proof = house.key.proof(&house.app, said, "/v1/me", Some(&house.guest.access));
            let answer = house.app.call("HEAD", "/v1/me").header("authorization", &scheme).header("dpop", &proof).send().await;
            assert_eq!(answer.status, status, "htm {said}");
            assert!(!answer.header("dpop-nonce").is_empty());
        }
        // headers that would pretend another
        for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
            let proof = house.key.proof(&house.app, "DELETE", "/v1/me", Some(&house.guest.access));
            let answer = house.app.get("/v1/me").header("authorization", &scheme).header("dpop", &proof).header(name, "DELETE").send().await;
            refused(&answer, Place::Me, INVALID, name);
        }
        // a part of the path that was sent in percent-encoding
        let thumbprint = house.key.thumbprint();
        let encoded: String = thumbprint.bytes().flat_map(|b| ['%'.to_string(), format!("{b:02x}")]).collect();
        for (sent, said) in [(&encoded, &thumbprint), (&thumbprint, &encoded)] {
            let (sent, said) = (format!("/v1/me/device-keys/{sent}"), format!("/v1/me/device-keys/{said}"));
            let proof = house.key.proof(&house.app, "PATCH", &said, Some(&house.guest.access));
            house.app.call("PATCH", &sent).json(&json!({"name": "Phone"})).header("authorization", &scheme).header("dpop", &proof).send().await.expect(200);
        }
    }

    async fn a_nonce_comes_with_every_answer_to_a_proof_and_with_no_other(engine) {
        let house = House::new(engine).await;
        let app = &house.app;
        let spa = json!({"client_id": "demo-spa"});
        let loose = &house.loose.access;
        let calls = || vec![
            (app.get("/health/live"), 200),
            (app.get("/health/ready"), 200),
            (app.get("/metrics"), 200),
            (app.get("/openapi.json"), 200),
            (app.get("/.well-known/openid-configuration"), 200),
            (app.get("/.well-known/jwks.json"), 200),
            (app.get("/demo"), 200),
            (app.get("/nowhere"), 404),
            (app.get("/t/44444444-4444-4444-8444-444444444444/v1/me"), 404),
            (app.get("/v1/guests"), 405),
            (app.call("POST", "/v1/guests").raw(b"{".to_vec(), "application/json"), 400),
            (app.call("POST", "/v1/guests").raw(b"a=b".to_vec(), "text/plain"), 415),
            (app.call("POST", "/v1/guests").raw(vec![b' '; 300_000], "application/json"), 413),
            (app.post("/v1/guests", &json!({"client_id": "nobody"})), 401),
            (app.post("/v1/guests", &spa).header("origin", "https://evil.example"), 403),
            (app.post("/v1/me/data/operations", &json!({"operations": [{"op": "append", "path": "/a", "value": "\u{0}"}]})).bearer(loose), 422),
            (app.call("PATCH", "/v1/me/data").raw(b"{}".to_vec(), "application/merge-patch+json").header("if-match", "\"77\"").bearer(loose), 412),
            (app.get("/v1/me").bearer(loose), 200),
            (app.get("/v1/me").bearer("x"), 401),
            (app.get("/v1/me/sessions").bearer(loose), 200),
            (app.call("DELETE", "/v1/me/hand-off").bearer(loose), 204),
            (app.call("DELETE", "/v1/me/device-keys/x").bearer(loose), 404),
            (app.call("DELETE", "/v1/me/sessions").bearer(loose), 409),
            (app.get("/v1/users").bearer(loose), 401),
            (app.get("/oauth2/userinfo").bearer(loose), 200),
            (app.call("POST", "/oauth2/introspect").form(&[("token", "x")]), 401),
            (app.call("POST", "/oauth2/revoke").form(&[("token", "x"), ("client_id", "demo-spa")]), 200),
            (app.call("POST", "/oauth2/token").form(&[("grant_type", "magic"), ("client_id", "demo-spa")]), 400),
        ];
        for (call, status) in calls() {
            let answer = call.send().await;
            answer.expect(status);
            assert_eq!(answer.header("dpop-nonce"), "", "{}", answer.text());
        }
        // a proof that says nothing: the answer is another where it is looked at, the nonce comes everywhere
        for (name, value) in [("dpop", "x"), ("dpop", "")] {
            for (call, _) in calls() {
                let answer = call.header(name, value).send().await;
                assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1, "{}", answer.text());
                assert_eq!(answer.header("cache-control"), "no-store", "{}", answer.text());
            }
        }
        for (method, path) in [("GET", "/v1/me"), ("GET", "/nowhere"), ("POST", "/v1/guests"), ("GET", "/v1/users"), ("GET", "/v1/epochs"), ("POST", "/oauth2/introspect"), ("POST", "/oauth2/token")] {
            for scheme in ["DPoP x", "dpop x", "DPoP"] {
                let answer = app.call(method, path).header("authorization", scheme).send().await;
                assert!(answer.status.is_client_error(), "{method} {path}: {}", answer.text());
                assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1, "{method} {path} {scheme}");
                if answer.status == 401 && path.starts_with("/v1/me") {
                    assert!(answer.header("www-authenticate").starts_with("DPoP"), "{}", answer.header("www-authenticate"));
                }
            }
        }
        // what is refused before the proof is looked at spends none
        let proof = house.proof(Place::Guests);
        app.post("/v1/guests", &json!({"client_id": "nobody"})).header("dpop", &proof).send().await.expect(401);
        house.takes(Place::Guests, &proof, "unspent").await;
    }

    async fn line_17_a_nonce_asks_no_store(engine) {
        let house = House::new(engine).await;
        house.app.core.stop().await;
        let broken = |answer: &Answer| {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(!answer.header("retry-after").is_empty());
        };
        broken(&house.app.get("/v1/me").bearer(&house.loose.access).send().await);
        for place in Place::ALL {
            let key = house.key(place);
            let bare = key.sign(&key.header(), &without(house.claims(place), "nonce"));
            let told = house.ask(place, &[&bare]).await;
            refused(&told, place, NONCE, "no nonce, no store");
            // the nonce is good, and only now the store is asked, whether the proof was used
            let claims = with(house.claims(place), "nonce", json!(told.header("dpop-nonce")));
            let answer = house.ask(place, &[&key.sign(&key.header(), &claims)]).await;
            broken(&answer);
            assert!(!answer.header("dpop-nonce").is_empty());
            let bad = with(house.claims(place), "htm", Value::from("PUT"));
            refused(&house.ask(place, &[&key.sign(&key.header(), &bad)]).await, place, INVALID, "what is wrong needs no store");
        }
    }
}
