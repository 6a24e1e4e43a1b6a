//! The shapes of the native wire for the API's description. Requests are read and answers written elsewhere, by hand
//! where it is hot; a test holds real answers against these.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::schema_account::Identifier;

/// What a creation may say.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct GuestRequest {
    /// The application; may be missing where HTTP Basic or an assertion names it.
    #[schema(examples("demo-spa"))]
    client_id: Option<String>,
    /// A confidential client's secret (or by HTTP Basic).
    client_secret: Option<String>,
    /// A confidential client's signed assertion (RFC 7523).
    client_assertion: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// What the answer carries. Default: `tokens`.
    session_type: Option<SessionType>,
    /// The session to continue with.
    session_token: Option<String>,
    /// The profile's first content.
    #[schema(value_type = Option<Object>)]
    data: Option<Map<String, Value>>,
    /// Store the guest now, or let it float; absent: as the client or tenant is set.
    persist: Option<bool>,
    /// An id that the caller chooses, where the client may.
    #[schema(max_length = 255)]
    user_id: Option<String>,
    /// Where the guest came in; shown to operators.
    #[schema(max_length = 64)]
    entry: Option<String>,
    /// The API that the access token is for.
    audience: Option<String>,
    /// The same as `audience` (RFC 8707).
    resource: Option<String>,
    /// Scopes of that API, separated by spaces.
    scope: Option<String>,
    /// Names the device and its key.
    #[schema(max_length = 64)]
    device: Option<String>,
    /// Bind the tokens to the key of the DPoP proof.
    bind_tokens: Option<bool>,
    /// `false`: only come back. Where the credentials have no guest (any more) that is 409 `guest_ended`, and none is made.
    #[schema(default = true)]
    create: Option<bool>,
}

/// How a session's credential travels.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum SessionType {
    Tokens,
    Cookie,
}

/// A guest with its session and, unless the session is a cookie's, its tokens.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct GuestAnswer {
    /// Made by this call.
    created: bool,
    user: User,
    session: Session,
    /// For the `Authorization` header.
    access_token: Option<String>,
    /// `Bearer`; `DPoP` where the tokens are bound to a key.
    token_type: Option<String>,
    /// Seconds that the access token lives.
    expires_in: Option<u64>,
    /// A stored guest's; for `POST /v1/refresh`.
    refresh_token: Option<String>,
    /// What the session continues with; never given to whoever showed an access token only.
    session_token: Option<String>,
    /// The scopes granted, when some were.
    scope: Option<String>,
}

/// A user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct User {
    /// As it is shown everywhere, also in `sub`.
    id: String,
    kind: UserKind,
    /// The half of the profile that the user may write.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    /// Rises with every change of `data`, from 1.
    version: i64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_active_at: String,
    /// When a guest ends if it does not come back.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Has a row; false while it floats in its tokens.
    stored: bool,
    /// What a regular user signs in with, oldest first; a guest has no such member.
    identifiers: Option<Vec<Identifier>>,
    /// When the guest became a regular user; null for one that never was a guest. A guest has no such member.
    #[schema(format = DateTime)]
    converted_at: Option<String>,
}

/// What a user is.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum UserKind {
    Anonymous,
    Regular,
}

/// A session.
#[derive(ToSchema)]
#[expect(dead_code, clippy::struct_field_names, reason = "describes the wire")]
pub(crate) struct Session {
    #[schema(format = Uuid)]
    id: String,
    client_id: String,
    session_type: SessionType,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_active_at: String,
    /// When it ends if it is not used again.
    #[schema(format = DateTime)]
    idle_expires_at: String,
    /// When it ends at all.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The caller's own.
    current: bool,
}

/// A list of sessions, newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Sessions {
    items: Vec<Session>,
    /// Where the next page begins; null: there is none.
    cursor: Option<String>,
}

/// What a refresh says.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct RefreshBody {
    /// The application; may be missing where HTTP Basic or an assertion names it.
    #[schema(examples("demo-spa"))]
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion: Option<String>,
    client_assertion_type: Option<String>,
    refresh_token: String,
    /// The API that the access token is for.
    audience: Option<String>,
    /// The same as `audience` (RFC 8707).
    resource: Option<String>,
    scope: Option<String>,
}

/// A JSON merge patch (RFC 7396): members replace those of the profile, null removes them.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct MergePatch(Map<String, Value>);

/// A JSON patch (RFC 6902).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct JsonPatch(Vec<JsonPatchOperation>);

/// One operation of a JSON patch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct JsonPatchOperation {
    /// `add`, `remove`, `replace`, `move`, `copy` or `test`.
    op: String,
    /// A JSON pointer.
    path: String,
    /// Of `move` and `copy`: a JSON pointer.
    from: Option<String>,
    value: Option<Value>,
}

/// Operations on the profile, all or nothing.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Operations {
    operations: Vec<Operation>,
}

/// One operation on the profile.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Operation {
    op: OperationName,
    /// A JSON pointer.
    #[schema(examples("/views"))]
    path: String,
    /// Of `increment`.
    by: Option<f64>,
    /// Of all others but `unset`.
    value: Option<Value>,
}

/// What an operation does.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum OperationName {
    Set,
    Unset,
    Increment,
    Min,
    Max,
    AddToSet,
    RemoveFromSet,
    Append,
    Test,
}

/// The profile after a change.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Profile {
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    version: i64,
}

