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
use crate::fixture::{self, Cluster, clock, http};

/// How much more than the peak is offered.
const FACTOR: f64 = 10.0;
/// Clients of the flood: each has connections of its own, and holds back only by itself.
pub(crate) const MANY: u32 = 32;
const SERVERS_CORE: usize = 0;
const GENERATORS_CORE: usize = 1;
const PATIENCE: Duration = Duration::from_secs(1);
const STRETCH: Duration = Duration::from_secs(1);

/// What it was like.
pub(crate) struct Overload {
    clients: u32,
    peak: f64,
    span: Duration,
    offered: Timeline,
    /// Requests that were really sent.
    sent: u64,
    report: Report,
    /// By the second, of all three nodes.
    watched: Vec<Watched>,
    recovered: Report,
}

/// What three nodes held at a moment.
#[derive(Clone, Copy, Default)]
struct Watched {
    /// Since the start.
    seconds: f64,
    /// Memory.
    resident_mib: f64,
    /// Bytes that wait: for the drivers, for streams to peers, for the logs.
    queued_mib: f64,
    /// Operations without an answer.
    in_flight: f64,
}

pub(crate) async fn run(options: &Options, clients: u32) -> Overload {
    let third = options.third();
    // What the servers can do must not depend on what the generator leaves them.
    stay_on(SERVERS_CORE);
    let cluster = fixture::Plan::new().with("storage.sync", "interval").start().await;
    stay_on(GENERATORS_CORE);
    let client = || {
        let client = Client::builder().endpoints(cluster.endpoints());
        let client = client.timeout(PATIENCE).attempts(1).connect_lazy();
        client.expect("the addresses are addresses")
    };
    let one = client();
    let peak = peak(&one, third / 3).await;
    let all: Vec<Client> = (0..clients).map(|_| client()).collect();
    let offered = Arc::new(Mutex::new(Timeline::new(STRETCH)));
    let over = Arc::new(AtomicBool::new(false));
    let watching = watch(&cluster, over.clone());
    let (report, watched) = tokio::join!(
        async {
            let report = flood(&all, peak * FACTOR, third * 4, &offered).await;
            over.store(true, Ordering::Relaxed);
            report
        },
        watching
    );
    let sent = all.iter().map(|client| client.counts().requests).sum();
    let after = Plan { workers: 128, duration: third / 3, seed: 1, ..Plan::new(keys()) };
    let recovered = generator::run(&one, &after).await;
    let offered = offered.lock().clone();
    Overload { clients, peak, span: third * 4, offered, sent, report, watched, recovered }
}

/// An open loop of so many operations a second, over all clients.
async fn flood(
    clients: &[Client],
    rate: f64,
    duration: Duration,
    offered: &Arc<Mutex<Timeline>>,
) -> Report {
    let share = u32::try_from(clients.len()).unwrap_or(1).max(1);
    let mut loads = tokio::task::JoinSet::new();
    for (seed, client) in (100..).zip(clients.iter().cloned()) {
        let plan = Plan {
            pace: Pace::Open { rate: rate / f64::from(share), spacing: Spacing::Even },
            workers: (4096 / share).max(512),
            duration,
            patience: Some(PATIENCE),
            timeline: Some(offered.clone()),
            seed,
            ..Plan::new(keys())
        };
        loads.spawn(async move { generator::run(&client, &plan).await });
    }
    let mut all = Report::default();
    while let Some(report) = loads.join_next().await {
        all.merge(&report.expect("a load runs to its end"));
    }
    all
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

/// Notes what the nodes hold until it is over.
async fn watch(cluster: &Cluster, over: Arc<AtomicBool>) -> Vec<Watched> {
    let (begin, mut all) = (clock::now(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let mut watched = Watched { seconds: begin.elapsed().as_secs_f64(), ..Watched::default() };
        for node in &cluster.nodes {
            watched.resident_mib += resident_mib(node.pid());
            // A node that is too busy to answer within a second counts as before.
            let page = http::get(node.http, "/metrics").await;
            let sum = |names: &[&str]| page.as_ref().map_or(0.0, |page| sum(&page.body, names));
            watched.queued_mib += sum(&QUEUES) / f64::from(1 << 20);
            watched.in_flight += sum(&["kv_operations_in_flight"]);
        }
        all.push(watched);
        tokio::time::sleep(STRETCH / 2).await;
    }
    all
}

/// Gauges of what waits, in bytes.
const QUEUES: [&str; 3] =
    ["kv_operations_queued_bytes", "kv_peer_queue_bytes", "kv_store_pending_bytes"];

/// The sum of all samples of these gauges on a page of metrics.
fn sum(page: &str, names: &[&str]) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        let name = name.split('{').next()?;
        names.contains(&name).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn resident_mib(pid: rustix::process::Pid) -> f64 {
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    roundtable::load::process::resident_bytes(pid).unwrap_or(0) as f64 / f64::from(1 << 20)
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
        let watched = |name: &str, read: fn(&Watched) -> f64| Line {
            name: name.to_owned(),
            points: self.watched.iter().map(|at| (at.seconds, read(at))).collect(),
        };
        let memory = watched("MiB of three nodes", |at| at.resident_mib);
        let queues = watched("KiB in their queues", |at| (at.queued_mib * 1024.0).max(1.0));
        let in_flight = watched("operations without an answer", |at| at.in_flight.max(1.0));
        plot_svg(&Plot {
            title: format!("{FACTOR} times the peak, open loop, clients: {}", self.clients),
            x_label: "seconds".to_owned(),
            y_label: "requests a second; MiB; KiB; operations".to_owned(),
            is_log: true,
            lines: vec![served, peak, memory, queues, in_flight],
            marks: Vec::new(),
        })
    }
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goodput = self.goodput();
        let served =
            goodput.iter().map(|(_, rate)| rate).sum::<f64>() / goodput.len().max(1) as f64;
        let most = |read: fn(&Watched) -> f64| self.watched.iter().map(read).fold(0.0, f64::max);
        let first = self.watched.first().map_or(0.0, |at| at.resident_mib);
        let seconds = self.span.as_secs_f64();
        writeln!(
            f,
            "{} (servers on one core, the generator on the other): peak {:.0}/s in closed loops; \
             {FACTOR} times that due for {seconds} s from clients: {}; {:.0}/s really sent",
            if self.clients == 1 { "overload" } else { "flood" },
            self.peak,
            self.clients,
            self.sent as f64 / seconds,
        )?;
        writeln!(
            f,
            "       answered within {} s of being due: {served:.0}/s ({:.0} % of the peak); memory of \
             three nodes {first:.0} to {:.0} MiB, queues up to {:.2} MiB, {:.0} operations in flight; \
             right after, closed loop of 128: {:.0}/s",
            PATIENCE.as_secs(),
            served / self.peak.max(1.0) * 100.0,
            most(|at| at.resident_mib),
            most(|at| at.queued_mib),
            most(|at| at.in_flight),
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
