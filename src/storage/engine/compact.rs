//! Runs compactions and puts their results in force.
//!
//! In this order, each step durable before the next: the new tables, their names, the manifest's
//! edit; only then is the view changed, and an old file is unlinked when nobody reads it any more.
//! A crash between any two leaves either the old tables in force and orphans to sweep, or the new
//! ones. A merge that fails for want of room is tried again; one that meets damage is not, and its
//! inputs stay as they are: nothing is ever dropped because it could not be read.

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{Commit, Core, DELETED_RANGES_MAX, Phase, View};
use crate::storage::batch::Seqno;
use crate::storage::compaction::{Job, LevelsView, Merging, pick, pick_all, pick_purge};
use crate::storage::error::Error;
use crate::storage::files::{FileKind, FileNo, table_path};
use crate::storage::manifest::Edit;
use crate::storage::sstable::{Table, TableBuilder, TableMeta};

/// From this pressure on, the rate limit of compactions is off: falling behind costs more.
const HURRY: f64 = 0.5;
/// From so many deleted ranges on, giving their room back comes before the order of the levels.
const DELETED_FIRST: usize = DELETED_RANGES_MAX / 2;

/// Where compaction stands. Guarded by the commit lock.
#[derive(Debug, Default)]
pub(super) struct Compacting {
    /// Something has changed since the thread last looked.
    pub(super) due: bool,
    /// Everything up to here is wanted in the last level.
    pub(super) wanted: Seqno,
    /// Everything up to here is there, as far as damage lets it.
    pub(super) done: Seqno,
    /// Why the last job failed, if it may be tried again.
    pub(super) blocked: Option<Error>,
    /// Tables that could not be read, which are left out of further jobs.
    pub(super) damaged: BTreeSet<FileNo>,
    /// The first of these failures.
    pub(super) damage: Option<Error>,
}

impl Compacting {
    /// Lets everything that failed be tried again.
    fn forgive(&mut self) {
        (self.blocked, self.damage) = (None, None);
        self.damaged.clear();
        self.due = true;
    }
}

/// The number of the table an error is about.
fn table_of(path: &Path) -> Option<FileNo> {
    match FileKind::of(path.file_name()?.to_str()?) {
        FileKind::Table(no) => Some(no),
        FileKind::Wal(_) | FileKind::Manifest(_) | FileKind::NextCurrent | FileKind::Other => None,
    }
}

impl Core {
    /// Does one bounded piece of compaction. Returns whether there was anything to do.
    pub(super) fn compact_step(&self) -> bool {
        let mut running = self.compacting.lock();
        {
            let commit = self.commit.lock();
            let compacting = &commit.compacting;
            if commit.refusal().is_some() || compacting.blocked.is_some() {
                return false;
            }
        }
        let merging = match running.take() {
            Some(merging) => merging,
            None if self.drop_hidden() => return true,
            None => match self.next_job() {
                Some(job) => self.begin(job),
                None => return false,
            },
        };
        *running = self.work(merging);
        true
    }

    /// Chooses what to do next, or books that there is nothing.
    fn next_job(&self) -> Option<Job> {
        let (damaged, wanted) = {
            let commit = self.commit.lock();
            (commit.compacting.damaged.clone(), commit.compacting.wanted)
        };
        let view = self.view.load_full();
        let levels = LevelsView::of(&view.levels);
        let deleted = view.levels.deleted();
        let purge = || pick_purge(&levels, deleted, &damaged);
        let urgent = (deleted.ranges().len() >= DELETED_FIRST).then(purge).flatten();
        let job = urgent
            .or_else(|| pick(&levels, &self.options, &damaged))
            .or_else(purge)
            .or_else(|| pick_all(&levels, &self.options, &damaged, wanted));
        if job.is_none() {
            let mut commit = self.commit.lock();
            commit.compacting.done = commit.compacting.done.max(wanted);
            self.compact_done.notify_all();
        }
        job
    }

    fn begin(&self, job: Job) -> Merging {
        let levels = Arc::clone(&self.view.load().levels);
        // Of one table of level 0 there may not become two of the same age.
        let table_bytes = if job.to == 0 { u64::MAX } else { self.options.table_bytes };
        Merging::new(job, levels, table_bytes)
    }

