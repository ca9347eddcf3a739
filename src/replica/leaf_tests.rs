//! Comparisons of a target with a source by the leaves of the source's tree, over real stores.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;

use super::trees::{self, Counted};
use super::*;
use crate::message::{
    CopyContent, CopyLack, CopyLeaves, CopyPage, CopyPlace, CopyStretch, CopyTold, CopyWhat,
    DiskAnswer, DiskError, DiskRequest, RegisterDisk, RegisterTask, TreeDisk, UnitDisk, UnitDone,
};
use crate::repair::tree::{Place, Range};
use crate::storage::{Batch, FaultyVfs, MemoryVfs, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, Epoch, Key, NodeId, Partition, Record, RegisterState, Stamp, TableId, Unit, Value,
    WallTime,
};

const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
const TO: (NodeId, Epoch) = (NodeId(4), Epoch(7));
const PLAIN: TableId = TableId(1);
const LINEAR: TableId = TableId(3);

fn open() -> Replica {
    let options = Options { threads: ThreadMode::Inline, ..Options::default() };
    let vfs: Arc<MemoryVfs> = Arc::default();
    Replica::open(vfs, Path::new("data"), options).unwrap().0
}

fn run(replica: &Replica, request: DiskRequest) -> DiskAnswer {
    let slot = Arc::new(Mutex::new(None));
    let filled = slot.clone();
    replica.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while replica.step() {}
    slot.lock().take().expect("answered").unwrap()
}

fn on_unit(replica: &Replica, disk: UnitDisk) -> UnitDone {
    let DiskAnswer::Unit(done) = run(replica, DiskRequest::Unit(Box::new(disk))) else { panic!() };
    done
}

fn page(replica: &Replica, what: CopyWhat) -> CopyPage {
    let UnitDone::Page(page) = on_unit(replica, UnitDisk::Page { unit: UNIT, what, to: TO }) else {
        panic!()
    };
    page
}

fn record(time: u64) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    Record { stamp, expiry: None, value: Value::new("v").ok() }
}

fn key(number: u64) -> Key {
    Key::new(format!("k{number:05}")).unwrap()
}

fn write(replica: &Replica, number: u64, time: u64) {
    let (unit, table, key, record) = (UNIT, PLAIN, key(number), record(time));
    run(replica, DiskRequest::Write { unit, table, key, record });
}

fn ask(replica: &Replica, task: RegisterTask) {
    let (unit, table, key, fence) = (UNIT, LINEAR, key(1), Epoch(1));
    let disk = RegisterDisk { unit, table, key, fence, task };
    run(replica, DiskRequest::Register(Box::new(disk)));
}

/// All leaves of a source, page by page; `None`: it gives marks.
fn leaves(source: &Replica) -> Option<CopyLeaves> {
    let (mut all, mut from) = (CopyLeaves::default(), Place::first());
    loop {
        let told = match page(source, CopyWhat::Leaves(from.clone(), None)).content {
            CopyContent::Leaves(told) => told,
            CopyContent::Marks(_) => return None,
            other => panic!("{other:?}"),
        };
        assert!(told.fits(&from));
        all.leaves.extend(told.leaves);
        match told.end {
            None => return Some(all),
            Some(end) => from = end,
        }
    }
}

fn lack(target: &Replica, told: CopyTold) -> CopyLack {
    match on_unit(target, UnitDisk::Compare { unit: UNIT, told }) {
        UnitDone::Wanted(lack) => lack,
        other => panic!("{other:?}"),
    }
}

/// Where the target holds something else than the leaves of the source say.
fn differing(source: &Replica, target: &Replica) -> Vec<Range> {
    let sums = leaves(source).unwrap().sums().collect();
    match lack(target, CopyTold::Sums(sums)) {
        CopyLack::Ranges(ranges) => ranges,
        CopyLack::Keys(_) => panic!("of sums"),
    }
}

/// The marks of ranges of the source, and what the target lacks of them.
fn marks(source: &Replica, target: &Replica, ranges: Vec<Range>) -> (usize, Vec<CopyPlace>) {
    let (mut count, mut wanted) = (0, Vec::new());
    for range in ranges {
        let mut after = None;
        loop {
            let stretch = CopyStretch { range: range.clone(), after };
            let page = page(source, CopyWhat::Marks(stretch));
            let CopyContent::Marks(marks) = page.content else { panic!() };
            assert!(marks.iter().all(|mark| range.holds(&mark.place.place())));
            count += marks.len();
            let CopyLack::Keys(some) = lack(target, CopyTold::Marks(marks)) else { panic!() };
            wanted.extend(some);
            match page.next {
                None => break,
                next => after = next,
            }
        }
    }
    (count, wanted)
}

const KEYS: u64 = 6000;

fn two() -> (Replica, Replica) {
    let both = (open(), open());
    for number in 0..KEYS {
        write(&both.0, number, 1);
        write(&both.1, number, 1);
    }
    both
}

