//! What a person does with their own account: look, change the profile, see and end sessions, export, erase.

use std::{sync::Arc, time::Duration};

use passerby_jose::sha256;

use crate::{
    Code, Error, Timestamp,
    account::{AccountView, not_frozen},
    caller::{Access, Caller},
    device::DeviceKeyView,
    hold::{Held, Row},
    id::SessionId,
    model::{Kind, OutRow, Session, SessionKind},
    notice::Notice,
    passerby::{Passerby, count},
    port::{Act, CommitError, Committed, EditProfile, Half, OperationKey},
    profile::Edit,
    recovery::RecoveryState,
    settings::Tenant,
    token::Dress,
};

/// Keys of profile operations open nothing; they are remembered this long.
const OPERATION_KEY_LIFE: Duration = Duration::from_hours(7 * 24);

/// A user as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// The id as shown.
    pub id: String,
    /// Guest or regular.
    pub kind: Kind,
    /// Compact JSON object.
    pub data: Box<str>,
    /// Of `data`, from 1.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The last use of any of its sessions, as far as it was written.
    pub last_active_at: Timestamp,
    /// A guest's expiry: its last session's end.
    pub expires_at: Option<Timestamp>,
    /// Whether it has a row.
    pub stored: bool,
    /// What a regular user has beside the profile, where the answer shows it.
    pub account: Option<Box<AccountView>>,
}

/// A session as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Its client.
    pub client_id: Box<str>,
    /// Tokens or cookie.
    pub kind: SessionKind,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, as far as it was written.
    pub last_active_at: Timestamp,
    /// When it ends if it is not used again.
    pub idle_expires_at: Timestamp,
    /// When it ends at all.
    pub expires_at: Timestamp,
    /// The caller's own.
    pub current: bool,
}

/// Who the caller is.
#[derive(Debug, Clone)]
pub struct Me {
    /// The user.
    pub user: UserView,
    /// The session.
    pub session: SessionView,
}

/// The profile after an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Compact JSON object.
    pub data: Box<str>,
    /// Its version.
    pub version: i64,
    /// The `Idempotency-Key` was known: nothing was changed.
    pub replayed: bool,
}

/// How a profile is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditKind {
    /// RFC 7396.
    MergePatch,
    /// RFC 6902.
    JsonPatch,
    /// `{"operations": […]}`.
    Operations,
}

/// An edit as it came.
#[derive(Debug, Clone, Copy)]
pub struct EditRequest<'a> {
    /// How.
    pub kind: EditKind,
    /// The body.
    pub body: &'a [u8],
    /// `If-Match`, as sent.
    pub if_match: Option<&'a str>,
    /// `Idempotency-Key`, as sent.
    pub idempotency_key: Option<&'a str>,
}

/// Everything that is kept about a user.
#[derive(Debug, Clone)]
pub struct Export {
    /// The user.
    pub user: UserView,
    /// The half of the profile that only the application writes.
    pub server_data: Option<Box<str>>,
    /// Where the guest came in.
    pub entry: Option<Box<str>>,
    /// The client that made it.
    pub client_id: Box<str>,
    /// Counts what made older tokens void.
    pub epoch: i32,
    /// Sessions, living and ended, newest first, with their own metadata.
    pub sessions: Vec<ExportedSession>,
    /// Device keys, newest first.
    pub device_keys: Vec<DeviceKeyView>,
    /// How recovery stands.
    pub recovery: RecoveryState,
    /// What the sessions were told, newest first.
    pub notices: Vec<Notice>,
}

/// A session in an export.
#[derive(Debug, Clone)]
pub struct ExportedSession {
    /// The session.
    pub view: SessionView,
    /// When it was ended by somebody.
    pub ended_at: Option<Timestamp>,
    /// Its own metadata.
    pub metadata: Option<Box<str>>,
}

