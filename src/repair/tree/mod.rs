//! The tree of one unit: boundaries that its places choose, the entries between two of them as one leaf,
//! and of each leaf their number and the sum of their fingerprints. Equal entries make equal trees,
//! whatever came before.
//!
//! Inner levels are not kept: they are sums of leaves, made when asked for. A new boundary cuts a leaf,
//! for which the entries of one half have to be read. That is asked for ([`Tree::begin`]) and
//! handed in ([`Tree::finish`]); what is written meanwhile is in a *window*. So is a tree built.
//!
//! INVARIANT: whoever writes changes the store first, then the tree, then lets go of the key.

mod checkpoint;
mod entry;
mod place;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

pub use checkpoint::CheckpointError;
use checkpoint::Unfiled;
pub use entry::{Entry, Kind, Print};
pub use place::Place;
use window::{Purpose, Window};

use crate::types::TableId;

/// The seed of hashes of places. All replicas of a unit have to use the same, before and after any of
/// them was told anything: so it is the same everywhere. `docs/protocol/repair.md` says what that costs.
pub const SEED: u64 = u64::from_be_bytes(*b"roundtab");

/// Nodes that a range is divided into: not fewer, where it has so many boundaries.
const NODES_MIN: usize = 8;
/// Nor more.
pub const NODES_MAX: usize = 256;

/// How many entries, and the sum of their fingerprints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Entries.
    pub count: u64,
    /// The sum of their fingerprints.
    pub print: Print,
}

impl Sum {
    /// Counts an entry.
    pub fn add(&mut self, print: Print) {
        self.count += 1;
        self.print = self.print.plus(print);
    }

    /// This and another.
    #[must_use]
    pub fn plus(self, other: Sum) -> Sum {
        Sum { count: self.count + other.count, print: self.print.plus(other.print) }
    }
}

/// Places from one on, up to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: Place,
    /// The first behind; `None`: to the end.
    pub to: Option<Place>,
}

impl Range {
    /// Whether a place is in it.
    pub fn holds(&self, place: &Place) -> bool {
        *place >= self.from && self.to.as_ref().is_none_or(|to| place < to)
    }
}

/// Entries that the tree has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of a range: about those of half a leaf.
    All(Range),
    /// The first ones behind a place, as many as are read at once.
    Behind(Place),
}

/// A leaf, or what is kept of it. Two words and a half: see [`Tree::memory_bytes`].
#[derive(Clone, Copy, Debug)]
struct Leaf {
    print: Print,
    count: u32,
    level: u8,
    /// [`CHANGED`], [`FILED`].
    marks: u8,
}

/// A leaf is another one than when the tree was put on file last.
const CHANGED: u8 = 1;
/// A leaf of this boundary is on file.
const FILED: u8 = 2;

impl Leaf {
    fn sum(&self) -> Sum {
        Sum { count: u64::from(self.count), print: self.print }
    }

    fn mark(&mut self) {
        if !crate::mutant!("tree-leaf-unmarked") {
            self.marks |= CHANGED;
        }
    }
}

/// The tree of one unit.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Of hashes of places.
    seed: u64,
    /// INVARIANT: the edge of each table that has entries is here.
    leaves: BTreeMap<Place, Leaf>,
    total: Sum,
    /// Boundaries that have yet to cut their leaf.
    uncut: BTreeSet<Place>,
    window: Option<Window>,
    /// Up to here the tree is built; `None`: to the end.
    built: Option<Place>,
    /// Bytes of all places in `leaves`.
    place_bytes: usize,
    is_doubtful: bool,
    unfiled: Unfiled,
}

impl Tree {
    /// The tree of a unit that holds nothing. `seed`: [`SEED`], but in tests.
    pub fn empty(seed: u64) -> Tree {
        Tree {
            seed,
            leaves: BTreeMap::new(),
            total: Sum::default(),
            uncut: BTreeSet::new(),
            window: None,
            built: None,
            place_bytes: 0,
            is_doubtful: false,
            unfiled: Unfiled::default(),
        }
    }

    /// One that has yet to be built of what there is.
    pub fn unbuilt(seed: u64) -> Tree {
        Tree { built: Some(Place::first()), ..Tree::empty(seed) }
    }

