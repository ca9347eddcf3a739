//! Cases of `pick`, as tables of tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::storage::sstable::Droppable;

/// What the filter of these cases lets go: points up to here.
const HORIZON: u64 = 1_000;

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
        droppable: Droppable::default(),
        adopted: None,
        blobs: Arc::default(),
    }
}

fn view(tables: &[(usize, TableMeta)]) -> LevelsView<'_> {
    LevelsView::from_ordered(tables.iter().map(|(level, table)| (*level, table)), |_| HORIZON)
}

fn options() -> Options {
    Options { l0_trigger: 4, level_base_bytes: 1_000, level_fanout: 10, ..Options::default() }
}

fn picked(tables: &[(usize, TableMeta)]) -> Option<Job> {
    pick(&view(tables), &options(), &Avoid::default())
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
fn what_is_small_for_what_it_meets_below_may_be_twice_as_deep() {
    let options = Options { level_base_bytes: 10_000, ..options() };
    let picked = |tables: &[(usize, TableMeta)]| pick(&view(tables), &options, &Avoid::default());
    let below = |keys: u32| vec![(LAST_LEVEL, table(1, (0, keys - 1), (0, 0)))];
    let upper = |count, keys| {
        let job = picked(&[level0(count), below(keys)].concat());
        job.map(|job| (job.reason, job.upper.len(), job.lower.len()))
    };
    // Four tables of 100 bytes: a quarter of 1,600.
    assert_eq!(upper(4, 160), Some((Reason::Depth, 4, 1)));
    assert_eq!(upper(4, 161), None);
    assert_eq!(upper(7, 281), None);
    assert_eq!(upper(7, 280), Some((Reason::Depth, 7, 1)));
    assert_eq!(upper(8, 900), Some((Reason::Depth, 8, 1)));
    // A heavy column beside a deeper light one is merged alone.
    let beside = |age: u32| {
        let batches = (u64::from(age) * 10, u64::from(age) * 10 + 9);
        (0, TableMeta { bytes: 5_000, ..table(200 + age, (10_000, 10_009), batches) })
    };
    let heavy: Vec<_> = (10..14).rev().map(beside).collect();
    let job = picked(&[heavy, level0(5), below(999)].concat()).unwrap();
    assert_eq!((job.upper, job.lower), (vec![213, 212, 211, 210], Vec::new()));
}

#[test]
fn the_trigger_is_never_above_the_bound_on_writes() {
    let options = Options { l0_trigger: 9, l0_depth_max: 2, ..options() };
    let tables = level0(2);
    assert!(pick(&view(&tables[..1]), &options, &Avoid::default()).is_none());
    assert!(pick(&view(&tables), &options, &Avoid::default()).is_some());
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
    let tables: Vec<_> = (0..128u32)
        .rev()
        .map(|age| {
            let (low, batch) = (age * 10, u64::from(age));
            (0, table(100 + age, (low, low + 9), (batch, batch)))
        })
        .collect();
    assert_eq!(picked(&tables[..127]), None);
    let job = picked(&tables).unwrap();
    assert_eq!((job.upper, job.lower, job.moved), (vec![100], vec![], true));
}

#[test]
fn all_that_is_older_and_overlaps_goes_along_and_what_is_newer_may_stay() {
    let mut tables = level0(5);
    // It meets all of them at one key; the next meets only it, from above; the last meets none.
    tables.insert(0, (0, table(105, (9, 20), (50, 59))));
    tables.insert(0, (0, table(106, (20, 30), (60, 69))));
    tables.insert(0, (0, table(107, (40, 50), (70, 79))));
    let job = picked(&tables).unwrap();
    assert_eq!(job.upper, [105, 104, 103, 102, 101, 100]);
    // Older tables that meet it only through others go along too.
    tables.push((0, table(99, (15, 25), (0, 0))));
    tables.push((0, table(98, (24, 26), (0, 0))));
    let job = picked(&tables).unwrap();
    assert_eq!(job.upper, [105, 104, 103, 102, 101, 100, 99, 98]);
}

#[test]
fn a_job_of_level_0_is_bounded_from_the_newest_side() {
    let job = picked(&level0(20)).unwrap();
    assert_eq!(job.upper.len(), level0::LEVEL0_TABLES_MAX);
    assert_eq!(job.upper.last(), Some(&100));
    // By bytes too: every table has 100, a job may have 320.
    let options = Options { table_bytes: 20, ..options() };
    let job = pick(&view(&level0(20)), &options, &Avoid::default()).unwrap();
    assert_eq!(job.upper, [102, 101, 100]);
}

/// Flushes cut into columns of keys 0 to 9, 10 to 19, and so on, `depths` of each.
fn columns(depths: &[u32]) -> Vec<(usize, TableMeta)> {
    let mut tables = Vec::new();
    for age in (0..*depths.iter().max().unwrap()).rev() {
        for (column, _) in (0u32..).zip(depths).filter(|(_, depth)| age < **depth) {
            let keys = (column * 10, column * 10 + 9);
            tables.push((0, table(100 + age * 10 + column, keys, (age.into(), age.into()))));
        }
    }
    tables
}

#[test]
fn a_job_of_level_0_takes_the_deepest_column_and_leaves_the_others() {
    let mut tables = columns(&[4, 5, 4]);
    tables.push((LAST_LEVEL, table(1, (0, 14), (0, 0))));
    tables.push((LAST_LEVEL, table(2, (15, 40), (0, 0))));
    let job = picked(&tables).unwrap();
    assert_eq!(job.upper, [141, 131, 121, 111, 101]);
    assert_eq!(job.lower, [1, 2]);
    assert_eq!(job.span.smallest, "000000");
    assert_eq!(job.span.largest, "000040");
}

fn several(tables: &[(usize, TableMeta)], options: &Options) -> Vec<Job> {
    let mut avoid = Avoid::default();
    while let Some(job) = pick(&view(tables), options, &avoid) {
        assert!(avoid.running.len() < 50, "{avoid:?}");
        avoid.running.insert(avoid.running.len() as u64, job);
    }
    avoid.running.into_values().collect()
}

#[test]
fn jobs_side_by_side_share_nothing() {
    let mut tables = columns(&[4, 4, 4, 3]);
    tables.extend([(6, table(1, (0, 9), (0, 0))), (6, table(2, (12, 18), (0, 0)))]);
    tables.extend([(6, table(3, (19, 26), (0, 0)))]);
    let jobs = several(&tables, &options());
    // The second column meets a table that the third one meets too; the fourth is not deep enough.
    let uppers: Vec<_> = jobs.iter().map(|job| (job.upper[0] % 10, &*job.lower)).collect();
    assert_eq!(uppers, [(0, &[1][..]), (1, &[2, 3][..])]);
    // A level over its bound gives one job for each stretch, until it is not over it any more.
    let level: Vec<_> =
        (0..8).map(|index| (5, table(20 + index, (index * 60, index * 60 + 30), (1, 1)))).collect();
    let below: Vec<_> = (0..4)
        .map(|index| (6, table(40 + index, (index * 120, index * 120 + 80), (0, 0))))
        .collect();
    let jobs = several(&[level, below].concat(), &options());
    assert!(jobs.len() >= 2, "{jobs:?}");
    for (index, job) in jobs.iter().enumerate() {
        for other in &jobs[..index] {
            let shares = job.upper.iter().chain(&job.lower).any(|no| other.takes(*no));
            assert!(!shares, "{job:?} {other:?}");
        }
    }
}

#[test]
fn no_newer_table_of_level_0_overtakes_one_that_is_being_merged() {
    let tables = level0(8);
    let mut avoid = Avoid::default();
    let narrow = Options { table_bytes: 25, ..options() };
    let job = pick(&view(&tables), &narrow, &avoid).unwrap();
    assert_eq!(job.upper, [103, 102, 101, 100]);
    avoid.running.insert(1, job);
    // Four newer ones wait, deep enough for a job, with nothing in common but their keys.
    assert_eq!(pick(&view(&tables), &narrow, &avoid), None);
}

#[test]
fn what_makes_no_other_table_necessary_is_taken_along() {
    let tables = [
        (5, table(1, (0, 29), (9, 9))),
        (5, table(2, (30, 59), (9, 9))),
        (5, table(3, (60, 99), (9, 9))),
        (6, table(4, (0, 70), (1, 1))),
        (6, table(5, (80, 300), (1, 1))),
    ];
    let job = picked(&tables).unwrap();
    assert_eq!((job.upper, job.lower), (vec![1, 2], vec![4]));
}

#[test]
fn a_table_that_meets_too_much_of_the_level_after_next_is_cut_not_moved() {
    let mut tables = vec![(4, table(1, (0, 19), (9, 9)))];
    tables.extend((0..12).map(|index| (6, table(10 + index, (index, index), (1, 1)))));
    tables.push((6, table(50, (100, 1_200), (1, 1))));
    let of = |table_bytes| {
        let options = Options { table_bytes, level_base_bytes: 10, ..options() };
        pick(&view(&tables), &options, &Avoid::default()).unwrap()
    };
    assert_eq!((of(100).from, of(100).moved), (4, true));
    assert_eq!((of(9).from, of(9).moved), (4, false));
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
        let damaged: BTreeSet<FileNo> = damaged.iter().copied().collect();
        pick(&view(tables), &options(), &Avoid { damaged, ..Avoid::default() })
    };
    assert_eq!(of(&[103], &tables).unwrap().upper, [102, 101, 100]);
    assert_eq!(of(&[100], &tables), None);
    tables.push((LAST_LEVEL, table(1, (5, 60), (0, 0))));
    assert_eq!(of(&[1], &tables), None);
}

