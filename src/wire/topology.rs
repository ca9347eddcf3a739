//! Moves, plans and what is staged, as part of a state that travels.

use std::collections::BTreeSet;

use crate::types::{
    Begun, Class, ClusterState, Decision, DecisionKind, Epoch, Loss, MemberBefore, Move, MovePhase,
    NodeId, Nonce, Partition, Plan, PlanStatus, Planned, Relieved, Staged, Topology, Unit, Zone,
    limits,
};

use super::peer::{Malformed, narrow, required, wide, wide_bytes};
use super::proto::peer as pb;
use super::state::{role_from_wire, role_to_wire};

pub(super) fn topology_to_wire(topology: &Topology) -> pb::Topology {
    pb::Topology {
        member_id_max: topology.member_id_max.0,
        staged: topology.staged.iter().map(staged_to_wire).collect(),
        plan: topology.plan.as_ref().map(plan_to_wire),
        gone: topology
            .gone
            .iter()
            .map(|(id, birth)| pb::Gone { id: id.0, birth: wide_bytes(birth.0) })
            .collect(),
        losses: topology.losses.iter().map(loss_to_wire).collect(),
        origins: topology.origins.iter().map(|origin| wide_bytes(*origin)).collect(),
        relieved: topology.relieved.iter().map(relieved_to_wire).collect(),
        decisions: topology.decisions.iter().map(decision_to_wire).collect(),
    }
}

pub(super) fn topology_from_wire(wire: pb::Topology) -> Result<Topology, Malformed> {
    let counts = [
        ("staged changes", wire.staged.len(), limits::STAGED_MAX),
        ("members that have gone", wire.gone.len(), limits::GONE_MAX),
        ("losses", wire.losses.len(), limits::LOSSES_MAX),
        ("lineages", wire.origins.len(), limits::LINEAGES_MAX),
        ("members that were relieved", wire.relieved.len(), limits::MEMBERS_MAX),
        ("decisions", wire.decisions.len(), limits::DECISIONS_MAX),
    ];
    for (what, count, most) in counts {
        if count > most {
            return Err(Malformed::new(format!("{count} {what}; the limit is {most}")));
        }
    }
    Ok(Topology {
        member_id_max: NodeId(wire.member_id_max),
        staged: wire.staged.into_iter().map(staged_from_wire).collect::<Result<_, _>>()?,
        plan: wire.plan.map(plan_from_wire).transpose()?,
        gone: wire
            .gone
            .into_iter()
            .map(|gone| Ok((NodeId(gone.id), Nonce(wide(&gone.birth, "birth")?))))
            .collect::<Result<_, _>>()?,
        losses: wire.losses.into_iter().map(loss_from_wire).collect::<Result<_, _>>()?,
        origins: wire
            .origins
            .iter()
            .map(|origin| wide(origin, "origin"))
            .collect::<Result<_, _>>()?,
        relieved: wire.relieved.into_iter().map(relieved_from_wire).collect(),
        decisions: wire.decisions.into_iter().map(decision_from_wire).collect::<Result<_, _>>()?,
    })
}

fn relieved_to_wire(relieved: &Relieved) -> pb::Relieved {
    let by = relieved.by.map_or(0, |by| by.0);
    pb::Relieved { id: relieved.id.0, by, epoch: relieved.epoch.0 }
}

fn relieved_from_wire(wire: pb::Relieved) -> Relieved {
    let by = (wire.by != 0).then_some(NodeId(wire.by));
    Relieved { id: NodeId(wire.id), by, epoch: Epoch(wire.epoch) }
}

fn decision_to_wire(decision: &Decision) -> pb::Decision {
    use pb::decision::Kind;
    let kind = match decision.kind {
        DecisionKind::Replaced => Kind::Replaced,
        DecisionKind::Spread => Kind::Spread,
        DecisionKind::CutShort => Kind::CutShort,
        DecisionKind::Retargeted => Kind::Retargeted,
        DecisionKind::RolledBack => Kind::RolledBack,
        DecisionKind::Grown => Kind::Grown,
        DecisionKind::Shrunk => Kind::Shrunk,
        DecisionKind::Exchanged => Kind::Exchanged,
    };
    pb::Decision {
        epoch: decision.epoch.0,
        kind: kind.into(),
        subject: decision.subject.0,
        reason: decision.reason.clone(),
    }
}

