//! Level 0: which of its tables are merged together, and where a flush may end a table so that
//! later not all of them have to be.
//!
//! The tables of level 0 overlap, and one may go down only with all older ones that meet it. If
//! every flush covered all keys, every job would take everything. So a flush is cut, at edges that
//! no waiting table lies across, into columns: tables of one column meet only each other, and a job
//! takes one column (after the flush split keys and sublevels of Pebble, which counts the depth of
//! each stretch of keys in the same way). A column is as deep as many tables in it hold one key.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::view::{Avoid, LevelsView};
use crate::storage::levels::{Sweep, overlap, overlap_depth, stretches};
use crate::storage::sstable::TableMeta;

/// Most tables of level 0 in one job, oldest first, so that a job stays of a size.
pub(super) const LEVEL0_TABLES_MAX: usize = 16;
/// So many tables of level 0 that do not overlap count as one that does: they cost a comparison
/// each, not a read. A flush makes at most so many.
pub(super) const DISJOINT_DISCOUNT: usize = 32;

/// How deep level 0 is where it is deepest, leaving out what is being merged already.
pub(super) fn depth(view: &LevelsView<'_>, avoid: &Avoid) -> Depth {
    let waiting = |table: &&&TableMeta| !avoid.is_busy(table.no);
    let tables: Vec<_> = view.level(0).iter().filter(waiting).copied().collect();
    let deepest = overlap_depth(&tables);
    Depth { deepest, counted: deepest.max(tables.len() / DISJOINT_DISCOUNT) }
}

/// See [`depth`].
pub(super) struct Depth {
    /// Most waiting tables that hold one key.
    pub(super) deepest: usize,
    /// The same, or more if there are many tables in all.
    pub(super) counted: usize,
}

/// The stacks of tables that a job may take from level 0, the deepest first: each newest first,
/// each with everything older that meets it, and none with a table that cannot be taken. Where
/// fewer than `least` tables wait there is none. Each is made when it is asked for: most often the
/// first is taken.
pub(super) fn columns<'v, 'a>(
    view: &'v LevelsView<'a>,
    avoid: &'v Avoid,
    least: usize,
    bytes_max: u64,
) -> impl Iterator<Item = Vec<&'a TableMeta>> + use<'v, 'a> {
    let tables = view.level(0);
    let waiting = |table: &&&'a TableMeta| !avoid.is_busy(table.no);
    let ranges = tables.iter().filter(waiting).map(|table| (&table.smallest, &table.largest));
    let sweep = Sweep::new(ranges.clone());
    // The deepest point of a set of ranges is where one of them begins.
    let begins: BTreeSet<&Bytes> = ranges.map(|(begin, _)| begin).collect();
    let mut points: Vec<_> = begins.into_iter().map(|key| (sweep.depth_at(&key), key)).collect();
    points.retain(|(depth, _)| *depth >= least);
    // Stable: of equals the lowest key.
    points.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    let stacks = points.into_iter().map(move |(_, key)| stack(tables, key, avoid, bytes_max));
    let mut seen = BTreeSet::new();
    // Many points lead to the same stack.
    stacks.filter(move |stack| {
        stack.first().is_some_and(|newest| seen.insert((newest.no, stack.len())))
    })
}

/// The tables that hold `key`, from the oldest up, with all that must go along, as far as they can
/// be taken and the job stays of a size.
pub(super) fn stack<'a>(
    tables: &[&'a TableMeta],
    key: &Bytes,
    avoid: &Avoid,
    bytes_max: u64,
) -> Vec<&'a TableMeta> {
    let of = |chosen: &BTreeSet<usize>| -> Vec<&'a TableMeta> {
        chosen.iter().filter_map(|index| tables.get(*index)).copied().collect()
    };
    let mut chosen = BTreeSet::new();
    for (index, table) in tables.iter().enumerate().rev() {
        if !(table.smallest <= *key && *key <= table.largest) || chosen.contains(&index) {
            continue;
        }
        let mut wider = chosen.clone();
        wider.insert(index);
        with_older(tables, &mut wider);
        let bytes: u64 = of(&wider).iter().map(|table| table.bytes).sum();
        let is_closed = of(&wider).iter().any(|table| avoid.is_closed(table.no));
        let too_much = wider.len() > LEVEL0_TABLES_MAX || bytes > bytes_max;
        if chosen.is_empty() {
            // Oldest first, so any beginning of it may go without the rest.
            let oldest_first = wider.iter().rev();
            let mut room = bytes_max;
            let beginning = oldest_first.take_while(|index| {
                let Some(table) = tables.get(**index) else { return false };
                let fits = room > 0 && !avoid.is_closed(table.no);
                room = room.saturating_sub(table.bytes);
                fits
            });
            chosen = beginning.take(LEVEL0_TABLES_MAX).copied().collect();
            if is_closed || too_much {
                break;
            }
        } else if is_closed || too_much {
            break;
        } else {
            chosen = wider;
        }
    }
    of(&chosen)
}

/// Adds everything older that meets what is chosen. In one pass: what is added is older still.
fn with_older(tables: &[&TableMeta], chosen: &mut BTreeSet<usize>) {
    if crate::mutant!("storage-compaction-leaves-older") {
        return;
    }
    for (index, table) in tables.iter().enumerate() {
        if chosen.contains(&index) {
            let older = tables.iter().enumerate().skip(index + 1);
            let meets = older.filter(|(_, other)| overlap(table, other));
            let meets: Vec<usize> = meets.map(|(index, _)| index).collect();
            chosen.extend(meets);
        }
    }
}

/// The stretches of keys, from a first to a last one, in order and disjoint, inside which a flush may
/// not end a table: there a waiting table of level 0 or one of the level that it is merged into would
/// lie across, and both halves would meet it. Each begins where a table does. That is what makes
/// columns keep: a table of level 0 begins where the one below does or later, so the next flush comes
/// to the lower one's beginning first, and cuts there again.
pub(super) fn blocks(view: &LevelsView<'_>, base: usize, avoid: &Avoid) -> Vec<(Bytes, Bytes)> {
    let waiting = |table: &&&TableMeta| !avoid.is_busy(table.no);
    let upper = view.level(0).iter().filter(waiting);
    stretches(upper.chain(view.level(base)).copied())
}
