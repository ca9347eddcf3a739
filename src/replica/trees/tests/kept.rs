//! Trees that were on file, after crashes at every moment.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use super::super::counted::Changed;
use super::super::keeper::{FILE_BYTES_MIN, Store as KeptStore};
use super::*;
use crate::replica::execute::Undone;
use crate::replica::keyspace::data_key;
use crate::replica::record as stored;
use crate::storage::vfs::Fault;
use crate::storage::{Batch, Durability, Seqno};

fn path() -> std::path::PathBuf {
    Path::new("data").join(file::NAME)
}

/// The store as a checkpoint sees it between two flushes.
struct Between<'a>(&'a Replica);

impl KeptStore for Between<'_> {
    fn visible(&self) -> Seqno {
        self.0.shared.engine.snapshot().seqno()
    }

    fn settle(&self) -> io::Result<()> {
        while self.0.step() {}
        Ok(())
    }
}

impl Store {
    fn keep(&self) {
        self.replica.shared.keeper.keep(&Between(&self.replica));
    }

    fn flush(&self) {
        self.run(DiskRequest::Flush).unwrap();
    }

    fn act(&self, act: &Act) {
        self.run(request(act).unwrap()).unwrap();
    }
}

/// Units of which the log has a part behind what is on file: what was changed, what has come and gone, a unit that is
/// new, one that is emptied and written again, a table that is dropped.
fn crashed() -> Store {
    let mut store = Store::new(1);
    store.settled();
    for number in 0..60 {
        store.write(unit(number % 6), number, 5);
        store.act(&Act::Set(number % 6, number, 3, 1));
    }
    store.act(&Act::Register(4, 1, 3, true));
    store.settled();
    store.flush();
    store.act(&Act::Write(0, 6, 7, false));
    store.act(&Act::Write(0, 12, 7, true));
    store.act(&Act::Set(1, 7, 8, 2));
    store.act(&Act::Register(4, 1, 5, true));
    store.act(&Act::Empty(2));
    store.act(&Act::Sweep(1));
    store.write(unit(2), 8, 6);
    store.write(unit(3), 9, 9);
    store.write(unit(7), 4, 5);
    store.crash();
    store
}

/// What a store that was opened after such a crash comes to: how many trees were built, and what is wrong.
fn recovered() -> (u64, Result<TreesChecked, String>) {
    let store = crashed();
    store.replica.settle_trees();
    (store.replica.tree_facts().built, store.replica.check_trees())
}

#[test]
fn after_a_crash_no_tree_is_built_and_a_tail_that_is_not_replayed_is_found() {
    let (built, checked) = recovered();
    let checked = checked.unwrap();
    assert_eq!((built, checked.building, checked.equal), (0, 0, 7));
    {
        let _armed = arm_mutant("tree-tail-not-replayed");
        assert!(recovered().1.is_err());
    }
    let _armed = arm_mutant("tree-leaf-unmarked");
    // Leaves that were never marked make a record that does not hold what it says: it is not believed.
    let (built, checked) = recovered();
    assert!(checked.is_ok() && built > 0, "{built}");
}

#[test]
fn what_is_told_before_a_tree_has_caught_up_is_counted_on_top() {
    let store = crashed();
    let facts = store.replica.tree_facts();
    assert!(facts.taken >= 6 && facts.building > 0);
    // Over what the tail has changed, and beside it.
    store.begin(request(&Act::Write(0, 6, 9, false)).unwrap());
    store.begin(request(&Act::Write(7, 4, 9, true)).unwrap());
    store.begin(request(&Act::Write(1, 20, 9, false)).unwrap());
    store.begin(request(&Act::Empty(5)).unwrap());
    store.begin(request(&Act::Write(5, 3, 9, false)).unwrap());
    while store.replica.step() {}
    store.settled();
    assert!(store.replica.tree_facts().replayed > 0);
}

