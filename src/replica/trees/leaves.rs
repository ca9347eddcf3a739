//! The leaves of a tree as a source of a copy tells them, and where a target holds something else.
//!
//! The target goes by its own tree, and where that has other boundaries, or tells of something else, by what it
//! reads. A copy may end with it, so nothing is to pass for being here that the store has taken back and the tree
//! has yet to hear of: once a store has taken anything back since it was opened, its entries are read. That
//! a source's tree counts such things does no harm: then the target has them, or it asks.
//!
//! INVARIANT: what a target's tree counts is durable when the target says that it lacks nothing: it answers once all
//! that was submitted before has been written, and not if something has been taken back.
//!
//! What does harm is a tree that lags: a write that the source has acknowledged must be in the sum, or a
//! target that lacks it would be called equal. A batch is submitted, then told, then its stripes are let
//! go, and it may be durable before it is told. So all stripes are passed first.

use core::sync::atomic::Ordering;

use super::{State, build, pass_stripes, scan};
use crate::message::{CopyLeaves, DiskError};
use crate::repair::tree::{Place, Range, SEED, Sum, Tree};
use crate::replica::Shared;
use crate::types::{Unit, limits};

/// The leaves from the one on that holds a place, as many as a target compares at once. `None` where
/// there is no tree that can be told of.
pub(in crate::replica) fn leaves(shared: &Shared, unit: Unit, from: &Place) -> Option<CopyLeaves> {
    if !crate::mutant!("leaves-before-told") {
        pass_stripes(shared);
    }
    let Some(kept) = shared.trees.find(unit) else {
        // All units that are there have one.
        return shared.trees.has_found_all().then(|| cut(&Tree::empty(SEED), from));
    };
    let state = kept.state.lock();
    let State { tree, is_dropped, .. } = &*state;
    let is_told = tree.is_sound() && !is_dropped && !shared.trees.is_unsure(unit);
    is_told.then(|| cut(tree, from))
}

/// A page of leaves.
fn cut(tree: &Tree, from: &Place) -> CopyLeaves {
    let (mut page, mut entries, mut bytes) = (CopyLeaves::default(), 0, 0);
    for (place, sum) in tree.leaves_from(from) {
        let is_full = entries >= limits::COPY_LEAVES_ENTRIES
            || bytes >= limits::COPY_PAGE_BYTES_MAX
            || page.leaves.len() >= limits::COPY_PAGE_ENTRIES_MAX;
        if is_full {
            page.end = Some(place.clone());
            break;
        }
        (entries, bytes) = (entries + sum.count, bytes + place.as_bytes().len() + 20);
        page.leaves.push((place.clone(), sum));
    }
    page
}

/// The ranges of which the store does not hold just what is summed elsewhere, in order, those that meet
/// as one. `exactly`: also those of which nothing is elsewhere.
pub(in crate::replica) fn differing(
    shared: &Shared,
    unit: Unit,
    sums: Vec<(Range, Sum)>,
    exactly: bool,
) -> Result<Vec<Range>, DiskError> {
    // Of what is nowhere else nothing can be lacking.
    let mut sums: Vec<_> = sums.into_iter().filter(|sum| sum.1.count > 0 || exactly).collect();
    let is_firm = shared.trees.undone.load(Ordering::SeqCst) == 0;
    if (is_firm || crate::mutant!("tree-though-undone")) && !sums.is_empty() {
        // It has to be read once for its tree, or here.
        build::build_now(shared, unit);
        sums.retain(|sum| !is_same(shared, unit, sum));
    }
    read_differing(shared, unit, sums)
}

fn read_differing(
    shared: &Shared,
    unit: Unit,
    sums: Vec<(Range, Sum)>,
) -> Result<Vec<Range>, DiskError> {
    let snapshot = shared.engine.snapshot();
    let mut differing: Vec<Range> = Vec::new();
    for (range, theirs) in sums {
        let own = scan::sum(&snapshot, unit, &range, theirs.count)?;
        shared.trees.entries_read.fetch_add(own.count, Ordering::Relaxed);
        let is_held = own.count == theirs.count && crate::mutant!("leaves-by-count");
        if own == theirs || is_held {
            continue;
        }
        match differing.last_mut().filter(|last| last.to.as_ref() == Some(&range.from)) {
            Some(last) => last.to = range.to,
            None => differing.push(range),
        }
    }
    Ok(differing)
}

/// The same of a unit that is only mirrored, whatever has been taken back: nothing rests on it.
pub(in crate::replica) fn mirror_differing(
    shared: &Shared,
    unit: Unit,
    sums: Vec<(Range, Sum)>,
) -> Result<Vec<Range>, DiskError> {
    let others = sums.into_iter().filter(|sum| !is_same(shared, unit, sum)).collect();
    read_differing(shared, unit, others)
}

/// Whether a range holds just what is summed, by a tree that is sound and has the same boundaries.
fn is_same(shared: &Shared, unit: Unit, (range, theirs): &(Range, Sum)) -> bool {
    let Some(kept) = shared.trees.find(unit) else { return false };
    let State { tree, is_dropped, .. } = &*kept.state.lock();
    let divides = |place: &Place| tree.divides_at(place);
    let is_told = tree.is_sound() && !is_dropped && !shared.trees.is_unsure(unit);
    let is_leaf = divides(&range.from) && range.to.as_ref().is_none_or(divides);
    is_told && is_leaf && tree.sum(range) == *theirs
}
