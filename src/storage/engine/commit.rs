//! Group commit: how a batch becomes visible, logged, durable and acknowledged, in this order.
//!
//! Writers encode outside any lock, then hold the commit lock only to take a number, queue the
//! batch and show it to readers. One log step at a time takes the whole queue, writes it with one
//! write, syncs if anyone in it asked, and calls back in order. Nobody waits for another's sync
//! with a lock held: while a group is on its way to disk the next one gathers, so the number of
//! syncs falls as the number of writers rises (Pebble's commit pipeline, with the log thread as
//! the leader). Where nobody waits for a sync, a caller who must not block may lead a small group
//! itself, see [`Core::write_through`], and syncs, be it of the interval or of a batch that asks for
//! one, go on beside the appends.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::MutexGuard;

use super::core::{Commit, Core, DELETED_RANGES_MAX, Done, OnDone, Pending, Phase, View};
use super::logs::Logs;
use crate::storage::batch::{Batch, SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::memtable::Memtable;
use crate::storage::options::{Durability, SyncMode, ThreadMode};
use crate::storage::wal::{LogRecord, LogWriter, Unsynced};

/// Most bytes that are written to the log on a caller's thread: copying them into the page cache
/// takes some tens of microseconds, about what waking a thread costs.
const WRITE_THROUGH_BYTES: usize = 256 << 10;

/// Answers all of a group, in their order. A callback that panics keeps nobody behind it waiting: the
/// panic goes on when all have been answered.
pub(super) fn call_back(group: Vec<Pending>, result: &Result<(), Error>) {
    let mut panicked = None;
    for pending in group {
        let answer = result.clone().map(|()| pending.seqno);
        match pending.done {
            Done::Call(on_done) => {
                let answer = answer.map_err(|error| match error {
                    Error::DiskFull => Error::TakenBack,
                    error => error,
                });
                let called = catch_unwind(AssertUnwindSafe(|| on_done(answer)));
                panicked = panicked.or(called.err());
            }
            Done::Wake(waiter) => waiter.answer(answer),
            Done::Nobody => {}
        }
    }
    if let Some(panic) = panicked {
        resume_unwind(panic);
    }
}

/// The log thread calls back, until this is dropped.
struct Calling<'a>(&'a AtomicBool);

impl<'a> Calling<'a> {
    /// With the log in hand: nobody else may call back before this group has been.
    fn begin(calling: &'a AtomicBool) -> Self {
        calling.store(true, Ordering::Release);
        Self(calling)
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Answers those of a group that is written who do not wait for its sync: a thread that waits has no
/// order with the callbacks of others.
fn answer_unsynced(group: &mut [Pending]) {
    for pending in group.iter_mut().filter(|pending| !pending.synced) {
        if let Done::Wake(waiter) = &pending.done {
            waiter.answer(Ok(pending.seqno));
            pending.done = Done::Nobody;
        }
    }
}

/// Bytes that these take in the log.
fn bytes_of<'a>(group: impl IntoIterator<Item = &'a Pending>) -> u64 {
    let batches = group.into_iter().filter(|pending| pending.batch.count > 0);
    batches.map(|pending| LogWriter::cost(&pending.batch)).sum()
}

fn append(log: &mut LogWriter, group: &mut [Pending]) -> Result<(), Error> {
    if let [Pending { batch, seqno, .. }] = group
        && batch.count > 0
    {
        return log.append_one(batch, *seqno);
    }
    let batches = group.iter().filter(|pending| pending.batch.count > 0);
    let records = batches.map(|pending| LogRecord { batch: &pending.batch, seqno: pending.seqno });
    log.append(&records.collect::<Vec<_>>())
}

impl Core {
    pub(super) fn submit(
        &self,
        batch: Batch,
        durability: Durability,
        on_done: OnDone,
    ) -> Result<Seqno, (Error, OnDone)> {
        let batch = match batch.seal() {
            Ok(batch) => batch,
            Err(error) => return Err((error, on_done)),
        };
        let synced = match (durability, self.options.sync) {
            (Durability::Synced, _) | (Durability::Default, SyncMode::Always) => true,
            (Durability::Default, SyncMode::Interval(_) | SyncMode::None) => false,
        };
        let mut commit = self.commit.lock();
        let admitted = self.admit(&mut commit, &batch);
        if let Err(error) = admitted.and_then(|()| self.admit_where_full(&commit, &batch, None)) {
            return Err((error, on_done));
        }
        let pending = self.show(&mut commit, batch, synced, Done::Call(on_done));
        let seqno = pending.seqno;
        commit.queue.push_back(pending);
        Ok(seqno)
    }

