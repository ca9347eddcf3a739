//! Which blob files are collected: what of them is alive is written anew, so that they can go.
//!
//! What is alive is known to the byte, as the sum of what the tables in force refer to. So there is
//! no need to guess by age, as stores have to that count per file only what was written (BlobDB's and
//! fjall's age cutoff): a file is collected when the dead share of it has reached a bound, by every
//! merge that comes by, and when none does, by a rewrite of a table that refers to it. The second
//! reason is size: files that flushes have left small are written together as merges come by, each
//! only by a merge that holds all of it, so that a value is moved a few times at most before it
//! stands in a file large enough.

use std::collections::{BTreeMap, BTreeSet};

use super::pick::rewrite;
use super::view::{Avoid, BlobShare, Job, LevelsView, Reason};
use crate::storage::files::FileNo;
use crate::storage::levels::LEVELS;
use crate::storage::options::Options;
use crate::storage::sstable::TableMeta;

/// A file of less than this share of the full size is small.
const SMALL_SHARE: u64 = 8;

/// Whether so much of a file is dead that it is collected.
fn is_garbage(share: BlobShare, options: &Options) -> bool {
    let dead = u128::from(share.total.saturating_sub(share.live));
    let bound = u128::from(options.blob_garbage_percent.max(1));
    bound < 100 && dead * 100 >= u128::from(share.total) * bound && dead > 0
}

/// The blob files that a job collects. Of those that could not be read none: a merge passes on what
/// refers to them.
pub(crate) fn to_collect(
    view: &LevelsView<'_>,
    options: &Options,
    avoid: &Avoid,
    job: &Job,
) -> BTreeSet<FileNo> {
    if job.moved {
        return BTreeSet::new();
    }
    let mut held: BTreeMap<FileNo, u64> = BTreeMap::new();
    for table in (0..LEVELS).flat_map(|level| view.level(level)).filter(|it| job.takes(it.no)) {
        for one in table.blobs.iter() {
            *held.entry(one.file).or_default() += one.bytes;
        }
    }
    let known = held.iter().filter_map(|(no, bytes)| Some((*no, *bytes, *view.blobs().get(no)?)));
    let known: Vec<_> = known.filter(|(no, ..)| !avoid.damaged.contains(no)).collect();
    let is_small = |share: &BlobShare| share.total < options.blob_file_bytes / SMALL_SHARE;
    let small = known.iter().filter(|(_, bytes, share)| is_small(share) && *bytes == share.live);
    let mut small: BTreeSet<FileNo> = small.map(|(no, ..)| *no).collect();
    if small.len() < 2 {
        // By itself it would only become another small file.
        small.clear();
    }
    let garbage = known.iter().filter(|(_, _, share)| is_garbage(*share, options));
    garbage.map(|(no, ..)| *no).chain(small).collect()
}

