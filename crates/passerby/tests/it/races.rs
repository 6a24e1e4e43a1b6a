//! Create-or-resume over two real processes on one PostgreSQL (domain.md "Ensure"): however many call at once, whatever
//! breaks under them, one key is one guest. Connections to the database are ended from its side at random, its replies
//! (that of a commit among them) are swallowed on the way, a process is killed.
//!
//! `created: true` is said by at most one answer, and by exactly one unless that answer itself never arrived: callers that
//! race with one key cannot be told from one that asks again, so a lost `true` is nobody else's to claim.
//!
//! `PASSERBY_RACES=10000` runs as many races, `PASSERBY_RACES_BINARY=FILE` runs another build of the program.

use std::{
    collections::HashSet,
    env,
    ffi::OsString,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use passerby_jose::b64;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use crate::{
    keys::DeviceKey,
    process::{Server, client, live_proof},
};

/// Ways in which a race is run, in turn.
const KINDS: u64 = 10;
/// Callers of a race.
const CALLERS: usize = 8;
/// Races that run at the same time.
const AT_ONCE: usize = 6;
/// Nobody waits longer for a guest.
const PATIENCE: Duration = Duration::from_secs(60);

/// What callers show.
#[derive(Clone, Default)]
struct Shown {
    key: Option<DeviceKey>,
    idempotency: Option<String>,
    session: Option<String>,
    bind: bool,
    /// An id that the caller chooses.
    user_id: Option<String>,
}

impl Shown {
    fn key() -> Self {
        Self { key: Some(DeviceKey::new()), ..Self::default() }
    }

    fn idempotency() -> Self {
        Self { idempotency: Some(random()), ..Self::default() }
    }

    fn both() -> Self {
        Self { key: Some(DeviceKey::new()), ..Self::idempotency() }
    }
}

/// A guest as one caller was told.
struct Told {
    created: bool,
    user: String,
    session: String,
    session_token: String,
    /// Answers that this caller did not get before this one.
    lost: u64,
}

/// What happened on the way.
#[derive(Default)]
struct Tally {
    races: AtomicU64,
    calls: AtomicU64,
    unavailable: AtomicU64,
    broken: AtomicU64,
    cuts: AtomicU64,
    swallowed: AtomicU64,
    kills: AtomicU64,
    /// Races without a `created: true`, since its answer was lost.
    untold: AtomicU64,
}

/// Two processes on one database.
struct Field {
    database: passerby_testkit::postgres::TestDatabase,
    /// The same database by way of a relay that loses replies.
    relayed: String,
    folder: tempfile::TempDir,
    binary: OsString,
    ports: [u16; 2],
    http: reqwest::Client,
    nonce: Mutex<String>,
    /// Processes are killed: connections may break.
    rough: bool,
    tally: Arc<Tally>,
    lossy: Arc<AtomicBool>,
}

/// One reply of so many is lost.
const LOSS: u64 = 150;

/// Passes on what is said, until it loses a reply: then the connection is gone, and what was asked was done or not.
async fn relay(listener: TcpListener, database: String, lossy: Arc<AtomicBool>, tally: Arc<Tally>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (database, lossy, tally) = (database.clone(), lossy.clone(), tally.clone());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(database).await else { return };
            let ((mut near_out, mut near_in), (mut far_out, mut far_in)) = (near.into_split(), far.into_split());
            let replies = async {
                let mut bytes = vec![0; 64 * 1024];
                loop {
                    let n = far_out.read(&mut bytes).await.unwrap_or(0);
                    if n > 0 && lossy.load(Relaxed) && below(LOSS) == 0 {
                        tally.swallowed.fetch_add(1, Relaxed);
                        return;
                    }
                    if n == 0 || near_in.write_all(&bytes[..n]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = replies => {}
                _ = tokio::io::copy(&mut near_out, &mut far_in) => {}
            }
        });
    }
}

fn random() -> String {
    let mut bytes = [0; 24];
    passerby_jose::fill_random(&mut bytes).unwrap();
    b64::encode(&bytes)
}

