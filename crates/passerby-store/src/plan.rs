//! What a change comes to, given what is there: the same on every engine. An engine reads under the user's lock, plans,
//! and writes the plan; only what other users may hold (look-ups) is asked while it writes.

use std::{collections::BTreeMap, time::Duration};

use passerby_core::{
    Timestamp,
    id::SessionId,
    model::{Item, ItemKind, LookUp, Session},
    port::{Act, Change, CommitError, ENDED_STAY, Ending, ItemChange, ManageUser, Turn},
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

/// What a turn's user has.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The user's epoch; `None`: there is no row.
    pub(crate) epoch: Option<i32>,
    /// Sessions: at least those of [`sessions_of`].
    pub(crate) sessions: BTreeMap<SessionId, Stay>,
    /// Revisions and ends of all items; none are needed where the turn does not [ask](asks_items) for them.
    pub(crate) items: BTreeMap<ItemKey, (i32, Timestamp)>,
}

/// What is to be written, all of it under the user's lock.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// The epoch after it was raised.
    pub(crate) epoch: Option<i32>,
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
    /// Look-ups by kind and hash: this order is the one in which all changes lock them.
    pub(crate) look_ups: BTreeMap<(i16, [u8; 32]), LookUpStep<'a>>,
}

/// What becomes of a look-up; the first step first.
#[derive(Debug, Default)]
pub(crate) struct LookUpStep<'a> {
    /// It is removed where it leads to the turn's user.
    pub(crate) remove: bool,
    /// It is added; refused with `Taken` where one is alive.
    pub(crate) add: Option<&'a LookUp>,
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

/// Decides a turn, step by step in the order of its members.
pub(crate) fn turn(turn: &Turn, at: Timestamp, before: Before) -> Result<Plan<'_>, CommitError> {
    let Before { epoch, mut sessions, items } = before;
    let epoch = epoch.ok_or(CommitError::Gone)?;
    if epoch != turn.epoch {
        return Err(CommitError::Moved);
    }
    let alive = |sessions: &BTreeMap<_, Stay>, id| sessions.get(&id).is_some_and(|s| s.ended_at.is_none());
    if turn.by.is_some_and(|id| !alive(&sessions, id)) {
        return Err(CommitError::Gone);
    }
    if turn.counted.iter().any(|(kind, seen)| items.keys().filter(|(k, _)| k == kind).count() != *seen) {
        return Err(CommitError::Moved);
    }
    let mut plan = Plan { epoch: turn.raise.then(|| epoch.saturating_add(1)), ..Plan::default() };
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
    plan.bind = turn.bind;
    plan.change_items(&turn.items, at, items)?;
    for row in &turn.look_ups {
        let step = plan.look_ups.entry((row.kind.number(), row.hash)).or_default();
        if step.add.is_some_and(|earlier| earlier.ends_at > at) {
            return Err(CommitError::Taken);
        }
        step.add = Some(row);
    }
    Ok(plan)
}

impl<'a> Plan<'a> {
    fn change_items(
        &mut self,
        changes: &'a [ItemChange],
        at: Timestamp,
        mut there: BTreeMap<ItemKey, (i32, Timestamp)>,
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
                    self.remove_item(key);
                }
                ItemChange::RemoveAll { kind, but } => {
                    there.retain(|key, _| {
                        let stays = key.0 != *kind || Some(key.1) == *but;
                        if !stays {
                            self.remove_item(*key);
                        }
                        stays
                    });
                }
            }
        }
        Ok(())
    }

    fn remove_item(&mut self, key: ItemKey) {
        self.items.insert(key, None);
        if let Some(kind) = key.0.look_up() {
            self.look_ups.entry((kind.number(), key.1)).or_default().remove = true;
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

/// Decides what a back end changes of a user's objects.
pub(crate) fn manage(
    change: &ManageUser,
    version: i64,
    data: &str,
    server_data: Option<&str>,
) -> Result<Managed, CommitError> {
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

/// A change that raises an epoch is made within this time after it was committed, all tries together, or not at all:
/// whoever follows the raised epochs asks for them again for only so long after their moment.
pub(crate) const EPOCHS: Duration = Duration::from_secs(8);

/// Whether the change writes a row of `epochs`.
pub(crate) fn raises_an_epoch(change: &Change) -> bool {
    match &change.act {
        Act::Turn(turn) => turn.raise,
        Act::Erase { .. } => true,
        _ => false,
    }
}

/// The moment under which a raised epoch is kept.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds())
}
