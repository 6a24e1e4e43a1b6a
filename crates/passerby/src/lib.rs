//! The program: configuration, wiring and the process around the doors. A library beside the binary, so that tests can
//! build the whole application in their own process.

pub mod config;
pub mod ports;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod wiring;
