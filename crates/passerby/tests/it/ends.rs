//! Whatever ends a session or a guest ends every token of it, everywhere and at once.

use serde_json::{Value, json};

use crate::{
    app::{Guest, TestApp},
    credentials::{ROOT, SECRET},
    keys::DeviceKey,
    on_both,
};

/// A guest on two devices: the first with a key, the second with tokens of another client.
struct Pair {
    key: DeviceKey,
    first: Guest,
    second: Guest,
    /// A hand-off code of the first session.
    code: String,
    recovery: String,
}

impl Pair {
    async fn new(app: &TestApp) -> Self {
        let key = DeviceKey::new();
        let first = Guest::of(&key.ensure(app).await.expect(201).json());
        let native = json!({"client_id": "demo-native"});
        let second = Guest::of(&key.post(app, "/v1/guests", &native).send().await.expect(200).json());
        assert_eq!(first.id, second.id);
        let by = |path: &str| app.call("POST", path).bearer(&first.access);
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let code = text(&by("/v1/me/hand-off").send().await.expect(201).json()["code"]);
        let recovery = text(&by("/v1/me/recovery-code").send().await.expect(201).json()["code"]);
        Self { key, first, second, code, recovery }
    }
}

/// Offers every token of a session at every place that would take it; how many were taken, of how many.
async fn living(app: &TestApp, client: &str, guest: &Guest) -> (usize, usize) {
    let (access, session, refresh) = (&guest.access, &guest.session_token, &guest.refresh);
    let mut taken = Vec::new();
    for call in [
        app.get("/v1/me").bearer(access),
        app.get("/v1/me/export").bearer(access),
        app.get("/v1/me/hand-off").bearer(access),
        app.get("/v1/me/device-keys").bearer(access),
        app.call("PATCH", "/v1/me/data").bearer(access).raw(b"{\"a\":1}".to_vec(), "application/merge-patch+json"),
        app.get("/oauth2/userinfo").bearer(access),
        app.post("/v1/guests", &json!({"client_id": client})).bearer(access),
        app.post("/v1/guests", &json!({"client_id": client, "session_token": session})),
        app.post("/v1/guests", &json!({"client_id": client, "session_token": session, "persist": true})),
        app.post("/anonymous/token", &json!({"client_id": client, "session_token": session})),
        app.post("/v1/refresh", &json!({"client_id": client, "refresh_token": refresh})),
        app.call("POST", "/oauth2/token").form(&[
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", refresh),
        ]),
    ] {
        let answer = call.send().await;
        assert!(answer.status.is_success() || [400, 401].contains(&answer.status.as_u16()), "{}", answer.text());
        taken.push(answer.status.is_success());
    }
    for token in [access, session, refresh] {
        let told = app.call("POST", "/oauth2/introspect").basic("demo-web", SECRET).form(&[("token", token)]);
        taken.push(told.send().await.expect(200).json()["active"] == true);
    }
    (taken.iter().filter(|taken| **taken).count(), taken.len())
}

/// Whether a code still lets somebody begin.
async fn opens(app: &TestApp, path: &str, code: &str) -> bool {
    let answer = app.post(path, &json!({"client_id": "demo-spa", "code": code})).send().await;
    if !answer.status.is_success() {
        answer.refused(400, "invalid_code");
    }
    answer.status.is_success()
}

/// How it ends; whether the second session ends with the first; whether the guest is gone.
const ENDS: [(&str, bool, bool); 11] = [
    ("logout", false, false),
    ("ended by the second", false, false),
    ("ended by an API key", false, false),
    ("revoked by its refresh token", false, false),
    ("revoked by its session token", false, false),
    ("its device key removed", true, false),
    ("signed out everywhere", true, false),
    ("revoked by an API key", true, false),
    ("recovered elsewhere", true, false),
    ("erased", true, true),
    ("erased by an API key", true, true),
];

async fn end(app: &TestApp, how: &str, pair: &Pair) {
    let (first, second) = (&pair.first, &pair.second);
    let user = format!("/v1/users/{}", first.id);
    let revoke = |token: &str| app.call("POST", "/oauth2/revoke").form(&[("client_id", "demo-spa"), ("token", token)]);
    let (call, status) = match how {
        "logout" => (app.post("/v1/logout", &json!({})).bearer(&first.access), 204),
        "ended by the second" => {
            (app.call("DELETE", &format!("/v1/me/sessions/{}", first.session)).bearer(&second.access), 204)
        }
        "ended by an API key" => (app.call("DELETE", &format!("{user}/sessions/{}", first.session)).bearer(ROOT), 204),
        "revoked by its refresh token" => (revoke(&first.refresh), 200),
        "revoked by its session token" => (revoke(&first.session_token), 200),
        // by somebody else of the guest's: the caller's own unbound session would stay
        "its device key removed" => {
            let other = DeviceKey::new();
            other.call(app, "POST", "/v1/me/device-keys").bearer(&first.access).send().await.expect(201);
            let own = json!({"client_id": "demo-game"});
            let own = Guest::of(&other.post(app, "/v1/guests", &own).send().await.expect(200).json());
            (app.call("DELETE", &format!("/v1/me/device-keys/{}", pair.key.thumbprint())).bearer(&own.access), 204)
        }
        "signed out everywhere" => (app.call("DELETE", "/v1/me/sessions").bearer(&first.access), 204),
        "revoked by an API key" => (app.call("POST", &format!("{user}/revoke-all")).bearer(ROOT), 200),
        "recovered elsewhere" => {
            (app.post("/v1/guests/recover", &json!({"client_id": "demo-game", "code": pair.recovery})), 200)
        }
        "erased" => (app.call("DELETE", "/v1/me").bearer(&first.access), 204),
        "erased by an API key" => (app.call("DELETE", &user).bearer(ROOT), 204),
        other => unreachable!("{other}"),
    };
    call.send().await.expect(status);
}

