//! Who is asked next: the less busy of two drawn at random, among those that are in good health.
//! tonic's own balancer neither ejects nor tells, so each endpoint has a lazy channel of its own.
//!
//! Once the ring is known, its members are asked: owners of the key first, since they coordinate it
//! without a hop; then the others that serve; then whoever is left, the addresses that the client was
//! given among them. Those alone are asked what is up to one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::message::{Liveness, Placement, RingMember, RingView};
use crate::ring::{partition_of, token};
use crate::types::{ClassId, NodeId, TableName, Time, Unit};

use super::Entropy;
use super::endpoint::{Endpoint, Lease};
use super::health::Standing;

/// What a request is about, as far as that says whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// One of the addresses that the client was given.
    Given,
    /// Any node.
    Anywhere,
    /// A key of a table.
    Key {
        /// "default" when empty.
        table: &'a str,
        /// The key.
        key: &'a [u8],
    },
}

/// The addresses that the client was given, at least one; and the members of the ring, once it is
/// known.
#[derive(Debug)]
pub(crate) struct Pool {
    given: Vec<Arc<Endpoint>>,
    routes: ArcSwapOption<Routes>,
}

/// Whom the ring says to ask.
#[derive(Debug)]
struct Routes {
    placement: Arc<Placement>,
    /// By table; that of "default" also without a name.
    classes: BTreeMap<String, ClassId>,
    /// Members that have an address.
    members: BTreeMap<NodeId, Arc<Endpoint>>,
    /// Those that are worth asking.
    usable_ids: BTreeSet<NodeId>,
    usable: Vec<Arc<Endpoint>>,
    /// Everybody else, and the addresses that were given.
    rest: Vec<Arc<Endpoint>>,
}

impl Pool {
    /// A pool over `given`; there must be one.
    pub(crate) fn new(given: Vec<Endpoint>) -> Pool {
        assert!(!given.is_empty(), "a pool has an endpoint");
        let given = given.into_iter().map(Arc::new).collect();
        Pool { given, routes: ArcSwapOption::empty() }
    }

    /// How many there are for such a request.
    pub(crate) fn len(&self, place: Place<'_>) -> usize {
        match (place, self.routes.load().as_deref()) {
            (Place::Given, _) | (_, None) => self.given.len(),
            (Place::Anywhere | Place::Key { .. }, Some(routes)) => {
                routes.usable.len() + routes.rest.len()
            }
        }
    }

    /// The ring is this now. Members that are known by an address already keep what is known of them;
    /// those that have gone are forgotten.
    pub(crate) fn set_ring(&self, ring: Arc<RingView>) {
        let before = self.routes.load_full();
        let known = before.iter().flat_map(|routes| routes.members.values()).chain(&self.given);
        let known: BTreeMap<&str, &Arc<Endpoint>> =
            known.map(|endpoint| (bare(&endpoint.address), endpoint)).collect();
        let mut members = BTreeMap::new();
        for member in ring.members.iter().filter(|member| !member.address.is_empty()) {
            let endpoint = match known.get(bare(&member.address)) {
                Some(endpoint) => Some((*endpoint).clone()),
                None => Endpoint::new(&member.address).ok().map(Arc::new),
            };
            members.extend(endpoint.map(|endpoint| (member.id, endpoint)));
        }
        let usable_ids = usable(&ring);
        let is_usable = |(id, _): &(&NodeId, &Arc<Endpoint>)| usable_ids.contains(id);
        let (usable, others): (Vec<_>, Vec<_>) = members.iter().partition(is_usable);
        let own = |list: Vec<(&NodeId, &Arc<Endpoint>)>| {
            list.into_iter().map(|(_, endpoint)| endpoint.clone()).collect::<Vec<_>>()
        };
        let (usable, mut rest) = (own(usable), own(others));
        let is_member = |given: &Arc<Endpoint>| members.values().any(|one| Arc::ptr_eq(one, given));
        rest.extend(self.given.iter().filter(|given| !is_member(given)).cloned());
        let placement = ring.placement.clone();
        let class = |(name, class): (&TableName, &ClassId)| (name.to_string(), *class);
        let mut classes: BTreeMap<String, ClassId> = placement.tables.iter().map(class).collect();
        if let Some(default) = classes.get("default").copied() {
            classes.insert(String::new(), default);
        }
        let routes = Routes { placement, classes, members, usable_ids, usable, rest };
        self.routes.store(Some(Arc::new(routes)));
    }

