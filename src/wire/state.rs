//! The cluster state as it travels. A foreign state is checked for everything that code behind this
//! point takes for granted: sizes, ids that exist, owners that are members, tables that add up.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::types::{
    Addresses, Class, ClassId, ClusterId, ClusterState, Epoch, Lineage, Member, NodeId, Nonce,
    RequestId, Role, Settings, Sloppy, Table, TableId, TableKind, TableName, Zone, limits,
};

use super::peer::{ADDRESS_BYTES_MAX, Malformed, narrow, node_name, wide, wide_bytes};
use super::proto::peer as pb;
use super::topology;

/// Longest cluster name, in bytes.
const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// A state as it travels.
pub fn state_to_wire(state: &ClusterState) -> pb::ClusterState {
    pb::ClusterState {
        epoch: state.epoch.0,
        parent: wide_bytes(state.parent),
        cluster: wide_bytes(state.cluster.0),
        lineage: state.lineage.0,
        feature_level: state.feature_level,
        name: state.settings.name.clone(),
        partitions: state.settings.partitions,
        members: state.members.iter().map(member_to_wire).collect(),
        council: state.council.iter().map(|id| id.0).collect(),
        ring: state.ring.iter().map(|id| id.0).collect(),
        classes: state.classes.iter().map(class_to_wire).collect(),
        tables: state.tables.iter().map(table_to_wire).collect(),
        table_id_max: state.table_id_max.0,
        dropped_at: state.dropped_at.0,
        recent_changes: state
            .recent_changes
            .iter()
            .map(|(id, epoch)| pb::RecentChange { id: wide_bytes(id.0), epoch: epoch.0 })
            .collect(),
        topology: Some(topology::topology_to_wire(&state.topology)),
    }
}

/// About how many bytes a state takes, in queues and on the wire.
pub(super) fn state_weight(state: &ClusterState) -> usize {
    let copies: usize =
        state.classes.iter().map(|class| class.owners.len() * usize::from(class.n)).sum();
    let moves: usize = state.classes.iter().map(|class| class.moves.len()).sum();
    let plan = state.topology.plan.as_ref();
    let planned = plan.map_or(0, |plan| plan.queue.len() + plan.begun.len() + plan.ring.len());
    let changes = 32 * state.recent_changes.len() + 128 * moves + 64 * planned;
    256 * state.members.len() + 8 * (state.ring.len() + copies) + 128 * state.tables.len() + changes
}

/// A foreign state, checked.
///
/// # Errors
/// [`Malformed`]: a part is missing, outside its bounds or contradicts another.
pub fn state_from_wire(wire: pb::ClusterState) -> Result<ClusterState, Malformed> {
    let partitions = wire.partitions;
    if !partitions.is_power_of_two() || partitions > limits::PARTITIONS_MAX {
        return Err(Malformed::new(format!("a ring of {partitions} partitions")));
    }
    let counts = [
        ("members", wire.members.len(), limits::MEMBERS_MAX),
        ("council seats", wire.council.len(), limits::MEMBERS_MAX),
        ("classes", wire.classes.len(), limits::CLASSES_MAX),
        ("tables", wire.tables.len(), limits::TABLES_MAX),
        ("changes", wire.recent_changes.len(), limits::RECENT_CHANGES_MAX),
        ("bytes of name", wire.name.len(), CLUSTER_NAME_BYTES_MAX),
    ];
    for (what, count, most) in counts {
        if count > most {
            return Err(Malformed::new(format!("{count} {what}; the limit is {most}")));
        }
    }
    let members = wire.members.into_iter().map(member_from_wire).collect::<Result<Vec<_>, _>>()?;
    let classes = wire
        .classes
        .into_iter()
        .map(|class| class_from_wire(class, partitions))
        .collect::<Result<Vec<_>, _>>()?;
    let state = ClusterState {
        epoch: Epoch(wire.epoch),
        parent: wide(&wire.parent, "parent")?,
        cluster: ClusterId(wide(&wire.cluster, "cluster")?),
        lineage: Lineage(wire.lineage),
        feature_level: wire.feature_level,
        settings: Settings { name: wire.name, partitions },
        members,
        council: wire.council.into_iter().map(NodeId).collect(),
        ring: wire.ring.into_iter().map(NodeId).collect(),
        classes,
        tables: wire.tables.into_iter().map(table_from_wire).collect::<Result<_, _>>()?,
        table_id_max: TableId(wire.table_id_max),
        dropped_at: Epoch(wire.dropped_at),
        recent_changes: wire
            .recent_changes
            .into_iter()
            .map(|change| Ok((RequestId(wide(&change.id, "change")?), Epoch(change.epoch))))
            .collect::<Result<_, _>>()?,
        topology: topology::topology_from_wire(wire.topology.unwrap_or_default())?,
    };
    check(&state)?;
    Ok(state)
}

