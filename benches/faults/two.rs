//! Two owners of three are killed at once, in a cluster of five: strict writes must fail at once and
//! say why, sloppy ones must go on, and what they wrote must be with its owners once those are back.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roundtable::client::{Client, Lane, Sloppy};
use roundtable::load::generator::{self, Pace, Plan, Report};
use roundtable::load::history::{History, Outcome};
use roundtable::load::keys::Keys;
use roundtable::load::latency::Latency;
use roundtable::load::schedule::Spacing;
use roundtable::load::timeline::Timeline;
use roundtable::types::{Key, Stamp};

use crate::Options;
use crate::fixture::{self, Cluster, clock};
use crate::scenario::{self, PATIENCE, RATE, ms};

const NODES: usize = 5;
const VICTIMS: [usize; 2] = [1, 2];
/// Keys that both victims own.
const KEYS: usize = 500;
const TABLE: &str = "sloppy";
/// How long hints may take to come home before that is given up.
const HOME: Duration = Duration::from_secs(60);

/// What became of strict writes while two owners of three were away.
#[derive(Default)]
struct Strict {
    asked: u64,
    /// Failed with `needed 2, got 1`.
    said_why: u64,
    /// Until they had failed.
    latency: Latency,
    others: BTreeMap<String, u64>,
}

/// What it was like.
pub(crate) struct Two {
    third: Duration,
    report: Report,
    timeline: Timeline,
    strict: Strict,
    /// Hints at the end of the fault.
    hints: u64,
    /// From the start of the owners until the last hint was home.
    home: Option<Duration>,
    acknowledged: usize,
    lost: usize,
}

pub(crate) async fn run(options: &Options) -> Two {
    let third = options.third();
    let mut cluster = fixture::Plan::new().of(NODES).start().await;
    let client = Client::builder().endpoints(cluster.endpoints()).timeout(PATIENCE);
    let client = client.connect_lazy().expect("the addresses are addresses");
    client.tables().create(TABLE).sloppy(Sloppy::Always).await.expect("the table can be made");
    let keys = keys_of_both(&client, &cluster).await;
    let timeline = Arc::new(Mutex::new(Timeline::new(Duration::from_millis(500))));
    let history = Arc::new(Mutex::new(History::new()));
    let plan = Plan {
        pace: Pace::Open { rate: RATE, spacing: Spacing::Poisson },
        workers: 1024,
        duration: third * 3,
        table: TABLE.to_owned(),
        timeline: Some(timeline.clone()),
        history: Some(history.clone()),
        ..Plan::new(Keys::listed(keys.clone()).expect("there are keys"))
    };
    let load = tokio::spawn({
        let client = client.clone();
        async move { generator::run(&client, &plan).await }
    });
    tokio::time::sleep(third).await;
    VICTIMS.iter().for_each(|victim| cluster.nodes[*victim].kill());
    let strict = strict(&cluster, &keys, third).await;
    let hints = hints(&cluster).await;
    VICTIMS.iter().for_each(|victim| cluster.nodes[*victim].start());
    let home = home(&cluster).await;
    let report = load.await.expect("the load runs to its end");
    cluster.ready().await;
    let home = if hints == 0 { None } else { home };
    let acknowledged = acknowledged(&history.lock());
    let lost = lost(&client, TABLE, &acknowledged).await;
    let (timeline, acknowledged) = (timeline.lock().clone(), acknowledged.len());
    Two { third, report, timeline, strict, hints, home, acknowledged, lost }
}

/// Keys of which both victims are owners.
async fn keys_of_both(client: &Client, cluster: &Cluster) -> Vec<Key> {
    let names = VICTIMS.map(|victim| cluster.nodes[victim].name.clone());
    let mut keys = Vec::new();
    for number in 0.. {
        let key = format!("key-{number}");
        let place = client.locate(key.clone()).table(TABLE).await.expect("a node answers");
        if names.iter().all(|name| place.owners.iter().any(|owner| owner == name)) {
            keys.push(Key::new(key).expect("a short key"));
        }
        if keys.len() == KEYS {
            break;
        }
    }
    keys
}

