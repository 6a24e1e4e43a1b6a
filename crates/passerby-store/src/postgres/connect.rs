//! Reaching the server: what the URL says, TLS, and what every connection is told first.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, Pool, QueueMode, RecyclingMethod, Runtime,
};
use passerby_core::port::StoreError;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, Config, Error, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{describe, pool_error, silent};
use crate::open::OpenError;

/// A connection is made in this time, or not at all: callers are told to come back.
const CONNECT: Duration = Duration::from_secs(2);
/// So long a caller waits for one of the pool's connections.
const WAIT: Duration = Duration::from_secs(2);
/// The longest a change or a read may take on its connection, all round trips together. A little longer than the
/// server's own limits, which give the clearer message.
pub(super) const LIMIT: Duration = Duration::from_secs(6);
/// Connections of the pool, unless the URL says otherwise.
const POOL: usize = 16;
/// Connections of the group-committing writer, beside the pool. Measured: two are best.
pub(super) const WRITERS: usize = 2;

/// Read committed whatever the database's default is: the acts lock what they decide on, and under a snapshot each lock
/// that was waited for would be an error instead.
const FIRST: &str = "SET statement_timeout = '5s'; SET lock_timeout = '3s'; \
                     SET idle_in_transaction_session_timeout = '10s'; \
                     SET default_transaction_isolation = 'read committed'";

/// Makes connections as the URL says.
pub(super) struct Connector {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    pool: usize,
}

type Made = (Client, JoinHandle<()>);

impl Connector {
    /// Reads the URL. Beside the driver's parameters it may have
    /// - `sslmode`: `disable` and `prefer` (the default) go without TLS; `require`, `verify-ca` and `verify-full` all
    ///   check the certificate and the name;
    /// - `sslrootcert`: the file with the authorities' certificates (PEM) to check against, needed for these three;
    /// - `pool_size`: connections of the pool, 1 to 1000; the writer has two more.
    pub(super) fn from_url(url: &str) -> Result<Self, OpenError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut roots, mut with_tls, mut pool, mut rest) = (None, false, POOL, Vec::new());
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("sslrootcert", file) => roots = Some(percent_decoded(file)?),
                ("sslmode", "disable" | "prefer" | "allow") => with_tls = false,
                ("sslmode", "require" | "verify-ca" | "verify-full") => with_tls = true,
                ("sslmode", other) => return Err(OpenError::Url(format!("sslmode={other:?} is not known"))),
                ("pool_size", n) => {
                    pool =
                        n.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
                            OpenError::Url(format!("pool_size={n:?}: expected a number from 1 to 1000"))
                        })?;
                }
                _ => rest.push(pair),
            }
        }
        let url = format!("{base}?{}", rest.join("&"));
        let mut config: Config = url.parse().map_err(|e| OpenError::Url(describe(&e)))?;
        if config.get_application_name().is_none() {
            config.application_name("passerby");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(LIMIT);
        }
        // a peer that vanished while nothing was said is noticed before the next request meets it
        config
            .keepalives_idle(Duration::from_secs(15))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        let tls = match (with_tls, roots) {
            (false, _) => None,
            (true, Some(file)) => Some(tls(&file)?),
            (true, None) => {
                return Err(OpenError::Url(
                    "TLS to the database needs sslrootcert=FILE, the certificates (PEM) to check the server's against"
                        .into(),
                ));
            }
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls, pool })
    }

    /// Connects, and says nothing yet: for migrations, which set limits of their own.
    pub(super) async fn bare(&self) -> Result<Made, Error> {
        if let Some(tls) = &self.tls {
            let (client, connection) = self.config.connect(tls.clone()).await?;
            return Ok((client, tokio::spawn(run(connection))));
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        Ok((client, tokio::spawn(run(connection))))
    }

    async fn made(&self) -> Result<Made, Error> {
        let (client, task) = self.bare().await?;
        client.batch_execute(FIRST).await?;
        Ok((client, task))
    }

    /// A connection outside the pool.
    pub(super) async fn own(&self) -> Result<ClientWrapper, StoreError> {
        match timeout(CONNECT, self.made()).await {
            Ok(Ok((client, task))) => Ok(ClientWrapper::new(client, task)),
            Ok(Err(e)) => Err(StoreError::Unavailable(describe(&e))),
            Err(_) => Err(silent()),
        }
    }

    /// The pool for reads and for all changes that are not grouped. It connects when it is first asked.
    pub(super) fn pool(self: &Arc<Self>) -> Result<Pool, OpenError> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.config.clone(), ByConnector(self.clone()), fast);
        Pool::builder(manager)
            .max_size(self.pool)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            // few that are warm rather than many that are not
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| OpenError::Failed(e.to_string()))
    }
}

