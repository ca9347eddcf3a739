//! Ten random memberships of a thousand members, each changed a few times.

use super::{Before, ClaimMember, claim};
use crate::types::{NodeId, Zone};

const PARTITIONS: u32 = 16_384;

fn newcomer(rng: &mut fastrand::Rng, id: u32, zones: u32, weighted: bool) -> ClaimMember {
    ClaimMember {
        id: NodeId(id),
        zone: format!("z{}", rng.u32(0..zones)).parse::<Zone>().unwrap(),
        weight_milli: if weighted { rng.u32(500..2000) } else { 1000 },
        takes_share: true,
    }
}

#[test]
fn a_thousand_members_are_placed_fairly_and_changes_move_little() {
    for seed in 0..10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let zones = [1, 1, 3, 4, 7, 40][rng.usize(..6)];
        let weighted = seed % 2 == 1;
        let mut members: Vec<_> =
            (1..=1000).map(|id| newcomer(&mut rng, id, zones, weighted)).collect();
        let mut now = claim(&members, PARTITIONS, 3, None).unwrap();
        assert_eq!(now.report.excess_micro(3), 0, "seed {seed}");
        for (id, kind) in [(2001, "join"), (2002, "leave"), (2003, "replace")] {
            let index = rng.usize(..members.len());
            match kind {
                "join" => members.push(newcomer(&mut rng, id, zones, weighted)),
                "leave" => drop(members.swap_remove(index)),
                _ => members[index].id = NodeId(id),
            }
            let before = Before { ring: &now.ring, owners: &now.owners };
            now = claim(&members, PARTITIONS, 3, Some(before)).unwrap();
            assert_eq!(now.report.excess_micro(3), 0, "seed {seed}, {kind}");
            let (moved, least) = (now.report.moved, now.report.moved_min);
            let bounded = zones <= 3 && !weighted;
            assert!(
                !bounded || moved <= least + least / 10 + 3,
                "seed {seed}, {kind}: {moved} of {least}"
            );
        }
    }
}
