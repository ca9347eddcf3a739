//! Plans from staging to their ends.

use super::*;
use crate::control::moves::StepKind;
use crate::control::schema::tests::{state, state_of};
use crate::control::{Change, Heard, steps};
use crate::message::{Applicant, MemberChange, OpError};
use crate::testing::arm_mutant;
use crate::types::{Addresses, Epoch, Nonce, Partition, RequestId, Zone};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn plan(state: &ClusterState, change: PlanChange) -> Result<ClusterState, OpError> {
    Change::Plan(change).after(state, RequestId(0))
}

fn staged(state: &ClusterState, order: StageOrder) -> ClusterState {
    plan(state, PlanChange::Stage(order)).unwrap()
}

fn admit(state: &ClusterState, text: &str) -> ClusterState {
    let applicant = Applicant {
        name: name(text),
        birth: Nonce(77),
        addresses: Addresses::default(),
        zone: state.members[0].zone.clone(),
        weight_milli: 1000,
        feature_level: limits::FEATURE_LEVEL,
    };
    Change::Member(MemberChange::Admit(applicant)).after(state, RequestId(0)).unwrap()
}

/// Three members with so many units that a plan which gives a fourth its share cannot move all of them at once.
fn more_than_move_at_once() -> ClusterState {
    let state = state_of(3, 1, 128);
    assert!(state.units().count() * 3 / 4 > limits::MOVES_MAX);
    state
}

/// Everybody has said all there is to say.
struct All;

impl Heard for All {
    fn acknowledged(&self, _: NodeId) -> Epoch {
        Epoch(u64::MAX)
    }
    fn is_complete(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        true
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, _: NodeId) -> bool {
        true
    }
    fn has_custody(&self, _: NodeId) -> bool {
        false
    }
    fn is_down(&self, _: NodeId) -> bool {
        false
    }
    fn lacks(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        false
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
}

/// The same, and one member keeps something for others.
struct AllBut(NodeId);

impl Heard for AllBut {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        All.acknowledged(member)
    }
    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        All.is_complete(member, unit, entry)
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, _: NodeId) -> bool {
        true
    }
    fn is_down(&self, _: NodeId) -> bool {
        false
    }
    fn lacks(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        false
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn has_custody(&self, member: NodeId) -> bool {
        member == self.0
    }
}

#[test]
fn who_leaves_stays_a_member_until_what_it_keeps_for_others_is_home() {
    let three = admit(&state(3, 1), "n4");
    let order = StageOrder::Replace { old: name("n2"), new: name("n4") };
    let mut state = commit(&staged(&three, order));
    loop {
        let found = steps(&state, &AllBut(NodeId(2)));
        if found.is_empty() {
            break;
        }
        state = Change::Steps(found).after(&state, RequestId(0)).unwrap();
    }
    assert_eq!(copies(&state, NodeId(2)), 0, "all moves are done");
    assert!(state.topology.plan.is_some() && state.member(NodeId(2)).is_some());
    assert_eq!(run(state).member(NodeId(2)), None);
}

/// The same, and one member has been silent since it acknowledged an epoch.
struct Silent(NodeId, Epoch);

impl Heard for Silent {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        if member == self.0 { self.1 } else { All.acknowledged(member) }
    }
    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        All.is_complete(member, unit, entry)
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, member: NodeId) -> bool {
        member != self.0
    }
    fn is_down(&self, member: NodeId) -> bool {
        member == self.0
    }
    fn lacks(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        false
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn has_custody(&self, _: NodeId) -> bool {
        false
    }
}

