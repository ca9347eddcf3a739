//! Whether trees count what the store holds: what a simulator and tests ask.

use parking_lot::Mutex;

use super::scan;
use crate::message::UnitDone;
use crate::repair::tree::{Place, Print, SEED, Tree, Wanted};
use crate::replica::{Shared, unit};
use crate::types::Unit;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreesChecked {
    /// Trees that count what the store holds.
    pub equal: usize,
    /// Trees that are being built, and tell nothing.
    pub building: usize,
    /// Trees of units that cannot be read.
    pub unread: usize,
    /// Entries that were counted.
    pub entries: u64,
}

/// Compares every tree that can be told of with one that is built of the store.
///
/// # Errors
/// The unit whose tree is another one.
pub(in crate::replica) fn check(shared: &Shared) -> Result<TreesChecked, String> {
    // Nothing is submitted that has yet to be told.
    let _guards: Vec<_> = shared.stripes.iter().map(Mutex::lock).collect();
    let (mut checked, mut after) = (TreesChecked::default(), None);
    loop {
        let Ok(UnitDone::Held(units, is_last)) = unit::held(&shared.engine.snapshot(), after)
        else {
            checked.unread += 1;
            return Ok(checked);
        };
        for unit in &units {
            check_one(shared, *unit, &mut checked)?;
        }
        after = units.last().copied().or(after);
        if is_last {
            break;
        }
    }
    let kept: Vec<Unit> = shared.trees.units.read().keys().copied().collect();
    for unit in kept {
        check_one(shared, unit, &mut TreesChecked::default())?;
    }
    Ok(checked)
}

fn check_one(shared: &Shared, unit: Unit, checked: &mut TreesChecked) -> Result<(), String> {
    let all_found = shared.trees.has_found_all();
    let told = match shared.trees.find(unit) {
        Some(kept) => Some(kept.state.lock().tree.clone()).filter(Tree::is_sound),
        None => all_found.then(|| Tree::empty(SEED)),
    };
    let Some(mut told) = told else {
        checked.building += 1;
        return Ok(());
    };
    let Ok(entries) = all(shared, unit) else {
        checked.unread += 1;
        return Ok(());
    };
    told.abandon();
    while let Some(Wanted::All(range)) = told.begin() {
        let half = entries.iter().filter(|(place, _)| range.holds(place)).cloned();
        told.finish(half.collect(), true);
        if told.is_doubtful() {
            break;
        }
    }
    checked.entries += entries.len() as u64;
    let (counted, here) = (told.root().count, entries.len());
    if told != Tree::of(entries, SEED) {
        return Err(format!(
            "the tree of {unit:?} counts {counted} entries, and not the {here} here"
        ));
    }
    checked.equal += 1;
    Ok(())
}

fn all(shared: &Shared, unit: Unit) -> Result<Vec<(Place, Print)>, crate::message::DiskError> {
    let range = crate::repair::tree::Range::default();
    scan::read(&shared.engine.snapshot(), unit, &Wanted::All(range)).map(|(entries, _)| entries)
}
