//! Writing and waiting: the thread that waits does the work itself where it can.
//!
//! To wake the log thread, and to be woken by it, costs more than a write into the page cache, and
//! with a sync a tenth of that. So a thread that finds the log free and nothing waiting writes its
//! own batch, with the log in hand, and syncs it if so asked. One that finds the log busy queues
//! its batch: with a sync for the log thread, which makes one group of all that gathers during a
//! sync; without one for itself or whoever has the log before it. Who asks for no sync waits for none:
//! what is in front of its batch and asks for one is left to the log thread, which syncs beside the log.

use std::sync::Arc;

use super::commit::call_back;
use super::core::{Core, Done, Waiter};
use crate::storage::batch::{Batch, SealedBatch, Seqno};
use crate::storage::error::Error;
use crate::storage::options::SyncMode;

/// What came of an attempt to write one's own batch.
enum Lead {
    Done(Result<Seqno, Error>),
    Refused(SealedBatch, Error),
    /// The log is somebody else's now.
    Busy(SealedBatch),
}

impl Core {
    /// See `Engine::write`.
    pub(super) fn write(&self, batch: Batch) -> Result<Seqno, Error> {
        let mut batch = batch.seal()?;
        let synced = self.options.sync == SyncMode::Always;
        self.keep_pace(batch.record_bytes());
        loop {
            match self.lead(batch, synced) {
                Lead::Done(result) => return result,
                Lead::Refused(back, refusal) => {
                    self.wait_for_room(&back, refusal)?;
                    batch = back;
                }
                Lead::Busy(back) => match self.queue(back, synced) {
                    Ok(waiter) if synced => {
                        self.log_wake.notify_one();
                        return waiter.wait();
                    }
                    Ok(waiter) => return self.follow(&waiter),
                    Err((back, refusal)) => {
                        self.wait_for_room(&back, refusal)?;
                        batch = back;
                    }
                },
            }
        }
    }

    /// Queues a batch for whoever has the log next.
    fn queue(&self, batch: SealedBatch, synced: bool) -> Result<Arc<Waiter>, (SealedBatch, Error)> {
        let waiter = Arc::new(Waiter::default());
        let mut commit = self.commit.lock();
        let admitted = self.admit(&mut commit, &batch);
        if let Err(refusal) = admitted.and_then(|()| self.admit_where_full(&commit, &batch, None)) {
            return Err((batch, refusal));
        }
        let done = Done::Wake(Arc::clone(&waiter));
        let pending = self.show(&mut commit, batch, synced, done);
        commit.queue.push_back(pending);
        Ok(waiter)
    }

    /// Writes a batch at once, if the log is free and nothing else waits for it.
    fn lead(&self, batch: SealedBatch, synced: bool) -> Lead {
        let Some(mut log) = self.log.try_lock() else { return Lead::Busy(batch) };
        let pending = {
            let mut commit = self.commit.lock();
            if !commit.queue.is_empty() || commit.sync_due {
                return Lead::Busy(batch);
            }
            let held = Some(&mut *log);
            let admitted = self.admit(&mut commit, &batch);
            if let Err(error) = admitted.and_then(|()| self.admit_where_full(&commit, &batch, held))
            {
                return Lead::Refused(batch, error);
            }
            self.show(&mut commit, batch, synced, Done::Nobody)
        };
        let seqno = pending.seqno;
        let mut group = [pending];
        let result = self.log_group(&mut log, &mut group, synced);
        if synced && result.is_ok() && self.commit.lock().queue.is_empty() {
            log.writer.mark();
        }
        Lead::Done(result.map(|()| seqno))
    }

    /// Takes the log when it is free, and writes what waits, until the batch of `waiter` is done.
    fn follow(&self, waiter: &Waiter) -> Result<Seqno, Error> {
        loop {
            let mut log = self.log.lock();
            if let Some(answer) = waiter.take() {
                return answer;
            }
            let Some(mut group) = self.take_unsynced() else {
                // In front of ours is one that is to be synced, or called back by the log thread.
                drop(log);
                self.log_wake.notify_one();
                return waiter.wait();
            };
            let result = self.log_group(&mut log, &mut group, false);
            // With the log in hand, so that no later group is called back before this one.
            call_back(group, &result);
        }
    }
}
