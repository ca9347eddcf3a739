//! Members and plans between `message` and `proto/admin.proto`. Whether a change fits the cluster is
//! `control::plan`'s. Moves and links name members by their place in a list, so that plans of large
//! rings fit a message.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::message::{
    AdminRequest, DraftReply, LinkLine, MoveLine, MoveProgress, OpError, PlanChange, PlanProgress,
    ShareLine, StageOrder, StuckLine, TopologyReply, TopologyRequest,
};
use crate::types::{
    ClassId, Member, MovePhase, NodeName, Partition, PlanStatus, RequestId, Time, Unit, Zone,
    limits,
};

use super::client::{Call, id_from_wire, malformed};
use super::peer::{Malformed, narrow, node_name, required, wide, wide_bytes};
use super::proto::admin as pb;

/// A change of what is staged or carried out, and when its answer is no longer wanted.
///
/// # Errors
/// The first field that is outside its bounds.
pub fn change_from_wire(
    call: &Call,
    ask: pb::ChangePlanRequest,
) -> Result<(Time, AdminRequest), OpError> {
    use pb::change_plan_request::{Change, Verb};
    let id = RequestId(id_from_wire(&ask.request_id, "request_id")?);
    let deadline = call.deadline(ask.timeout_ms)?;
    let stage = |order| Ok(PlanChange::Stage(order));
    let change = match ask.change.ok_or_else(|| malformed("change is missing"))? {
        Change::Join(name) => stage(StageOrder::Join(named(name)?)),
        Change::Leave(name) => stage(StageOrder::Leave(named(name)?)),
        Change::Replace(replace) => {
            stage(StageOrder::Replace { old: named(replace.old)?, new: named(replace.new)? })
        }
        Change::Set(set) => stage(set_from_wire(set)?),
        Change::Commit(hash) => Ok(PlanChange::Commit(hash_from_wire(&hash)?)),
        Change::Grow(hash) => Ok(PlanChange::Grow(hash_from_wire(&hash)?)),
        Change::Dismiss(hash) => Ok(PlanChange::Dismiss(hash_from_wire(&hash)?)),
        Change::Verb(verb) => match Verb::try_from(verb) {
            Ok(Verb::Clear) => Ok(PlanChange::Clear),
            Ok(Verb::Pause) => Ok(PlanChange::Pause),
            Ok(Verb::Resume) => Ok(PlanChange::Resume),
            Ok(Verb::RollBack) => Ok(PlanChange::RollBack),
            Ok(Verb::Unspecified) | Err(_) => Err(malformed(format!("verb is {verb}"))),
        },
        Change::AcceptLoss(loss) => loss_from_wire(loss),
        Change::Retarget(replace) => {
            Ok(PlanChange::Retarget { old: named(replace.old)?, new: named(replace.new)? })
        }
    }?;
    Ok((deadline, AdminRequest::Topology(Box::new(TopologyRequest::Change { id, change }))))
}

fn hash_from_wire(hash: &[u8]) -> Result<u128, OpError> {
    let bytes = <[u8; 16]>::try_from(hash)
        .map_err(|_| malformed(format!("the hash has {} bytes, not 16", hash.len())))?;
    Ok(u128::from_be_bytes(bytes))
}

fn loss_from_wire(loss: pb::change_plan_request::AcceptLoss) -> Result<PlanChange, OpError> {
    let (count, most) = (loss.units.len(), limits::LOSS_UNITS_MAX);
    if count == 0 || count > most {
        return Err(malformed(format!("units has {count} units; it has 1..={most}")));
    }
    if loss.gone.len() > limits::MEMBERS_MAX {
        let most = limits::MEMBERS_MAX;
        return Err(malformed(format!("gone has {} names; at most {most}", loss.gone.len())));
    }
    let at = |at: pb::change_plan_request::At| {
        unit(at.class, at.partition).map_err(|Malformed(what)| malformed(what))
    };
    Ok(PlanChange::AcceptLoss {
        units: loss.units.into_iter().map(at).collect::<Result<_, _>>()?,
        gone: loss.gone.into_iter().map(named).collect::<Result<_, _>>()?,
    })
}

