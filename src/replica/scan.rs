//! Reads a page of a table in key order, or the reverse of it, over many units: a merge of one range of the
//! engine each.
//!
//! Opening one costs a search in each unit, whatever the page holds; so a cursor stays open for the next page
//! of the same scan. Who keeps it, and for how long, the node says. `docs/protocol/scan.md`.

use core::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::execute::Undone;
use super::keyspace::{DATA, PREFIX_BYTES, table_prefix};
use super::{Shared, causal, record, register};
use crate::causality::{Dot, Paged};
use crate::message::{CursorName, CursorUse, DiskError, RangePage};
use crate::storage::{Direction, Iter, Snapshot};
use crate::types::{Key, Record, Stamp, TableId, Unit, Value, limits};

/// Bytes of values of one key of a causal table past which a page leaves them out.
const VALUES_BYTES_MAX: usize = 256 << 10;

/// What to read.
pub(super) struct PageOrder<'a> {
    pub(super) units: &'a Arc<Vec<Unit>>,
    pub(super) table: TableId,
    pub(super) prefix: &'a [u8],
    pub(super) after: &'a [u8],
    pub(super) limit: u32,
    pub(super) keys_only: bool,
    pub(super) reverse: bool,
    /// Of acceptors: what is shown must not be lost any more.
    pub(super) durable: bool,
}

/// What a source reads next. The greatest is the next of the page.
struct Head {
    /// Some bytes of the key as a number that orders as they do: with them hardly a comparison needs the key,
    /// which lies elsewhere.
    near: u128,
    key: Bytes,
    value: Bytes,
    source: usize,
    reverse: bool,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        let order = self.near.cmp(&other.near);
        let order = order.then_with(|| self.key.cmp(&other.key));
        let order = order.then_with(|| self.source.cmp(&other.source));
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

/// The 16 bytes behind those that all keys share; missing ones are zeros.
fn near(key: &[u8], shared: usize) -> u128 {
    let rest = key.get(shared..).unwrap_or_default();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(bytes)
}

/// Most pairs, and about how many bytes of them, that are read of a unit at once.
const AHEAD_MAX: usize = 16;
const AHEAD_BYTES: usize = 2 << 10;

/// One unit's range and what it reads next; nothing where there can be nothing.
///
/// A page takes a pair here and a pair there, and what an iterator walks along is never in the processor's
/// cache when its turn comes. So it reads some pairs at once: one at first, since most pages are not gone on from,
/// then twice as many each time.
struct Source {
    iter: Option<Iter>,
    /// How far its deletes were purged when it was opened.
    floor: Stamp,
    ahead: VecDeque<(Bytes, Bytes)>,
    /// How many it read the last time.
    reads: usize,
}

impl Source {
    fn new(iter: Option<Iter>, floor: Stamp) -> Source {
        Source { iter, floor, ahead: VecDeque::new(), reads: 0 }
    }

    fn next(&mut self, shelf: &mut Shelf) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        if self.ahead.is_empty() {
            self.read(shelf)?;
        }
        Ok(self.ahead.pop_front())
    }

    fn read(&mut self, shelf: &mut Shelf) -> Result<(), DiskError> {
        let Some(iter) = &mut self.iter else { return Ok(()) };
        self.reads = (self.reads * 2).clamp(1, AHEAD_MAX);
        let mut bytes = 0;
        while self.ahead.len() < self.reads && bytes < AHEAD_BYTES {
            let pair = iter.next_lent().map_err(|error| super::disk_error(&error))?;
            let Some((key, value, _)) = pair else { break };
            let key = key.get(PREFIX_BYTES..).unwrap_or_default();
            bytes += key.len() + value.len();
            self.ahead.push_back(shelf.put(key, value));
        }
        Ok(())
    }
}

/// Bytes that pairs share an allocation of. A head that waits pins that much, so it is small.
const SHELF_BYTES: usize = 4 << 10;

/// Where pairs are copied to: neither a page nor a cursor may pin the blocks it was read from. Many share
/// an allocation, in the place of one for each key and value and one more for each that is cloned.
#[derive(Default)]
struct Shelf(BytesMut);

impl Shelf {
    fn put(&mut self, key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
        let bytes = key.len() + value.len();
        if self.0.capacity() < bytes {
            self.0 = BytesMut::with_capacity(bytes.max(SHELF_BYTES));
        }
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(value);
        let mut pair = self.0.split().freeze();
        let key = pair.split_to(key.len());
        (key, pair)
    }
}

/// What is read, as far as a cursor of one scan cannot serve another.
#[derive(PartialEq, Eq)]
struct Query {
    units: Arc<Vec<Unit>>,
    table: TableId,
    prefix: Bytes,
    keys_only: bool,
    reverse: bool,
}

/// The units of a table, open where a page has ended. Shows each as it was when it was opened.
pub(super) struct Cursor {
    query: Query,
    sources: Vec<Source>,
    heads: BinaryHeap<Head>,
    shelf: Shelf,
    /// The page read last: whoever merges pages may go on in the midst of it.
    kept: VecDeque<(Key, Record)>,
    /// Behind what that page begins.
    from: Bytes,
    /// Of acceptors: what had been taken back before it was opened.
    before: Option<Undone>,
}

