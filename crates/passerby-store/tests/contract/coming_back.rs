//! Guests that are found by a device key, and what is left of them when they are erased.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    model::{ItemKind, LookUp, LookUpKind, Mark, NewGuest, USER_MARK},
    port::{Act, CommitError, Committed, Turn},
};

use crate::{
    support::{DAY, Harness, Tenant, at, elaborate, item, look_up, refused, side_by_side, within, word},
    turns::{device_key, found_by, put},
};

/// A guest with a device key, and the look-up that decides who wins.
fn with_key(t: &Tenant, n: u8) -> (Box<NewGuest>, LookUp) {
    let mut guest = t.guest();
    guest.items = vec![device_key(n)];
    guest.session.key = Some([n; 32]);
    guest.session.bound = true;
    let row = found_by(&guest.items[0], guest.user.id, guest.session.id);
    (guest, row)
}

async fn create(t: &Tenant, ms: i64, guest: &NewGuest, look_ups: Vec<LookUp>) -> Result<Committed, CommitError> {
    t.commit(ms, Act::Create(Box::new(guest.clone()), look_ups)).await
}

pub(crate) async fn a_guest_with_a_key_is_found_by_it(h: &Harness) {
    let t = h.tenant(1).await;
    assert!(t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().is_none());
    let (guest, row) = with_key(&t, 1);
    let (user, session) = (guest.user.id, guest.session.id);
    create(&t, 0, &guest, vec![row.clone(), look_up(9, &guest, DAY)]).await.unwrap();
    let found = t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.look_up, row);
    assert_eq!((found.standing.user.as_ref(), &found.standing.sessions[..]), (Some(&guest.user), &[guest.session][..]));
    assert!(found.standing.marks.is_empty());
    assert_eq!(t.store.items(t.no, user, None).await.unwrap(), guest.items);
    // by the other look-up, which has a body; by no other kind, and for no other tenant
    let found = t.store.found(t.no, LookUpKind::Creation, [9; 32]).await.unwrap().unwrap();
    assert_eq!((found.look_up.body, found.standing.user.is_some()), ([10; 32], true));
    assert!(t.store.found(t.no, LookUpKind::Recovery, [1; 32]).await.unwrap().is_none());
    assert!(t.store.found(h.tenant(2).await.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().is_none());
    // with denied tokens the marks come along
    t.done(1, Act::DenyToken { user, session, jti: [3; 16], until: at(DAY) }).await;
    let found = t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    assert!(found.standing.marked(&[3; 16], at(1)));
    // one that leads to nobody
    let spent = LookUp { kind: LookUpKind::Assertion, user: uuid::Uuid::nil().into(), ..row };
    t.done(1, Act::Remember(Box::new(spent.clone()))).await;
    let found = t.store.found(t.no, LookUpKind::Assertion, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.look_up, spent);
    assert!(found.standing.user.is_none() && found.standing.sessions.is_empty());
}

pub(crate) async fn the_session_of_a_look_up_is_found_however_old(h: &Harness) {
    let t = h.tenant(1).await;
    let (guest, row) = with_key(&t, 1);
    create(&t, 0, &guest, vec![row]).await.unwrap();
    for _ in 0..120 {
        let session = Box::new(t.session());
        t.done(0, Act::OpenSession { user: guest.user.id, epoch: 0, session }).await;
    }
    let found = t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.standing.session(guest.session.id), Some(&guest.session));
    assert!((100..=400).contains(&found.standing.sessions.len()));
}

