//! Certificate and key, read from PEM files and read again when these change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// Reads a certificate chain and its key.
///
/// # Errors
/// A sentence that says which file is wrong and how.
pub fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{} is no PEM certificate chain: {e}", certificate.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate", certificate.display()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|e| format!("{} holds no private key that can be read: {e}", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| format!("{} and {} do not go together: {e}", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What tells that a file is another one now. Its content is read only then.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

/// A pair of files and the last state of them that was looked at.
#[derive(Debug)]
pub struct Watched {
    certificate: PathBuf,
    key: PathBuf,
    stamps: (Stamp, Stamp),
    config: RustlsConfig,
}

impl Watched {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// See [`load`].
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, String> {
        // stamps first: what changes while it is read is read again
        let stamps = (stamp(certificate), stamp(key));
        let config = RustlsConfig::from_config(load(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), stamps, config })
    }

    /// What the server serves by; follows every reload.
    pub fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Reads the pair again if one of its files changed. A broken pair leaves the old one in force. Blocks on files.
    ///
    /// # Errors
    /// See [`load`]; told once for each change.
    pub fn look(&mut self) -> Result<bool, String> {
        let stamps = (stamp(&self.certificate), stamp(&self.key));
        if stamps == self.stamps {
            return Ok(false);
        }
        self.stamps = stamps;
        self.config.reload_from_config(load(&self.certificate, &self.key)?);
        Ok(true)
    }

    /// Looks again and again, for as long as the task lives.
    pub async fn watch(mut self) -> io::Error {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                let outcome = self.look();
                (self, outcome)
            });
            let (watched, outcome) = match looked.await {
                Ok(looked) => looked,
                Err(e) => return io::Error::other(e),
            };
            self = watched;
            match outcome {
                Ok(false) => {}
                Ok(true) => tracing::info!("the TLS certificate was read again"),
                Err(e) => {
                    tracing::error!(error = %e, "the new TLS certificate cannot be used; the old one stays in force");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn read_again_when_changed_and_kept_when_broken() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        pair(folder.path(), "a.example");
        let mut watched = Watched::open(&certificate, &key).unwrap();
        let served = watched.config();
        let first = served.get_inner();
        assert_eq!(watched.look(), Ok(false));

        fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
        assert!(watched.look().is_err());
        assert_eq!(watched.look(), Ok(false), "told once");
        assert!(Arc::ptr_eq(&served.get_inner(), &first));

        pair(folder.path(), "a-longer-name.example");
        assert_eq!(watched.look(), Ok(true));
        assert!(!Arc::ptr_eq(&served.get_inner(), &first));
    }

    #[test]
    fn what_is_no_pair() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        assert!(load(&certificate, &key).unwrap_err().contains("cert.pem cannot be read"));
        pair(folder.path(), "a.example");
        let other = rcgen::generate_simple_self_signed(vec!["b.example".to_owned()]).unwrap();
        fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(load(&certificate, &key).unwrap_err().contains("do not go together"));
        fs::write(&certificate, "").unwrap();
        assert!(load(&certificate, &key).unwrap_err().contains("holds no certificate"));
    }
}
