//! Causal tables: what clients are answered, what owners say to each other, and what the disk is
//! asked. The rules are in `docs/protocol/causal.md`.

use bytes::Bytes;
use core::time::Duration;

use crate::causality::{CausalContext, Change, Dot, Refused, SiblingSet};
use crate::types::{Key, NodeId, Stamp, TableId, TraceId, Unit, Value, WallTime};

use super::{Attempt, KeyPlace, OpError, Receipt, Refusal, RoundId};

/// The answer to a read or write of a causal table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalReply {
    /// Whether it answers a write; its `siblings` are empty then.
    pub wrote: bool,
    /// What a reader sees, oldest first; empty: not found.
    pub siblings: Vec<Sibling>,
    /// How many siblings the key has. More than are here when they do not fit one answer: the
    /// context then covers those that are here, and the rest comes once they are resolved.
    pub count: u32,
    /// What the reader, or writer, has now seen: for its next write.
    pub context: Bytes,
    /// What it rests on.
    pub receipt: Receipt,
    /// Of an increment: what the counter then held at its coordinator.
    pub counter: Option<i64>,
}

/// One sibling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value.
    pub value: Value,
    /// When it ceases to be visible.
    pub expiry: Option<WallTime>,
    /// Of its first write.
    pub stamp: Stamp,
    /// It is a counter, and the value its sum in decimal.
    pub is_counter: bool,
}

/// A put, delete or increment for an owner to coordinate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalPut {
    /// The value; `None` deletes.
    pub value: Option<Value>,
    /// An increment: what is added. There is no value then.
    pub add: Option<i64>,
    /// What its writer has seen; `None` when it says nothing: a put then takes nothing's place, a
    /// delete that of what its coordinator finds.
    pub seen: Option<CausalContext>,
    /// The client's attempt; its id is never 0.
    pub attempt: Attempt,
    /// The quorum.
    pub w: u8,
    /// Whether stand-ins may count.
    pub sloppy: bool,
    /// Below the floors.
    pub weak: bool,
    /// How long the value lives.
    pub ttl: Option<Duration>,
    /// The request's.
    pub trace: TraceId,
}

impl CausalPut {
    /// Whether it takes away what there is, and writes nothing.
    pub fn deletes(&self) -> bool {
        self.value.is_none() && self.add.is_none()
    }
}

/// What owners say to each other, and others to owners. Safe to lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CausalMessage {
    /// Asks an owner, or a stand-in, to coordinate a put. One that is asked twice does it once.
    Put {
        /// The sender's operation.
        round: RoundId,
        /// Where.
        place: KeyPlace,
        /// Asks a stand-in, which keeps the put in custody for this owner.
        hint_for: Option<NodeId>,
        /// What.
        put: Box<CausalPut>,
        /// What is left of the deadline.
        remaining: Duration,
    },
    /// Done, or not.
    PutAnswer {
        /// Of the `Put`.
        round: RoundId,
        /// What became of it.
        result: Result<Box<CausalReply>, Box<OpError>>,
    },
    /// Asks an owner, or a stand-in, to merge. Round 0 wants no answer.
    Merge {
        /// The sender's round.
        round: RoundId,
        /// Where.
        place: KeyPlace,
        /// Merge it into what is kept in custody for this owner.
        hint_for: Option<NodeId>,
        /// What.
        set: SiblingSet,
        /// What is left of the deadline.
        remaining: Duration,
    },
    /// Merged and durable, or not.
    MergeAnswer {
        /// Of the `Merge`.
        round: RoundId,
        /// What became of it.
        result: Result<(), Refusal>,
    },
    /// Asks an owner, or a stand-in, for what it holds.
    Read {
        /// The sender's round.
        round: RoundId,
        /// Where.
        place: KeyPlace,
        /// Stand in for this owner: what is kept for any owner of the unit is wanted.
        hint_for: Option<NodeId>,
        /// What is left of the deadline.
        remaining: Duration,
    },
    /// A piece of what it holds; all pieces make one answer.
    ReadAnswer {
        /// Of the `Read`.
        round: RoundId,
        /// Which piece, from 0.
        piece: u8,
        /// Of how many.
        pieces: u8,
        /// The piece, or a refusal.
        result: Result<SiblingSet, Refusal>,
    },
}

impl CausalMessage {
    /// What is left of the deadline; `None` of answers.
    pub fn remaining(&mut self) -> Option<&mut Duration> {
        match self {
            CausalMessage::Put { remaining, .. }
            | CausalMessage::Merge { remaining, .. }
            | CausalMessage::Read { remaining, .. } => Some(remaining),
            CausalMessage::PutAnswer { .. }
            | CausalMessage::MergeAnswer { .. }
            | CausalMessage::ReadAnswer { .. } => None,
        }
    }

    /// Bytes of keys, values and contexts.
    pub fn bytes(&self) -> usize {
        match self {
            CausalMessage::Put { place, put, .. } => {
                let seen = put.seen.as_ref().map_or(0, CausalContext::entries);
                let value = put.value.as_ref().map_or(0, |value| value.as_bytes().len());
                128 + place.key.as_bytes().len() + value + seen * Dot::BYTES
            }
            CausalMessage::Merge { place, set, .. } => place.key.as_bytes().len() + set.bytes(),
            CausalMessage::Read { place, .. } => place.key.as_bytes().len(),
            CausalMessage::ReadAnswer { result, .. } => {
                result.as_ref().map_or(0, SiblingSet::bytes)
            }
            CausalMessage::PutAnswer { result, .. } => {
                128 + result.as_ref().map_or(0, |reply| reply.context.len())
            }
            CausalMessage::MergeAnswer { .. } => 0,
        }
    }
}

/// What the disk is asked about one key of a causal table.
#[derive(Clone, Debug)]
pub struct CausalDisk {
    /// The unit.
    pub unit: Unit,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// What to do.
    pub task: CausalTask,
}

/// What to do with a set.
#[derive(Clone, Debug)]
pub enum CausalTask {
    /// Read it. What this node wrote is told only once it is durable.
    Read,
    /// Read what is kept under the key for any of these owners instead, merged. Told only once it is
    /// durable.
    ReadKept(Vec<NodeId>),
    /// Merge another one into it.
    Merge(SiblingSet),
    /// Make a change of this node.
    Change(Change),
}

/// What the disk answers, once what it says is durable.
#[derive(Clone, Debug)]
pub enum CausalDone {
    /// To a read of either kind; blank when there is nothing.
    Read(SiblingSet),
    /// To a merge.
    Merged,
    /// To a change that was made.
    Changed(Box<Changed>),
    /// To one that was not: nothing has changed.
    Refused(Refused),
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The name its write stands under; `None` of a delete.
    pub stands: Option<Dot>,
    /// What the other owners are to be told.
    pub told: SiblingSet,
    /// What the writer has now seen.
    pub seen: CausalContext,
    /// Siblings there are now.
    pub siblings: u32,
    /// What the counter holds now; `None` when there is none.
    pub counter: Option<i64>,
}
