//! The shapes of the management API's wire for its description; a test holds real answers against these.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    schema::UserKind,
    schema_account::{Identifier, IdentifierOfNew},
};

/// A user as back ends see it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ManagedUser {
    /// As it is shown everywhere, also in `sub`.
    id: String,
    kind: UserKind,
    /// The half of the profile that the user may write.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    /// Rises with every change of `data` or `server_data`, from 1.
    version: i64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_active_at: String,
    /// When a guest ends if it does not come back.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Always true: what floats in its tokens is not seen here.
    stored: bool,
    /// What a regular user signs in with, oldest first; a guest has no such member.
    identifiers: Option<Vec<Identifier>>,
    /// When the guest became a regular user; null for one that never was a guest. A guest has no such member.
    #[schema(format = DateTime)]
    converted_at: Option<String>,
    /// The id that was asked for, where its guest was merged into this account.
    resolved_from: Option<String>,
    /// The half of the profile that only API keys write; the user sees it in no answer but its export.
    #[schema(value_type = Object)]
    server_data: Map<String, Value>,
    /// Never culled.
    held: bool,
    /// Tokens with a lower one are void.
    epoch: i32,
    /// Where the guest came in.
    entry: Option<String>,
    /// The client that made it; null for one that a back end made.
    client_id: Option<String>,
}

/// A page of users, newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ManagedUsers {
    items: Vec<ManagedUser>,
    /// Where the next page begins; null: there is none.
    cursor: Option<String>,
}

/// A user that is to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct NewUser {
    /// A UUID, or any other printable text; absent: a new id.
    #[schema(max_length = 255)]
    id: Option<String>,
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    #[schema(value_type = Option<Object>)]
    server_data: Option<Map<String, Value>>,
    /// Where the guest came in.
    #[schema(max_length = 64)]
    entry: Option<String>,
    /// Absent: what follows from the rest.
    kind: Option<UserKind>,
    /// What it is known by.
    identifiers: Option<Vec<IdentifierOfNew>>,
    /// In clear.
    password: Option<String>,
    /// Instead of `password`: of argon2, bcrypt, PBKDF2 or scrypt.
    password_hash: Option<String>,
}

/// A merge patch (RFC 7396); no other member is taken.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct UserPatch {
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    #[schema(value_type = Option<Object>)]
    server_data: Option<Map<String, Value>>,
    held: Option<bool>,
}

/// A user's epoch after it was raised.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct EpochFromNowOn {
    /// Tokens with a lower one are void.
    epoch: i32,
}

/// A path with methods, which covers what lies below it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Permission {
    #[schema(examples("/v1/users"))]
    path: String,
    /// `GET` covers `HEAD`.
    methods: Vec<String>,
}

/// An API key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ApiKey {
    #[schema(format = Uuid)]
    id: String,
    /// For people.
    name: String,
    /// The beginning of its text.
    #[schema(examples("pbk_k3rvq2ab"))]
    prefix: String,
    /// `users:read`, `users:write`, `sessions:write`, `keys:read`, `keys:write`, `epochs:read`, `tokens:introspect`. A
    /// key with neither scopes nor permissions may do everything.
    scopes: Option<Vec<String>>,
    permissions: Option<Vec<Permission>>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Written once a minute.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// Until when the text before the last rotation is taken.
    #[schema(format = DateTime)]
    previous_expires_at: Option<String>,
}

/// An API key with its text.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct MadeApiKey {
    #[schema(inline)]
    #[serde(flatten)]
    shown: ApiKey,
    /// The text: shown this once.
    key: String,
}

/// A page of API keys, newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ApiKeys {
    items: Vec<ApiKey>,
    /// Where the next page begins; null: there is none.
    cursor: Option<String>,
}

/// An API key that is to be made; no other member is taken.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct NewApiKey {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Native scopes.
    scopes: Option<Vec<String>>,
    #[schema(max_items = 100)]
    permissions: Option<Vec<Permission>>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// A merge patch (RFC 7396); no other member is taken.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ApiKeyPatch {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    scopes: Option<Vec<String>>,
    permissions: Option<Vec<Permission>>,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// How an API key is rotated.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Rotation {
    /// A span; default `24h`, at most `30d`.
    #[schema(examples("24h"))]
    overlap: Option<String>,
}
