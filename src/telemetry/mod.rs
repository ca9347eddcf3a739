//! What is counted, and how it is shown: metrics for machines, log lines for people. Counting on
//! the hot path is a few relaxed atomic additions; formatting happens when somebody asks.

mod histogram;
pub mod log;
mod metrics;
mod process;
mod recent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use core::time::Duration;

use crate::message::{Bound, ClientBody, ErrorCode, Event};
use crate::transport::TransportStats;

use histogram::Histogram;

pub use metrics::render;
pub use recent::{SLICE, Slice, SliceKind};

use recent::Recent;

/// The processor time of this process so far, all its threads together, in steps of 10 ms; `None` where it is
/// not known.
pub fn cpu_time() -> Option<Duration> {
    process::cpu_time()
}

/// What is told apart in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// A read.
    Get,
    /// A write.
    Put,
    /// A delete.
    Delete,
    /// A page.
    Scan,
    /// A compare-and-set.
    Cas,
    /// Writes that are made together.
    Batch,
    /// An increment of a counter.
    Increment,
    /// A question about what became of a change.
    Outcome,
    /// What a watch has to tell.
    Watch,
    /// An operator's question.
    Admin,
}

impl OpKind {
    /// Every kind.
    pub const ALL: [OpKind; 10] = [
        OpKind::Get,
        OpKind::Put,
        OpKind::Delete,
        OpKind::Scan,
        OpKind::Cas,
        OpKind::Batch,
        OpKind::Increment,
        OpKind::Outcome,
        OpKind::Watch,
        OpKind::Admin,
    ];

    /// The kind of an operation's event.
    pub fn of(event: &Event) -> OpKind {
        match event {
            Event::Client { request, .. } => match &request.body {
                ClientBody::Get(_) => OpKind::Get,
                ClientBody::Put(put) if put.value.is_none() => OpKind::Delete,
                ClientBody::Put(_) => OpKind::Put,
                ClientBody::Scan(_) => OpKind::Scan,
                ClientBody::Cas(_) => OpKind::Cas,
                ClientBody::Batch(_) => OpKind::Batch,
                ClientBody::Increment(_) => OpKind::Increment,
                ClientBody::Outcome(_) => OpKind::Outcome,
                ClientBody::Watch(_) => OpKind::Watch,
            },
            Event::Admin { .. }
            | Event::Abandon { .. }
            | Event::ScanEnded { .. }
            | Event::Peer { .. }
            | Event::DiskDone { .. }
            | Event::Unreachable { .. }
            | Event::Rejected { .. }
            | Event::Process { .. }
            | Event::Drain
            | Event::Tick => OpKind::Admin,
        }
    }

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            OpKind::Get => "get",
            OpKind::Put => "put",
            OpKind::Delete => "delete",
            OpKind::Scan => "scan",
            OpKind::Cas => "cas",
            OpKind::Batch => "batch",
            OpKind::Increment => "increment",
            OpKind::Outcome => "outcome",
            OpKind::Watch => "watch",
            OpKind::Admin => "admin",
        }
    }
}

/// Counters of one kind of operation.
struct OpCounters {
    ok: AtomicU64,
    failed: Vec<AtomicU64>,
    latency: Histogram,
}

impl OpCounters {
    fn new() -> OpCounters {
        OpCounters {
            ok: AtomicU64::new(0),
            failed: ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            latency: Histogram::default(),
        }
    }

