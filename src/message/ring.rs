//! The ring as one node sees it, for clients that follow it: who the members are, whether they answer,
//! and who owns what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::types::{
    ClassId, ClusterId, ClusterState, Epoch, MovePhase, NodeId, NodeName, Partition, TableName,
    Unit, Zone,
};

use super::{Liveness, MemberView, Phase, View};

/// The ring as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingView {
    /// The version of the cluster state.
    pub epoch: Epoch,
    /// All members, by id.
    pub members: Vec<RingMember>,
    /// Who owns what.
    pub placement: Arc<Placement>,
}

/// A member of a [`RingView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingMember {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it listens for clients; may be empty.
    pub address: String,
    /// Its failure domain.
    pub zone: Zone,
    /// Whether it answers the node that tells.
    pub liveness: Liveness,
    /// `active`, `reserved`, `joining` or `leaving`.
    pub role: &'static str,
    /// Whether it says that it serves.
    pub serving: bool,
}

/// Who owns what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Which cluster.
    pub id: ClusterId,
    /// The cluster's name.
    pub cluster: String,
    /// The member of each virtual node, in token order: as many as there are partitions.
    pub ring: Vec<NodeId>,
    /// Classes of tables, by id.
    pub classes: Vec<PlacedClass>,
    /// The class of each table.
    pub tables: BTreeMap<TableName, ClassId>,
}

/// The owners of one class of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedClass {
    /// Copies of each key.
    pub n: u8,
    /// Read floor.
    pub r_min: u8,
    /// Write floor.
    pub w_min: u8,
    /// Owners of each partition that are read, in preference order.
    pub owners: Vec<Vec<NodeId>>,
    /// Partitions on the move.
    pub moving: BTreeMap<Partition, PlacedMove>,
}

/// A partition on the move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedMove {
    /// Whether the new owners are read already.
    pub phase: MovePhase,
    /// The owners that are written too, and not read: the new ones at first, then the old ones.
    pub other: Vec<NodeId>,
}

/// Roles, as they are told.
pub const RING_ROLES: [&str; 4] = ["active", "reserved", "joining", "leaving"];

impl RingView {
    /// The member `id`.
    pub fn member(&self, id: NodeId) -> Option<&RingMember> {
        let place = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(place)
    }

    /// What a node that serves tells of the ring; `None` of one that does not. `before` is what it told
    /// last, with the state that was made of: a placement that has not changed is told by the same
    /// value.
    pub fn of(view: &View, before: Option<(&RingView, &ClusterState)>) -> Option<RingView> {
        let state = view.state.as_deref()?;
        if view.phase != Phase::Serving {
            return None;
        }
        let kept = before.filter(|(_, known)| core::ptr::eq(*known, state));
        let placement = match kept {
            Some((ring, _)) => ring.placement.clone(),
            None => {
                let made = Placement::of(state);
                let same = before.map(|(ring, _)| &ring.placement).filter(|known| ***known == made);
                same.cloned().unwrap_or_else(|| Arc::new(made))
            }
        };
        let gaining = state.gaining();
        let others: BTreeMap<NodeId, &MemberView> =
            view.members.iter().map(|seen| (seen.id, seen)).collect();
        let member = |member: &crate::types::Member| {
            let seen = others.get(&member.id);
            let facts = seen.and_then(|seen| seen.facts.as_deref());
            let is_me = member.id == view.hello.id;
            let told = facts.map(|facts| &facts.client_address);
            let told = told.or(is_me.then_some(&view.client_address)).filter(|a| !a.is_empty());
            RingMember {
                id: member.id,
                name: member.name.clone(),
                address: told.unwrap_or(&member.addresses.client).clone(),
                zone: member.zone.clone(),
                liveness: seen.map_or(Liveness::Alive, |seen| seen.liveness),
                role: member.role.as_told(gaining.contains(&member.id)),
                serving: is_me || facts.is_some_and(|facts| facts.serving),
            }
        };
        let mut members: Vec<RingMember> = state.members.iter().map(member).collect();
        members.sort_by_key(|member| member.id);
        Some(RingView { epoch: state.epoch, members, placement })
    }
}

impl Placement {
    /// The placement of a state.
    pub fn of(state: &ClusterState) -> Placement {
        let class = |class: &crate::types::Class| PlacedClass {
            n: class.n,
            r_min: class.r_min,
            w_min: class.w_min,
            owners: class.owners.clone(),
            moving: class
                .moves
                .iter()
                .map(|m| (m.partition, PlacedMove { phase: m.phase, other: m.other.clone() }))
                .collect(),
        };
        Placement {
            id: state.cluster,
            cluster: state.settings.name.clone(),
            ring: state.ring.clone(),
            classes: state.classes.iter().map(class).collect(),
            tables: state.tables.iter().map(|table| (table.name.clone(), table.class)).collect(),
        }
    }

    /// The class `id`.
    pub fn class(&self, id: ClassId) -> Option<&PlacedClass> {
        self.classes.get(usize::from(id.0))
    }

    /// The owners of `unit` that are read, in preference order; empty when there is no such unit.
    pub fn owners(&self, unit: Unit) -> &[NodeId] {
        let class = self.class(unit.class);
        let owners = class.and_then(|class| class.owners.get(usize::from(unit.partition.0)));
        owners.map_or(&[], Vec::as_slice)
    }

    /// The move of `unit`, if it moves.
    pub fn moving(&self, unit: Unit) -> Option<&PlacedMove> {
        self.class(unit.class)?.moving.get(&unit.partition)
    }

    /// Partitions on the move, in whatever class, and the members that get them or have just got them.
    pub fn arrivals(&self) -> BTreeMap<Partition, BTreeSet<NodeId>> {
        let mut arrivals: BTreeMap<Partition, BTreeSet<NodeId>> = BTreeMap::new();
        for class in &self.classes {
            for (partition, PlacedMove { phase, other }) in &class.moving {
                let owners = class.owners.get(usize::from(partition.0)).map_or(&[][..], |o| o);
                let (to, from) = match phase {
                    MovePhase::ReadOld => (&other[..], owners),
                    MovePhase::ReadNew => (owners, &other[..]),
                };
                let new = to.iter().filter(|id| !from.contains(id));
                arrivals.entry(*partition).or_default().extend(new);
            }
        }
        arrivals
    }

    /// All units, in order.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        let classes = (0..).map(ClassId).zip(&self.classes);
        classes.flat_map(|(class, placed)| {
            let partitions = (0..).map(Partition).take(placed.owners.len());
            partitions.map(move |partition| Unit { class, partition })
        })
    }
}
