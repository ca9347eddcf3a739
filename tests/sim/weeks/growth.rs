//! Months of load on one cluster: days, nights, weekends, noise, and levels that rise and fall; members that fail
//! meanwhile; and growth that nodes carry out by themselves. The rules, the forecast, the claim and the plans are the
//! product's. Judged is what users and operators notice: when it moves, how often, and whether it was enough.

use std::collections::{BTreeMap, BTreeSet};

use roundtable::control::{
    self, Change, GrowthRules, Heard, History, Measured, Room, Sample, Turn, Watched, capacity,
};
use roundtable::message::{LoadFacts, ResizeRecord, WorkNews};
use roundtable::testing;
use roundtable::types::{
    Charter, ClusterState, Epoch, Founder, NodeId, Nonce, RequestId, Role, Unit, Zone,
};

use crate::arguments::Arguments;

const DAY: u32 = 24;
const WEEK: u32 = 7 * DAY;
/// Hours since the Unix epoch when it begins.
const FIRST: u32 = 490_000 / WEEK * WEEK;
/// A level of load stays for so long; there are so many.
const STAYS: u32 = 3 * WEEK;
const LEVELS: u32 = 4;
/// For so long the figures must call for it, as by default.
const GROW_AFTER: u32 = 6;
const ACTIVE: usize = 6;
const RESERVED: usize = 9;
/// The part of its time for which a member is away, half a day at a time.
const DOWN: f64 = 0.01;
/// Seeds that `cargo test` runs.
const SEEDS: u64 = 6;
/// Planted bugs, and a seed that shows each.
const PLANTED: [(&str, u64); 4] = [
    ("growth-ignores-reserve", 1),
    ("growth-without-hysteresis", 1),
    ("growth-at-the-peak", 1),
    ("growth-while-down", 4),
];

/// All seeds; then the planted bugs, each at its seed.
pub(crate) fn hold(arguments: &Arguments) -> Result<String, String> {
    let base = arguments.base.unwrap_or(1);
    let (mut moves, mut most) = (0, 0);
    for seed in base..base + SEEDS.min(arguments.seeds) {
        let months = live(seed).map_err(|fault| format!("seed {seed}: {fault}"))?;
        moves += months.moves.len();
        most = most.max(months.most);
    }
    for (mutant, seed) in PLANTED {
        let _armed = testing::arm_mutant(mutant);
        if live(seed).is_ok() {
            let other = (1..60).find(|seed| live(*seed).is_err());
            return Err(format!("{mutant} is not found at seed {seed}, but at {other:?}"));
        }
    }
    let months = u64::from(STAYS * LEVELS / WEEK) * SEEDS.min(arguments.seeds);
    Ok(format!("  {months} weeks of load: {moves} growths and shrinks, {most} members at most"))
}

/// What was done to a cluster.
struct Months {
    moves: Vec<(u32, Turn)>,
    most: usize,
}

fn founded() -> ClusterState {
    let founder = |number: usize| Founder {
        name: format!("n{number}").parse().expect("a name"),
        peer_address: format!("10.0.0.{number}:7451"),
        zone: Zone::try_from(format!("zone-{}", number % 3)).expect("a zone"),
        weight_milli: 1000,
        role: if number <= ACTIVE { Role::Active } else { Role::Reserved },
    };
    let founders: Vec<Founder> = (1..=ACTIVE + RESERVED).map(founder).collect();
    let births = founders.iter().zip(1..).map(|(it, nonce)| (it.name.clone(), Nonce(nonce)));
    let births = births.collect();
    let charter = Charter {
        cluster_name: "months".to_owned(),
        founders,
        partitions: 64,
        replication: 3,
        read_quorum: 2,
        write_quorum: 2,
    };
    control::found(&charter, &births).expect("a cluster")
}

/// What each member hears: all of the same, since nothing is slow here.
struct Told<'a> {
    state: &'a ClusterState,
    down: &'a BTreeSet<NodeId>,
    load: LoadFacts,
    /// Copies of the member that has most.
    copies: usize,
    hour: u32,
}

