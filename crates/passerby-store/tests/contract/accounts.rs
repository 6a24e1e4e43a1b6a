//! Guests that become accounts: what a turn writes of a user's own row, what several turns do at once, what is exclusive.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    id::{SessionId, UserId},
    model::{Item, ItemKind, Kind, LookUpKind, User},
    port::{Act, CommitError, Committed, Ending, Half, ItemChange, ManageUser, NewUserRows, Turn, UserWrite},
};

use crate::{
    records::{get, record},
    support::{
        DAY, Harness, Tenant, at, edit, increment, item, limits, merge, operation_key, out_row, refused, side_by_side,
        sweep, within, word,
    },
    turns::{Case, device_key, found_by, put},
};

/// A write that changes nothing of a guest.
pub(crate) fn write() -> UserWrite {
    UserWrite {
        version: None,
        was: Kind::Anonymous,
        data: None,
        kind: Kind::Anonymous,
        converted_at: None,
        merged_into: None,
        frozen: false,
        thaws: false,
    }
}

fn writing(user: UserId, write: UserWrite) -> Turn {
    Turn { write: Some(write), ..Turn::of(user, 0) }
}

async fn turn(t: &Tenant, ms: i64, turn: Turn) -> Result<Committed, CommitError> {
    t.commit(ms, Act::Turn(Box::new(turn))).await
}

async fn row(t: &Tenant, user: UserId) -> User {
    t.standing(user, SessionId::from_bytes([0; 16])).await.user.expect("the user is there")
}

async fn items(t: &Tenant, user: UserId) -> Vec<Item> {
    t.store.items(t.no, user, None).await.unwrap()
}

async fn owner(t: &Tenant, kind: LookUpKind, n: u8) -> Option<UserId> {
    t.store.look_up(t.no, kind, [n; 32]).await.unwrap().map(|row| row.user)
}

fn identifier(n: u8) -> Item {
    item(ItemKind::Identifier, n, 1, Timestamp::MAX)
}

/// Takes an identifier.
fn claiming(n: u8, user: UserId, session: SessionId) -> Turn {
    let look_ups = vec![found_by(&identifier(n), user, session)];
    Turn { items: vec![put(identifier(n), None)], look_ups, ..Turn::of(user, 0) }
}

pub(crate) async fn a_write_changes_the_row(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, _) = t.stored().await;
    let before = row(&t, user).await;
    // what says nothing changes nothing
    turn(&t, 5, writing(user, write())).await.unwrap();
    assert_eq!(row(&t, user).await, before);
    let account = UserId::from_bytes([7; 16]);
    let mut all = writing(
        user,
        UserWrite {
            version: Some(1),
            data: Some("{\"n\":1}".into()),
            kind: Kind::Regular,
            converted_at: Some(at(6)),
            merged_into: Some(account),
            frozen: true,
            ..write()
        },
    );
    all.raise = true;
    turn(&t, 6, all).await.unwrap();
    let after = row(&t, user).await;
    let expected = User {
        kind: Kind::Regular,
        data: "{\"n\":1}".into(),
        version: 2,
        epoch: 1,
        updated_at: at(6),
        converted_at: Some(at(6)),
        merged_into: Some(account),
        frozen: true,
        ..before
    };
    assert_eq!(after, expected);
    // when it was converted stays, all else is as the write says; without data no version
    let back = UserWrite { was: Kind::Regular, converted_at: Some(at(9)), thaws: true, ..write() };
    turn(&t, 9, Turn { epoch: 1, ..writing(user, back) }).await.unwrap();
    let thawed = User { kind: Kind::Anonymous, merged_into: None, frozen: false, ..expected };
    assert_eq!(row(&t, user).await, thawed);
    assert_eq!(t.store.users(t.no, None, 9).await.unwrap()[0].user.as_ref(), Some(&thawed));
}

