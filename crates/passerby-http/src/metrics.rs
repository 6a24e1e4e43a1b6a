//! What was asked and how it went: a count by method, route and status, and how long answers took. A request costs a
//! few atomic additions on a series that the hot routes resolve once.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::App;

/// Upper bounds in microseconds.
const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Statuses counted by themselves; any other goes to the last place, 0.
const STATUSES: [u16; 27] = [
    200, 201, 202, 204, 302, 303, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 429, 500, 501, 503, 507,
    206, 301, 307, 0,
];

/// One method of one route.
#[derive(Debug)]
pub struct Series {
    method: &'static str,
    route: Box<str>,
    statuses: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Series {
    fn new(method: &'static str, route: &str) -> Self {
        Self {
            method,
            route: route.into(),
            statuses: [const { AtomicU64::new(0) }; _],
            buckets: [const { AtomicU64::new(0) }; _],
            micros: AtomicU64::new(0),
        }
    }

    /// The method.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The route's template.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Counts an answer.
    pub fn observe(&self, status: StatusCode, took: Duration) {
        let place = STATUSES.iter().position(|&s| s == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        self.statuses[place].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|&bound| micros <= bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Series by method and route.
type Routes = HashMap<&'static str, HashMap<Box<str>, Arc<Series>>>;

/// All series of a process.
#[derive(Default)]
pub struct HttpMetrics {
    // routes are few and known after the first requests: nearly all look-ups only read
    series: RwLock<Routes>,
    in_flight: AtomicU64,
}

impl fmt::Debug for HttpMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpMetrics")
    }
}

impl HttpMetrics {
    /// The series of a method and a route's template. `route` must come from a closed list, never from a request.
    pub fn series(&self, method: &'static str, route: &str) -> Arc<Series> {
        let found =
            self.series.read().unwrap_or_else(PoisonError::into_inner).get(method).and_then(|m| m.get(route)).cloned();
        found.unwrap_or_else(|| {
            let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
            let of_method = all.entry(method).or_default();
            of_method.entry(route.into()).or_insert_with(|| Arc::new(Series::new(method, route))).clone()
        })
    }

    /// A request has come; it leaves when the returned guard is dropped, answered or given up.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    fn all(&self) -> Vec<Arc<Series>> {
        let all = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = all.values().flat_map(HashMap::values).cloned().collect();
        list.sort_by(|a, b| (&a.route, a.method).cmp(&(&b.route, b.method)));
        list
    }
}

pub(crate) struct InFlight<'a>(&'a HttpMetrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The word of a method for metrics; unknown ones share one, since anybody can invent some.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Prints the metrics of an [`App`] into a registry.
#[derive(Debug)]
pub struct HttpCollector(pub App);

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let all = self.0.metrics().all();

        let mut counter =
            encoder.encode_descriptor("passerby_http_requests", "Requests answered", None, MetricType::Counter)?;
        for series in &all {
            for (&status, count) in STATUSES.iter().zip(&series.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = if status == 0 { "other".to_owned() } else { status.to_string() };
                    let labels = [("method", series.method), ("route", &*series.route), ("status", &*status)];
                    ConstCounter::new(count).encode(counter.encode_family(&labels)?)?;
                }
            }
        }

        let mut histogram = encoder.encode_descriptor(
            "passerby_http_request_duration_seconds",
            "Time from a request's head to its answer's head",
            None,
            MetricType::Histogram,
        )?;
        for series in &all {
            let bounds = BOUNDS.iter().map(|&b| b as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> =
                bounds.zip(series.buckets.iter().map(|b| b.load(Ordering::Relaxed))).collect();
            let count = buckets.iter().map(|(_, n)| n).sum();
            let seconds = series.micros.load(Ordering::Relaxed) as f64 / 1e6;
            let labels = [("method", series.method), ("route", &*series.route)];
            histogram.encode_family(&labels)?.encode_histogram::<[(&str, &str); 0]>(seconds, count, &buckets, None)?;
        }

        let gauge = encoder.encode_descriptor(
            "passerby_http_requests_in_flight",
            "Requests not yet answered",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.0.metrics().in_flight.load(Ordering::Relaxed) as i64).encode(gauge)
    }
}
