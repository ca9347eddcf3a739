//! One request over all its attempts: whom to ask, how long to wait, whether to ask again.

use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::{timeout, timeout_at};

use crate::message::{Applied, Attempt, ErrorCode, Receipt};
use crate::types::{TableKind, Time};

use super::attempt::{Attempts, Named};
use super::budget::Budget;
use super::endpoint::Endpoint;
use super::patience::{Patience, half_of};
use super::pool::{Place, Pool};
use super::ring::{Follower, ask_time};
use super::server_time::ServerTime;
use super::{Clock, Entropy, Error, Lane};

/// The pause before the second attempt; doubled for each one after, and drawn from its upper half.
const PAUSE_MIN: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What all requests of a client share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pool: Arc<Pool>,
    pub(crate) follower: Follower,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
    pub(crate) server_time: ServerTime,
    pub(crate) learning_time: Mutex<()>,
    pub(crate) budget: Budget,
    /// For reads that are asked of a second node too.
    pub(crate) hedges: Budget,
    /// With reads of a key.
    pub(crate) reads: Patience,
    /// With writes of a key.
    pub(crate) writes: Patience,
    pub(crate) timeout: Duration,
    pub(crate) attempts_max: u32,
    pub(crate) lane: Lane,
    pub(crate) counts: Counters,
    /// Kinds of tables that have been asked for.
    pub(crate) kinds: parking_lot::Mutex<BTreeMap<String, TableKind>>,
}

/// What a client has asked since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests begun.
    pub requests: u64,
    /// Attempts at them: above the requests by those that were tried again.
    pub attempts: u64,
    /// Attempts, of reads, for which a second node was asked because the first took long.
    pub hedges: u64,
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    attempts: AtomicU64,
    pub(super) hedges: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> Counts {
        let [requests, attempts, hedges] = [&self.requests, &self.attempts, &self.hedges]
            .map(|counter| counter.load(Ordering::Relaxed));
        Counts { requests, attempts, hedges }
    }
}

/// One attempt, as an operation sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    /// What the server is told it has.
    pub(crate) remaining: Duration,
    /// Of a write.
    pub(crate) attempt: Option<Attempt>,
    /// How to send it.
    pub(crate) lane: Lane,
}

/// A request of any kind.
pub(crate) trait Operation: Sync {
    /// What it is answered.
    type Answer: Send;

    /// Whether it may change data.
    fn is_write(&self) -> bool {
        false
    }

    /// Whether the server knows its attempts to be one by their id, so that another may follow one
    /// of which nothing is known.
    fn is_known_by_id(&self) -> bool {
        false
    }

    /// Whether nothing may follow an attempt that may have been applied.
    fn is_once(&self) -> bool {
        false
    }

    /// Whether one takes about as long as another: a read or write of a single key. An attempt is
    /// then given up soon after answers usually come; of others half of the time is waited.
    fn is_quick(&self) -> bool {
        false
    }

