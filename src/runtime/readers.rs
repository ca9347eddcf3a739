//! The named threads that run disk requests which may block. A full queue answers `Overloaded` at
//! once.
//!
//! What is done for whole units has a thread of its own, which gives way to all others: a read that a
//! user waits for stands behind no page of a copy, and has the processor first.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::message::{DiskError, DiskRequest};
use crate::replica::{Done, Replica, give_way};

use super::clock::Clock;

/// Requests that may wait for a thread. Each is bounded by the largest value.
const QUEUE_MAX: usize = 1024;

#[derive(Default)]
struct State {
    waiting: VecDeque<(DiskRequest, Done)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A small pool of storage reader threads. Dropping it finishes what is queued and joins them.
pub(super) struct Readers {
    shared: Arc<Shared>,
    bulk: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts `count` threads, and one for what is done for whole units.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(replica: &Replica, count: usize, clock: Clock) -> io::Result<Readers> {
        let (shared, bulk) = (Arc::new(Shared::default()), Arc::new(Shared::default()));
        let mut readers = Readers { shared, bulk, threads: Vec::with_capacity(count + 1) };
        for index in 0..count {
            let (shared, replica) = (readers.shared.clone(), replica.clone());
            let thread = std::thread::Builder::new()
                .name(format!("kvd-read-{index}"))
                .spawn(move || work(&shared, &replica, clock))?;
            readers.threads.push(thread);
        }
        let (bulk, replica) = (readers.bulk.clone(), replica.clone());
        let thread = std::thread::Builder::new().name("kvd-bulk".to_owned()).spawn(move || {
            give_way();
            work(&bulk, &replica, clock);
        })?;
        readers.threads.push(thread);
        Ok(readers)
    }

    /// Queues a request.
    pub(super) fn submit(&self, request: DiskRequest, done: Done) {
        let shared = if request.is_bulk() { &self.bulk } else { &self.shared };
        let mut state = shared.state.lock();
        if state.waiting.len() >= QUEUE_MAX {
            drop(state);
            done(Err(DiskError::Overloaded));
            return;
        }
        state.waiting.push_back((request, done));
        drop(state);
        shared.changed.notify_one();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for shared in [&self.shared, &self.bulk] {
            shared.state.lock().closed = true;
            shared.changed.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A reader that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, replica: &Replica, clock: Clock) {
    loop {
        let mut state = shared.state.lock();
        let job = loop {
            if let Some(job) = state.waiting.pop_front() {
                break job;
            }
            if state.closed {
                return;
            }
            shared.changed.wait(&mut state);
        };
        drop(state);
        let (request, done) = job;
        // What nobody waits for any more is not read: under load it would be most of what is.
        if request.deadline().is_some_and(|deadline| clock.mono() >= deadline) {
            done(Err(DiskError::Expired));
            continue;
        }
        replica.execute(request, done);
    }
}
