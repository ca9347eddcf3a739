//! What would be if members stopped: hands what this node has heard to the rule.

use core::time::Duration;
use std::collections::BTreeSet;

use super::HeardBy;
use crate::control::{self, Measured};
use crate::message::{ClientResult, ErrorCode, OpError, OutageAsk, OutageHints, Reply};
use crate::node::Node;
use crate::types::{ClusterState, NodeId, Role};

impl Node {
    /// What would be if those who are meant stopped.
    pub(in crate::node) fn outage_reply(&self, ask: &OutageAsk) -> ClientResult {
        let state = self.serving_state()?;
        let gone = meant(&state, ask)?;
        let hints = self.hints_in_outage(&state, &gone, ask.lasts);
        let me = &self.config.name;
        let reply = control::outage(&state, &HeardBy(self), (&gone, me), hints);
        Ok(Reply::Outage(Box::new(reply)))
    }

    /// Room for hints at those who stay, and what would be written for the others. All nodes are taken to have the
    /// bounds of this one.
    fn hints_in_outage(
        &self,
        state: &ClusterState,
        gone: &BTreeSet<NodeId>,
        lasts: Duration,
    ) -> OutageHints {
        let ids = state.members.iter().map(|member| member.id);
        let stay = ids.filter(|id| !gone.contains(id) && self.is_heard(*id)).count();
        let stay = u64::try_from(stay).unwrap_or(u64::MAX);
        let held = self.hints.books.totals().bytes;
        let room = self.config.hint_bytes_max.saturating_mul(stay).saturating_sub(held);
        // Older hints are dropped, so no more than these are kept.
        let seconds = lasts.min(self.config.hint_age_max).as_secs();
        let is_owner = |id: NodeId| state.member(id).is_some_and(|it| it.role == Role::Active);
        let written = |id: NodeId| Some(HeardBy(self).work(id)?.written);
        let rates = gone.iter().copied().filter(|id| is_owner(*id)).map(written);
        let rate = rates.sum::<Option<u64>>();
        OutageHints { needed: rate.map(|rate| rate.saturating_mul(seconds)), room }
    }

    fn is_heard(&self, id: NodeId) -> bool {
        use crate::control::Heard;
        HeardBy(self).is_up(id)
    }
}

/// The members that are meant.
///
/// # Errors
/// [`ErrorCode::MemberUnknown`]: there is no such member, or no such zone.
fn meant(state: &ClusterState, ask: &OutageAsk) -> Result<BTreeSet<NodeId>, OpError> {
    let unknown = |text: String| OpError::new(ErrorCode::MemberUnknown, text);
    let mut gone = BTreeSet::new();
    for name in &ask.nodes {
        let member = state.member_named(name);
        let member = member.ok_or_else(|| unknown(format!("no member is called {name}")))?;
        gone.insert(member.id);
    }
    for zone in &ask.zones {
        let before = gone.len();
        let in_zone = state.members.iter().filter(|member| member.zone == *zone);
        let ids: Vec<NodeId> = in_zone.map(|member| member.id).collect();
        gone.extend(ids.iter().copied());
        if gone.len() == before && ids.is_empty() {
            return Err(unknown(format!("no member stands in zone {}", zone.as_str())));
        }
    }
    Ok(gone)
}
