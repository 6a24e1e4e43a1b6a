//! Doors in the words of other vendors: their SDKs talk to Passerby unmodified. A dialect translates requests into use
//! cases and outcomes into the vendor's form; it has no rule of its own, and none knows another.

pub mod auth0;

use axum::Router;
use passerby_http::App;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// A vendor's wire.
struct Dialect {
    /// Its routes, with what OpenAPI says about them.
    routes: fn() -> OpenApiRouter<App>,
}

/// All of them. A new one is a line here.
const DIALECTS: [Dialect; 1] = [Dialect { routes: auth0::routes }];

fn documented() -> OpenApiRouter<App> {
    DIALECTS.iter().fold(OpenApiRouter::new(), |all, dialect| all.merge((dialect.routes)()))
}

/// The routes of all dialects.
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
        assert_eq!(paths, ["/anonymous/token"]);
    }
}
