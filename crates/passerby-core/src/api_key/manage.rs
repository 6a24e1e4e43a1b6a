//! Making, showing, changing, rotating and removing API keys. Whoever does it by a key reaches only keys that may do no
//! more than that key itself.

use std::time::Duration;

use uuid::Uuid;

use super::{KeyText, Manager, grants};
use crate::{
    Code, Error, Timestamp,
    device::TRIES,
    manage::{Page, PageRequest},
    model::ApiKeyRow,
    passerby::Passerby,
    port::{Act, CommitError},
    settings::{ApiKey, ApiScope, Grants},
    time::parse_span,
};

/// After a rotation the text before it is taken for so long, unless another span is asked for.
pub const OVERLAP: Duration = Duration::from_hours(24);

/// The longest that it may be asked for.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// A permission as it is written.
#[derive(Debug, Clone)]
pub struct NewPermission<'a> {
    /// Covers itself and what lies below it.
    pub path: &'a str,
    /// Methods.
    pub methods: Vec<&'a str>,
}

/// A key that is to be made. With neither scopes nor permissions it may do everything.
#[derive(Debug, Clone, Default)]
pub struct NewApiKey<'a> {
    /// For people: 1 to 100 characters.
    pub name: &'a str,
    /// Native scopes.
    pub scopes: Option<Vec<&'a str>>,
    /// Paths with methods.
    pub permissions: Option<Vec<NewPermission<'a>>>,
    /// When it ends, RFC 3339.
    pub expires_at: Option<&'a str>,
}

/// A change of a key; outer `None`: stays as it is, inner `None`: there is none any more.
#[derive(Debug, Clone, Default)]
pub struct ApiKeyPatch<'a> {
    /// For people: 1 to 100 characters.
    pub name: Option<&'a str>,
    /// Native scopes.
    pub scopes: Option<Option<Vec<&'a str>>>,
    /// Paths with methods.
    pub permissions: Option<Option<Vec<NewPermission<'a>>>>,
    /// When it ends, RFC 3339.
    pub expires_at: Option<Option<&'a str>>,
}

/// A stored key as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyView {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: Box<str>,
    /// The beginning of its text.
    pub prefix: Box<str>,
    /// What it may do.
    pub grants: Grants,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, as far as it was written: within a minute or two.
    pub last_used_at: Option<Timestamp>,
    /// Until when the text before the last rotation is taken; `None`: it is not any more.
    pub previous_expires_at: Option<Timestamp>,
}

/// A key with its text, which is shown this once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeKey {
    /// The key.
    pub key: ApiKeyView,
    /// Its text.
    pub text: KeyText,
}

impl ApiKeyView {
    fn of(row: &ApiKeyRow, now: Timestamp) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            prefix: row.prefix.clone(),
            grants: grants::read(&row.grants),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            previous_expires_at: row.previous.map(|(_, until)| until).filter(|until| *until > now),
        }
    }
}

/// # Errors
/// [`Code::InvalidValue`].
fn checked_name(name: &str) -> Result<Box<str>, Error> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(Error::at(Code::InvalidValue, "/name", "Expected a name of 1 to 100 printable characters."));
    }
    Ok(name.into())
}

/// # Errors
/// [`Code::InvalidValue`] for what is no moment, or one that has passed.
fn checked_end(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let end = Timestamp::parse(text).filter(|end| *end > now);
    end.ok_or_else(|| {
        let expected = "Expected a moment to come, such as \"2030-01-31T00:00:00Z\".";
        Error::at(Code::InvalidValue, "/expires_at", expected)
    })
}

fn beyond(field: &'static str, detail: &'static str) -> Error {
    Error::at(Code::InsufficientScope, field, detail)
}

/// Whether `by` may hand out, or get hold of, these grants.
fn within(by: &ApiKey, grants: &Grants) -> Result<(), Error> {
    if by.grants.hold(grants) {
        return Ok(());
    }
    let field = if grants.permissions.is_some() { "/permissions" } else { "/scopes" };
    Err(beyond(field, "A key reaches only keys that may do no more than itself."))
}

/// Whether `by` may hand out a key that lives until then.
fn outlived(by: &ApiKey, end: Option<Timestamp>) -> Result<(), Error> {
    match (by.expires_at, end) {
        (Some(own), end) if end.is_none_or(|end| end > own) => {
            Err(beyond("/expires_at", "A key hands out no key that lives longer than itself."))
        }
        _ => Ok(()),
    }
}

