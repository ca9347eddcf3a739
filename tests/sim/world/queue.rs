//! What is going to happen, by time; what was asked for first happens first at equal times.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Happening;

#[derive(Debug)]
struct Entry {
    at: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives the greatest first: the earliest is the greatest.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The agenda.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    order: u64,
}

impl Queue {
    /// `what` happens at `at`.
    pub(crate) fn push(&mut self, at: u64, what: Happening) {
        self.order += 1;
        self.heap.push(Entry { at, order: self.order, what });
    }

    /// What happens next, and when.
    pub(crate) fn pop(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}