/// Whether a plan by which n2 leaves waits at its end for n2, which fell silent a moment ago: before the plan was
/// committed, or behind that.
fn waits_for_the_silent(before: bool) -> bool {
    let three = admit(&state(3, 1), "n4");
    let order = StageOrder::Replace { old: name("n2"), new: name("n4") };
    let mut state = commit(&staged(&three, order));
    let heard = Silent(NodeId(2), Epoch(state.epoch.0 - u64::from(before)));
    loop {
        let found = steps(&state, &heard);
        if found.is_empty() {
            break;
        }
        state = Change::Steps(found).after(&state, RequestId(0)).unwrap();
    }
    assert_eq!(copies(&state, NodeId(2)), 0, "all moves are done");
    let waits = state.member(NodeId(2)).is_some();
    let ends = steps(&state, &GivenUp(NodeId(2)));
    assert!(!waits || ends.iter().any(|step| step.kind == StepKind::EndPlan), "away for long");
    assert_eq!(run(state).member(NodeId(2)), None);
    waits
}

#[test]
fn who_leaves_and_has_fallen_silent_is_waited_for_since_nobody_knows_what_it_keeps() {
    assert!(waits_for_the_silent(false) && !waits_for_the_silent(true));
    let _armed = arm_mutant("silent-leaver-not-waited-for");
    assert!(!waits_for_the_silent(false));
}

/// Takes every step there is until none is left. No unit ever has a copy less, or twice on a member.
fn run(mut state: ClusterState) -> ClusterState {
    loop {
        let found = steps(&state, &All);
        if found.is_empty() {
            return state;
        }
        state = Change::Steps(found).after(&state, RequestId(0)).unwrap();
        let under_way: usize = state.classes.iter().map(|class| class.moves.len()).sum();
        assert!(under_way <= limits::MOVES_MAX);
        for unit in state.units() {
            let owners: BTreeSet<&NodeId> = state.owners(unit).iter().collect();
            assert_eq!(owners.len(), 3, "{unit}");
        }
        assert!(state.epoch.0 < 1000, "the plan does not end");
    }
}

fn commit(state: &ClusterState) -> ClusterState {
    let draft = draft(state);
    assert_eq!(draft.reasons, Vec::<String>::new());
    plan(state, PlanChange::Commit(draft.hash)).unwrap()
}

fn copies(state: &ClusterState, id: NodeId) -> usize {
    state.classes[0].owners.iter().flatten().filter(|owner| **owner == id).count()
}

#[test]
fn a_member_joins_gets_its_share_and_leaves_again() {
    let three = admit(&state(3, 1), "n4");
    let four = run(commit(&staged(&three, StageOrder::Join(name("n4")))));
    assert_eq!(four.topology.plan, None);
    assert_eq!(copies(&four, NodeId(4)), 48, "a quarter of 64 times 3");
    assert!(four.ring.contains(&NodeId(4)));
    let left = run(commit(&staged(&four, StageOrder::Leave(name("n4")))));
    assert_eq!(copies(&left, NodeId(4)), 0);
    assert_eq!(left.member(NodeId(4)), None);
    assert_eq!(left.topology.gone, [(NodeId(4), Nonce(77))]);
    assert!(!left.ring.contains(&NodeId(4)));
}

#[test]
fn a_replacement_moves_what_was_the_others_and_nothing_else() {
    let three = admit(&state(3, 1), "n4");
    let order = StageOrder::Replace { old: name("n2"), new: name("n4") };
    let committed = commit(&staged(&three, order));
    let planned = &committed.topology.plan.as_ref().unwrap().queue;
    assert_eq!(planned.len(), 64, "each unit had a copy on n2");
    let done = run(committed);
    assert_eq!(done.member(NodeId(2)), None);
    assert_eq!(copies(&done, NodeId(4)), 64);
    assert!(!done.council.contains(&NodeId(2)));
}

#[test]
fn a_plan_that_breaks_n_is_refused_with_the_reason() {
    let state = staged(&state(3, 1), StageOrder::Leave(name("n2")));
    let draft = draft(&state);
    let reason = draft.reasons.join("; ");
    assert!(reason.contains("3 copies need 3 members") && reason.contains("default"), "{reason}");
    let error = plan(&state, PlanChange::Commit(draft.hash)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanInvalid);
}

