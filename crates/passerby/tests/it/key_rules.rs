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
}
