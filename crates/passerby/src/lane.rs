//! The hottest routes of all doors, past the router. Doors may not name each other, so they are joined here.

use axum::{body::Body, response::Response};
use http::{Method, Request};
use passerby_api::GuestLane;
use passerby_dialects::auth0::anonymous_token;
use passerby_http::{App, Lane, Visit};

/// `POST /v1/guests`, `GET /v1/me` and `POST /anonymous/token` without routing.
#[derive(Debug, Clone, Copy)]
pub struct HotLane;

const ANONYMOUS: usize = GuestLane::ROUTES.len();

impl Lane for HotLane {
    const ROUTES: &'static [(&'static str, &'static str)] =
        &[GuestLane::ROUTES[0], GuestLane::ROUTES[1], ("POST", "/anonymous/token")];

    fn pick(method: &Method, path: &str) -> Option<usize> {
        GuestLane::pick(method, path)
            .or_else(|| (*method == Method::POST && path == Self::ROUTES[ANONYMOUS].1).then_some(ANONYMOUS))
    }

    async fn serve(route: usize, app: &App, visit: Visit, request: Request<Body>) -> Response {
        if route == ANONYMOUS {
            anonymous_token(app, visit, request).await
        } else {
            GuestLane::serve(route, app, visit, request).await
        }
    }
}
