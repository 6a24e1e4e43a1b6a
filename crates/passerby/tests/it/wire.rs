//! Wire shapes, pinned: members, statuses and headers that other programs rely on. Tokens are cut out, all else stands.

use serde_json::{Value, json};

use crate::{
    app::{Answer, Engine, TestApp},
    keys::DeviceKey,
};

pub fn shape(answer: &Answer) -> Value {
    let headers: std::collections::BTreeMap<_, _> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "content-length")
        .map(|(name, value)| {
            let value = value.to_str().unwrap();
            (name.to_string(), if name == "set-cookie" { cut_cookie(value) } else { value.to_owned() })
        })
        .collect();
    let body = if answer.body.is_empty() { Value::Null } else { cut(answer.json()) };
    json!({"status": answer.status.as_u16(), "headers": headers, "body": body})
}

fn cut_cookie(text: &str) -> String {
    let (name, rest) = text.split_once('=').unwrap();
    let (_, attributes) = rest.split_once(';').unwrap();
    format!("{name}=(sealed);{attributes}")
}

fn cut(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| {
                let secret = matches!(
                    k.as_str(),
                    "access_token"
                        | "refresh_token"
                        | "session_token"
                        | "merge_ticket"
                        | "receipt"
                        | "anon_transfer_token"
                        | "jti"
                        | "x"
                        | "y"
                        | "n"
                        | "etag"
                );
                (k, if secret && v.is_string() { "(cut)".into() } else { cut(v) })
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(cut).collect(),
        other => other,
    }
}

