//! Rates that forget with a half-life, by forward decay (Cormode, Shkapenyuk, Srivastava and Xu, 2009): what
//! comes later weighs more, and nothing that was counted before has to be touched when time passes.

use core::time::Duration;

use crate::types::Time;

/// After so many half-lives weights are made small again.
const RENEW_AFTER: f64 = 30.0;

/// The weight of a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fading {
    since: Time,
    half_life: Duration,
}

impl Fading {
    pub(super) fn new(since: Time, half_life: Duration) -> Fading {
        Fading { since, half_life }
    }

    fn ages(&self, now: Time) -> f64 {
        now.since(self.since).as_secs_f64() / self.half_life.as_secs_f64()
    }

    /// What happens now weighs so much.
    pub(super) fn weight(&self, now: Time) -> f64 {
        self.ages(now).exp2()
    }

    /// How much a second a sum of weights comes to now: what was counted a half-life ago counts half. A
    /// steady stream comes to its rate.
    pub(super) fn rate(&self, sum: f64, now: Time) -> f64 {
        sum / self.weight(now) * core::f64::consts::LN_2 / self.half_life.as_secs_f64()
    }

    /// Begins anew when weights have become large: the factor to bring sums along with.
    pub(super) fn renew(&mut self, now: Time) -> Option<f64> {
        (self.ages(now) >= RENEW_AFTER).then(|| {
            let factor = 1.0 / self.weight(now);
            self.since = now;
            factor
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF: Duration = Duration::from_secs(60);

    fn at(ms: u64) -> Time {
        Time(0).plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_half_life_halves_and_a_steady_stream_comes_to_its_rate() {
        let mut fading = Fading::new(at(0), HALF);
        let mut sum = 0.0;
        // Ten a second, for twenty half-lives.
        for tick in 0..12_000 {
            sum += fading.weight(at(tick * 100));
        }
        let rate = fading.rate(sum, at(1_200_000));
        assert!((rate - 10.0).abs() < 0.1, "{rate}");
        let later = fading.rate(sum, at(1_260_000));
        assert!((later - rate / 2.0).abs() < 1e-9, "{later}");
        assert!(fading.renew(at(1_260_000)).is_none() && fading.renew(at(1_800_000)).is_some());
    }

    proptest! {
        #[test]
        fn renewing_changes_no_rate(
            stream in prop::collection::vec(0u64..20_000, 1..80),
            renew in 0usize..80,
        ) {
            let (mut plain, mut now, mut last) = (0.0, 0, 0.0);
            let mut fading = Fading::new(at(0), HALF);
            for (number, gap) in stream.into_iter().enumerate() {
                let before = now;
                now += gap + if number == renew { 2_000_000 } else { 0 };
                // By hand: what was there fades, then one comes.
                let passed = Duration::from_millis(now - before).as_secs_f64() / 60.0;
                plain = plain * (-passed).exp2() + 1.0;
                if let Some(factor) = fading.renew(at(now)) {
                    last *= factor;
                }
                last += fading.weight(at(now));
                let expected = plain * core::f64::consts::LN_2 / 60.0;
                let rate = fading.rate(last, at(now));
                prop_assert!((rate - expected).abs() <= 1e-9 * expected.max(1.0));
            }
        }
    }
}
