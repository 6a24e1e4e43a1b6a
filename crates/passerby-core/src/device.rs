//! Device keys: what a guest comes back by. A key is known by its thumbprint (RFC 7638) and proven by DPoP (RFC 9449); the
//! look-up of its keyed hash is what makes one key one guest.

use passerby_jose::b64;
use serde::{Deserialize, Serialize};

use crate::{
    Code, Error, Timestamp,
    account::not_frozen,
    caller::{Access, Caller, ProofClaim},
    dpop::Thumbprint,
    hold::{Held, Proven, Row},
    id::{ClientNo, SessionId, TenantNo, UserId},
    identifier::hidden,
    model::{Item, ItemKind, Kind, LookUp, LookUpKind, OutRow, Session},
    notice::NoticeKind,
    passerby::{Passerby, count},
    port::{Act, CommitError, Ending, ItemChange, Turn},
};

/// So many device keys a user has at most.
pub const MOST_DEVICE_KEYS: usize = 20;

/// So often a lost race is decided anew; each time somebody else made progress.
pub(crate) const TRIES: usize = 8;

/// What the store keeps of a device key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeviceKey {
    /// The thumbprint, as `jkt` has it.
    pub(crate) jkt: Box<str>,
    /// As the device or its owner named it.
    pub(crate) name: Option<Box<str>>,
    /// The client that brought it.
    pub(crate) client: i32,
    /// Milliseconds.
    pub(crate) created_at: i64,
}

impl DeviceKey {
    fn thumbprint(&self) -> Option<Thumbprint> {
        b64::decode(&self.jkt)?.try_into().ok()
    }
}

/// A device key as doors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKeyView {
    /// RFC 7638, base64url.
    pub thumbprint: Box<str>,
    /// As the device or its owner named it.
    pub name: Option<Box<str>>,
    /// The client that brought it.
    pub client_id: Box<str>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When one of its sessions was last used.
    pub last_used_at: Timestamp,
    /// The caller's session hangs on it.
    pub current: bool,
}

/// An added device key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedKey {
    /// The key.
    pub key: DeviceKeyView,
    /// It was not there before.
    pub added: bool,
}

/// Why a key was not added.
pub(crate) enum AttachError {
    /// Somebody else was faster with this key or this user: look again.
    Race,
    /// Refused.
    Refused(Error),
}

