//! Mistakes that can be planted in the model, one at a time. A model whose judges find none of
//! them would prove nothing.

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A promise is answered while it is only in memory.
    PromiseBeforeDurable,
    /// An acceptance is answered while it is only in memory.
    AcceptBeforeDurable,
    /// A look shows what is only in memory.
    LookBeforeDurable,
    /// An acceptor takes a ballot below the one it has promised.
    AcceptBelowPromise,
    /// One acceptance decides.
    MinorityDecides,
    /// The state to go on from is the oldest that was shown, not the newest.
    NewestIgnored,
    /// Promises of a proposer's earlier round count in its next one.
    StaleRoundCounts,
    /// A round answers what only a minority has accepted, without having it accepted again.
    WriteBackSkipped,
    /// A look takes the newest state for decided because a majority agrees on an older one.
    MajorityOnOlder,
    /// A failed expectation is answered from a state that may not be decided.
    FailedBeforeDecided,
    /// "Not applied" is said when the last round, and not every round, has sent no acceptance.
    NotAppliedTooEarly,
    /// Ids in the register are not looked at: a retry applies again.
    IdsIgnored,
    /// A retry whose id may have been dropped from the full list applies again.
    ForgottenIgnored,
    /// An abandoned attempt goes on with ballots above the window that its client gave it.
    WindowIgnored,
    /// An id that is not found is answered as cancelled without being entered as such.
    CancelNotDecided,
    /// A state that has expired by the reader's clock is read as absent, with no tombstone decided.
    ExpiryNotDecided,
    /// An incomplete acceptor promises and is looked at.
    IncompletePromises,
    /// The acceptance of an incomplete acceptor counts in the read set.
    IncompleteCounts,
    /// An acceptor serves rounds of an epoch older than the one it knows.
    FenceIgnored,
    /// A copy is taken from a source that has not yet acknowledged the epoch.
    CopyBeforeFence,
    /// The newcomer counts as complete after one source.
    OneSource,
    /// While both sets are written, a majority of the read set alone decides.
    OneSetDecides,
    /// While both sets are written, a look is satisfied by the read set alone.
    OneSetLooked,
    /// Of two states that with the higher ballot is the newer, whatever epochs they were accepted in.
    BallotsAlone,
}

/// Every mistake, and the scenario that must find it.
pub fn all() -> Vec<(Mistake, &'static str)> {
    let crash = "two writers, a crash";
    let crash_read = "writer, two readers, a crash";
    let cas = "writer, compare-and-set, reader";
    let readers = "two writers, two readers";
    let replaced = "an owner is replaced, two writers";
    let later = "an owner is replaced, a reader after a writer";
    let replaced_read = "an owner is replaced, writer and readers";
    let refilled = "an owner is filled again";
    let outlived = "an owner is replaced, a higher ballot before";
    vec![
        (Mistake::PromiseBeforeDurable, crash),
        (Mistake::AcceptBeforeDurable, crash),
        (Mistake::LookBeforeDurable, crash_read),
        (Mistake::AcceptBelowPromise, cas),
        (Mistake::MinorityDecides, crash_read),
        (Mistake::NewestIgnored, cas),
        (Mistake::StaleRoundCounts, crash),
        (Mistake::WriteBackSkipped, readers),
        (Mistake::MajorityOnOlder, readers),
        (Mistake::FailedBeforeDecided, cas),
        (Mistake::NotAppliedTooEarly, crash),
        (Mistake::IdsIgnored, "a retry of the same id"),
        (Mistake::ForgottenIgnored, "a retry of an id that may be forgotten"),
        (Mistake::WindowIgnored, "a retried compare-and-set"),
        (Mistake::CancelNotDecided, "the question for an outcome"),
        (Mistake::ExpiryNotDecided, "a value that expires, clocks that differ"),
        (Mistake::IncompletePromises, refilled),
        (Mistake::IncompleteCounts, refilled),
        (Mistake::FenceIgnored, later),
        (Mistake::CopyBeforeFence, refilled),
        (Mistake::OneSource, later),
        (Mistake::OneSetDecides, replaced),
        (Mistake::OneSetLooked, replaced_read),
        (Mistake::BallotsAlone, outlived),
    ]
}
