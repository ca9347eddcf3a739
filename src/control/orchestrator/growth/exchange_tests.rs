//! Exchanges case by case, planted bugs that break them, and generated loads over many days.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{HOUR, Loads, even, rules};
use super::*;
use crate::control::orchestrator::tests::{World, cluster, copies, room, settle};
use crate::control::{Change, schema};
use crate::message::{PlanChange, ProposalRecord, StageOrder};
use crate::testing::arm_mutant;
use crate::types::{DecisionKind, RequestId, Unit, Zone, limits};

/// What each unit's copies are asked for, by partition; the rest have `usual`.
#[derive(Clone, Debug)]
struct Units {
    usual: u32,
    hot: BTreeMap<u16, u32>,
}

impl Units {
    fn rate(&self, unit: Unit) -> u32 {
        self.hot.get(&unit.partition.0).copied().unwrap_or(self.usual)
    }

    /// What members tell of it.
    fn told(&self, state: &ClusterState) -> Loads {
        let mut loads = even(state.members.len(), 500);
        for member in active(state) {
            let mut units: Vec<(Unit, u32)> = state
                .units()
                .filter(|unit| state.owners(*unit).contains(&member.id))
                .map(|unit| (unit, self.rate(unit)))
                .collect();
            units.sort_by_key(|(unit, rate)| (core::cmp::Reverse(*rate), *unit));
            let all = units.iter().map(|(_, rate)| rate).sum();
            units.truncate(limits::WORK_NEWS_MAX);
            loads.works.insert(member.id.0, WorkNews { all, hottest: units, written: 0 });
        }
        loads
    }

    /// The most that a member has to do, for each thousand of the mean.
    fn most(&self, state: &ClusterState) -> u64 {
        let work = |id: NodeId| {
            let owned = state.units().filter(|unit| state.owners(*unit).contains(&id));
            owned.map(|unit| u64::from(self.rate(unit))).sum::<u64>() * 1000
                / copies(state, id.0) as u64
        };
        let all: u64 = state.units().map(|unit| 3 * u64::from(self.rate(unit))).sum();
        let mean = all * 1000 / (3 * state.units().count() as u64);
        active(state).map(|member| work(member.id)).max().unwrap() * 1000 / mean
    }
}

/// A few units of which n1 owns all are hot.
fn uneven(state: &ClusterState, count: usize) -> Units {
    let of_first = state.units().filter(|unit| state.owners(*unit).contains(&NodeId(1)));
    let hot = of_first.take(count).map(|unit| (unit.partition.0, 300)).collect();
    Units { usual: 3, hot }
}

/// Members, owners and zones are as sound as they were.
fn sound(before: &ClusterState, after: &ClusterState) -> bool {
    let zones = |state: &ClusterState, unit: Unit| {
        let of = |id: &NodeId| state.member(*id).map(|it| it.zone.clone());
        state.owners(unit).iter().map(of).collect::<BTreeSet<Option<Zone>>>().len()
    };
    let distinct = |unit: Unit| after.owners(unit).iter().collect::<BTreeSet<_>>().len() == 3;
    after.units().all(|unit| distinct(unit) && zones(after, unit) >= zones(before, unit))
        && active(before).all(|it| copies(before, it.id.0) == copies(after, it.id.0))
}

fn carried_out(state: &ClusterState, loads: &Loads, wish: Wish) -> ClusterState {
    let proposal = propose(state, loads, &rules(), wish).unwrap();
    assert!(proposal.is_feasible());
    let order = Change::Orchestrate(proposal.order(state));
    let begun = order.after(state, RequestId(0)).unwrap();
    assert_eq!(begun.topology.plan.as_ref().unwrap().hash, proposal.draft.hash);
    settle(begun, &loads.world)
}

