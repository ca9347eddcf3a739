//! What differs from another source is found and brought, however little is told of it.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::super::compare::{Comparison, by_marks};
use super::*;
use crate::message::{CopyLeaves, CopyTold};
use crate::repair::tree::{Print, Range, Sum};
use crate::types::{Sloppy, Table, TableKind, TableName};

/// A table of the class.
fn table(id: u32, kind: TableKind) -> Table {
    Table {
        id: TableId(id),
        name: TableName::try_from(format!("t{id}")).unwrap(),
        kind,
        class: ClassId(0),
        n: 3,
        r: 2,
        w: 2,
        r_min: 2,
        w_min: 2,
        sloppy: Sloppy::Never,
        ttl: None,
        value_bytes_max: 1,
    }
}

fn sum(number: u8) -> Sum {
    Sum { count: 1, print: Print::from_bytes([number; 16]) }
}

/// Leaves that begin with the table and at these keys.
fn leaves(keys: &[&str], end: Option<&str>) -> CopyContent {
    let edge = (Place::edge(TableId(1)), sum(0));
    let of_keys = (1..).zip(keys).map(|(number, key)| (place(key).place(), sum(number)));
    let end = end.map(|end| place(end).place());
    CopyContent::Leaves(CopyLeaves { leaves: [edge].into_iter().chain(of_keys).collect(), end })
}

fn range(from: &str, to: &str) -> Range {
    Range { from: place(from).place(), to: Some(place(to).place()) }
}

/// Behind all tables that the state knows.
fn unknown() -> Range {
    Range { from: Place::edge(TableId(2)), to: None }
}

/// One source has been pulled, and the third is away.
fn second() -> Stage {
    let mut stage = Stage::new(state(3, 2), 0);
    stage.away.insert(NodeId(3));
    let pulled = vec![NodeId(1)];
    let progress = FillProgress { pulled, ..FillProgress::default() };
    stage.transfers.begin(UNIT, ENTRY, progress);
    stage.step(Transfers::on_time);
    stage
}

impl Stage {
    /// What is to be compared; the disk finds this.
    fn compared(&mut self, lack: CopyLack) -> CopyTold {
        let Some(TransferAction::Compare(_, round, told)) = self.actions.pop() else {
            panic!("{:?}", self.actions)
        };
        self.step(|transfers, around| transfers.on_compared((UNIT, round), Some(lack), around));
        told
    }

    /// What is asked next is answered with marks of nothing.
    fn no_marks(&mut self) -> CopyStretch {
        let ask = self.question();
        self.answer(&ask, marks(&[]), None);
        self.compared(CopyLack::Keys(Vec::new()));
        let CopyWhat::Marks(stretch) = ask.1.what else { panic!("{:?}", ask.1.what) };
        stretch
    }
}

