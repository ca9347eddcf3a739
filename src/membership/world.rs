//! Many members in one thread and virtual time, on a network that delays and loses what it likes, for
//! tests and for `benches/scale`, which includes this file. Members have no data, only facts.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use fastrand::Rng;

use crate::membership::{Members, MembersAction, Timing};
use crate::message::{BootRecord, Liveness, PeerMessage, ProbeFacts};
use crate::types::{Epoch, NodeId, Nonce, Now, Time, WallTime};

/// A millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// A second.
pub(crate) const S: u64 = 1000 * MS;
const EPOCH: u64 = 1_700_000_000 * S;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What an observer has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: u64,
    pub(crate) observer: NodeId,
    pub(crate) member: NodeId,
    pub(crate) liveness: Liveness,
}

struct Host {
    members: Members,
    runs: bool,
    facts: ProbeFacts,
    wake_at: u64,
    /// Handles what has come only so often, and so much of it; timers first.
    slow: Option<(u64, usize)>,
    inbox: VecDeque<(NodeId, PeerMessage)>,
}

enum Job {
    Deliver(NodeId, NodeId, PeerMessage),
    Wake(NodeId),
}

/// All of them.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) loss: f64,
    /// The least and the most that a message takes.
    pub(crate) delay: (u64, u64),
    /// Ordered pairs that lose everything.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) sent: Sent,
    pub(crate) found: Vec<Found>,
    timing: Timing,
    hosts: Vec<Host>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    jobs: BTreeMap<u64, Job>,
    order: u64,
}

/// The settings that a node has by default.
pub(crate) fn timing() -> Timing {
    Timing {
        probe_interval: Duration::from_millis(500),
        suspect_after: Duration::from_secs(2),
        down_after: Duration::from_secs(10),
    }
}

pub(crate) fn id(number: usize) -> NodeId {
    NodeId(u32::try_from(number).expect("a small number"))
}

impl World {
    /// Members 1 to `count`, all started within a period, on a sound network.
    pub(crate) fn new(count: usize, seed: u64) -> World {
        let mut world = World {
            now: S,
            rng: Rng::with_seed(seed),
            loss: 0.0,
            delay: (MS / 5, 2 * MS),
            cut: BTreeSet::new(),
            sent: Sent::default(),
            found: Vec::new(),
            timing: timing(),
            hosts: Vec::new(),
            queue: BinaryHeap::new(),
            jobs: BTreeMap::new(),
            order: 0,
        };
        for number in 1..=count {
            let members = world.begin(id(number), 1, count);
            world.hosts.push(Host {
                members,
                runs: true,
                facts: facts(id(number), 1),
                wake_at: u64::MAX,
                slow: None,
                inbox: VecDeque::new(),
            });
            let at = world.now + world.rng.u64(..500 * MS);
            world.wake(id(number), at);
        }
        world
    }

    fn begin(&mut self, me: NodeId, boot: u64, count: usize) -> Members {
        let now = self.time();
        let mut members = Members::new(now, self.timing, (me, boot), self.rng.fork());
        members.set_peers(now, (1..=count).map(id));
        members
    }

    fn time(&self) -> Now {
        Now { mono: Time(self.now), wall: WallTime(EPOCH + self.now) }
    }

    fn host(&mut self, id: NodeId) -> &mut Host {
        let index = usize::try_from(id.0).expect("a small number") - 1;
        self.hosts.get_mut(index).expect("a member")
    }

    pub(crate) fn members(&mut self, id: NodeId) -> &mut Members {
        &mut self.host(id).members
    }

