//! Members that come, go and are replaced, by plans that operators make at whatever node and whatever
//! goes wrong meanwhile. Every promise about data holds through it: the other checkers see to that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use roundtable::message::{
    AdminRequest, Applicant, BirthRecord, ClientResult, DiskRequest, ErrorCode, Event, MetaRecord,
    PlanChange, Reply, StageOrder, TopologyReply, TopologyRequest,
};
use roundtable::node::NodeConfig;
use roundtable::types::{
    Addresses, ClusterState, Epoch, NodeId, NodeName, Nonce, PlanStatus, RequestId, Role, limits,
};

use crate::judge::Checker;
use crate::plan::{MS, SECOND, exponential};

use super::host::machine;
use super::schema::Asked;
use super::{Happening, Stage, World};

/// How long after faults have stopped a plan may take to its end.
const ENDS_WITHIN: u64 = 80 * SECOND;
/// A silence after which a member that leaves is not waited for may have begun.
const SILENT_FOR: u64 = 55 * SECOND;
/// A member that leaves has said by then that it knows of it.
const KNOWN_WITHIN: u64 = 3 * SECOND;
/// Below this no plan gets another target: planted bugs are recorded there.
const RETARGETS_FROM: u64 = 40_000;

/// What operators do to the members of a run.
#[derive(Debug)]
pub(crate) struct TopologyUse {
    pub(super) plan: Option<TopologyPlan>,
    pub(super) rng: fastrand::Rng,
    /// Machines whose members some state says have gone.
    pub(super) gone: BTreeSet<usize>,
    /// Drawn from by the choice of other targets alone; `None` where no plan gets one.
    retargets: Option<fastrand::Rng>,
    /// A member has gone after a long silence: what it kept for others has gone with it.
    pub(super) gone_in_silence: bool,
    /// When members were first seen to leave.
    leaving_since: BTreeMap<usize, u64>,
    /// The last plan that was committed and seen to run.
    running: Option<u128>,
    /// The last state that somebody has acted by.
    pub(super) newest: Epoch,
}

/// How often members change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopologyPlan {
    /// Machines that are no founders.
    pub(crate) newcomers: usize,
    /// Mean time between what operators do.
    pub(crate) every: u64,
    /// Share of looks at a running plan that pause it, roll it back, or let it go forward again.
    pub(crate) meddles: f64,
    /// Share of the steps of plans at which a member of the council dies.
    pub(crate) deaths: f64,
    /// Share of the steps of plans at which owners are kept behind.
    pub(crate) strays: f64,
}

/// What was asked, for whoever hears the answer.
#[derive(Clone, Debug)]
pub(crate) enum TopologyAsk {
    /// To be taken in.
    Join { newcomer: usize },
    /// What there is.
    Show,
    /// A change.
    Change(PlanChange),
}

impl TopologyPlan {
    /// A third of the seeds with three founders or more. Drawn apart, so that the others stay what they
    /// are.
    pub(crate) fn draw(seed: u64, founders: usize) -> Option<TopologyPlan> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x746f_706f_6c6f_6779);
        (founders >= 3 && rng.u8(..3) == 0).then(|| TopologyPlan {
            newcomers: rng.usize(1..=2),
            every: rng.u64(200 * MS..2 * SECOND),
            meddles: if rng.bool() { rng.f64() * 0.3 } else { 0.0 },
            deaths: if rng.bool() { rng.f64() * 0.3 } else { 0.0 },
            strays: if rng.bool() { rng.f64() * 0.3 } else { 0.0 },
        })
    }

    /// The configurations of those that come, like those of the founders.
    pub(crate) fn configs(self, founders: &[NodeConfig]) -> Vec<NodeConfig> {
        let like = &founders[0];
        let config = |index: usize| {
            let name: NodeName = format!("n{}", founders.len() + index + 1).parse().expect("plain");
            let client_address = format!("{name}:8");
            NodeConfig { name, client_address, ..like.clone() }
        };
        (0..self.newcomers).map(config).collect()
    }
}

impl TopologyUse {
    pub(super) fn new(seed: u64, plan: Option<TopologyPlan>) -> TopologyUse {
        let rng = fastrand::Rng::with_seed(seed ^ 0x6d65_6d62_6572_7321);
        TopologyUse {
            plan,
            rng,
            retargets: (seed >= RETARGETS_FROM)
                .then(|| fastrand::Rng::with_seed(seed ^ 0x7265_7461_7267_6574)),
            gone: BTreeSet::new(),
            gone_in_silence: false,
            leaving_since: BTreeMap::new(),
            running: None,
            newest: Epoch(0),
        }
    }
}

impl World {
    /// Begins to change the members, if this seed does.
    pub(super) fn schedule_topology(&mut self) {
        if self.plan.topology.is_some() && !self.plan.hour {
            self.later(2 * SECOND, Happening::Apply);
            self.later(3 * SECOND, Happening::ChangeTopology);
        }
    }

