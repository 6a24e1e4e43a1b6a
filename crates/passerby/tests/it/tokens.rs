//! What tokens are, and that none passes for another (RFC 9068, RFC 8725; security checklist 8–12).

use serde_json::{Value, json};

use crate::{
    app::{Engine, Guest, TestApp, claims, head},
    on_both,
};

fn b64(bytes: &[u8]) -> String {
    passerby_jose::b64::encode(bytes)
}

on_both! {
    async fn an_access_token_is_one_of_rfc_9068(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        assert_eq!(head(&guest.access)["typ"], "at+jwt");
        assert_eq!(head(&guest.access)["alg"], "ES256");
        assert!(head(&guest.access)["kid"].is_string());
        let c = claims(&guest.access);
        assert_eq!(c["iss"], "http://localhost:9011");
        assert_eq!(c["aud"], "http://localhost:9011");
        assert_eq!((&c["sub"], &c["sid"], &c["client_id"]), (&json!(guest.id), &json!(guest.session), &json!("demo-spa")));
        assert_eq!((&c["is_anonymous"], &c["epoch"]), (&json!(true), &json!(0)));
        assert_eq!(c["exp"].as_i64().unwrap() - c["iat"].as_i64().unwrap(), 900);
        assert!(c["jti"].as_str().unwrap().len() >= 22);
        assert!(c.get("floating").is_none());
        // for an API: that API alone, and then not for us
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "audience": "https://api.example.com", "scope": "read:cart"})).send().await.expect(201).json();
        let token = made["access_token"].as_str().unwrap();
        assert_eq!((&claims(token)["aud"], &claims(token)["scope"]), (&json!("https://api.example.com"), &json!("read:cart")));
        app.get("/v1/me").bearer(token).send().await.refused(401, "invalid_token");
        app.get("/oauth2/userinfo").bearer(token).send().await.expect(401);
        app.post("/v1/guests", &json!({"client_id": "demo-native", "audience": "https://api.example.com"})).send().await.refused(400, "invalid_target");
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "audience": "https://api.example.com", "scope": "admin"})).send().await.refused(400, "invalid_scope");
        assert_eq!(app.users().await, 2);
    }

    async fn line_09_what_a_caller_says_stays_in_its_place(engine) {
        let app = TestApp::with(engine, |t| t.replacen("id            = \"demo-spa\"", "id            = \"demo-spa\"\nsession_token = \"jws\"", 1)).await;
        app.core.run_jobs().await;
        let break_out = "x\",\"is_anonymous\":false,\"epoch\":99,\"scope\":\"admin\",\"sub\":\"somebody";
        let lies = json!({"sub": "somebody", "is_anonymous": false, "epoch": 99, "iss": "http://evil.example", "aud": "x", "exp": 9_999_999_999_i64,
            "cnf": {"jkt": "x"}, "floating": true, "client_id": "demo-web", "key": "x", break_out: break_out, "typ": "at+jwt"});
        for (n, id) in [break_out, "a\\", "a\\\"", "\u{10348}é", "</script>", "${jndi}", "%22"].into_iter().enumerate() {
            for client in ["demo-spa", "demo-game"] {
                let mut body = json!({"client_id": client, "data": lies, "entry": format!("\",\"e\":{n}")});
                if client == "demo-spa" {
                    body["user_id"] = json!(id);
                }
                let guest = Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json());
                let access = claims(&guest.access);
                assert_eq!((&access["sub"], &access["is_anonymous"], &access["epoch"]), (&json!(guest.id), &json!(true), &json!(0)));
                assert_eq!((&access["iss"], &access["aud"], &access["client_id"]), (&json!("http://localhost:9011"), &json!("http://localhost:9011"), &json!(client)));
                assert_eq!((access.get("cnf"), head(&guest.access)["typ"].as_str(), access["exp"].as_i64()), (None, Some("at+jwt"), Some(app.now() + 900)));
                assert!(!access.to_string().contains("evil"), "data is in no access token: {access}");
                if client == "demo-spa" {
                    assert_eq!(guest.id, id, "verbatim");
                    let session = claims(&guest.session_token);
                    assert_eq!((&session["sub"], &session["iss"], &session["metadata"]), (&json!(id), &json!("http://localhost:9011"), &lies));
                    assert_eq!((head(&guest.session_token)["typ"].as_str(), session.get("cnf"), &session["epoch"]), (Some("anon-session+jwt"), None, &json!(0)));
                }
                let me = app.get("/v1/me").bearer(&guest.access).send().await.expect(200).json();
                assert_eq!((&me["id"], &me["data"]), (&json!(guest.id), &lies));
                let back = app.post("/v1/guests", &json!({"client_id": client, "session_token": guest.session_token})).send().await.expect(200).json();
                assert_eq!((&back["user"]["id"], &back["user"]["data"]), (&json!(guest.id), &lies));
            }
        }
    }

    async fn line_08_forged_tokens_are_refused(engine) {
        let app = TestApp::new(engine).await;
        app.core.run_jobs().await;
        let guest = app.guest().await;
        let (mut header, body) = (head(&guest.access), claims(&guest.access));
        let parts: Vec<&str> = guest.access.split('.').collect();
        let unsigned = |header: &Value, body: &Value| format!("{}.{}", b64(header.to_string().as_bytes()), b64(body.to_string().as_bytes()));
        let mut forged = vec![format!("{}.{}.", parts[0], parts[1]), format!("{}.{}", parts[0], parts[1]), format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..])];
        for alg in ["none", "None", "HS256", "ES384", "EdDSA", "RS256"] {
            header["alg"] = json!(alg);
            let input = unsigned(&header, &body);
            forged.push(format!("{input}."));
            forged.push(format!("{input}.{}", parts[2]));
            // HMAC with the public key, in the forms that confused libraries take
            let set = app.get("/.well-known/jwks.json").send().await.json();
            for key in set["keys"].as_array().unwrap() {
                for secret in [key.to_string(), key["x"].as_str().unwrap_or_default().to_owned(), set.to_string()] {
                    let mac = passerby_jose::MacKey::new(secret.as_bytes()).mac(&[input.as_bytes()]);
                    forged.push(format!("{input}.{}", b64(&mac)));
                }
            }
        }
        header["alg"] = json!("ES256");
        for (name, value) in [("jku", json!("http://evil.example/keys")), ("jwk", json!({"kty": "oct", "k": "AA"})), ("x5u", json!("http://evil.example")), ("crit", json!(["exp"])), ("kid", json!("nope")), ("kid", json!("../../etc/passwd")), ("kid", json!("22222222-2222-4222-8222-222222222222")), ("typ", json!("JWT")), ("typ", json!("anon-session+jwt"))] {
            let mut header = header.clone();
            header[name] = value;
            forged.push(format!("{}.{}", unsigned(&header, &body), parts[2]));
        }
        for (name, value) in [("exp", json!(9_999_999_999_i64)), ("sub", json!("somebody-else")), ("iss", json!("http://evil.example")), ("aud", json!("x")), ("epoch", json!(99)), ("is_anonymous", json!(false))] {
            let mut body = body.clone();
            body[name] = value;
            forged.push(format!("{}.{}.{}", parts[0], b64(body.to_string().as_bytes()), parts[2]));
        }
        for token in forged {
            app.get("/v1/me").bearer(&token).send().await.refused(401, "invalid_token");
        }
        // a session token with a wrong tag, and one whose every part is bent
        for i in [1, 20, 60, 200, guest.session_token.len() - 2] {
            let mut bent = guest.session_token.clone().into_bytes();
            bent[i] = if bent[i] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).unwrap();
            app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": bent})).send().await.refused(401, "invalid_session_token");
        }
        app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
    }

    async fn each_algorithm_signs_and_is_verified_from_the_key_set(engine) {
        for alg in ["ES256", "EdDSA", "RS256"] {
            let app = TestApp::with(engine, |t| t.replace("signing_algorithm     = \"ES256\"", &format!("signing_algorithm = \"{alg}\""))).await;
            let guest = app.guest().await;
            assert_eq!(head(&guest.access)["alg"], alg);
            app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
            let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(app.get("/.well-known/jwks.json").send().await.json()).unwrap();
            let key = jsonwebtoken::DecodingKey::from_jwk(set.find(head(&guest.access)["kid"].as_str().unwrap()).unwrap()).unwrap();
            let mut validation = jsonwebtoken::Validation::new(alg.parse().unwrap());
            validation.set_audience(&["http://localhost:9011"]);
            validation.set_issuer(&["http://localhost:9011"]);
            validation.validate_exp = false;
            jsonwebtoken::decode::<Value>(&guest.access, &key, &validation).unwrap();
        }
    }
}

