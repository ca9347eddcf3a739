//! Who owns what: from members, weights and zones to a ring and the owners of every partition.
//! Pure and deterministic: every node computes the same claim, and the order in which members are
//! listed does not matter. Does not know who is alive, and moves nothing: its result is proposed as
//! a change of the cluster state. Source: Dynamo (DeCandia et al., 2007), section 6.2, strategy 3;
//! the guarantees and how far they were measured are in `docs/ring.md`.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::even::{self, Copies, Range, Rules};
use super::place::wide;
use super::place::{self, Wanted};
use super::share::{MICRO, target_shares, zone_limits};
use super::walk::Ring;
use crate::types::{NodeId, Partition, Zone, limits};

/// A member as the claim sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMember {
    /// Its number.
    pub id: NodeId,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share relative to the others, in thousandths. 0 owns nothing.
    pub weight_milli: u32,
    /// Whether it owns anything: true for active members, false for reserved and leaving ones.
    pub takes_share: bool,
}

impl ClaimMember {
    /// Whether this member can own anything at all.
    pub fn owns(&self) -> bool {
        self.takes_share && self.weight_milli > 0
    }
}

/// The assignment in force before a claim: the next one moves as little of it as it can.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The ring: the member of each virtual node.
    pub ring: &'a [NodeId],
    /// The stored owners of each partition, from which moves are counted.
    pub owners: &'a [Vec<NodeId>],
}

/// A new assignment and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The member of each virtual node, in token order.
    pub ring: Vec<NodeId>,
    /// The owners of each partition, `n` of them, in preference order.
    pub owners: Vec<Vec<NodeId>>,
    /// Shares and moves.
    pub report: ClaimReport,
}

/// What a claim gives to whom, and what it moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimReport {
    /// The share of every member of the claim, by id.
    pub shares: BTreeMap<NodeId, Share>,
    /// Copies held by a member that did not hold them before. All of them for a first claim.
    pub moved: u64,
    /// What has to move whatever the claim: the copies whose holder goes, or the targets of
    /// newcomers (rounded down) and what other members lack of their range, whichever is more.
    /// Zones may force more, and a newcomer at the lower end of its range takes less.
    pub moved_min: u64,
}

impl ClaimReport {
    /// The largest breach of the share rule, in millionths of a copy beyond 5 % of the target or
    /// `n` copies, whichever is more. 0 when everybody is within it.
    pub fn excess_micro(&self, n: u8) -> u64 {
        let unit = u64::from(n) * MICRO;
        let excess = |share: &Share| {
            let off = (share.copies * MICRO).abs_diff(share.target_micro);
            off.saturating_sub((share.target_micro / 20).max(unit))
        };
        self.shares.values().map(excess).max().unwrap_or(0)
    }
}

/// One member's part of the copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What it ought to hold, in millionths of a copy.
    pub target_micro: u64,
    /// What it holds, in copies.
    pub copies: u64,
}

/// Why there is no claim. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// The number of partitions is not a power of two between 1 and 65,536.
    #[error("{got} partitions: not a power of two between 1 and {}", limits::PARTITIONS_MAX)]
    Partitions {
        /// The number asked for.
        got: u32,
    },
    /// The replication factor is out of bounds.
    #[error("{got} copies: not between 1 and {}", limits::REPLICAS_MAX)]
    Copies {
        /// The number asked for.
        got: u8,
    },
    /// A member is listed twice, or has the number 0, which is nobody's.
    #[error("member {id} is listed twice or is nobody")]
    Member {
        /// The member.
        id: NodeId,
    },
    /// There are more members than a cluster may have.
    #[error("{got} members: more than {}", limits::MEMBERS_MAX)]
    TooManyMembers {
        /// The number of members.
        got: usize,
    },
    /// Fewer members can own something than there are copies to place.
    #[error("{n} copies need {n} members that own something, there are {got}")]
    TooFewMembers {
        /// Copies of each partition.
        n: u8,
        /// Members that take a share and have a weight above 0.
        got: usize,
    },
    /// The ring has too few virtual nodes for `n` different members, or for these zones.
    #[error("{partitions} partitions are too few for {n} copies on these members")]
    TooFewPartitions {
        /// Virtual nodes of the ring.
        partitions: u32,
        /// Copies of each partition.
        n: u8,
    },
    /// The assignment before is of another number of partitions.
    #[error("the ring before has {got} partitions, not {partitions}")]
    Before {
        /// Virtual nodes of the new ring.
        partitions: u32,
        /// Virtual nodes or owner lists of the old one.
        got: usize,
    },
}

