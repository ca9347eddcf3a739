//! Trees against what the store holds, whatever changes it.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::causality::{Actor, Change, Payload, SiblingSet, Tick, Write};
use crate::message::{
    CausalDisk, CausalTask, CopyEntry, CopyPlace, CopyRecord, DiskAnswer, DiskError, DiskRequest,
    FillProgress, FillRecord, FillStage, Overlay, RegisterDisk, RegisterTask, TreeDisk, TreeDone,
    UnitDisk,
};
use crate::repair::exchange::{Ask, Asker, Cell, Said, Step, Terms};
use crate::repair::tree::{Place, Range};
use crate::replica::{Done, Replica, TreesChecked};
use crate::storage::vfs::Vfs;
use crate::storage::{FaultyVfs, Options, ThreadMode};
use crate::testing::arm_mutant;
use crate::types::{
    ClassId, ClusterId, ClusterState, Epoch, Key, Lineage, NodeId, Partition, Record,
    RegisterState, RequestId, Settings, Stamp, Tenure, Topology, Value, WallTime,
};

const VERSIONS: TableId = TableId(1);
const SETS: TableId = TableId(2);
const REGISTERS: TableId = TableId(3);

fn unit(number: u16) -> Unit {
    Unit { class: ClassId(0), partition: Partition(number) }
}

/// Every fourth key is a boundary.
fn key(table: TableId, number: u16) -> Key {
    static KNOWN: Mutex<BTreeMap<(TableId, u16), Key>> = Mutex::new(BTreeMap::new());
    let wanted = number.is_multiple_of(4);
    let name = |salt: u32| Key::new(format!("{number:03}-{salt}")).unwrap();
    let fits = |salt: &u32| Place::new(table, &name(*salt)).level(SEED).is_some() == wanted;
    let find = || (0..).find(fits).map(name).unwrap();
    KNOWN.lock().entry((table, number)).or_insert_with(find).clone()
}

fn record(time: u64, is_deleted: bool) -> Record {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let value = (!is_deleted).then(|| Value::new(format!("{time}")).unwrap());
    Record { stamp, expiry: time.is_multiple_of(3).then_some(WallTime(time)), value }
}

/// One in which all tables up to this are dropped.
fn without_tables(up_to: TableId) -> ClusterState {
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
        table_id_max: up_to,
        dropped_at: Epoch(0),
        recent_changes: Vec::new(),
        topology: Topology::default(),
    }
}

struct Store {
    vfs: FaultyVfs,
    replica: Replica,
}

impl Store {
    fn new(seed: u64) -> Store {
        let vfs = FaultyVfs::new(seed);
        Store { replica: Store::open(&vfs), vfs }
    }

    fn open(vfs: &FaultyVfs) -> Replica {
        let options = Options {
            threads: ThreadMode::Inline,
            memtable_bytes: 4 << 10,
            group_bytes_max: 1,
            ..Options::default()
        };
        Replica::open(Arc::new(vfs.clone()), Path::new("data"), options).unwrap().0
    }

    /// Power fails, and comes back.
    fn crash(&mut self) {
        self.vfs.set_capacity(None);
        self.vfs.crash();
        self.vfs.restart();
        self.replica = Store::open(&self.vfs);
    }

    fn begin(&self, request: DiskRequest) {
        self.replica.execute(request, Box::new(|_| ()));
    }

    fn run(&self, request: DiskRequest) -> Result<DiskAnswer, DiskError> {
        let slot = Arc::new(Mutex::new(None));
        let filled = Arc::clone(&slot);
        let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
        self.replica.execute(request, done);
        while self.replica.step() {}
        slot.lock().take().expect("answered")
    }

    fn write(&self, of: Unit, number: u16, time: u64) {
        let (table, key) = (VERSIONS, key(VERSIONS, number));
        let record = record(time, false);
        self.run(DiskRequest::Write { unit: of, table, key, record }).unwrap();
    }

