//! A new guest: the decision what it is, its rows, its commit. The hottest path of the house.

use passerby_jose::sha256;

use crate::{
    Code, Error, Timestamp,
    client::{KnownClient, creation_key_life},
    dpop::Thumbprint,
    hold::{Claimed, Held, Proven, Row, Stored, decide},
    id::{FreshIds, SessionId, UserId, may_be_chosen},
    model::{Kind, LookUp, LookUpKind, NewGuest, Session, SessionKind, USER_MARK, User},
    passerby::{Passerby, count, yield_once},
    port::{Act, CommitError, Committed, Found, StoreError, Turn, Wait},
    settings::{CustomUserId, Persistence},
    token::session::{Floating, MOST_CARRIED},
};

/// The shortest `Idempotency-Key` of a creation: while it is remembered it is worth as much as a session.
const SHORTEST_KEY: usize = 22;

/// What a creation asks for, checked as far as it can be without the store.
pub(super) struct Creation<'a> {
    pub(super) kind: SessionKind,
    /// Compact JSON object.
    pub(super) data: Box<str>,
    pub(super) persist: Option<bool>,
    pub(super) user_id: Option<&'a str>,
    pub(super) entry: Option<&'a str>,
    pub(super) key: Option<CreationKey>,
    /// The device key that opens the guest from here on.
    pub(super) device: Option<Device<'a>>,
    /// Drawn by the caller: who asks the store again, because an answer was lost, must know its own rows.
    pub(super) ids: FreshIds,
}

/// The device key of a creation.
#[derive(Clone, Copy)]
pub(super) struct Device<'a> {
    pub(super) key: &'a Thumbprint,
    pub(super) name: Option<&'a str>,
    /// Tokens are bound to it.
    pub(super) bound: bool,
}

/// A creation's idempotency key, hashed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreationKey {
    pub(crate) hash: [u8; 32],
    body: [u8; 32],
}

impl CreationKey {
    /// The row by which the key opens a session.
    pub(crate) fn row(&self, known: &KnownClient, user: UserId, session: SessionId, now: Timestamp) -> LookUp {
        LookUp {
            kind: LookUpKind::Creation,
            hash: self.hash,
            user,
            session,
            body: self.body,
            ends_at: now.plus(creation_key_life(known)),
        }
    }

    /// Whether the row was made for the same body.
    ///
    /// # Errors
    /// [`Code::IdempotencyMismatch`].
    pub(super) fn fits(&self, row: &LookUp) -> Result<(), Error> {
        if row.body == self.body {
            return Ok(());
        }
        let detail = "This Idempotency-Key came with another body before.";
        Err(Error::at(Code::IdempotencyMismatch, "Idempotency-Key", detail))
    }
}

/// What came of it.
pub(super) struct Created {
    pub(super) held: Held,
    pub(super) ids: FreshIds,
    /// Not a further session of a guest that was there.
    pub(super) new_user: bool,
    /// The commit under way: tokens are made while the disk works. `None`: nothing is stored.
    pub(super) commit: Option<Wait<'static, Result<Committed, CommitError>>>,
}

impl Passerby {
    /// Hashes an `Idempotency-Key` that opens a session, bound to what is asked for, to the client and to the body.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] for one that is too short to be a secret, or too long.
    pub(crate) fn creation_key(
        &self,
        known: &KnownClient,
        what: &str,
        key: &str,
        body: &[u8],
    ) -> Result<CreationKey, Error> {
        if !(SHORTEST_KEY..=255).contains(&key.len()) {
            return Err(Error::at(
                Code::InvalidValue,
                "Idempotency-Key",
                format!(
                    "Expected {SHORTEST_KEY} to 255 characters: it opens the same session again, so nobody may guess it."
                ),
            ));
        }
        let secrets = self.secrets_of(known.tenant.no)?;
        let hash = secrets.look_up_hash(what, &[known.client.id.as_bytes(), key.as_bytes()]);
        Ok(CreationKey { hash, body: sha256(body) })
    }

