//! The top of the file and its smaller sections: `tls`, `telemetry`, `[console]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{
    At, Secret,
    client::path,
    dialects, kind,
    mail::{self, MailSettings, SmsSettings},
    read::{Fault, Section},
    sign_in::{self, PasswordSettings},
    tenant,
};

/// In which form logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always one JSON object a line.
    Json,
}

/// Certificate chain and private key, both PEM.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The chain, the server's own certificate first.
    pub certificate: At<PathBuf>,
    /// Its private key.
    pub key: At<PathBuf>,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// Base URL of an OTLP receiver (HTTP, protobuf).
    pub endpoint: At<String>,
    /// What this process is called there.
    pub service_name: String,
}

/// Who may open the console.
#[derive(Debug, Clone)]
pub struct ConsoleSettings {
    /// Whom.
    pub admin_email: At<String>,
    /// By which password.
    pub admin_password: At<Secret>,
}

/// What the file says, before defaults.
pub(super) struct Top {
    pub(super) listen: Option<At<SocketAddr>>,
    pub(super) issuer: Option<At<String>>,
    pub(super) database: Option<At<Secret>>,
    pub(super) dev: bool,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) master_key_file: Option<At<PathBuf>>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) shutdown_timeout: Duration,
    pub(super) workers: Option<usize>,
    pub(super) max_connections: usize,
    pub(super) log: Option<At<String>>,
    pub(super) log_format: LogFormat,
    pub(super) telemetry: Option<TelemetrySettings>,
    pub(super) tenants: Vec<super::TenantSettings>,
    pub(super) dialects: super::DialectSettings,
    pub(super) console: Option<ConsoleSettings>,
    pub(super) mail: Option<MailSettings>,
    pub(super) sms: Option<SmsSettings>,
    pub(super) passwords: PasswordSettings,
}

pub(super) fn read(s: &mut Section<'_, '_>) -> Top {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let shutdown = |text: &str| kind::span(text, Duration::from_secs(1), Duration::from_hours(1));
    let top = Top {
        listen: s.parsed("listen", kind::ADDRESS, kind::address),
        issuer: s.parsed("issuer", kind::URL, kind::issuer),
        database: s.parsed("database", "\"sqlite:FILE\" or \"postgres://USER@HOST/DATABASE\"", kind::database),
        // ill-typed, it was reported; what production would refuse beside it would only hide that
        dev: s.flag("dev").map_or(s.has("dev"), |x| x.value),
        trusted_proxies: values(s.list("trusted_proxies", kind::NETWORK, kind::network)),
        master_key_file: s.parsed("master_key_file", kind::FILE, path),
        tls: s.table("tls", tls),
        shutdown_timeout: s
            .parsed("shutdown_timeout", kind::SPAN, shutdown)
            .map_or(Duration::from_secs(20), |x| x.value),
        workers: s.number("workers", 1..1025).map(|x| x.value as usize),
        max_connections: s.number("max_connections", 1..1_000_001).map_or(10_000, |x| x.value as usize),
        log: s.parsed("log", "a filter such as \"info\" or \"info,passerby_store=debug\"", filter),
        log_format: s.choice("log_format", &formats).map_or(LogFormat::Auto, |x| x.value),
        telemetry: s.table("telemetry", telemetry),
        tenants: s.tables("tenants", tenant::read).unwrap_or_default(),
        dialects: s.table("dialects", dialects::read).unwrap_or_default(),
        console: s.table("console", console),
        mail: s.table("mail", mail::read),
        sms: s.table("sms", mail::sms),
        passwords: s.table("passwords", sign_in::passwords).unwrap_or_default(),
    };
    if top.tenants.is_empty() {
        s.miss("tenants", "at least one [[tenants]] with its id and clients");
    }
    top
}

fn values<T>(list: Option<Vec<At<T>>>) -> Vec<T> {
    list.unwrap_or_default().into_iter().map(|x| x.value).collect()
}

/// A filter of the log that can be used.
pub(super) fn filter(text: &str) -> Result<String, Fault> {
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(Fault::Other),
    }
}

fn tls(s: &mut Section<'_, '_>) -> TlsSettings {
    let certificate = s.parsed("certificate", kind::FILE, path);
    let key = s.parsed("key", kind::FILE, path);
    TlsSettings {
        certificate: s.need("certificate", "the path of a PEM file", certificate),
        key: s.need("key", "the path of a PEM file", key),
    }
}

fn telemetry(s: &mut Section<'_, '_>) -> TelemetrySettings {
    let expected = "the base URL of an OTLP receiver, such as \"http://localhost:4318\"";
    let endpoint = s.parsed("endpoint", expected, kind::http_url);
    TelemetrySettings {
        endpoint: s.need("endpoint", expected, endpoint),
        service_name: s.text("service_name", "a name").map_or_else(|| "passerby".into(), |x| x.value),
    }
}

fn console(s: &mut Section<'_, '_>) -> ConsoleSettings {
    let expected = "an e-mail address";
    let email = s.parsed("admin_email", expected, |text| match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(' ') => {
            Ok(text.to_owned())
        }
        _ => Err(Fault::Other),
    });
    let password = s.secret("admin_password", "at least 8 characters", 8).map(|p| p.map(Some));
    ConsoleSettings {
        admin_email: s.need("admin_email", expected, email),
        admin_password: s
            .need("admin_password", "at least 8 characters", password)
            .map(|p| p.unwrap_or_else(|| Secret::new(""))),
    }
}
