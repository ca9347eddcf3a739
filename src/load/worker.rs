//! One worker of the generator: takes the next operation that is due, asks, notes what came of it.

use core::time::Duration;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::{Applied, Client, Clock, Error};
use crate::types::{Key, Time, Value};

use super::ask::{Answer, Question, ask};
use super::generator::{Dispenser, Due, LATE, Plan, Report, WRONG_VALUE};
use super::history::{Action, OpIndex, Outcome, ProcessId};
use super::mix::Kind;
use super::payload;

/// How long a worker sleeps at most before it looks whether it is told to stop.
const NAP: Duration = Duration::from_millis(100);

pub(crate) struct Worker {
    client: Client,
    plan: Arc<Plan>,
    clock: Clock,
    number: u32,
    written: u64,
    rng: fastrand::Rng,
    process: Option<ProcessId>,
    book: Arc<Mutex<Report>>,
}

impl Worker {
    pub(crate) fn new(
        client: Client,
        plan: Arc<Plan>,
        number: u32,
        book: Arc<Mutex<Report>>,
    ) -> Worker {
        let clock = Clock::start();
        let rng = fastrand::Rng::with_seed(plan.seed ^ (u64::from(number) << 32));
        Worker { client, plan, clock, number, written: 0, rng, process: None, book }
    }

    /// Does its part of a run that began when `clock` did.
    pub(crate) async fn run(mut self, clock: Clock, dispenser: Arc<Mutex<Dispenser>>) {
        self.clock = clock;
        loop {
            let elapsed = self.clock.now().since(Time(0));
            let mut skipped = Vec::new();
            let most = self.plan.patience.map(|patience| patience / 8);
            let due = dispenser.lock().next(elapsed, most, |at| skipped.push(at));
            self.skip(&skipped);
            let due = match due {
                None => break,
                Some(Due::Now) => self.clock.now(),
                Some(Due::At(after)) => {
                    let at = Time(0).plus(after);
                    if !self.sleep_until(at).await {
                        break;
                    }
                    self.note_lag(at, after > elapsed);
                    at
                }
            };
            self.operation(due).await;
            // One that was refused at once has not waited for anything: the others' turn, and the
            // client's own tasks'.
            tokio::task::yield_now().await;
        }
        let elapsed = self.clock.now().since(Time(0)).saturating_sub(self.plan.warmup);
        let mut book = self.book.lock();
        book.elapsed = book.elapsed.max(elapsed);
    }

    /// Waits until `at`; false when the run is cut before.
    async fn sleep_until(&self, at: Time) -> bool {
        loop {
            if self.plan.is_cut && self.plan.is_stopped() {
                return false;
            }
            let nap = self.clock.now().plus(NAP);
            let wake = if self.plan.is_cut { at.min(nap) } else { at };
            tokio::time::sleep_until(self.clock.instant(wake)).await;
            if wake == at {
                return true;
            }
        }
    }

    /// Notes how late an operation is that was due `at`, for which its worker was early or not.
    fn note_lag(&self, at: Time, was_early: bool) {
        if self.is_counted(at) {
            let lag = self.clock.now().since(at);
            let mut book = self.book.lock();
            book.lag.record(lag);
            if was_early {
                book.timer_lag.record(lag);
            }
        }
    }

    fn is_counted(&self, due: Time) -> bool {
        due.since(Time(0)) >= self.plan.warmup
    }

    async fn operation(&mut self, due: Time) {
        let due = if crate::mutant!("load-latency-from-sent") { self.clock.now() } else { due };
        let kind = self.plan.mix.draw(&mut self.rng);
        let (key, inserted) = self.key(kind);
        let writes = matches!(kind, Kind::Put | Kind::Insert | Kind::Modify);
        let value = writes.then(|| self.value(&key));
        let limit = self.rng.u64(1..=u64::from(self.plan.scan_max.max(1)));
        let op = self.invoke(&key, kind, value.as_ref());
        let answer = ask(&self.client, &self.plan, Question { kind, key, value, limit }).await;
        let now = self.clock.now();
        if let Some(number) = inserted {
            self.plan.growth.lock().end(number);
        }
        let counted = match &answer {
            Ok(answer) if answer.is_wrong => Err(WRONG_VALUE),
            Ok(_) if self.is_late(now, due) => Err(LATE),
            Ok(answer) => Ok((now.since(due), answer)),
            Err(error) => Err(error.code()),
        };
        self.count(kind, due, counted);
        self.complete(op, kind, answer, now);
    }

