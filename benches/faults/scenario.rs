//! One run through one fault.

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roundtable::client::{Client, Counts};
use roundtable::load::check;
use roundtable::load::generator::{self, Pace, Plan, Report};
use roundtable::load::history::History;
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::latency::Latency;
use roundtable::load::schedule::Spacing;
use roundtable::load::timeline::Timeline;
use roundtable::picture::{Line, Plot, plot_svg};
use rustix::process::Signal;

use crate::Options;
use crate::fixture::{self, Cluster};

/// Requests a second.
pub(crate) const RATE: f64 = 500.0;
/// When a request has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
const STRETCH: Duration = Duration::from_millis(500);
const VICTIM: usize = 1;

/// What happens to one of three owners, for the middle third of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Quiet,
    /// `kill -9`; it is started again at the end of the third.
    Kill,
    /// SIGSTOP: its sockets stay open and nobody answers; then SIGCONT.
    Stop,
    /// The same, of clients that ask no second node for reads that take long.
    StopUnhedged,
}

impl Fault {
    pub(crate) const ALL: [Fault; 4] =
        [Fault::Quiet, Fault::Kill, Fault::Stop, Fault::StopUnhedged];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Quiet => "quiet",
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::StopUnhedged => "stop, no second node",
        }
    }

    /// What it is asked for by.
    pub(crate) fn scenario(self) -> &'static str {
        if self == Fault::StopUnhedged { Fault::Stop.name() } else { self.name() }
    }
}

/// What a run was like.
pub(crate) struct Run {
    fault: Fault,
    third: Duration,
    report: Report,
    counts: Counts,
    timeline: Timeline,
    violations: usize,
}

pub(crate) async fn run(options: &Options, fault: Fault) -> Run {
    let third = options.third();
    let mut cluster = fixture::Plan::new().start().await;
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = if fault == Fault::StopUnhedged { client.hedge(0) } else { client };
    let client = client.connect_lazy().expect("the addresses are addresses");
    let timeline = Arc::new(Mutex::new(Timeline::new(STRETCH)));
    let history = Arc::new(Mutex::new(History::new()));
    let keys = Keys::new("key-", 1000, Distribution::Uniform).expect("some keys");
    let plan = Plan {
        pace: Pace::Open { rate: RATE, spacing: Spacing::Poisson },
        workers: 1024,
        duration: third * 3,
        timeline: Some(timeline.clone()),
        history: Some(history.clone()),
        ..Plan::new(keys)
    };
    let load = tokio::spawn({
        let client = client.clone();
        async move { generator::run(&client, &plan).await }
    });
    tokio::time::sleep(third).await;
    strike(&mut cluster, fault);
    tokio::time::sleep(third).await;
    mend(&mut cluster, fault);
    let report = load.await.expect("the load runs to its end");
    let counts = client.counts();
    cluster.ready().await;
    let violations = check::register(&history.lock());
    for violation in violations.iter().take(5) {
        println!("VIOLATION: {violation}");
    }
    let timeline = timeline.lock().clone();
    Run { fault, third, report, counts, timeline, violations: violations.len() }
}

fn strike(cluster: &mut Cluster, fault: Fault) {
    match fault {
        Fault::Quiet => {}
        Fault::Kill => cluster.nodes[VICTIM].kill(),
        Fault::Stop | Fault::StopUnhedged => cluster.nodes[VICTIM].signal(Signal::STOP),
    }
}

fn mend(cluster: &mut Cluster, fault: Fault) {
    match fault {
        Fault::Quiet => {}
        Fault::Kill => cluster.nodes[VICTIM].start(),
        Fault::Stop | Fault::StopUnhedged => cluster.nodes[VICTIM].signal(Signal::CONT),
    }
}

/// Latencies of what was due between two moments.
fn between(timeline: &Timeline, from: Duration, to: Duration) -> Latency {
    let mut all = Latency::default();
    for (at, stretch) in timeline.stretches() {
        if at >= from && at < to {
            all.merge(&stretch.latency);
        }
    }
    all
}

/// Latencies before, in and after a fault of the middle third, a line each.
pub(crate) fn thirds(timeline: &Timeline, third: Duration) -> String {
    let settled = third + Duration::from_secs(2);
    let parts = [
        ("before", Duration::ZERO, third),
        ("first 2 s", third, settled),
        ("then", settled, third * 2),
        ("after", third * 2, third * 3),
    ];
    let line = |(name, from, to)| {
        let latency = between(timeline, from, to);
        let [p50, p99] = [0.5, 0.99].map(|quantile| ms(latency.quantile(quantile)));
        let most = ms(latency.max());
        format!("\n       {name:<10} p50 {p50:>8.2} ms  p99 {p99:>8.2} ms  max {most:>8.2} ms")
    };
    parts.map(line).concat()
}

/// How many operations of a run succeeded, and how many failed.
pub(crate) fn counts(report: &Report) -> (u64, u64) {
    report.outcomes.values().fold((0, 0), |(ok, failed), outcomes| {
        (ok + outcomes.succeeded(), failed + outcomes.failed())
    })
}

pub(crate) fn ms(latency: Duration) -> f64 {
    latency.as_secs_f64() * 1000.0
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ok, failed) = counts(&self.report);
        #[allow(clippy::cast_precision_loss, reason = "a rate, not an account")]
        let again = self.counts.attempts.saturating_sub(self.counts.requests) as f64
            / self.counts.requests.max(1) as f64;
        write!(
            f,
            "{:<6} ok {ok:>6}  failed {failed:>3}  tried again {:.2} %  asked of a second node {}  lost \
             acknowledged {}",
            self.fault.name(),
            again * 100.0,
            self.counts.hedges,
            self.violations
        )?;
        write!(f, "{}", thirds(&self.timeline, self.third))?;
        for (kind, outcomes) in &self.report.outcomes {
            for (code, count) in &outcomes.errors {
                write!(f, "\n       {kind:?}: {count} x {code}")?;
            }
        }
        Ok(())
    }
}

/// p99 over time, a line a run.
pub(crate) fn plot(runs: &[Run]) -> String {
    let line = |run: &Run| {
        let points = run.timeline.stretches().map(|(at, stretch)| {
            let p99 = ms(stretch.latency.quantile(0.99));
            (at.as_secs_f64(), if stretch.latency.count() == 0 { f64::NAN } else { p99 })
        });
        Line { name: run.fault.name().to_owned(), points: points.collect() }
    };
    let third = runs.first().map_or(0.0, |run| run.third.as_secs_f64());
    plot_svg(&Plot {
        title: format!("p99 through the loss of one owner of three, {RATE} requests a second"),
        x_label: "seconds".to_owned(),
        y_label: "p99 in ms, by half seconds".to_owned(),
        is_log: true,
        lines: runs.iter().map(line).collect(),
        marks: vec![(third, "fault".to_owned()), (third * 2.0, "mended".to_owned())],
    })
}