    /// What it is about, as far as that says whom to ask.
    fn place(&self) -> Place<'_> {
        Place::Given
    }

    /// The name it was given, if it has one already.
    fn named(&self) -> Option<&Named> {
        None
    }

    /// What the answer rests on, if it says so.
    fn receipt(_answer: &Self::Answer) -> Option<&Receipt> {
        None
    }

    /// Sends one attempt.
    fn send(
        &self,
        endpoint: &Endpoint,
        this: Try,
    ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// A failed attempt.
struct Failed {
    error: Error,
    /// It is what somebody answered, not that nobody did.
    is_heard: bool,
    /// Whom not to ask next.
    address: String,
    /// Nor whom else.
    beside: Option<String>,
    /// The next attempt has its token of the retry budget already.
    is_paid: bool,
}

impl Core {
    /// Starts to follow the ring, if that has not been begun.
    pub(super) fn follow(&self) {
        self.follower.start(&self.pool);
    }

    /// Runs `operation` until it succeeds, fails for good, or `timeout` has passed.
    ///
    /// # Errors
    /// The last attempt's, with what is known of the outcome over all of them.
    pub(crate) async fn run<O: Operation>(
        &self,
        operation: &O,
        timeout: Option<Duration>,
    ) -> Result<O::Answer, Error> {
        if self.follower.routes && operation.place() != Place::Given {
            self.follow();
        }
        let timeout = timeout.unwrap_or(self.timeout);
        let deadline = self.clock.now().plus(timeout);
        if operation.is_write() {
            self.learn_time(deadline).await;
        }
        let mut attempts = match operation.named() {
            Some(named) => Attempts::named(named, self.server_time.estimate(self.clock.now())),
            None => Attempts::new(self.entropy.request_id()),
        };
        let mut avoid: Vec<String> = Vec::new();
        let mut told: Option<Error> = None;
        self.budget.deposit();
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        for number in 1..=self.attempts_max {
            // Ask everybody once before anybody twice.
            if avoid.len() >= self.pool.len(operation.place()) {
                avoid.clear();
            }
            let final_one = number == self.attempts_max;
            let until = ((deadline, timeout), final_one);
            let attempt = self.attempt(operation, &mut attempts, &avoid, until);
            let failed = match attempt.await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if let Some(time) = failed.error.facts().server_time {
                self.server_time.learn(time, self.clock.now());
            }
            let applied = failed.error.applied();
            attempts.failed(applied);
            // What a server said tells more than that another could not be reached, or did not answer.
            if told.is_none() || failed.is_heard && failed.error.code() != Error::UNAVAILABLE {
                told = Some(failed.error.clone());
            }
            let may_follow = attempts.may_follow(applied)
                || operation.is_known_by_id() && applied != Applied::Yes;
            let may_follow = may_follow && (applied == Applied::No || !operation.is_once());
            let again = !final_one && failed.error.is_retryable() && may_follow;
            let ahead = attempts.ahead(self.server_time.estimate(self.clock.now()));
            let wake = self.wake(ahead, deadline, self.pause(number, &failed.error));
            // To be sent on by a node that does not serve costs no token, once a node: the next one is
            // asked for the first time, and no node is asked more than if this one were not known.
            let is_free = applied == Applied::No
                && !serves(&failed.error)
                && !avoid.contains(&failed.address);
            avoid.push(failed.address);
            if let Some(beside) = failed.beside.filter(|beside| !avoid.contains(beside)) {
                avoid.push(beside);
            }
            let is_paid = failed.is_paid || is_free;
            let is_late = is_too_late(wake, deadline, timeout);
            if !again || is_late || !(is_paid || self.budget.withdraw()) {
                break;
            }
            tokio::time::sleep_until(self.clock.instant(wake)).await;
        }
        let error = told.unwrap_or_else(Error::deadline).with_applied(attempts.applied());
        Err(if operation.is_write() { error.of_write(attempts.write()) } else { error })
    }

    /// Asks what the servers' time is, unless that is known. A write that is sent without has no
    /// window, so nothing may follow an attempt of which nothing is known; a question may be
    /// repeated, so the first write of a client survives the loss of a node like any other. Without
    /// an answer in a quarter of the time the write is sent all the same.
    async fn learn_time(&self, deadline: Time) {
        let known = || self.server_time.estimate(self.clock.now()).is_some();
        if known() {
            return;
        }
        let start = self.clock.now();
        let share = deadline.since(start) / 4;
        let ask = async {
            // Writes that begin together wait for one answer.
            let _turn = self.learning_time.lock().await;
            let mut avoid = Vec::new();
            while !known() && avoid.len() < self.pool.len(Place::Anywhere) {
                let now = self.clock.now();
                let endpoint = self.pool.pick(Place::Anywhere, &avoid, now, &self.entropy);
                match timeout(share / 2, ask_time(&endpoint)).await {
                    Ok(Ok(time)) => {
                        endpoint.answered();
                        self.server_time.learn(time.unwrap_or_default(), self.clock.now());
                        return;
                    }
                    Ok(Err(error)) if serves(&error) => endpoint.answered(),
                    Ok(Err(_)) | Err(_) => endpoint.failed(self.clock.now()),
                }
                avoid.push(endpoint.address.clone());
            }
        };
        let _ = timeout_at(self.clock.instant(start.plus(share)), ask).await;
    }

    /// One attempt. When it returns, it has been given up or is over: a late answer finds nobody.
    async fn attempt<O: Operation>(
        &self,
        operation: &O,
        attempts: &mut Attempts,
        avoid: &[String],
        (until, final_one): ((Time, Duration), bool),
    ) -> Result<O::Answer, Failed> {
        self.counts.attempts.fetch_add(1, Ordering::Relaxed);
        let (deadline, timeout) = until;
        let now = self.clock.now();
        let remaining = deadline.since(now);
        let place = operation.place();
        let endpoint = self.pool.pick(place, avoid, now, &self.entropy);
        let attempt = attempts.begin(self.server_time.estimate(now));
        let attempt = operation.is_write().then_some(attempt);
        let windowless = operation.is_write()
            && !operation.is_known_by_id()
            && !attempts.may_follow(Applied::Unknown);
        let patient = final_one || self.pool.len(place) == 1 || windowless || operation.is_once();
        let given_up =
            now.plus(if patient { remaining } else { self.patience(operation, remaining) });
        let this = Try { remaining: server_share(remaining, timeout), attempt, lane: self.lane };
        let sent = core::pin::pin!(self.send(operation, (&endpoint, this), avoid, until));
        let about = (operation, &*attempts, &*endpoint);
        let (answer, is_paid) = self.listen(about, sent, (given_up, deadline)).await;
        let is_heard = answer.is_ok();
        let (answer, second, beside) = match answer {
            Ok(heard) => (Ok(heard.answer), heard.second, heard.beside),
            Err(elapsed) => (Err(elapsed), None, None),
        };
        let (endpoint, since) = second.unwrap_or((endpoint.endpoint(), now));
        let error = match answer {
            Ok(Ok(answer)) => {
                self.heard(operation, &answer, (&endpoint, since));
                return Ok(answer);
            }
            Ok(Err(error)) => {
                if serves(&error) {
                    endpoint.answered()
                } else {
                    endpoint.failed(self.clock.now())
                }
                error
            }
            Err(_) => {
                let lost = if operation.is_write() { Applied::Unknown } else { Applied::No };
                Error::deadline().with_applied(lost)
            }
        };
        let address = endpoint.address.clone();
        Err(Failed { error: error.at(&address), is_heard, address, beside, is_paid })
    }

    /// What is learned from an answer.
    fn heard<O: Operation>(&self, operation: &O, answer: &O::Answer, from: (&Endpoint, Time)) {
        let (endpoint, since) = from;
        endpoint.answered();
        let now = self.clock.now();
        if operation.is_quick() {
            self.estimate(operation).answered(now.since(since));
        }
        if let Some(receipt) = O::receipt(answer) {
            self.server_time.learn(receipt.server_time, now);
        }
    }

    /// Waits for an attempt until it is given up: after `until`, or at the deadline where there is no
    /// token for another. Says whether the next one has its token.
    ///
    /// A write cannot be sent again before the window of its attempt is over. Until then the answer is
    /// waited for after all: it comes sooner than that of the next attempt would.
    async fn listen<O: Operation, T>(
        &self,
        (operation, attempts, endpoint): (&O, &Attempts, &Endpoint),
        mut sent: Pin<&mut impl Future<Output = T>>,
        (until, deadline): (Time, Time),
    ) -> (Result<T, Elapsed>, bool) {
        let mut answer = timeout_at(self.clock.instant(until), &mut sent).await;
        if answer.is_ok() {
            return (answer, false);
        }
        // Others are asked from now on.
        endpoint.failed(self.clock.now());
        if operation.is_quick() {
            self.estimate(operation).gave_up();
        }
        if until >= deadline {
            return (answer, false);
        }
        if operation.is_write() {
            let open = attempts.open(self.server_time.estimate(self.clock.now()));
            let over = self.wake(open, deadline, Duration::ZERO);
            answer = timeout_at(self.clock.instant(over), &mut sent).await;
            if answer.is_ok() {
                return (answer, false);
            }
        }
        // Giving up costs a retry. Without one, what is under way is all there is.
        let is_paid = self.budget.withdraw();
        if !is_paid {
            answer = timeout_at(self.clock.instant(deadline), &mut sent).await;
        }
        (answer, is_paid)
    }

    fn estimate<O: Operation>(&self, operation: &O) -> &Patience {
        if operation.is_write() { &self.writes } else { &self.reads }
    }

    /// How long an attempt may take while there are others to ask.
    fn patience<O: Operation>(&self, operation: &O, remaining: Duration) -> Duration {
        if operation.is_quick() {
            self.estimate(operation).of(remaining)
        } else {
            half_of(remaining)
        }
    }

    /// When to try again: after `pause`, or once the last window, which is open for `ahead` yet, is over,
    /// if that leaves half of the time.
    fn wake(&self, ahead: Duration, deadline: Time, pause: Duration) -> Time {
        let now = self.clock.now();
        let affordable = ahead <= deadline.since(now) / 2;
        now.plus(if affordable { pause.max(ahead) } else { pause })
    }

    fn pause(&self, number: u32, error: &Error) -> Duration {
        let longest = PAUSE_MIN.saturating_mul(1 << (number - 1).min(16)).min(PAUSE_MAX);
        let micros = usize::try_from(longest.as_micros()).unwrap_or(usize::MAX);
        let jitter = self.entropy.below(micros / 2);
        let drawn = longest / 2 + Duration::from_micros(u64::try_from(jitter).unwrap_or(0));
        error.facts().retry_after.map_or(drawn, |after| after.max(drawn))
    }
}

/// Whether a node that answers with `error` is worth asking. One that refuses at once looks idle, so
/// it would draw more and more requests, were it not taken out.
pub(super) fn serves(error: &Error) -> bool {
    let refusals = [ErrorCode::NotReady, ErrorCode::ClockAhead].map(ErrorCode::as_str);
    error.code() != Error::UNAVAILABLE && !refusals.contains(&error.code())
}

/// What of the time left the server is given: a little is kept for its answer to travel, so that
/// its own words about the outcome arrive before we stop listening, also from a machine that is busy. A late
/// attempt keeps as much as the first of the request, as far as it has twice that: how long an answer travels
/// does not depend on how much of `timeout` is left.
pub(super) fn server_share(remaining: Duration, timeout: Duration) -> Duration {
    remaining - kept_for_answers(timeout).min(remaining / 2)
}

/// What is kept of `time` for an answer to travel.
fn kept_for_answers(time: Duration) -> Duration {
    (time / 20).min(Duration::from_millis(250))
}

/// Whether an attempt at `wake` would begin in the time that is kept for the answers of those before: it
/// could do little but put its own silence in the place of what they have said.
fn is_too_late(wake: Time, deadline: Time, timeout: Duration) -> bool {
    deadline.since(wake) <= kept_for_answers(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attempt_begins_in_the_time_that_is_kept_for_answers() {
        for (timeout, kept) in
            [(60_000, 250), (5_000, 250), (2_000, 100), (1_000, 50), (100, 5), (0, 0)]
        {
            let [timeout, kept] = [timeout, kept].map(Duration::from_millis);
            assert_eq!(server_share(timeout, timeout), timeout - kept);
            assert_eq!(server_share(timeout / 2, timeout), timeout / 2 - kept);
            assert_eq!(server_share(kept, timeout), kept / 2);
            let deadline = Time(10_000_000_000).plus(timeout);
            let last = Time(deadline.0 - u64::try_from(kept.as_nanos()).unwrap());
            assert!(is_too_late(last, deadline, timeout));
            assert!(is_too_late(deadline, deadline, timeout));
            assert!(is_too_late(deadline.plus(kept), deadline, timeout));
            let before = Time(last.0 - 1);
            assert!(!is_too_late(before, deadline, timeout));
        }
    }
}