fn set_from_wire(set: pb::change_plan_request::Set) -> Result<StageOrder, OpError> {
    let most = limits::WEIGHT_MILLI_MAX;
    if let Some(weight) = set.weight_milli.filter(|weight| !(1..=most).contains(weight)) {
        return Err(malformed(format!("weight_milli is {weight}; it is 1..={most}")));
    }
    let zone = set.zone.map(Zone::try_from).transpose().map_err(malformed)?;
    Ok(StageOrder::Set { member: named(set.member)?, weight_milli: set.weight_milli, zone })
}

fn named(name: String) -> Result<NodeName, OpError> {
    NodeName::try_from(name).map_err(malformed)
}

/// A change as a client asks for it; the attempt adds its id and its time.
pub fn change_to_wire(change: &PlanChange) -> pb::ChangePlanRequest {
    use pb::change_plan_request::{AcceptLoss, At, Change, Replace, Set, Verb};
    let change = match change {
        PlanChange::Stage(StageOrder::Join(name)) => Change::Join(name.to_string()),
        PlanChange::Stage(StageOrder::Leave(name)) => Change::Leave(name.to_string()),
        PlanChange::Stage(StageOrder::Replace { old, new }) => {
            Change::Replace(Replace { old: old.to_string(), new: new.to_string() })
        }
        PlanChange::Stage(StageOrder::Set { member, weight_milli, zone }) => Change::Set(Set {
            member: member.to_string(),
            weight_milli: *weight_milli,
            zone: zone.as_ref().map(ToString::to_string),
        }),
        PlanChange::Commit(hash) => Change::Commit(wide_bytes(*hash)),
        PlanChange::Grow(hash) => Change::Grow(wide_bytes(*hash)),
        PlanChange::Dismiss(hash) => Change::Dismiss(wide_bytes(*hash)),
        PlanChange::Clear => Change::Verb(Verb::Clear.into()),
        PlanChange::Pause => Change::Verb(Verb::Pause.into()),
        PlanChange::Resume => Change::Verb(Verb::Resume.into()),
        PlanChange::RollBack => Change::Verb(Verb::RollBack.into()),
        PlanChange::Retarget { old, new } => {
            Change::Retarget(Replace { old: old.to_string(), new: new.to_string() })
        }
        PlanChange::AcceptLoss { units, gone } => Change::AcceptLoss(AcceptLoss {
            units: units
                .iter()
                .map(|unit| At { class: unit.class.0.into(), partition: unit.partition.0.into() })
                .collect(),
            gone: gone.iter().map(ToString::to_string).collect(),
        }),
    };
    pb::ChangePlanRequest { change: Some(change), ..Default::default() }
}

/// Members, what is staged, and how far the plan is. What proves a member's identity stays here.
pub fn topology_to_wire(reply: TopologyReply) -> pb::TopologyResponse {
    pb::TopologyResponse {
        epoch: reply.epoch.0,
        members: reply.members.into_iter().map(member_to_wire).collect(),
        staged: reply.staged,
        draft: reply.draft.map(draft_to_wire),
        running: reply.running.map(progress_to_wire),
        stuck: reply.stuck.into_iter().map(stuck_to_wire).collect(),
        custody: reply.custody,
    }
}

fn stuck_to_wire(line: StuckLine) -> pb::topology_response::Stuck {
    let texts = |names: Vec<NodeName>| names.into_iter().map(String::from).collect();
    pb::topology_response::Stuck {
        class: line.unit.class.0.into(),
        partition: line.unit.partition.0.into(),
        why: line.why,
        waits_for: texts(line.waits_for),
        down: texts(line.down),
    }
}

