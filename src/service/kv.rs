//! `roundtable.v1.Kv`: one operation a call, and sessions of many.

use core::pin::Pin;

use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::message::{Applied, ClientRequest, ErrorCode, OpError, Reply};
use crate::runtime::Handle;
use crate::wire::cas::{cas_from_wire, cas_to_wire, outcome_from_wire, outcome_to_wire};
use crate::wire::client::{
    self, Call, delete_from_wire, get_from_wire, mismatched, put_from_wire, scan_from_wire,
    untraced,
};
use crate::wire::counter::{causal_increment_to_wire, increment_from_wire, increment_to_wire};
use crate::wire::error::status_of;
use crate::wire::proto::v1 as pb;
use crate::wire::proto::v1::kv_server::Kv;

use super::ring::RingService;
use super::{batch, scan, session, watch};
use super::{call, principal};

/// The data plane.
pub(super) struct KvService {
    handle: Handle,
    ring: RingService,
}

impl KvService {
    /// The service, and the task that follows the ring for it.
    pub(super) fn start(handle: Handle) -> KvService {
        let ring = RingService::start(&handle);
        KvService { handle, ring }
    }

    async fn run<T>(
        &self,
        request: Request<T>,
        decode: fn(&Call, T) -> Result<ClientRequest, OpError>,
    ) -> Result<Reply, Status> {
        let principal = principal(&request);
        let call = Call { principal, ..call(&self.handle, request.metadata()) };
        let request = decode(&call, request.into_inner()).map_err(|error| status_of(&error))?;
        self.handle.submit(request).await.map_err(|error| status_of(&error))
    }
}

/// A call that waits for its batch.
struct BatchCall(parking_lot::Mutex<Option<oneshot::Sender<pb::BatchResponse>>>);

impl batch::Waiter for BatchCall {
    fn answer(&self, answer: pb::BatchResponse) {
        if let Some(sender) = self.0.lock().take() {
            let _ = sender.send(answer);
        }
    }

    fn is_closed(&self) -> bool {
        self.0.lock().as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

fn unexpected<T>(_: T) -> Status {
    status_of(&mismatched())
}

#[tonic::async_trait]
impl Kv for KvService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::SessionResponse, Status>> + Send>>;
    type ScanStreamStream = scan::Pages;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;
    type WatchRingStream = Pin<Box<dyn Stream<Item = Result<pb::RingUpdate, Status>> + Send>>;

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        let (reply, trace, total_ns) = untraced(self.run(request, get_from_wire).await?);
        let answer = match reply {
            Reply::Get(reply) => client::get_to_wire(reply),
            Reply::Causal(reply) => client::causal_get_to_wire(*reply),
            other => return Err(unexpected(other)),
        };
        Ok(Response::new(pb::GetResponse { trace, total_ns, ..answer }))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let (reply, trace, total_ns) = untraced(self.run(request, put_from_wire).await?);
        let answer = match reply {
            Reply::Put(reply) => client::put_to_wire(reply),
            Reply::Causal(reply) => client::causal_put_to_wire(*reply),
            other => return Err(unexpected(other)),
        };
        Ok(Response::new(pb::PutResponse { trace, total_ns, ..answer }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let (reply, trace, total_ns) = untraced(self.run(request, delete_from_wire).await?);
        let answer = match reply {
            Reply::Put(reply) => client::delete_to_wire(reply),
            Reply::Causal(reply) => client::causal_delete_to_wire(*reply),
            other => return Err(unexpected(other)),
        };
        Ok(Response::new(pb::DeleteResponse { trace, total_ns, ..answer }))
    }

    async fn scan(
        &self,
        request: Request<pb::ScanRequest>,
    ) -> Result<Response<pb::ScanResponse>, Status> {
        match self.run(request, scan_from_wire).await? {
            Reply::Scan(reply) => Ok(Response::new(client::scan_to_wire(reply))),
            other => Err(unexpected(other)),
        }
    }

    async fn scan_stream(
        &self,
        request: Request<pb::ScanRequest>,
    ) -> Result<Response<Self::ScanStreamStream>, Status> {
        let principal = principal(&request);
        let call = Call { principal, ..call(&self.handle, request.metadata()) };
        let pages = scan::Pages::begin(&self.handle, call, request.into_inner());
        Ok(Response::new(pages.map_err(|error| status_of(&error))?))
    }

    async fn cas(
        &self,
        request: Request<pb::CasRequest>,
    ) -> Result<Response<pb::CasResponse>, Status> {
        match self.run(request, cas_from_wire).await? {
            Reply::Cas(reply) => Ok(Response::new(cas_to_wire(reply))),
            other => Err(unexpected(other)),
        }
    }

    async fn batch(
        &self,
        request: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        let principal = principal(&request);
        let call = Call { principal, ..call(&self.handle, request.metadata()) };
        let (sender, answered) = oneshot::channel();
        let waiter = Box::new(BatchCall(parking_lot::Mutex::new(Some(sender))));
        let begun = batch::begin(&self.handle, &call, request.into_inner(), waiter);
        begun.map_err(|error| status_of(&error))?;
        let gone = |_| OpError::new(ErrorCode::NotReady, "the node has stopped");
        let answer = answered.await.map_err(gone);
        let answer = answer.map_err(|error| status_of(&error.with_applied(Applied::Unknown)))?;
        Ok(Response::new(answer))
    }

    async fn increment(
        &self,
        request: Request<pb::IncrementRequest>,
    ) -> Result<Response<pb::IncrementResponse>, Status> {
        let (reply, trace, total_ns) = untraced(self.run(request, increment_from_wire).await?);
        let answer = match reply {
            Reply::Increment(reply) => increment_to_wire(reply),
            Reply::Causal(reply) => causal_increment_to_wire(*reply),
            other => return Err(unexpected(other)),
        };
        Ok(Response::new(pb::IncrementResponse { trace, total_ns, ..answer }))
    }

    async fn get_outcome(
        &self,
        request: Request<pb::GetOutcomeRequest>,
    ) -> Result<Response<pb::GetOutcomeResponse>, Status> {
        match self.run(request, outcome_from_wire).await? {
            Reply::Outcome(reply) => Ok(Response::new(outcome_to_wire(reply))),
            other => Err(unexpected(other)),
        }
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let principal = principal(&request);
        let answers = session::open(self.handle.clone(), principal, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }
    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let principal = principal(&request);
        let call = Call { principal, ..call(&self.handle, request.metadata()) };
        let told = watch::begin(&self.handle, &call, request.into_inner());
        Ok(Response::new(Box::pin(told.map_err(|error| status_of(&error))?)))
    }

    async fn watch_ring(
        &self,
        _: Request<pb::WatchRingRequest>,
    ) -> Result<Response<Self::WatchRingStream>, Status> {
        Ok(Response::new(Box::pin(self.ring.watch()?)))
    }
}
