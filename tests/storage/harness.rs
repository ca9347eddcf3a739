//! Runs scripts on a faulty disk and judges what is left: the checker of I9 and I10.
//!
//! A script is a function of its seed. Every batch writes its own number to the key `last`, so the
//! state after a crash tells which prefix of the batches it claims to be, and the whole state is
//! compared with the model of that prefix. A verdict is an `Err` with a story, not a panic, so that
//! `planted.rs` can ask whether the checker fires.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;
use roundtable::storage::vfs::Fate;
use roundtable::storage::{
    Batch, Direction, Durability, Engine, Error, Export, FaultyVfs, KeyRange, Options, Recovery,
    SyncMode, TableWriter, ThreadMode, Vfs,
};

use crate::sites::{Site, SitedVfs};

pub(crate) type State = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Verdict = Result<(), String>;

pub(crate) const DIR: &str = "/srv/node/db";

#[derive(Debug, Clone, Copy)]
enum Change {
    Put(u8, u16),
    Delete(u8),
    /// Keys from the first to the second, before everything else in its batch.
    DeleteRange(u8, u8),
}

#[derive(Debug, Clone)]
struct Written {
    number: u64,
    changes: Vec<Change>,
    /// It came as a file, which does not write the key `last`; false while it is not known whether
    /// it is in.
    file: Option<bool>,
}

fn changes(rng: &mut Rng) -> Vec<Change> {
    let change = |rng: &mut Rng| match rng.u8(..4) {
        0 => Change::Delete(rng.u8(..12)),
        // Some values span several sectors, so that one record can be torn in many ways.
        1 => Change::Put(rng.u8(..12), rng.u16(..2000)),
        _ => Change::Put(rng.u8(..12), rng.u16(..60)),
    };
    let range = (rng.u8(..8) == 0).then(|| Change::DeleteRange(rng.u8(..12), rng.u8(..13)));
    range.into_iter().chain((0..rng.usize(1..5)).map(|_| change(rng))).collect()
}

fn value(number: u64, length: u16) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.extend((0..length).map(|index| (u64::from(index) * 31 + number) as u8));
    value
}

impl Written {
    fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        batch.put(b"last", &self.number.to_le_bytes());
        for change in &self.changes {
            match change {
                Change::Put(key, length) => batch.put(&[b'k', *key], &value(self.number, *length)),
                Change::Delete(key) => batch.delete(&[b'k', *key]),
                Change::DeleteRange(start, end) => {
                    batch.delete_range(&KeyRange::between(&[b'k', *start], &[b'k', *end]));
                }
            }
        }
        batch
    }

    fn apply(&self, state: &mut State) {
        if self.file.is_none() {
            state.insert(b"last".to_vec(), self.number.to_le_bytes().to_vec());
        }
        for change in &self.changes {
            match change {
                Change::Put(key, length) => {
                    state.insert(vec![b'k', *key], value(self.number, *length));
                }
                Change::DeleteRange(start, end) => {
                    state.retain(|key, _| {
                        key[0] != b'k' || !(*start..*end.max(start)).contains(&key[1])
                    });
                }
                Change::Delete(key) => {
                    state.remove(&[b'k', *key][..]);
                }
            }
        }
    }
}

/// What has been submitted and what has been said of it. Shared with the callbacks.
#[derive(Debug, Default)]
struct Ledger {
    /// Batches whose fate is not "not applied", in order.
    written: Vec<Written>,
    /// Number of the last batch acknowledged as being on disk.
    synced: u64,
    last_called: u64,
    /// Taken in and not yet called back.
    waiting: BTreeSet<u64>,
    /// An answer of this life said that nothing more is written.
    latched: bool,
    disorder: Option<String>,
}

impl Ledger {
    fn state_after(&self, number: u64) -> State {
        let mut state = State::new();
        let is_in = |it: &&Written| it.file.unwrap_or(it.number <= number);
        self.written.iter().filter(is_in).for_each(|written| written.apply(&mut state));
        state
    }

    /// Looks whether a file of which nobody has heard is in the store that was found.
    fn find_file(&mut self, found: &State) {
        for written in self.written.iter_mut().filter(|it| it.file == Some(false)) {
            let is_there = |change: &Change| match change {
                Change::Put(key, length) => {
                    found.get(&[b'k', *key][..]) == Some(&value(written.number, *length))
                }
                _ => false,
            };
            written.file = Some(written.changes.iter().any(is_there));
        }
        self.written.retain(|it| it.file != Some(false));
    }
}

