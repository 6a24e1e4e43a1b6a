//! What only a file can meet: a full disk, a file of somebody else, a folder that is missing.

use passerby_core::{
    id::{SessionId, UserId},
    port::{Act, Change, StoreError},
};
use passerby_store::{Grouping, OpenError, OpenOptions, open};
use rusqlite::Connection;

use crate::support::{Harness, Tenant, at, edit, increment, merge, side_by_side, within, word};

fn path(h: &Harness) -> &str {
    h.url.strip_prefix("sqlite:").unwrap()
}

async fn refusal(url: &str) -> OpenError {
    match open(url, &OpenOptions::default()).await {
        Ok(_) => panic!("{url} was opened"),
        Err(e) => e,
    }
}

/// Stores guests until there is no room; gives those that are stored.
async fn fill(t: &Tenant) -> Vec<(UserId, SessionId)> {
    let mut stored = Vec::new();
    for _ in 0..10_000 {
        let mut guest = t.guest();
        guest.user.data = format!("{{\"fill\":\"{}\"}}", "x".repeat(800)).into();
        let ids = (guest.user.id, guest.session.id);
        match t.commit(0, Act::Create(guest, Vec::new())).await {
            Ok(_) => stored.push(ids),
            refused => {
                assert_eq!(word(&refused), "Store(Full)");
                return stored;
            }
        }
    }
    panic!("never full");
}

#[tokio::test]
async fn a_full_disk_stops_writes_only() {
    let small = OpenOptions { max_pages: Some(60), ..OpenOptions::default() };
    let h = Harness::sqlite().await.reopened(&small).await;
    let t = h.tenant(1).await;
    let stored = fill(&t).await;
    assert!(stored.len() > 50);
    // a whole group is told the same
    let outcomes = side_by_side((0..20).map(|_| {
        let mut guest = t.guest();
        guest.user.data = format!("{{\"fill\":\"{}\"}}", "x".repeat(3000)).into();
        t.commit(0, Act::Create(guest, Vec::new()))
    }))
    .await;
    assert!(outcomes.iter().all(|o| word(o) == "Store(Full)"), "{outcomes:?}");
    // reads go on
    h.store.ready().await.unwrap();
    for (user, session) in &stored {
        assert!(t.standing(*user, *session).await.session(*session).is_some());
    }
    // room again: some are erased
    for (user, _) in &stored[..30] {
        t.done(1, Act::Erase { user: *user, chosen_id: None, mark_until: at(9), epoch: None }).await;
    }
    t.stored().await;
    // room again: a larger disk
    let stored = fill(&t).await;
    let h = h.reopened(&OpenOptions::default()).await;
    let t = Tenant { store: h.store.clone(), ..t };
    for _ in 0..100 {
        t.stored().await;
    }
    if let Some((user, session)) = stored.last() {
        assert!(t.standing(*user, *session).await.session(*session).is_some());
    }
    h.store.close().await;
    let whole: String =
        Connection::open(path(&h)).unwrap().query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(whole, "ok");
}

#[tokio::test]
async fn a_change_follows_those_that_it_was_queued_behind() {
    let h = Harness::sqlite().await;
    let t = h.tenant(1).await;
    for _ in 0..20 {
        let (guest, other) = (t.guest(), t.guest());
        let (user, session) = (guest.user.id, guest.session.id);
        let waits = [
            t.commit(0, Act::Edit(increment(user, session))),
            t.commit(0, Act::Create(guest.clone(), Vec::new())),
            t.commit(0, Act::Create(other, Vec::new())),
            t.commit(0, Act::Edit(increment(user, session))),
            t.commit(0, Act::Rotate { user, session, from: 0, to: 1 }),
            t.commit(0, Act::Erase { user, chosen_id: None, mark_until: at(5), epoch: None }),
            t.commit(0, Act::Create(guest, Vec::new())),
        ];
        let mut words = Vec::new();
        for wait in waits {
            words.push(word(&wait.await));
        }
        let edited = "Profile { data: \"{\\\"n\\\":1}\", version: 2, replayed: false }";
        assert_eq!(words, ["Gone", "Done", "Done", edited, "Done", "Done", "Done"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_group_at_once() {
    for close_groups in [Grouping::WhenIdle, Grouping::WhenFree] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("many.db").display());
        let store = open(&url, &OpenOptions { close_groups, max_pages: None }).await.unwrap();
        let h = Harness::of(store, url, folder);
        let t = h.tenant(1).await;
        let mut guests: Vec<_> = (0..3000).map(|_| t.guest()).collect();
        // some are heavy, so that groups end by their weight
        for guest in guests.iter_mut().step_by(5) {
            guest.user.data = format!("{{\"fill\":\"{}\"}}", "x".repeat(20_000)).into();
        }
        let waits: Vec<_> = guests.iter().map(|g| t.commit(0, Act::Create(g.clone(), Vec::new()))).collect();
        for wait in waits {
            within(wait).await.unwrap();
        }
        for g in guests.iter().step_by(37) {
            assert_eq!(t.standing(g.user.id, g.session.id).await.user.as_ref(), Some(&g.user));
        }
        h.store.close().await;
    }
}

#[test]
fn the_end_of_the_runtime_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("end.db").display());
    let (store, tenant) = runtime.block_on(async {
        let store = open(&url, &OpenOptions::default()).await.unwrap();
        let tenant = store.number_tenant(uuid::Uuid::from_u128(1)).await.unwrap();
        (store, tenant)
    });
    drop(runtime);
    let next = tokio::runtime::Runtime::new().unwrap();
    let late = store.commit(tenant, Change { at: at(0), keep: None, act: Act::SetMeta("x", vec![]), out: Vec::new() });
    let refused = next.block_on(within(late));
    assert!(word(&refused).starts_with("Store(Unavailable"), "{refused:?}");
    assert!(matches!(next.block_on(store.ready()), Err(StoreError::Unavailable(_))));
    next.block_on(within(store.close()));
}

