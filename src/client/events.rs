//! What has happened to a cluster, as its nodes remember it.

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

/// What one node remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The node.
    pub node: String,
    /// The number of its latest event.
    pub last: u64,
    /// Oldest first.
    pub events: Vec<EventLine>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// Its number at that node.
    pub seq: u64,
    /// When that node learned of it: nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// It happened in this epoch at the latest,
    pub epoch: u64,
    /// and after this one, or in the same.
    pub since: u64,
    /// What, as scripts read it.
    pub kind: String,
    /// A member, a table or a plan.
    pub subject: String,
    /// Why, in words.
    pub text: String,
}

/// A question about events; send it by awaiting it.
#[must_use = "nothing is asked until it is awaited"]
#[derive(Debug)]
pub struct EventsRequest {
    core: Arc<Core>,
    after: u64,
    limit: u32,
    timeout: Option<Duration>,
}

impl EventsRequest {
    pub(crate) fn new(core: Arc<Core>, after: u64) -> EventsRequest {
        EventsRequest { core, after, limit: 0, timeout: None }
    }

    /// Only the latest so many; all that are remembered when left out.
    pub fn limit(mut self, limit: u32) -> EventsRequest {
        self.limit = limit;
        self
    }

    /// How long it may take; the client's timeout when left out.
    pub fn timeout(mut self, timeout: Duration) -> EventsRequest {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for EventsRequest {
    type Answer = Events;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Events, Error> {
        let ask = admin::EventsRequest { after: self.after, limit: self.limit };
        let mut request = Request::new(ask);
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().events(request).await;
        let answer = answer.map_err(|status| from_status(&status, false))?.into_inner();
        let line = |it: admin::events_response::Event| EventLine {
            seq: it.seq,
            time_ns: it.time_ns,
            epoch: it.epoch,
            since: it.since,
            kind: it.kind,
            subject: it.subject,
            text: it.text,
        };
        let events = answer.events.into_iter().map(line).collect();
        Ok(Events { node: answer.me, last: answer.last, events })
    }
}

impl IntoFuture for EventsRequest {
    type Output = Result<Events, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}
