//! Which tables to merge next: a function of the levels, the options, what is being merged
//! already, and of nothing else.
//!
//! Leveled compaction as in LevelDB, with the dynamic level sizes of RocksDB: the last level has
//! nearly all data, each level above may hold a tenth of the one below, and levels that would be
//! smaller than the base are left empty, so level 0 is merged straight into the lowest level that
//! makes sense (Dong et al., CIDR 2017). Level 0 counts by how many of its tables overlap, as in
//! Pebble, because that is what a read pays. What is over its bound comes first, then what someone
//! asked for, then tables full of deletes or of what the caller's filter lets go; what merely gives
//! room back waits until nothing else is to do. Does not know how a merge is done.

use super::cut::unit_of;
use super::level0;
use super::view::{Avoid, Job, LevelsView, Reason, Span};
use crate::storage::batch::Seqno;
use crate::storage::files::FileNo;
use crate::storage::key_range::KeyRange;
use crate::storage::levels::{LAST_LEVEL, LEVELS};
use crate::storage::options::Options;
use crate::storage::sstable::TableMeta;

/// Fixed point of a cost for each byte: fine enough to tell any two apart that matter.
const COST_SCALE: u128 = 1 << 20;
/// Most bytes of a job, in full tables: from level 0 as much, and with what is taken along because
/// it makes no other table necessary.
const JOB_TABLES_MAX: u64 = 16;
/// A table that meets more than this of the level after next, in full tables, is not moved but cut.
const OVERLAP_TABLES_MAX: u64 = 10;
/// A table of which one entry in so many is a delete goes down for that alone.
const DENSE_DELETES: u64 = 4;
/// A table of which one byte in so many may be dropped is merged for that alone.
const DENSE_DROPPABLE: u64 = 4;
/// A delete is taken down early only while so many entries at most are rewritten for it.
const ENTRIES_PER_DELETE: u64 = 2;
/// A column of level 0 is light if it has less than one byte for so many that its merge would rewrite
/// below. It may grow to this many times the usual depth, so that a small table that happens to meet
/// all keys does not cost what a full memtable is worth.
const LIGHT_SHARE: u64 = 4;
const LIGHT_DEPTHS: usize = 2;
/// In idle times level 0 is merged as far as it may hide more than one byte in so many of the rest:
/// soon, by newer versions and by deletes, and after a long while.
const IDLE_SHARE: u64 = 4;
/// A merge for deletes gives back at least as much as it writes: more can wait until it is sure that
/// no more of them come.
const IDLE_SHARE_DELETED: u64 = 2;
const IDLE_SHARE_LONG: u64 = 12;

/// What someone wants to have in the last level.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// These keys,
    pub(crate) range: KeyRange,
    /// as far as they were written by these batches.
    pub(crate) until: Seqno,
    /// Tables from this number on came after the question.
    pub(crate) before: FileNo,
}

impl Asked {
    fn covers(&self, table: &TableMeta) -> bool {
        table.first <= self.until && self.range.meets(&table.smallest, &table.largest)
    }
}

/// For how long little has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Some moments: more may come, and would make merges of now needless.
    Short,
    /// So long that what is there can be taken to stay as it is.
    Long,
}

/// The level that level 0 is merged into.
pub(super) fn base(view: &LevelsView<'_>, options: &Options) -> usize {
    targets(view, options).0
}

/// The level that level 0 is merged into, and the bytes each level may hold.
fn targets(view: &LevelsView<'_>, options: &Options) -> (usize, [u64; LEVELS]) {
    let fanout = options.level_fanout.max(2);
    let mut targets = [0; LEVELS];
    let mut base = LAST_LEVEL;
    let mut target = (1..LEVELS).map(|level| view.bytes(level)).max().unwrap_or(0);
    for (level, slot) in targets.iter_mut().enumerate().skip(1).rev() {
        *slot = target.max(1);
        if target <= options.level_base_bytes || level == 1 {
            // What level 0 sends fits here: the levels above are not needed.
            break;
        }
        base = level - 1;
        target /= fanout;
    }
    // A level above the base that still has tables must stay below level 0, and must drain.
    let highest = (1..LEVELS).find(|level| !view.level(*level).is_empty());
    (base.min(highest.unwrap_or(base)), targets)
}