#[test]
fn one_key_that_differs_is_found_by_the_marks_of_one_leaf() {
    let (source, target) = two();
    let told = leaves(&source).unwrap();
    assert!((4..40).contains(&told.leaves.len()), "{} leaves", told.leaves.len());
    assert!(told.bytes() < 2000, "{} bytes", told.bytes());
    assert_eq!(differing(&source, &target), []);
    write(&source, 4321, 2);
    let ranges = differing(&source, &target);
    let [range] = &ranges[..] else { panic!("{ranges:?}") };
    assert!(range.holds(&Place::new(PLAIN, &key(4321))));
    let (count, wanted) = marks(&source, &target, ranges);
    assert!(count < usize::try_from(KEYS).unwrap() / 2, "{count} marks");
    assert_eq!(wanted, [CopyPlace { table: PLAIN, key: key(4321) }]);
    // What is newer here differs too, and is not asked for.
    write(&target, 4321, 3);
    let ranges = differing(&source, &target);
    assert_eq!((ranges.len(), marks(&source, &target, ranges).1), (1, Vec::new()));
}

/// Entries that a replica reads while this is done.
fn read_for(replica: &Replica, done: impl FnOnce()) -> u64 {
    let before = replica.tree_facts().entries_read;
    done();
    replica.tree_facts().entries_read - before
}

#[test]
fn what_the_targets_tree_tells_is_not_read_and_of_what_differs_its_leaf_is() {
    let (source, target) = two();
    target.settle_trees();
    assert_eq!(read_for(&target, || assert_eq!(differing(&source, &target), [])), 0);
    write(&source, 4321, 2);
    let read = read_for(&target, || assert_eq!(differing(&source, &target).len(), 1));
    assert!((1..KEYS / 2).contains(&read), "{read} entries read");
}

#[test]
fn a_tree_that_has_yet_to_be_built_is_built_by_who_compares() {
    let (source, target) = two();
    target.settle_trees();
    let built = target.tree_facts().built;
    target.shared.trees.doubt(UNIT);
    assert_eq!(read_for(&target, || assert_eq!(differing(&source, &target), [])), 0);
    assert_eq!((target.tree_facts().built, target.tree_facts().building), (built + 1, 0));
}

#[test]
fn once_something_was_taken_back_the_store_is_read_and_not_the_tree() {
    let case = || {
        let source = open();
        let vfs = Arc::new(FaultyVfs::new(7));
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        let target = Replica::open(vfs.clone(), Path::new("data"), options).unwrap().0;
        // Its log has no room beforehand yet.
        vfs.set_capacity(Some(0));
        let (unit, table, key, record) = (UNIT, PLAIN, key(50), record(1));
        let full = Arc::new(Mutex::new(None));
        let heard = full.clone();
        target.execute(
            DiskRequest::Write { unit, table, key, record },
            Box::new(move |outcome| *heard.lock() = Some(outcome)),
        );
        while target.step() {}
        assert!(matches!(full.lock().take(), Some(Err(DiskError::TakenBack))));
        vfs.set_capacity(None);
        target.interval_elapsed();
        while target.step() {}
        for replica in [&source, &target] {
            (0..50).for_each(|number| write(replica, number, 1));
        }
        target.settle_trees();
        read_for(&target, || assert_eq!(differing(&source, &target), []))
    };
    assert_eq!(case(), 50);
    let _armed = arm_mutant("tree-though-undone");
    assert_eq!(case(), 0);
}

#[test]
fn a_range_with_as_many_other_keys_differs() {
    let case = || {
        let (source, target) = (open(), open());
        write(&source, 1, 1);
        write(&target, 2, 1);
        differing(&source, &target).len()
    };
    assert_eq!(case(), 1);
    let _armed = arm_mutant("leaves-by-count");
    assert_eq!(case(), 0);
}

#[test]
fn what_is_not_lacking_is_durable_before_it_is_called_so() {
    let case = |as_marks: bool| {
        let (source, target) = (open(), open());
        write(&source, 1, 1);
        let told = match as_marks {
            true => match page(&source, CopyWhat::Marks(CopyStretch::default())).content {
                CopyContent::Marks(marks) => CopyTold::Marks(marks),
                other => panic!("{other:?}"),
            },
            false => CopyTold::Sums(leaves(&source).unwrap().sums().collect()),
        };
        let (unit, table, key, record) = (UNIT, PLAIN, key(1), record(1));
        target.execute(DiskRequest::Write { unit, table, key, record }, Box::new(|_| ()));
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        let request = DiskRequest::Unit(Box::new(UnitDisk::Compare { unit, told }));
        target.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
        let early = slot.lock().is_some();
        while target.step() {}
        let Some(Ok(DiskAnswer::Unit(UnitDone::Wanted(lack)))) = slot.lock().take() else {
            panic!("no answer")
        };
        assert!([CopyLack::Keys(Vec::new()), CopyLack::Ranges(Vec::new())].contains(&lack));
        early
    };
    assert!(!case(true) && !case(false));
    let _armed = arm_mutant("compared-before-durable");
    assert!(case(true) && case(false));
}