/// One life after another of a store on a faulty disk.
pub(crate) struct Harness {
    /// Stands before the disk if calls are to be written down.
    sited: Option<SitedVfs>,
    pub(crate) disk: FaultyVfs,
    options: Options,
    pub(crate) rng: Rng,
    engine: Option<Engine>,
    ledger: Arc<Mutex<Ledger>>,
    next: u64,
    /// The last checkpoint that was said to be done, and what must be in it.
    checkpoint: Option<(PathBuf, State)>,
    /// The same of the last export.
    exported: Option<(PathBuf, State)>,
}

pub(crate) fn small_options(seed: u64) -> Options {
    let mut rng = Rng::with_seed(seed);
    let interval = SyncMode::Interval(core::time::Duration::from_millis(1));
    let options = Options {
        memtable_bytes: rng.usize(1_500..6_500),
        wal_segment_bytes: rng.u64(1_500..6_000),
        block_bytes: 256,
        // In every fourth script indexes and filters have no room.
        block_cache_bytes: if seed % 4 == 3 { 2 << 10 } else { 64 << 10 },
        // So small that the few tables of a script fill several levels, in many small steps.
        l0_trigger: rng.usize(1..4),
        level_base_bytes: rng.u64(300..4_000),
        level_fanout: rng.u64(2..5),
        table_bytes: rng.u64(500..4_000),
        compaction_step_bytes: rng.u64(200..6_000),
        compaction_threads: 1 + seed as usize % 3,
        group_bytes_max: rng.usize(1_000..8_000),
        // Half of the scripts are in the default mode.
        sync: [SyncMode::Always, interval, SyncMode::Always, SyncMode::None][seed as usize % 4],
        threads: ThreadMode::Inline,
        manifest_bytes: rng.u64(300..1_500),
        ..Options::default()
    };
    // Every value is separated, or the long ones, or none.
    let least = [Some(1), Some(30), Some(300), None];
    Options {
        blob_bytes_min: least[rng.usize(..least.len())],
        blob_file_bytes: rng.u64(100..4_000),
        blob_garbage_percent: rng.u8(1..60),
        ..options
    }
}

pub(crate) fn dump(engine: &Engine) -> Result<State, Error> {
    let pairs = engine.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward);
    pairs.map(|pair| pair.map(|(key, value, _)| (key.to_vec(), value.to_vec()))).collect()
}

/// Reads again if an injected error was in the way.
fn patiently<T>(read: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let injected = |result: &Result<T, Error>| matches!(result, Err(Error::Io { .. }));
    (0..50).map(|_| read()).find(|result| !injected(result)).unwrap_or_else(&read)
}

impl Harness {
    pub(crate) fn new(script: u64, disk: FaultyVfs) -> Self {
        let (options, rng) = (small_options(script), Rng::with_seed(script));
        Self {
            disk,
            sited: None,
            options,
            rng,
            engine: None,
            ledger: Arc::default(),
            next: 0,
            checkpoint: None,
            exported: None,
        }
    }

    pub(crate) fn try_open(&mut self) -> Result<Recovery, Error> {
        let vfs: Arc<dyn Vfs> = match &self.sited {
            Some(sited) => Arc::new(sited.clone()),
            None => Arc::new(self.disk.clone()),
        };
        let (engine, recovery) = Engine::open(vfs, Path::new(DIR), self.options.clone())?;
        self.engine = Some(engine);
        let mut ledger = self.ledger.lock();
        ledger.waiting.clear();
        ledger.latched = false;
        Ok(recovery)
    }

    pub(crate) fn submit(&mut self, durability: Durability) {
        if self.engine.is_some() {
            let changes = changes(&mut self.rng);
            self.submit_changes(changes, durability);
        }
    }

