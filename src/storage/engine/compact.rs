//! Runs compactions and puts their results in force.
//!
//! In this order, each step durable before the next: the new blob files, the new tables, their names, the manifest's
//! edit; only then is the view changed, and an old file is unlinked when nobody reads it any more.
//! A crash between any two leaves either the old tables in force and orphans to sweep, or the new
//! ones. A merge that fails for want of room is tried again; one that meets damage is not, and its
//! inputs stay as they are: nothing is ever dropped because it could not be read.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::compacting::Progress;
use super::core::{Commit, Core, DELETED_RANGES_MAX, View};
use super::flush::FilesOf;
use crate::storage::bad_places::file_of;
use crate::storage::blob::{BlobFile, NewBlob};
use crate::storage::compaction::{
    Asked, Avoid, CompactionFilter, Cutter, Job, LevelsView, Merging, Reason, debt, is_under_way,
    pick, pick_asked, pick_dense, pick_garbage, pick_idle, pick_purge, to_collect,
};
use crate::storage::error::Error;
use crate::storage::files::{FileNo, table_path};
use crate::storage::key_range::KeyRange;
use crate::storage::levels::Levels;
use crate::storage::manifest::{Edit, Manifest};
use crate::storage::memtable::Memtable;
use crate::storage::sstable::{Table, TableBuilder, TableMeta, TableShape};
use crate::storage::vfs::{Vfs, VfsFile};

/// From so many deleted ranges on, giving their room back comes before the order of the levels.
const DELETED_FIRST: usize = DELETED_RANGES_MAX / 2;

/// A merge that a thread, or an inline engine, has on its way.
pub(super) struct Running {
    number: u64,
    merging: Merging,
}

/// How many entries a change of the levels brings and takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Balance {
    pub(super) came: u64,
    pub(super) went: u64,
}

impl Balance {
    /// What was there and what came is what is there and what went: no edit loses a table, or a part
    /// of one. So cheap, a few sums over what the manifest says of tables, that it is always on.
    fn check(self, before: &Levels, after: &Levels) {
        let (had, has) = (before.entries() + self.came, after.entries() + self.went);
        assert_eq!(had, has, "an edit of the tables accounts for every entry");
    }
}

/// What an edit makes of the levels, checked.
pub(super) struct NextLevels {
    levels: Arc<Levels>,
    debt: u64,
}

/// What a merge has written.
struct Outputs {
    tables: Vec<Arc<Table>>,
    blobs: Vec<Arc<BlobFile>>,
}

impl Outputs {
    /// Lets the files go, which nothing refers to.
    fn retire(&self, vfs: &Arc<dyn Vfs>) {
        self.tables.iter().for_each(|table| table.retire(vfs));
        self.blobs.iter().for_each(|blob| blob.retire(vfs));
    }
}

impl Core {
    /// Does one bounded piece of the merges in `slots`, after taking on another if there is one and
    /// they are fewer than `most`. Returns how many bytes it has written; `None` if there was nothing
    /// to do.
    pub(super) fn compact_step(&self, slots: &mut VecDeque<Running>, most: usize) -> Option<u64> {
        {
            let commit = self.commit.lock();
            if commit.refusal().is_some() || commit.compacting.blocked.is_some() {
                return None;
            }
        }
        if slots.len() < most {
            if self.drop_hidden() {
                return Some(0);
            }
            slots.extend(self.begin());
        }
        // In turn, so that an inline engine's merges go on side by side.
        let (running, written) = self.work(slots.pop_front()?);
        slots.extend(running);
        Some(written)
    }

    pub(super) fn filter(&self) -> Option<&dyn CompactionFilter> {
        self.options.filter.as_ref().map(|filter| filter.get())
    }

    /// How much may be written in a tick of idle times.
    fn quiet_bytes(&self) -> u64 {
        (self.options.memtable_bytes / 512) as u64
    }

    /// Says that a tick has passed, for telling idle times.
    pub(super) fn tick_idle(&self, commit: &mut Commit) {
        let written = self.counters.batch_bytes.load(Ordering::Relaxed);
        commit.compacting.tick(written, self.quiet_bytes());
    }