pub(crate) async fn any_of_its_look_ups_may_refuse_a_guest(h: &Harness) {
    let t = h.tenant(1).await;
    let (first, row) = with_key(&t, 1);
    create(&t, 0, &first, vec![row, look_up(1, &first, 1000)]).await.unwrap();
    for chosen in [false, true] {
        for (key, creation) in [(1, 2), (2, 1), (1, 1)] {
            let (guest, row) = with_key(&t, key);
            let rows = vec![look_up(creation, &guest, DAY), row];
            let act = if chosen { Act::CreateChosen(guest.clone(), rows) } else { Act::Create(guest.clone(), rows) };
            refused!(t.commit(999, act).await, "Taken");
            assert!(h.tables_with(*guest.user.id.as_bytes()).await.is_empty());
        }
    }
    assert_eq!(t.store.look_up(t.no, LookUpKind::DeviceKey, [2; 32]).await.unwrap(), None);
    // the dead one gives way, beside one that is new
    let (second, row) = with_key(&t, 2);
    create(&t, 1000, &second, vec![row, look_up(1, &second, DAY)]).await.unwrap();
    let found = t.store.found(t.no, LookUpKind::Creation, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.standing.user.map(|u| u.id), Some(second.user.id));
    // an id that is there takes neither look-ups nor items along
    let (third, row) = with_key(&t, 3);
    let mut twin = third.clone();
    twin.user.id = second.user.id;
    for chosen in [false, true] {
        let (guest, rows) = (twin.clone(), vec![row.clone()]);
        let act = if chosen { Act::CreateChosen(guest, rows) } else { Act::Create(guest, rows) };
        refused!(t.commit(1000, act).await, "Taken");
    }
    assert_eq!(t.store.look_up(t.no, LookUpKind::DeviceKey, [3; 32]).await.unwrap(), None);
    assert_eq!(t.store.items(t.no, second.user.id, None).await.unwrap(), second.items);
}

pub(crate) async fn a_guest_with_belongings_is_kept_and_created_in_one_step(h: &Harness) {
    // a floating one is stored first, in the same transaction
    let t = h.tenant(1).await;
    let floating = t.guest();
    let (guest, row) = with_key(&t, 1);
    t.keep(0, &floating, Act::Create(guest.clone(), vec![row.clone()])).await.unwrap();
    let other = t.guest();
    let (late, _) = with_key(&t, 1);
    refused!(t.keep(0, &other, Act::Create(late, vec![row])).await, "Taken");
    assert!(h.tables_with(*other.user.id.as_bytes()).await.is_empty());
    assert!(t.standing(floating.user.id, floating.session.id).await.user.is_some());
}

pub(crate) async fn every_belonging_comes_back(h: &Harness) {
    let t = h.tenant(1).await;
    for chosen in [false, true] {
        let mut guest = t.guest();
        elaborate(&mut guest, &t);
        let rows = Vec::new();
        let act = if chosen { Act::CreateChosen(guest.clone(), rows) } else { Act::Create(guest.clone(), rows) };
        t.done(0, act).await;
        assert_eq!(t.store.items(t.no, guest.user.id, None).await.unwrap(), guest.items);
    }
}

pub(crate) async fn of_fifty_with_one_key_one_wins(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    for key in 0..4 {
        let guests: Vec<_> = (0..50).map(|_| with_key(&t, key)).collect();
        let outcomes = within(side_by_side(guests.iter().enumerate().map(|(i, (guest, row))| {
            let mut rows = vec![row.clone()];
            if i % 2 == 0 {
                // some have an idempotency key besides, one for all
                rows.insert(0, LookUp { hash: [key; 32], ..look_up(key, guest, DAY) });
            }
            t.commit(0, Act::Create(guest.clone(), rows))
        })))
        .await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Taken"), "{outcomes:?}");
        let found = t.store.found(t.no, LookUpKind::DeviceKey, [key; 32]).await.unwrap().unwrap();
        for ((guest, _), outcome) in guests.iter().zip(&outcomes) {
            assert_eq!(found.look_up.user == guest.user.id, outcome.is_ok());
            assert_eq!(h.tables_with(*guest.user.id.as_bytes()).await.is_empty(), outcome.is_err());
        }
    }
}

