//! Moves step by step, by what was heard, and that what was not heard holds them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::control::schema::tests::state;
use crate::control::{Change, Heard, steps};
use crate::testing::arm_mutant;
use crate::types::{ClassId, PlanStatus, Planned, RequestId};

pub(in crate::control) const UNIT: Unit = Unit { class: ClassId(0), partition: Partition(3) };
pub(in crate::control) const NEW: NodeId = NodeId(4);

/// What a test lets be heard.
#[derive(Default)]
pub(in crate::control) struct Said {
    pub(in crate::control) acknowledged: BTreeMap<NodeId, Epoch>,
    pub(in crate::control) complete: BTreeSet<(NodeId, Unit, Epoch)>,
    pub(in crate::control) lost: Vec<(NodeId, Unit, Epoch)>,
    pub(in crate::control) lacks: Vec<(NodeId, Unit, Epoch)>,
    pub(in crate::control) down: BTreeSet<NodeId>,
    /// Who does not answer, and may again.
    pub(in crate::control) silent: BTreeSet<NodeId>,
}

impl Heard for Said {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        self.acknowledged.get(&member).copied().unwrap_or_default()
    }

    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        entry == Epoch(1) || self.complete.contains(&(member, unit, entry))
    }

    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.lost.clone()
    }

    fn is_up(&self, member: NodeId) -> bool {
        !self.down.contains(&member) && !self.silent.contains(&member)
    }

    fn is_down(&self, member: NodeId) -> bool {
        self.down.contains(&member)
    }

    fn lacks(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        self.lacks.contains(&(member, unit, entry)) || self.lost.contains(&(member, unit, entry))
    }

    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.lacks.clone()
    }

    fn has_custody(&self, _: NodeId) -> bool {
        false
    }
}

impl Said {
    pub(in crate::control) fn acknowledge(&mut self, members: &[NodeId], epoch: Epoch) {
        self.acknowledged.extend(members.iter().map(|id| (*id, epoch)));
    }
}

pub(in crate::control) fn make_step(state: &ClusterState, kind: StepKind) -> ClusterState {
    let step = Step { unit: UNIT, fence: state.changed_at(UNIT), kind };
    Change::Steps(vec![step]).after(state, RequestId(0)).unwrap()
}

/// Four members, and a unit of which the first three are owners.
pub(in crate::control) fn first() -> (ClusterState, Vec<NodeId>, Vec<NodeId>) {
    let mut state = state(4, 1);
    let old: Vec<NodeId> = (1..=3).map(NodeId).collect();
    state.classes[0].owners[3].clone_from(&old);
    let new = vec![NodeId(1), NodeId(2), NEW];
    state.topology.plan = Some(crate::types::Plan {
        hash: 1,
        since: Epoch(1),
        status: PlanStatus::Running,
        ring: state.ring.clone(),
        queue: vec![Planned { unit: UNIT, to: new.clone() }],
        begun: Vec::new(),
        total: 1,
        before: Vec::new(),
        ring_before: state.ring.clone(),
    });
    (state, old, new)
}

