//! What one member has heard of the others.

use roundtable::control::{Heard, Room, Watched};
use roundtable::types::{Epoch, NodeId, Role, Unit};

use super::world::{GRACE, LOST, World};

/// Through whose eyes.
pub(super) struct Seen<'a> {
    pub(super) world: &'a World,
    pub(super) me: NodeId,
}

impl Heard for Seen<'_> {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        let me = &self.world.nodes[&self.me];
        if member == self.me {
            return me.state.epoch;
        }
        me.heard.get(&member).copied().unwrap_or(Epoch(0))
    }

    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        let state = &self.world.nodes[&self.me].state;
        let original = state.is_original(unit, member) && state.entry(unit, member) == Some(entry);
        let says = || self.world.nodes[&member].complete.get(&unit) == Some(&entry);
        original || self.world.hears(self.me, member) && says()
    }

    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }

    fn is_up(&self, member: NodeId) -> bool {
        self.world.hears(self.me, member)
    }

    fn is_down(&self, member: NodeId) -> bool {
        self.world.down_for(self.me, member).is_some()
    }

    fn lacks(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        self.world.hears(self.me, member)
            && self.world.nodes[&member].fills.contains(&(unit, entry))
    }

    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        let heard = self.world.nodes.iter().filter(|(id, _)| self.world.hears(self.me, **id));
        heard
            .flat_map(|(id, node)| node.fills.iter().map(|(unit, entry)| (*id, *unit, *entry)))
            .collect()
    }

    fn is_long_down(&self, member: NodeId) -> bool {
        self.world.down_for(self.me, member).is_some_and(|down| down >= LOST)
    }

    fn has_custody(&self, _member: NodeId) -> bool {
        false
    }
}

impl Watched for Seen<'_> {
    fn me(&self) -> NodeId {
        self.me
    }

    fn says_down(&self, teller: NodeId, member: NodeId) -> bool {
        let long = self.world.down_for(teller, member).is_some_and(|down| down >= GRACE);
        long && self.world.hears(self.me, teller)
    }

    fn overdue(&self, member: NodeId) -> bool {
        self.world.down_for(self.me, member).is_some_and(|down| down >= GRACE + 60)
    }

    fn idles(&self, _member: NodeId) -> bool {
        false
    }

    fn mirrors(&self, _member: NodeId, _of: NodeId) -> u32 {
        0
    }

    /// Disks of active members are so full that nothing can be spread over them: places are taken by
    /// reserved members or not at all.
    fn room(&self, member: NodeId) -> Room {
        let state = &self.world.nodes[&self.me].state;
        match state.member(member).map(|member| member.role) {
            Some(Role::Active | Role::Leaving) => Room { used: 79, free: Some(21) },
            _ => Room { used: 0, free: Some(100) },
        }
    }
}