impl From<Error> for AttachError {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

/// Reads what the core itself wrote.
pub(crate) fn read_body<'a, T: Deserialize<'a>>(item: &'a Item) -> Result<T, Error> {
    serde_json::from_str(&item.body).map_err(|e| {
        tracing::error!(kind = ?item.kind, error = %e, "an item of the store cannot be read");
        Error::new(Code::Internal, "The server failed; this is its fault.")
    })
}

/// Writes a body; its types have no member that could fail.
pub(crate) fn body(value: &impl Serialize) -> Box<str> {
    serde_json::to_string(value).unwrap_or_default().into()
}

/// Marks of direction and what shows nothing: with them a name could be read as another on the screen where a person
/// decides about it. Joiners and variation selectors stay, which scripts and emoji need.
fn turns_or_hides(c: char) -> bool {
    hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// A name that an app gave a device.
///
/// # Errors
/// [`Code::InvalidValue`] beyond 64 characters, with control characters, or with what turns or hides others.
pub(crate) fn checked_name(name: Option<&str>, field: &'static str) -> Result<Option<Box<str>>, Error> {
    match name.map(str::trim).filter(|n| !n.is_empty()) {
        Some(n) if n.chars().count() > 64 || n.chars().any(turns_or_hides) => {
            Err(Error::at(Code::InvalidValue, field, "Expected at most 64 printable characters."))
        }
        name => Ok(name.map(Into::into)),
    }
}

pub(crate) fn last_way_in() -> Error {
    Error::new(
        Code::LastWayIn,
        "This is the guest's last lasting way in; make a recovery code first, or say force=true to lose the guest with its session.",
    )
}

impl Passerby {
    /// The hash under which a device key is looked up.
    pub(crate) fn device_key_hash(&self, tenant: TenantNo, key: &Thumbprint) -> Result<[u8; 32], Error> {
        Ok(self.secrets_of(tenant)?.look_up_hash("device key", &[key]))
    }

    /// Item and look-up of a new device key.
    #[expect(clippy::too_many_arguments, reason = "each is one column of the two rows")]
    pub(crate) fn device_key_rows(
        &self,
        tenant: TenantNo,
        key: &Thumbprint,
        user: UserId,
        session: SessionId,
        client: ClientNo,
        name: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<(Item, LookUp), Error> {
        let id = self.device_key_hash(tenant, key)?;
        let kept = DeviceKey { jkt: b64::encode(key).into(), name, client: client.0, created_at: now.millis() };
        let item = Item { kind: ItemKind::DeviceKey, id, revision: 1, ends_at: Timestamp::MAX, body: body(&kept) };
        let look_up =
            LookUp { kind: LookUpKind::DeviceKey, hash: id, user, session, body: [0; 32], ends_at: Timestamp::MAX };
        Ok((item, look_up))
    }

    /// The change that makes a turn fail where a key of the user's is gone by then; `None`: it is gone already.
    pub(crate) fn still_there(
        &self,
        tenant: TenantNo,
        key: &Thumbprint,
        items: &[Item],
    ) -> Result<Option<ItemChange>, Error> {
        let id = self.device_key_hash(tenant, key)?;
        let item = items.iter().find(|i| i.kind == ItemKind::DeviceKey && i.id == id);
        Ok(item.map(|item| ItemChange::Put {
            was: Some(item.revision),
            item: Item { revision: item.revision.wrapping_add(1), ..item.clone() },
        }))
    }

    /// Whose a device key is.
    pub(crate) async fn owner_of_key(
        &self,
        tenant: TenantNo,
        key: &Thumbprint,
        now: Timestamp,
    ) -> Result<Option<UserId>, Error> {
        let hash = self.device_key_hash(tenant, key)?;
        let row = self.store.look_up(tenant, LookUpKind::DeviceKey, hash).await?;
        Ok(row.filter(|row| row.ends_at > now).map(|row| row.user))
    }

    /// The caller's device keys, newest first.
    ///
    /// # Errors
    /// As for [`Passerby::me`].
    pub async fn my_device_keys(&self, caller: &Caller<'_>, access: &Access<'_>) -> Result<Vec<DeviceKeyView>, Error> {
        let held = self.hold_caller(caller, access, self.now()).await?;
        let items = self.store.items(held.tenant.no, held.user, Some(ItemKind::DeviceKey)).await?;
        views_of(&held, &items)
    }

    /// Adds the key whose proof comes along; it opens the guest from here on. `proof`: the new key's, where the request's
    /// own is that of the key to which the caller's token is bound.
    ///
    /// # Errors
    /// [`Code::InvalidDpopProof`] without a proof, [`Code::DeviceKeyTaken`] for another guest's key,
    /// [`Code::TooManyDeviceKeys`]; as for [`Passerby::me`].
    pub async fn add_device_key(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        name: Option<&str>,
        proof: Option<&str>,
    ) -> Result<AddedKey, Error> {
        let now = self.now();
        let name = checked_name(name, "/name")?;
        let (held, key) = self.hold_with_key(caller, access, now).await?;
        let key = match (proof, &caller.proof) {
            (Some(proof), Some(own)) if held.bound_to().is_some() => {
                let claim = ProofClaim { jwt: Some(proof), ..own.clone() };
                let proven = self.check_proof(&claim, &held.tenant, None, now).await;
                Some(proven.map_err(|e| Error { field: Some("/proof".into()), ..e })?)
            }
            (Some(_), _) => {
                let detail =
                    "Without a token that is bound to another key the new key's proof goes into the DPoP header.";
                return Err(Error::at(Code::InvalidValue, "/proof", detail));
            }
            (None, _) => key,
        };
        let key = key.ok_or_else(|| Error {
            token_shown: access.token.is_some(),
            ..Error::at(Code::InvalidDpopProof, "DPoP", "Show a proof made with the key that is to be added.")
        })?;
        for _ in 0..TRIES {
            if let Some(there) = self.key_of_user(&held, &key, now).await? {
                return Ok(AddedKey { key: view_of(&held, &there), added: false });
            }
            match self.attach_key(&held, &key, name.clone(), false, now).await {
                Ok(kept) => return Ok(AddedKey { key: view_of(&held, &kept), added: true }),
                Err(AttachError::Race) => {}
                Err(AttachError::Refused(e)) => return Err(e),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The key's row, when the held user has it already.
    async fn key_of_user(&self, held: &Held, key: &Thumbprint, now: Timestamp) -> Result<Option<DeviceKey>, Error> {
        let taken = || Error::at(Code::DeviceKeyTaken, "DPoP", "This key is another guest's.");
        match self.owner_of_key(held.tenant.no, key, now).await? {
            None => Ok(None),
            Some(owner) if owner != held.user => Err(taken()),
            Some(_) => {
                let hash = self.device_key_hash(held.tenant.no, key)?;
                let items = self.store.items(held.tenant.no, held.user, Some(ItemKind::DeviceKey)).await?;
                items.iter().find(|i| i.id == hash).map(read_body).transpose()
            }
        }
    }

    /// Gives the held user a key; a floating guest is stored with it. A session that hangs on no key yet hangs on this
    /// one from here on, its tokens bound to it or not.
    pub(crate) async fn attach_key(
        &self,
        held: &Held,
        key: &Thumbprint,
        name: Option<Box<str>>,
        bound: bool,
        now: Timestamp,
    ) -> Result<DeviceKey, AttachError> {
        not_frozen(held)?;
        let tenant = held.tenant.no;
        let items = self.store.items(tenant, held.user, None).await.map_err(Error::from)?;
        self.check_room_for_key(&items)?;
        let (item, look_up) =
            self.device_key_rows(tenant, key, held.user, held.session, held.client.no, name.clone(), now)?;
        let kept: DeviceKey = read_body(&item)?;
        let mut turn = Turn::of(held.user, held.epoch);
        turn.by = Some(held.session);
        turn.counted = vec![count_of(&items, ItemKind::DeviceKey)];
        if session_of(held).is_none_or(|s| s.key.is_none() || (bound && !s.bound)) {
            turn.bind = Some((held.session, Some(*key), bound));
        }
        turn.items.push(ItemChange::Put { item, was: None });
        turn.items.extend(self.told(&items, NoticeKind::DeviceKeyAdded, name.as_deref(), now));
        turn.look_ups.push(look_up);
        match self.turn(held, turn, now).await {
            Ok(()) => Ok(kept),
            Err(CommitError::Taken | CommitError::Moved) => Err(AttachError::Race),
            Err(e) => Err(Error::from(e).into()),
        }
    }

    /// Whether one more device key may be added to what a user has.
    ///
    /// # Errors
    /// [`Code::TooManyDeviceKeys`].
    #[expect(clippy::unused_self, reason = "reads as the other rules of the handle do")]
    pub(crate) fn check_room_for_key(&self, items: &[Item]) -> Result<(), Error> {
        if items.iter().filter(|i| i.kind == ItemKind::DeviceKey).count() < MOST_DEVICE_KEYS {
            return Ok(());
        }
        let detail = format!("A guest has at most {MOST_DEVICE_KEYS} device keys; remove one first.");
        Err(Error::at(Code::TooManyDeviceKeys, "DPoP", detail))
    }

    /// Commits a turn of the held user; stores a floating guest first.
    pub(crate) async fn turn(&self, held: &Held, turn: Turn, now: Timestamp) -> Result<(), CommitError> {
        self.turn_with(held, turn, Vec::new(), now).await
    }

    /// The same with rows of the outbox.
    pub(crate) async fn turn_with(
        &self,
        held: &Held,
        turn: Turn,
        out: Vec<OutRow>,
        now: Timestamp,
    ) -> Result<(), CommitError> {
        let keep = held.to_keep(now);
        let keeps = keep.is_some();
        let (user, epoch, raise) = (turn.user, turn.epoch, turn.raise);
        self.commit_with(held.tenant.no, keep, Act::Turn(Box::new(turn)), out).await?;
        if keeps {
            count(&self.counts().kept);
        }
        if raise {
            self.note_epoch(held.tenant.no, user, epoch + 1, held.chosen_id(), now);
        }
        Ok(())
    }

    /// Names a device key of the caller. `name`: `None` leaves it as it is, `Some(None)` takes it away.
    ///
    /// # Errors
    /// [`Code::NotFound`]; [`Code::InvalidValue`] for the name; as for [`Passerby::me`].
    pub async fn name_device_key(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        thumbprint: &str,
        name: Option<Option<&str>>,
    ) -> Result<DeviceKeyView, Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        let name = name.map(|name| checked_name(name, "/name")).transpose()?;
        for _ in 0..TRIES {
            let (item, mut key) = self.find_key(&held, thumbprint).await?;
            let Some(name) = &name else { return Ok(view_of(&held, &key)) };
            key.name.clone_from(name);
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.items.push(ItemChange::Put {
                was: Some(item.revision),
                item: Item { revision: item.revision + 1, body: body(&key), ..item },
            });
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(view_of(&held, &key)),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    async fn find_key(&self, held: &Held, thumbprint: &str) -> Result<(Item, DeviceKey), Error> {
        for item in self.store.items(held.tenant.no, held.user, Some(ItemKind::DeviceKey)).await? {
            let key: DeviceKey = read_body(&item)?;
            if &*key.jkt == thumbprint {
                return Ok((item, key));
            }
        }
        Err(Error::new(Code::NotFound, "You have no such device key."))
    }

    /// Removes a device key of the caller and ends the sessions that hang on it, but for the caller's own unbound one. The
    /// last key of a guest without a recovery code stays unless `force`d.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::LastWayIn`]; as for [`Passerby::me`].
    pub async fn remove_device_key(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        thumbprint: &str,
        force: bool,
    ) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            let (item, key) = self.find_key(&held, thumbprint).await?;
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            let others = |i: &Item| match i.kind {
                ItemKind::DeviceKey => i.id != item.id,
                ItemKind::Recovery => true,
                _ => false,
            };
            if !force && held.kind == Kind::Anonymous && !items.iter().any(others) {
                return Err(last_way_in());
            }
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            let thumbprint = key.thumbprint();
            turn.counted = lasting_of(&items);
            // the caller's own session stays where its tokens are not bound to the key
            let mine = session_of(&held).is_some_and(|s| !s.bound && s.key.is_some() && s.key == thumbprint);
            if mine {
                turn.bind = Some((held.session, None, false));
            }
            turn.end = hanging_on(&held, thumbprint, mine.then_some(held.session), now);
            // a code made by a session that ends dies with it, seen at its use
            turn.items.push(ItemChange::Remove { kind: ItemKind::DeviceKey, id: item.id, was: item.revision });
            turn.items.extend(self.told(&items, NoticeKind::DeviceKeyRemoved, key.name.as_deref(), now));
            match self.turn(&held, turn, now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The held session, read again: its user has changed meanwhile.
    pub(crate) async fn hold_again(&self, held: &Held, now: Timestamp) -> Result<Held, Error> {
        let proven = Proven::Key(held.bound_to().copied());
        self.read_again(&held.tenant, held.user, held.session, proven, now).await
    }

    /// Ends all sessions of the caller and voids every token: signing out everywhere. What is no token (device keys, the
    /// recovery code) still opens the guest; without either it is refused unless `force`d.
    ///
    /// # Errors
    /// [`Code::LastWayIn`]; as for [`Passerby::me`].
    pub async fn revoke_all(&self, caller: &Caller<'_>, access: &Access<'_>, force: bool) -> Result<(), Error> {
        let now = self.now();
        let mut held = self.hold_caller(caller, access, now).await?;
        for _ in 0..TRIES {
            let items = self.store.items(held.tenant.no, held.user, None).await?;
            let lasting = |i: &Item| matches!(i.kind, ItemKind::DeviceKey | ItemKind::Recovery);
            if !force && held.kind == Kind::Anonymous && !items.iter().any(lasting) {
                return Err(last_way_in());
            }
            let mut turn = Turn::of(held.user, held.epoch);
            turn.by = Some(held.session);
            turn.counted = lasting_of(&items);
            turn.raise = true;
            turn.end = Ending::All { but: None };
            turn.items.push(ItemChange::RemoveAll { kind: ItemKind::HandOff, but: None });
            turn.items.extend(self.told(&items, NoticeKind::SessionsRevoked, None, now));
            let told = self.all_revoked_event(&held.tenant, held.user, now);
            match self.turn_with(&held, turn, vec![told], now).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Moved) => held = self.hold_again(&held, now).await?,
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The caller's session together with the key whose proof came along, checked once for both.
    pub(crate) async fn hold_with_key(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        now: Timestamp,
    ) -> Result<(Held, Option<Thumbprint>), Error> {
        self.hold_or_late(caller, access, now).await.map_err(|late| late.error)
    }

    /// The same; where the session is over, the key whose proof was spent with the question is told.
    pub(crate) async fn hold_or_late(
        &self,
        caller: &Caller<'_>,
        access: &Access<'_>,
        now: Timestamp,
    ) -> Result<(Held, Option<Thumbprint>), Late> {
        let without = |error| Late { error, key: None };
        let Some(token) = access.token else {
            let held = self.hold_caller(caller, access, now).await.map_err(without)?;
            let key = self.proven(caller, &held.tenant, None, now).await.map_err(without)?;
            return Ok((held, key));
        };
        let seen = self.read_own(caller, token, now).map_err(without)?;
        let settings = self.settings();
        let gone = || without(Error::new(Code::SessionEnded, "The session has ended."));
        let tenant = settings.tenant(seen.tenant).ok_or_else(gone)?;
        let key = self.proven(caller, tenant, Some(token), now).await.map_err(without)?;
        let (_, held) = self.hold_proven(seen, key, now).await.map_err(|error| Late { error, key })?;
        Ok((held, key))
    }
}

/// A caller whose session is not held.
pub(crate) struct Late {
    /// Why.
    pub(crate) error: Error,
    /// The key whose proof came along and was good.
    pub(crate) key: Option<Thumbprint>,
}

/// The row of the held session.
fn session_of(held: &Held) -> Option<&Session> {
    match &held.row {
        Row::Stored(stored) => Some(&stored.session),
        Row::Floating(_) => None,
    }
}

/// The end of all sessions that hang on a key, the held one among them or not.
pub(crate) fn hanging_on(held: &Held, key: Option<Thumbprint>, but: Option<SessionId>, now: Timestamp) -> Ending {
    match key {
        Some(key) => Ending::ByKey { key, but, also: None, mark_until: mark_beside(held, now) },
        None => Ending::Some(Vec::new()),
    }
}

/// Until when ended sessions of the held user must stay marked: of an id that its client chose one may float beside the
/// row.
pub(crate) fn mark_beside(held: &Held, now: Timestamp) -> Option<Timestamp> {
    match &held.row {
        Row::Stored(stored) => stored.user.chosen_by.map(|_| now.plus(held.tenant.longest_lifetime())),
        Row::Floating(_) => None,
    }
}

/// How many items of a kind there are.
pub(crate) fn count_of(items: &[Item], kind: ItemKind) -> (ItemKind, usize) {
    (kind, items.iter().filter(|i| i.kind == kind).count())
}

/// How many lasting ways in there are, of each kind.
pub(crate) fn lasting_of(items: &[Item]) -> Vec<(ItemKind, usize)> {
    [ItemKind::DeviceKey, ItemKind::Recovery].map(|kind| count_of(items, kind)).to_vec()
}

/// The device keys among what a user has, newest first.
pub(crate) fn views_of(held: &Held, items: &[Item]) -> Result<Vec<DeviceKeyView>, Error> {
    let keys = items.iter().filter(|i| i.kind == ItemKind::DeviceKey);
    let mut list = keys.map(|i| Ok(view_of(held, &read_body(i)?))).collect::<Result<Vec<_>, Error>>()?;
    list.sort_by(|a, b| (b.created_at, &b.thumbprint).cmp(&(a.created_at, &a.thumbprint)));
    Ok(list)
}

fn view_of(held: &Held, key: &DeviceKey) -> DeviceKeyView {
    let thumbprint = key.thumbprint();
    let created_at = Timestamp::from_millis(key.created_at);
    let (mut last_used_at, mut current) = (created_at, false);
    if let Row::Stored(stored) = &held.row {
        for s in stored.sessions.iter().filter(|s| s.key.is_some() && s.key == thumbprint) {
            last_used_at = last_used_at.max(s.active_at);
            current |= s.id == held.session;
        }
    }
    DeviceKeyView {
        thumbprint: key.jkt.clone(),
        name: key.name.clone(),
        client_id: held.tenant.client_id(ClientNo(key.client)).into(),
        created_at,
        last_used_at,
        current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_what_it_is() {
        for name in ["Phone", "Ännes Täblet 2", "家族の電話", "میرا فون", "👩\u{200d}💻 \u{2764}\u{fe0f}"]
        {
            assert_eq!(checked_name(Some(name), "/name").unwrap().as_deref(), Some(name));
        }
        assert_eq!(checked_name(Some(" \t "), "/name").unwrap(), None);
        let long = "x".repeat(65);
        for name in
            [long.as_str(), "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{2028}b", "a\u{feff}b", "a\u{2066}b", "a\u{7f}b"]
        {
            assert_eq!(checked_name(Some(name), "/name").unwrap_err().field.as_deref(), Some("/name"), "{name:?}");
        }
    }
}
