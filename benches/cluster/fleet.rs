//! Three server processes of one kind, and what they cost.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use roundtable::client::{Client, Lane};
use roundtable::load::process;
use tempfile::TempDir;

use crate::place;

/// How long a fleet may take to serve.
const PATIENCE: Duration = Duration::from_secs(20);

/// What kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// The limit: stores nothing.
    Echo,
    /// `kvd` that syncs at intervals.
    Interval,
    /// `kvd` that syncs before it acknowledges.
    Always,
}

impl System {
    pub(crate) const ALL: [System; 3] = [System::Echo, System::Interval, System::Always];

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Echo => "echo",
            System::Interval => "kvd interval",
            System::Always => "kvd always",
        }
    }
}

/// Three processes.
pub(crate) struct Fleet {
    pub(crate) system: System,
    endpoints: Vec<String>,
    https: Vec<SocketAddr>,
    children: Vec<Child>,
    _dir: TempDir,
}

impl Fleet {
    /// Starts three processes and waits until they serve.
    pub(crate) async fn start(system: System) -> Fleet {
        let dir = tempfile::tempdir().expect("a directory");
        let ip = place::address();
        let ports: Vec<[SocketAddr; 3]> = (0..3).map(|_| place::ports(ip)).collect();
        let mut children = Vec::new();
        for index in 0..3 {
            let mut command = match system {
                System::Echo => echo(index, &ports),
                System::Interval | System::Always => kvd(system, index, &ports, dir.path()),
            };
            let log = fs::File::options().create(true).append(true).open(dir.path().join("log"));
            let log = log.expect("a log");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            children.push(command.spawn().expect("the program starts"));
        }
        let endpoints: Vec<String> = ports.iter().map(|[client, ..]| client.to_string()).collect();
        let https = ports.iter().map(|[.., http]| *http).collect();
        let fleet = Fleet { system, endpoints, https, children, _dir: dir };
        for endpoint in &fleet.endpoints {
            let client = Client::builder().endpoints([endpoint]).follow_ring(false);
            let client = client.connect_lazy().expect("addresses");
            let serves = async { while client.put("warm", "up").await.is_err() {} };
            tokio::time::timeout(PATIENCE, serves).await.expect("the servers serve");
        }
        fleet
    }

    /// A client over all three.
    pub(crate) fn client(&self, lane: Lane) -> Client {
        let builder = Client::builder().endpoints(&self.endpoints).lane(lane);
        builder.connect_lazy().expect("the addresses are addresses")
    }

    /// CPU time of all three so far, user and system.
    pub(crate) fn cpu(&self) -> f64 {
        let of = |child: &Child| process::cpu(child.id()).unwrap_or_default().as_secs_f64();
        self.children.iter().map(of).sum()
    }

    /// Messages that the nodes have sent each other so far.
    pub(crate) fn peer_messages(&self) -> f64 {
        let pages = self.https.iter().map(|http| metrics(*http).expect("a node shows its metrics"));
        let sum = |page: String| {
            let lines = page.lines().filter(|line| line.starts_with("kv_peer_sent"));
            let last = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            last.sum::<f64>()
        };
        pages.map(sum).sum()
    }

    /// Resident memory of all three, in MiB.
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn resident(&self) -> f64 {
        let of = |child: &Child| process::resident_bytes(child.id());
        self.children.iter().filter_map(of).sum::<u64>() as f64 / f64::from(1 << 20)
    }

    /// The process ids, for a profiler.
    pub(crate) fn pids(&self) -> String {
        let ids: Vec<String> = self.children.iter().map(|child| child.id().to_string()).collect();
        ids.join(",")
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

/// The page of metrics of one node.
fn metrics(http: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn echo(index: usize, ports: &[[SocketAddr; 3]]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.arg("--echo-node");
    // Its own addresses first.
    let (own, others) = (ports.get(index), ports.iter().enumerate().filter(|(at, _)| *at != index));
    let [client, peer, _] = own.expect("one of three");
    command.arg(client.to_string()).arg(peer.to_string());
    command.args(others.map(|(_, [_, peer, _])| peer.to_string()));
    command
}

fn kvd(system: System, index: usize, ports: &[[SocketAddr; 3]], dir: &Path) -> Command {
    let [client, peer, http] = ports.get(index).expect("one of three");
    let founders: Vec<String> =
        (1..).zip(ports).map(|(n, [_, peer, _])| format!("n{n}={peer}")).collect();
    let sync = if system == System::Always { "always" } else { "interval" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvd"));
    command.args(["run", "--die-with-parent"]);
    for (path, value) in [
        ("node.name", format!("n{}", index + 1)),
        ("node.data_dir", dir.join(index.to_string()).display().to_string()),
        ("listen.client", client.to_string()),
        ("listen.peer", peer.to_string()),
        ("listen.http", http.to_string()),
        ("cluster.founders", founders.join(",")),
        ("storage.sync", sync.to_owned()),
    ] {
        command.arg("--set").arg(format!("{path}={value}"));
    }
    command
}