    /// Gives a batch that was admitted its number and makes it visible.
    pub(super) fn show(
        &self,
        commit: &mut Commit,
        batch: SealedBatch,
        synced: bool,
        done: Done,
    ) -> Pending {
        let view = self.view.load();
        let memtable = Arc::clone(&view.active);
        if batch.count > 0 {
            commit.last.0 += 1;
            memtable.insert(&batch, commit.last);
            self.visible.store(commit.last.0, Ordering::Release);
        }
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.counters.batch_bytes.fetch_add(batch.payload().len() as u64, Ordering::Relaxed);
        let pending = Pending { batch, seqno: commit.last, synced, memtable, done };
        commit.waiting_bytes += pending.cost();
        if view.active.bytes() >= self.options.memtable_bytes {
            self.seal_active(&view);
        }
        pending
    }

    /// The one ladder of back-pressure: refuses at once, never sleeps.
    pub(super) fn admit(&self, commit: &mut Commit, batch: &SealedBatch) -> Result<(), Error> {
        if let Some(error) = commit.refusal() {
            return Err(error);
        }
        let limit = self.options.pending_bytes_max;
        if commit.waiting_bytes > 0 && commit.waiting_bytes + Pending::cost_of(batch) > limit {
            return Err(Error::Overloaded { unit: "bytes", waiting: commit.waiting_bytes, limit });
        }
        // A barrier needs no memory.
        let view = self.view.load();
        let bytes = if batch.count > 0 { view.active.cost(batch) } else { 0 };
        let (memory, limit) = (view.memory(), self.options.memory_bytes_max);
        let least = Memtable::least_cost(batch);
        if least > limit {
            return Err(Error::TooLong { what: "batch in memory", length: least, limit });
        }
        if bytes > 0 && memory + bytes > limit {
            // If it is the active memtable that leaves no room, nothing else would ever seal it.
            if view.sealed.is_empty() {
                self.seal_active(&view);
            }
            let blocked = commit.flush_blocked.take();
            self.flush_wake.notify_one();
            let unit = "bytes";
            return Err(blocked.unwrap_or(Error::Overloaded { unit, waiting: memory, limit }));
        }
        if batch.ranges > 0 {
            self.admit_ranges(commit, &view, batch.ranges as usize)?;
        }
        let (waiting, limit) = (view.levels.depth(), self.options.l0_depth_max.max(1));
        if bytes > 0 && waiting >= limit && commit.compacting.damage.is_none() {
            let blocked = commit.compacting.blocked.take();
            commit.compacting.due = true;
            self.compact_wake.notify_one();
            return Err(blocked.unwrap_or(Error::Overloaded { unit: "tables", waiting, limit }));
        }
        Ok(())
    }

    /// Where the last group found the disk full, a batch needs room in the log before readers see it:
    /// else each would be shown for a moment, and taken back. `held`: the log, of a caller who has it.
    /// Who finds it busy is refused too.
    pub(super) fn admit_where_full(
        &self,
        commit: &Commit,
        batch: &SealedBatch,
        held: Option<&mut Logs>,
    ) -> Result<(), Error> {
        if !commit.full || batch.count == 0 || crate::mutant!("storage-full-shows-first") {
            return Ok(());
        }
        let bytes = (commit.waiting_bytes + Pending::cost_of(batch)) as u64;
        let has_room = match held {
            Some(logs) => logs.writer.reserve(bytes),
            // The log comes before this lock: only tried.
            None => self.log.try_lock().is_some_and(|mut logs| logs.writer.reserve(bytes)),
        };
        if has_room {
            crate::sometimes!("storage: a full disk has room again");
            return Ok(());
        }
        crate::sometimes!("storage: a full disk refuses before anything is shown");
        Err(Error::DiskFull)
    }

