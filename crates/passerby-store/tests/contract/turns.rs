//! Turns: how a stored user gets in is changed in one step, or not at all.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    id::{SessionId, UserId},
    model::{Item, ItemKind, LookUp, LookUpKind, Mark},
    port::{Act, CommitError, Committed, Ending, ItemChange, Turn},
};

use crate::support::{DAY, Harness, Tenant, at, item, refused, side_by_side, within, word};

/// A look-up of an item, which lives for ever.
pub(crate) fn found_by(item: &Item, user: UserId, session: SessionId) -> LookUp {
    let kind = item.kind.look_up().expect("an item that is found");
    LookUp { kind, hash: item.id, user, session, body: [0; 32], ends_at: Timestamp::MAX }
}

/// A device key, which lives for ever.
pub(crate) fn device_key(n: u8) -> Item {
    item(ItemKind::DeviceKey, n, 1, Timestamp::MAX)
}

pub(crate) fn put(item: Item, was: Option<i32>) -> ItemChange {
    ItemChange::Put { item, was }
}

async fn turn(t: &Tenant, ms: i64, turn: Turn) -> Result<Committed, CommitError> {
    t.commit(ms, Act::Turn(Box::new(turn))).await
}

async fn items(t: &Tenant, user: UserId) -> Vec<Item> {
    t.store.items(t.no, user, None).await.unwrap()
}

/// A stored guest with two device keys, 1 and 2.
async fn with_two_keys(t: &Tenant) -> (UserId, SessionId) {
    let (user, session) = t.stored().await;
    let mut add = Turn::of(user, 0);
    for n in [1, 2] {
        add.items.push(put(device_key(n), None));
        add.look_ups.push(found_by(&device_key(n), user, session));
    }
    turn(t, 0, add).await.unwrap();
    (user, session)
}

/// How a turn is refused, since what is wrong with it.
pub(crate) type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Turn));

/// Everything that can be read of a user, for telling that nothing has changed.
async fn everything(t: &Tenant, user: UserId) -> String {
    let mut all = t.standing(user, SessionId::from_bytes([0; 16])).await;
    all.sessions.sort_by_key(|s| s.id);
    all.marks.sort_by_key(|m| m.id);
    let epochs = t.store.epochs(Timestamp::default(), 1000).await.unwrap();
    let mut look_ups = Vec::new();
    for n in 0..10 {
        look_ups.push(t.store.look_up(t.no, LookUpKind::DeviceKey, [n; 32]).await.unwrap());
    }
    format!("{all:?} {:?} {epochs:?} {look_ups:?}", items(t, user).await)
}

pub(crate) async fn all_steps_at_once(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = with_two_keys(&t).await;
    let (second, third) = (t.session(), t.session());
    t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(second.clone()) }).await;
    let mut all = Turn::of(user, 0);
    all.by = Some(session);
    all.raise = true;
    all.end = Ending::Some(vec![(session, None), (second.id, Some(at(DAY)))]);
    all.open = Some(Box::new(third.clone()));
    all.bind = Some((third.id, Some([7; 32]), true));
    let handing = item(ItemKind::HandOff, 5, 1, at(300));
    all.items = vec![
        ItemChange::Remove { kind: ItemKind::DeviceKey, id: [1; 32], was: 1 },
        put(Item { revision: 2, body: "{\"name\":\"ü\"}".into(), ..device_key(2) }, Some(1)),
        put(handing.clone(), None),
    ];
    all.look_ups = vec![found_by(&handing, user, third.id)];
    assert_eq!(turn(&t, 1999, all).await.unwrap(), Committed::Done);

    let found = t.standing(user, SessionId::from_bytes([0; 16])).await;
    assert_eq!(found.user.as_ref().map(|u| (u.epoch, u.version)), Some((1, 1)));
    for (id, ended) in [(session, true), (second.id, true), (third.id, false)] {
        assert_eq!(found.session(id).unwrap().ended_at, ended.then_some(at(1999)));
    }
    let opened = found.session(third.id).unwrap();
    assert_eq!((opened.key, opened.bound, opened.bound_to()), (Some([7; 32]), true, Some(&[7; 32])));
    assert_eq!(found.marks, [Mark { id: *second.id.as_bytes(), ends_at: at(DAY) }]);
    let kept = Item { revision: 2, body: "{\"name\":\"ü\"}".into(), ..device_key(2) };
    assert_eq!(items(&t, user).await, [kept.clone(), handing.clone()]);
    assert_eq!(t.store.items(t.no, user, Some(ItemKind::HandOff)).await.unwrap(), [handing]);
    assert_eq!(t.store.items(t.no, user, Some(ItemKind::Notice)).await.unwrap(), []);
    // the look-up went with its item, the other one stays, the new one is there
    for (kind, n, there) in
        [(LookUpKind::DeviceKey, 1, false), (LookUpKind::DeviceKey, 2, true), (LookUpKind::HandOff, 5, true)]
    {
        assert_eq!(t.store.look_up(t.no, kind, [n; 32]).await.unwrap().is_some(), there, "{n}");
    }
    let raised = t.store.epochs(at(0), 10).await.unwrap();
    assert_eq!(raised.len(), 1);
    assert_eq!((raised[0].tenant, raised[0].user, raised[0].epoch, raised[0].at), (t.no, user, 1, at(1000)));
}

