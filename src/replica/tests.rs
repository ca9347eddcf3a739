//! The replica on an in-memory disk, stepped by hand.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::message::{
    Ballot, BirthRecord, BootRecord, DecreeRecord, Instance, MetaRecord, RangePage, WriteOutcome,
};
use crate::storage::{FaultyVfs, MemoryVfs, ThreadMode};
use crate::types::{
    ClassId, ClusterId, ClusterState, Epoch, Key, Lineage, NodeId, Nonce, Partition, Record,
    RequestId, Settings, Sloppy, Stamp, Table, TableId, TableKind, TableName, Unit, Value,
    WallTime,
};

fn options() -> Options {
    Options { threads: ThreadMode::Inline, ..Options::default() }
}

fn open(vfs: &Arc<MemoryVfs>) -> (Replica, Restored) {
    Replica::open(vfs.clone(), Path::new("data"), options()).unwrap()
}

fn unit(partition: u16) -> Unit {
    Unit { class: ClassId(0), partition: Partition(partition) }
}

fn record(time: u64, value: Option<&str>) -> Record {
    Record {
        stamp: Stamp { time: WallTime(time), counter: 0, node: NodeId(1) },
        expiry: None,
        value: value.map(|value| Value::new(value.to_owned()).unwrap()),
    }
}

fn write(partition: u16, key: &str, record: Record) -> DiskRequest {
    let key = Key::new(key.to_owned()).unwrap();
    DiskRequest::Write { unit: unit(partition), table: TableId(1), key, record }
}

fn read(partition: u16, key: &str) -> DiskRequest {
    let key = Key::new(key.to_owned()).unwrap();
    DiskRequest::Read { unit: unit(partition), table: TableId(1), key, durable: false }
}

type Slot = Arc<Mutex<Option<Result<DiskAnswer, DiskError>>>>;

fn begin(replica: &Replica, request: DiskRequest) -> Slot {
    let slot = Slot::default();
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    slot
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = begin(replica, request);
    while replica.step() {}
    slot.lock().take().expect("answered").unwrap()
}

#[test]
fn the_highest_stamp_stays_whatever_order_versions_arrive_in() {
    let (replica, _) = open(&Arc::default());
    let stored = DiskAnswer::Written(WriteOutcome::Stored);
    let answer = run(&replica, write(0, "k", record(2, Some("two"))));
    assert!(matches!(answer, DiskAnswer::Written(WriteOutcome::Stored)), "{answer:?} {stored:?}");
    let answer = run(&replica, write(0, "k", record(1, Some("one"))));
    let by = record(2, None).stamp;
    assert!(matches!(answer, DiskAnswer::Written(WriteOutcome::Superseded(stamp)) if stamp == by));
    let answer = run(&replica, write(0, "k", record(3, None)));
    assert!(matches!(answer, DiskAnswer::Written(WriteOutcome::Stored)));
    let DiskAnswer::Read(Some(found)) = run(&replica, read(0, "k")) else { panic!() };
    assert_eq!(found, record(3, None));
    assert!(matches!(run(&replica, read(1, "k")), DiskAnswer::Read(None)));
}

#[test]
fn no_answer_to_a_write_comes_before_what_the_key_holds_is_durable() {
    let (replica, _) = open(&Arc::default());
    let first = begin(&replica, write(0, "k", record(2, Some("two"))));
    let same = begin(&replica, write(0, "k", record(2, Some("two"))));
    let older = begin(&replica, write(0, "k", record(1, Some("one"))));
    for slot in [&first, &same, &older] {
        assert!(slot.lock().is_none());
    }
    while replica.step() {}
    for slot in [first, same, older] {
        assert!(slot.lock().take().unwrap().is_ok());
    }
}

fn durable_read(key: &str) -> DiskRequest {
    let DiskRequest::Read { unit, table, key, .. } = read(0, key) else { unreachable!() };
    DiskRequest::Read { unit, table, key, durable: true }
}

