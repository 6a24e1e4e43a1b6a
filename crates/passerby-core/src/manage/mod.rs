//! What back ends do with users, by API key: list and look, make, change, hold, erase, end sessions.

mod page;

use std::sync::Arc;

use crate::{
    Code, Error, Timestamp,
    account::{AccountView, NewIdentifier, NewPassword},
    api_key::Manager,
    device::TRIES,
    id::{ClientNo, SessionId, UserId, may_be_chosen},
    me::{SessionView, UserView, parse_if_match},
    model::{ItemKind, Kind, Session, Standing, User},
    notice::NoticeKind,
    passerby::{Passerby, count},
    port::{Act, CommitError, Ending, ItemChange, ManageUser, NewUserRows, Turn},
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
    /// What a regular user signs in with, where the answer shows it.
    pub account: Option<AccountView>,
    /// The id that was asked for, of a guest that was merged into this account.
    pub resolved_from: Option<String>,
}

/// A user that is to be made: a guest without a session, or, with a way to sign in, a regular user.
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
    /// What it is to be; `None`: what follows from the rest.
    pub kind: Option<Kind>,
    /// What it is known by. An address that is not verified is a claim: the user can prove it by a set-password link.
    pub identifiers: &'a [NewIdentifier<'a>],
    /// Its password.
    pub password: Option<NewPassword<'a>>,
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
            account: None,
        },
        server_data: user.server_data.clone().unwrap_or_else(|| "{}".into()),
        held: user.held,
        epoch: user.epoch,
        entry: user.entry.clone(),
        client_id: client_id.map(Into::into),
        account: None,
        resolved_from: None,
    }
}

/// A user that was looked for.
struct Found {
    user: User,
    sessions: Vec<Session>,
    /// The id as shown of the merged guest by which it was found.
    resolved_from: Option<String>,
}

impl Passerby {
    /// Reads a user by its id as shown (with or without a dialect's prefix) or as it was chosen. A guest that was merged is
    /// the account from then on: the pointer leads there at once, however long the chain was.
    async fn standing_of(&self, tenant: &Tenant, id: &str) -> Result<Found, Error> {
        let (user, sessions) = self.own_row_of(tenant, id).await?;
        let no_session = SessionId::from_bytes([0; 16]);
        let Some(account) = user.merged_into else { return Ok(Found { user, sessions, resolved_from: None }) };
        let resolved_from = Some(Dress::default().shown(user.id, user.chosen_id.as_deref()));
        let Standing { user, sessions, .. } = self.store.standing(tenant.no, account, no_session).await?;
        Ok(Found { user: user.ok_or_else(no_such_user)?, sessions, resolved_from })
    }

    /// The row of this very id, a pointer's too.
    async fn own_row_of(&self, tenant: &Tenant, id: &str) -> Result<(User, Vec<Session>), Error> {
        let key = self.secrets_of(tenant.no)?.key_of(id);
        let no_session = SessionId::from_bytes([0; 16]);
        let Standing { user, sessions, .. } = self.store.standing(tenant.no, key, no_session).await?;
        Ok((user.ok_or_else(no_such_user)?, sessions))
    }

    /// The user of an id, without sessions.
    pub(crate) async fn user_of(&self, tenant: &Tenant, id: &str) -> Result<User, Error> {
        Ok(self.standing_of(tenant, id).await?.user)
    }

    /// A user as back ends see it, with what an account has.
    pub(crate) async fn managed_user(&self, tenant: &Tenant, id: &str) -> Result<ManagedUser, Error> {
        let Found { user, sessions, resolved_from } = self.standing_of(tenant, id).await?;
        let mut account = None;
        if user.kind == Kind::Regular {
            let items = self.store.items(tenant.no, user.id, None).await?;
            account = Some(AccountView::of(&user, &items)?);
        }
        Ok(ManagedUser { account, resolved_from, ..view(tenant, &user, &sessions) })
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
        let mut page = Page::cut(rows, limit, b'u', |(user, _)| *user.id.as_bytes());
        // a merged guest is its account's other name, and no user
        page.items.retain(|(user, _)| user.merged_into.is_none());
        Ok(page.map(|(user, sessions)| view(&tenant, &user, &sessions)))
    }

