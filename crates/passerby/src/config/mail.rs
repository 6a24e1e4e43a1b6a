//! `[mail]`, `[sms]` and `[tenants.mail]`: how messages leave, and what they say of the application.

use std::{net::Ipv6Addr, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use passerby_outbound::{
    guard::{Allowance, Guard},
    mail::{Credentials, Mailer, Security, Sender, SetUpFault, SmtpSettings, Timeouts},
};
use url::{Host, Url};

use super::{
    At, Config, Problem, Secret,
    client::path,
    kind,
    read::{Fault, Section},
};

const SERVER: &str = "the mail server, such as \"mail.example.com:587\"";
const FROM: &str = "an address such as \"no-reply@example.com\" or \"Shop <no-reply@example.com>\"";
const SECRET: &str = "\"whsec_\" and the base64 of 24 to 64 random bytes";

/// Mails on their way to the server at once.
const CONNECTIONS: usize = 4;

/// `[mail]`: the server that takes mail.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// Who mail is from, unless a tenant says otherwise.
    pub from: At<Sender>,
    /// The server.
    pub smtp: At<MailServer>,
    /// How the connection is secured.
    pub security: Security,
    /// By which name to sign in there.
    pub username: Option<Box<str>>,
    /// The password, or what was read from its file.
    pub password: Option<At<Secret>>,
    /// The file with the password.
    pub password_file: Option<At<PathBuf>>,
    /// A file with the authorities that alone may vouch for the server.
    pub authorities_file: Option<At<PathBuf>>,
    /// What was read from it (PEM).
    pub authorities: Option<Vec<u8>>,
    /// How long an answer of the server may take.
    pub timeout: Duration,
}

/// Where the mail server is.
#[derive(Debug, Clone, Default)]
pub struct MailServer {
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// `None`: the usual one of its security.
    pub port: Option<u16>,
}

/// `[sms]`: the service that takes short messages.
#[derive(Debug, Clone)]
pub struct SmsSettings {
    /// Where it is called.
    pub url: At<String>,
    /// By which calls are signed: one, or the new one and the old one.
    pub secrets: Vec<At<Secret>>,
    /// A file with the authorities that alone may vouch for it.
    pub authorities_file: Option<At<PathBuf>>,
    /// What was read from it (PEM).
    pub authorities: Option<Vec<u8>>,
}

/// `[tenants.mail]`.
#[derive(Debug, Clone, Default)]
pub struct TenantMailSettings {
    /// What people know the application by; the tenant's name when it is not given.
    pub app_name: Option<Box<str>>,
    /// Where it is.
    pub app_url: Option<At<String>>,
    /// Who its mail is from.
    pub from: Option<At<Sender>>,
}

impl MailSettings {
    /// As the mailer takes it. `from` is the sender, the one of `[mail]` or a tenant's; `hello` what `EHLO` says of us.
    pub fn smtp(&self, from: &Sender, hello: &str) -> SmtpSettings {
        let usual = match self.security {
            Security::Plain => 25,
            Security::StartTls => 587,
            Security::Tls => 465,
        };
        let credentials = self.username.as_ref().zip(self.password.as_ref());
        SmtpSettings {
            host: self.smtp.host.clone(),
            port: self.smtp.port.unwrap_or(usual),
            security: self.security,
            credentials: credentials
                .map(|(user, password)| Credentials { user: user.to_string(), password: password.expose().to_owned() }),
            from: from.clone(),
            hello: hello.to_owned(),
            authorities: self.authorities.clone(),
            timeouts: Timeouts { connect: self.timeout / 3, command: self.timeout, acceptance: self.timeout * 4 },
            connections: CONNECTIONS,
        }
    }
}

impl Config {
    /// What `EHLO` says of us: the host of the issuer.
    pub fn hello(&self) -> String {
        match Url::parse(&self.issuer).as_ref().ok().and_then(Url::host) {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => "localhost".to_owned(),
        }
    }

    /// Which addresses may be called: https to public ones; in development also whatever this machine listens on.
    pub fn guard(&self) -> Guard {
        if !self.dev {
            return Guard::new(Allowance::default());
        }
        let networks = ["127.0.0.0/8", "::1/128"].map(str::parse).into_iter().flatten().collect();
        let plain_http = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        Guard::new(Allowance { networks, plain_http })
    }
}

