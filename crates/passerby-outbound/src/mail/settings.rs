//! How the mail server is reached.

use std::{net::IpAddr, time::Duration};

use lettre::{message::Mailbox, transport::smtp::extension::ClientId};

use super::address::{AddressFault, address, has_controls};
use crate::tls::TlsFault;

/// How the mail server is reached.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Name or address of the server. It is the operator's, so the address filter is not asked.
    pub host: String,
    /// 587 for [`Security::StartTls`], 465 for [`Security::Tls`] as a rule.
    pub port: u16,
    /// How the connection is secured.
    pub security: Security,
    /// How to sign in there, if at all. Refused together with [`Security::Plain`].
    pub credentials: Option<Credentials>,
    /// Who the mail is from.
    pub from: Sender,
    /// What `EHLO` says of us: a domain name, or an address.
    pub hello: String,
    /// PEM: certificates of the authorities that alone may vouch for the server; without, those of the system.
    pub authorities: Option<Vec<u8>>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How many mails are on their way at once, and connections kept; at least one.
    pub connections: usize,
}

/// How the connection is secured. None of them falls back to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Not at all: for development and mail servers of the same machine.
    Plain,
    /// `STARTTLS` (RFC 3207), demanded: a server that does not offer it gets no mail.
    StartTls,
    /// TLS from the first byte (RFC 8314 section 3.3).
    Tls,
}

/// How to sign in at the mail server, by `PLAIN` or `LOGIN`.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Who the mail is from.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The name that people are shown; at most 100 characters.
    pub name: Option<String>,
    /// The address, also of the envelope. ASCII before the `@`.
    pub address: String,
}

/// How long to wait for the mail server; each more than nothing.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, its encryption and the greeting, each.
    pub connect: Duration,
    /// For the answer to a command.
    pub command: Duration,
    /// For the answer to the mail itself. RFC 5321 section 4.5.3.2.6 asks for ten minutes: who gives up earlier may
    /// send a mail twice.
    pub acceptance: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), command: Duration::from_secs(30), acceptance: Duration::from_mins(2) }
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetUpFault {
    /// The host is no name and no address.
    #[error("the host of the mail server is neither a name nor an address")]
    Host,
    /// The name said at `EHLO` is no domain name and no address.
    #[error("the name for EHLO is neither a domain name nor an address")]
    Hello,
    /// The sender's address.
    #[error("the sender's address: {0}")]
    From(#[from] AddressFault),
    /// The sender's name.
    #[error("the sender's name is longer than 100 characters or has control characters")]
    Name,
    /// A password over an open connection.
    #[error("a password is never sent over a connection that is not encrypted")]
    OpenPassword,
    /// User or password.
    #[error("user and password may not be empty or have control characters")]
    Credentials,
    /// A time-out of nothing, or no connection at all.
    #[error("time-outs and the number of connections must be more than zero")]
    Zero,
    /// TLS.
    #[error("{0}")]
    Tls(#[from] TlsFault),
}

impl SmtpSettings {
    pub(super) fn check(&self) -> Result<Mailbox, SetUpFault> {
        let host_ok = |host: &str| host.parse::<IpAddr>().is_ok() || is_domain(host);
        if !host_ok(&self.host) {
            return Err(SetUpFault::Host);
        }
        if !host_ok(&self.hello) {
            return Err(SetUpFault::Hello);
        }
        if let Some(Credentials { user, password }) = &self.credentials {
            if self.security == Security::Plain {
                return Err(SetUpFault::OpenPassword);
            }
            if [user, password].iter().any(|text| text.is_empty() || has_controls(text)) {
                return Err(SetUpFault::Credentials);
            }
        }
        let times = self.timeouts;
        if self.connections == 0 || [times.connect, times.command, times.acceptance].iter().any(Duration::is_zero) {
            return Err(SetUpFault::Zero);
        }
        let email = address(&self.from.address)?;
        if !email.user().is_ascii() {
            return Err(AddressFault::International.into());
        }
        if self.from.name.as_ref().is_some_and(|name| name.chars().count() > 100 || has_controls(name)) {
            return Err(SetUpFault::Name);
        }
        Ok(Mailbox::new(self.from.name.clone(), email))
    }

    pub(super) fn client_id(&self) -> ClientId {
        match self.hello.parse() {
            Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
            Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
            Err(_) => ClientId::Domain(self.hello.clone()),
        }
    }
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}