impl SessionView {
    pub(crate) fn of(tenant: &Tenant, s: &Session, current: bool) -> Self {
        let ends = tenant.rules_of(s.client).ends(s.created_at, s.active_at);
        Self {
            id: s.id,
            client_id: tenant.client_id(s.client).into(),
            kind: s.kind,
            created_at: s.created_at,
            last_active_at: s.active_at,
            idle_expires_at: ends.idle,
            expires_at: ends.absolute,
            current,
        }
    }
}

impl Held {
    fn view_of(&self, s: &Session) -> SessionView {
        SessionView::of(&self.tenant, s, s.id == self.session)
    }

    /// The caller's session.
    pub(crate) fn session_view(&self) -> SessionView {
        SessionView {
            id: self.session,
            client_id: self.client.id.clone(),
            kind: self.session_kind(),
            created_at: self.created_at,
            last_active_at: self.active_at,
            idle_expires_at: self.ends.idle,
            expires_at: self.ends.absolute,
            current: true,
        }
    }

    /// The caller.
    pub(crate) fn user_view(&self, dress: Dress<'_>) -> UserView {
        let id = dress.shown(self.user, self.chosen_id());
        match &self.row {
            Row::Floating(floating) => UserView {
                id,
                kind: Kind::Anonymous,
                data: floating.metadata.clone(),
                version: 1,
                created_at: floating.created_at,
                last_active_at: self.active_at,
                expires_at: Some(self.ends.idle),
                stored: false,
                account: None,
            },
            Row::Stored(stored) => {
                let living = stored.sessions.iter().filter(|s| s.ended_at.is_none());
                let (mut active, mut end) = (self.active_at, self.ends.idle);
                for s in living.filter(|s| s.id != self.session) {
                    active = active.max(s.active_at);
                    end = end.max(self.tenant.rules_of(s.client).ends(s.created_at, s.active_at).idle);
                }
                UserView {
                    id,
                    kind: stored.user.kind,
                    data: stored.user.data.clone(),
                    version: stored.user.version,
                    created_at: stored.user.created_at,
                    last_active_at: active,
                    expires_at: (stored.user.kind == Kind::Anonymous).then_some(end),
                    stored: true,
                    account: None,
                }
            }
        }
    }
}

impl Passerby {
    /// Who the caller is.
    ///
    /// # Errors
    /// As for every call on oneself: no, a broken or an ended credential.
    pub async fn me(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Me, Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        let mut user = held.user_view(Dress::default());
        user.account = self.account_of(&held).await?.map(Box::new);
        Ok(Me { user, session: held.session_view() })
    }

