//! Loads and work to be sent and read back.

use crate::message::{LoadFacts, ProposalRecord, ResizeRecord, WorkNews};
use crate::types::{ClassId, Partition, Unit};

/// A load with a figure of its own for each field.
pub(super) fn load(seed: u64) -> LoadFacts {
    let (of, quiet) = (|place| u32::try_from((seed ^ place) % 10_007).unwrap(), seed % 2 == 1);
    let [hours, cpu_now, cpu_peak, ops_now, ops_peak, peak_hour, p99] =
        [1, 2, 3, 4, 5, 6, 7].map(of);
    let (disk_days, paused) = ((!quiet).then_some(of(8)), !quiet);
    let resized = ResizeRecord { grown: of(9), shrunk: of(10) };
    let now = LoadFacts { hours, cpu_now, ops_now, p99, quiet, ..LoadFacts::default() };
    let proposals =
        ProposalRecord { exchanged: of(11), dismissed: [(of(12), seed | 1), (of(13), !seed)] };
    LoadFacts { cpu_peak, ops_peak, peak_hour, disk_days, paused, resized, proposals, ..now }
}

/// What copies are asked for.
pub(super) fn work() -> WorkNews {
    let unit = Unit { class: ClassId(1), partition: Partition(513) };
    WorkNews { all: 70_000, hottest: vec![(unit, 60_001)], written: 1 << 40 }
}
