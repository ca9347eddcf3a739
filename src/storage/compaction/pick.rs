//! Which tables to merge next: a function of the levels and the options, and of nothing else.
//!
//! Leveled compaction as in LevelDB, with the dynamic level sizes of RocksDB: the last level has
//! nearly all data, each level above may hold a tenth of the one below, and levels that would be
//! smaller than the base are left empty, so level 0 is merged straight into the lowest level that
//! makes sense (Dong et al., CIDR 2017). Level 0 counts by how many of its tables overlap, as in
//! Pebble, because that is what a read pays. Does not know how a merge is done.

use std::collections::BTreeSet;

use crate::storage::batch::Seqno;
use crate::storage::files::FileNo;
use crate::storage::levels::{LAST_LEVEL, LEVELS, Levels, overlap, overlap_depth};
use crate::storage::options::Options;
use crate::storage::sstable::TableMeta;

/// Most tables of level 0 in one job, oldest first, so that a job stays of a size.
const LEVEL0_TABLES_MAX: usize = 16;
/// Tables of level 0 that do not overlap cost a comparison each, not a read: they count for less.
const DISJOINT_DISCOUNT: usize = 4;

/// Fixed point of a cost for each byte: fine enough to tell any two apart that matter.
const COST_SCALE: u128 = 1 << 20;

/// What is known of the tables of each level, in their order in it.
#[derive(Debug, Default)]
pub(crate) struct LevelsView<'a> {
    pub(crate) levels: [Vec<&'a TableMeta>; LEVELS],
}

impl<'a> LevelsView<'a> {
    pub(crate) fn of(levels: &'a Levels) -> Self {
        let mut view = Self::default();
        for (level, tables) in view.levels.iter_mut().enumerate() {
            tables.extend(levels.level(level).iter().map(|table| &table.meta));
        }
        view
    }

    fn level(&self, level: usize) -> &[&'a TableMeta] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    fn bytes(&self, level: usize) -> u64 {
        self.level(level).iter().map(|table| table.bytes).sum()
    }

    /// The tables of a level that meet any of `tables`' common range.
    fn overlapping(&self, level: usize, tables: &[&TableMeta]) -> Vec<&'a TableMeta> {
        let Some(smallest) = tables.iter().map(|table| &table.smallest).min() else {
            return Vec::new();
        };
        let Some(largest) = tables.iter().map(|table| &table.largest).max() else {
            return Vec::new();
        };
        let meets = |table: &&&TableMeta| table.smallest <= *largest && *smallest <= table.largest;
        self.level(level).iter().filter(meets).copied().collect()
    }
}

/// Tables to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Tables of level `from`, newest first in level 0, else in key order.
    pub(crate) upper: Vec<FileNo>,
    /// All tables of level `to` that meet the range of the upper ones, in key order.
    pub(crate) lower: Vec<FileNo>,
    /// There is nothing to merge: the one upper table gets another level and keeps its file.
    pub(crate) moved: bool,
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

/// The tables to merge now; `None` when every level is within its bound. Tables in `damaged` are
/// left alone.
pub(crate) fn pick(
    view: &LevelsView<'_>,
    options: &Options,
    damaged: &BTreeSet<FileNo>,
) -> Option<Job> {
    let (base, targets) = targets(view, options);
    // Never above the bound, where writers would wait for a merge that nothing starts.
    let trigger = options.l0_trigger.min(options.l0_depth_max).max(1);
    let tables = view.level(0);
    let depth = overlap_depth(tables).max(tables.len() / DISJOINT_DISCOUNT);
    // Scores are exact: bytes or tables times the others' bound, compared without division.
    let mut scores = vec![(0, depth as u64, trigger as u64)];
    let lower = targets.iter().enumerate().take(LAST_LEVEL).skip(1);
    scores.extend(lower.map(|(level, target)| (level, view.bytes(level), (*target).max(1))));
    scores.retain(|(_, used, bound)| used >= bound && *used > 0);
    scores.sort_by(|(one_level, one, one_bound), (other_level, other, other_bound)| {
        let one = u128::from(*one) * u128::from(*other_bound);
        let other = u128::from(*other) * u128::from(*one_bound);
        other.cmp(&one).then(one_level.cmp(other_level))
    });
    scores.into_iter().find_map(|(level, ..)| match level {
        0 => from_level0(view, base, damaged),
        level => cheapest(view, level, damaged),
    })
}

