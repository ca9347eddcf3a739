//! The ring, as it is told to clients: the first update says all, each later one what has changed since.
//! [`learn`] makes of an update and what was known before what the teller meant, or refuses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::{
    Liveness, PlacedClass, PlacedMove, Placement, RING_ROLES, RingMember, RingView,
};
use crate::types::{
    ClassId, ClusterId, Epoch, MovePhase, NodeId, Partition, TableName, Unit, Zone, limits,
};

use super::peer::{Malformed, narrow, node_name, required, wide, wide_bytes};
use super::proto::v1 as pb;
use super::proto::v1::ring_update as wire;

/// What is to be told of `now` to somebody who knows `before`, but for the time; `None` when that is
/// nothing.
pub fn tell(before: Option<&RingView>, now: &RingView) -> Option<pb::RingUpdate> {
    let epoch = now.epoch.0;
    let members = before.is_none_or(|before| before.members != now.members);
    let members =
        members.then(|| wire::Members { list: now.members.iter().map(member_to_wire).collect() });
    let known = before.map(|before| &before.placement);
    let (placement, units) = match known {
        Some(known) if Arc::ptr_eq(known, &now.placement) => (None, Vec::new()),
        Some(known) if differs_in_owners_alone(known, &now.placement) => {
            (None, changed(known, &now.placement))
        }
        _ => (Some(placement_to_wire(&now.placement)), Vec::new()),
    };
    let same = before.is_some_and(|before| before.epoch == now.epoch);
    if same && members.is_none() && placement.is_none() && units.is_empty() {
        return None;
    }
    Some(pb::RingUpdate { epoch, members, placement, units, server_time_ns: 0 })
}

/// Whether nothing but owners of units has changed.
fn differs_in_owners_alone(before: &Placement, now: &Placement) -> bool {
    let shape = |class: &PlacedClass| (class.n, class.r_min, class.w_min, class.owners.len());
    before.id == now.id
        && before.cluster == now.cluster
        && before.ring == now.ring
        && before.tables == now.tables
        && before.classes.iter().map(shape).eq(now.classes.iter().map(shape))
}

fn changed(before: &Placement, now: &Placement) -> Vec<wire::Unit> {
    let is_new = |unit: &Unit| {
        before.owners(*unit) != now.owners(*unit) || before.moving(*unit) != now.moving(*unit)
    };
    let unit = |unit| unit_to_wire(unit, now.owners(unit), now.moving(unit));
    now.units().filter(is_new).map(unit).collect()
}

fn unit_to_wire(unit: Unit, owners: &[NodeId], moving: Option<&PlacedMove>) -> wire::Unit {
    wire::Unit {
        class: unit.class.0.into(),
        partition: unit.partition.0.into(),
        owners: numbers(owners),
        other: moving.map_or_else(Vec::new, |moving| numbers(&moving.other)),
        read_new: moving.is_some_and(|moving| moving.phase == MovePhase::ReadNew),
    }
}

fn move_from_wire(other: Vec<u32>, read_new: bool) -> PlacedMove {
    let phase = if read_new { MovePhase::ReadNew } else { MovePhase::ReadOld };
    PlacedMove { phase, other: ids(other) }
}

fn numbers(ids: &[NodeId]) -> Vec<u32> {
    ids.iter().map(|id| id.0).collect()
}

fn ids(numbers: Vec<u32>) -> Vec<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

fn member_to_wire(member: &RingMember) -> wire::Member {
    wire::Member {
        id: member.id.0,
        name: member.name.to_string(),
        address: member.address.clone(),
        zone: member.zone.to_string(),
        state: member.liveness.as_str().to_owned(),
        role: member.role.to_owned(),
        serving: member.serving,
    }
}

