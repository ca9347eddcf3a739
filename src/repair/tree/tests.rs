//! The tree against a map of entries.

use proptest::prelude::*;

use super::*;
use crate::testing::arm_mutant;
use crate::types::{Key, NodeId, Record, Stamp, Value, WallTime};

const SEED: u64 = 7;

/// A place of table 1 to 3. So that boundaries are frequent, keys are chosen by their hashes.
fn place(number: u16) -> Place {
    let table = TableId(1 + u32::from(number % 3));
    let salt = (0_u32..).find(|salt| {
        let key = Key::new(format!("{number:05}-{salt}")).unwrap();
        let zeros = Place::new(table, &key).hash(SEED).trailing_zeros();
        // Every eighth is a boundary, every 32nd a high one.
        match number % 32 {
            0 => zeros >= 13,
            8 | 16 | 24 => (9..13).contains(&zeros),
            _ => zeros < 9,
        }
    });
    Place::new(table, &Key::new(format!("{number:05}-{}", salt.unwrap())).unwrap())
}

fn version(place: &Place, time: u64) -> Entry {
    let stamp = Stamp { time: WallTime(time), counter: 0, node: NodeId(1) };
    let record = Record { stamp, expiry: None, value: Some(Value::new("v").unwrap()) };
    Entry::version(place.clone(), &record)
}

/// A unit: what is stored, and the tree of it.
struct Unit {
    store: BTreeMap<Place, Print>,
    tree: Tree,
}

impl Unit {
    fn new(tree: Tree) -> Unit {
        Unit { store: BTreeMap::new(), tree }
    }

    fn write(&mut self, place: &Place, after: Option<Print>) {
        let before = match after {
            Some(print) => self.store.insert(place.clone(), print),
            None => self.store.remove(place),
        };
        self.tree.change(place, before, after);
    }

    fn read(&self, wanted: &Wanted, page: usize) -> (Vec<(Place, Print)>, bool) {
        let is_in = |place: &Place| match wanted {
            Wanted::All(range) => range.holds(place),
            Wanted::Behind(behind) => place > behind,
        };
        let page = if matches!(wanted, Wanted::All(_)) { usize::MAX } else { page };
        let all = self.store.iter().filter(|(place, _)| is_in(place));
        let read: Vec<_> = all.map(|(place, print)| (place.clone(), *print)).collect();
        let is_last = read.len() <= page;
        (read.into_iter().take(page).collect(), is_last)
    }

    fn settle(&mut self) {
        self.tree.abandon();
        while let Some(wanted) = self.tree.begin() {
            let (read, is_last) = self.read(&wanted, 5);
            assert!(self.tree.finish(read, is_last));
        }
    }
}

/// The tree that a scan makes of a store.
fn scanned(store: &BTreeMap<Place, Print>) -> Tree {
    let mut unit = Unit { store: store.clone(), tree: Tree::unbuilt(SEED) };
    unit.settle();
    unit.tree
}

/// What a tree must be, told in another way: entries are dealt to boundaries one by one.
fn told(store: &BTreeMap<Place, Print>) -> Vec<(Place, u32, Print)> {
    let mut leaves: Vec<(Place, u32, Print)> = Vec::new();
    for (place, print) in store {
        let edge = Place::edge(place.table().unwrap());
        if leaves.last().is_none_or(|last| last.0 < edge) {
            leaves.push((edge, 0, Print::default()));
        }
        if place.level(SEED).is_some() {
            leaves.push((place.clone(), 0, Print::default()));
        }
        let last = leaves.last_mut().unwrap();
        last.1 += 1;
        last.2 = last.2.plus(*print);
    }
    leaves
}

fn leaves(tree: &Tree) -> Vec<(Place, u32, Print)> {
    tree.leaves.iter().map(|(place, leaf)| (place.clone(), leaf.count, leaf.print)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u16, Option<u64>),
    /// Something is begun to be read, now; or what was is handed in.
    Begin,
    Finish,
    Drop(u32),
    /// What has changed is put on file.
    File,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..96_u16, prop::option::weighted(0.6, 0..9_u64));
    let step = prop_oneof![
        12 => write.prop_map(|(number, time)| Step::Write(number, time)),
        2 => Just(Step::Begin),
        2 => Just(Step::Finish),
        1 => (1..4_u32).prop_map(Step::Drop),
        2 => Just(Step::File),
    ];
    prop::collection::vec(step, 0..160)
}