fn below(n: u64) -> u64 {
    let mut bytes = [0; 8];
    passerby_jose::fill_random(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % n
}

fn races(default: u64) -> u64 {
    env::var("PASSERBY_RACES").map_or(default, |n| n.parse().expect("PASSERBY_RACES is a number"))
}

impl Field {
    async fn new(rough: bool) -> (Arc<Self>, [Server; 2]) {
        let database = passerby_testkit::postgres::fresh_database().await;
        let (tally, lossy) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = url::Url::parse(&database.url).unwrap();
        let there = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        tokio::spawn(relay(listener, there, lossy.clone(), tally.clone()));
        let field = Self {
            database,
            relayed: url.into(),
            folder: tempfile::tempdir().unwrap(),
            binary: env::var_os("PASSERBY_RACES_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_passerby").into()),
            ports: [passerby_testkit::free_port(), passerby_testkit::free_port()],
            http: client(),
            nonce: Mutex::default(),
            rough,
            tally,
            lossy,
        };
        let servers = [field.start(0).await, field.start(1).await];
        (Arc::new(field), servers)
    }

    async fn start(&self, which: usize) -> Server {
        Server::start_of(&self.binary, self.folder.path(), &self.relayed, self.ports[which]).await
    }

    fn proof(&self, key: &DeviceKey) -> String {
        let nonce = self.nonce.lock().unwrap().clone();
        live_proof(key, &nonce, "POST", "/v1/guests", None)
    }

    /// Asks for the guest, first of process `at`, and again until there is an answer.
    async fn ask(&self, shown: &Shown, mut at: usize) -> Told {
        let start = Instant::now();
        let mut lost = 0;
        loop {
            assert!(start.elapsed() < PATIENCE, "no guest within {PATIENCE:?}, {lost} answers lost");
            let mut body = json!({"client_id": "demo-spa", "data": {"x": 1}, "bind_tokens": shown.bind});
            if let Some(id) = &shown.user_id {
                body["user_id"] = json!(id);
            }
            if let Some(token) = &shown.session {
                body["session_token"] = json!(token);
            }
            let mut call = self.http.post(format!("http://127.0.0.1:{}/v1/guests", self.ports[at % 2])).json(&body);
            if let Some(key) = &shown.key {
                call = call.header("dpop", self.proof(key));
            }
            if let Some(key) = &shown.idempotency {
                call = call.header("idempotency-key", key);
            }
            self.tally.calls.fetch_add(1, Relaxed);
            let answer = match call.timeout(PATIENCE).send().await {
                Ok(answer) => {
                    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
                    answer.json::<Value>().await.map(|body| (status, headers, body))
                }
                Err(e) => Err(e),
            };
            let Ok((status, headers, body)) = answer else {
                assert!(self.rough, "a process that runs answers: {answer:?}");
                self.tally.broken.fetch_add(1, Relaxed);
                (lost, at) = (lost + 1, at + 1);
                sleep(Duration::from_millis(5 + below(50))).await;
                continue;
            };
            if let Some(nonce) = headers.get("dpop-nonce") {
                *self.nonce.lock().unwrap() = nonce.to_str().unwrap().to_owned();
            }
            match (status, body["code"].as_str()) {
                (200 | 201, None) => {
                    assert_eq!(status == 201, body["created"] == true, "{body}");
                    let text = |v: &Value| v.as_str().unwrap().to_owned();
                    return Told {
                        created: body["created"] == true,
                        user: text(&body["user"]["id"]),
                        session: text(&body["session"]["id"]),
                        session_token: text(&body["session_token"]),
                        lost,
                    };
                }
                (503, Some("unavailable")) => {
                    assert!(headers.contains_key("retry-after"), "{body}");
                    self.tally.unavailable.fetch_add(1, Relaxed);
                    (lost, at) = (lost + 1, at + 1);
                    sleep(Duration::from_millis(5 + below(50))).await;
                }
                (400, Some("use_dpop_nonce")) => {}
                other => panic!("{other:?}: {body}"),
            }
        }
    }

    /// All at once, spread over both processes.
    async fn race(self: &Arc<Self>, callers: Vec<Shown>) -> Vec<Told> {
        let calls: Vec<_> = callers
            .into_iter()
            .enumerate()
            .map(|(at, shown)| {
                let field = self.clone();
                tokio::spawn(async move { field.ask(&shown, at).await })
            })
            .collect();
        let mut told = Vec::new();
        for call in calls {
            told.push(call.await.unwrap());
        }
        told
    }

    /// One race of any kind; it makes one guest.
    async fn run(self: Arc<Self>, kind: u64) {
        let all = |shown: Shown| vec![shown; CALLERS];
        let told = match kind % KINDS {
            0 => self.race(all(Shown::key())).await,
            1 => self.race(all(Shown::idempotency())).await,
            2 => self.race(all(Shown::both())).await,
            3 => self.race(all(Shown { bind: true, ..Shown::key() })).await,
            // the living session, shown by all
            4 => {
                let made = self.ask(&Shown::key(), 0).await;
                let session = Some(made.session_token.clone());
                let mut told = self.race(all(Shown { session, ..Shown::default() })).await;
                told.push(made);
                told
            }
            // the first call, shown in two ways at once
            5 => {
                let both = Shown::both();
                let one = Shown { idempotency: None, ..both.clone() };
                self.race([both, one].into_iter().cycle().take(CALLERS).collect()).await
            }
            6 => {
                let both = Shown::both();
                let one = Shown { key: None, ..both.clone() };
                self.race([both, one].into_iter().cycle().take(CALLERS).collect()).await
            }
            7 => self.race(all(Shown { user_id: Some(random()), ..Shown::idempotency() })).await,
            8 => self.race(all(Shown { user_id: Some(random()), ..Shown::key() })).await,
            // whatever opens a guest that is there, mixed
            _ => {
                let both = Shown::both();
                let made = self.ask(&both, 1).await;
                let ways = [
                    both.clone(),
                    Shown { idempotency: None, ..both.clone() },
                    Shown { session: Some(made.session_token.clone()), ..Shown::default() },
                    Shown { session: Some(made.session_token.clone()), idempotency: None, ..both },
                ];
                let mut told = self.race(ways.into_iter().cycle().take(CALLERS).collect()).await;
                told.push(made);
                told
            }
        };
        let distinct = |of: fn(&Told) -> &str| told.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(distinct(|t| &t.user), 1, "one guest (kind {})", kind % KINDS);
        assert_eq!(distinct(|t| &t.session), 1, "and one session (kind {})", kind % KINDS);
        let created = told.iter().filter(|t| t.created).count();
        let lost: u64 = told.iter().map(|t| t.lost).sum();
        assert!(created == 1 || (created == 0 && lost > 0), "{created} times created, {lost} answers lost");
        self.tally.races.fetch_add(1, Relaxed);
        self.tally.untold.fetch_add(u64::from(created == 0), Relaxed);
    }

    /// Runs races, some at the same time; then as many guests are there as races were run.
    async fn run_all(self: &Arc<Self>, races: u64) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = tokio::task::JoinSet::new();
        for kind in 0..races {
            let permit = room.clone().acquire_owned().await.unwrap();
            let field = self.clone();
            running.spawn(async move {
                field.run(kind).await;
                drop(permit);
            });
            while let Some(done) = running.try_join_next() {
                done.unwrap();
            }
        }
        while let Some(done) = running.join_next().await {
            done.unwrap();
        }
        assert_eq!(self.users().await, races, "no guest but those that were told of");
        let t = &self.tally;
        eprintln!(
            "{} races of {CALLERS}, {} calls, {} connections ended, {} replies of the database lost, {} \
             processes killed: {} times 503, {} answers lost with a \
             process, {} races whose `created: true` was lost, no duplicate",
            t.races.load(Relaxed),
            t.calls.load(Relaxed),
            t.cuts.load(Relaxed),
            t.swallowed.load(Relaxed),
            t.kills.load(Relaxed),
            t.unavailable.load(Relaxed),
            t.broken.load(Relaxed),
            t.untold.load(Relaxed),
        );
    }

    async fn users(&self) -> u64 {
        let (client, connection) = tokio_postgres::connect(&self.database.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one("select count(*) from users", &[]).await.unwrap().get::<_, i64>(0) as u64
    }

    /// Cuts connections of both processes until it is told to stop: one, some, all; idle ones and busy ones.
    async fn cut(self: Arc<Self>, stop: Arc<AtomicBool>) {
        let (client, connection) = tokio_postgres::connect(&self.database.url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity \
                   where datname = current_database() and application_name = 'passerby' \
                   order by case when $2 and state <> 'idle' then 0 else 1 end, random() limit $1) a";
        while !stop.load(Relaxed) {
            sleep(Duration::from_millis(1 + below(30))).await;
            let many = [1_i64, 1, 1, 2, 4, 1000][below(6) as usize];
            let cut = client.query_one(sql, &[&many, &(below(2) == 0)]).await.unwrap();
            self.tally.cuts.fetch_add(cut.get::<_, i64>(0) as u64, Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_05_two_hundred_creations_with_one_key_over_two_processes() {
    let (field, _servers) = Field::new(false).await;
    for (n, shown) in [Shown::key(), Shown::idempotency(), Shown::both()].into_iter().enumerate() {
        let told = field.race(vec![shown; 200]).await;
        assert_eq!(told.iter().filter(|t| t.created).count(), 1);
        assert_eq!(told.iter().map(|t| &t.user).collect::<HashSet<_>>().len(), 1);
        assert_eq!(told.iter().map(|t| &t.session).collect::<HashSet<_>>().len(), 1);
        assert_eq!(told.iter().map(|t| t.lost).sum::<u64>(), 0, "nobody is sent away");
        assert_eq!(field.users().await, n as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_05_races_with_connections_cut_make_one_guest_each() {
    let (field, _servers) = Field::new(false).await;
    let stop = Arc::new(AtomicBool::new(false));
    field.lossy.store(true, Relaxed);
    let cutter = tokio::spawn(field.clone().cut(stop.clone()));
    field.run_all(races(64)).await;
    stop.store(true, Relaxed);
    cutter.await.unwrap();
    assert!(field.tally.cuts.load(Relaxed) > 0 && field.tally.swallowed.load(Relaxed) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_18_races_with_processes_killed_make_one_guest_each() {
    let (field, [_stays, mut killed]) = Field::new(true).await;
    let stop = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (field, stop) = (field.clone(), stop.clone());
        async move {
            loop {
                sleep(Duration::from_millis(50 + below(300))).await;
                killed.kill();
                field.tally.kills.fetch_add(1, Relaxed);
                killed = field.start(1).await;
                if stop.load(Relaxed) {
                    return;
                }
            }
        }
    });
    field.run_all(races(64).min(1000)).await;
    stop.store(true, Relaxed);
    killer.await.unwrap();
}