    /// The key of the next operation, and its number if it is a new one.
    fn key(&mut self, kind: Kind) -> (Key, Option<u64>) {
        if kind == Kind::Insert {
            let number = self.plan.growth.lock().begin();
            return (self.plan.keys.key(number), Some(number));
        }
        let present = self.plan.growth.lock().present();
        (self.plan.keys.key(self.plan.keys.draw_of(present, &mut self.rng)), None)
    }

    /// Whether whoever asked would have left by `now`.
    fn is_late(&self, now: Time, due: Time) -> bool {
        self.plan.patience.is_some_and(|patience| now.since(due) > patience)
    }

    /// Counts what has been due too long to begin with it.
    fn skip(&mut self, due: &[Duration]) {
        for at in due {
            let kind = self.plan.mix.draw(&mut self.rng);
            self.count(kind, Time(0).plus(*at), Err(LATE));
        }
    }

    fn count(&self, kind: Kind, due: Time, ended: Result<(Duration, &Answer), &str>) {
        // A wrong value is wrong whenever it is seen.
        if !self.is_counted(due) && ended.err() != Some(WRONG_VALUE) {
            return;
        }
        let took = ended.ok().map(|(took, _)| took);
        let mut book = self.book.lock();
        let outcomes = book.outcomes.entry(kind).or_default();
        match ended {
            Ok((took, answer)) => {
                outcomes.latency.record(took);
                outcomes.absent += u64::from(answer.is_absent);
                outcomes.entries += answer.entries;
            }
            Err(code) => *outcomes.errors.entry(code.to_owned()).or_default() += 1,
        }
        drop(book);
        let at = due.since(Time(0)).saturating_sub(self.plan.warmup);
        if let Some(timeline) = &self.plan.timeline {
            timeline.lock().record(at, took);
        }
        if let Some(series) = &self.plan.series {
            series.lock().record(at, took);
        }
    }

    /// A value that no other put of this run writes.
    fn value(&mut self, key: &Key) -> Value {
        self.written += 1;
        let number = (u64::from(self.number) << 40) | self.written;
        // A seed of its own makes another run's values others as well.
        let unique = number ^ self.plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        payload::value(key, unique, self.plan.value_bytes)
    }

    fn invoke(&mut self, key: &Key, kind: Kind, value: Option<&Value>) -> Option<OpIndex> {
        if kind == Kind::Increment {
            // Of keys that hold values alone is a history kept.
            return None;
        }
        let mut history = self.plan.history.as_ref()?.lock();
        let process = *self.process.get_or_insert_with(|| history.new_process());
        let action = match (kind, value) {
            (Kind::Put | Kind::Insert, Some(value)) => Action::Put(value.clone()),
            (Kind::Delete, _) => Action::Delete,
            _ => Action::Get,
        };
        Some(history.invoke(process, key.clone(), action, self.clock.now()))
    }

    fn complete(
        &mut self,
        op: Option<OpIndex>,
        kind: Kind,
        answer: Result<Answer, Error>,
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
fn outcome(kind: Kind, answer: Result<Answer, Error>) -> Outcome {
    match (kind, answer) {
        (Kind::Get, Ok(Answer { value, stamp, weak, .. })) => {
            let value = value.and_then(|value| Value::new(value).ok());
            Outcome::Read { value, stamp, weak }
        }
        (_, Ok(Answer { stamp, weak, .. })) => Outcome::Written { stamp, weak },
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
    use crate::types::Stamp;

    #[tokio::test]
    async fn values_are_unique_and_of_their_size() {
        let keys = Keys::new("k", 1, Distribution::Uniform).unwrap();
        let client = Client::builder().endpoints(["host:1"]).connect_lazy().unwrap();
        let plan = Arc::new(Plan { value_bytes: 64, ..Plan::new(keys) });
        let worker = |n| Worker::new(client.clone(), plan.clone(), n, Arc::default());
        let (mut one, mut other) = (worker(1), worker(2));
        let key = Key::new("k").unwrap();
        let values = [one.value(&key), one.value(&key), other.value(&key)];
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
        let book = Arc::<Mutex<Report>>::default();
        let worker = Worker::new(client, plan.clone(), 0, book.clone());
        let clock = Clock::start();
        tokio::time::sleep(Duration::from_millis(20)).await;
        worker.run(clock, Arc::new(Mutex::new(Dispenser::new(&plan)))).await;
        let report = book.lock();
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
        let read = outcome(Kind::Get, Ok(Answer { weak: true, ..Answer::default() }));
        assert_eq!(read, Outcome::Read { value: None, stamp: Stamp::ZERO, weak: true });
    }
}
