//! The name of one write of a causal table: who made it, and when by the maker's clock.
//!
//! Counters are readings of the node's hybrid clock, which only rises, so nothing has to be read or
//! stored to give the next one; that they are not consecutive is why [`super::CausalContext`] can
//! never close a gap by counting.

use core::fmt;

use crate::types::{NodeId, Stamp, Tenure, WallTime};

/// Who writes: a node, in one of its tenures. A node that may have lost what it wrote gets another
/// tenure, so that what it writes next cannot be taken for something it wrote before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// Its tenure.
    pub tenure: Tenure,
}

/// A reading of a hybrid clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick {
    /// Its time.
    pub time: WallTime,
    /// Tells apart ticks of one nanosecond.
    pub counter: u32,
}

/// One write. Ordered by actor, then tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who made it.
    pub actor: Actor,
    /// When.
    pub tick: Tick,
}

impl Dot {
    /// The write that a node stamps with `stamp` in `tenure`.
    pub fn new(stamp: Stamp, tenure: Tenure) -> Dot {
        let actor = Actor { node: stamp.node, tenure };
        Dot { actor, tick: Tick { time: stamp.time, counter: stamp.counter } }
    }

    /// The stamp it was made with.
    pub fn stamp(self) -> Stamp {
        let Tick { time, counter } = self.tick;
        Stamp { time, counter, node: self.actor.node }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}", self.stamp(), self.actor.tenure.0)
    }
}