#[test]
fn a_plan_is_committed_by_the_hash_of_its_inputs() {
    let three = admit(&state(3, 1), "n4");
    let one = staged(&three, StageOrder::Join(name("n4")));
    let hash = draft(&one).hash;
    let set = StageOrder::Set { member: name("n1"), weight_milli: Some(500), zone: None };
    let other = staged(&one, set);
    assert_ne!(draft(&other).hash, hash);
    let error = plan(&other, PlanChange::Commit(hash)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanConflict);
    // Who proposes on top of other changes that it does not depend on is not disturbed.
    let mut later = one.clone();
    later.epoch = Epoch(9);
    later.members[0].addresses.peer = "elsewhere:1".to_owned();
    assert_eq!(draft(&later).hash, hash);
    let running = plan(&later, PlanChange::Commit(hash)).unwrap();
    let error = plan(&running, PlanChange::Commit(hash)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PlanConflict);
}

#[test]
fn staging_again_replaces_what_was_staged_for_the_member() {
    let four = admit(&state(3, 1), "n4");
    let joins = staged(&four, StageOrder::Join(name("n4")));
    let replaces = staged(&joins, StageOrder::Replace { old: name("n1"), new: name("n4") });
    let expected = Staged::Replace { old: NodeId(1), new: NodeId(4) };
    assert_eq!(replaces.topology.staged, [expected]);
    let zone = Zone::try_from("b".to_owned()).unwrap();
    let set = StageOrder::Set { member: name("n4"), weight_milli: None, zone: Some(zone) };
    assert_eq!(staged(&replaces, set).topology.staged.len(), 2);
    let refused = |order| plan(&four, PlanChange::Stage(order)).unwrap_err().code;
    assert_eq!(refused(StageOrder::Join(name("n1"))), ErrorCode::PlanInvalid);
    assert_eq!(refused(StageOrder::Leave(name("n9"))), ErrorCode::MemberUnknown);
    let nothing = StageOrder::Set { member: name("n1"), weight_milli: None, zone: None };
    assert_eq!(refused(nothing), ErrorCode::PlanInvalid);
    assert_eq!(plan(&joins, PlanChange::Clear).unwrap().topology.staged, []);
}

#[test]
fn a_paused_plan_begins_nothing_and_a_rollback_brings_everything_back() {
    let three = admit(&more_than_move_at_once(), "n4");
    let mut state = commit(&staged(&three, StageOrder::Join(name("n4"))));
    for _ in 0..5 {
        state = Change::Steps(steps(&state, &All)).after(&state, RequestId(0)).unwrap();
    }
    let paused = plan(&state, PlanChange::Pause).unwrap();
    assert!(plan(&paused, PlanChange::Pause).is_err());
    let begins = |state: &ClusterState| {
        let found = steps(state, &All);
        found.iter().filter(|step| matches!(step.kind, StepKind::Begin(_))).count()
    };
    assert_eq!(begins(&paused), 0);
    assert!(begins(&run_one(&paused)) == 0);
    let back = run(plan(&paused, PlanChange::RollBack).unwrap());
    assert_eq!(back.topology.plan, None);
    for (partition, owners) in (0..).zip(&three.classes[0].owners) {
        let unit = Unit { class: crate::types::ClassId(0), partition: Partition(partition) };
        assert!(is_same(back.owners(unit), owners), "{unit}");
    }
    assert_eq!(back.ring, three.ring);
    assert_eq!(back.member(NodeId(4)).map(|member| member.role), Some(Role::Reserved));
}

fn run_one(state: &ClusterState) -> ClusterState {
    Change::Steps(steps(state, &All)).after(state, RequestId(0)).unwrap()
}

/// A fifth and a sixth member, and a plan that gives the fifth its share.
fn joining() -> ClusterState {
    let state = admit(&admit(&state(4, 1), "n5"), "n6");
    let state = staged(&state, StageOrder::Join(name("n5")));
    plan(&state, PlanChange::Commit(draft(&state).hash)).unwrap()
}

