//! The bytes of a tree as it is stored beside what it counts, as a whole or as what has changed of it:
//! `docs/format/tree.md`. Each leaf knows whether it is another one than on file, and the tree which
//! leaves on file are gone: so what a write changes costs a write no more than a mark.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use super::{CHANGED, FILED, Leaf, Place, Print, Sum, Tree};

const VERSION: u8 = 2;
/// A record of a tree as a whole.
const WHOLE: u8 = 1;
/// One of what has changed since the record before.
const CHANGES: u8 = 0;
/// Bytes of the sum at the end.
const SUM_BYTES: usize = 8;
/// Bytes of a leaf in a record, at most, without those of its place: lengths, count, sum.
const LEAF_BYTES: usize = 24;

/// Why bytes are no record of a tree. It is built anew then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They are cut short, or changed.
    #[error("the record of a tree is damaged: its checksum does not hold")]
    Checksum,
    /// Written by another version, or with another seed.
    #[error("the record of a tree has version {version}, or another seed")]
    Foreign {
        /// The version byte.
        version: u8,
    },
    /// What was written cannot have been a tree.
    #[error("the record of a tree does not hold one: {0}")]
    Nonsense(&'static str),
}

use CheckpointError::Nonsense;

/// What a tree is other in than on file.
#[derive(Clone, Debug, Default)]
pub(super) struct Unfiled {
    /// It is on file as a whole, with what has changed since.
    has_base: bool,
    /// Something has changed since.
    pub(super) has_changed: bool,
    /// Boundaries on file that are not in the tree. No more than there are leaves on file.
    gone: BTreeSet<Place>,
}

impl Unfiled {
    /// A leaf has left the tree.
    pub(super) fn is_gone(&mut self, place: &Place, leaf: &Leaf) {
        self.has_changed = true;
        if leaf.marks & FILED != 0 {
            self.gone.insert(place.clone());
        }
    }

    /// A leaf comes into the tree. Returns whether there is one on file.
    pub(super) fn is_back(&mut self, place: &Place) -> bool {
        self.has_changed = true;
        self.gone.remove(place)
    }
}

impl Tree {
    /// Whether it is another one than on file.
    pub fn has_changed(&self) -> bool {
        !self.unfiled.has_base || self.unfiled.has_changed
    }

    /// Bytes of a record of it as a whole, at most.
    pub fn record_bytes(&self) -> usize {
        self.leaves.len() * LEAF_BYTES + self.place_bytes
    }

    /// The bytes of what has changed since the last record, or of the tree `as_whole`, which the first is
    /// anyway: it counts as on file then. And the leaves in it. `None` while the tree is being built, or in doubt.
    ///
    /// A record that does not come on file is to be followed by one of the whole.
    pub fn record(&mut self, as_whole: bool) -> Option<(Vec<u8>, usize)> {
        if !self.is_sound() {
            return None;
        }
        let as_whole = as_whole || !self.unfiled.has_base;
        let gone = core::mem::take(&mut self.unfiled.gone);
        self.unfiled = Unfiled { has_base: true, ..Unfiled::default() };
        let mut out = vec![VERSION, if as_whole { WHOLE } else { CHANGES }];
        out.extend_from_slice(&self.seed.to_be_bytes());
        places_out(&mut out, if as_whole { None } else { Some(&gone) });
        let counted = out.len();
        let mut written = 0;
        count_out(&mut out, 0);
        let mut last: &[u8] = &[];
        for (place, leaf) in &mut self.leaves {
            if as_whole || leaf.marks & CHANGED != 0 {
                place_out(&mut out, last, place);
                out.extend_from_slice(&leaf.count.to_be_bytes());
                out.extend_from_slice(&leaf.print.to_bytes());
                last = place.as_bytes();
                written += 1;
            }
            leaf.marks = FILED;
        }
        if let Some(bytes) = out.get_mut(counted..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *bytes = u32::try_from(written).unwrap_or(u32::MAX).to_be_bytes();
        }
        places_out(&mut out, Some(&self.uncut));
        out.extend_from_slice(&self.total.count.to_be_bytes());
        out.extend_from_slice(&self.total.print.to_bytes());
        let sum = xxh3_64(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        Some((out, written))
    }

    /// The tree of a record and of what was on file before, if it says what has changed of that.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn filed(before: Option<Tree>, bytes: &[u8], seed: u64) -> Result<Tree, CheckpointError> {
        let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(CheckpointError::Checksum)?;
        if xxh3_64(body).to_be_bytes() != *sum && !crate::mutant!("tree-checksum-unchecked") {
            return Err(CheckpointError::Checksum);
        }
        let cut_short = Nonsense("it ends too soon");
        let (&[version, kind], rest) = body.split_first_chunk().ok_or(cut_short)?;
        let (&written, mut rest) = rest.split_first_chunk::<8>().ok_or(cut_short)?;
        if version != VERSION || u64::from_be_bytes(written) != seed {
            return Err(CheckpointError::Foreign { version });
        }
        let mut tree = match (kind, before) {
            (WHOLE, _) => Tree::empty(seed),
            (CHANGES, Some(before)) => before,
            _ => return Err(Nonsense("there is nothing that it could change")),
        };
        let gone = places_in(&mut rest)?;
        if kind == WHOLE && !gone.is_empty() {
            return Err(Nonsense("a whole tree lacks something"));
        }
        for place in &gone {
            let leaf = tree.remove_leaf(place).ok_or(Nonsense("what is gone was not there"))?;
            tree.uncount(leaf.sum())?;
        }
        let changed = tree.leaves_in(&mut rest)?;
        tree.uncut = places_in(&mut rest)?;
        tree.check(&changed, &gone)?;
        let (&count, behind) = rest.split_first_chunk::<8>().ok_or(cut_short)?;
        let (&print, behind) = behind.split_first_chunk::<16>().ok_or(cut_short)?;
        if !behind.is_empty() {
            return Err(Nonsense("more follows"));
        }
        let count = u64::from_be_bytes(count);
        if tree.total != (Sum { count, print: Print::from_bytes(print) }) {
            return Err(Nonsense("its leaves are not all it counts"));
        }
        tree.leaves.values_mut().for_each(|leaf| leaf.marks = FILED);
        tree.unfiled = Unfiled { has_base: true, ..Unfiled::default() };
        Ok(tree)
    }