    /// Takes on the next job, or books that there is none.
    fn begin(&self) -> Option<Running> {
        let _one_at_a_time = self.picking.lock();
        let (avoid, asked, rest, is_settled) = {
            let commit = self.commit.lock();
            let compacting = &commit.compacting;
            let written = self.counters.batch_bytes.load(Ordering::Relaxed);
            let rest = compacting.rest(written, self.quiet_bytes());
            let is_settled = compacting.is_settled(self.view.load().levels.deleted().newest());
            (compacting.avoid.clone(), compacting.asked.clone(), rest, is_settled)
        };
        // Loaded after the books: a job that is not in them any more is in the view.
        let view = self.view.load_full();
        let levels = LevelsView::of(&view.levels, self.filter());
        let (options, deleted) = (&self.options, view.levels.deleted());
        let purge = || pick_purge(&levels, options, &avoid, deleted);
        let urgent = (deleted.ranges().len() >= DELETED_FIRST).then(purge).flatten();
        let wanted = || asked.values().find_map(|one| pick_asked(&levels, options, &avoid, one));
        let job = urgent
            .or_else(|| pick(&levels, options, &avoid))
            .or_else(|| is_settled.then(purge).flatten())
            .or_else(wanted)
            .or_else(|| pick_dense(&levels, options, &avoid))
            .or_else(|| pick_garbage(&levels, options, &avoid))
            .or_else(|| pick_idle(&levels, options, &avoid, rest?));
        let mut commit = self.commit.lock();
        let Some(job) = job else {
            // What was asked for meanwhile has not been looked at.
            let is_open = |number: &u64| !asked.contains_key(number);
            let wishes = &mut commit.compacting.asked;
            wishes.retain(|number, one| is_open(number) || is_under_way(&avoid, one));
            self.compact_done.notify_all();
            return None;
        };
        let number = commit.compacting.begin(&job);
        self.compact_wake.notify_one();
        drop(commit);
        let collected = to_collect(&levels, options, &avoid, &job);
        let merging = Merging::new(job, &view.levels, options, collected);
        Some(Running { number, merging })
    }

    /// Returns the merge if it is not at its end, and how many bytes were written.
    fn work(&self, Running { number, mut merging }: Running) -> (Option<Running>, u64) {
        let before = merging.written();
        let more = match merging.job.moved {
            true => Ok(false),
            false => {
                let read = merging.tally.bytes_read;
                let step = self.options.compaction_step_bytes;
                let to = merging.job.to;
                let more = merging.advance(step, &mut FilesOf { core: self, level: to });
                let read = merging.tally.bytes_read - read;
                self.counters.compaction_bytes_read.fetch_add(read, Ordering::Relaxed);
                more
            }
        };
        // A table that could not be ended counts for nothing any more.
        let written = merging.written().saturating_sub(before);
        if matches!(more, Ok(true)) {
            let (done, total) = (merging.tally.bytes_read, merging.job.bytes);
            let progress = Progress { done: done.min(total), total };
            self.commit.lock().compacting.progress.insert(number, progress);
            return (Some(Running { number, merging }), written);
        }
        let first = merging.job.upper.first().copied();
        let ended = match more {
            Ok(_) => self.finish(merging),
            Err(error) => {
                merging.abandon(&self.vfs);
                Err(error)
            }
        };
        self.commit.lock().compacting.end(number);
        if let Err(error) = ended {
            self.compaction_failed(error, first);
        }
        self.compact_wake.notify_one();
        (None, written)
    }

