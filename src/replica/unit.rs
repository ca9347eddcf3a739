//! Whole units: which of them the store holds anything of, and deleting one. Both know nothing of
//! who owns what.

use std::ops::Bound;
use std::sync::Arc;

use super::copy::Giver;
use super::execute::submit;
use super::keyspace::{DATA, OVERLAY, unit_of, unit_prefix};
use super::trees::{self, Gone};
use super::{Done, Shared, copy, damage, disk_error, files, overlay, restore};
use crate::message::{CopyWhat, DiskAnswer, DiskError, FillRecord, MetaRecord, UnitDisk, UnitDone};
use crate::storage::{Batch, Direction, Durability, KeyRange, Snapshot};
use crate::types::Unit;

/// Units found at once.
const UNITS_MAX: usize = 64;

/// Carries a request out.
pub(super) fn execute(shared: &Arc<Shared>, disk: UnitDisk, done: Done) {
    match disk {
        UnitDisk::Held { after } => {
            done(held(&shared.engine.snapshot(), after).map(DiskAnswer::Unit))
        }
        UnitDisk::Empty { unit, record, keeps } => empty(shared, (unit, keeps), record, done),
        UnitDisk::Page { unit, what, to } => match what {
            CopyWhat::Files => files::export(shared, unit, to, done),
            CopyWhat::Chunk(file, offset) => {
                done(files::chunk(shared, unit, to, (&file, offset)).map(DiskAnswer::Unit));
            }
            CopyWhat::Ended => {
                shared.exports.end(shared, unit, to.0);
                done(Ok(DiskAnswer::Unit(UnitDone::Merged)));
            }
            what => copy::page(shared, unit, what, done),
        },
        UnitDisk::Stage { unit, file, offset, chunk } => {
            done(files::stage(shared, unit, (&file, offset), &chunk).map(DiskAnswer::Unit));
        }
        UnitDisk::Clear { unit } => {
            shared.stages.free(shared, unit);
            done(Ok(DiskAnswer::Unit(UnitDone::Merged)));
        }
        UnitDisk::TakeIn { unit, files, source, record, state } => {
            if let Err(error) = shared.floors.adopt(shared, unit, source) {
                return done(Err(error));
            }
            files::take_in(shared, (unit, files), record, state, done);
        }
        UnitDisk::Damage => {
            let found = damage::find(shared);
            done(Ok(DiskAnswer::Unit(UnitDone::Damaged(found))));
        }
        UnitDisk::Scrub { from, bytes } => {
            let piece = damage::scrub(&shared.engine, from, bytes);
            done(Ok(DiskAnswer::Unit(UnitDone::Scrubbed(piece))));
        }
        UnitDisk::Lose { records, log } => damage::lose(shared, &records, log, done),
        UnitDisk::Forgo { keys, kept, records } => {
            damage::forgo(shared, (&keys, &kept), &records, done);
        }
        UnitDisk::Drain { unit, record } => overlay::drain(shared, unit, record, done),
        UnitDisk::Compare { unit, told } => copy::compare(shared, unit, told, done),
        UnitDisk::Fill { unit, entries, source } => {
            match shared.floors.adopt(shared, unit, source) {
                Ok(()) => copy::merge_all(shared, (unit, Giver::Source), entries, done),
                Err(error) => done(Err(error)),
            }
        }
        UnitDisk::Merge { unit, entries } => {
            copy::merge_all(shared, (unit, Giver::Owner), entries, done);
        }
    }
}

/// The first units behind `after` of which the store holds anything, and whether there are no more.
pub(super) fn held(snapshot: &Snapshot, after: Option<Unit>) -> Result<UnitDone, DiskError> {
    let (mut units, mut last) = (Vec::new(), after);
    while units.len() < UNITS_MAX {
        let found = [next(snapshot, DATA, last)?, next(snapshot, OVERLAY, last)?];
        let Some(unit) = found.into_iter().flatten().min() else {
            return Ok(UnitDone::Held(units, true));
        };
        units.push(unit);
        last = Some(unit);
    }
    Ok(UnitDone::Held(units, false))
}

