//! The members, who hears whom, and time, which goes from event to event. What members decide with is the
//! product's: the decree, the steps of plans, the orchestrator. Their data are counters: a unit takes so long
//! to fill, from as many sources as the rules want.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use roundtable::control::{self, Change, Decree, DecreeAction, DecreeTiming, Outlook, state_hash};
use roundtable::message::{DecreeMessage, DecreeRecord, MemberChange};
use roundtable::types::{
    Charter, ClusterState, Epoch, Founder, NodeId, Nonce, OpId, RequestId, Role, Time, Unit, Zone,
};

use super::disks::Disks;
use super::judge::Judge;
use super::seen::Seen;

/// `orchestrator.replace_after`, in seconds.
pub(super) const GRACE: u64 = 900;
/// From silence to a verdict of membership.
pub(super) const DETECT: u64 = 10;
/// What filling a unit takes.
const UNIT: u64 = 120;
/// How often a fill looks for sources that it lacks.
const SOURCES: u64 = 60;
/// A council seat that is silent for so long is given to somebody else.
pub(super) const LOST: u64 = 60;
/// Rounds in which nothing happens, after which nothing more will.
const IDLE_ROUNDS: u32 = 4;
/// Rounds after which what members want of each other does not come to an end.
const ROUNDS_MAX: u32 = 3000;
/// For so long what a member has told of others is believed after it has heard them again.
const WORDS: u64 = 5;
/// Units of the ring.
const PARTITIONS: u32 = 64;

/// What happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// Somebody may have something to do.
    Look,
    /// A member dies, for so long.
    Dies(NodeId, u64),
    /// It boots, with its disk.
    Boots(NodeId),
    /// A unit may be filled at this member, if it is still the one that is filled.
    Filled(NodeId),
    /// The members fall apart into so many parts, the smaller ones of which together are a minority or
    /// not, for so long.
    Falls(u8, u64),
    /// They hear each other again.
    Heals,
    /// Some hear one no more, for so long, while the others do.
    Deaf(NodeId, u64),
    /// They do again.
    Hears,
    /// Noon: the day is judged.
    Noon,
}

/// One member.
pub(super) struct Node {
    pub(super) up: bool,
    boot: u64,
    record: DecreeRecord,
    decided: Option<Arc<ClusterState>>,
    pub(super) state: Arc<ClusterState>,
    decree: Option<Decree>,
    own: Option<OpId>,
    /// Whom it has not heard, since when.
    pub(super) silent: BTreeMap<NodeId, u64>,
    /// What it is complete for; durable.
    pub(super) complete: BTreeMap<Unit, Epoch>,
    /// What it fills, one after the other.
    pub(super) fills: Vec<(Unit, Epoch)>,
    fills_until: Option<u64>,
    /// Whom it has told to be down for long and hears again, and until when others have not heard of that.
    words: BTreeMap<NodeId, u64>,
    /// The highest epochs it has heard others acknowledge.
    pub(super) heard: BTreeMap<NodeId, Epoch>,
}

/// Of each member whether it is up, since which boot, by which epoch it acts; and how the network is.
type Listened = (Vec<(NodeId, bool, u64, Epoch)>, BTreeMap<NodeId, u8>, BTreeSet<(NodeId, NodeId)>);

/// All of it.
pub(super) struct World {
    /// Seconds since it was founded.
    pub(super) now: u64,
    pub(super) rng: fastrand::Rng,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// In which part of a split network members are.
    parts: BTreeMap<NodeId, u8>,
    /// Who does not hear whom.
    deaf: BTreeSet<(NodeId, NodeId)>,
    /// By what members have heard of each other last.
    listened: Option<Listened>,
    events: BTreeSet<(u64, Event)>,
    mail: VecDeque<(NodeId, NodeId, DecreeMessage)>,
    proposals: u64,
    pub(super) disks: Disks,
    pub(super) judge: Judge,
}

