//! The ring and the walk on it: which members hold a partition and who stands in for them. Decides
//! the order only; who is alive, and which owners are *stored* in the cluster state, it does not
//! know. Source: Dynamo (DeCandia et al., 2007), sections 4.2, 4.3 and 6.2, strategy 3.

use std::collections::BTreeMap;

use super::{Token, partition_of};
use crate::types::{ClusterState, NodeId, Partition, Zone};

/// Virtual nodes in token order, each owned by a member, and the zone of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The member of each virtual node, as an index into `ids`.
    spots: Vec<usize>,
    ids: Vec<NodeId>,
    /// The zone of each member of `ids`, as a number from 0.
    zone_of: Vec<usize>,
    /// `round_sizes[r]` is the number of zones with more than `r` members: how many copies round
    /// `r` of the walk can place. Never increasing, no zeros, sums to the number of members.
    round_sizes: Vec<usize>,
}

/// The members in the order in which they answer for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceList {
    members: Vec<NodeId>,
    n_owners: usize,
}

impl PreferenceList {
    /// The owners, first choice first. Fewer than asked for only when the ring has fewer members.
    pub fn owners(&self) -> &[NodeId] {
        self.members.get(..self.n_owners).unwrap_or(&self.members)
    }

    /// Everybody else, in the order in which they stand in for an owner that is away.
    pub fn stand_ins(&self) -> &[NodeId] {
        self.members.get(self.n_owners..).unwrap_or(&[])
    }

    /// Owners and stand-ins, in order: every member of the ring once.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }
}

impl Ring {
    /// Makes a ring of `spots`: the owner of each virtual node in token order. Any length will do
    /// (a cluster's is a power of two). A member that `zones` does not name stands in the default
    /// zone.
    pub fn new(spots: &[NodeId], zones: &BTreeMap<NodeId, Zone>) -> Ring {
        let mut ids = spots.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let default = Zone::default();
        let names: Vec<&Zone> = ids.iter().map(|id| zones.get(id).unwrap_or(&default)).collect();
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |name: &&Zone| distinct.binary_search(name).expect("every name was collected");
        let zone_of: Vec<usize> = names.iter().map(place).collect();
        let index = |id: &NodeId| ids.binary_search(id).expect("every id was collected");
        let spots = spots.iter().map(index).collect();
        let round_sizes = round_sizes(&zone_of);
        Ring { spots, ids, zone_of, round_sizes }
    }

    /// Makes the ring of a cluster state.
    pub fn from_state(state: &ClusterState) -> Ring {
        let zones = state.members.iter().map(|member| (member.id, member.zone.clone())).collect();
        Ring::new(&state.ring, &zones)
    }

    /// The number of virtual nodes.
    pub fn partitions(&self) -> usize {
        self.spots.len()
    }

    /// The members that own at least one virtual node, by id.
    pub fn members(&self) -> &[NodeId] {
        &self.ids
    }

    /// The owner of the virtual node `partition`.
    pub fn spot(&self, partition: Partition) -> Option<NodeId> {
        self.spots.get(usize::from(partition.0)).and_then(|member| self.ids.get(*member)).copied()
    }

    /// The partition of this ring that holds `token`.
    pub fn partition_of(&self, token: Token) -> Partition {
        partition_of(token, u32::try_from(self.spots.len()).unwrap_or(u32::MAX))
    }

    /// Walks clockwise from the virtual node `partition` and returns every member once, the first
    /// `n` of them as owners. The walk goes in rounds: each round takes the next new member of
    /// every zone that still has one, in walk order, so that the copies stand in as many zones as
    /// there are, and as evenly as the zones' sizes allow.
    pub fn preference_list(&self, partition: Partition, n: u8) -> PreferenceList {
        let n_owners = usize::from(n).min(self.ids.len());
        PreferenceList { members: self.walk(partition, self.ids.len()), n_owners }
    }