fn droppable(no: FileNo, keys: (u32, u32), bytes: u64, points: (u64, u64)) -> TableMeta {
    let droppable = Droppable { entries: 1, bytes, lowest: points.0, highest: points.1 };
    TableMeta { droppable, ..table(no, keys, (1, 1)) }
}

#[test]
fn tables_full_of_what_may_go_are_merged_for_that() {
    // A hundred bytes each; how much of it may go, from which to which point; level; what is done.
    let cases = [
        ("a quarter, all passed", (25, (1, 1_000)), 6, Some((6, Reason::Droppable))),
        ("less than a quarter", (24, (1, 1_000)), 6, None),
        ("half, half of it passed", (50, (0, 2_000)), 6, Some((6, Reason::Droppable))),
        ("half, a third of it passed", (50, (500, 2_000)), 6, None),
        ("half, none passed", (50, (1_001, 1_002)), 6, None),
        ("in an upper level it goes down", (50, (1, 2)), 4, Some((5, Reason::Droppable))),
    ];
    for (name, (bytes, points), level, wanted) in cases {
        let tables =
            [(level, droppable(1, (0, 9), bytes, points)), (6, table(2, (50, 90), (0, 0)))];
        let job = pick_dense(&view(&tables), &options(), &Avoid::default());
        let found = job.as_ref().map(|job| (job.to, job.reason));
        assert_eq!(found, wanted, "{name}");
        assert!(job.is_none_or(|job| !job.moved && job.upper == [1]), "{name}");
    }
    // What was rewritten in vain is not rewritten again.
    let tables = [(6, droppable(1, (0, 9), 100, (1, 2)))];
    let avoid = Avoid { futile: [1].into(), ..Avoid::default() };
    assert_eq!(pick_dense(&view(&tables), &options(), &avoid), None);
}

