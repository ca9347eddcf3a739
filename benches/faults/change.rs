//! Members come, go, are replaced and restarted while an open loop asks: each phase beside the quiet
//! one before it.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roundtable::client::{Client, Counts};
use roundtable::load::check;
use roundtable::load::generator::{self, Pace, Plan, Report};
use roundtable::load::history::History;
use roundtable::load::keys::{Distribution, Keys};
use roundtable::load::schedule::Spacing;
use roundtable::load::timeline::Timeline;
use roundtable::types::NodeName;

use crate::Options;
use crate::fill::Fill;
use crate::fixture::{self, Cluster, clock};
use crate::phases::{self, Phase, STRETCH};
use crate::scenario::{self, PATIENCE, RATE};
use crate::two;

/// The load ends by then, whatever has become of the changes.
const LONGEST: Duration = Duration::from_secs(240);
/// How long one change may take.
const SETTLED: Duration = Duration::from_secs(100);
/// How often it is looked whether one is over, as `kvctl plan status --watch` does.
const LOOK: Duration = Duration::from_millis(250);
/// Records of the fill that are read back: one in so many.
const SAMPLE: u64 = 20;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Two nodes join three, then one of the five leaves.
    Grow,
    /// A node is killed, and another takes its place.
    Replace,
    /// Each node is stopped and started, the next when the one before is known to serve.
    Rolling,
}

impl Change {
    pub(crate) const ALL: [Change; 3] = [Change::Grow, Change::Replace, Change::Rolling];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Change::Grow => "grow",
            Change::Replace => "replace",
            Change::Rolling => "rolling",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Change::Grow => "3 -> 5 -> 4 nodes",
            Change::Replace => "a killed node is replaced",
            Change::Rolling => "all nodes are restarted in turn",
        }
    }
}

/// What it was like.
pub(crate) struct Run {
    change: Change,
    fill: Fill,
    phases: Vec<Phase>,
    report: Report,
    counts: Counts,
    timeline: Timeline,
    violations: usize,
    /// Keys whose acknowledged write is missing at the end, of so many.
    lost: (usize, usize),
    /// The same of the records that lay there.
    missing: (u64, u64),
}

/// A cluster under load, and the book of what is done to it.
struct Script {
    cluster: Cluster,
    begin: Instant,
    phases: Vec<Phase>,
    quiet: Duration,
}

pub(crate) async fn run(options: &Options, change: Change) -> Run {
    let fill = Fill { records: if options.quick { 20_000 } else { 400_000 }, value_bytes: 1000 };
    let cluster = fixture::Plan::new().start().await;
    fill.write(&cluster).await;
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = client.connect_lazy().expect("the addresses are addresses");
    // What is measured is the change, and not how connections are opened.
    let warm = Plan { duration: Duration::from_secs(1), ..Plan::new(keys("warm-")) };
    generator::run(&client, &warm).await;
    let timeline = Arc::new(Mutex::new(Timeline::new(STRETCH)));
    let history = Arc::new(Mutex::new(History::new()));
    let stop = Arc::<AtomicBool>::default();
    let plan = Plan {
        pace: Pace::Open { rate: RATE, spacing: Spacing::Poisson },
        patience: Some(PATIENCE),
        workers: 1024,
        duration: LONGEST,
        stop: Some(stop.clone()),
        timeline: Some(timeline.clone()),
        history: Some(history.clone()),
        ..Plan::new(keys("key-"))
    };
    let load = tokio::spawn({
        let client = client.clone();
        async move { generator::run(&client, &plan).await }
    });
    let quiet = Duration::from_secs(if options.quick { 3 } else { 15 });
    let mut script = Script { cluster, begin: clock::now(), phases: Vec::new(), quiet };
    script.rest("quiet").await;
    match change {
        Change::Grow => script.grow().await,
        Change::Replace => script.replace().await,
        Change::Rolling => script.rolling().await,
    }
    script.rest("after").await;
    stop.store(true, Ordering::Relaxed);
    let report = load.await.expect("the load runs to its end");
    let counts = client.counts();
    let violations = check::register(&history.lock());
    for violation in violations.iter().take(5) {
        println!("VIOLATION: {violation}");
    }
    let acknowledged = two::acknowledged(&history.lock());
    let lost = (two::lost(&client, "", &acknowledged).await, acknowledged.len());
    let missing = fill.missing(&client, SAMPLE).await;
    let timeline = timeline.lock().clone();
    let (phases, violations) = (script.phases, violations.len());
    Run { change, fill, phases, report, counts, timeline, violations, lost, missing }
}

