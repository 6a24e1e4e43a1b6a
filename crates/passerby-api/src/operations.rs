//! For the platform: health, metrics, and where a visitor of the bare address goes.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::LOCATION};
use passerby_core::{Code, Error};
use passerby_http::{App, Problem, answer, metrics::HttpCollector};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{
    process::ProcessCollector,
    schema::{self, ProblemDetails},
};

/// A store that has not answered by then is not ready.
const PATIENCE: Duration = Duration::from_secs(3);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn ok() -> Response {
    answer::json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())
}

/// Is the process up?
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "Operations",
    responses((status = 200, description = "It is", body = schema::Health))
)]
pub(crate) async fn live() -> Response {
    ok()
}

/// Can requests be served?
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "Operations",
    responses(
        (status = 200, description = "The store answers", body = schema::Health),
        (status = 503, description = "The store does not answer", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ready(State(app): State<App>) -> Response {
    match tokio::time::timeout(PATIENCE, app.core().ready()).await {
        Ok(Ok(())) => ok(),
        Ok(Err(_)) | Err(_) => {
            Problem::from(Error::new(Code::Unavailable, "The store does not answer.").after(Duration::from_secs(1)))
                .into_response()
        }
    }
}

/// Metrics
///
/// In the text form of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "Operations",
    responses((status = 200, description = "Counts and times since the start", body = String, content_type = "application/openmetrics-text"))
)]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ProcessCollector));
    registry.register_collector(Box::new(CoreCollector(app.clone())));
    registry.register_collector(Box::new(HttpCollector(app)));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry).map_err(|_| Problem::internal())?;
    Ok(answer::of(StatusCode::OK, OPEN_METRICS, out))
}

/// `GET /`: to the demo in development, else to the documentation.
pub(crate) async fn home(State(app): State<App>) -> Response {
    let mut response = answer::empty(StatusCode::SEE_OTHER);
    let target = HeaderValue::from_static(if app.http().dev { "/demo" } else { "/docs" });
    response.headers_mut().insert(LOCATION, target);
    response
}

/// Prints what the core counts.
#[derive(Debug)]
struct CoreCollector(App);

impl Collector for CoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.core().counts();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

        let mut metric =
            encoder.encode_descriptor("passerby_guests_created", "Guests made", None, MetricType::Counter)?;
        for (word, counter) in [("stored", &counts.stored), ("floating", &counts.floating)] {
            let labels = [("persistence", word)];
            ConstCounter::new(read(counter)).encode(metric.encode_family(&labels)?)?;
        }
        for (name, help, counter) in [
            ("passerby_guests_kept", "Floating guests that got their row", &counts.kept),
            ("passerby_guests_resumed", "Creations answered with the guest that was there", &counts.resumed),
            ("passerby_creations_limited", "Creations refused by a limit", &counts.limited),
            ("passerby_tokens_refreshed", "Refresh tokens rotated", &counts.refreshed),
            ("passerby_refresh_tokens_reused", "Sessions ended by an old refresh token", &counts.reused),
            ("passerby_profile_edits", "Edits of profile data", &counts.edits),
            ("passerby_users_erased", "Users erased", &counts.erased),
            ("passerby_messages_delivered", "Messages that arrived", &counts.messages_delivered),
            ("passerby_message_tries_failed", "Tries to deliver that are made again", &counts.messages_failed),
            ("passerby_messages_dead", "Messages that were given up", &counts.messages_dead),
            ("passerby_sign_ins", "Sign-ins to accounts", &counts.sign_ins),
            ("passerby_sign_ins_refused", "Sign-ins refused for a wrong password or code", &counts.sign_ins_refused),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(read(counter)).encode(metric)?;
        }
        let help = "Streams of raised epochs that are open";
        let metric = encoder.encode_descriptor("passerby_epoch_streams", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.0.core().epoch_streams() as i64).encode(metric)?;
        let help = "Messages that are due, as far as the runner looks: at most some dozen of a kind";
        let metric = encoder.encode_descriptor("passerby_outbox_waiting", help, None, MetricType::Gauge)?;
        ConstGauge::new(read(&counts.outbox_waiting) as i64).encode(metric)?;
        let help = "1 while deleting jobs hold still because the clock is not trusted";
        let metric = encoder.encode_descriptor("passerby_clock_distrusted", help, None, MetricType::Gauge)?;
        ConstGauge::new(read(&counts.clock_distrusted) as i64).encode(metric)
    }
}
