//! What is asked and answered in an exchange, and how many bytes of it there are.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::repair::tree::{Entry, Kind, Place, Print, Range, Sum};
use crate::types::Stamp;

/// Bits of the hash by which a cell is divided at a time: eight parts.
pub(super) const CELL_BITS: u8 = 3;
/// Bits of a cell, at most.
const CELL_BITS_MAX: u8 = 60;
/// Bits of digests that find differences. They prove nothing.
const DIGEST_BITS: u32 = 24;
const DIGEST_BYTES: usize = 3;
/// What goes with each question besides: unit, fence, session, number.
const ASK_BYTES: usize = 20;
/// What goes with each answer besides: session, number.
const SAID_BYTES: usize = 10;

/// What both sides of a session know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The session, which salts all digests.
    pub session: u64,
    /// What is above it on both sides may be left as it is.
    pub horizon: Stamp,
    /// Of hashes of places.
    pub seed: u64,
}

impl Terms {
    /// The digest of an entry, or of many.
    pub(super) fn digest(&self, print: Print) -> u32 {
        let hash = xxh3_64_with_seed(&print.to_bytes(), self.session) >> (64 - DIGEST_BITS);
        u32::try_from(hash).unwrap_or(0)
    }

    /// Whether an entry is to be equal on both sides.
    pub(super) fn is_below(&self, stamp: Stamp) -> bool {
        stamp <= self.horizon
    }

    pub(super) fn below(&self, entries: &[Entry]) -> Sum {
        let mut sum = Sum::default();
        entries
            .iter()
            .filter(|entry| self.is_below(entry.stamp))
            .for_each(|entry| sum.add(entry.print));
        sum
    }
}

/// The entries of a range whose hashes begin with these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    bits: u8,
    path: u64,
}

impl Cell {
    /// All entries.
    pub const ALL: Cell = Cell { bits: 0, path: 0 };

    /// Of so many bits; `None` when there are too many, or others are set.
    pub fn new(bits: u8, path: u64) -> Option<Cell> {
        (bits <= CELL_BITS_MAX && path >> bits == 0).then_some(Cell { bits, path })
    }

    /// How many bits of a hash name it.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// These bits.
    pub fn path(self) -> u64 {
        self.path
    }

    /// Whether an entry of this hash is in it.
    pub(super) fn holds(self, hash: u64) -> bool {
        self.bits == 0 || hash >> (64 - u32::from(self.bits)) == self.path
    }

    /// Its eight parts.
    pub(super) fn parts(self) -> impl Iterator<Item = Cell> {
        let bits = (self.bits + CELL_BITS).min(CELL_BITS_MAX);
        (0..1 << CELL_BITS).map(move |part| Cell { bits, path: self.path << CELL_BITS | part })
    }
}

/// A question of a session about one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// All there is. Many units share a message.
    Root,
    /// How a range is divided next.
    Nodes(Range),
    /// Digests of the parts of cells of a range.
    Cells(Range, Vec<Cell>),
    /// Digests of the entries of cells of a range.
    Entries(Range, Vec<Cell>),
    /// The entries of a range that have these digests.
    Places(Range, Vec<u32>),
}

/// A node of a tree, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins. It ends where the next one does.
    pub from: Place,
    /// Its entries.
    pub count: u64,
    /// One lane of their sum.
    pub lane: u64,
}

/// An entry, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where it stands.
    pub place: Place,
    /// Its stamp, see [`Entry::stamp`].
    pub stamp: Stamp,
    /// What it is.
    pub kind: Kind,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// All there is.
    Root(Sum),
    /// The nodes of the range; one alone: it is not divided.
    Nodes(Vec<Node>),
    /// Eight digests for each cell; of [`Cell::ALL`] also the sum at or below the horizon.
    Cells(Option<Sum>, Vec<u32>),
    /// For each cell the digests of its entries, in ascending order; of [`Cell::ALL`] the sum besides.
    Entries(Option<Sum>, Vec<Vec<u32>>),
    /// The entries.
    Places(Vec<Mark>),
    /// The range holds more than is read for one answer.
    TooMany,
}

fn key_bytes(place: &Place) -> usize {
    2 + place.as_bytes().len()
}

/// Bytes of a place that is sent behind another one: what they share is not.
fn next_bytes(last: &Place, place: &Place) -> usize {
    let pairs = last.as_bytes().iter().zip(place.as_bytes());
    3 + place.as_bytes().len() - pairs.take_while(|(a, b)| a == b).count()
}

fn range_bytes(range: &Range) -> usize {
    key_bytes(&range.from) + range.to.as_ref().map_or(1, |to| next_bytes(&range.from, to))
}

impl Ask {
    /// Bytes of the message, as it is laid out at its tightest.
    pub fn bytes(&self) -> usize {
        let cells = |range: &Range, cells: &[Cell]| {
            let horizon = if cells == [Cell::ALL] { Stamp::BYTES } else { 0 };
            range_bytes(range) + horizon + 2 * cells.len()
        };
        ASK_BYTES
            + match self {
                Ask::Root => Print::BYTES,
                Ask::Nodes(range) => range_bytes(range),
                Ask::Cells(range, of) | Ask::Entries(range, of) => cells(range, of),
                Ask::Places(range, digests) => range_bytes(range) + DIGEST_BYTES * digests.len(),
            }
    }
}

impl Said {
    /// Whether it can be an answer to a question.
    pub fn fits(&self, ask: &Ask) -> bool {
        match (ask, self) {
            (Ask::Root, Said::Root(_)) => true,
            (Ask::Nodes(range), Said::Nodes(nodes)) => {
                let first = nodes.first().is_some_and(|node| node.from == range.from);
                let inside = nodes.iter().skip(1).all(|node| range.holds(&node.from));
                first && inside && nodes.is_sorted_by(|a, b| a.from < b.from)
            }
            (Ask::Cells(_, cells), Said::Cells(below, digests)) => {
                digests.len() == cells.len() << CELL_BITS
                    && below.is_some() == (*cells == [Cell::ALL])
            }
            (Ask::Entries(_, cells), Said::Entries(below, of)) => {
                of.len() == cells.len() && below.is_some() == (*cells == [Cell::ALL])
            }
            (Ask::Places(..), Said::Places(_)) => true,
            (Ask::Cells(..) | Ask::Entries(..) | Ask::Places(..), Said::TooMany) => true,
            _ => false,
        }
    }

    /// Bytes of the message, as it is laid out at its tightest.
    pub fn bytes(&self) -> usize {
        let sum = |sum: &Option<Sum>| sum.map_or(0, |_| Print::BYTES + 4);
        let places = |places: &mut dyn Iterator<Item = (&Place, usize)>| {
            let mut last = Place::first();
            places.fold(0, |bytes, (place, more)| {
                let bytes = bytes + next_bytes(&last, place) + more;
                last = place.clone();
                bytes
            })
        };
        SAID_BYTES
            + match self {
                Said::Root(_) => Print::BYTES + 4,
                Said::Nodes(nodes) => places(&mut nodes.iter().map(|node| (&node.from, 10))),
                Said::Cells(below, digests) => sum(below) + DIGEST_BYTES * digests.len(),
                Said::Entries(below, cells) => {
                    sum(below) + cells.iter().map(|of| 1 + DIGEST_BYTES * of.len()).sum::<usize>()
                }
                Said::Places(marks) => {
                    places(&mut marks.iter().map(|mark| (&mark.place, 1 + Stamp::BYTES)))
                }
                Said::TooMany => 0,
            }
    }
}
