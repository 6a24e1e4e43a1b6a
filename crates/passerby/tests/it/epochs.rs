//! Raised epochs: who is told, that nothing is missed, and how stale each kind of verifier can be (domain.md
//! "Staleness").

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use http::Response;
use http_body_util::BodyExt as _;
use passerby_core::{port::Clock as _, testing::ManualClock};
use passerby_verify::{EpochFeed, Fetch, FetchError, FetchFuture, Require, Verifier};
use serde_json::{Value, json};

use crate::{
    app::{Answer, Call, Engine, Guest, START, TestApp, claims},
    on_both,
};

const ROOT: &str = "acceptance-root-key-0123456789abcdef0123456789";
const GUIDE: &str = "acceptance-guide-key-0123456789abcdef012345678";
const AUDIENCE: &str = "https://api.example.com";

/// A follower that polls: what it was told, and where it stands.
#[derive(Default)]
struct Follower {
    known: HashMap<String, i64>,
    cursor: Option<String>,
    /// Entries told, repeated ones too.
    told: usize,
    /// Answers read.
    pages: usize,
}

impl Follower {
    fn ask(&self, app: &TestApp) -> Call {
        let since = self.cursor.as_ref().map_or(String::new(), |c| format!("?since={c}"));
        app.get(&format!("/v1/epochs{since}")).bearer(ROOT)
    }

    fn take(&mut self, page: &Value) -> bool {
        self.pages += 1;
        for entry in page["epochs"].as_array().unwrap() {
            let known = self.known.entry(entry["user_id"].as_str().unwrap().to_owned()).or_default();
            *known = entry["epoch"].as_i64().unwrap().max(*known);
            self.told += 1;
        }
        self.cursor = Some(page["cursor"].as_str().unwrap().to_owned());
        page["more"] == true
    }

    async fn poll(&mut self, app: &TestApp) {
        loop {
            let page = self.ask(app).send().await.expect(200).json();
            if !self.take(&page) {
                return;
            }
        }
    }
}

async fn revoke_all(app: &TestApp, id: &str) -> i64 {
    let answer = app.call("POST", &format!("/v1/users/{id}/revoke-all")).bearer(ROOT).send().await;
    answer.expect(200).json()["epoch"].as_i64().unwrap()
}

/// Runs statements past the program.
async fn sql(app: &TestApp, sqlite: &str, postgres: &str) {
    if let Some(path) = app.database.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        return db.execute_batch(sqlite).unwrap();
    }
    let (client, connection) = tokio_postgres::connect(&app.database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(postgres).await.unwrap();
}

async fn count(app: &TestApp) -> i64 {
    if let Some(path) = app.database.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        return db.query_row("select count(*) from epochs", [], |r| r.get(0)).unwrap();
    }
    let (client, connection) = tokio_postgres::connect(&app.database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one("select count(*) from epochs", &[]).await.unwrap().get(0)
}

/// A raise of the user numbered `n`, decided at a second, as if its transaction became visible just now.
async fn raised_by_hand(app: &TestApp, n: u32, second: i64) -> String {
    let id = format!("00000000-0000-7000-8000-{n:012x}");
    let at = second * 1000;
    let hex = id.replace('-', "");
    sql(
        app,
        &format!(
            "insert into epochs(tenant, at, user_id, epoch) select min(tenant), {at}, x'{hex}', 1 from signing_keys"
        ),
        &format!(
            "insert into epochs(tenant, at, user_id, epoch) select min(tenant), {at}, '{id}', 1 from signing_keys"
        ),
    )
    .await;
    id
}

/// An open stream.
struct Stream {
    body: Body,
    text: String,
}

/// An event of it.
#[derive(Debug)]
struct Event {
    id: String,
    data: Value,
}

