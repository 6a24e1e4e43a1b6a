//! The kit of every door: who asks and from where, strict bodies, problems, cookies, CORS, metrics, and the one outer
//! service that every request passes. It knows HTTP and the core, no route and no rule.
//!
//! A door's handler takes the whole request, reads it with this kit, calls one use case and dresses the outcome:
//! [`Visit`] (client address, tenant, [`Visit::caller`]) → [`Authorization`], [`cookies`] → [`Body limits`](App::body)
//! and [`json::parse`] or [`form::parse`] → use case → [`answer`] or [`Problem`].
//! [`finish`] puts a router behind the outer service [`Door`].

mod address;
pub mod answer;
mod app;
mod authorization;
mod body;
mod challenge;
pub mod cookies;
mod cors;
mod door;
pub mod form;
mod header;
pub mod json;
mod lane;
pub mod metrics;
mod problem;
mod proof;
mod refusal;
mod tenant;
mod visit;

pub use app::{App, HttpSettings};
pub use authorization::{Authorization, Malformed};
pub use body::MediaType;
pub use challenge::Challenge;
pub use door::{Door, finish, finish_with};
pub use header::{etag, idempotency_key, if_none_match, one};
pub use lane::{Lane, NoLane};
pub use problem::{Problem, status_of};
pub use refusal::Refusal;
pub use visit::Visit;

#[cfg(test)]
mod testing;