    fn submit_changes(&mut self, changes: Vec<Change>, durability: Durability) {
        let Some(engine) = &self.engine else { return };
        self.next += 1;
        let number = self.next;
        let written = Written { number, changes, file: None };
        let promised = durability == Durability::Synced || self.options.sync == SyncMode::Always;
        let ledger = Arc::clone(&self.ledger);
        let on_done = Box::new(move |result: Result<_, Error>| {
            let mut ledger = ledger.lock();
            if number <= ledger.last_called {
                ledger.disorder = Some(format!("{number} called after {}", ledger.last_called));
            }
            ledger.last_called = number;
            ledger.waiting.remove(&number);
            if result.is_ok() && ledger.latched {
                ledger.disorder = Some(format!("{number} acknowledged by a read-only engine"));
            }
            ledger.latched |= matches!(result, Err(Error::ReadOnly { .. }));
            match result {
                Ok(_) if promised => ledger.synced = number,
                Err(Error::DiskFull | Error::TakenBack) => {
                    ledger.written.retain(|written| written.number != number)
                }
                _ => {}
            }
        });
        let batch = written.batch();
        self.ledger.lock().written.push(written);
        self.ledger.lock().waiting.insert(number);
        if engine.submit(batch, durability, on_done).is_err() {
            // Refused at the door: certainly not applied.
            self.ledger.lock().written.pop();
            self.ledger.lock().waiting.remove(&number);
        }
    }

    /// Opens the store after a clean end. That the disk fails then is no fault of the store's.
    pub(crate) fn reopen(&mut self) -> Verdict {
        match self.try_open() {
            Ok(_) if self.disk.is_down() => Ok(()),
            Ok(recovery) => match self.judge(&recovery) {
                Err(_) if self.disk.is_down() => Ok(()),
                verdict => verdict,
            },
            Err(Error::Io { .. }) => Ok(()),
            Err(error) => Err(format!("refused to open: {error}")),
        }
    }

    /// One act of the script; the same seed gives the same acts whatever the disk does.
    pub(crate) fn act(&mut self) {
        let draw = self.rng.u8(..44);
        let synced = self.rng.u8(..4) == 0;
        let Some(engine) = self.engine.clone() else { return };
        match draw {
            0 => drop(engine.flush()),
            1 => drop(engine.request_flush()),
            2 => {
                // A clean end and a new start inside the script.
                let _failed = engine.close();
                self.engine = None;
                drop(engine);
                if let Err(error) = self.reopen() {
                    self.ledger.lock().disorder.get_or_insert(error);
                }
            }
            3 => drop(engine.compact()),
            40 => self.checkpoint(&engine),
            41 | 42 => self.ingest(&engine),
            43 => self.export(&engine),
            4..6 => engine.interval_elapsed(),
            6..24 => drop(engine.step()),
            _ => {
                let durability = if synced { Durability::Synced } else { Durability::Default };
                self.submit(durability);
            }
        }
    }

