//! What was mirrored becomes what a source has, over real stores.

use super::*;
use crate::message::{
    CopyContent, CopyLack, CopyLeaves, CopyPage, CopyPlace, CopyStretch, CopyTold, CopyWhat,
    UnitDone,
};
use crate::repair::tree::{Place, Range};

/// Behind the one with promises: a source may have nothing of it.
const LAST: TableId = TableId(4);
const TO: (NodeId, Epoch) = (NodeId(9), Epoch(7));

fn done(replica: &Replica, disk: UnitDisk) -> UnitDone {
    match run(replica, DiskRequest::Unit(Box::new(disk))) {
        DiskAnswer::Unit(done) => done,
        other => panic!("{other:?}"),
    }
}

fn page(replica: &Replica, what: CopyWhat) -> CopyPage {
    match done(replica, UnitDisk::Page { unit: UNIT, what, to: TO }) {
        UnitDone::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn lack(replica: &Replica, told: CopyTold) -> CopyLack {
    match done(replica, UnitDisk::Compare { unit: UNIT, told }) {
        UnitDone::Wanted(lack) => lack,
        other => panic!("{other:?}"),
    }
}

/// All there is of the unit.
fn all(replica: &Replica) -> Vec<CopyEntry> {
    match page(replica, CopyWhat::All(None)) {
        CopyPage { content: CopyContent::Records(entries), next: None } => entries,
        other => panic!("{other:?}"),
    }
}

/// A few records of each kind, by chance.
fn some(seed: u64, tables: &[TableId]) -> Replica {
    let mut rng = fastrand::Rng::with_seed(seed);
    let replica = fresh();
    for table in tables {
        for _ in 0..rng.u64(0..40) {
            let key = key(&format!("k{:02}", rng.u8(..30)));
            // A stamp is of one write.
            let time = rng.u64(1..40);
            let expiry = time.is_multiple_of(4).then_some(2 * time);
            let record = record(time, (!time.is_multiple_of(3)).then_some("v"), expiry);
            run(&replica, DiskRequest::Write { unit: UNIT, table: *table, key, record });
        }
    }
    for _ in 0..rng.u64(0..6) {
        let (name, number) = (format!("r{}", rng.u8(..4)), rng.u64(1..9));
        let accepts = RegisterTask::Accept(at(number), state((number % 2 > 0).then_some("v")));
        let prepares = RegisterTask::Prepare(at(number));
        register(&replica, &name, if rng.bool() { accepts } else { prepares });
    }
    for time in 1..rng.u64(1..5) {
        let change = sibling(rng.u32(1..4), time, CausalContext::default(), None);
        causal(&replica, CausalTask::Change(change));
    }
    replica
}

/// The comparison of `handoff::transfer`, by hand: leaves, then marks where they differ, and in tables of
/// promises throughout.
fn make_exact(source: &Replica, target: &Replica) {
    // Its trees are there.
    sound(source);
    let (mut leaves, mut from) = (CopyLeaves::default(), Place::first());
    loop {
        let told = match page(source, CopyWhat::Leaves(from.clone(), None)).content {
            CopyContent::Leaves(told) => told,
            other => panic!("{other:?}"),
        };
        leaves.leaves.extend(told.leaves);
        match told.end {
            None => break,
            Some(end) => from = end,
        }
    }
    let first = leaves.leaves.first().map(|(first, _)| first.clone());
    let sums = leaves.sums().collect();
    let CopyLack::Ranges(mut ranges) = lack(target, CopyTold::ExactSums(sums)) else { panic!() };
    ranges.push(Range { from: Place::edge(LINEAR), to: Some(Place::edge(LAST)) });
    ranges.push(Range { from: Place::first(), to: first });
    for range in ranges {
        let mut after = None;
        loop {
            let stretch = CopyStretch { range: range.clone(), after };
            let CopyPage { content, next } = page(source, CopyWhat::Marks(stretch.clone()));
            let CopyContent::Marks(marks) = content else { panic!() };
            let told = CopyTold::Exactly(stretch, next.clone(), marks);
            let CopyLack::Keys(keys) = lack(target, told) else { panic!() };
            bring(source, target, keys);
            match next {
                None => break,
                next => after = next,
            }
        }
    }
}

fn bring(source: &Replica, target: &Replica, keys: Vec<CopyPlace>) {
    if keys.is_empty() {
        return;
    }
    let CopyContent::Records(entries) = page(source, CopyWhat::Keys(keys)).content else {
        panic!()
    };
    on_unit(target, UnitDisk::Fill { unit: UNIT, entries, source: SourceFloor::default() });
}

#[test]
fn a_range_becomes_what_the_source_has_whatever_was_there() {
    for seed in 0..60 {
        let tables = if seed % 3 == 0 { &[PLAIN][..] } else { &[PLAIN, LAST] };
        let (source, target) = (some(seed, tables), some(seed + 1000, &[PLAIN, LAST]));
        make_exact(&source, &target);
        sound(&target);
        assert_eq!(all(&target), all(&source), "seed {seed}");
        // So is what a floor will purge.
        assert_eq!(count(&target), count(&source), "seed {seed}");
        make_exact(&source, &target);
        assert_eq!(all(&target), all(&source), "seed {seed}, again");
    }
}

#[test]
fn of_a_unit_of_which_the_source_has_nothing_nothing_stays() {
    let (source, target) = (fresh(), some(7, &[PLAIN, LAST]));
    make_exact(&source, &target);
    assert_eq!(all(&target), []);
}

#[test]
fn a_unit_that_is_entered_warm_keeps_its_range_and_nothing_else() {
    let replica = fresh();
    write(&replica, "mirrored", record(3, Some("v"), None));
    change(&replica, FloorChange::Raise(at(6)));
    let record_of = Some(filling(Overlay::Mirrored, &[]));
    on_unit(&replica, UnitDisk::Empty { unit: UNIT, record: record_of, keeps: true });
    assert_eq!(all(&replica).len(), 1);
    assert_eq!(
        change(&replica, FloorChange::Raise(at(1))).record.floor,
        at(1),
        "no floor is known"
    );
    // What is written now stands beside.
    write(&replica, "new", record(9, Some("v"), None));
    assert_eq!(all(&replica).len(), 1);
    sound(&replica);
}
