//! Sessions: opening, ending, rotating, touching, and tokens that were denied.

use passerby_core::{
    model::Mark,
    port::{Act, Committed, Touch},
};

use crate::support::{DAY, Harness, at, refused};

pub(crate) async fn opening_needs_the_user_and_its_epoch(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, first) = t.stored().await;
    let mut session = t.session();
    session.parent = Some(first);
    let open = |user, epoch| Act::OpenSession { user, epoch, session: Box::new(session.clone()) };
    refused!(t.commit(0, open(user, 1)).await, "Gone");
    refused!(t.commit(0, open(t.guest().user.id, 0)).await, "Gone");
    assert_eq!(t.standing(user, session.id).await.sessions.len(), 1);
    t.done(0, open(user, 0)).await;
    assert_eq!(t.session_row(user, session.id).await, session);
    refused!(t.commit(0, open(user, 0)).await, "Taken");
}

pub(crate) async fn opening_removes_what_ended_a_day_ago(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, first) = t.stored().await;
    let (second, third) = (t.session(), t.session());
    t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(second.clone()) }).await;
    t.done(10, Act::EndSession { user, session: first, mark_until: None }).await;
    t.done(11, Act::EndSession { user, session: second.id, mark_until: None }).await;
    t.done(DAY + 11, Act::OpenSession { user, epoch: 0, session: Box::new(third.clone()) }).await;
    let found = t.standing(user, third.id).await;
    assert_eq!(found.sessions.len(), 2);
    assert!(found.session(first).is_none() && found.session(second.id).is_some());
}

pub(crate) async fn ending(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    t.done(5, Act::EndSession { user, session, mark_until: None }).await;
    assert_eq!(t.session_row(user, session).await.ended_at, Some(at(5)));
    // again, and where there is none
    t.done(9, Act::EndSession { user, session, mark_until: Some(at(50)) }).await;
    assert_eq!(t.session_row(user, session).await.ended_at, Some(at(5)));
    let nobody = t.guest();
    t.done(9, Act::EndSession { user: nobody.user.id, session: nobody.session.id, mark_until: None }).await;
    assert!(t.standing(nobody.user.id, nobody.session.id).await.marks.is_empty());
    // a mark is only ever made longer
    for until in [100, 60] {
        t.done(9, Act::EndSession { user, session, mark_until: Some(at(until)) }).await;
    }
    let found = t.standing(user, t.session().id).await;
    assert_eq!(found.marks, [Mark { id: *session.as_bytes(), ends_at: at(100) }]);
    assert!(found.marked(session.as_bytes(), at(99)) && !found.marked(session.as_bytes(), at(100)));
}

pub(crate) async fn rotating_compares_and_sets(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let rotate = |from, to| Act::Rotate { user, session, from, to };
    t.done(10, rotate(0, 1)).await;
    let row = t.session_row(user, session).await;
    assert_eq!((row.generation, row.rotated_at, row.late_generation), (1, Some(at(10)), None));
    assert_eq!(row.active_at, at(10));
    refused!(t.commit(11, rotate(0, 1)).await, "Moved");
    // a late retry: the same generation, marked late, its time kept
    t.done(12, rotate(1, 1)).await;
    let row = t.session_row(user, session).await;
    assert_eq!((row.generation, row.rotated_at, row.late_generation), (1, Some(at(10)), Some(1)));
    assert_eq!(row.active_at, at(12));
    // activity does not go back when the clock does
    t.done(2, rotate(1, 2)).await;
    let row = t.session_row(user, session).await;
    assert_eq!((row.generation, row.rotated_at, row.late_generation), (2, Some(at(2)), Some(1)));
    assert_eq!(row.active_at, at(12));
    t.done(20, Act::EndSession { user, session, mark_until: None }).await;
    refused!(t.commit(21, rotate(2, 3)).await, "Moved");
    let nobody = t.guest();
    let rotate = Act::Rotate { user: nobody.user.id, session: nobody.session.id, from: 0, to: 1 };
    refused!(t.commit(21, rotate).await, "Moved");
}

pub(crate) async fn touching_moves_forward_only(h: &Harness) {
    let t = h.tenant(1).await;
    let (a, b, ended) = (t.stored().await, t.stored().await, t.stored().await);
    t.done(1, Act::EndSession { user: ended.0, session: ended.1, mark_until: None }).await;
    let nobody = t.guest();
    let touch = |(user, session), ms| Touch { tenant: t.no, user, session, at: at(ms) };
    let all = vec![
        touch(a, 50),
        touch((nobody.user.id, nobody.session.id), 50),
        touch(ended, 50),
        touch(b, -50),
        touch((a.0, b.1), 50),
    ];
    assert_eq!(t.done(60, Act::Touch(all)).await, Committed::Done);
    assert_eq!(t.session_row(a.0, a.1).await.active_at, at(50));
    assert_eq!(t.session_row(b.0, b.1).await.active_at, at(0));
    assert_eq!(t.session_row(ended.0, ended.1).await.active_at, at(0));
    assert!(t.standing(nobody.user.id, nobody.session.id).await.user.is_none());
    t.done(60, Act::Touch(vec![touch(a, 40), touch(b, 41), touch(b, 40)])).await;
    assert_eq!(t.session_row(a.0, a.1).await.active_at, at(50));
    assert_eq!(t.session_row(b.0, b.1).await.active_at, at(41));
    t.done(60, Act::Touch(Vec::new())).await;
}

pub(crate) async fn a_denied_token_is_marked(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let deny = |user, session, n| Act::DenyToken { user, session, jti: [n; 16], until: at(900) };
    assert!(t.standing(user, session).await.marks.is_empty());
    t.done(0, deny(user, session, 7)).await;
    t.done(0, deny(user, session, 8)).await;
    let found = t.standing(user, session).await;
    assert!(found.session(session).unwrap().has_denied_tokens);
    assert!(found.marked(&[7; 16], at(899)) && found.marked(&[8; 16], at(0)));
    assert!(!found.marked(&[7; 16], at(900)) && !found.marked(&[9; 16], at(0)));
    // of a floating guest: the mark alone
    let guest = t.guest();
    t.done(0, deny(guest.user.id, guest.session.id, 7)).await;
    let found = t.standing(guest.user.id, guest.session.id).await;
    assert!(found.user.is_none() && found.marked(&[7; 16], at(0)));
    // and it stays denied when the guest is stored
    t.keep(1, &guest, Act::Keep).await.unwrap();
    let found = t.standing(guest.user.id, guest.session.id).await;
    assert!(found.user.is_some() && found.marked(&[7; 16], at(1)));
}

pub(crate) async fn many_sessions_of_one_user(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, first) = t.stored().await;
    for _ in 0..130 {
        t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(t.session()) }).await;
    }
    let found = t.standing(user, first).await;
    assert!(found.session(first).is_some(), "the asked one is among them, however old");
    assert!((100..=400).contains(&found.sessions.len()), "{}", found.sessions.len());
    let mut ids: Vec<_> = found.sessions.iter().map(|s| s.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), found.sessions.len(), "each once");
}
