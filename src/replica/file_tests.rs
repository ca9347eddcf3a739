//! A unit as files, from one replica to another, on disks in memory; and what is written meanwhile.

use core::time::Duration;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use super::*;
use crate::message::{
    CopyChunk, CopyContent, CopyEntry, CopyFile, CopyPlace, CopyWhat, DiskAnswer, DiskRequest,
    FillProgress, FillRecord, FillStage, Overlay, SourceFloor, UnitDisk, UnitDone,
};
use crate::storage::{FaultyVfs, MemoryVfs, RealVfs, SyncMode, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, ClusterId, ClusterState, Epoch, Key, Lineage, NodeId, Partition, Record, Settings,
    Stamp, TableId, Topology, Unit, Value, WallTime,
};

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
const TO: (NodeId, Epoch) = (NodeId(4), Epoch(7));
const TABLE: TableId = TableId(1);

struct Host {
    vfs: Arc<FaultyVfs>,
    replica: Replica,
}

impl Host {
    fn new(seed: u64) -> Host {
        let vfs = Arc::new(FaultyVfs::new(seed));
        let replica = Host::open(&vfs).0;
        Host { vfs, replica }
    }

    fn open(vfs: &Arc<FaultyVfs>) -> (Replica, Restored) {
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        Replica::open(vfs.clone(), Path::new("data"), options).unwrap()
    }

    /// Power is lost and comes back.
    fn crash(&mut self) -> Restored {
        self.vfs.crash();
        self.vfs.restart();
        let (replica, restored) = Host::open(&self.vfs);
        self.replica = replica;
        restored
    }

    fn run(&self, request: DiskRequest) -> Result<DiskAnswer, DiskError> {
        run(&self.replica, request)
    }

    fn unit(&self, disk: UnitDisk) -> Result<UnitDone, DiskError> {
        match self.run(DiskRequest::Unit(Box::new(disk)))? {
            DiskAnswer::Unit(done) => Ok(done),
            other => panic!("{other:?}"),
        }
    }

    fn give(&self, what: CopyWhat) -> Result<CopyContent, DiskError> {
        match self.unit(UnitDisk::Page { unit: UNIT, what, to: TO })? {
            UnitDone::Page(page) => Ok(page.content),
            other => panic!("{other:?}"),
        }
    }

    fn files(&self) -> Vec<CopyFile> {
        match self.give(CopyWhat::Files).unwrap() {
            CopyContent::Files(files) => files,
            other => panic!("{other:?}"),
        }
    }

    fn chunk(&self, name: &str, offset: u64) -> Result<CopyChunk, DiskError> {
        match self.give(CopyWhat::Chunk(name.to_owned(), offset))? {
            CopyContent::Chunk(chunk) => Ok(chunk),
            other => panic!("{other:?}"),
        }
    }

    /// With threads of its own, on a real disk.
    fn threaded(dir: &Path) -> Host {
        let options = Options { sync: SyncMode::None, ..Options::default() };
        let (replica, _) = Replica::open(Arc::new(RealVfs), dir, options).unwrap();
        Host { vfs: Arc::new(FaultyVfs::new(0)), replica }
    }

    fn write(&self, name: &str, time: u64, bytes: usize) {
        self.run(write(name, record(time, bytes))).unwrap();
    }

    fn enter(&self) {
        let record = Some(filling(Overlay::Files, &[]));
        self.unit(UnitDisk::Empty { unit: UNIT, record, keeps: false }).unwrap();
    }

    /// Everything of the unit's files is put beside the store.
    fn stage(&self, source: &Host) -> Vec<CopyFile> {
        self.unit(UnitDisk::Clear { unit: UNIT }).unwrap();
        let files = source.files();
        for CopyFile { name, bytes } in &files {
            let mut offset = 0;
            while offset < *bytes {
                let chunk = source.chunk(name, offset).unwrap();
                let (file, length) = (name.clone(), chunk.bytes.len() as u64);
                self.unit(UnitDisk::Stage { unit: UNIT, file, offset, chunk }).unwrap();
                offset += length;
            }
        }
        files
    }