/// What must hold between the parts.
fn check(state: &ClusterState) -> Result<(), Malformed> {
    let ids: BTreeSet<NodeId> = state.members.iter().map(|member| member.id).collect();
    if ids.len() != state.members.len() || ids.contains(&NodeId(0)) {
        return Err(Malformed::new("member ids are not distinct"));
    }
    if u32::try_from(state.ring.len()) != Ok(state.settings.partitions) {
        return Err(Malformed::new(format!("a ring of {} places", state.ring.len())));
    }
    let owners = state.classes.iter().flat_map(|class| class.owners.iter().flatten());
    let mut named = state.ring.iter().chain(&state.council).chain(owners);
    if let Some(stranger) = named.find(|id| !ids.contains(id)) {
        return Err(Malformed::new(format!("{stranger} is named but is no member")));
    }
    for (index, class) in state.classes.iter().enumerate() {
        if usize::from(class.id.0) != index {
            return Err(Malformed::new(format!("class {} stands at place {index}", class.id)));
        }
    }
    topology::check(state, &ids)?;
    let names: BTreeSet<&TableName> = state.tables.iter().map(|table| &table.name).collect();
    if names.len() != state.tables.len() || !state.tables.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Malformed::new("tables are not distinct, or not in order"));
    }
    for table in &state.tables {
        table.check().map_err(|why| Malformed(format!("table {}: {why}", table.name)))?;
        let class = state.class(table.class);
        let fits = class.is_some_and(|class| {
            (class.n, class.r_min, class.w_min) == (table.n, table.r_min, table.w_min)
        });
        if !fits || table.id > state.table_id_max {
            return Err(Malformed::new(format!("table {} does not fit its class", table.name)));
        }
    }
    Ok(())
}

pub(super) fn role_to_wire(role: Role) -> pb::Role {
    match role {
        Role::Active => pb::Role::Active,
        Role::Reserved => pb::Role::Reserved,
        Role::Leaving => pb::Role::Leaving,
    }
}

pub(super) fn role_from_wire(role: i32) -> Result<Role, Malformed> {
    match pb::Role::try_from(role) {
        Ok(pb::Role::Active) => Ok(Role::Active),
        Ok(pb::Role::Reserved) => Ok(Role::Reserved),
        Ok(pb::Role::Leaving) => Ok(Role::Leaving),
        Ok(pb::Role::Unspecified) | Err(_) => {
            Err(Malformed::new(format!("there is no role {role}")))
        }
    }
}

fn member_to_wire(member: &Member) -> pb::Member {
    let role = role_to_wire(member.role);
    pb::Member {
        id: member.id.0,
        name: member.name.as_str().to_owned(),
        client_address: member.addresses.client.clone(),
        peer_address: member.addresses.peer.clone(),
        zone: member.zone.as_str().to_owned(),
        weight_milli: member.weight_milli,
        role: role.into(),
        birth: wide_bytes(member.birth.0),
    }
}

fn member_from_wire(wire: pb::Member) -> Result<Member, Malformed> {
    let role = role_from_wire(wire.role)?;
    if wire.client_address.len().max(wire.peer_address.len()) > ADDRESS_BYTES_MAX {
        return Err(Malformed::new("a member's address is too long"));
    }
    Ok(Member {
        id: NodeId(wire.id),
        name: node_name(wire.name)?,
        addresses: Addresses { client: wire.client_address, peer: wire.peer_address },
        zone: Zone::try_from(wire.zone).map_err(Malformed)?,
        weight_milli: wire.weight_milli,
        role,
        birth: Nonce(wide(&wire.birth, "birth")?),
    })
}

fn class_to_wire(class: &Class) -> pb::Class {
    pb::Class {
        id: class.id.0.into(),
        n: class.n.into(),
        r_min: class.r_min.into(),
        w_min: class.w_min.into(),
        owners: class.owners.iter().flatten().map(|id| id.0).collect(),
        owner_counts: class
            .owners
            .iter()
            .map(|owners| u32::try_from(owners.len()).unwrap_or(u32::MAX))
            .collect(),
        changed_at: class.changed_at.iter().map(|epoch| epoch.0).collect(),
        created: class.created.0,
        entries: topology::entries_to_wire(class),
        moves: class.moves.iter().map(topology::move_to_wire).collect(),
    }
}

