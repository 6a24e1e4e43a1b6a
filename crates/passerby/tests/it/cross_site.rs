//! What another site can make a browser do, on every route (security checklist 2 and 45).

use serde_json::{Value, json};

use crate::{
    app::{Call, TestApp},
    credentials::{Kind, Mint, ROOT},
    loot::written,
    matrix_places::{call, own},
    on_both,
};

const SPA: &str = "http://localhost:8080";
const EVIL: &str = "https://evil.example";

/// Every route of the document with what its path needs.
async fn routes(app: &TestApp) -> Vec<(String, String)> {
    let document = app.get("/openapi.json").send().await.expect(200).json();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let steps = path.split('/').map(|step| if step.starts_with('{') { "x" } else { step });
        let path = steps.collect::<Vec<_>>().join("/");
        assert!(!path.contains('{'), "{path}");
        let known = ["get", "post", "put", "patch", "delete"];
        let methods = methods.as_object().unwrap().keys().filter(|method| known.contains(&method.as_str()));
        all.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
    }
    assert!(all.len() > 45, "{}", all.len());
    all
}

on_both! {
    async fn line_45_every_change_by_cookie_needs_a_page_of_ours(engine) {
        let mint = Mint::new(engine).await;
        let cookie = mint.make(Kind::Cookie).await.text;
        let before = written(&mint.app).await;
        let changes: Vec<_> = own().into_iter().filter(|(method, ..)| *method != "GET").collect();
        assert!(changes.len() >= 13);
        for target in &changes {
            let ask = || call(&mint, target, "").cookie(&cookie);
            for (name, value) in [
                ("origin", EVIL),
                ("origin", "null"),
                ("origin", "http://localhost:8081"),
                ("origin", "http://localhost:8080.evil.example"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-site", "same-site"),
                ("sec-fetch-site", "none"),
                ("referer", "http://localhost:8080/"),
            ] {
                ask().header(name, value).send().await.refused(403, "cross_site");
            }
            ask().send().await.refused(403, "cross_site");
            // what a form can send, even from a page of ours
            for media in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"] {
                let answer = ask().header("origin", SPA).raw(b"{\"operations\":[]}".to_vec(), media).send().await;
                answer.refused(415, "unsupported_media_type");
            }
        }
        // nor a key, whose proof another site cannot make: a cookie and a foreign origin stay what they are
        let key = crate::keys::DeviceKey::new();
        let add = key.call(&mint.app, "POST", "/v1/me/device-keys").cookie(&cookie).header("origin", EVIL);
        add.send().await.refused(403, "cross_site");
        assert_eq!(written(&mint.app).await, before);
        mint.app.get("/v1/me").cookie(&cookie).send().await.expect(200);
    }

    async fn line_45_no_route_shows_its_answer_to_another_site(engine) {
        let mint = Mint::new(engine).await;
        let app = &mint.app;
        let cookie = mint.make(Kind::Cookie).await.text;
        for (method, path) in routes(app).await {
            let ask = |origin: &str| app.call(&method, &path).header("origin", origin);
            let with_all = |call: Call| call.cookie(&cookie).header("sec-fetch-site", "cross-site");
            for answer in [ask(EVIL).send().await, with_all(ask(EVIL)).send().await, ask("null").send().await] {
                assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.text());
                let allowed = answer.header("access-control-allow-origin").to_owned();
                assert!(["", "*"].contains(&&*allowed), "{method} {path}: {allowed}");
                assert_eq!(answer.header("access-control-allow-credentials"), "", "{method} {path}");
                // in the open only what is public: keys, discovery, documents
                if allowed == "*" {
                    assert!(path.starts_with("/.well-known") || path.starts_with("/openapi"), "{method} {path}");
                }
                assert_eq!(answer.header("x-content-type-options"), "nosniff", "{method} {path}");
            }
            let preflight = app.call("OPTIONS", &path).header("origin", EVIL)
                .header("access-control-request-method", &method).header("access-control-request-headers", "authorization,dpop").send().await;
            assert!(["", "*"].contains(&preflight.header("access-control-allow-origin")), "{method} {path}");
            assert_eq!(preflight.header("access-control-allow-credentials"), "", "{method} {path}");
        }
    }

    async fn line_02_looking_at_any_route_makes_nobody(engine) {
        let mint = Mint::new(engine).await;
        let cookie = mint.make(Kind::Cookie).await.text;
        let before = written(&mint.app).await;
        for (_, path) in routes(&mint.app).await {
            if path == "/v1/epochs" { continue; }
            for method in ["GET", "HEAD", "OPTIONS"] {
                for ask in [mint.app.call(method, &path), mint.app.call(method, &path).cookie(&cookie), mint.app.call(method, &path).bearer(ROOT)] {
                    let answer = ask.header("purpose", "prefetch").header("sec-purpose", "prefetch;prerender").send().await;
                    assert!(!answer.status.is_server_error(), "{method} {path}: {}", answer.text());
                    assert_eq!(answer.header("set-cookie"), "", "{method} {path}");
                }
            }
        }
        // the pages that links lead to
        for path in ["/", "/demo", "/docs", "/ui/hand-off?code=ABCD-EFGH", "/ui/hand-off", "/ui/link?token=x", "/ui/password?token=x"] {
            mint.app.get(path).cookie(&cookie).send().await;
        }
        assert_eq!(written(&mint.app).await, before);
    }

    async fn line_45_what_is_secret_stands_in_no_url_and_no_cache(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let made = app.call("POST", "/v1/me/hand-off").bearer(&guest.access).send().await;
        let url = made.expect(201).json()["url"].as_str().unwrap().to_owned();
        let (before, behind) = url.split_once('#').unwrap();
        assert!(!before.contains('?') && behind.contains("code="), "behind the #, which no server is sent: {url}");
        assert!(!before.contains(made.json()["code"].as_str().unwrap()));
        for (method, path) in [("POST", "/v1/me/hand-off"), ("POST", "/v1/me/recovery-code"), ("GET", "/v1/me/hand-off"), ("GET", "/v1/me/recovery"), ("GET", "/v1/me/device-keys"), ("GET", "/v1/me/notices"), ("GET", "/v1/me"), ("GET", "/v1/me/export"), ("GET", "/v1/me/sessions")] {
            let answer = app.call(method, path).bearer(&guest.access).send().await;
            assert!(answer.status.is_success(), "{path}");
            let cache = answer.header("cache-control");
            assert!(cache.contains("no-store") || cache.contains("private"), "{method} {path}: {cache}");
            // refused ones say nothing that may be kept either
            let refused = app.call(method, path).send().await;
            assert!(refused.header("cache-control").contains("no-store"), "{method} {path}: {}", refused.header("cache-control"));
        }
        for (path, body) in [("/v1/guests/hand-off", json!({"client_id": "demo-spa", "code": "x"})), ("/v1/guests/recover", json!({"client_id": "demo-spa", "code": "x"})), ("/v1/guests", Value::Null)] {
            let answer = app.post(path, &body).send().await;
            assert!(answer.header("cache-control").contains("no-store"), "{path}");
        }
        let key = app.post("/v1/api-keys", &json!({"name": "x"})).bearer(ROOT).send().await;
        assert_eq!(key.expect(201).header("cache-control"), "no-store");
    }
}
