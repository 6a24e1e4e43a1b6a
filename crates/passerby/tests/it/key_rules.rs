//! Rules of device keys that hold when two things are done at once, when there is very much of something, and when
//! nobody comes back by a key.

use serde_json::{Value, json};

use crate::{
    app::{Guest, TestApp},
    keys::DeviceKey,
    on_both,
};

const SPA: &str = "http://localhost:8080";

/// Lets a second device of the guest in, by its key.
async fn share(app: &TestApp, first: &Guest, key: &DeviceKey, mode: &str) -> Guest {
    let made = app.post("/v1/me/hand-off", &json!({"mode": mode})).bearer(&first.access).send().await;
    let code = made.expect(201).json()["code"].clone();
    let ask = || key.post(app, "/v1/guests/hand-off", &json!({"client_id": "demo-spa", "code": code})).send();
    let asked = ask().await.expect(200).json();
    let path = format!("/v1/me/hand-off/{}/confirm", asked["id"].as_str().unwrap());
    app.call("POST", &path).bearer(&first.access).send().await.expect(200);
    Guest::of(&ask().await.expect(200).json())
}

on_both! {
    async fn line_24_two_keys_that_are_removed_at_once_leave_one(engine) {
        let app = TestApp::new(engine).await;
        for _ in 0..10 {
            let (one, two) = (DeviceKey::new(), DeviceKey::new());
            let guest = Guest::of(&one.ensure(&app).await.expect(201).json());
            two.call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await.expect(201);
            let remove = |key: &DeviceKey| {
                let path = format!("/v1/me/device-keys/{}", key.thumbprint());
                tokio::spawn(app.call("DELETE", &path).bearer(&guest.access).send())
            };
            let (a, b) = (remove(&one), remove(&two));
            let answers = [a.await.unwrap(), b.await.unwrap()];
            assert_eq!(answers.iter().filter(|a| a.status == 204).count(), 1);
            answers.iter().find(|a| a.status != 204).unwrap().refused(409, "last_way_in");
            let left = app.get("/v1/me/device-keys").bearer(&guest.access).send().await.expect(200).json();
            assert_eq!(left["items"].as_array().unwrap().len(), 1);
        }
    }

    async fn twenty_keys_also_when_all_come_at_once(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let key = DeviceKey::new();
                tokio::spawn(key.call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send())
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            assert!([201, 409, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        }
        let keys = async || {
            let list = app.get("/v1/me/device-keys").bearer(&guest.access).send().await.expect(200).json();
            list["items"].as_array().unwrap().len()
        };
        assert!(keys().await <= 20);
        loop {
            let one_more = DeviceKey::new().call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await;
            if one_more.status != 201 {
                one_more.refused(409, "too_many_device_keys");
                break;
            }
        }
        assert_eq!(keys().await, 20);
    }

    async fn a_removed_key_ends_all_its_sessions_however_many(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let key = DeviceKey::new();
        let oldest = share(&app, &first, &key, "share").await;
        for _ in 0..102 {
            share(&app, &first, &key, "share").await;
        }
        app.get("/v1/me").bearer(&oldest.access).send().await.expect(200);
        app.post("/v1/me/recovery-code", &json!({})).bearer(&first.access).send().await.expect(201);
        let path = format!("/v1/me/device-keys/{}", key.thumbprint());
        app.call("DELETE", &path).bearer(&first.access).send().await.expect(204);
        app.get("/v1/me").bearer(&oldest.access).send().await.refused(401, "session_ended");
        let refresh = json!({"client_id": "demo-spa", "refresh_token": oldest.refresh});
        app.post("/v1/refresh", &refresh).send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(&first.access).send().await.expect(200);
    }

    async fn moving_ends_every_session_of_the_first_devices_key(engine) {
        let app = TestApp::new(engine).await;
        let (old, new) = (DeviceKey::new(), DeviceKey::new());
        let first = Guest::of(&old.ensure(&app).await.expect(201).json());
        let beside = old.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await;
        let beside = Guest::of(&beside.expect(200).json());
        assert_ne!(beside.session, first.session);
        let moved = share(&app, &first, &new, "move").await;
        assert_eq!(moved.id, first.id);
        for ended in [&first, &beside] {
            app.get("/v1/me").bearer(&ended.access).send().await.refused(401, "session_ended");
        }
        let refresh = json!({"client_id": "demo-native", "refresh_token": beside.refresh});
        app.post("/v1/refresh", &refresh).send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(&moved.access).send().await.expect(200);
    }

    async fn line_18_who_only_comes_back_gets_no_new_guest(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let only_back = json!({"client_id": "demo-spa", "create": false});
        key.post(&app, "/v1/guests", &only_back).send().await.refused(409, "guest_ended");
        app.post("/v1/guests", &only_back).send().await.refused(409, "guest_ended");
        let by_request = app.post("/v1/guests", &only_back).header("idempotency-key", "a-key-of-one-request-22").send();
        by_request.await.refused(409, "guest_ended");
        assert_eq!(app.users().await, 0);
        let guest = Guest::of(&key.ensure(&app).await.expect(201).json());
        let back = key.post(&app, "/v1/guests", &only_back).send().await.expect(200).json();
        assert_eq!((&back["user"]["id"], &back["created"]), (&json!(guest.id), &json!(false)));
        let path = format!("/v1/me/device-keys/{}?force=true", key.thumbprint());
        app.call("DELETE", &path).bearer(&guest.access).send().await.expect(204);
        key.post(&app, "/v1/guests", &only_back).send().await.refused(409, "guest_ended");
        let wrong = json!({"client_id": "demo-spa", "create": "no"});
        app.post("/v1/guests", &wrong).send().await.refused(400, "invalid_value");
        assert_eq!(app.users().await, 1);
    }

    async fn a_key_opens_its_guest_when_the_cookies_session_is_over(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = made.expect(201).cookies().into_values().next().unwrap();
        let key = DeviceKey::new();
        let beside = key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).cookie(&cookie).header("origin", SPA).send().await;
        let id = beside.expect(200).json()["user"]["id"].clone();
        assert_eq!(id, made.json()["user"]["id"]);
        app.post("/v1/logout", &json!({})).cookie(&cookie).header("origin", SPA).send().await.expect(204);
        let back = key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json();
        assert_eq!((&back["user"]["id"], &back["created"]), (&id, &Value::Bool(false)));
    }

    async fn a_lost_answer_to_a_code_is_asked_for_again_by_its_idempotency_key(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let key = "one-request-and-its-repeats";
        let code = app.post("/v1/me/recovery-code", &json!({})).bearer(&first.access).send().await.expect(201).json();
        let body = json!({"client_id": "demo-native", "code": code["code"]});
        let recover = |body: &Value| app.post("/v1/guests/recover", body).header("idempotency-key", key).send();
        let one = recover(&body).await.expect(200).json();
        let two = recover(&body).await.expect(200).json();
        assert_eq!((&one["user"]["id"], &one["session"]["id"]), (&two["user"]["id"], &two["session"]["id"]));
        assert_ne!(one["recovery_code"], two["recovery_code"], "nobody has seen the first one");
        app.post("/v1/guests/recover", &body).send().await.refused(400, "invalid_code");
        recover(&json!({"client_id": "demo-native", "code": "other"})).await.refused(422, "idempotency_mismatch");
        for (code, status) in [(&one["recovery_code"], 400), (&two["recovery_code"], 200)] {
            let body = json!({"client_id": "demo-native", "code": code});
            app.post("/v1/guests/recover", &body).send().await.expect(status);
        }
        recover(&body).await.refused(409, "guest_ended");
        // a newer code stays, and the key of another call opens nothing here
        let third = app.guest().await;
        let code = || app.post("/v1/me/recovery-code", &json!({})).bearer(&third.access).send();
        let body = json!({"client_id": "demo-spa", "code": code().await.expect(201).json()["code"]});
        let fresh = |body: &Value, key: &str| app.post("/v1/guests/recover", body).header("idempotency-key", key).send();
        let one = fresh(&body, "a-third-request-and-repeats").await.expect(200).json();
        let made = app.post("/v1/me/recovery-code", &json!({})).bearer(one["access_token"].as_str().unwrap()).send().await;
        let newer = made.expect(201).json()["code"].clone();
        let again = fresh(&body, "a-third-request-and-repeats").await.expect(200).json();
        assert!(again.get("recovery_code").is_none());
        app.post("/v1/guests/recover", &json!({"client_id": "demo-spa", "code": newer})).send().await.expect(200);
        let body = json!({"client_id": "demo-spa", "code": "x"});
        app.post("/v1/guests", &body).header("idempotency-key", "a-fourth-request-of-creation").send().await.expect(201);
        fresh(&body, "a-fourth-request-of-creation").await.refused(400, "invalid_code");

        let first = app.guest().await;
        let made = app.post("/v1/me/hand-off", &json!({"mode": "move"})).bearer(&first.access).send().await;
        let code = made.expect(201).json()["code"].clone();
        // the first answer, with the id, is lost as well
        let begin = json!({"client_id": "demo-spa", "code": code});
        let begin = || app.post("/v1/guests/hand-off", &begin).header("idempotency-key", "another-request-of-these").send();
        let id = begin().await.expect(200).json()["id"].clone();
        assert_eq!(begin().await.expect(200).json()["id"], id);
        let path = format!("/v1/me/hand-off/{}/confirm", id.as_str().unwrap());
        app.call("POST", &path).bearer(&first.access).send().await.expect(200);
        let body = json!({"client_id": "demo-spa", "code": code, "id": id});
        let take = || app.post("/v1/guests/hand-off", &body).header("idempotency-key", "another-request-of-these").send();
        let calls: Vec<_> = (0..8).map(|_| tokio::spawn(take())).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().expect(200).json()["user"]["id"], json!(first.id));
        }
        app.post("/v1/guests/hand-off", &body).send().await.refused(400, "invalid_code");
    }

    async fn a_guest_whose_tokens_are_bound_adds_a_second_key(engine) {
        let app = TestApp::new(engine).await;
        let (one, two) = (DeviceKey::new(), DeviceKey::new());
        let body = json!({"client_id": "demo-spa", "bind_tokens": true});
        let guest = Guest::of(&one.post(&app, "/v1/guests", &body).send().await.expect(201).json());
        let path = "/v1/me/device-keys";
        let proof = two.proof(&app, "POST", path, None);
        let add = |proof: &str| one.with_token(&app, "POST", path, &guest.access).json(&json!({"name": "Second", "proof": proof})).send();
        let added = add(&proof).await.expect(201).json();
        assert_eq!((&added["thumbprint"], &added["name"]), (&json!(two.thumbprint()), &json!("Second")));
        assert_eq!(add(&proof).await.refused(400, "invalid_dpop_proof")["field"], "/proof");
        let elsewhere = two.proof(&app, "POST", "/v1/me", None);
        assert_eq!(add(&elsewhere).await.refused(400, "invalid_dpop_proof")["field"], "/proof");
        assert_eq!(two.ensure(&app).await.expect(200).json()["user"]["id"], json!(guest.id));
        let plain = app.guest().await;
        let beside = app.post(path, &json!({"proof": two.proof(&app, "POST", path, None)})).bearer(&plain.access).send().await;
        assert_eq!(beside.refused(400, "invalid_value")["field"], "/proof");
    }

    async fn a_cookie_is_never_left_dead_by_a_key(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = made.expect(201).cookies().into_values().next().unwrap();
        let bind = json!({"client_id": "demo-spa", "bind_tokens": true});
        let bound = DeviceKey::new().post(&app, "/v1/guests", &bind).cookie(&cookie).header("origin", SPA).send().await;
        assert_eq!(bound.refused(400, "invalid_value")["field"], "/bind_tokens");
        app.get("/v1/me").cookie(&cookie).send().await.expect(200);
        // whatever else binds its session: the cookie then wants the proof, and makes nobody
        let key = DeviceKey::new();
        let by_cookie = json!({"client_id": "demo-spa", "session_type": "tokens"});
        let held = app.post("/v1/guests", &by_cookie).cookie(&cookie).header("origin", SPA).send().await.expect(200).json();
        let refresh = json!({"client_id": "demo-spa", "refresh_token": held["refresh_token"], "bind_tokens": true});
        key.post(&app, "/v1/refresh", &refresh).send().await.expect(200);
        let alone = app.post("/v1/guests", &by_cookie).cookie(&cookie).header("origin", SPA).send().await;
        alone.refused(400, "invalid_dpop_proof");
        let foreign = DeviceKey::new().post(&app, "/v1/guests", &by_cookie).cookie(&cookie).header("origin", SPA);
        foreign.send().await.refused(400, "invalid_dpop_proof");
        let proven = key.post(&app, "/v1/guests", &by_cookie).cookie(&cookie).header("origin", SPA).send().await;
        assert_eq!(proven.expect(200).json()["user"]["id"], held["user"]["id"]);
        assert_eq!(app.users().await, 1);
        // and none is given that could not be used
        let key = DeviceKey::new();
        key.post(&app, "/v1/guests", &bind).send().await.expect(201);
        let by_cookie = json!({"client_id": "demo-spa", "session_type": "cookie"});
        let refused = key.post(&app, "/v1/guests", &by_cookie).send().await;
        assert_eq!(refused.refused(400, "invalid_value")["field"], "/session_type");
        assert!(refused.cookies().is_empty());
    }

    async fn an_idempotency_key_beside_another_credential_is_remembered(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let guest = Guest::of(&key.ensure(&app).await.expect(201).json());
        let (body, name) = (json!({"client_id": "demo-spa"}), "some-request-and-its-key");
        let by = |call: crate::app::Call| call.header("idempotency-key", name).send();
        by(key.post(&app, "/v1/guests", &body)).await.expect(200);
        let alone = by(app.post("/v1/guests", &body)).await.expect(200).json();
        assert_eq!((&alone["user"]["id"], &alone["created"]), (&json!(guest.id), &json!(false)));
        let other = app.guest().await;
        let shown = json!({"client_id": "demo-spa", "session_token": other.session_token});
        by(app.post("/v1/guests", &shown)).await.refused(422, "idempotency_mismatch");
        let mine = app.post("/v1/guests", &shown).header("idempotency-key", "a-second-one-of-its-own");
        mine.send().await.expect(200);
        // an access token remembers nothing: the key would outlive it
        let by_access = app.post("/v1/guests", &body).bearer(&other.access).header("idempotency-key", "a-third-one-of-its-own-x");
        by_access.send().await.expect(200);
        let alone = app.post("/v1/guests", &body).header("idempotency-key", "a-third-one-of-its-own-x").send().await;
        alone.expect(201);
    }

    async fn a_uuid_has_one_spelling(engine) {
        let app = TestApp::with(engine, |c| c.replacen("id            = \"demo-native\"", "id            = \"demo-native\"\ncustom_user_id = \"any\"", 1)).await;
        let id = "01A1FEFA-6E46-7ABC-8DEF-0123456789AB";
        for id in [id.to_owned(), format!("{{{}}}", id.to_lowercase())] {
            let refused = app.post("/v1/guests", &json!({"client_id": "demo-native", "user_id": id})).send().await;
            assert_eq!(refused.refused(400, "invalid_value")["field"], "/user_id", "{id}");
        }
        app.post("/v1/guests", &json!({"client_id": "demo-native", "user_id": id.to_lowercase()})).send().await.expect(201);
    }

    async fn the_last_code_goes_when_forced_only(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let remove = |query: &str| app.call("DELETE", &format!("/v1/me/recovery{query}")).bearer(&guest.access).send();
        remove("").await.expect(204);
        app.post("/v1/me/recovery-code", &json!({})).bearer(&guest.access).send().await.expect(201);
        remove("").await.refused(409, "last_way_in");
        remove("?force=maybe").await.refused(400, "invalid_value");
        remove("?force=true").await.expect(204);
        // what is told is not pushed out by much of something else
        for _ in 0..60 {
            app.post("/v1/me/recovery-code", &json!({})).bearer(&guest.access).send().await.expect(201);
            if app.get("/v1/me/device-keys").bearer(&guest.access).send().await.json()["items"] == json!([]) {
                DeviceKey::new().call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await.expect(201);
            }
        }
        let told = app.get("/v1/me/notices").bearer(&guest.access).send().await.expect(200).json();
        let told = told["items"].as_array().unwrap();
        assert!(told.len() <= 51 && told.iter().any(|n| n["kind"] == "device_key.added"));
    }
}
