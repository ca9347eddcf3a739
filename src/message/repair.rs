//! What the disk is asked about the trees of units, and for a session that compares one with another
//! owner's. `docs/protocol/repair.md`.

use crate::repair::exchange::{Ask, Asker, Said, Terms};
use crate::repair::tree::Sum;
use crate::types::Unit;

/// What the disk is asked about trees. None of it writes.
#[derive(Clone, Debug)]
pub enum TreeDisk {
    /// The roots of units.
    Roots {
        /// Which.
        units: Vec<Unit>,
    },
    /// Answers a question of another owner.
    Answer {
        /// The unit.
        unit: Unit,
        /// What the session agreed on.
        terms: Terms,
        /// The question.
        ask: Ask,
    },
    /// Goes on with a session of this node's own: hands in what the other owner said, reads what is
    /// to be read here, and stops where something is to be asked or brought, or it is over.
    Advance {
        /// The unit.
        unit: Unit,
        /// The session.
        asker: Box<Asker>,
        /// The number of the question and what was said to it; `None` to begin, and after bringing.
        said: Option<(u32, Said)>,
    },
    /// Builds the tree of a unit anew in the background: what it says cannot be right.
    Rebuild {
        /// The unit.
        unit: Unit,
    },
}

/// What the disk answers to a [`TreeDisk`], once what it shows is durable.
#[derive(Clone, Debug)]
pub enum TreeDone {
    /// To [`TreeDisk::Roots`], in their order; `None`: the tree is being built.
    Roots(Vec<(Unit, Option<Sum>)>),
    /// To [`TreeDisk::Answer`].
    Said(Said),
    /// To [`TreeDisk::Advance`].
    Advanced(Box<Asker>),
    /// The tree of the unit is being built: nothing can be said of it yet.
    Building,
    /// To [`TreeDisk::Rebuild`]: it has begun.
    Begun,
}
