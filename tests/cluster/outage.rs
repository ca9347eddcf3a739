//! What operators ask before they stop a node, of a running cluster.

use std::time::Duration;

use crate::fixture::clock::until;
use crate::fixture::kvctl::Done;
use crate::fixture::{Cluster, Plan, http};

async fn ctl(cluster: &Cluster, line: &str) -> Done {
    let words: Vec<&str> = ["-o", "json"].into_iter().chain(line.split(' ')).collect();
    cluster.kvctl(&words).await
}

fn kinds(json: &serde_json::Value) -> Vec<&str> {
    let reasons = json["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn one_of_three_may_stop_until_another_has_died() {
    let mut cluster = Cluster::start().await;
    let safe = ctl(&cluster, "safe-to stop n2").await.succeeded().json();
    assert_eq!((&safe["safe"], kinds(&safe)), (&true.into(), vec![]));

    let both = ctl(&cluster, "safe-to stop n2 n3").await;
    assert_eq!((both.code, &both.error()["code"]), (Some(4), &"NOT_SAFE".into()));
    assert_eq!(kinds(&both.json()), ["writes", "reads", "council"]);

    cluster.nodes[2].kill();
    let unsafe_now =
        until("n2 must stay, now that n3 is dead", Duration::from_secs(20), async || {
            let endpoint = cluster.endpoints()[0].clone();
            let done =
                cluster.kvctl(&["-e", &endpoint, "-o", "json", "safe-to", "stop", "n2"]).await;
            (done.code == Some(4)).then(|| done.json())
        })
        .await;
    assert_eq!(unsafe_now["down"], serde_json::json!(["n3"]));
    assert_eq!(kinds(&unsafe_now), ["writes", "reads", "council"]);
}

#[tokio::test]
async fn whatif_counts_partitions_table_by_table_and_draws_them() {
    let cluster = Plan::new().of(4).and_reserved(1).start().await;
    cluster.all_alive().await;
    ctl(&cluster, "table create locks --kind linearizable").await.succeeded();
    let svg = cluster.dir().join("ring.svg");
    let line = format!("whatif --kill n1,n2 --svg {}", svg.display());
    let json = ctl(&cluster, &line).await.succeeded().json();
    let tables = json["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 2, "{json}");
    for table in tables {
        let count = |field: &str| table[field].as_u64().unwrap();
        assert!(count("writable") < count("partitions"), "{table}");
        assert_eq!((count("lost"), count("writable")), (0, count("readable")), "{table}");
    }
    let replaced = json["replaced"].as_array().unwrap();
    let by = |node: usize| replaced[node]["by"].as_str();
    assert_eq!((replaced.len(), by(0).is_some(), by(1)), (2, true, None), "one is reserved");
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("cannot be read"));

    let unknown = ctl(&cluster, "whatif --kill n9").await;
    assert_eq!(unknown.error()["code"], "MEMBER_UNKNOWN");
    let nobody = ctl(&cluster, "safe-to stop --zone nowhere").await;
    assert_eq!(nobody.error()["code"], "MEMBER_UNKNOWN");
}

#[tokio::test]
async fn the_reserve_is_told_by_status_capacity_and_metrics() {
    let plan = Plan::new().and_reserved(1).with("orchestrator.failure_probability", 0.1);
    let cluster = plan.start().await;
    cluster.all_alive().await;
    // 0.729 of the time none of three is gone, 0.972 one at most, 0.999 two.
    let told = ctl(&cluster, "capacity --running").await.succeeded().json();
    assert_eq!(
        (&told["nodes"], &told["needed"], &told["present"]),
        (&3.into(), &2.into(), &1.into())
    );
    let close = |value: f64| (value - 0.001).abs() < 1e-9;
    assert!(close(told["loss"]["low"].as_f64().unwrap()), "{told}");
    let status = ctl(&cluster, "status").await.succeeded().json();
    assert_eq!(status["reserve"], told);
    let table = cluster.kvctl(&["-o", "table", "status"]).await.succeeded();
    let alarm = "warning: too few nodes are reserved: 2 are needed, 1 answer";
    assert!(table.text().contains(alarm), "{table:?}");

    let address = cluster.nodes[0].http;
    let metrics = http::get(address, "/metrics").await.unwrap().body;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches("{}").trim().parse::<f64>().unwrap())
    };
    assert_eq!((value("kv_reserve_needed"), value("kv_reserve_present")), (Some(2.0), Some(1.0)));
    assert!(close(value("kv_loss_probability").unwrap()));
    let page = http::get(address, "/").await.unwrap().body;
    assert!(page.contains("2 needed, 1 present"), "{page}");
}

#[tokio::test]
async fn the_hottest_key_and_its_partition_are_named_over_all_nodes() {
    let cluster = Cluster::start().await;
    for node in 0..3 {
        let client = cluster.client_of(node);
        for number in 0..20 {
            client.put("hot", "x".repeat(100)).await.unwrap();
            client.get(format!("cold{number}")).await.unwrap();
        }
    }
    let json = ctl(&cluster, "hot --limit 3").await.succeeded().json();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 3);
    let (key, partition) = (&json["keys"][0], &json["partitions"][0]);
    assert_eq!((&key["key"], &key["error"]), (&"hot".into(), &0.0.into()), "{json}");
    let place = ctl(&cluster, "locate hot").await.succeeded().json();
    assert_eq!(
        (&partition["partition"], &key["partition"]),
        (&place["partition"], &place["partition"])
    );
    assert!(partition["share"].as_f64().unwrap() >= 0.49, "{json}");
    assert!(partition["writes"].as_f64() > partition["reads"].as_f64(), "{json}");
    let only = ctl(&cluster, "hot --node n2 --partitions").await.succeeded().json();
    assert_eq!(
        (&only["nodes"], &only["keys"]),
        (&serde_json::json!(["n2"]), &serde_json::json!([]))
    );
}
