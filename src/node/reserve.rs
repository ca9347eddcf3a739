//! Whether enough members are reserved for failures, and how likely it is that all owners of a partition
//! are gone at once: hands the state in force to `control::capacity`. The sums are made once a state; while
//! units move each step is a state, so they wait for the plan's end: users do not pay for figures of a ring that
//! will be another one at once.

use super::Node;
use crate::control::capacity;
use crate::message::ReserveFacts;
use crate::types::{ClusterState, Epoch, Role};

/// What was found of a state.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    of: Option<(Epoch, ReserveFacts)>,
}

impl Node {
    /// Makes the sums of a state that has come into force.
    pub(super) fn weigh_reserve(&mut self) {
        let Some(state) = self.state.clone() else { return };
        let moves = state.topology.plan.is_some();
        if self.topology.reserve.of.is_none_or(|(epoch, _)| epoch != state.epoch && !moves) {
            self.topology.reserve.of = Some((state.epoch, self.weighed(&state)));
        }
    }

    /// What should be reserved, and who is and answers.
    pub(super) fn reserve_facts(&self, state: &ClusterState) -> ReserveFacts {
        let known = self.topology.reserve.of;
        let facts = known.map_or_else(|| self.weighed(state), |(_, facts)| facts);
        let reserved = state.members.iter().filter(|member| member.role == Role::Reserved);
        let is_up = |id| id == self.me || self.members.is_reachable(id);
        let present = reserved.filter(|member| is_up(member.id)).count();
        ReserveFacts { present: u32::try_from(present).unwrap_or(u32::MAX), ..facts }
    }

    fn weighed(&self, state: &ClusterState) -> ReserveFacts {
        let (p, confidence) = (self.config.failure_probability, self.config.confidence);
        let owning = state.members.iter().filter(|member| member.role != Role::Reserved).count();
        let members = u32::try_from(owning).unwrap_or(u32::MAX);
        let owners = state.classes.iter().flat_map(|class| &class.owners);
        let sets = capacity::distinct(owners.map(Vec::as_slice));
        let loss = capacity::any_gone(&sets, p);
        ReserveFacts {
            p,
            confidence,
            members,
            needed: capacity::reserve(members, p, confidence),
            present: 0,
            loss_low: loss.low,
            loss_high: loss.high,
        }
    }
}
