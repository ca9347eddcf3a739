//! How many copies each member ought to hold: weights, cut off where placement cuts them off.
//! Decides shares only; which copies those are is the business of `place`.
//!
//! Two limits bend the weights. A member holds at most one copy of a partition. And the copies of
//! a partition go round the zones (see [`super::Ring::preference_list`]), so that a zone holds at
//! least the copies of the full rounds and at most one more. What a limit takes from one goes to
//! the others in proportion to their weights: water-filling, as in max-min fair sharing.

use std::collections::BTreeMap;

use super::ClaimMember;
use super::walk::round_sizes;
use crate::types::{NodeId, Zone};

/// Shares are counted in millionths of a copy, so that they are exact enough and the same on every
/// machine.
pub const MICRO: u64 = 1_000_000;

/// Returns the share of every member in millionths of a copy, of `n` copies of `partitions`
/// partitions. A member that takes no share, or whose weight is 0, has a share of 0. With no
/// member to take a share, all are 0; with fewer than `n`, each holds a copy of everything.
///
/// The shares sum to `n * partitions` copies (less rounding, below a thousandth of a copy) whenever
/// `n` members take a share.
pub fn target_shares(members: &[ClaimMember], n: u8, partitions: u32) -> BTreeMap<NodeId, u64> {
    let mut zones: BTreeMap<&Zone, Vec<&ClaimMember>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.owns()) {
        zones.entry(&member.zone).or_default().push(member);
    }
    let cap = u128::from(partitions) * u128::from(MICRO);
    let n_taking: usize = zones.values().map(Vec::len).sum();
    let n_copies = usize::from(n).min(n_taking);
    let total = cap * u128::try_from(n_copies).expect("at most 255");
    let sizes: Vec<usize> = zones.values().map(Vec::len).collect();
    let limits = zone_limits(&sizes, n);
    let basins: Vec<Basin<'_>> = zones
        .values()
        .zip(limits)
        .map(|(members, limit)| Basin {
            members,
            cap,
            low: cap * u128::from(limit.low),
            high: cap * u128::from(limit.high),
        })
        .collect();

    let mut shares: BTreeMap<NodeId, u64> = members.iter().map(|member| (member.id, 0)).collect();
    let level = highest_level(total, |level| basins.iter().map(|b| b.volume(level)).sum());
    for basin in &basins {
        let volume = basin.volume(level);
        let own = highest_level(volume, |level| basin.poured(level));
        for member in basin.members {
            let share = poured(member, own, cap);
            shares.insert(member.id, u64::try_from(share).expect("a share is below 2^16 copies"));
        }
    }
    shares
}

/// How many copies of one partition a zone may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZoneLimit {
    pub(super) low: u8,
    pub(super) high: u8,
}

/// Returns the limits of zones of these sizes when `n` copies go round them.
pub(super) fn zone_limits(sizes: &[usize], n: u8) -> Vec<ZoneLimit> {
    let zone_of: Vec<usize> =
        sizes.iter().enumerate().flat_map(|(zone, size)| vec![zone; *size]).collect();
    let mut left = usize::from(n);
    let mut full_rounds = 0;
    for size in round_sizes(&zone_of) {
        if size > left {
            break;
        }
        left -= size;
        full_rounds += 1;
    }
    let small = |count: usize| u8::try_from(count).expect("at most n, which is 8 bits");
    let limit = |size: &usize| {
        let low = small((*size).min(full_rounds));
        let more = *size > full_rounds && left > 0;
        ZoneLimit { low, high: low + u8::from(more) }
    };
    sizes.iter().map(limit).collect()
}

/// A zone as the water sees it.
struct Basin<'a> {
    members: &'a [&'a ClaimMember],
    cap: u128,
    low: u128,
    high: u128,
}

impl Basin<'_> {
    /// What the members take at `level`, each up to its own cap.
    fn poured(&self, level: u128) -> u128 {
        self.members.iter().map(|member| poured(member, level, self.cap)).sum()
    }

    /// The same, bent into the limits of the zone.
    fn volume(&self, level: u128) -> u128 {
        self.poured(level).clamp(self.low, self.high)
    }
}

/// The fraction bits of a water level.
const LEVEL_BITS: u32 = 32;

fn poured(member: &ClaimMember, level: u128, cap: u128) -> u128 {
    ((u128::from(member.weight_milli) * level) >> LEVEL_BITS).min(cap)
}

/// Returns the highest level whose volume is at most `total`, by bisection. A level above
/// everybody's cap is as good as any higher one.
fn highest_level(total: u128, volume: impl Fn(u128) -> u128) -> u128 {
    // A weight of 1 meets the cap of 2^16 partitions below this level.
    let mut above = 1u128 << (16 + 20 + LEVEL_BITS + 1);
    let mut best = 0u128;
    while best + 1 < above {
        let middle = best.midpoint(above);
        if volume(middle) <= total {
            best = middle;
        } else {
            above = middle;
        }
    }
    best
}