    /// One stored user.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn show_user(&self, by: &Manager<'_>, id: &str) -> Result<ManagedUser, Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersRead).await?;
        self.managed_user(&tenant, id).await
    }

    /// Makes a user that nobody has a session of yet: a guest, or with a way to sign in a regular user.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::InvalidValue`]; [`Code::Data`]; [`Code::UserIdTaken`] for an id that belongs, or
    /// belonged, to somebody; [`Code::IdentifierTaken`]; [`Code::Unavailable`] while too many passwords are hashed.
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
        let id = match new.id {
            Some(id) => self.secrets_of(tenant.no)?.key_of(id),
            None => self.ids.fresh(now, self.random.as_ref()).user,
        };
        let account = self.new_account(&tenant, id, (new.kind, new.identifiers, new.password), now).await?;
        let user = User {
            kind: if account.regular { Kind::Regular } else { Kind::Anonymous },
            chosen_id: new.id.map(Into::into),
            data: data.unwrap_or_else(|| "{}".into()),
            server_data: object(new.server_data, "/server_data")?.filter(|text| &**text != "{}"),
            entry: checked_entry(new.entry)?,
            ..User::guest(id, ClientNo::NONE, now)
        };
        let shown = account.regular.then(|| AccountView::of(&user, &account.items)).transpose()?;
        let made = ManagedUser { account: shown, ..view(&tenant, &user, &[]) };
        let rows = NewUserRows { user, items: account.items, look_ups: account.look_ups };
        match self.commit_with(tenant.no, None, Act::AddUser(Box::new(rows)), account.out).await {
            Ok(_) => {}
            Err(CommitError::Taken) => {
                for identifier in &account.exclusive {
                    if self.owner_of(tenant.no, identifier, now).await?.is_some() {
                        let detail = format!("This {} is another's.", identifier.kind.as_str());
                        return Err(Error::at(Code::IdentifierTaken, "/identifiers", detail));
                    }
                }
                return Err(taken());
            }
            Err(CommitError::Marked) => return Err(taken()),
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
        let user = self.user_of(&tenant, id).await?;
        let act = Act::Manage(Box::new(ManageUser {
            user: user.id,
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
        self.managed_user(&tenant, id).await
    }

    /// Removes a user with everything that is kept about it, of an account the guests that came into it too; its id is
    /// never given out again while old tokens of it may be about. Of a guest that was merged the pointer alone goes.
    ///
    /// # Errors
    /// As [`Passerby::api_key`]; [`Code::NotFound`].
    pub async fn erase_user(&self, by: &Manager<'_>, id: &str) -> Result<(), Error> {
        let (tenant, _) = self.manager(by, ApiScope::UsersWrite).await?;
        let now = self.now();
        let (user, _) = self.own_row_of(&tenant, id).await?;
        if user.kind == Kind::Regular {
            self.erase_absorbed(&tenant, user.id, now).await?;
        }
        if user.frozen {
            // what it gave to an account goes back first
            self.thaw(&tenant, user.id, now).await?;
        }
        let mark_until = now.plus(tenant.longest_lifetime());
        self.commit(
            tenant.no,
            None,
            Act::Erase { user: user.id, chosen_id: user.chosen_id.clone(), mark_until, epoch: None },
        )
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
        let Found { sessions, .. } = self.standing_of(&tenant, id).await?;
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
        let Found { user, sessions, .. } = self.standing_of(&tenant, id).await?;
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
            let user = self.user_of(&tenant, id).await?;
            let items = self.store.items(tenant.no, user.id, Some(ItemKind::Notice)).await?;
            let mut turn = Turn::of(user.id, user.epoch);
            turn.raise = true;
            turn.end = Ending::All { but: None };
            turn.items.push(ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None });
            turn.items.extend(self.told(&items, NoticeKind::SessionsRevoked, None, now));
            let told = self.all_revoked_event(&tenant, user.id, now);
            match self.commit_with(tenant.no, None, Act::Turn(Box::new(turn)), vec![told]).await {
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
