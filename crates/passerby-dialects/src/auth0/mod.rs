//! Auth0's Anonymous Sessions (`reference/auth0.md` sections 1 to 3): `POST /anonymous/token`, which is also the plain
//! way in, since it needs nothing but a client id. While the dialect is off for a tenant, ids are bare; the path stays.

mod error;
mod routes;
mod wire;

pub use routes::anonymous_token;
pub(crate) use routes::routes;
