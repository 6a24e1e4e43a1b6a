//! What only a server can do to us: go away and come back, refuse, lie in wait; and races that need one.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use passerby_core::{
    Timestamp,
    id::IdMaker,
    model::{NewGuest, Session, SessionKind, User},
    profile::{Edit, Limits},
    testing::SeededRandom,
};
use passerby_testkit::{
    certificate,
    postgres::{Cluster, Options, TestDatabase, connect, fresh_database},
};
use tokio::{task::yield_now, time::Instant};

use super::*;
use passerby_core::{
    model::{OutRow, Target},
    port::{EditProfile, Ending, Half, RecordChange, Turn},
};

/// A migrated database of its own.
pub(super) struct Place {
    pub(super) url: String,
    pub(super) tenant: TenantNo,
    client: ClientNo,
    store: Arc<dyn Store>,
    ids: IdMaker,
    random: SeededRandom,
    _database: Option<TestDatabase>,
}

impl Place {
    pub(super) async fn new() -> Self {
        let database = fresh_database().await;
        let url = database.url.clone();
        Self { _database: Some(database), ..Self::at(url).await }
    }

    async fn at(url: String) -> Self {
        let store = open(&url, &OpenOptions::default()).await.unwrap();
        let tenant = store.number_tenant(Uuid::from_u128(1)).await.unwrap();
        let client = store.number_client(tenant, "spa").await.unwrap();
        let (ids, random) = (IdMaker::default(), SeededRandom::new(1));
        Self { url, tenant, client, store, ids, random, _database: None }
    }

    pub(super) fn connector(&self) -> Arc<Connector> {
        Arc::new(Connector::from_url(&self.url).unwrap())
    }

    fn commit(&self, keep: Option<Box<NewGuest>>, act: Act) -> Wait<'static, Result<Committed, CommitError>> {
        self.store.commit(self.tenant, Change { at: at(0), keep, act, out: Vec::new() })
    }

    async fn standing(&self, guest: &NewGuest) -> Result<Standing, StoreError> {
        self.store.standing(self.tenant, guest.user.id, guest.session.id).await
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + ms)
}

/// A guest that is not stored yet.
pub(super) fn guest(place: &Place) -> Box<NewGuest> {
    let (ids, client) = (place.ids.fresh(at(0), &place.random), place.client);
    let user = User::guest(ids.user, client, at(0));
    let session = Session {
        id: ids.session,
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
    };
    Box::new(NewGuest { user, session, items: Vec::new() })
}

/// A look-up of the guest that nobody else has.
fn look_up(guest: &NewGuest) -> LookUp {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(guest.user.id.as_bytes());
    let (user, session) = (guest.user.id, guest.session.id);
    LookUp { kind: LookUpKind::DeviceKey, hash, user, session, body: [0; 32], ends_at: Timestamp::MAX }
}

/// Waits until a counter is there, at most a minute.
async fn reaches(counter: &AtomicUsize, goal: usize) {
    let give_up = Instant::now() + Duration::from_mins(1);
    while counter.load(SeqCst) < goal {
        assert!(Instant::now() < give_up, "{} of {goal}", counter.load(SeqCst));
        yield_now().await;
    }
}