on_both! {
    async fn line_19_every_end_ends_every_token_at_every_place(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        for (how, both, gone) in ENDS {
            let pair = Pair::new(&app).await;
            let all = living(&app, "demo-spa", &pair.first).await;
            assert_eq!(all, (15, 15), "{how}: before");
            end(&app, how, &pair).await;
            for at in [&app, &other] {
                assert_eq!(living(at, "demo-spa", &pair.first).await, (0, 15), "{how}: the first");
                let second = if both { 0 } else { 15 };
                assert_eq!(living(at, "demo-native", &pair.second).await, (second, 15), "{how}: the second");
            }
            // what the session had begun ends with it, what is the guest's only with the guest
            assert!(!opens(&app, "/v1/guests/hand-off", &pair.code).await, "{how}");
            app.advance(std::time::Duration::from_secs(60));
            let back = pair.key.ensure(&app).await;
            match how {
                "erased" | "erased by an API key" => drop(back.refused(409, "guest_ended")),
                "its device key removed" | "recovered elsewhere" => assert_ne!(Guest::of(&back.expect(201).json()).id, pair.first.id),
                _ => assert_eq!(Guest::of(&back.expect(200).json()).id, pair.first.id, "{how}"),
            }
            let spent = gone || how == "recovered elsewhere";
            assert_eq!(opens(&app, "/v1/guests/recover", &pair.recovery).await, !spent, "{how}");
            app.advance(std::time::Duration::from_secs(600));
        }
    }

    async fn line_19_a_cookie_ends_too(engine) {
        let app = TestApp::new(engine).await;
        for how in ["logout", "everywhere", "erased", "by an API key"] {
            let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
            let id = Guest::of(&made.expect(201).json()).id;
            let cookie = made.cookies()["passerby_session"].clone();
            let by = |method: &str, path: &str| app.call(method, path).cookie(&cookie).header("origin", "http://localhost:9011");
            let answer = match how {
                "logout" => by("POST", "/v1/logout").json(&json!({})).send().await,
                "everywhere" => by("DELETE", "/v1/me/sessions?force=true").send().await,
                "erased" => by("DELETE", "/v1/me").send().await,
                _ => app.call("POST", &format!("/v1/users/{id}/revoke-all")).bearer(ROOT).send().await,
            };
            assert!(answer.status.is_success(), "{how}: {}", answer.text());
            assert_eq!(answer.header("set-cookie").contains("Max-Age=0"), how != "by an API key", "{how}");
            app.get("/v1/me").cookie(&cookie).send().await.refused(401, "session_ended");
            by("POST", "/v1/me/hand-off").send().await.refused(401, "session_ended");
        }
    }

    async fn line_14_parallel_refreshes_of_a_bound_session_give_one_lineage(engine) {
        let app = TestApp::new(engine).await;
        let other = app.replica().await;
        let key = DeviceKey::new();
        let bind = json!({"client_id": "demo-spa", "bind_tokens": true});
        let guest = Guest::of(&key.post(&app, "/v1/guests", &bind).send().await.expect(201).json());
        let body = json!({"client_id": "demo-spa", "refresh_token": guest.refresh});
        let calls: Vec<_> = (0..24)
            .map(|n| tokio::spawn(key.post(if n % 2 == 0 { &app } else { &other }, "/v1/refresh", &body).send()))
            .collect();
        let mut next = std::collections::HashSet::new();
        for call in calls {
            next.insert(Guest::of(&call.await.unwrap().expect(200).json()).refresh);
        }
        assert_eq!(next.len(), 1, "one successor");
        // a lost answer is asked for again with a proof of its own, and only so
        let again = key.post(&app, "/v1/refresh", &body).send().await.expect(200).json();
        assert!(next.contains(again["refresh_token"].as_str().unwrap()));
        app.post("/v1/refresh", &body).send().await.refused(400, "invalid_dpop_proof");
        // reuse by whoever has no key ends nothing; by its key, late and of an older generation, it does
        let last = again["refresh_token"].as_str().unwrap().to_owned();
        let renew = |token: &str| key.post(&app, "/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": token})).send();
        let newer = Guest::of(&renew(&last).await.expect(200).json());
        let newest = Guest::of(&renew(&newer.refresh).await.expect(200).json());
        app.advance(std::time::Duration::from_secs(11));
        app.post("/v1/refresh", &body).send().await.refused(400, "invalid_dpop_proof");
        let thief = DeviceKey::new();
        thief.post(&app, "/v1/refresh", &body).send().await.refused(400, "invalid_dpop_proof");
        key.with_token(&app, "GET", "/v1/me", &newest.access).send().await.expect(200);
        renew(&guest.refresh).await.expect(401);
        key.with_token(&app, "GET", "/v1/me", &newest.access).send().await.refused(401, "session_ended");
    }
}