    /// Takes tables that deleted ranges hide as a whole out of the manifest. Not while a merge
    /// reads them. Returns whether there was one.
    fn drop_hidden(&self) -> bool {
        // So no merge takes them meanwhile.
        let _one_at_a_time = self.picking.lock();
        let avoid: Avoid = self.commit.lock().compacting.avoid.clone();
        let view = self.view.load_full();
        let deleted = view.levels.deleted();
        if deleted.is_empty() {
            return false;
        }
        let tables = view.levels.all().map(|(_, table)| table);
        let hidden =
            |table: &&Arc<Table>| deleted.hides(&table.meta) && !avoid.is_busy(table.meta.no);
        let tables: Vec<_> = tables.filter(hidden).cloned().collect();
        let removed: Vec<FileNo> = tables.iter().map(|table| table.meta.no).collect();
        if removed.is_empty() {
            return false;
        }
        let appended = {
            let mut manifest = self.manifest.lock();
            let went = tables.iter().map(|table| table.meta.entries).sum();
            let next = self.view.load().levels.edited(&removed, &[]);
            let next = self.next_levels(next, Balance { came: 0, went });
            let edit = Edit { tables_removed: removed.clone(), ..Edit::default() };
            manifest.append(edit).map(|()| self.change_levels(&manifest, next, |_, _| {}))
        };
        match appended {
            Ok(()) => {
                tables.iter().for_each(|table| table.retire(&self.vfs));
                self.forget(&tables);
                let entries = tables.iter().map(|table| table.meta.entries).sum();
                self.counters.hidden.fetch_add(entries, Ordering::Relaxed);
            }
            Err(error) => self.compaction_failed(error, removed.first().copied()),
        }
        true
    }

    /// The books say nothing of tables any more that are gone: they would grow for ever.
    fn forget(&self, gone: &[Arc<Table>]) {
        let mut commit = self.commit.lock();
        gone.iter().for_each(|table| commit.compacting.forget(table.meta.no));
    }

