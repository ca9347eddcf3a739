//! `kvd dev`, as the contract with scripts fixes it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::fixture::clock::{until, within};
use crate::fixture::{kvctl, place};

const PATIENCE: Duration = Duration::from_secs(10);

/// A place for a development cluster; whatever still runs there in the end is killed.
struct Dev {
    dir: TempDir,
    host: IpAddr,
    port: u16,
}

impl Dev {
    fn new() -> Dev {
        let host = place::address();
        Dev { dir: tempfile::tempdir().unwrap(), host, port: place::port_range(host, 3, 10) }
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().join("dev")
    }

    fn args(&self) -> Vec<String> {
        let dir = self.dir().to_str().unwrap().to_owned();
        let words = ["dev", "--dir", &dir, "--host", &self.host.to_string(), "--base-port"];
        words.iter().map(|word| (*word).to_owned()).chain([self.port.to_string()]).collect()
    }

    async fn run(&self, more: &[&str]) -> kvctl::Done {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        kvctl::run_program(Path::new(env!("CARGO_BIN_EXE_kvd")), &args, b"").await
    }

    /// What the `ready:` line must be.
    fn ready_line(&self) -> String {
        let [one, two, three] =
            [0, 10, 20].map(|step| format!("{}:{}", self.host, self.port + step));
        format!("ready: {one} {two} {three}")
    }

    fn endpoints(&self) -> String {
        self.ready_line().trim_start_matches("ready: ").replace(' ', ",")
    }

    async fn kvctl(&self, args: &[&str]) -> kvctl::Done {
        kvctl::run(&[&["-e", &self.endpoints()], args].concat(), b"").await
    }

    /// The processes that the directory names.
    fn pids(&self) -> Vec<Pid> {
        let files = ["n1", "n2", "n3"].map(|name| self.dir().join(name).join("kvd.pid"));
        let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
        texts.filter_map(|text| Pid::from_raw(text.trim().parse().ok()?)).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        for pid in self.pids().into_iter().filter(|pid| runs(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether a process with this id runs `kvd`.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.contains("(kvd)") && !stat.contains(") Z "))
}

async fn all_gone(pids: &[Pid]) {
    until("the processes are gone", PATIENCE, async || {
        pids.iter().all(|pid| !runs(*pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_development_cluster_runs_until_interrupted_and_leaves_nothing_running() {
    let dev = Dev::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvd"))
        .args(dev.args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within("it is ready", PATIENCE, lines.next_line()).await.unwrap();
    assert_eq!(line, Some(dev.ready_line()));
    dev.kvctl(&["put", "key", "value"]).await.succeeded();
    assert_eq!(dev.kvctl(&["get", "key"]).await.succeeded().stdout, b"value");
    let pids = dev.pids();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(*pid)));
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let status = within("it ends", PATIENCE, child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    all_gone(&pids).await;
    assert_eq!(lines.next_line().await.unwrap(), None, "one line on stdout");
}

#[tokio::test]
async fn a_detached_cluster_finds_its_data_again_and_its_nodes_start_by_hand() {
    let dev = Dev::new();
    let done = dev.run(&["--detach"]).await.succeeded();
    assert_eq!(done.text().trim_end(), dev.ready_line());
    dev.kvctl(&["put", "key", "value"]).await.succeeded();
    let pids = dev.pids();
    dev.run(&["--stop"]).await.succeeded();
    all_gone(&pids).await;

    // The directory remembers host and ports.
    let dir = dev.dir();
    let dir = dir.to_str().unwrap();
    let kvd = Path::new(env!("CARGO_BIN_EXE_kvd"));
    let again = kvctl::run_program(kvd, &["dev", "--dir", dir, "--detach"], b"").await.succeeded();
    assert_eq!(again.text().trim_end(), dev.ready_line());
    assert_eq!(dev.kvctl(&["get", "key"]).await.succeeded().stdout, b"value");

    let second = dev.pids()[1];
    kill_process(second, Signal::KILL).unwrap();
    all_gone(&[second]).await;
    dev.kvctl(&["put", "key", "two nodes"]).await.succeeded();
    let config = dev.dir().join("n2/kvd.toml");
    let mut by_hand = Command::new(kvd)
        .args(["run", "--config", config.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let endpoint = format!("{}:{}", dev.host, dev.port + 10);
    until("the node started by hand serves", PATIENCE, async || {
        let done = kvctl::run(&["-e", &endpoint, "get", "key"], b"").await;
        (done.stdout == b"two nodes").then_some(())
    })
    .await;
    dev.run(&["--stop"]).await.succeeded();
    // Its pid file is of the node that was killed: the one started by hand is the operator's.
    let _ = by_hand.kill().await;
    all_gone(&dev.pids()).await;
}
