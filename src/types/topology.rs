//! How the owners of units change: moves, the plan that queues them, and what operators have staged
//! for the next plan. Part of the cluster state. The rules are `control`'s, the reasons in
//! `docs/protocol/moves.md`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ClusterState, Epoch, NodeId, Nonce, Partition, Role, TableKind, Unit, Zone};

/// Where a move stands. Both write sets are written in both phases; which one is read is told by
/// [`Class::owners`](super::Class::owners), the read set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MovePhase {
    /// The other set is still to be read: it is being filled, or has been read before and is being
    /// moved back to.
    ReadOld,
    /// The other set has been read, and is to go.
    ReadNew,
}

/// A unit whose owners change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The partition, in the class that holds the move.
    pub partition: Partition,
    /// Its phase.
    pub phase: MovePhase,
    /// The write set that is not read: the new owners in the first phase, the old ones in the second.
    pub other: Vec<NodeId>,
    /// The epoch in which each of `other` became an owner, or began to be filled again.
    pub entries: Vec<Epoch>,
    /// First phase: `other` has been read before, so that it may be dropped or exchanged only behind a
    /// barrier. The move then undoes another.
    pub was_read: bool,
}

/// What an operator has staged for the next plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Staged {
    /// A reserved member is to own its share.
    Join(NodeId),
    /// A member is to give its share away and to go.
    Leave(NodeId),
    /// A reserved member is to take over what another owns, who goes.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who comes.
        new: NodeId,
    },
    /// A member is to have another weight or zone. What is left out stays.
    Set {
        /// The member.
        member: NodeId,
        /// In thousandths.
        weight_milli: Option<u32>,
        /// Its failure domain.
        zone: Option<Zone>,
    },
}

/// A move that a plan has not begun yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The unit.
    pub unit: Unit,
    /// Its owners afterwards, in preference order.
    pub to: Vec<NodeId>,
}

/// A move that a plan has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The unit.
    pub unit: Unit,
    /// The owners it had: what a rollback goes back to.
    pub from: Vec<NodeId>,
    /// Its owners afterwards, in preference order.
    pub to: Vec<NodeId>,
}

/// What a member was before a plan changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBefore {
    /// The member.
    pub id: NodeId,
    /// Its role.
    pub role: Role,
    /// Its weight.
    pub weight_milli: u32,
    /// Its zone.
    pub zone: Zone,
}

/// Whether a plan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanStatus {
    /// It does.
    Running,
    /// Moves that have begun go on, no more are begun.
    Paused,
    /// What was moved is moved back.
    RollingBack,
}

/// A committed plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The hash of its inputs, by which it was committed.
    pub hash: u128,
    /// The epoch in which it was committed.
    pub since: Epoch,
    /// Whether it goes on.
    pub status: PlanStatus,
    /// The ring when it is done.
    pub ring: Vec<NodeId>,
    /// Moves that have not begun, in the order in which they will.
    pub queue: Vec<Planned>,
    /// Moves that have begun or are done.
    pub begun: Vec<Begun>,
    /// Moves in all.
    pub total: u32,
    /// The members it changed, as they were.
    pub before: Vec<MemberBefore>,
    /// The ring as it was.
    pub ring_before: Vec<NodeId>,
}

/// What an operator has given up of a unit: owners whose copies are counted on no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The unit.
    pub unit: Unit,
    /// The epoch in which it was given up. Owners that had entered by then are filled from whoever is
    /// left.
    pub epoch: Epoch,
    /// Owners that nobody waits for any more, in the order of their ids; never empty.
    pub gone: Vec<NodeId>,
}

/// A member whose place was taken while it was down. It owns nothing from when its units have moved, and what it
/// comes back with is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relieved {
    /// The member; reserved from then on.
    pub id: NodeId,
    /// Who has taken its place; `None`: all others.
    pub by: Option<NodeId>,
    /// The epoch in which that was decided.
    pub epoch: Epoch,
}

/// What the orchestrator has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DecisionKind {
    /// A reserved member takes the place of one that is down.
    Replaced,
    /// The others take it.
    Spread,
    /// A plan begins no more moves, so that a member that is down is replaced first.
    CutShort,
    /// Another reserved member is filled in the place of one that is down.
    Retargeted,
    /// A plan is moved back.
    RolledBack,
    /// A reserved member becomes active.
    Grown,
    /// An active member is reserved again.
    Shrunk,
    /// Members exchange units, one for another.
    Exchanged,
}

impl DecisionKind {
    /// Every value.
    pub const ALL: [DecisionKind; 8] = [
        DecisionKind::Replaced,
        DecisionKind::Spread,
        DecisionKind::CutShort,
        DecisionKind::Retargeted,
        DecisionKind::RolledBack,
        DecisionKind::Grown,
        DecisionKind::Shrunk,
        DecisionKind::Exchanged,
    ];

