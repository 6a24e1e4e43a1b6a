//! The kinds of messages, and the variables that each has.

use std::fmt::Write;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// By mail.
    Email,
    /// As a short message.
    Sms,
}

/// A kind of message. Closed: a `match` over it need not guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
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
    /// Tells that an address, number, name or provider was added or removed.
    IdentifierChanged,
    /// Tells an address for which a password was to be set anew that no account has it.
    AddressTried,
    /// Tells that somebody came back by a recovery code or a hand-off.
    CameBack,
}

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// One line of text.
    Text,
    /// An http or https URL.
    Link,
    /// A whole number.
    Number,
    /// A JSON object that somebody else made: each member may be missing.
    Object,
}

/// A variable of a kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: VariableKind,
    /// Whether it may be missing: then it is to be asked for by `{% if %}` before it is used.
    pub optional: bool,
    /// What it says.
    pub about: &'static str,
}

const fn always(name: &'static str, kind: VariableKind, about: &'static str) -> Variable {
    Variable { name, kind, optional: false, about }
}

const fn maybe(name: &'static str, kind: VariableKind, about: &'static str) -> Variable {
    Variable { name, kind, optional: true, about }
}

use VariableKind::{Link, Number, Object, Text};

const APP_NAME: Variable = always("app_name", Text, "the name of the application");
const APP_URL: Variable = maybe("app_url", Link, "the address of the application");
const TO: Variable = always("to", Text, "the address or number that the message goes to");
const CODE: Variable = always("code", Text, "the code");
const VALID_FOR: Variable = always("valid_for", Text, "how long it can be used, in words: `10 minutes`, `24 hours`");
const VALID_MINUTES: Variable = always("valid_minutes", Number, "the same in whole minutes");
const PURPOSE: Variable =
    always("purpose", Text, "`verify` (the address is to be added), `sign_in`, `reset_password`, or `confirm`");
const LINK: Variable = always("link", Link, "the link");
const AT: Variable = always("at", Text, "when it happened: RFC 3339, UTC");
const DEVICE: Variable = maybe("device", Text, "the device it was done with, as the browser describes itself");

impl Kind {
    /// All kinds.
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

    /// Its name in settings and API: stable, snake_case.
    pub fn name(self) -> &'static str {
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

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// When it is sent, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::CodeByEmail => {
                "A code by mail, to prove an address or to sign in; a link beside it where there is one."
            }
            Self::LinkByEmail => "A link by mail, to prove an address or to sign in.",
            Self::CodeBySms => "A code as a short message, to prove a number or to sign in.",
            Self::SetPassword => "A link by which a password is set or set anew.",
            Self::PasswordChanged => "Tells that the password was changed.",
            Self::IdentifierChanged => "Tells that an address, number, name or provider was added or removed.",
            Self::AddressTried => "Tells an address for which a password was to be set anew that no account has it.",
            Self::CameBack => "Tells that somebody came back by a recovery code or from another device.",
        }
    }

    /// How it travels.
    pub fn channel(self) -> Channel {
        match self {
            Self::CodeBySms => Channel::Sms,
            _ => Channel::Email,
        }
    }

    /// What must be in text and HTML, since the message is sent for it.
    pub fn purpose(self) -> Option<&'static str> {
        match self {
            Self::CodeByEmail | Self::CodeBySms => Some("code"),
            Self::LinkByEmail | Self::SetPassword => Some("link"),
            _ => None,
        }
    }

    /// Its variables; there are no others.
    pub fn variables(self) -> &'static [Variable] {
        const WITH_CODE: Variable = maybe("link", Link, "a link that does the same as the code");
        const SMS_CODE: &[Variable] = &[APP_NAME, APP_URL, TO, CODE, VALID_FOR, VALID_MINUTES, PURPOSE];
        const STATE: Variable = always("state", Object, "what the application gave along, an object of its own making");
        const IDENTIFIER: Variable = always("identifier", Text, "the address, number or name");
        const IDENTIFIER_KIND: Variable = always("identifier_kind", Text, "`email`, `phone`, `username`, …");
        const CHANGE: Variable = always("change", Text, "`added` or `removed`");
        const METHOD: Variable = always("method", Text, "`recovery_code` or `hand_off`");
        match self {
            Self::CodeByEmail => &[APP_NAME, APP_URL, TO, CODE, WITH_CODE, VALID_FOR, VALID_MINUTES, PURPOSE],
            Self::LinkByEmail => &[APP_NAME, APP_URL, TO, LINK, VALID_FOR, VALID_MINUTES, PURPOSE],
            Self::CodeBySms => SMS_CODE,
            Self::SetPassword => &[APP_NAME, APP_URL, TO, LINK, VALID_FOR, VALID_MINUTES, STATE],
            Self::PasswordChanged | Self::AddressTried => &[APP_NAME, APP_URL, TO, AT, DEVICE],
            Self::IdentifierChanged => &[APP_NAME, APP_URL, TO, IDENTIFIER, IDENTIFIER_KIND, CHANGE, AT, DEVICE],
            Self::CameBack => &[APP_NAME, APP_URL, TO, METHOD, AT, DEVICE],
        }
    }
}

/// The documentation of all kinds and variables: a heading and a table for each kind, in Markdown.
pub fn variables_as_markdown() -> String {
    let mut page = String::new();
    for kind in Kind::ALL {
        // writing to a String cannot fail
        let _ = write!(
            page,
            "### `{}`\n\n{}\n\n| variable | holds | says |\n| --- | --- | --- |\n",
            kind.name(),
            kind.about()
        );
        for variable in kind.variables() {
            let holds = match variable.kind {
                Text => "text",
                Link => "link",
                Number => "number",
                Object => "object",
            };
            let optional = if variable.optional { ", may be missing" } else { "" };
            let _ = writeln!(page, "| `{}` | {holds}{optional} | {} |", variable.name, variable.about);
        }
        page.push('\n');
    }
    page
}
