//! The routes over a store that keeps nothing: what floating guests can do, and everything that is refused before a
//! store is asked. What needs rows is tested through the program on real stores.

use axum::body::Body;
use http::{HeaderMap, Request, request::Builder};
use http_body_util::BodyExt as _;
use passerby_http::{Door, finish_with};
use serde_json::{Value, json};

use crate::{GuestLane, documents, openapi, routes, testing};

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(self.headers["cache-control"], "no-store");
        assert_eq!(self.headers.contains_key("www-authenticate"), self.status == 401);
        let body = self.json();
        assert_eq!(body["status"], self.status);
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("field"))
    }
}

async fn door() -> Door<GuestLane> {
    let app = testing::app(crate::HttpSettings::default()).await;
    finish_with::<GuestLane>(routes().merge(documents(&openapi(Vec::new()))), app)
}

async fn ask(door: &Door<GuestLane>, request: Builder, body: impl Into<Body>) -> Answer {
    let response = door.answer(request.body(body.into()).unwrap(), "192.0.2.1".parse().unwrap()).await;
    let (parts, body) = response.into_parts();
    let text = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

fn post(path: &str) -> Builder {
    Request::post(path).header("content-type", "application/json")
}

async fn create(door: &Door<GuestLane>, body: &str) -> Answer {
    ask(door, post("/v1/guests"), body.to_owned()).await
}

fn bearer(request: Builder, guest: &Value) -> Builder {
    request.header("authorization", format!("Bearer {}", guest["access_token"].as_str().unwrap()))
}

#[tokio::test]
async fn a_floating_guest() {
    let door = door().await;
    let made = create(&door, r#"{"client_id":"game","data":{"name":"Zoë \"x\""}}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.headers["cache-control"], "no-store");
    let guest = made.json();
    assert_eq!(guest["created"], true);
    assert_eq!(guest["user"]["kind"], "anonymous");
    assert_eq!(guest["user"]["data"], json!({"name": "Zoë \"x\""}));
    assert_eq!((&guest["user"]["version"], &guest["user"]["stored"]), (&json!(1), &json!(false)));
    assert_eq!(guest["user"]["created_at"], "2026-09-21T14:13:20.000Z");
    assert_eq!(guest["session"]["client_id"], "game");
    assert_eq!((&guest["token_type"], &guest["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert!(guest["session_token"].is_string() && guest.get("refresh_token").is_none());

    let me = ask(&door, bearer(Request::get("/v1/me"), &guest), "").await;
    assert_eq!((me.status, &me.headers["etag"]), (200, &"\"1\"".parse().unwrap()));
    assert_eq!(me.json(), guest["user"]);
    let known = bearer(Request::get("/v1/me").header("if-none-match", "\"1\""), &guest);
    let me = ask(&door, known, "").await;
    assert_eq!((me.status, &*me.text, &me.headers["etag"]), (304, "", &"\"1\"".parse().unwrap()));
    let head = ask(&door, bearer(Request::head("/v1/me"), &guest), "").await;
    assert_eq!((head.status, &*head.text), (200, ""));

    let again = json!({"client_id": "game", "session_token": guest["session_token"]}).to_string();
    let again = create(&door, &again).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!((&again.json()["created"], &again.json()["user"]["id"]), (&json!(false), &guest["user"]["id"]));
    let by_access = ask(&door, bearer(post("/v1/guests"), &guest), r#"{"client_id":"game"}"#).await;
    assert_eq!(by_access.status, 200);
    assert!(by_access.json().get("session_token").is_none(), "an access token gets access tokens only");

    let sessions = ask(&door, bearer(Request::get("/v1/me/sessions"), &guest), "").await.json();
    assert_eq!(sessions["cursor"], Value::Null);
    assert_eq!(sessions["items"][0]["id"], guest["session"]["id"]);
    assert_eq!(sessions["items"][0]["current"], true);
    let export = ask(&door, bearer(Request::get("/v1/me/export"), &guest), "").await.json();
    assert_eq!(export["user"], guest["user"]);
    assert_eq!(
        (&export["epoch"], &export["server_data"], &export["client_id"]),
        (&json!(0), &Value::Null, &json!("game"))
    );
    let other = bearer(Request::delete("/v1/me/sessions/018f2d5e-0000-7abc-8def-0123456789ab"), &guest);
    assert_eq!(ask(&door, other, "").await.problem(), (404, "not_found".into(), String::new()));
    let odd = bearer(Request::delete("/v1/me/sessions/%ff"), &guest);
    assert_eq!(ask(&door, odd, "").await.problem().0, 404);
    let out = ask(&door, bearer(post("/v1/logout"), &guest), "").await;
    assert_eq!((out.status, out.headers.contains_key("set-cookie")), (204, false));
}

#[tokio::test]
async fn refused_creations() {
    let door = door().await;
    for (body, status, code, field) in [
        ("", 400, "malformed_json", ""),
        ("{", 400, "malformed_json", ""),
        ("[]", 400, "invalid_value", ""),
        (r#"{"client_id":"game"} x"#, 400, "malformed_json", ""),
        (r#"{"client_id":"game","client_id":"game"}"#, 400, "duplicate_member", "/client_id"),
        (r#"{"client_id":7}"#, 400, "invalid_value", "/client_id"),
        (r#"{"client_id":"game","persist":"yes"}"#, 400, "invalid_value", "/persist"),
        (r#"{"client_id":"game","session_type":"jwt"}"#, 400, "invalid_value", "/session_type"),
        (r#"{"client_id":"game","bind_tokens":true}"#, 400, "invalid_dpop_proof", "DPoP"),
        (r#"{"client_id":"game","bind_tokens":true,"session_type":"cookie"}"#, 400, "invalid_value", "/bind_tokens"),
        (r#"{"client_id":"ga\u0000me"}"#, 422, "nul_character", "/client_id"),
        (r#"{"client_id":"nobody"}"#, 401, "invalid_client", "client_id"),
        (r#"{"client_id":"web"}"#, 401, "invalid_client", "client_secret"),
        (r#"{"client_id":"game","audience":"a","resource":"b"}"#, 400, "invalid_target", "/resource"),
        (r#"{"client_id":"game","session_token":"x.y.z"}"#, 401, "invalid_session_token", "session_token"),
    ] {
        assert_eq!(create(&door, body).await.problem(), (status, code.into(), field.into()), "{body}");
    }
    let good = r#"{"client_id":"game"}"#;
    let plain = Request::post("/v1/guests");
    assert_eq!(ask(&door, plain, good).await.problem().1, "unsupported_media_type");
    let form = Request::post("/v1/guests").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(ask(&door, form, "client_id=game").await.problem().0, 415);
    let long = format!("{{\"client_id\":\"game\",\"x\":\"{}\"}}", "x".repeat(128 * 1024));
    assert_eq!(create(&door, &long).await.problem().1, "body_too_large");
    for authorization in ["Bearer", "Bearer x", "DPoP x", "Digest x", "Bearer a b"] {
        let request = post("/v1/guests").header("authorization", authorization);
        let answer = ask(&door, request, good).await;
        assert_eq!(answer.problem(), (401, "invalid_token".into(), String::new()), "{authorization}");
    }
    for method in ["GET", "HEAD", "PUT"] {
        let answer = ask(&door, Request::builder().method(method).uri("/v1/guests"), "").await;
        assert_eq!((answer.status, &answer.headers["allow"]), (405, &"POST".parse().unwrap()), "{method}");
    }
}

#[tokio::test]
async fn clients_that_authenticate() {
    let door = door().await;
    let basic = |pair: &str| format!("Basic {pair}");
    // web:s3cret, web:wrong
    let good = post("/v1/guests").header("authorization", basic("d2ViOnMzY3JldA=="));
    assert_eq!(ask(&door, good, "{}").await.status, 201);
    let wrong = post("/v1/guests").header("authorization", basic("d2ViOndyb25n"));
    let wrong = ask(&door, wrong, "{}").await;
    assert_eq!(wrong.problem().1, "invalid_client");
    assert!(wrong.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    assert_eq!(create(&door, r#"{"client_id":"web","client_secret":"s3cret"}"#).await.status, 201);
    let twice = post("/v1/guests").header("authorization", basic("d2ViOnMzY3JldA=="));
    assert_eq!(ask(&door, twice, r#"{"client_secret":"s3cret"}"#).await.problem().1, "invalid_request");
}

#[tokio::test]
async fn nobody_without_a_credential() {
    let door = door().await;
    for (method, path, body) in [
        ("GET", "/v1/me", ""),
        ("DELETE", "/v1/me", ""),
        ("GET", "/v1/me/sessions", ""),
        ("DELETE", "/v1/me/sessions/x", ""),
        ("GET", "/v1/me/export", ""),
        ("GET", "/v1/me/identifiers", ""),
        ("POST", "/v1/me/identifiers", r#"{"email":"ada@example.com"}"#),
        ("GET", "/v1/me/identifiers/x", ""),
        ("DELETE", "/v1/me/identifiers/x", ""),
        ("POST", "/v1/me/identifiers/x/verify", r#"{"code":"123456"}"#),
        ("POST", "/v1/me/password", r#"{"password":"correct horse battery"}"#),
        ("POST", "/v1/me/merge", r#"{"merge_ticket":"x"}"#),
        ("POST", "/v1/logout", ""),
        ("POST", "/v1/me/data/operations", r#"{"operations":[]}"#),
    ] {
        let request = || Request::builder().method(method).uri(path).header("content-type", "application/json");
        let answer = ask(&door, request(), body).await;
        assert_eq!(answer.problem(), (401, "unauthenticated".into(), String::new()), "{method} {path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"passerby\"");
        for authorization in ["Basic d2ViOnMzY3JldA==", "Bearer x.y.z", "DPoP x"] {
            let answer = ask(&door, request().header("authorization", authorization), body).await;
            assert_eq!(answer.problem().1, "invalid_token", "{method} {path} {authorization}");
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            let scheme = if authorization.starts_with("DPoP") { "DPoP" } else { "Bearer" };
            assert!(challenge.starts_with(scheme) && challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
    }
    let patch = Request::patch("/v1/me/data").header("content-type", "application/json");
    assert_eq!(ask(&door, patch, "{}").await.problem().0, 415);
    assert_eq!(ask(&door, post("/v1/refresh"), r#"{"client_id":"game"}"#).await.problem().2, "refresh_token");
}

#[tokio::test]
async fn refused_accounts() {
    let door = door().await;
    let guest = create(&door, r#"{"client_id":"game"}"#).await.json();
    for (path, body, status, code, field) in [
        ("/v1/me/identifiers", "{}", 400, "invalid_request", "/email"),
        ("/v1/me/identifiers", r#"{"email":7}"#, 400, "invalid_value", "/email"),
        ("/v1/me/identifiers", r#"{"email":"a@b.example","phone":"+4915112345678"}"#, 400, "invalid_value", "/phone"),
        ("/v1/me/identifiers", r#"{"email":"nobody"}"#, 400, "invalid_value", "/email"),
        ("/v1/me/identifiers", r#"{"phone":"12"}"#, 400, "invalid_value", "/phone"),
        ("/v1/me/identifiers", r#"{"username":""}"#, 400, "invalid_value", "/username"),
        ("/v1/me/identifiers", r#"{"external_id":"x"}"#, 400, "invalid_request", "/email"),
        (
            "/v1/me/identifiers",
            r#"{"email":"a@b.example","redirect_uri":"https://x"}"#,
            400,
            "invalid_value",
            "/redirect_uri",
        ),
        ("/v1/me/identifiers/x/verify", r#"{"code":123456}"#, 400, "invalid_value", "/code"),
        ("/v1/me/identifiers/x/verify", r#"{"session_type":"x"}"#, 400, "invalid_value", "/session_type"),
        ("/v1/me/identifiers/x/verify", r#"{"code":"123456"}"#, 404, "not_found", ""),
        ("/v1/me/password", "{}", 400, "invalid_request", "/password"),
        ("/v1/me/merge", "{}", 400, "invalid_request", "/merge_ticket"),
        ("/v1/me/merge", r#"{"merge_ticket":"x","dry_run":1}"#, 400, "invalid_value", "/dry_run"),
        ("/v1/me/merge", r#"{"merge_ticket":"x"}"#, 400, "invalid_merge_ticket", "/merge_ticket"),
    ] {
        let answer = ask(&door, bearer(post(path), &guest), body.to_owned()).await;
        assert_eq!(answer.problem(), (status, code.into(), field.into()), "{path} {body}");
    }
    for (path, body, status, code, field) in [
        ("/v1/sign-in", r#"{"client_id":"game"}"#, 400, "invalid_request", "/method"),
        (
            "/v1/sign-in",
            r#"{"client_id":"game","method":"magic","email":"a@b.example"}"#,
            400,
            "invalid_value",
            "/method",
        ),
        ("/v1/sign-in", r#"{"client_id":"game","method":"code"}"#, 400, "invalid_request", "/email"),
        (
            "/v1/sign-in",
            r#"{"client_id":"game","method":"password","email":"a@b.example"}"#,
            400,
            "invalid_request",
            "/password",
        ),
        (
            "/v1/sign-in",
            r#"{"client_id":"nobody","method":"code","email":"a@b.example"}"#,
            401,
            "invalid_client",
            "client_id",
        ),
        (
            "/v1/sign-in",
            r#"{"client_id":"game","method":"password","email":"a@b.example","password":"x"}"#,
            401,
            "invalid_credentials",
            "",
        ),
        ("/v1/sign-in", r#"{"client_id":"game","method":"code","claim":"x","code":"123456"}"#, 404, "not_found", ""),
        ("/v1/password/forgot", r#"{"client_id":"game"}"#, 400, "invalid_request", "/email"),
        (
            "/v1/password/forgot",
            r#"{"client_id":"game","email":"a@b.example","state":[]}"#,
            400,
            "not_an_object",
            "/state",
        ),
        ("/v1/password/reset", r#"{"password":"x"}"#, 400, "invalid_request", "/token"),
        ("/v1/password/reset", r#"{"token":"x"}"#, 400, "invalid_request", "/password"),
        ("/v1/password/reset", r#"{"token":"x","password":"correct horse battery"}"#, 400, "invalid_code", "/token"),
        ("/v1/transfers/x/confirm", "", 401, "unauthenticated", ""),
        ("/v1/transfers/x/undo", "", 401, "unauthenticated", ""),
        ("/v1/users/x/identifiers", r#"{"email":"a@b.example"}"#, 401, "unauthenticated", ""),
        ("/v1/users/x/password", r#"{"password":"x"}"#, 401, "unauthenticated", ""),
        ("/v1/users/x/password-link", r#"{"client_id":"game"}"#, 401, "unauthenticated", ""),
    ] {
        let answer = ask(&door, post(path), body.to_owned()).await;
        assert_eq!(answer.problem(), (status, code.into(), field.into()), "{path} {body}");
    }
    let sent = ask(&door, post("/v1/password/forgot"), r#"{"client_id":"game","email":"a@b.example"}"#).await;
    assert_eq!((sent.status, &*sent.text), (202, "{}"));
}

#[tokio::test]
async fn cookies() {
    let door = door().await;
    // kept by the store for a moment only, but set all the same
    let made = create(&door, r#"{"client_id":"game","session_type":"cookie"}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let cookie = made.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-passerby_session=")
            && cookie.ends_with("; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax; Secure"),
        "{cookie}"
    );
    assert!(made.json().get("access_token").is_none() && made.json().get("session_token").is_none());

    let dead = post("/v1/guests")
        .header("cookie", "__Host-passerby_session=dead")
        .header("origin", "https://app.first.example");
    let answer = ask(&door, dead, r#"{"client_id":"game"}"#).await;
    assert_eq!(answer.status, 201, "a cookie locks nobody out");
    assert_eq!(
        answer.headers["set-cookie"],
        "__Host-passerby_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    );
    let planted = post("/v1/guests").header("cookie", "passerby_session=planted");
    let answer = ask(&door, planted, r#"{"client_id":"game"}"#).await;
    assert_eq!((answer.status, answer.headers.contains_key("set-cookie")), (201, false), "not our name on https");
}

#[tokio::test]
async fn operations() {
    let door = door().await;
    for path in ["/health/live", "/health/ready"] {
        let answer = ask(&door, Request::get(path), "").await;
        assert_eq!((answer.status, &*answer.text), (200, r#"{"status":"ok"}"#), "{path}");
        assert_eq!(ask(&door, Request::head(path), "").await.status, 200);
    }
    create(&door, r#"{"client_id":"game"}"#).await;
    let metrics = ask(&door, Request::get("/metrics"), "").await;
    assert_eq!(metrics.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "passerby_guests_created_total{persistence=\"floating\"} 1",
        "passerby_http_requests_total{method=\"POST\",route=\"/v1/guests\",status=\"201\"} 1",
        "process_resident_memory_bytes ",
        "passerby_build_info{version=",
        "# EOF",
    ] {
        assert!(metrics.text.contains(line), "{line}\n{}", metrics.text);
    }
    let home = ask(&door, Request::get("/"), "").await;
    assert_eq!((home.status, &home.headers["location"]), (303, &"/docs".parse().unwrap()));
    let document = ask(&door, Request::get("/openapi.json").header("origin", "https://anybody.example"), "").await;
    assert_eq!((document.status, &document.headers["access-control-allow-origin"]), (200, &"*".parse().unwrap()));
    assert!(document.json()["paths"].is_object());
    for path in ["/docs", "/docs/", "/docs/swagger-ui.css"] {
        let page = ask(&door, Request::get(path), "").await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.headers.contains_key("content-security-policy"));
    }
    let page = ask(&door, Request::get("/docs"), "").await.text;
    assert!(
        page.contains("<title>Passerby API</title>") && page.contains("src=\"/docs/swagger-ui-bundle.js\""),
        "{page}"
    );
    for path in ["/v1/webhooks", "/v1/stats", "/v1/me/passkeys", "/v1/users:export"] {
        assert_eq!(ask(&door, Request::get(path), "").await.problem().0, 404, "{path}");
    }
}

#[tokio::test]
async fn crawlers_make_nothing() {
    let door = door().await;
    let document = ask(&door, Request::get("/openapi.json"), "").await.json();
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "HEAD"] {
            let answer = ask(&door, Request::builder().method(method).uri(path.replace("{id}", "x")), "").await;
            assert!(answer.status < 500, "{method} {path}");
            assert!(!answer.headers.contains_key("set-cookie"));
        }
    }
    let metrics = ask(&door, Request::get("/metrics"), "").await.text;
    assert!(metrics.contains("passerby_guests_created_total{persistence=\"floating\"} 0"));
    assert!(metrics.contains("passerby_guests_created_total{persistence=\"stored\"} 0"));
}

#[test]
fn answers_hold_what_the_description_says() {
    let document: Value = serde_json::from_str(&openapi(Vec::new()).to_json().unwrap()).unwrap();
    let members = |schema: &str| -> Vec<String> {
        let properties = document["components"]["schemas"][schema]["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    };
    // two of them are a regular user's
    assert_eq!(members("User").len(), 10);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guest = runtime.block_on(async { create(&door().await, r#"{"client_id":"game"}"#).await.json() });
    for (schema, answer) in [("GuestAnswer", &guest), ("User", &guest["user"]), ("Session", &guest["session"])] {
        let described = members(schema);
        for member in answer.as_object().unwrap().keys() {
            assert!(described.contains(member), "{schema}.{member}");
        }
    }
}