#[tokio::test]
async fn the_file_is_laid_out_for_what_it_is() {
    let h = Harness::sqlite().await;
    h.tenant(1).await.stored().await;
    h.store.close().await;
    let folder = std::path::Path::new(path(&h)).parent().unwrap();
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, 1, "the log is folded in and removed when the store closes");
    let db = Connection::open(path(&h)).unwrap();
    for (pragma, value) in [("page_size", "4096"), ("auto_vacuum", "2"), ("journal_mode", "wal")] {
        let found = db
            .query_row(&format!("PRAGMA {pragma}"), [], |r| {
                Ok(r.get::<_, String>(0).or_else(|_| r.get::<_, i64>(0).map(|n| n.to_string())).unwrap())
            })
            .unwrap();
        assert_eq!(found, value, "{pragma}");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let url = |name: &str| format!("sqlite:{}", file(name).display());
    // no database
    std::fs::write(file("text"), "a text that is longer than the header of a database would be".repeat(50)).unwrap();
    assert!(matches!(refusal(&url("text")).await, OpenError::NotOurs(_)));
    assert!(std::fs::read(file("text")).unwrap().starts_with(b"a text"));
    // another program's
    Connection::open(file("other")).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    let before = std::fs::read(file("other")).unwrap();
    assert!(matches!(refusal(&url("other")).await, OpenError::NotOurs(_)));
    assert_eq!(std::fs::read(file("other")).unwrap(), before);
    // nowhere
    let refused = refusal(&url("missing/folder/passerby.db")).await;
    assert!(matches!(refused, OpenError::Unwritable { .. }), "{refused:?}");
    // a folder
    let refused = refusal(&format!("sqlite:{}", folder.path().display())).await;
    assert!(matches!(refused, OpenError::Unwritable { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_changed_migration_is_refused() {
    let h = Harness::sqlite().await;
    h.store.close().await;
    Connection::open(path(&h)).unwrap().execute("UPDATE schema_history SET checksum='1'", []).unwrap();
    let refused = refusal(&h.url).await;
    assert_eq!(refused, OpenError::Changed("V1__guests".into()));
}

#[tokio::test]
async fn urls() {
    for url in ["sqlite::memory:", "sqlite:", "sqlite://", "mysql://user:secret@host/db", "", "passerby.db"] {
        let refused = refusal(url).await;
        assert!(matches!(refused, OpenError::Url(_)), "{url}: {refused:?}");
        assert!(!refused.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_heavy_profile_comes_back() {
    // rows that spill over several pages, and one that is edited in the session's half
    let h = Harness::sqlite().await;
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    guest.user.data = format!("{{\"a\":\"{}\"}}", "é".repeat(30_000)).into();
    t.done(0, Act::Create(guest.clone(), Vec::new())).await;
    let (user, session) = (guest.user.id, guest.session.id);
    let own = format!("{{\"b\":\"{}\"}}", "y".repeat(9_000));
    t.done(1, Act::Edit(edit(user, session, passerby_core::port::Half::SessionMetadata, merge(&own)))).await;
    let found = t.standing(user, session).await;
    assert_eq!(found.user.unwrap().data, guest.user.data);
    assert_eq!(found.sessions[0].metadata.as_deref(), Some(&*own));
}
