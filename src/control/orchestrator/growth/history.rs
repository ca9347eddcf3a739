//! What a node has seen of its own load, hour by hour for four weeks, and what it foresees of it: the mean
//! of the same hour of up to four weeks, times their trend. Simple on purpose: a forecast that an operator
//! can check by hand on the same figures. Figures of an hour with fewer active members are scaled to as many
//! as there are now, so that a growth is not asked for again because of the weeks before it.

use std::collections::BTreeMap;

use crate::message::HourRecord;
use crate::types::limits;

/// Hours of a week.
pub(super) const WEEK: u32 = 7 * 24;
/// Hours of a day.
pub(super) const DAY: u32 = 24;
/// Length of quiet hours that are learned.
const QUIET: u32 = 3;
/// Days of disk that a fit needs.
const DISK_DAYS_MIN: usize = 3;
/// How full a disk is when it is called full, in percent.
const FULL_PERCENT: f64 = 80.0;
/// Farther ahead nothing is foreseen.
const DISK_DAYS_MAX: f64 = 3650.0;
/// Hours that two weeks must have in common, so that one can be told to be busier.
const COMMON_MIN: usize = 24;
/// A trend never makes more or less of a forecast than this.
const TREND: (f64, f64) = (0.5, 2.0);

/// One look at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Active members.
    pub active: u16,
    /// Bytes stored, and those with what is free, where that is known.
    pub disk: (u64, Option<u64>),
    /// The share of the processor since the last sample, in thousandths of all cores.
    pub cpu_milli: u32,
    /// Client operations a second since then.
    pub ops: u32,
    /// Their 99th percentile, in microseconds; `None` when there were too few.
    pub p99: Option<u32>,
}

/// What is foreseen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// The highest hour's share of the processor, in thousandths.
    pub cpu_milli: u32,
    /// The highest hour's operations a second.
    pub ops: u32,
    /// The hour that is busiest, by operations, then by the processor; 0: nothing is known.
    pub hour: u32,
}

/// See the module. At most [`limits::HOURS_KEPT`] hours, about 50 bytes each.
#[derive(Clone, Debug, Default)]
pub struct History {
    hours: BTreeMap<u32, HourRecord>,
    /// The hour under way.
    hour: u32,
}

impl History {
    /// What was kept.
    pub fn new(hours: Vec<HourRecord>) -> History {
        let hours: BTreeMap<u32, HourRecord> = hours.into_iter().map(|it| (it.hour, it)).collect();
        let mut history = History { hours, hour: 0 };
        history.hour = history.hours.keys().next_back().copied().unwrap_or(0);
        history.forget();
        history
    }

    /// Takes a sample in. Returns the hour before when this one begins another: it is to be stored. What is
    /// of an hour before the latest, since a clock was set back, is not taken.
    pub fn note(&mut self, hour: u32, sample: &Sample) -> Option<HourRecord> {
        if hour < self.hour {
            return None;
        }
        let over = (hour > self.hour).then(|| self.present()).flatten();
        self.hour = hour;
        let new = HourRecord { hour, ..HourRecord::default() };
        fold(self.hours.entry(hour).or_insert(new), sample);
        self.forget();
        over
    }

    fn forget(&mut self) {
        let oldest = self.hour.saturating_sub(limits::HOURS_KEPT - 1);
        self.hours.retain(|hour, record| *hour >= oldest && record.samples > 0);
    }

    /// The hour under way, as far as it is.
    pub fn present(&self) -> Option<HourRecord> {
        self.hours.get(&self.hour).copied()
    }

    /// Hours that something is known of.
    pub fn len(&self) -> u32 {
        u32::try_from(self.hours.len()).unwrap_or(u32::MAX)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.hours.is_empty()
    }

    /// The usual 99th percentile of an hour, of up to four weeks.
    pub fn usual_p99(&self, hour: u32) -> Option<u32> {
        let known = self.like(hour, WEEK).filter(|it| it.p99_mean > 0);
        mean(known.map(|it| f64::from(it.p99_mean))).map(whole)
    }

    /// What the coming week will bring, from the hour under way on, with as many active members.
    pub fn foresee(&self, active: u16) -> Foreseen {
        let trend = self.trend(active);
        let mut found = Foreseen::default();
        for hour in self.hour..self.hour.saturating_add(WEEK) {
            let Some((cpu, ops)) = self.at(hour, active) else { continue };
            let (cpu, ops) = (whole(cpu * trend), whole(ops * trend));
            let peak = (found.ops, found.cpu_milli) < (ops, cpu) || found.hour == 0;
            if peak {
                found.hour = hour;
            }
            found.ops = found.ops.max(ops);
            found.cpu_milli = found.cpu_milli.max(cpu);
        }
        found
    }

