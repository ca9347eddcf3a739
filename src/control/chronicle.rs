//! What has happened between two states, for operators to read: a function of both, so that every node that
//! has seen both says the same.

use crate::message::{EventKind, EventRecord};
use crate::types::{ClusterState, DecisionKind, Plan, PlanStatus, TableKind};

/// What has happened from `before` to `after`, in some order.
pub fn events(before: &ClusterState, after: &ClusterState) -> Vec<EventRecord> {
    let mut events = decisions(before, after);
    for table in after.tables.iter().filter(|table| before.table(table.id).is_none()) {
        let kind = match table.kind {
            TableKind::Lww => "lww",
            TableKind::Causal => "causal",
            TableKind::Linearizable => "linearizable",
        };
        let text = format!("{kind}, n = {}", table.n);
        events.push(EventRecord::new(EventKind::TableCreated, table.name.as_str(), &text));
    }
    for table in before.tables.iter().filter(|table| after.table(table.id).is_none()) {
        events.push(EventRecord::new(EventKind::TableDropped, table.name.as_str(), ""));
    }
    for member in after.members.iter().filter(|member| before.member(member.id).is_none()) {
        let text = format!("member {}, {}, zone {}", member.id, member.role.as_str(), member.zone);
        events.push(EventRecord::new(EventKind::MemberJoined, member.name.as_str(), &text));
    }
    for member in before.members.iter().filter(|member| after.member(member.id).is_none()) {
        let text = format!("member {}", member.id);
        events.push(EventRecord::new(EventKind::MemberLeft, member.name.as_str(), &text));
    }
    plans(before.topology.plan.as_ref(), after.topology.plan.as_ref(), &mut events);
    for event in events.iter_mut().filter(|event| event.epoch.0 == 0) {
        (event.since, event.epoch) = (before.epoch, after.epoch);
    }
    events
}

fn decisions(before: &ClusterState, after: &ClusterState) -> Vec<EventRecord> {
    let new = after.topology.decisions.iter().filter(|it| it.epoch > before.epoch);
    let event = |decision: &crate::types::Decision| {
        let kind = match decision.kind {
            DecisionKind::Replaced => EventKind::Replaced,
            DecisionKind::Spread => EventKind::Spread,
            DecisionKind::CutShort => EventKind::PlanCutShort,
            DecisionKind::Retargeted => EventKind::PlanRetargeted,
            DecisionKind::RolledBack => EventKind::PlanRolledBack,
            DecisionKind::Grown => EventKind::Grown,
            DecisionKind::Shrunk => EventKind::Shrunk,
            DecisionKind::Exchanged => EventKind::Exchanged,
        };
        let named = after.member(decision.subject).or_else(|| before.member(decision.subject));
        let name = named.map_or_else(|| decision.subject.to_string(), |it| it.name.to_string());
        let (epoch, since) = (decision.epoch, decision.epoch);
        EventRecord { epoch, since, ..EventRecord::new(kind, name, &decision.reason) }
    };
    new.map(event).collect()
}

fn plans(before: Option<&Plan>, after: Option<&Plan>, events: &mut Vec<EventRecord>) {
    let hash = |plan: &Plan| format!("{:032x}", plan.hash);
    let goes_back = |plan: &Plan| plan.status == PlanStatus::RollingBack;
    if let Some(plan) = before.filter(|plan| after.is_none_or(|after| after.hash != plan.hash)) {
        let text = if goes_back(plan) { "rolled back" } else { "done" };
        events.push(EventRecord::new(EventKind::PlanEnded, hash(plan), text));
    }
    let Some(plan) = after else { return };
    let known = before.filter(|before| before.hash == plan.hash);
    if known.is_none() {
        let text = format!("{} units move", plan.total);
        events.push(EventRecord::new(EventKind::PlanBegun, hash(plan), &text));
    }
    if goes_back(plan) && !known.is_some_and(goes_back) {
        events.push(EventRecord::new(EventKind::PlanRolledBack, hash(plan), "it is moved back"));
    }
}