pub(crate) async fn a_refused_turn_leaves_nothing_behind(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = with_two_keys(&t).await;
    let (other, its_session) = t.stored().await;
    let mut theirs = Turn::of(other, 0);
    theirs.items = vec![put(device_key(3), None)];
    theirs.look_ups = vec![found_by(&device_key(3), other, its_session)];
    turn(&t, 0, theirs).await.unwrap();
    let ended = t.session();
    t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(ended.clone()) }).await;
    t.done(0, Act::EndSession { user, session: ended.id, mark_until: None }).await;
    let before = everything(&t, user).await;

    // one that does everything, and each time fails at one thing
    let full = || {
        let mut full = Turn::of(user, 0);
        full.by = Some(session);
        full.raise = true;
        full.end = Ending::Some(vec![(session, Some(at(DAY)))]);
        let opened = t.session();
        full.bind = Some((opened.id, Some([7; 32]), true));
        full.open = Some(Box::new(opened));
        full.items = vec![
            put(device_key(4), None),
            ItemChange::Remove { kind: ItemKind::DeviceKey, id: [1; 32], was: 1 },
            ItemChange::RemoveAll { kind: ItemKind::Notice, but: None },
        ];
        full.look_ups = vec![found_by(&device_key(4), user, session)];
        full
    };
    let failing = |change: &dyn Fn(&mut Turn)| {
        let mut failing = full();
        change(&mut failing);
        failing
    };
    let cases: [Case<'_>; 13] = [
        ("Moved", "an epoch below", &|f| f.epoch = -1),
        ("Moved", "an epoch above", &|f| f.epoch = 1),
        ("Gone", "by nobody", &|f| f.by = Some(t.session().id)),
        ("Gone", "by somebody who left", &|f| f.by = Some(ended.id)),
        ("Gone", "by another's session", &|f| f.by = Some(its_session)),
        ("Moved", "a session that is there", &|f| {
            f.bind = None;
            f.open.as_mut().unwrap().id = session;
        }),
        ("Gone", "a key for nobody", &|f| f.bind = Some((t.session().id, None, false))),
        ("Gone", "a key for what ends", &|f| f.bind = Some((session, None, false))),
        ("Moved", "an item that is there", &|f| f.items.push(put(device_key(2), None))),
        ("Moved", "an item of another revision", &|f| f.items.push(put(device_key(2), Some(2)))),
        ("Moved", "an item that is not there", &|f| f.items.push(put(device_key(9), Some(1)))),
        ("Moved", "nothing to remove", &|f| {
            f.items.push(ItemChange::Remove { kind: ItemKind::HandOff, id: [2; 32], was: 1 });
        }),
        ("Taken", "another's look-up", &|f| f.look_ups.push(found_by(&device_key(3), user, session))),
    ];
    for (expected, what, change) in cases {
        assert_eq!(word(&turn(&t, 5, failing(change)).await), expected, "{what}");
        assert_eq!(everything(&t, user).await, before, "{what}");
    }
    let nobody = Turn { user: t.guest().user.id, ..full() };
    refused!(turn(&t, 5, nobody).await, "Gone");
    // and each alone would have been well
    turn(&t, 5, full()).await.unwrap();
    assert_ne!(everything(&t, user).await, before);
}

pub(crate) async fn a_turn_stores_a_floating_guest_first(h: &Harness) {
    let t = h.tenant(1).await;
    let guest = t.guest();
    let (user, session) = (guest.user.id, guest.session.id);
    let mut add = Turn::of(user, 0);
    add.by = Some(session);
    add.bind = Some((session, Some([1; 32]), false));
    add.items = vec![put(device_key(1), None)];
    add.look_ups = vec![found_by(&device_key(1), user, session)];
    let mut wrong = add.clone();
    wrong.epoch = 1;
    refused!(t.keep(0, &guest, Act::Turn(Box::new(wrong))).await, "Moved");
    assert!(h.tables_with(*user.as_bytes()).await.is_empty());
    t.keep(0, &guest, Act::Turn(Box::new(add))).await.unwrap();
    let found = t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    let row = found.standing.session(session).unwrap();
    assert_eq!((row.key, row.bound, row.bound_to()), (Some([1; 32]), false, None));
}

