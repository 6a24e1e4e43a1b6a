//! Against real servers: SMTP and HTTP, each started by the test.

mod mail;
mod post;
mod service;
mod sms;
mod web;

use std::time::Duration;

/// No test waits longer, whatever hangs: then it fails.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), work).await.expect("it hangs")
}

/// A certificate of this test alone: PEM for those who trust it, and what a server needs.
fn certificate(name: &str) -> (Vec<u8>, tokio_rustls::TlsAcceptor) {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    (own.cert.pem().into_bytes(), std::sync::Arc::new(config).into())
}
