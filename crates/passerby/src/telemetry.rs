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
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
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

use crate::{
    config::{Config, LogFormat, TelemetrySettings},
    lane::HotLane,
};

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
async fn traced(door: Door<HotLane>, request: Request<Body>, peer: IpAddr, trusted: Arc<[IpNet]>) -> Response {
    let method = method_word(request.method());
    let lane = HotLane::pick(request.method(), request.uri().path()).map(|n| HotLane::ROUTES[n].1);
    let span = tracing::info_span!(
        target: REQUESTS,
        "request",
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
    // by its own handle: a name that is recorded after the start would be dropped
    span.context().span().update_name(route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")));
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
    door: Door<HotLane>,
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
>
+ Send
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        sync::Mutex,
        thread,
    };

    use passerby_core::{
        Ports,
        secret::MasterKey,
        testing::{ManualClock, SeededRandom},
    };

    use super::*;
    use crate::{
        config::{Overrides, Place},
        wiring,
    };

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(setting: Option<&str>, json: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(&filter(setting), json, false, move || writer.clone(), None);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn one_json_object_or_text_line_an_event() {
        let event =
            || tracing::info!(target: "passerby_http::door", route = "/v1/me", status = 200, "answered\nforged");
        let json: serde_json::Value = serde_json::from_str(&logged(None, true, event)).unwrap();
        assert_eq!((&json["level"], &json["route"], &json["status"]), (&"INFO".into(), &"/v1/me".into(), &200.into()));
        let text = logged(None, false, event);
        assert!(text.contains("route=\"/v1/me\"") && text.lines().count() <= 2, "{text}");
    }

    #[test]
    fn a_bare_level_is_for_our_crates_only() {
        let events = || {
            tracing::debug!(target: "passerby_core::job", "ours");
            tracing::debug!(target: "h2::codec", "theirs");
            tracing::warn!(target: "h2::codec", "their warning");
        };
        let seen = |setting| {
            let text = logged(setting, true, events);
            (text.contains("ours"), text.contains("theirs"), text.contains("their warning"))
        };
        assert_eq!(seen(None), (false, false, true));
        assert_eq!(seen(Some("debug")), (true, false, true));
        assert_eq!(seen(Some("off")), (false, false, false));
        assert_eq!(seen(Some("h2=debug")), (false, true, true));
    }

    /// Takes one request and gives its path and body.
    fn collector() -> (String, thread::JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let taken = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut path, mut length) = (String::new(), 0);
            stream.read_line(&mut path).unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            (path, body)
        });
        (endpoint, taken)
    }

    #[test]
    fn requests_are_exported_by_route_and_without_what_was_sent() {
        crate::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", folder.path().join("t.db").display());
        let (endpoint, taken) = collector();
        let endpoint = crate::config::At { value: endpoint, place: Place::from_source("test", "") };
        let traces = exporter(&TelemetrySettings { endpoint, service_name: "under-test".into() }).unwrap();
        let subscriber = subscriber("off", true, false, io::sink, Some(&traces));
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let config = crate::config::Config::development(&Overrides::default()).unwrap();
                let ports = Ports {
                    store: passerby_store::open(&store, &passerby_store::OpenOptions::default()).await.unwrap(),
                    clock: Arc::new(ManualClock::new(passerby_core::Timestamp::from_seconds(1_790_000_000))),
                    random: Arc::new(SeededRandom::new(1)),
                    post: Arc::new(crate::post::Outbound::new(&config).unwrap()),
                    passwords: wiring::passwords(&config, 1).unwrap(),
                };
                let application = wiring::build(&config, ports, &MasterKey::new([7; 32])).await.unwrap();
                let trusted: Arc<[IpNet]> = vec!["10.0.0.0/8".parse().unwrap()].into();
                for (peer, path) in
                    [("10.0.0.1", "/v1/me?canary=1"), ("192.0.2.1", "/nothing/canary"), ("10.0.0.1", "/health/live")]
                {
                    let request =
                        Request::builder().uri(path).header("traceparent", parent).body(Body::empty()).unwrap();
                    traced(application.door.clone(), request, peer.parse().unwrap(), trusted.clone()).await;
                }
                application.core.stop().await;
            });
        });
        Telemetry { traces: Some(traces) }.stop();
        let (path, body) = taken.join().unwrap();
        assert!(path.starts_with("POST /v1/traces "), "{path}");
        let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
        for part in ["under-test", "GET /v1/me", "GET /health/live", "http.response.status_code"] {
            assert!(has(part.as_bytes()), "{part} is not in {}", String::from_utf8_lossy(&body));
        }
        assert!(!has(b"canary"), "neither paths nor queries");
        let trace_id = [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];
        assert_eq!(body.windows(16).filter(|w| **w == trace_id).count(), 2, "a stranger's traceparent does not count");
    }
}
