//! Time, passed in so that a test can hold it still.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the verifier takes the time from.
pub trait Clock: Send + Sync + 'static {
    /// Whole seconds since 1970-01-01 UTC: what tokens are judged by.
    fn now(&self) -> i64;

    /// Time since some moment that stays the same; never goes back. Ages of what was fetched are measured by it.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port's one implementation that reads the clock")]
    fn now(&self) -> i64 {
        // before 1970 counts as 1970: then every token was issued in the future, and none passes
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_real() {
        let clock = SystemClock::default();
        assert!(clock.now() > 1_700_000_000);
        assert!(clock.monotonic() <= clock.monotonic());
    }
}