/// Places `n` copies of each of `partitions` partitions on `members`.
///
/// The rules, each before the next: the owners of a partition are `n` different members; they stand
/// in as many zones as there are, as evenly as the zones' sizes allow; every member's copies are
/// within 5 % or one virtual node (`n` copies), whichever is more, of its target
/// ([`target_shares`]); and little moves. `docs/ring.md` says how far the last two are guaranteed.
///
/// # Errors
/// See [`ClaimError`].
pub fn claim(
    members: &[ClaimMember],
    partitions: u32,
    n: u8,
    before: Option<Before<'_>>,
) -> Result<Claim, ClaimError> {
    check(members, partitions, n, before)?;
    let players = Players::new(members, partitions, n);
    let len = usize::try_from(partitions).expect("at most 2^16");

    let old = before.map(|before| players.inherit(before.ring));
    let held = players.count(old.iter().flatten().flatten().copied());
    let quota = players.apportion(u64::from(n) * MICRO, len, &held);
    let wanted = Wanted {
        n: usize::from(n),
        zone_of: &players.zone_of,
        limits: &players.limits,
        quota: &quota,
    };
    let spots = match old {
        Some(old) => place::adjust(&wanted, &old),
        None => place::deal(&wanted, len),
    };
    let ring: Vec<NodeId> = spots.into_iter().map(|member| players.id(member)).collect();
    let walked = players.walk(&ring);
    if !players.are_safe(&walked) {
        return Err(ClaimError::TooFewPartitions { partitions, n });
    }
    let (owners, report) = players.choose(walked, before);
    Ok(Claim { ring, owners, report })
}

fn check(
    members: &[ClaimMember],
    partitions: u32,
    n: u8,
    before: Option<Before<'_>>,
) -> Result<(), ClaimError> {
    if !partitions.is_power_of_two() || partitions > limits::PARTITIONS_MAX {
        return Err(ClaimError::Partitions { got: partitions });
    }
    if n == 0 || n > limits::REPLICAS_MAX {
        return Err(ClaimError::Copies { got: n });
    }
    if members.len() > limits::MEMBERS_MAX {
        return Err(ClaimError::TooManyMembers { got: members.len() });
    }
    let mut seen = BTreeSet::from([NodeId(0)]);
    if let Some(twice) = members.iter().find(|member| !seen.insert(member.id)) {
        return Err(ClaimError::Member { id: twice.id });
    }
    let owning = members.iter().filter(|member| member.owns()).count();
    if owning < usize::from(n) {
        return Err(ClaimError::TooFewMembers { n, got: owning });
    }
    let len = usize::try_from(partitions).unwrap_or(usize::MAX);
    if let Some(before) = before {
        let wrong = [before.ring.len(), before.owners.len()].into_iter().find(|got| *got != len);
        if let Some(got) = wrong {
            return Err(ClaimError::Before { partitions, got });
        }
    }
    Ok(())
}

/// The members that own something, numbered from 0 in the order of their ids.
struct Players {
    ids: Vec<NodeId>,
    /// The zone of each, as a number from 0.
    zone_of: Vec<usize>,
    limits: Vec<super::share::ZoneLimit>,
    zones: BTreeMap<NodeId, Zone>,
    /// The zones of listed members that own nothing, some of whom may have owned something before.
    idle_zones: BTreeMap<NodeId, Zone>,
    /// Every member of the claim, and its target.
    targets: BTreeMap<NodeId, u64>,
    n: u8,
}

