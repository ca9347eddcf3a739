//! One worker of the generator: takes the next operation that is due, asks, notes what came of it.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::client::{Applied, Client, Clock, Error};
use crate::types::{Key, Stamp, Time, Value};

use super::generator::{Dispenser, Due, LATE, Plan, Report};
use super::history::{Action, OpIndex, Outcome, ProcessId};
use super::mix::Kind;

pub(crate) struct Worker {
    client: Client,
    plan: Arc<Plan>,
    clock: Clock,
    number: u32,
    written: u64,
    rng: fastrand::Rng,
    process: Option<ProcessId>,
    report: Report,
}

impl Worker {
    pub(crate) fn new(client: Client, plan: Arc<Plan>, number: u32) -> Worker {
        let clock = Clock::start();
        let rng = fastrand::Rng::with_seed(plan.seed ^ (u64::from(number) << 32));
        let report = Report::default();
        Worker { client, plan, clock, number, written: 0, rng, process: None, report }
    }

    /// Does its part of a run that began when `clock` did.
    pub(crate) async fn run(mut self, clock: Clock, dispenser: Arc<Mutex<Dispenser>>) -> Report {
        self.clock = clock;
        loop {
            let elapsed = self.clock.now().since(Time(0));
            let mut skipped = Vec::new();
            let most = self.plan.patience.map(|patience| patience / 8);
            let due = dispenser.lock().next(elapsed, most, |at| skipped.push(at));
            self.skip(&skipped);
            let Some(due) = due else { break };
            let due = match due {
                Due::Now => self.clock.now(),
                Due::At(after) => {
                    let at = Time(0).plus(after);
                    tokio::time::sleep_until(self.clock.instant(at)).await;
                    self.report.lag.record(self.clock.now().since(at));
                    at
                }
            };
            self.operation(due).await;
            // One that was refused at once has not waited for anything: the others' turn, and the
            // client's own tasks'.
            tokio::task::yield_now().await;
        }
        self.report.elapsed = self.clock.now().since(Time(0));
        self.report
    }

    async fn operation(&mut self, due: Time) {
        let key = self.plan.keys.draw(&mut self.rng);
        let kind = self.plan.mix.draw(&mut self.rng);
        let value = (kind == Kind::Put).then(|| self.value());
        let op = self.invoke(&key, kind, value.as_ref());
        let answer = self.ask(&key, kind, value).await;
        let now = self.clock.now();
        let counted = match &answer {
            Ok(_) if self.is_late(now, due) => Err(LATE),
            Ok(_) => Ok(now.since(due)),
            Err(error) => Err(error.code()),
        };
        self.count(kind, due, counted);
        self.complete(op, kind, answer, now);
    }

    /// Whether whoever asked would have left by `now`.
    fn is_late(&self, now: Time, due: Time) -> bool {
        self.plan.patience.is_some_and(|patience| now.since(due) > patience)
    }

    /// Counts what has been due too long to begin with it.
    fn skip(&mut self, due: &[Duration]) {
        for _ in due {
            let outcomes =
                self.report.outcomes.entry(self.plan.mix.draw(&mut self.rng)).or_default();
            *outcomes.errors.entry(LATE.to_owned()).or_default() += 1;
        }
        if let Some(timeline) = self.plan.timeline.as_ref().filter(|_| !due.is_empty()) {
            let mut timeline = timeline.lock();
            due.iter().for_each(|at| timeline.record(*at, None));
        }
    }

    fn count(&mut self, kind: Kind, due: Time, took: Result<Duration, &str>) {
        let outcomes = self.report.outcomes.entry(kind).or_default();
        match took {
            Ok(took) => outcomes.latency.record(took),
            Err(code) => *outcomes.errors.entry(code.to_owned()).or_default() += 1,
        }
        if let Some(timeline) = &self.plan.timeline {
            timeline.lock().record(due.since(Time(0)), took.ok());
        }
    }

    async fn ask(
        &self,
        key: &Key,
        kind: Kind,
        value: Option<Value>,
    ) -> Result<(Option<Bytes>, Stamp, bool), Error> {
        let (key, plan) = (key.bytes().clone(), &self.plan);
        let receipt = match kind {
            Kind::Get => {
                let get = self.client.get(key).table(&plan.table);
                let reply = if let Some(r) = plan.r { get.r(r).await? } else { get.await? };
                return Ok((reply.value, reply.receipt.stamp, reply.receipt.weak));
            }
            Kind::Put => {
                let value = value.map(Value::into_bytes).unwrap_or_default();
                let put = self.client.put(key, value).table(&plan.table);
                if let Some(w) = plan.w { put.w(w).await? } else { put.await? }
            }
            Kind::Delete => {
                let delete = self.client.delete(key).table(&plan.table);
                if let Some(w) = plan.w { delete.w(w).await? } else { delete.await? }
            }
        };
        Ok((None, receipt.stamp, receipt.weak))
    }

