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
    assert_eq!((&json["stuck"], &json["custody"]), (&json!([]), &json!([])));
    let none = as_json(&Topology::of(Epoch(9), Vec::new(), None, None));
    assert_eq!((&none["plan"], &none["epoch"]), (&Json::Null, &9.into()));
}

#[test]
fn what_does_not_go_on_is_named_with_whom_it_waits_for_and_what_would_help() {
    let mut topology = Topology::of(Epoch(9), Vec::new(), None, Some(plan()));
    assert_eq!(stuck_text(&topology, false), "");
    let name = |text: &str| text.parse::<NodeName>().unwrap();
    topology.stuck.push(StuckLine {
        unit: Unit { class: ClassId(0), partition: Partition(3) },
        why: "to fill an owner takes 2 others that are complete: 1 answer".to_owned(),
        waits_for: vec![name("n1"), name("n2")],
        down: vec![name("n2")],
    });
    topology.custody.push("n3 keeps 4 writes for n2".to_owned());
    let text = stuck_text(&topology, false);
    for part in [
        "1 units do not go on by themselves",
        "0/3   n1, n2",
        "takes 2 others",
        "kvctl plan accept-loss --all --gone n2\n",
        "\nn3 keeps 4 writes for n2\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    let json = as_json(&topology);
    assert_eq!(json["stuck"][0]["unit"], "0/3");
    assert_eq!(json["stuck"][0]["down"], json!(["n2"]));
    assert_eq!(json["stuck"][0]["waits_for"], json!(["n1", "n2"]));
}
