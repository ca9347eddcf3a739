//! A node whose log has lost its middle.

use std::fs;
use std::path::PathBuf;

use crate::fixture::Cluster;

/// The newest log segment of a node.
fn log_file(cluster: &Cluster, node: usize) -> PathBuf {
    let files = fs::read_dir(cluster.nodes[node].data_dir()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "wal"));
    logs.max().expect("a node has a log")
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it was written")
}

#[tokio::test]
async fn a_node_with_a_lost_log_middle_stays_out_and_says_so() {
    let mut cluster = Cluster::start().await;
    let client = cluster.client();
    for number in 0..200 {
        client.put(format!("key-{number}"), format!("the value of {number}.")).await.unwrap();
    }
    assert!(cluster.nodes[1].stop().await.success());

    let path = log_file(&cluster, 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = find(&bytes, b"the value of 100.");
    bytes[at..at + 17].fill(b'x');
    fs::write(&path, bytes).unwrap();

    cluster.nodes[1].start();
    let why = cluster.nodes[1].refuses("damaged").await;
    assert!(why.contains("refused"), "{why}");
    let error = cluster.client_of(1).get("key-1").await.unwrap_err();
    assert_eq!(error.code(), "NOT_READY");
    for node in [0, 2] {
        let reply = cluster.client_of(node).get("key-100").await.unwrap();
        assert_eq!(reply.value.unwrap(), "the value of 100.");
        cluster.client_of(node).put("after", "it goes on").await.unwrap();
    }
    // It remembers, even after the damage can no longer be seen.
    cluster.nodes[1].stop().await;
    cluster.nodes[1].start();
    cluster.nodes[1].refuses("damaged").await;
}
