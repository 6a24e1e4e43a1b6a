//! Latencies, counted in buckets whose width grows with their value.

/// Every power of two is cut into so many buckets: a quantile is at most 1/128 too high.
const CUTS: u64 = 128;
const BITS: u32 = CUTS.ilog2();

/// Counts of values from 0 to 2^63, such as nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

fn bucket(value: u64) -> usize {
    if value < CUTS {
        return value as usize;
    }
    let shift = value.ilog2() - BITS;
    (u64::from(shift + 1) * CUTS + (value >> shift) - CUTS) as usize
}

/// The largest value that falls into a bucket.
fn top(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < CUTS {
        return bucket;
    }
    let shift = bucket / CUTS - 1;
    (((bucket % CUTS + CUTS) + 1) << shift) - 1
}

impl Histogram {
    pub(crate) fn record(&mut self, value: u64) {
        let at = bucket(value);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        self.largest = self.largest.max(value);
    }

    /// The value that a share `q` (0 to 1) of all values does not exceed; 0 while there are none.
    pub(crate) fn quantile(&self, q: f64) -> u64 {
        let wanted = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return top(at).min(self.largest);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_values() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }

    proptest! {
        #[test]
        fn a_value_lies_below_the_top_of_its_bucket_and_above_the_last_one(value in 0..u64::MAX / 2) {
            let at = bucket(value);
            prop_assert!(value <= top(at));
            prop_assert!(at == 0 || value > top(at - 1));
            prop_assert!(top(at) - value <= value / CUTS);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(0_u64..1 << 40, 1..300), q in 0.0..=1.0_f64) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let rank = ((values.len() as f64 * q).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let found = histogram.quantile(q);
            prop_assert!(found >= exact && found - exact <= exact / CUTS, "{found} for {exact}");
        }
    }
}
