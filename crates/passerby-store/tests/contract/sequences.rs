//! Random sequences of acts, made on an engine and on the model side by side.

use std::sync::Arc;

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{
        Item, ItemKind, Kind, LookUp, LookUpKind, Mark, NewGuest, OutRow, OutState, Record, RecordKind, Session,
        Standing, Target, User,
    },
    port::{
        Act, Change, Ending, Half, ItemChange, ManageUser, NewUserRows, OperationKey, OutQuery, RecordChange, Settled,
        Store, Touch, Turn, UserWrite,
    },
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use uuid::Uuid;

use crate::{
    model::Model,
    support::{DAY, Harness, Tenant, at, edit, increment, limits, merge, operations, within, word},
};

/// A step of a random sequence, in small numbers so that steps meet.
#[derive(Debug, Clone)]
struct Step {
    ms: i64,
    user: u8,
    session: u8,
    keep: bool,
    act: u8,
    n: u8,
    flag: bool,
    /// Chooses among what a turn may do.
    turn: [u8; 6],
    /// Chooses what is written of users, records and the outbox.
    more: [u8; 6],
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        0..40i64,
        0..3u8,
        0..3u8,
        prop::bool::weighted(0.2),
        0..30u8,
        0..4u8,
        any::<bool>(),
        any::<[u8; 6]>(),
        any::<[u8; 6]>(),
    );
    let step = step.prop_map(|(quarter_hours, user, session, keep, act, n, flag, turn, more)| Step {
        // some pairs lie more than a day apart
        ms: quarter_hours * DAY / 16,
        user,
        session,
        keep,
        act,
        n,
        flag,
        turn,
        more,
    });
    vec(step, 1..40)
}

/// Ids are the same for every tenant; a session's id holds its user's number, as ids of ours never meet.
fn ids(step: &Step) -> (UserId, SessionId) {
    let id =
        |a: u8, b: u8| Uuid::from_u128(0x018f_2d5e_0000_7abc_8def_0000_0000_0000 | u128::from(a) << 8 | u128::from(b));
    (UserId::from(id(step.user, 0xff)), SessionId::from(id(step.user, step.session)))
}

/// The first four are found by look-ups.
const KINDS: [ItemKind; 5] =
    [ItemKind::DeviceKey, ItemKind::HandOff, ItemKind::Recovery, ItemKind::Identifier, ItemKind::Notice];

/// A write that fits the model more often than not.
fn write(step: &Step, model: &Model) -> Option<UserWrite> {
    let Step { ms, n, flag, more: [choice, state, ..], .. } = *step;
    let there = model.users.get(&ids(step).0);
    (choice % 3 == 0).then(|| UserWrite {
        version: (choice % 2 == 0).then(|| there.map_or(1, |u| u.version) + i64::from(choice % 32 == 0)),
        was: if choice % 32 == 1 { Kind::Regular } else { there.map_or(Kind::Anonymous, |u| u.kind) },
        data: (state % 3 == 0).then(|| format!("{{\"n\":{n}}}").into()),
        kind: if state % 2 == 0 { Kind::Regular } else { Kind::Anonymous },
        converted_at: flag.then(|| at(ms)),
        merged_into: (state % 5 == 0).then(|| ids(&Step { user: n, ..step.clone() }).0),
        frozen: state % 4 == 0,
        thaws: state % 3 != 0,
    })
}

/// A change of a record that fits the model more often than not.
fn record(step: &Step, choice: u8, model: &Model) -> RecordChange {
    let Step { ms, n, flag, .. } = *step;
    let (kind, id) = (RecordKind::ALL[usize::from(choice % 2)], [(n + choice / 2) % 3; 32]);
    let there = model.records.get(&(kind, id)).map(|r| r.revision + i32::from(choice.is_multiple_of(32)));
    let was = there.filter(|_| !(choice / 8).is_multiple_of(4));
    match there {
        Some(was) if choice / 32 < 2 => RecordChange::Remove { kind, id, was },
        _ => {
            let revision = was.unwrap_or_default() + 1;
            let ends_at = if flag { Timestamp::MAX } else { at(ms + i64::from(n) * DAY / 4) };
            RecordChange::Put { record: Record { kind, id, revision, ends_at, body: format!("{choice}").into() }, was }
        }
    }
}

