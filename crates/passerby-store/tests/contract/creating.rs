//! New guests: `Create`, `CreateChosen`, `Remember`, and what a change keeps.

use passerby_core::{
    model::{LookUpKind, Mark, USER_MARK},
    port::{Act, Half},
};

use crate::support::{DAY, Harness, at, edit, elaborate, look_up, merge, refused, side_by_side};

pub(crate) async fn a_created_guest_is_found(h: &Harness) {
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    guest.user.data = "{\"name\":\"ü\"}".into();
    guest.user.entry = Some("landing".into());
    t.done(0, Act::Create(guest.clone(), Vec::new())).await;
    let found = t.standing(guest.user.id, guest.session.id).await;
    assert_eq!(found.user.as_ref(), Some(&guest.user));
    assert_eq!(found.sessions, [guest.session.clone()]);
    assert_eq!(found.marks, []);
    // an unknown session of a known user, and an unknown user
    let none = t.standing(guest.user.id, t.guest().session.id).await;
    assert_eq!((none.user.as_ref(), none.sessions.len()), (Some(&guest.user), 1));
    let none = t.standing(t.guest().user.id, guest.session.id).await;
    assert!(none.user.is_none() && none.sessions.is_empty() && none.marks.is_empty());
}

pub(crate) async fn every_field_comes_back(h: &Harness) {
    let t = h.tenant(1).await;
    for chosen in [false, true] {
        let mut guest = t.guest();
        elaborate(&mut guest, &t);
        let act =
            if chosen { Act::CreateChosen(guest.clone(), Vec::new()) } else { Act::Create(guest.clone(), Vec::new()) };
        t.done(0, act).await;
        let found = t.standing(guest.user.id, guest.session.id).await;
        assert_eq!(found.user, Some(guest.user));
        assert_eq!(found.sessions, [guest.session]);
    }
}

pub(crate) async fn a_created_id_is_taken_once(h: &Harness) {
    let t = h.tenant(1).await;
    let first = t.guest();
    t.done(0, Act::Create(first.clone(), Vec::new())).await;
    let mut second = t.guest();
    second.user.id = first.user.id;
    refused!(t.commit(0, Act::Create(second.clone(), Vec::new())).await, "Taken");
    let found = t.standing(first.user.id, second.session.id).await;
    assert_eq!((found.user.as_ref(), &found.sessions[..]), (Some(&first.user), std::slice::from_ref(&first.session)));
}

pub(crate) async fn one_conflict_in_a_group_sinks_nobody(h: &Harness) {
    let t = h.tenant(1).await;
    let taken = t.guest();
    t.done(0, Act::Create(taken.clone(), Vec::new())).await;
    let mut guests: Vec<_> = (0..100).map(|_| t.guest()).collect();
    // one was there before, one comes twice in the group
    guests[37].user.id = taken.user.id;
    guests[62].user.id = guests[61].user.id;
    let outcomes = side_by_side(guests.iter().map(|g| t.commit(0, Act::Create(g.clone(), Vec::new())))).await;
    for (i, outcome) in outcomes.iter().enumerate() {
        match i {
            37 => refused!(outcome, "Taken"),
            61 | 62 => {}
            _ => assert!(outcome.is_ok(), "{i}: {outcome:?}"),
        }
    }
    assert_eq!(outcomes[61..=62].iter().filter(|o| o.is_ok()).count(), 1);
    for (i, g) in guests.iter().enumerate() {
        let found = t.standing(g.user.id, g.session.id).await;
        assert_eq!(found.session(g.session.id).is_some(), outcomes[i].is_ok(), "{i}");
        assert_eq!(found.sessions.len(), 1, "{i}");
    }
}

