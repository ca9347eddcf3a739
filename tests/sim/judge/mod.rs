//! The checkers. Each is a plain value that is told what happened and answers with what is wrong
//! with it; none knows the world. Each is tested on planted violations in `judge::planted`.

mod answers;
mod births;
mod durability;
mod floors;
mod keeper;
mod monotonic;
mod moves;
mod planted;
mod schema;
mod shares;
mod stamps;
mod together;

use core::fmt;

pub(crate) use answers::{Answers, Asked, lost_fault, receipt_fault};
pub(crate) use births::Births;
pub(crate) use durability::Durability;
pub(crate) use floors::{Floors, Owned};
pub(crate) use keeper::relief_fault;
pub(crate) use monotonic::Monotonic;
pub(crate) use moves::Moves;
pub(crate) use planted::TESTS;
pub(crate) use schema::Schema;
pub(crate) use shares::{share_fault, taken_fault};
pub(crate) use stamps::Stamps;
pub(crate) use together::{crash_fault, end_fault};

/// The checkers, by the promise they guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Checker {
    /// I1: what was acknowledged is read; deleted stays deleted; no value from nowhere.
    Register,
    /// Monotonic reads do not go back.
    Monotonic,
    /// I2: no write of a causal table vanishes unless one that saw it took its place.
    Causal,
    /// I2, I3: what was added to a counter counts, and not more often than it was asked for.
    Counter,
    /// I3: each key of a linearizable table is one register.
    Linearizable,
    /// I7 and birth: one state an epoch, one life an id, an old or empty disk does not serve.
    Birth,
    /// I7: each epoch has one state, ever; it is in force when a majority of its council holds it.
    Decree,
    /// A created table is served by all, a dropped one by none, and nothing of it is left.
    Schema,
    /// I8: stamps of one node strictly increase over its whole life.
    Stamps,
    /// I9: what was acknowledged is on w disks.
    Durability,
    /// I10: a store opens after a crash.
    Recovery,
    /// I13: requests end by their deadline.
    Deadline,
    /// Exactly one answer for each request.
    Answers,
    /// A stream of a scan shows each key once, in order.
    Scan,
    /// Batches are whole, or nowhere.
    Together,
    /// Receipts say what they rest on.
    Receipt,
    /// Nobody takes the room of others: a client's share is bounded, and whoever has nothing in flight
    /// is not refused for its own share.
    Shares,
    /// Read repair makes the owners of a key that was read equal.
    Convergence,
    /// Trees count what the store holds.
    Trees,
    /// I15 in small: the cluster serves again soon after faults stop.
    Liveness,
    /// I15 of hints: they come home, and what they carried is there; I12: they are bounded.
    Handoff,
    /// I6: each copy is on a member of its own, and there are n of them, through every move.
    Placement,
    /// I7, I15: no step of a move before what it rests on is durable.
    Moves,
    /// I5: nothing is purged before all owners vouch for each other.
    Floors,
    /// Nobody who lives and can be reached is replaced.
    Keeper,
    /// No panic and no broken assertion.
    Panic,
    /// The run itself went as it should: it found time for its operations.
    Run,
}

impl Checker {
    /// Every checker.
    pub(crate) const ALL: [Checker; 27] = [
        Checker::Register,
        Checker::Monotonic,
        Checker::Causal,
        Checker::Counter,
        Checker::Linearizable,
        Checker::Birth,
        Checker::Decree,
        Checker::Schema,
        Checker::Stamps,
        Checker::Durability,
        Checker::Recovery,
        Checker::Deadline,
        Checker::Answers,
        Checker::Scan,
        Checker::Together,
        Checker::Receipt,
        Checker::Shares,
        Checker::Convergence,
        Checker::Trees,
        Checker::Liveness,
        Checker::Handoff,
        Checker::Placement,
        Checker::Moves,
        Checker::Floors,
        Checker::Keeper,
        Checker::Panic,
        Checker::Run,
    ];

    /// As `planted.toml` and failing runs name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Checker::Register => "register",
            Checker::Monotonic => "monotonic",
            Checker::Causal => "causal",
            Checker::Counter => "counter",
            Checker::Linearizable => "linearizable",
            Checker::Birth => "birth",
            Checker::Decree => "decree",
            Checker::Schema => "schema",
            Checker::Stamps => "stamps",
            Checker::Durability => "durability",
            Checker::Recovery => "recovery",
            Checker::Deadline => "deadline",
            Checker::Answers => "answers",
            Checker::Scan => "scan",
            Checker::Together => "together",
            Checker::Receipt => "receipt",
            Checker::Shares => "shares",
            Checker::Convergence => "convergence",
            Checker::Trees => "trees",
            Checker::Liveness => "liveness",
            Checker::Handoff => "handoff",
            Checker::Placement => "placement",
            Checker::Moves => "moves",
            Checker::Floors => "floors",
            Checker::Keeper => "keeper",
            Checker::Panic => "panic",
            Checker::Run => "run",
        }
    }

    /// The checker of a name.
    pub(crate) fn named(name: &str) -> Option<Checker> {
        Checker::ALL.into_iter().find(|checker| checker.name() == name)
    }
}

/// One broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Whose promise.
    pub(crate) checker: Checker,
    /// What was seen.
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker.name(), self.text)
    }
}
