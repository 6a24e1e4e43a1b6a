//! API keys: what one may do.

use crate::{id::TenantNo, time::Timestamp};

/// A path, itself and what lies below it, with methods.
pub type Permission = (Box<str>, Vec<Box<str>>);

/// Whether a permission's path covers a path: it is that one, or lies above it.
pub(crate) fn covers(permission: &str, path: &str) -> bool {
    path.strip_prefix(permission).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What an API key may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Paths with their methods.
    pub permissions: Option<Vec<Permission>>,
    /// Native scopes.
    pub scopes: Option<Vec<ApiScope>>,
}

/// A native scope of API keys: each call of the management API says which one it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiScope {
    /// Read users, their sessions and profiles.
    UsersRead,
    /// Make, change and delete users; hold them.
    UsersWrite,
    /// End sessions.
    SessionsWrite,
    /// List API keys.
    KeysRead,
    /// Make, change, rotate and remove API keys.
    KeysWrite,
    /// Follow raised epochs.
    EpochsRead,
    /// Introspect tokens.
    TokensIntrospect,
    /// Read the templates of messages.
    TemplatesRead,
    /// Change the templates of messages.
    TemplatesWrite,
    /// Read the event log and what the outbox could not deliver.
    EventsRead,
    /// Have undelivered rows of the outbox sent again.
    EventsWrite,
    /// Read transfers of guests into accounts.
    TransfersRead,
    /// Confirm and undo transfers.
    TransfersWrite,
}

impl ApiScope {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::UsersRead,
        Self::UsersWrite,
        Self::SessionsWrite,
        Self::KeysRead,
        Self::KeysWrite,
        Self::EpochsRead,
        Self::TokensIntrospect,
        Self::TemplatesRead,
        Self::TemplatesWrite,
        Self::EventsRead,
        Self::EventsWrite,
        Self::TransfersRead,
        Self::TransfersWrite,
    ];

    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::SessionsWrite => "sessions:write",
            Self::KeysRead => "keys:read",
            Self::KeysWrite => "keys:write",
            Self::EpochsRead => "epochs:read",
            Self::TokensIntrospect => "tokens:introspect",
            Self::TemplatesRead => "templates:read",
            Self::TemplatesWrite => "templates:write",
            Self::EventsRead => "events:read",
            Self::EventsWrite => "events:write",
            Self::TransfersRead => "transfers:read",
            Self::TransfersWrite => "transfers:write",
        }
    }

    /// From the word of the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A good API key.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// For people.
    pub name: Box<str>,
    /// Its tenant.
    pub tenant: TenantNo,
    /// What it may do.
    pub grants: Grants,
    /// From then on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl Grants {
    /// Whether it may call `method` on `path`, which needs `scope` where it is one of our own. With neither permissions
    /// nor scopes it may do everything. A permission's path covers itself and what lies below it.
    pub fn may(&self, scope: Option<ApiScope>, method: &str, path: &str) -> bool {
        if self.permissions.is_none() && self.scopes.is_none() {
            return true;
        }
        let by_scope = scope.is_some_and(|s| self.scopes.as_ref().is_some_and(|list| list.contains(&s)));
        by_scope
            || self.permissions.as_ref().is_some_and(|list| {
                list.iter().any(|(p, methods)| covers(p, path) && methods.iter().any(|m| &**m == method))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_covers_its_path_and_what_lies_below() {
        let mut key = Grants { permissions: Some(vec![("/api/user".into(), vec!["GET".into()])]), scopes: None };
        let read = Some(ApiScope::UsersRead);
        assert!(key.may(None, "GET", "/api/user") && key.may(None, "GET", "/api/user/1"));
        for (method, path) in [("POST", "/api/user"), ("GET", "/api/user2"), ("GET", "/v1/users")] {
            assert!(!key.may(read, method, path), "{method} {path}");
        }
        key.scopes = Some(vec![ApiScope::UsersRead]);
        assert!(key.may(read, "GET", "/v1/users") && !key.may(Some(ApiScope::UsersWrite), "POST", "/v1/users"));
        key.permissions = None;
        assert!(key.may(read, "GET", "/v1/users") && !key.may(None, "GET", "/api/user"));
        assert!(Grants::default().may(None, "GET", "/api/user"));
        for scope in ApiScope::ALL {
            assert_eq!(ApiScope::parse(scope.as_str()), Some(scope));
        }
    }
}