#[test]
fn tables_full_of_deletes_go_down() {
    let of = |deletes, level| {
        let tables = [(level, TableMeta { deletes, ..table(1, (0, 9), (1, 1)) })];
        pick_dense(&view(&tables), &options(), &Avoid::default()).map(|job| (job.to, job.moved))
    };
    assert_eq!(of(3, 4), Some((5, false)), "nothing lies below: it is rewritten without them");
    assert_eq!(of(2, 4), None);
    assert_eq!(of(3, 6), Some((6, false)), "they came from elsewhere: a rewrite drops them");
    assert_eq!(of(2, 6), None);
}

#[test]
fn deletes_are_taken_down_early_only_while_they_pay_for_what_is_rewritten() {
    // Five of ten entries are deletes: they pay for ten entries below.
    let of = |below: u32, rest: Option<Rest>| {
        let upper = TableMeta { deletes: 5, ..table(1, (0, 9), (9, 9)) };
        let tables = [(5, upper), (6, table(2, (0, below - 1), (1, 1)))];
        let job = match rest {
            None => pick_dense(&view(&tables), &options(), &Avoid::default()),
            Some(rest) => pick_idle(&view(&tables), &options(), &Avoid::default(), rest),
        };
        job.map(|job| (job.to, job.reason))
    };
    assert_eq!(of(10, None), Some((6, Reason::Deletes)));
    assert_eq!(of(11, None), None);
    // When nobody has written for long, whatever it costs.
    assert_eq!(of(11, Some(Rest::Short)), None);
    assert_eq!(of(11, Some(Rest::Long)), Some((6, Reason::Idle)));
}