    /// Returns the first `n` of [`Self::preference_list`] without walking on to the stand-ins.
    pub fn owners(&self, partition: Partition, n: u8) -> Vec<NodeId> {
        self.walk(partition, usize::from(n).min(self.ids.len()))
    }

    /// Returns up to `count` members that stand in for `owners` of `partition`, in order: the walk
    /// without them. Takes the owners as stored, which in a move are not those of the ring.
    pub fn stand_ins(&self, partition: Partition, owners: &[NodeId], count: usize) -> Vec<NodeId> {
        let mut walk = self.walk(partition, self.ids.len());
        walk.retain(|member| !owners.contains(member));
        walk.truncate(count);
        walk
    }

    fn walk(&self, partition: Partition, count: usize) -> Vec<NodeId> {
        let mut rounds = Rounds::new(&self.round_sizes, count);
        let start = usize::from(partition.0).min(self.spots.len());
        let (before, after) = self.spots.split_at(start);
        for member in after.iter().chain(before) {
            if rounds.is_full() {
                break;
            }
            let zone = self.zone_of.get(*member).expect("every member has a zone");
            rounds.offer(*member, *zone);
        }
        let id = |member| *self.ids.get(member).expect("spots name members of this ring");
        rounds.into_order().map(id).collect()
    }
}

/// Returns for each round of the walk how many zones still have a member to give.
pub(super) fn round_sizes(zone_of: &[usize]) -> Vec<usize> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for zone in zone_of {
        *sizes.entry(*zone).or_default() += 1;
    }
    let rounds = sizes.values().max().copied().unwrap_or(0);
    (0..rounds).map(|round| sizes.values().filter(|size| **size > round).count()).collect()
}

/// A walk in progress. INVARIANT: `taken[r].len() <= sizes[r]`, and no member is taken twice.
struct Rounds {
    /// How many each round still takes; these sum to the length asked for.
    left: Vec<usize>,
    taken: Vec<Vec<usize>>,
    seen: SeenMembers,
    /// How many members of each zone have been seen: the round the next one falls in.
    seen_of_zone: Vec<usize>,
    missing: usize,
}

impl Rounds {
    fn new(sizes: &[usize], count: usize) -> Rounds {
        let mut missing = count;
        let mut left = Vec::new();
        for size in sizes {
            if missing == 0 {
                break;
            }
            left.push(missing.min(*size));
            missing = missing.saturating_sub(*size);
        }
        let taken = vec![Vec::new(); left.len()];
        let missing = left.iter().sum();
        Rounds { left, taken, seen: SeenMembers::default(), seen_of_zone: Vec::new(), missing }
    }

    fn is_full(&self) -> bool {
        self.missing == 0
    }

    fn offer(&mut self, member: usize, zone: usize) {
        if !self.seen.insert(member) {
            return;
        }
        if self.seen_of_zone.len() <= zone {
            self.seen_of_zone.resize(zone + 1, 0);
        }
        let count = self.seen_of_zone.get_mut(zone).expect("resized above");
        let round = *count;
        *count += 1;
        if let (Some(left), Some(taken)) = (self.left.get_mut(round), self.taken.get_mut(round))
            && *left > 0
        {
            *left -= 1;
            self.missing -= 1;
            taken.push(member);
        }
    }

    fn into_order(self) -> impl Iterator<Item = usize> {
        self.taken.into_iter().flatten()
    }
}

/// A set of small numbers as bits: a full walk of a large ring asks it for each virtual node.
#[derive(Default)]
struct SeenMembers(Vec<u64>);

impl SeenMembers {
    /// Returns whether `member` is new.
    fn insert(&mut self, member: usize) -> bool {
        let (word, bit) = (member / 64, 1u64 << (member % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let slot = self.0.get_mut(word).expect("resized above");
        let is_new = *slot & bit == 0;
        *slot |= bit;
        is_new
    }
}