#[test]
fn promises_show_in_marks_and_not_in_leaves() {
    let (source, target) = two();
    for replica in [&source, &target] {
        ask(replica, RegisterTask::Accept(record(4).stamp, RegisterState::default()));
    }
    ask(&source, RegisterTask::Prepare(record(9).stamp));
    assert_eq!(differing(&source, &target), []);
    let table = |id: u32| Place::edge(TableId(id));
    let all = Range { from: table(LINEAR.0), to: Some(table(LINEAR.0 + 1)) };
    assert_eq!(marks(&source, &target, vec![all]).1, [CopyPlace { table: LINEAR, key: key(1) }]);
}

#[test]
fn a_source_whose_tree_is_not_there_gives_marks_of_what_is_behind_a_place() {
    let (source, target) = two();
    // A step reads for trees as well: so none is made.
    source.execute(
        DiskRequest::Tree(Box::new(TreeDisk::Rebuild { unit: UNIT })),
        Box::new(|answer| drop(answer.unwrap())),
    );
    let (slot, after) = (Arc::new(Mutex::new(None)), CopyPlace { table: PLAIN, key: key(99) });
    let filled = slot.clone();
    let what = CopyWhat::Leaves(Place::first(), Some(after));
    let request = DiskRequest::Unit(Box::new(UnitDisk::Page { unit: UNIT, what, to: TO }));
    source.execute(request, Box::new(move |outcome| *filled.lock() = Some(outcome)));
    while source.step() {}
    let Some(Ok(DiskAnswer::Unit(UnitDone::Page(page)))) = slot.lock().take() else { panic!() };
    let CopyContent::Marks(marks) = page.content else { panic!("{:?}", page.content) };
    assert_eq!(marks[0].place, CopyPlace { table: PLAIN, key: key(100) });
    assert_eq!(marks.len(), 4096, "a page");
    source.settle_trees();
    assert_eq!(differing(&source, &target), []);
}

/// A write is durable, and so may be acknowledged, and its tree has yet to be told: as long as its stripe is
/// held. Returns whether leaves that are asked for meanwhile, and told when they can be, count it.
fn counted_though_untold(is_planted: bool) -> bool {
    let source = open();
    write(&source, 1, 1);
    let shared = Arc::clone(&source.shared);
    let engine_key = keyspace::data_key(UNIT, PLAIN, &key(2));
    let stripe = shared.stripe(&engine_key).lock();
    let mut batch = Batch::new();
    batch.put(&engine_key, &record::encode(&record(2)));
    shared.engine.submit(batch, Durability::Default, Box::new(|_| ())).unwrap();
    while source.shared.engine.step() {}
    let asked = Arc::clone(&source.shared);
    let asker = thread::Builder::new().name("asker".to_owned());
    let asker = asker.spawn(move || {
        let _armed = is_planted.then(|| arm_mutant("leaves-before-told"));
        trees::leaves(&asked, UNIT, &Place::first()).unwrap()
    });
    let asker = asker.unwrap();
    // One that waits for nothing is done before the tree is told; another one waits for the stripe.
    let (early, asker) = match is_planted {
        true => (Some(asker.join().unwrap()), None),
        false => (None, Some(asker)),
    };
    let mut counted = Counted::new(UNIT, &execute::Undone::now(&shared));
    counted.version(&engine_key, None, &record(2));
    trees::hand_in(&shared, counted, Durability::Default, Box::new(|_| ()))
        .map_err(|(error, _)| error)
        .unwrap();
    drop(stripe);
    let leaves = early.unwrap_or_else(|| asker.unwrap().join().unwrap());
    leaves.leaves.iter().map(|(_, sum)| sum.count).sum::<u64>() == 2
}

#[test]
fn leaves_count_all_that_may_have_been_acknowledged() {
    assert!(counted_though_untold(false));
    assert!(!counted_though_untold(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_target_lacks_nothing_outside_of_what_differs(
        // A source that has nothing has no tree, and tells of its marks: there are none.
        there in vec((0..2000_u64, 1..4_u64), 1..400),
        here in vec((0..2000_u64, 1..4_u64), 0..40),
        kept in 0..400_usize,
    ) {
        let (source, target) = (open(), open());
        for (number, time) in &there {
            write(&source, *number, *time);
        }
        // The same in the beginning, and then what it has besides.
        for (number, time) in there.iter().skip(kept.min(200)).chain(&here) {
            write(&target, *number, *time);
        }
        let ranges = differing(&source, &target);
        let whole = vec![Range::default()];
        let (_, all) = marks(&source, &target, whole);
        prop_assert_eq!(marks(&source, &target, ranges).1, all);
    }
}
