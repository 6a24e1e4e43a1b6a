//! Canaries through every flow of accounts: passwords, codes, links and addresses stand in no log, metric or error, and
//! lie nowhere in clear; after an erasure nothing of the account is anywhere (security checklist 7, 43 and 44).

use std::{
    fs,
    process::{Child, Command},
    time::{Duration, Instant},
};

use passerby_jose::b64;
use serde_json::{Value, json};

use crate::{
    accounts::{ROOT, claim, code, enter, guest_with, letters, link, prove, submit, token, verify},
    app::{Engine, Guest, TestApp},
    keys::DeviceKey,
    loot::tables,
    on_both,
    process::{client, contract_file},
};

const ADDRESS: &str = "canary.address@canary-domain.example";
const SECOND: &str = "canary.second@canary-domain.example";
const NUMBER: &str = "+4915198765432";
const NAME: &str = "canary_name";
const PASSWORD: &str = "canary password one two three";
const ANEW: &str = "canary password four five six";
const WRONG: &str = "canary password that is wrong";
const DATA: &str = "canary data 4711";
const DEVICE: &str = "Canary device 4711";
const STATE: &str = "canary state 4711";

/// A server whose log is a file.
struct Logged {
    child: Child,
    base: String,
    http: reqwest::Client,
    folder: tempfile::TempDir,
    /// Every secret that was seen.
    seen: Vec<String>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logged {
    async fn start(database: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = passerby_testkit::free_port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_passerby"))
            .current_dir(folder.path())
            .args(["serve", "--config"])
            .arg(contract_file())
            .args(["--listen", &format!("127.0.0.1:{port}"), "--log", "trace"])
            .args(["--database", database.unwrap_or("sqlite:p.db")])
            .env("PASSERBY_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, base: format!("http://127.0.0.1:{port}"), http: client(), folder, seen: Vec::new() };
        let start = Instant::now();
        loop {
            let ready = server.http.get(format!("{}/health/ready", server.base)).send().await;
            if ready.is_ok_and(|r| r.status() == 200) {
                return server;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A call; what comes back must be no fault of the server's.
    async fn call(&mut self, method: &str, path: &str, bearer: &str, body: Value) -> Value {
        let mut call = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if !bearer.is_empty() {
            call = call.bearer_auth(bearer);
        }
        if !body.is_null() {
            call = call.json(&body);
        }
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!(status < 500, "{method} {path}: {text}");
        if status >= 400 {
            for canary in [PASSWORD, ANEW, WRONG, DATA] {
                assert!(!text.contains(canary), "{method} {path} says {canary}: {text}");
            }
        }
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        for member in ["access_token", "refresh_token", "session_token", "merge_ticket", "receipt"] {
            if let Some(text) = answer[member].as_str() {
                self.seen.push(text[text.len() - 40..].to_owned());
            }
        }
        answer
    }

    async fn post(&mut self, path: &str, bearer: &str, body: Value) -> Value {
        self.call("POST", path, bearer, body).await
    }

    /// Code and link of the newest message to an address.
    async fn mail(&mut self, to: &str) -> (String, String) {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", to).finish();
        let list = self.call("GET", &format!("/dev/mailbox/messages?{query}"), "", Value::Null).await;
        let first = |member: &str| {
            let found = list.as_array().unwrap().iter().find_map(|m| m[member][0].as_str());
            found.unwrap_or_default().to_owned()
        };
        let (code, link) = (first("codes"), first("links"));
        if let Some((_, token)) = link.split_once("token=") {
            self.seen.push(token.to_owned());
        }
        if !code.is_empty() {
            self.seen.push(code.clone());
        }
        (code, link.split_once("token=").map_or(String::new(), |(_, t)| t.to_owned()))
    }

    async fn guest(&mut self) -> Guest {
        let body = json!({"client_id": "demo-spa", "data": {"x": DATA}, "device": DEVICE});
        Guest::of(&self.post("/v1/guests", "", body).await)
    }
}

/// Whether a text says something: six digits only where they stand alone, as they may be part of any number.
fn says(text: &str, canary: &str) -> bool {
    if canary.len() > 6 {
        return text.contains(canary);
    }
    text.match_indices(canary).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + canary.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        !part(before) && !part(after)
    })
}

#[test]
fn a_canary_is_found_where_it_is_said() {
    assert!(says("the code \"123456\" was sent", "123456") && says("code=123456", "123456"));
    assert!(!says("12:00:00.123456Z took 0.123456 s, id 9123456", "123456"));
    assert!(says("to=canary.address@x", "canary.address@x"));
}

/// Whether bytes say something, as they are, decoded, or inside of JSON.
fn lies_in(value: &[u8], canary: &str) -> bool {
    let has = |bytes: &[u8]| {
        if canary.len() > 6 {
            let canary = canary.to_lowercase();
            let lower = bytes.to_ascii_lowercase();
            return lower.windows(canary.len()).any(|part| part == canary.as_bytes());
        }
        says(&String::from_utf8_lossy(bytes), canary)
    };
    has(value) || std::str::from_utf8(value).ok().and_then(b64::decode).is_some_and(|decoded| has(&decoded))
}

on_both! {
    async fn line_43_no_flow_of_accounts_says_a_secret(engine) {
        let database = if engine == Engine::Postgres { Some(passerby_testkit::postgres::fresh_database().await) } else { None };
        let mut s = Logged::start(database.as_ref().map(|d| d.url.as_str())).await;
        // by address, with tries that fail on the way
        let guest = s.guest().await;
        let made = s.post("/v1/me/identifiers", &guest.access, json!({"email": ADDRESS})).await;
        let path = format!("/v1/me/identifiers/{}/verify", made["claim"]["id"].as_str().unwrap());
        let (code, link) = s.mail(ADDRESS).await;
        assert!(code.len() == 6 && link.len() > 40);
        s.post(&path, &guest.access, json!({"code": "canary-code-4711"})).await;
        s.post(&path, &guest.access, json!({"code": code, "password": "canary"})).await;
        let page = s.http.get(format!("{}/ui/link?token={link}", s.base)).send().await.unwrap();
        assert_eq!(page.status(), 200);
        let form = s.http.post(format!("{}/ui/link", s.base)).header("origin", s.base.clone()).header("content-type", "application/x-www-form-urlencoded");
        assert!(form.body(format!("token={link}&action=confirm")).send().await.unwrap().status().as_u16() < 500);
        let owner = Guest::of(&s.post(&path, &guest.access, json!({"code": code, "password": PASSWORD})).await);
        assert_eq!(owner.id, guest.id);
        // by number, and by name
        let other = s.guest().await;
        let made = s.post("/v1/me/identifiers", &other.access, json!({"phone": NUMBER})).await;
        let (code, _) = s.mail(NUMBER).await;
        s.post(&format!("/v1/me/identifiers/{}/verify", made["claim"]["id"].as_str().unwrap()), &other.access, json!({"code": code})).await;
        let named = s.guest().await;
        let made = s.post("/v1/me/identifiers", &named.access, json!({"username": NAME})).await;
        s.post(&format!("/v1/me/identifiers/{}/verify", made["claim"]["id"].as_str().unwrap()), &named.access, json!({"password": PASSWORD})).await;
        // signing in, with a guest beside it, and its merge
        let beside = s.guest().await;
        for password in [WRONG, PASSWORD] {
            for (member, value) in [("email", ADDRESS), ("username", NAME), ("phone", NUMBER), ("email", "canary.nobody@canary-domain.example")] {
                let body = json!({"client_id": "demo-spa", "method": "password", member: value, "password": password, "session_token": beside.session_token});
                s.post("/v1/sign-in", "", body).await;
            }
        }
        let begun = s.post("/v1/sign-in", "", json!({"client_id": "demo-spa", "method": "code", "email": ADDRESS, "device": DEVICE})).await;
        let (code, _) = s.mail(ADDRESS).await;
        let finish = json!({"client_id": "demo-spa", "method": "code", "claim": begun["claim"]["id"], "code": code, "session_token": beside.session_token});
        let entered = s.post("/v1/sign-in", "", finish.clone()).await;
        let mine = entered["access_token"].as_str().unwrap().to_owned();
        s.post("/v1/sign-in", "", finish).await;
        let merged = s.post("/v1/me/merge", &mine, json!({"merge_ticket": entered["merge_ticket"]})).await;
        let transfer = merged["transfer"]["id"].as_str().unwrap().to_owned();
        s.post(&format!("/v1/transfers/{transfer}/undo"), &mine, json!({})).await;
        s.post("/v1/me/merge", &mine, json!({"merge_ticket": format!("{}x", entered["merge_ticket"].as_str().unwrap())})).await;
        // passwords changed, forgotten, set by a back end, by hashes that cannot be read
        s.post("/v1/me/password", &mine, json!({"current_password": WRONG, "password": ANEW})).await;
        s.post("/v1/me/password", &mine, json!({"current_password": PASSWORD, "password": ANEW})).await;
        s.post("/v1/password/forgot", "", json!({"client_id": "demo-spa", "email": ADDRESS, "state": {"x": STATE}})).await;
        let (_, link) = s.mail(ADDRESS).await;
        s.post("/v1/password/reset", "", json!({"token": format!("{link}x"), "password": ANEW})).await;
        s.post("/v1/password/reset", "", json!({"token": link, "password": "short"})).await;
        s.post("/v1/password/reset", "", json!({"token": link, "password": PASSWORD})).await;
        let users = format!("/v1/users/{}", owner.id);
        s.post(&format!("{users}/password"), ROOT, json!({"password": ANEW})).await;
        s.post(&format!("{users}/password"), ROOT, json!({"password_hash": "$canary$hash-4711"})).await;
        s.post(&format!("{users}/identifiers"), ROOT, json!({"email": SECOND, "verified": true})).await;
        s.post(&format!("{users}/identifiers"), ROOT, json!({"email": "not an address of canary-domain.example", "verified": true})).await;
        s.post("/v1/users", ROOT, json!({"kind": "regular", "identifiers": [{"kind": "email", "value": SECOND, "verified": true}], "password": PASSWORD})).await;
        let given = s.post(&format!("{users}/password-link"), ROOT, json!({"client_id": "demo-spa", "send": false})).await;
        if let Some((_, token)) = given["url"].as_str().and_then(|url| url.split_once("token=")) { s.seen.push(token.to_owned()); }
        // the token endpoint
        for body in [
            json!({"grant_type": "urn:passerby:params:oauth:grant-type:claim", "client_id": "demo-spa", "subject_token": beside.access, "claim": "x", "code": "canary-code-4711"}),
            json!({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "client_id": "demo-spa", "subject_token": mine, "subject_token_type": "x", "actor_token": beside.access, "actor_token_type": "y"}),
            json!({"grant_type": "password", "client_id": "demo-spa", "username": ADDRESS, "password": PASSWORD}),
        ] { s.post("/oauth2/token", "", body).await; }
        for path in ["/v1/events", "/v1/outbox/dead", "/v1/templates", &users] {
            let said = s.call("GET", path, ROOT, Value::Null).await.to_string();
            for secret in [PASSWORD, ANEW, WRONG].into_iter().map(str::to_owned).chain(s.seen.clone()) {
                assert!(!says(&said, &secret), "{path} says {secret}");
            }
        }
        s.call("DELETE", &users, ROOT, Value::Null).await;

        let metrics = s.http.get(format!("{}/metrics", s.base)).send().await.unwrap().text().await.unwrap();
        assert!(metrics.contains("passerby_sign_ins"));
        s.child.kill().unwrap();
        s.child.wait().unwrap();
        let log = fs::read_to_string(s.folder.path().join("log")).unwrap();
        assert!(log.contains("/v1/sign-in"), "requests are logged by route");
        let secrets: Vec<String> = [ADDRESS, SECOND, NUMBER, &NUMBER[1..], NAME, PASSWORD, ANEW, WRONG, DATA, DEVICE, STATE, "canary.nobody", "canary-domain", "canary-code-4711", "$canary$hash", "canary password", ROOT]
            .into_iter().map(str::to_owned).chain(std::mem::take(&mut s.seen)).collect();
        assert!(secrets.len() > 30);
        for secret in secrets {
            // the moment at the head of a line may hold any digits
            let line = log.lines().find(|line| says(line, &secret));
            assert!(line.is_none(), "{secret} is in the log: {line:?}");
            assert!(!says(&metrics, &secret), "{secret} is a metric");
        }
    }

    async fn line_07_nothing_that_proves_lies_in_clear(engine) {
        let app = TestApp::new(engine).await;
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest, &json!({"email": ADDRESS})).await;
        let mut secrets = vec![code(&app, ADDRESS).await, link(&app, ADDRESS).await];
        let proof = json!({"code": secrets[0], "password": PASSWORD});
        let owner = Guest::of(&verify(&app, &guest, &id, &proof).send().await.expect(200).json());
        app.advance(Duration::from_secs(1));
        claim(&app, &owner, &json!({"phone": NUMBER})).await;
        secrets.push(code(&app, NUMBER).await);
        app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": ADDRESS})).send().await.expect(202);
        secrets.extend([code(&app, ADDRESS).await, link(&app, ADDRESS).await]);
        app.advance(Duration::from_secs(1));
        app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": ADDRESS})).send().await.expect(202);
        secrets.push(link(&app, ADDRESS).await);
        let own = json!({"client_id": "demo-spa", "send": false});
        let given = app.post(&format!("/v1/users/{}/password-link", owner.id), &own).bearer(ROOT).send().await;
        secrets.push(given.json()["url"].as_str().unwrap().to_owned());
        let tables = tables(&app).await;
        let values: Vec<&Vec<u8>> = tables.values().flatten().flatten().collect();
        // the rows of messages are sealed: not even the address is read in them
        let sealed: Vec<&Vec<u8>> = tables["outbox"].iter().flatten().collect();
        assert!(tables["outbox"].len() >= 5 && sealed.iter().all(|value| !lies_in(value, ADDRESS) && !lies_in(value, NUMBER)));
        assert!(values.iter().any(|value| lies_in(value, ADDRESS)), "the search finds what is there: the identifier");
        for secret in secrets {
            let secret = secret.rsplit_once("token=").map_or(secret.clone(), |(_, token)| token.to_owned());
            assert!(secret.len() == 6 || secret.len() > 40);
            assert!(values.iter().all(|value| !lies_in(value, &secret)), "{secret}");
            if let Some((_, rest)) = secret.split_once('.') {
                // the part that only the link has
                let bytes = b64::decode(rest).unwrap();
                for part in [&bytes[32..48], b64::encode(&bytes[32..48]).as_bytes()] {
                    assert!(values.iter().all(|value| !value.windows(part.len()).any(|w| w == part)), "{secret}");
                }
            }
        }
        for word in [PASSWORD, "canary password", &b64::encode(PASSWORD.as_bytes())] {
            assert!(values.iter().all(|value| !lies_in(value, word)), "{word}");
        }
        let hash = values.iter().find(|value| lies_in(value, "$argon2id$")).expect("it is kept as a slow hash");
        assert!(String::from_utf8_lossy(hash).contains("$argon2id$"));
    }

    async fn line_44_nothing_is_left_of_who_was_erased(engine) {
        let app = TestApp::new(engine).await;
        for by in ["owner", "back end"] {
            let guest = guest_with(&app, &json!({"x": DATA})).await;
            let id = claim(&app, &guest, &json!({"email": ADDRESS})).await;
            let proof = json!({"code": code(&app, ADDRESS).await, "password": PASSWORD});
            let owner = Guest::of(&verify(&app, &guest, &id, &proof).send().await.expect(200).json());
            app.advance(Duration::from_secs(1));
            prove(&app, &owner, SECOND).await.expect(200);
            let number = claim(&app, &owner, &json!({"phone": NUMBER})).await;
            verify(&app, &owner, &number, &json!({"code": code(&app, NUMBER).await})).send().await.expect(200);
            DeviceKey::new().post(&app, "/v1/me/device-keys", &json!({"name": DEVICE})).bearer(&owner.access).send().await.expect(201);
            claim(&app, &owner, &json!({"email": "canary.open@canary-domain.example"})).await;
            // a guest merged into it, another merge taken back, a name by a back end
            for undone in [false, true] {
                let more = guest_with(&app, &json!({"more": "canary data of a guest"})).await;
                let body = json!({"client_id": "demo-spa", "method": "password", "email": ADDRESS, "password": PASSWORD, "session_token": more.session_token});
                let entered = app.post("/v1/sign-in", &body).send().await.expect(200).json();
                let mine = entered["access_token"].as_str().unwrap().to_owned();
                let merged = app.post("/v1/me/merge", &json!({"merge_ticket": entered["merge_ticket"]})).bearer(&mine).send().await.expect(200).json();
                if undone {
                    let path = format!("/v1/transfers/{}/undo", merged["transfer"]["id"].as_str().unwrap());
                    let undone = app.post(&path, &json!({})).bearer(&mine).send().await.expect(200).json();
                    let back = Guest::of(&undone["guest"]);
                    app.call("DELETE", "/v1/me").bearer(&back.access).send().await.expect(204);
                }
            }
            app.post(&format!("/v1/users/{}/identifiers", owner.id), &json!({"external_id": "canary-external"})).bearer(ROOT).send().await;
            app.post("/v1/sign-in", &json!({"client_id": "demo-spa", "method": "code", "email": ADDRESS, "device": DEVICE})).send().await.expect(202);
            app.post("/v1/password/forgot", &json!({"client_id": "demo-spa", "email": SECOND, "state": {"x": STATE}})).send().await.expect(202);
            let everything = |tables: &std::collections::BTreeMap<String, Vec<Vec<Vec<u8>>>>, word: &str| -> Vec<String> {
                let in_table = |rows: &Vec<Vec<Vec<u8>>>| rows.iter().flatten().any(|value| lies_in(value, word));
                tables.iter().filter(|(_, rows)| in_table(rows)).map(|(name, _)| name.clone()).collect()
            };
            let words = [ADDRESS, SECOND, &NUMBER[1..], "canary-domain", DATA, "canary data of a guest", DEVICE, "canary-external"];
            let before = tables(&app).await;
            assert!(words.iter().filter(|word| !everything(&before, word).is_empty()).count() >= 7, "the search finds them");

            if by == "owner" {
                let me = Guest::of(&enter(&app, ADDRESS, PASSWORD).send().await.expect(200).json());
                app.call("DELETE", "/v1/me").bearer(&me.access).send().await.expect(204);
            } else {
                app.call("DELETE", &format!("/v1/users/{}", owner.id)).bearer(ROOT).send().await.expect(204);
            }
            // flows of an address belong to no user; they end within the hour, and the sweep takes them
            app.advance(Duration::from_secs(3 * 24 * 3600 + 1));
            for _ in 0..3 {
                app.core.run_jobs().await;
                app.advance(Duration::from_secs(3600));
            }
            let after = tables(&app).await;
            for word in words {
                assert_eq!(everything(&after, word), [""; 0], "{word} by {by}");
            }
            // the address is free: for codes, passwords, and somebody else
            enter(&app, ADDRESS, PASSWORD).send().await.refused(401, "invalid_credentials");
            let next = guest_with(&app, &json!({})).await;
            let made = prove(&app, &next, ADDRESS).await.expect(200).json();
            assert_eq!((&made["outcome"], &made["user"]["id"]), (&json!("converted"), &json!(next.id)));
            let made = Guest::of(&made);
            app.call("DELETE", "/v1/me").bearer(&made.access).send().await.expect(204);
            assert!(letters(&app, "nobody@example.com").await.is_empty());
            app.advance(Duration::from_secs(1));
        }
    }

    async fn line_43_refusals_repeat_no_secret(engine) {
        let app = TestApp::new(engine).await;
        let guest = guest_with(&app, &json!({})).await;
        let id = claim(&app, &guest, &json!({"email": ADDRESS})).await;
        let verify_path = format!("/v1/me/identifiers/{id}/verify");
        let secret = "canary secret 4711";
        for (path, body) in [
            (verify_path.as_str(), json!({"code": secret})),
            (&verify_path, json!({"code": "000000", "password": secret})),
            (&verify_path, json!({"password": 4711, "code": secret})),
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": "password", "email": ADDRESS, "password": secret})),
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": secret, "email": ADDRESS, "password": secret})),
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": "code", "claim": secret, "code": secret})),
            ("/v1/sign-in", json!({"client_id": "demo-spa", "method": "password", "email": ADDRESS, "password": secret, "session_token": secret})),
            ("/v1/password/reset", json!({"token": secret, "password": secret})),
            ("/v1/me/password", json!({"current_password": secret, "password": secret})),
            ("/v1/me/merge", json!({"merge_ticket": secret})),
        ] {
            let answer = app.post(path, &body).bearer(&guest.access).send().await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
            for word in [secret, "4711", ADDRESS] {
                assert!(!answer.text().contains(word), "{path} repeats {word}: {}", answer.text());
            }
        }
        let page = app.get("/ui/link?token=canary-secret-4711").send().await;
        assert!(!page.expect(400).text().contains("canary"));
        let page = submit(&app, "/ui/link", &[("token", "canary-secret-4711"), ("action", "confirm")]).send().await;
        assert!(!page.expect(400).text().contains("canary"));
        // who has a link sees little of the address
        let mail = link(&app, ADDRESS).await;
        let page = app.get(&mail).send().await;
        assert!(!page.expect(200).text().contains(ADDRESS) && !token(&mail).is_empty());
    }
}
