//! What reads for trees, in the background: the units that are there at boot, the entries of a tree that
//! is built, and those of a leaf that is cut.
//!
//! A threaded store has a thread for it, an inline one does a piece with each of its steps.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::tail::{self, Tail};
use super::{Kept, scan};
use crate::message::{DiskError, UnitDone};
use crate::repair::tree::{Place, Print, SEED, Tree, Wanted};
use crate::replica::{Shared, unit};
use crate::types::Unit;

/// Pieces of an inline store's step.
const PIECES: usize = 4;
/// How long the units that are there are not looked for again after an error.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be read.
#[derive(Debug)]
pub(super) struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Kept>>,
    /// Units up to here have been found.
    found: Option<Unit>,
    all_found: bool,
    /// What an inline store has read, and hands in with its next piece.
    reading: Option<Reading>,
    is_closed: bool,
}

/// Pages that a caller who needs the tree reads for it itself.
const PAGES_NOW: usize = 256;
/// How long it waits for what somebody else reads for the tree.
const BESIDE: Duration = Duration::from_millis(100);

/// What has been read for a tree.
#[derive(Debug)]
pub(super) struct Reading {
    kept: Arc<Kept>,
    read: What,
}

#[derive(Debug)]
enum What {
    /// What the tree wanted.
    Entries(Wanted, Result<(Vec<(Place, Print)>, bool), DiskError>),
    /// What the log had behind the tree on file; nothing where that cannot be told.
    Tail(Option<Tail>),
}

/// What came of a piece.
enum Piece {
    /// There was nothing to do.
    Nothing,
    /// Something small.
    Small,
    /// A page of a tree that is built.
    Page,
    /// The units that are there could not be looked for.
    Failed,
}

