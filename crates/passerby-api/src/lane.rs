//! The two hottest routes, past the router.

use axum::{extract::Request, response::Response};
use http::Method;
use passerby_http::{App, Lane, Visit};

use crate::{guests::create_guest, me::get_me};

/// `POST /v1/guests` and `GET /v1/me` without routing.
#[derive(Debug, Clone, Copy)]
pub struct GuestLane;

const CREATE: usize = 0;
const ME: usize = 1;

impl Lane for GuestLane {
    const ROUTES: &'static [(&'static str, &'static str)] = &[("POST", "/v1/guests"), ("GET", "/v1/me")];

    fn pick(method: &Method, path: &str) -> Option<usize> {
        match (method, path) {
            (&Method::POST, "/v1/guests") => Some(CREATE),
            (&Method::GET, "/v1/me") => Some(ME),
            _ => None,
        }
    }

    async fn serve(route: usize, app: &App, visit: Visit, request: Request) -> Response {
        if route == CREATE { create_guest(app, visit, request).await } else { get_me(app, visit, request).await }
    }
}
