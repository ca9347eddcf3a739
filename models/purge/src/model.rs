//! The model: what can happen in a state, and what must hold.

use stateright::{Model, Property};

use crate::judge;
use crate::mistake::Mistake;
use crate::scenario::Scenario;
use crate::state::{
    C, FENCES, FLOOR, M, NODES, Node, Set, Stage, State, Version, count, has, those,
};

/// I5 of `docs/guarantees.md`.
pub const BACK: &str = "a deleted key stays deleted";
/// I1, and the same of writes that were acknowledged with custody, once all is quiet.
pub const KEPT: &str = "what was acknowledged is kept";
/// I4.
pub const EQUAL: &str = "owners become equal";
/// I15.
pub const ENDS: &str = "the floor can rise";
/// That a scenario is good for something.
pub const ENDED: &str = "every owner has purged";

/// The rules in one scenario, as they are or with one mistake.
#[derive(Clone, Debug)]
pub struct Purge {
    pub scenario: Scenario,
    pub mistake: Option<Mistake>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next version is sent to whom it concerns.
    Issue,
    /// A copy of a version reaches an owner: the write, a plain hint, a read repair.
    Arrive(Version, usize),
    /// The holder takes a version into custody for C.
    Keep(Version),
    /// It hands over what it has.
    Deliver,
    /// It tells that it holds nothing at or below the floor to be, and takes no such thing from now on.
    Tell,
    /// An owner is brought by another what it lacks.
    Bring {
        from: usize,
        to: usize,
    },
    /// An owner finds itself equal with another at or below the floor to be, durably.
    Vouch {
        who: usize,
        with: usize,
    },
    /// An owner has heard that all have vouched, under some fence.
    Agree(usize, u8),
    /// And that all have heard it.
    Raise(usize),
    /// C's disk is copied, and later found in the place of C's disk.
    Save,
    Restore,
    /// An owner that is not complete is given what a source has.
    Fill {
        source: usize,
        target: usize,
    },
    /// It has pulled enough.
    Complete(usize),
    /// The mirror is brought up to date by an owner.
    Mirror(usize),
    /// M is to take the place of C, has taken it.
    Begin,
    End,
    Die,
}

impl Purge {
    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether a node takes in a version that comes from outside of exchanges and copies.
    pub fn takes_late(&self, state: &State, x: usize, version: Version) -> bool {
        let node = &state.nodes[x];
        let closed = match (node.complete, self.mistake) {
            (true, Some(Mistake::LateCopyTaken)) => false,
            (true, Some(Mistake::GateOpen)) => node.floor,
            _ => node.floor || node.gate,
        };
        version > FLOOR || !closed
    }

    /// Whether what somebody has vouched for stands, for all owners.
    pub fn may_report(&self, state: &State, x: usize) -> bool {
        let others = self.awaited(state, state.fence) & !(1 << x);
        let vouched = state.nodes[x].vouched;
        match self.mistake {
            Some(Mistake::MajorityRaises) => state.is_whole(x) && vouched != 0,
            Some(Mistake::MirrorCounted) => (state.is_whole(x) || x == M) && count(vouched) >= 2,
            _ => state.is_whole(x) && others & !vouched == 0,
        }
    }

    /// Who is waited for under a fence.
    fn awaited(&self, state: &State, fence: u8) -> Set {
        let owners = state.sets[usize::from(fence)];
        match self.mistake {
            Some(Mistake::IncompletePassedOver) => owners & those(|x| state.nodes[x].complete),
            Some(Mistake::NewSetForgotten) if owners == 0b1111 => 0b0111,
            Some(Mistake::RemovedAwaited) => owners | 1 << C,
            _ => owners,
        }
    }

    /// Whether it can learn that all have vouched, under a fence, none below one it knows of.
    pub fn may_agree(&self, state: &State, x: usize, fence: u8) -> bool {
        let known = fence >= state.known[x] || self.makes(Mistake::FenceIgnored);
        let awaited = self.awaited(state, fence);
        let all = awaited & !state.said[usize::from(fence)] == 0;
        let others = awaited & !(1 << x) & !state.nodes[x].vouched;
        let stands = others == 0 || self.makes(Mistake::VouchKept);
        state.is_whole(x) && !state.nodes[x].agreed && known && all && stands
    }

    /// Whether it can learn that all know it, under some fence.
    pub fn may_raise(&self, state: &State, x: usize) -> bool {
        if !state.is_whole(x) {
            return false;
        }
        match self.mistake {
            Some(Mistake::PurgeByAge) => return state.nodes[x].value == FLOOR,
            Some(Mistake::OneStep) => return state.nodes[x].agreed,
            Some(Mistake::MajorityRaises) => return count(state.said[0]) >= 2,
            Some(Mistake::MirrorCounted) => return count(state.said[0]) >= 3,
            _ => {}
        }
        (0..=state.fence)
            .any(|fence| self.awaited(state, fence) & !state.agreed[usize::from(fence)] == 0)
    }

    pub fn may_vouch(&self, state: &State, who: usize, with: usize) -> bool {
        let party = |x: usize| state.is_whole(x) || x == M && self.makes(Mistake::MirrorCounted);
        let (own, other) = (&state.nodes[who], &state.nodes[with]);
        let known = !self.scenario.sloppy || state.told || self.makes(Mistake::CustodyIgnored);
        let same = own.below() == other.below()
            || self.makes(Mistake::SkipCalledVerified)
            || self.makes(Mistake::OneSided) && own.below() > other.below();
        let fresh = !has(own.vouched, with) && !own.floor;
        who != with && party(who) && party(with) && known && same && fresh
    }

