//! The outbox: rows come with what was done, in order for each user, and are found when they are due.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    id::UserId,
    model::{KeptRow, OutRow, OutState, RecordKind, Target},
    port::{Act, Committed, Half, OutQuery, RecordChange, Settled, Touch, Turn},
};

use crate::{
    records::{get, record},
    support::{
        DAY, Harness, Tenant, at, edit, increment, look_up, merge, operation_key, out_row, refused, side_by_side,
        sweep, within, word,
    },
};

/// All rows of the tenant, oldest first; those of one moment by their users and numbers.
async fn all(t: &Tenant) -> Vec<KeptRow> {
    let query = OutQuery { tenant: Some(t.no), limit: 1000, ..OutQuery::default() };
    let mut rows = t.store.outbox(query).await.unwrap();
    rows.sort_by_key(|kept| (kept.row.at, kept.row.user, kept.seq));
    rows
}

/// The numbers of a user's rows, by their names.
async fn numbers(t: &Tenant, user: UserId) -> Vec<(i64, String)> {
    let query = OutQuery { user: Some(user), limit: 1000, ..OutQuery::default() };
    let mut rows: Vec<_> =
        t.store.outbox(query).await.unwrap().into_iter().map(|kept| (kept.seq, kept.row.name.to_string())).collect();
    rows.sort();
    rows
}

/// The names of the mails that are due.
async fn due(t: &Tenant, ms: i64) -> Vec<String> {
    let rows = t.store.outbox_due(at(ms), Target::Mail, 100).await.unwrap();
    rows.into_iter().map(|kept| kept.row.name.to_string()).collect()
}

/// Writes rows beside nothing.
async fn add(t: &Tenant, rows: Vec<OutRow>) {
    t.commit_with(0, Act::Records(Vec::new()), rows).await.unwrap();
}

/// What became of a row.
fn settled(kept: &KeptRow, state: OutState, due_at: Option<Timestamp>) -> Settled {
    Settled {
        tenant: kept.tenant,
        user: kept.row.user,
        seq: kept.seq,
        id: kept.row.id,
        was: (kept.state, kept.tries),
        state,
        due_at,
        ends_at: kept.row.ends_at,
        tries: kept.tries + 1,
        body: None,
    }
}

pub(crate) async fn rows_come_with_every_act(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let (plain, other) = (t.guest(), t.guest());
    let acts = [
        Act::Keep,
        Act::Create(plain.clone(), Vec::new()),
        Act::Create(other.clone(), vec![look_up(1, &other, DAY)]),
        Act::CreateChosen(t.guest(), Vec::new()),
        Act::Turn(Box::new(Turn::of(user, 0))),
        Act::Turns(vec![Turn::of(plain.user.id, 0), Turn::of(user, 0)]),
        Act::Records(vec![record(1, 1, at(DAY)).put(None)]),
        Act::Records(vec![record(2, 1, at(DAY)).put(None), record(3, 1, at(DAY)).put(None)]),
        Act::OpenSession { user, epoch: 0, session: Box::new(t.session()) },
        Act::Rotate { user, session, from: 0, to: 1 },
        Act::Edit(increment(user, session)),
        Act::DenyToken { user, session, jti: [1; 16], until: at(DAY) },
        Act::Touch(vec![Touch { tenant: t.no, user, session, at: at(9) }]),
        Act::Remember(Box::new(look_up(2, &plain, DAY))),
        Act::Settle(Vec::new()),
        Act::InitMeta("x", vec![1]),
        Act::EndSession { user, session, mark_until: None },
        Act::EndSession { user, session, mark_until: Some(at(DAY)) },
        sweep(10),
    ];
    let count = acts.len();
    for (nth, act) in acts.into_iter().enumerate() {
        let n = u8::try_from(nth).unwrap();
        let what = format!("{act:?}");
        // with a row of its own user, of another, and of nobody
        let rows = vec![out_row(user, n), out_row(plain.user.id, n), out_row(UserId::from_bytes([9; 16]), n)];
        assert!(t.commit_with(5, act, rows).await.is_ok(), "{what}");
        for user in [user, plain.user.id, UserId::from_bytes([9; 16])] {
            assert_eq!(numbers(&t, user).await.last(), Some(&(i64::from(n) + 1, format!("event {n}"))), "{what}");
        }
    }
    // all of them are as they were given
    let rows = all(&t).await;
    assert_eq!(rows.len(), 3 * count);
    let first = rows.iter().find(|kept| kept.row.user == user).unwrap();
    let expected = KeptRow { tenant: t.no, seq: 1, row: out_row(user, 0), state: OutState::Waiting, tries: 0 };
    assert_eq!(*first, expected);
    assert!(t.standing(plain.user.id, plain.session.id).await.session(plain.session.id).is_some());
}

