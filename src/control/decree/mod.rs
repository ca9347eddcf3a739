//! Who decides the next epoch: single-decree Paxos (Lamport, *Paxos Made Simple*, 2001), one
//! instance an epoch, among the council that the state before it names. Any member may propose;
//! there is no leader. States, messages and invariants: `docs/protocol/decree.md`.
//!
//! Knows no transport and no disk: what must be durable before it is told leaves as
//! [`DecreeAction::Persist`] with the answer that may be told then.

mod acceptor;
#[cfg(test)]
mod bench;
mod learner;
mod newest;
mod round;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::{Applied, Ballot, DecreeMessage, DecreeRecord, ErrorCode, Instance, OpError};
use crate::types::{ClusterState, Epoch, Lineage, NodeId, OpId, RequestId, Time, limits};

use super::Change;
use acceptor::Acceptor;
use learner::Held;
use newest::Newest;
use round::{Round, majority};

/// The back-off of an outbid proposer doubles so many times.
const BACK_OFF_DOUBLINGS: u32 = 6;

/// What a decree is told of time.
#[derive(Clone, Copy, Debug)]
pub struct DecreeTiming {
    /// How long an answer may take before it is asked for again.
    pub retry: Duration,
    /// The longest pause after the first time a proposer was outbid; doubles each time.
    pub back_off: Duration,
    /// How long an accepted state may stay undecided before an acceptor finishes it: its proposer
    /// may be gone. Drawn between once and twice this.
    pub recover: Duration,
}

/// What a decree yields.
#[derive(Clone, Debug, PartialEq)]
pub enum DecreeAction {
    /// Tell a member, which may be this node.
    Send(NodeId, DecreeMessage),
    /// Make the record durable, always fsynced; only then tell the member.
    Persist(Box<DecreeRecord>, NodeId, DecreeMessage),
    /// Make a decided state durable; say so with [`Decree::on_decided_durable`].
    PersistDecided(Arc<ClusterState>),
    /// The state is in force: bring it into force here.
    InForce(Arc<ClusterState>),
    /// A member knows less than is in force here: send it the state.
    TellState(NodeId),
    /// A member knows more than this node: ask it for the state in force.
    AskState(NodeId),
    /// What became of a change: the epoch it is part of, in force here.
    Outcome(OpId, Result<Epoch, OpError>),
    /// All checks up to this number are over: the state in force here was the newest.
    Checked(u64),
    /// Another state of a decided epoch has been heard of: a defect, or a foreign disk.
    Contradiction(NodeId, Epoch),
}

/// A change that waits to be decided.
#[derive(Debug)]
struct Want {
    ticket: OpId,
    id: RequestId,
    change: Change,
    /// The epoch in which it was first proposed: it may be decided from then on.
    proposed: Option<Epoch>,
}

/// One member's part in deciding epochs: proposer, acceptor and learner.
#[derive(Debug)]
pub struct Decree {
    me: NodeId,
    boot: u64,
    timing: DecreeTiming,
    rng: fastrand::Rng,
    /// Whether this boot is registered. Before, it promises and proposes nothing.
    active: bool,
    /// The state in force here.
    state: Option<Arc<ClusterState>>,
    acceptor: Acceptor,
    held: Option<Held>,
    round: Option<Round>,
    wants: VecDeque<Want>,
    /// The highest ballot counter seen.
    counter: u64,
    outbid: u32,
    not_before: Time,
    /// An accepted state has waited for its decision for too long.
    recovering: bool,
    recover_at: Option<Time>,
    newest: Newest,
    /// Up to this epoch nothing is promised, and nothing said of what was.
    abstains: Epoch,
    out: VecDeque<DecreeAction>,
}