pub(crate) async fn ending_all_but_one(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, first) = t.stored().await;
    let further: Vec<_> = (0..5).map(|_| t.session()).collect();
    for session in &further {
        t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(session.clone()) }).await;
    }
    t.done(3, Act::EndSession { user, session: further[4].id, mark_until: None }).await;
    let (neighbour, its_session) = t.stored().await;
    let ends = async || {
        let found = t.standing(user, first).await;
        let end = |id| found.session(id).unwrap().ended_at;
        [end(first), end(further[0].id), end(further[4].id)]
    };
    turn(&t, 7, Turn { end: Ending::All { but: Some(first) }, ..Turn::of(user, 0) }).await.unwrap();
    assert_eq!(ends().await, [None, Some(at(7)), Some(at(3))]);
    // what is opened in the same step stays
    let opened = t.session();
    let mut all = Turn::of(user, 0);
    all.end = Ending::All { but: None };
    all.open = Some(Box::new(opened.clone()));
    turn(&t, 9, all).await.unwrap();
    assert_eq!(ends().await, [Some(at(9)), Some(at(7)), Some(at(3))]);
    assert_eq!(t.session_row(user, opened.id).await, opened);
    assert_eq!(t.session_row(neighbour, its_session).await.ended_at, None);
    // a day later what ended is removed by the next that is opened
    let mut later = Turn::of(user, 0);
    later.open = Some(Box::new(t.session()));
    turn(&t, DAY + 8, later).await.unwrap();
    let found = t.standing(user, first).await;
    assert!(found.session(first).is_some() && found.session(further[0].id).is_none());
    assert_eq!(found.sessions.len(), 3);
}

pub(crate) async fn a_dead_item_gives_way(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let code = |revision, ends_at| item(ItemKind::HandOff, 1, revision, at(ends_at));
    let looked = |ends_at| LookUp { ends_at: at(ends_at), ..found_by(&code(1, ends_at), user, session) };
    let with = |ends_at| {
        let mut with = Turn::of(user, 0);
        with.items = vec![put(code(1, ends_at), None)];
        with.look_ups = vec![looked(ends_at)];
        with
    };
    turn(&t, 0, with(300)).await.unwrap();
    refused!(turn(&t, 299, with(900)).await, "Moved");
    turn(&t, 300, with(900)).await.unwrap();
    assert_eq!(items(&t, user).await, [code(1, 900)]);
    // its revision counts, dead or alive
    let mut again = Turn::of(user, 0);
    again.items = vec![put(code(2, 950), Some(1))];
    turn(&t, 901, again.clone()).await.unwrap();
    refused!(turn(&t, 902, again).await, "Moved");
    // removed and made anew in one step, with its look-up
    let mut anew = Turn::of(user, 0);
    anew.items = vec![ItemChange::Remove { kind: ItemKind::HandOff, id: [1; 32], was: 2 }, put(code(1, 970), None)];
    anew.look_ups = vec![looked(970)];
    turn(&t, 903, anew).await.unwrap();
    assert_eq!(t.store.look_up(t.no, LookUpKind::HandOff, [1; 32]).await.unwrap(), Some(looked(970)));
    assert_eq!(items(&t, user).await, [code(1, 970)]);
}

pub(crate) async fn removing_all_of_a_kind_but_one(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let mut many = Turn::of(user, 0);
    for n in 1..=40 {
        many.items.push(put(device_key(n), None));
        many.look_ups.push(found_by(&device_key(n), user, session));
    }
    // a kind that is not found by anything
    many.items.push(put(item(ItemKind::Notice, 1, 1, at(DAY)), None));
    turn(&t, 0, many).await.unwrap();
    assert_eq!(items(&t, user).await.len(), 41);
    let mut all = Turn::of(user, 0);
    all.items = vec![ItemChange::RemoveAll { kind: ItemKind::DeviceKey, but: Some([7; 32]) }];
    turn(&t, 1, all).await.unwrap();
    assert_eq!(items(&t, user).await, [device_key(7), item(ItemKind::Notice, 1, 1, at(DAY))]);
    for n in 1..=40 {
        let row = t.store.look_up(t.no, LookUpKind::DeviceKey, [n; 32]).await.unwrap();
        assert_eq!(row.is_some(), n == 7, "{n}");
    }
}

