//! What a source and a target tell each other of stretches of a unit, to find where they differ without
//! a mark of every key. `docs/protocol/transfer.md`.

use super::{CopyMark, CopyPlace};
use crate::repair::tree::{Place, Print, Range, Sum};

impl CopyPlace {
    /// The same as trees have it.
    pub fn place(&self) -> Place {
        Place::new(self.table, &self.key)
    }

    /// A place of a tree; `None` of the edge of a table, which is no key.
    pub fn at(place: &Place) -> Option<CopyPlace> {
        Some(CopyPlace { table: place.table()?, key: place.key()? })
    }
}

/// A part of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyStretch {
    /// What is in this range,
    pub range: Range,
    /// and strictly behind this.
    pub after: Option<CopyPlace>,
}

impl CopyStretch {
    /// All of a unit that is strictly behind a place.
    pub fn behind(after: Option<CopyPlace>) -> CopyStretch {
        CopyStretch { range: Range::default(), after }
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let place = |place: &Place| 2 + place.as_bytes().len();
        let to = self.range.to.as_ref().map_or(0, place);
        place(&self.range.from) + to + self.after.as_ref().map_or(0, CopyPlace::bytes)
    }
}

/// Leaves of a source's tree, one behind another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyLeaves {
    /// Where each begins, in order, and what is in it. It ends where the next one begins.
    pub leaves: Vec<(Place, Sum)>,
    /// Where the last one ends; `None`: with the unit.
    pub end: Option<Place>,
}

impl CopyLeaves {
    /// Whether these can be leaves of a tree from a place on: in order, and behind it.
    pub fn fits(&self, from: &Place) -> bool {
        let last = self.leaves.last().map_or(from, |(last, _)| last);
        self.leaves.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.end.as_ref().is_none_or(|end| end > last && end > from)
    }

    /// The leaves as ranges.
    pub fn sums(&self) -> impl Iterator<Item = (Range, Sum)> {
        let nexts =
            self.leaves.iter().skip(1).map(|(next, _)| Some(next)).chain([self.end.as_ref()]);
        let ranges = self.leaves.iter().zip(nexts);
        ranges.map(|((from, sum), to)| (Range { from: from.clone(), to: to.cloned() }, *sum))
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        let leaf = |(place, _): &(Place, Sum)| Print::BYTES + 4 + place.as_bytes().len();
        let end = self.end.as_ref().map_or(0, |end| 2 + end.as_bytes().len());
        self.leaves.iter().map(leaf).sum::<usize>() + end
    }
}

/// What a source has told, to be compared with what is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyTold {
    /// Of keys.
    Marks(Vec<CopyMark>),
    /// Of ranges.
    Sums(Vec<(Range, Sum)>),
    /// Of all keys of a stretch, up to a place in it if there is one: what is here besides goes, and so does
    /// what is here in another version.
    Exactly(CopyStretch, Option<CopyPlace>, Vec<CopyMark>),
    /// Of ranges that are to hold just that, empty ones included.
    ExactSums(Vec<(Range, Sum)>),
    /// The same, of a unit that is only mirrored: what the own tree says is enough.
    MirrorSums(Vec<(Range, Sum)>),
}

/// What is found to be lacking here of what a source has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyLack {
    /// To [`CopyTold::Marks`] and [`CopyTold::Exactly`]: these keys.
    Keys(Vec<CopyPlace>),
    /// To the others: something in these ranges, in order.
    Ranges(Vec<Range>),
}
