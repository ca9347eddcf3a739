//! `kvctl`, and the load generator with its checkers, over three real nodes.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roundtable::client::Client;
use roundtable::load::check::register;
use roundtable::load::generator::{Outcomes, Pace, Plan, run};
use roundtable::load::history::History;
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::mix::Mix;

use crate::kvctl::{kvctl, kvctl_with};

const NODES: u16 = 3;

/// Three nodes on this machine; stopped when dropped.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    pub(crate) endpoints: String,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let base = free_ports().to_string();
        let output = kvd(&directory)
            .args(["--nodes", &NODES.to_string(), "--base-port", &base, "--detach"])
            .output()
            .unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let ready = stdout.lines().find_map(|line| line.strip_prefix("ready: "));
        let endpoints = ready.unwrap_or_else(|| panic!("{stdout}\n{stderr}")).replace(' ', ",");
        Cluster { directory, endpoints }
    }

    /// Kills a node, as a power failure would.
    fn kill(&self, node: &str) {
        let pid = std::fs::read_to_string(self.directory.path().join(node).join("kvd.pid"));
        let pid: i32 = pid.unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = kvd(&self.directory).arg("--stop").output();
    }
}

fn kvd(directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvd"));
    command.arg("dev").arg("--dir").arg(directory.path());
    command
}

/// The first of the ports that three nodes need, none of which is in use.
fn free_ports() -> u16 {
    for _ in 0..50 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = probe.local_addr().unwrap().port();
        drop(probe);
        let wanted = (0..NODES).flat_map(|node| (0..3).map(move |port| (node, port)));
        let listen = |(node, port)| {
            let port = base.checked_add(10 * node + port)?;
            TcpListener::bind(("127.0.0.1", port)).ok()
        };
        if wanted.map(listen).collect::<Option<Vec<_>>>().is_some() {
            return base;
        }
    }
    panic!("no free range of ports");
}

#[test]
fn kvctl_reads_writes_and_shows_a_real_cluster() {
    let cluster = Cluster::start();
    let at = cluster.endpoints.as_str();
    assert_eq!(kvctl(at, "wait --for ready").code, 0);
    assert_eq!(kvctl(at, "wait --for nodes=3").code, 0);

    let put = kvctl(at, "put greeting hello -w all -o json").json();
    assert_eq!(put["receipt"]["answered"].as_array().unwrap().len(), 3);
    let got = kvctl(at, "get greeting -o json").json();
    assert_eq!((&got["value"], &got["stamp"]), (&"hello".into(), &put["stamp"]));
    assert_eq!(kvctl(at, "put weak v -w one -o json").json()["receipt"]["weak"], true);
    assert_eq!(kvctl(at, "del weak").code, 0);
    assert_eq!(kvctl(at, "get weak").code, 3);
    assert_eq!(kvctl(at, "get k -r 9").code, 2);
    assert_eq!(kvctl(at, "-t nosuch get k -o json").error()["code"], "TABLE_UNKNOWN");

    let lines = (0..500).map(|i| format!("{{\"key\":\"k{:03}\",\"value\":\"{i}\"}}\n", i % 250));
    let lines = lines.collect::<String>();
    let imported = kvctl_with(at, &["import", "-", "-o", "json"], lines.as_bytes()).json();
    assert_eq!((&imported["imported"], &imported["failed"]), (&500.into(), &0.into()));
    let scanned = kvctl(at, "scan --prefix k --from k010 --to k012 --page-size 1").stdout;
    assert_eq!(scanned, "k010\t260\nk011\t261\n");
    let exported = kvctl(at, "export -").stdout;
    assert_eq!(exported.lines().count(), 251);
    assert!(exported.contains("{\"key\":\"k249\",\"value\":\"499\"}\n"));

    let traced = kvctl(at, "get greeting -r all --trace -o json").json();
    let steps = traced["trace"]["steps"].as_array().unwrap();
    let events = |event: &str| steps.iter().filter(|step| step["event"] == event).count();
    assert_eq!((events("read"), events("answered")), (3, 3), "{traced}");
    let shown = kvctl(at, "get greeting --trace");
    assert!(shown.stderr.contains("answered after"), "{}", shown.stderr);
    assert!(kvctl(at, "get greeting -o json").json()["trace"].is_null());

    let status = kvctl(at, "status -o json").json();
    let nodes = status["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["state"] == "alive" && node["role"] == "active"));
    let primaries = nodes.iter().map(|node| node["partitions"].as_u64().unwrap());
    assert_eq!(primaries.sum::<u64>(), status["partitions"].as_u64().unwrap());
    let owners = kvctl(at, "locate greeting -o json").json()["owners"].clone();
    assert_eq!(owners.as_array().unwrap().len(), 3);
    watched(at);
    followed(at);
    assert_eq!(kvctl(at, "flush").stdout, "flushed n1\nflushed n2\nflushed n3\n");
    let compacted = kvctl(at, "compact --timeout 60s").stdout;
    assert_eq!(compacted, "compacted n1\ncompacted n2\ncompacted n3\n");
    assert_eq!(kvctl(at, "get greeting").code, 0);
}

/// Changes, from where a watch stood: no two commands run at once.
fn followed(at: &str) {
    let began = kvctl(at, "watch --prefix w: --for 3s -o json").json();
    assert_eq!((&began[0]["event"], &began[1]["event"]), (&"began".into(), &"token".into()));
    let token = began[1]["token"].as_str().unwrap();
    let put = kvctl(at, "put w:1 one -o json").json();
    assert_eq!(kvctl(at, "put other unseen").code, 0);
    assert_eq!(kvctl(at, "del w:1").code, 0);
    let told = kvctl(at, &format!("watch --prefix w: --from-token {token} --limit 2 -o json"));
    let told = told.json();
    let events: Vec<&str> =
        told.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["put", "del", "token"], "{told}");
    assert_eq!((&told[0]["key"], &told[0]["stamp"]), (&"w:1".into(), &put["stamp"]));
    assert_eq!(kvctl(at, "put w:2 two").code, 0);
    let token = told[2]["token"].as_str().unwrap();
    let shown = kvctl(at, &format!("watch --prefix w:2 --from-token {token} --limit 1 --values"));
    assert!(shown.stdout.starts_with("put\tw:2\t") && shown.stdout.ends_with("\ttwo\n"));
    assert!(shown.stderr.contains("--from-token "), "{}", shown.stderr);
    assert_eq!(kvctl(at, "watch --from-token bm9uc2Vuc2U= --for 1s").code, 2);
}

