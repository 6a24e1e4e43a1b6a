//! The native doors: guests, one's own account, management by API key, and operations. One file per resource; each
//! handler reads the request with the kit, calls one use case of the core and dresses the outcome.

mod api_keys;
mod asking;
mod client;
mod data;
mod device_keys;
mod document;
mod epochs;
mod epochs_stream;
mod events;
mod export;
mod guests;
mod hand_off;
mod identifiers;
mod lane;
mod mailbox;
mod manager;
mod me;
mod merge;
mod operations;
mod outbox;
mod passwords;
mod process;
mod qr;
mod recovery;
mod refresh;
mod schema;
mod schema_account;
mod schema_manage;
mod schema_outbox;
mod sessions;
mod sign_in;
mod templates;
mod users;
mod users_account;
mod users_sessions;
mod view;
mod view_account;

use axum::{Router, routing::get};
use passerby_http::App;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use document::{documents, openapi};
pub use guests::create_guest;
pub use lane::GuestLane;
pub use mailbox::mailbox;
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
        .routes(routes!(sessions::list, sessions::end_all))
        .routes(routes!(sessions::end))
        .routes(routes!(sessions::logout))
        .routes(routes!(export::get))
        .routes(routes!(device_keys::list, device_keys::add))
        .routes(routes!(device_keys::name, device_keys::remove))
        .routes(routes!(device_keys::notices))
        .routes(routes!(hand_off::begin, hand_off::list, hand_off::withdraw))
        .routes(routes!(hand_off::confirm))
        .routes(routes!(hand_off::take))
        .routes(routes!(recovery::make))
        .routes(routes!(recovery::get, recovery::cancel))
        .routes(routes!(recovery::recover))
        .routes(routes!(identifiers::claim, identifiers::list))
        .routes(routes!(identifiers::look, identifiers::remove))
        .routes(routes!(identifiers::verify))
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(passwords::change))
        .routes(routes!(passwords::forgot))
        .routes(routes!(passwords::reset))
        .routes(routes!(merge::merge))
        .routes(routes!(merge::look))
        .routes(routes!(merge::confirm))
        .routes(routes!(merge::undo))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::look, users::patch, users::erase))
        .routes(routes!(users::hold, users::release))
        .routes(routes!(users_account::add))
        .routes(routes!(users_account::remove))
        .routes(routes!(users_account::set_password))
        .routes(routes!(users_account::password_link))
        .routes(routes!(users_sessions::list))
        .routes(routes!(users_sessions::end))
        .routes(routes!(users_sessions::revoke_all))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::look, api_keys::patch, api_keys::remove))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(epochs::get))
        .routes(routes!(templates::list))
        .routes(routes!(templates::look, templates::put, templates::remove))
        .routes(routes!(templates::preview))
        .routes(routes!(events::list))
        .routes(routes!(outbox::dead))
        .routes(routes!(outbox::replay))
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
