//! How long to wait before connecting again: doubled after each failure, with full jitter in the
//! upper half, so that nodes that lost the same peer do not come back in step.

use core::time::Duration;

/// A growing pause.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff { min, max, next: min, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The pause after one more failure: between half and all of the current step.
    pub(super) fn fail(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        step.mul_f64(0.5 + self.rng.f64() / 2.0)
    }

    /// After a success: the next failure begins small again.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// After a refusal: nothing will change soon.
    pub(super) fn exhaust(&mut self) {
        self.next = self.max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over_after_a_success() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max, 1);
        let mut step = min;
        for _ in 0..10 {
            let pause = backoff.fail();
            assert!(pause >= step / 2 && pause <= step, "{pause:?} of {step:?}");
            step = (step * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.fail() <= min);
        backoff.exhaust();
        assert!(backoff.fail() >= max / 2);
    }
}