#[test]
fn of_replicas_that_hold_the_same_no_key_is_told() {
    let mut stage = second();
    let ask = stage.question();
    assert_eq!((ask.0, &ask.1.what), (NodeId(2), &leaves_of_all()));
    stage.answer(&ask, leaves(&["a", "b"], Some("c")), None);
    let CopyTold::Sums(sums) = stage.compared(CopyLack::Ranges(Vec::new())) else { panic!() };
    let edge = Range { from: Place::edge(TableId(1)), to: Some(place("a").place()) };
    assert_eq!(sums, [(edge, sum(0)), (range("a", "b"), sum(1)), (range("b", "c"), sum(2))]);
    // The next page begins where this one has ended.
    let ask = stage.question();
    assert_eq!(ask.1.what, CopyWhat::Leaves(place("c").place(), Some(place("b"))));
    stage.answer(&ask, leaves(&[], None), None);
    stage.compared(CopyLack::Ranges(Vec::new()));
    assert_eq!(stage.no_marks().range, unknown(), "tables that the state has yet to hear of");
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn where_leaves_differ_marks_are_asked_for_and_nowhere_else() {
    let mut stage = second();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a", "c"], None), None);
    stage.compared(CopyLack::Ranges(vec![range("a", "c")]));
    let ask = stage.question();
    let part = |after| CopyWhat::Marks(CopyStretch { range: range("a", "c"), after });
    assert_eq!(ask.1.what, part(None));
    stage.answer(&ask, marks(&["a"]), Some("a"));
    stage.compared(CopyLack::Keys(Vec::new()));
    let ask = stage.question();
    assert_eq!(ask.1.what, part(Some(place("a"))));
    stage.answer(&ask, marks(&["b"]), None);
    stage.compared(CopyLack::Keys(vec![place("b")]));
    let ask = stage.question();
    assert_eq!(ask.1.what, CopyWhat::Keys(vec![place("b")]));
    stage.answer(&ask, records(&["b"]), None);
    assert_eq!(stage.merge(), ["b"]);
    assert_eq!(stage.no_marks().range, unknown());
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn tables_that_keep_promises_are_compared_by_marks_throughout() {
    let case = || {
        let mut stage = second();
        stage.state.tables.push(table(1, TableKind::Linearizable));
        stage.step(|transfers, around| {
            transfers.forget(UNIT);
            let pulled = vec![NodeId(1)];
            let progress = FillProgress { pulled, ..FillProgress::default() };
            transfers.begin(UNIT, ENTRY, progress);
            transfers.on_time(around);
        });
        stage.actions.drain(..1);
        let ask = stage.question();
        stage.answer(&ask, leaves(&["a", "c"], None), None);
        let CopyTold::Sums(sums) = stage.compared(CopyLack::Ranges(Vec::new())) else { panic!() };
        (sums.len(), stage.no_marks().range.from)
    };
    assert_eq!(case(), (0, Place::edge(TableId(1))));
    let _armed = arm_mutant("registers-by-leaves");
    assert_eq!(case(), (3, Place::edge(TableId(2))));
}

/// The source is lost in a range that differs, and goes on later. Returns from where on.
fn resumed() -> CopyWhat {
    let mut stage = second();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a", "b", "c"], Some("d")), None);
    stage.compared(CopyLack::Ranges(vec![range("a", "b")]));
    let ask = stage.question();
    assert!(matches!(ask.1.what, CopyWhat::Marks(_)));
    stage.refuse(&ask, CopyRefusal::Fenced);
    stage.pass(1000);
    stage.question().1.what
}

#[test]
fn what_differed_and_was_not_brought_is_found_again_after_an_interruption() {
    assert_eq!(resumed(), leaves_of_all());
    let _armed = arm_mutant("leaves-through-early");
    assert_eq!(resumed(), CopyWhat::Leaves(place("c").place(), Some(place("c"))));
}

#[test]
fn a_comparison_goes_on_behind_the_leaves_that_were_through() {
    let mut stage = second();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a", "c"], Some("d")), None);
    stage.compared(CopyLack::Ranges(Vec::new()));
    let ask = stage.question();
    stage.refuse(&ask, CopyRefusal::Fenced);
    stage.pass(1000);
    let ask = stage.question();
    assert_eq!(ask.1.what, CopyWhat::Leaves(place("c").place(), Some(place("c"))));
    // The leaf that holds the place may begin before it.
    stage.answer(&ask, leaves(&["b"], None), None);
    stage.compared(CopyLack::Ranges(vec![Range { from: place("b").place(), to: None }]));
    let CopyStretch { range, after } = stage.no_marks();
    assert_eq!((range.from, after), (place("b").place(), Some(place("c"))));
    assert_eq!(stage.saved(), [FillStage::Complete]);
}

#[test]
fn leaves_that_are_none_of_a_tree_are_refused() {
    let swapped =
        CopyLeaves { leaves: ["b", "a"].map(|key| (place(key).place(), sum(1))).into(), end: None };
    let told = [
        leaves(&["a", "c"], Some("b")),
        CopyContent::Leaves(swapped),
        CopyContent::Leaves(CopyLeaves { leaves: Vec::new(), end: Some(Place::first()) }),
        records(&["a"]),
        files(&[("1.sst", 5)]),
    ];
    for told in told {
        let mut stage = second();
        stage.away.clear();
        let ask = stage.question();
        stage.answer(&ask, told, None);
        assert_eq!(stage.question().0, NodeId(3), "another one is asked");
    }
    // Nor those that begin and end where all has been compared: that would never end.
    let mut stage = second();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a"], Some("c")), None);
    stage.compared(CopyLack::Ranges(Vec::new()));
    stage.away.clear();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a"], Some("c")), None);
    assert_eq!(stage.question().0, NodeId(3));
    // Nor leaves where marks are asked for.
    let mut stage = second();
    let ask = stage.question();
    stage.answer(&ask, marks(&["a"]), Some("a"));
    stage.compared(CopyLack::Keys(Vec::new()));
    stage.away.clear();
    let ask = stage.question();
    stage.answer(&ask, leaves(&["a"], Some("c")), None);
    assert_eq!(stage.question().0, NodeId(3));
}

#[test]
fn a_source_without_a_tree_gives_marks_and_what_did_not_fit_is_asked_for_again() {
    let pulled = vec![NodeId(1)];
    let mut stage = Stage::begun(FillProgress { pulled, ..FillProgress::default() });
    let first = stage.question();
    stage.answer(&first, marks(&["a", "b", "c"]), Some("c"));
    let Some(TransferAction::Compare(_, round, _)) = stage.actions.pop() else { panic!() };
    let wanted = Some(CopyLack::Keys(vec![place("a"), place("b")]));
    stage.step(|transfers, around| transfers.on_compared((UNIT, round), wanted, around));
    let keys = stage.question();
    stage.answer(&keys, records(&["a"]), Some("a"));
    stage.merge();
    let rest = stage.question();
    assert_eq!(rest.1.what, CopyWhat::Keys(vec![place("b")]));
    stage.answer(&rest, records(&[]), None);
    let next = stage.question();
    assert_eq!(next.1.what, CopyWhat::Marks(CopyStretch::behind(Some(place("c")))));
    stage.answer(&next, marks(&["d"]), Some("a"));
    let other = stage.question();
    assert_eq!(other.0, NodeId(3), "one that goes back in the unit would never end");
}

/// What a replica holds of a key: what its tree counts, and what it has promised.
type Kept = (u8, u8);
type Held = BTreeMap<CopyPlace, Kept>;

fn at_place() -> impl Strategy<Value = CopyPlace> {
    (1..=5_u32, 0..8_u8).prop_map(|(table, key)| CopyPlace {
        table: TableId(table),
        key: Key::new(vec![b'a' + key]).unwrap(),
    })
}

/// Tables 3 and 5 keep promises; of 5 the state has yet to hear, and 4 it has dropped.
fn promises(place: &CopyPlace) -> bool {
    [TableId(3), TableId(5)].contains(&place.table)
}

fn summed(held: &Held, range: &Range) -> Sum {
    let mut sum = Sum::default();
    for (place, (counted, _)) in held {
        if range.holds(&place.place()) && *counted > 0 {
            let text = format!("{place:?} {counted}");
            let print = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
            sum.add(Print::from_bytes(print.to_be_bytes()));
        }
    }
    sum
}

/// A source, and how it answers.
struct Source {
    held: Held,
    bounds: BTreeSet<Place>,
    has_tree: bool,
}

impl Source {
    fn leaves(&self, from: &Place) -> CopyLeaves {
        let counted = self.held.iter().filter(|(_, (counted, _))| *counted > 0);
        let edges = counted.map(|(place, _)| Place::edge(place.table));
        let all: BTreeSet<Place> = edges.chain(self.bounds.iter().cloned()).collect();
        let first = all.range(..=from.clone()).next_back().unwrap_or(from).clone();
        let mut some: Vec<Place> = all.range(first..).take(3).cloned().collect();
        let end = if some.len() == 3 { some.pop() } else { None };
        let leaves = some.into_iter().map(|from| (from, Sum::default())).collect();
        let mut told = CopyLeaves { leaves, end };
        let sums: Vec<Sum> = told.sums().map(|(range, _)| summed(&self.held, &range)).collect();
        told.leaves.iter_mut().zip(sums).for_each(|(leaf, sum)| leaf.1 = sum);
        told
    }

    fn marks(&self, stretch: &CopyStretch) -> (Vec<CopyPlace>, Option<CopyPlace>) {
        let is_in = |place: &&CopyPlace| {
            stretch.range.holds(&place.place()) && Some(*place) > stretch.after.as_ref()
        };
        let mut some: Vec<CopyPlace> = self.held.keys().filter(is_in).take(3).cloned().collect();
        let next = if some.len() == 3 { some.pop().and(some.last().cloned()) } else { None };
        (some, next)
    }

    /// What goes of a target that is to become what the source is.
    fn strike(
        &self,
        comparison: &Comparison,
        target: &mut Held,
        (stretch, next): (&CopyStretch, Option<&CopyPlace>),
    ) {
        let told = comparison.of_marks(stretch.clone(), next.cloned(), Vec::new());
        if !matches!(told, CopyTold::Exactly(..)) {
            return;
        }
        target.retain(|place, kept| {
            let is_in = stretch.range.holds(&place.place())
                && Some(place) > stretch.after.as_ref()
                && next.is_none_or(|next| place <= next);
            !is_in || self.held.get(place) == Some(kept)
        });
    }

    /// Answers one question, and has the target merge what it lacks. Returns whether there was one.
    fn answer(&self, comparison: &mut Comparison, target: &mut Held) -> bool {
        let lacks = |target: &Held, place: &CopyPlace| {
            let (here, there) = (target.get(place).copied(), self.held[place]);
            here.is_none_or(|here| here.0 < there.0 || here.1 < there.1)
        };
        let wanted = |target: &Held, marks: Vec<CopyPlace>| -> Vec<CopyPlace> {
            marks.into_iter().filter(|place| lacks(target, place)).collect()
        };
        match comparison.question() {
            None => return false,
            Some(CopyWhat::Leaves(_, after)) if !self.has_tree => {
                let stretch = CopyStretch::behind(after);
                let (marks, next) = self.marks(&stretch);
                comparison.on_no_leaves();
                self.strike(comparison, target, (&stretch, next.as_ref()));
                comparison.on_wanted(wanted(target, marks), next);
            }
            Some(CopyWhat::Leaves(from, _)) => {
                let (sums, exact) = match comparison.on_leaves(self.leaves(&from)).unwrap() {
                    CopyTold::Sums(sums) => (sums, false),
                    CopyTold::ExactSums(sums) | CopyTold::MirrorSums(sums) => (sums, true),
                    other => panic!("{other:?}"),
                };
                let differs = |(range, sum): &(Range, Sum)| {
                    (sum.count > 0 || exact) && summed(target, range) != *sum
                };
                let differing = sums.into_iter().filter(differs).map(|(range, _)| range);
                comparison.on_differing(differing.collect());
            }
            Some(CopyWhat::Marks(stretch)) => {
                let (marks, next) = self.marks(&stretch);
                self.strike(comparison, target, (&stretch, next.as_ref()));
                comparison.on_wanted(wanted(target, marks), next);
            }
            Some(CopyWhat::Keys(keys)) => {
                for place in keys {
                    let (counted, promised) = self.held[&place];
                    let here = target.entry(place).or_default();
                    *here = (here.0.max(counted), here.1.max(promised));
                }
                comparison.on_brought(None);
            }
            Some(other) => panic!("{other:?}"),
        }
        true
    }
}

fn held() -> impl Strategy<Value = Held> {
    let kept = (0..4_u8, 0..3_u8);
    btree_map(at_place(), kept, 0..30).prop_map(|held| {
        let kept = |(place, (counted, promised)): (CopyPlace, Kept)| {
            let plain = (counted.max(1), 0);
            let kept = if promises(&place) { (counted, promised) } else { plain };
            (place, kept)
        };
        held.into_iter().map(kept).collect()
    })
}

fn of_kinds() -> ClusterState {
    let mut state = state(3, 2);
    let kinds = [TableKind::Lww, TableKind::Lww, TableKind::Linearizable];
    state.tables = (1..).zip(kinds).map(|(id, kind)| table(id, kind)).collect();
    state.table_id_max = TableId(4);
    state
}

proptest! {
    #[test]
    fn what_was_mirrored_becomes_what_the_source_has_and_nothing_else(
        (there, mut here, has_tree) in (held(), held(), any::<bool>()),
        bounds in btree_set(at_place(), 0..12),
        same in btree_set(at_place(), 0..40),
        steps in vec(1..6_usize, 0..12),
    ) {
        for place in same {
            match there.get(&place) {
                Some(kept) => here.insert(place, *kept),
                None => here.remove(&place),
            };
        }
        let bounds = bounds.iter().map(CopyPlace::place).collect();
        let source = Source { held: there, bounds, has_tree };
        let apart = by_marks(&of_kinds(), ClassId(0));
        let mut comparison = Comparison::behind(None, apart.clone()).exactly();
        for steps in steps.into_iter().chain([1000]) {
            let through = comparison.through().cloned();
            comparison = Comparison::behind(through, apart.clone()).exactly();
            for _ in 0..steps {
                if !source.answer(&mut comparison, &mut here) {
                    break;
                }
            }
        }
        prop_assert!(comparison.is_done());
        prop_assert_eq!(here, source.held);
    }

    #[test]
    fn a_target_has_all_that_the_source_has_wherever_it_was_interrupted(
        (there, mut here, has_tree) in (held(), held(), any::<bool>()),
        bounds in btree_set(at_place(), 0..12),
        same in btree_set(at_place(), 0..40),
        steps in vec(1..6_usize, 0..12),
    ) {
        for place in same {
            match there.get(&place) {
                Some(kept) => here.insert(place, *kept),
                None => here.remove(&place),
            };
        }
        let state = of_kinds();
        let bounds = bounds.iter().map(CopyPlace::place).collect();
        let source = Source { held: there, bounds, has_tree };
        let apart = by_marks(&state, ClassId(0));
        let mut comparison = Comparison::behind(None, apart.clone());
        // Interrupted so often, and then not any more.
        for steps in steps.into_iter().chain([1000]) {
            comparison = Comparison::behind(comparison.through().cloned(), apart.clone());
            for _ in 0..steps {
                if !source.answer(&mut comparison, &mut here) {
                    break;
                }
            }
        }
        prop_assert!(comparison.is_done());
        for (place, (counted, promised)) in &source.held {
            let (own, own_promised) = here.get(place).copied().unwrap_or_default();
            prop_assert!(own >= *counted && own_promised >= *promised, "{place:?}");
        }
    }
}