/// Puts on file what has changed, and compares what is there then with the tree.
fn file(tree: &mut Tree, filed: &mut Option<Tree>) -> Result<(), String> {
    let Some((bytes, _)) = tree.record(false) else { return Ok(()) };
    let read = Tree::filed(filed.take(), &bytes, SEED).map_err(|error| error.to_string())?;
    let is_same = read == *tree && read.uncut == tree.uncut;
    *filed = Some(read);
    if is_same { Ok(()) } else { Err("another tree is on file".to_owned()) }
}

proptest! {
    #[test]
    fn the_tree_is_a_function_of_what_is_stored_whatever_the_history(
        steps in steps(), is_built: bool, first in prop::collection::vec(0..96_u16, 0..40),
    ) {
        let tree = if is_built { Tree::empty(SEED) } else { Tree::unbuilt(SEED) };
        let mut unit = Unit::new(tree);
        for number in first {
            let place = place(number);
            let print = version(&place, 1).print;
            unit.write(&place, Some(print));
        }
        let (mut pending, mut filed) = (None, None);
        for step in steps {
            match step {
                Step::Write(number, time) => {
                    let place = place(number);
                    let print = time.map(|time| version(&place, time).print);
                    unit.write(&place, print);
                }
                Step::Begin if pending.is_none() => {
                    pending = unit.tree.begin().map(|wanted| unit.read(&wanted, 5));
                }
                Step::Finish => {
                    if let Some((read, is_last)) = pending.take() {
                        unit.tree.finish(read, is_last);
                    }
                }
                Step::Drop(table) => {
                    unit.store.retain(|place, _| place.table() != Some(TableId(table)));
                    unit.tree.drop_table(TableId(table));
                }
                Step::Begin => {}
                Step::File => file(&mut unit.tree, &mut filed).map_err(TestCaseError::fail)?,
            }
            prop_assert!(!unit.tree.is_doubtful());
        }
        unit.settle();
        prop_assert!(unit.tree.is_built() && !unit.tree.is_doubtful());
        prop_assert_eq!(leaves(&unit.tree), told(&unit.store));
        prop_assert!(unit.tree == scanned(&unit.store));
        let all = unit.tree.sum(&Range::default());
        prop_assert_eq!(all, unit.tree.root());
        prop_assert_eq!(all.count, unit.store.len() as u64);
        file(&mut unit.tree, &mut filed).map_err(TestCaseError::fail)?;
        prop_assert!(!unit.tree.has_changed());
        let (bytes, leaves) = unit.tree.record(true).unwrap();
        prop_assert!(leaves == unit.tree.leaves() && Tree::filed(None, &bytes, SEED).as_ref() == Ok(&unit.tree));
        let places: usize = unit.tree.leaves.keys().map(|place| place.as_bytes().len()).sum();
        prop_assert_eq!(unit.tree.place_bytes, places);
    }

    #[test]
    fn nodes_divide_a_range_and_lose_nothing(numbers in prop::collection::btree_set(0..2000_u16, 0..400)) {
        let mut unit = Unit::new(Tree::empty(SEED));
        for number in numbers {
            let place = place(number);
            let print = version(&place, 1).print;
            unit.write(&place, Some(print));
        }
        unit.settle();
        let mut ranges = vec![Range::default()];
        while let Some(range) = ranges.pop() {
            let nodes = unit.tree.nodes(&range);
            prop_assert!(nodes.len() <= NODES_MAX && nodes[0].0 == range.from);
            let sum = nodes.iter().fold(Sum::default(), |sum, (_, node)| sum.plus(*node));
            prop_assert_eq!(sum, unit.tree.sum(&range));
            let ends = nodes.iter().skip(1).map(|(place, _)| Some(place.clone()));
            let parts = nodes.iter().zip(ends.chain([range.to.clone()]));
            for ((from, sum), to) in parts {
                let part = Range { from: from.clone(), to };
                prop_assert!(range.holds(from));
                prop_assert_eq!(*sum, unit.tree.sum(&part));
                if nodes.len() > 1 {
                    ranges.push(part);
                }
            }
        }
    }

    #[test]
    fn foreign_bytes_are_refused_and_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, bit in 0..8_u32,
    ) {
        prop_assert!(Tree::filed(None, &bytes, SEED).is_err());
        let _armed = arm_mutant("tree-checksum-unchecked");
        let _ = Tree::filed(None, &bytes, SEED);
        let mut unit = Unit::new(Tree::empty(SEED));
        for number in 0..64 {
            let place = place(number);
            let print = version(&place, 1).print;
            unit.write(&place, Some(print));
        }
        unit.settle();
        bytes = unit.tree.record(true).unwrap().0;
        let before = unit.tree.clone();
        unit.write(&place(64), Some(version(&place(64), 1).print));
        let mut changes = unit.tree.record(false).unwrap().0;
        let place = at.index(changes.len());
        changes[place] ^= 1_u8 << bit;
        if let Ok(tree) = Tree::filed(Some(before), &changes, SEED) {
            prop_assert_eq!(tree.sum(&Range::default()), tree.root());
        }
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(mut tree) = Tree::filed(None, &bytes, SEED) {
            // What is no tree is none, whatever the checksum says.
            prop_assert_eq!(tree.sum(&Range::default()), tree.root());
            prop_assert_eq!(tree.record(true).unwrap().0.len(), bytes.len());
        }
        bytes.truncate(at);
        prop_assert!(Tree::filed(None, &bytes, SEED).is_err());
    }
}

