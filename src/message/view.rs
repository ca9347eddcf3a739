//! What a node publishes about itself for the parts around it: immutable, replaced whole.

use core::time::Duration;
use std::sync::Arc;

use crate::types::{ClusterState, NodeId, NodeName, Time};

use super::{
    AlarmLine, GrowthReply, Hello, HintGauges, MirrorNews, ProbeFacts, RepairGauges, ReserveFacts,
    StoreHealth,
};

/// What membership says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It has not answered for a while, or cannot be sent anything.
    Suspect,
    /// It is held to be down.
    Down,
    /// It has left.
    Left,
}

impl Liveness {
    /// Every value.
    pub const ALL: [Liveness; 4] =
        [Liveness::Alive, Liveness::Suspect, Liveness::Down, Liveness::Left];

    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
            Liveness::Left => "left",
        }
    }
}

/// Why reads leave a member out for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwell {
    /// Something asked has not been answered for 300 ms.
    Stalled,
    /// Three failures in a row.
    Failing,
    /// It takes eight times as long as the others, and 25 ms or more.
    Slow,
}

impl Unwell {
    /// As scripts read it.
    pub fn code(self) -> &'static str {
        match self {
            Unwell::Stalled => "stalled",
            Unwell::Failing => "failing",
            Unwell::Slow => "slow",
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Unwell::Stalled => "it has left a request unanswered for 300 ms",
            Unwell::Failing => "it has failed three times in a row",
            Unwell::Slow => "it takes eight times as long as the others",
        }
    }
}

/// A member that the reads of a node leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwellLink {
    /// Who; the node itself where its own store is meant.
    pub member: NodeId,
    /// Why.
    pub why: Unwell,
    /// For how long.
    pub age: Duration,
}

/// How far a node has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the founders; says for whom and why.
    Founding(String),
    /// Waiting for a majority of the council to note this boot; says for whom.
    Registering(String),
    /// Serving.
    Serving,
    /// Finishing what was begun; takes nothing new.
    Draining,
    /// Will not run as itself; says why and what to do.
    Refused(String),
}

/// One member, as the publishing node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it listens for peers.
    pub peer_address: String,
    /// Whether it answers.
    pub liveness: Liveness,
    /// What it last said of itself.
    pub facts: Option<Arc<ProbeFacts>>,
    /// Its clock against ours, in nanoseconds; positive when it is ahead.
    pub clock_offset_ns: i64,
    /// Why reads leave it out for now, in words, if they do.
    pub left_out: Option<&'static str>,
}

/// What a node publishes about itself.
#[derive(Clone, Debug)]
pub struct View {
    /// How far it has come.
    pub phase: Phase,
    /// Its greeting, but for `to`: what it opens streams with and judges others' by.
    pub hello: Hello,
    /// Where it listens for clients.
    pub client_address: String,
    /// The newest state in force; `None` before birth.
    pub state: Option<Arc<ClusterState>>,
    /// All others it may talk to: members, or founders before birth.
    pub members: Vec<MemberView>,
    /// When it began to serve.
    pub serving_since: Option<Time>,
    /// What it keeps for others.
    pub hints: HintGauges,
    /// What comparisons with other owners have come to.
    pub repair: RepairGauges,
    /// Bytes of copies of units that others have given it since the start.
    pub transfer_taken: u64,
    /// What it has found of its disk.
    pub health: StoreHealth,
    /// How often members have been left out of reads since the start, this one by itself included.
    pub links_left_out: u64,
    /// Whether enough are reserved for failures; nothing before birth.
    pub reserve: Option<ReserveFacts>,
    /// The share of clients' requests here that is for the hottest partition, 0..=1.
    pub hottest_share: f64,
    /// What the orchestrator makes of the members.
    pub keeper: KeeperGauges,
}

/// What the orchestrator makes of the members, at one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperGauges {
    /// Members that this node has held down for its whole grace time.
    pub long_down: u64,
    /// Replacements among the events that it remembers.
    pub replacements: u64,
    /// What a human has to look at.
    pub alarms: Vec<AlarmLine>,
    /// What this node mirrors while it is reserved; how old it is is not told here.
    pub mirror: MirrorNews,
    /// What it makes of the members' loads; nothing before birth, or where it does not look.
    pub growth: Option<Box<GrowthReply>>,
}
