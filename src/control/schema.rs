//! What changes of the schema make of a state: names, ids, floors, classes and their owners.

use crate::message::{ErrorCode, OpError, TableAlteration, TableChange, TableSpec};
use crate::ring::{Before, ClaimMember, Ring, claim};
use crate::types::{
    Class, ClassId, ClusterState, Member, NodeId, Role, Sloppy, Table, TableId, TableKind,
    TableName, limits,
};

/// Makes a change of the schema.
pub(super) fn apply(next: &mut ClusterState, change: &TableChange) -> Result<(), OpError> {
    match change {
        TableChange::Create(spec) => create(next, spec),
        TableChange::Alter(alteration) => alter(next, alteration),
        TableChange::Drop(name) => drop_table(next, name),
    }
}

fn create(next: &mut ClusterState, spec: &TableSpec) -> Result<(), OpError> {
    if next.table_named(&spec.name).is_some() {
        let text = format!("there is a table called {} already", spec.name);
        return Err(OpError::new(ErrorCode::TableExists, text));
    }
    if next.tables.len() >= limits::TABLES_MAX {
        return Err(full("tables", limits::TABLES_MAX));
    }
    let Some(id) = next.table_id_max.0.checked_add(1).map(TableId) else {
        return Err(full("table ids", usize::try_from(u32::MAX).unwrap_or(usize::MAX)));
    };
    let mut table = table_of(next, id, spec);
    check(&table)?;
    table.class = class_of(next, &table)?;
    next.table_id_max = id;
    next.tables.push(table);
    Ok(())
}

/// The table that `spec` asks for, with the defaults of what it leaves out; its class is not known
/// yet.
fn table_of(state: &ClusterState, id: TableId, spec: &TableSpec) -> Table {
    let born_with = state.classes.first().map_or(1, |class| class.n);
    let n = spec.n.unwrap_or(born_with);
    let majority = n / 2 + 1;
    let (r_min, w_min) = (spec.r_min.unwrap_or(majority), spec.w_min.unwrap_or(majority));
    let linearizable = spec.kind == TableKind::Linearizable;
    let by_kind = if linearizable { Sloppy::Never } else { Sloppy::Request };
    Table {
        id,
        name: spec.name.clone(),
        kind: spec.kind,
        class: ClassId(0),
        n,
        r: spec.r.unwrap_or_else(|| majority.max(r_min)),
        w: spec.w.unwrap_or_else(|| majority.max(w_min)),
        r_min,
        w_min,
        sloppy: spec.sloppy.unwrap_or(by_kind),
        ttl: spec.ttl,
        value_bytes_max: spec.value_bytes_max.unwrap_or(value_bytes_max()),
    }
}

fn value_bytes_max() -> u32 {
    u32::try_from(limits::VALUE_BYTES_MAX).unwrap_or(u32::MAX)
}

fn alter(next: &mut ClusterState, alteration: &TableAlteration) -> Result<(), OpError> {
    let TableAlteration { name, r, w, sloppy, ttl, value_bytes_max } = alteration;
    let table = next.tables.iter_mut().find(|table| table.name == *name);
    let table = table.ok_or_else(|| unknown(name))?;
    table.r = r.unwrap_or(table.r);
    table.w = w.unwrap_or(table.w);
    table.sloppy = sloppy.unwrap_or(table.sloppy);
    table.ttl = ttl.unwrap_or(table.ttl);
    table.value_bytes_max = value_bytes_max.unwrap_or(table.value_bytes_max);
    check(table)
}

fn drop_table(next: &mut ClusterState, name: &TableName) -> Result<(), OpError> {
    let place = next.tables.iter().position(|table| table.name == *name);
    let place = place.ok_or_else(|| unknown(name))?;
    next.tables.remove(place);
    next.dropped_at = next.epoch;
    Ok(())
}

fn unknown(name: &TableName) -> OpError {
    OpError::new(ErrorCode::TableUnknown, format!("no table is called {name}"))
}

fn full(what: &str, limit: usize) -> OpError {
    let text = format!("the cluster has {limit} {what}, which is the limit");
    OpError::new(ErrorCode::TableLimit, text).with_limit(limit, limit)
}

fn invalid(text: impl Into<String>) -> OpError {
    OpError::new(ErrorCode::TableInvalid, text)
}

/// Checks what an operator asked for; [`Table::check`] are the rules that hold for foreign states
/// too.
fn check(table: &Table) -> Result<(), OpError> {
    table.check().map_err(invalid)?;
    if table.kind == TableKind::Linearizable && table.sloppy != Sloppy::Never {
        return Err(invalid("a linearizable table cannot be sloppy: stand-ins decide nothing"));
    }
    if let Some(ttl) = table.ttl
        && !(limits::TTL_MIN..=limits::TTL_MAX).contains(&ttl)
    {
        let (least, most) = (limits::TTL_MIN, limits::TTL_MAX);
        return Err(invalid(format!("ttl is {ttl:?}; it must be {least:?}..={most:?}")));
    }
    if table.value_bytes_max == 0 || table.value_bytes_max > value_bytes_max() {
        let (got, most) = (table.value_bytes_max, limits::VALUE_BYTES_MAX);
        return Err(invalid(format!("value_bytes_max is {got}; it must be 1..={most}")));
    }
    Ok(())
}

