//! Linearizable tables: what clients ask beyond reads and writes, what they are answered, and what
//! owners are asked as acceptors. The rules are in `docs/protocol/register.md`.

use core::time::Duration;

use crate::causality::Accepted;
use crate::types::{
    Epoch, Key, Record, RegisterState, RequestId, Stamp, TableId, TableName, Unit, Value, WallTime,
};

use super::{Attempt, KeyPlace, Receipt, Refusal, RoundId, TimeToLive};

/// What a compare-and-set wants to find. A version whose time to live is over counts as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// No value.
    Absent,
    /// Exactly this value.
    Value(Value),
    /// The value that the change of this stamp made.
    Stamp(Stamp),
}

/// A compare-and-set: changes a key of a linearizable table if it holds what is expected.
#[derive(Clone, Debug)]
pub struct Cas {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// What must be there.
    pub expect: Expectation,
    /// What then takes its place; `None` deletes.
    pub value: Option<Value>,
    /// How long the value lives. Ignored without a value.
    pub ttl: TimeToLive,
    /// Which try of which change this is.
    pub attempt: Attempt,
}

impl Cas {
    /// Bytes of the key and of the values in it.
    pub fn bytes(&self) -> usize {
        let expected = match &self.expect {
            Expectation::Value(value) => value.as_bytes().len(),
            Expectation::Absent | Expectation::Stamp(_) => 0,
        };
        let value = self.value.as_ref().map_or(0, |value| value.as_bytes().len());
        self.key.as_bytes().len() + expected + value
    }
}

/// Asks what became of a change of a key of a linearizable table. The answer is final: a change
/// that was not made by then never will be.
#[derive(Clone, Debug)]
pub struct OutcomeAsk {
    /// Where.
    pub table: TableName,
    /// Which.
    pub key: Key,
    /// The change; never 0.
    pub id: RequestId,
    /// As [`Attempt::since`] of that change: tells whether its outcome can have been forgotten.
    pub since: WallTime,
    /// Where the window of the change's last attempt ended; 0 when that is not known. What is
    /// found out is found out above it.
    pub lower: WallTime,
}

/// The answer to a [`Cas`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CasReply {
    /// Whether the change was made. If not, it never will be.
    pub applied: bool,
    /// Of one that was not made, the version it found; `None` when there was no value.
    pub current: Option<Record>,
    /// What it rests on. The stamp is that of the change, or of the version that was found.
    pub receipt: Receipt,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was made, under this stamp. Later changes may have taken its place.
    Applied(Stamp),
    /// It was not made, and never will be.
    Cancelled,
}

/// The answer to an [`OutcomeAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutcomeReply {
    /// What became of it.
    pub fate: Fate,
    /// What it rests on.
    pub receipt: Receipt,
}

/// What an owner of a key is asked to do as an acceptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterTask {
    /// Tell what it has accepted.
    Look,
    /// Promise to accept nothing below this ballot, and tell what it has accepted.
    Prepare(Stamp),
    /// Accept a state under this ballot.
    Accept(Stamp, RegisterState),
}

/// What it says, once that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterSaid {
    /// To a look.
    Looked(Option<Accepted>),
    /// Promised.
    Promised {
        /// What it has accepted before.
        accepted: Option<Accepted>,
        /// Of an acceptor that holds nothing the purge floor: what was deleted at or below it may have been
        /// purged, and what became of changes with it.
        floor: Stamp,
    },
    /// Accepted.
    Accepted,
    /// It has promised itself to this higher ballot, and has done nothing.
    Outbid(Stamp),
}

/// What owners of keys of linearizable tables are asked, and say. Safe to lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterMessage {
    /// Asks an owner.
    Ask {
        /// The sender's round.
        round: RoundId,
        /// Where.
        place: KeyPlace,
        /// What.
        task: RegisterTask,
        /// What is left of the deadline.
        remaining: Duration,
    },
    /// Done, or not.
    Answer {
        /// Of the `Ask`.
        round: RoundId,
        /// As in [`WriteAnswer`](super::WriteAnswer).
        complete: bool,
        /// What became of it.
        result: Result<RegisterSaid, Refusal>,
    },
}

impl RegisterMessage {
    /// What is left of the deadline; `None` of answers.
    pub fn remaining(&mut self) -> Option<&mut Duration> {
        match self {
            RegisterMessage::Ask { remaining, .. } => Some(remaining),
            RegisterMessage::Answer { .. } => None,
        }
    }

    /// Bytes of keys and states.
    pub fn bytes(&self) -> usize {
        match self {
            RegisterMessage::Ask { place, task, .. } => {
                let state = match task {
                    RegisterTask::Accept(_, state) => state.bytes(),
                    RegisterTask::Look | RegisterTask::Prepare(_) => 0,
                };
                place.key.as_bytes().len() + state
            }
            RegisterMessage::Answer { result, .. } => match result {
                Ok(
                    RegisterSaid::Looked(Some(shown))
                    | RegisterSaid::Promised { accepted: Some(shown), .. },
                ) => shown.state.bytes(),
                _ => 0,
            },
        }
    }
}

/// What the disk is asked about one key of a linearizable table.
#[derive(Clone, Debug)]
pub struct RegisterDisk {
    /// The unit.
    pub unit: Unit,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// The fence that the question was admitted under.
    pub fence: Epoch,
    /// What to do.
    pub task: RegisterTask,
}
