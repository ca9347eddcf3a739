//! What operators may ask about deletes that wait to be purged.

use core::time::Duration;

use crate::types::{Unit, WallTime};

/// The deletes and expiring values of one node, and who holds back that they are purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReply {
    /// Deletes, and values that expire.
    pub deletes: u64,
    /// In how many units.
    pub units: u64,
    /// There may be more: the count has a bound.
    pub more: bool,
    /// How old they are at least when they are purged.
    pub slack: Duration,
    /// Units with some that are older.
    pub waiting_units: u64,
    /// How old the oldest of those is.
    pub oldest_age: Duration,
    /// Purged since the start.
    pub purged: u64,
    /// Who holds how many units back, and why: those with most first.
    pub blockers: Vec<GcBlocker>,
    /// Some units that wait; at most [`GC_SHOWN_MAX`](crate::types::limits::GC_SHOWN_MAX).
    pub waiting: Vec<GcUnit>,
}

/// Who holds units back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcBlocker {
    /// The member's name; its number where it is no member any more.
    pub member: String,
    /// Why, in words.
    pub why: String,
    /// How many.
    pub units: u64,
}

/// A unit that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcUnit {
    /// Which.
    pub unit: Unit,
    /// Its deletes, and values that expire.
    pub deletes: u64,
    /// How old the oldest is.
    pub oldest_age: Duration,
    /// Up to when they have been purged; zero: never.
    pub floor: WallTime,
    /// The members that hold it back.
    pub blocked_by: Vec<String>,
}
