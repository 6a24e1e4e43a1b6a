//! The pages that Passerby serves to people: HTML, style and script, embedded in the binary.
//!
//! A page here is a client like any other. It holds no rule and calls no use case: what it shows it asks of the native
//! API by `fetch`. So this crate needs no store, and nothing is rendered from what a visitor sent.

mod asset;
mod demo;
mod hand_off;

pub use demo::{Demo, demo};
pub use hand_off::routes;
