//! What the servers cost while they are asked: processor time and memory of the nodes that run on this
//! machine, which are found by the ports they listen on. Of others nothing is known.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::Status;
use crate::load::process;

/// Samples that are kept; when there are more, every other one is left out.
const SAMPLES_MAX: usize = 1200;

/// Processor time over less than this, in seconds, is too coarse to be drawn.
const BUSY_SECONDS_MIN: f64 = 0.3;

/// What the servers cost.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Servers {
    /// Why nothing, or not everything, is known.
    pub(super) why: Option<String>,
    /// Those that are known.
    pub(super) nodes: Vec<NodeCost>,
    /// Processor time of this process, for comparison, in seconds.
    pub(super) own_cpu_s: Option<f64>,
}

/// What a node costs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct NodeCost {
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
}

/// What a node has cost by then.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Seconds from the end of the warm-up.
    pub(super) at_s: f64,
    /// Processor time since the first sample.
    pub(super) cpu_s: f64,
    /// Memory in RAM.
    pub(super) resident_bytes: u64,
}

impl NodeCost {
    /// Processor time over all samples.
    pub(super) fn cpu_s(&self) -> f64 {
        self.samples.last().map_or(0.0, |last| last.cpu_s)
    }

    /// How long that took.
    pub(super) fn seconds(&self) -> f64 {
        self.samples.last().map_or(0.0, |last| last.at_s)
            - self.samples.first().map_or(0.0, |first| first.at_s)
    }

    /// The most memory that was seen.
    pub(super) fn resident_max(&self) -> u64 {
        self.samples.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0)
    }

    /// From one sample to the next: when, and how many processors were busy on average. Times too short
    /// for steps of 10 ms to tell are left out, as the last one may be.
    pub(super) fn busy(&self) -> Vec<(f64, f64)> {
        let step = |(a, b): (&Sample, &Sample)| {
            let seconds = b.at_s - a.at_s;
            (seconds >= BUSY_SECONDS_MIN).then(|| (b.at_s, (b.cpu_s - a.cpu_s) / seconds))
        };
        self.samples.iter().zip(self.samples.iter().skip(1)).filter_map(step).collect()
    }
}

impl Servers {
    /// Processor time of all nodes in seconds, when all are known.
    pub(super) fn cpu_s(&self) -> Option<f64> {
        let is_whole = self.why.is_none() && !self.nodes.is_empty();
        is_whole.then(|| self.nodes.iter().map(NodeCost::cpu_s).sum())
    }
}

/// Watches the nodes of this machine.
pub(super) struct Watch {
    nodes: Vec<(u32, NodeCost, Duration)>,
    why: Option<String>,
    own: Option<Duration>,
}

impl Watch {
    /// Finds the nodes.
    pub(super) fn new(status: &Status) -> Watch {
        let all = status.nodes.iter().filter(|node| node.state != "left");
        let all: Vec<(&str, Option<SocketAddr>)> =
            all.map(|node| (node.name.as_str(), node.address.parse().ok())).collect();
        let is_here = |address: &SocketAddr| address.ip().is_loopback();
        let here: Vec<(&str, SocketAddr)> = all
            .iter()
            .filter_map(|(name, address)| Some((*name, address.filter(is_here)?)))
            .collect();
        let addresses: Vec<SocketAddr> = here.iter().map(|(_, address)| *address).collect();
        let pids = process::listeners(&addresses);
        let known = pids.iter().flatten().count();
        // Several nodes of one process cost what it costs, once.
        let mut names: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for ((name, _), pid) in here.iter().zip(pids) {
            if let Some(pid) = pid {
                names.entry(pid).or_default().push(name);
            }
        }
        let cost = |names: Vec<&str>| NodeCost { name: names.join(", "), samples: Vec::new() };
        let mut nodes: Vec<_> =
            names.into_iter().map(|(pid, names)| (pid, cost(names), Duration::ZERO)).collect();
        nodes.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        let why = match (here.len(), known) {
            (0, _) => Some("no node listens on a loopback address of this machine".to_owned()),
            (_, 0) => Some("the nodes' processes cannot be looked at (/proc of Linux)".to_owned()),
            _ if known < all.len() => {
                Some(format!("only {known} of {} nodes can be looked at from here", all.len()))
            }
            _ => None,
        };
        Watch { nodes, why, own: None }
    }

    /// Takes a sample, `at` from the end of the warm-up on; the first one is where costs begin.
    pub(super) fn sample(&mut self, at: Duration) {
        self.own = self.own.or_else(process::own_cpu);
        for (pid, cost, begin) in &mut self.nodes {
            // One that has ended since costs nothing more.
            let Some(cpu) = process::cpu(*pid) else { continue };
            if cost.samples.is_empty() {
                *begin = cpu;
            }
            if cost.samples.len() >= SAMPLES_MAX {
                let mut place = 0;
                cost.samples.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
            }
            cost.samples.push(Sample {
                at_s: at.as_secs_f64(),
                cpu_s: cpu.saturating_sub(*begin).as_secs_f64(),
                resident_bytes: process::resident_bytes(*pid).unwrap_or(0),
            });
        }
    }

    /// What was seen.
    pub(super) fn finish(self) -> Servers {
        let own = self.own.zip(process::own_cpu());
        Servers {
            why: self.why,
            nodes: self.nodes.into_iter().map(|(_, cost, _)| cost).collect(),
            own_cpu_s: own.map(|(begin, end)| end.saturating_sub(begin).as_secs_f64()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn servers() -> Servers {
        let sample = |at: u32| Sample {
            at_s: f64::from(at),
            cpu_s: f64::from(at) / 4.0,
            resident_bytes: 100 << 20,
        };
        let node =
            |name: &str| NodeCost { name: name.to_owned(), samples: (0..=2).map(sample).collect() };
        Servers { why: None, nodes: ["n1", "n<2>"].map(node).to_vec(), own_cpu_s: Some(0.5) }
    }

    #[test]
    fn costs_count_from_the_first_sample_and_only_whole_ones_are_summed() {
        let mut servers = servers();
        assert_eq!(servers.cpu_s(), Some(1.0));
        assert_eq!(servers.nodes[0].busy(), [(1.0, 0.25), (2.0, 0.25)]);
        servers.why = Some("only 2 of 3".to_owned());
        assert_eq!(servers.cpu_s(), None);
    }

    #[test]
    fn a_long_watch_keeps_its_bound_and_its_ends() {
        let cost = NodeCost { name: "n1".to_owned(), samples: Vec::new() };
        let mut watch =
            Watch { nodes: vec![(std::process::id(), cost, Duration::ZERO)], why: None, own: None };
        (0..3 * SAMPLES_MAX as u64).for_each(|at| watch.sample(Duration::from_secs(at)));
        let servers = watch.finish();
        let samples = &servers.nodes[0].samples;
        if cfg!(target_os = "linux") {
            assert!(samples.len() <= SAMPLES_MAX && samples[0].at_s == 0.0);
            assert_eq!(samples.last().unwrap().at_s, 3599.0);
        }
    }
}