#[test]
fn a_busy_member_exchanges_hot_units_for_cool_ones_of_its_zone() {
    let state = cluster(9, &["z0"]);
    let units = uneven(&state, 4);
    let loads = units.told(&state);
    let wish = exchange(&state, &loads).unwrap();
    assert_eq!((wish.turn, wish.members[0]), (Turn::Exchange, NodeId(1)));
    assert!(wish.swaps.len() <= 2 * limits::EXCHANGE_AT_ONCE, "{}", wish.swaps.len());
    let after_milli = u64::from(wish.after_milli);
    let first = propose(&state, &loads, &rules(), wish.clone()).unwrap().order(&state);
    let done = carried_out(&state, &loads, wish);
    assert!(sound(&state, &done) && done.ring == state.ring);
    let (before, after) = (units.most(&state), units.most(&done));
    assert!(after < before && after.abs_diff(after_milli) <= 10, "{before} {after} {after_milli}");
    let decision = done.topology.decisions.last().unwrap();
    assert_eq!((decision.kind, decision.subject), (DecisionKind::Exchanged, NodeId(1)));
    // Owners that are not those of the state are not taken over, whatever the order says.
    let again = Change::Orchestrate(Order { epoch: done.epoch, ..first.clone() });
    let refused = again.after(&done, RequestId(0)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PlanConflict);
    // What it is done on top of has changed: it is not done twice.
    let order = propose(&state, &loads, &rules(), exchange(&state, &loads).unwrap()).unwrap();
    let late = Change::Orchestrate(order.order(&state)).after(&done, RequestId(0));
    assert_eq!(late.unwrap_err().code, ErrorCode::PlanConflict);
}

#[test]
fn what_stands_in_the_way_of_an_exchange() {
    let state = cluster(9, &["z0"]);
    let units = uneven(&state, 4);
    let due = |state: &ClusterState, loads: &Loads| exchange(state, loads).is_some();
    let well = units.told(&state);
    assert!(due(&state, &well));
    let mut down = well.clone();
    down.world = World::down(&[7], &[1]);
    assert!(!due(&state, &down), "somebody is down");
    let order = PlanChange::Stage(StageOrder::Join("n10".parse().unwrap()));
    let staged = Change::Plan(order).after(&state, RequestId(0)).unwrap();
    assert!(!due(&staged, &well), "something is staged");
    let mut silent = well.clone();
    silent.works.remove(&5);
    assert!(!due(&state, &silent), "a member has not told");
    let proposals = ProposalRecord { exchanged: HOUR - 23, ..Default::default() };
    assert!(!due(&state, &well.clone().with(|load| load.proposals = proposals)), "it was today");
    assert!(!due(&state, &well.clone().resized(HOUR - 23, 0)), "it has grown today");
    let yesterday = ProposalRecord { exchanged: HOUR - 24, ..Default::default() };
    assert!(due(&state, &well.clone().with(|load| load.proposals = yesterday)));
    let mut full = well.clone();
    full.world.rooms = (2..=9).map(|id| (id, room(80, 20))).collect();
    assert!(!due(&state, &full), "the others' disks have no room");
    let idle = Units { usual: 0, hot: units.hot.keys().map(|unit| (*unit, 20)).collect() };
    assert!(!due(&state, &idle.told(&state)), "so little is not worth it");
    assert!(!due(&state, &Units { usual: 90, hot: BTreeMap::new() }.told(&state)), "it is even");
    let one = Units { usual: 3, ..uneven(&state, 1) };
    assert!(!due(&state, &one.told(&state)), "one hot unit would only move the heat");
    {
        let _armed = arm_mutant("exchange-for-ever");
        assert!(due(&state, &well.clone().resized(HOUR, 0)), "the planted bug");
    }
    let _armed = arm_mutant("exchange-while-down");
    assert!(due(&state, &down), "the planted bug");
}

#[test]
fn copies_never_share_a_zone_by_an_exchange() {
    // Five zones: a copy may go to another zone, if none of the others is there.
    let state = schema::tests::state(10, 5);
    let mixed = |state: &ClusterState| {
        let zones = |unit: Unit| {
            let of = |id: &NodeId| state.member(*id).map(|it| it.zone.clone());
            state.owners(unit).iter().map(of).collect::<BTreeSet<_>>().len()
        };
        state.units().all(|unit| zones(unit) == 3)
    };
    assert!(mixed(&state));
    let all_mixed = || {
        let of = |id: u32| {
            let owned = state.units().filter(|unit| state.owners(*unit).contains(&NodeId(id)));
            let hot = owned.take(6).map(|unit| (unit.partition.0, 300)).collect();
            let loads = Units { usual: 3, hot }.told(&state);
            exchange(&state, &loads).is_none_or(|it| mixed(&carried_out(&state, &loads, it)))
        };
        (1..=10).all(of)
    };
    assert!(all_mixed());
    let _armed = arm_mutant("exchange-across-zones");
    assert!(!all_mixed(), "the planted bug");
}