const TARGETS: [Target; 4] = [Target::Log, Target::Mail, Target::Sms, Target::Timer];

/// What goes into the outbox: rows of the step's user, of another, and of somebody who is no user.
fn out(step: &Step, t: &Tenant) -> Vec<OutRow> {
    let Step { ms, n, flag, more: [.., choice, lane], .. } = *step;
    let row = |nth: u8| OutRow {
        id: *t.ids.fresh(at(0), &t.random).session.as_bytes(),
        user: ids(&Step { user: (step.user + nth * n) % 4, ..step.clone() }).0,
        name: format!("event {nth}").into(),
        at: at(ms + i64::from(lane / 4)),
        target: TARGETS[usize::from(choice / 4 % 4)],
        lane: [lane % 2; 16],
        due_at: (choice / 16 % 4 > 0).then(|| at(ms + i64::from(lane / 2 % 4) * DAY / 8)),
        ends_at: if flag && nth > 0 { Timestamp::MAX } else { at(ms + i64::from(n) * DAY / 4) },
        body: vec![0, choice, nth].into(),
    };
    (0..if choice % 4 < 2 { choice % 4 * 2 } else { 0 }).map(row).collect()
}

/// What became of some row of the model.
fn settled(step: &Step, t: &Tenant, model: &Model) -> Vec<Settled> {
    let Step { ms, n, flag, more: [nth, state, tries, ..], .. } = *step;
    let all = model.kept_rows();
    let chosen = all.iter().skip(usize::from(nth) % all.len().max(1)).step_by(3).take(3);
    let mut settled: Vec<_> = chosen
        .map(|kept| Settled {
            tenant: t.no,
            user: kept.row.user,
            seq: kept.seq,
            id: kept.row.id,
            was: (kept.state, kept.tries + i32::from(state % 16 == 0)),
            state: [OutState::Waiting, OutState::Done, OutState::Dead][usize::from(state % 3)],
            due_at: flag.then(|| at(ms + i64::from(n) * DAY / 8)),
            ends_at: at(ms + i64::from(n) * DAY / 2),
            tries: i32::from(tries),
            body: (tries % 2 == 0).then(|| vec![tries; usize::from(n)].into()),
        })
        .collect();
    // another row has its number by now
    if let Some(first) = settled.first_mut().filter(|_| state > 200) {
        first.id = [state; 16];
    }
    settled
}