impl Heard for Told<'_> {
    fn acknowledged(&self, _: NodeId) -> Epoch {
        Epoch(u64::MAX)
    }
    fn is_complete(&self, _: NodeId, _: Unit, _: Epoch) -> bool {
        true
    }
    fn lost(&self) -> Vec<(NodeId, Unit, Epoch)> {
        Vec::new()
    }
    fn is_up(&self, member: NodeId) -> bool {
        !self.down.contains(&member)
    }
    fn is_down(&self, member: NodeId) -> bool {
        self.down.contains(&member)
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

impl Watched for Told<'_> {
    fn me(&self) -> NodeId {
        NodeId(1)
    }
    fn says_down(&self, _: NodeId, _: NodeId) -> bool {
        false
    }
    fn overdue(&self, _: NodeId) -> bool {
        false
    }
    fn idles(&self, _: NodeId) -> bool {
        false
    }
    fn room(&self, _: NodeId) -> Room {
        Room { used: 1, free: Some(99) }
    }
    fn mirrors(&self, _: NodeId, _: NodeId) -> u32 {
        0
    }
}

impl Measured for Told<'_> {
    fn load(&self, member: NodeId) -> Option<LoadFacts> {
        let copies = copies(self.state, member);
        let cpu_peak = u64::from(self.load.cpu_peak) * copies as u64 / self.copies.max(1) as u64;
        Some(LoadFacts { cpu_peak: u32::try_from(cpu_peak).unwrap_or(u32::MAX), ..self.load })
    }
    fn work(&self, _: NodeId) -> Option<WorkNews> {
        None
    }
    fn hour(&self) -> u32 {
        self.hour
    }
}

fn rules() -> GrowthRules {
    GrowthRules {
        above_milli: 700,
        below_milli: 300,
        operations: 0,
        hours_min: 24,
        failure_probability: DOWN,
        confidence: 0.99,
    }
}

fn copies(state: &ClusterState, member: NodeId) -> usize {
    let owners = state.classes.iter().flat_map(|class| class.owners.iter().flatten());
    owners.filter(|owner| **owner == member).count()
}

fn count(state: &ClusterState, role: Role) -> usize {
    state.members.iter().filter(|member| member.role == role).count()
}

/// What all members have to do together in an hour, in thousandths of what one can do, without noise.
fn usual(level: u32, hour: u32) -> u32 {
    let day = [2, 1, 1, 1, 1, 2, 3, 4, 6, 8, 9, 9, 8, 8, 9, 9, 9, 10, 10, 9, 7, 5, 4, 3];
    let place = usize::try_from(hour % DAY).unwrap_or_default();
    let wave = level * 6 / 10 * day.get(place).copied().unwrap_or_default() / 10;
    let busy = if hour / DAY % 7 < 2 { 8 } else { 10 };
    (level * 4 / 10 + wave) * busy / 10
}

fn live(seed: u64) -> Result<Months, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut state = founded();
    let levels: Vec<u32> = (0..LEVELS).map(|_| rng.u32(900..9000)).collect();
    let (mut history, mut resized) = (History::new(Vec::new()), ResizeRecord::default());
    let mut months = Months { moves: Vec::new(), most: ACTIVE };
    let mut away: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut since: Option<(Turn, u32)> = None;
    for hour in FIRST..FIRST + STAYS * LEVELS {
        let place = usize::try_from((hour - FIRST) / STAYS).unwrap_or_default();
        let level = levels.get(place).copied().unwrap_or_default();
        away.retain(|_, until| *until > hour);
        for member in &state.members {
            if rng.f64() < DOWN / 12.0 {
                away.insert(member.id, hour + 12);
            }
        }
        let down: BTreeSet<NodeId> = away.keys().copied().collect();
        let total = usual(level, hour) * rng.u32(95..=105) / 100;
        let copies = state.members.iter().map(|it| copies(&state, it.id)).max().unwrap_or(1);
        let all: usize = state.units().map(|unit| state.owners(unit).len()).sum();
        let busiest = u64::from(total) * copies as u64 / all.max(1) as u64;
        let members = u16::try_from(count(&state, Role::Active)).unwrap_or(u16::MAX);
        let cpu_milli = u32::try_from(busiest.min(1000)).unwrap_or(1000);
        history.note(hour, &Sample { active: members, cpu_milli, ..Sample::default() });
        let load = LoadFacts {
            hours: history.len(),
            cpu_peak: history.foresee(members).cpu_milli,
            quiet: history.is_quietest(members),
            resized,
            ..LoadFacts::default()
        };
        let heard = Told { state: &state, down: &down, load, copies, hour };
        let Some(wish) = control::wish(&state, &heard, &rules()) else {
            since = None;
            continue;
        };
        let from = since.filter(|(turn, _)| *turn == wish.turn).map_or(hour, |(_, from)| from);
        since = Some((wish.turn, from));
        if hour - from < GROW_AFTER || control::held_up(&state, &heard, &rules(), 0).is_some() {
            continue;
        }
        let turn = wish.turn;
        let Some(proposal) = control::propose(&state, &heard, &rules(), wish) else { continue };
        if !proposal.is_feasible() {
            continue;
        }
        let done = carry_out(&state, &heard, Change::Orchestrate(proposal.order(&state)))?;
        months.moves.push((hour, turn));
        judge(&months.moves, (level, hour), &down, &done)?;
        match turn {
            Turn::Grow => resized.grown = hour,
            Turn::Shrink | Turn::Exchange => resized.shrunk = hour,
        }
        (state, since) = (done, None);
        months.most = months.most.max(count(&state, Role::Active));
    }
    enough(&state, levels.last().copied().unwrap_or_default())?;
    Ok(months)
}

