//! What was asked of keys of a causal table and what was answered, in an order that can be trusted:
//! the same rules as [`super::history`], with what each writer had seen.

use core::fmt;

use crate::types::{Key, Time, Value};

use super::history::OpIndex;

/// What a writer had seen of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saw {
    /// These values: its context came from a read that returned them, or from a put of one of them.
    /// None at all is a blind put.
    Values(Vec<Value>),
    /// Whatever its coordinator found: a delete without a context.
    Whatever,
}

/// What was asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CausalAction {
    /// Read it.
    Get,
    /// Read it, and no later read goes back behind what was read.
    Monotonic,
    /// Write this value, which no other put of the history writes.
    Put(Value, Saw),
    /// Delete what was seen.
    Delete(Saw),
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CausalOutcome {
    /// No answer, or one that leaves open whether a write took effect.
    #[default]
    Unknown,
    /// Refused, with the promise that it had no effect and will have none.
    Failed,
    /// A write was acknowledged, at or above the floors.
    Written,
    /// A write was acknowledged with the help of stand-ins: it is written once their hints are home.
    Custody,
    /// A read at or above the floors returned these siblings.
    Read(Vec<Value>),
    /// Acknowledged or answered below the floors: shows nothing.
    Weak,
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct CausalOperation {
    /// Of which key.
    pub key: Key,
    /// For what.
    pub action: CausalAction,
    /// Its place in the order of all invocations and answers.
    pub invoked: u64,
    /// The place of its answer; `u64::MAX` while the outcome is open.
    pub ended: u64,
    /// When it was asked, for people.
    pub at: Time,
    /// What came of it.
    pub outcome: CausalOutcome,
    /// How often it was tried: one that was tried more than once may have been made more than once.
    pub tries: u32,
}

impl CausalOperation {
    /// Whether it wrote what it was to write, and said so.
    pub fn is_acknowledged(&self) -> bool {
        self.outcome == CausalOutcome::Written
    }

    /// What its writer had seen; nothing of a read.
    pub fn saw(&self) -> Option<&Saw> {
        match &self.action {
            CausalAction::Get | CausalAction::Monotonic => None,
            CausalAction::Put(_, saw) | CausalAction::Delete(saw) => Some(saw),
        }
    }
}

/// All operations on one causal table, in order of invocation.
#[derive(Clone, Debug, Default)]
pub struct CausalHistory {
    operations: Vec<CausalOperation>,
    order: u64,
}

impl CausalHistory {
    /// A history without operations.
    pub fn new() -> CausalHistory {
        CausalHistory::default()
    }

    /// Enters an operation before its request leaves.
    pub fn invoke(&mut self, key: Key, action: CausalAction, at: Time) -> OpIndex {
        self.order += 1;
        self.operations.push(CausalOperation {
            key,
            action,
            invoked: self.order,
            ended: u64::MAX,
            at,
            outcome: CausalOutcome::Unknown,
            tries: 1,
        });
        OpIndex::of(self.operations.len() - 1)
    }

    /// Notes that an operation is tried once more.
    pub fn tried_again(&mut self, op: OpIndex) {
        if let Some(operation) = self.operations.get_mut(op.get()) {
            operation.tries += 1;
        }
    }

    /// Enters an answer after it has arrived. One that leaves the outcome open is not entered.
    pub fn complete(&mut self, op: OpIndex, outcome: CausalOutcome) {
        self.order += 1;
        if let Some(operation) = self.operations.get_mut(op.get())
            && outcome != CausalOutcome::Unknown
        {
            operation.ended = self.order;
            operation.outcome = outcome;
        }
    }

    /// All hints are home: what stand-ins have helped to write is on its owners from now on.
    pub fn home(&mut self) {
        self.order += 1;
        for operation in &mut self.operations {
            if operation.outcome == CausalOutcome::Custody {
                operation.outcome = CausalOutcome::Written;
                operation.ended = self.order;
            }
        }
    }

    /// All operations, in order of invocation.
    pub fn operations(&self) -> &[CausalOperation] {
        &self.operations
    }
}

impl fmt::Display for CausalOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, action, invoked, ended, outcome, tries, .. } = self;
        write!(f, "{invoked}..{ended} {key:?} {action:?} {outcome:?} tries {tries}")
    }
}
