//! Latencies in logarithmic buckets: four to a doubling, from a microsecond to a minute, each an
//! atomic counter. Recording is two relaxed additions.

use core::time::Duration;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets to a doubling, as a power of two.
const STEPS_LOG2: u32 = 2;
/// Doublings covered: 2^26 microseconds are 67 seconds.
const DOUBLINGS: u32 = 26;
const BUCKETS: usize = (DOUBLINGS as usize) << STEPS_LOG2;

/// Counts of latencies.
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: core::array::from_fn(|_| AtomicU64::new(0)),
            micros: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(super) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts of this moment.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts([0; BUCKETS]);
        let buckets = counts.0.iter_mut().zip(&self.buckets);
        buckets.for_each(|(count, bucket)| *count = bucket.load(Ordering::Relaxed));
        counts
    }

    /// Seconds recorded in all.
    pub(super) fn sum_seconds(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// For each doubling: its upper bound in seconds, and how many were below it.
    pub(super) fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut below = 0;
        let steps = 1 << STEPS_LOG2;
        self.buckets
            .chunks(steps)
            .zip(1_u32..)
            .map(|(chunk, doubling)| {
                below += chunk.iter().map(|c| c.load(Ordering::Relaxed)).sum::<u64>();
                (Duration::from_micros(1 << doubling).as_secs_f64(), below)
            })
            .collect()
    }
}

/// Counts of a moment.
#[derive(Clone, Debug)]
pub(super) struct Counts([u64; BUCKETS]);

impl Counts {
    /// What came since an earlier moment.
    pub(super) fn since(&self, then: &Counts) -> Counts {
        let mut made = self.clone();
        made.0.iter_mut().zip(&then.0).for_each(|(now, then)| *now = now.saturating_sub(*then));
        made
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// A latency that this share of them does not exceed: the upper bound of its bucket. Zero without any.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank, of counts far below 2^52"
)]
pub(super) fn quantile(counts: &Counts, share: f64) -> Duration {
    let rank = ((counts.total() as f64 * share).ceil() as u64).max(1);
    let mut below = 0;
    for (count, index) in counts.0.iter().zip(0u32..) {
        below += count;
        if below >= rank {
            let (doubling, step) = (index >> STEPS_LOG2, u64::from(index % (1 << STEPS_LOG2)));
            return Duration::from_micros(
                (1 << doubling) + (((step + 1) << doubling) >> STEPS_LOG2),
            );
        }
    }
    Duration::ZERO
}

/// The bucket of a latency: its position among powers of two, and the bits below the leading one.
fn bucket(micros: u64) -> usize {
    let micros = micros.max(1);
    let doubling = micros.ilog2();
    let rest = micros - (1 << doubling);
    let step = (rest << STEPS_LOG2) >> doubling;
    let index = (u64::from(doubling) << STEPS_LOG2) + step;
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_latency_and_the_last_takes_the_rest() {
        let indexes: Vec<usize> =
            [0, 1, 2, 3, 4, 5, 100, 101, 1 << 25, u64::MAX >> 8].into_iter().map(bucket).collect();
        assert!(indexes.is_sorted(), "{indexes:?}");
        assert_eq!(indexes.last(), Some(&(BUCKETS - 1)));
    }

    #[test]
    fn cumulative_counts_end_with_all() {
        let histogram = Histogram::default();
        for micros in [1, 10, 1000, 1_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative.last().map(|(_, count)| *count), Some(4));
        assert!(cumulative.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
