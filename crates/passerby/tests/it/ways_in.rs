//! Hand-off and recovery: a guest on another device, without a name.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Call, Guest, TestApp, claims},
    keys::DeviceKey,
    on_both,
};

fn take(app: &TestApp, code: &str, more: Value) -> Call {
    let mut body = json!({"client_id": "demo-native", "code": code});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.post("/v1/guests/hand-off", &body)
}

async fn begin(app: &TestApp, guest: &Guest, mode: &str) -> String {
    let made =
        app.post("/v1/me/hand-off", &json!({"mode": mode})).bearer(&guest.access).send().await.expect(201).json();
    assert!(made["qr"].as_str().unwrap().contains("<svg"));
    let code = made["code"].as_str().unwrap().to_owned();
    assert!(made["url"].as_str().unwrap().ends_with(&format!("/ui/hand-off#code={code}&client_id=demo-spa")));
    code
}

async fn waiting(app: &TestApp, guest: &Guest) -> Value {
    app.get("/v1/me/hand-off").bearer(&guest.access).send().await.expect(200).json()["items"].clone()
}

on_both! {
    async fn a_hand_off_by_id(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let code = begin(&app, &first, "share").await;
        assert_eq!(waiting(&app, &first).await, json!([]));
        let asked = take(&app, &code.to_lowercase(), json!({"device": "Tablet"})).send().await.expect(200).json();
        assert_eq!(asked["status"], "waiting");
        let id = asked["id"].as_str().unwrap();
        let list = waiting(&app, &first).await;
        assert_eq!((&list[0]["id"], &list[0]["check"], &list[0]["device"]), (&asked["id"], &asked["check"], &json!("Tablet")));
        let again = take(&app, &code, json!({"id": id})).send().await.expect(200).json();
        assert_eq!((&again["status"], &again["check"]), (&json!("waiting"), &asked["check"]));
        let confirm = |id: &str| app.call("POST", &format!("/v1/me/hand-off/{id}/confirm")).bearer(&first.access);
        confirm("nonsense").send().await.refused(404, "not_found");
        confirm(id).send().await.expect(200);
        confirm(id).send().await.expect(200);
        // the right code many times at once: in once
        let calls: Vec<_> = (0..8).map(|_| tokio::spawn(take(&app, &code, json!({"id": id})).send())).collect();
        let mut taken = Vec::new();
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 200 { taken.push(answer.json()); } else { answer.refused(400, "invalid_code"); }
        }
        assert_eq!(taken.len(), 1);
        let second = Guest::of(&taken[0]);
        assert_eq!((&second.id, &taken[0]["created"]), (&first.id, &json!(false)));
        assert_ne!(second.session, first.session);
        app.get("/v1/me").bearer(&first.access).send().await.expect(200);
        app.get("/v1/me").bearer(&second.access).send().await.expect(200);
        let told = app.get("/v1/me/notices").bearer(&first.access).send().await.expect(200).json();
        assert_eq!((&told["items"][0]["kind"], &told["items"][0]["device"]), (&json!("hand_off.completed"), &json!("Tablet")));
    }

    async fn a_guest_moves_with_its_key(engine) {
        let app = TestApp::new(engine).await;
        let (old, new) = (DeviceKey::new(), DeviceKey::new());
        let first = Guest::of(&old.ensure(&app).await.expect(201).json());
        let code = begin(&app, &first, "move").await;
        let body = json!({"client_id": "demo-native", "code": code, "bind_tokens": true});
        let ask = || new.post(&app, "/v1/guests/hand-off", &body);
        let asked = ask().send().await.expect(200).json();
        assert_eq!(ask().send().await.expect(200).json()["status"], "waiting", "the key is the asker");
        let id = asked["id"].as_str().unwrap();
        app.call("POST", &format!("/v1/me/hand-off/{id}/confirm")).bearer(&first.access).send().await.expect(200);
        let moved = ask().send().await.expect(200).json();
        assert_eq!((&moved["user"]["id"], &moved["token_type"]), (&json!(first.id), &json!("DPoP")));
        app.get("/v1/me").bearer(&first.access).send().await.refused(401, "session_ended");
        let anew = old.ensure(&app).await.expect(201).json();
        assert_ne!(anew["user"]["id"], moved["user"]["id"], "the first device's key went with it");
        let back = new.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json();
        assert_eq!(back["user"]["id"], moved["user"]["id"]);
    }

    async fn line_38_another_asker_cancels(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let code = begin(&app, &first, "share").await;
        let asked = take(&app, &code, json!({})).send().await.expect(200).json();
        take(&app, &code, json!({"id": "guess"})).send().await.refused(409, "hand_off_cancelled");
        let id = asked["id"].as_str().unwrap();
        take(&app, &code, json!({"id": id})).send().await.refused(409, "hand_off_cancelled");
        take(&app, &code, json!({"id": "guess"})).send().await.refused(400, "invalid_code");
        app.call("POST", &format!("/v1/me/hand-off/{id}/confirm")).bearer(&first.access).send().await.refused(404, "not_found");
        // who asked with a key is known by nothing else
        let code = begin(&app, &first, "share").await;
        let key = DeviceKey::new();
        let asked = key.post(&app, "/v1/guests/hand-off", &json!({"client_id": "demo-native", "code": code})).send().await.expect(200).json();
        take(&app, &code, json!({"id": asked["id"]})).send().await.refused(409, "hand_off_cancelled");
    }

    async fn a_hand_off_ends(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let old = begin(&app, &first, "share").await;
        let code = begin(&app, &first, "share").await;
        take(&app, &old, json!({})).send().await.refused(400, "invalid_code");
        app.advance(Duration::from_secs(301));
        take(&app, &code, json!({})).send().await.refused(400, "invalid_code");
        let code = begin(&app, &first, "share").await;
        app.call("DELETE", "/v1/me/hand-off").bearer(&first.access).send().await.expect(204);
        take(&app, &code, json!({})).send().await.refused(400, "invalid_code");
        let code = begin(&app, &first, "share").await;
        // another session of the guest does not confirm
        let asked = take(&app, &code, json!({})).send().await.expect(200).json();
        let key = DeviceKey::new();
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&first.access).send().await.expect(201);
        let other = Guest::of(&key.post(&app, "/v1/guests", &json!({"client_id": "demo-native"})).send().await.expect(200).json());
        let path = format!("/v1/me/hand-off/{}/confirm", asked["id"].as_str().unwrap());
        app.call("POST", &path).bearer(&other.access).send().await.refused(404, "not_found");
        // the code dies with the session that made it
        app.post("/v1/logout", &json!({})).bearer(&first.access).send().await.expect(204);
        take(&app, &code, json!({"id": asked["id"]})).send().await.refused(400, "invalid_code");
        app.post("/v1/me/hand-off", &json!({"mode": "steal"})).bearer(&other.access).send().await.refused(400, "invalid_value");
    }

    async fn line_38_wrong_codes_are_counted(engine) {
        let app = TestApp::new(engine).await;
        let first = app.guest().await;
        let code = begin(&app, &first, "share").await;
        for n in 0..10 {
            let path = if n % 2 == 0 { "/v1/guests/hand-off" } else { "/v1/guests/recover" };
            let refused = app.post(path, &json!({"client_id": "demo-spa", "code": "AAAA-AAAA"})).send().await;
            assert_eq!(refused.refused(400, "invalid_code")["field"], "/code");
        }
        let limited = take(&app, &code, json!({})).send().await;
        limited.refused(429, "too_many_requests");
        assert!(!limited.header("retry-after").is_empty());
        take(&app, &code, json!({})).peer("192.0.2.7").send().await.expect(200);
        app.advance(Duration::from_secs(600));
        take(&app, "AAAA-AAAB", json!({})).send().await.refused(400, "invalid_code");
    }

    async fn recovery(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let first = Guest::of(&key.ensure(&app).await.expect(201).json());
        let state = app.get("/v1/me/recovery").bearer(&first.access).send().await.expect(200).json();
        assert_eq!(state, json!({"created_at": null, "pending": null}));
        let make = || app.call("POST", "/v1/me/recovery-code").bearer(&first.access);
        let old = make().send().await.expect(201).json()["code"].as_str().unwrap().to_owned();
        let code = make().send().await.expect(201).json()["code"].as_str().unwrap().to_owned();
        assert_eq!(code.split(' ').count(), 12);
        let recover = |code: &str| app.post("/v1/guests/recover", &json!({"client_id": "demo-native", "code": code}));
        recover(&old).send().await.refused(400, "invalid_code");
        let calls: Vec<_> = (0..8).map(|_| tokio::spawn(recover(&code.to_uppercase()).send())).collect();
        let mut done = Vec::new();
        for call in calls {
            let answer = call.await.unwrap();
            if answer.status == 200 { done.push(answer.json()); } else { answer.refused(400, "invalid_code"); }
        }
        assert_eq!(done.len(), 1, "the right code works once");
        let second = Guest::of(&done[0]);
        assert_eq!(second.id, first.id);
        assert_eq!(claims(&second.access)["epoch"], 1);
        app.get("/v1/me").bearer(&first.access).send().await.refused(401, "session_ended");
        app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": first.refresh})).send().await.refused(401, "session_ended");
        let stranger = Guest::of(&key.ensure(&app).await.expect(201).json());
        assert_ne!(stranger.id, first.id, "the lost device's key is out");
        let next = done[0]["recovery_code"].as_str().unwrap();
        let third = recover(next).send().await.expect(200).json();
        assert_eq!(third["user"]["id"], json!(first.id));
    }

    async fn a_recovery_waits_while_somebody_could_cancel(engine) {
        let app = TestApp::with(engine, |c| c.replacen("lifetime     = \"365d\"", "lifetime     = \"365d\"\nrecovery_wait = \"1d\"", 1)).await;
        let first = app.guest().await;
        let make = || app.call("POST", "/v1/me/recovery-code").bearer(&first.access);
        let code = make().send().await.expect(201).json()["code"].as_str().unwrap().to_owned();
        let ask = |code: &str, id: Value| app.post("/v1/guests/recover", &json!({"client_id": "demo-spa", "code": code, "id": id, "device": "New phone"}));
        let asked = ask(&code, Value::Null).send().await.expect(202).json();
        assert_eq!(asked["status"], "waiting");
        ask(&code, Value::Null).send().await.refused(409, "recovery_pending");
        let state = app.get("/v1/me/recovery").bearer(&first.access).send().await.expect(200).json();
        assert_eq!((&state["pending"]["device"], &state["pending"]["ready_at"]), (&json!("New phone"), &asked["ready_at"]));
        assert_ne!(state["pending"]["id"], asked["id"], "what the asker holds is told to nobody");
        app.call("DELETE", "/v1/me/recovery").bearer(&first.access).send().await.expect(204);
        ask(&code, asked["id"].clone()).send().await.refused(400, "invalid_code");
        let told = app.get("/v1/me/notices").bearer(&first.access).send().await.expect(200).json();
        let kinds: Vec<_> = told["items"].as_array().unwrap().iter().map(|n| n["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds.iter().filter(|k| *k == "recovery.started").count(), 1);
        assert_eq!(kinds.iter().filter(|k| *k == "recovery.cancelled").count(), 1);

        let code = make().send().await.expect(201).json()["code"].as_str().unwrap().to_owned();
        let asked = ask(&code, Value::Null).send().await.expect(202).json();
        app.advance(Duration::from_secs(86_399));
        ask(&code, asked["id"].clone()).send().await.expect(202);
        app.advance(Duration::from_secs(1));
        let done = ask(&code, asked["id"].clone()).send().await.expect(200).json();
        assert_eq!(done["user"]["id"], json!(first.id));
        // nobody could cancel any more: at once
        let code = done["recovery_code"].as_str().unwrap().to_owned();
        app.post("/v1/logout", &json!({})).bearer(done["access_token"].as_str().unwrap()).send().await.expect(204);
        ask(&code, Value::Null).send().await.expect(200);
    }
}
