//! Latencies, as a histogram with three digits from a microsecond to ten minutes.

use core::time::Duration;

use hdrhistogram::Histogram;

const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;
const DIGITS: u8 = 3;

/// A histogram of durations. A few hundred KiB at most, whatever is recorded.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS);
        Latency { histogram: histogram.expect("bounds are constants in the right order") }
    }
}

impl Latency {
    /// Records one; beyond the bounds, the bound.
    pub fn record(&mut self, latency: Duration) {
        self.histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds what another has recorded.
    pub fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that the fraction `quantile` of all stayed within; zero when there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.histogram.value_at_quantile(quantile))
    }

    /// The longest; zero when there are none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.histogram.max())
    }

    /// Their mean; zero when there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.histogram.mean().max(0.0) / 1e9)
    }

    /// How often each latency was recorded, in nanoseconds and ascending, without those that never
    /// were: all there is to know, for a file.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let recorded = self.histogram.iter_recorded();
        recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
    }

    /// The inverse of [`Latency::counts`]; counts of the same latency add up.
    pub fn from_counts(counts: &[(u64, u64)]) -> Latency {
        let mut latency = Latency::default();
        for (value, count) in counts {
            latency.histogram.saturating_record_n(*value, *count);
        }
        latency
    }

    /// The histogram itself, in nanoseconds, for reports.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_good_to_three_digits_and_extremes_saturate() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        (1..=500).for_each(|ms| one.record(Duration::from_millis(ms)));
        (501..=1000).for_each(|ms| other.record(Duration::from_millis(ms)));
        one.merge(&other);
        let p99 = one.quantile(0.99).as_secs_f64();
        assert!((0.989..0.992).contains(&p99), "{p99}");
        one.record(Duration::MAX);
        one.record(Duration::ZERO);
        assert_eq!(one.count(), 1002);
        assert!(one.max() >= Duration::from_secs(599));
    }

    #[test]
    fn counts_give_the_same_histogram_again_and_add_up_as_histograms_do() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut drawn = || Duration::from_nanos(rng.u64(500..5_000_000_000));
        let (mut one, mut other) = (Latency::default(), Latency::default());
        (0..3000).for_each(|_| one.record(drawn()));
        (0..2000).for_each(|_| other.record(drawn()));
        let again = Latency::from_counts(&one.counts());
        assert_eq!(again.counts(), one.counts());
        let both = [one.counts(), other.counts()].concat();
        one.merge(&other);
        assert_eq!(Latency::from_counts(&both).counts(), one.counts());
        for quantile in [0.0, 0.5, 0.99, 1.0] {
            assert_eq!(Latency::from_counts(&both).quantile(quantile), one.quantile(quantile));
        }
        assert_eq!(Latency::from_counts(&[]).count(), 0);
    }
}
