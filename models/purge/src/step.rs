//! What comes of each thing that can happen.

use crate::mistake::Mistake;
use crate::model::{Action, Purge};
use crate::state::{C, FLOOR, HOLDER, M, NODES, Node, Set, Stage, State, Version, count};

impl Purge {
    pub fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Issue => state.issued += 1,
            Action::Arrive(version, x) => self.arrive(state, version, x),
            Action::Keep(version) => {
                state.custody = version;
                self.answered(state, version, HOLDER);
            }
            Action::Deliver => self.deliver(state),
            Action::Tell => state.told = true,
            Action::Bring { from, to } => self.bring(state, from, to),
            Action::Vouch { who, with } => {
                self.vouch(state, who, with);
                let both = self.scenario.pairs && self.may_vouch(state, with, who);
                if both || self.makes(Mistake::OneSided) {
                    self.vouch(state, with, who);
                }
            }
            Action::Agree(x, fence) => {
                state.nodes[x].agreed = true;
                state.agreed[usize::from(fence)] |= 1 << x;
            }
            Action::Raise(x) => state.nodes[x].adopt(),
            Action::Save => state.saved = Some(state.nodes[C]),
            Action::Restore => self.restore(state),
            Action::Fill { source, target } => self.fill(state, source, target),
            Action::Complete(x) => {
                self.complete(&mut state.nodes[x]);
                self.report(state);
            }
            Action::Mirror(from) => state.nodes[M].value = state.nodes[from].value,
            Action::Begin => {
                state.nodes[M].complete = self.makes(Mistake::MirrorComplete);
                self.change(state, Stage::During);
            }
            Action::End => {
                self.change(state, Stage::After);
                state.nodes[C] = Default::default();
            }
            Action::Die => state.dead = true,
        }
    }

    /// What it has vouched for it reports once it has vouched for all.
    fn vouch(&self, state: &mut State, who: usize, with: usize) {
        state.nodes[who].gate = true;
        state.nodes[who].vouched |= 1 << with;
        state.old = true;
        self.forget(state);
        self.report(state);
    }

    fn report(&self, state: &mut State) {
        for x in 0..NODES {
            if self.may_report(state, x) {
                state.said[usize::from(state.fence)] |= 1 << x;
            }
        }
    }

    /// Attempts under way begin anew.
    fn change(&self, state: &mut State, stage: Stage) {
        state.stage = stage;
        self.fence(state);
    }

    fn fence(&self, state: &mut State) {
        state.answers = [0; 4];
        state.fence += 1;
        state.sets[usize::from(state.fence)] = state.owners();
        self.report(state);
    }

    /// A copy from outside of exchanges and copies. What is refused is not acknowledged.
    fn arrive(&self, state: &mut State, version: Version, x: usize) {
        if state.nodes[x].value < version {
            if !self.takes_late(state, x, version) {
                return;
            }
            state.nodes[x].value = version;
        }
        self.answered(state, version, 1 << x);
    }

    fn answered(&self, state: &mut State, version: Version, by: Set) {
        if version <= state.acked || state.old && version <= FLOOR {
            return;
        }
        let answers = &mut state.answers[usize::from(version)];
        *answers |= by;
        let (old, new) = (count(*answers & 0b0111) >= 2, count(*answers & 0b1011) >= 2);
        let acked = match state.stage {
            Stage::Before => old,
            Stage::During => old && new,
            Stage::After => new,
        };
        if acked {
            state.acked = version;
        }
        if acked || *answers & HOLDER != 0 {
            state.sloppy = state.sloppy.max(version);
        }
        self.forget(state);
    }

    /// Who has answered what is over is of no interest.
    fn forget(&self, state: &mut State) {
        let over = if state.old { state.acked.max(FLOOR) } else { state.acked };
        state.answers[..=usize::from(over)].fill(0);
    }

    /// What is in custody goes to those it is for.
    fn deliver(&self, state: &mut State) {
        let version = std::mem::take(&mut state.custody);
        for x in 0..NODES {
            if state.is_owner(x) && state.is_live(x) {
                self.arrive(state, version, x);
            }
        }
    }

    fn bring(&self, state: &mut State, from: usize, to: usize) {
        if !self.makes(Mistake::FloorNotAdopted) && state.nodes[from].floor | state.nodes[to].floor
        {
            state.nodes[from].adopt();
            state.nodes[to].adopt();
        }
        let (given, own) = (state.nodes[from].value, &state.nodes[to]);
        if given > own.value && (given > FLOOR || !own.floor) {
            state.nodes[to].value = given;
            if given <= FLOOR && !self.makes(Mistake::VouchKept) {
                state.nodes[to].vouched = 0;
            }
        }
    }

    /// C finds an old copy of its disk: it is told so when it registers its life, and is filled.
    fn restore(&self, state: &mut State) {
        state.restored = true;
        if let Some(saved) = state.saved {
            state.nodes[C] = saved;
            state.nodes[C].vouched = 0;
            state.nodes[C].complete = self.makes(Mistake::OldDiskServes);
            // It is filled under an entry of its own.
            self.fence(state);
        }
    }

    /// Where the first source had agreed, it is as good as one that has.
    fn complete(&self, node: &mut Node) {
        node.bears |= node.settled != 0;
        node.complete = true;
        (node.pulled, node.settled) = (0, 0);
    }

    fn fill(&self, state: &mut State, source: usize, target: usize) {
        let given = state.nodes[source];
        let node = &mut state.nodes[target];
        if !self.makes(Mistake::FloorNotCarried) {
            if given.floor {
                node.adopt();
            }
            if given.agreed || given.bears {
                node.gate = true;
                if node.pulled == 0 {
                    node.settled |= 1 << source;
                }
            }
        }
        let keeps = self.makes(Mistake::FillKeeps);
        // What the first does not list came late, where it has agreed.
        let first = node.settled == 1 << source && !self.makes(Mistake::FillKeepsLate);
        let replaces = (node.floor || first) && !keeps;
        if replaces && node.below() > 0 && node.value != given.value {
            node.value = 0;
        }
        if given.value > node.value {
            node.value = given.value;
            if node.floor {
                node.adopt();
            }
        }
        node.pulled |= 1 << source;
        state.known[source] = state.fence;
        state.known[target] = state.fence;
    }
}
