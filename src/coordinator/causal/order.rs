//! What a put or delete of a causal table is made of, and as whom a node makes it.

use core::time::Duration;

use crate::coordinator::seats::Sitter;
use crate::message::CausalPut;
use crate::types::{NodeId, Tenure, Time};

/// What a put is made of, beside its place.
#[derive(Clone, Debug)]
pub struct CausalWriteOrder {
    /// The put.
    pub put: CausalPut,
    /// As whom this node makes it.
    pub own: Own,
    /// Who may stand in for owners that are away, as in a put of another table. A node that stands in
    /// itself is the first of them.
    pub stand_ins: Vec<NodeId>,
    /// Owners that a delete without a context asks what there is.
    pub r: u8,
    /// When the answer is no longer wanted.
    pub deadline: Time,
    /// How long an owner may take before it is told again.
    pub retry_interval: Duration,
}

/// As whom a node makes a put.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The node.
    pub node: NodeId,
    /// Its seat: an owner's own, or that of the owner it stands in for.
    pub seat: u8,
    /// It is no owner, and keeps what it writes in custody.
    pub stands_in: bool,
    /// An owner's tenure. Of a stand-in one that has never been given, for when its record of custody
    /// is made by this put; else the record has its own.
    pub tenure: Tenure,
}

impl Own {
    pub(super) fn sitter(self) -> Sitter {
        Sitter { seat: self.seat, stands_in: self.stands_in }
    }
}