pub(crate) async fn rows_go_with_a_refused_act(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let guest = t.guest();
    let mut keyed = increment(user, session);
    keyed.key = Some(operation_key(1, 1));
    t.done(0, Act::Edit(keyed.clone())).await;
    t.done(0, Act::Remember(Box::new(look_up(1, &guest, DAY)))).await;
    let out = || vec![out_row(user, 1), out_row(UserId::from_bytes([9; 16]), 2)];
    refused!(t.commit_with(1, Act::Rotate { user, session, from: 7, to: 8 }, out()).await, "Moved");
    refused!(t.commit_with(1, Act::Remember(Box::new(look_up(1, &guest, DAY))), out()).await, "Taken");
    refused!(t.commit_with(1, Act::Create(guest.clone(), vec![look_up(1, &guest, DAY)]), out()).await, "Taken");
    refused!(t.commit_with(1, Act::Turn(Box::new(Turn::of(user, 3))), out()).await, "Moved");
    refused!(t.commit_with(1, Act::Edit(edit(guest.user.id, session, Half::Data, merge("{}"))), out()).await, "Gone");
    assert_eq!(t.commit_with(1, Act::InitMeta("y", vec![]), Vec::new()).await.unwrap(), Committed::Done);
    refused!(t.commit_with(1, Act::InitMeta("y", vec![]), out()).await, "Taken");
    // nor is told what was told before
    let replayed = t.commit_with(2, Act::Edit(keyed), out()).await.unwrap();
    assert!(matches!(replayed, Committed::Profile { replayed: true, .. }));
    assert!(all(&t).await.is_empty());
    // and the next is done on the same connections
    t.commit_with(3, Act::Create(guest.clone(), Vec::new()), out()).await.unwrap();
    assert_eq!(all(&t).await.len(), 2);
}

pub(crate) async fn a_user_s_rows_are_in_order(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let (user, session) = t.stored().await;
    let nobody = UserId::from_bytes([9; 16]);
    // some hold the user's row, others hold nothing that the next number hangs on
    let outcomes = within(side_by_side((0..60u8).map(|n| {
        let act = match n % 3 {
            0 => Act::Turn(Box::new(Turn::of(user, 0))),
            1 => Act::Records(vec![record(n, 1, at(DAY)).put(None)]),
            _ => Act::Edit(increment(user, session)),
        };
        t.commit_with(1, act, vec![out_row(nobody, n), out_row(user, n), out_row(nobody, n)])
    })))
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for (user, each) in [(user, 1), (nobody, 2)] {
        let rows = numbers(&t, user).await;
        let expected: Vec<i64> = (1..=60 * each).collect();
        assert_eq!(rows.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected);
    }
    // those of one change follow each other in its order
    let mut four: Vec<_> = (0..4).map(|n| OutRow { at: at(4 - i64::from(n)), ..out_row(nobody, 100 + n) }).collect();
    four.insert(2, out_row(user, 100));
    t.commit_with(2, Act::Turn(Box::new(Turn::of(user, 0))), four).await.unwrap();
    let names: Vec<_> = numbers(&t, nobody).await.into_iter().skip(120).map(|(_, name)| name).collect();
    assert_eq!(names, ["event 100", "event 101", "event 102", "event 103"]);
}

