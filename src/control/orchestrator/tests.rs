//! The rules, case by case, and what their orders make of states.

use std::collections::BTreeMap;

use super::*;
use crate::control::schema::tests::state;
use crate::control::{Change, steps};
use crate::message::{PlanChange, StageOrder};
use crate::testing::arm_mutant;
use crate::types::{DecisionKind, Epoch, RequestId, Unit, Zone};

/// What a node has heard, of members that are all there but for these.
#[derive(Clone, Default)]
pub(super) struct World {
    /// Who is down, and who says that it has been for long.
    pub(super) down: BTreeMap<u32, Vec<u32>>,
    pub(super) suspected: Vec<u32>,
    /// Down for the grace time, and not for longer.
    fresh: Vec<u32>,
    idle: Vec<u32>,
    pub(super) rooms: BTreeMap<u32, Room>,
    /// Units of which nobody new is complete yet.
    unfilled: BTreeSet<Unit>,
    /// Who has mirrored how many units, and whose.
    mirrors: BTreeMap<(u32, u32), u32>,
}

impl World {
    /// These are down, and these say so.
    pub(super) fn down(ids: &[u32], tellers: &[u32]) -> World {
        World { down: ids.iter().map(|id| (*id, tellers.to_vec())).collect(), ..World::default() }
    }
}

impl Heard for World {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        Epoch(if self.is_up(member) { u64::MAX } else { 0 })
    }
    fn is_complete(&self, member: NodeId, unit: Unit, _: Epoch) -> bool {
        self.is_up(member) && !self.unfilled.contains(&unit)
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, member: NodeId) -> bool {
        let (id, down) = (member.0, self.is_down(member));
        !down && !self.suspected.contains(&id) && !self.idle.contains(&id)
    }
    fn is_down(&self, member: NodeId) -> bool {
        self.down.contains_key(&member.0) && !self.suspected.contains(&member.0)
    }
    fn lacks(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        false
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_long_down(&self, member: NodeId) -> bool {
        self.is_down(member)
    }
    fn has_custody(&self, _: NodeId) -> bool {
        false
    }
}

impl Watched for World {
    fn me(&self) -> NodeId {
        NodeId(1)
    }
    fn says_down(&self, teller: NodeId, member: NodeId) -> bool {
        self.down.get(&member.0).is_some_and(|tellers| tellers.contains(&teller.0))
    }
    fn overdue(&self, member: NodeId) -> bool {
        !self.fresh.contains(&member.0)
    }
    fn idles(&self, member: NodeId) -> bool {
        self.idle.contains(&member.0)
    }
    fn room(&self, member: NodeId) -> Room {
        self.rooms.get(&member.0).copied().unwrap_or_default()
    }
    fn mirrors(&self, member: NodeId, of: NodeId) -> u32 {
        self.mirrors.get(&(member.0, of.0)).copied().unwrap_or_default()
    }
}

/// So many members over three zones, of which the last are reserved, in these zones.
pub(super) fn cluster(active: u32, reserved: &[&str]) -> ClusterState {
    let mut state = state(usize::try_from(active).unwrap(), 3);
    for (place, zone) in (1u32..).zip(reserved) {
        let id = NodeId(active + place);
        state.members.push(Member {
            id,
            name: format!("n{}", id.0).parse().unwrap(),
            zone: Zone::try_from((*zone).to_owned()).unwrap(),
            role: Role::Reserved,
            birth: crate::types::Nonce(u128::from(id.0)),
            ..state.members[0].clone()
        });
        state.topology.member_id_max = id;
    }
    state
}

/// What an outlook comes to: the order with whom for whom, else the kinds of alarms.
fn told(outlook: &Outlook) -> String {
    let by = |by: Option<NodeId>| by.map_or("-".to_owned(), |by| by.0.to_string());
    match &outlook.order {
        Some(order) => {
            let pair = |relief: &Relief| format!(" {}>{}", relief.member.0, by(relief.by));
            format!("{:?}{}", order.kind, order.reliefs.iter().map(pair).collect::<String>())
        }
        None => {
            let kinds = outlook.alarms.iter().map(|alarm| alarm.kind.as_str());
            kinds.collect::<Vec<_>>().join(" ")
        }
    }
}

