//! What is under way in this process: each row once, and of each way only so many.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::{KeptRow, Target};

/// So many of a way are under way at once.
const AT_ONCE: usize = 8;

#[derive(Default)]
struct Inner {
    taken: HashMap<[u8; 16], Target>,
    /// Somebody reads what is due.
    reading: bool,
    /// Somebody else wanted to meanwhile.
    again: bool,
    /// What was given back since the reading began: it may have been read as it was before.
    left: HashSet<[u8; 16]>,
}

/// The places of all ways.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Inner>>);

/// A row that is under way; until this is dropped nobody else takes it.
pub(super) struct Place {
    places: Places,
    id: [u8; 16],
}

/// The one who reads what is due.
pub(super) struct Reading(Places);

impl Places {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read. `None`: somebody else does, and will once more.
    pub(super) fn read(&self) -> Option<Reading> {
        let mut inner = self.lock();
        if inner.reading {
            inner.again = true;
            return None;
        }
        inner.reading = true;
        Some(Reading(self.clone()))
    }
}

impl Reading {
    /// How many more of a way may be taken.
    pub(super) fn free(&self, way: Target) -> usize {
        AT_ONCE.saturating_sub(self.0.lock().taken.values().filter(|w| **w == way).count())
    }

    /// How many are under way or due.
    pub(super) fn waiting(&self, due: &[KeptRow]) -> usize {
        let inner = self.0.lock();
        inner.taken.len() + due.iter().filter(|row| !inner.taken.contains_key(&row.row.id)).count()
    }

    /// Takes those that are not under way, as many as may be.
    pub(super) fn take(&self, rows: Vec<KeptRow>) -> Vec<(KeptRow, Place)> {
        let free = |row: &KeptRow| self.free(row.row.target) > 0;
        let mut taken = Vec::new();
        for row in rows {
            let id = row.row.id;
            if !free(&row) {
                continue;
            }
            let mut inner = self.0.lock();
            if inner.left.contains(&id) || inner.taken.contains_key(&id) {
                continue;
            }
            inner.taken.insert(id, row.row.target);
            drop(inner);
            taken.push((row, Place { places: self.0.clone(), id }));
        }
        taken
    }

    /// Ends it. `true`: somebody else wanted to read meanwhile, so it is to be done again.
    pub(super) fn end(self) -> bool {
        std::mem::take(&mut self.0.lock().again)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.reading = false;
        inner.left.clear();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.places.lock();
        inner.taken.remove(&self.id);
        if inner.reading {
            inner.left.insert(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        id::{TenantNo, UserId},
        model::{OutRow, OutState},
    };

    fn row(n: u8, target: Target) -> KeptRow {
        let row = OutRow {
            id: [n; 16],
            user: UserId::from_bytes([0; 16]),
            name: "".into(),
            at: Timestamp::default(),
            target,
            lane: [0; 16],
            due_at: Some(Timestamp::default()),
            ends_at: Timestamp::MAX,
            body: [].into(),
        };
        KeptRow { tenant: TenantNo(1), seq: n.into(), row, state: OutState::Waiting, tries: 0 }
    }

    #[test]
    fn each_row_once_and_eight_of_a_way() {
        let places = Places::default();
        let reading = places.read().unwrap();
        let mails = |from: u8| (from..from + 10).map(|n| row(n, Target::Mail)).collect::<Vec<_>>();
        let first = reading.take(mails(0));
        assert_eq!(first.len(), 8);
        assert_eq!(reading.free(Target::Mail), 0);
        let other = reading.take(vec![row(100, Target::Sms), row(100, Target::Sms), row(3, Target::Mail)]);
        assert_eq!(other.len(), 1);
        assert_eq!(reading.waiting(&[row(3, Target::Mail), row(9, Target::Mail)]), 10);
        // what came back while it was read may be done already
        drop(first);
        let rest = reading.take(mails(0));
        assert_eq!(rest.len(), 2);
        assert!(places.read().is_none());
        assert!(reading.end());
        let reading = places.read().unwrap();
        assert_eq!(reading.take(mails(0)).len(), 6);
        assert!(!reading.end());
    }
}
