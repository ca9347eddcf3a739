//! How long an attempt may take before another endpoint is asked instead: well above what answers
//! take now, so that one node that stands still costs its callers milliseconds and not half of
//! their time. The estimate is that of TCP's retransmission timer (RFC 6298, section 2): a smoothed
//! latency, and a multiple of its smoothed deviation. Knows no clock; time is handed in.

use core::time::Duration;

use parking_lot::Mutex;

/// No attempt is given up earlier: pauses of schedulers and disks are as long.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// Deviations above the smoothed latency. TCP takes four; what a needless retry costs here is a
/// whole operation on three disks, so twice that.
const DEVIATIONS: u32 = 8;
/// No second node is asked earlier: a read of two disks may take as long.
const HEDGE_MIN: Duration = Duration::from_millis(2);
/// Deviations above the smoothed latency within which some 19 of 20 answers come, whatever their distribution
/// looks like. Twice as many as it takes where they lie close together.
const HEDGE_DEVIATIONS: u32 = 4;
/// Each attempt given up doubles it until there is an answer: when everybody is slow, giving up
/// early only makes more work.
const DOUBLINGS_MAX: u32 = 6;

/// What answers of one kind take.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    estimate: Mutex<Estimate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    /// `None` before the first answer.
    smoothed: Option<Duration>,
    deviation: Duration,
    doublings: u32,
}

impl Patience {
    /// An answer took this long.
    pub(crate) fn answered(&self, took: Duration) {
        let mut now = self.estimate.lock();
        (now.smoothed, now.deviation) = match now.smoothed {
            None => (Some(took), took / 2),
            Some(smoothed) => {
                let off = smoothed.abs_diff(took);
                (Some((smoothed * 7 + took) / 8), (now.deviation * 3 + off) / 4)
            }
        };
        now.doublings = 0;
    }

    /// An attempt was given up.
    pub(crate) fn gave_up(&self) {
        let mut now = self.estimate.lock();
        now.doublings = (now.doublings + 1).min(DOUBLINGS_MAX);
    }

    /// Within what answers usually come; `None` before the first.
    pub(crate) fn usually(&self) -> Option<Duration> {
        let now = *self.estimate.lock();
        let smoothed = now.smoothed?;
        Some(smoothed.saturating_add(now.deviation.saturating_mul(HEDGE_DEVIATIONS)).max(HEDGE_MIN))
    }

    /// How long to wait for an attempt of a request that has `remaining` left: half of it at most,
    /// so that there is time for another.
    pub(crate) fn of(&self, remaining: Duration) -> Duration {
        let now = *self.estimate.lock();
        let half = half_of(remaining);
        now.smoothed.map_or(half, |smoothed| {
            let estimate = smoothed.saturating_add(now.deviation.saturating_mul(DEVIATIONS));
            estimate.max(PATIENCE_MIN).saturating_mul(1 << now.doublings).min(half)
        })
    }
}

/// The patience with operations whose latency says nothing about the next one's.
pub(crate) fn half_of(remaining: Duration) -> Duration {
    (remaining / 2).max(PATIENCE_MIN).min(remaining)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_an_answer_yet_half_of_the_time_is_waited() {
        let patience = Patience::default();
        assert_eq!(patience.of(SECOND), SECOND / 2);
        assert_eq!(patience.of(MS * 60), PATIENCE_MIN);
        assert_eq!(patience.of(MS * 20), MS * 20);
    }

    #[test]
    fn fast_answers_make_it_short_and_slow_ones_long() {
        let patience = Patience::default();
        (0..100).for_each(|_| patience.answered(MS * 2));
        assert_eq!(patience.of(SECOND), PATIENCE_MIN);
        patience.answered(MS * 100);
        let after = patience.of(SECOND);
        assert!(after > MS * 100 && after < MS * 250, "{after:?}");
        (0..100).for_each(|_| patience.answered(MS * 100));
        let settled = patience.of(SECOND);
        assert!(settled >= MS * 99 && settled < MS * 110, "{settled:?}");
        (0..100).for_each(|_| patience.answered(MS * 700));
        assert_eq!(patience.of(SECOND), SECOND / 2);
    }

    #[test]
    fn usually_is_shorter_than_patience_and_unknown_before_the_first_answer() {
        let patience = Patience::default();
        assert_eq!(patience.usually(), None);
        (0..100).for_each(|_| patience.answered(MS));
        assert_eq!(patience.usually(), Some(HEDGE_MIN));
        (0..50).for_each(|i| patience.answered(MS * (10 + i % 3)));
        let usually = patience.usually().unwrap_or_default();
        assert!(
            usually > MS * 11 && usually < MS * 20 && usually < patience.of(SECOND),
            "{usually:?}"
        );
    }

    #[test]
    fn giving_up_doubles_it_until_there_is_an_answer() {
        let patience = Patience::default();
        (0..100).for_each(|_| patience.answered(MS * 2));
        patience.gave_up();
        assert_eq!(patience.of(SECOND), PATIENCE_MIN * 2);
        (0..100).for_each(|_| patience.gave_up());
        assert_eq!(patience.of(SECOND), SECOND / 2);
        patience.answered(MS * 2);
        assert_eq!(patience.of(SECOND), PATIENCE_MIN);
    }
}
