//! Cookies, cross-site requests, CORS, headers (api.md "Cookies and CORS"; security checklist 1, 2, 45).

use serde_json::{Value, json};

use crate::{app::TestApp, on_both};

const SPA: &str = "http://localhost:8080";

on_both! {
    async fn line_45_a_cookie_session(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).header("origin", SPA).send().await;
        let body = made.expect(201).json();
        assert!(body.get("access_token").is_none_or(Value::is_null));
        let set = made.header("set-cookie").to_owned();
        for part in ["HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=31536000"] { assert!(set.contains(part), "{set}"); }
        assert!(!set.contains("Secure"), "on http: {set}");
        let cookie = made.cookies()["passerby_session"].clone();
        assert_eq!(app.get("/v1/me").cookie(&cookie).send().await.expect(200).json()["id"], body["user"]["id"]);
        // a change needs an origin that is ours or registered
        let change = |origin: Option<&str>, site: Option<&str>| {
            let mut call = app.post("/v1/me/data/operations", &json!({"operations": [{"op": "increment", "path": "/n", "by": 1}]})).cookie(&cookie);
            if let Some(o) = origin { call = call.header("origin", o); }
            if let Some(s) = site { call = call.header("sec-fetch-site", s); }
            call
        };
        change(Some(SPA), None).send().await.expect(200);
        change(Some("http://localhost:9011"), None).send().await.expect(200);
        change(None, Some("same-origin")).send().await.expect(200);
        change(None, None).send().await.refused(403, "cross_site");
        change(None, Some("cross-site")).send().await.refused(403, "cross_site");
        change(Some("https://evil.example"), None).send().await.refused(403, "cross_site");
        change(Some("null"), Some("cross-site")).send().await.refused(403, "cross_site");
        change(Some("http://localhost:8081"), None).send().await.refused(403, "cross_site");
        for path in ["/v1/logout", "/v1/me"] {
            let method = if path == "/v1/me" { "DELETE" } else { "POST" };
            app.call(method, path).json(&json!({})).cookie(&cookie).header("origin", "https://evil.example").send().await.refused(403, "cross_site");
        }
        // a form post from elsewhere is not JSON
        app.call("POST", "/v1/logout").cookie(&cookie).header("origin", SPA).form(&[("a", "b")]).send().await.refused(415, "unsupported_media_type");
        assert_eq!(app.get("/v1/me").cookie(&cookie).send().await.json()["data"]["n"], 3);
        // resumed by cookie: with tokens on request, and for another first-party client a session of its own, always the same
        let tokens = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).cookie(&cookie).header("origin", SPA).send().await.expect(200).json();
        assert_eq!((&tokens["user"]["id"], &tokens["session"]["id"]), (&body["user"]["id"], &body["session"]["id"]));
        assert!(tokens["refresh_token"].is_string());
        let native = || app.post("/v1/guests", &json!({"client_id": "demo-game"})).cookie(&cookie).header("sec-fetch-site", "same-origin").send();
        let (one, two) = (native().await.expect(200).json(), native().await.expect(200).json());
        assert_eq!(one["user"]["id"], body["user"]["id"]);
        assert_eq!(one["session"]["id"], two["session"]["id"]);
        assert_ne!(one["session"]["id"], body["session"]["id"]);
        assert_eq!(app.users().await, 1);
        // ended: cleared, and a creation goes on
        let out = app.post("/v1/logout", &json!({})).cookie(&cookie).header("origin", SPA).send().await;
        out.expect(204);
        assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
        for ended in [cookie.as_str(), "rubbish"] {
            let again = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).cookie(ended).header("origin", SPA).send().await;
            assert_ne!(again.expect(201).json()["user"]["id"], body["user"]["id"]);
            assert!(again.header("set-cookie").contains("Max-Age=0"));
        }
        app.get("/v1/me").cookie(&cookie).send().await.refused(401, "session_ended");
    }

    async fn line_16_sessions_of_a_cookie_end_with_it(engine) {
        let app = TestApp::new(engine).await;
        let same = |call: crate::app::Call| call.header("sec-fetch-site", "same-origin");
        let open = |client: &str, cookie: &str| same(app.post("/v1/guests", &json!({"client_id": client, "session_type": "cookie"})).cookie(cookie)).send();
        let root = same(app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"}))).send().await;
        let ends = root.expect(201).json()["session"]["expires_at"].clone();
        let root = root.cookies()["passerby_session"].clone();
        app.advance(std::time::Duration::from_hours(48));
        // hopping from client to client never lengthens the stay
        let child = open("demo-native", &root).await;
        assert_eq!((&child.expect(200).json()["session"]["expires_at"], &child.json()["session"]["session_type"]), (&ends, &json!("cookie")));
        let child = child.cookies()["passerby_session"].clone();
        let back = open("demo-spa", &child).await.expect(200).json();
        assert_eq!(back["session"]["expires_at"], ends);
        let grandchild = same(app.post("/v1/guests", &json!({"client_id": "demo-game"})).cookie(&child)).send().await.expect(200).json();
        assert_eq!(grandchild["session"]["expires_at"], ends);
        // and the first one takes them along
        same(app.post("/v1/logout", &json!({})).cookie(&root)).send().await.expect(204);
        app.get("/v1/me").cookie(&child).send().await.refused(401, "session_ended");
        app.get("/v1/me").bearer(grandchild["access_token"].as_str().unwrap()).send().await.refused(401, "session_ended");
    }

    async fn a_cookie_is_shared_over_the_tenants_own_origins_only(engine) {
        let app = TestApp::with(engine, |t| format!("{t}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nname = \"other\"\n[[tenants.clients]]\nid = \"other-app\"\nname = \"Other\"\ntype = \"spa\"\norigins = [\"https://t2.example\"]\n")).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).header("origin", SPA).send().await;
        let cookie = made.expect(201).cookies()["passerby_session"].clone();
        // another first-party client, from the page of the first
        let shared = app.post("/v1/guests", &json!({"client_id": "demo-native"})).cookie(&cookie).header("origin", SPA).send().await;
        assert_eq!(shared.expect(200).json()["user"]["id"], made.json()["user"]["id"]);
        // a page of another tenant of the host neither reads nor destroys it
        for path in ["/v1/me", "/v1/me/export", "/v1/me/sessions"] {
            app.get(path).cookie(&cookie).header("origin", "https://t2.example").send().await.refused(403, "cross_site");
            app.get(path).cookie(&cookie).header("origin", SPA).send().await.expect(200);
        }
        let theirs = app.post("/v1/guests", &json!({"client_id": "other-app"})).cookie(&cookie).header("origin", "https://t2.example").send().await;
        assert!(!theirs.header("set-cookie").contains("Max-Age=0"), "{}", theirs.header("set-cookie"));
        // without a cookie a client's own list holds
        app.post("/v1/guests", &json!({"client_id": "demo-native"})).header("origin", SPA).send().await.refused(403, "origin_not_allowed");
    }

    async fn a_cookie_on_https_has_the_host_prefix(engine) {
        let app = TestApp::with(engine, |t| t.replace("issuer   = \"http://localhost:9011\"", "issuer = \"https://id.example.com\"")).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"})).header("host", "id.example.com").send().await;
        let set = made.expect(201).header("set-cookie").to_owned();
        assert!(set.starts_with("__Host-passerby_session=") && set.contains("Secure"), "{set}");
        let cookie = made.cookies()["__Host-passerby_session"].clone();
        app.get("/v1/me").header("cookie", &format!("__Host-passerby_session={cookie}")).send().await.expect(200);
        app.get("/v1/me").header("cookie", &format!("passerby_session={cookie}")).send().await.expect(401);
    }

    async fn a_floating_guest_in_a_cookie(engine) {
        let app = TestApp::new(engine).await;
        let made = app.post("/v1/guests", &json!({"client_id": "demo-game", "session_type": "cookie"})).send().await;
        let cookie = made.expect(201).cookies()["passerby_session"].clone();
        assert_eq!(app.users().await, 0);
        app.call("PATCH", "/v1/me/data").cookie(&cookie).header("sec-fetch-site", "same-origin").raw(br#"{"a":1}"#.to_vec(), "application/merge-patch+json").send().await.expect(200);
        assert_eq!(app.users().await, 1);
        assert_eq!(app.get("/v1/me").cookie(&cookie).send().await.expect(200).json()["data"]["a"], 1);
    }

    async fn line_45_cors_names_registered_origins_also_on_errors(engine) {
        let app = TestApp::new(engine).await;
        let preflight = |origin: &str, path: &str| app.call("OPTIONS", path).header("origin", origin)
            .header("access-control-request-method", "POST").header("access-control-request-headers", "content-type,auth0-client");
        for path in ["/v1/guests", "/anonymous/token", "/v1/me/data", "/oauth2/token"] {
            let ok = preflight(SPA, path).send().await;
            assert!(ok.status.is_success(), "{path}");
            assert_eq!(ok.header("access-control-allow-origin"), SPA);
            assert_eq!(ok.header("access-control-allow-credentials"), "true");
            assert!(ok.header("access-control-allow-headers").to_lowercase().contains("auth0-client"));
            assert!(ok.header("vary").to_lowercase().contains("origin"));
            assert_eq!(preflight("https://evil.example", path).send().await.header("access-control-allow-origin"), "");
        }
        let created = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("origin", SPA).send().await;
        assert_eq!(created.header("access-control-allow-origin"), SPA);
        let exposed = created.header("access-control-expose-headers").to_lowercase();
        for name in ["etag", "dpop-nonce", "retry-after"] { assert!(exposed.contains(name)); }
        for failing in [app.get("/v1/me").header("origin", SPA), app.get("/nowhere").header("origin", SPA), app.post("/v1/guests", &json!({})).header("origin", SPA), app.call("POST", "/v1/guests").header("origin", SPA)] {
            let answer = failing.send().await;
            assert!(answer.status.is_client_error());
            assert_eq!(answer.header("access-control-allow-origin"), SPA, "{}", answer.text());
        }
        let evil = app.get("/v1/me").header("origin", "https://evil.example").send().await;
        assert_eq!(evil.header("access-control-allow-origin"), "");
    }

    async fn line_02_looking_makes_nobody(engine) {
        let app = TestApp::new(engine).await;
        for path in ["/", "/demo", "/docs", "/openapi.json", "/health/live", "/health/ready", "/metrics", "/v1/me", "/v1/guests", "/anonymous/token",
            "/.well-known/jwks.json", "/.well-known/openid-configuration", "/v1/me/sessions", "/v1/me/export", "/oauth2/userinfo", "/oauth2/token", "/console", "/api/user", "/v1/auth/anonymous"] {
            for method in ["GET", "HEAD", "OPTIONS"] {
                let answer = app.call(method, path).header("purpose", "prefetch").send().await;
                assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.text());
                assert_eq!(answer.header("set-cookie"), "", "{path}");
            }
        }
        assert_eq!(app.users().await, 0);
    }

    async fn every_refusal_is_a_problem(engine) {
        let app = TestApp::new(engine).await;
        app.get("/nowhere").send().await.refused(404, "not_found");
        let not_allowed = app.get("/v1/guests").send().await;
        not_allowed.refused(405, "method_not_allowed");
        assert!(not_allowed.header("allow").contains("POST"));
        app.call("POST", "/v1/guests").raw(b"a=b".to_vec(), "text/plain").send().await.refused(415, "unsupported_media_type");
        app.call("POST", "/v1/guests").raw(vec![b' '; 300_000], "application/json").send().await.expect(413);
        app.call("POST", "/v1/guests").raw(b"{".to_vec(), "application/json").send().await.refused(400, "malformed_json");
        app.call("POST", "/v1/guests").raw(br#"{"client_id":"demo-spa","client_id":"demo-spa"}"#.to_vec(), "application/json").send().await.refused(400, "duplicate_member");
        app.call("POST", "/v1/guests").raw(vec![0xff, 0xfe], "application/json").send().await.refused(400, "malformed_json");
        let typed = app.post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "magic"})).send().await;
        assert_eq!(typed.refused(400, "invalid_value")["field"], "/session_type");
        let typed = app.post("/v1/guests", &json!({"client_id": "demo-spa", "persist": "yes"})).send().await;
        assert_eq!(typed.refused(400, "invalid_value")["field"], "/persist");
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": []})).send().await.refused(400, "not_an_object");
        let none = app.get("/v1/me").send().await;
        none.refused(401, "unauthenticated");
        assert!(none.header("www-authenticate").starts_with("Bearer"));
        assert_eq!(none.header("x-content-type-options"), "nosniff");
        assert_eq!(app.users().await, 0);
    }

    async fn health_metrics_and_documents(engine) {
        let app = TestApp::new(engine).await;
        app.guest().await;
        app.get("/health/live").send().await.expect(200);
        app.get("/health/ready").send().await.expect(200);
        let metrics = app.get("/metrics").send().await.expect(200).text();
        assert!(metrics.contains("passerby_") && metrics.trim_end().ends_with("# EOF"), "{metrics}");
        assert!(metrics.contains("/v1/guests"));
        let document = app.get("/openapi.json").send().await.expect(200).json();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        for path in ["/v1/guests", "/v1/me", "/v1/me/data", "/v1/me/data/operations", "/v1/refresh", "/v1/me/sessions", "/v1/me/sessions/{id}", "/v1/logout", "/v1/me/export", "/anonymous/token", "/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/oauth2/userinfo", "/.well-known/jwks.json", "/.well-known/openid-configuration", "/health/ready"] {
            assert!(document["paths"].get(path).is_some(), "{path} is missing in the document");
        }
        let page = app.get("/docs").send().await;
        assert!(page.status.is_success() || page.status.is_redirection());
        app.get("/demo").send().await.expect(200);
    }
}
