//! The checkers: pure functions from what was observed to the list of what is wrong with it. An
//! empty list is a pass; every entry names the operations that show the fault.
//!
//! | function | invariant |
//! |---|---|
//! | [`register`] | I1: acknowledged writes are read; I5: deleted stays deleted; no value from nowhere |
//! | [`causal`] | I2: a write of a causal table vanishes only where a write that saw it took its place |
//! | [`linearizable`] | I3: every key of a linearizable table is one register that each operation meets at one moment |
//! | [`stamps`] | I8: stamps of one node strictly increase over its whole life |
//! | [`deadlines`] | I13: no request outlives its deadline by more than [`OVERRUN_MAX`] |
//! | [`Ledger::audit`] | what was acknowledged before a crash is read back after it |
//!
//! They know no cluster and no node: the same functions judge the simulator and real processes.

mod causal;
mod deadline;
mod ledger;
mod linearizable;
mod register;
mod stamp;

use core::fmt;
use core::time::Duration;

use crate::types::{Key, NodeId, Stamp, Value};

use super::history::OpIndex;

pub use causal::causal;
pub use deadline::{Deadline, OVERRUN_MAX, deadlines};
pub use ledger::Ledger;
pub use linearizable::linearizable;
pub use register::register;
pub use stamp::{Issue, stamps};