pub(crate) async fn what_is_due_is_given_in_order(h: &Harness) {
    let t = h.tenant(1).await;
    let (a, b) = (t.guest().user.id, t.guest().user.id);
    let row = |user, n: u8, lane: u8, due: i64| OutRow { lane: [lane; 16], due_at: Some(at(due)), ..out_row(user, n) };
    let nowhere = OutRow { due_at: None, target: Target::Log, ..out_row(a, 9) };
    add(&t, vec![row(a, 1, 1, 50), row(a, 2, 1, 10), row(a, 3, 2, 20), row(b, 4, 1, 30), nowhere]).await;
    assert_eq!(all(&t).await.iter().filter(|kept| kept.state == OutState::Done).count(), 1, "it has nowhere to go");
    assert!(due(&t, 9).await.is_empty());
    // the second waits for the first of its lane, which is not due; other lanes and users do not
    assert_eq!(due(&t, 49).await, ["event 3", "event 4"]);
    assert_eq!(due(&t, 50).await, ["event 3", "event 4", "event 1"]);
    let first = t.store.outbox_due(at(50), Target::Mail, 1).await.unwrap();
    assert_eq!(first.len(), 1, "the earliest alone");
    assert_eq!((&first[0].row, first[0].tries), (&row(a, 3, 2, 20), 0));
    // put off, it still goes before what came later
    let rows = all(&t).await;
    let of = |n: u8| rows.iter().find(|kept| *kept.row.name == *format!("event {n}")).unwrap();
    t.done(51, Act::Settle(vec![settled(of(1), OutState::Waiting, Some(at(80)))])).await;
    assert_eq!(due(&t, 79).await, ["event 3", "event 4"]);
    assert_eq!(due(&t, 80).await, ["event 3", "event 4", "event 1"]);
    let rows = all(&t).await;
    let of = |n: u8| rows.iter().find(|kept| *kept.row.name == *format!("event {n}")).unwrap();
    let gone = [settled(of(3), OutState::Dead, None), settled(of(1), OutState::Done, Some(at(1)))];
    t.done(81, Act::Settle(gone.into())).await;
    assert_eq!(due(&t, 81).await, ["event 2", "event 4"]);
    // each carrier asks for its own; in a lane they wait for each other's all the same
    let timer = |n: u8, lane: u8| OutRow { target: Target::Timer, ..row(a, n, lane, 10) };
    add(&t, vec![timer(6, 1), timer(7, 3)]).await;
    let timers = t.store.outbox_due(at(81), Target::Timer, 9).await.unwrap();
    assert_eq!(timers.iter().map(|kept| &kept.row).collect::<Vec<_>>(), [&timer(7, 3)]);
    assert_eq!(due(&t, 81).await, ["event 2", "event 4"]);
    // of another tenant they are another user's
    let other = h.tenant(2).await;
    add(&other, vec![row(a, 5, 1, 5)]).await;
    assert_eq!(due(&t, 81).await, ["event 5", "event 2", "event 4"]);
}

pub(crate) async fn what_is_past_its_end_holds_up_nobody(h: &Harness) {
    let t = h.tenant(1).await;
    let user = t.guest().user.id;
    let row = |n: u8, due: i64, ends: i64| OutRow { due_at: Some(at(due)), ends_at: at(ends), ..out_row(user, n) };
    add(&t, vec![row(1, 10, 100), row(2, 10, 40), row(3, 10, 90), row(4, 60, 95)]).await;
    assert_eq!(due(&t, 39).await, ["event 1"]);
    // one that is over is given, so that it is buried
    assert_eq!(due(&t, 40).await, ["event 1", "event 2"]);
    assert_eq!(due(&t, 89).await, ["event 1", "event 2"]);
    assert_eq!(due(&t, 95).await, ["event 1", "event 2", "event 3", "event 4"]);
    assert_eq!(due(&t, 100).await.len(), 4);
    // nor does it hold up what still is of use
    let behind = |n: u8, ends: i64| OutRow { lane: [1; 16], ..row(n, 10, ends) };
    add(&t, vec![behind(5, 40), behind(6, 90)]).await;
    assert_eq!(due(&t, 39).await, ["event 1", "event 5"]);
    assert_eq!(due(&t, 40).await, ["event 1", "event 2", "event 5", "event 6"]);
    t.done(40, sweep(2)).await;
    assert_eq!(due(&t, 41).await, ["event 1", "event 6"]);
}

