//! What a run was like from moment to moment: counts and latencies in stretches of equal length, by
//! when each operation was due. An average over a minute hides the second in which nothing worked.

use core::time::Duration;

use super::latency::Latency;

/// Stretches, from the start of a run on. Grows by one histogram (about a quarter of a MiB) a
/// stretch, up to [`STRETCHES_MAX`].
#[derive(Clone, Debug)]
pub struct Timeline {
    width: Duration,
    stretches: Vec<Stretch>,
}

/// Most stretches of a timeline; what is due later counts in the last one.
pub const STRETCHES_MAX: usize = 1024;

/// What became of the operations that were due in one stretch.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// Latency of those that succeeded, from when they were due.
    pub latency: Latency,
    /// How many failed.
    pub failed: u64,
}

impl Timeline {
    /// Nothing yet; stretches of `width`, at least a millisecond.
    pub fn new(width: Duration) -> Timeline {
        Timeline { width: width.max(Duration::from_millis(1)), stretches: Vec::new() }
    }

    /// How long a stretch is.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// An operation that was due `at`, counted from the start, has ended: after so long, or in vain.
    pub fn record(&mut self, at: Duration, took: Option<Duration>) {
        let place = at.as_nanos() / self.width.as_nanos();
        let place = usize::try_from(place).unwrap_or(usize::MAX).min(STRETCHES_MAX - 1);
        if place >= self.stretches.len() {
            self.stretches.resize_with(place + 1, Stretch::default);
        }
        let Some(stretch) = self.stretches.get_mut(place) else { return };
        match took {
            Some(took) => stretch.latency.record(took),
            None => stretch.failed += 1,
        }
    }

    /// The stretches, each with its start.
    pub fn stretches(&self) -> impl Iterator<Item = (Duration, &Stretch)> {
        let width = self.width;
        let start = move |place: usize| width.saturating_mul(u32::try_from(place).unwrap_or(0));
        self.stretches.iter().enumerate().map(move |(place, stretch)| (start(place), stretch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn operations_count_where_they_were_due_whatever_came_of_them() {
        let mut timeline = Timeline::new(S);
        timeline.record(S / 2, Some(S * 3));
        timeline.record(S * 2, None);
        timeline.record(S * 2, Some(S / 10));
        let seen: Vec<_> = timeline
            .stretches()
            .map(|(at, stretch)| (at, stretch.latency.count(), stretch.failed))
            .collect();
        assert_eq!(seen, [(Duration::ZERO, 1, 0), (S, 0, 0), (S * 2, 1, 1)]);
        let first = timeline.stretches().next().unwrap().1.latency.max();
        assert!(first >= S * 29 / 10, "{first:?}");
    }

    #[test]
    fn a_run_without_end_stays_within_its_bound() {
        let mut timeline = Timeline::new(Duration::ZERO);
        timeline.record(Duration::MAX, None);
        assert_eq!(timeline.stretches().count(), STRETCHES_MAX);
    }
}
