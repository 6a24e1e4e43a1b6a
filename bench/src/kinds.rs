//! The kinds of requests that are measured.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::client::{Answer, Source, request};

/// What a creation gave that further requests need.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
}

impl Guest {
    fn read(answer: &Answer<'_>) -> anyhow::Result<Self> {
        let member = |name| answer.text(name).with_context(|| format!("the answer has no {name}")).map(str::to_owned);
        Ok(Self { access_token: member("access_token")?, refresh_token: member("refresh_token")? })
    }
}

/// Creates an eager guest.
pub(crate) fn create() -> Vec<u8> {
    request("POST", "/v1/guests", None, Some(&json!({"client_id": "demo-spa", "session_type": "tokens"}).to_string()))
}

/// Creates an eager guest with a profile of 60 bytes.
pub(crate) fn create_with_profile() -> Vec<u8> {
    let data = json!({"locale": "de-AT", "cart": "c_8123746", "theme": "dark", "n": 123});
    let body = json!({"client_id": "demo-spa", "session_type": "tokens", "data": data});
    request("POST", "/v1/guests", None, Some(&body.to_string()))
}

/// Creates a floating guest.
pub(crate) fn float() -> Vec<u8> {
    request("POST", "/anonymous/token", None, Some(&json!({"client_id": "demo-game"}).to_string()))
}

/// Reads the guest of a token.
pub(crate) fn me(token: &str) -> Vec<u8> {
    request("GET", "/v1/me", Some(token), None)
}

/// The same requests in turn, each expected to be answered with one status.
pub(crate) struct InTurn {
    requests: Vec<Vec<u8>>,
    next: usize,
    status: u16,
    /// Bytes of the last answer's head and body.
    pub(crate) size: (usize, usize),
}

impl InTurn {
    pub(crate) fn new(requests: Vec<Vec<u8>>, status: u16) -> Self {
        Self { requests, next: 0, status, size: (0, 0) }
    }
}

impl Source for InTurn {
    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
        true
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        self.size = (answer.head, answer.body.len());
        answer.expect(self.status)
    }
}

/// Reads every token's guest once; a phase ends when its share of the tokens is used up.
pub(crate) struct Once {
    tokens: std::vec::IntoIter<String>,
    share: usize,
    left: usize,
}

impl Once {
    pub(crate) fn new(tokens: Vec<String>, share: usize) -> Self {
        Self { tokens: tokens.into_iter(), share, left: 0 }
    }
}

impl Source for Once {
    fn begin(&mut self) {
        self.left = self.share;
    }

    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let Some(token) = self.tokens.next() else { return false };
        out.extend_from_slice(&me(&token));
        true
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        answer.expect(200)
    }
}

/// Creates so many guests and keeps what was given to some of them, evenly spread.
pub(crate) struct Stock {
    request: Vec<u8>,
    left: usize,
    /// Every so manieth guest is kept.
    every: usize,
    answers: usize,
    pub(crate) kept: Vec<Guest>,
}

impl Stock {
    pub(crate) fn new(request: Vec<u8>, count: usize, keep: usize) -> Self {
        Self { request, left: count, every: (count / keep.max(1)).max(1), answers: 0, kept: Vec::new() }
    }
}

impl Source for Stock {
    fn next(&mut self, _: usize, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        out.extend_from_slice(&self.request);
        true
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        answer.expect(201)?;
        if self.answers.is_multiple_of(self.every) {
            self.kept.push(Guest::read(answer)?);
        }
        self.answers += 1;
        Ok(())
    }
}

/// Rotates refresh tokens; no session is used by two connections at a time.
pub(crate) struct Refresh {
    tokens: Vec<String>,
    /// The session each connection uses now.
    at: Vec<usize>,
}

impl Refresh {
    /// At most as many connections may ask as there are guests.
    pub(crate) fn new(guests: &[Guest], connections: usize) -> Self {
        let tokens = guests.iter().map(|g| g.refresh_token.clone()).collect();
        Self { tokens, at: (0..connections).collect() }
    }
}