    fn actions_of_writes(&self, state: &State, actions: &mut Vec<Action>) {
        if state.issued < self.scenario.last {
            actions.push(Action::Issue);
        }
        for version in 1..=state.issued {
            let lacks = |x: &usize| {
                state.is_owner(*x)
                    && state.is_live(*x)
                    && (state.nodes[*x].value < version
                        || state.acked < version && !has(state.answers[usize::from(version)], *x))
            };
            let takes =
                |x: &usize| state.nodes[*x].value >= version || self.takes_late(state, *x, version);
            let owners = (0..NODES).filter(lacks).filter(takes);
            actions.extend(owners.map(|x| Action::Arrive(version, x)));
            let told = state.told && version <= FLOOR && !self.makes(Mistake::CustodyAfterTold);
            if self.scenario.sloppy && state.custody < version && !told {
                actions.push(Action::Keep(version));
            }
        }
        if state.custody > 0 {
            actions.push(Action::Deliver);
        }
        if self.scenario.sloppy && !state.told && (state.custody == 0 || state.custody > FLOOR) {
            actions.push(Action::Tell);
        }
    }

    fn actions_of_floor(&self, state: &State, actions: &mut Vec<Action>) {
        for x in 0..NODES {
            for y in 0..NODES {
                let unequal = state.nodes[x].value != state.nodes[y].value
                    || state.nodes[x].floor != state.nodes[y].floor;
                if x != y && state.is_whole(x) && state.is_whole(y) && unequal {
                    actions.push(Action::Bring { from: x, to: y });
                }
                if self.may_vouch(state, x, y) {
                    actions.push(Action::Vouch { who: x, with: y });
                }
            }
            for fence in 0..=state.fence {
                if self.may_agree(state, x, fence) {
                    actions.push(Action::Agree(x, fence));
                }
            }
            if !state.nodes[x].floor && self.may_raise(state, x) {
                actions.push(Action::Raise(x));
            }
        }
    }

    pub fn may_fill(&self, state: &State, source: usize, target: usize) -> bool {
        let node = &state.nodes[target];
        let asks = state.is_owner(target) && state.is_live(target) && !node.complete;
        let gives = has(state.read_set(), source) && state.is_whole(source);
        source != target && asks && gives && !has(node.pulled, source)
    }

    pub fn may_complete(&self, state: &State, x: usize) -> bool {
        let node: &Node = &state.nodes[x];
        let wanted = if self.makes(Mistake::OneSource) { 1 } else { 2 };
        state.is_owner(x) && !node.complete && count(node.pulled) >= wanted
    }

    fn actions_of_changes(&self, state: &State, actions: &mut Vec<Action>) {
        let Scenario { old_disk, mirror, dies, .. } = self.scenario;
        let present = !state.dead && state.stage == Stage::Before;
        if old_disk && present && state.saved.is_none() && state.nodes[C].complete {
            actions.push(Action::Save);
        }
        if old_disk && present && state.saved.is_some() && !state.restored {
            actions.push(Action::Restore);
        }
        for target in 0..NODES {
            let sources = (0..NODES).filter(|&source| self.may_fill(state, source, target));
            actions.extend(sources.map(|source| Action::Fill { source, target }));
            if self.may_complete(state, target) {
                actions.push(Action::Complete(target));
            }
        }
        if !mirror {
            return;
        }
        if dies && !state.dead && state.stage != Stage::After {
            actions.push(Action::Die);
        }
        match state.stage {
            Stage::Before => {
                let newer = |x: &usize| state.nodes[*x].value > state.nodes[M].value;
                actions.extend((0..C + 1).filter(newer).map(Action::Mirror));
                actions.push(Action::Begin);
            }
            Stage::During if state.nodes[M].complete => actions.push(Action::End),
            Stage::During | Stage::After => {}
        }
    }
}

impl Model for Purge {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut nodes = [Node::default(); NODES];
        nodes[..M].iter_mut().for_each(|node| node.complete = true);
        vec![State {
            nodes,
            stage: Stage::Before,
            dead: false,
            saved: None,
            restored: false,
            issued: 0,
            answers: [0; 4],
            acked: 0,
            sloppy: 0,
            custody: 0,
            told: false,
            old: false,
            said: [0; FENCES],
            agreed: [0; FENCES],
            fence: 0,
            sets: [0b0111, 0, 0, 0],
            known: [0; NODES],
            broken: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.actions_of_writes(state, actions);
        self.actions_of_floor(state, actions);
        self.actions_of_changes(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.apply(&mut state, action);
        let mut state = state.min(state.exchanged());
        state.broken = 0;
        state.broken = judge::broken(self, &state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BACK, |_, state: &State| state.broken & judge::BACK == 0),
            Property::always(KEPT, |_, state: &State| state.broken & judge::KEPT == 0),
            Property::always(EQUAL, |_, state: &State| state.broken & judge::EQUAL == 0),
            Property::always(ENDS, |_, state: &State| state.broken & judge::ENDS == 0),
            Property::sometimes(ENDED, judge::ended),
        ]
    }
}
