//! What is checked: small worlds, each of which a certain mistake needs, run to their ends.

use crate::spec::Op;
use crate::state::Ballot;

/// A try of an operation by one proposer. The tries of one operation stand in order: a client
/// abandons one (and ignores its late answer) before it starts the next.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub op: u8,
    /// Of its rounds. Proposers take them in any order in time, so these few stand for all.
    pub ballots: Vec<Ballot>,
    /// A ballot above its window, which only a mistake takes.
    pub beyond: Option<Ballot>,
}

/// How owners change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    Stay,
    /// The last of four acceptors takes the place of the third in three steps: both are written
    /// and the old read, both are written and the new read, the new alone.
    Replaced,
    /// The third acceptor may lose all it has, and is filled again under a new epoch.
    Refilled,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub ops: Vec<Op>,
    pub attempts: Vec<Attempt>,
    /// Operations that begin only when the one before them has been answered.
    pub after: Vec<(u8, u8)>,
    /// How many times an acceptor may lose what it has not synced.
    pub crashes: u8,
    /// How many ids a register keeps.
    pub ids: usize,
    pub owners: Owners,
    /// Attempts that begin in any epoch; the others begin in the first, or when they may.
    pub late: &'static [usize],
    /// The epoch before which those do not begin.
    pub not_before: u8,
    /// The epoch it begins in; acceptors have heard of none.
    pub from: u8,
}

impl Scenario {
    /// The owner set that is read, by epoch.
    pub fn read_set(&self, epoch: u8) -> &'static [usize] {
        match (self.owners, epoch) {
            (Owners::Replaced, 2..) => &[0, 1, 3],
            _ => &[0, 1, 2],
        }
    }

    /// The owner sets that are written, by epoch.
    pub fn write_sets(&self, epoch: u8) -> &'static [&'static [usize]] {
        match (self.owners, epoch) {
            (Owners::Replaced, 1 | 2) => &[&[0, 1, 2], &[0, 1, 3]],
            (Owners::Replaced, 3..) => &[&[0, 1, 3]],
            _ => &[&[0, 1, 2]],
        }
    }

    /// The acceptors that can be exchanged without a difference.
    pub fn alike(&self) -> core::ops::Range<usize> {
        match (self.owners, self.crashes) {
            (Owners::Stay, 0) => 0..3,
            (Owners::Stay, _) => 1..3,
            _ => 0..2,
        }
    }

    /// Whether an attempt begins under any epoch that has come by then, rather than the first.
    pub fn waits(&self, attempt: usize) -> bool {
        self.late.contains(&attempt)
    }

    /// Whether it begins after something else has been answered. Only then does it make a
    /// difference that its coordinator may know of old epochs only: any other could have begun
    /// while its epoch was the newest, and its messages could have been late.
    pub fn is_gated(&self, attempt: usize) -> bool {
        let op = self.attempts[attempt].op;
        self.attempt_number(attempt) > 0 || self.after.iter().any(|&(_, after)| after == op)
    }

    pub fn attempt_number(&self, attempt: usize) -> usize {
        let op = self.attempts[attempt].op;
        self.attempts[..attempt].iter().filter(|other| other.op == op).count()
    }
}

fn scenario(name: &'static str, ops: &[Op], attempts: &[(u8, &[Ballot])]) -> Scenario {
    let attempt =
        |&(op, ballots): &(u8, &[Ballot])| Attempt { op, ballots: ballots.to_vec(), beyond: None };
    let attempts = attempts.iter().map(attempt).collect();
    Scenario {
        name,
        ops: ops.to_vec(),
        attempts,
        after: Vec::new(),
        crashes: 0,
        ids: 64,
        owners: Owners::Stay,
        from: 0,
        late: &[],
        not_before: 0,
    }
}

