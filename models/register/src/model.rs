//! The model: what can happen in a state, what comes of it, and what must hold.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::judge;
use crate::mistake::Mistake;
use crate::scenario::{Owners, Scenario};
use crate::spec::{Op, Spec};
use crate::state::{ATTEMPTS, Acceptor, BALLOTS, Ballot, History, Phase, State, at};

/// That a scenario is good for something.
pub const ANSWERED: &str = "every client is answered";

/// The protocol in one scenario, as it is or with one mistake.
#[derive(Clone, Debug)]
pub struct Register {
    pub scenario: Scenario,
    pub mistake: Option<Mistake>,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client gives up waiting for an attempt and starts the next.
    Retry {
        attempt: usize,
        epoch: u8,
    },
    NextRound {
        attempt: usize,
        epoch: u8,
    },
    Prepare {
        acceptor: usize,
        ballot: Ballot,
    },
    Accept {
        acceptor: usize,
        ballot: Ballot,
    },
    Look {
        acceptor: usize,
        attempt: usize,
    },
    Propose {
        attempt: usize,
        answers: u8,
    },
    DecideLook {
        attempt: usize,
        answers: u8,
    },
    Finish {
        attempt: usize,
    },
    GiveUp {
        attempt: usize,
    },
    Sync {
        acceptor: usize,
    },
    Crash {
        acceptor: usize,
    },
    Wipe,
    Advance,
    Learn {
        acceptor: usize,
    },
    Copy {
        source: usize,
    },
}

impl Register {
    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The ballots of an attempt, lowest first.
    pub fn ballots(&self, attempt: usize) -> impl Iterator<Item = Ballot> {
        let attempt = &self.scenario.attempts[attempt];
        let beyond = attempt.beyond.filter(|_| self.makes(Mistake::WindowIgnored));
        attempt.ballots.iter().copied().chain(beyond)
    }

    /// The ballot of a round; 0 when it has so many rounds not.
    pub fn ballot(&self, attempt: usize, round: u8) -> Ballot {
        self.ballots(attempt).nth(usize::from(round)).unwrap_or(0)
    }

    pub fn op(&self, attempt: usize) -> Op {
        self.scenario.ops[usize::from(self.scenario.attempts[attempt].op)]
    }

    /// The acceptor that has to be filled.
    pub fn newcomer(&self) -> Option<usize> {
        match self.scenario.owners {
            Owners::Stay => None,
            Owners::Replaced => Some(3),
            Owners::Refilled => Some(2),
        }
    }

    /// What makes one accepted ballot newer than another: the epoch it was proposed in, and then itself.
    pub fn rank(&self, state: &State, ballot: Ballot) -> (u8, Ballot) {
        let epoch = state.epoch_of(ballot);
        (if self.makes(Mistake::BallotsAlone) { 0 } else { epoch }, ballot)
    }

    fn actions_of_attempt(&self, state: &State, attempt: usize, actions: &mut Vec<Action>) {
        let phase = state.attempts[attempt];
        let oldest = if self.scenario.is_gated(attempt) { 0 } else { state.epoch };
        let epochs = oldest..=state.epoch;
        let answered = |answers: fn(&Acceptor, usize) -> bool, place: usize| {
            let mask = state.acceptors.iter().enumerate();
            let mask = mask.map(|(a, acceptor)| u8::from(answers(acceptor, place)) << a);
            mask.sum::<u8>()
        };
        match phase {
            Phase::Idle if self.scenario.attempt_number(attempt) > 0 => {
                actions.extend(epochs.map(|epoch| Action::Retry { attempt, epoch }));
            }
            Phase::Idle | Phase::Over | Phase::NotApplied => {}
            Phase::Ready if state.epoch < self.scenario.not_before => {}
            _ => {
                actions.extend(epochs.map(|epoch| Action::NextRound { attempt, epoch }));
            }
        }
        match phase {
            Phase::Looking { .. } => {
                let acceptors = 0..state.acceptors.len();
                actions.extend(acceptors.map(|acceptor| Action::Look { acceptor, attempt }));
                let all = answered(|acceptor, attempt| acceptor.looked[attempt].is_some(), attempt);
                actions.extend(subsets(all).map(|answers| Action::DecideLook { attempt, answers }));
            }
            Phase::Preparing { round, .. } => {
                if self.makes(Mistake::StaleRoundCounts) {
                    actions.extend((3..16).map(|answers| Action::Propose { attempt, answers }));
                } else if let Some(at) = at(self.ballot(attempt, round)) {
                    let all = answered(|acceptor, at| acceptor.promises[at].is_some(), at);
                    actions
                        .extend(subsets(all).map(|answers| Action::Propose { attempt, answers }));
                }
                if round > 0 {
                    actions.push(Action::GiveUp { attempt });
                }
            }
            Phase::Accepting { .. } => actions.push(Action::Finish { attempt }),
            Phase::Idle | Phase::Ready | Phase::Over | Phase::NotApplied => {}
        }
    }