    fn ask(&self, disk: TreeDisk) -> TreeDone {
        match self.run(DiskRequest::Tree(Box::new(disk))).unwrap() {
            DiskAnswer::Tree(done) => done,
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) -> TreesChecked {
        self.replica.check_trees().unwrap()
    }

    /// All trees are there, and right.
    fn settled(&self) -> TreesChecked {
        self.replica.settle_trees();
        let checked = self.check();
        assert_eq!(checked.building, 0);
        checked
    }
}

/// A set with one write, by an actor of its own.
fn set(time: u64, node: u32) -> SiblingSet {
    let actor = Actor { node: NodeId(node), tenure: Tenure(1) };
    let mut set = SiblingSet::default();
    let dot = crate::causality::Dot { actor, tick: Tick { time: WallTime(time), counter: 0 } };
    let payload = Payload::Here(Value::new(vec![b'v'; 2_000]).unwrap());
    let write = Some(Write { id: RequestId(0), expiry: None, payload });
    set.apply(Change { dot, write, seen: set.context().clone() }).unwrap();
    set
}

#[derive(Clone, Debug)]
enum Act {
    Write(u16, u16, u64, bool),
    Set(u16, u16, u64, u32),
    Register(u16, u16, u64, bool),
    Copy(u16, Vec<(u16, u64)>),
    Enter(u16, bool),
    Drain(u16),
    Empty(u16),
    /// Of all tables up to this.
    Sweep(u32),
    Rebuild(u16),
    Step,
    Look,
    Flush,
    Crash,
    /// The store is closed, and opened again.
    Reopen,
    Full(bool),
}

fn request(act: &Act) -> Option<DiskRequest> {
    let unit_disk = |disk| DiskRequest::Unit(Box::new(disk));
    Some(match act.clone() {
        Act::Write(of, number, time, is_deleted) => {
            let (table, key) = (VERSIONS, key(VERSIONS, number));
            DiskRequest::Write { unit: unit(of), table, key, record: record(time, is_deleted) }
        }
        Act::Set(of, number, time, node) => {
            let (table, key, task) = (SETS, key(SETS, number), CausalTask::Merge(set(time, node)));
            DiskRequest::Causal(Box::new(CausalDisk { unit: unit(of), table, key, task }))
        }
        Act::Register(of, number, time, accepts) => {
            let ballot = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
            let task = match accepts {
                true => RegisterTask::Accept(ballot, RegisterState::default()),
                false => RegisterTask::Prepare(ballot),
            };
            let (table, key) = (REGISTERS, key(REGISTERS, number));
            let (unit, fence) = (unit(of), Epoch(1));
            DiskRequest::Register(Box::new(RegisterDisk { unit, table, key, fence, task }))
        }
        Act::Copy(of, copied) => {
            let entry = |(number, time): (u16, u64)| {
                let is_set = time.is_multiple_of(2);
                let table = if is_set { SETS } else { VERSIONS };
                let record = match is_set {
                    true => CopyRecord::Siblings(set(time, 7)),
                    false => CopyRecord::Version(record(time, false)),
                };
                CopyEntry { place: CopyPlace { table, key: key(table, number) }, record }
            };
            let mut entries: Vec<CopyEntry> = copied.into_iter().map(entry).collect();
            entries.sort_by(|a, b| a.place.cmp(&b.place));
            entries.dedup_by(|a, b| a.place == b.place);
            unit_disk(UnitDisk::Merge { unit: unit(of), entries })
        }
        Act::Enter(of, beside) => {
            let overlay = if beside { Overlay::Merging } else { Overlay::Unused };
            let stage = FillStage::Filling(FillProgress { overlay, ..FillProgress::default() });
            let record = Some(FillRecord { entry: Epoch(2), stage });
            unit_disk(UnitDisk::Empty { unit: unit(of), record, keeps: false })
        }
        Act::Drain(of) => {
            let record = FillRecord { entry: Epoch(2), stage: FillStage::Complete };
            unit_disk(UnitDisk::Drain { unit: unit(of), record })
        }
        Act::Empty(of) => unit_disk(UnitDisk::Empty { unit: unit(of), record: None, keeps: false }),
        Act::Sweep(up_to) => {
            let state = Arc::new(without_tables(TableId(up_to)));
            DiskRequest::Sweep { state, from: bytes::Bytes::new() }
        }
        Act::Rebuild(of) => DiskRequest::Tree(Box::new(TreeDisk::Rebuild { unit: unit(of) })),
        Act::Flush => DiskRequest::Flush,
        Act::Step | Act::Look | Act::Crash | Act::Reopen | Act::Full(_) => return None,
    })
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (of, number, time) = (0..3_u16, 0..24_u16, 1..9_u64);
    let place = (of.clone(), number.clone(), time.clone());
    let copied = prop::collection::vec((number, time), 0..12);
    let act = prop_oneof![
        8 => (place.clone(), any::<bool>()).prop_map(|((of, at, time), gone)| Act::Write(of, at, time, gone)),
        4 => (place.clone(), 1..3_u32).prop_map(|((of, at, time), by)| Act::Set(of, at, time, by)),
        4 => (place, any::<bool>()).prop_map(|((of, at, time), accepts)| Act::Register(of, at, time, accepts)),
        2 => (of.clone(), copied).prop_map(|(of, copied)| Act::Copy(of, copied)),
        1 => (of.clone(), any::<bool>()).prop_map(|(of, beside)| Act::Enter(of, beside)),
        2 => of.clone().prop_map(Act::Drain),
        1 => of.clone().prop_map(Act::Empty),
        1 => (1..4_u32).prop_map(Act::Sweep),
        1 => of.prop_map(Act::Rebuild),
        6 => Just(Act::Step),
        3 => Just(Act::Look),
        2 => Just(Act::Flush),
        2 => Just(Act::Crash),
        1 => Just(Act::Reopen),
        1 => any::<bool>().prop_map(Act::Full),
    ];
    prop::collection::vec(act, 0..120)
}

fn play(acts: &[Act]) -> Result<TreesChecked, String> {
    let mut store = Store::new(1);
    for act in acts {
        match act {
            Act::Step => {
                store.replica.step();
            }
            Act::Look => {
                store.replica.check_trees()?;
            }
            Act::Crash => store.crash(),
            Act::Reopen => {
                // On a full disk it may fail: then it is like a crash.
                let _closed = store.replica.close();
                store.vfs.set_capacity(None);
                store.replica = Store::open(&store.vfs);
            }
            Act::Full(is_full) => store.vfs.set_capacity(is_full.then_some(0)),
            act => request(act).into_iter().for_each(|request| store.begin(request)),
        }
    }
    store.vfs.set_capacity(None);
    store.replica.interval_elapsed();
    while store.replica.step() {}
    store.replica.settle_trees();
    store.replica.check_trees()
}

proptest! {
    // Each opens stores and builds trees some dozen times.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn trees_count_what_is_stored_whatever_was_done_to_it(acts in acts()) {
        let checked = play(&acts).map_err(TestCaseError::fail)?;
        prop_assert_eq!(checked.building, 0);
    }
}

