//! The clock and the random bytes of the world outside of tests.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use passerby_core::{
    Timestamp,
    port::{Clock, Random},
};

/// The system's clocks.
#[derive(Debug)]
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
    fn now(&self) -> Timestamp {
        // before 1970 counts as 1970: jobs that delete hold still while the clock is wrong
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(since.as_millis() as i64)
    }

    fn monotonic_millis(&self) -> i64 {
        self.start.elapsed().as_millis() as i64
    }
}

/// The generator of the thread (ChaCha, seeded and reseeded by the system).
#[derive(Debug, Default)]
pub struct ThreadRandom;

impl Random for ThreadRandom {
    fn fill(&self, out: &mut [u8]) {
        rand::fill(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_and_the_bytes_are_real() {
        let clock = SystemClock::default();
        assert!(clock.now() > Timestamp::from_seconds(1_700_000_000) && clock.monotonic_millis() >= 0);
        let (mut a, mut b) = ([0u8; 36], [0u8; 36]);
        ThreadRandom.fill(&mut a);
        ThreadRandom.fill(&mut b);
        assert_ne!(a, b);
    }
}
