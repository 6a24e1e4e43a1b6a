//! Plain data and the pure questions about it. Nothing here knows a wire format or a table.

use crate::{
    id::{ClientNo, SessionId, TenantNo, UserId},
    time::Timestamp,
};

/// What a user is. Nothing goes back, but for an undone merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A guest: no verified identifier.
    Anonymous,
    /// At least one verified identifier and a way to sign in.
    Regular,
}

impl Kind {
    /// The word of the wire and of the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Regular => "regular",
        }
    }

    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Anonymous => 0,
            Self::Regular => 1,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Anonymous),
            1 => Some(Self::Regular),
            _ => None,
        }
    }
}

/// A stored user (one row of `users`).
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// The key.
    pub id: UserId,
    /// The id as the caller wrote it, when the caller chose it: shown verbatim wherever an id is shown.
    pub chosen_id: Option<Box<str>>,
    /// The client that chose the id and had authenticated for it; it may open further sessions of this guest.
    pub chosen_by: Option<ClientNo>,
    /// Guest or regular.
    pub kind: Kind,
    /// The client that made the user.
    pub client: ClientNo,
    /// When the guest was made (for a floating one: before it was stored).
    pub created_at: Timestamp,
    /// The last change of `data`.
    pub updated_at: Timestamp,
    /// Rises with every change of `data`, from 1.
    pub version: i64,
    /// What was issued under a lower one is dead.
    pub epoch: i32,
    /// The half of the profile that the guest may write: compact JSON object.
    pub data: Box<str>,
    /// The half that only API keys write: compact JSON object, absent while empty.
    pub server_data: Option<Box<str>>,
    /// Where the guest came in, as the app said (at most 64 characters).
    pub entry: Option<Box<str>>,
    /// Held by an API key: never culled.
    pub held: bool,
    /// When the guest became a regular user; set once.
    pub converted_at: Option<Timestamp>,
    /// The account that a merge put the guest's things into: the id lives on as a pointer to it.
    pub merged_into: Option<UserId>,
    /// A merge waits for the application's word: nothing of the guest may be written.
    pub frozen: bool,
}

impl User {
    /// A guest without anything, as it is when it was just made.
    pub fn guest(id: UserId, client: ClientNo, created_at: Timestamp) -> Self {
        Self {
            id,
            chosen_id: None,
            chosen_by: None,
            kind: Kind::Anonymous,
            client,
            created_at,
            updated_at: created_at,
            version: 1,
            epoch: 0,
            data: "{}".into(),
            server_data: None,
            entry: None,
            held: false,
            converted_at: None,
            merged_into: None,
            frozen: false,
        }
    }
}

/// How a session's credential travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// Bearer tokens.
    Tokens,
    /// A cookie of the tenant's host.
    Cookie,
}

impl SessionKind {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Tokens => 0,
            Self::Cookie => 1,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Tokens),
            1 => Some(Self::Cookie),
            _ => None,
        }
    }
}

/// A stored session (one row of `sessions`). Ended ones stay for a while, as what tells when a guest was last there.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The key beside the user's.
    pub id: SessionId,
    /// The client it belongs to.
    pub client: ClientNo,
    /// Tokens or cookie.
    pub kind: SessionKind,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last used, as far as it was written (touching is batched).
    pub active_at: Timestamp,
    /// When it was ended by somebody; time-outs are computed, never written.
    pub ended_at: Option<Timestamp>,
    /// The newest refresh token's generation, from 0.
    pub generation: i32,
    /// When that generation was made by a rotation.
    pub rotated_at: Option<Timestamp>,
    /// The last generation whose predecessor was retried late.
    pub late_generation: Option<i32>,
    /// Some access token of this session was revoked by its `jti`: marks must be asked.
    pub has_denied_tokens: bool,
    /// Its own metadata: only a further session of a chosen id has one.
    pub metadata: Option<Box<str>>,
    /// The cookie session from which this one was opened for another client.
    pub parent: Option<SessionId>,
    /// The device key that opened it, or that was added by it: the RFC 7638 SHA-256 thumbprint. The key comes back to
    /// this session while it lives.
    pub key: Option<[u8; 32]>,
    /// Its tokens are bound to `key` (`cnf.jkt`, RFC 9449 section 6) and of no use without it.
    pub bound: bool,
}

