//! Where other threads leave word for the driver without ever waiting: finished disk requests,
//! abandoned operations, the order to drain or to stop. Each is bounded by what is in flight, so
//! the mailbox needs no bound of its own.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::message::{DiskAnswer, DiskError, DiskToken};
use crate::types::OpId;

/// What has arrived since the driver last looked.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) done: Vec<(DiskToken, Result<DiskAnswer, DiskError>)>,
    pub(super) abandoned: Vec<OpId>,
    /// Streams of scans that have ended.
    pub(super) ended: Vec<u64>,
    pub(super) drain: bool,
    pub(super) stop: bool,
    pub(super) nudge: bool,
}

impl Letters {
    fn is_empty(&self) -> bool {
        let Letters { done, abandoned, ended, drain, stop, nudge } = self;
        let quiet = done.is_empty() && abandoned.is_empty() && ended.is_empty();
        quiet && !drain && !stop && !nudge
    }
}

/// The driver's mailbox.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

impl Mailbox {
    fn post(&self, write: impl FnOnce(&mut Letters)) {
        let mut letters = self.letters.lock();
        let first = letters.is_empty();
        write(&mut letters);
        drop(letters);
        // Only the first letter wakes: a group commit finishes many writes with one wake-up.
        if first {
            self.arrived.notify_one();
        }
    }

    pub(super) fn done(&self, token: DiskToken, result: Result<DiskAnswer, DiskError>) {
        self.post(|letters| letters.done.push((token, result)));
    }

    pub(super) fn abandon(&self, op: OpId) {
        self.post(|letters| letters.abandoned.push(op));
    }

    pub(super) fn end_scan(&self, scan: u64) {
        self.post(|letters| letters.ended.push(scan));
    }

    pub(super) fn drain(&self) {
        self.post(|letters| letters.drain = true);
    }

    pub(super) fn stop(&self) {
        self.post(|letters| letters.stop = true);
    }

    /// Resolves once something has arrived since the last [`Mailbox::take`].
    pub(super) async fn arrived(&self) {
        loop {
            self.arrived.notified().await;
            // The driver may have taken the letter in the turn in which it was posted.
            if !self.letters.lock().is_empty() {
                return;
            }
        }
    }

    /// Asks for another turn although nothing has arrived.
    pub(super) fn nudge(&self) {
        self.post(|letters| letters.nudge = true);
    }

    /// Everything that has arrived.
    pub(super) fn take(&self) -> Letters {
        core::mem::take(&mut *self.letters.lock())
    }
}