    /// The session that a creation's key opened before.
    ///
    /// # Errors
    /// [`Code::IdempotencyMismatch`] for another body, [`Code::GuestEnded`] when the session is no more.
    pub(crate) async fn held_by_key(
        &self,
        known: &KnownClient,
        key: &CreationKey,
        proven: Proven,
        now: Timestamp,
    ) -> Result<Option<Held>, Error> {
        let found = self.store.found(known.tenant.no, LookUpKind::Creation, key.hash).await?;
        let Some(Found { look_up: row, standing }) = found.filter(|f| f.look_up.ends_at > now) else {
            return Ok(None);
        };
        key.fits(&row)?;
        let ended = || {
            Error::at(
                Code::GuestEnded,
                "Idempotency-Key",
                "The guest that this key made has ended; use a new key for a new one.",
            )
        };
        // the key opens the session itself, whatever tokens were issued for it
        let epoch = standing.user.as_ref().map_or(0, |u| u.epoch);
        let claimed = Claimed::stored(row.user, row.session, epoch, &known.client, proven, now);
        match decide(&known.tenant, &claimed, standing, now) {
            Ok(held) => {
                self.touch(&held, now);
                Ok(Some(held))
            }
            Err(e) if e.code == Code::InvalidDpopProof => Err(e),
            Err(_) => Err(ended()),
        }
    }

    /// Makes a new guest. What must be decided by the store (a chosen id, a key) is decided before this returns; a
    /// plain creation only has its commit under way.
    ///
    /// # Errors
    /// [`CommitError::Taken`] when the key's winner must be read; refusals otherwise.
    pub(super) async fn create(
        &self,
        known: &KnownClient,
        creation: Creation<'_>,
        now: Timestamp,
    ) -> Result<Created, CreateError> {
        let rules = &known.client.rules;
        let needs_row = creation.key.is_some() || creation.device.is_some() || creation.data.len() > MOST_CARRIED;
        if needs_row && creation.persist == Some(false) {
            return Err(Error::at(
                Code::InvalidValue,
                "/persist",
                "A device key, an Idempotency-Key or more than 1 KiB of data needs a stored guest.",
            )
            .into());
        }
        let stored = needs_row || creation.persist.unwrap_or(rules.persistence == Persistence::Eager);
        let chosen = creation.user_id.map(|id| self.chosen(known, id)).transpose()?;
        let mut ids = creation.ids;
        let mut further = None;
        if let Some((id, _)) = chosen {
            ids.user = id;
            further = self.chosen_is_free(known, &ids, now).await?;
        }
        let chosen_by_client = chosen.is_some() && known.authenticated;
        if !stored && further.is_none() {
            // its times travel in tokens, which know whole seconds
            let now = Timestamp::from_seconds(now.seconds());
            let floating = Floating {
                created_at: now,
                metadata: creation.data,
                chosen_id: chosen.map(|(_, text)| text.into()),
                chosen_by_client,
                entry: creation.entry.map(Into::into),
            };
            count(&self.counts().floating);
            return Ok(Created { held: floating_held(known, &ids, floating, now), ids, new_user: true, commit: None });
        }
        let mut session = Session {
            id: ids.session,
            client: known.client.no,
            kind: creation.kind,
            created_at: now,
            active_at: now,
            ended_at: None,
            generation: 0,
            rotated_at: None,
            late_generation: None,
            has_denied_tokens: false,
            metadata: None,
            parent: None,
            key: creation.device.map(|d| *d.key),
            bound: creation.device.is_some_and(|d| d.bound),
        };
        let device = creation
            .device
            .map(|d| {
                let name = d.name.map(Into::into);
                self.device_key_rows(known.tenant.no, d.key, ids.user, ids.session, known.client.no, name, now)
            })
            .transpose()?;
        if let Some(user) = further {
            if creation.device.is_some() {
                // its sessions belong to the client's server, one key would open them all
                return Err(Error::at(
                    Code::InvalidValue,
                    "DPoP",
                    "A further session of a guest whose id the client chose takes no device key.",
                )
                .into());
            }
            session.metadata = Some(creation.data);
            let commit = if let Some(key) = creation.key {
                let mut turn = Turn::of(user.id, user.epoch);
                turn.open = Some(Box::new(session.clone()));
                turn.look_ups.push(key.row(known, ids.user, ids.session, now));
                match self.commit(known.tenant.no, None, Act::Turn(Box::new(turn))).await {
                    Ok(_) => None,
                    // the key has a winner, or the user was changed: look again
                    Err(CommitError::Taken | CommitError::Moved) => return Err(CreateError::Taken),
                    Err(CommitError::Store(e @ StoreError::Unavailable(_))) => {
                        return Err(CreateError::Unknown { error: e.into(), new_user: false });
                    }
                    Err(e) => return Err(Error::from(e).into()),
                }
            } else {
                let act = Act::OpenSession { user: user.id, epoch: user.epoch, session: Box::new(session.clone()) };
                Some(self.commit(known.tenant.no, None, act))
            };
            return Ok(Created { held: stored_held(known, *user, session), ids, new_user: false, commit });
        }
        let user = User {
            chosen_id: chosen.map(|(_, text)| text.into()),
            chosen_by: chosen_by_client.then_some(known.client.no),
            data: creation.data,
            entry: creation.entry.map(Into::into),
            ..User::guest(ids.user, known.client.no, now)
        };
        let (items, mut look_ups) = device.map_or_else(Default::default, |(item, row)| (vec![item], vec![row]));
        look_ups.extend(creation.key.map(|key| key.row(known, ids.user, ids.session, now)));
        let decided_by_store = chosen.is_some() || !look_ups.is_empty();
        let rows = Box::new(NewGuest { user: user.clone(), session: session.clone(), items });
        let act = if chosen.is_some() { Act::CreateChosen(rows, look_ups) } else { Act::Create(rows, look_ups) };
        let mut commit = Some(self.commit(known.tenant.no, None, act));
        if decided_by_store && let Some(commit) = commit.take() {
            match commit.await {
                Ok(_) => {}
                Err(CommitError::Taken) => return Err(CreateError::Taken),
                Err(CommitError::Marked) => return Err(id_taken().into()),
                Err(CommitError::Store(e @ StoreError::Unavailable(_))) => {
                    return Err(CreateError::Unknown { error: e.into(), new_user: true });
                }
                Err(e) => return Err(Error::from(e).into()),
            }
        } else {
            // the others queue their rows first: signing is for the time that the disk takes
            yield_once().await;
        }
        count(&self.counts().stored);
        Ok(Created { held: stored_held(known, user, session), ids, new_user: true, commit })
    }

