//! What two owners of a unit say to each other to become equal. One asks and decides, the other answers
//! and keeps nothing. `docs/protocol/repair.md`, "Messages".

use crate::repair::exchange::{Ask, Said};
use crate::repair::tree::Sum;
use crate::types::{Epoch, Stamp, Unit};

use super::{CopyEntry, CopyPage, CopyPlace, RoundId};

/// All that the asker holds of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitRoot {
    /// The unit.
    pub unit: Unit,
    /// The epoch at which the asker believes the unit's owners last changed.
    pub changed_at: Epoch,
    /// Its purge floor.
    pub floor: Stamp,
    /// What it holds.
    pub sum: Sum,
}

/// What is said of a unit whose roots are not found equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSaid {
    /// They differ, or the floors do.
    Differs {
        /// The answerer's purge floor.
        floor: Stamp,
        /// What the answerer holds.
        sum: Sum,
    },
    /// Nothing is said.
    Refused(RepairRefusal),
}

/// A session: in which unit, and under what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPlace {
    /// The unit.
    pub unit: Unit,
    /// As in [`UnitRoot`].
    pub changed_at: Epoch,
    /// The purge floor, which both have.
    pub floor: Stamp,
}

/// A question of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAsk {
    /// Its session, and its number in it.
    pub round: RoundId,
    /// Where.
    pub place: SessionPlace,
    /// What is above it on both sides may be left as it is. Sent where the question speaks of it.
    pub horizon: Stamp,
    /// The question.
    pub ask: Ask,
}

/// Why an owner says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairRefusal {
    /// It knows of a later change of the unit's owners, or has yet to learn of one.
    Fenced,
    /// It is no owner of the unit, has not all it should have of it, or does not serve.
    Incomplete,
    /// Its users keep it busy, it answers as much as it can already, or its disk could not.
    Busy,
    /// It is building its tree of the unit.
    Building,
    /// Its purge floor is another one.
    Floor,
}

impl core::fmt::Display for RepairRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            RepairRefusal::Fenced => "the owners of the unit have changed",
            RepairRefusal::Incomplete => "it has not all it should have of the unit",
            RepairRefusal::Busy => "it is busy",
            RepairRefusal::Building => "it cannot tell what it holds yet",
            RepairRefusal::Floor => "its purge floor is another one",
        })
    }
}

/// What owners say to each other about what they hold. Safe to lose, repeat and reorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairMessage {
    /// Are we equal?
    Roots {
        /// Of the question.
        round: RoundId,
        /// In the order of units; at most [`REPAIR_ROOTS_MAX`](crate::types::limits::REPAIR_ROOTS_MAX).
        units: Vec<UnitRoot>,
    },
    /// Those of the units that are not; all others are.
    Differ {
        /// Of the question.
        round: RoundId,
        /// In order.
        units: Vec<(Unit, RootSaid)>,
    },
    /// A question of a session.
    Ask(Box<SessionAsk>),
    /// The answer.
    Said {
        /// Of the question.
        round: RoundId,
        /// The answer.
        said: Said,
    },
    /// Gives what there is of these keys.
    Give {
        /// The session, and the number of the question.
        round: RoundId,
        /// Where.
        place: SessionPlace,
        /// In order.
        keys: Vec<CopyPlace>,
    },
    /// What there is of them, or a part of it that fits a message.
    Given {
        /// Of the question.
        round: RoundId,
        /// Which part, from 0.
        part: u16,
        /// Of how many.
        parts: u16,
        /// As far as it is in this part; always of records.
        page: CopyPage,
    },
    /// Takes what the answerer lacks.
    Take {
        /// The session, and the number of the question.
        round: RoundId,
        /// Where.
        place: SessionPlace,
        /// In order; pieces of one set follow each other.
        entries: Vec<CopyEntry>,
    },
    /// It is here, as durable as a write.
    Taken {
        /// Of the question.
        round: RoundId,
    },
    /// No answer.
    Refused {
        /// Of the question.
        round: RoundId,
        /// Why.
        why: RepairRefusal,
    },
    /// The receiver may lack writes of a unit that no hint carries any more.
    Dirty {
        /// Which mark says so; echoed.
        round: RoundId,
        /// The unit.
        unit: Unit,
    },
    /// The sender has been told so, and has compared itself with all other owners since.
    Clean {
        /// Of what it has been told.
        round: RoundId,
        /// The unit.
        unit: Unit,
    },
}

impl RepairMessage {
    /// About how many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            RepairMessage::Roots { units, .. } => 40 * units.len(),
            RepairMessage::Differ { units, .. } => 40 * units.len(),
            RepairMessage::Ask(ask) => ask.ask.bytes(),
            RepairMessage::Said { said, .. } => said.bytes(),
            RepairMessage::Give { keys, .. } => keys.iter().map(CopyPlace::bytes).sum(),
            RepairMessage::Given { page, .. } => page.bytes(),
            RepairMessage::Take { entries, .. } => entries.iter().map(CopyEntry::bytes).sum(),
            RepairMessage::Taken { .. }
            | RepairMessage::Refused { .. }
            | RepairMessage::Dirty { .. }
            | RepairMessage::Clean { .. } => 16,
        }
    }

    /// Whether it is for who answers in a session.
    pub fn is_question(&self) -> bool {
        matches!(
            self,
            RepairMessage::Roots { .. }
                | RepairMessage::Ask(_)
                | RepairMessage::Give { .. }
                | RepairMessage::Take { .. }
                | RepairMessage::Dirty { .. }
        )
    }
}