pub(crate) async fn a_look_up_decides_who_wins(h: &Harness) {
    let t = h.tenant(1).await;
    let (first, second, third) = (t.guest(), t.guest(), t.guest());
    let row = look_up(1, &first, 1000);
    assert_eq!(t.store.look_up(t.no, LookUpKind::Creation, row.hash).await.unwrap(), None);
    t.done(0, Act::Create(first.clone(), vec![row.clone()])).await;
    refused!(t.commit(999, Act::Create(second.clone(), vec![look_up(1, &second, 2000)])).await, "Taken");
    refused!(t.commit(999, Act::CreateChosen(second.clone(), vec![look_up(1, &second, 2000)])).await, "Taken");
    assert_eq!(t.store.look_up(t.no, LookUpKind::Creation, row.hash).await.unwrap(), Some(row.clone()));
    assert_eq!(t.store.look_up(t.no, LookUpKind::Assertion, row.hash).await.unwrap(), None);
    // nothing is left of the loser
    assert!(h.tables_with(*second.user.id.as_bytes()).await.is_empty());
    // dead from its end on, and still read
    assert_eq!(t.store.look_up(t.no, LookUpKind::Creation, row.hash).await.unwrap(), Some(row));
    let row = look_up(1, &third, 3000);
    t.done(1000, Act::Create(third.clone(), vec![row.clone()])).await;
    assert_eq!(t.store.look_up(t.no, LookUpKind::Creation, row.hash).await.unwrap(), Some(row));
    assert!(t.standing(third.user.id, third.session.id).await.user.is_some());
}

pub(crate) async fn a_taken_id_leaves_no_look_up(h: &Harness) {
    let t = h.tenant(1).await;
    let first = t.guest();
    t.done(0, Act::Create(first.clone(), Vec::new())).await;
    for (n, chosen) in [(1, false), (2, true)] {
        let row = look_up(n, &first, DAY);
        let act =
            if chosen { Act::CreateChosen(first.clone(), vec![row]) } else { Act::Create(first.clone(), vec![row]) };
        refused!(t.commit(0, act).await, "Taken");
        assert_eq!(t.store.look_up(t.no, LookUpKind::Creation, [n; 32]).await.unwrap(), None);
    }
}

pub(crate) async fn remembering(h: &Harness) {
    let t = h.tenant(1).await;
    let mut row = look_up(7, &t.guest(), 100);
    row.kind = LookUpKind::Assertion;
    t.done(0, Act::Remember(Box::new(row.clone()))).await;
    refused!(t.commit(99, Act::Remember(Box::new(row.clone()))).await, "Taken");
    row.ends_at = at(500);
    t.done(100, Act::Remember(Box::new(row.clone()))).await;
    assert_eq!(t.store.look_up(t.no, LookUpKind::Assertion, [7; 32]).await.unwrap(), Some(row));
}

pub(crate) async fn a_chosen_id_is_taken_once_and_not_while_marked(h: &Harness) {
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    elaborate(&mut guest, &t);
    t.done(0, Act::CreateChosen(guest.clone(), Vec::new())).await;
    refused!(t.commit(0, Act::CreateChosen(guest.clone(), Vec::new())).await, "Taken");
    t.done(10, Act::Erase { user: guest.user.id, chosen_id: None, mark_until: at(1000), epoch: None }).await;
    refused!(t.commit(999, Act::CreateChosen(guest.clone(), Vec::new())).await, "Marked");
    assert!(t.standing(guest.user.id, guest.session.id).await.user.is_none());
    t.done(1000, Act::CreateChosen(guest.clone(), Vec::new())).await;
    assert_eq!(t.standing(guest.user.id, guest.session.id).await.user, Some(guest.user));
}

pub(crate) async fn keeping_is_idempotent(h: &Harness) {
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    guest.user.data = "{\"cart\":1}".into();
    for _ in 0..3 {
        t.keep(5, &guest, Act::Keep).await.unwrap();
    }
    let found = t.standing(guest.user.id, guest.session.id).await;
    assert_eq!((found.user, found.sessions), (Some(guest.user.clone()), vec![guest.session.clone()]));
    // and after the row has gone on
    let edit = edit(guest.user.id, guest.session.id, Half::Data, merge("{\"x\":2}"));
    t.keep(6, &guest, Act::Edit(edit)).await.unwrap();
    t.keep(7, &guest, Act::Rotate { user: guest.user.id, session: guest.session.id, from: 0, to: 1 }).await.unwrap();
    t.keep(8, &guest, Act::Keep).await.unwrap();
    let found = t.standing(guest.user.id, guest.session.id).await;
    assert_eq!((found.user.unwrap().version, found.sessions[0].generation), (2, 1));
}

