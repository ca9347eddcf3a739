//! What operators and their tools see: HTTP, metrics, gRPC health, reflection.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::fixture::clock::until;
use crate::fixture::node::Place;
use crate::fixture::{Cluster, Plan, http, place, wire};

/// Reads a text of metrics as Prometheus does; returns the samples.
fn parse(text: &str) -> Vec<(String, f64)> {
    const TYPES: [&str; 6] = ["counter", "gauge", "histogram", "summary", "unknown", "info"];
    let is_name = |name: &str| {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let mut families = BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        assert!(samples.last() != Some(&("EOF".to_owned(), 0.0)), "after the end: {line}");
        if let Some(comment) = line.strip_prefix("# ") {
            match comment.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["EOF"] => samples.push(("EOF".to_owned(), 0.0)),
                ["TYPE", name, kind] => {
                    assert!(is_name(name) && TYPES.contains(&kind), "{line}");
                    assert!(families.insert(name.to_owned()), "twice: {line}");
                }
                ["HELP" | "UNIT", name, _] => assert!(is_name(name), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(is_name(name) && labels.ends_with('}'), "{line}");
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, quoted) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && quoted.starts_with('"'), "{line}");
        }
        let ends = ["", "_total", "_sum", "_count", "_bucket", "_info"];
        let mut bases = ends.iter().filter_map(|end| name.strip_suffix(end));
        assert!(bases.any(|base| families.contains(base)), "no TYPE before {line}");
        samples.push((series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}"))));
    }
    assert_eq!(samples.pop(), Some(("EOF".to_owned(), 0.0)), "a text of metrics ends with EOF");
    samples
}

#[tokio::test]
async fn http_tells_life_readiness_and_metrics_that_count() {
    let cluster = Cluster::start().await;
    let address = cluster.nodes[0].http;
    let alive = http::get(address, "/healthz").await.unwrap();
    assert_eq!((alive.status, alive.body.trim()), (200, "ok"));
    let ready = http::get(address, "/readyz").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((ready.status, &json["ready"]), (200, &true.into()));
    assert_eq!(http::get(address, "/nowhere").await.unwrap().status, 404);
    let page = http::get(address, "/").await.unwrap();
    assert!(page.status == 200 && page.body.contains("n1"), "{page:?}");
    for told in ["all 3 answer", "no damage found", "none kept for others"] {
        assert!(page.body.contains(told), "{told}: {page:?}");
    }

    let before = http::get(address, "/metrics").await.unwrap();
    assert!(before.head.to_lowercase().contains("content-type: application/openmetrics-text"));
    let before = parse(&before.body);
    let client = cluster.client_of(0);
    for number in 0..10 {
        client.put(format!("key-{number}"), "value").await.unwrap();
    }
    let after = parse(&http::get(address, "/metrics").await.unwrap().body);
    let puts = |samples: &[(String, f64)]| -> f64 {
        let is_put = |name: &str| name.contains("put") && name.contains("_total");
        samples.iter().filter(|(name, _)| is_put(name)).map(|(_, value)| value).sum()
    };
    assert!(puts(&after) - puts(&before) >= 10.0, "{after:?}");
}

#[tokio::test]
async fn a_process_that_waits_to_be_let_in_is_alive_and_says_what_it_waits_for() {
    let mut cluster = Plan::new().prepare().await;
    let late = cluster.ask_to_join("n4", 0, Place::on(place::address()));
    let said = cluster.nodes[late].refuses("has not let this node in").await;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["ready"], &json["phase"]), (&false.into(), &"joining".into()));
    let address = cluster.nodes[late].http;
    let alive = http::get(address, "/healthz").await.unwrap();
    assert_eq!((alive.status, alive.body.trim()), (200, "ok"));
    assert!(!parse(&http::get(address, "/metrics").await.unwrap().body).is_empty());
    let page = http::get(address, "/").await.unwrap();
    assert!(page.status == 200 && page.body.contains("has not let this node in"), "{page:?}");
    for node in 0..late {
        cluster.nodes[node].start();
    }
    // The same port tells of the node as soon as there is one.
    cluster.ready().await;
    let page = http::get(address, "/").await.unwrap();
    assert!(page.body.contains("<h1>n4</h1>"), "{page:?}");
}

#[tokio::test]
async fn grpc_health_follows_readiness() {
    let mut cluster = Plan::new().prepare().await;
    cluster.nodes[0].start();
    cluster.nodes[0].refuses("founders").await;
    let mut health = HealthClient::new(wire::channel(cluster.nodes[0].client).await);
    let mut status = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.unwrap().into_inner().status()
    };
    assert_eq!(status("").await, ServingStatus::NotServing);
    assert_eq!(status("roundtable.v1.Kv").await, ServingStatus::NotServing);
    assert_eq!(status("live").await, ServingStatus::Serving);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    cluster.ready().await;
    until("health says so", Duration::from_secs(5), async || {
        let serving = [status("").await, status("roundtable.v1.Kv").await];
        (serving == [ServingStatus::Serving; 2]).then_some(())
    })
    .await;
}

macro_rules! lists_services {
    ($channel:expr, $version:ident) => {{
        use pb::server_reflection_client::ServerReflectionClient;
        use pb::server_reflection_request::MessageRequest;
        use pb::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::$version as pb;
        let request = pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new($channel);
        let stream = client.server_reflection_info(tokio_stream::iter([request])).await;
        let answer = stream.unwrap().into_inner().message().await.unwrap().unwrap();
        match answer.message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect::<BTreeSet<_>>()
            }
            other => panic!("{other:?}"),
        }
    }};
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_of_its_versions() {
    let cluster = Cluster::start().await;
    let channel = wire::channel(cluster.nodes[0].client).await;
    for services in [lists_services!(channel.clone(), v1), lists_services!(channel, v1alpha)] {
        for wanted in ["roundtable.v1.Kv", "roundtable.admin.v1.Admin", "grpc.health.v1.Health"] {
            assert!(services.contains(wanted), "{wanted} is not in {services:?}");
        }
    }
}
