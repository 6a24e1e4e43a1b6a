//! What thieves get: a copy of the whole database, tokens without the key that they are bound to, the log.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use passerby_jose::b64;
use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Guest, TestApp},
    credentials::{Kind, Made, Mint, SECRET, increment},
    keys::DeviceKey,
    loot::{loot, tables, written},
    matrix_places::{Place, table},
    on_both,
    process::{client, contract_file, live_proof},
};

/// Kinds that are secrets: whoever holds one gets in, or further than without.
const SECRETS: [Kind; 24] = [
    Kind::Access,
    Kind::BoundAccess,
    Kind::FloatingAccess,
    Kind::ApiAccess,
    Kind::ClientAccess,
    Kind::Refresh,
    Kind::BoundRefresh,
    Kind::Session,
    Kind::BoundSession,
    Kind::SignedSession,
    Kind::FloatingSession,
    Kind::Cookie,
    Kind::TransferTicket,
    Kind::HandOffCode,
    Kind::RecoveryCode,
    Kind::ConfigKey,
    Kind::ApiKey,
    Kind::ClientSecret,
    Kind::CreationKey,
    Kind::OperationKey,
    Kind::Proof,
    Kind::ClaimLink,
    Kind::PasswordLink,
    Kind::MergeTicket,
];

/// One place of each sort at which a secret opens something.
fn doors() -> Vec<Place> {
    let wanted = |name: &str| {
        ["session_token ", "refresh_token ", "code /v1/guests"].iter().any(|start| name.starts_with(start))
            || (name.starts_with("client_") && name.contains("/oauth2/token") && !name.starts_with("client_id"))
            || [
                "Bearer GET /v1/me",
                "DPoP GET /v1/me",
                "Cookie GET /v1/me",
                "Bearer GET /oauth2/userinfo",
                "Bearer POST /v1/guests",
                "Bearer GET /v1/users",
                "Bearer GET /v1/epochs",
                "Basic GET /v1/epochs",
                "Basic POST /oauth2/introspect",
                "Bearer POST /oauth2/introspect",
                "token /oauth2/introspect",
                "DPoP: /v1/guests",
                "nonce of a proof",
            ]
            .contains(&name)
    };
    let doors: Vec<Place> = table().into_iter().filter(|place| wanted(&place.name)).collect();
    assert_eq!(doors.len(), 25, "{:?}", doors.iter().map(|d| &d.name).collect::<Vec<_>>());
    doors
}

/// Whether a text is nowhere in what is stored, neither as it is nor decoded.
fn is_absent(tables: &[Vec<u8>], text: &str) -> bool {
    let mut forms = vec![text.as_bytes().to_vec(), text.replace('-', "").into_bytes()];
    forms.extend(b64::decode(text));
    // the parts of a token: its signature or tag, what is sealed, what it says
    forms.extend(text.split(['.', '_']).filter(|part| part.len() >= 20).map(|part| part.as_bytes().to_vec()));
    forms.extend(text.split(['.', '_']).filter(|part| part.len() >= 20).filter_map(b64::decode));
    // words of a code that stand together
    let words: Vec<&str> = text.split(' ').collect();
    forms.extend(words.windows(2).map(|pair| pair.join(" ").into_bytes()));
    forms.iter().all(|form| !tables.iter().any(|value| value.windows(form.len()).any(|part| part == form)))
}

