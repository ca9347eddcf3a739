//! What a run was like over time, for pictures: counts in stretches of equal length and latencies in
//! coarse classes, in bounded memory however long the run is. [`super::timeline`] keeps three digits,
//! for a hundred times the memory.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Most stretches: a run that needs more gets longer ones.
pub const STRETCHES_MAX: usize = 600;
/// Classes of latency in a factor of two.
const PER_OCTAVE: f64 = 8.0;
/// Classes, from a microsecond up to more than an hour.
const CLASSES: u16 = 32 * 8;
/// What is due later counts here: more than a century.
const LAST: Duration = Duration::from_secs(1 << 32);

/// Stretches from the start of a run on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Series {
    width_ms: u64,
    stretches: Vec<Stretch>,
}

/// What became of the operations that were due in one stretch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Stretch {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// How many succeeded in each class of latency, without classes above the last that occurred.
    classes: Vec<u32>,
}

impl Series {
    /// Nothing yet; stretches of `width`, at least a millisecond.
    pub fn new(width: Duration) -> Series {
        let width_ms = u64::try_from(width.as_millis()).unwrap_or(u64::MAX).max(1);
        Series { width_ms, stretches: Vec::new() }
    }

    /// How long a stretch is by now.
    pub fn width(&self) -> Duration {
        Duration::from_millis(self.width_ms)
    }

    /// The stretches, in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// An operation that was due `at`, counted from the start, has ended: after so long, or in vain.
    pub fn record(&mut self, at: Duration, took: Option<Duration>) {
        let stretch = self.stretch(at);
        match took {
            Some(took) => {
                stretch.succeeded += 1;
                let class = usize::from(class(took));
                if stretch.classes.len() <= class {
                    stretch.classes.resize(class + 1, 0);
                }
                if let Some(count) = stretch.classes.get_mut(class) {
                    *count = count.saturating_add(1);
                }
            }
            None => stretch.failed += 1,
        }
    }

    fn stretch(&mut self, at: Duration) -> &mut Stretch {
        let at = at.min(LAST);
        loop {
            let place = at.as_millis() / u128::from(self.width_ms.max(1));
            match usize::try_from(place) {
                Ok(place) if place < STRETCHES_MAX => {
                    if self.stretches.len() <= place {
                        self.stretches.resize_with(place + 1, Stretch::default);
                    }
                    return self.stretches.get_mut(place).expect("made if it was not there");
                }
                _ => self.halve(),
            }
        }
    }

    /// Makes one stretch of two.
    fn halve(&mut self) {
        self.width_ms = self.width_ms.saturating_mul(2);
        let joined = self.stretches.chunks(2).map(|pair| {
            let mut sum = Stretch::default();
            pair.iter().for_each(|stretch| sum.add(stretch));
            sum
        });
        self.stretches = joined.collect();
    }
}

impl Stretch {
    /// The latency that the fraction `quantile` of the successful stayed within, good to a tenth; zero
    /// when there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = quantile.clamp(0.0, 1.0) * f64::from(self.classes.iter().sum::<u32>());
        let mut seen = 0.0;
        for (class, count) in (0..).zip(&self.classes) {
            seen += f64::from(*count);
            if *count > 0 && seen >= wanted {
                return middle(class);
            }
        }
        Duration::ZERO
    }

    /// Each class that occurred: its lower bound in seconds, and how many were in it.
    pub fn classes(&self) -> impl Iterator<Item = (f64, u32)> {
        let seconds = |class| (f64::from(class) / PER_OCTAVE).exp2() / 1e6;
        let counted = (0u16..).zip(&self.classes).filter(|(_, count)| **count > 0);
        counted.map(move |(class, count)| (seconds(class), *count))
    }

    fn add(&mut self, other: &Stretch) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        if self.classes.len() < other.classes.len() {
            self.classes.resize(other.classes.len(), 0);
        }
        for (ours, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *ours = ours.saturating_add(*theirs);
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float to integer casts saturate, and the result is clamped"
)]
fn class(latency: Duration) -> u16 {
    let octaves = (latency.as_secs_f64() * 1e6).max(1.0).log2();
    ((octaves * PER_OCTAVE) as u16).min(CLASSES - 1)
}

fn middle(class: u16) -> Duration {
    Duration::from_secs_f64(((f64::from(class) + 0.5) / PER_OCTAVE).exp2() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quantiles_are_good_to_a_tenth_and_failures_are_counted_apart() {
        let mut series = Series::new(1000 * MS);
        (1..=1000).for_each(|ms| series.record(MS, Some(ms * MS)));
        series.record(2500 * MS, None);
        let [first, second, third] = series.stretches() else { panic!("{series:?}") };
        for (quantile, ms) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = first.quantile(quantile).as_secs_f64() * 1e3;
            assert!((found / ms - 1.0).abs() < 0.1, "{quantile}: {found}");
        }
        assert_eq!((first.succeeded, first.failed, third.failed), (1000, 0, 1));
        assert_eq!(second.quantile(0.5), Duration::ZERO);
        assert_eq!(first.classes().map(|(_, count)| count).sum::<u32>(), 1000);
    }

    #[test]
    fn a_long_run_gets_longer_stretches_and_loses_no_count() {
        let mut series = Series::new(MS);
        (0..10_000).for_each(|ms| series.record(ms * MS, Some(MS)));
        series.record(Duration::MAX, Some(Duration::MAX));
        assert!(series.stretches().len() <= STRETCHES_MAX);
        assert_eq!(series.stretches().iter().map(|it| it.succeeded).sum::<u64>(), 10_001);
    }
}
