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

/// How much more than the peak is offered.
const FACTOR: f64 = 10.0;
const SERVERS_CORE: usize = 0;
const GENERATORS_CORE: usize = 1;
const PATIENCE: Duration = Duration::from_secs(1);
const STRETCH: Duration = Duration::from_secs(1);

/// What it was like.
pub(crate) struct Overload {
    peak: f64,
    span: Duration,
    offered: Timeline,
    /// Requests that were really sent.
    sent: u64,
    report: Report,
    /// Seconds since the start and MiB of all three nodes.
    resident: Vec<(f64, f64)>,
    recovered: Report,
}

pub(crate) async fn run(options: &Options) -> Overload {
    let third = options.third();
    // What the servers can do must not depend on what the generator leaves them.
    stay_on(SERVERS_CORE);
    let cluster = fixture::Plan::new().with("storage.sync", "interval").start().await;
    stay_on(GENERATORS_CORE);
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE).attempts(1);
    let client = client.connect_lazy().expect("the addresses are addresses");
    let peak = peak(&client, third / 3).await;
    let offered = Arc::new(Mutex::new(Timeline::new(STRETCH)));
    let flood = Plan {
        pace: Pace::Open { rate: peak * FACTOR, spacing: Spacing::Even },
        workers: 4096,
        duration: third * 4,
        patience: Some(PATIENCE),
        timeline: Some(offered.clone()),
        ..Plan::new(keys())
    };
    let (resident, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let watching = watch(&cluster, resident.clone(), over.clone());
    let before = client.counts().requests;
    let (report, ()) = tokio::join!(
        async {
            let report = generator::run(&client, &flood).await;
            over.store(true, Ordering::Relaxed);
            report
        },
        watching
    );
    let sent = client.counts().requests - before;
    let after = Plan { workers: 128, duration: third / 3, seed: 1, ..Plan::new(keys()) };
    let recovered = generator::run(&client, &after).await;
    let (offered, resident) = (offered.lock().clone(), resident.lock().clone());
    Overload { peak, span: third * 4, offered, sent, report, resident, recovered }
}

fn keys() -> Keys {
    Keys::new("key-", 10_000, Distribution::Uniform).expect("some keys")
}

/// The most that closed loops of growing size get, in operations a second.
async fn peak(client: &Client, duration: Duration) -> f64 {
    let mut peak: f64 = 0.0;
    for workers in [64, 256, 1024, 4096] {
        let closed = Plan { workers, duration, patience: Some(PATIENCE), ..Plan::new(keys()) };
        peak = peak.max(generator::run(client, &closed).await.throughput());
    }
    peak
}

/// Moves this thread, and what it starts from now on, to one core.
fn stay_on(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).expect("the machine has two cores");
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
    /// Answered within the users' patience, by the second in which it was due; the first and the last
    /// second are left out.
    fn goodput(&self) -> Vec<(f64, f64)> {
        let end = self.span.as_secs_f64() - 1.0;
        let rate = |(at, stretch): (Duration, &roundtable::load::timeline::Stretch)| {
            (at.as_secs_f64(), stretch.latency.count() as f64 / STRETCH.as_secs_f64())
        };
        self.offered.stretches().map(rate).filter(|(at, _)| *at >= 1.0 && *at < end).collect()
    }

    pub(crate) fn plot(&self) -> String {
        let served = Line { name: "served a second".to_owned(), points: self.goodput() };
        let end = self.span.as_secs_f64();
        let peak = Line {
            name: "peak, closed loops".to_owned(),
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
        let seconds = self.span.as_secs_f64();
        writeln!(
            f,
            "overload (servers on one core, the generator on the other): peak {:.0}/s in closed loops; \
             {FACTOR} times that due for {seconds} s, {:.0}/s of it really sent",
            self.peak,
            self.sent as f64 / seconds,
        )?;
        writeln!(
            f,
            "       answered within {} s of being due: {served:.0}/s ({:.0} % of the peak); memory of \
             three nodes {first:.0} to {most:.0} MiB; right after, closed loop of 128: {:.0}/s",
            PATIENCE.as_secs(),
            served / self.peak.max(1.0) * 100.0,
            self.recovered.throughput()
        )?;
        for (kind, outcomes) in &self.report.outcomes {
            write!(f, "       {kind:?}: p50 {:.1?}", outcomes.latency.quantile(0.5))?;
            for (code, count) in &outcomes.errors {
                write!(f, ", {count} x {code}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