fn decision_from_wire(wire: pb::Decision) -> Result<Decision, Malformed> {
    use pb::decision::Kind;
    let kind = match wire.kind() {
        Kind::Unspecified => return Err(Malformed::new("what the orchestrator has decided")),
        Kind::Replaced => DecisionKind::Replaced,
        Kind::Spread => DecisionKind::Spread,
        Kind::CutShort => DecisionKind::CutShort,
        Kind::Retargeted => DecisionKind::Retargeted,
        Kind::RolledBack => DecisionKind::RolledBack,
        Kind::Grown => DecisionKind::Grown,
        Kind::Shrunk => DecisionKind::Shrunk,
        Kind::Exchanged => DecisionKind::Exchanged,
    };
    let bytes = wire.reason.len();
    if bytes > limits::REASON_BYTES_MAX {
        return Err(Malformed::new(format!("a reason of {bytes} bytes")));
    }
    let (epoch, subject) = (Epoch(wire.epoch), NodeId(wire.subject));
    Ok(Decision { epoch, kind, subject, reason: wire.reason })
}

fn loss_to_wire(loss: &Loss) -> pb::Loss {
    pb::Loss {
        class: loss.unit.class.0.into(),
        partition: loss.unit.partition.0.into(),
        epoch: loss.epoch.0,
        gone: loss.gone.iter().map(|id| id.0).collect(),
    }
}

fn loss_from_wire(wire: pb::Loss) -> Result<Loss, Malformed> {
    let unit = Unit {
        class: crate::types::ClassId(narrow(wire.class, "class")?),
        partition: Partition(narrow(wire.partition, "partition")?),
    };
    let gone = wire.gone.into_iter().map(NodeId).collect();
    Ok(Loss { unit, epoch: Epoch(wire.epoch), gone })
}

/// What must hold between the moves, the plan and the rest of the state.
pub(super) fn check(state: &ClusterState, ids: &BTreeSet<NodeId>) -> Result<(), Malformed> {
    let topology = &state.topology;
    if ids.last().is_some_and(|last| *last > topology.member_id_max) {
        return Err(Malformed::new("a member id above the highest given"));
    }
    let others = state.classes.iter().flat_map(|class| &class.moves).flat_map(|m| &m.other);
    if let Some(stranger) = others.into_iter().find(|id| !ids.contains(id)) {
        return Err(Malformed::new(format!("{stranger} is moved to but is no member")));
    }
    for loss in &topology.losses {
        let known = state.class(loss.unit.class).is_some()
            && usize::from(loss.unit.partition.0) < state.ring.len();
        if !known || loss.gone.is_empty() || !loss.gone.iter().all(|id| ids.contains(id)) {
            return Err(Malformed::new(format!("a loss of {}", loss.unit)));
        }
    }
    if let Some(stranger) = topology.relieved.iter().find(|it| !ids.contains(&it.id)) {
        return Err(Malformed::new(format!("{} was relieved but is no member", stranger.id)));
    }
    if !topology.losses.is_sorted_by(|a, b| a.unit < b.unit) {
        return Err(Malformed::new("losses are not in the order of units"));
    }
    let Some(plan) = &topology.plan else { return Ok(()) };
    let places = state.ring.len();
    if plan.ring.len() != places || plan.ring_before.len() != places {
        return Err(Malformed::new("the ring of the plan does not cover the ring"));
    }
    if plan.since > state.epoch {
        return Err(Malformed::new("the plan was committed in a later epoch"));
    }
    let queued = plan.queue.iter().map(|planned| (planned.unit, &planned.to));
    let begun = plan.begun.iter().flat_map(|b| [(b.unit, &b.from), (b.unit, &b.to)]);
    for (unit, to) in queued.chain(begun) {
        let class = state.class(unit.class);
        let fits = class.is_some_and(|class| {
            to.len() == usize::from(class.n) && usize::from(unit.partition.0) < class.owners.len()
        });
        let distinct: BTreeSet<&NodeId> = to.iter().collect();
        if !fits || distinct.len() != to.len() {
            return Err(Malformed::new(format!("the plan moves {unit} to {to:?}")));
        }
    }
    let queued = plan.queue.iter().flat_map(|planned| &planned.to);
    let mut named = plan.ring.iter().chain(queued);
    match named.find(|id| !ids.contains(id)) {
        Some(stranger) => Err(Malformed::new(format!("{stranger} is planned for but no member"))),
        None => Ok(()),
    }
}