pub(super) fn room(used: u64, free: u64) -> Room {
    Room { used, free: Some(free) }
}

#[test]
fn who_is_down_for_good_is_replaced_and_nobody_else() {
    let most = &[1, 3, 4, 5][..];
    let mut suspected = World::down(&[2], most);
    suspected.suspected = vec![2];
    let idle = World { idle: vec![2], ..World::default() };
    let fresh = World { fresh: vec![2], ..World::down(&[2], &[1, 3]) };
    let mut full = World::down(&[2], most);
    full.rooms = BTreeMap::from([(2, room(100, 0)), (6, room(0, 99))]);
    let mut fuller = full.clone();
    fuller.rooms.insert(3, room(70, 20));
    let mut lighter = World::down(&[2], most);
    lighter.rooms = BTreeMap::from([(6, room(9, 900)), (7, room(8, 900))]);
    let cases: Vec<(&str, u32, &[&str], World, &str)> = vec![
        ("all are there", 5, &["z1"], World::default(), ""),
        ("a majority says so", 5, &["z1"], World::down(&[2], most), "Relieve 2>6"),
        ("half of six do", 5, &["z1"], World::down(&[2], &[1, 3, 4]), "no-majority"),
        ("others have yet to tell", 5, &["z1"], fresh, ""),
        ("not in the proposer's eyes", 5, &["z1"], World::down(&[2], &[3, 4, 5, 6]), ""),
        ("it is suspected again: it was heard", 5, &["z1"], suspected, ""),
        ("it answers, and does not serve", 5, &["z1"], idle, "not-serving"),
        ("a reserve that is down is none", 5, &["z1"], World::down(&[2, 6], most), "Relieve 2>-"),
        ("its zone comes first", 5, &["z0", "z1"], World::down(&[2], most), "Relieve 2>7"),
        ("another zone is better than none", 5, &["z0"], World::down(&[2], most), "Relieve 2>6"),
        ("the least loaded of a zone", 5, &["z1", "z1"], lighter, "Relieve 2>7"),
        ("a reserve without room is none", 5, &["z1"], full, "Relieve 2>-"),
        ("nor do the others have it", 5, &["z1"], fuller, "no-reserve"),
        ("no reserve, members enough", 5, &[], World::down(&[2], most), "Relieve 2>-"),
        ("no reserve, too few members", 3, &[], World::down(&[2], &[1, 3]), "no-reserve"),
        ("no reserve, a zone would be gone", 4, &[], World::down(&[2], &[1, 3, 4]), "no-reserve"),
        ("two of one zone", 5, &["z1", "z1"], World::down(&[2, 5], &[1, 3, 4, 6]), "Relieve 2>6"),
        ("two of two", 6, &["z1", "z2"], World::down(&[2, 3], &[1, 4, 5, 6, 7]), "Relieve 2>7 3>8"),
    ];
    for (what, active, reserved, world, expected) in cases {
        let outlook = look(&cluster(active, reserved), &world);
        assert_eq!(told(&outlook), expected, "{what}: {outlook:?}");
    }
}

#[test]
fn of_a_zone_the_one_that_has_mirrored_most_comes_first() {
    let mut world = World::down(&[2], &[1, 3, 4, 5, 6, 7, 8]);
    world.rooms = BTreeMap::from([(6, room(1, 900)), (7, room(9, 900)), (8, room(9, 900))]);
    assert_eq!(told(&look(&cluster(5, &["z1", "z1", "z0"]), &world)), "Relieve 2>6");
    world.mirrors = BTreeMap::from([((7, 2), 5), ((6, 2), 4), ((6, 3), 90), ((8, 2), 99)]);
    assert_eq!(told(&look(&cluster(5, &["z1", "z1", "z0"]), &world)), "Relieve 2>7");
    assert_eq!(told(&look(&cluster(5, &["z0", "z0", "z2"]), &world)), "Relieve 2>8");
}

