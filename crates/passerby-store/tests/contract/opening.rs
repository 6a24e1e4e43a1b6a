//! Opening and closing.

use passerby_core::port::{Act, Change, StoreError};
use passerby_store::{OpenError, OpenOptions, open};

use crate::support::{Harness, at, look_up, refused, side_by_side, within, word};

pub(crate) async fn reopening_finds_everything(h: &Harness) {
    let t = h.tenant(1).await;
    let guest = t.guest();
    let row = look_up(1, &guest, 1000);
    t.done(0, Act::Create(guest.clone(), vec![row.clone()])).await;
    t.done(0, Act::SetMeta("salt", vec![1, 2])).await;
    h.store.close().await;

    let store = open(&h.url, &OpenOptions::default()).await.unwrap();
    let tenant = store.number_tenant(uuid::Uuid::from_u128(1)).await.unwrap();
    assert_eq!(tenant, t.no);
    assert_eq!(store.number_client(tenant, "spa").await.unwrap(), t.client);
    let found = store.standing(tenant, guest.user.id, guest.session.id).await.unwrap();
    assert_eq!((found.user, found.sessions), (Some(guest.user), vec![guest.session]));
    assert_eq!(store.look_up(tenant, row.kind, row.hash).await.unwrap(), Some(row));
    assert_eq!(store.meta("salt").await.unwrap(), Some(vec![1, 2]));
    store.close().await;
}

pub(crate) async fn a_closed_store_says_so(h: &Harness) {
    let t = h.tenant(1).await;
    h.store.ready().await.unwrap();
    let (before, guest) = (t.guest(), t.guest());
    let queued = t.commit(0, Act::Create(before.clone(), Vec::new()));
    within(h.store.close()).await;
    // what was queued is written
    queued.await.unwrap();
    assert!(matches!(h.store.ready().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(h.store.meta("x").await, Err(StoreError::Unavailable(_))));
    let read = h.store.standing(t.no, before.user.id, before.session.id).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
    let written = t.commit(0, Act::Create(guest, Vec::new())).await;
    assert!(word(&written).starts_with("Store(Unavailable"), "{written:?}");
    within(h.store.close()).await;
}

pub(crate) async fn two_that_open_at_once_migrate_once(h: &Harness) {
    // the database of the harness is migrated already: another one beside it
    let (url, _place) = h.sibling().await;
    let stores = within(side_by_side((0..8).map(|_| {
        let url = url.clone();
        async move { open(&url, &OpenOptions::default()).await }
    })))
    .await;
    for store in stores {
        let store = store.unwrap();
        store.ready().await.unwrap();
        let tenant = store.number_tenant(uuid::Uuid::from_u128(1)).await.unwrap();
        assert_eq!(tenant, store.number_tenant(uuid::Uuid::from_u128(1)).await.unwrap());
    }
}

pub(crate) async fn a_newer_database_is_refused(h: &Harness) {
    h.store.close().await;
    h.pretend_newer(4711).await;
    let Err(refused) = open(&h.url, &OpenOptions::default()).await else { panic!("opened a newer database") };
    assert!(matches!(refused, OpenError::Newer { found: 4711, .. }), "{refused:?}");
    assert!(refused.to_string().contains("database is at version 4711, this program knows up to"), "{refused}");
}

pub(crate) async fn two_processes_may_share_it(h: &Harness) {
    let t = h.tenant(1).await;
    let second = open(&h.url, &OpenOptions::default()).await.unwrap();
    let guest = t.guest();
    t.done(0, Act::Create(guest.clone(), Vec::new())).await;
    let change = Change { at: at(0), keep: None, act: Act::Create(guest.clone(), Vec::new()), out: Vec::new() };
    refused!(second.commit(t.no, change).await, "Taken");
    assert!(second.standing(t.no, guest.user.id, guest.session.id).await.unwrap().user.is_some());
    // the other one's API key is good at once, and its changes go on beside ours
    let key = crate::api_keys::key(t.no, 1);
    let put = Change { at: at(0), keep: None, act: crate::api_keys::put(&key, None), out: Vec::new() };
    second.commit(t.no, put).await.unwrap();
    assert_eq!(h.store.api_key(key.hash).await.unwrap(), Some(key));
    let (ours, theirs) = (t.guest(), t.guest());
    let theirs = Change { at: at(0), keep: None, act: Act::Create(theirs, Vec::new()), out: Vec::new() };
    let both = [
        t.store.commit(t.no, Change { at: at(0), keep: None, act: Act::Create(ours, Vec::new()), out: Vec::new() }),
        second.commit(t.no, theirs),
    ];
    assert!(within(side_by_side(both)).await.iter().all(Result::is_ok));
    second.close().await;
    // who stays is not held up by who went
    t.stored().await;
}