pub(crate) async fn a_write_is_guarded(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    t.done(1, Act::Edit(increment(user, session))).await;
    let before = row(&t, user).await;
    let with = |change: UserWrite| Turn { raise: true, ..writing(user, change) };
    refused!(turn(&t, 2, with(UserWrite { version: Some(1), ..write() })).await, "Moved");
    refused!(turn(&t, 2, with(UserWrite { was: Kind::Regular, ..write() })).await, "Moved");
    assert_eq!(row(&t, user).await, before);
    turn(&t, 2, writing(user, UserWrite { version: Some(2), frozen: true, ..write() })).await.unwrap();
    refused!(turn(&t, 3, with(write())).await, "Frozen");
    // to say so is no proof of the rest
    refused!(turn(&t, 3, with(UserWrite { was: Kind::Regular, thaws: true, ..write() })).await, "Moved");
    assert!(row(&t, user).await.frozen);
    turn(&t, 3, with(UserWrite { thaws: true, ..write() })).await.unwrap();
    assert_eq!(row(&t, user).await, User { epoch: 1, ..before });
}

pub(crate) async fn a_frozen_guest_is_not_edited(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let mut keyed = increment(user, session);
    keyed.key = Some(operation_key(1, 1));
    t.done(1, Act::Edit(keyed.clone())).await;
    turn(&t, 2, writing(user, UserWrite { frozen: true, ..write() })).await.unwrap();
    let before = row(&t, user).await;
    for half in [Half::Data, Half::SessionMetadata] {
        refused!(t.commit(3, Act::Edit(edit(user, session, half, merge("{\"a\":1}")))).await, "Frozen");
    }
    // a version that is wrong besides does not hide it, and a new key is not used up
    let mut new = increment(user, session);
    (new.key, new.if_match) = (Some(operation_key(2, 2)), Some(77));
    refused!(t.commit(3, Act::Edit(new.clone())).await, "Frozen");
    // what was done before is told again
    let again = Committed::Profile { data: "{\"n\":1}".into(), version: 2, replayed: true };
    assert_eq!(t.done(3, Act::Edit(keyed)).await, again);
    let manage = |data: Option<&str>, server_data: Option<&str>, held| {
        let patch = |text: Option<&str>| text.map(|text| Arc::new(merge(text)));
        let (data, server_data) = (patch(data), patch(server_data));
        let (limits, schema) = (Arc::new(limits()), None);
        Act::Manage(Box::new(ManageUser { user, if_match: None, data, server_data, held, limits, schema }))
    };
    refused!(t.commit(4, manage(Some("{\"a\":1}"), Some("{\"b\":1}"), Some(true))).await, "Frozen");
    assert_eq!(row(&t, user).await, before);
    t.done(5, manage(None, Some("{\"b\":1}"), Some(true))).await;
    let held = row(&t, user).await;
    assert_eq!((held.server_data.as_deref(), held.held, held.version), (Some("{\"b\":1}"), true, 3));
    // how it gets in may change: it is signed out, and in
    let opened = t.session();
    let mut sign_in = Turn::of(user, 0);
    (sign_in.end, sign_in.open) = (Ending::Some(vec![(session, None)]), Some(Box::new(opened.clone())));
    turn(&t, 6, sign_in).await.unwrap();
    turn(&t, 7, writing(user, UserWrite { thaws: true, ..write() })).await.unwrap();
    (new.session, new.if_match) = (opened.id, None);
    assert!(matches!(t.done(8, Act::Edit(new)).await, Committed::Profile { replayed: false, .. }));
}

pub(crate) async fn an_identifier_is_one_user_s(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    turn(&t, 0, claiming(1, a, of_a)).await.unwrap();
    // for as long as it is held
    refused!(turn(&t, 900 * DAY, claiming(1, b, of_b)).await, "Taken");
    assert!(items(&t, b).await.is_empty());
    let found = t.store.found(t.no, LookUpKind::Identifier, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.standing.user.map(|u| u.id), Some(a));
    let drop = ItemChange::Remove { kind: ItemKind::Identifier, id: [1; 32], was: 1 };
    turn(&t, 1, Turn { items: vec![drop], ..Turn::of(a, 0) }).await.unwrap();
    turn(&t, 2, claiming(1, b, of_b)).await.unwrap();
    assert_eq!(owner(&t, LookUpKind::Identifier, 1).await, Some(b));
    // one that a back end adds is held by it
    let add = |n: u8, ends_at| {
        let user = t.guest().user;
        let item = Item { ends_at, ..identifier(n) };
        let look_ups = vec![found_by(&item, user.id, SessionId::from_bytes([0; 16]))];
        Act::AddUser(Box::new(NewUserRows { user, items: vec![item], look_ups }))
    };
    refused!(t.commit(3, add(1, Timestamp::MAX)).await, "Taken");
    assert_eq!(t.store.users(t.no, None, 9).await.unwrap().len(), 2);
    t.done(3, add(2, Timestamp::MAX)).await;
    let added = owner(&t, LookUpKind::Identifier, 2).await.unwrap();
    assert_eq!(items(&t, added).await, [identifier(2)]);
    refused!(turn(&t, 4, claiming(2, a, of_a)).await, "Taken");
}

