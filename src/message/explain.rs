//! What is known of one key: what each member tells of it over the peer protocol, and what the node
//! that was asked makes of it for an operator.

use core::time::Duration;

use crate::causality::Dot;
use crate::types::{Epoch, Key, NodeId, NodeName, Stamp, TableId, TableKind, Unit, WallTime};

use super::{Liveness, RoundId};

/// What nodes say to each other of what they know of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainMessage {
    /// Asks a member what it knows. It answers as of the epoch it knows itself: whoever asks wants to
    /// hear of differences, not to be refused for them.
    Ask {
        /// The asker's round.
        round: RoundId,
        /// The table.
        table: TableId,
        /// The key.
        key: Key,
        /// What is left of the deadline.
        remaining: Duration,
    },
    /// What it knows, or why it does not tell, for people; at most
    /// [`EXPLAIN_WHY_BYTES_MAX`](crate::types::limits::EXPLAIN_WHY_BYTES_MAX) long.
    Answer {
        /// Of the `Ask`.
        round: RoundId,
        /// What it knows.
        result: Result<KeyFacts, String>,
    },
}

impl ExplainMessage {
    /// Bytes of keys, names and texts.
    pub fn bytes(&self) -> usize {
        match self {
            ExplainMessage::Ask { key, .. } => key.as_bytes().len(),
            ExplainMessage::Answer { result: Err(why), .. } => why.len(),
            ExplainMessage::Answer { result: Ok(facts), .. } => {
                let copy = match &facts.copy {
                    OwnCopy::NotOwner | OwnCopy::Version(_) | OwnCopy::Register(_) => 64,
                    OwnCopy::Untold(why) => why.len(),
                    OwnCopy::Siblings(siblings) => 64 * siblings.len(),
                };
                copy + 64 * facts.hints.len()
            }
        }
    }
}

/// What one member knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The newest epoch it knows to be in force.
    pub epoch: Epoch,
    /// Its own copy.
    pub copy: OwnCopy,
    /// What it keeps of the key for owners that were away: at most one version an owner.
    pub hints: Vec<KeptVersion>,
}

/// A member's own copy of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCopy {
    /// The member is no owner of the key, so it has none.
    NotOwner,
    /// It cannot be told; says why.
    Untold(String),
    /// Of a table where the highest stamp wins; `None` when it holds nothing, not even a tombstone.
    Version(Option<VersionFacts>),
    /// Of a linearizable table.
    Register(RegisterFacts),
    /// Of a causal table, by name of the write; empty when it holds none. At most
    /// [`EXPLAIN_SIBLINGS_MAX`](crate::types::limits::EXPLAIN_SIBLINGS_MAX) are told.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptVersion {
    /// The owner.
    pub target: NodeId,
    /// The version.
    pub version: VersionFacts,
}

/// What is known of a key, as an operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainReply {
    /// The node that answers, and has asked the others.
    pub me: NodeName,
    /// The newest epoch it knows to be in force.
    pub epoch: Epoch,
    /// The unit that holds the key.
    pub unit: Unit,
    /// The last epoch in which that unit's owners changed.
    pub changed_at: Epoch,
    /// Of the table.
    pub kind: TableKind,
    /// The stamp of the newest version that anybody told of; `None` when nobody holds one, and in
    /// causal tables.
    pub newest: Option<Stamp>,
    /// Whether all owners hold the same; `None` when those that told do, and some did not tell.
    pub agree: Option<bool>,
    /// All of it in one sentence.
    pub in_all: String,
    /// The key's owners, in preference order.
    pub owners: Vec<OwnerReply>,
    /// Members that did not tell what they know, and why.
    pub silent: Vec<(NodeName, String)>,
}

/// One owner of a key, and what is known of its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReply {
    /// The owner.
    pub node: NodeName,
    /// As the node that answers sees it.
    pub liveness: Liveness,
    /// Its copy, or why it did not tell.
    pub copy: Result<OwnCopy, String>,
    /// Whether what it told is durable on its disk; `None` when that is not known.
    pub durable: Option<bool>,
    /// What others keep for it.
    pub hints: Vec<HintFacts>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// A version that a member keeps for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintFacts {
    /// The member.
    pub holder: NodeName,
    /// The version.
    pub version: VersionFacts,
}

/// Why an owner's copy is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For scripts: `newest`, `nothing`, `hinted`, `stale`, `missing`, `same`, `differs`, `silent`,
    /// `untold`.
    pub code: &'static str,
    /// For people.
    pub why: String,
}
