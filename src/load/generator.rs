//! Drives a cluster through the client library, in an open or a closed loop, and reports what it
//! was like.
//!
//! In an open loop operations fall due by a [`Schedule`] that does not care about answers, and
//! latency counts from when an operation was due. In a closed loop each worker asks as soon as it
//! has been answered: good for finding the highest throughput, blind to what users would feel.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::{Client, Clock, Quorum};

use super::growth::Growth;
use super::history::History;
use super::keys::Keys;
use super::latency::Latency;
use super::mix::{Kind, Mix};
use super::schedule::{Schedule, Spacing};
use super::series::Series;
use super::timeline::Timeline;
use super::worker::Worker;

/// Who sets the pace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The schedule: this many operations a second.
    Open {
        /// Operations a second.
        rate: f64,
        /// How they are spaced.
        spacing: Spacing,
    },
    /// The answers.
    Closed,
}

/// The code under which operations beyond a plan's patience are counted.
pub const LATE: &str = "LATE";

/// The code under which answers are counted that are not what was written; see [`Plan::verify`].
pub const WRONG_VALUE: &str = "WRONG_VALUE";

/// Books that workers share: each is a megabyte or two, which a thousand workers cannot have each.
const BOOKS_MAX: usize = 8;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On which keys.
    pub keys: Keys,
    /// How long a user waits from when an operation is due. One that no worker gets round to in an
    /// eighth of that time is not asked any more, and one that is answered later than that time has
    /// failed, both as [`LATE`]. Without it every operation is asked, however late, and an overload
    /// never ends.
    pub patience: Option<Duration>,
    /// In which shares.
    pub mix: Mix,
    /// At which pace.
    pub pace: Pace,
    /// Operations in flight at most. In an open loop, operations that fall due beyond it wait, and
    /// their wait counts.
    pub workers: u32,
    /// Operations that fall due in this time from the start on are asked and not counted, unless they
    /// are answered with a wrong value; everything else counts from its end on.
    pub warmup: Duration,
    /// No operation starts, or falls due, when it is so long after the warm-up.
    pub duration: Duration,
    /// Whether an open loop ends with its time: what has fallen due and has not been begun by then is
    /// given up and counted in [`Report::unstarted`]. Without, it is asked all the same, later.
    pub is_cut: bool,
    /// Once it is set no further operation starts or falls due, for runs whose end is an event. What
    /// workers have taken on by then is still done: in an open loop, the next `workers` operations.
    pub stop: Option<Arc<AtomicBool>>,
    /// No more than this many operations in all, if there is such a number.
    pub operations_max: Option<u64>,
    /// Bytes of a value, at least [`super::payload::BYTES_MIN`]. No two are the same.
    pub value_bytes: usize,
    /// Whether what is read is compared with what [`super::payload`] writes. Only for keys that
    /// nobody else has written.
    pub verify: bool,
    /// Most entries a scan asks for; each draws from 1 up to this.
    pub scan_max: u32,
    /// How many keys there are, which inserts add to. Clones of a plan share it.
    pub growth: Arc<Mutex<Growth>>,
    /// The table.
    pub table: String,
    /// Read quorum; the table's when left out.
    pub r: Option<Quorum>,
    /// Write quorum; the table's when left out.
    pub w: Option<Quorum>,
    /// Of all random choices.
    pub seed: u64,
    /// Where to note what it was like from moment to moment.
    pub timeline: Option<Arc<Mutex<Timeline>>>,
    /// The same, coarser and much smaller.
    pub series: Option<Arc<Mutex<Series>>>,
    /// Where to write down every operation, for the checkers: of mixes of gets, puts and deletes.
    /// Grows with the run.
    pub history: Option<Arc<Mutex<History>>>,
}

impl Plan {
    /// A closed loop of 16 workers on `keys` for ten seconds: half reads, half writes of 100 B.
    pub fn new(keys: Keys) -> Plan {
        let growth = Arc::new(Mutex::new(Growth::new(keys.count())));
        Plan {
            keys,
            growth,
            patience: None,
            mix: Mix::YCSB_A,
            pace: Pace::Closed,
            workers: 16,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(10),
            is_cut: false,
            stop: None,
            operations_max: None,
            value_bytes: 100,
            verify: false,
            scan_max: 100,
            table: String::new(),
            r: None,
            w: None,
            seed: 0,
            timeline: None,
            series: None,
            history: None,
        }
    }

    /// Whether the run was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

/// What became of the operations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Latency of those that succeeded, from when they were due.
    pub latency: Latency,
    /// How many failed, by the error's code.
    pub errors: BTreeMap<String, u64>,
    /// How many of the successful read a key that is not there.
    pub absent: u64,
    /// Entries that the successful scans returned.
    pub entries: u64,
}

impl Outcomes {
    /// How many succeeded.
    pub fn succeeded(&self) -> u64 {
        self.latency.count()
    }

