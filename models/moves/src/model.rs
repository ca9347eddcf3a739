//! The model: what can happen in a state, what comes of it, and what must hold.

use stateright::{Model, Property};

use crate::judge;
use crate::log::{Conf, Stage, Step};
use crate::mistake::Mistake;
use crate::scenario::Scenario;
use crate::state::{Epoch, Fault, NODES, Node, Reader, Set, State, Write, count, has, those};

/// Promises to clients: the first is I1 of `docs/guarantees.md`, with the second.
pub const READ: &str = "a read returns what was acknowledged";
pub const LATER: &str = "a later put wins";
/// What has to hold for these.
pub const WHOLE: &str = "no incomplete owner answers a read";
pub const MET: &str = "no read that begins now can miss";
pub const COPIES: &str = "w copies wherever it can be read";
/// That nothing hangs for ever.
pub const ENDS: &str = "the move can end";
/// That a scenario is good for something.
pub const ENDED: &str = "the last move ends, every write acknowledged";

/// The rules in one scenario, as they are or with one mistake.
#[derive(Clone, Debug)]
pub struct Moves {
    pub scenario: Scenario,
    pub confs: Vec<Conf>,
    pub mistake: Option<Mistake>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A state is decided.
    Decide(Step),
    /// A node hears of a decided state.
    Learn {
        node: usize,
        epoch: Epoch,
    },
    /// What a node has heard of is on its disk.
    Sync {
        node: usize,
    },
    /// The write a node has let in is on its disk.
    Store {
        node: usize,
    },
    Crash {
        node: usize,
    },
    /// A node loses what it has of the unit.
    Wipe {
        node: usize,
    },
    Die {
        node: usize,
    },
    /// A write reaches an owner, of an attempt that goes by this epoch.
    Put {
        op: usize,
        node: usize,
        epoch: Epoch,
    },
    /// The same, and the answer is lost or comes too late.
    PutUnheard {
        op: usize,
        node: usize,
        epoch: Epoch,
    },
    Copy {
        source: usize,
        target: usize,
    },
    /// The read is answered by an owner.
    Get {
        node: usize,
        epoch: Epoch,
    },
    /// The read is let in by an owner, and answered later: only with a mistake.
    Admit {
        node: usize,
        epoch: Epoch,
    },
    Delete {
        node: usize,
    },
}

impl Moves {
    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// The newest decided state.
    pub fn newest(&self, state: &State) -> &Conf {
        &self.confs[usize::from(state.log)]
    }

    /// The decided state of an epoch.
    pub fn conf(&self, state: &State, epoch: Epoch) -> &Conf {
        &self.confs[self.newest(state).path[usize::from(epoch)]]
    }

