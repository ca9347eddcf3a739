//! Random flushes and jobs, in any order of their ends, on tables that are maps: whatever is picked
//! must leave the levels in order, every key at its newest version, and all bounds kept in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::pick::{Asked, Rest, pick, pick_asked, pick_dense, pick_idle};
use super::view::{Avoid, BlobShare, Job, LevelsView};
use super::{Cutter, TableSize, level0, pick_garbage, to_collect};
use crate::storage::batch::Seqno;
use crate::storage::blob::BlobUse;
use crate::storage::files::FileNo;
use crate::storage::key_range::KeyRange;
use crate::storage::levels::{LAST_LEVEL, LEVELS, overlap};
use crate::storage::options::Options;
use crate::storage::sstable::{Droppable, TableMeta};
use crate::testing::arm_mutant;

/// What stands for a key: its batch, and the point at which the filter lets it go; a delete has no
/// value and so no point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    seqno: u64,
    is_put: bool,
    point: Option<u64>,
    /// The blob file that its value stands in.
    blob: Option<FileNo>,
}

#[derive(Debug, Clone)]
struct MapTable {
    level: usize,
    meta: TableMeta,
    entries: BTreeMap<Bytes, Version>,
}

/// Bytes of an entry here, and of a value in a blob file.
const ENTRY: u64 = 10;
const VALUE: u64 = 100;
const KEYS: u32 = 60;

struct World {
    rng: Rng,
    options: Options,
    tables: Vec<MapTable>,
    avoid: Avoid,
    /// The tables as they were when each job began.
    seen: BTreeMap<u64, Vec<MapTable>>,
    /// The blob files that each job on its way collects.
    collected: BTreeMap<u64, BTreeSet<FileNo>>,
    /// Bytes of all records of each blob file.
    blobs: BTreeMap<FileNo, u64>,
    newest: BTreeMap<Bytes, Version>,
    horizon: u64,
    last: u64,
    next: u32,
}

fn blob_uses(entries: &BTreeMap<Bytes, Version>) -> Arc<[BlobUse]> {
    let mut counts: BTreeMap<FileNo, u64> = BTreeMap::new();
    for file in entries.values().filter_map(|entry| entry.blob) {
        *counts.entry(file).or_default() += 1;
    }
    let uses = counts.into_iter();
    uses.map(|(file, records)| BlobUse { file, records, bytes: records * VALUE }).collect()
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("{:02}/{:02}", number / 10, number % 10))
}

/// Newest first in level 0, else in key order.
fn ordered(tables: &[MapTable]) -> Vec<(usize, &MapTable)> {
    let mut all: Vec<_> = tables.iter().map(|table| (table.level, table)).collect();
    all.sort_by(|(one_level, one), (other_level, other)| {
        one_level.cmp(other_level).then_with(|| match one_level {
            0 => (other.meta.last, other.meta.no).cmp(&(one.meta.last, one.meta.no)),
            _ => one.meta.smallest.cmp(&other.meta.smallest),
        })
    });
    all
}

/// The bytes of each blob file that the tables refer to.
fn uses<'a>(tables: impl IntoIterator<Item = &'a TableMeta>) -> BTreeMap<FileNo, u64> {
    let mut uses: BTreeMap<FileNo, u64> = BTreeMap::new();
    for one in tables.into_iter().flat_map(|table| table.blobs.iter()) {
        *uses.entry(one.file).or_default() += one.bytes;
    }
    uses
}