/// Bytes of a level that no job is taking away.
fn staying(view: &LevelsView<'_>, level: usize, avoid: &Avoid) -> u64 {
    let leaves = |table: &TableMeta| {
        avoid.running.values().any(|job| job.from == level && job.upper.contains(&table.no))
    };
    view.level(level).iter().filter(|table| !leaves(table)).map(|table| table.bytes).sum()
}

/// How deep level 0 may be. Never above the bound, where writers would wait for a merge that nothing
/// starts.
fn trigger(options: &Options) -> usize {
    options.l0_trigger.min(options.l0_depth_max).max(1)
}

/// How deep it may be where what is deep is light.
fn light_trigger(options: &Options) -> usize {
    let deep = trigger(options).saturating_mul(LIGHT_DEPTHS);
    deep.min(options.l0_depth_max).max(trigger(options))
}

/// How deep level 0 may be just now: more than usual if all that is so deep is light.
fn depth_bound(view: &LevelsView<'_>, options: &Options, avoid: &Avoid) -> usize {
    let picking = Picking { view, options, avoid };
    let deepest = level0::depth(view, avoid).deepest;
    let may_wait = (trigger(options)..light_trigger(options)).contains(&deepest);
    let is_light = may_wait && picking.columns(trigger(options)).all(|one| picking.is_light(&one));
    if is_light { light_trigger(options) } else { trigger(options) }
}

/// How full each level is that has reached its bound, as what it holds and what it may, fullest
/// first.
fn overfull(view: &LevelsView<'_>, options: &Options, avoid: &Avoid) -> Vec<(usize, u64, u64)> {
    let (_, targets) = targets(view, options);
    let depth = level0::depth(view, avoid).counted;
    let mut scores = vec![(0, depth as u64, depth_bound(view, options, avoid) as u64)];
    let lower = targets.iter().enumerate().take(LAST_LEVEL).skip(1);
    scores.extend(lower.map(|(level, most)| (level, staying(view, level, avoid), (*most).max(1))));
    scores.retain(|(_, used, bound)| used >= bound && *used > 0);
    // Scores are exact: bytes or tables times the others' bound, compared without division.
    scores.sort_by(|(one_level, one, one_bound), (other_level, other, other_bound)| {
        let one = u128::from(*one) * u128::from(*other_bound);
        let other = u128::from(*other) * u128::from(*one_bound);
        other.cmp(&one).then(one_level.cmp(other_level))
    });
    scores
}

/// A job for a level that is over its bound; `None` when there is none, or all that could be merged
/// is being merged. Asked again with that job among those on their way, it gives one that can run
/// beside it.
pub(crate) fn pick(view: &LevelsView<'_>, options: &Options, avoid: &Avoid) -> Option<Job> {
    let picking = Picking { view, options, avoid };
    overfull(view, options, avoid).into_iter().find_map(|(level, ..)| match level {
        0 => {
            // Where it is not deep it can wait; unless it is many tables that count, not depth.
            let depth = level0::depth(view, avoid);
            match trigger(options) {
                trigger if depth.deepest < trigger => picking.deepest(Reason::Depth, 1),
                _ if depth.counted < light_trigger(options) => picking.heaviest(),
                trigger => picking.deepest(Reason::Depth, trigger),
            }
        }
        level => picking.cheapest(level),
    })
}

/// The next step towards having what someone asked for in the last level, without what the filter
/// lets go.
pub(crate) fn pick_asked(
    view: &LevelsView<'_>,
    options: &Options,
    avoid: &Avoid,
    asked: &Asked,
) -> Option<Job> {
    let picking = Picking { view, options, avoid };
    let oldest_first = view.level(0).iter().rev().filter(|table| asked.covers(table));
    for table in oldest_first {
        let upper = level0::stack(view.level(0), &table.smallest, avoid, picking.job_bytes_max());
        if let Some(job) = picking.job(Reason::Asked, (0, base(view, options)), upper) {
            return Some(job);
        }
    }
    (1..LEVELS).find_map(|level| {
        let wanted = view.level(level).iter().filter(|table| {
            let droppable = table.no < asked.before && view.passed_bytes(table) > 0;
            asked.covers(table) && (level < LAST_LEVEL || droppable)
        });
        let mut tables = wanted.filter(|table| !avoid.futile.contains(&table.no));
        tables.find_map(|table| picking.down(Reason::Asked, level, table))
    })
}