/// A turn that fits the model more often than not.
fn turn(step: &Step, t: &Tenant, model: &Model) -> Turn {
    let (user, session) = ids(step);
    let Step { ms, n, flag, turn: [way, ends, opens, binds, item, found], .. } = *step;
    let until = at(ms + i64::from(n) * DAY / 4);
    let mut turn = Turn::of(user, model.users.get(&user).map_or(0, |u| u.epoch) + i32::from(way % 16 == 0));
    turn.by = (way / 16 < 4).then_some(session);
    turn.raise = ends % 4 == 0;
    let other = |n| ids(&Step { session: n % 4, ..step.clone() }).1;
    turn.end = match ends / 4 % 6 {
        0 => Ending::All { but: flag.then_some(session) },
        1 | 2 => Ending::Some(vec![(session, flag.then_some(until)), (other(n), Some(until))]),
        3 => Ending::ByKey {
            key: [binds % 2; 32],
            but: flag.then_some(session),
            also: (binds % 3 == 0).then(|| other(n)),
            mark_until: (binds % 5 == 0).then_some(until),
        },
        _ => Ending::Some(Vec::new()),
    };
    // what was seen, and now and then what was not
    turn.counted = (opens % 5 == 0)
        .then(|| {
            let kind = KINDS[usize::from(n + ends % 2)];
            let there = model.items.keys().filter(|(u, k, _)| *u == user && *k == kind).count();
            (kind, there + usize::from(item % 8 == 0))
        })
        .into_iter()
        .collect();
    turn.open = (opens % 3 == 0).then(|| {
        let mut opened = t.session();
        opened.id = other(opens / 3);
        opened.key = flag.then_some([opens % 2; 32]);
        Box::new(opened)
    });
    turn.bind = (opens / 64 == 3).then(|| (other(n), flag.then_some([binds % 2; 32]), flag));
    for (nth, choice) in [binds, item].into_iter().enumerate() {
        let (kind, id) = (KINDS[usize::from(choice % 5)], [(n + nth as u8) % 4; 32]);
        let there = model.items.get(&(user, kind, id)).map(|i| i.revision + i32::from(choice % 32 == 0));
        let ends_at = if flag { Timestamp::MAX } else { until };
        let put = |was: Option<i32>| {
            let revision = was.unwrap_or_default() + 1;
            ItemChange::Put { item: Item { kind, id, revision, ends_at, body: format!("{choice}").into() }, was }
        };
        turn.items.extend(match choice / 4 % 8 {
            0 | 1 => Some(put(there)),
            2 => Some(put(None)),
            3 | 4 => there.map(|was| ItemChange::Remove { kind, id, was }),
            5 => Some(ItemChange::RemoveAll { kind, but: flag.then_some([n; 32]) }),
            6 => Some(ItemChange::RetireAll { kind, but: flag.then_some([n; 32]) }),
            _ => None,
        });
    }
    for nth in 0..found % 3 {
        let kind = KINDS[usize::from(found / 3 % 4)].look_up().expect("a kind that is found");
        let (hash, ends_at) = ([(n + nth) % 4; 32], at(ms + DAY / 2));
        turn.look_ups.push(LookUp { kind, hash, user, session, body: [found; 32], ends_at });
    }
    turn.write = write(step, model);
    let [.., first, second, _, _] = step.more;
    turn.records = [first, second].iter().filter(|c| **c % 4 == 0).map(|c| record(step, *c, model)).collect();
    turn
}