#[test]
fn each_rule_is_missed_when_it_is_broken() {
    let six = cluster(5, &["z1", "z1"]);
    let few = World::down(&[2], &[1, 3]);
    let mut back = World::down(&[2], &[1, 3, 4, 5, 6]);
    back.suspected = vec![2];
    let both = World::down(&[2, 5], &[1, 3, 4, 6]);
    let suspected = World { suspected: vec![2], ..World::default() };
    for (planted, world, right, wrong) in [
        ("orchestrator-without-majority", &few, "no-majority", "Relieve 2>6"),
        ("orchestrator-replaces-returned", &back, "", "Relieve 2>6"),
        ("orchestrator-two-in-a-zone", &both, "Relieve 2>6", "Relieve 2>6 5>7"),
        ("orchestrator-replaces-suspected", &suspected, "", "Relieve 2>6"),
    ] {
        assert_eq!(told(&look(&six, world)), right, "{planted}");
        let _armed = arm_mutant(planted);
        assert_eq!(told(&look(&six, world)), wrong, "{planted}");
    }
}

/// Does all that the rules and steps want, until nothing is left.
pub(super) fn settle(mut state: ClusterState, world: &World) -> ClusterState {
    for _ in 0..500 {
        let change = match look(&state, world).order {
            Some(order) => Change::Orchestrate(order),
            None => match steps(&state, world) {
                found if found.is_empty() => return state,
                found => Change::Steps(found),
            },
        };
        state = change.after(&state, RequestId(0)).unwrap();
        for unit in state.units() {
            let owners: BTreeSet<&NodeId> = state.owners(unit).iter().collect();
            assert_eq!(owners.len(), 3, "{unit}");
        }
    }
    panic!("it does not come to an end: {:?}", state.topology);
}

pub(super) fn copies(state: &ClusterState, id: u32) -> usize {
    state.classes[0].owners.iter().flatten().filter(|owner| owner.0 == id).count()
}

pub(super) fn role(state: &ClusterState, id: u32) -> Role {
    state.member(NodeId(id)).unwrap().role
}

fn stage(state: &ClusterState, order: StageOrder) -> ClusterState {
    Change::Plan(PlanChange::Stage(order)).after(state, RequestId(0)).unwrap()
}

fn commit(state: &ClusterState) -> ClusterState {
    let hash = crate::control::draft(state).hash;
    Change::Plan(PlanChange::Commit(hash)).after(state, RequestId(0)).unwrap()
}

#[test]
fn who_was_replaced_is_reserved_owns_nothing_and_needs_to_say_nothing() {
    let six = cluster(5, &["z1"]);
    let world = World::down(&[2], &[1, 3, 4, 5]);
    let done = settle(six.clone(), &world);
    assert_eq!((role(&done, 2), role(&done, 6)), (Role::Reserved, Role::Active));
    assert_eq!((copies(&done, 2), copies(&done, 6)), (0, copies(&six, 2)));
    assert!(done.topology.plan.is_none() && !done.ring.contains(&NodeId(2)));
    let at = done.relieved_at(NodeId(2)).unwrap();
    let decision = done.topology.decisions.last().unwrap();
    assert_eq!((decision.epoch, decision.kind), (at, DecisionKind::Replaced));
    assert!(decision.reason.contains("n6 is reserved, of its zone"), "{}", decision.reason);
    // It comes back, joins by an order of people, and has a place again.
    let joins = stage(&done, StageOrder::Join("n2".parse().unwrap()));
    let again = settle(commit(&joins), &World::default());
    assert!(copies(&again, 2) > 0 && again.relieved_at(NodeId(2)).is_none());
}

#[test]
fn without_a_reserve_the_others_take_the_units() {
    let done = settle(cluster(6, &[]), &World::down(&[2], &[1, 3, 4, 5, 6]));
    assert_eq!((role(&done, 2), copies(&done, 2)), (Role::Reserved, 0));
    assert_eq!(done.topology.decisions.last().unwrap().kind, DecisionKind::Spread);
}