fn class_from_wire(wire: pb::Class, partitions: u32) -> Result<Class, Malformed> {
    let fits = |len: usize| u32::try_from(len) == Ok(partitions);
    if !fits(wire.owner_counts.len()) || !fits(wire.changed_at.len()) {
        return Err(Malformed::new("a class does not cover the ring"));
    }
    let n: u8 = narrow(wire.n, "n")?;
    let mut rest = wire.owners.into_iter().map(NodeId);
    let mut owners = Vec::with_capacity(wire.owner_counts.len());
    for count in wire.owner_counts {
        let count: u8 = narrow(count, "owners of a partition")?;
        let unit: Vec<NodeId> = rest.by_ref().take(count.into()).collect();
        let distinct: BTreeSet<NodeId> = unit.iter().copied().collect();
        if unit.len() != usize::from(n) || distinct.len() != unit.len() {
            return Err(Malformed::new(format!("a partition has owners {unit:?}, n is {n}")));
        }
        owners.push(unit);
    }
    if rest.next().is_some() {
        return Err(Malformed::new("a class names more owners than it has places"));
    }
    let created = Epoch(wire.created);
    Ok(Class {
        id: ClassId(narrow(wire.id, "class")?),
        n,
        r_min: narrow(wire.r_min, "r_min")?,
        w_min: narrow(wire.w_min, "w_min")?,
        created,
        entries: topology::entries_from_wire(wire.entries, &owners, created)?,
        moves: topology::moves_from_wire(wire.moves, (n, partitions))?,
        owners,
        changed_at: wire.changed_at.into_iter().map(Epoch).collect(),
    })
}

fn table_to_wire(table: &Table) -> pb::Table {
    let kind = match table.kind {
        TableKind::Lww => pb::table::Kind::Lww,
        TableKind::Causal => pb::table::Kind::Causal,
        TableKind::Linearizable => pb::table::Kind::Linearizable,
    };
    let sloppy = match table.sloppy {
        Sloppy::Never => pb::table::Sloppy::Never,
        Sloppy::Request => pb::table::Sloppy::Request,
        Sloppy::Always => pb::table::Sloppy::Always,
    };
    pb::Table {
        id: table.id.0,
        name: table.name.as_str().to_owned(),
        kind: kind.into(),
        class: table.class.0.into(),
        n: table.n.into(),
        r: table.r.into(),
        w: table.w.into(),
        r_min: table.r_min.into(),
        w_min: table.w_min.into(),
        sloppy: sloppy.into(),
        ttl_ns: table.ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX)),
        value_bytes_max: table.value_bytes_max,
    }
}

fn table_from_wire(wire: pb::Table) -> Result<Table, Malformed> {
    use pb::table::{Kind, Sloppy as WireSloppy};
    let kind = match Kind::try_from(wire.kind) {
        Ok(Kind::Lww) => TableKind::Lww,
        Ok(Kind::Causal) => TableKind::Causal,
        Ok(Kind::Linearizable) => TableKind::Linearizable,
        Ok(Kind::Unspecified) | Err(_) => {
            return Err(Malformed::new(format!("there is no kind of table {}", wire.kind)));
        }
    };
    let sloppy = match WireSloppy::try_from(wire.sloppy) {
        Ok(WireSloppy::Never) => Sloppy::Never,
        Ok(WireSloppy::Request) => Sloppy::Request,
        Ok(WireSloppy::Always) => Sloppy::Always,
        Ok(WireSloppy::Unspecified) | Err(_) => {
            return Err(Malformed::new(format!("sloppy is {}", wire.sloppy)));
        }
    };
    Ok(Table {
        id: TableId(wire.id),
        name: TableName::try_from(wire.name).map_err(Malformed)?,
        kind,
        class: ClassId(narrow(wire.class, "class")?),
        n: narrow(wire.n, "n")?,
        r: narrow(wire.r, "r")?,
        w: narrow(wire.w, "w")?,
        r_min: narrow(wire.r_min, "r_min")?,
        w_min: narrow(wire.w_min, "w_min")?,
        sloppy,
        ttl: (wire.ttl_ns > 0).then(|| Duration::from_nanos(wire.ttl_ns)),
        value_bytes_max: wire.value_bytes_max,
    })
}
