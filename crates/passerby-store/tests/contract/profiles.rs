//! Profiles: edits under the row's lock, versions, operation keys, and erasure.

use passerby_core::{
    model::{Mark, USER_MARK},
    port::{Act, Committed, Half},
};

use crate::support::{DAY, Harness, at, edit, increment, look_up, merge, operation_key, refused};

fn profile(data: &str, version: i64, replayed: bool) -> Committed {
    Committed::Profile { data: data.into(), version, replayed }
}

pub(crate) async fn an_edit_raises_the_version(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    assert_eq!(t.done(5, Act::Edit(increment(user, session))).await, profile("{\"n\":1}", 2, false));
    let mut second = increment(user, session);
    second.if_match = Some(2);
    assert_eq!(t.done(6, Act::Edit(second.clone())).await, profile("{\"n\":2}", 3, false));
    refused!(t.commit(7, Act::Edit(second)).await, "Version(3)");
    let row = t.standing(user, session).await.user.unwrap();
    assert_eq!((&*row.data, row.version), ("{\"n\":2}", 3));
    assert_eq!((row.created_at, row.updated_at), (at(0), at(6)));
}

pub(crate) async fn a_refused_edit_changes_nothing(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    t.done(1, Act::Edit(edit(user, session, Half::Data, merge("{\"n\":\"text\"}")))).await;
    let mut wrong = increment(user, session);
    wrong.key = Some(operation_key(1, 1));
    refused!(t.commit(2, Act::Edit(wrong)).await, "Edit");
    let row = t.standing(user, session).await.user.unwrap();
    assert_eq!((&*row.data, row.version, row.updated_at), ("{\"n\":\"text\"}", 2, at(1)));
    // nor is its key remembered
    let mut right = edit(user, session, Half::Data, merge("{\"n\":1}"));
    right.key = Some(operation_key(1, 2));
    assert_eq!(t.done(3, Act::Edit(right)).await, profile("{\"n\":1}", 3, false));
}

pub(crate) async fn an_edit_needs_user_and_session(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let nobody = t.guest();
    refused!(t.commit(0, Act::Edit(increment(nobody.user.id, nobody.session.id))).await, "Gone");
    refused!(t.commit(0, Act::Edit(increment(user, nobody.session.id))).await, "Gone");
    t.done(0, Act::EndSession { user, session, mark_until: None }).await;
    refused!(t.commit(0, Act::Edit(increment(user, session))).await, "Gone");
}

pub(crate) async fn an_operation_key_counts_once(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let mut first = increment(user, session);
    first.key = Some(operation_key(1, 1));
    first.if_match = Some(1);
    assert_eq!(t.done(0, Act::Edit(first.clone())).await, profile("{\"n\":1}", 2, false));
    // also when the version has gone on since
    assert_eq!(t.done(1, Act::Edit(first.clone())).await, profile("{\"n\":1}", 2, true));
    t.done(2, Act::Edit(increment(user, session))).await;
    assert_eq!(t.done(3, Act::Edit(first.clone())).await, profile("{\"n\":2}", 3, true));
    let mut other = first.clone();
    other.key = Some(operation_key(1, 2));
    refused!(t.commit(4, Act::Edit(other)).await, "KeyReused");
    // another key, another user
    let mut other = increment(user, session);
    other.key = Some(operation_key(2, 1));
    assert_eq!(t.done(5, Act::Edit(other)).await, profile("{\"n\":3}", 4, false));
    let (user, session) = t.stored().await;
    let mut other = increment(user, session);
    other.key = Some(operation_key(1, 2));
    assert_eq!(t.done(6, Act::Edit(other)).await, profile("{\"n\":1}", 2, false));
    // forgotten at its end
    first.if_match = None;
    assert_eq!(t.done(DAY, Act::Edit(first)).await, profile("{\"n\":4}", 5, false));
}

pub(crate) async fn the_session_has_its_own_half(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    t.done(1, Act::Edit(increment(user, session))).await;
    let mut own = edit(user, session, Half::SessionMetadata, merge("{\"tv\":true}"));
    own.if_match = Some(1);
    refused!(t.commit(2, Act::Edit(own.clone())).await, "Version(2)");
    own.if_match = Some(2);
    own.key = Some(operation_key(1, 1));
    assert_eq!(t.done(2, Act::Edit(own.clone())).await, profile("{\"tv\":true}", 2, false));
    assert_eq!(t.done(3, Act::Edit(own)).await, profile("{\"tv\":true}", 2, true));
    let found = t.standing(user, session).await;
    assert_eq!(found.session(session).unwrap().metadata.as_deref(), Some("{\"tv\":true}"));
    let row = found.user.unwrap();
    assert_eq!((&*row.data, row.version, row.updated_at), ("{\"n\":1}", 2, at(1)));
}

pub(crate) async fn erasing_leaves_the_mark_and_the_epoch(h: &Harness) {
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    guest.user.chosen_by = Some(t.client);
    let (user, session) = (guest.user.id, guest.session.id);
    t.done(0, Act::CreateChosen(guest, Vec::new())).await;
    let further = t.session();
    t.done(0, Act::OpenSession { user, epoch: 0, session: Box::new(further.clone()) }).await;
    let mut keyed = increment(user, session);
    keyed.key = Some(operation_key(1, 1));
    t.done(0, Act::Edit(keyed)).await;
    t.done(0, Act::DenyToken { user, session, jti: [3; 16], until: at(DAY) }).await;
    t.done(0, Act::EndSession { user, session: further.id, mark_until: Some(at(DAY)) }).await;
    assert!(h.tables_with(*user.as_bytes()).await.len() >= 6);
    let (neighbour, its_session) = t.stored().await;

    t.done(1, Act::Erase { user, chosen_id: None, mark_until: at(500), epoch: None }).await;
    assert_eq!(h.tables_with(*user.as_bytes()).await, ["epochs", "marks"]);
    for id in [session, further.id] {
        assert!(h.tables_with(*id.as_bytes()).await.is_empty());
    }
    let found = t.standing(user, session).await;
    assert!(found.user.is_none() && found.sessions.is_empty());
    assert_eq!(found.marks, [Mark { id: USER_MARK, ends_at: at(500) }]);
    assert!(t.standing(neighbour, its_session).await.session(its_session).is_some());
    // again: longer, never shorter
    t.done(2, Act::Erase { user, chosen_id: None, mark_until: at(400), epoch: None }).await;
    t.done(2, Act::Erase { user, chosen_id: None, mark_until: at(600), epoch: None }).await;
    assert_eq!(t.standing(user, session).await.marks, [Mark { id: USER_MARK, ends_at: at(600) }]);
}

pub(crate) async fn an_erased_guest_leaves_its_creation_key(h: &Harness) {
    // the key's row is random bytes by then; it is swept at its end, and a retry finds nobody
    let t = h.tenant(1).await;
    let guest = t.guest();
    let row = look_up(1, &guest, DAY);
    t.done(0, Act::Create(guest.clone(), vec![row.clone()])).await;
    t.done(1, Act::Erase { user: guest.user.id, chosen_id: None, mark_until: at(DAY), epoch: None }).await;
    assert_eq!(t.store.look_up(t.no, row.kind, row.hash).await.unwrap(), Some(row));
}
