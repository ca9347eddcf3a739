//! One byte string for one meaning, and its hash: what founders compare and pledge themselves to.
//! Every field is written in a fixed order, numbers little-endian, strings and lists behind their
//! length, so that two states have the same bytes only if they are equal.

use xxhash_rust::xxh3::xxh3_128;

use crate::types::{
    Begun, Charter, ClusterState, Decision, DecisionKind, Loss, Move, MovePhase, PlanStatus,
    Planned, Relieved, Role, Sloppy, Staged, Table, TableKind, Topology,
};

/// Hash of what is fixed at birth. Founders whose lists or settings differ see it here.
pub fn founders_hash(charter: &Charter) -> u128 {
    let mut out = Writer::new(b"roundtable.charter.1");
    out.text(&charter.cluster_name);
    out.number(u64::from(charter.partitions));
    out.number(u64::from(charter.replication));
    out.number(u64::from(charter.read_quorum));
    out.number(u64::from(charter.write_quorum));
    out.number(charter.founders.len() as u64);
    for founder in &charter.founders {
        out.text(founder.name.as_str());
        out.text(&founder.peer_address);
        out.text(founder.zone.as_str());
        out.number(u64::from(founder.weight_milli));
        out.number(role(founder.role));
    }
    out.hash()
}

/// Hash of a whole state: what an epoch is decided, pledged and compared by.
pub fn state_hash(state: &ClusterState) -> u128 {
    let mut out = Writer::new(b"roundtable.state.1");
    out.number(state.epoch.0);
    out.wide(state.parent);
    out.wide(state.cluster.0);
    out.number(u64::from(state.lineage.0));
    out.number(u64::from(state.feature_level));
    out.text(&state.settings.name);
    out.number(u64::from(state.settings.partitions));
    out.number(state.members.len() as u64);
    for member in &state.members {
        out.number(u64::from(member.id.0));
        out.text(member.name.as_str());
        out.text(&member.addresses.client);
        out.text(&member.addresses.peer);
        out.text(member.zone.as_str());
        out.number(u64::from(member.weight_milli));
        out.number(role(member.role));
        out.wide(member.birth.0);
    }
    out.list(state.council.iter().map(|id| u64::from(id.0)));
    out.list(state.ring.iter().map(|id| u64::from(id.0)));
    out.number(state.classes.len() as u64);
    for class in &state.classes {
        out.list([u64::from(class.id.0), u64::from(class.n)].into_iter());
        out.list([u64::from(class.r_min), u64::from(class.w_min)].into_iter());
        out.number(class.owners.len() as u64);
        for owners in &class.owners {
            out.list(owners.iter().map(|id| u64::from(id.0)));
        }
        out.list(class.changed_at.iter().map(|epoch| epoch.0));
        out.number(class.created.0);
        for entries in &class.entries {
            out.list(entries.iter().map(|epoch| epoch.0));
        }
        out.number(class.moves.len() as u64);
        class.moves.iter().for_each(|moving| write_move(&mut out, moving));
    }
    out.number(state.tables.len() as u64);
    for table in &state.tables {
        write_table(&mut out, table);
    }
    out.number(u64::from(state.table_id_max.0));
    out.number(state.dropped_at.0);
    out.number(state.recent_changes.len() as u64);
    for (id, epoch) in &state.recent_changes {
        out.wide(id.0);
        out.number(epoch.0);
    }
    write_topology(&mut out, &state.topology);
    out.hash()
}

fn write_move(out: &mut Writer, moving: &Move) {
    out.number(u64::from(moving.partition.0));
    out.number(u64::from(moving.phase == MovePhase::ReadNew));
    out.number(u64::from(moving.was_read));
    out.list(moving.other.iter().map(|id| u64::from(id.0)));
    out.list(moving.entries.iter().map(|epoch| epoch.0));
}