fn retargeted(state: &ClusterState) -> Result<ClusterState, OpError> {
    plan(state, PlanChange::Retarget { old: name("n5"), new: name("n6") })
}

/// Carries out all that may be, until nothing is left.
fn carried_out(mut state: ClusterState) -> ClusterState {
    for _ in 0..1000 {
        let found = steps(&state, &All);
        if found.is_empty() {
            break;
        }
        state = Change::Steps(found).after(&state, RequestId(0)).unwrap();
    }
    state
}

#[test]
fn a_new_owner_that_died_before_it_was_read_gives_its_place_to_another_and_the_plan_goes_on() {
    let state = joining();
    let begun = Change::Steps(steps(&state, &All)).after(&state, RequestId(0)).unwrap();
    assert!(begun.classes[0].moves.iter().any(|moving| moving.other.contains(&NodeId(5))));
    let next = retargeted(&begun).unwrap();
    let plan = next.topology.plan.as_ref().unwrap();
    assert!(!plan.ring.contains(&NodeId(5)) && plan.ring.contains(&NodeId(6)));
    let done = carried_out(next);
    assert_eq!(done.topology.plan, None);
    let owns = |id: u32| done.classes[0].owners.iter().flatten().any(|known| known.0 == id);
    assert!(owns(6) && !owns(5));
    assert_eq!(done.member(NodeId(6)).unwrap().role, Role::Active);
    assert_eq!(done.member(NodeId(5)), None, "it goes with the plan");
    // Rolled back, both are what they were.
    let back = Change::Plan(PlanChange::RollBack);
    let back = carried_out(back.after(&retargeted(&begun).unwrap(), RequestId(0)).unwrap());
    assert_eq!(back.classes[0].owners, state.classes[0].owners);
    let roles = [5, 6].map(|id| back.member(NodeId(id)).unwrap().role);
    assert_eq!(roles, [Role::Reserved, Role::Reserved]);
}

#[test]
fn who_is_read_already_or_is_elsewhere_gives_its_place_to_nobody() {
    let state = joining();
    let refused = |state: &ClusterState| retargeted(state).unwrap_err().message;
    let mut read = state.clone();
    read.classes[0].owners[3][0] = NodeId(5);
    assert!(refused(&read).contains("are read already"));
    {
        let _armed = arm_mutant("retarget-owner");
        assert!(retargeted(&read).is_ok());
    }
    let mut elsewhere = state.clone();
    elsewhere.members[5].zone = Zone::try_from("far".to_owned()).unwrap();
    assert!(refused(&elsewhere).contains("zone"));
    let mut idle = state.clone();
    idle.topology.plan = None;
    assert!(refused(&idle).contains("no plan"));
    let active = plan(&state, PlanChange::Retarget { old: name("n5"), new: name("n1") });
    assert!(active.unwrap_err().message.contains("reserved"));
    let other = plan(&state, PlanChange::Retarget { old: name("n1"), new: name("n6") });
    assert!(other.unwrap_err().message.contains("are read already"));
}

/// One member is gone for good: it says nothing, and has been given up.
struct GivenUp(NodeId);

impl Heard for GivenUp {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        if member == self.0 { Epoch(0) } else { Epoch(u64::MAX) }
    }
    fn is_complete(&self, member: NodeId, _: Unit, _: Epoch) -> bool {
        member != self.0
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, member: NodeId) -> bool {
        member != self.0
    }
    fn is_down(&self, member: NodeId) -> bool {
        member == self.0
    }
    fn is_long_down(&self, member: NodeId) -> bool {
        member == self.0
    }
    fn lacks(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        false
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn has_custody(&self, _: NodeId) -> bool {
        false
    }
}

