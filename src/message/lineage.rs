//! Lineages: what an operator asks who forces a new one, and is answered.

use crate::types::{Epoch, Lineage, NodeName};

/// Begins a new lineage: the majority of the council is gone for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForceOrder {
    /// The name of the cluster that is meant.
    pub cluster: String,
    /// Members that never come back, and are never accepted again.
    pub gone: Vec<NodeName>,
}

/// The lineage that a node is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageReply {
    /// Its number.
    pub lineage: Lineage,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Who decides the next one.
    pub council: Vec<NodeName>,
}