/// The class of (n, r_min, w_min), which is made if there is none.
fn class_of(next: &mut ClusterState, table: &Table) -> Result<ClassId, OpError> {
    let Table { n, r_min, w_min, .. } = *table;
    let fits = |class: &&Class| (class.n, class.r_min, class.w_min) == (n, r_min, w_min);
    if let Some(class) = next.classes.iter().find(fits) {
        return Ok(class.id);
    }
    if next.classes.len() >= limits::CLASSES_MAX {
        return Err(full("classes of tables", limits::CLASSES_MAX));
    }
    if let Some(plan) = &next.topology.plan {
        let text = format!(
            "n is {n}, r_min {r_min}, w_min {w_min}: no table is like that yet, and its owners \
             cannot be chosen while plan {:032x} is carried out",
            plan.hash
        );
        return Err(OpError::new(ErrorCode::PlanConflict, text));
    }
    let owners = owners(next, n)?;
    let id = ClassId(u16::try_from(next.classes.len()).unwrap_or(u16::MAX));
    next.classes.push(Class::new(id, (n, r_min, w_min), owners, next.epoch));
    Ok(id)
}

/// Who owns the partitions of a new class: as in another class with as many copies, or else by a
/// claim that departs as little as it can from the ring.
fn owners(state: &ClusterState, n: u8) -> Result<Vec<Vec<NodeId>>, OpError> {
    if let Some(class) = state.classes.iter().find(|class| class.n == n) {
        return Ok(class.owners.clone());
    }
    let players = players(&state.members);
    let ring = Ring::from_state(state);
    let walk = |partition| ring.preference_list(partition, n).owners().to_vec();
    let walked: Vec<Vec<NodeId>> = state.partitions().map(walk).collect();
    let before = Before { ring: &state.ring, owners: &walked };
    let placed = claim(&players, state.settings.partitions, n, Some(before));
    let placed = placed.map_err(|error| invalid(format!("n is {n}: {error}")))?;
    Ok(placed.owners)
}

/// Members as a claim sees them.
pub(super) fn players(members: &[Member]) -> Vec<ClaimMember> {
    let player = |member: &Member| ClaimMember {
        id: member.id,
        zone: member.zone.clone(),
        weight_milli: member.weight_milli,
        takes_share: member.role == Role::Active,
    };
    members.iter().map(player).collect()
}

/// About how many bytes a state takes as it travels.
pub(super) fn weight(state: &ClusterState) -> usize {
    let number = |number: u64| 1 + usize::try_from(number.max(1).ilog2() / 7).unwrap_or(0);
    let id = |id: &NodeId| number(u64::from(id.0));
    let member = |member: &Member| {
        let addresses = member.addresses.client.len() + member.addresses.peer.len();
        64 + member.name.as_str().len() + member.zone.as_str().len() + addresses
    };
    let class = |class: &Class| {
        let owners: usize = class.owners.iter().flatten().map(id).sum();
        let epochs = class.changed_at.iter().chain(class.entries.iter().flatten());
        let epochs: usize = epochs.map(|epoch| number(epoch.0)).sum();
        let moves: usize = class.moves.iter().map(|moving| 16 + 16 * moving.other.len()).sum();
        64 + owners + class.owners.len() + epochs + moves
    };
    let plan = state.topology.plan.iter().map(|plan| {
        let ids = |ids: &[NodeId]| ids.iter().map(id).sum::<usize>();
        let queued: usize = plan.queue.iter().map(|planned| 12 + ids(&planned.to)).sum();
        let begun = plan.begun.iter().map(|begun| 14 + ids(&begun.from) + ids(&begun.to));
        let moves = queued + begun.sum::<usize>();
        let ring = plan.ring.iter().chain(&plan.ring_before);
        64 + moves + ring.map(id).sum::<usize>() + 80 * plan.before.len()
    });
    let members: usize = state.members.iter().map(member).sum();
    let classes: usize = state.classes.iter().map(class).sum();
    let ring: usize = state.ring.iter().map(id).sum();
    let tables: usize = state.tables.iter().map(|table| 64 + table.name.as_str().len()).sum();
    let staged = 80 * state.topology.staged.len()
        + 24 * state.topology.gone.len()
        + 16 * state.topology.origins.len()
        + 16 * state.topology.relieved.len();
    let decisions = state.topology.decisions.iter().map(|decision| 24 + decision.reason.len());
    let staged = staged + decisions.sum::<usize>();
    let losses = state.topology.losses.iter().map(|loss| 24 + 5 * loss.gone.len());
    let topology = staged + plan.sum::<usize>() + losses.sum::<usize>();
    256 + members + classes + ring + tables + topology + 32 * state.recent_changes.len()
}

#[cfg(test)]
#[path = "schema_tests.rs"]
pub(super) mod tests;