    /// The tree of all entries there are, in order.
    pub fn of(entries: Vec<(Place, Print)>, seed: u64) -> Tree {
        let mut tree = Tree::unbuilt(seed);
        if tree.begin().is_some() {
            tree.finish(entries, true);
        }
        tree
    }

    /// Whether it is built: until then it says nothing.
    pub fn is_built(&self) -> bool {
        self.built.is_none()
    }

    /// Whether it cannot be right, and has to be built anew.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Something has become of the store that the tree was not told: it cannot be right any more.
    pub fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    /// Whether what it says can be told to others.
    pub fn is_sound(&self) -> bool {
        self.is_built() && !self.is_doubtful
    }

    /// Whether something has to be read for it, now or when what is being read is there.
    pub fn is_wanting(&self) -> bool {
        !self.is_built() || !self.uncut.is_empty()
    }

    /// Whether something is being read for it.
    pub fn is_being_read(&self) -> bool {
        self.window.is_some()
    }

    /// All there is.
    pub fn root(&self) -> Sum {
        self.total
    }

    /// Leaves.
    pub fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// Bytes of memory: the map at three quarters full, and the places.
    pub fn memory_bytes(&self) -> usize {
        let leaves = self.leaves.len() + self.uncut.len();
        leaves * size_of::<(Place, Leaf)>() * 4 / 3 + self.place_bytes
    }

    /// What stands at a place was `before`, and is `after`; `None`: nothing. The store has it already.
    pub fn change(&mut self, place: &Place, before: Option<Print>, after: Option<Print>) {
        if let Some(window) = self.window.as_mut().filter(|window| window.covers(place)) {
            window.note(place, after);
        }
        let is_ahead = self.built.as_ref().is_some_and(|built| place > built);
        if before == after || is_ahead || crate::mutant!("leaf-not-updated") {
            return;
        }
        match (before, after) {
            (None, Some(print)) => {
                if place.level(self.seed).is_some() {
                    self.uncut.insert(place.clone());
                }
                self.count(place, None, Some(print));
            }
            (Some(_), None) => {
                self.count(place, before, None);
                if !self.uncut.remove(place) && self.leaves.contains_key(place) {
                    self.join(place);
                }
                self.drop_edge(place);
            }
            _ => self.count(place, before, after),
        }
    }

    /// What to read for the tree next, from now on; `None`: nothing, or something is being read.
    pub fn begin(&mut self) -> Option<Wanted> {
        if self.window.is_some() {
            return None;
        }
        if let Some(built) = &self.built {
            self.window = Some(Window::new(Purpose::Build, built.clone(), None));
            return Some(Wanted::Behind(built.clone()));
        }
        // The last of a leaf first: what is behind it is read once.
        let from = self.uncut.last()?.clone();
        let to = self.next_boundary(&from).cloned();
        self.window = Some(Window::new(Purpose::Cut, from.clone(), to.clone()));
        Some(Wanted::All(Range { from, to }))
    }

    /// What was read since [`Tree::begin`], in order; `is_last`: there is nothing behind it. Returns
    /// whether it was of use: if not, it is wanted again.
    pub fn finish(&mut self, read: Vec<(Place, Print)>, is_last: bool) -> bool {
        let Some(window) = self.window.take().filter(|window| !window.is_spoiled) else {
            return false;
        };
        match window.purpose {
            Purpose::Cut => self.cut(window, read),
            Purpose::Build => {
                self.build(window, read, is_last);
                true
            }
        }
    }

    /// What was wanted cannot be read: it is wanted again.
    pub fn abandon(&mut self) {
        self.window = None;
    }

    /// A table is deleted as a whole.
    pub fn drop_table(&mut self, table: TableId) {
        let end = table.0.checked_add(1).map(|next| Place::edge(TableId(next)));
        let all = Range { from: Place::edge(table), to: end };
        let gone: Vec<Place> = self.within(&all).map(|(place, _)| place.clone()).collect();
        for place in gone {
            if let Some(leaf) = self.remove_leaf(&place) {
                self.total.count = self.total.count.saturating_sub(u64::from(leaf.count));
                self.total.print = self.total.print.minus(leaf.print);
            }
        }
        self.uncut.retain(|place| !all.holds(place));
        self.unfiled.has_changed = true;
        self.window.iter_mut().for_each(|window| window.is_spoiled = true);
    }

