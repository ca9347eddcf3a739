//! All periods and counts of membership, from three settings and the number of members.

use core::time::Duration;

/// Up to so many others are all probed in each period: they then hear each other's facts, and notice
/// silence, as fast as can be, and that is still a constant.
pub(super) const ALL_PROBED_MAX: usize = 8;
/// In clusters of so few others, everybody's fresh facts travel with every probe.
pub(super) const ALL_TOLD_MAX: usize = 16;
/// Members that are asked to probe one which does not answer.
pub(super) const RELAYS: usize = 3;
/// Independent confirmations that make a suspicion as short as it gets.
pub(super) const CONFIRMATIONS: usize = 3;
/// News that all should hear soon go to so many at a time.
pub(super) const FAN_OUT: usize = 3;
/// Bytes of others' facts in one probe, about; urgent ones may need more.
pub(super) const HEARSAY_BYTES: usize = 4 << 10;
/// The same of those that are only fresh, where not everybody's travel.
pub(super) const FRESH_BYTES: usize = 1 << 10;
/// Bytes of facts in one message of a full sync; the rest comes with later ones.
pub(super) const SYNC_BYTES: usize = 64 << 10;
/// Fresh facts that wait to be passed on.
pub(super) const FRESH_MAX: usize = 64;
/// How often fresh facts are passed on by one member.
pub(super) const FRESH_SENDS: u32 = 2;
/// Questions of others under way here.
pub(super) const RELAYED_MAX: usize = 1024;
/// Probes that are timed at once.
pub(super) const TIMED_MAX: usize = 256;
/// Probes without an answer that make the way to a member doubtful, if they span `down_after`.
pub(super) const UNANSWERED_MIN: u32 = 3;

/// An unconfirmed suspicion lasts so many times as long as a confirmed one.
const UNCONFIRMED_TIMES: u32 = 3;
/// Periods between full syncs, for ten members; twice that for a hundred, and so on.
const SYNC_PERIODS: u32 = 20;
/// Sends of a rumour by one member, for each power of ten of members.
const SENDS: u32 = 4;

/// The settings.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The protocol period.
    pub probe_interval: Duration,
    /// How long a member may leave probes unanswered, its own and those of others, before it is suspect.
    pub suspect_after: Duration,
    /// Silence after which a member is down, once others have confirmed that they find it silent.
    pub down_after: Duration,
}

impl Timing {
    /// How often what is open is looked at.
    pub(super) fn tick(&self) -> Duration {
        self.probe_interval / 4
    }

    /// How long the answer to a probe is waited for before others are asked to probe: a quarter of the
    /// period, or two round trips where that is more, but half of the period at most.
    pub(super) fn answer_within(&self, round_trip: Option<Duration>) -> Duration {
        let two = round_trip.unwrap_or_default().saturating_mul(2);
        two.clamp(self.probe_interval / 4, self.probe_interval / 2)
    }

    /// An answer that takes longer, compared with what becomes of silence, is late.
    pub(super) fn late_after(&self) -> Duration {
        (self.suspect_after / 2).max(self.probe_interval)
    }

    /// How long a suspicion lasts among `others`, when `confirmed` have confirmed it out of `possible`
    /// who could. As in Lifeguard it shrinks with the logarithm of the confirmations.
    pub(super) fn suspicion(&self, others: usize, confirmed: usize, possible: usize) -> Duration {
        let base = self.down_after.saturating_sub(self.suspect_after);
        // A refutation must have the time to come to everybody.
        let spread = match others {
            0..=ALL_PROBED_MAX => 1,
            _ => 2 * (others + 1).ilog2(),
        };
        let least = base.max(self.probe_interval.saturating_mul(spread));
        let wanted = possible.min(CONFIRMATIONS);
        // Thousandths of log(confirmed + 1) / log(wanted + 1).
        let shrunk = match (wanted, confirmed.min(wanted)) {
            (wanted, confirmed) if confirmed == wanted => 1000,
            (_, 0) => 0,
            (2, _) => 631,
            (_, 1) => 500,
            _ => 792,
        };
        least + least * (UNCONFIRMED_TIMES - 1) * (1000 - shrunk) / 1000
    }

    /// How often one member passes a rumour on.
    pub(super) fn sends(others: usize) -> u32 {
        SENDS * powers_of_ten(others)
    }

    /// The time between full syncs that one member begins.
    pub(super) fn sync_interval(&self, others: usize) -> Duration {
        self.probe_interval.saturating_mul(SYNC_PERIODS * powers_of_ten(others))
    }
}

/// The decimal logarithm of the number of members, rounded up; at least 1.
fn powers_of_ten(others: usize) -> u32 {
    let mut powers = 1;
    let mut reach = 10;
    while reach < others + 1 {
        reach *= 10;
        powers += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn timing() -> Timing {
        let probe_interval = Duration::from_millis(500);
        Timing { probe_interval, suspect_after: 2 * S, down_after: 10 * S }
    }

    #[test]
    fn a_suspicion_shrinks_with_each_confirmation_down_to_what_the_settings_say() {
        let lasts = |confirmed| timing().suspicion(4, confirmed, 3);
        assert_eq!(lasts(0), 24 * S);
        assert!(lasts(0) > lasts(1) && lasts(1) > lasts(2) && lasts(2) > lasts(3));
        assert_eq!((lasts(3), lasts(9)), (8 * S, 8 * S));
        // Nobody else is there to confirm it.
        assert_eq!(timing().suspicion(2, 0, 0), 8 * S);
        assert_eq!(timing().suspicion(2, 1, 1), 8 * S);
        // In a large cluster a refutation needs more time.
        assert_eq!(timing().suspicion(999, 3, 900), 9 * S);
    }

    #[test]
    fn counts_grow_with_the_logarithm_of_the_members() {
        assert_eq!([2, 9, 10, 99, 100, 999].map(Timing::sends), [4, 4, 8, 8, 12, 12]);
        assert_eq!(timing().sync_interval(4), 10 * S);
        assert_eq!(timing().sync_interval(999), 30 * S);
        let within = |ms| timing().answer_within(Some(Duration::from_millis(ms))).as_millis();
        assert_eq!((within(1), within(90), within(900)), (125, 180, 250));
    }
}
