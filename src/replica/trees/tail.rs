//! From where a tree was on file to where its store was found at boot: what the log had behind it.
//!
//! A tree on file counts the store as it was after one batch. Later batches are in memory, all of
//! them, since the log is kept up to what is on file; each version with the number of its batch. So
//! the store of then can still be read beside the store of now, and each key that was changed
//! meanwhile is told the tree once, whatever became of it between.

use std::sync::Arc;

use super::counted::Changed;
use super::scan;
use crate::message::DiskError;
use crate::repair::tree::{Place, Tree};
use crate::replica::keyspace::{
    DATA, PREFIX_BYTES, UNIT_BYTES, is_sibling, table_of, table_prefix, unit_prefix,
};
use crate::replica::{disk_error, trees::SEED};
use crate::storage::{KeyRange, Seqno, Snapshot};
use crate::types::{TableId, Unit};

/// Keys that are read at once, each as it was and as it is: values may be long.
const PAGE_KEYS: usize = 64;
/// What is told of a unit before its tree is caught up, at most, in entries.
const TOLD_MAX: usize = 1 << 16;

/// The store as it was found at boot.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) snapshot: Snapshot,
    /// Of units that had no tree on file there was nothing after this batch.
    pub(super) number: Seqno,
}

/// A tree as it was on file.
#[derive(Debug)]
pub(super) struct Behind {
    tree: Tree,
    /// It counts the store as it was after this batch.
    number: Seqno,
    opening: Arc<Opening>,
    /// What was told since boot.
    told: Vec<Changed>,
}

/// What has become of a unit between two batches.
#[derive(Debug, Default)]
pub(super) struct Tail {
    is_emptied: bool,
    dropped: Vec<TableId>,
    pub(super) changed: Vec<Changed>,
}

impl Behind {
    pub(super) fn new(tree: Tree, number: Seqno, opening: &Arc<Opening>) -> Behind {
        Behind { tree, number, opening: Arc::clone(opening), told: Vec::new() }
    }

    /// Notes what is told meanwhile. Returns whether that can go on: if not, the tree has to be built.
    pub(super) fn tell(&mut self, changed: &[Changed]) -> bool {
        self.told.extend_from_slice(changed);
        self.told.len() <= TOLD_MAX
    }

    /// What is to be read to catch up: see [`read`].
    pub(super) fn what(&self) -> (Arc<Opening>, Seqno) {
        (Arc::clone(&self.opening), self.number)
    }

    /// The tree of now.
    pub(super) fn caught_up(self, tail: Tail) -> Tree {
        let Behind { mut tree, told, .. } = self;
        if tail.is_emptied {
            tree = Tree::empty(SEED);
        }
        tail.dropped.into_iter().for_each(|table| tree.drop_table(table));
        let changed = match crate::mutant!("tree-tail-not-replayed") {
            true => Vec::new(),
            false => tail.changed,
        };
        for Changed { place, before, after } in changed.into_iter().chain(told) {
            tree.change(&place, before, after);
        }
        tree
    }
}

/// What has become of a unit from a batch to the opening. `None` where that is not to be told: the
/// tree is built then.
///
/// # Errors
/// What reading meets.
pub(super) fn read(
    opening: &Opening,
    unit: Unit,
    number: Seqno,
) -> Result<Option<Tail>, DiskError> {
    let now = &opening.snapshot;
    let range = KeyRange::prefix(&unit_prefix(DATA, unit));
    let Some(since) = now.since(&range, number) else { return Ok(None) };
    let Some(mut tail) = deleted(unit, &range, &since.deleted) else { return Ok(None) };
    let then = now.at(number);
    let heads: Vec<_> = since.keys.iter().filter(|key| !is_sibling(key)).collect();
    for keys in heads.chunks(PAGE_KEYS) {
        let pairs = then.multi_get(keys).into_iter().zip(now.multi_get(keys));
        for (key, (before, after)) in keys.iter().zip(pairs) {
            let place = key.get(UNIT_BYTES..).and_then(Place::from_bytes);
            let place = place.ok_or_else(|| scan::damaged("key"))?;
            let print = |found: Result<Option<(bytes::Bytes, Seqno)>, _>| {
                let found = found.map_err(|error| disk_error(&error))?;
                found.map_or(Ok(None), |(value, _)| scan::print(&place, &value))
            };
            let is_gone =
                tail.is_emptied || place.table().is_some_and(|table| tail.dropped.contains(&table));
            // What was there has left the tree with its table.
            let before = if is_gone { None } else { print(before)? };
            let after = print(after)?;
            if before != after {
                tail.changed.push(Changed { place, before, after });
            }
        }
    }
    Ok(Some(tail))
}

/// What deleted ranges have left of a unit; `None` where they have deleted a part that is no table.
fn deleted(unit: Unit, all: &KeyRange, ranges: &[KeyRange]) -> Option<Tail> {
    let mut tail = Tail::default();
    for range in ranges {
        let has_end = |end: Option<&[u8]>| match (range.end(), end) {
            (Some(one), Some(other)) => one >= other,
            (end, _) => end.is_none(),
        };
        if range.start() <= all.start() && has_end(all.end()) {
            tail.is_emptied = true;
            continue;
        }
        let start = range.start();
        if start.len() != PREFIX_BYTES {
            return None;
        }
        let table = table_of(start)?;
        if is_sibling(start) && *range == KeyRange::prefix(start) {
            // Values of siblings are not counted.
            continue;
        }
        if *range != KeyRange::prefix(&table_prefix(DATA, unit, table)) {
            return None;
        }
        tail.dropped.push(table);
    }
    Some(tail)
}
