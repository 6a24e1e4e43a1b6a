//! throw-away
#![allow(clippy::all, clippy::pedantic, missing_docs)]
use passerby_core::{Timestamp, id::*, model::*, port::*, testing::SeededRandom};
use passerby_store::*;
use std::{env, time::Instant};

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn rss() -> String {
    let s = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    s.lines().find(|l| l.starts_with("Pss:")).unwrap().to_string()
}
fn guest(ids: &IdMaker, r: &SeededRandom, at: Timestamp, client: ClientNo) -> (Box<NewGuest>, UserId, SessionId) {
    let f = ids.fresh(at, r);
    let data: Box<str> = r#"{"locale":"de-AT","cart":"c_8123746","theme":"dark","n":123}"#.into();
    assert_eq!(data.len(), 60);
    (Box::new(NewGuest {
        user: User { id: f.user, chosen_id: None, chosen_by: None, kind: Kind::Anonymous, client, created_at: at, updated_at: at, version: 1, epoch: 0, data, server_data: None, entry: None },
        session: Session { id: f.session, client, kind: SessionKind::Tokens, created_at: at, active_at: at, ended_at: None, generation: 0, rotated_at: None, late_generation: None, has_denied_tokens: false, metadata: None, parent: None },
    }), f.user, f.session)
}
fn main() {
    let arg = |n: usize, d: &str| env::args().nth(n).unwrap_or(d.into());
    let path = arg(1, "/tmp/measure.db");
    let total: usize = arg(2, "1000000").parse().unwrap();
    let group: usize = arg(3, "64").parse().unwrap();
    for s in ["", "-wal", "-shm"] { let _ = std::fs::remove_file(format!("{path}{s}")); }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = open(&format!("sqlite:{path}"), &OpenOptions::default()).await.unwrap();
        let tenant = store.number_tenant(uuid::Uuid::from_u128(7)).await.unwrap();
        let client = store.number_client(tenant, "demo").await.unwrap();
        let (ids, r) = (IdMaker::default(), SeededRandom::new(9));
        let (c0, t0) = (cpu(), Instant::now());
        let mut keys = Vec::new();
        let mut at = 1_790_000_000_000i64;
        for g in 0..total / group {
            at += 5;
            let mut waits = Vec::with_capacity(group);
            for _ in 0..group {
                let at = Timestamp::from_millis(at);
                let (guest, u, s) = guest(&ids, &r, at, client);
                if g % 10 == 0 { keys.push((u, s)); }
                waits.push(store.commit(tenant, Change { at, keep: None, act: Act::Create(guest, None) }));
            }
            for w in waits { w.await.unwrap(); }
        }
        let (c, t) = (cpu() - c0, t0.elapsed().as_secs_f64());
        println!("groups of {group}: {:.2} CPU us/guest, {:.0} guests/s, {}", c * 1e6 / total as f64, total as f64 / t, rss());
        let c0 = cpu(); let t0 = Instant::now();
        for i in 0..200_000 { let (u, s) = keys[i * 7919 % keys.len()]; assert!(store.standing(tenant, u, s).await.unwrap().user.is_some()); }
        println!("standing (spread): {:.2} CPU us, {:.2} us wall, {}", (cpu() - c0) * 1e6 / 2e5, t0.elapsed().as_secs_f64() * 1e6 / 2e5, rss());
        let c0 = cpu();
        for i in 0..200_000 { let (u, s) = keys[i * 7919 % keys.len() % 1000]; assert!(store.standing(tenant, u, s).await.unwrap().user.is_some()); }
        println!("standing (hot): {:.2} CPU us", (cpu() - c0) * 1e6 / 2e5);
        // mixed: creations and rotations
        let c0 = cpu();
        for g in 0..1000 {
            let mut waits = Vec::new();
            for i in 0..32 { let (u, s) = keys[(g * 32 + i) % keys.len()]; waits.push(store.commit(tenant, Change { at: Timestamp::from_millis(at + 5), keep: None, act: Act::Rotate { user: u, session: s, from: 0, to: 1 } })); }
            for w in waits { w.await.unwrap(); }
        }
        println!("rotate: {:.2} CPU us", (cpu() - c0) * 1e6 / 32e3);
        store.close().await;
        println!("{:.1} bytes/guest, wal left: {:?}", std::fs::metadata(&path).unwrap().len() as f64 / total as f64, std::fs::metadata(format!("{path}-wal")).map(|m| m.len()));
    });
}
