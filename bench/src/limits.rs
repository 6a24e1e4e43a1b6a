//! What the machine allows: a bare HTTP answer of the product's stack, raw signatures, raw rows in groups. Each runs in a
//! process of its own, so that it can be put on the server's core.

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use passerby_jose::{Algorithm, SigningKey, parse_jws};
use rusqlite::{Connection, config::DbConfig};
use serde::Deserialize;

use crate::{
    process::{Cores, thread_cpu_seconds},
    report::Sheet,
};

/// The product's own tables.
const TABLES: &str = include_str!("../../crates/passerby-store/migrations/sqlite/V1__guests.sql");
/// Groups of so many guests share a commit.
pub(crate) const GROUPS: [usize; 4] = [1, 16, 64, 256];
/// So many rows go into one statement, as in the product.
const SIZES: [usize; 3] = [16, 4, 1];
/// Name of the table of these limits.
pub(crate) const TITLE: &str = "Limits of this machine";
/// CPU of one signature or of one guest's rows.
pub(crate) const EACH: &str = "CPU µs each";

/// One measured figure, as it goes from the limit's process to the run: row, column, value.
type Line = (String, String, f64);

/// Runs a limit of this program on the server's core and adds its figures.
pub(crate) fn run(sheet: &mut Sheet, cores: Cores, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = cores.command(&std::env::current_exe()?);
    let output = command.args(arguments).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the limit {arguments:?} failed: {}", output.status);
    for line in output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let (row, column, value): Line = serde_json::from_slice(line)?;
        sheet.add(TITLE, &row, &column, value);
    }
    Ok(())
}

fn say(row: &str, column: &str, value: f64) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&(row, column, value))?);
    Ok(())
}

/// Name of a row of signatures.
pub(crate) fn signature_row(algorithm: Algorithm) -> String {
    format!("{algorithm} token signed")
}

/// Name of a row of signature checks.
pub(crate) fn check_row(algorithm: Algorithm) -> String {
    format!("{algorithm} token checked")
}

/// Name of a row of groups.
pub(crate) fn group_row(group: usize) -> String {
    format!("guest and session rows, {group} a commit")
}

/// Signs, and for comparison checks, tokens of the product's size.
pub(crate) fn sign(slice: Duration) -> anyhow::Result<()> {
    let claims = br#"{"iss":"http://localhost:9011","aud":"http://localhost:9011","sub":"019aa4f2-0000-7abc-8def-0123456789ab","sid":"019aa4f2-0000-7abc-8def-0123456789ac","client_id":"demo-spa","is_anonymous":true,"epoch":0,"scope":"read:cart write:cart","iat":1790000000,"exp":1790000900,"jti":"AZqk8gAAervN7wEjRWeJqw"}"#;
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let key = SigningKey::from_pkcs8(algorithm, "k-2026-01", &SigningKey::generate(algorithm)?)?;
        let header = key.header("at+jwt");
        let mut out = Vec::with_capacity(1024);
        timed(&signature_row(algorithm), slice, || {
            out.clear();
            key.sign_into(&header, claims, &mut out)?;
            black_box(&out);
            Ok(())
        })?;
        let token = String::from_utf8(out.clone())?;
        let public = key.verifying_key();
        timed(&check_row(algorithm), slice, || Ok(public.verify(&parse_jws(black_box(&token))?)?))?;
    }
    Ok(())
}

fn timed(row: &str, slice: Duration, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for _ in 0..16 {
        act()?;
    }
    let (start, cpu, mut n) = (Instant::now(), thread_cpu_seconds(), 0_u32);
    while start.elapsed() < slice {
        for _ in 0..8 {
            act()?;
        }
        n += 8;
    }
    say(row, EACH, (thread_cpu_seconds() - cpu) * 1e6 / f64::from(n))?;
    say(row, "per second", f64::from(n) / start.elapsed().as_secs_f64())
}

/// Commits guests with their sessions in groups, as durable as the product does.
pub(crate) fn rows(folder: &Path, slice: Duration) -> anyhow::Result<()> {
    for group in GROUPS {
        let path = folder.join(format!("rows-{group}.db"));
        let mut db = open(&path)?;
        let empty = fs::metadata(&path)?.len();
        let (start, cpu, mut n) = (Instant::now(), thread_cpu_seconds(), 0_u64);
        while start.elapsed() < slice {
            // any time will do that grows as the real one does
            let at = 1_790_000_000_000 + start.elapsed().as_millis() as i64;
            let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let mut left = group;
            for size in SIZES {
                while left >= size {
                    insert(&transaction, size, at, n)?;
                    n += size as u64;
                    left -= size;
                }
            }
            transaction.commit()?;
        }
        let (row, cpu, wall) = (group_row(group), thread_cpu_seconds() - cpu, start.elapsed());
        // the log is folded in when the last connection is closed
        db.close().map_err(|(_, e)| e)?;
        say(&row, EACH, cpu * 1e6 / n as f64)?;
        say(&row, "per second", n as f64 / wall.as_secs_f64())?;
        say(&row, "bytes each", (fs::metadata(&path)?.len() - empty) as f64 / n as f64)?;
    }
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let db = Connection::open(path)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.execute_batch("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL")?;
    db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    db.execute_batch("PRAGMA synchronous=FULL; PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=4000")?;
    db.execute_batch(TABLES)?;
    // into the file, so that its size is that of empty tables
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(db)
}