    /// Processor and operations of an hour to come, without the trend: of the same hour of the week; where that
    /// has not been seen, of the same hour of the day; where that has not, the mean of all there is.
    fn at(&self, hour: u32, active: u16) -> Option<(f64, f64)> {
        let of = |records: Vec<&HourRecord>| {
            let cpu = mean(records.iter().map(|it| scaled(it, active) * f64::from(it.cpu_mean)))?;
            let ops = mean(records.iter().map(|it| scaled(it, active) * f64::from(it.ops_mean)))?;
            Some((cpu, ops))
        };
        of(self.like(hour, WEEK).collect())
            .or_else(|| of(self.like(hour, DAY).collect()))
            .or_else(|| of(self.hours.values().collect()))
    }

    /// Hours that stand at the same place of a period.
    fn like(&self, hour: u32, period: u32) -> impl Iterator<Item = &HourRecord> {
        let oldest = self.hour.saturating_sub(limits::HOURS_KEPT - 1);
        let first = oldest + (hour % period + period - oldest % period) % period;
        let places = (first..=self.hour).step_by(usize::try_from(period).unwrap_or(1));
        places.filter_map(|place| self.hours.get(&place))
    }

    /// By how much the coming week is busier than the mean of those that were seen: a line through their levels,
    /// each against the one before in the hours that both have seen.
    fn trend(&self, active: u16) -> f64 {
        let mut levels = vec![1.0f64];
        for back in (0..3).rev() {
            let end = self.hour.saturating_sub(back * WEEK);
            let week = end.saturating_sub(WEEK - 1)..=end;
            let pair = |hour: u32| {
                Some((self.hours.get(&hour.checked_sub(WEEK)?)?, self.hours.get(&hour)?))
            };
            let common: Vec<(&HourRecord, &HourRecord)> = week.filter_map(pair).collect();
            let busy = |it: &HourRecord| {
                scaled(it, active) * (f64::from(it.ops_mean) + f64::from(it.cpu_mean))
            };
            let old: f64 = common.iter().map(|(old, _)| busy(old)).sum();
            let new: f64 = common.iter().map(|(_, new)| busy(new)).sum();
            if common.len() >= COMMON_MIN && old > 0.0 {
                let last = levels.last().copied().unwrap_or(1.0);
                levels.push(last * (new / old).clamp(TREND.0, TREND.1));
            }
        }
        let count = f64::from(u32::try_from(levels.len()).unwrap_or(1));
        let level = levels.iter().sum::<f64>() / count;
        let points: Vec<(f64, f64)> = (0u32..).map(f64::from).zip(levels).collect();
        let next = line(&points).map_or(level, |(slope, at_zero)| at_zero + slope * count);
        (next / level.max(f64::MIN_POSITIVE)).clamp(TREND.0, TREND.1)
    }

    /// Whether this hour is one of the three in a row with the least that is foreseen of the hours around it: a
    /// day in all. Not before a whole day has been seen.
    pub fn is_quietest(&self, active: u16) -> bool {
        let Some(start) = self.quietest(active) else { return false };
        (start..start + QUIET).contains(&self.hour)
    }

    /// When the quietest hours begin that are under way, or that come next: those of which the least is foreseen,
    /// by what share of its day's load each hour of the week had. By loads themselves, hours that have passed and
    /// hours to come would be means of different weeks, and a load that fell would make any hour of now a quiet one.
    pub fn quietest(&self, active: u16) -> Option<u32> {
        let first = self.hour.checked_sub(QUIET - 1)?;
        let shares = self.shares(active);
        let share = |it: &HourRecord| shares.get(&it.hour).copied();
        let hours: Vec<f64> = (first..first + DAY + QUIET - 1)
            .map(|hour| {
                // Of each hour of the day something must be known.
                let of_day = mean(self.like(hour, DAY).filter_map(share))?;
                Some(mean(self.like(hour, WEEK).filter_map(share)).unwrap_or(of_day))
            })
            .collect::<Option<_>>()?;
        let sums = hours.windows(3).map(|hours| hours.iter().sum::<f64>());
        let least = (first..).zip(sums).min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(least.0)
    }

