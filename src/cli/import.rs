//! `kvctl import`
//!
//! Lines are dealt to lanes by the hash of their key; a lane has one write in flight, so the file's
//! order holds for each key, while different keys overtake each other.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::client::{Client, Clock, ErrorKind};
use crate::types::Quorum;

use super::Context;
use super::args::{quorum, ttl};
use super::exit::Failure;
use super::line::{LineFormat, parse};
use super::lines::{self, Line};
use super::output::{self, Output};

/// Bytes of keys and values that may be under way.
const IN_FLIGHT_BYTES: u32 = 64 << 20;
/// Lines a lane may have waiting.
const LANE_LINES: usize = 16;
/// Failures shown one by one; the rest are only counted.
const SHOWN_MAX: u64 = 20;
/// When this many writes in a row find nobody to talk to, the import gives up.
const UNREACHABLE_MAX: u32 = 64;
const ATTEMPTS: u32 = 10;
const CONCURRENCY_MAX: i64 = 4096;

/// `kvctl import`
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The file; - reads stdin
    #[arg(value_name = "FILE")]
    file: String,
    /// What its lines are; by the name's ending when left out, else ndjson
    #[arg(long, value_enum)]
    format: Option<LineFormat>,
    /// Writes in flight
    #[arg(
        long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX)
    )]
    concurrency: u32,
    /// Replicas that must acknowledge: a number, one, quorum or all
    #[arg(short, value_name = "W", value_parser = quorum)]
    w: Option<Quorum>,
    /// How long the values live; the table's default when left out
    #[arg(long, value_name = "D", value_parser = ttl)]
    ttl: Option<Duration>,
}

/// A write under way; its share of the budget returns when it is done.
struct Write {
    number: u64,
    key: Bytes,
    value: Bytes,
    _budget: OwnedSemaphorePermit,
}

/// What the lanes share.
struct Shared {
    client: Client,
    table: String,
    w: Option<Quorum>,
    ttl: Option<Duration>,
    imported: AtomicU64,
    failed: AtomicU64,
    unreachable: AtomicU32,
    given_up: AtomicBool,
    progress: indicatif::ProgressBar,
}

/// Writes many keys.
pub(crate) async fn run(
    context: &Context<'_>,
    args: ImportArgs,
    output: &mut Output,
) -> Result<(), Failure> {
    let format = args.format.unwrap_or(match args.file.rsplit_once('.') {
        Some((_, "tsv")) => LineFormat::Tsv,
        _ => LineFormat::Ndjson,
    });
    let client = Client::builder()
        .endpoints(&context.global.endpoints)
        .timeout(context.timeout())
        .attempts(ATTEMPTS)
        .follow_ring(false)
        .connect_lazy()?;
    let (mut chunks, size) = lines::open(&args.file)?;
    let clock = Clock::start();
    let shared = Arc::new(Shared {
        client,
        table: context.table().to_owned(),
        w: args.w,
        ttl: args.ttl,
        imported: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        unreachable: AtomicU32::new(0),
        given_up: AtomicBool::new(false),
        progress: output.progress(size),
    });
    let mut lanes = Lanes::start(&shared, args.concurrency);
    let mut broken = None;
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Ok(lines) => {
                for line in lines {
                    lanes.deal(format, line).await;
                }
            }
            Err(error) => broken = Some(error),
        }
        if shared.given_up.load(Ordering::Relaxed) {
            break;
        }
    }
    lanes.finish().await;
    shared.progress.finish_and_clear();
    let seconds = Duration::from_nanos(clock.now().0).as_secs_f64();
    summary(&shared, seconds, output)?;
    match (broken, shared.failed.load(Ordering::Relaxed)) {
        (Some(error), _) => Err(Failure::partial(format!("reading {} failed: {error}", args.file))),
        _ if shared.given_up.load(Ordering::Relaxed) => {
            Err(Failure::unavailable("gave up: the cluster cannot be reached"))
        }
        (None, 0) => Ok(()),
        (None, failed) => Err(Failure::partial(format!("{failed} lines were not imported"))),
    }
}

