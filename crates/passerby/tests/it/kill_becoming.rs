//! SIGKILL of the real process while guests claim, prove, sign in, merge and undo: afterwards everybody is a guest or an
//! account, never between, and what was merged came once (security checklist 22 and 35).

use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    accounts::{PASSWORD, ROOT},
    app::{Engine, contract},
    on_both,
    process::client,
};

const ROUNDS: u64 = 12;
const WORKERS: u64 = 8;

/// The server with merges that add numbers up, so that one made twice shows.
struct Server {
    child: Child,
    base: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(folder: &Path, database: &str, http: &reqwest::Client) -> Self {
        let file = folder.join("sum.toml");
        let text = contract().replacen(
            "[tenants.guests]",
            "[tenants.merge]\npolicies = [{ path = \"/views\", policy = \"sum\" }]\n\n[tenants.guests]",
            1,
        );
        fs::write(&file, text).unwrap();
        let port = passerby_testkit::free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_passerby"))
            .current_dir(folder)
            .args(["serve", "--config"])
            .arg(&file)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--database", database])
            .env("PASSERBY_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, base: format!("http://127.0.0.1:{port}") };
        let start = Instant::now();
        while !http.get(format!("{}/health/ready", server.base)).send().await.is_ok_and(|r| r.status() == 200) {
            assert!(start.elapsed() < Duration::from_secs(30), "the server did not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// How far somebody had come, as far as was acknowledged, and what was asked for last.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one step that was asked for or acknowledged")]
struct Story {
    email: String,
    account: String,
    /// The conversion was asked for, and acknowledged.
    proving: bool,
    converted: bool,
    guest: String,
    merging: bool,
    merged: bool,
    transfer: String,
    undoing: bool,
    undone: bool,
}

type Stories = Arc<Mutex<HashMap<String, Story>>>;

/// One who converts, and brings a guest along; it ends with the first answer that does not come.
struct Walker {
    http: reqwest::Client,
    base: String,
    stories: Stories,
    steps: Arc<AtomicU64>,
}

impl Walker {
    /// `None`: the server is gone.
    async fn call(&self, method: &str, path: &str, bearer: &str, body: &Value) -> Option<(u16, Value)> {
        let mut call = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if !bearer.is_empty() {
            call = call.bearer_auth(bearer);
        }
        if !body.is_null() {
            call = call.json(body);
        }
        let answer = call.send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.json().await.ok()?;
        self.steps.fetch_add(1, Relaxed);
        Some((status, body))
    }

    async fn done(&self, path: &str, bearer: &str, body: &Value) -> Option<Value> {
        let (status, answer) = self.call("POST", path, bearer, body).await?;
        assert!((200..300).contains(&status), "{path}: {answer}");
        Some(answer)
    }

    fn tell(&self, key: &str, change: impl FnOnce(&mut Story)) {
        change(self.stories.lock().unwrap().entry(key.to_owned()).or_default());
    }

    async fn walk(&self, key: &str) -> Option<()> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let email = format!("{key}@example.com");
        let made =
            self.done("/v1/guests", "", &json!({"client_id": "demo-spa", "data": {"views": 3, "who": key}})).await?;
        let (access, id) = (text(&made["access_token"]), text(&made["user"]["id"]));
        self.tell(key, |s| (s.email, s.account) = (email.clone(), id.clone()));
        let claim = self.done("/v1/me/identifiers", &access, &json!({"email": email})).await?;
        let claim = text(&claim["claim"]["id"]);
        let (_, mail) = self.call("GET", &format!("/dev/mailbox/messages?to={email}"), "", &Value::Null).await?;
        let code = text(&mail[0]["codes"][0]);
        self.tell(key, |s| s.proving = true);
        let proof = json!({"code": code, "password": PASSWORD});
        let owner = self.done(&format!("/v1/me/identifiers/{claim}/verify"), &access, &proof).await?;
        assert_eq!(owner["outcome"], "converted");
        self.tell(key, |s| s.converted = true);

        let made =
            self.done("/v1/guests", "", &json!({"client_id": "demo-spa", "data": {"views": 2, "guest": key}})).await?;
        let guest = text(&made["user"]["id"]);
        self.tell(key, |s| s.guest = guest.clone());
        let body = json!({"client_id": "demo-spa", "method": "password", "email": email, "password": PASSWORD, "session_token": made["session_token"]});
        let entered = self.done("/v1/sign-in", "", &body).await?;
        let access = text(&entered["access_token"]);
        self.tell(key, |s| s.merging = true);
        let ticket = json!({"merge_ticket": entered["merge_ticket"]});
        let merged = self.done("/v1/me/merge", &access, &ticket).await?;
        let transfer = text(&merged["transfer"]["id"]);
        self.tell(key, |s| (s.merged, s.transfer) = (true, transfer.clone()));
        let again = self.done("/v1/me/merge", &access, &ticket).await?;
        assert_eq!(again["receipt"], merged["receipt"]);
        self.tell(key, |s| s.undoing = true);
        self.done(&format!("/v1/transfers/{transfer}/undo"), &access, &json!({})).await?;
        self.tell(key, |s| s.undone = true);
        Some(())
    }
}

async fn shown(http: &reqwest::Client, base: &str, id: &str) -> Value {
    let answer = http.get(format!("{base}/v1/users/{id}")).bearer_auth(ROOT).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{id} was acknowledged");
    answer.json().await.unwrap()
}

/// Everybody is whole.
async fn look(http: &reqwest::Client, base: &str, key: &str, story: &Story) {
    let at = |what: &str| format!("{key}: {what}: {story:?}");
    let account = shown(http, base, &story.account).await;
    assert_eq!(account["data"]["who"], json!(key), "{}", at("data"));
    let identifiers = account["identifiers"].as_array().map_or(0, Vec::len);
    let enter = http
        .post(format!("{base}/v1/sign-in"))
        .json(&json!({"client_id": "demo-spa", "method": "password", "email": story.email, "password": PASSWORD}));
    let entered = enter.send().await.unwrap().status().as_u16();
    match account["kind"].as_str().unwrap() {
        "anonymous" => {
            assert!(!story.converted, "{}", at("an acknowledged conversion is lost"));
            assert_eq!((identifiers, entered), (0, 401), "{}", at("a guest with an account's things"));
            assert_eq!(account["epoch"], json!(0), "{}", at("a guest with an account's epoch"));
            return;
        }
        "regular" => {
            assert!(story.proving, "{}", at("nobody asked for it"));
            assert_eq!((identifiers, entered), (1, 200), "{}", at("an account without its things"));
            assert_eq!(account["epoch"], json!(1), "{}", at("an account with a guest's epoch"));
        }
        other => panic!("{}", at(other)),
    }
    if story.guest.is_empty() {
        assert_eq!(account["data"]["views"], json!(3), "{}", at("views"));
        return;
    }
    let guest = shown(http, base, &story.guest).await;
    let (views, has) = (&account["data"]["views"], account["data"].get("guest").is_some());
    if guest["id"] == account["id"] {
        assert!(story.merging && !story.undone, "{}", at("merged"));
        assert_eq!((views, has), (&json!(5), true), "{}", at("what was merged came once"));
    } else {
        assert!(!story.merged || story.undoing, "{}", at("an acknowledged merge is lost"));
        assert_eq!((views, has), (&json!(3), false), "{}", at("nothing of the guest's stayed"));
        assert_eq!((&guest["kind"], &guest["data"]), (&json!("anonymous"), &json!({"views": 2, "guest": key})));
    }
}

on_both! {
    async fn line_22_either_guest_or_account_after_sigkill(engine) {
        let folder = tempfile::tempdir().unwrap();
        let (database, _keep) = match engine {
            Engine::Sqlite => (format!("sqlite:{}", folder.path().join("p.db").display()), None),
            Engine::Postgres => { let d = passerby_testkit::postgres::fresh_database().await; (d.url.clone(), Some(d)) }
        };
        let http = client();
        let stories = Stories::default();
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..ROUNDS {
            let server = Server::start(folder.path(), &database, &http).await;
            let steps = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> = (0..WORKERS).map(|worker| {
                let walker = Walker { http: http.clone(), base: server.base.clone(), stories: stories.clone(), steps: steps.clone() };
                tokio::spawn(async move {
                    let mut n = 0;
                    while walker.walk(&format!("w{round}x{worker}x{n}")).await.is_some() { n += 1; }
                })
            }).collect();
            // after so many answers, not after so long: the machine's pace decides nothing
            seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
            let enough = 20 + seed % 120;
            let start = Instant::now();
            while steps.load(Relaxed) < enough {
                assert!(start.elapsed() < Duration::from_secs(60), "{} steps", steps.load(Relaxed));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.kill();
            for task in tasks { task.await.unwrap(); }
        }
        let server = Server::start(folder.path(), &database, &http).await;
        let stories = stories.lock().unwrap().clone();
        let count = |test: fn(&Story) -> bool| stories.values().filter(|s| test(s)).count();
        let met = [count(|s| s.proving && !s.converted), count(|s| s.merging && !s.merged), count(|s| s.undoing && !s.undone)];
        assert!(stories.len() >= 40 && count(|s| s.converted) > 20 && count(|s| s.merged) > 5, "{met:?} of {}", stories.len());
        assert!(met.iter().sum::<usize>() > 5, "the kills met steps that were under way: {met:?}");
        for (key, story) in &stories {
            if !story.account.is_empty() { look(&http, &server.base, key, story).await; }
        }
    }
}