pub(crate) async fn settling(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, other) = (t.guest().user.id, t.guest().user.id);
    add(&t, vec![out_row(user, 1), out_row(user, 2), out_row(other, 3)]).await;
    let rows = all(&t).await;
    let of = |n: u8| rows.iter().find(|kept| *kept.row.name == *format!("event {n}")).unwrap();
    let mut dead = settled(of(1), OutState::Dead, Some(at(70)));
    (dead.ends_at, dead.tries, dead.body) = (at(9 * DAY), 9, Some(b"\0new".as_slice().into()));
    let mut silent = settled(of(2), OutState::Done, None);
    silent.body = Some(Vec::new().into());
    // another row has this number by now, and one that nobody has
    let mut strange = settled(of(3), OutState::Done, None);
    strange.id = [0x77; 16];
    let mut unknown = settled(of(3), OutState::Done, None);
    unknown.seq = 99;
    // decided before somebody else settled it
    let (mut early, mut late) = (settled(of(3), OutState::Done, None), settled(of(3), OutState::Done, None));
    (early.was.1, late.was.0) = (1, OutState::Dead);
    t.done(60, Act::Settle(vec![unknown, silent, strange, early, late, dead.clone()])).await;
    let rows = all(&t).await;
    let now = |n: u8| rows.iter().find(|kept| *kept.row.name == *format!("event {n}")).unwrap().clone();
    let expected = KeptRow {
        state: OutState::Dead,
        tries: 9,
        // what does not wait has no moment
        row: OutRow { due_at: None, ends_at: at(9 * DAY), body: b"\0new".as_slice().into(), ..out_row(user, 1) },
        ..of(1).clone()
    };
    assert_eq!(now(1), expected);
    assert_eq!((now(2).state, now(2).tries, &*now(2).row.body), (OutState::Done, 1, &b""[..]));
    assert_eq!(now(3), *of(3));
    // sent again by hand
    t.done(61, Act::Settle(vec![settled(&now(1), OutState::Waiting, Some(at(62)))])).await;
    assert_eq!(due(&t, 62).await, ["event 3", "event 1"]);
    let rows = all(&t).await;
    assert_eq!(&*rows.iter().find(|kept| kept.row.user == user).unwrap().row.body, b"\0new", "as before");
    // of two that decided the same row the first counts; rows beside it come all the same
    let (first, last) = (settled(of(3), OutState::Waiting, Some(at(90))), settled(of(3), OutState::Done, None));
    t.commit_with(63, Act::Settle(vec![first, last]), vec![out_row(other, 4)]).await.unwrap();
    assert_eq!(due(&t, 89).await, ["event 1"]);
    assert_eq!(due(&t, 90).await, ["event 1", "event 3"]);
    assert_eq!(numbers(&t, other).await.len(), 2);
}

pub(crate) async fn rows_are_listed_newest_first(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    let (a, b) = (t.guest().user.id, t.guest().user.id);
    let row = |user, n: u8, target| OutRow { at: at(i64::from(n / 2)), target, lane: [n % 3; 16], ..out_row(user, n) };
    let rows: Vec<_> = (0..12u8)
        .map(|n| row(if n < 8 { a } else { b }, n, if n % 2 == 0 { Target::Mail } else { Target::Log }))
        .collect();
    add(&t, rows).await;
    add(&other, vec![row(a, 20, Target::Timer)]).await;
    let list = async |query: OutQuery<'_>| {
        let rows = t.store.outbox(query).await.unwrap();
        rows.iter().map(|kept| kept.row.id[0]).collect::<Vec<_>>()
    };
    let base = OutQuery { tenant: Some(t.no), limit: 100, ..OutQuery::default() };
    assert_eq!(list(base).await, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(list(OutQuery { limit: 3, ..base }).await, [11, 10, 9]);
    assert_eq!(list(OutQuery { tenant: None, limit: 2, ..base }).await, [20, 11]);
    assert_eq!(list(OutQuery { tenant: None, user: Some(a), limit: 3, ..base }).await, [20, 7, 6]);
    // page by page, also where two are of one moment
    let page = |ms, n| OutQuery { before: Some((at(ms), out_row(a, n).id)), limit: 4, ..base };
    assert_eq!(list(page(5, 11)).await, [10, 9, 8, 7]);
    assert_eq!(list(page(3, 7)).await, [6, 5, 4, 3]);
    assert_eq!(list(page(1, 2)).await, [1, 0]);
    assert!(list(page(0, 0)).await.is_empty());
    assert_eq!(list(OutQuery { targets: &[Target::Mail], ..base }).await, [10, 8, 6, 4, 2, 0]);
    assert_eq!(list(OutQuery { targets: &[Target::Log, Target::Timer], ..base }).await, [11, 9, 7, 5, 3, 1]);
    assert_eq!(list(OutQuery { lane: Some([2; 16]), user: Some(b), ..base }).await, [11, 8]);
    let (mut buried, rows) = (Vec::new(), all(&t).await);
    for kept in rows.iter().filter(|kept| kept.row.id[0] % 5 == 0) {
        buried.push(settled(kept, OutState::Dead, None));
    }
    t.done(60, Act::Settle(buried)).await;
    let dead = OutQuery { state: Some(OutState::Dead), ..base };
    assert_eq!(list(dead).await, [10, 5, 0]);
    let every =
        OutQuery { user: Some(a), lane: Some([2; 16]), targets: &[Target::Log], before: page(3, 7).before, ..dead };
    assert_eq!(list(every).await, [5]);
    assert!(list(OutQuery { state: Some(OutState::Done), ..base }).await.is_empty());
}

