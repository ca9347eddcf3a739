//! The import of a package list while a node is killed and started again.

use std::fs;
use std::time::Duration;

use roundtable::client::Quorum;
use tokio::task::JoinSet;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, kvctl};

const RECORDS: usize = 4000;

/// A record as a distribution describes its packages: fields, a folded description, other
/// alphabets, quotes and tabs. Between 300 and 2500 bytes.
fn record(number: usize, rng: &mut fastrand::Rng) -> (String, String) {
    const STEMS: [&str; 8] =
        ["lib", "python3-", "golang-", "fonts-", "r-cran-", "g++-", "x11-", ""];
    const WORDS: [&str; 12] = [
        "fast",
        "library",
        "über",
        "\"quoted\"",
        "データ",
        "C:\\dir",
        "für",
        "tool\tbox",
        "the",
        "of",
        "documentation",
        "shared",
    ];
    let name = format!("{}{:05}{}", STEMS[number % 8], number, ["", "-dev", "-doc"][number % 3]);
    let mut text = format!(
        "Package: {name}\nVersion: {}.{}-{}\nInstalled-Size: {}\nArchitecture: amd64\n",
        rng.u8(..20),
        rng.u8(..100),
        rng.u8(1..5),
        rng.u32(10..100_000)
    );
    text.push_str("Depends: libc6 (>= 2.34), zlib1g (>= 1:1.2.0)\nDescription: ");
    for _ in 0..rng.usize(1..30) {
        for _ in 0..rng.usize(3..12) {
            text.push_str(rng.choice(WORDS).unwrap());
            text.push(' ');
        }
        text.push_str("\n .\n ");
    }
    (name, text)
}

#[tokio::test]
async fn a_package_list_is_imported_whole_while_a_node_is_killed_and_started() {
    let mut cluster = Cluster::start().await;
    let mut rng = fastrand::Rng::with_seed(1);
    let records: Vec<(String, String)> = (0..RECORDS).map(|at| record(at, &mut rng)).collect();
    let mut lines: Vec<String> = records
        .iter()
        .map(|(key, value)| serde_json::json!({ "key": key, "value": value }).to_string())
        .collect();
    let file = cluster.dir().join("packages.ndjson");
    fs::write(&file, lines.join("\n") + "\n").unwrap();

    let endpoints = cluster.endpoints().join(",");
    let args = ["-e", &endpoints, "-o", "json", "import", file.to_str().unwrap()];
    let args = [&args[..], &["--format", "ndjson", "--concurrency", "64"]].concat();
    let watcher = cluster.client_of(0);
    let half = &records[RECORDS / 2].0;
    let disturb = async {
        until("half of it is there", Duration::from_secs(15), async || {
            watcher.get(half.clone()).await.ok()?.value
        })
        .await;
        cluster.nodes[2].kill();
        cluster.nodes[2].start();
    };
    let (done, ()) = tokio::join!(kvctl::run(&args, b""), disturb);
    let summary = done.succeeded().json();
    assert_eq!((&summary["imported"], &summary["failed"]), (&RECORDS.into(), &0.into()));
    cluster.ready().await;
    cluster.all_alive().await;

    for node in 0..3 {
        let client = cluster.client_of(node);
        for chunk in records.chunks(64) {
            let mut tasks = JoinSet::new();
            for (key, value) in chunk {
                let (key, value) = (key.clone(), value.clone());
                let read = client.get(key.clone()).r(Quorum::Count(2));
                tasks.spawn(async move {
                    let reply = read.await.unwrap();
                    assert_eq!(reply.value.as_deref(), Some(value.as_bytes()), "{key}");
                });
            }
            tasks.join_all().await;
        }
    }
    let exported = cluster.kvctl(&["export", "-"]).await.succeeded();
    let mut exported: Vec<serde_json::Value> =
        exported.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<&str> = exported.iter().filter_map(|line| line["key"].as_str()).collect();
    assert!(keys.is_sorted(), "export is sorted by key");
    exported.sort_by_key(|line| line["key"].to_string());
    lines.sort();
    assert_eq!(exported.len(), lines.len());
    let mut imported: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    imported.sort_by_key(|line| line["key"].to_string());
    assert!(exported == imported, "export gives back what was imported");
}
