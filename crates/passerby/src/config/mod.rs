//! The configuration: one file per section of the TOML file, checks across sections, and at the end the core's
//! [`Settings`](passerby_core::settings::Settings).
//!
//! Two steps, since a store numbers tenants and clients: [`Config::load`] reads and checks, [`Config::settings`] builds
//! the snapshot once the numbers are known.

mod check;
mod client;
mod dialects;
mod kind;
mod mail;
mod master;
mod merge;
mod problem;
mod read;
mod rules;
mod settings;
mod sign_in;
mod tenant;
mod top;

#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

pub use client::ClientSettings;
pub use dialects::{Auth0Settings, DescopeSettings, DialectSettings, FusionAuthSettings};
pub use mail::{MailServer, MailSettings, SmsSettings, TenantMailSettings, sender};
pub use master::MasterKeySource;
pub use merge::MergeSettings;
pub use problem::{At, Place, Problem, Problems, Secret};
pub use rules::RuleSettings;
pub use settings::Numbers;
pub use sign_in::{PasswordSettings, SignInSettings};
pub use tenant::{ApiKeySettings, KeySettings, LimitSettings, ResourceServerSettings, TenantSettings, TokenSettings};
pub use top::{ConsoleSettings, LogFormat, TelemetrySettings, TlsSettings};

use read::{Document, Fault};

/// The configuration of development, when there is none.
const DEVELOPMENT: &str = include_str!("development.toml");

/// What messages about [`DEVELOPMENT`] name as their file.
const DEVELOPMENT_NAME: &str = "(development settings)";

/// Looked for in the working folder when no file is named.
pub const DEFAULT_FILE: &str = "passerby.toml";

/// The client that the demo page makes guests for, unless the configuration declares it.
pub const DEMO_CLIENT: &str = "passerby-demo";

/// Where the cart of `examples/cart` listens by default, which the demo page uses.
const DEMO_CART: &str = "http://127.0.0.1:9012";

/// A setting that came by flag or environment, and from which.
#[derive(Debug, Clone)]
pub struct Given<T = String> {
    /// What was given.
    pub value: T,
    /// `--listen`, `PASSERBY_LISTEN`.
    pub from: &'static str,
}

/// What overrides the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Over `listen`.
    pub listen: Option<Given>,
    /// Over `database`.
    pub database: Option<Given<Secret>>,
    /// Over `issuer`.
    pub issuer: Option<Given>,
    /// Over `log`.
    pub log: Option<Given>,
    /// Over `telemetry.endpoint`.
    pub otlp_endpoint: Option<Given>,
    /// Over `master_key_file`: the key itself.
    pub master_key: Option<Given<Secret>>,
    /// The origin of the cart that the demo page uses.
    pub demo_cart: Option<Given>,
}

impl Overrides {
    /// What flags leave open is taken from the environment. An empty variable counts as none.
    #[must_use]
    pub fn or_environment(mut self, get: impl Fn(&str) -> Option<String>) -> Self {
        let variable =
            |name: &'static str| get(name).filter(|value| !value.is_empty()).map(|value| Given { value, from: name });
        let secret = |given: Given| Given { value: Secret::new(given.value), from: given.from };
        self.listen = self.listen.or_else(|| variable("PASSERBY_LISTEN"));
        self.database = self.database.or_else(|| variable("PASSERBY_DATABASE").map(secret));
        self.issuer = self.issuer.or_else(|| variable("PASSERBY_ISSUER"));
        self.log = self.log.or_else(|| variable("PASSERBY_LOG"));
        self.otlp_endpoint = self.otlp_endpoint.or_else(|| variable("PASSERBY_OTLP_ENDPOINT"));
        self.master_key = self.master_key.or_else(|| variable("PASSERBY_MASTER_KEY").map(secret));
        self.demo_cart = self.demo_cart.or_else(|| variable("PASSERBY_DEMO_CART"));
        self
    }
}