#[test]
fn a_read_that_is_to_be_durable_waits_for_the_sync_of_what_it_shows_and_for_nothing_else() {
    let early = || {
        let vfs = Arc::new(MemoryVfs::default());
        let (replica, _) = open(&vfs);
        run(&replica, write(0, "old", record(1, Some("one"))));
        let written = begin(&replica, write(0, "k", record(2, Some("two"))));
        for at_once in [read(0, "k"), durable_read("old"), durable_read("nothing")] {
            assert!(begin(&replica, at_once).lock().take().unwrap().is_ok());
        }
        let (durable, again) = (begin(&replica, durable_read("k")), Slot::default());
        let filled = again.clone();
        let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
        assert!(replica.try_execute(durable_read("k"), done).is_none());
        let early = (durable.lock().is_some(), again.lock().is_some());
        assert!(written.lock().is_none());
        while replica.step() {}
        for slot in [durable, again] {
            let answer = slot.lock().take().unwrap();
            assert!(matches!(answer, Ok(DiskAnswer::Read(Some(shown))) if shown.stamp.time.0 == 2));
        }
        assert!(begin(&replica, durable_read("k")).lock().is_some());
        replica.close().unwrap();
        drop(replica);
        let (replica, _) = open(&vfs);
        assert!(begin(&replica, durable_read("k")).lock().is_some(), "what was found is on disk");
        early
    };
    assert_eq!(early(), (false, false));
    let _armed = crate::testing::arm_mutant("read-before-durable");
    assert_eq!(early(), (true, true));
}

#[test]
fn a_durable_read_does_not_show_what_was_taken_back_for_want_of_room() {
    let vfs = FaultyVfs::new(7);
    // So the log has no room that was made beforehand.
    let options = Options { group_bytes_max: 1, sync: SyncMode::None, ..options() };
    let (replica, _) = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap();
    run(&replica, write(0, "k", record(1, Some("one"))));
    let refused = begin(&replica, write(0, "k", record(2, Some(&"two".repeat(100_000)))));
    let read = begin(&replica, durable_read("k"));
    vfs.set_capacity(Some(0));
    while replica.step() {}
    assert!(matches!(refused.lock().take(), Some(Err(DiskError::TakenBack))));
    assert!(read.lock().take().unwrap().is_err());
    vfs.set_capacity(None);
    let DiskAnswer::Read(Some(shown)) = run(&replica, durable_read("k")) else { panic!() };
    assert_eq!(shown, record(1, Some("one")));
}

#[test]
fn a_durable_read_does_not_show_what_a_failed_sync_may_have_lost() {
    let vfs = FaultyVfs::new(7);
    let (replica, _) = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options()).unwrap();
    run(&replica, write(0, "old", record(1, Some("one"))));
    vfs.fail_syncs(1);
    let failed = begin(&replica, write(0, "k", record(3, Some("three"))));
    while replica.step() {}
    assert!(failed.lock().take().unwrap().is_err());
    let read = begin(&replica, durable_read("k"));
    while replica.step() {}
    assert!(matches!(read.lock().take(), Some(Err(DiskError::ReadOnly(_)))));
    assert!(begin(&replica, durable_read("old")).lock().take().unwrap().is_ok());
}

#[test]
fn own_records_are_restored_and_the_last_one_stored_wins() {
    let vfs = Arc::new(MemoryVfs::default());
    let (replica, restored) = open(&vfs);
    assert!(restored.boot.is_none() && restored.birth.is_none());
    let birth = BirthRecord { nonce: Nonce(7) };
    let boot = |number| MetaRecord::Boot(BootRecord { number, nonce: Nonce(number.into()) });
    run(&replica, DiskRequest::Persist(vec![MetaRecord::Birth(birth), boot(1)]));
    run(&replica, DiskRequest::Persist(vec![boot(2), MetaRecord::Ceiling(WallTime(9))]));
    replica.close().unwrap();
    drop(replica);
    let (_, restored) = open(&vfs);
    assert_eq!(restored.birth, Some(birth));
    assert_eq!(restored.boot.unwrap().number, 2);
    assert_eq!(restored.ceiling, WallTime(9));
    assert!(restored.damage.is_empty());
}