/// A tree is put on file, one leaf of many changes, and so does what is on file.
fn filed_after_one_change() -> (usize, Result<bool, CheckpointError>) {
    let mut unit = Unit::new(Tree::empty(SEED));
    for number in 0..96 {
        unit.write(&place(number), Some(version(&place(number), 1).print));
    }
    unit.settle();
    let (whole, all) = unit.tree.record(false).unwrap();
    assert_eq!(all, unit.tree.leaves());
    let filed = Tree::filed(None, &whole, SEED).unwrap();
    unit.write(&place(5), Some(version(&place(5), 2).print));
    assert!(unit.tree.has_changed());
    let (changes, leaves) = unit.tree.record(false).unwrap();
    assert!(changes.len() < 100 && changes.len() * 3 < whole.len());
    // It says nothing by itself.
    assert!(Tree::filed(None, &changes, SEED).is_err());
    (leaves, Tree::filed(Some(filed), &changes, SEED).map(|filed| filed == unit.tree))
}

#[test]
fn a_write_puts_one_leaf_on_file_and_a_leaf_that_is_not_marked_is_missed_by_the_sum() {
    assert_eq!(filed_after_one_change(), (1, Ok(true)));
    let _armed = arm_mutant("tree-leaf-unmarked");
    let (leaves, filed) = filed_after_one_change();
    assert_eq!(leaves, 0);
    assert!(matches!(filed, Err(CheckpointError::Nonsense(_))));
}

#[test]
fn a_tree_that_is_not_known_is_not_put_on_file() {
    let mut tree = Tree::unbuilt(SEED);
    assert!(tree.record(false).is_none());
    assert!(tree.begin().is_some() && tree.finish(Vec::new(), true));
    assert!(tree.record(false).is_some() && !tree.has_changed());
    tree.doubt();
    assert!(tree.record(true).is_none());
}