#[test]
fn two_crashes_in_a_row_are_as_one() {
    let mut store = crashed();
    store.write(unit(0), 2, 9);
    store.crash();
    store.write(unit(1), 2, 9);
    store.crash();
    assert_eq!(store.settled().equal, 7);
    assert_eq!(store.replica.tree_facts().built, 0);
    // And a flush right after a crash catches up first.
    store.crash();
    store.flush();
    store.crash();
    store.settled();
    assert_eq!(store.replica.tree_facts().built, 0);
}

/// Runs a script with flushes of every kind, until the disk is away.
fn script(store: &Store) {
    let run = |act: &Act| {
        if !store.vfs.is_down() {
            store.begin(request(act).unwrap());
            while !store.vfs.is_down() && store.replica.step() {}
        }
    };
    for number in 0..24 {
        run(&Act::Write(number % 3, number, 5, false));
    }
    run(&Act::Flush);
    run(&Act::Write(0, 4, 6, true));
    run(&Act::Set(1, 8, 6, 1));
    run(&Act::Flush);
    run(&Act::Empty(2));
    run(&Act::Write(2, 8, 7, false));
    run(&Act::Flush);
    run(&Act::Write(0, 9, 7, false));
}

#[test]
fn a_crash_at_any_step_of_the_disk_leaves_trees_that_are_right() {
    let (mut crashes, mut taken) = (0, 0);
    for call in 1.. {
        let mut store = Store::new(call);
        store.settled();
        let before = store.vfs.counts().calls;
        store.vfs.crash_at(before + call);
        script(&store);
        if !store.vfs.is_down() {
            break;
        }
        crashes += 1;
        store.crash();
        store.settled();
        taken += store.replica.tree_facts().taken;
        // What is on file goes on from there.
        script(&store);
        store.crash();
        store.settled();
        assert_eq!(store.replica.tree_facts().built, 0, "call {call}");
    }
    assert!(crashes > 50 && taken > 50, "{crashes} crashes, {taken} trees");
}

#[test]
fn a_file_that_cannot_be_written_costs_trees_and_nothing_else() {
    for call in 1.. {
        let mut store = Store::new(call);
        store.settled();
        for number in 0..24 {
            store.write(unit(number % 3), number, 5);
        }
        let before = store.vfs.counts().calls;
        store.vfs.fail_at(before + call, Fault::Full);
        store.begin(DiskRequest::Flush);
        while store.replica.step() {}
        if store.vfs.counts().calls < before + call {
            assert!(call > 8, "{call} calls");
            return;
        }
        store.replica.interval_elapsed();
        store.crash();
        store.settled();
        store.write(unit(0), 30, 5);
        store.flush();
        store.crash();
        store.settled();
        assert_eq!(store.replica.tree_facts().built, 0);
    }
}

/// A batch that a checkpoint has counted is taken back, and another one follows.
fn kept_though_undone() -> Result<TreesChecked, String> {
    let mut store = Store::new(1);
    store.settled();
    // The log has no room beforehand yet.
    let (table, key) = (SETS, key(SETS, 3));
    let large = set(5, 1);
    store.vfs.set_capacity(Some(store.vfs.bytes() + 600));
    let task = CausalTask::Merge(large);
    let disk = CausalDisk { unit: unit(0), table, key, task };
    store.begin(DiskRequest::Causal(Box::new(disk)));
    store.keep();
    store.vfs.set_capacity(None);
    store.replica.interval_elapsed();
    store.write(unit(0), 2, 5);
    store.crash();
    store.replica.settle_trees();
    store.replica.check_trees()
}

#[test]
fn what_was_taken_back_is_on_no_file() {
    assert_eq!(kept_though_undone().unwrap().entries, 1);
    let _armed = arm_mutant("tree-kept-though-undone");
    assert!(kept_though_undone().is_err());
}

