//! Checks across sections, and of the files that a configuration names.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    hash::Hash,
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use passerby_outbound::{
    mail::{Mailer, SetUpFault},
    sms::SmsSender,
    web::{Limits, WebClient},
};
use zeroize::Zeroizing;

use super::{At, Config, MasterKeySource, Place, Problem, Problems, Secret, TenantSettings, kind, mail, master};
use crate::passwords::BreachedFile;

/// Secrets that were published with this program: in its documentation, its examples, its tests.
const PUBLISHED: [&str; 6] = [
    "demo-web-secret-0123456789abcdef",
    "acceptance-root-key-0123456789abcdef0123456789",
    "acceptance-guide-key-0123456789abcdef012345678",
    "passerby-development-api-key-0123456789",
    "Kpasserbydemomanagementkey0000000000000000",
    "correct horse battery staple",
];

/// What people type who mean to come back later. None of it turns up in a random text by chance.
const TYPED: [&str; 16] = [
    "changeme",
    "change-me",
    "change_me",
    "change this",
    "replaceme",
    "replace-me",
    "secretsecret",
    "supersecret",
    "password",
    "passw0rd",
    "acceptance",
    "placeholder",
    "0123456789",
    "1234567890",
    "abcdefghij",
    "qwertyuiop",
];

/// Everything that one section alone cannot see.
pub(super) fn check(config: &Config, source: &str, problems: &mut Vec<Problem>) {
    unique(config, problems);
    for (n, tenant) in config.tenants.iter().enumerate() {
        audiences(config, n, tenant, problems);
    }
    issuers(config, problems);
    mail::check(config, problems);
    if let MasterKeySource::Environment(key) = &config.master_key {
        problems.extend(master::fault(key.expose(), &key.place, !config.dev));
    }
    if !config.dev {
        production(config, source, problems);
    }
}

fn unique(config: &Config, problems: &mut Vec<Problem>) {
    let tenants = &config.tenants;
    repeated(tenants.iter().map(|t| &t.id), "a tenant's id", problems);
    repeated(
        tenants.iter().flat_map(|t| &t.clients).map(|c| &c.id),
        "a client's id, unique over all tenants",
        problems,
    );
    repeated(tenants.iter().flat_map(|t| &t.keys).map(|k| &k.id), "a key's id, unique over all tenants", problems);
    for tenant in tenants {
        repeated(tenant.resource_servers.iter().map(|r| &r.identifier), "a resource server's identifier", problems);
    }
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for key in tenants.iter().flat_map(|t| &t.api_keys).map(|k| &k.key) {
        if key.expose().is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(key.expose(), &key.place) {
            problems.push(key.problem(format!("the same key as in {}; expected an API key of its own", first.line())));
        }
    }
}

fn repeated<'a, T>(all: impl Iterator<Item = &'a At<T>>, expected: &str, problems: &mut Vec<Problem>)
where
    T: Hash + Eq + std::fmt::Display + Default + 'a,
{
    let mut seen: HashMap<&T, &Place> = HashMap::new();
    for one in all {
        // what could not be read is the default, and was reported
        if one.value == T::default() {
            continue;
        }
        if let Some(first) = seen.get(&one.value) {
            let message = format!("\"{}\" is there already, in {}; expected {expected}", one.value, first.line());
            problems.push(one.problem(message));
        } else {
            seen.insert(&one.value, &one.place);
        }
    }
}

fn audiences(config: &Config, n: usize, tenant: &TenantSettings, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = tenant.resource_servers.iter().map(|r| &**r.identifier).collect();
    let expected = if known.is_empty() {
        "expected a resource server of this tenant, and it has none: add [[tenants.resource_servers]]".to_owned()
    } else {
        format!("expected a resource server of this tenant ({})", known.join(", "))
    };
    let issuer = config.issuer_of(n);
    for audience in tenant.clients.iter().flat_map(|c| &c.audiences) {
        if !known.contains(&&*audience.value) {
            problems.push(audience.problem(format!("{expected}, found \"{}\"", audience.value)));
        }
    }
    if let Some(audience) = &tenant.default_audience
        && !known.contains(&&*audience.value)
        && *audience.value != *issuer
    {
        problems.push(audience.problem(format!("{expected} or the issuer, found \"{}\"", audience.value)));
    }
    for server in &tenant.resource_servers {
        if **server.identifier == *issuer {
            problems.push(
                server.identifier.problem("this is the tenant's issuer: tokens for it are taken by Passerby itself"),
            );
        }
    }
}

