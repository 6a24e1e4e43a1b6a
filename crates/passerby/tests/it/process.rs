//! The real binary: the contract's configuration, SIGKILL under load, shutdown, a store that goes and comes back.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use passerby::ports::SystemClock;
use passerby_core::port::Clock as _;
use passerby_jose::{b64, sha256};
use serde_json::{Value, json};

use crate::{keys::DeviceKey, on_both};

const BINARY: &str = env!("CARGO_BIN_EXE_passerby");

pub fn contract_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/contract/passerby.toml")
}

/// An HTTP client; the TLS provider is the process's.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// A proof of a key for a running server, by the system's clock.
pub fn live_proof(key: &DeviceKey, nonce: &str, method: &str, path: &str, token: Option<&str>) -> String {
    let mut jti = [0; 16];
    passerby_jose::fill_random(&mut jti).unwrap();
    let mut claims = json!({
        "jti": b64::encode(&jti), "htm": method, "htu": format!("http://localhost:9011{path}"),
        "iat": SystemClock::default().now().seconds(), "nonce": nonce,
    });
    if let Some(token) = token {
        claims["ath"] = b64::encode(&sha256(token.as_bytes())).into();
    }
    key.sign(&key.header(), &claims)
}

pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub async fn start(folder: &std::path::Path, database: &str, port: u16) -> Self {
        Self::start_of(BINARY.as_ref(), folder, database, port).await
    }

    /// Another build of the program.
    pub async fn start_of(binary: &OsStr, folder: &std::path::Path, database: &str, port: u16) -> Self {
        let mut child = Command::new(binary)
            .current_dir(folder)
            .args(["serve", "--config"])
            .arg(contract_file())
            .args(["--listen", &format!("127.0.0.1:{port}"), "--database", database])
            .env("PASSERBY_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if std::env::var_os("PASSERBY_TEST_LOG").is_some() {
                    eprintln!("{line}");
                }
            }
        });
        let server = Self { child, port };
        let start = Instant::now();
        while server.get("/health/ready").await.is_none_or(|s| s != 200) {
            assert!(start.elapsed() < Duration::from_secs(20), "the server did not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn get(&self, path: &str) -> Option<u16> {
        client().get(self.url(path)).timeout(Duration::from_secs(10)).send().await.ok().map(|r| r.status().as_u16())
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    guests: Mutex<HashMap<String, (String, u64, u64)>>,
    in_flight: Mutex<HashMap<String, u64>>,
}

async fn load(http: reqwest::Client, url: String, ledger: Arc<Ledger>, stop: Arc<AtomicBool>, made: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let answer = http
            .post(format!("{url}/v1/guests"))
            .json(&json!({"client_id": "demo-spa", "data": {"n": 0}}))
            .send()
            .await;
        let Ok(answer) = answer else { return };
        let status = answer.status().as_u16();
        let Ok(body) = answer.json::<Value>().await else { return };
        assert_eq!(status, 201, "{body}");
        let id = body["user"]["id"].as_str().unwrap().to_owned();
        let refresh = body["refresh_token"].as_str().unwrap().to_owned();
        let access = body["access_token"].as_str().unwrap().to_owned();
        made.fetch_add(1, Ordering::Relaxed);
        ledger.guests.lock().unwrap().insert(id.clone(), (refresh, 0, 1));
        for i in 0..6u64 {
            ledger.in_flight.lock().unwrap().insert(id.clone(), 1);
            let call = if i % 3 == 2 {
                http.patch(format!("{url}/v1/me/data"))
                    .header("content-type", "application/merge-patch+json")
                    .body(format!(r#"{{"p":{i}}}"#))
            } else {
                http.post(format!("{url}/v1/me/data/operations"))
                    .json(&json!({"operations": [{"op": "increment", "path": "/n", "by": 1}, {"op": "increment", "path": "/m", "by": 1}]}))
            };
            let Ok(answer) = call.bearer_auth(&access).send().await else { return };
            assert_eq!(answer.status().as_u16(), 200);
            if answer.bytes().await.is_err() {
                return;
            }
            let mut guests = ledger.guests.lock().unwrap();
            let entry = guests.get_mut(&id).unwrap();
            if i % 3 != 2 {
                entry.1 += 1;
            }
            entry.2 += 1;
            ledger.in_flight.lock().unwrap().remove(&id);
        }
    }
}

on_both! {
    async fn nothing_acknowledged_is_lost_by_sigkill(engine) {
        let folder = tempfile::tempdir().unwrap();
        let (database, _keep) = match engine {
            crate::app::Engine::Sqlite => (format!("sqlite:{}", folder.path().join("p.db").display()), None),
            crate::app::Engine::Postgres => { let d = passerby_testkit::postgres::fresh_database().await; (d.url.clone(), Some(d)) }
        };
        let port = passerby_testkit::free_port();
        let http = client();
        let ledger = Arc::new(Ledger::default());
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20 {
            let server = Server::start(folder.path(), &database, port).await;
            let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
            let url = server.url("");
            let tasks: Vec<_> = (0..12).map(|_| tokio::spawn(load(http.clone(), url.clone(), ledger.clone(), stop.clone(), made.clone()))).collect();
            seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
            tokio::time::sleep(Duration::from_millis(100 + seed % 500)).await;
            server.kill();
            stop.store(true, Ordering::Relaxed);
            for task in tasks { task.await.unwrap(); }
            assert!(made.load(Ordering::Relaxed) > 0 || round > 0, "the load made guests");
        }
        let server = Server::start(folder.path(), &database, port).await;
        let guests = std::mem::take(&mut *ledger.guests.lock().unwrap());
        assert!(guests.len() > 100, "{} guests", guests.len());
        let in_flight = ledger.in_flight.lock().unwrap().clone();
        for (id, (refresh, increments, version)) in guests {
            let answer = http.post(server.url("/v1/refresh")).json(&json!({"client_id": "demo-spa", "refresh_token": refresh})).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200, "guest {id} was acknowledged");
            let user = answer.json::<Value>().await.unwrap()["user"].clone();
            assert_eq!(user["id"], json!(id));
            let slack = in_flight.get(&id).copied().unwrap_or(0);
            let n = user["data"]["n"].as_u64().unwrap();
            assert!((increments..=increments + slack).contains(&n), "{id}: {n} of {increments} + {slack}");
            assert_eq!(user["data"]["m"].as_u64().unwrap_or(0), n, "a batch is whole");
            let v = user["version"].as_u64().unwrap();
            assert!((version..=version + slack).contains(&v), "{id}: version {v} of {version} + {slack}");
        }
        // no half-written guest: every user has a session, every session a user
        drop(server);
        let (users, orphans) = counts(&database).await;
        assert!(users > 100);
        assert_eq!(orphans, 0);
    }
}

async fn counts(database: &str) -> (i64, i64) {
    let users = "select count(*) from users";
    let orphans = "select (select count(*) from users u where not exists (select 1 from sessions s where s.tenant = u.tenant and s.user_id = u.user_id)) \
                   + (select count(*) from sessions s where not exists (select 1 from users u where u.tenant = s.tenant and u.user_id = s.user_id))";
    if let Some(path) = database.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        let one = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        return (one(users), one(orphans));
    }
    let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    (client.query_one(users, &[]).await.unwrap().get(0), client.query_one(orphans, &[]).await.unwrap().get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_runs_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let mut server = Server::start(folder.path(), "sqlite:p.db", port).await;
    // a request whose body is still on its way when the signal comes
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = br#"{"client_id":"demo-spa"}"#;
    write!(socket, "POST /v1/guests HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).unwrap();
    socket.write_all(&body[..5]).unwrap();
    socket.flush().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("-TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    socket.write_all(&body[5..]).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(25), "it did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
    // the log was folded into the file
    assert!(fs::metadata(folder.path().join("p.db-wal")).map_or(0, |m| m.len()) == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_epochs_are_told_at_once_and_end_at_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), "sqlite:p.db", passerby_testkit::free_port()).await;
    let http = client();
    let made = http.post(server.url("/v1/guests")).json(&json!({"client_id": "demo-spa"})).send().await.unwrap();
    let id = made.json::<Value>().await.unwrap()["user"]["id"].as_str().unwrap().to_owned();
    let root = "acceptance-root-key-0123456789abcdef0123456789";
    let open = async |client: reqwest::Client| {
        let ask = client.get(server.url("/v1/epochs")).bearer_auth(root).header("accept", "text/event-stream");
        let mut stream = ask.send().await.unwrap();
        assert_eq!(stream.status().as_u16(), 200);
        let mut text = String::new();
        while !text.ends_with("\n\n") {
            text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
        }
        assert!(text.contains("event: epochs") && !text.contains(&id), "{text}");
        stream
    };
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut streams = [open(client()).await, open(http2).await];
    let raised = http.post(server.url(&format!("/v1/users/{id}/revoke-all"))).bearer_auth(root).send().await.unwrap();
    assert_eq!(raised.status().as_u16(), 200);
    for stream in &mut streams {
        let mut text = String::new();
        while !text.contains(&id) {
            text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().expect("it goes on")).unwrap());
        }
    }
    server.signal("-TERM");
    for stream in &mut streams {
        while stream.chunk().await.unwrap().is_some() {}
    }
    // far below the twenty seconds that running requests are given
    let start = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "streams hold up the end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_48_hostile_connections_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let _server = Server::start(folder.path(), "sqlite:p.db", port).await;
    let dribble = |text: &'static str| {
        tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            socket.write_all(text.as_bytes()).unwrap();
            let mut answer = String::new();
            let start = Instant::now();
            let _ = socket.read_to_string(&mut answer);
            assert!(start.elapsed() < Duration::from_secs(39), "the connection was held open: {answer}");
            answer
        })
    };
    let (nothing, head, body) = (
        dribble(""),
        dribble("POST /v1/guests HTTP/1.1\r\nhost: localhost\r\n"),
        dribble(
            "POST /v1/guests HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"cl",
        ),
    );
    nothing.await.unwrap();
    head.await.unwrap();
    let body = body.await.unwrap();
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
}

