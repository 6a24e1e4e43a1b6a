//! The ports: what the core asks of the world. Engines and the program implement them.
//!
//! A store has reads by topic and one [`Store::commit`]. A change is plain data, so one writer can queue, group and
//! retry it, and state and event cannot part. The two exceptions are named: [`Act::Edit`] carries the core's own pure
//! function to be applied under the row's lock, and [`Act::Sweep`] decides in its statement.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    id::{ClientNo, SessionId, TenantNo, UserId},
    message::{Delivery, Message, MessageKind, Parcel, Rendered, Wording},
    model::{
        ApiKeyRow, EpochRow, Item, ItemKind, KeptRow, Kind, LookUp, LookUpKind, NewGuest, OutRow, OutState, Record,
        RecordKind, Session, SigningKeyRow, Standing, Target, User,
    },
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

/// What carries messages to people, and knows how they are worded.
pub trait Post: Send + Sync + 'static {
    /// Whether messages go out this way; in development those that do not are shown in the mailbox.
    fn carries(&self, target: Target) -> bool;

    /// Carries one message, within bounded time. What it says is not logged.
    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> Wait<'a, Delivery>;

    /// The message as it would go out, with the operator's template where there is one. `None`: it lacks what its kind
    /// says.
    fn render(&self, message: &Message, template: Option<&Wording>) -> Option<Rendered>;

    /// Judges a template before it is kept, and shows it with sample values.
    ///
    /// # Errors
    /// [`Code::InvalidValue`](crate::Code) at the part that is to blame, with its line.
    fn check(&self, kind: MessageKind, template: &Wording) -> Result<Rendered, crate::Error>;

    /// The template that comes with the server.
    fn built_in(&self, kind: MessageKind) -> Wording;
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
    /// A merge of this guest waits for the application's word: nothing of it may be written.
    #[error("frozen")]
    Frozen,
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

/// What a back end changes of a user, in one step.
#[derive(Debug, Clone)]
pub struct ManageUser {
    /// Whom.
    pub user: UserId,
    /// The version that must be there.
    pub if_match: Option<i64>,
    /// An edit of `data`.
    pub data: Option<Arc<Edit>>,
    /// An edit of `server_data`; the empty object is kept as none.
    pub server_data: Option<Arc<Edit>>,
    /// Holds the user, or lets go.
    pub held: Option<bool>,
    /// What either object must keep to.
    pub limits: Arc<Limits>,
    /// The tenant's schema of `data`.
    pub schema: Option<Schema>,
}

/// Which sessions a [`Turn`] ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// These, and their ids are marked where a moment is given. None that is missing or ended is an error.
    Some(Vec<(SessionId, Option<Timestamp>)>),
    /// All that hang on a device key, however many there are.
    ByKey {
        /// The key's thumbprint.
        key: [u8; 32],
        /// This one stays.
        but: Option<SessionId>,
        /// This one ends with them.
        also: Option<SessionId>,
        /// Their ids are marked until then.
        mark_until: Option<Timestamp>,
    },
    /// All of the user, but perhaps one.
    All {
        /// This one stays.
        but: Option<SessionId>,
    },
}

/// One change of an [`Item`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemChange {
    /// Writes it with the revision after `was`. `was: None`: none may be there alive.
    Put {
        /// The row; its revision is what is written.
        item: Item,
        /// The revision that must be there.
        was: Option<i32>,
    },
    /// Removes it and its look-up; its revision must be `was`.
    Remove {
        /// Kind.
        kind: ItemKind,
        /// Key.
        id: [u8; 32],
        /// The revision that must be there.
        was: i32,
    },
    /// Removes all of a kind and their look-ups, but perhaps one.
    RemoveAll {
        /// Kind.
        kind: ItemKind,
        /// This one stays.
        but: Option<[u8; 32]>,
    },
    /// The same, but their look-ups stay: what was found by them is known as gone, and never becomes another's.
    RetireAll {
        /// Kind.
        kind: ItemKind,
        /// This one stays.
        but: Option<[u8; 32]>,
    },
}

/// One change of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordChange {
    /// Writes it with the revision after `was` (`Moved` when another is there). `was: None`: none may be there alive.
    Put {
        /// The row; its revision is what is written.
        record: Record,
        /// The revision that must be there.
        was: Option<i32>,
    },
    /// Removes it; its revision must be `was` (`Moved`).
    Remove {
        /// Kind.
        kind: RecordKind,
        /// Key.
        id: [u8; 32],
        /// The revision that must be there.
        was: i32,
    },
}

/// What a [`Turn`] changes of the user's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserWrite {
    /// The version of the profile that the decision saw (`Moved`); `None`: any.
    pub version: Option<i64>,
    /// Only when the user is of this kind (`Moved`).
    pub was: Kind,
    /// The new `data`: the version rises, and `updated_at` is [`Change::at`].
    pub data: Option<Box<str>>,
    /// What the user is from then on.
    pub kind: Kind,
    /// Set where it is not set yet.
    pub converted_at: Option<Timestamp>,
    /// The account that the guest was merged into; `None` takes it back.
    pub merged_into: Option<UserId>,
    /// Whether a merge waits. Only a write that says so may be made of a frozen user (`Frozen`): `thaws`.
    pub frozen: bool,
    /// The user may be frozen.
    pub thaws: bool,
}

