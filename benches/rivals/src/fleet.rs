//! Three server processes of one system, and what they cost.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use roundtable::client::{Client, Lane};
use roundtable::load::process;
use tempfile::TempDir;

use crate::etcd::Etcd;
use crate::place;

/// How long three processes may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);
/// Callers that share a connection to etcd.
const CALLERS_A_CONNECTION: u32 = 16;

/// Whose processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// etcd: a write is acknowledged when a majority has it on disk.
    Etcd,
    /// `kvd` that syncs before it acknowledges, like etcd.
    Always,
    /// `kvd` that syncs at intervals.
    Interval,
}

impl System {
    pub(crate) const ALL: [System; 3] = [System::Etcd, System::Always, System::Interval];

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Etcd => "etcd",
            System::Always => "always",
            System::Interval => "interval",
        }
    }
}

/// By what a system is asked.
#[derive(Clone)]
pub(crate) enum Target {
    /// Over these connections, dealt out in turn.
    Etcd(Vec<Etcd>),
    /// Through our client library.
    Kvd(System, Lane, Client),
}

impl Target {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Target::Etcd(_) => "etcd",
            Target::Kvd(System::Interval, Lane::Unary, _) => "interval unary",
            Target::Kvd(System::Interval, ..) => "interval session",
            Target::Kvd(_, Lane::Unary, _) => "always unary",
            Target::Kvd(..) => "always session",
        }
    }

    /// Writes a pair.
    pub(crate) async fn put(&self, worker: usize, key: Bytes, value: Bytes) -> anyhow::Result<()> {
        match self {
            Target::Etcd(members) => member(members, worker)?.put(key, value).await?,
            Target::Kvd(_, _, client) => drop(client.put(key, value).await?),
        }
        Ok(())
    }

    /// Reads a key that is there: the length of its value.
    pub(crate) async fn get(&self, worker: usize, key: Bytes) -> anyhow::Result<usize> {
        let value = match self {
            Target::Etcd(members) => member(members, worker)?.get(key).await?,
            Target::Kvd(_, _, client) => client.get(key).await?.value,
        };
        Ok(value.context("a key that was written is not there")?.len())
    }
}

fn member(members: &[Etcd], worker: usize) -> anyhow::Result<&Etcd> {
    members.get(worker % members.len().max(1)).context("no connections")
}

/// Three processes.
pub(crate) struct Fleet {
    pub(crate) system: System,
    clients: [SocketAddr; 3],
    children: Vec<Child>,
    _dir: TempDir,
}

impl Fleet {
    /// Starts three processes and waits until they serve.
    pub(crate) async fn start(system: System, program: &Path) -> anyhow::Result<Fleet> {
        let dir = tempfile::tempdir()?;
        let nodes = place::nodes()?;
        let clients = nodes.map(|[client, ..]| client);
        let mut fleet = Fleet { system, clients, children: Vec::new(), _dir: dir };
        for index in 0..3 {
            let mut command = Command::new(program);
            let dir = fleet._dir.path();
            match system {
                System::Etcd => etcd(&mut command, index, &nodes, dir),
                System::Always | System::Interval => kvd(&mut command, system, index, &nodes, dir),
            }
            let log = std::fs::File::options().create(true).append(true).open(dir.join("log"))?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            fleet.children.push(command.spawn().context(program.display().to_string())?);
        }
        let serve = async {
            for target in fleet.targets(3)? {
                for worker in 0..3 {
                    let warm = || target.put(worker, "warm".into(), "up".into());
                    while warm().await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, serve).await.context("not within its time")??;
        Ok(fleet)
    }

    /// The ways to ask it, for so many callers.
    pub(crate) fn targets(&self, callers: u32) -> anyhow::Result<Vec<Target>> {
        if self.system == System::Etcd {
            // More than one connection a member when there are many callers: to its advantage.
            let each = callers.div_ceil(3 * CALLERS_A_CONNECTION).max(1);
            let addresses = (0..each).flat_map(|_| self.clients);
            let members = addresses.map(|address| Etcd::new(&address.to_string()));
            return Ok(vec![Target::Etcd(members.collect::<anyhow::Result<_>>()?)]);
        }
        let endpoints = self.clients.map(|address| address.to_string());
        let lane = |lane| {
            let client = Client::builder().endpoints(&endpoints).lane(lane).connect_lazy()?;
            anyhow::Ok(Target::Kvd(self.system, lane, client))
        };
        Ok(vec![lane(Lane::Unary)?, lane(Lane::Session)?])
    }

    /// Seconds of CPU that all three have used so far, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        let of = |child: &Child| process::cpu(child.id()).unwrap_or_default().as_secs_f64();
        self.children.iter().map(of).sum()
    }

    /// Resident memory of a node, in MiB: the mean of three.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn resident(&self) -> f64 {
        let of = |child: &Child| process::resident_bytes(child.id());
        self.children.iter().filter_map(of).sum::<u64>() as f64 / f64::from(3 << 20)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already needs no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The server to run; built if none is named and there is none.
pub(crate) fn built(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--bin", "kvd"]).current_dir(&root);
    anyhow::ensure!(build.status()?.success(), "kvd could not be built");
    Ok(root.join("target/release/kvd"))
}

fn etcd(command: &mut Command, index: usize, nodes: &[[SocketAddr; 3]; 3], dir: &Path) {
    let Some([client, peer, _]) = nodes.get(index) else { return };
    let members: Vec<String> =
        (1..).zip(nodes).map(|(n, [_, peer, _])| format!("n{n}=http://{peer}")).collect();
    let data = dir.join(index.to_string()).display().to_string();
    for (flag, value) in [
        ("--name", format!("n{}", index + 1)),
        ("--data-dir", data),
        ("--listen-client-urls", format!("http://{client}")),
        ("--advertise-client-urls", format!("http://{client}")),
        ("--listen-peer-urls", format!("http://{peer}")),
        ("--initial-advertise-peer-urls", format!("http://{peer}")),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", "new".to_owned()),
        ("--quota-backend-bytes", (6_u64 << 30).to_string()),
        ("--logger", "zap".to_owned()),
        ("--log-level", "error".to_owned()),
    ] {
        command.arg(flag).arg(value);
    }
}

fn kvd(
    command: &mut Command,
    system: System,
    index: usize,
    nodes: &[[SocketAddr; 3]; 3],
    dir: &Path,
) {
    let Some([client, peer, http]) = nodes.get(index) else { return };
    let founders: Vec<String> =
        (1..).zip(nodes).map(|(n, [_, peer, _])| format!("n{n}={peer}")).collect();
    command.args(["run", "--die-with-parent"]);
    for (path, value) in [
        ("node.name", format!("n{}", index + 1)),
        ("node.data_dir", dir.join(index.to_string()).display().to_string()),
        ("listen.client", client.to_string()),
        ("listen.peer", peer.to_string()),
        ("listen.http", http.to_string()),
        ("cluster.founders", founders.join(",")),
        ("storage.sync", system.name().to_owned()),
    ] {
        command.arg("--set").arg(format!("{path}={value}"));
    }
}
