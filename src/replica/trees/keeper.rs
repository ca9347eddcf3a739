//! Puts the trees on file before each flush, and when the store is closed: the leaves that have changed.
//!
//! A tree on file counts the store as it was after one batch, exactly. With all stripes held every
//! batch that was submitted has been told, and none is under way; so it is then that a tree is taken,
//! together with the number of the last batch: some trees at a time, since writers wait.
//!
//! INVARIANT: a group is ended only when all that it counts is on disk, and nothing of it was taken back.
//!
//! INVARIANT: a group is on disk before the log that is behind it is given up: its number is not below
//! that of the flush. Where it cannot be written the file is behind the flush, and is not believed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::file::{Group, Kind, NAME, NEXT, TREE_BYTES_MAX, Taken};
use super::{Kept, Trees, tail};
use crate::message::UnitDone;
use crate::replica::unit;
use crate::storage::vfs::{Vfs, VfsFile};
use crate::storage::{Moment, Seqno};
use crate::types::Unit;

/// Leaves that are looked at under one hold of the stripes, about.
const HOLD_LEAVES: usize = 1_024;
/// The file is written anew when it is larger than this, and than twice what all trees take.
pub(super) const FILE_BYTES_MIN: u64 = 16 << 10;
/// How often it is tried again when something was taken back meanwhile.
const TRIES: usize = 3;

/// What keeps the trees of a store on file.
#[derive(Debug)]
pub(in crate::replica) struct Keeper {
    place: (Arc<dyn Vfs>, PathBuf),
    stripes: Arc<Vec<Mutex<()>>>,
    trees: Arc<Trees>,
    books: Mutex<Books>,
    /// Bytes of the file.
    bytes: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug)]
struct Books {
    /// The file, and where the next group begins; `None`: a new file is needed, with all trees.
    file: Option<(Arc<dyn VfsFile>, u64)>,
    /// Units that have a record, and whether it is a tree.
    units: BTreeMap<Unit, bool>,
    /// What had been taken back when nothing of it was in a tree any more without a doubt.
    seen: u64,
}

/// The store, as a checkpoint sees it.
pub(super) trait Store {
    /// The last batch.
    fn visible(&self) -> Seqno;
    /// Waits until all batches are on disk, or taken back, and that has been told.
    ///
    /// # Errors
    /// The log cannot be written any more.
    fn settle(&self) -> io::Result<()>;
}

impl Store for Moment<'_> {
    fn visible(&self) -> Seqno {
        Moment::visible(self)
    }

    fn settle(&self) -> io::Result<()> {
        Moment::settle(self).map_err(io::Error::other)
    }
}

/// A store that is closed: nothing is under way.
struct Closed(Seqno);