/// One of each that changes what is there.
fn changes() -> Vec<Vec<Act>> {
    let copied = (0..12).map(|number| (number, u64::from(number) % 3 + 4)).collect();
    vec![
        vec![Act::Write(0, 1, 3, false), Act::Write(0, 1, 4, true), Act::Write(0, 4, 1, false)],
        vec![Act::Set(0, 1, 3, 1), Act::Set(0, 1, 4, 2), Act::Set(0, 4, 1, 1)],
        vec![
            Act::Register(0, 1, 3, false),
            Act::Register(0, 1, 3, true),
            Act::Register(0, 1, 5, true),
        ],
        vec![Act::Write(0, 1, 5, false), Act::Copy(0, copied)],
        vec![Act::Enter(0, true), Act::Write(0, 1, 5, false), Act::Set(0, 4, 2, 1), Act::Drain(0)],
        vec![Act::Write(0, 1, 5, false), Act::Set(0, 4, 2, 1), Act::Sweep(1)],
        vec![Act::Write(0, 1, 5, false), Act::Empty(0), Act::Write(0, 2, 5, false)],
    ]
}

#[test]
fn whatever_changes_an_entry_tells_the_tree_and_a_leaf_that_is_not_updated_is_found() {
    for acts in changes() {
        let known = [&[Act::Step, Act::Step][..], &acts].concat();
        let checked = play(&known).unwrap();
        assert_eq!((checked.equal, checked.building), (1, 0), "{acts:?}");
        // Not built of what is there: told of it, since nothing was there at first.
        let wrong = {
            let _armed = arm_mutant("leaf-not-updated");
            play(&known)
        };
        assert!(wrong.is_err(), "{acts:?} tells nobody");
    }
}

