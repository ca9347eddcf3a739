//! What the last minutes were like, for people: rates and latencies of slices of ten seconds, kept for ten
//! minutes. Made of the counters that metrics show; nothing of it is on the path of a request.

use core::time::Duration;
use std::collections::VecDeque;

use super::histogram::{Counts, quantile};
use super::{OpCounters, OpKind};

/// How long a slice is.
pub const SLICE: Duration = Duration::from_secs(10);
/// Slices that are kept: ten minutes.
const SLICES_MAX: usize = 60;

/// What was done in one slice of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// How long it was.
    pub length: Duration,
    /// The kinds of which anything was done, in the order of [`OpKind::ALL`].
    pub kinds: Vec<SliceKind>,
}

/// What was done of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceKind {
    /// The kind.
    pub kind: OpKind,
    /// How many ended, failed ones among them.
    pub done: u64,
    /// How many of them failed.
    pub failed: u64,
    /// Half of them took no longer; the upper bound of a bucket, at most a fifth too much.
    pub p50: Duration,
    /// 99 of 100 took no longer, likewise.
    pub p99: Duration,
}

/// The slices, and where the counters stood at the end of the last one.
#[derive(Default)]
pub(super) struct Recent {
    slices: VecDeque<Slice>,
    stood: Vec<(u64, Counts)>,
}

impl Recent {
    /// Ends a slice that began where the last one ended.
    pub(super) fn end_slice(&mut self, length: Duration, ops: &[OpCounters]) {
        let stand: Vec<(u64, Counts)> =
            ops.iter().map(|op| (op.failed_in_all(), op.latency.counts())).collect();
        let before = core::mem::replace(&mut self.stood, stand);
        if before.is_empty() {
            return;
        }
        let kinds = OpKind::ALL.iter().zip(&self.stood).zip(&before);
        let kinds = kinds.filter_map(|((kind, (failed, now)), (failed_before, then))| {
            let made = now.since(then);
            let done = made.total();
            (done > 0).then(|| SliceKind {
                kind: *kind,
                done,
                failed: failed.saturating_sub(*failed_before),
                p50: quantile(&made, 0.5),
                p99: quantile(&made, 0.99),
            })
        });
        let slice = Slice { length, kinds: kinds.collect() };
        while self.slices.len() >= SLICES_MAX {
            self.slices.pop_front();
        }
        self.slices.push_back(slice);
    }

    /// The slices, the oldest first.
    pub(super) fn slices(&self) -> Vec<Slice> {
        self.slices.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Telemetry;
    use super::*;
    use crate::message::ErrorCode;

    #[test]
    fn a_slice_has_what_was_done_in_it_and_no_more() {
        let telemetry = Telemetry::default();
        telemetry.operation(OpKind::Put, None, Duration::from_secs(9));
        telemetry.end_slice(SLICE);
        assert_eq!(telemetry.recent(), [], "where it begins nobody has counted");
        for _ in 0..98 {
            telemetry.operation(OpKind::Get, None, Duration::from_micros(100));
        }
        telemetry.operation(OpKind::Get, Some(ErrorCode::Overloaded), Duration::from_millis(50));
        telemetry.operation(OpKind::Get, None, Duration::from_millis(50));
        telemetry.end_slice(SLICE);
        telemetry.end_slice(SLICE);
        let [slice, idle] = &telemetry.recent()[..] else { panic!("{:?}", telemetry.recent()) };
        let [get] = &slice.kinds[..] else { panic!("{slice:?}") };
        assert_eq!((get.kind, get.done, get.failed), (OpKind::Get, 100, 1));
        let within = |found: Duration, micros: u64| {
            let found = u64::try_from(found.as_micros()).unwrap();
            assert!((micros..=micros * 5 / 4).contains(&found), "{found} of {micros}");
        };
        within(get.p50, 100);
        within(get.p99, 50_000);
        assert!(idle.kinds.is_empty());
    }

    #[test]
    fn no_more_than_ten_minutes_are_kept() {
        let telemetry = Telemetry::default();
        for second in 0..200 {
            telemetry.operation(OpKind::Put, None, Duration::from_secs(second));
            telemetry.end_slice(SLICE);
        }
        assert_eq!(telemetry.recent().len(), SLICES_MAX);
    }
}
