//! `kvd dev`: a cluster on this machine, each node a process of its own, for trying things out and
//! for tests. What scripts may rely on: the ports, the names, the files, the `ready:` line.

pub mod add;

use core::time::Duration;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::pid_file::holder;
use super::probe::http_get;

/// What a development cluster looks like. Fixed when its directory is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Nodes in all.
    pub nodes: u16,
    /// How many of them, the last ones, are reserved.
    pub reserved: u16,
    /// Zones a, b, ..., dealt out in turn.
    pub zones: u8,
    /// The address all listen on.
    pub host: String,
    /// Port of the first node's clients.
    pub base_port: u16,
    /// Nodes that joined later, in order: their ports follow.
    #[serde(default)]
    pub added: Vec<Added>,
}

/// A node that joined later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            nodes: 3,
            reserved: 0,
            zones: 1,
            host: "127.0.0.1".to_owned(),
            base_port: 7450,
            added: Vec::new(),
        }
    }
}

/// What the operator typed; absent values are taken from the directory, or are the defaults.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// See `Shape::nodes`.
    pub nodes: Option<u16>,
    /// See [`Shape::reserved`].
    pub reserved: Option<u16>,
    /// See [`Shape::zones`].
    pub zones: Option<u8>,
    /// See [`Shape::host`].
    pub host: Option<String>,
    /// See [`Shape::base_port`].
    pub base_port: Option<u16>,
    /// More settings for every node, `section.key=value`.
    pub set: Vec<String>,
}

/// Ports between one node's and the next's.
const PORT_STEP: u16 = 10;
/// How long a cluster may take to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often nodes are looked at.
const POLL: Duration = Duration::from_millis(50);
/// Waits for nothing.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// The file that remembers the shape.
const SHAPE_FILE: &str = "dev.toml";

/// One node of the cluster.
struct DevNode {
    name: String,
    folder: PathBuf,
    client: String,
    http: String,
}

impl DevNode {
    fn pid_file(&self) -> PathBuf {
        pid_file(&self.folder)
    }

    /// The process that runs the node, however it was started, if there is one.
    fn running(&self) -> Option<Pid> {
        holder(&self.pid_file())
    }

    /// A handle on that process, which stays its own should the number be given to another.
    fn process(&self) -> anyhow::Result<Option<OwnedFd>> {
        let Some(pid) = self.running() else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("the process of {}", self.name));
            }
        };
        Ok((self.running() == Some(pid)).then_some(process))
    }
}

/// Where the node of `folder` says which process it is.
fn pid_file(folder: &Path) -> PathBuf {
    folder.join("kvd.pid")
}

