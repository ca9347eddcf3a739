//! The rules case by case, planted bugs that break them, and generated weeks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::control::orchestrator::tests::{World, cluster, copies, role, room, settle};
use crate::control::{Change, Heard, look};
use crate::message::{PlanChange, ResizeRecord, StageOrder};
use crate::testing::arm_mutant;
use crate::types::{DecisionKind, Epoch, RequestId, Unit};

pub(super) const HOUR: u32 = 490_000;

/// What was heard, with loads.
#[derive(Clone, Default)]
pub(super) struct Loads {
    pub(super) world: World,
    loads: BTreeMap<u32, LoadFacts>,
    pub(super) works: BTreeMap<u32, WorkNews>,
    hour: u32,
}

impl Loads {
    /// These members foresee these shares of the processor, in thousandths, and have seen four weeks.
    fn of(cpu: &[u32]) -> Loads {
        let load = |cpu_peak| LoadFacts { hours: 672, cpu_peak, quiet: true, ..Default::default() };
        let loads = (1..).zip(cpu).map(|(id, cpu)| (id, load(*cpu))).collect();
        Loads { loads, hour: HOUR, ..Loads::default() }
    }

    pub(super) fn with(mut self, change: impl Fn(&mut LoadFacts)) -> Loads {
        self.loads.values_mut().for_each(change);
        self
    }

    pub(super) fn resized(self, grown: u32, shrunk: u32) -> Loads {
        self.with(|load| load.resized = ResizeRecord { grown, shrunk })
    }
}

impl Heard for Loads {
    fn acknowledged(&self, member: NodeId) -> Epoch {
        self.world.acknowledged(member)
    }
    fn is_complete(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        self.world.is_complete(member, unit, entry)
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.world.lost()
    }
    fn is_up(&self, member: NodeId) -> bool {
        self.world.is_up(member)
    }
    fn is_down(&self, member: NodeId) -> bool {
        self.world.is_down(member)
    }
    fn lacks(&self, member: NodeId, unit: Unit, entry: Epoch) -> bool {
        self.world.lacks(member, unit, entry)
    }
    fn filled(&self) -> Vec<(NodeId, Unit, Epoch)> {
        self.world.filled()
    }
    fn has_custody(&self, member: NodeId) -> bool {
        self.world.has_custody(member)
    }
}

impl Watched for Loads {
    fn me(&self) -> NodeId {
        NodeId(1)
    }
    fn says_down(&self, teller: NodeId, member: NodeId) -> bool {
        self.world.says_down(teller, member)
    }
    fn overdue(&self, member: NodeId) -> bool {
        self.world.overdue(member)
    }
    fn idles(&self, member: NodeId) -> bool {
        self.world.idles(member)
    }
    fn mirrors(&self, _: NodeId, _: NodeId) -> u32 {
        0
    }
    fn room(&self, member: NodeId) -> crate::control::Room {
        self.world.room(member)
    }
}

impl Measured for Loads {
    fn load(&self, member: NodeId) -> Option<LoadFacts> {
        self.loads.get(&member.0).copied()
    }
    fn work(&self, member: NodeId) -> Option<WorkNews> {
        self.works.get(&member.0).cloned()
    }
    fn hour(&self) -> u32 {
        self.hour
    }
}

/// Of twenty members two hundredths of a per cent are gone at once: one is kept for failures.
pub(super) fn rules() -> GrowthRules {
    GrowthRules {
        above_milli: 700,
        below_milli: 300,
        operations: 0,
        hours_min: 24,
        failure_probability: 2.0 / 365.0,
        confidence: 0.99,
    }
}

/// The members of a wish, or nothing.
fn told(state: &ClusterState, loads: &Loads, rules: &GrowthRules) -> String {
    let Some(wish) = wish(state, loads, rules) else { return String::new() };
    let members = wish.members.iter().map(|id| format!(" {id}")).collect::<String>();
    let missing = if wish.missing > 0 { format!(" +{}", wish.missing) } else { String::new() };
    format!("{}{members}{missing}", wish.turn.as_str())
}

/// All of so many members, as busy as each other.
pub(super) fn even(count: usize, cpu: u32) -> Loads {
    Loads::of(&vec![cpu; count])
}