/// The first unit of a space, behind `after`.
fn next(snapshot: &Snapshot, space: u8, after: Option<Unit>) -> Result<Option<Unit>, DiskError> {
    let (begin, end) = ([space], [space + 1]);
    let behind = after.map(|unit| KeyRange::prefix(&unit_prefix(space, unit)));
    let start = behind.as_ref().map_or(&begin[..], |range| range.end().unwrap_or_default());
    let mut keys =
        snapshot.range(Bound::Included(start), Bound::Excluded(&end[..]), Direction::Forward);
    let Some((key, _)) = keys.next_key().map_err(|error| disk_error(&error))? else {
        return Ok(None);
    };
    unit_of(key).map(Some).ok_or_else(|| {
        DiskError::Corruption(format!("a key of {} bytes is none of ours", key.len()))
    })
}

/// Deletes all there is of a unit, and says in the same batch what is known of it from now on: a
/// crash leaves both or neither. The caller sees to it that nobody writes into it meanwhile. `keeps`: what was
/// mirrored stays in the range, and is made equal to the first source before anything else is done with it.
fn empty(shared: &Shared, (unit, keeps): (Unit, bool), record: Option<FillRecord>, done: Done) {
    shared.overlays.set(unit, record.as_ref());
    shared.stages.free(shared, unit);
    shared.floors.forget(unit);
    let mut batch = Batch::new();
    // What was known of its floor was known of what goes.
    restore::forget_floor(&mut batch, unit);
    let snapshot = shared.engine.snapshot();
    let has_lost = restore::has_lost(&snapshot, unit) && !crate::mutant!("lost-unit-keeps-damage");
    for space in [DATA, OVERLAY] {
        let range = KeyRange::prefix(&unit_prefix(space, unit));
        if keeps && space == DATA {
            continue;
        }
        // Deleted ranges are kept in memory until a merge ends them: none without need.
        let is_needed = match holds(&snapshot, &range) {
            // What is damaged goes only when it is covered, be there nothing to be seen in it.
            Ok(false) => has_lost && snapshot.reaches(&range),
            // What cannot be read goes too.
            Ok(true) | Err(DiskError::Corruption(_)) => true,
            Err(error) => return done(Err(error)),
        };
        if is_needed {
            batch.delete_range(&range);
        }
    }
    match record {
        Some(record) => {
            if let Err(error) = restore::put(&mut batch, &MetaRecord::Fill(unit, record)) {
                return done(Err(DiskError::Io(error.to_string())));
            }
        }
        None => restore::forget_fill(&mut batch, unit),
    }
    let answer = DiskAnswer::Unit(UnitDone::Emptied);
    if keeps {
        return submit(shared, batch, Durability::Synced, answer, done);
    }
    trees::wipe(shared, (batch, Gone::Unit(unit)), Durability::Synced, answer, done);
}

