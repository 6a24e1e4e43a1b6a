//! The load generator: HTTP/1.1 with requests built beforehand and a reader that knows a status, a length and a body.
//!
//! One thread drives all connections. What it costs per request stays well below what any server costs; how busy its own
//! core was is reported beside every figure.

use std::{
    cell::RefCell,
    fmt::Write as _,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
    task::{JoinSet, LocalSet, yield_now},
    time::{sleep, timeout},
};

use crate::histogram::Histogram;

/// An answer that takes longer counts as an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// Waits longer than this sleep first; the event loop's timers are good to a millisecond.
const FINE: Duration = Duration::from_millis(3);
/// No answer of the product comes near it; the longest tell many raised epochs.
const LONGEST: usize = 16 * 1024 * 1024;
/// So many different complaints are kept, the others only counted.
const COMPLAINTS: usize = 3;

/// One answer, as far as the benchmark looks at it.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// Bytes of the status line and the headers, with the empty line.
    pub(crate) head: usize,
    /// These bytes.
    pub(crate) headers: &'a [u8],
}

impl Answer<'_> {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = std::str::from_utf8(self.headers).ok()?.split("\r\n");
        lines.filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }

    /// The text of a member of the body that needs no unescaping, wherever it stands.
    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        let key = format!("\"{member}\":\"");
        let body = std::str::from_utf8(self.body).ok()?;
        let (_, rest) = body.split_once(&key)?;
        rest.split_once('"').map(|(text, _)| text)
    }

    /// Fails with the beginning of the answer unless it has the expected status.
    pub(crate) fn expect(&self, status: u16) -> anyhow::Result<()> {
        if self.status != status {
            let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
            bail!("answered {} where {status} is due: {body}", self.status);
        }
        Ok(())
    }
}

/// What is asked, and what is done with the answers.
pub(crate) trait Source {
    /// A phase begins.
    fn begin(&mut self) {}
    /// Appends the next request of a connection; `false` when there is none left.
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool;
    /// Takes the answer to a connection's last request; an error is counted and voids the figure.
    fn answered(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()>;
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Every connection asks again when it has its answer.
    Saturate,
    /// So many requests a second are due, whether or not earlier ones are answered; latency counts from when a request was due.
    Open(f64),
}

/// What one phase brought.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    /// What the first few different errors were.
    pub(crate) complaints: Vec<String>,
    /// Nanoseconds from the moment a request was due (or sent, when saturating) to the end of its answer.
    pub(crate) latency: Histogram,
    pub(crate) elapsed: Duration,
}

impl Tally {
    fn complain(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        if self.complaints.len() < COMPLAINTS {
            let complaint = format!("{error:#}");
            if !self.complaints.contains(&complaint) {
                self.complaints.push(complaint);
            }
        }
    }
}

/// The bytes of a request. `body` is JSON.
pub(crate) fn request(method: &str, path: &str, bearer: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    if let Some(token) = bearer {
        let _ = write!(out, "authorization: Bearer {token}\r\n");
    }
    match body {
        Some(body) => {
            let _ = write!(out, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
        None => out.push_str("\r\n"),
    }
    out.into_bytes()
}

/// A connection with what was read from it.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a whole request and reads its whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await.context("sending")?;
        self.read.clear();
        let mut parsed = None;
        loop {
            if let Some((head, status, length)) = parsed {
                if self.read.len() >= head + length {
                    ensure!(self.read.len() == head + length, "more bytes than the answer has");
                    return Ok(Answer { status, body: &self.read[head..], head, headers: &self.read[..head] });
                }
            } else {
                parsed = parse(&self.read)?;
                if parsed.is_some() {
                    continue;
                }
            }
            ensure!(self.read.len() < LONGEST, "an answer without an end");
            let n = self.stream.read_buf(&mut self.read).await.context("reading")?;
            ensure!(n > 0, "the server closed the connection");
        }
    }
}

/// Length of the head, status and length of the body; none while the head is not complete.
fn parse(read: &[u8]) -> anyhow::Result<Option<(usize, u16, usize)>> {
    let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&read[..end]).context("a head that is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 = status.context("no status line of HTTP/1.1")?;
    let length = lines
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse::<usize>());
    let length = match length {
        Some(length) => length.context("content-length")?,
        None if status == 204 || status == 304 => 0,
        None => bail!("an answer without content-length"),
    };
    Ok(Some((end + 4, status, length)))
}

