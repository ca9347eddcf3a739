//! Answers about trees: their roots, questions of other owners, and the steps of a session of one's own.
//! Nothing is told before what it shows is durable: another owner would call itself equal to what a
//! crash still takes away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Kept, State, scan};
use crate::message::{DiskAnswer, DiskError, TreeDisk, TreeDone};
use crate::repair::exchange::{Ask, Asker, RANGE_ENTRIES_MAX, Said, Step, Terms, answer};
use crate::repair::tree::{Entry, Range, SEED, Sum, Tree};
use crate::replica::execute::{Undone, submit};
use crate::replica::{Done, Shared};
use crate::storage::{Batch, Durability, Seqno};
use crate::types::Unit;

/// Carries a request out.
pub(in crate::replica) fn execute(shared: &Arc<Shared>, disk: TreeDisk, done: Done) {
    let before = Undone::now(shared);
    let shown = match disk {
        TreeDisk::Roots { units } => Ok((TreeDone::Roots(roots(shared, units)), None)),
        TreeDisk::Answer { unit, terms, ask } => said(shared, unit, &terms, &ask),
        TreeDisk::Advance { unit, asker, said } => advance(shared, unit, asker, said),
        TreeDisk::Rebuild { unit } => {
            if shared.trees.find(unit).is_some() {
                shared.trees.doubt(unit);
            }
            return done(Ok(DiskAnswer::Tree(TreeDone::Begun)));
        }
    };
    match shown {
        Ok((TreeDone::Building, _)) => done(Ok(DiskAnswer::Tree(TreeDone::Building))),
        Ok((answer, of)) => show(shared, answer, of, before, done),
        Err(error) => done(Err(error)),
    }
}

/// What is answered, and the last batch it may show, if that is known.
type Shown = Result<(TreeDone, Option<Seqno>), DiskError>;

/// Answers once all that was submitted by now is durable.
fn show(shared: &Shared, answer: TreeDone, of: Option<Seqno>, before: Undone, done: Done) {
    // After the trees have been looked at: it has all they count.
    let of = of.unwrap_or_else(|| shared.engine.snapshot().seqno());
    let answer = DiskAnswer::Tree(answer);
    let is_settled = shared.engine.is_settled(of) && !before.has_risen();
    if is_settled || crate::mutant!("tree-before-durable") {
        return done(Ok(answer));
    }
    crate::sometimes!("replica: a tree waits for what it shows");
    submit(shared, Batch::new(), Durability::Default, answer, before.guard(done));
    shared.engine.wake_log();
}

/// Looks at a tree that can be told of; else sees to it that it will be.
fn look<T>(shared: &Shared, unit: Unit, with: impl FnOnce(&Tree) -> T) -> Option<T> {
    if !shared.floors.is_purged(unit) {
        // What is at or below the floor goes piece by piece, and not at the same time elsewhere.
        return None;
    }
    let Some(kept) = shared.trees.find(unit) else {
        // All units that are there have one.
        return shared.trees.has_found_all().then(|| with(&Tree::empty(SEED)));
    };
    let mut state = kept.state.lock();
    if state.tree.is_sound() {
        return Some(with(&state.tree));
    }
    urge(shared, &kept, &mut state);
    None
}

fn urge(shared: &Shared, kept: &Arc<Kept>, state: &mut State) {
    state.is_put_off = false;
    shared.trees.queue(kept, state);
}

fn roots(shared: &Shared, units: Vec<Unit>) -> Vec<(Unit, Option<Sum>)> {
    units.into_iter().map(|unit| (unit, look(shared, unit, Tree::root))).collect()
}

/// Answers a question of another owner.
fn said(shared: &Shared, unit: Unit, terms: &Terms, ask: &Ask) -> Shown {
    let of_tree = matches!(ask, Ask::Root | Ask::Nodes(_));
    if of_tree {
        let from_tree =
            |tree: &Tree| answer(ask, terms, tree, |_, _| Ok::<_, DiskError>(Vec::new()));
        let said = look(shared, unit, from_tree).transpose()?;
        return Ok((said.map_or(TreeDone::Building, TreeDone::Said), None));
    }
    if look(shared, unit, |_| ()).is_none() {
        return Ok((TreeDone::Building, None));
    }
    let mut of = None;
    let said = answer(ask, terms, &Tree::empty(SEED), |range, limit| {
        let (entries, seqno) = read(shared, unit, range, limit)?;
        of = Some(seqno);
        Ok::<_, DiskError>(entries)
    })?;
    Ok((TreeDone::Said(said), of))
}

/// Goes on with a session, as far as the own store can tell.
fn advance(shared: &Shared, unit: Unit, mut asker: Box<Asker>, said: Option<(u32, Said)>) -> Shown {
    let heard = look(shared, unit, |tree| {
        if let Some((number, said)) = said {
            asker.on_answer(number, said, tree);
        }
    });
    if heard.is_none() {
        return Ok((TreeDone::Building, None));
    }
    let mut of = None;
    while let Step::Read(range) = asker.step() {
        let (entries, seqno) = read(shared, unit, &range, RANGE_ENTRIES_MAX + 1)?;
        asker.on_read(entries);
        of = Some(seqno);
    }
    Ok((TreeDone::Advanced(asker), of))
}

/// Reads a range of a unit, if it was not read lately. Returns the last batch that what was read may show as
/// well.
fn read(
    shared: &Shared,
    unit: Unit,
    range: &Range,
    limit: usize,
) -> Result<(Vec<Entry>, Seqno), DiskError> {
    let kept = shared.trees.find(unit);
    let version = || kept.as_ref().map(|kept| (kept, kept.state.lock().version));
    // INVARIANT: before the snapshot. What is told between the two looks is told of later batches.
    let before = version();
    let snapshot = shared.engine.snapshot();
    if let Some((kept, version)) = before
        && let Some(entries) = shared.trees.lately.find((kept, version), range)
    {
        crate::sometimes!("replica: a range was read lately");
        return Ok((entries, snapshot.seqno()));
    }
    let entries = scan::entries(&snapshot, unit, range, limit)?;
    shared.trees.entries_read.fetch_add(entries.len() as u64, Ordering::Relaxed);
    if let (Some((kept, told)), Some((_, now))) = (before, version())
        && told == now
        && entries.len() < limit
    {
        shared.trees.lately.keep((kept, told), range, &entries);
    }
    Ok((entries, snapshot.seqno()))
}
