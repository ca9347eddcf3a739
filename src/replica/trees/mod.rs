//! The trees of the units that are here: what they count is told by every merge, once its batch is in
//! the engine and while its key's stripe is still held. `docs/protocol/repair.md`.
//!
//! INVARIANT: a unit of which the engine holds an entry has a tree here, as soon as the units that were
//! there at boot have been found.
//!
//! INVARIANT: a batch is submitted, then told, then its stripes are let go. Where a batch is taken back,
//! or rests on what was, the tree is in doubt and is built anew.
//!
//! Order of locks: stripes, then `units`, then one unit's tree, then `work` or `opening`. No read of the engine is made
//! with any but stripes held.

mod build;
mod check;
mod counted;
mod file;
mod keeper;
mod lately;
mod leaves;
mod scan;
mod serve;
mod tail;
mod unsure;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

pub(super) use build::{Builder, step};
pub use check::TreesChecked;
pub(super) use check::check;
pub(super) use counted::{Counted, Gone, hand_in, submit, wipe};
pub(super) use file::{Taken, take};
pub(super) use keeper::Keeper;
pub(super) use leaves::{differing, leaves, mirror_differing};
pub(super) use serve::execute;

use build::Work;
use counted::Changed;
use lately::Lately;
use tail::{Behind, Opening, Tail};
use unsure::Unsure;

use super::Shared;
use crate::repair::tree::{SEED, Tree};
use crate::storage::Snapshot;
use crate::types::{TableId, Unit};

/// The trees of all units.
#[derive(Debug)]
pub(super) struct Trees {
    units: RwLock<BTreeMap<Unit, Arc<Kept>>>,
    work: Work,
    /// All units that were there at boot have been found: one without a tree holds nothing.
    all_found: AtomicBool,
    /// See `Engine::undone`.
    undone: Arc<AtomicU64>,
    /// Entries that were read for answers and for sessions.
    entries_read: AtomicU64,
    lately: Lately,
    /// Until all units have been found.
    opening: Mutex<Option<Unfound>>,
    unsure: Unsure,
    came: Came,
}

/// How the trees have come to be that were not begun empty.
#[derive(Debug, Default)]
struct Came {
    taken: AtomicU64,
    replayed: AtomicU64,
    built: AtomicU64,
}

/// What is known of units at boot that have no tree yet: they held nothing after a batch, and what they hold
/// now came behind it.
#[derive(Debug)]
struct Unfound {
    opening: Arc<Opening>,
    /// But not of those between two of these, of which something was deleted since boot.
    besides: Vec<(Unit, Unit)>,
}

/// Figures of the trees of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeFacts {
    /// Trees: one for each unit of which there is anything.
    pub units: u64,
    /// Bytes of memory that they take.
    pub bytes: u64,
    /// Leaves of all of them.
    pub leaves: u64,
    /// Trees that are being built, or are in doubt, and tell nothing.
    pub building: u64,
    /// Trees with leaves that have yet to be cut.
    pub to_cut: u64,
    /// Entries that were read, since the store was opened, to find what differs from other owners.
    pub entries_read: u64,
    /// Trees that were on file when the store was opened.
    pub taken: u64,
    /// Entries of theirs that the log had behind what was on file.
    pub replayed: u64,
    /// Trees that were built by reading all entries.
    pub built: u64,
    /// Bytes of the file that trees are kept in.
    pub file_bytes: u64,
    /// Bytes written into it since the store was opened.
    pub file_written: u64,
    /// How often since then it could not be written: trees would be built after a crash.
    pub file_failed: u64,
}

/// The tree of one unit.
#[derive(Debug)]
struct Kept {
    unit: Unit,
    state: Mutex<State>,
    /// What was read for it has been handed in.
    over: Condvar,
}

#[derive(Debug)]
struct State {
    /// While it is behind, one that has yet to be built.
    tree: Tree,
    /// It was on file, and what the log had behind that has yet to be told.
    behind: Option<Behind>,
    /// Counts what it was told, so that something read for it can be known to be still right.
    version: u64,
    /// Somebody is about to read for it.
    is_queued: bool,
    /// It could not be read for: not again until somebody asks.
    is_put_off: bool,
    /// The unit has been emptied: this is nobody's tree.
    is_dropped: bool,
}

impl Kept {
    fn new(unit: Unit, tree: Tree) -> Arc<Kept> {
        let (behind, is_queued, is_put_off, is_dropped) = (None, false, false, false);
        let state = State { tree, behind, version: 0, is_queued, is_put_off, is_dropped };
        Arc::new(Kept { unit, state: Mutex::new(state), over: Condvar::new() })
    }

