//! Device keys: one key is one guest; listed, named, added, removed; tokens bound to them.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    app::{Engine, Guest, TestApp, claims},
    keys::DeviceKey,
    on_both,
};

on_both! {
    async fn a_key_comes_back_to_its_guest_and_session(engine) {
        let app = TestApp::new(engine).await;
        for key in [DeviceKey::new(), DeviceKey::eddsa(), DeviceKey::rs256()] {
            let first = key.ensure(&app).await.expect(201).json();
            assert_eq!((&first["created"], &first["user"]["stored"]), (&json!(true), &json!(true)), "{}", key.alg());
            assert_eq!(first["token_type"], "Bearer");
            let again = key.ensure(&app).await;
            again.expect(200);
            assert!(!again.header("dpop-nonce").is_empty(), "a nonce comes with every answer to a proof");
            let again = again.json();
            assert_eq!(again["created"], false);
            assert_eq!(again["user"]["id"], first["user"]["id"]);
            assert_eq!(again["session"]["id"], first["session"]["id"]);
            assert_eq!(again["refresh_token"], first["refresh_token"], "a resume rotates nothing");
            let other = DeviceKey::new().ensure(&app).await.expect(201).json();
            assert_ne!(other["user"]["id"], first["user"]["id"]);
        }
        assert_eq!(app.users().await, 6);
    }

    async fn a_device_that_comes_back_gets_the_sessions_current_tokens(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let ask = async |body: Value, header: Option<&str>| {
            let call = key.post(&app, "/v1/guests", &body);
            let call = header.into_iter().fold(call, |call, value| call.header("idempotency-key", value));
            let answer = call.send().await;
            assert!(answer.status.is_success(), "{}", answer.text());
            answer.json()
        };
        let plain = json!({"client_id": "demo-spa"});
        ask(plain.clone(), None).await;
        let first = ask(plain.clone(), None).await;
        assert_eq!(first["expires_in"], 900);
        // as long as more than half of it is left
        app.advance(Duration::from_secs(449));
        let again = ask(plain.clone(), None).await;
        assert_eq!((&again["access_token"], &again["expires_in"]), (&first["access_token"], &json!(451)));
        for same in ["refresh_token", "session_token"] {
            assert_eq!(again[same], first[same], "{same}");
        }
        // a session token tells what the guest has: after an edit it is another one
        let access = first["access_token"].as_str().unwrap();
        let patch = app.call("PATCH", "/v1/me/data").raw(b"{\"a\":1}".to_vec(), "application/merge-patch+json");
        patch.bearer(access).send().await.expect(200);
        let edited = ask(plain.clone(), None).await;
        assert_eq!((&edited["user"]["data"], &edited["expires_in"]), (&json!({"a": 1}), &json!(900)));
        assert_ne!(edited["session_token"], first["session_token"]);
        // so it is when the refresh token was used
        let refresh = json!({"client_id": "demo-spa", "refresh_token": edited["refresh_token"]});
        let renewed = app.post("/v1/refresh", &refresh).send().await.expect(200).json();
        assert_eq!(ask(plain.clone(), None).await["refresh_token"], renewed["refresh_token"]);
        // anything else asks for another one
        let api = ask(json!({"client_id": "demo-spa", "audience": "https://api.example.com"}), None).await;
        assert_eq!(claims(api["access_token"].as_str().unwrap())["aud"], "https://api.example.com");
        let scoped = ask(json!({"client_id": "demo-spa", "scope": "openid"}), None).await;
        assert_eq!(claims(scoped["access_token"].as_str().unwrap())["scope"], "openid");
        let by_request = "an-idempotency-key-of-one-request";
        let made = [ask(plain.clone(), Some(by_request)).await, ask(plain.clone(), Some(by_request)).await];
        assert_ne!(made[0]["access_token"], made[1]["access_token"], "for such a key tokens are made anew");
        // half of its life later
        let next = ask(plain.clone(), None).await;
        app.advance(Duration::from_secs(450));
        let later = ask(plain.clone(), None).await;
        assert_ne!(later["access_token"], next["access_token"]);
        assert_eq!(later["expires_in"], 900);
        // bound from now on: no token from before
        let bound = ask(json!({"client_id": "demo-spa", "bind_tokens": true}), None).await;
        assert_eq!(bound["token_type"], "DPoP");
        assert_eq!(ask(plain.clone(), None).await["access_token"], bound["access_token"]);
        // one of them was revoked: whichever it was, it is not given out again
        let token = bound["access_token"].as_str().unwrap();
        let form = [("client_id", "demo-spa"), ("token", token), ("token_type_hint", "access_token")];
        app.call("POST", "/oauth2/revoke").form(&form).send().await.expect(200);
        let fresh = ask(plain.clone(), None).await;
        assert_ne!(fresh["access_token"], token);
        assert_eq!(fresh["session"]["id"], bound["session"]["id"]);
        let me = |token: &str| key.with_token(&app, "GET", "/v1/me", token).send();
        me(token).await.expect(401);
        me(fresh["access_token"].as_str().unwrap()).await.expect(200);
        // everything was revoked
        key.with_token(&app, "DELETE", "/v1/me/sessions", fresh["access_token"].as_str().unwrap()).send().await.expect(204);
        let last = ask(plain, None).await;
        assert_ne!(last["session"]["id"], fresh["session"]["id"]);
        let token = last["access_token"].as_str().unwrap();
        assert!(me(token).await.status.is_success() || last["token_type"] == "Bearer");
    }

    async fn an_ended_session_is_opened_anew_by_the_key_once(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let first = Guest::of(&key.ensure(&app).await.expect(201).json());
        app.post("/v1/logout", &json!({})).bearer(&first.access).send().await.expect(204);
        let calls: Vec<_> = (0..12)
            .map(|_| tokio::spawn(key.post(&app, "/v1/guests", &json!({"client_id": "demo-spa"})).send()))
            .collect();
        let mut sessions = HashSet::new();
        for call in calls {
            let answer = call.await.unwrap();
            answer.expect(200);
            let guest = Guest::of(&answer.json());
            assert_eq!(guest.id, first.id);
            sessions.insert(guest.session);
        }
        assert_eq!(sessions.len(), 1, "while a session lives no second one is opened");
        assert!(!sessions.contains(&first.session));
        app.advance(Duration::from_secs(40 * 86_400));
        let later = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!(later.id, first.id, "an idle session is opened anew too");
        assert!(!sessions.contains(&later.session));
    }

    async fn another_client_of_the_tenant_shares_the_guest(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let spa = Guest::of(&key.ensure(&app).await.expect(201).json());
        let native = key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await;
        let native = Guest::of(&native.expect(200).json());
        assert_eq!(native.id, spa.id);
        assert_ne!(native.session, spa.session);
        let again = key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await;
        assert_eq!(Guest::of(&again.expect(200).json()).session, native.session);
        let back = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!(back.session, spa.session);
    }

    async fn line_05_two_hundred_calls_over_two_replicas_are_one_guest(engine) {
        let app = TestApp::new(engine).await;
        let second = if engine == Engine::Postgres { Some(app.replica().await) } else { None };
        let key = DeviceKey::new();
        let body = json!({"client_id": "demo-spa"});
        let mut calls = Vec::new();
        for n in 0..200 {
            let at = second.as_ref().filter(|_| n % 2 == 1).unwrap_or(&app);
            calls.push(tokio::spawn(key.post(at, "/v1/guests", &body).send()));
        }
        let (mut created, mut ids, mut sessions) = (0, HashSet::new(), HashSet::new());
        for call in calls {
            let answer = call.await.unwrap().json();
            created += usize::from(answer["created"] == true);
            let guest = Guest::of(&answer);
            ids.insert(guest.id);
            sessions.insert(guest.session);
        }
        assert_eq!((created, ids.len(), sessions.len()), (1, 1, 1));
        assert_eq!(app.users().await, 1);
    }

    async fn a_session_and_a_key(engine) {
        let app = TestApp::new(engine).await;
        let (guest, key) = (app.guest().await, DeviceKey::new());
        let body = json!({"client_id": "demo-spa", "session_token": guest.session_token, "device": "Laptop"});
        let joined = Guest::of(&key.post(&app, "/v1/guests", &body).send().await.expect(200).json());
        assert_eq!((&joined.id, &joined.session), (&guest.id, &guest.session));
        let back = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!((&back.id, &back.session), (&guest.id, &guest.session), "the key brings back the session that brought it");
        let list = app.get("/v1/me/device-keys").bearer(&guest.access).send().await.expect(200).json();
        assert_eq!(list["items"][0]["thumbprint"], key.thumbprint());
        assert_eq!((&list["items"][0]["name"], &list["items"][0]["current"]), (&json!("Laptop"), &json!(true)));
        assert_eq!((list["items"].as_array().unwrap().len(), &list["cursor"]), (1, &Value::Null));
        let told = app.get("/v1/me/notices").bearer(&guest.access).send().await.expect(200).json();
        assert_eq!((&told["items"][0]["kind"], &told["items"][0]["device"]), (&json!("device_key.added"), &json!("Laptop")));

        let stranger = app.guest().await;
        let body = json!({"client_id": "demo-spa", "session_token": stranger.session_token});
        key.post(&app, "/v1/guests", &body).send().await.refused(409, "credential_conflict");
        // an access token does not add what outlives it
        let other = DeviceKey::new();
        let by_access = other.post(&app, "/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&stranger.access).send().await;
        by_access.expect(200);
        assert!(by_access.json().get("session_token").is_none());
        let list = app.get("/v1/me/device-keys").bearer(&stranger.access).send().await.expect(200).json();
        assert_eq!(list["items"], json!([]));
        let taken = key.call(&app, "POST", "/v1/me/device-keys").bearer(&stranger.access).send().await;
        taken.refused(409, "device_key_taken");
    }

    async fn a_floating_guest_is_stored_with_its_key(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest_of("demo-game").await;
        assert_eq!((guest.body["user"]["stored"].as_bool(), app.users().await), (Some(false), 0));
        let key = DeviceKey::new();
        let added = key.call(&app, "POST", "/v1/me/device-keys").json(&json!({"name": "Phone"})).bearer(&guest.access).send().await;
        assert_eq!(added.expect(201).json()["name"], "Phone");
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await.expect(200);
        let back = key.post(&app, "/v1/guests", &json!({"client_id": "demo-game"})).send().await;
        assert_eq!(Guest::of(&back.expect(200).json()).id, guest.id);
        let refused = DeviceKey::new().post(&app, "/v1/guests", &json!({"client_id": "demo-game", "persist": false})).send().await;
        assert_eq!(refused.refused(400, "invalid_value")["field"], "/persist");
    }

    async fn keys_are_named_and_removed_but_the_last_way_in_stays(engine) {
        let app = TestApp::new(engine).await;
        let (one, two) = (DeviceKey::new(), DeviceKey::new());
        let first = Guest::of(&one.ensure(&app).await.expect(201).json());
        two.call(&app, "POST", "/v1/me/device-keys").bearer(&first.access).send().await.expect(201);
        let second = Guest::of(&two.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json());
        let path = |key: &DeviceKey| format!("/v1/me/device-keys/{}", key.thumbprint());
        let named = app.call("PATCH", &path(&two)).json(&json!({"name": "Old phone"})).bearer(&first.access).send().await;
        assert_eq!(named.expect(200).json()["name"], "Old phone");
        let long = app.call("PATCH", &path(&two)).json(&json!({"name": "x".repeat(65)})).bearer(&first.access).send().await;
        assert_eq!(long.refused(400, "invalid_value")["field"], "/name");
        app.call("DELETE", "/v1/me/device-keys/nonsense").bearer(&first.access).send().await.refused(404, "not_found");
        app.call("DELETE", &path(&two)).bearer(&first.access).send().await.expect(204);
        app.get("/v1/me").bearer(&second.access).send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(&first.access).send().await.expect(200);
        let anew = two.ensure(&app).await;
        assert_ne!(Guest::of(&anew.expect(201).json()).id, first.id, "a removed key is nobody's");
        app.call("DELETE", &path(&one)).bearer(&first.access).send().await.refused(409, "last_way_in");
        app.call("DELETE", &format!("{}?force=maybe", path(&one))).bearer(&first.access).send().await.refused(400, "invalid_value");
        app.call("POST", "/v1/me/recovery-code").bearer(&first.access).send().await.expect(201);
        app.call("DELETE", &path(&one)).bearer(&first.access).send().await.expect(204);
        app.get("/v1/me").bearer(&first.access).send().await.expect(200);
    }

    async fn line_17_bound_tokens_are_of_no_use_without_the_key(engine) {
        let app = TestApp::new(engine).await;
        let (key, thief) = (DeviceKey::new(), DeviceKey::new());
        let body = json!({"client_id": "demo-spa", "bind_tokens": true});
        let answer = key.post(&app, "/v1/guests", &body).send().await.expect(201).json();
        assert_eq!(answer["token_type"], "DPoP");
        let guest = Guest::of(&answer);
        assert_eq!(claims(&guest.access)["cnf"]["jkt"], key.thumbprint());
        key.with_token(&app, "GET", "/v1/me", &guest.access).send().await.expect(200);
        key.with_token(&app, "GET", "/oauth2/userinfo", &guest.access).send().await.expect(200);

        let stolen = app.get("/v1/me").bearer(&guest.access).send().await;
        stolen.refused(401, "invalid_token");
        assert!(stolen.header("www-authenticate").starts_with("DPoP"), "{}", stolen.header("www-authenticate"));
        let naked = app.get("/v1/me").header("authorization", &format!("DPoP {}", guest.access)).send().await;
        naked.refused(401, "invalid_dpop_proof");
        assert!(!naked.header("dpop-nonce").is_empty());
        thief.with_token(&app, "GET", "/v1/me", &guest.access).send().await.refused(401, "invalid_dpop_proof");
        app.get("/oauth2/userinfo").bearer(&guest.access).send().await.expect(401);
        thief.with_token(&app, "GET", "/oauth2/userinfo", &guest.access).send().await.expect(401);

        let refresh = json!({"client_id": "demo-spa", "refresh_token": guest.refresh});
        app.post("/v1/refresh", &refresh).send().await.refused(400, "invalid_dpop_proof");
        thief.post(&app, "/v1/refresh", &refresh).send().await.refused(400, "invalid_dpop_proof");
        let renewed = key.post(&app, "/v1/refresh", &refresh).send().await.expect(200).json();
        assert_eq!(renewed["token_type"], "DPoP");
        let resume = json!({"client_id": "demo-spa", "session_token": guest.session_token});
        app.post("/v1/guests", &resume).send().await.refused(400, "invalid_dpop_proof");
        thief.post(&app, "/v1/guests", &resume).send().await.refused(400, "invalid_dpop_proof");
        key.post(&app, "/v1/guests", &resume).send().await.expect(200);
        let plain = json!({"client_id": "demo-spa", "session_token": guest.session_token});
        app.post("/anonymous/token", &plain).send().await.expect(400);

        let told = app.call("POST", "/oauth2/introspect").basic("demo-web", "demo-web-secret-0123456789abcdef")
            .form(&[("token", &guest.access)]).send().await.expect(200).json();
        assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("DPoP")));
        assert_eq!(told["cnf"]["jkt"], key.thumbprint());
        assert_eq!(app.users().await, 1);
    }

    async fn binding_later_kills_the_unbound_tokens(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let loose = Guest::of(&key.ensure(&app).await.expect(201).json());
        let body = json!({"client_id": "demo-spa", "bind_tokens": true, "session_token": loose.session_token});
        let bound = Guest::of(&key.post(&app, "/v1/guests", &body).send().await.expect(200).json());
        assert_eq!((&bound.id, &bound.session), (&loose.id, &loose.session));
        key.with_token(&app, "GET", "/v1/me", &bound.access).send().await.expect(200);
        app.get("/v1/me").bearer(&loose.access).send().await.refused(401, "session_ended");
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": loose.session_token})).send().await.refused(401, "session_ended");
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": loose.refresh})).send().await.refused(400, "invalid_dpop_proof");
        // an unbound token is none to the DPoP scheme
        let other = app.guest().await;
        key.with_token(&app, "GET", "/v1/me", &other.access).send().await.refused(401, "invalid_token");
        for body in [
            json!({"client_id": "demo-spa", "bind_tokens": true}),
            json!({"client_id": "demo-spa", "bind_tokens": true, "session_token": other.session_token}),
        ] {
            app.post("/v1/guests", &body).send().await.refused(400, "invalid_dpop_proof");
        }
        let cookie = json!({"client_id": "demo-spa", "bind_tokens": true, "session_type": "cookie"});
        assert_eq!(DeviceKey::new().post(&app, "/v1/guests", &cookie).send().await.refused(400, "invalid_value")["field"], "/bind_tokens");
    }

    async fn a_client_may_demand_bound_tokens(engine) {
        let app = TestApp::with(engine, |c| c.replacen("id            = \"demo-native\"", "id            = \"demo-native\"\ndpop_bound_access_tokens = true", 1)).await;
        let key = DeviceKey::new();
        let body = json!({"client_id": "demo-native"});
        app.post("/v1/guests", &body).send().await.refused(400, "invalid_dpop_proof");
        app.post("/anonymous/token", &body).send().await.expect(400);
        let guest = key.post(&app, "/v1/guests", &body).send().await.expect(201).json();
        assert_eq!(guest["token_type"], "DPoP");
        let other = DeviceKey::new();
        let plain = other.post(&app, "/anonymous/token", &body).send().await;
        plain.expect(200);
        assert_eq!(claims(plain.json()["access_token"].as_str().unwrap())["cnf"]["jkt"], other.thumbprint());
    }

    async fn an_erased_guests_key_says_so(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let guest = Guest::of(&key.ensure(&app).await.expect(201).json());
        app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        key.ensure(&app).await.refused(409, "guest_ended");
        assert_eq!(app.users().await, 0);
    }

    async fn signing_out_everywhere(engine) {
        let app = TestApp::new(engine).await;
        let lone = app.guest().await;
        app.call("DELETE", "/v1/me/sessions").bearer(&lone.access).send().await.refused(409, "last_way_in");
        app.call("DELETE", "/v1/me/sessions?force=true").bearer(&lone.access).send().await.expect(204);
        app.get("/v1/me").bearer(&lone.access).send().await.refused(401, "session_ended");

        let key = DeviceKey::new();
        let guest = Guest::of(&key.ensure(&app).await.expect(201).json());
        app.call("DELETE", "/v1/me/sessions").bearer(&guest.access).send().await.expect(204);
        app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await.refused(401, "session_ended");
        let back = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!(back.id, guest.id);
        assert_eq!(claims(&back.access)["epoch"], 1);
    }

    async fn twenty_keys_and_no_more(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        for n in 0..21 {
            let added = DeviceKey::new().call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await;
            if n < 20 { added.expect(201); } else { added.refused(409, "too_many_device_keys"); }
        }
        let told = app.get("/v1/me/notices").bearer(&guest.access).send().await.expect(200).json();
        assert_eq!(told["items"].as_array().unwrap().len(), 20);
    }
}