impl Session {
    /// The key that its tokens are bound to.
    pub fn bound_to(&self) -> Option<&[u8; 32]> {
        self.key.as_ref().filter(|_| self.bound)
    }
}

/// The bare id of something that ended, kept so that no old token brings it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// A session's id, a token's `jti`, or all zero for the user itself.
    pub id: [u8; 16],
    /// From here on no token of the id can live, and the mark is swept.
    pub ends_at: Timestamp,
}

/// The id under which a user itself is marked.
pub const USER_MARK: [u8; 16] = [0; 16];

/// What an [`Item`] is; its number is part of the row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A device key.
    DeviceKey,
    /// A hand-off under way.
    HandOff,
    /// The recovery code, and a recovery that waits.
    Recovery,
    /// Something that the user's sessions are told.
    Notice,
    /// What the user is known by, proven or set with a credential: exclusive.
    Identifier,
    /// The password's hash; one row.
    Password,
    /// An identifier that was claimed and is not proven.
    Claim,
    /// Where a merge has put the guest; one row, for ever.
    Transfer,
    /// What an undo of the merge needs; one row, as long as it may be undone.
    TransferUndo,
    /// On the account: a guest that was merged into it.
    Absorbed,
}

impl ItemKind {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::DeviceKey => 1,
            Self::HandOff => 2,
            Self::Recovery => 3,
            Self::Notice => 4,
            Self::Identifier => 5,
            Self::Password => 6,
            Self::Claim => 7,
            Self::Transfer => 8,
            Self::TransferUndo => 9,
            Self::Absorbed => 10,
        }
    }

    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::DeviceKey,
        Self::HandOff,
        Self::Recovery,
        Self::Notice,
        Self::Identifier,
        Self::Password,
        Self::Claim,
        Self::Transfer,
        Self::TransferUndo,
        Self::Absorbed,
    ];

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|k| i64::from(k.number()) == n)
    }

    /// The look-up by which an item of this kind is found: its hash is the item's id.
    pub fn look_up(self) -> Option<LookUpKind> {
        match self {
            Self::DeviceKey => Some(LookUpKind::DeviceKey),
            Self::HandOff => Some(LookUpKind::HandOff),
            Self::Recovery => Some(LookUpKind::Recovery),
            Self::Identifier => Some(LookUpKind::Identifier),
            Self::Notice | Self::Password | Self::Claim | Self::Transfer | Self::TransferUndo | Self::Absorbed => None,
        }
    }
}

/// A small thing that belongs to a user (one row of `items`). The core alone knows what its body says; stores keep it,
/// and change it only where its revision is the one that the decision saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its key beside the user's and the kind: the hash of its look-up, where the kind has one.
    pub id: [u8; 32],
    /// Counts its changes, from 1.
    pub revision: i32,
    /// From here on it is dead, and swept.
    pub ends_at: Timestamp,
    /// JSON.
    pub body: Box<str>,
}

/// What a [`Record`] is; its number is part of the row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A code or link on its way to an address, whether or not an account has it.
    Flow,
    /// Wrong codes for one address, whoever tried them.
    Tries,
    /// An operator's template of a message.
    Template,
    /// Who does a job that one process at a time does.
    Lease,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flow, Self::Tries, Self::Template, Self::Lease];

    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Flow => 1,
            Self::Tries => 2,
            Self::Template => 3,
            Self::Lease => 4,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|k| i64::from(k.number()) == n)
    }
}

