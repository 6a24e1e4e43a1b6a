//! The pages that Passerby serves to people: HTML, style and script, embedded in the binary.
//!
//! A page with a script is a client like any other. It holds no rule and calls no use case: what it shows it asks of the
//! native API by `fetch`. The pages of links in messages work without script: the server writes them, from what one use case
//! of the core answers, every text of others escaped.

mod asset;
mod card;
mod demo;
mod hand_off;
mod link;
mod mailbox;

pub use demo::{Demo, demo};
pub use mailbox::mailbox;

/// The pages that are always there: `/ui/hand-off`, `/ui/link` and `/ui/password`, with what they need beside them.
pub fn routes() -> axum::Router<passerby_http::App> {
    hand_off::routes().merge(link::routes())
}