/// Everything that is kept about a user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Export {
    user: User,
    /// The half of the profile that only the application writes.
    #[schema(value_type = Option<Object>)]
    server_data: Option<Map<String, Value>>,
    /// Where the guest came in.
    entry: Option<String>,
    /// The client that made it.
    client_id: String,
    /// Counts what made older tokens void.
    epoch: i32,
    sessions: Vec<ExportedSession>,
    device_keys: Vec<DeviceKey>,
    recovery: Recovery,
    notices: Vec<Notice>,
}

/// A session in an export.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ExportedSession {
    #[schema(format = Uuid)]
    id: String,
    client_id: String,
    session_type: SessionType,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_active_at: String,
    #[schema(format = DateTime)]
    idle_expires_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
    current: bool,
    /// When it was ended by somebody.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Its own metadata; only a further session of a chosen id has one.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A problem (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ProblemDetails {
    #[schema(rename = "type", examples("about:blank"))]
    kind: String,
    title: String,
    status: u16,
    /// For a developer.
    detail: String,
    /// Stable, for a program.
    #[schema(examples("invalid_value"))]
    code: String,
    /// JSON pointer, or name of the parameter or header that is to blame.
    field: Option<String>,
}

/// The process is up.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Health {
    #[schema(examples("ok"))]
    status: String,
}

/// A device key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct DeviceKey {
    /// RFC 7638 with SHA-256, base64url.
    thumbprint: String,
    /// As the device or its owner named it.
    name: Option<String>,
    /// The client that brought it.
    client_id: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When a session that hangs on it was last used, as far as it was written.
    #[schema(format = DateTime)]
    last_used_at: String,
    /// The caller's session hangs on it.
    current: bool,
}

/// Device keys.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct DeviceKeys {
    items: Vec<DeviceKey>,
    cursor: Option<String>,
}

/// A device key to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct NewDeviceKey {
    /// Absent or empty: no name.
    #[schema(max_length = 64)]
    name: Option<String>,
    /// The new key's proof for this request (RFC 9449), where the `DPoP` header carries the proof of the access token's key.
    proof: Option<String>,
}

/// How a device key is to be named.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct DeviceKeyName {
    /// Absent or empty: no name.
    #[schema(max_length = 64)]
    name: Option<String>,
}

/// Something that a user's sessions are told.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Notice {
    id: String,
    /// `device_key.added`, `device_key.removed`, `hand_off.completed`, `hand_off.cancelled`, `recovery_code.made`,
    /// `recovery.started`, `recovery.cancelled`, `recovery.completed`, `sessions.revoked`.
    kind: String,
    #[schema(format = DateTime)]
    at: String,
    /// The device, as it named itself.
    device: Option<String>,
}

/// What a user's sessions are told.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Notices {
    items: Vec<Notice>,
    cursor: Option<String>,
}

/// What becomes of the first device.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum HandOffMode {
    Share,
    Move,
}

/// How a hand-off begins.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct HandOffRequest {
    /// Default: `share`.
    mode: Option<HandOffMode>,
}

/// A code for a second device.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct HandOff {
    /// To be typed; case, hyphen and look-alike letters do not matter.
    #[schema(examples("ABCD-EFGH"))]
    code: String,
    /// To be opened there.
    #[schema(format = Uri)]
    url: String,
    mode: HandOffMode,
    #[schema(format = DateTime)]
    expires_at: String,
    /// The link as a QR code: an SVG text.
    qr: String,
}

/// A device that waits.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct WaitingDevice {
    /// What to confirm.
    id: String,
    device: Option<String>,
    /// Two digits that it shows.
    check: String,
    #[schema(format = DateTime)]
    asked_at: String,
    mode: HandOffMode,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Devices that wait.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct WaitingDevices {
    items: Vec<WaitingDevice>,
    cursor: Option<String>,
}

/// A confirmed hand-off.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Confirmed {
    id: String,
    /// `confirmed`.
    status: String,
}

/// A device that asks to be let in by a code.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Asking {
    /// The application.
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion: Option<String>,
    client_assertion_type: Option<String>,
    /// As it was shown.
    code: String,
    /// From the first answer; a device that shows a DPoP key needs none.
    id: Option<String>,
    /// Names the device.
    #[schema(max_length = 64)]
    device: Option<String>,
    session_type: Option<SessionType>,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
    bind_tokens: Option<bool>,
}

/// Wait for the first device.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Waiting {
    /// To be shown beside the code.
    id: String,
    /// `waiting`.
    status: String,
    /// Two digits, shown on both devices.
    check: String,
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Still waiting, or in.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum WaitingOrGuest {
    Waiting(Waiting),
    Guest(Box<GuestAnswer>),
}

/// A recovery code.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct RecoveryCode {
    /// Twelve words.
    code: String,
}

/// A recovery that waits.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PendingRecovery {
    id: String,
    device: Option<String>,
    #[schema(format = DateTime)]
    asked_at: String,
    #[schema(format = DateTime)]
    ready_at: String,
}

/// How recovery stands.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Recovery {
    /// When the code was made; null without one.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    pending: Option<PendingRecovery>,
}

/// Ask again later.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct WaitingRecovery {
    /// To be shown beside the code.
    id: String,
    /// `waiting`.
    status: String,
    #[schema(format = DateTime)]
    ready_at: String,
}

/// The recovered guest.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct RecoveredGuest {
    #[schema(inline)]
    #[serde(flatten)]
    guest: GuestAnswer,
    /// Takes the place of the used code; shown this once. Left out in an answer that is given again by its
    /// `Idempotency-Key` after the guest has made another code.
    recovery_code: Option<String>,
}
