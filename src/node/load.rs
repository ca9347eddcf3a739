//! How busy this node is: samples, the hours they make, and what of it is told; and what the rules of growth make
//! of what all have told. Holds and feeds; decides nothing: `control`'s rules are in `docs/growth.md`.

use core::time::Duration;

use super::Node;
use super::config::{Grow, QuietHours};
use super::disk::Pending;
use super::topology::HeardBy;
use crate::control::{self, GrowthRules, History, Measured, Order, Proposal, Sample, Turn, Wish};
use crate::handoff::{Brake, Braking, Latencies};
use crate::message::{
    DiskRequest, ErrorCode, EventKind, GrowthReply, LoadFacts, MetaRecord, OpError, ProposalLine,
    ProposalRecord, Restored, WorkNews,
};
use crate::types::{ClusterState, DecisionKind, Epoch, NodeId, Now, Role, Time, WallTime};

const HOUR: u64 = 3600 * 1_000_000_000;
/// Load that is far from even for so long is worth a proposal.
const UNEVEN_FOR: Duration = Duration::from_secs(3600);

/// What a node knows of its load, and what it makes of all.
#[derive(Debug, Default)]
pub(super) struct Load {
    history: History,
    brake: Brake,
    /// Client operations since the last sample.
    times: Latencies,
    sampled: Option<Time>,
    /// The processor time of the process when it was last told and at the last sample, and the cores.
    cpu: (Option<Cpu>, Option<Cpu>),
    cpu_milli: u32,
    resized: crate::message::ResizeRecord,
    proposals: ProposalRecord,
    /// What is told with probes.
    told: Option<LoadFacts>,
    work: Option<WorkNews>,
    /// What the last sample has found of units to be exchanged, and on top of which epoch.
    uneven: Option<(Epoch, Wish)>,
    /// Since when the figures have called for this.
    since: Option<(Turn, Time)>,
    /// What they come to, once they have for long enough.
    proposal: Option<Proposed>,
    /// The one that events have told of.
    said: Option<Said>,
}

#[derive(Clone, Copy, Debug)]
struct Cpu {
    spent: Duration,
    at: Time,
    cores: u32,
}

/// A proposal, on top of which epoch it was made, and what is told of it.
#[derive(Debug)]
struct Proposed {
    epoch: Epoch,
    made: Proposal,
    line: ProposalLine,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    turn: Turn,
    members: Vec<NodeId>,
    subject: NodeId,
}

impl Load {
    pub(super) fn new(restored: &Restored) -> Load {
        let history = History::new(restored.hours.clone());
        let (resized, proposals) = (restored.resized, restored.proposals);
        Load { history, resized, proposals, ..Load::default() }
    }

    /// What this node's copies are asked for, as it tells it.
    pub(super) fn work(&self) -> Option<WorkNews> {
        self.work.clone()
    }

    /// What this node tells of itself.
    pub(super) fn told(&self) -> Option<LoadFacts> {
        self.told
    }

    /// A client's operation has been answered.
    pub(super) fn note(&mut self, now: Time, took: Duration) {
        self.brake.note(now, took);
        self.times.note(took);
    }
}

fn hour_of(wall: WallTime) -> u32 {
    u32::try_from(wall.0 / HOUR).unwrap_or(u32::MAX)
}

fn active(state: &ClusterState) -> u16 {
    let count = state.members.iter().filter(|member| member.role == Role::Active).count();
    u16::try_from(count).unwrap_or(u16::MAX)
}

impl Measured for HeardBy<'_> {
    fn load(&self, member: NodeId) -> Option<LoadFacts> {
        if member == self.0.me {
            return self.0.load.told;
        }
        self.0.members.facts(member)?.facts.as_ref()?.load
    }

    fn work(&self, member: NodeId) -> Option<WorkNews> {
        if member == self.0.me {
            return self.0.load.work();
        }
        self.0.members.facts(member)?.facts.as_ref()?.work.clone()
    }

    fn hour(&self) -> u32 {
        self.0.load_hour
    }
}

impl Node {
    fn looks(&self) -> bool {
        !self.config.sample_interval.is_zero()
    }

    /// What this process has cost so far.
    pub(super) fn on_process(&mut self, now: Now, spent: Duration, cores: u32) {
        self.load.cpu.0 = Some(Cpu { spent, at: now.mono, cores });
    }

