//! The node's own records on a disk that rots, stepped by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keyspace::{META, META_COPY};
use super::*;
use crate::message::{BirthRecord, MetaRecord, UnitDisk, UnitDone};
use crate::storage::FaultyVfs;
use crate::testing::arm_mutant;
use crate::types::{
    Class, ClassId, ClusterState, Epoch, Key, NodeId, Nonce, Partition, Record, Settings, Stamp,
    TableId, Unit, Value, WallTime,
};
use bytes::Bytes;

fn open(disk: &FaultyVfs) -> Result<(Replica, Restored), ReplicaError> {
    let (threads, block_bytes, block_cache_bytes) = (ThreadMode::Inline, 256, 0);
    let options = Options { threads, block_bytes, block_cache_bytes, ..Options::default() };
    Replica::open(Arc::new(disk.clone()), Path::new("data"), options)
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while slot.lock().is_none() && replica.step() {}
    slot.lock().take().unwrap().unwrap()
}

fn dirty(number: u16) -> MetaRecord {
    let unit = Unit { class: ClassId(0), partition: Partition(number) };
    MetaRecord::Dirty(unit, NodeId(2))
}

/// A store with a birth and marks of so many units, in tables.
fn stocked(disk: &FaultyVfs, marks: u16) {
    let (replica, _) = open(disk).unwrap();
    let birth = MetaRecord::Birth(BirthRecord { nonce: Nonce(7) });
    run(&replica, DiskRequest::Persist((0..marks).map(dirty).chain([birth]).collect()));
    run(&replica, DiskRequest::Flush);
    replica.close().unwrap();
}

fn tables(disk: &FaultyVfs) -> Vec<PathBuf> {
    let of_kind = |path: &PathBuf| path.extension().is_some_and(|end| end == "sst");
    let mut tables: Vec<PathBuf> = disk.files().into_iter().filter(of_kind).collect();
    tables.sort();
    tables
}

/// Turns a bit of the table at this place among all.
fn rot(disk: &FaultyVfs, table: usize, byte: usize) {
    assert!(disk.flip_bit(&tables(disk)[table], byte, 3));
}

/// What has been told of damage that is left, own records alone.
fn told(replica: &Replica) -> Vec<bool> {
    let DiskAnswer::Unit(UnitDone::Damaged(found)) =
        run(replica, DiskRequest::Unit(Box::new(UnitDisk::Damage)))
    else {
        panic!()
    };
    found.iter().map(|keys| keys.own).collect()
}