    /// The same of the ranges that a batch deletes.
    fn admit_ranges(&self, commit: &mut Commit, view: &View, count: usize) -> Result<(), Error> {
        let (waiting, limit) = (view.deleted_ranges(), DELETED_RANGES_MAX);
        if count > limit {
            return Err(Error::TooMany { what: "deleted ranges", count, limit });
        }
        if waiting + count <= limit {
            return Ok(());
        }
        // They end by a flush and by merges. In memory they weigh next to nothing: where little else
        // is written, nothing but them would ever fill the memtable.
        let deleted = view.active.deleted.get();
        if view.sealed.is_empty() && deleted.is_some_and(|deleted| !deleted.is_empty()) {
            self.seal_active(view);
        }
        let blocked = commit.flush_blocked.take().or_else(|| commit.compacting.blocked.take());
        commit.compacting.due = true;
        self.flush_wake.notify_one();
        self.compact_wake.notify_one();
        let unit = "deleted ranges";
        Err(blocked.unwrap_or(Error::Overloaded { unit, waiting, limit }))
    }

    /// Puts an empty memtable in place of the active one, which then waits for its flush. Only
    /// under the commit lock.
    pub(super) fn seal_active(&self, view: &View) {
        let mut sealed = view.sealed.clone();
        sealed.insert(0, Arc::clone(&view.active));
        let active = Arc::new(Memtable::new(&self.chunks));
        let levels = Arc::clone(&view.levels);
        self.view.store(Arc::new(View { active, sealed, levels }));
        self.flush_wake.notify_one();
    }

    /// Writes and, if anyone asked, syncs what waits, and calls back. Returns whether there was
    /// anything to do.
    pub(super) fn log_step(&self) -> bool {
        let beside = self.syncs_beside();
        let mut is_ready = !beside;
        let (mut log, (mut group, sync)) = loop {
            let log = self.log.lock();
            let mut commit = self.commit.lock();
            let asked = || commit.sync_due || commit.queue.iter().any(|pending| pending.synced);
            if is_ready || commit.latched.is_some() || !asked() {
                break (log, self.take_group(&mut commit));
            }
            let has_room = self.has_room(&log, &commit.queue);
            if has_room && log.writer.promises() {
                break (log, self.take_group(&mut commit));
            }
            drop(commit);
            // What fails there is met again, and answered for, with the log in hand.
            is_ready = !self.prepare_sync(log, has_room);
        };
        if group.is_empty() && !sync {
            return log.writer.mark();
        }
        let beside = beside && sync && log.writer.promises() && self.has_room(&log, &group);
        let mut result = self.log_group(&mut log, &mut group, sync && !beside);
        let unsynced = (beside && result.is_ok()).then(|| log.writer.unsynced());
        let _calling = Calling::begin(&self.calling);
        drop(log);
        if let Some(unsynced) = unsynced {
            answer_unsynced(&mut group);
            result = self.sync_part(&unsynced);
        }
        call_back(group, &result);
        true
    }

    /// Whether a sync that a batch has asked for goes on beside the writers of others, who did not ask.
    /// Where all of them do, they wait for it anyhow. An inline engine has one thread.
    fn syncs_beside(&self) -> bool {
        self.options.threads == ThreadMode::Threaded && self.options.sync != SyncMode::Always
    }

    /// Makes the log ready for a group that is to be synced beside others: with room for it in the
    /// segment in use, and all earlier ones sealed. Before the group is in the log, as the seal may find
    /// the disk full; and not with the log in hand, as it waits for a sync. False if that is not to be.
    fn prepare_sync(&self, mut log: MutexGuard<'_, Logs>, has_room: bool) -> bool {
        let has_spare = !self.spares.lock().is_empty();
        let is_ready = has_room || has_spare && self.rotate(&mut log).is_ok();
        if !is_ready {
            return false;
        }
        drop(log);
        self.seal_ended(None).is_ok()
    }

