//! The cluster state: one immutable value per epoch that says who belongs and who owns what. The
//! rules that make one state out of another are in `control`.

use serde::{Deserialize, Serialize};

use super::{
    ClassId, ClusterId, Epoch, Lineage, NodeId, NodeName, Nonce, Partition, RequestId, Table,
    TableId, TableName, Unit, Zone, limits,
};

/// Where a member listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// `host:port` for clients; empty until the member has said it.
    pub client: String,
    /// `host:port` for peers.
    pub peer: String,
}

/// What a member is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Owns its share.
    Active,
    /// Owns nothing, steps in.
    Reserved,
    /// Gives its share away.
    Leaving,
}

impl Role {
    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Active => "active",
            Role::Reserved => "reserved",
            Role::Leaving => "leaving",
        }
    }
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Its operator's name for it.
    pub name: NodeName,
    /// Where it listens.
    pub addresses: Addresses,
    /// Its failure domain.
    pub zone: Zone,
    /// Its share relative to the others, in thousandths: 1000 is a weight of 1.
    pub weight_milli: u32,
    /// What it is there for.
    pub role: Role,
    /// The nonce it was born with: a member that cannot show it is somebody else.
    pub birth: Nonce,
}

/// A class of tables: replication factor and floors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its number.
    pub id: ClassId,
    /// Copies of each key.
    pub n: u8,
    /// Read floor.
    pub r_min: u8,
    /// Write floor.
    pub w_min: u8,
    /// Owners of each partition, in preference order; `owners.len()` is Q.
    pub owners: Vec<Vec<NodeId>>,
    /// The last epoch in which the read or write set of each partition changed.
    pub changed_at: Vec<Epoch>,
}

/// What is fixed for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's name.
    pub name: String,
    /// Partitions of the ring, a power of two, fixed at birth.
    pub partitions: u32,
}

/// Everything the members have agreed on, as of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Its number.
    pub epoch: Epoch,
    /// Hash of the state before it; 0 for the first.
    pub parent: u128,
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which history.
    pub lineage: Lineage,
    /// The lowest feature level of the members.
    pub feature_level: u32,
    /// What is fixed.
    pub settings: Settings,
    /// All members, by id.
    pub members: Vec<Member>,
    /// The members who decide the next epoch.
    pub council: Vec<NodeId>,
    /// The ring: the member of each virtual node, in token order; `ring.len()` is Q.
    pub ring: Vec<NodeId>,
    /// Classes, by id.
    pub classes: Vec<Class>,
    /// Tables, by id.
    pub tables: Vec<Table>,
    /// The highest table id ever given.
    pub table_id_max: TableId,
    /// The last epoch in which a table was dropped; 0 when none ever was.
    pub dropped_at: Epoch,
    /// The latest changes by the id their askers gave them, with the epoch each became, oldest
    /// first; at most [`limits::RECENT_CHANGES_MAX`]. Who asks again for a change it has no answer
    /// to finds it here.
    pub recent_changes: Vec<(RequestId, Epoch)>,
}

impl ClusterState {
    /// The member `id`.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The member called `name`.
    pub fn member_named(&self, name: &NodeName) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *name)
    }

    /// The table called `name`.
    pub fn table_named(&self, name: &TableName) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == *name)
    }

    /// The table `id`.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// Whether `id` was given once and the table is gone. An id above the highest is one this
    /// state has not heard of yet.
    pub fn is_dropped(&self, id: TableId) -> bool {
        id <= self.table_id_max && self.table(id).is_none()
    }

    /// The epoch that the change `id` became, if it is one of the latest.
    pub fn epoch_of(&self, id: RequestId) -> Option<Epoch> {
        let mut latest = self.recent_changes.iter().rev();
        latest.find(|(recent, _)| *recent == id).map(|(_, epoch)| *epoch)
    }

    /// Notes that the change `id` made this state.
    pub fn note_change(&mut self, id: RequestId) {
        self.recent_changes.push((id, self.epoch));
        let over = self.recent_changes.len().saturating_sub(limits::RECENT_CHANGES_MAX);
        self.recent_changes.drain(..over);
    }

    /// The last epoch in which the owners of any unit of the class changed; 0 when there is no
    /// such class. Two states that agree on it mean the same units.
    pub fn class_changed_at(&self, id: ClassId) -> Epoch {
        let changed = self.class(id).map_or(&[][..], |class| &class.changed_at);
        changed.iter().copied().max().unwrap_or_default()
    }

    /// The class `id`.
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(usize::from(id.0))
    }

    /// The owners of `unit`, in preference order; empty when there is no such unit.
    pub fn owners(&self, unit: Unit) -> &[NodeId] {
        self.class(unit.class)
            .and_then(|class| class.owners.get(usize::from(unit.partition.0)))
            .map_or(&[], Vec::as_slice)
    }

    /// The last epoch in which the owners of `unit` changed; 0 when there is no such unit.
    pub fn changed_at(&self, unit: Unit) -> Epoch {
        self.class(unit.class)
            .and_then(|class| class.changed_at.get(usize::from(unit.partition.0)))
            .copied()
            .unwrap_or_default()
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        let last = u16::try_from(self.settings.partitions.saturating_sub(1)).unwrap_or(u16::MAX);
        (0..=last).map(Partition)
    }
}
