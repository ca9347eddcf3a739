//! What one decision about the cluster state costs in a large cluster: its messages and its time of
//! computing, by who does it. Disks answer at once and nothing is lost.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use roundtable::control::{Change, Decree, DecreeAction, DecreeTiming};
use roundtable::message::{DecreeMessage, DecreeRecord, PeerMessage, TableChange, TableSpec};
use roundtable::wire::peer::message_to_wire;

use crate::state::{state, timed};
use crate::types::{ClusterState, Epoch, NodeId, OpId, RequestId, TableKind, TableName, Time};

/// Of the ring that is decided about.
const PARTITIONS: u32 = 16_384;

/// What was measured.
pub(crate) struct Decision {
    members: usize,
    council: usize,
    messages: u64,
    bytes: u64,
    /// Messages that carry a whole state.
    states: u64,
    proposer: Duration,
    all: Duration,
    pulls: u64,
}

pub(crate) fn run(members: usize) -> Decision {
    let mut room = Room::new(members);
    room.propose();
    room.settle();
    let in_force = room.in_force.values().filter(|state| state.epoch.0 == 2).count();
    assert_eq!(in_force, room.in_force.len(), "the council and the proposer act by it");
    Decision {
        members,
        council: room.first.council.len(),
        messages: room.messages,
        bytes: room.bytes,
        states: room.states,
        proposer: room.spent.get(&room.proposer).copied().unwrap_or_default(),
        all: room.spent.values().sum(),
        pulls: (members - room.in_force.len()) as u64,
    }
}

/// The council, and a member that proposes: nobody else has a part in it.
struct Room {
    first: Arc<ClusterState>,
    proposer: NodeId,
    decrees: BTreeMap<NodeId, Decree>,
    in_force: BTreeMap<NodeId, Arc<ClusterState>>,
    mail: VecDeque<(NodeId, NodeId, DecreeMessage)>,
    spent: BTreeMap<NodeId, Duration>,
    messages: u64,
    bytes: u64,
    states: u64,
}

impl Room {
    fn new(members: usize) -> Room {
        let first = Arc::new(state(members, PARTITIONS));
        let outsider = |id: &NodeId| !first.council.contains(id);
        let proposer = first.members.iter().map(|member| member.id).find(outsider);
        let proposer = proposer.expect("a member without a seat");
        let timing = DecreeTiming {
            retry: Duration::from_millis(250),
            back_off: Duration::from_millis(30),
            recover: Duration::from_secs(1),
        };
        let mut room = Room {
            first: first.clone(),
            proposer,
            decrees: BTreeMap::new(),
            in_force: BTreeMap::new(),
            mail: VecDeque::new(),
            spent: BTreeMap::new(),
            messages: 0,
            bytes: 0,
            states: 0,
        };
        for id in first.council.iter().copied().chain([proposer]) {
            let rng = fastrand::Rng::with_seed(id.0.into());
            let mut decree = Decree::new((id, 1), timing, DecreeRecord::default(), None, rng);
            decree.on_state(Time(1), first.clone());
            decree.begin(Time(1));
            room.decrees.insert(id, decree);
            room.in_force.insert(id, first.clone());
        }
        room.settle();
        room.spent.clear();
        (room.messages, room.bytes, room.states) = (0, 0, 0);
        room
    }

    fn propose(&mut self) {
        let spec = TableSpec {
            name: TableName::try_from("orders".to_owned()).expect("a name"),
            kind: TableKind::Lww,
            n: None,
            r: None,
            w: None,
            r_min: None,
            w_min: None,
            sloppy: None,
            ttl: None,
            value_bytes_max: None,
        };
        let change = Change::Table(TableChange::Create(spec));
        self.turn(self.proposer, |decree| {
            decree.propose(Time(2), OpId(1), RequestId(7), change).expect("it is taken");
        });
    }

    fn settle(&mut self) {
        let all: Vec<NodeId> = self.decrees.keys().copied().collect();
        all.iter().for_each(|id| self.turn(*id, |_| {}));
        self.deliver();
        // Then probes tell of epochs: who holds the state acts by it, who does not pulls it.
        let newest = self.in_force.iter().max_by_key(|(_, state)| state.epoch);
        let Some((from, state)) = newest.map(|(id, state)| (*id, state.clone())) else { return };
        for id in all {
            self.turn(id, |decree| decree.on_epochs(from, state.epoch, state.epoch));
            self.deliver();
            if self.in_force.get(&id).is_some_and(|held| held.epoch < state.epoch) {
                self.count(PeerMessage::StateAsk { epoch: Epoch(1) });
                self.tell(id, state.clone());
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            self.turn(to, |decree| decree.on_message(Time(2), from, message));
        }
    }

    /// The whole state goes to a member, which acts by it.
    fn tell(&mut self, to: NodeId, state: Arc<ClusterState>) {
        self.count(PeerMessage::StateNews(state.clone()));
        if self.in_force.get(&to).is_some_and(|held| held.epoch < state.epoch) {
            self.in_force.insert(to, state.clone());
            self.turn(to, |decree| decree.on_state(Time(2), state));
        }
    }

    fn count(&mut self, message: PeerMessage) {
        let is_state = match &message {
            PeerMessage::StateNews(_) => true,
            PeerMessage::Decree(message) => {
                matches!(**message, DecreeMessage::Accept { .. } | DecreeMessage::Decided(_))
            }
            _ => false,
        };
        self.states += u64::from(is_state);
        self.messages += 1;
        self.bytes += message_to_wire(message).encoded_len() as u64;
    }

    /// One member takes a step, and does what comes of it.
    fn turn(&mut self, id: NodeId, step: impl FnOnce(&mut Decree)) {
        let Some(decree) = self.decrees.get_mut(&id) else { return };
        let mut sent = Vec::new();
        let mut in_force = None;
        let mut told = Vec::new();
        let ((), took) = timed(|| {
            step(decree);
            while let Some(action) = decree.poll_action() {
                match action {
                    DecreeAction::Send(to, message) | DecreeAction::Persist(_, to, message) => {
                        sent.push((to, message));
                    }
                    DecreeAction::PersistDecided(state) => decree.on_decided_durable(state.epoch),
                    DecreeAction::InForce(state) => {
                        if in_force.as_ref() != Some(&state) {
                            decree.on_state(Time(2), state.clone());
                            in_force = Some(state);
                        }
                    }
                    DecreeAction::TellState(to) => told.push(to),
                    DecreeAction::AskState(_)
                    | DecreeAction::Outcome(..)
                    | DecreeAction::Checked(_)
                    | DecreeAction::Contradiction(..) => {}
                }
            }
        });
        *self.spent.entry(id).or_default() += took;
        self.in_force.extend(in_force.map(|state| (id, state)));
        for (to, message) in sent {
            if to != id {
                self.count(PeerMessage::Decree(Box::new(message.clone())));
            }
            self.mail.push_back((id, to, message));
        }
        if let Some(state) = self.in_force.get(&id).cloned() {
            told.into_iter().filter(|to| *to != id).for_each(|to| self.tell(to, state.clone()));
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        writeln!(
            f,
            "One decision (a table is created), {} members, {PARTITIONS} partitions, a council of {}:",
            self.members, self.council
        )?;
        writeln!(
            f,
            "{} messages, {:.2} MiB, of which {} carry the state; computing {:.1} ms at the proposer, {:.1} ms \
             at all together, without encoding and disks",
            self.messages,
            self.bytes as f64 / (1 << 20) as f64,
            self.states,
            ms(self.proposer),
            ms(self.all)
        )?;
        writeln!(f, "then {} members pull the state once each: two messages", self.pulls)
    }
}
