//! The shapes of the wire of accounts for its description; a test holds real answers against these.

use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::schema::{GuestAnswer, ProblemDetails, Session, SessionType, User};

/// What somebody is known by.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum IdentifierKind {
    Email,
    Phone,
    Username,
    ExternalId,
}

/// An identifier that is to be claimed: one of the three.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ClaimRequest {
    #[schema(examples("ada@example.com"))]
    email: Option<String>,
    /// With `+` and the country's number; without them where the tenant has a region.
    #[schema(examples("+4915112345678"))]
    phone: Option<String>,
    username: Option<String>,
    /// Where the link's page leads afterwards: one of the client's redirect targets, to the letter.
    redirect_uri: Option<String>,
}

/// A claim on an identifier.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Claim {
    id: String,
    kind: IdentifierKind,
    /// As it was typed.
    value: String,
    #[schema(format = DateTime)]
    expires_at: String,
    /// Two digits that the link's page shows too.
    check: String,
}

/// A claim that was made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct ClaimAnswer {
    claim: Claim,
}

/// A claim in the list.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct OpenClaim {
    id: String,
    kind: IdentifierKind,
    /// As it was typed.
    value: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
    /// Two digits that the link's page shows too.
    check: String,
    /// A person confirmed the link: it can be verified without the code.
    proven: bool,
}

/// An identifier of a user.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Identifier {
    id: String,
    kind: IdentifierKind,
    /// As it was typed.
    value: String,
    /// Since when it is the user's.
    #[schema(format = DateTime)]
    verified_at: String,
}

/// What one signs in with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Identifiers {
    /// Oldest first.
    items: Vec<Identifier>,
    /// Newest first.
    claims: Vec<OpenClaim>,
    /// There is a password.
    password: bool,
    cursor: Option<String>,
}

/// An identifier, or a claim on one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum IdentifierOrClaim {
    Identifier(Identifier),
    Claim(OpenClaim),
}

/// How a claim is proven.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Proof {
    /// The six digits; left out where the link was confirmed, and for a user name.
    #[schema(examples("123456"))]
    code: Option<String>,
    /// The password that the account gets; a user name needs one.
    password: Option<String>,
    /// What the answer carries; absent: as the caller's session.
    session_type: Option<SessionType>,
    /// Bind the tokens to the key of the DPoP proof.
    bind_tokens: Option<bool>,
    /// The API that the access token is for.
    audience: Option<String>,
    /// The same as `audience` (RFC 8707).
    resource: Option<String>,
    scope: Option<String>,
}

/// What came of it.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum Verified {
    Converted(Box<Converted>),
    Added(Box<Added>),
    MergeRequired(Box<MergeRequired>),
    SignInRequired(SignInRequired),
}

/// The guest is a regular user: the same id, the same data, a new session.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Converted {
    /// `converted`.
    outcome: String,
    #[schema(inline)]
    #[serde(flatten)]
    signed_in: SignedIn,
}

/// A regular user has one more identifier.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Added {
    /// `added`.
    outcome: String,
    user: User,
    identifier: Identifier,
}

/// The address has an account, which was signed in to by this proof.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct MergeRequired {
    /// `merge_required`.
    outcome: String,
    /// For `POST /v1/me/merge`; of no use without the guest's or the account's own session.
    merge_ticket: String,
    preview: Preview,
    /// Seconds that the ticket lives.
    expires_in: u64,
}

/// The address has an account, and this proof does not sign in to it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct SignInRequired {
    /// `sign_in_required`.
    outcome: String,
}

/// A user with its session and, unless the session is a cookie's, its tokens.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct SignedIn {
    user: User,
    session: Session,
    access_token: Option<String>,
    /// `Bearer`; `DPoP` where the tokens are bound to a key.
    token_type: Option<String>,
    /// Seconds that the access token lives.
    expires_in: Option<u64>,
    /// For `POST /v1/refresh`.
    refresh_token: Option<String>,
    session_token: Option<String>,
    /// The scopes granted, when some were.
    scope: Option<String>,
}

/// A sign-in, or one step of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct SignInRequest {
    /// The application; may be missing where HTTP Basic or an assertion names it.
    #[schema(examples("demo-spa"))]
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion: Option<String>,
    client_assertion_type: Option<String>,
    method: Method,
    /// One of `email`, `phone` and `username`; left out beside `claim`.
    email: Option<String>,
    phone: Option<String>,
    username: Option<String>,
    /// Of `method: password`.
    password: Option<String>,
    /// From the first answer of `code` and `link`.
    claim: Option<String>,
    /// The six digits; left out once the link was confirmed.
    code: Option<String>,
    /// Where the link's page leads afterwards: one of the client's redirect targets, to the letter.
    redirect_uri: Option<String>,
    /// The guest whose things may come along, where neither `Authorization` nor the cookie names it.
    session_token: Option<String>,
    /// What the answer carries. Default: `tokens`.
    session_type: Option<SessionType>,
    /// Names the device and its key.
    #[schema(max_length = 64)]
    device: Option<String>,
    /// Bind the tokens to the key of the DPoP proof.
    bind_tokens: Option<bool>,
    /// That key's proof, where the header's is of the key to which the guest's token is bound.
    proof: Option<String>,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
}

/// How one signs in.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum Method {
    Password,
    Code,
    Link,
}

/// The account; with a merge ticket where a guest was presented.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct SignInAnswer {
    #[schema(inline)]
    #[serde(flatten)]
    signed_in: SignedIn,
    /// For `POST /v1/me/merge`.
    merge_ticket: Option<String>,
    preview: Option<Preview>,
    /// Seconds that the ticket lives.
    ticket_expires_in: Option<u64>,
}

