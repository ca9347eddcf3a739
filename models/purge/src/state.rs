//! One state of the whole: what each node keeps of the one key, what has been written, and how far
//! the floor is.
//!
//! The network is what has been sent, for ever: a version that was written arrives anywhere, at any
//! time, again or never. There is one floor, between the delete and the put after it: whatever may go
//! wrong with a second one goes wrong with one.

/// Owners A, B and C, and M, which mirrors the unit and may take C's place.
pub const NODES: usize = 4;
pub const C: usize = 2;
pub const M: usize = 3;
/// A set of nodes, a bit for each.
pub type Set = u8;
/// The bit of the holder of hints, which owns nothing. It stands for as many of them as a write needs.
pub const HOLDER: Set = 16;

/// Fences, at most.
pub const FENCES: usize = 4;

/// A version of the key: none, a put, its delete, another put. Stamps rise.
pub type Version = u8;
pub const PUT: Version = 1;
pub const DELETE: Version = 2;
pub const AGAIN: Version = 3;
/// The floor that is to be raised: the delete and all before it.
pub const FLOOR: Version = DELETE;

/// What one node keeps, on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// What stands of the key; a tombstone at or below the floor is nothing.
    pub value: Version,
    /// It knows that all owners have vouched.
    pub agreed: bool,
    /// It was filled by owners that did: it can say so to whom it fills.
    pub bears: bool,
    /// It knows that all know it: the floor has risen here.
    pub floor: bool,
    /// It has vouched once: from outside nothing late comes in at or below the floor to be.
    pub gate: bool,
    /// The owners with whom it has found itself equal at or below the floor to be, since it was last
    /// brought anything there.
    pub vouched: Set,
    /// It has all it should have.
    pub complete: bool,
    /// The sources it has pulled while it is not, and the first of them, if that had agreed.
    pub pulled: Set,
    pub settled: Set,
}

/// How far C has been replaced by M.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Before,
    During,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub nodes: [Node; NODES],
    pub stage: Stage,
    /// C is gone for ever.
    pub dead: bool,
    /// A copy of C's disk, taken at some time.
    pub saved: Option<Node>,
    pub restored: bool,
    /// The highest version that was sent.
    pub issued: Version,
    /// Who has answered that it has a version, and the holder.
    pub answers: [Set; 4],
    /// The highest acknowledged by owners.
    pub acked: Version,
    /// The highest acknowledged with the holder's help.
    pub sloppy: Version,
    /// What is held in custody for C.
    pub custody: Version,
    /// The holder has told that it holds nothing at or below the floor to be.
    pub told: bool,
    /// The slack is over: who writes at or below the floor to be has had its answer.
    pub old: bool,
    /// How often owners, or an entry of one, have changed.
    pub fence: u8,
    /// The owners under each fence.
    pub sets: [Set; FENCES],
    /// Who has ever reported to have vouched for all owners, by the fence under which it did.
    pub said: [Set; FENCES],
    /// Who has ever reported to know that all have.
    pub agreed: [Set; FENCES],
    /// The fence that each surely knows of: it has given something to who entered with it.
    pub known: [u8; NODES],
    /// Which promises do not hold in this state, a bit for each.
    pub broken: u8,
}

impl State {
    /// Who is read.
    pub fn read_set(&self) -> Set {
        if self.stage == Stage::After { 0b1011 } else { 0b0111 }
    }

    /// Who owns: both sets.
    pub fn owners(&self) -> Set {
        if self.stage == Stage::During { 0b1111 } else { self.read_set() }
    }

    pub fn is_owner(&self, x: usize) -> bool {
        has(self.owners(), x)
    }

    pub fn is_live(&self, x: usize) -> bool {
        !(x == C && self.dead)
    }

    /// It can be read, compared with and pulled from.
    pub fn is_whole(&self, x: usize) -> bool {
        self.is_owner(x) && self.is_live(x) && self.nodes[x].complete
    }
}

impl State {
    /// The same with A and B exchanged: they differ in nothing.
    pub fn exchanged(mut self) -> State {
        self.nodes.swap(0, 1);
        for node in self.nodes.iter_mut().chain(&mut self.saved) {
            node.vouched = swapped(node.vouched);
            node.pulled = swapped(node.pulled);
            node.settled = swapped(node.settled);
        }
        self.answers = self.answers.map(swapped);
        self.said = self.said.map(swapped);
        self.agreed = self.agreed.map(swapped);
        self.known.swap(0, 1);
        self
    }
}

fn swapped(set: Set) -> Set {
    set & !3 | (set & 1) << 1 | set >> 1 & 1
}

impl Node {
    /// What is compared for the floor: what stands at or below it.
    pub fn below(&self) -> Version {
        if self.value <= FLOOR { self.value } else { 0 }
    }

    /// The floor is known here.
    pub fn adopt(&mut self) {
        (self.floor, self.agreed, self.gate) = (true, true, true);
        if self.value == DELETE {
            self.value = 0;
        }
    }
}

pub fn has(set: Set, x: usize) -> bool {
    set & 1 << x != 0
}

pub fn those(is_in: impl Fn(usize) -> bool) -> Set {
    (0..NODES).filter(|&x| is_in(x)).map(|x| 1 << x).sum()
}

pub fn count(set: Set) -> u32 {
    set.count_ones()
}