    /// How many failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// What it was like.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From the end of the warm-up to the last answer.
    pub elapsed: Duration,
    /// By kind; kinds that did not occur are missing.
    pub outcomes: BTreeMap<Kind, Outcomes>,
    /// How late operations were sent after they were due, in an open loop. Timers tick in
    /// milliseconds, so about one is normal; much more means that the workers were too few.
    pub lag: Latency,
    /// Of these, how late the timers were that operations waited for: what the generator itself is
    /// to blame for. The others found no free worker when they were due.
    pub timer_lag: Latency,
    /// Operations that were due and were given up, since the time of a run that is cut was over.
    pub unstarted: u64,
}

impl Report {
    /// Successful operations a second.
    #[allow(clippy::cast_precision_loss, reason = "a rate, not an account")]
    pub fn throughput(&self) -> f64 {
        let succeeded: u64 = self.outcomes.values().map(Outcomes::succeeded).sum();
        succeeded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Adds what another worker, or another run at the same time, saw.
    pub fn merge(&mut self, other: &Report) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.lag.merge(&other.lag);
        self.timer_lag.merge(&other.timer_lag);
        self.unstarted += other.unstarted;
        for (kind, theirs) in &other.outcomes {
            let ours = self.outcomes.entry(*kind).or_default();
            ours.latency.merge(&theirs.latency);
            ours.absent += theirs.absent;
            ours.entries += theirs.entries;
            for (code, count) in &theirs.errors {
                *ours.errors.entry(code.clone()).or_default() += count;
            }
        }
    }
}

/// Where workers find out when the next operation is due.
#[derive(Debug)]
pub(crate) struct Dispenser {
    schedule: Option<Schedule>,
    left: Option<u64>,
    end: Duration,
    is_cut: bool,
    stop: Option<Arc<AtomicBool>>,
    /// Where a cut run has put what it gave up, until somebody takes it.
    given_up: u64,
}

/// The next operation of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Start it then, counted from the start of the run.
    At(Duration),
    /// Start it at once.
    Now,
}

impl Dispenser {
    pub(crate) fn new(plan: &Plan) -> Dispenser {
        let schedule = match plan.pace {
            Pace::Open { rate, spacing } => Some(Schedule::new(rate, spacing, plan.seed)),
            Pace::Closed => None,
        };
        Dispenser {
            schedule,
            left: plan.operations_max,
            end: plan.warmup + plan.duration,
            is_cut: plan.is_cut,
            stop: plan.stop.clone(),
            given_up: 0,
        }
    }

    /// The next operation; `None` when the run is over. `elapsed` is the time since its start. What
    /// is due longer ago than `patience` is handed to `skip` instead: under an overload that is most
    /// of it, and must not cost a worker's time.
    pub(crate) fn next(
        &mut self,
        elapsed: Duration,
        patience: Option<Duration>,
        mut skip: impl FnMut(Duration),
    ) -> Option<Due> {
        loop {
            let is_stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
            if is_stopped || (self.is_cut && elapsed >= self.end) {
                self.give_up(elapsed.min(self.end));
                return None;
            }
            let due = match &mut self.schedule {
                Some(schedule) => Due::At(schedule.next().filter(|at| *at < self.end)?),
                None if elapsed < self.end => Due::Now,
                None => return None,
            };
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(1)?;
            }
            match due {
                Due::At(at) if patience.is_some_and(|most| at + most < elapsed) => skip(at),
                due => return Some(due),
            }
        }
    }

    /// Gives up what is due before `end`.
    fn give_up(&mut self, end: Duration) {
        // Taken away: another worker that comes later counts nothing twice.
        if let Some(schedule) = self.schedule.take_if(|_| self.is_cut) {
            let due = schedule.take_while(|at| *at < end).fold(0u64, |count, _| count + 1);
            self.given_up += self.left.take().map_or(due, |left| due.min(left));
        }
    }

    /// How many operations were given up.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// Runs `plan` against the cluster of `client`. Dropping the future stops it.
pub async fn run(client: &Client, plan: &Plan) -> Report {
    run_over(core::slice::from_ref(client), plan).await
}

