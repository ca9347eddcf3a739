//! What members say to each other to decide the next cluster state, and what each must remember.
//! The rules are `control::decree`'s; states and invariants are in `docs/protocol/decree.md`.

use core::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{ClusterState, Epoch, Lineage, NodeId};

/// One decision: the epoch that is to be decided, in one lineage. Its acceptors are the council of
/// the state before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Instance {
    /// Which history.
    pub lineage: Lineage,
    /// The epoch to be decided; 2 is the first that is.
    pub epoch: Epoch,
}

/// One round of one proposer. Never given twice: a counter within one boot, then the boot, then the
/// member. The zero ballot is below all.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Counts up, above every ballot the proposer has heard of.
    pub counter: u64,
    /// The proposer's boot number. A node proposes only once its boot is registered, so that no
    /// later boot has the same number.
    pub boot: u64,
    /// The proposer.
    pub member: NodeId,
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.counter, self.boot, self.member)
    }
}

/// A state that was accepted, and in which round.
pub type AcceptedState = (Ballot, Arc<ClusterState>);

/// What an acceptor has promised and accepted in one instance: durable before it is told. Only the
/// latest instance is kept: the one before it is in force, see `docs/protocol/decree.md`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecreeRecord {
    /// The instance.
    pub instance: Instance,
    /// Nothing is promised or accepted below this.
    pub promised: Ballot,
    /// The state accepted in the highest round.
    pub accepted: Option<AcceptedState>,
}

/// What is said about decisions. Safe to lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecreeMessage {
    /// A proposer asks for the promise to take nothing below `ballot`.
    Prepare {
        /// What is to be decided.
        instance: Instance,
        /// The round.
        ballot: Ballot,
    },
    /// Promised, durably.
    Promise {
        /// Of the `Prepare`.
        instance: Instance,
        /// Of the `Prepare`.
        ballot: Ballot,
        /// What the acceptor had accepted by then: it may have been decided.
        accepted: Option<AcceptedState>,
    },
    /// A proposer asks to accept a state.
    Accept {
        /// What is to be decided; the epoch is the state's.
        instance: Instance,
        /// The round.
        ballot: Ballot,
        /// The state.
        state: Arc<ClusterState>,
    },
    /// Accepted, durably.
    Accepted {
        /// Of the `Accept`.
        instance: Instance,
        /// Of the `Accept`.
        ballot: Ballot,
    },
    /// Neither promised nor accepted: a higher round has been promised.
    Outbid {
        /// Of what is refused.
        instance: Instance,
        /// Of what is refused.
        ballot: Ballot,
        /// The higher round.
        promised: Ballot,
    },
    /// This state has been decided. It is in force once a majority of its own council holds it.
    Decided(Arc<ClusterState>),
    /// The sender durably holds the decided state of this instance.
    Stored(Instance),
    /// Asks a council member for the newest epoch it has accepted, stored or has in force.
    Newest {
        /// Echoed in the answer.
        seq: u64,
    },
    /// The newest epoch that may have been decided, as far as the sender knows.
    NewestAnswer {
        /// Of the question.
        seq: u64,
        /// That epoch.
        epoch: Epoch,
    },
}