    /// Empties a range and takes in a table for it.
    fn ingest(&mut self, engine: &Engine) {
        let (key, length) = (self.rng.u8(..12), self.rng.u16(..900));
        self.submit_changes(vec![Change::DeleteRange(key, key + 1)], Durability::Synced);
        while engine.step() {}
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk.clone());
        let path = PathBuf::from(format!("/srv/node/in-{}.sst", self.disk.counts().calls));
        self.next += 1;
        let written = Written {
            number: self.next,
            changes: vec![Change::Put(key, length)],
            file: Some(true),
        };
        let made = || -> Result<_, Error> {
            let mut writer = TableWriter::create(&vfs, &path, &self.options)?;
            writer.put(&[b'k', key], &value(written.number, length))?;
            writer.finish()
        };
        if made().is_err() {
            return;
        }
        let outcome = engine.ingest(std::slice::from_ref(&path));
        let mut ledger = self.ledger.lock();
        match outcome {
            Ok(_) => ledger.written.push(written),
            Err(Error::ReadOnly { .. } | Error::Io { .. }) => {
                ledger.written.push(Written { file: Some(false), ..written });
            }
            Err(_) => {}
        }
    }

    fn export(&mut self, engine: &Engine) {
        let dir = PathBuf::from(format!("/srv/node/export-{}", self.disk.counts().calls));
        if engine.export(&KeyRange::all(), &dir).is_ok() {
            let state = self.ledger.lock().state_after(u64::MAX);
            self.exported = Some((dir, state));
        }
    }

    /// An export that was said to be done can be taken in by a new store, and is what it should be.
    fn check_export(&self) -> Verdict {
        let Some((dir, state)) = &self.exported else { return Ok(()) };
        let fresh = PathBuf::from(format!("/srv/node/fresh-{}", self.disk.counts().calls));
        let taken = || -> Result<State, Error> {
            let vfs = Arc::new(self.disk.clone());
            let export = Export::read(&*vfs, dir)?;
            let (engine, _) = Engine::open(vfs, &fresh, self.options.clone())?;
            engine.ingest(&export.paths(dir))?;
            dump(&engine)
        };
        match taken() {
            Ok(found) if found == *state => Ok(()),
            Ok(_) => Err("an export is not what the store was".to_owned()),
            Err(Error::Io { .. } | Error::ReadOnly { .. } | Error::DiskFull | Error::TakenBack) => {
                Ok(())
            }
            Err(error) => Err(format!("an export cannot be taken in: {error}")),
        }
    }

    fn checkpoint(&mut self, engine: &Engine) {
        let dir = PathBuf::from(format!("/srv/node/checkpoint-{}", self.disk.counts().calls));
        if engine.checkpoint(&dir).is_ok() {
            let state = self.ledger.lock().state_after(u64::MAX);
            self.checkpoint = Some((dir, state));
        }
    }

    /// A checkpoint that was said to be done is a sound store and holds what it should.
    fn check_checkpoint(&self) -> Verdict {
        let Some((dir, state)) = &self.checkpoint else { return Ok(()) };
        let open = || Engine::open(Arc::new(self.disk.clone()), dir, self.options.clone());
        let (engine, recovery) = match patiently(open) {
            Ok(opened) => opened,
            Err(Error::Io { .. }) => return Ok(()),
            Err(error) => return Err(format!("a checkpoint does not open: {error}")),
        };
        if !recovery.unreadable.is_empty() {
            return Err(format!("a checkpoint is broken: {:?}", recovery.unreadable));
        }
        match patiently(|| dump(&engine)) {
            Ok(found) if found == *state => Ok(()),
            Ok(_) => Err("a checkpoint is not what the store was".to_owned()),
            Err(Error::Io { .. }) => Ok(()),
            Err(error) => Err(format!("a checkpoint cannot be read: {error}")),
        }
    }

    pub(crate) fn play(&mut self, acts: usize) {
        if self.engine.is_none() {
            let _failed = self.try_open();
        }
        for _ in 0..acts {
            if self.disk.is_down() || self.engine.is_none() {
                return;
            }
            self.act();
        }
    }

    /// Lets everything that waits be done; nobody may be left without an answer then.
    pub(crate) fn settle(&mut self) -> Verdict {
        let Some(engine) = &self.engine else { return Ok(()) };
        while engine.step() {}
        let ledger = self.ledger.lock();
        match ledger.waiting.first() {
            Some(number) => Err(format!("{number} was never answered")),
            None => Ok(()),
        }
    }

    /// Ends this life without a crash.
    pub(crate) fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            let _failed = engine.close();
        }
    }

    /// Whether the last batch taken in has been acknowledged as being on disk.
    pub(crate) fn newest_is_acknowledged(&self) -> bool {
        self.ledger.lock().synced == self.next
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// What readers see now must be every batch that is not known to have failed, or an error.
    pub(crate) fn check_visible(&self) -> Verdict {
        let Some(engine) = &self.engine else { return Ok(()) };
        let ledger = self.ledger.lock();
        if let Some(disorder) = &ledger.disorder {
            return Err(disorder.clone());
        }
        match dump(engine) {
            Ok(seen) if seen == ledger.state_after(u64::MAX) => Ok(()),
            Ok(_) => Err("readers do not see what was submitted".to_owned()),
            Err(Error::Io { .. }) => Ok(()),
            Err(error) => Err(format!("readers see {error}")),
        }
    }

    /// The power fails (if it has not), comes back, and perhaps fails again during the recovery.
    pub(crate) fn crash(&mut self) {
        self.engine = None;
        self.disk.crash();
        self.disk.restart();
        if self.rng.bool() {
            let call = self.disk.counts().calls + self.rng.u64(1..40);
            self.disk.crash_at(call);
            if self.try_open().is_err() || self.rng.bool() {
                self.engine = None;
                self.disk.crash();
            }
            // A recovery that got through without the crash goes on as the store.
            if self.disk.is_down() {
                self.disk.restart();
            } else {
                self.disk.crash_at(u64::MAX);
                self.engine = None;
            }
        }
    }

    /// Opens the store and judges it. What it holds is the new beginning of the ledger.
    pub(crate) fn recover(&mut self) -> Verdict {
        self.engine = None;
        let recovery = self.try_open().map_err(|error| format!("refused to open: {error}"))?;
        self.judge(&recovery)
    }

    /// Judges a store that has just been opened.
    pub(crate) fn judge(&mut self, recovery: &Recovery) -> Verdict {
        if !recovery.corrupt.is_empty() {
            return Err(format!("a crash was taken for damage: {:?}", recovery.corrupt));
        }
        if !recovery.unreadable.is_empty() {
            return Err(format!("a crash has broken tables: {:?}", recovery.unreadable));
        }
        let engine = self.engine.as_ref().unwrap();
        let found = patiently(|| dump(engine)).map_err(|error| format!("unreadable: {error}"))?;
        let number = found
            .get(&b"last"[..])
            .map_or(0, |last| u64::from_le_bytes(last.as_slice().try_into().unwrap()));
        let mut ledger = self.ledger.lock();
        if let Some(disorder) = &ledger.disorder {
            return Err(disorder.clone());
        }
        if number < ledger.synced {
            return Err(format!("{} was acknowledged, {number} is the last found", ledger.synced));
        }
        if number > 0 && !ledger.written.iter().any(|written| written.number == number) {
            return Err(format!("{number} is there but was answered as not applied"));
        }
        ledger.find_file(&found);
        let file = ledger.written.iter().rev().find(|it| it.file == Some(true));
        let before = |file: &Written| {
            ledger.written.iter().rev().find(|it| it.file.is_none() && it.number < file.number)
        };
        if file.and_then(before).is_some_and(|batch| batch.number > number) {
            return Err(format!("{number} is the last found, but a file that came later is there"));
        }
        if found != ledger.state_after(number) {
            return Err(format!("the state is not that after batch {number}"));
        }
        for (key, value) in &found {
            let got = patiently(|| engine.get(key)).map_err(|error| error.to_string())?;
            if got.is_none_or(|(got, _)| got != value[..]) {
                return Err(format!("get and range disagree on {key:?}"));
            }
        }
        ledger.written.retain(|written| written.file.is_some() || written.number <= number);
        drop(ledger);
        self.check_checkpoint()?;
        self.check_export()
    }
}

