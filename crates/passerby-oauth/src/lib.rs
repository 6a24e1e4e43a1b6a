//! The OAuth 2.0 and OpenID Connect door: discovery, keys, `/oauth2/{token,userinfo,introspect,revoke}`. Each handler
//! reads a request, calls one use case and dresses the outcome in OAuth's own form.
//!
//! What dialects share with it is public: [`Claim`] (how a client names itself and authenticates), [`read_body`] and
//! [`TokenRequest`] (form or JSON), [`OAuthError`] (`error` and `error_description`).

mod claim;
mod discovery;
mod error;
mod exchange;
mod grants;
mod introspect;
mod request;
mod revoke;
mod token;
mod userinfo;

use axum::Router;
use passerby_http::App;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use claim::{Claim, ClaimFields};
pub use error::{ErrorBody, OAuthError};
pub use request::{GuestFields, Payload, ProofFields, TokenFields, TokenRequest, one_audience, read_body};

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(discovery::openid_configuration))
        .routes(routes!(discovery::authorization_server))
        .routes(routes!(discovery::jwks))
        .routes(routes!(token::token))
        .routes(routes!(userinfo::userinfo, userinfo::userinfo_by_post))
        .routes(routes!(introspect::introspect))
        .routes(routes!(revoke::revoke))
}

/// The routes of this door.
pub fn routes() -> Router<App> {
    documented().split_for_parts().0
}

/// What OpenAPI says about them; the native door merges it into its document.
pub fn openapi() -> OpenApi {
    documented().split_for_parts().1
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_route_is_described() {
        let paths: Vec<String> = super::openapi().paths.paths.keys().cloned().collect();
        assert_eq!(
            paths,
            [
                "/.well-known/jwks.json",
                "/.well-known/oauth-authorization-server",
                "/.well-known/openid-configuration",
                "/oauth2/introspect",
                "/oauth2/revoke",
                "/oauth2/token",
                "/oauth2/userinfo",
            ]
        );
    }
}