    /// Whether a range may begin or end here: it is a boundary, or an end of everything.
    pub fn divides_at(&self, place: &Place) -> bool {
        *place == Place::first() || self.leaves.contains_key(place)
    }

    /// The sum of a range that begins and ends at boundaries.
    pub fn sum(&self, range: &Range) -> Sum {
        self.within(range).fold(Sum::default(), |sum, (_, leaf)| sum.plus(leaf.sum()))
    }

    /// The places at which a range is divided next, in order, each with the sum of what is from there to
    /// the next: at the highest level with enough of them. The first begins with the range. One
    /// alone: it is a leaf.
    pub fn nodes(&self, range: &Range) -> Vec<(Place, Sum)> {
        let level = self.dividing_level(range);
        let mut nodes = vec![(range.from.clone(), Sum::default())];
        for (place, leaf) in self.within(range) {
            if leaf.level >= level && *place > range.from && nodes.len() < NODES_MAX {
                nodes.push((place.clone(), Sum::default()));
            }
            if let Some((_, sum)) = nodes.last_mut() {
                *sum = sum.plus(leaf.sum());
            }
        }
        nodes
    }

    /// The leaves from the one on that holds a place, in order: where each begins, and its sum. Each ends where
    /// the next one begins.
    pub fn leaves_from(&self, place: &Place) -> impl Iterator<Item = (&Place, Sum)> {
        let first = self.leaves.range::<Place, _>(..=place).next_back();
        let from = first.map_or(place, |(first, _)| first);
        let leaves = self.leaves.range::<Place, _>((Bound::Included(from), Bound::Unbounded));
        leaves.map(|(place, leaf)| (place, leaf.sum()))
    }

    fn dividing_level(&self, range: &Range) -> u8 {
        let mut counts = [0_usize; 16];
        for (_, leaf) in self.within(range).filter(|(place, _)| **place > range.from) {
            let below = counts.iter_mut().take(usize::from(leaf.level) + 1);
            below.for_each(|count| *count += 1);
        }
        let enough = counts.iter().rposition(|count| count + 1 >= NODES_MIN);
        enough.and_then(|level| u8::try_from(level).ok()).unwrap_or(0)
    }

    fn within(&self, range: &Range) -> impl Iterator<Item = (&Place, &Leaf)> {
        let end = range.to.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let is_none = range.to.as_ref().is_some_and(|to| *to <= range.from);
        let start = if is_none { end } else { Bound::Included(&range.from) };
        let end = if is_none { Bound::Unbounded } else { end };
        self.leaves.range::<Place, _>((start, end)).take_while(move |_| !is_none)
    }

    fn next_boundary(&self, place: &Place) -> Option<&Place> {
        let behind = (Bound::Excluded(place), Bound::Unbounded);
        self.leaves.range::<Place, _>(behind).next().map(|(next, _)| next)
    }

    /// Changes the leaf of a place and the total; the edge of its table comes with its first entry.
    fn count(&mut self, place: &Place, before: Option<Print>, after: Option<Print>) {
        if let (None, Some(table)) = (before, place.table()) {
            let edge = Place::edge(table);
            if !self.leaves.contains_key(&edge) {
                self.insert_leaf(edge, Sum::default());
            }
        }
        let total = &mut self.total;
        let leaf = self.leaves.range_mut::<Place, _>(..=place).next_back();
        let Some((boundary, leaf)) = leaf else {
            self.is_doubtful = true;
            return;
        };
        if before.is_some() && (leaf.count == 0 || boundary.table() != place.table()) {
            self.is_doubtful = true;
            return;
        }
        let (gone, come) = (before.unwrap_or_default(), after.unwrap_or_default());
        leaf.mark();
        self.unfiled.has_changed = true;
        leaf.count = leaf.count - u32::from(before.is_some()) + u32::from(after.is_some());
        leaf.print = leaf.print.minus(gone).plus(come);
        total.count = total.count - u64::from(before.is_some()) + u64::from(after.is_some());
        total.print = total.print.minus(gone).plus(come);
    }

