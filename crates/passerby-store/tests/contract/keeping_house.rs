//! Numbers, signing keys, values of the store, sweeping, and tenants beside each other.

use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::{Item, KeyPurpose, LookUp, LookUpKind, SigningKeyRow},
    port::{Act, Change, Committed, Touch, Turn},
};
use uuid::Uuid;

use crate::{
    support::{DAY, Harness, at, increment, look_up, operation_key, refused, side_by_side, sweep},
    turns::{device_key, found_by, put},
};

pub(crate) async fn numbers_are_made_once(h: &Harness) {
    let store = &h.store;
    let first = store.number_tenant(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(store.number_tenant(Uuid::from_u128(1)).await.unwrap(), first);
    let second = store.number_tenant(Uuid::from_u128(2)).await.unwrap();
    assert_ne!(first, second);
    let client = store.number_client(first, "spa").await.unwrap();
    assert_eq!(store.number_client(first, "spa").await.unwrap(), client);
    assert_ne!(store.number_client(first, "SPA").await.unwrap(), client);
    // twenty at once see one number
    let numbers = side_by_side((0..20).map(|_| {
        let store = store.clone();
        async move {
            let tenant = store.number_tenant(Uuid::from_u128(3)).await.unwrap();
            (tenant, store.number_client(tenant, "käse").await.unwrap())
        }
    }))
    .await;
    assert!(numbers.iter().all(|n| *n == numbers[0]));
    assert!(numbers[0].0 != first && numbers[0].0 != second);
}

fn key(tenant: TenantNo, generation: i32, kid: &str) -> SigningKeyRow {
    SigningKeyRow {
        tenant,
        purpose: KeyPurpose::Tokens,
        algorithm: "ES256".into(),
        name: "".into(),
        generation,
        kid: kid.into(),
        created_at: at(1),
        activates_at: at(2),
        sealed: vec![0, 1, 255],
    }
}

pub(crate) async fn signing_keys(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    assert_eq!(t.store.signing_keys().await.unwrap(), []);
    let first = key(t.no, 0, "a");
    let vend = SigningKeyRow { purpose: KeyPurpose::Vend, name: "shop".into(), kid: "b".into(), ..first.clone() };
    let elsewhere = key(other.no, 0, "c");
    for k in [&first, &vend, &elsewhere] {
        t.done(0, Act::AddSigningKey(Box::new(k.clone()))).await;
    }
    // the same generation, and the same kid
    refused!(t.commit(0, Act::AddSigningKey(Box::new(key(t.no, 0, "d")))).await, "Taken");
    refused!(t.commit(0, Act::AddSigningKey(Box::new(key(t.no, 1, "a")))).await, "Taken");
    let mut all = t.store.signing_keys().await.unwrap();
    all.sort_by(|a, b| a.kid.cmp(&b.kid));
    assert_eq!(all, [first, vend.clone(), elsewhere.clone()]);
    t.done(0, Act::RemoveSigningKey("a".into())).await;
    t.done(0, Act::RemoveSigningKey("unknown".into())).await;
    assert_eq!(t.store.signing_keys().await.unwrap().len(), 2);
    // of many that rotate at once, one makes the successor
    let outcomes =
        side_by_side((0..20).map(|i| t.commit(0, Act::AddSigningKey(Box::new(key(t.no, 5, &format!("n{i}"))))))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert_eq!(t.store.signing_keys().await.unwrap().len(), 3);
}

pub(crate) async fn values_of_the_store(h: &Harness) {
    let t = h.tenant(1).await;
    assert_eq!(t.store.meta("salt").await.unwrap(), None);
    let outcomes = side_by_side((0..20u8).map(|i| t.commit(0, Act::InitMeta("salt", vec![i; 40])))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    let winner = outcomes.iter().position(Result::is_ok).unwrap() as u8;
    assert_eq!(t.store.meta("salt").await.unwrap(), Some(vec![winner; 40]));
    refused!(t.commit(0, Act::InitMeta("salt", vec![])).await, "Taken");
    t.done(0, Act::SetMeta("salt", vec![1])).await;
    t.done(0, Act::SetMeta("boot", vec![])).await;
    assert_eq!(t.store.meta("salt").await.unwrap(), Some(vec![1]));
    assert_eq!(t.store.meta("boot").await.unwrap(), Some(vec![]));
}

pub(crate) async fn sweeping_removes_what_has_ended(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    for n in 0..10u8 {
        let until = at(if n < 6 { 100 } else { DAY });
        t.done(0, Act::DenyToken { user, session, jti: [n; 16], until }).await;
        let mut row = look_up(n, &t.guest(), 0);
        row.ends_at = until;
        t.done(0, Act::Remember(Box::new(row))).await;
        let mut keyed = increment(user, session);
        keyed.key = Some(operation_key(n, n));
        keyed.key.as_mut().unwrap().ends_at = until;
        t.done(0, Act::Edit(keyed)).await;
    }
    assert_eq!(t.done(99, sweep(100)).await, Committed::Swept(0));
    assert_eq!(t.done(100, sweep(4)).await, Committed::Swept(12));
    assert_eq!(t.done(100, sweep(4)).await, Committed::Swept(6));
    assert_eq!(t.done(100, sweep(4)).await, Committed::Swept(0));
    assert_eq!(t.standing(user, session).await.marks.len(), 4);
    for n in 0..10u8 {
        let row = t.store.look_up(t.no, LookUpKind::Creation, [n; 32]).await.unwrap();
        assert_eq!(row.is_some(), n >= 6, "{n}");
    }
    assert!(t.standing(user, session).await.user.is_some(), "guests are not swept");
}

pub(crate) async fn what_never_ends_is_not_swept(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let mut add = Turn::of(user, 0);
    for (n, ends_at) in [(1, at(50)), (2, at(60)), (3, Timestamp::MAX)] {
        let item = Item { ends_at, ..device_key(n) };
        add.look_ups.push(LookUp { ends_at, ..found_by(&item, user, session) });
        add.items.push(put(item, None));
    }
    t.done(0, Act::Turn(Box::new(add))).await;
    assert_eq!(t.done(50, sweep(10)).await, Committed::Swept(2));
    assert_eq!(t.done(60, sweep(10)).await, Committed::Swept(2));
    let everything = Change { at: Timestamp::MAX, keep: None, act: sweep(10), out: Vec::new() };
    assert_eq!(t.store.commit(t.no, everything).await.unwrap(), Committed::Swept(0));
    assert_eq!(t.store.items(t.no, user, None).await.unwrap(), [device_key(3)]);
    assert!(t.store.look_up(t.no, LookUpKind::DeviceKey, [3; 32]).await.unwrap().is_some());
}

pub(crate) async fn tenants_do_not_see_each_other(h: &Harness) {
    let (a, b) = (h.tenant(1).await, h.tenant(2).await);
    let guest = a.guest();
    let (user, session) = (guest.user.id, guest.session.id);
    let mut twin = guest.clone();
    twin.user.data = "{\"twin\":true}".into();
    twin.user.client = b.client;
    twin.session.client = b.client;
    a.done(0, Act::Create(guest.clone(), vec![look_up(1, &guest, DAY)])).await;
    assert!(b.standing(user, session).await.user.is_none());
    assert_eq!(b.store.look_up(b.no, LookUpKind::Creation, [1; 32]).await.unwrap(), None);
    b.done(0, Act::Create(twin.clone(), vec![look_up(1, &twin, DAY)])).await;
    let both = async || (a.standing(user, session).await, b.standing(user, session).await);
    let (of_a, of_b) = both().await;
    assert_eq!((of_a.user.as_ref(), of_b.user.as_ref()), (Some(&guest.user), Some(&twin.user)));

    // everything that is done to one passes the other by
    let mut keyed = increment(user, session);
    keyed.key = Some(operation_key(1, 1));
    a.done(1, Act::Edit(keyed)).await;
    a.done(2, Act::Rotate { user, session, from: 0, to: 1 }).await;
    a.done(3, Act::Touch(vec![Touch { tenant: a.no, user, session, at: at(3) }])).await;
    a.done(4, Act::DenyToken { user, session, jti: [1; 16], until: at(DAY) }).await;
    let mut turn = Turn::of(user, 0);
    turn.raise = true;
    turn.items = vec![put(device_key(1), None)];
    turn.look_ups = vec![found_by(&device_key(1), user, session)];
    a.done(4, Act::Turn(Box::new(turn.clone()))).await;
    turn.raise = false;
    b.done(4, Act::Turn(Box::new(turn))).await;
    a.done(5, Act::EndSession { user, session, mark_until: Some(at(DAY)) }).await;
    let (of_a, of_b) = both().await;
    assert_eq!((of_b.user.as_ref(), &of_b.sessions[..]), (Some(&twin.user), std::slice::from_ref(&twin.session)));
    assert!(of_b.marks.is_empty() && of_a.marks.len() == 2);
    let mut keyed = increment(user, session);
    keyed.key = Some(operation_key(1, 9));
    b.done(6, Act::Edit(keyed)).await;
    b.done(7, Act::Erase { user, chosen_id: None, mark_until: at(DAY), epoch: None }).await;
    let (of_a, of_b) = both().await;
    assert!(of_b.user.is_none() && of_b.sessions.is_empty());
    assert_eq!((of_a.user.unwrap().version, of_a.sessions.len()), (2, 1));
    assert_eq!(a.store.items(a.no, user, None).await.unwrap(), [device_key(1)]);
    let of_a_key = a.store.look_up(a.no, LookUpKind::DeviceKey, [1; 32]).await.unwrap();
    assert_eq!(of_a_key.map(|row| row.ends_at), Some(Timestamp::MAX));
    assert_eq!(of_a.marks.len(), 2);
}