pub(crate) async fn what_ended_is_not_kept(h: &Harness) {
    let t = h.tenant(1).await;
    // floating and revoked
    let guest = t.guest();
    let (user, session) = (guest.user.id, guest.session.id);
    t.done(0, Act::EndSession { user, session, mark_until: Some(at(1000)) }).await;
    let found = t.standing(user, session).await;
    assert!(found.user.is_none());
    assert_eq!(found.marks, [Mark { id: *session.as_bytes(), ends_at: at(1000) }]);
    refused!(t.keep(999, &guest, Act::Keep).await, "Marked");
    assert!(t.standing(user, session).await.user.is_none());
    t.keep(1000, &guest, Act::Keep).await.unwrap();
    // stored and ended
    t.done(1001, Act::EndSession { user, session, mark_until: None }).await;
    refused!(t.keep(1002, &guest, Act::Keep).await, "Gone");
    // floating and erased
    let guest = t.guest();
    t.done(0, Act::Erase { user: guest.user.id, chosen_id: None, mark_until: at(1000), epoch: None }).await;
    refused!(t.keep(10, &guest, Act::Keep).await, "Marked");
    assert_eq!(t.standing(guest.user.id, guest.session.id).await.marks, [Mark { id: USER_MARK, ends_at: at(1000) }]);
}

pub(crate) async fn an_id_that_another_session_stored_is_gone(h: &Harness) {
    let t = h.tenant(1).await;
    let first = t.guest();
    t.keep(0, &first, Act::Keep).await.unwrap();
    let mut second = t.guest();
    second.user.id = first.user.id;
    refused!(t.keep(0, &second, Act::Keep).await, "Gone");
    assert_eq!(t.standing(first.user.id, second.session.id).await.sessions.len(), 1);
}

pub(crate) async fn a_further_session_of_a_chosen_id_is_kept(h: &Harness) {
    let t = h.tenant(1).await;
    let mut first = t.guest();
    first.user.chosen_id = Some("chosen".into());
    first.user.chosen_by = Some(t.client);
    t.done(0, Act::CreateChosen(first.clone(), Vec::new())).await;
    let mut second = t.guest();
    second.user.id = first.user.id;
    second.session.metadata = Some("{\"device\":\"tv\"}".into());
    t.keep(0, &second, Act::Keep).await.unwrap();
    t.keep(0, &second, Act::Keep).await.unwrap();
    assert_eq!(t.session_row(first.user.id, second.session.id).await, second.session);
    // what came as data with one that brings no metadata is its own
    let mut tablet = t.guest();
    tablet.user.id = first.user.id;
    tablet.user.data = "{\"device\":\"tablet\"}".into();
    t.keep(0, &tablet, Act::Keep).await.unwrap();
    let own = t.session_row(first.user.id, tablet.session.id).await.metadata;
    assert_eq!(own.as_deref(), Some("{\"device\":\"tablet\"}"));
    // the user's row is the first's
    assert_eq!(t.standing(first.user.id, second.session.id).await.user, Some(first.user.clone()));
    // another client has not chosen it
    let mut third = t.guest();
    third.user.id = first.user.id;
    third.session.client = t.other_client;
    refused!(t.keep(0, &third, Act::Keep).await, "Gone");
    // a revoked one does not come back
    let mut fourth = t.guest();
    fourth.user.id = first.user.id;
    let (user, session) = (fourth.user.id, fourth.session.id);
    t.done(0, Act::EndSession { user, session, mark_until: Some(at(100)) }).await;
    refused!(t.keep(10, &fourth, Act::Keep).await, "Marked");
}

pub(crate) async fn keeping_is_undone_with_a_refused_act(h: &Harness) {
    let t = h.tenant(1).await;
    let guest = t.guest();
    let mut edit = edit(guest.user.id, guest.session.id, Half::Data, merge("{\"x\":2}"));
    edit.if_match = Some(5);
    refused!(t.keep(0, &guest, Act::Edit(edit)).await, "Version(1)");
    let rotate = Act::Rotate { user: guest.user.id, session: guest.session.id, from: 1, to: 2 };
    refused!(t.keep(0, &guest, rotate).await, "Moved");
    assert!(h.tables_with(*guest.user.id.as_bytes()).await.is_empty());
}