impl Source for Refresh {
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        let at = &mut self.at[connection];
        let body = format!(r#"{{"client_id":"demo-spa","refresh_token":"{}"}}"#, self.tokens[*at]);
        out.extend_from_slice(&request("POST", "/v1/refresh", None, Some(&body)));
        true
    }

    fn answered(&mut self, connection: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        let step = self.at.len();
        let at = &mut self.at[connection];
        answer.expect(200)?;
        answer.text("refresh_token").context("the answer has no refresh_token")?.clone_into(&mut self.tokens[*at]);
        *at += step;
        if *at >= self.tokens.len() {
            *at = connection;
        }
        Ok(())
    }
}

/// Counts up in profiles, one guest a connection.
pub(crate) struct Increment {
    requests: Vec<Vec<u8>>,
    /// Successful answers, over all phases.
    pub(crate) answers: u64,
}

impl Increment {
    pub(crate) fn new(guests: &[Guest]) -> Self {
        let body = json!({"operations": [{"op": "increment", "path": "/views", "by": 1}]}).to_string();
        let one = |g: &Guest| request("POST", "/v1/me/data/operations", Some(&g.access_token), Some(&body));
        Self { requests: guests.iter().map(one).collect(), answers: 0 }
    }
}

impl Source for Increment {
    fn next(&mut self, connection: usize, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(&self.requests[connection]);
        true
    }

    fn answered(&mut self, _: usize, answer: &Answer<'_>) -> anyhow::Result<()> {
        answer.expect(200)?;
        self.answers += 1;
        Ok(())
    }
}

/// How far a guest was counted up, from the answer to [`me`].
pub(crate) fn views(answer: &Answer<'_>) -> anyhow::Result<u64> {
    answer.expect(200)?;
    let body: Value = serde_json::from_slice(answer.body)?;
    Ok(body.pointer("/data/views").or_else(|| body.pointer("/user/data/views")).and_then(Value::as_u64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer<'_> {
        Answer { status: 200, body: body.as_bytes(), head: 0, headers: b"" }
    }

    #[test]
    fn sessions_are_not_shared_by_connections() {
        let guest = |n: usize| Guest { access_token: String::new(), refresh_token: format!("first-{n}") };
        let mut source = Refresh::new(&(0..5).map(guest).collect::<Vec<_>>(), 2);
        let mut seen = Vec::new();
        for turn in 0..4 {
            for connection in 0..2 {
                let mut out = Vec::new();
                assert!(source.next(connection, &mut out));
                let token = String::from_utf8(out).unwrap().rsplit('"').nth(1).unwrap().to_owned();
                seen.push(token);
                source.answered(connection, &answer(&format!(r#"{{"refresh_token":"then-{turn}"}}"#))).unwrap();
            }
        }
        assert_eq!(seen, ["first-0", "first-1", "first-2", "first-3", "first-4", "then-0", "then-0", "then-1"]);
    }

    #[test]
    fn a_stock_keeps_guests_evenly() {
        let mut stock = Stock::new(create(), 10, 5);
        let mut asked = 0;
        let body = r#"{"access_token":"a","refresh_token":"r"}"#;
        while stock.next(0, &mut Vec::new()) {
            asked += 1;
            stock.answered(0, &Answer { status: 201, ..answer(body) }).unwrap();
        }
        assert_eq!((asked, stock.kept.len()), (10, 5));
        assert!(stock.answered(0, &answer(body)).is_err(), "200 is a resumed guest");
    }

    #[test]
    fn the_profile_has_60_bytes() {
        let request = String::from_utf8(create_with_profile()).unwrap();
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["data"].to_string().len(), 60);
        assert_eq!(views(&answer(r#"{"data":{"views":7}}"#)).unwrap(), 7);
        assert_eq!(views(&answer(r#"{"data":{}}"#)).unwrap(), 0);
    }
}
