//! Trees of units on a disk that never fails: built of what there is, each time they are asked for.

use super::bench::Disk;
use crate::message::{CopyRecord, TreeDisk, TreeDone};
use crate::repair::exchange::{RANGE_ENTRIES_MAX, Step, answer};
use crate::repair::tree::{Entry, Place, Range, SEED, Tree};
use crate::types::Unit;

impl Disk {
    pub(super) fn on_tree(&self, ask: TreeDisk) -> TreeDone {
        match ask {
            TreeDisk::Roots { units } => {
                let root = |unit| (unit, Some(self.tree(unit).root()));
                TreeDone::Roots(units.into_iter().map(root).collect())
            }
            TreeDisk::Answer { unit, terms, ask } => {
                let read = |range: &Range, limit| Ok::<_, ()>(self.within(unit, range, limit));
                let said = answer(&ask, &terms, &self.tree(unit), read);
                TreeDone::Said(said.expect("this disk never fails"))
            }
            TreeDisk::Advance { unit, mut asker, said } => {
                if let Some((number, said)) = said {
                    asker.on_answer(number, said, &self.tree(unit));
                }
                while let Step::Read(range) = asker.step() {
                    asker.on_read(self.within(unit, &range, RANGE_ENTRIES_MAX + 1));
                }
                TreeDone::Advanced(asker)
            }
            TreeDisk::Rebuild { .. } => TreeDone::Begun,
        }
    }

    pub(super) fn tree(&self, unit: Unit) -> Tree {
        let entries = self.entries(unit).into_iter().map(|entry| (entry.place, entry.print));
        Tree::of(entries.collect(), SEED)
    }

    fn within(&self, unit: Unit, range: &Range, limit: usize) -> Vec<Entry> {
        let all = self.entries(unit).into_iter();
        all.filter(|entry| range.holds(&entry.place)).take(limit).collect()
    }

    fn entries(&self, unit: Unit) -> Vec<Entry> {
        let records = self.records_of(unit).into_iter();
        let entries = records.filter_map(|(of, record)| {
            let place = Place::new(of.table, &of.key);
            match record {
                CopyRecord::Version(record) => Some(Entry::version(place, &record)),
                CopyRecord::Siblings(set) => Entry::siblings(place, &set),
                CopyRecord::Register(acceptor) => Entry::register(place, &acceptor),
            }
        });
        entries.collect()
    }
}
