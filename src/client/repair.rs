//! Questions to one node about how it compares itself with other owners.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::wire::proto::admin;
use admin::repair_request::{Diff, Show, Start, What};

use super::Error;
use super::call::{Core, Operation, Try};
use super::endpoint::Endpoint;
use super::status_error::from_status;

pub use crate::message::{RepairGauges, RunLine};

/// A part of a class of tables: all keys of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName {
    /// The class.
    pub class: u32,
    /// The partition.
    pub partition: u32,
}

/// How far one node is with its comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The node.
    pub me: String,
    /// Each pair of owners compares each unit at least once in this.
    pub interval: Duration,
    /// Counts since its start, and sizes.
    pub counts: RepairGauges,
    /// Pairs that are being compared, or wait for that because they differ.
    pub under_way: u64,
    /// What was started, the newest last.
    pub runs: Vec<RunLine>,
    /// If they were asked for.
    pub pairs: Vec<RepairPair>,
    /// What differs, if that was asked for.
    pub differences: Vec<UnitDifference>,
    /// There may be more behind this.
    pub next: Option<UnitName>,
}

/// A unit and another owner of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairPair {
    /// The unit.
    pub unit: UnitName,
    /// The other owner.
    pub peer: String,
    /// How long ago both were found equal; `None`: not since the node's start.
    pub verified: Option<Duration>,
    /// Keys that differed when it was last compared.
    pub keys: u64,
    /// It is being compared, or waits for that because it differs.
    pub under_way: bool,
}

/// A unit of two owners, compared and left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitDifference {
    /// The unit.
    pub unit: UnitName,
    /// `equal`, `differs` or `unknown`.
    pub found: String,
    /// Keys that differ.
    pub count: u64,
    /// Some of them.
    pub keys: Vec<KeyDifference>,
    /// Why it is unknown.
    pub why: String,
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyDifference {
    /// Its table.
    pub table: String,
    /// The key.
    pub key: Bytes,
    /// Who lacks something: `first` (the node that was asked), `second` or `both`.
    pub lacks: String,
}

/// A question about comparisons, or a wish: `.await` it. Which node is asked is up to the picker: use
/// a client with one endpoint to choose. Harmless when repeated.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct RepairRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    what: What,
}

impl RepairRequest {
    fn new(core: Arc<Core>, what: What) -> RepairRequest {
        RepairRequest { core, timeout: None, what }
    }

    pub(crate) fn status(core: Arc<Core>) -> RepairRequest {
        RepairRequest::new(core, What::Show(Show { pairs: false }))
    }

    pub(crate) fn start(core: Arc<Core>) -> RepairRequest {
        RepairRequest::new(core, What::Start(Start::default()))
    }

    pub(crate) fn cancel(core: Arc<Core>) -> RepairRequest {
        RepairRequest::new(core, What::Cancel(true))
    }

    pub(crate) fn diff(core: Arc<Core>, peer: String) -> RepairRequest {
        RepairRequest::new(core, What::Diff(Diff { peer, ..Diff::default() }))
    }

    /// Sets how long the request may take over all its attempts; the client's default when left
    /// out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Of a status: each pair as well.
    pub fn pairs(mut self) -> Self {
        if let What::Show(show) = &mut self.what {
            show.pairs = true;
        }
        self
    }

    /// Of a start or a difference: only units of this table's class.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        match &mut self.what {
            What::Start(start) => start.table = name.into(),
            What::Diff(diff) => diff.table = name.into(),
            What::Show(_) | What::Cancel(_) => {}
        }
        self
    }

    /// Of a start: only these partitions, the last included.
    pub fn partitions(mut self, first: u32, last: u32) -> Self {
        if let What::Start(start) = &mut self.what {
            (start.first_partition, start.last_partition) = (Some(first), Some(last));
        }
        self
    }

    /// Of a start: with all other owners. Else with those of a higher number only, so that all nodes
    /// together compare each pair once.
    pub fn all_pairs(mut self) -> Self {
        if let What::Start(start) = &mut self.what {
            start.all_pairs = true;
        }
        self
    }

    /// Of a difference: of units behind this one.
    pub fn after(mut self, unit: UnitName) -> Self {
        if let What::Diff(diff) = &mut self.what {
            let UnitName { class, partition } = unit;
            diff.after = Some(admin::RepairUnit { class, partition });
        }
        self
    }
}

impl Operation for RepairRequest {
    type Answer = Repair;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Repair, Error> {
        let mut request = Request::new(admin::RepairRequest { what: Some(self.what.clone()) });
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().repair(request).await;
        Ok(repair(answer.map_err(|status| from_status(&status, false))?.into_inner()))
    }
}

impl IntoFuture for RepairRequest {
    type Output = Result<Repair, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn unit(unit: Option<admin::RepairUnit>) -> UnitName {
    let admin::RepairUnit { class, partition } = unit.unwrap_or_default();
    UnitName { class, partition }
}

fn counts(counts: admin::repair_response::Counts) -> RepairGauges {
    RepairGauges {
        verified: counts.verified,
        lacks: counts.keys,
        sessions: counts.sessions,
        bytes: counts.bytes,
        answered_bytes: counts.answered_bytes,
        here: counts.here,
        there: counts.there,
        rounds: counts.rounds,
        pairs: counts.pairs,
        unverified: counts.unverified,
        oldest: Duration::from_millis(counts.oldest_ms),
        ..RepairGauges::default()
    }
}

fn repair(answer: admin::RepairResponse) -> Repair {
    let run = |run: admin::repair_response::Run| RunLine {
        id: run.id,
        age: Duration::from_millis(run.age_ms),
        total: run.total,
        left: run.left,
    };
    let pair = |pair: admin::repair_response::Pair| RepairPair {
        unit: unit(pair.unit),
        peer: pair.peer,
        verified: pair.verified_ms.map(Duration::from_millis),
        keys: pair.keys,
        under_way: pair.under_way,
    };
    let key = |key: admin::repair_response::Key| KeyDifference {
        table: key.table,
        key: key.key,
        lacks: key.lacks,
    };
    let difference = |difference: admin::repair_response::Difference| UnitDifference {
        unit: unit(difference.unit),
        found: difference.found,
        count: difference.count,
        keys: difference.keys.into_iter().map(key).collect(),
        why: difference.why,
    };
    Repair {
        me: answer.me,
        interval: Duration::from_millis(answer.interval_ms),
        counts: counts(answer.counts.unwrap_or_default()),
        under_way: answer.under_way,
        runs: answer.runs.into_iter().map(run).collect(),
        pairs: answer.pairs.into_iter().map(pair).collect(),
        differences: answer.diffs.into_iter().map(difference).collect(),
        next: answer.next.map(|next| unit(Some(next))),
    }
}