/// The next table to rewrite so that a blob file goes of which much is dead; `None` when there is
/// none, or no table that refers to one can be taken. Of the files the one comes first of which most
/// is dead: it costs least for the room it gives.
pub(crate) fn pick_garbage(view: &LevelsView<'_>, options: &Options, avoid: &Avoid) -> Option<Job> {
    let files = view
        .blobs()
        .iter()
        .filter(|(no, share)| is_garbage(**share, options) && !avoid.damaged.contains(no));
    let mut files: Vec<(FileNo, BlobShare)> = files.map(|(no, share)| (*no, *share)).collect();
    // By the share that is alive, compared without division. Stable: of equals the oldest.
    files.sort_by(|(_, one), (_, other)| {
        let scaled = |a: BlobShare, b: BlobShare| u128::from(a.live) * u128::from(b.total);
        scaled(*one, *other).cmp(&scaled(*other, *one))
    });
    let refers = |table: &TableMeta, no: FileNo| table.blobs.iter().any(|one| one.file == no);
    files.into_iter().find_map(|(no, _)| {
        (0..LEVELS).rev().find_map(|level| {
            let mut tables = view.level(level).iter().filter(|table| refers(table, no));
            tables.find_map(|table| rewrite(view, options, avoid, (Reason::Garbage, level, table)))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::view::Span;
    use super::*;
    use crate::storage::batch::Seqno;
    use crate::storage::blob::BlobUse;
    use crate::storage::levels::LAST_LEVEL;

    fn table(no: FileNo, uses: &[(FileNo, u64)]) -> TableMeta {
        let key = |end: char| Bytes::from(format!("{no:03}{end}"));
        let uses =
            uses.iter().map(|(file, bytes)| BlobUse { file: *file, records: 1, bytes: *bytes });
        TableMeta {
            no,
            bytes: 100,
            entries: 10,
            smallest: key('a'),
            largest: key('z'),
            last: Seqno(u64::from(no)),
            blobs: uses.collect::<Arc<[_]>>(),
            ..TableMeta::default()
        }
    }

    /// A view of tables of the last level, and of blob files with so many bytes.
    fn view<'a>(tables: &'a [TableMeta], totals: &[(FileNo, u64)]) -> LevelsView<'a> {
        let live = |no: FileNo| {
            let uses = tables.iter().flat_map(|table| table.blobs.iter());
            uses.filter(|one| one.file == no).map(|one| one.bytes).sum()
        };
        let shares =
            totals.iter().map(|(no, total)| (*no, BlobShare { total: *total, live: live(*no) }));
        let all = tables.iter().map(|table| (LAST_LEVEL, table));
        LevelsView::from_ordered(all, |_| 0).with_blobs(shares.collect())
    }

    fn options() -> Options {
        Options { blob_file_bytes: 8_000, blob_garbage_percent: 30, ..Options::default() }
    }

    fn picked(view: &LevelsView<'_>, avoid: &Avoid) -> Option<(Job, BTreeSet<FileNo>)> {
        let job = pick_garbage(view, &options(), avoid)?;
        let collected = to_collect(view, &options(), avoid, &job);
        Some((job, collected))
    }

    #[test]
    fn the_file_of_which_least_is_alive_goes_first_table_by_table() {
        let tables = [
            table(1, &[(50, 700), (51, 4_000)]),
            table(2, &[(52, 600), (53, 1_000)]),
            table(3, &[(52, 400), (51, 3_000)]),
        ];
        // Alive: 70 %, exactly the bound; 90 %; 10 %; all.
        let totals = [(50, 1_000), (51, 7_777), (52, 10_000), (53, 1_000)];
        let view = view(&tables, &totals);
        let (job, collected) = picked(&view, &Avoid::default()).unwrap();
        assert_eq!((job.from, job.to, job.moved), (LAST_LEVEL, LAST_LEVEL, false));
        assert_eq!((job.upper.as_slice(), job.lower.as_slice()), (&[2][..], &[][..]));
        assert_eq!(collected, BTreeSet::from([52]));
        // Beside that job, the other table that refers to it; then the next file.
        let mut avoid = Avoid::default();
        avoid.running.insert(1, job);
        let (next, _) = picked(&view, &avoid).unwrap();
        assert_eq!(next.upper, [3]);
        avoid.running.insert(2, next);
        let (last, collected) = picked(&view, &avoid).unwrap();
        assert_eq!((last.upper.as_slice(), collected), (&[1][..], BTreeSet::from([50])));
        avoid.running.insert(3, last);
        assert!(picked(&view, &avoid).is_none());
    }

    #[test]
    fn what_cannot_be_read_or_is_mostly_alive_is_left() {
        let tables = [table(1, &[(50, 701)]), table(2, &[(51, 10)])];
        let view = view(&tables, &[(50, 1_000), (51, 1_000)]);
        let mut avoid = Avoid::default();
        assert_eq!(picked(&view, &avoid).unwrap().0.upper, [2]);
        avoid.damaged.insert(51);
        assert!(picked(&view, &avoid).is_none());
        let never = Options { blob_garbage_percent: 100, ..options() };
        assert!(pick_garbage(&view, &never, &Avoid::default()).is_none());
    }

    #[test]
    fn small_files_go_together_by_a_merge_that_holds_all_of_them() {
        let tables =
            [table(1, &[(50, 900), (51, 500)]), table(2, &[(51, 490), (52, 900), (53, 7_000)])];
        let view = view(&tables, &[(50, 900), (51, 990), (52, 900), (53, 7_000)]);
        let job = |upper: &[FileNo]| Job {
            reason: Reason::Size,
            from: LAST_LEVEL,
            to: LAST_LEVEL,
            upper: upper.to_vec(),
            lower: Vec::new(),
            moved: false,
            bytes: 0,
            span: Span { smallest: Bytes::new(), largest: Bytes::new() },
        };
        let collected =
            |upper: &[FileNo]| to_collect(&view, &options(), &Avoid::default(), &job(upper));
        assert_eq!(collected(&[1]), BTreeSet::new());
        assert_eq!(collected(&[1, 2]), BTreeSet::from([50, 51, 52]));
        assert!(pick_garbage(&view, &options(), &Avoid::default()).is_none());
    }
}
