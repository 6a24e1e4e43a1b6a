//! Moments and spans. The only place that names the date library.

use std::{fmt, time::Duration};

use jiff::{Span, SpanRelativeTo, Unit};

/// A moment: milliseconds since the Unix epoch, UTC. Wall time is for what is printed and signed; what is decided
/// in order (versions, generations, epochs) uses counters, since wall clocks jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last moment that RFC 3339 can print (year 9999); sums saturate here.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// From milliseconds since the Unix epoch, held within what RFC 3339 can print.
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.clamp(0, Self::MAX.0))
    }

    /// From whole seconds since the Unix epoch, as JWT claims have them.
    pub fn from_seconds(s: i64) -> Self {
        Self::from_millis(s.saturating_mul(1000))
    }

    /// Reads a moment as RFC 3339 writes it, with its offset; parts of a millisecond are left away.
    pub fn parse(text: &str) -> Option<Self> {
        // the library takes more than the RFC: names of zones, spaces, offsets to the second
        let plain = text.len() <= 40 && text.bytes().all(|b| b.is_ascii_digit() || b"+-:.TZtz".contains(&b));
        let moment = plain.then(|| text.parse::<jiff::Timestamp>().ok()).flatten()?;
        (0..=Self::MAX.0).contains(&moment.as_millisecond()).then(|| Self(moment.as_millisecond()))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and `span` later; saturates at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment and `span` earlier; saturates at the Unix epoch.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, whole seconds or milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => f.write_str("9999-12-30T22:00:00.000Z"),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Reads a span as settings write it: `30d`, `15m`, `1h 30m`, `P30D`. Days have 24 hours, weeks seven days;
/// months and years are refused, since their length varies.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a span such as \"30d\", \"12h\" or \"15m\", found {text:?}");
    let span: Span = text.trim().parse().map_err(|_| expected())?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(format!("{}: months and years vary in length, write days", expected()));
    }
    let seconds = span.total((Unit::Millisecond, SpanRelativeTo::days_are_24_hours())).map_err(|_| expected())?;
    if !(0.0..=1e14).contains(&seconds) {
        return Err(format!("{}: it must not be negative and at most some 3,000 years", expected()));
    }
    Ok(Duration::from_millis(seconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_as_settings_write_them() {
        for (text, seconds) in
            [("30d", 2_592_000), ("15m", 900), ("1h 30m", 5_400), ("P1D", 86_400), ("2 weeks", 1_209_600), ("0s", 0)]
        {
            assert_eq!(parse_span(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "30", "-1d", "1 month", "soon", "1y"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_read_as_they_are_printed() {
        for text in ["2026-09-21T14:13:20.123Z", "1970-01-01T00:00:00.000Z"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        let offset = Timestamp::parse("2026-09-21T16:13:20.1239+02:00").unwrap();
        assert_eq!(offset, Timestamp::from_millis(1_790_000_000_123));
        for text in
            ["", "2026-09-21", "2026-09-21T14:13:20", "2026-09-21T14:13:20Z[UTC]", "1969-12-31T23:59:59Z", "now"]
        {
            assert!(Timestamp::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn moments_print_as_rfc_3339_and_never_overflow() {
        assert_eq!(Timestamp::from_millis(1_790_000_000_123).to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!(Timestamp::from_seconds(0).to_string(), "1970-01-01T00:00:00.000Z");
        let late = Timestamp::from_millis(i64::MAX).plus(Duration::MAX);
        assert_eq!(late, Timestamp::MAX);
        assert!(late.to_string().starts_with("9999-"));
        assert_eq!(Timestamp::from_millis(5).minus(Duration::MAX).millis(), 0);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
