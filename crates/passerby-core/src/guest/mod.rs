//! Making guests: create or resume, floating or stored, by the native API and by the Auth0 dialect's plain way in.

mod anonymous;
mod by_key;
mod create;
mod ensure;

pub use anonymous::{AnonymousAnswer, AnonymousToken};
pub(crate) use create::CreationKey;
pub(crate) use ensure::only_guests;
pub use ensure::{Cookie, EnsureGuest, Ensured};