/// A new password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PasswordChange {
    /// Left out where there was none: then the sign-in must be younger than ten minutes.
    current_password: Option<String>,
    password: String,
    /// What the answer carries; absent: as the caller's session.
    session_type: Option<SessionType>,
    /// Bind the tokens to the key of the DPoP proof.
    bind_tokens: Option<bool>,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
}

/// Whose password was forgotten.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Forgotten {
    /// The application; may be missing where HTTP Basic or an assertion names it.
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion: Option<String>,
    client_assertion_type: Option<String>,
    /// One of `email`, `phone` and `username`.
    email: Option<String>,
    phone: Option<String>,
    username: Option<String>,
    /// Anything: the message's template and the redirect see it.
    #[schema(value_type = Option<Object>)]
    state: Option<Map<String, Value>>,
    /// Where the page leads afterwards: one of the client's redirect targets, to the letter.
    redirect_uri: Option<String>,
}

/// A password by a link's token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Reset {
    /// The link's.
    token: String,
    password: String,
}

/// A merge that is to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct MergeRequest {
    merge_ticket: String,
    /// Only look.
    #[schema(default = false)]
    dry_run: Option<bool>,
    /// What the answer carries; absent: as the caller's session.
    session_type: Option<SessionType>,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
}

/// One side of a merge.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Side {
    id: String,
    #[schema(value_type = Object)]
    data: Map<String, Value>,
}

/// What became of a place where both had a value.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum Kept {
    Guest,
    Account,
    Both,
}

/// A place where both had a value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Conflict {
    /// A JSON pointer.
    path: String,
    /// The guest's value.
    guest: Value,
    /// The account's value.
    account: Value,
    kept: Kept,
}

/// What a merge would come to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Preview {
    guest: Side,
    account: Side,
    /// The outcome.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    conflicts: Vec<Conflict>,
    /// There are more conflicts than are listed.
    more: bool,
    /// The version of the policies.
    policy: String,
}

/// A preview, or the merge.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum MergeAnswer {
    Preview(Box<PreviewAnswer>),
    Merged(Box<Merged>),
}

/// What a merge would come to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PreviewAnswer {
    preview: Preview,
    /// A newer ticket, where the policies have changed since the one that was shown.
    merge_ticket: Option<String>,
}

/// The policies have changed since the preview: the problem, with what the merge would come to now.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct OutdatedPreview {
    #[schema(inline)]
    #[serde(flatten)]
    problem: ProblemDetails,
    /// Only of `preview_outdated`.
    preview: Option<Preview>,
    /// Only of `preview_outdated`.
    merge_ticket: Option<String>,
}

/// The guest came into the account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Merged {
    /// A JWT that names guest, account and what was merged; signed with the tenant's key.
    receipt: String,
    transfer: Transfer,
    #[schema(inline)]
    #[serde(flatten)]
    signed_in: SignedIn,
}

/// How a merge stands.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) enum TransferState {
    Pending,
    Done,
    Undone,
}

/// A merge that was made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Transfer {
    id: String,
    state: TransferState,
    guest_id: String,
    account_id: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it can be undone; null: not at all.
    #[schema(format = DateTime)]
    undo_until: Option<String>,
    receipt: String,
}

/// A merge that was made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct TransferAnswer {
    transfer: Transfer,
}

/// A place that was written since the merge, and stays as it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Left {
    /// A JSON pointer.
    path: String,
    /// The value before the merge; absent where there was nothing.
    before: Option<Value>,
    /// The value now; absent where there is nothing.
    now: Option<Value>,
}

/// A merge was taken back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Undone {
    transfer: Transfer,
    conflicts: Vec<Left>,
    /// There are more conflicts than are listed.
    more: bool,
    /// Where the account undid it: the guest with a new session.
    guest: Option<GuestAnswer>,
    /// Where an API key did: a hand-off code by which a device gets the guest.
    code: Option<String>,
}

/// An identifier that a back end gives to a user: one of the four.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct NewIdentifier {
    email: Option<String>,
    phone: Option<String>,
    username: Option<String>,
    external_id: Option<String>,
    /// `true`: it is the user's from now on, who is a regular user then; else a claim, which the user proves.
    #[schema(default = false)]
    verified: Option<bool>,
}

/// An identifier of a user that is to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct IdentifierOfNew {
    kind: IdentifierKind,
    value: String,
    /// Its owner was proven to have it.
    #[schema(default = false)]
    verified: Option<bool>,
}

/// A password of a user: one of the two.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PasswordOf {
    password: Option<String>,
    /// Of argon2, bcrypt, PBKDF2 or scrypt, in PHC or modular crypt form.
    password_hash: Option<String>,
}

/// A link by which a user sets a password.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PasswordLinkRequest {
    /// In whose name.
    client_id: String,
    /// Anything: the message's template and the redirect see it.
    #[schema(value_type = Option<Object>)]
    state: Option<Map<String, Value>>,
    /// Where the page leads afterwards: one of the client's redirect targets, to the letter.
    redirect_uri: Option<String>,
    /// Mail it to the user; `false`: the answer has it.
    #[schema(default = false)]
    send: Option<bool>,
}

/// The link.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct PasswordLink {
    /// Absent where it was sent.
    #[schema(format = Uri)]
    url: Option<String>,
    #[schema(format = DateTime)]
    expires_at: String,
}
