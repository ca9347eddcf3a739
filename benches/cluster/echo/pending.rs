//! Operations that wait for the first answer of a peer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use roundtable::wire::proto::peer::{Op, op, read_answer};
use tokio::sync::oneshot;

use super::session::Sink;

/// Who waits.
pub(super) enum Waiter {
    /// A call of its own.
    Call(oneshot::Sender<bytes::Bytes>),
    /// An operation of a session: its sink, its id there, and whether it is a read.
    Session(Arc<Sink>, u64, bool),
}

/// All that wait.
#[derive(Default)]
pub(super) struct Pending {
    last: AtomicU64,
    waiters: Mutex<HashMap<u64, Waiter>>,
}

impl Pending {
    /// Numbers for operations, `count` in a row.
    pub(super) fn numbers(&self, count: usize) -> u64 {
        self.last.fetch_add(count as u64, Ordering::Relaxed)
    }

    /// Enters those who wait, in the order of their numbers.
    pub(super) fn wait(&self, first: u64, waiters: impl Iterator<Item = Waiter>) {
        self.waiters.lock().extend((first..).zip(waiters));
    }

    /// Hands answers to those who wait; second answers find nobody.
    pub(super) fn answer(&self, ops: Vec<Op>) {
        let mut found = Vec::with_capacity(ops.len());
        let mut waiters = self.waiters.lock();
        for op in ops {
            let (round, value) = match op.op {
                Some(op::Op::WriteAnswer(answer)) => (answer.round, bytes::Bytes::new()),
                Some(op::Op::ReadAnswer(answer)) => match answer.result {
                    Some(read_answer::Result::Record(record)) => {
                        (answer.round, record.value.unwrap_or_default())
                    }
                    _ => (answer.round, bytes::Bytes::new()),
                },
                _ => continue,
            };
            let waiter = round.and_then(|round| waiters.remove(&round.op));
            found.extend(waiter.map(|waiter| (waiter, value)));
        }
        drop(waiters);
        for (waiter, value) in found {
            match waiter {
                // One that was given up waits no more.
                Waiter::Call(sender) => drop(sender.send(value)),
                Waiter::Session(sink, id, is_read) => sink.answer(id, is_read, value),
            }
        }
    }
}