impl Players {
    fn new(members: &[ClaimMember], partitions: u32, n: u8) -> Players {
        let targets = target_shares(members, n, partitions);
        let zones: BTreeMap<NodeId, Zone> = members
            .iter()
            .filter(|member| member.owns())
            .map(|member| (member.id, member.zone.clone()))
            .collect();
        let idle_zones = members
            .iter()
            .filter(|member| !member.owns())
            .map(|member| (member.id, member.zone.clone()))
            .collect();
        let names: BTreeSet<&Zone> = zones.values().collect();
        let number: BTreeMap<&Zone, usize> =
            names.into_iter().enumerate().map(|(number, name)| (name, number)).collect();
        let zone_of: Vec<usize> =
            zones.values().filter_map(|zone| number.get(zone)).copied().collect();
        let mut sizes = vec![0; number.len()];
        for zone in &zone_of {
            *sizes.get_mut(*zone).expect("zones are numbered from 0") += 1;
        }
        let limits = zone_limits(&sizes, n);
        let ids = zones.keys().copied().collect();
        Players { ids, zone_of, limits, zones, idle_zones, targets, n }
    }

    fn id(&self, member: usize) -> NodeId {
        *self.ids.get(member).expect("placement gives every spot to a member")
    }

    fn target(&self, id: NodeId) -> u64 {
        self.targets.get(&id).copied().unwrap_or(0)
    }

    /// Reads the old ring as spots of the new members. Who is new in a zone takes over, as it is,
    /// the ring of one who is gone from it: so a replacement moves what was lost and nothing else.
    fn inherit(&self, ring: &[NodeId]) -> Vec<Option<usize>> {
        let mut heirs: BTreeMap<NodeId, usize> =
            self.ids.iter().enumerate().map(|(member, id)| (*id, member)).collect();
        let held: BTreeSet<NodeId> = ring.iter().copied().collect();
        let mut new: BTreeMap<&Zone, Vec<usize>> = BTreeMap::new();
        for (member, id) in self.ids.iter().enumerate().rev() {
            if let Some(zone) = self.zones.get(id).filter(|_| !held.contains(id)) {
                new.entry(zone).or_default().push(member);
            }
        }
        for id in held.iter().filter(|id| !self.zones.contains_key(id)) {
            let zone = self.idle_zones.get(id);
            if let Some(member) = zone.and_then(|zone| new.get_mut(zone)?.pop()) {
                heirs.insert(*id, member);
            }
        }
        ring.iter().map(|id| heirs.get(id).copied()).collect()
    }

    fn count(&self, held: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts = vec![0; self.ids.len()];
        for member in held {
            *counts.get_mut(member).expect("members are numbered from 0") += 1;
        }
        counts
    }

    /// Divides `total` things of `unit` millionths of a copy: to each its target rounded down or
    /// up, first among zones and then within each, so that rounding never tilts a zone. Who has
    /// the one more already, as `held` says, keeps it.
    fn apportion(&self, unit: u64, total: usize, held: &[usize]) -> Vec<usize> {
        let mut zones = vec![Stake::default(); self.limits.len()];
        let mut inside: Vec<Vec<(usize, Stake)>> = vec![Vec::new(); self.limits.len()];
        for (member, (id, zone)) in self.ids.iter().zip(&self.zone_of).enumerate() {
            let stake = Stake { target: self.target(*id), held: place::at(held, member) };
            let sum = zones.get_mut(*zone).expect("zones are numbered from 0");
            sum.target += stake.target;
            sum.held += stake.held;
            inside.get_mut(*zone).expect("zones are numbered from 0").push((member, stake));
        }
        let mut shares = vec![0; self.ids.len()];
        for (members, total) in inside.iter().zip(apportion(&zones, unit, total)) {
            let stakes: Vec<Stake> = members.iter().map(|(_, stake)| *stake).collect();
            for ((member, _), share) in members.iter().zip(apportion(&stakes, unit, total)) {
                *shares.get_mut(*member).expect("members are numbered from 0") = share;
            }
        }
        shares
    }