fn write_topology(out: &mut Writer, topology: &Topology) {
    out.number(u64::from(topology.member_id_max.0));
    write_staged(out, &topology.staged);
    out.number(u64::from(topology.plan.is_some()));
    if let Some(plan) = &topology.plan {
        out.wide(plan.hash);
        out.number(plan.since.0);
        out.number(match plan.status {
            PlanStatus::Running => 0,
            PlanStatus::Paused => 1,
            PlanStatus::RollingBack => 2,
        });
        out.list(plan.ring.iter().map(|id| u64::from(id.0)));
        out.number(plan.queue.len() as u64);
        for Planned { unit, to } in &plan.queue {
            out.list([u64::from(unit.class.0), u64::from(unit.partition.0)].into_iter());
            out.list(to.iter().map(|id| u64::from(id.0)));
        }
        out.number(plan.begun.len() as u64);
        for Begun { unit, from, to } in &plan.begun {
            out.list([u64::from(unit.class.0), u64::from(unit.partition.0)].into_iter());
            out.list(from.iter().map(|id| u64::from(id.0)));
            out.list(to.iter().map(|id| u64::from(id.0)));
        }
        out.number(u64::from(plan.total));
        out.number(plan.before.len() as u64);
        for before in &plan.before {
            out.number(u64::from(before.id.0));
            out.number(role(before.role));
            out.number(u64::from(before.weight_milli));
            out.text(before.zone.as_str());
        }
        out.list(plan.ring_before.iter().map(|id| u64::from(id.0)));
    }
    out.number(topology.gone.len() as u64);
    for (id, birth) in &topology.gone {
        out.number(u64::from(id.0));
        out.wide(birth.0);
    }
    out.number(topology.losses.len() as u64);
    for Loss { unit, epoch, gone } in &topology.losses {
        out.list([u64::from(unit.class.0), u64::from(unit.partition.0), epoch.0].into_iter());
        out.list(gone.iter().map(|id| u64::from(id.0)));
    }
    out.number(topology.origins.len() as u64);
    topology.origins.iter().for_each(|origin| out.wide(*origin));
    // Of clusters in which nobody was replaced so, the bytes are what they have always been.
    if topology.relieved.is_empty() && topology.decisions.is_empty() {
        return;
    }
    out.number(topology.relieved.len() as u64);
    for Relieved { id, by, epoch } in &topology.relieved {
        let by = by.map_or(0, |by| u64::from(by.0));
        out.list([u64::from(id.0), by, epoch.0].into_iter());
    }
    out.number(topology.decisions.len() as u64);
    for Decision { epoch, kind, subject, reason } in &topology.decisions {
        let kind = DecisionKind::ALL.iter().position(|known| known == kind);
        out.list([epoch.0, kind.unwrap_or(0) as u64, u64::from(subject.0)].into_iter());
        out.text(reason);
    }
}

fn write_staged(out: &mut Writer, staged: &[Staged]) {
    out.number(staged.len() as u64);
    for change in staged {
        match change {
            Staged::Join(id) => out.list([0, u64::from(id.0)].into_iter()),
            Staged::Leave(id) => out.list([1, u64::from(id.0)].into_iter()),
            Staged::Replace { old, new } => {
                out.list([2, u64::from(old.0), u64::from(new.0)].into_iter());
            }
            Staged::Set { member, weight_milli, zone } => {
                out.list([3, u64::from(member.0)].into_iter());
                out.number(weight_milli.map_or(0, |weight| 1 + u64::from(weight)));
                out.number(u64::from(zone.is_some()));
                out.text(zone.as_ref().map_or("", |zone| zone.as_str()));
            }
        }
    }
}

fn write_table(out: &mut Writer, table: &Table) {
    out.number(u64::from(table.id.0));
    out.text(table.name.as_str());
    out.number(match table.kind {
        TableKind::Lww => 0,
        TableKind::Causal => 1,
        TableKind::Linearizable => 2,
    });
    out.number(u64::from(table.class.0));
    for quorum in [table.n, table.r, table.w, table.r_min, table.w_min] {
        out.number(u64::from(quorum));
    }
    out.number(match table.sloppy {
        Sloppy::Never => 0,
        Sloppy::Request => 1,
        Sloppy::Always => 2,
    });
    out.wide(table.ttl.map_or(0, |ttl| ttl.as_nanos()));
    out.number(u64::from(table.value_bytes_max));
}

fn role(role: Role) -> u64 {
    match role {
        Role::Active => 0,
        Role::Reserved => 1,
        Role::Leaving => 2,
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(domain: &[u8]) -> Writer {
        Writer(domain.to_vec())
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn wide(&mut self, number: u128) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list(&mut self, numbers: impl ExactSizeIterator<Item = u64>) {
        self.number(numbers.len() as u64);
        for number in numbers {
            self.number(number);
        }
    }

    fn hash(&self) -> u128 {
        xxh3_128(&self.0)
    }
}
