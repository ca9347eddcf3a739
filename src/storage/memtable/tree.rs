//! The order of a memtable: a B+-tree of places in the arena.
//!
//! Decides where a key stands among the others; does not know versions or values. A node is two
//! flat arrays, so an insert moves some hundred bytes and a search touches a few lines of memory
//! instead of one line for each of twenty comparisons, as a skiplist does.
//!
//! Beside each place stands the *head* of its key: eight or sixteen bytes, and most comparisons need
//! no more. They are not its first bytes, which keys of one kind share, but those behind a number of
//! bytes that all keys of the node share, its `skip` (prefix truncation: Bayer and Unterauer, 1977;
//! Graefe, 2011). INVARIANT: every key that can be routed to a node shares the first `skip` bytes
//! with every key in it. Between two separators all keys share what these share; the nodes on the
//! left and the right edge of the tree lack one of them, and skip what all keys of the tree share,
//! which is looked after in [`Tree::locate`].

use super::arena::{Arena, At};

const WIDTH: usize = 64;
/// How many nodes are allocated together.
const NODES_PER_CHUNK: usize = 64;
const NO_NODE: u32 = u32::MAX;

/// The most that inserting `keys` keys adds to the bytes of a tree of some leaves. A leaf splits
/// only when it is full, and its halves do not before half as many keys more have come.
pub(super) fn growth_max(leaves: usize, keys: usize) -> usize {
    if keys == 0 {
        return 0;
    }
    let splits = keys.min(leaves + keys / (WIDTH / 2) + 1);
    // The first leaf is there before the first key, and booked with it.
    let splits = splits + 1;
    let above = 2 + splits / (WIDTH / 4);
    splits * size_of::<Leaf>() + above * size_of::<Inner>()
}

/// Some bytes of a key as a number that orders as they do. Missing ones are zeros.
trait Head: Copy + Ord + Default {
    fn of(key: &[u8], skip: u16) -> Self;
}

fn padded<const N: usize>(key: &[u8], skip: u16) -> [u8; N] {
    let rest = key.get(usize::from(skip)..).unwrap_or_default();
    match rest.first_chunk() {
        Some(head) => *head,
        None => {
            let mut head = [0; N];
            head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            head
        }
    }
}

impl Head for u64 {
    fn of(key: &[u8], skip: u16) -> Self {
        Self::from_be_bytes(padded(key, skip))
    }
}

impl Head for u128 {
    fn of(key: &[u8], skip: u16) -> Self {
        Self::from_be_bytes(padded(key, skip))
    }
}

