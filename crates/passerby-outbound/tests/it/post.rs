//! A mail server: says what RFC 5321 has it say, and makes trouble where it is told to.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use passerby_outbound::mail::{Credentials, Mailer, Security, Sender, SmtpSettings, Timeouts};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::certificate;

/// Where in the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Greeting,
    Hello,
    StartTls,
    Handshake,
    Auth,
    Mail,
    Rcpt,
    Data,
    Content,
    Reset,
}

/// What goes wrong there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// This is said instead.
    Say(&'static str),
    /// Nothing more is said.
    Hang,
    /// The connection is closed; within the mail after its first line.
    Close,
    /// The mail is taken, and the connection closed without a word.
    TakeAndClose,
}

#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) raw: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) arrived: Mutex<Vec<Arrived>>,
    /// What was said to the server unencrypted.
    pub(crate) open: Mutex<Vec<String>>,
    pub(crate) connections: AtomicUsize,
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
    /// Trouble still to come, each once.
    trouble: Mutex<Vec<(Step, What)>>,
}

#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) port: u16,
    pub(crate) state: Arc<State>,
    pub(crate) authority: Vec<u8>,
    manner: Manner,
}

#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) security: Security,
    pub(crate) offers_tls: bool,
    pub(crate) password: Option<(&'static str, &'static str)>,
    pub(crate) international: bool,
    /// Name in the certificate.
    pub(crate) name: &'static str,
}

impl Manner {
    pub(crate) fn of(security: Security) -> Self {
        Self { security, offers_tls: true, password: None, international: false, name: "localhost" }
    }
}

impl Post {
    pub(crate) async fn open(manner: Manner, trouble: &[(Step, What)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (authority, tls) = certificate(manner.name);
        let state = Arc::new(State { trouble: Mutex::new(trouble.to_vec()), ..State::default() });
        let post = Self { port: listener.local_addr().unwrap().port(), state, authority, manner };
        let this = post.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&this.state), tls.clone());
                tokio::spawn(async move {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
                    state.most.fetch_max(now, Ordering::SeqCst);
                    Talk { state: &state, manner, tls, encrypted: false }.talk(tcp).await;
                    state.now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        post
    }

    pub(crate) fn settings(&self) -> SmtpSettings {
        let credentials =
            self.manner.password.map(|(user, password)| Credentials { user: user.into(), password: password.into() });
        SmtpSettings {
            host: "localhost".to_owned(),
            port: self.port,
            security: self.manner.security,
            credentials,
            from: Sender { name: Some("Shop".to_owned()), address: "no-reply@shop.example".to_owned() },
            hello: "passerby.shop.example".to_owned(),
            authorities: Some(self.authority.clone()),
            timeouts: Timeouts::default(),
            connections: 4,
        }
    }

    pub(crate) fn mailer(&self) -> Mailer {
        Mailer::new(self.settings()).unwrap()
    }

    /// One that loses patience soon, but not while a busy machine is slow: for tests in which the server says nothing
    /// more.
    pub(crate) fn impatient(&self) -> Mailer {
        let soon = Duration::from_secs(3);
        let timeouts = Timeouts { connect: soon, command: soon, acceptance: soon };
        Mailer::new(SmtpSettings { timeouts, ..self.settings() }).unwrap()
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.state.arrived.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

struct Talk<'a> {
    state: &'a State,
    manner: Manner,
    tls: TlsAcceptor,
    encrypted: bool,
}

/// The dialogue is over.
struct Over;

impl Talk<'_> {
    fn trouble(&self, step: Step) -> Option<What> {
        let mut trouble = self.state.trouble.lock().unwrap();
        let at = trouble.iter().position(|(at, _)| *at == step)?;
        Some(trouble.remove(at).1)
    }

    async fn talk(mut self, tcp: TcpStream) {
        // every way out is the end of the connection
        let _ = self.dialogue(tcp).await;
    }

    async fn dialogue(&mut self, tcp: TcpStream) -> Result<(), Over> {
        let mut stream: Box<dyn Duplex> = Box::new(tcp);
        if self.manner.security == Security::Tls {
            stream = self.encrypt(stream).await?;
        }
        self.say(&mut stream, Step::Greeting, "220 mx.example ready\r\n").await?;
        let (mut from, mut to) = (String::new(), String::new());
        loop {
            let line = self.line(&mut stream).await?;
            let upper = line.to_ascii_uppercase();
            match upper.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => self.hello(&mut stream).await?,
                "STARTTLS" => {
                    self.say(&mut stream, Step::StartTls, "220 go ahead\r\n").await?;
                    stream = self.encrypt(stream).await?;
                }
                "AUTH" => {
                    let good = self
                        .manner
                        .password
                        .is_some_and(|(user, password)| line == format!("AUTH PLAIN {}", plain(user, password)));
                    let answer = if good { "235 welcome\r\n".to_owned() } else { format!("535 no: {line}\r\n") };
                    self.say(&mut stream, Step::Auth, &answer).await?;
                }
                "MAIL" => {
                    line.clone_into(&mut from);
                    self.say(&mut stream, Step::Mail, "250 ok\r\n").await?;
                }
                "RCPT" => {
                    line.clone_into(&mut to);
                    self.say(&mut stream, Step::Rcpt, "250 ok\r\n").await?;
                }
                "DATA" => {
                    self.say(&mut stream, Step::Data, "354 go on\r\n").await?;
                    self.content(&mut stream, &from, &to).await?;
                }
                "RSET" => self.say(&mut stream, Step::Reset, "250 ok\r\n").await?,
                "QUIT" => {
                    let _ = stream.write_all(b"221 bye\r\n").await;
                    return Err(Over);
                }
                _ => self.put(&mut stream, "502 what?\r\n").await?,
            }
        }
    }

