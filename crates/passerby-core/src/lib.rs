//! The rules of Passerby. They live here once; doors translate and engines store. Nothing in this crate knows HTTP,
//! SQL, a file, the environment or the clock: time and randomness come through the ports.
//!
//! Inner order, lowest first: `time`, `id`, `error` → `profile` → `model` → `port` → `settings` → `token` → the handle
//! [`Passerby`] with its use cases (`guest`, `session`, `oauth`, `key`) → `job`.

/// A `Debug` that names the type and nothing in it: what holds credentials shall not reach a log by accident.
macro_rules! opaque_debug {
    ($($name:ident $(<$life:lifetime>)?),+ $(,)?) => {
        $(impl std::fmt::Debug for $name $(<$life>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })+
    };
}

pub mod account;
pub mod api_key;
pub mod caller;
mod client;
pub mod code;
pub mod device;
mod dpop;
pub mod epoch;
pub mod error;
pub mod guest;
pub mod hand_off;
mod hold;
pub mod id;
pub mod identifier;
mod job;
pub mod key;
mod limit;
pub mod manage;
pub mod me;
pub mod merge;
pub mod message;
mod mint;
pub mod model;
pub mod notice;
pub mod oauth;
pub mod outbox;
mod passerby;
pub mod password;
pub mod port;
pub mod profile;
pub mod recovery;
pub mod renew;
pub mod secret;
pub mod settings;
pub mod testing;
pub mod time;
pub mod token;

pub use error::{Code, Error};
pub use passerby::{Counts, Passerby, Ports};
pub use time::Timestamp;