/// Empty while all owners have been there since the class was made.
pub(super) fn entries_to_wire(class: &Class) -> Vec<u64> {
    let all = || class.entries.iter().flatten();
    if all().all(|entry| *entry == class.created) {
        return Vec::new();
    }
    all().map(|entry| entry.0).collect()
}

pub(super) fn entries_from_wire(
    wire: Vec<u64>,
    owners: &[Vec<NodeId>],
    created: Epoch,
) -> Result<Vec<Vec<Epoch>>, Malformed> {
    if wire.is_empty() {
        return Ok(owners.iter().map(|owners| vec![created; owners.len()]).collect());
    }
    let places: usize = owners.iter().map(Vec::len).sum();
    if wire.len() != places {
        return Err(Malformed::new(format!("{} entries of {places} owners", wire.len())));
    }
    let mut rest = wire.into_iter().map(Epoch);
    Ok(owners.iter().map(|owners| rest.by_ref().take(owners.len()).collect()).collect())
}

pub(super) fn move_to_wire(moving: &Move) -> pb::Move {
    pb::Move {
        partition: moving.partition.0.into(),
        read_new: moving.phase == MovePhase::ReadNew,
        other: moving.other.iter().map(|id| id.0).collect(),
        entries: moving.entries.iter().map(|entry| entry.0).collect(),
        was_read: moving.was_read,
    }
}

pub(super) fn moves_from_wire(
    wire: Vec<pb::Move>,
    (n, partitions): (u8, u32),
) -> Result<Vec<Move>, Malformed> {
    let moves = wire.into_iter().map(move_from_wire).collect::<Result<Vec<_>, _>>()?;
    if !moves.is_sorted_by(|a, b| a.partition < b.partition) {
        return Err(Malformed::new("moves are not in the order of partitions"));
    }
    for moving in &moves {
        let distinct: BTreeSet<&NodeId> = moving.other.iter().collect();
        let whole = moving.other.len() == usize::from(n) && distinct.len() == moving.other.len();
        let inside = u32::from(moving.partition.0) < partitions;
        if !whole || !inside || moving.entries.len() != moving.other.len() {
            return Err(Malformed::new(format!("a move of partition {}", moving.partition)));
        }
    }
    Ok(moves)
}

fn move_from_wire(wire: pb::Move) -> Result<Move, Malformed> {
    Ok(Move {
        partition: Partition(narrow(wire.partition, "partition")?),
        phase: if wire.read_new { MovePhase::ReadNew } else { MovePhase::ReadOld },
        other: wire.other.into_iter().map(NodeId).collect(),
        entries: wire.entries.into_iter().map(Epoch).collect(),
        was_read: wire.was_read,
    })
}

fn staged_to_wire(staged: &Staged) -> pb::Staged {
    use pb::staged::Change;
    let change = match staged {
        Staged::Join(id) => Change::Join(id.0),
        Staged::Leave(id) => Change::Leave(id.0),
        Staged::Replace { old, new } => {
            Change::Replace(pb::staged::Replace { old: old.0, new: new.0 })
        }
        Staged::Set { member, weight_milli, zone } => Change::Set(pb::staged::Set {
            member: member.0,
            weight_milli: *weight_milli,
            zone: zone.as_ref().map(|zone| zone.as_str().to_owned()),
        }),
    };
    pb::Staged { change: Some(change) }
}