/// One broken promise, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A read began after a write was acknowledged and yet returned an older version, whose own
    /// write had ended before the acknowledged one began, or whose stamp is lower.
    StaleRead {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The acknowledged write it missed.
        missed: OpIndex,
    },
    /// A read began after a write was acknowledged and yet found nothing, though no delete can
    /// have removed the value.
    LostWrite {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The acknowledged write it missed.
        missed: OpIndex,
    },
    /// A read began after a delete was acknowledged and yet returned a value written before it.
    Resurrected {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The acknowledged delete.
        deleted: OpIndex,
    },
    /// A read returned a value that no put of that key had asked for by then.
    ValueFromNowhere {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
    },
    /// A read returned the value of a put that was reported as not applied.
    FailedWriteRead {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The put.
        put: OpIndex,
    },
    /// A read returned a value after it must have expired.
    ExpiredRead {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The put.
        put: OpIndex,
    },
    /// A write that began after another was acknowledged was acknowledged with a stamp that is
    /// not above the other's: it will lose, or has lost, to an older one.
    StampOrder {
        /// The key.
        key: Key,
        /// The write that was acknowledged first.
        earlier: OpIndex,
        /// The write that began later.
        later: OpIndex,
    },
    /// Two operations saw different contents under one stamp of one key.
    StampReused {
        /// The key.
        key: Key,
        /// The stamp.
        stamp: Stamp,
        /// One operation.
        one: OpIndex,
        /// The other.
        other: OpIndex,
    },
    /// A node gave a stamp that is not above the one it had given before.
    StampRegressed {
        /// The node.
        node: NodeId,
        /// What it gave before.
        before: Stamp,
        /// What it gave next.
        after: Stamp,
    },
    /// A node gave a stamp that bears another node's number.
    StampForeign {
        /// The node.
        node: NodeId,
        /// What it gave.
        stamp: Stamp,
    },
    /// A request was answered too long after its deadline, or has not been answered yet.
    DeadlineOverrun {
        /// Its place in the input.
        request: usize,
        /// By how much.
        by: Duration,
    },
    /// An acknowledged write was not read back.
    LedgerLost {
        /// The key.
        key: Key,
        /// What should have been there; `None` for a delete.
        wanted: Option<Value>,
        /// What was; `None` for nothing.
        found: Option<Value>,
    },
    /// A key of the ledger with acknowledged writes was never read back.
    LedgerUnread {
        /// The key.
        key: Key,
    },
    /// A read of a causal table began after a write was acknowledged and lacks it, though nobody
    /// who saw it wrote.
    SiblingLost {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The acknowledged write it missed.
        missed: OpIndex,
    },
    /// A read of a causal table returned a write that an acknowledged one had seen and taken the
    /// place of.
    SiblingBack {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
        /// The write that came back.
        put: OpIndex,
        /// The one that took its place.
        by: OpIndex,
    },
    /// A read of a causal table returned one write as two siblings.
    SiblingTwice {
        /// The key.
        key: Key,
        /// The read.
        read: OpIndex,
    },
    /// No order of the operations on a key of a linearizable table, each at one moment between its
    /// invocation and its answer, explains all answers up to this one.
    NotLinearizable {
        /// The key.
        key: Key,
        /// The operation whose answer nothing explains.
        op: OpIndex,
    },
    /// Too many operations were open at once to decide whether their answers have an explanation.
    Undecided {
        /// The key.
        key: Key,
        /// The operation at whose answer the search was given up.
        op: OpIndex,
    },
    /// A compare-and-set was answered that what is there is not as expected, and it is.
    FalseMismatch {
        /// The key.
        key: Key,
        /// The compare-and-set.
        op: OpIndex,
    },
    /// What became of a write, as the cluster told when it was asked, is not what its writer was
    /// told, or what was told before.
    OutcomeContradicted {
        /// The key.
        key: Key,
        /// The write.
        op: OpIndex,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::StaleRead { key, read, missed } => {
                write!(
                    f,
                    "{key:?}: read {} is older than acknowledged {}",
                    read.get(),
                    missed.get()
                )
            }
            Violation::LostWrite { key, read, missed } => {
                write!(f, "{key:?}: read {} lacks acknowledged {}", read.get(), missed.get())
            }
            Violation::Resurrected { key, read, deleted } => {
                write!(f, "{key:?}: read {} shows what {} deleted", read.get(), deleted.get())
            }
            Violation::ValueFromNowhere { key, read } => {
                write!(f, "{key:?}: read {} returned what nobody had written", read.get())
            }
            Violation::FailedWriteRead { key, read, put } => {
                write!(f, "{key:?}: read {} returned the failed write {}", read.get(), put.get())
            }
            Violation::ExpiredRead { key, read, put } => {
                write!(f, "{key:?}: read {} shows the expired {}", read.get(), put.get())
            }
            Violation::StampOrder { key, earlier, later } => {
                write!(f, "{key:?}: {} is stamped below {}", later.get(), earlier.get())
            }
            Violation::StampReused { key, stamp, one, other } => {
                write!(f, "{key:?}: {} and {} differ under {stamp}", one.get(), other.get())
            }
            Violation::StampRegressed { node, before, after } => {
                write!(f, "node {node}: stamp {after} given after {before}")
            }
            Violation::StampForeign { node, stamp } => {
                write!(f, "node {node}: gave the stamp {stamp} of another node")
            }
            Violation::DeadlineOverrun { request, by } => {
                write!(f, "request {request}: {by:?} past its deadline")
            }
            Violation::LedgerLost { key, wanted, found } => {
                let [wanted, found] = [wanted, found].map(shown);
                write!(f, "{key:?}: wanted {wanted}, found {found}")
            }
            Violation::SiblingLost { key, read, missed } => {
                write!(f, "{key:?}: read {} lacks sibling {}", read.get(), missed.get())
            }
            Violation::SiblingBack { key, read, put, by } => {
                let (read, put, by) = (read.get(), put.get(), by.get());
                write!(f, "{key:?}: read {read} shows {put}, whose place {by} had taken")
            }
            Violation::SiblingTwice { key, read } => {
                write!(f, "{key:?}: read {} shows one write twice", read.get())
            }
            Violation::NotLinearizable { key, op } => {
                write!(f, "{key:?}: nothing explains the answer of {}", op.get())
            }
            Violation::Undecided { key, op } => {
                write!(f, "{key:?}: too much was open at the answer of {} to judge it", op.get())
            }
            Violation::FalseMismatch { key, op } => {
                write!(f, "{key:?}: {} found what it expected and said no", op.get())
            }
            Violation::OutcomeContradicted { key, op } => {
                write!(f, "{key:?}: two answers about {} contradict each other", op.get())
            }
            Violation::LedgerUnread { key } => write!(f, "{key:?}: was never read back"),
        }
    }
}

/// The beginning of a value, for people.
fn shown(value: &Option<Value>) -> String {
    value.as_ref().map_or("nothing".to_owned(), |value| {
        let head = value.as_bytes().get(..64).unwrap_or(value.as_bytes());
        format!("\"{}\"", head.escape_ascii())
    })
}
