//! Proofs that were used, for as long as they could be used again.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
};

/// One key's part of the whole: so many times less may be remembered of one key, so that one device cannot use it all up.
const SHARE: usize = 16;

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It had not been used.
    Now,
    /// It had.
    Before,
    /// There is no room to remember it, so it cannot be taken.
    NoRoom,
}

/// Remembers used proofs in bounded memory: hashes of eight bytes in two generations, of which the older is dropped when
/// nothing in it can be used any more. The hash is keyed at random, so that nobody can choose proofs that meet; a meeting
/// by chance refuses a good proof, and never lets a used one pass.
pub(crate) struct Replay {
    hasher: RandomState,
    /// For so long after it was first used a proof may still pass the check of its time, in seconds.
    life: i64,
    capacity: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    began: i64,
    young: HashSet<u64>,
    old: HashSet<u64>,
    by_key: HashMap<u64, usize>,
}

impl Replay {
    /// With room for so many proofs in each life.
    pub(crate) fn new(life: i64, capacity: usize) -> Self {
        Self { hasher: RandomState::new(), life, capacity, used: Mutex::default() }
    }

    /// Spends a proof of a key.
    pub(crate) fn spend(&self, key: &[u8; 32], jti: &str, now: i64) -> Spent {
        let (owner, proof) = (self.hasher.hash_one(key), self.hasher.hash_one((key, jti)));
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // a clock that was set back must not keep a generation for ever, nor drop one early
        used.began = used.began.min(now);
        if now - used.began >= self.life {
            let older = now - used.began >= 2 * self.life;
            used.old = std::mem::take(&mut used.young);
            if older {
                used.old.clear();
            }
            used.by_key.clear();
            used.began = now;
        }
        if used.young.contains(&proof) || used.old.contains(&proof) {
            return Spent::Before;
        }
        let of_key = used.by_key.get(&owner).copied().unwrap_or(0);
        if used.young.len() >= self.capacity || of_key >= (self.capacity / SHARE).max(1) {
            return Spent::NoRoom;
        }
        used.by_key.insert(owner, of_key + 1);
        used.young.insert(proof);
        Spent::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];

    #[test]
    fn once_for_its_life() {
        for first in [0, 1, 59, 119] {
            let replay = Replay::new(120, 64);
            assert_eq!(replay.spend(&[9; 32], "other", 1000), Spent::Now);
            assert_eq!(replay.spend(&KEY, "a", 1000 + first), Spent::Now);
            for later in 0..120 {
                assert_eq!(replay.spend(&KEY, "a", 1000 + first + later), Spent::Before, "{first} {later}");
            }
            assert_eq!(replay.spend(&KEY, "a", 1000 + first + 240), Spent::Now, "and is forgotten");
        }
    }

    #[test]
    fn by_key() {
        let replay = Replay::new(120, 64);
        assert_eq!(replay.spend(&KEY, "a", 0), Spent::Now);
        assert_eq!(replay.spend(&[2; 32], "a", 0), Spent::Now);
    }

    #[test]
    fn memory_is_bounded_and_shared_out() {
        let replay = Replay::new(120, 64);
        for i in 0..4 {
            assert_eq!(replay.spend(&KEY, &i.to_string(), 0), Spent::Now);
        }
        assert_eq!(replay.spend(&KEY, "4", 0), Spent::NoRoom, "one key has a sixteenth");
        for i in 1..=60 {
            assert_eq!(replay.spend(&[i + 1; 32], "0", 0), Spent::Now);
        }
        assert_eq!(replay.spend(&[200; 32], "0", 0), Spent::NoRoom);
        assert_eq!(replay.spend(&KEY, "0", 0), Spent::Before, "what is full still knows");
        assert_eq!(replay.spend(&[200; 32], "0", 120), Spent::Now);
        let used = replay.used.lock().unwrap();
        assert!(used.young.len() + used.old.len() <= 128 && used.by_key.len() <= 64);
    }

    #[test]
    fn a_clock_set_back_forgets_nothing_within_a_life() {
        let replay = Replay::new(120, 64);
        assert_eq!(replay.spend(&KEY, "a", 10_000), Spent::Now);
        for now in [5_000, 5_119, 5_120, 5_200] {
            assert_eq!(replay.spend(&KEY, "a", now), Spent::Before);
        }
        assert_eq!(replay.spend(&KEY, "b", 5_240), Spent::Now, "and goes on");
    }
}