#[test]
fn both_copies_stand_in_tables_of_their_own_and_are_equal() {
    let disk = FaultyVfs::new(1);
    stocked(&disk, 40);
    assert_eq!(tables(&disk).len(), 2);
    let (replica, _) = open(&disk).unwrap();
    let all = |space: u8| {
        let prefix = [space];
        let keys = replica.shared.engine.prefix(&prefix, storage::Direction::Forward);
        keys.map(|it| it.map(|(key, value, _)| (key.slice(1..), value)).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(all(META).len(), 41);
    assert_eq!(all(META), all(META_COPY));
    run(&replica, DiskRequest::Persist(vec![MetaRecord::Clean(unit_of(&dirty(3)), NodeId(2))]));
    assert_eq!(all(META).len(), 40);
    assert_eq!(all(META), all(META_COPY));
}

fn unit_of(record: &MetaRecord) -> Unit {
    let MetaRecord::Dirty(unit, _) = record else { panic!() };
    *unit
}

#[test]
fn a_byte_that_has_rotted_anywhere_costs_nothing_and_is_put_right() {
    for table in 0..2 {
        let disk = FaultyVfs::new(1);
        stocked(&disk, 40);
        let length = disk.content(&tables(&disk)[table]).unwrap().len();
        for byte in (0..length).step_by(23) {
            let disk = disk.fork(byte as u64);
            rot(&disk, table, byte);
            for boot in 0..3 {
                let (replica, restored) = open(&disk).unwrap();
                assert_eq!(restored.birth, Some(BirthRecord { nonce: Nonce(7) }), "{byte}");
                assert_eq!(restored.dirty.len(), 40, "byte {byte}, boot {boot}");
                run(&replica, DiskRequest::Persist(vec![dirty(boot)]));
                assert!(!told(&replica).contains(&true));
                run(&replica, DiskRequest::Flush);
                replica.shared.engine.compact().unwrap();
                assert!(replica.stats().compaction_error.is_none(), "{byte}");
                replica.close().unwrap();
            }
        }
    }
}

#[test]
fn what_rots_while_the_node_runs_is_put_right_as_soon_as_it_is_met() {
    for (table, space) in [(0, META), (1, META_COPY)] {
        let disk = FaultyVfs::new(1);
        stocked(&disk, 40);
        let (replica, _) = open(&disk).unwrap();
        rot(&disk, table, 300);
        let merge = || replica.shared.engine.compact();
        run(&replica, DiskRequest::Persist(vec![dirty(0), dirty(100)]));
        assert!(merge().is_err());
        run(&replica, DiskRequest::Persist(vec![dirty(101)]));
        {
            let _armed = arm_mutant("own-record-not-mended");
            assert_eq!(told(&replica), [true]);
            assert!(merge().is_err());
        }
        assert_eq!(told(&replica), [false]);
        assert!(told(&replica).is_empty(), "it is gone");
        run(&replica, DiskRequest::Flush);
        merge().unwrap();
        let keys = replica.shared.engine.prefix(&[space], storage::Direction::Forward);
        assert_eq!(keys.filter(Result::is_ok).count(), 43, "what was written since is not undone");
        replica.close().unwrap();
    }
}

#[test]
fn bad_places_of_both_copies_are_read_around_unless_they_meet() {
    let disk = FaultyVfs::new(1);
    stocked(&disk, 400);
    let length = disk.content(&tables(&disk)[0]).unwrap().len();
    let boot = |bytes: [usize; 3]| {
        let disk = disk.fork(1);
        rot(&disk, 0, bytes[0]);
        rot(&disk, 0, bytes[1]);
        rot(&disk, 1, bytes[2]);
        open(&disk).map(|(_, restored)| (restored.birth.is_some(), restored.dirty.len()))
    };
    assert_eq!(boot([300, length / 3, length / 2]).unwrap(), (true, 400));
    assert!(boot([length / 3, length / 2, length / 2]).is_err(), "nobody else has it");
}

#[test]
fn a_store_of_before_there_was_a_copy_gets_one() {
    let disk = FaultyVfs::new(1);
    {
        let _armed = arm_mutant("own-record-once");
        stocked(&disk, 40);
        assert_eq!(tables(&disk).len(), 1);
        let broken = disk.fork(1);
        rot(&broken, 0, 300);
        assert!(open(&broken).is_err(), "not an empty one, which would be a stranger");
    }
    let broken = disk.fork(1);
    rot(&broken, 0, 300);
    assert!(open(&broken).is_err());
    let (replica, _) = open(&disk).unwrap();
    run(&replica, DiskRequest::Flush);
    replica.close().unwrap();
    let (_, restored) = {
        let first = tables(&disk)[0].clone();
        assert!(disk.flip_bit(&first, 300, 3));
        open(&disk).unwrap()
    };
    assert_eq!(restored.dirty.len(), 40);
}

/// A class of so many units with one copy, and table 1 in it; table 2 was dropped.
fn dropped() -> ClusterState {
    let class = Class::new(ClassId(0), (1, 1, 1), vec![vec![NodeId(1)]; 4], Epoch(1));
    ClusterState {
        settings: Settings { name: "kv".to_owned(), partitions: 4 },
        classes: vec![class],
        table_id_max: TableId(2),
        ..tests::state()
    }
}

fn keys(replica: &Replica, table: u32) -> Vec<DiskAnswer> {
    let units = (0..4).map(|number| Unit { class: ClassId(0), partition: Partition(number) });
    let read = |unit| {
        let (table, key) = (TableId(table), Key::new("key".to_owned()).unwrap());
        let request = DiskRequest::Read { unit, table, key, durable: false };
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        replica.execute(request, Box::new(move |outcome| *filled.lock() = outcome.ok()));
        while slot.lock().is_none() && replica.step() {}
        slot.lock().take()
    };
    units.filter_map(read).filter(|it| matches!(it, DiskAnswer::Read(Some(_)))).collect()
}

/// Drops table 2 of two where one file with keys of table 1 does not read. Returns how many keys of each are left.
fn sweeps_beside_damage() -> (usize, usize) {
    let disk = FaultyVfs::new(1);
    let (replica, _) = open(&disk).unwrap();
    let place = |number: u16, table: u32, key: &str| {
        let unit = Unit { class: ClassId(0), partition: Partition(number) };
        let (table, key) = (TableId(table), Key::new(key.to_owned()).unwrap());
        let stamp = Stamp { time: WallTime(1), counter: 0, node: NodeId(1) };
        let value = Some(Value::new("v".to_owned()).unwrap());
        let record = Record { stamp, expiry: None, value };
        run(&replica, DiskRequest::Write { unit, table, key, record });
    };
    // Of the unit in the middle one table does not read.
    place(1, 1, "lost");
    place(1, 1, "more");
    run(&replica, DiskRequest::Flush);
    let bad = tables(&disk).pop().unwrap();
    for (number, table) in (0..4).flat_map(|number| [(number, 1), (number, 2)]) {
        place(number, table, "key");
    }
    run(&replica, DiskRequest::Flush);
    assert_eq!((keys(&replica, 1).len(), keys(&replica, 2).len()), (4, 4));
    replica.close().unwrap();
    let length = disk.content(&bad).unwrap().len();
    assert!(disk.flip_bit(&bad, length - 20, 3));

    let (replica, _) = open(&disk).unwrap();
    let (state, mut from) = (Arc::new(dropped()), Bytes::new());
    for _ in 0..20 {
        let request = DiskRequest::Sweep { state: state.clone(), from: from.clone() };
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
        while slot.lock().is_none() && replica.step() {}
        match slot.lock().take().unwrap() {
            Ok(DiskAnswer::Swept(Some(next), _)) => from = next,
            _ => break,
        }
    }
    (keys(&replica, 1).len(), keys(&replica, 2).len())
}

#[test]
fn a_dropped_table_goes_also_where_another_one_does_not_read() {
    let (_, dropped) = sweeps_beside_damage();
    assert_eq!(dropped, 0);
    let _armed = arm_mutant("damage-stops-sweep");
    let (_, dropped) = sweeps_beside_damage();
    assert!(dropped > 0, "nothing stopped the sweep");
}
