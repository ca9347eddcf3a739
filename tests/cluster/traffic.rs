//! Closed-loop traffic whose every operation is written down, and the verdict on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roundtable::client::{Applied, Client, Error, Receipt};
use roundtable::load::check::{Ledger, register};
use roundtable::load::history::{Action, History, Outcome};
use roundtable::types::{Key, Time, Value};
use tokio::task::JoinSet;

use crate::fixture::{Cluster, clock};

/// Keys that all workers read and write.
const SHARED_KEYS: usize = 12;
/// Keys that one worker alone writes.
const OWN_KEYS: usize = 8;
/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What the workers have seen so far.
#[derive(Default)]
struct Books {
    history: History,
    ledger: Ledger,
    acknowledged: usize,
    failed: BTreeMap<String, usize>,
}

/// Workers that read and write until they are told to stop.
pub(crate) struct Traffic {
    books: Arc<Mutex<Books>>,
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

/// What has been seen.
#[derive(Debug)]
pub(crate) struct Seen {
    history: History,
    ledger: Ledger,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: usize,
    /// Failed operations by code.
    pub(crate) failed: BTreeMap<String, usize>,
}

struct Worker {
    client: Client,
    books: Arc<Mutex<Books>>,
    number: usize,
    start: Instant,
    rng: fastrand::Rng,
    serial: u64,
}

impl Traffic {
    /// Starts `workers` workers that share `client`.
    pub(crate) fn start(client: &Client, workers: usize) -> Traffic {
        Traffic::through(core::slice::from_ref(client), workers)
    }

    /// Starts `workers` workers, who have the clients in turn.
    pub(crate) fn through(clients: &[Client], workers: usize) -> Traffic {
        let (books, stop) = (Arc::<Mutex<Books>>::default(), Arc::<AtomicBool>::default());
        let start = clock::now();
        let mut tasks = JoinSet::new();
        for (number, client) in clients.iter().cycle().take(workers).enumerate() {
            let mut worker = Worker {
                client: client.clone(),
                books: books.clone(),
                number,
                start,
                rng: fastrand::Rng::with_seed(number as u64),
                serial: 0,
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    worker.one().await;
                }
            });
        }
        Traffic { books, stop, workers: tasks }
    }

    /// Writes acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.books.lock().acknowledged
    }

    /// Waits until `count` more writes have been acknowledged.
    pub(crate) async fn advances(&self, count: usize) {
        let goal = self.acknowledged() + count;
        let what = format!("{count} more writes are acknowledged");
        clock::until(&what, Duration::from_secs(10), async || {
            (self.acknowledged() >= goal).then_some(())
        })
        .await;
    }

    /// Lets the operations in flight end.
    pub(crate) async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        clock::within("the workers end", TIMEOUT + Duration::from_secs(3), ended).await;
        let Books { history, ledger, acknowledged, failed } =
            core::mem::take(&mut *self.books.lock());
        Seen { history, ledger, acknowledged, failed }
    }
}

impl Worker {
    fn now(&self) -> Time {
        Time::default().plus(clock::now().duration_since(self.start))
    }

    /// One operation, from the choice to the entry in the books.
    async fn one(&mut self) {
        let own = self.rng.bool();
        let key = match own {
            true => format!("own-{}-{}", self.number, self.rng.usize(..OWN_KEYS)),
            false => format!("shared-{}", self.rng.usize(..SHARED_KEYS)),
        };
        let key = Key::new(key).unwrap();
        self.serial += 1;
        let value = Value::new(format!("{}/{}", self.number, self.serial)).unwrap();
        let action = match self.rng.u8(..10) {
            0..4 => Action::Get,
            4 => Action::Delete,
            _ => Action::Put(value),
        };
        let op = {
            let mut books = self.books.lock();
            let process = books.history.new_process();
            books.history.invoke(process, key.clone(), action.clone(), self.now())
        };
        let name = key.bytes().clone();
        let outcome = match &action {
            Action::Get => self.client.get(name).timeout(TIMEOUT).await.map(|reply| {
                let value = reply.value.map(|value| Value::new(value).unwrap());
                Outcome::Read { value, stamp: reply.receipt.stamp, weak: reply.receipt.weak }
            }),
            Action::Put(value) => {
                let put = self.client.put(name, value.as_bytes().to_vec()).timeout(TIMEOUT);
                put.await.map(written)
            }
            Action::Delete => self.client.delete(name).timeout(TIMEOUT).await.map(written),
            Action::Cas(..) => unreachable!("this traffic compares nothing"),
        };
        self.enter(op, &action, (key, own), outcome);
    }

    fn enter(
        &self,
        op: roundtable::load::history::OpIndex,
        action: &Action,
        (key, own): (Key, bool),
        outcome: Result<Outcome, Error>,
    ) {
        let mut books = self.books.lock();
        let wanted = match action {
            Action::Get | Action::Cas(..) => None,
            Action::Put(value) => Some(Some(value.clone())),
            Action::Delete => Some(None),
        };
        let outcome = match outcome {
            Ok(outcome) => {
                if let Some(value) = wanted {
                    books.acknowledged += 1;
                    if own {
                        books.ledger.acknowledged(key, value);
                    }
                }
                outcome
            }
            Err(error) => {
                *books.failed.entry(error.code().to_owned()).or_default() += 1;
                if error.applied() == Applied::No {
                    Outcome::Failed
                } else {
                    if let (true, Some(value)) = (own, wanted) {
                        books.ledger.unknown(key, value);
                    }
                    Outcome::Unknown
                }
            }
        };
        let now = self.now();
        books.history.complete(op, outcome, now);
    }
}

fn written(receipt: Receipt) -> Outcome {
    Outcome::Written { stamp: receipt.stamp, weak: receipt.weak }
}

impl Seen {
    /// Nothing that was seen breaks a promise, and every acknowledged write that no later one can
    /// have replaced is read back through each of `nodes`.
    pub(crate) async fn holds(&self, cluster: &Cluster, nodes: &[usize]) {
        assert_eq!(register(&self.history), []);
        for node in nodes {
            let client = cluster.client_of(*node);
            let mut found = BTreeMap::new();
            for key in self.ledger.keys() {
                let reply = client.get(key.bytes().clone()).await.unwrap();
                let value = reply.value.map(|value| Value::new(value).unwrap());
                found.insert(key.clone(), value);
            }
            assert_eq!(self.ledger.audit(&found), [], "through node {node}");
        }
    }
}