impl core::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cursor").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Cursor {
    /// Opens one strictly behind where a page begins.
    pub(super) fn open(shared: &Shared, order: &PageOrder<'_>) -> Result<Cursor, DiskError> {
        let query = Query {
            units: Arc::clone(order.units),
            table: order.table,
            prefix: Bytes::copy_from_slice(order.prefix),
            keys_only: order.keys_only,
            reverse: order.reverse,
        };
        let from = Bytes::copy_from_slice(order.after);
        let count = order.units.len();
        let before = order.durable.then(|| Undone::now(shared));
        let (sources, heads) = (Vec::with_capacity(count), BinaryHeap::with_capacity(count));
        let (shelf, kept) = (Shelf::default(), VecDeque::new());
        let mut cursor = Cursor { query, sources, heads, shelf, kept, from, before };
        // Floors first: one that rises now is found to have risen.
        let floors = shared.floors.floors(order.units);
        let snapshot = shared.engine.snapshot();
        for (unit, floor) in order.units.iter().zip(floors) {
            let source = Source::new(cursor.iter(&snapshot, *unit, order.after), floor);
            cursor.sources.push(source);
            cursor.fill(cursor.sources.len() - 1)?;
        }
        Ok(cursor)
    }

    fn iter(&self, snapshot: &Snapshot, unit: Unit, after: &[u8]) -> Option<Iter> {
        let (start, end) = bounds(unit, &self.query, after)?;
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let start = start.as_ref().map(Vec::as_slice);
        let direction = if self.query.reverse { Direction::Reverse } else { Direction::Forward };
        Some(snapshot.range(start, end, direction))
    }

    /// Puts what a source has next among the heads.
    fn fill(&mut self, index: usize) -> Result<(), DiskError> {
        if let Some(source) = self.sources.get_mut(index)
            && let Some((key, value)) = source.next(&mut self.shelf)?
        {
            let near = near(&key, self.query.prefix.len());
            self.heads.push(Head { near, key, value, source: index, reverse: self.query.reverse });
        }
        Ok(())
    }

    /// Goes to where a page begins. Returns whether it could: it is a cursor of the same scan, and that is
    /// not before the page read last.
    pub(super) fn go_to(
        &mut self,
        shared: &Shared,
        order: &PageOrder<'_>,
    ) -> Result<bool, DiskError> {
        let Query { units, table, prefix, keys_only, reverse } = &self.query;
        let is_same = *table == order.table
            && (Arc::ptr_eq(units, order.units) || units == order.units)
            && prefix[..] == *order.prefix
            && (*keys_only, *reverse) == (order.keys_only, order.reverse);
        let is_before = |a: &[u8], b: &[u8]| if *reverse { a > b } else { a < b };
        let last = self.kept.back().map_or(&self.from[..], |(key, _)| key.as_bytes());
        let starts = self.from.is_empty() || !is_before(order.after, &self.from);
        let is_inside = !is_before(last, order.after) || last == order.after;
        let is_start = order.after.is_empty() && !self.from.is_empty();
        let is_undone = self.before.as_ref().is_some_and(Undone::has_risen);
        if !is_same || !starts || !is_inside || is_start || is_undone {
            return Ok(false);
        }
        let done = self.kept.partition_point(|(key, _)| {
            !is_before(order.after, key.as_bytes()) && !order.after.is_empty()
        });
        let done = if crate::mutant!("cursor-skips-back") { self.kept.len() } else { done };
        self.kept.drain(..done);
        self.from = Bytes::copy_from_slice(order.after);
        self.heed_floors(shared)
    }

    /// What a unit's floor has passed since it was opened may have been deleted, and that forgotten by the
    /// others: such a unit is opened anew. Returns false where that is not worth it.
    fn heed_floors(&mut self, shared: &Shared) -> Result<bool, DiskError> {
        let floors = shared.floors.floors(&self.query.units);
        let pairs = self.sources.iter().zip(&floors).enumerate();
        let risen: Vec<usize> =
            pairs.filter(|(_, (a, b))| a.floor != **b).map(|(index, _)| index).collect();
        if risen.is_empty() || crate::mutant!("cursor-survives-floor") {
            return Ok(true);
        }
        crate::sometimes!("cursors: a floor rises under one");
        if !self.kept.is_empty() {
            return Ok(false);
        }
        let heads = core::mem::take(&mut self.heads).into_vec();
        self.heads = heads.into_iter().filter(|head| !risen.contains(&head.source)).collect();
        let snapshot = shared.engine.snapshot();
        let units = Arc::clone(&self.query.units);
        for index in risen {
            let (Some(unit), Some(floor)) = (units.get(index), floors.get(index)) else { continue };
            let source = Source::new(self.iter(&snapshot, *unit, &self.from), *floor);
            if let Some(place) = self.sources.get_mut(index) {
                *place = source;
            }
            self.fill(index)?;
        }
        Ok(true)
    }

    /// Reads a page. It is incomplete when it stopped at the limit of entries or bytes; it then holds
    /// at least one entry.
    pub(super) fn page(&mut self, limit: u32, keeps: bool) -> Result<RangePage, DiskError> {
        let limit = limit as usize;
        let mut page = RangePage { entries: Vec::with_capacity(limit), complete: false };
        let mut bytes = 0;
        let is_full = |page: &RangePage, bytes: usize| {
            page.entries.len() >= limit
                || (bytes > limits::SCAN_PAGE_BYTES_MAX && !page.entries.is_empty())
        };
        // What is left of the page before comes first.
        let mut at = 0;
        while let Some((key, record)) = self.kept.get(at) {
            bytes += key.as_bytes().len() + record.bytes();
            if is_full(&page, bytes) {
                // It stays: this page is part of it, and the rest stands before the heads.
                return Ok(page);
            }
            page.entries.push((key.clone(), record.clone()));
            at += 1;
        }
        self.kept.clear();
        loop {
            let Some(mut top) = self.heads.peek_mut() else {
                page.complete = true;
                break;
            };
            bytes += top.key.len() + top.value.len();
            if is_full(&page, bytes) {
                break;
            }
            let source = self.sources.get_mut(top.source).expect("a head is of a source");
            let (key, value) = match source.next(&mut self.shelf)? {
                Some((key, value)) => {
                    top.near = near(&key, self.query.prefix.len());
                    let Head { key: old_key, value: old_value, .. } = &mut *top;
                    (core::mem::replace(old_key, key), core::mem::replace(old_value, value))
                }
                None => {
                    let head = PeekMut::pop(top);
                    (head.key, head.value)
                }
            };
            page.entries.push(entry(key, value, self.query.keys_only)?);
        }
        if keeps && !page.complete {
            self.kept = page.entries.iter().cloned().collect();
        }
        Ok(page)
    }
}