/// Asks for strict writes, one attempt each, until the time is over.
async fn strict(cluster: &Cluster, keys: &[Key], time: Duration) -> Strict {
    let there = (0..NODES).filter(|node| !VICTIMS.contains(node));
    let endpoints: Vec<String> = there.map(|node| cluster.nodes[node].client.to_string()).collect();
    let client = Client::builder().endpoints(endpoints).attempts(1).lane(Lane::Unary);
    let client = client.timeout(PATIENCE).follow_ring(false).connect_lazy();
    let client = client.expect("the addresses are addresses");
    let (begin, mut strict) = (clock::now(), Strict::default());
    for key in keys.iter().cycle() {
        if begin.elapsed() >= time {
            break;
        }
        let asked = clock::now();
        let answer = client.put(key.bytes().clone(), "strict").await;
        strict.asked += 1;
        match answer {
            Err(error) if error.message().contains("needed 2, got 1") => {
                strict.said_why += 1;
                strict.latency.record(asked.elapsed());
            }
            Err(error) => *strict.others.entry(error.code().to_owned()).or_default() += 1,
            Ok(_) => *strict.others.entry("OK".to_owned()).or_default() += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    strict
}

/// Hints in the cluster; nodes that do not answer count as holding one.
async fn hints(cluster: &Cluster) -> u64 {
    let mut all = 0;
    for node in 0..NODES {
        let answer = cluster.client_of(node).hints().timeout(PATIENCE).await;
        all += answer.map_or(1, |hints| hints.lines.iter().map(|line| line.totals.count).sum());
    }
    all
}

async fn home(cluster: &Cluster) -> Option<Duration> {
    let begin = clock::now();
    while begin.elapsed() < HOME {
        if hints(cluster).await == 0 {
            return Some(begin.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// The highest stamp that was acknowledged for each key.
pub(crate) fn acknowledged(history: &History) -> BTreeMap<Key, Stamp> {
    let mut all: BTreeMap<Key, Stamp> = BTreeMap::new();
    for operation in history.operations() {
        if let Outcome::Written { stamp, .. } = operation.outcome {
            let newest = all.entry(operation.key.clone()).or_default();
            *newest = stamp.max(*newest);
        }
    }
    all
}

/// Keys of which a strict read shows less than was acknowledged.
pub(crate) async fn lost(
    client: &Client,
    table: &str,
    acknowledged: &BTreeMap<Key, Stamp>,
) -> usize {
    let mut lost = 0;
    for (key, newest) in acknowledged {
        let reply = client.get(key.bytes().clone()).table(table).strict().await;
        lost += usize::from(reply.expect("all owners are there").receipt.stamp < *newest);
    }
    lost
}

impl fmt::Display for Two {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ok, failed) = scenario::counts(&self.report);
        write!(
            f,
            "two    five nodes, two of three owners killed; sloppy: ok {ok:>6}  failed {failed:>3}  lost \
             acknowledged {} of {} keys",
            self.lost, self.acknowledged
        )?;
        write!(f, "{}", scenario::thirds(&self.timeline, self.third))?;
        let home = self.home.map_or("not home".to_owned(), |took| format!("home in {took:.1?}"));
        write!(f, "\n       {} hints when the owners were started, {home}", self.hints)?;
        let Strict { asked, said_why, latency, others } = &self.strict;
        write!(
            f,
            "\n       strict: {said_why} of {asked} said \"needed 2, got 1\"; p50 {:.2} ms, p99 {:.2} ms, \
             max {:.2} ms",
            ms(latency.quantile(0.5)),
            ms(latency.quantile(0.99)),
            ms(latency.max())
        )?;
        for (code, count) in others {
            write!(f, ", {count} x {code}")?;
        }
        for (kind, outcomes) in &self.report.outcomes {
            for (code, count) in &outcomes.errors {
                write!(f, "\n       {kind:?}: {count} x {code}")?;
            }
        }
        Ok(())
    }
}
