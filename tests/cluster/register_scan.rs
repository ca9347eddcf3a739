//! Scans and exports of a linearizable table over real processes, while an owner is killed and comes back.

use std::collections::BTreeMap;
use std::pin::pin;

use roundtable::client::{Quorum, TableKind};
use tokio_stream::StreamExt;

use crate::fixture::{Cluster, kvctl};

const KEYS: usize = 120;

/// Puts a value of its own under each key in `range`, through one node.
async fn fill(cluster: &Cluster, node: usize, range: std::ops::Range<usize>, text: &str) {
    let client = cluster.client_of(node);
    let puts = range.map(|number| {
        let (key, value) = (format!("seat{number:03}"), format!("{text} {number}"));
        let put = client.put(key, value).table("seats");
        async move { put.await.unwrap() }
    });
    let mut all = tokio::task::JoinSet::new();
    puts.for_each(|put| drop(all.spawn(put)));
    while let Some(put) = all.join_next().await {
        put.unwrap();
    }
}

/// What a stream shows, in its order; `meanwhile` happens when a third has been read.
async fn walk(
    cluster: &mut Cluster,
    node: usize,
    meanwhile: impl FnOnce(&mut Cluster),
) -> Vec<(String, String)> {
    let client = cluster.client_of(node);
    let mut entries = pin!(client.scan().table("seats").page_size(10).entries());
    let (mut all, mut meanwhile) = (Vec::new(), Some(meanwhile));
    while let Some(entry) = entries.next().await {
        let entry = entry.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        all.push((text(&entry.key), text(&entry.value)));
        if all.len() > KEYS / 3
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile(cluster);
        }
    }
    all
}

fn expected(changed: usize) -> Vec<(String, String)> {
    let text = |number| if number < changed { "new" } else { "old" };
    (0..KEYS).map(|at| (format!("seat{at:03}"), format!("{} {at}", text(at)))).collect()
}

#[tokio::test]
async fn a_linearizable_table_is_scanned_and_exported_while_an_owner_is_killed_and_comes_back() {
    let mut cluster = Cluster::start().await;
    cluster.client().tables().create("seats").kind(TableKind::Linearizable).await.unwrap();
    fill(&cluster, 0, 0..KEYS, "old").await;
    // An owner is killed in the midst of it.
    let shown = walk(&mut cluster, 0, |cluster| cluster.nodes[2].kill()).await;
    assert_eq!(shown, expected(0));
    // What it misses, and what it is asked for when it is back.
    let changed = 90;
    fill(&cluster, 1, 0..changed, "new").await;
    cluster.nodes[2].start();
    cluster.ready().await;
    let shown = walk(&mut cluster, 2, |_| ()).await;
    assert_eq!(shown, expected(changed));
    // The export of one owner that was away, while the other goes.
    let file = cluster.dir().join("seats.ndjson");
    let file = file.to_str().unwrap();
    let endpoint = cluster.nodes[2].client.to_string();
    let args = ["-e", &endpoint, "-o", "json", "-t", "seats", "export", file];
    let going = async { cluster.nodes[1].kill() };
    let (export, ()) = tokio::join!(kvctl::run(&args, b""), going);
    let summary = export.succeeded().json();
    assert_eq!(summary["exported"], KEYS);
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines: BTreeMap<String, String> = lines
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("key"), text("value"))
        })
        .collect();
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), expected(changed));
    // Of two that are left both must answer, and one is not enough.
    let client = cluster.client_of(0);
    let mut pages = pin!(client.scan().table("seats").r(Quorum::One).pages());
    assert_eq!(pages.next().await.unwrap().unwrap_err().code(), "QUORUM_INVALID");
}

#[tokio::test]
async fn kvctl_scans_a_linearizable_table_and_imports_what_it_has_exported() {
    let cluster = Cluster::start().await;
    cluster.kvctl(&["table", "create", "seats", "--kind", "linearizable"]).await.succeeded();
    for (key, value) in [("12A", "Ada"), ("12B", "Grace"), ("13C", "")] {
        cluster.kvctl(&["-t", "seats", "put", key, value]).await.succeeded();
    }
    cluster.kvctl(&["-t", "seats", "del", "12B"]).await.succeeded();
    let scanned = cluster.kvctl(&["-t", "seats", "scan"]).await.succeeded();
    assert_eq!(scanned.text(), "12A\tAda\n13C\t\n");
    let back = cluster.kvctl(&["-t", "seats", "scan", "--keys-only", "--reverse"]).await;
    assert_eq!(back.succeeded().text(), "13C\n12A\n");
    let exported = cluster.kvctl(&["-t", "seats", "export", "-"]).await.succeeded();
    cluster.kvctl(&["table", "create", "copy", "--kind", "linearizable"]).await.succeeded();
    let endpoints = cluster.endpoints().join(",");
    let import = ["-e", &endpoints, "-t", "copy", "import", "-", "--format", "ndjson"];
    kvctl::run(&import, &exported.stdout).await.succeeded();
    let scanned = cluster.kvctl(&["-t", "copy", "scan", "--prefix", "12"]).await.succeeded();
    assert_eq!(scanned.text(), "12A\tAda\n");
    let weak = cluster.kvctl(&["-o", "json", "-t", "seats", "scan", "-r", "one"]).await;
    assert_eq!((weak.code, weak.error()["code"].as_str()), (Some(2), Some("QUORUM_INVALID")));
}