    /// The OpenID Connect userinfo of the caller: the same facts, the id as the token's `sub` has it (OpenID Connect Core
    /// section 5.3.2: a client compares the two); guests too, without `openid`.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn userinfo(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Me, Error> {
        let Some(token) = access.token else { return self.me(caller, access).await };
        let (seen, held) = self.hold_access(caller, token, self.now()).await?;
        let mut user = held.user_view(Dress::default());
        user.id = seen.subject.to_string();
        Ok(Me { user, session: held.session_view() })
    }

    /// Changes the caller's profile data; stores a floating guest first, in the same transaction.
    ///
    /// # Errors
    /// [`Code::Data`] with the fault, [`Code::PreconditionFailed`], [`Code::IdempotencyMismatch`], and as for
    /// [`Passerby::me`].
    pub async fn edit_profile(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        request: EditRequest<'_>,
    ) -> Result<Profile, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let limits = &held.tenant.data_limits;
        let edit = match request.kind {
            EditKind::MergePatch => Edit::merge_patch(request.body, limits),
            EditKind::JsonPatch => Edit::json_patch(request.body, limits),
            EditKind::Operations => Edit::operations(request.body, limits),
        }?;
        let if_match = request.if_match.map(parse_if_match).transpose()?.flatten();
        let key = match request.idempotency_key {
            None => None,
            Some(key) => {
                let length = key.len();
                if !(1..=255).contains(&length) {
                    return Err(Error::at(Code::InvalidValue, "Idempotency-Key", "Expected 1 to 255 characters."));
                }
                let secrets = self.secrets_of(held.tenant.no)?;
                Some(OperationKey {
                    hash: secrets.look_up_hash("operation", &[held.user.as_bytes(), key.as_bytes()]),
                    body: sha256(request.body),
                    ends_at: now.plus(OPERATION_KEY_LIFE),
                })
            }
        };
        let profile = self.apply_edit(&held, edit, Half::Data, None, if_match, key, now).await?;
        Ok(profile)
    }

    /// Commits an edit of the caller's data or of the session's own metadata.
    #[expect(clippy::too_many_arguments, reason = "each is one member of the change; a struct would only rename them")]
    pub(crate) async fn apply_edit(
        &self,
        held: &Held,
        edit: Edit,
        half: Half,
        max_bytes: Option<usize>,
        if_match: Option<i64>,
        key: Option<OperationKey>,
        now: Timestamp,
    ) -> Result<Profile, Error> {
        let mut limits = held.tenant.data_limits.clone();
        if let Some(max) = max_bytes {
            let mut smaller = (*limits).clone();
            smaller.max_bytes = smaller.max_bytes.min(max);
            limits = Arc::new(smaller);
        }
        let act = Act::Edit(Box::new(EditProfile {
            user: held.user,
            session: held.session,
            half,
            edit: Arc::new(edit),
            limits,
            schema: if half == Half::Data { held.tenant.schema.clone() } else { None },
            if_match,
            key,
        }));
        let keep = held.to_keep(now);
        let keeps = keep.is_some();
        match self.commit(held.tenant.no, keep, act).await {
            Ok(Committed::Profile { data, version, replayed }) => {
                count(&self.counts().edits);
                if keeps {
                    count(&self.counts().kept);
                }
                Ok(Profile { data, version, replayed })
            }
            Ok(_) => Err(Error::new(Code::Internal, "The store gave another answer than was asked for.")),
            Err(CommitError::Edit(e)) => Err(e.into()),
            Err(e) => Err(e.into()),
        }
    }

    /// The caller's living sessions, newest first.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_sessions(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Vec<SessionView>, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let Row::Stored(stored) = &held.row else { return Ok(vec![held.session_view()]) };
        let mut list: Vec<SessionView> = stored
            .sessions
            .iter()
            .filter(|s| s.ended_at.is_none())
            .map(|s| held.view_of(s))
            .filter(|v| v.idle_expires_at > now)
            .collect();
        list.sort_by_key(|v| std::cmp::Reverse((v.created_at, v.id)));
        Ok(list)
    }

    /// Ends one of the caller's sessions.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it is none of the caller's; as for [`Passerby::me`].
    pub async fn end_my_session(&self, caller: &Caller<'_>, access: &Access<'_>, id: &str) -> Result<(), Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        let unknown = || Error::new(Code::NotFound, "You have no such session.");
        let id = SessionId::parse(id).ok_or_else(unknown)?;
        let mine = id == held.session
            || match &held.row {
                Row::Stored(stored) => stored.sessions.iter().any(|s| s.id == id && s.ended_at.is_none()),
                Row::Floating(_) => false,
            };
        if !mine {
            return Err(unknown());
        }
        self.end(&held, id).await
    }

    /// Ends the caller's session.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn logout(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<(), Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        self.end(&held, held.session).await
    }

    /// Ends a session of the held user; a floating one is marked, so that no token brings it back.
    pub(crate) async fn end(&self, held: &Held, session: SessionId) -> Result<(), Error> {
        self.end_with(held, session, Vec::new()).await
    }

    /// The same with rows of the outbox.
    pub(crate) async fn end_with(&self, held: &Held, session: SessionId, out: Vec<OutRow>) -> Result<(), Error> {
        let act = Act::EndSession { user: held.user, session, mark_until: held.mark_until() };
        self.commit_with(held.tenant.no, None, act, out).await?;
        Ok(())
    }

    /// Everything that is kept about the caller.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn export_me(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Export, Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        let user = held.user_view(Dress::default());
        let items = match &held.row {
            Row::Stored(_) => self.store.items(held.tenant.no, held.user, None).await?,
            Row::Floating(_) => Vec::new(),
        };
        let device_keys = crate::device::views_of(&held, &items)?;
        let recovery = crate::recovery::state_of(&items)?;
        let notices = crate::notice::views_of(&items, now)?;
        Ok(match &held.row {
            Row::Floating(floating) => Export {
                user,
                server_data: None,
                entry: floating.entry.clone(),
                client_id: held.client.id.clone(),
                epoch: held.epoch,
                sessions: vec![ExportedSession { view: held.session_view(), ended_at: None, metadata: None }],
                device_keys,
                recovery,
                notices,
            },
            Row::Stored(stored) => Export {
                user,
                server_data: stored.user.server_data.clone(),
                entry: stored.user.entry.clone(),
                client_id: held.tenant.client_id(stored.user.client).into(),
                epoch: held.epoch,
                sessions: stored
                    .sessions
                    .iter()
                    .map(|s| ExportedSession {
                        view: held.view_of(s),
                        ended_at: s.ended_at,
                        metadata: s.metadata.clone(),
                    })
                    .collect(),
                device_keys,
                recovery,
                notices,
            },
        })
    }

    /// Erases the caller: rows gone, a mark left, so that no token brings them back. Guests that came into the account go
    /// with it.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn erase_me(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<(), Error> {
        let now = self.now();
        let held = self.hold_caller(caller, access, now).await?;
        not_frozen(&held)?;
        if held.kind == Kind::Regular {
            self.erase_absorbed(&held.tenant, held.user, now).await?;
        }
        let mark_until = now.plus(held.tenant.longest_lifetime());
        let chosen_id = held.chosen_id().map(Into::into);
        // a conversion or a merge that came first has ended the caller's session: it erases nothing then
        let act = Act::Erase { user: held.user, chosen_id, mark_until, epoch: Some(held.epoch) };
        self.commit(held.tenant.no, None, act).await?;
        self.note_epoch(held.tenant.no, held.user, held.epoch + 1, held.chosen_id(), now);
        count(&self.counts().erased);
        Ok(())
    }
}