/// As it stands in a mail's `From`, and is read again by [`sender`].
pub(super) fn written(sender: &Sender) -> String {
    match &sender.name {
        Some(name) => format!("{name} <{}>", sender.address),
        None => sender.address.clone(),
    }
}

/// `Name <address>`, or an address.
///
/// # Errors
/// What is wrong with it, in words.
pub fn sender(text: &str) -> Result<Sender, String> {
    let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (name.trim(), address),
        None => ("", text),
    };
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    let sender = Sender { name: (!name.is_empty()).then(|| name.to_owned()), address: address.to_owned() };
    match probe("localhost", &sender) {
        Ok(()) => Ok(sender),
        Err(fault) => Err(format!("{fault}; expected {FROM}, found {text:?}")),
    }
}

/// Asks the mailer, which has the rules, about a host and a sender; opens nothing.
fn probe(host: &str, from: &Sender) -> Result<(), SetUpFault> {
    let settings = SmtpSettings {
        host: host.to_owned(),
        port: 25,
        security: Security::Plain,
        credentials: None,
        from: from.clone(),
        hello: "localhost".to_owned(),
        authorities: None,
        timeouts: Timeouts::default(),
        connections: 1,
    };
    Mailer::new(settings).map(|_| ())
}

fn server(text: &str) -> Result<MailServer, Fault> {
    let port = |text: &str| match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(port)),
        _ => Err(Fault::Other),
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(Fault::Other)?;
        let host: Ipv6Addr = host.parse().map_err(|_| Fault::Other)?;
        let port = if rest.is_empty() { None } else { port(rest.strip_prefix(':').ok_or(Fault::Other)?)? };
        (host.to_string(), port)
    } else {
        match text.split_once(':') {
            Some((host, rest)) => (host.to_owned(), port(rest)?),
            None => (text.to_owned(), None),
        }
    };
    let nobody = Sender { name: None, address: "nobody@example.com".to_owned() };
    if probe(&host, &nobody).is_err() { Err(Fault::Other) } else { Ok(MailServer { host, port }) }
}

pub(super) fn read(s: &mut Section<'_, '_>) -> MailSettings {
    let from = from(s).map(|from| from.map(Some));
    let smtp = s.parsed("smtp", SERVER, server);
    let words = [("starttls", Security::StartTls), ("tls", Security::Tls), ("none", Security::Plain)];
    let security = s.choice("security", &words);
    let username = s.parsed("username", "a name", |text| {
        if text.is_empty() || text.chars().any(char::is_control) { Err(Fault::Other) } else { Ok(text.into()) }
    });
    let password = s.secret("password", "a password", 1);
    let password_file = s.parsed("password_file", kind::FILE, path);
    let places = [password.as_ref().map(|x| &x.place), password_file.as_ref().map(|x| &x.place)];
    if let [Some(_), Some(file)] = places {
        s.report(file.problem("there is a password already; expected one of password, password_file"));
    }
    if let Some(place) = places.into_iter().flatten().next() {
        if !s.has("username") {
            s.miss("username", "the name that belongs to the password");
        }
        if security.as_ref().is_some_and(|security| security.value == Security::Plain) {
            s.report(place.problem("a password is never sent over a connection that is not encrypted: remove it, or set security to \"starttls\" or \"tls\""));
        }
    } else if username.is_some() && !s.has("password") && !s.has("password_file") {
        s.miss("password", "the password of this username, or password_file");
    }
    let nobody = || Sender { name: None, address: String::new() };
    let timeout = |text: &str| kind::span(text, Duration::from_secs(3), Duration::from_mins(5));
    MailSettings {
        from: s.need("from", FROM, from).map(|from| from.unwrap_or_else(nobody)),
        smtp: s.need("smtp", SERVER, smtp),
        security: security.map_or(Security::StartTls, |x| x.value),
        username: username.map(|x| x.value),
        password,
        password_file,
        authorities_file: s.parsed("authorities_file", kind::FILE, path),
        authorities: None,
        timeout: s.parsed("timeout", kind::SPAN, timeout).map_or(Duration::from_secs(30), |x| x.value),
    }
}

fn from(s: &mut Section<'_, '_>) -> Option<At<Sender>> {
    s.parsed("from", FROM, |text| sender(text).map_err(Fault::Because))
}