#[test]
fn who_comes_back_before_anything_is_read_elsewhere_keeps_its_place() {
    let six = cluster(5, &["z1"]);
    let order = look(&six, &World::down(&[2], &[1, 3, 4, 5])).order.unwrap();
    let begun = Change::Orchestrate(order).after(&six, RequestId(0)).unwrap();
    assert_eq!(role(&begun, 2), Role::Reserved);
    let kept = settle(begun, &World::default());
    assert_eq!((role(&kept, 2), role(&kept, 6)), (Role::Active, Role::Reserved));
    assert_eq!(copies(&kept, 2), copies(&six, 2));
    assert!(kept.topology.relieved.is_empty());
}

#[test]
fn time_is_granted_anew_after_what_people_roll_back_and_not_after_a_decision() {
    use crate::control::is_rolled_back_by_people;
    let growing = commit(&stage(&cluster(5, &["z1"]), StageOrder::Join("n6".parse().unwrap())));
    let begins = steps(&growing, &World::default());
    let growing = Change::Steps(begins).after(&growing, RequestId(0)).unwrap();
    let people = Change::Plan(PlanChange::RollBack).after(&growing, RequestId(0)).unwrap();
    assert!(is_rolled_back_by_people(&people) && !is_rolled_back_by_people(&growing));
    let order = look(&growing, &World::down(&[6], &[1, 2, 3, 4, 5])).order.unwrap();
    assert_eq!(order.kind, OrderKind::RollBack);
    let decided = Change::Orchestrate(order).after(&growing, RequestId(0)).unwrap();
    assert!(!is_rolled_back_by_people(&decided));
    // What was decided about a plan of before says nothing of this one.
    let again = settle(decided, &World::default());
    let again = commit(&stage(&again, StageOrder::Join("n6".parse().unwrap())));
    let begins = steps(&again, &World::default());
    let again = Change::Steps(begins).after(&again, RequestId(0)).unwrap();
    let people = Change::Plan(PlanChange::RollBack).after(&again, RequestId(0)).unwrap();
    assert!(is_rolled_back_by_people(&people));
    let _armed = arm_mutant("orchestrator-waits-anew");
    let order = look(&growing, &World::down(&[6], &[1, 2, 3, 4, 5])).order.unwrap();
    let decided = Change::Orchestrate(order).after(&growing, RequestId(0)).unwrap();
    assert!(is_rolled_back_by_people(&decided), "the planted bug is not planted");
}

#[test]
fn growth_is_cut_short_and_goes_on_behind_the_replacement() {
    let seven = stage(&cluster(5, &["z1", "z1"]), StageOrder::Join("n7".parse().unwrap()));
    let mut growing = commit(&seven);
    let world = World::down(&[2], &[1, 3, 4, 5, 6, 7]);
    let outlook = look(&growing, &world);
    assert_eq!(told(&outlook), "CutShort 2>-");
    // Half of it is under way.
    let begins = steps(&growing, &World::default()).into_iter().take(5).collect();
    growing = Change::Steps(begins).after(&growing, RequestId(0)).unwrap();
    let done = settle(growing, &world);
    let kinds: Vec<DecisionKind> = done.topology.decisions.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [DecisionKind::CutShort, DecisionKind::Replaced]);
    assert_eq!((copies(&done, 2), role(&done, 6)), (0, Role::Active));
    assert!(copies(&done, 7) >= 20, "a third of its zone: {}", copies(&done, 7));
}

#[test]
fn a_paused_plan_is_left_to_people() {
    let seven = stage(&cluster(5, &["z1", "z1"]), StageOrder::Join("n7".parse().unwrap()));
    let paused = Change::Plan(PlanChange::Pause).after(&commit(&seven), RequestId(0)).unwrap();
    let outlook = look(&paused, &World::down(&[2], &[1, 3, 4, 5, 6, 7]));
    assert_eq!(told(&outlook), "plan-in-the-way");
}

#[test]
fn who_is_filled_and_dies_is_exchanged_or_the_plan_goes_back() {
    for (reserved, kind) in
        [(&["z1", "z1"][..], DecisionKind::Retargeted), (&["z1"][..], DecisionKind::RolledBack)]
    {
        let joins = stage(&cluster(5, reserved), StageOrder::Join("n6".parse().unwrap()));
        let mut growing = commit(&joins);
        let begins = steps(&growing, &World::default());
        growing = Change::Steps(begins).after(&growing, RequestId(0)).unwrap();
        let done = settle(growing, &World::down(&[6], &[1, 2, 3, 4, 5]));
        assert_eq!(done.topology.decisions.last().unwrap().kind, kind);
        assert_eq!((role(&done, 6), copies(&done, 6)), (Role::Reserved, 0), "{kind:?}");
        assert!(done.topology.plan.is_none());
    }
}