#[test]
fn what_an_operator_puts_aside_is_not_proposed_for_a_week() {
    let state = cluster(9, &[]);
    let loads = uneven(&state, 4).told(&state);
    let wish = exchange(&state, &loads).unwrap();
    let aside = |about, hour| {
        let dismissed = [(0, 0), (hour, about)];
        loads.clone().with(|it| it.proposals = ProposalRecord { dismissed, ..Default::default() })
    };
    assert!(!is_dismissed(&state, &loads, &wish));
    assert!(is_dismissed(&state, &aside(wish.about(), HOUR - 167), &wish));
    assert!(!is_dismissed(&state, &aside(wish.about(), HOUR - 168), &wish), "a week is over");
    let other = Wish { members: vec![NodeId(2)], ..wish.clone() };
    assert!(!is_dismissed(&state, &aside(wish.about(), HOUR), &other), "it is about another");
    let grown = Wish { turn: Turn::Grow, ..wish.clone() };
    assert_ne!(grown.about(), wish.about());
}

/// Days with loads that stay: what each of them ends with. `None`: something was not sound.
fn days(mut state: ClusterState, units: &Units, count: usize) -> Option<(Vec<u64>, usize)> {
    let (mut most, mut moves) = (vec![units.most(&state)], 0);
    for _ in 0..count {
        let loads = units.told(&state);
        let Some(wish) = exchange(&state, &loads) else { break };
        moves += wish.swaps.len();
        let done = carried_out(&state, &loads, wish);
        if !sound(&state, &done) {
            return None;
        }
        state = done;
        most.push(units.most(&state));
    }
    Some((most, moves))
}

fn any_units() -> impl Strategy<Value = Units> {
    let hot = prop::collection::btree_map(0u16..64, 50u32..3000, 0..12);
    (5u32..40, hot).prop_map(|(usual, hot)| Units { usual, hot })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_load_that_stays_is_followed_and_comes_to_rest(
        members in 4u32..13, units in any_units(),
    ) {
        let (most, moves) = days(cluster(members, &[]), &units, 30).unwrap();
        // Every exchange helps, and they end.
        prop_assert!(most.windows(2).all(|pair| pair[1] < pair[0]), "{most:?}");
        prop_assert!(most.len() < 30, "{most:?}");
        prop_assert!(moves <= 8 * (most.len() - 1), "{moves} {most:?}");
    }
}

#[test]
fn exchanges_without_gain_never_end() {
    let units = uneven(&cluster(9, &[]), 1);
    assert_eq!(days(cluster(9, &[]), &units, 30).unwrap().0.len(), 1);
    let _armed = arm_mutant("exchange-without-gain");
    let (most, _) = days(cluster(9, &[]), &units, 30).unwrap();
    assert!(most.len() == 31, "the planted bug: {most:?}");
}

#[test]
fn a_later_plan_keeps_what_was_exchanged_where_the_walk_stays() {
    let state = cluster(9, &["z0"]);
    let units = uneven(&state, 4);
    let loads = units.told(&state);
    let wish = exchange(&state, &loads).unwrap();
    let swapped: Vec<Unit> = wish.swaps.iter().map(|planned| planned.unit).collect();
    let done = carried_out(&state, &loads, wish);
    let kept = |after: &ClusterState| {
        let same = |unit: &&Unit| after.owners(**unit) == done.owners(**unit);
        swapped.iter().filter(same).count()
    };
    let joined = |state: &ClusterState| {
        let mut members = state.members.clone();
        members[9].role = Role::Active;
        let draft = plan::draft_of(state, (members, Vec::new()), &BTreeSet::new());
        assert!(draft.reasons.is_empty());
        let mut begun = state.clone();
        plan::begin(&mut begun, draft);
        settle(begun, &World::default())
    };
    // A plan that changes no member moves nothing.
    let nothing = plan::draft_of(&done, (done.members.clone(), Vec::new()), &BTreeSet::new());
    assert_eq!(nothing.moves, []);
    let after = joined(&done);
    assert!(kept(&after) * 2 > swapped.len(), "{} of {}", kept(&after), swapped.len());
    let _armed = arm_mutant("claim-forgets-exchange");
    let forgotten = joined(&done);
    assert!(kept(&forgotten) < kept(&after), "the planted bug");
}