on_both! {
    async fn line_07_a_stolen_database_signs_in_nowhere(engine) {
        let mint = Mint::new(engine).await;
        let mut all = Vec::new();
        for kind in Kind::ALL {
            all.push(mint.make(kind).await);
        }
        // used ones leave their traces too
        let renewed = mint.make(Kind::Refresh).await;
        let body = json!({"client_id": renewed.client, "refresh_token": renewed.text});
        mint.app.post("/v1/refresh", &body).send().await.expect(200);
        let key = mint.make(Kind::Thumbprint).await;
        mint.app.call("POST", "/v1/me/recovery-code").bearer(&key.guest.access).send().await.expect(201);
        mint.app.call("DELETE", "/v1/me/sessions").bearer(&key.guest.access).send().await.expect(204);
        mint.app.core.run_jobs().await;

        let stored: Vec<Vec<u8>> = tables(&mint.app).await.into_values().flatten().flatten().collect();
        for made in all.iter().filter(|made| SECRETS.contains(&made.kind)) {
            assert!(is_absent(&stored, &made.text), "{:?} {} is stored", made.kind, made.text);
        }

        let mut loot = loot(&mint.app).await;
        assert!(loot.len() > 300, "{}", loot.len());
        // dressed as what they might be the inside of
        let prefixes: Vec<String> =
            loot.iter().filter(|t| t.starts_with("pbk_") && t.len() == 12).cloned().collect();
        assert!(!prefixes.is_empty());
        let dressed: Vec<String> = loot
            .iter()
            .filter(|text| (20..=64).contains(&text.len()))
            .flat_map(|text| {
                let keys = prefixes.iter().take(2).map(move |prefix| format!("{prefix}_{text}"));
                [format!("pbr_{text}")].into_iter().chain(keys)
            })
            .collect();
        loot.extend(dressed);
        // no header holds those
        loot.retain(|text| !text.chars().any(char::is_control));
        let before = written(&mint.app).await;
        let thief = Made { kind: Kind::CheckDigits, ..all[0].clone() };
        for place in doors() {
            for text in &loot {
                let answer = (place.ask)(&mint, &Made { text: text.clone(), key: thief.key.clone(), ..thief.clone() }).send().await;
                let inactive = place.name == "token /oauth2/introspect" && answer.json() == json!({"active": false});
                assert!(inactive || answer.status.is_client_error(), "{text} at {}: {} {}", place.name, answer.status, answer.text());
            }
        }
        assert_eq!(written(&mint.app).await, before);
        // as an idempotency key each makes somebody new
        let mut known: BTreeSet<String> = all.iter().map(|made| made.guest.id.clone()).collect();
        for text in loot.iter().filter(|t| (22..=44).contains(&t.len()) && t.is_ascii()) {
            let call = mint.app.post("/v1/guests", &json!({"client_id": "demo-spa"})).header("idempotency-key", text);
            let made = call.send().await.expect(201).json();
            assert!(made["created"] == true && known.insert(Guest::of(&made).id), "{text}");
        }
        // and what they were made of still works
        for made in all.iter().filter(|made| made.kind == Kind::Access) {
            mint.app.get("/v1/me").bearer(&made.text).send().await.expect(200);
        }
    }

    async fn line_17_a_stolen_bound_token_is_of_no_use_anywhere(engine) {
        let mint = Mint::new(engine).await;
        let app = &mint.app;
        let owner = mint.make(Kind::BoundAccess).await;
        let thief = DeviceKey::new();
        // the thief is somebody here, with a key of its own
        let body = json!({"client_id": "demo-spa", "bind_tokens": true});
        let stranger = Guest::of(&thief.post(app, "/v1/guests", &body).send().await.expect(201).json());
        // one proof of the owner's was overheard for each place: unused, and used
        let before = written(app).await;
        for (method, path, body) in shown_at() {
            let call = || with_body(app.call(method, path), path, &body);
            let by = |scheme: &str| call().header("authorization", &format!("{scheme} {}", owner.guest.access));
            let refused = |answer: Answer, what: &str| {
                let text = answer.text();
                assert_eq!(answer.status, 401, "{what} {method} {path}: {text}");
                assert!(answer.header("www-authenticate").starts_with("DPoP"), "{what} {method} {path}: {text}");
            };
            let good = |key: &DeviceKey, token: &str| mint.proof(key, method, path, token);
            refused(by("Bearer").send().await, "as a bearer");
            refused(by("Bearer").header("dpop", &good(&thief, &owner.guest.access)).send().await, "as a bearer with a proof");
            refused(by("Bearer").header("dpop", &good(&owner.key, &owner.guest.access)).send().await, "as a bearer with the owner's proof");
            refused(by("DPoP").send().await, "without a proof");
            refused(by("DPoP").header("dpop", &good(&thief, &owner.guest.access)).send().await, "with a proof of the thief's");
            let elsewhere = mint.proof(&owner.key, "GET", "/v1/elsewhere", &owner.guest.access);
            refused(by("DPoP").header("dpop", &elsewhere).send().await, "with a proof for elsewhere");
            refused(by("DPoP").header("dpop", &good(&owner.key, &stranger.access)).send().await, "with a proof for another token");
            let own = call().header("authorization", &format!("DPoP {}", stranger.access));
            refused(own.header("dpop", &good(&owner.key, &stranger.access)).send().await, "the thief's token with the owner's proof");
        }
        for (what, path, body) in held_at(&owner) {
            let call = || body_of(app, path, &body);
            let refused = |answer: Answer, how: &str| {
                let body = answer.expect(400).json();
                assert!(body["code"] == "invalid_dpop_proof" || body["error"] == "invalid_dpop_proof", "{what} {path} {how}: {body}");
            };
            refused(call().send().await, "without a proof");
            refused(call().header("dpop", &thief.proof(app, "POST", path, None)).send().await, "with a proof of the thief's");
            refused(call().header("dpop", &owner.key.proof(app, "POST", "/v1/elsewhere", None)).send().await, "with a proof for elsewhere");
            let bearer = call().bearer(&owner.guest.access).header("dpop", &thief.proof(app, "POST", path, None)).send().await;
            assert!(bearer.status.is_client_error(), "{}", bearer.text());
        }
        assert_eq!(written(app).await, before, "nothing was done");
        // a proof that the owner used
        for (method, path, body) in shown_at() {
            if ends(method, path) { continue; }
            let proof = mint.proof(&owner.key, method, path, &owner.guest.access);
            let call = || with_body(app.call(method, path), path, &body)
                .header("authorization", &format!("DPoP {}", owner.guest.access)).header("dpop", &proof);
            let first = call().send().await;
            assert!(![400, 401, 403].contains(&first.status.as_u16()), "{method} {path}: {}", first.text());
            let again = call().send().await;
            assert_eq!(again.status, 401, "{method} {path} again: {}", again.text());
        }
        for (what, path, body) in held_at(&owner) {
            let proof = owner.key.proof(app, "POST", path, None);
            body_of(app, path, &body).header("dpop", &proof).send().await.expect(200);
            let again = body_of(app, path, &body).header("dpop", &proof).send().await;
            again.expect(400);
            assert!(again.text().contains("invalid_dpop_proof"), "{what} {path}: {}", again.text());
        }
    }
}