    /// Returns the merge if it is not at its end.
    fn work(&self, mut merging: Merging) -> Option<Merging> {
        if merging.job.moved {
            self.finish(merging);
            return None;
        }
        let before = merging.tally;
        let more = merging.advance(self.options.compaction_step_bytes, &mut || self.new_table());
        let read = merging.tally.bytes_read - before.bytes_read;
        self.counters.compaction_bytes_read.fetch_add(read, Ordering::Relaxed);
        match more {
            Ok(true) => return Some(merging),
            Ok(false) => self.finish(merging),
            Err(error) => {
                let first = merging.job.upper.first().copied();
                merging.abandon(&self.vfs);
                self.compaction_failed(error, first);
            }
        }
        None
    }

    /// Takes tables that deleted ranges hide as a whole out of the manifest. Only while no merge
    /// reads them. Returns whether there was one.
    fn drop_hidden(&self) -> bool {
        let view = self.view.load_full();
        let deleted = view.levels.deleted();
        if deleted.is_empty() {
            return false;
        }
        let tables = view.levels.all().map(|(_, table)| table);
        let tables: Vec<_> = tables.filter(|table| deleted.hides(&table.meta)).cloned().collect();
        let removed: Vec<FileNo> = tables.iter().map(|table| table.meta.no).collect();
        if removed.is_empty() {
            return false;
        }
        let appended = {
            let mut manifest = self.manifest.lock();
            let edit = Edit { tables_removed: removed.clone(), ..Edit::default() };
            manifest.append(edit).map(|()| {
                self.change_levels(|_, view| View {
                    levels: Arc::new(view.levels.edited(&removed, &[])),
                    ..view.clone()
                });
            })
        };
        match appended {
            Ok(()) => {
                tables.iter().for_each(|table| table.retire(&self.vfs));
                let entries = tables.iter().map(|table| table.meta.entries).sum();
                self.counters.hidden.fetch_add(entries, Ordering::Relaxed);
            }
            Err(error) => self.compaction_failed(error, removed.first().copied()),
        }
        true
    }

