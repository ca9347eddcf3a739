//! Counters of causal tables: an increment is a put that its coordinator adds up. Those of linearizable
//! tables are changes of registers (`node::register`). `docs/protocol/counter.md`.

use super::Node;
use super::client::{is_sloppy, quorum};
use crate::coordinator::Target;
use crate::message::{CausalPut, Increment, OpError};
use crate::types::{Key, NodeId, RequestId, Table, TraceId};

impl Node {
    /// A client's increment, checked; and the quorum of reads, which it makes none of.
    pub(super) fn increment(
        &mut self,
        table: &Table,
        increment: Increment,
        trace: TraceId,
    ) -> Result<(Key, CausalPut, u8), OpError> {
        let Increment { key, by, w, mut attempt, mode, .. } = increment;
        let w = quorum(w, table.w, table.n, "w")?;
        let sloppy = is_sloppy(table, mode)?;
        if attempt.id == RequestId(0) {
            attempt.id = self.name_write();
        }
        let (value, add, seen) = (None, Some(by), None);
        let (weak, ttl) = (w < table.w_min, table.ttl);
        let put = CausalPut { value, add, seen, attempt, w, sloppy, weak, ttl, trace };
        Ok((key, put, table.r.max(table.r_min)))
    }

    /// Who may coordinate a put when no owner can. Nobody an increment: what a stand-in writes has an
    /// actor that ends with its record, and its part of the counter would stay for good.
    pub(super) fn coordinating_stand_ins(&self, put: &CausalPut, target: &Target) -> Vec<NodeId> {
        if put.add.is_some() { Vec::new() } else { self.stand_ins(put.sloppy, target) }
    }
}
