//! The pages that Passerby serves to people: HTML, style and script, embedded in the binary.
//!
//! A page here is a client like any other. It holds no rule and calls no use case: what it shows it asks of the native
//! API by `fetch`, with the visitor's own cookie. So this crate needs neither the core nor the store, and nothing is
//! rendered from what a visitor sent.

mod demo;

pub use demo::demo;
