//! What tests of several crates need and the product never has: throw-away servers, folders, ports, certificates.
//!
//! A helper that cannot do its work panics with what is missing: a test must never pass because something was not there.

pub mod certificate;
pub mod postgres;

use std::net::TcpListener;

pub use tempfile::TempDir;

/// A loopback port that was free a moment ago. Another process may take it before it is used.
///
/// # Panics
/// When the system gives none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
    listener.local_addr().expect("its number").port()
}

/// A folder of its own, removed when the value is dropped.
///
/// # Panics
/// When none can be made.
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("passerby-test-").tempdir().expect("a temporary folder")
}