/// `If-Match`: one of ours (`"7"`) or `*`. Weak tags never match (RFC 9110 section 13.1.1); of a list, the newest
/// that is ours counts.
///
/// # Errors
/// [`Code::InvalidValue`] for what is no entity tag at all.
pub(crate) fn parse_if_match(text: &str) -> Result<Option<i64>, Error> {
    let bad = || Error::at(Code::InvalidValue, "If-Match", "Expected an entity tag such as \"3\", or *.");
    if text.trim() == "*" {
        return Ok(None);
    }
    let mut newest = None;
    for tag in text.split(',').map(str::trim) {
        let weak = tag.starts_with("W/");
        let inner = tag.strip_prefix("W/").unwrap_or(tag);
        let inner = inner.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or_else(bad)?;
        let version = if weak { None } else { inner.parse::<i64>().ok() };
        // a tag that is not ours matches nothing: no version is -1
        newest = newest.max(Some(version.unwrap_or(-1)));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags() {
        assert_eq!(parse_if_match("\"3\"").unwrap(), Some(3));
        assert_eq!(parse_if_match("*").unwrap(), None);
        assert_eq!(parse_if_match("W/\"3\"").unwrap(), Some(-1));
        assert_eq!(parse_if_match("\"abc\"").unwrap(), Some(-1));
        assert_eq!(parse_if_match("\"2\", \"3\"").unwrap(), Some(3));
        for bad in ["3", "", "\"3", "x"] {
            assert!(parse_if_match(bad).is_err(), "{bad}");
        }
    }
}
