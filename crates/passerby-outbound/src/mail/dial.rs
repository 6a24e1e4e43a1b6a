//! Making a connection: open, encrypted, or encrypted by `STARTTLS`, then signed in.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use lettre::transport::smtp::{
    authentication::{self, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, AsyncTokioStream},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    fault::{MailFault, Stage, within},
    settings::{Credentials, Security, SetUpFault, SmtpSettings, Timeouts},
    stream::Encrypted,
};
use crate::tls;

/// Longest answer before the encryption, in bytes.
const ANSWER: usize = 16 * 1024;

pub(super) struct Dialer {
    settings: SmtpSettings,
    name: ServerName<'static>,
    tls: Option<TlsConnector>,
    credentials: Option<authentication::Credentials>,
    /// The password in the spellings in which it went out: no text that holds one is shown.
    hidden: Vec<String>,
}

impl Dialer {
    pub(super) fn new(settings: SmtpSettings) -> Result<Self, SetUpFault> {
        let name = ServerName::try_from(settings.host.clone()).map_err(|_| SetUpFault::Host)?;
        let tls = match settings.security {
            Security::Plain => None,
            Security::StartTls | Security::Tls => {
                Some(TlsConnector::from(Arc::new(tls::config(settings.authorities.as_deref())?)))
            }
        };
        let credentials =
            settings.credentials.as_ref().map(|c| authentication::Credentials::new(c.user.clone(), c.password.clone()));
        let hidden = settings.credentials.iter().flat_map(|Credentials { user, password }| {
            let login = STANDARD.encode(password);
            [password.clone(), login, STANDARD.encode(format!("\0{user}\0{password}"))]
        });
        Ok(Self { hidden: hidden.collect(), settings, name, tls, credentials })
    }

    pub(super) fn settings(&self) -> &SmtpSettings {
        &self.settings
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.settings.timeouts
    }

    /// Whether a server's text must not be shown since it says our password.
    pub(super) fn hide(&self, text: &str) -> bool {
        self.hidden.iter().any(|hidden| text.contains(hidden))
    }

    /// A connection that is ready for mail.
    pub(super) async fn dial(&self) -> Result<AsyncSmtpConnection, MailFault> {
        let times = self.timeouts();
        let broken = |stage| move |e: std::io::Error| MailFault::transient(stage, &e.to_string());
        let tcp = TcpStream::connect((self.settings.host.as_str(), self.settings.port));
        let tcp = within(times.connect, Stage::Connect, tcp).await?.map_err(broken(Stage::Connect))?;
        tcp.set_nodelay(true).map_err(broken(Stage::Connect))?;
        let stream: Box<dyn AsyncTokioStream> = match (&self.tls, self.settings.security) {
            (Some(tls), Security::Tls) => Box::new(Encrypted::new(self.encrypt(tls, tcp).await?)),
            (Some(tls), _) => {
                let tcp = self.start_tls(tcp).await?;
                Box::new(Encrypted::greeted(self.encrypt(tls, tcp).await?))
            }
            (None, _) => Box::new(tcp),
        };
        let hello = self.settings.client_id();
        let greeted = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let greeted = within(times.connect, Stage::Greeting, greeted).await?;
        let mut connection = greeted.map_err(|e| MailFault::of(Stage::Greeting, &e, |text| self.hide(text)))?;
        if let Some(credentials) = &self.credentials {
            let answer = connection.auth(DEFAULT_MECHANISMS, credentials);
            let answer = within(times.command, Stage::SignIn, answer).await?;
            let answer = answer.map_err(|e| MailFault::of(Stage::SignIn, &e, |_| true))?;
            if !answer.has_code(235) {
                return Err(MailFault::transient(Stage::SignIn, "the mail server did not say that we are signed in"));
            }
        }
        Ok(connection)
    }

    async fn encrypt(&self, tls: &TlsConnector, tcp: TcpStream) -> Result<TlsStream<TcpStream>, MailFault> {
        let stream = within(self.timeouts().connect, Stage::Encryption, tls.connect(self.name.clone(), tcp)).await?;
        stream.map_err(|e| MailFault::transient(Stage::Encryption, &e.to_string()))
    }