/// The state when the plan has ended: all answer, so nothing is in its way.
fn carry_out(
    state: &ClusterState,
    heard: &Told<'_>,
    order: Change,
) -> Result<ClusterState, String> {
    let mut next = order.after(state, RequestId(0)).map_err(|error| error.to_string())?;
    for _ in 0..2000 {
        // Who was counted on to be there is: the plan itself is no matter of this simulation.
        let none = BTreeSet::new();
        let all = Told { state: &next, down: &none, load: heard.load, copies: 1, hour: 0 };
        let steps = control::steps(&next, &all);
        if steps.is_empty() {
            return Ok(next);
        }
        let change = Change::Steps(steps);
        next = change.after(&next, RequestId(0)).map_err(|error| error.to_string())?;
    }
    Err("a plan does not end".to_owned())
}

/// What must hold of a move, when it is made and after it.
fn judge(
    moves: &[(u32, Turn)],
    (level, hour): (u32, u32),
    down: &BTreeSet<NodeId>,
    done: &ClusterState,
) -> Result<(), String> {
    let day = hour / DAY * DAY;
    let of_day: u32 = (day..day + DAY).map(|hour| usual(level, hour)).sum();
    if usual(level, hour) * DAY > of_day {
        return Err(format!("hour {hour}: it moves while more is asked for than on average"));
    }
    if !down.is_empty() {
        return Err(format!("hour {hour}: it moves while somebody is down"));
    }
    let (active, reserved) = (count(done, Role::Active), count(done, Role::Reserved));
    let members = u32::try_from(active).unwrap_or(u32::MAX);
    let needed = capacity::reserve(members, DOWN, 0.99);
    let grown = moves.last().is_some_and(|(_, turn)| *turn == Turn::Grow);
    if grown && u32::try_from(reserved).unwrap_or(0) < needed {
        return Err(format!("hour {hour}: {reserved} are left in reserve, {needed} are needed"));
    }
    let within = |ago: u32, turn: Turn| {
        moves.iter().filter(|(at, kind)| *kind == turn && hour - at < ago).count()
    };
    if within(DAY, Turn::Grow) > 1 || within(WEEK, Turn::Shrink) > 1 {
        return Err(format!("hour {hour}: it moves too often"));
    }
    let shrunk = moves.last().is_some_and(|(_, turn)| *turn == Turn::Shrink);
    if shrunk && within(WEEK, Turn::Grow) > 0 {
        return Err(format!("hour {hour}: it shrinks in the week after it grew"));
    }
    let distinct = |unit: Unit| done.owners(unit).iter().collect::<BTreeSet<_>>().len() == 3;
    if !done.units().all(distinct) {
        return Err(format!("hour {hour}: copies share a member"));
    }
    Ok(())
}

/// After weeks of one load, as many own as it needs, as far as the reserve goes.
fn enough(state: &ClusterState, level: u32) -> Result<(), String> {
    let active = count(state, Role::Active);
    let peak = (0..WEEK).map(|hour| usual(level, FIRST + hour)).max().unwrap_or_default();
    let each = usize::try_from(peak).unwrap_or_default() / active.max(1);
    let members = u32::try_from(active + 1).unwrap_or(u32::MAX);
    let needed = usize::try_from(capacity::reserve(members, DOWN, 0.99)).unwrap_or(usize::MAX);
    let could_grow = count(state, Role::Reserved) > needed;
    if each > 800 && could_grow {
        return Err(format!("{active} members have {each} thousandths to do each, and may grow"));
    }
    Ok(())
}