    /// Chooses whom to ask at `now`, but not those in `avoid`, unless there are no others.
    pub(crate) fn pick(
        &self,
        place: Place<'_>,
        avoid: &[String],
        now: Time,
        entropy: &Entropy,
    ) -> Lease {
        let routes = self.routes.load();
        let routes = routes.as_deref().filter(|_| place != Place::Given);
        let owners = routes.map_or_else(Vec::new, |routes| routes.owners(place));
        let usable = routes.map_or(&[][..], |routes| &routes.usable);
        let rest = routes.map_or(&self.given[..], |routes| &routes.rest);
        let tiers = [&owners[..], usable, rest];
        let mut soonest = None;
        for tier in tiers {
            if let Some(lease) = choose(tier, avoid, (now, entropy), &mut soonest) {
                return lease;
            }
        }
        // With everybody out, asking is still better than giving up unasked; and one who was to be
        // avoided is better than nobody.
        let of_all = || tiers.iter().flat_map(|tier| tier.iter()).next();
        let fallback = soonest.map_or_else(of_all, |(_, endpoint)| Some(endpoint));
        Lease::of(fallback.or(self.given.first()).expect("a pool has an endpoint"))
    }

    /// Chooses who may be asked besides another: one in good health and not in `avoid`, if there is one.
    /// Nobody is tried by that.
    pub(crate) fn spare(
        &self,
        place: Place<'_>,
        avoid: &[String],
        now: Time,
        entropy: &Entropy,
    ) -> Option<Lease> {
        let routes = self.routes.load();
        let routes = routes.as_deref().filter(|_| place != Place::Given);
        let owners = routes.map_or_else(Vec::new, |routes| routes.owners(place));
        let usable = routes.map_or(&[][..], |routes| &routes.usable);
        let rest = routes.map_or(&self.given[..], |routes| &routes.rest);
        let is_well = |endpoint: &&Arc<Endpoint>| {
            let standing = endpoint.health.lock().standing(now);
            standing == Standing::In && !avoid.contains(&endpoint.address)
        };
        [&owners[..], usable, rest].into_iter().find_map(|tier| {
            let well: Vec<_> = tier.iter().filter(is_well).collect();
            less_busy(&well, entropy).map(Lease::of)
        })
    }
}

/// An address without its scheme.
fn bare(address: &str) -> &str {
    address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/')
}

/// The members that are worth asking, by what the ring says. A node that sees but a minority of the
/// others may be the one that is cut off: what it says of them is nothing to go by.
fn usable(ring: &RingView) -> BTreeSet<NodeId> {
    let answers = |member: &&RingMember| member.liveness == Liveness::Alive;
    let is_cut_off = ring.members.iter().filter(answers).count() * 2 <= ring.members.len();
    let is_usable = |member: &&RingMember| {
        member.liveness != Liveness::Left && (is_cut_off || answers(member) && member.serving)
    };
    ring.members.iter().filter(is_usable).map(|member| member.id).collect()
}

impl Routes {
    /// The owners of a key that are worth asking.
    fn owners(&self, place: Place<'_>) -> Vec<Arc<Endpoint>> {
        let Place::Key { table, key } = place else { return Vec::new() };
        let Some(class) = self.classes.get(table).copied() else { return Vec::new() };
        let partitions = u32::try_from(self.placement.ring.len()).unwrap_or(u32::MAX);
        let unit = Unit { class, partition: partition_of(token(key), partitions) };
        let owners = self.placement.owners(unit).iter();
        let usable = owners.filter(|id| self.usable_ids.contains(id));
        usable.filter_map(|id| self.members.get(id)).cloned().collect()
    }
}

/// One of a tier that is in good health and not to be avoided; otherwise notes who will be tried again
/// first.
fn choose<'a>(
    tier: &'a [Arc<Endpoint>],
    avoid: &[String],
    (now, entropy): (Time, &Entropy),
    soonest: &mut Option<(Time, &'a Arc<Endpoint>)>,
) -> Option<Lease> {
    let mut fit = Vec::with_capacity(tier.len());
    for endpoint in tier {
        if avoid.contains(&endpoint.address) {
            continue;
        }
        let mut health = endpoint.health.lock();
        match health.standing(now) {
            Standing::In => fit.push(endpoint),
            Standing::Trial => {
                health.begin_trial(now);
                drop(health);
                return Some(Lease::of(endpoint));
            }
            Standing::Out(until) => {
                if soonest.is_none_or(|(known, _)| until < known) {
                    *soonest = Some((until, endpoint));
                }
            }
        }
    }
    less_busy(&fit, entropy).map(Lease::of)
}

/// The power of two choices (Mitzenmacher, 2001).
fn less_busy<'a>(fit: &[&'a Arc<Endpoint>], entropy: &Entropy) -> Option<&'a Arc<Endpoint>> {
    let one_idx = entropy.below(fit.len());
    let one = *fit.get(one_idx)?;
    let other_idx = (one_idx + 1 + entropy.below(fit.len() - 1)) % fit.len();
    let other = *fit.get(other_idx)?;
    Some(if other.open() < one.open() { other } else { one })
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