/// The cursors of this store, by whose they are.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<BTreeMap<CursorName, Cursor>>);

impl Cursors {
    /// Closes some.
    pub(super) fn end(&self, names: &[CursorName]) {
        // What they hold is let go with the lock given back.
        let ended: Vec<Cursor> = {
            let mut all = self.0.lock();
            names.iter().filter_map(|name| all.remove(name)).collect()
        };
        drop(ended);
    }

    /// Closes all.
    pub(super) fn end_all(&self) {
        drop(core::mem::take(&mut *self.0.lock()));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// Reads a page, with a cursor that goes on where the page before it ended, or with one that is opened
/// for it. A cursor that is read to its end, or could not be read, is closed. Of acceptors it says as well what
/// had been taken back before anything in the page was read.
pub(super) fn read_page(
    shared: &Shared,
    order: &PageOrder<'_>,
    cursor: Option<CursorUse>,
) -> Result<(RangePage, Option<Undone>), DiskError> {
    let held = cursor.and_then(|cursor| {
        let held = shared.cursors.0.lock().remove(&cursor.name);
        held.filter(|_| !cursor.fresh)
    });
    let is_lost = cursor.is_some_and(|cursor| !cursor.fresh) && held.is_none();
    if is_lost && crate::mutant!("cursor-lost-ends-scan") {
        return Ok((RangePage { entries: Vec::new(), complete: true }, None));
    }
    let mut open = match held {
        Some(mut held) => held.go_to(shared, order)?.then_some(held),
        None => None,
    };
    let mut open = match open.take() {
        Some(open) => open,
        None => Cursor::open(shared, order)?,
    };
    let page = open.page(order.limit, cursor.is_some())?;
    let before = open.before.clone();
    if let Some(cursor) = cursor
        && !page.complete
    {
        shared.cursors.0.lock().insert(cursor.name, open);
    }
    Ok((page, before))
}

fn entry(key: Bytes, value: Bytes, keys_only: bool) -> Result<(Key, Record), DiskError> {
    let damaged = |what: &str| DiskError::Corruption(format!("a stored {what} does not decode"));
    let key = Key::new(key).map_err(|_| damaged("key"))?;
    match value.first() {
        Some(&causal::HEAD) => return Ok((key, siblings(value, keys_only)?)),
        Some(&register::ACCEPTOR) => {
            return Ok((key, Paged::record(&register::decode(value)?, keys_only)));
        }
        _ => {}
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
fn bounds(unit: Unit, query: &Query, after: &[u8]) -> Option<(Bound<Vec<u8>>, Option<Vec<u8>>)> {
    let base = table_prefix(DATA, unit, query.table);
    let place = |user: &[u8]| {
        let mut key = base.to_vec();
        key.extend_from_slice(user);
        key
    };
    let prefix = &query.prefix[..];
    let (first, end) = (Bound::Included(place(prefix)), successor(place(prefix)));
    if after.is_empty() {
        return Some((first, end));
    }
    if query.reverse {
        let before = place(after);
        let is_inside = end.as_ref().is_none_or(|end| before < *end);
        return (after > prefix).then_some((first, if is_inside { Some(before) } else { end }));
    }
    let start = if after < prefix { first } else { Bound::Excluded(place(after)) };
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