#[test]
fn a_fingerprint_tells_apart_all_that_makes_a_version() {
    let (a, b) = (place(1), place(2));
    let stamp = |time, node| Stamp { time: WallTime(time), counter: 0, node };
    let record = |stamp, expiry, value: Option<&str>| Record {
        stamp,
        expiry,
        value: value.map(|value| Value::new(value.to_owned()).unwrap()),
    };
    let of = |place: &Place, record: &Record| Entry::version(place.clone(), record).print;
    let plain = record(stamp(1, NodeId(1)), None, Some("v"));
    let others = [
        of(&b, &plain),
        of(&a, &record(stamp(2, NodeId(1)), None, Some("v"))),
        of(&a, &record(stamp(1, NodeId(1)), None, None)),
        of(&a, &record(stamp(1, NodeId(1)), Some(WallTime(0)), Some("v"))),
        of(&a, &record(stamp(1, NodeId(1)), Some(WallTime(9)), Some("v"))),
    ];
    let all: Vec<[u8; 16]> = others.iter().map(|print| print.to_bytes()).collect();
    assert!(all.iter().all(|print| *print != of(&a, &plain).to_bytes()));
    let set: BTreeSet<_> = all.iter().collect();
    assert_eq!(set.len(), others.len());
    // The value is of the stamp, unless a client gave it.
    assert_eq!(of(&a, &record(stamp(1, NodeId(1)), None, Some("w"))), of(&a, &plain));
    let client = |value| of(&a, &record(stamp(1, Stamp::CLIENT), None, Some(value)));
    assert_ne!(client("v"), client("w"));
    let _armed = arm_mutant("fingerprint-without-expiry");
    let expires = |time| of(&a, &record(stamp(1, NodeId(1)), Some(WallTime(time)), Some("v")));
    assert_eq!(expires(1), expires(2), "the planted bug is one");
}

#[test]
fn a_leaf_that_is_not_updated_is_found_by_a_scan() {
    let _armed = arm_mutant("leaf-not-updated");
    let mut unit = Unit::new(Tree::empty(SEED));
    let print = version(&place(1), 1).print;
    unit.write(&place(1), Some(print));
    drop(_armed);
    assert!(unit.tree != scanned(&unit.store));
}

#[test]
fn what_was_never_counted_puts_the_tree_in_doubt() {
    let mut tree = Tree::empty(SEED);
    tree.change(&place(1), Some(version(&place(1), 1).print), None);
    assert!(tree.is_doubtful() && tree.record(true).is_none());
}

#[test]
fn the_bytes_of_a_checkpoint_stay_what_they_are() {
    let mut tree = Tree::empty(SEED);
    for key in ["a", "b"] {
        let place = Place::new(TableId(1), &Key::new(key).unwrap());
        let print = version(&place, 1).print;
        tree.change(&place, None, Some(print));
    }
    let record = |tree: &mut Tree| -> String {
        tree.record(false).unwrap().0.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let parts = [
        // Version, a whole tree, seed, nothing gone, one leaf.
        "020100000000000000070000000000000001",
        // Nothing shared, four bytes: the edge of table 1. Two entries, and their sum.
        "000000040000000100000002d694203e1a445a87e4d7031947bc8319",
        // Nothing to cut; what it counts in all; the checksum.
        "000000000000000000000002d694203e1a445a87e4d7031947bc8319",
        "8ef13e7b30aa48ef",
    ];
    let whole = record(&mut tree);
    assert_eq!(whole, parts.concat());
    let place = Place::new(TableId(1), &Key::new("a").unwrap());
    tree.change(&place, Some(version(&place, 1).print), None);
    let parts = [
        // Version, changes, seed, nothing gone, one leaf.
        "020000000000000000070000000000000001",
        // The same with one entry.
        "000000040000000100000001",
    ];
    let changes = record(&mut tree);
    assert!(changes.starts_with(&parts.concat()) && changes.len() == whole.len(), "{changes}");
}

#[test]
fn memory_is_about_what_the_page_says() {
    let mut tree = Tree::unbuilt(SEED);
    let mut places: Vec<Place> = (0..100_000)
        .map(|n| Place::new(TableId(1), &Key::new(format!("user:{n:011}")).unwrap()))
        .collect();
    places.sort();
    assert!(matches!(tree.begin(), Some(Wanted::Behind(_))));
    let read = places.into_iter().map(|place| {
        let print = version(&place, 1).print;
        (place, print)
    });
    assert!(tree.finish(read.collect(), true));
    assert!((150..250).contains(&tree.leaves()), "{} leaves", tree.leaves());
    let each = tree.memory_bytes() / tree.leaves();
    println!("{} leaves of 100,000 entries, {each} B each with keys of 16 B", tree.leaves());
    assert!(each <= 40 * 4 / 3 + 20 + 2, "{each}");
}
