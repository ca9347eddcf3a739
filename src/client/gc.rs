//! Questions to one node about the deletes it keeps.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use tonic::Request;

use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::endpoint::Endpoint;
use super::status_error::from_status;

/// The deletes and expiring values of one node, and who holds back that they are purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcStatus {
    /// Deletes, and values that expire.
    pub deletes: u64,
    /// In how many units.
    pub units: u64,
    /// There may be more: the count has a bound.
    pub more: bool,
    /// How old they are at least when they are purged.
    pub slack: Duration,
    /// Units with some that are older.
    pub waiting_units: u64,
    /// How old the oldest of those is.
    pub oldest_age: Duration,
    /// Purged since the node started.
    pub purged: u64,
    /// Who holds how many units back, and why.
    pub blockers: Vec<GcBlocker>,
    /// Some units that wait; at most 100.
    pub waiting: Vec<GcUnit>,
}

/// Who holds units back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcBlocker {
    /// The member's name.
    pub member: String,
    /// Why, in words.
    pub why: String,
    /// How many units.
    pub units: u64,
}

/// A unit that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcUnit {
    /// Its class.
    pub class: u32,
    /// Its partition.
    pub partition: u32,
    /// Its deletes, and values that expire.
    pub deletes: u64,
    /// How old the oldest is.
    pub oldest_age: Duration,
    /// Up to when they have been purged: nanoseconds since the Unix epoch; 0: never.
    pub floor_ns: u64,
    /// The members that hold it back.
    pub blocked_by: Vec<String>,
}

/// A question about deletes: `.await` it. Which node is asked is up to the picker: use a client of one
/// endpoint to ask a certain one.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct GcRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
}

impl GcRequest {
    pub(crate) fn new(core: Arc<Core>) -> GcRequest {
        GcRequest { core, timeout: None }
    }

    /// How long it may take.
    pub fn timeout(mut self, timeout: Duration) -> GcRequest {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for GcRequest {
    type Answer = GcStatus;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<GcStatus, Error> {
        let mut request = Request::new(admin::GcStatusRequest {});
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().gc_status(request).await;
        let answer = answer.map_err(|status| from_status(&status, false))?;
        Ok(status(answer.into_inner()))
    }
}

impl IntoFuture for GcRequest {
    type Output = Result<GcStatus, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn status(answer: admin::GcStatusResponse) -> GcStatus {
    let blocker = |it: admin::gc_status_response::Blocker| GcBlocker {
        member: it.member,
        why: it.why,
        units: it.units,
    };
    let unit = |it: admin::gc_status_response::Unit| GcUnit {
        class: it.class,
        partition: it.partition,
        deletes: it.deletes,
        oldest_age: Duration::from_millis(it.oldest_age_ms),
        floor_ns: it.floor_ns,
        blocked_by: it.blocked_by,
    };
    GcStatus {
        deletes: answer.deletes,
        units: answer.units,
        more: answer.more,
        slack: Duration::from_millis(answer.slack_ms),
        waiting_units: answer.waiting_units,
        oldest_age: Duration::from_millis(answer.oldest_age_ms),
        purged: answer.purged,
        blockers: answer.blockers.into_iter().map(blocker).collect(),
        waiting: answer.waiting.into_iter().map(unit).collect(),
    }
}
