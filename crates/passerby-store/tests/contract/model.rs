//! Random sequences of acts against a simple store in memory: it keeps the engines equal to the port's words, and so to
//! each other.

use std::{collections::BTreeMap, sync::Arc};

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{Item, ItemKind, LookUp, LookUpKind, Mark, NewGuest, Session, Standing, USER_MARK, User},
    port::{
        Act, Change, CommitError, Committed, EditProfile, Ending, Half, ItemChange, ManageUser, OperationKey, Store,
        Touch, Turn,
    },
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use uuid::Uuid;

use crate::support::{DAY, Harness, Tenant, at, edit, increment, limits, merge, operations, within, word};

type Rows<V> = BTreeMap<(UserId, [u8; 16]), V>;
type Outcome = Result<Committed, CommitError>;

/// One tenant's tables.
#[derive(Debug, Clone, Default)]
struct Model {
    users: BTreeMap<UserId, User>,
    sessions: Rows<Session>,
    marks: Rows<Timestamp>,
    look_ups: BTreeMap<(i16, [u8; 32]), LookUp>,
    items: BTreeMap<(UserId, ItemKind, [u8; 32]), Item>,
    /// By second and user: the epoch and the chosen id.
    epochs: BTreeMap<(Timestamp, UserId), (i32, Option<Box<str>>)>,
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
            Act::Create(guest, look_ups) => {
                look_ups.iter().try_for_each(|row| self.remember(row, at))?;
                self.create(guest)?;
            }
            Act::CreateChosen(guest, look_ups) => {
                self.create(guest)?;
                if self.marked(guest.user.id, guest.session.id, at) {
                    return Err(CommitError::Marked);
                }
                look_ups.iter().try_for_each(|row| self.remember(row, at))?;
            }
            Act::AddUser(user) => {
                if self.users.insert(user.id, (**user).clone()).is_some() {
                    return Err(CommitError::Taken);
                }
                if self.marked(user.id, SessionId::from_bytes(USER_MARK), at) {
                    return Err(CommitError::Marked);
                }
            }
            Act::Manage(change) => self.manage(change, at)?,
            Act::Turn(turn) => self.turn(turn, at)?,
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
                let (epoch, chosen_id) = self.users.remove(user).map_or((0, None), |u| (u.epoch, u.chosen_id));
                self.raised(*user, epoch + 1, chosen_id, at);
                for (_, kind, id) in self.items.extract_if(.., |(u, ..), _| u == user).map(|(key, _)| key) {
                    let row = kind.look_up().and_then(|k| self.look_ups.get_mut(&(k.number(), id)));
                    if let Some(row) = row.filter(|row| row.user == *user) {
                        row.ends_at = row.ends_at.min(*mark_until);
                    }
                }
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
            Act::Sweep { epochs_before, .. } => {
                let before = self.swept_rows();
                self.marks.retain(|_, ends_at| *ends_at > at);
                self.look_ups.retain(|_, row| row.ends_at > at);
                self.keys.retain(|_, key| key.ends_at > at);
                self.items.retain(|_, item| item.ends_at > at);
                self.epochs.retain(|(second, _), _| second >= epochs_before);
                return Ok(Committed::Swept((before - self.swept_rows()) as u64));
            }
            Act::Keep => {}
            Act::AddSigningKey(_)
            | Act::RemoveSigningKey(_)
            | Act::PutApiKey { .. }
            | Act::RemoveApiKey(_)
            | Act::TouchApiKeys(_)
            | Act::SetMeta(..)
            | Act::InitMeta(..) => {
                unreachable!("not made here")
            }
        }
        Ok(Committed::Done)
    }

    fn swept_rows(&self) -> usize {
        self.marks.len() + self.look_ups.len() + self.keys.len() + self.items.len() + self.epochs.len()
    }

    fn raised(&mut self, user: UserId, epoch: i32, chosen_id: Option<Box<str>>, at: Timestamp) {
        let row = self.epochs.entry((Timestamp::from_seconds(at.seconds()), user)).or_insert((epoch, chosen_id));
        row.0 = epoch.max(row.0);
    }

    fn manage(&mut self, change: &ManageUser, at: Timestamp) -> Result<(), CommitError> {
        let user = self.users.get_mut(&change.user).ok_or(CommitError::Gone)?;
        if change.if_match.is_some_and(|v| v != user.version) {
            return Err(CommitError::Version(user.version));
        }
        if let Some(edit) = &change.data {
            user.data = edit.apply(&user.data, &change.limits, change.schema.as_ref()).map_err(CommitError::Edit)?;
        }
        if let Some(edit) = &change.server_data {
            let current = user.server_data.take().unwrap_or_else(|| "{}".into());
            let text = edit.apply(&current, &change.limits, None).map_err(CommitError::Edit)?;
            user.server_data = Some(text).filter(|text| &**text != "{}");
        }
        if change.data.is_some() || change.server_data.is_some() {
            user.version += 1;
            user.updated_at = at;
        }
        user.held = change.held.unwrap_or(user.held);
        Ok(())
    }

    /// To the letter: step by step.
    fn turn(&mut self, turn: &Turn, at: Timestamp) -> Result<(), CommitError> {
        let user = turn.user;
        let row = self.users.get_mut(&user).ok_or(CommitError::Gone)?;
        if row.epoch != turn.epoch {
            return Err(CommitError::Moved);
        }
        if turn.raise {
            row.epoch += 1;
        }
        let (epoch, chosen_id) = (row.epoch, row.chosen_id.clone());
        if let Some(by) = turn.by {
            self.alive(user, by).ok_or(CommitError::Gone)?;
        }
        if turn.raise {
            self.raised(user, epoch, chosen_id, at);
        }
        match &turn.end {
            Ending::Some(list) => {
                for (session, until) in list {
                    if let Some(row) = self.alive(user, *session) {
                        row.ended_at = Some(at);
                    }
                    if let Some(until) = until {
                        self.mark(user, *session.as_bytes(), *until);
                    }
                }
            }
            Ending::All { but } => {
                let all = self.sessions.iter_mut().filter(|((u, _), s)| *u == user && Some(s.id) != *but);
                all.for_each(|(_, s)| s.ended_at = s.ended_at.or(Some(at)));
            }
        }
        if let Some(session) = &turn.open {
            let day_ago = Timestamp::from_millis(at.millis() - DAY);
            self.sessions.retain(|(u, _), s| *u != user || s.ended_at.is_none_or(|e| e >= day_ago));
            self.add_session(user, session).map_err(|_| CommitError::Moved)?;
        }
        if let Some((session, key, bound)) = turn.bind {
            let row = self.alive(user, session).ok_or(CommitError::Gone)?;
            (row.key, row.bound) = (key, bound);
        }
        for change in &turn.items {
            self.change_item(user, change, at)?;
        }
        turn.look_ups.iter().try_for_each(|row| self.remember(row, at))
    }

    fn change_item(&mut self, user: UserId, change: &ItemChange, at: Timestamp) -> Result<(), CommitError> {
        match change {
            ItemChange::Put { item, was } => {
                let key = (user, item.kind, item.id);
                let there = self.items.get(&key);
                let seen = there.filter(|i| was.is_some() || i.ends_at > at).map(|i| i.revision);
                if seen != *was {
                    return Err(CommitError::Moved);
                }
                self.items.insert(key, item.clone());
            }
            ItemChange::Remove { kind, id, was } => {
                let removed = self.items.remove(&(user, *kind, *id));
                removed.filter(|i| i.revision == *was).ok_or(CommitError::Moved)?;
                self.forget(user, *kind, *id);
            }
            ItemChange::RemoveAll { kind, but } => {
                let all = self.items.keys().filter(|(u, k, id)| *u == user && k == kind && Some(*id) != *but);
                for key in all.copied().collect::<Vec<_>>() {
                    self.items.remove(&key);
                    self.forget(user, *kind, key.2);
                }
            }
        }
        Ok(())
    }

    /// The look-up of an item goes with it, unless it leads to somebody else.
    fn forget(&mut self, user: UserId, kind: ItemKind, id: [u8; 32]) {
        if let Some(kind) = kind.look_up() {
            self.look_ups.retain(|key, row| *key != (kind.number(), id) || row.user != user);
        }
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
        self.items.extend(guest.items.iter().map(|i| ((guest.user.id, i.kind, i.id), i.clone())));
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

    /// As a list has it: without marks.
    fn of_list(&self, user: UserId) -> Standing {
        Standing { marks: Vec::new(), ..self.standing(user, SessionId::from_bytes([0xee; 16])) }
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
    /// Chooses among what a turn may do.
    turn: [u8; 6],
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..40i64, 0..3u8, 0..3u8, prop::bool::weighted(0.2), 0..24u8, 0..4u8, any::<bool>(), any::<[u8; 6]>());
    let step = step.prop_map(|(quarter_hours, user, session, keep, act, n, flag, turn)| Step {
        // some pairs lie more than a day apart
        ms: quarter_hours * DAY / 16,
        user,
        session,
        keep,
        act,
        n,
        flag,
        turn,
    });
    vec(step, 1..40)
}

