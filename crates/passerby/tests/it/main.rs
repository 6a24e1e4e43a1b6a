//! Every door through the whole router, on both stores, and the process itself. One binary.
#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc)]

mod app;
mod anonymous;
mod architecture;
mod creation;
mod hostile;
mod lifetimes;
mod oauth;
mod process;
mod profile;
mod refresh;
mod tokens;
mod web;
mod wire;