/// A cluster of so many active and reserved members, in three zones.
fn founded(active: usize, reserved: usize) -> Arc<ClusterState> {
    let founder = |number: usize| Founder {
        name: format!("n{number}").parse().expect("a name"),
        peer_address: format!("10.0.0.{number}:7451"),
        zone: Zone::try_from(format!("zone-{}", number % 3)).expect("a zone"),
        weight_milli: 1000,
        role: if number <= active { Role::Active } else { Role::Reserved },
    };
    let founders: Vec<Founder> = (1..=active + reserved).map(founder).collect();
    let births =
        founders.iter().zip(1..).map(|(f, nonce)| (f.name.clone(), Nonce(nonce))).collect();
    let charter = Charter {
        cluster_name: "weeks".to_owned(),
        founders,
        partitions: PARTITIONS,
        replication: 3,
        read_quorum: 2,
        write_quorum: 2,
    };
    Arc::new(control::found(&charter, &births).expect("a cluster"))
}

impl World {
    pub(super) fn new(seed: u64, active: usize, reserved: usize) -> World {
        let state = founded(active, reserved);
        let mut world = World {
            now: 1,
            rng: fastrand::Rng::with_seed(seed),
            nodes: BTreeMap::new(),
            parts: BTreeMap::new(),
            deaf: BTreeSet::new(),
            listened: None,
            events: BTreeSet::new(),
            mail: VecDeque::new(),
            proposals: 0,
            disks: Disks::Full,
            judge: Judge::new(&state),
        };
        for id in state.members.iter().map(|member| member.id) {
            let node = Node {
                up: false,
                boot: 0,
                record: DecreeRecord::default(),
                decided: None,
                state: Arc::clone(&state),
                decree: None,
                own: None,
                silent: BTreeMap::new(),
                complete: BTreeMap::new(),
                fills: Vec::new(),
                fills_until: None,
                words: BTreeMap::new(),
                heard: BTreeMap::new(),
            };
            world.nodes.insert(id, node);
            world.boot(id);
        }
        world.settle();
        world
    }

    pub(super) fn at(&mut self, when: u64, event: Event) {
        self.events.insert((when, event));
    }

    /// Goes on until a moment.
    pub(super) fn run_until(&mut self, end: u64) {
        while let Some((when, event)) = self.events.pop_first() {
            if when > end {
                self.events.insert((when, event));
                break;
            }
            self.now = self.now.max(when);
            self.happen(event);
            self.settle();
            let mut judge = core::mem::take(&mut self.judge);
            judge.settled(self);
            self.judge = judge;
            if self.judge.fault.is_some() {
                break;
            }
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Look => {}
            Event::Dies(id, length) => {
                let node = self.nodes.get_mut(&id).expect("a member");
                if node.up {
                    (node.up, node.decree, node.own) = (false, None, None);
                    (node.fills, node.fills_until) = (Vec::new(), None);
                    self.judge.note_change(self.now);
                    self.at(self.now + length, Event::Boots(id));
                }
            }
            Event::Boots(id) => {
                self.boot(id);
                self.judge.note_change(self.now);
            }
            Event::Filled(id) => self.on_filled(id),
            Event::Falls(parts, length) => {
                let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
                for id in ids {
                    let part = self.rng.u8(..parts.max(1));
                    self.parts.insert(id, part);
                }
                self.judge.note_change(self.now);
                self.at(self.now + length, Event::Heals);
            }
            Event::Heals => {
                self.parts.clear();
                self.judge.note_change(self.now);
            }
            Event::Deaf(id, length) => {
                let others: Vec<NodeId> = self.nodes.keys().copied().filter(|o| *o != id).collect();
                // Not more than there may be so that no majority finds it down.
                for other in others.into_iter().take((self.nodes.len() - 1) / 2) {
                    self.deaf.insert((other, id));
                }
                self.judge.note_change(self.now);
                self.at(self.now + length, Event::Hears);
            }
            Event::Hears => {
                self.deaf.clear();
                self.judge.note_change(self.now);
            }
            Event::Noon => {
                let newest = self.newest();
                let mut judge = core::mem::take(&mut self.judge);
                judge.noon(self, &newest);
                self.judge = judge;
            }
        }
    }

