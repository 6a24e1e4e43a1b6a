//! What leaves the server: mail, short messages, guarded HTTP calls, and the templates that operators edit.
//!
//! This is the one place that opens connections to hosts named by settings or tenants. Nothing here decides whether
//! something is sent, keeps a row or reads the clock: what is due comes in, and what became of it goes out, with the one
//! question answered that an outbox has: would it help to try again?

pub mod guard;
pub mod mail;
pub mod sms;
pub mod template;
mod tls;
pub mod web;