/// A change of how a stored user gets in: sessions, device keys, codes, epoch, all in one step under the user's row.
/// Steps are made in the order of the members.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Whose (`Gone` when there is no row).
    pub user: UserId,
    /// The epoch that the decision saw (`Moved` when it is another).
    pub epoch: i32,
    /// A session that must be there, not ended (`Gone`).
    pub by: Option<SessionId>,
    /// How many items of a kind the decision saw, those past their end among them (`Moved` when there are more or
    /// fewer): what makes "at most" and "the last one" hold when two changes are made at once.
    pub counted: Vec<(ItemKind, usize)>,
    /// The epoch rises by one; a row of `epochs` says so, at [`Change::at`] rounded down to the second.
    pub raise: bool,
    /// Sessions that end.
    pub end: Ending,
    /// A session that is opened. Sessions that ended [`ENDED_STAY`] ago are removed with it.
    pub open: Option<Box<Session>>,
    /// A session (not ended: `Gone`) that gets this key, and whose tokens are bound to it or not.
    pub bind: Option<(SessionId, Option<[u8; 32]>, bool)>,
    /// Items; a revision that is not the one seen: `Moved`.
    pub items: Vec<ItemChange>,
    /// Look-ups that are added (`Taken` when one is there alive).
    pub look_ups: Vec<LookUp>,
    /// What changes of the user's own row.
    pub write: Option<UserWrite>,
    /// Records of the tenant that change with it (`Moved`).
    pub records: Vec<RecordChange>,
}

impl Turn {
    /// One that does nothing yet.
    pub fn of(user: UserId, epoch: i32) -> Self {
        Self {
            user,
            epoch,
            by: None,
            counted: Vec::new(),
            raise: false,
            end: Ending::Some(Vec::new()),
            open: None,
            bind: None,
            items: Vec::new(),
            look_ups: Vec::new(),
            write: None,
            records: Vec::new(),
        }
    }
}

/// A user that a back end makes, with what it signs in by.
#[derive(Debug, Clone)]
pub struct NewUserRows {
    /// The row.
    pub user: User,
    /// Its items (their revisions are 1).
    pub items: Vec<Item>,
    /// Their look-ups (`Taken` when one is there alive).
    pub look_ups: Vec<LookUp>,
}

/// What became of a row of the outbox; see [`Act::Settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Tenant.
    pub tenant: TenantNo,
    /// Whose.
    pub user: UserId,
    /// Which of the user's.
    pub seq: i64,
    /// Its id: where another row has the number by now (its user was erased meanwhile), that one stays as it is.
    pub id: [u8; 16],
    /// What it was, and how often it had been tried, when that was decided: what somebody else settled meanwhile stays.
    pub was: (OutState, i32),
    /// What it is from now on.
    pub state: OutState,
    /// When it is tried again; kept only where it waits.
    pub due_at: Option<Timestamp>,
    /// From then on it may be swept.
    pub ends_at: Timestamp,
    /// How often it was tried.
    pub tries: i32,
    /// What it says from now on; `None`: as before. A message that arrived says nothing more, so that no code lies about.
    pub body: Option<Box<[u8]>>,
}

/// Which rows of the outbox are asked for; newest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutQuery<'a> {
    /// Of this tenant only.
    pub tenant: Option<TenantNo>,
    /// With these targets; empty: all.
    pub targets: &'a [Target],
    /// In this state only.
    pub state: Option<OutState>,
    /// Of this lane only.
    pub lane: Option<[u8; 16]>,
    /// Of this user only.
    pub user: Option<UserId>,
    /// The one with this id only.
    pub id: Option<[u8; 16]>,
    /// Older than this one: its moment and id.
    pub before: Option<(Timestamp, [u8; 16])>,
    /// At most so many.
    pub limit: u32,
}

/// A look-up row with what its user and session stand on.
#[derive(Debug, Clone)]
pub struct Found {
    /// The row, dead or alive.
    pub look_up: LookUp,
    /// As [`Store::standing`] of its user and session.
    pub standing: Standing,
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
    /// Rows of the outbox, written in the same transaction when the act was done. (A repeated operation does nothing.)
    pub out: Vec<OutRow>,
}

