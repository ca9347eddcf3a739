//! What it costs an owner that is filled to find what another source has more of: by marks of all keys, and by
//! the leaves of the source's tree with marks of those that differ. Records that are then brought are the same.

use std::fmt::Write as _;

use roundtable::message::{
    CopyContent, CopyLack, CopyPage, CopyStretch, CopyTold, CopyWhat, DiskAnswer, DiskRequest,
    UnitDisk, UnitDone,
};
use roundtable::repair::tree::{Place, Range};
use roundtable::types::{Epoch, NodeId};

use crate::report::cpu_ns;
use crate::store::{BATCH, Store, entry, unit};

/// Keys of the unit of which one differs.
const APART: [u64; 4] = [0, 100_000, 1_000, 100];

#[derive(Default)]
struct Copied {
    bytes: u64,
    questions: u64,
    marks: u64,
    lacking: u64,
}

/// A target and a source.
struct Two {
    target: Store,
    source: Store,
}

fn blocks(store: &Store) -> u64 {
    let stats = store.replica().stats();
    stats.cache_hits + stats.cache_misses
}

fn write(store: &Store, numbers: impl Iterator<Item = u64>, time: u64) {
    let all: Vec<u64> = numbers.collect();
    for some in all.chunks(BATCH) {
        store.merge(unit(0), some.iter().map(|number| entry(*number, time)).collect());
    }
}

impl Two {
    fn page(&self, what: CopyWhat, cost: &mut Copied) -> CopyPage {
        let asked = match &what {
            CopyWhat::Marks(stretch) => stretch.bytes(),
            CopyWhat::Leaves(from, _) => from.as_bytes().len(),
            _ => 0,
        };
        let to = (NodeId(1), Epoch(1));
        let disk = UnitDisk::Page { unit: unit(0), what, to };
        let DiskAnswer::Unit(UnitDone::Page(page)) =
            self.source.ask(DiskRequest::Unit(Box::new(disk)))
        else {
            panic!("no page")
        };
        cost.questions += 1;
        cost.bytes += (asked + page.bytes()) as u64;
        page
    }

    fn lack(&self, told: CopyTold) -> CopyLack {
        let disk = UnitDisk::Compare { unit: unit(0), told };
        match self.target.ask(DiskRequest::Unit(Box::new(disk))) {
            DiskAnswer::Unit(UnitDone::Wanted(lack)) => lack,
            other => panic!("{other:?}"),
        }
    }

    fn by_marks(&self, range: Range, cost: &mut Copied) {
        let mut stretch = CopyStretch { range, after: None };
        loop {
            let page = self.page(CopyWhat::Marks(stretch.clone()), cost);
            let CopyContent::Marks(marks) = page.content else { panic!("no marks") };
            cost.marks += marks.len() as u64;
            let CopyLack::Keys(keys) = self.lack(CopyTold::Marks(marks)) else { panic!("no keys") };
            cost.lacking += keys.len() as u64;
            stretch.after = page.next;
            if stretch.after.is_none() {
                return;
            }
        }
    }

    fn by_leaves(&self, cost: &mut Copied) {
        let mut from = Some(Place::first());
        while let Some(place) = from {
            let page = self.page(CopyWhat::Leaves(place, None), cost);
            let CopyContent::Leaves(told) = page.content else { panic!("no leaves") };
            let sums = CopyTold::Sums(told.sums().collect());
            let CopyLack::Ranges(ranges) = self.lack(sums) else { panic!("no ranges") };
            ranges.into_iter().for_each(|range| self.by_marks(range, cost));
            from = told.end;
        }
    }

    fn measured(&self, (keys, differ): (u64, u64), how: &str, text: &mut String) {
        let (mut cost, cpu) = (Copied::default(), cpu_ns());
        let before = [&self.source, &self.target].map(blocks);
        match how {
            "marks" => self.by_marks(Range::default(), &mut cost),
            _ => self.by_leaves(&mut cost),
        }
        let after = [&self.source, &self.target].map(blocks);
        assert_eq!(cost.lacking, differ, "all that differs is found");
        let cpu_ms = (cpu_ns() - cpu) as f64 / 1e6;
        let _ = writeln!(
            text,
            "{keys:>9} {differ:>8} {how:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {cpu_ms:>8.1}",
            cost.bytes,
            cost.questions,
            cost.marks,
            after[0] - before[0],
            after[1] - before[1],
        );
    }
}

/// Of a unit of so many keys.
pub(crate) fn run(keys: u64) -> String {
    let [target, source] = ["target", "source"].map(|name| {
        let store = Store::new(name);
        write(&store, 0..keys, 1);
        store.ask(DiskRequest::Flush);
        store.settle();
        assert_eq!(store.replica().check_trees().unwrap().equal, 1, "the tree counts what is here");
        store
    });
    let two = Two { target, source };
    let mut text = format!(
        "{:>9} {:>8} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8}\n",
        "keys", "differ", "by", "bytes", "questions", "marks", "source", "target", "CPU ms"
    );
    for (time, apart) in (2..).zip(APART) {
        let numbers = || (0..keys).filter(move |at| apart > 0 && at % apart.min(keys) == 0);
        write(&two.source, numbers(), time);
        two.source.ask(DiskRequest::Flush);
        two.source.settle();
        for how in ["marks", "leaves"] {
            two.measured((keys, numbers().count() as u64), how, &mut text);
        }
        write(&two.target, numbers(), time);
        two.target.ask(DiskRequest::Flush);
    }
    text + "source, target: blocks that each has looked at\n"
}