pub(crate) async fn of_fifty_that_claim_one_identifier_one_wins(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let mut users = Vec::new();
    for _ in 0..50 {
        users.push(t.stored().await);
    }
    for n in 0..3 {
        let turns = users.iter().map(|(user, session)| t.commit(1, Act::Turn(Box::new(claiming(n, *user, *session)))));
        let outcomes = within(side_by_side(turns.collect::<Vec<_>>())).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Taken"), "{outcomes:?}");
        let winner = users[outcomes.iter().position(Result::is_ok).unwrap()].0;
        assert_eq!(owner(&t, LookUpKind::Identifier, n).await, Some(winner));
        for (user, _) in &users {
            assert_eq!(items(&t, *user).await.iter().any(|i| i.id == [n; 32]), *user == winner);
        }
    }
}

pub(crate) async fn an_erased_account_frees_its_identifiers(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    let mut both = claiming(1, a, of_a);
    both.items.push(put(device_key(2), None));
    both.look_ups.push(found_by(&device_key(2), a, of_a));
    turn(&t, 0, both).await.unwrap();
    // one that went over to another user is another's
    turn(&t, 0, claiming(3, a, of_a)).await.unwrap();
    let mut over = claiming(3, b, of_b);
    over.items.clear();
    let retire = ItemChange::RemoveAll { kind: ItemKind::Identifier, but: Some([1; 32]) };
    let keep = put(identifier(3), None);
    let hand_over = Turn { items: vec![retire, keep], ..Turn::of(a, 0) };
    t.done(1, Act::Turns(vec![hand_over, over])).await;
    t.done(2, Act::Erase { user: a, chosen_id: None, mark_until: at(DAY), epoch: None }).await;
    assert_eq!(owner(&t, LookUpKind::Identifier, 1).await, None);
    assert_eq!(owner(&t, LookUpKind::Identifier, 3).await, Some(b));
    assert_eq!(owner(&t, LookUpKind::DeviceKey, 2).await, Some(a), "known as somebody erased for a while");
    turn(&t, 3, claiming(1, b, of_b)).await.unwrap();
}

pub(crate) async fn what_is_retired_is_known_and_never_another_s(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    let mut add = claiming(9, a, of_a);
    for n in 1..4 {
        add.items.push(put(device_key(n), None));
        add.look_ups.push(found_by(&device_key(n), a, of_a));
    }
    turn(&t, 0, add).await.unwrap();
    let retire = ItemChange::RetireAll { kind: ItemKind::DeviceKey, but: Some([2; 32]) };
    turn(&t, 1, Turn { items: vec![retire], ..Turn::of(a, 0) }).await.unwrap();
    assert_eq!(items(&t, a).await, [device_key(2), identifier(9)]);
    for n in 1..4 {
        assert_eq!(owner(&t, LookUpKind::DeviceKey, n).await, Some(a), "{n}");
        let mut take = Turn::of(b, 0);
        take.look_ups = vec![found_by(&device_key(n), b, of_b)];
        refused!(turn(&t, 900 * DAY, take).await, "Taken");
    }
    // in a step that retires it, it is as if it were gone: the item may come again, its look-up is there
    let mut anew = Turn::of(a, 0);
    anew.items = vec![ItemChange::RetireAll { kind: ItemKind::DeviceKey, but: None }, put(device_key(2), None)];
    turn(&t, 2, anew).await.unwrap();
    assert_eq!(items(&t, a).await, [device_key(2), identifier(9)]);
}

