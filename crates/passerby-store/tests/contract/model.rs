//! Random sequences of acts against a simple store in memory: it keeps the engines equal to the port's words, and so to
//! each other.

use std::collections::BTreeMap;

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{LookUp, LookUpKind, Mark, NewGuest, Session, Standing, USER_MARK, User},
    port::{Act, Change, CommitError, Committed, EditProfile, Half, OperationKey, Store, Touch},
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use uuid::Uuid;

use crate::support::{DAY, Harness, Tenant, at, edit, increment, merge, within, word};

type Rows<V> = BTreeMap<(UserId, [u8; 16]), V>;
type Outcome = Result<Committed, CommitError>;

/// One tenant's tables.
#[derive(Debug, Clone, Default)]
struct Model {
    users: BTreeMap<UserId, User>,
    sessions: Rows<Session>,
    marks: Rows<Timestamp>,
    look_ups: BTreeMap<(i16, [u8; 32]), LookUp>,
    keys: BTreeMap<(UserId, [u8; 32]), OperationKey>,
}

impl Model {
    /// A change is made whole or not at all.
    fn commit(&mut self, change: &Change) -> Outcome {
        let mut next = self.clone();
        let outcome = next.apply(change);
        if outcome.is_ok() {
            *self = next;
        }
        outcome
    }

    fn apply(&mut self, Change { at, keep, act }: &Change) -> Outcome {
        let at = *at;
        if let Some(guest) = keep {
            self.keep(guest, at)?;
        }
        match act {
            Act::Create(guest, look_up) => {
                if let Some(row) = look_up {
                    self.remember(row, at)?;
                }
                self.create(guest)?;
            }
            Act::CreateChosen(guest, look_up) => {
                self.create(guest)?;
                if self.marked(guest.user.id, guest.session.id, at) {
                    return Err(CommitError::Marked);
                }
                if let Some(row) = look_up {
                    self.remember(row, at)?;
                }
            }
            Act::OpenSession { user, epoch, session } => {
                if self.users.get(user).is_none_or(|u| u.epoch != *epoch) {
                    return Err(CommitError::Gone);
                }
                let day_ago = Timestamp::from_millis(at.millis() - DAY);
                self.sessions.retain(|(u, _), s| u != user || s.ended_at.is_none_or(|e| e >= day_ago));
                self.add_session(*user, session)?;
            }
            Act::EndSession { user, session, mark_until } => {
                if let Some(row) = self.alive(*user, *session) {
                    row.ended_at = Some(at);
                }
                if let Some(until) = mark_until {
                    self.mark(*user, *session.as_bytes(), *until);
                }
            }
            Act::Rotate { user, session, from, to } => {
                let row = self.alive(*user, *session).filter(|s| s.generation == *from).ok_or(CommitError::Moved)?;
                if from == to {
                    row.late_generation = Some(*to);
                } else {
                    row.rotated_at = Some(at);
                }
                row.generation = *to;
                row.active_at = row.active_at.max(at);
            }
            Act::Edit(edit) => return self.edit(edit, at),
            Act::Erase { user, mark_until } => {
                self.users.remove(user);
                self.sessions.retain(|(u, _), _| u != user);
                self.keys.retain(|(u, _), _| u != user);
                self.marks.retain(|(u, id), _| u != user || *id == USER_MARK);
                self.mark(*user, USER_MARK, *mark_until);
            }
            Act::DenyToken { user, session, jti, until } => {
                self.mark(*user, *jti, *until);
                if let Some(row) = self.sessions.get_mut(&(*user, *session.as_bytes())) {
                    row.has_denied_tokens = true;
                }
            }
            Act::Touch(touches) => {
                for t in touches {
                    if let Some(row) = self.alive(t.user, t.session) {
                        row.active_at = row.active_at.max(t.at);
                    }
                }
            }
            Act::Remember(row) => self.remember(row, at)?,
            Act::Sweep { .. } => {
                let before = self.marks.len() + self.look_ups.len() + self.keys.len();
                self.marks.retain(|_, ends_at| *ends_at > at);
                self.look_ups.retain(|_, row| row.ends_at > at);
                self.keys.retain(|_, key| key.ends_at > at);
                let after = self.marks.len() + self.look_ups.len() + self.keys.len();
                return Ok(Committed::Swept((before - after) as u64));
            }
            Act::Keep => {}
            Act::AddSigningKey(_) | Act::RemoveSigningKey(_) | Act::SetMeta(..) | Act::InitMeta(..) => {
                unreachable!("not made here")
            }
        }
        Ok(Committed::Done)
    }