fn is_unavailable(e: &CommitError) -> bool {
    matches!(e, CommitError::Store(StoreError::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_away_in_mid_load_and_comes_back() {
    let mut cluster = Cluster::start().await;
    let place = Arc::new(Place::at(cluster.database().await).await);
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (stop, kept) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let callers: Vec<_> = (0..32)
        .map(|i| {
            let (place, done, failed) = (place.clone(), done.clone(), failed.clone());
            let (stop, kept) = (stop.clone(), kept.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let guest = guest(&place);
                    // most by the writer of groups, some each in a transaction of its own, some spend what nobody else has
                    let outcome = match i {
                        0 => place.commit(Some(guest.clone()), Act::Keep).await,
                        1 => place.commit(None, Act::Create(guest.clone(), vec![look_up(&guest)])).await,
                        2 => match place.store.spend(place.tenant, look_up(&guest).hash, at(70_000)).await {
                            Ok(spent) => {
                                assert!(spent, "nobody had it");
                                done.fetch_add(1, SeqCst);
                                continue;
                            }
                            Err(e) => Err(e.into()),
                        },
                        _ => place.commit(None, Act::Create(guest.clone(), Vec::new())).await,
                    };
                    match outcome {
                        Ok(_) => {
                            kept.lock().unwrap().push(guest);
                            done.fetch_add(1, SeqCst);
                        }
                        Err(e) => {
                            assert!(is_unavailable(&e), "{e:?}");
                            failed.fetch_add(1, SeqCst);
                            yield_now().await;
                        }
                    }
                }
            })
        })
        .collect();
    for (round, killed) in [true, false].into_iter().enumerate() {
        reaches(&done, (round + 1) * 500).await;
        if killed {
            cluster.kill();
        } else {
            cluster.stop();
        }
        reaches(&failed, failed.load(SeqCst) + 100).await;
        let (asked, other) = (Instant::now(), guest(&place));
        let read = place.standing(&other).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
        let (user, session) = (other.user.id, other.session.id);
        let changed = place.commit(None, Act::Rotate { user, session, from: 0, to: 1 }).await;
        assert!(changed.as_ref().is_err_and(is_unavailable), "{changed:?}");
        assert!(matches!(place.store.ready().await, Err(StoreError::Unavailable(_))));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        cluster.restart().await;
        reaches(&done, done.load(SeqCst) + 500).await;
        place.store.ready().await.unwrap();
    }
    stop.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    assert!(kept.len() >= 1500);
    for guest in kept {
        let found = place.standing(&guest).await.unwrap();
        assert_eq!(found.session(guest.session.id), Some(&guest.session), "acknowledged means stored");
    }
    // nor is anything stored by half: a look-up leads to somebody
    let db = connect(&place.url).await.unwrap();
    let sql = "SELECT count(*) FROM look_ups l LEFT JOIN users u USING(tenant, user_id) WHERE u.user_id IS NULL";
    assert_eq!(db.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    place.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_a_floating_guest_and_what_stores_it_do_not_pass_each_other() {
    let place = Arc::new(Place::new().await);
    let until = at(1000);
    for round in 0..240 {
        let guest = guest(&place);
        let (user, session) = (guest.user.id, guest.session.id);
        let act = match round % 3 {
            0 => Act::Erase { user, chosen_id: None, mark_until: until, epoch: None },
            1 => Act::EndSession { user, session, mark_until: Some(until) },
            _ => Act::DenyToken { user, session, jti: [5; 16], until },
        };
        let (keeping, ending) = (place.commit(Some(guest.clone()), Act::Keep), place.commit(None, act));
        let (kept, ended) = futures_util::future::join(keeping, ending).await;
        ended.unwrap();
        let found = place.standing(&guest).await.unwrap();
        let there = found.session(session);
        match round % 3 {
            // stored and then erased, or refused
            0 => assert!(found.user.is_none() && there.is_none(), "{round}: {kept:?}"),
            1 => {
                assert!(there.is_none_or(|s| s.ended_at.is_some()), "{round}: {kept:?}");
                assert_eq!(there.is_some(), kept.is_ok(), "{round}: {kept:?}");
            }
            _ => {
                kept.clone().unwrap();
                assert!(there.unwrap().has_denied_tokens && found.marked(&[5; 16], at(0)), "{round}");
            }
        }
        if let Err(e) = kept {
            assert!(matches!(e, CommitError::Marked), "{round}: {e:?}");
        }
    }
    // nothing is left of what is put under a key for a moment only
    let db = connect(&place.url).await.unwrap();
    let sql = "SELECT (SELECT count(*) FROM users WHERE client=0) + (SELECT count(*) FROM sessions WHERE client=0)";
    assert_eq!(db.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_token_that_was_refused_while_floating_stays_refused() {
    let place = Place::new().await;
    let guest = guest(&place);
    let (user, session) = (guest.user.id, guest.session.id);
    place.commit(None, Act::DenyToken { user, session, jti: [5; 16], until: at(900) }).await.unwrap();
    place.commit(Some(guest.clone()), Act::Keep).await.unwrap();
    let found = place.standing(&guest).await.unwrap();
    assert!(found.session(session).unwrap().has_denied_tokens && found.marked(&[5; 16], at(0)));
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_waited_for_only_so_long() {
    let place = Place::new().await;
    let guest = guest(&place);
    place.commit(None, Act::Create(guest.clone(), Vec::new())).await.unwrap();
    let holder = connect(&place.url).await.unwrap();
    holder.batch_execute("BEGIN; SELECT * FROM users FOR UPDATE").await.unwrap();
    let edit = EditProfile {
        user: guest.user.id,
        session: guest.session.id,
        half: Half::Data,
        edit: Arc::new(Edit::merge_patch(b"{\"a\":1}", &Limits::default()).unwrap()),
        limits: Arc::default(),
        schema: None,
        if_match: None,
        key: None,
    };
    let asked = Instant::now();
    let outcome = place.commit(None, Act::Edit(Box::new(edit.clone()))).await;
    assert!(outcome.as_ref().is_err_and(is_unavailable), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(6));
    // reads do not wait, and when the row is free the change is made
    place.standing(&guest).await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    place.commit(None, Act::Edit(Box::new(edit))).await.unwrap();
}

#[tokio::test]
async fn a_raised_epoch_comes_soon_or_not_at_all() {
    let place = Place::new().await;
    let guest = guest(&place);
    let user = guest.user.id;
    place.commit(None, Act::Create(guest.clone(), Vec::new())).await.unwrap();
    // each attempt takes long, and is then undone for the sake of another one; a sequence counts on all the same
    let db = connect(&place.url).await.unwrap();
    db.batch_execute(
        "CREATE SEQUENCE attempts;
         CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM nextval('attempts'), pg_sleep(2);
           RAISE EXCEPTION USING ERRCODE = '40001';
         END $$;
         CREATE TRIGGER never BEFORE INSERT ON epochs FOR EACH ROW EXECUTE FUNCTION never()",
    )
    .await
    .unwrap();
    let raise = || Act::Turn(Box::new(Turn { raise: true, ..Turn::of(user, 0) }));
    let (raised, erased) = futures_util::future::join(
        place.commit(None, raise()),
        place.commit(
            None,
            Act::Erase { user: self::guest(&place).user.id, chosen_id: None, mark_until: at(1000), epoch: None },
        ),
    )
    .await;
    for outcome in [raised, erased] {
        assert!(outcome.as_ref().is_err_and(is_unavailable), "{outcome:?}");
    }
    let attempts: i64 = db.query_one("SELECT last_value FROM attempts", &[]).await.unwrap().get(0);
    assert!((2..=10).contains(&attempts), "{attempts}: at most five each, and not the nine that others may have");
    // nothing of it comes later, and then it can be done
    db.batch_execute("DROP TRIGGER never ON epochs").await.unwrap();
    assert_eq!(place.standing(&guest).await.unwrap().user.map(|u| u.epoch), Some(0));
    place.commit(None, raise()).await.unwrap();
    assert_eq!(place.store.epochs(at(0), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_connection_lost_between_batches_of_proofs_costs_nobody_an_error() {
    let place = Place::new().await;
    let db = connect(&place.url).await.unwrap();
    for n in 0..5u8 {
        assert!(place.store.spend(place.tenant, [n; 32], at(70_000)).await.unwrap());
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'passerby'";
        assert!(!db.query(sql, &[]).await.unwrap().is_empty());
    }
    for n in 0..5u8 {
        assert!(!place.store.spend(place.tenant, [n; 32], at(70_000)).await.unwrap_or(false));
    }
}

#[tokio::test]
async fn a_proof_that_cannot_be_noted_is_not_spent() {
    let place = Place::new().await;
    let db = connect(&place.url).await.unwrap();
    db.batch_execute("ALTER TABLE spent_proofs RENAME TO elsewhere").await.unwrap();
    let all = (0..50u8).map(|n| place.store.spend(place.tenant, [n; 32], at(70_000)));
    for outcome in futures_util::future::join_all(all).await {
        assert!(outcome.is_err(), "{outcome:?}");
    }
    db.batch_execute("ALTER TABLE elsewhere RENAME TO spent_proofs").await.unwrap();
    assert!(place.store.spend(place.tenant, [0; 32], at(70_000)).await.unwrap());
}

#[tokio::test]
async fn a_user_of_too_many_connections_waits_for_its_turn() {
    let database = fresh_database().await;
    let place = Place::at(format!("{}?pool_size=2", database.url)).await;
    let outcomes = futures_util::future::join_all((0..200).map(|_| {
        let guest = guest(&place);
        place.commit(Some(guest), Act::Keep)
    }))
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let place = Place::new().await;
    place.store.close().await;
    let db = connect(&place.url).await.unwrap();
    db.batch_execute("UPDATE refinery_schema_history SET checksum = '1'").await.unwrap();
    let refused = open(&place.url, &OpenOptions::default()).await.err().unwrap();
    assert!(matches!(&refused, OpenError::Changed(m) if m.contains("guests")), "{refused:?}");
}

#[tokio::test]
async fn no_server_is_one_clear_sentence() {
    let url = format!("postgres://u:secret@127.0.0.1:{}/db", passerby_testkit::free_port());
    let refused = open(&url, &OpenOptions::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreachable(_)), "{refused:?}");
    assert!(refused.to_string().contains("refused") && !refused.to_string().contains("secret"), "{refused}");
}

#[tokio::test]
async fn tls_checks_the_server() {
    let (ours, others) = (certificate::for_names(&["127.0.0.1"]), certificate::for_names(&["127.0.0.1"]));
    let files = vec![("server.crt".to_owned(), ours.certificate.clone()), ("server.key".to_owned(), ours.key.clone())];
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings =
        vec![setting("ssl", "on"), setting("ssl_cert_file", "../server.crt"), setting("ssl_key_file", "../server.key")];
    let cluster = Cluster::start_with(Options { settings, files, ..Options::default() }).await;
    let url = cluster.database().await;
    let folder = passerby_testkit::temp_dir();
    let trusting = |name: &str, pem: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        format!("{url}?sslmode=require&sslrootcert={}", file.display())
    };
    let store = open(&trusting("ours.pem", &ours.authority), &OpenOptions::default()).await.unwrap();
    store.ready().await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING(pid)
               WHERE ssl AND application_name = 'passerby' AND datname = current_database()";
    let encrypted: i64 = connect(&url).await.unwrap().query_one(sql, &[]).await.unwrap().get(0);
    assert!(encrypted >= 1);
    let refused = open(&trusting("others.pem", &others.authority), &OpenOptions::default()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreachable(_)), "{refused:?}");
}

/// A merge of two users in either order beside turns of each: an order of locks that differs makes two wait for each
/// other, and since the server looks for that only after a minute here, one of them would be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_several_users_take_their_locks_in_one_order() {
    let database = fresh_database().await;
    let place = Arc::new(Place::at(format!("{}?options=-c%20deadlock_timeout%3D60s", database.url)).await);
    let mut users = Vec::new();
    for n in 0..3 {
        let mut guest = guest(&place);
        // one that may be kept once more, by another session of the same chosen id
        (guest.user.chosen_by, guest.user.chosen_id) = (Some(place.client), Some(format!("chosen {n}").into()));
        place.commit(None, Act::CreateChosen(guest.clone(), Vec::new())).await.unwrap();
        users.push(guest);
    }
    let flow = |n: usize| Record {
        kind: RecordKind::Flow,
        id: [u8::try_from(n % 250).unwrap(); 32],
        revision: 1,
        ends_at: at(-1),
        body: "{}".into(),
    };
    let changes = (0..600usize).map(|n| {
        let chosen = [(n % 3, (n + 1) % 3), ((n + 1) % 3, n % 3)][n / 3 % 2];
        let turn = |who: usize, first: bool| {
            // look-ups and records that are dead at once: all take and touch the same ones
            let look_ups = (0..2).map(|nth| LookUp {
                hash: [if first { nth } else { 1 - nth }; 32],
                ends_at: at(-1),
                ..look_up(&users[who])
            });
            let records =
                (0..2).map(|nth| RecordChange::Put { record: flow(if first { nth } else { 1 - nth }), was: None });
            Turn {
                raise: false,
                look_ups: look_ups.collect(),
                records: records.collect(),
                end: Ending::Some(vec![(users[who].session.id, Some(at(1000)))]),
                ..Turn::of(users[who].user.id, 0)
            }
        };
        let out = |who: usize| OutRow {
            id: *users[who].session.id.as_bytes(),
            user: users[who].user.id,
            name: "merged".into(),
            at: at(0),
            target: Target::Log,
            lane: [0; 16],
            due_at: None,
            ends_at: Timestamp::MAX,
            body: Box::default(),
        };
        let (a, b) = chosen;
        let (mut keep, rows) = (None, vec![out(a), out(b), out(3 - a - b)]);
        let act = match n / 6 % 5 {
            0 => Act::Turn(Box::new(turn(a, true))),
            1 => Act::Records(turn(b, n % 2 == 0).records),
            // nothing but rows of the outbox
            2 => Act::Records(Vec::new()),
            3 => {
                let mut guest = users[b].clone();
                guest.session.id = place.ids.fresh(at(0), &place.random).session;
                keep = Some(guest);
                Act::Turns(vec![turn(b, false), turn(a, true)])
            }
            _ => Act::Turns(vec![turn(b, false), turn(a, true)]),
        };
        Change { at: at(0), keep, act, out: rows }
    });
    // few at a time, so that nobody waits long for another reason
    let changes: Vec<_> = changes.collect();
    for few in changes.chunks(10) {
        let under_way = few.iter().cloned().map(|change| place.store.commit(place.tenant, change));
        for outcome in futures_util::future::join_all(under_way).await {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
    let db = connect(&place.url).await.unwrap();
    let sql = "SELECT count(*), max(seq) FROM outbox";
    let row = db.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1800, 600));
}