/// Rolls a plan back that is all but over, when n2 has gone for good: before a unit is on its way back, or
/// after that.
fn rolled_back_without_n2(on_their_way: bool) -> ClusterState {
    let three = admit(&more_than_move_at_once(), "n4");
    let mut state = commit(&staged(&three, StageOrder::Join(name("n4"))));
    let is_done = |state: &ClusterState| {
        let plan = state.topology.plan.as_ref().unwrap();
        plan.queue.is_empty() && state.classes[0].moves.is_empty()
    };
    while !is_done(&state) {
        state = run_one(&state);
    }
    let left = three.units().filter(|unit| !state.owners(*unit).contains(&NodeId(2))).count();
    assert_eq!(left, 33);
    state = plan(&state, PlanChange::RollBack).unwrap();
    if on_their_way {
        state = run_one(&state);
        assert_eq!(state.classes[0].moves.len(), limits::MOVES_MAX);
    }
    loop {
        let found = steps(&state, &GivenUp(NodeId(2)));
        if found.is_empty() {
            return state;
        }
        state = Change::Steps(found).after(&state, RequestId(0)).unwrap();
        assert!(state.epoch.0 < 1000, "the rollback does not end");
    }
}

#[test]
fn a_rollback_ends_although_a_former_owner_is_gone_for_good() {
    for on_their_way in [false, true] {
        let back = rolled_back_without_n2(on_their_way);
        assert_eq!(back.topology.plan, None);
        assert!(back.classes[0].moves.is_empty());
        let stayed = back.units().filter(|unit| !back.owners(*unit).contains(&NodeId(2)));
        let stayed: Vec<Unit> = stayed.collect();
        assert!(stayed.iter().all(|unit| back.owners(*unit).contains(&NodeId(4))));
        assert_eq!((stayed.len(), copies(&back, NodeId(4))), (33, 33));
        let role = back.member(NodeId(4)).map(|member| member.role);
        assert_eq!(role, Some(Role::Active), "it owns what could not go back");
        assert_eq!(back.ring, more_than_move_at_once().ring);
    }
}

/// What is left of a plan that gave n4 the units of n3, when n3 is back before the first has moved and is given
/// them instead of n4.
fn queue_of_nothing() -> ClusterState {
    let four = admit(&state(3, 1), "n4");
    let (old, new) = (name("n3"), name("n4"));
    let mut next = commit(&staged(&four, StageOrder::Replace { old, new }));
    // Whom the orchestrator relieves is a reserved member at once, with all that it owns.
    next.members.iter_mut().find(|member| member.id == NodeId(3)).unwrap().role = Role::Reserved;
    retarget(&mut next, &name("n4"), &name("n3"), Role::Reserved).unwrap();
    let queue = &next.topology.plan.as_ref().unwrap().queue;
    assert!(!queue.is_empty());
    assert!(queue.iter().all(|planned| is_same(next.owners(planned.unit), &planned.to)));
    next
}

#[test]
fn a_plan_ends_whose_queued_units_are_where_it_wants_them() {
    let next = queue_of_nothing();
    let (ring, owners) = (next.ring.clone(), next.classes[0].owners.clone());
    let found = steps(&next, &All);
    let kinds: Vec<_> = found.iter().map(|step| step.kind.clone()).collect();
    assert_eq!(kinds, [StepKind::EndPlan]);
    let over = Change::Steps(found).after(&next, RequestId(0)).unwrap();
    assert_eq!(over.topology.plan, None);
    assert_eq!((&over.ring, &over.classes[0].owners), (&ring, &owners));
    let role = |id: u32| over.member(NodeId(id)).map(|member| member.role);
    assert_eq!((role(3), role(4)), (Some(Role::Active), Some(Role::Reserved)));
}

#[test]
fn a_plan_that_begins_what_has_nowhere_to_go_is_noticed() {
    let _armed = arm_mutant("queued-without-a-move");
    let next = queue_of_nothing();
    let found = steps(&next, &All);
    assert!(found.iter().all(|step| matches!(step.kind, StepKind::Begin(_))));
    assert!(
        Change::Steps(found).after(&next, RequestId(0)).is_err(),
        "nothing comes of it, for ever"
    );
}