    /// Whether the segment in use has room for these.
    fn has_room<'a>(&self, log: &Logs, group: impl IntoIterator<Item = &'a Pending>) -> bool {
        let written = log.writer.written();
        written == 0 || written + bytes_of(group) <= self.options.wal_segment_bytes
    }

    /// Syncs a part of the log beside those who append to it.
    fn sync_part(&self, unsynced: &Unsynced) -> Result<(), Error> {
        {
            // One at a time, and not with the log in hand: who has it may be a writer.
            let _alone = self.syncing.lock();
            if let Some(error) = self.latched() {
                return Err(error);
            }
            self.counters.log_syncs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = unsynced.sync() {
                // Before the next sync begins: the kernel has told it to us alone.
                self.latch(&error);
                return Err(self.latched().unwrap_or(error));
            }
        }
        let mut log = self.log.lock();
        log.writer.note_synced(unsynced);
        if log.writer.is_synced() {
            log.writer.mark();
        }
        self.commit.lock().unsynced = !log.is_synced();
        Ok(())
    }

    /// What waits in front and asks for no sync, for one who has the log and must not wait for a disk;
    /// while the log thread calls back, nothing that has a callback, as an earlier one may be to come.
    /// `None` if there is none: then it is for the log thread.
    pub(super) fn take_unsynced(&self) -> Option<Vec<Pending>> {
        let calling = self.calling.load(Ordering::Acquire);
        let mut commit = self.commit.lock();
        let mut group: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = commit.queue.front() {
            bytes += next.batch.payload().len();
            let waits = next.synced || calling && !matches!(next.done, Done::Wake(_));
            if waits || !group.is_empty() && bytes > self.options.group_bytes_max {
                break;
            }
            group.extend(commit.queue.pop_front());
        }
        (!group.is_empty()).then_some(group)
    }

    /// Does the log step for what waits on the caller's thread, if that takes a moment only.
    /// Returns whether nothing is left that the log thread would have to be woken for.
    ///
    /// What a moment is: one `write` of at most [`WRITE_THROUGH_BYTES`] into the page cache, no
    /// sync, no new segment, and no waiting for the log thread or for a sync beside it.
    pub(super) fn write_through(&self) -> bool {
        let Some(mut log) = self.log.try_lock() else { return false };
        if self.syncing.is_locked() || self.calling.load(Ordering::Acquire) {
            return false;
        }
        let Some(mut group) = self.take_small(&log) else { return false };
        if !group.is_empty() {
            let result = self.log_group(&mut log, &mut group, false);
            // With the log in hand, so that no later group is called back before this one.
            call_back(group, &result);
        }
        true
    }

    /// All that waits, if it is little, asks for no sync, and finds room in the segment.
    fn take_small(&self, log: &Logs) -> Option<Vec<Pending>> {
        let mut commit = self.commit.lock();
        let limit = WRITE_THROUGH_BYTES.min(self.options.group_bytes_max);
        let quiet = commit.phase == Phase::Running && commit.latched.is_none();
        // After a write that found the disk full comes a cut, which is synced.
        if !quiet || commit.sync_due || commit.full || commit.waiting_bytes > limit {
            return None;
        }
        if commit.queue.iter().any(|pending| pending.synced) {
            return None;
        }
        let fits = log.writer.written() + bytes_of(&commit.queue) <= self.options.wal_segment_bytes;
        if !fits && self.spares.lock().is_empty() {
            return None;
        }
        Some(commit.queue.drain(..).collect())
    }

    /// Writes a group, syncs it if so asked, and books the outcome.
    pub(super) fn log_group(
        &self,
        log: &mut Logs,
        group: &mut [Pending],
        sync: bool,
    ) -> Result<(), Error> {
        let result = match self.latched() {
            Some(error) => Err(error),
            None => self.write_group(log, group, sync),
        };
        if let Err(error) = &result
            && !error.is_full()
        {
            self.latch(error);
        }
        let result = result.map_err(|error| match error {
            error if error.is_full() => Error::DiskFull,
            error => self.latched().unwrap_or(error),
        });
        self.settle(group, &result, log);
        result
    }

