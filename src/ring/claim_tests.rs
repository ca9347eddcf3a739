//! Tests of the claim: its four rules on random memberships and on random changes of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Before, Claim, ClaimError, ClaimMember, ClaimReport, MICRO, Ring, Share, claim};
use crate::types::{NodeId, Partition, Zone};

fn zone(number: u32) -> Zone {
    format!("z{number}").parse().unwrap()
}

fn member(id: u32, of_zone: u32, weight_milli: u32) -> ClaimMember {
    ClaimMember { id: NodeId(id), zone: zone(of_zone), weight_milli, takes_share: true }
}

fn equals(count: u32) -> Vec<ClaimMember> {
    (1..=count).map(|id| member(id, 0, 1000)).collect()
}

fn again(members: &[ClaimMember], n: u8, old: &Claim) -> Claim {
    let before = Before { ring: &old.ring, owners: &old.owners };
    let partitions = u32::try_from(old.ring.len()).unwrap();
    claim(members, partitions, n, Some(before)).unwrap()
}

/// Rules 1 and 2, which hold for every claim without exception.
fn assert_safe(members: &[ClaimMember], n: u8, claim: &Claim) {
    let zones: BTreeMap<NodeId, &Zone> = members
        .iter()
        .filter(|member| member.owns())
        .map(|member| (member.id, &member.zone))
        .collect();
    let n_zones = zones.values().collect::<BTreeSet<_>>().len();
    for (partition, owners) in claim.owners.iter().enumerate() {
        let distinct: BTreeSet<_> = owners.iter().collect();
        assert_eq!(distinct.len(), usize::from(n), "partition {partition}: {owners:?}");
        let in_zones: BTreeSet<_> = owners.iter().map(|id| zones[id]).collect();
        assert_eq!(in_zones.len(), n_zones.min(n.into()), "partition {partition}: {owners:?}");
    }
}

/// All four rules; the last only where `moves_are_bounded`.
fn assert_rules(members: &[ClaimMember], n: u8, claim: &Claim, moves_are_bounded: bool) {
    assert_safe(members, n, claim);
    assert_eq!(claim.report.excess_micro(n), 0, "{:?}", claim.report);
    let ClaimReport { moved, moved_min, .. } = claim.report;
    let allowed = (moved_min / 10).max(n.into());
    assert!(!moves_are_bounded || moved <= moved_min + allowed, "{moved} of {moved_min}");
}

#[test]
fn three_members_hold_a_copy_of_everything_each() {
    let members = equals(3);
    let claim = claim(&members, 256, 3, None).unwrap();
    assert_safe(&members, 3, &claim);
    for share in claim.report.shares.values() {
        assert_eq!((share.copies, share.target_micro), (256, 256 * MICRO));
    }
}

#[test]
fn what_cannot_be_placed_is_refused_with_the_reason() {
    let refused = |members: &[ClaimMember], q, n| claim(members, q, n, None).unwrap_err();
    let two = equals(2);
    assert_eq!(refused(&two, 256, 3), ClaimError::TooFewMembers { n: 3, got: 2 });
    assert_eq!(refused(&two, 100, 1), ClaimError::Partitions { got: 100 });
    assert_eq!(refused(&two, 1 << 17, 1), ClaimError::Partitions { got: 1 << 17 });
    assert_eq!(refused(&two, 256, 0), ClaimError::Copies { got: 0 });
    assert_eq!(refused(&two, 1, 2), ClaimError::TooFewPartitions { partitions: 1, n: 2 });
    assert_eq!(refused(&[], 256, 1), ClaimError::TooFewMembers { n: 1, got: 0 });
    let weightless: Vec<_> = (1..=3).map(|id| member(id, 0, 0)).collect();
    assert_eq!(refused(&weightless, 256, 1), ClaimError::TooFewMembers { n: 1, got: 0 });
    let twice = [member(1, 0, 1000), member(1, 0, 1000)];
    assert_eq!(refused(&twice, 256, 1), ClaimError::Member { id: NodeId(1) });
    let before = Before { ring: &[NodeId(1)], owners: &[] };
    let error = claim(&two, 256, 2, Some(before)).unwrap_err();
    assert_eq!(error, ClaimError::Before { partitions: 256, got: 1 });
}

#[test]
fn the_order_of_the_list_of_members_does_not_matter() {
    let mut members: Vec<_> = (1..=9).map(|id| member(id, id % 4, 500 * id)).collect();
    let one = claim(&members, 128, 3, None).unwrap();
    members.reverse();
    assert_eq!(claim(&members, 128, 3, None).unwrap(), one);
}

#[test]
fn members_that_take_no_share_own_nothing_and_are_in_the_report() {
    let mut members = equals(5);
    members[4].takes_share = false;
    let claim = claim(&members, 64, 3, None).unwrap();
    assert_eq!(claim.report.shares[&NodeId(5)], Share::default());
    assert!(!claim.ring.contains(&NodeId(5)));
    assert_rules(&members[..4], 3, &claim, false);
}

#[test]
fn one_member_owns_everything() {
    let claim = claim(&equals(1), 1, 1, None).unwrap();
    assert_eq!(claim.ring, [NodeId(1)]);
    assert_eq!(claim.owners, [[NodeId(1)]]);
}

#[test]
fn a_large_ring_of_equals_is_exactly_the_next_n_members_clockwise() {
    let claim = claim(&equals(20), 256, 3, None).unwrap();
    for (partition, owners) in claim.owners.iter().enumerate() {
        let window: Vec<NodeId> = (0..3).map(|step| claim.ring[(partition + step) % 256]).collect();
        assert_eq!(owners, &window, "partition {partition}");
    }
}