/// A small thing of a tenant that belongs to no user (one row of `records`), kept and changed like an [`Item`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// Its key beside the tenant's and the kind.
    pub id: [u8; 32],
    /// Counts its changes, from 1.
    pub revision: i32,
    /// From here on it is dead, and swept.
    pub ends_at: Timestamp,
    /// JSON.
    pub body: Box<str>,
}

/// Where a row of the outbox goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Nowhere: the event log.
    Log,
    /// A mail.
    Mail,
    /// A short message.
    Sms,
    /// Something that the core itself does later.
    Timer,
}

impl Target {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Log => 0,
            Self::Mail => 1,
            Self::Sms => 2,
            Self::Timer => 3,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        [Self::Log, Self::Mail, Self::Sms, Self::Timer].into_iter().find(|k| i64::from(k.number()) == n)
    }
}

/// What became of a row of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutState {
    /// It waits for its moment.
    Waiting,
    /// It arrived, or had nowhere to go.
    Done,
    /// It could not be delivered: an operator may send it again.
    Dead,
}

impl OutState {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Waiting => 0,
            Self::Done => 1,
            Self::Dead => 2,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        [Self::Waiting, Self::Done, Self::Dead].into_iter().find(|k| i64::from(k.number()) == n)
    }
}

/// A row that a change adds to the outbox, in its own transaction. The engine gives it the user's next number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRow {
    /// Its id, for ever the same: receivers tell repeats by it.
    pub id: [u8; 16],
    /// Whose it is (of a flow for an address: the id that stands for the address).
    pub user: UserId,
    /// The event's name.
    pub name: Box<str>,
    /// When it happened.
    pub at: Timestamp,
    /// Where it goes.
    pub target: Target,
    /// What goes to one receiver is delivered in order: rows of one user and lane wait for each other.
    pub lane: [u8; 16],
    /// When it is to be delivered; `None`: it has nowhere to go.
    pub due_at: Option<Timestamp>,
    /// It is of no use after that: not delivered, and swept.
    pub ends_at: Timestamp,
    /// JSON; sealed where it goes to people.
    pub body: Box<[u8]>,
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRow {
    /// Tenant.
    pub tenant: TenantNo,
    /// The user's number of it, from 1.
    pub seq: i64,
    /// The row.
    pub row: OutRow,
    /// What became of it.
    pub state: OutState,
    /// How often it was tried.
    pub tries: i32,
}

/// A raised epoch (one row of `epochs`): tokens of the user with a lower one are dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochRow {
    /// Tenant.
    pub tenant: TenantNo,
    /// When it was decided, a whole second, rounded down.
    pub at: Timestamp,
    /// Whose.
    pub user: UserId,
    /// The epoch from then on.
    pub epoch: i32,
    /// The user's id as the caller chose it.
    pub chosen_id: Option<Box<str>>,
}

/// An API key at rest (one row of `api_keys`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its tenant.
    pub tenant: TenantNo,
    /// Its id.
    pub id: uuid::Uuid,
    /// Counts its changes, from 1.
    pub revision: i32,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// SHA-256 of the text before the last rotation, and until when that is still taken.
    pub previous: Option<([u8; 32], Timestamp)>,
    /// The beginning of its text, shown so that people can tell keys apart.
    pub prefix: Box<str>,
    /// For people.
    pub name: Box<str>,
    /// What it may do: JSON that the core reads and writes.
    pub grants: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, as far as it was written (batched).
    pub last_used_at: Option<Timestamp>,
}

/// A user with the session that is stored together with it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewGuest {
    /// The user.
    pub user: User,
    /// Its session.
    pub session: Session,
    /// Its items (their revisions are 1).
    pub items: Vec<Item>,
}

