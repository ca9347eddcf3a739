//! A node whose log has lost its middle.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::fixture::Cluster;
use crate::fixture::clock::until;

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
async fn a_node_with_a_lost_log_middle_is_filled_again_before_it_answers() {
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
    // What it lacks is never told as absent, by whomever it is read.
    until("all units are whole again", Duration::from_secs(120), async || {
        for node in 0..3 {
            if let Ok(reply) = cluster.client_of(node).get("key-100").await {
                assert_eq!(reply.value.expect("it was acknowledged"), "the value of 100.");
            }
        }
        let log = cluster.nodes[1].log();
        log.contains("is whole again").then_some(())
    })
    .await;
    let log = cluster.nodes[1].log();
    assert!(log.contains("the log was damaged") && log.contains("are filled again"), "{log}");
    cluster.nodes[1].ready().await;
    cluster.known_to_serve(1).await;
    let reply = cluster.client_of(1).get("key-100").await.unwrap();
    assert_eq!(reply.value.unwrap(), "the value of 100.");
    // The damage is dealt with: another start knows nothing of it.
    assert!(cluster.nodes[1].stop().await.success());
    let before = cluster.nodes[1].log().matches("the log was damaged").count();
    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    assert_eq!(cluster.nodes[1].log().matches("the log was damaged").count(), before);
}
