//! Discovery, JWKS, introspection, revocation, client credentials, userinfo.

use serde_json::{Value, json};

use crate::{
    app::{TestApp, claims},
    on_both,
};

const SECRET: &str = "demo-web-secret-0123456789abcdef";
const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
const GUIDE: &str = "acceptance-guide-key-0123456789abcdef012345678";

on_both! {
    async fn discovery_says_what_is_there(engine) {
        let app = TestApp::new(engine).await;
        app.core.run_jobs().await;
        let metadata = app.get("/.well-known/openid-configuration").send().await;
        assert!(metadata.header("cache-control").contains("max-age"));
        let metadata = metadata.expect(200).json();
        assert_eq!(metadata, app.get("/.well-known/oauth-authorization-server").send().await.expect(200).json());
        assert_eq!(metadata["issuer"], "http://localhost:9011");
        for name in ["jwks_uri", "token_endpoint", "userinfo_endpoint", "introspection_endpoint", "revocation_endpoint", "anonymous_token_endpoint"] {
            let path = metadata[name].as_str().unwrap().strip_prefix("http://localhost:9011").unwrap();
            assert_ne!(app.call("POST", path).send().await.status, 404, "{name}");
        }
        let set = app.get("/.well-known/jwks.json").send().await;
        assert!(set.header("cache-control").contains("max-age") && !set.header("etag").is_empty());
        let keys = set.expect(200).json();
        for key in keys["keys"].as_array().unwrap() {
            assert_eq!(key["use"], "sig");
            assert!(key["kid"].is_string() && key["alg"].is_string());
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] { assert!(key.get(private).is_none()); }
        }
        assert!(keys["keys"].as_array().unwrap().iter().any(|k| k["kid"] == "22222222-2222-4222-8222-222222222222" && k["alg"] == "RS256"));
        app.get("/.well-known/jwks.json").header("if-none-match", set.header("etag")).send().await.expect(304);
    }

    async fn introspection_tells_the_truth_at_once(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let floating = app.guest_of("demo-game").await;
        let ask = |token: &str| app.call("POST", "/oauth2/introspect").basic("demo-web", SECRET).form(&[("token", token)]);
        let body = ask(&guest.access).send().await.expect(200).json();
        assert_eq!((&body["active"], &body["sub"], &body["client_id"], &body["is_anonymous"]), (&json!(true), &json!(guest.id), &json!("demo-spa"), &json!(true)));
        assert_eq!(body["sid"], json!(guest.session));
        for name in ["exp", "iat", "iss", "aud"] { assert!(!body[name].is_null(), "{name}"); }
        for token in [&guest.refresh, &guest.session_token, &floating.access, &floating.session_token] {
            assert_eq!(ask(token).send().await.expect(200).json()["active"], true);
        }
        let by_key = app.call("POST", "/oauth2/introspect").bearer(ROOT).form(&[("token", &guest.access)]).send().await;
        assert_eq!(by_key.expect(200).json()["active"], true);
        // who may not ask
        app.call("POST", "/oauth2/introspect").form(&[("token", &guest.access), ("client_id", "demo-spa")]).send().await.expect(401);
        app.call("POST", "/oauth2/introspect").form(&[("token", &guest.access)]).send().await.expect(401);
        app.call("POST", "/oauth2/introspect").bearer("no-such-key-000000000000000000000000000").form(&[("token", &guest.access)]).send().await.expect(401);
        let limited = app.call("POST", "/oauth2/introspect").bearer(GUIDE).form(&[("token", &guest.access)]).send().await;
        assert!(matches!(limited.status.as_u16(), 400 | 403), "{}", limited.text());
        app.call("POST", "/oauth2/introspect").bearer(&guest.access).form(&[("token", &guest.access)]).send().await.expect(401);
        for junk in ["x", "a.b.c", "pbr_xxx", ""] {
            let answer = ask(junk).send().await;
            if junk.is_empty() { assert!(answer.status.is_client_error() || answer.json() == json!({"active": false})); }
            else { assert_eq!(answer.expect(200).json(), json!({"active": false})); }
        }
        app.post("/v1/logout", &json!({})).bearer(&guest.access).send().await.expect(204);
        app.post("/v1/logout", &json!({})).bearer(&floating.access).send().await.expect(204);
        for token in [&guest.access, &guest.refresh, &guest.session_token, &floating.access, &floating.session_token] {
            assert_eq!(ask(token).send().await.expect(200).json(), json!({"active": false}));
        }
    }

    async fn revocation(engine) {
        let app = TestApp::new(engine).await;
        let revoke = |client: &'static str, token: &str| app.call("POST", "/oauth2/revoke").form(&[("token", token), ("client_id", client)]);
        for client in ["demo-spa", "demo-game"] {
            // one access token
            let guest = app.guest_of(client).await;
            let other = app.post("/v1/guests", &json!({"client_id": client, "session_token": guest.session_token})).send().await.expect(200).json();
            revoke("demo-native", &guest.access).send().await.expect(200);
            app.get("/v1/me").bearer(&guest.access).send().await.expect(200);
            revoke(client, &guest.access).send().await.expect(200);
            app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "invalid_token");
            app.get("/v1/me").bearer(other["access_token"].as_str().unwrap()).send().await.expect(200);
            // the session
            revoke(client, &guest.session_token).send().await.expect(200);
            app.get("/v1/me").bearer(other["access_token"].as_str().unwrap()).send().await.refused(401, "session_ended");
        }
        let guest = app.guest().await;
        revoke("demo-spa", &guest.refresh).send().await.expect(200);
        app.get("/v1/me").bearer(&guest.access).send().await.refused(401, "session_ended");
        revoke("demo-spa", "junk").send().await.expect(200);
        app.call("POST", "/oauth2/revoke").form(&[("client_id", "demo-spa")]).send().await.expect(400);
        app.call("POST", "/oauth2/revoke").form(&[("token", "x"), ("client_id", "nobody")]).send().await.expect(401);
    }

    async fn client_credentials(engine) {
        let app = TestApp::new(engine).await;
        let ask = |pairs: &[(&str, &str)]| app.call("POST", "/oauth2/token").basic("demo-web", SECRET).form(pairs);
        let body = ask(&[("grant_type", "client_credentials"), ("audience", "https://api.example.com"), ("scope", "read:cart")]).send().await.expect(200).json();
        let access = body["access_token"].as_str().unwrap().to_owned();
        let c = claims(&access);
        assert_eq!((&c["sub"], &c["client_id"], &c["aud"], &c["scope"]), (&json!("demo-web"), &json!("demo-web"), &json!("https://api.example.com"), &json!("read:cart")));
        assert!(c.get("sid").is_none() && c.get("is_anonymous").is_none() && body.get("refresh_token").is_none());
        // its own client takes it back
        let spare = ask(&[("grant_type", "client_credentials")]).send().await.expect(200).json();
        let spare = spare["access_token"].as_str().unwrap().to_owned();
        let alive = || app.call("POST", "/oauth2/introspect").bearer(ROOT).form(&[("token", &spare)]).send();
        assert_eq!(alive().await.json()["active"], true);
        app.call("POST", "/oauth2/revoke").basic("demo-web", SECRET).form(&[("token", &spare)]).send().await.expect(200);
        assert_eq!(alive().await.json(), json!({"active": false}));
        // it is nobody's
        let own = ask(&[("grant_type", "client_credentials")]).send().await.expect(200).json();
        for token in [access.as_str(), own["access_token"].as_str().unwrap()] {
            app.get("/v1/me").bearer(token).send().await.refused(401, "invalid_token");
            app.get("/oauth2/userinfo").bearer(token).send().await.expect(401);
        }
        let error = |v: Value| v["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(error(ask(&[("grant_type", "client_credentials"), ("audience", "nowhere")]).send().await.expect(400).json()), "invalid_target");
        assert_eq!(error(ask(&[("grant_type", "client_credentials"), ("audience", "https://api.example.com"), ("scope", "root")]).send().await.expect(400).json()), "invalid_scope");
        assert_eq!(error(ask(&[("grant_type", "password")]).send().await.expect(400).json()), "unsupported_grant_type");
        assert_eq!(error(ask(&[]).send().await.expect(400).json()), "invalid_request");
        let public = app.call("POST", "/oauth2/token").form(&[("grant_type", "client_credentials"), ("client_id", "demo-spa")]).send().await;
        assert_eq!(error(public.expect(400).json()), "unauthorized_client");
    }

    async fn userinfo_answers_guests_without_openid(engine) {
        let app = TestApp::new(engine).await;
        for client in ["demo-spa", "demo-game"] {
            let guest = app.guest_of(client).await;
            for method in ["GET", "POST"] {
                let body = app.call(method, "/oauth2/userinfo").bearer(&guest.access).send().await.expect(200).json();
                assert_eq!((&body["sub"], &body["is_anonymous"]), (&json!(guest.id), &json!(true)));
            }
        }
        let none = app.get("/oauth2/userinfo").send().await;
        none.expect(401);
        assert!(none.header("www-authenticate").starts_with("Bearer"));
    }

    async fn line_10_a_second_tenant_is_apart(engine) {
        const OTHER: &str = "33333333-3333-4333-8333-333333333333";
        let app = TestApp::with(engine, |t| format!("{t}\n[[tenants]]\nid = \"{OTHER}\"\nname = \"other\"\n[[tenants.clients]]\nid = \"other-app\"\nname = \"Other\"\ntype = \"native\"\npersistence = \"eager\"\n[[tenants.api_keys]]\nname = \"other\"\nkey = \"other-tenants-key-0123456789abcdef0123456789\"\n")).await;
        let prefix = format!("/t/{OTHER}");
        let issuer = format!("http://localhost:9011{prefix}");
        let metadata = app.get(&format!("{prefix}/.well-known/openid-configuration")).send().await.expect(200).json();
        assert_eq!(metadata["issuer"], json!(issuer));
        assert_eq!(app.get(&format!("/.well-known/oauth-authorization-server{prefix}")).send().await.expect(200).json(), metadata);
        let theirs = app.guest_of("other-app").await;
        let ours = app.guest().await;
        assert_eq!(claims(&theirs.access)["iss"], json!(issuer));
        app.get(&format!("{prefix}/v1/me")).bearer(&theirs.access).send().await.expect(200);
        app.get("/v1/me").bearer(&theirs.access).send().await.expect(200);
        app.get(&format!("{prefix}/v1/me")).bearer(&ours.access).send().await.refused(401, "invalid_token");
        app.post(&format!("{prefix}/v1/guests"), &json!({"client_id": "demo-spa"})).send().await.refused(401, "invalid_client");
        app.post(&format!("{prefix}/v1/guests"), &json!({"client_id": "other-app"})).send().await.expect(201);
        app.get("/t/44444444-4444-4444-8444-444444444444/health/live").send().await.expect(404);
        let (one, two) = (app.get("/.well-known/jwks.json").send().await.text(), app.get(&format!("{prefix}/.well-known/jwks.json")).send().await.text());
        assert_ne!(one, two);
        let ask = app.call("POST", "/oauth2/introspect").bearer("other-tenants-key-0123456789abcdef0123456789").form(&[("token", &ours.access)]).send().await;
        assert_eq!(ask.expect(200).json(), json!({"active": false}));
        app.post("/v1/refresh", &json!({"client_id": "other-app", "refresh_token": ours.refresh})).send().await.refused(401, "invalid_refresh_token");
        app.post("/v1/guests", &json!({"client_id": "other-app", "session_token": ours.session_token})).send().await.expect(401);
        app.post("/v1/guests", &json!({"client_id": "other-app"})).cookie("x").bearer(&ours.access).send().await.expect(401);
    }
}