pub(crate) async fn turns_of_two_users_are_one_step(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    let mut mine = claiming(1, a, of_a);
    mine.items.push(put(device_key(2), None));
    mine.look_ups.push(found_by(&device_key(2), a, of_a));
    turn(&t, 0, mine).await.unwrap();
    // a look-up goes over, in whichever order they are named
    for (nth, from, to, session) in [(0, a, b, of_b), (1, b, a, of_a), (2, a, b, of_b), (3, b, a, of_a)] {
        let give = Turn {
            raise: true,
            epoch: nth,
            end: Ending::All { but: None },
            items: vec![ItemChange::RemoveAll { kind: ItemKind::DeviceKey, but: None }],
            write: Some(UserWrite { merged_into: Some(to), ..write() }),
            ..Turn::of(from, 0)
        };
        let take = Turn {
            epoch: nth,
            raise: true,
            items: vec![put(device_key(2), None)],
            look_ups: vec![found_by(&device_key(2), to, session)],
            records: vec![record(1, nth + 1, Timestamp::MAX).put((nth > 0).then_some(nth))],
            write: Some(UserWrite { data: Some(format!("{{\"nth\":{nth}}}").into()), ..write() }),
            ..Turn::of(to, 0)
        };
        let both = if nth < 2 { vec![give, take] } else { vec![take, give] };
        t.done(10 + i64::from(nth), Act::Turns(both)).await;
        assert_eq!(owner(&t, LookUpKind::DeviceKey, 2).await, Some(to));
        let (from, to) = (row(&t, from).await, row(&t, to).await);
        assert_eq!((from.merged_into, to.merged_into), (Some(to.id), None));
        assert_eq!((from.epoch, to.epoch), (nth + 1, nth + 1));
        assert_eq!((&*to.data, to.version), (&*format!("{{\"nth\":{nth}}}"), to.version));
        assert_eq!(items(&t, to.id).await.iter().filter(|i| i.kind == ItemKind::DeviceKey).count(), 1);
        assert!(!items(&t, from.id).await.iter().any(|i| i.kind == ItemKind::DeviceKey));
        assert_eq!(get(&t, 1).await.map(|r| r.revision), Some(nth + 1));
    }
    let raised = t.store.epochs(at(0), 99).await.unwrap();
    assert_eq!(raised.iter().map(|e| e.epoch).collect::<Vec<_>>(), [4, 4], "both in one second");
    // nothing to do is done
    t.done(20, Act::Turns(Vec::new())).await;
    // one user twice is no decision of anybody
    let twice = t.commit(20, Act::Turns(vec![Turn::of(a, 4), Turn::of(a, 4)])).await;
    assert!(word(&twice).starts_with("Store(Bug"), "{twice:?}");
}

pub(crate) async fn of_turns_all_are_made_or_none(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, of_a), (b, of_b)) = (t.stored().await, t.stored().await);
    let ended = t.session();
    t.done(0, Act::OpenSession { user: b, epoch: 0, session: Box::new(ended.clone()) }).await;
    t.done(0, Act::EndSession { user: b, session: ended.id, mark_until: None }).await;
    turn(&t, 0, claiming(9, b, of_b)).await.unwrap();
    t.done(0, Act::Records(vec![record(1, 1, Timestamp::MAX).put(None)])).await;
    let full = |user, session, n: u8| {
        let mut full = claiming(n, user, session);
        full.raise = true;
        full.end = Ending::Some(vec![(session, Some(at(DAY)))]);
        full.open = Some(Box::new(t.session()));
        full.write = Some(UserWrite { data: Some("{\"x\":1}".into()), kind: Kind::Regular, ..write() });
        full.records = vec![record(n, 1, Timestamp::MAX).put(None)];
        full
    };
    let everything = async || {
        let of = async |user, session| {
            let mut standing = t.standing(user, session).await;
            standing.sessions.sort_by_key(|s| s.id);
            format!("{standing:?} {:?}", items(&t, user).await)
        };
        let mut shared = Vec::new();
        for n in 1..5 {
            shared.push(format!("{:?} {:?}", owner(&t, LookUpKind::Identifier, n).await, get(&t, n).await));
        }
        let epochs = t.store.epochs(at(0), 99).await.unwrap();
        let rows = h.count("SELECT count(*) FROM outbox").await;
        (of(a, of_a).await, of(b, of_b).await, shared, epochs, rows)
    };
    let before = everything().await;
    let cases: [Case<'_>; 9] = [
        ("Gone", "nobody", &|turn| turn.user = UserId::from_bytes([3; 16])),
        ("Moved", "another epoch", &|turn| turn.epoch = 1),
        ("Moved", "another kind", &|turn| turn.write.as_mut().unwrap().was = Kind::Regular),
        ("Gone", "by somebody who left", &|turn| turn.by = Some(ended.id)),
        ("Moved", "a session that is there", &|turn| turn.open.as_mut().unwrap().id = of_b),
        ("Moved", "more items than seen", &|turn| turn.counted = vec![(ItemKind::Identifier, 0)]),
        ("Moved", "an item that is not there", &|turn| turn.items.push(put(device_key(1), Some(1)))),
        ("Taken", "a look-up of both", &|turn| turn.look_ups[0].hash = [2; 32]),
        ("Moved", "a record that is there", &|turn| turn.records.push(record(1, 1, Timestamp::MAX).put(None))),
    ];
    for (expected, what, change) in cases {
        for swapped in [false, true] {
            let (mut second, first) = (full(b, of_b, 3), full(a, of_a, 2));
            change(&mut second);
            let both = if swapped { vec![second, first] } else { vec![first, second] };
            let outcome = t.commit_with(5, Act::Turns(both), vec![out_row(a, 1), out_row(b, 2)]).await;
            assert_eq!(word(&outcome), expected, "{what}");
            assert_eq!(everything().await, before, "{what}");
        }
    }
    let both = vec![full(a, of_a, 2), full(b, of_b, 3)];
    t.commit_with(5, Act::Turns(both), vec![out_row(a, 1), out_row(b, 2)]).await.unwrap();
    assert_eq!(everything().await.4, 2);
    assert_eq!((row(&t, a).await.kind, row(&t, b).await.kind), (Kind::Regular, Kind::Regular));
}