    /// Of each hour its load beside the mean of the day around it, or of the latest day.
    fn shares(&self, active: u16) -> BTreeMap<u32, f64> {
        let busy = |it: &HourRecord| {
            scaled(it, active) * (f64::from(it.ops_mean) + f64::from(it.cpu_mean) / 1000.0)
        };
        let (mut sums, mut sum) = (vec![(0u32, 0.0)], 0.0);
        for record in self.hours.values() {
            sum += busy(record);
            sums.push((record.hour, sum));
        }
        // Hours may be missing: the sum of all below one.
        let below = |hour: u32| {
            let place = sums.partition_point(|(known, _)| *known < hour).max(1) - 1;
            let (count, sum) = (f64::from(u32::try_from(place).unwrap_or(0)), sums.get(place));
            (count, sum.map_or(0.0, |(_, sum)| *sum))
        };
        let of = |record: &HourRecord| {
            let end = record.hour.saturating_add(DAY / 2).min(self.hour.saturating_add(1));
            let (of_end, of_start) = (below(end), below(end.saturating_sub(DAY)));
            let day = (of_end.1 - of_start.1) / (of_end.0 - of_start.0).max(1.0);
            (record.hour, if day > 0.0 { busy(record) / day } else { 1.0 })
        };
        self.hours.values().map(of).collect()
    }

    /// Days until the disk is 80 % full, by the median of the slopes between all pairs of days (Theil and Sen), which
    /// no single day of compaction or import bends. `None`: not foreseen, flat, or nothing to tell by.
    pub fn disk_days(&self, active: u16) -> Option<u32> {
        let mut days: BTreeMap<u32, &HourRecord> = BTreeMap::new();
        days.extend(self.hours.values().filter(|it| it.disk_all > 0).map(|it| (it.hour / DAY, it)));
        let last = *days.values().next_back()?;
        #[allow(clippy::cast_precision_loss, reason = "of bytes, half a part in 10^15")]
        let used = |it: &HourRecord| scaled(it, active) * it.disk_used as f64;
        #[allow(clippy::cast_precision_loss, reason = "as above")]
        let full = last.disk_all as f64 * FULL_PERCENT / 100.0;
        if used(last) >= full {
            return Some(0);
        }
        if days.len() < DISK_DAYS_MIN {
            return None;
        }
        let points: Vec<(f64, f64)> =
            days.values().map(|it| (f64::from(it.hour) / f64::from(DAY), used(it))).collect();
        let mut slopes: Vec<f64> = Vec::new();
        for (place, (at, old)) in points.iter().enumerate() {
            let later = points.iter().skip(place + 1);
            slopes.extend(later.map(|(then, new)| (new - old) / (then - at).max(1.0 / 24.0)));
        }
        slopes.sort_by(f64::total_cmp);
        let slope = slopes.get(slopes.len() / 2).copied()?;
        let days = (full - used(last)) / slope;
        (slope > 0.0 && days <= DISK_DAYS_MAX).then(|| whole(days))
    }
}

fn fold(record: &mut HourRecord, sample: &Sample) {
    let count = u64::from(record.samples);
    let mean = |old: u64, new: u64| (old * count + new) / (count + 1);
    let cpu = u16::try_from(sample.cpu_milli).unwrap_or(u16::MAX);
    let narrow = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
    record.cpu_mean = u16::try_from(mean(record.cpu_mean.into(), cpu.into())).unwrap_or(u16::MAX);
    record.cpu_peak = record.cpu_peak.max(cpu);
    record.ops_mean = narrow(mean(record.ops_mean.into(), sample.ops.into()));
    record.ops_peak = record.ops_peak.max(sample.ops);
    if let Some(p99) = sample.p99 {
        // Samples without requests leave it alone.
        record.p99_mean = match record.p99_mean {
            0 => p99,
            known => narrow(mean(known.into(), p99.into())),
        };
        record.p99_peak = record.p99_peak.max(p99);
    }
    let (used, free) = sample.disk;
    record.disk_used = used;
    record.disk_all = free.map_or(0, |free| used.saturating_add(free));
    record.active = sample.active;
    record.samples += 1;
}

/// What a figure of an hour would be with as many active members as there are now.
fn scaled(record: &HourRecord, active: u16) -> f64 {
    f64::from(record.active.max(1)) / f64::from(active.max(1))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The line with the least squares: its slope, and its height at 0.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let x = mean(points.iter().map(|it| it.0))?;
    let y = mean(points.iter().map(|it| it.1))?;
    let spread: f64 = points.iter().map(|it| (it.0 - x) * (it.0 - x)).sum();
    let both: f64 = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum();
    (spread > 0.0).then(|| (both / spread, y - both / spread * x))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within its bounds")]
fn whole(value: f64) -> u32 {
    value.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