/// The next step towards having everything up to batch `until` in the last level.
pub(crate) fn pick_all(
    view: &LevelsView<'_>,
    options: &Options,
    damaged: &BTreeSet<FileNo>,
    until: Seqno,
) -> Option<Job> {
    let (base, _) = targets(view, options);
    if view.level(0).last().is_some_and(|oldest| oldest.first <= until)
        && let Some(job) = from_level0(view, base, damaged)
    {
        return Some(job);
    }
    (1..LAST_LEVEL).find_map(|level| {
        let old = view.level(level).iter().filter(|table| table.first <= until);
        old.into_iter().find_map(|table| job(view, (level, level + 1), vec![table], damaged))
    })
}

/// The oldest table of level 0 and all that overlap it, directly or through others. What is left
/// behind is newer than all that goes, or does not meet it.
fn from_level0(view: &LevelsView<'_>, to: usize, damaged: &BTreeSet<FileNo>) -> Option<Job> {
    let tables = view.level(0);
    let mut chosen: BTreeSet<usize> = tables.len().checked_sub(1).into_iter().collect();
    loop {
        let meets = |table: &TableMeta| {
            let mut others = chosen.iter().filter_map(|index| tables.get(*index));
            others.any(|other| overlap(table, other))
        };
        let all = tables.iter().enumerate().filter(|(_, table)| meets(table));
        let all: BTreeSet<usize> = all.map(|(index, _)| index).collect();
        if all == chosen {
            break;
        }
        chosen = all;
    }
    // Oldest first: any beginning of it may go without the rest.
    let oldest_first = chosen.iter().rev().filter_map(|index| tables.get(*index)).copied();
    let sound = oldest_first.take_while(|table| !damaged.contains(&table.no));
    let mut upper: Vec<_> = sound.take(LEVEL0_TABLES_MAX).collect();
    upper.reverse();
    job(view, (0, to), upper, damaged)
}

/// Of the tables of a level the one whose merge rewrites least for its size.
fn cheapest(view: &LevelsView<'_>, level: usize, damaged: &BTreeSet<FileNo>) -> Option<Job> {
    let cost = |table: &TableMeta| -> u64 {
        let below = view.overlapping(level + 1, &[table]);
        below.iter().map(|table| table.bytes).sum()
    };
    let mut tables: Vec<_> = view.level(level).iter().map(|table| (cost(table), *table)).collect();
    // By what is rewritten for each byte moved. Stable: of equals the first.
    tables
        .sort_by_key(|(cost, table)| u128::from(*cost) * COST_SCALE / u128::from(table.bytes + 1));
    tables.into_iter().find_map(|(_, table)| job(view, (level, level + 1), vec![table], damaged))
}

