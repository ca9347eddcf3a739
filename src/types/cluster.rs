//! The cluster state: one immutable value per epoch that says who belongs and who owns what. The
//! rules that make one state out of another are in `control`.

use serde::{Deserialize, Serialize};

use super::{
    ClassId, ClusterId, Epoch, Lineage, Move, MovePhase, NodeId, NodeName, Nonce, Partition,
    RequestId, Table, TableId, TableName, Topology, Unit, Zone, limits,
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

    /// As scripts read it of a member to whom the plan that is carried out gives units, or not.
    pub fn as_told(self, gains: bool) -> &'static str {
        if gains && self == Role::Active { "joining" } else { self.as_str() }
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
    /// The epoch in which it was made: who is an owner since then has missed nothing.
    pub created: Epoch,
    /// Owners of each partition, in preference order; `owners.len()` is Q. While a partition moves:
    /// the set that is read.
    pub owners: Vec<Vec<NodeId>>,
    /// The epoch in which each of them became an owner, or began to be filled again.
    pub entries: Vec<Vec<Epoch>>,
    /// The last epoch in which the read set, the write sets or an entry of each partition changed.
    pub changed_at: Vec<Epoch>,
    /// Partitions whose owners change, by partition.
    pub moves: Vec<Move>,
}

impl Class {
    /// A class that is made in epoch `created`, with nothing in it and nothing on the move.
    pub fn new(
        id: ClassId,
        (n, r_min, w_min): (u8, u8, u8),
        owners: Vec<Vec<NodeId>>,
        created: Epoch,
    ) -> Class {
        let entries = owners.iter().map(|owners| vec![created; owners.len()]).collect();
        let changed_at = vec![created; owners.len()];
        Class { id, n, r_min, w_min, created, owners, entries, changed_at, moves: Vec::new() }
    }

    /// The move of a partition, if its owners change.
    pub fn moving(&self, partition: Partition) -> Option<&Move> {
        let place = self.moves.binary_search_by_key(&partition, |moving| moving.partition).ok()?;
        self.moves.get(place)
    }
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
    /// Who may come, what is staged and what is on the move.
    pub topology: Topology,
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

    /// The owners of `unit` that are read, in preference order; empty when there is no such unit.
    pub fn owners(&self, unit: Unit) -> &[NodeId] {
        self.class(unit.class)
            .and_then(|class| class.owners.get(usize::from(unit.partition.0)))
            .map_or(&[], Vec::as_slice)
    }

    /// The move of `unit`, if its owners change.
    pub fn moving(&self, unit: Unit) -> Option<&Move> {
        self.class(unit.class)?.moving(unit.partition)
    }

    /// The second write set of `unit`, which is not read; empty when its owners do not change.
    pub fn other_owners(&self, unit: Unit) -> &[NodeId] {
        self.moving(unit).map_or(&[], |moving| &moving.other)
    }

    /// All who take writes of `unit`: the read set in preference order, then those of the other set
    /// that are not in it.
    pub fn writers(&self, unit: Unit) -> Vec<NodeId> {
        let read = self.owners(unit);
        let mut writers = read.to_vec();
        writers.extend(self.other_owners(unit).iter().filter(|id| !read.contains(id)));
        writers
    }

    /// Members of `unit` that are being filled: those of the other write set, before it is read.
    pub fn filling(&self, unit: Unit) -> Vec<NodeId> {
        let Some(moving) = self.moving(unit) else { return Vec::new() };
        if moving.phase != MovePhase::ReadOld {
            return Vec::new();
        }
        let read = self.owners(unit);
        moving.other.iter().filter(|id| !read.contains(id)).copied().collect()
    }

    /// Whether the owners of `unit` have ever changed.
    pub fn has_moved(&self, unit: Unit) -> bool {
        let created = self.class(unit.class).map(|class| class.created);
        created.is_some_and(|created| self.changed_at(unit) != created)
    }

    /// Whether `member` takes writes of `unit`.
    pub fn is_writer(&self, unit: Unit, member: NodeId) -> bool {
        self.owners(unit).contains(&member) || self.other_owners(unit).contains(&member)
    }

    /// The epoch in which `member` became an owner of `unit`, or began to be filled again; `None`
    /// when it takes no writes of it.
    pub fn entry(&self, unit: Unit, member: NodeId) -> Option<Epoch> {
        let class = self.class(unit.class)?;
        let entries = class.entries.get(usize::from(unit.partition.0))?;
        let place = |ids: &[NodeId]| ids.iter().position(|id| *id == member);
        if let Some(place) = place(self.owners(unit)) {
            return entries.get(place).copied();
        }
        let moving = class.moving(unit.partition)?;
        moving.entries.get(place(&moving.other)?).copied()
    }

    /// Whether `member` is an owner of `unit` since the unit is there: it has missed nothing and
    /// need not be filled.
    pub fn is_original(&self, unit: Unit, member: NodeId) -> bool {
        let created = self.class(unit.class).map(|class| class.created);
        created.is_some() && self.entry(unit, member) == created
    }

    /// All units of all classes.
    pub fn units(&self) -> impl Iterator<Item = Unit> + '_ {
        self.classes.iter().flat_map(|class| {
            self.partitions().map(|partition| Unit { class: class.id, partition })
        })
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
