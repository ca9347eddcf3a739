//! A range of keys as callers name it: from a first key to one that is outside.
//!
//! Decides how a prefix becomes two bounds. Knows nothing of tables.

use bytes::Bytes;

use super::coding::{Reader, put_length, put_string};

/// The keys from `start` on, up to but without `end`; without an `end`, all keys from `start` on.
///
/// ```
/// use roundtable::storage::KeyRange;
///
/// let range = KeyRange::prefix(b"user/");
/// assert!(range.contains(b"user/") && range.contains(b"user/7"));
/// assert!(!range.contains(b"user0"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Bytes,
    end: Option<Bytes>,
}

impl KeyRange {
    pub(crate) fn new(start: Bytes, end: Option<Bytes>) -> Self {
        Self { start, end }
    }

    /// Every key there can be.
    pub fn all() -> Self {
        Self::prefix(b"")
    }

    /// The keys that begin with `prefix`, itself included.
    pub fn prefix(prefix: &[u8]) -> Self {
        // The first key above them all: the last byte that can be raised is, what follows goes.
        let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
        let end = kept.and_then(|last| prefix.get(..=last)).map(|head| {
            let mut end = head.to_vec();
            if let Some(last) = end.last_mut() {
                *last += 1;
            }
            Bytes::from(end)
        });
        Self { start: Bytes::copy_from_slice(prefix), end }
    }

    /// The keys from `start` on and below `end`; none if `end` is not above `start`.
    pub fn between(start: &[u8], end: &[u8]) -> Self {
        let end = Some(Bytes::copy_from_slice(end));
        Self { start: Bytes::copy_from_slice(start), end }
    }

    /// The keys from `start` on.
    pub fn starting_at(start: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(start), end: None }
    }

    /// The first key that can be in it.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The first key above it, if there is one.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.is_before_end(key)
    }

    fn is_before_end(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether every key from `smallest` to `largest` is in it.
    pub(crate) fn holds(&self, smallest: &[u8], largest: &[u8]) -> bool {
        *self.start <= *smallest && self.is_before_end(largest)
    }

    /// Its bytes in files: the first key, then 0 or one more than the length of the end, and that.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, &self.start);
        put_length(out, self.end.as_ref().map_or(0, |end| end.len() + 1));
        out.extend_from_slice(self.end.as_deref().unwrap_or_default());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let start = Bytes::copy_from_slice(reader.string()?);
        let end = match reader.length()?.checked_sub(1) {
            Some(length) => Some(Bytes::copy_from_slice(reader.bytes(length)?)),
            None => None,
        };
        Some(Self { start, end })
    }

    /// Whether any key can be in it and in another.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let is_before = |start: &[u8], end: Option<&[u8]>| end.is_none_or(|end| start < end);
        !self.is_empty()
            && !other.is_empty()
            && is_before(&self.start, other.end())
            && is_before(&other.start, self.end())
    }

    /// The keys that are in it and in another.
    pub(crate) fn meeting(self, other: &Self) -> Self {
        let end = match (self.end, &other.end) {
            (Some(one), Some(other)) => Some(one.min(other.clone())),
            (one, other) => one.or_else(|| other.clone()),
        };
        Self { start: self.start.max(other.start.clone()), end }
    }

    /// Whether any key from `smallest` to `largest` can be in it.
    pub(crate) fn meets(&self, smallest: &[u8], largest: &[u8]) -> bool {
        !self.is_empty() && *self.start <= *largest && self.is_before_end(smallest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_begins_with_it_and_nothing_else() {
        let range = KeyRange::prefix(b"a\xff");
        assert_eq!((range.start(), range.end()), (&b"a\xff"[..], Some(&b"b"[..])));
        assert!(range.contains(b"a\xff") && range.contains(b"a\xff\xff\xff"));
        assert!(!range.contains(b"a") && !range.contains(b"b"));
        assert_eq!(KeyRange::prefix(b"\xff\xff").end(), None);
        assert_eq!(KeyRange::all(), KeyRange::starting_at(b""));
        assert!(KeyRange::all().contains(b""));
    }

    #[test]
    fn two_ranges_meet_in_what_is_in_both() {
        let meet = |one: &KeyRange, other: &KeyRange| {
            assert_eq!(one.clone().meeting(other), other.clone().meeting(one));
            one.clone().meeting(other)
        };
        let (low, high) = (KeyRange::between(b"b", b"d"), KeyRange::starting_at(b"c"));
        assert_eq!(meet(&low, &high), KeyRange::between(b"c", b"d"));
        assert_eq!(meet(&high, &KeyRange::all()), high);
        assert_eq!(meet(&low, &KeyRange::between(b"a", b"z")), low);
        assert!(meet(&low, &KeyRange::starting_at(b"d")).is_empty());
    }

    #[test]
    fn stretches_meet_or_lie_beside() {
        let range = KeyRange::between(b"c", b"f");
        assert!(range.holds(b"c", b"e") && !range.holds(b"c", b"f") && !range.holds(b"b", b"e"));
        assert!(range.meets(b"a", b"c") && range.meets(b"e", b"z") && range.meets(b"a", b"z"));
        assert!(!range.meets(b"a", b"b") && !range.meets(b"f", b"z"));
        let overlaps = |start: &[u8], end: &[u8]| range.overlaps(&KeyRange::between(start, end));
        assert!(overlaps(b"a", b"d") && overlaps(b"e", b"z") && overlaps(b"d", b"e"));
        assert!(!overlaps(b"a", b"c") && !overlaps(b"f", b"z") && !overlaps(b"d", b"d"));
        assert!(range.overlaps(&KeyRange::all()) && KeyRange::all().overlaps(&range));
        let empty = KeyRange::between(b"c", b"c");
        assert!(empty.is_empty() && !empty.contains(b"c") && !empty.meets(b"a", b"z"));
    }
}