impl NewGuest {
    /// Whether the two rows have nothing but what every new guest has: ids, client, kind of session, times and data. The
    /// engines write those that arrive together in one statement.
    pub fn is_plain(&self) -> bool {
        let Self { user, session, items } = self;
        user.kind == Kind::Anonymous
            && user.version == 1
            && user.epoch == 0
            && user.updated_at == user.created_at
            && user.server_data.is_none()
            && user.chosen_id.is_none()
            && user.chosen_by.is_none()
            && session.active_at == session.created_at
            && session.generation == 0
            && session.rotated_at.is_none()
            && session.late_generation.is_none()
            && session.ended_at.is_none()
            && !session.has_denied_tokens
            && session.metadata.is_none()
            && session.parent.is_none()
            && session.key.is_none()
            && !session.bound
            && !user.held
            && user.converted_at.is_none()
            && user.merged_into.is_none()
            && !user.frozen
            && items.is_empty()
    }

    /// The session as it is added to a user that another session of the same chosen id stored first: what came with it
    /// as `data` is its own metadata.
    #[must_use]
    pub fn further_session(&self) -> Session {
        let metadata = self.session.metadata.clone().or_else(|| Some(self.user.data.clone()));
        Session { metadata, ..self.session.clone() }
    }
}

/// Everything that a decision about one token needs, read in one call.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The user's row.
    pub user: Option<User>,
    /// Sessions of the user, the asked one among them if it exists; at most some hundred.
    pub sessions: Vec<Session>,
    /// Marks under the user's key. Read whenever they can matter: no user, no such session, or denied tokens.
    pub marks: Vec<Mark>,
}

impl Standing {
    /// The session that was asked for.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().find(|s| s.id == id)
    }

    /// Whether `id` is marked at `now`.
    pub fn marked(&self, id: &[u8; 16], now: Timestamp) -> bool {
        self.marks.iter().any(|m| &m.id == id && m.ends_at > now)
    }
}

/// What a look-up row is for; its number is part of the row's key, so that no kind passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookUpKind {
    /// The `Idempotency-Key` of a creation.
    Creation,
    /// A client assertion's `jti`, spent.
    Assertion,
    /// A device key.
    DeviceKey,
    /// A hand-off code.
    HandOff,
    /// A recovery code.
    Recovery,
    /// An identifier: its normal form.
    Identifier,
}

impl LookUpKind {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Creation => 1,
            Self::Assertion => 2,
            Self::DeviceKey => 3,
            Self::HandOff => 4,
            Self::Recovery => 5,
            Self::Identifier => 6,
        }
    }
}

/// One row of the look-up table (tenant, kind, hash) → user. Its key is the only uniqueness: the loser of a race reads
/// the winner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// What it is for.
    pub kind: LookUpKind,
    /// The keyed hash of the value.
    pub hash: [u8; 32],
    /// The user found by it (all zero where there is none).
    pub user: UserId,
    /// The session found by it (all zero where there is none).
    pub session: SessionId,
    /// Hash of the request that came with it: another request with the same key is refused.
    pub body: [u8; 32],
    /// From here on the row is dead, and swept.
    pub ends_at: Timestamp,
}

/// What a signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// Signs the tenant's own tokens.
    Tokens,
    /// Signs what callers have signed; never taken for a token of ours.
    Vend,
}

impl KeyPurpose {
    /// The number that stores keep.
    pub fn number(self) -> i16 {
        match self {
            Self::Tokens => 0,
            Self::Vend => 1,
        }
    }

    /// From the number that stores keep.
    pub fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Tokens),
            1 => Some(Self::Vend),
            _ => None,
        }
    }
}

/// A signing key at rest. The key of its row is (tenant, purpose, algorithm, name, generation), so that two processes
/// that rotate at once make one successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Whose it is.
    pub tenant: TenantNo,
    /// What for.
    pub purpose: KeyPurpose,
    /// `ES256`, `EdDSA` or `RS256`, fixed for ever.
    pub algorithm: Box<str>,
    /// The name that the configuration gave a key for vending; empty for token keys.
    pub name: Box<str>,
    /// Counts from 0.
    pub generation: i32,
    /// The `kid`, unique over all tenants.
    pub kid: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it signs; published before.
    pub activates_at: Timestamp,
    /// PKCS#8 under the master key.
    pub sealed: Vec<u8>,
}
