//! Streams of operations, decoded from bytes: what the metamorphic runs and the fuzzer of the whole
//! engine play. Any bytes are a stream, and the same bytes are always the same stream.

mod horizons;
mod machine;
mod setting;

pub(crate) use machine::play;
pub(crate) use setting::{Disk, Setting};

use std::ops::Bound;

use roundtable::storage::{Direction, KeyRange};

/// Takes decisions from bytes; when they are used up every decision is zero.
#[derive(Debug)]
pub(crate) struct Draws<'a> {
    rest: &'a [u8],
}

impl<'a> Draws<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What no decision was taken from yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// Few keys, of 0 to 4 bytes, so that operations meet; the first byte is the unit.
    fn key(&mut self) -> Vec<u8> {
        let length = self.below(5);
        let draw = self.byte();
        (0..length).map(|place| b'a' + ((draw >> (2 * place)) & 3)).collect()
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }

    fn span(&mut self) -> Span {
        let direction = if self.below(2) == 0 { Direction::Forward } else { Direction::Reverse };
        Span { start: self.bound(), end: self.bound(), direction }
    }

    fn deleted(&mut self) -> KeyRange {
        match self.below(6) {
            0 => KeyRange::starting_at(&self.key()),
            1..4 => KeyRange::prefix(&self.key()),
            _ => KeyRange::between(&self.key(), &self.key()),
        }
    }

    fn change(&mut self) -> Change {
        let key = self.key();
        match self.below(24) {
            0..6 => Change::Delete(key),
            6 => Change::DeleteRange(self.deleted()),
            7..10 => Change::Put(key, usize::from(self.byte()) * 16),
            _ => Change::Put(key, self.below(40)),
        }
    }
}

/// Bounds and a direction.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) start: Bound<Vec<u8>>,
    pub(crate) end: Bound<Vec<u8>>,
    pub(crate) direction: Direction,
}

impl Span {
    pub(crate) fn all(direction: Direction) -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded, direction }
    }

    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        let after = match &self.start {
            Bound::Included(start) => key >= start.as_slice(),
            Bound::Excluded(start) => key > start.as_slice(),
            Bound::Unbounded => true,
        };
        let before = match &self.end {
            Bound::Included(end) => key <= end.as_slice(),
            Bound::Excluded(end) => key < end.as_slice(),
            Bound::Unbounded => true,
        };
        after && before
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The length of the value; its bytes follow from the number of the operation.
    Put(Vec<u8>, usize),
    Delete(Vec<u8>),
    /// What other batches have put there; comes before everything else of its batch.
    DeleteRange(KeyRange),
}

/// One operation. Slots are places for snapshots and ranges that live on.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write(Vec<Change>),
    Get(Vec<u8>),
    Range(Span),
    Snapshot(usize),
    ReadSnapshot(usize, Vec<u8>, Span),
    DropSnapshot(usize),
    OpenRange(usize, Span),
    Advance(usize, usize),
    DropRange(usize),
    DeleteRange(KeyRange),
    /// Lets some values of a unit go.
    Rise(usize, u64),
    CompactRange(KeyRange),
    /// Opens a checkpoint and reads it.
    Checkpoint,
    /// Writes a range out, deletes it, and takes it in again.
    Reload(KeyRange),
    Flush,
    Compact,
    Step(usize),
    Interval,
    Verify,
    Restart,
    Crash,
}

/// Number of slots for snapshots, and of those for ranges.
pub(crate) const SLOTS: usize = 3;

impl Op {
    /// The next operation of a stream. Rare ones cost more bytes, so that a fuzzer that shrinks or
    /// grows a stream byte by byte meets the common ones first.
    pub(crate) fn draw(draws: &mut Draws<'_>) -> Self {
        match draws.below(32) {
            0..12 => {
                let count = draws.below(5);
                Self::Write((0..count).map(|_| draws.change()).collect())
            }
            12..15 => Self::Get(draws.key()),
            15..17 => Self::Range(draws.span()),
            17 => Self::Snapshot(draws.below(SLOTS)),
            18..20 => Self::ReadSnapshot(draws.below(SLOTS), draws.key(), draws.span()),
            20 => Self::OpenRange(draws.below(SLOTS), draws.span()),
            21..23 => Self::Advance(draws.below(SLOTS), draws.below(9)),
            23..27 => Self::Step(draws.below(12)),
            27 => Self::Flush,
            28 => Self::Interval,
            _ => match draws.below(12) {
                0 | 1 => Self::Compact,
                2 => Self::DropSnapshot(draws.below(SLOTS)),
                3 => Self::DropRange(draws.below(SLOTS)),
                4 => Self::Restart,
                5 => Self::Crash,
                6 => Self::Verify,
                7 => Self::Rise(draws.below(5), u64::from(draws.byte())),
                8 => Self::CompactRange(draws.deleted()),
                9 => Self::Checkpoint,
                10 => Self::Reload(draws.deleted()),
                _ => Self::DeleteRange(draws.deleted()),
            },
        }
    }

    /// A whole stream.
    pub(crate) fn stream(bytes: &[u8]) -> Vec<Self> {
        let mut draws = Draws::new(bytes);
        std::iter::from_fn(|| (!draws.is_empty()).then(|| Self::draw(&mut draws))).collect()
    }
}