impl Shape {
    /// Checks the shape and the ports it needs.
    ///
    /// # Errors
    /// What cannot be, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.nodes == 0 || self.reserved >= self.nodes {
            return Err(format!(
                "{} nodes of which {} are reserved: at least one must be active",
                self.nodes, self.reserved
            ));
        }
        if !(1..=26).contains(&self.zones) {
            return Err(format!("{} zones; there may be 1 to 26", self.zones));
        }
        let added = u32::try_from(self.added.len()).unwrap_or(u32::MAX / 100);
        let nodes = u32::from(self.nodes) + added;
        let last = u32::from(self.base_port) + u32::from(PORT_STEP) * nodes;
        if self.base_port == 0 || last > u32::from(u16::MAX) {
            return Err(format!(
                "{} nodes from port {} leave the range",
                self.nodes, self.base_port
            ));
        }
        Ok(())
    }

    /// The shape that `wish` and what `dir` remembers agree on.
    fn resolve(wish: &Wish, dir: &Path) -> anyhow::Result<Shape> {
        let file = dir.join(SHAPE_FILE);
        let remembered: Option<Shape> = match std::fs::read_to_string(&file) {
            Ok(text) => Some(toml::from_str(&text).with_context(|| file.display().to_string())?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let base = remembered.clone().unwrap_or_default();
        let shape = Shape {
            nodes: wish.nodes.unwrap_or(base.nodes),
            reserved: wish.reserved.unwrap_or(base.reserved),
            zones: wish.zones.unwrap_or(base.zones),
            host: wish.host.clone().unwrap_or(base.host),
            base_port: wish.base_port.unwrap_or(base.base_port),
            added: base.added,
        };
        shape.check().map_err(anyhow::Error::msg)?;
        if let Some(remembered) = remembered
            && remembered != shape
        {
            bail!(
                "{} holds a cluster of another shape ({remembered:?}); give another --dir, or remove it",
                dir.display()
            );
        }
        Ok(shape)
    }

    fn port(&self, index: u16, offset: u16) -> u16 {
        self.base_port + PORT_STEP * index + offset
    }

    fn address(&self, index: u16, offset: u16) -> String {
        format!("{}:{}", self.host, self.port(index, offset))
    }

    fn nodes(&self, dir: &Path) -> Vec<DevNode> {
        let founders = (0..self.nodes).map(|index| format!("n{}", index + 1));
        let names = founders.chain(self.added.iter().map(|added| added.name.clone()));
        (0..)
            .zip(names)
            .map(|(index, name)| DevNode {
                folder: dir.join(&name),
                name,
                client: self.address(index, 0),
                http: self.address(index, 2),
            })
            .collect()
    }

    /// The founders list, the same for all.
    fn founders(&self) -> Vec<String> {
        (0..self.nodes)
            .map(|index| {
                let zone =
                    char::from(b'a' + u8::try_from(index % u16::from(self.zones)).unwrap_or(0));
                let role = if index >= self.nodes - self.reserved { ";role=reserved" } else { "" };
                format!("n{}={}@{zone}{role}", index + 1, self.address(index, 1))
            })
            .collect()
    }

    /// The configuration file of node `index`.
    fn config(&self, index: u16, folder: &Path, set: &[String]) -> anyhow::Result<String> {
        let founders = toml::Value::from(self.founders());
        let added = index.checked_sub(self.nodes).and_then(|at| self.added.get(usize::from(at)));
        let (name, origin) = match added {
            None => (format!("n{}", index + 1), vec![format!("cluster.founders={founders}")]),
            Some(Added { name, zone }) => {
                let join = format!("cluster.join={}", self.address(0, 1));
                (name.clone(), vec![join, format!("node.zone={zone}")])
            }
        };
        let sources = crate::config::Sources {
            set: [
                format!("node.name={name}"),
                format!("listen.client={}", self.address(index, 0)),
                format!("listen.peer={}", self.address(index, 1)),
                format!("listen.http={}", self.address(index, 2)),
                "cluster.name=dev".to_owned(),
                "log.format=pretty".to_owned(),
            ]
            .into_iter()
            .chain(origin)
            .chain(set.iter().cloned())
            .chain([
                format!("node.data_dir={}", folder.join("data").display()),
                format!("node.pid_file={}", pid_file(folder).display()),
            ])
            .collect(),
            ..crate::config::Sources::default()
        };
        let loaded = crate::config::load(&sources)?;
        super::Settings::from_config(&loaded.config)?;
        let mut text = String::new();
        writeln!(
            text,
            "# Written by `kvd dev`. `kvd run --config` with this file starts the node again."
        )?;
        text.push_str(&loaded.render(false));
        Ok(text)
    }
}

/// Starts a cluster in `dir`, and stays until it is told to stop, unless `detach`.
///
/// # Errors
/// It cannot be started, or did not come to serve.
pub async fn start(wish: &Wish, dir: &Path, detach: bool) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(dir)?;
    let shape = Shape::resolve(wish, &dir)?;
    let nodes = shape.nodes(&dir);
    for node in &nodes {
        if node.running().is_some() {
            bail!(
                "{} is running already; `kvd dev --dir {} --stop` stops it",
                node.name,
                dir.display()
            );
        }
    }
    ports_are_free(&shape)?;
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(SHAPE_FILE), toml::to_string(&shape)?)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut children = Vec::new();
    for (index, node) in (0..).zip(&nodes) {
        children.push(spawn(&shape, index, node, wish, detach)?);
    }
    tokio::select! {
        ready = all_ready(&nodes, &mut children) => {
            if let Err(error) = ready {
                stop_children(&nodes, &mut children).await;
                return Err(error);
            }
        }
        _ = terminate.recv() => return Ok(stop_children(&nodes, &mut children).await),
        _ = interrupt.recv() => return Ok(stop_children(&nodes, &mut children).await),
    }
    say_ready(&nodes, &dir, detach)?;
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = all_gone(&nodes, &mut children) => bail!("all nodes have ended"),
    }
    let code = stop_children(&nodes, &mut children).await;
    // One that was started again by hand is none of our children, nor is one that was added.
    stop_running(&Shape::resolve(&Wish::default(), &dir)?.nodes(&dir)).await?;
    Ok(code)
}

