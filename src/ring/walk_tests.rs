//! Tests of the walk: the worked example, and its laws on random rings.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Ring, Token};
use crate::types::{NodeId, Partition, Zone};

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn ring(spots: &[u32]) -> Ring {
    let spots: Vec<NodeId> = spots.iter().copied().map(NodeId).collect();
    Ring::new(&spots, &BTreeMap::new())
}

fn ids(numbers: &[u32]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

/// 4 nodes A..D (1..4), 5 spots each, three copies.
const EXAMPLE: [u32; 20] = [1, 2, 3, 4, 2, 1, 4, 3, 3, 1, 2, 4, 4, 4, 1, 3, 2, 2, 3, 1];

#[test]
fn copies_of_a_key_are_on_the_next_three_different_nodes_clockwise() {
    let ring = ring(&EXAMPLE);
    for start in 0..20u16 {
        let list = ring.preference_list(Partition(start), 3);
        let mut expected = Vec::new();
        for step in 0..20 {
            let next = NodeId(EXAMPLE[(usize::from(start) + step) % 20]);
            if !expected.contains(&next) {
                expected.push(next);
            }
        }
        assert_eq!(list.owners(), &expected[..3], "partition {start}");
        assert_eq!(list.stand_ins(), &expected[3..], "partition {start}");
        assert_eq!(ring.owners(Partition(start), 3), expected[..3]);
    }
    assert_eq!(ring.preference_list(Partition(12), 3).members(), ids(&[4, 1, 3, 2]));
}

#[test]
fn keys_of_a_dead_node_are_served_by_the_following_ones_without_any_move() {
    let ring = ring(&EXAMPLE);
    for dead in (1..=4).map(NodeId) {
        for start in (0..20).map(Partition) {
            let list = ring.preference_list(start, 3);
            let serving: Vec<NodeId> =
                list.members().iter().copied().filter(|id| *id != dead).take(3).collect();
            let surviving: Vec<NodeId> =
                list.owners().iter().copied().filter(|id| *id != dead).collect();
            assert_eq!(serving.len(), 3);
            assert!(serving.starts_with(&surviving), "survivors serve on, in their order");
            assert_eq!(ring.owners(start, 3), list.owners(), "the placement has not changed");
        }
    }
}

#[test]
fn a_token_finds_its_spot_on_a_ring_of_any_length() {
    let ring = ring(&EXAMPLE);
    assert_eq!(ring.partition_of(Token(0)), Partition(0));
    assert_eq!(ring.partition_of(Token(u64::MAX)), Partition(19));
    assert_eq!(ring.partition_of(Token(u64::MAX / 2)), Partition(9));
    assert_eq!(ring.spot(Partition(19)), Some(NodeId(1)));
    assert_eq!(ring.spot(Partition(20)), None);
}

#[test]
fn each_round_takes_a_new_member_of_each_zone() {
    let zones = BTreeMap::from([
        (NodeId(1), zone("x")),
        (NodeId(2), zone("x")),
        (NodeId(3), zone("x")),
        (NodeId(4), zone("y")),
        (NodeId(5), zone("y")),
        (NodeId(6), zone("z")),
    ]);
    let ring = Ring::new(&ids(&[1, 2, 3, 4, 5, 6]), &zones);
    let order = |start, n| ring.preference_list(Partition(start), n);
    assert_eq!(order(0, 3).members(), ids(&[1, 4, 6, 2, 5, 3]));
    assert_eq!(order(4, 5).members(), ids(&[5, 6, 1, 2, 4, 3]));
    assert_eq!(order(4, 5).owners(), ids(&[5, 6, 1, 2, 4]));
    assert_eq!(ring.stand_ins(Partition(0), &ids(&[4, 6]), 2), ids(&[1, 2]));
}

#[test]
fn a_short_ring_lists_all_its_members_as_owners() {
    let ring = ring(&[7, 7]);
    let list = ring.preference_list(Partition(1), 3);
    assert_eq!(list.owners(), ids(&[7]));
    assert!(list.stand_ins().is_empty());
    let nothing = Ring::new(&[], &BTreeMap::new());
    assert!(nothing.preference_list(Partition(0), 3).members().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_preference_list_names_every_member_once_and_every_zone_early(
        spots in prop::collection::vec(1u32..12, 1..64),
        n_zones in 1u32..6,
        start in 0u16..64,
        n in 1u8..8,
    ) {
        let zones: BTreeMap<NodeId, Zone> =
            (1..12).map(|id| (NodeId(id), zone(&format!("z{}", id % n_zones)))).collect();
        let ring = Ring::new(&ids(&spots), &zones);
        let start = Partition(start % u16::try_from(spots.len()).unwrap());
        let list = ring.preference_list(start, n);
        let distinct: BTreeSet<_> = list.members().iter().collect();
        prop_assert_eq!(distinct.len(), list.members().len());
        prop_assert_eq!(distinct.len(), ring.members().len());
        prop_assert_eq!(list.owners().len(), usize::from(n).min(distinct.len()));
        prop_assert_eq!(list.members()[0], NodeId(spots[usize::from(start.0)]));
        prop_assert_eq!(list.owners(), &ring.owners(start, n)[..]);

        let n_zones = ring.members().iter().map(|id| &zones[id]).collect::<BTreeSet<_>>().len();
        let first: BTreeSet<_> = list.members().iter().take(n_zones).map(|id| &zones[id]).collect();
        prop_assert_eq!(first.len(), n_zones, "the first round takes each zone once");
    }
}
