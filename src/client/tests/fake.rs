//! A server that does what its script says: enough of the protocol to test the client against.

#[path = "batches.rs"]
mod batches;
#[path = "hints.rs"]
mod hints;
#[path = "scans.rs"]
mod scans;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::client::Applied;
use crate::wire::proto::admin;
use crate::wire::proto::v1::get_outcome_response::Fate;
use crate::wire::proto::v1::session_response::answer::Answer as Body;
use crate::wire::proto::v1::{self, session_request::op::Op, session_response::Answer};
use hints::{hints, kept};

/// What to do with the next operation; without a script, it is done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Do it.
    Serve,
    /// Answer with an error.
    Refuse(&'static str, Applied),
    /// Of a batch, make the first so many writes, and answer the others with an error.
    Part(usize, &'static str, Applied),
    /// Never answer.
    Swallow,
    /// End the stream, or the call, without an answer.
    Break,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Act>,
    data: BTreeMap<Bytes, (Bytes, u64)>,
    stamped: u64,
    attempts: Vec<v1::Attempt>,
    /// Compare-and-sets that were made, by id.
    made: BTreeMap<Bytes, u64>,
    asked: Vec<v1::GetOutcomeRequest>,
    timeouts: Vec<u32>,
    messages: usize,
    batches: Vec<Vec<Bytes>>,
    flushes: usize,
    compactions: usize,
    hints_dropped: Vec<String>,
    unavailable: Vec<u32>,
    topology: VecDeque<admin::TopologyResponse>,
    changes: Vec<admin::ChangePlanRequest>,
    ring: Option<watch::Receiver<v1::RingUpdate>>,
    silent: bool,
    delay: core::time::Duration,
}

/// The server, and what it saw.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    clock_ns: u64,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Starts a server whose clock stands at `clock_ns`; 0 says no time.
    pub(crate) async fn start(clock_ns: u64, script: impl IntoIterator<Item = Act>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State { script: script.into_iter().collect(), ..State::default() };
        let fake = Fake { address, clock_ns, state: Arc::new(Mutex::new(state)) };
        let service = v1::kv_server::KvServer::new(fake.clone());
        let incoming = TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .add_service(admin::admin_server::AdminServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        fake
    }

    /// An address at which nobody listens.
    pub(crate) async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    }

    /// Answers over sessions come so much later from now on.
    pub(crate) fn dawdle(&self, delay: core::time::Duration) {
        self.state.lock().delay = delay;
    }

    /// Appends to the script.
    pub(crate) fn then(&self, act: Act) {
        self.state.lock().script.push_back(act);
    }

    /// The attempts of all writes so far.
    pub(crate) fn attempts(&self) -> Vec<v1::Attempt> {
        self.state.lock().attempts.clone()
    }

    /// The timeouts of all requests so far, in milliseconds.
    pub(crate) fn timeouts(&self) -> Vec<u32> {
        self.state.lock().timeouts.clone()
    }

    /// Messages that came in over sessions.
    pub(crate) fn messages(&self) -> usize {
        self.state.lock().messages
    }

    /// Targets whose hints it was told to give up.
    pub(crate) fn hints_dropped(&self) -> Vec<String> {
        self.state.lock().hints_dropped.clone()
    }

    /// How often it was told to merge its tables.
    pub(crate) fn compactions(&self) -> usize {
        self.state.lock().compactions
    }

    /// How often it was told to flush.
    pub(crate) fn flushes(&self) -> usize {
        self.state.lock().flushes
    }

    /// Makes it say that these partitions lack a quorum.
    pub(crate) fn set_unavailable(&self, partitions: Vec<u32>) {
        self.state.lock().unavailable = partitions;
    }

    /// Makes it answer nothing, whatever the script says, until told otherwise.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.state.lock().silent = silent;
    }

    /// What it answers about members and plans, one after the other; the last one for ever.
    pub(crate) fn set_topology(&self, answers: impl IntoIterator<Item = admin::TopologyResponse>) {
        self.state.lock().topology = answers.into_iter().collect();
    }

    /// What it tells of the ring; nothing without.
    pub(crate) fn set_ring(&self, ring: watch::Receiver<v1::RingUpdate>) {
        self.state.lock().ring = Some(ring);
    }

    /// The changes of plans it was asked for.
    pub(crate) fn changes(&self) -> Vec<admin::ChangePlanRequest> {
        self.state.lock().changes.clone()
    }

    fn topology(&self) -> admin::TopologyResponse {
        let answers = &mut self.state.lock().topology;
        match answers.len() {
            0 | 1 => answers.front().cloned().unwrap_or_default(),
            _ => answers.pop_front().unwrap_or_default(),
        }
    }

    /// All pairs it holds.
    pub(crate) fn pairs(&self) -> BTreeMap<Bytes, Bytes> {
        let state = self.state.lock();
        state.data.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    /// Stores a pair.
    pub(crate) fn store(&self, key: &'static str, value: &'static str) {
        self.state.lock().data.insert(key.into(), (value.into(), 0));
    }

    /// Does one operation; `Ok(None)`: no answer, `Err`: the end of the stream.
    fn execute(&self, op: Op) -> Result<Option<Body>, Status> {
        let mut state = self.state.lock();
        let header = match &op {
            Op::Get(get) => &get.header,
            Op::Put(put) => &put.header,
            Op::Delete(delete) => &delete.header,
            Op::Cas(cas) => &cas.header,
            Op::GetOutcome(ask) => &ask.header,
            Op::Increment(add) => &add.header,
            Op::Batch(batch) => &batch.header,
        };
        state.timeouts.push(header.as_ref().map_or(0, |header| header.timeout_ms));
        if let Op::Put(v1::PutRequest { attempt: Some(attempt), .. })
        | Op::Delete(v1::DeleteRequest { attempt: Some(attempt), .. })
        | Op::Increment(v1::IncrementRequest { attempt: Some(attempt), .. })
        | Op::Batch(v1::BatchRequest { attempt: Some(attempt), .. })
        | Op::Cas(v1::CasRequest { attempt: Some(attempt), .. }) = &op
        {
            state.attempts.push(attempt.clone());
        }
        if state.silent {
            return Ok(None);
        }
        let mut part = None;
        match state.script.pop_front().unwrap_or(Act::Serve) {
            Act::Serve => {}
            Act::Part(made, code, applied) => part = Some((made, code, applied)),
            Act::Swallow => return Ok(None),
            Act::Break => return Err(Status::unavailable("shutting down")),
            Act::Refuse(code, applied) => return Ok(Some(refusal(code, applied))),
        }
        Ok(Some(match op {
            Op::Get(get) => {
                let pair = state.data.get(&get.key).cloned();
                let (found, (value, stamp)) = (pair.is_some(), pair.unwrap_or_default());
                let receipt = self.receipt(stamp);
                Body::Get(v1::GetResponse { found, value, receipt, ..Default::default() })
            }
            Op::Put(put) => {
                state.stamped += 1;
                let (stamp, receipt) = (state.stamped, self.receipt(state.stamped));
                state.data.insert(put.key, (put.value, stamp));
                Body::Put(v1::PutResponse { receipt, ..Default::default() })
            }
            Op::Delete(delete) => {
                state.stamped += 1;
                state.data.remove(&delete.key);
                let receipt = self.receipt(state.stamped);
                Body::Delete(v1::DeleteResponse { receipt, ..Default::default() })
            }
            Op::Cas(cas) => Body::Cas(self.compare(&mut state, cas)),
            Op::Batch(batch) => Body::Batch(self.batch(&mut state, batch, part)),
            Op::Increment(v1::IncrementRequest { by: value, .. }) => {
                let receipt = self.receipt(0);
                Body::Increment(v1::IncrementResponse { value, receipt, ..Default::default() })
            }
            Op::GetOutcome(ask) => {
                let stamp = state.made.get(&ask.request_id).copied();
                state.asked.push(ask);
                let fate = stamp.map_or(Fate::Cancelled, |_| Fate::Applied).into();
                let stamp = stamp.map(stamp_bytes).unwrap_or_default();
                let receipt = self.receipt(0);
                Body::GetOutcome(v1::GetOutcomeResponse { fate, stamp, receipt })
            }
        }))
    }

    fn receipt(&self, counter: u64) -> Option<v1::Receipt> {
        let stamp = if counter == 0 { Bytes::new() } else { stamp_bytes(counter) };
        let server_time_ns = self.clock_ns;
        Some(v1::Receipt { epoch: 1, stamp, n: 3, needed: 2, server_time_ns, ..Default::default() })
    }

    /// The questions after writes so far.
    pub(crate) fn asked(&self) -> Vec<v1::GetOutcomeRequest> {
        self.state.lock().asked.clone()
    }

    /// A call on its own.
    async fn unary(&self, op: Op) -> Result<Body, Status> {
        match self.execute(op)? {
            Some(Body::Error(detail)) => {
                let mut status = Status::unavailable(detail.message.clone());
                let bytes = prost::Message::encode_to_vec(&detail);
                let value = tonic::metadata::MetadataValue::from_bytes(&bytes);
                status.metadata_mut().insert_bin("roundtable-error-bin", value);
                Err(status)
            }
            Some(body) => Ok(body),
            None => core::future::pending().await,
        }
    }
}

