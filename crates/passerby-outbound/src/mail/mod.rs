//! Mail by SMTP (RFC 5321), over lettre's formatter and commands.
//!
//! Connections and their pool are our own: lettre's pool takes a connection back although the future that used it was
//! dropped in the middle of a dialogue (a time-out does that), and the next mail would read the answers meant for the
//! last one. Here a connection is kept only after a dialogue that ended well. Never switch on lettre's feature
//! `tracing`: it logs the dialogue, and with it the password.

mod address;
mod compose;
mod dial;
mod fault;
mod pool;
mod settings;
mod stream;

use std::sync::Arc;

use lettre::transport::smtp::{
    client::AsyncSmtpConnection,
    commands::{Data, Mail, Rcpt},
    extension::{Extension, MailBodyParameter, MailParameter},
};

use self::{
    compose::{Composed, compose},
    dial::Dialer,
    fault::within,
    pool::Pool,
};
pub use self::{
    fault::{MailFault, Stage},
    settings::{Credentials, Security, Sender, SetUpFault, SmtpSettings, Timeouts},
};

/// A mail to one person. There is no way to add headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The address, bare: `somebody@example.com`. At most 254 bytes; the domain may be international.
    pub to: String,
    /// 1 to 255 characters, none of them a control character or line break.
    pub subject: String,
    /// The plain part; at most 256 KiB.
    pub text: String,
    /// The HTML part, if there is one; at most 256 KiB.
    pub html: Option<String>,
    /// What stands before the `@` of `Message-ID`: 1 to 128 letters, digits, `-`, `_`, `.`. The same for each try of
    /// one row of the outbox, so that receivers drop a repeat.
    pub message_id: String,
    /// `Date`, in seconds since 1970-01-01 UTC: when the mail was asked for, not when it is tried.
    pub date: u64,
}

impl std::fmt::Debug for Message {
    /// Without subject and body: they hold codes and links.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}

/// A server has taken the responsibility for the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The code it said, such as 250.
    pub code: u16,
}

/// Sends mail through one server. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Mailer(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    pool: Pool,
    sender: lettre::message::Mailbox,
}

impl Mailer {
    /// Checks the settings; connects to nobody yet.
    pub fn new(settings: SmtpSettings) -> Result<Self, SetUpFault> {
        let sender = settings.check()?;
        let pool = Pool::new(settings.connections, settings.timeouts.command);
        let dialer = Dialer::new(settings)?;
        Ok(Self(Arc::new(Inner { dialer, pool, sender })))
    }

    /// Hands one mail to the server and waits for its answer.
    ///
    /// Waits while as many mails as there are connections are on their way. Dropping the future gives up: then it is not
    /// known whether the mail was taken.
    pub async fn send(&self, message: &Message) -> Result<Accepted, MailFault> {
        let composed = compose(&self.0.sender, message)?;
        let slot = self.0.pool.slot().await;
        let mut connection = match slot.idle().await {
            Some(connection) => connection,
            None => self.0.dialer.dial().await?,
        };
        let code = self.transact(&mut connection, &composed).await?;
        slot.give_back(connection);
        Ok(Accepted { code })
    }

    async fn transact(&self, connection: &mut AsyncSmtpConnection, mail: &Composed) -> Result<u16, MailFault> {
        let times = self.0.dialer.timeouts();
        let told = |stage| move |e| MailFault::of(stage, &e, |text| self.0.dialer.hide(text));
        let mut parameters = Vec::new();
        if mail.international {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(MailFault::permanent(Stage::Recipient, "the mail server knows no international addresses"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let command = connection.command(Mail::new(Some(self.0.sender.email.clone()), parameters));
        within(times.command, Stage::Sender, command).await?.map_err(told(Stage::Sender))?;
        let command = connection.command(Rcpt::new(mail.to.clone(), Vec::new()));
        within(times.command, Stage::Recipient, command).await?.map_err(told(Stage::Recipient))?;
        let answer = within(times.command, Stage::Data, connection.command(Data)).await?;
        let answer = answer.map_err(told(Stage::Data))?;
        if !answer.has_code(354) {
            return Err(MailFault::transient(Stage::Data, "the mail server did not ask for the mail"));
        }
        let answer = within(times.acceptance, Stage::Content, connection.message(&mail.bytes)).await?;
        let answer = answer.map_err(told(Stage::Content))?;
        Ok(u16::from(answer.code()))
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = self.0.dialer.settings();
        f.debug_struct("Mailer").field("host", &settings.host).field("port", &settings.port).finish_non_exhaustive()
    }
}