    /// What is due now and then: a sample, and what all samples call for.
    pub(super) fn look_at_load(&mut self, now: Now) {
        self.load_hour = hour_of(now.wall);
        let Some(state) = self.state.clone().filter(|_| self.looks() && self.is_serving()) else {
            return;
        };
        let elapsed = self.load.sampled.map(|at| now.mono.since(at));
        if elapsed.is_none_or(|elapsed| elapsed >= self.config.sample_interval) {
            self.sample(now, &state, elapsed);
        }
        self.look_at_growth(now, &state);
    }

    fn sample(&mut self, now: Now, state: &ClusterState, elapsed: Option<Duration>) {
        let load = &mut self.load;
        load.sampled = Some(now.mono);
        let times = core::mem::take(&mut load.times);
        let Some(elapsed) = elapsed else {
            // What came before it began to serve tells nothing.
            load.cpu.1 = load.cpu.0;
            return self.tell_load(now, state);
        };
        if let (Some(new), Some(old)) = load.cpu
            && new.at > old.at
        {
            let over = new.at.since(old.at).as_micros() * u128::from(new.cores.max(1));
            let spent = new.spent.saturating_sub(old.spent).as_micros();
            load.cpu_milli = u32::try_from(spent * 1000 / over.max(1)).unwrap_or(u32::MAX);
        }
        load.cpu.1 = load.cpu.0;
        let ops = u128::from(times.count()) * 1000 / elapsed.as_millis().max(1);
        let sample = Sample {
            active: active(state),
            disk: (self.replica.disk_bytes, self.replica.free_bytes),
            cpu_milli: load.cpu_milli,
            ops: u32::try_from(ops).unwrap_or(u32::MAX),
            p99: times.p99(),
        };
        if let Some(over) = load.history.note(hour_of(now.wall), &sample) {
            crate::sometimes!("load: an hour is over");
            self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![MetaRecord::Hour(over)]));
        }
        self.tell_load(now, state);
    }

    fn tell_load(&mut self, now: Now, state: &ClusterState) {
        let heard = state.members.iter().filter_map(|member| HeardBy(self).load(member.id));
        let known = heard.fold(self.load.proposals, |known, load| known.latest(load.proposals));
        if known != core::mem::replace(&mut self.load.proposals, known) {
            let record = MetaRecord::Proposals(known);
            self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![record]));
        }
        let count = active(state);
        let quiet = match self.config.quiet_hours {
            QuietHours::Auto => self.load.history.is_quietest(count),
            QuietHours::Daily { from, to } => {
                let minute = u32::try_from(now.wall.0 / (HOUR / 60) % (24 * 60)).unwrap_or(0);
                if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
            }
        };
        let load = &mut self.load;
        let foreseen = load.history.foresee(count);
        let present = load.history.present().unwrap_or_default();
        load.told = Some(LoadFacts {
            hours: load.history.len(),
            cpu_now: present.cpu_mean.into(),
            cpu_peak: foreseen.cpu_milli,
            ops_now: present.ops_mean,
            ops_peak: foreseen.ops,
            peak_hour: foreseen.hour,
            p99: load.brake.p99(now.mono).unwrap_or(0),
            disk_days: load.history.disk_days(count),
            quiet,
            paused: load.brake.is_stopped(now.mono),
            resized: load.resized,
            proposals: load.proposals,
        });
        self.load.work = self.work_news(now.mono, state);
        self.load.uneven = match self.config.exchange {
            Grow::Off => None,
            Grow::Suggest | Grow::Auto => control::exchange(state, &HeardBy(self)),
        }
        .map(|wish| (state.epoch, wish));
    }

    /// The hour under way is not lost when this node stops.
    pub(super) fn keep_load(&mut self) {
        let hour = self.load.history.present().map(MetaRecord::Hour).filter(|_| self.looks());
        if let Some(hour) = hour {
            self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![hour]));
        }
    }

    /// A state has come into force: are there more to own, or fewer?
    pub(super) fn note_size(&mut self, now: Now, before: Option<&ClusterState>) {
        let Some((state, before)) = self.state.clone().zip(before).filter(|_| self.looks()) else {
            return;
        };
        let hour = hour_of(now.wall);
        let decisions = state.topology.decisions.iter().filter(|it| it.epoch > before.epoch);
        let exchanged = decisions.into_iter().any(|it| it.kind == DecisionKind::Exchanged);
        if exchanged {
            self.load.proposals.exchanged = hour;
            let record = MetaRecord::Proposals(self.load.proposals);
            self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![record]));
        }
        let order = active(&state).cmp(&active(before));
        match order {
            core::cmp::Ordering::Equal if exchanged => {}
            core::cmp::Ordering::Equal => return,
            core::cmp::Ordering::Greater => self.load.resized.grown = hour,
            core::cmp::Ordering::Less => self.load.resized.shrunk = hour,
        }
        if order.is_ne() {
            let record = MetaRecord::Resized(self.load.resized);
            self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![record]));
        }
        self.tell_load(now, &state);
    }

    /// How copies may go for now. Those that bring n copies back never stop.
    pub(super) fn copy_pace(&mut self, now: Now) -> Braking {
        let Some(state) = self.state.clone().filter(|_| self.looks()) else { return Braking::Free };
        let all_up =
            state.members.iter().all(|it| it.id == self.me || self.members.is_reachable(it.id));
        let mut pace = Braking::Free;
        if state.topology.plan.is_some() && all_up {
            let usual = self.load.history.usual_p99(hour_of(now.wall));
            pace = self.load.brake.pace(now.mono, usual);
        }
        self.governor.hold(pace == Braking::Least);
        let stopped = pace == Braking::Stopped;
        if let Some(told) = self.load.told.as_mut().filter(|told| told.paused != stopped) {
            told.paused = stopped;
            self.members.probe_soon(now);
        }
        pace
    }

    fn growth_rules(&self) -> GrowthRules {
        let config = &self.config;
        GrowthRules {
            above_milli: config.grow_above_milli,
            below_milli: config.shrink_below_milli,
            operations: config.grow_operations,
            hours_min: u32::try_from(config.history_min.as_secs() / 3600).unwrap_or(u32::MAX),
            failure_probability: config.failure_probability,
            confidence: config.confidence,
        }
    }

    /// What the figures call for, growth before what is uneven, if no operator has put it aside.
    fn wish(&self, state: &ClusterState, rules: &GrowthRules) -> Option<Wish> {
        if state.topology.plan.is_some() {
            return None;
        }
        let grows = self.config.grow != Grow::Off;
        let wish = if grows { control::wish(state, &HeardBy(self), rules) } else { None };
        let stands = |wish: &Wish| !control::is_dismissed(state, &HeardBy(self), wish);
        // INVARIANT: owners that were chosen on another state may not be those that they are taken for.
        let uneven = self.load.uneven.as_ref().filter(|(epoch, _)| *epoch == state.epoch);
        let uneven = uneven.map(|(_, wish)| wish).filter(|wish| stands(wish));
        wish.filter(stands).or_else(|| uneven.cloned())
    }

    /// How long the figures must call for it.
    fn due_after(&self, turn: Turn) -> Duration {
        match turn {
            Turn::Grow | Turn::Shrink => self.config.grow_after,
            Turn::Exchange => self.config.grow_after.min(UNEVEN_FOR),
        }
    }

    /// Whether it is done without an operator.
    fn mode(&self, turn: Turn) -> Grow {
        match turn {
            Turn::Grow | Turn::Shrink => self.config.grow,
            Turn::Exchange => self.config.exchange,
        }
    }

    fn look_at_growth(&mut self, now: Now, state: &ClusterState) {
        let rules = self.growth_rules();
        let wish = self.wish(state, &rules);
        let Some(wish) = wish else {
            self.load.since = self.load.since.filter(|_| state.topology.plan.is_some());
            self.load.proposal = None;
            return self.end_proposal(now);
        };
        let since = self.load.since.filter(|(turn, _)| *turn == wish.turn);
        let (_, since) = *self.load.since.insert(since.unwrap_or((wish.turn, now.mono)));
        if now.mono.since(since) < self.due_after(wish.turn) {
            self.load.proposal = None;
            return;
        }
        let is_same = |known: &Proposed| {
            let (epoch, known) = (known.epoch, &known.made.wish);
            // An exchange that is proposed stays as it is while the same member is the busiest.
            epoch == state.epoch && known.turn == wish.turn && known.about() == wish.about()
        };
        // The claim is not made again while nothing has changed that it depends on.
        if self.load.proposal.as_ref().is_none_or(|known| !is_same(known)) {
            let made = control::propose(state, &HeardBy(self), &rules, wish);
            self.load.proposal = made.map(|made| {
                let line = self.proposal_line(state, &made);
                Proposed { epoch: state.epoch, made, line }
            });
        }
        self.say_proposal(now, state);
        if self.growth_order(state).is_some() {
            self.look_at_moves(now);
        }
    }

    fn say_proposal(&mut self, now: Now, state: &ClusterState) {
        let Some(proposal) = self.load.proposal.as_ref().map(|it| &it.made) else {
            return self.end_proposal(now);
        };
        let (turn, members) = (proposal.wish.turn, proposal.wish.members.clone());
        let first = state.members.iter().find(|member| member.role == Role::Active);
        let Some(subject) = members.first().copied().or(first.map(|it| it.id)) else { return };
        let said = Said { turn, members, subject };
        if self.load.said.as_ref() == Some(&said) {
            return;
        }
        let (what, reason) = (turn.as_str(), &proposal.wish.reason);
        let text = match (said.members.is_empty(), proposal.wish.missing) {
            (true, missing) => {
                format!("{what}: {reason}; {missing} more reserved members are needed")
            }
            (false, _) => {
                let hash = format!("{:032x}", proposal.draft.hash);
                format!("{what}: {reason}; kvctl grow commit {hash}")
            }
        };
        crate::sometimes!("growth: is proposed");
        self.load.said = Some(said);
        self.record_member(now, EventKind::GrowthProposed, subject, &text);
        self.publish();
    }

    fn end_proposal(&mut self, now: Now) {
        if let Some(said) = self.load.said.take() {
            let text = said.turn.as_str();
            self.record_member(now, EventKind::GrowthOver, said.subject, text);
            self.publish();
        }
    }

    /// What keeps the proposal from being carried out without an operator.
    fn growth_held_up(&self, state: &ClusterState) -> Option<&'static str> {
        let alarms = self.keeper.alarms.len();
        control::held_up(state, &HeardBy(self), &self.growth_rules(), alarms)
    }

    /// What this node may propose without an operator, of growing and shrinking.
    pub(super) fn growth_order(&self, state: &ClusterState) -> Option<Order> {
        let Proposed { epoch, made: proposal, .. } = self.load.proposal.as_ref()?;
        let auto = self.mode(proposal.wish.turn) == Grow::Auto;
        let due = auto && *epoch == state.epoch && proposal.is_feasible();
        (due && self.growth_held_up(state).is_none()).then(|| proposal.order(state))
    }

    /// An operator commits what has been proposed, by its hash.
    pub(super) fn growth_by_hash(
        &self,
        state: &ClusterState,
        hash: u128,
    ) -> Result<Order, OpError> {
        let refuse = |text: String| Err(OpError::new(ErrorCode::PlanConflict, text));
        if let Some(plan) = &state.topology.plan {
            return refuse(format!("plan {:032x} is carried out: it has to end first", plan.hash));
        }
        if let Some(known) = &self.load.proposal
            && known.made.wish.turn == Turn::Exchange
            && (known.epoch, known.made.draft.hash) == (state.epoch, hash)
        {
            return Ok(known.made.order(state));
        }
        let (rules, seen) = (self.growth_rules(), HeardBy(self));
        let wish = self.wish(state, &rules);
        let proposal = wish.and_then(|wish| control::propose(state, &seen, &rules, wish));
        let Some(proposal) = proposal else {
            return refuse(
                "nothing is proposed at this node (any more): kvctl grow show".to_owned(),
            );
        };
        if proposal.draft.hash != hash {
            let now = proposal.draft.hash;
            return refuse(format!("what is proposed has changed: its hash is {now:032x} now"));
        }
        if !proposal.is_feasible() {
            let text = proposal.draft.reasons.join("; ");
            return Err(OpError::new(ErrorCode::PlanInvalid, text));
        }
        Ok(proposal.order(state))
    }

    /// An operator puts aside what is proposed: all who hear of it do.
    pub(super) fn dismiss(&mut self, now: Now, hash: u128) -> Result<(), OpError> {
        let Some(proposal) = self.load.proposal.as_ref().filter(|it| it.line.hash == hash) else {
            let text =
                "nothing is proposed at this node under this hash (any more): kvctl grow show";
            return Err(OpError::new(ErrorCode::PlanConflict, text));
        };
        let wish = &proposal.made.wish;
        let [size, exchange] = &mut self.load.proposals.dismissed;
        let place = if wish.turn == Turn::Exchange { exchange } else { size };
        *place = (hour_of(now.wall), wish.about());
        self.load.proposal = None;
        let record = MetaRecord::Proposals(self.load.proposals);
        self.disk(Pending::Housekeeping, DiskRequest::Persist(vec![record]));
        if let Some(told) = &mut self.load.told {
            told.proposals = self.load.proposals;
        }
        self.members.probe_soon(now);
        self.end_proposal(now);
        Ok(())
    }

    /// What operators are told; `None` before birth, and where nobody looks.
    pub(super) fn growth_told(&self) -> Option<Box<GrowthReply>> {
        let state = self.state.as_ref().filter(|_| self.looks())?;
        Some(Box::new(self.growth_reply(state)))
    }

    fn growth_reply(&self, state: &ClusterState) -> GrowthReply {
        let (rules, seen) = (self.growth_rules(), HeardBy(self));
        let peak = control::peak(state, &seen, &rules);
        let name = |id: NodeId| state.member(id).map(|member| member.name.clone());
        let loads = || state.members.iter().filter_map(|it| Some((it, seen.load(it.id)?)));
        let active = || loads().filter(|(member, _)| member.role == Role::Active);
        let busiest =
            |peak: control::Peak| Some(format!("{} of {}", peak.what, name(peak.member)?));
        GrowthReply {
            mode: self.config.grow.as_str(),
            peak_milli: peak.map(|peak| peak.milli),
            busiest: peak.and_then(busiest).unwrap_or_default(),
            peak_hour: self.load.told.map_or(0, |told| told.peak_hour),
            disk_days: active().filter_map(|(_, load)| load.disk_days).min(),
            quiet_hours: self.quiet_hours_told(state),
            quiet: control::is_quiet(state, &seen),
            paused: loads()
                .filter(|(_, load)| load.paused)
                .map(|(it, _)| it.name.clone())
                .collect(),
            proposal: self.load.proposal.as_ref().map(|it| it.line.clone()),
            waits_for: self.growth_waits_for(state),
        }
    }

    fn growth_waits_for(&self, state: &ClusterState) -> String {
        let held = |text: &str| text.to_owned();
        match (&self.load.proposal, self.load.since) {
            (Some(known), _) if !known.made.is_feasible() => {
                held("reserved members are lacking: kvd run --join")
            }
            (Some(it), _) if self.mode(it.made.wish.turn) == Grow::Auto => {
                self.growth_held_up(state).map_or_else(String::new, held)
            }
            (Some(_), _) => held("an operator: kvctl grow commit HASH"),
            (None, Some((turn, since))) if state.topology.plan.is_none() => {
                let left = self.config.grow_after.saturating_sub(self.now.since(since));
                format!(
                    "to {} is due: proposed in {} s if it stays so",
                    turn.as_str(),
                    left.as_secs()
                )
            }
            (None, _) => String::new(),
        }
    }

    fn quiet_hours_told(&self, state: &ClusterState) -> String {
        match self.config.quiet_hours {
            QuietHours::Daily { from, to } => {
                let time = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
                format!("{}-{} UTC, as it is set", time(from), time(to))
            }
            QuietHours::Auto => match self.load.history.quietest(active(state)) {
                Some(hour) => {
                    format!("{:02}:00-{:02}:00 UTC, learned", hour % 24, (hour + 3) % 24)
                }
                None => "not known before a day has been seen".to_owned(),
            },
        }
    }

    fn proposal_line(&self, state: &ClusterState, proposal: &Proposal) -> ProposalLine {
        let told = self.lines_of(state, proposal.draft.clone());
        let name = |id: &NodeId| state.member(*id).map(|member| member.name.clone());
        ProposalLine {
            kind: proposal.wish.turn.as_str(),
            hash: if proposal.is_feasible() { proposal.draft.hash } else { 0 },
            members: proposal.wish.members.iter().filter_map(name).collect(),
            missing: u32::try_from(proposal.wish.missing).unwrap_or(u32::MAX),
            reason: proposal.wish.reason.clone(),
            after_milli: proposal.after_milli,
            units: told.move_count,
            bytes: told.moves.iter().map(|line| line.bytes).sum(),
            shares: told.shares,
        }
    }
}
