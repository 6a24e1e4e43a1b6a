//! What a change comes to, given what is there: the same on every engine. An engine reads under the user's lock, plans,
//! and writes the plan; only what others may hold (look-ups, records) is asked while it writes.

use std::{collections::BTreeMap, time::Duration};

use passerby_core::{
    Timestamp,
    id::{SessionId, UserId},
    model::{Item, ItemKind, Kind, LookUp, OutRow, OutState, RecordKind, Session},
    port::{
        Act, Change, CommitError, ENDED_STAY, Ending, ItemChange, ManageUser, RecordChange, Settled, StoreError, Turn,
        UserWrite,
    },
};

/// An item's key beside the user's.
pub(crate) type ItemKey = (ItemKind, [u8; 32]);

/// What is known of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    /// When it ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// The device key that it hangs on.
    pub(crate) key: Option<[u8; 32]>,
}

/// What a turn must know of its user's row.
#[derive(Debug)]
pub(crate) struct UserRow {
    /// The epoch.
    pub(crate) epoch: i32,
    /// The version of the profile.
    pub(crate) version: i64,
    /// Guest or account.
    pub(crate) kind: Kind,
    /// A merge waits.
    pub(crate) frozen: bool,
    /// The id that its caller chose.
    pub(crate) chosen_id: Option<Box<str>>,
}

/// What a turn's user has.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The user's row, where there is one.
    pub(crate) user: Option<UserRow>,
    /// Sessions: at least those of [`sessions_of`].
    pub(crate) sessions: BTreeMap<SessionId, Stay>,
    /// Revisions and ends of all items; none are needed where the turn does not [ask](asks_items) for them.
    pub(crate) items: BTreeMap<ItemKey, (i32, Timestamp)>,
}

/// What is to be written of one user, all of it under the user's lock.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// Whose.
    pub(crate) user: UserId,
    /// The epoch after it was raised.
    pub(crate) epoch: Option<i32>,
    /// The id that the user's caller chose.
    pub(crate) chosen_id: Option<Box<str>>,
    /// What changes of the user's own row.
    pub(crate) write: Option<&'a UserWrite>,
    /// Sessions that end now, none of which has ended.
    pub(crate) end: Vec<SessionId>,
    /// Sessions that are marked until then.
    pub(crate) marks: Vec<(SessionId, Timestamp)>,
    /// A session that is opened, after old ones were removed.
    pub(crate) open: Option<&'a Session>,
    /// A session's key, and whether it is bound to it.
    pub(crate) bind: Option<(SessionId, Option<[u8; 32]>, bool)>,
    /// Items to write, whatever is there, or to remove.
    pub(crate) items: BTreeMap<ItemKey, Option<&'a Item>>,
}

/// Look-ups by kind and hash: this order is the one in which all changes lock them.
pub(crate) type LookUps<'a> = BTreeMap<(i16, [u8; 32]), LookUpStep<'a>>;

/// What becomes of a look-up; the first step first.
#[derive(Debug, Default)]
pub(crate) struct LookUpStep<'a> {
    /// It is removed where it leads to one of these.
    pub(crate) remove: Vec<UserId>,
    /// It is added; refused with `Taken` where one is alive.
    pub(crate) add: Option<&'a LookUp>,
}

/// What turns come to, all of them or none.
#[derive(Debug)]
pub(crate) struct Plans<'a> {
    /// User by user.
    pub(crate) users: Vec<Plan<'a>>,
    /// What becomes of look-ups, whoever's they are.
    pub(crate) look_ups: LookUps<'a>,
    /// Records [in order](in_order).
    pub(crate) records: Vec<&'a RecordChange>,
}

/// The sessions that a turn concerns.
#[derive(Debug)]
pub(crate) struct Concerned<'a> {
    /// These.
    pub(crate) named: Vec<SessionId>,
    /// All that have not ended.
    pub(crate) all: bool,
    /// All that have not ended and hang on this key.
    pub(crate) by_key: Option<&'a [u8; 32]>,
}

/// Which sessions an engine must read for a turn.
pub(crate) fn sessions_of(turn: &Turn) -> Concerned<'_> {
    let (ended, also, all, by_key) = match &turn.end {
        Ending::Some(list) => (list.as_slice(), None, false, None),
        Ending::ByKey { key, also, .. } => (&[][..], *also, false, Some(key)),
        Ending::All { .. } => (&[][..], None, true, None),
    };
    let one = [turn.by, turn.open.as_ref().map(|s| s.id), turn.bind.map(|(id, ..)| id), also];
    let named = one.into_iter().flatten().chain(ended.iter().map(|(id, _)| *id)).collect();
    Concerned { named, all, by_key }
}

/// Whether an engine must read the user's items for a turn.
pub(crate) fn asks_items(turn: &Turn) -> bool {
    !turn.items.is_empty() || !turn.counted.is_empty()
}

/// Turns in the order in which their users are locked, and in which they are decided.
pub(crate) fn by_user(turns: &[Turn]) -> Vec<&Turn> {
    let mut all: Vec<_> = turns.iter().collect();
    all.sort_by_key(|turn| turn.user);
    all
}