    fn insert_leaf(&mut self, place: Place, sum: Sum) {
        let level = place.level(self.seed).unwrap_or(0);
        let count = u32::try_from(sum.count).unwrap_or(u32::MAX);
        self.place_bytes += place.as_bytes().len();
        let marks = CHANGED | if self.unfiled.is_back(&place) { FILED } else { 0 };
        self.leaves.insert(place, Leaf { print: sum.print, count, level, marks });
    }

    fn remove_leaf(&mut self, place: &Place) -> Option<Leaf> {
        let leaf = self.leaves.remove(place)?;
        self.place_bytes -= place.as_bytes().len();
        self.unfiled.is_gone(place, &leaf);
        Some(leaf)
    }

    /// A boundary is gone: its leaf is one with that before it.
    fn join(&mut self, place: &Place) {
        let Some(leaf) = self.remove_leaf(place) else { return };
        if let Some((_, before)) = self.leaves.range_mut::<Place, _>(..place).next_back() {
            before.mark();
            before.count += leaf.count;
            before.print = before.print.plus(leaf.print);
        }
    }

    /// The edge of a table goes with its last entry.
    fn drop_edge(&mut self, place: &Place) {
        let Some(edge) = place.table().map(Place::edge) else { return };
        let is_empty = self.leaves.get(&edge).is_some_and(|leaf| leaf.count == 0);
        let next = self.next_boundary(&edge).and_then(Place::table);
        if is_empty && next != place.table() {
            self.remove_leaf(&edge);
        }
    }

    fn cut(&mut self, window: Window, read: Vec<(Place, Print)>) -> bool {
        let (from, to) = (window.from.clone(), window.to.clone());
        // Boundaries may have gone meanwhile.
        if !self.uncut.contains(&from) || self.next_boundary(&from) != to.as_ref() {
            return !self.uncut.contains(&from);
        }
        let mut half = Sum::default();
        window.merged(read).into_values().for_each(|print| half.add(print));
        let leaf = self.leaves.range_mut::<Place, _>(..&from).next_back();
        let Some((_, leaf)) = leaf.filter(|(_, leaf)| u64::from(leaf.count) >= half.count) else {
            self.is_doubtful = true;
            return false;
        };
        leaf.mark();
        leaf.count -= u32::try_from(half.count).unwrap_or(0);
        leaf.print = leaf.print.minus(half.print);
        self.unfiled.has_changed = true;
        self.uncut.remove(&from);
        self.insert_leaf(from, half);
        true
    }

    fn build(&mut self, window: Window, read: Vec<(Place, Print)>, is_last: bool) {
        let through = read.last().map(|(place, _)| place.clone());
        let cut_short = window.to.clone();
        let is_last = is_last && cut_short.is_none();
        let is_in = |place: &Place| {
            let is_behind = cut_short.as_ref().is_some_and(|to| place >= to);
            !is_behind && (is_last || through.as_ref().is_some_and(|through| place <= through))
        };
        let merged = window.merged(read);
        let mut last = None;
        for (place, print) in merged.into_iter().filter(|(place, _)| is_in(place)) {
            self.append(&place, print);
            last = Some(place);
        }
        if is_last {
            self.built = None;
        } else if let Some(built) = through.clone().filter(is_in).or(last) {
            // Up to the last that was read, or that was written before the window ended.
            self.built = self.built.take().max(Some(built));
        }
    }

    /// Counts an entry behind all that were counted.
    fn append(&mut self, place: &Place, print: Print) {
        if place.level(self.seed).is_some() {
            self.count(place, None, Some(print));
            let leaf = self.leaves.range_mut::<Place, _>(..=place).next_back();
            if let Some((_, leaf)) = leaf {
                leaf.count -= 1;
                leaf.print = leaf.print.minus(print);
            }
            self.insert_leaf(place.clone(), Sum { count: 1, print });
        } else {
            self.count(place, None, Some(print));
        }
    }
}

#[cfg(test)]
mod tests;