    /// A value that no other put of this run writes.
    fn value(&mut self) -> Value {
        self.written += 1;
        let mut text = format!("{}-{}-{}-", self.plan.seed, self.number, self.written).into_bytes();
        let size = self.plan.value_bytes.min(crate::types::limits::VALUE_BYTES_MAX);
        if text.len() < size {
            let start = text.len();
            text.resize(size, 0);
            self.rng.fill(text.get_mut(start..).unwrap_or_default());
        }
        Value::new(text).expect("cut to the limit")
    }

    fn invoke(&mut self, key: &Key, kind: Kind, value: Option<&Value>) -> Option<OpIndex> {
        let mut history = self.plan.history.as_ref()?.lock();
        let process = *self.process.get_or_insert_with(|| history.new_process());
        let action = match (kind, value) {
            (Kind::Put, Some(value)) => Action::Put(value.clone()),
            (Kind::Delete, _) => Action::Delete,
            _ => Action::Get,
        };
        Some(history.invoke(process, key.clone(), action, self.clock.now()))
    }

    fn complete(
        &mut self,
        op: Option<OpIndex>,
        kind: Kind,
        answer: Result<(Option<Bytes>, Stamp, bool), Error>,
        now: Time,
    ) {
        let Some((op, history)) = op.zip(self.plan.history.as_ref()) else { return };
        let outcome = outcome(kind, answer);
        if outcome == Outcome::Unknown {
            // It may yet take effect: the process that asked is never done.
            self.process = None;
        }
        history.lock().complete(op, outcome, now);
    }
}

/// What an answer means to the checkers.
fn outcome(kind: Kind, answer: Result<(Option<Bytes>, Stamp, bool), Error>) -> Outcome {
    match (kind, answer) {
        (Kind::Get, Ok((value, stamp, weak))) => {
            let value = value.and_then(|value| Value::new(value).ok());
            Outcome::Read { value, stamp, weak }
        }
        (_, Ok((_, stamp, weak))) => Outcome::Written { stamp, weak },
        (_, Err(error)) if error.applied() == Applied::No => Outcome::Failed,
        (_, Err(_)) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ErrorCode;
    use crate::load::generator::{Outcomes, Pace};
    use crate::load::keys::{Distribution, Keys};
    use crate::load::schedule::Spacing;

    #[tokio::test]
    async fn values_are_unique_and_of_their_size() {
        let keys = Keys::new("k", 1, Distribution::Uniform).unwrap();
        let client = Client::builder().endpoints(["host:1"]).connect_lazy().unwrap();
        let plan = Arc::new(Plan { value_bytes: 64, ..Plan::new(keys) });
        let worker = |n| Worker::new(client.clone(), plan.clone(), n);
        let (mut one, mut other) = (worker(1), worker(2));
        let values = [one.value(), one.value(), other.value()];
        assert!(values.iter().all(|value| value.as_bytes().len() == 64));
        assert!(values[0] != values[1] && values[0] != values[2] && values[1] != values[2]);
    }

    #[tokio::test]
    async fn what_is_due_too_long_ago_is_not_asked_and_counts_as_late() {
        let keys = Keys::new("k", 1, Distribution::Uniform).unwrap();
        // Nobody is there: had one been asked, it would have failed otherwise.
        let client = Client::builder().endpoints(["host:1"]).connect_lazy().unwrap();
        let patience = Some(Duration::from_millis(5));
        let pace = Pace::Open { rate: 1e6, spacing: Spacing::Even };
        let duration = Duration::from_micros(20);
        let plan = Arc::new(Plan { patience, pace, duration, ..Plan::new(keys) });
        let (worker, clock) = (Worker::new(client, plan.clone(), 0), Clock::start());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let report = worker.run(clock, Arc::new(Mutex::new(Dispenser::new(&plan)))).await;
        let late = |outcomes: &Outcomes| outcomes.errors.get(LATE).copied().unwrap_or(0);
        assert_eq!(report.outcomes.values().map(late).sum::<u64>(), 20);
        assert_eq!(report.outcomes.values().map(Outcomes::failed).sum::<u64>(), 20);
    }

    #[test]
    fn only_a_write_known_to_be_without_effect_counts_as_failed() {
        let error = Error::new(ErrorCode::QuorumNotReached, "");
        let unknown = error.clone().with_applied(Applied::Unknown);
        assert_eq!(outcome(Kind::Put, Err(error)), Outcome::Failed);
        assert_eq!(outcome(Kind::Put, Err(unknown)), Outcome::Unknown);
        let read = outcome(Kind::Get, Ok((None, Stamp::ZERO, true)));
        assert_eq!(read, Outcome::Read { value: None, stamp: Stamp::ZERO, weak: true });
    }
}
