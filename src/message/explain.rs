//! What one node knows of a key: its own copy, and what it keeps of it for others. Put side by side,
//! the answers of all nodes say why replicas differ.

use crate::causality::Dot;
use crate::types::{Epoch, NodeName, Stamp, TableKind, Unit, WallTime};

/// What one node knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainReply {
    /// The node that answers.
    pub me: NodeName,
    /// The newest epoch it knows to be in force.
    pub epoch: Epoch,
    /// The unit that holds the key.
    pub unit: Unit,
    /// The last epoch in which that unit's owners changed.
    pub changed_at: Epoch,
    /// Of the table.
    pub kind: TableKind,
    /// The key's owners, in preference order.
    pub owners: Vec<NodeName>,
    /// By bit `i`, whether owner `i` can be reached from here.
    pub reachable: u16,
    /// The clock by which this node decides whether a version has expired.
    pub wall: WallTime,
    /// Its own copy.
    pub copy: OwnCopy,
    /// What it keeps of the key for owners that were away: at most one version an owner.
    pub hints: Vec<KeptVersion>,
}

/// A node's own copy of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCopy {
    /// The node is no owner of the key, so it has none.
    NotOwner,
    /// It cannot be told; says why.
    Untold(String),
    /// Of a table where the highest stamp wins; `None` when it holds nothing, not even a tombstone.
    Version(Option<VersionFacts>),
    /// Of a linearizable table.
    Register(RegisterFacts),
    /// Of a causal table, by name of the write; empty when it holds none.
    Siblings(Vec<SiblingFacts>),
}

/// A version, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionFacts {
    /// Its place in the order of versions.
    pub stamp: Stamp,
    /// Bytes of its value; 0 for a tombstone.
    pub bytes: u64,
    /// It is a delete.
    pub tombstone: bool,
    /// When it ceases to be visible.
    pub expiry: Option<WallTime>,
}

/// What an acceptor holds, without its value. The default has neither promised nor accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterFacts {
    /// The highest ballot it has promised itself to; zero when none.
    pub promised: Stamp,
    /// The ballot under which it has accepted a state last; zero when none.
    pub accepted: Stamp,
    /// That state; `None` when it has accepted none.
    pub version: Option<VersionFacts>,
}

/// A sibling, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiblingFacts {
    /// The write.
    pub dot: Dot,
    /// Bytes of its value.
    pub bytes: u64,
    /// When it ceases to be visible.
    pub expiry: Option<WallTime>,
}

/// A version that is kept for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVersion {
    /// The owner.
    pub target: NodeName,
    /// The version.
    pub version: VersionFacts,
}
