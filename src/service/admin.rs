//! `roundtable.admin.v1.Admin`: what operators ask one node.

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::message::{AdminRequest, OpError, Reply, TopologyRequest};
use crate::runtime::Handle;
use crate::telemetry;
use crate::wire::admin::{
    events_from_wire, events_to_wire, force_from_wire, forced_to_wire, locate_from_wire,
    locate_to_wire, status_to_wire, version_to_wire,
};
use crate::wire::client::mismatched;
use crate::wire::comparing::{repair_from_wire, repair_to_wire};
use crate::wire::error::status_of;
use crate::wire::explain::{explain_from_wire, explain_to_wire};
use crate::wire::gc::gc_to_wire;
use crate::wire::hints::{
    drop_hints_from_wire, hints_to_wire, list_hints_from_wire, replay_hints_from_wire,
};
use crate::wire::hot::{hot_from_wire, hot_to_wire};
use crate::wire::outage::{outage_from_wire, outage_to_wire};
use crate::wire::plan::{change_from_wire, topology_to_wire};
use crate::wire::proto::admin as pb;
use crate::wire::proto::admin::admin_server::Admin;
use crate::wire::scrub::{scrub_from_wire, scrub_to_wire};

use super::call;

/// The operators' plane.
pub(super) struct AdminService {
    handle: Handle,
}

impl AdminService {
    pub(super) fn new(handle: Handle) -> AdminService {
        AdminService { handle }
    }

    async fn run(&self, metadata: &MetadataMap, request: AdminRequest) -> Result<Reply, Status> {
        let deadline = call(&self.handle, metadata).deadline(0);
        let deadline = deadline.map_err(|error| status_of(&error))?;
        self.handle.admin(deadline, request).await.map_err(|error| status_of(&error))
    }

    async fn hints(
        &self,
        metadata: &MetadataMap,
        ask: Result<AdminRequest, OpError>,
    ) -> Result<Response<pb::HintsResponse>, Status> {
        let ask = ask.map_err(|error| status_of(&error))?;
        match self.run(metadata, ask).await? {
            Reply::Hints(reply) => Ok(Response::new(hints_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        match self.run(request.metadata(), AdminRequest::Status).await? {
            Reply::Status(reply) => Ok(Response::new(status_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn locate(
        &self,
        request: Request<pb::LocateRequest>,
    ) -> Result<Response<pb::LocateResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        let ask = locate_from_wire(ask).map_err(|error| status_of(&error))?;
        match self.run(&metadata, ask).await? {
            Reply::Locate(reply) => Ok(Response::new(locate_to_wire(reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        let ask = explain_from_wire(ask).map_err(|error| status_of(&error))?;
        match self.run(&metadata, ask).await? {
            Reply::Explain(reply) => Ok(Response::new(explain_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn flush(
        &self,
        request: Request<pb::FlushRequest>,
    ) -> Result<Response<pb::FlushResponse>, Status> {
        match self.run(request.metadata(), AdminRequest::Flush).await? {
            Reply::Flushed => Ok(Response::new(pb::FlushResponse {})),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactRequest>,
    ) -> Result<Response<pb::CompactResponse>, Status> {
        match self.run(request.metadata(), AdminRequest::Compact).await? {
            Reply::Compacted => Ok(Response::new(pb::CompactResponse {})),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn events(
        &self,
        request: Request<pb::EventsRequest>,
    ) -> Result<Response<pb::EventsResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        match self.run(&metadata, events_from_wire(ask)).await? {
            Reply::Events(reply) => Ok(Response::new(events_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn gc_status(
        &self,
        request: Request<pb::GcStatusRequest>,
    ) -> Result<Response<pb::GcStatusResponse>, Status> {
        match self.run(request.metadata(), AdminRequest::Gc).await? {
            Reply::Gc(reply) => Ok(Response::new(gc_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn scrub(
        &self,
        request: Request<pb::ScrubRequest>,
    ) -> Result<Response<pb::ScrubResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        match self.run(&metadata, scrub_from_wire(ask)).await? {
            Reply::Scrub(reply) => Ok(Response::new(scrub_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn list_hints(
        &self,
        request: Request<pb::ListHintsRequest>,
    ) -> Result<Response<pb::HintsResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.hints(&metadata, Ok(list_hints_from_wire(ask))).await
    }

    async fn replay_hints(
        &self,
        request: Request<pb::ReplayHintsRequest>,
    ) -> Result<Response<pb::HintsResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.hints(&metadata, replay_hints_from_wire(ask)).await
    }

    async fn drop_hints(
        &self,
        request: Request<pb::DropHintsRequest>,
    ) -> Result<Response<pb::HintsResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        self.hints(&metadata, drop_hints_from_wire(ask)).await
    }

    async fn repair(
        &self,
        request: Request<pb::RepairRequest>,
    ) -> Result<Response<pb::RepairResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        let ask = repair_from_wire(ask).map_err(|error| status_of(&error))?;
        match self.run(&metadata, ask).await? {
            Reply::Repair(reply) => Ok(Response::new(repair_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn topology(
        &self,
        request: Request<pb::TopologyRequest>,
    ) -> Result<Response<pb::TopologyResponse>, Status> {
        let ask = AdminRequest::Topology(Box::new(TopologyRequest::Show));
        match self.run(request.metadata(), ask).await? {
            Reply::Topology(reply) => Ok(Response::new(topology_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn change_plan(
        &self,
        request: Request<pb::ChangePlanRequest>,
    ) -> Result<Response<pb::TopologyResponse>, Status> {
        let call = call(&self.handle, request.metadata());
        let asked = change_from_wire(&call, request.into_inner());
        let (deadline, ask) = asked.map_err(|error| status_of(&error))?;
        match self.handle.admin(deadline, ask).await.map_err(|error| status_of(&error))? {
            Reply::Topology(reply) => Ok(Response::new(topology_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn force_lineage(
        &self,
        request: Request<pb::ForceLineageRequest>,
    ) -> Result<Response<pb::ForceLineageResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        let ask = force_from_wire(ask).map_err(|error| status_of(&error))?;
        match self.run(&metadata, ask).await? {
            Reply::Forced(reply) => Ok(Response::new(forced_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn metrics(
        &self,
        _: Request<pb::MetricsRequest>,
    ) -> Result<Response<pb::MetricsResponse>, Status> {
        let view = self.handle.view().borrow().clone();
        let text = telemetry::render(self.handle.telemetry(), view);
        Ok(Response::new(pb::MetricsResponse { text }))
    }

    async fn hot(
        &self,
        request: Request<pb::HotRequest>,
    ) -> Result<Response<pb::HotResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        match self.run(&metadata, hot_from_wire(ask)).await? {
            Reply::Hot(reply) => Ok(Response::new(hot_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn outage(
        &self,
        request: Request<pb::OutageRequest>,
    ) -> Result<Response<pb::OutageResponse>, Status> {
        let (metadata, _, ask) = request.into_parts();
        let ask = outage_from_wire(ask).map_err(|error| status_of(&error))?;
        match self.run(&metadata, ask).await? {
            Reply::Outage(reply) => Ok(Response::new(outage_to_wire(*reply))),
            _ => Err(status_of(&mismatched())),
        }
    }

    async fn version(
        &self,
        _: Request<pb::VersionRequest>,
    ) -> Result<Response<pb::VersionResponse>, Status> {
        Ok(Response::new(version_to_wire()))
    }
}