/// When requests are due, common to all connections of a phase.
struct Plan {
    pace: Pace,
    start: Instant,
    /// No request is begun after it.
    end: Instant,
    /// How many were given out. Whoever holds it waits for the next moment; the others queue behind.
    given: Mutex<u64>,
}

impl Plan {
    /// The moment from which the next request's latency counts, once it has come; none at the end.
    async fn due(&self) -> Option<Instant> {
        let Pace::Open(rate) = self.pace else {
            let now = Instant::now();
            return (now < self.end).then_some(now);
        };
        let mut given = self.given.lock().await;
        let due = self.start + Duration::from_secs_f64(*given as f64 / rate);
        if due >= self.end {
            return None;
        }
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            } else if left > FINE {
                sleep(left.checked_sub(FINE).unwrap_or_default()).await;
            } else {
                // the core is ours: a timer would be late by up to a millisecond
                yield_now().await;
            }
        }
        *given += 1;
        Some(due)
    }
}

async fn drive<S: Source>(
    number: usize,
    address: SocketAddr,
    mut connection: Connection,
    plan: Rc<Plan>,
    source: Rc<RefCell<S>>,
    tally: Rc<RefCell<Tally>>,
) {
    let mut request = Vec::with_capacity(2048);
    while let Some(due) = plan.due().await {
        request.clear();
        if !source.borrow_mut().next(number, &mut request) {
            break;
        }
        let failed = match connection.ask(&request).await {
            Ok(answer) => {
                let taken = due.elapsed();
                let judged = source.borrow_mut().answered(number, &answer);
                let mut tally = tally.borrow_mut();
                match judged {
                    Ok(()) => {
                        tally.ok += 1;
                        tally.latency.record(taken.as_nanos() as u64);
                    }
                    Err(e) => tally.complain(&e),
                }
                continue;
            }
            Err(e) => e,
        };
        tally.borrow_mut().complain(&failed);
        match Connection::open(address).await {
            Ok(new) => connection = new,
            Err(_) => break,
        }
    }
}

/// Runs one phase: `connections` at once, for `length` or until the source is empty. Requests under way at the end are
/// waited for and counted.
pub(crate) async fn phase<S: Source + 'static>(
    address: SocketAddr,
    source: &Rc<RefCell<S>>,
    connections: usize,
    pace: Pace,
    length: Duration,
) -> anyhow::Result<Tally> {
    let mut opened = Vec::with_capacity(connections);
    for _ in 0..connections {
        opened.push(Connection::open(address).await?);
    }
    source.borrow_mut().begin();
    let tally = Rc::new(RefCell::new(Tally::default()));
    let start = Instant::now();
    let plan = Rc::new(Plan { pace, start, end: start + length, given: Mutex::new(0) });
    let local = LocalSet::new();
    let finished = local
        .run_until(async {
            let mut all = JoinSet::new();
            for (number, connection) in opened.into_iter().enumerate() {
                let (plan, source, tally) = (plan.clone(), source.clone(), tally.clone());
                all.spawn_local(drive(number, address, connection, plan, source, tally));
            }
            timeout(length + PATIENCE, async { while all.join_next().await.is_some() {} }).await
        })
        .await;
    drop(local);
    let mut tally = tally.take();
    tally.elapsed = start.elapsed();
    if finished.is_err() {
        tally.complain(&anyhow::anyhow!("requests were not answered within {} s", PATIENCE.as_secs()));
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n").unwrap(), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap(), Some((38, 200, 2)));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\na: b\r\n\r\n").unwrap(), Some((33, 204, 0)));
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.0 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").is_err());
    }

    #[test]
    fn members() {
        let answer = Answer {
            status: 200,
            body: br#"{"a":{"access_token":"x.y"},"n":1}"#,
            head: 0,
            headers: b"HTTP/1.1 200 OK\r\nDPoP-Nonce: n\r\n\r\n",
        };
        assert_eq!((answer.header("dpop-nonce"), answer.header("etag")), (Some("n"), None));
        assert_eq!(answer.text("access_token"), Some("x.y"));
        assert_eq!(answer.text("n"), None);
        assert!(answer.expect(200).is_ok());
        assert!(answer.expect(201).is_err());
    }

    #[test]
    fn requests() {
        let text = |r: Vec<u8>| String::from_utf8(r).unwrap();
        assert_eq!(
            text(request("POST", "/p", Some("t"), Some("{}"))),
            "POST /p HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer t\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{}"
        );
        assert_eq!(text(request("GET", "/p", None, None)), "GET /p HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }
}
