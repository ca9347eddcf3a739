//! Input that no node may accept, and none may suffer from.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use roundtable::wire::proto::v1::error_detail::Applied;
use roundtable::wire::proto::v1::session_request::{Op, op};
use roundtable::wire::proto::v1::{self as pb};
use tonic::{Code, Status};

use crate::fixture::clock::within;
use crate::fixture::{Cluster, Plan, wire};

const KEY_MAX: usize = 4 << 10;
const VALUE_MAX: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

fn put(key: &[u8], value: usize) -> pb::PutRequest {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::from(vec![7; value]));
    pb::PutRequest { key, value, ..Default::default() }
}

/// Requests that are refused, and with which code.
fn bad_puts() -> Vec<(&'static str, pb::PutRequest)> {
    let on = |table: &str| pb::PutRequest { header: wire::header(table, PATIENCE), ..put(b"k", 1) };
    let w = |w| pb::PutRequest { w: wire::count(w), ..put(b"k", 1) };
    let unnamed = pb::Quorum { kind: Some(pb::quorum::Kind::Named(17)) };
    let attempt = pb::Attempt { request_id: Bytes::from_static(b"short"), ..Default::default() };
    vec![
        ("KEY_EMPTY", put(b"", 1)),
        ("KEY_TOO_LARGE", put(&[b'k'; KEY_MAX + 1], 1)),
        ("VALUE_TOO_LARGE", put(b"k", VALUE_MAX + 1)),
        ("QUORUM_INVALID", w(0)),
        ("QUORUM_INVALID", w(4)),
        ("QUORUM_INVALID", w(u32::MAX)),
        ("QUORUM_INVALID", pb::PutRequest { w: Some(unnamed), ..put(b"k", 1) }),
        ("REQUEST_MALFORMED", pb::PutRequest { attempt: Some(attempt), ..put(b"k", 1) }),
        ("REQUEST_MALFORMED", pb::PutRequest { ttl_ms: Some(99), ..put(b"k", 1) }),
        ("REQUEST_MALFORMED", pb::PutRequest { ttl_ms: Some(u64::MAX), ..put(b"k", 1) }),
        ("TABLE_UNKNOWN", on("nowhere")),
        ("TABLE_NAME_INVALID", on("No Such Name")),
        ("TABLE_NAME_INVALID", on(&"t".repeat(65))),
    ]
}

fn refused_as(status: &Status, code: &str) {
    let detail = wire::detail(status).unwrap_or_else(|| panic!("{code}: no detail: {status:?}"));
    assert_eq!(detail.code, code, "{detail:?}");
    assert_eq!(detail.applied(), Applied::No, "{detail:?}");
    assert!(!detail.retryable && !detail.message.is_empty(), "{detail:?}");
    assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{status:?}");
}

#[tokio::test]
async fn every_bad_request_has_its_own_error_and_the_node_serves_on() {
    let cluster = Cluster::start().await;
    let mut kv = wire::kv(cluster.nodes[0].client).await;
    for (code, request) in bad_puts() {
        refused_as(&kv.put(request).await.unwrap_err(), code);
        kv.put(put(b"good", 10)).await.unwrap();
    }
    let long = Bytes::from(vec![b'k'; KEY_MAX + 1]);
    let gets = [
        ("KEY_EMPTY", pb::GetRequest::default()),
        ("KEY_TOO_LARGE", pb::GetRequest { key: long, ..Default::default() }),
        (
            "QUORUM_INVALID",
            pb::GetRequest { key: "k".into(), r: wire::count(0), ..Default::default() },
        ),
        (
            "QUORUM_INVALID",
            pb::GetRequest { key: "k".into(), r: wire::count(9), ..Default::default() },
        ),
    ];
    for (code, request) in gets {
        refused_as(&kv.get(request).await.unwrap_err(), code);
    }
    refused_as(&kv.delete(pb::DeleteRequest::default()).await.unwrap_err(), "KEY_EMPTY");
    let scan = pb::ScanRequest { header: wire::header("nowhere", PATIENCE), ..Default::default() };
    refused_as(&kv.scan(scan).await.unwrap_err(), "TABLE_UNKNOWN");
    // The largest of everything is fine.
    kv.put(put(&[b'k'; KEY_MAX], VALUE_MAX)).await.unwrap();
    let key = Bytes::from(vec![b'k'; KEY_MAX]);
    let largest = kv.max_decoding_message_size(8 << 20);
    let got = largest.clone().get(pb::GetRequest { key, ..Default::default() }).await.unwrap();
    assert_eq!(got.into_inner().value.len(), VALUE_MAX);
}

