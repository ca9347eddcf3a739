//! What the table and the JSON of a known cluster look like.

use std::time::Duration;

use super::super::grid::{grouped, share};
use super::{as_json, as_table};
use crate::client::{Epoch, MirrorStatus, NodeId, NodeStatus, ReserveStatus, Status, UnwellBy};

fn node(id: u32, state: &str, role: &str) -> NodeStatus {
    NodeStatus {
        id: NodeId(id),
        name: format!("n{id}"),
        address: format!("127.0.0.1:74{id}0"),
        peer_address: format!("127.0.0.1:74{id}1"),
        zone: "a".to_owned(),
        state: state.to_owned(),
        role: role.to_owned(),
        partitions: 128,
        replica_partitions: 256,
        disk_bytes: if state == "alive" { 412 << 20 } else { 0 },
        tree_bytes: 160 << 10,
        tree_file_bytes: 90 << 10,
        tree_leaves: 2_000,
        hints: u64::from(id) * 1000,
        clock_offset_ns: 0,
        serving: state == "alive",
        unwell: Vec::new(),
        down_for: None,
        relieved_at: None,
        mirror: None,
    }
}

fn unwell_by(by: &str, why: &str, ms: u64) -> UnwellBy {
    UnwellBy { by: by.to_owned(), why: why.to_owned(), age: Duration::from_millis(ms) }
}

/// The same cluster while three nodes leave `n2` out, itself among them.
fn unwell() -> Status {
    let mut status = cluster();
    status.nodes[1].unwell = vec![
        unwell_by("n1", "stalled", 12_345),
        unwell_by("n2", "slow", 900),
        unwell_by("n3", "stalled", 61_000),
    ];
    status
}

fn cluster() -> Status {
    Status {
        cluster_name: "dev".to_owned(),
        cluster_id: "00".to_owned(),
        epoch: Epoch(3),
        partitions: 256,
        ring: Vec::new(),
        me: "n1".to_owned(),
        nodes: vec![node(1, "alive", "active"), node(2, "down", "leaving")],
        uptime: Duration::from_secs(1),
        unavailable: vec![7],
        reserve: None,
        alarms: Vec::new(),
        growth: None,
    }
}

#[test]
fn the_table_shows_each_node_and_what_is_wrong() {
    let expected = "\
Cluster dev   epoch 3   2 nodes (1 up, 1 not up)   256 partitions   seen by n1
 ST  NODE  ADDRESS         ZONE  PARTS  COPIES   OWNS       DISK  HINTS
 UN  n1    127.0.0.1:7410  a       128     256  50.0%  412.0 MiB  1 000
 DL  n2    127.0.0.1:7420  a       128     256  50.0%          –  2 000
(S: U up, S suspect, D down; T: N normal, R reserved, J joining, L leaving)
hint: n2 is down; 3 000 hints are held
warning: 1 of 256 partitions lack a live quorum
";
    assert_eq!(as_table(&cluster(), false, Some(100)), expected);
}

#[test]
fn who_leaves_a_node_out_is_told_below_the_table_and_in_json() {
    let text = as_table(&unwell(), false, Some(100));
    for line in [
        "warning: reads leave n2 out: it has left a request unanswered for 300 ms (n1 for 12s, n3 for \
         1m 1s)\n",
        "warning: reads leave n2 out: it takes eight times as long as the others (itself for 0s)\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let json = as_json(&unwell());
    assert_eq!(json["nodes"][0]["unwell"], serde_json::json!([]));
    let first = serde_json::json!({ "by": "n1", "why": "stalled", "age_ms": 12_345 });
    assert_eq!(json["nodes"][1]["unwell"][0], first);
}

#[test]
fn colour_adds_nothing_but_escapes() {
    let colored = as_table(&cluster(), true, Some(100));
    assert!(colored.contains("\u{1b}["));
}

#[test]
fn json_has_the_fields_scripts_rely_on() {
    let json = as_json(&cluster());
    assert_eq!((&json["cluster"], &json["epoch"]), (&"dev".into(), &3.into()));
    let node = &json["nodes"][1];
    for (field, expected) in [("name", "n2"), ("state", "down"), ("role", "leaving")] {
        assert_eq!(node[field], expected, "{field}");
    }
    for field in ["id", "partitions", "replica_partitions", "disk_bytes", "hints"] {
        assert!(node[field].is_u64(), "{field}");
    }
    for (field, expected) in [("bytes", 160 << 10), ("file_bytes", 90 << 10), ("leaves", 2_000)] {
        assert_eq!(node["trees"][field], expected, "{field}");
    }
    assert!(node["address"].is_string() && node["zone"].is_string());
}

#[test]
fn numbers_are_easy_on_the_eye() {
    assert_eq!([grouped(7), grouped(1204), grouped(1_000_000)], ["7", "1 204", "1 000 000"]);
    assert_eq!([share(1, 3), share(0, 0), share(3, 3)], ["33.3%", "–", "100.0%"]);
}

#[test]
fn a_reserve_that_is_short_is_an_alarm() {
    let mut reserve = ReserveStatus::default();
    (reserve.p, reserve.confidence, reserve.members) = (2.0 / 365.0, 0.99, 1000);
    (reserve.needed, reserve.present) = (12, 11);
    (reserve.loss_low, reserve.loss_high) = (1.0e-5, 2.0e-5);
    let mut status = cluster();
    status.reserve = Some(reserve);
    let text = as_table(&status, false, Some(120));
    assert!(text.contains("reserve: 12 needed, 11 present (1000 nodes, p = 0.00548"), "{text}");
    assert!(text.contains("gone at once: 1.00e-5..2.00e-5"), "{text}");
    assert!(
        text.contains("warning: too few nodes are reserved: 12 are needed, 11 answer"),
        "{text}"
    );
    let json = as_json(&status);
    assert_eq!((&json["reserve"]["needed"], &json["reserve"]["present"]), (&12.into(), &11.into()));
    status.reserve = Some(ReserveStatus { present: 12, loss_low: 2.0e-5, ..reserve });
    let text = as_table(&status, false, Some(120));
    assert!(!text.contains("too few nodes") && text.contains("gone at once: 2.00e-5\n"), "{text}");
}

#[test]
fn what_a_reserved_node_mirrors_is_told_below_the_table_and_in_json() {
    let mut status = cluster();
    let oldest = Duration::from_millis(125_700);
    let mirror = MirrorStatus { units: 1000, wanted: 1200, bytes: 3 << 20, oldest };
    status.nodes[0].mirror = Some(mirror);
    let text = as_table(&status, false, Some(100));
    let line = "mirror: n1 keeps 1 000 of 1 200 units (3.0 MiB), each at most 2m 5s old\n";
    assert!(text.contains(line), "{text}");
    let json = as_json(&status);
    let expected = serde_json::json!({
        "units": 1000, "wanted": 1200, "bytes": 3 << 20, "oldest_ms": 125_700
    });
    assert_eq!(json["nodes"][0]["mirror"], expected);
    assert!(json["nodes"][1]["mirror"].is_null());
}
