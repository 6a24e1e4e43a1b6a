//! Many at once, and what an acknowledgement promises.

use std::sync::Arc;

use passerby_core::port::Act;

use crate::support::{Harness, increment, side_by_side, within, word};

pub(crate) async fn of_fifty_that_choose_one_id_one_wins(h: &Harness) {
    let t = h.tenant(1).await;
    let id = t.guest().user.id;
    let guests: Vec<_> = (0..50)
        .map(|_| {
            let mut guest = t.guest();
            guest.user.id = id;
            guest
        })
        .collect();
    let outcomes = side_by_side(guests.iter().map(|g| t.commit(0, Act::CreateChosen(g.clone(), Vec::new())))).await;
    let winners: Vec<_> = outcomes.iter().zip(&guests).filter(|(o, _)| o.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Taken"));
    let found = t.standing(id, winners[0].1.session.id).await;
    assert_eq!(found.sessions, [winners[0].1.session.clone()]);
}

pub(crate) async fn of_fifty_with_one_look_up_one_wins(h: &Harness) {
    let t = h.tenant(1).await;
    let guests: Vec<_> = (0..50).map(|_| t.guest()).collect();
    let outcomes = side_by_side(guests.iter().map(|g| {
        let row = crate::support::look_up(1, g, 1000);
        t.commit(0, Act::Create(g.clone(), vec![row]))
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    for (outcome, guest) in outcomes.iter().zip(&guests) {
        assert_eq!(t.standing(guest.user.id, guest.session.id).await.user.is_some(), outcome.is_ok());
    }
}

pub(crate) async fn of_fifty_that_keep_one_guest_all_succeed(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let guest = t.guest();
    let outcomes = side_by_side((0..50).map(|_| {
        let (t, guest) = (t.clone(), guest.clone());
        async move { t.keep(0, &guest, Act::Keep).await }
    }))
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(t.standing(guest.user.id, guest.session.id).await.sessions, std::slice::from_ref(&guest.session));
}

pub(crate) async fn of_fifty_that_rotate_one_wins(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    for from in 0..5 {
        let outcomes =
            side_by_side((0..50).map(|_| t.commit(9, Act::Rotate { user, session, from, to: from + 1 }))).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert!(outcomes.iter().filter(|o| o.is_err()).all(|o| word(o) == "Moved"));
    }
    assert_eq!(t.session_row(user, session).await.generation, 5);
}

pub(crate) async fn concurrent_increments_are_exact(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let (user, session) = t.stored().await;
    within(side_by_side((0..64).map(|_| {
        let t = t.clone();
        async move {
            for _ in 0..50 {
                t.done(1, Act::Edit(increment(user, session))).await;
            }
        }
    })))
    .await;
    let row = t.standing(user, session).await.user.unwrap();
    assert_eq!((&*row.data, row.version), ("{\"n\":3200}", 3201));
}

pub(crate) async fn what_is_acknowledged_is_seen(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    within(side_by_side((0..16).map(|_| {
        let t = t.clone();
        async move {
            for _ in 0..10 {
                let (user, session) = t.stored().await;
                // another task, usually another thread
                let seen = {
                    let t = t.clone();
                    tokio::spawn(async move { t.standing(user, session).await })
                };
                assert!(seen.await.unwrap().session(session).is_some());
                t.done(1, Act::Edit(increment(user, session))).await;
                assert_eq!(t.standing(user, session).await.user.unwrap().version, 2);
            }
        }
    })))
    .await;
}

pub(crate) async fn who_stops_waiting_undoes_nothing(h: &Harness) {
    let t = h.tenant(1).await;
    let guest = t.guest();
    // queued when called, never polled
    drop(t.commit(0, Act::Create(guest.clone(), Vec::new())));
    within(async {
        while t.standing(guest.user.id, guest.session.id).await.user.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
