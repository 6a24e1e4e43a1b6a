//! The outer service that every request passes, whichever door it goes to: tenant, true address, CORS, the way to a
//! handler, panics, common headers, metrics and the log line.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    BoxError, Router,
    body::{Body, HttpBody},
    extract::MatchedPath,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{
    HeaderValue, Request, StatusCode,
    header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
};
use tokio::task::yield_now;
use tower::{Service, service_fn};

use crate::{
    App, Lane, NoLane, Problem, Visit,
    address::client_address,
    answer::NO_STORE,
    cors::Grant,
    metrics::{Series, method_word},
    proof::Shown,
    tenant::take_tenant,
    visit::peer,
};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// What metrics call a request that no route took.
const UNMATCHED: &str = "unmatched";
/// What metrics call a preflight.
const PREFLIGHT: &str = "preflight";

struct Inner<L> {
    app: App,
    router: Router,
    /// Series of the lane's routes, in its order.
    hot: Vec<Arc<Series>>,
    lane: std::marker::PhantomData<fn() -> L>,
}

/// All doors behind the outer service. Cheap to clone. Asked by [`Door::answer`], or as a [`Service`] (tests, and
/// whoever wants one: it boxes its future).
pub struct Door<L = NoLane>(Arc<Inner<L>>);

impl<L> Clone for Door<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L> std::fmt::Debug for Door<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

/// Puts a router behind the outer service.
pub fn finish(router: Router<App>, app: App) -> Door {
    finish_with::<NoLane>(router, app)
}

/// The same with a lane past the router.
pub fn finish_with<L: Lane>(router: Router<App>, app: App) -> Door<L> {
    let router = router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(from_fn(tell_route))
        .with_state(app.clone());
    let hot = L::ROUTES.iter().map(|(method, route)| app.metrics().series(method, route)).collect();
    Door(Arc::new(Inner { app, router, hot, lane: std::marker::PhantomData }))
}

/// Tells the outer service which route the router took.
async fn tell_route(route: Option<MatchedPath>, request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

impl<L: Lane> Door<L> {
    /// Answers one request that came from `peer`.
    pub async fn answer(&self, mut request: Request<Body>, peer: IpAddr) -> Response {
        let start = Instant::now();
        let inner = &*self.0;
        let app = &inner.app;
        let _in_flight = app.metrics().enter();

        let shown = Shown::of(request.headers());
        shown.keep_target(peer, &mut request);
        let (tenant, grant) = {
            let tables = app.tables();
            let tenant = take_tenant(&tables, &mut request);
            let grant = Grant::of(&tables, tenant.as_ref().ok().copied().flatten(), &request);
            (tenant, grant)
        };
        let method = method_word(request.method());
        let mut series = None;

        let mut response = if let Some(response) = grant.preflight(&request) {
            series = Some(app.metrics().series(method, PREFLIGHT));
            response
        } else if let Ok(tenant) = tenant {
            let address = client_address(peer, request.headers(), &app.http().trusted_proxies);
            let visit = Visit { address, tenant };
            let lane = L::pick(request.method(), request.uri().path());
            series = lane.and_then(|route| inner.hot.get(route)).cloned();
            let response = AssertUnwindSafe(inner.route(lane, visit, request)).catch_unwind().await;
            if lane.is_some() {
                // answers of one turn of the event loop leave together: each single one would wake a sleeping client
                yield_now().await;
            }
            response.unwrap_or_else(|_| {
                tracing::error!("a handler panicked");
                Problem::internal().into_response()
            })
        } else {
            Problem::not_found().into_response()
        };

        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, NO_STORE);
        }
        shown.answer(app, status, headers);
        grant.write(headers);

        let series = series.unwrap_or_else(|| {
            let route = response.extensions().get::<MatchedPath>().map_or(UNMATCHED, MatchedPath::as_str);
            app.metrics().series(method, route)
        });
        let took = start.elapsed();
        series.observe(status, took);
        log(&series, status, took);
        response
    }

    /// The same as a service for one peer's connection. Its future is not boxed.
    pub fn at_peer<B>(
        &self,
        peer: IpAddr,
    ) -> impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
    + use<B, L>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let door = self.clone();
        service_fn(move |request: Request<B>| {
            let door = door.clone();
            async move { Ok(door.answer(request.map(Body::new), peer).await) }
        })
    }

    /// A service for each connection: what a server that accepts connections asks for.
    pub fn make_service<B>(
        self,
    ) -> impl Service<
        SocketAddr,
        Response = impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>
                   + Clone
                   + Send
                   + 'static
                   + use<B, L>,
        Error = Infallible,
        Future: Send + 'static,
    >
    + Clone
    + Send
    + 'static
    + use<B, L>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        service_fn(move |peer: SocketAddr| std::future::ready(Ok(self.at_peer::<B>(peer.ip()))))
    }

    /// As a router, for whatever wants one; a peer must come as `ConnectInfo<SocketAddr>`.
    pub fn into_router(self) -> Router {
        Router::new().fallback_service(self)
    }
}