#[test]
fn what_the_figures_call_for() {
    let three = &["z0", "z1", "z2"][..];
    let ops = GrowthRules { operations: 1000, ..rules() };
    let mut disk = even(0, 0);
    disk.world.rooms = BTreeMap::from([(2, room(71, 29))]);
    let young = even(3, 900).with(|load| load.hours = 23);
    let mut full = young.clone();
    full.world.rooms = disk.world.rooms.clone();
    let mut down = even(3, 800);
    down.world = World::down(&[4, 5], &[1]);
    let mut missing = even(6, 100);
    missing.loads.remove(&6);
    let busy = even(3, 100).with(|load| load.ops_peak = 710);
    let cases: Vec<(&str, u32, &[&str], Loads, GrowthRules, &str)> = vec![
        ("nothing is known", 3, three, Loads::default(), rules(), ""),
        ("well used", 3, three, even(3, 700), rules(), ""),
        ("a little too busy", 3, three, even(3, 701), rules(), "grow 4 5"),
        ("one is enough", 5, three, even(5, 701), rules(), "grow 6 8 +1"),
        (
            "one busy member is enough",
            5,
            three,
            Loads::of(&[9, 9, 720, 9, 9]),
            rules(),
            "grow 6 8 +1",
        ),
        ("nobody is left for failures", 3, &["z0"], even(3, 900), rules(), "grow +3"),
        ("no reserve", 3, &[], even(3, 701), rules(), "grow +3"),
        ("reserved ones that are down are none", 3, three, down, rules(), "grow +2"),
        ("in the first day only disks count", 3, three, young, rules(), ""),
        ("and they do", 3, three, full, rules(), "grow 4 5"),
        ("a disk", 3, three, disk, rules(), "grow 4 5"),
        ("operations, where they are bounded", 3, three, busy.clone(), ops, "grow 4 5"),
        ("and not elsewhere", 3, three, busy, rules(), ""),
        ("it has grown today", 3, three, even(3, 900).resized(HOUR - 23, 0), rules(), ""),
        (
            "it has grown yesterday",
            3,
            three,
            even(3, 701).resized(HOUR - 24, 0),
            rules(),
            "grow 4 5",
        ),
        ("idle: who came last goes", 6, &[], even(6, 200), rules(), "shrink 6"),
        ("idle, of the largest zone", 7, &[], even(7, 200), rules(), "shrink 7"),
        ("not idle", 6, &[], even(6, 300), rules(), ""),
        ("it would be too much for the rest", 4, &[], Loads::of(&[299; 4]), rules(), "shrink 4"),
        ("n copies have n members", 3, &[], even(3, 10), rules(), ""),
        ("it has grown within the week", 6, &[], even(6, 10).resized(HOUR - 167, 0), rules(), ""),
        ("it has shrunk within the week", 6, &[], even(6, 10).resized(0, HOUR - 167), rules(), ""),
        ("a week ago", 6, &[], even(6, 10).resized(HOUR - 168, HOUR - 168), rules(), "shrink 6"),
        ("somebody has not said", 6, &[], missing, rules(), ""),
        ("a week was not seen", 6, &[], even(6, 10).with(|it| it.hours = 167), rules(), ""),
    ];
    for (what, active, reserved, loads, rules, expected) in cases {
        assert_eq!(told(&cluster(active, reserved), &loads, &rules), expected, "{what}");
    }
}

#[test]
fn a_zone_is_not_given_up() {
    // Two members in z0 and z1, and one in z2, which came last.
    let mut five = cluster(5, &[]);
    five.members[4].zone = five.members[2].zone.clone();
    five.members[2].zone = five.members[1].zone.clone();
    let (a, b): (&Member, &Member) = (&five.members[4], &five.members[2]);
    assert_ne!(a.zone, b.zone);
    assert_eq!(told(&five, &even(5, 10), &rules()), "shrink 4");
}

#[test]
fn the_reserve_stays_what_failures_ask_for() {
    let state = cluster(3, &["z0", "z1", "z2"]);
    let loads = even(3, 1500);
    assert_eq!(told(&state, &loads, &rules()), "grow 4 5 +2");
    let careless = GrowthRules { failure_probability: 0.0, ..rules() };
    assert_eq!(told(&state, &loads, &careless), "grow 4 5 6 +1");
    let _armed = arm_mutant("growth-ignores-reserve");
    assert_eq!(told(&state, &loads, &rules()), "grow 4 5 6 +2", "the planted bug");
}

