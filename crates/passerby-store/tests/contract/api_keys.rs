//! API keys: written by revision, found by either text, touched.

use passerby_core::{
    id::TenantNo,
    model::ApiKeyRow,
    port::{Act, Committed},
};
use uuid::Uuid;

use crate::support::{Harness, Tenant, at, refused, side_by_side, word};

pub(crate) fn key(tenant: TenantNo, n: u8) -> ApiKeyRow {
    ApiKeyRow {
        tenant,
        id: Uuid::from_bytes([n; 16]),
        revision: 1,
        hash: [n; 32],
        previous: None,
        prefix: format!("pbk_{n:08}").into(),
        name: "Käthe's".into(),
        grants: "{}".into(),
        created_at: at(i64::from(n)),
        expires_at: None,
        last_used_at: None,
    }
}

pub(crate) fn put(key: &ApiKeyRow, was: Option<i32>) -> Act {
    Act::PutApiKey { key: Box::new(key.clone()), was }
}

async fn all(t: &Tenant) -> Vec<ApiKeyRow> {
    t.store.api_keys(t.no).await.unwrap()
}

pub(crate) async fn an_api_key_is_found_by_its_hash(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    assert_eq!(t.store.api_key([1; 32]).await.unwrap(), None);
    let first = ApiKeyRow {
        previous: Some(([0x11; 32], at(900))),
        expires_at: Some(at(1000)),
        last_used_at: Some(at(500)),
        grants: "{\"scopes\":[\"users:read\"]}".into(),
        ..key(t.no, 1)
    };
    let theirs = key(other.no, 3);
    for row in [&first, &key(t.no, 2), &theirs] {
        assert_eq!(t.done(0, put(row, None)).await, Committed::Done);
    }
    // by either text, whatever the time
    for hash in [[1; 32], [0x11; 32]] {
        assert_eq!(t.store.api_key(hash).await.unwrap().as_ref(), Some(&first));
    }
    assert_eq!(t.store.api_key([3; 32]).await.unwrap().as_ref(), Some(&theirs));
    assert_eq!(t.store.api_key([0; 32]).await.unwrap(), None);
    // newest first
    assert_eq!(all(&t).await, [key(t.no, 2), first]);
    assert_eq!(all(&other).await, [theirs]);
}

pub(crate) async fn an_api_key_is_taken_once(h: &Harness) {
    let t = h.tenant(1).await;
    t.done(0, put(&key(t.no, 1), None)).await;
    // its id, its hash, both
    let same_id = ApiKeyRow { hash: [9; 32], ..key(t.no, 1) };
    let same_hash = ApiKeyRow { id: Uuid::from_bytes([9; 16]), ..key(t.no, 1) };
    for row in [&same_id, &same_hash, &key(t.no, 1)] {
        refused!(t.commit(0, put(row, None)).await, "Taken");
    }
    t.done(0, put(&key(t.no, 2), None)).await;
    let stolen = ApiKeyRow { revision: 2, hash: [1; 32], ..key(t.no, 2) };
    refused!(t.commit(0, put(&stolen, Some(1))).await, "Taken");
    assert_eq!(all(&t).await, [key(t.no, 2), key(t.no, 1)]);
    let outcomes = side_by_side((0..20).map(|_| t.commit(0, put(&key(t.no, 3), None)))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
}

pub(crate) async fn an_api_key_is_changed_by_its_revision(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    let first = key(t.no, 1);
    t.done(0, put(&first, None)).await;
    let rotated = ApiKeyRow {
        revision: 2,
        hash: [7; 32],
        previous: Some((first.hash, at(60))),
        prefix: "pbk_new".into(),
        name: "new".into(),
        grants: "{\"new\":true}".into(),
        expires_at: Some(at(99)),
        ..first.clone()
    };
    for wrong in [0, 2] {
        refused!(t.commit(0, put(&rotated, Some(wrong))).await, "Moved");
    }
    refused!(t.commit(0, put(&ApiKeyRow { tenant: other.no, ..rotated.clone() }, Some(1))).await, "Moved");
    assert_eq!(all(&t).await, std::slice::from_ref(&first));
    t.done(0, put(&rotated, Some(1))).await;
    for hash in [[7; 32], [1; 32]] {
        assert_eq!(t.store.api_key(hash).await.unwrap().as_ref(), Some(&rotated));
    }
    refused!(t.commit(0, put(&rotated, Some(1))).await, "Moved");
    // the text before the last one but one is nobody's
    let again = ApiKeyRow { revision: 3, hash: [8; 32], previous: None, ..rotated.clone() };
    t.done(0, put(&again, Some(2))).await;
    for hash in [[7; 32], [1; 32]] {
        assert_eq!(t.store.api_key(hash).await.unwrap(), None);
    }
    // of many that rotate at once, one does
    let outcomes = side_by_side((10..30).map(|n| {
        let row = ApiKeyRow { revision: 4, hash: [n; 32], ..again.clone() };
        t.commit(0, put(&row, Some(3)))
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Moved"), "{outcomes:?}");
    // removed by its own tenant, as often as one likes
    other.done(0, Act::RemoveApiKey(first.id)).await;
    assert_eq!(all(&t).await.len(), 1);
    t.done(0, Act::RemoveApiKey(first.id)).await;
    t.done(0, Act::RemoveApiKey(first.id)).await;
    assert_eq!(all(&t).await, []);
    refused!(t.commit(0, put(&rotated, Some(4))).await, "Moved");
}

pub(crate) async fn an_api_key_was_last_used(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    for row in &mut [key(t.no, 1), key(t.no, 2), key(other.no, 1)] {
        row.hash[0] = row.tenant.0 as u8;
        t.done(0, put(row, None)).await;
    }
    let used = async |t: &Tenant| all(t).await.into_iter().map(|k| k.last_used_at).collect::<Vec<_>>();
    let touch = |tenant, n, ms| (tenant, Uuid::from_bytes([n; 16]), at(ms));
    let touches = vec![touch(t.no, 1, 50), touch(t.no, 9, 50), touch(t.no, 1, 40), touch(other.no, 1, 30)];
    assert_eq!(t.done(60, Act::TouchApiKeys(touches)).await, Committed::Done);
    assert_eq!((used(&t).await, used(&other).await), (vec![None, Some(at(50))], vec![Some(at(30))]));
    t.done(60, Act::TouchApiKeys(vec![touch(t.no, 1, 49), touch(t.no, 2, 1)])).await;
    assert_eq!(used(&t).await, [Some(at(1)), Some(at(50))]);
    t.done(60, Act::TouchApiKeys(Vec::new())).await;
    // a change that was decided before the touch takes nothing back
    let mut row = all(&t).await.remove(1);
    assert_eq!(row.revision, 1, "a touch is no change");
    for (revision, said, expected) in [(2, None, 50), (3, Some(at(20)), 50), (4, Some(at(70)), 70)] {
        row = ApiKeyRow { revision, last_used_at: said, ..row };
        t.done(60, put(&row, Some(revision - 1))).await;
        assert_eq!(used(&t).await[1], Some(at(expected)));
    }
}
