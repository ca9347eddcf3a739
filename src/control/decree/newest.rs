//! Makes sure that a node knows the newest state there is: asks the council whether anything newer
//! may have been decided. A majority that has accepted nothing newer proves that nothing newer had
//! been decided when it was asked, since each decision needs a majority of the same council.

use std::collections::BTreeSet;

use crate::types::{Epoch, NodeId, Time};

use super::round::majority;

/// The questions in flight, one after the other: whoever asks during one waits for the next, which
/// begins after he asked.
#[derive(Debug)]
pub(super) struct Newest {
    /// Counts checks, so that an answer to an earlier one does not count.
    seq: u64,
    open: Option<Open>,
    /// Somebody waits for the check after the open one.
    again: bool,
    /// When those who have not answered are asked again.
    pub(super) resend_at: Time,
}

#[derive(Debug)]
struct Open {
    epoch: Epoch,
    council: Vec<NodeId>,
    confirmed_by: BTreeSet<NodeId>,
}

impl Newest {
    /// Nothing asked yet; `seq` is drawn at random, so that an answer from before a restart belongs
    /// to no check of this boot.
    pub(super) fn new(seq: u64) -> Newest {
        Newest { seq, open: None, again: false, resend_at: Time(0) }
    }

    /// Wants a check. Returns the number of the one that will do.
    pub(super) fn want(&mut self) -> u64 {
        self.again = true;
        self.seq + 1
    }

    /// Whether a check should begin.
    pub(super) fn is_wanted(&self) -> bool {
        self.open.is_none() && self.again
    }

    /// Whether a check is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The number of the latest check.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Begins a check at `epoch`.
    pub(super) fn begin(&mut self, epoch: Epoch, council: Vec<NodeId>) {
        self.seq += 1;
        self.again = false;
        self.resend_at = Time(0);
        self.open = Some(Open { epoch, council, confirmed_by: BTreeSet::new() });
    }

    /// A newer state is in force here: answers so far were about an older one.
    pub(super) fn on_state(&mut self, epoch: Epoch, council: &[NodeId]) {
        if let Some(open) = &mut self.open {
            *open = Open { epoch, council: council.to_vec(), confirmed_by: BTreeSet::new() };
            self.resend_at = Time(0);
        }
    }

    /// A council member has answered. Returns whether the check is over: nothing newer than its
    /// epoch had been decided when it began.
    pub(super) fn on_answer(&mut self, from: NodeId, seq: u64, newest: Epoch) -> bool {
        if seq != self.seq {
            return false;
        }
        let Some(open) = &mut self.open else { return false };
        if newest <= open.epoch && open.council.contains(&from) {
            open.confirmed_by.insert(from);
        }
        let over = open.confirmed_by.len() >= majority(open.council.len());
        if over {
            self.open = None;
        }
        over
    }

    /// Whom to ask, again.
    pub(super) fn silent(&self) -> Vec<NodeId> {
        let Some(open) = &self.open else { return Vec::new() };
        let silent = open.council.iter().filter(|id| !open.confirmed_by.contains(id));
        silent.copied().collect()
    }

    /// How many are needed, how many there are.
    pub(super) fn tally(&self) -> (usize, usize) {
        let open = self.open.as_ref();
        open.map_or((1, 0), |open| (majority(open.council.len()), open.confirmed_by.len()))
    }
}