#[test]
fn a_page_merges_all_units_in_key_order_and_resumes_where_it_stopped() {
    let (replica, _) = open(&Arc::default());
    for (partition, key) in [(3, "a"), (1, "b"), (3, "c"), (2, "d"), (1, "ab"), (9, "aa")] {
        run(&replica, write(partition, key, record(1, Some(key))));
    }
    run(&replica, write(2, "ac", record(1, None)));
    run(&replica, DiskRequest::Flush);
    run(&replica, write(1, "ad", record(1, Some("late"))));
    let ask = |after: &'static str, prefix: &'static str, limit, keys_only, reverse| {
        let units = Arc::new([1, 2, 3].map(unit).to_vec());
        let (table, prefix, after) = (TableId(1), prefix.into(), after.into());
        let request = DiskRequest::Range {
            units,
            table,
            prefix,
            after,
            limit,
            keys_only,
            reverse,
            cursor: None,
            durable: false,
            deadline: crate::types::Time(u64::MAX),
        };
        let DiskAnswer::Range(page) = run(&replica, request) else { panic!() };
        page
    };
    let page = |after, prefix, limit, keys_only| ask(after, prefix, limit, keys_only, false);
    let keys = |page: &RangePage| {
        let text = page.entries.iter().map(|(key, _)| key.as_bytes().escape_ascii().to_string());
        text.collect::<Vec<_>>().join(" ")
    };
    let all = page("", "", 100, false);
    assert_eq!(keys(&all), "a ab ac ad b c d");
    assert!(all.complete);
    assert_eq!(all.entries[2].1.value, None);
    let first = page("", "a", 2, false);
    assert_eq!((keys(&first).as_str(), first.complete), ("a ab", false));
    let rest = page("ab", "a", 2, true);
    assert_eq!((keys(&rest).as_str(), rest.complete), ("ac ad", true));
    assert_eq!(rest.entries[1].1.value, Some(Value::new("").unwrap()));
    let back = |after, prefix, limit| {
        let page = ask(after, prefix, limit, false, true);
        (keys(&page), page.complete)
    };
    assert_eq!(back("", "", 100), ("d c b ad ac ab a".to_owned(), true));
    assert_eq!(back("", "a", 2), ("ad ac".to_owned(), false));
    assert_eq!(back("ac", "a", 2), ("ab a".to_owned(), true));
    assert_eq!(back("b", "a", 9), ("ad ac ab a".to_owned(), true), "from above the prefix");
    assert_eq!(back("a", "b", 9), (String::new(), true), "from below it");
    assert_eq!(back("a", "", 9), (String::new(), true));
}

#[test]
fn the_bytes_of_own_records_stay_what_they_are() {
    let boot = MetaRecord::Boot(BootRecord { number: 3, nonce: Nonce(5) });
    assert_eq!(crate::codec::encode(&boot).unwrap(), [1, 3, 3, 5]);
    assert_eq!(crate::codec::encode(&MetaRecord::Ceiling(WallTime(250))).unwrap(), [1, 4, 250]);
    let birth = MetaRecord::Birth(BirthRecord { nonce: Nonce(1) });
    assert_eq!(crate::codec::encode(&birth).unwrap(), [1, 0, 1]);
    assert_eq!(crate::codec::encode(&MetaRecord::Pledge(2)).unwrap(), [1, 1, 2]);
}

proptest::proptest! {
    #[test]
    fn foreign_bytes_in_the_place_of_own_records_or_keys_never_panic(
        bytes: Vec<u8>, variant in 0u8..12, small: bool,
    ) {
        let bytes: Vec<u8> = bytes.iter().map(|byte| if small { byte % 8 } else { *byte }).collect();
        let _table = keyspace::table_of(&bytes);
        let record = [&[1, variant], bytes.as_slice()].concat();
        if let Ok(record) = crate::codec::decode::<MetaRecord>(&record) {
            let again = crate::codec::encode(&record).unwrap();
            proptest::prop_assert_eq!(crate::codec::decode::<MetaRecord>(&again), Ok(record));
        }
    }
}

