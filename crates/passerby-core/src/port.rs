//! The ports: what the core asks of the world. Engines and the program implement them.
//!
//! A store has reads by topic and one [`Store::commit`]. A change is plain data, so one writer can queue, group and
//! retry it, and state and event cannot part. The two exceptions are named: [`Act::Edit`] carries the core's own pure
//! function to be applied under the row's lock, and [`Act::Sweep`] decides in its statement.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{LookUp, LookUpKind, NewGuest, Session, SigningKeyRow, Standing},
    profile::{Edit, EditError, Limits, Schema},
    time::Timestamp,
};

/// The wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Now, wall time.
    fn now(&self) -> Timestamp;

    /// Milliseconds that only grow, from an arbitrary start: what deleting jobs hold the wall clock against.
    fn monotonic_millis(&self) -> i64;
}

/// Random bytes for ids, from a generator in the process. Secrets come from `passerby-jose`.
pub trait Random: Send + Sync + 'static {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// What a store call gives: boxed, since the engine is chosen at run time.
pub type Wait<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a store could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not reachable just now: 503 with `Retry-After`.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// No room for a write: 507; reads go on.
    #[error("the store has no room")]
    Full,
    /// A fault of ours.
    #[error("the store failed: {0}")]
    Bug(String),
}

/// Why a commit changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The look-up row, the user id or the key's generation is there already: read the winner.
    #[error("taken")]
    Taken,
    /// The user or the session is marked: it ended, and no old token brings it back.
    #[error("marked")]
    Marked,
    /// The user or the session that the change needs is not there, or has ended.
    #[error("gone")]
    Gone,
    /// The row was not in the state that the decision saw: decide again.
    #[error("moved")]
    Moved,
    /// `If-Match` names another version than the one that is there.
    #[error("version is {0}")]
    Version(i64),
    /// The same operation key came with another body.
    #[error("operation key reused")]
    KeyReused,
    /// The profile refused the edit.
    #[error("edit refused")]
    Edit(EditError),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a commit gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Done.
    Done,
    /// The profile after an edit.
    Profile {
        /// Compact JSON.
        data: Box<str>,
        /// Its version.
        version: i64,
        /// The operation key was known: nothing was changed.
        replayed: bool,
    },
    /// How many rows a sweep removed.
    Swept(u64),
}

/// Which JSON object an edit changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The user's `data`.
    Data,
    /// The session's own metadata (a further session of a chosen id).
    SessionMetadata,
}

/// An idempotency key of a profile operation: bound to the user, opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationKey {
    /// Hash of the key.
    pub hash: [u8; 32],
    /// Hash of the body.
    pub body: [u8; 32],
    /// Remembered until.
    pub ends_at: Timestamp,
}

/// An edit of a profile, applied under the row's lock by the core's own function [`Edit::apply`].
#[derive(Debug, Clone)]
pub struct EditProfile {
    /// Whose.
    pub user: UserId,
    /// By which session.
    pub session: SessionId,
    /// Which object.
    pub half: Half,
    /// What to do.
    pub edit: Arc<Edit>,
    /// What the result must keep to.
    pub limits: Arc<Limits>,
    /// The tenant's schema.
    pub schema: Option<Schema>,
    /// The version that must be there.
    pub if_match: Option<i64>,
    /// Idempotency.
    pub key: Option<OperationKey>,
}

/// One batched touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Tenant.
    pub tenant: TenantNo,
    /// User.
    pub user: UserId,
    /// Session.
    pub session: SessionId,
    /// Last active then; never moves back.
    pub at: Timestamp,
}

/// One change, committed whole or not at all.
#[derive(Debug, Clone)]
pub struct Change {
    /// When it was decided.
    pub at: Timestamp,
    /// A floating guest that must be stored first, in the same transaction. Idempotent on (user id, session id):
    /// - user and session marked → [`CommitError::Marked`] (asked only while no row is there);
    /// - no user row → both rows are made;
    /// - the user and this session are there, not ended → nothing to do;
    /// - the user is there with `chosen_by` equal to the session's client → the session is added; its metadata, unless it brings
    ///   some, is the `data` that came with it, since two sessions of a chosen id never mix theirs;
    /// - otherwise → [`CommitError::Gone`]: another session stored the id first.
    pub keep: Option<Box<NewGuest>>,
    /// What to do.
    pub act: Act,
}

