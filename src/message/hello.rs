//! The handshake that opens every stream between nodes, and why one is refused.

use std::sync::Arc;

use crate::types::{ClusterId, ClusterState, Lineage, NodeId, NodeName, Nonce};

use super::BootRecord;

/// The first message of a stream, from the node that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version the sender speaks.
    pub protocol_min: u32,
    /// Highest protocol version the sender speaks.
    pub protocol_max: u32,
    /// The cluster's name.
    pub cluster_name: String,
    /// Hash of the founders list and settings; 0 once born (the cluster id says more).
    pub founders: u128,
    /// The cluster; `None` before birth.
    pub cluster: Option<ClusterId>,
    /// The history.
    pub lineage: Lineage,
    /// What the history is told by, beside its number; 0 in the first.
    pub origin: u128,
    /// The highest feature level the sender supports.
    pub feature_level: u32,
    /// Who sends.
    pub id: NodeId,
    /// Who sends, by name.
    pub name: NodeName,
    /// Who is meant: an address that leads to somebody else is noticed.
    pub to: NodeId,
    /// The sender's birth.
    pub birth: Nonce,
    /// The sender's boot.
    pub boot: BootRecord,
    /// Where the sender listens for peers, which may not be where the state says; empty when it does
    /// not say. Identity is never an address: a member may move.
    pub address: String,
}

/// Why a stream was refused. Each is a clear error on both sides, and the node lives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// No protocol version in common.
    #[error(
        "protocol versions {theirs_min}..={theirs_max} and {ours_min}..={ours_max} do not meet"
    )]
    Protocol {
        /// The opener's lowest.
        theirs_min: u32,
        /// The opener's highest.
        theirs_max: u32,
        /// The refuser's lowest.
        ours_min: u32,
        /// The refuser's highest.
        ours_max: u32,
    },
    /// Another cluster.
    #[error("another cluster: {theirs}, not {ours}")]
    Cluster {
        /// The opener's.
        theirs: String,
        /// The refuser's.
        ours: String,
    },
    /// The founders lists, or settings fixed at birth, differ.
    #[error(
        "the founders list or a setting fixed at birth differs from {refuser}'s: compare [cluster] in both configurations"
    )]
    Founders {
        /// Who refuses.
        refuser: String,
    },
    /// Another history of the same cluster.
    #[error("lineage {theirs}, not {ours}")]
    Lineage {
        /// The opener's.
        theirs: u32,
        /// The refuser's.
        ours: u32,
        /// The refuser's state, when its history is the later one.
        state: Option<Arc<ClusterState>>,
    },
    /// Another history of the same number: both were forced.
    #[error(
        "another lineage {lineage}: {theirs:032x}, not {ours:032x}. Two were forced, and one of them has \
         to go: docs/operating.md"
    )]
    Rival {
        /// The number of both.
        lineage: u32,
        /// The opener's.
        theirs: u128,
        /// The refuser's.
        ours: u128,
    },
    /// The address leads to somebody else than was meant.
    #[error("this address belongs to {refuser}, not to member {meant}")]
    Misdirected {
        /// Who answers here.
        refuser: String,
        /// Who was meant.
        meant: NodeId,
    },
    /// No such member, or not with this birth.
    #[error("{name} (id {id}) is no member with that birth nonce: {hint}")]
    Stranger {
        /// Its name.
        name: NodeName,
        /// Its claimed number.
        id: NodeId,
        /// What to do.
        hint: String,
    },
    /// The refuser has yet to hear of the opener, who has just joined: it is to try again.
    #[error("{name} (id {id}) has not been heard of here yet")]
    Unheard {
        /// Its name.
        name: NodeName,
        /// Its number.
        id: NodeId,
    },
    /// The opener was a member, and has left or was replaced.
    #[error("{name} (id {id}) has left the cluster, or was replaced")]
    Gone {
        /// Its name.
        name: NodeName,
        /// The number it had.
        id: NodeId,
    },
}