/// Whether a job on its way has to do with what someone asked for.
pub(crate) fn is_under_way(avoid: &Avoid, asked: &Asked) -> bool {
    avoid.running.values().any(|job| job.span.is_in(&asked.range))
}

/// Whether so many of a table's entries are deletes that it should not stay as it is.
fn is_dense(table: &TableMeta) -> bool {
    table.deletes > 0 && table.deletes.saturating_mul(DENSE_DELETES) >= table.entries
}

/// A table that is worth a merge for the deletes in it, or for what the filter lets go by now.
pub(crate) fn pick_dense(view: &LevelsView<'_>, options: &Options, avoid: &Avoid) -> Option<Job> {
    let picking = Picking { view, options, avoid };
    let reason = |level: usize, table: &TableMeta| {
        let passed = view.passed_bytes(table);
        let droppable = passed > 0 && passed.saturating_mul(DENSE_DROPPABLE) >= table.bytes;
        if droppable && !avoid.futile.contains(&table.no) {
            return Some(Reason::Droppable);
        }
        // In the last level they came with a table from elsewhere, and a rewrite drops them all.
        (is_dense(table) && picking.deletes_pay(level, table)).then_some(Reason::Deletes)
    };
    (1..LEVELS).rev().find_map(|level| {
        let mut tables = view.level(level).iter();
        tables.find_map(|table| picking.down(reason(level, table)?, level, table))
    })
}

/// A job that writes one table anew where it stands.
pub(super) fn rewrite(
    view: &LevelsView<'_>,
    options: &Options,
    avoid: &Avoid,
    (reason, level, table): (Reason, usize, &TableMeta),
) -> Option<Job> {
    let table = view.level(level).iter().find(|other| other.no == table.no)?;
    let picking = Picking { view, options, avoid };
    picking.job(reason, (level, level), vec![table])
}

/// What gives room back without need: level 0, tables of which the filter lets go all that it ever
/// will, and after a long rest those that are full of deletes. Level 0 is not merged to its end:
/// every table of it that goes rewrites what it meets below, for ever less.
pub(crate) fn pick_idle(
    view: &LevelsView<'_>,
    options: &Options,
    avoid: &Avoid,
    rest: Rest,
) -> Option<Job> {
    let picking = Picking { view, options, avoid };
    let (by_versions, by_deletes) = match rest {
        Rest::Short => (IDLE_SHARE, IDLE_SHARE_DELETED),
        Rest::Long => (IDLE_SHARE_LONG, IDLE_SHARE_LONG),
    };
    let Hidden { versions, deleted, below } = picking.hidden();
    let hides_much =
        versions.saturating_mul(by_versions) > below || deleted.saturating_mul(by_deletes) > below;
    if hides_much && let Some(job) = picking.deepest(Reason::Idle, 1) {
        return Some(job);
    }
    let is_ripe = |table: &TableMeta| {
        let deletes = rest == Rest::Long && is_dense(table);
        deletes || view.has_passed(table) && !avoid.futile.contains(&table.no)
    };
    (1..LEVELS).rev().find_map(|level| {
        let mut tables = view.level(level).iter().filter(|table| is_ripe(table));
        tables.find_map(|table| picking.down(Reason::Idle, level, table))
    })
}

/// About how many bytes have to be merged until every level is within its bound.
pub(crate) fn debt(view: &LevelsView<'_>, options: &Options) -> u64 {
    let (base, targets) = targets(view, options);
    let none = Avoid::default();
    let is_due = level0::depth(view, &none).deepest >= depth_bound(view, options, &none);
    let upper = if is_due { view.bytes(0) } else { 0 };
    let lower = if is_due { view.bytes(base) } else { 0 };
    // What comes down counts for the levels below, each of which rewrites its share.
    let mut debt = upper + lower;
    let mut coming = upper;
    for (level, most) in targets.iter().enumerate().take(LAST_LEVEL).skip(base) {
        let excess = (view.bytes(level) + coming).saturating_sub(*most);
        debt = debt.saturating_add(excess.saturating_mul(options.level_fanout.saturating_add(1)));
        coming = excess;
    }
    debt
}

