//! What members tell each other about members: probes and what travels with them.

use core::time::Duration;
use std::sync::Arc;

use crate::types::NodeId;

use super::{Liveness, ProbeFacts};

/// How often a member has begun anew: by a boot, whose number is durable and only grows, and by
/// refuting what was said of it since. A later one makes all that was said of earlier ones void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// The number of the boot.
    pub boot: u64,
    /// Refutations in it.
    pub refuted: u32,
}

/// Which of the facts that a member has told of itself: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactsVersion {
    /// The member's incarnation when it told them.
    pub incarnation: Incarnation,
    /// Their number in this boot, from 1; 0 before the first.
    pub seq: u64,
}

/// What is held of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The newest facts that are known, and with them its incarnation.
    pub version: FactsVersion,
    /// Whether it is held to answer; never `Left`.
    pub liveness: Liveness,
}

/// A word on whether a member answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rumour {
    /// The member.
    pub member: NodeId,
    /// The incarnation that is meant.
    pub incarnation: Incarnation,
    /// The word; never `Left`.
    pub liveness: Liveness,
    /// Of a suspicion: who have found the member silent themselves, as far as is known; at most
    /// [`ACCUSERS_MAX`](crate::types::limits::ACCUSERS_MAX).
    pub by: Vec<NodeId>,
}

/// The facts of a member, told by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearsay {
    /// The member.
    pub member: NodeId,
    /// Which of its facts.
    pub version: FactsVersion,
    /// How long ago it told them, without the time they have travelled.
    pub age: Duration,
    /// What it told.
    pub facts: Arc<ProbeFacts>,
}

/// A probe, the answer to one, or news that want no answer: the sender's facts, and what it passes
/// on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Of the probe, echoed in the answer; 0 in news.
    pub seq: u64,
    /// About the sender.
    pub facts: Arc<ProbeFacts>,
    /// Which of its facts.
    pub version: FactsVersion,
    /// What the sender holds of the receiver, and the worst that it has heard others say. So whoever
    /// is suspected learns of it with the next message, and can refute.
    pub of_you: Option<Held>,
    /// At most [`RUMOURS_MAX`](crate::types::limits::RUMOURS_MAX).
    pub rumours: Vec<Rumour>,
    /// At most [`HEARSAY_MAX`](crate::types::limits::HEARSAY_MAX).
    pub hearsay: Vec<Hearsay>,
}

/// The full sync between two members, in three messages at most: all that one holds, in short;
/// what the other knows better, and what it wants; that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberSync {
    /// All that the sender holds, itself included.
    Digest(Vec<(NodeId, Held)>),
    /// An answer.
    Newer {
        /// Words on members.
        rumours: Vec<Rumour>,
        /// Facts.
        hearsay: Vec<Hearsay>,
        /// Members whose facts are wanted in return.
        wanted: Vec<NodeId>,
    },
}

impl Rumour {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        14 + 2 * self.by.len()
    }
}

impl Hearsay {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        20 + self.facts.bytes()
    }
}

impl Probe {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let rumours: usize = self.rumours.iter().map(Rumour::bytes).sum();
        let hearsay: usize = self.hearsay.iter().map(Hearsay::bytes).sum();
        34 + self.facts.bytes() + rumours + hearsay
    }
}

impl MemberSync {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            MemberSync::Digest(entries) => 20 * entries.len(),
            MemberSync::Newer { rumours, hearsay, wanted } => {
                let rumours: usize = rumours.iter().map(Rumour::bytes).sum();
                let hearsay: usize = hearsay.iter().map(Hearsay::bytes).sum();
                rumours + hearsay + 4 * wanted.len()
            }
        }
    }
}