pub(super) fn holds(snapshot: &Snapshot, range: &KeyRange) -> Result<bool, DiskError> {
    let end = range.end().map_or(Bound::Unbounded, Bound::Excluded);
    let mut keys = snapshot.range(Bound::Included(range.start()), end, Direction::Forward);
    Ok(keys.next_key().map_err(|error| disk_error(&error))?.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::message::{DiskRequest, FillProgress, FillStage};
    use crate::replica::Replica;
    use crate::storage::{FaultyVfs, MemoryVfs, Options, ThreadMode};
    use crate::types::{ClassId, Epoch, Key, NodeId, Partition, Record, Stamp, TableId, WallTime};

    fn open(vfs: &Arc<MemoryVfs>) -> (Replica, crate::message::Restored) {
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        Replica::open(vfs.clone(), Path::new("data"), options).unwrap()
    }

    fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
        while replica.step() {}
        slot.lock().take().expect("answered").unwrap()
    }

    fn unit(class: u16, partition: u16) -> Unit {
        Unit { class: ClassId(class), partition: Partition(partition) }
    }

    fn fill(replica: &Replica, unit: Unit) {
        let stamp = Stamp { time: WallTime(1), counter: 0, node: NodeId(1) };
        let record = Record { stamp, expiry: None, value: None };
        let key = Key::new("k").unwrap();
        run(replica, DiskRequest::Write { unit, table: TableId(1), key, record });
    }

    fn empty(unit: Unit, record: Option<FillRecord>) -> DiskRequest {
        DiskRequest::Unit(Box::new(UnitDisk::Empty { unit, record, keeps: false }))
    }

    fn found(replica: &Replica) -> Vec<Unit> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let answer = run(replica, DiskRequest::Unit(Box::new(UnitDisk::Held { after })));
            let DiskAnswer::Unit(UnitDone::Held(units, is_last)) = answer else { panic!() };
            all.extend(&units);
            if is_last {
                return all;
            }
            after = units.last().copied();
        }
    }

    #[test]
    fn units_are_found_whatever_their_number_and_one_is_emptied_for_itself() {
        let vfs: Arc<MemoryVfs> = Arc::default();
        let (replica, _) = open(&vfs);
        let mut all: Vec<Unit> = (0..150).map(|partition| unit(0, partition)).collect();
        all.push(unit(u16::MAX, u16::MAX));
        all.iter().for_each(|unit| fill(&replica, *unit));
        assert_eq!(found(&replica), all);
        let stage = FillStage::Filling(FillProgress::default());
        let record = FillRecord { entry: Epoch(7), stage };
        let last = unit(u16::MAX, u16::MAX);
        for (gone, record) in [(unit(0, 3), Some(record.clone())), (last, None)] {
            all.retain(|unit| *unit != gone);
            run(&replica, empty(gone, record));
        }
        assert_eq!(found(&replica), all);
        drop(replica);
        let (replica, restored) = open(&vfs);
        assert_eq!(found(&replica), all);
        assert_eq!(restored.fills.into_iter().collect::<Vec<_>>(), [(unit(0, 3), record)]);
        run(&replica, empty(unit(0, 3), None));
        drop(replica);
        assert!(open(&vfs).1.fills.is_empty());
    }

    /// How many places of damage are left when a unit is emptied that has lost data by a table in which it has
    /// nothing that is to be seen: one key of its overlay, long deleted.
    fn damage_left() -> usize {
        let vfs = FaultyVfs::new(5);
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        let opened = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options);
        let (replica, _) = opened.unwrap();
        let of = unit(0, 3);
        let key = [&unit_prefix(OVERLAY, of)[..], &[0, 0, 0, 1], b"k"].concat();
        for is_put in [true, false] {
            let mut batch = Batch::new();
            if is_put {
                batch.put(&key, b"v")
            } else {
                batch.delete(&key)
            }
            submit(
                &replica.shared,
                batch,
                Durability::Synced,
                DiskAnswer::Persisted,
                Box::new(|_| ()),
            );
            run(&replica, DiskRequest::Flush);
        }
        let tables =
            || vfs.files().into_iter().filter(|path| path.extension() == Some("sst".as_ref()));
        let rotten = tables().min().expect("two were flushed");
        let footer = vfs.content(&rotten).expect("it is there").len() - 8;
        assert!(vfs.flip_bit(&rotten, footer, 3));
        let found = || {
            let mut from = crate::message::ScrubMark::default();
            while let Some(next) = damage::scrub(&replica.shared.engine, from, 1 << 30).next {
                from = next;
            }
            damage::find(&replica.shared).len()
        };
        assert_eq!(found(), 1, "the footer does not check");
        let record = FillRecord { entry: Epoch(7), stage: FillStage::Lost };
        let records = vec![MetaRecord::Fill(of, record)];
        run(&replica, DiskRequest::Unit(Box::new(UnitDisk::Lose { records, log: false })));
        run(&replica, empty(of, None));
        found()
    }

    /// Seed 77000002104: such a unit was found by each scrub, and filled again without end.
    #[test]
    fn what_a_unit_has_lost_goes_with_it_though_nothing_of_it_is_to_be_seen() {
        assert_eq!(damage_left(), 0);
        let _armed = crate::testing::arm_mutant("lost-unit-keeps-damage");
        assert_eq!(damage_left(), 1);
    }
}