    fn behind(unit: Unit, behind: Behind) -> Arc<Kept> {
        let kept = Kept::new(unit, Tree::unbuilt(SEED));
        kept.state.lock().behind = Some(behind);
        kept
    }
}

impl State {
    fn is_due(&self) -> bool {
        (self.tree.is_wanting() || self.tree.is_doubtful()) && !self.is_dropped
    }

    /// What was on file is of no use any more.
    fn doubt(&mut self) {
        self.behind = None;
        self.tree.doubt();
    }
}

impl Trees {
    /// The trees of a store that has just been opened: those that were kept, and others as they are
    /// built.
    pub(super) fn new(undone: Arc<AtomicU64>, taken: &mut Taken, snapshot: Snapshot) -> Trees {
        let last = snapshot.seqno();
        let opening = Arc::new(Opening { snapshot, number: taken.number });
        let mut kept = BTreeMap::new();
        let mut came = Came::default();
        for (unit, (tree, number)) in &mut taken.units {
            // Where it is not said it has not changed.
            let number = taken.number.max(*number);
            // All but the tree itself is still asked for.
            let tree = tree.as_mut().map(|tree| core::mem::replace(tree, Tree::empty(SEED)));
            *came.taken.get_mut() += u64::from(tree.is_some());
            let one = match tree {
                Some(tree) if number == last => Kept::new(*unit, tree),
                Some(tree) => Kept::behind(*unit, Behind::new(tree, number, &opening)),
                None => Kept::new(*unit, Tree::unbuilt(SEED)),
            };
            kept.insert(*unit, one);
        }
        let all_found = taken.is_all && taken.number == last;
        if all_found {
            crate::sometimes!("replica: trees come from where they were kept");
        }
        let unfound = taken.is_all.then(|| Unfound { opening, besides: Vec::new() });
        let trees = Trees {
            units: RwLock::new(kept),
            work: Work::new(all_found),
            all_found: AtomicBool::new(all_found),
            undone,
            entries_read: AtomicU64::new(0),
            lately: Lately::default(),
            opening: Mutex::new(unfound.filter(|_| !all_found)),
            unsure: Unsure::default(),
            came,
        };
        for kept in trees.units.read().values() {
            trees.queue(kept, &mut kept.state.lock());
        }
        trees
    }

    /// Figures of now.
    pub(super) fn facts(&self) -> TreeFacts {
        let units: Vec<Arc<Kept>> = self.units.read().values().cloned().collect();
        let figure = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let mut facts = TreeFacts {
            units: units.len() as u64,
            entries_read: figure(&self.entries_read),
            taken: figure(&self.came.taken),
            replayed: figure(&self.came.replayed),
            built: figure(&self.came.built),
            ..TreeFacts::default()
        };
        // What has yet to be looked for is like one that is being built.
        facts.building += u64::from(!self.has_found_all());
        for kept in units {
            let state = kept.state.lock();
            let bytes = size_of::<Kept>() + state.tree.memory_bytes();
            facts.bytes += bytes as u64;
            facts.leaves += state.tree.leaves() as u64;
            facts.building += u64::from(!state.tree.is_sound());
            facts.to_cut += u64::from(state.tree.is_built() && state.tree.is_wanting());
        }
        facts
    }

    /// Whether a unit without a tree holds nothing.
    fn has_found_all(&self) -> bool {
        self.all_found.load(Ordering::SeqCst)
    }

    /// All units that were there at boot have a tree now.
    fn all_found(&self) {
        self.all_found.store(true, Ordering::SeqCst);
        *self.opening.lock() = None;
    }

    fn find(&self, unit: Unit) -> Option<Arc<Kept>> {
        self.units.read().get(&unit).cloned()
    }

    /// The tree of a unit, of which the store holds something now; `is_new`: it did not before.
    fn found(&self, unit: Unit, is_new: bool) -> Arc<Kept> {
        if let Some(kept) = self.find(unit) {
            return kept;
        }
        let mut units = self.units.write();
        let begin = || match self.unfound(unit) {
            _ if is_new => Kept::new(unit, Tree::empty(SEED)),
            Some(opening) => {
                let behind = Behind::new(Tree::empty(SEED), opening.number, &opening);
                Kept::behind(unit, behind)
            }
            None => Kept::new(unit, Tree::unbuilt(SEED)),
        };
        let kept = units.entry(unit).or_insert_with(begin);
        Arc::clone(kept)
    }

