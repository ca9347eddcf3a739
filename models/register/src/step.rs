//! What happens: each step of clients, coordinators, disks and the change of owners. A step that
//! cannot be taken changes nothing and says so.

use std::sync::Arc;

use stateright::semantics::ConsistencyTester;

use crate::model::{Action, Register};
use crate::scenario::Owners;
use crate::spec::{Invoked, Op};
use crate::state::{Fault, Phase, Reply, State, What, at, value_of};

impl Register {
    /// Takes a step, if it can be taken.
    pub fn apply(&self, state: &mut State, action: &Action) -> bool {
        match *action {
            Action::Retry { attempt, epoch } => self.begin(state, attempt, epoch),
            Action::NextRound { attempt, epoch } => self.next_round(state, attempt, epoch),
            Action::Prepare { acceptor, ballot } => self.prepare(state, acceptor, ballot),
            Action::Accept { acceptor, ballot } => self.accept(state, acceptor, ballot),
            Action::Look { acceptor, attempt } => {
                let Phase::Looking { epoch } = state.attempts[attempt] else { return false };
                self.look(state, acceptor, attempt, epoch)
            }
            Action::Propose { attempt, answers } => self.propose_all(state, attempt, answers),
            Action::DecideLook { attempt, answers } => self.decide_look(state, attempt, answers),
            Action::Finish { attempt } => self.finish(state, attempt),
            Action::GiveUp { attempt } => self.give_up(state, attempt),
            Action::Sync { acceptor } => self.sync(state, acceptor),
            Action::Crash { acceptor } => self.crash(state, acceptor),
            Action::Wipe => self.wipe(state),
            Action::Advance => self.advance(state),
            Action::Learn { acceptor } => self.learn(state, acceptor),
            Action::Copy { source } => {
                self.newcomer().is_some_and(|target| self.copy(state, source, target))
            }
        }
    }

    /// Answers a client, unless it has abandoned this attempt.
    pub fn tell(&self, state: &mut State, attempt: usize, reply: Reply) {
        state.attempts[attempt] = Phase::Over;
        let op = self.scenario.attempts[attempt].op;
        let of_op = |other: &usize| self.scenario.attempts[*other].op == op;
        let later = (attempt + 1..state.attempts.len()).filter(of_op);
        let abandoned = later.into_iter().any(|later| state.attempts[later] != Phase::Idle);
        if abandoned || state.told[usize::from(op)].is_some() {
            return;
        }
        state.told[usize::from(op)] = Some(reply);
        let known = Arc::make_mut(&mut state.history).on_return(op, reply).is_ok();
        if !known || state.history.serialized_history().is_none() {
            state.fault = Some(Fault::NotLinearizable);
        }
    }

    /// A client asks; a first attempt is the beginning of its operation.
    pub fn begin(&self, state: &mut State, attempt: usize, epoch: u8) -> bool {
        let id = self.scenario.attempts[attempt].op;
        let first = self.scenario.attempt_number(attempt) == 0;
        let waits =
            |&(before, after): &(u8, u8)| after == id && state.told[usize::from(before)].is_none();
        let allowed = if first {
            !self.scenario.after.iter().any(waits)
        } else {
            state.attempts[attempt - 1] != Phase::Idle && state.told[usize::from(id)].is_none()
        };
        if state.attempts[attempt] != Phase::Idle || !allowed {
            return false;
        }
        let op = self.op(attempt);
        if first
            && Arc::make_mut(&mut state.history).on_invoke(id, Invoked::Client { id, op }).is_err()
        {
            state.fault = Some(Fault::NotLinearizable);
        }
        state.attempts[attempt] = Phase::Ready;
        self.scenario.waits(attempt) || self.set_out(state, attempt, epoch)
    }

    fn set_out(&self, state: &mut State, attempt: usize, epoch: u8) -> bool {
        if matches!(self.op(attempt), Op::Read | Op::FastRead) {
            state.attempts[attempt] = Phase::Looking { epoch };
            return true;
        }
        self.ask(state, attempt, 0, epoch)
    }

    fn next_round(&self, state: &mut State, attempt: usize, epoch: u8) -> bool {
        match state.attempts[attempt] {
            Phase::Ready => self.set_out(state, attempt, epoch),
            Phase::Looking { .. } => self.ask(state, attempt, 0, epoch),
            Phase::Preparing { round, .. } | Phase::Accepting { round, .. } => {
                self.ask(state, attempt, round + 1, epoch)
            }
            _ => false,
        }
    }

    fn ask(&self, state: &mut State, attempt: usize, round: u8, epoch: u8) -> bool {
        let Some(at) = at(self.ballot(attempt, round)) else { return false };
        state.prepares[at] = Some(epoch);
        state.attempts[attempt] = Phase::Preparing { round, epoch };
        true
    }

    /// A reader's tombstone is an operation of its own in the history.
    fn propose_all(&self, state: &mut State, attempt: usize, answers: u8) -> bool {
        if !self.propose(state, attempt, answers) {
            return false;
        }
        let Phase::Accepting { round, .. } = state.attempts[attempt] else { return true };
        let ballot = self.ballot(attempt, round);
        let history = state.state_of(ballot);
        let Some(last) = history.last() else { return true };
        if last.made == ballot && last.what == What::Expired {
            let value = value_of(&history[..history.len() - 1]);
            let invoked = Arc::make_mut(&mut state.history)
                .on_invoke(16 + ballot, Invoked::Expire { value })
                .is_ok();
            assert!(invoked, "a ballot expires one value");
        }
        true
    }

    fn advance(&self, state: &mut State) -> bool {
        let knows = |epoch| {
            let old = state.acceptors[..3].iter().filter(|acceptor| acceptor.epoch >= epoch);
            old.count() >= 2
        };
        let filled = self.newcomer().is_some_and(|a| state.acceptors[a].complete);
        let may = match (self.scenario.owners, state.epoch) {
            (Owners::Replaced, 0) => true,
            (Owners::Replaced, 1) => filled,
            (Owners::Replaced, 2) => knows(2),
            (Owners::Refilled, 0) => state.wiped,
            _ => false,
        };
        state.epoch += u8::from(may);
        may
    }

    fn wipe(&self, state: &mut State) -> bool {
        if self.scenario.owners != Owners::Refilled || state.wiped {
            return false;
        }
        state.wiped = true;
        state.acceptors[2].wipe();
        true
    }

    fn learn(&self, state: &mut State, a: usize) -> bool {
        let behind = state.acceptors[a].epoch < state.epoch;
        state.acceptors[a].epoch = state.epoch;
        behind
    }

    fn crash(&self, state: &mut State, a: usize) -> bool {
        let acceptor = &mut state.acceptors[a];
        if state.crashes == 0 || acceptor.memory == acceptor.disk && acceptor.waiting.is_empty() {
            return false;
        }
        state.crashes -= 1;
        acceptor.crash();
        true
    }

    fn sync(&self, state: &mut State, a: usize) -> bool {
        let acceptor = &mut state.acceptors[a];
        let ahead = acceptor.memory != acceptor.disk || !acceptor.waiting.is_empty();
        acceptor.sync();
        ahead
    }
}
