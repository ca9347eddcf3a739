//! Where compaction stands: what is on its way, what was asked for, what cannot be read.
//!
//! Guarded by the commit lock. Decides nothing about tables; it keeps the books that the choice of
//! the next job is made from.

use std::collections::BTreeMap;

use crate::storage::batch::Seqno;
use crate::storage::compaction::{Asked, Avoid, Job, Rest};
use crate::storage::error::Error;
use crate::storage::files::FileNo;

/// So many ticks in a row without much written make idle times.
const QUIET_TICKS: u32 = 3;
/// So many make a long rest: a minute, at the ticks of a threaded engine.
const LONG_TICKS: u32 = 480;
/// How often it is looked for work in idle times.
const LOOK_TICKS: u32 = 16;

/// After so many ticks without another range being deleted tables that are hidden in part are
/// rewritten: when units leave a store one after the other, a table has parts of many of them, and
/// would be rewritten for each.
const SETTLED_TICKS: u32 = 16;

/// How far a job has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) done: u64,
    pub(super) total: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Compacting {
    /// Something has changed since a thread last looked.
    pub(super) due: bool,
    /// What is wanted in the last level, by number, until it is there as far as damage lets it.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Why the last job failed, if it may be tried again.
    pub(super) blocked: Option<Error>,
    /// The first time that a table could not be read.
    pub(super) damage: Option<Error>,
    /// Tables and jobs that a new job must keep away from.
    pub(super) avoid: Avoid,
    pub(super) progress: BTreeMap<u64, Progress>,
    numbers: u64,
    quiet_ticks: u32,
    /// The newest deleted range at the last tick, and for how many ticks it has been.
    deleted: Option<(Seqno, u32)>,
    /// Bytes of batches at the last tick.
    ticked_at: u64,
}

impl Compacting {
    /// Nothing is on its way, and it is to be looked whether something should be.
    pub(super) fn at_open() -> Self {
        Self { due: true, ..Self::default() }
    }

    /// Lets everything that failed be tried again.
    pub(super) fn forgive(&mut self) {
        (self.blocked, self.damage) = (None, None);
        self.avoid.damaged.clear();
        self.avoid.futile.clear();
        self.due = true;
    }

    /// Lets tables that could not be read be tried again.
    pub(super) fn forgive_damage(&mut self) {
        self.damage = None;
        self.avoid.damaged.clear();
    }

    /// Drops what is known of a table that is not there any more.
    pub(super) fn forget(&mut self, no: FileNo) {
        self.avoid.futile.remove(&no);
        self.avoid.damaged.remove(&no);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Books a job as being on its way and returns its number.
    pub(super) fn begin(&mut self, job: &Job) -> u64 {
        let number = self.number();
        self.avoid.running.insert(number, job.clone());
        self.progress.insert(number, Progress { done: 0, total: job.bytes });
        // What it leaves may be work for another thread.
        self.due = true;
        number
    }

    /// Books that a job has ended, well or not.
    pub(super) fn end(&mut self, number: u64) {
        self.avoid.running.remove(&number);
        self.progress.remove(&number);
        self.due = true;
    }

    /// Books a wish and returns its number.
    pub(super) fn ask(&mut self, asked: Asked) -> u64 {
        let number = self.number();
        self.asked.insert(number, asked);
        self.due = true;
        number
    }

    /// Books that a while has passed, and which deleted range is the newest.
    pub(super) fn tick_deleted(&mut self, newest: Seqno) {
        let same = self.deleted.filter(|(seqno, _)| *seqno == newest);
        let ticks = same.map_or(0, |(_, ticks)| ticks.saturating_add(1));
        self.deleted = Some((newest, ticks));
        self.due |= ticks == SETTLED_TICKS;
    }

    /// Whether no range has been deleted for a while, `newest` being the newest. A store without ticks
    /// waits for nothing.
    pub(super) fn is_settled(&self, newest: Seqno) -> bool {
        self.deleted.is_none_or(|(seqno, ticks)| seqno == newest && ticks >= SETTLED_TICKS)
    }

    /// Books that a while has passed in which `written` bytes of batches came in altogether.
    pub(super) fn tick(&mut self, written: u64, quiet_bytes: u64) {
        let quiet = written - self.ticked_at.min(written) <= quiet_bytes;
        self.ticked_at = written;
        self.quiet_ticks = if quiet { self.quiet_ticks.saturating_add(1) } else { 0 };
        // Once when it has become quiet, and now and then for horizons that rise meanwhile; whatever
        // else changes says so itself.
        let since = self.quiet_ticks.checked_sub(QUIET_TICKS);
        self.due |= since.is_some_and(|since| since.is_multiple_of(LOOK_TICKS));
    }

    /// For how long little has been written, if it is a while.
    pub(super) fn rest(&self, written: u64, quiet_bytes: u64) -> Option<Rest> {
        let since = written - self.ticked_at.min(written);
        let is_idle = self.quiet_ticks >= QUIET_TICKS && since <= quiet_bytes;
        let rest = if self.quiet_ticks >= LONG_TICKS { Rest::Long } else { Rest::Short };
        is_idle.then_some(rest)
    }

    /// Whether a table that could not be read is among these.
    pub(super) fn is_damaged(&self, mut numbers: impl Iterator<Item = FileNo>) -> bool {
        numbers.any(|no| self.avoid.damaged.contains(&no))
    }
}
