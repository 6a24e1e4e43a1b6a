//! Storage engines behind [`passerby_core::port::Store`]: a SQLite file, or a server that speaks PostgreSQL's protocol.

pub mod open;
mod plan;
mod postgres;
mod sqlite;

pub use open::{Grouping, OpenError, OpenOptions, open};