#[test]
fn an_answer_that_rests_on_a_version_the_full_disk_refused_is_refused_too() {
    let vfs = FaultyVfs::new(7);
    let options = Options { group_bytes_max: 1, ..options() };
    let (replica, _) = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap();
    let first = begin(&replica, write(0, "k", record(2, Some("two"))));
    // Both find the first one in memory and are answered by a group of the log of their own.
    let same = begin(&replica, write(0, "k", record(2, Some("two"))));
    let older = begin(&replica, write(0, "k", record(1, Some("one"))));
    vfs.set_capacity(Some(0));
    while replica.step() {}
    for slot in [first, same, older] {
        let outcome = slot.lock().take().expect("answered");
        assert!(matches!(outcome, Err(DiskError::TakenBack)), "{outcome:?}");
    }
    vfs.set_capacity(None);
    assert!(matches!(run(&replica, read(0, "k")), DiskAnswer::Read(None)));
    let answer = run(&replica, write(0, "k", record(1, Some("one"))));
    assert!(matches!(answer, DiskAnswer::Written(WriteOutcome::Stored)), "{answer:?}");
}

/// Whether a full disk refuses a write before readers see it, once another one has found it full. When
/// there is room again the next write finds it.
fn is_refused_unseen() -> bool {
    let vfs = FaultyVfs::new(7);
    let options = Options { group_bytes_max: 1, sync: SyncMode::None, ..options() };
    let (replica, _) = Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap();
    run(&replica, write(0, "k", record(1, Some("one"))));
    vfs.set_capacity(Some(0));
    let first = begin(&replica, write(0, "k", record(2, Some("two"))));
    while replica.step() {}
    assert!(matches!(first.lock().take(), Some(Err(DiskError::TakenBack))));
    // What rests on nothing that is written needs no room.
    run(&replica, durable_read("k"));
    let second = begin(&replica, write(0, "k", record(3, Some("three"))));
    let refused = matches!(second.lock().take(), Some(Err(DiskError::Full)));
    let DiskAnswer::Read(Some(seen)) = run(&replica, read(0, "k")) else { panic!() };
    assert_eq!(seen.stamp.time == WallTime(1), refused);
    while replica.step() {}
    vfs.set_capacity(None);
    let answer = run(&replica, write(0, "k", record(4, Some("four"))));
    assert!(matches!(answer, DiskAnswer::Written(WriteOutcome::Stored)), "{answer:?}");
    refused
}

#[test]
fn a_disk_that_is_known_to_be_full_shows_nothing_that_it_cannot_keep() {
    assert!(is_refused_unseen());
    let _armed = crate::testing::arm_mutant("storage-full-shows-first");
    assert!(!is_refused_unseen());
}

/// Whether a write that changes nothing is answered before what it rests on is durable.
fn answers_before_durable(arriving: Record) -> bool {
    let (replica, _) = open(&Arc::default());
    let first = begin(&replica, write(0, "k", record(2, Some("two"))));
    let second = begin(&replica, write(0, "k", arriving));
    assert!(first.lock().is_none());
    second.lock().is_some()
}

#[test]
fn a_superseded_write_waits_for_what_superseded_it() {
    let (same, older) = (record(2, Some("two")), record(1, Some("one")));
    assert!(!answers_before_durable(same.clone()) && !answers_before_durable(older.clone()));
    let _armed = crate::testing::arm_mutant("superseded-before-durable");
    assert!(answers_before_durable(same) && answers_before_durable(older));
}

