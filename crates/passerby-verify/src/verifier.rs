//! The check.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Uri, header::AUTHORIZATION};
use serde_json::Value;

use crate::{
    Algorithm, Clock, Error, FetchError, Lack, RequestFault, Require, TokenFault, Verified,
    dpop::Proofs,
    epochs::Epochs,
    issuer::Issuer,
    jws::{Jws, decode},
};

/// Counts the verifiers of the process, so that a layer knows its own work again.
static MADE: AtomicU64 = AtomicU64::new(1);

/// Checks access tokens of one issuer for one API. Copies share everything; make one and clone it.
///
/// It must be used within a tokio runtime: keys are fetched by a task of their own.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

pub(crate) struct Parts {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) audience: Box<str>,
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) leeway: i64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) proofs: Option<Proofs>,
    pub(crate) epochs: Option<Arc<Epochs>>,
}

struct Inner {
    number: u64,
    parts: Parts,
}

/// How a token was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Bearer,
    DPoP,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0.parts;
        f.debug_struct("Verifier")
            .field("issuer", &parts.issuer.name())
            .field("audience", &parts.audience)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { number: MADE.fetch_add(1, Ordering::Relaxed), parts }))
    }

    /// Checks a request: the token in its `Authorization` header (`Bearer`, or `DPoP` with a proof), and what is asked of
    /// it. Of `uri` only the path counts; it must be the one that the client asked for, so check before a router strips
    /// a prefix, or give the prefix to [`Builder::address`](crate::Builder::address).
    ///
    /// A proof works once: check a request once, and ask more of it by [`Verified::require`].
    ///
    /// # Errors
    /// Each of [`Error`]; [`refusal`](Self::refusal) makes the answer.
    pub async fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        require: &Require,
    ) -> Result<Verified, Error> {
        let parts = &self.0.parts;
        let (scheme, token) = shown(headers)?;
        let verified = self.read(token).await?;
        match (scheme, &verified.bound_to) {
            (Scheme::Bearer, None) => {}
            (Scheme::Bearer, Some(_)) => return Err(TokenFault::Bound.into()),
            (Scheme::DPoP, None) => return Err(TokenFault::Unbound.into()),
            (Scheme::DPoP, Some(jkt)) => {
                let proofs = parts.proofs.as_ref().ok_or(TokenFault::BindingUnsupported)?;
                let jkt = decode(jkt).ok_or(TokenFault::Claims)?;
                proofs.check(method, uri, headers, token, &jkt, parts.clock.now())?;
            }
        }
        self.finish(verified, require)
    }

    /// Checks a token that came otherwise than in a request, such as in the first message of a socket. One that is bound
    /// to a key is refused, as nothing proves the key.
    ///
    /// # Errors
    /// Each of [`Error`] but those of proofs.
    pub async fn check_bearer(&self, token: &str, require: &Require) -> Result<Verified, Error> {
        let verified = self.read(token).await?;
        if verified.bound_to.is_some() {
            return Err(TokenFault::Bound.into());
        }
        self.finish(verified, require)
    }

    /// Whether a token that passed is still good: not over, and not of an epoch that has ended meanwhile. For
    /// connections that outlive a request.
    ///
    /// # Errors
    /// [`Error::Token`] with its time or [`TokenFault::Revoked`], [`Error::Unavailable`].
    pub fn check_again(&self, verified: &Verified) -> Result<(), Error> {
        self.is_running(verified)?;
        if let Some(epochs) = &self.0.parts.epochs {
            if epochs.is_dead(verified) {
                return Err(TokenFault::Revoked.into());
            }
            if epochs.is_too_far_behind() {
                return Err(Error::Unavailable(Lack::Epochs));
            }
        }
        Ok(())
    }

    /// How far behind the epoch feed is, for a health check or a gauge: the time since the last poll that succeeded
    /// began. `None` when none has, or no feed is followed.
    pub fn epoch_lag(&self) -> Option<Duration> {
        self.0.parts.epochs.as_ref()?.lag()
    }

    /// Polls the epoch feed now, beside the task that does it in its interval. Without a feed it does nothing.
    ///
    /// # Errors
    /// [`FetchError`] when the feed cannot be read.
    pub async fn poll_epochs(&self) -> Result<(), FetchError> {
        match &self.0.parts.epochs {
            Some(epochs) => epochs.poll().await,
            None => Ok(()),
        }
    }

    /// Whether [`Builder::address`](crate::Builder::address) was given: then tokens that are bound to a key are taken.
    pub(crate) fn dpop_algorithms(&self) -> Option<&[Algorithm]> {
        self.0.parts.proofs.as_ref().map(|proofs| &*proofs.algorithms)
    }

    /// Whether it was this verifier that passed the token, for a middleware that may stand before a route twice: a proof
    /// works once, so the second asks for more by [`Verified::require`] and does not check again.
    pub fn passed(&self, verified: &Verified) -> bool {
        verified.by == self.0.number
    }

    fn finish(&self, verified: Verified, require: &Require) -> Result<Verified, Error> {
        self.check_again(&verified)?;
        require.check(&verified)?;
        Ok(verified)
    }

    /// Everything that the token itself decides.
    async fn read(&self, token: &str) -> Result<Verified, Error> {
        let parts = &self.0.parts;
        let jws = Jws::read(token).ok_or(TokenFault::Malformed)?;
        if jws.header.contains_key("jwk") {
            return Err(TokenFault::Malformed.into());
        }
        if jws.text("typ") != Some("at+jwt") {
            return Err(TokenFault::Type.into());
        }
        let alg = jws.text("alg").and_then(|alg| parts.algorithms.iter().find(|a| a.as_str() == alg));
        let alg = *alg.ok_or(TokenFault::Algorithm)?;
        let kid = jws.text("kid").filter(|kid| !kid.is_empty()).ok_or(TokenFault::Key)?;
        let key = parts.issuer.key(kid).await?;
        if key.algorithm() != alg {
            return Err(TokenFault::Algorithm.into());
        }
        if !key.verify(&jws) {
            return Err(TokenFault::Signature.into());
        }
        let verified = Verified::read(jws.claims().ok_or(TokenFault::Malformed)?, self.0.number)?;
        if verified.claim("iss").and_then(Value::as_str) != Some(parts.issuer.name()) {
            return Err(TokenFault::Issuer.into());
        }
        let for_us = match verified.claim("aud") {
            Some(Value::String(one)) => **one == *parts.audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(&parts.audience)),
            _ => return Err(TokenFault::Claims.into()),
        };
        if !for_us {
            return Err(TokenFault::Audience.into());
        }
        self.is_running(&verified)?;
        Ok(verified)
    }

    fn is_running(&self, verified: &Verified) -> Result<(), TokenFault> {
        let (now, leeway) = (self.0.parts.clock.now(), self.0.parts.leeway);
        let begins = verified.claim("nbf").and_then(Value::as_i64).unwrap_or(0).max(verified.issued_at());
        if begins > now.saturating_add(leeway) {
            return Err(TokenFault::NotYet);
        }
        if now >= verified.expires_at().saturating_add(leeway) {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }
}

/// The one credential of a request. Another scheme than ours counts as none.
fn shown(headers: &HeaderMap) -> Result<(Scheme, &str), Error> {
    let mut found = headers.get_all(AUTHORIZATION).iter();
    let value = found.next().ok_or(Error::NoToken)?;
    if found.next().is_some() {
        return Err(Error::Request(RequestFault::Authorization));
    }
    let text = value.to_str().map_err(|_| Error::Request(RequestFault::Authorization))?;
    let (name, token) = text.split_once(' ').unwrap_or((text, ""));
    let scheme = scheme(name).ok_or(Error::NoToken)?;
    Ok((scheme, token.trim_start_matches(' ')))
}

/// A scheme's name is read without case (RFC 9110 section 11.1).
pub(crate) fn scheme(name: &str) -> Option<Scheme> {
    match () {
        () if name.eq_ignore_ascii_case("bearer") => Some(Scheme::Bearer),
        () if name.eq_ignore_ascii_case("dpop") => Some(Scheme::DPoP),
        () => None,
    }
}
