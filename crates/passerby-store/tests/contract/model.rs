//! A simple store in memory: what the port's words say, without a thought of speed.

mod rows;

use std::collections::BTreeMap;

use passerby_core::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{
        Item, ItemKind, KeptRow, LookUp, LookUpKind, Mark, NewGuest, Record, RecordKind, Session, Standing, USER_MARK,
        User,
    },
    port::{
        Act, Change, CommitError, Committed, EditProfile, Ending, Half, ItemChange, ManageUser, OperationKey, Turn,
        UserWrite,
    },
};

use crate::support::DAY;

type Rows<V> = BTreeMap<(UserId, [u8; 16]), V>;
type Outcome = Result<Committed, CommitError>;

type Raised = (i32, Option<Box<str>>);

/// One tenant's tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) users: BTreeMap<UserId, User>,
    sessions: Rows<Session>,
    marks: Rows<Timestamp>,
    pub(crate) look_ups: BTreeMap<(i16, [u8; 32]), LookUp>,
    pub(crate) items: BTreeMap<(UserId, ItemKind, [u8; 32]), Item>,
    /// By second and user: the epoch and the chosen id.
    pub(crate) epochs: BTreeMap<(Timestamp, UserId), Raised>,
    keys: BTreeMap<(UserId, [u8; 32]), OperationKey>,
    pub(crate) records: BTreeMap<(RecordKind, [u8; 32]), Record>,
    pub(crate) outbox: BTreeMap<(UserId, i64), KeptRow>,
}

impl Model {
    /// A change is made whole or not at all.
    pub(crate) fn commit(&mut self, tenant: TenantNo, change: &Change) -> Outcome {
        let mut next = self.clone();
        let outcome = next.apply(change);
        if let Ok(done) = &outcome {
            *self = next;
            if !matches!(done, Committed::Profile { replayed: true, .. }) {
                change.out.iter().for_each(|row| self.add_out(tenant, row));
            }
        }
        outcome
    }

