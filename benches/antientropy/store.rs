//! Two replicas of the same units, in directories of their own.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use roundtable::message::{
    CopyEntry, CopyPlace, CopyRecord, DiskAnswer, DiskRequest, TreeDisk, TreeDone, UnitDisk,
};
use roundtable::replica::Replica;
use roundtable::storage::{Options, RealVfs, SyncMode};
use roundtable::types::{
    ClassId, Key, NodeId, Partition, Record, Stamp, TableId, Unit, Value, WallTime,
};

use crate::session::{Cost, session};

/// Units that the two own.
pub(crate) const UNITS: u64 = 64;
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;
const VALUE_BYTES: usize = 100;
const TABLE: TableId = TableId(1);
/// Keys that are written at once.
pub(crate) const BATCH: usize = 512;

/// One store.
pub(crate) struct Store {
    /// None only while it is opened again.
    replica: Option<Replica>,
    dir: PathBuf,
}

/// A unit of the two.
pub(crate) fn unit(number: u64) -> Unit {
    Unit { class: ClassId(0), partition: Partition(u16::try_from(number).unwrap()) }
}

pub(crate) fn entry(number: u64, time: u64) -> CopyEntry {
    // Not in order: keys of a unit are spread over all of them.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let key = Key::new(format!("user:{spread:011x}")).unwrap();
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let value = Some(Value::new(vec![b'v'; VALUE_BYTES]).unwrap());
    let record = CopyRecord::Version(Record { stamp, expiry: None, value });
    CopyEntry { place: CopyPlace { table: TABLE, key }, record }
}

impl Store {
    pub(crate) fn new(name: &str) -> Store {
        let own = format!("roundtable-antientropy-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(own);
        std::fs::create_dir_all(&dir).unwrap();
        let mut store = Store { replica: None, dir };
        store.open();
        store
    }

    fn open(&mut self) {
        let options = Options { sync: SyncMode::None, unit_prefix_bytes: 5, ..Options::default() };
        let (replica, _) = Replica::open(Arc::new(RealVfs), &self.dir, options).unwrap();
        self.replica = Some(replica);
    }

    pub(crate) fn replica(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    /// Ends it as a kill of the process does: the log is there, and nothing else is brought to an end. Then
    /// opens it again, perhaps without what is on file of its trees. Returns how long that took, and how
    /// long until all trees could be compared.
    pub(crate) fn killed(&mut self, has_trees: bool) -> [Duration; 2] {
        self.replica = None;
        if !has_trees {
            std::fs::remove_file(self.dir.join("trees")).unwrap();
        }
        let began = Instant::now();
        self.open();
        let opened = began.elapsed();
        while self.replica().tree_facts().building > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        [opened, began.elapsed()]
    }

    pub(crate) fn ask(&self, request: DiskRequest) -> DiskAnswer {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.replica().execute(request, Box::new(move |answer| sender.send(answer).unwrap()));
        receiver.recv().unwrap().unwrap()
    }

    pub(crate) fn tree(&self, disk: TreeDisk) -> TreeDone {
        match self.ask(DiskRequest::Tree(Box::new(disk))) {
            DiskAnswer::Tree(done) => done,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn merge(&self, unit: Unit, entries: Vec<CopyEntry>) {
        self.ask(DiskRequest::Unit(Box::new(UnitDisk::Merge { unit, entries })));
    }

    /// Entries that have been read to answer about trees.
    pub(crate) fn entries_read(&self) -> u64 {
        self.replica().tree_facts().entries_read
    }

    pub(crate) fn write(&self, numbers: impl Iterator<Item = u64>, time: u64) {
        let mut waiting: Vec<Vec<CopyEntry>> = (0..UNITS).map(|_| Vec::new()).collect();
        for number in numbers {
            let of = number % UNITS;
            let batch = &mut waiting[of as usize];
            batch.push(entry(number, time));
            if batch.len() >= BATCH {
                self.merge(unit(of), std::mem::take(batch));
            }
        }
        for (of, batch) in (0..).zip(waiting) {
            self.merge(unit(of), batch);
        }
    }

    /// Waits until all trees are there.
    pub(crate) fn settle(&self) {
        let is_there = || {
            let facts = self.replica().tree_facts();
            facts.building == 0 && facts.to_cut == 0
        };
        while !is_there() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _closed = self.replica.as_ref().map(Replica::close);
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// Two stores that hold the same.
pub(crate) struct Pair {
    asker: Store,
    answerer: Store,
    keys: u64,
    time: std::cell::Cell<u64>,
}

impl Pair {
    pub(crate) fn filled(keys: u64) -> Pair {
        let [asker, answerer] = ["asker", "answerer"].map(|name| {
            let store = Store::new(&format!("{name}-{keys}"));
            store.write(0..keys, 1);
            store.ask(DiskRequest::Flush);
            store.settle();
            store
        });
        Pair { asker, answerer, keys, time: std::cell::Cell::new(1) }
    }

    /// Bytes of the trees of one of them.
    pub(crate) fn tree_bytes(&self) -> u64 {
        self.asker.replica().tree_facts().bytes
    }

    fn all(&self) -> Vec<Unit> {
        (0..UNITS).map(unit).collect()
    }

    /// Compares all units, in one message each way.
    fn roots(&self, cost: &mut Cost) -> Vec<Unit> {
        let ask = || TreeDisk::Roots { units: self.all() };
        let (TreeDone::Roots(own), TreeDone::Roots(theirs)) =
            (self.asker.tree(ask()), self.answerer.tree(ask()))
        else {
            panic!("no roots")
        };
        cost.find_bytes += UNITS * Cost::ROOT_BYTES;
        let pairs = own.into_iter().zip(theirs);
        pairs.filter(|(own, theirs)| own.1 != theirs.1).map(|(own, _)| own.0).collect()
    }

    /// What it costs to find nothing.
    pub(crate) fn equal(&self) -> Equal {
        let (mut cost, before) = (Cost::default(), crate::report::cpu_ns());
        assert_eq!(self.roots(&mut cost), [], "they hold the same");
        let cpu_ms = (crate::report::cpu_ns() - before) as f64 / 1e6;
        Equal { bytes: cost.find_bytes, cpu_ms }
    }

    /// Makes so many keys differ, in turn newer here and there, and compares until they are the same.
    pub(crate) fn differ_and_become_equal(&self, differing: u64) -> Cost {
        let time = self.time.get() + 1;
        self.time.set(time);
        let apart = self.keys / differing;
        let stale = |turn: u64| (0..differing).filter(move |at| at % 2 == turn);
        self.asker.write(stale(0).map(|at| at * apart), time);
        self.answerer.write(stale(1).map(|at| at * apart), time);
        self.asker.settle();
        self.answerer.settle();
        let read = || self.asker.entries_read() + self.answerer.entries_read();
        let (entries, cpu) = (read(), crate::report::cpu_ns());
        let mut cost = Cost::default();
        for unit in self.roots(&mut cost) {
            session((&self.asker, &self.answerer), unit, time, &mut cost);
        }
        cost.entries_read = read() - entries;
        cost.cpu_ms = (crate::report::cpu_ns() - cpu) as f64 / 1e6;
        assert_eq!(cost.brought, differing, "all that differed was found");
        assert_eq!(self.roots(&mut Cost::default()), [], "and brought");
        cost
    }
}

/// What it cost to find nothing.
pub(crate) struct Equal {
    pub(crate) bytes: u64,
    pub(crate) cpu_ms: f64,
}
