//! Units of which something is being changed that their trees are not told: until that is over, and
//! they are in doubt, no tree of theirs is put on file.

use parking_lot::Mutex;

use super::Trees;
use crate::types::Unit;

/// Between which units, each of two included, something is under way.
#[derive(Debug, Default)]
pub(super) struct Unsure(Mutex<Vec<(Unit, Unit)>>);

/// Something is under way, until this is dropped: then the trees are in doubt.
#[must_use]
pub(in crate::replica) struct Untold<'a> {
    trees: &'a Trees,
    units: (Unit, Unit),
}

impl Trees {
    /// Units from a first to a last are changed from now on without being told.
    pub(in crate::replica) fn untold(&self, first: Unit, last: Unit) -> Untold<'_> {
        self.is_beside(first, last);
        self.unsure.0.lock().push((first, last));
        Untold { trees: self, units: (first, last) }
    }

    /// Whether something of a unit is under way. To be asked with its tree locked.
    pub(super) fn is_unsure(&self, unit: Unit) -> bool {
        let all = self.unsure.0.lock();
        all.iter().any(|(first, last)| (*first..=*last).contains(&unit))
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        let (first, last) = self.units;
        if first == last {
            self.trees.doubt(first);
        } else {
            self.trees.doubt_between(first, last);
        }
        let mut all = self.trees.unsure.0.lock();
        if let Some(at) = all.iter().position(|units| *units == self.units) {
            all.swap_remove(at);
        }
    }
}
