//! What a known ring looks like.

use std::sync::Arc;

use super::*;
use crate::client::{Epoch, MovePhase, PlacedClass, Placement};
use crate::types::Zone;

fn member(id: u32, liveness: Liveness, role: &'static str) -> RingMember {
    RingMember {
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        address: format!("h:{id}"),
        zone: Zone::try_from(["a", "b"][id as usize % 2].to_owned()).unwrap(),
        liveness,
        role,
        serving: liveness == Liveness::Alive,
    }
}

fn ring() -> RingView {
    let ids = |ids: &[u32]| ids.iter().map(|id| NodeId(*id)).collect::<Vec<_>>();
    let step = PlacedMove { phase: MovePhase::ReadOld, other: ids(&[1, 2, 4]) };
    let class = PlacedClass {
        n: 3,
        r_min: 2,
        w_min: 2,
        owners: vec![ids(&[1, 2, 3]), ids(&[2, 3, 1])],
        moving: [(Partition(1), step)].into_iter().collect(),
    };
    let placement = Placement {
        cluster: "demo".to_owned(),
        ring: ids(&[1, 2]),
        classes: vec![class],
        ..Placement::default()
    };
    RingView {
        epoch: Epoch(7),
        members: vec![
            member(1, Liveness::Alive, "active"),
            member(2, Liveness::Alive, "active"),
            member(3, Liveness::Down, "leaving"),
            member(4, Liveness::Alive, "joining"),
        ],
        placement: Arc::new(placement),
    }
}

fn found() -> Found {
    let place = Location::of(0x3b57_7afd_7fed_9501, 0, ["n1", "n2", "n3"], ["n4"]);
    Found { key: b"user:1".to_vec(), place }
}

#[test]
fn people_see_members_moves_and_the_key() {
    let text = as_text(&ring(), Some(&found()), false);
    let expected = "\
Ring of demo   epoch 7   2 partitions   4 members
 NODE  ZONE  STATE  ROLE                       PARTITIONS  COPIES  ARRIVING  SHARE
 n1    b     alive  active   ━━━━━━━━━━━━━━━━           1       2         –  33.3%
 n2    a     alive  active   ━━━━━━━━━━━━━━━━           1       2         –  33.3%
 n3    b     down   leaving  ━━━━━━━━━━━━━━━━           0       2         –  33.3%
 n4    a     alive  joining  ················           0       0        +1   0.0%

1 units on the move
 UNIT  READ        ALSO WRITTEN  PHASE
 0/1   n2, n3, n1  n1, n2, n4    read-old

Key user:1   token 3b577afd7fed9501   partition 0
  1  n1  owner
  2  n2  owner
  3  n3  owner
  4  n4  stand-in
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn json_keeps_its_contract() {
    let json = as_json(&ring(), Some(&found()));
    assert_eq!((&json["epoch"], &json["partitions"]), (&7.into(), &2.into()));
    let last = &json["members"][3];
    assert_eq!((&last["role"], &last["arriving"]), (&"joining".into(), &1.into()));
    let unit = json!({ "class": 0, "partition": 1, "phase": "read-old",
                       "owners": ["n2", "n3", "n1"], "other": ["n1", "n2", "n4"] });
    assert_eq!(json["moving"], json!([unit]));
    assert_eq!(json["key"]["stand_ins"], json!(["n4"]));
    assert_eq!(as_json(&ring(), None)["key"], Json::Null);
}

#[test]
fn the_picture_marks_who_is_down_what_moves_and_the_key() {
    let svg = picture(&ring(), Some(&found()));
    for part in ["demo, epoch 7", "partition 1 moves to n4", "owner 1: n1", "user:1, token"] {
        assert!(svg.contains(part), "{part}");
    }
}