/// Where an access token is shown by its scheme.
fn shown_at() -> Vec<(&'static str, &'static str, Value)> {
    let none = Value::Null;
    let spa = json!({"client_id": "demo-spa"});
    vec![
        ("GET", "/v1/me", none.clone()),
        ("PATCH", "/v1/me/data", json!({"a": 1})),
        ("POST", "/v1/me/data/operations", increment()),
        ("GET", "/v1/me/sessions", none.clone()),
        ("DELETE", "/v1/me/sessions/x", none.clone()),
        ("GET", "/v1/me/export", none.clone()),
        ("GET", "/v1/me/device-keys", none.clone()),
        ("POST", "/v1/me/device-keys", none.clone()),
        ("PATCH", "/v1/me/device-keys/x", json!({"name": "x"})),
        ("DELETE", "/v1/me/device-keys/x", none.clone()),
        ("GET", "/v1/me/notices", none.clone()),
        ("POST", "/v1/me/hand-off", none.clone()),
        ("GET", "/v1/me/hand-off", none.clone()),
        ("POST", "/v1/me/hand-off/x/confirm", none.clone()),
        ("DELETE", "/v1/me/hand-off", none.clone()),
        ("POST", "/v1/me/recovery-code", none.clone()),
        ("GET", "/v1/me/recovery", none.clone()),
        ("DELETE", "/v1/me/recovery", none.clone()),
        ("GET", "/oauth2/userinfo", none.clone()),
        ("POST", "/oauth2/userinfo", none.clone()),
        ("POST", "/v1/guests", spa),
        ("DELETE", "/v1/me/sessions", none.clone()),
        ("POST", "/v1/logout", json!({})),
        ("DELETE", "/v1/me", none),
    ]
}

