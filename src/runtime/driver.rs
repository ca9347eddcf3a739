//! The one task that owns the node. Each turn: wait for something, take everything that is there,
//! read the clocks once, handle it all, then perform effects until the node has none left.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use core::pin::Pin;
use core::time::Duration;
use tokio::sync::watch;
use tokio::time::Sleep;

use crate::message::{
    DiskRequest, DiskToken, Effect, Event, HelloRefusal, Level, Note, OpError, PeerMessage, Phase,
    Reply, View,
};
use crate::node::Node;
use crate::replica::Replica;
use crate::telemetry::{OpKind, Telemetry};
use crate::transport::{Connector, PeerInput, PeerInputs, Transport};
use crate::types::{NodeId, Now, OpId, Time, limits};

use super::clock::Clock;
use super::handle::{Asked, ClientInput, ClientInputs, Responder};
use super::mailbox::{Letters, Mailbox};
use super::readers::Readers;

/// Batches of peers taken in one turn.
const PEER_INPUTS_PER_TURN: usize = 64;
/// Messages of clients taken in one turn.
const CLIENT_INPUTS_PER_TURN: usize = 256;
/// Where a write waits for a sync: in a turn of at most so many messages the log is woken at each
/// write, so that it is done before the driver goes to sleep, which saves waking the driver again. In a
/// larger one all writes are one group.
const SMALL_TURN: usize = 2;
/// Rounds of effects and immediate answers in one turn, before others get theirs.
const ROUNDS_PER_TURN: usize = 64;

/// How often the node is told what the process costs.
const COST_INTERVAL: Duration = Duration::from_secs(5);

/// How often the node is told of the same refusal by, or of, the same peer.
const REFUSAL_REPEAT: Duration = Duration::from_secs(60);

/// Everything that comes in.
pub(super) struct Inputs {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) peers: PeerInputs,
    pub(super) clients: ClientInputs,
}

/// Where disk requests go.
pub(super) struct Disk {
    pub(super) replica: Replica,
    pub(super) readers: Readers,
}

/// What the driver shares with the rest of the process.
pub(super) struct Outside {
    pub(super) clock: Clock,
    pub(super) publish: watch::Sender<Option<Arc<View>>>,
    pub(super) telemetry: Telemetry,
}

struct Pending {
    responder: Responder,
    kind: OpKind,
    since: Time,
}

/// The driver.
pub(super) struct Driver<C> {
    node: Node,
    inputs: Inputs,
    transport: Transport<C>,
    disk: Disk,
    outside: Outside,
    pending: HashMap<OpId, Pending>,
    /// Messages of the node to itself: they never leave the process.
    looped: VecDeque<PeerMessage>,
    /// Peers that could not be reached since the node was last told.
    unreachable: BTreeSet<NodeId>,
    /// This node, once it has published who it is.
    me: Option<NodeId>,
    refusal_logged: bool,
    /// Messages taken in this turn.
    taken: usize,
    /// Something was written that is not yet on its way to the log.
    unlogged: bool,
    /// The refusals the node has been told of: a stream that is refused is tried again every second
    /// for as long as nobody looks, and one line in a while is enough.
    told: BTreeMap<NodeId, (HelloRefusal, Time)>,
    /// When the node was last told what the process costs.
    costed: Option<Time>,
    /// Cores that the process may use.
    cores: u32,
    /// The armed timer and what it was armed for.
    alarm: Pin<Box<Sleep>>,
    armed: Option<Time>,
}