fn placement_to_wire(placement: &Placement) -> wire::Placement {
    let class = |(id, class): (ClassId, &PlacedClass)| wire::Class {
        n: class.n.into(),
        r_min: class.r_min.into(),
        w_min: class.w_min.into(),
        owner_counts: class.owners.iter().map(|owners| count(owners.len())).collect(),
        owners: class.owners.iter().flatten().map(|id| id.0).collect(),
        moving: class
            .moving
            .iter()
            .map(|(partition, moving)| {
                unit_to_wire(Unit { class: id, partition: *partition }, &[], Some(moving))
            })
            .collect(),
    };
    let table = |(name, class): (&TableName, &ClassId)| wire::Table {
        name: name.to_string(),
        class: class.0.into(),
    };
    wire::Placement {
        cluster_id: wide_bytes(placement.id.0),
        cluster_name: placement.cluster.clone(),
        ring: numbers(&placement.ring),
        classes: (0..).map(ClassId).zip(&placement.classes).map(class).collect(),
        tables: placement.tables.iter().map(table).collect(),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What is known of the ring after an update, given what was known before it.
///
/// # Errors
/// [`Malformed`]: a part is missing or outside its bounds, or names what there is not.
pub fn learn(before: Option<&RingView>, update: pb::RingUpdate) -> Result<RingView, Malformed> {
    let members = match (update.members, before) {
        (Some(members), _) => members_from_wire(members)?,
        (None, Some(before)) => before.members.clone(),
        (None, None) => return Err(Malformed::new("members are missing")),
    };
    let placement = match (update.placement, before) {
        (Some(placement), _) => Arc::new(placement_from_wire(placement)?),
        (None, Some(before)) if update.units.is_empty() => before.placement.clone(),
        (None, Some(before)) => Arc::new(with_units(&before.placement, update.units)?),
        (None, None) => return Err(Malformed::new("the placement is missing")),
    };
    Ok(RingView { epoch: Epoch(update.epoch), members, placement })
}

fn members_from_wire(members: wire::Members) -> Result<Vec<RingMember>, Malformed> {
    at_most("members", members.list.len(), limits::MEMBERS_MAX)?;
    let member = |member: wire::Member| {
        let liveness = Liveness::ALL.into_iter().find(|known| known.as_str() == member.state);
        let role = RING_ROLES.into_iter().find(|known| *known == member.role);
        Ok(RingMember {
            id: NodeId(member.id),
            name: node_name(member.name)?,
            address: member.address,
            zone: Zone::try_from(member.zone).map_err(Malformed)?,
            liveness: required(liveness, "the state of a member")?,
            role: required(role, "the role of a member")?,
            serving: member.serving,
        })
    };
    let members = members.list.into_iter().map(member).collect::<Result<Vec<_>, Malformed>>()?;
    if !members.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Malformed::new("members out of order"));
    }
    Ok(members)
}

fn placement_from_wire(placement: wire::Placement) -> Result<Placement, Malformed> {
    at_most("partitions", placement.ring.len(), limits::PARTITIONS_MAX as usize)?;
    at_most("classes", placement.classes.len(), limits::CLASSES_MAX)?;
    at_most("tables", placement.tables.len(), limits::TABLES_MAX)?;
    let partitions = placement.ring.len();
    let classes = placement.classes.into_iter().map(|class| class_from_wire(class, partitions));
    let classes = classes.collect::<Result<Vec<_>, _>>()?;
    let table = |table: wire::Table| {
        let class = ClassId(narrow(table.class, "class")?);
        if usize::from(class.0) >= classes.len() {
            return Err(Malformed::new(format!("there is no class {class}")));
        }
        Ok((TableName::try_from(table.name).map_err(Malformed)?, class))
    };
    let tables = placement.tables.into_iter().map(table).collect::<Result<_, _>>()?;
    let id = ClusterId(wide(&placement.cluster_id, "cluster id")?);
    let (cluster, ring) = (placement.cluster_name, ids(placement.ring));
    Ok(Placement { id, cluster, ring, classes, tables })
}

fn class_from_wire(class: wire::Class, partitions: usize) -> Result<PlacedClass, Malformed> {
    let all: usize = class.owner_counts.iter().map(|count| *count as usize).sum();
    if class.owner_counts.len() != partitions || all != class.owners.len() {
        return Err(Malformed::new("owners do not cover the ring"));
    }
    let mut left = class.owners.into_iter().map(NodeId);
    let mut take = |count: &u32| left.by_ref().take(*count as usize).collect::<Vec<NodeId>>();
    let owners: Vec<Vec<NodeId>> = class.owner_counts.iter().map(&mut take).collect();
    let mut moving = BTreeMap::new();
    for unit in class.moving {
        let partition = place(unit.partition, partitions)?;
        moving.insert(partition, move_from_wire(unit.other, unit.read_new));
    }
    Ok(PlacedClass {
        n: narrow(class.n, "n")?,
        r_min: narrow(class.r_min, "r_min")?,
        w_min: narrow(class.w_min, "w_min")?,
        owners,
        moving,
    })
}

fn place(partition: u32, partitions: usize) -> Result<Partition, Malformed> {
    let number: u16 = narrow(partition, "partition")?;
    if usize::from(number) >= partitions {
        return Err(Malformed::new(format!("there is no partition {partition}")));
    }
    Ok(Partition(number))
}

fn with_units(before: &Placement, units: Vec<wire::Unit>) -> Result<Placement, Malformed> {
    let mut placement = before.clone();
    let partitions = placement.ring.len();
    for unit in units {
        let class = usize::try_from(unit.class).ok();
        let class = class.and_then(|class| placement.classes.get_mut(class));
        let class = class.ok_or_else(|| Malformed::new(format!("no class {}", unit.class)))?;
        let partition = place(unit.partition, partitions)?;
        let owners = class.owners.get_mut(usize::from(partition.0));
        *required(owners, "partition")? = ids(unit.owners);
        if unit.other.is_empty() {
            class.moving.remove(&partition);
        } else {
            class.moving.insert(partition, move_from_wire(unit.other, unit.read_new));
        }
    }
    Ok(placement)
}

fn at_most(what: &str, count: usize, most: usize) -> Result<(), Malformed> {
    if count > most {
        return Err(Malformed::new(format!("{count} {what}; the limit is {most}")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