#[test]
fn a_plan_is_not_moved_back_to_the_dead_because_of_the_dead() {
    // Whoever takes the place of n2 dies as well.
    for (reserved, is_taken) in [(&["z1", "z2"][..], true), (&["z2"][..], false)] {
        let first = cluster(9, reserved);
        let order = look(&first, &crowded(&first, &[2])).order.unwrap();
        let by = order.reliefs[0].by.unwrap();
        let mut begun = Change::Orchestrate(order).after(&first, RequestId(0)).unwrap();
        let begins = steps(&begun, &crowded(&first, &[2]));
        begun = Change::Steps(begins).after(&begun, RequestId(0)).unwrap();
        let down = crowded(&begun, &[2, by.0]);
        {
            let _armed = arm_mutant("orchestrator-rolls-back-in-vain");
            let order = look(&begun, &down).order.unwrap();
            assert_eq!(order.kind, OrderKind::RollBack);
        }
        let done = settle(begun, &down);
        let active = done.members.iter().filter(|member| member.role == Role::Active).count();
        assert_eq!(active, 9, "{reserved:?}");
        if is_taken {
            assert!(done.topology.plan.is_none());
            assert_eq!((copies(&done, 2), copies(&done, by.0)), (0, 0));
            continue;
        }
        let kinds: Vec<_> = look(&done, &down).alarms.iter().map(|it| it.kind).collect();
        assert!(kinds.contains(&AlarmKind::NoReserve), "{kinds:?}");
        assert_eq!(done.topology.plan.as_ref().unwrap().status, PlanStatus::Running);
        // It is back, and so is the end of the plan.
        let done = settle(done, &crowded(&first, &[2]));
        assert!(done.topology.plan.is_none());
        assert_eq!((copies(&done, 2), role(&done, by.0)), (0, Role::Active));
    }
}

#[test]
fn an_order_of_another_epoch_is_not_made() {
    let mut six = cluster(5, &["z1"]);
    let order = look(&six, &World::down(&[2], &[1, 3, 4, 5])).order.unwrap();
    six.epoch = Epoch(9);
    let error = Change::Orchestrate(order).after(&six, RequestId(0)).unwrap_err();
    assert_eq!(error.code, crate::message::ErrorCode::PlanConflict);
}

/// These are down, and disks so full that only a reserved member can take a place.
fn crowded(state: &ClusterState, down: &[u32]) -> World {
    let active = state.members.iter().filter(|member| member.role == Role::Active);
    let rooms = active.map(|member| (member.id.0, room(79, 21))).collect();
    let all = state.members.iter().map(|member| member.id.0);
    let tellers: Vec<u32> = all.filter(|id| !down.contains(id)).collect();
    World { rooms, ..World::down(down, &tellers) }
}

#[test]
fn a_replacement_gives_nothing_to_another_one_that_is_down() {
    let (mut led_around, mut state) = (0, cluster(20, &["z0"]));
    for round in 0..24 {
        let active = state.members.iter().filter(|member| member.role == Role::Active);
        // The one who looks is there, and both are of one zone: what is left of it gets more.
        let zone = ["z0", "z1", "z2"][round % 3];
        let active = active.filter(|member| member.id.0 > 1 && member.zone.as_str() == zone);
        let active: Vec<u32> = active.map(|member| member.id.0).collect();
        let down = [round, round + 1].map(|place| active[place % active.len()]);
        let world = crowded(&state, &down);
        {
            let _armed = arm_mutant("orchestrator-fills-the-dead");
            let order = look(&state, &world).order.unwrap();
            let begun = Change::Orchestrate(order).after(&state, RequestId(0)).unwrap();
            let plan = begun.topology.plan.as_ref().unwrap();
            let is_given = |id: &u32| waits_for(&begun, plan, NodeId(*id));
            led_around += u32::from(down.iter().any(is_given));
        }
        let count = state.topology.decisions.len();
        let done = settle(state.clone(), &world);
        let kinds: Vec<_> = done.topology.decisions[count..].iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [DecisionKind::Replaced], "{down:?}");
        let left = down.into_iter().find(|id| role(&done, *id) == Role::Active).unwrap();
        for unit in state.units().filter(|unit| done.owners(*unit).contains(&NodeId(left))) {
            assert!(state.owners(unit).contains(&NodeId(left)), "{unit} goes to n{left}");
        }
        // All come back.
        state = settle(done, &crowded(&state, &[]));
    }
    assert!(led_around > 3, "the claim gave units to members that are down {led_around} times");
}

