//! More load than three nodes can serve: what is still served, and what it costs in memory.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use roundtable::client::Client;
use roundtable::load::generator::{self, Pace, Plan, Report};
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::schedule::Spacing;
use roundtable::load::timeline::Timeline;
use roundtable::picture::{Line, Plot, plot_svg};

use crate::Options;
use crate::fixture::{self, Cluster};

/// How much more than what a closed loop gets is asked for.
const FACTOR: f64 = 10.0;
const PATIENCE: Duration = Duration::from_secs(1);
const STRETCH: Duration = Duration::from_secs(1);

/// What it was like.
pub(crate) struct Overload {
    peak: f64,
    third: Duration,
    offered: Timeline,
    /// Seconds since the start and MiB of all three nodes.
    resident: Vec<(f64, f64)>,
    recovered: Report,
}

pub(crate) async fn run(options: &Options) -> Overload {
    let third = options.third();
    let cluster = fixture::Plan::new().with("storage.sync", "interval").start().await;
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE).attempts(1);
    let client = client.connect_lazy().expect("the addresses are addresses");
    let keys = || Keys::new("key-", 10_000, Distribution::Uniform).expect("some keys");
    let closed = Plan { workers: 128, duration: third / 2, ..Plan::new(keys()) };
    let peak = generator::run(&client, &closed).await.throughput();
    let offered = Arc::new(Mutex::new(Timeline::new(STRETCH)));
    let flood = Plan {
        pace: Pace::Open { rate: peak * FACTOR, spacing: Spacing::Even },
        workers: 20_000,
        duration: third * 2,
        timeline: Some(offered.clone()),
        ..Plan::new(keys())
    };
    let (resident, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let watching = watch(&cluster, resident.clone(), over.clone());
    let (_, ()) = tokio::join!(
        async {
            generator::run(&client, &flood).await;
            over.store(true, Ordering::Relaxed);
        },
        watching
    );
    let after = Plan { workers: 128, duration: third / 2, seed: 1, ..Plan::new(keys()) };
    let recovered = generator::run(&client, &after).await;
    let (offered, resident) = (offered.lock().clone(), resident.lock().clone());
    Overload { peak, third, offered, resident, recovered }
}

/// Notes the memory of the nodes until it is over.
async fn watch(cluster: &Cluster, resident: Arc<Mutex<Vec<(f64, f64)>>>, over: Arc<AtomicBool>) {
    let (step, mut passed) = (STRETCH / 2, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let mib: f64 = cluster.nodes.iter().map(|node| resident_mib(node.pid())).sum();
        resident.lock().push((passed.as_secs_f64(), mib));
        tokio::time::sleep(step).await;
        passed += step;
    }
}

fn resident_mib(pid: rustix::process::Pid) -> f64 {
    let file = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(file).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}

#[allow(clippy::cast_precision_loss, reason = "rates, not accounts")]
impl Overload {
    /// Served in each second but the first and the last.
    fn goodput(&self) -> Vec<(f64, f64)> {
        let end = self.third.as_secs_f64() * 2.0 - 1.0;
        let rate = |(at, stretch): (Duration, &roundtable::load::timeline::Stretch)| {
            (at.as_secs_f64(), stretch.latency.count() as f64 / STRETCH.as_secs_f64())
        };
        self.offered.stretches().map(rate).filter(|(at, _)| *at >= 1.0 && *at < end).collect()
    }

    pub(crate) fn plot(&self) -> String {
        let served = Line { name: "served a second".to_owned(), points: self.goodput() };
        let end = self.third.as_secs_f64() * 2.0;
        let peak = Line {
            name: "peak, closed loop".to_owned(),
            points: vec![(0.0, self.peak), (end, self.peak)],
        };
        let memory = Line { name: "MiB of three nodes".to_owned(), points: self.resident.clone() };
        plot_svg(&Plot {
            title: format!("{FACTOR} times the peak, open loop"),
            x_label: "seconds".to_owned(),
            y_label: "requests a second; MiB".to_owned(),
            is_log: true,
            lines: vec![served, peak, memory],
            marks: Vec::new(),
        })
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goodput = self.goodput();
        let served =
            goodput.iter().map(|(_, rate)| rate).sum::<f64>() / goodput.len().max(1) as f64;
        let most = self.resident.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
        let first = self.resident.first().map_or(0.0, |(_, mib)| *mib);
        write!(
            f,
            "overload: peak {:.0}/s in a closed loop; {FACTOR} times that offered for {} s: {served:.0}/s \
             served ({:.0} %), memory of three nodes {first:.0} to {most:.0} MiB; right after, closed \
             loop {:.0}/s",
            self.peak,
            self.third.as_secs() * 2,
            served / self.peak.max(1.0) * 100.0,
            self.recovered.throughput()
        )
    }
}
