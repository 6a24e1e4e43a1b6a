//! What every test of the contract stands on: a fresh store, and guests to put into it.

use std::{any::Any, sync::Arc, time::Duration};

use futures_util::future::join_all;
use passerby_core::{
    Timestamp,
    id::{ClientNo, IdMaker, SessionId, TenantNo, UserId},
    model::{Item, ItemKind, Kind, LookUp, LookUpKind, NewGuest, OutRow, Session, SessionKind, Standing, Target, User},
    port::{Act, Change, CommitError, Committed, EditProfile, Half, OperationKey, Store},
    profile::{Edit, Limits},
    testing::SeededRandom,
};
use passerby_store::{OpenOptions, open};
use uuid::Uuid;

/// So many milliseconds after the moment at which tests begin.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + ms)
}

/// A day, in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// A store of its own for one test.
pub(crate) struct Harness {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) url: String,
    /// Removes the database when the test is over.
    _place: Box<dyn Any + Send + Sync>,
}

impl Harness {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("passerby.db").display());
        let store = open(&url, &OpenOptions::default()).await.unwrap();
        Self::of(store, url, folder)
    }

    pub(crate) async fn postgres() -> Self {
        let database = passerby_testkit::postgres::fresh_database().await;
        let url = database.url.clone();
        let store = open(&url, &OpenOptions::default()).await.unwrap();
        Self::of(store, url, database)
    }

    /// A store that the test opened by itself, in a place that goes with it.
    pub(crate) fn of(store: Arc<dyn Store>, url: String, place: impl Any + Send + Sync) -> Self {
        Self { store, url, _place: Box::new(place) }
    }

    /// Closes the store and opens it again.
    pub(crate) async fn reopened(self, options: &OpenOptions) -> Self {
        self.store.close().await;
        Self { store: open(&self.url, options).await.unwrap(), ..self }
    }

    /// The URL of a database of the same engine that nobody has opened yet, and its place.
    pub(crate) async fn sibling(&self) -> (String, Box<dyn Any + Send + Sync>) {
        if self.url.starts_with("sqlite:") {
            let folder = tempfile::tempdir().unwrap();
            (format!("sqlite:{}", folder.path().join("sibling.db").display()), Box::new(folder))
        } else {
            let database = passerby_testkit::postgres::fresh_database().await;
            (database.url.clone(), Box::new(database))
        }
    }

    /// A tenant with two clients.
    pub(crate) async fn tenant(&self, no: u128) -> Tenant {
        let store = self.store.clone();
        let tenant = store.number_tenant(Uuid::from_u128(no)).await.unwrap();
        let client = store.number_client(tenant, "spa").await.unwrap();
        let other_client = store.number_client(tenant, "app").await.unwrap();
        Tenant {
            store,
            no: tenant,
            client,
            other_client,
            ids: IdMaker::default(),
            random: SeededRandom::new(no as u64),
        }
    }

    /// The tables that hold these sixteen bytes in any column, each as often as it has such rows.
    pub(crate) async fn tables_with(&self, id: [u8; 16]) -> Vec<String> {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => sqlite_tables_with(path, id),
            None => postgres_tables_with(&self.url, id).await,
        }
    }

    /// What a `count(*)` gives.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => rusqlite::Connection::open(path).unwrap().query_row(sql, [], |r| r.get(0)).unwrap(),
            None => postgres_client(&self.url).await.query_one(sql, &[]).await.unwrap().get(0),
        }
    }

    /// Makes the database look as if a later program had migrated it.
    pub(crate) async fn pretend_newer(&self, version: i32) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => {
                let db = rusqlite::Connection::open(path).unwrap();
                db.execute("INSERT INTO schema_history VALUES(?1, 'later', '1')", [version]).unwrap();
            }
            None => {
                postgres_client(&self.url)
                    .await
                    .execute(
                        "INSERT INTO refinery_schema_history(version, name, applied_on, checksum)
                         VALUES($1, 'later', '2026-01-01T00:00:00Z', '1')",
                        &[&version],
                    )
                    .await
                    .unwrap();
            }
        }
    }
}

/// The migrations of earlier versions: name, SQLite's, PostgreSQL's.
const EARLIER: [(&str, &str, &str); 2] = [
    (
        "V1__guests",
        include_str!("../../migrations/sqlite/V1__guests.sql"),
        include_str!("../../migrations/postgres/V1__guests.sql"),
    ),
    (
        "V2__coming_back",
        include_str!("../../migrations/sqlite/V2__coming_back.sql"),
        include_str!("../../migrations/postgres/V2__coming_back.sql"),
    ),
];

