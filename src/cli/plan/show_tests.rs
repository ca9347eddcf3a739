//! What a plan looks like that is known.

use std::time::Duration;

use super::*;
use crate::client::{Epoch, NodeName, Unit};
use crate::types::{ClassId, Partition};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn share(node: &str, (before, after): (u32, u32)) -> ShareLine {
    ShareLine {
        node: name(node),
        before,
        after,
        bytes_before: u64::from(before) << 20,
        bytes_after: u64::from(after) << 20,
        bytes_peak: u64::from(before.max(after)) << 20,
    }
}

pub(in crate::cli) fn draft() -> DraftReply {
    let line = |partition| MoveLine {
        unit: Unit { class: ClassId(0), partition: Partition(partition) },
        from: ["n1", "n2", "n3"].map(name).to_vec(),
        to: ["n1", "n2", "n4"].map(name).to_vec(),
        bytes: 1 << 20,
        keys: 700,
    };
    DraftReply {
        hash: 0x3f2a_91c0 << 96,
        reasons: Vec::new(),
        warnings: vec!["2 units have no owner to spare".to_owned()],
        moves: vec![line(3), line(7)],
        move_count: 2,
        shares: vec![
            share("n1", (64, 64)),
            share("n2", (64, 64)),
            share("n3", (64, 62)),
            share("n4", (0, 2)),
        ],
        links: vec![LinkLine { from: name("n1"), to: name("n4"), units: 2, bytes: 2 << 20 }],
        duration: Duration::from_millis(3500),
    }
}

fn topology(draft: Option<DraftReply>) -> Topology {
    let staged = draft.iter().map(|_| "n4 joins".to_owned()).collect();
    Topology::of(Epoch(12), staged, draft, None)
}

#[test]
fn people_see_shares_units_links_and_the_next_command() {
    let text = as_text(&topology(Some(draft())), false);
    let expected = "\
Plan 3f2a91c0000000000000000000000000 on epoch 12
  n4 joins

 NODE  NOW               THEN              COPIES  THEN  CHANGE      DISK      THEN  AT MOST MEANWHILE
 n1    ━━━━━━━━━━━━━━━━  ━━━━━━━━━━━━━━━━      64    64       =  64.0 MiB  64.0 MiB           64.0 MiB
 n2    ━━━━━━━━━━━━━━━━  ━━━━━━━━━━━━━━━━      64    64       =  64.0 MiB  64.0 MiB           64.0 MiB
 n3    ━━━━━━━━━━━━━━━━  ━━━━━━━━━━━━━━━╸      64    62      -2  64.0 MiB  62.0 MiB           64.0 MiB
 n4    ················  ╸···············       0     2      +2       0 B   2.0 MiB            2.0 MiB

2 units move: about 2.0 MiB, 1 400 keys, 3s under the throttle
 FROM  TO  UNITS    BYTES
 n1    n4      2  2.0 MiB

warning: 2 units have no owner to spare
`kvctl plan commit 3f2a91c0` carries it out
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn why_a_plan_cannot_be_carried_out_is_all_that_is_shown_of_it() {
    let reasons = vec!["n is 3, and 2 members would stay".to_owned()];
    let text = as_text(&topology(Some(DraftReply { reasons, ..draft() })), false);
    assert!(text.contains("It cannot be carried out:\n  n is 3, and 2 members would stay\n"));
    assert!(!text.contains("commit"), "{text}");
    assert!(as_text(&topology(None), false).starts_with("nothing is staged"));
}

#[test]
fn json_keeps_its_contract() {
    let json = as_json(&topology(Some(draft())));
    assert_eq!(json["hash"], "3f2a91c0000000000000000000000000");
    assert_eq!((&json["feasible"], &json["reasons"]), (&true.into(), &json!([])));
    let line = json!({ "class": 0, "partition": 3, "from": ["n1", "n2", "n3"],
                       "to": ["n1", "n2", "n4"], "bytes": 1 << 20, "keys": 700 });
    assert_eq!(json["moves"][0], line);
    assert_eq!((&json["shares"][3]["before"], &json["shares"][3]["after"]), (&0.into(), &2.into()));
    assert_eq!(json["links"][0], json!({ "from": "n1", "to": "n4", "units": 2, "bytes": 2 << 20 }));
    assert_eq!((&json["duration_s"], &json["move_count"]), (&3.5.into(), &2.into()));
    let none = as_json(&topology(None));
    assert_eq!((&none["feasible"], &none["hash"]), (&false.into(), &Json::Null));
    assert_eq!(none["reasons"], json!(["nothing is staged"]));
}
