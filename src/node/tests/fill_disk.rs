//! Whole units, and copies of them, on a disk that never fails.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::bench::Disk;
use crate::causality::{Merge, merge};
use crate::message::{
    CopyContent, CopyEntry, CopyLack, CopyLeaves, CopyMark, CopyPage, CopyPlace, CopyRecord,
    CopyStretch, CopyTold, CopyWhat, DiskAnswer, FillRecord, LostKeys, MetaRecord, ReplicaFacts,
    ScrubMark, ScrubPiece, UnitDisk, UnitDone,
};
use crate::repair::tree::{Range, Sum};
use crate::types::{ClusterState, Key, Stamp, TableId, Unit};

/// Keys of a page: few, so that there are several.
const PAGE_KEYS: usize = 3;
/// Leaves of one.
const LEAVES: usize = 2;

fn mark(record: &CopyRecord) -> (Stamp, u128) {
    match record {
        CopyRecord::Version(record) => (record.stamp, 0),
        // As good as a hash, for sets and states that differ in what they say.
        other => (
            Stamp::ZERO,
            format!("{other:?}")
                .bytes()
                .fold(7, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        ),
    }
}

/// What is wrong with a disk, and what a node has made of it.
#[derive(Clone, Default)]
pub(super) struct Bad {
    /// What cannot be read.
    pub(super) damage: Vec<LostKeys>,
    /// What was noted as lost, ever.
    pub(super) lost: Vec<Unit>,
    /// Where pieces of a scrub began.
    pub(super) scrubs: Vec<ScrubMark>,
    /// What the log has lost, until it is dealt with.
    pub(super) log_damage: Vec<String>,
    /// Its trees are not there.
    pub(super) tells_no_leaves: bool,
    /// Stretches of lost keys that were given up, and what was kept of them.
    pub(super) forgone: Vec<(LostKeys, Vec<Unit>)>,
}

impl Disk {
    pub(super) fn measured(&self) -> DiskAnswer {
        let damaged = !self.bad.damage.is_empty();
        DiskAnswer::Measured(ReplicaFacts { damaged, ..ReplicaFacts::default() })
    }

    pub(super) fn sweep(&mut self, state: &ClusterState) -> DiskAnswer {
        self.data.retain(|(_, table, _), _| !state.is_dropped(*table));
        self.acceptors.retain(|(_, table, _), _| !state.is_dropped(*table));
        DiskAnswer::Swept(None, self.sweep_hints(state))
    }

    pub(super) fn on_unit(&mut self, ask: UnitDisk) -> UnitDone {
        match ask {
            UnitDisk::Held { .. } => self.units_held(),
            UnitDisk::Empty { unit, record, keeps } => self.empty_unit((unit, keeps), record),
            UnitDisk::Page { what: CopyWhat::Ended, .. } => UnitDone::Merged,
            UnitDisk::Page { unit, what, .. } => UnitDone::Page(self.copy_page(unit, what)),
            UnitDisk::Compare {
                unit,
                told: CopyTold::Sums(sums) | CopyTold::ExactSums(sums) | CopyTold::MirrorSums(sums),
            } => {
                let own = self.tree(unit);
                let differs = |range: &Range, theirs: Sum| {
                    let known = own.divides_at(&range.from)
                        && range.to.as_ref().is_none_or(|to| own.divides_at(to));
                    !known || own.sum(range) != theirs
                };
                let differing = sums.into_iter().filter(|(range, sum)| differs(range, *sum));
                UnitDone::Wanted(CopyLack::Ranges(differing.map(|(range, _)| range).collect()))
            }
            UnitDisk::Compare { unit, told: CopyTold::Marks(marks) } => {
                UnitDone::Wanted(CopyLack::Keys(self.lacking(unit, marks)))
            }
            UnitDisk::Compare { unit, told: CopyTold::Exactly(stretch, next, marks) } => {
                UnitDone::Wanted(CopyLack::Keys(self.made_exact(unit, (stretch, next), &marks)))
            }
            UnitDisk::Clear { .. } => UnitDone::Merged,
            UnitDisk::Scrub { from, .. } => UnitDone::Scrubbed(self.scrubbed(from)),
            UnitDisk::Damage => UnitDone::Damaged(self.bad.damage.clone()),
            UnitDisk::Lose { records, log } => {
                let units = records.iter().filter_map(|record| match record {
                    MetaRecord::Fill(unit, _) => Some(*unit),
                    _ => None,
                });
                self.bad.lost.extend(units);
                self.meta.extend(records);
                if log {
                    self.bad.log_damage.clear();
                }
                UnitDone::Merged
            }
            UnitDisk::Forgo { keys, kept, records } => {
                self.meta.extend(records);
                self.bad.forgone.push((keys, kept));
                UnitDone::Merged
            }
            UnitDisk::TakeIn { unit, files, source, record, .. }
                if files.as_ref().is_none_or(Vec::is_empty) =>
            {
                self.adopt(unit, source);
                self.meta.push(MetaRecord::Fill(unit, record));
                UnitDone::Merged
            }
            UnitDisk::Stage { .. } | UnitDisk::TakeIn { .. } => unreachable!("no files are given"),
            UnitDisk::Drain { unit, record } => {
                self.meta.push(MetaRecord::Fill(unit, record));
                UnitDone::Drained(true)
            }
            UnitDisk::Fill { unit, entries, source } => {
                self.adopt(unit, source);
                entries.into_iter().for_each(|entry| self.merge_copy(unit, entry));
                UnitDone::Merged
            }
            UnitDisk::Merge { unit, entries } => {
                entries.into_iter().for_each(|entry| self.merge_copy(unit, entry));
                UnitDone::Merged
            }
        }
    }

    /// Ten pieces.
    fn scrubbed(&mut self, from: ScrubMark) -> ScrubPiece {
        self.bad.scrubs.push(from);
        let next = ScrubMark { file: from.file + 1, offset: 0 };
        let (done, total, bytes) = (u64::from(next.file) << 20, 10 << 20, 1 << 20);
        ScrubPiece { next: (next.file < 10).then_some(next), bytes, done, total }
    }

    pub(super) fn records_of(&self, unit: Unit) -> BTreeMap<CopyPlace, CopyRecord> {
        let place =
            |(_, table, key): &(Unit, TableId, Key)| CopyPlace { table: *table, key: key.clone() };
        let is_own = |slot: &(Unit, TableId, Key)| slot.0 == unit;
        let data = self.data.iter().filter(|(slot, _)| is_own(slot));
        let sets = self.sets.iter().filter(|(slot, _)| is_own(slot));
        let acceptors = self.acceptors.iter().filter(|(slot, _)| is_own(slot));
        let data = data.map(|(slot, it)| (place(slot), CopyRecord::Version(it.clone())));
        let sets = sets.map(|(slot, it)| (place(slot), CopyRecord::Siblings(it.clone())));
        let acceptors = acceptors.map(|(slot, it)| (place(slot), CopyRecord::Register(it.clone())));
        data.chain(sets).chain(acceptors).collect()
    }

    fn copy_page(&self, unit: Unit, what: CopyWhat) -> CopyPage {
        let all = self.records_of(unit);
        let of = |CopyStretch { range, after }: CopyStretch| {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let behind = all.range((start, Bound::Unbounded));
            let mut some: Vec<_> = behind
                .filter(|(place, _)| range.holds(&place.place()))
                .take(PAGE_KEYS + 1)
                .collect();
            let is_cut = some.len() > PAGE_KEYS;
            some.truncate(PAGE_KEYS);
            let next = some.last().map(|(place, _)| (*place).clone()).filter(|_| is_cut);
            (some, next)
        };
        let entry = |(place, record): (&CopyPlace, &CopyRecord)| CopyEntry {
            place: place.clone(),
            record: record.clone(),
        };
        let (content, next) = match what {
            CopyWhat::Chunk(..) | CopyWhat::Ended => unreachable!("no files are given"),
            // This disk would rather give records.
            CopyWhat::Files => return self.copy_page(unit, CopyWhat::All(None)),
            CopyWhat::All(after) => {
                let (some, next) = of(CopyStretch::behind(after));
                (CopyContent::Records(some.into_iter().map(entry).collect()), next)
            }
            CopyWhat::Leaves(_, after) if self.bad.tells_no_leaves => {
                return self.copy_page(unit, CopyWhat::Marks(CopyStretch::behind(after)));
            }
            CopyWhat::Leaves(from, _) => {
                let tree = self.tree(unit);
                let mut leaves: Vec<_> = tree.leaves_from(&from).take(LEAVES + 1).collect();
                let end = if leaves.len() > LEAVES { leaves.pop() } else { None };
                let end = end.map(|(end, _)| end.clone());
                let leaves = leaves.into_iter().map(|(from, sum)| (from.clone(), sum)).collect();
                (CopyContent::Leaves(CopyLeaves { leaves, end }), None)
            }
            CopyWhat::Marks(stretch) => {
                let (some, next) = of(stretch);
                let marks = some.into_iter().map(|(place, record)| {
                    let ((stamp, print), place) = (mark(record), place.clone());
                    CopyMark { place, stamp, print }
                });
                (CopyContent::Marks(marks.collect()), next)
            }
            CopyWhat::Keys(places) => {
                // One at a time, so that they have to be asked for again.
                let first = places.iter().take(1).filter_map(|place| all.get_key_value(place));
                let next = places.first().cloned().filter(|_| places.len() > 1);
                (CopyContent::Records(first.map(entry).collect()), next)
            }
        };
        CopyPage { content, next }
    }

    fn merge_copy(&mut self, unit: Unit, CopyEntry { place, record }: CopyEntry) {
        let slot = (unit, place.table, place.key);
        match record {
            CopyRecord::Version(record) => {
                if merge(self.data.get(&slot), &record) == Merge::Replace {
                    self.data.insert(slot, record);
                }
            }
            CopyRecord::Siblings(set) => self.sets.entry(slot).or_default().join(set),
            CopyRecord::Register(acceptor) => {
                self.acceptors.entry(slot).or_default().join(acceptor);
            }
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

    fn lacking(&self, unit: Unit, marks: Vec<CopyMark>) -> Vec<CopyPlace> {
        let own: BTreeMap<CopyPlace, CopyRecord> = self.records_of(unit);
        let lacks = |theirs: &CopyMark| {
            let own = own.get(&theirs.place).map(mark);
            own.is_none_or(|(stamp, print)| {
                stamp < theirs.stamp || (stamp == theirs.stamp && theirs.print != print)
            })
        };
        marks.into_iter().filter(lacks).map(|mark| mark.place).collect()
    }

    /// Drops what is not told of a stretch, or in another version. Returns what is lacking then.
    fn made_exact(
        &mut self,
        unit: Unit,
        (stretch, next): (CopyStretch, Option<CopyPlace>),
        marks: &[CopyMark],
    ) -> Vec<CopyPlace> {
        let own = self.records_of(unit);
        let is_in = |place: &CopyPlace| {
            stretch.range.holds(&place.place())
                && stretch.after.as_ref().is_none_or(|after| place > after)
                && next.as_ref().is_none_or(|next| place <= next)
        };
        let told = |place: &CopyPlace| {
            let theirs = marks.iter().find(|mark| mark.place == *place);
            theirs.map(|mark| (mark.stamp, mark.print))
        };
        let same = |place: &CopyPlace| own.get(place).map(mark) == told(place);
        for place in own.keys().filter(|place| is_in(place) && !same(place)) {
            let slot = (unit, place.table, place.key.clone());
            self.data.remove(&slot);
            self.sets.remove(&slot);
            self.acceptors.remove(&slot);
        }
        let lacking = marks.iter().map(|mark| &mark.place).filter(|place| !same(place));
        lacking.cloned().collect()
    }

    pub(super) fn empty_unit(
        &mut self,
        (unit, keeps): (Unit, bool),
        record: Option<FillRecord>,
    ) -> UnitDone {
        if keeps {
            self.meta.retain(|record| !matches!(record, MetaRecord::Fill(of, _) if *of == unit));
            self.meta.extend(record.map(|record| MetaRecord::Fill(unit, record)));
            return UnitDone::Emptied;
        }
        self.data.retain(|(of, ..), _| *of != unit);
        self.sets.retain(|(of, ..), _| *of != unit);
        self.acceptors.retain(|(of, ..), _| *of != unit);
        self.meta.retain(|record| !matches!(record, MetaRecord::Fill(of, _) if *of == unit));
        // What cannot be read is hidden from now on.
        self.bad.damage.retain(|keys| keys.units != Some((unit, unit)));
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
        let is_own = |slot: &&(Unit, TableId, Key)| slot.0 == unit;
        self.data.keys().filter(is_own).count()
            + self.sets.keys().filter(is_own).count()
            + self.acceptors.keys().filter(is_own).count()
    }
}
