//! What the progress of a plan looks like.

use super::*;
use crate::client::{Epoch, PlanStatus, Unit};
use crate::types::{ClassId, Partition};

fn plan() -> PlanProgress {
    let unit = |partition| Unit { class: ClassId(0), partition: Partition(partition) };
    let filled = MoveProgress {
        unit: unit(3),
        phase: MovePhase::ReadOld,
        undoes: false,
        fills: vec![("n4".parse().unwrap(), 430)],
        waits_for: "n4 to be filled".to_owned(),
    };
    let handed = MoveProgress {
        unit: unit(7),
        phase: MovePhase::ReadNew,
        undoes: false,
        fills: Vec::new(),
        waits_for: String::new(),
    };
    PlanProgress {
        hash: 0x3f2a_91c0 << 96,
        status: PlanStatus::Running,
        total: 96,
        done: 24,
        queued: 70,
        under_way: vec![filled, handed],
    }
}

#[test]
fn people_see_how_far_it_is_and_whom_it_waits_for() {
    let text = as_text(&plan(), false);
    let expected = "\
Plan 3f2a91c0000000000000000000000000
━━━━━━━━························ 25.0%  running: 24 of 96 moves done, 2 under way (71% filled), 70 wait

 UNIT  PHASE           FILLED            NEW OWNERS  WAITS FOR
 0/3   is filled       ━━━━━━╸·········  n4 43%      n4 to be filled
 0/7   is handed over  ━━━━━━━━━━━━━━━━
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn json_keeps_its_contract() {
    let json = as_json(&Topology::of(Epoch(9), Vec::new(), None, Some(plan())));
    assert_eq!(json["plan"]["status"], "running");
    assert_eq!((&json["plan"]["done"], &json["plan"]["total"]), (&24.into(), &96.into()));
    let line = json!({ "class": 0, "partition": 3, "phase": "read-old", "undoes": false,
                       "fills": [{ "node": "n4", "done": 0.43 }], "waits_for": "n4 to be filled" });
    assert_eq!(json["plan"]["under_way"][0], line);
    let none = as_json(&Topology::of(Epoch(9), Vec::new(), None, None));
    assert_eq!((&none["plan"], &none["epoch"]), (&Json::Null, &9.into()));
}
