//! TLS for what leaves: rustls over aws-lc-rs.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto, pki_types::CertificateDer, pki_types::pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt;

/// TLS could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsFault(Box<str>);

impl TlsFault {
    pub(crate) fn new(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string().into())
    }
}

/// Certificates are judged as the system does; or, where `authorities` (PEM) are given, by these alone.
pub(crate) fn config(authorities: Option<&[u8]>) -> Result<ClientConfig, TlsFault> {
    // the provider is named here, so that it does not matter whether the process has installed one
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsFault::new)?;
    let Some(pem) = authorities else {
        return Ok(builder.with_platform_verifier().map_err(TlsFault::new)?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(TlsFault::new)?).map_err(TlsFault::new)?;
    }
    if roots.is_empty() {
        return Err(TlsFault::new("there is no certificate in the list of authorities"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
