//! What went wrong with a mail, and whether trying again would help.

use std::{fmt, time::Duration};

use lettre::transport::smtp::response::Severity;

/// Longest text of a server that is kept, in characters.
const TOLD: usize = 200;

/// How far a mail came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is no mail that could be sent.
    Message,
    /// Name look-up and connection.
    Connect,
    /// Greeting and `EHLO`.
    Greeting,
    /// `STARTTLS` or the TLS handshake.
    Encryption,
    /// `AUTH`.
    SignIn,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`.
    Data,
    /// The mail itself and the answer to it.
    Content,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Encryption => "encryption",
            Self::SignIn => "sign-in",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Content => "content",
        }
    }
}

/// Why a mail was not accepted. Its text is for logs: it holds no credential and nothing of the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFault {
    stage: Stage,
    code: Option<u16>,
    transient: bool,
    text: Box<str>,
}

impl MailFault {
    pub(super) fn permanent(stage: Stage, text: &str) -> Self {
        Self { stage, code: None, transient: false, text: clean(text) }
    }

    pub(super) fn transient(stage: Stage, text: &str) -> Self {
        Self { stage, code: None, transient: true, text: clean(text) }
    }

    /// An answer of the server itself, where the dialogue is our own.
    pub(super) fn answered(stage: Stage, code: u16, text: &str) -> Self {
        Self { stage, code: Some(code), transient: true, text: clean(text) }
    }

    /// What lettre says. Only a 5xx on this receiver or this mail is for good: whatever is wrong with our name, password
    /// or sender is for the operator to mend, and the mail waits for it.
    pub(super) fn of(stage: Stage, error: &lettre::transport::smtp::Error, hide: impl Fn(&str) -> bool) -> Self {
        let code = error.status().map(u16::from);
        let refused = error.status().is_some_and(|code| code.severity == Severity::PermanentNegativeCompletion);
        let about_us = matches!(code, Some(500 | 502 | 503 | 530 | 534 | 535 | 538));
        let transient = match stage {
            // RFC 5321 section 4.5.3.1.10: 552 here is a mailbox that is full
            Stage::Recipient => !refused || about_us || code == Some(552),
            Stage::Data | Stage::Content => !refused || about_us,
            _ => true,
        };
        let text = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        // a server may say back what it was told
        let text = if stage == Stage::SignIn || hide(&text) { "(not shown)".into() } else { clean(&text) };
        Self { stage, code, transient, text }
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Whether the mail may have been taken all the same: it was on its way, and no answer came.
    pub fn is_uncertain(&self) -> bool {
        self.stage == Stage::Content && self.code.is_none()
    }

    /// How far the mail came.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The server's code, if it answered.
    pub fn code(&self) -> Option<u16> {
        self.code
    }
}

impl fmt::Display for MailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.stage.name())?;
        if let Some(code) = self.code {
            write!(f, "{code} ")?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for MailFault {}

/// One line, bounded: it goes to logs and into a row.
fn clean(text: &str) -> Box<str> {
    let line = |c: char| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c };
    text.chars().map(line).take(TOLD).collect::<String>().trim().into()
}

/// Waits no longer than `limit`.
pub(super) async fn within<T>(limit: Duration, stage: Stage, work: impl Future<Output = T>) -> Result<T, MailFault> {
    let late = |_| MailFault::transient(stage, "the mail server took too long");
    tokio::time::timeout(limit, work).await.map_err(late)
}