/// Everything that was configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read; `None`: the development settings that are built in.
    pub file: Option<PathBuf>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The first tenant's issuer, as written.
    pub issuer: At<String>,
    /// The store's URL; a secret since it may hold a password.
    pub database: Secret,
    /// Development: demo page, weak secrets allowed, no limits.
    pub dev: bool,
    /// Proxies whose forwarding headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the master key comes from.
    pub master_key: MasterKeySource,
    /// TLS, when this process does it.
    pub tls: Option<TlsSettings>,
    /// So long running requests may take after the signal to stop.
    pub shutdown_timeout: Duration,
    /// Threads; `None`: as many as there are cores.
    pub workers: Option<usize>,
    /// So many connections at once.
    pub max_connections: usize,
    /// The filter of the log; `None`: the default.
    pub log: Option<String>,
    /// The form of the log.
    pub log_format: LogFormat,
    /// Where traces go; `None`: nowhere.
    pub telemetry: Option<TelemetrySettings>,
    /// Tenants, at least one.
    pub tenants: Vec<TenantSettings>,
    /// Dialects.
    pub dialects: DialectSettings,
    /// Who may open the console.
    pub console: Option<ConsoleSettings>,
    /// The server that takes mail.
    pub mail: Option<MailSettings>,
    /// The service that takes short messages.
    pub sms: Option<SmsSettings>,
    /// What hashing passwords may cost.
    pub passwords: PasswordSettings,
    /// The origin of the cart that the demo page uses.
    pub demo_cart: Box<str>,
}