pub(crate) async fn an_erased_guest_is_known_by_its_key_for_a_while(h: &Harness) {
    let t = h.tenant(1).await;
    let (mut guest, row) = with_key(&t, 1);
    guest.user.chosen_id = Some("Käthe".into());
    guest.user.chosen_by = Some(t.client);
    guest.user.epoch = 3;
    let code = item(ItemKind::Recovery, 2, 1, at(50));
    let short = LookUp { ends_at: at(50), ..found_by(&code, guest.user.id, guest.session.id) };
    guest.items.push(code);
    guest.items.push(item(ItemKind::Notice, 3, 1, at(DAY)));
    let user = guest.user.id;
    t.done(0, Act::CreateChosen(guest.clone(), vec![row.clone(), short, look_up(4, &guest, DAY)])).await;
    t.done(2500, Act::Erase { user, chosen_id: None, mark_until: at(5000), epoch: None }).await;

    let found = t.store.found(t.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    assert_eq!(found.look_up, LookUp { ends_at: at(5000), ..row });
    assert!(found.standing.user.is_none() && found.standing.sessions.is_empty());
    assert_eq!(found.standing.marks, [Mark { id: USER_MARK, ends_at: at(5000) }]);
    let end = async |kind, n| t.store.look_up(t.no, kind, [n; 32]).await.unwrap().unwrap().ends_at;
    assert_eq!(end(LookUpKind::Recovery, 2).await, at(50), "never longer");
    assert_eq!(end(LookUpKind::Creation, 4).await, at(DAY), "no item's");
    assert_eq!(t.store.items(t.no, user, None).await.unwrap(), []);
    assert_eq!(h.tables_with(*user.as_bytes()).await, ["epochs", "look_ups", "look_ups", "look_ups", "marks"]);
    // nobody takes the key over while it is known, and then somebody may
    let (next, row) = with_key(&t, 1);
    refused!(create(&t, 4999, &next, vec![row.clone()]).await, "Taken");
    create(&t, 5000, &next, vec![row]).await.unwrap();

    // its tokens are void, and those of somebody who was never stored
    let floating = t.guest().user.id;
    t.done(2500, Act::Erase { user: floating, chosen_id: Some("Jörg".into()), mark_until: at(5000), epoch: None })
        .await;
    let mut raised = t.store.epochs(Timestamp::default(), 10).await.unwrap();
    raised.sort_by_key(|e| e.epoch);
    let raised: Vec<_> = raised.into_iter().map(|e| (e.user, e.epoch, e.at, e.chosen_id)).collect();
    assert_eq!(raised, [(floating, 1, at(2000), Some("Jörg".into())), (user, 4, at(2000), Some("Käthe".into()))]);
    // twice in a second: the greater one
    t.done(2900, Act::Erase { user, chosen_id: None, mark_until: at(5000), epoch: None }).await;
    let raised = t.store.epochs(Timestamp::default(), 10).await.unwrap();
    assert_eq!(
        raised.iter().find(|e| e.user == user).map(|e| (e.epoch, e.chosen_id.as_deref())),
        Some((4, Some("Käthe")))
    );
}

pub(crate) async fn turning_and_erasing_at_once(h: &Harness) {
    // whichever is second, nothing is left that leads anywhere
    let t = Arc::new(h.tenant(1).await);
    within(side_by_side((0..16u8).map(|n| {
        let t = t.clone();
        async move {
            let (user, session) = t.stored().await;
            let mut add = Turn::of(user, 0);
            add.items = vec![put(device_key(n), None)];
            add.look_ups = vec![found_by(&device_key(n), user, session)];
            let (added, erased) = futures_util::future::join(
                t.commit(0, Act::Turn(Box::new(add))),
                t.commit(0, Act::Erase { user, chosen_id: None, mark_until: at(9), epoch: None }),
            )
            .await;
            erased.unwrap();
            let row = t.store.look_up(t.no, LookUpKind::DeviceKey, [n; 32]).await.unwrap();
            match added {
                Ok(_) => assert_eq!(row.map(|r| r.ends_at), Some(at(9))),
                refused => {
                    refused!(refused, "Gone");
                    assert_eq!(row, None);
                }
            }
            assert_eq!(t.store.items(t.no, user, None).await.unwrap(), []);
        }
    })))
    .await;
}