    /// The dialogue before the encryption. It is our own because nothing that came before the handshake may be taken
    /// for an answer after it: whatever follows the server's consent at once was put there by somebody else.
    async fn start_tls(&self, mut tcp: TcpStream) -> Result<TcpStream, MailFault> {
        let times = self.timeouts();
        within(times.connect, Stage::Greeting, answer(&mut tcp, Stage::Greeting, 220)).await??;
        let hello = format!("EHLO {}\r\n", self.settings.client_id());
        let offers = ask(&mut tcp, &hello, Stage::Greeting, 250);
        let offers = within(times.command, Stage::Greeting, offers).await??;
        if !offers.iter().any(|line| line.eq_ignore_ascii_case("STARTTLS")) {
            return Err(MailFault::transient(Stage::Encryption, "the mail server does not offer STARTTLS"));
        }
        let consent = ask(&mut tcp, "STARTTLS\r\n", Stage::Encryption, 220);
        within(times.command, Stage::Encryption, consent).await??;
        Ok(tcp)
    }
}

async fn ask(tcp: &mut TcpStream, line: &str, stage: Stage, wanted: u16) -> Result<Vec<String>, MailFault> {
    tcp.write_all(line.as_bytes()).await.map_err(|e| MailFault::transient(stage, &e.to_string()))?;
    answer(tcp, stage, wanted).await
}

/// Reads one answer (RFC 5321 section 4.2.1) and nothing behind it; gives the texts of its lines.
async fn answer(tcp: &mut TcpStream, stage: Stage, wanted: u16) -> Result<Vec<String>, MailFault> {
    let mut read = Vec::new();
    let lines = loop {
        if let Some(lines) = whole(&read) {
            break lines.ok_or_else(|| MailFault::transient(stage, "the mail server's answer is not one"))?;
        }
        if read.len() > ANSWER {
            return Err(MailFault::transient(stage, "the mail server's answer is too long"));
        }
        match tcp.read_buf(&mut read).await {
            Ok(0) => return Err(MailFault::transient(stage, "the mail server hung up")),
            Ok(_) => {}
            Err(e) => return Err(MailFault::transient(stage, &e.to_string())),
        }
    };
    let (code, texts) = lines;
    if code == wanted { Ok(texts) } else { Err(MailFault::answered(stage, code, &texts.join(" "))) }
}

/// `None`: more is to come. `Some(None)`: it is no answer, or something follows it.
#[expect(clippy::option_option, reason = "not yet, never, and here it is")]
fn whole(read: &[u8]) -> Option<Option<(u16, Vec<String>)>> {
    let mut texts = Vec::new();
    let mut rest = read;
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let (line, next) = rest.split_at(end + 1);
        rest = next;
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\r', '\n']);
        let code = line.get(..3).and_then(|code| code.parse().ok());
        let Some(code) = code else { return Some(None) };
        texts.push(line.get(4..).unwrap_or_default().to_owned());
        match line.as_bytes().get(3) {
            Some(b'-') => {}
            None | Some(b' ') => return Some(rest.is_empty().then_some((code, texts))),
            Some(_) => return Some(None),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        let text = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>();
        assert_eq!(whole(b"220 mx\r\n"), Some(Some((220, text(&["mx"])))));
        assert_eq!(
            whole(b"250-mx\r\n250-SIZE 1\r\n250 STARTTLS\r\n"),
            Some(Some((250, text(&["mx", "SIZE 1", "STARTTLS"]))))
        );
        assert_eq!(whole(b"250\r\n"), Some(Some((250, text(&[""])))));
        for more in [&b""[..], b"2", b"220 mx", b"250-mx\r\n", b"250-mx\r\n250 STAR"] {
            assert_eq!(whole(more), None);
        }
        for wrong in [
            &b"hello\r\n"[..],
            b"2\r\n",
            b"220 go\r\n250 injected\r\n",
            b"220 go\r\n2",
            b"220_go\r\n",
            b"\xff\xff\xff\r\n",
        ] {
            assert_eq!(whole(wrong), Some(None), "{wrong:?}");
        }
    }
}
