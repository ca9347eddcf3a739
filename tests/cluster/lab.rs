//! A network of the test's own: a bridge, and machines on it, each in a namespace without a name.
//! The thread of the test is on the bridge and reaches all of them. What one machine sends to
//! another can be made to vanish, each direction by itself, by an address of the link layer that
//! nobody has: no filter of packets is needed, and nobody is told, as with a cable that is cut.
//!
//! The host's network is not touched, and nothing is left behind: the namespaces go with the last
//! one who holds them, whatever happens to the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::fixture::namespace::{Inside, Namespace};
use crate::fixture::node::Place;

/// The link-layer address that nobody has.
const NOBODY: &str = "02:00:00:4d:ff:ff";
/// The last byte of the bridge's addresses.
const BRIDGE: u8 = 254;

/// The network. Must be dropped on the thread that made it.
pub(crate) struct Lab {
    // First: this thread is back among everybody before the network goes.
    _inside: Inside,
    _bridge: Namespace,
    machines: Vec<Arc<Namespace>>,
}

impl Lab {
    /// A network of so many machines; `None`, after saying why, where there can be none.
    pub(crate) async fn start(machines: u8) -> Option<Lab> {
        match Lab::build(machines).await {
            Ok(lab) => Some(lab),
            Err(reason) => {
                println!("passed without a test, there are no namespaces here: {reason}");
                None
            }
        }
    }

    async fn build(count: u8) -> Result<Lab, String> {
        let bridge = Namespace::create().await?;
        let mut machines = Vec::new();
        for _ in 0..count {
            machines.push(Arc::new(Namespace::create().await?));
        }
        let inside = bridge.enter().map_err(|error| format!("setns: {error}"))?;
        let mut lines = format!(
            "link set lo up\nlink add br0 address {} type bridge\naddr add {}/24 dev br0\n\
             link set br0 up\n",
            mac(BRIDGE),
            ip(BRIDGE)
        );
        for (number, machine) in (1..).zip(&machines) {
            let (mac, pid) = (mac(number), machine.pid());
            let _ = write!(
                lines,
                "link add to{number} type veth peer name eth0 address {mac} netns {pid}\n\
                 link set to{number} master br0 up\n"
            );
        }
        configure(&lines)?;
        for (number, machine) in (1..).zip(&machines) {
            let mut lines =
                format!("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n", ip(number));
            // Said and never asked for, so that it is nobody's word but ours who is where.
            for other in (1..=count).filter(|other| *other != number) {
                lines.push_str(&neighbour(other, &mac(other)));
            }
            let _there = machine.enter().map_err(|error| format!("setns: {error}"))?;
            configure(&lines)?;
        }
        Ok(Lab { _inside: inside, _bridge: bridge, machines })
    }

    /// A node on the machine at `index`, from 0.
    pub(crate) fn place(&self, index: usize) -> Place {
        let ip = IpAddr::V4(ip(number(index)));
        let ports = [7450, 7451, 7452].map(|port| SocketAddr::new(ip, port));
        Place { ports, network: Some(self.machines[index].clone()) }
    }

    /// Nodes on the first `count` machines.
    pub(crate) fn places(&self, count: usize) -> Vec<Place> {
        (0..count).map(|index| self.place(index)).collect()
    }

    /// What each of `from` sends to each of `to` vanishes from now on.
    pub(crate) fn lose(&self, from: &[usize], to: &[usize]) {
        self.tell(from, to, |_| NOBODY.to_owned());
    }

    /// Neither side hears the other any more.
    pub(crate) fn part(&self, one: &[usize], other: &[usize]) {
        self.lose(one, other);
        self.lose(other, one);
    }

    /// Everybody hears everybody.
    pub(crate) fn heal(&self) {
        let all: Vec<usize> = (0..self.machines.len()).collect();
        self.tell(&all, &all, mac);
    }

    fn tell(&self, from: &[usize], to: &[usize], mac_of: impl Fn(u8) -> String) {
        let mut lines: BTreeMap<usize, String> = BTreeMap::new();
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
            if from != to {
                let to = number(to);
                lines.entry(from).or_default().push_str(&neighbour(to, &mac_of(to)));
            }
        }
        for (machine, lines) in lines {
            let _there = self.machines[machine].enter().unwrap();
            configure(&lines).unwrap();
        }
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index + 1).unwrap()
}

fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

fn mac(number: u8) -> String {
    format!("02:00:00:4d:00:{number:02x}")
}

fn neighbour(number: u8, mac: &str) -> String {
    format!("neigh replace {} lladdr {mac} dev eth0 nud permanent\n", ip(number))
}

/// Carries out lines of `ip` in the namespace of this thread.
fn configure(lines: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("ip: {error}"))?;
    let pipe = child.stdin.take();
    pipe.expect("it is piped").write_all(lines.as_bytes()).map_err(|e| format!("ip: {e}"))?;
    let output = child.wait_with_output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
