//! Plays a stream on an engine and on a `BTreeMap` side by side, and writes down every answer.
//!
//! Each answer is compared with the map's at once; the history of all answers, the numbers of the
//! batches in it, must be the same whatever the options, the threads and the disk.

use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, Iter, KeyRange, Options, Recovery, Seqno,
    Snapshot, ThreadMode, TryGet,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

use super::horizons::Horizons;
use super::{Change, Disk, Op, SLOTS, Setting, Span};

/// What the engine must hold: each value with the batch that wrote it.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

type Pair = (Vec<u8>, Vec<u8>, u64);

struct Machine<'a> {
    setting: &'a Setting,
    horizons: Arc<Horizons>,
    engine: Option<Engine>,
    model: Model,
    snapshots: [Option<(Snapshot, Model)>; SLOTS],
    ranges: [Option<(Iter, VecDeque<Pair>)>; SLOTS],
    history: Vec<String>,
    /// Flushes and compactions of this life whose result has been verified.
    edits: u64,
}

/// The bytes of a value: they tell which operation wrote it.
fn value(number: usize, length: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

fn owned(pair: Result<(bytes::Bytes, bytes::Bytes, Seqno), Error>) -> Pair {
    let (key, value, seqno) = pair.expect("the disk is sound");
    (key.to_vec(), value.to_vec(), seqno.0)
}

fn expected(model: &Model, span: &Span) -> Vec<Pair> {
    let inside = model.iter().filter(|(key, _)| span.holds(key));
    let pairs = inside.map(|(key, (value, seqno))| (key.clone(), value.clone(), *seqno));
    match span.direction {
        Direction::Forward => pairs.collect(),
        Direction::Reverse => pairs.rev().collect(),
    }
}

/// Plays `ops`; returns what was answered, one line for each. Panics where engine and map differ.
pub(crate) fn play(ops: &[Op], setting: &Setting) -> Vec<String> {
    let mut machine = Machine {
        setting,
        horizons: Arc::default(),
        engine: None,
        model: Model::new(),
        snapshots: Default::default(),
        ranges: Default::default(),
        history: Vec::new(),
        edits: 0,
    };
    let recovery = machine.open();
    assert!(recovery.created);
    for (number, op) in ops.iter().enumerate() {
        machine.act(number, op);
    }
    machine.check_everything();
    let _closed = machine.engine().close();
    machine.history
}

impl Machine<'_> {
    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open between operations")
    }

    fn open(&mut self) -> Recovery {
        let (vfs, dir) = self.setting.disk.vfs();
        let filter = Some(Arc::clone(&self.horizons).into());
        let options = Options { filter, ..self.setting.options.clone() };
        let opened = Engine::open(vfs, &dir, options);
        let (engine, recovery) = opened.expect("the store opens");
        assert!(recovery.corrupt.is_empty() && recovery.unreadable.is_empty(), "{recovery:?}");
        self.engine = Some(engine);
        recovery
    }

    fn is_inline(&self) -> bool {
        self.setting.options.threads == ThreadMode::Inline
    }

    fn submit(&self, batch: &Batch, durability: Durability) -> Seqno {
        self.patiently(|engine| engine.submit(batch.clone(), durability, Box::new(|_| {})))
    }

    /// Does a write; waits only while the engine says that too much is waiting.
    fn patiently(&self, write: impl Fn(&Engine) -> Result<Seqno, Error>) -> Seqno {
        loop {
            match write(self.engine()) {
                Ok(seqno) => return seqno,
                Err(Error::Overloaded { .. }) if self.is_inline() => {
                    assert!(self.engine().step(), "overloaded, and nothing to do");
                }
                Err(Error::Overloaded { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn write(&mut self, number: usize, changes: &[Change]) -> String {
        let mut batch = Batch::new();
        let mut puts = Vec::new();
        for change in changes {
            match change {
                Change::DeleteRange(range) => {
                    batch.delete_range(range);
                    self.model.retain(|key, _| !range.contains(key));
                }
                Change::Put(key, length) => {
                    let value = value(number, *length);
                    batch.put(key, &value);
                    puts.push((key, Some(value)));
                }
                Change::Delete(key) => {
                    batch.delete(key);
                    puts.push((key, None));
                }
            }
        }
        let seqno = self.submit(&batch, Durability::Default);
        for (key, value) in puts {
            match value {
                Some(value) => self.model.insert(key.clone(), (value, seqno.0)),
                None => self.model.remove(key),
            };
        }
        format!("batch {seqno}")
    }

    fn delete_range(&mut self, range: &KeyRange) -> String {
        let seqno = self.patiently(|engine| engine.delete_range(range));
        self.model.retain(|key, _| !range.contains(key));
        format!("deleted by {seqno}")
    }

    fn get(&self, key: &[u8]) -> String {
        let found = self.engine().get(key).expect("the disk is sound");
        let found = self.judged(key, found, &self.model);
        match self.engine().try_get(key) {
            TryGet::Found(value, seqno) => {
                self.judged(key, Some((value, seqno)), &self.model);
            }
            TryGet::Absent => drop(self.judged(key, None, &self.model)),
            TryGet::NeedsDisk => {}
        }
        for (key, found) in
            [key, b"a", key].into_iter().zip(self.engine().multi_get(&[key, b"a", key]))
        {
            self.judged(key, found.expect("the disk is sound"), &self.model);
        }
        format!("get {found:?}")
    }

    fn range(&self, span: &Span) -> String {
        let (start, end) = span.bounds();
        let found = self.engine().range(start, end, span.direction).map(owned);
        told("range", &self.compared(found.collect(), &self.model, span))
    }

    fn checkpoint(&self, number: usize) -> String {
        let (vfs, dir) = self.setting.disk.vfs();
        let dir = dir.with_file_name(format!("copy{number}"));
        self.engine().checkpoint(&dir).expect("there is room");
        let options = Options { threads: ThreadMode::Inline, ..Options::default() };
        let (copy, recovery) = Engine::open(vfs, &dir, options).expect("a checkpoint opens");
        assert!(recovery.corrupt.is_empty() && recovery.unreadable.is_empty(), "{recovery:?}");
        let span = Span::all(Direction::Forward);
        let (start, end) = span.bounds();
        let pairs = copy.range(start, end, span.direction).map(owned).collect();
        told("checkpoint", &self.compared(pairs, &self.model, &span))
    }

    /// What the filter lets go may be left out of an export or not, so such ranges are left alone.
    fn reload(&mut self, number: usize, range: &KeyRange) -> String {
        let inside = |key: &[u8]| range.contains(key);
        let gone = self
            .model
            .iter()
            .any(|(key, (value, _))| inside(key) && self.horizons.lets_go(key, value));
        if gone {
            return String::new();
        }
        let dir = self.setting.disk.vfs().1.with_file_name(format!("export{number}"));
        let export = self.engine().export(range, &dir).expect("there is room");
        let kept = self.model.clone();
        self.delete_range(range);
        let ingested = self.engine().ingest(&export.paths(&dir)).expect("the range is empty");
        for (key, (value, _)) in kept.into_iter().filter(|(key, _)| inside(key)) {
            self.model.insert(key, (value, ingested.seqno.0));
        }
        format!("{} pairs again", ingested.entries)
    }

    fn read_snapshot(&self, slot: usize, key: &[u8], span: &Span) -> String {
        let Some((snapshot, model)) = &self.snapshots[slot] else { return String::new() };
        self.judged(key, snapshot.get(key).expect("the disk is sound"), model);
        for found in snapshot.multi_get(&[key, key]) {
            self.judged(key, found.expect("the disk is sound"), model);
        }
        let (start, end) = span.bounds();
        let pairs = snapshot.range(start, end, span.direction).map(owned).collect();
        told("snapshot", &self.compared(pairs, model, span))
    }

    fn open_range(&mut self, slot: usize, span: &Span) {
        let (start, end) = span.bounds();
        let range = self.engine().range(start, end, span.direction);
        self.ranges[slot] = Some((range, expected(&self.model, span).into()));
    }

    /// Compares what was found of a key. What the filter lets go may be there or not, but nothing
    /// else may be in its place. Returns length and batch of what a reader goes by.
    fn judged(
        &self,
        key: &[u8],
        found: Option<(bytes::Bytes, Seqno)>,
        model: &Model,
    ) -> Option<(usize, u64)> {
        let found = found.map(|(value, seqno)| (value.to_vec(), seqno.0));
        let gone = |(value, _): &(Vec<u8>, u64)| self.horizons.lets_go(key, value);
        let wanted = model.get(key);
        let may_be_absent = wanted.is_some_and(gone);
        assert!(
            found.as_ref() == wanted || (found.is_none() && may_be_absent),
            "{}: {found:?} was found, {wanted:?} is right",
            key.escape_ascii()
        );
        found.filter(|pair| !gone(pair)).map(|(value, seqno)| (value.len(), seqno))
    }

    /// As [`Self::judged`], of the pairs of a range.
    fn compared(&self, found: Vec<Pair>, model: &Model, span: &Span) -> Vec<Pair> {
        let gone = |(key, value, _): &Pair| self.horizons.lets_go(key, value);
        let mut wanted = expected(model, span);
        wanted.retain(|pair| !gone(pair) || found.contains(pair));
        assert_eq!(found, wanted, "{span:?}");
        wanted.retain(|pair| !gone(pair));
        wanted
    }

    fn advance(&mut self, slot: usize, count: usize) -> String {
        let Some((range, rest)) = &mut self.ranges[slot] else { return String::new() };
        let mut told = "next".to_owned();
        for _ in 0..count {
            let gone = |(key, value, _): &Pair| self.horizons.lets_go(key, value);
            let found = loop {
                let found = range.next().map(owned);
                while rest.front() != found.as_ref() && rest.front().is_some_and(gone) {
                    rest.pop_front();
                }
                assert_eq!(found, rest.pop_front(), "a range has changed under its reader");
                if !found.as_ref().is_some_and(gone) {
                    break found;
                }
            };
            let _infallible = write!(told, " {:?}", found.map(|(key, _, seqno)| (key, seqno)));
        }
        told
    }

    fn verify(&self) -> String {
        let verified = self.engine().verify();
        assert!(verified.errors.is_empty(), "{:?}", verified.errors);
        "sound".to_owned()
    }

    /// After each change of the levels, as far as it can be seen from outside: every block, and of
    /// two versions of a key the newer above the older.
    fn verify_if_edited(&mut self) {
        let stats = self.engine().stats();
        let edits = stats.flushes + stats.compactions + stats.compaction_moves;
        if self.edits != edits {
            self.edits = edits;
            self.verify();
        }
    }

    /// Full compaction leaves one entry for each key, all in the last level.
    fn compact(&self) -> String {
        self.engine().compact().expect("there is room and no damage");
        let stats = self.engine().stats();
        let (last, upper) = stats.levels.split_last().expect("there are levels");
        assert!(upper.iter().all(|level| level.tables == 0), "{stats:?}");
        let gone =
            |(key, (value, _)): &(&Vec<u8>, &(Vec<u8>, u64))| self.horizons.lets_go(key, value);
        let left = self.model.iter().filter(|pair| !gone(pair)).count() as u64;
        // What the filter lets go is gone too, unless its table was already where it belongs.
        assert!((left..=self.model.len() as u64).contains(&last.entries), "{left}: {stats:?}");
        "compacted".to_owned()
    }

    fn forget_readers(&mut self) {
        self.snapshots = Default::default();
        self.ranges = Default::default();
    }

    fn restart(&mut self) -> String {
        self.forget_readers();
        self.engine().close().expect("nothing has failed");
        self.engine = None;
        let recovery = self.open();
        format!("restart at {}", recovery.last)
    }

    /// A crash of the machine, right after everything became durable. Where the disk knows no
    /// crashes only the process ends; where threads run it ends well.
    fn crash(&mut self) -> String {
        self.submit(&Batch::new(), Durability::Synced);
        while self.engine().step() {}
        match &self.setting.disk {
            Disk::Faulty(disk) if self.is_inline() => {
                disk.crash();
                self.forget_readers();
                self.engine = None;
                disk.restart();
                let recovery = self.open();
                format!("restart at {}", recovery.last)
            }
            _ if self.is_inline() => {
                self.forget_readers();
                self.engine = None;
                let recovery = self.open();
                format!("restart at {}", recovery.last)
            }
            _ => self.restart(),
        }
    }

    fn act(&mut self, number: usize, op: &Op) {
        let told = match op {
            Op::Write(changes) => self.write(number, changes),
            Op::Get(key) => self.get(key),
            Op::Range(span) => self.range(span),
            Op::Snapshot(slot) => {
                let snapshot = self.engine().snapshot();
                let told = format!("snapshot at {}", snapshot.seqno());
                self.snapshots[*slot] = Some((snapshot, self.model.clone()));
                told
            }
            Op::ReadSnapshot(slot, key, span) => self.read_snapshot(*slot, key, span),
            Op::DropSnapshot(slot) => {
                self.snapshots[*slot] = None;
                String::new()
            }
            Op::OpenRange(slot, span) => {
                self.open_range(*slot, span);
                String::new()
            }
            Op::Advance(slot, count) => self.advance(*slot, *count),
            Op::DropRange(slot) => {
                self.ranges[*slot] = None;
                String::new()
            }
            Op::DeleteRange(range) => self.delete_range(range),
            Op::Rise(unit, by) => {
                self.horizons.rise(*unit, *by);
                String::new()
            }
            Op::CompactRange(range) => {
                self.engine().compact_range(range).expect("there is room and no damage");
                "compacted".to_owned()
            }
            Op::Checkpoint => self.checkpoint(number),
            Op::Reload(range) => self.reload(number, range),
            Op::Flush => {
                self.engine().flush().expect("there is room");
                "flushed".to_owned()
            }
            Op::Compact => self.compact(),
            Op::Step(count) => {
                for _ in 0..*count {
                    self.engine().step();
                    self.verify_if_edited();
                }
                String::new()
            }
            Op::Interval => {
                self.engine().interval_elapsed();
                String::new()
            }
            Op::Verify => self.verify(),
            Op::Restart => self.restart(),
            Op::Crash => self.crash(),
        };
        self.verify_if_edited();
        self.history.push(format!("{number} {told}"));
    }

    /// Every way of reading says what the map says, of the present and of every snapshot.
    fn check_everything(&mut self) {
        for direction in [Direction::Forward, Direction::Reverse] {
            let span = Span::all(direction);
            let told = self.range(&span);
            self.history.push(told);
            for slot in 0..SLOTS {
                let told = self.read_snapshot(slot, b"a", &span);
                self.history.push(told);
            }
        }
        for key in self.model.keys() {
            self.get(key);
        }
        (0..SLOTS).for_each(|slot| drop(self.advance(slot, 400)));
        self.verify();
    }
}

fn told(what: &str, pairs: &[Pair]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(key, value, seqno)| (key, value.len(), seqno)).collect();
    format!("{what} {pairs:?}")
}