    pub(super) fn latched(&self) -> Option<Error> {
        let commit = self.commit.lock();
        commit.latched.as_ref().map(|cause| Error::ReadOnly { cause: Arc::clone(cause) })
    }

    fn take_group(&self, commit: &mut Commit) -> (Vec<Pending>, bool) {
        let mut group: Vec<Pending> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = commit.queue.front() {
            bytes += next.batch.payload().len();
            if !group.is_empty() && bytes > self.options.group_bytes_max {
                break;
            }
            group.extend(commit.queue.pop_front());
        }
        let asked = group.iter().any(|pending| pending.synced);
        let due = std::mem::take(&mut commit.sync_due) && commit.latched.is_none();
        (group, asked || due)
    }

    fn write_group(&self, log: &mut Logs, group: &mut [Pending], sync: bool) -> Result<(), Error> {
        let bytes = bytes_of(&*group);
        if !self.has_room(log, &*group) {
            self.rotate(log)?;
        }
        // First, as it may find the disk full, which must leave nothing of the group in the log.
        if sync && !log.writer.promises() {
            self.seal_ended(Some(log))?;
        }
        if let Err(error) = append(&mut log.writer, group) {
            // The cut was synced, perhaps while another sync failed and took the kernel's only
            // report: then the cut is not known to be durable.
            let _others = self.syncing.lock();
            return Err(self.latched().unwrap_or(error));
        }
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        if sync && !crate::mutant!("storage-ack-before-fsync") {
            self.sync_log(log)?;
        }
        Ok(())
    }

    /// The kernel reports a failed sync of a file once. So one sync goes at a time, and its failure
    /// is known to all before the next begins.
    fn sync_log(&self, log: &mut Logs) -> Result<(), Error> {
        let _alone = self.syncing.lock();
        if let Some(error) = self.latched() {
            return Err(error);
        }
        if !log.writer.is_synced() {
            self.counters.log_syncs.fetch_add(1, Ordering::Relaxed);
            log.writer.sync()?;
        }
        Ok(())
    }

    /// Syncs what is in the log by now while others go on appending to it: for the interval, for
    /// which nobody waits.
    pub(super) fn sync_beside(&self) {
        match self.seal_ended(None) {
            Err(error) if !error.is_full() => return self.latch(&error),
            _ => {}
        }
        let unsynced = {
            let log = self.log.lock();
            if log.writer.is_synced() {
                return;
            }
            log.writer.unsynced()
        };
        // Whoever writes next hears of a failure.
        let _noted = self.sync_part(&unsynced);
    }

    /// Books the outcome of a group, before anyone hears of it. What could not be logged for want
    /// of room becomes invisible again; after any other failure its fate is unknown and it stays.
    fn settle(&self, group: &[Pending], result: &Result<(), Error>, log: &Logs) {
        let mut commit = self.commit.lock();
        for pending in group {
            commit.waiting_bytes -= pending.cost();
            if matches!(result, Err(Error::DiskFull)) && pending.batch.count > 0 {
                pending.memtable.undo(&pending.batch, pending.seqno);
            }
            commit.resolved = commit.resolved.max(pending.seqno);
        }
        if matches!(result, Err(Error::DiskFull)) {
            self.undone.fetch_add(1, Ordering::SeqCst);
        }
        if result.is_ok()
            && let Some(last) = group.last()
        {
            self.settled.fetch_max(last.seqno.0, Ordering::SeqCst);
        }
        self.room_wake.notify_all();
        commit.unsynced = !log.is_synced();
        // A barrier needs no room, and tells nothing of it.
        if group.iter().any(|pending| pending.batch.count > 0) {
            commit.full = matches!(result, Err(Error::DiskFull));
        }
        if self.upkeep_due(log) && !commit.upkeep_due {
            commit.upkeep_due = true;
            self.upkeep_wake.notify_one();
        }
        if !self.view.load().sealed.is_empty() || commit.phase != Phase::Running {
            self.flush_wake.notify_one();
        }
    }
}
