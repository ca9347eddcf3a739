//! No request outlives its deadline: neither one that succeeds nor one that cannot.

use std::time::Duration;

use roundtable::wire::proto::v1 as pb;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::fixture::clock::now;
use crate::fixture::{Plan, wire};

/// What a loaded test machine may add.
const ALLOWANCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn no_request_outlives_its_deadline_though_its_owners_are_silent() {
    let plan = Plan::new().with("membership.suspect_after", "20s");
    let cluster = plan.with("membership.down_after", "30s").start().await;
    let kv = wire::kv(cluster.nodes[0].client).await;
    for node in 1..3 {
        cluster.nodes[node].signal(Signal::STOP);
    }
    let mut calls = JoinSet::new();
    for number in 0..60u32 {
        let mut kv = kv.clone();
        let timeout = Duration::from_millis(u64::from(number % 3 + 1) * 200);
        let key = bytes::Bytes::from(format!("key-{number}"));
        let header = wire::header("default", timeout);
        calls.spawn(async move {
            let started = now();
            // Once by the field, once by what gRPC itself says.
            let error = if number % 2 == 0 {
                let put = pb::PutRequest { header, key, ..Default::default() };
                kv.put(put).await.unwrap_err()
            } else {
                let mut get = tonic::Request::new(pb::GetRequest { key, ..Default::default() });
                get.set_timeout(timeout);
                kv.get(get).await.unwrap_err()
            };
            let took = now().duration_since(started);
            assert!(took < timeout + ALLOWANCE, "{took:?} of {timeout:?}: {error:?}");
            if let Some(detail) = wire::detail(&error) {
                let known = ["DEADLINE_EXCEEDED", "QUORUM_NOT_REACHED"];
                assert!(known.contains(&detail.code.as_str()), "{detail:?}");
            }
        });
    }
    calls.join_all().await;
    for node in 1..3 {
        cluster.nodes[node].signal(Signal::CONT);
    }
}
