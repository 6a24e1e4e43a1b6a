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
fn prototype(total: usize, group: usize) {
    use rusqlite::*;
    let path = "/tmp/proto.db";
    for s in ["", "-wal", "-shm"] { let _ = std::fs::remove_file(format!("{path}{s}")); }
    let mut c = Connection::open(path).unwrap();
    c.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-65536;
         CREATE TABLE IF NOT EXISTS guest(id BLOB PRIMARY KEY, tenant INTEGER NOT NULL, client INTEGER NOT NULL, kind INTEGER NOT NULL,
             created INTEGER NOT NULL, updated INTEGER NOT NULL, version INTEGER NOT NULL, data TEXT NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS session(id BLOB PRIMARY KEY, guest BLOB NOT NULL, client INTEGER NOT NULL,
             created INTEGER NOT NULL, active INTEGER NOT NULL, refresh BLOB NOT NULL) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS session_guest ON session(guest);").unwrap();
    let rows = |one: &dyn Fn(usize) -> String| (0..16).map(one).collect::<Vec<_>>().join(",");
    let a = format!("INSERT INTO guest(id,tenant,client,kind,created,updated,version,data) VALUES {}", rows(&|i| format!("(?{0},1,1,0,?{1},?{1},1,'{{}}')", 2 * i + 1, 2 * i + 2)));
    let b = format!("INSERT INTO session(id,guest,client,created,active,refresh) VALUES {}", rows(&|i| format!("(?{0},?{1},1,?{2},?{2},?{3})", 4 * i + 1, 4 * i + 2, 4 * i + 3, 4 * i + 4)));
    let (ids, r) = (IdMaker::default(), SeededRandom::new(9));
    let c0 = cpu();
    let mut at = 1_790_000_000_000i64;
    for _ in 0..total / group {
        at += 5;
        let t = c.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        for _ in 0..group / 16 {
            let f: Vec<_> = (0..16).map(|_| ids.fresh(Timestamp::from_millis(at), &r)).collect();
            let mut s = t.prepare_cached(&a).unwrap();
            for (i, g) in f.iter().enumerate() { s.raw_bind_parameter(2 * i + 1, g.user.as_bytes()).unwrap(); s.raw_bind_parameter(2 * i + 2, at).unwrap(); }
            s.raw_execute().unwrap();
            let mut s = t.prepare_cached(&b).unwrap();
            for (i, g) in f.iter().enumerate() { s.raw_bind_parameter(4 * i + 1, g.session.as_bytes()).unwrap(); s.raw_bind_parameter(4 * i + 2, g.user.as_bytes()).unwrap(); s.raw_bind_parameter(4 * i + 3, at).unwrap(); s.raw_bind_parameter(4 * i + 4, [7u8; 32]).unwrap(); }
            s.raw_execute().unwrap();
        }
        t.commit().unwrap();
    }
    println!("prototype's writer alone, groups of {group}: {:.2} CPU us/guest", (cpu() - c0) * 1e6 / total as f64);
}
fn main() {
    let arg = |n: usize, d: &str| env::args().nth(n).unwrap_or(d.into());
    let path = arg(1, "/tmp/measure.db");
    let total: usize = arg(2, "1000000").parse().unwrap();
    let group: usize = arg(3, "64").parse().unwrap();
    for s in ["", "-wal", "-shm"] { let _ = std::fs::remove_file(format!("{path}{s}")); }
    if group >= 16 { prototype(300_000, group); }
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
                if g % 10 == 0 || total < 1_000_000 { keys.push((u, s)); }
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
        for g in 0..(keys.len() / 32).min(1000) {
            let mut waits = Vec::new();
            for i in 0..32 { let (u, s) = keys[(g * 32 + i) % keys.len()]; waits.push(store.commit(tenant, Change { at: Timestamp::from_millis(at + 5), keep: None, act: Act::Rotate { user: u, session: s, from: 0, to: 1 } })); }
            for w in waits { w.await.unwrap(); }
        }
        println!("rotate: {:.2} CPU us", (cpu() - c0) * 1e6 / ((keys.len() / 32).min(1000) * 32) as f64);
        store.close().await;
        println!("{:.1} bytes/guest, wal left: {:?}", std::fs::metadata(&path).unwrap().len() as f64 / total as f64, std::fs::metadata(format!("{path}-wal")).map(|m| m.len()));
    });
}
