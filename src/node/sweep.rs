//! Deletes what is left of dropped tables on this node: driven by the state in force alone, so a
//! node that was down when a table was dropped does it when it is back.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::disk::Pending;
use crate::message::{DiskAnswer, DiskError, DiskRequest, Level, MetaRecord};
use crate::types::{ClusterState, Epoch};

/// How far the deletion has come.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The keys of all tables dropped by this epoch are gone, durably.
    swept: Epoch,
    work: Option<Work>,
}

#[derive(Debug)]
struct Work {
    state: Arc<ClusterState>,
    from: Bytes,
    /// Writes the disk was asked before this token were admitted before the drop was known: the
    /// first piece waits for them.
    after: u64,
    running: bool,
    failed: bool,
}

impl Sweep {
    pub(super) fn new(swept: Epoch) -> Sweep {
        Sweep { swept, work: None }
    }
}

impl Node {
    /// A state has come into force: tables dropped since the last sweep must go.
    pub(super) fn begin_sweep(&mut self, state: &Arc<ClusterState>) {
        if state.dropped_at <= self.sweep.swept {
            return;
        }
        if self.sweep.work.as_ref().is_some_and(|work| work.state.dropped_at == state.dropped_at) {
            return;
        }
        let running = self.sweep.work.as_ref().is_some_and(|work| work.running);
        let (state, from, after) = (state.clone(), Bytes::new(), self.next_token);
        self.sweep.work = Some(Work { state, from, after, running, failed: false });
        self.sweep_on();
    }

    /// Asks for the next piece, if nothing stands in the way.
    pub(super) fn sweep_on(&mut self) {
        let Some(work) = self.sweep.work.as_ref().filter(|work| !work.running) else { return };
        let after = work.after;
        let writes = self.writes_before(after) || self.is_copied(None, after);
        if writes && !crate::mutant!("sweep-does-not-wait") {
            return;
        }
        let Some(work) = self.sweep.work.as_mut() else { return };
        work.running = true;
        let (state, from) = (work.state.clone(), work.from.clone());
        self.hints.books.begin_remove();
        self.disk(Pending::Swept(state.dropped_at), DiskRequest::Sweep { state, from });
    }

    pub(super) fn on_swept(&mut self, epoch: Epoch, result: Result<DiskAnswer, DiskError>) {
        self.hints.books.end_remove();
        let result = match result {
            Ok(DiskAnswer::Swept(next, hints)) => {
                self.on_hints_swept(hints);
                Ok(next)
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(work) = self.sweep.work.as_mut() else { return };
        work.running = false;
        if work.state.dropped_at != epoch {
            // Another table was dropped meanwhile: all units are walked again.
            return self.sweep_on();
        }
        match result {
            Ok(Some(next)) => {
                work.from = next;
                self.sweep_on();
            }
            Ok(None) => {
                crate::sometimes!("node: has deleted a dropped table");
                let records = vec![MetaRecord::Swept(epoch)];
                self.disk(Pending::SweptPersisted(epoch), DiskRequest::Persist(records));
            }
            Err(error) => {
                // Tried again with the next housekeeping.
                let said = core::mem::replace(&mut work.failed, true);
                if !said {
                    let text = format!("could not delete keys of dropped tables: {error}");
                    self.note(Level::Warn, None, text);
                }
            }
        }
    }

    pub(super) fn on_sweep_durable(&mut self, epoch: Epoch) {
        self.sweep.swept = self.sweep.swept.max(epoch);
        let done = |work: &Work| work.state.dropped_at <= epoch;
        if self.sweep.work.as_ref().is_some_and(done) {
            self.sweep.work = None;
            self.note(
                Level::Info,
                None,
                format!("keys of tables dropped by epoch {epoch} are gone"),
            );
        }
    }
}
