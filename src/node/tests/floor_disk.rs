//! Purge floors on a disk of a test, by the rules of `repair::floor`.

use std::collections::BTreeMap;

use super::bench::Disk;
use crate::message::{
    DiskAnswer, FloorChange, FloorDisk, FloorDone, FloorRecord, FloorState, SourceFloor,
};
use crate::repair::floor::{Bounds, From, Verdict, apply, version_ends};
use crate::types::{Key, Record, Stamp, TableId, Unit};

impl Disk {
    /// What a boot finds.
    pub(super) fn restored_floors(&mut self) -> BTreeMap<Unit, FloorRecord> {
        self.floors.values_mut().for_each(|state| state.voids = 0);
        self.floors.iter().map(|(unit, state)| (*unit, state.record.clone())).collect()
    }

    /// A source says its floor.
    pub(super) fn adopt(&mut self, unit: Unit, source: SourceFloor) {
        let state = self.floors.entry(unit).or_default();
        let SourceFloor { floor, agreed, is_first } = source;
        if is_first {
            apply(state, FloorChange::Fill(floor, agreed));
        } else {
            apply(state, FloorChange::Raise(floor));
            apply(state, FloorChange::Close(agreed));
        }
    }

    fn bounds(&self, unit: Unit) -> Bounds {
        self.floors.get(&unit).map_or_else(Bounds::default, |state| {
            let FloorRecord { floor, gate, .. } = state.record;
            Bounds { floor, gate }
        })
    }

    /// The answer to a write that is not taken.
    pub(super) fn late(&self, slot: &(Unit, TableId, Key), record: &Record) -> Option<DiskAnswer> {
        if self.data.get(slot).is_some_and(|held| held.stamp >= record.stamp) {
            return None;
        }
        let bounds = self.bounds(slot.0);
        match bounds.judge(record.stamp, From::Outside) {
            Verdict::Take | Verdict::TakeAndVoid => None,
            Verdict::Drop => Some(DiskAnswer::Late { bound: bounds.gate, purged: true }),
            Verdict::Refuse => Some(DiskAnswer::Late { bound: bounds.gate, purged: false }),
        }
    }

    pub(super) fn on_floor(&mut self, ask: FloorDisk) -> FloorDone {
        match ask {
            FloorDisk::Change(changes) => {
                let mut now = BTreeMap::<Unit, FloorState>::new();
                for (unit, change) in changes {
                    let state = self.floors.entry(unit).or_default();
                    apply(state, change);
                    now.insert(unit, state.clone());
                }
                FloorDone::Changed(now.into_iter().collect())
            }
            FloorDisk::Purge(unit) => {
                let floor = self.bounds(unit).floor;
                let before = self.data.len();
                self.data.retain(|(of, ..), record| {
                    *of != unit || version_ends(record).is_none_or(|at| at > floor)
                });
                let gone = u64::try_from(before - self.data.len()).expect("a small number");
                FloorDone::Purged(gone, false)
            }
            FloorDisk::Count(units, most) => {
                let count = |unit: Unit| {
                    let of_unit = self.data.iter().filter(|((of, ..), _)| *of == unit);
                    let mut ends: Vec<Stamp> =
                        of_unit.filter_map(|(_, record)| version_ends(record)).collect();
                    ends.sort_unstable();
                    let number = u64::try_from(ends.len()).expect("a small number");
                    (unit, number.min(most), ends.first().copied())
                };
                FloorDone::Counted(units.into_iter().map(count).collect())
            }
        }
    }
}
