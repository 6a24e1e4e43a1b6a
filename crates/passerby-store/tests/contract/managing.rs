//! What back ends do: users added, changed, held and listed.

use std::sync::Arc;

use passerby_core::{
    id::{SessionId, UserId},
    model::User,
    port::{Act, CommitError, Committed, ManageUser, NewUserRows},
    profile::{Edit, Limits, Schema},
};
use uuid::Uuid;

use crate::support::{
    DAY, Harness, Tenant, at, elaborate, increment, limits, merge, operations, refused, side_by_side,
};

async fn row(t: &Tenant, user: UserId) -> Option<User> {
    t.standing(user, SessionId::from_bytes([0; 16])).await.user
}

fn add_user(user: User) -> Act {
    Act::AddUser(Box::new(NewUserRows { user, items: Vec::new(), look_ups: Vec::new() }))
}

fn change(user: UserId) -> ManageUser {
    ManageUser {
        user,
        if_match: None,
        data: None,
        server_data: None,
        held: None,
        limits: Arc::new(limits()),
        schema: None,
    }
}

async fn manage(t: &Tenant, ms: i64, change: ManageUser) -> Result<Committed, CommitError> {
    t.commit(ms, Act::Manage(Box::new(change))).await
}

fn raise() -> Arc<Edit> {
    Arc::new(operations(r#"[{"op":"increment","path":"/n","by":1}]"#))
}

fn patch(text: &str) -> Arc<Edit> {
    Arc::new(merge(text))
}

pub(crate) async fn a_user_is_added_without_a_session(h: &Harness) {
    let t = h.tenant(1).await;
    let mut guest = t.guest();
    elaborate(&mut guest, &t);
    let user = guest.user.clone();
    let add = |user: &User| add_user(user.clone());
    t.done(0, add(&user)).await;
    let found = t.standing(user.id, guest.session.id).await;
    assert_eq!((found.user.as_ref(), found.sessions.len()), (Some(&user), 0));
    refused!(t.commit(0, add(&user)).await, "Taken");
    let other = User { data: "{\"other\":1}".into(), ..user.clone() };
    refused!(t.commit(0, add(&other)).await, "Taken");
    assert_eq!(row(&t, user.id).await.as_ref(), Some(&user));
    // not while it is marked
    t.done(1, Act::Erase { user: user.id, chosen_id: None, mark_until: at(100), epoch: None }).await;
    refused!(t.commit(99, add(&user)).await, "Marked");
    assert_eq!(row(&t, user.id).await, None);
    t.done(100, add(&user)).await;
    // a mark of a session of it is none of the user
    t.done(101, Act::Erase { user: user.id, chosen_id: None, mark_until: at(102), epoch: None }).await;
    t.done(101, Act::EndSession { user: user.id, session: guest.session.id, mark_until: Some(at(DAY)) }).await;
    t.done(102, add(&user)).await;
    // many at once
    let id = t.guest().user.id;
    let outcomes = side_by_side((0..20).map(|_| {
        let mut user = t.guest().user;
        user.id = id;
        t.commit(0, add_user(user))
    }))
    .await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
}

pub(crate) async fn both_halves_are_changed_in_one_step(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, session) = t.stored().await;
    let mut both = change(user);
    (both.if_match, both.data, both.server_data, both.held) =
        (Some(1), Some(raise()), Some(patch("{\"plan\":\"a\"}")), Some(true));
    assert_eq!(manage(&t, 5, both.clone()).await.unwrap(), Committed::Done);
    let found = row(&t, user).await.unwrap();
    assert_eq!((&*found.data, found.server_data.as_deref()), ("{\"n\":1}", Some("{\"plan\":\"a\"}")));
    assert_eq!((found.version, found.updated_at, found.held), (2, at(5), true));
    // the version that was seen
    refused!(manage(&t, 6, both.clone()).await, "Version(2)");
    assert_eq!(row(&t, user).await.unwrap(), found);
    // one half; the other and the hold stay
    manage(&t, 7, ManageUser { data: Some(raise()), ..change(user) }).await.unwrap();
    manage(&t, 8, ManageUser { server_data: Some(patch("{\"b\":2}")), ..change(user) }).await.unwrap();
    let found = row(&t, user).await.unwrap();
    assert_eq!((&*found.data, found.server_data.as_deref()), ("{\"n\":2}", Some("{\"plan\":\"a\",\"b\":2}")));
    assert_eq!((found.version, found.updated_at, found.held), (4, at(8), true));
    // the guest's own edit leaves the server's half
    t.done(9, Act::Edit(increment(user, session))).await;
    assert_eq!(row(&t, user).await.unwrap().server_data, found.server_data);
    // nobody
    refused!(manage(&t, 9, ManageUser { held: Some(true), ..change(t.guest().user.id) }).await, "Gone");
}

pub(crate) async fn the_empty_server_half_is_none(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, _) = t.stored().await;
    manage(&t, 1, ManageUser { server_data: Some(patch("{}")), ..change(user) }).await.unwrap();
    let found = row(&t, user).await.unwrap();
    assert_eq!((found.server_data, found.version, found.updated_at), (None, 2, at(1)));
    manage(&t, 2, ManageUser { server_data: Some(raise()), ..change(user) }).await.unwrap();
    assert_eq!(row(&t, user).await.unwrap().server_data.as_deref(), Some("{\"n\":1}"));
    manage(&t, 3, ManageUser { server_data: Some(patch("{\"n\":null}")), ..change(user) }).await.unwrap();
    let found = row(&t, user).await.unwrap();
    assert_eq!((found.server_data, found.version), (None, 4));
}

