//! A hostile client drives the whole router: always a clear answer, never a 5xx, never a partial write.

use proptest::{
    prelude::*,
    test_runner::{Config as ProptestConfig, TestRunner},
};
use serde_json::Value;

use crate::app::{Answer, Engine, TestApp};

const ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/guests"),
    ("GET", "/v1/me"),
    ("DELETE", "/v1/me"),
    ("PATCH", "/v1/me/data"),
    ("POST", "/v1/me/data/operations"),
    ("POST", "/v1/refresh"),
    ("GET", "/v1/me/sessions"),
    ("DELETE", "/v1/me/sessions/x"),
    ("POST", "/v1/logout"),
    ("GET", "/v1/me/export"),
    ("POST", "/anonymous/token"),
    ("POST", "/oauth2/token"),
    ("POST", "/oauth2/introspect"),
    ("POST", "/oauth2/revoke"),
    ("GET", "/oauth2/userinfo"),
    ("POST", "/oauth2/userinfo"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/t/x/v1/me"),
    ("POST", "/demo/forget"),
    ("GET", "/v1/users?limit=3"),
    ("POST", "/v1/users"),
    ("PATCH", "/v1/users/player%20one"),
    ("PUT", "/v1/users/player%20one/hold"),
    ("POST", "/v1/users/player%20one/revoke-all"),
    ("DELETE", "/v1/users/player%20one/sessions/x"),
    ("POST", "/v1/api-keys"),
    ("PATCH", "/v1/api-keys/x"),
    ("POST", "/v1/api-keys/x/rotate"),
    ("GET", "/v1/me/device-keys"),
    ("POST", "/v1/me/device-keys"),
    ("PATCH", "/v1/me/device-keys/x"),
    ("DELETE", "/v1/me/device-keys/x?force=perhaps"),
    ("GET", "/v1/me/notices"),
    ("POST", "/v1/me/hand-off"),
    ("GET", "/v1/me/hand-off"),
    ("DELETE", "/v1/me/hand-off"),
    ("POST", "/v1/me/hand-off/%FF/confirm"),
    ("POST", "/v1/guests/hand-off"),
    ("POST", "/v1/me/recovery-code"),
    ("GET", "/v1/me/recovery"),
    ("DELETE", "/v1/me/recovery"),
    ("POST", "/v1/guests/recover"),
    ("DELETE", "/v1/me/sessions"),
    ("GET", "/v1/epochs?since=x"),
];

#[derive(Debug, Clone)]
struct Shot {
    route: (&'static str, &'static str),
    media: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("client_id".to_owned()),
        Just("demo-spa".to_owned()),
        Just("demo-game".to_owned()),
        Just("demo-web".to_owned()),
        Just("session_token".to_owned()),
        Just("refresh_token".to_owned()),
        Just("user_id".to_owned()),
        Just("metadata".to_owned()),
        Just("data".to_owned()),
        Just("persist".to_owned()),
        Just("audience".to_owned()),
        Just("scope".to_owned()),
        Just("grant_type".to_owned()),
        Just("client_credentials".to_owned()),
        Just("token".to_owned()),
        Just("op".to_owned()),
        Just("path".to_owned()),
        Just("/a/b".to_owned()),
        Just("increment".to_owned()),
        Just("by".to_owned()),
        Just("value".to_owned()),
        Just("__proto__".to_owned()),
        Just("\u{0}".to_owned()),
        Just("TOKEN".to_owned()),
        ".{0,12}",
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| serde_json::Number::from_f64(f).map_or(Value::Null, Value::Number)),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn known_shape() -> impl Strategy<Value = Value> {
    let members = [
        "client_id",
        "session_token",
        "refresh_token",
        "user_id",
        "metadata",
        "data",
        "persist",
        "audience",
        "scope",
        "entry",
        "session_type",
        "grant_type",
        "token",
        "operations",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "id",
        "server_data",
        "held",
        "name",
        "scopes",
        "permissions",
        "expires_at",
        "code",
        "device",
        "mode",
        "bind_tokens",
        "overlap",
    ];
    let list = prop::collection::vec((prop::sample::select(members.to_vec()), json_value()), 0..6);
    (list, prop::bool::weighted(0.8)).prop_map(|(list, with_client)| {
        let mut object: serde_json::Map<String, Value> = list.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        if with_client {
            object.entry("client_id").or_insert_with(|| "demo-spa".into());
        }
        Value::Object(object)
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        json_value().prop_map(|v| v.to_string().into_bytes()),
        known_shape().prop_map(|v| v.to_string().into_bytes()),
        known_shape().prop_map(|v| v.to_string().into_bytes()),
        (known_shape(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(v, i, b)| {
            let mut text = v.to_string().into_bytes();
            let at = i.index(text.len());
            text[at] = b;
            text
        }),
        prop::collection::vec((words(), words()), 0..6).prop_map(|pairs| {
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(pairs);
            text.finish().into_bytes()
        }),
        (1usize..3000).prop_map(|n| b"[".repeat(n)),
        (1usize..400).prop_map(|n| format!(
            "{{\"client_id\":\"demo-spa\",\"data\":{}1{}}}",
            "{\"a\":".repeat(n),
            "}".repeat(n)
        )
        .into_bytes()),
        Just(b"{\"operations\":[{\"op\":\"increment\",\"path\":\"/a\",\"by\":1e400}]}".to_vec()),
        Just(b"{\"client_id\":\"demo-spa\",\"data\":{\"x\":\"\\ud800\"}}".to_vec()),
        Just(b"\xef\xbb\xbf{}".to_vec()),
    ]
}

fn header_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        Just("Bearer TOKEN".to_owned()),
        Just("Bearer acceptance-root-key-0123456789abcdef0123456789".to_owned()),
        Just("Bearer".to_owned()),
        Just("Basic Zm9v".to_owned()),
        Just("Basic ZGVtby13ZWI6".to_owned()),
        Just("DPoP TOKEN".to_owned()),
        Just("passerby_session=TOKEN; passerby_session=x".to_owned()),
        Just("*".to_owned()),
        Just("\"1\"".to_owned()),
        Just("http://localhost:8080".to_owned()),
        Just("null".to_owned()),
        "[a-z0-9]{22,40}",
        Just("x".repeat(4000)),
    ]
}

