//! Logs to standard error, traces to an OTLP receiver when one is configured.
//!
//! What never gets into either: bodies, headers, query strings, paths (route templates stand for them), secrets.

use std::{
    convert::Infallible,
    io::{self, IsTerminal as _},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    BoxError,
    body::{Body, HttpBody},
    extract::MatchedPath,
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, Request};
use ipnet::IpNet;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use passerby_api::GuestLane;
use passerby_http::{Door, Lane as _};
use tower::{Service, service_fn};
use tracing::{Instrument as _, Subscriber, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Config, LogFormat, TelemetrySettings};

/// The target of request spans; they exist only while traces are exported.
const REQUESTS: &str = "passerby::request";

/// How long the last traces may take to be sent.
const FLUSH: Duration = Duration::from_secs(5);

/// What must be flushed at the end.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and traces of the process, once. Must be called outside of an asynchronous runtime: the exporter
    /// has a blocking client of its own.
    ///
    /// # Errors
    /// When the exporter cannot be made, or logs were set up before.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let traces = config.telemetry.as_ref().map(exporter).transpose()?;
        let terminal = io::stderr().is_terminal();
        let json = match config.log_format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        subscriber(&filter(config.log.as_deref()), json, colours, io::stderr, traces.as_ref())
            .try_init()
            .context("logs cannot be set up")?;
        std::panic::set_hook(Box::new(|panic| {
            // the message may hold what a client sent; the place tells enough
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "a panic, which is a fault of this program; please report it");
        }));
        Ok(Self { traces })
    }

    /// Whether traces are exported.
    pub fn traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Sends what was not sent yet. Blocks.
    pub fn stop(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn exporter(settings: &TelemetrySettings) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", settings.endpoint.trim_end_matches('/')))
        .build()
        .context("traces cannot be exported")?;
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// A bare level is for our own crates: libraries print headers and statements at `debug`.
fn filter(setting: Option<&str>) -> String {
    match setting.map(str::trim) {
        None => "warn,passerby=info".into(),
        Some(level) if level.parse::<LevelFilter>().is_ok() => match level.to_ascii_lowercase().as_str() {
            "off" => "off".into(),
            level => format!("warn,passerby={level}"),
        },
        Some(directives) => directives.into(),
    }
}

fn subscriber<W>(
    filter: &str,
    json: bool,
    colours: bool,
    writer: W,
    traces: Option<&SdkTracerProvider>,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    let logs = if json {
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        layer.compact().with_ansi(colours).boxed()
    };
    // spans are for traces; a log line has its own fields
    let filter = EnvFilter::builder().parse_lossy(filter);
    let logs = logs.with_filter(filter);
    let traces = traces.map(|traces| {
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer("passerby")).with_location(false);
        let ours = Targets::new().with_target("passerby", LevelFilter::INFO);
        layer.with_threads(false).with_target(false).with_filter(ours)
    });
    tracing_subscriber::registry().with(logs).with(traces)
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A method as traces name it (OpenTelemetry's HTTP conventions: what is not known is `_OTHER`).
fn method_word(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// One request in a span of its own. A `traceparent` (W3C Trace Context) counts only when a proxy of ours sent it: a
/// visitor does not decide what is traced.
async fn traced(door: Door<GuestLane>, request: Request<Body>, peer: IpAddr, trusted: Arc<[IpNet]>) -> Response {
    let method = method_word(request.method());
    let lane = GuestLane::pick(request.method(), request.uri().path()).map(|n| GuestLane::ROUTES[n].1);
    let span = tracing::info_span!(
        target: REQUESTS,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = Empty,
        http.response.status_code = Empty,
    );
    if trusted.iter().any(|network| network.contains(&peer.to_canonical())) {
        let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
        // fails only where no exporter listens
        let _ = span.set_parent(parent);
    }
    let response = door.answer(request, peer).instrument(span.clone()).await;
    let route = lane.or_else(|| response.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    span.record("otel.name", route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")));
    if let Some(route) = route {
        span.record("http.route", route);
    }
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// What [`Door::make_service`] is, with a span around every request.
pub fn make_traced_service<B>(
    door: Door<GuestLane>,
    trusted: Vec<IpNet>,
) -> impl Service<
    SocketAddr,
    Response = impl Service<Request<B>, Response = Response, Error = Infallible, Future: Send + 'static>
               + Clone
               + Send
               + 'static
               + use<B>,
    Error = Infallible,
    Future: Send + 'static,
> + Send
+ 'static
+ use<B>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let trusted: Arc<[IpNet]> = trusted.into();
    service_fn(move |peer: SocketAddr| {
        let (door, trusted) = (door.clone(), trusted.clone());
        std::future::ready(Ok(service_fn(move |request: Request<B>| {
            let (door, trusted) = (door.clone(), trusted.clone());
            async move { Ok(traced(door, request.map(Body::new), peer.ip(), trusted).await) }
        })))
    })
}