#[test]
fn what_a_full_disk_took_back_puts_the_tree_in_doubt_and_it_is_built_anew() {
    let store = Store::new(1);
    store.settled();
    // The second finds the first, which is taken back.
    store.begin(request(&Act::Write(0, 1, 6, false)).unwrap());
    store.begin(request(&Act::Write(0, 1, 7, false)).unwrap());
    let roots = || match store.ask(TreeDisk::Roots { units: vec![unit(0)] }) {
        TreeDone::Roots(roots) => roots.into_iter().next().unwrap().1,
        other => panic!("{other:?}"),
    };
    let kept = store.replica.shared.trees.find(unit(0)).unwrap();
    assert_eq!(kept.state.lock().tree.root(), Tree::of(vec![print_of(1, 7)], SEED).root());
    store.vfs.set_capacity(Some(0));
    while store.replica.step() {}
    store.vfs.set_capacity(None);
    store.replica.interval_elapsed();
    store.settled();
    assert_eq!(roots(), Some(Tree::empty(SEED).root()));
    store.write(unit(0), 1, 5);
    assert_eq!(store.settled().entries, 1);
    assert_eq!(roots(), Some(Tree::of(vec![print_of(1, 5)], SEED).root()));
}

fn print_of(number: u16, time: u64) -> (Place, crate::repair::tree::Print) {
    let place = Place::new(VERSIONS, &key(VERSIONS, number));
    let print = crate::repair::tree::Print::version(&place, &record(time, false));
    (place, print)
}

#[test]
fn at_boot_units_are_found_and_their_trees_built_and_one_that_holds_nothing_is_known_to() {
    let mut store = Store::new(1);
    for number in 0..100 {
        store.write(unit(number), 1, 5);
    }
    store.crash();
    let all: Vec<Unit> = (0..101).map(unit).collect();
    let roots = |store: &Store| match store.ask(TreeDisk::Roots { units: all.clone() }) {
        TreeDone::Roots(roots) => roots,
        other => panic!("{other:?}"),
    };
    let unknown = TreeDisk::Roots { units: vec![unit(100)] };
    let first = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&first);
    let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
    store.replica.execute(DiskRequest::Tree(Box::new(unknown)), done);
    let Some(Ok(DiskAnswer::Tree(TreeDone::Roots(told)))) = first.lock().take() else { panic!() };
    assert_eq!(told, [(unit(100), None)], "before it has looked");
    assert_eq!(store.settled().equal, 100);
    let told = roots(&store);
    assert!(told.iter().all(|(_, sum)| sum.is_some()));
    assert_eq!(told.last(), Some(&(unit(100), Some(Tree::empty(SEED).root()))));
}

/// Whether a root is told before what it counts is durable.
fn is_told_early() -> bool {
    let store = Store::new(1);
    store.write(unit(0), 1, 5);
    store.settled();
    store.begin(request(&Act::Write(0, 2, 5, false)).unwrap());
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
    let ask = DiskRequest::Tree(Box::new(TreeDisk::Roots { units: vec![unit(0)] }));
    store.replica.execute(ask, done);
    let early = slot.lock().is_some();
    while store.replica.step() {}
    assert!(matches!(slot.lock().take(), Some(Ok(_))));
    early
}

#[test]
fn a_root_is_told_once_what_it_counts_is_durable() {
    assert!(!is_told_early());
    let _armed = arm_mutant("tree-before-durable");
    assert!(is_told_early());
}