impl Passerby {
    /// Makes a key. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`]; [`Code::InsufficientScope`] for a key that may do more, or
    /// lives longer, than the one by which it is made.
    pub async fn make_api_key(&self, by: &Manager<'_>, new: &NewApiKey<'_>) -> Result<MadeKey, Error> {
        let (tenant, by) = self.manager(by, ApiScope::KeysWrite).await?;
        let now = self.now();
        let name = checked_name(new.name)?;
        let grants = Grants {
            scopes: new.scopes.as_deref().map(grants::scopes).transpose()?,
            permissions: new.permissions.as_deref().map(grants::permissions).transpose()?,
        };
        let expires_at = new.expires_at.map(|text| checked_end(text, now)).transpose()?;
        within(&by, &grants)?;
        outlived(&by, expires_at)?;
        let text = KeyText::fresh()?;
        let row = ApiKeyRow {
            tenant: tenant.no,
            id: self.ids.fresh(now, self.random.as_ref()).session.uuid(),
            revision: 1,
            hash: text.hash(),
            previous: None,
            prefix: text.prefix().into(),
            name,
            grants: grants::write(&grants),
            created_at: now,
            expires_at,
            last_used_at: None,
        };
        let key = ApiKeyView::of(&row, now);
        self.commit(tenant.no, None, Act::PutApiKey { key: Box::new(row), was: None }).await?;
        self.keys_changed();
        tracing::info!(id = %key.id, prefix = %key.prefix, "an API key was made");
        Ok(MadeKey { key, text })
    }

