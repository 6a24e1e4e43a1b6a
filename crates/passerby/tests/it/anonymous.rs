//! `POST /anonymous/token` (reference/auth0.md sections 1–3 and 9).

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Answer, TestApp, claims, head},
    on_both,
};

async fn token(app: &TestApp, body: Value) -> Answer {
    app.post("/anonymous/token", &body).send().await
}

fn error(answer: &Answer, status: u16, code: &str) -> Value {
    answer.expect(status);
    let body = answer.json();
    assert_eq!(body["error"], code, "{body}");
    assert!(body["error_description"].is_string());
    body
}

on_both! {
    async fn a_guest_is_made_continued_and_updated(engine) {
        let app = TestApp::new(engine).await;
        let made = token(&app, json!({"client_id": "demo-spa", "audience": "https://api.example.com", "metadata": {"language": "en", "n": 1}})).await;
        assert_eq!(made.header("cache-control"), "no-store");
        let made = made.expect(200).json();
        assert_eq!((&made["token_type"], &made["expires_in"], &made["scope"]), (&json!("Bearer"), &json!(900), &json!("read:cart write:cart")));
        assert_eq!(made["session_expires_in"], 365 * 86_400);
        assert!(made.get("refresh_token").is_none());
        let access = claims(made["access_token"].as_str().unwrap());
        let sub = access["sub"].as_str().unwrap().to_owned();
        assert!(sub.starts_with("anon@"), "{sub}");
        assert_eq!(access["azp"], "demo-spa");
        assert_eq!(access["http://localhost:9011/user_type"], "anonymous");
        // continuing: the first token goes on working, metadata is merged by top-level key
        let first = made["session_token"].as_str().unwrap().to_owned();
        app.advance(Duration::from_secs(60));
        let again = token(&app, json!({"client_id": "demo-spa", "session_token": first})).await.expect(200).json();
        assert_eq!(again["session_expires_in"], 365 * 86_400 - 60);
        assert_eq!(claims(again["access_token"].as_str().unwrap())["sub"], json!(sub));
        let updated = token(&app, json!({"client_id": "demo-spa", "session_token": first, "metadata": {"n": 2, "language": null}})).await.expect(200).json();
        let newest = updated["session_token"].as_str().unwrap().to_owned();
        for t in [&first, &newest] {
            let body = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": t})).send().await.expect(200).json();
            assert_eq!(body["user"]["data"], json!({"n": 2}));
            assert_eq!(body["user"]["id"], json!(sub.trim_start_matches("anon@")));
        }
        // too large after the merge: refused, the old value stands
        let large = token(&app, json!({"client_id": "demo-spa", "session_token": first, "metadata": {"x": "y".repeat(1020)}})).await;
        error(&large, 400, "invalid_request");
        let body = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": first})).send().await.json();
        assert_eq!(body["user"]["data"], json!({"n": 2}));
        assert_eq!(app.users().await, 1);
    }

    async fn a_lazy_client_stores_nothing_until_metadata_is_updated(engine) {
        let app = TestApp::new(engine).await;
        let made = token(&app, json!({"client_id": "demo-game"})).await.expect(200).json();
        assert_eq!(app.users().await, 0);
        let first = made["session_token"].as_str().unwrap();
        // an SDK keeps the first token: it is not ended by idling
        app.advance(Duration::from_hours(24 * 60));
        token(&app, json!({"client_id": "demo-game", "session_token": first})).await.expect(200);
        assert_eq!(app.users().await, 0);
        token(&app, json!({"client_id": "demo-game", "session_token": first, "metadata": {"cart": [1]}})).await.expect(200);
        assert_eq!(app.users().await, 1);
        let both = [json!({"a": 1}), json!({"b": 2})].map(|m| tokio::spawn(
            app.post("/anonymous/token", &json!({"client_id": "demo-game", "session_token": first, "metadata": m})).send()));
        for call in both { call.await.unwrap().expect(200); }
        let body = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_token": first})).send().await.expect(200).json();
        assert_eq!(body["user"]["data"], json!({"cart": [1], "a": 1, "b": 2}));
    }

    async fn form_bodies_and_client_authentication(engine) {
        let app = TestApp::new(engine).await;
        let form = app.call("POST", "/anonymous/token").form(&[("client_id", "demo-spa"), ("metadata", r#"{"a":{"b":1}}"#)]).send().await;
        form.expect(200);
        let secret = "demo-web-secret-0123456789abcdef";
        token(&app, json!({"client_id": "demo-web", "client_secret": secret})).await.expect(200);
        app.call("POST", "/anonymous/token").basic("demo-web", secret).json(&json!({})).send().await.expect(200);
        error(&app.call("POST", "/anonymous/token").basic("demo-web", secret).json(&json!({"client_secret": secret})).send().await, 400, "invalid_request");
        error(&token(&app, json!({"client_id": "demo-web", "client_secret": "wrong"})).await, 401, "invalid_client");
        let basic = app.call("POST", "/anonymous/token").basic("demo-web", "wrong").json(&json!({})).send().await;
        error(&basic, 401, "invalid_client");
        assert!(basic.header("www-authenticate").starts_with("Basic"));
        error(&app.call("POST", "/anonymous/token").form(&[("client_id", "demo-spa"), ("client_id", "demo-game")]).send().await, 400, "invalid_request");
        error(&app.call("POST", "/anonymous/token").form(&[("client_id", "demo-spa"), ("metadata", "[]")]).send().await, 400, "invalid_request");
    }

    async fn errors_and_their_order(engine) {
        let app = TestApp::new(engine).await;
        let made = token(&app, json!({"client_id": "demo-spa"})).await.expect(200).json();
        let session = made["session_token"].as_str().unwrap();
        let access = made["access_token"].as_str().unwrap();
        let cut = &session[..session.len() - 3];
        let cases = [
            (json!({}), 400, "invalid_request"),
            (json!([]), 400, "invalid_request"),
            (json!({"client_id": 7}), 400, "invalid_request"),
            (json!({"client_id": "nobody", "session_token": "x", "audience": "y"}), 401, "invalid_client"),
            (json!({"client_id": "demo-spa", "session_token": "x", "audience": "nowhere"}), 400, "invalid_session_token"),
            (json!({"client_id": "demo-spa", "session_token": cut}), 400, "invalid_session_token"),
            (json!({"client_id": "demo-spa", "session_token": access}), 400, "invalid_session_token"),
            (json!({"client_id": "demo-native", "session_token": session}), 400, "invalid_session_token"),
            (json!({"client_id": "demo-spa", "session_token": session, "audience": "nowhere", "scope": "nonsense", "metadata": 1}), 400, "invalid_target"),
            (json!({"client_id": "demo-spa", "session_token": session, "audience": "https://api.example.com", "scope": "admin", "metadata": 1}), 400, "invalid_scope"),
            (json!({"client_id": "demo-spa", "session_token": session, "metadata": 1}), 400, "invalid_request"),
            (json!({"client_id": "demo-spa", "metadata": "text"}), 400, "invalid_request"),
            (json!({"client_id": "demo-spa", "metadata": {"x": "y".repeat(1100)}}), 400, "invalid_request"),
            (json!({"client_id": "demo-spa", "session_token": session, "user_id": "somebody else"}), 400, "invalid_request"),
            (json!({"client_id": "demo-spa", "metadata": {"__proto__": 1}}), 400, "invalid_request"),
            (json!({"client_id": "demo-native", "user_id": "x"}), 400, "invalid_request"),
        ];
        for (body, status, code) in cases {
            error(&token(&app, body.clone()).await, status, code);
        }
        assert_eq!(app.users().await, 1);
        // an unknown audience keeps the session alive
        token(&app, json!({"client_id": "demo-spa", "session_token": session})).await.expect(200);
        app.advance(Duration::from_hours(24 * 366));
        error(&token(&app, json!({"client_id": "demo-spa", "session_token": session})).await, 400, "session_expired");
        error(&token(&app, json!({"client_id": "demo-spa", "session_token": cut})).await, 400, "invalid_session_token");
    }

    async fn own_ids(engine) {
        let app = TestApp::new(engine).await;
        let id = "shop user|1 ü";
        let body = json!({"client_id": "demo-spa", "user_id": id});
        let made = token(&app, body.clone()).await.expect(200).json();
        assert_eq!(claims(made["access_token"].as_str().unwrap())["sub"], id);
        error(&token(&app, body).await, 400, "invalid_request");
        // floating, the operator's setting `any` lets two sessions of one id stand side by side
        let uuid = "1f0c7c1e-6d0e-4a55-9a52-0e6d1b1a2c3d";
        let web = json!({"client_id": "demo-web", "client_secret": "demo-web-secret-0123456789abcdef", "user_id": format!("anon@{uuid}"), "metadata": {"n": 1}});
        let (one, two) = (token(&app, web.clone()).await.expect(200).json(), token(&app, web).await.expect(200).json());
        assert_eq!(claims(one["access_token"].as_str().unwrap())["sub"], format!("anon@{uuid}"));
        let sid = |v: &Value| claims(v["access_token"].as_str().unwrap())["sid"].clone();
        assert_ne!(sid(&one), sid(&two));
        // each keeps its own metadata, also once both are stored
        let secret = "demo-web-secret-0123456789abcdef";
        for (v, n) in [(&one, 10), (&two, 20)] {
            token(&app, json!({"client_id": "demo-web", "client_secret": secret, "session_token": v["session_token"], "metadata": {"n": n}})).await.expect(200);
        }
        for (v, n) in [(&one, 10), (&two, 20)] {
            let again = token(&app, json!({"client_id": "demo-web", "client_secret": secret, "session_token": v["session_token"], "metadata": {"again": true}})).await;
            let access = again.expect(200).json()["access_token"].as_str().unwrap().to_owned();
            let sid = claims(&access)["sid"].as_str().unwrap().to_owned();
            assert_eq!(app.metadata(&access, &sid).await, json!({"n": n, "again": true}));
        }
        assert_eq!(app.users().await, 2);
    }

    async fn signed_session_tokens_by_setting(engine) {
        let app = TestApp::with(engine, |t| t.replace("session_token         = \"jwe\"", "session_token = \"jws\"")).await;
        let made = token(&app, json!({"client_id": "demo-spa", "metadata": {"a": 1}})).await.expect(200).json();
        let text = made["session_token"].as_str().unwrap();
        assert_eq!(head(text)["typ"], "anon-session+jwt");
        let c = claims(text);
        for name in ["iss", "aud", "sub", "user_id", "session_id", "sid", "created_at", "iat", "exp", "client_id", "metadata"] {
            assert!(!c[name].is_null(), "{name} in {c}");
        }
        assert_eq!(c["metadata"], json!({"a": 1}));
        assert!(c["created_at"].is_u64());
        // it is no access token
        app.get("/v1/me").bearer(text).send().await.refused(401, "invalid_token");
        token(&app, json!({"client_id": "demo-spa", "session_token": text})).await.expect(200);
        // a tenant that changes the format accepts unexpired tokens of the old one
        let app = app.with_config(|t| t.replace("session_token = \"jws\"", "session_token = \"jwe\"")).restart().await;
        let again = token(&app, json!({"client_id": "demo-spa", "session_token": text})).await.expect(200).json();
        assert_eq!(again["session_token"].as_str().unwrap().split('.').count(), 5);
    }

    async fn a_transfer_ticket(engine) {
        let app = TestApp::new(engine).await;
        let made = token(&app, json!({"client_id": "demo-spa"})).await.expect(200).json();
        let ticket = token(&app, json!({"client_id": "demo-spa", "session_token": made["session_token"], "audience": "urn:auth0:anon_transfer"})).await;
        let ticket = ticket.expect(200).json();
        assert_eq!((&ticket["token_type"], &ticket["expires_in"]), (&json!("N_A"), &json!(30)));
        assert!(ticket.get("access_token").is_none());
        let text = ticket["anon_transfer_token"].as_str().unwrap();
        error(&token(&app, json!({"client_id": "demo-spa", "session_token": text})).await, 400, "invalid_session_token");
        error(&token(&app, json!({"client_id": "demo-spa", "audience": "urn:auth0:anon_transfer"})).await, 400, "invalid_request");
    }

    async fn the_dialect_off_gives_bare_ids(engine) {
        let app = TestApp::with(engine, |t| t.replace("[dialects.auth0]\nenabled = true", "[dialects.auth0]\nenabled = false")).await;
        let made = token(&app, json!({"client_id": "demo-spa"})).await.expect(200).json();
        let sub = claims(made["access_token"].as_str().unwrap())["sub"].clone();
        assert_eq!(sub.as_str().unwrap().len(), 36);
    }
}
