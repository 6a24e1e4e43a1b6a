//! What a good token says.

use std::fmt;

use serde_json::Value;

use crate::{Error, Holder, Require, TokenFault, jws::Object};

/// Longest life of anything that is read as a number of seconds; larger ones are no times.
const MAX_TIME: i64 = 1 << 53;

/// A token that passed. The layer puts it into the request's extensions.
#[derive(Clone)]
pub struct Verified {
    pub(crate) by: u64,
    pub(crate) claims: Object,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    /// The thumbprint in `cnf.jkt`, as text.
    pub(crate) bound_to: Option<Box<str>>,
}

impl fmt::Debug for Verified {
    /// Names nobody: what is printed may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("holder", &self.holder())
            .field("client_id", &self.client_id())
            .finish_non_exhaustive()
    }
}

impl Verified {
    /// Reads the claims that every access token has (RFC 9068 section 2.2).
    pub(crate) fn read(claims: Object, by: u64) -> Result<Self, TokenFault> {
        let time = |name: &str| claims.get(name).and_then(Value::as_i64).filter(|t| (0..MAX_TIME).contains(t));
        let (Some(issued_at), Some(expires_at)) = (time("iat"), time("exp")) else { return Err(TokenFault::Claims) };
        let named = |name: &str| claims.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !["iss", "sub", "client_id", "jti"].into_iter().all(named) {
            return Err(TokenFault::Claims);
        }
        if claims.get("nbf").is_some() && time("nbf").is_none() {
            return Err(TokenFault::Claims);
        }
        let bound_to = match claims.get("cnf") {
            None => None,
            // a binding by other means, which is not understood, must not be passed over
            Some(cnf) => match cnf.as_object().and_then(|cnf| cnf.get("jkt")).and_then(Value::as_str) {
                Some(jkt) => Some(jkt.into()),
                None => return Err(TokenFault::Claims),
            },
        };
        Ok(Self { by, claims, issued_at, expires_at, bound_to })
    }

    fn text(&self, name: &str) -> &str {
        self.claims.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whose token it is: `sub`, as the issuer writes it. The key under which to keep what is the user's.
    pub fn subject(&self) -> &str {
        self.text("sub")
    }

    /// The client that the token was issued to: `client_id`.
    pub fn client_id(&self) -> &str {
        self.text("client_id")
    }

    /// The token's own id: `jti`.
    pub fn id(&self) -> &str {
        self.text("jti")
    }

    /// The session: `sid`; `None` for a client's own token.
    pub fn session(&self) -> Option<&str> {
        self.claims.get("sid").and_then(Value::as_str)
    }

    /// Guest, member, or neither said.
    pub fn holder(&self) -> Holder {
        match self.claims.get("is_anonymous") {
            Some(Value::Bool(true)) => Holder::Guest,
            Some(Value::Bool(false)) => Holder::Member,
            _ => Holder::Unmarked,
        }
    }

    /// Whether it is a guest's.
    pub fn is_guest(&self) -> bool {
        self.holder() == Holder::Guest
    }

    /// Whether it is a member's; a token without the mark is not.
    pub fn is_member(&self) -> bool {
        self.holder() == Holder::Member
    }

    /// Whether the issuer keeps nothing of the guest yet.
    pub fn is_floating(&self) -> bool {
        self.claims.get("floating").and_then(Value::as_bool) == Some(true)
    }

    /// The scopes.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.text("scope").split(' ').filter(|scope| !scope.is_empty())
    }

    /// Whether the scope is there, exactly.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|held| held == scope)
    }

    /// The user's epoch at issue; 0 where the token says none.
    pub fn epoch(&self) -> i64 {
        self.claims.get("epoch").and_then(Value::as_i64).unwrap_or(0)
    }

    /// When it was issued, in seconds since 1970-01-01 UTC.
    pub fn issued_at(&self) -> i64 {
        self.issued_at
    }

    /// When it ends, in seconds since 1970-01-01 UTC.
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The thumbprint of the key that it is bound to (RFC 7638, base64url), proven by this request.
    pub fn key_thumbprint(&self) -> Option<&str> {
        self.bound_to.as_deref()
    }

    /// Any claim, as it came.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Asks more of the token than the layer did: for routes that differ by a scope or by whose token it is.
    ///
    /// # Errors
    /// [`Error::Holder`], [`Error::Scope`].
    pub fn require(&self, require: &Require) -> Result<(), Error> {
        require.check(self)
    }
}
