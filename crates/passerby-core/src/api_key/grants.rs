//! What keys may do: how it is kept, how it is written by people, and which grants hold which others.

use serde::{Deserialize, Serialize};

use super::manage::NewPermission;
use crate::{
    Code, Error,
    settings::{ApiScope, Grants, Permission, covers},
};

/// Methods that a permission may name.
pub const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// So many permissions one key may have.
const MOST_PERMISSIONS: usize = 100;

/// The longest path of a permission, in bytes.
const LONGEST_PATH: usize = 255;

/// The path of a permission as it is compared: it covers itself and what lies below it, so its end is written once.
/// `None` for what is no path.
pub fn permission_path(text: &str) -> Option<Box<str>> {
    let plain = text.len() <= LONGEST_PATH && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#*\"\\".contains(&b));
    (plain && text.starts_with('/')).then(|| text.trim_end_matches('/').into())
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Box<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<KeptPermission>>,
}

#[derive(Serialize, Deserialize)]
struct KeptPermission {
    path: Box<str>,
    methods: Vec<Box<str>>,
}

/// As the store keeps them.
pub(super) fn write(grants: &Grants) -> Box<str> {
    let kept = Kept {
        scopes: grants.scopes.as_ref().map(|list| list.iter().map(|s| s.as_str().into()).collect()),
        permissions: grants.permissions.as_ref().map(|list| {
            list.iter().map(|(path, methods)| KeptPermission { path: path.clone(), methods: methods.clone() }).collect()
        }),
    };
    // it has no member that could fail
    serde_json::to_string(&kept).unwrap_or_else(|_| NOTHING.into()).into()
}

const NOTHING: &str = r#"{"scopes":[]}"#;

/// From the store. A scope that this version does not know allows nothing; what cannot be read neither, since the
/// absence of both lists would mean everything.
pub(super) fn read(text: &str) -> Grants {
    match serde_json::from_str::<Kept>(text) {
        Ok(kept) => Grants {
            scopes: kept.scopes.map(|list| list.iter().filter_map(|s| ApiScope::parse(s)).collect()),
            permissions: kept.permissions.map(|list| list.into_iter().map(|p| (p.path, p.methods)).collect()),
        },
        Err(e) => {
            tracing::error!(error = %e, "the grants of an API key cannot be read; it may do nothing");
            Grants { scopes: Some(Vec::new()), permissions: None }
        }
    }
}