impl Decree {
    /// The part of member `me` in boot `boot`, with what its store held.
    pub fn new(
        (me, boot): (NodeId, u64),
        timing: DecreeTiming,
        record: DecreeRecord,
        decided: Option<Arc<ClusterState>>,
        mut rng: fastrand::Rng,
    ) -> Decree {
        let held = decided.map(|state| Held::restored(state, me));
        Decree {
            me,
            boot: if crate::mutant!("decree-ballot-reused") { 0 } else { boot },
            timing,
            active: false,
            state: None,
            counter: if crate::mutant!("decree-ballot-reused") {
                0
            } else {
                record.promised.counter
            },
            acceptor: Acceptor::new(record),
            held,
            round: None,
            wants: VecDeque::new(),
            outbid: 0,
            not_before: Time(0),
            recovering: false,
            recover_at: None,
            newest: Newest::new(rng.u64(..1 << 62)),
            rng,
            abstains: Epoch(0),
            out: VecDeque::new(),
        }
    }

    /// Takes no part as an acceptor in the decisions up to `epoch`: what this node had promised in them
    /// may be lost.
    pub fn abstain(&mut self, epoch: Epoch) {
        self.abstains = epoch;
    }

    /// Takes one action out; `None` when there is none left.
    pub fn poll_action(&mut self) -> Option<DecreeAction> {
        self.out.pop_front()
    }

    /// The boot is registered: from now on it takes part. What was accepted before it ended may
    /// wait for its decision.
    pub fn begin(&mut self, now: Time) {
        self.active = true;
        self.expect_decision(now);
        self.advance(now);
    }

    /// The newest decided epoch that is durable here, in force or not.
    pub fn stored(&self) -> Epoch {
        let held = self.held.as_ref().filter(|held| held.durable);
        held.map_or(self.epoch(), |held| held.state.epoch.max(self.epoch()))
    }

    /// A state has come into force here.
    pub fn on_state(&mut self, now: Time, state: Arc<ClusterState>) {
        if self.held.as_ref().is_some_and(|held| held.state.epoch <= state.epoch) {
            self.held = None;
        }
        self.abandon_round(state.epoch);
        self.recovering = false;
        self.recover_at = None;
        self.newest.on_state(state.epoch, &state.council);
        let wants = core::mem::take(&mut self.wants);
        for want in wants {
            if let Some(epoch) = state.epoch_of(want.id) {
                self.out.push_back(DecreeAction::Outcome(want.ticket, Ok(epoch)));
            } else if want.proposed.is_some_and(|at| is_forgotten(at, &state)) {
                let text = "so many changes were decided meanwhile that it cannot be told whether \
                            this one was among them";
                let error = OpError::new(ErrorCode::DeadlineExceeded, text);
                let error = error.with_applied(Applied::Unknown);
                self.out.push_back(DecreeAction::Outcome(want.ticket, Err(error)));
            } else {
                self.wants.push_back(want);
            }
        }
        self.state = Some(state);
        self.expect_decision(now);
        self.advance(now);
    }