fn staged_from_wire(wire: pb::Staged) -> Result<Staged, Malformed> {
    use pb::staged::Change;
    Ok(match required(wire.change, "staged change")? {
        Change::Join(id) => Staged::Join(NodeId(id)),
        Change::Leave(id) => Staged::Leave(NodeId(id)),
        Change::Replace(replace) => {
            Staged::Replace { old: NodeId(replace.old), new: NodeId(replace.new) }
        }
        Change::Set(set) => Staged::Set {
            member: NodeId(set.member),
            weight_milli: set.weight_milli,
            zone: set.zone.map(Zone::try_from).transpose().map_err(Malformed)?,
        },
    })
}

fn plan_to_wire(plan: &Plan) -> pb::Plan {
    use pb::plan::Status;
    let status = match plan.status {
        PlanStatus::Running => Status::Running,
        PlanStatus::Paused => Status::Paused,
        PlanStatus::RollingBack => Status::RollingBack,
    };
    let before = |member: &MemberBefore| pb::plan::Before {
        id: member.id.0,
        role: role_to_wire(member.role).into(),
        weight_milli: member.weight_milli,
        zone: member.zone.as_str().to_owned(),
    };
    pb::Plan {
        hash: wide_bytes(plan.hash),
        since: plan.since.0,
        status: status.into(),
        ring: plan.ring.iter().map(|id| id.0).collect(),
        queue: plan.queue.iter().map(planned_to_wire).collect(),
        begun: plan.begun.iter().map(begun_to_wire).collect(),
        total: plan.total,
        before: plan.before.iter().map(before).collect(),
        ring_before: plan.ring_before.iter().map(|id| id.0).collect(),
    }
}

fn plan_from_wire(wire: pb::Plan) -> Result<Plan, Malformed> {
    use pb::plan::Status;
    let status = match wire.status() {
        Status::Unspecified => return Err(Malformed::new("the status of a plan")),
        Status::Running => PlanStatus::Running,
        Status::Paused => PlanStatus::Paused,
        Status::RollingBack => PlanStatus::RollingBack,
    };
    let before = |member: pb::plan::Before| {
        Ok(MemberBefore {
            id: NodeId(member.id),
            role: role_from_wire(member.role)?,
            weight_milli: member.weight_milli,
            zone: Zone::try_from(member.zone).map_err(Malformed)?,
        })
    };
    Ok(Plan {
        hash: wide(&wire.hash, "hash of the plan")?,
        since: Epoch(wire.since),
        status,
        ring: wire.ring.into_iter().map(NodeId).collect(),
        queue: wire.queue.into_iter().map(planned_from_wire).collect::<Result<_, _>>()?,
        begun: wire.begun.into_iter().map(begun_from_wire).collect::<Result<_, _>>()?,
        total: wire.total,
        before: wire.before.into_iter().map(before).collect::<Result<_, Malformed>>()?,
        ring_before: wire.ring_before.into_iter().map(NodeId).collect(),
    })
}

fn begun_to_wire(begun: &Begun) -> pb::Begun {
    pb::Begun {
        class: begun.unit.class.0.into(),
        partition: begun.unit.partition.0.into(),
        from: begun.from.iter().map(|id| id.0).collect(),
        to: begun.to.iter().map(|id| id.0).collect(),
    }
}

fn begun_from_wire(wire: pb::Begun) -> Result<Begun, Malformed> {
    let (class, partition) = (wire.class, wire.partition);
    let Planned { unit, to } = planned_from_wire(pb::Planned { class, partition, to: wire.to })?;
    Ok(Begun { unit, from: wire.from.into_iter().map(NodeId).collect(), to })
}

fn planned_to_wire(planned: &Planned) -> pb::Planned {
    pb::Planned {
        class: planned.unit.class.0.into(),
        partition: planned.unit.partition.0.into(),
        to: planned.to.iter().map(|id| id.0).collect(),
    }
}

fn planned_from_wire(wire: pb::Planned) -> Result<Planned, Malformed> {
    let unit = Unit {
        class: crate::types::ClassId(narrow(wire.class, "class")?),
        partition: Partition(narrow(wire.partition, "partition")?),
    };
    Ok(Planned { unit, to: wire.to.into_iter().map(NodeId).collect() })
}
