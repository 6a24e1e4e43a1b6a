//! Raised epochs: read in order, all of a second, and swept.

use passerby_core::{
    Timestamp,
    model::EpochRow,
    port::{Act, Committed, Turn},
};

use crate::support::{Harness, Tenant, at};

async fn raise(t: &Tenant, ms: i64) -> EpochRow {
    let mut guest = t.guest();
    guest.user.chosen_id = (ms % 2 == 0).then(|| format!("chosen {ms}").into());
    let (user, chosen_id) = (guest.user.id, guest.user.chosen_id.clone());
    t.done(0, Act::CreateChosen(guest, Vec::new())).await;
    t.done(ms, Act::Turn(Box::new(Turn { raise: true, ..Turn::of(user, 0) }))).await;
    EpochRow { tenant: t.no, at: Timestamp::from_seconds(at(ms).seconds()), user, epoch: 1, chosen_id }
}

pub(crate) async fn raised_epochs_are_told_in_order(h: &Harness) {
    let (a, b) = (h.tenant(1).await, h.tenant(2).await);
    let read = async |from: i64, limit| h.store.epochs(at(from), limit).await.unwrap();
    assert_eq!(read(0, 10).await, []);
    let mut all = Vec::new();
    // commits that finish out of order; five in one second
    for (t, ms) in [(&a, 5_999), (&b, 1_000), (&a, 3_001), (&a, 3_002), (&b, 3_999), (&a, 3_500), (&b, 3_000), (&b, 0)]
    {
        all.push(raise(t, ms).await);
    }
    all.sort_by_key(|e| (e.at, e.tenant, e.user));
    assert_eq!(read(0, 100).await, all);
    assert_eq!(read(0, u32::MAX).await, all);
    assert_eq!(read(1, 100).await, all[1..]);
    assert_eq!(read(6_000, 100).await, []);
    // at most so many, but all of the last second
    for (limit, expected) in [(0, 1), (1, 1), (2, 2), (3, 7), (6, 7), (7, 7), (8, 8), (9, 8)] {
        assert_eq!(read(0, limit).await, all[..expected], "{limit}");
    }
    assert_eq!(read(3_000, 1).await, all[2..7]);
}

pub(crate) async fn of_two_raises_in_a_second_the_greater_is_told(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, _) = t.stored().await;
    for (epoch, ms) in [(0, 100), (1, 900), (2, 1_100)] {
        t.done(ms, Act::Turn(Box::new(Turn { raise: true, ..Turn::of(user, epoch) }))).await;
    }
    let told = h.store.epochs(at(0), 10).await.unwrap();
    assert_eq!(told.iter().map(|e| (e.at, e.epoch)).collect::<Vec<_>>(), [(at(0), 2), (at(1_000), 3)]);
}

pub(crate) async fn old_epochs_are_swept(h: &Harness) {
    let t = h.tenant(1).await;
    for n in 0..6 {
        raise(&t, n * 1_000).await;
    }
    let sweep = |limit, before| t.done(99_000, Act::Sweep { limit, epochs_before: at(before) });
    assert_eq!(sweep(10, 0).await, Committed::Swept(0));
    assert_eq!(sweep(2, 4_000).await, Committed::Swept(2));
    assert_eq!(h.store.epochs(at(0), 10).await.unwrap()[0].at, at(2_000), "the oldest first");
    assert_eq!(sweep(10, 4_000).await, Committed::Swept(2));
    assert_eq!(sweep(10, 4_000).await, Committed::Swept(0));
    assert_eq!(h.store.epochs(at(0), 10).await.unwrap().len(), 2);
}