    /// Begins a table of the next number.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn new_table(&self) -> Result<TableBuilder, Error> {
        let no = self.manifest.lock().state.take_number()?;
        let path = table_path(&self.dir, no);
        let file = self.vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(TableBuilder::new(no, file, path, self.options.block_bytes, Arc::clone(&self.cache)))
    }

    fn finish(&self, merging: Merging) {
        let Merging { job, inputs, outputs, tally, .. } = merging;
        let outputs: Vec<Arc<Table>> = outputs.into_iter().map(Arc::new).collect();
        match self.put_in_force(&job, &inputs, &outputs) {
            Ok(()) => {
                if !job.moved {
                    inputs.iter().for_each(|table| table.retire(&self.vfs));
                }
                let counters = &self.counters;
                let counter = if job.moved { &counters.moves } else { &counters.compactions };
                counter.fetch_add(1, Ordering::Relaxed);
                counters.compaction_bytes.fetch_add(tally.bytes_written, Ordering::Relaxed);
                counters.superseded.fetch_add(tally.superseded, Ordering::Relaxed);
                counters.tombstones.fetch_add(tally.tombstones, Ordering::Relaxed);
                counters.hidden.fetch_add(tally.hidden, Ordering::Relaxed);
            }
            Err(error) => {
                if error.is_full() {
                    // The edit is certainly not in force. After any other failure it may be.
                    outputs.iter().for_each(|table| table.retire(&self.vfs));
                }
                self.compaction_failed(error, job.upper.first().copied());
            }
        }
    }

    fn put_in_force(
        &self,
        job: &Job,
        inputs: &[Arc<Table>],
        outputs: &[Arc<Table>],
    ) -> Result<(), Error> {
        let removed: Vec<FileNo> = match job.moved {
            true => Vec::new(),
            false => inputs.iter().map(|table| table.meta.no).collect(),
        };
        let added = if job.moved { inputs } else { outputs };
        let placed: Vec<_> = added.iter().map(|table| (job.to, Arc::clone(table))).collect();
        if !outputs.is_empty() && !crate::mutant!("storage-no-dir-sync") {
            let synced = self.vfs.sync_dir(&self.dir);
            synced.map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        if crate::mutant!("storage-unlink-before-manifest") {
            for no in &removed {
                let _gone = self.vfs.remove(&table_path(&self.dir, *no));
            }
        }
        let mut manifest = self.manifest.lock();
        let next = self.view.load().levels.edited(&removed, &placed);
        assert_eq!(next.broken(), None, "a compaction keeps the order of the levels");
        let level = u8::try_from(job.to).expect("there are seven levels");
        let metas = added.iter().map(|table| (level, &table.meta));
        let metas = metas.map(|(level, meta)| TableMeta { level, ..meta.clone() });
        manifest.append(Edit {
            tables_added: metas.collect(),
            tables_removed: removed.clone(),
            ..Edit::default()
        })?;
        self.change_levels(|_, view| View {
            levels: Arc::new(view.levels.edited(&removed, &placed)),
            ..view.clone()
        });
        Ok(())
    }

    /// Replaces the view by what `change` makes of it. The old one is dropped outside the lock: it
    /// may be the last holder of a file that is then unlinked.
    pub(super) fn change_levels(&self, change: impl FnOnce(&mut Commit, &View) -> View) {
        let mut commit = self.commit.lock();
        let next = change(&mut commit, &self.view.load());
        let (broken, memory) = (next.levels.broken(), next.levels.memory());
        assert_eq!(broken, None, "an edit keeps the order of the levels");
        let old = self.view.swap(Arc::new(next));
        commit.compacting.due = true;
        self.compact_wake.notify_one();
        drop(commit);
        drop(old);
        self.cache.charge(memory);
    }

    fn compaction_failed(&self, error: Error, first: Option<FileNo>) {
        let mut commit = self.commit.lock();
        let compacting = &mut commit.compacting;
        match &error {
            error if error.is_full() => compacting.blocked = Some(Error::DiskFull),
            Error::Corrupt { file: path, .. }
            | Error::Missing { file: path }
            | Error::Io { action: "read", path, .. } => {
                compacting.damaged.extend(table_of(path).or(first));
                compacting.damage.get_or_insert(error);
            }
            _ => {
                drop(commit);
                self.latch(&error);
            }
        }
        self.compact_done.notify_all();
    }

    /// Asks for everything that is in tables to be brought into the last level, and gives what
    /// failed before another chance. Returns the last batch that this covers.
    pub(super) fn request_compaction(&self) -> Result<Seqno, Error> {
        let mut commit = self.commit.lock();
        if let Some(error) = commit.refusal() {
            return Err(error);
        }
        let target = commit.flushed;
        let compacting = &mut commit.compacting;
        compacting.forgive();
        // Not `max`: the same batches may be asked for again, after damage was repaired.
        compacting.wanted = target;
        compacting.done = Seqno(0);
        self.compact_wake.notify_one();
        Ok(target)
    }

    /// Waits until all batches up to `target` are in the last level.
    pub(super) fn wait_compacted(&self, target: Seqno) -> Result<(), Error> {
        let mut commit = self.commit.lock();
        while commit.compacting.done < target {
            if let Some(error) = commit.refusal().or_else(|| commit.compacting.blocked.clone()) {
                return Err(error);
            }
            self.compact_done.wait(&mut commit);
        }
        commit.compacting.damage.clone().map_or(Ok(()), Err)
    }

    /// Gives the files of an unfinished merge back, at the end.
    pub(super) fn abandon_compaction(&self) {
        if let Some(merging) = self.compacting.lock().take() {
            merging.abandon(&self.vfs);
        }
    }

    /// Holds the compaction thread back to the rate that the options allow.
    pub(super) fn pace(&self, bytes: u64) {
        let Some(rate) = self.options.compaction_bytes_per_second else { return };
        if self.pressure() >= HURRY {
            return;
        }
        let pause = Duration::from_millis(bytes.saturating_mul(1_000) / rate.max(1));
        let mut commit = self.commit.lock();
        if commit.phase == Phase::Running {
            // Woken early only when the engine closes.
            self.pace_wake.wait_for(&mut commit, pause);
        }
    }

    /// See `Engine::pressure`.
    pub(super) fn pressure(&self) -> f64 {
        // Bounds are far below 2^52, where a double still counts every byte.
        let share = |used: usize, limit: usize| used as f64 / limit.max(1) as f64;
        let waiting = self.commit.lock().waiting_bytes;
        let (view, options) = (self.view.load(), &self.options);
        // Nothing is waiting as long as compaction keeps up.
        let trigger = options.l0_trigger.min(options.l0_depth_max);
        let tables = view.levels.depth().saturating_sub(trigger);
        share(waiting, options.pending_bytes_max)
            .max(share(view.memory(), options.memory_bytes_max))
            .max(share(tables, options.l0_depth_max - trigger))
            .min(1.0)
    }
}