impl<L: Lane> Inner<L> {
    async fn route(&self, lane: Option<usize>, visit: Visit, mut request: Request<Body>) -> Response {
        if let Some(route) = lane {
            return L::serve(route, &self.app, visit, request).await;
        }
        request.extensions_mut().insert(visit);
        self.router.clone().call(request).await.unwrap_or_else(|never| match never {})
    }
}

impl<L: Lane> Service<Request<Body>> for Door<L> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let peer = peer(request.extensions());
            Ok(door.answer(request, peer).await)
        })
    }
}

/// One line a request: the route's template, never the path or the query, which may hold credentials.
fn log(series: &Series, status: StatusCode, took: Duration) {
    let (method, route, status) = (series.method(), series.route(), status.as_u16());
    let micros = took.as_micros() as u64;
    if status >= 500 {
        tracing::info!(method, route, status, micros, "answered");
    } else {
        tracing::debug!(method, route, status, micros, "answered");
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        extract::State,
        routing::{get, post},
    };
    use http::HeaderMap;
    use http_body_util::BodyExt as _;
    use passerby_core::{Code, Error};
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;
    use crate::{
        HttpSettings,
        metrics::HttpCollector,
        testing::{SECOND, app},
    };

    /// Serves `/hot` past the router.
    struct Hot;

    impl Lane for Hot {
        const ROUTES: &'static [(&'static str, &'static str)] = &[("GET", "/hot")];

        fn pick(method: &http::Method, path: &str) -> Option<usize> {
            (method == http::Method::GET && path == "/hot").then_some(0)
        }

        async fn serve(_: usize, _: &App, visit: Visit, request: Request<Body>) -> Response {
            assert!(request.uri().query() != Some("panic"), "as asked");
            visit.address.to_string().into_response()
        }
    }

    async fn door(trusted: &[&str]) -> Door<Hot> {
        let trusted_proxies = trusted.iter().map(|n| n.parse().unwrap()).collect();
        let app = app(HttpSettings { trusted_proxies, ..HttpSettings::default() }).await;
        let routes = Router::new()
            .route("/things/{id}", get(|visit: Visit| async move { format!("{:?}", visit.tenant.map(|t| t.0)) }))
            .route("/things", post(|| async { "made" }))
            .route("/kept", get(|| async { ([(CACHE_CONTROL, "public")], "kept") }))
            .route("/denied", get(|| async { Problem::invalid_token("x") }))
            .route("/client", get(|| async { Problem::from(Error::new(Code::InvalidClient, "x")) }))
            .route("/asked", get(tell_proof))
            .route("/panic", get(async || -> &'static str { panic!("secret reason") }));
        finish_with::<Hot>(routes, app)
    }

    async fn tell_proof(State(app): State<App>, visit: Visit, request: Request<Body>) -> String {
        let (parts, _) = request.into_parts();
        visit.caller(&app, &parts).proof.map_or("no proof".into(), |p| format!("{} {}", p.method, p.path))
    }

    async fn ask(door: &Door<Hot>, request: http::request::Builder) -> (u16, HeaderMap, String) {
        let response = door.answer(request.body(Body::empty()).unwrap(), "10.0.0.1".parse().unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn refusals_of_the_router_are_problems() {
        let door = door(&[]).await;
        for (method, path, status, code) in [
            ("GET", "/nothing", 404, "not_found"),
            ("GET", "/t/unknown/things/1", 404, "not_found"),
            ("DELETE", "/things/1", 405, "method_not_allowed"),
            ("BREW", "/things/1", 405, "method_not_allowed"),
            ("GET", "/panic", 500, "internal"),
            ("GET", "/hot?panic", 500, "internal"),
            ("OPTIONS", "*", 404, "not_found"),
        ] {
            let (got, headers, body) = ask(&door, Request::builder().method(method).uri(path)).await;
            assert_eq!(got, status, "{method} {path}");
            assert_eq!(headers["content-type"], "application/problem+json");
            assert_eq!(headers["cache-control"], "no-store");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert!(body.contains(&format!("\"code\":\"{code}\"")) && !body.contains("secret"), "{body}");
            assert_eq!(headers.contains_key("allow"), status == 405);
        }
        let (_, headers, _) = ask(&door, Request::builder().method("DELETE").uri("/things/1")).await;
        assert_eq!(headers["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn both_ways_pass_the_same_outer_service() {
        let door = door(&["10.0.0.0/8"]).await;
        let origin = "https://app.second.example";
        let below = |path: &str| Request::builder().uri(format!("/t/{SECOND}{path}")).header("origin", origin);

        let (status, headers, body) = ask(&door, below("/hot").header("x-forwarded-for", "198.51.100.1")).await;
        assert_eq!((status, &*body), (200, "198.51.100.1"));
        assert_eq!(headers["access-control-allow-origin"], origin);
        let (status, headers, body) = ask(&door, below("/things/7?x=1")).await;
        assert_eq!((status, &*body), (200, "Some(2)"));
        assert_eq!(headers["access-control-allow-origin"], origin);
        let (status, headers, _) = ask(&door, below("/nothing")).await;
        assert_eq!((status, &headers["access-control-allow-credentials"]), (404, &HeaderValue::from_static("true")));

        let (status, headers, body) = ask(&door, Request::builder().method("HEAD").uri("/things/7")).await;
        assert_eq!((status, &*body), (200, ""));
        assert!(!headers.contains_key("vary"), "no Origin, no work");

        let preflight = below("/things").method("OPTIONS").header("access-control-request-method", "POST");
        let (status, headers, _) = ask(&door, preflight).await;
        assert_eq!((status, &headers["access-control-max-age"]), (204, &HeaderValue::from_static("600")));
        assert_eq!(headers["access-control-allow-origin"], origin);
    }

    #[tokio::test]
    async fn a_nonce_for_who_proves_a_key_and_for_nobody_else() {
        let door = door(&[]).await;
        let gone = "/t/44444444-4444-4444-8444-444444444444/hot";
        for path in ["/hot", "/things/7", "/nothing", "/panic", "/kept", "/denied", gone] {
            let (plain, headers, _) =
                ask(&door, Request::builder().uri(path).header("authorization", "Bearer x")).await;
            assert!(!headers.contains_key("dpop-nonce"), "{path}");
            for (name, value) in
                [("dpop", ""), ("dpop", "x.y.z"), ("authorization", "DPoP x"), ("authorization", "dpop")]
            {
                let (status, headers, _) = ask(&door, Request::builder().uri(path).header(name, value)).await;
                assert_eq!(status, plain, "{path}");
                let nonce = headers["dpop-nonce"].to_str().unwrap();
                assert!(nonce.len() >= 16 && nonce.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)));
                assert_eq!(headers.get_all("dpop-nonce").iter().count(), 1);
                assert_eq!(headers["cache-control"], "no-store", "nobody gets another one's nonce: {path}");
            }
        }
        let (_, headers, _) = ask(&door, Request::builder().uri("/kept")).await;
        assert_eq!(headers["cache-control"], "public");
        let origin = "https://app.first.example";
        let (_, headers, _) =
            ask(&door, Request::builder().uri("/hot").header("dpop", "x").header("origin", origin)).await;
        assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("DPoP-Nonce"));
    }

    #[tokio::test]
    async fn who_used_the_scheme_is_challenged_by_it() {
        let door = door(&[]).await;
        let challenge = async |path: &str, name: &str, value: &str| {
            let (_, headers, _) = ask(&door, Request::builder().uri(path).header(name, value)).await;
            headers.get("www-authenticate").map(|v| v.to_str().unwrap().to_owned())
        };
        let bearer = Some("Bearer realm=\"passerby\", error=\"invalid_token\"".to_owned());
        assert_eq!(challenge("/denied", "authorization", "Bearer x").await, bearer);
        assert_eq!(challenge("/denied", "dpop", "x").await, bearer, "a proof beside another credential");
        let dpop = Some("DPoP error=\"invalid_token\", algs=\"ES256 EdDSA RS256\"".to_owned());
        assert_eq!(challenge("/denied", "authorization", "DPoP x").await, dpop);
        let client = challenge("/client", "authorization", "DPoP x").await;
        assert_eq!(client.as_deref(), Some("Bearer realm=\"passerby\", error=\"invalid_client\""), "it is no token's");
        assert_eq!(challenge("/hot", "authorization", "DPoP x").await, None);
    }

    #[tokio::test]
    async fn a_proof_names_the_path_that_was_asked_for() {
        let door = door(&[]).await;
        let path = format!("/t/{SECOND}/asked");
        let (_, _, body) = ask(&door, Request::builder().uri(format!("{path}?x=1")).header("dpop", "p")).await;
        assert_eq!(body, format!("GET {path}"));
        let (_, _, body) = ask(&door, Request::builder().uri("/asked?x=1").header("dpop", "p")).await;
        assert_eq!(body, "GET /asked");
        let (_, _, body) = ask(&door, Request::builder().uri("/asked")).await;
        assert_eq!(body, "no proof");
    }

    #[tokio::test]
    async fn metrics_name_templates_and_never_paths() {
        let door = door(&[]).await;
        for path in ["/things/secret-1", "/things/secret-2?code=secret", "/hot", "/secret"] {
            ask(&door, Request::builder().uri(path)).await;
        }
        ask(&door, Request::builder().method("SECRET").uri("/hot")).await;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(HttpCollector(door.0.app.clone())));
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "passerby_http_requests_total{method=\"GET\",route=\"/things/{id}\",status=\"200\"} 2",
            "passerby_http_requests_total{method=\"GET\",route=\"/hot\",status=\"200\"} 1",
            "passerby_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
            "passerby_http_requests_total{method=\"other\",route=\"unmatched\",status=\"404\"} 1",
            "passerby_http_request_duration_seconds_count{method=\"GET\",route=\"/things/{id}\"} 2",
            "passerby_http_requests_in_flight 0",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
        assert!(!out.contains("secret") && out.ends_with("# EOF\n"), "{out}");
    }

    #[tokio::test]
    async fn services() {
        let door = door(&[]).await;
        let mut connection = door.clone().make_service::<Body>();
        let mut service = connection.call("192.0.2.1:5".parse().unwrap()).await.unwrap();
        let response = service.call(Request::get("/hot").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "192.0.2.1");
        let mut router = door.into_router();
        let response = router.call(Request::get("/hot").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "127.0.0.1");
    }
}