/// What ends the session whose token is shown.
fn ends(method: &str, path: &str) -> bool {
    path == "/v1/logout" || (method == "DELETE" && ["/v1/me", "/v1/me/sessions"].contains(&path))
}

/// Where the session's other tokens are shown.
fn held_at(owner: &Made) -> Vec<(&'static str, &'static str, Value)> {
    let spa = |name: &str, token: &str| json!({"client_id": "demo-spa", name: token});
    let guest = &owner.guest;
    vec![
        ("session token", "/v1/guests", spa("session_token", &guest.session_token)),
        ("session token", "/anonymous/token", spa("session_token", &guest.session_token)),
        ("refresh token", "/v1/refresh", spa("refresh_token", &guest.refresh)),
        (
            "refresh token",
            "/oauth2/token",
            json!({"client_id": "demo-spa", "grant_type": "refresh_token", "refresh_token": guest.refresh}),
        ),
    ]
}

fn with_body(call: Call, path: &str, body: &Value) -> Call {
    match (path, body) {
        (_, Value::Null) => call,
        ("/v1/me/data", body) => call.raw(body.to_string().into_bytes(), "application/merge-patch+json"),
        (_, body) => call.json(body),
    }
}

fn body_of(app: &TestApp, path: &str, body: &Value) -> Call {
    if path != "/oauth2/token" {
        return app.post(path, body);
    }
    let pairs: Vec<(&str, &str)> =
        body.as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
    app.call("POST", path).form(&pairs)
}

/// The ways back, at the most talkative log level; then every line is searched for what was shown and given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_43_no_secret_of_coming_back_reaches_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_passerby"))
        .current_dir(folder.path())
        .args(["serve", "--config"])
        .arg(contract_file())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--database", "sqlite:p.db", "--log", "trace"])
        .env("PASSERBY_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let site = Site { http: client(), port };
    let start = Instant::now();
    while site.http.get(site.url("/health/ready")).send().await.map_or(0, |r| r.status().as_u16()) != 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let canaries = site.comes_back().await;
    child.kill().unwrap();
    child.wait().unwrap();
    let said = fs::read_to_string(folder.path().join("log")).unwrap();
    for route in ["/v1/guests/hand-off", "/v1/guests/recover", "/v1/api-keys", "/v1/me/recovery-code"] {
        assert!(said.contains(route), "{route} is logged");
    }
    for (what, canary) in canaries {
        assert!(canary.len() >= 8, "{what}: {canary}");
        for form in [canary.clone(), canary.replace('-', ""), canary.to_lowercase(), b64::encode(canary.as_bytes())] {
            assert!(!said.contains(&form), "{what} is in the log: {form}");
        }
    }
}

/// A running server.
struct Site {
    http: reqwest::Client,
    port: u16,
}