/// What the driver's background task does: it ends with the connection.
async fn run(connection: impl Future<Output = Result<(), Error>>) {
    if let Err(e) = connection.await {
        tracing::warn!(error = describe(&e), "a connection to the database ended");
    }
}

struct ByConnector(Arc<Connector>);

impl Connect for ByConnector {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Result<Made, Error>> + Send + '_>> {
        Box::pin(self.0.made())
    }
}

/// A connection of the pool that may stand within a transaction: it goes back only by [`Held::release`], and is closed
/// whenever the work on it ends otherwise (an error, a time-out, a panic).
pub(super) struct Held(Option<Object>);

impl Held {
    /// Waits for a connection.
    pub(super) async fn of(pool: &Pool) -> Result<Self, StoreError> {
        Ok(Self(Some(pool.get().await.map_err(|e| pool_error(&e))?)))
    }

    /// The connection.
    pub(super) fn db(&self) -> Result<&ClientWrapper, StoreError> {
        self.0.as_deref().ok_or_else(|| StoreError::Bug("a connection was used after it was given back".into()))
    }

    /// Gives it back to the pool: nothing is open on it.
    pub(super) fn release(mut self) {
        self.0.take();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

fn tls(file: &str) -> Result<MakeRustlsConnect, OpenError> {
    let wrong = |reason: String| OpenError::Url(format!("sslrootcert={file}: {reason}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".into()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| OpenError::Failed(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Reads `%41` as `A`, as URLs write what would end a parameter.
fn percent_decoded(text: &str) -> Result<String, OpenError> {
    let wrong = || OpenError::Url(format!("{text:?} is not percent-encoded text"));
    let (mut bytes, mut out) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Connector::from_url(url).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn reads_the_url() {
        let c =
            Connector::from_url("postgres://u:p@h:5433/db?sslmode=prefer&pool_size=3&target_session_attrs=read-write");
        let c = c.unwrap();
        assert_eq!((c.pool, c.tls.is_none(), c.config.get_dbname()), (3, true, Some("db")));
        assert_eq!(c.config.get_application_name(), Some("passerby"));
        assert_eq!(c.config.get_ssl_mode(), SslMode::Disable);
        let c = Connector::from_url("postgres://h/db?application_name=mine&connect_timeout=7").unwrap();
        assert_eq!(c.config.get_application_name(), Some("mine"));
        assert_eq!(c.config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(percent_decoded("/a%20b%2Fc").unwrap(), "/a b/c");
    }

    #[test]
    fn refuses_what_it_cannot_keep_to() {
        assert!(refusal("postgres://u:secret@h/db?sslmode=require").contains("needs sslrootcert"));
        assert!(refusal("postgres://h/db?sslmode=require&sslrootcert=/no/such/file").contains("/no/such/file"));
        assert!(refusal("postgres://h/db?sslmode=sometimes").contains("sometimes"));
        assert!(refusal("postgres://h/db?pool_size=0").contains("1 to 1000"));
        assert!(refusal("postgres://h/db?sslrootcert=%4").contains("percent-encoded"));
        let unknown = refusal("postgres://u:secret@h/db?colour=blue");
        assert!(unknown.contains("colour") && !unknown.contains("secret"), "{unknown}");
    }
}