    fn take_in(&self, files: Vec<CopyFile>, state: ClusterState) -> Result<UnitDone, DiskError> {
        let (record, state) = (filling(Overlay::Merging, &[1]), Arc::new(state));
        self.unit(UnitDisk::TakeIn {
            unit: UNIT,
            files: Some(files),
            source: SourceFloor::default(),
            record,
            state,
        })
    }

    fn drain(&self) {
        for _ in 0..100 {
            let record = filling(Overlay::Unused, &[1]);
            match self.unit(UnitDisk::Drain { unit: UNIT, record }).unwrap() {
                UnitDone::Drained(true) => return,
                UnitDone::Drained(false) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("it has no end");
    }

    fn all(&self) -> Vec<CopyEntry> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let what = CopyWhat::All(after);
            let done = self.unit(UnitDisk::Page { unit: UNIT, what, to: TO }).unwrap();
            let UnitDone::Page(page) = done else { panic!() };
            let CopyContent::Records(entries) = page.content else { panic!() };
            all.extend(entries);
            match page.next {
                None => return all,
                next => after = next,
            }
        }
    }

    fn stamps(&self, names: &[&str]) -> Vec<Option<u64>> {
        let stamp = |name: &&str| {
            let (table, key) = (TABLE, key(name));
            let request = DiskRequest::Read { unit: UNIT, table, key, durable: false };
            match self.run(request).unwrap() {
                DiskAnswer::Read(found) => found.map(|record| record.stamp.time.0),
                other => panic!("{other:?}"),
            }
        };
        names.iter().map(stamp).collect()
    }
}

fn run(replica: &Replica, request: DiskRequest) -> Result<DiskAnswer, DiskError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    replica.execute(request, Box::new(move |outcome| sender.send(outcome).unwrap()));
    while replica.step() {}
    let outcome = receiver.recv_timeout(Duration::from_secs(60)).expect("answered");
    if replica.shared.inline {
        replica.check_trees().unwrap();
    }
    outcome
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

fn write(name: &str, record: Record) -> DiskRequest {
    DiskRequest::Write { unit: UNIT, table: TABLE, key: key(name), record }
}

fn record(time: u64, bytes: usize) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: Value::new(vec![b'v'; bytes]).ok() }
}

fn filling(overlay: Overlay, pulled: &[u32]) -> FillRecord {
    let pulled = pulled.iter().map(|id| NodeId(*id)).collect();
    let progress = FillProgress { pulled, current: None, overlay };
    FillRecord { entry: TO.1, stage: FillStage::Filling(progress) }
}

fn state() -> ClusterState {
    ClusterState {
        epoch: Epoch(7),
        parent: 0,
        cluster: ClusterId::default(),
        lineage: Lineage::default(),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 16 },
        members: Vec::new(),
        council: Vec::new(),
        ring: Vec::new(),
        classes: Vec::new(),
        tables: Vec::new(),
        table_id_max: TableId(0),
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Topology::default(),
    }
}

/// A source whose unit is too large for records, with values in files of their own.
fn source() -> Host {
    let source = Host::new(1);
    for number in 0..200 {
        let bytes = if number % 10 == 0 { 100_000 } else { 2000 };
        source.write(&format!("k{number:03}"), 10, bytes);
    }
    source
}