fn keys(prefix: &str) -> Keys {
    Keys::new(prefix, 1000, Distribution::Uniform).expect("some keys")
}

impl Script {
    /// A phase in which nothing is done.
    async fn rest(&mut self, name: &str) {
        self.open(name, false);
        tokio::time::sleep(self.quiet).await;
        self.close();
    }

    fn open(&mut self, name: &str, is_change: bool) {
        let from = clock::now().duration_since(self.begin);
        self.phases.push(Phase { name: name.to_owned(), is_change, from, to: from });
    }

    fn close(&mut self) {
        if let Some(phase) = self.phases.last_mut() {
            phase.to = clock::now().duration_since(self.begin);
        }
    }

    async fn grow(&mut self) {
        self.open("two start and join", true);
        self.cluster.add("n4").await;
        self.cluster.add("n5").await;
        let plans = self.cluster.client_of(0);
        for name in ["n4", "n5"] {
            plans.plans().stage_join(node(name)).await.expect("it is a reserved member");
        }
        carry_out(&plans).await;
        self.close();
        self.rest("five nodes").await;
        self.open("one leaves and stops", true);
        plans.plans().stage_leave(node("n5")).await.expect("it is a member");
        carry_out(&plans).await;
        assert_eq!(self.cluster.nodes[4].stop().await.code(), Some(0));
        self.close();
    }

    async fn replace(&mut self) {
        self.open("killed", true);
        self.cluster.nodes[1].kill();
        tokio::time::sleep(self.quiet / 3).await;
        self.close();
        self.open("another takes its place", true);
        self.cluster.add("n4").await;
        let plans = self.cluster.client_of(0);
        plans.plans().stage_replace(node("n2"), node("n4")).await.expect("both are members");
        carry_out(&plans).await;
        self.close();
    }

    async fn rolling(&mut self) {
        for index in 0..3 {
            self.open(&format!("n{} stops and starts", index + 1), true);
            assert_eq!(self.cluster.nodes[index].stop().await.code(), Some(0));
            self.cluster.nodes[index].start();
            self.cluster.nodes[index].ready().await;
            self.cluster.known_to_serve(index).await;
            self.close();
        }
    }
}

fn node(name: &str) -> NodeName {
    name.parse().expect("a short name")
}

/// Commits what is staged, and waits until the plan has ended.
pub(crate) async fn carry_out(client: &Client) {
    let shown = client.plans().show().await.expect("the node answers");
    let hash = shown.draft.expect("something is staged").hash;
    client.plans().commit(hash).await.expect("the plan can be carried out");
    clock::until("the plan has ended", SETTLED, async || {
        // What is told names each unit of the plan: to ask without a pause would be a load of its own.
        tokio::time::sleep(LOOK).await;
        let shown = client.plans().show().await.ok()?;
        shown.running.is_none().then_some(())
    })
    .await;
}

impl Run {
    pub(crate) fn plot(&self) -> String {
        let title = format!("{}, {RATE} requests a second", self.change.title());
        phases::plot(title, &self.timeline, &self.phases)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ok, failed) = scenario::counts(&self.report);
        #[allow(clippy::cast_precision_loss, reason = "a rate, not an account")]
        let again = self.counts.attempts.saturating_sub(self.counts.requests) as f64
            / self.counts.requests.max(1) as f64;
        writeln!(
            f,
            "{:<7} {}, {} MiB a copy lie there: ok {ok}  failed {failed}  tried again {:.2} %  \
             broken promises {}  missing: {} of {} acknowledged keys, {} of {} records that lay there",
            self.change.name(),
            self.change.title(),
            self.fill.mib(),
            again * 100.0,
            self.violations,
            self.lost.0,
            self.lost.1,
            self.missing.0,
            self.missing.1,
        )?;
        for (kind, outcomes) in &self.report.outcomes {
            for (code, count) in &outcomes.errors {
                writeln!(f, "       {kind:?}: {count} x {code}")?;
            }
        }
        writeln!(f, "{}", phases::table(&self.timeline, &self.phases))?;
        write!(f, "{}", phases::by_the_second(&self.timeline, &self.phases))
    }
}