impl Store for Closed {
    fn visible(&self) -> Seqno {
        self.0
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What a group is to be of.
struct Plan {
    /// Units that are not named have not changed up to this batch.
    number: Seqno,
    /// All units have been found.
    is_all: bool,
    /// Trees that have changed.
    trees: Vec<Arc<Kept>>,
    unknown: Vec<Unit>,
    gone: Vec<Unit>,
}

impl Keeper {
    /// For the trees of a store in `dir`, which has just been opened with what is on file there.
    pub(in crate::replica) fn new(
        place: (Arc<dyn Vfs>, PathBuf),
        stripes: Arc<Vec<Mutex<()>>>,
        trees: Arc<Trees>,
        taken: &Taken,
    ) -> Keeper {
        let units = taken.units.iter().map(|(unit, (tree, _))| (*unit, tree.is_some()));
        let bytes = taken.file.as_ref().map_or(0, |(_, end)| *end);
        let books = Books { file: taken.file.clone(), units: units.collect(), seen: 0 };
        let (bytes, books) = (AtomicU64::new(bytes), Mutex::new(books));
        let (written, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Keeper { place, stripes, trees, books, bytes, written, failed }
    }

    /// Bytes of the file; bytes that were written into it since the store was opened; and how often
    /// that has failed.
    pub(in crate::replica) fn figures(&self) -> [u64; 3] {
        [&self.bytes, &self.written, &self.failed].map(|figure| figure.load(Ordering::Relaxed))
    }

    /// Before a flush.
    pub(in crate::replica) fn before_flush(&self, moment: &Moment<'_>) {
        self.keep(moment);
    }

    /// Of a store that is closed, whose last batch this is.
    pub(in crate::replica) fn close(&self, last: Seqno) {
        self.keep(&Closed(last));
    }

    pub(super) fn keep(&self, store: &dyn Store) {
        let mut books = self.books.lock();
        // The log behind them is given up now: they count what it has, or are built.
        self.find();
        self.catch_up();
        for _ in 0..TRIES {
            match self.attempt(&mut books, store) {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => break,
            }
        }
        // What is on file is behind the flush now, so it is nothing to go on from.
        books.file = None;
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Finds the units that are there, if what is on file says which were.
    fn find(&self) {
        let opening =
            self.trees.opening.lock().as_ref().map(|unfound| Arc::clone(&unfound.opening));
        let Some(opening) = opening else { return };
        let mut after = None;
        while let Ok(UnitDone::Held(units, is_last)) = unit::held(&opening.snapshot, after) {
            units.iter().for_each(|unit| drop(self.trees.found(*unit, false)));
            after = units.last().copied().or(after);
            if is_last {
                return self.trees.all_found();
            }
        }
    }

    fn catch_up(&self) {
        let units: Vec<Arc<Kept>> = self.trees.units.read().values().cloned().collect();
        for kept in units {
            let what = kept.state.lock().behind.as_ref().map(|behind| behind.what());
            if let Some((opening, number)) = what {
                let tail = tail::read(&opening, kept.unit, number);
                self.trees.caught_up(&kept, tail.ok().flatten());
            }
        }
    }

    fn undone(&self) -> u64 {
        self.trees.undone.load(Ordering::SeqCst)
    }

    /// Returns whether the trees are on file: not if something has been taken back meanwhile.
    fn attempt(&self, books: &mut Books, store: &dyn Store) -> io::Result<bool> {
        let seen = self.undone();
        if seen != books.seen {
            // Then all trees that had counted it are in doubt; which marks were lost nobody knows.
            books.file = None;
            store.settle()?;
        }
        let limit = (2 * self.record_bytes()).max(FILE_BYTES_MIN);
        let file = books.file.take().filter(|(_, end)| *end <= limit);
        let as_whole = file.is_none();
        let plan = self.plan(store, (&books.units, as_whole));
        let (vfs, dir) = (&*self.place.0, &self.place.1);
        let (number, next) = (plan.number, dir.join(NEXT));
        let is_all = plan.is_all;
        let mut group = match file {
            Some(file) => Group::behind(file, number),
            None => Group::in_new(vfs, &next, number)?,
        };
        let units = self.write(&mut group, (plan, &books.units, as_whole), store)?;
        store.settle()?;
        if self.undone() != seen && !crate::mutant!("tree-kept-though-undone") {
            return Ok(false);
        }
        let end = if is_all { Kind::EndAll } else { Kind::EndSome };
        let before = if as_whole { 0 } else { self.bytes.load(Ordering::Relaxed) };
        let file = group.end(end, number)?;
        if as_whole {
            vfs.rename(&next, &dir.join(NAME))?;
            vfs.sync_dir(dir)?;
        }
        self.bytes.store(file.1, Ordering::Relaxed);
        self.written.fetch_add(file.1.saturating_sub(before), Ordering::Relaxed);
        *books = Books { file: Some(file), units, seen };
        Ok(true)
    }

    fn record_bytes(&self) -> u64 {
        let units: Vec<Arc<Kept>> = self.trees.units.read().values().cloned().collect();
        let bytes = units.iter().map(|kept| kept.state.lock().tree.record_bytes());
        bytes.sum::<usize>() as u64
    }

    fn hold(&self) -> Vec<MutexGuard<'_, ()>> {
        match crate::mutant!("tree-taken-while-told") {
            true => Vec::new(),
            false => self.stripes.iter().map(Mutex::lock).collect(),
        }
    }

    fn plan(&self, store: &dyn Store, (filed, as_whole): (&BTreeMap<Unit, bool>, bool)) -> Plan {
        let _guards = self.hold();
        let number = store.visible();
        let (mut trees, mut unknown, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let units = self.trees.units.read();
        for (unit, kept) in &*units {
            let state = kept.state.lock();
            if !state.tree.is_sound() || self.trees.is_unsure(*unit) {
                unknown.extend((as_whole || filed.get(unit) != Some(&false)).then_some(*unit));
            } else if as_whole || state.tree.has_changed() || filed.get(unit) != Some(&true) {
                trees.push(Arc::clone(kept));
            }
        }
        if !as_whole {
            gone.extend(filed.keys().filter(|unit| !units.contains_key(unit)));
        }
        let is_all = self.trees.has_found_all();
        Plan { number, is_all, trees, unknown, gone }
    }

    /// Writes the records of a group. Returns which units have one on file then.
    fn write(
        &self,
        group: &mut Group,
        (plan, filed, as_whole): (Plan, &BTreeMap<Unit, bool>, bool),
        store: &dyn Store,
    ) -> io::Result<BTreeMap<Unit, bool>> {
        let mut units = if as_whole { BTreeMap::new() } else { filed.clone() };
        for unit in plan.gone {
            group.record(Kind::Gone, unit, plan.number, &[]);
            units.remove(&unit);
        }
        for unit in plan.unknown {
            group.record(Kind::Unknown, unit, plan.number, &[]);
            units.insert(unit, false);
        }
        let mut trees = plan.trees.into_iter().peekable();
        while trees.peek().is_some() {
            {
                let _guards = self.hold();
                let number = store.visible();
                let mut taken = 0;
                while taken < HOLD_LEAVES
                    && let Some(kept) = trees.next()
                {
                    let as_whole = as_whole || filed.get(&kept.unit) != Some(&true);
                    let (is_tree, leaves) = self.take(group, &kept, (number, as_whole));
                    // One that was emptied since is emptied by the log too.
                    units.extend(is_tree.map(|is_tree| (kept.unit, is_tree)));
                    taken += leaves.max(1);
                }
            }
            group.write_some()?;
        }
        Ok(units)
    }

    /// Takes one tree, with the stripes held. Returns whether a tree is on file then, and the leaves looked at.
    fn take(
        &self,
        group: &mut Group,
        kept: &Kept,
        (number, as_whole): (Seqno, bool),
    ) -> (Option<bool>, usize) {
        let mut state = kept.state.lock();
        if state.is_dropped {
            return (None, 0);
        }
        // After the number: what changes the unit without being told is known before it has one.
        let is_unsure = self.trees.is_unsure(kept.unit);
        let record = if is_unsure { None } else { state.tree.record(as_whole) };
        match record.filter(|(bytes, _)| bytes.len() <= TREE_BYTES_MAX) {
            Some((bytes, _)) => {
                group.record(Kind::Tree, kept.unit, number, &bytes);
                (Some(true), state.tree.leaves())
            }
            None => {
                group.record(Kind::Unknown, kept.unit, number, &[]);
                (Some(false), state.tree.leaves())
            }
        }
    }
}
