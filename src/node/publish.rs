//! What the node publishes about itself.

use std::sync::Arc;

use super::Node;
use crate::control::founders_hash;
use crate::message::{
    Effect, Hello, HintGauges, KeeperGauges, Liveness, MemberView, RepairGauges, Unwell, View,
};
use crate::types::{Lineage, NodeId, WallTime, limits};

/// Counts and sizes for metrics; counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Client operations in flight.
    pub operations: usize,
    /// Operations answered that still count late answers.
    pub lingering: usize,
    /// Bytes both hold.
    pub operation_bytes: usize,
    /// Disk requests of peers in flight.
    pub replica_operations: usize,
    /// Client operations ever begun.
    pub operations_begun: u64,
    /// Repairs ever sent to owners that answered with less.
    pub repairs: u64,
    /// What this node keeps for others.
    pub hints: HintGauges,
    /// What comparisons have come to: counts alone, see [`View`] for the rest.
    pub repair: RepairGauges,
}

impl Node {
    /// Counts and sizes now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            operations: self.operations.len() - self.lingering.len(),
            lingering: self.lingering.len(),
            operation_bytes: self.operation_bytes,
            replica_operations: self.replica_operations,
            hints: self.hints.gauges(),
            ..self.gauges
        }
    }

    pub(super) fn publish(&mut self) {
        self.weigh_reserve();
        let view = View {
            phase: self.phase.clone(),
            hello: self.hello(),
            client_address: self.config.client_address.clone(),
            state: self.state.clone(),
            members: self.members.ids().filter_map(|id| self.member_view(id)).collect(),
            serving_since: self.serving_since,
            hints: self.hints.gauges(),
            repair: self.repair_gauges(),
            transfer_taken: self.fills.transfers.taken(),
            health: self.store_health(),
            links_left_out: self.members.links().ejections(),
            hottest_share: self.tables.hot.hottest_share(self.now),
            reserve: self.state.as_deref().map(|state| self.reserve_facts(state)),
            keeper: KeeperGauges {
                long_down: self.long_down().len() as u64,
                replacements: self.replacements(),
                alarms: self.state.as_ref().map_or_else(Vec::new, |it| self.alarm_lines(it)),
                mirror: self.mirror_news(WallTime(0)),
                growth: self.growth_told(),
            },
        };
        self.effects.push_back(Effect::Publish(Arc::new(view)));
    }

    fn hello(&self) -> Hello {
        let charter = &self.config.charter;
        Hello {
            protocol_min: limits::PROTOCOL_MIN,
            protocol_max: limits::PROTOCOL_MAX,
            cluster_name: self
                .state
                .as_ref()
                .map_or_else(|| charter.cluster_name.clone(), |state| state.settings.name.clone()),
            founders: if self.state.is_some() { 0 } else { founders_hash(charter) },
            cluster: self.state.as_ref().map(|state| state.cluster),
            lineage: self.state.as_ref().map_or(Lineage(0), |state| state.lineage),
            origin: self.state.as_ref().map_or(0, |state| state.origin()),
            feature_level: limits::FEATURE_LEVEL,
            id: self.me,
            name: self.config.name.clone(),
            to: NodeId(0),
            birth: self.birth_nonce,
            boot: self.boot,
            address: self.config.peer_address.clone(),
        }
    }

    fn member_view(&self, id: NodeId) -> Option<MemberView> {
        let known = self.members.facts(id);
        let (name, peer_address) = match &self.state {
            Some(state) => {
                let member = state.member(id)?;
                (member.name.clone(), member.addresses.peer.clone())
            }
            None => {
                let index = usize::try_from(id.0.checked_sub(1)?).ok()?;
                let founder = self.config.charter.founders.get(index)?;
                (founder.name.clone(), founder.peer_address.clone())
            }
        };
        Some(MemberView {
            id,
            name,
            peer_address,
            liveness: known.as_ref().map_or(Liveness::Alive, |known| known.liveness),
            clock_offset_ns: known.as_ref().map_or(0, |known| known.clock_offset_ns),
            facts: known.and_then(|known| known.facts),
            left_out: self.members.links().unwell(id).map(Unwell::as_str),
        })
    }
}