    fn uncount(&mut self, sum: Sum) -> Result<(), CheckpointError> {
        let count = self.total.count.checked_sub(sum.count);
        self.total.count = count.ok_or(Nonsense("it counts less than nothing"))?;
        self.total.print = self.total.print.minus(sum.print);
        Ok(())
    }

    /// Takes leaves in, in the place of those of the same boundaries. Returns the boundaries.
    fn leaves_in(&mut self, rest: &mut &[u8]) -> Result<Vec<Place>, CheckpointError> {
        let cut_short = Nonsense("it ends too soon");
        let (mut places, mut last) = (Vec::new(), Place::first());
        for _ in 0..number_in(rest).ok_or(cut_short)? {
            let place = place_in(rest, &last)?;
            let count = u64::from(number_in(rest).ok_or(cut_short)?);
            let (&print, behind) = rest.split_first_chunk::<16>().ok_or(cut_short)?;
            *rest = behind;
            if let Some(leaf) = self.remove_leaf(&place) {
                self.uncount(leaf.sum())?;
            }
            let sum = Sum { count, print: Print::from_bytes(print) };
            self.insert_leaf(place.clone(), sum);
            self.total = self.total.plus(sum);
            places.push(place.clone());
            last = place;
        }
        Ok(places)
    }

    /// Whether boundaries that have come and gone, and those that have yet to cut a leaf, make a tree.
    fn check(&self, changed: &[Place], gone: &BTreeSet<Place>) -> Result<(), CheckpointError> {
        let has_edge = |place: &Place| {
            place.table().is_some_and(|table| self.leaves.contains_key(&Place::edge(table)))
        };
        for place in changed {
            if place.level(self.seed).is_none() {
                return Err(Nonsense("a leaf begins at no boundary"));
            }
            if !has_edge(place) {
                return Err(Nonsense("a table has no edge"));
            }
        }
        for place in gone.iter().filter(|place| place.is_edge() && !has_edge(place)) {
            if self.next_boundary(place).and_then(Place::table) == place.table() {
                return Err(Nonsense("a table has no edge"));
            }
        }
        let is_none = |place: &Place| place.is_edge() || place.level(self.seed).is_none();
        if self.uncut.iter().any(|place| is_none(place) || self.leaves.contains_key(place)) {
            return Err(Nonsense("what is to be cut is no boundary"));
        }
        Ok(())
    }
}

fn count_out(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

/// How much it shares with the last, how long the rest is, the rest.
fn place_out(out: &mut Vec<u8>, last: &[u8], place: &Place) {
    let bytes = place.as_bytes();
    let shared = last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    let rest = bytes.get(shared..).unwrap_or_default();
    for length in [shared, rest.len()] {
        out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend_from_slice(rest);
}

/// How many, and each.
fn places_out(out: &mut Vec<u8>, places: Option<&BTreeSet<Place>>) {
    count_out(out, places.map_or(0, BTreeSet::len));
    let mut last: &[u8] = &[];
    for place in places.into_iter().flatten() {
        place_out(out, last, place);
        last = place.as_bytes();
    }
}

fn number_in(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk::<4>()?;
    *rest = behind;
    Some(u32::from_be_bytes(*number))
}

fn place_in(rest: &mut &[u8], last: &Place) -> Result<Place, CheckpointError> {
    let read = |rest: &mut &[u8]| {
        let (&[a, b, c, d], behind) = rest.split_first_chunk::<4>()?;
        let lengths = [[a, b], [c, d]].map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        let [shared, length] = lengths;
        let bytes = [last.as_bytes().get(..shared)?, behind.get(..length)?].concat();
        *rest = behind.get(length..)?;
        Place::from_bytes(&bytes)
    };
    let place = read(rest).ok_or(Nonsense("a place is none"))?;
    if place > *last { Ok(place) } else { Err(Nonsense("places are out of order")) }
}

fn places_in(rest: &mut &[u8]) -> Result<BTreeSet<Place>, CheckpointError> {
    let (mut places, mut last) = (BTreeSet::new(), Place::first());
    for _ in 0..number_in(rest).ok_or(Nonsense("it ends too soon"))? {
        last = place_in(rest, &last)?;
        places.insert(last.clone());
    }
    Ok(places)
}

impl PartialEq for Tree {
    /// Whether both count the same: of what is to be read, and when, nothing is said.
    fn eq(&self, other: &Tree) -> bool {
        let is_same = |(one, other): ((&Place, &Leaf), (&Place, &Leaf))| {
            let told = |leaf: &Leaf| (leaf.count, leaf.print, leaf.level);
            one.0 == other.0 && told(one.1) == told(other.1)
        };
        self.seed == other.seed
            && self.total == other.total
            && self.leaves.len() == other.leaves.len()
            && self.leaves.iter().zip(&other.leaves).all(is_same)
    }
}
