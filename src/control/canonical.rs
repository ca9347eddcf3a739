//! One byte string for one meaning, and its hash: what founders compare and pledge themselves to.
//! Every field is written in a fixed order, numbers little-endian, strings and lists behind their
//! length, so that two states have the same bytes only if they are equal.

use xxhash_rust::xxh3::xxh3_128;

use crate::types::{Charter, ClusterState, Role, Sloppy, Table, TableKind};

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
    out.hash()
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