/// Decides turns, one after the other; what they add to look-ups comes after all that they remove.
pub(crate) fn turns<'a>(
    turns: impl Iterator<Item = (&'a Turn, Before)>,
    at: Timestamp,
) -> Result<Plans<'a>, CommitError> {
    let (mut users, mut look_ups, mut all): (Vec<Plan<'a>>, _, Vec<&'a Turn>) =
        (Vec::new(), LookUps::new(), Vec::new());
    for (one, before) in turns {
        if all.iter().any(|other| other.user == one.user) {
            return Err(StoreError::Bug("two turns of one user in one change".into()).into());
        }
        users.push(turn(one, at, before, &mut look_ups)?);
        all.push(one);
    }
    for row in all.iter().flat_map(|turn| &turn.look_ups) {
        let step = look_ups.entry((row.kind.number(), row.hash)).or_default();
        if step.add.is_some_and(|earlier| earlier.ends_at > at) {
            return Err(CommitError::Taken);
        }
        step.add = Some(row);
    }
    Ok(Plans { users, look_ups, records: in_order(all.iter().flat_map(|turn| &turn.records)) })
}

/// Changes of records in the order in which all changes lock them; those of one record as they came.
pub(crate) fn in_order<'a>(changes: impl IntoIterator<Item = &'a RecordChange>) -> Vec<&'a RecordChange> {
    let mut all: Vec<_> = changes.into_iter().collect();
    all.sort_by_key(|change| record_key(change));
    all
}

/// The key of a record beside the tenant's.
pub(crate) fn record_key(change: &RecordChange) -> (RecordKind, [u8; 32]) {
    match change {
        RecordChange::Put { record, .. } => (record.kind, record.id),
        RecordChange::Remove { kind, id, .. } => (*kind, *id),
    }
}

/// Whether the user may be written so.
fn check_write(write: &UserWrite, row: &UserRow) -> Result<(), CommitError> {
    if row.frozen && !write.thaws {
        return Err(CommitError::Frozen);
    }
    if row.kind != write.was || write.version.is_some_and(|seen| seen != row.version) {
        return Err(CommitError::Moved);
    }
    Ok(())
}

/// Decides a turn step by step: the user's row first, then the members in their order.
fn turn<'a>(
    turn: &'a Turn,
    at: Timestamp,
    before: Before,
    look_ups: &mut LookUps<'a>,
) -> Result<Plan<'a>, CommitError> {
    let Before { user, mut sessions, items } = before;
    let row = user.ok_or(CommitError::Gone)?;
    if row.epoch != turn.epoch {
        return Err(CommitError::Moved);
    }
    turn.write.as_ref().map_or(Ok(()), |write| check_write(write, &row))?;
    let alive = |sessions: &BTreeMap<_, Stay>, id| sessions.get(&id).is_some_and(|s| s.ended_at.is_none());
    if turn.by.is_some_and(|id| !alive(&sessions, id)) {
        return Err(CommitError::Gone);
    }
    if turn.counted.iter().any(|(kind, seen)| items.keys().filter(|(k, _)| k == kind).count() != *seen) {
        return Err(CommitError::Moved);
    }
    let mut plan = Plan {
        user: turn.user,
        epoch: turn.raise.then(|| row.epoch.saturating_add(1)),
        chosen_id: row.chosen_id,
        write: turn.write.as_ref(),
        end: Vec::new(),
        marks: Vec::new(),
        open: None,
        bind: turn.bind,
        items: BTreeMap::new(),
    };
    match &turn.end {
        Ending::Some(list) => {
            plan.end.extend(list.iter().map(|(id, _)| *id).filter(|id| alive(&sessions, *id)));
            plan.marks.extend(list.iter().filter_map(|(id, until)| Some((*id, (*until)?))));
        }
        Ending::ByKey { key, but, also, mark_until } => {
            let hanging = sessions.iter().filter(|(id, s)| s.key.as_ref() == Some(key) || Some(**id) == *also);
            plan.end.extend(hanging.map(|(id, _)| *id).filter(|id| alive(&sessions, *id) && Some(*id) != *but));
            plan.marks.extend(mark_until.iter().flat_map(|until| plan.end.iter().map(|id| (*id, *until))));
        }
        Ending::All { but } => {
            plan.end.extend(sessions.keys().copied().filter(|id| alive(&sessions, *id) && Some(*id) != *but));
        }
    }
    for id in &plan.end {
        if let Some(stay) = sessions.get_mut(id) {
            stay.ended_at = Some(at);
        }
    }
    if let Some(session) = turn.open.as_deref() {
        let old = at.minus(ENDED_STAY);
        sessions.retain(|_, stay| stay.ended_at.is_none_or(|e| e >= old));
        if sessions.insert(session.id, Stay { ended_at: session.ended_at, key: session.key }).is_some() {
            return Err(CommitError::Moved);
        }
        plan.open = Some(session);
    }
    if turn.bind.is_some_and(|(id, ..)| !alive(&sessions, id)) {
        return Err(CommitError::Gone);
    }
    plan.change_items(&turn.items, at, items, look_ups)?;
    Ok(plan)
}

