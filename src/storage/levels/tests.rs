//! The depth of level 0: what a sweep counts, and at what cost.

use core::cmp::Ordering;
use std::cell::Cell;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{Sweep, TableMeta, stretches};

thread_local! {
    static COMPARED: Cell<u64> = const { Cell::new(0) };
}

/// A key that counts how often it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted(u64);

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARED.set(COMPARED.get() + 1);
        self.0.cmp(&other.0)
    }
}

/// The definition: the deepest point of a set of ranges is where one of them begins.
fn depth_by_definition<K: Ord>(ranges: &[(K, K)]) -> usize {
    let depth_at = |key: &K| ranges.iter().filter(|(low, high)| low <= key && key <= high).count();
    ranges.iter().map(|(low, _)| depth_at(low)).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn a_sweep_counts_what_the_definition_counts(
        pairs in vec((0u8..40, 0u8..12), 0..60), wide in any::<bool>(),
    ) {
        let length = |extra: u8| if wide { extra * 3 } else { extra / 4 };
        let ranges: Vec<_> =
            pairs.into_iter().map(|(low, extra)| (low, low + length(extra))).collect();
        let sweep = Sweep::new(ranges.iter().copied());
        prop_assert_eq!(sweep.deepest(), depth_by_definition(&ranges));
        for key in 0..80 {
            let holding = ranges.iter().filter(|(low, high)| *low <= key && key <= *high);
            prop_assert_eq!(sweep.depth_at(&key), holding.count());
        }
    }
}

proptest! {
    #[test]
    fn stretches_are_what_tables_cover_and_end_where_none_lies_across(
        pairs in vec((0u8..60, 0u8..8), 0..12),
    ) {
        let key = |number: u8| Bytes::from(vec![number]);
        let table = |(low, more): (u8, u8)| TableMeta {
            smallest: key(low), largest: key(low + more), ..TableMeta::default()
        };
        let tables: Vec<TableMeta> = pairs.into_iter().map(table).collect();
        let found = stretches(&tables);
        prop_assert!(found.iter().zip(found.iter().skip(1)).all(|((_, end), (next, _))| end < next));
        for number in 0..70 {
            let (key, next) = (key(number), key(number + 1));
            // A table may end behind a key and the next begin at the key above, if none holds both.
            let holds = |low: &Bytes, high: &Bytes, key: &Bytes| low <= key && key <= high;
            let covered = tables.iter().any(|table| holds(&table.smallest, &table.largest, &key));
            let stretch = found.iter().find(|(low, high)| holds(low, high, &key));
            prop_assert_eq!(stretch.is_some(), covered);
            let across = |table: &TableMeta| table.smallest <= key && next <= table.largest;
            let goes_on = stretch.is_some_and(|(_, high)| next <= *high);
            prop_assert_eq!(goes_on, tables.iter().any(across));
        }
    }
}

#[test]
fn thousands_of_tables_cost_a_sort_and_not_their_square() {
    let mut rng = fastrand::Rng::with_seed(1);
    let ranges: Vec<_> = (0..4_096).map(|_| rng.u64(..1 << 40)).collect();
    let ranges: Vec<_> = ranges.iter().map(|low| (Counted(*low), Counted(low + 1_000))).collect();
    let counted = |work: &dyn Fn() -> usize| {
        COMPARED.set(0);
        (work(), COMPARED.get())
    };
    let (depth, before) = counted(&|| depth_by_definition(&ranges));
    let (same, now) = counted(&|| Sweep::new(ranges.iter().copied()).deepest());
    assert_eq!(depth, same);
    println!("4096 ranges: {before} comparisons by the definition, {now} by a sweep");
    // Two sorts and a walk: 2 n log n and 2 n, and as much again for what sorting is free to do.
    assert!(now < 4_096 * (2 * 12 + 2) * 2, "{now} comparisons");
}
