//! Records: rows of a tenant that belong to no user, changed only where they are as they were seen.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    model::{Record, RecordKind},
    port::{Act, Committed, RecordChange},
};

use crate::support::{Harness, Tenant, at, out_row, refused, side_by_side, sweep, within, word};

/// A flow.
pub(crate) fn record(n: u8, revision: i32, ends_at: Timestamp) -> Flow {
    Flow(Record { kind: RecordKind::Flow, id: [n; 32], revision, ends_at, body: format!("{{\"ü\":{n}}}").into() })
}

/// A record that can be put.
pub(crate) struct Flow(pub(crate) Record);

impl Flow {
    pub(crate) fn put(self, was: Option<i32>) -> RecordChange {
        RecordChange::Put { record: self.0, was }
    }
}

/// The flow of this number.
pub(crate) async fn get(t: &Tenant, n: u8) -> Option<Record> {
    t.store.record(t.no, RecordKind::Flow, [n; 32]).await.unwrap()
}

fn remove(n: u8, was: i32) -> RecordChange {
    RecordChange::Remove { kind: RecordKind::Flow, id: [n; 32], was }
}

pub(crate) async fn a_record_is_changed_by_its_revision(h: &Harness) {
    let t = h.tenant(1).await;
    let one = |change: RecordChange| Act::Records(vec![change]);
    refused!(t.commit(0, one(record(1, 2, at(100)).put(Some(1)))).await, "Moved");
    refused!(t.commit(0, one(remove(1, 1))).await, "Moved");
    t.done(0, one(record(1, 1, at(100)).put(None))).await;
    assert_eq!(get(&t, 1).await, Some(record(1, 1, at(100)).0));
    refused!(t.commit(99, one(record(1, 1, at(200)).put(None))).await, "Moved");
    refused!(t.commit(99, one(record(1, 9, at(200)).put(Some(2)))).await, "Moved");
    assert_eq!(get(&t, 1).await, Some(record(1, 1, at(100)).0));
    t.done(99, one(record(1, 2, at(200)).put(Some(1)))).await;
    assert_eq!(get(&t, 1).await, Some(record(1, 2, at(200)).0));
    // its revision counts, dead or alive, and a dead one gives way to a new one
    t.done(300, one(record(1, 3, at(250)).put(Some(2)))).await;
    t.done(300, one(record(1, 1, at(400)).put(None))).await;
    assert_eq!(get(&t, 1).await, Some(record(1, 1, at(400)).0));
    refused!(t.commit(300, one(remove(1, 2))).await, "Moved");
    t.done(300, one(remove(1, 1))).await;
    assert_eq!(get(&t, 1).await, None);
    // another kind under the same id is another record, and so is another tenant's
    let other = h.tenant(2).await;
    t.done(0, one(record(1, 1, at(100)).put(None))).await;
    let lease = Record { kind: RecordKind::Lease, ..record(1, 1, at(100)).0 };
    t.done(0, one(RecordChange::Put { record: lease.clone(), was: None })).await;
    other.done(0, one(record(1, 5, at(100)).put(None))).await;
    t.done(0, one(remove(1, 1))).await;
    assert_eq!(t.store.record(t.no, RecordKind::Lease, [1; 32]).await.unwrap(), Some(lease));
    assert_eq!(get(&other, 1).await, Some(record(1, 5, at(100)).0));
}

pub(crate) async fn several_are_changed_together_or_not(h: &Harness) {
    let t = h.tenant(1).await;
    // of one record in their order: made, changed and removed again
    let all = vec![
        record(3, 1, at(100)).put(None),
        record(1, 1, at(100)).put(None),
        record(3, 2, at(200)).put(Some(1)),
        record(2, 1, at(100)).put(None),
        remove(1, 1),
    ];
    t.done(0, Act::Records(all)).await;
    let all = async || t.store.records(t.no, RecordKind::Flow).await.unwrap();
    assert_eq!(all().await, [record(2, 1, at(100)).0, record(3, 2, at(200)).0]);
    assert!(t.store.records(t.no, RecordKind::Template).await.unwrap().is_empty());
    let user = t.guest().user.id;
    for wrong in [remove(2, 7), record(2, 1, at(100)).put(None), record(2, 3, at(100)).put(Some(2))] {
        let with = vec![remove(3, 2), wrong, record(4, 1, at(100)).put(None)];
        refused!(t.commit_with(1, Act::Records(with), vec![out_row(user, 1)]).await, "Moved");
        assert_eq!(all().await, [record(2, 1, at(100)).0, record(3, 2, at(200)).0]);
    }
    assert_eq!(h.count("SELECT count(*) FROM outbox").await, 0);
    // nothing to do is done
    t.done(1, Act::Records(Vec::new())).await;
}

pub(crate) async fn of_eight_on_one_record_one_wins(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    for was in [None, Some(1), Some(2), Some(3)] {
        let outcomes = within(side_by_side((0..8u8).map(|n| {
            let revision = was.unwrap_or_default() + 1;
            let body = format!("{n}").into();
            let mut changes = vec![RecordChange::Put { record: Record { body, ..record(1, revision, at(99)).0 }, was }];
            // some change a further one, in another order
            if n % 2 == 0 {
                changes.insert(0, record(2, revision, at(99)).put(was));
            }
            let t = t.clone();
            async move {
                let outcome = t.commit(1, Act::Records(changes)).await;
                (n, outcome)
            }
        })))
        .await;
        let winners: Vec<_> = outcomes.iter().filter(|(_, o)| o.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter(|(_, o)| o.is_err()).all(|(_, o)| word(o) == "Moved"), "{outcomes:?}");
        assert_eq!(&*get(&t, 1).await.unwrap().body, winners[0].0.to_string());
        // the second is brought up where the winner left it
        if winners[0].0 % 2 == 1 {
            let revision = was.unwrap_or_default() + 1;
            t.done(1, Act::Records(vec![record(2, revision, at(99)).put(was)])).await;
        }
    }
}

pub(crate) async fn records_are_swept_at_their_end(h: &Harness) {
    let t = h.tenant(1).await;
    let ends = [(1, at(50)), (2, at(60)), (3, Timestamp::MAX)];
    t.done(0, Act::Records(ends.map(|(n, ends_at)| record(n, 1, ends_at).put(None)).into())).await;
    assert_eq!(t.done(49, sweep(10)).await, Committed::Swept(0));
    assert_eq!(t.done(60, sweep(1)).await, Committed::Swept(1));
    assert_eq!(get(&t, 1).await, None);
    assert_eq!(t.done(60, sweep(10)).await, Committed::Swept(1));
    assert_eq!(t.done(900_000, sweep(10)).await, Committed::Swept(0));
    assert_eq!(t.store.records(t.no, RecordKind::Flow).await.unwrap(), [record(3, 1, Timestamp::MAX).0]);
}
