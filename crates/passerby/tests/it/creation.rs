//! `POST /v1/guests`: create or resume (api.md "A guest", domain.md "Ensure", "Ids that the caller chooses").

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Engine, Guest, TestApp, claims},
    on_both,
};

const KEY: &str = "a-key-that-nobody-can-guess-0001";

on_both! {
    async fn an_eager_guest_has_a_row_and_all_tokens(engine) {
        let app = TestApp::new(engine).await;
        let answer = app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": {"level": 3}, "entry": "landing-b"})).send().await;
        answer.expect(201);
        let body = answer.json();
        assert_eq!(body["created"], true);
        let user = &body["user"];
        assert_eq!(user["kind"], "anonymous");
        assert_eq!(user["data"], json!({"level": 3}));
        assert_eq!(user["version"], 1);
        assert_eq!(user["stored"], true);
        assert_eq!(user["created_at"], "2026-11-21T00:00:00.000Z");
        assert_eq!(user["expires_at"], "2026-12-21T00:00:00.000Z");
        assert_eq!(body["session"]["idle_expires_at"], "2026-12-21T00:00:00.000Z");
        assert_eq!(body["session"]["expires_at"], "2027-11-21T00:00:00.000Z");
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 900);
        for token in ["access_token", "refresh_token", "session_token"] {
            assert!(body[token].as_str().unwrap().len() > 40, "{token}");
        }
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(app.users().await, 1);
        let me = app.get("/v1/me").bearer(body["access_token"].as_str().unwrap()).send().await;
        me.expect(200);
        assert_eq!(me.header("etag"), "\"1\"");
        assert_eq!(me.json()["id"], user["id"]);
    }

    async fn a_floating_guest_has_no_row_until_something_must_outlive_it(engine) {
        let app = TestApp::new(engine).await;
        let body = app.post("/v1/guests", &json!({"client_id": "demo-game", "data": {"a": 1}})).send().await.expect(201).json();
        assert_eq!(body["user"]["stored"], false);
        assert!(body.get("refresh_token").is_none_or(Value::is_null), "{body}");
        let guest = Guest::of(&body);
        assert_eq!(app.users().await, 0);
        let token = claims(&guest.access);
        assert_eq!(token["floating"], true);
        assert_eq!(token["epoch"], 0);
        let me = app.get("/v1/me").bearer(&guest.access).send().await.expect(200).json();
        assert_eq!(me["stored"], false);
        assert_eq!(me["data"], json!({"a": 1}));
        assert_eq!(me["id"], json!(guest.id));
        // continuing opens no row
        let again = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": guest.session_token})).send().await;
        let again = Guest::of(&again.expect(200).json());
        assert_eq!((&again.id, &again.session), (&guest.id, &guest.session));
        assert_eq!(app.users().await, 0);
        // a write through the access token alone stores it, with its metadata
        let patch = app.call("PATCH", "/v1/me/data").bearer(&guest.access)
            .raw(br#"{"b":2}"#.to_vec(), "application/merge-patch+json").send().await;
        assert_eq!(patch.expect(200).json(), json!({"data": {"a": 1, "b": 2}, "version": 2}));
        assert_eq!(app.users().await, 1);
        // every token that floats about still works, and the row's truth shows
        for token in [&guest.access, &again.access] {
            let me = app.get("/v1/me").bearer(token).send().await.expect(200).json();
            assert_eq!(me["stored"], true);
            assert_eq!(me["version"], 2);
        }
        let stored = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": guest.session_token})).send().await;
        let stored = stored.expect(200).json();
        assert_eq!(stored["created"], false);
        assert!(stored["refresh_token"].is_string());
    }

    async fn persist_says_whether_there_is_a_row(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-game", "persist": true})).send().await.expect(201).json();
        assert_eq!(made["user"]["stored"], true);
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "persist": false})).send().await.expect(201).json();
        assert_eq!(made["user"]["stored"], false);
        assert_eq!(app.users().await, 1);
        let kept = app.post("/v1/guests", &json!({"client_id": "demo-spa", "persist": true, "session_token": made["session_token"]})).send().await;
        let kept = kept.expect(200).json();
        assert_eq!((&kept["created"], &kept["user"]["stored"], &kept["user"]["id"]), (&json!(false), &json!(true), &made["user"]["id"]));
        assert_eq!(app.users().await, 2);
        // what needs a row refuses to float
        let large = json!({"client_id": "demo-spa", "persist": false, "data": {"x": "y".repeat(1100)}});
        assert_eq!(app.post("/v1/guests", &large).send().await.refused(400, "invalid_value")["field"], "/persist");
        let keyed = app.post("/v1/guests", &json!({"client_id": "demo-spa", "persist": false})).header("idempotency-key", KEY).send().await;
        assert_eq!(keyed.refused(400, "invalid_value")["field"], "/persist");
        let large = json!({"client_id": "demo-game", "data": {"x": "y".repeat(1100)}});
        assert_eq!(app.post("/v1/guests", &large).send().await.expect(201).json()["user"]["stored"], true);
    }

    async fn a_live_session_resumes(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        // an access token gets an access token that does not outlive it
        app.advance(Duration::from_secs(600));
        let by_bearer = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&guest.access).send().await;
        let by_bearer = by_bearer.expect(200).json();
        assert_eq!(by_bearer["created"], false);
        assert_eq!(by_bearer["user"]["id"], json!(guest.id));
        assert!(by_bearer.get("refresh_token").is_none_or(Value::is_null));
        assert!(by_bearer.get("session_token").is_none_or(Value::is_null));
        assert_eq!(by_bearer["expires_in"], 300);
        // a session token gets everything, the refresh token unrotated
        let by_session = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": guest.session_token})).send().await;
        let by_session = Guest::of(&by_session.expect(200).json());
        assert_eq!(by_session.refresh, guest.refresh);
        assert_eq!(by_session.session, guest.session);
        assert_eq!(app.users().await, 1);
        // credentials of two guests
        let other = app.guest().await;
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": guest.session_token})).bearer(&other.access)
            .send().await.refused(409, "credential_conflict");
        // another client's credential
        app.post("/v1/guests", &json!({"client_id": "demo-native", "session_token": guest.session_token}))
            .send().await.expect(401);
        // broken ones create nothing
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": "nonsense"})).send().await.refused(401, "invalid_session_token");
        app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer("nonsense").send().await.refused(401, "invalid_token");
        assert_eq!(app.users().await, 2);
    }

    async fn an_idempotency_key_opens_the_same_session_again(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"client_id": "demo-spa", "data": {"n": 1}});
        let call = app.post("/v1/guests", &body).header("idempotency-key", KEY);
        let first = call.clone().send().await.expect(201).json();
        let again = call.clone().send().await.expect(200).json();
        assert_eq!((&first["created"], &again["created"]), (&json!(true), &json!(false)));
        assert_eq!(first["user"]["id"], again["user"]["id"]);
        assert_eq!(first["session"]["id"], again["session"]["id"]);
        assert_eq!(first["refresh_token"], again["refresh_token"]);
        let other = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("idempotency-key", KEY).send().await;
        other.refused(422, "idempotency_mismatch");
        let short = app.post("/v1/guests", &body).header("idempotency-key", "short").send().await;
        assert_eq!(short.refused(400, "invalid_value")["field"], "Idempotency-Key");
        // bound to the client
        let native = app.post("/v1/guests", &json!({"client_id": "demo-native"})).header("idempotency-key", KEY).send().await;
        assert_ne!(native.expect(201).json()["user"]["id"], first["user"]["id"]);
        // it dies with its session: never a new guest in the old one's place
        app.post("/v1/logout", &json!({})).bearer(first["access_token"].as_str().unwrap()).send().await.expect(204);
        call.clone().send().await.refused(409, "guest_ended");
        // and is forgotten after ten minutes for a public client
        app.advance(Duration::from_secs(601));
        assert_ne!(call.send().await.expect(201).json()["user"]["id"], first["user"]["id"]);
    }

    async fn line_05_parallel_creations_with_one_key_make_one_guest(engine) {
        let app = TestApp::new(engine).await;
        let replica = if engine == Engine::Postgres { Some(app.replica().await) } else { None };
        let body = json!({"client_id": "demo-spa"});
        let calls = (0..50).map(|n| {
            let app = replica.as_ref().filter(|_| n % 2 == 0).unwrap_or(&app);
            tokio::spawn(app.post("/v1/guests", &body).header("idempotency-key", KEY).send())
        });
        let mut ids = std::collections::HashSet::new();
        let mut created = 0;
        for call in calls.collect::<Vec<_>>() {
            let answer = call.await.unwrap();
            assert!(answer.status.is_success(), "{}", answer.text());
            let body = answer.json();
            ids.insert(body["user"]["id"].as_str().unwrap().to_owned());
            created += u32::from(body["created"] == true);
        }
        assert_eq!((ids.len(), created, app.users().await), (1, 1, 1));
    }

    async fn line_06_chosen_ids_are_shown_verbatim_and_handed_out_once(engine) {
        let app = TestApp::new(engine).await;
        let chosen = "player one|ä@";
        let body = json!({"client_id": "demo-spa", "user_id": chosen});
        let made = app.post("/v1/guests", &body).send().await.expect(201).json();
        assert_eq!(made["user"]["id"], chosen);
        assert_eq!(claims(made["access_token"].as_str().unwrap())["sub"], chosen);
        let me = app.get("/v1/me").bearer(made["access_token"].as_str().unwrap()).send().await.expect(200).json();
        assert_eq!(me["id"], chosen);
        assert_eq!(app.post("/v1/guests", &body).send().await.refused(409, "user_id_taken")["field"], "/user_id");
        // with its own session it is a resume
        let own = app.post("/v1/guests", &body).bearer(made["access_token"].as_str().unwrap()).send().await.expect(200).json();
        assert_eq!(own["user"]["id"], chosen);
        // a UUID is itself
        let uuid = "1f0c7c1e-6d0e-4a55-9a52-0e6d1b1a2c3d";
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": uuid})).send().await.expect(201).json();
        assert_eq!(made["user"]["id"], uuid);
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": format!("anon@{uuid}")})).send().await.refused(409, "user_id_taken");
        for bad in [json!(""), json!(" "), json!("a\u{7}b"), json!("x".repeat(256))] {
            assert_eq!(app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": bad})).send().await.refused(400, "invalid_value")["field"], "/user_id");
        }
        app.post("/v1/guests", &json!({"client_id": "demo-native", "user_id": "x"})).send().await.refused(403, "user_id_not_allowed");
        // an erased id is not given out again while a token of it could live
        app.call("DELETE", "/v1/me").bearer(made["access_token"].as_str().unwrap()).send().await.expect(204);
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": uuid})).send().await.refused(409, "user_id_taken");
    }

    async fn an_authenticated_client_opens_further_sessions_of_an_id_it_chose(engine) {
        let app = TestApp::new(engine).await;
        let body = |data: Value, persist: bool| json!({"client_id": "demo-web", "client_secret": "demo-web-secret-0123456789abcdef",
            "user_id": "visitor-7", "data": data, "persist": persist});
        let first = app.post("/v1/guests", &body(json!({"cart": 1}), true)).send().await.expect(201).json();
        let second = app.post("/v1/guests", &body(json!({"cart": 2}), true)).send().await.expect(200).json();
        assert_eq!((&first["created"], &second["created"]), (&json!(true), &json!(false)));
        // a key opens the same further session again
        let keyed = app.post("/v1/guests", &body(json!({"cart": 3}), true)).header("idempotency-key", KEY);
        let (one, two) = (keyed.clone().send().await.expect(200).json(), keyed.send().await.expect(200).json());
        assert_eq!(one["session"]["id"], two["session"]["id"]);
        let id = one["session"]["id"].as_str().unwrap();
        app.call("DELETE", &format!("/v1/me/sessions/{id}")).bearer(first["access_token"].as_str().unwrap()).send().await.expect(204);
        assert_eq!(first["user"]["id"], second["user"]["id"]);
        assert_ne!(first["session"]["id"], second["session"]["id"]);
        assert_eq!(app.users().await, 1);
        let sessions = app.get("/v1/me/sessions").bearer(first["access_token"].as_str().unwrap()).send().await.expect(200).json();
        assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
        assert_eq!(sessions["cursor"], Value::Null);
        // another client may not
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": "visitor-7"})).send().await.refused(409, "user_id_taken");
        // ending one leaves the other
        let id = second["session"]["id"].as_str().unwrap();
        app.call("DELETE", &format!("/v1/me/sessions/{id}")).bearer(first["access_token"].as_str().unwrap()).send().await.expect(204);
        app.get("/v1/me").bearer(second["access_token"].as_str().unwrap()).send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(first["access_token"].as_str().unwrap()).send().await.expect(200);
        app.call("DELETE", &format!("/v1/me/sessions/{id}")).bearer(first["access_token"].as_str().unwrap()).send().await.refused(404, "not_found");
    }

    async fn line_03_creation_is_limited_by_address_and_client(engine) {
        let app = TestApp::with(engine, |text| text.replace(r#"creations_per_address = "1000000/s""#,
            "creations_per_address = \"3/m\"\ncreations_per_client = \"5/m\"").replace("listen   =", "trusted_proxies = [\"10.0.0.0/8\"]\nlisten   =")).await;
        let call = |peer: &str| app.post("/v1/guests", &json!({"client_id": "demo-spa"})).peer(peer);
        for _ in 0..3 { call("192.0.2.1").send().await.expect(201); }
        let refused = call("192.0.2.1").send().await;
        refused.refused(429, "too_many_requests");
        assert_eq!(refused.header("retry-after"), "20");
        // a header from nobody we trust changes nothing
        call("192.0.2.1").header("x-forwarded-for", "198.51.100.7").send().await.refused(429, "too_many_requests");
        // existing guests still refresh
        call("10.1.2.3").header("x-forwarded-for", "203.0.113.5, 198.51.100.7").send().await.expect(201);
        let guest = Guest::of(&call("10.1.2.3").header("x-forwarded-for", "198.51.100.8").send().await.expect(201).json());
        call("198.51.100.9").send().await.refused(429, "too_many_requests");
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).peer("192.0.2.1").send().await.expect(200);
        app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&guest.access).peer("192.0.2.1").send().await.expect(200);
        assert_eq!(app.users().await, 5);
    }

    async fn line_01_only_a_known_client_from_its_origins_makes_guests(engine) {
        let app = TestApp::with(engine, |text| text.replace("[[tenants.clients]]\nid            = \"demo-native\"",
            "[[tenants.clients]]\nid = \"closed\"\nname = \"Closed\"\ntype = \"native\"\nenabled = false\n\n[[tenants.clients]]\nid            = \"demo-native\"")).await;
        let cases = [
            (json!({"client_id": "nobody"}), None, 401, "invalid_client"),
            (json!({}), None, 400, "invalid_request"),
            (json!({"client_id": "closed"}), None, 403, "unauthorized_client"),
            (json!({"client_id": "demo-spa"}), Some("https://evil.example"), 403, "origin_not_allowed"),
            (json!({"client_id": "demo-native"}), Some("http://localhost:8080"), 403, "origin_not_allowed"),
            (json!({"client_id": "demo-spa", "client_secret": "x"}), None, 401, "invalid_client"),
            (json!({"client_id": "demo-web"}), None, 401, "invalid_client"),
            (json!({"client_id": "demo-web", "client_secret": "wrong"}), None, 401, "invalid_client"),
        ];
        for (body, origin, status, code) in cases {
            let mut call = app.post("/v1/guests", &body);
            if let Some(origin) = origin { call = call.header("origin", origin); }
            call.send().await.refused(status, code);
        }
        assert_eq!(app.users().await, 0);
        app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("origin", "http://localhost:8080").send().await.expect(201);
        app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("origin", "http://localhost:9011").send().await.expect(201);
    }
}