impl Site {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn send(&self, call: reqwest::RequestBuilder, status: u16) -> Value {
        let answer = call.send().await.unwrap();
        let (got, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(got, status, "{text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Goes every way back, with right and wrong things; what was shown and given on it.
    async fn comes_back(&self) -> Vec<(&'static str, String)> {
        let post = |path: &str, body: Value| self.http.post(self.url(path)).json(&body);
        let text = |v: &Value| v.as_str().unwrap_or_else(|| panic!("{v}")).to_owned();
        let end = |token: &str| token[token.len() - 40..].to_owned();
        let mut canaries = vec![("client secret", SECRET.to_owned())];
        let key = DeviceKey::new();
        let bind = json!({"client_id": "demo-spa", "bind_tokens": true});
        let first = live_proof(&key, "", "POST", "/v1/guests", None);
        let asked = post("/v1/guests", bind.clone()).header("dpop", &first).send().await.unwrap();
        assert_eq!(asked.status().as_u16(), 400);
        let nonce = asked.headers()["dpop-nonce"].to_str().unwrap().to_owned();
        let proof = live_proof(&key, &nonce, "POST", "/v1/guests", None);
        let bound = self.send(post("/v1/guests", bind.clone()).header("dpop", &proof), 201).await;
        self.send(post("/v1/guests", bind).header("dpop", &proof), 400).await;
        canaries.extend([("a refused proof", end(&first)), ("a proof", end(&proof))]);
        for name in ["access_token", "refresh_token", "session_token"] {
            canaries.push((name, end(&text(&bound[name]))));
        }
        // shown without its key, and with it
        let access = text(&bound["access_token"]);
        let me = || self.http.get(self.url("/v1/me"));
        self.send(me().bearer_auth(&access), 401).await;
        let proof = live_proof(&key, &nonce, "GET", "/v1/me", Some(&access));
        let scheme = format!("DPoP {access}");
        self.send(me().header("authorization", &scheme).header("dpop", &proof), 200).await;
        canaries.push(("a proof of an access token", end(&proof)));
        let request = "canary-idempotency-key-4711";
        let loose = self
            .send(post("/v1/guests", json!({"client_id": "demo-spa"})).header("idempotency-key", request), 201)
            .await;
        canaries.push(("idempotency key", request.into()));
        let by = |path: &str| self.http.post(self.url(path)).bearer_auth(text(&loose["access_token"]));
        // a hand-off, with a wrong code before
        let code = text(&self.send(by("/v1/me/hand-off"), 201).await["code"]);
        let take = |body: Value| post("/v1/guests/hand-off", body);
        self.send(take(json!({"client_id": "demo-spa", "code": "WXYZ-WXYZ"})), 400).await;
        let asked = self.send(take(json!({"client_id": "demo-spa", "code": code})), 200).await;
        let id = text(&asked["id"]);
        self.send(by(&format!("/v1/me/hand-off/{id}/confirm")), 200).await;
        let second = self.send(take(json!({"client_id": "demo-spa", "code": code, "id": id})), 200).await;
        canaries.extend([("hand-off code", code), ("wrong code", "WXYZ-WXYZ".into()), ("asking id", id)]);
        canaries.push(("second device's tokens", end(&text(&second["refresh_token"]))));
        // a recovery
        let code = text(&self.send(by("/v1/me/recovery-code"), 201).await["code"]);
        let done = self.send(post("/v1/guests/recover", json!({"client_id": "demo-spa", "code": code})), 200).await;
        self.send(post("/v1/guests/recover", json!({"client_id": "demo-spa", "code": code})), 400).await;
        for code in [code, text(&done["recovery_code"])] {
            canaries
                .extend(code.split(' ').collect::<Vec<_>>().windows(2).map(|pair| ("recovery code", pair.join(" "))));
        }
        canaries.push(("recovered tokens", end(&text(&done["session_token"]))));
        // an API key, good, wrong and rotated
        let root = "acceptance-root-key-0123456789abcdef0123456789";
        let made = self.send(post("/v1/api-keys", json!({"name": "canary"})).bearer_auth(root), 201).await;
        let (id, api_key) = (text(&made["id"]), text(&made["key"]));
        let users = |key: &str| self.http.get(self.url("/v1/users")).bearer_auth(key);
        self.send(users(&api_key), 200).await;
        self.send(users(&api_key[..55]), 401).await;
        let rotated = self.send(post(&format!("/v1/api-keys/{id}/rotate"), json!({})).bearer_auth(root), 201).await;
        for key in [&api_key, &text(&rotated["key"])] {
            canaries.push(("API key", key[13..].to_owned()));
        }
        canaries.push(("root key", root.into()));
        self.send(self.http.get(self.url("/v1/epochs?since=canary-cursor")).basic_auth("demo-web", Some(SECRET)), 400)
            .await;
        self.send(self.http.get(self.url("/v1/me?access_token=canary-in-the-url")), 401).await;
        canaries.push(("a token in a URL", "canary-in-the-url".into()));
        canaries
    }
}