fn issuers(config: &Config, problems: &mut Vec<Problem>) {
    if let Some(first) = config.tenants.first()
        && let Some(issuer) = &first.issuer
        && issuer.value != config.issuer.value
    {
        problems.push(issuer.problem("the first tenant has the issuer at the top of the file; write it there"));
    }
    for tenant in config.tenants.iter().skip(1) {
        // a host of its own, or the prefix that is taken off the path: nothing else is ever routed to it
        if let Some(issuer) = &tenant.issuer
            && !issuer.trim_end_matches('/').ends_with(&format!("/t/{}", tenant.id.value))
            && url::Url::parse(issuer).is_ok_and(|url| url.path() != "/")
        {
            problems.push(
                issuer.problem(format!("expected a URL without a path, or one that ends in /t/{}", tenant.id.value)),
            );
        }
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (n, tenant) in config.tenants.iter().enumerate() {
        let issuer = config.issuer_of(n);
        // one with and one without a slash at the end would answer on the same paths
        if seen.insert(issuer.trim_end_matches('/').to_owned(), n).is_some() {
            let place = tenant.issuer.as_ref().map_or(&tenant.id.place, |i| &i.place);
            problems
                .push(place.problem(format!("two tenants have the issuer {issuer:?}; expected an issuer of its own")));
        }
    }
}

/// What development may and production may not.
fn production(config: &Config, source: &str, problems: &mut Vec<Problem>) {
    let own = config.tenants.iter().filter_map(|t| t.issuer.as_ref());
    for issuer in std::iter::once(&config.issuer).chain(own) {
        if issuer.starts_with("http:") && !kind::is_loopback(issuer) {
            problems.push(issuer.problem(format!("with dev = false an issuer is https, found {:?}", issuer.value)));
        }
    }
    for uri in config.clients().flat_map(|(_, c)| &c.redirect_uris) {
        if uri.starts_with("http:") && !kind::is_loopback(uri) {
            problems.push(
                uri.problem(format!("with dev = false a redirect URI is https or loopback, found {:?}", uri.value)),
            );
        }
    }
    for uri in config.clients().filter_map(|(_, c)| c.hand_off_uri.as_ref()) {
        if uri.starts_with("http:") && !kind::is_loopback(uri) {
            problems.push(
                uri.problem(format!("with dev = false a hand-off URI is https or loopback, found {:?}", uri.value)),
            );
        }
    }
    for secret in config.clients().filter_map(|(_, c)| c.secret.as_ref()) {
        weak(secret, 32, problems);
    }
    for key in config.tenants.iter().flat_map(|t| &t.api_keys) {
        weak(&key.key, 32, problems);
    }
    if let Some(key) = config.dialects.descope.as_ref().and_then(|d| d.management_key.as_ref()) {
        weak(key, 32, problems);
    }
    for secret in config.sms.iter().flat_map(|sms| &sms.secrets) {
        // what stands before it is the same for all
        let key = secret.expose().strip_prefix("whsec_").unwrap_or_default();
        weak(&At { value: Secret::new(key), place: secret.place.clone() }, 32, problems);
    }
    if let Some(console) = &config.console {
        weak(&console.admin_password, 12, problems);
        let name = console.admin_email.split('@').next().unwrap_or_default().to_lowercase();
        if name.len() > 3 && console.admin_password.expose().to_lowercase().contains(&name) {
            problems.push(
                console.admin_password.problem("with dev = false a password does not hold the name it belongs to"),
            );
        }
    }
    if matches!(config.master_key, MasterKeySource::Missing) {
        problems.push(Place::from_source(source, "master_key_file").problem(master::missing()));
    }
}

fn weak(secret: &At<Secret>, least: usize, problems: &mut Vec<Problem>) {
    let text = secret.expose();
    if text.is_empty() {
        return;
    }
    let length = text.chars().count();
    let lower = text.to_lowercase();
    let distinct = text.chars().collect::<BTreeSet<_>>().len();
    let why = if PUBLISHED.contains(&text) {
        "is a published default".to_owned()
    } else if length < least {
        format!("has {length} characters, expected at least {least}")
    } else if TYPED.iter().any(|typed| lower.contains(typed)) {
        "reads like a placeholder".to_owned()
    } else if distinct < 8 || repeats(text) {
        "repeats the same few characters".to_owned()
    } else {
        return;
    };
    problems.push(secret.problem(format!(
        "with dev = false a secret must be random (for example: openssl rand -hex 32); this one {why}"
    )));
}

/// Whether a text is a short piece over and over.
fn repeats(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=bytes.len() / 3).any(|piece| bytes.iter().zip(&bytes[piece..]).all(|(a, b)| a == b))
}