#[test]
fn a_replacement_takes_over_its_predecessors_places_and_nothing_else() {
    let mut members: Vec<_> = (1..=12).map(|id| member(id, id % 3, 1000)).collect();
    let old = claim(&members, 256, 3, None).unwrap();
    let lost = old.report.shares[&NodeId(5)].copies;
    members[4].takes_share = false;
    members.push(member(13, 5 % 3, 1000));
    let new = again(&members, 3, &old);
    let swapped: Vec<NodeId> =
        old.ring.iter().map(|id| if *id == NodeId(5) { NodeId(13) } else { *id }).collect();
    assert_eq!(new.ring, swapped);
    assert_eq!((new.report.moved, new.report.moved_min), (lost, lost));
}

#[test]
fn a_claim_that_changes_nothing_moves_nothing() {
    let members: Vec<_> = (1..=17).map(|id| member(id, id % 5, 700 + 100 * id)).collect();
    let old = claim(&members, 512, 3, None).unwrap();
    let new = again(&members, 3, &old);
    assert_eq!(new.report.moved, 0);
    assert_eq!((new.ring, new.owners), (old.ring, old.owners));
}

#[test]
fn the_load_of_a_member_that_is_down_falls_on_many_others() {
    let claim = claim(&equals(30), 4096, 3, None).unwrap();
    let ring = Ring::new(&claim.ring, &BTreeMap::new());
    let mut heirs: BTreeMap<NodeId, u32> = BTreeMap::new();
    for partition in (0..4096).map(Partition) {
        let list = ring.preference_list(partition, 3);
        if list.owners().contains(&NodeId(1)) {
            *heirs.entry(list.stand_ins()[0]).or_default() += 1;
        }
    }
    assert_eq!(heirs.len(), 29, "everybody inherits something");
    let (most, all) = (heirs.values().max().unwrap(), heirs.values().sum::<u32>());
    assert!(most * 10 < all, "nobody inherits a tenth: {heirs:?}");
}

/// One change of a membership: join, leave or replacement, of the member at `index`, in `zone`,
/// with `weight`.
#[derive(Clone, Debug)]
struct Change {
    kind: u8,
    index: prop::sample::Index,
    zone: u32,
    weight: u32,
}

fn change(zones: u32) -> impl Strategy<Value = Change> {
    (0u8..4, any::<prop::sample::Index>(), 0..zones, 200u32..4000)
        .prop_map(|(kind, index, zone, weight)| Change { kind, index, zone, weight })
}

/// Applies a change; the newcomer, if any, has the number `id`.
fn apply(members: &mut Vec<ClaimMember>, n: u8, change: &Change, id: u32) {
    let index = change.index.index(members.len());
    match change.kind {
        0 => members.push(member(id, change.zone, change.weight)),
        1 if members.len() > usize::from(n) => drop(members.remove(index)),
        2 => members[index].id = NodeId(id),
        _ => members[index].weight_milli = change.weight,
    }
}

prop_compose! {
    fn any_members(zones: u32)(
        list in prop::collection::vec((0..zones, 200u32..4000), 5..40),
    ) -> Vec<ClaimMember> {
        (1..).zip(list).map(|(id, (zone, weight))| member(id, zone, weight)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_membership_and_any_change_of_it_is_safe_and_fair(
        (mut members, changes) in (1u32..9).prop_flat_map(|zones| {
            (any_members(zones), prop::collection::vec(change(zones), 0..6))
        }),
        n in 1u8..6,
        bits in 5u32..10,
    ) {
        let mut now = claim(&members, 1 << bits, n, None).unwrap();
        assert_rules(&members, n, &now, false);
        for (id, change) in (100..).zip(&changes) {
            apply(&mut members, n, change, id);
            now = again(&members, n, &now);
            assert_rules(&members, n, &now, false);
        }
    }

    #[test]
    fn one_change_among_equals_moves_little_more_than_it_must(
        per_zone in 1u32..12, zones in 1u32..5, n in 1u8..6, bits in 5u32..11,
        index in any::<prop::sample::Index>(), kind in 0u8..3, steps in 1u32..4,
    ) {
        let count = (per_zone * zones).max(u32::from(n));
        let mut members: Vec<_> = (0..count).map(|i| member(i + 1, i % zones, 1000)).collect();
        let mut now = claim(&members, 1 << bits, n, None).unwrap();
        for step in 0..steps {
            let old = members.clone();
            let change = Change { kind, index, zone: step % zones, weight: 1000 };
            apply(&mut members, n, &change, 1000 + step);
            if members == old || members.len() > 1 << bits {
                break;
            }
            now = again(&members, n, &now);
            // With fewer or more zones than copies, a zone that shrinks has to give away more than
            // the leaver held (docs/ring.md): measured there, not bounded here.
            let bounded = kind != 1 || zones == 1 || zones == u32::from(n);
            assert_rules(&members, n, &now, bounded);
        }
    }
}

#[test]
fn few_partitions_of_a_small_ring_have_owners_that_are_not_the_walks() {
    let mut members = equals(6);
    let mut now = claim(&members, 256, 3, None).unwrap();
    for id in [3, 5] {
        members.retain(|member| member.id != NodeId(id));
        now = again(&members, 3, &now);
        assert_rules(&members, 3, &now, true);
        let ring = Ring::new(&now.ring, &BTreeMap::new());
        let numbered = (0..256).map(Partition).zip(&now.owners);
        let mended = numbered.filter(|(spot, owners)| ring.owners(*spot, 3) != **owners).count();
        assert!(mended <= 64, "{mended} of 256");
    }
}