/// How many acts a script has.
pub(crate) const ACTS: usize = 70;

/// Calls a script makes when nothing fails: the places where it can crash.
pub(crate) fn calls_of(script: u64) -> u64 {
    let disk = FaultyVfs::new(0);
    let mut harness = Harness::new(script, disk.clone());
    harness.play(ACTS);
    disk.counts().calls
}

/// Where each call of a script comes from, when nothing fails.
pub(crate) fn sites_of(script: u64) -> BTreeMap<u64, Site> {
    let disk = FaultyVfs::new(0);
    let sited = SitedVfs::new(disk.clone());
    let mut harness = Harness::new(script, disk);
    harness.sited = Some(sited.clone());
    harness.play(ACTS);
    sited.calls()
}

/// Compactions in the last life of a script when nothing fails.
pub(crate) fn merges_of(script: u64) -> u64 {
    let mut harness = Harness::new(script, FaultyVfs::new(0));
    harness.play(ACTS);
    harness.engine().map_or(0, |engine| engine.stats().compactions)
}

/// Plays a script, crashing at call `call`; recovers, judges, plays on, crashes and judges again.
pub(crate) fn crash_run(script: u64, call: u64, seed: u64, fate: Fate) -> Verdict {
    let story = |verdict: Verdict| {
        verdict
            .map_err(|error| format!("script {script} call {call} seed {seed} {fate:?}: {error}"))
    };
    let disk = FaultyVfs::new(seed);
    disk.set_fate(fate);
    let mut harness = Harness::new(script, disk.clone());
    disk.crash_at(call);
    harness.play(ACTS);
    harness.crash();
    story(harness.recover())?;
    harness.rng = Rng::with_seed(seed);
    harness.play(12);
    harness.crash();
    story(harness.recover())
}