    fn keep(&mut self, guest: &NewGuest, at: Timestamp) -> Result<(), CommitError> {
        let (user, session) = (guest.user.id, *guest.session.id.as_bytes());
        match self.sessions.get(&(user, session)) {
            Some(row) if row.ended_at.is_some() => return Err(CommitError::Gone),
            Some(_) => return Ok(()),
            None => {}
        }
        if self.marked(user, guest.session.id, at) {
            return Err(CommitError::Marked);
        }
        // a token of it may have been denied while it was floating
        let mut session = match self.users.get(&user) {
            None => {
                self.users.insert(user, guest.user.clone());
                guest.session.clone()
            }
            Some(row) if row.chosen_by == Some(guest.session.client) => guest.further_session(),
            Some(_) => return Err(CommitError::Gone),
        };
        session.has_denied_tokens |= self.marks.iter().any(|((u, _), ends_at)| *u == user && *ends_at > at);
        self.add_session(user, &session)
    }

    fn create(&mut self, guest: &NewGuest) -> Result<(), CommitError> {
        if self.users.contains_key(&guest.user.id) {
            return Err(CommitError::Taken);
        }
        self.users.insert(guest.user.id, guest.user.clone());
        self.add_session(guest.user.id, &guest.session)
    }

    fn add_session(&mut self, user: UserId, session: &Session) -> Result<(), CommitError> {
        match self.sessions.insert((user, *session.id.as_bytes()), session.clone()) {
            None => Ok(()),
            Some(_) => Err(CommitError::Taken),
        }
    }

    fn alive(&mut self, user: UserId, session: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&(user, *session.as_bytes())).filter(|s| s.ended_at.is_none())
    }

    fn marked(&self, user: UserId, session: SessionId, at: Timestamp) -> bool {
        [USER_MARK, *session.as_bytes()]
            .iter()
            .any(|id| self.marks.get(&(user, *id)).is_some_and(|ends_at| *ends_at > at))
    }

    fn mark(&mut self, user: UserId, id: [u8; 16], until: Timestamp) {
        let ends_at = self.marks.entry((user, id)).or_insert(until);
        *ends_at = until.max(*ends_at);
    }

    fn remember(&mut self, row: &LookUp, at: Timestamp) -> Result<(), CommitError> {
        let key = (row.kind.number(), row.hash);
        if self.look_ups.get(&key).is_some_and(|old| old.ends_at > at) {
            return Err(CommitError::Taken);
        }
        self.look_ups.insert(key, row.clone());
        Ok(())
    }

    fn edit(&mut self, edit: &EditProfile, at: Timestamp) -> Outcome {
        let user = self.users.get(&edit.user).cloned().ok_or(CommitError::Gone)?;
        let session = self.alive(edit.user, edit.session).ok_or(CommitError::Gone)?;
        let current = match edit.half {
            Half::Data => user.data,
            Half::SessionMetadata => session.metadata.clone().unwrap_or_else(|| "{}".into()),
        };
        if let Some(key) = &edit.key {
            match self.keys.get(&(edit.user, key.hash)).filter(|k| k.ends_at > at) {
                Some(known) if known.body == key.body => {
                    return Ok(Committed::Profile { data: current, version: user.version, replayed: true });
                }
                Some(_) => return Err(CommitError::KeyReused),
                None => drop(self.keys.insert((edit.user, key.hash), key.clone())),
            }
        }
        if edit.if_match.is_some_and(|v| v != user.version) {
            return Err(CommitError::Version(user.version));
        }
        let data = edit.edit.apply(&current, &edit.limits, edit.schema.as_ref()).map_err(CommitError::Edit)?;
        let row = self.users.get_mut(&edit.user).expect("seen above");
        match edit.half {
            Half::Data => {
                row.data = data.clone();
                row.version += 1;
                row.updated_at = at;
            }
            Half::SessionMetadata => {
                let key = (edit.user, *edit.session.as_bytes());
                self.sessions.get_mut(&key).expect("seen above").metadata = Some(data.clone());
            }
        }
        Ok(Committed::Profile { data, version: self.users[&edit.user].version, replayed: false })
    }

    fn standing(&self, user: UserId, session: SessionId) -> Standing {
        let of_user = |(u, _): &(UserId, [u8; 16])| *u == user;
        let mut found = Standing {
            user: self.users.get(&user).cloned(),
            sessions: self.sessions.iter().filter(|(k, _)| of_user(k)).map(|(_, s)| s.clone()).collect(),
            marks: Vec::new(),
        };
        if found.user.is_none() || found.session(session).is_none_or(|s| s.has_denied_tokens) {
            let marks = self.marks.iter().filter(|(k, _)| of_user(k));
            found.marks = marks.map(|((_, id), ends_at)| Mark { id: *id, ends_at: *ends_at }).collect();
        }
        found
    }
}

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
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..40i64, 0..3u8, 0..3u8, prop::bool::weighted(0.2), 0..16u8, 0..4u8, any::<bool>());
    let step = step.prop_map(|(quarter_hours, user, session, keep, act, n, flag)| Step {
        // some pairs lie more than a day apart
        ms: quarter_hours * DAY / 16,
        user,
        session,
        keep,
        act,
        n,
        flag,
    });
    vec(step, 1..40)
}

