//! What tokens are, and that none passes for another (RFC 9068, RFC 8725; security checklist 8–12).

use serde_json::{Value, json};

use crate::{
    app::{Engine, TestApp, claims, head},
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

    async fn line_09_every_kind_is_refused_where_another_is_taken(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let floating = app.guest_of("demo-game").await;
        let answer = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = answer.expect(201).cookies()["passerby_session"].clone();
        let ticket = app.post("/anonymous/token", &json!({"client_id": "demo-spa", "session_token": guest.session_token, "audience": "urn:auth0:anon_transfer"})).send().await.json();
        let ticket = ticket["anon_transfer_token"].as_str().unwrap().to_owned();
        let api_key = "acceptance-root-key-0123456789abcdef0123456789".to_owned();
        let kinds = [("access", &guest.access), ("refresh", &guest.refresh), ("session", &guest.session_token), ("cookie", &cookie),
            ("ticket", &ticket), ("floating session", &floating.session_token), ("api key", &api_key)];
        let users = app.users().await;
        for (kind, token) in kinds {
            if kind != "access" {
                app.get("/v1/me").bearer(token).send().await.refused(401, "invalid_token");
                app.get("/oauth2/userinfo").bearer(token).send().await.expect(401);
                app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(token).send().await.refused(401, "invalid_token");
            }
            if kind != "cookie" {
                app.get("/v1/me").cookie(token).send().await.expect(401);
            }
            if kind != "session" {
                app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": token})).send().await.expect(401);
                let dialect = app.post("/anonymous/token", &json!({"client_id": "demo-spa", "session_token": token})).send().await;
                assert_eq!(dialect.expect(400).json()["error"], "invalid_session_token", "{kind}");
            }
            if kind != "refresh" {
                app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": token})).send().await.refused(401, "invalid_refresh_token");
            }
            if kind != "api key" {
                app.call("POST", "/oauth2/introspect").bearer(token).form(&[("token", &guest.access)]).send().await.expect(401);
            }
        }
        assert_eq!(app.users().await, users);
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

/// A dump of the database, every value of it in every spelling, is offered as every credential.
#[tokio::test]
async fn line_07_a_stolen_database_signs_in_nowhere() {
    let app = TestApp::new(Engine::Sqlite).await;
    app.core.run_jobs().await;
    let key = "a-key-that-nobody-can-guess-0001";
    app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": {"a": 1}}))
        .header("idempotency-key", key)
        .send()
        .await
        .expect(201);
    let guest = app.guest().await;
    app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.expect(200);
    app.post("/v1/me/data/operations", &json!({"operations": []}))
        .bearer(&guest.access)
        .header("idempotency-key", "press")
        .send()
        .await
        .expect(200);
    let db = rusqlite::Connection::open(app.database.strip_prefix("sqlite:").unwrap()).unwrap();
    let tables: Vec<String> = db
        .prepare("select name from sqlite_master where type = 'table'")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut loot = std::collections::BTreeSet::new();
    for table in tables {
        let mut statement = db.prepare(&format!("select * from \"{table}\"")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for i in 0..columns {
                let bytes = match row.get_ref(i).unwrap() {
                    rusqlite::types::ValueRef::Blob(b) => b.to_vec(),
                    rusqlite::types::ValueRef::Text(t) => t.to_vec(),
                    rusqlite::types::ValueRef::Integer(n) => n.to_string().into_bytes(),
                    _ => continue,
                };
                let coded = b64(&bytes);
                let hex = bytes
                    .iter()
                    .flat_map(|b| [b >> 4, b & 15])
                    .filter_map(|n| char::from_digit(n.into(), 16))
                    .collect();
                loot.extend([format!("pbr_{coded}"), coded, hex]);
                if let Ok(text) = String::from_utf8(bytes.clone()) {
                    loot.insert(text);
                }
                if let Ok(id) = uuid::Uuid::from_slice(&bytes) {
                    loot.insert(id.to_string());
                }
            }
        }
    }
    assert!(loot.len() > 50);
    for found in loot.iter().filter(|t| http::HeaderValue::from_str(t).is_ok()) {
        assert_ne!(app.get("/v1/me").bearer(found).send().await.status, 200, "{found}");
        assert_ne!(app.get("/v1/me").cookie(found).send().await.status, 200, "{found}");
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": found})).send().await.expect(401);
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": found})).send().await.expect(401);
        if (22..=255).contains(&found.len()) {
            let by_key =
                app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("idempotency-key", found).send().await;
            assert_eq!(by_key.expect(201).json()["created"], true, "{found}");
        }
    }
}

#[tokio::test]
async fn another_master_key_is_refused() {
    let app = TestApp::new(Engine::Sqlite).await;
    let store = passerby_store::open(&app.database, &passerby_store::OpenOptions::default()).await.unwrap();
    let ports = passerby_core::Ports {
        store,
        clock: app.clock.clone(),
        random: std::sync::Arc::new(passerby_core::testing::SeededRandom::new(9)),
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