/// A checkpoint comes between a batch and the tree that is told of it.
fn taken_while_told(is_wrong: bool) -> Result<TreesChecked, String> {
    let mut store = Store::new(1);
    store.write(unit(0), 1, 5);
    store.settled();
    let shared = &store.replica.shared;
    let bytes = data_key(unit(0), VERSIONS, &key(VERSIONS, 2));
    let guard = shared.stripe(&bytes).lock();
    let seen = Undone::now(shared).seen();
    let mut batch = Batch::new();
    batch.put(&bytes, &stored::encode(&record(5, false)));
    shared.engine.submit(batch, Durability::Default, Box::new(|_| ())).unwrap();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let kept = &store;
        scope.spawn(move || {
            // Armed on this thread alone.
            let _armed = is_wrong.then(|| arm_mutant("tree-taken-while-told"));
            kept.keep();
            sender.send(()).unwrap();
        });
        let early = receiver.recv_timeout(Duration::from_millis(200)).is_ok();
        let (place, print) = print_of(2, 5);
        let changed = Changed { place, before: None, after: Some(print) };
        shared.trees.tell(unit(0), &[changed], seen);
        drop(guard);
        if !early {
            receiver.recv().unwrap();
        }
    });
    store.crash();
    store.replica.settle_trees();
    store.replica.check_trees()
}

#[test]
fn a_tree_is_taken_when_all_batches_have_been_told() {
    assert_eq!(taken_while_told(false).unwrap().entries, 2);
    assert!(taken_while_told(true).is_err());
}

fn content(store: &Store) -> Vec<u8> {
    store.vfs.content(&path()).unwrap()
}

/// A file that speaks of batches the store has not, which has others of their numbers later.
fn with_trees_of_another() -> Result<TreesChecked, String> {
    let store = Store::new(1);
    store.write(unit(0), 1, 5);
    store.settled();
    let mut other = Store { vfs: store.vfs.fork(2), replica: store.replica.clone() };
    store.write(unit(0), 2, 5);
    store.replica.close().unwrap();
    let bytes = content(&store);
    other.vfs.crash();
    other.vfs.restart();
    other.vfs.plant(&path(), bytes);
    other.replica = Store::open(&other.vfs);
    other.replica.settle_trees();
    other.replica.check_trees()
}

#[test]
fn trees_of_another_moment_are_not_taken() {
    assert_eq!(with_trees_of_another().unwrap().entries, 1);
    // Nor those of an earlier flush.
    let mut store = Store::new(1);
    store.write(unit(0), 1, 5);
    store.settled();
    store.flush();
    let old = content(&store);
    store.write(unit(0), 1, 6);
    store.flush();
    store.vfs.crash();
    store.vfs.restart();
    store.vfs.plant(&path(), old);
    store.replica = Store::open(&store.vfs);
    assert_eq!(store.replica.tree_facts().taken, 0);
    store.settled();
    let _armed = arm_mutant("tree-of-another-moment");
    assert!(with_trees_of_another().is_err());
}

#[test]
fn the_file_stays_within_twice_what_all_trees_take() {
    let mut store = Store::new(1);
    store.settled();
    let mut largest = 0;
    for round in 0..200_u64 {
        for number in 0..4 {
            store.write(unit(number), u16::try_from(round % 40).unwrap(), round + 1);
        }
        store.settled();
        store.keep();
        let facts = store.replica.tree_facts();
        assert_eq!(facts.file_failed, 0);
        assert_eq!(facts.file_bytes, content(&store).len() as u64);
        largest = facts.file_bytes.max(largest);
    }
    let written = store.replica.tree_facts().file_written;
    // The last group may go beyond.
    assert!(largest > FILE_BYTES_MIN && largest < FILE_BYTES_MIN + 4_000, "{largest}");
    assert!(written > 3 * largest, "{written}");
    store.crash();
    store.settled();
    assert_eq!(store.replica.tree_facts().built, 0);
}

#[test]
fn damage_anywhere_in_the_file_costs_trees_and_nothing_else() {
    for byte in 0..40 {
        let mut store = crashed();
        let length = content(&store).len();
        store.vfs.crash();
        store.vfs.restart();
        assert!(store.vfs.flip_bit(&path(), length * byte / 40, 3));
        store.replica = Store::open(&store.vfs);
        store.settled();
        store.write(unit(1), 30, 5);
        store.flush();
        store.crash();
        assert_eq!(store.settled().building, 0);
        assert_eq!(store.replica.tree_facts().built, 0, "what was damaged is written anew");
    }
}
