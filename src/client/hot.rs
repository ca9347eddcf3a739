//! The question which partitions and keys clients ask one node for most.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tonic::Request;

use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::endpoint::Endpoint;
use super::status_error::from_status;

/// What clients ask one node for, a second, over about the last two minutes. Each request is counted by
/// the node it came to: sums over all nodes are the cluster's.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Hot {
    /// The node that answered.
    pub me: String,
    /// The hottest partitions, hottest first.
    pub units: Vec<HotUnit>,
    /// What all partitions come to.
    pub operations: f64,
    /// The hottest keys, hottest first; at most 20.
    pub keys: Vec<HotKey>,
}

/// What is asked of a partition, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HotUnit {
    /// Its class.
    pub class: u32,
    /// Its number.
    pub partition: u32,
    /// Reads.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// Bytes of keys, and of values that are written.
    pub bytes: f64,
}

/// How often a key is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HotKey {
    /// Its table.
    pub table: String,
    /// The key.
    pub key: Bytes,
    /// The class of its table.
    pub class: u32,
    /// The partition that holds it.
    pub partition: u32,
    /// Requests a second; never too low.
    pub rate: f64,
    /// By how much it may be too high.
    pub error: f64,
}

/// Asks what is asked for most: `.await` it. Which node is asked is up to the picker: use a client of one
/// endpoint to ask a certain one.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct HotRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    limit: u32,
}

impl HotRequest {
    pub(crate) fn new(core: Arc<Core>) -> HotRequest {
        HotRequest { core, timeout: None, limit: 20 }
    }

    /// How many partitions; 20 when left out.
    pub fn limit(mut self, limit: u32) -> HotRequest {
        self.limit = limit;
        self
    }

    /// How long it may take.
    pub fn timeout(mut self, timeout: Duration) -> HotRequest {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for HotRequest {
    type Answer = Hot;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Hot, Error> {
        let mut request = Request::new(admin::HotRequest { limit: self.limit });
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().hot(request).await;
        let answer = answer.map_err(|status| from_status(&status, false))?;
        Ok(hot(answer.into_inner()))
    }
}

impl IntoFuture for HotRequest {
    type Output = Result<Hot, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}

fn hot(answer: admin::HotResponse) -> Hot {
    let unit = |it: admin::hot_response::Unit| HotUnit {
        class: it.class,
        partition: it.partition,
        reads: it.reads,
        writes: it.writes,
        bytes: it.bytes,
    };
    let key = |it: admin::hot_response::Key| HotKey {
        table: it.table,
        key: it.key,
        class: it.class,
        partition: it.partition,
        rate: it.rate,
        error: it.error,
    };
    Hot {
        me: answer.me,
        units: answer.units.into_iter().map(unit).collect(),
        operations: answer.operations,
        keys: answer.keys.into_iter().map(key).collect(),
    }
}