#[test]
fn idle_times_are_for_level_0_and_for_what_has_passed_altogether() {
    let options = Options { level_base_bytes: 10_000, ..options() };
    let resting = |rest, tables: &[(usize, TableMeta)]| {
        let job = pick_idle(&view(tables), &options, &Avoid::default(), rest);
        job.map(|job| (job.from, job.to, job.upper))
    };
    let idle = |tables: &[(usize, TableMeta)]| resting(Rest::Short, tables);
    // Level 0 may hide a quarter of the rest and no more; after a long rest a twelfth.
    let below = |keys: u32| (6, table(1, (0, keys - 1), (0, 0)));
    assert_eq!(idle(&[level0(1)[0].clone(), below(40)]), None);
    assert_eq!(idle(&[level0(1)[0].clone(), below(39)]), Some((0, 6, vec![100])));
    assert_eq!(resting(Rest::Long, &[level0(1)[0].clone(), below(120)]), None);
    let taken = Some((0, 6, vec![101, 100]));
    assert_eq!(resting(Rest::Long, &[level0(2), vec![below(120)]].concat()), taken);
    // A delete hides an entry, however small it is itself; but only half of the rest is worth a merge
    // before it is sure that no more deletes come.
    let deletes = (0, TableMeta { bytes: 20, deletes: 10, ..table(100, (0, 9), (9, 9)) });
    assert_eq!(idle(&[deletes.clone(), below(20)]), None);
    assert_eq!(idle(&[deletes.clone(), below(19)]), Some((0, 6, vec![100])));
    assert_eq!(resting(Rest::Long, &[deletes.clone(), below(120)]), None);
    assert_eq!(resting(Rest::Long, &[deletes, below(119)]), Some((0, 6, vec![100])));
    // However little it is, once nothing more is to come.
    let little = droppable(1, (0, 9), 1, (1, 1_000));
    assert_eq!(idle(&[(6, little.clone())]), Some((6, 6, vec![1])));
    assert_eq!(idle(&[(5, little)]), Some((5, 6, vec![1])));
    assert_eq!(idle(&[(6, droppable(1, (0, 9), 20, (1, 1_001)))]), None);
}

#[test]
fn debt_is_nothing_within_the_bounds_and_rises_beyond_them() {
    let of = |tables: &[(usize, TableMeta)]| debt(&view(tables), &options());
    assert_eq!(of(&level0(3)), 0);
    assert_eq!(of(&level0(4)), 400);
    let base = (LAST_LEVEL, table(1, (0, 99), (0, 0)));
    assert_eq!(of(&[level0(4), vec![base.clone()]].concat()), 1_400);
    assert!(of(&[level0(5), vec![base]].concat()) > 1_400);
    let (fits, large) = ((5, table(1, (0, 9), (1, 1))), (5, table(1, (0, 99), (1, 1))));
    let last = (6, table(2, (0, 200), (0, 0)));
    assert_eq!(of(&[fits, last.clone()]), 0);
    assert_eq!(of(&[large, last]), (1_000 - 201) * 11);
}

fn asked(until: u64) -> Asked {
    Asked { range: KeyRange::all(), until: Seqno(until), before: 1_000 }
}

#[test]
fn what_is_asked_for_is_only_what_meets_the_range() {
    let tables = [
        (0, table(3, (0, 9), (9, 9))),
        (5, table(1, (20, 29), (1, 1))),
        (5, table(2, (40, 49), (1, 1))),
        (6, table(4, (0, 60), (0, 0))),
    ];
    let next = |start: &'static [u8], end: &'static [u8], avoid: &Avoid| {
        let range = KeyRange::between(start, end);
        let asked = Asked { range, ..asked(100) };
        let job = pick_asked(&view(&tables), &options(), avoid, &asked);
        let upper = job.as_ref().map(|job| job.upper.clone());
        if let Some(job) = job {
            let avoid = Avoid { running: [(1, job)].into(), ..Avoid::default() };
            assert!(is_under_way(&avoid, &asked));
        }
        upper
    };
    let none = Avoid::default();
    assert_eq!(next(b"000045", b"000048", &none), Some(vec![1, 2]), "with what costs no more");
    assert_eq!(next(b"000030", b"000039", &none), None);
    assert_eq!(next(b"000000", b"000060", &none), Some(vec![3]));
}

#[test]
fn what_the_filter_lets_go_is_rewritten_once_for_a_question() {
    let tables = [(6, droppable(7, (0, 9), 1, (1, 2_000)))];
    let ask = |before| {
        let asked = Asked { before, ..asked(100) };
        pick_asked(&view(&tables), &options(), &Avoid::default(), &asked).map(|job| job.upper)
    };
    assert_eq!(ask(8), Some(vec![7]));
    assert_eq!(ask(7), None, "the table is younger than the question");
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
        let picked = pick_asked(&view(&tables), &options(), &Avoid::default(), &asked(29));
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
