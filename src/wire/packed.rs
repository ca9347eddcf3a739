//! The tight parts of what owners say to each other when they compare: places that share their beginnings,
//! digests of three bytes, stamps by how they differ.
//!
//! | part | bytes |
//! |---|---|
//! | number | little-endian groups of 7 bits, the last without its high bit |
//! | place | number of bytes shared with the place before, number of further ones, these |
//! | range | place where it begins; 0, or 1 and the place where it ends |
//! | cell | bits (one byte), number |
//! | node | place, number of entries, 8 bytes of a lane |
//! | leaf | place, number of entries, 16 bytes of the sum |
//! | mark | place, kind (one byte), stamp |
//! | stamp | time less that of the stamp before, zigzag; counter; node |
//! | digest | 3 bytes, big-endian |

use crate::repair::exchange::{Cell, Mark, Node};
use crate::repair::tree::{Kind, Place, Print, Range, Sum};
use crate::types::{NodeId, Stamp, WallTime};

use super::peer::Malformed;

/// Bytes of a digest.
pub(super) const DIGEST_BYTES: usize = 3;

/// More entries than any unit has.
pub(super) const ENTRIES_MAX: u64 = 1 << 48;

/// Writes.
#[derive(Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    last: Vec<u8>,
    time: u64,
}

impl Packer {
    pub(super) fn finish(self) -> bytes::Bytes {
        self.bytes.into()
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while let Ok(low) = u8::try_from(number & 0x7f)
            && number > 0x7f
        {
            self.bytes.push(low | 0x80);
            number >>= 7;
        }
        self.bytes.push(u8::try_from(number).unwrap_or(0));
    }

    fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    pub(super) fn place(&mut self, place: &Place) {
        let bytes = place.as_bytes();
        let shared = self.last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let rest = bytes.get(shared..).unwrap_or_default();
        self.length(shared);
        self.length(rest.len());
        self.bytes.extend_from_slice(rest);
        self.last = bytes.to_vec();
    }

    pub(super) fn range(&mut self, range: &Range) {
        self.place(&range.from);
        self.bytes.push(u8::from(range.to.is_some()));
        if let Some(to) = &range.to {
            self.place(to);
        }
    }

    pub(super) fn cell(&mut self, cell: Cell) {
        self.bytes.push(cell.bits());
        self.number(cell.path());
    }

    pub(super) fn node(&mut self, node: &Node) {
        self.place(&node.from);
        self.number(node.count);
        self.bytes.extend_from_slice(&node.lane.to_be_bytes());
    }

    pub(super) fn leaf(&mut self, (from, sum): &(Place, Sum)) {
        self.place(from);
        self.number(sum.count);
        self.bytes.extend_from_slice(&sum.print.to_bytes());
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        self.place(&mark.place);
        self.bytes.push(match mark.kind {
            Kind::Version => 0,
            Kind::Siblings => 1,
            Kind::Register => 2,
        });
        let Stamp { time: WallTime(time), counter, node } = mark.stamp;
        let more = time.wrapping_sub(self.time).cast_signed();
        self.number((more << 1 ^ more >> 63).cast_unsigned());
        self.number(counter.into());
        self.number(node.0.into());
        self.time = time;
    }

    pub(super) fn digest(&mut self, digest: u32) {
        let [_, digest @ ..] = digest.to_be_bytes();
        self.bytes.extend_from_slice(&digest);
    }
}

/// Reads what a [`Packer`] has written, or may not have.
pub(super) struct Unpacker<'a> {
    rest: &'a [u8],
    last: Vec<u8>,
    time: u64,
    /// Of what, for errors.
    what: &'static str,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Unpacker<'a> {
        Unpacker { rest: bytes, last: Vec::new(), time: 0, what }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn broken(&self) -> Malformed {
        Malformed::new(format!("{} does not unpack", self.what))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.broken())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| self.broken())
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low {
                break;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.broken())
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| self.broken())
    }

    /// The place before everything, or one that can be in a unit.
    pub(super) fn bound(&mut self) -> Result<Place, Malformed> {
        let (shared, rest): (usize, usize) = (self.narrow()?, self.narrow()?);
        if shared > self.last.len() {
            return Err(self.broken());
        }
        self.last.truncate(shared);
        let rest = self.take(rest)?;
        self.last.extend_from_slice(rest);
        if self.last.is_empty() {
            return Ok(Place::first());
        }
        Place::from_bytes(&self.last).ok_or_else(|| self.broken())
    }

    pub(super) fn range(&mut self) -> Result<Range, Malformed> {
        let from = self.bound()?;
        let to = match self.byte()? {
            0 => None,
            1 => Some(self.bound()?),
            _ => return Err(self.broken()),
        };
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Err(Malformed::new(format!("{} ends before it begins", self.what)));
        }
        Ok(Range { from, to })
    }

    pub(super) fn cell(&mut self) -> Result<Cell, Malformed> {
        let (bits, path) = (self.byte()?, self.number()?);
        Cell::new(bits, path).ok_or_else(|| self.broken())
    }

    pub(super) fn node(&mut self) -> Result<Node, Malformed> {
        let (from, count) = (self.bound()?, self.count()?);
        Ok(Node { from, count, lane: u64::from_be_bytes(self.array()?) })
    }

    fn count(&mut self) -> Result<u64, Malformed> {
        let count = self.number()?;
        if count > ENTRIES_MAX {
            return Err(Malformed::new(format!("{} of {count} entries", self.what)));
        }
        Ok(count)
    }

    pub(super) fn leaf(&mut self) -> Result<(Place, Sum), Malformed> {
        let (from, count) = (self.bound()?, self.count()?);
        Ok((from, Sum { count, print: Print::from_bytes(self.array()?) }))
    }

    pub(super) fn mark(&mut self) -> Result<Mark, Malformed> {
        let place = self.bound()?;
        if place.key().is_none() {
            return Err(Malformed::new(format!("{}: a place without a key", self.what)));
        }
        let kind = match self.byte()? {
            0 => Kind::Version,
            1 => Kind::Siblings,
            2 => Kind::Register,
            _ => return Err(self.broken()),
        };
        let more = self.number()?;
        let more = (more >> 1).cast_signed() ^ -(more & 1).cast_signed();
        self.time = self.time.wrapping_add(more.cast_unsigned());
        let (counter, node) = (self.narrow()?, NodeId(self.narrow()?));
        Ok(Mark { place, stamp: Stamp { time: WallTime(self.time), counter, node }, kind })
    }

    pub(super) fn digest(&mut self) -> Result<u32, Malformed> {
        let [a, b, c] = self.array::<DIGEST_BYTES>()?;
        Ok(u32::from_be_bytes([0, a, b, c]))
    }

    /// Parts until nothing is left; at most so many.
    pub(super) fn all<T>(
        &mut self,
        most: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut all = Vec::new();
        while !self.is_at_end() {
            if all.len() >= most {
                return Err(Malformed::new(format!("more than {most} {}", self.what)));
            }
            all.push(one(self)?);
        }
        Ok(all)
    }
}