fn job(
    view: &LevelsView<'_>,
    (from, to): (usize, usize),
    upper: Vec<&TableMeta>,
    damaged: &BTreeSet<FileNo>,
) -> Option<Job> {
    let lower = view.overlapping(to, &upper);
    if upper.is_empty() || upper.iter().chain(&lower).any(|table| damaged.contains(&table.no)) {
        return None;
    }
    let below = (to + 1..LEVELS).any(|level| !view.overlapping(level, &upper).is_empty());
    // Deletes under which nothing lies are worth a rewrite: it drops them.
    let needless = |table: &TableMeta| table.deletes > 0 && !below;
    let moved = upper.len() == 1 && lower.is_empty() && !upper.iter().any(|table| needless(table));
    let numbers = |tables: &[&TableMeta]| tables.iter().map(|table| table.no).collect();
    Some(Job { from, to, upper: numbers(&upper), lower: numbers(&lower), moved })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// A table of keys `low..=high` with the batches `first..=last`, ten bytes a key.
    fn table(no: FileNo, keys: (u32, u32), batches: (u64, u64)) -> TableMeta {
        let key = |number: u32| Bytes::from(format!("{number:06}"));
        let entries = u64::from(keys.1 - keys.0 + 1);
        TableMeta {
            no,
            level: 0,
            bytes: entries * 10,
            entries,
            deletes: 0,
            smallest: key(keys.0),
            largest: key(keys.1),
            first: Seqno(batches.0),
            last: Seqno(batches.1),
            purged: Seqno(0),
        }
    }

    fn view<'a>(tables: &'a [(usize, TableMeta)]) -> LevelsView<'a> {
        let mut view = LevelsView::default();
        for (level, table) in tables {
            view.levels[*level].push(table);
        }
        view
    }

    fn options() -> Options {
        Options { level_base_bytes: 1_000, level_fanout: 10, ..Options::default() }
    }

    fn picked(tables: &[(usize, TableMeta)]) -> Option<Job> {
        pick(&view(tables), &options(), &BTreeSet::new())
    }

    /// Tables of level 0, newest first, that all hold keys 0 to 9.
    fn level0(count: u32) -> Vec<(usize, TableMeta)> {
        let batches = |age: u32| (u64::from(age) * 10, u64::from(age) * 10 + 9);
        (0..count).rev().map(|age| (0, table(100 + age, (0, 9), batches(age)))).collect()
    }

    #[test]
    fn nothing_is_merged_below_the_trigger() {
        assert_eq!(picked(&[]), None);
        assert_eq!(picked(&level0(3)), None);
    }

    #[test]
    fn the_trigger_is_never_above_the_bound_on_writes() {
        let options = Options { l0_trigger: 9, l0_depth_max: 2, ..options() };
        let tables = level0(2);
        assert!(pick(&view(&tables[..1]), &options, &BTreeSet::new()).is_none());
        assert!(pick(&view(&tables), &options, &BTreeSet::new()).is_some());
    }

    #[test]
    fn overlapping_tables_of_level_0_go_to_the_last_level_while_all_data_is_small() {
        let mut tables = level0(4);
        tables.push((LAST_LEVEL, table(1, (5, 60), (0, 0))));
        tables.push((LAST_LEVEL, table(2, (70, 90), (0, 0))));
        let job = picked(&tables).unwrap();
        assert_eq!((job.from, job.to, job.moved), (0, LAST_LEVEL, false));
        assert_eq!(job.upper, [103, 102, 101, 100]);
        assert_eq!(job.lower, [1]);
    }

    #[test]
    fn the_base_moves_up_as_the_last_level_grows() {
        let base = |keys: u32| {
            let mut tables = level0(4);
            tables.push((LAST_LEVEL, table(1, (1_000, 999 + keys), (0, 0))));
            picked(&tables).unwrap().to
        };
        assert_eq!(base(100), LAST_LEVEL);
        assert_eq!(base(101), LAST_LEVEL - 1);
        assert_eq!(base(1_000), LAST_LEVEL - 1);
        assert_eq!(base(1_010), LAST_LEVEL - 2);
    }

    #[test]
    fn tables_that_do_not_overlap_count_less_and_are_moved() {
        let tables: Vec<_> = (0..16u32)
            .rev()
            .map(|age| {
                let (low, batch) = (age * 10, u64::from(age));
                (0, table(100 + age, (low, low + 9), (batch, batch)))
            })
            .collect();
        assert_eq!(picked(&tables[..15]), None);
        let job = picked(&tables).unwrap();
        assert_eq!((job.upper, job.lower, job.moved), (vec![100], vec![], true));
    }

    #[test]
    fn what_overlaps_through_another_table_goes_along_and_nothing_older_stays() {
        let mut tables = level0(5);
        // Newer than all, it meets the others only through table 105.
        tables.insert(0, (0, table(105, (9, 20), (50, 59))));
        tables.insert(0, (0, table(106, (20, 30), (60, 69))));
        tables.insert(0, (0, table(107, (40, 50), (70, 79))));
        let job = picked(&tables).unwrap();
        assert_eq!(job.upper, [106, 105, 104, 103, 102, 101, 100]);
        // A job is bounded from the newest side.
        let job = picked(&level0(20)).unwrap();
        assert_eq!(job.upper.len(), LEVEL0_TABLES_MAX);
        assert_eq!(job.upper.last(), Some(&100));
    }

    #[test]
    fn a_level_over_its_bound_sends_down_the_table_that_costs_least() {
        let tables = [
            (5, table(1, (0, 49), (9, 9))),
            (5, table(2, (50, 99), (9, 9))),
            (6, table(3, (0, 49), (1, 1))),
            (6, table(4, (50, 55), (1, 1))),
            (6, table(5, (200, 300), (1, 1))),
        ];
        let job = picked(&tables).unwrap();
        assert_eq!((job.from, job.to), (5, 6));
        assert_eq!((job.upper, job.lower), (vec![2], vec![4]));
    }

    #[test]
    fn deletes_with_nothing_below_are_rewritten_not_moved() {
        let mut tables = vec![(5, table(1, (0, 400), (9, 9))), (6, table(2, (500, 510), (1, 1)))];
        assert!(picked(&tables).unwrap().moved);
        tables[0].1.deletes = 1;
        assert!(!picked(&tables).unwrap().moved);
    }

    #[test]
    fn damaged_tables_are_left_alone() {
        let mut tables = level0(6);
        let of = |damaged: &[FileNo], tables: &[(usize, TableMeta)]| {
            pick(&view(tables), &options(), &damaged.iter().copied().collect())
        };
        assert_eq!(of(&[103], &tables).unwrap().upper, [102, 101, 100]);
        assert_eq!(of(&[100], &tables), None);
        tables.push((LAST_LEVEL, table(1, (5, 60), (0, 0))));
        assert_eq!(of(&[1], &tables), None);
    }

    #[test]
    fn everything_reaches_the_last_level_in_the_end() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut tables = level0(3);
        tables.extend((1..LAST_LEVEL).flat_map(|level| {
            let no = FileNo::try_from(level).unwrap();
            [(level, table(no, (0, 20), (1, 1))), (level, table(no + 10, (30, 90), (2, 9)))]
        }));
        for _ in 0..100 {
            let picked = pick_all(&view(&tables), &options(), &BTreeSet::new(), Seqno(29));
            let Some(job) = picked else { break };
            assert!(job.from < job.to);
            // What a merge does to the levels, roughly: one table in place of all.
            let goes = |no: &FileNo| job.upper.contains(no) || job.lower.contains(no);
            let (gone, mut left): (Vec<_>, Vec<_>) =
                tables.into_iter().partition(|(_, table)| goes(&table.no));
            let mut merged = gone[0].1.clone();
            for (_, table) in &gone {
                merged.smallest = merged.smallest.min(table.smallest.clone());
                merged.largest = merged.largest.max(table.largest.clone());
                merged.first = merged.first.min(table.first);
                merged.bytes += rng.u64(..table.bytes);
            }
            merged.no = 1_000 + rng.u32(..);
            left.push((job.to, merged));
            left.sort_by(|(_, one), (_, other)| one.smallest.cmp(&other.smallest));
            tables = left;
        }
        assert!(tables.iter().all(|(level, _)| *level == LAST_LEVEL), "{tables:?}");
    }
}
