//! What templates, the event log and the outbox look like on the wire, for the description alone.

use utoipa::ToSchema;

/// A template of a kind of message.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Template {
    /// `code_by_email`, `link_by_email`, `code_by_sms`, `set_password`, `password_changed`, `identifier_changed`,
    /// `address_tried` or `came_back`.
    #[schema(examples("code_by_email"))]
    kind: String,
    /// You wrote it; else it is the one that comes with the server.
    custom: bool,
    /// Counts your changes; 0 of one that comes with the server.
    version: i64,
    #[schema(inline)]
    #[serde(flatten)]
    wording: Wording,
}

/// All templates.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Templates {
    items: Vec<Template>,
    /// Always null: there are few.
    cursor: Option<String>,
}

/// A template, or a message in words; no other member is taken.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Wording {
    /// Empty, or absent, for short messages.
    #[schema(examples("{{ code }} is your code for {{ app_name }}"))]
    subject: Option<String>,
    /// The plain text.
    #[schema(max_length = 65536)]
    text: String,
    /// The HTML beside it; none for short messages.
    html: Option<String>,
}

/// An event of the log.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Event {
    #[schema(format = Uuid)]
    id: String,
    #[schema(examples("guest.converted"))]
    name: String,
    /// Whose it is.
    user_id: String,
    #[schema(format = DateTime)]
    at: String,
    /// Grows with each event and message of the user.
    number: i64,
    /// What it says.
    data: serde_json::Value,
}

/// A page of events, the newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct Events {
    items: Vec<Event>,
    /// Where the next page begins; null: there is none.
    cursor: Option<String>,
}

/// What could not be delivered. It says no address.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct DeadLetter {
    #[schema(format = Uuid)]
    id: String,
    /// `message.mail`, `message.sms`, or what the server was to do later.
    name: String,
    /// The kind of message; null when it is none, or says nothing any more.
    kind: Option<String>,
    /// Whose it is; of a message to an address without an account, an id that stands for the address.
    user_id: String,
    #[schema(format = DateTime)]
    at: String,
    /// How often it was tried.
    tries: i32,
    /// Whether it can be sent again.
    replayable: bool,
}

/// A page of dead letters, the newest first.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the wire")]
pub(crate) struct DeadLetters {
    items: Vec<DeadLetter>,
    /// Where the next page begins; null: there is none.
    cursor: Option<String>,
}
