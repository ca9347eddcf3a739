//! When operations are due in an open loop: arrivals that do not wait for answers. Pure: yields
//! offsets from the start, and reads no clock.
//!
//! Measuring from these moments, rather than from when a busy generator got round to sending,
//! avoids coordinated omission (Tene, "How NOT to Measure Latency", 2013): a server that stalls
//! for a second is charged with every operation that was due in that second.

use core::time::Duration;

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// Like a clock.
    Even,
    /// Like independent callers: exponential gaps.
    Poisson,
}

/// Arrivals at a rate, for ever.
#[derive(Clone, Debug)]
pub struct Schedule {
    gap_ns: f64,
    spacing: Spacing,
    rng: fastrand::Rng,
    at_ns: f64,
}

impl Schedule {
    /// `rate` arrivals a second, at least one an hour.
    pub fn new(rate: f64, spacing: Spacing, seed: u64) -> Schedule {
        let rate = if rate.is_finite() { rate.max(1.0 / 3600.0) } else { 1.0 };
        let rng = fastrand::Rng::with_seed(seed);
        Schedule { gap_ns: 1e9 / rate, spacing, rng, at_ns: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.at_ns / 1e9);
        self.at_ns += match self.spacing {
            Spacing::Even => self.gap_ns,
            Spacing::Poisson => -self.gap_ns * (1.0 - self.rng.f64()).ln(),
        };
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spacings_keep_the_rate_and_never_go_back() {
        for spacing in [Spacing::Even, Spacing::Poisson] {
            let due = Schedule::new(1000.0, spacing, 7).take(20_001).collect::<Vec<_>>();
            assert_eq!(due[0], Duration::ZERO);
            assert!(due.is_sorted());
            let seconds = due[20_000].as_secs_f64();
            assert!((19.0..21.0).contains(&seconds), "{spacing:?}: {seconds}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let due = |seed| Schedule::new(50.0, Spacing::Poisson, seed).take(99).collect::<Vec<_>>();
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }
}