/// As [`run`], with the workers dealt to `clients` in turn.
pub async fn run_over(clients: &[Client], plan: &Plan) -> Report {
    let plan = Arc::new(plan.clone());
    let dispenser = Arc::new(Mutex::new(Dispenser::new(&plan)));
    let books: Vec<Arc<Mutex<Report>>> = (0..BOOKS_MAX).map(|_| Arc::default()).collect();
    let dealt = clients.iter().cycle().zip(books.iter().cycle()).zip(0..plan.workers.max(1));
    let make = |((client, book), number): ((&Client, &Arc<Mutex<Report>>), u32)| {
        Worker::new(client.clone(), plan.clone(), number, book.clone())
    };
    let all: Vec<Worker> = dealt.map(make).collect();
    // Making a thousand workers takes a while, which no user waits for.
    let clock = Clock::start();
    let mut workers = JoinSet::new();
    for worker in all {
        workers.spawn(worker.run(clock, dispenser.clone()));
    }
    while let Some(finished) = workers.join_next().await {
        if let Err(error) = finished {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let mut report = Report::default();
    books.iter().for_each(|book| report.merge(&book.lock()));
    report.unstarted += dispenser.lock().given_up();
    report
}

#[cfg(test)]
#[path = "generator_tests.rs"]
mod measured;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Applied;
    use crate::client::tests::fake::{Act, Fake};
    use crate::load::check::{Violation, register};
    use crate::load::history::Outcome;
    use crate::load::keys::Distribution;

    fn plan(pace: Pace, operations_max: Option<u64>) -> Plan {
        let keys = Keys::new("k", 10, Distribution::Uniform).unwrap();
        Plan { pace, operations_max, duration: Duration::from_secs(1), ..Plan::new(keys) }
    }

    #[test]
    fn an_open_loop_falls_due_by_the_schedule_however_late_it_is_asked() {
        let pace = Pace::Open { rate: 10.0, spacing: Spacing::Even };
        let mut dispenser = Dispenser::new(&plan(pace, None));
        let late = Duration::from_secs(99);
        let due = core::iter::from_fn(|| dispenser.next(late, None, |_| ())).collect::<Vec<_>>();
        assert_eq!(due.len(), 10);
        assert_eq!(due[3], Due::At(Duration::from_millis(300)));
    }

    #[test]
    fn a_closed_loop_ends_with_its_time_or_its_operations() {
        let mut dispenser = Dispenser::new(&plan(Pace::Closed, Some(2)));
        let ask =
            |dispenser: &mut Dispenser, ms| dispenser.next(Duration::from_millis(ms), None, |_| ());
        assert_eq!(ask(&mut dispenser, 0), Some(Due::Now));
        assert_eq!(ask(&mut dispenser, 1), Some(Due::Now));
        assert_eq!(ask(&mut dispenser, 2), None);
        let mut dispenser = Dispenser::new(&plan(Pace::Closed, None));
        assert_eq!(ask(&mut dispenser, 999), Some(Due::Now));
        assert_eq!(ask(&mut dispenser, 1000), None);
    }

    #[test]
    fn a_run_that_is_told_to_stop_hands_out_nothing_more() {
        let open = Pace::Open { rate: 10.0, spacing: Spacing::Even };
        for pace in [Pace::Closed, open] {
            let stop = Arc::<AtomicBool>::default();
            let plan = Plan { stop: Some(stop.clone()), ..plan(pace, None) };
            let mut dispenser = Dispenser::new(&plan);
            assert!(dispenser.next(Duration::ZERO, None, |_| ()).is_some());
            stop.store(true, Ordering::Relaxed);
            assert_eq!(dispenser.next(Duration::ZERO, None, |_| ()), None);
        }
    }

    async fn drive(pace: Pace, script: Vec<Act>) -> (Report, History) {
        let fake = Fake::start(1_000_000_000_000, script).await;
        let client = Client::builder().endpoints([&fake.address]).attempts(1);
        let client = client.connect_lazy().unwrap();
        let history = Arc::new(Mutex::new(History::new()));
        let plan = Plan {
            mix: Mix { get: 2, put: 2, delete: 1, ..Mix::NONE },
            duration: Duration::from_secs(3600),
            history: Some(history.clone()),
            ..plan(pace, Some(400))
        };
        let report = run(&client, &plan).await;
        drop(plan);
        (report, Arc::into_inner(history).unwrap().into_inner())
    }

    #[tokio::test]
    async fn both_loops_do_all_operations_and_write_a_history_that_holds() {
        let open = Pace::Open { rate: 20_000.0, spacing: Spacing::Poisson };
        for pace in [Pace::Closed, open] {
            let (report, history) = drive(pace, Vec::new()).await;
            let succeeded: u64 = report.outcomes.values().map(Outcomes::succeeded).sum();
            assert_eq!((succeeded, history.operations().len()), (400, 400));
            assert!(report.throughput() > 0.0);
            assert_eq!(report.lag.count(), if pace == Pace::Closed { 0 } else { 400 });
            assert_eq!(register(&history), []);
        }
    }

    #[tokio::test]
    async fn failures_are_counted_by_code_and_kept_apart_from_unknown_outcomes() {
        let script = vec![
            Act::Refuse("OVERLOADED", Applied::No),
            Act::Refuse("QUORUM_NOT_REACHED", Applied::Unknown),
            Act::Refuse("OVERLOADED", Applied::No),
        ];
        let (report, history) = drive(Pace::Closed, script).await;
        let count = |code: &str| -> u64 {
            report.outcomes.values().filter_map(|kind| kind.errors.get(code)).sum()
        };
        assert_eq!((count("OVERLOADED"), count("QUORUM_NOT_REACHED")), (2, 1));
        let failed = history.operations().iter().filter(|op| op.outcome == Outcome::Failed);
        let unknown = history.operations().iter().filter(|op| op.outcome == Outcome::Unknown);
        assert_eq!(failed.count() + unknown.count(), 3);
        assert_eq!(register(&history), Vec::<Violation>::new());
    }
}
