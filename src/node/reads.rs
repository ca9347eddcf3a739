//! Keys of linearizable tables that pages of scans have read by themselves: each is an ordinary read, which this
//! node makes for the page. `docs/protocol/scan.md`, "Linearizable tables".

use std::collections::{BTreeMap, VecDeque};

use super::Node;
use super::operation::Machine;
use crate::coordinator::{Goal, Register};
use crate::message::{Applied, ClientResult, ErrorCode, OpError};
use crate::types::{Key, Now};

/// The reads. Bounded: a page has a few at once, and pages are few.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Pages, and keys that they want read.
    due: VecDeque<(u64, Key)>,
    /// Operations that read, and the pages they do it for.
    of: BTreeMap<u64, u64>,
    /// What came of them: `None` when the key's owners have changed meanwhile.
    over: VecDeque<(u64, Key, Option<ClientResult>)>,
}

impl Node {
    /// A page wants a key read.
    pub(super) fn want_read(&mut self, page: u64, key: Key) {
        self.cursors.reads.due.push_back((page, key));
    }

    /// Begins a read that a page wants, or tells a page of one. Whether there was anything to do.
    pub(super) fn run_read(&mut self, now: Now) -> bool {
        if let Some((page, key, result)) = self.cursors.reads.over.pop_front() {
            self.step_scan(now, page, |scan, _, step| scan.on_read(&key, result, step));
            return true;
        }
        let Some((page, key)) = self.cursors.reads.due.pop_front() else { return false };
        self.begin_read(now, page, key);
        true
    }

    fn begin_read(&mut self, now: Now, page: u64, key: Key) {
        let operation = self.operations.get(&page);
        let Some(Machine::Scan(scan)) = operation.map(|operation| &operation.machine) else {
            return;
        };
        let (table, quorum, deadline) = (scan.table(), scan.quorum(), scan.deadline());
        let state = self.state.clone();
        let Some((state, table)) = state.as_ref().and_then(|s| Some((s, s.table(table)?))) else {
            let error = OpError::new(ErrorCode::TableUnknown, "the table has been dropped");
            self.cursors.reads.over.push_back((
                page,
                key,
                Some(Err(error.with_applied(Applied::No))),
            ));
            return;
        };
        let stamps = self.check_own_clock(now);
        let mut order = self.register_order(Goal::Get, quorum, deadline);
        order.must_not_stamp = stamps.err();
        let target = self.target(state, table, key);
        self.cursors.reads.of.insert(target.op, page);
        self.begin_own(now, target, |target, step| {
            Machine::Register(Box::new(Register::begin(target, order, step)))
        });
    }

    /// An operation has come to its answer, or (`None`) is given up since its owners have changed: if a page waits
    /// for it, that is told.
    pub(super) fn end_read(&mut self, id: u64, result: Option<ClientResult>) {
        let Some(page) = self.cursors.reads.of.remove(&id) else { return };
        let operation = self.operations.get(&id);
        if let Some(target) = operation.and_then(|operation| operation.machine.target()) {
            self.cursors.reads.over.push_back((page, target.key.clone(), result));
        }
    }

    /// A page is over: nobody waits for its reads any more.
    pub(super) fn end_reads_of(&mut self, page: u64) {
        let of_page = self.cursors.reads.of.iter().filter(|(_, of)| **of == page);
        let ids: Vec<u64> = of_page.map(|(id, _)| *id).collect();
        for id in ids {
            self.cursors.reads.of.remove(&id);
            self.forget(id);
        }
    }
}
