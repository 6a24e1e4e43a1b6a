//! Proofs that work once.

use std::sync::Arc;

use passerby_core::port::StoreError;
use passerby_store::{OpenOptions, open};

use crate::support::{Harness, at, side_by_side, sweep, within};

pub(crate) async fn a_proof_works_once(h: &Harness) {
    let (a, b) = (h.tenant(1).await, h.tenant(2).await);
    let spend = async |t: &crate::support::Tenant, n: u8| t.store.spend(t.no, [n; 32], at(70_000)).await.unwrap();
    assert!(spend(&a, 1).await);
    assert!(!spend(&a, 1).await && !spend(&a, 1).await);
    // another, and another tenant's
    assert!(spend(&a, 2).await && spend(&b, 1).await);
    // also when it asks for another end
    for ms in [0, 80_000] {
        assert!(!a.store.spend(a.no, [1; 32], at(ms)).await.unwrap());
    }
}

pub(crate) async fn of_many_that_spend_one_proof_one_does(h: &Harness) {
    let t = h.tenant(1).await;
    for round in 0..20u8 {
        let spent = within(side_by_side((0..64u8).map(|n| {
            let store = t.store.clone();
            // four proofs, sixteen times each
            async move { (n % 4, store.spend(t.no, [4 * round + n % 4; 32], at(70_000)).await.unwrap()) }
        })))
        .await;
        for proof in 0..4 {
            assert_eq!(spent.iter().filter(|(n, spent)| *n == proof && *spent).count(), 1);
        }
    }
}

pub(crate) async fn a_store_that_shares_what_is_spent_does_so(h: &Harness) {
    let t = h.tenant(1).await;
    let second = open(&h.url, &OpenOptions::default()).await.unwrap();
    assert_eq!(second.shares_spent(), t.store.shares_spent());
    assert!(t.store.spend(t.no, [1; 32], at(70_000)).await.unwrap());
    assert_eq!(second.spend(t.no, [1; 32], at(70_000)).await.unwrap(), !t.store.shares_spent());
    if t.store.shares_spent() {
        // many proofs at once, shown to both in different orders
        let spent = within(side_by_side((0..400u16).map(|n| {
            let store = if n < 200 { t.store.clone() } else { second.clone() };
            let proof = if n < 200 { n } else { 399 - n };
            let mut hash = [9; 32];
            hash[..2].copy_from_slice(&proof.to_be_bytes());
            async move { (proof, store.spend(t.no, hash, at(70_000)).await.unwrap()) }
        })))
        .await;
        for proof in 0..200 {
            assert_eq!(spent.iter().filter(|(n, spent)| *n == proof && *spent).count(), 1, "{proof}");
        }
    }
    second.close().await;
    // and after a restart
    h.store.close().await;
    let third = open(&h.url, &OpenOptions::default()).await.unwrap();
    assert_eq!(third.spend(t.no, [1; 32], at(70_000)).await.unwrap(), !third.shares_spent());
    third.close().await;
}

pub(crate) async fn what_was_spent_is_swept_at_its_end(h: &Harness) {
    let t = h.tenant(1).await;
    for n in 0..10 {
        assert!(t.store.spend(t.no, [n; 32], at(if n < 6 { 70_000 } else { 90_000 })).await.unwrap());
    }
    t.done(69_999, sweep(100)).await;
    assert!(!t.store.spend(t.no, [1; 32], at(70_000)).await.unwrap());
    t.done(70_000, sweep(100)).await;
    for n in 0..10 {
        // what has ended may be taken anew, nothing else is
        let spent = t.store.spend(t.no, [n; 32], at(90_000)).await.unwrap();
        assert!(!spent || (n < 6 && t.store.shares_spent()), "{n}");
        assert!(spent || n >= 6 || !t.store.shares_spent(), "{n}");
    }
}

pub(crate) async fn a_closed_store_spends_nothing(h: &Harness) {
    let t = Arc::new(h.tenant(1).await);
    let waiting: Vec<_> = (0..100u8).map(|n| t.store.spend(t.no, [n; 32], at(70_000))).collect();
    within(h.store.close()).await;
    // those that came before are answered
    for spent in waiting {
        assert!(within(spent).await.unwrap());
    }
    let late = t.store.spend(t.no, [200; 32], at(70_000)).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
}