fn shared(one: &[u8], other: &[u8]) -> u16 {
    let count = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Sorted keys by their places.
#[derive(Debug)]
struct Keys<H> {
    heads: [H; WIDTH],
    places: [At; WIDTH],
    len: u16,
    skip: u16,
}

impl<H: Head> Keys<H> {
    fn new(skip: u16) -> Self {
        Self { heads: [H::default(); WIDTH], places: [0; WIDTH], len: 0, skip }
    }

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn is_full(&self) -> bool {
        self.len() == WIDTH
    }

    fn heads(&self) -> &[H] {
        self.heads.get(..self.len()).expect("at most WIDTH keys")
    }

    fn places(&self) -> &[At] {
        self.places.get(..self.len()).expect("at most WIDTH keys")
    }

    /// Where `key` stands, or where it would.
    fn find(&self, arena: &Arena, key: &[u8]) -> Result<usize, usize> {
        let head = H::of(key, self.skip);
        let heads = self.heads();
        let low = heads.partition_point(|other| *other < head);
        let ties = heads.get(low..).unwrap_or_default();
        if ties.first() != Some(&head) {
            return Err(low);
        }
        let ties = ties.partition_point(|other| *other == head);
        let places = self.places.get(low..low + ties).unwrap_or_default();
        match places.binary_search_by(|place| arena.key(*place).cmp(key)) {
            Ok(index) => Ok(low + index),
            Err(index) => Err(low + index),
        }
    }

    fn insert(&mut self, index: usize, key: &[u8], place: At) {
        let (len, head) = (self.len(), H::of(key, self.skip));
        self.heads.copy_within(index..len, index + 1);
        self.places.copy_within(index..len, index + 1);
        *self.heads.get_mut(index).expect("there is room") = head;
        *self.places.get_mut(index).expect("there is room") = place;
        self.len += 1;
    }

    /// Moves what stands from `index` on into a new node.
    fn split_off(&mut self, index: usize) -> Self {
        let mut right = Self::new(self.skip);
        let moved = self.len() - index;
        let heads = self.heads.get(index..index + moved).expect("at most WIDTH keys");
        right.heads.get_mut(..moved).expect("as many").copy_from_slice(heads);
        let places = self.places.get(index..index + moved).expect("at most WIDTH keys");
        right.places.get_mut(..moved).expect("as many").copy_from_slice(places);
        right.len = u16::try_from(moved).expect("at most WIDTH keys");
        self.len = u16::try_from(index).expect("at most WIDTH keys");
        right
    }

    /// Skips as much as is given, if that is more than now.
    fn skip_more(&mut self, arena: &Arena, skip: Option<u16>) {
        if let Some(skip) = skip.filter(|skip| *skip > self.skip) {
            self.set_skip(arena, skip);
        }
    }

    fn set_skip(&mut self, arena: &Arena, skip: u16) {
        if self.skip != skip {
            self.skip = skip;
            for (head, place) in self.heads.iter_mut().zip(&self.places).take(usize::from(self.len))
            {
                *head = H::of(arena.key(*place), skip);
            }
        }
    }
}

#[derive(Debug)]
struct Leaf {
    keys: Keys<u64>,
    before: u32,
    after: u32,
}

/// `kids[i]` holds the keys below `keys[i]`, the last kid all others. There are few of them, and
/// their keys lie far apart: with longer heads hardly a comparison is left that needs the key.
#[derive(Debug)]
struct Inner {
    keys: Keys<u128>,
    kids: [u32; WIDTH + 1],
}

impl Inner {
    /// Inserts a separator and the kid to its right.
    fn insert(&mut self, index: usize, key: &[u8], separator: At, right: u32) {
        self.kids.copy_within(index + 1..=self.keys.len(), index + 2);
        *self.kids.get_mut(index + 1).expect("there is room") = right;
        self.keys.insert(index, key, separator);
    }

    /// Moves the upper half into a new node. The separator between them is in neither.
    fn split(&mut self) -> (At, Self) {
        const MIDDLE: usize = WIDTH / 2;
        let keys = self.keys.split_off(MIDDLE + 1);
        let separator = *self.keys.places().last().expect("half of the keys are left");
        self.keys.len -= 1;
        let mut kids = [NO_NODE; WIDTH + 1];
        let moved = self.kids.get(MIDDLE + 1..).expect("half of the kids");
        kids.iter_mut().zip(moved).for_each(|(to, from)| *to = *from);
        (separator, Self { keys, kids })
    }

    fn kid(&self, index: usize) -> u32 {
        *self.kids.get(index).expect("a kid for each key and one more")
    }
}

/// Nodes of one kind, by number. They never move.
#[derive(Debug)]
struct Nodes<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Nodes<T> {
    fn push(&mut self, node: T) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == NODES_PER_CHUNK) {
            // The first chunk of a small memtable grows as it must; later ones are made whole.
            let first = self.chunks.is_empty();
            self.chunks.push(Vec::with_capacity(if first { 1 } else { NODES_PER_CHUNK }));
        }
        self.chunks.last_mut().expect("there is one").push(node);
        self.len += 1;
        self.len - 1
    }

    fn get(&self, no: u32) -> &T {
        let (chunk, within) = (no as usize / NODES_PER_CHUNK, no as usize % NODES_PER_CHUNK);
        self.chunks.get(chunk).and_then(|chunk| chunk.get(within)).expect("nodes are never removed")
    }

    fn get_mut(&mut self, no: u32) -> &mut T {
        let (chunk, within) = (no as usize / NODES_PER_CHUNK, no as usize % NODES_PER_CHUNK);
        let chunk = self.chunks.get_mut(chunk);
        chunk.and_then(|chunk| chunk.get_mut(within)).expect("nodes are never removed")
    }
}