    fn failed_in_all(&self) -> u64 {
        self.failed.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

struct Shared {
    ops: [OpCounters; OpKind::ALL.len()],
    in_flight: AtomicU64,
    queued_bytes: AtomicU64,
    shed: AtomicU64,
    refused: [AtomicU64; Bound::ALL.len()],
    many_siblings: AtomicU64,
    sessions: AtomicU64,
    watches: AtomicU64,
    watch_changes: AtomicU64,
    watch_gaps: AtomicU64,
    transport: OnceLock<TransportStats>,
    store: OnceLock<StoreReader>,
    recent: Mutex<Recent>,
}

/// Reads the store's figures of the moment.
pub type StoreReader = Box<dyn Fn() -> StoreFacts + Send + Sync>;

/// Figures of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreFacts {
    /// Tables and log together.
    pub disk_bytes: u64,
    /// Memtables.
    pub memory_bytes: u64,
    /// Batches that wait for the log.
    pub pending_bytes: u64,
    /// Whether a failed write or sync has made it read-only.
    pub read_only: bool,
    /// Batches submitted since it was opened.
    pub batches: u64,
    /// Syncs of the log since it was opened.
    pub fsyncs: u64,
    /// Memtables written out since it was opened.
    pub flushes: u64,
    /// Memory of the trees of units.
    pub tree_bytes: u64,
    /// Their leaves.
    pub tree_leaves: u64,
    /// The file that they are kept in.
    pub tree_file_bytes: u64,
    /// Bytes written into it since it was opened.
    pub tree_file_written: u64,
    /// How often that has failed since.
    pub tree_file_failed: u64,
    /// Trees that are being built: their units are not compared.
    pub trees_building: u64,
    /// Entries read since it was opened to find what differs from other owners.
    pub tree_entries_read: u64,
}

/// The counters of one process; cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Shared>);

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry(Arc::new(Shared {
            ops: core::array::from_fn(|_| OpCounters::new()),
            in_flight: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            refused: Default::default(),
            many_siblings: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            watch_changes: AtomicU64::new(0),
            watch_gaps: AtomicU64::new(0),
            transport: OnceLock::new(),
            store: OnceLock::new(),
            recent: Mutex::default(),
        }))
    }
}

impl Telemetry {
    /// Counts a finished operation; `code` is its error, if it failed.
    pub fn operation(&self, kind: OpKind, code: Option<ErrorCode>, latency: Duration) {
        let Some(counters) = self.0.ops.get(kind as usize) else {
            return;
        };
        counters.latency.record(latency);
        let counter = match code {
            None => Some(&counters.ok),
            Some(code) => counters.failed.get(code as usize),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends a slice of time, of this length: the next one begins. Whoever serves people calls it each [`SLICE`].
    pub fn end_slice(&self, length: Duration) {
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.end_slice(length, &self.0.ops);
    }

    /// The slices of the last ten minutes, the oldest first.
    pub fn recent(&self) -> Vec<Slice> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner).slices()
    }

    /// Counts an operation that was refused because the driver's queue was full.
    pub fn shed(&self) {
        self.0.shed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an operation that was refused because as many were in flight as may be.
    pub fn refused(&self, bound: Bound) {
        if let Some(counter) = self.0.refused.get(bound as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a write of a causal table that found its key with many siblings.
    pub fn many_siblings(&self) {
        self.0.many_siblings.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of operations without an answer.
    pub fn set_in_flight(&self, count: usize) {
        self.0.in_flight.store(count as u64, Ordering::Relaxed);
    }

    /// Operations without an answer.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Bytes of operations that wait for the driver. The queue itself counts them here.
    pub(crate) fn queued_bytes(&self) -> &AtomicU64 {
        &self.0.queued_bytes
    }

    /// Counts a session that opens; the guard counts it out.
    pub fn session(&self) -> SessionGuard {
        self.0.sessions.fetch_add(1, Ordering::Relaxed);
        SessionGuard(self.clone())
    }

    /// Counts a watch that opens; the guard counts it out.
    pub fn watch(&self) -> WatchGuard {
        self.0.watches.fetch_add(1, Ordering::Relaxed);
        WatchGuard(self.clone())
    }

    pub(crate) fn set_transport(&self, stats: TransportStats) {
        // Set once, by the one runtime of the process.
        let _ = self.0.transport.set(stats);
    }

    pub(crate) fn set_store(&self, read: StoreReader) {
        // Set once, by the one server of the process.
        let _ = self.0.store.set(read);
    }
}

/// Counts a watch out when it is dropped.
pub struct WatchGuard(Telemetry);

impl WatchGuard {
    /// Counts what it has told.
    pub fn told(&self, changes: u64, gaps: u64) {
        self.0.0.watch_changes.fetch_add(changes, Ordering::Relaxed);
        self.0.0.watch_gaps.fetch_add(gaps, Ordering::Relaxed);
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.0.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a session out when it is dropped.
pub struct SessionGuard(Telemetry);

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