#[tokio::test]
async fn bad_operations_of_a_session_fail_alone() {
    let cluster = Cluster::start().await;
    let mut kv = wire::kv(cluster.nodes[1].client).await;
    let bad = bad_puts();
    let mut ops: Vec<Op> = Vec::new();
    for (id, (_, request)) in (1..).zip(&bad) {
        ops.push(Op { id, op: Some(op::Op::Put(request.clone())) });
        ops.push(Op { id: id + 1000, op: Some(op::Op::Put(put(format!("{id}").as_bytes(), 10))) });
    }
    ops.push(Op { id: 500, op: None });
    let asked = ops.len();
    let requests = tokio_stream::iter([pb::SessionRequest { ops }]);
    let mut stream = kv.session(requests).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(batch) = within("answers", PATIENCE, stream.message()).await.unwrap() {
        answers.extend(batch.answers);
    }
    assert_eq!(answers.len(), asked, "each is answered, and the session ends after its last");
    for pb::session_response::Answer { id, answer } in answers {
        use pb::session_response::answer::Answer;
        match answer.unwrap() {
            Answer::Put(_) => assert!(id > 1000),
            Answer::Error(detail) => {
                let index = usize::try_from(id - 1).unwrap();
                let code = bad.get(index).map_or("REQUEST_MALFORMED", |(code, _)| code);
                assert_eq!((detail.code.as_str(), detail.applied()), (code, Applied::No), "{id}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_the_node_serves_on() {
    let cluster = Cluster::start().await;
    let address = cluster.nodes[0].client;
    let channel = wire::channel(address).await;
    // A field that claims more bytes than there are, a wrong wire type, noise.
    let noise: Vec<u8> =
        (0..2000u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    for bytes in [&b"\x12\xff\xff\xff\x7fkey"[..], b"\x10\x01", b"\xff\xff\xff\xff\xff", &noise] {
        for path in ["/roundtable.v1.Kv/Put", "/roundtable.v1.Kv/Get", "/roundtable.v1.Kv/Scan"] {
            let status = wire::call_raw(channel.clone(), path, bytes).await.unwrap_err();
            assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{status:?}");
        }
    }
    let unknown = wire::call_raw(channel.clone(), "/roundtable.v1.Kv/Nope", b"").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    let huge =
        wire::call_raw(channel, "/roundtable.v1.Kv/Put", &vec![0; 9 << 20]).await.unwrap_err();
    assert!(matches!(huge.code(), Code::OutOfRange | Code::ResourceExhausted), "{huge:?}");
    wire::kv(address).await.put(put(b"still", 5)).await.unwrap();
    assert!(cluster.nodes[0].readiness().await.unwrap().ready);
}

#[tokio::test]
async fn kvctl_refuses_bad_input_with_its_code_and_exit_2() {
    let cluster = Cluster::start().await;
    let [key, value] = [KEY_MAX + 1, VALUE_MAX + 1].map(|bytes| "x".repeat(bytes));
    let file = cluster.dir().join("value");
    fs::write(&file, value).unwrap();
    let file = format!("@{}", file.display());
    // What the command line itself can see it refuses without asking anybody.
    let cases: [(&str, &str, &[&str]); 9] = [
        ("USAGE", "key is empty", &["put", "", "v"]),
        ("USAGE", "key is empty", &["del", ""]),
        ("USAGE", "the limit is 4096 bytes", &["put", &key, "v"]),
        ("USAGE", "a quorum is at least 1", &["put", "k", "v", "-w", "0"]),
        ("USAGE", "the limit of 1048576 bytes", &["put", "k", &file]),
        ("QUORUM_INVALID", "w is 4", &["put", "k", "v", "-w", "4"]),
        ("QUORUM_INVALID", "r is 4", &["get", "k", "-r", "4"]),
        ("TABLE_UNKNOWN", "nowhere", &["-t", "nowhere", "get", "k"]),
        ("TABLE_NAME_INVALID", "No Name", &["-t", "No Name", "put", "k", "v"]),
    ];
    for (code, text, args) in cases {
        let done = cluster.kvctl(&[&["-o", "json"], args].concat()).await;
        assert_eq!(done.code, Some(2), "{code}: {done:?}");
        let error = done.error();
        assert_eq!((&error["code"], &error["applied"]), (&code.into(), &"no".into()));
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
    assert_eq!(cluster.kvctl(&["get", "k"]).await.code, Some(3), "nothing was written");
}

#[tokio::test]
async fn five_hundred_calls_given_up_at_once_disturb_nobody_on_their_connection() {
    let cluster = Plan::new().with("membership.down_after", "60s").start().await;
    let channel = wire::channel(cluster.nodes[0].client).await;
    let kv = pb::kv_client::KvClient::new(channel);
    // All owners must answer, and one never will.
    cluster.nodes[2].signal(rustix::process::Signal::STOP);
    for _ in 0..3 {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..500 {
            let mut kv = kv.clone();
            let header = wire::header("default", Duration::from_secs(30));
            let w = wire::count(3);
            let request = pb::PutRequest { header, w, ..put(format!("k{number}").as_bytes(), 10) };
            let patience = Duration::from_millis(50);
            calls.spawn(
                async move { tokio::time::timeout(patience, kv.put(request)).await.is_err() },
            );
        }
        let given_up = calls.join_all().await.into_iter().filter(|late| *late).count();
        assert!(given_up > 400, "{given_up}");
        for _ in 0..5 {
            kv.clone().put(put(b"innocent", 10)).await.unwrap();
        }
    }
    cluster.nodes[2].signal(rustix::process::Signal::CONT);
}
