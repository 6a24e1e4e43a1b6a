//! Facts about the process for `/metrics`, under the names that Prometheus' own clients use. Read from the system when
//! asked; what a system does not tell is left out.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
};

/// Linux counts processor time for programs in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct ProcessCollector;

/// What the system tells about this process.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    cpu_seconds: Option<f64>,
    threads: Option<i64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<i64>,
    virtual_bytes: Option<i64>,
    open_files: Option<i64>,
}

impl Facts {
    fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as i64),
            ..Self::parse(&text("/proc/self/stat"), &text("/proc/self/status"), &text("/proc/stat"))
        }
    }

    /// From `/proc/self/stat`, `/proc/self/status` and `/proc/stat` (proc(5)).
    fn parse(stat: &str, status: &str, system: &str) -> Self {
        // the second field is the program's name in parentheses and may hold anything
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
        // fields are numbered from 1, and these begin with the third
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<f64>().ok());
        let boot = system.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|s| s.trim().parse::<f64>().ok());
        let bytes = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()? * 1024)
        };
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            threads: field(20).map(|n| n as i64),
            start_seconds: field(22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND),
            resident_bytes: bytes("VmRSS"),
            virtual_bytes: bytes("VmSize"),
            open_files: None,
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let facts = Facts::read();
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let metric = encoder.encode_descriptor("passerby_build", "What is running", None, MetricType::Info)?;
        info.encode(metric)?;
        if let Some(seconds) = facts.cpu_seconds {
            let help = "Processor time, user and system";
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        if let Some(seconds) = facts.start_seconds {
            let help = "Start, in seconds since the Unix epoch";
            let metric = encoder.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?;
            ConstGauge::new(seconds).encode(metric)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", facts.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", facts.virtual_bytes),
            ("process_open_fds", "Open file descriptors", facts.open_files),
            ("process_threads", "Threads", facts.threads),
        ] {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_linux() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 12 18 1000 20 21";
        let status = "Name:\tx\nVmSize:\t   2048 kB\nVmRSS:\t    1024 kB\n";
        let facts = Facts::parse(stat, status, "cpu 1 2\nbtime 1790000000\n");
        assert_eq!(facts.cpu_seconds, Some(3.0));
        assert_eq!(facts.threads, Some(12));
        assert_eq!(facts.start_seconds, Some(1_790_000_010.0));
        assert_eq!((facts.resident_bytes, facts.virtual_bytes), (Some(1 << 20), Some(2 << 20)));
        assert_eq!(Facts::parse("", "", ""), Facts::default());
    }
}
