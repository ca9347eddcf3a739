//! What was asked and what was answered, in an order that can be trusted.
//!
//! A history is plain data: it reads no clock, opens no file and decides nothing; [`super::check`]
//! judges it. The shape (invoke, return, process, outcome; unknown outcomes stay open for ever)
//! is that of Herlihy and Wing, "Linearizability: A Correctness Condition for Concurrent Objects"
//! (1990), as Jepsen made it practical.
//!
//! One history covers one table. Three rules make it trustworthy:
//! - [`History::invoke`] is called before the request leaves and [`History::complete`] after its
//!   answer has arrived. The order of these calls is the order the checkers go by; the times are
//!   for people and break no ties.
//! - A write is invoked *once*, whatever the number of its attempts: a partly applied attempt and
//!   its retry are one operation.
//! - A process has one operation in flight. One whose outcome is unknown never ends, so its
//!   process is spent: go on with [`History::new_process`].

use core::time::Duration;
use std::collections::BTreeMap;

use crate::types::{Key, Stamp, Time, Value};

/// A sequential client: one operation in flight at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

/// Names one operation of one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpIndex(usize);

impl OpIndex {
    /// The operation at a place.
    pub(super) fn of(place: usize) -> OpIndex {
        OpIndex(place)
    }

    /// Its place in the order of invocation, from 0.
    pub fn get(self) -> usize {
        self.0
    }
}

/// What was asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read it. A key that a scan's page covers counts as read too, found or not.
    Get,
    /// Write this value. Give every put of a key a value of its own, and the checkers can tell
    /// whose value a read returned; equal values only make them more lenient.
    Put(Value),
    /// Delete it.
    Delete,
    /// Compare and set: write this value, or delete for `None`, if what is there is as expected.
    /// Only linearizable tables know it.
    Cas(Expect, Option<Value>),
}

/// What a compare-and-set expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// This value.
    Value(Value),
    /// The version of this stamp, which its writer was told or a read has shown.
    Stamp(Stamp),
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// No answer, or one that leaves open whether a write took or may yet take effect.
    #[default]
    Unknown,
    /// Refused, with the promise that it had no effect and will have none.
    Failed,
    /// A write was acknowledged.
    Written {
        /// Its version, from the receipt.
        stamp: Stamp,
        /// The receipt said `weak`: acknowledged below the floors.
        weak: bool,
    },
    /// A read was answered.
    Read {
        /// The value; `None` when the key was not there.
        value: Option<Value>,
        /// The version, from the receipt; of a miss, the tombstone's, or zero.
        stamp: Stamp,
        /// The receipt said `weak`: read below the floors.
        weak: bool,
    },
    /// A compare-and-set did not find what it expected and had no effect.
    Mismatch {
        /// What it found instead; `None` when nothing was there.
        current: Option<Value>,
        /// Its version; of nothing, the tombstone's, or zero.
        stamp: Stamp,
    },
}

/// What the cluster says has become of a write when it is asked about its request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It has taken effect, with this version.
    Applied(Stamp),
    /// It has not, and never will.
    Cancelled,
}

/// A question after a write, answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The write.
    pub op: OpIndex,
    /// When the answer had come.
    pub at: Moment,
    /// What it was.
    pub settled: Settled,
}

/// A place in the order of all invocations and answers of one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    order: u64,
    /// When, by the clock handed in.
    pub at: Time,
}

impl Moment {
    /// Before everything.
    pub(crate) const START: Moment = Moment { order: 0, at: Time(0) };
    /// After everything: where operations without an answer end.
    pub(crate) const NEVER: Moment = Moment { order: u64::MAX, at: Time(u64::MAX) };

    /// Its place in that order, from 1.
    pub fn order(self) -> u64 {
        self.order
    }
}

/// How long the value of a put lives, as far as an observer can tell: the version expires at its
/// stamp and `ttl`, and stamps and readers go by clocks that the observer does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// What the put asked for.
    pub ttl: Duration,
    /// How far the stamp, and the clock of whoever reads, may be from the observer's time, together.
    pub slack: Duration,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub process: ProcessId,
    /// Of which key.
    pub key: Key,
    /// For what.
    pub action: Action,
    /// When the request left.
    pub invoked: Moment,
    /// When the answer had come; `None` while there is none.
    pub returned: Option<Moment>,
    /// What it was.
    pub outcome: Outcome,
    /// Of a put whose value expires.
    pub life: Option<Life>,
}

impl Operation {
    /// The earliest moment at which its value may be missed because it has expired; `None` when it
    /// does not expire.
    pub fn may_expire_at(&self) -> Option<Time> {
        let Life { ttl, slack } = self.life?;
        Some(self.invoked.at.plus(ttl.saturating_sub(slack)))
    }

    /// The moment after which its value must not be shown; `None` when there is none, or nobody
    /// knows which stamp it has.
    pub fn expired_by(&self) -> Option<Time> {
        let Life { ttl, slack } = self.life?;
        let written = matches!(self.outcome, Outcome::Written { .. });
        self.returned.filter(|_| written).map(|moment| moment.at.plus(ttl).plus(slack))
    }

    /// Where it ends: at its answer, unless that leaves the outcome open.
    pub fn end(&self) -> Moment {
        match self.outcome {
            Outcome::Unknown => Moment::NEVER,
            Outcome::Failed
            | Outcome::Written { .. }
            | Outcome::Read { .. }
            | Outcome::Mismatch { .. } => self.returned.unwrap_or(Moment::NEVER),
        }
    }

