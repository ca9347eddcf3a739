//! Questions to one node about the hints it holds.

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

pub use crate::message::HintTotals;

/// What one node holds for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hints {
    /// For whom, and how much.
    pub lines: Vec<HintLine>,
    /// Owners that may lack writes of a unit which no hint carries; at most 1000.
    pub dirty: Vec<DirtyMark>,
    /// How many there are.
    pub dirty_count: u64,
    /// What was dropped, or is being handed back.
    pub touched: HintTotals,
}

/// What a node holds for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HintLine {
    /// The target's name; its number where it is no member any more.
    pub target: String,
    /// How much.
    pub totals: HintTotals,
    /// How old the oldest is.
    pub oldest_age: Duration,
    /// Whether they are being handed back at this moment.
    pub replaying: bool,
}

/// An owner that may lack writes of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirtyMark {
    /// The class of the unit.
    pub class: u32,
    /// Its partition.
    pub partition: u32,
    /// The owner's name; its number where it is no member any more.
    pub target: String,
}

#[derive(Clone, Debug)]
enum Ask {
    List,
    Replay(String),
    Drop(String),
}

/// A question about hints, or a wish: `.await` it. Which node is asked is up to the picker: use a
/// client with one endpoint to choose. Harmless when repeated.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct HintsRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    ask: Ask,
}

impl HintsRequest {
    pub(crate) fn list(core: Arc<Core>) -> HintsRequest {
        HintsRequest { core, timeout: None, ask: Ask::List }
    }

    pub(crate) fn replay(core: Arc<Core>) -> HintsRequest {
        HintsRequest { core, timeout: None, ask: Ask::Replay(String::new()) }
    }

    pub(crate) fn drop(core: Arc<Core>, target: String) -> HintsRequest {
        HintsRequest { core, timeout: None, ask: Ask::Drop(target) }
    }

    /// Sets how long the request may take over all its attempts; the client's default when left
    /// out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Of a replay: only hints for this member.
    pub fn target(mut self, name: impl Into<String>) -> Self {
        if let Ask::Replay(target) = &mut self.ask {
            *target = name.into();
        }
        self
    }
}

impl Operation for HintsRequest {
    type Answer = Hints;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Hints, Error> {
        fn timed<T>(message: T, this: Try) -> Request<T> {
            let mut request = Request::new(message);
            request.set_timeout(this.remaining);
            request
        }
        let mut stub = endpoint.admin();
        let answer = match self.ask.clone() {
            Ask::List => stub.list_hints(timed(admin::ListHintsRequest {}, this)).await,
            Ask::Replay(target) => {
                stub.replay_hints(timed(admin::ReplayHintsRequest { target }, this)).await
            }
            Ask::Drop(target) => {
                stub.drop_hints(timed(admin::DropHintsRequest { target }, this)).await
            }
        };
        let answer = answer.map_err(|status| from_status(&status, false))?;
        Ok(hints(answer.into_inner()))
    }
}

impl IntoFuture for HintsRequest {
    type Output = Result<Hints, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn totals(totals: Option<admin::HintTotals>) -> HintTotals {
    let admin::HintTotals { count, bytes, custody, custody_bytes } = totals.unwrap_or_default();
    HintTotals { count, bytes, custody, custody_bytes }
}

fn hints(answer: admin::HintsResponse) -> Hints {
    let line = |line: admin::hints_response::Line| HintLine {
        target: line.target,
        totals: totals(line.totals),
        oldest_age: Duration::from_millis(line.oldest_age_ms),
        replaying: line.replaying,
    };
    let mark = |mark: admin::hints_response::Dirty| DirtyMark {
        class: mark.class,
        partition: mark.partition,
        target: mark.target,
    };
    Hints {
        lines: answer.lines.into_iter().map(line).collect(),
        dirty: answer.dirty.into_iter().map(mark).collect(),
        dirty_count: answer.dirty_count,
        touched: totals(answer.touched),
    }
}