/// A unit that waits for somebody who does not answer, as a server tells it.
///
/// # Errors
/// [`Malformed`]: a part is outside its bounds.
pub fn stuck_from_wire(wire: pb::topology_response::Stuck) -> Result<StuckLine, Malformed> {
    let all = |names: Vec<String>| names.into_iter().map(node_name).collect::<Result<_, _>>();
    Ok(StuckLine {
        unit: unit(wire.class, wire.partition)?,
        why: wire.why,
        waits_for: all(wire.waits_for)?,
        down: all(wire.down)?,
    })
}

fn member_to_wire(member: Member) -> pb::topology_response::Member {
    pb::topology_response::Member {
        id: member.id.0,
        name: member.name.into(),
        address: member.addresses.client,
        peer_address: member.addresses.peer,
        zone: member.zone.into(),
        weight_milli: member.weight_milli,
        role: member.role.as_str().to_owned(),
    }
}

/// The names that a draft is told with, and the place of each.
#[derive(Default)]
struct Names {
    places: BTreeMap<NodeName, u32>,
    list: Vec<String>,
}

impl Names {
    fn place(&mut self, name: &NodeName) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.places.insert(name.clone(), place);
        self.list.push(name.to_string());
        place
    }
}

fn draft_to_wire(draft: DraftReply) -> pb::topology_response::Draft {
    let mut names = Names::default();
    let moves = draft.moves.iter().take(limits::PLAN_LINES_MAX);
    let moves = moves.map(|line| pb::topology_response::Move {
        class: line.unit.class.0.into(),
        partition: line.unit.partition.0.into(),
        from: line.from.iter().map(|name| names.place(name)).collect(),
        to: line.to.iter().map(|name| names.place(name)).collect(),
        bytes: line.bytes,
        keys: line.keys,
    });
    let moves = moves.collect();
    let links = draft.links.iter().take(limits::PLAN_LINES_MAX);
    let links = links.map(|line| pb::topology_response::Link {
        from: names.place(&line.from),
        to: names.place(&line.to),
        units: line.units,
        bytes: line.bytes,
    });
    let links = links.collect();
    pb::topology_response::Draft {
        hash: wide_bytes(draft.hash),
        reasons: draft.reasons,
        warnings: draft.warnings,
        names: names.list,
        moves,
        move_count: draft.move_count,
        shares: draft.shares.into_iter().map(share_to_wire).collect(),
        links,
        duration_ms: u64::try_from(draft.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn share_to_wire(line: ShareLine) -> pb::topology_response::Share {
    pb::topology_response::Share {
        node: line.node.into(),
        before: line.before,
        after: line.after,
        bytes_before: line.bytes_before,
        bytes_after: line.bytes_after,
        bytes_peak: line.bytes_peak,
    }
}

/// A member's share, as a server tells it.
///
/// # Errors
/// [`Malformed`]: its name is none.
pub fn share_from_wire(line: pb::topology_response::Share) -> Result<ShareLine, Malformed> {
    Ok(ShareLine {
        node: node_name(line.node)?,
        before: line.before,
        after: line.after,
        bytes_before: line.bytes_before,
        bytes_after: line.bytes_after,
        bytes_peak: line.bytes_peak,
    })
}

/// What a plan would do, as a server tells it.
///
/// # Errors
/// [`Malformed`]: a part is missing or outside its bounds.
pub fn draft_from_wire(wire: pb::topology_response::Draft) -> Result<DraftReply, Malformed> {
    let names = wire.names.into_iter().map(node_name).collect::<Result<Vec<_>, _>>()?;
    let at = |place: u32| {
        let name = usize::try_from(place).ok().and_then(|place| names.get(place));
        name.cloned().ok_or_else(|| Malformed::new(format!("there is no name {place}")))
    };
    let all = |places: Vec<u32>| places.into_iter().map(at).collect::<Result<Vec<_>, _>>();
    let line = |line: pb::topology_response::Move| {
        Ok(MoveLine {
            unit: unit(line.class, line.partition)?,
            from: all(line.from)?,
            to: all(line.to)?,
            bytes: line.bytes,
            keys: line.keys,
        })
    };
    let link = |line: pb::topology_response::Link| {
        let (from, to) = (at(line.from)?, at(line.to)?);
        Ok(LinkLine { from, to, units: line.units, bytes: line.bytes })
    };
    Ok(DraftReply {
        hash: wide(&wire.hash, "hash of the plan")?,
        reasons: wire.reasons,
        warnings: wire.warnings,
        moves: wire.moves.into_iter().map(line).collect::<Result<_, Malformed>>()?,
        move_count: wire.move_count,
        shares: wire.shares.into_iter().map(share_from_wire).collect::<Result<_, Malformed>>()?,
        links: wire.links.into_iter().map(link).collect::<Result<_, Malformed>>()?,
        duration: Duration::from_millis(wire.duration_ms),
    })
}

fn unit(class: u32, partition: u32) -> Result<Unit, Malformed> {
    let class = ClassId(narrow(class, "class")?);
    Ok(Unit { class, partition: Partition(narrow(partition, "partition")?) })
}

fn progress_to_wire(progress: PlanProgress) -> pb::topology_response::Running {
    use pb::topology_response::{Fill, Phase, Status, UnderWay};
    let status = match progress.status {
        PlanStatus::Running => Status::Running,
        PlanStatus::Paused => Status::Paused,
        PlanStatus::RollingBack => Status::RollingBack,
    };
    let phase = |phase| match phase {
        MovePhase::ReadOld => Phase::ReadOld,
        MovePhase::ReadNew => Phase::ReadNew,
    };
    let fill = |(node, done): (NodeName, u16)| Fill { node: node.into(), done_milli: done.into() };
    let line = |line: MoveProgress| UnderWay {
        class: line.unit.class.0.into(),
        partition: line.unit.partition.0.into(),
        phase: phase(line.phase).into(),
        undoes: line.undoes,
        fills: line.fills.into_iter().map(fill).collect(),
        waits_for: line.waits_for,
    };
    pb::topology_response::Running {
        hash: wide_bytes(progress.hash),
        status: status.into(),
        total: progress.total,
        done: progress.done,
        queued: progress.queued,
        under_way: progress.under_way.into_iter().map(line).collect(),
    }
}

/// How far a plan is, as a server tells it.
///
/// # Errors
/// [`Malformed`]: a part is missing or outside its bounds.
pub fn progress_from_wire(wire: pb::topology_response::Running) -> Result<PlanProgress, Malformed> {
    use pb::topology_response::{Fill, Phase, Status, UnderWay};
    let status = match wire.status() {
        Status::Running => PlanStatus::Running,
        Status::Paused => PlanStatus::Paused,
        Status::RollingBack => PlanStatus::RollingBack,
        Status::Unspecified => return Err(Malformed::new("the status of a plan")),
    };
    let fill = |fill: Fill| {
        let done: u16 = narrow(fill.done_milli, "done_milli")?;
        Ok((node_name(fill.node)?, done.min(1000)))
    };
    let line = |line: UnderWay| {
        let phase = match Phase::try_from(line.phase) {
            Ok(Phase::ReadOld) => Some(MovePhase::ReadOld),
            Ok(Phase::ReadNew) => Some(MovePhase::ReadNew),
            Ok(Phase::Unspecified) | Err(_) => None,
        };
        Ok(MoveProgress {
            unit: unit(line.class, line.partition)?,
            phase: required(phase, "the phase of a move")?,
            undoes: line.undoes,
            fills: line.fills.into_iter().map(fill).collect::<Result<_, Malformed>>()?,
            waits_for: line.waits_for,
        })
    };
    Ok(PlanProgress {
        hash: wide(&wire.hash, "hash of the plan")?,
        status,
        total: wire.total,
        done: wire.done,
        queued: wire.queued,
        under_way: wire.under_way.into_iter().map(line).collect::<Result<_, Malformed>>()?,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