impl Work {
    /// `all_found`: nothing has to be looked for.
    pub(super) fn new(all_found: bool) -> Work {
        let state = State { all_found, ..State::default() };
        Work { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn push(&self, kept: Arc<Kept>) {
        self.state.lock().waiting.push_back(kept);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for something to do, or so long. Returns whether to go on.
    fn wait(&self, rest: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        match rest {
            Some(rest) if !state.is_closed => {
                self.changed.wait_for(&mut state, rest);
            }
            Some(_) => {}
            None => {
                while state.waiting.is_empty() && state.all_found && !state.is_closed {
                    self.changed.wait(&mut state);
                }
            }
        }
        !state.is_closed
    }
}

/// The thread of a threaded store. Dropping it ends it.
#[derive(Debug)]
pub(in crate::replica) struct Builder {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Builder {
    /// Starts it; an inline store has none.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(in crate::replica) fn start(shared: &Arc<Shared>) -> std::io::Result<Builder> {
        let own = Arc::clone(shared);
        let thread = (!shared.inline).then(|| {
            let builder = std::thread::Builder::new().name("kvd-trees".to_owned());
            builder.spawn(move || run(&own))
        });
        let thread = Mutex::new(thread.transpose()?);
        Ok(Builder { shared: Arc::clone(shared), thread })
    }

    /// Ends it.
    pub(in crate::replica) fn end(&self) {
        self.shared.trees.work.close();
        if let Some(thread) = self.thread.lock().take() {
            // One that panicked has said so.
            let _ended = thread.join();
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Shared) {
    let work = &shared.trees.work;
    let mut rest = None;
    while work.wait(rest) {
        let began = now();
        rest = match piece(shared) {
            Piece::Nothing | Piece::Small => None,
            // As long as it took: users come first.
            Piece::Page => Some(now().saturating_duration_since(began)),
            Piece::Failed => Some(AGAIN),
        };
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only how long a thread rests")]
    Instant::now()
}

/// A few pieces of an inline store. What one reads is handed in by the next, so that there is time between.
pub(in crate::replica) fn step(shared: &Shared) -> bool {
    let work = &shared.trees.work;
    let mut any = false;
    for _ in 0..PIECES {
        let reading = work.state.lock().reading.take();
        match reading {
            Some(reading) => finish(shared, reading),
            None => match begin(shared) {
                Next::Reading(reading) => work.state.lock().reading = Some(reading),
                Next::Done => {}
                Next::Nothing | Next::Failed => return any,
            },
        }
        any = true;
    }
    any
}

enum Next {
    Nothing,
    Failed,
    Done,
    Reading(Reading),
}

fn piece(shared: &Shared) -> Piece {
    match begin(shared) {
        Next::Nothing => Piece::Nothing,
        Next::Failed => Piece::Failed,
        Next::Done => Piece::Small,
        Next::Reading(reading) => {
            let is_page = matches!(reading.read, What::Entries(Wanted::Behind(_), _));
            finish(shared, reading);
            if is_page { Piece::Page } else { Piece::Small }
        }
    }
}

/// Builds the tree of a unit, if that has yet to be built, for a caller who would have to read the unit otherwise. A
/// large one is not built to its end.
pub(super) fn build_now(shared: &Shared, unit: Unit) {
    let Some(kept) = shared.trees.find(unit) else { return };
    for _ in 0..PAGES_NOW {
        {
            let mut state = kept.state.lock();
            if state.tree.is_being_read() && !shared.inline {
                kept.over.wait_for(&mut state, BESIDE);
            }
            let is_other = state.tree.is_being_read() || state.behind.is_some();
            if state.is_dropped || is_other || state.tree.is_sound() || state.is_put_off {
                return;
            }
        }
        match read(shared, Arc::clone(&kept)) {
            Next::Reading(reading) => finish(shared, reading),
            Next::Nothing | Next::Failed | Next::Done => return,
        }
    }
}

/// Does the next small thing, or reads for a tree.
fn begin(shared: &Shared) -> Next {
    let (next, from) = {
        let mut state = shared.trees.work.state.lock();
        if state.is_closed {
            return Next::Nothing;
        }
        let from = (!state.all_found).then_some(state.found);
        (if from.is_none() { state.waiting.pop_front() } else { None }, from)
    };
    match (from, next) {
        (Some(from), _) => find(shared, from),
        (None, Some(kept)) => read(shared, kept),
        (None, None) => Next::Nothing,
    }
}

/// Finds the next units that are there.
fn find(shared: &Shared, from: Option<Unit>) -> Next {
    let trees = &shared.trees;
    let (units, is_last) = match unit::held(&shared.engine.snapshot(), from) {
        Ok(UnitDone::Held(units, is_last)) => (units, is_last),
        _ => return Next::Failed,
    };
    for unit in &units {
        let kept = trees.found(*unit, false);
        let mut state = kept.state.lock();
        trees.queue(&kept, &mut state);
    }
    // A unit whose first entry comes from now on is told.
    if is_last {
        trees.all_found();
    }
    let mut state = trees.work.state.lock();
    state.found = units.last().copied().or(from);
    state.all_found = is_last;
    Next::Done
}

/// Reads what a tree wants.
fn read(shared: &Shared, kept: Arc<Kept>) -> Next {
    let wanted = {
        let mut state = kept.state.lock();
        state.is_queued = false;
        if state.is_dropped {
            return Next::Done;
        }
        if let Some(behind) = &state.behind {
            let (opening, number) = behind.what();
            state.is_queued = true;
            drop(state);
            let tail = tail::read(&opening, kept.unit, number);
            return Next::Reading(Reading { kept, read: What::Tail(tail.ok().flatten()) });
        }
        if state.tree.is_doubtful() {
            crate::sometimes!("replica: a tree is built anew");
            state.tree = Tree::unbuilt(SEED);
        }
        let Some(wanted) = state.tree.begin() else { return Next::Done };
        state.is_queued = true;
        wanted
    };
    // After the tree has been looked at: it holds what the tree counts.
    let read = scan::read(&shared.engine.snapshot(), kept.unit, &wanted);
    // What was read and is told only after it is handed in would be counted twice.
    if !crate::mutant!("tree-read-untold") {
        super::pass_stripes(shared);
    }
    Next::Reading(Reading { kept, read: What::Entries(wanted, read) })
}

#[cfg(test)]
mod tests;

/// Hands in what was read.
fn finish(shared: &Shared, Reading { kept, read }: Reading) {
    let read = match read {
        What::Entries(_, read) => read,
        What::Tail(tail) => {
            kept.state.lock().is_queued = false;
            return shared.trees.caught_up(&kept, tail);
        }
    };
    let mut state = kept.state.lock();
    state.is_queued = false;
    match read {
        Ok((entries, is_last)) => {
            let was_built = state.tree.is_built();
            state.tree.finish(entries, is_last);
            if !was_built && state.tree.is_built() {
                shared.trees.came.built.fetch_add(1, Ordering::Relaxed);
            }
        }
        Err(_) => {
            crate::sometimes!("replica: a tree cannot be read for");
            state.tree.abandon();
            state.is_put_off = true;
        }
    }
    state.version += 1;
    shared.trees.queue(&kept, &mut state);
    kept.over.notify_all();
}