/// Makes the tables of an earlier version, as a program of that time did, and runs the engine's statements.
pub(crate) async fn earlier_version(version: usize, url: &str, sqlite: &str, postgres: &str) {
    let on_sqlite = url.strip_prefix("sqlite:");
    let migrations: Vec<_> = EARLIER[..version]
        .iter()
        .map(|(name, lite, pg)| {
            refinery::Migration::unapplied(name, if on_sqlite.is_some() { lite } else { pg }).unwrap()
        })
        .collect();
    if let Some(path) = on_sqlite {
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA application_id={};
             CREATE TABLE schema_history(version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT;",
            0x5073_4279,
        ))
        .unwrap();
        for m in &migrations {
            db.execute_batch(m.sql().unwrap()).unwrap();
            let row = (m.version(), m.name(), m.checksum().to_string());
            db.execute("INSERT INTO schema_history VALUES(?1, ?2, ?3)", row).unwrap();
        }
        db.execute_batch(sqlite).unwrap();
        return;
    }
    let mut db = postgres_client(url).await;
    refinery::Runner::new(&migrations).run_async(&mut db).await.unwrap();
    db.batch_execute(postgres).await.unwrap();
}

fn sqlite_tables_with(path: &str, id: [u8; 16]) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let columns: Vec<(String, String)> = db
        .prepare("SELECT t.name, c.name FROM pragma_table_list t, pragma_table_info(t.name) c WHERE t.schema='main'")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(columns.len() > 40, "the tables are listed");
    let mut found = Vec::new();
    for (table, column) in columns {
        let n: u32 = db
            .query_row(&format!("SELECT count(*) FROM \"{table}\" WHERE \"{column}\" = ?1"), [id], |r| r.get(0))
            .unwrap();
        found.extend(std::iter::repeat_n(table, n as usize));
    }
    found.sort();
    found
}

async fn postgres_client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn postgres_tables_with(url: &str, id: [u8; 16]) -> Vec<String> {
    let client = postgres_client(url).await;
    let columns = client
        .query(
            "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
             WHERE table_schema NOT IN ('information_schema', 'pg_catalog') AND data_type IN ('uuid', 'bytea')",
            &[],
        )
        .await
        .unwrap();
    assert!(columns.len() > 10, "the tables are listed");
    let mut found = Vec::new();
    for row in columns {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let value = match &*kind {
            "uuid" => format!("'{}'::uuid", Uuid::from_bytes(id)),
            _ => format!("'\\x{}'::bytea", Uuid::from_bytes(id).simple()),
        };
        let sql = format!("SELECT count(*) FROM \"{table}\" WHERE \"{column}\" = {value}");
        let n: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        found.extend(std::iter::repeat_n(table, n as usize));
    }
    found.sort();
    found
}

/// A tenant of a store, with what makes guests for it.
pub(crate) struct Tenant {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) no: TenantNo,
    pub(crate) client: ClientNo,
    pub(crate) other_client: ClientNo,
    pub(crate) ids: IdMaker,
    pub(crate) random: SeededRandom,
}

impl Tenant {
    /// A guest that is not stored yet.
    pub(crate) fn guest(&self) -> Box<NewGuest> {
        let ids = self.ids.fresh(at(0), &self.random);
        let (user, session) = (User::guest(ids.user, self.client, at(0)), session(ids.session, self.client));
        Box::new(NewGuest { user, session, items: Vec::new() })
    }

    /// A further session for a user.
    pub(crate) fn session(&self) -> Session {
        session(self.ids.fresh(at(0), &self.random).session, self.client)
    }

    /// A stored guest: its user and session.
    pub(crate) async fn stored(&self) -> (UserId, SessionId) {
        let guest = self.guest();
        let ids = (guest.user.id, guest.session.id);
        self.done(0, Act::Create(guest, Vec::new())).await;
        ids
    }

    pub(crate) fn commit(
        &self,
        ms: i64,
        act: Act,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + 'static {
        self.commit_with(ms, act, Vec::new())
    }

    /// Commits an act that adds rows to the outbox.
    pub(crate) fn commit_with(
        &self,
        ms: i64,
        act: Act,
        out: Vec<OutRow>,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + 'static {
        self.store.commit(self.no, Change { at: at(ms), keep: None, act, out })
    }

    /// Commits what must succeed.
    pub(crate) async fn done(&self, ms: i64, act: Act) -> Committed {
        self.commit(ms, act).await.unwrap()
    }

    /// Commits an act after keeping a guest.
    pub(crate) async fn keep(&self, ms: i64, guest: &NewGuest, act: Act) -> Result<Committed, CommitError> {
        let keep = Some(Box::new(guest.clone()));
        self.store.commit(self.no, Change { at: at(ms), keep, act, out: Vec::new() }).await
    }

    pub(crate) async fn standing(&self, user: UserId, session: SessionId) -> Standing {
        self.store.standing(self.no, user, session).await.unwrap()
    }

    /// The session's row, which must be there.
    pub(crate) async fn session_row(&self, user: UserId, session: SessionId) -> Session {
        self.standing(user, session).await.session(session).expect("the session is there").clone()
    }
}

fn session(id: SessionId, client: ClientNo) -> Session {
    Session {
        id,
        client,
        kind: SessionKind::Tokens,
        created_at: at(0),
        active_at: at(0),
        ended_at: None,
        generation: 0,
        rotated_at: None,
        late_generation: None,
        has_denied_tokens: false,
        metadata: None,
        parent: None,
        key: None,
        bound: false,
    }
}