fn shot() -> impl Strategy<Value = Shot> {
    let media = prop_oneof![
        4 => Just(Some("application/json".to_owned())),
        2 => Just(Some("application/x-www-form-urlencoded".to_owned())),
        1 => Just(Some("application/merge-patch+json".to_owned())),
        1 => Just(Some("application/json-patch+json".to_owned())),
        1 => Just(Some("application/json; charset=utf-16".to_owned())),
        1 => "[ -~]{0,30}".prop_map(Some),
        1 => Just(None),
    ];
    let name = prop::sample::select(vec![
        "authorization",
        "cookie",
        "origin",
        "if-match",
        "idempotency-key",
        "x-forwarded-for",
        "forwarded",
        "sec-fetch-site",
        "host",
        "dpop",
        "accept",
        "content-encoding",
        "if-none-match",
        "access-control-request-method",
    ]);
    (prop::sample::select(ROUTES.to_vec()), media, prop::collection::vec((name, header_value()), 0..4), body())
        .prop_map(|(route, media, headers, body)| Shot { route, media, headers, body })
}

fn check(shot: &Shot, answer: &Answer) {
    let status = answer.status.as_u16();
    assert!(status < 500, "{shot:?}: {}", answer.text());
    if status >= 400 && shot.route.0 != "HEAD" {
        let oauth = shot.route.1.starts_with("/oauth2") || shot.route.1.starts_with("/anonymous");
        let body: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{shot:?}: {}", answer.text()));
        let code = if oauth && body.get("code").is_none() { &body["error"] } else { &body["code"] };
        let code = code.as_str().unwrap_or_else(|| panic!("{shot:?}: {body}"));
        assert!(
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()),
            "{code}"
        );
        if status == 401 {
            assert!(!answer.header("www-authenticate").is_empty(), "{shot:?}: {}", answer.text());
        }
    }
}

/// Everything that is stored, in one text.
fn contents(path: &str) -> String {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut all = String::new();
    for table in ["users", "sessions", "api_keys", "epochs", "items", "look_ups"] {
        let mut statement = db.prepare(&format!("select * from {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for i in 0..columns {
                all.push_str(&format!("{:?}|", row.get_ref(i).unwrap()));
            }
            all.push('\n');
        }
    }
    all
}

#[test]
fn hostile_input_never_breaks_the_house() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::new(Engine::Sqlite));
    let path = app.database.strip_prefix("sqlite:").unwrap().to_owned();
    let guest = runtime.block_on(app.guest());
    runtime.block_on(
        app.post("/v1/guests", &serde_json::json!({"client_id": "demo-spa", "user_id": "player one"})).send(),
    );
    let mut before = contents(&path);
    let cases = std::env::var("PASSERBY_HOSTILE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let mut holder = guest.clone();
    let cell = std::cell::RefCell::new(&mut holder);
    let before = std::cell::RefCell::new(&mut before);
    runner
        .run(&shot(), |shot| {
            let mut holder = cell.borrow_mut();
            let mut before = before.borrow_mut();
            let mut call = app.call(shot.route.0, shot.route.1);
            for (name, value) in &shot.headers {
                let value = value.replace("TOKEN", &holder.access);
                if http::HeaderValue::from_str(&value).is_ok() {
                    call = call.header(name, &value);
                }
            }
            let body = String::from_utf8(shot.body.clone())
                .map_or_else(|_| shot.body.clone(), |b| b.replace("TOKEN", &holder.session_token).into_bytes());
            let call = match &shot.media {
                Some(media) if http::HeaderValue::from_str(media).is_ok() => call.raw(body, media),
                _ => call,
            };
            let answer = runtime.block_on(call.send());
            check(&shot, &answer);
            let after = contents(&path);
            if answer.status.as_u16() >= 400 {
                assert_eq!(after, **before, "{shot:?} was refused and changed something");
            }
            **before = after;
            if runtime.block_on(app.get("/v1/me").bearer(&holder.access).send()).status != 200 {
                // it was logged out or erased, as asked
                **holder = runtime.block_on(app.guest());
                **before = contents(&path);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn headers_that_are_not_text_are_refused_not_fatal() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::new(Engine::Sqlite));
    for name in [
        "authorization",
        "cookie",
        "origin",
        "if-match",
        "idempotency-key",
        "content-type",
        "x-forwarded-for",
        "host",
        "dpop",
        "last-event-id",
    ] {
        for value in ["\u{e9}\u{ff}", "Bearer \u{fc}", "passerby_session=\u{fc}"] {
            for (method, path) in ROUTES {
                let answer = runtime.block_on(app.call(method, path).header(name, value).send());
                assert!(answer.status.as_u16() < 500, "{name} {path}: {}", answer.text());
            }
        }
    }
}