/// Stops the cluster of `dir`, however it was started.
///
/// # Errors
/// There is none, or a node does not stop.
pub async fn stop(dir: &Path) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(dir)?;
    if !dir.join(SHAPE_FILE).exists() {
        bail!("{} holds no cluster of `kvd dev`", dir.display());
    }
    let nodes = Shape::resolve(&Wish::default(), &dir)?.nodes(&dir);
    stop_running(&nodes).await?;
    Ok(ExitCode::SUCCESS)
}

/// Stops whatever processes run `nodes`, and waits for their end.
async fn stop_running(nodes: &[DevNode]) -> anyhow::Result<()> {
    let mut running: Vec<(&DevNode, OwnedFd)> = Vec::new();
    for node in nodes {
        running.extend(node.process()?.map(|process| (node, process)));
    }
    for (_, process) in &running {
        // One that has just ended needs no signal.
        let _ = pidfd_send_signal(process, Signal::TERM);
    }
    for (node, process) in running {
        if timeout(STOP_TIMEOUT, ended(&process)).await.is_ok() {
            continue;
        }
        super::run::say_error(&format!("{} does not stop; killing it", node.name));
        let _ = pidfd_send_signal(&process, Signal::KILL);
        let killed = timeout(STOP_TIMEOUT, ended(&process)).await;
        killed.with_context(|| format!("{} cannot be killed", node.name))?;
    }
    Ok(())
}

/// Resolves when the process has ended, whether or not its parent has asked how.
async fn ended(process: &OwnedFd) {
    // Such a handle is readable when its process has ended.
    while !poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&AT_ONCE)).is_ok_and(|n| n > 0) {
        sleep(POLL).await;
    }
}

/// Says which port is taken before any process is started.
fn ports_are_free(shape: &Shape) -> anyhow::Result<()> {
    let nodes = shape.nodes(Path::new(""));
    for (index, node) in (0..).zip(&nodes) {
        for (offset, what) in [(0, "clients"), (1, "peers"), (2, "http")] {
            let address = shape.address(index, offset);
            TcpListener::bind(&address).with_context(|| {
                format!(
                    "port {} of {} ({what}) cannot be used",
                    shape.port(index, offset),
                    node.name
                )
            })?;
        }
    }
    Ok(())
}

