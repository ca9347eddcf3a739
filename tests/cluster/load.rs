//! A client that floods a node, and another one that only wants to work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use roundtable::wire::proto::v1 as pb;

use crate::fixture::{Plan, wire};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests the one client always has in flight: several times what the node takes in.
const FLOOD: usize = 200;

fn request(key: String, bytes: usize) -> pb::PutRequest {
    let header = wire::header("default", TIMEOUT);
    pb::PutRequest { header, key: key.into(), value: vec![7; bytes].into(), ..Default::default() }
}

#[tokio::test]
async fn a_client_that_floods_a_node_does_not_make_the_requests_of_another_fail() {
    let cluster = Plan::new().with("request.max_in_flight", 64).start().await;
    let node = cluster.nodes[0].client;
    let flood = wire::kv(node).await;
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let flooding: Vec<_> = (0..FLOOD)
        .map(|i| {
            let (mut kv, over, refused) = (flood.clone(), over.clone(), refused.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let Err(status) = kv.put(request(format!("flood-{i}"), 2000)).await else {
                        continue;
                    };
                    let detail = wire::detail(&status).expect("the node says why");
                    assert_eq!(detail.code, "OVERLOADED", "{detail:?}");
                    assert_eq!(detail.bound.as_deref(), Some("client"), "{detail:?}");
                    assert!(detail.retry_after_ms.is_some());
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    // It floods the node from here on: it has been refused.
    let started = crate::fixture::clock::until("the flood is refused", TIMEOUT, async || {
        (refused.load(Ordering::Relaxed) > 100).then_some(())
    });
    started.await;
    let mut other = wire::kv(node).await;
    for i in 0..100 {
        let answer = other.put(request(format!("work-{i}"), 100)).await;
        assert!(answer.is_ok(), "request {i} fails: {answer:?}");
    }
    over.store(true, Ordering::Relaxed);
    for task in flooding {
        task.await.unwrap();
    }
    let page = crate::fixture::http::get(cluster.nodes[0].http, "/metrics").await.unwrap();
    let counted =
        |bound| page.body.contains(&format!("kv_operations_refused_total{{bound=\"{bound}\"}} 0"));
    assert!(!counted("client") && counted("node"), "{}", page.body);
}