/// How many bytes of the levels below level 0 may hide at most.
struct Hidden {
    /// By newer versions: as many as it has itself.
    versions: u64,
    /// By deletes: for each an entry of the usual size.
    deleted: u64,
    /// Bytes of the levels below.
    below: u64,
}

/// What all choices are made from.
struct Picking<'v, 'a> {
    view: &'v LevelsView<'a>,
    options: &'v Options,
    avoid: &'v Avoid,
}

impl<'a> Picking<'_, 'a> {
    fn job_bytes_max(&self) -> u64 {
        self.options.table_bytes.max(1).saturating_mul(JOB_TABLES_MAX)
    }

    /// What the waiting tables of level 0 may hide.
    fn hidden(&self) -> Hidden {
        let below = (1..LEVELS).flat_map(|level| self.view.level(level));
        let (bytes, entries) = below.fold((0, 0), |(bytes, entries): (u64, u64), table| {
            (bytes + table.bytes, entries + table.entries)
        });
        let usual = bytes / entries.max(1);
        let waiting = self.view.level(0).iter().filter(|table| !self.avoid.is_busy(table.no));
        waiting.fold(Hidden { versions: 0, deleted: 0, below: bytes }, |sum, table| Hidden {
            versions: sum.versions + table.bytes,
            deleted: sum.deleted.saturating_add(table.deletes.saturating_mul(usual)),
            ..sum
        })
    }

    /// Whether the deletes of a table are enough for what would be rewritten to drop them.
    fn deletes_pay(&self, level: usize, table: &TableMeta) -> bool {
        let span = Span::of([&table]).filter(|_| level < LAST_LEVEL);
        let below = span.map(|span| self.view.meeting(level + 1, &span)).unwrap_or_default();
        let entries: u64 = below.iter().map(|table| table.entries).sum();
        entries <= table.deletes.saturating_mul(ENTRIES_PER_DELETE)
    }

    /// The columns of level 0 in which at least so many tables wait, the deepest first.
    fn columns(&self, least: usize) -> impl Iterator<Item = Vec<&'a TableMeta>> {
        level0::columns(self.view, self.avoid, least, self.job_bytes_max())
    }

    /// Whether a column is small for what its merge would rewrite below.
    fn is_light(&self, column: &[&TableMeta]) -> bool {
        let bytes: u64 = column.iter().map(|table| table.bytes).sum();
        let to = base(self.view, self.options);
        let below = Span::of(column).map(|span| self.view.meeting(to, &span)).unwrap_or_default();
        let rewritten: u64 = below.iter().map(|table| table.bytes).sum();
        bytes.saturating_mul(LIGHT_SHARE) < rewritten
    }

    /// The deepest column of level 0 that can be taken, if at least so many tables wait in it.
    fn deepest(&self, reason: Reason, least: usize) -> Option<Job> {
        let to = base(self.view, self.options);
        self.columns(least).find_map(|upper| self.job(reason, (0, to), upper))
    }

    /// The deepest column of level 0 that is as deep as it may be, can be taken and is not light.
    fn heaviest(&self) -> Option<Job> {
        let to = base(self.view, self.options);
        let mut heavy = self.columns(trigger(self.options)).filter(|one| !self.is_light(one));
        heavy.find_map(|upper| self.job(Reason::Depth, (0, to), upper))
    }

    /// Of the tables of a level the one whose merge rewrites least for its size.
    fn cheapest(&self, level: usize) -> Option<Job> {
        let cost = |table: &TableMeta| -> u64 {
            let span = Span::of([&table]);
            let below = span.map(|span| self.view.meeting(level + 1, &span)).unwrap_or_default();
            below.iter().map(|table| table.bytes).sum()
        };
        let tables = self.view.level(level).iter();
        let mut tables: Vec<_> = tables.map(|table| (cost(table), *table)).collect();
        // By what is rewritten for each byte moved. Stable: of equals the first.
        tables.sort_by_key(|(cost, table)| {
            u128::from(*cost) * COST_SCALE / u128::from(table.bytes + 1)
        });
        let to = level + 1;
        tables.into_iter().find_map(|(_, table)| self.job(Reason::Size, (level, to), vec![table]))
    }

    /// A job that takes one table a level down, or, in the last, writes it anew.
    fn down(&self, reason: Reason, level: usize, table: &'a TableMeta) -> Option<Job> {
        self.job(reason, (level, (level + 1).min(LAST_LEVEL)), vec![table])
    }

    /// The job that merges `upper`, if all that it needs can be taken.
    fn job(
        &self,
        reason: Reason,
        (from, to): (usize, usize),
        mut upper: Vec<&'a TableMeta>,
    ) -> Option<Job> {
        let mut span = Span::of(&upper)?;
        let mut lower = if from == to { Vec::new() } else { self.view.meeting(to, &span) };
        if from > 0 && from < to && !lower.is_empty() {
            (upper, lower) = self.widened((from, to), upper, lower);
        }
        let all = || upper.iter().chain(&lower);
        if all().any(|table| self.avoid.is_closed(table.no)) {
            return None;
        }
        let upper_span = Span::of(&upper)?;
        span = Span::of(all())?;
        if self.avoid.crosses(to, &span) {
            return None;
        }
        let moved = from != to && lower.is_empty() && self.may_move(to, &upper, &upper_span);
        let numbers = |tables: &[&TableMeta]| tables.iter().map(|table| table.no).collect();
        Some(Job {
            reason,
            from,
            to,
            moved,
            bytes: all().map(|table| table.bytes).sum(),
            upper: numbers(&upper),
            lower: numbers(&lower),
            span,
        })
    }

    /// Takes along more tables of the upper level that need no other of the lower one: what is
    /// rewritten there is rewritten once for all of them (LevelDB).
    fn widened(
        &self,
        (from, to): (usize, usize),
        upper: Vec<&'a TableMeta>,
        lower: Vec<&'a TableMeta>,
    ) -> (Vec<&'a TableMeta>, Vec<&'a TableMeta>) {
        let Some(span) = Span::of(upper.iter().chain(&lower)) else { return (upper, lower) };
        let inside =
            |table: &&TableMeta| span.smallest <= table.smallest && table.largest <= span.largest;
        let wider = self.view.meeting(from, &span).into_iter().filter(inside);
        let wider: Vec<_> = wider.filter(|table| !self.avoid.is_closed(table.no)).collect();
        let bytes: u64 = wider.iter().chain(&lower).map(|table| table.bytes).sum();
        let lower_of =
            |upper: &[&TableMeta]| Span::of(upper).map(|span| self.view.meeting(to, &span));
        let same = lower_of(&wider).is_some_and(|wide| wide.len() == lower.len());
        let holds_all = upper.iter().all(|table| wider.iter().any(|other| other.no == table.no));
        match same && holds_all && bytes <= self.job_bytes_max() {
            true => (wider, lower),
            false => (upper, lower),
        }
    }

    /// Whether tables that meet none of their new level can just be put there.
    fn may_move(&self, to: usize, upper: &[&TableMeta], span: &Span) -> bool {
        let [table] = upper else { return false };
        // Deletes under which nothing lies are worth a rewrite: it drops them.
        let needless = table.deletes > 0 && !self.view.any_below(to, span);
        let below = self.view.meeting(to + 1, span);
        let overlap: u64 = below.iter().map(|table| table.bytes).sum();
        let too_wide = overlap > self.options.table_bytes.saturating_mul(OVERLAP_TABLES_MAX);
        // In the last level units are to be apart: only a rewrite cuts.
        let unit = |key| unit_of(key, self.options.unit_prefix_bytes);
        let is_mixed = to == LAST_LEVEL && unit(&table.smallest) != unit(&table.largest);
        !needless && !too_wide && !is_mixed && self.view.passed_bytes(table) == 0
    }
}

#[cfg(test)]
mod tests;
