//! The operators' plane between `message` and `proto/admin.proto`.

use crate::message::{
    AdminRequest, AlarmLine, EventRecord, EventsAsk, EventsReply, ForceOrder, GrowthReply,
    LineageReply, Locate, LocateReply, NodeStatus, OpError, ProposalLine, ReserveFacts,
    StatusReply, UnwellBy,
};
use crate::types::{NodeName, limits};

use super::client::{key_from_wire, malformed, table_from_wire};
use super::peer::wide_bytes;
use super::plan::share_to_wire;
use super::proto::admin as pb;

/// Where a key lives: the question, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn locate_from_wire(ask: pb::LocateRequest) -> Result<AdminRequest, OpError> {
    let table = table_from_wire(ask.table)?;
    Ok(AdminRequest::Locate(Locate { table, key: key_from_wire(ask.key)? }))
}

/// Where a key lives: the answer.
pub fn locate_to_wire(reply: LocateReply) -> pb::LocateResponse {
    pb::LocateResponse {
        token: reply.token,
        class: reply.unit.class.0.into(),
        partition: reply.unit.partition.0.into(),
        owners: reply.owners.into_iter().map(String::from).collect(),
        stand_ins: reply.stand_ins.into_iter().map(String::from).collect(),
    }
}

/// Who is never accepted again in a new lineage: the order, checked.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn force_from_wire(ask: pb::ForceLineageRequest) -> Result<AdminRequest, OpError> {
    let (count, most) = (ask.gone.len(), limits::MEMBERS_MAX);
    if count > most {
        return Err(malformed(format!("gone has {count} names; at most {most}")));
    }
    let names = ask.gone.into_iter().map(|name| NodeName::try_from(name).map_err(malformed));
    let gone = names.collect::<Result<_, _>>()?;
    Ok(AdminRequest::Force(Box::new(ForceOrder { cluster: ask.cluster, gone })))
}

/// The lineage a node is in.
pub fn forced_to_wire(reply: LineageReply) -> pb::ForceLineageResponse {
    pb::ForceLineageResponse {
        lineage: reply.lineage.0,
        epoch: reply.epoch.0,
        council: reply.council.into_iter().map(String::from).collect(),
    }
}

/// The cluster as one node sees it.
pub fn status_to_wire(reply: StatusReply) -> pb::StatusResponse {
    pb::StatusResponse {
        cluster_name: reply.cluster_name,
        cluster_id: reply.cluster_id,
        epoch: reply.epoch.0,
        partitions: reply.partitions,
        ring: reply.ring.into_iter().map(|id| id.0).collect(),
        me: reply.me.into(),
        nodes: reply.nodes.into_iter().map(node_to_wire).collect(),
        uptime_ms: u64::try_from(reply.uptime.as_millis()).unwrap_or(u64::MAX),
        unavailable: reply.unavailable.into_iter().map(|partition| partition.0.into()).collect(),
        reserve: Some(reserve_to_wire(reply.reserve)),
        alarms: reply.alarms.into_iter().map(alarm_to_wire).collect(),
        growth: reply.growth.map(|growth| growth_to_wire(*growth)),
    }
}

fn growth_to_wire(growth: GrowthReply) -> pb::status_response::Growth {
    let proposal = |line: ProposalLine| pb::status_response::Proposal {
        kind: line.kind.to_owned(),
        hash: if line.hash == 0 { Vec::new().into() } else { wide_bytes(line.hash) },
        members: line.members.into_iter().map(String::from).collect(),
        missing: line.missing,
        reason: line.reason,
        after_milli: line.after_milli,
        units: line.units,
        bytes: line.bytes,
        shares: line.shares.into_iter().map(share_to_wire).collect(),
    };
    pb::status_response::Growth {
        mode: growth.mode.to_owned(),
        peak_milli: growth.peak_milli,
        busiest: growth.busiest,
        peak_hour: growth.peak_hour,
        disk_days: growth.disk_days,
        quiet_hours: growth.quiet_hours,
        quiet: growth.quiet,
        paused: growth.paused.into_iter().map(String::from).collect(),
        proposal: growth.proposal.map(proposal),
        waits_for: growth.waits_for,
    }
}

fn reserve_to_wire(facts: ReserveFacts) -> pb::status_response::Reserve {
    let ReserveFacts { p, confidence, members, needed, present, loss_low, loss_high } = facts;
    pb::status_response::Reserve { p, confidence, members, needed, present, loss_low, loss_high }
}

fn node_to_wire(node: NodeStatus) -> pb::status_response::Node {
    pb::status_response::Node {
        id: node.id.0,
        name: node.name.into(),
        address: node.address,
        peer_address: node.peer_address,
        zone: node.zone.into(),
        state: node.liveness.as_str().to_owned(),
        role: node.role.as_told(node.joining).to_owned(),
        partitions: node.partitions,
        replica_partitions: node.replica_partitions,
        disk_bytes: node.disk_bytes,
        tree_bytes: node.trees.bytes,
        tree_file_bytes: node.trees.file_bytes,
        tree_leaves: node.trees.leaves,
        hints: node.hints,
        clock_offset_ns: node.clock_offset_ns,
        serving: node.serving,
        unwell: node.unwell.into_iter().map(unwell_to_wire).collect(),
        down_ms: node.down_for.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        relieved_at: node.relieved_at.map(|epoch| epoch.0),
        mirror: node.mirror.map(|news| pb::status_response::Mirror {
            units: news.units,
            wanted: news.wanted,
            bytes: news.bytes,
            oldest_ms: u64::try_from(news.oldest.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

fn alarm_to_wire(alarm: AlarmLine) -> pb::status_response::Alarm {
    let AlarmLine { kind, subject, text } = alarm;
    pb::status_response::Alarm { kind: kind.to_owned(), subject, text }
}

/// What is asked of events: all bounds are the node's own.
pub fn events_from_wire(ask: pb::EventsRequest) -> AdminRequest {
    let most = limits::EVENTS_MAX;
    let limit = usize::try_from(ask.limit).unwrap_or(most).min(most);
    let limit = if limit == 0 { most } else { limit };
    AdminRequest::Events(EventsAsk { after: ask.after, limit })
}

/// What a node remembers.
pub fn events_to_wire(reply: EventsReply) -> pb::EventsResponse {
    let event = |event: EventRecord| pb::events_response::Event {
        seq: event.seq,
        time_ns: event.wall.0,
        epoch: event.epoch.0,
        since: event.since.0,
        kind: event.kind.as_str().to_owned(),
        subject: event.subject,
        text: event.text,
    };
    pb::EventsResponse {
        me: reply.me.into(),
        last: reply.last,
        events: reply.events.into_iter().map(event).collect(),
    }
}

fn unwell_to_wire(unwell: UnwellBy) -> pb::status_response::Unwell {
    pb::status_response::Unwell {
        by: unwell.by.into(),
        why: unwell.why.code().to_owned(),
        age_ms: u64::try_from(unwell.age.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What this build is.
pub fn version_to_wire() -> pb::VersionResponse {
    pb::VersionResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_min: limits::PROTOCOL_MIN,
        protocol_max: limits::PROTOCOL_MAX,
        feature_level: limits::FEATURE_LEVEL,
    }
}