pub(super) fn sms(s: &mut Section<'_, '_>) -> SmsSettings {
    let expected = "the URL that takes messages, such as \"https://sms.example.com/send\"";
    let url = s.parsed("url", expected, kind::http_url);
    let url = s.need("url", expected, url);
    let secrets = s.secrets("secrets", SECRET, |text| {
        let bytes = text.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
        if bytes.is_some_and(|bytes| (24..=64).contains(&bytes.len())) { Ok(()) } else { Err(Fault::Other) }
    });
    if secrets.is_none() {
        s.miss("secrets", &format!("a list, each {SECRET}"));
    }
    if let Some(third) = secrets.as_ref().and_then(|list| list.get(2)) {
        s.report(third.problem("expected one secret, or while it is changed the new one and the old one"));
    }
    SmsSettings {
        url,
        secrets: secrets.unwrap_or_default(),
        authorities_file: s.parsed("authorities_file", kind::FILE, path),
        authorities: None,
    }
}

pub(super) fn of_tenant(s: &mut Section<'_, '_>) -> TenantMailSettings {
    TenantMailSettings {
        app_name: s.parsed("app_name", kind::NAME, kind::name).map(|x| x.value),
        app_url: s.parsed("app_url", kind::URL, kind::http_url),
        from: from(s),
    }
}

/// What the sections alone cannot see: development or not.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(sms) = &config.sms
        && !sms.url.is_empty()
        && let Err(why) = config.guard().check(&sms.url)
    {
        problems.push(sms.url.problem(format!("this would never be called: {why}")));
    }
    if config.dev {
        return;
    }
    if let Some(mail) = &config.mail
        && mail.security == Security::Plain
        && !mail.smtp.host.is_empty()
        && !is_loopback(&mail.smtp.host)
    {
        problems.push(mail.smtp.problem(
            "with dev = false and security = \"none\" a mail server is on this machine: codes would travel readable",
        ));
    }
    for url in config.tenants.iter().filter_map(|t| t.mail.app_url.as_ref()) {
        if url.starts_with("http:") && !kind::is_loopback(url) {
            problems.push(url.problem(format!("with dev = false an app's URL is https, found {:?}", url.value)));
        }
    }
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => kind::is_loopback(&format!("http://{host}/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (text, host, port) in [
            ("mail.example.com:587", "mail.example.com", Some(587)),
            ("mail.example.com", "mail.example.com", None),
            ("127.0.0.1:2525", "127.0.0.1", Some(2525)),
            ("[::1]:25", "::1", Some(25)),
            ("[::1]", "::1", None),
        ] {
            let server = server(text).ok().unwrap_or_else(|| panic!("{text}"));
            assert_eq!((server.host.as_str(), server.port), (host, port), "{text}");
        }
        for text in
            ["", ":25", "a:", "a:0", "a:+25", "a:65536", "a:b", "::1", "[::1", "[::1]25", "[a]:25", "a b", "a/b", "ä"]
        {
            assert!(server(text).is_err(), "{text}");
        }
        assert!(is_loopback("localhost") && is_loopback("127.0.0.1") && is_loopback("::1"));
        assert!(!is_loopback("mail.example.com") && !is_loopback("10.0.0.1") && !is_loopback("::2"));
    }

    #[test]
    fn senders_are_read_as_they_are_written() {
        for (text, name, address) in [
            ("no-reply@example.com", None, "no-reply@example.com"),
            ("Shop <no-reply@example.com>", Some("Shop"), "no-reply@example.com"),
            ("\"Tea, Ltd.\" <tea@example.com>", Some("Tea, Ltd."), "tea@example.com"),
            ("<tea@example.com>", None, "tea@example.com"),
        ] {
            let read = sender(text).unwrap();
            assert_eq!((read.name.as_deref(), read.address.as_str()), (name, address), "{text}");
            let again = sender(&written(&read)).unwrap();
            assert_eq!((again.name, again.address), (read.name, read.address));
        }
        for text in ["", "shop", "Shop <shop>", "a@b@example.com", "Shop <a@example.com> x", "Sh\nop <a@example.com>"] {
            assert!(sender(text).is_err(), "{text:?}");
        }
    }
}
