//! A second look at a place that did not check, and which keys may be lost with it.

use core::cmp::Ordering;

use super::block::Block;
use super::index::{Span, separator_at, span_at};
use super::lent::Guide;
use super::{ReadMode, Table, TableMeta};
use crate::storage::error::Error;
use crate::storage::key_range::KeyRange;

/// As much is read at once by who reads everything: what could not be read may be so far on.
const AHEAD_BYTES: u64 = 1 << 20;

/// The keys that can stand in the block which entry `number` of an index block names; `above`: the
/// entry of the upper index that names that index block. `None`: the index does not say.
pub(super) fn keys_at(
    guide: &Guide<'_>,
    (block, number): (&Block, usize),
    above: Option<usize>,
    meta: &TableMeta,
) -> Option<KeyRange> {
    let before = match (number.checked_sub(1), above.and_then(|above| above.checked_sub(1))) {
        (Some(before), _) => Some(separator_at(block, before)?),
        (None, Some(before)) => Some(separator_at(guide.index.block(), before)?),
        (None, None) => None,
    };
    // What is behind a separator is not below the shortest key above it.
    let start = before.map_or_else(|| meta.smallest.to_vec(), next_key);
    if crate::mutant!("storage-damage-told-short") {
        return Some(KeyRange::between(&start, &next_key(start.clone())));
    }
    Some(KeyRange::between(&start, &next_key(separator_at(block, number)?)))
}

/// The lowest key above `key`.
fn next_key(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

impl TableMeta {
    /// The keys that can stand in it.
    pub(crate) fn keys(&self) -> KeyRange {
        KeyRange::between(&self.smallest, &next_key(self.largest.to_vec()))
    }
}

impl Table {
    /// Reads what stands at `offset` from the disk. If it cannot be read: the keys that may be lost, and
    /// why. Of what leads through the table that is all of them.
    pub(crate) fn doubt(&self, offset: u64) -> Option<(KeyRange, Error)> {
        let whole = |error| Some((self.meta.keys(), error));
        let guide = match self.guide(&mut None, ReadMode::Disk) {
            Ok(guide) => guide,
            Err(error) => return whole(error),
        };
        // Whoever reads ahead notes where it began.
        let end = offset.saturating_add(AHEAD_BYTES);
        let holds = |span: Span| span.offset < end && span.end().is_some_and(|end| offset < end);
        for (number, span) in guide.index.spans().iter().enumerate() {
            let keys = || keys_at(&guide, (guide.index.block(), number), None, &self.meta);
            if holds(*span)
                && let Some(bad) = self.bad(*span, keys, !guide.footer.two_levels)
            {
                return Some(bad);
            }
            // One that cannot be read itself has a place of its own.
            if guide.footer.two_levels
                && let Ok(lower) = self.block(*span, ReadMode::Disk)
            {
                let keys = |at| keys_at(&guide, (&lower, at), Some(number), &self.meta);
                let spans = (0..lower.count()).filter_map(|at| Some((at, span_at(&lower, at)?)));
                let held = spans.filter(|(_, span)| holds(*span));
                let mut bad = held.filter_map(|(at, span)| self.bad(span, || keys(at), true));
                if let Some(bad) = bad.next() {
                    return Some(bad);
                }
            }
        }
        let guides = || {
            self.parts.footer(&self.meta)?;
            self.parts.filter(guide.footer)?;
            self.parts.slots(guide.footer)?;
            self.block(guide.footer.index, ReadMode::Disk).map(drop)
        };
        guides().err().and_then(whole)
    }

    /// Looks at one block; twice, if the disk says that it could not.
    fn bad(
        &self,
        span: Span,
        keys: impl FnOnce() -> Option<KeyRange>,
        is_data: bool,
    ) -> Option<(KeyRange, Error)> {
        let read = || self.block(span, ReadMode::Disk);
        let read = read().or_else(|error| match error {
            Error::Io { .. } => read(),
            other => Err(other),
        });
        let keys = keys().unwrap_or_else(|| self.meta.keys());
        match read {
            Err(error) => Some((keys, error)),
            Ok(block) if is_data => {
                let first = block.compare_at(0, keys.start());
                let last = block.count().checked_sub(1);
                let last = last.and_then(|last| block.compare_at(last, keys.end()?));
                let fits = first.is_some_and(Ordering::is_ge) && last.is_some_and(Ordering::is_lt);
                (!fits).then(|| (keys, self.undecodable(span)))
            }
            Ok(_) => None,
        }
    }
}
