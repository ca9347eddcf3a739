//! What is written while entries are read from the store: it counts instead of what was read.
//!
//! Whoever writes changes the store first, then the tree. So of a place that is not noted here, what was
//! read since the window was opened is what the tree knows of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::{Place, Print};

/// Places that are noted, at most.
const NOTED_MAX: usize = 4_096;

/// What a window is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A leaf is to be cut at the window's beginning.
    Cut,
    /// The tree is being built, and goes on behind the window's beginning.
    Build,
}

/// A range of places that is being read.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) purpose: Purpose,
    /// Of a cut the first place; of a page the last one before.
    pub(super) from: Place,
    /// The first place behind.
    pub(super) to: Option<Place>,
    noted: BTreeMap<Place, Option<Print>>,
    /// Too much has been written.
    pub(super) is_spoiled: bool,
}

impl Window {
    pub(super) fn new(purpose: Purpose, from: Place, to: Option<Place>) -> Window {
        Window { purpose, from, to, noted: BTreeMap::new(), is_spoiled: false }
    }

    pub(super) fn covers(&self, place: &Place) -> bool {
        let begins = match self.purpose {
            Purpose::Cut => *place >= self.from,
            Purpose::Build => *place > self.from,
        };
        begins && self.to.as_ref().is_none_or(|to| place < to)
    }

    /// A place it covers has been written.
    pub(super) fn note(&mut self, place: &Place, after: Option<Print>) {
        self.noted.insert(place.clone(), after);
        if self.noted.len() <= NOTED_MAX {
            return;
        }
        match self.purpose {
            Purpose::Cut => self.is_spoiled = true,
            // It ends sooner: what is behind is read with the next page.
            Purpose::Build => self.to = self.noted.pop_last().map(|(last, _)| last),
        }
    }

    /// What is in the window now, of what was read in it.
    pub(super) fn merged(self, read: Vec<(Place, Print)>) -> BTreeMap<Place, Print> {
        let mut all: BTreeMap<Place, Option<Print>> = self.noted;
        for (place, print) in read {
            if let Slot::Vacant(slot) = all.entry(place) {
                slot.insert(Some(print));
            }
        }
        all.into_iter().filter_map(|(place, print)| Some((place, print?))).collect()
    }
}