fn summary(shared: &Shared, seconds: f64, output: &mut Output) -> Result<(), Failure> {
    let imported = shared.imported.load(Ordering::Relaxed);
    let failed = shared.failed.load(Ordering::Relaxed);
    let hidden = failed.saturating_sub(SHOWN_MAX);
    if hidden > 0 {
        output.note(&format!("... and {hidden} more"));
    }
    if output.format().is_json() {
        let summary = json!({ "imported": imported, "failed": failed, "seconds": seconds });
        return output.json(&summary);
    }
    output.line(&format!("imported {imported}, failed {failed}, in {seconds:.1} s"))
}

/// The lanes.
struct Lanes {
    shared: Arc<Shared>,
    queues: Vec<mpsc::Sender<Write>>,
    tasks: JoinSet<()>,
    budget: Arc<Semaphore>,
    hasher: RandomState,
}

impl Lanes {
    fn start(shared: &Arc<Shared>, count: u32) -> Lanes {
        let mut tasks = JoinSet::new();
        let queues = (0..count).map(|_| {
            let (queue, writes) = mpsc::channel(LANE_LINES);
            tasks.spawn(lane(shared.clone(), writes));
            queue
        });
        let queues = queues.collect();
        let budget = Arc::new(Semaphore::new(usize::try_from(IN_FLIGHT_BYTES).unwrap_or(0)));
        Lanes { shared: shared.clone(), queues, tasks, budget, hasher: RandomState::new() }
    }

    /// Hands one line to the lane of its key; waits for room.
    async fn deal(&mut self, format: LineFormat, line: Line) {
        self.shared.progress.inc(line.consumed);
        let number = line.number;
        let Some(bytes) = line.bytes else {
            let limit = lines::LINE_BYTES_MAX;
            return self.shared.fail(number, &format!("the line is over {limit} bytes"));
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let (key, value) = match parse(format, &bytes) {
            Ok(pair) => pair,
            Err(why) => return self.shared.fail(number, &why),
        };
        if self.shared.given_up.load(Ordering::Relaxed) {
            return;
        }
        let bytes = u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX);
        let permits = bytes.clamp(1, IN_FLIGHT_BYTES);
        let permit = self.budget.clone().acquire_many_owned(permits).await;
        let _budget = permit.expect("the budget is never closed");
        let count = u64::try_from(self.queues.len()).unwrap_or(1).max(1);
        let lane = usize::try_from(self.hasher.hash_one(&key) % count).unwrap_or(0);
        let queue = self.queues.get(lane).expect("a lane below their count");
        let write = Write { number, key, value, _budget };
        queue.send(write).await.expect("lanes end after their queues");
    }

    /// Waits until all that was dealt is done.
    async fn finish(mut self) {
        self.queues.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn lane(shared: Arc<Shared>, mut writes: mpsc::Receiver<Write>) {
    while let Some(write) = writes.recv().await {
        if shared.given_up.load(Ordering::Relaxed) {
            shared.fail(write.number, "not tried: the cluster cannot be reached");
            continue;
        }
        let mut put = shared.client.put(write.key, write.value).table(&shared.table);
        if let Some(ttl) = shared.ttl {
            put = put.ttl(ttl);
        }
        if let Some(w) = shared.w {
            put = put.w(w);
        }
        match put.await {
            Ok(_) => {
                shared.unreachable.store(0, Ordering::Relaxed);
                shared.imported.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                if error.kind() == ErrorKind::Unavailable {
                    let in_a_row = shared.unreachable.fetch_add(1, Ordering::Relaxed) + 1;
                    shared.given_up.fetch_or(in_a_row >= UNREACHABLE_MAX, Ordering::Relaxed);
                }
                shared.fail(write.number, &error.to_string());
            }
        }
    }
}

impl Shared {
    /// Counts a failure, and shows it while there are few.
    fn fail(&self, number: u64, why: &str) {
        if self.failed.fetch_add(1, Ordering::Relaxed) < SHOWN_MAX {
            self.progress.suspend(|| output::error_line(&format!("line {number}: {why}")));
        }
    }
}
