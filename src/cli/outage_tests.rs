//! What people and scripts read of an outage that is known.

use super::*;
use crate::client::{Epoch, OutageUnit};

fn outage() -> Outage {
    let line = OutageLine::of("default", (3, 2, 2), (16, 12, 12, 4));
    let reason = OutageReason::of("writes", "4 of 16 partitions of table default ..", 4);
    let unit = OutageUnit { class: 0, partition: 7, writes: true, reads: true, lost: false };
    Outage::of(Epoch(9), vec!["n2".to_owned()], (vec![reason], vec![line], vec![unit]))
}

#[test]
fn people_read_what_is_lost_and_who_is_down() {
    let text = as_text(&outage(), Duration::from_secs(3600), false);
    assert!(text.starts_with("If n2 were gone; n3 does not answer already:\n"), "{text}");
    assert!(text.contains("default") && text.contains("3/2/2"), "{text}");
    assert!(text.contains("loses: 4 of 16 partitions of table default .. (0/7 ..)"), "{text}");
    assert!(text.contains("n2: no reserved node is free"), "{text}");
    assert!(text.contains("it is not known what is written"), "{text}");
}

#[test]
fn scripts_read_whether_it_is_safe() {
    let json = as_json(&outage());
    assert_eq!((&json["safe"], &json["epoch"]), (&false.into(), &9.into()));
    assert_eq!(json["tables"][0]["writable"], 12);
    assert_eq!(
        json["units"][0],
        json!({
            "class": 0, "partition": 7, "writes": true, "reads": true, "lost": false
        })
    );
    assert_eq!(json["hint_bytes"], Json::Null);
}
