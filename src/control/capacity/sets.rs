//! How likely it is that some owner set is gone as a whole, when each member is gone with probability p
//! and none because of another. Exact while few members own anything: then all cases are summed. Beyond
//! that, two bounds (Bonferroni): the sum over the distinct sets is never too low, and the sum less the
//! probabilities of each two of them never too high; where p is small they all but meet.

use std::collections::BTreeSet;

use crate::types::NodeId;

/// Members up to which all cases are summed: 2 to the power of it.
const EXACT_MEMBERS_MAX: usize = 12;
/// Sets up to which each two of them are looked at.
const PAIRS_SETS_MAX: usize = 1000;

/// A probability, or where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Chance {
    /// It is not below this.
    pub low: f64,
    /// It is not above this; both are the same where it is known exactly.
    pub high: f64,
}

/// The distinct sets of owners, each in order.
pub fn distinct<'a>(owners: impl Iterator<Item = &'a [NodeId]>) -> BTreeSet<Vec<NodeId>> {
    owners
        .filter(|owners| !owners.is_empty())
        .map(|owners| {
            let mut owners = owners.to_vec();
            owners.sort_unstable();
            owners
        })
        .collect()
}

/// The probability that all members of some set are gone at once. `p` is cut to 0..=1.
pub fn any_gone(sets: &BTreeSet<Vec<NodeId>>, p: f64) -> Chance {
    let p = p.clamp(0.0, 1.0);
    let members: BTreeSet<NodeId> = sets.iter().flatten().copied().collect();
    if members.len() <= EXACT_MEMBERS_MAX {
        let members: Vec<NodeId> = members.into_iter().collect();
        let exact = summed(sets, &members, p);
        return Chance { low: exact, high: exact };
    }
    let alone = |size: usize| p.powi(i32::try_from(size).unwrap_or(i32::MAX));
    let sum: f64 = sets.iter().map(|set| alone(set.len())).sum();
    let largest = sets.iter().map(|set| alone(set.len())).fold(0.0, f64::max);
    let mut low = largest;
    if sets.len() <= PAIRS_SETS_MAX {
        let sets: Vec<&Vec<NodeId>> = sets.iter().collect();
        let mut both = 0.0;
        for (at, one) in sets.iter().enumerate() {
            for other in sets.iter().skip(at + 1) {
                let shared = other.iter().filter(|id| one.binary_search(id).is_ok()).count();
                both += alone(one.len() + other.len() - shared);
            }
        }
        low = low.max(sum - both);
    }
    Chance { low: low.min(1.0), high: sum.min(1.0) }
}

/// The sum over all ways in which members can be gone.
fn summed(sets: &BTreeSet<Vec<NodeId>>, members: &[NodeId], p: f64) -> f64 {
    let bit = |id: &NodeId| members.binary_search(id).map_or(0, |place| 1_u32 << place);
    let masks: Vec<u32> = sets.iter().map(|set| set.iter().map(bit).sum()).collect();
    let count = u32::try_from(members.len()).unwrap_or(0);
    let mut sum = 0.0;
    for gone in 0..1_u32 << count {
        if masks.iter().any(|mask| gone & mask == *mask) {
            let gone = i32::try_from(gone.count_ones()).unwrap_or(0);
            let stay = i32::try_from(count).unwrap_or(0) - gone;
            sum += p.powi(gone) * (1.0 - p).powi(stay);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets(lists: &[&[u32]]) -> BTreeSet<Vec<NodeId>> {
        let owners: Vec<Vec<NodeId>> =
            lists.iter().map(|list| list.iter().copied().map(NodeId).collect()).collect();
        distinct(owners.iter().map(Vec::as_slice))
    }

    #[test]
    fn small_rings_are_exact() {
        let close = |chance: Chance, expected: f64| {
            assert_eq!(chance.low.to_bits(), chance.high.to_bits());
            assert!((chance.low - expected).abs() < 1e-15, "{chance:?} {expected}");
        };
        close(any_gone(&sets(&[&[1, 2, 3], &[3, 2, 1]]), 0.1), 0.001);
        // Two sets that share two members: 2 p^3 - p^4.
        close(any_gone(&sets(&[&[1, 2, 3], &[2, 3, 4]]), 0.1), 0.0019);
        close(any_gone(&sets(&[]), 0.5), 0.0);
        close(any_gone(&sets(&[&[1]]), 1.0), 1.0);
    }

    #[test]
    fn bounds_all_but_meet_where_failures_are_rare() {
        let lists: Vec<Vec<u32>> =
            (0..100).map(|i| vec![i, (i + 1) % 100, (i + 2) % 100]).collect();
        let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        let p = 2.0 / 365.0;
        let chance = any_gone(&sets(&lists), p);
        assert!(chance.low < chance.high && chance.low > 0.98 * chance.high, "{chance:?}");
        assert!((chance.high - 100.0 * p * p * p).abs() < 1e-12, "{chance:?}");
    }

    proptest! {
        #[test]
        fn bounds_enclose_what_is_exact(
            lists in prop::collection::btree_set(prop::collection::btree_set(0u32..10, 1..4), 1..12),
            p in 0.0f64..1.0,
        ) {
            let lists: Vec<Vec<u32>> =
                lists.into_iter().map(|set| set.into_iter().collect()).collect();
            let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
            let exact = any_gone(&sets(&lists), p);
            prop_assert!((exact.high - exact.low).abs() < 1e-12);
            // The same, with members that own nothing together but make it too many to sum.
            let tiny: Vec<u32> = (100..120).collect();
            let mut wide: Vec<&[u32]> = lists.clone();
            wide.push(&tiny);
            let bounds = any_gone(&sets(&wide), p);
            prop_assert!(bounds.low <= exact.low + p.powi(20) + 1e-12, "{:?} {:?}", bounds, exact);
            prop_assert!(bounds.high >= exact.high - 1e-12, "{:?} {:?}", bounds, exact);
        }
    }
}
