//! A second node for a read that takes long: who answers first is heard, and the other is not waited for
//! (hedged requests: Dean and Barroso, "The Tail at Scale", 2013, within-request short-term adaptations). One
//! node that stands still for a moment then costs its callers some milliseconds, and not the patience with which
//! an attempt is given up. Writes are never sent twice at once: their attempts must follow each other.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use tokio::time::timeout;

use crate::types::Time;

use super::Error;
use super::call::{Core, Operation, Try, server_share, serves};
use super::endpoint::{Endpoint, Lease};

/// What has come of a read that was sent to one node, or to two.
pub(super) struct Heard<A> {
    pub(super) answer: Result<A, Error>,
    /// Who said so, and since when it was asked, where it was the second one.
    pub(super) second: Option<(Arc<Endpoint>, Time)>,
    /// The address of the first one, where both have failed.
    pub(super) beside: Option<String>,
}

impl<A> Heard<A> {
    fn first(answer: Result<A, Error>) -> Heard<A> {
        Heard { answer, second: None, beside: None }
    }
}

impl Core {
    /// Sends `operation` to `first`; and, once that takes longer than such answers do, to another node that is
    /// well, if the budget for it allows. Dropped, it gives up both.
    pub(super) async fn send<O: Operation>(
        &self,
        operation: &O,
        (first, this): (&Lease, Try),
        avoid: &[String],
        (deadline, timeout_of): (Time, Duration),
    ) -> Heard<O::Answer> {
        let mut sent = core::pin::pin!(operation.send(first, this));
        let Some(after) = self.hedge_after(operation) else { return Heard::first(sent.await) };
        if let Ok(answer) = timeout(after, &mut sent).await {
            return Heard::first(answer);
        }
        let Some(second) = self.second(operation, first, avoid) else {
            return Heard::first(sent.await);
        };
        let since = self.clock.now();
        let this = Try { remaining: server_share(deadline.since(since), timeout_of), ..this };
        let mut other = core::pin::pin!(operation.send(&second, this));
        // Of two answers that are there the first one's is taken: it costs nothing more, and speaks well of it.
        tokio::select! {
            biased;
            answer = &mut sent => match answer {
                Ok(answer) => return Heard::first(Ok(answer)),
                Err(error) => self.note(first, &error),
            },
            answer = &mut other => match answer {
                Ok(answer) => {
                    first.outrun(self.clock.now());
                    let second = Some((second.endpoint(), since));
                    return Heard { answer: Ok(answer), second, beside: None };
                }
                Err(error) => {
                    self.note(&second, &error);
                    return Heard::first(sent.await);
                }
            },
        }
        let answer = other.await;
        let beside = answer.is_err().then(|| first.address.clone());
        Heard { answer, second: Some((second.endpoint(), since)), beside }
    }

    /// When a second node is asked, of a read of one key while there are others to ask.
    fn hedge_after<O: Operation>(&self, operation: &O) -> Option<Duration> {
        let may =
            operation.is_quick() && !operation.is_write() && self.pool.len(operation.place()) > 1;
        if !may {
            return None;
        }
        self.hedges.deposit();
        self.reads.usually()
    }

    /// Whom to ask besides `first`, if anybody is well and there is a token for it.
    fn second<O: Operation>(
        &self,
        operation: &O,
        first: &Lease,
        avoid: &[String],
    ) -> Option<Lease> {
        let mut avoid = avoid.to_vec();
        avoid.push(first.address.clone());
        let now = self.clock.now();
        let second = self.pool.spare(operation.place(), &avoid, now, &self.entropy)?;
        if !self.hedges.withdraw() {
            return None;
        }
        self.counts.hedges.fetch_add(1, Ordering::Relaxed);
        Some(second)
    }

    /// A node has answered with an error, while another may still answer well.
    fn note(&self, endpoint: &Lease, error: &Error) {
        if serves(error) { endpoint.answered() } else { endpoint.failed(self.clock.now()) }
    }
}