pub(crate) async fn erasing_takes_the_user_s_rows(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    for (user, session) in [(a, of_a), (b, of_b)] {
        let rows = vec![out_row(user, 1), out_row(user, 2)];
        t.commit_with(0, Act::Edit(increment(user, session)), rows).await.unwrap();
    }
    let before = all(&t).await;
    let erase = Act::Erase { user: a, chosen_id: None, mark_until: at(DAY), epoch: None };
    t.commit_with(1, erase, vec![out_row(a, 7), out_row(b, 8)]).await.unwrap();
    // what tells of the erasing stays
    assert_eq!(numbers(&t, a).await, [(1, "event 7".into())]);
    assert_eq!(numbers(&t, b).await.len(), 3);
    // who was just delivering one of before settles nothing else
    let late = before.iter().find(|kept| kept.row.user == a && kept.seq == 1).unwrap();
    t.done(2, Act::Settle(vec![settled(late, OutState::Done, None)])).await;
    assert!(due(&t, 50).await.contains(&"event 7".to_owned()));
}

pub(crate) async fn rows_are_swept_at_their_end(h: &Harness) {
    let t = h.tenant(1).await;
    let user = t.guest().user.id;
    let row = |n: u8, ends_at| OutRow { ends_at, ..out_row(user, n) };
    add(&t, vec![row(1, at(50)), row(2, at(60)), row(3, at(70)), row(4, Timestamp::MAX)]).await;
    let rows = all(&t).await;
    t.done(1, Act::Settle(vec![settled(&rows[0], OutState::Done, None), settled(&rows[1], OutState::Dead, None)]))
        .await;
    assert_eq!(t.done(49, sweep(10)).await, Committed::Swept(0));
    assert_eq!(t.done(60, sweep(10)).await, Committed::Swept(2));
    assert_eq!(numbers(&t, user).await, [(3, "event 3".into()), (4, "event 4".into())]);
    // one that still waits, too
    assert_eq!(t.done(900_000, sweep(10)).await, Committed::Swept(1));
    assert_eq!(t.done(900_000, sweep(10)).await, Committed::Swept(0));
    assert!(t.store.epochs(at(0), 9).await.unwrap().is_empty());
    // numbers go on from the last that is there
    add(&t, vec![out_row(user, 5)]).await;
    assert_eq!(numbers(&t, user).await, [(4, "event 4".into()), (5, "event 5".into())]);
}

pub(crate) async fn new_guests_with_and_without_rows(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let guests: Vec<_> = (0..60).map(|_| t.guest()).collect();
    let outcomes = within(side_by_side(guests.iter().enumerate().map(|(n, guest)| {
        let out = if n % 3 == 0 { vec![out_row(guest.user.id, 1)] } else { Vec::new() };
        t.commit_with(0, Act::Create(guest.clone(), Vec::new()), out)
    })))
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for (n, guest) in guests.iter().enumerate() {
        assert_eq!(t.standing(guest.user.id, guest.session.id).await.user.as_ref(), Some(&guest.user));
        assert_eq!(numbers(&t, guest.user.id).await.len(), usize::from(n % 3 == 0));
    }
    // one that is there already tells nothing
    refused!(
        t.commit_with(0, Act::Create(guests[1].clone(), Vec::new()), vec![out_row(guests[1].user.id, 1)]).await,
        "Taken"
    );
    assert!(numbers(&t, guests[1].user.id).await.is_empty());
    // a record that was seen goes along in the same step as the rows, or neither does
    let spend = |was| RecordChange::Remove { kind: RecordKind::Flow, id: [1; 32], was };
    t.done(0, Act::Records(vec![record(1, 1, at(DAY)).put(None)])).await;
    let user = guests[1].user.id;
    for (was, expected) in [(2, "Moved"), (1, "Done"), (1, "Moved")] {
        let turn = Turn { records: vec![spend(was)], raise: true, ..Turn::of(user, 0) };
        let outcome = t.commit_with(1, Act::Turn(Box::new(turn)), vec![out_row(user, 1)]).await;
        assert_eq!(word(&outcome), expected);
    }
    assert_eq!((get(&t, 1).await, numbers(&t, user).await.len()), (None, 1));
}