pub fn all() -> Vec<Scenario> {
    let put = |value| Op::Put { value };
    vec![
        Scenario {
            crashes: 1,
            ..scenario("two writers, a crash", &[put(1), put(2)], &[(0, &[1, 3]), (1, &[2])])
        },
        Scenario {
            crashes: 1,
            after: vec![(1, 2)],
            ..scenario(
                "writer, two readers, a crash",
                &[put(1), Op::Read, Op::Read],
                &[(0, &[1]), (1, &[2]), (2, &[3])],
            )
        },
        Scenario {
            after: vec![(1, 2)],
            ..scenario(
                "writer, compare-and-set, reader",
                &[put(1), Op::Cas { expect: 0, value: 2 }, Op::Read],
                &[(0, &[1, 4]), (1, &[2]), (2, &[3])],
            )
        },
        Scenario {
            after: vec![(2, 3)],
            ..scenario(
                "two writers, two readers",
                &[put(1), put(2), Op::Read, Op::Read],
                &[(0, &[1]), (1, &[2]), (2, &[3]), (3, &[4])],
            )
        },
        scenario(
            "a retry of the same id",
            &[put(1), put(2)],
            &[(0, &[1, 2]), (0, &[4]), (1, &[3])],
        ),
        retried_compare_and_set(),
        Scenario {
            ids: 1,
            ..scenario(
                "a retry of an id that may be forgotten",
                &[put(1), put(2), put(3)],
                &[(0, &[1]), (0, &[4]), (1, &[2]), (2, &[3])],
            )
        },
        scenario(
            "the question for an outcome",
            &[put(1), Op::Outcome { of: 0 }, Op::Read],
            &[(0, &[1, 3]), (1, &[2]), (2, &[4])],
        ),
        Scenario {
            after: vec![(0, 1), (1, 2)],
            ..scenario(
                "a value that expires, clocks that differ",
                &[Op::Brief { value: 1 }, Op::FastRead, Op::Read],
                &[(0, &[1]), (1, &[2, 4]), (2, &[3, 5])],
            )
        },
        Scenario {
            owners: Owners::Replaced,
            from: 1,
            late: &[1],
            ..scenario(
                "an owner is replaced, two writers",
                &[put(1), put(2)],
                &[(0, &[1]), (1, &[2])],
            )
        },
        Scenario {
            owners: Owners::Replaced,
            after: vec![(1, 2)],
            from: 1,
            late: &[2],
            ..scenario(
                "an owner is replaced, writer and readers",
                &[put(1), Op::Read, Op::Read],
                &[(0, &[1]), (1, &[]), (2, &[])],
            )
        },
        Scenario {
            owners: Owners::Replaced,
            after: vec![(0, 1)],
            late: &[1],
            ..scenario(
                "an owner is replaced, a reader after a writer",
                &[put(1), Op::Read],
                &[(0, &[1]), (1, &[2])],
            )
        },
        Scenario {
            owners: Owners::Replaced,
            from: 1,
            late: &[1],
            not_before: 2,
            ..scenario(
                "an owner is replaced, a higher ballot before",
                &[put(1), put(2)],
                &[(0, &[2]), (1, &[1, 3])],
            )
        },
        Scenario {
            owners: Owners::Refilled,
            late: &[1],
            ..scenario("an owner is filled again", &[put(1), put(2)], &[(0, &[1, 3]), (1, &[2])])
        },
    ]
}

/// The first attempt is slow; the second finds its expectation failed; a third party then makes it
/// hold again. Only the window keeps the first attempt from applying what the client was told has
/// failed.
fn retried_compare_and_set() -> Scenario {
    let ops = [Op::Cas { expect: 0, value: 1 }, Op::Put { value: 2 }, Op::Put { value: 0 }];
    let attempts: [(u8, &[Ballot]); 4] = [(0, &[2]), (0, &[3]), (1, &[1]), (2, &[4])];
    let mut scenario = scenario("a retried compare-and-set", &ops, &attempts);
    scenario.attempts[0].beyond = Some(5);
    scenario
}
