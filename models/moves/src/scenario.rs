//! What is checked: small worlds, each of which a certain mistake needs, run to their ends.

use crate::state::Set;

const A: Set = 1;
const B: Set = 2;
const C: Set = 4;
const D: Set = 8;
const E: Set = 16;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub r: usize,
    pub w: usize,
    /// The owners in epoch 0, all of them complete.
    pub owners: Set,
    /// What the moves go to, one after the other; a rolled back one is not begun again unless it
    /// stands here twice.
    pub targets: &'static [Set],
    /// What the target of a move becomes.
    pub retargets: &'static [Set],
    /// How many times a move is rolled back, at most.
    pub rollbacks: u8,
    /// One, or a second one that begins when the first has been acknowledged, with a lower stamp.
    pub writes: usize,
    /// A read is played, answer by answer. Without it every state is judged by what a read that
    /// begins and ends in it could miss.
    pub reader: bool,
    /// Who may, once, lose what it has not synced.
    pub crashes: Set,
    /// Who may lose all it has of the unit, while nobody else lacks anything.
    pub wipes: Set,
    /// How many times this happens.
    pub losses: u8,
    /// Of whom one may stop for ever.
    pub deaths: Set,
    /// Nodes that differ in nothing.
    pub alike: &'static [(usize, usize)],
}

impl Scenario {
    pub fn n(&self) -> usize {
        crate::state::count(self.owners)
    }

    /// All who own the unit at some time.
    pub fn members(&self) -> Set {
        let all = self.targets.iter().chain(self.retargets);
        all.fold(self.owners, |set, target| set | target)
    }
}

fn scenario(name: &'static str, owners: Set, targets: &'static [Set]) -> Scenario {
    let majority = crate::state::count(owners) / 2 + 1;
    Scenario {
        name,
        r: majority,
        w: majority,
        owners,
        targets,
        retargets: &[],
        rollbacks: 0,
        writes: 1,
        reader: true,
        crashes: 0,
        wipes: 0,
        losses: 1,
        deaths: 0,
        alike: &[],
    }
}

const THREE: Set = A | B | C;

fn one(name: &'static str) -> Scenario {
    Scenario { alike: &[(0, 1)], ..scenario(name, THREE, &[A | B | D]) }
}

fn two(name: &'static str) -> Scenario {
    Scenario { alike: &[(1, 2), (3, 4)], ..scenario(name, THREE, &[A | D | E]) }
}

pub fn all() -> Vec<Scenario> {
    let three = THREE;
    let again = |name, targets| Scenario { alike: &[(0, 1)], ..scenario(name, three, targets) };
    vec![
        one("one of three replaced"),
        Scenario { rollbacks: 2, ..one("one of three replaced, rolled back") },
        Scenario { writes: 2, ..unread(one("one of three replaced, two writes")) },
        Scenario { crashes: A, alike: &[], ..one("one of three replaced, a crash") },
        Scenario {
            rollbacks: 1,
            deaths: three | D,
            ..unread(one("one of three replaced, a node dies"))
        },
        Scenario { rollbacks: 1, ..again("rolled back and begun again", &[A | B | D, A | B | D]) },
        again("one of three replaced, and back", &[A | B | D, A | B | C]),
        Scenario { retargets: &[A | B | E], ..unread(one("the new owner is exchanged")) },
        two("two of three replaced"),
        Scenario { r: 2, w: 3, rollbacks: 1, ..one("one of three replaced, w = 3") },
        Scenario { r: 3, w: 2, rollbacks: 1, ..one("one of three replaced, r = 3") },
        Scenario {
            r: 1,
            w: 2,
            rollbacks: 1,
            ..scenario("one of two replaced, and back", A | B, &[A | D, A | B])
        },
        Scenario { rollbacks: 1, ..scenario("the only one replaced, and back", A, &[B, A]) },
        Scenario {
            wipes: three,
            losses: 2,
            writes: 2,
            ..scenario("an owner is filled again, two writes", three, &[])
        },
        Scenario {
            wipes: A | D,
            alike: &[],
            ..unread(one("an owner loses its data during a move"))
        },
    ]
}

fn unread(scenario: Scenario) -> Scenario {
    Scenario { reader: false, ..scenario }
}

/// Larger worlds, for a longer run.
pub fn long() -> Vec<Scenario> {
    let lossy = |name| Scenario { wipes: A | C | D, alike: &[], ..unread(one(name)) };
    let another = |name, targets| Scenario { alike: &[], ..unread(scenario(name, THREE, targets)) };
    let exchanged = |name| Scenario { retargets: &[A | B | E], rollbacks: 1, ..unread(one(name)) };
    vec![
        Scenario { wipes: A, writes: 2, ..lossy("data lost, two writes") },
        Scenario { wipes: A | D, losses: 2, ..lossy("data lost twice") },
        Scenario { rollbacks: 1, ..lossy("data lost, rolled back") },
        Scenario { crashes: A | D, alike: &[], ..unread(one("a crash of an old or a new owner")) },
        lossy("data lost"),
        another("one after the other", &[A | B | D, A | D | E]),
        Scenario {
            rollbacks: 1,
            alike: &[(0, 1)],
            ..another("rolled back, then another", &[A | B | D, A | B | E])
        },
        Scenario { rollbacks: 3, ..unread(one("rolled back three times")) },
        Scenario { rollbacks: 2, ..unread(two("two of three replaced, rolled back")) },
        Scenario { writes: 2, ..unread(two("two of three replaced, two writes")) },
        Scenario { writes: 2, rollbacks: 1, ..unread(one("two writes, rolled back")) },
        Scenario {
            w: 3,
            r: 2,
            rollbacks: 1,
            alike: &[(0, 1), (1, 2), (0, 1)],
            ..unread(scenario("one of four replaced", A | B | C | D, &[A | B | C | E]))
        },
        exchanged("the new owner is exchanged, rolled back"),
        Scenario { deaths: D, ..exchanged("the new owner dies and is exchanged") },
    ]
}
