//! Mistakes that can be planted in the model, one at a time. A model whose judges find none of
//! them would prove nothing.

use crate::model::{ENDS, LATER, MET, READ, WHOLE};

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Copying begins at once: nobody has acknowledged that both sets are written.
    FirstBarrierSkipped,
    /// The new owners are read although not all of them have copied.
    CompletionSkipped,
    /// The old owners are dropped although enough of them may still be read.
    LastBarrierSkipped,
    /// The same when a move is undone.
    BackBarrierSkipped,
    /// A move that undoes another is given up as if nobody had read the owners it goes back to.
    UndoneUnfenced,
    /// From "read new" a move goes straight back to the old owners alone.
    RollBackStraight,
    /// The last barrier counts new owners.
    BarrierCountsNew,
    /// The last barrier waits for all old owners, also for one that is gone.
    BarrierOfAll,
    /// A state is acknowledged, and acted by, while it is only in memory.
    AckBeforeFsync,
    /// A state is acknowledged while writes that were let in before are under way.
    AckBeforeWrites,
    /// A node goes by a new state and serves what comes under an old one.
    FenceIgnored,
    /// The barrier holds, but a source that is not part of it serves.
    SourceBeforeAck,
    /// A source has acknowledged the move, and not yet that its target is another.
    SourceOfOldFence,
    /// A source is itself incomplete.
    SourceIncomplete,
    /// One source is enough.
    OneSource,
    /// n - w sources are enough.
    SourceTooFew,
    /// What is copied takes the place of what arrived meanwhile.
    CopyOverwrites,
    /// Completeness and copies outlive a gap in ownership.
    GapIgnored,
    /// An owner that has lost data fills it again without a new epoch.
    RefillUnfenced,
    /// An owner that has lost data goes by an old state, and takes its entry for a new one.
    LossForgetsState,
    /// An incomplete owner answers reads.
    IncompleteServes,
    /// A put counts incomplete owners for what they cannot know: whether there is a higher stamp.
    PutTrustsIncomplete,
    /// A put counts answers of all owners together, instead of each set's.
    SetsTogether,
    /// A put counts a node that is in both sets as two answers.
    NodeTwice,
    /// A put counts the old owners alone.
    OldSetAlone,
    /// Answers to an attempt that was given up count for the next.
    OldAttemptCounts,
    /// Old owners delete as soon as the new ones are read.
    DeleteEarly,
    /// A deletion runs when the node is an owner again.
    DeleteLate,
    /// A read that was let in before is answered after the deletion.
    ReadAfterDelete,
}

/// Every mistake, the scenario that must find it, and the promise it must break there.
pub fn all() -> Vec<(Mistake, &'static str, &'static str)> {
    let one = "one of three replaced";
    let back = "one of three replaced, rolled back";
    let again = "rolled back and begun again";
    let crash = "one of three replaced, a crash";
    let refilled = "an owner is filled again, two writes";
    vec![
        (Mistake::FirstBarrierSkipped, one, READ),
        (Mistake::CompletionSkipped, "two of three replaced", ENDS),
        (Mistake::LastBarrierSkipped, one, READ),
        (Mistake::BackBarrierSkipped, back, READ),
        (Mistake::UndoneUnfenced, back, READ),
        (Mistake::RollBackStraight, back, READ),
        (Mistake::BarrierCountsNew, one, READ),
        (Mistake::BarrierOfAll, "one of three replaced, a node dies", ENDS),
        (Mistake::AckBeforeFsync, crash, READ),
        (Mistake::AckBeforeWrites, crash, READ),
        (Mistake::FenceIgnored, one, READ),
        (Mistake::SourceBeforeAck, one, READ),
        (Mistake::SourceOfOldFence, "the new owner is exchanged", MET),
        (Mistake::SourceIncomplete, "an owner loses its data during a move", MET),
        (Mistake::OneSource, one, READ),
        (Mistake::SourceTooFew, "one of two replaced, and back", READ),
        (Mistake::CopyOverwrites, one, READ),
        (Mistake::GapIgnored, again, READ),
        (Mistake::RefillUnfenced, refilled, READ),
        (Mistake::LossForgetsState, "an owner loses its data during a move", MET),
        (Mistake::IncompleteServes, refilled, WHOLE),
        (Mistake::PutTrustsIncomplete, refilled, LATER),
        (Mistake::SetsTogether, one, READ),
        (Mistake::NodeTwice, one, READ),
        (Mistake::OldSetAlone, one, READ),
        (Mistake::OldAttemptCounts, again, READ),
        (Mistake::DeleteEarly, back, READ),
        (Mistake::DeleteLate, again, READ),
        (Mistake::ReadAfterDelete, one, READ),
    ]
}