/// Ids are the same for every tenant; a session's id holds its user's number, as ids of ours never meet.
fn ids(step: &Step) -> (UserId, SessionId) {
    let id =
        |a: u8, b: u8| Uuid::from_u128(0x018f_2d5e_0000_7abc_8def_0000_0000_0000 | u128::from(a) << 8 | u128::from(b));
    (UserId::from(id(step.user, 0xff)), SessionId::from(id(step.user, step.session)))
}

const KINDS: [ItemKind; 4] = [ItemKind::DeviceKey, ItemKind::HandOff, ItemKind::Recovery, ItemKind::Notice];

/// A turn that fits the model more often than not.
fn turn(step: &Step, t: &Tenant, model: &Model) -> Turn {
    let (user, session) = ids(step);
    let Step { ms, n, flag, turn: [a, b, c, d, e, f], .. } = *step;
    let until = at(ms + i64::from(n) * DAY / 4);
    let mut turn = Turn::of(user, model.users.get(&user).map_or(0, |u| u.epoch) + i32::from(a % 16 == 0));
    turn.by = (a / 16 < 4).then_some(session);
    turn.raise = b % 4 == 0;
    let other = |n| ids(&Step { session: n % 4, ..step.clone() }).1;
    turn.end = match b / 4 % 6 {
        0 => Ending::All { but: flag.then_some(session) },
        1 | 2 => Ending::Some(vec![(session, flag.then_some(until)), (other(n), Some(until))]),
        _ => Ending::Some(Vec::new()),
    };
    turn.open = (c % 3 == 0).then(|| {
        let mut opened = t.session();
        opened.id = other(c / 3);
        opened.key = flag.then_some([c; 32]);
        Box::new(opened)
    });
    turn.bind = (c / 64 == 3).then(|| (other(n), flag.then_some([d; 32]), flag));
    for (nth, choice) in [d, e].into_iter().enumerate() {
        let (kind, id) = (KINDS[usize::from(choice % 4)], [(n + nth as u8) % 4; 32]);
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
            _ => None,
        });
    }
    for nth in 0..f % 3 {
        let kind = KINDS[usize::from(f / 3 % 3)].look_up().expect("a kind that is found");
        let (hash, ends_at) = ([(n + nth) % 4; 32], at(ms + DAY / 2));
        turn.look_ups.push(LookUp { kind, hash, user, session, body: [f; 32], ends_at });
    }
    turn
}

