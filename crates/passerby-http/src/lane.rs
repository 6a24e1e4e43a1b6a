//! The lane past the router: the hottest routes are matched by hand and called as plain functions. Limits, tenant,
//! CORS, metrics and logs are the outer service's and hold for both ways.

use std::future::Future;

use axum::{body::Body, response::Response};
use http::{Method, Request};

use crate::{App, Visit};

/// Routes that are served before the router. What it serves must answer exactly as the router's route would.
pub trait Lane: Send + Sync + 'static {
    /// Method and template of each route, by which metrics name it.
    const ROUTES: &'static [(&'static str, &'static str)];

    /// The place in [`Self::ROUTES`] of the route that serves this request; `None` leaves it to the router.
    fn pick(method: &Method, path: &str) -> Option<usize>;

    /// Answers a request that [`Self::pick`] took.
    fn serve(route: usize, app: &App, visit: Visit, request: Request<Body>) -> impl Future<Output = Response> + Send;
}

/// No lane: everything goes to the router.
#[derive(Debug, Clone, Copy)]
pub struct NoLane;

impl Lane for NoLane {
    const ROUTES: &'static [(&'static str, &'static str)] = &[];

    fn pick(_: &Method, _: &str) -> Option<usize> {
        None
    }

    async fn serve(_: usize, _: &App, _: Visit, _: Request<Body>) -> Response {
        axum::response::IntoResponse::into_response(crate::Problem::not_found())
    }
}