impl Config {
    /// Reads the files that the configuration names (but the TLS pair, which the server reads again and again).
    pub(super) fn read_files(&mut self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        if let Some(tls) = &self.tls {
            problems.extend(
                crate::tls::load(&tls.certificate.value, &tls.key.value).err().map(|e| tls.certificate.problem(e)),
            );
        }
        if let MasterKeySource::File(path) = &self.master_key {
            match fs::read_to_string(&path.value) {
                Ok(text) => problems.extend(master::fault(&text, &path.place, !self.dev)),
                Err(e) => problems.push(unreadable(path, &e)),
            }
        }
        if let Some(path) = self.dialects.fusionauth.as_ref().and_then(|f| f.kickstart.as_ref()) {
            let read = fs::read(&path.value).map_err(|e| unreadable(path, &e));
            let parsed = read.and_then(|text| {
                serde_json::from_slice::<serde_json::Map<_, _>>(&text)
                    .map_err(|e| path.problem(format!("expected a file with a JSON object: {e}")))
            });
            problems.extend(parsed.err());
        }
        self.read_messengers(&mut problems);
        let mut breached: HashMap<PathBuf, Arc<BreachedFile>> = HashMap::new();
        for tenant in &mut self.tenants {
            if let Some(path) = &tenant.sign_in.breached_passwords_file {
                let list =
                    breached.get(&path.value).cloned().map_or_else(|| BreachedFile::open(path).map(Arc::new), Ok);
                match list {
                    Ok(list) => {
                        breached.insert(path.value.clone(), list.clone());
                        tenant.sign_in.rules.breached = Some(list);
                    }
                    Err(e) => problems.push(path.problem(e)),
                }
            }
            if let Some(path) = &tenant.data_schema_file {
                match read_schema(path) {
                    Ok(schema) => tenant.data_schema = Some(schema),
                    Err(problem) => problems.push(problem),
                }
            }
            for client in &mut tenant.clients {
                if let Some(path) = &client.jwks_file {
                    match read_jwks(path) {
                        Ok(keys) => client.keys = Some(Arc::new(keys)),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    /// What mail and short messages need; at the end both senders are made, which have the last word on it.
    fn read_messengers(&mut self, problems: &mut Vec<Problem>) {
        let (hello, guard) = (self.hello(), self.guard());
        let authorities = |path: Option<&At<PathBuf>>| path.map(|p| fs::read(&p.value).map_err(|e| unreadable(p, &e)));
        if let Some(mail) = &mut self.mail {
            let read = authorities(mail.authorities_file.as_ref()).transpose();
            let password = mail.password_file.as_ref().map(read_password).transpose();
            let fine = read.is_ok() && password.is_ok();
            problems.extend(read.map(|pem| mail.authorities = pem).err());
            problems.extend(password.map(|text| mail.password = text.or(mail.password.take())).err());
            if fine && let Err(fault) = Mailer::new(mail.smtp(&mail.from, &hello)) {
                let place = match &fault {
                    SetUpFault::Tls(_) => mail.authorities_file.as_ref().map_or(&mail.smtp.place, |file| &file.place),
                    SetUpFault::Credentials => mail.password.as_ref().map_or(&mail.smtp.place, |p| &p.place),
                    _ => &mail.smtp.place,
                };
                problems.push(place.problem(fault.to_string()));
            }
        }
        if let Some(sms) = &mut self.sms {
            match authorities(sms.authorities_file.as_ref()).transpose() {
                Ok(pem) => {
                    let secrets: Vec<String> = sms.secrets.iter().map(|s| s.expose().to_owned()).collect();
                    let client = WebClient::new(guard, Limits::default(), pem.as_deref()).map_err(|fault| {
                        let place = sms.authorities_file.as_ref().map_or(&sms.url.place, |file| &file.place);
                        place.problem(fault.to_string())
                    });
                    let sender = client.and_then(|client| {
                        SmsSender::new(client, &sms.url, &secrets).map_err(|fault| sms.url.problem(fault.to_string()))
                    });
                    problems.extend(sender.err());
                    sms.authorities = pem;
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
}

/// The one line of a file. Its place is the file's, for what is said of the password later.
fn read_password(path: &At<PathBuf>) -> Result<At<Secret>, Problem> {
    let text = Zeroizing::new(fs::read_to_string(&path.value).map_err(|e| unreadable(path, &e))?);
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.chars().any(char::is_control) {
        return Err(path.problem("expected a file with one line, the password"));
    }
    Ok(At { value: Secret::new(line), place: path.place.clone() })
}

fn unreadable<P: AsRef<Path>>(path: &At<P>, e: &std::io::Error) -> Problem {
    path.problem(format!("{} cannot be read: {e}", path.value.as_ref().display()))
}

fn read_schema<P: AsRef<Path>>(path: &At<P>) -> Result<passerby_core::profile::Schema, Problem> {
    let text = fs::read_to_string(path.value.as_ref()).map_err(|e| unreadable(path, &e))?;
    let wrong = |e: String| path.problem(format!("expected a file with a JSON Schema: {e}"));
    let document = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    passerby_core::profile::Schema::compile(&document).map_err(wrong)
}

fn read_jwks<P: AsRef<Path>>(path: &At<P>) -> Result<JwkSet, Problem> {
    let text = fs::read(path.value.as_ref()).map_err(|e| unreadable(path, &e))?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|e| path.problem(format!("expected a file with a JWK set, {{\"keys\": […]}}: {e}")))?;
    if set.keys.is_empty() {
        return Err(path.problem("expected a JWK set with at least one key"));
    }
    if set.keys.iter().any(|key| matches!(key.algorithm, AlgorithmParameters::OctetKey(_))) {
        return Err(path.problem("expected public keys only (RSA, EC, OKP); a symmetric key is in the set"));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets() {
        let said = |text: &str| {
            let mut problems = Vec::new();
            weak(&At { value: Secret::new(text), place: Place::from_source("f", "k") }, 32, &mut problems);
            problems.pop().map(|p| p.to_string())
        };
        for text in PUBLISHED {
            assert!(said(text).unwrap().ends_with("this one is a published default"), "{text}");
        }
        for text in [
            "short-but-otherwise-fine",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "changeme-changeme-changeme-changeme",
            "SecretSecretSecretSecretSecretSecret",
            "Tr0ub4dorTr0ub4dorTr0ub4dorTr0ub4dor",
            "abcabcabcabcabcabcabcabcabcabcabcabc",
        ] {
            let message = said(text).unwrap_or_else(|| panic!("{text} passed"));
            assert!(!message.contains(text), "{message}");
        }
        assert_eq!(said("b7f3c1d09e6a42588d1f0c4e7a93b6d2e5f81a7c3b904d6e"), None);
        assert_eq!(said("q3Zk0yQ1wTQ0pB6vLr8sXn2uHcJdMfGaEiKoPtRyUeW"), None);
    }
}