#[test]
fn keys_of_dropped_tables_go_in_bounded_pieces_and_those_of_others_stay() {
    let (replica, _) = open(&Arc::default());
    let place = |partition: u16, table: u32, key: &str| {
        let key = Key::new(key.to_owned()).unwrap();
        let (unit, table) = (unit(partition), TableId(table));
        let record = record(1, Some("v"));
        run(&replica, DiskRequest::Write { unit, table, key, record });
    };
    // Table 1 is there, 2 was dropped, 3 is not known yet.
    for partition in 0..100 {
        for table in 1..=3 {
            for key in ["a", "b", "\u{7f}"] {
                place(partition, table, key);
            }
        }
        if partition == 50 {
            run(&replica, DiskRequest::Flush);
        }
    }
    let mut state = state();
    state.tables.truncate(1);
    state.table_id_max = TableId(2);
    let (state, mut from, mut pieces) = (Arc::new(state), Bytes::new(), 0);
    loop {
        let sweep = DiskRequest::Sweep { state: state.clone(), from: from.clone() };
        let DiskAnswer::Swept(next, _) = run(&replica, sweep) else { panic!() };
        pieces += 1;
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert!(pieces > 3, "{pieces} pieces for 300 places");
    let count = |table: u32| {
        let units = Arc::new((0..100).map(unit).collect());
        let (prefix, after, table) = (Bytes::new(), Bytes::new(), TableId(table));
        let (limit, keys_only, reverse) = (1000, true, false);
        let request = DiskRequest::Range {
            units,
            table,
            prefix,
            after,
            limit,
            keys_only,
            reverse,
            cursor: None,
            durable: false,
            deadline: crate::types::Time(u64::MAX),
        };
        let DiskAnswer::Range(page) = run(&replica, request) else { panic!() };
        page.entries.len()
    };
    assert_eq!([1, 2, 3].map(count), [300, 0, 300]);
}

#[test]
fn what_was_promised_accepted_decided_and_swept_is_restored() {
    let vfs = Arc::new(MemoryVfs::default());
    let (replica, _) = open(&vfs);
    let accepted = Arc::new(state());
    let ballot = Ballot { counter: 4, boot: 2, member: NodeId(3) };
    let instance = Instance { lineage: accepted.lineage, epoch: accepted.epoch };
    let record = DecreeRecord { instance, promised: ballot, accepted: Some((ballot, accepted)) };
    let records = vec![
        MetaRecord::Decree(record.clone()),
        MetaRecord::Decided(Arc::new(state())),
        MetaRecord::Swept(Epoch(7)),
    ];
    run(&replica, DiskRequest::Persist(records));
    replica.close().unwrap();
    drop(replica);
    let (_, restored) = open(&vfs);
    assert_eq!(restored.decree, record);
    assert_eq!(restored.decided.as_deref(), Some(&state()));
    assert_eq!((restored.swept, restored.state), (Epoch(7), None));
}

pub(super) fn state() -> ClusterState {
    let table = Table {
        id: TableId(1),
        name: TableName::try_from("default".to_owned()).unwrap(),
        kind: TableKind::Lww,
        class: ClassId(0),
        n: 1,
        r: 1,
        w: 1,
        r_min: 1,
        w_min: 1,
        sloppy: Sloppy::Request,
        ttl: None,
        value_bytes_max: 1 << 20,
    };
    ClusterState {
        epoch: Epoch(3),
        parent: 5,
        cluster: ClusterId(6),
        lineage: Lineage(0),
        feature_level: 1,
        settings: Settings { name: "kv".to_owned(), partitions: 1 },
        members: Vec::new(),
        council: Vec::new(),
        ring: Vec::new(),
        classes: Vec::new(),
        tables: vec![table],
        table_id_max: TableId(1),
        dropped_at: Epoch(0),
        recent_changes: vec![(RequestId(1), Epoch(3))],
        topology: Default::default(),
    }
}

#[test]
fn hours_of_load_are_there_after_a_restart_and_the_oldest_give_way() {
    use crate::message::{HourRecord, ProposalRecord, ResizeRecord};
    let disk = Arc::new(MemoryVfs::default());
    let kept = crate::types::limits::HOURS_KEPT;
    let hour = |hour| MetaRecord::Hour(HourRecord { hour, samples: 60, ..HourRecord::default() });
    let resized = ResizeRecord { grown: 7, shrunk: 9 };
    let proposals = ProposalRecord { exchanged: 8, dismissed: [(9, 1 << 40), (10, 11)] };
    {
        let (replica, _) = open(&disk);
        let others = [MetaRecord::Resized(resized), MetaRecord::Proposals(proposals)];
        let records = (1000..1000 + kept + 5).map(hour).chain(others);
        run(&replica, DiskRequest::Persist(records.collect()));
        replica.close().unwrap();
    }
    let (_replica, restored) = open(&disk);
    let mut hours: Vec<u32> = restored.hours.iter().map(|it| it.hour).collect();
    hours.sort_unstable();
    assert_eq!(hours, (1005..1005 + kept).collect::<Vec<u32>>());
    assert_eq!((restored.resized, restored.proposals), (resized, proposals));
}
