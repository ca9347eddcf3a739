//! What the copies that this node owns are asked for, whoever coordinates: writes, reads, rounds of registers.
//! The rules that compare members go by it (`docs/growth.md`). Bounded: one number a unit that it owns.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::message::WorkNews;
use crate::types::{Time, Unit, limits};

use super::fading::Fading;

/// What lasts, and is worth moving units for, is still there after this.
const HALF_LIFE: Duration = Duration::from_secs(15 * 60);
/// So many bytes of a value cost as much as an operation.
const BYTES_PER_OPERATION: usize = 4 << 10;
/// A unit that has had less than this a second is forgotten when weights are renewed.
const FORGOTTEN: f64 = 1e-6;

/// The counters.
#[derive(Debug)]
pub(super) struct Copies {
    fading: Fading,
    begun: Option<Time>,
    units: BTreeMap<Unit, f64>,
    /// Bytes that were written.
    written: f64,
}

impl Copies {
    pub(super) fn new(now: Time) -> Copies {
        Copies {
            fading: Fading::new(now, HALF_LIFE),
            begun: None,
            units: BTreeMap::new(),
            written: 0.0,
        }
    }

    /// Counts an operation on a copy, and the bytes of the value that it wrote.
    pub(super) fn count(&mut self, now: Time, unit: Unit, bytes: usize) {
        let cost = 1 + bytes / BYTES_PER_OPERATION;
        self.add(now, unit, cost);
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.written += self.fading.weight(now) * bytes;
    }

    /// Counts the bytes of what was read, beyond the operation itself.
    pub(super) fn count_read(&mut self, now: Time, unit: Unit, bytes: usize) {
        let cost = bytes / BYTES_PER_OPERATION;
        if cost > 0 {
            self.add(now, unit, cost);
        }
    }

    fn add(&mut self, now: Time, unit: Unit, cost: usize) {
        self.begun.get_or_insert(now);
        if let Some(factor) = self.fading.renew(now) {
            self.written *= factor;
            self.units.values_mut().for_each(|sum| *sum *= factor);
            self.units.retain(|_, sum| *sum > FORGOTTEN);
        }
        let cost = f64::from(u32::try_from(cost).unwrap_or(u32::MAX));
        *self.units.entry(unit).or_default() += self.fading.weight(now) * cost;
    }

    /// What is told of the units that `owns` names.
    pub(super) fn told(&self, now: Time, owns: impl Fn(Unit) -> bool) -> WorkNews {
        // Of a stream that began a while ago the sum has only so much of its rate by now.
        let age = self.begun.map_or(Duration::ZERO, |begun| now.since(begun));
        let seen = 1.0 - (-age.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        let rate = |sum: f64| self.fading.rate(sum, now) / seen.max(1e-3);
        let owned = self.units.iter().filter(|(unit, _)| owns(**unit));
        let mut units: Vec<(Unit, f64)> = owned.map(|(unit, sum)| (*unit, rate(*sum))).collect();
        let all = units.iter().map(|(_, rate)| rate).sum();
        units.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        units.truncate(limits::WORK_NEWS_MAX);
        let hottest = units.into_iter().map(|(unit, rate)| (unit, whole(rate)));
        let hottest = hottest.filter(|(_, rate)| *rate > 0).collect();
        WorkNews { all: whole(all), hottest, written: whole(rate(self.written)).into() }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn whole(rate: f64) -> u32 {
    rate.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClassId, Partition};

    fn unit(partition: u16) -> Unit {
        Unit { class: ClassId(0), partition: Partition(partition) }
    }

    fn at(seconds: u64) -> Time {
        Time(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_steady_stream_is_told_at_its_rate_from_its_first_minute_on() {
        let mut copies = Copies::new(at(0));
        // After boot nothing comes for an hour: that does not make the rate smaller.
        for second in 3600..3600 + 7200 {
            for _ in 0..30 {
                copies.count(at(second), unit(3), 100);
            }
            // A read of 40 KiB is eleven operations' work.
            copies.count(at(second), unit(4), 0);
            copies.count_read(at(second), unit(4), 40 << 10);
            if second == 3660 || second == 10_799 {
                let told = copies.told(at(second + 1), |_| true);
                assert!(told.all.abs_diff(41) <= 1, "{told:?}");
                assert_eq!((told.hottest[0].0, told.hottest[1].0), (unit(3), unit(4)));
                assert!(told.hottest[1].1.abs_diff(11) <= 1, "{told:?}");
                assert!(told.written.abs_diff(3000) <= 60, "{told:?}");
            }
        }
        let without = copies.told(at(10_800), |it| it != unit(3));
        assert_eq!(without.hottest.len(), 1);
        assert!(without.all < 12, "what it does not own any more is not told: {without:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten_with_its_counter() {
        let mut copies = Copies::new(at(0));
        (0..100).for_each(|number| copies.count(at(0), unit(number), 0));
        copies.count(at(100_000), unit(7), 0);
        assert_eq!(copies.units.len(), 1);
        let news = copies.told(at(100_000), |_| true);
        assert!(news.hottest.len() <= limits::WORK_NEWS_MAX);
    }
}