    /// Decides between the owners of the walk, with those before kept where it has not changed and without, the same
    /// mended, and those before patched: the first that is fair and moves little, or else the fairest, or else the one
    /// that moves least.
    fn choose(&self, walked: Owners, before: Option<Before<'_>>) -> (Owners, ClaimReport) {
        let mut best: Option<(u64, u64, Owners, ClaimReport)> = None;
        let fair = self.report(&walked, before).excess_micro(self.n) == 0;
        for step in [Step::Keep, Step::Walk, Step::Mend, Step::Patch, Step::Loosely] {
            let owners = match (step, before) {
                (Step::Keep, Some(before)) => self.keep(&walked, before),
                (Step::Walk, _) => walked.clone(),
                (Step::Mend, _) if !fair => self.mend(&walked, before),
                (Step::Patch, Some(before)) => self.patch(&walked, before, Aim::Exact),
                (Step::Loosely, Some(before)) => self.patch(&walked, before, Aim::InRange),
                _ => continue,
            };
            let report = self.report(&owners, before);
            let excess = report.excess_micro(self.n);
            let allowed = (report.moved_min / 10).max(u64::from(self.n));
            let over = report.moved.saturating_sub(report.moved_min + allowed);
            if excess == 0 && (over == 0 || before.is_none()) {
                return (owners, report);
            }
            if best.as_ref().is_none_or(|best| (excess, report.moved) < (best.0, best.1)) {
                best = Some((excess, report.moved, owners, report));
            }
        }
        let (_, _, owners, report) = best.expect("the walk is always a candidate");
        (owners, report)
    }

    /// The owners of the walk; but where the old ring gives the same, those before, if these members may still have
    /// them so: what was exchanged or mended there stays.
    fn keep(&self, walked: &Owners, before: Before<'_>) -> Owners {
        let was = self.walk(before.ring);
        let fits = |kept: &[NodeId], walk: &[NodeId]| {
            let number = |id: &NodeId| self.ids.binary_search(id).ok();
            let numbers: BTreeSet<Option<usize>> = kept.iter().map(number).collect();
            let distinct = numbers.len() == walk.len() && kept.len() == walk.len();
            distinct && !numbers.contains(&None) && self.spread(kept) == self.spread(walk)
        };
        let mut kept = walked.clone();
        for ((place, walk), owners) in kept.iter_mut().zip(&was).zip(before.owners) {
            if *place == *walk && fits(owners, walk) && !crate::mutant!("claim-forgets-exchange") {
                place.clone_from(owners);
            }
        }
        kept
    }

