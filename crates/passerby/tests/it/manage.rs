//! What back ends do with users by API key, and that nobody else does.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Guest, TestApp},
    keys::DeviceKey,
    on_both,
};

const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
const GUIDE: &str = "acceptance-guide-key-0123456789abcdef012345678";
const SECRET: &str = "demo-web-secret-0123456789abcdef";
const OTHER: &str = "33333333-3333-4333-8333-333333333333";
const OTHERS_KEY: &str = "other-tenants-key-0123456789abcdef0123456789";
const NOBODY: &str = "018f2d5e-0000-7abc-8def-0123456789ab";

/// Every route of the management API with the scope that it needs, about ids that belong to nobody.
const ROUTES: [(&str, &str, &str); 24] = [
    ("GET", "/v1/users", "users:read"),
    ("POST", "/v1/users", "users:write"),
    ("GET", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", "users:read"),
    ("PATCH", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", "users:write"),
    ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab", "users:write"),
    ("PUT", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/hold", "users:write"),
    ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/hold", "users:write"),
    ("GET", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/sessions", "users:read"),
    ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/sessions/x", "sessions:write"),
    ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/revoke-all", "sessions:write"),
    ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/identifiers", "users:write"),
    ("DELETE", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/identifiers/x", "users:write"),
    ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/password", "users:write"),
    ("POST", "/v1/users/018f2d5e-0000-7abc-8def-0123456789ab/password-link", "users:write"),
    ("POST", "/v1/transfers/018f2d5e-0000-7abc-8def-0123456789ab/confirm", "transfers:write"),
    ("GET", "/v1/templates", "templates:read"),
    ("GET", "/v1/events", "events:read"),
    ("GET", "/v1/outbox/dead", "events:read"),
    ("GET", "/v1/api-keys", "keys:read"),
    ("POST", "/v1/api-keys", "keys:write"),
    ("GET", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", "keys:read"),
    ("PATCH", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", "keys:write"),
    ("DELETE", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab", "keys:write"),
    ("POST", "/v1/api-keys/018f2d5e-0000-7abc-8def-0123456789ab/rotate", "keys:write"),
];

fn by(app: &TestApp, method: &str, path: &str) -> Call {
    app.call(method, path).bearer(ROOT)
}

async fn look(app: &TestApp, id: &str) -> Value {
    by(app, "GET", &format!("/v1/users/{id}")).send().await.expect(200).json()
}

/// What a management call may change, as far as answers tell.
async fn everything(app: &TestApp) -> (Value, Value) {
    let get = |path: &'static str| async move { by(app, "GET", path).send().await.expect(200).json() };
    (get("/v1/users?limit=100").await, get("/v1/api-keys?limit=100").await)
}

/// With a body that would be taken.
fn with_body(call: Call, method: &str, path: &str) -> Call {
    match (method, path) {
        ("POST", "/v1/api-keys") => call.json(&json!({"name": "x", "scopes": []})),
        ("POST", "/v1/users") | ("PATCH", _) => call.json(&json!({})),
        ("POST", path) if path.ends_with("/identifiers") => call.json(&json!({"email": "a@example.com"})),
        ("POST", path) if path.ends_with("/password") => call.json(&json!({"password": "purple monkey dishwasher"})),
        ("POST", path) if path.ends_with("/password-link") => call.json(&json!({"client_id": "demo-spa"})),
        _ => call,
    }
}

async fn second_tenant(engine: crate::app::Engine) -> TestApp {
    TestApp::with(engine, |text| {
        format!(
            "{text}\n[[tenants]]\nid = \"{OTHER}\"\nname = \"other\"\n[[tenants.clients]]\nid = \"other-app\"\n\
             type = \"native\"\npersistence = \"eager\"\n[[tenants.api_keys]]\nname = \"other\"\nkey = \"{OTHERS_KEY}\"\n"
        )
    })
    .await
}

on_both! {
    async fn line_12_no_credential_but_an_api_key_manages(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let floating = app.guest_of("demo-game").await;
        let cookie = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).send().await;
        let cookie = cookie.expect(201).cookies()["passerby_session"].clone();
        let device = DeviceKey::new();
        let bound = device.post(&app, "/v1/guests", &json!({"client_id": "demo-spa", "bind_tokens": true})).send().await;
        let bound = Guest::of(&bound.expect(201).json());
        let machine = app.call("POST", "/oauth2/token").basic("demo-web", SECRET).form(&[("grant_type", "client_credentials")]);
        let machine = machine.send().await.expect(200).json()["access_token"].as_str().unwrap().to_owned();
        let before = everything(&app).await;
        let made_up = format!("pbk_abcdefgh_{}", "A".repeat(43));
        for (method, path, _) in ROUTES {
            let call = || with_body(app.call(method, path), method, path);
            for (what, token) in [
                ("access", &guest.access), ("refresh", &guest.refresh), ("session", &guest.session_token),
                ("floating access", &floating.access), ("floating session", &floating.session_token),
                ("cookie's value", &cookie), ("bound access", &bound.access), ("bound refresh", &bound.refresh),
                ("client's own", &machine), ("client's secret", &SECRET.to_owned()), ("made up", &made_up),
            ] {
                let answer = call().bearer(token).send().await;
                assert_eq!(answer.refused(401, "invalid_token")["code"], "invalid_token", "{what} {method} {path}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what} {method} {path}");
            }
            let proven = with_body(device.with_token(&app, method, path, &bound.access), method, path);
            proven.send().await.refused(401, "invalid_token");
            let as_dpop = call().header("authorization", &format!("DPoP {ROOT}")).header("dpop", &device.proof(&app, method, path, Some(ROOT)));
            as_dpop.send().await.refused(401, "invalid_token");
            call().basic("demo-web", SECRET).send().await.refused(401, "invalid_token");
            call().cookie(&cookie).header("origin", "http://localhost:8080").send().await.refused(401, "unauthenticated");
            call().send().await.refused(401, "unauthenticated");
            // nor is anybody told what is wrong with a body, or which ids there are
            app.call(method, path).bearer(&guest.access).raw(b"{".to_vec(), "text/plain").send().await.refused(401, "invalid_token");
            let own = path.replace(NOBODY, &guest.id);
            with_body(app.call(method, &own), method, path).bearer(&guest.access).send().await.refused(401, "invalid_token");
            with_body(app.call(method, &own), method, path).bearer(GUIDE).send().await.refused(403, "insufficient_scope");
        }
        assert_eq!(everything(&app).await, before, "and nothing was written");
        app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
    }

    async fn line_12_each_scope_opens_its_own_calls_and_no_other(engine) {
        let app = TestApp::new(engine).await;
        for scope in ["users:read", "users:write", "sessions:write", "keys:read", "keys:write", "epochs:read", "tokens:introspect"] {
            let made = by(&app, "POST", "/v1/api-keys").json(&json!({"name": scope, "scopes": [scope]})).send().await.expect(201).json();
            let key = made["key"].as_str().unwrap();
            for (method, path, needed) in ROUTES {
                let answer = with_body(app.call(method, path), method, path).bearer(key).send().await;
                if scope == needed {
                    assert!(matches!(answer.status.as_u16(), 200 | 201 | 404), "{scope} {method} {path}: {}", answer.text());
                } else {
                    answer.refused(403, "insufficient_scope");
                    assert!(answer.header("www-authenticate").contains("insufficient_scope"), "{method} {path}");
                }
            }
            let introspection = app.call("POST", "/oauth2/introspect").bearer(key).form(&[("token", "x")]).send().await;
            introspection.expect(if scope == "tokens:introspect" { 200 } else { 403 });
        }
        // and by path and methods, as the contract writes them
        let body = json!({"name": "paths", "permissions": [{"path": "/v1/users/", "methods": ["GET"]}]});
        let made = by(&app, "POST", "/v1/api-keys").json(&body).send().await.expect(201).json();
        assert_eq!(made["permissions"], json!([{"path": "/v1/users", "methods": ["GET"]}]));
        let key = made["key"].as_str().unwrap();
        for (method, path, _) in ROUTES {
            let answer = with_body(app.call(method, path), method, path).bearer(key).send().await;
            let may = method == "GET" && path.starts_with("/v1/users");
            assert_eq!(answer.status.as_u16() != 403, may, "{method} {path}: {}", answer.text());
        }
        app.call("HEAD", "/v1/users").bearer(key).send().await.expect(200);
        app.call("POST", "/oauth2/introspect").bearer(key).form(&[("token", "x")]).send().await.expect(403);
    }

    async fn line_10_a_key_reaches_its_own_tenant_only(engine) {
        let app = second_tenant(engine).await;
        let guest = app.guest().await;
        let theirs = app.guest_of("other-app").await;
        let path = format!("/v1/users/{}", guest.id);
        app.get(&path).bearer(OTHERS_KEY).send().await.refused(404, "not_found");
        app.call("DELETE", &path).bearer(OTHERS_KEY).send().await.refused(404, "not_found");
        app.call("PATCH", &path).bearer(OTHERS_KEY).json(&json!({"held": true})).send().await.refused(404, "not_found");
        app.call("POST", &format!("{path}/revoke-all")).bearer(OTHERS_KEY).send().await.refused(404, "not_found");
        let list = app.get("/v1/users").bearer(OTHERS_KEY).send().await.expect(200).json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!(list["items"][0]["id"], json!(theirs.id));
        app.get(&format!("/t/{OTHER}{path}")).bearer(ROOT).send().await.refused(401, "invalid_token");
        app.get(&format!("/t/{OTHER}/v1/users")).bearer(OTHERS_KEY).send().await.expect(200);
        let made = by(&app, "POST", "/v1/api-keys").json(&json!({"name": "ours"})).send().await.expect(201).json();
        let key = made["key"].as_str().unwrap();
        app.get(&format!("/t/{OTHER}/v1/users")).bearer(key).send().await.refused(401, "invalid_token");
        app.get(&format!("/v1/users/{}", theirs.id)).bearer(key).send().await.refused(404, "not_found");
        let id = made["id"].as_str().unwrap();
        for method in ["GET", "DELETE"] {
            app.call(method, &format!("/v1/api-keys/{id}")).bearer(OTHERS_KEY).send().await.refused(404, "not_found");
        }
        app.get(&path).bearer(key).send().await.expect(200);
    }

    async fn a_user_is_made_looked_at_changed_and_removed(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"data": {"a": 1}, "server_data": {"plan": "x"}, "entry": "import"});
        let made = by(&app, "POST", "/v1/users").json(&body).send().await;
        assert_eq!(made.header("etag"), "\"1\"");
        let made = made.expect(201).json();
        assert_eq!((&made["data"], &made["server_data"], &made["entry"]), (&json!({"a": 1}), &json!({"plan": "x"}), &json!("import")));
        assert_eq!((&made["kind"], &made["version"], &made["stored"]), (&json!("anonymous"), &json!(1), &json!(true)));
        assert_eq!((&made["held"], &made["epoch"], &made["client_id"]), (&json!(false), &json!(0), &Value::Null));
        assert_eq!(made["expires_at"], "2026-12-21T00:00:00.000Z", "no session: the app's last change and the idle time");
        let id = made["id"].as_str().unwrap();
        assert_eq!(look(&app, id).await, made);
        for same in [format!("anon@{id}"), format!("anon%7C{id}")] {
            assert_eq!(look(&app, &same).await, made, "{same}");
        }
        // ids of one's own, shown as they were written, taken once
        for own in ["player one/7", "anon@nobody", "2f0c7c1e-6d0e-4a55-9a52-0e6d1b1a2c3d"] {
            let made = by(&app, "POST", "/v1/users").json(&json!({"id": own})).send().await.expect(201).json();
            assert_eq!((&made["id"], &made["server_data"]), (&json!(own), &json!({})));
            let path = own.replace('/', "%2F").replace(' ', "%20");
            assert_eq!(look(&app, &path).await, made);
            let again = by(&app, "POST", "/v1/users").json(&json!({"id": own})).send().await;
            assert_eq!(again.refused(409, "user_id_taken")["field"], "/id");
            let guest = app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": own})).send().await;
            guest.refused(409, "user_id_taken");
        }
        let path = format!("/v1/users/{id}");
        by(&app, "DELETE", &path).send().await.expect(204);
        by(&app, "DELETE", &path).send().await.refused(404, "not_found");
        by(&app, "GET", &path).send().await.refused(404, "not_found");
        by(&app, "PATCH", &path).json(&json!({})).send().await.refused(404, "not_found");
        by(&app, "POST", "/v1/users").json(&json!({"id": id})).send().await.refused(409, "user_id_taken");
        assert_eq!(app.users().await, 3);
        by(&app, "POST", "/v1/users").send().await.expect(201);
    }

    async fn a_patch_merges_all_or_nothing_and_obeys_if_match(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let path = format!("/v1/users/{}", guest.id);
        let patch = |body: &Value| by(&app, "PATCH", &path).raw(body.to_string().into_bytes(), "application/merge-patch+json");
        let user = patch(&json!({"data": {"a": {"b": 1, "c": 2}}, "server_data": {"plan": "gold", "n": 1}, "held": true})).send().await.expect(200).json();
        assert_eq!((&user["version"], &user["held"]), (&json!(2), &json!(true)));
        let user = patch(&json!({"data": {"a": {"b": null}}, "server_data": {"n": null}})).send().await;
        assert_eq!(user.header("etag"), "\"3\"");
        let user = user.expect(200).json();
        assert_eq!((&user["data"], &user["server_data"], &user["held"]), (&json!({"a": {"c": 2}}), &json!({"plan": "gold"}), &json!(true)));
        // the version guards either half
        patch(&json!({"server_data": {"plan": "late"}})).header("if-match", "\"2\"").send().await.refused(412, "precondition_failed");
        let user = patch(&json!({"server_data": {"plan": "lead"}})).header("if-match", "\"3\"").send().await.expect(200).json();
        assert_eq!((&user["version"], &user["server_data"]), (&json!(4), &json!({"plan": "lead"})));
        assert_eq!(patch(&json!({})).send().await.expect(200).json()["version"], 4, "nothing to do");
        patch(&json!({})).header("if-match", "\"3\"").send().await.refused(412, "precondition_failed");
        let user = patch(&json!({"data": null, "server_data": null, "held": null})).send().await.expect(200).json();
        assert_eq!((&user["data"], &user["server_data"], &user["held"]), (&json!({}), &json!({}), &json!(false)));
        // one bad half and nothing happens
        let long = "x".repeat(40_000);
        let refusals: [(Value, u16, &str, &str); 9] = [
            (json!({"kind": "regular"}), 400, "invalid_value", "/kind"),
            (json!({"epoch": 7}), 400, "invalid_value", "/epoch"),
            (json!({"a/b": 7}), 400, "invalid_value", "/a~1b"),
            (json!({"held": "yes"}), 400, "invalid_value", "/held"),
            (json!({"data": 7}), 400, "not_an_object", "/data"),
            (json!({"data": {"ok": 1}, "server_data": [1]}), 400, "not_an_object", "/server_data"),
            (json!({"data": {"ok": 1}, "server_data": {"x": {"__proto__": 1}}}), 422, "reserved_key", "/server_data/x/__proto__"),
            (json!({"data": {"ok": 1}, "server_data": {"x": long}}), 413, "data_too_large", "/server_data"),
            (json!([]), 400, "invalid_value", ""),
        ];
        for (body, status, code, field) in refusals {
            let problem = patch(&body).send().await.refused(status, code);
            assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{code}");
        }
        assert_eq!(look(&app, &guest.id).await["data"], json!({}));
        for (media, status) in [("application/json", 200), ("application/json-patch+json", 415), ("text/plain", 415)] {
            by(&app, "PATCH", &path).raw(b"{}".to_vec(), media).send().await.expect(status);
        }
        by(&app, "PATCH", &path).raw(br#"{"held":true,"held":false}"#.to_vec(), "application/json").send().await.refused(400, "duplicate_member");
        for (body, field) in [
            (json!({"id": ""}), "/id"), (json!({"id": "a\u{7}"}), "/id"), (json!({"id": "x".repeat(256)}), "/id"), (json!({"id": 7}), "/id"),
            (json!({"entry": "x".repeat(65)}), "/entry"), (json!({"client_id": "demo-spa"}), "/client_id"),
        ] {
            assert_eq!(by(&app, "POST", "/v1/users").json(&body).send().await.refused(400, "invalid_value")["field"], field);
        }
        assert_eq!(by(&app, "POST", "/v1/users").json(&json!({"data": []})).send().await.refused(400, "not_an_object")["field"], "/data");
    }

    async fn line_37_what_the_application_keeps_is_out_of_a_guests_reach(engine) {
        let app = TestApp::new(engine).await;
        let body = json!({"client_id": "demo-spa", "data": {"x": 1}, "server_data": {"plan": "mine"}, "held": true});
        let guest = Guest::of(&app.post("/v1/guests", &body).send().await.expect(201).json());
        let path = format!("/v1/users/{}", guest.id);
        let kept = json!({"plan": "free", "secret": "canary"});
        by(&app, "PATCH", &path).json(&json!({"server_data": kept})).send().await.expect(200);
        let merge = app.call("PATCH", "/v1/me/data").bearer(&guest.access);
        merge.raw(br#"{"server_data":{"plan":"gold"},"held":true}"#.to_vec(), "application/merge-patch+json").send().await.expect(200);
        let operations = json!({"operations": [{"op": "set", "path": "/server_data/plan", "value": "gold"}]});
        app.post("/v1/me/data/operations", &operations).bearer(&guest.access).send().await.expect(200);
        let json_patch = app.call("PATCH", "/v1/me/data").bearer(&guest.access);
        let up = br#"[{"op":"test","path":"/../server_data","value":1}]"#.to_vec();
        json_patch.raw(up, "application/json-patch+json").send().await.expect(409);
        let user = look(&app, &guest.id).await;
        assert_eq!((&user["server_data"], &user["held"]), (&kept, &json!(false)));
        assert_eq!(user["data"]["server_data"], json!({"plan": "gold"}), "a member of their own data, no more");
        for answer in [
            app.get("/v1/me").bearer(&guest.access).send().await,
            app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})).send().await,
            app.get("/oauth2/userinfo").bearer(&guest.access).send().await,
        ] {
            assert!(!answer.expect(200).text().contains("canary"), "{}", answer.text());
        }
    }

    async fn pages_are_stable_while_others_come_and_go(engine) {
        let app = TestApp::new(engine).await;
        let mut first = Vec::new();
        for _ in 0..23 {
            first.push(app.guest().await.id);
            app.advance(Duration::from_millis(1));
        }
        let (mut seen, mut path, mut pages) = (Vec::new(), "/v1/users?limit=5".to_owned(), 0);
        loop {
            let page = by(&app, "GET", &path).send().await.expect(200).json();
            let ids: Vec<String> = page["items"].as_array().unwrap().iter().map(|u| u["id"].as_str().unwrap().to_owned()).collect();
            assert!(ids.len() == 5 || page["cursor"].is_null());
            seen.extend(ids);
            pages += 1;
            let Some(cursor) = page["cursor"].as_str() else { break };
            path = format!("/v1/users?limit=5&cursor={cursor}");
            // some come, and of those that were listed one goes
            app.advance(Duration::from_millis(10));
            for _ in 0..3 { app.guest().await; }
            by(&app, "DELETE", &format!("/v1/users/{}", seen.last().unwrap())).send().await.expect(204);
        }
        first.reverse();
        assert_eq!(seen, first, "each once, newest first, and nobody who came later");
        assert_eq!(pages, 5);
        let all = by(&app, "GET", "/v1/users").send().await.expect(200).json();
        assert_eq!(all["items"].as_array().unwrap().len(), 25);
        let keys = by(&app, "GET", "/v1/api-keys").send().await.expect(200).json();
        assert_eq!(keys, json!({"items": [], "cursor": null}));
        for (query, field) in [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("cursor=%ff", "")] {
            let problem = by(&app, "GET", &format!("/v1/users?{query}")).send().await;
            problem.expect(400);
            assert_eq!(problem.json()["field"].as_str().unwrap_or_default(), field, "{query}");
        }
        by(&app, "GET", "/v1/users?limit=1&limit=2").send().await.refused(400, "invalid_request");
        let cursor = all["cursor"].as_str().unwrap();
        by(&app, "GET", &format!("/v1/api-keys?cursor={cursor}")).send().await.refused(400, "invalid_value");
    }

    async fn line_19_sessions_are_ended_and_everything_revoked_at_once(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let floating = app.guest_of("demo-game").await;
        let device = DeviceKey::new();
        let kept = Guest::of(&device.ensure(&app).await.expect(201).json());
        let path = format!("/v1/users/{}", guest.id);
        let sessions = by(&app, "GET", &format!("{path}/sessions")).send().await.expect(200).json();
        assert_eq!((&sessions["items"][0]["id"], &sessions["cursor"]), (&json!(guest.session), &Value::Null));
        assert_eq!(sessions["items"][0]["current"], false);
        for id in ["x", NOBODY, &kept.session] {
            by(&app, "DELETE", &format!("{path}/sessions/{id}")).send().await.refused(404, "not_found");
        }
        by(&app, "DELETE", &format!("{path}/sessions/{}", guest.session)).send().await.expect(204);
        by(&app, "DELETE", &format!("{path}/sessions/{}", guest.session)).send().await.refused(404, "not_found");
        all_dead(&app, &guest).await;
        assert_eq!(by(&app, "GET", &format!("{path}/sessions")).send().await.expect(200).json()["items"], json!([]));

        let revoke = |id: String| by(&app, "POST", &format!("/v1/users/{id}/revoke-all")).send();
        assert_eq!(revoke(kept.id.clone()).await.expect(200).json(), json!({"epoch": 1}));
        all_dead(&app, &kept).await;
        let back = Guest::of(&device.ensure(&app).await.expect(200).json());
        assert_eq!(back.id, kept.id, "the device key still opens its guest");
        let notices = app.get("/v1/me/notices").bearer(&back.access).send().await.expect(200).json();
        assert!(notices["items"].as_array().unwrap().iter().any(|n| n["kind"] == "sessions.revoked"), "{notices}");
        // many at once: each raises, none is lost
        let (a, b, c) = tokio::join!(revoke(kept.id.clone()), revoke(kept.id.clone()), revoke(kept.id.clone()));
        let raised: HashSet<i64> = [a, b, c].iter().map(|r| r.expect(200).json()["epoch"].as_i64().unwrap()).collect();
        assert_eq!(raised, [2, 3, 4].into());
        assert_eq!(look(&app, &kept.id).await["epoch"], 4);
        all_dead(&app, &back).await;

        let erased = app.guest().await;
        by(&app, "DELETE", &format!("/v1/users/{}", erased.id)).send().await.expect(204);
        all_dead(&app, &erased).await;
        // who floats has no row, and is none of these
        revoke(floating.id.clone()).await.refused(404, "not_found");
        app.get("/v1/me").bearer(&floating.access).send().await.expect(200);
    }

    async fn holds(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let path = format!("/v1/users/{}/hold", guest.id);
        for _ in 0..2 {
            let held = by(&app, "PUT", &path).send().await.expect(200).json();
            assert_eq!((&held["held"], &held["version"]), (&json!(true), &json!(1)));
        }
        assert_eq!(look(&app, &guest.id).await["held"], true);
        for _ in 0..2 {
            assert_eq!(by(&app, "DELETE", &path).send().await.expect(200).json()["held"], false);
        }
        app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
    }

    async fn answers_hold_what_the_description_says(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let document = app.get("/openapi.json").send().await.expect(200).json();
        let user = look(&app, &guest.id).await;
        assert_eq!(user["client_id"], "demo-spa");
        for member in ["id", "kind", "data", "version", "created_at", "last_active_at", "expires_at", "stored"] {
            assert_eq!(user[member], guest.body["user"][member], "{member}");
        }
        let made = by(&app, "POST", "/v1/api-keys").json(&json!({"name": "x"})).send().await.expect(201).json();
        let mut key = made.clone();
        key.as_object_mut().unwrap().remove("key");
        let list = by(&app, "GET", "/v1/api-keys").send().await.expect(200).json();
        assert_eq!(list["items"], json!([key]));
        for (schema, answer) in [("ManagedUser", &user), ("ApiKey", &key), ("MadeApiKey", &made), ("ApiKeys", &list)] {
            let described = &document["components"]["schemas"][schema];
            let parts = described["allOf"].as_array().cloned().unwrap_or_else(|| vec![described.clone()]);
            let described: HashSet<&str> = parts.iter().flat_map(|p| p["properties"].as_object().unwrap().keys().map(String::as_str)).collect();
            let mut there: HashSet<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
            if schema == "ManagedUser" {
                // a guest has none of them
                let of_accounts = ["identifiers", "converted_at", "resolved_from"];
                assert!(of_accounts.iter().all(|member| there.insert(member)));
            }
            assert_eq!(described, there, "{schema}");
        }
        for (method, path, _) in ROUTES {
            let template = path.replace(&format!("/{NOBODY}"), "/{id}").replace("/sessions/x", "/sessions/{session}").replace("/identifiers/x", "/identifiers/{identifier}");
            let operation = &document["paths"][&template][method.to_lowercase()];
            assert_eq!(operation["security"], json!([{"api_key": []}]), "{method} {template}");
        }
    }
}

/// Nothing that was given to a guest is taken any more.
async fn all_dead(app: &TestApp, guest: &Guest) {
    let alive = |answer: &Answer| answer.status.is_success();
    let introspect = |token: &str| app.call("POST", "/oauth2/introspect").bearer(ROOT).form(&[("token", token)]).send();
    for token in [&guest.access, &guest.refresh, &guest.session_token] {
        assert_eq!(introspect(token).await.expect(200).json(), json!({"active": false}));
    }
    for path in ["/v1/me", "/v1/me/sessions", "/oauth2/userinfo"] {
        app.get(path).bearer(&guest.access).send().await.expect(401);
    }
    let refresh = json!({"client_id": "demo-spa", "refresh_token": guest.refresh});
    assert!(!alive(&app.post("/v1/refresh", &refresh).send().await));
    let resume = json!({"client_id": "demo-spa", "session_token": guest.session_token});
    assert!(!alive(&app.post("/v1/guests", &resume).send().await));
}