fn manage(step: &Step) -> Box<ManageUser> {
    let Step { n, flag, turn: [a, b, ..], .. } = *step;
    let patch = |choice: u8| match choice % 5 {
        0 => Some(Arc::new(merge("{\"s\":1}"))),
        1 => Some(Arc::new(merge("{\"s\":null,\"n\":null}"))),
        2 => Some(Arc::new(operations(r#"[{"op":"increment","path":"/n","by":1}]"#))),
        _ => None,
    };
    Box::new(ManageUser {
        user: ids(step).0,
        if_match: (n == 3).then_some(2),
        data: patch(a),
        server_data: patch(b),
        held: (a > 127).then_some(flag),
        limits: Arc::new(limits()),
        schema: None,
    })
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
            let (kind, ends_at) = (KINDS[usize::from(n)], if flag { Timestamp::MAX } else { until });
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
        15 => Act::Sweep { limit: 10_000, epochs_before: at(ms - DAY / 2) },
        16 => Act::AddUser(Box::new(guest(chosen).user)),
        17 => Act::Manage(manage(step)),
        _ => Act::Turn(Box::new(turn(step, t, model))),
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
            let step = Step { ms: 0, user, session, keep: false, act: 0, n: 0, flag: false, turn: [0; 6] };
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
        let all = Change { at: never, keep: None, act: Act::Sweep { limit: u32::MAX >> 1, epochs_before: never } };
        t.store.commit(t.no, all).await.unwrap();
        let mut model = Model::default();
        let mut waiting = Vec::new();
        for step in &steps {
            let change = change(step, &t, &model);
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