    /// As scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            DecisionKind::Replaced => "replaced",
            DecisionKind::Spread => "spread",
            DecisionKind::CutShort => "plan-cut-short",
            DecisionKind::Retargeted => "plan-retargeted",
            DecisionKind::RolledBack => "plan-rolled-back",
            DecisionKind::Grown => "grown",
            DecisionKind::Shrunk => "shrunk",
            DecisionKind::Exchanged => "exchanged",
        }
    }
}

/// What the orchestrator has decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The epoch that it became.
    pub epoch: Epoch,
    /// What.
    pub kind: DecisionKind,
    /// The member that it is about.
    pub subject: NodeId,
    /// Why, in words; at most [`limits::REASON_BYTES_MAX`](super::limits::REASON_BYTES_MAX).
    pub reason: String,
}

/// Who may come, and what is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The highest member id ever given.
    pub member_id_max: NodeId,
    /// For the next plan, in the order in which it was staged.
    pub staged: Vec<Staged>,
    /// The plan that is carried out.
    pub plan: Option<Plan>,
    /// Births of members that have gone, latest last: a disk that comes back is told so.
    pub gone: Vec<(NodeId, Nonce)>,
    /// Units of which copies were given up, in their order; one of each at most, and only as long as
    /// somebody who was given up is an owner of it.
    pub losses: Vec<Loss>,
    /// What each lineage that was forced is told by, in their order: the last is this one's. None in the
    /// first lineage.
    pub origins: Vec<u128>,
    /// Members whose place was taken while they were down, by id: reserved ones.
    pub relieved: Vec<Relieved>,
    /// The latest decisions of the orchestrator, oldest first.
    pub decisions: Vec<Decision>,
}

impl ClusterState {
    /// What its lineage is told by, beside its number; 0 in the first.
    pub fn origin(&self) -> u128 {
        self.topology.origins.last().copied().unwrap_or(0)
    }

    /// Whether the member born so was a member, and is never to be one again. It may still be named as an
    /// owner, until a plan gives to others what it owned.
    pub fn is_gone(&self, id: NodeId, birth: Nonce) -> bool {
        self.topology.gone.contains(&(id, birth))
    }

    /// The epoch in which the place of `member` was taken while it was down, if it has none since.
    pub fn relieved_at(&self, member: NodeId) -> Option<Epoch> {
        let relieved = self.topology.relieved.iter().find(|relieved| relieved.id == member);
        relieved.map(|relieved| relieved.epoch)
    }

    /// What was given up of `unit`.
    pub fn loss(&self, unit: Unit) -> Option<&Loss> {
        let losses = &self.topology.losses;
        let place = losses.binary_search_by_key(&unit, |loss| loss.unit).ok()?;
        losses.get(place)
    }

    /// Whether `member` was given up as an owner of `unit`.
    pub fn is_given_up(&self, unit: Unit, member: NodeId) -> bool {
        self.loss(unit).is_some_and(|loss| loss.gone.contains(&member))
    }

    /// How many other owners of the read set an owner is filled from: of any so many, one has each write
    /// that was acknowledged by owners which had yet to acknowledge the entry.
    pub fn sources_wanted(&self, unit: Unit) -> usize {
        let Some(class) = self.class(unit.class) else { return 0 };
        let is_linearizable = self
            .tables
            .iter()
            .any(|table| table.class == unit.class && table.kind == TableKind::Linearizable);
        // Rounds need no more than a majority.
        let majority = class.n / 2 + 1;
        let w = if is_linearizable { class.w_min.min(majority) } else { class.w_min };
        usize::from((class.n + 1).saturating_sub(w))
    }

    /// Whether `member`, an owner since `entry`, has all there is once it has pulled everything of
    /// `pulled`: as many as it takes, or everybody who was not given up since it entered.
    pub fn is_enough(
        &self,
        (unit, member, entry): (Unit, NodeId, Epoch),
        pulled: &[NodeId],
    ) -> bool {
        if pulled.len() >= self.sources_wanted(unit) {
            return true;
        }
        // INVARIANT: what was given up before the entry says nothing of what was written between.
        let since = |loss: &&Loss| loss.epoch >= entry || crate::mutant!("loss-outlives-entry");
        self.loss(unit).filter(since).is_some_and(|loss| {
            let mut owners = self.owners(unit).iter().filter(|id| **id != member);
            owners.all(|id| loss.gone.contains(id) || pulled.contains(id))
        })
    }

    /// Active members to whom the plan that is carried out gives units which they did not own before
    /// it. None while a plan is rolled back.
    pub fn gaining(&self) -> BTreeSet<NodeId> {
        let mut gaining = BTreeSet::new();
        let Some(plan) = &self.topology.plan else { return gaining };
        if plan.status == PlanStatus::RollingBack {
            return gaining;
        }
        for Planned { unit, to } in &plan.queue {
            let owners = self.owners(*unit);
            gaining.extend(to.iter().filter(|id| !owners.contains(id)));
        }
        for Begun { unit, from, .. } in &plan.begun {
            let writers = self.writers(*unit);
            gaining.extend(writers.iter().filter(|id| !from.contains(id)));
        }
        let active = |id: &NodeId| self.member(*id).is_some_and(|m| m.role == Role::Active);
        gaining.retain(active);
        gaining
    }
}
