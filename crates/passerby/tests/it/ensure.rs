//! What brings a guest back at `POST /v1/guests` and for how long, together and after its end (domain.md "Ensure").

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Guest, TestApp},
    keys::DeviceKey,
    on_both,
};

const KEY: &str = "a-key-that-nobody-can-guess-0001";

/// A creation by whatever is shown.
fn ask(app: &TestApp, key: Option<&DeviceKey>, idempotency: Option<&str>) -> Call {
    let body = json!({"client_id": "demo-spa"});
    let call = key.map_or_else(|| app.post("/v1/guests", &body), |key| key.post(app, "/v1/guests", &body));
    match idempotency {
        Some(key) => call.header("idempotency-key", key),
        None => call,
    }
}

fn told(answer: &Answer) -> (bool, String, String) {
    assert!(answer.status.is_success(), "{}", answer.text());
    let body = answer.json();
    let guest = Guest::of(&body);
    (body["created"] == true, guest.id, guest.session)
}

/// A refused value; NUL, which no string may hold, has a word of its own.
fn refusal(answer: &Answer, value: &Value) -> Value {
    assert!([400, 422].contains(&answer.status.as_u16()), "{value}: {}", answer.text());
    answer.json()
}

on_both! {
    async fn line_05_a_chosen_id_with_an_idempotency_key_many_times_at_once(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        for round in 0..10 {
            let body = json!({"client_id": "demo-spa", "user_id": format!("player {round}")});
            let calls: Vec<_> = (0..16)
                .map(|n| {
                    let at = if n % 2 == 0 { &app } else { &other };
                    tokio::spawn(at.post("/v1/guests", &body).header("idempotency-key", &format!("{KEY}{round}")).send())
                })
                .collect();
            let (mut created, mut sessions) = (0, std::collections::HashSet::new());
            for call in calls {
                let (new, _, session) = told(&call.await.unwrap());
                created += usize::from(new);
                sessions.insert(session);
            }
            assert_eq!((created, sessions.len()), (1, 1));
        }
    }

    async fn line_05_a_further_session_with_an_idempotency_key_many_times_at_once(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let body = json!({"client_id": "demo-web", "client_secret": "demo-web-secret-0123456789abcdef", "user_id": "visitor", "persist": true});
        app.post("/v1/guests", &body).send().await.expect(201);
        for round in 0..10 {
            let calls: Vec<_> = (0..16)
                .map(|n| {
                    let at = if n % 2 == 0 { &app } else { &other };
                    tokio::spawn(at.post("/v1/guests", &body).header("idempotency-key", &format!("{KEY}{round}")).send())
                })
                .collect();
            let mut sessions = std::collections::HashSet::new();
            for call in calls {
                let (new, _, session) = told(&call.await.unwrap());
                assert!(!new);
                sessions.insert(session);
            }
            assert_eq!(sessions.len(), 1, "one further session");
        }
    }

    async fn an_idempotency_key_is_remembered_ten_minutes_and_for_a_client_that_authenticated_a_day(engine) {
        let app = TestApp::new(engine).await;
        let public = json!({"client_id": "demo-spa"});
        let web = json!({"client_id": "demo-web", "client_secret": "demo-web-secret-0123456789abcdef"});
        for (body, life) in [(public, 600), (web, 86_400)] {
            let call = || app.post("/v1/guests", &body).header("idempotency-key", KEY).send();
            let (created, first, session) = told(&call().await);
            assert!(created);
            // its uses do not lengthen that
            for _ in 0..2 {
                app.advance(Duration::from_millis(life * 500 - 1));
                app.core.run_jobs().await;
                assert_eq!(told(&call().await), (false, first.clone(), session.clone()));
            }
            app.advance(Duration::from_millis(2));
            let (created, other, _) = told(&call().await);
            assert!(created && other != first);
        }
    }

    async fn line_05_a_device_key_and_an_idempotency_key_in_any_order(engine) {
        let app = TestApp::new(engine).await;
        // which of the two each call shows: device key, idempotency key
        for (n, order) in [
            [(true, true), (true, false), (false, true), (true, true)],
            [(true, true), (false, true), (true, false), (true, true)],
            [(false, true), (true, true), (true, false), (false, true)],
            [(true, false), (true, true), (true, true), (true, false)],
        ].into_iter().enumerate() {
            let (key, idempotency) = (DeviceKey::new(), format!("{KEY}{n}"));
            let mut first = None;
            for (by_key, by_request) in order {
                let answer = ask(&app, by_key.then_some(&key), by_request.then_some(&idempotency)).send().await;
                let (created, user, session) = told(&answer);
                assert_eq!(created, first.is_none(), "{order:?}");
                assert_eq!(*first.get_or_insert((user.clone(), session.clone())), (user, session), "{order:?}");
            }
            assert_eq!(app.users().await, n as u64 + 1);
        }
        // two guests' cannot be one's
        let key = DeviceKey::new();
        ask(&app, Some(&key), None).send().await.expect(201);
        ask(&app, None, Some(KEY)).send().await.expect(201);
        ask(&app, Some(&key), Some(KEY)).send().await.refused(409, "credential_conflict");
        assert_eq!(app.users().await, 6);
    }

    async fn line_18_a_key_of_an_erased_guest_makes_nobody_else(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let guest = Guest::of(&ask(&app, Some(&key), Some(KEY)).send().await.expect(201).json());
        let other = Guest::of(&ask(&app, None, Some("another-key-that-nobody-guesses")).send().await.expect(201).json());
        app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        let root = "acceptance-root-key-0123456789abcdef0123456789";
        app.call("DELETE", &format!("/v1/users/{}", other.id)).bearer(root).send().await.expect(204);
        for _ in 0..2 {
            ask(&app, Some(&key), None).send().await.refused(409, "guest_ended");
            ask(&app, None, Some(KEY)).send().await.refused(409, "guest_ended");
            ask(&app, Some(&key), Some(KEY)).send().await.refused(409, "guest_ended");
            ask(&app, None, Some("another-key-that-nobody-guesses")).send().await.refused(409, "guest_ended");
            app.core.run_jobs().await;
            app.advance(Duration::from_secs(599));
        }
        assert_eq!(app.users().await, 0);
        // what its caller asks for under a new key is a new guest
        let (created, user, _) = told(&ask(&app, None, Some("a-new-key-for-a-new-guest")).send().await);
        assert!(created && user != guest.id && user != other.id);
    }

    async fn line_18_a_limit_of_creations_keeps_nobody_from_coming_back(engine) {
        let app = TestApp::with(engine, |text| text.replace(r#"creations_per_address = "1000000/s""#, "creations_per_address = \"2/h\"")).await;
        let key = DeviceKey::new();
        let by_key = Guest::of(&ask(&app, Some(&key), None).send().await.expect(201).json());
        let by_request = Guest::of(&ask(&app, None, Some(KEY)).send().await.expect(201).json());
        for _ in 0..5 {
            let stranger = DeviceKey::new();
            for refused in [ask(&app, None, None), ask(&app, Some(&stranger), None), ask(&app, None, Some("a-key-that-nobody-had-before"))] {
                refused.send().await.refused(429, "too_many_requests");
            }
            assert_eq!(told(&ask(&app, Some(&key), None).send().await), (false, by_key.id.clone(), by_key.session.clone()));
            assert_eq!(told(&ask(&app, None, Some(KEY)).send().await), (false, by_request.id.clone(), by_request.session.clone()));
            let session = json!({"client_id": "demo-spa", "session_token": by_key.session_token});
            app.post("/v1/guests", &session).send().await.expect(200);
        }
        assert_eq!(app.users().await, 2);
        // an ended session is opened anew by its key, limits or not
        app.post("/v1/logout", &json!({})).bearer(&by_key.access).send().await.expect(204);
        let (created, user, session) = told(&ask(&app, Some(&key), None).send().await);
        assert_eq!((created, user), (false, by_key.id));
        assert_ne!(session, by_key.session);
    }

    async fn line_18_an_ended_credential_is_refused_and_nobody_takes_its_place(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let calls = || [
            app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": guest.session_token})),
            app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&guest.access),
            app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})),
        ];
        // not even together with what could make a new one
        let also = || app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": guest.session_token}));
        app.post("/v1/logout", &json!({})).bearer(&guest.access).send().await.expect(204);
        for call in calls() {
            call.send().await.refused(401, "session_ended");
        }
        also().header("idempotency-key", KEY).send().await.refused(401, "session_ended");
        also().header("dpop", &DeviceKey::new().proof(&app, "POST", "/v1/guests", None)).send().await.refused(401, "session_ended");
        assert_eq!(app.users().await, 1);
        let other = app.guest().await;
        app.advance(Duration::from_secs(31 * 86_400));
        let expired = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_token": other.session_token}));
        expired.header("idempotency-key", KEY).send().await.refused(401, "session_expired");
        let users = app.users().await;
        assert_eq!(users, 2);
    }

    async fn line_18_the_lost_answer_of_a_way_in_is_no_lost_guest(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        // moved to a device whose answer is lost: the first device is out, the key of the second is in
        let made = app.post("/v1/me/hand-off", &json!({"mode": "move"})).bearer(&guest.access).send().await.expect(201).json();
        let key = DeviceKey::new();
        let body = json!({"client_id": "demo-spa", "code": made["code"]});
        let asked = key.post(&app, "/v1/guests/hand-off", &body).send().await.expect(200).json();
        let path = format!("/v1/me/hand-off/{}/confirm", text(&asked["id"]));
        app.call("POST", &path).bearer(&guest.access).send().await.expect(200);
        key.post(&app, "/v1/guests/hand-off", &body).send().await.expect(200);
        key.post(&app, "/v1/guests/hand-off", &body).send().await.refused(400, "invalid_code");
        app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
        let back = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!(back.id, guest.id);
        // recovered on a device whose answer, with the next code in it, is lost
        let code = text(&app.call("POST", "/v1/me/recovery-code").bearer(&back.access).send().await.expect(201).json()["code"]);
        let (key, body) = (DeviceKey::new(), json!({"client_id": "demo-spa", "code": code}));
        key.post(&app, "/v1/guests/recover", &body).send().await.expect(200);
        key.post(&app, "/v1/guests/recover", &body).send().await.refused(400, "invalid_code");
        app.get("/v1/me").bearer(&back.access).send().await.refused(401, "session_ended");
        let back = Guest::of(&key.ensure(&app).await.expect(200).json());
        assert_eq!(back.id, guest.id);
        app.call("POST", "/v1/me/recovery-code").bearer(&back.access).send().await.expect(201);
        assert_eq!(app.users().await, 1);
    }

    async fn line_37_a_device_names_itself_within_limits(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let key = DeviceKey::new();
        app.call("POST", "/v1/me/recovery-code").bearer(&guest.access).send().await.expect(201);
        key.call(&app, "POST", "/v1/me/device-keys").bearer(&guest.access).send().await.expect(201);
        let own = format!("/v1/me/device-keys/{}", key.thumbprint());
        let before = crate::loot::written(&app).await;
        for bad in [json!("x".repeat(65)), json!("é".repeat(65)), json!("a\u{0}b"), json!("a\nb"), json!("\u{1b}[2J"), json!("a\u{85}b"), json!(7), json!(["x"]), json!({"a": 1})] {
            for (n, path) in ["/v1/guests", "/v1/guests/hand-off", "/v1/guests/recover"].into_iter().enumerate() {
                let body = json!({"client_id": "demo-spa", "code": "AAAA-AAAA", "device": bad});
                let answer = DeviceKey::new().post(&app, path, &body).peer(&format!("10.0.{n}.1")).send().await;
                assert!(refusal(&answer, &bad)["field"].as_str().unwrap().trim_start_matches('/') == "device", "{path} {bad}: {}", answer.text());
            }
            for (method, path) in [("POST", "/v1/me/device-keys"), ("PATCH", &own)] {
                let call = DeviceKey::new().call(&app, method, path).json(&json!({"name": bad})).bearer(&guest.access);
                let answer = call.send().await;
                assert!(refusal(&answer, &bad)["field"].as_str().unwrap().trim_start_matches('/') == "name", "{path} {bad}: {}", answer.text());
            }
        }
        let mut after = crate::loot::written(&app).await;
        assert_eq!(after, before);
        // what is long in bytes and short in characters is kept as it is, and never read as anything else
        let name = "<b>\"\\'; drop table items --\u{10348}".to_owned() + &"é".repeat(20);
        let named = app.call("PATCH", &own).json(&json!({"name": name})).bearer(&guest.access).send().await;
        assert_eq!(named.expect(200).json()["name"], json!(name));
        let list = app.get("/v1/me/device-keys").bearer(&guest.access).send().await.expect(200).json();
        assert_eq!(list["items"][0]["name"], json!(name));
        after.remove("items");
        let mut now = crate::loot::written(&app).await;
        now.remove("items");
        assert_eq!(now, after);
    }

    async fn a_resume_takes_no_new_data(engine) {
        let app = TestApp::new(engine).await;
        let key = DeviceKey::new();
        let body = |data: Value| json!({"client_id": "demo-spa", "data": data});
        key.post(&app, "/v1/guests", &body(json!({"cart": 1}))).send().await.expect(201);
        let back = key.post(&app, "/v1/guests", &body(json!({"cart": 2, "more": true}))).send().await.expect(200).json();
        assert_eq!(back["user"]["data"], json!({"cart": 1}), "what is there is not overwritten by a call that only meant to come back");
        // wrong data is refused all the same
        key.post(&app, "/v1/guests", &body(json!([]))).send().await.refused(400, "not_an_object");
    }
}