#[test]
fn nothing_is_done_by_itself_while_something_stands_in_the_way() {
    let state = cluster(3, &["z0", "z1", "z2"]);
    let held =
        |state: &ClusterState, loads: &Loads, alarms| held_up(state, loads, &rules(), alarms);
    let well = even(3, 800);
    assert_eq!(held(&state, &well, 0), None);
    assert!(held(&state, &well, 1).unwrap().contains("alarm"));
    let mut down = well.clone();
    down.world = World::down(&[6], &[1]);
    assert!(held(&state, &down, 0).unwrap().contains("comes first"));
    let mut peak = well.clone();
    peak.loads.values_mut().take(2).for_each(|load| load.quiet = false);
    assert!(held(&state, &peak, 0).unwrap().contains("quiet"));
    let young = even(3, 800).with(|load| load.hours = 23);
    assert!(held(&state, &young, 0).unwrap().contains("too little"));
    let order = PlanChange::Stage(StageOrder::Join("n4".parse().unwrap()));
    let staged = Change::Plan(order).after(&state, RequestId(0)).unwrap();
    assert!(held(&staged, &well, 0).unwrap().contains("staged"));
    {
        let _armed = arm_mutant("growth-while-down");
        assert_eq!(held(&state, &down, 0), None, "the planted bug");
    }
    let _armed = arm_mutant("growth-at-the-peak");
    assert_eq!(held(&state, &peak, 0), None, "the planted bug");
}

fn proposal(state: &ClusterState, loads: &Loads) -> Option<Proposal> {
    propose(state, loads, &rules(), wish(state, loads, &rules())?)
}

#[test]
fn reserved_members_become_active_and_get_their_shares() {
    let state = cluster(3, &["z0", "z1", "z2"]);
    let loads = even(3, 800);
    let proposal = proposal(&state, &loads).unwrap();
    assert!(proposal.is_feasible() && proposal.after_milli <= 800, "{}", proposal.after_milli);
    let order = Change::Orchestrate(proposal.order(&state));
    let begun = order.after(&state, RequestId(0)).unwrap();
    assert_eq!(begun.topology.plan.as_ref().unwrap().hash, proposal.draft.hash);
    assert_eq!(begun.topology.decisions.last().unwrap().kind, DecisionKind::Grown);
    // Another proposal than the one that is carried out has to wait, and so has the same on another state.
    let later = Change::Orchestrate(proposal.order(&begun)).after(&begun, RequestId(0));
    assert_eq!(later.unwrap_err().code, ErrorCode::PlanConflict);
    let done = settle(begun, &loads.world);
    for id in [4, 5] {
        assert!(role(&done, id) == Role::Active && copies(&done, id) > 0, "{id}");
    }
    assert_eq!((role(&done, 6), copies(&done, 6)), (Role::Reserved, 0));
}

#[test]
fn an_active_member_is_reserved_again_and_owns_nothing() {
    let state = cluster(6, &[]);
    let loads = even(6, 200);
    let proposal = proposal(&state, &loads).unwrap();
    let begun = Change::Orchestrate(proposal.order(&state)).after(&state, RequestId(0)).unwrap();
    let done = settle(begun, &loads.world);
    assert_eq!((role(&done, 6), copies(&done, 6)), (Role::Reserved, 0));
    assert!(!done.ring.contains(&NodeId(6)) && done.topology.relieved.is_empty());
    assert_eq!(done.topology.decisions.last().unwrap().kind, DecisionKind::Shrunk);
    assert!(look(&done, &loads.world).order.is_none());
}

#[test]
fn a_growth_that_was_begun_can_be_rolled_back() {
    let state = cluster(3, &["z0", "z1", "z2"]);
    let loads = even(3, 800);
    let order = proposal(&state, &loads).unwrap().order(&state);
    let begun = Change::Orchestrate(order).after(&state, RequestId(0)).unwrap();
    let back = Change::Plan(PlanChange::RollBack).after(&begun, RequestId(0)).unwrap();
    let done = settle(back, &loads.world);
    assert_eq!((role(&done, 4), copies(&done, 4)), (Role::Reserved, 0));
}

#[test]
fn hashes_name_who_it_is_about_and_stay_while_nothing_changes() {
    let state = cluster(6, &["z0", "z1", "z2"]);
    let hash = |loads: &Loads| proposal(&state, loads).unwrap().draft.hash;
    let grows = hash(&even(6, 800));
    assert_eq!(grows, hash(&even(6, 801)));
    assert_ne!(grows, hash(&even(6, 100)));
    let mut later = state.clone();
    later.epoch = Epoch(77);
    assert_eq!(grows, proposal(&later, &even(6, 800)).unwrap().draft.hash);
}

/// What a year of hours comes to: each move, with its hour.
struct Year {
    moves: Vec<(u32, Turn)>,
    /// The fewest active members there were.
    least: usize,
}