impl Config {
    /// Reads a file; without one, [`DEFAULT_FILE`] when the working folder has it, else the development settings.
    ///
    /// # Errors
    /// All problems that were found, in the order of the lines.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Problems> {
        let default = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| default.exists().then_some(default));
        let mut config = match path {
            None => Self::development(overrides)?,
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read(path)
                    .map_err(|e| Place::from_source(&name, "").problem(format!("cannot be read: {e}")))?;
                let text = String::from_utf8(text).map_err(|e| {
                    let line = e.as_bytes()[..e.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
                    Place::from_source(&format!("{name}:{line}"), "").problem("is not UTF-8 text")
                })?;
                Self { file: Some(path.to_owned()), ..Self::parse(&name, &text, overrides)? }
            }
        };
        config.read_files()?;
        Ok(config)
    }

    /// The settings of development, for a start without any file.
    ///
    /// # Errors
    /// Only overrides can be wrong.
    pub fn development(overrides: &Overrides) -> Result<Self, Problems> {
        Self::parse(DEVELOPMENT_NAME, DEVELOPMENT, overrides)
    }

    /// Reads a text; `source` is what messages call it. Opens no file.
    ///
    /// # Errors
    /// All problems that were found, in the order of the lines.
    pub fn parse(source: &str, text: &str, overrides: &Overrides) -> Result<Self, Problems> {
        let document = Document::new(source, text);
        let file = document.read(top::read);
        let mut problems = document.into_problems();
        let built_in = source == DEVELOPMENT_NAME;
        let config = file.map(|file| Self::combine(source, file, overrides, built_in, &mut problems));
        // sections are read in our order, not in the file's
        problems.sort_by_key(|problem| problem.place.order());
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Problems(problems)),
        }
    }

    fn combine(
        source: &str,
        file: top::Top,
        overrides: &Overrides,
        built_in: bool,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let listen = over(overrides.listen.as_ref(), kind::ADDRESS, kind::address, problems)
            .or(file.listen)
            .map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9011)), |x| x.value);
        let issuer =
            over(overrides.issuer.as_ref(), kind::URL, kind::issuer, problems).or(file.issuer).unwrap_or_else(|| {
                let place = Place::from_source(source, "issuer");
                if !file.dev {
                    problems.push(place.problem(format!("missing key; expected {}", kind::URL)));
                }
                // nothing was written: what is printed at the start shall be reachable
                let port = if built_in && listen.port() != 0 { listen.port() } else { 9011 };
                At { value: format!("http://localhost:{port}"), place }
            });
        let database = overrides.database.as_ref().and_then(|given| {
            let place = Place::from_source(given.from, "");
            match kind::database(given.value.expose()) {
                Ok(value) => Some(value),
                Err(Fault::Because(why)) => {
                    problems.push(place.problem(why));
                    None
                }
                Err(Fault::Other) => None,
            }
        });
        let telemetry = match over(overrides.otlp_endpoint.as_ref(), kind::URL, kind::http_url, problems) {
            Some(endpoint) => {
                let service_name = file.telemetry.map_or_else(|| "passerby".into(), |t| t.service_name);
                Some(TelemetrySettings { endpoint, service_name })
            }
            None => file.telemetry,
        };
        let demo_cart = over(overrides.demo_cart.as_ref(), kind::ORIGIN, kind::origin, problems);
        let log = over(overrides.log.as_ref(), "a filter such as \"info\"", top::filter, problems).or(file.log);
        let database = database.or(file.database.map(|x| x.value)).unwrap_or_else(|| Secret::new("sqlite:passerby.db"));
        let config = Self {
            file: None,
            master_key: MasterKeySource::new(overrides.master_key.as_ref(), file.master_key_file, &database, file.dev),
            listen,
            issuer,
            database,
            dev: file.dev,
            trusted_proxies: file.trusted_proxies,
            tls: file.tls,
            shutdown_timeout: file.shutdown_timeout,
            workers: file.workers,
            max_connections: file.max_connections,
            log: log.map(|x| x.value),
            log_format: file.log_format,
            telemetry,
            tenants: file.tenants,
            dialects: file.dialects,
            console: file.console,
            mail: file.mail,
            sms: file.sms,
            passwords: file.passwords,
            demo_cart: demo_cart.map_or_else(|| DEMO_CART.into(), |x| x.value),
        };
        check::check(&config, source, problems);
        config
    }

    /// What a start assumed or cannot serve yet: plain sentences for the operator.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.dev && !self.listen.ip().is_loopback() {
            notes.push(format!(
                "dev = true while {} can be reached by others: development secrets are public",
                self.listen
            ));
        }
        if !self.dev && self.mail.is_none() {
            let (none, what) = if self.sms.is_none() {
                ("no [mail] and no [sms]", "messages wait")
            } else {
                ("no [mail]", "mail waits")
            };
            notes.push(format!("{none}: {what} in the outbox until one is configured"));
        }
        let d = &self.dialects;
        for (name, on) in
            [("fusionauth", d.fusionauth.is_some()), ("authgear", d.authgear), ("descope", d.descope.is_some())]
        {
            if on {
                notes.push(format!("dialects.{name} is checked, but this version does not speak it yet"));
            }
        }
        if self.console.is_some() {
            notes.push("console is checked, but this version has no console yet".into());
        }
        notes
    }

    /// All clients of all tenants, with the number of their tenant in the list.
    pub fn clients(&self) -> impl Iterator<Item = (usize, &ClientSettings)> {
        self.tenants.iter().enumerate().flat_map(|(n, tenant)| tenant.clients.iter().map(move |client| (n, client)))
    }

    /// Whether the first tenant gets [`DEMO_CLIENT`] beside the clients that are declared.
    pub fn has_implicit_demo_client(&self) -> bool {
        self.dev && !self.clients().any(|(_, client)| &*client.id.value == DEMO_CLIENT)
    }
}

/// An override, read like the key that it replaces.
fn over<T>(
    given: Option<&Given>,
    expected: &str,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
    problems: &mut Vec<Problem>,
) -> Option<At<T>> {
    let given = given?;
    let place = Place::from_source(given.from, "");
    match parse(&given.value) {
        Ok(value) => Some(At { value, place }),
        Err(fault) => {
            problems.push(place.problem(match fault {
                Fault::Because(why) => why,
                Fault::Other => format!("expected {expected}, found {:?}", given.value),
            }));
            None
        }
    }
}