/// What a change does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Nothing beside `keep`.
    Keep,
    /// A new guest under an id that the core made: user and session row. The hottest change: engines write those that
    /// arrive together in one statement. A look-up row, when there is one, decides who wins ([`CommitError::Taken`]).
    Create(Box<NewGuest>, Option<Box<LookUp>>),
    /// A new guest under an id that the caller chose. The user is there → `Taken`; marked → `Marked`.
    CreateChosen(Box<NewGuest>, Option<Box<LookUp>>),
    /// A further session of a user that is there with this epoch (`Gone` if not). Sessions of the user that ended
    /// [`ENDED_STAY`] ago are removed with it.
    OpenSession {
        /// Whose.
        user: UserId,
        /// The epoch that the decision saw.
        epoch: i32,
        /// The row.
        session: Box<Session>,
    },
    /// Ends a session (no error when it is not there) and, with `mark_until`, marks its id.
    EndSession {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
        /// Mark its id until then (a floating session, or one that was stored from floating).
        mark_until: Option<Timestamp>,
    },
    /// Compare-and-set of a refresh rotation: the row's generation must be `from` and not ended (`Moved`).
    /// Writes generation, `rotated_at` (unless late), `late_generation` (if late), and activity.
    Rotate {
        /// Whose.
        user: UserId,
        /// Which.
        session: SessionId,
        /// The generation that the decision saw.
        from: i32,
        /// The generation after it; equal to `from` for a late retry.
        to: i32,
    },
    /// Edits a profile. `Gone` when user or session is not there or has ended.
    Edit(Box<EditProfile>),
    /// Removes the user, its sessions, its operation keys and its other marks; marks the user until then.
    Erase {
        /// Whom.
        user: UserId,
        /// The mark's end.
        mark_until: Timestamp,
    },
    /// Refuses one access token by its `jti`: a mark, and the session's flag where there is a row.
    DenyToken {
        /// Whose.
        user: UserId,
        /// Of which session.
        session: SessionId,
        /// Which token.
        jti: [u8; 16],
        /// When it would have ended.
        until: Timestamp,
    },
    /// Batched touching: `active_at` moves forward only; ended or missing sessions are passed over.
    Touch(Vec<Touch>),
    /// A look-up row by itself (`Taken` when it is there and alive).
    Remember(Box<LookUp>),
    /// A signing key; `Taken` when that generation is there.
    AddSigningKey(Box<SigningKeyRow>),
    /// Removes a signing key by its `kid`.
    RemoveSigningKey(Box<str>),
    /// Puts a value under a name of the store itself.
    SetMeta(&'static str, Vec<u8>),
    /// Puts a value only when the name has none (`Taken` otherwise).
    InitMeta(&'static str, Vec<u8>),
    /// Removes what has ended before `at`, at most `limit` rows of each kind: marks, look-ups, operation keys.
    Sweep {
        /// Bound.
        limit: u32,
    },
}

/// How long an ended session's row stays at least; see [`Act::OpenSession`].
pub const ENDED_STAY: Duration = Duration::from_hours(24);

/// A storage engine.
pub trait Store: Send + Sync + 'static {
    /// Whether the engine answers (a round trip).
    fn ready(&self) -> Wait<'_, Result<(), StoreError>>;

    /// The number of a tenant, made at first sight.
    fn number_tenant(&self, id: Uuid) -> Wait<'_, Result<TenantNo, StoreError>>;

    /// The number of a client, made at first sight.
    fn number_client<'a>(&'a self, tenant: TenantNo, client_id: &'a str) -> Wait<'a, Result<ClientNo, StoreError>>;

    /// One read by key: what honours a token. Sees every commit that was answered before it was asked.
    fn standing(&self, tenant: TenantNo, user: UserId, session: SessionId) -> Wait<'_, Result<Standing, StoreError>>;

    /// A look-up row, dead or alive.
    fn look_up(
        &self,
        tenant: TenantNo,
        kind: LookUpKind,
        hash: [u8; 32],
    ) -> Wait<'_, Result<Option<LookUp>, StoreError>>;

    /// All signing keys.
    fn signing_keys(&self) -> Wait<'_, Result<Vec<SigningKeyRow>, StoreError>>;

    /// A value of the store itself.
    fn meta(&self, name: &'static str) -> Wait<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Commits one change. The change is queued when this is *called*, not when the answer is first polled, so that
    /// the caller can sign while the disk works; dropping the answer undoes nothing. Acknowledged means on disk.
    fn commit(&self, tenant: TenantNo, change: Change) -> Wait<'static, Result<Committed, CommitError>>;

    /// Writes what is queued and closes; later calls answer `Unavailable`.
    fn close(&self) -> Wait<'_, ()>;
}
