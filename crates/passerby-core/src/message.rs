//! Messages to people: what they say, before a template gives them words. They travel through the outbox, sealed: they
//! hold codes and links.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Timestamp, model::Target};

/// The kinds of messages; each has a template that an operator may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// A code by mail, with a link beside it where there is one.
    CodeByEmail,
    /// A link by mail.
    LinkByEmail,
    /// A code as a short message.
    CodeBySms,
    /// A link by which a password is set or set anew.
    SetPassword,
    /// Tells that the password was changed.
    PasswordChanged,
    /// Tells that an identifier was added or removed.
    IdentifierChanged,
    /// Tells an address for which a password was to be set anew that no account has it.
    AddressTried,
    /// Tells that somebody came back by a recovery code or a hand-off.
    CameBack,
}

impl MessageKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::CodeByEmail,
        Self::LinkByEmail,
        Self::CodeBySms,
        Self::SetPassword,
        Self::PasswordChanged,
        Self::IdentifierChanged,
        Self::AddressTried,
        Self::CameBack,
    ];

    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CodeByEmail => "code_by_email",
            Self::LinkByEmail => "link_by_email",
            Self::CodeBySms => "code_by_sms",
            Self::SetPassword => "set_password",
            Self::PasswordChanged => "password_changed",
            Self::IdentifierChanged => "identifier_changed",
            Self::AddressTried => "address_tried",
            Self::CameBack => "came_back",
        }
    }

    /// From the word of the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What a code or link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The address or number is to be added.
    Verify,
    /// Signing in.
    SignIn,
    /// Setting a password anew.
    ResetPassword,
}

/// One message. Which members it has follows from its kind.
#[derive(Clone, Serialize, Deserialize)]
pub struct Message {
    /// Its kind.
    pub kind: MessageKind,
    /// The address or number.
    pub to: Box<str>,
    /// The name of the application.
    pub app_name: Box<str>,
    /// Its address.
    pub app_url: Option<Box<str>>,
    /// Whom a mail comes from; `None`: as it was set for the whole server.
    pub from: Option<Box<str>>,
    /// A code.
    pub code: Option<Box<str>>,
    /// A link.
    pub link: Option<Box<str>>,
    /// Code and link live so long, in seconds.
    pub valid_seconds: Option<u64>,
    /// What they are for.
    pub purpose: Option<Purpose>,
    /// What the application gave along: a JSON object.
    pub state: Option<Box<RawValue>>,
    /// When it happened: milliseconds since 1970.
    pub at: Option<i64>,
    /// With which device, as it was named.
    pub device: Option<Box<str>>,
    /// An identifier that changed, and its kind.
    pub identifier: Option<(Box<str>, Box<str>)>,
    /// It was removed.
    #[serde(default)]
    pub removed: bool,
    /// By a recovery code, else by hand-off.
    #[serde(default)]
    pub by_recovery: bool,
}

impl Message {
    /// How it travels.
    pub fn target(&self) -> Target {
        match self.kind {
            MessageKind::CodeBySms => Target::Sms,
            _ => Target::Mail,
        }
    }
}

/// A message on its way.
pub struct Parcel {
    /// Its id, the same at every try: receivers tell repeats by it. A UUID.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// What it says.
    pub message: Message,
    /// The operator's template of its kind.
    pub template: Option<Wording>,
}

/// A template, or what became of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wording {
    /// The subject; empty for short messages.
    pub subject: Box<str>,
    /// The plain text.
    pub text: Box<str>,
    /// The HTML beside it.
    pub html: Option<Box<str>>,
}

/// A message in words. It holds codes and links: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered(pub Wording);

/// What came of a try to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Done,
    /// Not now: why, without anything of the message, and how long the other side asks us to wait at least.
    Later(String, Option<Duration>),
    /// Never: why.
    Never(String),
}

opaque_debug!(Message, Parcel, Rendered);