#[test]
fn a_move_goes_through_its_phases_and_each_raises_the_fence() {
    let (state, old, new) = first();
    let begun = make_step(&state, StepKind::Begin(new.clone()));
    assert_eq!((begun.owners(UNIT), begun.other_owners(UNIT)), (&old[..], &new[..]));
    assert_eq!(begun.changed_at(UNIT), begun.epoch);
    assert_eq!(begun.entry(UNIT, NEW), Some(begun.epoch));
    assert_eq!(begun.entry(UNIT, NodeId(3)), Some(Epoch(1)));
    assert!(begun.is_original(UNIT, NodeId(1)) && !begun.is_original(UNIT, NEW));

    let mut said = Said::default();
    assert_eq!(steps(&begun, &said), [], "nobody has been filled");
    said.complete.insert((NEW, UNIT, begun.epoch));
    let found = steps(&begun, &said);
    assert_eq!(found, [Step { unit: UNIT, fence: begun.epoch, kind: StepKind::ReadNew }]);
    let read = Change::Steps(found).after(&begun, RequestId(0)).unwrap();
    assert_eq!((read.owners(UNIT), read.other_owners(UNIT)), (&new[..], &old[..]));
    assert_eq!(read.entry(UNIT, NEW), Some(begun.epoch), "its entry stays");

    said.acknowledge(&[NodeId(1)], read.epoch);
    assert_eq!(steps(&read, &said), [], "n - r + 1 of the old owners must acknowledge");
    {
        let _armed = arm_mutant("last-barrier-skipped");
        assert_eq!(steps(&read, &said).first().map(|step| &step.kind), Some(&StepKind::NewOnly));
    }
    said.acknowledge(&[NEW], read.epoch);
    assert_eq!(steps(&read, &said), [], "a new owner does not count");
    said.acknowledge(&[NodeId(3)], read.epoch);
    let done = Change::Steps(steps(&read, &said)).after(&read, RequestId(0)).unwrap();
    assert_eq!((done.owners(UNIT), done.moving(UNIT)), (&new[..], None));
    assert_eq!(done.changed_at(UNIT), done.epoch);
    assert_eq!(done.entry(UNIT, NodeId(3)), None);
}

#[test]
fn completeness_of_another_entry_moves_nothing() {
    let (state, _, new) = first();
    let begun = make_step(&state, StepKind::Begin(new));
    let mut said = Said::default();
    said.complete.insert((NEW, UNIT, Epoch(begun.epoch.0 - 1)));
    assert_eq!(steps(&begun, &said), []);
}

#[test]
fn an_owner_that_stays_and_is_silent_holds_no_move() {
    let (mut state, old, new) = first();
    // It has entered later than the unit was made, was complete, and died for good.
    state.classes[0].entries[3] = vec![Epoch(1), Epoch(1), Epoch(1)];
    state.classes[0].entries[3][1] = Epoch(1 << 20);
    let begun = make_step(&state, StepKind::Begin(new));
    let mut said = Said::default();
    assert_eq!(steps(&begun, &said), []);
    said.complete.insert((NEW, UNIT, begun.epoch));
    let kinds: Vec<StepKind> = steps(&begun, &said).into_iter().map(|step| step.kind).collect();
    assert_eq!(kinds, [StepKind::ReadNew], "{old:?}");
}

#[test]
fn a_step_that_was_chosen_at_another_fence_is_not_made() {
    let (state, _, new) = first();
    let late = Step { unit: UNIT, fence: Epoch(9), kind: StepKind::Begin(new) };
    let error = Change::Steps(vec![late]).after(&state, RequestId(0)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanConflict);
}

/// Whether a move that somebody chose to begin is begun in `state`.
fn is_begun(state: &ClusterState, to: &[NodeId]) -> bool {
    let kind = StepKind::Begin(to.to_vec());
    let step = Step { unit: UNIT, fence: state.changed_at(UNIT), kind };
    Change::Steps(vec![step]).after(state, RequestId(0)).is_ok()
}

#[test]
fn a_move_that_the_plan_does_not_want_any_more_is_not_begun() {
    let (state, old, new) = first();
    assert!(is_begun(&state, &new));
    let done = {
        let read = make_step(&make_step(&state, StepKind::Begin(new.clone())), StepKind::ReadNew);
        make_step(&read, StepKind::NewOnly)
    };
    let with = |change: &dyn Fn(&mut crate::types::Plan)| {
        let mut next = done.clone();
        change(next.topology.plan.as_mut().unwrap());
        next
    };
    let back = with(&|plan| plan.status = PlanStatus::RollingBack);
    assert!(is_begun(&back, &old));
    // Chosen while it was rolled back; then it went forward again, or came to its end.
    let mut over = done.clone();
    over.topology.plan = None;
    assert!(!is_begun(&done, &old) && !is_begun(&over, &old));
    let _armed = arm_mutant("late-begin-made");
    assert!(is_begun(&done, &old) && is_begun(&over, &old));
}