    /// Whether members change in this run.
    pub(super) fn members_change(&self) -> bool {
        self.topology.plan.is_some()
    }

    /// The next newcomer asks to be taken in. One after the other: so their ids are those of their
    /// machines.
    pub(super) fn apply_to_join(&mut self) {
        let next = (0..self.hosts.len()).find(|host| self.hosts[*host].absent);
        let Some(newcomer) = next.filter(|next| !self.topology.gone.contains(next)) else { return };
        // One that was admitted and has not heard of it goes on asking: a plan may wait for it.
        let name = &self.plan.configs[newcomer].name;
        let admitted = self.state().is_some_and(|state| state.member_named(name).is_some());
        if self.stage > Stage::Verifying || self.stage > Stage::Turmoil && !admitted {
            return;
        }
        let wait = exponential(&mut self.topology.rng, 700 * MS) + 50 * MS;
        self.later(wait, Happening::Apply);
        let zones: Vec<_> = self
            .state()
            .map(|s| s.members.iter().map(|m| m.zone.clone()).collect())
            .unwrap_or_default();
        if zones.is_empty() {
            return;
        }
        let config = &self.plan.configs[newcomer];
        let applicant = Applicant {
            name: config.name.clone(),
            birth: birth(newcomer),
            addresses: Addresses { client: String::new(), peer: format!("{}:7", config.name) },
            // By its place: it applies with the same zone each time.
            zone: zones[newcomer % zones.len()].clone(),
            weight_milli: 1000,
            feature_level: limits::FEATURE_LEVEL,
        };
        let request = AdminRequest::Join(Box::new(applicant));
        self.ask_about_topology(TopologyAsk::Join { newcomer }, request);
    }

    /// An operator looks at the plan.
    pub(super) fn change_topology(&mut self) {
        let Some(plan) = self.topology.plan.filter(|_| self.stage <= Stage::Verifying) else {
            return;
        };
        let wait = exponential(&mut self.topology.rng, plan.every) + 20 * MS;
        self.later(wait, Happening::ChangeTopology);
        if self.is_proposing_twice() {
            return;
        }
        let request = AdminRequest::Topology(Box::new(TopologyRequest::Show));
        self.ask_about_topology(TopologyAsk::Show, request);
    }