impl Stream {
    async fn open(call: Call) -> Self {
        let response: Response<Body> = call.header("accept", "text/event-stream").open().await;
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status, 200);
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        assert_eq!(parts.headers["cache-control"], "no-store");
        Self { body, text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let fields: BTreeMap<&str, &str> =
                    block.lines().filter_map(|l| l.split_once(':')).map(|(n, v)| (n, v.trim_start())).collect();
                let event = fields.get("data").map(|data| {
                    assert_eq!(fields["event"], "epochs");
                    Event { id: fields["id"].to_owned(), data: serde_json::from_str(data).unwrap() }
                });
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let frame = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    async fn users(&mut self) -> Vec<(String, i64)> {
        let event = self.next().await.unwrap();
        assert_eq!(event.data["cursor"], json!(event.id));
        let list = event.data["epochs"].as_array().unwrap();
        list.iter().map(|e| (e["user_id"].as_str().unwrap().to_owned(), e["epoch"].as_i64().unwrap())).collect()
    }
}

on_both! {
    async fn a_raise_is_told_to_everybody_in_the_same_bytes(engine) {
        let app = TestApp::new(engine).await;
        let nothing = app.get("/v1/epochs").bearer(ROOT).send().await;
        assert_eq!(nothing.expect(200).json()["epochs"], json!([]));
        let since = nothing.json()["cursor"].as_str().unwrap().to_owned();

        let guest = app.guest().await;
        let chosen = app.post("/v1/guests", &json!({"client_id": "demo-spa", "user_id": "shop \"é\" 7"})).send().await;
        let chosen = Guest::of(&chosen.expect(201).json());
        app.advance(Duration::from_millis(700));
        assert_eq!((revoke_all(&app, &guest.id).await, revoke_all(&app, &guest.id).await), (1, 2));
        app.call("DELETE", "/v1/me/sessions?force=true").bearer(&chosen.access).send().await.expect(204);
        app.advance(Duration::from_secs(1));

        let ask = || app.get(&format!("/v1/epochs?since={since}")).bearer(ROOT);
        let answer = ask().send().await;
        let body = answer.expect(200).json();
        let entries = body["epochs"].as_array().unwrap();
        let last: HashMap<&str, i64> =
            entries.iter().map(|e| (e["user_id"].as_str().unwrap(), e["epoch"].as_i64().unwrap())).collect();
        assert_eq!(last, HashMap::from([(&*guest.id, 2), ("shop \"é\" 7", 1)]), "ids as they are shown");
        assert!(entries.iter().all(|e| e["at"] == "2026-11-21T00:00:00.000Z"), "a whole second, rounded down: {body}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "public, max-age=1");
        let vary: Vec<_> = answer.headers.get_all("vary").iter().map(|v| v.to_str().unwrap().to_lowercase()).collect();
        assert!(vary.join(",").contains("authorization"), "{vary:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");

        let again = app.get(&format!("/v1/epochs?since={since}")).basic("demo-web", "demo-web-secret-0123456789abcdef");
        let again = again.send().await;
        assert_eq!((&again.body, again.header("etag")), (&answer.body, answer.header("etag")), "the same for a client");
        let known = ask().header("if-none-match", answer.header("etag")).send().await;
        known.expect(304);
        assert!(known.body.is_empty());
        assert_eq!((known.header("etag"), known.header("cache-control")), (answer.header("etag"), "public, max-age=1"));
        let head = app.call("HEAD", &format!("/v1/epochs?since={since}")).bearer(ROOT).send().await;
        assert_eq!((head.expect(200).header("etag"), head.body.len()), (answer.header("etag"), 0));
    }

    async fn whoever_learns_nothing_is_told_that_nothing_changed(engine) {
        let app = TestApp::new(engine).await;
        let mut follower = Follower::default();
        follower.poll(&app).await;
        let (cursor, tag) = (follower.cursor.clone(), follower.ask(&app).send().await.header("etag").to_owned());
        for _ in 0..10 {
            app.advance(Duration::from_secs(3));
            follower.ask(&app).header("if-none-match", &tag).send().await.expect(304);
        }
        app.advance(Duration::from_secs(60));
        follower.poll(&app).await;
        assert_ne!(follower.cursor, cursor, "but it does not stand still for ever");
    }

    async fn line_45_a_guest_s_credential_and_none_at_all_learn_nothing(engine) {
        let app = TestApp::with(engine, |t| format!("{t}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\n\
            name = \"other\"\n[[tenants.clients]]\nid = \"other-app\"\nname = \"Other\"\ntype = \"native\"\n\
            [[tenants.api_keys]]\nname = \"other\"\nkey = \"other-tenants-key-0123456789abcdef0123456789\"\n")).await;
        let guest = app.guest().await;
        let below = "/t/33333333-3333-4333-8333-333333333333/v1/epochs";
        let other = "other-tenants-key-0123456789abcdef0123456789";
        for accept in ["application/json", "text/event-stream"] {
            let ask = |path: &str| app.get(path).header("accept", accept);
            ask("/v1/epochs").send().await.refused(401, "unauthenticated");
            ask("/v1/epochs").cookie("x").send().await.refused(401, "unauthenticated");
            for token in [&*guest.access, &guest.refresh, &guest.session_token, "x"] {
                ask("/v1/epochs").bearer(token).send().await.refused(401, "invalid_token");
                ask("/v1/epochs").header("authorization", &format!("DPoP {token}")).send().await.refused(401, "invalid_token");
            }
            ask("/v1/epochs").bearer(GUIDE).send().await.refused(403, "insufficient_scope");
            for (id, secret) in [("demo-web", "wrong"), ("demo-spa", ""), ("demo-spa", "x"), ("nobody", "x")] {
                let refused = ask("/v1/epochs").basic(id, secret).send().await;
                refused.refused(401, "invalid_client");
                assert!(refused.header("www-authenticate").starts_with("Basic "));
            }
            ask(below).bearer(ROOT).send().await.refused(401, "invalid_token");
            ask(below).basic("demo-web", "demo-web-secret-0123456789abcdef").send().await.refused(401, "invalid_client");
            for cursor in ["x", "e1-", "e1-zz", "e2-6afd3c00", "e1-00", "e1-6AFD3C00", "%FF", "e1-ffffffffffffffffffff"] {
                let refused = ask(&format!("/v1/epochs?since={cursor}")).bearer(ROOT).send().await;
                refused.expect(400);
                if cursor != "%FF" {
                    assert_eq!(refused.refused(400, "invalid_value")["field"], "since", "{cursor}");
                }
            }
            ask("/v1/epochs?since=e1-1&since=e1-1").bearer(ROOT).send().await.refused(400, "invalid_request");
        }
        let bad = app.get("/v1/epochs").bearer(ROOT).header("accept", "text/event-stream").header("last-event-id", "x");
        assert_eq!(bad.send().await.refused(400, "invalid_value")["field"], "Last-Event-ID");
        app.call("POST", "/v1/epochs").bearer(ROOT).send().await.expect(405);

        // and a tenant's users are shown to nobody else
        revoke_all(&app, &guest.id).await;
        let theirs = app.post("/v1/guests", &json!({"client_id": "other-app", "persist": true})).send().await;
        let theirs = Guest::of(&theirs.expect(201).json());
        app.call("DELETE", "/v1/me").bearer(&theirs.access).send().await.expect(204);
        app.advance(Duration::from_secs(2));
        for (key, own, foreign) in [(ROOT, &guest.id, &theirs.id), (other, &theirs.id, &guest.id)] {
            let text = app.get("/v1/epochs").bearer(key).send().await.expect(200).text();
            assert!(text.contains(own.as_str()) && !text.contains(foreign.as_str()), "{text}");
            let mut stream = Stream::open(app.get("/v1/epochs").bearer(key)).await;
            assert_eq!(stream.users().await, [(own.clone(), 1)]);
        }
        let path = app.get(below).bearer(other).send().await.expect(200).text();
        assert!(path.contains(&theirs.id));
    }

    async fn erasing_voids_tokens_of_stored_and_floating_guests(engine) {
        let app = TestApp::new(engine).await;
        let stored = app.guest().await;
        let floating = app.post("/v1/guests", &json!({"client_id": "demo-spa", "persist": false})).send().await;
        let floating = Guest::of(&floating.expect(201).json());
        for guest in [&stored, &floating] {
            assert_eq!(claims(&guest.access)["epoch"].as_i64().unwrap_or(0), 0);
            app.call("DELETE", "/v1/me").bearer(&guest.access).send().await.expect(204);
        }
        let mut follower = Follower::default();
        follower.poll(&app).await;
        let both = HashMap::from([(stored.id, 1), (floating.id, 1)]);
        assert_eq!(follower.known, both);
        // and so says another process
        let replica = app.replica().await;
        let mut follower = Follower::default();
        follower.poll(&replica).await;
        assert_eq!(follower.known, both);
    }

    async fn what_becomes_visible_late_is_not_missed(engine) {
        let app = TestApp::new(engine).await;
        let mut follower = Follower::default();
        let mut stream = Stream::open(app.get("/v1/epochs").bearer(ROOT)).await;
        assert!(stream.users().await.is_empty());
        let mut expected = HashMap::new();
        for n in 0..40u32 {
            app.advance(Duration::from_secs(1));
            follower.poll(&app).await;
            // decided up to 14 seconds ago, the younger ones first
            let second = app.now() - i64::from(n * 7 % 15);
            expected.insert(raised_by_hand(&app, n, second).await, 1);
            app.core.follow_epochs().await.unwrap();
        }
        app.advance(Duration::from_secs(3));
        follower.poll(&app).await;
        assert_eq!(follower.known, expected);
        let mut streamed = HashMap::new();
        while streamed.len() < expected.len() {
            streamed.extend(stream.users().await);
            app.advance(Duration::from_secs(1));
        }
        assert_eq!(streamed, expected);
        // what is told again is told for a while only
        let told = follower.told;
        app.advance(Duration::from_secs(16));
        follower.poll(&app).await;
        let repeated = follower.told - told;
        app.advance(Duration::from_secs(16));
        follower.poll(&app).await;
        assert!(follower.told - told == repeated && repeated <= expected.len(), "{repeated}");
    }

    async fn nothing_is_missed_over_replicas_whose_clocks_differ(engine) {
        let app = TestApp::new(engine).await;
        let (behind, ahead) = (app.replica_off(-2_500).await, app.replica_off(2_500).await);
        let replicas = [&app, &behind, &ahead];
        let mut guests = Vec::new();
        for _ in 0..12 {
            guests.push(app.guest().await);
        }
        let mut followers = [Follower::default(), Follower::default(), Follower::default()];
        let mut expected: HashMap<String, i64> = HashMap::new();
        for step in 0..60usize {
            let guest = &guests[step * 5 % guests.len()];
            let epoch = revoke_all(replicas[step * 7 % 3], &guest.id).await;
            expected.insert(guest.id.clone(), epoch);
            for replica in replicas {
                replica.advance(Duration::from_millis(900));
            }
            // one asks each at its turn, one mostly the one that is ahead, one seldom
            followers[0].poll(replicas[step % 3]).await;
            followers[1].poll(if step % 4 == 3 { &behind } else { &ahead }).await;
            if step % 17 == 0 {
                followers[2].poll(replicas[step % 2]).await;
            }
        }
        for replica in replicas {
            replica.advance(Duration::from_secs(3));
        }
        for (n, follower) in followers.iter_mut().enumerate() {
            follower.poll(replicas[n]).await;
            assert_eq!(follower.known, expected, "follower {n}");
        }
    }

    async fn a_clock_that_was_wrong_costs_a_repetition_and_no_raise(engine) {
        let app = TestApp::new(engine).await;
        let mut follower = Follower::default();
        let guest = app.guest().await;
        app.clock.jump(7_200_000);
        follower.poll(&app).await;
        app.clock.jump(-7_200_000);
        revoke_all(&app, &guest.id).await;
        app.advance(Duration::from_secs(60));
        follower.poll(&app).await;
        assert_eq!(follower.known, HashMap::from([(guest.id, 1)]));
    }

    async fn many_raises_come_in_pages_of_whole_seconds(engine) {
        let app = TestApp::new(engine).await;
        // more than memory holds, over eight minutes
        let rows: i64 = 210_000;
        let (start, per_second) = ((START - 480) * 1000, rows / 480 + 1);
        sql(
            &app,
            &format!("insert into epochs(tenant, at, user_id, epoch)
                with recursive n(n) as (select 0 union all select n + 1 from n where n < {rows} - 1)
                select (select min(tenant) from signing_keys), {start} + n / {per_second} * 1000,
                    unhex('0000000000007000800000000' || printf('%07x', n)), 1 from n"),
            &format!("insert into epochs(tenant, at, user_id, epoch)
                select (select min(tenant) from signing_keys), {start} + n / {per_second} * 1000,
                    ('00000000-0000-7000-8000-00000' || lpad(to_hex(n), 7, '0'))::uuid, 1 from generate_series(0, {rows} - 1) n"),
        ).await;
        let mut follower = Follower::default();
        follower.poll(&app).await;
        assert_eq!(follower.known.len() as i64, rows);
        assert!(follower.pages > 10, "{}", follower.pages);
        // a page may repeat what lies within the lag, no more
        assert!(follower.told as i64 <= rows + 20 * per_second, "{}", follower.told);
        // the same as a stream, gone on from the third part
        let mut stream = Stream::open(app.get("/v1/epochs").bearer(ROOT)).await;
        let mut known: HashMap<String, i64> = HashMap::new();
        let mut last = String::new();
        for _ in 0..3 {
            let event = stream.next().await.unwrap();
            assert_eq!(event.data["more"], true);
            known.extend(event.data["epochs"].as_array().unwrap().iter().map(|e| (e["user_id"].as_str().unwrap().to_owned(), 1)));
            last = event.id;
        }
        drop(stream);
        let mut stream = Stream::open(app.get("/v1/epochs").bearer(ROOT).header("last-event-id", &last)).await;
        loop {
            let event = stream.next().await.unwrap();
            known.extend(event.data["epochs"].as_array().unwrap().iter().map(|e| (e["user_id"].as_str().unwrap().to_owned(), 1)));
            if event.data["more"].is_null() {
                break;
            }
        }
        assert_eq!(known, follower.known);
    }

    async fn a_stream_is_told_each_raise_once_and_goes_on_where_it_was(engine) {
        let app = TestApp::new(engine).await;
        let replica = app.replica().await;
        let (own, foreign, later) = (app.guest().await, app.guest().await, app.guest().await);
        let mut stream = Stream::open(app.get("/v1/epochs").bearer(ROOT)).await;
        assert!(stream.users().await.is_empty(), "an event at once, so that there is a cursor");
        assert_eq!(app.core.epoch_streams(), 1);
        // at once when this process raised it
        revoke_all(&app, &own.id).await;
        assert_eq!(stream.users().await, [(own.id.clone(), 1)]);
        // at the next look at the store when another did
        app.advance(Duration::from_secs(1));
        revoke_all(&replica, &foreign.id).await;
        app.core.follow_epochs().await.unwrap();
        let event = stream.next().await.unwrap();
        assert_eq!(event.data["epochs"].as_array().unwrap().len(), 1, "only what is new: {}", event.data);
        assert_eq!(event.data["epochs"][0]["user_id"], json!(foreign.id));
        drop(stream);
        assert_eq!(app.core.epoch_streams(), 0, "a stream that was left is forgotten");

        app.advance(Duration::from_secs(1));
        revoke_all(&replica, &later.id).await;
        app.advance(Duration::from_secs(2));
        for server in [&app, &replica] {
            let mut stream = Stream::open(server.get("/v1/epochs?since=e1-0").bearer(ROOT).header("last-event-id", &event.id)).await;
            let told = stream.users().await;
            assert!(told.contains(&(later.id.clone(), 1)), "{told:?}");
        }
        let mut stream = Stream::open(app.get(&format!("/v1/epochs?since={}", event.id)).bearer(ROOT)).await;
        assert!(stream.users().await.contains(&(later.id.clone(), 1)), "by since as well");

        // no stream holds up the end
        app.core.end_epoch_streams();
        assert!(stream.next().await.is_none());
        let refused = app.get("/v1/epochs").bearer(ROOT).header("accept", "text/event-stream").send().await;
        refused.refused(503, "unavailable");
        assert_eq!(refused.header("retry-after"), "5");
        app.get("/v1/epochs").bearer(ROOT).send().await.expect(200);
    }

    async fn a_stream_does_not_begin_with_a_page_that_is_older_than_itself(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        for n in 0..600 {
            raised_by_hand(&app, n, app.now() - 20).await;
        }
        let tenant = app.core.settings().tenants[0].no;
        let before = app.core.epochs(tenant, None).await.unwrap();
        assert_eq!(before.len(), 600);
        // a long page stays the same for a second for those who ask again later; whoever listens from now on does not
        revoke_all(&app, &guest.id).await;
        assert_eq!(app.core.epochs(tenant, None).await.unwrap().len(), 600);
        let watch = app.core.watch_epochs(tenant).unwrap();
        assert!(app.core.epochs_for(&watch, None).await.unwrap().is_none());
        app.advance(Duration::from_secs(1));
        let page = app.core.epochs_for(&watch, None).await.unwrap().expect("made anew");
        assert!(page.entries().any(|e| e.user.to_string() == guest.id));
    }

    async fn sweeping_keeps_what_a_living_token_could_need(engine) {
        let app = TestApp::new(engine).await;
        let guest = app.guest().await;
        let token = claims(&guest.access);
        let lives = token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap();
        revoke_all(&app, &guest.id).await;
        app.core.run_jobs().await;
        let longest = app.core.settings().longest_access_token();
        assert!(longest >= Duration::from_secs(lives as u64));
        app.advance(longest.saturating_sub(Duration::from_secs(1)));
        app.core.run_jobs().await;
        let fresh = app.replica().await;
        for server in [&app, &fresh] {
            let mut follower = Follower { cursor: Some("e1-0".into()), ..Follower::default() };
            follower.poll(server).await;
            assert_eq!(follower.known, HashMap::from([(guest.id.clone(), 1)]), "a cursor from long ago is as good as none");
        }
        app.advance(Duration::from_mins(10));
        app.core.run_jobs().await;
        let mut follower = Follower::default();
        follower.poll(&app).await;
        assert!(follower.known.is_empty());
        assert_eq!(count(&app).await, 0);
    }
}

/// Fetches from the house without a socket.
struct ByDoor(Arc<TestApp>);

impl Fetch for ByDoor {
    fn fetch(&self, request: http::Request<()>, limit: usize) -> FetchFuture<'_> {
        let mut call = self.0.get(request.uri().path_and_query().map_or("/", |p| p.as_str()));
        for (name, value) in request.headers() {
            call = call.header(name.as_str(), value.to_str().unwrap());
        }
        Box::pin(async move {
            let answer = call.send().await;
            if answer.body.len() > limit {
                return Err(FetchError::new("too long"));
            }
            let mut response = Response::new(answer.body.into());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

/// The house's clock as the verifier asks it.
struct SameClock(Arc<ManualClock>);

impl passerby_verify::Clock for SameClock {
    fn now(&self) -> i64 {
        self.0.now().seconds()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.monotonic_millis().unsigned_abs())
    }
}

/// How often the follower asks, here.
const POLL: Duration = Duration::from_secs(3);

/// Seconds from the raise until a check refuses the token, asked each second.
async fn staleness(app: &TestApp, mut alive: impl AsyncFnMut() -> bool) -> i64 {
    let start = app.now();
    while alive().await {
        assert!(app.now() - start < 100_000, "never");
        app.advance(Duration::from_secs(1));
    }
    app.now() - start
}

on_both! {
    // docs/epochs.md publishes these bounds
    async fn staleness_of_the_three_kinds_of_verifier(engine) {
        let app = Arc::new(TestApp::new(engine).await);
        let raiser = app.replica().await;
        let issuer = claims(&app.guest().await.access)["iss"].as_str().unwrap().to_owned();
        let verifier = |feed: Option<EpochFeed>| {
            let builder = Verifier::builder(&issuer, AUDIENCE)
                .allow_plain_http()
                .leeway(Duration::ZERO)
                .fetch(ByDoor(app.clone()))
                .clock(SameClock(app.clock.clone()));
            match feed {
                Some(feed) => builder.epochs(feed).build().unwrap(),
                None => builder.build().unwrap(),
            }
        };
        let following = verifier(Some(EpochFeed::api_key(ROOT).interval(Duration::from_secs(3600))));
        let offline = verifier(None);
        let guest = async || {
            let answer = app.post("/v1/guests", &json!({"client_id": "demo-spa", "audience": AUDIENCE})).send().await;
            Guest::of(&answer.expect(201).json())
        };
        let require = Require::user();
        let introspect = async |token: &str| -> Answer {
            app.call("POST", "/oauth2/introspect").basic("demo-web", "demo-web-secret-0123456789abcdef")
                .form(&[("token", token)]).send().await
        };

        // asked each time: the first answer after the raise is no
        let g = guest().await;
        assert_eq!(introspect(&g.access).await.expect(200).json()["active"], true);
        revoke_all(&raiser, &g.id).await;
        let seconds = staleness(&app, async || introspect(&g.access).await.json()["active"] == true).await;
        assert_eq!(seconds, 0, "introspection");
        let own = app.guest().await;
        app.get("/oauth2/userinfo").bearer(&own.access).send().await.expect(200);
        revoke_all(&raiser, &own.id).await;
        for path in ["/v1/me", "/v1/me/sessions", "/oauth2/userinfo"] {
            app.get(path).bearer(&own.access).send().await.expect(401);
        }

        // a follower: its own interval, and what a replica needs to learn of another's raise
        let g = guest().await;
        following.poll_epochs().await.unwrap();
        assert!(following.check_bearer(&g.access, &require).await.is_ok());
        revoke_all(&raiser, &g.id).await;
        let mut polled = app.now();
        let seconds = staleness(&app, async || {
            // the program does this each second
            app.core.follow_epochs().await.unwrap();
            if app.now() - polled >= POLL.as_secs() as i64 {
                polled = app.now();
                following.poll_epochs().await.unwrap();
            }
            following.check_bearer(&g.access, &require).await.is_ok()
        }).await;
        assert!((1..=POLL.as_secs() as i64 + 1).contains(&seconds), "a follower was stale for {seconds} s");
        // whoever comes in again gets a token of the new epoch, which is good
        let again = guest().await;
        assert!(following.check_bearer(&again.access, &require).await.is_ok());

        // offline: until the token ends
        let g = guest().await;
        let token = claims(&g.access);
        let lives = token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap();
        revoke_all(&raiser, &g.id).await;
        let seconds = staleness(&app, async || offline.check_bearer(&g.access, &require).await.is_ok()).await;
        assert!((lives - 1..=lives + 1).contains(&seconds), "offline: {seconds} s of {lives}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_cannot_be_read_says_so() {
    let app = TestApp::new(Engine::Sqlite).await;
    let mut follower = Follower::default();
    follower.poll(&app).await;
    let mut stream = Stream::open(app.get("/v1/epochs").bearer(ROOT)).await;
    assert!(stream.users().await.is_empty());
    app.core.stop().await;
    app.advance(Duration::from_secs(5));
    follower.poll(&app).await;
    app.advance(Duration::from_secs(11));
    let refused = follower.ask(&app).send().await;
    refused.refused(503, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
}

/// Beats come as fast as the test reads: time stands still and is skipped where everybody waits.
#[tokio::test(start_paused = true)]
async fn a_stream_beats_and_ends_within_a_minute_of_its_credential() {
    let app = TestApp::new(Engine::Sqlite).await;
    let made = app.post("/v1/api-keys", &json!({"name": "feed", "scopes": ["epochs:read"]})).bearer(ROOT).send().await;
    let made = made.expect(201).json();
    let mut stream = Stream::open(app.get("/v1/epochs").bearer(made["key"].as_str().unwrap())).await;
    let first = stream.next().await.unwrap();
    let mut beats = 0;
    let start = tokio::time::Instant::now();
    while beats < 6 {
        let frame = stream.body.frame().await.unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&frame).unwrap().to_owned();
        assert_eq!(text, format!(":\nid: {}\n\n", first.id), "a comment, and where the stream stands");
        beats += 1;
    }
    assert_eq!(start.elapsed().as_secs(), 90, "one in fifteen seconds");

    let path = format!("/v1/api-keys/{}", made["id"].as_str().unwrap());
    app.call("DELETE", &path).bearer(ROOT).send().await.expect(204);
    let start = tokio::time::Instant::now();
    assert!(stream.next().await.is_none());
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
}
