//! Reads a page of a table in key order, or the reverse of it, over many units: a merge of one range of the
//! engine each.

use core::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use bytes::Bytes;

use super::keyspace::{DATA, PREFIX_BYTES, table_prefix};
use super::{causal, record};
use crate::causality::Dot;
use crate::message::{DiskError, RangePage};
use crate::storage::{Direction, Engine, Iter};
use crate::types::{Key, Record, Stamp, TableId, Unit, Value, limits};

/// Bytes of values of one key of a causal table past which a page leaves them out.
const VALUES_BYTES_MAX: usize = 256 << 10;

/// What to read.
pub(super) struct PageOrder<'a> {
    pub(super) units: &'a [Unit],
    pub(super) table: TableId,
    pub(super) prefix: &'a [u8],
    pub(super) after: &'a [u8],
    pub(super) limit: u32,
    pub(super) keys_only: bool,
    pub(super) reverse: bool,
}

/// What a source reads next. The greatest is the next of the page.
struct Head {
    key: Bytes,
    value: Bytes,
    source: usize,
    reverse: bool,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        let order = (&self.key, self.source).cmp(&(&other.key, other.source));
        if self.reverse { order } else { order.reverse() }
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// One unit's range and what it reads next.
struct Source {
    iter: Iter,
}

impl Source {
    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        match self.iter.next() {
            None => Ok(None),
            Some(Err(error)) => Err(super::disk_error(&error)),
            Some(Ok((key, value, _))) => {
                let user = key.slice(PREFIX_BYTES.min(key.len())..);
                Ok(Some((user, value)))
            }
        }
    }
}

/// Reads a page. It is incomplete when it stopped at the limit of entries or bytes; it then holds
/// at least one entry.
pub(super) fn read_page(engine: &Engine, order: &PageOrder<'_>) -> Result<RangePage, DiskError> {
    let snapshot = engine.snapshot();
    let mut sources = Vec::with_capacity(order.units.len());
    let mut heads = BinaryHeap::with_capacity(order.units.len());
    let reverse = order.reverse;
    let direction = if reverse { Direction::Reverse } else { Direction::Forward };
    for unit in order.units {
        let Some((start, end)) = bounds(*unit, order) else { break };
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let start = start.as_ref().map(Vec::as_slice);
        let mut source = Source { iter: snapshot.range(start, end, direction) };
        if let Some((key, value)) = source.next()? {
            heads.push(Head { key, value, source: sources.len(), reverse });
        }
        sources.push(source);
    }
    let mut page = RangePage { entries: Vec::new(), complete: true };
    let mut bytes = 0;
    while let Some(Head { key, value, source: index, .. }) = heads.pop() {
        bytes += key.len() + value.len();
        let full = page.entries.len() >= order.limit as usize
            || (bytes > limits::SCAN_PAGE_BYTES_MAX && !page.entries.is_empty());
        if full {
            page.complete = false;
            break;
        }
        page.entries.push(entry(key, value, order.keys_only)?);
        if let Some(source) = sources.get_mut(index)
            && let Some((key, value)) = source.next()?
        {
            heads.push(Head { key, value, source: index, reverse });
        }
    }
    Ok(page)
}

fn entry(key: Bytes, value: Bytes, keys_only: bool) -> Result<(Key, Record), DiskError> {
    let damaged = |what: &str| DiskError::Corruption(format!("a stored {what} does not decode"));
    // Copies: a page must not pin the blocks it was read from.
    let key = Key::new(Bytes::copy_from_slice(&key)).map_err(|_| damaged("key"))?;
    if value.first() == Some(&causal::HEAD) {
        return Ok((key, siblings(value, keys_only)?));
    }
    let mut record = record::decode(value).ok_or_else(|| damaged("version"))?;
    if keys_only && record.value.is_some() {
        record.value = Value::new(Bytes::new()).ok();
    }
    Ok((key, record))
}

/// A key of a causal table in a page: its set, encoded, in the place of a value. Values are left
/// out when only keys are wanted, when they have records of their own and when they are many.
fn siblings(head: Bytes, keys_only: bool) -> Result<Record, DiskError> {
    let set = causal::decode(head)?;
    let last = set.context().last().map_or(Stamp::ZERO, Dot::stamp);
    let short = keys_only || set.value_bytes() > VALUES_BYTES_MAX;
    let encoded = if short { set.sketch().encode() } else { set.encode() };
    let value = Value::new(encoded)
        .map_err(|len| DiskError::Corruption(format!("a set of siblings has {len} bytes")))?;
    Ok(Record { stamp: last, expiry: None, value: Some(value) })
}

/// The range of one unit: keys with the prefix, strictly above `after`, or in reverse strictly below it. `None` where
/// there can be none.
fn bounds(unit: Unit, order: &PageOrder<'_>) -> Option<(Bound<Vec<u8>>, Option<Vec<u8>>)> {
    let base = table_prefix(DATA, unit, order.table);
    let place = |user: &[u8]| {
        let mut key = base.to_vec();
        key.extend_from_slice(user);
        key
    };
    let (first, end) = (Bound::Included(place(order.prefix)), successor(place(order.prefix)));
    if order.after.is_empty() {
        return Some((first, end));
    }
    if order.reverse {
        let before = place(order.after);
        let is_inside = end.as_ref().is_none_or(|end| before < *end);
        return (order.after > order.prefix)
            .then_some((first, if is_inside { Some(before) } else { end }));
    }
    let start =
        if order.after < order.prefix { first } else { Bound::Excluded(place(order.after)) };
    Some((start, end))
}

/// The first key above all that begin with `prefix`.
fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return Some(prefix);
        }
    }
    None
}