/// Lets the rules act on a load that all active members share, hour by hour, for so many weeks.
fn live(weeks: u32, start: usize, total: impl Fn(u32) -> u32) -> Year {
    let mut active = start;
    let mut history = History::default();
    let (mut resized, mut year) =
        (ResizeRecord::default(), Year { moves: Vec::new(), least: start });
    for hour in HOUR..HOUR + weeks * WEEK {
        let each = total(hour) / u32::try_from(active).unwrap();
        let members = u16::try_from(active).unwrap();
        let sample = Sample { active: members, cpu_milli: each.min(1000), ..Sample::default() };
        history.note(hour, &sample);
        let load = LoadFacts {
            hours: history.len(),
            cpu_peak: history.foresee(members).cpu_milli,
            resized,
            ..LoadFacts::default()
        };
        let state = cluster(u32::try_from(active).unwrap(), &["z0", "z1", "z2", "z0", "z1", "z2"]);
        let ids = state.members.iter().map(|member| (member.id.0, load));
        let loads = Loads { loads: ids.collect(), hour, ..Loads::default() };
        let Some(wish) = wish(&state, &loads, &rules()) else { continue };
        let (count, kept) = (wish.members.len(), 6 - wish.members.len().min(6));
        assert!(count <= limits::GROW_AT_ONCE);
        match wish.turn {
            Turn::Grow if count == 0 => continue,
            Turn::Grow => {
                assert!(kept >= rules().needed(active + count), "{active} {count}");
                (active, resized.grown) = (active + count, hour);
            }
            Turn::Shrink | Turn::Exchange => (active, resized.shrunk) = (active - count, hour),
        }
        year.least = year.least.min(active);
        year.moves.push((hour, wish.turn));
    }
    year
}

/// A growth a day, a shrink a week, and no shrink in the week after a growth.
fn in_bounds(year: &Year) -> bool {
    year.moves.iter().enumerate().all(|(place, (hour, turn))| {
        let earlier = year.moves.iter().take(place);
        earlier.into_iter().all(|(before, kind)| {
            let ago = hour - before;
            match (kind, turn) {
                (Turn::Grow, Turn::Grow) => ago >= DAY,
                (Turn::Shrink, Turn::Grow) => true,
                (_, Turn::Shrink) => ago >= WEEK,
                (Turn::Exchange, _) | (_, Turn::Exchange) => true,
            }
        })
    })
}

/// How often it turns from one way to the other.
fn turns(year: &Year) -> usize {
    year.moves.windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
}

/// What all members have to do together: days and nights, a calmer weekend, and noise.
fn diurnal(level: u32, swing: u32, noise: u32, seed: u64) -> impl Fn(u32) -> u32 {
    move |hour| {
        let day = [0, 0, 0, 0, 0, 1, 2, 4, 6, 8, 9, 9, 8, 8, 9, 9, 9, 10, 10, 9, 7, 5, 3, 1];
        let weekend = if hour / DAY % 7 < 2 { 7 } else { 10 };
        let wave = level * swing / 100 * day[(hour % DAY) as usize] / 10 * weekend / 10;
        let mut rng = fastrand::Rng::with_seed(seed ^ u64::from(hour));
        let base = level - level * swing / 100 + wave;
        base + base * rng.u32(0..=noise) / 100
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_load_that_stays_the_same_is_followed_once_and_nothing_swings(
        level in 200u32..9000, swing in 0u32..90, noise in 0u32..25, seed: u64, start in 3usize..12,
    ) {
        let year = live(8, start, diurnal(level, swing, noise, seed));
        prop_assert!(in_bounds(&year), "{:?}", year.moves);
        prop_assert!(turns(&year) <= 1, "{:?}", year.moves);
        prop_assert!(year.least >= 3);
    }

    #[test]
    fn whatever_the_load_does_moves_are_bounded_and_n_members_stay(
        levels in proptest::collection::vec(100u32..9000, 8), seed: u64, start in 3usize..12,
    ) {
        let total = |hour: u32| {
            let level = levels[((hour - HOUR) / WEEK) as usize];
            diurnal(level, 70, 20, seed)(hour)
        };
        let year = live(8, start, total);
        prop_assert!(in_bounds(&year), "{:?}", year.moves);
        prop_assert!(year.least >= 3);
    }
}

#[test]
fn without_hysteresis_it_would_swing() {
    let load = || diurnal(2600, 40, 10, 7);
    let right = live(6, 4, load());
    assert!(in_bounds(&right) && turns(&right) <= 1, "{:?}", right.moves);
    let _armed = arm_mutant("growth-without-hysteresis");
    let wrong = live(6, 4, load());
    assert!(!in_bounds(&wrong) && turns(&wrong) > 1, "the planted bug: {:?}", wrong.moves);
}