fn manage(step: &Step) -> ManageUser {
    let Step { n, flag, turn: [a, b, ..], .. } = *step;
    let patch = |choice: u8| match choice % 5 {
        0 => Some(Arc::new(merge("{\"s\":1}"))),
        1 => Some(Arc::new(merge("{\"s\":null,\"n\":null}"))),
        2 => Some(Arc::new(operations(r#"[{"op":"increment","path":"/n","by":1}]"#))),
        _ => None,
    };
    ManageUser {
        user: ids(step).0,
        if_match: (n == 3).then_some(2),
        data: patch(a),
        server_data: patch(b),
        held: (a > 127).then_some(flag),
        limits: Arc::new(limits()),
        schema: None,
    }
}

fn change(step: &Step, t: &Tenant, model: &Model) -> Change {
    let (user, session) = ids(step);
    let Step { ms, n, flag, .. } = *step;
    let client = |other: bool| if other { t.other_client } else { t.client };
    let guest = |chosen_by: Option<ClientNo>| {
        let mut guest = t.guest();
        guest.user.id = user;
        guest.user.chosen_by = chosen_by;
        guest.user.chosen_id = chosen_by.map(|c| format!("chosen {}", c.0).into());
        guest.session.id = session;
        guest.session.client = client(flag);
        guest
    };
    let chosen = (n > 0).then(|| client(n > 2));
    let until = at(ms + i64::from(n) * DAY / 4);
    let row = |user, session| LookUp {
        kind: if flag { LookUpKind::Creation } else { LookUpKind::Assertion },
        hash: [n; 32],
        user,
        session,
        body: [step.act; 32],
        ends_at: at(ms + DAY / 2),
    };
    let mut look_ups: Vec<_> = (n > 1).then(|| row(user, session)).into_iter().collect();
    let mut owning = |mut guest: Box<NewGuest>| {
        if step.turn[0] < 128 {
            let (kind, ends_at) = (KINDS[usize::from(n + step.turn[1] % 2)], if flag { Timestamp::MAX } else { until });
            guest.items.push(Item { kind, id: [n; 32], revision: 1, ends_at, body: "{}".into() });
            look_ups.extend(kind.look_up().map(|kind| LookUp { kind, ends_at, ..row(user, session) }));
        }
        guest
    };
    let act = match step.act {
        0 => Act::Keep,
        1 | 2 => Act::Create(owning(guest(None)), look_ups),
        3 | 4 => Act::CreateChosen(owning(guest(chosen)), look_ups),
        5 => {
            let mut session = guest(None).session;
            session.parent = flag.then(|| SessionId::from_bytes([5; 16]));
            Act::OpenSession { user, epoch: i32::from(n > 2), session: Box::new(session) }
        }
        6 => Act::EndSession { user, session, mark_until: flag.then_some(until) },
        7 | 8 => Act::Rotate { user, session, from: i32::from(n), to: i32::from(n) + i32::from(flag) },
        9 | 10 => {
            let mut e = if n == 0 {
                edit(user, session, Half::Data, merge("{\"n\":\"no number\"}"))
            } else {
                increment(user, session)
            };
            e.half = if flag { Half::Data } else { Half::SessionMetadata };
            e.if_match = (n > 2).then_some(2);
            e.key = (n > 1).then_some(OperationKey { hash: [n; 32], body: [step.session; 32], ends_at: until });
            Act::Edit(e)
        }
        11 => Act::Erase { user, chosen_id: None, mark_until: until, epoch: None },
        12 => Act::DenyToken { user, session, jti: [n + 1; 16], until },
        13 => Act::Touch(
            (0..3u8)
                .map(|other| {
                    let (user, session) = ids(&Step { session: other, ..step.clone() });
                    Touch { tenant: t.no, user, session, at: at(ms + i64::from(other)) }
                })
                .collect(),
        ),
        14 => Act::Remember(Box::new(row(user, session))),
        15 => Act::Sweep { limit: 10_000, epochs_before: at(ms - DAY / 2) },
        16 => {
            let NewGuest { mut user, items, .. } = *owning(guest(chosen));
            if flag {
                (user.kind, user.converted_at, user.frozen) = (Kind::Regular, Some(at(ms)), n > 1);
            }
            Act::AddUser(Box::new(NewUserRows { user, items, look_ups }))
        }
        17 => Act::Manage(Box::new(manage(step))),
        18 | 19 => {
            let others =
                (0..=n % 2).map(|nth| Step { user: (step.user + 1 + nth) % 3, n: (n + 1 + nth) % 4, ..step.clone() });
            let mut all: Vec<_> = others.map(|step| turn(&step, t, model)).chain([turn(step, t, model)]).collect();
            // those of one alone: two that change one record refuse each other
            all.iter_mut().skip(1).for_each(|turn| turn.records.clear());
            Act::Turns(all)
        }
        20 => Act::Records(step.more.iter().take(usize::from(n)).map(|c| record(step, *c, model)).collect()),
        21 => Act::Settle(settled(step, t, model)),
        _ => Act::Turn(Box::new(turn(step, t, model))),
    };
    Change { at: at(ms), keep: step.keep.then(|| guest(chosen)), act, out: out(step, t) }
}

fn sorted(mut standing: Standing) -> (Option<User>, Vec<Session>, Vec<Mark>) {
    standing.sessions.sort_by_key(|s| s.id);
    standing.marks.sort_by_key(|m| m.id);
    (standing.user, standing.sessions, standing.marks)
}

/// Everything that can be read, against the model.
async fn compare(store: &dyn Store, tenant: TenantNo, model: &Model) {
    for user in 0..3 {
        for session in 0..4 {
            let step =
                Step { ms: 0, user, session, keep: false, act: 0, n: 0, flag: false, turn: [0; 6], more: [0; 6] };
            let (user, session) = ids(&step);
            let found = store.standing(tenant, user, session).await.unwrap();
            assert_eq!(sorted(found), sorted(model.standing(user, session)));
            for kind in KINDS.into_iter().map(Some).chain([None]) {
                let items = store.items(tenant, user, kind).await.unwrap();
                let all = model.items.iter().filter(|((u, k, _), _)| *u == user && kind.is_none_or(|kind| kind == *k));
                assert_eq!(items, all.map(|(_, item)| item.clone()).collect::<Vec<_>>());
            }
        }
    }
    let kinds = [LookUpKind::Creation, LookUpKind::Assertion].into_iter();
    for kind in kinds.chain(KINDS.into_iter().filter_map(ItemKind::look_up)) {
        for n in 0..4 {
            let expected = model.look_ups.get(&(kind.number(), [n; 32]));
            assert_eq!(store.look_up(tenant, kind, [n; 32]).await.unwrap().as_ref(), expected);
            let found = store.found(tenant, kind, [n; 32]).await.unwrap();
            assert_eq!(found.as_ref().map(|f| &f.look_up), expected);
            if let Some(found) = found {
                let (user, session) = (found.look_up.user, found.look_up.session);
                assert_eq!(sorted(found.standing), sorted(model.standing(user, session)));
            }
        }
    }
    for kind in RecordKind::ALL {
        let expected = model.records_of(kind);
        for record in &expected {
            assert_eq!(store.record(tenant, kind, record.id).await.unwrap().as_ref(), Some(record));
        }
        assert_eq!(store.records(tenant, kind).await.unwrap(), expected);
    }
    let query = OutQuery { tenant: Some(tenant), limit: 1000, ..OutQuery::default() };
    assert_eq!(store.outbox(query).await.unwrap(), model.kept_rows());
    for quarter_days in 0..20 {
        let now = at(quarter_days * DAY / 4);
        for target in TARGETS {
            let due = store.outbox_due(now, target, 100_000).await.unwrap();
            let due: Vec<_> = due.into_iter().filter(|kept| kept.tenant == tenant).collect();
            assert_eq!(due, model.due_rows(now, target));
        }
    }
    let of_tenant =
        store.epochs(Timestamp::default(), u32::MAX).await.unwrap().into_iter().filter(|e| e.tenant == tenant);
    let expected = model.epochs.iter().map(|((at, user), (epoch, chosen))| (*at, *user, *epoch, chosen.clone()));
    assert_eq!(
        of_tenant.map(|e| (e.at, e.user, e.epoch, e.chosen_id)).collect::<Vec<_>>(),
        expected.collect::<Vec<_>>()
    );
    let users = store.users(tenant, None, 100).await.unwrap();
    assert_eq!(
        users.into_iter().map(sorted).collect::<Vec<_>>(),
        model.users.keys().rev().map(|user| sorted(model.of_list(*user))).collect::<Vec<_>>()
    );
}

/// Runs random sequences, each in a tenant of its own; `all_at_once` queues a whole sequence before it waits, which only
/// an engine that keeps the queue's order can answer as if one came after the other.
pub(crate) fn random_sequences(h: &Harness, runtime: &tokio::runtime::Runtime, all_at_once: bool) {
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let tenants = std::cell::Cell::new(0);
    let case = |steps: Vec<Step>, no: u128| async move {
        let t = h.tenant(no).await;
        // sweeps count what they find in all tenants: begin with nothing
        let never = Timestamp::MAX;
        let all = Change {
            at: never,
            keep: None,
            act: Act::Sweep { limit: u32::MAX >> 1, epochs_before: never },
            out: Vec::new(),
        };
        t.store.commit(t.no, all).await.unwrap();
        let mut model = Model::default();
        let mut waiting = Vec::new();
        for step in &steps {
            let change = change(step, &t, &model);
            let expected = model.commit(t.no, &change);
            let wait = t.store.commit(t.no, change.clone());
            if all_at_once {
                waiting.push((wait, expected));
                continue;
            }
            assert_eq!(word(&wait.await), word(&expected), "{change:?}");
            let (user, session) = ids(step);
            let found = t.store.standing(t.no, user, session).await.unwrap();
            assert_eq!(sorted(found), sorted(model.standing(user, session)), "after {change:?}");
        }
        for (i, (wait, expected)) in waiting.into_iter().enumerate() {
            assert_eq!(word(&wait.await), word(&expected), "step {i}");
        }
        compare(&*t.store, t.no, &model).await;
    };
    let mut runner = TestRunner::new(config);
    runner
        .run(&steps(), |steps| {
            tenants.set(tenants.get() + 1);
            runtime.block_on(within(case(steps, tenants.get())));
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}