fn view<'a>(tables: &'a [MapTable], horizon: u64, blobs: &BTreeMap<FileNo, u64>) -> LevelsView<'a> {
    let all = ordered(tables).into_iter().map(|(level, table)| (level, &table.meta));
    let live = uses(tables.iter().map(|table| &table.meta)).into_iter();
    let shares = live.map(|(no, live)| (no, BlobShare { total: blobs[&no], live }));
    LevelsView::from_ordered(all, |_| horizon).with_blobs(shares.collect())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let options = Options {
            memtable_bytes: rng.usize(50..600),
            l0_trigger: rng.usize(1..5),
            level_base_bytes: rng.u64(50..400),
            level_fanout: rng.u64(2..6),
            table_bytes: rng.u64(20..200),
            unit_prefix_bytes: rng.usize(0..3),
            blob_file_bytes: rng.u64(1..3_000),
            blob_garbage_percent: rng.u8(1..100),
            ..Options::default()
        };
        Self {
            rng,
            options,
            tables: Vec::new(),
            avoid: Avoid::default(),
            seen: BTreeMap::new(),
            collected: BTreeMap::new(),
            blobs: BTreeMap::new(),
            newest: BTreeMap::new(),
            horizon: 0,
            last: 0,
            next: 1,
        }
    }

    fn add(&mut self, level: usize, entries: BTreeMap<Bytes, Version>) {
        let Some((smallest, largest)) = entries.keys().next().zip(entries.keys().next_back())
        else {
            return;
        };
        let mut droppable = Droppable::default();
        entries
            .values()
            .filter_map(|entry| entry.point)
            .for_each(|point| droppable.add(point, ENTRY));
        let seqnos = entries.values().map(|entry| Seqno(entry.seqno));
        let meta = TableMeta {
            no: self.next,
            level: 0,
            bytes: entries.len() as u64 * ENTRY,
            entries: entries.len() as u64,
            deletes: entries.values().filter(|entry| !entry.is_put).count() as u64,
            smallest: smallest.clone(),
            largest: largest.clone(),
            first: seqnos.clone().min().unwrap(),
            last: seqnos.max().unwrap(),
            purged: Seqno(0),
            droppable,
            adopted: None,
            blobs: blob_uses(&entries),
        };
        self.next += 1;
        self.tables.push(MapTable { level, meta, entries });
    }

    fn write(&mut self, level: usize, entries: BTreeMap<Bytes, Version>, mut cutter: Cutter) {
        let mut begun = BTreeMap::new();
        for (key, version) in entries {
            let bytes = begun.len() as u64 * ENTRY;
            if cutter.cuts_before(&key, TableSize { bytes, whole: bytes }) {
                self.add(level, std::mem::take(&mut begun));
            }
            begun.insert(key, version);
            cutter.note(Seqno(version.seqno));
        }
        self.add(level, begun);
    }

    /// Puts the values of entries into a blob file of their own.
    fn store(&mut self, entries: &mut [&mut Version]) {
        if !entries.is_empty() {
            self.blobs.insert(self.next, entries.len() as u64 * VALUE);
            entries.iter_mut().for_each(|entry| entry.blob = Some(self.next));
            self.next += 1;
        }
    }

    fn flush(&mut self) {
        let mut entries = BTreeMap::new();
        for _ in 0..self.rng.usize(1..30) {
            self.last += 1;
            let is_put = self.rng.u8(..4) > 0;
            let point = (is_put && self.rng.bool()).then(|| self.horizon + self.rng.u64(..40));
            let version = Version { seqno: self.last, is_put, point, blob: None };
            entries.insert(key(self.rng.u32(..KEYS)), version);
        }
        let long = entries.values_mut().filter(|entry| entry.is_put && entry.seqno % 3 > 0);
        self.store(&mut long.collect::<Vec<_>>());
        self.newest.extend(entries.clone());
        let cutter = Cutter::for_flush(&self.options, &self.view(), &self.avoid);
        self.write(0, entries, cutter);
    }

    fn view(&self) -> LevelsView<'_> {
        view(&self.tables, self.horizon, &self.blobs)
    }

    fn begin(&mut self) -> Result<bool, String> {
        let draw = self.rng.u8(..8);
        let rest = if self.last.is_multiple_of(2) { Rest::Short } else { Rest::Long };
        let view = self.view();
        let asked = Asked { range: KeyRange::all(), until: Seqno(self.last), before: FileNo::MAX };
        let job = match draw {
            0 => pick_asked(&view, &self.options, &self.avoid, &asked),
            1 => pick_dense(&view, &self.options, &self.avoid),
            2 => pick_idle(&view, &self.options, &self.avoid, rest),
            3 => pick_garbage(&view, &self.options, &self.avoid),
            _ => pick(&view, &self.options, &self.avoid),
        };
        let Some(job) = job else { return Ok(false) };
        let taken = |job: &Job| [&job.upper[..], &job.lower[..]].concat();
        let shares = |other: &Job| taken(other).iter().any(|no| taken(&job).contains(no));
        if let Some(other) = self.avoid.running.values().find(|other| shares(other)) {
            return Err(format!("{job:?} takes tables of {other:?}"));
        }
        let collected = to_collect(&view, &self.options, &self.avoid, &job);
        let number = u64::from(self.next);
        self.next += 1;
        self.start(number, job, collected);
        Ok(true)
    }

    fn start(&mut self, number: u64, job: Job, collected: BTreeSet<FileNo>) {
        self.seen.insert(number, self.tables.clone());
        self.collected.insert(number, collected);
        self.avoid.running.insert(number, job);
    }

    fn end(&mut self) {
        let numbers: Vec<u64> = self.avoid.running.keys().copied().collect();
        let Some(number) = self.rng.choice(numbers) else { return };
        let job = self.avoid.running.remove(&number).unwrap();
        let seen = self.seen.remove(&number).unwrap();
        let collected = self.collected.remove(&number).unwrap();
        if job.moved {
            let moves = |table: &&mut MapTable| job.upper.contains(&table.meta.no);
            self.tables.iter_mut().filter(moves).for_each(|table| table.level = job.to);
            return;
        }
        let taken = |table: &MapTable| job.takes(table.meta.no);
        let (inputs, left): (Vec<_>, Vec<_>) = self.tables.drain(..).partition(taken);
        self.tables = left;
        let mut merged: BTreeMap<Bytes, Version> = BTreeMap::new();
        for (key, version) in inputs.iter().flat_map(|table| &table.entries) {
            let slot = merged.entry(key.clone()).or_insert(*version);
            *slot = if slot.seqno < version.seqno { *version } else { *slot };
        }
        let below = |key: &Bytes| {
            let covers =
                |table: &&MapTable| table.meta.smallest <= *key && *key <= table.meta.largest;
            // Written back into level 0, a delete may hide something in an older table beside it.
            job.to == 0
                || seen.iter().filter(|table| table.level > job.to).any(|table| covers(&table))
        };
        let horizon = self.horizon;
        merged.retain(|key, version| {
            if version.point.is_some_and(|point| point <= horizon) {
                (version.is_put, version.point, version.blob) = (false, None, None);
            }
            version.is_put || below(key)
        });
        let moves = |version: &&mut Version| version.blob.is_some_and(|no| collected.contains(&no));
        self.store(&mut merged.values_mut().filter(moves).collect::<Vec<_>>());
        let beside = seen.iter().filter(|table| table.level == job.to || taken(table));
        let beside: Vec<_> = beside.map(|table| &table.meta).collect();
        let level_below = seen.iter().filter(|table| table.level == job.to + 1);
        let level_below: Vec<_> = level_below.map(|table| &table.meta).collect();
        let cutter = Cutter::for_merge(&self.options, job.to, &beside, &level_below);
        self.write(job.to, merged, cutter);
    }

    fn check(&self) -> Result<(), String> {
        let all = ordered(&self.tables);
        for (index, (level, table)) in all.iter().enumerate() {
            for (other_level, other) in &all[index + 1..] {
                let meets = level == other_level && overlap(&table.meta, &other.meta);
                if meets && (*level > 0 || table.meta.first <= other.meta.last) {
                    return Err(format!("level {level}: {:?} and {:?}", table.meta, other.meta));
                }
            }
        }
        for (key, newest) in &self.newest {
            let versions = all.iter().filter_map(|(_, table)| table.entries.get(key));
            let versions: Vec<_> = versions.collect();
            if !versions.is_sorted_by(|newer, older| newer.seqno > older.seqno) {
                return Err(format!("{key:?} is out of order: {versions:?}"));
            }
            let gone = !newest.is_put || newest.point.is_some_and(|point| point <= self.horizon);
            let found = versions.first().filter(|found| found.is_put);
            let right = found.map_or(gone, |found| found.seqno == newest.seqno);
            if !right {
                return Err(format!("{key:?} is {found:?}, not {newest:?}"));
            }
        }
        Ok(())
    }

    /// Of no blob file too much is dead.
    fn check_garbage(&self) -> Result<(), String> {
        let bound = u64::from(self.options.blob_garbage_percent);
        for (no, live) in uses(self.tables.iter().map(|table| &table.meta)) {
            let total = self.blobs[&no];
            if live > total || (total - live) * 100 >= total * bound && live < total {
                return Err(format!("{live} of {total} bytes of blob file {no} are alive"));
            }
        }
        Ok(())
    }

    /// Everything that has to be done is done, one job after the other.
    fn settle(&mut self) -> Result<(), String> {
        while !self.avoid.running.is_empty() {
            self.end();
            self.check()?;
        }
        for _ in 0..2_000 {
            let view = self.view();
            let job = pick(&view, &self.options, &self.avoid);
            let job = job.or_else(|| pick_garbage(&view, &self.options, &self.avoid));
            let Some(job) = job else {
                self.check_garbage()?;
                let view = self.view();
                let depth = level0::depth(&view, &self.avoid).deepest;
                // Twice the trigger where all that is so deep is light.
                return match depth < (2 * self.options.l0_trigger).min(self.options.l0_depth_max) {
                    true => Ok(()),
                    false => Err(format!("level 0 is {depth} deep in the end")),
                };
            };
            let collected = to_collect(&view, &self.options, &self.avoid, &job);
            self.start(0, job, collected);
            self.end();
            self.check()?;
        }
        Err("there is always something to merge".to_owned())
    }
}

