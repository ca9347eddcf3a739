//! What is known of an entry without its value, and its fingerprint.
//!
//! A fingerprint has two lanes of 64 bits, each added by itself: so a sum can be taken apart again, and
//! a lane alone is a sum too.

use xxhash_rust::xxh3::xxh3_128;

use super::Place;
use crate::causality::{Acceptor, SiblingSet};
use crate::types::{Record, Stamp};

/// The fingerprint of an entry, or the sum of those of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print([u64; 2]);

impl Print {
    /// Bytes of it.
    pub const BYTES: usize = 16;

    fn of(parts: &[&[u8]]) -> Print {
        let [a, b, c, d, e, f, g, h, rest @ ..] = xxh3_128(&parts.concat()).to_be_bytes();
        Print([u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)])
    }

    /// This and another.
    #[must_use]
    pub fn plus(self, other: Print) -> Print {
        let Print([a, b]) = other;
        let Print([c, d]) = self;
        Print([c.wrapping_add(a), d.wrapping_add(b)])
    }

    /// This without another.
    #[must_use]
    pub fn minus(self, other: Print) -> Print {
        let Print([a, b]) = other;
        let Print([c, d]) = self;
        Print([c.wrapping_sub(a), d.wrapping_sub(b)])
    }

    /// One lane: the first of an even number, the second of an odd one.
    pub fn lane(self, number: u64) -> u64 {
        let Print([even, odd]) = self;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// Both lanes, big-endian.
    pub fn to_bytes(self) -> [u8; Print::BYTES] {
        let Print([a, b]) = self;
        (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
    }

    /// The inverse of [`Print::to_bytes`].
    pub fn from_bytes(bytes: [u8; Print::BYTES]) -> Print {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        Print([u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(rest)])
    }
}

impl Print {
    /// Of a version at a place.
    pub fn version(place: &Place, record: &Record) -> Print {
        let tombstone = u8::from(record.value.is_none());
        let expires =
            u8::from(record.expiry.is_some() && !crate::mutant!("fingerprint-without-expiry"));
        let flags = tombstone | expires << 1;
        let expiry = record.expiry.filter(|_| expires == 1).unwrap_or_default().0.to_be_bytes();
        let stamp = record.stamp;
        // Two writes whose times clients have given may have one stamp: then content decides.
        let content = match &record.value {
            Some(value) if stamp.is_of_client() => xxh3_128(value.as_bytes()).to_be_bytes(),
            _ => [0; 16],
        };
        Print::of(&[&[0, flags], &stamp.to_bytes()[..], &expiry, &content, place.as_bytes()])
    }

    /// Of a set of siblings; of one that has seen nothing there is none.
    pub fn siblings(place: &Place, set: &SiblingSet) -> Option<Print> {
        set.lowest()?;
        // Where values stand is each replica's own affair.
        let sketch = set.sketch().encode();
        let length = u16::try_from(place.as_bytes().len()).unwrap_or(u16::MAX).to_be_bytes();
        Some(Print::of(&[&[1], &length, place.as_bytes(), &sketch]))
    }

    /// Of an acceptor; of one that has accepted nothing there is none: promises may differ.
    pub fn register(place: &Place, acceptor: &Acceptor) -> Option<Print> {
        let ballot = acceptor.accepted()?.ballot;
        Some(Print::of(&[&[2], &ballot.to_bytes()[..], place.as_bytes()]))
    }
}

/// What kind of record an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version: of two the one with the higher stamp wins.
    Version,
    /// A set of siblings: two are joined.
    Siblings,
    /// An acceptor: none takes the place of another.
    Register,
}

/// What is known of an entry without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// Its fingerprint.
    pub print: Print,
    /// A version's; of a set the lowest of all it has seen; of an acceptor the accepted ballot.
    pub stamp: Stamp,
    /// What it is.
    pub kind: Kind,
}

impl Entry {
    /// Of a version.
    pub fn version(place: Place, record: &Record) -> Entry {
        let print = Print::version(&place, record);
        Entry { print, place, stamp: record.stamp, kind: Kind::Version }
    }

    /// Of a set of siblings; `None` of one that has seen nothing.
    pub fn siblings(place: Place, set: &SiblingSet) -> Option<Entry> {
        let stamp = set.lowest()?;
        let print = Print::siblings(&place, set)?;
        Some(Entry { print, place, stamp, kind: Kind::Siblings })
    }

    /// Of an acceptor; `None` of one that has accepted nothing: promises may differ.
    pub fn register(place: Place, acceptor: &Acceptor) -> Option<Entry> {
        let stamp = acceptor.accepted()?.ballot;
        let print = Print::register(&place, acceptor)?;
        Some(Entry { print, place, stamp, kind: Kind::Register })
    }
}
