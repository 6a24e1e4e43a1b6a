//! What back ends do with users, by API key: list and look, make, change, hold, erase, end sessions.

mod page;

use std::sync::Arc;

use crate::{
    Code, Error, Timestamp,
    api_key::Manager,
    device::TRIES,
    id::{ClientNo, SessionId, UserId, may_be_chosen},
    me::{SessionView, UserView, parse_if_match},
    model::{ItemKind, Kind, Session, Standing, User},
    notice::NoticeKind,
    passerby::{Passerby, count},
    port::{Act, CommitError, Ending, ItemChange, ManageUser, Turn},
    profile::{Edit, parse_object},
    settings::{ApiScope, Tenant},
    token::Dress,
};

pub use self::page::{Page, PageRequest};

/// A user as back ends see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedUser {
    /// What the user sees as well.
    pub user: UserView,
    /// The half of the profile that only API keys write: compact JSON object.
    pub server_data: Box<str>,
    /// Never culled.
    pub held: bool,
    /// What was issued under a lower one is dead.
    pub epoch: i32,
    /// Where the guest came in.
    pub entry: Option<Box<str>>,
    /// The client that made it; `None` for one that a back end made.
    pub client_id: Option<Box<str>>,
}

/// A user that is to be made: a guest without a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewUser<'a> {
    /// A UUID, or any other 1 to 255 printable characters; `None`: a new id.
    pub id: Option<&'a str>,
    /// The profile's first content, JSON.
    pub data: Option<&'a [u8]>,
    /// Its other half, JSON.
    pub server_data: Option<&'a [u8]>,
    /// Where the guest came in, at most 64 characters.
    pub entry: Option<&'a str>,
}

/// A change of a user by RFC 7396 over `{"data", "server_data", "held"}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserPatch<'a> {
    /// A merge patch, JSON; `null` empties it.
    pub data: Option<&'a [u8]>,
    /// The same for the other half.
    pub server_data: Option<&'a [u8]>,
    /// Holds the user, or lets go.
    pub held: Option<bool>,
    /// `If-Match`, as sent.
    pub if_match: Option<&'a str>,
}

fn no_such_user() -> Error {
    Error::new(Code::NotFound, "There is no such user.")
}

fn taken() -> Error {
    Error::at(Code::UserIdTaken, "/id", "This id is not to be had.")
}

/// # Errors
/// [`Code::InvalidValue`].
fn checked_entry(entry: Option<&str>) -> Result<Option<Box<str>>, Error> {
    match entry {
        Some(e) if e.chars().count() > 64 || e.chars().any(char::is_control) => {
            Err(Error::at(Code::InvalidValue, "/entry", "Expected at most 64 printable characters."))
        }
        entry => Ok(entry.map(Into::into)),
    }
}

