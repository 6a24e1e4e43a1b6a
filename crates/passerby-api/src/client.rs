//! How a client names itself in a body, and how it authenticates.

use passerby_core::{Error, caller::ClientClaim, model::SessionKind};
use passerby_http::{Authorization, Problem, json::Text};

/// The members of a body that concern the client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Named<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) secret: Option<&'a str>,
    pub(crate) assertion: Option<&'a str>,
    pub(crate) assertion_type: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// As use cases take it; `endpoint` is the path that an assertion may name as its audience.
    pub(crate) fn claim(self, authorization: &'a Authorization<'_>, endpoint: &'static str) -> ClientClaim<'a> {
        ClientClaim {
            id: self.id,
            basic: authorization.basic(),
            secret: self.secret,
            assertion: self.assertion,
            assertion_type: self.assertion_type,
            endpoint,
        }
    }
}

/// A refusal to a request in which a client may have authenticated by its header.
pub(crate) fn refusal(error: Error, authorization: &Authorization<'_>) -> Problem {
    let problem = Problem::from(error);
    if authorization.basic().is_some() { problem.asked_by_basic() } else { problem }
}

/// What the answer is to carry.
///
/// # Errors
/// 400 for another word.
pub(crate) fn session_type(word: Option<&Text<'_>>) -> Result<SessionKind, Problem> {
    match word.map(|w| &**w) {
        None | Some("tokens") => Ok(SessionKind::Tokens),
        Some("cookie") => Ok(SessionKind::Cookie),
        Some(_) => Err(Problem::invalid_value("/session_type", "Expected \"tokens\" or \"cookie\".")),
    }
}

/// The same where its absence means: as the caller's session.
///
/// # Errors
/// 400 for another word.
pub(crate) fn own_session_type(word: Option<&Text<'_>>) -> Result<Option<SessionKind>, Problem> {
    word.map(|word| session_type(Some(word))).transpose()
}

/// `audience`, or its synonym `resource` (RFC 8707).
///
/// # Errors
/// 400 `invalid_target` when the two differ.
pub(crate) fn audience<'a>(
    audience: Option<&'a Text<'_>>,
    resource: Option<&'a Text<'_>>,
) -> Result<Option<&'a str>, Problem> {
    match (audience, resource) {
        (Some(a), Some(r)) if a != r => {
            let detail = "audience and resource mean the same; name one.";
            Err(Error::at(passerby_core::Code::InvalidTarget, "/resource", detail).into())
        }
        (a, r) => Ok(a.or(r).map(|text| &**text)),
    }
}