    /// Begins a table of the next number, to be written into `level`.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn new_table(&self, level: usize) -> Result<TableBuilder, Error> {
        let no = self.manifest.lock().state.take_number()?;
        self.table_at(no, table_path(&self.dir, no), level)
    }

    /// Begins a table of a given number and place, as tables of `level` are written.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn table_at(
        &self,
        no: FileNo,
        path: PathBuf,
        level: usize,
    ) -> Result<TableBuilder, Error> {
        let file = self.vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(self.table_in(no, path, file, level))
    }

    /// The same in a file that was just created.
    pub(super) fn table_in(
        &self,
        no: FileNo,
        path: PathBuf,
        file: Arc<dyn VfsFile>,
        level: usize,
    ) -> TableBuilder {
        let shape = TableShape::new(&self.options, level);
        TableBuilder::new(no, file, path, shape, Arc::clone(&self.cache))
    }

    /// Creates a blob file of a given number and place, whose salt begins with `seed`.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn blob_at(
        &self,
        (no, seed): (FileNo, u64),
        path: PathBuf,
    ) -> Result<NewBlob, Error> {
        let file = self.vfs.create(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(self.blob_in((no, seed), path, file))
    }

    /// The same in a file that was just created.
    pub(super) fn blob_in(
        &self,
        (no, seed): (FileNo, u64),
        path: PathBuf,
        file: Arc<dyn VfsFile>,
    ) -> NewBlob {
        NewBlob { no, file, path, cache: Arc::clone(&self.cache), seed }
    }

    fn finish(&self, merging: Merging) -> Result<(), Error> {
        let (job, inputs, tally) = (merging.job.clone(), merging.inputs.clone(), merging.tally);
        let (tables, blobs) = merging.into_files();
        let outputs = Outputs { tables: tables.into_iter().map(Arc::new).collect(), blobs };
        match self.put_in_force(&job, &inputs, &outputs, tally.dropped()) {
            Ok(true) => {}
            Ok(false) => {
                outputs.retire(&self.vfs);
                return Ok(());
            }
            Err(error) => {
                if error.is_full() {
                    // The edit is certainly not in force. After any other failure it may be.
                    outputs.retire(&self.vfs);
                }
                return Err(error);
            }
        }
        let outputs = outputs.tables;
        if !job.moved {
            inputs.iter().for_each(|table| table.retire(&self.vfs));
            self.forget(&inputs);
        }
        let for_the_filter = matches!(job.reason, Reason::Droppable | Reason::Idle | Reason::Asked);
        if for_the_filter && job.from == job.to && tally.filtered == 0 {
            let mut commit = self.commit.lock();
            commit.compacting.avoid.futile.extend(outputs.iter().map(|table| table.meta.no));
        }
        let counters = &self.counters;
        let counter = if job.moved { &counters.moves } else { &counters.compactions };
        if let Some(bytes_for) = counters.bytes_for.get(job.reason as usize) {
            bytes_for.fetch_add(tally.bytes_written, Ordering::Relaxed);
        }
        let counts = [
            (counter, 1),
            (&counters.compaction_bytes, tally.bytes_written),
            (&counters.blob_bytes, tally.values_written),
            (&counters.blob_moved, tally.values_moved),
            (&counters.superseded, tally.superseded),
            (&counters.tombstones, tally.tombstones),
            (&counters.hidden, tally.hidden),
            (&counters.filtered, tally.filtered),
            (&counters.replaced, tally.replaced),
        ];
        counts.into_iter().for_each(|(counter, count)| {
            counter.fetch_add(count, Ordering::Relaxed);
        });
        Ok(())
    }

    /// Makes the result true, durably. False, and nothing has changed, when an input is not there
    /// any more: someone has taken it out of the levels meanwhile, and what was made of it would
    /// bring it back. The inputs have as many entries as the outputs and those that were dropped.
    fn put_in_force(
        &self,
        job: &Job,
        inputs: &[Arc<Table>],
        outputs: &Outputs,
        dropped: u64,
    ) -> Result<bool, Error> {
        let removed: Vec<FileNo> = match job.moved {
            true => Vec::new(),
            false => inputs.iter().map(|table| table.meta.no).collect(),
        };
        let added = if job.moved { inputs } else { &outputs.tables };
        let placed: Vec<_> = added.iter().map(|table| (job.to, Arc::clone(table))).collect();
        if !outputs.tables.is_empty() && !crate::mutant!("storage-no-dir-sync") {
            let synced = self.vfs.sync_dir(&self.dir);
            synced.map_err(|error| Error::io("sync", &self.dir, error))?;
        }
        if crate::mutant!("storage-unlink-before-manifest") {
            for no in &removed {
                let _gone = self.vfs.remove(&table_path(&self.dir, *no));
            }
        }
        let mut manifest = self.manifest.lock();
        let levels = Arc::clone(&self.view.load().levels);
        let is_there =
            |table: &Arc<Table>| levels.all().any(|(_, other)| Arc::ptr_eq(table, other));
        if !inputs.iter().all(is_there) {
            return Ok(false);
        }
        let next = levels.edited(&removed, &placed);
        let next = self.next_levels(next, Balance { came: 0, went: dropped });
        let level = u8::try_from(job.to).expect("there are seven levels");
        let metas = added.iter().map(|table| (level, &table.meta));
        let metas = metas.map(|(level, meta)| TableMeta { level, ..meta.clone() });
        manifest.append(Edit {
            tables_added: metas.collect(),
            tables_removed: removed,
            blobs_added: outputs.blobs.iter().map(|blob| blob.meta()).collect(),
            ..Edit::default()
        })?;
        self.change_levels(&manifest, next, |_, _| {});
        Ok(true)
    }

    /// Checks what an edit makes of the levels, before it is written: that their order holds, and
    /// that they differ from what is there by `balance`. With the manifest in hand, so that nobody
    /// else changes them, and without the commit lock: all that grows with the number of tables is
    /// done here.
    pub(super) fn next_levels(&self, next: Levels, balance: Balance) -> NextLevels {
        assert_eq!(next.broken(), None, "an edit keeps the order of the levels");
        balance.check(&self.view.load().levels, &next);
        let debt = debt(&LevelsView::of(&next, None), &self.options);
        NextLevels { levels: Arc::new(next), debt }
    }

    /// Shows readers the levels of an edit that is written, and in the same moment what `change` makes
    /// of the memtables. The old view is dropped outside the lock: it may be the last holder of a file
    /// that is then unlinked.
    pub(super) fn change_levels(
        &self,
        manifest: &Manifest,
        NextLevels { levels, debt }: NextLevels,
        change: impl FnOnce(&mut Commit, &mut Vec<Arc<Memtable>>),
    ) {
        let written = manifest.state.entries();
        assert_eq!(levels.entries(), written, "tables hold the entries the manifest says");
        let mut commit = self.commit.lock();
        let old = self.view.load_full();
        let mut sealed = old.sealed.clone();
        change(&mut commit, &mut sealed);
        let new = Arc::new(View { active: Arc::clone(&old.active), sealed, levels });
        self.debt.store(debt, Ordering::Relaxed);
        self.view.store(Arc::clone(&new));
        commit.compacting.due = true;
        if new.levels.deleted().newest() > old.levels.deleted().newest() {
            // What could not be read may be hidden by now.
            commit.compacting.forgive_damage();
        }
        drop(commit);
        self.compact_wake.notify_one();
        self.note_drained(&old, &new);
        self.retire_blobs(&old, &new);
    }

    /// Lets go of the blob files that no table refers to any more: an edit that is on disk has taken
    /// out the last one that did. Their files go with the last snapshot that holds such a table.
    fn retire_blobs(&self, old: &View, new: &View) {
        let (before, after) = (old.levels.blobs(), new.levels.blobs());
        for (_, blob) in before.iter().filter(|(no, _)| !after.contains_key(no)) {
            self.counters.blob_gone.fetch_add(1, Ordering::Relaxed);
            if crate::mutant!("storage-blob-unlinked-while-pinned") {
                let _gone = self.vfs.remove(blob.file.path());
            }
            blob.file.retire(&self.vfs);
        }
    }

    fn compaction_failed(&self, error: Error, first: Option<FileNo>) {
        let mut commit = self.commit.lock();
        let compacting = &mut commit.compacting;
        match &error {
            error if error.is_full() => compacting.blocked = Some(Error::DiskFull),
            Error::Corrupt { file: path, .. }
            | Error::Missing { file: path }
            | Error::Io { action: "read", path, .. } => {
                compacting.avoid.damaged.extend(file_of(path).or(first));
                compacting.damage.get_or_insert(error);
            }
            _ => {
                drop(commit);
                self.latch(&error);
            }
        }
        self.compact_done.notify_all();
    }

    /// Asks for what is in tables to be brought into the last level, and gives what failed before
    /// another chance. Returns the number of the wish.
    pub(super) fn request_compaction(&self, range: KeyRange) -> Result<u64, Error> {
        let before = self.manifest.lock().state.next_file;
        let mut commit = self.commit.lock();
        if let Some(error) = commit.refusal() {
            return Err(error);
        }
        // Tables that were taken in last are newer than all that was flushed.
        let until = commit.flushed.max(self.view.load().levels.last());
        let compacting = &mut commit.compacting;
        compacting.forgive();
        let number = compacting.ask(Asked { range, until, before });
        self.compact_wake.notify_one();
        Ok(number)
    }

    /// Waits until a wish is fulfilled as far as damage lets it.
    pub(super) fn wait_compacted(&self, number: u64, range: &KeyRange) -> Result<(), Error> {
        let mut commit = self.commit.lock();
        while commit.compacting.asked.contains_key(&number) {
            if let Some(error) = commit.refusal().or_else(|| commit.compacting.blocked.clone()) {
                commit.compacting.asked.remove(&number);
                return Err(error);
            }
            self.compact_done.wait(&mut commit);
        }
        let view = self.view.load();
        let tables = view.levels.all().map(|(_, table)| &table.meta);
        let inside = tables.filter(|meta| range.meets(&meta.smallest, &meta.largest));
        match commit.compacting.is_damaged(inside.map(|meta| meta.no)) {
            true => commit.compacting.damage.clone().map_or(Ok(()), Err),
            false => Ok(()),
        }
    }

    /// Gives the files of unfinished merges back, at the end.
    pub(super) fn abandon_compactions(&self, slots: &mut VecDeque<Running>) {
        for Running { number, merging } in slots.drain(..) {
            merging.abandon(&self.vfs);
            self.commit.lock().compacting.end(number);
        }
    }

    /// Where a flush of the tables as they are may end one and begin the next.
    pub(super) fn flush_cutter(&self) -> Cutter {
        let avoid: Avoid = self.commit.lock().compacting.avoid.clone();
        let view = self.view.load_full();
        Cutter::for_flush(&self.options, &LevelsView::of(&view.levels, None), &avoid)
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
            .max(self.debt.load(Ordering::Relaxed) as f64 / options.debt_bytes_max.max(1) as f64)
            .min(1.0)
    }
}
