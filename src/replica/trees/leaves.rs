//! The leaves of a tree as a source of a copy tells them, and where a target holds something else.
//!
//! The target sums its own entries by reading them, and never by its tree: a copy may end with it, so
//! nothing is to pass for being here that the store has taken back and the tree has yet to hear of. That
//! a source's tree counts such things does no harm: then the target has them, or it asks.
//!
//! What does harm is a tree that lags: a write that the source has acknowledged must be in the sum, or a
//! target that lacks it would be called equal. A batch is submitted, then told, then its stripes are let
//! go, and it may be durable before it is told. So all stripes are passed first.

use super::{State, pass_stripes, scan};
use crate::message::{CopyLeaves, DiskError};
use crate::repair::tree::{Place, Range, SEED, Sum, Tree};
use crate::replica::Shared;
use crate::storage::Snapshot;
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
    snapshot: &Snapshot,
    unit: Unit,
    sums: Vec<(Range, Sum)>,
    exactly: bool,
) -> Result<Vec<Range>, DiskError> {
    let mut differing: Vec<Range> = Vec::new();
    for (range, theirs) in sums {
        // Of what is nowhere else nothing can be lacking.
        if theirs.count == 0 && !exactly || holds(snapshot, unit, &range, theirs)? {
            continue;
        }
        match differing.last_mut().filter(|last| last.to.as_ref() == Some(&range.from)) {
            Some(last) => last.to = range.to,
            None => differing.push(range),
        }
    }
    Ok(differing)
}

/// The same of a unit that is only mirrored, by its tree where that is sound and has the same boundaries: nothing
/// rests on it, and it costs no read.
pub(in crate::replica) fn mirror_differing(
    shared: &Shared,
    unit: Unit,
    sums: Vec<(Range, Sum)>,
) -> Result<Vec<Range>, DiskError> {
    let kept = shared.trees.find(unit).filter(|_| !shared.trees.is_unsure(unit));
    let is_same = |(range, theirs): &(Range, Sum)| {
        let Some(kept) = &kept else { return false };
        let State { tree, is_dropped, .. } = &*kept.state.lock();
        let divides = |place: &Place| tree.divides_at(place);
        let is_told = tree.is_sound() && !is_dropped && divides(&range.from);
        is_told && range.to.as_ref().is_none_or(divides) && tree.sum(range) == *theirs
    };
    let others = sums.into_iter().filter(|sum| !is_same(sum)).collect();
    differing(&shared.engine.snapshot(), unit, others, true)
}

/// Whether a range holds just what is summed.
fn holds(snapshot: &Snapshot, unit: Unit, range: &Range, theirs: Sum) -> Result<bool, DiskError> {
    let own = scan::sum(snapshot, unit, range, theirs.count)?;
    Ok(own == theirs || crate::mutant!("leaves-by-count") && own.count == theirs.count)
}