#[test]
fn a_unit_comes_as_files_and_what_was_written_meanwhile_is_merged_and_not_shadowed() {
    let case = || {
        let (source, target) = (source(), Host::new(2));
        target.enter();
        target.write("k001", 20, 10);
        target.write("k002", 5, 10);
        target.write("new", 20, 10);
        // Beside the range: nothing of it is in the way of the files.
        assert_eq!(target.all(), []);
        let files = target.stage(&source);
        assert!(files.iter().any(|file| file.name.ends_with(".blob")));
        target.write("k003", 20, 10);
        target.take_in(files, state()).unwrap();
        target.write("k004", 20, 10);
        target.write("k004", 19, 10);
        target.drain();
        target.write("k005", 20, 10);
        target.write("k006", 5, 10);
        target.replica.settle_trees();
        let checked = target.replica.check_trees().unwrap();
        assert_eq!((checked.equal, checked.building, checked.entries), (1, 0, 201));
        let names = ["k000", "k001", "k002", "k003", "k004", "k005", "k006", "new"];
        assert_eq!(target.all().len(), 201);
        target.stamps(&names).into_iter().map(Option::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(case(), [10, 20, 10, 20, 20, 20, 10, 20]);
    let _armed = arm_mutant("overlay-shadowed");
    assert_eq!(case(), [10, 10, 10, 10, 10, 20, 10, 20]);
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_what_was_staged_is_begun_anew() {
    let (source, mut target) = (source(), Host::new(3));
    target.enter();
    target.write("k001", 20, 10);
    let files = target.stage(&source);
    let restored = target.crash();
    assert_eq!(restored.fills.get(&UNIT), Some(&filling(Overlay::Files, &[])));
    assert!(target.take_in(files, state()).is_err(), "files that are not there");
    target.write("k002", 20, 10);
    let files = target.stage(&source);
    target.take_in(files, state()).unwrap();
    let restored = target.crash();
    assert_eq!(restored.fills.get(&UNIT), Some(&filling(Overlay::Merging, &[1])));
    target.write("k003", 20, 10);
    target.drain();
    let restored = target.crash();
    assert_eq!(restored.fills.get(&UNIT), Some(&filling(Overlay::Unused, &[1])));
    assert_eq!(target.stamps(&["k001", "k002", "k003", "k004"]), [20, 20, 20, 10].map(Some));
    assert_eq!(target.all().len(), 200);
}

#[test]
fn files_that_were_taken_in_and_not_put_on_record_are_taken_in_once_more() {
    let (source, target) = (source(), Host::new(4));
    target.enter();
    let files = target.stage(&source);
    target.take_in(files, state()).unwrap();
    // As after a crash before the record.
    target.enter_again();
    let files = target.stage(&source);
    target.take_in(files, state()).unwrap();
    target.drain();
    assert_eq!(target.all(), source.all());
}

impl Host {
    fn enter_again(&self) {
        let record = filling(Overlay::Files, &[]);
        let records = vec![crate::message::MetaRecord::Fill(UNIT, record)];
        self.run(DiskRequest::Persist(records)).unwrap();
    }
}

#[test]
fn what_files_have_of_dropped_tables_goes() {
    let (source, target) = (source(), Host::new(5));
    target.enter();
    let files = target.stage(&source);
    let dropped = ClusterState { table_id_max: TABLE, ..state() };
    target.take_in(files, dropped).unwrap();
    assert_eq!(target.all(), []);
}

#[test]
fn what_stays_as_it_is_keeps_its_tree_unless_something_dropped_was_in_it() {
    let target = Host::new(9);
    (0..20).for_each(|number| target.write(&format!("k{number:03}"), 20, 10));
    target.replica.settle_trees();
    let stay = |state: ClusterState| {
        let (unit, files, source) = (UNIT, None, SourceFloor::default());
        let (record, state) = (filling(Overlay::Unused, &[1]), Arc::new(state));
        target.unit(UnitDisk::TakeIn { unit, files, source, record, state }).unwrap();
        target.replica.tree_facts().built
    };
    let built = target.replica.tree_facts().built;
    assert_eq!((stay(state()), target.all().len()), (built, 20));
    // What goes is told to nobody.
    stay(ClusterState { table_id_max: TABLE, ..state() });
    assert_eq!(target.all(), []);
    target.replica.settle_trees();
    let checked = target.replica.check_trees().unwrap();
    assert_eq!((checked.building, checked.entries), (0, 0));
}

#[test]
fn a_damaged_chunk_is_refused_and_files_are_given_as_long_as_they_are_wanted() {
    let (source, target) = (source(), Host::new(6));
    target.enter();
    let files = source.files();
    assert_eq!(source.files(), files, "asked twice");
    let name = files[0].name.clone();
    let mut chunk = source.chunk(&name, 0).unwrap();
    chunk.sum ^= 1;
    let file = name.clone();
    assert!(target.unit(UnitDisk::Stage { unit: UNIT, file, offset: 0, chunk }).is_err());
    assert!(source.chunk("other.sst", 0).is_err());
    source.unit(UnitDisk::Page { unit: UNIT, what: CopyWhat::Ended, to: TO }).unwrap();
    assert!(source.chunk(&name, 0).is_err());
    assert!(!source.files().is_empty());
}

#[test]
fn a_small_unit_is_given_as_records() {
    let source = Host::new(7);
    source.write("a", 1, 100);
    let CopyContent::Records(entries) = source.give(CopyWhat::Files).unwrap() else { panic!() };
    assert_eq!(entries[0].place, CopyPlace { table: TABLE, key: key("a") });
}

#[test]
fn writes_that_go_on_while_files_are_taken_in_all_end_in_the_range() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (Host::threaded(one.path()), Host::threaded(other.path()));
    for number in 0..2000 {
        source.write(&format!("k{number:04}"), 10, 2000);
    }
    target.enter();
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (replica, is_over) = (target.replica.clone(), is_over.clone());
            let write_on = move || {
                let mut time = 100;
                while !is_over.load(Ordering::SeqCst) {
                    for number in (writer..300).step_by(2) {
                        run(&replica, write(&format!("k{number:04}"), record(time, 10))).unwrap();
                    }
                    time += 1;
                }
                time - 1
            };
            let thread = std::thread::Builder::new().name("writer".to_owned());
            thread.spawn(write_on).unwrap()
        })
        .collect();
    let files = target.stage(&source);
    target.take_in(files, state()).unwrap();
    let drains = || {
        let record = filling(Overlay::Unused, &[1]);
        let done = target.unit(UnitDisk::Drain { unit: UNIT, record }).unwrap();
        matches!(done, UnitDone::Drained(true))
    };
    let is_drained = (0..1000).any(|_| drains());
    is_over.store(true, Ordering::SeqCst);
    let last: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    // Writers that are faster than a slow build merges are let go first.
    assert!(is_drained || (0..1000).any(|_| drains()));
    let all = target.all();
    assert_eq!(all.len(), 2000);
    for (number, entry) in all.into_iter().enumerate() {
        let crate::message::CopyRecord::Version(version) = entry.record else { panic!() };
        let expected = if number < 300 { last[number % 2] } else { 10 };
        assert_eq!(version.stamp.time.0, expected, "{number}");
    }
    source.replica.close().unwrap();
    target.replica.close().unwrap();
}

/// Else the sync at the end has all of it to write, and the log's syncs wait behind it.
#[test]
fn what_is_staged_is_given_to_the_disk_as_it_comes() {
    let vfs = Arc::new(MemoryVfs::default());
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let (replica, _) = Replica::open(vfs.clone(), Path::new("data"), options).unwrap();
    let bytes = bytes::Bytes::from(vec![7; 1000]);
    let chunk = CopyChunk { sum: xxhash_rust::xxh3::xxh3_64(&bytes), bytes };
    let file = "one.sst".to_owned();
    let stage = UnitDisk::Stage { unit: UNIT, file, offset: 0, chunk };
    replica.execute(
        DiskRequest::Unit(Box::new(stage)),
        Box::new(|outcome| assert!(outcome.is_ok(), "{outcome:?}")),
    );
    assert_eq!(vfs.for_good(Path::new("data/taken-0/one.sst")), Some(1000));
}
