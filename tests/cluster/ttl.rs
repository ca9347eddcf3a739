//! Values that expire, over real processes: on every node, through restarts, and without uncovering
//! what they replaced.

use std::time::Duration;

use roundtable::client::{Client, Quorum};

use crate::fixture::Cluster;
use crate::fixture::clock::until;

const SOON: Duration = Duration::from_secs(10);

async fn read(client: &Client, key: &str) -> Option<String> {
    let reply = client.get(key.to_owned()).r(Quorum::All).await.unwrap();
    reply.value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[tokio::test]
async fn a_value_expires_everywhere_also_where_a_node_restarts_or_missed_it() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    client.put("k", "old").await.unwrap();
    client.put("stays", "here").ttl(Duration::from_secs(3600)).await.unwrap();
    cluster.nodes[2].kill();
    let life = Duration::from_secs(2);
    let put = client.put("k", "new").ttl(life).await.unwrap();
    let found = client.get("k").await.unwrap();
    assert_eq!(found.value.as_deref(), Some(&b"new"[..]));
    assert_eq!(found.expires, Some(put.stamp.time.plus(life)));
    cluster.nodes[1].kill();
    for node in [1, 2] {
        cluster.nodes[node].start();
    }
    cluster.ready().await;
    cluster.all_alive().await;
    let gone = || async {
        match read(&client, "k").await.as_deref() {
            None => Some(()),
            Some("new") => None,
            Some(other) => panic!("{other} is back"),
        }
    };
    until("the value expires", SOON, gone).await;
    for node in 0..3 {
        let client = cluster.client_of(node);
        assert_eq!(read(&client, "k").await, None, "through node {node}");
        assert_eq!(read(&client, "stays").await.as_deref(), Some("here"));
        // Two that may not have been asked yet: the old value stays covered there too.
        let weaker = client.get("k").r(Quorum::Majority).await.unwrap();
        assert_eq!(weaker.value, None);
    }
}

#[tokio::test]
async fn kvctl_sets_times_to_live_on_tables_and_values() {
    let cluster = Cluster::start().await;
    let made = ["-o", "json", "table", "create", "short", "--ttl", "1h"];
    assert_eq!(cluster.kvctl(&made).await.succeeded().json()["ttl_ms"], 3_600_000);
    let put = |args: &'static [&'static str]| {
        let cluster = &cluster;
        async move {
            cluster.kvctl(&[&["-t", "short", "put"], args].concat()).await.succeeded();
            let got = cluster.kvctl(&["-t", "short", "-o", "json", "get", args[0]]).await;
            got.succeeded().json()["expires_ms"].as_u64()
        }
    };
    let of_table = put(&["a", "v"]).await.expect("the table's hour");
    let own = put(&["b", "v", "--ttl", "1d"]).await.expect("a day of its own");
    assert_eq!(put(&["c", "v", "--no-ttl"]).await, None);
    let day_less_hour = 23 * 3_600_000;
    assert!((own - of_table).abs_diff(day_less_hour) < 60_000, "{of_table} {own}");
    cluster.kvctl(&["table", "alter", "short", "--no-ttl"]).await.succeeded();
    assert_eq!(put(&["d", "v"]).await, None);
    let still = cluster.kvctl(&["-t", "short", "-o", "json", "get", "a"]).await.succeeded();
    assert_eq!(still.json()["expires_ms"], of_table, "what is written keeps its time");
    for ttl in ["50ms", "4000d"] {
        let bad = cluster.kvctl(&["-o", "json", "put", "e", "v", "--ttl", ttl]).await;
        assert_eq!((bad.code, &bad.error()["applied"]), (Some(2), &"no".into()), "{bad:?}");
        assert!(bad.error()["message"].as_str().unwrap().contains("ttl_ms"), "{bad:?}");
    }
    assert_eq!(cluster.kvctl(&["get", "e"]).await.code, Some(3));
}
