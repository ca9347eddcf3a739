//! Ranges that were read lately. A session asks several times about the leaf in which two owners differ, each time
//! more exactly, and the side that answers keeps nothing of a session.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Kept;
use crate::repair::tree::{Entry, Range};

/// Ranges that are kept: those of some sessions at once.
const RANGES_MAX: usize = 16;
/// Entries of all of them. What is larger is read again.
const ENTRIES_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lately(Mutex<VecDeque<Seen>>);

#[derive(Debug)]
struct Seen {
    kept: Arc<Kept>,
    /// What its tree had been told when it was read.
    version: u64,
    range: Range,
    entries: Vec<Entry>,
}

impl Lately {
    /// What a range holds, if nothing was told of its unit since it was read.
    pub(super) fn find(
        &self,
        (kept, version): (&Arc<Kept>, u64),
        range: &Range,
    ) -> Option<Vec<Entry>> {
        let all = self.0.lock();
        let is_it = |seen: &&Seen| {
            let is_fresh = seen.version == version || crate::mutant!("lately-read-stays");
            Arc::ptr_eq(&seen.kept, kept) && is_fresh && seen.range == *range
        };
        all.iter().find(is_it).map(|seen| seen.entries.clone())
    }

    /// A range was read between two looks at its tree that found it at the same version.
    pub(super) fn keep(
        &self,
        (kept, version): (&Arc<Kept>, u64),
        range: &Range,
        entries: &[Entry],
    ) {
        if entries.len() > ENTRIES_MAX {
            return;
        }
        let (kept, entries) = (Arc::clone(kept), entries.to_vec());
        let mut all = self.0.lock();
        all.retain(|seen| !(Arc::ptr_eq(&seen.kept, &kept) && seen.range == *range));
        all.push_front(Seen { kept, version, range: range.clone(), entries });
        let mut left = ENTRIES_MAX;
        all.truncate(RANGES_MAX);
        all.retain(|seen| {
            let fits = seen.entries.len() <= left;
            left = left.saturating_sub(seen.entries.len());
            fits
        });
    }
}