fn stamp_bytes(counter: u64) -> Bytes {
    Bytes::copy_from_slice(&(u128::from(counter) << 64 | 1).to_be_bytes())
}

/// Does what is asked by a call of its own.
macro_rules! answered {
    ($fake:expr, $request:expr, $kind:ident) => {
        match $fake.unary(Op::$kind($request.into_inner())).await? {
            Body::$kind(answer) => Ok(Response::new(answer)),
            other => panic!("{other:?}"),
        }
    };
}

#[tonic::async_trait]
impl v1::kv_server::Kv for Fake {
    type SessionStream =
        Pin<Box<dyn Stream<Item = Result<v1::SessionResponse, Status>> + Send + 'static>>;

    type WatchRingStream =
        Pin<Box<dyn Stream<Item = Result<v1::RingUpdate, Status>> + Send + 'static>>;

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send + 'static>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Told<Self::WatchStream> {
        Err(Status::unimplemented("not in this version"))
    }

    async fn watch_ring(&self, _: Request<v1::WatchRingRequest>) -> Told<Self::WatchRingStream> {
        let Some(mut updates) = self.state.lock().ring.clone() else {
            return Err(Status::unimplemented("not in this version"));
        };
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let update = updates.borrow_and_update().clone();
                if sender.send(Ok(update)).await.is_err() || updates.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get(&self, r: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        answered!(self, r, Get)
    }

    async fn put(&self, r: Request<v1::PutRequest>) -> Result<Response<v1::PutResponse>, Status> {
        answered!(self, r, Put)
    }

    async fn delete(&self, r: Request<v1::DeleteRequest>) -> Told<v1::DeleteResponse> {
        answered!(self, r, Delete)
    }

    async fn cas(&self, r: Request<v1::CasRequest>) -> Result<Response<v1::CasResponse>, Status> {
        answered!(self, r, Cas)
    }

    async fn batch(&self, r: Request<v1::BatchRequest>) -> Told<v1::BatchResponse> {
        answered!(self, r, Batch)
    }

    async fn increment(&self, r: Request<v1::IncrementRequest>) -> Told<v1::IncrementResponse> {
        answered!(self, r, Increment)
    }

    async fn get_outcome(
        &self,
        r: Request<v1::GetOutcomeRequest>,
    ) -> Result<Response<v1::GetOutcomeResponse>, Status> {
        answered!(self, r, GetOutcome)
    }

    type ScanStreamStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<v1::ScanResponse, Status>>>;

    async fn scan_stream(&self, r: Request<v1::ScanRequest>) -> Told<Self::ScanStreamStream> {
        Ok(Response::new(tokio_stream::iter(self.pages_of(r.into_inner()))))
    }

    async fn scan(&self, r: Request<v1::ScanRequest>) -> Told<v1::ScanResponse> {
        Ok(Response::new(self.page_of(&r.into_inner())))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut requests, fake) = (request.into_inner(), self.clone());
        let (sender, answers) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                fake.state.lock().messages += 1;
                let mut answers = Vec::new();
                for op in message.ops {
                    match fake.execute(op.op.unwrap()) {
                        Ok(Some(answer)) => {
                            answers.push(Answer { id: op.id, answer: Some(answer) })
                        }
                        Ok(None) => {}
                        Err(status) => {
                            let _ = sender.send(Err(status)).await;
                            return;
                        }
                    }
                }
                let delay = fake.state.lock().delay;
                tokio::time::sleep(delay).await;
                if sender.send(Ok(v1::SessionResponse { answers })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

type Told<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl admin::admin_server::Admin for Fake {
    async fn status(&self, _: Request<admin::StatusRequest>) -> Told<admin::StatusResponse> {
        let node = |id: u32, state: &str| admin::status_response::Node {
            id,
            name: format!("n{id}"),
            address: self.address.clone(),
            zone: "a".to_owned(),
            state: state.to_owned(),
            serving: state == "alive",
            role: "active".to_owned(),
            partitions: 4,
            replica_partitions: 12,
            ..Default::default()
        };
        Ok(Response::new(admin::StatusResponse {
            cluster_name: "fake".to_owned(),
            epoch: 1,
            partitions: 12,
            me: "n1".to_owned(),
            nodes: vec![node(1, "alive"), node(2, "alive"), node(3, "down")],
            unavailable: self.state.lock().unavailable.clone(),
            ..Default::default()
        }))
    }

    async fn locate(&self, _: Request<admin::LocateRequest>) -> Told<admin::LocateResponse> {
        Ok(Response::new(admin::LocateResponse {
            token: u64::MAX,
            class: 0,
            partition: 11,
            owners: vec!["n3".to_owned(), "n1".to_owned()],
            stand_ins: vec!["n2".to_owned()],
        }))
    }

    async fn explain(&self, _: Request<admin::ExplainRequest>) -> Told<admin::ExplainResponse> {
        let version = |time: u8| admin::explain_response::Version {
            stamp: vec![time; 16].into(),
            bytes: 3,
            ..Default::default()
        };
        let owner = |node: &str, verdict: &str| admin::explain_response::Owner {
            node: node.to_owned(),
            state: "alive".to_owned(),
            version: Some(version(1)),
            verdict: verdict.to_owned(),
            why: format!("is {verdict}"),
            ..Default::default()
        };
        let holder = "n1".to_owned();
        let hint = admin::explain_response::Hint { holder, version: Some(version(2)) };
        let away = "down".to_owned();
        let first = admin::explain_response::Owner {
            state: away,
            hints: vec![hint],
            ..owner("n3", "hinted")
        };
        let silent = admin::explain_response::Silent {
            node: "n2".to_owned(),
            why: "it cannot be reached".to_owned(),
        };
        Ok(Response::new(admin::ExplainResponse {
            me: "n1".to_owned(),
            epoch: 4,
            partition: 11,
            changed_at: 2,
            kind: "lww".to_owned(),
            owners: vec![first, owner("n1", "stale")],
            silent: vec![silent],
            newest: vec![2; 16].into(),
            agree: Some(false),
            in_all: "owners differ".to_owned(),
            ..Default::default()
        }))
    }

    async fn flush(&self, _: Request<admin::FlushRequest>) -> Told<admin::FlushResponse> {
        self.state.lock().flushes += 1;
        Ok(Response::new(admin::FlushResponse {}))
    }

    async fn scrub(&self, ask: Request<admin::ScrubRequest>) -> Told<admin::ScrubResponse> {
        let (running, places) = (ask.into_inner().start, vec!["000007.sst at 4096".to_owned()]);
        let (ended_ns, found) = (1, 1);
        let others = admin::ScrubResponse::default();
        Ok(Response::new(admin::ScrubResponse { running, places, ended_ns, found, ..others }))
    }

    async fn compact(&self, _: Request<admin::CompactRequest>) -> Told<admin::CompactResponse> {
        self.state.lock().compactions += 1;
        Ok(Response::new(admin::CompactResponse {}))
    }

    async fn events(&self, _: Request<admin::EventsRequest>) -> Told<admin::EventsResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn gc_status(
        &self,
        _: Request<admin::GcStatusRequest>,
    ) -> Result<Response<admin::GcStatusResponse>, Status> {
        Ok(Response::new(admin::GcStatusResponse { deletes: 7, units: 3, ..Default::default() }))
    }

    async fn hot(&self, _: Request<admin::HotRequest>) -> Told<admin::HotResponse> {
        Ok(Response::new(admin::HotResponse::default()))
    }

    async fn outage(&self, _: Request<admin::OutageRequest>) -> Told<admin::OutageResponse> {
        Ok(Response::new(admin::OutageResponse::default()))
    }

    async fn list_hints(
        &self,
        _: Request<admin::ListHintsRequest>,
    ) -> Result<Response<admin::HintsResponse>, Status> {
        Ok(Response::new(hints(admin::HintTotals::default())))
    }

    async fn replay_hints(
        &self,
        _: Request<admin::ReplayHintsRequest>,
    ) -> Result<Response<admin::HintsResponse>, Status> {
        Ok(Response::new(hints(kept())))
    }

    async fn drop_hints(
        &self,
        ask: Request<admin::DropHintsRequest>,
    ) -> Result<Response<admin::HintsResponse>, Status> {
        self.state.lock().hints_dropped.push(ask.into_inner().target);
        Ok(Response::new(hints(kept())))
    }

    async fn repair(&self, _: Request<admin::RepairRequest>) -> Told<admin::RepairResponse> {
        Ok(Response::new(admin::RepairResponse { me: "n1".to_owned(), ..Default::default() }))
    }

    async fn topology(
        &self,
        _: Request<admin::TopologyRequest>,
    ) -> Result<Response<admin::TopologyResponse>, Status> {
        Ok(Response::new(Fake::topology(self)))
    }

    async fn change_plan(
        &self,
        ask: Request<admin::ChangePlanRequest>,
    ) -> Result<Response<admin::TopologyResponse>, Status> {
        let mut state = self.state.lock();
        state.changes.push(ask.into_inner());
        if let Some(Act::Break) = state.script.pop_front() {
            return Err(Status::unavailable("shutting down"));
        }
        drop(state);
        Ok(Response::new(Fake::topology(self)))
    }

    async fn force_lineage(
        &self,
        _: Request<admin::ForceLineageRequest>,
    ) -> Result<Response<admin::ForceLineageResponse>, Status> {
        Err(Status::unimplemented("nobody forces anything here"))
    }

    async fn metrics(&self, _: Request<admin::MetricsRequest>) -> Told<admin::MetricsResponse> {
        let text = "kv_epoch 7\nkv_hints_count{kind=\"plain\"} 2\n# EOF\n".to_owned();
        Ok(admin::MetricsResponse { text }.into())
    }

    async fn version(&self, _: Request<admin::VersionRequest>) -> Told<admin::VersionResponse> {
        let (version, protocol_min, protocol_max, feature_level) = ("9.9.9".to_owned(), 1, 2, 3);
        Ok(admin::VersionResponse { version, protocol_min, protocol_max, feature_level }.into())
    }
}

fn refusal(code: &str, applied: Applied) -> Body {
    let applied = match applied {
        Applied::No => v1::error_detail::Applied::No,
        Applied::Yes => v1::error_detail::Applied::Yes,
        Applied::Unknown => v1::error_detail::Applied::Unknown,
    };
    let (code, message, applied) = (code.to_owned(), "as told".to_owned(), applied.into());
    let retryable = true;
    Body::Error(v1::ErrorDetail { code, message, retryable, applied, ..Default::default() })
}
