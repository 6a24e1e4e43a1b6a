//! The guarded HTTP client: the only way in which this server calls somebody by HTTP.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use crate::{
    guard::{Blocked, Guard, GuardedResolver},
    tls::{self, TlsFault},
};

/// How long to wait and how much to read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For name look-up, connection and encryption.
    pub connect: Duration,
    /// For everything, to the last byte of the answer.
    pub total: Duration,
    /// Longest body of an answer, in bytes.
    pub body: usize,
}

impl Default for Limits {
    /// 3 s, 10 s, 64 KiB.
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), total: Duration::from_secs(10), body: 64 * 1024 }
    }
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Where to; judged by the guard each time.
    pub url: String,
    /// Headers beside those that HTTP needs.
    pub headers: HeaderMap,
    /// The body; empty: none.
    pub body: Bytes,
}

/// What came back. Statuses of every kind are answers; redirects are not followed.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// Why there was no answer. The text is for logs: it names no path, query or header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebFault {
    /// The guard refused; nobody was called.
    #[error("the call is not allowed: {0}")]
    Blocked(#[from] Blocked),
    /// No connection, or it broke.
    #[error("the call failed: {0}")]
    Network(Box<str>),
    /// It took longer than [`Limits`] say.
    #[error("the call took too long")]
    Late,
    /// The answer is longer than [`Limits`] say.
    #[error("the answer is too long")]
    Long,
}

/// The guarded client. Cheap to clone; clones share their connections.
///
/// https, or http where the operator allows it; public addresses, or networks that the operator allows; no redirects, no
/// cookies, no proxy, no retries of its own. How many calls run at once is the caller's to bound.
#[derive(Debug, Clone)]
pub struct WebClient {
    client: reqwest::Client,
    guard: Guard,
    limits: Limits,
}

impl WebClient {
    /// With a guard of its own. `authorities` (PEM) alone may vouch for servers; without, those of the system.
    pub fn new(guard: Guard, limits: Limits, authorities: Option<&[u8]>) -> Result<Self, TlsFault> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(authorities)?)
            .dns_resolver(Arc::new(GuardedResolver(guard.clone())))
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("passerby/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(TlsFault::new)?;
        Ok(Self { client, guard, limits })
    }

    /// The guard, to judge a URL when it is saved.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Makes one call and reads the whole answer.
    pub async fn call(&self, call: Call) -> Result<Answer, WebFault> {
        let url = self.guard.check(&call.url)?;
        let request = self.client.request(call.method, url).headers(call.headers);
        let request = if call.body.is_empty() { request } else { request.body(call.body) };
        let mut answer = request.send().await.map_err(|e| fault(&e))?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| fault(&e))? {
            if body.len() + chunk.len() > self.limits.body {
                return Err(WebFault::Long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

/// The innermost cause says what happened; reqwest's own text would name the whole URL.
fn fault(error: &reqwest::Error) -> WebFault {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(blocked) = cause.downcast_ref::<Blocked>() {
            return WebFault::Blocked(blocked.clone());
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => break,
        }
    }
    if error.is_timeout() {
        return WebFault::Late;
    }
    let told = if error.source().is_some() { cause.to_string() } else { "no answer".to_owned() };
    WebFault::Network(told.chars().filter(|c| !c.is_control()).take(200).collect())
}