    pub(crate) fn count(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.hosts.len()).map(id)
    }

    /// A member stops, without a word.
    pub(crate) fn stop(&mut self, id: NodeId) {
        self.host(id).runs = false;
        self.host(id).inbox.clear();
    }

    /// It runs again, in this boot.
    pub(crate) fn restart(&mut self, id: NodeId, boot: u64) {
        let count = self.count();
        let members = self.begin(id, boot, count);
        let facts = facts(id, boot);
        let host = self.host(id);
        (host.members, host.facts, host.runs) = (members, facts, true);
        host.wake_at = u64::MAX;
        let at = self.now;
        self.wake(id, at);
    }

    /// A member handles what has come only every `every`, and `most` messages at a time.
    pub(crate) fn slow_down(&mut self, id: NodeId, every: u64, most: usize) {
        self.host(id).slow = Some((every, most));
    }

    /// A member has something to tell: it has acknowledged an epoch.
    pub(crate) fn acknowledge(&mut self, id: NodeId, epoch: u64) {
        let now = self.time();
        let host = self.host(id);
        host.facts.acknowledged = Epoch(epoch);
        host.members.probe_soon(now);
        self.settle(id);
    }

    /// Nothing passes between two sides, in either direction.
    pub(crate) fn split(&mut self, side: impl Fn(NodeId) -> bool) {
        for a in self.ids() {
            self.cut.extend(self.ids().filter(|b| side(a) != side(*b)).map(|b| (a, b)));
        }
    }

    /// What one says of another.
    pub(crate) fn liveness(&mut self, observer: NodeId, member: NodeId) -> Liveness {
        self.members(observer).facts(member).map_or(Liveness::Left, |known| known.liveness)
    }

    /// Whether all that run say this of a member.
    pub(crate) fn all_say(&mut self, member: NodeId, liveness: Liveness) -> bool {
        self.ids().filter(|id| *id != member).all(|observer| {
            !self.host(observer).runs || self.liveness(observer, member) == liveness
        })
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: u64) {
        let end = self.now + time;
        while let Some(Reverse((at, order))) = self.queue.peek().copied()
            && at <= end
        {
            self.queue.pop();
            self.now = self.now.max(at);
            match self.jobs.remove(&order) {
                Some(Job::Deliver(from, to, message)) => self.deliver(from, to, message),
                Some(Job::Wake(id)) => self.on_wake(id, at),
                None => {}
            }
        }
        self.now = end;
    }

    /// Lets time pass in steps until something holds; says after how long, if within `most`.
    pub(crate) fn until(
        &mut self,
        (step, most): (u64, u64),
        mut holds: impl FnMut(&mut World) -> bool,
    ) -> Option<u64> {
        let began = self.now;
        while !holds(self) {
            if self.now - began >= most {
                return None;
            }
            self.pass(step);
        }
        Some(self.now - began)
    }

    fn on_wake(&mut self, id: NodeId, at: u64) {
        let now = self.time();
        let host = self.host(id);
        if !host.runs || host.wake_at != at {
            return;
        }
        host.wake_at = u64::MAX;
        host.members.on_time(now, true);
        self.settle(id);
        if let Some((_, most)) = self.host(id).slow {
            for _ in 0..most {
                let Some((from, message)) = self.host(id).inbox.pop_front() else { break };
                self.take(from, id, message);
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let host = self.host(to);
        if host.runs && host.slow.is_some() {
            host.inbox.push_back((from, message));
        } else if host.runs {
            self.take(from, to, message);
        }
    }

    fn take(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        let now = self.time();
        let members = &mut self.host(to).members;
        members.on_heard(now, from);
        match message {
            PeerMessage::Probe(probe) => members.on_probe(now, from, *probe),
            PeerMessage::ProbeAck(probe) => members.on_probe_ack(now, from, *probe),
            PeerMessage::News(probe) => members.on_news(now, from, *probe),
            PeerMessage::ProbeVia { seq, target } => members.on_probe_via(now, from, seq, target),
            PeerMessage::Vouch { target, heard, .. } => members.on_vouch(now, from, target, heard),
            PeerMessage::MemberSync(sync) => members.on_sync(now, from, *sync),
            other => panic!("no message of membership: {other:?}"),
        }
        self.settle(to);
    }

    /// Carries out what a member wants, and wakes it when it wants that.
    fn settle(&mut self, id: NodeId) {
        let now = self.time();
        while let Some(action) = self.host(id).members.poll_action() {
            let host = self.host(id);
            let mut told = ProbeFacts { wall: now.wall, clock: now.wall, ..host.facts.clone() };
            told.ceiling = now.wall;
            let (to, message) = match action {
                MembersAction::Probe(to, seq) => {
                    let probe = host.members.compose(now, to, seq, told);
                    (to, PeerMessage::Probe(Box::new(probe)))
                }
                MembersAction::Answer(to, seq) => {
                    let probe = host.members.compose(now, to, seq, told);
                    (to, PeerMessage::ProbeAck(Box::new(probe)))
                }
                MembersAction::News(to) => {
                    let probe = host.members.compose(now, to, 0, told);
                    (to, PeerMessage::News(Box::new(probe)))
                }
                MembersAction::Send(to, message) => (to, message),
                MembersAction::Changed(member, liveness) => {
                    let at = self.now;
                    self.found.push(Found { at, observer: id, member, liveness });
                    continue;
                }
                MembersAction::Told { .. } => continue,
            };
            self.send(id, to, message);
        }
        let deadline = self.host(id).members.next_deadline().0;
        let at = match self.host(id).slow {
            Some((every, _)) => (self.now / every + 1) * every,
            None => deadline.max(self.now),
        };
        self.wake(id, at);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: PeerMessage) {
        self.sent.messages += 1;
        self.sent.bytes += match &message {
            PeerMessage::Probe(probe) | PeerMessage::ProbeAck(probe) | PeerMessage::News(probe) => {
                probe.bytes() as u64
            }
            PeerMessage::MemberSync(sync) => sync.bytes() as u64,
            _ => 16,
        };
        if self.rng.f64() >= self.loss && !self.cut.contains(&(from, to)) {
            let at = self.now + self.rng.u64(self.delay.0..=self.delay.1);
            self.push(at, Job::Deliver(from, to, message));
        }
    }

    fn wake(&mut self, id: NodeId, at: u64) {
        let host = self.host(id);
        if at < host.wake_at {
            host.wake_at = at;
            self.push(at, Job::Wake(id));
        }
    }

    fn push(&mut self, at: u64, job: Job) {
        self.order += 1;
        self.jobs.insert(self.order, job);
        self.queue.push(Reverse((at, self.order)));
    }
}

fn facts(id: NodeId, boot: u64) -> ProbeFacts {
    ProbeFacts {
        epoch: Epoch(1),
        stored: Epoch(1),
        acknowledged: Epoch(1),
        serving: true,
        boot: BootRecord { number: boot, nonce: Nonce(boot.into()) },
        client_address: format!("10.0.{}.{}:7450", id.0 / 256, id.0 % 256),
        ..ProbeFacts::default()
    }
}