pub(crate) async fn a_hold_is_no_edit(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, _) = t.stored().await;
    for held in [true, true, false, false, true] {
        manage(&t, 5, ManageUser { held: Some(held), if_match: Some(1), ..change(user) }).await.unwrap();
        let found = row(&t, user).await.unwrap();
        assert_eq!((found.held, found.version, found.updated_at), (held, 1, at(0)));
    }
    manage(&t, 5, change(user)).await.unwrap();
    assert!(row(&t, user).await.unwrap().held);
}

pub(crate) async fn a_refused_change_of_a_back_end_changes_nothing(h: &Harness) {
    let t = h.tenant(1).await;
    let (user, _) = t.stored().await;
    manage(&t, 1, ManageUser { data: Some(patch("{\"n\":\"text\"}")), ..change(user) }).await.unwrap();
    let before = row(&t, user).await.unwrap();
    let schema = Schema::compile(&serde_json::json!({"properties": {"n": {"type": "string"}}})).unwrap();
    let small = Limits { max_bytes: 20, ..limits() };
    let large = || Some(patch("{\"text\":\"as long as it takes\"}"));
    let all = [
        ManageUser { data: Some(raise()), server_data: Some(patch("{\"a\":1}")), held: Some(true), ..change(user) },
        ManageUser {
            data: Some(patch("{\"a\":1}")),
            server_data: large(),
            limits: Arc::new(small.clone()),
            ..change(user)
        },
        ManageUser { data: large(), limits: Arc::new(small), ..change(user) },
        ManageUser { data: Some(patch("{\"n\":1}")), schema: Some(schema.clone()), held: Some(true), ..change(user) },
    ];
    for wrong in all {
        refused!(manage(&t, 2, wrong).await, "Edit");
        assert_eq!(row(&t, user).await.unwrap(), before);
    }
    // the schema is for the guest's half alone
    manage(&t, 3, ManageUser { server_data: Some(patch("{\"n\":1}")), schema: Some(schema), ..change(user) })
        .await
        .unwrap();
}

pub(crate) async fn changes_of_back_ends_and_guests_are_all_counted(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let (user, session) = t.stored().await;
    side_by_side((0..16).map(|n| {
        let t = t.clone();
        async move {
            for _ in 0..10 {
                if n % 2 == 0 {
                    manage(&t, 1, ManageUser { data: Some(raise()), server_data: Some(raise()), ..change(user) })
                        .await
                        .unwrap();
                } else {
                    t.done(1, Act::Edit(increment(user, session))).await;
                }
            }
        }
    }))
    .await;
    let found = row(&t, user).await.unwrap();
    assert_eq!((&*found.data, found.server_data.as_deref(), found.version), ("{\"n\":160}", Some("{\"n\":80}"), 161));
}

pub(crate) async fn users_are_listed_by_descending_id(h: &Harness) {
    let (t, other) = (h.tenant(1).await, h.tenant(2).await);
    let read = async |before, limit| t.store.users(t.no, before, limit).await.unwrap();
    assert!(read(None, 10).await.is_empty());
    other.stored().await;
    let mut all = Vec::new();
    for n in 0..7 {
        all.push(t.stored().await.0);
        for _ in 0..n {
            let session = Box::new(t.session());
            t.done(0, Act::OpenSession { user: all[n], epoch: 0, session }).await;
        }
    }
    // ids that callers chose may lie anywhere
    for id in [Uuid::nil(), Uuid::max(), Uuid::from_u128(1 << 127)] {
        let mut user = t.guest().user;
        user.id = id.into();
        t.done(0, add_user(user)).await;
        all.push(id.into());
    }
    all.sort();
    all.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = read(before, 3).await;
        assert!(page.len() <= 3 && page.iter().all(|s| s.marks.is_empty()));
        let Some(last) = page.last() else { break };
        before = last.user.as_ref().map(|u| u.id);
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|s| s.user.as_ref().unwrap().id).collect::<Vec<_>>(), all);
    for mut listed in seen {
        let user = listed.user.clone().unwrap();
        let mut alone = t.standing(user.id, t.session().id).await;
        assert_eq!(alone.user, Some(user));
        listed.sessions.sort_by_key(|s| s.id);
        alone.sessions.sort_by_key(|s| s.id);
        assert_eq!(listed.sessions, alone.sessions);
    }
    assert!(read(None, 0).await.is_empty());
    // of one with very many sessions the newest are listed
    let (user, mut ids) = (all[3], Vec::new());
    for _ in 0..150 {
        let session = Box::new(t.session());
        ids.push(session.id);
        t.done(0, Act::OpenSession { user, epoch: 0, session }).await;
    }
    ids.sort();
    let listed = read(Some(all[2]), 1).await;
    assert_eq!(listed[0].user.as_ref().map(|u| u.id), Some(user));
    assert!((100..=400).contains(&listed[0].sessions.len()));
    assert!(ids[60..].iter().all(|id| listed[0].session(*id).is_some()));
}
