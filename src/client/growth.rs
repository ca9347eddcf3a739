//! What a node makes of its members' loads: part of [`Status`](super::Status).

use crate::wire::proto::admin;

/// What is foreseen, and what is proposed. Utilisation is in thousandths of what a node can do; hours are those since
/// the Unix epoch, UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Growth {
    /// `off`, `suggest` or `auto`.
    pub mode: String,
    /// What is foreseen of the busiest active member; `None`: nothing is known.
    pub peak_milli: Option<u32>,
    /// Whose that is and what of it, in words.
    pub busiest: String,
    /// The hour in which most operations are foreseen; 0: nothing is.
    pub peak_hour: u32,
    /// Days until the first disk is 80 % full; `None`: not foreseen.
    pub disk_days: Option<u32>,
    /// When members may move without an operator, in words.
    pub quiet_hours: String,
    /// Whether that is now, as most active members say.
    pub quiet: bool,
    /// Members that copy nothing for now, since their users wait longer than they did.
    pub paused: Vec<String>,
    /// What should be done.
    pub proposal: Option<GrowthProposal>,
    /// What keeps it from being done, or from being proposed, in words; empty: nothing does.
    pub waits_for: String,
}

/// Members that should become active, or be reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrowthProposal {
    /// `grow`, `shrink` or `exchange`.
    pub kind: String,
    /// To commit it by; `None`: it cannot be, members are lacking.
    pub hash: Option<u128>,
    /// Who becomes active, is reserved, or exchanges units: there the busiest first.
    pub members: Vec<String>,
    /// So many more reserved members would be needed for all that is due.
    pub missing: u32,
    /// Why, in words.
    pub reason: String,
    /// What is foreseen of the busiest afterwards; of an exchange, in thousandths of the mean.
    pub after_milli: u32,
    /// Units whose owners change.
    pub units: u32,
    /// About how many bytes are copied.
    pub bytes: u64,
    /// What members own.
    pub shares: Vec<GrowthShare>,
}

/// One member of a [`GrowthProposal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrowthShare {
    /// The member.
    pub node: String,
    /// Copies it owns.
    pub before: u32,
    /// Copies it would own.
    pub after: u32,
    /// About how many bytes it stores.
    pub bytes_before: u64,
    /// About how many it would.
    pub bytes_after: u64,
}

pub(super) fn growth(it: admin::status_response::Growth) -> Growth {
    let share = |it: admin::topology_response::Share| GrowthShare {
        node: it.node,
        before: it.before,
        after: it.after,
        bytes_before: it.bytes_before,
        bytes_after: it.bytes_after,
    };
    let proposal = |it: admin::status_response::Proposal| GrowthProposal {
        kind: it.kind,
        hash: <[u8; 16]>::try_from(&it.hash[..]).ok().map(u128::from_be_bytes),
        members: it.members,
        missing: it.missing,
        reason: it.reason,
        after_milli: it.after_milli,
        units: it.units,
        bytes: it.bytes,
        shares: it.shares.into_iter().map(share).collect(),
    };
    Growth {
        mode: it.mode,
        peak_milli: it.peak_milli,
        busiest: it.busiest,
        peak_hour: it.peak_hour,
        disk_days: it.disk_days,
        quiet_hours: it.quiet_hours,
        quiet: it.quiet,
        paused: it.paused,
        proposal: it.proposal.map(proposal),
        waits_for: it.waits_for,
    }
}