    /// The decided epochs that changed something for the unit. Nodes and coordinators that know of
    /// the same one do the same, whatever else they know.
    pub fn fences(&self, state: &State) -> impl Iterator<Item = Epoch> + '_ {
        let path = &self.newest(state).path;
        (0..path.len() as Epoch)
            .filter(|&epoch| self.confs[path[usize::from(epoch)]].changed_at == epoch)
    }

    /// The state that a node goes by.
    pub fn conf_of(&self, state: &State, x: usize) -> &Conf {
        self.conf(state, state.nodes[x].heard)
    }

    /// Whether a node is an owner in a state, and has all it should have in it.
    pub fn is_complete(&self, node: &Node, x: usize, conf: &Conf) -> bool {
        has(conf.owners(), x) && node.complete == conf.entry[x] + 1
    }

    /// Whether a node serves what comes under this epoch. One that is behind catches up first, one
    /// that knows more refuses.
    pub fn serves(&self, state: &State, x: usize, epoch: Epoch) -> bool {
        let node = &state.nodes[x];
        let unfenced = self.makes(Mistake::FenceIgnored) && node.heard >= epoch;
        let synced = node.epoch == node.heard || self.makes(Mistake::AckBeforeFsync);
        !node.dead && (node.heard == epoch && synced || unfenced)
    }

    /// Whether the step to another decided state may be taken.
    pub fn may_decide(&self, state: &State, step: Step) -> bool {
        let conf = self.newest(state);
        let known = |x: usize| state.nodes[x].acked >= conf.changed_at;
        match (step, conf.stage) {
            (Step::Begin, _) => true,
            // Straight to the owners that are read. The others were never read, unless they were
            // before the move that is being undone.
            (Step::RollBack | Step::Retarget, Stage::First) => {
                let unread = !conf.undoes || self.makes(Mistake::UndoneUnfenced);
                let needed = self.scenario.n() - self.scenario.r + 1;
                unread || count(conf.new & those(known)) >= needed
            }
            (Step::RollBack | Step::Retarget, _) => true,
            (Step::Advance, Stage::First) => {
                let all = (0..NODES).filter(|&x| has(conf.new, x));
                let whole = |x: usize| state.nodes[x].reported == conf.entry[x] + 1;
                all.into_iter().all(whole) || self.makes(Mistake::CompletionSkipped)
            }
            (Step::Advance, _) => {
                let of = if self.makes(Mistake::BarrierCountsNew) { conf.new } else { conf.old };
                let needed = match self.mistake {
                    Some(Mistake::LastBarrierSkipped) if !conf.undoes => 0,
                    Some(Mistake::BackBarrierSkipped) if conf.undoes => 0,
                    Some(Mistake::BarrierOfAll) => self.scenario.n(),
                    _ => self.scenario.n() - self.scenario.r + 1,
                };
                count(of & those(known)) >= needed
            }
            (Step::Refill(x), _) => {
                let known = self.conf_of(state, x).entry[x] == conf.entry[x];
                state.nodes[x].lost && !state.nodes[x].dead && known
            }
            (Step::Straight, _) => self.makes(Mistake::RollBackStraight),
        }
    }

    fn actions_of_node(&self, state: &State, x: usize, actions: &mut Vec<Action>) {
        let Scenario { crashes, wipes, deaths, .. } = self.scenario;
        let node = &state.nodes[x];
        if node.dead {
            return;
        }
        for epoch in self.fences(state).filter(|&epoch| epoch > node.heard) {
            actions.push(Action::Learn { node: x, epoch });
        }
        if node.heard != node.epoch {
            actions.push(Action::Sync { node: x });
        }
        if node.waiting.is_some() {
            actions.push(Action::Store { node: x });
        }
        let ahead = node.heard != node.epoch || node.waiting.is_some();
        if ahead && !state.crashed && has(crashes, x) {
            actions.push(Action::Crash { node: x });
        }
        if has(wipes & self.newest(state).owners(), x) && self.may_wipe(state, x) {
            actions.push(Action::Wipe { node: x });
        }
        if !state.died && has(deaths, x) {
            actions.push(Action::Die { node: x });
        }
        if node.due {
            actions.push(Action::Delete { node: x });
        }
        let sources = (0..NODES).filter(|&source| self.may_copy(state, source, x));
        actions.extend(sources.map(|source| Action::Copy { source, target: x }));
        for epoch in self.fences(state) {
            let puts = (0..self.scenario.writes).filter(|&op| self.may_put(state, op, x, epoch));
            actions.extend(puts.map(|op| Action::Put { op, node: x, epoch }));
            let puts = (0..self.scenario.writes).filter(|&op| self.may_come(state, op, x, epoch));
            actions.extend(puts.map(|op| Action::PutUnheard { op, node: x, epoch }));
            if self.may_get(state, x, epoch, false) {
                actions.push(Action::Get { node: x, epoch });
            }
            if self.makes(Mistake::ReadAfterDelete) && self.may_get(state, x, epoch, true) {
                actions.push(Action::Admit { node: x, epoch });
            }
        }
    }
}

impl Model for Moves {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let write = |stamp| Write {
            stamp,
            again: false,
            since: 0,
            epoch: None,
            answers: 0,
            whole: 0,
            higher: false,
            done: false,
        };
        let mut state = State {
            log: 0,
            nodes: [Node::default(); NODES],
            writes: [write(2), write(1)],
            reader: Reader::default(),
            acked: 0,
            crashed: false,
            wiped: 0,
            died: false,
            fault: None,
        };
        for x in (0..NODES).filter(|&x| has(self.scenario.owners, x)) {
            state.nodes[x].complete = 1;
            state.nodes[x].reported = 1;
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.fault.is_some() {
            return;
        }
        let next = self.newest(state).next.iter();
        let next = next.filter(|(step, _)| self.may_decide(state, *step));
        actions.extend(next.map(|(step, _)| Action::Decide(*step)));
        let members: Set = self.scenario.members();
        for x in (0..NODES).filter(|&x| has(members, x)) {
            self.actions_of_node(state, x, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.apply(&mut state, action);
        for &(x, y) in self.scenario.alike {
            state = state.min(state.exchanged(x, y));
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READ, |_, s: &State| s.fault != Some(Fault::Missed)),
            Property::always(LATER, |_, s: &State| s.fault != Some(Fault::LaterLost)),
            Property::always(WHOLE, |_, s: &State| s.fault != Some(Fault::Incomplete)),
            Property::always(MET, judge::met),
            Property::always(COPIES, judge::copies),
            Property::always(ENDS, judge::can_end),
            Property::sometimes(ENDED, judge::ended),
        ]
    }
}