/// What a change does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Nothing beside `keep`.
    Keep,
    /// A new guest under an id that the core made: user, session and items. The hottest change: engines write those
    /// that are plain and arrive together in one statement. Look-up rows, when there are any, decide who wins
    /// ([`CommitError::Taken`]).
    Create(Box<NewGuest>, Vec<LookUp>),
    /// A new guest under an id that the caller chose. The user is there → `Taken`; marked → `Marked`.
    CreateChosen(Box<NewGuest>, Vec<LookUp>),
    /// A user without a session. The user is there → `Taken`; marked → `Marked`.
    AddUser(Box<NewUserRows>),
    /// What a back end changes of a user. No row → `Gone`.
    Manage(Box<ManageUser>),
    /// How a user gets in.
    Turn(Box<Turn>),
    /// Turns of several users, each another's, all or none; engines lock them in the order of their ids. What one of them
    /// removes is gone before another adds look-ups: a look-up goes over from one to the other in one step.
    Turns(Vec<Turn>),
    /// Records alone.
    Records(Vec<RecordChange>),
    /// What became of rows of the outbox; those that are not there any more, or not as they were seen, are passed over.
    Settle(Vec<Settled>),
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
    /// Removes the user, its sessions, its items, its operation keys, its rows of the outbox and its other marks; marks the
    /// user until then. The look-ups of its items stay as long, so that a device key of somebody erased is known as such,
    /// but for those of identifiers: the address is free at once. A row of `epochs`
    /// voids its tokens (the epoch after its own; 1 where no row is).
    Erase {
        /// Whom.
        user: UserId,
        /// The id as the caller chose it, for the row of `epochs` of somebody who was never stored; a row's own wins.
        chosen_id: Option<Box<str>>,
        /// The mark's end.
        mark_until: Timestamp,
        /// Only while the user's epoch is this one (0 where no row is; `Gone`): what the decision saw.
        epoch: Option<i32>,
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
    /// Writes an API key with the revision after `was` (`Moved`); `was: None`: a new one (`Taken`).
    PutApiKey {
        /// The row; its revision is what is written.
        key: Box<ApiKeyRow>,
        /// The revision that must be there.
        was: Option<i32>,
    },
    /// Removes an API key of the tenant (no error when it is not there).
    RemoveApiKey(Uuid),
    /// Batched: when API keys were last used; moves forward only.
    TouchApiKeys(Vec<(TenantNo, Uuid, Timestamp)>),
    /// Puts a value under a name of the store itself.
    SetMeta(&'static str, Vec<u8>),
    /// Puts a value only when the name has none (`Taken` otherwise).
    InitMeta(&'static str, Vec<u8>),
    /// Removes what has ended before `at`, at most `limit` rows of each kind: marks, look-ups, operation keys, items,
    /// records, rows of the outbox, epochs from before `epochs_before`; of spent proofs, which are many and small, an engine may remove more.
    Sweep {
        /// Bound.
        limit: u32,
        /// Rows of `epochs` from before it void nothing that lives.
        epochs_before: Timestamp,
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

    /// A look-up row and what it leads to, in one call.
    fn found(&self, tenant: TenantNo, kind: LookUpKind, hash: [u8; 32]) -> Wait<'_, Result<Option<Found>, StoreError>>;

    /// The items of a user, of one kind or of all; dead ones too.
    fn items(&self, tenant: TenantNo, user: UserId, kind: Option<ItemKind>) -> Wait<'_, Result<Vec<Item>, StoreError>>;

    /// Users with their sessions, by descending id, below `before`, at most `limit`.
    fn users(
        &self,
        tenant: TenantNo,
        before: Option<UserId>,
        limit: u32,
    ) -> Wait<'_, Result<Vec<Standing>, StoreError>>;

    /// Raised epochs of all tenants from `from` on, oldest first, at most `limit`, but all of the last second.
    fn epochs(&self, from: Timestamp, limit: u32) -> Wait<'_, Result<Vec<EpochRow>, StoreError>>;

    /// Notes that a proof was used (RFC 9449 section 11.1) and must not be again before `ends_at`. `false`: it was used
    /// already. Need not be on disk; see [`Store::shares_spent`].
    fn spend(&self, tenant: TenantNo, proof: [u8; 32], ends_at: Timestamp) -> Wait<'_, Result<bool, StoreError>>;

    /// Whether what was spent is known to other processes and after a restart. Where it is not, nonces must not outlive
    /// the process.
    fn shares_spent(&self) -> bool;

    /// The API key whose text, or text before the last rotation, has this hash.
    fn api_key(&self, hash: [u8; 32]) -> Wait<'_, Result<Option<ApiKeyRow>, StoreError>>;

    /// A record, dead or alive.
    fn record(&self, tenant: TenantNo, kind: RecordKind, id: [u8; 32]) -> Wait<'_, Result<Option<Record>, StoreError>>;

    /// All records of a kind, dead ones too, by id.
    fn records(&self, tenant: TenantNo, kind: RecordKind) -> Wait<'_, Result<Vec<Record>, StoreError>>;

    /// Rows of the outbox with this target that wait and are due at `now`, the earliest first, at most `limit`; of one
    /// user and lane the first that waits alone. One past its end holds up nobody, and is given behind others too, to be
    /// settled.
    fn outbox_due(&self, now: Timestamp, target: Target, limit: u32) -> Wait<'_, Result<Vec<KeptRow>, StoreError>>;

    /// Rows of the outbox, newest first.
    fn outbox<'a>(&'a self, query: OutQuery<'a>) -> Wait<'a, Result<Vec<KeptRow>, StoreError>>;

    /// All API keys of a tenant, newest first.
    fn api_keys(&self, tenant: TenantNo) -> Wait<'_, Result<Vec<ApiKeyRow>, StoreError>>;

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
