//! A new lineage, for when the majority of the council is gone for good.

use core::time::Duration;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use tonic::Request;

use crate::types::{Epoch, NodeName};
use crate::wire::proto::admin;

use super::Error;
use super::call::{Core, Operation, Try};
use super::endpoint::Endpoint;
use super::status_error::from_status;

/// The lineage a node is in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lineage {
    /// Its number; 0 is the first.
    pub lineage: u32,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Who decides the next one.
    pub council: Vec<String>,
}

/// Begins a new lineage at the node that is asked: `.await` it. Use a client with one endpoint. Harmless
/// when repeated there; forced at two nodes, there are two clusters.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct ForceLineageRequest {
    core: Arc<Core>,
    timeout: Option<Duration>,
    cluster: String,
    gone: Vec<NodeName>,
}

impl ForceLineageRequest {
    pub(crate) fn new(core: Arc<Core>, cluster: String, gone: Vec<NodeName>) -> Self {
        ForceLineageRequest { core, timeout: None, cluster, gone }
    }

    /// Sets how long the request may take over all its attempts; the client's default when left out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Operation for ForceLineageRequest {
    type Answer = Lineage;

    async fn send(&self, endpoint: &Endpoint, this: Try) -> Result<Lineage, Error> {
        let gone = self.gone.iter().map(ToString::to_string).collect();
        let cluster = self.cluster.clone();
        let mut request = Request::new(admin::ForceLineageRequest { cluster, gone });
        request.set_timeout(this.remaining);
        let answer = endpoint.admin().force_lineage(request).await;
        let answer = answer.map_err(|status| from_status(&status, true))?.into_inner();
        Ok(Lineage { lineage: answer.lineage, epoch: Epoch(answer.epoch), council: answer.council })
    }
}

impl IntoFuture for ForceLineageRequest {
    type Output = Result<Lineage, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.core.run(&self, self.timeout).await })
    }
}