impl<C: Connector> Driver<C> {
    pub(super) fn new(
        node: Node,
        inputs: Inputs,
        transport: Transport<C>,
        disk: Disk,
        outside: Outside,
    ) -> Driver<C> {
        let alarm = Box::pin(tokio::time::sleep_until(outside.clock.instant(Time(0))));
        Driver {
            node,
            inputs,
            transport,
            disk,
            outside,
            pending: HashMap::new(),
            looped: VecDeque::new(),
            unreachable: BTreeSet::new(),
            me: None,
            refusal_logged: false,
            taken: 0,
            unlogged: false,
            told: BTreeMap::new(),
            costed: None,
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            alarm,
            armed: None,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut peers = Vec::with_capacity(PEER_INPUTS_PER_TURN);
        let mut clients = Vec::with_capacity(CLIENT_INPUTS_PER_TURN);
        // What the node does at birth, before anything comes in.
        self.settle(self.outside.clock.now());
        loop {
            self.wait(&mut peers, &mut clients).await;
            let now = self.outside.clock.now();
            let letters = self.inputs.mailbox.take();
            if letters.stop {
                break;
            }
            self.taken = 0;
            self.tell_cost(now);
            self.take_letters(now, letters);
            self.take_peers(now, &mut peers);
            self.take_clients(now, &mut clients);
            if self.node.next_deadline().is_some_and(|deadline| deadline <= now.mono) {
                self.node.handle(now, Event::Tick);
            }
            self.settle(now);
        }
        // Dropping the readers joins them; what they finish now has nobody to tell.
        drop(self.disk);
    }

    /// Waits until there is something to do, taking in what the queues hold.
    async fn wait(&mut self, peers: &mut Vec<PeerInput>, clients: &mut Vec<ClientInput>) {
        self.arm();
        let Inputs { mailbox, peers: from_peers, clients: from_clients } = &mut self.inputs;
        tokio::select! {
            biased;
            () = mailbox.arrived() => {}
            _ = from_peers.recv_many(peers, PEER_INPUTS_PER_TURN) => {}
            _ = from_clients.recv_many(clients, CLIENT_INPUTS_PER_TURN) => {}
            () = self.alarm.as_mut(), if self.armed.is_some() => self.armed = None,
        }
        // Whoever won the race, the others have their turn as well.
        while peers.len() < PEER_INPUTS_PER_TURN
            && let Ok(input) = from_peers.try_recv()
        {
            peers.push(input);
        }
        while clients.len() < CLIENT_INPUTS_PER_TURN
            && let Ok(input) = from_clients.try_recv()
        {
            clients.push(input);
        }
    }

    /// Arms the timer. One that is armed for an earlier moment stays: waking once too often is
    /// cheaper than moving it at every turn.
    fn arm(&mut self) {
        let Some(deadline) = self.node.next_deadline() else {
            return;
        };
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.alarm.as_mut().reset(self.outside.clock.instant(deadline));
            self.armed = Some(deadline);
        }
    }

    /// Tells the node now and then what the process costs: a read of `/proc`, which waits for no disk.
    fn tell_cost(&mut self, now: Now) {
        if self.costed.is_some_and(|at| now.mono.since(at) < COST_INTERVAL) {
            return;
        }
        self.costed = Some(now.mono);
        if let Some(cpu) = crate::telemetry::cpu_time() {
            self.node.handle(now, Event::Process { cpu, cores: self.cores });
        }
    }

    fn take_letters(&mut self, now: Now, letters: Letters) {
        for (token, result) in letters.done {
            self.node.handle(now, Event::DiskDone { token, result });
        }
        for op in letters.abandoned {
            // One that is not pending has been answered, or is still in the queue and will be
            // found to be unwanted there.
            if self.pending.remove(&op).is_some() {
                self.node.handle(now, Event::Abandon { op });
            }
        }
        for scan in letters.ended {
            self.node.handle(now, Event::ScanEnded { scan });
        }
        if letters.drain {
            self.node.handle(now, Event::Drain);
        }
    }

    fn take_peers(&mut self, now: Now, inputs: &mut Vec<PeerInput>) {
        for input in inputs.drain(..) {
            match input {
                PeerInput::Batch { from, messages, permit } => {
                    self.taken += messages.len();
                    for message in messages {
                        self.node.handle(now, Event::Peer { from, message });
                    }
                    drop(permit);
                }
                PeerInput::Moved(peer, address) => self.transport.redirect(peer, address),
                PeerInput::Lost(peer) => self.node.handle(now, Event::Unreachable { peer }),
                PeerInput::Rejected(peer, reason) => {
                    if self.is_news(now.mono, peer, &reason) {
                        self.node.handle(now, Event::Rejected { peer, reason });
                    }
                }
            }
        }
    }

    /// Whether a refusal is another than the last one of that peer, or that was a while ago.
    fn is_news(&mut self, now: Time, peer: NodeId, reason: &HelloRefusal) -> bool {
        let stale = |at: Time| now.since(at) >= REFUSAL_REPEAT;
        if self.told.get(&peer).is_some_and(|(last, at)| last == reason && !stale(*at)) {
            return false;
        }
        if self.told.len() >= limits::MEMBERS_MAX {
            // Ids of strangers are theirs to choose.
            self.told.clear();
        }
        self.told.insert(peer, (reason.clone(), now));
        true
    }

