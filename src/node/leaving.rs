//! Members that leave, and what they keep in custody: who is to leave takes nothing more, and who has left
//! without having been heard to keep nothing may have taken acknowledged writes along. Their units are compared
//! then. `docs/protocol/handoff.md`, "Who leaves".

use super::Node;
use super::topology::HeardBy;
use crate::control::Heard;
use crate::handoff::is_leaving;
use crate::message::{Level, Refusal};
use crate::types::{ClusterState, NodeId, Now, Role};

/// A member that has left, of which it is not known here that it kept nothing.
#[derive(Clone, Debug)]
pub(super) struct Departed {
    name: String,
    was_up: bool,
}

impl Node {
    /// Whether this node may still be asked to keep something in the place of an owner: not once it knows that it
    /// leaves. From then on, what it keeps only becomes less, and it stays true when it says that it keeps nothing.
    pub(super) fn takes_custody(&self) -> bool {
        let leaves = self.state.as_ref().is_some_and(|state| is_leaving(state, self.me));
        !leaves || crate::mutant!("leaver-takes-custody")
    }

    /// The same, of a write for `hint_for`.
    pub(super) fn judge_custody(&self, hint_for: Option<NodeId>) -> Result<(), Refusal> {
        if hint_for.is_none() || self.takes_custody() {
            return Ok(());
        }
        crate::sometimes!("handoff: who leaves takes nothing more into custody");
        Err(Refusal::NotOwner)
    }

    /// Who is a member no more as of `state`, and may have kept something when it was last heard.
    pub(super) fn departed(&self, state: &ClusterState) -> Vec<Departed> {
        let Some(before) = &self.state else { return Vec::new() };
        let heard = HeardBy(self);
        let since = before.topology.plan.as_ref().map(|plan| plan.since);
        let keeps_nothing = |id: NodeId, role: Role| match role {
            _ if heard.has_custody(id) => false,
            Role::Leaving => since.is_some_and(|since| heard.acknowledged(id) >= since),
            // Nobody has it stand in before it is in the ring.
            Role::Reserved => true,
            Role::Active => false,
        };
        let gone = before.members.iter().filter(|member| state.member(member.id).is_none());
        let gone = gone.filter(|member| !keeps_nothing(member.id, member.role));
        let departed = |member: &crate::types::Member| Departed {
            name: member.name.to_string(),
            was_up: heard.is_up(member.id),
        };
        gone.map(departed).collect()
    }

    /// A state without them is in force. What they may have kept some owner may have that others lack: all units of
    /// this node are compared, out of turn and first.
    pub(super) fn on_departed(&mut self, now: Now, departed: &[Departed]) {
        if departed.is_empty() {
            return;
        }
        let is_off = self.config.repair_interval.is_zero();
        for Departed { name, .. } in departed.iter().filter(|departed| !departed.was_up) {
            let then = match is_off {
                true => "comparisons are off: kvctl repair start finds what owners lack",
                false => "owners are compared now, which brings what at least one of them holds",
            };
            let text = format!(
                "{name} was down when it left: what it kept for owners that were away is lost with it; {then}"
            );
            self.note(Level::Warn, None, text);
        }
        if is_off || crate::mutant!("departed-not-compared") {
            return;
        }
        crate::sometimes!("repair: units are compared after a member has gone");
        self.repair.want_all(now);
    }
}