/// Canaries through every flow, at the most talkative log level; then every line is searched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_43_no_secret_reaches_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let master = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let mut child = Command::new(BINARY)
        .current_dir(folder.path())
        .args(["serve", "--config"])
        .arg(contract_file())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--database", "sqlite:p.db", "--log", "trace"])
        .env("PASSERBY_MASTER_KEY", master)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let http = client();
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let start = Instant::now();
    while http.get(url("/health/ready")).send().await.map_or(0, |r| r.status().as_u16()) != 200 {
        assert!(start.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut canaries: Vec<String> = [
        master,
        "demo-web-secret-0123456789abcdef",
        "acceptance-root-key-0123456789abcdef0123456789",
        "canary-data-4711",
        "canary-idempotency-key-0001",
        "correct horse battery staple",
        "canary-query",
    ]
    .map(Into::into)
    .into();
    let made = http
        .post(url("/v1/guests?code=canary-query"))
        .header("idempotency-key", "canary-idempotency-key-0001")
        .json(&json!({"client_id": "demo-spa", "data": {"x": "canary-data-4711"}}))
        .send()
        .await
        .unwrap()
        .json::<Value>()
        .await
        .unwrap();
    let access = made["access_token"].as_str().unwrap().to_owned();
    let cookie = http
        .post(url("/v1/guests"))
        .json(&json!({"client_id": "demo-spa", "session_type": "cookie"}))
        .send()
        .await
        .unwrap();
    let cookie = cookie.headers()["set-cookie"].to_str().unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    let form = |token: &str| {
        http.post(url("/oauth2/introspect"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"))
    };
    for call in [
        http.get(url("/v1/me")).header("cookie", format!("passerby_session={cookie}")),
        http.post(url("/v1/refresh")).json(&json!({"client_id": "demo-spa", "refresh_token": made["refresh_token"]})),
        http.post(url("/v1/refresh")).json(&json!({"client_id": "demo-spa", "refresh_token": "pbr_canary-data-4711"})),
        form(&access).basic_auth("demo-web", Some("demo-web-secret-0123456789abcdef")),
        form(&access).bearer_auth("acceptance-root-key-0123456789abcdef0123456789"),
        http.post(url("/anonymous/token")).json(&json!({"client_id": "demo-spa", "session_token": made["session_token"], "metadata": {"y": "canary-data-4711"}})),
        http.post(url("/v1/me/data/operations")).bearer_auth(&access).json(&json!({"operations": [{"op": "canary-data-4711"}]})),
        http.get(url("/v1/me")).bearer_auth("canary-data-4711"),
        http.delete(url("/v1/me")).bearer_auth(&access),
    ] {
        assert!(call.send().await.unwrap().status().as_u16() < 500);
    }
    for token in [&access, made["refresh_token"].as_str().unwrap(), made["session_token"].as_str().unwrap(), &cookie] {
        canaries.push(token[token.len() - 40..].to_owned());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(said.contains("/v1/guests"), "requests are logged by route: {said}");
    for canary in canaries {
        assert!(!said.contains(&canary), "{canary} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_18_postgresql_gone_is_503_and_heals_without_a_restart() {
    let mut cluster = passerby_testkit::postgres::Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let database = cluster.database().await;
    let server = Server::start(folder.path(), &database, port).await;
    let http = client();
    let create = || {
        http.post(server.url("/v1/guests"))
            .json(&json!({"client_id": "demo-spa"}))
            .timeout(Duration::from_secs(15))
            .send()
    };
    let guest = create().await.unwrap().json::<Value>().await.unwrap();
    let me = || {
        http.get(server.url("/v1/me"))
            .bearer_auth(guest["access_token"].as_str().unwrap())
            .timeout(Duration::from_secs(15))
            .send()
    };
    assert_eq!(me().await.unwrap().status(), 200);
    cluster.kill();
    // no failure puts a new guest in an old one's place (line 18)
    let resume = json!({"client_id": "demo-spa", "session_token": guest["session_token"]});
    let late = Duration::from_secs(15);
    let native = http.post(server.url("/v1/guests")).json(&resume).timeout(late).send().await.unwrap();
    assert_eq!(native.status(), 503);
    let dialect = http.post(server.url("/anonymous/token")).json(&resume).timeout(late).send().await.unwrap();
    assert_eq!(dialect.status(), 503);
    let word = dialect.json::<Value>().await.unwrap()["error"].clone();
    assert!(word != "session_expired" && word != "invalid_session_token", "{word}");
    for answer in
        [create().await.unwrap(), me().await.unwrap(), http.get(server.url("/health/ready")).send().await.unwrap()]
    {
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
    }
    assert_eq!(server.get("/health/live").await, Some(200));
    // a floating guest needs no store
    let floating =
        http.post(server.url("/anonymous/token")).json(&json!({"client_id": "demo-game"})).send().await.unwrap();
    assert_eq!(floating.status(), 200);
    cluster.restart().await;
    let start = Instant::now();
    while server.get("/health/ready").await != Some(200) {
        assert!(start.elapsed() < Duration::from_secs(20), "it did not heal");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(create().await.unwrap().status(), 201);
    assert_eq!(me().await.unwrap().status(), 200);
}

fn run(args: &[&str], folder: &std::path::Path) -> (i32, String, String) {
    let out = Command::new(BINARY).args(args).current_dir(folder).output().unwrap();
    (
        out.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&out.stdout).into_owned(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

#[test]
fn the_command_line_says_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let text = fs::read_to_string(contract_file()).unwrap();
    fs::write(&file, text.replace("idle_timeout = \"30d\"", "idle_timeot = \"30d\"")).unwrap();
    for args in [&["config", "check", "--config", "bad.toml"][..], &["serve", "--config", "bad.toml"]] {
        let (code, _, errors) = run(args, folder.path());
        assert_eq!(code, 2, "{errors}");
        for part in ["bad.toml:", "idle_timeot", "idle_timeout"] {
            assert!(errors.contains(part), "{part} in {errors}");
        }
        let line = text.lines().position(|l| l.contains("idle_timeout = \"30d\"")).unwrap() + 1;
        assert!(errors.contains(&format!("bad.toml:{line}")), "{errors}");
    }
    let (code, out, errors) = run(&["config", "check", "--config", contract_file().to_str().unwrap()], folder.path());
    assert_eq!(code, 0, "{out}{errors}");
    assert_eq!(run(&["--version"], folder.path()).1.trim(), "passerby 0.1.0");
    let (code, help, _) = run(&["--help"], folder.path());
    assert_eq!(code, 0);
    for word in ["serve", "config", "signing-key"] {
        assert!(help.contains(word), "{help}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_reading() {
    let app = crate::app::TestApp::on_a_small_disk(60).await;
    let first = app.guest().await;
    let mut made = vec![first.clone()];
    let full = loop {
        let body = json!({"client_id": "demo-spa", "data": {"x": "y".repeat(900)}});
        let answer = app.post("/v1/guests", &body).send().await;
        if answer.status != 201 {
            break answer;
        }
        made.push(crate::app::Guest::of(&answer.json()));
        assert!(made.len() < 1000, "the disk never fills");
    };
    full.refused(507, "storage_full");
    let edit = app
        .call("PATCH", "/v1/me/data")
        .bearer(&first.access)
        .raw(format!(r#"{{"a":"{}"}}"#, "z".repeat(30_000)).into_bytes(), "application/merge-patch+json")
        .send()
        .await;
    edit.refused(507, "storage_full");
    for guest in &made {
        let me = app.get("/v1/me").bearer(&guest.access).send().await;
        assert_eq!(me.expect(200).json()["version"], 1, "nothing half done");
    }
    app.get("/health/ready").send().await.expect(200);
    app.guest_of("demo-game").await;
    assert_eq!(app.users().await, made.len() as u64);
    let db = rusqlite::Connection::open(app.database.strip_prefix("sqlite:").unwrap()).unwrap();
    let check: String = db.query_row("pragma integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(check, "ok");
}

on_both! {
    async fn two_processes_that_start_at_once_migrate_once(engine) {
        let folder = tempfile::tempdir().unwrap();
        let (database, _keep) = match engine {
            crate::app::Engine::Sqlite => ("sqlite:p.db".to_owned(), None),
            crate::app::Engine::Postgres => { let d = passerby_testkit::postgres::fresh_database().await; (d.url.clone(), Some(d)) }
        };
        let ports = [passerby_testkit::free_port(), passerby_testkit::free_port()];
        let (one, two) = tokio::join!(Server::start(folder.path(), &database, ports[0]), Server::start(folder.path(), &database, ports[1]));
        let http = client();
        let made = http.post(one.url("/v1/guests")).json(&json!({"client_id": "demo-spa"})).send().await.unwrap();
        assert_eq!(made.status(), 201);
        let guest = made.json::<Value>().await.unwrap();
        // a guest of one is known to the other, by the same keys
        let start = Instant::now();
        loop {
            let me = http.get(two.url("/v1/me")).bearer_auth(guest["access_token"].as_str().unwrap()).send().await.unwrap();
            if me.status() == 200 { break; }
            assert!(start.elapsed() < Duration::from_secs(10), "{}", me.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[test]
fn without_a_file_it_works_for_development_and_says_what_it_assumed() {
    let folder = tempfile::tempdir().unwrap();
    let port = passerby_testkit::free_port();
    let mut child = Command::new(BINARY)
        .current_dir(folder.path())
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    for part in ["/demo", "/docs", "/health", "passerby.db"] {
        while !said.contains(part) {
            assert!(out.read_line(&mut said).unwrap() > 0, "it ended without {part}: {said}");
        }
    }
    assert!(folder.path().join("passerby.key").exists());
    child.kill().unwrap();
    child.wait().unwrap();
}