/// A guest and a session with every field set to something of its own.
pub(crate) fn elaborate(guest: &mut NewGuest, tenant: &Tenant) {
    let NewGuest { user, session, items } = guest;
    user.chosen_id = Some("Käthe's device №1".into());
    user.chosen_by = Some(tenant.client);
    user.kind = Kind::Regular;
    user.client = tenant.other_client;
    user.created_at = at(-5);
    user.updated_at = at(7);
    user.version = 12;
    user.epoch = 3;
    user.data = "{\"a\":[1,\"ü\\u0000\"]}".into();
    user.server_data = Some("{\"s\":true}".into());
    user.entry = Some("/shop/1".into());
    session.client = tenant.other_client;
    session.kind = SessionKind::Cookie;
    session.created_at = at(1);
    session.active_at = at(2);
    session.ended_at = Some(at(6));
    session.generation = 4;
    session.rotated_at = Some(at(3));
    session.late_generation = Some(4);
    session.has_denied_tokens = true;
    session.metadata = Some("{\"m\":1}".into());
    session.parent = Some(SessionId::from_bytes([9; 16]));
    session.key = Some([0x5a; 32]);
    session.bound = true;
    user.held = true;
    user.converted_at = Some(at(4));
    user.merged_into = Some(UserId::from_bytes([8; 16]));
    user.frozen = true;
    *items = vec![item(ItemKind::DeviceKey, 1, 1, Timestamp::MAX), item(ItemKind::Notice, 2, 1, at(DAY))];
}

/// An item.
pub(crate) fn item(kind: ItemKind, n: u8, revision: i32, ends_at: Timestamp) -> Item {
    Item { kind, id: [n; 32], revision, ends_at, body: format!("{{\"item\":{n}}}").into() }
}

/// A look-up row for `guest` that dies at `ends_at`.
pub(crate) fn look_up(n: u8, guest: &NewGuest, ends_at: i64) -> LookUp {
    LookUp {
        kind: LookUpKind::Creation,
        hash: [n; 32],
        user: guest.user.id,
        session: guest.session.id,
        body: [n.wrapping_add(1); 32],
        ends_at: at(ends_at),
    }
}

/// A row of the outbox for a user: due from `at(5)`, of use for a day.
pub(crate) fn out_row(user: UserId, n: u8) -> OutRow {
    OutRow {
        id: [n; 16],
        user,
        name: format!("event {n}").into(),
        at: at(1),
        target: Target::Mail,
        lane: [0; 16],
        due_at: Some(at(5)),
        ends_at: at(DAY),
        body: vec![0, 255, n].into(),
    }
}

/// A sweep that leaves raised epochs as they are.
pub(crate) fn sweep(limit: u32) -> Act {
    Act::Sweep { limit, epochs_before: at(-DAY) }
}

/// An operation key that is forgotten after a day.
pub(crate) fn operation_key(n: u8, body: u8) -> OperationKey {
    OperationKey { hash: [n; 32], body: [body; 32], ends_at: at(DAY) }
}

/// An edit that raises the number at `/n` by one.
pub(crate) fn increment(user: UserId, session: SessionId) -> Box<EditProfile> {
    edit(user, session, Half::Data, operations(r#"[{"op":"increment","path":"/n","by":1}]"#))
}

/// An edit without conditions.
pub(crate) fn edit(user: UserId, session: SessionId, half: Half, edit: Edit) -> Box<EditProfile> {
    Box::new(EditProfile {
        user,
        session,
        half,
        edit: Arc::new(edit),
        limits: Arc::new(limits()),
        schema: None,
        if_match: None,
        key: None,
    })
}

/// Limits that no test meets.
pub(crate) fn limits() -> Limits {
    Limits { max_bytes: 1 << 20, max_depth: 32, max_operations: 50, max_list: 1000 }
}

/// A merge patch.
pub(crate) fn merge(patch: &str) -> Edit {
    Edit::merge_patch(patch.as_bytes(), &limits()).unwrap()
}

/// A batch of operations.
pub(crate) fn operations(list: &str) -> Edit {
    Edit::operations(format!("{{\"operations\":{list}}}").as_bytes(), &limits()).unwrap()
}

/// What an outcome says, in a form that can be compared.
pub(crate) fn word(outcome: &Result<Committed, CommitError>) -> String {
    match outcome {
        Ok(done) => format!("{done:?}"),
        Err(CommitError::Edit(_)) => "Edit".into(),
        Err(refused) => format!("{refused:?}"),
    }
}

/// Asserts that a commit was refused so.
macro_rules! refused {
    ($outcome:expr, $word:literal) => {
        assert_eq!($crate::support::word(&$outcome), $word)
    };
}
pub(crate) use refused;

/// Runs futures side by side, each as a task of its own.
pub(crate) async fn side_by_side<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), what).await.expect("answered within a minute")
}
