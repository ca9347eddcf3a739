//! What one member has heard of the others.

use roundtable::control::{Heard, Room, Watched};
use roundtable::types::{Epoch, NodeId, Unit};

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
        if teller == self.me {
            return self.world.down_for(teller, member).is_some_and(|down| down >= GRACE);
        }
        self.world.hears(self.me, teller) && self.world.tells(teller, member)
    }

    fn overdue(&self, member: NodeId) -> bool {
        self.world.down_for(self.me, member).is_some_and(|down| down >= GRACE + 60)
    }

    fn idles(&self, _member: NodeId) -> bool {
        false
    }

    fn mirrors(&self, member: NodeId, of: NodeId) -> u32 {
        self.world.disks.mirrors(member, of)
    }

    fn room(&self, member: NodeId) -> Room {
        self.world.disks.room(&self.world.nodes[&self.me].state, member)
    }
}