    fn boot(&mut self, id: NodeId) {
        let seed = self.rng.u64(..);
        let node = self.nodes.get_mut(&id).expect("a member");
        (node.up, node.boot) = (true, node.boot + 1);
        node.silent.clear();
        node.words.clear();
        let timing = DecreeTiming {
            retry: Duration::from_secs(1),
            back_off: Duration::from_secs(1),
            recover: Duration::from_secs(3),
        };
        let rng = fastrand::Rng::with_seed(seed);
        let (record, decided) = (node.record.clone(), node.decided.clone());
        let mut decree = Decree::new((id, node.boot), timing, record, decided, rng);
        decree.on_state(time(self.now), Arc::clone(&node.state));
        decree.begin(time(self.now));
        node.decree = Some(decree);
    }

    /// Whether `from` hears `to`.
    pub(super) fn hears(&self, from: NodeId, to: NodeId) -> bool {
        let up = |id| self.nodes.get(&id).is_some_and(|node| node.up);
        up(from) && (from == to || up(to) && self.reaches(from, to))
    }

    /// Whether the network lets one hear the other.
    fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let part = |id| self.parts.get(&id).copied().unwrap_or(0);
        self.is_whole() || part(from) == part(to) && !self.deaf.contains(&(from, to))
    }

    /// For how long a member has been held down by another.
    pub(super) fn down_for(&self, by: NodeId, member: NodeId) -> Option<u64> {
        let silent = self.nodes.get(&by)?.silent.get(&member)?;
        self.now.checked_sub(silent + DETECT)
    }

    /// Whether what a member tells names another as down for its whole grace; who hears it again has said so for
    /// a moment more.
    pub(super) fn tells(&self, teller: NodeId, member: NodeId) -> bool {
        let until = self.nodes.get(&teller).and_then(|node| node.words.get(&member));
        until.is_some_and(|until| *until > self.now)
            || self.down_for(teller, member).is_some_and(|down| down >= GRACE)
    }

    pub(super) fn newest(&self) -> Arc<ClusterState> {
        let states = self.nodes.values().map(|node| &node.state);
        Arc::clone(states.max_by_key(|state| state.epoch).expect("there are members"))
    }

    /// Whether nobody is cut off from anybody who runs.
    pub(super) fn is_whole(&self) -> bool {
        self.parts.is_empty() && self.deaf.is_empty()
    }

    /// Whether a member has all of a unit, as its owner since this epoch.
    pub(super) fn is_complete(&self, state: &ClusterState, id: NodeId, unit: Unit) -> bool {
        let entry = state.entry(unit, id);
        let kept = self.nodes.get(&id).and_then(|node| node.complete.get(&unit));
        state.is_original(unit, id) || entry.is_some() && kept.copied() == entry
    }

    /// Everybody does what there is to do now, and what comes of it.
    fn settle(&mut self) {
        let (mut idle, mut rounds) = (0, 0);
        while idle < IDLE_ROUNDS && self.judge.fault.is_none() {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                let wanted = self.nodes.keys().find_map(|id| self.wanted(*id));
                let view = |(id, node): (&NodeId, &Node)| {
                    (*id, node.up, node.state.epoch, node.own, self.parts.get(id).copied())
                };
                let views: Vec<_> = self.nodes.iter().map(view).collect();
                let council = self.newest().topology.clone();
                self.judge.fail(format!(
                    "I15: this is wanted for ever at {}: {wanted:?}; council {council:?}, members {views:?}",
                    self.now
                ));
            }
            let before = self.newest().epoch;
            self.listen();
            self.fill();
            let proposed = self.propose();
            self.deliver();
            self.spread();
            self.now += 1;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            let now = time(self.now);
            ids.into_iter().for_each(|id| self.turn(id, |decree| decree.on_time(now)));
            let moved = proposed || self.newest().epoch != before;
            let waits = |node: &Node| {
                node.decree.as_ref().is_some_and(|decree| decree.next_deadline().is_some())
            };
            if !moved && !self.nodes.values().any(waits) {
                break;
            }
            idle = if moved { 0 } else { idle + 1 };
        }
    }

    /// Who hears whom, and what they tell of themselves.
    fn listen(&mut self) {
        let views = self.nodes.iter().map(|(id, node)| (*id, node.up, node.boot, node.state.epoch));
        let views: Vec<_> = views.collect();
        // Whatever was heard is heard already while nobody, and nothing between them, has changed.
        let seen = (views.clone(), self.parts.clone(), self.deaf.clone());
        if self.listened.as_ref() == Some(&seen) {
            return;
        }
        let mut found = Vec::new();
        for (from, ..) in views.iter().filter(|view| view.1) {
            for (to, up, _, epoch) in views.iter().filter(|view| view.0 != *from) {
                found.push((*from, *to, *up && self.reaches(*from, *to), *epoch));
            }
        }
        self.listened = Some(seen);
        for (from, to, heard, epoch) in found {
            let node = self.nodes.get_mut(&from).expect("a member");
            if heard {
                let since = node.silent.remove(&to);
                if since.is_some_and(|since| self.now >= since + DETECT + GRACE) {
                    node.words.insert(to, self.now + WORDS);
                }
                node.heard.insert(to, epoch);
            } else if let Entry::Vacant(unheard) = node.silent.entry(to) {
                unheard.insert(self.now);
                for wait in [DETECT, DETECT + LOST, DETECT + GRACE, DETECT + GRACE + 60] {
                    self.events.insert((self.now + wait + 1, Event::Look));
                }
            }
        }
    }

    /// What members have to fill by the state they know.
    fn fill(&mut self) {
        let mut wakes = Vec::new();
        for (id, node) in self.nodes.iter_mut().filter(|(_, node)| node.up) {
            let state = Arc::clone(&node.state);
            node.complete.retain(|unit, entry| state.entry(*unit, *id) == Some(*entry));
            node.fills.retain(|(unit, entry)| state.entry(*unit, *id) == Some(*entry));
            for unit in state.units().filter(|unit| !state.is_original(*unit, *id)) {
                let Some(entry) = state.entry(unit, *id) else { continue };
                let known = node.complete.get(&unit) == Some(&entry);
                if !known && !node.fills.contains(&(unit, entry)) {
                    node.fills.push((unit, entry));
                }
            }
            if node.fills.is_empty() {
                node.fills_until = None;
            } else if node.fills_until.is_none() {
                node.fills_until = Some(self.now + UNIT);
                wakes.push((self.now + UNIT, Event::Filled(*id)));
            }
        }
        self.events.extend(wakes);
    }

    fn on_filled(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let due = node.up && node.fills_until.is_some_and(|until| until <= self.now);
        let Some((unit, entry)) = node.fills.first().copied().filter(|_| due) else { return };
        let state = &node.state;
        let has_it = |owner: &&NodeId| {
            **owner != id && self.hears(id, **owner) && self.is_complete(state, **owner, unit)
        };
        let sources = state.owners(unit).iter().filter(has_it).count();
        let enough = sources >= state.sources_wanted(unit);
        let node = self.nodes.get_mut(&id).expect("a member");
        if enough {
            node.fills.remove(0);
            node.complete.insert(unit, entry);
            node.fills_until = None;
        } else {
            // Another one may have its sources.
            node.fills.rotate_left(1);
            node.fills_until = Some(self.now + SOURCES);
            self.at(self.now + SOURCES, Event::Filled(id));
        }
    }

    /// Members propose what they find to be due; mostly the first in turn, now and then others beside it.
    fn propose(&mut self) -> bool {
        let mut proposed = false;
        let council = self.newest().council.clone();
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.sort_by_key(|id| (!council.contains(id), *id));
        for id in ids {
            let node = &self.nodes[&id];
            let waits = !node.up || node.own.is_some();
            if waits || proposed && self.rng.u8(..8) > 0 {
                continue;
            }
            let Some(change) = self.wanted(id) else { continue };
            self.proposals += 1;
            let (op, now) = (OpId(self.proposals), time(self.now));
            self.nodes.get_mut(&id).expect("a member").own = Some(op);
            self.turn(id, |decree| {
                decree.propose(now, op, RequestId(0), change).expect("one at a time");
            });
            proposed = true;
        }
        proposed
    }

    /// What a member finds to be due, as `node::topology` does.
    fn wanted(&self, id: NodeId) -> Option<Change> {
        let (seen, state) = (Seen { world: self, me: id }, &self.nodes[&id].state);
        let Outlook { order, .. } = control::look(state, &seen);
        let long = |member| self.down_for(id, member).is_some_and(|down| down >= LOST);
        let council = control::council_wanted(state, long);
        if let Some(order) = order {
            return Some(Change::Orchestrate(order));
        }
        let steps = control::steps(state, &seen);
        if !steps.is_empty() {
            return Some(Change::Steps(steps));
        }
        council.map(|seats| Change::Member(MemberChange::Council { epoch: state.epoch, seats }))
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            if self.hears(to, from) {
                let now = time(self.now);
                self.turn(to, |decree| decree.on_message(now, from, message));
            }
        }
    }

    /// Probes tell of epochs, and who is behind pulls the state.
    fn spread(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for to in &ids {
            for from in &ids {
                if from == to || !self.hears(*to, *from) {
                    continue;
                }
                let other = &self.nodes[from];
                let stored = other.decree.as_ref().map_or(Epoch(0), Decree::stored);
                let (state, known) = (Arc::clone(&other.state), self.nodes[to].state.epoch);
                let epoch = state.epoch;
                if epoch > known {
                    self.install(*to, state);
                } else {
                    self.turn(*to, |decree| decree.on_epochs(*from, epoch, stored));
                }
            }
        }
        self.deliver();
    }

    fn install(&mut self, id: NodeId, state: Arc<ClusterState>) {
        let now = time(self.now);
        let node = self.nodes.get_mut(&id).expect("a member");
        if state.epoch <= node.state.epoch {
            return;
        }
        node.state = Arc::clone(&state);
        self.turn(id, |decree| decree.on_state(now, Arc::clone(&state)));
        let mut judge = core::mem::take(&mut self.judge);
        judge.state(self, &state, state_hash(&state));
        self.judge = judge;
    }

    /// One member takes a step, and does what comes of it.
    fn turn(&mut self, id: NodeId, step: impl FnOnce(&mut Decree)) {
        let node = self.nodes.get_mut(&id).expect("a member");
        let Some(decree) = node.decree.as_mut() else { return };
        step(decree);
        let (mut in_force, mut told) = (None, Vec::new());
        while let Some(action) = decree.poll_action() {
            match action {
                DecreeAction::Send(to, message) => self.mail.push_back((id, to, message)),
                DecreeAction::Persist(record, to, message) => {
                    node.record = *record;
                    self.mail.push_back((id, to, message));
                }
                DecreeAction::PersistDecided(state) => {
                    decree.on_decided_durable(state.epoch);
                    node.decided = Some(state);
                }
                DecreeAction::InForce(state) => in_force = Some(state),
                DecreeAction::TellState(to) => told.push(to),
                DecreeAction::Outcome(..) => node.own = None,
                DecreeAction::AskState(_) | DecreeAction::Checked(_) => {}
                DecreeAction::Contradiction(member, epoch) => {
                    self.judge.fail(format!("{id} and {member} have decided epoch {epoch} twice"));
                }
            }
        }
        if let Some(state) = in_force {
            self.install(id, state);
        }
        let state = Arc::clone(&self.nodes[&id].state);
        for to in told.into_iter().filter(|to| *to != id) {
            if self.hears(to, id) {
                self.install(to, Arc::clone(&state));
            }
        }
    }
}

fn time(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}
