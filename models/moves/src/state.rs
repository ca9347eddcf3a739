//! One state of the whole: what each node keeps, what has been decided, the writes of clients and
//! one read.
//!
//! The network is what has been sent, for ever: a message is delivered when somebody acts on it,
//! never (a loss), late (a reordering) or again (a duplicate).

/// Nodes of a scenario, at most. In order: A, B, C, D, E.
pub const NODES: usize = 5;
/// A set of nodes, a bit for each.
pub type Set = u8;
/// The number of a decided state, from 0.
pub type Epoch = u8;
/// What orders versions of the one key; 0 is the version from before.
pub type Stamp = u8;

/// What one node keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The `changed_at` of the newest state it has heard of: it refuses everything below.
    pub heard: Epoch,
    /// The same of the newest state on its disk: it serves and acts by this.
    pub epoch: Epoch,
    /// The highest it has ever acknowledged; what was sent stays sent.
    pub acked: Epoch,
    /// The version on its disk.
    pub value: Stamp,
    /// A write it has let in that is not on its disk yet.
    pub waiting: Option<Waiting>,
    /// The epoch of entry it is complete for, plus one; 0 is incomplete.
    pub complete: u8,
    /// The highest such number it has ever reported.
    pub reported: u8,
    /// The sources it has copied, since it entered.
    pub copied: Set,
    /// It has lost what it acknowledged since its entry.
    pub lost: bool,
    /// It owns the unit no more and has yet to delete it.
    pub due: bool,
    pub dead: bool,
}

/// A write that waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting {
    pub op: u8,
    pub epoch: Epoch,
    pub stamp: Stamp,
}

/// A client's write and its coordinator's present attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Write {
    pub stamp: Stamp,
    /// The second round, with a stamp above what the first has met.
    pub again: bool,
    /// The first epoch under which this stamp was sent.
    pub since: Epoch,
    /// The `changed_at` that the attempt goes by; none before the first.
    pub epoch: Option<Epoch>,
    /// Who has answered this attempt.
    pub answers: Set,
    /// Of those, who said that it is complete.
    pub whole: Set,
    /// One of them held a higher stamp.
    pub higher: bool,
    pub done: bool,
}

/// A client's read, begun after a write was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    pub epoch: Option<Epoch>,
    /// What had been acknowledged when it began.
    pub least: Stamp,
    /// The owners that have answered with less. One good answer makes the read good, so it is
    /// left out.
    pub stale: Set,
    /// Only with a mistake: owners that have let the question in.
    pub admitted: Set,
}

/// What a judge has against a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A read has been answered with less than was acknowledged before it began.
    Missed,
    /// An incomplete owner has answered a read.
    Incomplete,
    /// A write that began after another was acknowledged has lost to it.
    LaterLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The newest decided state, by its place in the scenario's tree.
    pub log: u16,
    pub nodes: [Node; NODES],
    pub writes: [Write; 2],
    pub reader: Reader,
    /// The stamp that was acknowledged last.
    pub acked: Stamp,
    pub crashed: bool,
    pub wiped: u8,
    pub died: bool,
    pub fault: Option<Fault>,
}

/// Whether node `x` is in a set.
pub fn has(set: Set, x: usize) -> bool {
    set & (1 << x) != 0
}

/// How many nodes a set has.
pub fn count(set: Set) -> usize {
    set.count_ones() as usize
}

/// The set of the nodes for which this holds.
pub fn those(holds: impl Fn(usize) -> bool) -> Set {
    (0..NODES).fold(0, |set, x| set | (Set::from(holds(x)) << x))
}

impl State {
    /// The same with two nodes exchanged.
    pub fn exchanged(&self, x: usize, y: usize) -> State {
        let bits = |set: &mut Set| {
            if has(*set, x) != has(*set, y) {
                *set ^= (1 << x) | (1 << y);
            }
        };
        let mut state = *self;
        state.nodes.swap(x, y);
        state.nodes.iter_mut().for_each(|node| bits(&mut node.copied));
        for write in &mut state.writes {
            bits(&mut write.answers);
            bits(&mut write.whole);
        }
        bits(&mut state.reader.stale);
        bits(&mut state.reader.admitted);
        state
    }
}
