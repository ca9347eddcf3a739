//! Latencies of single operations: one clock reading each, into a histogram of three digits.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest latency that can be told apart, in nanoseconds: a minute.
const HIGHEST: u64 = 60_000_000_000;

/// A histogram and the moment of the last reading.
#[derive(Debug)]
pub(crate) struct Recorder {
    histogram: Histogram<u64>,
    last: Instant,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST, 3).expect("fair bounds");
        Self { histogram, last: Instant::now() }
    }

    /// An operation is over, and the next one begins. Returns how long it took.
    pub(crate) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let took = now - self.last;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(HIGHEST);
        self.histogram.saturating_record(nanos);
        self.last = now;
        took
    }

    /// What went on until now was no operation.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    pub(crate) fn add(&mut self, other: &Recorder) {
        self.histogram.add(&other.histogram).expect("the same bounds");
    }

    /// Microseconds at a quantile of 0 to 1.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }
}