/// Ids as the product's: six bytes of time, then what is different in every one.
fn id(at: i64, n: u64, which: u8) -> [u8; 16] {
    let mut id = [which; 16];
    id[..6].copy_from_slice(&at.to_be_bytes()[2..]);
    id[6..14].copy_from_slice(&n.to_be_bytes());
    id
}

fn insert(db: &Connection, rows: usize, at: i64, first: u64) -> anyhow::Result<()> {
    let list = |row: &dyn Fn(usize) -> String| (0..rows).map(row).collect::<Vec<_>>().join(",");
    let users = list(&|i| format!("(1,?{},1,?{},'{{}}',NULL)", 2 * i + 1, 2 * i + 2));
    let mut statement =
        db.prepare_cached(&format!("INSERT INTO users(tenant,user_id,client,created_at,data,entry) VALUES {users}"))?;
    for i in 0..rows {
        statement.raw_bind_parameter(2 * i + 1, id(at, first + i as u64, 0))?;
        statement.raw_bind_parameter(2 * i + 2, at)?;
    }
    statement.raw_execute()?;
    let sessions = list(&|i| format!("(1,?{},?{},1,0,?{})", 3 * i + 1, 3 * i + 2, 3 * i + 3));
    let mut statement = db
        .prepare_cached(&format!("INSERT INTO sessions(tenant,user_id,id,client,kind,created_at) VALUES {sessions}"))?;
    for i in 0..rows {
        statement.raw_bind_parameter(3 * i + 1, id(at, first + i as u64, 0))?;
        statement.raw_bind_parameter(3 * i + 2, id(at, first + i as u64, 1))?;
        statement.raw_bind_parameter(3 * i + 3, at)?;
    }
    statement.raw_execute()?;
    Ok(())
}

#[derive(Deserialize)]
struct Create {
    client_id: String,
    session_type: Option<String>,
}

/// Serves `POST /v1/guests` with answers of a fixed size: parsed, answered, nothing else.
pub(crate) async fn serve_http(address: SocketAddr, head: usize, body: usize) -> anyhow::Result<()> {
    let answer = move |asked: Bytes| async move {
        let Ok(asked) = serde_json::from_slice::<Create>(&asked) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        respond(&asked, head, body).unwrap_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    };
    let router = Router::new().route("/health/ready", get(|| async { "" })).route("/v1/guests", post(answer));
    let listener = tokio::net::TcpListener::bind(address).await.context("the limit's port")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            // a client that goes away is nobody's fault
            let _ = http.writev(false).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An answer whose head and body are as long as asked, if they can be that short.
fn respond(asked: &Create, head: usize, body: usize) -> Option<Response> {
    let mut text = String::with_capacity(body);
    write!(text, r#"{{"client_id":"{}","type":"{}","fill":""#, asked.client_id, asked.session_type.as_deref()?).ok()?;
    let fill = body.saturating_sub(text.len() + 2);
    text.extend(std::iter::repeat_n('x', fill));
    text.push_str("\"}");
    let usual = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: \r\nx-fill: \r\n\r\n";
    let fill = head.saturating_sub(usual.len() + text.len().to_string().len());
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("x-fill"), HeaderValue::from_str(&"x".repeat(fill)).ok()?);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fit_the_tables_of_the_product() {
        let folder = passerby_testkit::temp_dir();
        let db = open(&folder.path().join("rows.db")).unwrap();
        for (n, size) in SIZES.into_iter().enumerate() {
            insert(&db, size, 1_790_000_000_000, 100 * n as u64).unwrap();
        }
        for table in ["users", "sessions"] {
            let count: i64 = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0)).unwrap();
            assert_eq!(count, 21, "{table}");
        }
    }

    #[tokio::test]
    async fn answers_have_the_size_of_the_products() {
        use std::{cell::RefCell, rc::Rc};

        use crate::{
            client::{Pace, phase},
            kinds::{InTurn, create},
        };

        let address = SocketAddr::from(([127, 0, 0, 1], passerby_testkit::free_port()));
        tokio::spawn(serve_http(address, 500, 1234));
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let source = Rc::new(RefCell::new(InTurn::new(vec![create()], 200)));
        let open = phase(address, &source, 2, Pace::Open(100.0), Duration::from_millis(100)).await.unwrap();
        assert_eq!((open.ok, open.errors), (10, 0), "{:?}", open.complaints);
        assert!(open.latency.quantile(1.0) > 0);
        assert_eq!(source.borrow().size, (500, 1234));
        let closed = phase(address, &source, 2, Pace::Saturate, Duration::from_millis(50)).await.unwrap();
        assert!(closed.ok > 0 && closed.errors == 0);
        let wrong = Rc::new(RefCell::new(InTurn::new(vec![create()], 201)));
        let wrong = phase(address, &wrong, 1, Pace::Saturate, Duration::from_millis(20)).await.unwrap();
        assert!(wrong.ok == 0 && wrong.errors > 0 && wrong.complaints[0].contains("200"));
    }
}