fn spawn(
    shape: &Shape,
    index: u16,
    node: &DevNode,
    wish: &Wish,
    detach: bool,
) -> anyhow::Result<Child> {
    std::fs::create_dir_all(&node.folder)?;
    let config = node.folder.join("kvd.toml");
    std::fs::write(&config, shape.config(index, &node.folder, &wish.set)?)?;
    let log =
        std::fs::OpenOptions::new().create(true).append(true).open(node.folder.join("log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg("--config").arg(&config);
    if !detach {
        command.arg("--die-with-parent");
    }
    // A group of its own: Ctrl-C reaches us, and we tell the nodes once, in order.
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", node.name))
}

/// Waits until every node serves. A node that ends first is an error that shows its last words.
async fn all_ready(nodes: &[DevNode], children: &mut [Child]) -> anyhow::Result<()> {
    let mut waiting: BTreeSet<usize> = (0..nodes.len()).collect();
    let mut why = String::new();
    let poll = async {
        while !waiting.is_empty() {
            for (index, (node, child)) in nodes.iter().zip(children.iter_mut()).enumerate() {
                if let Some(status) = child.try_wait()? {
                    bail!("{} has ended ({status}):\n{}", node.name, last_words(node));
                }
                if !waiting.contains(&index) {
                    continue;
                }
                match http_get(&node.http, "/readyz").await {
                    // Scripts read the pid file as soon as they are told that all is ready.
                    Ok((200, _)) if node.running() == id_of(child) => {
                        waiting.remove(&index);
                    }
                    Ok((200, _)) => {
                        why =
                            format!("{}: {} is not its own", node.name, node.pid_file().display());
                    }
                    Ok((_, body)) => why = format!("{}: {}", node.name, body.trim()),
                    Err(error) => why = format!("{}: {error}", node.name),
                }
            }
            sleep(POLL).await;
        }
        Ok(())
    };
    match timeout(READY_TIMEOUT, poll).await {
        Ok(result) => result,
        Err(_) => bail!("the cluster does not serve after {READY_TIMEOUT:?}; last: {why}"),
    }
}

fn last_words(node: &DevNode) -> String {
    let log = std::fs::read_to_string(node.folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
}

/// Resolves when the last node has ended.
async fn all_gone(nodes: &[DevNode], children: &mut [Child]) {
    for (node, child) in nodes.iter().zip(children) {
        if let Ok(status) = child.wait().await {
            super::run::say_error(&format!("{} has ended ({status})", node.name));
        }
    }
}

fn id_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

async fn stop_children(nodes: &[DevNode], children: &mut [Child]) -> ExitCode {
    for child in children.iter() {
        if let Some(pid) = id_of(child) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    for (node, child) in nodes.iter().zip(children) {
        if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            super::run::say_error(&format!("{} does not stop; killing it", node.name));
            let _ = child.kill().await;
        }
    }
    ExitCode::SUCCESS
}

fn say_ready(nodes: &[DevNode], dir: &Path, detach: bool) -> anyhow::Result<()> {
    use std::io::Write as _;
    let clients: Vec<&str> = nodes.iter().map(|node| node.client.as_str()).collect();
    let mut out = std::io::stdout();
    writeln!(out, "ready: {}", clients.join(" "))?;
    out.flush()?;
    let Some(first) = nodes.first() else {
        return Ok(());
    };
    let dir = dir.display();
    let stop = if detach {
        format!("kvd dev --dir {dir} --stop")
    } else {
        "Ctrl-C stops the cluster; the data stays".to_owned()
    };
    let help = format!(
        "\n  kvctl -e {client} put greeting hello\n  kvctl -e {client} get greeting\n  \
         kvctl -e {client} status\n  http://{http}/\n\n  data and logs: {dir}/<node>/\n  {stop}",
        client = first.client,
        http = first.http,
    );
    super::run::say_error(&help);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load, parse_founder};

    #[test]
    fn ports_names_zones_and_roles_follow_the_contract() {
        let shape = Shape { nodes: 4, reserved: 1, zones: 3, ..Shape::default() };
        let founders = shape.founders();
        assert_eq!(founders[0], "n1=127.0.0.1:7451@a");
        assert_eq!(founders[3], "n4=127.0.0.1:7481@a;role=reserved");
        assert!(founders.iter().all(|entry| parse_founder(entry).is_ok()));
        let nodes = shape.nodes(Path::new("/d"));
        assert_eq!(nodes[1].client, "127.0.0.1:7460");
        assert_eq!(nodes[1].http, "127.0.0.1:7462");
    }

    #[test]
    fn a_written_configuration_starts_the_node_again() {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape::default();
        let text = shape.config(1, folder.path(), &["request.timeout=3s".to_owned()]).unwrap();
        let file = folder.path().join("kvd.toml");
        std::fs::write(&file, text).unwrap();
        let loaded = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        assert_eq!(loaded.config.node.name, "n2");
        assert_eq!(loaded.config.request.timeout, Duration::from_secs(3));
        assert_eq!(loaded.config.cluster.founders.len(), 3);
        assert_eq!(Path::new(&loaded.config.node.pid_file), folder.path().join("kvd.pid"));
    }

    #[test]
    fn a_directory_keeps_its_shape() {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { nodes: 5, ..Shape::default() };
        std::fs::write(folder.path().join(SHAPE_FILE), toml::to_string(&shape).unwrap()).unwrap();
        assert_eq!(Shape::resolve(&Wish::default(), folder.path()).unwrap(), shape);
        let other = Wish { nodes: Some(3), ..Wish::default() };
        assert!(Shape::resolve(&other, folder.path()).is_err());
    }

    #[test]
    fn impossible_shapes_are_refused() {
        for shape in [
            Shape { nodes: 0, ..Shape::default() },
            Shape { reserved: 3, ..Shape::default() },
            Shape { zones: 0, ..Shape::default() },
            Shape { base_port: 65_530, ..Shape::default() },
        ] {
            assert!(shape.check().is_err(), "{shape:?}");
        }
    }
}