pub(crate) async fn turns_over_each_other_all_end(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let mut users = Vec::new();
    for _ in 0..3 {
        users.push(t.stored().await);
    }
    let outcomes = within(side_by_side((0..50usize).map(|who| {
        // pairs in both orders, and triples
        let mut chosen: Vec<_> = (0..2 + who % 2).map(|nth| users[(who + nth) % 3]).collect();
        if who % 4 > 1 {
            chosen.reverse();
        }
        let turns = chosen.into_iter().enumerate().map(|(nth, (user, session))| {
            let mut turn = claiming(u8::try_from(who * 3 + nth).unwrap(), user, session);
            turn.write = Some(UserWrite { data: Some("{}".into()), ..write() });
            turn
        });
        let out = users.iter().rev().map(|(user, _)| out_row(*user, u8::try_from(who).unwrap())).collect();
        t.commit_with(1, Act::Turns(turns.collect()), out)
    })))
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let mut versions = 0;
    for (user, _) in &users {
        versions += row(&t, *user).await.version - 1;
    }
    assert_eq!(versions, 125, "25 pairs and 25 triples");
    assert_eq!(h.count("SELECT count(*) FROM outbox").await, 150);
    assert_eq!(h.count("SELECT max(seq) FROM outbox").await, 50);
}

pub(crate) async fn a_floating_guest_is_stored_before_its_turns(h: &Harness) {
    let t = h.tenant(1).await;
    let ((a, _), guest) = (t.stored().await, t.guest());
    let both = |epoch| {
        let of_guest =
            Turn { write: Some(UserWrite { merged_into: Some(a), ..write() }), ..Turn::of(guest.user.id, 0) };
        Act::Turns(vec![of_guest, Turn { raise: true, ..Turn::of(a, epoch) }])
    };
    refused!(t.keep(0, &guest, both(1)).await, "Moved");
    assert!(h.tables_with(*guest.user.id.as_bytes()).await.is_empty());
    t.keep(0, &guest, both(0)).await.unwrap();
    assert_eq!((row(&t, guest.user.id).await.merged_into, row(&t, a).await.epoch), (Some(a), 1));
    // new things of a kind are swept like the old ones
    let mut claim = Turn::of(a, 1);
    claim.items =
        vec![put(item(ItemKind::Claim, 1, 1, at(50)), None), put(item(ItemKind::Transfer, 0, 1, Timestamp::MAX), None)];
    turn(&t, 1, claim).await.unwrap();
    assert_eq!(t.done(50, sweep(10)).await, Committed::Swept(1));
    assert_eq!(items(&t, a).await.iter().map(|i| i.kind).collect::<Vec<_>>(), [ItemKind::Transfer]);
}
