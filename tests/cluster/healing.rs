//! Nodes whose disks have lost something: reads stay right, and what is lost comes back from the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use roundtable::client::Quorum;

use crate::fixture::clock::until;
use crate::fixture::{Cluster, Plan};

const KEYS: usize = 300;
/// How long a node may take to be whole again.
const HEALING: Duration = Duration::from_secs(60);

fn value(number: usize) -> String {
    format!("the value of {number}, {}", "and more ".repeat(30))
}

/// Three nodes with some keys, of which the second has been stopped after all was in tables.
async fn stopped() -> Cluster {
    let plan = Plan::new().with("cluster.partitions", 8).with("storage.sync", "always");
    let mut cluster = plan.start().await;
    cluster.ready().await;
    let client = cluster.client();
    for number in 0..KEYS {
        client.put(format!("key-{number}"), value(number)).w(Quorum::All).await.unwrap();
    }
    cluster.client_of(1).flush().await.unwrap();
    assert!(cluster.nodes[1].stop().await.success());
    cluster
}

/// The tables of a node that hold users' data, the largest last.
fn tables(cluster: &Cluster, node: usize) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.nodes[node].data_dir()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let tables = paths.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    let mut tables: Vec<PathBuf> = tables.collect();
    tables.sort_by_key(|path| fs::metadata(path).unwrap().len());
    tables
}

fn kvd(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvd")).args(args).arg(dir).output().unwrap()
}

/// Whether all keys are there, as each node tells it.
async fn reads_are_right(cluster: &Cluster) {
    for node in 0..3 {
        let client = cluster.client_of(node);
        for number in 0..KEYS {
            let reply = client.get(format!("key-{number}")).await.unwrap();
            let found = reply.value.expect("it was acknowledged");
            assert_eq!(found, value(number), "node {node}, key {number}");
        }
    }
}

/// Waits until a node has made so many units whole again.
async fn healed(cluster: &Cluster, node: usize, units: usize) {
    let what = format!("{units} units are whole again");
    until(&what, HEALING, async || {
        let log = cluster.nodes[node].log();
        (log.matches("is whole again").count() >= units).then_some(())
    })
    .await;
}

/// What `kvctl scrub` says of a node.
async fn scrub(cluster: &Cluster, what: &str, node: usize) -> serde_json::Value {
    let name = cluster.nodes[node].name.clone();
    let told = cluster.kvctl(&["-o", "json", "scrub", what, "--node", &name]).await;
    told.succeeded().json()["nodes"][0].clone()
}

/// Stops a node, and looks whether its store is sound and has every key.
async fn is_sound(cluster: &mut Cluster, node: usize) {
    cluster.client_of(node).flush().await.unwrap();
    cluster.client_of(node).compact().await.unwrap();
    assert!(cluster.nodes[node].stop().await.success());
    let checked = kvd(&["data", "check"], &cluster.nodes[node].data_dir());
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn a_table_that_rots_is_healed_and_reads_stay_right() {
    let mut cluster = stopped().await;
    let table = tables(&cluster, 1).pop().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&table, bytes).unwrap();
    let checked = kvd(&["data", "check"], &cluster.nodes[1].data_dir());
    assert_eq!(checked.status.code(), Some(1), "it is damaged");

    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    cluster.known_to_serve(1).await;
    reads_are_right(&cluster).await;
    healed(&cluster, 1, 1).await;
    reads_are_right(&cluster).await;
    is_sound(&mut cluster, 1).await;
}

#[tokio::test]
async fn damage_of_one_copy_of_a_nodes_own_records_costs_nothing() {
    let mut cluster = stopped().await;
    // The smallest: both copies of the own records, and nothing of users.
    for table in tables(&cluster, 1).into_iter().take(1) {
        let mut bytes = fs::read(&table).unwrap();
        bytes[..40].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&table, bytes).unwrap();
    }
    let checked = kvd(&["data", "check"], &cluster.nodes[1].data_dir());
    assert_eq!(checked.status.code(), Some(1), "it is damaged");
    for _ in 0..2 {
        cluster.nodes[1].start();
        cluster.nodes[1].ready().await;
        cluster.known_to_serve(1).await;
        reads_are_right(&cluster).await;
        assert_eq!(scrub(&cluster, "status", 1).await["lost_units"], 0);
        is_sound(&mut cluster, 1).await;
    }
}