#[tokio::test]
async fn the_native_wire() {
    let app = TestApp::new(Engine::Sqlite).await;
    let mut seen = Vec::new();
    let made =
        app.post("/v1/guests", &json!({"client_id": "demo-spa", "data": {"level": 1}, "entry": "shop"})).send().await;
    let guest = crate::app::Guest::of(&made.json());
    seen.push(("POST /v1/guests", shape(&made)));
    let floating = app.post("/v1/guests", &json!({"client_id": "demo-game"})).send().await;
    seen.push(("POST /v1/guests, floating", shape(&floating)));
    let cookie = app
        .post("/v1/guests", &json!({"client_id": "demo-spa", "session_type": "cookie"}))
        .header("origin", "http://localhost:8080")
        .send()
        .await;
    seen.push(("POST /v1/guests, cookie", shape(&cookie)));
    let again = app.post("/v1/guests", &json!({"client_id": "demo-spa"})).bearer(&guest.access).send().await;
    seen.push(("POST /v1/guests, resumed by an access token", shape(&again)));
    for (name, call) in [
        ("GET /v1/me", app.get("/v1/me").bearer(&guest.access)),
        (
            "POST /v1/me/data/operations",
            app.post(
                "/v1/me/data/operations",
                &json!({"operations": [{"op": "increment", "path": "/level", "by": 2}]}),
            )
            .bearer(&guest.access),
        ),
        (
            "PATCH /v1/me/data",
            app.call("PATCH", "/v1/me/data")
                .bearer(&guest.access)
                .raw(br#"{"name":"Ada"}"#.to_vec(), "application/merge-patch+json"),
        ),
        ("GET /v1/me/sessions", app.get("/v1/me/sessions").bearer(&guest.access)),
        ("GET /v1/me/export", app.get("/v1/me/export").bearer(&guest.access)),
        (
            "POST /v1/refresh",
            app.post("/v1/refresh", &json!({"client_id": "demo-spa", "refresh_token": guest.refresh})),
        ),
        ("401", app.get("/v1/me")),
        ("403", app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("origin", "https://evil.example")),
        ("404", app.get("/v1/nowhere")),
        ("405", app.get("/v1/guests")),
        (
            "409",
            app.post("/v1/me/data/operations", &json!({"operations": [{"op": "test", "path": "/level", "value": 9}]}))
                .bearer(&guest.access),
        ),
        (
            "412",
            app.call("PATCH", "/v1/me/data")
                .bearer(&guest.access)
                .header("if-match", "\"1\"")
                .raw(b"{}".to_vec(), "application/merge-patch+json"),
        ),
        ("POST /v1/logout", app.post("/v1/logout", &json!({})).bearer(&guest.access)),
    ] {
        seen.push((name, shape(&call.send().await)));
    }
    insta::assert_json_snapshot!(
        "native",
        seen.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<serde_json::Map<_, _>>()
    );
}

/// What is drawn from the system's randomness, beside tokens.
pub fn cut_more(mut value: Value) -> Value {
    const DRAWN: [&str; 9] =
        ["code", "qr", "check", "key", "prefix", "recovery_code", "thumbprint", "url", "dpop-nonce"];
    match &mut value {
        Value::Object(map) => {
            for (name, member) in map.iter_mut() {
                let problem = name == "code" && member.as_str().is_some_and(|t| t.contains('_'));
                // user and session ids come from the seed, all others do not
                let id = name == "id" && member.as_str().is_some_and(|t| t.len() != 36);
                *member = if member.is_string() && (id || DRAWN.contains(&&**name)) && !problem {
                    "(drawn)".into()
                } else {
                    cut_more(member.take())
                };
            }
            value
        }
        Value::Array(list) => list.drain(..).map(cut_more).collect(),
        _ => value,
    }
}

#[tokio::test]
async fn the_wire_of_ways_in() {
    let app = TestApp::new(Engine::Sqlite).await;
    let key = DeviceKey::new();
    let mut seen = Vec::new();
    let mut see = |name: &str, answer: &Answer| seen.push((name.to_owned(), cut_more(shape(answer))));
    let bare = key.sign(&key.header(), &{
        let mut claims = DeviceKey::claims(&app, "POST", "/v1/guests", None);
        claims.as_object_mut().unwrap().remove("nonce");
        claims
    });
    see(
        "a proof without a nonce",
        &app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("dpop", &bare).send().await,
    );
    let body = json!({"client_id": "demo-spa", "bind_tokens": true, "device": "Laptop"});
    let made = key.post(&app, "/v1/guests", &body).send().await;
    see("POST /v1/guests, bound", &made);
    let guest = crate::app::Guest::of(&made.json());
    see("a bound token as Bearer", &app.get("/v1/me").bearer(&guest.access).send().await);
    let mine = |method: &str, path: &str| key.with_token(&app, method, path, &guest.access);
    see("GET /v1/me/device-keys", &mine("GET", "/v1/me/device-keys").send().await);
    see("the last way in", &mine("DELETE", &format!("/v1/me/device-keys/{}", key.thumbprint())).send().await);
    let code = mine("POST", "/v1/me/recovery-code").send().await;
    see("POST /v1/me/recovery-code", &code);
    see("GET /v1/me/recovery", &mine("GET", "/v1/me/recovery").send().await);
    let hand_off = mine("POST", "/v1/me/hand-off").send().await;
    see("POST /v1/me/hand-off", &hand_off);
    let ask = json!({"client_id": "demo-native", "code": hand_off.json()["code"], "device": "Phone"});
    let asked = app.post("/v1/guests/hand-off", &ask).send().await;
    see("POST /v1/guests/hand-off, waiting", &asked);
    see("GET /v1/me/hand-off", &mine("GET", "/v1/me/hand-off").send().await);
    let path = format!("/v1/me/hand-off/{}/confirm", asked.json()["id"].as_str().unwrap());
    see("POST /v1/me/hand-off/{id}/confirm", &mine("POST", &path).send().await);
    let mut again = ask.clone();
    again["id"] = asked.json()["id"].clone();
    see("POST /v1/guests/hand-off, in", &app.post("/v1/guests/hand-off", &again).send().await);
    see("a spent code", &app.post("/v1/guests/hand-off", &again).send().await);
    see("GET /v1/me/notices", &mine("GET", "/v1/me/notices").send().await);
    let ask = json!({"client_id": "demo-native", "code": code.json()["code"]});
    see("POST /v1/guests/recover", &app.post("/v1/guests/recover", &ask).send().await);
    let epochs = app.get("/v1/epochs").bearer("acceptance-root-key-0123456789abcdef0123456789").send().await;
    see("GET /v1/epochs", &epochs);
    insta::assert_json_snapshot!("ways_in", seen.into_iter().collect::<serde_json::Map<_, _>>());
}

#[tokio::test]
async fn the_oauth_wire() {
    let app = TestApp::new(Engine::Sqlite).await;
    let guest = app.guest().await;
    let mut seen = serde_json::Map::new();
    for (name, call) in [
        ("GET /.well-known/openid-configuration", app.get("/.well-known/openid-configuration")),
        (
            "POST /oauth2/token, refresh",
            app.call("POST", "/oauth2/token").form(&[
                ("grant_type", "refresh_token"),
                ("client_id", "demo-spa"),
                ("refresh_token", &guest.refresh),
            ]),
        ),
        (
            "POST /oauth2/token, client credentials",
            app.call("POST", "/oauth2/token")
                .basic("demo-web", "demo-web-secret-0123456789abcdef")
                .form(&[("grant_type", "client_credentials"), ("audience", "https://api.example.com")]),
        ),
        ("POST /oauth2/token, refused", app.call("POST", "/oauth2/token").form(&[("grant_type", "password")])),
        (
            "POST /oauth2/introspect",
            app.call("POST", "/oauth2/introspect")
                .basic("demo-web", "demo-web-secret-0123456789abcdef")
                .form(&[("token", &guest.access)]),
        ),
        (
            "POST /oauth2/revoke",
            app.call("POST", "/oauth2/revoke").form(&[("token", "unknown"), ("client_id", "demo-spa")]),
        ),
        ("GET /oauth2/userinfo", app.get("/oauth2/userinfo").bearer(&guest.access)),
        ("POST /anonymous/token", app.post("/anonymous/token", &json!({"client_id": "demo-spa"}))),
        ("POST /anonymous/token, refused", app.post("/anonymous/token", &json!({"client_id": "nobody"}))),
    ] {
        let mut answer = call.send().await;
        answer.headers.remove("etag");
        seen.insert(name.to_owned(), shape(&answer));
    }
    insta::assert_json_snapshot!("oauth", seen);
}
