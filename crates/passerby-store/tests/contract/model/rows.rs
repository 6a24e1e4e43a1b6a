//! Records and the outbox.

use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::{KeptRow, OutRow, OutState, Record, RecordKind, Target},
    port::{CommitError, RecordChange, Settled},
};

use super::Model;

impl Model {
    pub(super) fn change_record(&mut self, change: &RecordChange, at: Timestamp) -> Result<(), CommitError> {
        match change {
            RecordChange::Put { record, was } => {
                let key = (record.kind, record.id);
                let there = self.records.get(&key);
                let seen = there.filter(|r| was.is_some() || r.ends_at > at).map(|r| r.revision);
                if seen != *was {
                    return Err(CommitError::Moved);
                }
                self.records.insert(key, record.clone());
            }
            RecordChange::Remove { kind, id, was } => {
                let removed = self.records.remove(&(*kind, *id));
                removed.filter(|r| r.revision == *was).ok_or(CommitError::Moved)?;
            }
        }
        Ok(())
    }

    pub(super) fn add_out(&mut self, tenant: TenantNo, row: &OutRow) {
        let last = self.outbox.keys().filter(|(user, _)| *user == row.user).map(|(_, seq)| *seq).max();
        let seq = last.unwrap_or_default() + 1;
        let state = if row.due_at.is_some() { OutState::Waiting } else { OutState::Done };
        self.outbox.insert((row.user, seq), KeptRow { tenant, seq, row: row.clone(), state, tries: 0 });
    }

    pub(super) fn settle(&mut self, s: &Settled) {
        let Some(kept) = self.outbox.get_mut(&(s.user, s.seq)).filter(|kept| kept.row.id == s.id) else { return };
        if (kept.state, kept.tries) != s.was {
            return;
        }
        (kept.state, kept.tries, kept.row.ends_at) = (s.state, s.tries, s.ends_at);
        kept.row.due_at = if s.state == OutState::Waiting { s.due_at } else { None };
        if let Some(body) = &s.body {
            kept.row.body.clone_from(body);
        }
    }

    pub(crate) fn records_of(&self, kind: RecordKind) -> Vec<Record> {
        self.records.values().filter(|r| r.kind == kind).cloned().collect()
    }

    /// Newest first.
    pub(crate) fn kept_rows(&self) -> Vec<KeptRow> {
        let mut all: Vec<_> = self.outbox.values().cloned().collect();
        all.sort_by_key(|kept| std::cmp::Reverse((kept.row.at, kept.row.id)));
        all
    }

    pub(crate) fn due_rows(&self, now: Timestamp, target: Target) -> Vec<KeptRow> {
        let waits = |kept: &KeptRow| kept.state == OutState::Waiting && kept.row.due_at.is_some();
        let blocks = |first: &KeptRow, then: &KeptRow| {
            let same = first.row.user == then.row.user && first.row.lane == then.row.lane;
            same && first.seq < then.seq && waits(first) && first.row.ends_at > now
        };
        let all: Vec<_> = self.outbox.values().collect();
        let due = |kept: &&&KeptRow| {
            waits(kept) && kept.row.target == target && kept.row.due_at.is_some_and(|due| due <= now)
        };
        let free = |kept: &&&KeptRow| kept.row.ends_at <= now || !all.iter().any(|first| blocks(first, kept));
        let mut due: Vec<KeptRow> = all.iter().filter(due).filter(free).map(|kept| (*kept).clone()).collect();
        due.sort_by_key(|kept| (kept.row.due_at, kept.row.user, kept.seq));
        due
    }
}
