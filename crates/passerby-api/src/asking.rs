//! The body with which a device asks to be let in by a code.

use passerby_core::{Code, Error, caller::ClientClaim, code::Asking, model::SessionKind};
use passerby_http::{Authorization, Problem, json};
use serde::Deserialize;

use crate::client::{Named, audience, session_type};

#[derive(Default, Deserialize)]
pub(crate) struct Wanted<'a> {
    #[serde(borrow)]
    client_id: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_secret: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion: Option<json::Text<'a>>,
    #[serde(borrow)]
    client_assertion_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    code: Option<json::Text<'a>>,
    #[serde(borrow)]
    id: Option<json::Text<'a>>,
    #[serde(borrow)]
    device: Option<json::Text<'a>>,
    #[serde(borrow)]
    session_type: Option<json::Text<'a>>,
    #[serde(borrow)]
    audience: Option<json::Text<'a>>,
    #[serde(borrow)]
    resource: Option<json::Text<'a>>,
    #[serde(borrow)]
    scope: Option<json::Text<'a>>,
    bind_tokens: Option<bool>,
}

impl Wanted<'_> {
    /// As the core takes it; `path` is what a client assertion may name.
    ///
    /// # Errors
    /// 400 without a code, and for values that are not allowed.
    pub(crate) fn asking<'s>(
        &'s self,
        authorization: &'s Authorization<'_>,
        idempotency_key: Option<&'s str>,
        body: &'s [u8],
        path: &'static str,
    ) -> Result<Asking<'s>, Problem> {
        let named = Named {
            id: self.client_id.as_deref(),
            secret: self.client_secret.as_deref(),
            assertion: self.client_assertion.as_deref(),
            assertion_type: self.client_assertion_type.as_deref(),
        };
        let client: ClientClaim<'s> = named.claim(authorization, path);
        let code = self.code.as_deref().ok_or_else(|| Error::at(Code::InvalidRequest, "/code", "code is missing."))?;
        let session_type: SessionKind = session_type(self.session_type.as_ref())?;
        Ok(Asking {
            client,
            code,
            id: self.id.as_deref(),
            device: self.device.as_deref(),
            session_type,
            bind_tokens: self.bind_tokens == Some(true),
            audience: audience(self.audience.as_ref(), self.resource.as_ref())?,
            scope: self.scope.as_deref(),
            idempotency_key,
            body,
        })
    }
}