/// Scopes as they are written.
///
/// # Errors
/// [`Code::InvalidValue`] for an unknown word.
pub(super) fn scopes(words: &[&str]) -> Result<Vec<ApiScope>, Error> {
    let mut scopes = Vec::with_capacity(words.len());
    for (n, word) in words.iter().enumerate() {
        let scope = ApiScope::parse(word).ok_or_else(|| {
            let known = ApiScope::ALL.map(ApiScope::as_str).join(", ");
            Error::at(Code::InvalidValue, format!("/scopes/{n}"), format!("Expected one of {known}."))
        })?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

/// Permissions as they are written.
///
/// # Errors
/// [`Code::InvalidValue`] for what is no path or no method, and for more than [`MOST_PERMISSIONS`].
pub(super) fn permissions(written: &[NewPermission<'_>]) -> Result<Vec<Permission>, Error> {
    let bad = |field: String, detail: &'static str| Error::at(Code::InvalidValue, field, detail);
    if written.len() > MOST_PERMISSIONS {
        return Err(bad("/permissions".into(), "Expected at most 100 permissions."));
    }
    let mut list = Vec::with_capacity(written.len());
    for (n, permission) in written.iter().enumerate() {
        let path = permission_path(permission.path)
            .ok_or_else(|| bad(format!("/permissions/{n}/path"), "Expected a path such as \"/v1/users\"."))?;
        if permission.methods.is_empty() {
            return Err(bad(format!("/permissions/{n}/methods"), "Expected at least one method."));
        }
        let mut methods: Vec<Box<str>> = Vec::with_capacity(permission.methods.len());
        for (m, method) in permission.methods.iter().enumerate() {
            if !METHODS.contains(method) {
                let field = format!("/permissions/{n}/methods/{m}");
                return Err(bad(field, "Expected one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS."));
            }
            if !methods.iter().any(|known| **known == **method) {
                methods.push((*method).into());
            }
        }
        list.push((path, methods));
    }
    Ok(list)
}

impl Grants {
    /// Whether these hold all that `other` allows: scopes within scopes, permissions within permissions. Nobody hands
    /// out, or gets hold of, more than they have.
    pub fn hold(&self, other: &Self) -> bool {
        if self.scopes.is_none() && self.permissions.is_none() {
            return true;
        }
        if other.scopes.is_none() && other.permissions.is_none() {
            return false;
        }
        let own_scopes = self.scopes.as_deref().unwrap_or_default();
        let own = self.permissions.as_deref().unwrap_or_default();
        let allowed = |path: &str, method: &str| {
            own.iter().any(|(p, methods)| {
                covers(p, path) && methods.iter().any(|m| &**m == method || (method == "HEAD" && &**m == "GET"))
            })
        };
        other.scopes.iter().flatten().all(|s| own_scopes.contains(s))
            && other.permissions.iter().flatten().all(|(path, methods)| methods.iter().all(|m| allowed(path, m)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants<'a>(scopes: Option<&[&'a str]>, permissions: Option<&[(&'a str, &[&'a str])]>) -> Grants {
        let written = |list: &[(&'a str, &[&'a str])]| -> Vec<NewPermission<'a>> {
            list.iter().map(|(path, methods)| NewPermission { path, methods: methods.to_vec() }).collect()
        };
        Grants {
            scopes: scopes.map(|list| super::scopes(list).unwrap()),
            permissions: permissions.map(|list| super::permissions(&written(list)).unwrap()),
        }
    }

    #[test]
    fn nobody_hands_out_more_than_they_have() {
        let all = grants(None, None);
        let none = grants(Some(&[]), None);
        let read = grants(Some(&["users:read"]), None);
        let both = grants(Some(&["users:read", "users:write"]), None);
        let users = grants(None, Some(&[("/v1/users", &["GET", "POST"])]));
        let one = grants(None, Some(&[("/v1/users/7/", &["HEAD"])]));
        let near = grants(None, Some(&[("/v1/users2", &["GET"])]));
        let root = grants(None, Some(&[("/", &["GET"])]));
        for key in [&all, &none, &read, &both, &users, &one, &near, &root] {
            assert!(all.hold(key) && key.hold(&none) && key.hold(key), "{key:?}");
            assert_eq!(key.hold(&all), key == &all, "{key:?}");
        }
        assert!(both.hold(&read) && !read.hold(&both));
        assert!(users.hold(&one) && !one.hold(&users) && !users.hold(&near) && !users.hold(&root));
        assert!(root.hold(&near) && !root.hold(&users), "only GET");
        assert!(!users.hold(&read) && !read.hold(&users), "a scope is no permission");
        assert!(!read.hold(&grants(Some(&["users:read"]), Some(&[("/v1/users", &["GET"])]))));
    }

    #[test]
    fn kept_and_read_again() {
        for key in [
            grants(None, None),
            grants(Some(&[]), Some(&[])),
            grants(Some(&["users:read", "epochs:read", "users:read"]), Some(&[("/api/user/", &["GET", "GET"])])),
        ] {
            assert_eq!(read(&write(&key)), key);
        }
        assert_eq!(&*write(&Grants::default()), "{}");
        for broken in ["", "[]", "{\"scopes\":7}", "null"] {
            assert!(!read(broken).may(Some(ApiScope::UsersRead), "GET", "/v1/users"), "{broken}");
        }
        let newer = read(r#"{"scopes":["moons:write","users:read"],"more":1}"#);
        assert_eq!(newer.scopes.as_deref(), Some(&[ApiScope::UsersRead][..]));
    }

    #[test]
    fn what_is_no_path_and_no_word() {
        assert_eq!(permission_path("/").as_deref(), Some(""));
        assert_eq!(permission_path("/api/user/").as_deref(), Some("/api/user"));
        for bad in ["", "api", "/a b", "/a?b", "/a#b", "/a*", "/ä", "/a\n", &format!("/{}", "a".repeat(300))] {
            assert!(permission_path(bad).is_none(), "{bad}");
        }
        let field = |e: Error| e.field.unwrap().into_owned();
        assert_eq!(field(scopes(&["users:read", "root"]).unwrap_err()), "/scopes/1");
        let permission = |path, methods: &[&'static str]| NewPermission { path, methods: methods.to_vec() };
        assert_eq!(field(permissions(&[permission("x", &[])]).unwrap_err()), "/permissions/0/path");
        assert_eq!(field(permissions(&[permission("/x", &[])]).unwrap_err()), "/permissions/0/methods");
        let second = [permission("/a", &["GET"]), permission("/b", &["GET", "get"])];
        assert_eq!(field(permissions(&second).unwrap_err()), "/permissions/1/methods/1");
    }
}