#[test]
fn two_stores_find_what_either_lacks() {
    let (one, other) = (Store::new(1), Store::new(2));
    for number in 0..300 {
        if number != 17 {
            one.write(unit(0), number, 5);
        }
        if number != 40 {
            other.write(unit(0), number, 5 + u64::from(number == 201));
        }
    }
    one.settled();
    other.settled();
    let horizon = Stamp { time: WallTime(100), counter: 0, node: NodeId(0) };
    let terms = Terms { session: 3, horizon, seed: SEED };
    let mut asker = Asker::new(terms);
    let mut said: Option<(u32, Said)> = None;
    let lacks = loop {
        let done = one.ask(TreeDisk::Advance { unit: unit(0), asker: Box::new(asker), said });
        let TreeDone::Advanced(next) = done else { panic!("{done:?}") };
        asker = *next;
        match asker.step() {
            Step::Ask(number, ask) => {
                let done = other.ask(TreeDisk::Answer { unit: unit(0), terms, ask });
                let TreeDone::Said(answer) = done else { panic!("{done:?}") };
                said = Some((number, answer));
            }
            Step::Bring(lacks) => break lacks,
            step => panic!("{step:?}"),
        }
    };
    let found: Vec<Place> = lacks.into_iter().map(|lack| lack.place).collect();
    let places = [17, 40, 201].map(|number| print_of(number, 5).0);
    assert!(!found.is_empty() && found.iter().all(|place| places.contains(place)), "{found:?}");
}

#[test]
fn a_tree_that_is_being_built_is_not_told_of() {
    let mut store = Store::new(1);
    store.write(unit(0), 1, 5);
    store.crash();
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let done: Done = Box::new(move |outcome| *filled.lock() = Some(outcome));
    let terms = Terms { session: 3, horizon: Stamp::ZERO, seed: SEED };
    let ask = TreeDisk::Answer { unit: unit(0), terms, ask: Ask::Root };
    store.replica.execute(DiskRequest::Tree(Box::new(ask)), done);
    let told = slot.lock().take();
    assert!(matches!(told, Some(Ok(DiskAnswer::Tree(TreeDone::Building)))), "{told:?}");
}

mod kept;

/// A store with some entries is closed and opened again; then that many trees are there at once.
fn trees_after_closing(between: impl FnOnce(&mut Store)) -> usize {
    let mut store = Store::new(1);
    for number in 0..100 {
        store.write(unit(number % 5), number, 5);
    }
    store.settled();
    store.replica.close().unwrap();
    between(&mut store);
    store.replica = Store::open(&store.vfs);
    let at_once = store.check().equal;
    assert_eq!(store.settled().equal, 5);
    at_once
}

#[test]
fn trees_of_a_store_that_is_closed_are_there_when_it_is_opened_again() {
    assert_eq!(trees_after_closing(|_| ()), 5);
    let path = Path::new("data").join(file::NAME);
    // What is cut short was not ended.
    let cut = |store: &mut Store| {
        let file = store.vfs.open(&path).unwrap();
        file.set_len(file.size().unwrap() - 1).unwrap();
    };
    assert_eq!(trees_after_closing(cut), 0);
    let spoil = |store: &mut Store| {
        store.vfs.open(&path).unwrap().write_at(20, &[0xff]).unwrap();
    };
    assert_eq!(trees_after_closing(spoil), 0);
}

/// How many entries are in the answers before and after a write, and how many were read for each of three.
fn asked_three_times() -> ([usize; 2], [u64; 3]) {
    let store = Store::new(31);
    (0..20).for_each(|number| store.write(unit(0), number, 10));
    store.settled();
    let entries = || {
        let before = store.replica.tree_facts().entries_read;
        let terms = Terms { session: 7, horizon: Stamp::ZERO, seed: SEED };
        let ask = Ask::Entries(Range::default(), vec![Cell::ALL]);
        let said = store.ask(TreeDisk::Answer { unit: unit(0), terms, ask });
        let TreeDone::Said(Said::Entries(_, digests)) = said else { panic!("{said:?}") };
        (digests[0].len(), store.replica.tree_facts().entries_read - before)
    };
    let (first, second) = (entries(), entries());
    store.write(unit(0), 20, 11);
    let third = entries();
    assert_eq!(first.0, second.0);
    ([first.0, third.0], [first.1, second.1, third.1])
}

#[test]
fn a_range_is_read_once_until_something_is_told_of_its_unit() {
    assert_eq!(asked_three_times(), ([20, 21], [20, 0, 21]));
    let _armed = arm_mutant("lately-read-stays");
    assert_eq!(asked_three_times().0, [20, 20]);
}