    /// If all that there is of a unit, as it is found, came behind what is on file.
    fn unfound(&self, unit: Unit) -> Option<Arc<Opening>> {
        let unfound = self.opening.lock();
        let unfound = unfound.as_ref()?;
        let is_in = |(first, last): &(Unit, Unit)| (*first..=*last).contains(&unit);
        (!unfound.besides.iter().any(is_in)).then(|| Arc::clone(&unfound.opening))
    }

    /// Something is deleted of units, of which some may not have been found yet.
    fn is_beside(&self, first: Unit, last: Unit) {
        if let Some(unfound) = &mut *self.opening.lock() {
            unfound.besides.push((first, last));
        }
    }

    /// What a tree had to be told of the log; nothing if it has to be built.
    fn caught_up(&self, kept: &Arc<Kept>, tail: Option<Tail>) {
        let mut state = kept.state.lock();
        // Another may have been quicker.
        if let (Some(behind), Some(tail)) = (state.behind.take(), tail) {
            crate::sometimes!("replica: a tree is caught up from the log");
            self.came.replayed.fetch_add(tail.changed.len() as u64, Ordering::Relaxed);
            state.tree = behind.caught_up(tail);
        }
        state.version += 1;
        self.queue(kept, &mut state);
    }

    /// Some entries of a unit have been changed; `seen` is what had been taken back before they were
    /// read. The caller holds their stripes, and has submitted the batch.
    fn tell(&self, unit: Unit, changed: &[Changed], seen: u64) {
        let kept = self.found(unit, self.has_found_all());
        let mut state = kept.state.lock();
        if state.behind.as_mut().is_some_and(|behind| !behind.tell(changed)) {
            state.behind = None;
        }
        for Changed { place, before, after } in changed {
            state.tree.change(place, *before, *after);
        }
        state.version += 1;
        if self.undone.load(Ordering::SeqCst) != seen {
            // What was there before may have been taken back meanwhile.
            state.doubt();
        }
        self.queue(&kept, &mut state);
    }

    /// A batch of a unit has failed: it counts as told, if it was not refused at once, and has been taken
    /// back.
    fn on_failed(&self, unit: Unit, seen: u64) {
        if self.undone.load(Ordering::SeqCst) != seen {
            crate::sometimes!("replica: a tree is in doubt for want of room");
            self.doubt(unit);
        }
    }

    /// What a unit holds may be other than its tree was told.
    pub(super) fn doubt(&self, unit: Unit) {
        loop {
            let kept = self.found(unit, false);
            let mut state = kept.state.lock();
            if state.is_dropped {
                continue;
            }
            state.doubt();
            state.version += 1;
            state.is_put_off = false;
            return self.queue(&kept, &mut state);
        }
    }

    /// The same of all units between two that have a tree.
    pub(super) fn doubt_between(&self, first: Unit, last: Unit) {
        let units: Vec<Unit> = match first <= last {
            true => self.units.read().range(first..=last).map(|(unit, _)| *unit).collect(),
            false => Vec::new(),
        };
        units.into_iter().for_each(|unit| self.doubt(unit));
    }

    /// A unit has been emptied. The caller holds all stripes, and has submitted the batch.
    pub(super) fn forget(&self, unit: Unit) {
        let mut units = self.units.write();
        self.is_beside(unit, unit);
        if let Some(kept) = units.remove(&unit) {
            kept.state.lock().is_dropped = true;
        }
    }

    /// A table of a unit has been deleted. The caller holds all stripes, and has submitted the batch.
    pub(super) fn drop_table(&self, unit: Unit, table: TableId) {
        self.is_beside(unit, unit);
        if let Some(kept) = self.find(unit) {
            let mut state = kept.state.lock();
            state.behind = None;
            state.tree.drop_table(table);
            state.version += 1;
            self.queue(&kept, &mut state);
        }
    }

    /// Sees to it that what has to be read for a tree is.
    fn queue(&self, kept: &Arc<Kept>, state: &mut State) {
        if state.is_due() && !state.is_queued && !state.is_put_off {
            state.is_queued = true;
            self.work.push(Arc::clone(kept));
        }
    }
}

/// What was submitted before this has been told after it: whoever has submitted lets no stripe go before
/// that. One stripe after another, so nobody waits for more than one. The caller holds no tree.
fn pass_stripes(shared: &Shared) {
    shared.stripes.iter().for_each(|stripe| drop(stripe.lock()));
}

#[cfg(test)]
mod tests;