fn run(seed: u64) -> Result<usize, String> {
    let story = |error| format!("seed {seed}: {error}");
    let mut world = World::new(seed);
    let mut most = 0;
    for _ in 0..120 {
        match world.rng.u8(..10) {
            0..3 => world.flush(),
            3..7 => drop(world.begin().map_err(story)?),
            7..9 => world.end(),
            _ => world.horizon += world.rng.u64(..20),
        }
        most = most.max(world.avoid.running.len());
        world.check().map_err(story)?;
    }
    world.settle().map_err(story)?;
    Ok(most)
}

#[test]
fn jobs_in_any_order_keep_the_levels_in_order_and_end_within_the_bounds() {
    let together: Vec<usize> = (0..200).map(|seed| run(seed).unwrap()).collect();
    assert!(together.iter().filter(|most| **most > 1).count() > 60, "too few jobs side by side");
}

#[test]
fn jobs_that_share_a_table_are_caught() {
    let _armed = arm_mutant("storage-compaction-shares-table");
    let caught = (0..40).filter(|seed| run(*seed).is_err()).count();
    assert!(caught > 8, "only {caught} of 40");
}

#[test]
fn a_newer_table_that_overtakes_an_older_one_is_caught() {
    let _armed = arm_mutant("storage-compaction-leaves-older");
    let caught = (0..40).filter(|seed| run(*seed).is_err()).count();
    assert!(caught > 8, "only {caught} of 40");
}

#[test]
fn everything_that_was_asked_for_reaches_the_last_level() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        (0..12).for_each(|_| world.flush());
        let asked = Asked { range: KeyRange::all(), until: Seqno(world.last), before: FileNo::MAX };
        let mut jobs = 0;
        loop {
            let view = world.view();
            let Some(job) = pick_asked(&view, &world.options, &world.avoid, &asked) else { break };
            let collected = to_collect(&view, &world.options, &world.avoid, &job);
            world.start(0, job, collected);
            world.end();
            world.check().unwrap();
            jobs += 1;
            assert!(jobs < 1_000, "seed {seed} has no end");
        }
        assert!(world.tables.iter().all(|table| table.level == LAST_LEVEL), "seed {seed}");
        assert_eq!(LEVELS, LAST_LEVEL + 1);
    }
}
