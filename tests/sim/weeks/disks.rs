//! What members have on their disks, and what reserved ones mirror.

use std::cell::RefCell;
use std::collections::BTreeMap;

use roundtable::control::Room;
use roundtable::types::{ClusterState, Epoch, NodeId, Role};

/// What a copy takes.
const COPY: u64 = 3;

/// How many copies each has in an epoch.
type Copies = RefCell<(Epoch, BTreeMap<NodeId, u64>)>;

/// Of all members.
pub(super) enum Disks {
    /// Active members' are so full that nothing can be spread over them: places are taken by reserved members
    /// or not at all. Nothing is mirrored.
    Full,
    /// Of each member how much its disk holds, and what is on it that nobody owns.
    Drawn(BTreeMap<NodeId, (u64, u64)>, Copies),
}

impl Disks {
    /// Most are large, some are not. Of some clusters all active ones are too full to take more.
    pub(super) fn draw(rng: &mut fastrand::Rng, ids: &[NodeId]) -> Disks {
        let large = if rng.bool() { 100 } else { 64 };
        let disk = |id: &NodeId| {
            let capacity = if rng.u8(..4) == 0 { 60 } else { large };
            (*id, (capacity, rng.u64(..24)))
        };
        Disks::Drawn(ids.iter().map(disk).collect(), RefCell::default())
    }

    pub(super) fn room(&self, state: &ClusterState, id: NodeId) -> Room {
        match self {
            Disks::Full => match state.member(id).map(|member| member.role) {
                Some(Role::Active | Role::Leaving) => Room { used: 79, free: Some(21) },
                _ => Room { used: 0, free: Some(100) },
            },
            Disks::Drawn(disks, counted) => {
                let (capacity, other) = disks.get(&id).copied().unwrap_or_default();
                let mut counted = counted.borrow_mut();
                if counted.0 != state.epoch {
                    *counted = (state.epoch, BTreeMap::new());
                    for owner in state.units().flat_map(|unit| state.owners(unit)) {
                        *counted.1.entry(*owner).or_default() += 1;
                    }
                }
                let copies = counted.1.get(&id).copied().unwrap_or(0);
                let used = copies * COPY + if copies == 0 { other } else { 0 };
                Room { used, free: Some(capacity.saturating_sub(used)) }
            }
        }
    }

    /// How many units of one reserved members have mirrored: some of each, forever the same.
    pub(super) fn mirrors(&self, member: NodeId, of: NodeId) -> u32 {
        match self {
            Disks::Full => 0,
            Disks::Drawn(..) => (member.0 * 31 + of.0 * 17) % 5,
        }
    }
}
