//! Coming back by a device key or an `Idempotency-Key`: one key, one guest, and while its session lives no second one.

use crate::{
    Code, Error, Timestamp,
    account::became,
    client::KnownClient,
    device::{AttachError, DeviceKey, TRIES, read_body},
    dpop::Thumbprint,
    hold::{Claimed, Held, Proven, Row, decide},
    id::{ClientNo, SessionId, UserId},
    mint::Grade,
    model::{Item, ItemKind, Kind, LookUpKind, Session, SessionKind},
    passerby::Passerby,
    port::{Act, CommitError, Found, ItemChange, StoreError, Turn},
};

use super::{create::CreationKey, only_guests};

impl Passerby {
    /// The session that an `Idempotency-Key` or a device key opens.
    pub(super) async fn remembered(
        &self,
        known: &KnownClient,
        creation_key: Option<&CreationKey>,
        key: Option<&Thumbprint>,
        device: Option<Box<str>>,
        bind: bool,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let proven = Proven::Key(key.copied());
        let by_request = match creation_key {
            Some(creation_key) => self.held_by_key(known, creation_key, proven, now).await?,
            None => None,
        };
        let Some(key) = key else { return Ok(by_request) };
        if let Some(held) = by_request {
            return self.with_key(held, Grade::Session, key, bind, device, now).await.map(Some);
        }
        let by_device = self.held_by_device(known, key, bind, now).await?;
        if let (Some(held), Some(creation_key)) = (&by_device, creation_key) {
            self.remember_key(known, creation_key, held, now).await?;
        }
        Ok(by_device)
    }