    /// Whether it was over before `other` began.
    pub fn precedes(&self, other: &Operation) -> bool {
        self.end() < other.invoked
    }

    /// Whether it is a put, a delete or a compare-and-set.
    pub fn is_write(&self) -> bool {
        self.action != Action::Get
    }
}

/// All operations on one table, in order of invocation. Grows by one entry an operation; values
/// are shared with whoever handed them in, not copied.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    settlements: Vec<Settlement>,
    order: u64,
    processes: u64,
}

impl History {
    /// A history without operations.
    pub fn new() -> History {
        History::default()
    }

    /// A process that has asked nothing yet.
    pub fn new_process(&mut self) -> ProcessId {
        self.processes += 1;
        ProcessId(self.processes)
    }

    /// Records that `process` is about to ask for `action` on `key`. Its outcome is unknown until
    /// [`History::complete`] says otherwise.
    pub fn invoke(&mut self, process: ProcessId, key: Key, action: Action, now: Time) -> OpIndex {
        self.processes = self.processes.max(process.0);
        let invoked = self.next_moment(now);
        let outcome = Outcome::Unknown;
        let (returned, life) = (None, None);
        self.operations.push(Operation { process, key, action, invoked, returned, outcome, life });
        OpIndex(self.operations.len() - 1)
    }

    /// Records that the value of the put `op` expires.
    ///
    /// # Panics
    /// When `op` is of another history, or writes no value.
    pub fn expires(&mut self, op: OpIndex, life: Life) {
        let operation = self.operations.get_mut(op.0).expect("an operation of this history");
        let puts = matches!(operation.action, Action::Put(_) | Action::Cas(_, Some(_)));
        assert!(puts, "what is not put does not expire");
        operation.life = Some(life);
    }

    /// Records the answer to `op`, once it is here.
    ///
    /// # Panics
    /// When `op` is of another history, was completed before, or the outcome does not answer its
    /// action: a history that lies is worse than none.
    pub fn complete(&mut self, op: OpIndex, outcome: Outcome, now: Time) {
        let returned = self.next_moment(now);
        let operation = self.operations.get_mut(op.0).expect("an operation of this history");
        assert!(operation.returned.is_none(), "operation {} was completed before", op.0);
        match outcome {
            Outcome::Written { .. } => assert!(operation.is_write(), "a read was written"),
            Outcome::Read { .. } => assert!(!operation.is_write(), "a write was read"),
            Outcome::Mismatch { .. } => {
                assert!(matches!(operation.action, Action::Cas(..)), "nothing was compared");
            }
            Outcome::Unknown | Outcome::Failed => {}
        }
        operation.returned = Some(returned);
        operation.outcome = outcome;
    }

    /// Records what the cluster said has become of `op` when it was asked, once that is known. The
    /// operation may be over or not; only [`super::check::linearizable`] looks at it.
    pub fn settle(&mut self, op: OpIndex, settled: Settled, now: Time) {
        let at = self.next_moment(now);
        self.settlements.push(Settlement { op, at, settled });
    }

    /// All questions after writes that were answered, in the order of the answers.
    pub fn settlements(&self) -> &[Settlement] {
        &self.settlements
    }

    /// All operations, in order of invocation.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation `op`; `None` when it is of another history.
    pub fn operation(&self, op: OpIndex) -> Option<&Operation> {
        self.operations.get(op.0)
    }

    /// The operations on each key, in order of invocation: what holds for a history of registers
    /// holds key by key.
    pub fn by_key(&self) -> BTreeMap<&Key, Vec<(OpIndex, &Operation)>> {
        let mut keys: BTreeMap<&Key, Vec<(OpIndex, &Operation)>> = BTreeMap::new();
        for (index, operation) in self.operations.iter().enumerate() {
            keys.entry(&operation.key).or_default().push((OpIndex(index), operation));
        }
        keys
    }

    fn next_moment(&mut self, at: Time) -> Moment {
        self.order += 1;
        Moment { order: self.order, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Key {
        Key::new(text).unwrap()
    }

    fn written() -> Outcome {
        Outcome::Written { stamp: Stamp::ZERO, weak: false }
    }

    #[test]
    fn order_is_the_order_of_calls_even_within_one_tick_of_the_clock() {
        let mut history = History::new();
        let process = history.new_process();
        let first = history.invoke(process, key("k"), Action::Delete, Time(5));
        history.complete(first, written(), Time(5));
        let second = history.invoke(process, key("k"), Action::Get, Time(5));
        let [a, b] = [first, second].map(|op| history.operation(op).unwrap());
        assert!(a.precedes(b) && !b.precedes(a));
    }

    #[test]
    fn an_unknown_outcome_never_ends() {
        let mut history = History::new();
        let process = history.new_process();
        let open = history.invoke(process, key("k"), Action::Delete, Time(1));
        history.complete(open, Outcome::Unknown, Time(2));
        let process = history.new_process();
        let later = history.invoke(process, key("k"), Action::Get, Time(9));
        let [open, later] = [open, later].map(|op| history.operation(op).unwrap());
        assert!(!open.precedes(later));
        assert_ne!(open.process, later.process);
    }

    #[test]
    fn operations_are_grouped_by_key_in_order_of_invocation() {
        let mut history = History::new();
        for name in ["b", "a", "b"] {
            let process = history.new_process();
            history.invoke(process, key(name), Action::Get, Time(0));
        }
        let keys = history.by_key();
        let indexes = |name| keys[&key(name)].iter().map(|(op, _)| op.get()).collect::<Vec<_>>();
        assert_eq!((indexes("a"), indexes("b")), (vec![1], vec![0, 2]));
    }
}
