//! Tests of the target shares.

use proptest::prelude::*;

use super::share::{ZoneLimit, zone_limits};
use super::{ClaimMember, MICRO, target_shares};
use crate::types::{NodeId, Zone};

fn members(list: &[(&str, u32)]) -> Vec<ClaimMember> {
    let one = |(id, (zone, weight)): (u32, &(&str, u32))| ClaimMember {
        id: NodeId(id),
        zone: zone.parse::<Zone>().unwrap(),
        weight_milli: *weight,
        takes_share: true,
    };
    (1..).zip(list).map(one).collect()
}

/// Targets in hundredths of a copy, by id, rounded.
fn targets(list: &[(&str, u32)], n: u8, partitions: u32) -> Vec<u64> {
    let rounded = |micro: u64| (micro + MICRO / 200) * 100 / MICRO;
    target_shares(&members(list), n, partitions).into_values().map(rounded).collect()
}

#[test]
fn shares_follow_weights() {
    let list = [("x", 1000), ("x", 1000), ("x", 2000), ("x", 500), ("x", 1500)];
    assert_eq!(targets(&list, 1, 60), [1000, 1000, 2000, 500, 1500]);
}

#[test]
fn nobody_holds_more_than_one_copy_of_each_partition_and_the_rest_flows_over() {
    let list = [("x", 9000), ("x", 1000), ("x", 1000), ("x", 2000)];
    assert_eq!(targets(&list, 3, 100), [10_000, 5_000, 5_000, 10_000]);
    assert_eq!(targets(&list[..3], 3, 100), [10_000, 10_000, 10_000]);
}

#[test]
fn a_zone_holds_its_full_rounds_and_at_most_one_more() {
    let narrow = [("x", 1000), ("y", 1000), ("y", 1000), ("y", 1000), ("y", 1000)];
    assert_eq!(targets(&narrow, 2, 100), [10_000, 2_500, 2_500, 2_500, 2_500]);
    let wide = [("x", 1000), ("x", 1000), ("y", 1000), ("y", 3000), ("z", 1000)];
    assert_eq!(targets(&wide, 3, 100), [5_000, 5_000, 2_500, 7_500, 10_000]);
}

#[test]
fn zone_limits_are_the_rounds_of_the_walk() {
    let limits = |sizes: &[usize], n| {
        zone_limits(sizes, n).iter().map(|limit| (limit.low, limit.high)).collect::<Vec<_>>()
    };
    assert_eq!(limits(&[4], 3), [(3, 3)]);
    assert_eq!(limits(&[2, 2, 2], 3), [(1, 1); 3]);
    assert_eq!(limits(&[2, 2, 2, 2], 3), [(0, 1); 4]);
    assert_eq!(limits(&[3, 3], 3), [(1, 2); 2]);
    assert_eq!(limits(&[1, 5], 4), [(1, 1), (3, 3)]);
    assert_eq!(limits(&[1, 4, 4], 4), [(1, 1), (1, 2), (1, 2)]);
    assert_eq!(zone_limits(&[2], 5), [ZoneLimit { low: 2, high: 2 }]);
}

#[test]
fn who_takes_no_share_has_a_target_of_nothing() {
    let mut list = members(&[("x", 1000), ("x", 0), ("y", 1000)]);
    list[2].takes_share = false;
    let shares = target_shares(&list, 1, 8);
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [8 * MICRO, 0, 0]);
    list[0].takes_share = false;
    assert!(target_shares(&list, 1, 8).into_values().all(|share| share == 0));
}

proptest! {
    #[test]
    fn shares_sum_to_all_copies_and_respect_every_cap(
        list in prop::collection::vec((0u8..6, 1u32..=u32::MAX), 1..50),
        n in 1u8..16,
        bits in 0u32..=16,
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let list: Vec<_> = list.iter().map(|(zone, w)| (names[usize::from(*zone)], *w)).collect();
        prop_assume!(list.len() >= usize::from(n));
        let shares = target_shares(&members(&list), n, 1 << bits);
        let all = u64::from(n) * (MICRO << bits);
        let sum: u64 = shares.values().sum();
        prop_assert!(sum <= all && all - sum < MICRO / 1000, "{} of {}", sum, all);
        prop_assert!(shares.values().all(|share| *share <= MICRO << bits));
    }
}