    /// The key of an id that the caller chose, and the id.
    fn chosen<'a>(&self, known: &KnownClient, id: &'a str) -> Result<(UserId, &'a str), Error> {
        let allowed = match known.client.rules.custom_user_id {
            CustomUserId::Deny => false,
            CustomUserId::Confidential => known.authenticated,
            CustomUserId::Any => true,
        };
        if !allowed {
            return Err(Error::at(Code::UserIdNotAllowed, "/user_id", "This client may not choose the ids of guests."));
        }
        if !may_be_chosen(id) {
            let expected = "Expected 1 to 255 printable characters, or a UUID in lower case with hyphens.";
            return Err(Error::at(Code::InvalidValue, "/user_id", expected));
        }
        Ok((self.secrets_of(known.tenant.no)?.key_of(id), id))
    }

    /// An id that belongs to somebody is never handed out again, but for a further session of a guest whose id the
    /// same authenticated client chose: then that user is given back.
    async fn chosen_is_free(
        &self,
        known: &KnownClient,
        ids: &FreshIds,
        now: Timestamp,
    ) -> Result<Option<Box<User>>, Error> {
        let standing = self.store.standing(known.tenant.no, ids.user, ids.session).await?;
        match standing.user {
            None if standing.marked(&USER_MARK, now) => Err(id_taken()),
            None => Ok(None),
            Some(user)
                if user.kind == Kind::Anonymous
                    && user.merged_into.is_none()
                    && known.authenticated
                    && user.chosen_by == Some(known.client.no) =>
            {
                Ok(Some(Box::new(user)))
            }
            Some(_) => Err(id_taken()),
        }
    }
}

fn id_taken() -> Error {
    Error::at(Code::UserIdTaken, "/user_id", "This id is not to be had.")
}

/// Why no guest was made.
pub(super) enum CreateError {
    /// The key or the id has a winner: read it.
    Taken,
    /// The store was lost on the way: the rows may be there, or not.
    Unknown {
        /// Its fault.
        error: Error,
        /// The rows would be a new user's, not a further session of one.
        new_user: bool,
    },
    /// Refused.
    Refused(Error),
}

impl From<Error> for CreateError {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl CreateError {
    /// The refusal; a race for an id that was lost.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Taken => id_taken(),
            Self::Unknown { error: e, .. } | Self::Refused(e) => e,
        }
    }
}

fn floating_held(known: &KnownClient, ids: &FreshIds, floating: Floating, now: Timestamp) -> Held {
    Held {
        tenant: known.tenant.clone(),
        client: known.client.clone(),
        user: ids.user,
        session: ids.session,
        epoch: 0,
        kind: Kind::Anonymous,
        created_at: now,
        active_at: now,
        ends: known.client.rules.ends(now, now),
        row: Row::Floating(Box::new(floating)),
    }
}

fn stored_held(known: &KnownClient, user: User, session: Session) -> Held {
    Held {
        tenant: known.tenant.clone(),
        client: known.client.clone(),
        user: user.id,
        session: session.id,
        epoch: user.epoch,
        kind: user.kind,
        created_at: session.created_at,
        active_at: session.active_at,
        ends: known.client.rules.ends(session.created_at, session.active_at),
        row: Row::Stored(Box::new(Stored { user, session, sessions: Vec::new() })),
    }
}