    /// Proposes a change: its outcome comes as [`DecreeAction::Outcome`].
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`]: too many wait. Nothing has changed.
    pub fn propose(
        &mut self,
        now: Time,
        ticket: OpId,
        id: RequestId,
        change: Change,
    ) -> Result<(), OpError> {
        if self.wants.len() >= limits::CHANGES_WAITING_MAX {
            let text = "too many changes of the cluster state wait on this node";
            let limit = limits::CHANGES_WAITING_MAX;
            return Err(OpError::new(ErrorCode::Overloaded, text).with_limit(limit, limit));
        }
        // One that its asker did not number cannot be asked for again; its state must differ from
        // that of another's equal wish all the same.
        let id = if id.0 == 0 { RequestId(self.rng.u128(1..)) } else { id };
        if let Some(epoch) = self.state.as_ref().and_then(|state| state.epoch_of(id)) {
            self.out.push_back(DecreeAction::Outcome(ticket, Ok(epoch)));
        } else {
            self.wants.push_back(Want { ticket, id, change, proposed: None });
            self.advance(now);
        }
        Ok(())
    }

    /// Nobody waits for a change any more. Says why it had no outcome yet; one that was proposed
    /// may be decided all the same.
    pub fn withdraw(&mut self, ticket: OpId) -> OpError {
        let place = self.wants.iter().position(|want| want.ticket == ticket);
        let want = place.and_then(|place| self.wants.remove(place));
        let proposed = want.is_none_or(|want| want.proposed.is_some());
        let applied = if proposed { Applied::Unknown } else { Applied::No };
        let tally = match (&self.round, &self.held) {
            (Some(round), _) => Some(round.tally()),
            (None, Some(held)) => Some((majority(held.state.council.len()), held.stored_by.len())),
            (None, None) => None,
        };
        let error = match tally.filter(|(needed, got)| got < needed) {
            Some((needed, got)) => short_of_council(needed, got),
            None => OpError::new(ErrorCode::DeadlineExceeded, "deadline passed before a decision"),
        };
        error.with_applied(applied)
    }

    /// Wants to know whether the state in force here is the newest. Returns the number of the
    /// check, whose end comes as [`DecreeAction::Checked`].
    pub fn check(&mut self, now: Time) -> u64 {
        let number = self.newest.want();
        self.advance(now);
        number
    }

    /// Why a check has not come to its end.
    pub fn unchecked(&self) -> OpError {
        let (needed, got) = self.newest.tally();
        short_of_council(needed, got)
    }

    /// A member has said something.
    pub fn on_message(&mut self, now: Time, from: NodeId, message: DecreeMessage) {
        if !self.active {
            return;
        }
        match message {
            DecreeMessage::Prepare { instance, ballot } => {
                if self.is_open(from, instance) {
                    self.on_prepare(from, instance, ballot);
                }
            }
            DecreeMessage::Accept { instance, ballot, state } => {
                if self.is_open(from, instance) && state.epoch == instance.epoch {
                    self.on_accept(now, from, (instance, ballot, state));
                }
            }
            DecreeMessage::Promise { instance, ballot, accepted } => {
                if let Some(round) = self.round.as_mut().filter(|round| round.is(instance, ballot))
                    && round.promised(from, accepted)
                {
                    self.choose();
                }
            }
            DecreeMessage::Accepted { instance, ballot } => {
                let round = self.round.as_mut().filter(|round| round.is(instance, ballot));
                if let Some(state) = round.and_then(|round| round.accepted(from)) {
                    self.round = None;
                    self.outbid = 0;
                    self.on_decided(now, self.me, state);
                }
            }
            DecreeMessage::Outbid { instance, ballot, promised } => {
                self.counter = self.counter.max(promised.counter);
                if self.round.as_ref().is_some_and(|round| round.is(instance, ballot)) {
                    self.back_off(now);
                }
            }
            DecreeMessage::Decided(state) => self.on_decided(now, from, state),
            DecreeMessage::Stored(instance) => self.on_stored(from, instance),
            // What it has accepted may be lost.
            DecreeMessage::Newest { .. } if self.next_instance().epoch <= self.abstains => {}
            DecreeMessage::Newest { seq } => {
                self.expect_decision(now);
                let epoch = self.newest_known();
                self.send(from, DecreeMessage::NewestAnswer { seq, epoch });
            }
            DecreeMessage::NewestAnswer { seq, epoch } => self.on_newest(from, seq, epoch),
        }
        self.advance(now);
    }

    /// A deadline has come.
    pub fn on_time(&mut self, now: Time) {
        if !self.active {
            return;
        }
        if self.recover_at.is_some_and(|at| at <= now) {
            crate::sometimes!("decree: an acceptor finishes what it has accepted");
            self.recover_at = None;
            self.recovering = true;
        }
        self.advance(now);
    }

    /// When [`Decree::on_time`] is next wanted.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.active {
            return None;
        }
        let round = self.round.as_ref().map(|round| round.resend_at);
        let held = self.held.as_ref().map(|held| held.resend_at);
        let begins =
            (self.is_wanted() && round.is_none() && held.is_none()).then_some(self.not_before);
        let newest = self.newest.is_open().then_some(self.newest.resend_at);
        [round, held, begins, newest, self.recover_at].into_iter().flatten().min()
    }

    fn epoch(&self) -> Epoch {
        self.state.as_ref().map_or(Epoch(0), |state| state.epoch)
    }

    fn lineage(&self) -> Lineage {
        self.state.as_ref().map_or(Lineage(0), |state| state.lineage)
    }

    fn next_instance(&self) -> Instance {
        Instance { lineage: self.lineage(), epoch: Epoch(self.epoch().0.saturating_add(1)) }
    }

    /// The newest epoch that may have been decided, as far as is known here.
    fn newest_known(&self) -> Epoch {
        let next = self.next_instance();
        let accepted = self.acceptor.accepted(next).map(|_| next.epoch);
        let held = self.held.as_ref().map(|held| held.state.epoch);
        accepted.max(held).unwrap_or_default().max(self.epoch())
    }

    /// Whether this node is an acceptor of `instance` now. Whoever asks about a decision of
    /// yesterday is told it; one about tomorrow's tells this node to catch up.
    fn is_open(&mut self, from: NodeId, instance: Instance) -> bool {
        let Some(state) = &self.state else { return false };
        if instance.lineage != state.lineage {
            return false;
        }
        let abstains = instance.epoch <= self.abstains && instance.epoch > state.epoch;
        if abstains && !crate::mutant!("decree-forgets-loss") {
            crate::sometimes!("decree: abstains after a loss");
            return false;
        }
        let held = self.held.as_ref().map(|held| held.state.clone());
        if instance.epoch <= state.epoch {
            if from != self.me {
                crate::sometimes!("decree: a stale proposer is told");
                self.out.push_back(DecreeAction::TellState(from));
            }
            return false;
        }
        if let Some(held) = held {
            if held.epoch >= instance.epoch {
                self.send(from, DecreeMessage::Decided(held));
            } else if held.epoch.0.checked_add(1) == Some(instance.epoch.0) {
                // Nobody proposes on top of a state that is not in force with him.
                self.out.push_back(DecreeAction::InForce(held));
            } else {
                self.out.push_back(DecreeAction::AskState(from));
            }
            return false;
        }
        if instance != self.next_instance() {
            self.out.push_back(DecreeAction::AskState(from));
            return false;
        }
        state.council.contains(&self.me)
    }

    fn on_prepare(&mut self, from: NodeId, instance: Instance, ballot: Ballot) {
        self.counter = self.counter.max(ballot.counter);
        let accepted = self.acceptor.accepted(instance).cloned();
        match self.acceptor.prepare(instance, ballot) {
            Ok(record) => {
                let promise = DecreeMessage::Promise { instance, ballot, accepted };
                self.persist(record, from, promise);
            }
            Err(promised) => {
                crate::sometimes!("decree: a proposer is outbid");
                self.send(from, DecreeMessage::Outbid { instance, ballot, promised });
            }
        }
    }

    fn on_accept(
        &mut self,
        now: Time,
        from: NodeId,
        (instance, ballot, state): (Instance, Ballot, Arc<ClusterState>),
    ) {
        self.counter = self.counter.max(ballot.counter);
        match self.acceptor.accept(instance, ballot, state) {
            Ok(record) => {
                self.expect_decision(now);
                self.persist(record, from, DecreeMessage::Accepted { instance, ballot });
            }
            Err(promised) => {
                self.send(from, DecreeMessage::Outbid { instance, ballot, promised });
            }
        }
    }

    fn persist(&mut self, record: DecreeRecord, to: NodeId, answer: DecreeMessage) {
        if crate::mutant!("decree-answers-before-durable") {
            self.send(to, answer.clone());
        }
        self.out.push_back(DecreeAction::Persist(Box::new(record), to, answer));
    }

    fn send(&mut self, to: NodeId, message: DecreeMessage) {
        self.out.push_back(DecreeAction::Send(to, message));
    }

    /// An accepted state must be decided in time, or this acceptor sees to it.
    fn expect_decision(&mut self, now: Time) {
        let waits = self.acceptor.accepted(self.next_instance()).is_some();
        if waits && self.active && !self.recovering && self.recover_at.is_none() {
            let recover = self.timing.recover;
            self.recover_at = Some(now.plus(recover).plus(self.draw(recover)));
        }
    }

    fn draw(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.u64(..=nanos))
    }

    fn is_wanted(&self) -> bool {
        self.recovering || !self.wants.is_empty()
    }

    /// Does what is due: asks again, or begins a round.
    fn advance(&mut self, now: Time) {
        let Some(state) = self.state.clone().filter(|_| self.active) else { return };
        if self.newest.is_wanted() {
            self.newest.begin(state.epoch, state.council.clone());
        }
        if self.newest.is_open() && self.newest.resend_at <= now {
            self.newest.resend_at = now.plus(self.timing.retry);
            let seq = self.newest.seq();
            for to in self.newest.silent() {
                self.send(to, DecreeMessage::Newest { seq });
            }
        }
        if self.held.is_some() {
            return self.spread(now);
        }
        if self.round.is_none() && self.is_wanted() && self.not_before <= now {
            self.counter += 1;
            let ballot = Ballot { counter: self.counter, boot: self.boot, member: self.me };
            let council = state.council.clone();
            self.round = Some(Round::new(self.next_instance(), ballot, council));
        }
        let retry = now.plus(self.timing.retry);
        if let Some(round) = self.round.as_mut().filter(|round| round.resend_at <= now) {
            round.resend_at = retry;
            for (to, message) in round.asks() {
                self.send(to, message);
            }
        }
    }

    /// A majority has promised: takes the state that may have been decided, or else makes one.
    fn choose(&mut self) {
        let (Some(state), Some(round)) = (self.state.clone(), self.round.as_mut()) else { return };
        if let Some(bound) = round.bound_to() {
            crate::sometimes!("decree: a proposer finishes another's decision");
            return round.begin_accepting(bound);
        }
        while let Some(want) = self.wants.front_mut() {
            match want.change.after(&state, want.id) {
                Ok(next) => {
                    want.proposed.get_or_insert(next.epoch);
                    return round.begin_accepting(Arc::new(next));
                }
                Err(error) => {
                    let outcome = DecreeAction::Outcome(want.ticket, Err(error));
                    self.out.push_back(outcome);
                    self.wants.pop_front();
                }
            }
        }
        // Nothing had been decided. What was accepted here may as well be: whoever is asked for the
        // newest epoch cannot tell the two apart.
        let next = self.next_instance();
        if let (Some((_, state)), Some(round)) = (self.acceptor.accepted(next), &mut self.round) {
            return round.begin_accepting(state.clone());
        }
        self.recovering = false;
        self.recover_at = None;
        self.round = None;
    }

    fn back_off(&mut self, now: Time) {
        self.round = None;
        self.outbid = (self.outbid + 1).min(BACK_OFF_DOUBLINGS);
        let most = self.timing.back_off.saturating_mul(1 << self.outbid);
        self.not_before = now.plus(self.draw(most));
    }

    fn abandon_round(&mut self, decided: Epoch) {
        if self.round.as_ref().is_some_and(|round| round.instance.epoch <= decided) {
            self.round = None;
        }
    }

    fn on_newest(&mut self, from: NodeId, seq: u64, epoch: Epoch) {
        if epoch > self.epoch() && from != self.me {
            self.out.push_back(DecreeAction::AskState(from));
        }
        if self.newest.on_answer(from, seq, epoch) {
            self.out.push_back(DecreeAction::Checked(seq));
        }
    }
}

/// Whether a change that was first proposed for epoch `at` would no longer be named by `state` if
/// it had been decided.
fn is_forgotten(at: Epoch, state: &ClusterState) -> bool {
    state.epoch.0 >= at.0.saturating_add(limits::RECENT_CHANGES_MAX as u64)
}

fn short_of_council(needed: usize, got: usize) -> OpError {
    let text = format!("a majority of the council does not answer: needed {needed}, got {got}");
    let mut error = OpError::new(ErrorCode::QuorumNotReached, text);
    error.facts.needed = Some(needed as u64);
    error.facts.got = Some(got as u64);
    error
}
