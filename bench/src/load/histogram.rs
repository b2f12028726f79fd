//! Counts durations in buckets that are a sixteenth of a power of two wide: percentiles good to 6 %.

use std::time::Duration;

const STEPS: u64 = 16;

pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { buckets: vec![0; 64 * STEPS as usize], count: 0 }
    }

    pub(super) fn add(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The duration that this share of all durations does not exceed; 0 if there are none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let wanted = (share * self.count as f64).ceil() as u64;
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= wanted && below > 0 {
                return Duration::from_nanos(middle(bucket as u64));
            }
        }
        Duration::ZERO
    }
}

/// Exact up to 15, then 16 buckets for each power of two.
fn bucket(value: u64) -> usize {
    let shift = value.max(STEPS).ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The middle of what falls into a bucket.
fn middle(bucket: u64) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let steps = bucket - shift * STEPS;
    (steps << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_a_sixteenth_of_its_values() {
        for value in (0..100_000).chain([u64::MAX / 2, u64::MAX]) {
            let middle = middle(bucket(value) as u64);
            assert!(middle.abs_diff(value) <= value / STEPS, "{value} -> {middle}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=100).for_each(|value| histogram.add(value * 1000));
        assert!(histogram.quantile(0.5).as_nanos().abs_diff(50_000) < 3_200);
        assert!(histogram.quantile(0.99).as_nanos().abs_diff(99_000) < 6_200);
    }
}