    fn apply(&mut self, Change { at, keep, act, .. }: &Change) -> Outcome {
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
            Act::AddUser(new) => {
                let user = &new.user;
                if self.users.insert(user.id, user.clone()).is_some() {
                    return Err(CommitError::Taken);
                }
                if self.marked(user.id, SessionId::from_bytes(USER_MARK), at) {
                    return Err(CommitError::Marked);
                }
                self.items.extend(new.items.iter().map(|i| ((user.id, i.kind, i.id), i.clone())));
                new.look_ups.iter().try_for_each(|row| self.remember(row, at))?;
            }
            Act::Manage(change) => self.manage(change, at)?,
            Act::Turn(turn) => self.turns(&[turn], at)?,
            Act::Turns(all) => {
                let mut all: Vec<_> = all.iter().collect();
                all.sort_by_key(|turn| turn.user);
                self.turns(&all, at)?;
            }
            Act::Records(changes) => changes.iter().try_for_each(|change| self.change_record(change, at))?,
            Act::Settle(all) => all.iter().for_each(|settled| self.settle(settled)),
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
            Act::Erase { user, chosen_id, mark_until, epoch: only } => {
                if only.is_some_and(|only| only != self.users.get(user).map_or(0, |u| u.epoch)) {
                    return Err(CommitError::Gone);
                }
                let (epoch, own_id) = self.users.remove(user).map_or((0, None), |u| (u.epoch, u.chosen_id));
                self.raised(*user, epoch + 1, own_id.or_else(|| chosen_id.clone()), at);
                for (_, kind, id) in self.items.extract_if(.., |(u, ..), _| u == user).map(|(key, _)| key) {
                    let Some(key) = kind.look_up().map(|k| (k.number(), id)) else { continue };
                    let Some(row) = self.look_ups.get_mut(&key).filter(|row| row.user == *user) else { continue };
                    row.ends_at = row.ends_at.min(*mark_until);
                    if row.kind == LookUpKind::Identifier {
                        self.look_ups.remove(&key);
                    }
                }
                self.sessions.retain(|(u, _), _| u != user);
                self.keys.retain(|(u, _), _| u != user);
                self.outbox.retain(|(u, _), _| u != user);
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
                self.records.retain(|_, record| record.ends_at > at);
                self.outbox.retain(|_, kept| kept.row.ends_at > at);
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
        let of_users = self.marks.len() + self.look_ups.len() + self.keys.len() + self.items.len() + self.epochs.len();
        of_users + self.records.len() + self.outbox.len()
    }

    fn raised(&mut self, user: UserId, epoch: i32, chosen_id: Option<Box<str>>, at: Timestamp) {
        let row = self.epochs.entry((Timestamp::from_seconds(at.seconds()), user)).or_insert((epoch, chosen_id));
        row.0 = epoch.max(row.0);
    }

    fn manage(&mut self, change: &ManageUser, at: Timestamp) -> Result<(), CommitError> {
        let user = self.users.get_mut(&change.user).ok_or(CommitError::Gone)?;
        if user.frozen && change.data.is_some() {
            return Err(CommitError::Frozen);
        }
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

    /// What one adds to look-ups comes after all that they remove.
    fn turns(&mut self, all: &[&Turn], at: Timestamp) -> Result<(), CommitError> {
        all.iter().try_for_each(|turn| self.turn(turn, at))?;
        all.iter().flat_map(|turn| &turn.look_ups).try_for_each(|row| self.remember(row, at))?;
        all.iter().flat_map(|turn| &turn.records).try_for_each(|change| self.change_record(change, at))
    }

    /// To the letter: step by step.
    fn turn(&mut self, turn: &Turn, at: Timestamp) -> Result<(), CommitError> {
        let user = turn.user;
        let row = self.users.get_mut(&user).ok_or(CommitError::Gone)?;
        if row.epoch != turn.epoch {
            return Err(CommitError::Moved);
        }
        turn.write.as_ref().map_or(Ok(()), |write| Self::write(row, write, at))?;
        if turn.raise {
            row.epoch += 1;
        }
        let (epoch, chosen_id) = (row.epoch, row.chosen_id.clone());
        if let Some(by) = turn.by {
            self.alive(user, by).ok_or(CommitError::Gone)?;
        }
        for (kind, seen) in &turn.counted {
            if self.items.keys().filter(|(u, k, _)| *u == user && k == kind).count() != *seen {
                return Err(CommitError::Moved);
            }
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
            Ending::ByKey { key, but, also, mark_until } => {
                let of_it = |s: &Session| s.key == Some(*key) || Some(s.id) == *also;
                let all = self.sessions.iter_mut().filter(|((u, _), s)| *u == user && of_it(s) && Some(s.id) != *but);
                let mut ended = Vec::new();
                for (_, s) in all.filter(|(_, s)| s.ended_at.is_none()) {
                    s.ended_at = Some(at);
                    ended.push(s.id);
                }
                for (id, until) in ended.iter().filter_map(|id| Some((id, (*mark_until)?))) {
                    self.mark(user, *id.as_bytes(), until);
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
        Ok(())
    }

    fn write(row: &mut User, write: &UserWrite, at: Timestamp) -> Result<(), CommitError> {
        if row.frozen && !write.thaws {
            return Err(CommitError::Frozen);
        }
        if row.kind != write.was || write.version.is_some_and(|v| v != row.version) {
            return Err(CommitError::Moved);
        }
        if let Some(data) = &write.data {
            row.data = data.clone();
            row.version += 1;
            row.updated_at = at;
        }
        row.converted_at = row.converted_at.or(write.converted_at);
        (row.kind, row.merged_into, row.frozen) = (write.kind, write.merged_into, write.frozen);
        Ok(())
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
            ItemChange::RetireAll { kind, but } => {
                self.items.retain(|(u, k, id), _| *u != user || k != kind || Some(*id) == *but);
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
        if user.frozen {
            return Err(CommitError::Frozen);
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

    pub(crate) fn standing(&self, user: UserId, session: SessionId) -> Standing {
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
    pub(crate) fn of_list(&self, user: UserId) -> Standing {
        Standing { marks: Vec::new(), ..self.standing(user, SessionId::from_bytes([0xee; 16])) }
    }
}
