//! Proofs that were used, in memory: two generations, the older of which is forgotten as time goes on.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, PoisonError},
};

use passerby_core::{Timestamp, id::TenantNo, port::StoreError};

/// No proof is remembered for longer than this, in milliseconds; the core asks for some 80 s. A generation takes what
/// comes while the latest end that was asked for moves on by so much. When one is forgotten the latest end has moved by
/// as much again, so the time itself is past the end of all that was in it.
const LONGEST: i64 = 120_000;

/// So many are remembered of a generation: some 90 MB at the most. Anybody may make keys and proofs, so beyond it none is
/// taken until the next generation begins.
const MOST: usize = 2_000_000;

/// Half of a hash is enough: a second proof with the same one would have to be found among 2^128.
type Proof = (i32, [u8; 16]);

#[derive(Default)]
struct Generations {
    /// The latest end when the younger one was begun.
    begun: i64,
    young: HashSet<Proof>,
    old: HashSet<Proof>,
}

/// What was spent in this process.
#[derive(Default)]
pub(super) struct Spent(Mutex<Generations>);

impl Spent {
    /// Whether the proof is spent by this very call. No clock is read: ends lie at most [`LONGEST`] ahead of the time,
    /// so the latest one tells how late it is at least.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no more can be remembered.
    pub(super) fn spend(&self, tenant: TenantNo, proof: [u8; 32], ends_at: Timestamp) -> Result<bool, StoreError> {
        let mut half = [0; 16];
        half.copy_from_slice(&proof[..16]);
        let proof = (tenant.0, half);
        // nothing that can panic runs under it
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = ends_at.millis() - all.begun;
        if moved >= LONGEST {
            all.begun = ends_at.millis();
            let young = mem::take(&mut all.young);
            all.old = if moved >= 2 * LONGEST { HashSet::new() } else { young };
        }
        if all.old.contains(&proof) || !all.young.insert(proof) {
            return Ok(false);
        }
        if all.young.len() > MOST {
            all.young.remove(&proof);
            return Err(StoreError::Unavailable("no more proofs can be remembered for now".into()));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantNo = TenantNo(1);

    fn proof(n: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        hash
    }

    #[test]
    fn a_proof_works_once_as_long_as_it_lives() {
        // whatever the life that is asked for, and however often others come in between
        for life in [1_000, 70_000, LONGEST] {
            for step in [50, 9_999, LONGEST - 1, LONGEST] {
                let spent = Spent::default();
                let at = |ms: i64| Timestamp::from_millis(1_790_000_000_000 + ms);
                for first in (0..3 * LONGEST).step_by(17_321) {
                    let it = proof(first as u64 + (1 << 40));
                    assert!(spent.spend(TENANT, it, at(first + life)).unwrap());
                    let mut now = first + step;
                    while now <= first + life {
                        spent.spend(TENANT, proof(now as u64), at(now + life)).unwrap();
                        assert!(!spent.spend(TENANT, it, at(now + life)).unwrap(), "{life} {step} {first} {now}");
                        now += step.max(life / 20);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_dead_is_forgotten() {
        let spent = Spent::default();
        for n in 0..1_000_000u64 {
            // a hundred a second for nearly three hours
            let ends_at = Timestamp::from_millis(n as i64 * 10 + 70_000);
            assert!(spent.spend(TENANT, proof(n), ends_at).unwrap());
            if n % 10_000 == 0 {
                let all = spent.0.lock().unwrap();
                assert!(all.young.len() + all.old.len() <= 2 * LONGEST as usize / 10 + 1);
            }
        }
        assert!(
            spent.spend(TENANT, proof(0), Timestamp::from_millis(10_070_000)).unwrap(),
            "long dead, and taken anew"
        );
    }

    #[test]
    fn what_cannot_be_remembered_is_not_taken() {
        let spent = Spent::default();
        let at = |ms: i64| Timestamp::from_millis(1_790_000_000_000 + ms);
        for n in 0..MOST as u64 {
            spent.spend(TENANT, proof(n), at(0)).unwrap();
        }
        assert!(spent.spend(TENANT, proof(MOST as u64), at(0)).is_err());
        assert!(!spent.spend(TENANT, proof(7), at(0)).unwrap(), "what was used stays used");
        assert!(spent.spend(TENANT, proof(MOST as u64), at(LONGEST)).unwrap());
    }

    #[test]
    fn tenants_have_their_own_and_time_may_go_back() {
        let spent = Spent::default();
        let at = Timestamp::from_millis;
        assert!(spent.spend(TENANT, proof(1), at(5_000_000)).unwrap());
        assert!(spent.spend(TenantNo(2), proof(1), at(5_000_000)).unwrap());
        assert!(!spent.spend(TENANT, proof(1), at(1_000_000)).unwrap());
        assert!(spent.spend(TENANT, proof(2), at(1_000_000)).unwrap());
        assert!(!spent.spend(TENANT, proof(2), at(5_000_000)).unwrap());
    }
}