    fn take_clients(&mut self, now: Now, inputs: &mut Vec<ClientInput>) {
        for Asked { op, event, responder } in inputs.drain(..).flatten() {
            if responder.is_closed() {
                continue;
            }
            let kind = OpKind::of(&event);
            self.taken += 1;
            self.pending.insert(op, Pending { responder, kind, since: now.mono });
            self.node.handle(now, event);
        }
        self.outside.telemetry.set_in_flight(self.pending.len());
    }

    /// Performs effects, and feeds back what they bring about at once, until all is quiet.
    fn settle(&mut self, now: Now) {
        let mut quiet = false;
        for _ in 0..ROUNDS_PER_TURN {
            while let Some(effect) = self.node.poll_effect() {
                self.perform(now, effect);
            }
            self.write_log();
            quiet = self.looped.is_empty() && self.unreachable.is_empty();
            if let Some(from) = self.me {
                while let Some(message) = self.looped.pop_front() {
                    self.node.handle(now, Event::Peer { from, message });
                }
            }
            for peer in core::mem::take(&mut self.unreachable) {
                self.node.handle(now, Event::Unreachable { peer });
            }
            let letters = self.inputs.mailbox.take();
            if letters.stop {
                // Left for the loop to find.
                self.inputs.mailbox.stop();
            }
            quiet &= letters.done.is_empty() && letters.abandoned.is_empty() && !letters.drain;
            quiet &= letters.ended.is_empty();
            self.take_letters(now, letters);
            if quiet {
                break;
            }
        }
        if !quiet {
            self.inputs.mailbox.nudge();
        }
        self.transport.flush();
        self.outside.telemetry.set_in_flight(self.pending.len());
    }

    fn perform(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { to, message } if self.me == Some(to) => self.looped.push_back(message),
            Effect::Send { to, message } => {
                if !self.transport.enqueue(to, message) {
                    self.unreachable.insert(to);
                }
            }
            Effect::Reply { op, result } => {
                if let Some(pending) = self.pending.remove(&op) {
                    let latency = now.mono.since(pending.since);
                    if let Ok(Reply::Causal(reply)) = &result
                        && reply.wrote
                        && reply.count >= limits::SIBLINGS_WARN
                    {
                        self.outside.telemetry.many_siblings();
                    }
                    let error = result.as_ref().err();
                    if let Some(bound) = error.and_then(|error| error.facts.bound) {
                        self.outside.telemetry.refused(bound);
                    }
                    let code = error.map(|OpError { code, .. }| *code);
                    self.outside.telemetry.operation(pending.kind, code, latency);
                    pending.responder.answer(result);
                }
            }
            Effect::Disk { token, request } => self.ask_disk(token, request),
            Effect::Publish(view) => self.publish(view),
            Effect::Note(note) => log(&note),
        }
    }

    /// Sends writes to the log, if there are any. Where they do not wait for a sync and the log is
    /// free this is one `write` of the driver itself into the page cache: microseconds, and what it
    /// finishes is in the mailbox for this very turn. Otherwise it wakes the log thread, which is dear.
    fn write_log(&mut self) {
        if core::mem::take(&mut self.unlogged) {
            self.disk.replica.write_log();
        }
    }

    fn ask_disk(&mut self, token: DiskToken, request: DiskRequest) {
        let writes = request.may_write();
        let mailbox = self.inputs.mailbox.clone();
        let done = Box::new(move |result| mailbox.done(token, result));
        if let Some((request, done)) = self.disk.replica.try_execute(request, done) {
            self.disk.readers.submit(request, done);
        }
        self.unlogged |= writes;
        if self.taken <= SMALL_TURN && !self.disk.replica.writes_through() {
            self.write_log();
        }
    }

    fn publish(&mut self, view: Arc<View>) {
        self.me = Some(view.hello.id);
        // The view first: streams that the transport opens greet with it.
        self.outside.publish.send_replace(Some(view.clone()));
        self.transport.update(&view);
        if let Phase::Refused(why) = &view.phase
            && !self.refusal_logged
        {
            self.refusal_logged = true;
            tracing::error!(%why, "this node will not run as itself; it serves nothing");
        }
    }
}

fn log(note: &Note) {
    let peer = note.peer.map(|peer| peer.0);
    let message = note.message.as_str();
    match note.level {
        Level::Error => tracing::error!(peer, "{message}"),
        Level::Warn => tracing::warn!(peer, "{message}"),
        Level::Info => tracing::info!(peer, "{message}"),
    }
}