    /// The tenant's stored keys, newest first. Keys of the configuration are not among them.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`] for the page.
    pub async fn list_api_keys(&self, by: &Manager<'_>, page: &PageRequest<'_>) -> Result<Page<ApiKeyView>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::KeysRead).await?;
        let now = self.now();
        let (before, limit) = page.read(b'k')?;
        let mut rows = self.store.api_keys(tenant.no).await?;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
        let rows = rows.iter().filter(|row| before.is_none_or(|id| row.id.as_bytes() < &id));
        let items = rows.take(limit + 1).map(|row| ApiKeyView::of(row, now)).collect();
        Ok(Page::cut(items, limit, b'k', |key| *key.id.as_bytes()))
    }

    /// One stored key.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn show_api_key(&self, by: &Manager<'_>, id: &str) -> Result<ApiKeyView, Error> {
        let (tenant, _) = self.manager(by, ApiScope::KeysRead).await?;
        Ok(ApiKeyView::of(&self.key_row(&tenant, id).await?, self.now()))
    }

    /// Changes name, grants or end of a key.
    ///
    /// # Errors
    /// As [`Passerby::make_api_key`]; [`Code::NotFound`]; [`Code::InsufficientScope`] also for a key that may do more
    /// than the one by which it is changed.
    pub async fn change_api_key(
        &self,
        by: &Manager<'_>,
        id: &str,
        patch: &ApiKeyPatch<'_>,
    ) -> Result<ApiKeyView, Error> {
        let (tenant, by) = self.manager(by, ApiScope::KeysWrite).await?;
        let now = self.now();
        let name = patch.name.map(checked_name).transpose()?;
        let scopes = patch.scopes.as_ref().map(|s| s.as_deref().map(grants::scopes).transpose()).transpose()?;
        let permissions =
            patch.permissions.as_ref().map(|p| p.as_deref().map(grants::permissions).transpose()).transpose()?;
        let end = patch.expires_at.map(|e| e.map(|text| checked_end(text, now)).transpose()).transpose()?;
        for _ in 0..TRIES {
            let old = self.key_row(&tenant, id).await?;
            let mut grants = grants::read(&old.grants);
            within(&by, &grants)?;
            if let Some(scopes) = &scopes {
                grants.scopes.clone_from(scopes);
            }
            if let Some(permissions) = &permissions {
                grants.permissions.clone_from(permissions);
            }
            within(&by, &grants)?;
            let mut row = old.clone();
            if scopes.is_some() || permissions.is_some() {
                row.grants = grants::write(&grants);
            }
            if let Some(name) = &name {
                row.name.clone_from(name);
            }
            if let Some(end) = end {
                outlived(&by, end)?;
                row.expires_at = end;
            }
            if let Some(row) = self.put_key(&old, row).await? {
                return Ok(ApiKeyView::of(&row, now));
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Gives a key a new text. The one before is taken for `overlap` (a span such as `24h`, at most
    /// [`LONGEST_OVERLAP`]; `None`: [`OVERLAP`]); one from a rotation before that is dead at once.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InvalidValue`] for the span; [`Code::InsufficientScope`]
    /// for a key that may do more, or lives longer, than the one by which it is rotated.
    pub async fn rotate_api_key(&self, by: &Manager<'_>, id: &str, overlap: Option<&str>) -> Result<MadeKey, Error> {
        let (tenant, by) = self.manager(by, ApiScope::KeysWrite).await?;
        let now = self.now();
        let overlap = match overlap {
            None => OVERLAP,
            Some(text) => {
                let span = parse_span(text).ok().filter(|span| *span <= LONGEST_OVERLAP);
                let expected = "Expected a span such as \"24h\", at most \"30d\".";
                span.ok_or_else(|| Error::at(Code::InvalidValue, "/overlap", expected))?
            }
        };
        let text = KeyText::fresh()?;
        for _ in 0..TRIES {
            let old = self.key_row(&tenant, id).await?;
            // the text of a key is all that it may do
            within(&by, &grants::read(&old.grants))?;
            outlived(&by, old.expires_at)?;
            let row = ApiKeyRow {
                hash: text.hash(),
                previous: (!overlap.is_zero()).then(|| (old.hash, now.plus(overlap))),
                prefix: text.prefix().into(),
                ..old.clone()
            };
            if let Some(row) = self.put_key(&old, row).await? {
                tracing::info!(id = %row.id, prefix = %row.prefix, "an API key was rotated");
                return Ok(MadeKey { key: ApiKeyView::of(&row, now), text });
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Removes a key: refused here at once, by other processes within two seconds.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::InsufficientScope`] for a key that may do more than the one
    /// by which it is removed.
    pub async fn remove_api_key(&self, by: &Manager<'_>, id: &str) -> Result<(), Error> {
        let (tenant, by) = self.manager(by, ApiScope::KeysWrite).await?;
        let row = self.key_row(&tenant, id).await?;
        within(&by, &grants::read(&row.grants))?;
        let done = self.commit(tenant.no, None, Act::RemoveApiKey(row.id)).await;
        // even an answer that was lost may have removed it
        self.keys_changed();
        done?;
        tracing::info!(id = %row.id, prefix = %row.prefix, "an API key was removed");
        Ok(())
    }

    /// Writes a key over the one that was read; `None`: somebody else changed it meanwhile.
    async fn put_key(&self, old: &ApiKeyRow, row: ApiKeyRow) -> Result<Option<ApiKeyRow>, Error> {
        let row = ApiKeyRow { revision: old.revision.saturating_add(1), ..row };
        let act = Act::PutApiKey { key: Box::new(row.clone()), was: Some(old.revision) };
        let done = self.commit(row.tenant, None, act).await;
        self.keys_changed();
        match done {
            Ok(_) => Ok(Some(row)),
            Err(CommitError::Moved) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn key_row(&self, tenant: &crate::settings::Tenant, id: &str) -> Result<ApiKeyRow, Error> {
        let unknown = || Error::new(Code::NotFound, "There is no such API key.");
        // one spelling: the one that is shown
        let id = Uuid::try_parse(id).ok().filter(|uuid| uuid.hyphenated().to_string() == id).ok_or_else(unknown)?;
        let rows = self.store.api_keys(tenant.no).await?;
        rows.into_iter().find(|row| row.id == id).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TenantNo;

    fn key(scopes: Option<&[&str]>, expires_at: Option<i64>) -> ApiKey {
        let grants = Grants { scopes: scopes.map(|s| grants::scopes(s).unwrap()), permissions: None };
        let expires_at = expires_at.map(Timestamp::from_seconds);
        ApiKey { name: "n".into(), tenant: TenantNo(1), grants, expires_at }
    }

    #[test]
    fn a_key_hands_out_no_more_and_nothing_that_outlives_it() {
        let at = Timestamp::from_seconds;
        let (free, lasting) = (key(None, None), key(Some(&["keys:write"]), None));
        let short = key(Some(&["keys:write", "users:read"]), Some(100));
        assert!(within(&free, &lasting.grants).is_ok() && outlived(&free, None).is_ok());
        assert_eq!(within(&lasting, &short.grants).unwrap_err().field.as_deref(), Some("/scopes"));
        assert_eq!(within(&short, &free.grants).unwrap_err().code, Code::InsufficientScope);
        assert!(outlived(&short, Some(at(100))).is_ok() && outlived(&lasting, Some(at(900))).is_ok());
        for end in [None, Some(at(101))] {
            assert_eq!(outlived(&short, end).unwrap_err().field.as_deref(), Some("/expires_at"));
        }
    }

    #[test]
    fn names_and_ends() {
        assert_eq!(checked_name(" shop ").unwrap(), "shop".into());
        for bad in ["", "  ", "a\nb", &"x".repeat(101)] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
        let now = Timestamp::from_seconds(1_790_000_000);
        assert!(checked_end("2027-01-01T00:00:00Z", now).is_ok());
        for bad in ["", "soon", "2026-01-01T00:00:00Z", "2027-01-01", "2027-01-01T00:00:00"] {
            assert!(checked_end(bad, now).is_err(), "{bad}");
        }
    }
}