    /// How many copies each zone has, fewest first.
    fn spread(&self, owners: &[NodeId]) -> Vec<usize> {
        let mut counts: BTreeMap<Option<&Zone>, usize> = BTreeMap::new();
        for id in owners {
            *counts.entry(self.zones.get(id)).or_default() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }

    /// The owners of the walk with single copies moved until all are in range.
    fn mend(&self, walked: &Owners, before: Option<Before<'_>>) -> Owners {
        let start = self.numbered(walked);
        let guide = before.map_or_else(Vec::new, |before| self.numbered(before.owners));
        let ranges = self.ranges(&start, Aim::InRange);
        self.even(start, &guide, &ranges)
    }

    /// The owners before with as few copies replaced as the aim allows, in the order of the walk
    /// where they are those of the walk.
    fn patch(&self, walked: &Owners, before: Before<'_>, aim: Aim) -> Owners {
        let mut start = self.numbered(before.owners);
        for owners in &mut start {
            owners.resize(usize::from(self.n), None);
        }
        let ranges = self.ranges(&start, aim);
        let mut patched = self.even(start, &self.numbered(walked), &ranges);
        for (owners, walk) in patched.iter_mut().zip(walked) {
            if walk.iter().all(|id| owners.contains(id)) {
                owners.clone_from(walk);
            }
        }
        patched
    }

    fn ranges(&self, start: &Copies, aim: Aim) -> Vec<Range> {
        let n = usize::from(self.n);
        let counts = self.count(start.iter().flatten().flatten().copied());
        let aims = self.apportion(MICRO, start.len() * n, &counts);
        let range = |(id, whole): (&NodeId, &usize)| match aim {
            Aim::Exact => Range { low: wide(*whole), aim: wide(*whole), high: wide(*whole) },
            Aim::InRange => even::range(self.target(*id), wide(*whole), n),
        };
        self.ids.iter().zip(&aims).map(range).collect()
    }

    fn even(&self, start: Copies, guide: &Copies, ranges: &[Range]) -> Owners {
        let rules = Rules { zone_of: &self.zone_of, limits: &self.limits, ranges };
        let copies = even::even(&rules, start, guide);
        let names = |owners: Vec<Option<usize>>| {
            owners.into_iter().flatten().map(|member| self.id(member)).collect()
        };
        copies.into_iter().map(names).collect()
    }

    /// Owners by number; `None` for those who own nothing any more.
    fn numbered(&self, owners: &[Vec<NodeId>]) -> Copies {
        let number = |id: &NodeId| self.ids.binary_search(id).ok();
        owners.iter().map(|owners| owners.iter().map(number).collect()).collect()
    }

    fn walk(&self, ring: &[NodeId]) -> Owners {
        let ring = Ring::new(ring, &self.zones);
        let last = u16::try_from(ring.partitions() - 1).expect("at most 2^16 partitions");
        (0..=last).map(|number| ring.owners(Partition(number), self.n)).collect()
    }

    /// Whether all owners are `n` different members in the zones they can be in.
    fn are_safe(&self, owners: &[Vec<NodeId>]) -> bool {
        let n = usize::from(self.n);
        let zones = self.limits.len().min(n);
        owners.iter().all(|owners| {
            let members: BTreeSet<&NodeId> = owners.iter().collect();
            let in_zones: BTreeSet<Option<&Zone>> =
                owners.iter().map(|id| self.zones.get(id)).collect();
            members.len() == n && in_zones.len() >= zones
        })
    }

    fn report(&self, owners: &[Vec<NodeId>], before: Option<Before<'_>>) -> ClaimReport {
        let mut shares: BTreeMap<NodeId, Share> = BTreeMap::new();
        for (id, target) in &self.targets {
            shares.insert(*id, Share { target_micro: *target, copies: 0 });
        }
        for id in owners.iter().flatten() {
            shares.entry(*id).or_default().copies += 1;
        }
        let old = before.map_or(&[][..], |before| before.owners);
        let mut held: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut orphans = 0;
        for id in old.iter().flatten() {
            *held.entry(*id).or_default() += 1;
            orphans += u64::from(!self.zones.contains_key(id));
        }
        let mut moved = 0;
        let empty = Vec::new();
        for (partition, new) in owners.iter().enumerate() {
            let was = old.get(partition).unwrap_or(&empty);
            moved += new.iter().filter(|id| !was.contains(id)).map(|_| 1).sum::<u64>();
        }
        // A newcomer is there to hold its target; for the others being in range is enough.
        let lack = |(id, target): (&NodeId, &u64)| match held.get(id) {
            None => target / MICRO,
            Some(held) => even::range(*target, u64::MAX, self.n.into()).low.saturating_sub(*held),
        };
        let lacking = self.targets.iter().map(lack).sum::<u64>();
        ClaimReport { shares, moved, moved_min: lacking.max(orphans) }
    }
}

/// The ways to owners, in the order in which they are tried.
#[derive(Clone, Copy)]
enum Step {
    Keep,
    Walk,
    Mend,
    Patch,
    Loosely,
}

/// How near to its target mending brings a member.
#[derive(Clone, Copy)]
enum Aim {
    /// To the copy.
    Exact,
    /// Just into the range that the share rule allows.
    InRange,
}

/// Owners of each partition, in preference order.
type Owners = Vec<Vec<NodeId>>;

/// What somebody ought to have and has.
#[derive(Clone, Copy, Default)]
struct Stake {
    target: u64,
    held: usize,
}

/// Divides `total` whole units among stakes whose targets sum to it, each rounded down or up. The
/// one more goes first to who has it already, then to who would have none, then to who is closest.
fn apportion(stakes: &[Stake], unit: u64, total: usize) -> Vec<usize> {
    // Targets are rounded down by less than this, which must not cost a whole unit.
    let slack = 4;
    let floor = |stake: &Stake| {
        usize::try_from((stake.target + slack) / unit).expect("targets are below 2^16 units")
    };
    let mut shares: Vec<usize> = stakes.iter().map(floor).collect();
    let mut left = total.saturating_sub(shares.iter().sum());
    let mut order: Vec<usize> = (0..stakes.len()).collect();
    order.sort_by_key(|index| {
        let stake = stakes.get(*index).copied().unwrap_or_default();
        let floor = floor(&stake);
        (stake.held <= floor, floor > 0, core::cmp::Reverse((stake.target + slack) % unit), *index)
    });
    while left > 0 && !order.is_empty() {
        for index in order.iter().take(left) {
            *shares.get_mut(*index).expect("indices of this list") += 1;
        }
        left = left.saturating_sub(order.len());
    }
    shares
}