    async fn hello(&self, stream: &mut Box<dyn Duplex>) -> Result<(), Over> {
        let mut offers = vec!["mx.example", "PIPELINING"];
        if self.manner.security == Security::StartTls && self.manner.offers_tls && !self.encrypted {
            offers.push("STARTTLS");
        }
        if self.manner.password.is_some() && (self.encrypted || !self.manner.offers_tls) {
            offers.push("AUTH PLAIN LOGIN");
        }
        if self.manner.international {
            offers.extend(["SMTPUTF8", "8BITMIME"]);
        }
        let last = offers.len() - 1;
        let lines =
            offers.iter().enumerate().map(|(i, offer)| format!("250{}{offer}\r\n", if i == last { ' ' } else { '-' }));
        self.say(stream, Step::Hello, &lines.collect::<String>()).await
    }

    async fn encrypt(&mut self, stream: Box<dyn Duplex>) -> Result<Box<dyn Duplex>, Over> {
        if let Some(What::Hang) = self.trouble(Step::Handshake) {
            std::future::pending::<()>().await;
        }
        let stream = self.tls.accept(stream).await.map_err(|_| Over)?;
        self.encrypted = true;
        Ok(Box::new(stream))
    }

    async fn content(&self, stream: &mut Box<dyn Duplex>, from: &str, to: &str) -> Result<(), Over> {
        let trouble = self.trouble(Step::Content);
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n.\r\n") {
            raw.push(stream.read_u8().await.map_err(|_| Over)?);
            if raw.ends_with(b"\r\n") && matches!(trouble, Some(What::Close)) {
                return Err(Over);
            }
        }
        match trouble {
            Some(What::Say(answer)) => return self.put(stream, answer).await,
            Some(What::Hang) => std::future::pending::<()>().await,
            _ => {}
        }
        raw.truncate(raw.len() - 3);
        let mut text = String::from_utf8(raw).unwrap().replace("\r\n..", "\r\n.");
        if text.starts_with("..") {
            text.remove(0);
        }
        let arrived = Arrived { from: from.to_owned(), to: to.to_owned(), raw: text.into_bytes() };
        self.state.arrived.lock().unwrap().push(arrived);
        if matches!(trouble, Some(What::TakeAndClose)) {
            return Err(Over);
        }
        self.put(stream, "250 taken\r\n").await
    }

    async fn line(&self, stream: &mut Box<dyn Duplex>) -> Result<String, Over> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.map_err(|_| Over)?);
        }
        let line = String::from_utf8(line).unwrap().trim_end().to_owned();
        if !self.encrypted {
            self.state.open.lock().unwrap().push(line.clone());
        }
        Ok(line)
    }

    async fn say(&self, stream: &mut Box<dyn Duplex>, step: Step, answer: &str) -> Result<(), Over> {
        match self.trouble(step) {
            None => self.put(stream, answer).await,
            Some(What::Say(other)) => {
                self.put(stream, other).await?;
                // an answer that ends the dialogue, as 421 does; others leave it to the client
                if other.starts_with("421") { Err(Over) } else { Ok(()) }
            }
            Some(What::Hang) => std::future::pending().await,
            Some(What::Close | What::TakeAndClose) => Err(Over),
        }
    }

    async fn put(&self, stream: &mut Box<dyn Duplex>, text: &str) -> Result<(), Over> {
        stream.write_all(text.as_bytes()).await.map_err(|_| Over)?;
        stream.flush().await.map_err(|_| Over)
    }
}

/// The one argument of `AUTH PLAIN` (RFC 4616).
pub(crate) fn plain(user: &str, password: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"))
}
