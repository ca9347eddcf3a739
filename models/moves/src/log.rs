//! What may be decided: a tree of states, each with the unit's owners, its phase and its fence.
//! How a state is decided is not modelled here (`docs/protocol/decree.md`); nodes learn of it at
//! any time, and of later ones first.

use crate::scenario::Scenario;
use crate::state::{Epoch, NODES, Set, has};

/// Where a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// One owner set: there is no move, or it has ended.
    Settled,
    /// Both sets are written, the old is read.
    First,
    /// Both sets are written, the new is read.
    Second,
}

/// How one state follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begin,
    Advance,
    RollBack,
    /// The move's target is another.
    Retarget,
    /// An owner that has lost data enters anew.
    Refill(usize),
    /// From "read new" to the old owners alone: only with a mistake.
    Straight,
}

/// What a state says of the unit.
#[derive(Clone, Debug)]
pub struct Conf {
    pub stage: Stage,
    /// The move in it undoes another.
    pub undoes: bool,
    pub old: Set,
    pub new: Set,
    /// The epoch in which read set, write sets or entries last changed.
    pub changed_at: Epoch,
    /// By node: the epoch in which it entered, for owners.
    pub entry: [Epoch; NODES],
    /// The epoch in which the move began.
    pub begun: Epoch,
    /// The places of the states up to this one, by epoch.
    pub path: Vec<usize>,
    pub next: Vec<(Step, usize)>,
}

impl Conf {
    /// The owners that are read.
    pub fn read(&self) -> Set {
        if self.stage == Stage::Second { self.new } else { self.old }
    }

    /// The owner sets that are written.
    pub fn write(&self) -> [Set; 2] {
        [self.old, self.new]
    }

    pub fn owners(&self) -> Set {
        self.old | self.new
    }
}

/// What is left to be decided on a path.
#[derive(Clone, Copy)]
struct Left {
    targets: &'static [Set],
    retargets: &'static [Set],
    rollbacks: u8,
    refills: Set,
    losses: u8,
}

/// All that can be decided in a scenario; the first is where it begins.
pub fn tree(scenario: &Scenario) -> Vec<Conf> {
    let first = Conf {
        stage: Stage::Settled,
        undoes: false,
        old: scenario.owners,
        new: scenario.owners,
        changed_at: 0,
        entry: [0; NODES],
        begun: 0,
        path: vec![0],
        next: Vec::new(),
    };
    let mut confs = vec![first];
    let left = Left {
        targets: scenario.targets,
        retargets: scenario.retargets,
        rollbacks: scenario.rollbacks,
        refills: scenario.wipes,
        losses: scenario.losses,
    };
    grow(&mut confs, 0, left);
    confs
}

fn grow(confs: &mut Vec<Conf>, at: usize, left: Left) {
    let conf = confs[at].clone();
    let (old, new) = (conf.old, conf.new);
    let mut follow = |step, stage, old, new, left| add(confs, at, step, (stage, old, new), left);
    if let (Stage::Settled, [target, targets @ ..]) = (conf.stage, left.targets) {
        follow(Step::Begin, Stage::First, old, *target, Left { targets, ..left });
    }
    let rollbacks = left.rollbacks.saturating_sub(1);
    let back = Left { rollbacks, ..left };
    match conf.stage {
        Stage::Settled => {}
        Stage::First => {
            follow(Step::Advance, Stage::Second, old, new, left);
            if left.rollbacks > 0 {
                follow(Step::RollBack, Stage::Settled, old, old, back);
            }
            if let [target, retargets @ ..] = left.retargets {
                follow(Step::Retarget, Stage::First, old, *target, Left { retargets, ..left });
            }
        }
        Stage::Second => {
            follow(Step::Advance, Stage::Settled, new, new, left);
            if left.rollbacks > 0 {
                follow(Step::RollBack, Stage::First, new, old, back);
                follow(Step::Straight, Stage::Settled, old, old, back);
            }
        }
    }
    for x in (0..NODES).filter(|&x| left.losses > 0 && has(left.refills & conf.owners(), x)) {
        let left = Left { losses: left.losses - 1, ..left };
        follow(Step::Refill(x), conf.stage, old, new, left);
    }
}

fn add(confs: &mut Vec<Conf>, at: usize, step: Step, to: (Stage, Set, Set), left: Left) {
    let place = confs.len();
    let before = confs[at].clone();
    let epoch = before.path.len() as Epoch;
    let mut conf = Conf { stage: to.0, old: to.1, new: to.2, ..before.clone() };
    conf.next.clear();
    conf.path.push(place);
    conf.undoes = match step {
        Step::RollBack => before.stage == Stage::Second,
        Step::Begin | Step::Retarget => false,
        _ => before.undoes,
    };
    if step == Step::Begin {
        conf.begun = epoch;
    }
    for x in 0..NODES {
        let enters = has(conf.owners(), x) && !has(before.owners(), x);
        if enters || step == Step::Refill(x) {
            conf.entry[x] = epoch;
        }
    }
    let sorted = |conf: &Conf| (conf.old.min(conf.new), conf.old.max(conf.new), conf.read());
    if sorted(&conf) != sorted(&before) || conf.entry != before.entry {
        conf.changed_at = epoch;
    }
    confs[at].next.push((step, place));
    confs.push(conf);
    grow(confs, place, left);
}