impl<'a> Plan<'a> {
    fn change_items(
        &mut self,
        changes: &'a [ItemChange],
        at: Timestamp,
        mut there: BTreeMap<ItemKey, (i32, Timestamp)>,
        look_ups: &mut LookUps<'a>,
    ) -> Result<(), CommitError> {
        for change in changes {
            match change {
                ItemChange::Put { item, was } => {
                    let key = (item.kind, item.id);
                    let fits = match (there.get(&key), was) {
                        (None, None) => true,
                        (Some((_, ends_at)), None) => *ends_at <= at,
                        (Some((revision, _)), Some(was)) => revision == was,
                        (None, Some(_)) => false,
                    };
                    if !fits {
                        return Err(CommitError::Moved);
                    }
                    there.insert(key, (item.revision, item.ends_at));
                    self.items.insert(key, Some(item));
                }
                ItemChange::Remove { kind, id, was } => {
                    let key = (*kind, *id);
                    if there.remove(&key).is_none_or(|(revision, _)| revision != *was) {
                        return Err(CommitError::Moved);
                    }
                    self.items.insert(key, None);
                    self.forget(key, look_ups);
                }
                ItemChange::RemoveAll { kind, but } | ItemChange::RetireAll { kind, but } => {
                    let retires = matches!(change, ItemChange::RetireAll { .. });
                    there.retain(|key, _| {
                        let stays = key.0 != *kind || Some(key.1) == *but;
                        if !stays {
                            self.items.insert(*key, None);
                        }
                        if !stays && !retires {
                            self.forget(*key, look_ups);
                        }
                        stays
                    });
                }
            }
        }
        Ok(())
    }

    /// The look-up of an item goes with it.
    fn forget(&self, (kind, id): ItemKey, look_ups: &mut LookUps<'a>) {
        if let Some(kind) = kind.look_up() {
            look_ups.entry((kind.number(), id)).or_default().remove.push(self.user);
        }
    }
}

/// What a back end's change writes; `None` stays as it is.
#[derive(Debug)]
pub(crate) struct Managed {
    /// The new `data`.
    pub(crate) data: Option<Box<str>>,
    /// The new `server_data`; the empty object is to be kept as none.
    pub(crate) server_data: Option<Box<str>>,
}

/// What of a user's row a back end's change is decided by.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    /// The version of both.
    pub(crate) version: i64,
    /// The user's own.
    pub(crate) data: &'a str,
    /// The back end's.
    pub(crate) server_data: Option<&'a str>,
    /// A merge waits: it decided by `data`, which stays.
    pub(crate) frozen: bool,
}

/// Decides what a back end changes of a user's objects.
pub(crate) fn manage(change: &ManageUser, there: &Objects<'_>) -> Result<Managed, CommitError> {
    let Objects { version, data, server_data, frozen } = *there;
    if frozen && change.data.is_some() {
        return Err(CommitError::Frozen);
    }
    if change.if_match.is_some_and(|v| v != version) {
        return Err(CommitError::Version(version));
    }
    let limits = &change.limits;
    let data = change.data.as_ref().map(|edit| edit.apply(data, limits, change.schema.as_ref()));
    let server_data = change.server_data.as_ref().map(|edit| edit.apply(server_data.unwrap_or("{}"), limits, None));
    let data = data.transpose().map_err(CommitError::Edit)?;
    let server_data = server_data.transpose().map_err(CommitError::Edit)?;
    Ok(Managed { data, server_data })
}

impl Managed {
    /// Whether one of the objects was edited: then the version rises.
    pub(crate) fn is_edited(&self) -> bool {
        self.data.is_some() || self.server_data.is_some()
    }
}

/// What a row of the outbox begins as: one that has nowhere to go is done.
pub(crate) fn first_state(row: &OutRow) -> OutState {
    if row.due_at.is_some() { OutState::Waiting } else { OutState::Done }
}

/// When a settled row is tried again. In the tables a row waits if and only if it has such a moment.
pub(crate) fn waits_until(settled: &Settled) -> Option<Timestamp> {
    settled.due_at.filter(|_| settled.state == OutState::Waiting)
}

/// A change that raises an epoch is made within this time after it was committed, all tries together, or not at all:
/// whoever follows the raised epochs asks for them again for only so long after their moment.
pub(crate) const EPOCHS: Duration = Duration::from_secs(8);

/// Whether the change writes a row of `epochs`.
pub(crate) fn raises_an_epoch(change: &Change) -> bool {
    match &change.act {
        Act::Turn(turn) => turn.raise,
        Act::Turns(turns) => turns.iter().any(|turn| turn.raise),
        Act::Erase { .. } => true,
        _ => false,
    }
}

/// The moment under which a raised epoch is kept.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_raised_epoch_is_enough() {
        let user = |n| Turn::of(UserId::from_bytes([n; 16]), 0);
        let raises = |act| raises_an_epoch(&Change { at: Timestamp::MAX, keep: None, act, out: Vec::new() });
        assert!(!raises(Act::Turns(vec![user(1), user(2)])));
        assert!(raises(Act::Turns(vec![user(1), Turn { raise: true, ..user(2) }])));
    }
}