/// The member `base` of a merge patch as an edit of that object. RFC 7396: `null` removes the member, and an object that
/// is not there is the empty one.
fn edit_of(text: Option<&[u8]>, base: &str, tenant: &Tenant) -> Result<Option<Arc<Edit>>, Error> {
    let Some(text) = text else { return Ok(None) };
    let limits = &tenant.data_limits;
    let edit = if text.trim_ascii() == b"null" {
        Edit::json_patch(br#"[{"op":"replace","path":"","value":{}}]"#, limits)?
    } else {
        Edit::merge_patch_at(text, base, limits)?
    };
    Ok(Some(Arc::new(edit)))
}

/// When a session ends, or has ended.
fn end_of(tenant: &Tenant, s: &Session) -> Timestamp {
    let idle = tenant.rules_of(s.client).ends(s.created_at, s.active_at).idle;
    s.ended_at.map_or(idle, |ended| ended.min(idle))
}

fn view(tenant: &Tenant, user: &User, sessions: &[Session]) -> ManagedUser {
    let last_active_at = sessions.iter().map(|s| s.active_at).max().unwrap_or(user.created_at);
    // one that never had a session: the app's last change begins its idle time
    let never = || tenant.rules_of(user.client).ends(user.created_at, user.updated_at).idle;
    let end = sessions.iter().map(|s| end_of(tenant, s)).max().unwrap_or_else(never);
    let client_id = Some(tenant.client_id(user.client)).filter(|id| !id.is_empty());
    ManagedUser {
        user: UserView {
            id: Dress::default().shown(user.id, user.chosen_id.as_deref()),
            kind: user.kind,
            data: user.data.clone(),
            version: user.version,
            created_at: user.created_at,
            last_active_at,
            expires_at: (user.kind == Kind::Anonymous).then_some(end),
            stored: true,
        },
        server_data: user.server_data.clone().unwrap_or_else(|| "{}".into()),
        held: user.held,
        epoch: user.epoch,
        entry: user.entry.clone(),
        client_id: client_id.map(Into::into),
    }
}

impl Passerby {
    /// Reads a user by its id as shown (with or without a dialect's prefix) or as it was chosen.
    async fn standing_of(&self, tenant: &Tenant, id: &str) -> Result<(User, Vec<Session>), Error> {
        let key = self.secrets_of(tenant.no)?.key_of(id);
        let no_session = SessionId::from_bytes([0; 16]);
        let Standing { user, sessions, .. } = self.store.standing(tenant.no, key, no_session).await?;
        Ok((user.ok_or_else(no_such_user)?, sessions))
    }

    /// The tenant's stored users, the newest first: by descending id, which for an id that a caller chose says nothing
    /// about its age. Users that are made or erased meanwhile neither double nor hide others.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`] for the page.
    pub async fn list_users(&self, by: &Manager<'_>, page: &PageRequest<'_>) -> Result<Page<ManagedUser>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersRead).await?;
        let (before, limit) = page.read(b'u')?;
        let before = before.map(UserId::from_bytes);
        let rows = self.store.users(tenant.no, before, limit as u32 + 1).await?;
        let rows: Vec<(User, Vec<Session>)> =
            rows.into_iter().filter_map(|row| Some((row.user?, row.sessions))).collect();
        let page = Page::cut(rows, limit, b'u', |(user, _)| *user.id.as_bytes());
        Ok(page.map(|(user, sessions)| view(&tenant, &user, &sessions)))
    }

    /// One stored user.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn show_user(&self, by: &Manager<'_>, id: &str) -> Result<ManagedUser, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersRead).await?;
        let (user, sessions) = self.standing_of(&tenant, id).await?;
        Ok(view(&tenant, &user, &sessions))
    }

    /// Makes a user: a guest that nobody has a session of yet.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`]; [`Code::Data`]; [`Code::UserIdTaken`] for an id that belongs, or
    /// belonged, to somebody.
    pub async fn add_user(&self, by: &Manager<'_>, new: NewUser<'_>) -> Result<ManagedUser, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        if new.id.is_some_and(|id| !may_be_chosen(id)) {
            return Err(Error::at(Code::InvalidValue, "/id", "Expected 1 to 255 printable characters."));
        }
        let limits = &tenant.data_limits;
        let object = |text: Option<&[u8]>, base| text.map(|text| parse_object(text, base, limits)).transpose();
        let data = object(new.data, "/data")?;
        if let (Some(schema), Some(data)) = (&tenant.schema, &data) {
            schema.check_text(data, "/data")?;
        }
        let user = User {
            id: match new.id {
                Some(id) => self.secrets_of(tenant.no)?.key_of(id),
                None => self.ids.fresh(now, self.random.as_ref()).user,
            },
            chosen_id: new.id.map(Into::into),
            chosen_by: None,
            kind: Kind::Anonymous,
            client: ClientNo::NONE,
            created_at: now,
            updated_at: now,
            version: 1,
            epoch: 0,
            data: data.unwrap_or_else(|| "{}".into()),
            server_data: object(new.server_data, "/server_data")?.filter(|text| &**text != "{}"),
            entry: checked_entry(new.entry)?,
            held: false,
        };
        let made = view(&tenant, &user, &[]);
        match self.commit(tenant.no, None, Act::AddUser(Box::new(user))).await {
            Ok(_) => {}
            Err(CommitError::Taken | CommitError::Marked) => return Err(taken()),
            Err(e) => return Err(e.into()),
        }
        count(&self.counts().stored);
        Ok(made)
    }

    /// Changes a user's profile, either half of it, and holds it or lets go: all in one step.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`]; [`Code::Data`]; [`Code::PreconditionFailed`].
    pub async fn change_user(&self, by: &Manager<'_>, id: &str, patch: UserPatch<'_>) -> Result<ManagedUser, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let act = Act::Manage(Box::new(ManageUser {
            user: self.secrets_of(tenant.no)?.key_of(id),
            if_match: patch.if_match.map(parse_if_match).transpose()?.flatten(),
            data: edit_of(patch.data, "/data", &tenant)?,
            server_data: edit_of(patch.server_data, "/server_data", &tenant)?,
            held: patch.held,
            limits: tenant.data_limits.clone(),
            schema: tenant.schema.clone(),
        }));
        match self.commit(tenant.no, None, act).await {
            Ok(_) => {}
            Err(CommitError::Gone) => return Err(no_such_user()),
            Err(e) => return Err(e.into()),
        }
        if patch.data.is_some() || patch.server_data.is_some() {
            count(&self.counts().edits);
        }
        let (user, sessions) = self.standing_of(&tenant, id).await?;
        Ok(view(&tenant, &user, &sessions))
    }

    /// Removes a user with everything that is kept about it; its id is never given out again while old tokens of it may
    /// be about.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn erase_user(&self, by: &Manager<'_>, id: &str) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        let (user, _) = self.standing_of(&tenant, id).await?;
        let mark_until = now.plus(tenant.longest_lifetime());
        self.commit(tenant.no, None, Act::Erase { user: user.id, chosen_id: user.chosen_id.clone(), mark_until })
            .await?;
        self.note_epoch(tenant.no, user.id, user.epoch.saturating_add(1), user.chosen_id.as_deref(), now);
        count(&self.counts().erased);
        Ok(())
    }

    /// A user's living sessions, newest first.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn sessions_of(&self, by: &Manager<'_>, id: &str) -> Result<Vec<SessionView>, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersRead).await?;
        let now = self.now();
        let (_, sessions) = self.standing_of(&tenant, id).await?;
        let living = sessions.iter().filter(|s| s.ended_at.is_none());
        let mut list: Vec<SessionView> =
            living.map(|s| SessionView::of(&tenant, s, false)).filter(|v| v.idle_expires_at > now).collect();
        list.sort_by_key(|v| std::cmp::Reverse((v.created_at, v.id)));
        Ok(list)
    }

    /// Ends one of a user's sessions.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn end_session_of(&self, by: &Manager<'_>, id: &str, session: &str) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::SessionsWrite).await?;
        let (user, sessions) = self.standing_of(&tenant, id).await?;
        let found = SessionId::parse(session).and_then(|id| sessions.iter().find(|s| s.id == id));
        let unknown = || Error::new(Code::NotFound, "The user has no such session.");
        let session = found.filter(|s| s.ended_at.is_none()).ok_or_else(unknown)?.id;
        // of an id that its client chose a session may float beside the row
        let mark_until = user.chosen_by.map(|_| self.now().plus(tenant.longest_lifetime()));
        self.commit(tenant.no, None, Act::EndSession { user: user.id, session, mark_until }).await?;
        Ok(())
    }

    /// Ends all sessions of a user and voids every token; gives the epoch from then on. Device keys and the recovery
    /// code still open the user.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn revoke_all_of(&self, by: &Manager<'_>, id: &str) -> Result<i32, Error> {
        let (tenant, _) = self.manager(by, ApiScope::SessionsWrite).await?;
        for _ in 0..TRIES {
            let now = self.now();
            let (user, _) = self.standing_of(&tenant, id).await?;
            let items = self.store.items(tenant.no, user.id, Some(ItemKind::Notice)).await?;
            let mut turn = Turn::of(user.id, user.epoch);
            turn.raise = true;
            turn.end = Ending::All { but: None };
            turn.items.push(ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None });
            turn.items.extend(self.told(&items, NoticeKind::SessionsRevoked, None, now));
            match self.commit(tenant.no, None, Act::Turn(Box::new(turn))).await {
                Ok(_) => {
                    let epoch = user.epoch.saturating_add(1);
                    self.note_epoch(tenant.no, user.id, epoch, user.chosen_id.as_deref(), now);
                    return Ok(epoch);
                }
                Err(CommitError::Moved) => {}
                Err(CommitError::Gone) => return Err(no_such_user()),
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }
}
