//! How busy a node is: what it keeps of each hour, and what members tell each other of it. The rules that
//! read it are `control`'s: `docs/growth.md`.

use serde::{Deserialize, Serialize};

use crate::types::{NodeName, Unit, limits};

use super::topology::ShareLine;

/// One hour of a node. All means are over its samples, all peaks the highest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourRecord {
    /// Hours since the Unix epoch, UTC.
    pub hour: u32,
    /// How many samples it is made of; none: nothing is known of it.
    pub samples: u32,
    /// Active members when it was last sampled: shares have changed since if there are more now.
    pub active: u16,
    /// Bytes stored, at the last sample.
    pub disk_used: u64,
    /// Bytes stored and free, at the last sample; 0 where that is not known.
    pub disk_all: u64,
    /// The process's share of the processor, in thousandths of all cores.
    pub cpu_mean: u16,
    /// See `cpu_mean`.
    pub cpu_peak: u16,
    /// Client operations a second.
    pub ops_mean: u32,
    /// See `ops_mean`.
    pub ops_peak: u32,
    /// 99th percentile of the time of client operations, in microseconds.
    pub p99_mean: u32,
    /// See `p99_mean`.
    pub p99_peak: u32,
}

impl HourRecord {
    /// The place of an hour in the ring of four weeks.
    pub fn slot(&self) -> u32 {
        self.hour % limits::HOURS_KEPT
    }
}

/// When members were last added to those that own, or taken from them, as a node knows it: hours since the
/// Unix epoch, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeRecord {
    /// Last added.
    pub grown: u32,
    /// Last taken.
    pub shrunk: u32,
}

impl ResizeRecord {
    /// The later of both, of each.
    pub fn latest(self, other: ResizeRecord) -> ResizeRecord {
        ResizeRecord { grown: self.grown.max(other.grown), shrunk: self.shrunk.max(other.shrunk) }
    }
}

/// What has become of earlier proposals, as a node knows it: hours since the Unix epoch, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRecord {
    /// When units were last exchanged between members.
    pub exchanged: u32,
    /// When an operator last put a proposal aside, and which: a hash of what it is about. 0: none. First one of more or
    /// fewer members, then one of an exchange.
    pub dismissed: [(u32, u64); 2],
}

impl ProposalRecord {
    /// The later of both, of each.
    pub fn latest(self, other: ProposalRecord) -> ProposalRecord {
        ProposalRecord {
            exchanged: self.exchanged.max(other.exchanged),
            dismissed: [0, 1].map(|place: usize| {
                let of = |it: &ProposalRecord| it.dismissed.get(place).copied().unwrap_or_default();
                of(&self).max(of(&other))
            }),
        }
    }
}

/// What the copies that a member owns are asked for, whoever coordinates: operations a second, one more for every
/// 4 KiB of values, over the last quarters of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkNews {
    /// All of them together.
    pub all: u32,
    /// Those with most, most first; at most [`WORK_NEWS_MAX`](crate::types::limits::WORK_NEWS_MAX).
    pub hottest: Vec<(Unit, u32)>,
    /// Bytes a second that are written to them.
    pub written: u64,
}

/// What a member tells of its load with its probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadFacts {
    /// Hours that it knows something of, at most four weeks.
    pub hours: u32,
    /// The present hour's mean share of the processor, in thousandths.
    pub cpu_now: u32,
    /// The highest that is foreseen for the coming week, hour by hour.
    pub cpu_peak: u32,
    /// The present hour's mean of client operations a second.
    pub ops_now: u32,
    /// The highest that is foreseen for the coming week.
    pub ops_peak: u32,
    /// In which hour that will be; 0: nothing is foreseen.
    pub peak_hour: u32,
    /// The 99th percentile of client operations over the last ten seconds, in microseconds; 0: too few.
    pub p99: u32,
    /// Days until 80 % of its disk are used; `None`: not foreseen.
    pub disk_days: Option<u32>,
    /// It is in its quiet hours.
    pub quiet: bool,
    /// It copies nothing for now: its users wait longer than they did.
    pub paused: bool,
    /// When the cluster last grew and shrank, as far as it knows.
    pub resized: ResizeRecord,
    /// What has become of earlier proposals, as far as it knows.
    pub proposals: ProposalRecord,
}

/// What a node makes of its members' loads, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrowthReply {
    /// `off`, `suggest` or `auto`.
    pub mode: &'static str,
    /// What is foreseen of the busiest active member's disk, processor or operations, in thousandths of
    /// what it can do; `None`: nothing is known yet.
    pub peak_milli: Option<u32>,
    /// Whose that is and what of it, in words.
    pub busiest: String,
    /// In which hour most is foreseen here, in hours since the Unix epoch; 0: nothing is.
    pub peak_hour: u32,
    /// Days until the first active member's disk is 80 % full; `None`: not foreseen.
    pub disk_days: Option<u32>,
    /// The answering node's quiet hours, in words.
    pub quiet_hours: String,
    /// Whether these are quiet hours, as most active members say.
    pub quiet: bool,
    /// Members that copy nothing for now.
    pub paused: Vec<NodeName>,
    /// What should be done.
    pub proposal: Option<ProposalLine>,
    /// What keeps it from being done, or from being proposed, in words; empty: nothing does.
    pub waits_for: String,
}

/// Members that should become active, or be reserved, or exchange units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProposalLine {
    /// `grow`, `shrink` or `exchange`.
    pub kind: &'static str,
    /// What it is committed by; 0: it cannot be, members are lacking.
    pub hash: u128,
    /// Who becomes active, is reserved, or exchanges units: there the busiest first.
    pub members: Vec<NodeName>,
    /// So many more reserved members would be needed for what is due.
    pub missing: u32,
    /// Why, in words.
    pub reason: String,
    /// What is foreseen of the busiest afterwards, in thousandths of what it can do; of an exchange, in
    /// thousandths of the mean.
    pub after_milli: u32,
    /// Units whose owners change.
    pub units: u32,
    /// About how many bytes are copied.
    pub bytes: u64,
    /// The shares of members afterwards.
    pub shares: Vec<ShareLine>,
}
