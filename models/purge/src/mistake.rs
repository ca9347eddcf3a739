//! Mistakes that can be planted in the model, one at a time. A model whose judges find none of
//! them would prove nothing.

use crate::model::{BACK, ENDS, EQUAL, KEPT};
use crate::scenario::{CUSTODY, GONE, MIRROR, OLD_DISK, SLOW};

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An owner raises the floor when its tombstone is old enough.
    PurgeByAge,
    /// What was reported under an earlier fence still counts where a later one is known.
    FenceIgnored,
    /// An owner that cannot be reached is not waited for.
    MajorityRaises,
    /// The floor rises where it is known that all have vouched, whoever else knows it.
    OneStep,
    /// What one side lacks is brought, and both call themselves equal.
    OneSided,
    /// A key that differs at or below the floor to be is passed over, and all is called verified.
    SkipCalledVerified,
    /// A session begins although one side knows of a lower floor.
    FloorNotAdopted,
    /// A complete owner takes in late copies at or below the floor.
    LateCopyTaken,
    /// Late copies come in from outside until the floor has risen.
    GateOpen,
    /// An owner has vouched, then is brought something, and its word still counts.
    VouchKept,
    /// The floor rises over what is in custody.
    CustodyIgnored,
    /// The holder takes into custody what is at or below what it has told.
    CustodyAfterTold,
    /// An owner that is not complete is not waited for, nor one that has just entered.
    IncompletePassedOver,
    /// Only the owners that are read are waited for.
    NewSetForgotten,
    /// A mirror that is equal counts for an owner.
    MirrorCounted,
    /// A mirror that becomes an owner is complete.
    MirrorComplete,
    /// A removed member is waited for.
    RemovedAwaited,
    /// An old disk serves as if nothing had happened.
    OldDiskServes,
    /// Who is filled does not learn the floor.
    FloorNotCarried,
    /// Who is filled keeps what no source lists.
    FillKeeps,
    /// Only what came late, where the floor may be rising.
    FillKeepsLate,
    /// One source is enough.
    OneSource,
}

/// Every mistake, the scenario that must find it, and the promise it must break there.
pub fn all() -> Vec<(Mistake, &'static str, &'static str)> {
    vec![
        (Mistake::PurgeByAge, SLOW, BACK),
        (Mistake::MajorityRaises, SLOW, BACK),
        (Mistake::FenceIgnored, MIRROR, EQUAL),
        (Mistake::OneStep, MIRROR, EQUAL),
        (Mistake::OneSided, SLOW, BACK),
        (Mistake::SkipCalledVerified, SLOW, BACK),
        (Mistake::FloorNotAdopted, SLOW, EQUAL),
        (Mistake::LateCopyTaken, SLOW, BACK),
        (Mistake::GateOpen, SLOW, EQUAL),
        (Mistake::VouchKept, MIRROR, EQUAL),
        (Mistake::CustodyIgnored, CUSTODY, KEPT),
        (Mistake::CustodyAfterTold, CUSTODY, KEPT),
        (Mistake::IncompletePassedOver, MIRROR, BACK),
        (Mistake::NewSetForgotten, MIRROR, BACK),
        (Mistake::MirrorCounted, MIRROR, BACK),
        (Mistake::MirrorComplete, MIRROR, BACK),
        (Mistake::RemovedAwaited, GONE, ENDS),
        (Mistake::OldDiskServes, OLD_DISK, BACK),
        (Mistake::FloorNotCarried, MIRROR, BACK),
        (Mistake::FillKeeps, OLD_DISK, BACK),
        (Mistake::FillKeepsLate, MIRROR, EQUAL),
        (Mistake::OneSource, OLD_DISK, KEPT),
    ]
}
