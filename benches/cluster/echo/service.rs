//! The services of an echo node.

use core::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use roundtable::wire::proto::peer::peer_server::Peer;
use roundtable::wire::proto::peer::{
    JoinRequest, JoinResponse, Op, PeerBatch, Read, ReadAnswer, Record, Round, Write, WriteAnswer,
    op, read_answer, write_answer,
};
use roundtable::wire::proto::v1::kv_server::Kv;
use roundtable::wire::proto::v1::{self as pb, Receipt};
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::pending::Waiter;
use super::{Echo, session};

/// What a read answers.
const VALUE: &[u8] = &[b'v'; 100];

/// A receipt as `kvd` would give it.
#[expect(clippy::disallowed_methods, reason = "`kvd` reads its clock for each operation as well")]
pub(super) fn receipt() -> Option<Receipt> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let server_time_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let stamp = Bytes::copy_from_slice(&(u128::from(server_time_ns) << 64).to_be_bytes());
    Some(Receipt {
        epoch: 1,
        stamp,
        answered: 0b11,
        n: 3,
        needed: 2,
        server_time_ns,
        ..Default::default()
    })
}

fn round(op: u64) -> Option<Round> {
    Some(Round { op, round: 0 })
}

/// What peers are told of a write.
pub(super) fn write(number: u64, put: &pb::PutRequest) -> Op {
    let record = Record {
        time_ns: number,
        counter: 1,
        node: 1,
        expiry_ns: None,
        value: Some(put.value.clone()),
    };
    let (key, record) = (put.key.clone(), Some(record));
    let write = Write { round: round(number), table: 1, key, record, ..Default::default() };
    Op { op: Some(op::Op::Write(write)) }
}

/// What peers are told of a read.
pub(super) fn read(number: u64, get: &pb::GetRequest) -> Op {
    let read = Read { round: round(number), table: 1, key: get.key.clone(), ..Default::default() };
    Op { op: Some(op::Op::Read(read)) }
}

/// What a peer says to it.
fn answer(op: Op) -> Option<Op> {
    let op = match op.op? {
        op::Op::Write(Write { round, .. }) => {
            let result = Some(write_answer::Result::Stored(true));
            op::Op::WriteAnswer(WriteAnswer { round, result, incomplete: false })
        }
        op::Op::Read(Read { round, .. }) => {
            let value = Some(Bytes::from_static(VALUE));
            let record = Record { time_ns: 1, counter: 1, node: 1, expiry_ns: None, value };
            let result = Some(read_answer::Result::Record(record));
            op::Op::ReadAnswer(ReadAnswer { round, result })
        }
        _ => return None,
    };
    Some(Op { op: Some(op) })
}

/// The peers' port.
pub(super) struct EchoPeer;

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for EchoPeer {
    type ExchangeStream = Boxed<PeerBatch>;

    async fn exchange(
        &self,
        request: Request<Streaming<PeerBatch>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let answers = request.into_inner().map(|batch| {
            let ops = batch?.ops.into_iter().filter_map(answer).collect();
            Ok(PeerBatch { opening: None, ops })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented("an echo has no members"))
    }
}

/// The clients' port.
pub(super) struct EchoKv {
    echo: Arc<Echo>,
}

impl EchoKv {
    pub(super) fn new(echo: Arc<Echo>) -> EchoKv {
        EchoKv { echo }
    }

    async fn ask(&self, op: impl FnOnce(u64) -> Op) -> Result<Bytes, Status> {
        let (sender, answered) = oneshot::channel();
        let number = self.echo.pending.numbers(1);
        self.echo.pending.wait(number, core::iter::once(Waiter::Call(sender)));
        let op = op(number);
        for peer in &self.echo.peers {
            peer.push(core::iter::once(op.clone()));
        }
        answered.await.map_err(|_| Status::unavailable("the peers are gone"))
    }
}

#[tonic::async_trait]
impl Kv for EchoKv {
    type SessionStream = Boxed<pb::SessionResponse>;
    type WatchStream = Boxed<pb::WatchResponse>;
    type WatchRingStream = Boxed<pb::RingUpdate>;

    async fn watch(
        &self,
        _: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("the echo stores nothing"))
    }

    async fn watch_ring(
        &self,
        _: Request<pb::WatchRingRequest>,
    ) -> Result<Response<Self::WatchRingStream>, Status> {
        Err(Status::unimplemented("the echo has no ring"))
    }

    async fn get(
        &self,
        request: Request<pb::GetRequest>,
    ) -> Result<Response<pb::GetResponse>, Status> {
        let value = self.ask(|number| read(number, request.get_ref())).await?;
        Ok(Response::new(pb::GetResponse {
            found: true,
            value,
            receipt: receipt(),
            ..Default::default()
        }))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        self.ask(|number| write(number, request.get_ref())).await?;
        Ok(Response::new(pb::PutResponse { receipt: receipt(), ..Default::default() }))
    }

    async fn delete(
        &self,
        _: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn cas(&self, _: Request<pb::CasRequest>) -> Result<Response<pb::CasResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn increment(
        &self,
        _: Request<pb::IncrementRequest>,
    ) -> Result<Response<pb::IncrementResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn batch(
        &self,
        _: Request<pb::BatchRequest>,
    ) -> Result<Response<pb::BatchResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn get_outcome(
        &self,
        _: Request<pb::GetOutcomeRequest>,
    ) -> Result<Response<pb::GetOutcomeResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn scan(
        &self,
        _: Request<pb::ScanRequest>,
    ) -> Result<Response<pb::ScanResponse>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    type ScanStreamStream = tokio_stream::Empty<Result<pb::ScanResponse, Status>>;

    async fn scan_stream(
        &self,
        _: Request<pb::ScanRequest>,
    ) -> Result<Response<Self::ScanStreamStream>, Status> {
        Err(Status::unimplemented("nothing is stored"))
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let answers = session::open(self.echo.clone(), request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }
}