/// Ids are the same for every tenant; a session's id holds its user's number, as ids of ours never meet.
fn ids(step: &Step) -> (UserId, SessionId) {
    let id =
        |a: u8, b: u8| Uuid::from_u128(0x018f_2d5e_0000_7abc_8def_0000_0000_0000 | u128::from(a) << 8 | u128::from(b));
    (UserId::from(id(step.user, 0xff)), SessionId::from(id(step.user, step.session)))
}

fn change(step: &Step, t: &Tenant) -> Change {
    let (user, session) = ids(step);
    let Step { ms, n, flag, .. } = *step;
    let client = |other: bool| if other { t.other_client } else { t.client };
    let guest = |chosen_by: Option<ClientNo>| {
        let mut guest = t.guest();
        guest.user.id = user;
        guest.user.chosen_by = chosen_by;
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
    let look_up = (n > 1).then(|| Box::new(row(user, session)));
    let act = match step.act {
        0 => Act::Keep,
        1 | 2 => Act::Create(guest(None), look_up),
        3 | 4 => Act::CreateChosen(guest(chosen), look_up),
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
        11 => Act::Erase { user, mark_until: until },
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
        _ => Act::Sweep { limit: 10_000 },
    };
    Change { at: at(ms), keep: step.keep.then(|| guest(chosen)), act }
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
            let step = Step { ms: 0, user, session, keep: false, act: 0, n: 0, flag: false };
            let (user, session) = ids(&step);
            let found = store.standing(tenant, user, session).await.unwrap();
            assert_eq!(sorted(found), sorted(model.standing(user, session)));
        }
    }
    for kind in [LookUpKind::Creation, LookUpKind::Assertion] {
        for n in 0..4 {
            let found = store.look_up(tenant, kind, [n; 32]).await.unwrap();
            assert_eq!(found.as_ref(), model.look_ups.get(&(kind.number(), [n; 32])));
        }
    }
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
        let all = Change { at: never, keep: None, act: Act::Sweep { limit: u32::MAX >> 1 } };
        t.store.commit(t.no, all).await.unwrap();
        let mut model = Model::default();
        let mut waiting = Vec::new();
        for step in &steps {
            let change = change(step, &t);
            let expected = model.commit(&change);
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
