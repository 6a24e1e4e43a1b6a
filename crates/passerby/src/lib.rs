//! The program: configuration, wiring and the process around the doors. A library beside the binary, so that tests can
//! build the whole application in their own process.

pub mod command;
pub mod config;
pub mod lane;
pub mod passwords;
pub mod ports;
pub mod post;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod wiring;

/// Chooses the one cryptographic provider for every library that asks the process for one. Idempotent.
pub fn install_crypto() {
    // fails only when it was installed before, by a test of the same process
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