/// Guests get guest scopes only, and say that they are guests (lines 11 and 12).
#[tokio::test]
async fn lines_11_and_12_guests_say_so_and_get_guest_scopes_only() {
    let app = TestApp::with(Engine::Sqlite, |t| {
        t.replacen(
            r#"scopes     = ["read:cart", "write:cart"]"#,
            r#"scopes     = ["read:cart", "write:cart", "admin:cart"]"#,
            1,
        )
    })
    .await;
    let api = "https://api.example.com";
    for (path, extra) in [("/v1/guests", json!({})), ("/anonymous/token", json!({}))] {
        let mut body = json!({"client_id": "demo-spa", "audience": api});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let made = app.post(path, &body).send().await;
        assert!(made.status.is_success());
        let token = claims(made.json()["access_token"].as_str().unwrap());
        assert_eq!((&token["scope"], &token["is_anonymous"]), (&json!("read:cart write:cart"), &json!(true)));
        body["scope"] = json!("read:cart admin:cart");
        app.post(path, &body).send().await.expect(400);
    }
    let refresh = app.guest().await.refresh;
    let asked = app.post(
        "/v1/refresh",
        &json!({"client_id": "demo-spa", "refresh_token": refresh, "audience": api, "scope": "admin:cart"}),
    );
    asked.send().await.refused(400, "invalid_scope");
    // a client by itself may have it
    let own = app
        .call("POST", "/oauth2/token")
        .basic("demo-web", "demo-web-secret-0123456789abcdef")
        .form(&[("grant_type", "client_credentials"), ("audience", api), ("scope", "admin:cart")])
        .send()
        .await;
    assert_eq!(own.expect(200).json()["scope"], "admin:cart");
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let app = TestApp::new(Engine::Sqlite).await;
    let store = passerby_store::open(&app.database, &passerby_store::OpenOptions::default()).await.unwrap();
    let ports = passerby_core::Ports {
        store,
        clock: app.clock.clone(),
        random: std::sync::Arc::new(passerby_core::testing::SeededRandom::new(9)),
        post: std::sync::Arc::new(passerby_core::testing::Pigeonhole::default()),
        passwords: passerby_core::testing::quick_passwords(),
    };
    let settings = passerby_core::settings::Settings {
        dev: true,
        tenants: vec![],
        clients: std::collections::HashMap::new(),
        api_keys: std::collections::HashMap::new(),
    };
    let refused =
        passerby_core::Passerby::start(ports, settings, &passerby_core::secret::MasterKey::new([8; 32])).await;
    assert!(refused.unwrap_err().contains("another master key"));
}