    fn actions_of_acceptor(&self, state: &State, acceptor: usize, actions: &mut Vec<Action>) {
        let Acceptor { memory, disk, waiting, epoch, .. } = &state.acceptors[acceptor];
        for ballot in 1..=BALLOTS as Ballot {
            let Some(at) = at(ballot) else { continue };
            if state.prepares[at].is_some() && memory.promised < ballot {
                actions.push(Action::Prepare { acceptor, ballot });
            }
            if state.proposals[at].is_some()
                && self.rank(state, memory.accepted) < self.rank(state, ballot)
            {
                actions.push(Action::Accept { acceptor, ballot });
            }
        }
        if memory != disk || !waiting.is_empty() {
            actions.extend([Action::Sync { acceptor }, Action::Crash { acceptor }]);
        }
        if *epoch < state.epoch {
            actions.push(Action::Learn { acceptor });
        }
    }

    /// What needs no choice, and what makes states that differ in nothing one.
    fn settle(&self, state: &mut State) {
        for attempt in 0..state.attempts.len() {
            if self.scenario.attempt_number(attempt) == 0 {
                self.begin(state, attempt, state.epoch);
            }
        }
        if !self.makes(Mistake::StaleRoundCounts) {
            self.forget(state);
        }
        state.acceptors[self.scenario.alike()].sort_unstable();
    }

    /// Questions for promises of a round that has gone on, and answers to it, can do nothing but
    /// raise promises, and that is as if later messages to that acceptor were lost.
    fn forget(&self, state: &mut State) {
        let mut live = [false; BALLOTS];
        for (attempt, phase) in state.attempts.iter().enumerate() {
            if let Phase::Preparing { round, .. } = phase
                && let Some(at) = at(self.ballot(attempt, *round))
            {
                live[at] = true;
            }
        }
        for (at, _) in live.iter().enumerate().filter(|(_, live)| !**live) {
            state.prepares[at] = None;
            state.acceptors.iter_mut().for_each(|acceptor| acceptor.promises[at] = None);
        }
        for (attempt, phase) in state.attempts.iter().enumerate() {
            if !matches!(phase, Phase::Looking { .. }) {
                state.acceptors.iter_mut().for_each(|acceptor| acceptor.looked[attempt] = None);
            }
        }
    }
}

impl Model for Register {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let count = if self.scenario.owners == Owners::Replaced { 4 } else { 3 };
        assert!(self.scenario.attempts.len() <= ATTEMPTS);
        let mut state = State {
            acceptors: (0..count).map(|a| Acceptor::new(a < 3)).collect(),
            prepares: [None; BALLOTS],
            proposals: Default::default(),
            attempts: vec![Phase::Idle; self.scenario.attempts.len()],
            told: vec![None; self.scenario.ops.len()],
            history: Arc::new(History::new(Spec::default())),
            epoch: self.scenario.from,
            crashes: self.scenario.crashes,
            wiped: false,
            fault: None,
        };
        self.settle(&mut state);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.fault.is_some() {
            return;
        }
        for attempt in 0..state.attempts.len() {
            self.actions_of_attempt(state, attempt, actions);
        }
        for acceptor in 0..state.acceptors.len() {
            self.actions_of_acceptor(state, acceptor, actions);
        }
        if self.scenario.owners != Owners::Stay {
            let sources = self.scenario.read_set(0).iter();
            actions.extend(sources.map(|&source| Action::Copy { source }));
            actions.extend([Action::Wipe, Action::Advance]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if !self.apply(&mut state, &action) {
            return None;
        }
        self.settle(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what clients hear is linearizable", |_, s: &State| s.fault.is_none()),
            Property::always("decided states form a chain", judge::chain),
            Property::always("what was told as applied stays", judge::kept),
            Property::always("no id is applied twice", judge::once),
            Property::always("what was told as not applied never is", judge::never_false),
            Property::sometimes(ANSWERED, |_, s: &State| s.told.iter().all(Option::is_some)),
        ]
    }
}

/// The subsets of a set of acceptors that have at least two of them.
fn subsets(all: u8) -> impl Iterator<Item = u8> {
    (1..=all).filter(move |mask| mask & !all == 0 && mask.count_ones() >= 2)
}