/// A place in a leaf: of a key, or where one would be inserted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    leaf: u32,
    index: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    leaves: Nodes<Leaf>,
    inners: Nodes<Inner>,
    root: u32,
    /// Levels of inner nodes above the leaves.
    height: usize,
    rightmost: u32,
    /// What all keys share, or more.
    sample: Vec<u8>,
    common: u16,
    /// The inner nodes passed by the last descent, and which kid was taken.
    path: Vec<(u32, usize)>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut leaves = Nodes { chunks: Vec::new(), len: 0 };
        let keys = Keys::new(0);
        let root = leaves.push(Leaf { keys, before: NO_NODE, after: NO_NODE });
        Self {
            leaves,
            inners: Nodes { chunks: Vec::new(), len: 0 },
            root,
            height: 0,
            rightmost: root,
            sample: Vec::new(),
            common: 0,
            path: Vec::new(),
        }
    }

    /// Bytes of all nodes.
    pub(super) fn bytes(&self) -> usize {
        self.leaves.len as usize * size_of::<Leaf>() + self.inners.len as usize * size_of::<Inner>()
    }

    /// Number of leaves.
    pub(super) fn leaves(&self) -> usize {
        self.leaves.len as usize
    }

    fn shares_common(&self, key: &[u8]) -> bool {
        key.starts_with(self.sample.get(..usize::from(self.common)).unwrap_or_default())
    }

    /// Finds `key`, or the place to insert it next.
    pub(super) fn locate(&mut self, arena: &Arena, key: &[u8]) -> Result<Spot, Spot> {
        if self.is_empty() {
            self.sample = key.to_vec();
            self.common = u16::try_from(key.len()).unwrap_or(u16::MAX);
            self.skip_on_edges(arena);
        } else if !self.shares_common(key) {
            self.common = shared(&self.sample, key).min(self.common);
            self.skip_on_edges(arena);
        }
        // Keys often come in order: no search then.
        let last = &self.leaves.get(self.rightmost).keys;
        if last.heads().last().is_some_and(|head| *head < Head::of(key, last.skip)) {
            let spot = Spot { leaf: self.rightmost, index: last.len() };
            return Err(spot);
        }
        self.path.clear();
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let index = inner.keys.find(arena, key).map_or_else(|index| index, |index| index + 1);
            self.path.push((node, index));
            node = inner.kid(index);
        }
        let spot = |index| Spot { leaf: node, index };
        self.leaves.get(node).keys.find(arena, key).map(spot).map_err(spot)
    }

    fn is_empty(&self) -> bool {
        self.height == 0 && self.leaves.get(self.root).keys.len == 0
    }

    /// The nodes on both edges skip what all keys share.
    fn skip_on_edges(&mut self, arena: &Arena) {
        for right in [false, true] {
            let mut node = self.root;
            for _ in 0..self.height {
                let inner = self.inners.get_mut(node);
                inner.keys.set_skip(arena, self.common);
                node = inner.kid(if right { inner.keys.len() } else { 0 });
            }
            self.leaves.get_mut(node).keys.set_skip(arena, self.common);
        }
    }

    /// The place of a record that stands where `locate` has found one.
    pub(super) fn place(&self, spot: Spot) -> At {
        let places = self.leaves.get(spot.leaf).keys.places();
        *places.get(spot.index).expect("a spot that was found")
    }

    /// Puts another record of the same key there.
    pub(super) fn replace(&mut self, spot: Spot, place: At) {
        let places = &mut self.leaves.get_mut(spot.leaf).keys.places;
        *places.get_mut(spot.index).expect("a spot that was found") = place;
    }

    /// Inserts a key where the last `locate` has found room for it.
    pub(super) fn insert(&mut self, arena: &Arena, spot: Spot, key: &[u8], place: At) {
        let leaf = self.leaves.get_mut(spot.leaf);
        if !leaf.keys.is_full() {
            return leaf.keys.insert(spot.index, key, place);
        }
        let appended = spot.leaf == self.rightmost && spot.index == WIDTH;
        // Keys that come in order leave full leaves behind.
        let middle = if appended { WIDTH } else { WIDTH / 2 };
        let mut keys = leaf.keys.split_off(middle);
        match spot.index.checked_sub(middle) {
            Some(index) if appended || index > 0 => keys.insert(index, key, place),
            _ => leaf.keys.insert(spot.index, key, place),
        }
        let after = leaf.after;
        let separator = *keys.places().first().expect("one key at least has moved");
        let right = self.leaves.push(Leaf { keys, before: spot.leaf, after });
        self.leaves.get_mut(spot.leaf).after = right;
        match after {
            NO_NODE => self.rightmost = right,
            after => self.leaves.get_mut(after).before = right,
        }
        if appended {
            self.descend_right();
        }
        let (low, high) = self.skips(arena, separator);
        self.leaves.get_mut(spot.leaf).keys.skip_more(arena, low);
        self.leaves.get_mut(right).keys.skip_more(arena, high);
        self.insert_above(arena, separator, right);
    }

    /// Inserts a separator and the node to its right into the inner nodes that the path names.
    fn insert_above(&mut self, arena: &Arena, mut separator: At, mut right: u32) {
        while let Some((node, index)) = self.path.pop() {
            let inner = self.inners.get_mut(node);
            if !inner.keys.is_full() {
                return inner.insert(index, arena.key(separator), separator, right);
            }
            let (middle, mut other) = inner.split();
            match index.checked_sub(WIDTH / 2 + 1) {
                Some(index) => other.insert(index, arena.key(separator), separator, right),
                None => inner.insert(index, arena.key(separator), separator, right),
            }
            let (low, high) = self.skips(arena, middle);
            self.inners.get_mut(node).keys.skip_more(arena, low);
            other.keys.skip_more(arena, high);
            right = self.inners.push(other);
            separator = middle;
        }
        let mut keys = Keys::new(self.common);
        keys.insert(0, arena.key(separator), separator);
        let mut kids = [NO_NODE; WIDTH + 1];
        (kids[0], kids[1]) = (self.root, right);
        self.root = self.inners.push(Inner { keys, kids });
        self.height += 1;
    }

    /// Makes the path that of the right edge.
    fn descend_right(&mut self) {
        self.path.clear();
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            self.path.push((node, inner.keys.len()));
            node = inner.kid(inner.keys.len());
        }
    }

    /// The separators on both sides of the node that the path leads to.
    fn fences(&self) -> (Option<At>, Option<At>) {
        let (mut low, mut high) = (None, None);
        for (node, index) in &self.path {
            let places = self.inners.get(*node).keys.places();
            low = index.checked_sub(1).and_then(|index| places.get(index)).copied().or(low);
            high = places.get(*index).copied().or(high);
        }
        (low, high)
    }

    /// What all keys share on the left and on the right of a new separator, within the node that
    /// the path leads to; none where the node lies on an edge of the tree.
    fn skips(&self, arena: &Arena, separator: At) -> (Option<u16>, Option<u16>) {
        let (low, high) = self.fences();
        let middle = arena.key(separator);
        let with_middle = |fence: At| shared(arena.key(fence), middle);
        (low.map(with_middle), high.map(with_middle))
    }

    /// The first spot whose key is `key` or above, if `key` is given; else the first of all.
    pub(super) fn seek(&self, arena: &Arena, key: Option<&[u8]>) -> Spot {
        let Some(key) = key else { return self.first() };
        if !self.shares_common(key) {
            let sample = self.sample.get(..usize::from(self.common)).unwrap_or_default();
            return if key < sample { self.first() } else { self.end() };
        }
        match self.descend(arena, key) {
            Ok(spot) | Err(spot) => spot,
        }
    }

    /// The spot of `key`, if it is there.
    pub(super) fn find(&self, arena: &Arena, key: &[u8]) -> Option<Spot> {
        if !self.shares_common(key) {
            return None;
        }
        self.descend(arena, key).ok()
    }

    fn descend(&self, arena: &Arena, key: &[u8]) -> Result<Spot, Spot> {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let index = inner.keys.find(arena, key).map_or_else(|index| index, |index| index + 1);
            node = inner.kid(index);
        }
        let spot = |index| Spot { leaf: node, index };
        self.leaves.get(node).keys.find(arena, key).map(spot).map_err(spot)
    }

    fn first(&self) -> Spot {
        let mut node = self.root;
        for _ in 0..self.height {
            node = self.inners.get(node).kid(0);
        }
        Spot { leaf: node, index: 0 }
    }

    /// The spot behind the last key.
    pub(super) fn end(&self) -> Spot {
        Spot { leaf: self.rightmost, index: self.leaves.get(self.rightmost).keys.len() }
    }

    /// The record at a spot, and the spot of the next key.
    pub(super) fn next(&self, mut spot: Spot) -> Option<(At, Spot)> {
        loop {
            let leaf = self.leaves.get(spot.leaf);
            if let Some(place) = leaf.keys.places().get(spot.index) {
                return Some((*place, Spot { index: spot.index + 1, ..spot }));
            }
            if leaf.after == NO_NODE {
                return None;
            }
            spot = Spot { leaf: leaf.after, index: 0 };
        }
    }

    /// The record before a spot, and its spot.
    pub(super) fn previous(&self, mut spot: Spot) -> Option<(At, Spot)> {
        loop {
            let leaf = self.leaves.get(spot.leaf);
            if let Some(index) = spot.index.checked_sub(1) {
                let place = *leaf.keys.places().get(index)?;
                return Some((place, Spot { index, ..spot }));
            }
            if leaf.before == NO_NODE {
                return None;
            }
            spot = Spot { leaf: leaf.before, index: self.leaves.get(leaf.before).keys.len() };
        }
    }
}
