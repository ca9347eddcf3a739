//! The doubt about one member, from when it is suspected until it is heard of or held to be down.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::types::{NodeId, Time, limits};

/// A suspicion.
#[derive(Debug)]
pub(super) struct Suspicion {
    pub(super) since: Time,
    /// Who have found it silent themselves, this node perhaps among them.
    by: BTreeSet<NodeId>,
}

impl Suspicion {
    pub(super) fn new(since: Time) -> Suspicion {
        Suspicion { since, by: BTreeSet::new() }
    }

    /// Others accuse it too. Returns whether that is news worth passing on.
    pub(super) fn confirm(&mut self, by: impl IntoIterator<Item = NodeId>) -> bool {
        let before = self.by.len();
        for accuser in by {
            if self.by.len() < limits::ACCUSERS_MAX {
                self.by.insert(accuser);
            }
        }
        self.by.len() > before
    }

    pub(super) fn accusers(&self) -> Vec<NodeId> {
        self.by.iter().copied().collect()
    }

    /// Those beside the first.
    pub(super) fn confirmations(&self) -> usize {
        self.by.len().saturating_sub(1)
    }

    pub(super) fn is_over(&self, now: Time, lasts: Duration) -> bool {
        now.since(self.since) >= lasts
    }
}
