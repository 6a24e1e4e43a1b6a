//! The native doors: guests, one's own account, and operations. One file per resource; each handler reads the request
//! with the kit, calls one use case of the core and dresses the outcome.

mod client;
mod data;
mod document;
mod export;
mod guests;
mod lane;
mod me;
mod operations;
mod process;
mod refresh;
mod schema;
mod sessions;
mod view;

use axum::{Router, routing::get};
use passerby_http::App;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use document::{documents, openapi};
pub use guests::create_guest;
pub use lane::GuestLane;
pub use me::get_me;

/// The routes of the native API and of operations. The description and its page are [`documents`].
pub fn routes() -> Router<App> {
    Router::from(native()).route("/", get(operations::home))
}

/// Routes together with their description, so that none is without the other.
fn native() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(guests::post_guest))
        .routes(routes!(refresh::post_refresh))
        .routes(routes!(me::get, me::erase))
        .routes(routes!(data::patch))
        .routes(routes!(data::operations))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::end))
        .routes(routes!(sessions::logout))
        .routes(routes!(export::get))
        .routes(routes!(operations::live))
        .routes(routes!(operations::ready))
        .routes(routes!(operations::metrics))
}

#[cfg(test)]
use passerby_http::HttpSettings;

// one set of tenants and one store for the tests of both crates
#[cfg(test)]
#[path = "../../passerby-http/src/testing.rs"]
mod testing;
#[cfg(test)]
mod tests;