    fn ask_about_topology(&mut self, asked: TopologyAsk, request: AdminRequest) {
        let serving: Vec<usize> =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].serves()).collect();
        if serving.is_empty() {
            return;
        }
        let host = serving[self.topology.rng.usize(..serving.len())];
        self.ask_about_tables(host, Asked::Topology(asked), |deadline, op| Event::Admin {
            op,
            deadline,
            request,
        });
    }

    pub(super) fn ask_plan(&mut self, change: PlanChange) {
        let id = RequestId(u128::from(self.topology.rng.u64(1..)));
        let request = TopologyRequest::Change { id, change: change.clone() };
        let asked = TopologyAsk::Change(change);
        self.ask_about_topology(asked, AdminRequest::Topology(Box::new(request)));
    }

    /// A node has answered.
    pub(super) fn topology_answered(&mut self, asked: TopologyAsk, result: &ClientResult) {
        match (asked, result) {
            // Some answers get lost: the newcomer asks again, and gets the same id.
            (TopologyAsk::Join { newcomer }, Ok(Reply::Joined(state)))
                if self.topology.rng.u8(..4) != 0 =>
            {
                self.take_in(newcomer, state);
            }
            (TopologyAsk::Show, Ok(Reply::Topology(reply))) => self.operate(reply),
            (TopologyAsk::Change(PlanChange::Commit(_)), Ok(Reply::Topology(reply))) => {
                self.totals.plans += u64::from(reply.running.is_some());
            }
            (TopologyAsk::Change(PlanChange::Retarget { .. }), Ok(_)) => self.totals.retargets += 1,
            (_, Err(error)) if error.code == ErrorCode::PlanConflict => {
                self.totals.plan_conflicts += 1;
            }
            _ => {}
        }
    }

    /// The newcomer makes durable what it was told, and starts.
    fn take_in(&mut self, newcomer: usize, state: &Arc<ClusterState>) {
        if !self.hosts[newcomer].absent || self.topology.gone.contains(&newcomer) {
            return;
        }
        let id = state.member_named(&self.plan.configs[newcomer].name).map(|member| member.id);
        if id.map(machine) != Some(newcomer) {
            let text = format_args!("n{} was given the id {id:?}", newcomer + 1);
            return self.find(Checker::Birth, text);
        }
        let Ok((replica, _)) = self.hosts[newcomer].open() else { return };
        let nonce = birth(newcomer);
        let records =
            vec![MetaRecord::Birth(BirthRecord { nonce }), MetaRecord::State(Arc::clone(state))];
        let stored = Arc::new(Mutex::new(false));
        let told = Arc::clone(&stored);
        let done = Box::new(move |result: Result<_, _>| *told.lock() = result.is_ok());
        replica.execute(DiskRequest::Persist(records), done);
        while replica.step() {}
        let closed = replica.close().is_ok();
        if *stored.lock() && closed {
            self.totals.joins += 1;
            self.hosts[newcomer].absent = false;
            self.start_after(newcomer, MS);
        }
    }

    /// What an operator does about what it sees.
    fn operate(&mut self, reply: &TopologyReply) {
        let calm = self.stage > Stage::Turmoil;
        if let Some(running) = &reply.running {
            self.topology.running = Some(running.hash);
            let meddles = self.topology.plan.map_or(0.0, |plan| plan.meddles);
            let draw = self.topology.rng.f64();
            let lost = self.lost_by_plan();
            let goes_on = running.status != PlanStatus::RollingBack && !calm;
            if let Some(change) = self.draw_target().filter(|_| goes_on) {
                return self.ask_plan(change);
            }
            let change = match running.status {
                // Nobody waits for a disk that does not come back.
                PlanStatus::Running | PlanStatus::Paused if lost == Some(true) => {
                    PlanChange::RollBack
                }
                PlanStatus::Running | PlanStatus::Paused if self.waits_for_lost_target() => {
                    PlanChange::RollBack
                }
                PlanStatus::RollingBack if lost == Some(false) => PlanChange::Resume,
                PlanStatus::RollingBack if !calm && lost.is_none() && draw < meddles / 2.0 => {
                    PlanChange::Resume
                }
                PlanStatus::Paused if calm || draw < 0.6 => PlanChange::Resume,
                PlanStatus::Running if !calm && draw < meddles / 2.0 => PlanChange::Pause,
                PlanStatus::Running | PlanStatus::Paused if !calm && draw < meddles => {
                    self.totals.rollbacks += 1;
                    PlanChange::RollBack
                }
                _ => return,
            };
            return self.ask_plan(change);
        }
        if self.topology.running.take().is_some() {
            self.totals.plans_ended += 1;
        }
        if calm {
            return;
        }
        match &reply.draft {
            Some(draft) if draft.reasons.is_empty() => {
                let rivals = self.topology.rng.u8(..4) == 0;
                self.ask_plan(PlanChange::Commit(draft.hash));
                if rivals {
                    self.ask_plan(PlanChange::Commit(draft.hash));
                }
            }
            Some(_) => self.ask_plan(PlanChange::Clear),
            None => {
                if let Some(order) = self.draw_order(reply) {
                    self.ask_plan(PlanChange::Stage(order));
                }
            }
        }
    }

    /// Whether the plan that is carried out needs a member that is lost for good, as one that is to
    /// come (true), or as one to go back to (false).
    fn lost_by_plan(&self) -> Option<bool> {
        let state = self.state()?;
        let plan = state.topology.plan.as_ref()?;
        let lost = |id: &NodeId| self.hosts[machine(*id)].doomed.is_some();
        let comes = plan.queue.iter().flat_map(|planned| {
            let owners = state.owners(planned.unit);
            planned.to.iter().filter(|id| !owners.contains(id))
        });
        let came = plan
            .begun
            .iter()
            .flat_map(|begun| begun.to.iter().filter(|id| !begun.from.contains(id)));
        if comes.chain(came).any(lost) {
            return Some(true);
        }
        let mut went = plan
            .begun
            .iter()
            .flat_map(|begun| begun.from.iter().filter(|id| !begun.to.contains(id)));
        went.any(lost).then_some(false)
    }

    /// Another target for the plan that is carried out, in the place of one of which nothing is read.
    fn draw_target(&mut self) -> Option<PlanChange> {
        let rng = self.topology.retargets.as_mut()?;
        if rng.u8(..4) > 0 {
            return None;
        }
        let pick = rng.usize(..1_000);
        let state = self.state()?;
        let plan = state.topology.plan.as_ref()?;
        let read: BTreeSet<NodeId> =
            state.classes.iter().flat_map(|class| class.owners.iter().flatten()).copied().collect();
        let aims = plan.queue.iter().map(|planned| &planned.to);
        let named: BTreeSet<NodeId> =
            aims.chain(plan.begun.iter().map(|begun| &begun.to)).flatten().copied().collect();
        let old = state.members.iter().find(|member| {
            let comes = named.contains(&member.id) && !read.contains(&member.id);
            comes && member.role == Role::Active
        })?;
        let sound = |id: NodeId| self.hosts[machine(id)].doomed.is_none();
        let others = state.members.iter().filter(|member| {
            member.role == Role::Reserved && member.zone == old.zone && sound(member.id)
        });
        let others: Vec<&NodeName> = others.map(|member| &member.name).collect();
        let new = *others.get(pick % others.len().max(1))?;
        Some(PlanChange::Retarget { old: old.name.clone(), new: new.clone() })
    }

    fn draw_order(&mut self, reply: &TopologyReply) -> Option<StageOrder> {
        let named = |role: Role| -> Vec<NodeName> {
            let of_role = reply.members.iter().filter(|member| member.role == role);
            of_role.map(|member| member.name.clone()).collect()
        };
        let (active, reserved) = (named(Role::Active), named(Role::Reserved));
        let down = reply.members.iter().find(|member| {
            let host = &self.hosts[machine(member.id)];
            member.role == Role::Active && host.doomed.is_some()
        });
        let down = down.map(|member| member.name.clone());
        let rng = &mut self.topology.rng;
        let any = |rng: &mut fastrand::Rng, names: &[NodeName]| -> Option<NodeName> {
            (!names.is_empty()).then(|| names[rng.usize(..names.len())].clone())
        };
        if let (Some(old), Some(new)) = (down, any(rng, &reserved)) {
            return Some(StageOrder::Replace { old, new });
        }
        // Somebody has to be left in reserve for who stays away.
        if self.plan.keeper.is_some() && rng.u8(..3) != 0 {
            return None;
        }
        match rng.u8(..10) {
            0..5 => any(rng, &reserved).map(StageOrder::Join),
            5..7 => {
                let (old, new) = (any(rng, &active)?, any(rng, &reserved)?);
                Some(StageOrder::Replace { old, new })
            }
            7..9 => any(rng, &active).map(StageOrder::Leave),
            _ => {
                let weight_milli = Some(500 * rng.u32(1..5));
                any(rng, &active).map(|member| StageOrder::Set { member, weight_milli, zone: None })
            }
        }
    }

    /// A node acts by `state`: who has gone may refuse to run, and copies are where they should be
    /// (I6).
    pub(super) fn note_topology(&mut self, state: &ClusterState) {
        for member in state.members.iter().filter(|member| member.role == Role::Leaving) {
            self.topology.leaving_since.entry(machine(member.id)).or_insert(self.now);
        }
        for (id, _) in &state.topology.gone {
            if self.topology.gone.insert(machine(*id)) {
                self.topology.gone_in_silence |= self.is_silent(machine(*id));
            }
        }
        if !self.members_change() {
            return;
        }
        self.aim(state);
        self.aim_late(state);
        for class in &state.classes {
            let sets = class.owners.iter().chain(class.moves.iter().map(|moving| &moving.other));
            for owners in sets {
                let distinct: BTreeSet<_> = owners.iter().collect();
                let known = owners.iter().all(|id| state.member(*id).is_some());
                if distinct.len() != usize::from(class.n) || !known {
                    let epoch = state.epoch;
                    let text =
                        format_args!("epoch {epoch} has owners {owners:?}, n is {}", class.n);
                    return self.find(Checker::Placement, text);
                }
            }
        }
    }

    /// Whether the others may have waited long enough for a member to hand over what it keeps, or not at all, since it
    /// was down before it heard that it leaves.
    fn is_silent(&mut self, host: usize) -> bool {
        let cut =
            (0..self.hosts.len()).any(|other| other != host && !self.network.passes(host, other));
        let began = self.topology.leaving_since.get(&host).copied().unwrap_or(self.now);
        let host = &self.hosts[host];
        let down = host.down_since;
        let away =
            host.running.is_some() || self.now - down >= SILENT_FOR || down <= began + KNOWN_WITHIN;
        host.doomed.is_some() || cut || !host.serves() && away
    }

    /// Whether the members still change. A plan that does not come to its end is a finding.
    pub(super) fn is_moving(&mut self, since: u64) -> bool {
        if !self.members_change() {
            return false;
        }
        let newest = self.hosts.iter().filter(|host| host.serves());
        let newest = newest.filter_map(|host| host.view.as_ref()?.state.clone());
        let Some(state) = newest.max_by_key(|state| state.epoch) else { return false };
        let moving = state.classes.iter().any(|class| !class.moves.is_empty());
        if !moving && state.topology.plan.is_none() {
            return false;
        }
        if self.now > since + ENDS_WITHIN / 2 {
            self.undo_own_rot();
        }
        if self.now > since + ENDS_WITHIN {
            if self.holds_up_plans() {
                return false;
            }
            let text = format_args!("a plan does not end: {:?}", state.topology.plan);
            self.find(Checker::Liveness, text);
            return false;
        }
        true
    }
}

/// The nonce that a newcomer is born with.
fn birth(newcomer: usize) -> Nonce {
    Nonce(0x6e65_7763_6f6d_6572 + newcomer as u128)
}