    /// Lets an `Idempotency-Key` that came beside another credential open the same session. One of a floating guest is
    /// not remembered: there is no row that it could lead to.
    ///
    /// # Errors
    /// [`Code::CredentialConflict`] when the key opens another guest; [`Code::IdempotencyMismatch`] for another body.
    pub(super) async fn remember_key(
        &self,
        known: &KnownClient,
        creation_key: &CreationKey,
        held: &Held,
        now: Timestamp,
    ) -> Result<(), Error> {
        if matches!(held.row, Row::Floating(_)) {
            return Ok(());
        }
        let tenant = known.tenant.no;
        for _ in 0..TRIES {
            if let Some(row) = self.store.look_up(tenant, LookUpKind::Creation, creation_key.hash).await?
                && row.ends_at > now
            {
                creation_key.fits(&row)?;
                if row.user == held.user {
                    return Ok(());
                }
                let detail = "The key opens another guest than the credential.";
                return Err(Error::at(Code::CredentialConflict, "Idempotency-Key", detail));
            }
            let row = creation_key.row(known, held.user, held.session, now);
            match self.commit(tenant, None, Act::Remember(Box::new(row))).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Taken) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// The guest that a device key opens: the key's living session for this client, else a new one. One key, one guest:
    /// callers that race for a new session change the same row of the key, and the losers find the winner's.
    async fn held_by_device(
        &self,
        known: &KnownClient,
        key: &Thumbprint,
        bind: bool,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let hash = self.device_key_hash(known.tenant.no, key)?;
        let proven = Proven::Key(Some(*key));
        let mut seen: Option<Item> = None;
        for _ in 0..2 * TRIES {
            let found = self.store.found(known.tenant.no, LookUpKind::DeviceKey, hash).await?;
            let Some(Found { look_up, standing }) = found.filter(|f| f.look_up.ends_at > now) else { return Ok(None) };
            let Some(user) = &standing.user else { return Err(guest_ended()) };
            let (user_id, epoch) = (user.id, user.epoch);
            let no_guest = became(user).or_else(|| (user.kind != Kind::Anonymous).then(no_guests_key));
            // one that was opened from a cookie's ends with it
            let has_ended = |id| standing.session(id).is_none_or(|s| s.ended_at.is_some());
            let living = |s: &&Session| {
                s.ended_at.is_none()
                    && s.client == known.client.no
                    && s.key.as_ref() == Some(key)
                    && !s.parent.is_some_and(has_ended)
                    && known.client.rules.ends(s.created_at, s.active_at).idle > now
            };
            // the first of them: the one that everybody else finds too
            let session = standing.sessions.iter().filter(living).map(|s| s.id).min();
            if let Some(session) = session {
                let claimed = Claimed::stored(user_id, session, epoch, &known.client, proven, now);
                let held = decide(&known.tenant, &claimed, standing, now)?;
                only_guests(&held)?;
                self.touch(&held, now);
                if bind && held.bound_to().is_none() {
                    match self.bind(&held, key, None, now).await {
                        Ok(()) => return self.hold_bound(&held, key, now).await.map(Some),
                        Err(AttachError::Race) => continue,
                        Err(AttachError::Refused(e)) => return Err(e),
                    }
                }
                return Ok(Some(held));
            }
            // the key of a guest that is none any more makes no new one in silence, and opens no account either
            if let Some(became) = no_guest {
                return Err(Error { field: Some("DPoP".into()), ..became });
            }
            // the key's row is read before the sessions are looked at for the last time: whoever opened one since has
            // changed it
            let Some(item) = seen.take() else {
                let items = self.store.items(known.tenant.no, user_id, Some(ItemKind::DeviceKey)).await?;
                seen = items.into_iter().find(|i| i.id == hash);
                continue;
            };
            match self.open_by_device(known, user_id, epoch, item, key, bind, now).await {
                Ok(session) => {
                    return self.read_again(&known.tenant, look_up.user, session, proven, now).await.map(Some);
                }
                Err(AttachError::Race) => {}
                Err(AttachError::Refused(e)) => return Err(e),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Opens a session by a device key. The key's row counts it.
    #[expect(clippy::too_many_arguments, reason = "each is one independent fact")]
    async fn open_by_device(
        &self,
        known: &KnownClient,
        user: UserId,
        epoch: i32,
        item: Item,
        key: &Thumbprint,
        bind: bool,
        now: Timestamp,
    ) -> Result<SessionId, AttachError> {
        let kept: DeviceKey = read_body(&item)?;
        let theirs = known.tenant.clients_by_no.get(&ClientNo(kept.client));
        if theirs.is_none_or(|c| c.no != known.client.no && !(c.first_party && known.client.first_party)) {
            let detail = "Only first-party clients share a device key's guest.";
            return Err(Error::at(Code::UnauthorizedClient, "client_id", detail).into());
        }
        let session = self.new_session(known, Some(*key), bind, SessionKind::Tokens, now);
        let id = session.id;
        let mut turn = Turn::of(user, epoch);
        turn.open = Some(Box::new(session));
        turn.items.push(ItemChange::Put {
            was: Some(item.revision),
            item: Item { revision: item.revision.wrapping_add(1), ..item },
        });
        match self.commit(known.tenant.no, None, Act::Turn(Box::new(turn))).await {
            Ok(_) => Ok(id),
            // somebody was faster, or our own answer was lost: look again
            Err(CommitError::Moved | CommitError::Store(StoreError::Unavailable(_))) => Err(AttachError::Race),
            Err(CommitError::Gone) => Err(guest_ended().into()),
            Err(e) => Err(Error::from(e).into()),
        }
    }

    /// A session that begins now.
    pub(crate) fn new_session(
        &self,
        known: &KnownClient,
        key: Option<Thumbprint>,
        bound: bool,
        kind: SessionKind,
        now: Timestamp,
    ) -> Session {
        Session {
            id: self.ids.fresh(now, self.random.as_ref()).session,
            client: known.client.no,
            kind,
            created_at: now,
            active_at: now,
            ended_at: None,
            generation: 0,
            rotated_at: None,
            late_generation: None,
            has_denied_tokens: false,
            metadata: None,
            parent: None,
            key,
            bound,
        }
    }

    /// A session that was shown together with a key: the key must be its guest's. A session-grade credential adds an
    /// unknown one; an access token does not, since a key outlives it.
    pub(super) async fn with_key(
        &self,
        mut held: Held,
        grade: Grade,
        key: &Thumbprint,
        bind: bool,
        device: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<Held, Error> {
        for _ in 0..TRIES {
            let owner = self.owner_of_key(held.tenant.no, key, now).await?;
            if owner.is_some_and(|owner| owner != held.user) {
                return Err(Error::at(Code::CredentialConflict, "DPoP", "The key is another guest's."));
            }
            let bound = held.bound_to().is_some();
            if !grade.is_session() || (owner.is_some() && (bound || !bind)) {
                return Ok(held);
            }
            let done = if bind && !bound {
                self.bind(&held, key, device.clone(), now).await
            } else {
                self.attach_key(&held, key, device.clone(), false, now).await.map(drop)
            };
            match done {
                Ok(()) => return self.hold_bound(&held, key, now).await,
                Err(AttachError::Race) => held = self.hold_bound(&held, key, now).await?,
                Err(AttachError::Refused(e)) => return Err(e),
            }
        }
        Err(CommitError::Moved.into())
    }

    /// Binds the tokens of a held session to a key, which becomes a device key of the guest; older tokens of the session
    /// die.
    pub(crate) async fn bind(
        &self,
        held: &Held,
        key: &Thumbprint,
        device: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<(), AttachError> {
        match self.owner_of_key(held.tenant.no, key, now).await? {
            None => self.attach_key(held, key, device, true, now).await.map(drop),
            Some(owner) if owner == held.user => {
                let tenant = held.tenant.no;
                let items =
                    self.store.items(tenant, held.user, Some(ItemKind::DeviceKey)).await.map_err(Error::from)?;
                let still = self.still_there(tenant, key, &items)?.ok_or(AttachError::Race)?;
                let mut turn = Turn::of(held.user, held.epoch);
                turn.by = Some(held.session);
                turn.items.push(still);
                turn.bind = Some((held.session, Some(*key), true));
                match self.turn(held, turn, now).await {
                    Ok(()) => Ok(()),
                    Err(CommitError::Moved) => Err(AttachError::Race),
                    Err(e) => Err(Error::from(e).into()),
                }
            }
            Some(_) => Err(Error::at(Code::CredentialConflict, "DPoP", "The key is another guest's.").into()),
        }
    }

    /// Reads a session again that was just bound to a key.
    pub(crate) async fn hold_bound(&self, held: &Held, key: &Thumbprint, now: Timestamp) -> Result<Held, Error> {
        self.read_again(&held.tenant, held.user, held.session, Proven::Key(Some(*key)), now).await
    }
}

fn no_guests_key() -> Error {
    Error::new(Code::NotAGuest, "The key is a regular user's, who signs in; guests are made without it.")
}

fn guest_ended() -> Error {
    Error::at(Code::GuestEnded, "DPoP", "The guest of this key has ended; use a new key for a new one.")
}