/// What nodes count, and what `top` makes of two readings with reads in between.
fn watched(at: &str) {
    let metrics = kvctl(at, "metrics --node n2 -o json").json();
    let metrics = metrics.as_array().unwrap();
    let named = |name: &'static str| metrics.iter().filter(move |sample| sample["name"] == name);
    assert_eq!(named("kv_epoch").count(), 1);
    assert!(named("kv_operations_total").any(|sample| sample["labels"]["op"] == "put"));
    assert!(kvctl(at, "metrics").stdout.ends_with("# EOF\n"));
    assert_eq!(kvctl(at, "metrics --node n9").code, 2);

    let reader = spawn({
        let at = at.to_owned();
        move || kvctl_with(&at, &["shell"], "get greeting\n".repeat(3000).as_bytes()).code
    });
    let ran = kvctl(at, "top --count 3 --interval 300ms -o jsonl");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let looks: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 3);
    let busy = |look: &serde_json::Value| look["operations_per_s"].as_f64().unwrap() > 0.0;
    assert!(looks.iter().any(busy), "{looks:?}");
    let nodes = looks[2]["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|node| node["figures"]["disk_bytes"].as_f64().unwrap() > 0.0));
    assert!(nodes.iter().any(|node| node["figures"]["read_p99_ms"].as_f64().is_some()));
    let text = kvctl(at, "top --once --interval 100ms -o table").stdout;
    assert!(text.contains("READ/s") && text.contains("\n n3"), "{text}");
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn one_node_down_is_worked_around_and_two_are_told_apart_from_absence() {
    let cluster = Cluster::start();
    let at = cluster.endpoints.as_str();
    assert_eq!(kvctl(at, "put k v").code, 0);
    cluster.kill("n2");
    for i in 0..5 {
        assert_eq!(kvctl(at, &format!("put k{i} v")).code, 0);
        assert_eq!(kvctl(at, "get k").stdout, "v");
    }
    cluster.kill("n3");
    let failed = kvctl(at, "get k -o json");
    assert_eq!((failed.code, failed.stdout.as_str()), (4, ""));
    assert_eq!(failed.error()["code"], "QUORUM_NOT_REACHED");
    assert_eq!(kvctl(at, "wait --for ready --timeout 300ms").code, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_are_read_while_a_node_is_killed() {
    let cluster = Cluster::start();
    let client = Client::builder().endpoints(cluster.endpoints.split(',')).connect_lazy().unwrap();
    let history = Arc::new(Mutex::new(History::new()));
    let plan = Plan {
        mix: Mix { get: 5, put: 4, delete: 1, ..Mix::NONE },
        pace: Pace::Closed,
        duration: Duration::from_secs(120),
        operations_max: Some(6000),
        history: Some(history.clone()),
        ..Plan::new(Keys::new("k", 40, Distribution::Uniform).unwrap())
    };
    let running = tokio::spawn(async move { run(&client, &plan).await });
    while history.lock().operations().len() < 2000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill("n2");
    let report = running.await.unwrap();
    let history = history.lock();
    assert_eq!(history.operations().len(), 6000);
    assert_eq!(register(&history), []);
    let failed = report.outcomes.values().map(Outcomes::failed).sum::<u64>();
    assert!(failed < 100, "{failed} of 6000 failed: {:?}", report.outcomes);
}

fn spawn<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().spawn(run).unwrap()
}
