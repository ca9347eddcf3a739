//! Tests of the claim: its four rules on random memberships and on random changes of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Before, Claim, ClaimError, ClaimMember, MICRO, claim};
use crate::types::{NodeId, Zone};

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

/// The largest breach of the share rule, in virtual nodes beyond max(5 %, one virtual node).
fn excess(n: u8, claim: &Claim) -> f64 {
    let unit = f64::from(n);
    let over = |share: &super::Share| {
        let target = share.target_micro as f64 / MICRO as f64;
        let off = (share.copies as f64 - target).abs();
        (off - (target * 0.05).max(unit)) / unit
    };
    claim.report.shares.values().map(over).fold(f64::MIN, f64::max)
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_first_claim_of_equal_members_is_safe_and_even(
        count in 1u32..40, n in 1u8..6, bits in 3u32..10,
    ) {
        let members = equals(count.max(n.into()));
        let claim = claim(&members, 1 << bits, n, None).unwrap();
        assert_safe(&members, n, &claim);
        prop_assert!(excess(n, &claim) <= 0.0, "{:?}", claim.report);
    }

    #[test]
    fn a_join_of_equals_moves_its_own_share_only(count in 6u32..40, bits in 6u32..10) {
        let old = claim(&equals(count), 1 << bits, 3, None).unwrap();
        let members = equals(count + 1);
        let new = again(&members, 3, &old);
        assert_safe(&members, 3, &new);
        prop_assert!(excess(3, &new) <= 0.0, "{:?}", new.report);
        let bound = new.report.moved_min + new.report.moved_min / 10 + 3;
        prop_assert!(new.report.moved <= bound, "{:?}", new.report);
    }
}