#[test]
fn a_rollback_keeps_the_read_set_and_undoing_it_takes_a_barrier() {
    let (state, old, new) = first();
    let begun = make_step(&state, StepKind::Begin(new.clone()));
    let back = make_step(&begun, StepKind::RollBack);
    assert_eq!((back.owners(UNIT), back.moving(UNIT)), (&old[..], None));
    assert_eq!(back.changed_at(UNIT), back.epoch);

    let read = make_step(&begun, StepKind::ReadNew);
    let mut undoing = make_step(&read, StepKind::TurnBack);
    assert_eq!(undoing.owners(UNIT), &new[..], "the read set stays");
    assert_eq!(undoing.changed_at(UNIT), read.changed_at(UNIT), "and so does the fence");
    let moving = undoing.moving(UNIT).unwrap();
    assert!(moving.was_read && moving.phase == MovePhase::ReadOld && moving.other == old);
    // A step chosen before the rollback does not fit the phase any more.
    let stale = Step { unit: UNIT, fence: read.epoch, kind: StepKind::NewOnly };
    assert!(Change::Steps(vec![stale]).after(&undoing, RequestId(0)).is_err());
    // Nor does the same once more, by somebody who has not heard of it: the fence has stayed.
    let again = Step { unit: UNIT, fence: read.epoch, kind: StepKind::TurnBack };
    assert!(Change::Steps(vec![again]).after(&undoing, RequestId(0)).is_err());
    undoing.topology.plan = None;
    // The old owners have missed nothing: it goes on without filling anybody.
    let found = steps(&undoing, &Said::default());
    assert_eq!(found.first().map(|step| &step.kind), Some(&StepKind::ReadNew));
}

#[test]
fn what_was_read_is_dropped_only_behind_its_barrier() {
    let (state, old, new) = first();
    let mut undoing =
        make_step(&make_step(&state, StepKind::Begin(new.clone())), StepKind::ReadNew);
    undoing = make_step(&undoing, StepKind::TurnBack);
    // The plan is rolled back to `new`, as if it had begun there: the old set is to be dropped.
    undoing.topology.plan = Some(crate::types::Plan {
        hash: 1,
        since: Epoch(1),
        status: PlanStatus::RollingBack,
        ring: undoing.ring.clone(),
        queue: Vec::new(),
        begun: vec![Begun { unit: UNIT, to: old.clone(), from: new }],
        total: 1,
        before: Vec::new(),
        ring_before: undoing.ring.clone(),
    });
    let mut said = Said::default();
    assert_eq!(steps(&undoing, &said), []);
    {
        let _armed = arm_mutant("roll-back-straight");
        assert_eq!(steps(&undoing, &said).first().map(|s| &s.kind), Some(&StepKind::RollBack));
    }
    said.acknowledge(&old[..1], undoing.changed_at(UNIT));
    assert_eq!(steps(&undoing, &said), []);
    said.acknowledge(&old[..2], undoing.changed_at(UNIT));
    let found = steps(&undoing, &said);
    assert_eq!(found.first().map(|step| &step.kind), Some(&StepKind::RollBack));
}

#[test]
fn an_owner_that_has_lost_data_gets_a_new_entry_once() {
    let (mut state, ..) = first();
    state.topology.plan = None;
    let said = Said { lost: vec![(NodeId(2), UNIT, Epoch(1))], ..Said::default() };
    let next = Change::Steps(steps(&state, &said)).after(&state, RequestId(0)).unwrap();
    assert_eq!(next.entry(UNIT, NodeId(2)), Some(next.epoch));
    assert_eq!(next.changed_at(UNIT), next.epoch);
    assert_eq!(steps(&next, &said), [], "what it said is of the entry before");
}