#[tokio::test]
async fn a_scrub_finds_what_nobody_reads_and_says_what_became_of_it() {
    let mut cluster = stopped().await;
    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    cluster.known_to_serve(1).await;
    assert_eq!(scrub(&cluster, "status", 1).await["found"], 0);
    // Under the running node, which has read nothing of it yet.
    let table = tables(&cluster, 1).pop().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let third = bytes.len() / 3;
    bytes[third] ^= 0x10;
    let file = fs::File::options().write(true).open(&table).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[third..=third], third as u64).unwrap();

    assert_eq!(scrub(&cluster, "start", 1).await["running"], true);
    healed(&cluster, 1, 1).await;
    let status = until("the scrub has ended", HEALING, async || {
        let status = scrub(&cluster, "status", 1).await;
        (status["running"] == false && status["lost_units"] == 0).then_some(status)
    })
    .await;
    assert!(status["found"].as_u64() >= Some(1), "{status}");
    assert!(status["healed_units"].as_u64() >= Some(1), "{status}");
    assert!(status["places"][0].as_str().unwrap().contains(".sst"), "{status}");
    reads_are_right(&cluster).await;
    is_sound(&mut cluster, 1).await;
}

#[tokio::test]
async fn a_store_that_lacks_a_table_is_refused_rebuilt_and_filled_again() {
    let mut cluster = stopped().await;
    let table = tables(&cluster, 1).pop().unwrap();
    let name = table.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&table).unwrap();

    cluster.nodes[1].start();
    assert!(!cluster.nodes[1].ended().await.success());
    let log = cluster.nodes[1].log();
    assert!(log.contains(&format!("{name} is missing (of units ")), "{log}");
    assert!(log.contains("kvd data rebuild"), "{log}");

    let dir = cluster.nodes[1].data_dir();
    let rebuilt = kvd(&["data", "rebuild"], &dir);
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert!(String::from_utf8_lossy(&rebuilt.stderr).contains(&name));
    let again = kvd(&["data", "rebuild"], &dir);
    assert!(again.status.success() && again.stdout.starts_with(b"nothing is missing"));

    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    cluster.known_to_serve(1).await;
    reads_are_right(&cluster).await;
    healed(&cluster, 1, 8).await;
    is_sound(&mut cluster, 1).await;
}

#[tokio::test]
async fn a_store_that_lacks_its_log_is_rebuilt_and_filled_again() {
    let mut cluster = stopped().await;
    let files = fs::read_dir(cluster.nodes[1].data_dir()).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    for log in paths.filter(|path| path.extension().is_some_and(|end| end == "wal")) {
        fs::remove_file(log).unwrap();
    }
    cluster.nodes[1].start();
    assert!(!cluster.nodes[1].ended().await.success());
    let log = cluster.nodes[1].log();
    assert!(log.contains("of the log: acknowledged writes of any unit"), "{log}");

    assert!(kvd(&["data", "rebuild"], &cluster.nodes[1].data_dir()).status.success());
    cluster.nodes[1].start();
    cluster.nodes[1].ready().await;
    healed(&cluster, 1, 8).await;
    cluster.known_to_serve(1).await;
    reads_are_right(&cluster).await;
    is_sound(&mut cluster, 1).await;
}

#[tokio::test]
async fn a_store_without_its_manifest_cannot_be_rebuilt() {
    let cluster = stopped().await;
    let dir = cluster.nodes[1].data_dir();
    fs::remove_file(dir.join("CURRENT")).unwrap();
    let refused = kvd(&["data", "rebuild"], &dir);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("CURRENT is missing"));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(kvd(&["data", "rebuild"], &empty.path().join("none")).status.code(), Some(2));
}
