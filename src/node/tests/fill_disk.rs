//! Whole units, and copies of them, on a disk that never fails.

use super::bench::Disk;
use crate::message::{FillRecord, MetaRecord, UnitDisk, UnitDone};
use crate::types::{TableId, Unit};

impl Disk {
    pub(super) fn on_unit(&mut self, ask: UnitDisk) -> UnitDone {
        match ask {
            UnitDisk::Held { .. } => self.units_held(),
            UnitDisk::Empty { unit, record } => self.empty_unit(unit, record),
        }
    }

    fn units_held(&self) -> UnitDone {
        let mut units: Vec<Unit> = self.data.keys().map(|(unit, ..)| *unit).collect();
        units.extend(self.sets.keys().map(|(unit, ..)| *unit));
        units.extend(self.acceptors.keys().map(|(unit, ..)| *unit));
        units.sort();
        units.dedup();
        UnitDone::Held(units, true)
    }

    pub(super) fn empty_unit(&mut self, unit: Unit, record: Option<FillRecord>) -> UnitDone {
        self.data.retain(|(of, ..), _| *of != unit);
        self.sets.retain(|(of, ..), _| *of != unit);
        self.acceptors.retain(|(of, ..), _| *of != unit);
        self.meta.retain(|record| !matches!(record, MetaRecord::Fill(of, _) if *of == unit));
        self.meta.extend(record.map(|record| MetaRecord::Fill(unit, record)));
        UnitDone::Emptied
    }

    /// What is on record of a unit.
    pub(super) fn fill(&self, unit: Unit) -> Option<&FillRecord> {
        self.meta.iter().rev().find_map(|record| match record {
            MetaRecord::Fill(of, record) if *of == unit => Some(record),
            _ => None,
        })
    }

    /// How many keys there are of a unit.
    pub(super) fn keys_of(&self, unit: Unit) -> usize {
        let is_own = |slot: &&(Unit, TableId, crate::types::Key)| slot.0 == unit;
        self.data.keys().filter(is_own).count()
            + self.sets.keys().filter(is_own).count()
            + self.acceptors.keys().filter(is_own).count()
    }
}