/// n2 is replaced by n10; n3 dies before the units that both own are filled, for which one source is too few.
fn standing_still() -> (ClusterState, World) {
    let first = cluster(9, &["z1", "z2"]);
    let order = look(&first, &World::down(&[2], &[1, 3, 4, 5, 6, 7])).order.unwrap();
    let both = first
        .units()
        .filter(|unit| [2, 3].iter().all(|id| first.owners(*unit).contains(&NodeId(*id))));
    let unfilled: BTreeSet<Unit> = both.collect();
    assert!(!unfilled.is_empty());
    let world = World { unfilled, ..World::down(&[2, 3], &[1, 4, 5, 6, 7, 8]) };
    let state = Change::Orchestrate(order).after(&first, RequestId(0)).unwrap();
    (state, world)
}

#[test]
fn a_plan_that_waits_for_the_dead_holds_no_other_replacement_up() {
    let (state, world) = standing_still();
    let before = look(&state, &world);
    assert_eq!(before.order, None, "what can go on comes first");
    {
        let _armed = arm_mutant("orchestrator-waits-for-ever");
        let waits = settle(state.clone(), &world);
        assert_eq!((role(&waits, 3), role(&waits, 11)), (Role::Active, Role::Reserved));
        let kinds: Vec<_> = look(&waits, &world).alarms.iter().map(|alarm| alarm.kind).collect();
        assert_eq!(kinds, [AlarmKind::NoSource, AlarmKind::NoSource], "both would help");
    }
    let joined = settle(state.clone(), &world);
    let plan = joined.topology.plan.as_ref().expect("what nobody can fill is waited for");
    assert_eq!(plan.hash, state.topology.plan.as_ref().unwrap().hash);
    assert!(plan.queue.is_empty() && plan.total as usize == plan.begun.len());
    assert_eq!((role(&joined, 3), role(&joined, 11)), (Role::Reserved, Role::Active));
    for unit in joined.units().filter(|unit| !world.unfilled.contains(unit)) {
        let dead = [2, 3].iter().any(|id| joined.owners(unit).contains(&NodeId(*id)));
        assert!(!dead, "{unit} is still owned by {:?}", joined.owners(unit));
    }
    // One of them is enough for all, and nobody is left out.
    let done = settle(joined, &World::down(&[3], &[1, 4, 5, 6, 7, 8]));
    assert!(done.topology.plan.is_none());
    assert_eq!((copies(&done, 2), copies(&done, 3)), (0, 0));
    assert!(copies(&done, 10) > 0 && copies(&done, 11) > 0);
}

#[test]
fn a_joined_plan_is_rolled_back_as_a_whole() {
    let (state, world) = standing_still();
    let joined = settle(state, &world);
    let back = Change::Plan(PlanChange::RollBack).after(&joined, RequestId(0)).unwrap();
    let done = settle(back, &World::default());
    let first = cluster(9, &["z1", "z2"]);
    assert!(done.topology.plan.is_none());
    for unit in first.units() {
        let (now, then) = (done.owners(unit), first.owners(unit));
        assert!(crate::control::moves::is_same(now, then), "{unit}: {now:?}, not {then:?}");
    }
    assert_eq!([2, 3, 10, 11].map(|id| role(&done, id)), {
        [Role::Active, Role::Active, Role::Reserved, Role::Reserved]
    });
}