pub(crate) async fn a_look_up_that_went_on_to_somebody_else_stays(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let (other, its_session) = t.stored().await;
    let code = item(ItemKind::HandOff, 1, 1, at(300));
    let with = |user, session, ends_at| {
        let mut with = Turn::of(user, 0);
        with.items = vec![put(Item { ends_at: at(ends_at), ..code.clone() }, None)];
        with.look_ups = vec![LookUp { ends_at: at(ends_at), ..found_by(&code, user, session) }];
        with
    };
    turn(&t, 0, with(user, session, 300)).await.unwrap();
    // the first is over, and the same code is given out again
    turn(&t, 400, with(other, its_session, 900)).await.unwrap();
    let mut remove = Turn::of(user, 0);
    remove.items = vec![ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None }];
    turn(&t, 500, remove).await.unwrap();
    assert_eq!(items(&t, user).await, []);
    let theirs = async || t.store.look_up(t.no, LookUpKind::HandOff, [1; 32]).await.unwrap().unwrap();
    assert_eq!((theirs().await.user, theirs().await.ends_at), (other, at(900)));
    // nor does erasing the first shorten it
    turn(&t, 600, with(user, session, 700)).await.unwrap_err();
    t.done(600, Act::Erase { user, chosen_id: None, mark_until: at(601), epoch: None }).await;
    assert_eq!(theirs().await.ends_at, at(900));
}

pub(crate) async fn of_eight_turns_on_one_revision_one_is_made(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let (user, session) = with_two_keys(&t).await;
    for was in 1..20 {
        let outcomes = within(side_by_side((0..8u8).map(|n| {
            let mut one = Turn::of(user, 0);
            one.by = Some(session);
            one.items = vec![put(Item { revision: was + 1, body: format!("{n}").into(), ..device_key(2) }, Some(was))];
            t.commit(1, Act::Turn(Box::new(one)))
        })))
        .await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Moved"), "{outcomes:?}");
        let winner = outcomes.iter().position(Result::is_ok).unwrap();
        assert_eq!(&*items(&t, user).await[1].body, winner.to_string());
    }
}

pub(crate) async fn of_eight_that_raise_one_epoch_one_does(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let (user, _) = t.stored().await;
    for epoch in 0..10 {
        let outcomes = within(side_by_side((0..8).map(|_| {
            let opened = t.session();
            let raise = Turn {
                raise: true,
                end: Ending::All { but: None },
                open: Some(Box::new(opened)),
                ..Turn::of(user, epoch)
            };
            t.commit(1, Act::Turn(Box::new(raise)))
        })))
        .await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Moved"), "{outcomes:?}");
    }
    let found = t.standing(user, t.session().id).await;
    assert_eq!(found.user.unwrap().epoch, 10);
    assert_eq!(found.sessions.iter().filter(|s| s.ended_at.is_none()).count(), 1);
}

pub(crate) async fn turns_of_many_users_over_the_same_look_ups_all_end(h: &Harness) {
    // each takes and gives back the same keys in another order: one at a time has them, and nobody waits for ever
    let t = Arc::new(h.tenant(1).await);
    let made = within(side_by_side((0..8u8).map(|who| {
        let t = t.clone();
        async move {
            let (user, session) = t.stored().await;
            let mut made = 0;
            for round in 0..20u8 {
                let order: Vec<u8> = (0..5).map(|n| (n * (1 + who % 4) + round) % 5).collect();
                let mut take = Turn::of(user, 0);
                for n in &order {
                    take.items.push(put(device_key(*n), None));
                    take.look_ups.push(found_by(&device_key(*n), user, session));
                }
                match t.commit(0, Act::Turn(Box::new(take))).await {
                    Ok(_) => {
                        made += 1;
                        let mut give = Turn::of(user, 0);
                        give.items = vec![ItemChange::RemoveAll { kind: ItemKind::DeviceKey, but: None }];
                        t.done(0, Act::Turn(Box::new(give))).await;
                    }
                    refused => refused!(refused, "Taken"),
                }
                assert_eq!(t.store.items(t.no, user, None).await.unwrap(), []);
            }
            made
        }
    })))
    .await;
    assert!(made.iter().sum::<i32>() > 0);
    for n in 0..5 {
        assert_eq!(t.store.look_up(t.no, LookUpKind::DeviceKey, [n; 32]).await.unwrap(), None);
    }
}
