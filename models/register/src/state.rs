//! One state of the whole: acceptors, everything ever sent, the clients' attempts, and the history
//! of what clients have heard.
//!
//! The network is what has been sent, for ever (as in Lamport's specifications): a message is
//! delivered when somebody acts on it, never (a loss), late (a reordering) or again (a duplicate).

use std::sync::Arc;

use stateright::semantics::LinearizabilityTester;

use crate::spec::Spec;

/// A ballot, from 1; 0 is none.
pub type Ballot = u8;

/// Ballots of a scenario and attempts of a scenario, at most.
pub const BALLOTS: usize = 6;
/// Attempts of a scenario, at most.
pub const ATTEMPTS: usize = 5;

/// What one acceptor keeps. The state that was accepted stands in the proposal of its ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    pub promised: Ballot,
    pub accepted: Ballot,
}

/// An answer of an acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Promise { ballot: Ballot, shown: Ballot },
    Accepted { ballot: Ballot },
    Looked { attempt: u8, shown: Ballot },
}

/// An acceptor, and all that it has ever answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptor {
    pub disk: Record,
    /// What it goes by; ahead of the disk until that is synced.
    pub memory: Record,
    /// Answers that wait for the disk.
    pub waiting: Vec<Answer>,
    /// By ballot: the accepted ballot that its promise has shown.
    pub promises: [Option<Ballot>; BALLOTS],
    /// By ballot: whether it has accepted, and whether as a complete replica.
    pub accepted: [Option<bool>; BALLOTS],
    /// By attempt: the accepted ballot that a look has been shown.
    pub looked: [Option<Ballot>; ATTEMPTS],
    pub epoch: u8,
    pub complete: bool,
    /// It has given its copy to the incomplete one.
    pub gave: bool,
}

impl Acceptor {
    pub fn new(complete: bool) -> Acceptor {
        Acceptor {
            disk: Record::default(),
            memory: Record::default(),
            waiting: Vec::new(),
            promises: [None; BALLOTS],
            accepted: [None; BALLOTS],
            looked: [None; ATTEMPTS],
            epoch: 0,
            complete,
            gave: false,
        }
    }
}

/// A change in the history of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The operation whose id it carries.
    pub op: u8,
    /// The ballot that made it.
    pub made: Ballot,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// The value is this from now on; 0 is a tombstone.
    Value(u8),
    /// The id will never be applied.
    Cancelled,
    /// The tombstone of a value that has expired. It carries no id.
    Expired,
}

/// What a proposer has asked acceptors to accept: the state is the whole history that led to it.
/// The rules look at its last value and its last few ids only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    pub epoch: u8,
    pub history: Arc<[Change]>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Applied,
    /// The expectation failed; this is the value.
    Failed(u8),
    Cancelled,
    Value(u8),
    /// The answer to the question for an outcome.
    Outcome {
        applied: bool,
    },
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Idle,
    /// Asked for, at a coordinator that has yet to look at the cluster state it knows.
    Ready,
    Looking {
        epoch: u8,
    },
    /// Promises are asked for, in round `round` of this attempt.
    Preparing {
        round: u8,
        epoch: u8,
    },
    Accepting {
        round: u8,
        epoch: u8,
        reply: Reply,
    },
    /// Rounds of it may no longer begin.
    Over,
    /// It has told that it has changed nothing.
    NotApplied,
}

/// What a judge has against a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    NotLinearizable,
}

/// The clients' side of the history.
pub type History = LinearizabilityTester<u8, Spec>;

#[derive(Clone, Debug, PartialEq, Hash)]
pub struct State {
    pub acceptors: Vec<Acceptor>,
    /// By ballot: the epoch of the question for promises.
    pub prepares: [Option<u8>; BALLOTS],
    /// By ballot.
    pub proposals: [Option<Proposal>; BALLOTS],
    pub attempts: Vec<Phase>,
    /// By operation: what its client was told.
    pub told: Vec<Option<Reply>>,
    pub history: Arc<History>,
    pub epoch: u8,
    pub crashes: u8,
    /// The acceptor that can lose everything has done so.
    pub wiped: bool,
    pub fault: Option<Fault>,
}

impl State {
    /// The epoch that a ballot was proposed in; 0 for none.
    pub fn epoch_of(&self, ballot: Ballot) -> u8 {
        let proposal = at(ballot).and_then(|at| self.proposals[at].as_ref());
        proposal.map_or(0, |proposal| proposal.epoch)
    }

    /// The proposal of a ballot that was accepted; the empty history for none.
    pub fn state_of(&self, ballot: Ballot) -> &[Change] {
        match at(ballot).and_then(|at| self.proposals[at].as_ref()) {
            Some(proposal) => &proposal.history,
            None => &[],
        }
    }
}

/// The place of a ballot in arrays.
pub fn at(ballot: Ballot) -> Option<usize> {
    usize::from(ballot).checked_sub(1)
}

/// The value at the end of a history; 0 for none.
pub fn value_of(history: &[Change]) -> u8 {
    let value = |change: &Change| match change.what {
        What::Value(value) => Some(value),
        What::Expired => Some(0),
        What::Cancelled => None,
    };
    history.iter().rev().find_map(value).unwrap_or(0)
}
