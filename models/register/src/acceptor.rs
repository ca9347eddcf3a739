//! The rules of one acceptor.

use crate::mistake::Mistake;
use crate::model::Register;
use crate::state::{Acceptor, Answer, Ballot, State, at};

impl Register {
    /// Whether acceptor `a` is sent messages of this epoch and serves them; one that is behind
    /// catches up first.
    fn serves(&self, state: &State, a: usize, epoch: u8) -> bool {
        let owns = self.scenario.write_sets(epoch).iter().any(|set| set.contains(&a));
        owns && (state.acceptors[a].epoch <= epoch || self.makes(Mistake::FenceIgnored))
    }

    /// Promises a ballot, if the rules allow it.
    pub fn prepare(&self, state: &mut State, a: usize, ballot: Ballot) -> bool {
        let Some(epoch) = at(ballot).and_then(|at| state.prepares[at]) else { return false };
        let serves = self.serves(state, a, epoch);
        let acceptor = &mut state.acceptors[a];
        let whole = acceptor.complete || self.makes(Mistake::IncompletePromises);
        if !serves || !whole || acceptor.memory.promised >= ballot {
            return false;
        }
        acceptor.epoch = acceptor.epoch.max(epoch);
        acceptor.memory.promised = ballot;
        let answer = Answer::Promise { ballot, shown: acceptor.memory.accepted };
        self.answer_when_durable(acceptor, self.scenario.crashes > 0 && a == 0, answer);
        true
    }

    /// Accepts the state of a ballot, if the rules allow it.
    pub fn accept(&self, state: &mut State, a: usize, ballot: Ballot) -> bool {
        let Some(at) = at(ballot) else { return false };
        let Some(epoch) = state.proposals[at].as_ref().map(|proposal| proposal.epoch) else {
            return false;
        };
        let serves = self.serves(state, a, epoch);
        let last = state.acceptors[a].memory.accepted;
        let older = self.rank(state, last) >= self.rank(state, ballot);
        let acceptor = &mut state.acceptors[a];
        let below = ballot < acceptor.memory.promised && !self.makes(Mistake::AcceptBelowPromise);
        if !serves || below || older {
            return false;
        }
        acceptor.epoch = acceptor.epoch.max(epoch);
        acceptor.memory.promised = acceptor.memory.promised.max(ballot);
        acceptor.memory.accepted = ballot;
        self.answer_when_durable(
            acceptor,
            self.scenario.crashes > 0 && a == 0,
            Answer::Accepted { ballot },
        );
        true
    }

    /// Shows what it has accepted.
    pub fn look(&self, state: &mut State, a: usize, attempt: usize, epoch: u8) -> bool {
        let serves = self.serves(state, a, epoch);
        let acceptor = &mut state.acceptors[a];
        let whole = acceptor.complete || self.makes(Mistake::IncompletePromises);
        if !serves || !whole || acceptor.looked[attempt].is_some() {
            return false;
        }
        let shown = acceptor.memory.accepted;
        let answer = Answer::Looked { attempt: attempt as u8, shown };
        if acceptor.waiting.contains(&answer) {
            return false;
        }
        acceptor.epoch = acceptor.epoch.max(epoch);
        if shown == acceptor.disk.accepted || self.makes(Mistake::LookBeforeDurable) {
            acceptor.told(answer);
        } else {
            acceptor.waits(answer);
        }
        true
    }

    /// Where no crash comes, waiting for the disk is a delay like any other and is left out: the
    /// first acceptor is the one that crashes.
    fn answer_when_durable(&self, acceptor: &mut Acceptor, slow: bool, answer: Answer) {
        let early = match answer {
            Answer::Promise { .. } => self.makes(Mistake::PromiseBeforeDurable),
            Answer::Accepted { .. } => self.makes(Mistake::AcceptBeforeDurable),
            Answer::Looked { .. } => false,
        };
        if !slow {
            acceptor.disk = acceptor.memory;
            acceptor.told(answer);
        } else if early {
            acceptor.told(answer);
        } else {
            acceptor.waits(answer);
        }
    }

    /// Takes from a source its record: the newer of both, by promise and by acceptance.
    pub fn copy(&self, state: &mut State, source: usize, target: usize) -> bool {
        let fenced = state.acceptors[source].epoch >= 1 || self.makes(Mistake::CopyBeforeFence);
        let copied = self.scenario.read_set(0).contains(&source)
            && state.acceptors[source].complete
            && !state.acceptors[source].gave;
        if state.acceptors[target].complete || state.acceptors[target].epoch == 0 {
            return false;
        }
        if !fenced || !copied {
            return false;
        }
        state.acceptors[source].gave = true;
        let given = state.acceptors[source].disk;
        let sources = state.acceptors.iter().filter(|acceptor| acceptor.gave).count();
        let needed = if self.makes(Mistake::OneSource) { 1 } else { 2 };
        let own = state.acceptors[target].memory.accepted;
        let newer = self.rank(state, given.accepted) > self.rank(state, own);
        let acceptor = &mut state.acceptors[target];
        acceptor.memory.promised = acceptor.memory.promised.max(given.promised);
        acceptor.memory.accepted = if newer { given.accepted } else { own };
        acceptor.disk = acceptor.memory;
        acceptor.complete = sources >= needed;
        if acceptor.complete {
            state.acceptors.iter_mut().for_each(|acceptor| acceptor.gave = false);
        }
        true
    }
}

impl Acceptor {
    fn waits(&mut self, answer: Answer) {
        self.waiting.push(answer);
        self.waiting.sort_unstable();
    }

    /// The answer is on its way, from now on for ever. A first answer is not taken back by a
    /// second one to the same question.
    fn told(&mut self, answer: Answer) {
        match answer {
            Answer::Promise { ballot, shown } => {
                if let Some(at) = at(ballot) {
                    self.promises[at].get_or_insert(shown);
                }
            }
            Answer::Accepted { ballot } => {
                if let Some(at) = at(ballot) {
                    self.accepted[at].get_or_insert(self.complete);
                }
            }
            Answer::Looked { attempt, shown } => {
                self.looked[usize::from(attempt)].get_or_insert(shown);
            }
        }
    }

    /// All it goes by is on its disk.
    pub fn sync(&mut self) {
        self.disk = self.memory;
        for answer in core::mem::take(&mut self.waiting) {
            self.told(answer);
        }
    }

    /// What was not on its disk is gone.
    pub fn crash(&mut self) {
        self.memory = self.disk;
        self.waiting.clear();
    }

    /// Everything is gone but what it has told.
    pub fn wipe(&mut self) {
        let fresh = Acceptor::new(false);
        self.disk = fresh.disk;
        self.memory = fresh.memory;
        self.waiting.clear();
        self.complete = false;
    }
}
